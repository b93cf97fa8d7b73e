"""Weights of the lexical index, found by coordinate search on judged queries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from honeyguide.contracts import F32, F64, I32, Progress
from honeyguide.engines.search.index import LexicalIndex
from honeyguide.engines.search.lexical_config import LexicalConfig

__all__ = ["graded_ndcg", "tuned"]

STEPS: dict[tuple[str, ...], tuple[float, ...]] = {
    ("fields", "title", "weight"): (0.5, 1.6),
    ("fields", "people", "weight"): (0.5, 2.0),
    ("fields", "categories", "weight"): (0.5, 2.0),
    ("fields", "description", "weight"): (0.5, 2.0),
    ("fields", "attributes", "weight"): (0.5, 2.0),
    ("covered",): (0.5, 2.0),
    ("gram_weight",): (0.5, 2.0),
    ("k1",): (0.6, 1.6),
    ("joined_weight",): (0.5, 1.6),
    ("popularity_weight",): (0.5, 2.0),
    ("coverage",): (0.5, 1.6),
    ("fields", "title", "b"): (0.7, 1.4),
    ("fields", "description", "b"): (0.7, 1.4),
    ("number_weight",): (0.6, 1.6),
}
"""What is tried of each weight: so many times what it is."""
SHARES = {("coverage",), ("number_weight",), ("fields", "title", "b"), ("fields", "description", "b")}
FIRST = {("covered",): 4.0, ("popularity_weight",): 2.0, ("gram_weight",): 0.05}
"""Where a weight of nothing begins."""
LEAST_GAIN = 2e-4


def tuned(
    index: LexicalIndex, queries: Sequence[str], rows: Sequence[I32], grades: Sequence[F32], *,
    rounds: int = 2, progress: Progress | None = None,
) -> tuple[LexicalConfig, float]:  # fmt: skip
    """The configuration that ranks judged queries best by nDCG@10, and that figure on the same queries.

    One weight after the other is moved while that helps by `LEAST_GAIN`. Costs about 40 evaluations of all queries a
    round. The index's own weights are where it begins.
    """

    def value(config: LexicalConfig) -> float:
        trial = index.reweighed(config)
        found = [trial.search(query, 10).rows for query in queries]
        return float(np.mean(graded_ndcg(found, rows, grades)))

    best, most = index.config, value(index.config)
    for turn in range(rounds):
        before = most
        for done, (path, steps) in enumerate(STEPS.items()):
            if progress is not None:
                progress("weights of search", turn * len(STEPS) + done, rounds * len(STEPS))
            for step in steps:
                while True:
                    trial = _moved(best, path, step)
                    reached = value(trial) if trial != best else most
                    if reached < most + LEAST_GAIN:
                        break
                    best, most = trial, reached
        if most < before + LEAST_GAIN:
            break
    if progress is not None:
        progress("weights of search", len(STEPS), len(STEPS))
    return best, most


def graded_ndcg(found: Sequence[I32], rows: Sequence[I32], grades: Sequence[F32], k: int = 10) -> F64:
    """nDCG@k of ranked rows by query, (n,), gains 2^grade - 1; what was not judged counts nothing.

    rows: of each query, the judged rows ascending; grades beside them. Source: Burges et al. 2005.
    """
    out = np.zeros(len(found))
    discount = 1 / np.log2(np.arange(k) + 2)
    for at, (mine, judged, grade) in enumerate(zip(found, rows, grades, strict=True)):
        gain = np.exp2(grade) - 1
        place = np.minimum(np.searchsorted(judged, mine[:k]), len(judged) - 1)
        got = np.where(judged[place] == mine[:k], gain[place], 0.0)
        best = np.sort(gain)[::-1][:k]
        out[at] = (got @ discount[: len(got)]) / (best @ discount[: len(best)])
    return out


def _moved(config: LexicalConfig, path: tuple[str, ...], step: float) -> LexicalConfig:
    told: dict[str, Any] = config.model_dump()
    place = told
    for key in path[:-1]:
        place = place[key]
    now = place[path[-1]]
    moved = FIRST[path] if now == 0 and path in FIRST and step > 1 else now * step
    place[path[-1]] = round(min(moved, 1.0 if path in SHARES else 100.0), 4)
    return LexicalConfig.model_validate(told)
