"""Rows under our column names, gathered into bounded batches, and the counts of what could not be mapped."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from honeyguide.intake.foreign.records import Record
from honeyguide.intake.raw import Raw, RefusedLine
from honeyguide.schema import columns as c
from honeyguide.schema.columns import Column
from honeyguide.schema.tables import DECISIONS, EVENTS, ITEMS, USERS, Table

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Part", "Rows", "Unfit", "identity", "number", "strings", "text", "word"]

Part = tuple[Table, Raw]
REST: dict[str, Column] = {
    EVENTS.name: c.CONTEXT,
    ITEMS.name: c.ATTRIBUTES,
    USERS.name: c.ATTRIBUTES,
    DECISIONS.name: c.CONTEXT,
}
"""Where fields go that are none of ours."""


class Unfit(Exception):  # noqa: N818 (it is no error: a refusal that becomes data)
    """A record that is no record of the format; the reason, for a person."""


@dataclass(slots=True)
class _Batch:
    path: Path
    columns: dict[Column, list[Any]]
    numbers: list[int] = field(default_factory=list)
    refused: list[RefusedLine] = field(default_factory=list)


class Rows:
    """Gathers rows for some tables; what is not wanted is not built.

    `give` each row with the columns that are known and the fields that are left; `refuse` a record; then take `full()`
    often and `all()` when a file ends. A batch holds rows of one file.
    """

    def __init__(self, of: str, wanted: frozenset[str], batch_rows: int) -> None:
        self.format, self.wanted, self.batch_rows = of, wanted, batch_rows
        self.kept: Counter[tuple[str, str]] = Counter()  # (table, field) -> rows that carry it in context or attributes
        self.said: Counter[str] = Counter()  # a sentence with {n} -> how often
        self._batches: dict[str, _Batch] = {}
        self._columns: dict[str, tuple[Column, ...]] = {}
        self._full = False

    def want(self, table: Table) -> bool:
        """Whether rows of this table are asked for."""
        return table.name in self.wanted

    def begin(self, path: Path, columns: Mapping[str, tuple[Column, ...]]) -> Iterator[Part]:
        """A file begins: its columns by table. Gives what the file before has left."""
        yield from self.all()
        self._columns = {**columns}
        self._batches = {}
        self._path = path

    def give(
        self, table: Table, row_number: int, row: Mapping[Column, Any], rest: Mapping[str, Any] | None = None
    ) -> None:
        """A row; a column that is not in `row` is null."""
        if table.name not in self.wanted:
            return
        batch = self._batch(table)
        for column, cells in batch.columns.items():
            cells.append(row.get(column))
        left = {name: value for name, value in (rest or {}).items() if value is not None}
        for name in left:
            self.kept[table.name, name] += 1
        if left:
            batch.columns[REST[table.name]][-1] = msgspec.json.encode(left, enc_hook=str).decode()
        batch.numbers.append(row_number)
        self._full |= len(batch.numbers) >= self.batch_rows

    def refuse(self, table: Table, record: Record, detail: str = "") -> None:
        """A record that gives no row, as it stands."""
        if table.name not in self.wanted:
            return
        batch = self._batch(table)
        batch.refused.append(RefusedLine(record.number, record.raw, detail or record.detail))
        self._full |= len(batch.refused) >= self.batch_rows

    def say(self, sentence: str, n: int = 1) -> None:
        """Count something that a person should know; `{n}` stands for how often."""
        self.said[sentence] += n

    def full(self) -> Iterator[Part]:
        """Batches that are full."""
        if self._full:
            self._full = False
            for name, batch in list(self._batches.items()):
                if len(batch.numbers) >= self.batch_rows or len(batch.refused) >= self.batch_rows:
                    del self._batches[name]
                    yield _part(name, batch, self.format)

    def all(self) -> Iterator[Part]:
        """What is left."""
        batches, self._batches = self._batches, {}
        for name, batch in batches.items():
            yield _part(name, batch, self.format)

    def notes(self) -> list[str]:
        """What could not be mapped, with counts, and what was decided."""
        made = [sentence.replace("{n}", f"{n:,}") for sentence, n in self.said.items()]
        for table in dict.fromkeys(name for name, _ in self.kept):
            fields = [(n, name) for (of, name), n in self.kept.items() if of == table]
            fields.sort(key=lambda pair: (-pair[0], pair[1]))
            shown = ", ".join(f"{name} ({n:,})" for n, name in fields[:20])
            more = f", and {len(fields) - 20} more" if len(fields) > 20 else ""
            made.append(f"No column of {table} fits; kept in {REST[table]} as JSON: {shown}{more}.")
        return made

    def _batch(self, table: Table) -> _Batch:
        batch = self._batches.get(table.name)
        if batch is None:
            columns = (*self._columns.get(table.name, ()), REST[table.name])
            batch = self._batches[table.name] = _Batch(self._path, {column: [] for column in columns})
        return batch


def _part(name: str, batch: _Batch, of: str) -> Part:
    import pyarrow as pa

    table = next(one for one in (EVENTS, ITEMS, USERS, DECISIONS) if one.name == name)
    kinds: dict[str, pa.DataType] = {"list<string>": pa.list_(pa.string()), "list<float64>": pa.list_(pa.float64())}
    arrays = {str(col): pa.array(cells, kinds.get(col.dtype, pa.string())) for col, cells in batch.columns.items()}
    rows: pa.Table = pa.table(arrays)
    numbers = np.array(batch.numbers, np.int64)
    return table, Raw(batch.path, of, rows, numbers, batch.refused)


# ----------------------------------------------------------------------------------------------------- cells


def word(value: Any) -> str | None:
    """A JSON value as a cell: text as it is, a number in its shortest form, a list or an object as JSON."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, dt.date | dt.datetime):
        return value.isoformat()
    return msgspec.json.encode(value, enc_hook=str).decode()


def identity(value: Any, what: str) -> str | None:
    """An id: text or a number. Raises Unfit for anything else."""
    if isinstance(value, bool | list | dict):
        raise Unfit(f"{what} is neither text nor a number.")
    return word(value)


def text(value: Any) -> str | None:
    """Text or a number as text; None for anything else."""
    return None if isinstance(value, bool | list | dict) else word(value)


def number(value: Any, what: str) -> float:
    """A finite number, also one written as text. Raises Unfit for anything else."""
    try:
        found = float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else np.nan
    except (ValueError, OverflowError):
        found = np.nan
    if not np.isfinite(found):
        raise Unfit(f"{what} is no number.")
    return found


def strings(value: Any, mark: str | None = None) -> list[str] | None:
    """A list of texts: of a JSON list, of one text, or of a text cut at `mark`."""
    if value is None:
        return None
    parts = value if isinstance(value, list | tuple) else str(value).split(mark) if mark else [value]
    found = [cell.strip() for cell in map(word, parts) if cell and cell.strip()]
    return found or None
