"""CSV, TSV and RecBole atomic files of any size: a block of lines at a time through Arrow's reader."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from honeyguide.errors import DataError
from honeyguide.intake.blocks import blocks
from honeyguide.intake.raw import BROKEN, Format, Raw, RefusedLine, distinct_names, marked

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Delimited"]

_BLANK = " \t\r\n"
_SEPARATORS = "\x1f\x1e\x1d\x1c"
_RECBOLE = re.compile(r"([^:\s]+):(token|token_seq|float|float_seq)")
_LOOKS_LIKE_DATA = re.compile(r"[+-]?\d+([.,]\d+)?([eE][+-]?\d+)?|\d{4}-\d{1,2}-\d{1,2}.*")
_UNCLOSED = "A quote is opened and never closed."
_ALONE = "A quote is never closed: lines near it are read alone, without line breaks inside values."
_LONGEST_VALUE = 1 << 20
"""A quoted value with line breaks that is longer than this is taken for a quote that is never closed."""

Numbers = npt.NDArray[np.int64]
_Way = Literal["unquoted", "quoted", "multiline", "alone"]


@dataclass(slots=True)
class _Records:
    """Rows (every column a string) and refused records, both numbered from 1, and how many there were in all."""

    table: pa.Table
    number: Numbers
    refused: list[RefusedLine]
    total: int
    blank: int
    clean: bool = True


@dataclass(slots=True)
class _Dialect:
    """How a file is written, as its beginning tells."""

    delimiter: str
    quoted: bool
    recbole: bool
    cells: list[str]  # the header's, or made-up names
    has_header: bool
    line_end: bytes


@dataclass(slots=True)
class Delimited:
    """An open CSV, TSV or RecBole file (see `raw.RawFile`)."""

    path: Path
    head: bytes  # its first lines, whole
    whole: bool  # whether they are all there is
    dialect: _Dialect = field(init=False)

    def __post_init__(self) -> None:
        self.dialect = _dialect(self.path, self.head)

    @property
    def format(self) -> Format:
        """csv or recbole."""
        return "recbole" if self.dialect.recbole else "csv"

    def sample(self) -> Raw:
        """The rows of the beginning."""
        import pyarrow as pa

        found = list(self._read(iter([self.head])))
        if found:
            return found[0]
        names = [cell.strip() for cell in self.dialect.cells]
        table = distinct_names(
            pa.table([pa.array([], pa.string())] * len(names), [str(n) for n in range(len(names))]), names
        )
        return Raw(self.path, self.format, table, np.zeros(0, np.int64), [], self.dialect.has_header)

    def batches(self) -> Iterator[Raw]:
        """All rows."""
        return self._read(iter([self.head]) if self.whole else blocks(self.path, mark=self.dialect.line_end))

    def _read(self, parts: Iterator[bytes]) -> Iterator[Raw]:
        dialect, notes = self.dialect, list[str]()
        if not dialect.has_header:
            notes.append("No header line: columns are named column_1, column_2, ...")
        before = blank = 0
        header: int | None = None if dialect.has_header else 0
        unnamed: bool | None = None
        for data, way in _whole_records(parts, dialect.quoted, dialect.line_end):
            if way == "alone" and _ALONE not in notes:
                notes.append(_ALONE)
            found = self._parsed(data, way)
            if header is None and (found.table.num_rows or found.refused):
                header = before + self._drop_header(found)
            blank += found.blank
            table = self._named(found.table)
            if unnamed is None and table.num_rows:
                unnamed = not dialect.recbole and not dialect.cells[0].strip() and _is_running(table.column(0))
                if unnamed:
                    notes.append("Left out: the first column, a running row number without a name.")
            offset = before - (header or 0)
            before += found.total
            if found.table.num_rows or found.refused:
                yield Raw(
                    self.path,
                    self.format,
                    table.remove_column(0) if unnamed else table,
                    found.number + offset,
                    sorted((_moved(line, offset) for line in found.refused), key=lambda line: line.row_number),
                    dialect.has_header,
                    self._sequences(),
                    notes,
                    found.clean,
                )
        if blank:
            notes.append(f"{blank} blank lines are no rows.")

    def _drop_header(self, found: _Records) -> int:
        """Take the header's record away; returns its number (lines before it are blank)."""
        number = min([*found.number[:1].tolist(), *(line.row_number for line in found.refused)])
        if any(line.row_number == number and line.detail == _UNCLOSED for line in found.refused):
            raise DataError(
                expected=f"a header line in {self.path}", got="a quote that is never closed", do="Export it again."
            )
        keep = found.number != number
        found.table, found.number = found.table.filter(keep), found.number[keep]
        found.refused = [line for line in found.refused if line.row_number != number]
        return int(number)

    def _named(self, table: pa.Table) -> pa.Table:
        names = [cell.strip() for cell in self.dialect.cells]
        return distinct_names(table, [name.rpartition(":")[0] for name in names] if self.dialect.recbole else names)

    def _sequences(self) -> frozenset[str]:
        if not self.dialect.recbole:
            return frozenset()
        cells = [cell.strip().rpartition(":") for cell in self.dialect.cells]
        return frozenset(name for name, _, kind in cells if kind.endswith("_seq"))

    def _parsed(self, data: bytes, way: _Way) -> _Records:
        data = marked(data)
        clean = data.isascii() or BROKEN.encode() not in data
        delimiter = separator = self.dialect.delimiter
        if len(delimiter) > 1:
            # Arrow splits at one character only: at one that the block does not hold.
            separator = next((one for one in _SEPARATORS if one.encode() not in data), _SEPARATORS[0])
            data = data.replace(delimiter.encode(), separator.encode())
        columns = len(self.dialect.cells)
        if way == "alone":
            records = _lines_alone(self.path, data, columns, separator)
        else:
            records = _parse(self.path, data, columns, separator, way != "unquoted", way == "multiline")
            if way == "multiline":
                records = _torn(self.path, records, columns, separator)
        if separator != delimiter:
            records.refused = [replace(line, raw=line.raw.replace(separator, delimiter)) for line in records.refused]
        records.clean = clean
        return records


