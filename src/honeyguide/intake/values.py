"""Columns of any type to text, numbers, times, lists and JSON: vectorised, and never an exception for a bad cell."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from honeyguide.intake.dates import written

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "Numbers", "TimeReader", "Times", "as_json", "both_objects", "frozen", "lists", "numbers", "objects", "parts_of",
    "text", "time_unit", "times", "unchunked",
]  # fmt: skip

Mask = npt.NDArray[np.bool_]

_NO_VALUE = ["", "null", "NULL", "Null", "None", "none", "nan", "NaN", "NAN", "\\N", "<null>", "<NA>"]
_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
_COMMA = r"^[+-]?(\d+,(\d{1,2}|\d{4,})|\d{1,3}(\.\d{3})+,\d+)$"
"""12,5 and 1.234,56: a comma that can only stand before decimals. 1,234 may be either, and is no number here."""
_GROUPED = r"^[+-]?(\d{1,3}(,\d{3})+\.\d*|\d{1,3}(,\d{3}){2,})$"
"""1,234.56 and 1,234,567: commas that can only part thousands."""
_DOTTED = r"^\s*[+-]?\d{1,3}\.\d{3}\s*$"
_NOT_FINITE = r"(?i)^[+-]?(inf|infinity|nan)$"
_ISO = r"^\d{4}-\d{1,2}-\d{1,2}([T ]\S.*)?$"
_ESCAPED = np.array([byte < 32 or byte in (34, 92, 127) for byte in range(256)])
_US = 1_000_000
_DAY_US = 86_400 * _US
_LIMIT_US = 253_402_300_800 * _US  # the year 10000


class Numbers(NamedTuple):
    """A column as numbers: nan where there is none; which cells hold something unreadable, which nan or infinity."""

    values: npt.NDArray[np.float64]
    unreadable: Mask
    not_finite: Mask


class Times(NamedTuple):
    """A column as moments: microseconds, 0 where there is none; which cells are empty, which are unreadable."""

    us: npt.NDArray[np.int64]
    missing: Mask
    unreadable: Mask
    unit: str  # how the column was read, for a person
    ambiguous: str | None = None  # a cell that may be day first or month first, and no other tells which


def text(column: pa.ChunkedArray, *, trim: bool = True) -> pa.Array:
    """Any column as strings, null where there is no value. Whole floats lose their `.0` (ids read as 42.0)."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.types as t

    flat, kind = unchunked(column), column.type
    if t.is_string(kind):
        return _tidied(flat) if trim else _spoken_for(flat)
    if t.is_floating(kind):
        wide = flat.cast(pa.float64())
        values = pc.fill_null(wide, np.nan).to_numpy(zero_copy_only=False)
        whole = (np.abs(values) < 2**53) & (values == np.round(values))
        flat = pa.array(values, from_pandas=True)
        digits = pa.array(np.where(whole, values, 0).astype(np.int64)).cast(pa.string())
        return digits if whole.all() else pc.if_else(pa.array(whole), digits, flat.cast(pa.string()))
    if t.is_nested(kind):
        return as_json(flat)
    return flat.cast(pa.string())


def _tidied(flat: pa.Array) -> pa.Array:
    """Trimmed, and null for words that say there is no value; most columns need neither and come back as they are."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from honeyguide.kernels import cells

    offsets, data = parts_of(flat)
    odd = np.empty(len(flat), np.uint8)
    if not cells.look(offsets, data, odd):
        return flat
    which = pa.array(odd > 0)
    found = flat.filter(which)
    if np.any(odd & cells.ODD_EDGE):
        found = pc.utf8_trim_whitespace(found)
    found = _spoken_for(found)
    return found if len(found) == len(flat) else pc.replace_with_mask(flat, which, found)


def _spoken_for(flat: pa.Array) -> pa.Array:
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.if_else(pc.is_in(flat, value_set=pa.array(_NO_VALUE)), pa.scalar(None, pa.string()), flat)


def parts_of(flat: pa.Array) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.uint8]]:
    """A string array's offsets (n + 1,) and bytes as the kernels take them. A null's bytes mean nothing."""
    _, offsets, data = flat.buffers()
    if not len(flat):
        return frozen(np.zeros(1, np.int32)), frozen(np.zeros(1, np.uint8))
    at = np.frombuffer(offsets, np.int32)[flat.offset : flat.offset + len(flat) + 1]
    cells = np.zeros(1, np.uint8) if data is None or not data.size else np.frombuffer(data, np.uint8)
    return frozen(at), frozen(cells)


def frozen(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The array as read-only, as most of Arrow's are: numba would compile one kernel more for the others."""
    view = array.view()
    view.flags.writeable = False
    return view


