"""`honeyguide.toml`: closed sections, each room's own config beside its class, read once and checked whole."""

from __future__ import annotations

import importlib
import importlib.metadata
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from honeyguide.contracts import BoolArray
from honeyguide.engines.tables.choice import EngineConfig
from honeyguide.engines.tasks.steps import fingerprint
from honeyguide.errors import ConfigError, NotFoundError
from honeyguide.flows.reports.config import ReportConfig
from honeyguide.flows.search_config import SearchConfig
from honeyguide.ranking.config import RankerConfig
from honeyguide.ranking.deep.config import chain
from honeyguide.ranking.heads import HeadConfig
from honeyguide.serving.settings import ServeSettings
from honeyguide.slate.compose import SlateConfig
from honeyguide.slate.long_term import LongTermConfig

__all__ = [
    "CanaryConfig",
    "ClockConfig",
    "RerankConfig",
    "RetentionConfig",
    "RetrainConfig",
    "RightsConfig",
    "SearchConfig",
    "SegmentsConfig",
    "ShadowConfig",
    "SkewConfig",
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
    delays: what becomes of a slot whose outcome may still come, for heads that give a probability: "drop" leaves it out
    whatever came of it, "model" learns from it by the chance that the outcome is yet to come (Chapelle 2014).
    negatives_per_positive: of slots of which nothing came, keep so many for each of which something did, drawn evenly
    (0: all); the probabilities are those of all slots nevertheless.
    """

    labels: Literal["auto", "events"] = "auto"
    delays: Literal["drop", "model"] = "drop"
    negatives_per_positive: float = Field(default=0.0, ge=0.0)
    least_requests: int = Field(default=1_000, ge=1)
    horizon_hours: float = Field(default=24.0, gt=0, le=24 * 365)
    negatives: Literal["pool", "uniform", "popularity"] = "pool"


class SkewConfig(_Closed):
    """Whether heads are served what they learn from: requests kept with their features, and compared.

    share: of the requests, kept with the features of their first `candidates`; 0: none. keep: the newest so many.
    tolerance: a row differs if |served - recomputed| exceeds it times 1 + |recomputed|. differing: a feature is skewed
    if more than this share of its rows differ. on_build: "block" refuses to build while a feature is skewed (then
    `honeyguide build --allow-skew` builds all the same), "warn" says so, "off" does not look.
    """

    share: float = Field(default=0.002, ge=0.0, le=1.0)
    candidates: int = Field(default=30, ge=1, le=5_000)
    keep: int = Field(default=2_000, ge=1)
    tolerance: float = Field(default=1e-3, gt=0.0)
    differing: float = Field(default=0.01, ge=0.0, lt=1.0)
    on_build: Literal["block", "warn", "off"] = "block"


class SourceConfig(_Closed):
    """A retrieval source: a class that fits `contracts.Source`, by dotted name or entry point, and its own config.

    grid: values to try for a key of the config; the build keeps the one that serves returning people best on
    validation. chance: weight that it keeps in the blend whatever validation finds, for what no past can speak for,
    such as new items; the build's report says what that costs.
    """

    use: str
    config: dict[str, Any] = {}
    grid: dict[str, list[Any]] = {}
    chance: float = Field(default=0.0, ge=0.0, le=0.2)


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


class ShadowConfig(_Closed):
    """Another build that scores a share of the requests after they are answered, unseen, to be compared.

    build "": none. `honeyguide models shadow` says the same without an edit, and goes before this section.
    queue: requests that may wait for it; what comes on top is not scored, and counted.
    """

    build: str = ""
    share: float = Field(default=0.1, gt=0.0, le=1.0)
    queue: int = Field(default=256, ge=1, le=100_000)


class CanaryConfig(_Closed):
    """Another build that answers a share of the people, and steps back by itself when it hurts.

    It steps back when after `least_requests` answers it fails (an error or a fallback) more often than the build in
    service, or a `guardrails` action follows more often, by a test that may be looked at always with a false alarm in
    `alpha` of all canaries; or when it takes more than `slower` times as long (by four standard errors).
    """

    build: str = ""
    share: float = Field(default=0.05, gt=0.0, le=0.5)
    least_requests: int = Field(default=200, ge=10)
    alpha: float = Field(default=0.01, gt=0.0, lt=0.5)
    slower: float = Field(default=1.5, gt=1.0)
    guardrails: tuple[str, ...] = ("hide", "less_like_this")


class RetrainConfig(_Closed):
    """When `honeyguide retrain --if-needed` builds anew, and how it judges what it built.

    every_days: age by the workspace's clock at which a build is old (0: never). new_events: events since the build that
    call for another by themselves (0: never). psi: a feature that the ranker leans on by `least_importance` has drifted
    above it. ece: how much the calibration error of a served head may have grown on fresh outcomes. least_events: below
    so many new events nothing is measured. held_out: share of the new events, the newest, that decide between the old
    and the new. margin: how much nDCG@10 the new one may lose, at the low end of the interval.
    """

    every_days: float = Field(default=7.0, ge=0)
    new_events: int = Field(default=0, ge=0)
    psi: float = Field(default=0.25, gt=0)
    least_importance: float = Field(default=0.02, ge=0, le=1)
    ece: float = Field(default=0.02, gt=0)
    least_events: int = Field(default=500, ge=1)
    held_out: float = Field(default=0.5, gt=0, lt=1)
    margin: float = Field(default=0.005, ge=0)


class RightsConfig(_Closed):
    """Actions by which people say what they do not want: of one item, and of everything like it.

    strength: how far the most similar item falls, as a share of what separates best from worst.
    """

    hide: tuple[str, ...] = ("hide",)
    less: tuple[str, ...] = ("less_like_this",)
    strength: float = Field(default=0.6, gt=0.0, le=1.0)


class RerankConfig(_Closed):
    """How much each order counts, `[rerank]`: the other engine's, our search's, and the person's.

    rank_constant: k of the reciprocal ranks; the smaller, the more the first places count.
    """

    engine: float = Field(default=1.0, ge=0)
    search: float = Field(default=1.5, ge=0)
    person: float = Field(default=0.5, ge=0)
    rank_constant: float = Field(default=20.0, gt=0)


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
    long_term: tuple[LongTermConfig, ...] = ()
    ranker: RankerConfig = RankerConfig()
    skew: SkewConfig = SkewConfig()
    sources: tuple[SourceConfig, ...] = ()
    features: tuple[dict[str, Any], ...] = ()
    surfaces: dict[str, SurfaceConfig] = {"home": SurfaceConfig()}
    search: SearchConfig = SearchConfig()
    serve: ServeSettings = ServeSettings()
    report: ReportConfig = ReportConfig()
    retention: RetentionConfig = RetentionConfig()
    rights: RightsConfig = RightsConfig()
    rerank: RerankConfig = RerankConfig()
    shadow: ShadowConfig = ShadowConfig()
    canary: CanaryConfig = CanaryConfig()
    retrain: RetrainConfig = RetrainConfig()

    @model_validator(mode="after")
    def _outcomes_follow(self) -> Self:
        chain(self.heads)
        return self

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

    @property
    def head_names(self) -> frozenset[str]:
        """Every head that is configured, those for long-term value included."""
        return frozenset(self.calibrated)

    @property
    def calibrated(self) -> dict[str, bool]:
        """Of every head that is configured, whether its score is to be a probability."""
        return {**{head.name: head.calibrated for head in self.heads}, **{one.name: True for one in self.long_term}}

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
