"""Choosing on validation: which setting, which weights, and what each source is worth."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from time import process_time
from typing import TypeVar

import numpy as np

from honeyguide.contracts import F64, I32, I64, Candidates, Queries, Ragged, Source
from honeyguide.errors import DataError
from honeyguide.retrieval.blend import BlendConfig, Regime, merge, regime_of

__all__ = ["Quality", "Tuned", "choose", "pick", "quality", "tune"]

S = TypeVar("S", bound=Source)
_STEPS = (0.0, 0.5, 0.8, 1.25, 2.0)
_ENTRY = 0.2  # weight that a source without one is tried with, times the step
_GAIN = 0.5  # standard errors by which a step must gain
_LOSS = -0.1  # the same for switching a source off


@dataclass(frozen=True, slots=True)
class Quality:
    """Means over the queries that have something relevant."""

    ndcg_10: float
    recall_20: float
    n: int

    @property
    def objective(self) -> float:
        """What tuning maximises: the mean of both, so that neither the top nor the depth is given away."""
        return 0.5 * (self.ndcg_10 + self.recall_20)


@dataclass(frozen=True)
class Tuned:
    """The weights that validation found, and what stands behind them.

    `marginal`: per regime and source, how much nDCG@10 falls when the source is left out (0 for one that has no
    weight). `cpu_ms`: processor time of each source per query.
    """

    config: BlendConfig
    sources: dict[str, dict[str, Quality]]  # regime -> source -> quality alone
    blend: dict[str, Quality]  # regime -> quality of the blend
    marginal: dict[str, dict[str, float]]  # regime -> source -> nDCG@10
    cpu_ms: dict[str, float] = field(default_factory=dict)


def _per_query(items: I32, relevant: Ragged) -> tuple[F64, F64]:
    """nDCG@10 and recall@20 per query, binary relevance, nan where nothing is relevant."""
    n, k = items.shape
    wide = np.int64(max(int(items.max(initial=0)), int(relevant.values.max(initial=0))) + 1)
    count = np.diff(relevant.indptr)
    keys = np.unique(np.repeat(np.arange(n), count) * wide + relevant.values)
    asked = np.arange(n)[:, None] * wide + np.maximum(items, 0)
    place = np.minimum(np.searchsorted(keys, asked), max(len(keys) - 1, 0))
    hit = (keys[place] == asked) & (items >= 0) if len(keys) else np.zeros((n, k), bool)
    gain = 1.0 / np.log2(np.arange(2, 12))
    ideal = np.concatenate([[np.nan], np.cumsum(gain)])[np.minimum(count, 10)]
    ndcg = (hit[:, :10] * gain[: min(k, 10)]).sum(axis=1) / ideal
    recall = hit[:, :20].sum(axis=1) / np.where(count > 0, count, np.nan)
    return ndcg, recall


def quality(found: Candidates | I32, relevant: Ragged) -> Quality:
    """Quality of ranked lists (n, k), k >= 20 for recall@20 to mean that."""
    items = found.items if isinstance(found, Candidates) else found
    ndcg, recall = _per_query(items, relevant)
    some = ~np.isnan(ndcg)
    if not some.any():
        return Quality(float("nan"), float("nan"), 0)
    return Quality(float(ndcg[some].mean()), float(recall[some].mean()), int(some.sum()))


def choose(candidates: Sequence[S], queries: Queries, relevant: Ragged) -> tuple[S, list[Quality]]:
    """The fitted source that serves these questions best, and the quality of each; ties go to the first."""
    found = [quality(source.retrieve(queries, 20), relevant) for source in candidates]
    return candidates[int(np.argmax([one.objective for one in found]))], found


def pick(queries: Queries, relevant: Ragged, which: I64) -> tuple[Queries, Ragged]:
    """The chosen queries, in the order given."""

    def rows(ragged: Ragged) -> tuple[I64, I64]:
        count = np.diff(ragged.indptr)[which]
        indptr = np.zeros(len(which) + 1, np.int64)
        np.cumsum(count, out=indptr[1:])
        places = np.repeat(ragged.indptr[which] - indptr[:-1], count) + np.arange(indptr[-1])
        return indptr, places

    indptr, places = rows(Ragged(queries.indptr, queries.items))
    ex_indptr, ex_places = rows(queries.exclude)
    rel_indptr, rel_places = rows(relevant)
    chosen = Queries(
        indptr, queries.items[places], queries.weights[places], queries.at[places], queries.now[which],
        queries.segment[which], Ragged(ex_indptr, queries.exclude.values[ex_places]),
        {name: codes[which] for name, codes in queries.context.items()},
    )  # fmt: skip
    return chosen, Ragged(rel_indptr, relevant.values[rel_places])


def _ascend(judged: Callable[[F64], F64], allowed: F64, rounds: int) -> tuple[F64, F64]:
    """Weights by coordinate ascent, and the values per query (2, n) that they reach.

    A step is taken only where its gain, paired by query, stands out of the noise by `_GAIN` standard errors:
    otherwise a few hundred questions would be learnt by heart. A source is switched off where that loses next to
    nothing: it costs time.
    """
    some = np.flatnonzero(allowed)
    starts = [allowed / allowed.sum(), *(np.eye(len(allowed))[i] for i in some)]
    weights, reached = max(((start, judged(start)) for start in starts), key=lambda pair: float(pair[1].mean()))
    for _ in range(rounds):
        improved = False
        for i in some:
            for step in _STEPS:
                trial = weights.copy()
                trial[i] = trial[i] * step if trial[i] > 0 else step * _ENTRY
                if trial[i] == weights[i] or trial.sum() <= 0:
                    continue
                trial /= trial.sum()
                values = judged(trial)
                gain = (values - reached).mean(axis=0)
                error = float(gain.std()) / np.sqrt(len(gain))
                mean = float(gain.mean())
                if mean >= _LOSS * error if trial[i] == 0 else mean > _GAIN * error:
                    weights, reached, improved = trial, values, True
        if not improved:
            break
    return weights, reached


def tune(
    sources: Sequence[Source], queries: Queries, relevant: Ragged, *, config: BlendConfig | None = None,
    one_of: Sequence[Sequence[str]] = (), most: int = 2_000, rounds: int = 3, seed: int = 0,
    chances: Mapping[str, float] | None = None,
) -> Tuned:  # fmt: skip
    """Weights per regime by coordinate ascent on validation questions that the sources were not fitted on.

    `config` gives the regimes (their weights are replaced) and everything else. Of each group in `one_of` at most one
    source keeps a weight, the one with which the blend serves better over all regimes. At most `most` questions per
    regime are used, drawn under `seed`. A source whose weight does not pay is switched off (weight 0). `chances`:
    weights that sources keep whatever validation finds, such as one that brings new items, which no past can speak
    for; what that costs stands in `marginal`, below 0. Questions without history do not count: only the fallback
    answers them. Raises DataError where none is left.
    """
    config = config or BlendConfig()
    names = tuple(source.name for source in sources)
    rng = np.random.default_rng(seed)
    useful = np.flatnonzero((np.diff(relevant.indptr) > 0) & (np.diff(queries.indptr) > 0))
    if not len(useful):
        raise DataError(
            expected="at least one validation question with a history and something relevant",
            got=f"{len(queries)} questions, none of them",
            do="Validate on people who were seen before the cutoff, or keep the default weights.",
        )
    regime = regime_of(queries, config.regimes)
    groups: dict[str, I64] = {}
    for number, one in enumerate(config.regimes):
        rows = useful[regime[useful] == number]
        if len(rows) > most:
            rows = np.sort(rng.choice(rows, most, replace=False))
        groups[one.name] = rows if len(rows) else useful[:most]
    lists: dict[str, tuple[list[Candidates], Ragged]] = {}
    cpu = dict.fromkeys(names, 0.0)
    for name, rows in groups.items():
        chosen, wanted = pick(queries, relevant, rows)
        found = []
        for source in sources:
            before = process_time()
            found.append(source.retrieve(chosen, config.per_source))
            cpu[source.name] += process_time() - before
        lists[name] = (found, wanted)

    def judge(regime_name: str) -> Callable[[F64], F64]:
        found, wanted = lists[regime_name]

        def of(weights: F64) -> F64:
            every = np.broadcast_to(weights.astype(np.float32), (len(wanted), len(names))).copy()
            pool = merge(found, every, 20, names=names, rank_share=config.rank_share, rank_k=config.rank_k)
            return np.stack(_per_query(pool.items, wanted))

        return of

    choices = [np.ones(len(names))]
    for group in one_of:
        members = [names.index(name) for name in group if name in names]
        if len(members) > 1:
            choices = [
                np.where(np.isin(np.arange(len(names)), members) & (np.arange(len(names)) != keep), 0.0, allowed)
                for allowed in choices
                for keep in members
            ]
    runs = [{name: _ascend(judge(name), allowed, rounds) for name in groups} for allowed in choices]
    final = max(runs, key=lambda run: sum(float(reached.mean()) for _, reached in run.values()))
    kept = np.array([(chances or {}).get(name, 0.0) for name in names])
    if kept.any():
        final = {name: (mixed := (1.0 - kept.sum()) * weights + kept, judge(name)(mixed))
                 for name, (weights, _) in final.items()}  # fmt: skip
    marginal: dict[str, dict[str, float]] = {}
    for name, (weights, reached) in final.items():
        marginal[name] = {}
        for i, source_name in enumerate(names):
            rest = np.where(np.arange(len(names)) == i, 0.0, weights)
            left = float(judge(name)(rest)[0].mean()) if rest.any() else 0.0
            marginal[name][source_name] = float(reached[0].mean()) - left if weights[i] > 0 else 0.0
    regimes = tuple(
        Regime(
            name=one.name,
            within_hours=one.within_hours,
            weights={n: round(float(w), 4) for n, w in zip(names, final[one.name][0], strict=True)},
        )
        for one in config.regimes
    )
    asked = sum(len(rows) for rows in groups.values())
    return Tuned(
        config.model_copy(update={"regimes": regimes}),
        {
            name: {n: quality(one, wanted) for n, one in zip(names, found, strict=True)}
            for name, (found, wanted) in lists.items()
        },
        {
            name: Quality(float(reached[0].mean()), float(reached[1].mean()), reached.shape[1])
            for name, (_, reached) in final.items()
        },
        marginal,
        {name: 1e3 * spent / asked for name, spent in cpu.items()},
    )
