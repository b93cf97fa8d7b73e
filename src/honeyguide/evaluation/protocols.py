"""Systems against each other on one trial: every system's figures and its paired differences, per segment."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from honeyguide.contracts import I32, BoolArray, Interactions, Metric, Progress, Queries, Ragged
from honeyguide.errors import DataError
from honeyguide.evaluation.judged import Judgement, Row, Units, compare, judge, judged_table, summarise
from honeyguide.evaluation.metrics import ItemFacts, ListMetric
from honeyguide.evaluation.split import Trial

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Recommender", "ask", "evaluate", "head_items"]

Recommender = Callable[[Queries, int], I32]
"""(queries, k) -> (n, k) item rows, best first, padded with -1."""


def head_items(train: Interactions, share: float = 0.5) -> BoolArray:
    """Which items are the head: the fewest, most popular first, that together hold `share` of the training events.

    Ties: the lower row first. All others are the tail, those without an event included.
    """
    counts = np.bincount(train.item, minlength=train.n_items)
    order = np.argsort(-counts, kind="stable")
    before = np.cumsum(counts[order]) - counts[order]
    head = np.zeros(train.n_items, np.bool_)
    head[order] = (before < share * len(train)) & (counts[order] > 0)
    return head


def ask(
    recommender: Recommender,
    queries: Queries,
    k: int,
    *,
    n_items: int,
    batch: int = 4_096,
    progress: Progress | None = None,
    name: str = "system",
) -> I32:
    """All lists, (n, k), asked for in batches. Raises DataError where the recommender gives what is no list of rows."""
    n = len(queries)
    ranked = np.full((n, k), -1, np.int32)
    for start in range(0, n, batch):
        stop = min(start + batch, n)
        found = np.asarray(recommender(_part(queries, start, stop), k))
        if found.shape != (stop - start, k) or not np.issubdtype(found.dtype, np.integer):
            raise DataError(
                expected=f"({stop - start}, {k}) item rows from {name!r}",
                got=f"{found.dtype} of shape {found.shape}",
                do="Return one padded list per query.",
            )
        if found.size and (found.max() >= n_items or found.min() < -1):
            raise DataError(
                expected=f"item rows in [-1, {n_items}) from {name!r}",
                got=f"rows from {found.min()} to {found.max()}",
                do="Return rows of the catalog, padded with -1.",
            )
        ranked[start:stop] = found
        if progress is not None:
            progress(f"asking {name}", stop, n)
    return ranked


def evaluate(
    trial: Trial,
    systems: Mapping[str, Recommender],
    metrics: Sequence[Metric | ListMetric],
    *,
    facts: ItemFacts,
    head: BoolArray,
    baselines: Sequence[str] = (),
    k: int | None = None,
    resamples: int = 1_000,
    seed: int = 0,
    batch: int = 4_096,
    progress: Progress | None = None,
) -> pa.Table:
    """The Judged table: each system per segment and metric, and each system minus each baseline (`a minus b`).

    Segments: `all`; `new person` (no history when asked) and `old person`; `head item` and `tail item` (the same lists,
    but only relevant items of the head, or of the tail, count; people without one are left out). Differences are those
    of the systems that are no baseline.
    k: places asked for, by default the largest cut-off (100 without one). Holds n x k x 4 bytes per system's lists.
    """
    missing = [name for name in baselines if name not in systems]
    if missing:
        raise DataError(expected=f"baselines among {list(systems)}", got=str(missing), do="Pass them as systems too.")
    k = k or max((getattr(metric, "k", None) or 0 for metric in metrics), default=0) or 100
    units = Units.of(trial.user, resamples=resamples, seed=seed)
    old = trial.has_history
    people = {"all": np.ones(len(trial), np.bool_), "new person": ~old, "old person": old}
    everybody = people["all"]
    # What stands in a list does not depend on which relevant items count, so list metrics have no item segments.
    of_relevance = [metric for metric in metrics if not isinstance(metric, ListMetric)]
    parts = (
        _Part(trial.relevant, metrics, people),
        _Part(_only(trial.relevant, head), of_relevance, {"head item": everybody}),
        _Part(_only(trial.relevant, ~head), of_relevance, {"tail item": everybody}),
    )
    judged: dict[str, list[Judgement]] = {}
    for name, recommender in systems.items():
        ranked = ask(recommender, trial.queries, k, n_items=facts.n_items, batch=batch, progress=progress, name=name)
        judged[name] = [judge(ranked, part.relevant, part.metrics, facts=facts) for part in parts]
    rows: list[Row] = []
    for name, judgements in judged.items():
        for part, judgement in zip(parts, judgements, strict=True):
            rows += summarise(judgement, units, part.segments, protocol=trial.protocol, system=name)
    for base in baselines:
        for name in systems:
            if name in baselines:
                continue
            for part, ours, theirs in zip(parts, judged[name], judged[base], strict=True):
                rows += compare(
                    ours, theirs, units, part.segments, protocol=trial.protocol, system_a=name, system_b=base
                )
    return judged_table(rows)


@dataclass(frozen=True, slots=True)
class _Part:
    """Which relevant items count, what is measured, and whose queries are told apart."""

    relevant: Ragged
    metrics: Sequence[Metric | ListMetric]
    segments: Mapping[str, BoolArray]


def _only(relevant: Ragged, wanted: BoolArray) -> Ragged:
    """The rows with only the wanted items."""
    keep = wanted[relevant.values]
    return Ragged(np.concatenate([[0], np.cumsum(keep)])[relevant.indptr].astype(np.int64), relevant.values[keep])


def _part(queries: Queries, start: int, stop: int) -> Queries:
    """The queries from `start` until before `stop`."""
    low, high = queries.indptr[start], queries.indptr[stop]
    indptr, values = queries.exclude.indptr, queries.exclude.values
    exclude = Ragged(indptr[start : stop + 1] - indptr[start], values[indptr[start] : indptr[stop]])
    return Queries(
        queries.indptr[start : stop + 1] - low,
        queries.items[low:high],
        queries.weights[low:high],
        queries.at[low:high],
        queries.now[start:stop],
        queries.segment[start:stop],
        exclude,
    )