def _moved(line: RefusedLine, offset: int) -> RefusedLine:
    return replace(line, row_number=int(line.row_number + offset))


# ------------------------------------------------------------------------------------------------ where records end


def _whole_records(parts: Iterator[bytes], quoted: bool, line_end: bytes) -> Iterator[tuple[bytes, _Way]]:
    """Bytes that hold whole records, and how they must be read.

    A line break inside quotes ends no record. Where a value does not end, its quote was a stray one: what is left is
    read line by line, and only lines whose quotes do not pair up go to Quarantine.
    """
    rest = b""
    for data in parts:
        data, rest = rest + data if rest else data, b""
        if not quoted or b'"' not in data:
            yield data, "unquoted"
            continue
        cut, inside = _ends(data)
        if cut:
            yield data[:cut] if cut < len(data) else data, "multiline" if inside else "quoted"
        if cut < len(data):
            rest = data[cut:]
            if len(rest) > _LONGEST_VALUE and rest.endswith(line_end):
                yield rest, "alone"
                rest = b""
    if rest:
        yield rest, "alone"


def _ends(data: bytes) -> tuple[int, bool]:
    """Where the last line ends that ends outside quotes (the end of `data` if its quotes pair up), and whether a line
    ends inside some before that."""
    flat = np.frombuffer(data, np.uint8)
    quotes = np.flatnonzero(flat == 34)
    breaks = np.flatnonzero((flat == 10) | (flat == 13))
    inside = np.searchsorted(quotes, breaks) % 2 == 1
    if len(quotes) % 2 == 0:
        return len(data), bool(inside.any())
    outside = np.flatnonzero(~inside)
    if not len(outside):
        return 0, False
    return int(breaks[outside[-1]]) + 1, bool(inside[: outside[-1]].any())


