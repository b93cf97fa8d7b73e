"""Lines of JSON, each an object, to the spans of their fields: every byte is checked, none copied until asked for.

The grammar is RFC 8259's, without exceptions: no raw control byte inside a string, no NaN, no comment. Half of a
surrogate pair, which is no text, counts as an error too. Of a field that is there twice the last counts.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

__all__ = [
    "ABSENT", "DEEP", "ESCAPED", "LITERAL", "MALFORMED", "NESTED", "NOT_OBJECT", "NULL", "NUMBER", "STRANGE", "TEXT",
    "compose", "gather", "scan",
]  # fmt: skip

U8 = npt.NDArray[np.uint8]
I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]

ABSENT, NULL, TEXT, ESCAPED, NUMBER, LITERAL, NESTED = 0, 1, 2, 3, 4, 5, 6
"""What a field holds; ESCAPED is a text with backslashes, LITERAL true or false, NESTED an object or a list."""
MALFORMED, NOT_OBJECT, STRANGE, DEEP = 1, 2, 3, 4
"""What is wrong with a line: no JSON, no object, a field whose name is not known, deeper than 128 levels."""

_LEVELS = 128
_PLAIN = np.array([byte >= 32 and byte not in (34, 92) for byte in range(256)])


@njit(cache=True, nogil=True)
def scan(
    data: U8, start: I64, end: I64, name_ends: I32, names: U8, column: I32, kind: U8, low: I32, high: I32, wrong: U8,
    strange: I32,
) -> int:  # fmt: skip
    """Check each line and find its fields; returns how many lines are wrong.

    start, end: (n,) the lines. Name k is names[name_ends[k]:name_ends[k + 1]], spelled as in the file (with its
    escapes), and belongs to column[k]. kind, low, high: (columns, n), what the field holds and where in `data`; a text
    without its quotes. wrong: (n,) 0 or what is wrong. strange: (n, 2) where the first name lies that is not known.
    """
    n, known = len(start), len(column)
    stack = np.zeros(_LEVELS, np.uint8)
    bad = 0
    for i in range(n):
        for k in range(kind.shape[0]):
            kind[k, i] = ABSENT
        at, stop = _blanks(data, start[i], end[i]), end[i]
        wrong[i] = 0
        if at >= stop or data[at] != 123:
            at, what = _value(data, at, stop, stack)
            wrong[i] = NOT_OBJECT if what != ABSENT and _blanks(data, at, stop) == stop else MALFORMED
            bad += 1
            continue
        at = _blanks(data, at + 1, stop)
        guess = 0
        more = not (at < stop and data[at] == 125)
        if not more:
            at += 1
        while more:
            if at >= stop or data[at] != 34:
                wrong[i] = MALFORMED
                break
            # Most lines name their fields in the same order: look there before anything else.
            name = at + 1
            size, found = np.int64(0), -1
            if known and _named(data, name, stop, names, name_ends[guess], name_ends[guess + 1]):
                size, found = np.int64(name_ends[guess + 1] - name_ends[guess]), guess
                at = name + size + 1
            else:
                at, what = _string(data, name, stop)
                if what == ABSENT:
                    wrong[i] = MALFORMED
                    break
                size = at - 1 - name
                for k in range(known):
                    if _named(data, name, stop, names, name_ends[k], name_ends[k + 1]):
                        found = k
                        break
            if found >= 0:
                guess = found + 1 if found + 1 < known else 0
            at = _blanks(data, at, stop)
            if at >= stop or data[at] != 58:
                wrong[i] = MALFORMED
                break
            first = _blanks(data, at + 1, stop)
            # Most values are plain texts; unsigned places compile without a check for places counted from the end.
            place, last, what = np.uint64(first) + np.uint64(1), np.uint64(stop), ABSENT
            if first < stop and data[first] == 34:
                while place < last and _PLAIN[data[place]]:
                    place += np.uint64(1)
                if place < last and data[place] == 34:
                    at, what = np.int64(place) + 1, TEXT
            if what == ABSENT:
                at, what = _value(data, first, stop, stack)
            if what == ABSENT:
                wrong[i] = DEEP if at == -1 else MALFORMED
                break
            if found < 0:
                if wrong[i] != STRANGE:
                    strange[i, 0], strange[i, 1] = name, name + size
                wrong[i] = STRANGE
            else:
                quotes = 1 if TEXT <= what <= ESCAPED else 0
                to = column[found]
                kind[to, i], low[to, i], high[to, i] = what, first + quotes, at - quotes
            at = _blanks(data, at, stop)
            if at < stop and data[at] == 44:
                at = _blanks(data, at + 1, stop)
            elif at < stop and data[at] == 125:
                at += 1
                more = False
            else:
                wrong[i] = MALFORMED
                break
        if not more and _blanks(data, at, stop) != stop:
            wrong[i] = MALFORMED
        bad += wrong[i] != 0
    return bad


@njit(cache=True, nogil=True)
def _named(data: U8, at: Any, stop: Any, names: U8, first: int, last: int) -> bool:
    """Whether a name and the closing quote stand here."""
    size = last - first
    if at + size >= stop or data[at + size] != 34:
        return False
    here, there = np.uint64(at), np.uint64(first)
    for p in range(np.uint64(size)):  # noqa: SIM110
        if data[here + p] != names[there + p]:
            return False
    return True


@njit(cache=True, nogil=True)
def _blanks(data: U8, at: int, stop: int) -> int:
    while at < stop and (data[at] == 32 or data[at] == 9 or data[at] == 13 or data[at] == 10):
        at += 1
    return at


@njit(cache=True, nogil=True)
def _hex(data: U8, at: int, stop: int) -> Any:
    """Four hexadecimal digits, -1 where there are none."""
    if at + 4 > stop:
        return -1
    code = np.int64(0)
    for p in range(at, at + 4):
        byte = np.int64(data[p])
        if 48 <= byte <= 57:
            code = code * 16 + byte - 48
        elif 65 <= byte <= 70 or 97 <= byte <= 102:
            code = code * 16 + (byte & 7) + 9
        else:
            return -1
    return code


@njit(cache=True, nogil=True)
def _string(data: U8, at: Any, stop: Any) -> tuple[Any, int]:
    """From behind the opening quote to behind the closing one; ABSENT if it is no string."""
    what = TEXT
    while at < stop:
        place, last = np.uint64(at), np.uint64(stop)
        while place < last and _PLAIN[data[place]]:
            place += np.uint64(1)
        at = np.int64(place)
        if at >= stop or data[at] < 32:
            return at, ABSENT
        if data[at] == 34:
            return at + 1, what
        what = ESCAPED
        if at + 1 >= stop:
            return at, ABSENT
        byte = data[at + 1]
        if byte == 117:
            code = _hex(data, at + 2, stop)
            at += 6
            if code < 0 or 0xDC00 <= code <= 0xDFFF:
                return at, ABSENT
            if 0xD800 <= code <= 0xDBFF:
                if at + 1 >= stop or data[at] != 92 or data[at + 1] != 117:
                    return at, ABSENT
                code = _hex(data, at + 2, stop)
                if code < 0xDC00 or code > 0xDFFF:
                    return at, ABSENT
                at += 6
        elif (
            byte == 34 or byte == 92 or byte == 47 or byte == 98 or byte == 102 or byte == 110 or byte == 114
            or byte == 116
        ):  # fmt: skip
            at += 2
        else:
            return at, ABSENT
    return at, ABSENT


@njit(cache=True, nogil=True)
def _digits(data: U8, at: int, stop: int) -> int:
    while at < stop and 48 <= data[at] <= 57:
        at += 1
    return at


@njit(cache=True, nogil=True)
def _plain(data: U8, at: int, stop: int) -> tuple[int, int]:
    """A number, true, false or null."""
    if at >= stop:
        return at, ABSENT
    byte = data[at]
    if byte == 116 and at + 4 <= stop and data[at + 1] == 114 and data[at + 2] == 117 and data[at + 3] == 101:
        return at + 4, LITERAL
    if byte == 110 and at + 4 <= stop and data[at + 1] == 117 and data[at + 2] == 108 and data[at + 3] == 108:
        return at + 4, NULL
    if (
        byte == 102 and at + 5 <= stop and data[at + 1] == 97 and data[at + 2] == 108 and data[at + 3] == 115
        and data[at + 4] == 101
    ):  # fmt: skip
        return at + 5, LITERAL
    if byte == 45:
        at += 1
    first = at
    at = _digits(data, at, stop)
    if at == first or (data[first] == 48 and at > first + 1):
        return at, ABSENT
    if at < stop and data[at] == 46:
        first = at + 1
        at = _digits(data, first, stop)
        if at == first:
            return at, ABSENT
    if at < stop and (data[at] == 101 or data[at] == 69):
        at += 1
        if at < stop and (data[at] == 43 or data[at] == 45):
            at += 1
        first = at
        at = _digits(data, first, stop)
        if at == first:
            return at, ABSENT
    return at, NUMBER


@njit(cache=True, nogil=True)
def _value(data: U8, at: int, stop: int, stack: U8) -> tuple[int, int]:
    """From a value's first byte to behind its last, and its kind: ABSENT (and -1 where too deep) if it is none."""
    if at >= stop:
        return at, ABSENT
    if data[at] == 34:
        return _string(data, at + 1, stop)
    if data[at] != 123 and data[at] != 91:
        return _plain(data, at, stop)
    depth = 0
    while True:
        # Here a value is due.
        at = _blanks(data, at, stop)
        if at >= stop:
            return at, ABSENT
        opened = data[at] == 123 or data[at] == 91
        if opened:
            if depth == _LEVELS:
                return -1, ABSENT
            stack[depth] = data[at]
            depth += 1
            at = _blanks(data, at + 1, stop)
            if at < stop and data[at] == stack[depth - 1] + 2:
                at += 1
                depth -= 1
            elif stack[depth - 1] == 91:
                continue
            else:
                at, what = _key(data, at, stop)
                if what == ABSENT:
                    return at, ABSENT
                continue
        else:
            at, what = _string(data, at + 1, stop) if data[at] == 34 else _plain(data, at, stop)
            if what == ABSENT:
                return at, ABSENT
        # Behind a value: close what closes.
        while depth:
            at = _blanks(data, at, stop)
            if at < stop and data[at] == stack[depth - 1] + 2:
                at += 1
                depth -= 1
                continue
            break
        if depth == 0:
            return at, NESTED
        if at >= stop or data[at] != 44:
            return at, ABSENT
        at = _blanks(data, at + 1, stop)
        if stack[depth - 1] == 123:
            at, what = _key(data, at, stop)
            if what == ABSENT:
                return at, ABSENT