def numbers(column: pa.ChunkedArray) -> Numbers:
    """Any column as float64."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.types as t

    flat, kind = unchunked(column), column.type
    if t.is_integer(kind) or t.is_floating(kind) or t.is_boolean(kind) or t.is_decimal(kind):
        whole = flat.cast(pa.int8()) if t.is_boolean(kind) else flat
        wide = whole.cast(pa.float64(), safe=False)
        values = pc.fill_null(wide, np.nan).to_numpy(zero_copy_only=False)
        odd = ~np.isfinite(values) & flat.is_valid().to_numpy(zero_copy_only=False)
        return Numbers(np.where(odd, np.nan, values), np.zeros(len(values), bool), odd)
    words = flat if t.is_string(kind) else text(column)
    return _numbers_in(words, *_parsed(words))


def _numbers_in(words: pa.Array, value: npt.NDArray[np.float64], kind: npt.NDArray[np.uint8]) -> Numbers:
    """Of parsed cells; those that are no plain decimal are looked at one by one."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from honeyguide.kernels import cells

    unreadable, not_finite = np.zeros(len(words), bool), np.zeros(len(words), bool)
    rest = np.flatnonzero(kind > cells.NUMBER)
    if len(rest):
        left = words.take(pa.array(rest))
        value[rest], unreadable[rest], not_finite[rest] = _odd_numbers(left)
        if pc.any(pc.match_substring_regex(left, _COMMA)).as_py():
            # Beside 12,5 a 1.234 is more likely 1234 than 1.234: nobody can tell.
            either = pc.fill_null(pc.match_substring_regex(words, _DOTTED), False).to_numpy(zero_copy_only=False)
            value[either], unreadable[either] = np.nan, True
    return Numbers(value, unreadable, not_finite)


def _odd_numbers(words: pa.Array) -> Numbers:
    import pyarrow as pa
    import pyarrow.compute as pc

    filled = pc.fill_null(pc.utf8_trim_whitespace(words), "")
    comma, grouped = (pc.match_substring_regex(filled, pattern) for pattern in (_COMMA, _GROUPED))
    if pc.any(comma).as_py():
        points = pc.replace_substring(pc.replace_substring(filled, ".", ""), ",", ".")
        filled = pc.if_else(comma, points, filled)
    if pc.any(grouped).as_py():
        filled = pc.if_else(grouped, pc.replace_substring(filled, ",", ""), filled)
    good = pc.match_substring_regex(filled, _NUMBER)
    parsed = pc.if_else(good, filled, pa.scalar(None, pa.string())).cast(pa.float64())
    values = pc.fill_null(parsed, np.nan).to_numpy(zero_copy_only=False)
    overflown = np.isinf(values)
    empty = pc.is_in(filled, value_set=pa.array(_NO_VALUE)).to_numpy(zero_copy_only=False)
    is_number = good.to_numpy(zero_copy_only=False)
    odd = pc.match_substring_regex(filled, _NOT_FINITE).to_numpy(zero_copy_only=False) & ~empty
    return Numbers(np.where(overflown, np.nan, values), ~(is_number | empty | odd), odd | overflown)


