"""The kit for logs: SQLite keeps its laws, and logs that do not are told which."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from honeyguide.contracts import Appended, LogRecord
from honeyguide.engines.log import store
from honeyguide.engines.log.sqlite import SqliteLog
from honeyguide.errors import TrimmedError
from honeyguide.testing.logs import broken_log_laws


@pytest.mark.parametrize("queue", [200_000, 100], ids=["a long queue", "a short queue"])
def test_sqlite_keeps_the_laws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, queue: int) -> None:
    monkeypatch.setattr(store, "_BLOCK", 8)
    assert broken_log_laws(lambda: SqliteLog(tmp_path / "log", queue_records=queue)) == []


class Forgetful(SqliteLog):
    """Knows no key once its record is trimmed."""

    def trim(self, upto: int) -> int:
        trimmed = super().trim(upto)
        with sqlite3.connect(self._path) as db:
            db.execute("DELETE FROM keys")
        return trimmed


class Hasty(SqliteLog):
    """Answers before it writes, and drops every third batch."""

    count = 0

    def append(self, records: Sequence[LogRecord]) -> Future[Appended]:
        Hasty.count += 1
        done: Future[Appended] = Future()
        if Hasty.count % 3:
            return super().append(records)
        done.set_result(Appended(0, ()))
        return done


class Gappy(SqliteLog):
    """Reads over what was trimmed as if nothing had been there."""

    def read(self, after: int, limit: int = 10_000) -> list[tuple[int, LogRecord]]:
        return super().read(max(after, self.trimmed()), limit)


@pytest.mark.parametrize(
    ("kind", "law"),
    [(Forgetful, "keys of trimmed records"), (Hasty, "come back as they were"), (Gappy, "no TrimmedError")],
)
def test_a_log_that_breaks_a_law_is_told_which(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[SqliteLog], law: str
) -> None:
    monkeypatch.setattr(store, "_BLOCK", 8)
    assert any(law in broken for broken in broken_log_laws(lambda: kind(tmp_path / "log")))


# ------------------------------------------------------------------------------------------------------- trimming


def _record(key: str, user: str = "u") -> LogRecord:
    return LogRecord(key, "event", 1, user, key.encode())


steps = st.lists(
    st.one_of(
        st.lists(st.sampled_from([f"k{n}" for n in range(30)]), min_size=1, max_size=9),
        st.tuples(st.just("trim"), st.integers(0, 60)),
        st.sampled_from(["reopen", "lose keys", "erase"]),
    ),
    max_size=14,
)


@settings(max_examples=40, deadline=None)
@given(steps=steps, keep=st.sampled_from([0, 5, 1000]))
def test_trimming_against_a_dictionary(
    tmp_path_factory: pytest.TempPathFactory, steps: list[object], keep: int
) -> None:
    path = tmp_path_factory.mktemp("log") / "log"
    before = store._BLOCK
    store._BLOCK = 4
    try:
        log = SqliteLog(path, keep_keys=keep)
        offsets: dict[str, int] = {}  # of every key that is stored or may be remembered
        head = trimmed = 0
        gone: set[str] = set()
        for step in steps:
            if step in ("reopen", "lose keys"):
                log.close()
                if step == "lose keys":
                    path.with_name("log-keys").unlink(missing_ok=True)
                log = SqliteLog(path, keep_keys=keep)
            elif step == "erase":
                mine = {key for key, at in offsets.items() if at > trimmed and key.endswith("7") and key not in gone}
                assert log.erase("seven") == len(mine)
                for key in mine:
                    del offsets[key]
            elif isinstance(step, tuple):
                now = log.trim(step[1])
                assert trimmed <= now <= max(step[1], trimmed)
                trimmed = now
                if keep < 1000:  # how many of the oldest are forgotten is the log's affair: whole rows of them
                    gone |= {key for key, at in offsets.items() if at <= trimmed}
            else:
                assert isinstance(step, list)
                answer = log.append([_record(key, "seven" if key.endswith("7") else "u") for key in step]).result()
                for at, key in enumerate(step):
                    if key in gone and at not in answer.duplicates:
                        gone.discard(key)
                        offsets.pop(key)
                    if key not in offsets:
                        assert at not in answer.duplicates
                        head += 1
                        offsets[key] = head
                    elif offsets[key] != head or key in step[:at]:
                        assert at in answer.duplicates or offsets[key] == head
                assert answer.head == log.head() == head
            stored = {record.key: at for at, record in log.read(log.trimmed())}
            assert stored == {key: at for key, at in offsets.items() if at > trimmed}
        log.close()
    finally:
        store._BLOCK = before


def test_keys_are_known_so_long_and_so_many(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log", keep_keys=600)
    for n in range(4):
        log.append([_record(f"{n} {i}") for i in range(256)]).result()
        log.trim(log.head())
    known = [len(log.append([_record(f"{n} {i}") for i in range(256)]).result().duplicates) for n in (3, 2)]
    assert known == [256, 256]
    assert log.append([_record(f"0 {i}") for i in range(256)]).result().duplicates == ()
    log.close()
    brief = SqliteLog(tmp_path / "brief", keep_keys_s=0.0)
    brief.append([_record("k")]).result()
    time.sleep(0.002)
    brief.trim(1)
    brief.append([_record("l")]).result()
    time.sleep(0.002)
    brief.trim(2)
    assert brief.append([_record("k")]).result().duplicates == ()
    brief.close()


def test_a_log_of_the_first_format_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute(
            "CREATE TABLE log(offset INTEGER PRIMARY KEY, key TEXT NOT NULL, kind TEXT NOT NULL, at INTEGER NOT NULL, "
            "user_id TEXT NOT NULL, payload BLOB NOT NULL) STRICT"
        )
        db.execute("CREATE TABLE state(name TEXT PRIMARY KEY, value ANY NOT NULL) STRICT, WITHOUT ROWID")
        db.execute("INSERT INTO state VALUES ('head', 2001), ('log_id', randomblob(16))")
        kept = [n for n in range(1, 2002) if n < 5 or 9 < n < 600 or n > 1900]  # erased ones leave holes
        db.executemany("INSERT INTO log VALUES (?, ?, 'event', ?, 'u', ?)", [(n, f"k{n}", n, b"x") for n in kept])
        db.execute("PRAGMA user_version = 1")
    log = SqliteLog(path)
    assert [(at, record.key) for at, record in log.read(0)] == [(n, f"k{n}") for n in kept]
    assert log.append([_record("k3"), _record("new")]).result() == Appended(2002, (0,))
    log.close()


def test_a_reader_that_was_overtaken_is_told(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log")
    log.append([_record(f"k{n}") for n in range(300)]).result()
    assert log.trim(299) == 256
    with pytest.raises(TrimmedError, match="begins after 256"):
        log.read(100)
    assert [at for at, _ in log.read(256)] == list(range(257, 301))
    log.close()
