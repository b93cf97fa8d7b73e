"""The event log on SQLite: write-ahead log, full sync, one writer thread that commits in groups."""

from __future__ import annotations

import atexit
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from pathlib import Path
from time import monotonic

from honeyguide.contracts import Appended, LogRecord
from honeyguide.engines.log.head import Head
from honeyguide.engines.log.key_index import KeyIndex, digests_of
from honeyguide.engines.log.store import Store, said_plainly, unstorable
from honeyguide.errors import DataError, HoneyguideError, ResourceError

__all__ = ["QueueFullError", "SqliteLog"]

_STEP = 20_000  # records trimmed while others wait

_Batch = tuple[list[LogRecord], "Future[Appended]"]


class QueueFullError(ResourceError):
    """More records wait for the disk than the queue may hold: send again a little later."""

    http_status = 503


class SqliteLog:
    """An `EventLog` and `Erasable` in one SQLite file, for any number of processes of one machine.

    Price: some 2 us of processor time and 15 bytes beside key and payload for a record in batches of 100, whatever the
    keys look like, and one sync of the disk per group of whatever is queued. Keys are remembered in `<path>-keys` (27
    to 66 bytes each, in shared memory), the newest offset in `<path>-head`; both can be made again from the database.
    Records whose kind is in `lingering` wait up to `linger_ms` for company before they are written; all others are
    written at once and take the waiting ones along. Keys of trimmed records stay known: the newest `keep_keys` of
    them, for `keep_keys_s`.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        linger_ms: float = 60.0,
        lingering: Iterable[str] = ("impression",),
        queue_records: int = 200_000,
        busy_s: float = 30.0,
        keep_keys: int = 5_000_000,
        keep_keys_s: float = 7 * 86_400.0,
    ) -> None:
        self._path = Path(path)
        self._linger_s, self._lingering, self._capacity = linger_ms / 1000, frozenset(lingering), queue_records
        self._busy_s, self._keep_keys, self._keep_keys_s = busy_s, keep_keys, keep_keys_s
        self._wake = threading.Condition()
        self._queue: list[_Batch] = []
        self._queued = 0
        self._hurry = self._closing = False
        self._oldest = 0.0
        self._reading = threading.Lock()
        with said_plainly(self._path):
            self._head = Head(self._beside("-head"))
            with self._head.locked():
                # One process at a time: a new file becomes a write-ahead one, for which SQLite waits for nobody.
                self._store = Store(self._path, busy_s)
                with self._store.transaction():
                    self._log_id = self._store.prepare()
                    self._head.set(self._store.head())
            self._reader = Store(self._path, busy_s)
        self.id = self._log_id.hex()
        self._index = self._key_index(self._store)
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
        """Records with an offset above `after`, in order. A TrimmedError if some of them were trimmed."""
        with self._reading, said_plainly(self._path):
            return self._reader.read(after, limit)

    def head(self) -> int:
        """Offset of the newest durable record of any process."""
        return self._head.get()

    def trimmed(self) -> int:
        """Offset up to which records were let go."""
        with self._reading, said_plainly(self._path):
            return self._reader.trimmed()

    def trim(self, upto: int) -> int:
        """Let go of whole blocks of records up to an offset; returns `trimmed()`. Others wait 20 ms at most."""
        with said_plainly(self._path):
            store = Store(self._path, self._busy_s)
            try:
                went = 1
                while went:
                    with self._head.locked(), store.transaction():
                        went = store.trim(upto, _STEP, self._log_id)
                with self._head.locked(), store.transaction():
                    store.drop_keys(self._keep_keys, int((time.time() - self._keep_keys_s) * 1e6))
                return store.trimmed()
            finally:
                store.close()

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
        self._store.close()
        self._head.close()

    def erase(self, user_id: str) -> int:
        """Remove a person's records, payloads included, from the database, its free pages and its write-ahead log.

        What is queued is written first, so that nothing of the person comes after. Offsets of others stay as they are
        and those of the erased are not used again. Reads the whole log once and writes it anew.
        """
        if not user_id:
            raise DataError(expected="a person's id", got="an empty text", do="Name the person to erase.")
        self._submit([], hurry=True).result()
        with said_plainly(self._path):
            store = Store(self._path, self._busy_s)
            try:
                return self._erase(store, user_id)
            finally:
                store.close()

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
            with said_plainly(self._path):
                done = self._stored([batch for batch, _ in group])
        except (DataError, OverflowError, TypeError, AttributeError, UnicodeError) as error:
            if len(group) > 1:
                for one in group:
                    self._commit([one])
            else:
                group[0][1].set_exception(error if isinstance(error, DataError) else unstorable(str(error)))
        except HoneyguideError as error:
            for _, future in group:
                future.set_exception(error)
        else:
            for (_, future), appended in zip(group, done, strict=True):
                future.set_result(appended)

    def _stored(self, batches: list[list[LogRecord]]) -> list[Appended]:
        store, index, log_id = self._store, self._index, self._log_id
        records = [record for batch in batches for record in batch]
        digests = _digests(records, log_id)
        store.begin()
        with self._head.locked():
            with index.settled(), store.transaction():
                before = head = store.head()
                index.prepare(head, len(records), store.dropped())
                known = index.add(digests, head + 1, self._holds)
                if known:
                    old = set(known)
                    records = [record for place, record in enumerate(records) if place not in old]
                if records:
                    head += len(records)
                    store.append(before, records)
                    index.keep(head)
            self._head.set(head)
        return _answers(batches, known, before, head)

    def _holds(self, offset: int, digest: bytes) -> bool:
        return self._store.holds(offset, digest, self._log_id)

    def _erase(self, store: Store, user_id: str) -> int:
        with self._head.locked(), store.transaction():
            gone = store.erase(user_id, self._log_id)
        index = self._key_index(store)
        with self._head.locked(), store.transaction():
            # After the deletion is safe: a key forgotten too early could be stored twice.
            index.prepare(store.head(), 0)
            index.forget(gone)
        index.close()
        with self._head.locked():
            store.vacuum()
        if not store.empty_wal():
            raise ResourceError(
                expected=f"to empty the write-ahead log of {self._path}",
                got=f"a reader that held it for {self._busy_s:g} s",
                do="Erase again: the records are gone from the log, but their bytes may still be in its -wal file.",
            )
        return len(gone)

    # ------------------------------------------------------------------------------------------------- opening

    def _beside(self, suffix: str) -> Path:
        return self._path.with_name(self._path.name + suffix)

    def _key_index(self, store: Store) -> KeyIndex:
        return KeyIndex(self._beside("-keys"), self._log_id, lambda after: store.newer(after, self._log_id))


def _digests(records: list[LogRecord], log_id: bytes) -> list[bytes]:
    for record in records:
        if (
            record.key.__class__ is not str
            or record.kind.__class__ is not str
            or record.at.__class__ is not int
            or record.user_id.__class__ is not str
            or record.payload.__class__ is not bytes
        ):
            raise unstorable(repr(record)[:200])
    return digests_of([record.key for record in records], log_id)


def _answers(batches: list[list[LogRecord]], known: list[int], before: int, head: int) -> list[Appended]:
    """An answer per batch; `known` are the places, over all batches, of records that were there."""
    answers, first, at = [], 0, 0
    for batch in batches:
        mine = []
        while at < len(known) and known[at] < first + len(batch):
            mine.append(known[at] - first)
            at += 1
        answers.append(Appended(head, tuple(mine), before))
        before += len(batch) - len(mine)
        first += len(batch)
    return answers
