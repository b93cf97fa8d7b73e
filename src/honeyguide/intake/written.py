"""Rows of Quarantine as their file would write them: for whoever mends them, byte for byte."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Sequence
from pathlib import Path

from honeyguide.intake.blocks import opened
from honeyguide.intake.raw import marked

__all__ = ["as_written", "header_cells", "header_of"]

_ATOMIC = re.compile(r"([^:\s]+):(token|token_seq|float|float_seq)")
_DELIMITERS = ("\t", "::", ",", ";", "|")
_LONGEST_HEADER = 1 << 20


def header_of(path: Path, names: Sequence[str]) -> tuple[str, str]:
    """A delimited file's header line (broken bytes marked) and its delimiter; two empty texts if it has none.

    names: its columns, as the reader names them.
    """
    line = b""
    with opened(path) as file:
        while not line.strip():
            line = file.readline(_LONGEST_HEADER)
            if not line:
                return "", ""
    header = marked(line.removeprefix(b"\xef\xbb\xbf").rstrip(b"\r\n")).decode()
    for delimiter in _DELIMITERS:
        cells = header_cells(header, delimiter)
        # A running number without a name was left out, a blank or repeated name has got another.
        if len(cells) >= len(names) > 0 and set(cells) & set(names) and len(cells) - len(names) <= 1:
            return header, delimiter
    return "", ""


def header_cells(header: str, delimiter: str) -> list[str]:
    """The cells of a header line, as a reader names its columns."""
    if len(delimiter) > 1:
        return [cell.strip() for cell in header.split(delimiter)]
    cells = [cell.strip() for cell in next(csv.reader([header], delimiter=delimiter), [])]
    atomic = [_ATOMIC.fullmatch(cell) for cell in cells]
    return [kind[1] if kind else cell for kind, cell in zip(atomic, cells, strict=True)] if all(atomic) else cells


def as_written(raw: str, header: str = "", delimiter: str = "") -> str:
    """A row as its file writes it: what stands in Quarantine, or, under a header line, its cells in that order."""
    if not header or not raw.startswith("{"):
        return raw
    try:
        cells = json.loads(raw)
    except ValueError:
        return raw
    names = header_cells(header, delimiter)
    if not isinstance(cells, dict) or set(cells) - set(names):
        return raw
    return _joined([str(cells.get(name, "")) for name in names], delimiter)


def _joined(cells: Sequence[str], delimiter: str) -> str:
    if len(delimiter) > 1:
        return delimiter.join(cells)
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter, lineterminator="").writerow(cells)
    return out.getvalue()
