"""`honeyguide build`: tables to a versioned build.

A build is a manifest that names artifacts; one small file says which build is in service. A build that is interrupted
leaves the last good one in service, and the next run goes on where it stopped.
"""

from __future__ import annotations

import datetime as dt
import json
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from honeyguide import __version__
from honeyguide.contracts import Interactions, Progress, TablesEngine
from honeyguide.engines.tables.choice import EngineName, tables_engine
from honeyguide.engines.tables.snapshot import Snapshots
from honeyguide.engines.tasks.steps import (
    StepResult,
    Steps,
    atomic_write,
    code_fingerprint,
    disk_errors,
    fingerprint,
    only_process,
)
from honeyguide.evaluation.split import global_split
from honeyguide.features.defaults import default_features, value_bounds
from honeyguide.features.definition import FeatureSet
from honeyguide.features.online import OnlineState
from honeyguide.features.values import feature_values
from honeyguide.flows import registry
from honeyguide.flows.aggregates import Aggregates
from honeyguide.flows.card import describe, write_card
from honeyguide.flows.check import said
from honeyguide.flows.config import WorkspaceConfig, load_plugin
from honeyguide.flows.data import Dataset, load
from honeyguide.flows.drift import taken, write_reference
from honeyguide.flows.exploring import learn as exploring
from honeyguide.flows.fit import Fitted, Learner, content
from honeyguide.flows.guardrails import said as said_of_guardrails
from honeyguide.flows.guardrails import today
from honeyguide.flows.keeping.compact import compact
from honeyguide.flows.layout import Layout
from honeyguide.flows.long_term import arms_of
from honeyguide.flows.long_term import said as said_of_long_term
from honeyguide.flows.past_queries import write_queries
from honeyguide.flows.pipeline import serviceable
from honeyguide.flows.rankers import network_sentences
from honeyguide.flows.render_ranking import contest_sentences
from honeyguide.flows.search_step import said_of_search, search_steps
from honeyguide.flows.showings import load_shown
from honeyguide.flows.skew import check_skew, require_no_skew
from honeyguide.flows.understood import said_of_understanding, understanding_step
from honeyguide.flows.worth import worth
from honeyguide.intake.evidence import evidence
from honeyguide.schema import columns as c
from honeyguide.schema.tables import FEATURE_VALUES, ITEMS, QUARANTINE
from honeyguide.slate.utility import UtilityWeights

__all__ = ["Manifest", "Prepared", "build", "prepare", "rollback"]

LEAST_TELLING = 100
"""A catalog with fewer events that tell of somebody's interest is built for search alone."""
KEPT_BUILDS = 5
"""Older builds without a role are retired, and their artifacts swept."""
_OF_OPERATION = {"shadow", "canary", "retrain"}
"""Sections that say what becomes of builds, and are no part of any."""


class Manifest(msgspec.Struct, kw_only=True):
    """Everything that names a build: data, configuration, code and artifacts."""

    build_id: str
    made_at: str
    package: str
    code: str
    config: dict[str, Any]
    features: list[dict[str, Any]]
    data: dict[str, Any]
    log_offset: int
    blend: dict[str, Any]
    blend_report: dict[str, Any]
    ranks: dict[str, dict[str, Any]]  # kind of request -> whether the heads that rank are in service, and why
    reports: list[dict[str, Any]]
    folders: dict[str, str]  # relative to the workspace: sources by name, ranker, online, text, catalog
    steps: list[dict[str, Any]]
    decisions: list[str]
    seconds: float
    guarded: dict[str, dict[str, Any]] = {}  # by surface: its guardrails, their prices and what they cost
    parent: str = ""  # the build that was in service when this one was made


@dataclass(frozen=True)
class Prepared:
    """A workspace's data and a learner over it: where build and evaluation begin."""

    layout: Layout
    config: WorkspaceConfig
    data: Dataset
    features: FeatureSet
    steps: Steps
    learner: Learner

    @property
    def head_names(self) -> frozenset[str]:
        """Every head that the configuration names."""
        return self.config.head_names


