"""What the shadow saw, added up over all processes that ran it."""

from __future__ import annotations

from functools import reduce
from pathlib import Path
from typing import Any

import msgspec

from honeyguide.flows.layout import Layout
from honeyguide.flows.registry import given
from honeyguide.flows.shadow_tally import Tally

__all__ = ["folder_of", "shadow_report"]


def folder_of(layout: Layout, build_id: str) -> Path:
    """Where processes that run a shadow leave their sums."""
    return layout.models / "shadow" / build_id


def shadow_report(layout: Layout, build_id: str | None = None) -> dict[str, Any]:
    """The comparison of a shadow (default: the one there is, else the newest there was) with the build in service."""
    role = given(layout).get("shadow")
    if build_id is None:
        build_id = role.build if role is not None else _newest(layout)
    empty = {"shadow": build_id, "share": role.share if role is not None else 0.0, "beside": None}
    found = _tallies(folder_of(layout, build_id)) if build_id else []
    if not found:
        return {**empty, "scored": 0, "dropped": 0, "failed": 0, "surfaces": {}}
    # Against what is in service now, else against what it met last.
    current = layout.current.read_text().strip() if layout.current.exists() else ""
    beside = current if any(one.beside == current for one in found) else max(one.beside for one in found)
    total = reduce(Tally.plus, [one for one in found if one.beside == beside])
    surfaces = {name: one.told() for name, one in total.surfaces.items()}
    counts = {"scored": total.scored, "dropped": total.dropped, "failed": total.failed}
    return {**empty, "beside": beside, **counts, "surfaces": surfaces}


def _newest(layout: Layout) -> str | None:
    folders = sorted((layout.models / "shadow").glob("*/*.json"), key=lambda path: path.stat().st_mtime)
    return folders[-1].parent.name if folders else None


def _tallies(folder: Path) -> list[Tally]:
    return [msgspec.json.decode(path.read_bytes(), type=Tally) for path in sorted(folder.glob("*.json"))]
