"""What every source does with a question: weigh the history, mask what must not be shown, keep the best `k`.

Order is total (higher score first, then the lower row), so a longer list starts with the shorter one.
All kernels are sequential over a range of queries and release the GIL: a batch runs them in threads, a single
question calls them once, and both give the same bits.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

__all__ = ["best", "chosen", "dense_topk", "history", "is_return", "kth_largest", "mask"]

F32 = npt.NDArray[np.float32]
I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]
I16 = npt.NDArray[np.int16]


@njit(cache=True, nogil=True)
def _sift(scores: F32, items: I32, pos: int, size: int, score: float, item: int) -> None:
    """Put a pair into the min-heap's hole at `pos`; the worst pair is at the root."""
    while True:
        child = 2 * pos + 1
        if child >= size:
            break
        right = child + 1
        if right < size and (
            scores[right] < scores[child] or (scores[right] == scores[child] and items[right] > items[child])
        ):
            child = right
        if score < scores[child] or (score == scores[child] and item > items[child]):
            break
        scores[pos], items[pos] = scores[child], items[child]
        pos = child
    scores[pos], items[pos] = score, item


@njit(cache=True, nogil=True)
def _survivors(values: F32, rows: I32, m: int, k: int) -> int:
    """Move the pairs that can be among the best k to the front; returns how many. Exact, whatever the values.

    One pass finds the range, one counts 512 equal steps of it, one keeps what lies in the steps that hold the best k.
    A heap over all pairs would mispredict at every second one.
    """
    low, high = np.float32(np.inf), np.float32(-np.inf)
    for j in range(m):
        value = values[j]
        if value > -np.inf:
            low, high = min(low, value), max(high, value)
    if not (high > low and high - low < np.inf):
        return m
    scale = np.float32(511.0) / (high - low)
    counts = np.zeros(512, np.int32)
    for j in range(m):
        if values[j] > -np.inf:
            counts[min(int((values[j] - low) * scale), 511)] += 1
    step, kept = 511, counts[511]
    while kept < k and step > 0:
        step -= 1
        kept += counts[step]
    n = 0
    for j in range(m):
        value = values[j]
        if value > -np.inf and min(int((value - low) * scale), 511) >= step:
            values[n], rows[n] = value, rows[j]
            n += 1
    return n