@njit(cache=True, nogil=True)
def _key(data: U8, at: int, stop: int) -> tuple[int, int]:
    if at >= stop or data[at] != 34:
        return at, ABSENT
    at, what = _string(data, at + 1, stop)
    if what == ABSENT:
        return at, ABSENT
    at = _blanks(data, at, stop)
    if at >= stop or data[at] != 58:
        return at, ABSENT
    return at + 1, what


@njit(cache=True, nogil=True)
def gather(data: U8, kind: U8, low: I32, high: I32, base: I64, offsets: I32, out: U8) -> None:
    """The values of every column as texts, row by row, so that a line is fetched once.

    kind, low, high: (columns, n) of `scan`. Column k gets `out[base[k]:base[k + 1]]` at most, its texts back to back,
    and their ends (from 0) in `offsets[k]`, (columns, n + 1). Escapes are resolved; a number, a literal, an object or a
    list stays as it is written. Null and absent are empty.
    """
    columns, n = kind.shape
    for k in range(columns):
        offsets[k, 0] = 0
    for i in range(n):
        for k in range(columns):
            to = base[k] + offsets[k, i]
            what = kind[k, i]
            if what == ESCAPED:
                to = _resolved(data, low[k, i], high[k, i], out, to)
            elif what > NULL:
                place, there = np.uint64(low[k, i]), np.uint64(to)
                size = high[k, i] - low[k, i]
                for p in range(np.uint64(size)):
                    out[there + p] = data[place + p]
                to += size
            offsets[k, i + 1] = to - base[k]


