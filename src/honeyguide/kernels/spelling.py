"""The words of a vocabulary that are a few edits from one word: all of them looked at in one pass."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

__all__ = ["near_words"]

I64 = npt.NDArray[np.int64]
_ODD, _PAIRS = np.uint64(0x5555555555555555), np.uint64(0x3333333333333333)
_NIBBLES, _ONES = np.uint64(0x0F0F0F0F0F0F0F0F), np.uint64(0x0101010101010101)


@njit(cache=True)
def near_words(
    word: npt.NDArray[np.uint32],
    mask: np.uint64,
    codes: npt.NDArray[np.uint32],
    lengths: I64,
    masks: npt.NDArray[np.uint64],
    limit: int,
) -> tuple[Any, Any]:
    """Rows within `limit` edits of a word, ascending, and their distances; a swap of neighbours counts one.

    word: (m,) code points. codes: (n, width), zero-padded, with lengths (n,). mask, masks: a bit per letter of each
    word; one edit changes at most two letters, so most words fall out before any distance is computed. Cells further
    than `limit` from the diagonal are not looked at.
    Source: optimal string alignment, Damerau 1964 as restricted by Wagner and Lowrance 1975.
    """
    m, far = word.shape[0], limit + 1
    width = codes.shape[1]
    rows, distances = np.empty(codes.shape[0], np.int64), np.empty(codes.shape[0], np.int64)
    above2, above, row = np.empty(width + 1, np.int64), np.empty(width + 1, np.int64), np.empty(width + 1, np.int64)
    found = 0
    for at in range(codes.shape[0]):
        n = lengths[at]
        if n - m > limit or m - n > limit:
            continue
        bits = masks[at] ^ mask  # how many are set, added up in ever wider fields
        bits -= (bits >> np.uint64(1)) & _ODD
        bits = (bits & _PAIRS) + ((bits >> np.uint64(2)) & _PAIRS)
        bits = (((bits + (bits >> np.uint64(4))) & _NIBBLES) * _ONES) >> np.uint64(56)
        if bits > np.uint64(2 * limit):
            continue
        for j in range(n + 1):
            above[j] = min(j, far)
            above2[j] = far
        for i in range(1, m + 1):
            low, high = max(1, i - limit), min(n, i + limit)
            best = far
            row[low - 1] = i if low == 1 and i <= limit else far
            for j in range(low, high + 1):
                same = codes[at, j - 1] == word[i - 1]
                cell = above[j - 1] + (0 if same else 1)
                if j < i + limit:
                    cell = min(cell, above[j] + 1)
                cell = min(cell, row[j - 1] + 1)
                if i > 1 and j > 1 and codes[at, j - 1] == word[i - 2] and codes[at, j - 2] == word[i - 1]:
                    cell = min(cell, above2[j - 2] + 1)
                row[j] = min(cell, far)
                best = min(best, row[j])
            for j in range(high + 1, n + 1):
                row[j] = far
            for j in range(low - 1):
                row[j] = far
            if best > limit and row[low - 1] > limit:
                break
            above2, above, row = above, row, above2
        else:
            if above[n] <= limit:
                rows[found], distances[found] = at, above[n]
                found += 1
    return rows[:found].copy(), distances[:found].copy()
