"""Rows that come in any order and number, to the Parquet files that a version of a table is made of.

A table by day has a file per UTC day, its rows sorted by time (rows of one moment in the order in which they came).
A quiet month (fewer than `QUIET_ROWS`) is one file, so that thin old logs do not become thousands; a day of more than
`BUSY_ROWS` has a file per hour. Which it is follows from the rows alone: equal content makes equal files.
"""

from __future__ import annotations

import calendar
import datetime as dt
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from honeyguide.engines.tables.arrow import plain, plain_type, refusals
from honeyguide.engines.tables.content import ContentHash
from honeyguide.errors import DataError
from honeyguide.schema import columns as c

if TYPE_CHECKING:
    import pyarrow as pa

    from honeyguide.contracts import I64

__all__ = [
    "BUSY_ROWS",
    "QUIET_ROWS",
    "Cursor",
    "Part",
    "Rows",
    "by_time",
    "days_of",
    "file_rows",
    "file_schema",
    "in_order",
    "overlap",
    "span",
    "write_part",
]

QUIET_ROWS = 65_536
"""A month of fewer rows is one file."""
BUSY_ROWS = 1_000_000
"""A day of more rows has a file per hour: what one file holds is what merging holds in memory."""
_SPILL_BYTES = 192 << 20
_BATCH_ROWS = 16_384
_HOUR_US, _DAY_US = 3_600_000_000, 86_400_000_000
_CLOSE = 1 << 20  # hours or days that are counted in an array
# No two rows of these are alike: a dictionary of them would be built in vain.
_UNLIKE = frozenset((c.EVENT_ID, c.REQUEST_ID, c.RAW, c.TITLE, c.DESCRIPTION, c.IMAGE_URL))


@dataclass(frozen=True, slots=True)
class Part:
    """One file of a version.

    `day` is `2027-03-01`, `2027-03` (a quiet month), `2027-03-01T07` (an hour of a busy day)
    or "" (a table that is not by day)."""

    path: Path
    day: str
    rows: int
    sha256: str  # of the content, see `content.ContentHash`


def span(day: str) -> tuple[int, int]:
    """The microseconds of a part's period, [first, end)."""
    first = int(np.datetime64(day, "us").astype(np.int64))
    if len(day) == 7:
        year, month = int(day[:4]), int(day[5:])
        return first, first + calendar.monthrange(year, month)[1] * _DAY_US
    return first, first + (_DAY_US if len(day) == 10 else _HOUR_US)


def overlap(one: Part, other: Part) -> bool:
    """Whether the periods of two parts have a moment in common; a part without a day is of all time."""
    if not one.day or not other.day:
        return True
    (first, end), (other_first, other_end) = span(one.day), span(other.day)
    return first < other_end and other_first < end


def in_order(days: Counter[str]) -> list[str]:
    """The periods, oldest first, for so many rows a day (`2027-03-01` -> rows)."""
    months: Counter[str] = Counter()
    for day, rows in days.items():
        months[day[:7]] += rows
    periods: list[str] = []
    for month in sorted(months):
        if months[month] < QUIET_ROWS:
            periods.append(month)
            continue
        for day in sorted(day for day in days if day[:7] == month and days[day]):
            periods += [day] if days[day] <= BUSY_ROWS else [f"{day}T{hour:02}" for hour in range(24)]
    return periods


