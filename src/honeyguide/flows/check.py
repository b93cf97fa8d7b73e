"""`honeyguide check`: what a workspace or a file of events can and cannot support."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from honeyguide.engines.log.sqlite import SqliteLog
from honeyguide.engines.tables.duckdb import DuckDBTables
from honeyguide.engines.tables.snapshot import Snapshots
from honeyguide.errors import DataError, RequestError
from honeyguide.flows.create import load_line, nothing_accepted
from honeyguide.flows.data import read_log, typed
from honeyguide.flows.layout import Layout
from honeyguide.intake.events import from_log, impressions_from_log, load_events
from honeyguide.intake.evidence import Evidence, evidence
from honeyguide.intake.importers import assigned
from honeyguide.schema.tables import EVENTS, QUARANTINE

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["check"]


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
    return {"target": str(path), "loads": [load_line(load.report)], "evidence": _said(evidence(load.events))}


def _workspace(layout: Layout) -> dict[str, Any]:
    tables = Snapshots(layout.tables)
    events = typed(tables, EVENTS)
    loads = layout.root / "loads.json"
    return {
        "target": str(layout.root),
        "loads": msgspec.json.decode(loads.read_bytes()) if loads.exists() else [],
        "quarantined": tables.read(QUARANTINE.name).num_rows if tables.find(QUARANTINE.name) else 0,
        "evidence": _said(evidence(_with_log(layout, events), impressions(layout))),
    }


def _with_log(layout: Layout, events: pa.Table) -> pa.Table:
    import pyarrow as pa

    payloads = _payloads(layout.log, "event")
    return pa.concat_tables([events, from_log(payloads)]) if payloads else events


def impressions(layout: Layout) -> pa.Table | None:
    """What serving has shown so far, None before the first impression."""
    payloads = _payloads(layout.impressions, "impression")
    return impressions_from_log(payloads) if payloads else None


def _payloads(path: Path, kind: str) -> list[bytes]:
    if not path.exists():
        return []
    log = SqliteLog(path)
    try:
        return read_log(log, log.head()).get(kind, [])
    finally:
        log.close()


def _said(found: Evidence) -> dict[str, Any]:
    return {"level": found.level, "facts": list(found.facts), "numbers": dict(found.numbers)}
