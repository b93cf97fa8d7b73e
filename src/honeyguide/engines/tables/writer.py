"""Writes a version's parts: what is added, merged with the parts that it touches; all others stay as they are."""

from __future__ import annotations

import fcntl
import os
import shutil
import uuid
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from honeyguide.engines.tables.arrow import plain, plain_type, refusals
from honeyguide.engines.tables.parts import (
    QUIET_ROWS,
    Cursor,
    Part,
    Rows,
    by_time,
    days_of,
    file_rows,
    in_order,
    span,
    write_part,
)
from honeyguide.errors import DataError, ResourceError

if TYPE_CHECKING:
    import pyarrow as pa

    from honeyguide.engines.tables.forgotten import Forgotten
    from honeyguide.engines.tables.snapshot import Snapshot

__all__ = ["PartWriter", "is_abandoned", "sync"]

_FILE_BYTES = 256 << 20


class PartWriter:
    """Takes the rows of a version; `Snapshots.appender` makes it and commits.

    Memory: 192 MB of rows, and one day's rows (or an hour's of a busy day) while merging.
    """

    snapshot: Snapshot
    """The version put in force, once the block has ended."""

    def __init__(
        self, place: Path, schema: pa.Schema | None, day: str | None, forgotten: Forgotten, *, extra: bool
    ) -> None:
        """schema: None: that of the first batch; extra: whether further columns may follow those of the schema."""
        self._place, self._day, self._forgotten = place, day, forgotten
        self._schema, self._extra = None if schema is None else _plain(schema), extra
        self._known = forgotten.stamp
        self.rows = 0
        """Rows taken."""
        self.erased = 0
        """Rows left out because they are of people who were erased."""
        self.folder = place / f".{uuid.uuid4().hex}.tmp"
        with refusals(str(place)):
            self.folder.mkdir()
            self._alive = (self.folder / "alive").open("w")
            fcntl.flock(self._alive, fcntl.LOCK_EX)
        self._by_time = Rows(self.folder, day) if day is not None else None
        self._buffer: list[pa.Table] = []
        self._bytes = 0
        self._files: list[Part] = []

    @property
    def by_day(self) -> bool:
        """Whether the table is kept by day."""
        return self._day is not None

    def add(self, batch: pa.Table) -> None:
        """Take rows. DataError if their columns are not those of the table; missing nullable ones are filled."""
        rows = batch.num_rows
        batch = self._forgotten.keep(batch)
        self.erased += rows - batch.num_rows
        self.rows += batch.num_rows
        if self._schema is None or self._extra:
            declared = [] if self._schema is None else list(self._schema)
            names = {field.name for field in declared}
            self._schema = _plain([*declared, *(field for field in batch.schema if field.name not in names)])
            self._extra = False
        batch = aligned(batch, self._schema)
        if self._by_time is not None:
            if batch.num_rows:
                self._by_time.add(batch)
            return
        self._buffer.append(batch)
        self._bytes += batch.nbytes
        if self._bytes >= _FILE_BYTES:
            self._flush()

    def parts(self, had: tuple[Part, ...], schema: Mapping[str, str]) -> tuple[tuple[Part, ...], dict[str, str]]:
        """The new version's parts, merged with those it `had`, and its schema. The caller holds the table's lock."""
        if self._forgotten.stamp != self._known:
            raise ResourceError(
                expected="nobody to be erased while a table is written",
                got="somebody who was",
                do="Run it again: it will leave that person out.",
            )
        if self._schema is None:
            if not had:
                raise DataError(
                    expected="rows to write", got="none, and no columns", do="Add a table, even an empty one."
                )
            return had, dict(schema)
        lost = [name for name in schema if had and name not in self._schema.names]
        if lost:
            raise DataError(
                expected=f"rows with the columns of the table ({', '.join(schema)})",
                got=f"rows without {', '.join(lost)}",
                do="Add the columns, or replace the table.",
            )
        same = all(schema.get(field.name) == str(field.type) for field in self._schema)
        if self._by_time is None:
            made = self._joined(self._schema, had, same)
        else:
            made = self._merged(self._by_time, self._schema, had, same)
        if not made:
            made.append(write_part(self._place, "", [], self._schema))
        return tuple(made), {field.name: str(field.type) for field in self._schema}

    def close(self) -> None:
        """Remove what was spilled."""
        self._alive.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    # ------------------------------------------------------------------------------------------- in order of arrival

    def _flush(self) -> None:
        if self._buffer and self._schema is not None:
            self._files.append(write_part(self.folder, "", self._buffer, self._schema))
            self._buffer, self._bytes = [], 0

    def _joined(self, schema: pa.Schema, had: tuple[Part, ...], same: bool) -> list[Part]:
        """What was there, then what came. A small last part is written anew with what follows it."""
        self._flush()
        kept = [part if same else self._written("", [part.path], schema) for part in had]
        files = list(self._files)
        if kept and files and kept[-1].rows < QUIET_ROWS:
            kept.append(self._written("", [kept.pop().path, files.pop(0).path], schema))
        for part in files:
            path = self._place / part.path.name
            part.path.replace(path)
            kept.append(Part(path, "", part.rows, part.sha256))
        return kept

    def _written(self, day: str, paths: list[Path], schema: pa.Schema) -> Part:
        return write_part(self._place, day, (aligned(table, schema) for table in file_rows(paths)), schema)

    # ------------------------------------------------------------------------------------------------------- by day

    def _merged(self, rows: Rows, schema: pa.Schema, had: tuple[Part, ...], same: bool) -> list[Part]:
        """Parts by day: those of months that got no rows stay; in the others, every period whose rows stay the same."""
        import pyarrow as pa

        day = rows.by
        days = rows.days()
        months = {one[:7] for one in days}
        # A version that was not by day yet is taken apart as a whole.
        touched = [part for part in had if not part.day or not same or part.day[:7] in months]
        for part in touched:
            days.update(days_of(part, day))
        named = {part.day: part for part in touched}
        periods = in_order(days)
        stays = {one for one in periods if same and one in named and not rows.any_in(*span(one))}
        unsorted = Rows(self.folder / "unsorted", day)
        for table in file_rows(part.path for part in touched if not part.day):
            unsorted.add(aligned(table, schema))
        opened = [part.path for part in touched if part.day and part.day not in stays]
        old = Cursor((aligned(table, schema) for table in file_rows(opened)), day)
        cursors = [*unsorted.cursors(), old, *rows.cursors()]
        made = [part for part in had if part not in touched]
        for period in periods:
            if period in stays:
                made.append(named[period])
                continue
            tables = list(chain.from_iterable(cursor.until(span(period)[1]) for cursor in cursors))
            if tables:
                made.append(write_part(self._place, period, [by_time(pa.concat_tables(tables), day)], schema))
        return sorted(made, key=lambda part: part.day)