@contextmanager
def engine_of(layout: Layout, config: WorkspaceConfig, named: EngineName | None = None) -> Iterator[TablesEngine]:
    """The engine named, else the configured one; closed at the end."""
    chosen = config.engine if named is None else config.engine.model_copy(update={"tables": named})
    with closing(tables_engine(chosen, layout.scratch)) as engine:
        yield engine


def prepare(
    layout: Layout, progress: Progress, config: WorkspaceConfig | None = None, *, engine: TablesEngine | None = None
) -> Prepared:
    """Move the log into the tables and read them; on the engine given (which stays open), else on the configured one.

    The caller holds the workspace's lock.
    """
    config = config or WorkspaceConfig.load(layout.config)
    for spec in config.sources:
        load_plugin(spec.use)
    with ExitStack() as opened:
        tables = engine or opened.enter_context(engine_of(layout, config))
        compact(layout, progress=progress)
        progress("tables", 0, 1)
        data = load(layout, config, tables)
        features = features_of(config, data)
        shown = load_shown(
            tables, data.events, data.shown, data.interactions, data.users,
            data.catalog.items, config.heads, config.training,
            tuple(dict.fromkeys([*features.context_keys, *config.ranker.context])), seeds=bool(config.ranker.context),
        )  # fmt: skip
        arms = arms_of(tables, data.shown, data.users) if config.long_term else None
        progress("tables", 1, 1)
    for surface in config.surfaces.values():
        # A utility that names an unknown head is refused before anything is learnt.
        UtilityWeights.of(surface.slate.utility, config.calibrated)
    exploring.check_names(config)
    steps = Steps(layout.artifacts, lambda name, result: progress(name, int(result is not None), 1))
    learner = Learner(
        steps, config, data.catalog, data.segments, features,
        catalog_key=data.catalog_key, users=data.users, shown=shown,
        # With an engine of its own this function closes it: then features are computed here.
        aggregates=Aggregates(engine, data, features) if engine is not None and engine.remote else None,
        today=today(layout, config), arms=arms,
    )  # fmt: skip
    return Prepared(layout, config, data, features, steps, learner)


def features_of(config: WorkspaceConfig, data: Dataset) -> FeatureSet:
    """The configured features, or a sensible set for this data."""
    if config.features:
        return FeatureSet.from_config(config.features)
    events = data.interactions
    told = sorted(set(events.actions), key=lambda action: -config.actions.get(action, 0.0))
    telling = [action for action in told if config.actions.get(action, 0.0) > 0]
    return default_features(telling, {**value_bounds(events), **_bounds_of_heads(config)}, data.catalog)


def _bounds_of_heads(config: WorkspaceConfig) -> dict[str, tuple[float, float]]:
    """For each action that a head praises and another one blames: where its value reads as dislike, and as like."""
    high = {head.action: head.min_value for head in config.heads if head.min_value is not None}
    low = {head.action: head.max_value for head in config.heads if head.max_value is not None}
    return {action: (low[action], high[action]) for action in low if action in high and low[action] < high[action]}


def label_cut(events: Interactions) -> int:
    """Weights and heads are learnt from the newest tenth of the events."""
    return global_split(events, (0.8, 0.1, 0.1)).test_at


def searches_alone(data: Dataset) -> str:
    """Why a catalog with hardly any events is built for search alone; "" if sources can be learnt."""
    telling = int((data.interactions.weight > 0).sum())
    if telling >= LEAST_TELLING or not data.snapshots.get(ITEMS.name) or not len(data.catalog):
        return ""
    return (
        f"search alone: {telling} events tell of somebody's interest, and sources are learnt from {LEAST_TELLING} on; "
        "pages that recommend show the newest items first"
    )


