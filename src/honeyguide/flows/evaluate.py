"""`honeyguide evaluate`: the home surface against baselines, on two protocols, over the whole catalog.

Global: 80 / 10 / 10 by time. Weights, heads and baselines are tuned on the second part; everything is then fitted on
the first two and asked once per person about the third. Next item: each person's last new item; the one before is for
tuning. The test events are read once, after all choices are made.
"""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np

from honeyguide.contracts import I32, I64, BoolArray, Interactions, Metric, Progress, Queries
from honeyguide.engines.tasks.steps import atomic_write, fingerprint, only_process
from honeyguide.errors import ConfigError, DataError
from honeyguide.evaluation.metrics import Coverage, Diversity, HitRate, ItemFacts, ListMetric, Novelty, Recall, nDCG
from honeyguide.evaluation.protocols import Recommender, head_items
from honeyguide.evaluation.protocols import evaluate as judge_systems
from honeyguide.evaluation.split import Trial, global_split, global_trial, leave_one_out, next_item_trial
from honeyguide.flows.batch import rank_batch, slates
from honeyguide.flows.build import Prepared, prepare
from honeyguide.flows.config import WorkspaceConfig
from honeyguide.flows.fit import content
from honeyguide.flows.guardrails import prices_of
from honeyguide.flows.histories import Moments, Timelines
from honeyguide.flows.layout import Layout
from honeyguide.flows.pipeline import kinds_of
from honeyguide.flows.reports.evaluation import path
from honeyguide.retrieval.covisit import ItemKNN
from honeyguide.retrieval.popular import Popular, PopularConfig
from honeyguide.retrieval.tune import pick, quality
from honeyguide.schema import columns as c

__all__ = ["BASELINES", "METRICS", "at_cut", "evaluate", "sampled"]

METRICS: tuple[Metric | ListMetric, ...] = (
    nDCG(10), Recall(20), HitRate(10), Coverage(20), Novelty(20), Diversity(20),
)  # fmt: skip
HEADLINE = ("nDCG@10", "Recall@20", "HitRate@10")
BASELINES = ("popular", "itemknn")
LAST_BUILD = "last build"
WINDOWS_DAYS = (3.0, 7.0, 14.0, 30.0, 60.0, 90.0, 180.0, 365.0, 0.0)
"""Windows among which the popularity baseline finds its best on validation; 0 = all time."""
WHOLE_HISTORY = 1 << 40
MOST_PEOPLE = 20_000
"""People asked per protocol; above, a seeded sample of people (never of items) is drawn and the report says so."""
PROTOCOLS = {
    "global": "Global cut in time, 80 / 10 / 10: what people took after the cut, the whole catalog ranked",
    "next_item": "Each person's next item: the last one, the whole catalog ranked",
}
NOTES = (
    "Every item of the catalog is ranked; nothing is sampled. What a person has had is masked, for all systems.",
    "Intervals are 95 %, by resampling people; differences are paired by person.",
    "global: one question per person at the cut, about all they took after it. A new person had no event before.",
    "next_item knows other people's later events when it asks for a person's last item. It is here because published "
    "figures use it. Within one second the order of the file decides which item is the last.",
    "popular: the best of nine recent windows on validation. itemknn: cosine, 100 neighbours, popular where it has "
    "nothing. home: the whole path (sources, heads, utility, rules, diversity) without exploration.",
)


def evaluate(folder: str | Any, *, progress: Progress | None = None) -> dict[str, Any]:
    """Judge the home surface; writes `reports/evaluation.json` and returns it."""
    tell: Progress = progress or (lambda what, done, total: None)
    layout = Layout.open(folder)
    with only_process(layout.lock, "build or evaluate"):
        prepared = prepare(layout, tell)
        events = prepared.data.interactions
        if not _had(prepared, events)[events.action].any():
            raise DataError(
                expected="events by which people have had items",
                got=f"{len(events):,} events, none of them",
                do="Give an action a weight in [actions], or name it in `had`.",
            )
        other = _last_build(prepared, tell)
        rows: list[dict[str, Any]] = []
        notes = list(NOTES)
        for trial, train, validation, before, asked_of in (_global(prepared), _next_item(prepared)):
            found, said = _judge(prepared, other, trial, train, validation, before, asked_of, tell)
            rows += found
            notes += said
    if other is None:
        notes.append("There is no earlier build with another configuration to compare with.")
    report = {
        "made_at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "data": prepared.data.fingerprint,
        "protocols": PROTOCOLS,
        "headline_metrics": list(HEADLINE),
        "rows": [row for row in rows if " minus " not in row[c.SYSTEM]],
        "differences": [_difference(row) for row in rows if " minus " in row[c.SYSTEM]],
        "notes": notes,
    }
    atomic_write(path(layout), msgspec.json.format(msgspec.json.encode(report)))
    return report


