"""Laws that every relevance metric keeps, and lists to judge.

`problems = check_metric(MyMetric(10))` is empty if the metric is sound; each line names a broken law.
"""

from __future__ import annotations

import numpy as np

from honeyguide.contracts import I32, Metric, Ragged

__all__ = ["check_metric", "judged_case"]


def judged_case(
    people: int, k: int = 20, *, n_items: int = 50_000, relevant: int = 10, seed: int = 0
) -> tuple[I32, Ragged]:
    """Ranked lists (people, k) without repeats and 0 to `relevant` distinct relevant items each, some of them hit."""
    rng = np.random.default_rng(seed)
    # Steps around a ring whose size no step divides: distinct items in no order, without sorting a million lists.
    start = rng.integers(0, n_items, people, np.int64)
    step = rng.integers(1, max(n_items // (k + relevant + 1), 2), people)
    ring = (start[:, None] + step[:, None] * np.arange(k + relevant)) % n_items
    counts = rng.integers(0, relevant + 1, people)
    chosen = np.sort(rng.random((people, k + relevant)).argpartition(relevant, axis=1)[:, :relevant], axis=1)
    keep = np.arange(relevant) < counts[:, None]
    values = np.take_along_axis(ring, chosen, axis=1)[keep].astype(np.int32)
    indptr = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts, dtype=np.int64)])
    return ring[:, :k].astype(np.int32), Ragged(indptr, values)


def check_metric(metric: Metric, *, seed: int = 0) -> list[str]:
    """What the metric does that a metric of relevance may not; empty if nothing."""
    problems: list[str] = []
    rng = np.random.default_rng(seed)
    n_items, width = 60, 12
    ranked, relevant = judged_case(200, width, n_items=n_items, relevant=8, seed=seed)
    values = np.asarray(metric.per_query(ranked, relevant))
    if values.shape != (len(ranked),):
        return [f"{metric.name}: expected one value per query, shape ({len(ranked)},); got {values.shape}"]
    some = np.diff(relevant.indptr) > 0

    def law(holds: bool, text: str) -> None:
        if not holds:
            problems.append(f"{metric.name}: {text}")

    law(bool(np.isnan(values[~some]).all()), "a query with nothing relevant must be nan")
    law(not np.isnan(values[some]).any(), "a query with something relevant must have a value")
    reversed_rows = Ragged.of([relevant.row(i)[::-1] for i in range(len(relevant))])
    law(_same(metric.per_query(ranked, reversed_rows), values), "the order of the relevant items must not matter")
    names = rng.permutation(n_items).astype(np.int32)
    renamed = metric.per_query(names[ranked], Ragged(relevant.indptr, names[relevant.values]))
    law(_same(renamed, values), "renaming the items must not matter")
    alone = [metric.per_query(ranked[i : i + 1], Ragged.of([relevant.row(i)]))[0] for i in range(20)]
    law(_same(np.array(alone), values[:20]), "a query's value must not depend on the other queries")
    better = ranked.copy()
    for i in range(len(ranked)):
        hits = np.isin(ranked[i], relevant.row(i))
        up = np.flatnonzero(hits[1:] & ~hits[:-1])
        if len(up):
            better[i, [up[0], up[0] + 1]] = ranked[i, [up[0] + 1, up[0]]]
    law(
        bool((metric.per_query(better, relevant)[some] >= values[some] - 1e-12).all()),
        "moving a relevant item up one place must not lower the value",
    )
    best = np.full_like(ranked, -1)
    for i in range(len(ranked)):
        row = relevant.row(i)[:width]
        best[i, : len(row)] = row
    law(
        bool((metric.per_query(best, relevant)[some] >= values[some] - 1e-12).all()),
        "no list may be worth more than the relevant items alone",
    )
    nothing = metric.per_query(np.full_like(ranked, -1), relevant)
    law(bool((nothing[some] <= values[some] + 1e-12).all()), "an empty list must not be worth more than a full one")
    return problems


def _same(a: object, b: object) -> bool:
    return bool(np.allclose(np.asarray(a), np.asarray(b), rtol=0, atol=1e-12, equal_nan=True))
