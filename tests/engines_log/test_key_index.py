"""The key table against a dictionary, at its seams: the end of the table, growth, erasure, lost files."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from honeyguide.engines.log import key_index
from honeyguide.engines.log.key_index import KeyIndex, digest_of

LOG_ID = b"0123456789abcdef"


class Database:
    """What the index is a memory of."""

    def __init__(self) -> None:
        self.keys: dict[int, str] = {}

    def after(self, offset: int) -> list[tuple[int, bytes]]:
        return [(at, digest_of(key, LOG_ID)) for at, key in self.keys.items() if at > offset]

    def holds(self, offset: int, digest: bytes) -> bool:
        return offset in self.keys and digest_of(self.keys[offset], LOG_ID) == digest


def put(index: KeyIndex, db: Database, keys: list[str], head: int) -> list[bool]:
    """Which keys are new."""
    index.prepare(head, len(keys))
    with index.settled():
        known = set(index.add([digest_of(key, LOG_ID) for key in keys], head + 1, db.holds))
        for place, key in enumerate(keys):
            if place not in known:
                head += 1
                db.keys[head] = key
        index.keep(head)
    return [place not in known for place in range(len(keys))]


@pytest.mark.parametrize("cluster", [False, True], ids=["spread", "all at the table's end"])
def test_growth_and_collisions_lose_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cluster: bool) -> None:
    monkeypatch.setattr(key_index, "_SMALLEST_BITS", 4)
    if cluster:  # every key starts in one of the last slots and has to go round
        whole = digest_of

        def crowded(key: str, log_id: bytes) -> bytes:
            return whole(key, log_id)[:7] + b"\xff" + whole(key, log_id)[8:]

        monkeypatch.setattr(sys.modules[__name__], "digest_of", crowded)
    db = Database()
    index, other = (KeyIndex(tmp_path / "keys", LOG_ID, db.after) for _ in range(2))
    random = np.random.default_rng(0)
    for step in range(60):
        keys = [str(number) for number in random.integers(0, 900, 23)]
        expected = []
        for at, key in enumerate(keys):
            expected.append(key not in db.keys.values() and key not in keys[:at])
        assert put(index if step % 3 else other, db, keys, max(db.keys, default=0)) == expected
    index.close()
    other.close()


def test_a_failed_transaction_is_taken_back(tmp_path: Path) -> None:
    db = Database()
    index = KeyIndex(tmp_path / "keys", LOG_ID, db.after)

    def header_and_fingerprints() -> list[int]:
        words = np.frombuffer((tmp_path / "keys").read_bytes(), np.uint64)
        return [*words[:8].tolist(), *words[8::2].tolist()]

    def fail() -> None:
        with index.settled():
            assert index.add([digest_of("b", LOG_ID), digest_of("c", LOG_ID)], 2, db.holds) == []
            index.keep(3)
            raise OSError("the disk is full")

    put(index, db, ["a"], 0)
    before = header_and_fingerprints()
    index.prepare(1, 2)
    with pytest.raises(OSError):
        fail()
    assert header_and_fingerprints() == before
    assert put(index, db, ["b", "a"], 1) == [True, False]
    index.close()


def test_keys_entered_but_never_committed_do_not_hide_later_ones(tmp_path: Path) -> None:
    db = Database()
    killed = KeyIndex(tmp_path / "keys", LOG_ID, db.after)
    killed.prepare(0, 3)
    killed.add([digest_of(key, LOG_ID) for key in "abc"], 1, db.holds)
    killed.keep(3)  # and here the process ends, before its commit
    index = KeyIndex(tmp_path / "keys", LOG_ID, db.after)
    assert put(index, db, ["x", "b", "a"], 0) == [True, True, True]
    assert put(index, db, ["x", "a", "c", "b"], 3) == [False, False, True, False]
    index.close()
    killed.close()


def test_forgotten_keys_leave_no_fingerprint_and_break_no_chain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_index, "_SMALLEST_BITS", 6)
    numbers = {digest_of(str(i), LOG_ID): i for i in range(20)}
    monkeypatch.setattr(
        KeyIndex, "_fingerprint", lambda self, digest: (5 << 58) + numbers[digest] + 2
    )  # one long chain
    db = Database()
    index = KeyIndex(tmp_path / "keys", LOG_ID, db.after)
    put(index, db, [str(i) for i in range(20)], 0)
    gone = [(at, key) for at, key in db.keys.items() if int(key) % 2]
    for at, _ in gone:
        del db.keys[at]
    index.forget([(at, digest_of(key, LOG_ID)) for at, key in gone])
    words = set(np.frombuffer((tmp_path / "keys").read_bytes(), np.uint64)[8::2].tolist())
    assert not words & {(5 << 58) + int(key) + 2 for _, key in gone}
    assert put(index, db, [str(i) for i in range(20)], 20) == [bool(i % 2) for i in range(20)]
    index.close()