@njit(cache=True, nogil=True)
def kth_largest(values: F32, m: int, k: int) -> float:
    """The k-th largest of the first m values, which are reordered (quickselect; Hoare 1961). None may be nan."""
    low, high, wanted = 0, m - 1, k - 1
    while low < high:
        pivot = values[(low + high) // 2]
        i, j = low, high
        while i <= j:
            while values[i] > pivot:
                i += 1
            while values[j] < pivot:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i, j = i + 1, j - 1
        if wanted <= j:
            high = j
        elif wanted >= i:
            low = i
        else:
            break
    return values[wanted]


@njit(cache=True, nogil=True)
def chosen(values: F32, rows: I32, m: int, room: F32, out_items: I32, out_scores: F32) -> int:
    """The pairs that `best` would choose, in the order in which they were met; `room` (m,) is scratch.

    A third of the time where the order does not matter. The values may not be nan; -inf never enters.
    """
    k = len(out_items)
    if m > 2 * k and k > 0:
        m = _survivors(values, rows, m, k)
    n = 0
    for j in range(m):
        if values[j] > -np.inf:
            values[n], rows[n], room[n] = values[j], rows[j], values[j]
            n += 1
    bar = np.float32(-np.inf)
    if n > k > 0:
        bar = np.float32(kth_largest(room, n, k))
    above = 0
    for j in range(n):
        above += values[j] > bar
    last = 2**31 - 1  # of the pairs at the bar, those up to this row have a place
    ties = min(n, k) - above
    if n > k:
        last = -1
        for _ in range(ties):
            lowest = 2**31 - 1
            for j in range(n):
                if values[j] == bar and last < rows[j] < lowest:
                    lowest = rows[j]
            last = lowest
            if ties > 8:  # many: one sort in place of many passes
                same = np.sort(rows[:n][values[:n] == bar])
                last = same[ties - 1]
                break
    size = 0
    for j in range(n):
        if values[j] > bar or (values[j] == bar and rows[j] <= last):
            out_items[size], out_scores[size] = rows[j], values[j]
            size += 1
    for j in range(size, k):
        out_items[j], out_scores[j] = -1, np.nan
    return size


@njit(cache=True, nogil=True)
def best(values: F32, rows: I32, m: int, out_items: I32, out_scores: F32) -> int:
    """The best of the first m pairs of `values` and `rows`, best first, padded with -1 / nan; returns how many.

    nan and -inf never enter. Ties: the lower row first. It reorders `values` and `rows`. Cost about 3 m + k log k.
    """
    k = len(out_items)
    if m > 2 * k and k > 0:
        m = _survivors(values, rows, m, k)
    size = 0
    for j in range(m):
        value, row = values[j], rows[j]
        if not value > -np.inf:
            continue
        if size < k:
            out_scores[size], out_items[size] = value, row
            size += 1
            if size == k:
                for pos in range(k // 2 - 1, -1, -1):
                    _sift(out_scores, out_items, pos, k, out_scores[pos], out_items[pos])
        elif k > 0 and (value > out_scores[0] or (value == out_scores[0] and row < out_items[0])):
            _sift(out_scores, out_items, 0, k, value, row)
    if size < k:
        for pos in range(size // 2 - 1, -1, -1):
            _sift(out_scores, out_items, pos, size, out_scores[pos], out_items[pos])
    for end in range(size - 1, 0, -1):
        score, item = out_scores[end], out_items[end]
        out_scores[end], out_items[end] = out_scores[0], out_items[0]
        _sift(out_scores, out_items, 0, end, score, item)
    for j in range(size, k):
        out_items[j], out_scores[j] = -1, np.nan
    return size


@njit(cache=True, nogil=True)
def history(
    first: int, last: int, items: I32, weights: F32, at: I64, now: int, n_items: int,
    recency: F32, half_life_us: float, other: float, use_weights: bool, rows: I32, strengths: F32,
) -> int:  # fmt: skip
    """The newest known items of a history, newest first, with their strengths; returns how many.

    The j-th newest item weighs `recency[j] * 2 ** (-age / half_life_us)` (0 = no decay by age) times its sign of
    interest: 1 (or the weight clipped to (0, 10]) where the weight is positive, `other` where it is not or is nan.
    Items after `now`, unknown items and items of no strength are passed over and use up no step.
    """
    m = 0
    for p in range(last - 1, first - 1, -1):
        row = items[p]
        if m == len(recency):
            break
        if row < 0 or row >= n_items or at[p] > now:
            continue
        weight = weights[p]
        if weight > 0:
            strength = min(weight, np.float32(10.0)) if use_weights else np.float32(1.0)
        else:
            strength = np.float32(other)
        if not strength > 0:
            continue
        if half_life_us > 0:
            strength *= np.float32(2.0 ** (-(now - at[p]) / half_life_us))
        rows[m] = row
        strengths[m] = strength * recency[m]
        m += 1
    return m


@njit(cache=True, nogil=True)
def is_return(first: int, last: int, at: I64, now: int, after_us: int) -> bool:
    """Whether the newest event of a history (oldest first) up to `now` is older than `after_us`."""
    for p in range(last - 1, first - 1, -1):
        if at[p] <= now:
            return now - at[p] > after_us
    return False


@njit(cache=True, nogil=True)
def mask(values: F32, first: int, last: int, excluded: I32) -> None:
    """Give excluded rows -inf, which `best` never takes; rows that are not in `values` are passed over."""
    for p in range(first, last):
        row = excluded[p]
        if 0 <= row < len(values):
            values[row] = -np.inf


@njit(cache=True, nogil=True)
def dense_topk(
    start: int, stop: int, indptr: I64, items: I32, weights: F32, at: I64, now: I64, ex_indptr: I64, ex_items: I32,
    recency: F32, half_life_us: float, other: float, use_weights: bool, trend: F32, after_us: int,
    out_items: I32, out_scores: F32, matrix: I16, scale: F32,
) -> None:  # fmt: skip
    """`history @ (scale[:, None] * matrix)` for queries [start, stop), the best of it; nothing for no history.

    Positive scores are multiplied by `trend` (items,) where the history's newest event is older than `after_us`.
    """
    n_items = len(matrix)
    values = np.empty(n_items, np.float32)
    every = np.empty(n_items, np.int32)
    rows = np.empty(len(recency), np.int32)
    strengths = np.empty(len(recency), np.float32)
    for q in range(start, stop):
        m = history(
            indptr[q], indptr[q + 1], items, weights, at, now[q], n_items, recency, half_life_us, other, use_weights,
            rows, strengths,
        )  # fmt: skip
        for i in range(n_items):
            values[i], every[i] = 0.0, i
        j = 0
        while j + 4 <= m:  # four rows a pass: the sums are read and written a quarter as often
            r0, r1, r2, r3 = rows[j], rows[j + 1], rows[j + 2], rows[j + 3]
            s0, s1 = strengths[j] * scale[r0], strengths[j + 1] * scale[r1]
            s2, s3 = strengths[j + 2] * scale[r2], strengths[j + 3] * scale[r3]
            line0, line1, line2, line3 = matrix[r0], matrix[r1], matrix[r2], matrix[r3]
            for i in range(n_items):
                near = s0 * np.float32(line0[i]) + s1 * np.float32(line1[i])
                values[i] += near + (s2 * np.float32(line2[i]) + s3 * np.float32(line3[i]))
            j += 4
        for last in range(j, m):
            strength, line = strengths[last] * scale[rows[last]], matrix[rows[last]]
            for i in range(n_items):
                values[i] += strength * np.float32(line[i])
        if is_return(indptr[q], indptr[q + 1], at, now[q], after_us):
            for i in range(n_items):
                if values[i] > 0.0:
                    values[i] *= trend[i]
        mask(values, ex_indptr[q], ex_indptr[q + 1], ex_items)
        best(values, every, n_items if m else 0, out_items[q], out_scores[q])
