"""The newest durable offset in a shared memory word, and the lock that orders the writers of a log."""

from __future__ import annotations

import fcntl
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["Head"]


class Head:
    """A file of one 64-bit word, mapped by every process that has the log open.

    Reading it costs a tenth of a microsecond and sees the commits of all processes. It is written only by whoever
    holds `locked`. A process killed between its commit and the write leaves it behind: the next writer or opener
    mends it from the database, which alone is the truth.
    """

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        if os.fstat(self._fd).st_size < 8:
            os.pwrite(self._fd, bytes(8), 0)  # real blocks: writing into a hole of a full disk would end the process
        self._map = mmap.mmap(self._fd, 8)
        self._word = memoryview(self._map).cast("Q")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One writer at a time, over all processes.

        SQLite has a lock of its own, but a waiter there polls with growing sleeps; this one wakes at once.
        """
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._fd, fcntl.LOCK_UN)

    def get(self) -> int:
        """The newest durable offset."""
        return self._word[0]

    def set(self, offset: int) -> None:
        """Publish an offset; the caller holds `locked`."""
        self._word[0] = offset

    def close(self) -> None:
        """Unmap and close."""
        self._word.release()
        self._map.close()
        os.close(self._fd)
