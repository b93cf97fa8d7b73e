"""A workspace's tables and views, to be asked: what `honeyguide sql` and the report read."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from honeyguide.engines.log.sqlite import SqliteLog
from honeyguide.engines.tables.duckdb import Confined
from honeyguide.engines.tables.snapshot import Snapshots
from honeyguide.errors import BuildError, TrimmedError
from honeyguide.flows import analysis
from honeyguide.flows.analysis.view import ALL_ITEMS, RAW_EVENTS
from honeyguide.flows.config import WorkspaceConfig
from honeyguide.flows.data import typed
from honeyguide.flows.layout import Layout
from honeyguide.flows.reports.evaluation import newest
from honeyguide.intake.catalog import put_items
from honeyguide.intake.events import from_log, impressions_from_log
from honeyguide.schema import columns as c
from honeyguide.schema.tables import EVENTS, FEATURE_VALUES, IMPRESSIONS, ITEMS, JUDGED, USERS, Table
from honeyguide.serving.record import EVENT, IMPRESSION, ITEM

if TYPE_CHECKING:
    from honeyguide.contracts import EventLog

__all__ = ["Opened", "Source", "open_tables"]

_PAGE = 50_000


@dataclass(frozen=True, slots=True)
class Source:
    """Where rows came from: a table's version, or a log."""

    name: str
    version: str  # the snapshot's id, or `log`
    rows: int


@dataclass(frozen=True, slots=True)
class Opened:
    """Tables and views ready to be asked, and what they were made of."""

    tables: Confined
    sources: tuple[Source, ...]
    reads: dict[str, list[str]]  # view -> the views that it reads, each before who reads it, itself last
    kept: set[str] = field(default_factory=set)  # views that were computed for good

    def views_of(self, query: str) -> list[str]:
        """The views that a query reads, by itself or through others, each before who reads it."""
        return list(dict.fromkeys(name for word in _words(query) for name in self.reads.get(word, ())))


_TYPES = {
    pa.string(): "VARCHAR", pa.int32(): "INTEGER", pa.float64(): "DOUBLE", pa.bool_(): "BOOLEAN",
    pa.list_(pa.string()): "VARCHAR[]", pa.timestamp("us", tz="UTC"): "TIMESTAMPTZ",
}  # fmt: skip


def open_tables(layout: Layout, queries: Iterable[str]) -> Opened:
    """What these queries may name: all tables, and those views that they mention (the others cost nothing).

    Rows that the log has brought since the tables were written are in `impressions` and in every view; the tables
    `events` and `items` are the newest snapshots. Raises what `Confined` raises.
    """
    words = {word for query in queries for word in _words(query)}
    while True:
        # A compaction between reading the tables' offsets and the log moves rows from one to the other.
        with suppress(TrimmedError):
            return _opened(layout, words)


