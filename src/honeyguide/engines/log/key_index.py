"""Which keys the log knows: fingerprints in shared memory, so that random keys cost as little as ordered ones.

A unique index in the database over random 16-byte keys dirties one page per event (13.8 us and 7.5 kB an event
at 1.5 M rows). Here a key costs one probe of a memory-mapped open-addressing table, and no write to the database.
The table is only a memory of what the database holds: a fingerprint that matches is checked against the database,
and a table that is lost, foreign or older than the last start of the machine is made again from it.
"""

from __future__ import annotations

import mmap
import os
import time
from _blake2 import blake2b
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt

__all__ = ["DIGEST_BYTES", "KeyIndex", "digest_of", "digests_of"]

DIGEST_BYTES = 16
_MAGIC = 0x32_58_44_49_59_45_4B_48  # "HKEYIDX2", little-endian
_MAGIC_AT, _LOG_AT, _BOOT_AT, _BITS_AT, _USED_AT, _UPTO_AT, _ENTRIES_AT = 0, 1, 3, 5, 6, 7, 8
_EMPTY, _FORGOTTEN, _FIRST = 0, 1, 2
_SMALLEST_BITS = 16
_ZEROS = bytes(1 << 20)

U64 = npt.NDArray[np.uint64]


def digest_of(key: str, log_id: bytes) -> bytes:
    """16 bytes that stand for a key, salted with the log's random id: nobody outside can aim keys at one slot."""
    return blake2b(key.encode(), digest_size=DIGEST_BYTES, salt=log_id).digest()


def digests_of(keys: Iterable[str], log_id: bytes) -> list[bytes]:
    """`digest_of` for many keys: copying a hash that was begun takes half as long as beginning one."""
    begun, digests = blake2b(digest_size=DIGEST_BYTES, salt=log_id), []
    for key in keys:
        one = begun.copy()
        one.update(key.encode())
        digests.append(one.digest())
    return digests


