"""Parquet files, one or a folder of them, of any size: some rows at a time, never a whole row group."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from honeyguide.errors import DataError
from honeyguide.intake.raw import BROKEN, Format, Raw, distinct_names, marked
from honeyguide.intake.values import parts_of

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["ParquetParts"]

_BATCH_ROWS = 65_536
_SAMPLE_ROWS = 10_000
_INDEX = "__index_level_"


@dataclass(slots=True)
class ParquetParts:
    """Open Parquet files (see `raw.RawFile`); several are read as one, in the order of their names."""

    path: Path
    parts: list[Path]
    rows: int = field(init=False)  # as their footers promise
    _schema: Any = field(init=False)  # of all parts, as their columns are handed out
    _notes: list[str] = field(init=False)

    def __post_init__(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        with self._refusals():
            schemas = []
            self.rows = 0
            for part in self.parts:
                with pq.ParquetFile(part) as file:
                    self.rows += file.metadata.num_rows
                    schemas.append(_readable(file.schema_arrow.empty_table())[0].schema)
            merged = schemas[0] if len(schemas) == 1 else pa.unify_schemas(schemas, promote_options="permissive")
        keep = [column for column in merged if not column.name.startswith(_INDEX)]
        self._notes = ["Left out: the pandas index."] if len(keep) < len(merged) else []
        self._schema = pa.schema(keep)
        if not keep:
            raise DataError(expected=f"rows in {self.path}", got="no columns", do="Export it again.")

    @property
    def format(self) -> Format:
        """parquet."""
        return "parquet"

    def sample(self) -> Raw:
        """The first rows."""
        first = next(self._read(_SAMPLE_ROWS), None)
        return self._raw(self._schema.empty_table() if first is None else first[0], 0, first is None or first[1])

    def batches(self) -> Iterator[Raw]:
        """All rows."""
        before = 0
        for table, clean in self._read(_BATCH_ROWS):
            yield self._raw(table, before, clean)
            before += table.num_rows

    def _raw(self, table: pa.Table, before: int, clean: bool) -> Raw:
        number = np.arange(before + 1, before + table.num_rows + 1)
        return Raw(self.path, "parquet", table, number, [], notes=self._notes, clean=clean)

    def _read(self, rows: int) -> Iterator[tuple[pa.Table, bool]]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        with self._refusals():
            for part in self.parts:
                # Without a buffer for the whole row group: some writers make one of ten million rows.
                with pq.ParquetFile(part, pre_buffer=False, buffer_size=1 << 20) as file:
                    promised, came = file.metadata.num_rows, 0
                    for batch in file.iter_batches(rows):
                        came += batch.num_rows
                        table, clean = _readable(pa.Table.from_batches([batch]))
                        if table.schema.names != self._schema.names or table.schema.types != self._schema.types:
                            table = self._fitted(table)
                        if table.num_rows:
                            yield distinct_names(table, table.column_names), clean
                    if came != promised:
                        raise DataError(
                            expected=f"{promised:,} rows in {part}", got=f"{came:,}", do="It is broken: write it anew."
                        )

    def _fitted(self, table: pa.Table) -> pa.Table:
        import pyarrow as pa

        columns = [
            table[name].cast(kind) if name in table.column_names else pa.nulls(table.num_rows, kind)
            for name, kind in zip(self._schema.names, self._schema.types, strict=True)
        ]
        return pa.table(columns, schema=self._schema)

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        import pyarrow as pa

        try:
            yield
        except (pa.ArrowException, OSError) as error:
            raise DataError(
                expected=f"a readable Parquet file at {self.path}",
                got=" ".join(str(error).split())[:200],
                do="It may be truncated, or its parts may differ: write it anew.",
            ) from error


def _readable(table: pa.Table) -> tuple[pa.Table, bool]:
    """Dictionaries decoded, binary read as text, and every text valid UTF-8 (broken bytes marked); whether none is."""
    import pyarrow as pa
    import pyarrow.types as t

    clean = True
    for at, column in enumerate(table.columns):
        kind = column.type
        if t.is_dictionary(kind):
            column, kind = column.cast(kind.value_type), kind.value_type
        binary = t.is_binary(kind) or t.is_large_binary(kind) or t.is_fixed_size_binary(kind)
        if t.is_large_string(kind) or t.is_string_view(kind):
            column = _text_column(column.cast(pa.large_binary()).cast(pa.binary()))
        elif binary or (t.is_string(kind) and not _ascii(column)):
            column = _text_column(column.cast(pa.binary()))
        if column.type == pa.string():
            clean &= _ascii(column) or not any(BROKEN.encode() in _bytes(chunk).tobytes() for chunk in column.chunks)
        if column is not table.column(at):
            table = table.set_column(at, table.field(at).name, column)
    return table, clean


def _text_column(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Bytes as text. Only values that are no UTF-8, or look as if marked, are touched one by one."""
    import pyarrow as pa

    return pa.chunked_array([_text_array(chunk) for chunk in column.chunks], pa.string())


def _text_array(chunk: pa.Array) -> pa.Array:
    import pyarrow as pa

    text = chunk.view(pa.string())
    try:
        text.validate(full=True)
        if BROKEN.encode() not in _bytes(text).tobytes():
            return text
    except pa.ArrowInvalid:
        pass
    return pa.array([None if value is None else marked(value).decode() for value in chunk.to_pylist()], pa.string())


def _bytes(chunk: pa.Array) -> npt.NDArray[np.uint8]:
    offsets, data = parts_of(chunk)
    return data[int(offsets[0]) : int(offsets[-1])]


def _ascii(column: pa.ChunkedArray) -> bool:
    return not any(np.any(_bytes(chunk) >= 128) for chunk in column.chunks)
