"""A saved query: a `.sql` file whose first comment lines say what it asks and how to draw the answer.

```sql
-- title: Clicks by surface
-- chart: line x=day y=clicks color=surface
-- note: Only showings that the serving log tells of.
SELECT day, surface, sum(acted) AS clicks FROM slate_days GROUP BY ALL ORDER BY day
```
"""

from __future__ import annotations

import difflib
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

from honeyguide.errors import DataError, RequestError

__all__ = ["CHARTS", "ChartSpec", "SavedQuery", "read_folder", "read_query"]

_KEYS = ("title", "chart", "note", "interval")
_HEAD = re.compile(r"--\s*([A-Za-z_]+)\s*:\s*(.*)")
_MAX_BYTES = 1_000_000
CHARTS: dict[str, tuple[frozenset[str], frozenset[str]]] = {
    "line": (frozenset({"x", "y"}), frozenset({"color", "format"})),
    "area": (frozenset({"x", "y"}), frozenset({"color", "format"})),
    "bar": (frozenset({"x", "y"}), frozenset({"color", "format", "stack"})),
    "heatmap": (frozenset({"x", "y", "color"}), frozenset({"format"})),
    "histogram": (frozenset({"x"}), frozenset({"bins"})),
    "number": (frozenset(), frozenset({"y", "format"})),
    "table": (frozenset(), frozenset({"rows"})),
}
"""Kinds of charts, each with the settings that it needs and those that it may have."""
_SAME = {"scalar": "number", "numbers": "number", "column": "bar", "bars": "bar", "lines": "line"}
_FORMATS = ("number", "percent")


@dataclass(frozen=True, slots=True)
class ChartSpec:
    """How an answer is drawn: a kind and the columns it takes."""

    kind: str = "table"
    x: str = ""
    y: tuple[str, ...] = ()
    color: str = ""
    percent: bool = False
    stack: bool = False
    bins: int = 30
    rows: int = 20
    interval: tuple[str, str] | None = None  # columns of the lower and the upper end


@dataclass(frozen=True, slots=True)
class SavedQuery:
    """A file of the folder. `problem` is what is wrong with its head, "" if nothing; then it is not run."""

    name: str
    title: str
    sql: str
    chart: ChartSpec = field(default_factory=ChartSpec)
    notes: tuple[str, ...] = ()
    problem: str = ""
    own: bool = False  # the workspace's, not one that comes with the package


def read_folder(folder: Path, *, own: bool = False) -> list[SavedQuery]:
    """The `.sql` files of a folder by name; [] if there is no such folder. Hidden files are none."""
    if not folder.is_dir():
        return []
    return [read_query(path, own=own) for path in sorted(folder.glob("*.sql")) if not path.name.startswith(".")]


