"""The exact best `k` by dot products for many people at once: items by falling norm, tile by tile, through BLAS.

Whoever cannot find anything better in the rest of the items leaves: |u| |y| bounds every product, and |y| only falls.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from honeyguide.kernels.topk import best, kth_largest, mask

__all__ = ["TILE", "tiles_topk"]

F32 = npt.NDArray[np.float32]
I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]

_DOT = {"reassoc", "nsz", "contract"}
TILE = 1024
"""Items per product."""
_PEOPLE = 128  # per product
_SPARE = 192  # candidates beyond k that are kept before the worst are let go
_ERROR = 2.0**-20
"""Of |u| |y|: more than rounding makes two ways of adding the same product differ, for d up to some hundreds."""


@njit(cache=True, nogil=True)
def _kth(scores: F32, size: int, k: int, room: F32) -> float:
    """The k-th largest of the first `size` scores; `room` is scratch."""
    for j in range(size):
        room[j] = scores[j]
    return kth_largest(room, size, k)


@njit(cache=True, nogil=True)
def _drop(scores: F32, items: I32, size: int, threshold: float) -> int:
    """Keep the pairs of at least `threshold`, in their order; returns how many."""
    m = 0
    for j in range(size):
        if scores[j] >= threshold:
            scores[m], items[m] = scores[j], items[j]
            m += 1
    return m


@njit(cache=True, nogil=True, fastmath=_DOT)
def _all(person: F32, factors: F32, place: I32, excluded: I32, out_items: I32, out_scores: F32) -> None:
    """The best by looking at every item."""
    values, rows = np.empty(len(factors), np.float32), np.empty(len(factors), np.int32)
    for i in range(len(factors)):
        dot = np.float32(0.0)
        for a in range(len(person)):
            dot += person[a] * factors[i, a]
        values[i], rows[i] = dot if place[i] >= 0 else np.float32(-np.inf), i
    mask(values, 0, len(excluded), excluded)
    best(values, rows, len(factors), out_items, out_scores)


@njit(cache=True, nogil=True, fastmath=_DOT)
def tiles_topk(
    start: int, stop: int, people: F32, factors: F32, factors_t: F32, norms: F32, order: I32,
    ex_indptr: I64, ex_items: I32, place: I32, prune: bool, out_items: I32, out_scores: F32,
) -> int:  # fmt: skip
    """The best of `factors @ people[q]` for q in [start, stop); returns how many (person, tile) products were made.

    `factors_t` (tiles, d, TILE) holds the items tile by tile, transposed, padded with 0, in `order` (row of each
    place; `place` is its inverse, -1 for rows that are no candidates at all) of falling `norms` (places,).
    Excluded rows never enter. Products by BLAS find who may be among the best; a sum in fixed order then decides, so
    that the answer does not hang on who was asked beside whom. Somebody of norm 0 gets nothing.
    """
    tiles, d, width = factors_t.shape
    n_items, k = len(norms), out_items.shape[1]
    room = k + _SPARE
    size_of = np.zeros(_PEOPLE, np.int64)
    bar = np.empty(_PEOPLE, np.float32)
    length = np.empty(_PEOPLE, np.float32)
    kept_at, kept = np.empty((_PEOPLE, room + 1), np.int32), np.empty((_PEOPLE, room + 1), np.float32)
    scratch = np.empty(room + 1, np.float32)
    active = np.empty(_PEOPLE, np.int64)
    block, found = np.zeros((_PEOPLE, d), np.float32), np.empty((_PEOPLE, width), np.float32)
    rows = np.empty(room + 1, np.int32)
    tied = np.zeros(_PEOPLE, np.bool_)
    products = 0
    for begin in range(start, stop, _PEOPLE):
        n = min(_PEOPLE, stop - begin)
        left = 0
        for r in range(n):
            square = np.float32(0.0)
            for a in range(d):
                square += people[begin + r, a] * people[begin + r, a]
            length[r], size_of[r], bar[r], tied[r] = np.sqrt(square), 0, -np.inf, False
            if square > 0.0 and k > 0:
                active[left] = r
                left += 1
        for tile in range(tiles):
            low = tile * width
            if prune:
                still = 0
                for j in range(left):
                    r = active[j]
                    if not length[r] * norms[low] * np.float32(1.0 + _ERROR) < bar[r]:
                        active[still] = r
                        still += 1
                left = still
            if left == 0:
                break
            products += left
            for j in range(left):
                block[j] = people[begin + active[j]]
            part = found[:left]
            np.dot(block[:left], factors_t[tile], part)
            high = min(width, n_items - low)
            for j in range(left):
                r = active[j]
                line, q = found[j], begin + r
                slack = np.float32(_ERROR) * length[r] * norms[low]
                threshold = np.float32(bar[r] - slack)
                size = before = size_of[r]
                for p in range(ex_indptr[q], ex_indptr[q + 1]):
                    row = ex_items[p]
                    if 0 <= row < len(place) and low <= place[row] < low + high:
                        line[place[row] - low] = -np.inf
                i = 0
                while i < high:
                    if i + 64 <= high:
                        top = np.float32(-np.inf)
                        for a in range(i, i + 64):
                            top = line[a] if line[a] > top else top
                        if top < threshold:
                            i += 64
                            continue
                    end = min(i + 64, high)
                    for a in range(i, end):
                        if line[a] >= threshold and line[a] > -np.inf:
                            kept_at[r, size], kept[r, size] = low + a, line[a]
                            size += 1
                            if size > room:
                                bar[r] = _kth(kept[r], size, k, scratch)
                                threshold = bar[r] - np.float32(_ERROR) * length[r] * norms[0]
                                size = _drop(kept[r], kept_at[r], size, threshold)
                                if size > room:  # so many as good as the k-th: their rows decide, below
                                    tied[r], size = True, room
                    i = end
                if size > before and size > k:
                    bar[r] = _kth(kept[r], size, k, scratch)
                    size = _drop(kept[r], kept_at[r], size, bar[r] - np.float32(_ERROR) * length[r] * norms[0])
                size_of[r] = size
        for r in range(n):
            q, m = begin + r, 0
            threshold = bar[r] - np.float32(_ERROR) * length[r] * (norms[0] if n_items else np.float32(0.0))
            if tied[r]:
                _all(people[q], factors, place, ex_items[ex_indptr[q] : ex_indptr[q + 1]], out_items[q], out_scores[q])
                continue
            for j in range(size_of[r]):
                if kept[r, j] >= threshold:
                    row = order[kept_at[r, j]]
                    dot = np.float32(0.0)
                    for a in range(d):
                        dot += people[q, a] * factors[row, a]
                    scratch[m], rows[m] = dot, row
                    m += 1
            best(scratch, rows, m, out_items[q], out_scores[q])
    return products
