"""The newest evaluation of a workspace, for those that show it; light enough for the serving process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from honeyguide.flows.layout import Layout

__all__ = ["newest", "path"]


def path(layout: Layout) -> Path:
    """Where the report lies."""
    return layout.reports / "evaluation.json"


def newest(layout: Layout) -> dict[str, Any]:
    """The report, {} if there is none."""
    file = path(layout)
    return json.loads(file.read_text()) if file.exists() else {}
