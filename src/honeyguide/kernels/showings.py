"""Rings of what was shown lately: the newest of everybody, chained by person."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

__all__ = ["chain"]


@njit(cache=True, nogil=True)
def chain(item: Any, at: Any, before: Any, newest: int, written: int, since_us: int, most: int) -> Any:
    """Items (int32) and times (int64) of a person's showings at or after a moment, newest first, `most` at most.

    item, at, before: rings of one length, place = number % length; before: the number of the person's showing before,
    -1 none. newest: the number of the person's newest. written: how many were written in all; older ones than the
    length of the ring are gone. An item of -1 was erased.
    """
    size = len(item)
    rows, times = np.empty(most, np.int32), np.empty(most, np.int64)
    n, number = 0, newest
    while number >= 0 and number >= written - size and n < most:
        place = number % size
        if at[place] < since_us:
            break
        if item[place] >= 0:
            rows[n], times[n] = item[place], at[place]
            n += 1
        number = before[place]
    return rows[:n], times[:n]