def _parsed(words: pa.Array, us: npt.NDArray[np.int64] | None = None) -> tuple[Any, Any]:
    """Plain decimals (nan elsewhere) and what each cell is; moments into `us`."""
    from honeyguide.kernels import cells

    n = len(words)
    value, kind = np.empty(n, np.float64), np.empty(n, np.uint8)
    cells.parse(*parts_of(words), value, np.empty(n, np.int64) if us is None else us, kind)
    if words.null_count:
        null = words.is_null().to_numpy(zero_copy_only=False)
        value[null], kind[null] = np.nan, cells.EMPTY
    return value, kind


def time_unit(values: npt.NDArray[np.float64]) -> str:
    """The unit of numeric timestamps, by their median: s, ms, us, ns, or yyyymmdd.

    The thresholds lie between the readings of 1970-1990 in one unit and of the far future in the one below.
    """
    finite = values[np.isfinite(values)]
    if not len(finite):
        return "s"
    middle = float(np.median(np.abs(finite)))
    if 19_000_101 <= middle <= 21_001_231 and np.all(finite == np.round(finite)):
        month, day = finite // 100 % 100, finite % 100
        if np.mean((month >= 1) & (month <= 12) & (day >= 1) & (day <= 31)) > 0.99:
            return "yyyymmdd"
    return "s" if middle < 1e11 else "ms" if middle < 1e14 else "us" if middle < 1e17 else "ns"


def times(column: pa.ChunkedArray) -> Times:
    """Any column as microseconds since the epoch, UTC. A time without a zone counts as UTC; text as in `dates`."""
    return TimeReader().read(column)