def build(
    folder: Path | str,
    *,
    engine: EngineName | None = None,
    progress: Progress | None = None,
    serve: bool = True,
    allow_skew: bool = False,
    report: bool = True,
) -> dict[str, Any]:
    """Make a build and put it in service; returns the report of `honeyguide build`.

    engine: where tables are computed, if not as `[engine]` says. It changes no artifact. serve: False only makes it;
    whoever asks decides (`flows.registry.promote`). allow_skew: build though what was served differs from what heads
    learn from; else a BuildError, see `flows.skew`. report: then write the saved queries' report, as `[report]` says.
    """
    tell: Progress = progress or (lambda what, done, total: None)
    layout = Layout.open(folder)
    started = time.perf_counter()
    config = WorkspaceConfig.load(layout.config)
    with (
        only_process(layout.lock, "build"),
        disk_errors(layout.root),
        engine_of(layout, config, engine) as tables,
    ):
        prepared = prepare(layout, tell, config, engine=tables)
        data, learner, steps = prepared.data, prepared.learner, prepared.steps
        skewed = _skew(prepared, allow=allow_skew)
        events = data.interactions
        alone = searches_alone(data)
        if alone:
            cut, fitted = 0, learner.bare(data.catalog.known_at, alone)
        else:
            cut = label_cut(events)
            fitted = learner.fit(events.before(cut), events, np.flatnonzero((events.at >= cut) & (events.weight > 0)))
        folders = dict(fitted.folders)
        folders["evidence"] = _evidence(prepared, tables).folder
        folders["catalog"] = _keep_catalog(prepared).folder
        folders["online"] = _online(prepared).folder
        folders["feature_values"] = _feature_values(prepared, tables).folder
        folders |= {name: step.folder for name, step in search_steps(prepared, tables, tell).items()}
        folders["understanding"] = understanding_step(prepared, tables).folder
        folders["wishes"] = _wishes(prepared).folder
        folders["queries"] = _queries(prepared).folder
        if not alone:
            folders["reference"] = _reference(prepared, fitted, cut).folder
        folders["vectors"] = _vectors(prepared, fitted).folder
        experience = exploring.learn_step(
            steps, config, fitted.pipeline, data.users, learner.shown, folders, {"data": data.fingerprint}
        )
        if experience is not None:
            folders["experience"] = experience.folder
        folders["card"] = _card(prepared, fitted, tables).folder
        manifest = _manifest(prepared, fitted, folders, time.perf_counter() - started, skewed)
        same = _same_as_current(layout, manifest)
        if same is not None:
            manifest.build_id = same
        else:
            path = layout.builds / f"{manifest.build_id}.json"
            atomic_write(path, msgspec.json.format(msgspec.json.encode(manifest)))
            if serve or not layout.current.exists():
                registry.put_in_service(layout, manifest.build_id, "made and put in service")
            else:
                registry.note(layout, manifest.build_id, "built", "made beside the one in service")
        _sweep(layout, steps)
    from honeyguide.flows.reports.queries import refresh

    return {**_report(manifest), "report": refresh(layout, tell) if report else {}}


def _skew(prepared: Prepared, *, allow: bool) -> list[str]:
    """What there is to say of features served otherwise than learnt from; a BuildError if that forbids a build."""
    config, layout = prepared.config, prepared.layout
    if config.skew.on_build == "off" or not layout.served.exists() or not layout.current.exists():
        return []
    found = check_skew(layout, config, prepared.data, prepared.features, layout.current_build())
    if not allow:
        require_no_skew(found)
    return [f"skew: {found['reason']}"] if found["rows"] else []


def _evidence(prepared: Prepared, engine: TablesEngine) -> StepResult:
    """What the data supports, as `honeyguide check` says it."""
    data = prepared.data

    def make(folder: Path) -> None:
        found = said(evidence(engine, data.events, data.shown))
        (folder / "evidence.json").write_text(json.dumps(found))

    inputs = {"data": data.fingerprint, "impressions": data.shown_key}
    return prepared.steps.run("evidence", inputs, make)


