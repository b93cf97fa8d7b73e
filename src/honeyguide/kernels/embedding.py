"""Decayed means of the vectors of a history's items, and the candidates' likeness to them.

Layouts (a row per feature):
    emb_i (E, 4) int64: MEASURE, LAST (so many newest events), COLUMN, LIKED_ONLY
    emb_f (E, 2) float64: DECAY (weight of an event against the next newer one), WINDOW (microseconds)
    vectors (rows, d) float32 of unit length; 0 where an item has none
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

__all__ = ["embedding_rows", "mean_vector"]

I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]
F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

SIMILARITY, DISTANCE, COHERENCE = range(3)  # measures
MEASURE, LAST, COLUMN, LIKED_ONLY = range(4)
DECAY, WINDOW = range(2)


@njit(cache=True)
def _has_vector(item: int, vectors: F32) -> bool:
    if not 0 <= item < vectors.shape[0]:
        return False
    for k in range(vectors.shape[1]):  # noqa: SIM110 - numba knows no generators
        if vectors[item, k] != 0.0:
            return True
    return False


@njit(cache=True)
def mean_vector(
    now: int, h_items: I32, h_weights: F32, h_at: I64, begin: int, end: int,
    last: int, liked_only: bool, decay: float, window: float, vectors: F32, mean: F64,
) -> float:  # fmt: skip
    """The decayed mean of the vectors of `h_items[begin:end]` (oldest first), into `mean` (d,); returns its length.

    The newest event weighs one; those without a vector count as events. nan if none has one.
    """
    mean[:] = 0.0
    n, weight, mass = 0, 1.0, 0.0
    for h in range(end - 1, begin - 1, -1):
        if h_at[h] >= now or (liked_only and not h_weights[h] > 0.0):
            continue
        if n == last or h_at[h] < now - window:
            break
        if _has_vector(h_items[h], vectors):
            mass += weight
            for k in range(vectors.shape[1]):
                mean[k] += weight * vectors[h_items[h], k]
        n += 1
        weight *= decay
    if mass == 0.0:
        return np.nan
    square = 0.0
    for k in range(vectors.shape[1]):
        mean[k] /= mass
        square += mean[k] * mean[k]
    return np.sqrt(square)


@njit(cache=True)
def embedding_rows(
    now: I64, items: I32, targets: I64, ptr: I64,
    h_items: I32, h_weights: F32, h_at: I64, h_begin: I64, h_end: I64,
    vectors: F32, emb_i: I64, emb_f: F64, out: Any,
) -> None:  # fmt: skip
    """Request r at `now[r]` asks about `items[ptr[r]:ptr[r + 1]]`, whose rows of `out` are `targets`; -1 is padding."""
    mean = np.empty(vectors.shape[1], np.float64)
    for r in range(now.shape[0]):
        for e in range(emb_i.shape[0]):
            measure, column = emb_i[e, MEASURE], emb_i[e, COLUMN]
            length = mean_vector(
                now[r], h_items, h_weights, h_at, h_begin[r], h_end[r], emb_i[e, LAST], emb_i[e, LIKED_ONLY] != 0,
                emb_f[e, DECAY], emb_f[e, WINDOW], vectors, mean,
            )  # fmt: skip
            for j in range(ptr[r], ptr[r + 1]):
                item = items[j]
                if item < 0:
                    continue
                value = length if measure == COHERENCE else np.nan
                if measure != COHERENCE and not np.isnan(length) and _has_vector(item, vectors):
                    dot = 0.0
                    for k in range(vectors.shape[1]):
                        dot += mean[k] * vectors[item, k]
                    if measure == DISTANCE:
                        value = np.sqrt(max(1.0 - 2.0 * dot + length * length, 0.0))
                    elif length > 0.0:
                        value = dot / length
                out[targets[j], column] = value
