"""Change files: what of a policy is to be otherwise, and what happens in the world meanwhile. TOML, closed."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from honeyguide.engines.tasks.steps import fingerprint
from honeyguide.errors import ConfigError
from honeyguide.flows.config import WorkspaceConfig, load_plugin
from honeyguide.flows.exploring.learn import wanted
from honeyguide.flows.layout import Layout
from honeyguide.flows.live import load_manifest
from honeyguide.world.changes import AnyChange, changes_of

__all__ = ["Change", "ChangeFile", "Changed"]

_SERVED = ("surfaces", "serve", "report", "retention", "clock", "name")
"""Sections that a build is not made of: what differs there alone is served by the same build."""
_WHOLE = ("utility",)
"""Tables that a change replaces whole: weights left over from the present policy would be nobody's wish."""


class ChangeFile(BaseModel):
    """The file as it is written.

    policy: tables of `honeyguide.toml` that are otherwise, key by key (a `utility` as a whole); and `sources_off`
    (names), `config` (another honeyguide.toml, from which the rest is taken), `build` (a build of this workspace).
    world: see `world.changes`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = ""
    policy: dict[str, Any] = {}
    world: list[dict[str, Any]] = []


@dataclass(frozen=True)
class Change:
    """A checked change file."""

    name: str
    tables: Mapping[str, Any]
    sources_off: tuple[str, ...]
    config: Path | None
    build_id: str | None
    world: tuple[AnyChange, ...]

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read and check what can be checked without a workspace. ConfigError for anything else than a change file."""
        try:
            document = tomllib.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise ConfigError(
                expected=f"a change file at {path}", got="nothing there", do="Check the path; docs/replay.md shows one."
            ) from error
        except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(expected=f"TOML in {path}", got=str(error), do="Mend the line it names.") from error
        return cls.of(document, path)

    @classmethod
    def of(cls, document: dict[str, Any], path: Path = Path("change.toml")) -> Self:
        """The same of what the file holds; `path` is named in errors, and files that it names lie beside it."""
        try:
            file = ChangeFile.model_validate(document)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"])
            raise ConfigError(
                expected=f"`name`, `[policy]` and `[[world]]` in {path}",
                got=f"{key}: {first['msg']}",
                do="Mend it; docs/replay.md lists the keys.",
            ) from error
        policy = dict(file.policy)
        off = policy.pop("sources_off", [])
        if isinstance(off, str) or not all(isinstance(name, str) for name in off):
            raise ConfigError(expected="names in `policy.sources_off`", got=repr(off)[:80], do='Write ["popular"].')
        config, build_id = policy.pop("config", None), policy.pop("build", None)
        for key, given in (("config", config), ("build", build_id)):
            if given is not None and not isinstance(given, str):
                raise ConfigError(expected=f"a text in `policy.{key}`", got=repr(given)[:80], do="Name one.")
        if config is not None and not (path.parent / config).is_file():
            raise ConfigError(
                expected=f"a honeyguide.toml at {path.parent / config}", got="no file", do="Mend `policy.config`."
            )
        if not policy and not off and config is None and build_id is None and not file.world:
            raise ConfigError(
                expected=f"something that changes in {path}",
                got="an empty [policy] and no [[world]]",
                do="Name a key of honeyguide.toml under [policy]; docs/replay.md shows examples.",
            )
        unknown = [key for key in policy if key not in WorkspaceConfig.model_fields]
        if unknown:
            raise ConfigError(
                expected=f"keys of honeyguide.toml under [policy] ({', '.join(WorkspaceConfig.model_fields)}), or "
                "sources_off, config, build",
                got=repr(unknown[0]),
                do=f"Mend {path}.",
            )
        return cls(
            file.name or path.stem, policy, tuple(off), None if config is None else path.parent / config, build_id,
            changes_of(file.world),
        )  # fmt: skip

    def applied(self, base: WorkspaceConfig) -> WorkspaceConfig:
        """The configuration under the change. ConfigError for what cannot be."""
        if self.config is not None:
            base = WorkspaceConfig.load(self.config)
        document = _merged(base.model_dump(mode="json", exclude_unset=True), self.tables)
        try:
            made = WorkspaceConfig.model_validate(document)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"])
            what = "an unknown key" if first["type"] == "extra_forbidden" else first["msg"]
            raise ConfigError(
                expected=f"a change that honeyguide.toml could hold ({self.name})",
                got=f"`policy.{key}`: {what}",
                do="Mend the change file; docs/configuration.md lists the keys.",
            ) from error
        known = made.head_names
        for name, surface in made.surfaces.items():
            utility = surface.slate.utility
            strange = [head for head in utility.heads if head not in known]
            if strange:
                raise ConfigError(
                    expected=f"heads of the workspace ({', '.join(known) or 'none'})",
                    got=f"a weight for {strange[0]!r} in surfaces.{name}",
                    do="Mend the change file.",
                )
        if not self.sources_off:
            return made
        there = [load_plugin(spec.use).name for spec in made.sources]
        gone = [name for name in self.sources_off if name not in there]
        if gone:
            raise ConfigError(
                expected=f"sources of the workspace ({', '.join(there)})",
                got=f"{gone[0]!r} in policy.sources_off",
                do="Mend the change file.",
            )
        surfaces = {
            name: surface.model_copy(update={"without": (*surface.without, *self.sources_off)})
            for name, surface in made.surfaces.items()
        }
        return made.model_copy(update={"surfaces": surfaces})


@dataclass(frozen=True)
class Changed:
    """A change against one workspace: the configuration under it, and whether it needs a build of its own."""

    change: Change
    config: WorkspaceConfig
    build_id: str | None
    needs_build: bool

    @classmethod
    def of(cls, change: Change, layout: Layout) -> Changed:
        """Checked against the build in service (or the one that the change names)."""
        served = load_manifest(layout)
        base = WorkspaceConfig.of_build(served.config)
        config = change.applied(base)
        if change.build_id is not None:
            named = WorkspaceConfig.of_build(load_manifest(layout, change.build_id).config)
            config = change.applied(named)
            return cls(change, config, change.build_id, needs_build=_built(config) != _built(named))
        return cls(change, config, None, needs_build=_built(config) != _built(base))


def _built(config: WorkspaceConfig) -> str:
    """What of a configuration a build depends on; a build decides which of the heads that rank are good enough."""
    made = {key: value for key, value in config.model_dump(mode="json").items() if key not in _SERVED}
    home = config.surfaces.get("home")
    ranks = sorted(home.slate.utility.rank_weights) if home is not None else []
    # Only what is wanted of the impressions is in a build; wanting nothing changes none.
    return fingerprint([made, ranks, *([learnt] if (learnt := wanted(config)) is not None else [])])


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    made = dict(base)
    for key, value in over.items():
        inside = made.get(key)
        nested = isinstance(value, Mapping) and isinstance(inside, Mapping) and key not in _WHOLE
        made[key] = _merged(dict(inside or {}), value) if nested else value
    return made
