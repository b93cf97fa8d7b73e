"""What a load holds, in sums: rows, nulls, ranges, distinct values, what was done how often, events per hour.

A profile of one part plus a profile of another is the profile of both, so it is made batch by batch, in any order, in
one pass, in a fixed amount of memory, at about 0.1 microseconds of processor time an event.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from honeyguide.kernels.sketches import REGISTERS, distinct, hash_texts
from honeyguide.schema import columns as c
from honeyguide.schema.columns import Column
from honeyguide.schema.tables import Table

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["HOUR_US", "ColumnProfile", "Profile", "Profiled", "hashed", "profiled"]

HOUR_US = 3_600_000_000
MOST_VALUES = 64
"""A column with more different values than this is not described by them."""
_PROBE_ROWS = 2_000
_KEPT_HOURS = 24 * 35
_NUMERIC = frozenset({"int16", "int32", "int64", "float32", "float64", "timestamp"})
_IDS = (c.USER_ID, c.ITEM_ID)
_FREE_TEXT = frozenset(
    {c.EVENT_ID, c.REQUEST_ID, c.SESSION_ID, c.QUERY, c.TITLE, c.DESCRIPTION, c.IMAGE_URL, c.BOARD_ID}
)


@dataclass(frozen=True)
class ColumnProfile:
    """One column: how many nulls, the smallest and largest number (times in microseconds), which values how often.

    `values` is None where there are too many or the column is not one of few values; `registers` where distinct values
    are not counted.
    """

    nulls: int = 0
    low: float | None = None
    high: float | None = None
    values: Mapping[str, int] | None = field(default_factory=dict)
    registers: npt.NDArray[np.uint8] | None = None

    @property
    def distinct(self) -> int | None:
        """About how many different values (standard error 1.6 %)."""
        return None if self.registers is None else round(distinct(self.registers))

    def __add__(self, other: ColumnProfile) -> ColumnProfile:
        registers = self.registers
        if registers is None or other.registers is None:
            registers = registers if other.registers is None else other.registers
        else:
            registers = np.maximum(registers, other.registers)
        return ColumnProfile(
            self.nulls + other.nulls,
            _first(min, self.low, other.low),
            _first(max, self.high, other.high),
            _summed(self.values, other.values),
            registers,
        )


@dataclass(frozen=True)
class Profile:
    """A load of one table, as far as it was accepted."""

    table: str
    rows: int = 0
    columns: Mapping[str, ColumnProfile] = field(default_factory=dict)
    hours: Mapping[int, int] = field(default_factory=dict)  # hour since 1970 -> events that happened in it

    def __add__(self, other: Profile) -> Profile:
        names = dict.fromkeys([*self.columns, *other.columns])
        return Profile(
            self.table,
            self.rows + other.rows,
            {name: self._column(name) + other._column(name) for name in names},
            _counted(self.hours, other.hours),
        )

    def _column(self, name: str) -> ColumnProfile:
        # A batch without the column holds nothing but nulls of it.
        return self.columns.get(name) or ColumnProfile(nulls=self.rows)

    @property
    def days(self) -> dict[int, int]:
        """Day since 1970 -> events that happened on it."""
        days: dict[int, int] = {}
        for hour, events in sorted(self.hours.items()):
            days[hour // 24] = days.get(hour // 24, 0) + events
        return days

    def record(self) -> dict[str, Any]:
        """The profile as JSON, for the history of loads: distinct values as their number, hours of five weeks."""
        since = max(self.hours, default=0) - _KEPT_HOURS
        return {
            "rows": self.rows,
            "hours": {str(hour): events for hour, events in sorted(self.hours.items()) if hour > since},
            "columns": {
                name: {
                    "nulls": column.nulls,
                    "low": column.low,
                    "high": column.high,
                    "values": None if column.values is None else dict(column.values),
                    "distinct": column.distinct,
                }
                for name, column in self.columns.items()
            },
        }


class Profiled(NamedTuple):
    """A batch's profile, and what was computed on the way and is asked again."""

    profile: Profile
    hashes: dict[str, npt.NDArray[np.uint64]]  # of the ids, 0 where null