@njit(cache=True, nogil=True)
def _resolved(data: U8, at: int, stop: int, out: U8, to: int) -> int:
    while at < stop:
        byte = data[at]
        if byte != 92:
            out[to] = byte
            at += 1
            to += 1
            continue
        byte = data[at + 1]
        at += 2
        if byte != 117:
            out[to] = (
                8 if byte == 98 else 12 if byte == 102 else 10 if byte == 110 else 13 if byte == 114
                else 9 if byte == 116 else byte
            )  # fmt: skip
            to += 1
            continue
        code = _hex(data, at, stop)
        at += 4
        if 0xD800 <= code <= 0xDBFF:
            code = 0x10000 + ((code - 0xD800) << 10) + (_hex(data, at + 2, stop) - 0xDC00)
            at += 6
        if code < 0x80:
            out[to] = code
            to += 1
        elif code < 0x800:
            out[to], out[to + 1] = 0xC0 | code >> 6, 0x80 | code & 63
            to += 2
        elif code < 0x10000:
            out[to], out[to + 1], out[to + 2] = 0xE0 | code >> 12, 0x80 | code >> 6 & 63, 0x80 | code & 63
            to += 3
        else:
            out[to], out[to + 1] = 0xF0 | code >> 18, 0x80 | code >> 12 & 63
            out[to + 2], out[to + 3] = 0x80 | code >> 6 & 63, 0x80 | code & 63
            to += 4
    return to


@njit(cache=True, nogil=True)
def compose(data: U8, kind: U8, low: I32, high: I32, which: I32, key_ends: I32, keys: U8, offsets: I32, out: U8) -> int:
    """One JSON object per row of the columns `which` as they are written, without null, absent and empty ones.

    kind, low, high: (columns, n) of `scan`; keys: `"name":` per column of `which`, back to back; offsets: (n + 1,);
    a row without any value is empty. Returns the bytes.
    """
    to = 0
    offsets[0] = 0
    for i in range(kind.shape[1]):
        first = True
        for j in range(len(which)):
            k = which[j]
            what = kind[k, i]
            quotes = 1 if TEXT <= what <= ESCAPED else 0
            if what <= NULL or (quotes and low[k, i] == high[k, i]):
                continue
            out[to] = 123 if first else 44
            to += 1
            first = False
            for p in range(key_ends[j], key_ends[j + 1]):
                out[to] = keys[p]
                to += 1
            for p in range(low[k, i] - quotes, high[k, i] + quotes):
                out[to] = data[p]
                to += 1
        if not first:
            out[to] = 125
            to += 1
        offsets[i + 1] = to
    return to