def _keep_catalog(prepared: Prepared) -> StepResult:
    import pyarrow.parquet as pq

    data = prepared.data

    def make(folder: Path) -> None:
        pq.write_table(data.items, folder / "items.parquet", compression="zstd")
        data.users.save(folder / "users.json")
        np.save(folder / "segment.npy", data.segments.of_user)
        (folder / "segments.json").write_text(json.dumps({"by": data.segments.by, "names": data.segments.names}))

    inputs = {"data": data.fingerprint, "by": data.segments.by, "users": len(data.users)}
    return prepared.steps.run("catalog", inputs, make)


def _online(prepared: Prepared) -> StepResult:
    data, features = prepared.data, prepared.features

    def make(folder: Path) -> None:
        OnlineState.build(features, data.interactions, data.catalog).save(folder)

    inputs = {"events": content(data.interactions), "features": features.fingerprint, "data": data.fingerprint}
    return prepared.steps.run("online", inputs, make)


def _feature_values(prepared: Prepared, engine: TablesEngine) -> StepResult:
    """The FeatureValues table as of just after the last event."""
    import pyarrow.parquet as pq

    data, features = prepared.data, prepared.features
    at_us = int(data.interactions.at[-1]) + 1 if len(data.interactions) else int(data.catalog.known_at.max()) + 1

    def make(folder: Path) -> None:
        if engine.remote:
            values = Aggregates(engine, data, features).values(at_us)
        else:
            values = feature_values(
                features, data.interactions, data.users, data.catalog.items, at_us, catalog=data.catalog
            )
        pq.write_table(values, folder / f"{FEATURE_VALUES.name}.parquet", compression="zstd")

    inputs = {"data": data.fingerprint, "features": features.fingerprint, "actions": data.interactions.actions}
    return prepared.steps.run("feature_values", inputs, make)


def _reference(prepared: Prepared, fitted: Fitted, cut: int) -> StepResult:
    """What features look like at present, against which `honeyguide retrain` measures drift."""
    data, features, home = prepared.data, prepared.features, prepared.config.surface("home")
    events = data.interactions

    def make(folder: Path) -> None:
        which = np.flatnonzero((events.at >= cut) & (events.weight > 0))
        seed = prepared.config.seed
        matrix = taken(features, fitted.pipeline.catalog, events, which, history=home.history, seed=seed)
        write_reference(folder, features, matrix)

    inputs = {"events": content(events), "features": features.fingerprint, "data": data.fingerprint, "cut": cut}
    return prepared.steps.run("reference", inputs, make)


def _wishes(prepared: Prepared) -> StepResult:
    """What people said of themselves, which answers honour whatever they learnt."""
    data = prepared.data

    def make(folder: Path) -> None:
        data.wishes.save(folder)

    return prepared.steps.run("wishes", {"data": data.fingerprint, "rights": prepared.config.rights.model_dump()}, make)


def _queries(prepared: Prepared) -> StepResult:
    """What enough people asked, for suggestions."""
    layout, data = prepared.layout, prepared.data

    def make(folder: Path) -> None:
        if data.shown is not None:
            write_queries(layout, folder)

    return prepared.steps.run("queries", {"data": data.fingerprint, "impressions": data.shown_key}, make)


def _vectors(prepared: Prepared, fitted: Fitted) -> StepResult:
    vectors = fitted.pipeline.vectors
    inputs = {
        "events": content(prepared.data.interactions),
        "sources": [spec.model_dump() for spec in prepared.config.sources],
        "data": prepared.data.fingerprint,
    }

    def make(folder: Path) -> None:
        if vectors is not None:
            np.save(folder / "vectors.npy", vectors)

    return prepared.steps.run("vectors", inputs, make)


