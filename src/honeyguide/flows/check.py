"""`honeyguide check`: what a workspace or a file of events can and cannot support."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import msgspec

from honeyguide.engines.tables.choice import tables_engine
from honeyguide.engines.tables.duckdb import DuckDBTables
from honeyguide.engines.tables.snapshot import Snapshots
from honeyguide.errors import DataError, RequestError
from honeyguide.flows.config import WorkspaceConfig
from honeyguide.flows.data import held, held_expression
from honeyguide.flows.layout import CONFIG, Layout
from honeyguide.flows.loading.load import Sources, bring, load_line
from honeyguide.flows.loading.records import records
from honeyguide.intake.evidence import Evidence, evidence
from honeyguide.schema.tables import EVENTS, IMPRESSIONS, QUARANTINE

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["check", "impressions", "said"]


def check(target: Path, *, mapping: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The report of `honeyguide check`; `mapping` (our column -> theirs) is for a file."""
    target = Path(target)
    if not target.exists():
        raise DataError(
            expected=f"a workspace or a file at {target}",
            got="nothing there",
            do="Check the path, or run `honeyguide init`.",
        )
    if not (target / CONFIG).is_file():
        return _file(target, mapping)
    if mapping:
        raise RequestError(
            expected="a mapping with a file only",
            got=f"the workspace {target}",
            do="Give it to `honeyguide init` or `load`.",
        )
    return _workspace(Layout.open(target))


def _file(path: Path, mapping: Mapping[str, str] | None) -> dict[str, Any]:
    """A file or an export, loaded into tables that last as long as this takes."""
    sources = Sources.of(path, mapping=mapping)
    with TemporaryDirectory(prefix="honeyguide-check-") as folder, DuckDBTables() as engine:
        layout = Layout.create(folder)
        brought = bring(
            layout, engine, sources, now=time.time_ns() // 1000, tell=lambda what, done, total: None, some=True
        )
        found = evidence(engine, engine.parquet(Snapshots(layout.tables).paths(EVENTS.name), EVENTS.name))
    return {
        "target": str(path),
        "loads": [load_line(report) for report in brought.reports],
        "evidence": said(found),
        "notes": brought.notes,
    }


def _workspace(layout: Layout) -> dict[str, Any]:
    tables = Snapshots(layout.tables)
    with closing(tables_engine(WorkspaceConfig.load(layout.config).engine)) as engine:
        events = held_expression(engine, layout, EVENTS)
        if events is None:
            events = engine.table(EVENTS.arrow().empty_table())
        found = evidence(engine, events, held_expression(engine, layout, IMPRESSIONS))
    return {
        "target": str(layout.root),
        "loads": _loads(layout),
        "quarantined": tables.current(QUARANTINE.name).rows if tables.find(QUARANTINE.name) else 0,
        "evidence": said(found),
    }


def _loads(layout: Layout) -> list[dict[str, Any]]:
    """Every load there was, oldest first."""
    old = layout.root / "loads.json"  # how earlier versions remembered their one load
    before = msgspec.json.decode(old.read_bytes()) if old.exists() else []
    return before + [
        {
            "load_id": one.load_id, "at": one.at, "table": one.table, "file": one.file, "rows_in": one.rows_in,
            "accepted": one.accepted, "quarantined": one.quarantined, "reasons": dict(one.reasons),
        }
        for one in records(layout)
    ]  # fmt: skip


def impressions(layout: Layout) -> pa.Table | None:
    """What serving has shown so far, None before the first impression."""
    shown = held(layout, IMPRESSIONS)
    return shown if shown.num_rows else None


def said(found: Evidence) -> dict[str, Any]:
    """Evidence as a report holds it."""
    return {"level": found.level, "facts": list(found.facts), "numbers": dict(found.numbers)}