class TimeReader:
    """Reads a column of times part by part. What the first part tells (numbers or text, their unit, whether the day or
    the month stands first) is held: a later cell that contradicts it is unreadable, or lands where no time can be."""

    day_first: bool | None
    """Of dates such as 01/02/2026; None as long as nothing tells."""

    def __init__(self) -> None:
        self._unit: str | None = None
        self._numeric: bool | None = None  # of a column of strings
        self.day_first = None

    def memory(self) -> dict[str, Any]:
        """What is held, as JSON, for another load of rows of the same file."""
        return {"unit": self._unit, "numeric": self._numeric, "day_first": self.day_first}

    @classmethod
    def remembering(cls, memory: Mapping[str, Any]) -> TimeReader:
        """A reader that holds what another one held; numbers may come as texts now."""
        reader = cls()
        reader._unit, reader.day_first = memory["unit"], memory["day_first"]
        reader._numeric = True if memory["unit"] is not None else memory["numeric"]
        return reader

    def read(self, column: pa.ChunkedArray) -> Times:
        """The next part."""
        import pyarrow as pa
        import pyarrow.compute as pc
        import pyarrow.types as t

        flat, kind = unchunked(column), column.type
        missing = flat.is_null().to_numpy(zero_copy_only=False)
        if t.is_timestamp(kind):
            raw = pc.fill_null(flat.view(pa.int64()), 0).to_numpy(zero_copy_only=False)
            us, bad = _scaled_int(raw, kind.unit)
            return Times(us, missing, bad, f"timestamp[{kind.unit}]" + ("" if kind.tz else ", taken as UTC"))
        if t.is_date(kind):
            days = pc.fill_null(flat.cast(pa.date32()).view(pa.int32()), 0).to_numpy(zero_copy_only=False)
            days = days.astype(np.int64)
            us, bad = _bounded(days * _DAY_US, np.abs(days) > _LIMIT_US // _DAY_US)
            return Times(us, missing, bad, "dates, taken as midnight UTC")
        if t.is_integer(kind):
            whole = pc.fill_null(flat, 0).to_numpy(zero_copy_only=False)
            unit = self._unit_of(whole[~missing].astype(np.float64))
            if unit != "yyyymmdd":
                us, bad = _scaled_int(whole.astype(np.int64), unit)
                return Times(us, missing, bad, _spoken(unit))
        if t.is_string(kind):
            return self._of_text(flat)
        read = numbers(column)
        return self._of_numbers(read, missing | np.isnan(read.values) & ~read.unreadable & ~read.not_finite)

    def _unit_of(self, values: npt.NDArray[np.float64]) -> str:
        if self._unit is None:
            unit = time_unit(values)
            if not np.isfinite(values).any():
                return unit
            self._unit = unit
        return self._unit

    def _of_numbers(self, read: Numbers, missing: Mask) -> Times:
        unit = self._unit_of(read.values)
        us, bad = _scaled_float(read.values, unit)
        return Times(us, missing, (bad | read.unreadable | read.not_finite) & ~missing, _spoken(unit))

    def _of_text(self, flat: pa.Array) -> Times:
        import pyarrow as pa

        from honeyguide.kernels import cells

        n = len(flat)
        us = np.empty(n, np.int64)
        value, kind = _parsed(flat, us)
        if not np.any(kind == cells.OTHER):
            missing = kind == cells.EMPTY
            numeric = kind == cells.NUMBER
            words = flat
        else:
            words = text(pa.chunked_array([flat]))
            read = _numbers_in(words, value, kind)
            missing = words.is_null().to_numpy(zero_copy_only=False)
            numeric = ~missing & (kind != cells.MOMENT) & ~read.unreadable & ~read.not_finite
        if self._numeric is None and not missing.all():
            self._numeric = 2 * int(numeric.sum()) > n - int(missing.sum())
        if self._numeric:
            odd = ~missing & ~numeric
            return self._of_numbers(Numbers(value, odd, np.zeros(n, bool)), missing)
        bad = kind != cells.MOMENT
        us[bad] = 0
        rest = np.flatnonzero(bad & ~missing)
        if not len(rest):
            return Times(us, missing, bad & ~missing, "ISO 8601, UTC where no zone is given")
        return self._odd_moments(words, us, missing, rest)

    def _odd_moments(self, words: pa.Array, us: npt.NDArray[np.int64], missing: Mask, rest: npt.NDArray[Any]) -> Times:
        import pandas as pd
        import pyarrow as pa
        import pyarrow.compute as pc

        bad = np.zeros(len(us), bool)
        # BigQuery and some shops write "2019-10-01 00:00:00 UTC".
        cells = pc.replace_substring_regex(words.take(pa.array(rest)), r"\s*(UTC|GMT)$", "")
        shaped = pc.match_substring_regex(cells, _ISO)
        plain = pc.if_else(shaped, cells, pa.scalar(None, pa.string())).to_numpy(zero_copy_only=False)
        parsed = pd.to_datetime(plain, errors="coerce", utc=True, format="ISO8601").as_unit("us")
        bad[rest] = parsed.isna()
        us[rest] = np.where(bad[rest], 0, parsed.asi8)
        some_iso = len(rest) < len(us) - int(missing.sum()) or bool(pc.any(shaped).as_py())
        unit, ambiguous = "ISO 8601", None
        human = rest[~shaped.to_numpy(zero_copy_only=False)]
        if len(human):
            shown = cells.filter(pc.invert(shaped))
            found = written(shown, self.day_first)
            self.day_first = found.day_first
            us[human], bad[human] = found.us, ~found.readable
            unit = " and ".join([unit, *found.forms] if some_iso else found.forms) or unit
            # A few such cells among others are rows that cannot be read, no trouble of the column.
            ambiguous = found.ambiguous if 2 * int((bad & ~missing).sum()) > int((~missing).sum()) else None
        return Times(us, missing, bad & ~missing, f"{unit}, UTC where no zone is given", ambiguous)


def _spoken(unit: str) -> str:
    names = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
    return f"{names[unit]} since 1970" if unit in names else "dates as yyyymmdd, taken as midnight UTC"


def _scaled_int(raw: npt.NDArray[np.int64], unit: str) -> tuple[npt.NDArray[np.int64], Mask]:
    if unit == "ns":
        return _bounded(raw // 1000, np.zeros(len(raw), bool))
    factor = {"s": _US, "ms": 1000, "us": 1}[unit]
    far = (raw > _LIMIT_US // factor) | (raw < -(_LIMIT_US // factor))
    return _bounded(np.where(far, 0, raw) * factor, far)


def _scaled_float(raw: npt.NDArray[np.float64], unit: str) -> tuple[npt.NDArray[np.int64], Mask]:
    if unit == "yyyymmdd":
        return _calendar_days(raw)
    scaled = np.round(raw * {"s": 1e6, "ms": 1e3, "us": 1.0, "ns": 1e-3}[unit])
    far = ~(np.abs(scaled) <= _LIMIT_US)
    return _bounded(np.where(far, 0, scaled).astype(np.int64), far)


def _calendar_days(raw: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.int64], Mask]:
    whole = np.where(np.isfinite(raw) & (np.abs(raw) < 1e8), raw, 0).astype(np.int64)
    year, month, day = whole // 10_000, whole // 100 % 100, whole % 100
    start = (year - 1970).astype("datetime64[Y]").astype("datetime64[M]") + np.clip(month - 1, 0, 11)
    date = start.astype("datetime64[D]") + np.clip(day - 1, 0, 30)
    bad = (month < 1) | (month > 12) | (day < 1) | (date.astype("datetime64[M]") != start)
    return _bounded(np.where(bad, 0, date.astype("datetime64[us]").astype(np.int64)), bad)


def _bounded(us: npt.NDArray[np.int64], bad: Mask) -> tuple[npt.NDArray[np.int64], Mask]:
    bad = bad | (us > _LIMIT_US) | (us < -_LIMIT_US)
    return np.where(bad, 0, us), bad


def lists(column: pa.ChunkedArray, *, spaces: bool = False) -> pa.Array:
    """Any column as lists of trimmed, non-empty strings; null where there is none.

    Strings are cut at `|`, else `;`, else `,` (whichever the column holds first in this order), or at spaces if told
    so; a JSON array is read as one.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.types as t

    kind = column.type
    if t.is_list(kind) or t.is_large_list(kind) or t.is_fixed_size_list(kind) or t.is_list_view(kind):
        nested = unchunked(column).cast(pa.list_(pa.string()))
    else:
        words = text(column)
        holds = [mark for mark in "|;," if pc.any(pc.match_substring(words, mark)).as_py()]
        nested = pc.split_pattern(words, holds[0]) if holds else pc.split_pattern(words, "\x1f")
        if spaces and "|" not in holds:
            nested = pc.utf8_split_whitespace(words)
        arrays = pc.fill_null(pc.match_substring_regex(words, r"^\[.*\]$"), False).to_numpy(zero_copy_only=False)
        if arrays.any():
            rows = nested.to_pylist()
            for at in np.flatnonzero(arrays):
                rows[at] = _json_list(words[int(at)].as_py())
            nested = pa.array(rows, pa.list_(pa.string()))
    return _tidy(nested)


def _json_list(word: str) -> list[str]:
    for candidate in (word, word.replace("'", '"')):
        try:
            return [str(part) for part in json.loads(candidate)]
        except ValueError:
            continue
    return [part.strip(" '\"") for part in word[1:-1].split(",")]


def _tidy(nested: pa.Array) -> pa.Array:
    import pyarrow as pa
    import pyarrow.compute as pc

    flat = pc.utf8_trim_whitespace(pc.list_flatten(nested))
    parents = pc.list_parent_indices(nested).to_numpy()
    keep = pc.fill_null(pc.greater(pc.binary_length(flat), 0), False).to_numpy(zero_copy_only=False)
    sizes = np.bincount(parents[keep], minlength=len(nested))
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)
    empty = pa.array(sizes == 0)
    tidy = pa.ListArray.from_arrays(pa.array(offsets), flat.filter(pa.array(keep)))
    return pc.if_else(empty, pa.scalar(None, tidy.type), tidy)


def objects(table: pa.Table) -> pa.Array:
    """One JSON object per row with the values that are there; null where a row has none."""
    import pyarrow as pa
    import pyarrow.compute as pc

    named = [
        (json.dumps(name, ensure_ascii=False), as_json(unchunked(column)))
        for name, column in zip(table.column_names, table.columns, strict=True)
    ]
    named = [(key, pieces) for key, pieces in named if pieces.null_count < len(pieces)]
    if not named:
        return pa.nulls(table.num_rows, pa.string())
    if not any(pieces.null_count for _, pieces in named):
        cells = [part for at, (key, pieces) in enumerate(named) for part in (f"{',' if at else '{'}{key}:", pieces)]
        return pc.binary_join_element_wise(*cells, "}", "")
    parts = [pc.fill_null(pc.binary_join_element_wise(f",{key}:", pieces, ""), "") for key, pieces in named]
    inside = pc.binary_join_element_wise(*parts, "")
    body = pc.utf8_slice_codeunits(inside, 1)
    whole = pc.binary_join_element_wise("{", body, "}", "")
    return pc.if_else(pc.equal(inside, ""), pa.scalar(None, pa.string()), whole)


def both_objects(one: pa.Array, other: pa.Array, name: str = "") -> pa.Array:
    """JSON objects joined; what is no object in `one` stands under `name`."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if other.null_count == len(other):
        return one
    named = objects(pa.table({name: one}))
    is_object = pc.fill_null(pc.match_substring_regex(one, r"(?s)^\{.*\S.*\}$"), False)
    inside = pc.utf8_slice_codeunits(pc.if_else(is_object, one, named), 0, -1)
    both = pc.binary_join_element_wise(inside, pc.utf8_slice_codeunits(other, 1), ",")
    return pc.coalesce(both, one, other)


def as_json(column: pa.Array) -> pa.Array:
    """Each value as a JSON text; null (and nan, infinity, the empty string) where there is none."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.types as t

    kind = column.type
    if t.is_string(kind):
        offsets, data = parts_of(column)
        first, last = int(offsets[0]), int(offsets[-1])
        if not np.any(_ESCAPED[data[first:last]]):
            quoted = pc.binary_join_element_wise('"', column, '"', "")
            empty = offsets[1:] == offsets[:-1]
            return pc.if_else(pa.array(empty), pa.scalar(None, pa.string()), quoted) if empty.any() else quoted
        escaped = pc.replace_substring(pc.replace_substring(column, "\\", "\\\\"), '"', '\\"')
        control = pc.fill_null(pc.match_substring_regex(column, r"[\x00-\x1f\x7f]"), False).to_numpy(
            zero_copy_only=False
        )
        quoted = pc.binary_join_element_wise('"', escaped, '"', "")
        if control.any():
            rare = [json.dumps(value, ensure_ascii=False) for value in column.filter(pa.array(control)).to_pylist()]
            quoted = pc.replace_with_mask(quoted, pa.array(control), pa.array(rare, pa.string()))
        return pc.if_else(pc.equal(column, ""), pa.scalar(None, pa.string()), quoted)
    if t.is_floating(kind):
        finite = pc.if_else(pc.is_finite(column), column, pa.scalar(None, kind))
        return finite.cast(pa.string())
    if t.is_integer(kind) or t.is_boolean(kind):
        return column.cast(pa.string())
    if t.is_null(kind):
        return pa.nulls(len(column), pa.string())
    if t.is_nested(kind):
        rows: list[Any] = column.to_pylist()
        return pa.array(
            [None if row is None else json.dumps(row, ensure_ascii=False, default=str) for row in rows], pa.string()
        )
    if t.is_timestamp(kind) and kind.tz is not None:
        column = column.cast(pa.timestamp(kind.unit, tz="UTC"))
    return as_json(column.cast(pa.string()))


def unchunked(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """A column as one array."""
    import pyarrow as pa

    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
        if isinstance(column, pa.ChunkedArray):
            column = pa.concat_arrays(column.chunks)
    return column
