"""The database of a log: blocks of records, and the digests of keys whose records were trimmed.

A block is one row: up to 256 records that follow each other, as one msgpack array (nil where a record was erased). So a
batch costs one insert, and reading it back one decode, whatever the number of records.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from honeyguide.contracts import LogRecord
from honeyguide.engines.log.key_index import DIGEST_BYTES, digest_of, digests_of
from honeyguide.errors import DataError, ResourceError, TrimmedError, WorkspaceError

__all__ = ["Store", "said_plainly", "unstorable"]

_FORMAT = 2
_TABLES = (
    "CREATE TABLE IF NOT EXISTS state(name TEXT PRIMARY KEY, value ANY NOT NULL) STRICT, WITHOUT ROWID",
    "INSERT OR IGNORE INTO state VALUES ('head', 0), ('log_id', randomblob(16)), ('trimmed', 0), ('dropped', 0)",
    "CREATE TABLE blocks(last INTEGER PRIMARY KEY, records BLOB NOT NULL) STRICT",
    "CREATE TABLE keys(last INTEGER PRIMARY KEY, at INTEGER NOT NULL, digests BLOB NOT NULL) STRICT",
)
_BLOCK = 256
_KEYS_A_ROW = 4096
_NO_DIGEST = bytes(DIGEST_BYTES)
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[LogRecord | None]).decode


class Store:
    """One connection. What writes is called by whoever holds the log's write lock, inside `transaction`."""

    def __init__(self, path: Path, busy_s: float) -> None:
        self._path = path
        self._db = db = sqlite3.connect(path, timeout=busy_s, isolation_level=None, check_same_thread=False)
        # Blocks are longer than SQLite's page of 4 kB: a third less is spent on them. Counts for a new file only.
        db.execute("PRAGMA page_size = 16384")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA wal_autocheckpoint = 1000")
        self._read_block: tuple[int, list[LogRecord | None]] = (0, [])

    def close(self) -> None:
        """Close the connection."""
        self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """A write transaction that is committed at the end; whatever raises rolls it back."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        finally:
            if self._db.in_transaction:
                self._db.rollback()

    # ---------------------------------------------------------------------------------------------------- opening

    def prepare(self) -> bytes:
        """Make the tables if need be, or take over those of format 1; returns the log's id."""
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version > _FORMAT:
            raise WorkspaceError(
                expected=f"a log of format {_FORMAT} or older in {self._path}",
                got=f"format {version}",
                do="It was written by a newer Honeyguide: upgrade this one.",
            )
        if version < _FORMAT:
            for statement in _TABLES:
                self._db.execute(statement)
            if version == 1:
                self._take_over()
            self._db.execute(f"PRAGMA user_version = {_FORMAT}")
        log_id: bytes = self._state("log_id")
        return log_id

    def _take_over(self) -> None:
        """Format 1 had a row per record."""
        held: list[LogRecord | None] = []
        first = 1
        for offset, *row in self._db.execute("SELECT offset, key, kind, at, user_id, payload FROM log ORDER BY offset"):
            if len(held) >= _BLOCK or offset - first - len(held) > _BLOCK:
                self._insert(first, held)
                held, first = [], offset
            held += [None] * (offset - first - len(held))
            held.append(LogRecord(*row))
        self._insert(first, held)
        self._db.execute("DROP TABLE log")

    # ---------------------------------------------------------------------------------------------------- records

    def head(self) -> int:
        """Offset of the newest record."""
        return int(self._state("head"))

    def trimmed(self) -> int:
        """Offset up to which records were trimmed."""
        return int(self._state("trimmed"))

    def dropped(self) -> int:
        """Offset up to which even keys are known no more."""
        return int(self._state("dropped"))

    def append(self, before: int, records: Sequence[LogRecord]) -> None:
        """Store records at the offsets that follow `before`."""
        for at in range(0, len(records), _BLOCK):
            self._insert(before + at + 1, records[at : at + _BLOCK])
        self._set("head", before + len(records))

    def read(self, after: int, limit: int) -> list[tuple[int, LogRecord]]:
        """Records with an offset above `after`, in order. A TrimmedError if some of them were trimmed."""
        found: list[tuple[int, LogRecord]] = []
        self._db.execute("BEGIN")
        try:
            trimmed = self.trimmed()
            if after < trimmed:
                raise TrimmedError(
                    expected=f"records of {self._path} after {after}",
                    got=f"a log that begins after {trimmed}",
                    do="Read the tables, then the log from their offset on.",
                )
            for last, blob in self._db.execute(
                "SELECT last, records FROM blocks WHERE last > ? ORDER BY last", (after,)
            ):
                records = _decode(blob)
                first = last - len(records) + 1
                skip = max(0, after + 1 - first)
                found += [
                    (offset, record)
                    for offset, record in enumerate(records[skip:] if skip else records, first + skip)
                    if record is not None
                ]
                if len(found) >= limit:
                    break
        finally:
            self._db.execute("COMMIT")
        return found[:limit]

    def holds(self, offset: int, digest: bytes, log_id: bytes) -> bool:
        """Whether the key of that digest was stored at that offset, and is known still."""
        if offset <= self.trimmed():
            row = self._db.execute("SELECT last, digests FROM keys WHERE last >= ? ORDER BY last LIMIT 1", (offset,))
            found = row.fetchone()
            if found is None:
                return False
            at = len(found[1]) - DIGEST_BYTES * (found[0] - offset + 1)
            return at >= 0 and found[1][at : at + DIGEST_BYTES] == digest
        last, records = self._read_block
        if not last - len(records) < offset <= last:
            self._read_block = last, records = self._block(offset)
        at = offset - (last - len(records)) - 1
        record = records[at] if 0 <= at < len(records) else None
        return record is not None and digest_of(record.key, log_id) == digest

    def begin(self) -> None:
        """Forget what was read: other processes may have changed it."""
        self._read_block = (0, [])

    def newer(self, after: int, log_id: bytes) -> Iterator[tuple[int, bytes]]:
        """Offsets above `after` and the digests of their keys, as far as they are known."""
        for last, digests in self._db.execute("SELECT last, digests FROM keys WHERE last > ? ORDER BY last", (after,)):
            first = last - len(digests) // DIGEST_BYTES + 1
            for at in range(0, len(digests), DIGEST_BYTES):
                digest = digests[at : at + DIGEST_BYTES]
                if first + at // DIGEST_BYTES > after and digest != _NO_DIGEST:
                    yield first + at // DIGEST_BYTES, digest
        for last, blob in self._db.execute("SELECT last, records FROM blocks WHERE last > ? ORDER BY last", (after,)):
            records = _decode(blob)
            for offset, record in enumerate(records, last - len(records) + 1):
                if record is not None and offset > after:
                    yield offset, digest_of(record.key, log_id)

    # ---------------------------------------------------------------------------------------------- letting go

    def trim(self, upto: int, most: int, log_id: bytes) -> int:
        """Let go of whole blocks up to an offset, `most` records at a time; returns how many records went."""
        went, digests = 0, bytearray()
        trimmed = last = self.trimmed()
        rows = self._db.execute("SELECT last, records FROM blocks WHERE last <= ? ORDER BY last", (upto,)).fetchmany(
            max(1, most // _BLOCK)
        )
        now = time.time_ns() // 1000
        for block_last, blob in rows:
            records = _decode(blob)
            digests += _NO_DIGEST * (block_last - len(records) - last)
            known = iter(digests_of((record.key for record in records if record is not None), log_id))
            for record in records:
                digests += _NO_DIGEST if record is None else next(known)
            last, went = block_last, went + len(records)
            if len(digests) >= _KEYS_A_ROW * DIGEST_BYTES:
                self._db.execute("INSERT INTO keys VALUES (?, ?, ?)", (last, now, bytes(digests)))
                digests.clear()
        if digests:
            self._db.execute("INSERT INTO keys VALUES (?, ?, ?)", (last, now, bytes(digests)))
        if last > trimmed:
            self._db.execute("DELETE FROM blocks WHERE last <= ?", (last,))
            self._set("trimmed", last)
        return went

    def drop_keys(self, most: int, older_than_us: int) -> None:
        """Forget the keys of trimmed records beyond the newest `most`, and those trimmed before a moment."""
        known, last = 0, 0
        for row_last, at, size in self._db.execute("SELECT last, at, length(digests) FROM keys ORDER BY last DESC"):
            known += size // DIGEST_BYTES
            if at < older_than_us or known > most:
                last = row_last
                break
        if last:
            self._db.execute("DELETE FROM keys WHERE last <= ?", (last,))
            self._set("dropped", last)

    def erase(self, user_id: str, log_id: bytes) -> list[tuple[int, bytes]]:
        """Put nil in the place of a person's records; returns their offsets and digests."""
        named = user_id.encode()
        gone: list[tuple[int, bytes]] = []
        for last, blob in self._db.execute("SELECT last, records FROM blocks ORDER BY last").fetchall():
            if named not in blob:
                continue
            records = _decode(blob)
            first = last - len(records) + 1
            mine = [
                (at, record) for at, record in enumerate(records) if record is not None and record.user_id == user_id
            ]
            for at, record in mine:
                gone.append((first + at, digest_of(record.key, log_id)))
                records[at] = None
            if mine:
                self._db.execute("UPDATE blocks SET records = ? WHERE last = ?", (_encode(records), last))
        return gone

    def vacuum(self) -> None:
        """Write the database anew, so that nothing of what was deleted stays in free pages; outside a transaction."""
        self._db.execute("VACUUM")

    def empty_wal(self) -> bool:
        """Bring the write-ahead log into the database and empty it; False if a reader held it."""
        return not self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]

    def _block(self, offset: int) -> tuple[int, list[LogRecord | None]]:
        row = self._db.execute("SELECT last, records FROM blocks WHERE last >= ? ORDER BY last LIMIT 1", (offset,))
        found = row.fetchone()
        return (0, []) if found is None else (found[0], _decode(found[1]))

    def _insert(self, first: int, records: Sequence[LogRecord | None]) -> None:
        if records:
            self._db.execute("INSERT INTO blocks VALUES (?, ?)", (first + len(records) - 1, _encode(records)))

    def _state(self, name: str) -> Any:
        return self._db.execute("SELECT value FROM state WHERE name = ?", (name,)).fetchone()[0]

    def _set(self, name: str, value: int) -> None:
        self._db.execute("UPDATE state SET value = ? WHERE name = ?", (value, name))


@contextmanager
def said_plainly(path: Path) -> Iterator[None]:
    """The driver's errors as ours: what the machine refused, and what no log could store."""
    try:
        yield
    except (sqlite3.ProgrammingError, sqlite3.IntegrityError, sqlite3.InterfaceError) as error:
        raise unstorable(str(error)) from error
    except (sqlite3.OperationalError, OSError) as error:
        raise ResourceError(
            expected=f"to read and write the log {path}",
            got=str(error),
            do=f"Free disk space in {os.fspath(path.parent)}, or make the folder and the log writable.",
        ) from error
    except (sqlite3.DatabaseError, msgspec.DecodeError) as error:
        raise DataError(
            expected=f"a Honeyguide log in {path}",
            got=str(error),
            do="Move the file away to begin a new log, or restore it from a copy.",
        ) from error


def unstorable(got: str) -> DataError:
    """What a record that cannot be stored is refused with."""
    return DataError(
        expected="records of text keys, kinds and ids, a 64-bit time and a payload of bytes",
        got=got,
        do="Mend the record and append it again; nothing of its batch was stored.",
    )
