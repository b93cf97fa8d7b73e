"""Text cells to numbers and moments, ids to a set that holds a hundred million of them.

Texts are `data[offsets[i]:offsets[i + 1]]`, as Arrow keeps strings. Only the common spellings are read here, exactly;
whatever else a cell holds is marked OTHER and left to whoever calls.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

__all__ = ["EMPTY", "MOMENT", "NUMBER", "ODD_EDGE", "ODD_WORD", "OTHER", "admit", "look", "parse"]

U8 = npt.NDArray[np.uint8]
U64 = npt.NDArray[np.uint64]
I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]
F64 = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

ODD_EDGE, ODD_WORD = 1, 2
EMPTY, NUMBER, MOMENT, OTHER = 0, 1, 2, 3

_POWERS = 10.0 ** np.arange(23)  # all exact
_DAYS = np.array([31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])
_WORD = 6  # the longest way to write "no value", such as <null>


@njit(cache=True, nogil=True)
def look(offsets: I32, data: U8, out: U8) -> int:
    """Which texts may begin or end with a blank (ODD_EDGE) or may stand for no value (ODD_WORD); returns how many.

    A text is safe if both its ends are visible ASCII, and if it is longer than `<null>` or begins with no n N \\ <.
    """
    odd = 0
    for i in range(len(out)):
        at, end = offsets[i], offsets[i + 1]
        out[i] = 0
        if at == end:
            out[i] = ODD_WORD
        else:
            first, last = data[at], data[end - 1]
            if first <= 32 or first >= 127 or last <= 32 or last >= 127:
                out[i] = ODD_EDGE | ODD_WORD
            elif end - at <= _WORD and (first == 110 or first == 78 or first == 92 or first == 60):
                out[i] = ODD_WORD
        odd += out[i] != 0
    return odd


@njit(cache=True, nogil=True)
def parse(offsets: I32, data: U8, value: F64, us: I64, kind: U8) -> int:
    """Plain decimals to `value`, ISO 8601 moments to `us` (microseconds, else UTC); `kind` says which.

    A decimal has at most 18 digits; its float is correctly rounded (Clinger 1990: an exact integer over an exact power
    of ten). A moment is `YYYY-MM-DD`, then T or a blank and `HH:MM`, `:SS`, up to six decimals, then Z or `+HH:MM`,
    of a year 1900-2199. Returns how many are OTHER.
    """
    others = 0
    for i in range(len(kind)):
        at, end = offsets[i], offsets[i + 1]
        while at < end and data[at] == 32:
            at += 1
        while end > at and data[end - 1] == 32:
            end -= 1
        value[i], us[i] = np.nan, 0
        if at == end:
            kind[i] = EMPTY
            continue
        kind[i] = OTHER
        if end - at >= 10 and data[at + 4] == 45 and data[at + 7] == 45:
            found, moment = _moment(data, at, end)
            if found:
                kind[i], us[i] = MOMENT, moment
        else:
            found, number = _number(data, at, end)
            if found:
                kind[i], value[i] = NUMBER, number
        others += kind[i] == OTHER
    return others


@njit(cache=True, nogil=True)
def _number(data: U8, at: int, end: int) -> tuple[bool, float]:
    negative = data[at] == 45
    if negative or data[at] == 43:
        at += 1
    whole, digits, behind = 0, 0, -1
    for p in range(at, end):
        byte = data[p]
        if 48 <= byte <= 57:
            whole = whole * 10 + (byte - 48)
            digits += 1
        elif byte == 46 and behind < 0 and digits:
            behind = digits
        else:
            return False, 0.0
        if digits > 18:
            return False, 0.0
    after = digits - behind if behind >= 0 else 0
    if not digits or (behind >= 0 and (after == 0 or whole > 9_007_199_254_740_992)):
        return False, 0.0
    number = np.float64(whole)
    if after:
        number /= _POWERS[after]
    return True, -number if negative else number


@njit(cache=True, nogil=True)
def _two(data: U8, at: int) -> Any:
    tens, ones = np.int64(data[at]) - 48, np.int64(data[at + 1]) - 48
    return tens * 10 + ones if 0 <= tens <= 9 and 0 <= ones <= 9 else -1


@njit(cache=True, nogil=True)
def _moment(data: U8, at: int, end: int) -> tuple[bool, Any]:
    century, rest, month, day = _two(data, at), _two(data, at + 2), _two(data, at + 5), _two(data, at + 8)
    year = century * 100 + rest
    if century < 19 or century > 21 or rest < 0 or month < 1 or month > 12 or day < 1:
        return False, 0
    leap = (year % 4 == 0 and year % 100 != 0) or year % 400 == 0
    if day > _DAYS[month - 1] + (1 if leap and month == 2 else 0):
        return False, 0
    # Days from the civil date: Hinnant 2013.
    y = year - (1 if month <= 2 else 0)
    of_era = y % 400
    of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    days = (y // 400) * 146_097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719_468
    seconds, micros, zone = 0, np.int64(0), 0
    at += 10
    if at < end:
        if (data[at] != 84 and data[at] != 32) or end - at < 6 or data[at + 3] != 58:
            return False, 0
        hour, minute = _two(data, at + 1), _two(data, at + 4)
        at += 6
        second = 0
        if at + 2 < end and data[at] == 58:
            second = _two(data, at + 1)
            at += 3
            if at < end and data[at] == 46:
                at += 1
                scale = 100_000
                while at < end and 48 <= data[at] <= 57:
                    if scale == 0:
                        return False, 0
                    micros += (np.int64(data[at]) - 48) * scale
                    scale //= 10
                    at += 1
                if scale == 100_000:
                    return False, 0
        if not (0 <= hour < 24 and 0 <= minute < 60 and 0 <= second < 60):
            return False, 0
        seconds = hour * 3600 + minute * 60 + second
        if at < end:
            if data[at] == 90 and at + 1 == end:
                at += 1
            elif (data[at] == 43 or data[at] == 45) and end - at == 6 and data[at + 3] == 58:
                off_hour, off_minute = _two(data, at + 1), _two(data, at + 4)
                if not (0 <= off_hour < 24 and 0 <= off_minute < 60):
                    return False, 0
                zone = (off_hour * 60 + off_minute) * 60 * (1 if data[at] == 43 else -1)
                at += 6
        if at != end:
            return False, 0
    return True, (days * 86_400 + seconds - zone) * 1_000_000 + micros


@njit(cache=True, nogil=True)
def admit(
    offsets: I32,
    data: U8,
    passing: BoolArray,
    slots: U64,
    first: int,
    ends: I64,
    texts: U8,
    fresh: I64,
    again: BoolArray,
) -> int:
    """Put the passing texts into the exact set `slots`; returns how many were new.

    fresh: (n,) room for the rows of the new texts, which get the ordinals `first`, `first` + 1, ... in their order;
    again: (n,) which texts pass and came before. Text k of before is `texts[ends[k]:ends[k + 1]]`, looked at only where
    hashes agree. slots: fewer than 2**32, open addressing; a slot holds the lower half of a hash and an ordinal + 1 (0:
    empty), and its place tells much of the upper half.
    """
    n, room = len(again), np.uint64(len(slots))
    hashes = np.empty(n, np.uint64)
    for i in range(n):
        hashes[i] = _hash(data, offsets[i], offsets[i + 1])
    count = 0
    # Apart from the hashing, so that the processor has several slots on their way at once.
    for i in range(n):
        again[i] = False
        if not passing[i]:
            continue
        h = hashes[i]
        # The upper half of the hash, spread evenly over any number of slots (Lemire 2019).
        place = (h >> np.uint64(32)) * room >> np.uint64(32)
        while True:
            slot = slots[np.int64(place)]
            if slot == np.uint64(0):
                slots[np.int64(place)] = (h << np.uint64(32)) | np.uint64(first + count + 1)
                fresh[count] = i
                count += 1
                break
            if slot >> np.uint64(32) == h & np.uint64(0xFFFFFFFF):
                k = np.int64(slot & np.uint64(0xFFFFFFFF)) - 1
                at, size = np.int64(offsets[i]), np.int64(offsets[i + 1] - offsets[i])
                if k < first:
                    again[i] = ends[k + 1] - ends[k] == size and _same(data, at, texts, ends[k], size)
                else:
                    row = fresh[k - first]
                    there = np.int64(offsets[row])
                    again[i] = offsets[row + 1] - there == size and _same(data, at, data, there, size)
                if again[i]:
                    break
            place += np.uint64(1)
            if place == room:
                place = np.uint64(0)
    return count


@njit(cache=True, nogil=True)
def _same(a: U8, at: int, b: U8, there: int, size: int) -> bool:
    for p in range(size):  # noqa: SIM110
        if a[at + p] != b[there + p]:
            return False
    return True


@njit(cache=True, nogil=True)
def _hash(data: U8, at: int, end: int) -> Any:
    """Words of eight bytes folded by multiplication, mixed as MurmurHash3 does at its end (Appleby 2011)."""
    h = np.uint64(0x9E3779B97F4A7C15) ^ (np.uint64(end - at) * np.uint64(0xC2B2AE3D27D4EB4F))
    while at < end:
        word = np.uint64(0)
        stop = min(end, at + 8)
        for p in range(at, stop):
            word = (word << np.uint64(8)) | np.uint64(data[p])
        h = (h ^ word) * np.uint64(0xD6E8FEB86659FD93)
        h ^= h >> np.uint64(32)
        at = stop
    h = (h ^ (h >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    h = (h ^ (h >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    return h ^ (h >> np.uint64(33))
