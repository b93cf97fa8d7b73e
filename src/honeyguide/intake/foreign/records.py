"""Records of a file one by one, whatever it is written in: JSON lines, a JSON array, CSV, RecBole or Parquet.

A record that cannot be read comes with its line as it stands; none is skipped.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from honeyguide.errors import DataError
from honeyguide.intake.blocks import json_lines, opened, taken
from honeyguide.intake.files import open_raw, rows_of
from honeyguide.intake.raw import BROKEN, marked

__all__ = ["Head", "Record", "head", "records"]

_PARQUET = b"PAR1"
_SAMPLE_BYTES = 262_144
_SAMPLE_RECORDS = 200
_MOST_ARRAY_BYTES = 1 << 30  # a JSON array is held whole; lines are not
_WRAPPED = ("_source", "userEvent")  # how search engines and Google's own samples wrap a document
_PIECE_ROWS = 16_384


@dataclass(frozen=True, slots=True)
class Record:
    """A record by its number (1 = first), with its fields or, if it has none, why; and its line as it stands."""

    number: int
    fields: dict[str, Any] | None
    line: bytes | str = b""  # of a table's row: empty, the fields are all there is
    detail: str = ""

    @property
    def raw(self) -> str:
        """The record as it stands; a byte that is no UTF-8 is marked, so that it can be had back."""
        if self.line or self.fields is None:
            return self.line if isinstance(self.line, str) else marked(self.line).decode()
        return msgspec.json.encode(self.fields, enc_hook=str).decode()


@dataclass(frozen=True, slots=True)
class Head:
    """The beginning of a file: what it is written in, its first readable records and the names in them."""

    path: Path
    written: str  # json, csv, recbole, parquet
    first: tuple[dict[str, Any], ...]
    names: frozenset[str]


def head(path: Path) -> Head | None:
    """The beginning of a file; None where it holds no records at all (empty, binary, prose).

    Raises DataError for a gzip file, a Parquet file or a JSON array that is broken: it may be a part of the export that
    would be missed.
    """
    start = _start(path, _SAMPLE_BYTES)
    if _is_json(start):
        first = _first(records(path, "json"))
        return Head(path, "json", first, frozenset(name for fields in first for name in fields)) if first else None
    if start[:4] == _PARQUET or path.suffix == ".parquet":
        return _head_of_parquet(path)
    try:
        file = open_raw(path)
        raw = file.sample()
    except DataError:
        return None
    if not raw.has_header:
        return None
    rows = raw.table.slice(0, _SAMPLE_RECORDS).to_pylist()
    return Head(path, file.format, tuple(rows), frozenset(raw.table.column_names))


def _head_of_parquet(path: Path) -> Head:
    """By its schema and a few rows: there may be thousands of such files in a folder."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    open_raw(path)  # says in a sentence what is wrong with it
    try:
        with pq.ParquetFile(path) as file:
            batch = next(file.iter_batches(_SAMPLE_RECORDS), None)
            first = () if batch is None else tuple(batch.to_pylist())
            return Head(path, "parquet", first, frozenset(file.schema_arrow.names))
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(
            expected=f"a readable Parquet file at {path}", got=_short(error), do="It may be truncated: write it anew."
        ) from error


def _first(found: Iterator[Record]) -> tuple[dict[str, Any], ...]:
    kept: list[dict[str, Any]] = []
    for record in found:
        if record.fields is not None:
            kept.append(record.fields)
        if len(kept) == _SAMPLE_RECORDS or record.number > 5 * _SAMPLE_RECORDS:
            break
    return tuple(kept)


def records(path: Path, written: str) -> Iterator[Record]:
    """All records of a file. Raises DataError for a file that breaks off within its compression or its array."""
    if written != "json":
        yield from _rows(path)
    elif _start(path, 4096).lstrip()[:1] == b"[":
        yield from _array(path)
    else:
        decode = msgspec.json.Decoder().decode
        for lines in json_lines(path):
            for number, line in lines:
                yield _decoded(decode, number, line)


def _start(path: Path, size: int) -> bytes:
    with opened(path) as file:
        return _without_mark(taken(path, file, size))


def _without_mark(start: bytes) -> bytes:
    return start.removeprefix(codecs.BOM_UTF8)


def _is_json(start: bytes) -> bool:
    """Whether most of the first lines begin as objects, or the file as an array of them."""
    if start[:4] == _PARQUET or b"\0" in start[:8192]:
        return False
    bare = start.lstrip()
    if bare[:1] == b"[":
        return bare[1:].lstrip()[:1] == b"{"
    lines = [line for line in bare.split(b"\n", 200)[:200] if line.strip()]
    return bool(lines) and 2 * sum(line.lstrip()[:1] == b"{" for line in lines) > len(lines)


def _decoded(decode: Any, number: int, line: bytes) -> Record:
    try:
        value = decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return Record(number, None, line, f"The line is no JSON: {_short(error)}.")
    if not isinstance(value, dict):
        return Record(number, None, line, "The line is JSON, but no object.")
    return Record(number, _unwrapped(value), line)


def _unwrapped(value: dict[str, Any]) -> dict[str, Any]:
    for key in _WRAPPED:
        inner = value.get(key)
        if isinstance(inner, dict):
            return inner if key == "_source" else inner | {k: v for k, v in value.items() if k != key}
    return value


def _short(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")[:150]


def _array(path: Path) -> Iterator[Record]:
    with opened(path) as file:
        data = taken(path, file, _MOST_ARRAY_BYTES + 1)
    if len(data) > _MOST_ARRAY_BYTES:
        raise DataError(
            expected=f"at most {_MOST_ARRAY_BYTES >> 30} GB of JSON array in {path}",
            got="more",
            do="Write a line for each record: jq -c '.[]'.",
        )
    try:
        parts = msgspec.json.decode(_without_mark(data), type=list[msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DataError(
            expected=f"a whole JSON array in {path}",
            got=_short(error),
            do="Export it again, or a line for each record.",
        ) from error
    decode = msgspec.json.Decoder().decode
    for number, part in enumerate(parts, 1):
        yield _decoded(decode, number, bytes(part))


def _rows(path: Path) -> Iterator[Record]:
    for raw in rows_of(open_raw(path)):
        yield from (Record(line.row_number, None, line.raw, line.detail) for line in raw.refused)
        numbers = iter(raw.row_number.tolist())
        for batch in raw.table.to_batches(max_chunksize=_PIECE_ROWS):
            for row in batch.to_pylist():
                fields = {name: cell for name, cell in row.items() if cell is not None and cell != ""}
                if not raw.clean and any(isinstance(cell, str) and BROKEN in cell for cell in fields.values()):
                    line = msgspec.json.encode(fields, enc_hook=str).decode()  # marked already
                    yield Record(next(numbers), None, line, "Bytes that are no UTF-8.")
                else:
                    yield Record(next(numbers), fields)
