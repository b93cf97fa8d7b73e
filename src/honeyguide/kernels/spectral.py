"""Sparse and low-rank parts of one score, added up in one pass: an item graph, a low pass, and folded-in factors."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from honeyguide.kernels.factors import fold_in
from honeyguide.kernels.topk import best, history, is_return, mask

__all__ = ["spectral_topk"]

F32 = npt.NDArray[np.float32]
I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]

_DOT = {"reassoc", "nsz", "contract"}
_GROUP = 4  # questions side by side: a row of `right` is read once for all of them
_TILE = 64  # item rows that stay in the cache while several groups pass
_BATCH = 32  # questions per pass over the items


@njit(cache=True, nogil=True, fastmath=_DOT)
def _length(vector: F32, gram: F32) -> float:
    """`sqrt(v' gram v)`, at least a tiny number."""
    total = np.float32(0.0)
    for a in range(len(vector)):
        dot = np.float32(0.0)
        for b in range(len(vector)):
            dot += gram[a, b] * vector[b]
        total += vector[a] * dot
    return np.sqrt(max(total, np.float32(1e-24)))


@njit(cache=True, nogil=True, fastmath=_DOT)
def _add_products(vectors: F32, n: int, right: F32, values: F32) -> None:
    """`values[:n] += vectors[:n] @ right.T`, tile by tile; each sum is the same however many questions there are."""
    d, n_items = right.shape[1], len(right)
    for low in range(0, n_items, _TILE):
        high = min(low + _TILE, n_items)
        for g in range(0, n, _GROUP):
            for i in range(low, high):
                s0 = s1 = s2 = s3 = np.float32(0.0)
                for a in range(d):
                    y = right[i, a]
                    s0 += y * vectors[g, a]
                    s1 += y * vectors[g + 1, a]
                    s2 += y * vectors[g + 2, a]
                    s3 += y * vectors[g + 3, a]
                values[g, i] += s0
                values[g + 1, i] += s1
                values[g + 2, i] += s2
                values[g + 3, i] += s3


@njit(cache=True, nogil=True, fastmath=_DOT)
def spectral_topk(
    start: int, stop: int, indptr: I64, items: I32, weights: F32, at: I64, now: I64, ex_indptr: I64, ex_items: I32,
    recency: F32, half_life_us: float, other: float, use_weights: bool, trend: F32, after_us: int,
    out_items: I32, out_scores: F32, g_indptr: I64, g_cols: I32, g_vals: F32, left: F32, right: F32, low_gram: F32,
    als_gram: F32, low_weight: float, als_weight: float, reg: float, base: float, power: float, steps: int,
    als_unit: float,
) -> None:  # fmt: skip
    """Graph + low pass + factors for queries [start, stop), and the best of the sum; nothing for no history.

    The graph is a CSR. `left` (items, d) and the first d columns of `right` (items, d + e) are the low pass, whose
    output has the mean square `u' low_gram u`; the other e columns are factors with `als_gram` (e, e) =
    `als_unit * factors.T @ factors`. Each part is brought to a root mean square of 1 over the items before it is
    weighed: 1 for the graph, `low_weight`, `als_weight`.
    Positive scores are multiplied by `trend` (items,) where the history's newest event is older than `after_us`.
    """
    n_items, d, e = len(right), left.shape[1], right.shape[1] - left.shape[1]
    size = min(_BATCH, max(-(-(stop - start) // _GROUP), 1) * _GROUP)
    values = np.zeros((size, n_items), np.float32)
    vectors = np.zeros((size, d + e), np.float32)
    every = np.empty(n_items, np.int32)
    rows = np.empty(len(recency), np.int32)
    strengths = np.empty(len(recency), np.float32)
    x = np.zeros((1, e), np.float32)
    factors = np.ascontiguousarray(right[:, d:])
    known = np.zeros(size, np.int64)
    for begin in range(start, stop, size):
        n = min(size, stop - begin)
        vectors[:] = 0.0
        values[:] = 0.0
        for r in range(n):
            q = begin + r
            m = history(
                indptr[q], indptr[q + 1], items, weights, at, now[q], n_items, recency, half_life_us, other,
                use_weights, rows, strengths,
            )  # fmt: skip
            known[r] = m
            if m == 0:
                continue
            line, total = values[r], 0.0
            for j in range(m):
                total += strengths[j]
                for p in range(g_indptr[rows[j]], g_indptr[rows[j] + 1]):
                    line[g_cols[p]] += strengths[j] * g_vals[p]
                for a in range(d):
                    vectors[r, a] += strengths[j] * left[rows[j], a]
            square = np.float32(0.0)
            for i in range(n_items):
                square += line[i] * line[i]
            if square > 0.0:
                scale = np.float32(1.0) / np.sqrt(square / np.float32(n_items))
                for i in range(n_items):
                    line[i] *= scale
            if d:
                scale = np.float32(low_weight) / _length(vectors[r, :d], low_gram)
                for a in range(d):
                    vectors[r, a] *= scale
            if e:
                fold_in(als_gram, reg * (total + base) ** power, factors, rows, strengths, m, steps, x)
                scale = np.float32(als_weight) * np.float32(np.sqrt(als_unit * n_items)) / _length(x[0], als_gram)
                for a in range(e):
                    vectors[r, d + a] = x[0, a] * scale
        if d + e:
            _add_products(vectors, n, right, values)
        for r in range(n):
            q, line = begin + r, values[r]
            for i in range(n_items):
                every[i] = i
            if is_return(indptr[q], indptr[q + 1], at, now[q], after_us):
                for i in range(n_items):
                    if line[i] > 0.0:
                        line[i] *= trend[i]
            mask(line, ex_indptr[q], ex_indptr[q + 1], ex_items)
            best(line, every, n_items if known[r] else 0, out_items[q], out_scores[q])
