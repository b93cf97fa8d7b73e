"""Counting in a fixed amount of memory: hashes of texts, distinct values, events per person and minute, sets of hashes.

Every sketch is a sum: those of two parts of the data together make one of the whole.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from numba import njit

__all__ = ["REGISTERS", "added", "count_rates", "distinct", "hash_texts", "seen"]

U8 = npt.NDArray[np.uint8]
U16 = npt.NDArray[np.uint16]
U64 = npt.NDArray[np.uint64]
I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

REGISTERS = 1 << 12
"""Of a distinct count; its standard error is 1.04 / sqrt(4096) = 1.6 %."""

_MINUTE_US, _HOUR_US = 60_000_000, 3_600_000_000
_FULL = 65_535


@njit(cache=True, nogil=True)
def hash_texts(offsets: I32, data: U8, valid: BoolArray, registers: U8, out: U64) -> None:
    """64-bit hash of each text into `out` (0 where not valid), and their distinct count into `registers`.

    offsets: (n + 1,) into data, as Arrow keeps strings; valid, out: (n,); registers: (REGISTERS,) of `distinct`.
    Words of eight bytes are folded by multiplication, then mixed as MurmurHash3 does at its end (Appleby 2011).
    """
    for row in range(len(out)):
        if not valid[row]:
            out[row] = np.uint64(0)
            continue
        at, end = offsets[row], offsets[row + 1]
        h = np.uint64(0x9E3779B97F4A7C15) ^ (np.uint64(end - at) * np.uint64(0xC2B2AE3D27D4EB4F))
        while at + 8 <= end:
            word = (
                np.uint64(data[at])
                | (np.uint64(data[at + 1]) << np.uint64(8))
                | (np.uint64(data[at + 2]) << np.uint64(16))
                | (np.uint64(data[at + 3]) << np.uint64(24))
                | (np.uint64(data[at + 4]) << np.uint64(32))
                | (np.uint64(data[at + 5]) << np.uint64(40))
                | (np.uint64(data[at + 6]) << np.uint64(48))
                | (np.uint64(data[at + 7]) << np.uint64(56))
            )
            h = (h ^ word) * np.uint64(0xD6E8FEB86659FD93)
            h ^= h >> np.uint64(32)
            at += 8
        rest = np.uint64(0)
        while at < end:
            rest = (rest << np.uint64(8)) | np.uint64(data[at])
            at += 1
        h = (h ^ rest) * np.uint64(0xFF51AFD7ED558CCD)
        h ^= h >> np.uint64(33)
        h *= np.uint64(0xC4CEB9FE1A85EC53)
        h ^= h >> np.uint64(33)
        out[row] = h
        place = np.int64(h & np.uint64(REGISTERS - 1))
        left = h >> np.uint64(12)
        rank = 1
        while rank < 53 and not left & np.uint64(1):
            left >>= np.uint64(1)
            rank += 1
        if rank > registers[place]:
            registers[place] = rank


def distinct(registers: U8) -> float:
    """How many different values went into `registers`.

    Source: Flajolet, Fusy, Gandouet and Meunier 2007 (HyperLogLog), with linear counting while registers are empty.
    """
    m = len(registers)
    raw = 0.7213 / (1 + 1.079 / m) * m * m / float(np.sum(np.exp2(-registers.astype(np.float64))))
    empty = int(np.count_nonzero(registers == 0))
    return m * math.log(m / empty) if raw <= 2.5 * m and empty else raw


@njit(cache=True, nogil=True)
def count_rates(
    who: U64, at: I64, minutes: U64, hours: U64, peak_minute: U16, peak_hour: U16, in_minute: U16, in_hour: U16
) -> None:
    """Count each event for its person and minute, and for its person and hour; how many those have so far, into
    `in_minute` and `in_hour`.

    who: (n,) hashes; at: (n,) microseconds; in_minute, in_hour: (n,). minutes, hours: cells, a power of two, each the
    tag of one pair (48 bits) and its count (16 bits, up to 65,535). An event of another pair takes one off the count,
    and the cell once it is at zero; so a count is never above the truth, and below it by at most the events of other
    pairs in the same cell. peak_minute, peak_hour: a power of two, the highest count among the people of each cell.
    Source: the majority vote of Boyer and Moore 1981 per cell, as in Misra and Gries 1982.
    """
    people = np.uint64(len(peak_minute) - 1)
    for i in range(len(who)):
        person = np.int64(who[i] & people)
        count = _vote(minutes, who[i], at[i] // _MINUTE_US)
        in_minute[i] = count
        if count > peak_minute[person]:
            peak_minute[person] = count
        count = _vote(hours, who[i], at[i] // _HOUR_US)
        in_hour[i] = count
        if count > peak_hour[person]:
            peak_hour[person] = count


@njit(cache=True, nogil=True, inline="always")
def _vote(cells: U64, who: int, slot: int) -> int:
    h = (who ^ (np.uint64(slot) * np.uint64(0x9E3779B97F4A7C15))) * np.uint64(0xD6E8FEB86659FD93)
    h ^= h >> np.uint64(32)
    h *= np.uint64(0xFF51AFD7ED558CCD)
    place = np.int64(h & np.uint64(len(cells) - 1))
    tag, cell = h >> np.uint64(16), cells[place]
    count = cell & np.uint64(_FULL)
    if cell >> np.uint64(16) == tag:
        if count < np.uint64(_FULL):
            cells[place] = cell + np.uint64(1)
            count += np.uint64(1)
        return int(count)
    if count > np.uint64(1):
        cells[place] = cell - np.uint64(1)
        return 1
    cells[place] = (tag << np.uint64(16)) | np.uint64(1)
    return 1


def added(one: U64, other: U64) -> U64:
    """The cells of `count_rates` over two parts, as one: counts of the same pair add up, else the larger wins the
    difference."""
    count, others = one & np.uint64(_FULL), other & np.uint64(_FULL)
    same = (one ^ other) >> np.uint64(16) == 0
    both = np.minimum(count + others, np.uint64(_FULL))
    left = np.where(count >= others, count - others, others - count)
    tag = np.where(count >= others, one, other) & ~np.uint64(_FULL)
    return tag | np.where(same, both, left)


@njit(cache=True, nogil=True)
def seen(slots: U64, hashes: U64, add: bool, out: BoolArray) -> int:
    """Which hashes are in the set `slots` (open addressing, 0 = empty; at most half full), adding the others if told.

    slots: a power of two. Returns how many were added. The hash 0 counts as the hash 1.
    """
    mask, added = np.uint64(len(slots) - 1), 0
    for i in range(len(hashes)):
        h = hashes[i] if hashes[i] != np.uint64(0) else np.uint64(1)
        place = (h ^ (h >> np.uint64(29))) & mask
        while slots[np.int64(place)] != np.uint64(0) and slots[np.int64(place)] != h:
            place = (place + np.uint64(1)) & mask
        out[i] = slots[np.int64(place)] == h
        if add and not out[i]:
            slots[np.int64(place)] = h
            added += 1
    return added