def _lines_alone(path: Path, data: bytes, columns: int, separator: str) -> _Records:
    """Each line is a record; one whose quotes do not pair up is refused."""
    good, numbers, refused = list[str](), list[int](), list[RefusedLine]()
    lines = _lines(data.decode())
    if not lines[-1]:
        lines.pop()
    for number, line in enumerate(lines, 1):
        if line.count('"') % 2:
            refused.append(RefusedLine(number, line, _UNCLOSED))
        else:
            good.append(line)
            numbers.append(number)
    found = _parse(
        path, "".join(f"{line}\n" for line in good).encode(), columns, separator, quoted=True, multiline=False
    )
    number_of = np.array(numbers, np.int64)
    refused += [replace(line, row_number=int(number_of[line.row_number - 1])) for line in found.refused]
    return replace(found, number=number_of[found.number - 1], refused=refused, total=len(lines))


def _torn(path: Path, records: _Records, columns: int, separator: str) -> _Records:
    """Refused records with line breaks in them: two stray quotes made one of several lines. Those are read alone."""
    import pyarrow as pa

    torn = sorted((line for line in records.refused if re.search("[\r\n]", line.raw)), key=lambda line: line.row_number)
    if not torn:
        return records
    parts = [_lines_alone(path, line.raw.encode(), columns, separator) for line in torn]
    places = np.array([line.row_number for line in torn])
    more = np.concatenate([[0], np.cumsum([part.total - 1 for part in parts])])

    def moved(number: Any) -> Any:
        return number + more[np.searchsorted(places, number)]

    number = np.concatenate(
        [moved(records.number), *(part.number + moved(at) - 1 for at, part in zip(places, parts, strict=True))]
    )
    order = np.argsort(number, kind="stable")
    refused = [replace(line, row_number=int(moved(line.row_number))) for line in records.refused if line not in torn]
    for at, part in zip(places, parts, strict=True):
        refused += [_moved(line, moved(at) - 1) for line in part.refused]
    table = pa.concat_tables([records.table, *(part.table for part in parts)]).take(pa.array(order))
    blank = records.blank + sum(part.blank for part in parts)
    return _Records(table, number[order], refused, records.total + int(more[-1]), blank)