def aligned(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The table's columns as the schema has them; a missing nullable one is filled with nulls."""
    import pyarrow as pa

    if table.schema.equals(schema, check_metadata=True):
        return table
    table = plain(table)
    extra = [name for name in table.column_names if name not in schema.names]
    missing = [field.name for field in schema if not field.nullable and field.name not in table.column_names]
    if extra or missing:
        raise DataError(
            expected=f"the table's columns ({', '.join(schema.names)})",
            got=", ".join([*(f"the further column {name}" for name in extra), *(f"no {name}" for name in missing)]),
            do="Map the columns before they are written.",
        )
    columns = [
        table[f.name].cast(f.type) if f.name in table.column_names else pa.nulls(table.num_rows, f.type) for f in schema
    ]
    return pa.table(columns, schema=schema)


def is_abandoned(folder: Path) -> bool:
    """Whether the writer of such a folder is gone."""
    try:
        with (folder / "alive").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except FileNotFoundError:
        return False  # just being made, or just being removed
    return True


def sync(paths: Iterable[Path]) -> None:
    """Put files, and the folder that names them, on disk; several at once, since each waits for the same device."""
    places = list(paths)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(_sync, places))
    for folder in {path.parent for path in places}:
        _sync(folder)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _plain(fields: Iterable[pa.Field]) -> pa.Schema:
    import pyarrow as pa

    return pa.schema([pa.field(field.name, plain_type(field.type), field.nullable) for field in fields])
