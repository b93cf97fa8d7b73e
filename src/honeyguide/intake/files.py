"""Opens a file as it is, whatever its size: Parquet, CSV / TSV, JSON lines, RecBole; gzip or not.

A record is either a row or a refused line. Bytes that are no UTF-8 are marked, and come back exactly (see `raw`).
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from honeyguide.errors import DataError
from honeyguide.intake.blocks import Lines, json_lines, opened, taken
from honeyguide.intake.delimited import Delimited
from honeyguide.intake.parquet import ParquetParts
from honeyguide.intake.raw import BROKEN, AsWritten, Format, Raw, RawFile, RefusedLine, marked, unmarked

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "BROKEN", "AsWritten", "Format", "Lines", "Raw", "RawFile", "RefusedLine", "json_lines", "marked", "open_raw",
    "read", "rows_about", "rows_of", "unmarked",
]  # fmt: skip

_SAMPLE_BYTES = 262_144


def open_raw(path: Path) -> RawFile:
    """Look at the beginning of a file (or at a folder of Parquet files) and open it as what it is.

    Raises DataError for what is missing, empty, no file, truncated, binary, or not UTF-8 for the most part.
    """
    path = Path(path)
    if path.is_dir():
        parts = sorted(part for part in path.rglob("*.parquet") if part.is_file())
        if not parts:
            raise DataError(
                expected=f"a file at {path}", got="a folder without Parquet files", do="Name the file itself."
            )
        return ParquetParts(path, parts)
    with opened(path) as file:
        head = taken(path, file, _SAMPLE_BYTES)
        whole = len(head) < _SAMPLE_BYTES
    if not head:
        raise DataError(expected=f"rows in {path}", got="an empty file", do="Export it again, with a header line.")
    if head[:4] == b"PAR1":
        return ParquetParts(path, [path])
    if path.suffix == ".parquet":
        raise DataError(
            expected=f"a Parquet file at {path}", got="a file that does not begin as one", do="Write the file anew."
        )
    if head[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        raise DataError(expected=f"UTF-8 in {path}", got="UTF-16", do="Save it as UTF-8: iconv -f utf-16 -t utf-8.")
    if b"\0" in head[:8192]:
        raise DataError(
            expected=f"Parquet, CSV, TSV or JSON lines at {path}",
            got="a binary file",
            do="Export it as Parquet or UTF-8 CSV.",
        )
    head = head.removeprefix(codecs.BOM_UTF8)
    if not whole:
        head = head[: max(head.rfind(b"\n"), head.rfind(b"\r")) + 1] or head
    first = head.lstrip()[:1]
    if first == b"{":
        from honeyguide.intake.jsonl import JsonLines

        return JsonLines(path, head, whole)
    if first == b"[":
        raise DataError(
            expected=f"JSON lines in {path}, an object per line",
            got="one JSON list",
            do="Write a line per object: jq -c '.[]'.",
        )
    return Delimited(path, head, whole)


def read(source: Path | RawFile | Iterable[Raw], *, sample: bool = False) -> Raw:
    """A file whole, for tables that are held in memory anyhow; with `sample` only its beginning."""
    file = open_raw(source) if isinstance(source, str | Path) else source
    if isinstance(file, Iterable):
        return _together(list(file))
    return file.sample() if sample else _together(list(rows_of(file)))


def rows_about(file: RawFile) -> int:
    """How many rows a file holds, roughly (0: nobody knows); for progress."""
    if isinstance(file, ParquetParts):
        return file.rows
    head: bytes = getattr(file, "head", b"")
    return int(file.path.stat().st_size / len(head) * max(1, head.count(b"\n"))) if head else 0


def rows_of(file: RawFile) -> Iterator[Raw]:
    """The file's batches; a DataError if it has no record at all."""
    empty = True
    for raw in file.batches():
        empty &= not raw.rows_in
        yield raw
    if empty:
        got = "a header only" if file.format in ("csv", "recbole") else "none"
        raise DataError(expected=f"rows in {file.path}", got=got, do="Export it again.")


def _together(parts: Sequence[Raw]) -> Raw:
    import pyarrow as pa

    if not parts:
        raise DataError(expected="rows to load", got="none", do="Give a file that has some.")
    if len(parts) == 1:
        return parts[0]
    last = parts[-1]
    return Raw(
        last.path,
        last.format,
        pa.concat_tables([part.table for part in parts], promote_options="default"),
        np.concatenate([part.row_number for part in parts]),
        [line for part in parts for line in part.refused],
        last.has_header,
        last.sequences,
        last.notes,
        all(part.clean for part in parts),
        _Together(parts) if last.written else None,
    )


@dataclass(frozen=True, slots=True)
class _Together:
    """`AsWritten` of several parts."""

    parts: Sequence[Raw]

    def objects(self, columns: Sequence[str]) -> pa.Array:
        """See `raw.AsWritten`."""
        import pyarrow as pa

        return pa.concat_arrays([part.written.objects(columns) for part in self.parts if part.written])

    def records(self, at: npt.NDArray[np.int64]) -> list[str]:
        """See `raw.AsWritten`."""
        ends = np.cumsum([part.table.num_rows for part in self.parts])
        found: list[str] = []
        for row, which in zip(at.tolist(), np.searchsorted(ends, at, side="right").tolist(), strict=True):
            part = self.parts[which]
            first = int(ends[which]) - part.table.num_rows
            if part.written:
                found += part.written.records(np.array([row - first]))
        return found
