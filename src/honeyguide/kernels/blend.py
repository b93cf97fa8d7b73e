"""Lists of several sources into one, and walks along a kept order."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from honeyguide.kernels.topk import best

__all__ = ["blend_topk", "ordered_topk", "promote"]

F32 = npt.NDArray[np.float32]
I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]


@njit(cache=True, nogil=True)
def blend_topk(
    start: int, stop: int, items: I32, scores: F32, weights: F32, rank_share: float, rank_k: float,
    out_items: I32, out_blend: F32, out_scores: F32,
) -> None:  # fmt: skip
    """Merge (sources, n, k) lists of queries [start, stop) into unique items, best blend first.

    A source adds `weights[q, source] * ((1 - rank_share) * position of the score between the worst and the best of
    its list + rank_share * (rank_k + 1) / (rank_k + rank))`; it adds 0 for what it did not bring. Rank 1 is the best.
    Outputs (n, K), (n, K), (n, K, sources), padded with -1 / nan / nan.
    """
    sources, _, k = items.shape
    room = 1
    while room < 2 * sources * k:
        room *= 2
    table = np.full(room, -1, np.int32)  # item -> slot, open addressing
    slot_item = np.empty(sources * k, np.int32)
    slot_place = np.empty(sources * k, np.int32)
    total = np.empty(sources * k, np.float32)
    values, rows = np.empty(sources * k, np.float32), np.empty(sources * k, np.int32)
    rank_of = np.full((sources * k, sources), -1, np.int32)
    for q in range(start, stop):
        m = 0
        for s in range(sources):
            weight = weights[q, s]
            if not weight > 0:
                continue
            low, high = np.float32(np.inf), np.float32(-np.inf)
            for j in range(k):
                score = scores[s, q, j]
                if items[s, q, j] >= 0 and score == score:
                    low, high = min(low, score), max(high, score)
            for j in range(k):
                item = items[s, q, j]
                if item < 0:
                    break
                place = (np.uint32(item) * np.uint32(2654435761)) & np.uint32(room - 1)
                while table[place] >= 0 and slot_item[table[place]] != item:
                    place = (place + np.uint32(1)) & np.uint32(room - 1)
                slot = table[place]
                if slot < 0:
                    slot = m
                    table[place], slot_item[m], slot_place[m], total[m] = m, item, place, 0.0
                    for other in range(sources):
                        rank_of[m, other] = -1
                    m += 1
                score = scores[s, q, j]
                level = np.float32(1.0)
                if score != score:
                    level = np.float32(0.0)
                elif high > low:
                    level = (score - low) / (high - low)
                total[slot] += weight * (
                    np.float32(1.0 - rank_share) * level + np.float32(rank_share * (rank_k + 1.0) / (rank_k + j + 1.0))
                )
                rank_of[slot, s] = j
        # `best` reorders what it is given, and the table still points into the slots.
        values[:m], rows[:m] = total[:m], slot_item[:m]
        found = best(values, rows, m, out_items[q], out_blend[q])
        for r in range(found):
            item = out_items[q, r]
            place = (np.uint32(item) * np.uint32(2654435761)) & np.uint32(room - 1)
            while slot_item[table[place]] != item:
                place = (place + np.uint32(1)) & np.uint32(room - 1)
            for s in range(sources):
                rank = rank_of[table[place], s]
                out_scores[q, r, s] = scores[s, q, rank] if rank >= 0 else np.nan
        out_scores[q, found:] = np.nan
        for r in range(m):
            table[slot_place[r]] = -1


@njit(cache=True)
def ordered_topk(
    order: I32, scores: F32, line: I32, ex_indptr: I64, ex_items: I32, marked: Bool, out_items: I32, out_scores: F32
) -> None:
    """The first items of `order[line[q]]` that query q does not exclude. `marked` (items,) is all false, and stays so.

    It keeps the GIL: `marked` and `order` are shared with `promote`.
    """
    n_items = order.shape[1]
    for q in range(len(line)):
        for p in range(ex_indptr[q], ex_indptr[q + 1]):
            if 0 <= ex_items[p] < n_items:
                marked[ex_items[p]] = True
        found = 0
        for place in range(n_items):
            if found == out_items.shape[1]:
                break
            item = order[line[q], place]
            if not marked[item]:
                out_items[q, found], out_scores[q, found] = item, scores[line[q], item]
                found += 1
        for r in range(found, out_items.shape[1]):
            out_items[q, r], out_scores[q, r] = -1, np.nan
        for p in range(ex_indptr[q], ex_indptr[q + 1]):
            if 0 <= ex_items[p] < n_items:
                marked[ex_items[p]] = False


@njit(cache=True)
def promote(order: I32, place_of: I32, scores: F32, items: I32) -> None:
    """Move items whose scores rose to where they now belong, in every line; ties go to the lower row.

    `order` (lines, items) is best first and `place_of` its inverse. `items` (lines, m) stand in the order of their
    present places, highest first: then all above an item is in order when its turn comes. Cost: items overtaken.
    """
    for line in range(order.shape[0]):
        for item in items[line]:
            place = place_of[line, item]
            score = scores[line, item]
            while place > 0:
                above = order[line, place - 1]
                if scores[line, above] > score or (scores[line, above] == score and above < item):
                    break
                order[line, place], place_of[line, above] = above, place
                place -= 1
            order[line, place], place_of[line, item] = item, place
