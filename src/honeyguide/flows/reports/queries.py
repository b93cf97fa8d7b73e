"""`honeyguide report`: a folder of saved queries becomes one page, refreshed with every build.

A query that fails is shown on the page with its error, and fails nothing else.
"""

from __future__ import annotations

import datetime as dt
import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from jinja2 import Template
from markupsafe import Markup

from honeyguide.contracts import Progress
from honeyguide.engines.tasks.steps import atomic_write, disk_errors
from honeyguide.errors import DataError, HoneyguideError, ResourceError
from honeyguide.flows.config import WorkspaceConfig
from honeyguide.flows.layout import Layout
from honeyguide.flows.pages import environment
from honeyguide.flows.reports.config import ReportConfig
from honeyguide.flows.reports.plot_table import table_of
from honeyguide.flows.reports.plots import draw
from honeyguide.flows.reports.saved_query import SavedQuery, read_folder
from honeyguide.flows.reports.saved_reports import ANALYSIS, file_of

if TYPE_CHECKING:
    import pyarrow as pa

    from honeyguide.engines.tables.duckdb import Asked
    from honeyguide.flows.analysis.workspace import Opened, Source

__all__ = ["query_report", "refresh"]

SHIPPED = Path(__file__).parents[1] / "analysis" / "queries"
"""Queries that come with the package, beside those of the workspace."""
_NOTHING = Markup("")
_NARROW = 3  # columns of a table that half a page holds
_FOLD_ROWS = 100
"""Rows of an answer that the page keeps in a fold below its chart."""


@dataclass(frozen=True, slots=True)
class _Section:
    """A query on the page."""

    query: SavedQuery
    state: Literal["drawn", "empty", "failed"]
    chart: Markup = _NOTHING
    data: Markup = _NOTHING
    notes: tuple[str, ...] = ()
    error: str = ""
    rows: int = 0
    more: bool = False  # the answer has more rows than were fetched
    seconds: float = 0.0
    columns: int = 0

    @property
    def wide(self) -> bool:
        """Whether it needs the page's width."""
        return (
            self.state == "failed"
            or self.query.chart.kind == "heatmap"
            or (self.query.chart.kind == "table" and self.columns > _NARROW)
        )


def query_report(
    folder: Path | str, *, queries: Path | None = None, out: Path | None = None, progress: Progress | None = None
) -> dict[str, Any]:
    """Ask the queries and write the page; returns what `honeyguide report --json` prints.

    queries: a folder whose `.sql` files alone are asked; without it, those of `DIR/queries` and, beside them, those
    that come with the package (a file of the same name takes the place of one). out: where to write; default
    `DIR/reports/analysis.html`, or for a folder of its own `DIR/reports/<folder's name>.html`. Raises WorkspaceError,
    ConfigError, DataError for a folder without queries, ResourceError for a page that cannot be written.
    """
    layout = Layout.open(folder)
    config = WorkspaceConfig.load(layout.config)
    asked = _queries(layout, queries)
    name = ANALYSIS if queries is None else _slug(queries)
    path = Path(out) if out is not None else file_of(layout, name)
    started = time.perf_counter()
    sections, sources = _answers(layout, config.report, asked, progress or (lambda what, done, total: None))
    made_at = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    build_id = layout.current_build() if layout.current.exists() else ""
    page = _page().render(
        title=f"{config.name}: {'what the data says' if queries is None else _slug(queries).replace('-', ' ')}",
        sections=sections,
        own=[one for one in sections if one.query.own],
        shipped=[one for one in sections if not one.query.own],
        empty=[one for one in sections if one.state == "empty" and not one.query.own],
        sources=sources,
        build_id=build_id,
        made_at=made_at,
        config=config.report,
        seconds=time.perf_counter() - started,
        fold_rows=_FOLD_ROWS,
        failed=sum(one.state == "failed" for one in sections),
    )
    report = {
        "path": str(path),
        "made_at": made_at,
        "build_id": build_id,
        "queries": len(sections),
        "failed": sum(one.state == "failed" for one in sections),
        "empty": sum(one.state == "empty" for one in sections),
        "seconds": round(time.perf_counter() - started, 2),
        "sources": [msgspec.to_builtins(source) for source in sources],
        "sections": [
            {"name": one.query.name, "title": one.query.title, "own": one.query.own, "state": one.state,
             "rows": one.rows, "seconds": round(one.seconds, 3), "error": one.error}
            for one in sections
        ],
    }  # fmt: skip
    _write(path, page.encode())
    if out is None:
        _write(path.with_suffix(".json"), msgspec.json.format(msgspec.json.encode(report)))
    return report


