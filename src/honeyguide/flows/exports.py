"""Another tool's export among the files of `init`, `load` and `check`: each of its tables as a source of rows."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from honeyguide.intake import foreign
from honeyguide.intake.catalog import Source
from honeyguide.intake.foreign import Foreign
from honeyguide.schema.tables import EVENTS, ITEMS, USERS, Table

__all__ = ["Sources", "export_at", "sources"]


@dataclass(frozen=True, slots=True)
class Sources:
    """Where events, items and people are read from: files as they are, or tables of an export."""

    events: Source
    items: Source | None
    users: Source | None
    exports: tuple[Foreign, ...] = ()

    @property
    def notes(self) -> list[str]:
        """What could not be mapped of the exports, once they are read."""
        return [note for export in self.exports for note in export.notes]


def export_at(*paths: Path | None) -> Foreign | None:
    """The one export that all these files and folders are of; None if they are the team's own."""
    given = [path for path in paths if path is not None]
    found = foreign.detect(given)
    if found is None or (found.format == "recbole" and len(found.files) == 1):
        return None  # a single atomic file is read like any file with a header
    whole = all(any(path == file.path or path in file.path.parents for file in found.files) for path in given)
    return found if whole else None


def sources(events: Path, items: Path | None = None, users: Path | None = None, *, mapped: bool = False) -> Sources:
    """What to read for `--events`, `--items` and `--users`. mapped: the user says which column is which, so that
    nothing is recognised. Of an export given as events alone, items and people come along.
    """
    if mapped:
        return Sources(events, items, users)
    together = export_at(events, items, users)
    if together is not None:
        return Sources(together.file(EVENTS), _held(together, ITEMS), _held(together, USERS), (together,))
    of_events, of_items, of_users = (None if path is None else export_at(path) for path in (events, items, users))
    found = tuple(export for export in (of_events, of_items, of_users) if export is not None)
    return Sources(
        events if of_events is None else of_events.file(EVENTS),
        _of(items, of_items or (of_events if items is None else None), ITEMS),
        _of(users, of_users or (of_events if users is None else None), USERS),
        found,
    )


def _of(path: Path | None, export: Foreign | None, table: Table) -> Source | None:
    return path if export is None else _held(export, table)


def _held(export: Foreign, table: Table) -> Source | None:
    """A table that is held in memory anyhow; None if the export has no row of it."""
    if table not in export.tables:
        return None
    parts: Collection = list(export.file(table).batches())
    return parts or None
