"""The event log on SQLite: write-ahead log, full sync, one writer thread that commits in groups."""

from __future__ import annotations

import atexit
import os
import sqlite3
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from honeyguide.contracts import Appended, LogRecord
from honeyguide.engines.log.head import Head
from honeyguide.engines.log.key_index import KeyIndex
from honeyguide.errors import DataError, HoneyguideError, ResourceError, WorkspaceError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["QueueFullError", "SqliteLog"]

_FORMAT = 1
_TABLES = (
    """CREATE TABLE IF NOT EXISTS log(
        offset INTEGER PRIMARY KEY, key TEXT NOT NULL, kind TEXT NOT NULL, at INTEGER NOT NULL, user_id TEXT NOT NULL,
        payload BLOB NOT NULL
    ) STRICT""",
    "CREATE TABLE IF NOT EXISTS state(name TEXT PRIMARY KEY, value ANY NOT NULL) STRICT, WITHOUT ROWID",
    "INSERT OR IGNORE INTO state VALUES ('head', 0), ('log_id', randomblob(16))",
    f"PRAGMA user_version = {_FORMAT}",
)
_HEAD = "SELECT value FROM state WHERE name = 'head'"
_ROW = "(?,?,?,?,?,?)"
_COLUMNS = 6
_MOST_ROWS = 512

_Batch = tuple[list[LogRecord], "Future[Appended]"]


class QueueFullError(ResourceError):
    """More records wait for the disk than the queue may hold: send again a little later."""

    http_status = 503


