"""Copies of a workspace in which policies live in simulated time, without a trace in the workspace itself."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from honeyguide.contracts import EventLog
from honeyguide.engines.log.sqlite import SqliteLog
from honeyguide.engines.tables.snapshot import Snapshots
from honeyguide.engines.tasks.steps import atomic_write, disk_errors
from honeyguide.errors import ResourceError
from honeyguide.flows.build import build
from honeyguide.flows.config import WorkspaceConfig
from honeyguide.flows.keeping.compact import compact
from honeyguide.flows.layout import Layout
from honeyguide.flows.live import Live, load_manifest
from honeyguide.flows.simulation.changes import Changed
from honeyguide.flows.wiring import Desk
from honeyguide.schema.tables import EVENTS, IMPRESSIONS

__all__ = ["Arm", "SimClock", "copied", "patient", "scratch", "toml_of"]

_LINKED = (".parquet", ".npy", ".npz")
"""Files that nobody changes in place: a copy may share them."""
_MADE, _SCRATCH = ".new-simulated-", ".simulated-"
_LEFT = ("log", "reports", ".lock", ".scratch", _MADE + "*", _SCRATCH + "*")
_RAM = Path("/dev/shm")
_PATIENCE_MS = 60_000.0
"""In simulated time nothing is late: an answer must not depend on how busy the machine is."""


@dataclass
class SimClock:
    """The present of a simulation, microseconds; it never runs backwards."""

    now_us: int

    def __call__(self) -> int:
        """Microseconds."""
        return self.now_us

    def turn(self, at_us: int) -> None:
        """Let it be that moment, if it is later."""
        self.now_us = max(self.now_us, at_us)


@contextmanager
def scratch(layout: Layout) -> Iterator[Path]:
    """A folder inside a workspace (so that files can be shared with it) that is gone at the end, logs in memory too.

    What a process that was killed has left goes first.
    """
    for left in layout.root.glob(_SCRATCH + "*"):
        with suppress(OSError), (left / "alive").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(left)
    with disk_errors(layout.root):
        made = Path(tempfile.mkdtemp(prefix=_MADE, dir=layout.root))
        alive = (made / "alive").open("w")
        fcntl.flock(alive, fcntl.LOCK_EX)
        # Under this name only when it is seen to be alive.
        place = made.rename(layout.root / made.name.replace(_MADE, _SCRATCH))
    try:
        yield place
    finally:
        _remove(place)
        alive.close()


def _remove(place: Path) -> None:
    for copy in place.iterdir():
        if copy.is_dir():
            drop_log(Layout(copy))
    shutil.rmtree(place, ignore_errors=True)


def copied(layout: Layout, place: Path, build_id: str | None = None) -> Layout:
    """A copy with the build in service (or another one), configured as that build was, everything in its tables.

    Parquet and arrays are hard links where the file system can. The logs are new and lie in memory where there is room.
    """

    def put(source: str, target: str) -> str:
        if source.endswith(_LINKED):
            try:
                os.link(source, target)
            except OSError:
                shutil.copy2(source, target)
        else:
            shutil.copy2(source, target)
        return target

    with disk_errors(place), layout.compacting(shared=True):
        shutil.copytree(layout.root, place, copy_function=put, ignore=shutil.ignore_patterns(*_LEFT))
        copy = Layout(place)
        copy.reports.mkdir(exist_ok=True)
        _new_log(copy)
        for log, table in ((layout.log, EVENTS), (layout.impressions, IMPRESSIONS)):
            if log.exists():
                _follow(log, copy.root / "log" / log.name, Snapshots(layout.tables), table.name)
    if build_id is not None:
        atomic_write(copy.current, build_id.encode())
    configure(copy, load_manifest(copy).config)
    compact(copy)
    return copy


def _new_log(copy: Layout) -> None:
    place = copy.root / "log"
    if _RAM.is_dir() and os.access(_RAM, os.W_OK) and shutil.disk_usage(_RAM).free > 1 << 28:
        place.symlink_to(tempfile.mkdtemp(prefix="honeyguide-log-", dir=_RAM), target_is_directory=True)
    else:
        place.mkdir()


def _follow(source: Path, target: Path, tables: Snapshots, name: str) -> None:
    """What a log holds and the tables do not yet."""
    with closing(SqliteLog(source)) as old, closing(SqliteLog(target)) as new:
        after, head = max(tables.offset(name, old.id), old.trimmed()), old.head()
        while after < head:
            page = old.read(after, 50_000)
            if not page:
                break
            new.append([record for _, record in page]).result()
            after = page[-1][0]


def configure(copy: Layout, config: Mapping[str, Any]) -> None:
    """Write a copy's `honeyguide.toml`; pages of saved queries are not written by its builds."""
    quiet = {**config, "report": {**config.get("report", {}), "on_build": False}}
    atomic_write(copy.config, toml_of(quiet).encode())


