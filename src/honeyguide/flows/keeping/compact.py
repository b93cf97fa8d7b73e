"""From the logs into the tables: exactly once, whenever it is killed; and out of the tables when their time has come.

What a version of a table holds of a log is written in the version's own manifest (`Snapshot.logs`), put in force with
the rows by one rename. So a compaction that dies before that has done nothing, and one that dies after it, before the
log was trimmed, is taken up by the next: it finds the offset, adds nothing, and trims.

The log is trimmed up to where the compaction before this one had come: what was moved just now stays there until the
next, so that a server that follows the log is never overtaken.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import numpy as np

from honeyguide.contracts import EventLog, LogRecord, Progress
from honeyguide.engines.log.sqlite import SqliteLog
from honeyguide.engines.tables.parts import Part, file_rows, span
from honeyguide.engines.tables.snapshot import Snapshots
from honeyguide.engines.tasks.steps import disk_errors
from honeyguide.flows.config import WorkspaceConfig
from honeyguide.flows.data import typed
from honeyguide.flows.layout import Layout
from honeyguide.flows.rights import put_resets
from honeyguide.intake.catalog import put_items
from honeyguide.intake.events import from_log, impressions_from_log
from honeyguide.schema import columns as c
from honeyguide.schema.tables import EVENTS, IMPRESSIONS, ITEMS, QUARANTINE, Table
from honeyguide.serving.record import EVENT, IMPRESSION, ITEM, RESET, decode_reset

__all__ = ["compact", "open_log", "retain"]

_PAGE = 50_000
_DAY_US = 86_400_000_000


def open_log(path: Path, config: WorkspaceConfig) -> SqliteLog:
    """A log of the workspace, whose keys are kept as `[retention]` says."""
    kept = config.retention
    return SqliteLog(path, keep_keys=kept.keys, keep_keys_s=kept.keys_days * 86_400)


def compact(
    folder: Path | str | Layout, *, log: EventLog | None = None, impressions: EventLog | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Move what came since into the tables, trim the logs, apply `[retention]`; returns the report of the command.

    log, impressions: the open logs of a process that has them.
    """
    tell: Progress = progress or (lambda what, done, total: None)
    layout = folder if isinstance(folder, Layout) else Layout.open(folder)
    config = WorkspaceConfig.load(layout.config)
    tables = Snapshots(layout.tables)
    moved = {EVENTS.name: 0, ITEMS.name: 0, IMPRESSIONS.name: 0}
    with ExitStack() as opened, disk_errors(layout.root), layout.compacting():
        if log is None and layout.log.exists():
            log = opened.enter_context(closing(open_log(layout.log, config)))
        if impressions is None and layout.impressions.exists():
            impressions = opened.enter_context(closing(open_log(layout.impressions, config)))
        tell("compacting", 0, 1)
        if log is not None:
            moved |= _move_events(tables, log)
        if impressions is not None:
            moved |= _move_impressions(tables, impressions)
        dropped = retain(layout, tables, config)
        for name in tables.names():
            tables.collect(name, pinned=layout.pinned(name))
        tell("compacting", 1, 1)
    return {
        "workspace": str(layout.root),
        "moved": moved,
        "dropped": dropped,
        "tables": {
            name: {"rows": now.rows, "files": len(now.parts), "version": now.id}
            for name in tables.names()
            for now in (tables.current(name),)
        },
    }


def _move_events(tables: Snapshots, log: EventLog) -> dict[str, int]:
    """Events and changes of items; each table knows how far it is."""
    head = log.head()
    done = {name: tables.offset(name, log.id) for name in (EVENTS.name, ITEMS.name)}
    items: list[bytes] = []
    resets: list[dict[str, Any]] = []
    if min(done.values()) < head:
        with tables.appender(EVENTS.name, logs={log.id: head}) as events:
            for page in _pages(log, min(done.values()), head):
                fresh = [record.payload for at, record in page if record.kind == EVENT and at > done[EVENTS.name]]
                if fresh:
                    events.add(from_log(fresh))
                items += [record.payload for at, record in page if record.kind == ITEM and at > done[ITEMS.name]]
                resets += [decode_reset(record.payload) for _, record in page if record.kind == RESET]
            if resets:
                # Before the events are in force: killed in between, they are added again, and each counts once.
                put_resets(tables, resets)
        if tables.find(ITEMS.name) is not None or items:
            with tables.appender(ITEMS.name, replace=True, logs={log.id: head}) as catalog:
                catalog.add(put_items(typed(tables, ITEMS), items) if items else typed(tables, ITEMS))
        moved = {EVENTS.name: events.rows, ITEMS.name: len(items)}
    else:
        moved = {EVENTS.name: 0, ITEMS.name: 0}
    log.trim(min(done.values()))
    return moved


def _move_impressions(tables: Snapshots, log: EventLog) -> dict[str, int]:
    head, done = log.head(), tables.offset(IMPRESSIONS.name, log.id)
    moved = 0
    if done < head:
        with tables.appender(IMPRESSIONS.name, logs={log.id: head}) as shown:
            for page in _pages(log, done, head):
                fresh = [record.payload for _, record in page if record.kind == IMPRESSION]
                if fresh:
                    shown.add(impressions_from_log(fresh))
        moved = shown.rows
    log.trim(done)
    return {IMPRESSIONS.name: moved}


def _pages(log: EventLog, after: int, until: int) -> Iterator[list[tuple[int, LogRecord]]]:
    while after < until:
        page = [(at, record) for at, record in log.read(after, _PAGE) if at <= until]
        if not page:
            return
        yield page
        after = page[-1][0]


def retain(layout: Layout, tables: Snapshots, config: WorkspaceConfig) -> dict[str, int]:
    """Drop the days that `[retention]` lets go; returns how many rows went from each table."""
    now_us = time.time_ns() // 1000 - int(config.clock.offset_s * 1e6)
    gone: dict[str, int] = {}
    for table, days, at_us in (
        (EVENTS, config.retention.events_days, now_us),
        (IMPRESSIONS, config.retention.impressions_days, now_us),
        (QUARANTINE, config.retention.quarantine_days, time.time_ns() // 1000),
    ):
        if days > 0 and tables.find(table.name) is not None:
            before = (at_us - int(days * _DAY_US)) // _DAY_US * _DAY_US
            rows = _drop(tables, table, before)
            if rows:
                gone[table.name] = rows
    return gone


def _drop(tables: Snapshots, table: Table, before_us: int) -> int:
    """Drop what is older than a moment (the start of a UTC day): whole parts, and the older rows of those astride."""
    column = table.day or c.LOADED_AT

    def newer(part: Part) -> Any:
        for rows in file_rows([part.path]):
            at = rows[column].cast("int64").to_numpy()
            yield rows.filter(np.asarray(at) >= before_us)

    with tables.rewriting(table.name) as rewriting:
        for part in rewriting.had:
            first, end = span(part.day) if part.day else (0, before_us + 1)
            if first >= before_us:
                rewriting.keep(part)
            elif end > before_us:
                rewriting.put(part, newer(part))
    return rewriting.gone