def profiled(table: Table, batch: pa.Table | pa.RecordBatch, *, before: Profile | None = None) -> Profiled:
    """Profile of a batch in (some of) the table's columns.

    `before`: what earlier batches gave; a column that had too many values there is not asked for them again.
    """
    columns: dict[str, ColumnProfile] = {}
    hashes: dict[str, npt.NDArray[np.uint64]] = {}
    hours: dict[int, int] = {}
    for column in table.columns:
        if column not in batch.schema.names:
            continue
        array = flat(batch.column(column))
        nulls = array.null_count
        if nulls == len(array):
            columns[column] = ColumnProfile(nulls=nulls)
        elif column in _IDS:
            hashes[column], registers = hashed(array)
            columns[column] = ColumnProfile(nulls, values=None, registers=registers)
        elif column.dtype in _NUMERIC:
            low, high = _range(array)
            columns[column] = ColumnProfile(nulls, low, high, None)
            if column == c.HAPPENED_AT:
                hours = _hours(array, low, high)
        else:
            known = before.columns.get(column) if before is not None else None
            asked = _has_few_values(column) and (known is None or known.values is not None)
            columns[column] = ColumnProfile(nulls, values=_values(array) if asked else None)
    return Profiled(Profile(table.name, batch.num_rows, columns, hours), hashes)


def hashed(array: pa.Array) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint8]]:
    """Hashes of a string column (0 where null), and the registers of its distinct count."""
    import pyarrow as pa

    text = array if array.type == pa.string() else array.cast(pa.string())
    _, offsets, data = text.buffers()
    n = len(text)
    at = np.frombuffer(offsets, np.int32)[text.offset : text.offset + n + 1]
    cells = np.zeros(1, np.uint8) if data is None or not data.size else np.frombuffer(data, np.uint8)
    valid = np.ones(n, bool) if not text.null_count else text.is_valid().to_numpy(zero_copy_only=False)
    registers, out = np.zeros(REGISTERS, np.uint8), np.empty(n, np.uint64)
    hash_texts(_read_only(at), _read_only(cells), valid, registers, out)
    return out, registers


def flat(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """One array; without a copy where there is one chunk."""
    import pyarrow as pa

    if not isinstance(column, pa.ChunkedArray):
        return column
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks or [pa.nulls(0, column.type)])


def _read_only(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    # As most of Arrow's buffers are: numba would compile one kernel more for the others.
    view = array[:]
    view.flags.writeable = False
    return view


def _has_few_values(column: Column) -> bool:
    return column.dtype == "string" and column not in _FREE_TEXT


def _values(array: pa.Array) -> dict[str, int] | None:
    import pyarrow.compute as pc

    if len(array) > _PROBE_ROWS and len(pc.unique(array.slice(0, _PROBE_ROWS))) > MOST_VALUES:
        return None
    counted = pc.value_counts(array)
    if len(counted) > MOST_VALUES + 1:
        return None
    return {row["values"]: row["counts"] for row in counted.to_pylist() if row["values"] is not None}


def _range(array: pa.Array) -> tuple[float | None, float | None]:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.types as t

    plain = array.view(pa.int64()) if t.is_timestamp(array.type) else array
    found = pc.min_max(plain).as_py()
    return found["min"], found["max"]


def _hours(array: pa.Array, low: float | None, high: float | None) -> dict[int, int]:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.types as t

    if low is None or high is None:
        return {}
    plain = array.view(pa.int64()) if t.is_timestamp(array.type) else array
    us = (plain if not plain.null_count else pc.drop_null(plain)).to_numpy(zero_copy_only=False)
    hour = us // HOUR_US
    first, last = int(low) // HOUR_US, int(high) // HOUR_US
    if last - first < 4 * len(hour) + 1_000:
        counts = np.bincount(hour - first)
        at = np.flatnonzero(counts)
        return dict(zip((at + first).tolist(), counts[at].tolist(), strict=True))
    at, counts = np.unique(hour, return_counts=True)
    return dict(zip(at.tolist(), counts.tolist(), strict=True))


def _first(pick: Any, one: float | None, other: float | None) -> float | None:
    known = [value for value in (one, other) if value is not None]
    return pick(known) if known else None


def _counted(one: Mapping[int, int], other: Mapping[int, int]) -> dict[int, int]:
    total = dict(one)
    for key, count in other.items():
        total[key] = total.get(key, 0) + count
    return total


def _summed(one: Mapping[str, int] | None, other: Mapping[str, int] | None) -> dict[str, int] | None:
    if one is None or other is None:
        return None
    total = dict(one)
    for key, count in other.items():
        total[key] = total.get(key, 0) + count
    return total if len(total) <= MOST_VALUES else None