def _opened(layout: Layout, words: Set[str]) -> Opened:
    snapshots = Snapshots(layout.tables)
    files: dict[str, Path | Sequence[Path]] = {name: snapshots.paths(name) for name in snapshots.names()}
    files |= _feature_values(layout)
    weights = WorkspaceConfig.load(layout.config).actions
    views = analysis.statements([name for name in analysis.VIEWS if name in words], weights)
    made = {
        JUDGED.name: pa.Table.from_pylist(newest(layout).get("rows", []), schema=JUDGED.arrow()),
        USERS.name: USERS.arrow().empty_table(),
    }
    made = {name: table for name, table in made.items() if name not in files}
    names = sorted({*files, *made, IMPRESSIONS.name})
    sources = [Source(name, snapshots.current(name).id, snapshots.current(name).rows) for name in snapshots.names()]
    base: dict[str, str] = {}

    def both(name: str, table: Table, kept: str, since: pa.Table) -> None:
        """One relation of a table's rows and of those that the log has brought since."""
        sources.append(Source(table.name, "log", since.num_rows))
        made[f"_{name}_since"] = since
        parts = [f'SELECT * FROM "{part}"' for part in (kept, f"_{name}_since") if part in files or part in made]
        # Columns that an older file lacks are null.
        base[name] = " UNION ALL BY NAME ".join(parts)

    if views or IMPRESSIONS.name in words:
        shown = _logged(layout.impressions, snapshots, {IMPRESSION: IMPRESSIONS.name})[IMPRESSION]
        if IMPRESSIONS.name in files:
            files["_impressions_kept"] = files.pop(IMPRESSIONS.name)
        since = impressions_from_log(shown) if shown else IMPRESSIONS.arrow().empty_table()
        both(IMPRESSIONS.name, IMPRESSIONS, "_impressions_kept", since)
    elif IMPRESSIONS.name not in files:
        made[IMPRESSIONS.name] = IMPRESSIONS.arrow().empty_table()  # not asked for, but SHOW TABLES names it
    if views:
        logged = _logged(layout.log, snapshots, {EVENT: EVENTS.name, ITEM: ITEMS.name})
        events = from_log(logged[EVENT]) if logged[EVENT] else EVENTS.arrow().empty_table()
        both(RAW_EVENTS, EVENTS, EVENTS.name, events)
        if logged[ITEM]:
            # A changed item takes the place of its row.
            both(ALL_ITEMS, ITEMS, "", put_items(typed(snapshots, ITEMS), logged[ITEM]))
        else:
            both(ALL_ITEMS, ITEMS, ITEMS.name, ITEMS.arrow().empty_table())
        base[ALL_ITEMS] += " UNION ALL BY NAME " + _only_in(RAW_EVENTS, base[ALL_ITEMS])
    if ITEMS.name not in files and EVENTS.name in files:
        base[ITEMS.name] = _only_in(EVENTS.name, "")
    tables = Confined(
        files, made, {**base, **views}, names=names,
        hint="Correct the query; `honeyguide sql DIR --views` lists the views.",
    )  # fmt: skip
    return Opened(tables, tuple(source for source in sources if source.rows), _reads(views))


def _only_in(events: str, known: str) -> str:
    """Items that only events know: they are in no table (`flows.data.load`), and have no fact but their first event."""
    facts = {name: f"NULL::{_TYPES[ITEMS.arrow().field(name).type]}" for name in ITEMS.columns}
    facts |= {c.ITEM_ID: c.ITEM_ID, c.AVAILABLE: "true", c.KNOWN_AT: f"min({c.HAPPENED_AT})"}
    told = ", ".join(f"{value} AS {name}" for name, value in facts.items())
    strange = f" WHERE {c.ITEM_ID} NOT IN (SELECT {c.ITEM_ID} FROM ({known}))" if known else ""
    return f'SELECT {told} FROM "{events}"{strange} GROUP BY {c.ITEM_ID}'


def _words(query: str) -> list[str]:
    return re.findall(r"\w+", query.casefold())


def _reads(views: Mapping[str, str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, query in views.items():  # each after what it reads
        before = (other for word in dict.fromkeys(_words(query)) for other in found.get(word, ()))
        found[name] = [*dict.fromkeys(before), name]
    return found


def _feature_values(layout: Layout) -> dict[str, Path]:
    if not layout.current.exists():
        return {}
    path = layout.manifest(layout.current_build())
    try:
        # Read here: whoever asks a table need not load what a server does.
        folder = json.loads(path.read_text())["folders"].get(FEATURE_VALUES.name)
    except (ValueError, KeyError) as error:
        raise BuildError(
            expected=f"a build's manifest in {path}", got=str(error), do="Run `honeyguide build`, or roll back."
        ) from error
    return {} if folder is None else {FEATURE_VALUES.name: layout.root / folder / f"{FEATURE_VALUES.name}.parquet"}


def _logged(path: Path, snapshots: Snapshots, kinds: Mapping[str, str]) -> dict[str, list[bytes]]:
    """Payloads of a log by kind, without those that the kind's table holds already."""
    found: dict[str, list[bytes]] = {kind: [] for kind in kinds}
    if not path.exists():
        return found
    log: EventLog = SqliteLog(path)
    try:
        kept = {kind: _offset(snapshots, table, log) for kind, table in kinds.items()}
        after, head = min(kept.values()), log.head()
        while after < head:
            page = log.read(after, _PAGE)
            if not page:
                break
            for offset, record in page:
                if record.kind in kinds and kept[record.kind] < offset <= head:
                    found[record.kind].append(record.payload)
            after = page[-1][0]
        return found
    finally:
        log.close()


def _offset(snapshots: Snapshots, table: str, log: EventLog) -> int:
    current = snapshots.find(table)
    return 0 if current is None else current.logs.get(log.id, 0)
