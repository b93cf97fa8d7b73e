"""The shapes that a reader hands to the gate, and how bytes that are no UTF-8 stay in them.

A byte 0xXX that is no UTF-8 is written `\\ufffd<XX>`. A genuine U+FFFD that stands before such a `<XX>` is written as
its three bytes marked, so that `unmarked` gives every byte back exactly.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["BROKEN", "AsWritten", "Format", "Raw", "RawFile", "RefusedLine", "distinct_names", "marked", "unmarked"]

Format = str
"""parquet, csv, recbole, jsonl, or the name of a foreign format."""

BROKEN = "\ufffd"
"""Stands before `<XX>` where the byte 0xXX was no UTF-8."""

_BROKEN_BYTES = BROKEN.encode()
_LOOKS_MARKED = re.compile(_BROKEN_BYTES + rb"(?=<[0-9A-F]{2}>)")
_MARKED = re.compile(rb"\xef\xbf\xbd<([0-9A-F]{2})>")
_HANDLER = "honeyguide-mark"


@dataclass(frozen=True, slots=True)
class RefusedLine:
    """A record that has not the header's shape, as it stands, without its line end."""

    row_number: int
    raw: str
    detail: str


@dataclass(frozen=True, slots=True)
class Raw:
    """A part of a file before any meaning. `rows_in` = rows of `table` + `refused`; blank lines are no rows."""

    path: Path
    format: Format
    table: pa.Table  # text files: every column a string
    row_number: npt.NDArray[np.int64]  # of each row of `table`, 1 = first record after the header; counts on over parts
    refused: list[RefusedLine]
    has_header: bool = True
    sequences: frozenset[str] = frozenset()  # RecBole columns that hold several tokens
    notes: list[str] = field(default_factory=list)
    clean: bool = False  # the reader knows that no cell holds BROKEN
    written: AsWritten | None = None  # the rows as they stand, where that is more than their cells

    @property
    def rows_in(self) -> int:
        """Records of the part."""
        return self.table.num_rows + len(self.refused)


class AsWritten(Protocol):
    """Rows of a format that has types of its own (JSON), as the file writes them."""

    def objects(self, columns: Sequence[str]) -> pa.Array:
        """A JSON object per row of these columns, without null and empty values; null where nothing is left."""
        ...

    def records(self, at: npt.NDArray[np.int64]) -> list[str]:
        """Rows exactly as they stand."""
        ...


class RawFile(Protocol):
    """An open file of any size."""

    @property
    def path(self) -> Path:
        """Where it lies."""
        ...

    @property
    def format(self) -> Format:
        """What it is."""
        ...

    def sample(self) -> Raw:
        """Its beginning (some 250 kB, or 10,000 rows)."""
        ...

    def batches(self) -> Iterator[Raw]:
        """All of it, some 50,000-150,000 rows at a time. Raises DataError where it breaks off."""
        ...


def marked(data: bytes) -> bytes:
    """Bytes as UTF-8, each byte that is none marked. Text without U+FFFD comes back as it is."""
    if data.isascii():
        return data
    if _BROKEN_BYTES in data:
        data = _LOOKS_MARKED.sub(_marks(_BROKEN_BYTES).encode(), data)
    try:
        data.decode()
    except UnicodeDecodeError:
        return data.decode("utf-8", _HANDLER).encode()
    return data


def unmarked(text: str) -> bytes:
    """The bytes that `marked` was given."""
    return _MARKED.sub(lambda found: bytes([int(found[1], 16)]), text.encode())


def _marks(data: bytes) -> str:
    return "".join(f"{BROKEN}<{byte:02X}>" for byte in data)


def _mark(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return _marks(error.object[error.start : error.end]), error.end


codecs.register_error(_HANDLER, _mark)


def distinct_names(table: pa.Table, names: list[str]) -> pa.Table:
    """Columns renamed; a blank name becomes column_N, a repeated one gets a number."""
    seen: set[str] = set()
    distinct = []
    for at, name in enumerate(names, 1):
        chosen = base = name or f"column_{at}"
        again = 2
        while chosen in seen:
            chosen, again = f"{base}_{again}", again + 1
        seen.add(chosen)
        distinct.append(chosen)
    return table.rename_columns(distinct)
