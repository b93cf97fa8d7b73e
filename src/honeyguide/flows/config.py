"""`honeyguide.toml`: closed sections, each room's own config beside its class, read once and checked whole."""

from __future__ import annotations

import importlib
import importlib.metadata
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from honeyguide.contracts import BoolArray
from honeyguide.engines.tables.choice import EngineConfig
from honeyguide.engines.tasks.steps import fingerprint
from honeyguide.errors import ConfigError, NotFoundError
from honeyguide.flows.reports.config import ReportConfig
from honeyguide.ranking.config import RankerConfig
from honeyguide.ranking.heads import HeadConfig
from honeyguide.serving.settings import ServeSettings
from honeyguide.slate.compose import SlateConfig

__all__ = [
    "ClockConfig",
    "RetentionConfig",
    "SegmentsConfig",
    "SourceConfig",
    "SurfaceConfig",
    "TrainingConfig",
    "WorkspaceConfig",
    "load_plugin",
]


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ClockConfig(_Closed):
    """What the present is. For a log that ended long ago the present stands still there: wall time minus `offset_s`."""

    offset_s: float = 0.0


class SegmentsConfig(_Closed):
    """Which facts about a person (or the request's context) make the segments of context-aware popularity."""

    by: tuple[str, ...] = ()


class TrainingConfig(_Closed):
    """What heads learn from.

    labels: `auto` learns what becomes of what is shown from impressions, once there are `least_requests` requests of
    which something was taken; `events` never does. An outcome must follow a showing within `horizon_hours`; before
    they are over it is unknown. negatives: how a head that ranks gets candidates without the outcome: from what the
    sources bring for the request, or from the whole catalog, evenly or by popularity.
    """

    labels: Literal["auto", "events"] = "auto"
    least_requests: int = Field(default=1_000, ge=1)
    horizon_hours: float = Field(default=24.0, gt=0, le=24 * 365)
    negatives: Literal["pool", "uniform", "popularity"] = "pool"


class SourceConfig(_Closed):
    """A retrieval source: a class that fits `contracts.Source`, by dotted name or entry point, and its own config.

    grid: values to try for a key of the config; the build keeps the one that serves returning people best on
    validation.
    """

    use: str
    config: dict[str, Any] = {}
    grid: dict[str, list[Any]] = {}


class SurfaceConfig(_Closed):
    """Where people are met: what its question is made of, how many candidates, how long it may take, its policy.

    weights: of the sources, for a surface that asks another question than what comes next (an item page asks what is
    alike); without them the weights are those that the build found for home. without: sources not to ask here.
    """

    kind: Literal["home", "item", "board"] = "home"
    candidates: int = Field(default=300, ge=1, le=5_000)
    history: int = Field(default=100, ge=1, le=10_000)  # newest events of the person that are looked at
    weights: dict[str, float] = {}
    without: tuple[str, ...] = ()
    deadline_ms: float = Field(default=100.0, gt=0)
    slate: SlateConfig = SlateConfig()


class RetentionConfig(_Closed):
    """How long what came in is kept, in days by the workspace's clock (0 = for ever), and when the log is compacted.

    compact_records, compact_minutes: a server moves the log into the tables once so many records wait there, or the
    oldest waits so long; 0 minutes: only `honeyguide compact` and `build` do. keys, keys_days: ids of events that the
    tables hold stay known to the log, so that an event sent again is no second one: the newest so many, for so long.
    """

    events_days: float = Field(default=0.0, ge=0)
    impressions_days: float = Field(default=0.0, ge=0)
    quarantine_days: float = Field(default=0.0, ge=0)
    compact_records: int = Field(default=1_000_000, ge=1)
    compact_minutes: float = Field(default=60.0, ge=0)
    keys: int = Field(default=5_000_000, ge=0)
    keys_days: float = Field(default=7.0, ge=0)


