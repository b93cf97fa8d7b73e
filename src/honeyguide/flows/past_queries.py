"""What people asked before, from the log: for suggestions, and for choosing queries to judge."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from honeyguide.flows.analysis.workspace import open_tables
from honeyguide.flows.layout import Layout
from honeyguide.understanding.suggest import LEAST_PEOPLE, PastQuery

__all__ = ["read_queries", "volumes", "write_queries"]

FILE = "queries.json"
_ASKED = (
    "select words, searches, people, clicked from search_queries where people >= {least} order by searches desc, words"
)


def write_queries(layout: Layout, folder: Path) -> None:
    """Keep the queries that enough different people asked; no other ever leaves the log."""
    found = _ask(layout, _ASKED.format(least=LEAST_PEOPLE))
    rows = [[row["words"], row["searches"], row["people"], row["clicked"]] for row in found]
    (folder / FILE).write_text(json.dumps(rows), encoding="utf-8")


def read_queries(folder: Path | None) -> list[PastQuery]:
    """What `write_queries` kept; [] for a build without."""
    path = None if folder is None else folder / FILE
    return [PastQuery(*row) for row in json.loads(path.read_text(encoding="utf-8"))] if path and path.exists() else []


def volumes(layout: Layout) -> dict[str, int]:
    """Query -> how often it was asked, the most frequent first."""
    found = _ask(layout, "select words, searches from search_queries order by searches desc, words")
    return {row["words"]: row["searches"] for row in found if row["words"]}


def _ask(layout: Layout, query: str) -> list[dict[str, Any]]:
    with open_tables(layout, [query]).tables as tables:
        return tables.ask(query).table.to_pylist()
