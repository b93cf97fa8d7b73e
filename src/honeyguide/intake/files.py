"""Opens a file as it is: Parquet, CSV / TSV, or a RecBole atomic file. A record is either a row or a refused line."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import re
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from honeyguide.errors import DataError, ResourceError
from honeyguide.intake.blocks import Lines, json_lines
from honeyguide.intake.raw import BROKEN, Format, Raw, RawFile, RefusedLine

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["BROKEN", "Format", "Lines", "Raw", "RawFile", "RefusedLine", "json_lines", "read"]

_SAMPLE_BYTES = 262_144
_BLANK = " \t\r\n"
_BLOCK_BYTES = 1 << 26
_UNIT_SEPARATOR = "\x1f"
_RECBOLE = re.compile(r"([^:\s]+):(token|token_seq|float|float_seq)")
_LOOKS_LIKE_DATA = re.compile(r"[+-]?\d+([.,]\d+)?([eE][+-]?\d+)?|\d{4}-\d{1,2}-\d{1,2}.*")


def read(path: Path, *, sample: bool = False) -> Raw:
    """Read a file (or a folder of Parquet files); with `sample` only its beginning.

    Raises DataError for what is missing, empty, no file, truncated, binary, or not UTF-8 for the most part.
    """
    path = Path(path)
    if path.is_dir():
        parts = sorted(part for part in path.rglob("*.parquet") if part.is_file())
        if not parts:
            raise DataError(
                expected=f"a file at {path}", got="a folder without Parquet files", do="Name the file itself."
            )
        return _parquet(path, parts, sample)
    if not path.exists():
        raise DataError(expected=f"a file at {path}", got="nothing there", do="Check the path.")
    try:
        with path.open("rb") as file:
            head = file.read(4)
            if not head:
                raise DataError(
                    expected=f"rows in {path}", got="an empty file", do="Export it again, with a header line."
                )
            if head == b"PAR1":
                return _parquet(path, [path], sample)
            data = head + (file.read(_SAMPLE_BYTES - 4) if sample else file.read())
    except PermissionError as error:
        raise ResourceError(
            expected=f"to read {path}", got="no permission", do="Change the file's permissions."
        ) from error
    if path.suffix == ".parquet":
        raise DataError(
            expected=f"a Parquet file at {path}", got="a file that does not begin as one", do="Write the file anew."
        )
    return _text(path, data, sample)


# -------------------------------------------------------------------------------------------------- Parquet


def _parquet(path: Path, parts: list[Path], sample: bool) -> Raw:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        tables = []
        for part in parts[:1] if sample else parts:
            with pq.ParquetFile(part) as file:
                if sample:
                    batch = next(file.iter_batches(10_000), None)
                    tables.append(pa.Table.from_batches([] if batch is None else [batch], file.schema_arrow))
                else:
                    tables.append(file.read())
        table = pa.concat_tables([_readable(table) for table in tables], promote_options="permissive")
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            expected=f"a readable Parquet file at {path}",
            got=" ".join(str(error).split())[:200],
            do="It may be truncated, or its parts may differ: write it anew.",
        ) from error
    if table.num_columns == 0 or (table.num_rows == 0 and not sample):
        raise DataError(expected=f"rows in {path}", got="none", do="Export it again.")
    keep = [name for name in table.column_names if not name.startswith("__index_level_")]
    notes = [] if len(keep) == table.num_columns else ["Left out: the pandas index."]
    table = _distinct_names(table.select(keep), keep)
    return Raw(path, "parquet", table, np.arange(1, table.num_rows + 1), [], notes=notes)


def _readable(table: pa.Table) -> pa.Table:
    """Dictionaries decoded, binary read as text, and every text valid UTF-8 (broken bytes marked)."""
    import pyarrow as pa
    import pyarrow.types as t

    for at, column in enumerate(table.columns):
        kind = column.type
        if t.is_dictionary(kind):
            column, kind = column.cast(kind.value_type), kind.value_type
        if t.is_binary(kind) or t.is_large_binary(kind) or t.is_fixed_size_binary(kind):
            column = _text_column(column)
        elif t.is_string(kind) or t.is_large_string(kind) or t.is_string_view(kind):
            try:
                column.validate(full=True)
                column = column.cast(pa.string())
            except pa.ArrowInvalid:
                column = _text_column(column.cast(pa.large_binary()))
        table = table.set_column(at, table.field(at).name, column)
    return table


def _text_column(column: pa.ChunkedArray) -> pa.ChunkedArray:
    import pyarrow as pa

    values = [None if value is None else value.decode("utf-8", _MARK) for value in column.to_pylist()]
    return pa.chunked_array([pa.array(values, pa.string())])


# ----------------------------------------------------------------------------------------------------- text

_MARK = "honeyguide-mark"


def _mark(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    bad = error.object[error.start : error.end]
    return "".join(f"{BROKEN}<{byte:02X}>" for byte in bad), error.end


codecs.register_error(_MARK, _mark)


def _text(path: Path, data: bytes, sample: bool) -> Raw:
    whole = not sample or len(data) < _SAMPLE_BYTES
    if data[:2] == b"\x1f\x8b":
        data, whole = _unzipped(path, sample)
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise DataError(expected=f"UTF-8 in {path}", got="UTF-16", do="Save it as UTF-8: iconv -f utf-16 -t utf-8.")
    if b"\0" in data[:8192]:
        raise DataError(
            expected=f"Parquet, CSV or TSV at {path}", got="a binary file", do="Export it as Parquet or UTF-8 CSV."
        )
    data = data.removeprefix(codecs.BOM_UTF8)
    if not whole:
        data = data[: data.rfind(b"\n") + 1] or data
    text = _decoded(path, data)
    if not text.strip(_BLANK):
        raise DataError(expected=f"rows in {path}", got="blank lines only", do="Export it again, with a header line.")
    return _records(path, text, sample)


def _unzipped(path: Path, sample: bool) -> tuple[bytes, bool]:
    try:
        with gzip.open(path) as file:
            data = file.read(_SAMPLE_BYTES if sample else -1)
            return data, not sample or len(data) < _SAMPLE_BYTES
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(expected=f"a whole gzip file at {path}", got=str(error), do="Compress it again.") from error


def _decoded(path: Path, data: bytes) -> str:
    text = data.decode("utf-8", _MARK)
    if BROKEN in text:
        lines = [line for line in _lines(text) if line.strip(_BLANK)]
        broken = sum(BROKEN in line for line in lines)
        if 2 * broken > len(lines) or BROKEN in lines[0]:
            raise DataError(
                expected=f"UTF-8 in {path}",
                got=f"{broken} of {len(lines)} lines in another encoding (Latin-1?)",
                do="Convert it: iconv -f latin1 -t utf-8.",
            )
    return text


def _records(path: Path, text: str, sample: bool) -> Raw:
    start = text[:_SAMPLE_BYTES].lstrip("\r\n")
    lines = [line for line in _lines(start)[:200] if line.strip(_BLANK)]
    first = lines[0]
    notes: list[str] = []
    kinds = [_RECBOLE.fullmatch(cell.strip()) for cell in first.split("\t")]
    recbole = all(kinds)
    delimiter = "\t" if recbole else _delimiter(lines)
    if delimiter == "::":
        # Arrow splits at one character only.
        text = text.replace("::", _UNIT_SEPARATOR)
        lines = [line.replace("::", _UNIT_SEPARATOR) for line in lines]
        delimiter = _UNIT_SEPARATOR
    quoted = not recbole and _is_quoted(lines, delimiter)
    cells = _header_cells(text if quoted else lines[0], delimiter, quoted)
    has_header = recbole or not any(_LOOKS_LIKE_DATA.fullmatch(cell.strip()) for cell in cells)
    if not has_header:
        notes.append("No header line: columns are named column_1, column_2, ...")
        cells = [f"column_{n + 1}" for n in range(len(cells))]
    refused: list[RefusedLine] = []
    offsets: npt.NDArray[np.int64] | None = None
    if quoted and text.count('"') % 2:
        # One stray quote would swallow everything up to the next: judge each line alone.
        text, offsets, refused = _balanced_lines(text)
        notes.append("A quote is never closed: each line is read alone, without line breaks inside values.")
    table, numbers, ragged, blank = _parse(path, text, len(cells), delimiter, quoted, multiline=offsets is None)
    if offsets is not None:
        numbers = offsets[numbers - 1]
        ragged = [RefusedLine(int(offsets[line.row_number - 1]), line.raw, line.detail) for line in ragged]
    shift = 0
    if has_header:
        # The header is the first record; lines before it are blank.
        firsts = [*numbers[:1].tolist(), *(line.row_number for line in [*ragged[:1], *refused[:1]])]
        shift = min(firsts, default=1)
        if any(line.row_number == shift for line in refused):
            raise DataError(
                expected=f"a header line in {path}", got="a quote that is never closed", do="Export it again."
            )
        keep = numbers != shift
        table, numbers = table.filter(keep), numbers[keep]
        ragged = [line for line in ragged if line.row_number != shift]
    numbers = numbers - shift
    refused = [
        RefusedLine(line.row_number - shift, line.raw, line.detail)
        for line in sorted([*refused, *ragged], key=lambda line: line.row_number)
    ]
    if blank:
        notes.append(f"{blank} blank lines are no rows.")
    if table.num_rows + len(refused) == 0 and not sample:
        raise DataError(expected=f"rows in {path}", got="a header only", do="Export it again.")
    table = _distinct_names(table, [cell.strip() for cell in cells])
    sequences = frozenset[str]()
    if recbole:
        names = [kind[1] for kind in kinds if kind]
        sequences = frozenset(
            name for name, kind in zip(names, kinds, strict=True) if kind and kind[2].endswith("_seq")
        )
        table = _distinct_names(table, names)
    elif table.num_rows and not cells[0].strip() and _is_running(table.column(0)):
        table = table.remove_column(0)
        notes.append("Left out: the first column, a running row number without a name.")
    kind: Format = "recbole" if recbole else "csv"
    return Raw(path, kind, table, numbers, refused, has_header, sequences, notes)


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
    """Whether quotes wrap values: always in CSV; in TSV only if a cell begins and ends with one."""
    if delimiter == ",":
        return True
    cells = [cell for line in lines for cell in line.split(delimiter) if cell.startswith('"')]
    return bool(cells) and any(len(cell) > 1 and cell.endswith('"') for cell in cells)


def _header_cells(text: str, delimiter: str, quoted: bool) -> list[str]:
    if not quoted:
        return text.split(delimiter)
    try:
        records = csv.reader(io.StringIO(text[:_SAMPLE_BYTES].lstrip("\r\n")), delimiter=delimiter)
        return next((record for record in records if any(cell.strip() for cell in record)), [""])
    except csv.Error:
        return _lines(text.lstrip("\r\n"))[0].split(delimiter)


def _lines(text: str) -> list[str]:
    # Not str.splitlines, which also cuts at form feeds and Unicode separators inside values.
    return re.split("\r\n|\n|\r", text)


def _balanced_lines(text: str) -> tuple[str, npt.NDArray[np.int64], list[RefusedLine]]:
    """The lines whose quotes pair up, their numbers, and the others as refused lines."""
    good, numbers, refused = [], [], []
    for number, line in enumerate(_lines(text), 1):
        if line.count('"') % 2:
            refused.append(RefusedLine(number, line, "A quote is opened and never closed."))
        else:
            good.append(line)
            numbers.append(number)
    return "\n".join(good), np.array(numbers, np.int64), refused


def _parse(
    path: Path, text: str, columns: int, delimiter: str, quoted: bool, multiline: bool
) -> tuple[pa.Table, npt.NDArray[np.int64], list[RefusedLine], int]:
    """All records (the header too) as strings; their numbers; records with another number of cells; blank records."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.csv as pv

    refused: list[RefusedLine] = []
    blank = 0

    def odd(row: Any) -> str:
        nonlocal blank
        if row.text.strip(_BLANK):
            detail = f"{row.actual_columns} cells where the header has {row.expected_columns}."
            refused.append(RefusedLine(row.number, row.text, detail))
        else:
            skipped.append(row.number)
            blank += 1
        return "skip"

    skipped: list[int] = []
    names = [str(n) for n in range(columns)]
    data = text.encode()
    try:
        table = pv.read_csv(
            pa.BufferReader(data),
            # One thread: only then does Arrow number the rows that it refuses.
            read_options=pv.ReadOptions(
                use_threads=False, column_names=names, block_size=max(1024, min(len(data) + 1, _BLOCK_BYTES))
            ),
            parse_options=pv.ParseOptions(
                delimiter=delimiter,
                quote_char='"' if quoted else False,
                double_quote=quoted,
                newlines_in_values=quoted and multiline,
                ignore_empty_lines=False,
                invalid_row_handler=odd,
            ),
            convert_options=pv.ConvertOptions(
                column_types={name: pa.string() for name in names}, strings_can_be_null=False, check_utf8=False
            ),
        )
    except pa.ArrowException as error:
        if quoted:
            return _parse(path, text, columns, delimiter, quoted=False, multiline=False)
        raise DataError(
            expected=f"lines of cells in {path}", got=" ".join(str(error).split())[:200], do="Export it as Parquet."
        ) from error
    missing = np.array(sorted([*skipped, *(line.row_number for line in refused)]), np.int64)
    numbers = np.setdiff1d(np.arange(1, table.num_rows + len(missing) + 1), missing, assume_unique=True)
    empty = np.ones(table.num_rows, bool)
    for column in table.columns:
        empty &= pc.equal(pc.binary_length(column), 0).to_numpy()
    if empty.any():
        blank += int(empty.sum())
        table, numbers = table.filter(~empty), numbers[~empty]
    return table, numbers, refused, blank


def _distinct_names(table: pa.Table, names: list[str]) -> pa.Table:
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


def _is_running(column: pa.ChunkedArray) -> bool:
    first = column[0].as_py()
    if first not in ("0", "1"):
        return False
    return bool(column.to_pylist() == [str(n) for n in range(int(first), int(first) + len(column))])