class SqliteLog:
    """An `EventLog` and `Erasable` in one SQLite file, for any number of processes of one machine.

    Price: 3 to 4 us of processor time and 50 bytes beside key and payload for a record in batches of 100, whatever the
    keys look like, and one sync of the disk per group of whatever is queued. Keys are remembered in `<path>-keys` (27
    to 66 bytes each, in shared memory), the newest offset in `<path>-head`; both can be made again from the database.
    Records whose kind is in `lingering` wait up to `linger_ms` for company before they are written; all others are
    written at once and take the waiting ones along.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        linger_ms: float = 60.0,
        lingering: Iterable[str] = ("impression",),
        queue_records: int = 200_000,
        busy_s: float = 30.0,
    ) -> None:
        self._path = Path(path)
        self._linger_s, self._lingering, self._capacity = linger_ms / 1000, frozenset(lingering), queue_records
        self._busy_s = busy_s
        self._wake = threading.Condition()
        self._queue: list[_Batch] = []
        self._queued = 0
        self._hurry = self._closing = False
        self._oldest = 0.0
        self._reading = threading.Lock()
        with _said_plainly(self._path):
            self._head = Head(self._beside("-head"))
            self._db = self._connect()
            self._reader = self._connect()
            self._log_id = self._found()
        self._index = self._key_index(self._db)
        self._thread = threading.Thread(target=self._write_on, name="honeyguide-log", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    # ------------------------------------------------------------------------------------------ the contract

    def append(self, records: Sequence[LogRecord]) -> Future[Appended]:
        """Resolves when the records are on disk; raises a ResourceError if none of them is.

        Never blocks: with a full queue the future fails at once with a QueueFullError.
        """
        batch = list(records)
        return self._submit(batch, hurry=any(record.kind not in self._lingering for record in batch))

    def read(self, after: int, limit: int = 10_000) -> list[tuple[int, LogRecord]]:
        """Records with an offset above `after`, in order."""
        with self._reading, _said_plainly(self._path):
            rows = self._reader.execute(
                "SELECT offset, key, kind, at, user_id, payload FROM log WHERE offset > ? ORDER BY offset LIMIT ?",
                (after, limit),
            ).fetchall()
        return [(row[0], LogRecord(*row[1:])) for row in rows]

    def head(self) -> int:
        """Offset of the newest durable record of any process."""
        return self._head.get()

    @property
    def queued(self) -> int:
        """Records that wait for the disk."""
        return self._queued

    def close(self) -> None:
        """Write what is queued, then close."""
        with self._wake:
            if self._closing:
                return
            self._closing = True
            self._wake.notify()
        self._thread.join()
        atexit.unregister(self.close)
        with self._reading:
            self._reader.close()
        self._index.close()
        self._db.close()
        self._head.close()

    def erase(self, user_id: str) -> int:
        """Remove a person's records, payloads included, from the database and its write-ahead log.

        What is queued is written first, so that nothing of the person comes after. Offsets of others stay as they are
        and those of the erased are not used again. Reads the whole log once.
        """
        if not user_id:
            raise DataError(expected="a person's id", got="an empty text", do="Name the person to erase.")
        self._submit([], hurry=True).result()
        with _said_plainly(self._path):
            db = self._connect()
            try:
                return self._erase(db, user_id)
            finally:
                db.close()

    # ---------------------------------------------------------------------------------------------- the writer

    def _submit(self, batch: list[LogRecord], hurry: bool) -> Future[Appended]:
        future: Future[Appended] = Future()
        future.set_running_or_notify_cancel()  # what is queued is written, even if nobody waits for it any more
        with self._wake:
            first = not self._queue
            if self._closing:
                future.set_exception(
                    ResourceError(expected="an open log", got="a closed one", do="Open the log again.")
                )
            elif not first and self._queued + len(batch) > self._capacity:
                future.set_exception(
                    QueueFullError(
                        expected=f"at most {self._capacity} records waiting for the disk",
                        got=f"{self._queued} and {len(batch)} more",
                        do="Send them again in a second; if this lasts, the disk is too slow.",
                    )
                )
            else:
                if first:
                    self._oldest = monotonic()
                self._queue.append((batch, future))
                self._queued += len(batch)
                if first or (hurry and not self._hurry):
                    self._wake.notify()
                self._hurry |= hurry
        return future

    def _take(self) -> list[_Batch]:
        """Everything queued; empty when the log closes."""
        with self._wake:
            while not self._queue and not self._closing:
                self._wake.wait()
            while not self._hurry and not self._closing and self._queued * 2 < self._capacity:
                left = self._oldest + self._linger_s - monotonic()
                if left <= 0:
                    break
                self._wake.wait(left)
            group, self._queue, self._queued, self._hurry = self._queue, [], 0, False
            return group

    def _write_on(self) -> None:
        group: list[_Batch] = []
        try:
            while group := self._take():
                self._commit(group)
        finally:
            # Only a defect of this module ends the loop early: then nobody may wait for ever.
            with self._wake:
                self._closing = True
                left, self._queue = group + self._queue, []
            for _, future in left:
                if not future.done():
                    future.set_exception(
                        ResourceError(expected="a running writer", got="one that broke", do="Open the log again.")
                    )

    def _commit(self, group: list[_Batch]) -> None:
        """One transaction, then the answers. A batch that cannot be stored takes no other with it."""
        try:
            with _said_plainly(self._path):
                done = self._store([batch for batch, _ in group])
        except (DataError, OverflowError, TypeError, AttributeError, UnicodeError) as error:
            if len(group) > 1:
                for one in group:
                    self._commit([one])
            else:
                group[0][1].set_exception(error if isinstance(error, DataError) else _unstorable(error))
        except HoneyguideError as error:
            for _, future in group:
                future.set_exception(error)
        else:
            for (_, future), appended in zip(group, done, strict=True):
                future.set_result(appended)

    def _store(self, batches: list[list[LogRecord]]) -> list[Appended]:
        db, index, stored, add = self._db, self._index, self._stored, self._index.add
        total = sum(map(len, batches))
        duplicates: list[list[int]] = []
        values: list[Any] = []
        mine: set[str] = set()
        with self._head.locked(), index.settled(), _transaction(db):
            before = head = db.execute(_HEAD).fetchone()[0]
            index.prepare(head, total)
            for batch in batches:
                known: list[int] = []
                for i, record in enumerate(batch):
                    key = record.key
                    if key in mine or not add(key, head + 1, stored):
                        known.append(i)
                        continue
                    mine.add(key)
                    head += 1
                    values += (head, key, record.kind, record.at, record.user_id, record.payload)
                duplicates.append(known)
            if head > before:
                self._insert(values)
                db.execute("UPDATE state SET value = ? WHERE name = 'head'", (head,))
                index.keep(head)
            db.execute("COMMIT")
            self._head.set(head)
        return [Appended(head, tuple(known)) for known in duplicates]

    def _insert(self, values: list[Any]) -> None:
        # Many rows a statement: the driver gives up the interpreter's lock at each step, and in a busy server every
        # step may then wait a switch interval (5 ms) to get it back. Sizes are powers of two: ten statements to cache.
        at, left = 0, len(values) // _COLUMNS
        while left:
            rows = min(_MOST_ROWS, 1 << (left.bit_length() - 1))
            part = values if rows == left and at == 0 else values[at * _COLUMNS : (at + rows) * _COLUMNS]
            self._db.execute(_INSERTS[rows], part)
            at, left = at + rows, left - rows

    def _stored(self, offset: int, key: str) -> bool:
        row = self._db.execute("SELECT key FROM log WHERE offset = ?", (offset,)).fetchone()
        return row is not None and row[0] == key

    def _erase(self, db: sqlite3.Connection, user_id: str) -> int:
        db.execute("PRAGMA secure_delete = ON")
        with self._head.locked(), _transaction(db):
            gone = db.execute("SELECT offset, key FROM log WHERE user_id = ?", (user_id,)).fetchall()
            db.execute("DELETE FROM log WHERE user_id = ?", (user_id,))
            db.execute("COMMIT")
        index = self._key_index(db)
        with self._head.locked(), _transaction(db):
            # After the deletion is safe: a key forgotten too early could be stored twice.
            index.prepare(db.execute(_HEAD).fetchone()[0], 0)
            index.forget(gone)
            db.execute("COMMIT")
        index.close()
        if db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
            raise ResourceError(
                expected=f"to empty the write-ahead log of {self._path}",
                got=f"a reader that held it for {self._busy_s:g} s",
                do="Erase again: the records are gone from the log, but their bytes may still be in its -wal file.",
            )
        return len(gone)

    # ------------------------------------------------------------------------------------------------- opening

    def _beside(self, suffix: str) -> Path:
        return self._path.with_name(self._path.name + suffix)

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self._path, timeout=self._busy_s, isolation_level=None, check_same_thread=False)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA wal_autocheckpoint = 2000")
        return db

    def _found(self) -> bytes:
        """Make the tables if need be, mend the head; returns the log's id."""
        db = self._db
        with self._head.locked(), _transaction(db):
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if version > _FORMAT:
                raise WorkspaceError(
                    expected=f"a log of format {_FORMAT} or older in {self._path}",
                    got=f"format {version}",
                    do="It was written by a newer Honeyguide: upgrade this one.",
                )
            if version == 0:
                for statement in _TABLES:
                    db.execute(statement)
            self._head.set(db.execute(_HEAD).fetchone()[0])
            log_id: bytes = db.execute("SELECT value FROM state WHERE name = 'log_id'").fetchone()[0]
            db.execute("COMMIT")
        return log_id

    def _key_index(self, db: sqlite3.Connection) -> KeyIndex:
        return KeyIndex(
            self._beside("-keys"),
            self._log_id,
            lambda after: db.execute("SELECT offset, key FROM log WHERE offset > ?", (after,)),
        )


