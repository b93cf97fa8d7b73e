"""The log against a dictionary, against its own death, and against machines that refuse."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from honeyguide.contracts import Appended, Erasable, LogRecord
from honeyguide.engines.log.keys import time_key
from honeyguide.engines.log.sqlite import QueueFullError, SqliteLog
from honeyguide.errors import DataError, ResourceError, WorkspaceError


def record(key: str, user: str = "u", kind: str = "event", payload: bytes = b"x") -> LogRecord:
    return LogRecord(key, kind, 1_700_000_000_000_000, user, payload)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log.sqlite"


@pytest.fixture
def log(path: Path) -> Iterator[SqliteLog]:
    opened = SqliteLog(path)
    yield opened
    opened.close()


def run_python(code: str, *arguments: str | Path, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        capture_output=True, text=True, timeout=120, check=True, **options,  # type: ignore[call-overload]
    )  # fmt: skip


def test_what_goes_in_comes_out_in_order(log: SqliteLog) -> None:
    sent = [record(f"k{i}", user=f"user {i}", payload=bytes([i])) for i in range(7)]
    assert log.append(sent[:3]).result() == Appended(3, ())
    assert log.append(sent[3:]).result() == Appended(7, ())
    assert log.read(0) == list(enumerate(sent, start=1))
    assert log.read(2, limit=2) == [(3, sent[2]), (4, sent[3])]
    assert log.read(7) == []
    assert log.head() == 7
    assert isinstance(log, Erasable)


def test_a_key_is_stored_once_and_duplicates_are_named(log: SqliteLog) -> None:
    log.append([record("a"), record("b")]).result()
    answer = log.append([record("c"), record("b", payload=b"other"), record("c"), record("a")]).result()
    assert answer == Appended(3, (1, 2, 3))
    assert [(offset, stored.key, stored.payload) for offset, stored in log.read(0)] == [
        (1, "a", b"x"), (2, "b", b"x"), (3, "c", b"x")
    ]  # fmt: skip
    assert log.append([]).result() == Appended(3, ())


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.lists(st.text("abc\x00é/ ", min_size=1, max_size=2), max_size=40),
            st.sampled_from(["reopen", "lose keys", "lose head", "second handle"]),
        ),
        max_size=12,
    )
)
def test_it_behaves_like_a_dictionary(steps: list[list[str] | str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log"
        log = SqliteLog(path)
        others: list[SqliteLog] = []
        model: dict[str, int] = {}
        for step in steps:
            if isinstance(step, str):
                if step == "second handle":
                    others.append(log)
                else:
                    for opened in (log, *others):
                        opened.close()
                    others = []
                    if step != "reopen":
                        path.with_name("log-" + step.split()[1]).unlink(missing_ok=True)
                log = SqliteLog(path)
                continue
            expected_duplicates = []
            for i, key in enumerate(step):
                if key in model:
                    expected_duplicates.append(i)
                else:
                    model[key] = len(model) + 1
            answer = log.append([record(key) for key in step]).result()
            assert answer == Appended(len(model), tuple(expected_duplicates))
            assert {opened.head() for opened in (log, *others)} == {len(model)}
        assert {stored.key: offset for offset, stored in log.read(0)} == model
        for opened in (log, *others):
            opened.close()


@pytest.mark.parametrize("make_key", [lambda: os.urandom(16).hex(), time_key], ids=["random", "time-ordered"])
def test_many_keys_make_the_key_table_grow_and_none_is_forgotten(path: Path, make_key: object) -> None:
    keys = [make_key() for _ in range(90_000)]  # type: ignore[operator]
    log = SqliteLog(path)
    for at in range(0, len(keys), 30_000):
        assert log.append([record(key) for key in keys[at : at + 30_000]]).result().duplicates == ()
    again = log.append([record(key) for key in keys]).result()
    assert again.duplicates == tuple(range(len(keys)))
    log.close()


def test_an_index_of_another_log_or_another_start_of_the_machine_is_not_believed(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, foreign = SqliteLog(path), SqliteLog(tmp_path / "foreign")
    log.append([record("mine")]).result()
    foreign.append([record("theirs")]).result()
    log.close()
    foreign.close()
    (tmp_path / "foreign-keys").replace(tmp_path / "log.sqlite-keys")
    log = SqliteLog(path)
    assert log.append([record("mine"), record("theirs")]).result() == Appended(2, (0,))
    log.close()

    keys = bytearray((tmp_path / "log.sqlite-keys").read_bytes())
    keys[64:] = bytes(len(keys) - 64)  # as a power cut may leave it: an honest header, lost pages
    (tmp_path / "log.sqlite-keys").write_bytes(keys)
    monkeypatch.setattr("honeyguide.engines.log.key_index._boot_id", lambda: b"the next morning")
    log = SqliteLog(path)
    assert log.append([record("mine"), record("new")]).result() == Appended(3, (0,))
    log.close()

    (tmp_path / "log.sqlite-keys").write_bytes(b"too short")
    log = SqliteLog(path)
    assert log.append([record("theirs")]).result() == Appended(3, (0,))
    log.close()


def test_a_bad_record_spoils_its_batch_and_no_other(path: Path) -> None:
    log = SqliteLog(path, lingering=("event",), linger_ms=200)
    bad = [
        record("\ud800"),
        record("number", payload="text"),  # type: ignore[arg-type]
        LogRecord("big", "event", 1 << 70, "u", b""),
        LogRecord("none", "event", 1, None, b""),  # type: ignore[arg-type]
    ]
    futures = [log.append([record("before")])]
    futures += [log.append([record(f"beside {i}"), one]) for i, one in enumerate(bad)]
    futures += [log.append([record("after")])]
    for future in futures[1:-1]:
        with pytest.raises(DataError, match="nothing of its batch"):
            future.result()
    assert futures[0].result().duplicates == futures[-1].result().duplicates == ()
    assert [stored.key for _, stored in log.read(0)] == ["before", "after"]
    assert log.append([record("beside 0")]).result().duplicates == ()
    log.close()


def test_impressions_linger_a_little_and_events_take_them_along(path: Path) -> None:
    log = SqliteLog(path, linger_ms=60_000)
    impression = log.append([record("i", kind="impression")])
    time.sleep(0.1)
    assert not impression.done()
    assert log.queued == 1
    assert log.append([record("e")]).result(timeout=30) == Appended(2, ())
    assert impression.result(timeout=30) == Appended(2, ())
    log.close()
    log = SqliteLog(path)
    waits = []
    for i in range(20):  # the best of them: a busy machine may keep any one of them waiting
        started = time.monotonic()
        log.append([record(f"i{i}", kind="impression")]).result()
        waits.append(time.monotonic() - started)
    assert min(waits) < 0.1
    log.close()


def test_a_full_queue_refuses_at_once_and_keeps_what_it_has(path: Path) -> None:
    log = SqliteLog(path, lingering=("event",), linger_ms=60_000, queue_records=100)
    first = log.append([record(f"k{i}") for i in range(49)])
    with pytest.raises(QueueFullError) as refused:
        log.append([record(f"more {i}") for i in range(60)]).result()
    assert refused.value.http_status == 503
    log.close()
    assert first.result() == Appended(49, ())


def test_close_writes_what_is_queued_and_then_refuses(path: Path) -> None:
    log = SqliteLog(path, linger_ms=60_000)
    futures = [log.append([record(f"k{i}", kind="impression")]) for i in range(50)]
    log.close()
    log.close()
    assert {future.result().head for future in futures} == {50}
    with pytest.raises(ResourceError, match="closed"):
        log.append([record("late")]).result()
    log = SqliteLog(path)
    assert len(log.read(0)) == log.head() == 50
    log.close()


def test_a_cancelled_future_is_written_all_the_same(log: SqliteLog) -> None:
    future = log.append([record("k")])
    assert not future.cancel()
    assert future.result() == Appended(1, ())


def test_a_process_that_forgets_to_close_loses_nothing(path: Path) -> None:
    run_python(
        """
        import sys
        from honeyguide.contracts import LogRecord
        from honeyguide.engines.log.sqlite import SqliteLog
        log = SqliteLog(sys.argv[1], linger_ms=60_000)
        log.append([LogRecord("k", "impression", 1, "u", b"")])
        """,
        path,
    )
    log = SqliteLog(path)
    assert log.head() == 1
    log.close()


# --------------------------------------------------------------------------------------------- other processes

_WRITER = """
import sys
from honeyguide.contracts import LogRecord
from honeyguide.engines.log.sqlite import SqliteLog
path, seed = sys.argv[1], int(sys.argv[2])
log = SqliteLog(path)
new = 0
for i in range(60):
    keys = [f"shared {(seed + i) % 60} {j}" for j in range(5)] + [f"own {seed} {i}"]
    new += len(keys) - len(log.append([LogRecord(key, "event", 1, "u", b"") for key in keys]).result().duplicates)