def _difference(row: dict[str, Any]) -> dict[str, Any]:
    system, _, baseline = row[c.SYSTEM].partition(" minus ")
    return {**row, "system": system, "baseline": baseline}


_Case = tuple[Trial, Interactions, Trial, Interactions, I64]


def _global(prepared: Prepared) -> _Case:
    """Trial on the last tenth; fitted on nine tenths; validation is the tenth before."""
    events = prepared.data.interactions
    cuts = global_split(events)
    train = events.before(cuts.test_at)
    trial = at_cut(prepared, events, cuts.test_at)
    validation = at_cut(prepared, train, cuts.valid_at)
    asked = np.flatnonzero((train.at >= cuts.valid_at) & (train.weight > 0))
    return trial, train, validation, events.before(cuts.valid_at), asked


def _next_item(prepared: Prepared) -> _Case:
    """Trial on each person's last new item; fitted on all others; validation is the item before it."""
    events = prepared.data.interactions
    counted = np.flatnonzero(_had(prepared, events)[events.action])
    split = leave_one_out(events.take(counted))
    test, valid = (np.where(which >= 0, counted[np.maximum(which, 0)], -1) for which in (split.test, split.valid))
    keep = np.ones(len(events), np.bool_)
    keep[test[test >= 0]] = False
    train = events.take(keep)
    place = np.cumsum(keep) - 1
    asked = np.where(valid >= 0, place[np.maximum(valid, 0)], -1)
    trial, validation = _about(prepared, events, test), _about(prepared, train, asked)
    base = keep.copy()
    base[valid[valid >= 0]] = False
    return trial, train, validation, events.take(base), np.sort(asked[asked >= 0])


def _had(prepared: Prepared, events: Interactions) -> BoolArray:
    return prepared.config.had_by_code(events.actions)


def at_cut(prepared: Prepared, events: Interactions, cut_at: int) -> Trial:
    """What people will have had after a cut. Histories hold all that they did, also what is not having had."""
    had = _had(prepared, events)
    trial = global_trial(events.take(had[events.action]), cut_at)
    before = np.bincount(events.before(cut_at).user, minlength=events.n_users)[trial.user]
    moments = Moments(trial.user, before.astype(np.int64), np.full(len(trial), cut_at, np.int64))
    return _with_histories(prepared, events, trial, moments)


def _about(prepared: Prepared, events: Interactions, asked: I64) -> Trial:
    """One question per person: the item of event `asked[user]`."""
    trial = next_item_trial(events, asked)
    return _with_histories(prepared, events, trial, Timelines(events).moments_of(asked[trial.user]))


def _with_histories(prepared: Prepared, events: Interactions, trial: Trial, moments: Moments) -> Trial:
    segments = prepared.data.segments.of_user
    queries = Timelines(events).queries(moments, segments, history=WHOLE_HISTORY, had=_had(prepared, events))
    return replace(trial, queries=queries)


def sampled(trial: Trial, seed: int) -> Trial:
    """At most `MOST_PEOPLE` of the people, drawn evenly."""
    if len(trial) <= MOST_PEOPLE:
        return trial
    which = np.sort(np.random.default_rng(seed).choice(len(trial), MOST_PEOPLE, replace=False))
    queries, relevant = pick(trial.queries, trial.relevant, which)
    return Trial(trial.protocol, queries, relevant, trial.user[which])


