"""`honeyguide retrain`: whether a build has grown old, and a new one that must show itself no worse before it serves.

What calls for a new build: age, many new events, features that have drifted from what they were at the build, and
probabilities of served heads that keep their promise less well on fresh outcomes. Then a new build is judged before it
is made: everything is learnt from what came before the newest part of the new events, and asked about that part beside
the build in service, which has not seen it either. Only what is not worse goes into service.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from honeyguide.contracts import F64, I32, Interactions, Progress, Queries, Ragged
from honeyguide.engines.tasks.steps import only_process
from honeyguide.evaluation.judged import judge
from honeyguide.evaluation.metrics import nDCG
from honeyguide.evaluation.split import Trial
from honeyguide.flows import registry
from honeyguide.flows.batch import rank_batch, slates
from honeyguide.flows.build import Manifest, Prepared, build, label_cut, prepare
from honeyguide.flows.config import WorkspaceConfig
from honeyguide.flows.drift import drifted, read_reference, taken
from honeyguide.flows.evaluate import at_cut, sampled
from honeyguide.flows.labels import outcome_rows
from honeyguide.flows.layout import Layout
from honeyguide.flows.live import Live, load_manifest
from honeyguide.flows.pipeline import Composers, Pipeline, kinds_of
from honeyguide.kernels.metrics import calibration_error
from honeyguide.ranking.measure import Decision, compare

__all__ = ["retrain"]

_OUTCOMES = 20_000
_LEAST_OUTCOMES = 200
"""Below so many fresh outcomes of a head nothing is said of its calibration."""
_SLOTS = 10


@dataclass(frozen=True)
class _Served:
    """The build in service over the present data."""

    manifest: Manifest
    live: Live
    since_us: int  # events from here on it has not seen
    events: Interactions  # all, in the build's own item rows; what it does not know is left out
    known: I32  # row of the data -> row of the build, -1 unknown
    back: I32  # row of the build -> row of the data


def retrain(
    folder: Path | str, *, if_needed: bool = False, dry_run: bool = False, progress: Progress | None = None
) -> dict[str, Any]:
    """Build anew (if needed), compare, and promote what is not worse; returns the report of the command."""
    tell: Progress = progress or (lambda what, done, total: None)
    layout = Layout.open(folder)
    config = WorkspaceConfig.load(layout.config)
    current = layout.current_build()
    with only_process(layout.lock, "build or retrain"):
        prepared = prepare(layout, tell, config)
        served = _served(layout, prepared, current)
        reasons = [_age(served, config), _volume(served, prepared, config), *_drift(served, prepared, config, tell)]
        needed = any(one["calls"] for one in reasons)
        report: dict[str, Any] = {
            "workspace": str(layout.root), "in_service": current, "needed": needed, "reasons": reasons,
            "build_id": None, "promoted": False, "verdict": "", "comparison": None,
        }  # fmt: skip
        if dry_run or (if_needed and not needed):
            return report
        decision = _compared(served, prepared, config, tell)
    made = build(layout.root, progress=tell, serve=False)["build_id"]
    if made == current:
        return report | {"verdict": "nothing has changed: the build in service is that of today's data"}
    return report | _settled(layout, made, current, decision, config)


def _served(layout: Layout, prepared: Prepared, current: str) -> _Served:
    manifest = load_manifest(layout, current)
    live = Live(layout, None, build_id=current)
    data, items = prepared.data, live.pipeline.catalog.items
    known = items.rows(data.catalog.items.ids)
    events = data.interactions
    there = known[events.item] >= 0
    mine = events.take(there)
    mine = replace(mine, item=known[mine.item], n_items=len(items), former=None)
    last = dt.datetime.fromisoformat(manifest.data["last"])  # whole seconds, rounded down
    return _Served(
        manifest, live, int((last.timestamp() + 1) * 1e6), mine, known, data.catalog.items.rows(items.ids)
    )  # fmt: skip


# ------------------------------------------------------------------------------------------------ whether it is due


def _reason(kind: str, calls: bool, says: str, **numbers: Any) -> dict[str, Any]:
    return {"kind": kind, "calls": calls, "says": says, **numbers}


def _age(served: _Served, config: WorkspaceConfig) -> dict[str, Any]:
    made = dt.datetime.fromisoformat(served.manifest.made_at)
    days = (dt.datetime.now(dt.UTC) - made).total_seconds() / 86_400
    limit = config.retrain.every_days
    old = limit > 0 and days >= limit
    said = f"the build is {days:.1f} days old" + (f", {limit:g} are the limit" if limit else "")
    return _reason("age", old, said, days=round(days, 3), limit=limit)


def _volume(served: _Served, prepared: Prepared, config: WorkspaceConfig) -> dict[str, Any]:
    new = int((prepared.data.interactions.at >= served.since_us).sum())
    limit = config.retrain.new_events
    said = f"{new:,} events came since" + (f", {limit:,} are the limit" if limit else "")
    return _reason("events", limit > 0 and new >= limit, said, events=new, limit=limit)


def _drift(served: _Served, prepared: Prepared, config: WorkspaceConfig, tell: Progress) -> list[dict[str, Any]]:
    fresh = np.flatnonzero(served.events.at >= served.since_us)
    least = config.retrain.least_events
    if len(fresh) < least:
        said = f"drift is not measured on {len(fresh):,} new events, below {least:,}"
        return [_reason("drift", False, said, events=len(fresh))]
    tell("drift", 0, 2)
    found = [_features_moved(served, config, fresh)]
    tell("drift", 1, 2)
    found += _calibration(served, config, fresh)
    tell("drift", 2, 2)
    return found


def _features_moved(served: _Served, config: WorkspaceConfig, fresh: Any) -> dict[str, Any]:
    live, limits = served.live, config.retrain
    place = served.manifest.folders.get("reference")
    reference = read_reference(live.layout.root / place if place is not None else None)
    if not reference:
        return _reason("features", False, "the build kept no reference of its features: the next one will")
    wanted = fresh[served.events.weight[fresh] > 0]
    features = live.pipeline.features
    history = live.config.surface("home").history
    matrix = taken(features, live.pipeline.catalog, served.events, wanted, history=history, seed=config.seed)
    rows = drifted(reference, features, matrix)
    leant = {one["name"]: one["importance"] or 0.0 for one in live.description["features"]}
    for row in rows:
        row["importance"] = round(leant.get(row["feature"], 0.0), 4)
    bad = [row for row in rows if row["psi"] > limits.psi and row["importance"] >= limits.least_importance]
    worst = f"; most: {rows[0]['feature']} (PSI {rows[0]['psi']:.3f}, KS {rows[0]['ks']:.3f})" if rows else ""
    named = ", ".join(f"{row['feature']} (PSI {row['psi']:.3f})" for row in bad[:5])
    said = (
        f"{len(bad)} features that the ranker leans on have drifted above PSI {limits.psi:g}: {named}"
        if bad
        else f"no feature that the ranker leans on has drifted above PSI {limits.psi:g} on {len(matrix):,} rows{worst}"
    )
    return _reason("features", bool(bad), said, drift=rows)


def _calibration(served: _Served, config: WorkspaceConfig, fresh: Any) -> list[dict[str, Any]]:
    """Calibration error of each served probability on outcomes since the build, beside that at the build."""
    live, events = served.live, served.events
    ranker = live.pipeline.ranker
    if ranker is None or not ranker.plain:
        return []
    served_heads = {name for name, calibrated in live.pipeline.heads.items() if calibrated}
    found = []
    then = {one["name"]: one["metrics"].get("ece") for one in served.manifest.reports}
    for head in (one for one in live.config.heads if one.name in served_heads):
        codes = [events.actions.index(head.given)] if head.given in events.actions else []
        # A head that asks nothing, or what was shown, has no outcome in events alone.
        wanted = fresh[np.isin(events.action[fresh], codes)]
        if head.given is None or head.given != head.action:
            continue
        sample = outcome_rows(
            live.pipeline.features, events, live.pipeline.catalog, wanted, live.config.heads, [head.name],
            history=live.config.surface("home").history, source_columns=len(live.pipeline.blend.asked) + 1,
            most=_OUTCOMES, seed=config.seed,
        )  # fmt: skip
        label = sample.rows.labels[:, [one.name for one in live.config.heads].index(head.name)]
        told = ~np.isnan(label)
        if told.sum() < _LEAST_OUTCOMES:
            continue
        p = ranker.score(sample.rows.features[told])[:, list(live.pipeline.heads).index(head.name)]
        now = calibration_error(p, label[told].astype(np.float64))
        was = then.get(head.name) or 0.0
        found.append(_reason(
            "calibration", now - was > config.retrain.ece,
            f"{head.name}: calibration error {now:.4f} on {int(told.sum()):,} fresh outcomes, {was:.4f} at the build",
            head=head.name, ece=now, ece_at_build=was, rows=int(told.sum()),
        ))  # fmt: skip
    return found


# --------------------------------------------------------------------------------------------------- old and new


def _compared(
    served: _Served, prepared: Prepared, config: WorkspaceConfig, tell: Progress
) -> tuple[Decision | None, str]:
    """nDCG@10 of a build of today's recipe minus that of the one in service, on what neither has seen; or why not."""
    events = prepared.data.interactions
    fresh = events.at[events.at >= served.since_us]
    if len(fresh) < config.retrain.least_events:
        return (
            None,
            f"{len(fresh):,} new events are too few to compare on (least_events = {config.retrain.least_events:,})",
        )
    cut_at = int(np.quantile(fresh, 1.0 - config.retrain.held_out, method="higher"))
    trial = sampled(at_cut(prepared, events, cut_at), config.seed)
    if len(trial) < 2:
        return None, "nobody took anything new in the newest part"
    tell("comparing", 0, 2)
    train = events.before(cut_at)
    begin = label_cut(train)
    asked = np.flatnonzero((train.at >= begin) & (train.weight > 0))
    pipeline = prepared.learner.fit(train.before(begin), train, asked).pipeline
    composers = pipeline.composers(config.surface("home"), prepared.head_names, explore=False)
    new = _lists(pipeline, composers, train, trial.user, trial.queries, config)
    tell("comparing", 1, 2)
    old = _lists_of_served(served, trial, cut_at)
    tell("comparing", 2, 2)
    return compare(_ndcg(new, trial), _ndcg(old, trial), unit=trial.user.astype(np.int64), seed=config.seed), ""


