"""Cached steps: a step whose name, inputs and code are the same as before gives the artifact of before.

An artifact is a folder `<store>/<step>/<fingerprint>`; it appears by one atomic rename, so a killed build leaves no
half artifact, only a `.tmp-*` folder that the next run removes.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from honeyguide.errors import ResourceError, WorkspaceError

__all__ = ["StepResult", "Steps", "atomic_write", "code_fingerprint", "disk_errors", "fingerprint", "only_process"]

_SHORT_WRITE = re.compile(r"\d+ requested and \d+ written")


@dataclass(frozen=True, slots=True)
class StepResult:
    """What a step gave: its folder, and whether it was there already."""

    name: str
    fingerprint: str
    folder: Path
    seconds: float
    reused: bool


def fingerprint(value: Any) -> str:
    """Stable 16-byte hex hash of any JSON-like value."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


@cache
def code_fingerprint() -> str:
    """Hash of this package's source: a step is redone when the code that makes it has changed."""
    digest = hashlib.blake2b(digest_size=16)
    root = Path(__file__).resolve().parents[2]
    for path in sorted(root.rglob("*.py")):
        relative = path.relative_to(root)
        # Pages, the command line and the wire decide nothing about an artifact.
        if relative.parts[0] not in ("console", "cli", "serving", "testing"):
            digest.update(str(relative).encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn a full or read-only disk into a ResourceError that says what to do."""
    try:
        yield
    except OSError as error:
        # numpy tells of a short write in words alone: "1210000 requested and 298944 written".
        if error.errno in (errno.ENOSPC, errno.EDQUOT) or (error.errno is None and _SHORT_WRITE.search(str(error))):
            raise ResourceError(
                expected=f"free disk space at {path}",
                got="a full disk",
                do="Free some space and run the command again; what was in service stays in service.",
            ) from error
        if error.errno == errno.EFBIG:
            raise ResourceError(
                expected=f"to write whole files to {path}",
                got="a file-size limit",
                do="Raise the limit (`ulimit -f`) and run the command again; what was in service stays in service.",
            ) from error
        if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
            raise ResourceError(
                expected=f"permission to write to {path}",
                got=os.strerror(error.errno),
                do="Choose another folder or change its permissions.",
            ) from error
        raise


def atomic_write(path: Path, data: bytes) -> None:
    """Write a file so that a reader sees the old content or the new, never a part."""
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    with disk_errors(path):
        try:
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def only_process(lock: Path, what: str) -> Iterator[None]:
    """Hold a lock file; a second process that wants it is refused at once."""
    with disk_errors(lock), lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise WorkspaceError(
                expected=f"no other process to {what} here",
                got="one that is running now",
                do="Wait until it has ended, then run the command again.",
            ) from error
        yield


class Steps:
    """Runs steps against a store of artifacts, and remembers what it ran."""

    def __init__(self, store: Path, on_step: Callable[[str, StepResult | None], None] | None = None) -> None:
        """`on_step(name, None)` is called when a step starts, `on_step(name, result)` when it has ended."""
        self.store = store
        self.results: list[StepResult] = []
        self._on_step = on_step or (lambda name, result: None)

    def run(self, name: str, inputs: Mapping[str, Any], make: Callable[[Path], None]) -> StepResult:
        """The artifact of `make(folder)` for these inputs, from the store if it is there."""
        key = fingerprint({"step": name, "inputs": dict(inputs), "code": code_fingerprint()})
        folder = self.store / name / key
        started = time.perf_counter()
        self._on_step(name, None)
        reused = (folder / "done.json").exists()
        if not reused:
            temporary = folder.with_name(f".tmp-{key}-{os.getpid()}")
            with disk_errors(self.store):
                shutil.rmtree(temporary, ignore_errors=True)
                temporary.mkdir(parents=True)
                try:
                    make(temporary)
                    (temporary / "done.json").write_text(
                        json.dumps({"step": name, "inputs": dict(inputs)}, default=str)
                    )
                    shutil.rmtree(folder, ignore_errors=True)
                    temporary.rename(folder)
                finally:
                    shutil.rmtree(temporary, ignore_errors=True)
        result = StepResult(name, key, folder, time.perf_counter() - started, reused)
        self.results.append(result)
        self._on_step(name, result)
        return result

    def sweep(self, keep: set[Path]) -> int:
        """Remove artifacts that no build names (and what a killed build left); returns how many."""
        removed = 0
        for step in self.store.iterdir() if self.store.exists() else ():
            for folder in step.iterdir():
                if folder not in keep:
                    shutil.rmtree(folder, ignore_errors=True)
                    removed += 1
        return removed
