"""What an importer is: how it knows its files, and what it makes of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from honeyguide.errors import DataError
from honeyguide.intake.foreign.records import Head
from honeyguide.intake.foreign.rows import Part, Rows
from honeyguide.intake.raw import Raw, RawFile
from honeyguide.schema.tables import Table

__all__ = ["BATCH_ROWS", "File", "Foreign", "Importer"]

BATCH_ROWS = 50_000
_SAMPLE_ROWS = 5_000


@dataclass(frozen=True, slots=True)
class File:
    """A file of an export and the part it plays in it: events, items, ..."""

    path: Path
    written: str  # json, csv, recbole, parquet
    role: str
    names: frozenset[str]


@dataclass(frozen=True, slots=True)
class Importer:
    """A foreign format. `role` tells a file's part by its beginning (None: it is none of this format's), `read` streams
    an export's parts into `Rows`; `tables` is what an export may hold."""

    format: str
    name: str
    tables: tuple[Table, ...]
    role: Callable[[Head], str | None]
    read: Callable[[Sequence[File], Rows], Iterator[Part]]
    must: frozenset[str] = frozenset()  # roles of which an export must have one


@dataclass(slots=True)
class Foreign:
    """An export of another tool; what of it was read to the end is in `notes`."""

    importer: Importer
    files: tuple[File, ...]
    strangers: tuple[Path, ...] = ()  # files beside them that are none of the format's
    _said: dict[tuple[str, ...], list[str]] = field(default_factory=dict)  # tables read together -> their notes

    @property
    def path(self) -> Path:
        """The file, or the folder that holds the files."""
        if len(self.files) == 1 and not self.strangers:
            return self.files[0].path
        return Path(os.path.commonpath([file.path for file in self.files]))

    def file(self, table: Table, *, batch_rows: int = BATCH_ROWS) -> RawFile:
        """One of its tables as an open file, for a loader. It may be read more than once."""
        return _OneTable(self.path, self.format, self, table, batch_rows)

    @property
    def format(self) -> str:
        """Its short name: metarank, dsjson, ..."""
        return self.importer.format

    @property
    def name(self) -> str:
        """Its name for a person."""
        return self.importer.name

    @property
    def tables(self) -> tuple[Table, ...]:
        """The tables that it may hold."""
        return self.importer.tables

    def parts(self, *tables: Table, batch_rows: int = BATCH_ROWS) -> Iterator[Part]:
        """Bounded batches of rows under our column names, of these tables only (none named: of all).

        Rows of a batch + its refused records = what the records of the file gave; a record that cannot be told from
        another table's counts among the events. Raises DataError for a file that is cut off or unreadable as a whole.
        """
        rows = Rows(self.format, frozenset(table.name for table in tables or self.tables), batch_rows)
        for table, raw in self.importer.read(self.files, rows):
            if raw.rows_in:
                yield table, raw
        self._said[tuple(sorted(rows.wanted))] = rows.notes()

    @property
    def notes(self) -> list[str]:
        """What was read as what, what could not be mapped (with counts), and what was decided; for a person."""
        made = [f"Read as {self.name}: {', '.join(_told(self.files))}."]
        made += dict.fromkeys(note for notes in self._said.values() for note in notes)
        if self.strangers:
            named = ", ".join(path.name for path in self.strangers[:5])
            more = f" and {len(self.strangers) - 5} more" if len(self.strangers) > 5 else ""
            made.append(f"Not read, as no part of a {self.name} export: {named}{more}.")
        return made


@dataclass(slots=True)
class _OneTable:
    """One table of an export as a `RawFile`."""

    path: Path
    format: str
    foreign: Foreign
    table: Table
    batch_rows: int
    _first: Raw | None = None

    def sample(self) -> Raw:
        """Its first rows. Raises DataError where there are none."""
        if self._first is None:
            self._first = self._begin()
        return self._first

    def _begin(self) -> Raw:
        first = next(iter(self.foreign.parts(self.table, batch_rows=_SAMPLE_ROWS)), None)
        if first is None:
            raise DataError(
                expected=f"{self.table.name} in {self.path}",
                got=f"a {self.foreign.name} export without any",
                do="Name the file that holds them.",
            )
        return first[1]

    def batches(self) -> Iterator[Raw]:
        """All of it."""
        for _, raw in self.foreign.parts(self.table, batch_rows=self.batch_rows):
            yield raw


def _told(files: Sequence[File]) -> list[str]:
    return [f"{file.path.name} ({file.role})" for file in files[:6]] + (["..."] if len(files) > 6 else [])