print(new)
log.close()
"""


def test_processes_write_and_read_one_log(path: Path) -> None:
    log = SqliteLog(path)
    writers = [
        subprocess.Popen([sys.executable, "-c", _WRITER, str(path), str(seed)], stdout=subprocess.PIPE, text=True)
        for seed in (0, 7, 31)
    ]
    seen: list[tuple[int, LogRecord]] = []
    while any(writer.poll() is None for writer in writers):
        head = log.head()
        seen += log.read(seen[-1][0] if seen else 0)
        assert not seen or seen[-1][0] >= head  # what the head promises can be read
    claimed = sum(int(writer.communicate()[0]) for writer in writers)
    seen += log.read(seen[-1][0])
    assert [offset for offset, _ in seen] == list(range(1, claimed + 1)) == list(range(1, log.head() + 1))
    assert len({stored.key for _, stored in seen}) == len(seen) == 60 * 5 + 3 * 60
    log.close()


def test_processes_make_one_log_at_once(path: Path) -> None:
    code = "import sys; from honeyguide.engines.log.sqlite import SqliteLog; print(SqliteLog(sys.argv[1]).id)"
    openers = [
        subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True) for _ in range(6)
    ]
    assert len({opener.communicate()[0] for opener in openers}) == 1
    assert [opener.returncode for opener in openers] == [0] * 6


_MORTAL = """
import sys
from honeyguide.contracts import LogRecord
from honeyguide.engines.log.sqlite import SqliteLog
log = SqliteLog(sys.argv[1])
at = int(sys.argv[2])
flying = []
while True:
    records = [LogRecord(f"batch {at} record {j}", "event", at, "u", bytes(50)) for j in range(1 + at % 7)]
    flying.append((at, log.append(records)))
    at += 1
    if len(flying) > 3:
        number, future = flying.pop(0)
        future.result()
        print(number, flush=True)
