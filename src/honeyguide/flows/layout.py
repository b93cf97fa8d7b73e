"""The folders of a workspace, and the check that it is one this version can read."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from honeyguide.engines.tasks.steps import atomic_write, disk_errors
from honeyguide.errors import BuildError, WorkspaceError

__all__ = ["FORMAT", "Layout"]

FORMAT = 1
"""Version of the folder's format; a workspace with a higher number was written by a newer Honeyguide."""

CONFIG = "honeyguide.toml"


@dataclass(frozen=True, slots=True)
class Layout:
    """Where things lie in a workspace."""

    root: Path

    @property
    def config(self) -> Path:
        """`honeyguide.toml`."""
        return self.root / CONFIG

    @property
    def tables(self) -> Path:
        """Parquet snapshots of Events, Items, Users, Quarantine."""
        return self.root / "tables"

    @property
    def contracts(self) -> Path:
        """What each table's loads must look like: a TOML file per table, for people to edit."""
        return self.root / "contracts"

    @property
    def loads(self) -> Path:
        """What each load brought: a JSON file per load and table."""
        return self.root / "loads"

    @property
    def log(self) -> Path:
        """The log of events and item changes that serving appends to."""
        return self.root / "log" / "events.sqlite"

    @property
    def impressions(self) -> Path:
        """The log of what was shown; apart, so that a click never waits for it."""
        return self.root / "log" / "impressions.sqlite"

    @property
    def served(self) -> Path:
        """The log of a sample of requests with the features that they were scored by."""
        return self.root / "log" / "served.sqlite"

    @property
    def artifacts(self) -> Path:
        """Cached step artifacts, by content."""
        return self.root / "artifacts"

    @property
    def builds(self) -> Path:
        """One manifest per build, and which one is in service."""
        return self.root / "builds"

    @property
    def retired(self) -> Path:
        """Manifests of builds that may not be served again, each with its reason and date."""
        return self.builds / "retired"

    @property
    def current(self) -> Path:
        """A file that holds the id of the build in service."""
        return self.builds / "CURRENT"

    @property
    def models(self) -> Path:
        """What the registry says of builds beside their manifests, and what shadows saw."""
        return self.root / "models"

    @property
    def reports(self) -> Path:
        """HTML and JSON reports."""
        return self.root / "reports"

    @property
    def lock(self) -> Path:
        """Held by whoever builds."""
        return self.root / ".lock"

    @property
    def loading(self) -> Path:
        """Held by whoever brings rows in or takes a person out."""
        return self.root / ".loading"

    @property
    def scratch(self) -> Path:
        """Spill files of the tables engine."""
        return self.root / ".scratch"

    @classmethod
    def open(cls, root: Path | str) -> Layout:
        """An existing workspace, or a WorkspaceError."""
        layout = cls(Path(root).expanduser())
        if not layout.config.is_file():
            raise WorkspaceError(
                expected=f"a workspace (a folder with {CONFIG})",
                got=f"{layout.root}" + ("" if layout.root.exists() else ", which does not exist"),
                do="Make one with `honeyguide init DIR --events FILE --items FILE`.",
            )
        stamp = layout.root / "workspace.json"
        try:
            written = int(json.loads(stamp.read_text())["format"]) if stamp.exists() else FORMAT
        except (ValueError, KeyError, TypeError) as error:
            raise WorkspaceError(
                expected=f"a format number in {stamp}", got="something else", do=f'Restore it: {{"format": {FORMAT}}}.'
            ) from error
        if written > FORMAT:
            raise WorkspaceError(
                expected=f"a workspace of format {FORMAT} or older",
                got=f"format {written}, written by a newer Honeyguide",
                do="Upgrade Honeyguide (`pip install --upgrade honeyguide`).",
            )
        return layout

    @classmethod
    def create(cls, root: Path | str) -> Layout:
        """A new workspace's folders; refuses a folder that is one already or holds other things."""
        layout = cls(Path(root).expanduser())
        if layout.root.exists() and (not layout.root.is_dir() or any(layout.root.iterdir())):
            raise WorkspaceError(
                expected="a new or empty folder",
                got=f"{layout.root}, which " + ("is a workspace already" if layout.config.exists() else "is not empty"),
                do="Choose another folder, or remove this one first.",
            )
        for folder in (layout.tables, layout.log.parent, layout.artifacts, layout.builds, layout.reports):
            folder.mkdir(parents=True, exist_ok=True)
        atomic_write(layout.root / "workspace.json", json.dumps({"format": FORMAT}).encode())
        return layout

    def current_build(self) -> str:
        """Id of the build in service, or a BuildError."""
        try:
            return self.current.read_text().strip()
        except FileNotFoundError as error:
            retired = sorted(self.retired.glob("*.json"))
            got = f"none in service: {self.why_retired(retired[-1].stem)}" if retired else "none yet"
            raise BuildError(
                expected=f"a build in {self.root}", got=got, do=f"Run `honeyguide build {self.root}` first."
            ) from error

    def manifest(self, build_id: str) -> Path:
        """A build's manifest, or a BuildError that lists the builds there are."""
        path = self.builds / f"{build_id}.json"
        if not path.exists():
            why = self.why_retired(build_id)
            if why:
                raise BuildError(
                    expected="a build that may be served", got=why, do=f"Run `honeyguide build {self.root}`."
                )
            known = ", ".join(self.build_ids()[-5:]) or "none"
            raise BuildError(
                expected=f"a build of {self.root} (the newest: {known})", got=repr(build_id), do="Name one of these."
            )
        return path

    @contextmanager
    def compacting(self, *, shared: bool = False) -> Iterator[None]:
        """A block in which nobody (`shared`: nobody else than such blocks) moves the log into the tables.

        Shared, versions of several tables and the log are read as they belong together.
        """
        self.log.parent.mkdir(exist_ok=True)
        with disk_errors(self.root), (self.log.parent / ".compacting").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
            yield

    def pinned(self, table: str) -> set[str]:
        """Versions of a table that builds were made of, and that stay while the builds do."""
        found = set()
        for build_id in self.build_ids():
            data = json.loads((self.builds / f"{build_id}.json").read_text())["data"]
            found.add(data.get("versions", {}).get(table, ""))
        return found - {""}

    def why_retired(self, build_id: str) -> str:
        """Why and when a build was retired, "" if it was not."""
        path = self.retired / f"{build_id}.json"
        if not path.exists():
            return ""
        told = json.loads(path.read_text())["retired"]
        return f"{build_id} was retired on {told['at'][:10]} ({told['reason']})"

    def build_ids(self) -> list[str]:
        """All builds, oldest first (ids begin with their time)."""
        return sorted(path.stem for path in self.builds.glob("*.json"))