def _card(prepared: Prepared, fitted: Fitted, engine: TablesEngine) -> StepResult:
    data = prepared.data
    held_back = Snapshots(prepared.layout.tables).find(QUARANTINE.name)

    def make(folder: Path) -> None:
        reasons: dict[str, int] = {}
        if held_back is not None and held_back.rows:
            rows = engine.parquet(held_back.paths, QUARANTINE.name)
            counted = rows.group_by(c.REASON).aggregate(**{c.N: rows.count()}).order_by(c.REASON)
            reasons = {row[c.REASON]: row[c.N] for row in engine.arrow(counted).to_pylist()}
        card = describe(
            data, prepared.features, prepared.config.heads if "training" in fitted.folders else (),
            fitted.folders.get("training", folder), fitted.reports, prepared.learner.refusals, reasons,
        )  # fmt: skip
        write_card(folder, card)

    inputs = {
        "data": data.fingerprint, "versions": data.versions,
        "training": fitted.folders["training"].name if "training" in fitted.folders else "",
        "ranker": fitted.folders["ranker"].name, "refused": prepared.learner.refusals,
        "quarantine": "" if held_back is None else held_back.sha256,
    }  # fmt: skip
    return prepared.steps.run("card", inputs, make)


def _manifest(
    prepared: Prepared, fitted: Fitted, folders: Mapping[str, Path], seconds: float, skewed: Sequence[str] = ()
) -> Manifest:
    data, config = prepared.data, prepared.config
    now = dt.datetime.now(dt.UTC)
    decisions = [
        *fitted.notes, *skewed, *_ranker_sentences(fitted), *_blend_sentences(fitted), *_worth_sentences(fitted),
        *_source_sentences(prepared, fitted),
    ]  # fmt: skip
    for name, surface in config.surfaces.items():
        _, notes = serviceable(surface, fitted.pipeline.heads, bool(fitted.pipeline.ranks), prepared.head_names)
        decisions += [f"{name}: {note}" for note in notes]
    decisions += said_of_long_term(long_term_of(folders["ranker"]))
    for name, solved in fitted.guarded.items():
        decisions += said_of_guardrails(name, solved)
    decisions += said_of_understanding(folders.get("understanding"))
    decisions += said_of_search(folders)
    decisions += exploring.sentences(config, fitted.pipeline, folders.get("experience"))
    body = Manifest(
        build_id="",
        made_at=now.isoformat(timespec="seconds"),
        package=__version__,
        code=code_fingerprint(),
        config=config.model_dump(mode="json", exclude_unset=True, exclude=_OF_OPERATION),
        features=prepared.features.to_config(),
        data={
            "fingerprint": data.fingerprint,
            "snapshots": data.snapshots,
            "versions": data.versions,
            "logs": data.logs,
            "events": len(data.interactions),
            "people": len(data.users),
            "items": len(data.catalog),
            "evidence": json.loads((folders["evidence"] / "evidence.json").read_text())["level"],
            "first": _iso(int(data.interactions.at[0])) if len(data.interactions) else "",
            "last": _iso(int(data.interactions.at[-1])) if len(data.interactions) else "",
        },
        log_offset=max(data.logs.values(), default=0),
        blend=fitted.blend_config.model_dump(mode="json"),
        blend_report=msgspec.to_builtins(fitted.blend_report),
        ranks=msgspec.to_builtins(fitted.decisions),
        reports=fitted.reports,
        folders={name: str(path.relative_to(prepared.layout.root)) for name, path in folders.items()},
        steps=[
            {"name": step.name, "seconds": round(step.seconds, 3), "reused": step.reused,
             "folder": str(step.folder.relative_to(prepared.layout.root))}
            for step in prepared.steps.results
        ],
        decisions=decisions,
        seconds=round(seconds, 2),
        guarded=fitted.guarded,
        parent=prepared.layout.current.read_text().strip() if prepared.layout.current.exists() else "",
    )  # fmt: skip
    # To the millisecond, so that ids sort by time.
    body.build_id = f"{now:%Y%m%dT%H%M%S}{now.microsecond // 1000:03}-{fingerprint(body.folders)[:8]}"
    return body


def long_term_of(ranker: Path) -> list[dict[str, Any]]:
    """What the folder of a ranker tells of its heads for long-term value."""
    path = ranker / "long_term.json"
    return json.loads(path.read_text()) if path.exists() else []


