"""A set of items as several questions: its themes, the best of each, and the lists merged so that every theme shows."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from honeyguide.kernels.topk import best, history, is_return, mask

__all__ = ["interests_topk", "themes"]

F32 = npt.NDArray[np.float32]
I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]

_DOT = {"reassoc", "nsz", "contract"}
_PASSES = 3


@njit(cache=True, nogil=True, fastmath=_DOT)
def themes(vectors: F32, rows: I32, strengths: F32, m: int, alike: float, centres: F32, weight: F32, theme: I32) -> int:
    """Part m items into at most `len(centres)` themes; returns how many.

    Newest first, an item joins the theme whose centre is nearest if their cosine is at least `alike`, or while there
    is no room for another one; else it begins one. Passes that move each item to its nearest centre follow. `centres`
    are unit vectors, `weight` the sums of strengths, `theme` (m,) is -1 for items without a vector.
    """
    most, d = centres.shape
    n = 0
    for step in range(_PASSES):
        sums = np.zeros((most, d), np.float32)
        total = np.zeros(most, np.float32)
        for j in range(m):
            row, nearest, near = rows[j], -1, np.float32(-2.0)
            square = np.float32(0.0)
            for a in range(d):
                square += vectors[row, a] * vectors[row, a]
            if square == 0.0:
                theme[j] = -1
                continue
            for c in range(n):
                dot = np.float32(0.0)
                for a in range(d):
                    dot += vectors[row, a] * centres[c, a]
                if dot > near:
                    nearest, near = c, dot
            if step == 0 and n < most and near < alike:
                nearest, n = n, n + 1
                centres[nearest] = vectors[row]
            theme[j] = nearest
            total[nearest] += strengths[j]
            for a in range(d):
                sums[nearest, a] += strengths[j] * vectors[row, a]
            if step == 0:
                length = np.float32(0.0)
                for a in range(d):
                    length += sums[nearest, a] * sums[nearest, a]
                for a in range(d):
                    centres[nearest, a] = sums[nearest, a] / np.sqrt(length) if length > 0.0 else vectors[row, a]
        for c in range(n):
            weight[c] = total[c]
            length = np.float32(0.0)
            for a in range(d):
                length += sums[c, a] * sums[c, a]
            if length > 0.0:
                for a in range(d):
                    centres[c, a] = sums[c, a] / np.sqrt(length)
    return n


@njit(cache=True, nogil=True, fastmath=_DOT)
def interests_topk(
    start: int, stop: int, indptr: I64, items: I32, weights: F32, at: I64, now: I64, ex_indptr: I64, ex_items: I32,
    recency: F32, half_life_us: float, other: float, use_weights: bool, trend: F32, after_us: int,
    out_items: I32, out_scores: F32, vectors: F32, popular: F32, most: int, alike: float, each: int, rank_k: float,
    share_power: float,
) -> None:  # fmt: skip
    """The themes of each history of queries [start, stop), the `each` best of every theme, merged by reciprocal ranks.

    Within a theme an item scores its cosine to the centre times `popular` (items,); in the merged list it scores the
    best of `share ** share_power * (rank_k + 1) / (rank_k + rank)` over the themes, share being the theme's part of
    the history's strength. Multiplied by `trend` where the newest event is older than `after_us`.
    """
    n_items, d = vectors.shape
    values, found = np.empty(n_items, np.float32), np.zeros(n_items, np.float32)
    every = np.empty(n_items, np.int32)
    rows, theme = np.empty(len(recency), np.int32), np.empty(len(recency), np.int32)
    strengths = np.empty(len(recency), np.float32)
    centres, weight = np.zeros((most, d), np.float32), np.zeros(most, np.float32)
    list_items, list_scores = np.empty(each, np.int32), np.empty(each, np.float32)
    for q in range(start, stop):
        m = history(
            indptr[q], indptr[q + 1], items, weights, at, now[q], n_items, recency, half_life_us, other, use_weights,
            rows, strengths,
        )  # fmt: skip
        n = themes(vectors, rows, strengths, m, alike, centres, weight, theme)
        whole = np.float32(0.0)
        for c in range(n):
            whole += weight[c]
        lifted = is_return(indptr[q], indptr[q + 1], at, now[q], after_us)
        found[:] = 0.0
        for c in range(n):
            if not weight[c] > 0.0:
                continue
            for i in range(n_items):
                dot = np.float32(0.0)
                for a in range(d):
                    dot += vectors[i, a] * centres[c, a]
                values[i], every[i] = dot * popular[i] if dot > 0.0 else -np.inf, i
            if lifted:
                for i in range(n_items):
                    if values[i] > 0.0:
                        values[i] *= trend[i]
            mask(values, ex_indptr[q], ex_indptr[q + 1], ex_items)
            got = best(values, every, n_items, list_items, list_scores)
            share = np.float32((weight[c] / whole) ** share_power)
            for r in range(got):
                score = share * np.float32((rank_k + 1.0) / (rank_k + r + 1.0))
                found[list_items[r]] = max(found[list_items[r]], score)
        count = 0
        for i in range(n_items):
            if found[i] > 0.0:
                values[count], every[count] = found[i], i
                count += 1
        best(values, every, count, out_items[q], out_scores[q])