class WorkspaceConfig(_Closed):
    """All of `honeyguide.toml`."""

    version: Literal[1] = 1
    name: str = "workspace"
    seed: int = Field(default=42, ge=0, lt=2**31)
    engine: EngineConfig = EngineConfig()
    clock: ClockConfig = ClockConfig()
    actions: dict[str, float] = {}
    had: tuple[str, ...] = ()  # actions by which a person has had an item; (): every action with a weight above 0
    segments: SegmentsConfig = SegmentsConfig()
    heads: tuple[HeadConfig, ...] = ()
    training: TrainingConfig = TrainingConfig()
    ranker: RankerConfig = RankerConfig()
    sources: tuple[SourceConfig, ...] = ()
    features: tuple[dict[str, Any], ...] = ()
    surfaces: dict[str, SurfaceConfig] = {"home": SurfaceConfig()}
    serve: ServeSettings = ServeSettings()
    report: ReportConfig = ReportConfig()
    retention: RetentionConfig = RetentionConfig()

    @classmethod
    def load(cls, path: Path) -> WorkspaceConfig:
        """Read and check; a ConfigError names the key that is wrong."""
        try:
            return cls.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(expected=f"TOML in {path}", got=str(error), do="Mend the line it names.") from error
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"]) or "the file"
            if first["type"] == "extra_forbidden":
                raise ConfigError(
                    expected=f"only known keys in {path}",
                    got=f"the unknown key {key!r}",
                    do="Mend or remove it; `docs/configuration.md` lists the keys.",
                ) from error
            got = f"{first['input']!r:.80}" if first["type"] != "missing" else "nothing"
            raise ConfigError(
                expected=f"a valid {key} in {path} ({first['msg']})", got=got, do="Mend the value."
            ) from error

    @classmethod
    def of_build(cls, config: dict[str, Any]) -> WorkspaceConfig:
        """The configuration that a build's manifest holds; a ConfigError if this version knows its keys no more."""
        try:
            return cls.model_validate(config)
        except ValidationError as error:
            key = ".".join(str(part) for part in error.errors()[0]["loc"])
            raise ConfigError(
                expected="a build made by this version",
                got=f"one configured with {key!r}",
                do="Run `honeyguide build`.",
            ) from error

    def surface(self, name: str) -> SurfaceConfig:
        """A surface's config, or a NotFoundError naming those there are."""
        if name not in self.surfaces:
            raise NotFoundError(
                expected=f"a surface of honeyguide.toml ({', '.join(self.surfaces)})", got=repr(name), do="Name one."
            )
        return self.surfaces[name]

    def had_by_code(self, actions: Sequence[str]) -> BoolArray:
        """By action code, whether the action means having had the item; the last entry is any other action."""
        had = [a in self.had if self.had else self.actions.get(a, 0.0) > 0 for a in actions]
        return np.array([*had, False], np.bool_)

    def policy_version(self, build_id: str) -> str:
        """Changes when the build or anything of the surfaces changes."""
        surfaces = {name: surface.model_dump(mode="json") for name, surface in self.surfaces.items()}
        return f"{build_id}-{fingerprint(surfaces)[:8]}"


def load_plugin(name: str) -> Any:
    """The class behind `package.module:Class`, or behind an entry point of the group `honeyguide.plugins`."""
    if ":" not in name:
        for entry in importlib.metadata.entry_points(group="honeyguide.plugins", name=name):
            return entry.load()
        raise ConfigError(
            expected="`package.module:Class` or an entry point of the group `honeyguide.plugins`",
            got=repr(name),
            do="Mend the name, or install the package that brings it.",
        )
    module, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            expected=f"an importable {name!r}", got=str(error), do="Mend the name in [[sources]]."
        ) from error
    missing = [part for part in ("name", "fit", "retrieve", "save", "load") if not hasattr(found, part)]
    if missing:
        raise ConfigError(
            expected=f"{name!r} to be a source (contracts.Source)",
            got=f"something without {', '.join(missing)}",
            do="Name a class that fits; docs/extending.md shows one.",
        )
    return found
