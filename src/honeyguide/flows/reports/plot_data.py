"""From the columns of an answer to what a chart draws: axes, series, and the words for a value."""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from honeyguide.errors import RequestError

if TYPE_CHECKING:
    import pyarrow as pa

    from honeyguide.flows.reports.saved_query import ChartSpec

__all__ = [
    "MOST_SERIES", "Axis", "Series", "axis_of", "column_of", "figure", "numbers_of", "series_of", "short", "text_of",
    "time_ticks",
]  # fmt: skip

F64 = npt.NDArray[np.float64]
MOST_SERIES = 8
_DAY_US = 86_400_000_000
_THIN = "\u202f"
Kind = Literal["time", "number", "text"]


@dataclass(frozen=True, slots=True)
class Axis:
    """The distinct places of a column: in order of size, or for text in order of appearance."""

    name: str
    kind: Kind
    places: F64  # microseconds, numbers, or 0, 1, 2, ... for text
    words: list[str]  # of text; else empty
    row: npt.NDArray[np.int64]  # per row of the answer: its place, -1 where the column is null

    def said(self, place: int) -> str:
        """A place in words."""
        if self.kind == "text":
            return self.words[place]
        return _moment(self.places[place]) if self.kind == "time" else figure(self.places[place])


@dataclass(frozen=True, slots=True)
class Series:
    """Series over one axis: a value per place and series, nan where there is none."""

    names: list[str]
    values: F64  # (places, series)
    low: F64 | None
    high: F64 | None
    notes: list[str]


def column_of(table: pa.Table, name: str) -> pa.ChunkedArray:
    """A column by name, or a RequestError that tells which there are."""
    if name not in table.column_names:
        known = ", ".join(table.column_names)
        raise RequestError(
            expected=f"a column of the answer ({known:.300})", got=f"{name!r:.80}", do="Mend the chart line."
        )
    return table[name]


def numbers_of(table: pa.Table, name: str) -> F64:
    """A column as numbers; nan for null and for what is not finite. A RequestError for text."""
    import pyarrow as pa
    import pyarrow.types as t

    column = column_of(table, name)
    if t.is_null(column.type):
        return np.full(len(column), np.nan)
    if not (
        t.is_integer(column.type)
        or t.is_floating(column.type)
        or t.is_decimal(column.type)
        or t.is_boolean(column.type)
    ):
        raise RequestError(
            expected=f"numbers in {name!r:.80}", got=f"{column.type}", do="Draw another column, or a table."
        )
    found = np.asarray(column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False), np.float64)
    return np.where(np.isfinite(found), found, np.nan)


def axis_of(table: pa.Table, name: str) -> Axis:
    """A column as an axis."""
    import pyarrow as pa
    import pyarrow.types as t

    column = column_of(table, name)
    if t.is_date(column.type) or t.is_timestamp(column.type):
        us = column.cast(pa.timestamp("us", getattr(column.type, "tz", None)), safe=False).cast(pa.int64())
        found = np.asarray(us.cast(pa.float64()).to_numpy(zero_copy_only=False), np.float64)
        return _ordered(name, "time", found)
    if t.is_integer(column.type) or t.is_floating(column.type) or t.is_decimal(column.type):
        return _ordered(name, "number", numbers_of(table, name))
    words = [text_of(value) for value in column.to_pylist()]
    seen = {word: place for place, word in enumerate(dict.fromkeys(words))}
    rows = np.array([seen[word] for word in words], np.int64)
    return Axis(name, "text", np.arange(len(seen), dtype=np.float64), list(seen), rows)


def _ordered(name: str, kind: Kind, found: F64) -> Axis:
    known = np.isfinite(found)
    places, at = np.unique(found[known], return_inverse=True)
    rows = np.full(len(found), -1, np.int64)
    rows[known] = at
    return Axis(name, kind, places, [], rows)


def series_of(table: pa.Table, axis: Axis, spec: ChartSpec) -> Series:
    """The series of a chart: one per y, or one per value of the color; the largest few, if there are many."""
    there = axis.row >= 0
    notes = [] if there.all() else [f"{int((~there).sum()):,} rows have no {axis.name} and are not drawn."]
    if spec.color:
        texts = [text_of(value) for value in column_of(table, spec.color).to_pylist()]
        seen = {name: n for n, name in enumerate(dict.fromkeys(texts))}
        code, names = np.array([seen[text] for text in texts], np.int64), list(seen)
        columns = [numbers_of(table, spec.y[0])]
    else:
        columns, names = [numbers_of(table, name) for name in spec.y], list(spec.y)
        code = np.zeros(table.num_rows, np.int64)
    if spec.color and len(names) > MOST_SERIES:
        size = np.bincount(code, np.abs(np.nan_to_num(columns[0])), len(names))
        kept = np.sort(np.argsort(-size, kind="stable")[:MOST_SERIES])
        notes.append(f"{MOST_SERIES} of {len(names):,} series are drawn, those with the largest sums.")
        there &= np.isin(code, kept)
        code, names = np.searchsorted(kept, code), [names[n] for n in kept]
    elif len(names) > MOST_SERIES:
        raise RequestError(expected=f"at most {MOST_SERIES} y", got=str(len(names)), do="Draw fewer, or a table.")
    rows = np.flatnonzero(there)
    wide = len(names) if spec.color else 1
    cells = axis.row[rows] * wide + code[rows]
    twice = len(cells) - len(np.unique(cells))
    if twice:
        by = f"{axis.name} and {spec.color}" if spec.color else axis.name
        notes.append(f"{twice:,} rows share {by} with a row before, which is the one drawn: group the query by {by}.")

    def spread(column: F64) -> F64:
        filled = np.full(len(axis.places) * wide, np.nan)
        # Backwards, so that of several rows in one place the first one stays.
        filled[cells[::-1]] = column[rows[::-1]]
        return filled.reshape(-1, wide)

    values = np.hstack([spread(column) for column in columns])
    low, high = (None, None) if spec.interval is None else (spread(numbers_of(table, name)) for name in spec.interval)
    lost = sum(int(np.isnan(column[rows]).sum()) for column in columns)
    if lost:
        notes.append(f"{lost:,} values are missing or not finite: gaps.")
    return Series(names, values, low, high, notes)