def refresh(layout: Layout, progress: Progress) -> dict[str, Any]:
    """The report after a build, which it never fails; what went wrong is `error`."""
    try:
        if not WorkspaceConfig.load(layout.config).report.on_build:
            return {}
        made = query_report(layout.root, progress=progress)
    except HoneyguideError as error:
        return {"error": str(error)}
    return {key: made[key] for key in ("path", "queries", "failed", "seconds")}


def _queries(layout: Layout, folder: Path | None) -> list[SavedQuery]:
    if folder is None:
        own = read_folder(layout.root / "queries", own=True)
        names = {query.name for query in own}
        return own + [query for query in read_folder(SHIPPED) if query.name not in names]
    found = read_folder(Path(folder).expanduser(), own=True)
    if not found:
        raise DataError(
            expected=f"a folder with .sql files at {folder}",
            got="none in it" if Path(folder).is_dir() else "no such folder",
            do="Save a query there, such as `-- chart: line x=day y=events` over a SELECT.",
        )
    return found


def _slug(folder: Path) -> str:
    return re.sub(r"[^a-z0-9]+", "-", folder.expanduser().resolve().name.lower()).strip("-")[:64] or "report"


def _write(path: Path, content: bytes) -> None:
    try:
        with disk_errors(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
            atomic_write(path, content)
    except (IsADirectoryError, NotADirectoryError, FileExistsError) as error:
        raise ResourceError(
            expected=f"to write a file at {path}", got=os.strerror(error.errno or 0).lower(), do="Name another file."
        ) from error


def _answers(
    layout: Layout, config: ReportConfig, queries: Sequence[SavedQuery], progress: Progress
) -> tuple[list[_Section], tuple[Source, ...]]:
    from honeyguide.flows.analysis.workspace import open_tables

    opened = open_tables(layout, [query.sql for query in queries if not query.problem])
    end = time.monotonic() + config.total_s
    sections = []
    with opened.tables:
        for n, query in enumerate(queries):
            progress("report", n, len(queries))
            sections.append(_section(opened, config, query, end))
    progress("report", len(queries), len(queries))
    return sections, opened.sources


def _section(opened: Opened, config: ReportConfig, query: SavedQuery, end: float) -> _Section:
    if query.problem:
        return _Section(query, "failed", error=query.problem)
    if time.monotonic() >= end:
        return _Section(query, "failed", error=f"Not asked: the queries before it took all of {config.total_s:g} s.")
    started = time.perf_counter()
    try:
        answer = _asked(opened, config, query, min(time.monotonic() + config.query_s, end))
    except HoneyguideError as error:
        return _Section(query, "failed", error=str(error), seconds=time.perf_counter() - started)
    took = time.perf_counter() - started
    if not answer.table.num_rows:
        return _Section(query, "empty", seconds=took)
    chart, data, notes, problem = _NOTHING, _NOTHING, tuple[str, ...](), ""
    try:
        data = _fold(query, answer.table)
        drawn = draw(query.chart, answer.table, query.title)
        chart, notes = drawn.markup, drawn.notes
    except HoneyguideError as error:
        problem = str(error)
    except (ArithmeticError, ValueError) as error:
        # What the database knows and Python does not: a moment of the year 200,000, or infinity.
        problem = f"The answer holds a value that cannot be shown: {error}"
    state: Literal["drawn", "failed"] = "failed" if problem else "drawn"
    return _Section(
        query, state, chart, data, notes, problem, answer.table.num_rows, answer.more, took, answer.table.num_columns
    )


def _asked(opened: Opened, config: ReportConfig, query: SavedQuery, end: float) -> Asked:
    """The answer; what several queries read is computed once, in the time of the first that reads it."""
    from honeyguide.flows.analysis import VIEWS

    def left_s() -> float:
        return max(end - time.monotonic(), 0.01)

    for name in opened.views_of(query.sql):
        if name not in opened.kept and VIEWS[name].kept:
            opened.tables.keep(name, timeout_s=left_s())
            opened.kept.add(name)
    return opened.tables.ask(query.sql, rows=config.rows, timeout_s=left_s())


def _fold(query: SavedQuery, table: pa.Table) -> Markup:
    """The figures behind a chart; a table that shows them all already needs none."""
    if query.chart.kind == "table" and table.num_rows <= query.chart.rows:
        return _NOTHING
    return table_of(table, _FOLD_ROWS)


def _count(value: int) -> str:
    return f"{value:,}".replace(",", "\u202f")


@lru_cache(maxsize=1)
def _page() -> Template:
    return environment({"count": _count}).get_template("query_report.html")
