"""`honeyguide check`: what a workspace or a file of events can and cannot support."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from honeyguide.engines.tables.choice import tables_engine
from honeyguide.engines.tables.duckdb import DuckDBTables
from honeyguide.engines.tables.snapshot import Snapshots
from honeyguide.errors import DataError, RequestError
from honeyguide.flows.config import WorkspaceConfig
from honeyguide.flows.create import load_line, nothing_accepted
from honeyguide.flows.data import held, held_expression
from honeyguide.flows.layout import Layout
from honeyguide.intake.events import load_events
from honeyguide.intake.evidence import Evidence, evidence
from honeyguide.intake.importers import assigned
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
    if not target.is_dir():
        return _file(target, mapping)
    if mapping:
        raise RequestError(
            expected="a mapping with a file only", got=f"the workspace {target}", do="Give it to `honeyguide init`."
        )
    return _workspace(Layout.open(target))


def _file(path: Path, mapping: Mapping[str, str] | None) -> dict[str, Any]:
    (given,) = assigned([(path, EVENTS)], mapping)
    with DuckDBTables() as engine:
        load = load_events(engine, path, mapping=given, now=time.time_ns() // 1000)
        if not load.events.num_rows:
            raise nothing_accepted(load)
        found = evidence(engine, engine.table(load.events))
    return {"target": str(path), "loads": [load_line(load.report)], "evidence": said(found)}


def _workspace(layout: Layout) -> dict[str, Any]:
    tables = Snapshots(layout.tables)
    loads = layout.root / "loads.json"
    with closing(tables_engine(WorkspaceConfig.load(layout.config).engine)) as engine:
        events = held_expression(engine, layout, EVENTS)
        if events is None:
            events = engine.table(EVENTS.arrow().empty_table())
        found = evidence(engine, events, held_expression(engine, layout, IMPRESSIONS))
    return {
        "target": str(layout.root),
        "loads": msgspec.json.decode(loads.read_bytes()) if loads.exists() else [],
        "quarantined": tables.current(QUARANTINE.name).rows if tables.find(QUARANTINE.name) else 0,
        "evidence": said(found),
    }


def impressions(layout: Layout) -> pa.Table | None:
    """What serving has shown so far, None before the first impression."""
    shown = held(layout, IMPRESSIONS)
    return shown if shown.num_rows else None


def said(found: Evidence) -> dict[str, Any]:
    """Evidence as a report holds it."""
    return {"level": found.level, "facts": list(found.facts), "numbers": dict(found.numbers)}