def _parse(path: Path, data: bytes, columns: int, separator: str, quoted: bool, multiline: bool) -> _Records:
    """All records as strings; those with another number of cells are refused; blank ones are no rows."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.csv as pv

    refused: list[RefusedLine] = []
    skipped: list[int] = []

    def odd(row: Any) -> str:
        if row.text.strip(_BLANK):
            detail = f"{row.actual_columns} cells where the header has {row.expected_columns}."
            refused.append(RefusedLine(row.number, row.text, detail))
        else:
            skipped.append(row.number)
        return "skip"

    names = [str(n) for n in range(columns)]
    if not data:
        return _Records(pa.table({name: pa.array([], pa.string()) for name in names}), np.zeros(0, np.int64), [], 0, 0)
    try:
        table = pv.read_csv(
            pa.BufferReader(data),
            # One thread: only then does Arrow number the rows that it refuses.
            read_options=pv.ReadOptions(use_threads=False, column_names=names, block_size=max(1024, len(data) + 1)),
            parse_options=pv.ParseOptions(
                delimiter=separator,
                quote_char='"' if quoted else False,
                double_quote=quoted,
                newlines_in_values=multiline,
                ignore_empty_lines=False,
                invalid_row_handler=odd,
            ),
            convert_options=pv.ConvertOptions(
                column_types={name: pa.string() for name in names}, strings_can_be_null=False, check_utf8=False
            ),
        )
    except pa.ArrowException as error:
        if quoted:
            return _parse(path, data, columns, separator, quoted=False, multiline=False)
        raise DataError(
            expected=f"lines of cells in {path}", got=" ".join(str(error).split())[:200], do="Export it as Parquet."
        ) from error
    total = table.num_rows + len(skipped) + len(refused)
    number = np.arange(1, total + 1)
    if total > table.num_rows:
        missing = np.array(sorted([*skipped, *(line.row_number for line in refused)]), np.int64)
        number = np.setdiff1d(number, missing, assume_unique=True)
    empty = pc.equal(pc.binary_length(table.column(0)), 0).to_numpy()
    if empty.any():
        for column in table.columns[1:]:
            empty &= pc.equal(pc.binary_length(column), 0).to_numpy()
        table, number = table.filter(~empty), number[~empty]
    return _Records(table, number, refused, total, len(skipped) + int(empty.sum()))


# -------------------------------------------------------------------------------------------------- the dialect


def _dialect(path: Path, head: bytes) -> _Dialect:
    text = marked(head).decode()
    if not text.strip(_BLANK):
        raise DataError(expected=f"rows in {path}", got="blank lines only", do="Export it again, with a header line.")
    _mostly_utf8(path, text)
    text = text.lstrip("\r\n")
    lines = [line for line in _lines(text)[:200] if line.strip(_BLANK)]
    recbole = all(_RECBOLE.fullmatch(cell.strip()) for cell in lines[0].split("\t"))
    delimiter = "\t" if recbole else _delimiter(lines)
    quoted = not recbole and _is_quoted(lines, delimiter)
    cells = _header_cells(text if quoted else lines[0], delimiter, quoted)
    has_header = recbole or not any(_LOOKS_LIKE_DATA.fullmatch(cell.strip()) for cell in cells)
    if not has_header:
        cells = [f"column_{n + 1}" for n in range(len(cells))]
    line_end = b"\r" if b"\n" not in head and b"\r" in head else b"\n"
    return _Dialect(delimiter, quoted, recbole, cells, has_header, line_end)


def _mostly_utf8(path: Path, text: str) -> None:
    if BROKEN not in text:
        return
    lines = [line for line in _lines(text) if line.strip(_BLANK)]
    broken = sum(BROKEN in line for line in lines)
    if 2 * broken > len(lines) or BROKEN in lines[0]:
        raise DataError(
            expected=f"UTF-8 in {path}",
            got=f"{broken} of {len(lines)} lines in another encoding (Latin-1?)",
            do="Convert it: iconv -f latin1 -t utf-8.",
        )


def _delimiter(lines: list[str]) -> str:
    """The candidate that cuts most lines into as many cells as the first; more cells break ties."""

    def score(candidate: str) -> tuple[float, int]:
        if len(candidate) == 1:
            counts = [len(row) for row in csv.reader(lines, delimiter=candidate)] or [1]
        else:
            counts = [line.count(candidate) + 1 for line in lines]
        return (sum(count == counts[0] for count in counts) / len(counts) if counts[0] > 1 else 0.0, counts[0])

    try:
        return max(("\t", "::", ",", ";", "|"), key=score)
    except csv.Error:  # a field beyond the csv module's limit
        return max(("\t", "::", ",", ";", "|"), key=lines[0].count)


def _is_quoted(lines: list[str], delimiter: str) -> bool:
    """Whether quotes wrap values: always with , and ; and else only if a cell begins and ends with one."""
    if delimiter in ",;":
        return True
    cells = [cell for line in lines for cell in line.split(delimiter) if cell.startswith('"')]
    return bool(cells) and any(len(cell) > 1 and cell.endswith('"') for cell in cells)


def _header_cells(text: str, delimiter: str, quoted: bool) -> list[str]:
    if not quoted:
        return text.split(delimiter)
    separator = delimiter if len(delimiter) == 1 else _SEPARATORS[0]
    text = text.replace(delimiter, separator)
    try:
        records = csv.reader(io.StringIO(text), delimiter=separator)
        return next((record for record in records if any(cell.strip() for cell in record)), [""])
    except csv.Error:
        return _lines(text)[0].split(separator)


def _lines(text: str) -> list[str]:
    # Not str.splitlines, which also cuts at form feeds and Unicode separators inside values.
    return re.split("\r\n|\n|\r", text)


def _is_running(column: pa.ChunkedArray) -> bool:
    first = column[0].as_py()
    if first not in ("0", "1"):
        return False
    return bool(column.to_pylist() == [str(n) for n in range(int(first), int(first) + len(column))])
