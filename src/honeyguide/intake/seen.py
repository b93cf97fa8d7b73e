"""Which ids came before, exactly, for a hundred million of them: hashes in memory, the ids themselves on disk."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from honeyguide.intake.values import frozen, parts_of

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Seen"]

Mask = npt.NDArray[np.bool_]

_FIRST_SLOTS = 1 << 18
_FULL = 0.75
_AT_ONCE = 1 << 14  # what is looked up on disk stays mapped so long
_IN_MEMORY_SLOTS = 1 << 26  # 512 MB; beyond, the slots lie in a file whose pages the system may take back
_CHUNK = 1 << 20


class Seen:
    """An exact set of ids: 8 bytes for each slot (at most 75 % are full), and the ids in a file of `folder`.

    Two ids are compared byte by byte where most bits of their hashes agree. Use it in a `with` block.
    """

    def __init__(self, folder: Path | None = None, expected: int = 0) -> None:
        """expected: about so many ids will come; growing later costs a second look at each."""
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        self._folder = Path(tempfile.mkdtemp(prefix="seen-", dir=folder))
        self._texts = (self._folder / "texts").open("wb")
        self._ends = (self._folder / "ends").open("wb")
        np.zeros(1, np.int64).tofile(self._ends)
        self._slots: Any = np.zeros(0, np.uint64)
        self._bytes = 0
        self._count = 0
        self._grow(min(expected + expected // 50, int(_IN_MEMORY_SLOTS * _FULL) - 1))

    def __len__(self) -> int:
        return self._count

    def add(self, batches: Iterable[pa.Array]) -> None:
        """Take ids that are known to be different, such as those of a table."""
        for ids in batches:
            self.admit(ids, np.ones(len(ids), bool))

    def admit(self, ids: pa.Array, passing: Mask) -> Mask:
        """Take the passing ids; which of them came before, in this array or an earlier one. A null passes never."""
        import pyarrow as pa

        from honeyguide.kernels.cells import admit

        n = len(ids)
        if n > _AT_ONCE:
            starts = range(0, n, _AT_ONCE)
            parts = [self.admit(ids.slice(at, _AT_ONCE), passing[at : at + _AT_ONCE]) for at in starts]
            return np.concatenate(parts)
        if ids.null_count:
            passing = passing & ids.is_valid().to_numpy(zero_copy_only=False)
        if self._count + n > _FULL * len(self._slots):
            self._grow(max(self._count + n, self._count * 3 // 2))
        ends, texts = self._on_disk()
        offsets, data = parts_of(ids)
        fresh, again = np.empty(n, np.int64), np.empty(n, bool)
        count = admit(offsets, data, frozen(passing), self._slots, self._count, ends, texts, fresh, again)
        new = ids if count == n else ids.take(pa.array(fresh[:count]))
        if count:
            self._keep(*parts_of(new))
        return again

    def _keep(self, offsets: npt.NDArray[np.int32], data: npt.NDArray[np.uint8]) -> None:
        first, last = int(offsets[0]), int(offsets[-1])
        self._texts.write(data[first:last].data)
        (offsets[1:].astype(np.int64) - first + self._bytes).tofile(self._ends)
        self._bytes += last - first
        self._count += len(offsets) - 1

    def _on_disk(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8]]:
        self._texts.flush()
        self._ends.flush()
        ends = np.memmap(self._folder / "ends", np.int64, "r")
        texts = np.memmap(self._folder / "texts", np.uint8, "r") if self._bytes else np.zeros(1, np.uint8)
        return frozen(np.asarray(ends)), frozen(np.asarray(texts))

    def _grow(self, needed: int) -> None:
        from honeyguide.kernels.cells import admit

        size = max(_FIRST_SLOTS, int(needed / _FULL) + 1)
        self._slots = None  # the old ones go before the new ones come
        if size > _IN_MEMORY_SLOTS:
            self._slots = np.asarray(np.memmap(self._folder / f"slots{size}", np.uint64, "w+", shape=(size,)))
        else:
            self._slots = np.zeros(size, np.uint64)
        ends, texts = self._on_disk()
        for first in range(0, self._count, _CHUNK):
            last = min(first + _CHUNK, self._count)
            offsets = frozen((ends[first : last + 1] - ends[first]).astype(np.int32))
            data = frozen(texts[ends[first] : max(int(ends[last]), int(ends[first]) + 1)])
            n = last - first
            admit(
                offsets, data, frozen(np.ones(n, bool)), self._slots, first, ends, texts, np.empty(n, np.int64),
                np.empty(n, bool),
            )  # fmt: skip
        for old in self._folder.glob("slots*"):
            if old.name != f"slots{size}":
                old.unlink()

    def close(self) -> None:
        """Remove what lies on disk."""
        self._texts.close()
        self._ends.close()
        self._slots = None
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
