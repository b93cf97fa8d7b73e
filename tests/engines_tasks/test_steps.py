"""Cached steps: same inputs, same artifact; an interrupted step leaves nothing that counts."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from honeyguide.engines.tasks.steps import Steps, atomic_write, disk_errors, fingerprint, only_process
from honeyguide.errors import ResourceError, WorkspaceError


def test_a_step_runs_once_for_the_same_inputs(tmp_path: Path) -> None:
    calls: list[str] = []

    def make(folder: Path) -> None:
        calls.append(folder.name)
        (folder / "x").write_text("1")

    steps = Steps(tmp_path)
    first = steps.run("a", {"n": 1}, make)
    again = steps.run("a", {"n": 1}, make)
    other = steps.run("a", {"n": 2}, make)
    assert (first.reused, again.reused, other.reused) == (False, True, False)
    assert first.folder == again.folder != other.folder
    assert len(calls) == 2


def test_a_failing_step_leaves_nothing_and_runs_again(tmp_path: Path) -> None:
    steps = Steps(tmp_path)

    def broken(folder: Path) -> None:
        (folder / "half").write_text("half")
        raise ValueError("killed")

    with pytest.raises(ValueError, match="killed"):
        steps.run("a", {}, broken)
    assert list((tmp_path / "a").iterdir()) == []
    assert not steps.run("a", {}, lambda folder: None).reused


def test_half_an_artifact_of_a_killed_process_does_not_count_and_is_swept(tmp_path: Path) -> None:
    steps = Steps(tmp_path)
    kept = steps.run("a", {}, lambda folder: None)
    half = tmp_path / "a" / ".tmp-dead-1"
    half.mkdir()
    assert steps.sweep({kept.folder}) == 1
    assert kept.folder.exists()
    assert not half.exists()


def test_a_full_disk_is_one_sentence(tmp_path: Path) -> None:
    def full(folder: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(ResourceError, match="free disk space"):
        Steps(tmp_path).run("a", {}, full)


def test_other_disk_errors_stay_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="odd"), disk_errors(tmp_path):
        raise OSError(errno.EIO, "odd")


def test_two_processes_cannot_hold_the_lock(tmp_path: Path) -> None:
    with (
        only_process(tmp_path / "lock", "build"),
        pytest.raises(WorkspaceError, match="no other process to build"),
        only_process(tmp_path / "lock", "build"),
    ):
        pass


def test_atomic_write_replaces_whole(tmp_path: Path) -> None:
    target = tmp_path / "f"
    atomic_write(target, b"old")
    atomic_write(target, b"new")
    assert target.read_bytes() == b"new"
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


def test_fingerprint_does_not_depend_on_key_order() -> None:
    assert fingerprint({"a": 1, "b": [2]}) == fingerprint({"b": [2], "a": 1}) != fingerprint({"a": 1, "b": [3]})