def _ndcg(ranked: I32, trial: Trial) -> F64:
    found: F64 = judge(ranked, trial.relevant, [nDCG(10)]).values["nDCG@10"]
    return found


def _lists(
    pipeline: Pipeline, composers: Composers, train: Interactions, users: I32, queries: Queries, config: WorkspaceConfig
) -> I32:
    found = rank_batch(
        pipeline.features, pipeline.catalog, train, pipeline.blend, pipeline.ranker, users, queries,
        config.surface("home").candidates,
    )  # fmt: skip
    return slates(found, composers, kinds_of(queries, pipeline.blend.config.regimes), queries, _SLOTS)


def _lists_of_served(served: _Served, trial: Trial, cut_at: int) -> I32:
    """The lists of the build in service, in rows of the data."""
    live, pipeline, queries = served.live, served.live.pipeline, trial.queries
    exclude = queries.exclude
    barred = served.known[exclude.values]
    kept = np.concatenate([[0], np.cumsum(barred >= 0)])
    asked = replace(
        queries,
        items=np.where(queries.items >= 0, served.known[queries.items], -1).astype(np.int32),
        exclude=Ragged(kept[exclude.indptr].astype(np.int64), barred[barred >= 0]),
    )
    composers = pipeline.composers(
        live.config.surface("home"), frozenset(head.name for head in live.config.heads), explore=False
    )
    found = _lists(pipeline, composers, served.events.before(cut_at), trial.user, asked, live.config)
    return np.where(found >= 0, served.back[found], -1).astype(np.int32)


def _settled(
    layout: Layout, made: str, current: str, compared: tuple[Decision | None, str], config: WorkspaceConfig
) -> dict[str, Any]:
    decision, why = compared
    if decision is None:
        verdict = f"left as built: {why}"
        registry.note(layout, made, "built", verdict)
        return {"build_id": made, "promoted": False, "verdict": verdict, "comparison": None}
    gain = f"{decision.gain:+.4f} [{decision.low:+.4f}, {decision.high:+.4f}]"
    told = f"nDCG@10 {gain} beside {current}, {decision.n} people"
    comparison = {"gain": decision.gain, "low": decision.low, "high": decision.high, "n": decision.n}
    if decision.low >= -config.retrain.margin:
        verdict = f"promoted, not worse: {told}"
        registry.promote(layout, made, verdict)
        return {"build_id": made, "promoted": True, "verdict": verdict, "comparison": comparison}
    verdict = f"left as built, may be worse by more than {config.retrain.margin:g}: {told}"
    registry.note(layout, made, "built", verdict)
    return {"build_id": made, "promoted": False, "verdict": verdict, "comparison": comparison}
