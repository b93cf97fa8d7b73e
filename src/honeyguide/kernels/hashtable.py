"""Hash tables in plain arrays, which can be memory-mapped: from a 64-bit key to a number or a count."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

__all__ = ["EMPTY", "filled", "find", "mix", "rows_of"]

I64 = npt.NDArray[np.int64]

EMPTY = -(2**63)  # a free place; no key is this number


@njit(cache=True)
def mix(key: int) -> Any:
    """A number that looks random in every bit (the finaliser of splitmix64, Steele, Lea and Flood 2014)."""
    x = np.uint64(key) + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.int64(x ^ (x >> np.uint64(31)))


@njit(cache=True)
def find(keys: I64, mask: int, key: int) -> int:
    """The place of a key among `keys[: mask + 1]` (a power of two), or the free place where it would go."""
    place = mix(key) & mask
    while keys[place] != key and keys[place] != EMPTY:
        place = (place + 1) & mask
    return place


@njit(cache=True)
def rows_of(keys: I64, values: I64, wanted: I64, add: bool) -> I64:
    """The number of each wanted key, -1 if it has none (or is EMPTY); with `add` new keys get the next numbers.

    `values[-1]` counts the places in use, which is also the next number. There must be room for what is added.
    """
    rows, mask = np.full(wanted.shape[0], -1, np.int64), keys.shape[0] - 1
    for i in range(wanted.shape[0]):
        if wanted[i] == EMPTY:
            continue
        place = find(keys, mask, wanted[i])
        if keys[place] == EMPTY:
            if not add:
                continue
            keys[place], values[place] = wanted[i], values[-1]
            values[-1] += 1
        rows[i] = values[place]
    return rows


@njit(cache=True)
def filled(old_keys: I64, old_counts: I64, keys: I64, counts: I64) -> None:
    """Move what is counted (above zero) into an empty table; `counts[-1]` says how many places are in use."""
    mask = keys.shape[0] - 1
    for i in range(old_keys.shape[0]):
        if old_keys[i] != EMPTY and old_counts[i] > 0:
            place = find(keys, mask, old_keys[i])
            keys[place], counts[place] = old_keys[i], old_counts[i]
            counts[-1] += 1