"""


def _kill_rounds(path: Path, rounds: int, seed: int) -> None:
    chance = random.Random(seed)
    acknowledged: list[int] = []
    for _ in range(rounds):
        # Each life begins some batches back, as a client does that heard no answer.
        begin = max(0, (acknowledged[-1] if acknowledged else 0) - 5)
        life = subprocess.Popen(
            [sys.executable, "-c", _MORTAL, str(path), str(begin)], stdout=subprocess.PIPE, text=True
        )
        assert life.stdout is not None
        acknowledged.append(int(life.stdout.readline()))
        time.sleep(chance.uniform(0, 0.2))
        life.kill()
        acknowledged += [int(line) for line in life.stdout.read().splitlines() if line]
        life.wait()
    log = SqliteLog(path)
    stored = [kept.key for _, kept in log.read(0, limit=1 << 40)]
    log.close()
    assert len(stored) == len(set(stored))
    promised = {f"batch {at} record {j}" for at in acknowledged for j in range(1 + at % 7)}
    assert promised <= set(stored)
    batches: dict[int, int] = {}
    for key in stored:
        batches[int(key.split()[1])] = batches.get(int(key.split()[1]), 0) + 1
    assert all(number == 1 + at % 7 for at, number in batches.items())  # whole batches or nothing
    with sqlite3.connect(path) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_killed_writer_loses_and_doubles_nothing(path: Path) -> None:
    _kill_rounds(path, rounds=3, seed=1)


@pytest.mark.heavy
def test_a_writer_killed_again_and_again_loses_and_doubles_nothing(path: Path) -> None:
    _kill_rounds(path, rounds=30, seed=2)


# ------------------------------------------------------------------------------------------- machines that refuse


def test_a_full_disk_stores_nothing_of_the_batch_and_recovers(path: Path) -> None:
    # A limit on the size of files stands in for the disk's end: the write fails with an error of the system.
    done = run_python(
        """
        import resource, sys
        from honeyguide.contracts import LogRecord
        from honeyguide.engines.log.sqlite import SqliteLog
        from honeyguide.errors import ResourceError
        make = lambda name, size: [LogRecord(f"{name} {i}", "event", 1, "u", bytes(size)) for i in range(50)]
        log = SqliteLog(sys.argv[1])
        log.append(make("before", 10)).result()
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_200_000, resource.RLIM_INFINITY))
        for _ in range(3):
            try:
                log.append(make("big", 100_000)).result()
                print("stored")
            except ResourceError as error:
                print(error)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        print(len(log.read(0)), log.head())
        print(len(log.append(make("big", 100_000)).result().duplicates), len(log.read(0)))
        log.close()
        """,
        path,
    )
    lines = done.stdout.splitlines()
    assert all(line.startswith("Expected to read and write the log") for line in lines[:3])
    assert lines[3:] == ["50 50", "0 100"]


def test_a_folder_one_may_not_write_to_is_one_sentence() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        log = SqliteLog(folder / "log")
        log.append([record("k")]).result()
        log.close()
        folder.chmod(0o555)
        code = """
        import os, sys
        from honeyguide.engines.log.sqlite import SqliteLog
        from honeyguide.errors import ResourceError
        if os.geteuid() == 0:
            os.seteuid(65534)  # root may write anywhere
        for path in sys.argv[1:]:
            try:
                SqliteLog(path)
            except ResourceError as error:
                print(error)
        """
        lines = run_python(code, folder / "log", folder / "new").stdout.splitlines()
        folder.chmod(0o755)
    assert len(lines) == 2
    assert all("or make the folder and the log writable" in line for line in lines)


def test_what_is_no_log_is_left_alone(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_bytes(b"Dear diary, " * 1000)
    with pytest.raises(DataError, match="a Honeyguide log"):
        SqliteLog(text)
    assert text.read_bytes() == b"Dear diary, " * 1000
    with pytest.raises(ResourceError):
        SqliteLog(tmp_path / "no such folder" / "log")
    newer = tmp_path / "newer"
    with sqlite3.connect(newer) as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(WorkspaceError, match="format 99"):
        SqliteLog(newer)


# ----------------------------------------------------------------------------------------------------- erasure


def test_erasing_a_person_leaves_no_byte_and_no_gap_to_fall_into(path: Path) -> None:
    log = SqliteLog(path)
    secret = b"the address of Ada Lovelace"
    log.append([record("a", "ada", payload=secret), record("b", "bob")]).result()
    log.append([record("c", "ada", payload=secret), record("d", "ada", payload=secret * 400)]).result()
    log.append([record("queued", "ada", kind="impression", payload=secret)])
    assert log.erase("ada") == 4
    assert [(offset, kept.key) for offset, kept in log.read(0)] == [(2, "b")]
    for file in path.parent.iterdir():
        assert secret not in file.read_bytes(), file
    assert log.erase("ada") == 0
    assert log.append([record("e"), record("a", "ada"), record("b")]).result() == Appended(7, (2,))
    assert [offset for offset, _ in log.read(0)] == [2, 6, 7]
    with pytest.raises(DataError):
        log.erase("")
    log.close()
    with pytest.raises(ResourceError):
        log.erase("bob")


def test_the_head_costs_next_to_nothing(log: SqliteLog) -> None:
    log.append([record("k")]).result()
    best = 1.0
    for _ in range(5):
        started = time.process_time()
        for _ in range(10_000):
            log.head()
        best = min(best, (time.process_time() - started) / 10_000)
    assert best < 5e-6  # a tenth of a microsecond on an idle core; a query would take ten