def text_of(value: Any) -> str:
    """A value as a person reads it."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float) and not math.isfinite(value):
        return "–"
    if isinstance(value, dt.datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    if isinstance(value, list):
        return ", ".join(text_of(one) for one in value)
    return str(value)


def figure(value: float, *, percent: bool = False) -> str:
    """A number with the digits that tell something, thousands apart."""
    if not math.isfinite(value):
        return "–"
    if percent:
        part = 100 * value
        if 0 < abs(part) < 0.01:
            return f"{'<' if part > 0 else '>−'}0.01{_THIN}%"
        digits = 0 if abs(part) >= 100 or part == round(part) else 1 if abs(part) >= 1 else 2
        return f"{part:,.{digits}f}{_THIN}%".replace(",", _THIN).replace("-", "−")
    if value == round(value) and abs(value) < 1e15:
        return f"{value:,.0f}".replace(",", _THIN).replace("-", "−")
    if 1e-3 <= abs(value) < 1e15:
        digits = max(0, 3 - math.floor(math.log10(abs(value))))
        said = f"{value:,.{digits}f}"
        return (said.rstrip("0").rstrip(".") if digits else said).replace(",", _THIN).replace("-", "−")
    return f"{value:.3g}".replace("-", "−")


def short(value: float, *, percent: bool = False) -> str:
    """A number for an axis: 1.2k, 3M."""
    if percent:
        return f"{100 * value:.6g}{_THIN}%".replace("-", "−")
    for unit, sign in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= max(unit, 1e4):  # 2026 is more often a year than 2k
            return f"{value / unit:.4g}{sign}".replace("-", "−")
    return f"{value:.4g}".replace("-", "−")


def _moment(us: float) -> str:
    at = dt.datetime(1970, 1, 1) + dt.timedelta(microseconds=int(us))
    return f"{at:%Y-%m-%d}" if int(us) % _DAY_US == 0 else f"{at:%Y-%m-%d %H:%M}"


_STEPS = [(n * 60_000_000, "%H:%M") for n in (1, 5, 15, 30)] + [(n * 3_600_000_000, "%H:%M") for n in (1, 3, 6, 12)]
_DAYS = (1, 2, 7, 14)
_MONTHS = (1, 2, 3, 6, 12, 24, 60, 120, 240, 600, 1200)


def time_ticks(low_us: float, high_us: float, about: int = 6) -> list[tuple[float, str]]:
    """Round moments between two, with their words: hours, days, Mondays, months or years."""
    span = max(high_us - low_us, 1.0)
    for step, form in _STEPS:
        if span / step <= about:
            first = math.ceil(low_us / step) * step
            return [(at, _said(at, form)) for at in np.arange(first, high_us + 1, step)]
    for days in _DAYS:
        if span / (days * _DAY_US) <= about:
            # Weeks begin on a Monday; the first of all days was a Thursday.
            shift = 4 * _DAY_US if days % 7 == 0 else 0
            step = days * _DAY_US
            first = math.ceil((low_us - shift) / step) * step + shift
            return [(at, _said(at, "%-d %b")) for at in np.arange(first, high_us + 1, step)]
    epoch = dt.datetime(1970, 1, 1)
    begin, end = (epoch + dt.timedelta(microseconds=int(us)) for us in (low_us, high_us))
    months = (end.year - begin.year) * 12 + end.month - begin.month
    step = next((n for n in _MONTHS if months / n <= about), _MONTHS[-1])
    found = []
    for month in range(begin.year * 12 + begin.month - 1, end.year * 12 + end.month):
        if month % step == 0:
            at = (dt.datetime(month // 12, month % 12 + 1, 1) - epoch).total_seconds() * 1e6
            if low_us <= at <= high_us:
                found.append((at, _said(at, "%Y" if step >= 12 else "%b %Y")))
    return found


def _said(at_us: float, form: str) -> str:
    at = dt.datetime(1970, 1, 1) + dt.timedelta(microseconds=int(at_us))
    return at.strftime(form.replace("%-d", str(at.day)))
