"""JSON lines of any size: an object per line, its fields as texts, objects and lists in them as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from honeyguide.intake.blocks import Lines, blocks, lines_of
from honeyguide.intake.raw import BROKEN, Format, Raw, RefusedLine, distinct_names, marked
from honeyguide.intake.values import frozen
from honeyguide.kernels import jsonlines as kernel

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["JsonLines"]

MOST_FIELDS = 500
_LEARN_LINES = 200
_WRONG = {
    kernel.MALFORMED: "No JSON.",
    kernel.NOT_OBJECT: "JSON, but no object.",
    kernel.STRANGE: f"A field beyond the {MOST_FIELDS} that a file may have.",
    kernel.DEEP: "JSON nested deeper than 128 levels.",
}


@dataclass(frozen=True, slots=True)
class JsonLines:
    """An open file of JSON lines (see `raw.RawFile`)."""

    path: Path
    head: bytes  # its first lines, whole
    whole: bool  # whether they are all there is

    @property
    def format(self) -> Format:
        """jsonl."""
        return "jsonl"

    def sample(self) -> Raw:
        """The rows of the beginning."""
        return next(self._read(iter([self.head])))

    def batches(self) -> Iterator[Raw]:
        """All rows. A batch has the columns met so far."""
        return self._read(iter([self.head]) if self.whole else blocks(self.path))

    def _read(self, parts: Iterator[bytes]) -> Iterator[Raw]:
        fields, number = _Fields(), 0
        for block in parts:
            data = marked(block)
            clean = data.isascii() or BROKEN.encode() not in data
            lines, number = lines_of(data, number)
            if len(lines):
                yield _raw(self.path, fields, lines, clean)


class _Fields:
    """The fields met so far: their spellings in the file, and the column that each belongs to."""

    def __init__(self) -> None:
        self.columns: list[str] = []
        self._spelled: dict[bytes, int] = {}

    def learn(self, spellings: Sequence[bytes]) -> bool:
        """Take new spellings in; whether there were any, and room for them."""
        before = len(self._spelled)
        for spelled in spellings:
            if spelled in self._spelled:
                continue
            name = json.loads(b'"' + spelled + b'"')
            if name not in self.columns:
                if len(self.columns) == MOST_FIELDS:
                    continue
                self.columns.append(name)
            self._spelled[spelled] = self.columns.index(name)
        return len(self._spelled) > before

    def arrays(self) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.uint8], npt.NDArray[np.int32]]:
        """Ends and bytes of the spellings, and the column of each."""
        ends = np.cumsum([0, *(len(spelled) for spelled in self._spelled)]).astype(np.int32)
        return (
            ends,
            np.frombuffer(b"".join(self._spelled) or b"\0", np.uint8),
            np.array([*self._spelled.values()], np.int32),
        )


@dataclass(frozen=True, slots=True)
class _Rows:
    """Good lines of a block and the spans of their fields: `kind`, `low`, `high` are (columns, rows)."""

    lines: Lines
    kind: npt.NDArray[np.uint8]
    low: npt.NDArray[np.int32]
    high: npt.NDArray[np.int32]
    columns: list[str] = field(default_factory=list)  # as the table names them

    @property
    def _data(self) -> npt.NDArray[np.uint8]:
        return np.frombuffer(self.lines.data, np.uint8)

    def texts(self) -> list[pa.Array]:
        """Every column as texts, null where the field is null or not there."""
        import pyarrow as pa

        there = self.kind > kernel.NULL
        columns, n = self.kind.shape
        base = np.concatenate([[0], np.cumsum(((self.high - self.low) * there).sum(axis=1, dtype=np.int64))])
        offsets, out = np.empty((columns, n + 1), np.int32), np.empty(max(1, int(base[-1])), np.uint8)
        kernel.gather(self._data, self.kind, self.low, self.high, base, offsets, out)
        found = []
        for at in range(columns):
            bitmap = None if there[at].all() else pa.py_buffer(np.packbits(there[at], bitorder="little"))
            cells = pa.py_buffer(out[base[at] : max(base[at] + 1, base[at + 1])])
            found.append(pa.Array.from_buffers(pa.string(), n, [bitmap, pa.py_buffer(offsets[at]), cells]))
        return found

    def objects(self, columns: Sequence[str]) -> pa.Array:
        """See `raw.AsWritten`."""
        import pyarrow as pa

        n = len(self.lines)
        which = np.array([self.columns.index(name) for name in columns if name in self.columns], np.int32)
        which = which[which < len(self.kind)]
        if not len(which):
            return pa.nulls(n, pa.string())
        keys = [json.dumps(self.columns[at], ensure_ascii=False).encode() + b":" for at in which]
        ends = np.cumsum([0, *(len(key) for key in keys)]).astype(np.int32)
        there = self.kind[which] > kernel.NULL
        room = int((self.high[which] - self.low[which])[there].sum()) + int(there.sum()) * 3
        room += int((there.sum(axis=1) * np.diff(ends)).sum()) + 2 * n
        offsets, out = np.empty(n + 1, np.int32), np.empty(room, np.uint8)
        flat = np.frombuffer(b"".join(keys), np.uint8)
        kernel.compose(self._data, self.kind, self.low, self.high, which, ends, flat, offsets, out)
        bitmap = pa.py_buffer(np.packbits(offsets[1:] > offsets[:-1], bitorder="little"))
        return pa.Array.from_buffers(pa.string(), n, [bitmap, pa.py_buffer(offsets), pa.py_buffer(out)])

    def records(self, at: npt.NDArray[np.int64]) -> list[str]:
        """See `raw.AsWritten`."""
        return [_text(self.lines, int(row)) for row in at]


def _raw(path: Path, fields: _Fields, lines: Lines, clean: bool) -> Raw:
    import pyarrow as pa

    kind, low, high, wrong, strange = _scan(fields, lines.data, lines.start, lines.end)
    while np.any(wrong == kernel.STRANGE) and _learn(fields, lines, wrong, strange):
        kind, low, high, wrong, strange = _scan(fields, lines.data, lines.start, lines.end)
    bad = np.flatnonzero(wrong)
    refused = [RefusedLine(int(lines.row_number[at]), _text(lines, int(at)), _WRONG[int(wrong[at])]) for at in bad]
    if len(bad):
        good = wrong == 0
        lines = Lines(lines.data, lines.start[good], lines.end[good], lines.row_number[good])
        kind, low, high = kind[:, good], low[:, good], high[:, good]
    rows = _Rows(lines, kind, low, high)
    columns, names = rows.texts(), fields.columns
    if not columns:  # no row has a field: a table without columns would have no rows either
        columns, names = [pa.nulls(len(lines), pa.string())], [""]
    table = distinct_names(pa.table(columns, [str(n) for n in range(len(columns))]), names)
    rows.columns.extend(table.column_names)
    return Raw(path, "jsonl", table, lines.row_number, refused, clean=clean, written=rows)


def _scan(fields: _Fields, data: bytes, start: npt.NDArray[np.int64], end: npt.NDArray[np.int64]) -> Any:
    shape = (len(fields.columns), len(start))
    kind, low, high = np.zeros(shape, np.uint8), np.zeros(shape, np.int32), np.zeros(shape, np.int32)
    wrong, strange = np.zeros(len(start), np.uint8), np.zeros((len(start), 2), np.int32)
    spelled = [frozen(array) for array in fields.arrays()]
    kernel.scan(np.frombuffer(data, np.uint8), start, end, *spelled, kind, low, high, wrong, strange)
    return kind, low, high, wrong, strange


def _learn(fields: _Fields, lines: Lines, wrong: npt.NDArray[np.uint8], strange: npt.NDArray[np.int32]) -> bool:
    """Learn all names of some lines that have unknown ones; False once there is no room for more."""
    some = np.flatnonzero(wrong == kernel.STRANGE)[:_LEARN_LINES]
    start, end, places = lines.start[some], lines.end[some], strange[some]
    learnt = False
    while len(places) and fields.learn([lines.data[low:high] for low, high in places.tolist()]):
        learnt = True
        *_, wrong, strange = _scan(fields, lines.data, start, end)
        places = strange[wrong == kernel.STRANGE]
    return learnt


def _text(lines: Lines, at: int) -> str:
    return lines.data[lines.start[at] : lines.end[at]].decode()
