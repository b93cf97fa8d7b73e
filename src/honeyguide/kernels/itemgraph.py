"""Item-to-item graphs: built row by row with the best `width` neighbours of each, walked from a history.

The full matrix of pairs is never held: one row is accumulated, scaled, cut and written. A graph is a CSR of
(`indptr`, `cols`, `vals`), neighbours of a row in no order: a walk needs none, and sorting takes half of a quick fit.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from honeyguide.kernels.topk import best, chosen, history, is_return, mask

__all__ = ["covisit_dense", "covisit_rows", "graph_topk", "gram_rows", "together_rows"]

F32 = npt.NDArray[np.float32]
I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]


@njit(cache=True, nogil=True)
def _cut(
    i: int, m: int, sums: F32, rows: I32, found: F32, row_scale: F32, col_scale: F32, prior: float, room: F32,
    out_cols: I32, out_vals: F32,
) -> None:  # fmt: skip
    """The best of row i: its m sums at `rows` scaled, itself left out; `sums` is zero again afterwards.

    A sum is multiplied by `s / (1 + prior s)`, s = row_scale * col_scale: divided by `1 / s + prior`.
    """
    sums[i] = -np.inf if sums[i] != 0.0 else 0.0
    shrink = np.float32(prior)
    for r in range(m):
        scaled = sums[rows[r]] * row_scale[i] * col_scale[rows[r]]
        found[r] = scaled if prior == 0.0 else scaled / (np.float32(1.0) + shrink * row_scale[i] * col_scale[rows[r]])
        sums[rows[r]] = 0.0
    chosen(found, rows, m, room, out_cols, out_vals)


@njit(cache=True, nogil=True)
def together_rows(
    start: int, stop: int, by_item: I64, users: I32, by_user: I64, items: I32,
    user_scale: F32, row_scale: F32, col_scale: F32, out_cols: I32, out_vals: F32,
) -> None:  # fmt: skip
    """Rows [start, stop) of `S[i, j] = row_scale[i] * col_scale[j] * sum over people of both: user_scale[u]`.

    `by_item` / `users` and `by_user` / `items` are the same distinct pairs, by item and by person. The outputs are
    (stop - start, width), padded with -1 / nan. The diagonal is left out.
    """
    n_items = len(row_scale)
    sums = np.zeros(n_items, np.float32)
    found, room = np.empty(n_items, np.float32), np.empty(n_items, np.float32)
    rows = np.empty(n_items, np.int32)
    for i in range(start, stop):
        m = 0
        for p in range(by_item[i], by_item[i + 1]):
            user = users[p]
            scale = user_scale[user]
            for q in range(by_user[user], by_user[user + 1]):
                j = items[q]
                if sums[j] == 0.0:
                    rows[m] = j
                    m += 1
                sums[j] += scale
        _cut(i, m, sums, rows, found, row_scale, col_scale, 0.0, room, out_cols[i - start], out_vals[i - start])


@njit(cache=True, nogil=True)
def gram_rows(
    start: int, stop: int, by_item: I64, users: I32, values_by_item: F32, by_user: I64, items: I32,
    values_by_user: F32, out: F32,
) -> None:  # fmt: skip
    """Rows [start, stop) of the dense `X.T @ X` of a sparse X, added into `out` (items, items)."""
    for i in range(start, stop):
        line = out[i]
        for p in range(by_item[i], by_item[i + 1]):
            user, value = users[p], values_by_item[p]
            for q in range(by_user[user], by_user[user + 1]):
                line[items[q]] += value * values_by_user[q]


@njit(cache=True, nogil=True)
def covisit_rows(
    start: int, stop: int, by_item: I64, places: I64, owner: I32, items: I32, strengths: F32, gap_weight: F32,
    backward: float, row_scale: F32, col_scale: F32, prior: float, out_cols: I32, out_vals: F32,
) -> None:  # fmt: skip
    """Rows [start, stop) of ordered co-visitation.

    `items` and `owner` (person) are all events, person by person, oldest first; `places[by_item[i]:by_item[i + 1]]`
    are the places of item i in them. An event g places later of the same person adds `gap_weight[g - 1]` times its
    strength, one g places earlier `backward` times that. Row i's sums are divided by
    `1 / (row_scale[i] col_scale) + prior`.
    """
    n_items = len(row_scale)
    n, window = len(items), len(gap_weight)
    sums = np.zeros(n_items, np.float32)
    found, room = np.empty(n_items, np.float32), np.empty(n_items, np.float32)
    rows = np.empty(n_items, np.int32)
    for i in range(start, stop):
        m = 0
        for p in range(by_item[i], by_item[i + 1]):
            place = places[p]
            person = owner[place]
            for direction in range(2):
                step = 1 if direction == 0 else -1
                factor = np.float32(1.0) if direction == 0 else np.float32(backward)
                if factor == 0.0:
                    continue
                for gap in range(window):
                    other = place + step * (gap + 1)
                    if other < 0 or other >= n or owner[other] != person:
                        break
                    j, gain = items[other], factor * gap_weight[gap] * strengths[other]
                    if not gain > 0.0:  # underflow: a row whose sum stays 0 would be listed twice
                        continue
                    if sums[j] == 0.0:
                        rows[m] = j
                        m += 1
                    sums[j] += gain
        _cut(i, m, sums, rows, found, row_scale, col_scale, prior, room, out_cols[i - start], out_vals[i - start])


@njit(cache=True, nogil=True)
def covisit_dense(
    start: int, stop: int, by_item: I64, places: I64, owner: I32, items: I32, gap_weight: F32, out: F32
) -> None:
    """Rows [start, stop) of forward co-visitation, added into the dense `out` (items, items), diagonal included."""
    n = len(items)
    for i in range(start, stop):
        line = out[i]
        for p in range(by_item[i], by_item[i + 1]):
            place = places[p]
            for gap in range(min(len(gap_weight), n - 1 - place)):
                other = place + gap + 1
                if owner[other] != owner[place]:
                    break
                line[items[other]] += gap_weight[gap]


@njit(cache=True, nogil=True)
def graph_topk(
    start: int, stop: int, indptr: I64, items: I32, weights: F32, at: I64, now: I64, ex_indptr: I64, ex_items: I32,
    recency: F32, half_life_us: float, other: float, use_weights: bool, trend: F32, after_us: int,
    out_items: I32, out_scores: F32, g_indptr: I64, g_cols: I32, g_vals: F32,
) -> None:  # fmt: skip
    """One step on the graph from each history of queries [start, stop), and the best of what it reaches.

    Scores are multiplied by `trend` (items,) where the history's newest event is older than `after_us`.
    """
    n_items = len(g_indptr) - 1
    values = np.zeros(n_items, np.float32)
    found = np.empty(n_items, np.float32)
    reached = np.empty(n_items, np.int32)
    rows = np.empty(len(recency), np.int32)
    strengths = np.empty(len(recency), np.float32)
    for q in range(start, stop):
        m = history(
            indptr[q], indptr[q + 1], items, weights, at, now[q], n_items, recency, half_life_us, other, use_weights,
            rows, strengths,
        )  # fmt: skip
        lifted = is_return(indptr[q], indptr[q + 1], at, now[q], after_us)
        steps = 0
        for j in range(m):
            steps += g_indptr[rows[j] + 1] - g_indptr[rows[j]]
        n = 0
        if steps > n_items:  # most items are reached anyway: adding without a list of them is faster
            for j in range(m):
                strength = strengths[j]
                for p in range(g_indptr[rows[j]], g_indptr[rows[j] + 1]):
                    values[g_cols[p]] += strength * g_vals[p]
            mask(values, ex_indptr[q], ex_indptr[q + 1], ex_items)
            for i in range(n_items):
                if values[i] > 0.0:
                    found[n], reached[n] = values[i], i
                    n += 1
                values[i] = 0.0
        else:
            for j in range(m):
                strength = strengths[j]
                for p in range(g_indptr[rows[j]], g_indptr[rows[j] + 1]):
                    col, gain = g_cols[p], strength * g_vals[p]
                    if not gain > 0.0:  # underflow: a row whose sum stays 0 would be listed twice
                        continue
                    if values[col] == 0.0:
                        reached[n] = col
                        n += 1
                    values[col] += gain
            mask(values, ex_indptr[q], ex_indptr[q + 1], ex_items)
            for r in range(n):
                found[r] = values[reached[r]]
                values[reached[r]] = 0.0
            for p in range(ex_indptr[q], ex_indptr[q + 1]):
                if 0 <= ex_items[p] < n_items:
                    values[ex_items[p]] = 0.0
        if lifted:
            for r in range(n):
                found[r] *= trend[reached[r]]
        best(found, reached, n, out_items[q], out_scores[q])
