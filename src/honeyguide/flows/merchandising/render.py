"""Merchandising rules in the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.markup import escape

from honeyguide.flows.render import emit_json, grid_of, out

__all__ = ["added", "checked", "listed", "removed"]


def listed(rows: Sequence[dict[str, Any]], *, as_json: bool) -> None:
    """All rules."""
    if as_json:
        return emit_json({"rules": list(rows)})
    if not rows:
        return _say("No rules. `honeyguide merch add --help` shows how to write one.")
    cells = [[row["id"], row["says"], row["state"], _dates(row), row.get("note", "")] for row in rows]
    return _rows("Merchandising rules", ["rule", "what it does", "state", "when", "note"], cells)


def added(report: dict[str, Any], *, as_json: bool) -> None:
    """A rule just written, and what there is to say against it."""
    if as_json:
        return emit_json(report)
    rule = report["rule"]
    _say(f"{rule['id']}: {rule['says']} ({rule['state']})")
    return _found(report["found"])


def removed(report: dict[str, Any], *, as_json: bool) -> None:
    """A rule just taken away."""
    if as_json:
        return emit_json(report)
    return _say(f"Removed {report['removed']['id']}: {report['removed']['says']}")


def checked(report: dict[str, Any], *, as_json: bool) -> None:
    """Everything there is to say against the rules."""
    if as_json:
        return emit_json(report)
    if not report["found"]:
        return _say(f"{report['rules']} rules, nothing to say against them.")
    return _found(report["found"])


def _found(found: Sequence[dict[str, Any]]) -> None:
    if found:
        cells = [[row["rule"], row["other"] or "-", row["what"], row["then"]] for row in found]
        _rows("To be looked at", ["rule", "and", "what", "then"], cells)


def _say(line: str) -> None:
    out.print(escape(line))


def _rows(title: str, columns: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    out.print(grid_of(title, columns, cells))


def _dates(row: dict[str, Any]) -> str:
    starts, ends = row.get("starts"), row.get("ends")
    return (
        " ".join(part for part in (f"from {starts}" if starts else "", f"until {ends}" if ends else "") if part)
        or "always"
    )
