"""A text file in blocks that end where a line ends, gzip or not, and its lines with their numbers."""

from __future__ import annotations

import codecs
import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from honeyguide.errors import DataError, ResourceError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["BLOCK_BYTES", "LINE_LIMIT_BYTES", "Lines", "blocks", "json_lines", "lines_of", "opened", "taken"]

BLOCK_BYTES = 16 << 20
LINE_LIMIT_BYTES = 256 << 20
GZIP = b"\x1f\x8b"


@dataclass(frozen=True, slots=True)
class Lines:
    """Some lines of a file: line `i` is `data[start[i]:end[i]]`, without its line end, its number `row_number[i]`."""

    data: bytes
    start: npt.NDArray[np.int64]
    end: npt.NDArray[np.int64]
    row_number: npt.NDArray[np.int64]  # 1 = the first line; blank lines are counted and left out

    def __len__(self) -> int:
        return len(self.start)

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        """Pairs of row number and the line's bytes."""
        data = self.data
        for number, start, end in zip(self.row_number.tolist(), self.start.tolist(), self.end.tolist(), strict=True):
            yield number, data[start:end]

    def array(self) -> pa.Array:
        """The lines as Arrow binary."""
        import pyarrow as pa

        if len(self) and np.array_equal(self.end[:-1] + 1, self.start[1:]):
            # Back to back: their line ends, which JSON does not mind, save a copy.
            offsets = np.append(self.start, self.end[-1]).astype(np.int32)
            buffers = [None, pa.py_buffer(offsets), pa.py_buffer(self.data)]
            return pa.Array.from_buffers(pa.binary(), len(self), buffers)
        return pa.array([line for _, line in self], pa.binary())


def json_lines(path: Path) -> Iterator[Lines]:
    """A file of lines (JSON or not, gzip or not) in batches of some 16 MB, exactly as they stand.

    Raises DataError where a gzip file breaks off, and for a line beyond 256 MB.
    """
    number = 0
    for block in blocks(Path(path)):
        lines, number = lines_of(block, number)
        if len(lines):
            yield lines


def lines_of(block: bytes, before: int) -> tuple[Lines, int]:
    """The lines of a block that begins after line `before`, and the number of its last."""
    flat = np.frombuffer(block, np.uint8)
    ends = np.flatnonzero(flat == 10)
    if not block.endswith(b"\n"):
        ends = np.append(ends, len(flat))
    start = np.concatenate([[0], ends[:-1] + 1]).astype(np.int64)
    end = ends.astype(np.int64)
    number = before + 1 + np.arange(len(end))
    full = end > start
    end[full & (flat[np.maximum(end - 1, 0)] == 13)] -= 1
    first = flat[np.minimum(start, len(flat) - 1)]
    # Only a line that begins with a blank can be a blank line.
    for at in np.flatnonzero(full & ((first == 32) | (first == 9) | (first == 13))):
        full[at] = bool(block[start[at] : end[at]].strip())
    full &= end > start
    return Lines(block, start[full], end[full], number[full]), before + len(end)


def blocks(path: Path, *, mark: bytes = b"\n") -> Iterator[bytes]:
    """The file's bytes (without a byte order mark) in blocks of some 16 MB that end with `mark`, but for the last."""
    with opened(path) as file:
        rest = b""
        first = True
        while True:
            data = taken(path, file, BLOCK_BYTES)
            if first:
                data, first = data.removeprefix(codecs.BOM_UTF8), False
            if not data:
                break
            cut = data.rfind(mark) + 1
            if not cut:
                rest += data
                if len(rest) > LINE_LIMIT_BYTES:
                    raise DataError(
                        expected=f"lines of at most {LINE_LIMIT_BYTES >> 20} MB in {path}",
                        got="a longer one",
                        do="Export it again, a record per line.",
                    )
                continue
            yield b"".join((rest, memoryview(data)[:cut]))
            rest = data[cut:]
        if rest:
            yield rest


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """The file's bytes, unpacked if it is gzip. Raises DataError or ResourceError where it cannot be opened."""
    try:
        with path.open("rb") as plain:
            if plain.read(2) == GZIP:
                with gzip.open(path) as packed:
                    yield packed  # type: ignore[misc]
                return
            plain.seek(0)
            yield plain
    except FileNotFoundError as error:
        raise DataError(expected=f"a file at {path}", got="nothing there", do="Check the path.") from error
    except PermissionError as error:
        raise ResourceError(
            expected=f"to read {path}", got="no permission", do="Change the file's permissions."
        ) from error


def taken(path: Path, file: IO[bytes], size: int) -> bytes:
    """Up to `size` bytes. Raises DataError where a gzip file breaks off."""
    try:
        return file.read(size)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(expected=f"a whole gzip file at {path}", got=str(error), do="Compress it again.") from error
