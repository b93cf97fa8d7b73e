"""Which surfaces stopped exploring, since when and why: a small file that every server of the workspace follows."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec

from honeyguide.engines.tasks.steps import atomic_write, only_process
from honeyguide.errors import RequestError, WorkspaceError
from honeyguide.flows.config import WorkspaceConfig
from honeyguide.flows.layout import Layout
from honeyguide.slate.explore import ExploreConfig

__all__ = ["Stop", "Stops", "changing", "path", "read", "release", "stopped", "without_stopped"]


class Stop(msgspec.Struct, frozen=True):
    """A surface's exploration ended by one of its guardrails."""

    at: str  # ISO 8601
    guardrail: str
    why: str
    explored: int  # slots shown by chance that the action followed
    unexplored: int  # others that it followed
    expected: float  # explored ones among them, were the ratio exactly as allowed


class Stops(msgspec.Struct):
    """`exploration.json` of a workspace. released: when a surface was let go on, from which its test began anew, in
    microseconds by the workspace's clock."""

    stopped: dict[str, Stop] = {}
    released: dict[str, int] = {}


def path(layout: Layout) -> Path:
    """Where it lies."""
    return layout.root / "exploration.json"


def read(layout: Layout) -> Stops:
    """What it says; nothing if there is none."""
    place = path(layout)
    try:
        return msgspec.json.decode(place.read_bytes(), type=Stops)
    except FileNotFoundError:
        return Stops()
    except msgspec.DecodeError as error:
        raise WorkspaceError(
            expected=f"what stopped, in {place}", got=str(error),
            do="Mend it, or remove it: then every surface explores again as configured.",
        ) from error  # fmt: skip


@contextmanager
def changing(layout: Layout) -> Iterator[Stops]:
    """Read it, let the block change it, and write it; one process at a time."""
    with only_process(layout.root / ".exploring", "exploration"):
        found = read(layout)
        before = msgspec.json.encode(found)
        yield found
        if msgspec.json.encode(found) != before:
            atomic_write(path(layout), msgspec.json.format(msgspec.json.encode(found)))


def release(layout: Layout, surface: str) -> Stop:
    """Let a surface explore again; its guardrails are judged by what is shown from now on. RequestError if it may."""
    with changing(layout) as found:
        stop = found.stopped.pop(surface, None)
        if stop is None:
            there = ", ".join(found.stopped) or "none"
            raise RequestError(
                expected=f"a surface whose exploration stopped ({there})", got=repr(surface), do="Name one of them."
            )
        offset_s = WorkspaceConfig.load(layout.config).clock.offset_s
        found.released[surface] = time.time_ns() // 1000 - round(offset_s * 1e6)
    return stop


def stopped(layout: Layout, built: WorkspaceConfig, served: WorkspaceConfig) -> dict[str, str]:
    """Surfaces that may not explore now, and why. A changed exploration, tried on a copy, is another than stopped."""
    return {
        name: stop.why
        for name, stop in read(layout).stopped.items()
        if name in served.surfaces
        and name in built.surfaces
        and served.surfaces[name].slate.explore == built.surfaces[name].slate.explore
    }


def without_stopped(config: WorkspaceConfig, names: Mapping[str, str]) -> WorkspaceConfig:
    """The configuration as it is served: surfaces that stopped explore nothing."""
    if not names:
        return config
    surfaces = {
        name: surface.model_copy(
            update={"slate": surface.slate.model_copy(update={"explore": ExploreConfig()})}
        ) if name in names else surface
        for name, surface in config.surfaces.items()
    }  # fmt: skip
    return config.model_copy(update={"surfaces": surfaces})