def toml_of(document: Mapping[str, Any]) -> str:
    """A configuration as TOML: a line per key, tables within in braces, what is None left out."""
    return "".join(f"{_key(key)} = {_value(value)}\n" for key, value in document.items() if value is not None)


def _key(key: str) -> str:
    return json.dumps(key, ensure_ascii=False)


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        inner = ", ".join(f"{_key(key)} = {_value(one)}" for key, one in value.items() if one is not None)
        return "{ " + inner + " }" if inner else "{}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(one) for one in value) + "]"
    if isinstance(value, str):
        # JSON escapes what TOML does, but for the delete character.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return json.dumps(value)


def patient(config: WorkspaceConfig) -> WorkspaceConfig:
    """The same policy, which nothing makes hurry."""
    surfaces = {
        name: surface.model_copy(update={"deadline_ms": _PATIENCE_MS}) for name, surface in config.surfaces.items()
    }
    return config.model_copy(update={"surfaces": surfaces})


@dataclass
class Arm:
    """A policy on a copy: the present one, or the changed one.

    change: None for the present policy. beside: the layout whose tables and log it shares, where it is built apart.
    """

    name: str
    layout: Layout
    clock: SimClock
    changed: Changed | None = None
    desk: Desk = field(init=False)
    live: Live = field(init=False)  # what the desk answers from
    builds: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, layout: Layout, place: Path, clock: SimClock, changed: Changed | None = None, name: str = "") -> Arm:
        """On a copy of its own."""
        copy = copied(layout, place, None if changed is None else changed.build_id)
        arm = cls(name or ("present" if changed is None else "changed"), copy, clock, changed)
        if changed is not None and changed.needs_build:
            configure(copy, changed.config.model_dump(mode="json", exclude_unset=True))
            build(copy.root)
        return arm

    def beside(self, layout: Layout, place: Path, changed: Changed) -> Arm:
        """Another policy over the same people, tables and log, as in an A/B test."""
        if not changed.needs_build and changed.build_id is None:
            return Arm("changed", self.layout, self.clock, changed)
        arm = Arm.of(layout, place, self.clock, changed, "changed")
        for part in ("tables", "log"):
            mine, shared = arm.layout.root / part, (self.layout.root / part).resolve()
            if part == "tables":
                shutil.rmtree(mine)
            else:
                drop_log(arm.layout)
            mine.symlink_to(shared, target_is_directory=True)
        return arm

    @property
    def apart(self) -> bool:
        """Whether a build of its own must be made when it is retrained."""
        return self.changed is not None and (self.changed.needs_build or self.changed.build_id is not None)

    def make(self, layout: Layout, log: EventLog | None) -> Live:
        """The build of the copy, served under the policy, in simulated time."""
        self.live = Live(layout, log, clock=self.clock, config=self.policy)
        return self.live

    def policy(self, built: WorkspaceConfig) -> WorkspaceConfig:
        """The configuration to serve of the one that the build has."""
        if self.changed is None:
            return patient(built)
        return patient(self.changed.change.applied(built) if not self.apart else self.changed.config)

    def open(self, log: EventLog, impressions: EventLog) -> Desk:
        """Serve the copy's build."""
        self.desk = Desk(self.layout, log, impressions, watch=False, make=self.make)
        return self.desk

    def retrain(self) -> None:
        """A new build of all that came; put in service when the arm is opened again."""
        report = build(self.layout.root)
        self.builds.append(report["build_id"])


def drop_log(copy: Layout) -> None:
    """Remove a copy's logs, also from memory."""
    place = copy.root / "log"
    if place.is_symlink():
        held = place.resolve()
        place.unlink()
        if held.parent == _RAM:
            shutil.rmtree(held, ignore_errors=True)
    elif place.exists():
        shutil.rmtree(place)


def room_for(layout: Layout) -> None:
    """Whether the copies fit; ResourceError if the disk is nearly full."""
    if shutil.disk_usage(layout.root).free < 1 << 28:
        raise ResourceError(
            expected=f"256 MB free on the disk of {layout.root}", got="less", do="Free some, then run it again."
        )