class Rows:
    """Rows to be sorted by time: in memory up to 192 MB, then in sorted runs on disk."""

    def __init__(self, folder: Path, by: str) -> None:
        self._folder, self.by = folder, by
        self._buffer: list[pa.Table] = []
        self._bytes = 0
        self._runs: list[Path] = []
        self._hours: Counter[int] = Counter()  # hour since the epoch -> rows

    def add(self, table: pa.Table) -> None:
        """Take rows. DataError if one has no time."""
        column = table[self.by]
        if column.null_count:
            raise DataError(
                expected=f"a {self.by} in every row",
                got=f"{column.null_count:,} rows without",
                do="Refuse them first.",
            )
        self._hours.update(_counted(_times(column) // _HOUR_US))
        self._buffer.append(table)
        self._bytes += table.nbytes
        if self._bytes >= _SPILL_BYTES:
            self._spill()

    def days(self) -> Counter[str]:
        """Rows by UTC day."""
        days: Counter[str] = Counter()
        for hour, rows in self._hours.items():
            days[_day(hour * _HOUR_US)] += rows
        return days

    def any_in(self, first: int, end: int) -> bool:
        """Whether a row lies in [first, end); both are whole hours."""
        if end - first > 48 * _HOUR_US:
            return any(first <= hour * _HOUR_US < end for hour in self._hours)
        return any(hour in self._hours for hour in range(first // _HOUR_US, -(-end // _HOUR_US)))

    def cursors(self) -> list[Cursor]:
        """A cursor for each run, in the order in which rows came."""
        found = [Cursor(_ipc(run), self.by) for run in self._runs]
        if self._buffer:
            found.append(Cursor(iter([self._sorted()]), self.by))
            self._buffer = []
        return found

    def _sorted(self) -> pa.Table:
        import pyarrow as pa

        return by_time(pa.concat_tables(self._buffer), self.by)

    def _spill(self) -> None:
        import pyarrow as pa

        path = self._folder / f"{len(self._runs)}.run"
        self._runs.append(path)
        table = self._sorted()
        self._buffer, self._bytes = [], 0
        options = pa.ipc.IpcWriteOptions(compression="lz4")
        with refusals(str(self._folder)):
            self._folder.mkdir(exist_ok=True)
            with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema, options=options) as writer:
                writer.write_table(table, max_chunksize=_BATCH_ROWS)


class Cursor:
    """Rows sorted by time, handed out period by period."""

    def __init__(self, tables: Iterator[pa.Table], by: str) -> None:
        self._tables, self._by = tables, by
        self._held: pa.Table | None = None

    def until(self, end: int) -> list[pa.Table]:
        """The rows before a moment that were not handed out yet."""
        found: list[pa.Table] = []
        while True:
            if self._held is None or not self._held.num_rows:
                self._held = next(self._tables, None)
                if self._held is None:
                    return found
            place = int(np.searchsorted(_times(self._held[self._by]), end))
            if place:
                found.append(self._held.slice(0, place))
            if place < self._held.num_rows:
                self._held = self._held.slice(place)
                return found
            self._held = None


def by_time(table: pa.Table, by: str) -> pa.Table:
    """Rows sorted by time; ties keep their order."""
    import pyarrow as pa

    at = _times(table[by])
    if np.all(at[1:] >= at[:-1]):
        return table
    return table.take(pa.array(np.argsort(at, kind="stable")))


def days_of(part: Part, by: str) -> Counter[str]:
    """Rows by UTC day of a part of a table by day."""
    days: Counter[str] = Counter()
    if len(part.day) > 7:
        days[part.day[:10]] = part.rows
        return days
    for table in file_rows([part.path], [by]):
        days.update({_day(start * _DAY_US): n for start, n in _counted(_times(table[by]) // _DAY_US).items()})
    return days


def file_rows(paths: Iterable[Path], columns: list[str] | None = None, rows: int = 131_072) -> Iterator[pa.Table]:
    """The rows of Parquet files, one after the other, in plain types. DataError if one is missing or broken."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for path in paths:
        try:
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches(rows, columns=columns):
                    yield plain(pa.Table.from_batches([batch]))
        except (pa.ArrowInvalid, OSError) as error:
            raise _unreadable(path, error) from error


def file_schema(path: Path) -> pa.Schema:
    """A file's columns in plain types. DataError if it is missing or broken."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pa.schema([pa.field(f.name, plain_type(f.type), f.nullable) for f in pq.read_schema(path)])
    except (pa.ArrowInvalid, OSError) as error:
        raise _unreadable(path, error) from error


def write_part(place: Path, day: str, tables: Iterable[pa.Table], schema: pa.Schema) -> Part:
    """Write rows, in their order, into a file named after its content; not synced to disk yet."""
    import pyarrow.parquet as pq
    import pyarrow.types as t

    digest, rows = ContentHash(schema), 0
    temporary = place / f".{uuid.uuid4().hex}.part"
    # Rows lie in order of time: differences are short. What is least and greatest among ids helps nobody to skip any.
    times = [field.name for field in schema if t.is_timestamp(field.type)]
    coded = [field.name for field in schema if field.name not in _UNLIKE and field.name not in times]
    ranged = [field.name for field in schema if not t.is_string(field.type)]
    deltas = dict.fromkeys(times, "DELTA_BINARY_PACKED")
    try:
        with (
            refusals(str(place)),
            temporary.open("wb") as sink,
            pq.ParquetWriter(
                sink, schema, compression="zstd", use_dictionary=coded, column_encoding=deltas, write_statistics=ranged
            ) as writer,
        ):
            for table in tables:
                digest.update(table)
                writer.write_table(table, row_group_size=1 << 17)
                rows += table.num_rows
        sha256 = digest.hexdigest()
        path = place / f"{day or 'all'}-{sha256[:20]}.parquet"
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return Part(path, day, rows, sha256)


def _unreadable(path: Path, error: Exception) -> DataError:
    return DataError(expected=f"a readable {path}", got=str(error), do="Build the table anew.")


def _times(column: Any) -> I64:
    import pyarrow as pa

    return np.asarray(column.cast(pa.int64()).to_numpy())


def _counted(numbers: I64) -> dict[int, int]:
    """How often each number occurs; without a sort where they lie close together, as hours and days do."""
    first, last = (int(numbers.min()), int(numbers.max())) if len(numbers) else (0, 0)
    if last - first < _CLOSE:
        counts = np.bincount(numbers - first)
        which = np.flatnonzero(counts)
        return dict(zip((which + first).tolist(), counts[which].tolist(), strict=True))
    found, times = np.unique(numbers, return_counts=True)
    return dict(zip(found.tolist(), times.tolist(), strict=True))


def _day(at_us: int) -> str:
    return (dt.datetime(1970, 1, 1) + dt.timedelta(microseconds=at_us)).strftime("%Y-%m-%d")


def _ipc(path: Path) -> Iterator[pa.Table]:
    import pyarrow as pa

    with pa.OSFile(str(path), "rb") as source:
        reader = pa.ipc.open_file(source)
        for at in range(reader.num_record_batches):
            yield pa.Table.from_batches([reader.get_batch(at)])