_INSERTS = {
    rows: f"INSERT INTO log VALUES {','.join([_ROW] * rows)}"
    for rows in (1 << bit for bit in range(_MOST_ROWS.bit_length()))
}


@contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[None]:
    """A write transaction that the body commits; whatever the body leaves open is rolled back."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        if db.in_transaction:
            db.rollback()


@contextmanager
def _said_plainly(path: Path) -> Iterator[None]:
    """The driver's errors as ours: what the machine refused, and what no log could store."""
    try:
        yield
    except (sqlite3.ProgrammingError, sqlite3.IntegrityError, sqlite3.InterfaceError) as error:
        raise _unstorable(error) from error
    except (sqlite3.OperationalError, OSError) as error:
        raise ResourceError(
            expected=f"to read and write the log {path}",
            got=str(error),
            do=f"Free disk space in {os.fspath(path.parent)}, or make the folder and the log writable.",
        ) from error
    except sqlite3.DatabaseError as error:
        raise DataError(
            expected=f"a Honeyguide log in {path}",
            got=str(error),
            do="Move the file away to begin a new log, or restore it from a copy.",
        ) from error


def _unstorable(error: Exception) -> DataError:
    return DataError(
        expected="records of text keys, kinds and ids, a 64-bit time and a payload of bytes",
        got=str(error),
        do="Mend the record and append it again; nothing of its batch was stored.",
    )