def _iso(at_us: int) -> str:
    return dt.datetime.fromtimestamp(at_us / 1e6, dt.UTC).isoformat(timespec="seconds")


def _ranker_sentences(fitted: Fitted) -> list[str]:
    models = [line for report in fitted.reports for line in contest_sentences(report)]
    ranks = [
        f"heads that rank, for a {kind} request: {'in service' if one.on else 'off'}; {one.reason} (nDCG@10, held out)"
        for kind, one in fitted.decisions.items()
    ]
    return models + network_sentences(fitted.pipeline.ranker) + ranks


def _blend_sentences(fitted: Fitted) -> list[str]:
    lines = []
    for regime in fitted.blend_config.regimes:
        weights = sorted(regime.weights.items(), key=lambda pair: -pair[1])
        used = ", ".join(f"{name} {weight:.2f}" for name, weight in weights if weight > 0)
        paid = {name for name, weight in weights if weight > 0}
        off = ", ".join(name for name in fitted.blend_report.quality[regime.name] if name not in paid)
        lines.append(f"blend on a {regime.name}: {used}" + (f"; off: {off}" if off else ""))
    return lines


def _worth_sentences(fitted: Fitted) -> list[str]:
    """What each source adds: which one could go. No times, which differ from build to build; `explain` tells them."""
    report = msgspec.to_builtins(fitted.blend_report) | {"cpu_ms": {}}
    return worth(report, fitted.blend_config.model_dump())[1]


def _source_sentences(prepared: Prepared, fitted: Fitted) -> list[str]:
    lines = [f"{name} left out: {why}" for name, why in prepared.learner.refusals.items()]
    settled = {spec.use: spec.config for spec in fitted.specs}
    for given in prepared.config.sources:
        kept = ", ".join(f"{key} = {settled[given.use][key]}" for key in given.grid if given.use in settled)
        if kept:
            lines.append(f"{given.use.rpartition(':')[2]}: validation kept {kept}")
    return lines


def _same_as_current(layout: Layout, made: Manifest) -> str | None:
    """Id of the build in service if nothing has changed since: a build that does nothing pushes no older one out."""
    if not layout.current.exists():
        return None
    current = layout.current_build()
    then = json.loads(layout.manifest(current).read_text())
    now = msgspec.to_builtins(made)
    told = ("folders", "config", "features", "log_offset", "blend", "ranks", "guarded", "package")
    return current if all(then.get(key) == now[key] for key in told) else None


def _sweep(layout: Layout, steps: Steps) -> None:
    """Keep what the newest builds name and what this run made or used; drop the rest."""
    keep = {step.folder for step in steps.results}
    registry.overtaken(layout, KEPT_BUILDS)
    for build_id in layout.build_ids():
        manifest = json.loads(layout.manifest(build_id).read_text())
        keep |= {layout.root / step["folder"] for step in manifest["steps"]}
    steps.sweep(keep)
    shutil.rmtree(layout.scratch, ignore_errors=True)


def _report(manifest: Manifest) -> dict[str, Any]:
    heads = []
    for report in manifest.reports:
        gives = (
            "off: " + report["reason"] if not report["on"] else "probability" if report["calibrated"] else "rank only"
        )
        told = {key: report[key] for key in ("model", "calibrator", "fit_rows", "refit_rows", "contest", "segments")}
        heads.append({"name": report["name"], "gives": gives, **told, **report["metrics"]})
    return {
        "build_id": manifest.build_id,
        "seconds": manifest.seconds,
        "steps": manifest.steps,
        "heads": heads,
        "decisions": manifest.decisions,
        "ranks": manifest.ranks,
    }


def rollback(folder: Path | str, build_id: str | None = None) -> dict[str, str]:
    """Put an earlier build (default: the one before) in service. Its artifacts must be there still."""
    return registry.rollback(Layout.open(folder), build_id)