def _judge(
    prepared: Prepared, other: Prepared | None, trial: Trial, train: Interactions, validation: Trial,
    before: Interactions, asked: I64, tell: Progress,
) -> tuple[list[dict[str, Any]], list[str]]:  # fmt: skip
    if not len(trial) or not len(validation):
        return [], [f"{trial.protocol}: nobody can be asked; the log holds too few people with something new later."]
    whole, trial = len(trial), sampled(trial, prepared.config.seed)
    inputs = {
        "train": content(train), "before": content(before), "trial": fingerprint(trial.user.tolist()),
        "relevant": fingerprint(trial.relevant.values.tolist()), "protocol": trial.protocol,
        "configs": [p.config.model_dump(mode="json") for p in (prepared, other) if p is not None],
        "data": prepared.data.fingerprint,
    }  # fmt: skip

    def make(folder: Any) -> None:
        window, popular, knn = _baselines(prepared, train, validation, before)
        systems: dict[str, Recommender] = {"home": _home(prepared, trial, train, before, asked)}
        if other is not None:
            systems[LAST_BUILD] = _home(other, trial, train, before, asked)
        systems |= {"popular": popular, "itemknn": knn}
        table = judge_systems(
            trial, systems, METRICS, facts=ItemFacts.of(train, prepared.data.catalog), head=head_items(train),
            baselines=[name for name in systems if name != "home"], seed=prepared.config.seed,
            batch=max(len(trial), 1), progress=tell,
        )  # fmt: skip
        best = f"{window:g} days" if window else "all time"
        said = [f"{trial.protocol}: the popularity baseline's best window is {best}."]
        if whole > len(trial):
            said.append(f"{trial.protocol}: {len(trial):,} of {whole:,} people, drawn at random, were asked.")
        (folder / "judged.json").write_bytes(msgspec.json.encode([table.to_pylist(), said]))

    tell(f"judging {trial.protocol}", 0, 1)
    step = prepared.steps.run(f"judged-{trial.protocol}", inputs, make)
    tell(f"judging {trial.protocol}", 1, 1)
    rows, said = json.loads((step.folder / "judged.json").read_text())
    return rows, said


def _baselines(
    prepared: Prepared, train: Interactions, validation: Trial, before: Interactions
) -> tuple[float, Recommender, Recommender]:
    catalog = prepared.data.catalog

    def on_validation(days: float) -> float:
        fitted = Popular(PopularConfig(window_days=days)).fit(before, catalog)
        return quality(fitted.retrieve(validation.queries, 20), validation.relevant).objective

    window = max(WINDOWS_DAYS, key=on_validation)
    popular = Popular(PopularConfig(window_days=window)).fit(train, catalog)
    knn = ItemKNN().fit(train, catalog)

    def by_knn(queries: Queries, k: int) -> I32:
        # Nobody leaves with an empty list: popularity fills what the neighbours do not.
        return _filled(knn.retrieve(queries, k).items, popular.retrieve(queries, 2 * k).items)

    return window, lambda queries, k: popular.retrieve(queries, k).items, by_knn


def _filled(first: I32, second: I32) -> I32:
    """Rows of `first` with their empty places taken by items of `second` that they do not hold."""
    out = first.copy()
    for row in np.flatnonzero((first < 0).any(axis=1)):
        own = first[row][first[row] >= 0]
        more = second[row][(second[row] >= 0) & ~np.isin(second[row], own)]
        filled = np.concatenate([own, more])[: first.shape[1]]
        out[row, : len(filled)] = filled
    return out


def _home(prepared: Prepared, trial: Trial, train: Interactions, before: Interactions, asked: I64) -> Recommender:
    """The home surface as it would have been built from `train`, with choices made on the events `asked`."""
    fitted = prepared.learner.fit(before, train, asked)
    pipeline, surface = fitted.pipeline, prepared.config.surface("home")
    prices = prices_of(fitted.guarded, "home", surface)
    composers = pipeline.composers(surface, prepared.head_names, explore=False, prices=prices)

    def served(queries: Queries, k: int) -> I32:
        found = rank_batch(
            prepared.features, pipeline.catalog, train, pipeline.blend, pipeline.ranker, trial.user, queries,
            surface.candidates,
        )  # fmt: skip
        return slates(found, composers, kinds_of(queries, pipeline.blend.config.regimes), queries, k)

    return served


def _last_build(prepared: Prepared, tell: Progress) -> Prepared | None:
    """The newest earlier build whose configuration differs, to be fitted anew under the same protocols.

    The build itself has seen the events that the protocols ask about; its configuration has not.
    """
    now = prepared.config.model_dump(mode="json", exclude_unset=True)
    layout = prepared.layout
    for build_id in reversed(layout.build_ids()):
        then = json.loads(layout.manifest(build_id).read_text())["config"]
        if fingerprint({**then, "serve": None}) != fingerprint({**now, "serve": None}):
            try:
                return prepare(layout, tell, WorkspaceConfig.model_validate(then))
            except (ValueError, ConfigError):
                return None  # written by a version whose keys are gone: nothing to compare with
    return None
