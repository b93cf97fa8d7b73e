"""The reports of a workspace, for those that show them; light enough for the serving process."""

from __future__ import annotations

import datetime as dt
import html
import json
import re
from pathlib import Path
from typing import Any

from honeyguide.errors import NotFoundError
from honeyguide.flows.layout import Layout

__all__ = ["ANALYSIS", "file_of", "listing", "read"]

ANALYSIS = "analysis"
"""The report that every build writes anew."""
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_TITLE = re.compile(r"<title>(.*?)</title>", re.DOTALL)
_HEAD_BYTES = 4_096


def file_of(layout: Layout, name: str) -> Path:
    """Where a report lies. NotFoundError for what can be no report's name."""
    if not _NAME.fullmatch(name):
        raise NotFoundError(
            expected="a report's name (a-z, 0-9, _ and -)",
            got=repr(name)[:80],
            do="Ask /v1/reports for those there are.",
        )
    return layout.reports / f"{name}.html"


def listing(layout: Layout) -> list[dict[str, Any]]:
    """`name`, `title`, `made_at`, `bytes` of each report; `queries` and `failed` of those made of queries."""
    found = []
    for path in sorted(layout.reports.glob("*.html")):
        if _NAME.fullmatch(path.stem):
            found.append(_about(path))
    return sorted(found, key=lambda one: (one["name"] != ANALYSIS, one["name"]))


def read(layout: Layout, name: str) -> dict[str, Any]:
    """A report with its page (`html`). NotFoundError if there is none of that name."""
    path = file_of(layout, name)
    if not path.is_file():
        known = ", ".join(one["name"] for one in listing(layout)) or "none yet"
        raise NotFoundError(
            expected=f"a report ({known})", got=repr(name), do="Write one with `honeyguide report DIR`."
        )
    return {**_about(path), "html": path.read_text(encoding="utf-8")}


def _about(path: Path) -> dict[str, Any]:
    with path.open(encoding="utf-8", errors="replace") as page:
        title = _TITLE.search(page.read(_HEAD_BYTES))
    stat = path.stat()
    made = dt.datetime.fromtimestamp(stat.st_mtime, dt.UTC).isoformat(timespec="seconds")
    facts = path.with_suffix(".json")
    told: dict[str, Any] = {}
    if facts.is_file():
        told = {
            k: v for k, v in json.loads(facts.read_text()).items() if k in ("made_at", "queries", "failed", "build_id")
        }
    return {
        "name": path.stem,
        "title": html.unescape(title[1]).strip() if title else path.stem,
        "made_at": made,
        "bytes": stat.st_size,
        **told,
    }