def _boot_id() -> bytes:
    """16 bytes that change when the machine starts anew, and with it what was not synced to disk."""
    try:
        text = Path("/proc/sys/kernel/random/boot_id").read_text()
    except OSError:
        text = str(int(time.time() - time.monotonic()) // 60)
    return blake2b(text.encode(), digest_size=16).digest()


class KeyIndex:
    """Digests of keys to offsets. Every method is called by whoever holds the log's write lock."""

    def __init__(self, path: Path, log_id: bytes, newer: Callable[[int], Iterable[tuple[int, bytes]]]) -> None:
        """`log_id` (16 bytes) names the database; `newer(offset)` yields `(offset, digest)` of what it holds since."""
        self._path, self._newer = path, newer
        self._stamp = log_id + _boot_id()
        self._inode = 0
        self._map: mmap.mmap | None = None
        self._taken: list[int] = []
        self._prepared = 0

    def prepare(self, head: int, more: int, dropped: int = 0) -> None:
        """Make the table agree with a database whose newest offset is `head`, with room for `more` keys.

        Keys up to the offset `dropped` are known no more; they leave when the table is next written anew.
        """
        try:
            inode = os.stat(self._path).st_ino
        except FileNotFoundError:
            inode = 0
        if inode == 0 or (inode != self._inode and not self._open(inode)):
            self._write(np.zeros((0, 2), np.uint64), upto=0, room=more)
        words = self._words
        if (words[_USED_AT] + more) * 5 > (1 << words[_BITS_AT]) * 3:
            kept = self._entries()
            self._write(kept[kept[:, 1] > dropped], upto=words[_UPTO_AT], room=more)
        if self._words[_UPTO_AT] < head:
            self._catch_up(head, more)
        self._prepared = head

    def add(self, digests: Sequence[bytes], offset: int, stored: Callable[[int, bytes], bool]) -> list[int]:
        """Enter keys by their digests, the first new one at `offset`, the next at the offset after it, and so on.

        Returns the places of those that are not new: `stored(offset, digest)` confirms that the log knows them, or they
        stand in `digests` before. Half a microsecond a key.
        """
        words, slot_mask, entries = self._words, self._mask, _ENTRIES_AT
        taken, known = self._taken, []
        repeats = len(set(digests)) < len(digests)
        met: set[bytes] = set()
        fingerprints = np.frombuffer(b"".join(digests), np.uint64)[:: DIGEST_BYTES // 8]
        fingerprints = np.maximum(fingerprints, np.uint64(_FIRST))
        slots = (fingerprints >> np.uint64(self._shift)).tolist()
        for place, (fingerprint, slot) in enumerate(zip(fingerprints.tolist(), slots, strict=True)):
            if repeats:
                if digests[place] in met:
                    known.append(place)
                    continue
                met.add(digests[place])
            while found := words[entries + 2 * slot]:
                if found == fingerprint and stored(words[entries + 2 * slot + 1], digests[place]):
                    known.append(place)
                    break
                slot = (slot + 1) & slot_mask
            else:
                words[entries + 2 * slot] = fingerprint
                words[entries + 2 * slot + 1] = offset
                taken.append(slot)
                offset += 1
        return known

    def keep(self, head: int) -> None:
        """The added keys reach up to `head`. Called before the database commits: what it holds must be in here."""
        self._words[_UPTO_AT] = head

    @contextmanager
    def settled(self) -> Iterator[None]:
        """Around a transaction of the database: if it fails, what was added is taken back."""
        self._taken.clear()
        try:
            yield
        except BaseException:
            if self._taken:
                for slot in self._taken:
                    self._words[_ENTRIES_AT + 2 * slot] = _EMPTY
                self._words[_UPTO_AT] = min(self._words[_UPTO_AT], self._prepared)
            raise
        if self._taken:
            self._words[_USED_AT] += len(self._taken)

    def forget(self, digests: Iterable[tuple[int, bytes]]) -> None:
        """Blot out the fingerprints of erased records."""
        words = self._words
        for offset, digest in digests:
            fingerprint = self._fingerprint(digest)
            slot = fingerprint >> self._shift
            while found := words[_ENTRIES_AT + 2 * slot]:
                if found == fingerprint and words[_ENTRIES_AT + 2 * slot + 1] == offset:
                    words[_ENTRIES_AT + 2 * slot] = _FORGOTTEN
                slot = (slot + 1) & self._mask

    def close(self) -> None:
        """Unmap."""
        if self._map is not None:
            self._words.release()
            self._map.close()
            self._map, self._inode = None, 0

    def _fingerprint(self, digest: bytes) -> int:
        return max(int.from_bytes(digest[:8], "little"), _FIRST)

    def _open(self, inode: int) -> bool:
        """Map the file that is there; False if it is not this log's, or not of this run of the machine."""
        self.close()
        with self._path.open("r+b") as file:
            size = os.fstat(file.fileno()).st_size
            if size < 8 * (_ENTRIES_AT + (2 << _SMALLEST_BITS)):
                return False
            self._map = mmap.mmap(file.fileno(), size)
        self._words = memoryview(self._map).cast("Q")
        bits = self._words[_BITS_AT]
        if (
            self._words[_MAGIC_AT] != _MAGIC
            or bytes(self._map[8 * _LOG_AT : 8 * _BITS_AT]) != self._stamp
            or not _SMALLEST_BITS <= bits < 48
            or size != 8 * (_ENTRIES_AT + (2 << bits))
        ):
            self.close()
            return False
        self._inode, self._shift, self._mask = inode, 64 - bits, (1 << bits) - 1
        # Writers that were killed left entries they had no time to count.
        self._words[_USED_AT] = int(np.count_nonzero(np.frombuffer(self._words, np.uint64)[_ENTRIES_AT::2]))
        return True

    def _entries(self) -> U64:
        """(keys, 2): a copy of the fingerprints and offsets in use."""
        table = np.frombuffer(self._words, np.uint64)[_ENTRIES_AT:].reshape(-1, 2)
        return table[table[:, 0] >= _FIRST]

    def _catch_up(self, head: int, more: int) -> None:
        """Enter what the database holds and the table does not: all of it after a restart of the machine."""
        newer = list(self._newer(self._words[_UPTO_AT]))
        entries = np.empty((len(newer), 2), np.uint64)
        entries[:, 0] = np.fromiter((self._fingerprint(digest) for _, digest in newer), np.uint64, len(newer))
        entries[:, 1] = np.fromiter((offset for offset, _ in newer), np.uint64, len(newer))
        self._write(np.concatenate([self._entries(), entries]), upto=head, room=more)

    def _write(self, entries: U64, *, upto: int, room: int) -> None:
        """Write a new table beside the old one and put it in its place.

        With keys sorted by their first slot, linear probing puts key `i` at `max(slot_i, place_(i-1) + 1)`: a running
        maximum. The few pushed past the end go round to the free slots at the start.
        """
        bits = _SMALLEST_BITS
        while (len(entries) * 5 // 4 + room) * 5 > (1 << bits) * 3:
            bits += 1
        entries = entries[np.argsort(entries[:, 0], kind="stable")]
        order = np.arange(len(entries), dtype=np.int64)
        home = (entries[:, 0] >> np.uint64(64 - bits)).astype(np.int64)
        place = np.maximum.accumulate(home - order) + order
        new = self._path.with_name(self._path.name + ".new")
        size = 8 * (_ENTRIES_AT + (2 << bits))
        with new.open("w+b") as file:
            # Real zeros, not a hole: running out of disk must fail here, not as a signal when the hole is written to.
            for at in range(0, size, len(_ZEROS)):
                file.write(_ZEROS[: size - at])
            file.flush()
            with mmap.mmap(file.fileno(), size) as mapped:
                words = np.frombuffer(mapped, np.uint64)
                words[_MAGIC_AT] = _MAGIC
                words[_LOG_AT:_BITS_AT] = np.frombuffer(self._stamp, np.uint64)
                words[_BITS_AT], words[_USED_AT], words[_UPTO_AT] = bits, len(entries), upto
                table = words[_ENTRIES_AT:].reshape(-1, 2)
                inside = int(np.searchsorted(place, len(table)))
                table[place[:inside]] = entries[:inside]
                if inside < len(entries):
                    table[np.flatnonzero(table[:, 0] == _EMPTY)[: len(entries) - inside]] = entries[inside:]
                del words, table
        os.replace(new, self._path)
        self._open(os.stat(self._path).st_ino)