def read_query(path: Path, *, own: bool = False) -> SavedQuery:
    """A file. What cannot be understood is said in `problem`, for the page to show in its place."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise DataError(
                expected=f"a query of at most {_MAX_BYTES // 1_000_000} MB", got=f"{path.stat().st_size:,} bytes",
                do="Save a shorter one.",
            )  # fmt: skip
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        return _broken(path.stem, "", f"The file cannot be read: {error}", own)
    except DataError as error:
        return _broken(path.stem, "", str(error), own)
    try:
        return _parsed(path.stem, text, own)
    except RequestError as error:
        return _broken(path.stem, text, str(error), own)


def _broken(name: str, sql: str, problem: str, own: bool) -> SavedQuery:
    return SavedQuery(name, _spoken(name), sql, problem=problem, own=own)


def _spoken(name: str) -> str:
    """A title for a file that gives none: `04_weekly-sales` is "weekly sales"."""
    return re.sub(r"^\d+[_\-. ]*", "", name).replace("_", " ").replace("-", " ").strip() or name


def _parsed(name: str, text: str, own: bool) -> SavedQuery:
    found: dict[str, list[str]] = {key: [] for key in _KEYS}
    for line in text.splitlines():
        line = line.strip()
        if line and not line.startswith("--"):
            break
        told = _HEAD.fullmatch(line)
        if told is None:
            continue
        key, value = told[1].lower(), told[2].strip()
        if key in found:
            found[key].append(value)
        elif close := difflib.get_close_matches(key, _KEYS, n=1, cutoff=0.7):
            raise RequestError(
                expected=f"`-- {close[0]}: ...`", got=f"`-- {key}: ...`", do="Mend the word, or take the colon away."
            )
    for key in ("title", "chart", "interval"):
        if len(found[key]) > 1:
            raise RequestError(expected=f"one `-- {key}:` line", got=str(len(found[key])), do="Keep one.")
    interval = tuple(_columns(found["interval"][0])) if found["interval"] else None
    if interval is not None and len(interval) != 2:
        raise RequestError(
            expected="two columns, as in `-- interval: low,high`", got=f"{found['interval'][0]!r:.80}", do="Name both."
        )
    chart = _chart(found["chart"][0] if found["chart"] else "table", interval)
    title = (found["title"] or [""])[0] or _spoken(name)
    return SavedQuery(name, title, text, chart, tuple(note for note in found["note"] if note), own=own)


def _chart(line: str, interval: tuple[str, ...] | None) -> ChartSpec:
    """`line x=day y=events,clicks color=surface`; a name with a space stands in quotes: `x="first day"`."""
    try:
        kind, *words = shlex.split(line) or [""]
    except ValueError as error:
        raise RequestError(expected="a chart line whose quotes are closed", got=line[:80], do="Close them.") from error
    kind = _SAME.get(kind.lower(), kind.lower())
    if kind not in CHARTS:
        raise RequestError(
            expected=f"a chart of {', '.join(CHARTS)}", got=f"{kind!r:.80}",
            do="Begin the line with one, as in `-- chart: line x=day y=events`.",
        )  # fmt: skip
    needed, allowed = CHARTS[kind]
    given: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        key = "color" if key == "colour" else "y" if key == "value" and kind == "number" else key
        if not equals or not value or key not in needed | allowed or key in given:
            raise RequestError(
                expected=f"{kind} with {', '.join(f'{name}=...' for name in sorted(needed | allowed))}, each once",
                got=f"{word!r:.80}", do="Mend the chart line.",
            )  # fmt: skip
        given[key] = value
    missing = sorted(needed - given.keys())
    if missing:
        raise RequestError(
            expected=f"{kind} with {' and '.join(f'{name}=COLUMN' for name in sorted(needed))}",
            got=f"no {', '.join(missing)}", do="Name the column.",
        )  # fmt: skip
    if given.get("format", "number") not in _FORMATS:
        raise RequestError(
            expected=f"format={' or '.join(_FORMATS)}", got=f"{given['format']!r:.40}", do="Name one of them."
        )
    if given.get("stack", "no") not in ("yes", "no"):
        raise RequestError(expected="stack=yes or stack=no", got=f"{given['stack']!r:.40}", do="Name one of them.")
    y = tuple(_columns(given.get("y", "")))
    if kind == "heatmap" and len(y) != 1:
        raise RequestError(expected="a heatmap with one y", got=str(len(y)), do="Put the amounts in color=COLUMN.")
    if given.get("color") and kind != "heatmap" and len(y) != 1:
        raise RequestError(
            expected="either several y or one y with a color", got=f"{len(y)} y and a color", do="Leave one out."
        )
    if interval is not None and (kind not in ("line", "area", "bar", "number") or len(y) != 1):
        raise RequestError(
            expected="an interval with a line, area, bar or number of one y", got=f"{kind} of {len(y)} y",
            do="Leave the interval out, or draw one y.",
        )  # fmt: skip
    return ChartSpec(
        kind=kind, x=given.get("x", ""), y=y, color=given.get("color", ""),
        percent=given.get("format") == "percent", stack=given.get("stack") == "yes",
        bins=_whole(given.get("bins", "30"), "bins", 200), rows=_whole(given.get("rows", "20"), "rows", 1000),
        interval=(interval[0], interval[1]) if interval is not None else None,
    )  # fmt: skip


def _columns(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _whole(text: str, name: str, most: int) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= most):
        raise RequestError(expected=f"{name} from 1 to {most}", got=f"{text!r:.40}", do="Give another number.")
    return int(text)
