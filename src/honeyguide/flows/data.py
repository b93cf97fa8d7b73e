"""A workspace's tables as arrays: the newest snapshots, and what the log has brought since."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from honeyguide.contracts import I32, CatalogView, EventLog, Interactions, TablesEngine
from honeyguide.engines.log.sqlite import SqliteLog
from honeyguide.engines.tables.snapshot import Snapshot, Snapshots
from honeyguide.engines.tables.writer import aligned
from honeyguide.engines.tasks.steps import fingerprint
from honeyguide.errors import DataError
from honeyguide.features.definition import FeatureSet
from honeyguide.flows.config import WorkspaceConfig
from honeyguide.flows.layout import Layout
from honeyguide.flows.rights import Wishes, read_resets, selves, told_wishes
from honeyguide.flows.tables import PLACE, events_of, first_seen, in_schema, ordered
from honeyguide.intake.catalog import bare_items, catalog_view, put_items
from honeyguide.intake.events import from_log, impressions_from_log, interactions
from honeyguide.schema import columns as c
from honeyguide.schema.tables import EVENTS, IMPRESSIONS, ITEMS, RESETS, USERS, Table
from honeyguide.schema.vocabulary import Vocabulary

if TYPE_CHECKING:
    import ibis.expr.types as ir
    import pyarrow as pa

__all__ = ["Dataset", "Segments", "all_items", "held", "held_expression", "load", "read_log", "typed"]

_PAGE = 50_000
_NEEDED = (
    c.EVENT_ID, c.USER_ID, c.ITEM_ID, c.ACTION, c.VALUE, c.HAPPENED_AT, c.KNOWN_AT, c.CORRECTS,
)  # fmt: skip


@dataclass(frozen=True)
class Segments:
    """Groups of people by their facts; the same facts may come with a request's context."""

    by: tuple[str, ...]
    names: tuple[str, ...]
    of_user: I32  # (users,), -1 unknown

    def of(self, facts: Mapping[str, str]) -> int:
        """Segment of a context, -1 if a fact is missing or the group was never seen."""
        if not self.by or any(key not in facts for key in self.by):
            return -1
        name = " ".join(str(facts[key]) for key in self.by)
        return self.names.index(name) if name in self.names else -1


@dataclass(frozen=True)
class Dataset:
    """Everything a build sees, and the fingerprint that names exactly this data.

    `events` can be asked while the engine that read them is open.
    """

    events: ir.Table  # each once, with its place (`tables.PLACE`)
    shown: ir.Table | None  # Impressions, None if there are none
    interactions: Interactions
    catalog: CatalogView
    items: pa.Table
    users: Vocabulary
    segments: Segments
    snapshots: dict[str, str]  # table -> hash of its content; without Impressions
    shown_key: str  # hash of the content of Impressions, "" if there are none
    versions: dict[str, str]  # table -> id of its version
    logs: dict[str, int]  # log -> offset up to which it is in the data
    wishes: Wishes  # what people said of themselves
    folded: int  # records of the log that were folded in, and are in no version yet

    @property
    def fingerprint(self) -> str:
        """Changes when any row changes."""
        return fingerprint({"snapshots": self.snapshots, "log": self.logs if self.folded else {}})

    @property
    def catalog_key(self) -> str:
        """Changes when an item changes."""
        items = "\n".join(self.catalog.items.ids).encode()
        since = self.logs if self.folded else {}
        return fingerprint([self.snapshots.get(ITEMS.name), since, hashlib.blake2b(items, digest_size=16).hexdigest()])


def read_log(log: EventLog, after: int, until: int) -> dict[str, list[bytes]]:
    """Payloads by kind, in order, of the records after an offset, up to and including another."""
    found: dict[str, list[bytes]] = {"event": [], "item": [], "impression": []}
    while after < until:
        page = log.read(after, _PAGE)
        if not page:
            break
        for offset, record in page:
            if offset <= until:
                found.setdefault(record.kind, []).append(record.payload)
        after = page[-1][0]
    return found


def waiting(layout: Layout, tables: Snapshots, table: Table) -> list[bytes]:
    """What the log holds of Events, Items or Impressions and the table does not yet, in order."""
    path = layout.impressions if table is IMPRESSIONS else layout.log
    if not path.exists():
        return []
    with closing(SqliteLog(path)) as log:
        kind = {EVENTS.name: "event", ITEMS.name: "item", IMPRESSIONS.name: "impression"}[table.name]
        return read_log(log, tables.offset(table.name, log.id), log.head())[kind]


def all_items(layout: Layout) -> pa.Table:
    """Every item as it is now: the table's, those changed since, and those that only events know."""
    import pyarrow as pa
    import pyarrow.compute as pc

    tables = Snapshots(layout.tables)
    with layout.compacting(shared=True):
        items = put_items(typed(tables, ITEMS), waiting(layout, tables, ITEMS))
        since = from_log(waiting(layout, tables, EVENTS))
        strange = [ITEMS.arrow().empty_table()]
        parts = tables.scan(EVENTS.name, columns=(c.ITEM_ID, c.HAPPENED_AT)) if tables.find(EVENTS.name) else ()
        for rows in (*parts, since):
            strange.append(bare_items(rows, items[c.ITEM_ID]))
    found = pa.concat_tables(strange)
    first = found.group_by(c.ITEM_ID).aggregate([(c.KNOWN_AT, "min")]).sort_by(c.ITEM_ID)
    where = pc.index_in(first[c.ITEM_ID], value_set=found[c.ITEM_ID].combine_chunks())
    bare = found.take(where)
    at = bare.schema.get_field_index(c.KNOWN_AT)
    bare = bare.set_column(at, bare.schema.field(at), first[f"{c.KNOWN_AT}_min"])
    return pa.concat_tables([items, bare.cast(items.schema)])


def held(layout: Layout, table: Table, *, columns: Collection[str] | None = None) -> pa.Table:
    """All of Events or Impressions (or some columns): the table's rows, then those that wait in the log."""
    import pyarrow as pa

    tables, schema = Snapshots(layout.tables), table.arrow()
    if columns is not None:
        schema = pa.schema([field for field in schema if field.name in columns])
    with layout.compacting(shared=True):
        current, payloads = tables.find(table.name), waiting(layout, tables, table)
        there = [name for name in schema.names if current is not None and name in current.schema]
        rows = tables.read(table.name, current.id, columns=there) if current is not None else schema.empty_table()
    since = (impressions_from_log if table is IMPRESSIONS else from_log)(payloads)
    rows = aligned(rows, schema)
    return pa.concat_tables([rows, since.select(schema.names)]) if payloads else rows


def held_expression(engine: TablesEngine, layout: Layout, table: Table) -> ir.Table | None:
    """The same as an expression, each event once and with its place; None if there are no rows."""
    tables = Snapshots(layout.tables)
    with layout.compacting(shared=True):
        current, payloads = tables.find(table.name), waiting(layout, tables, table)
    if table is EVENTS:
        return events_expression(engine, current, payloads)
    parts = []
    if current is not None and current.rows:
        parts.append(in_schema(engine.parquet(current.paths, table.name), table))
    if payloads:
        parts.append(in_schema(engine.table(impressions_from_log(payloads), "log"), table))
    return parts[0].union(parts[1], distinct=False) if len(parts) == 2 else parts[0] if parts else None


def _segments(users: pa.Table, vocabulary: Vocabulary, by: Sequence[str]) -> Segments:
    of_user = np.full(len(vocabulary), -1, np.int32)
    names: dict[str, int] = {}
    if by:
        rows = vocabulary.rows(users[c.USER_ID].to_pylist())
        for row, text in zip(rows, users[c.ATTRIBUTES].to_pylist(), strict=True):
            facts = json.loads(text) if text else {}
            if all(facts.get(key) is not None for key in by):
                of_user[row] = names.setdefault(" ".join(str(facts[key]) for key in by), len(names))
    return Segments(tuple(by), tuple(names), of_user)


def typed(tables: Snapshots, table: Table) -> pa.Table:
    """The newest snapshot under the schema's own types (a file does not keep which columns may be null); or no rows."""
    schema = table.arrow()
    return aligned(tables.read(table.name), schema) if tables.find(table.name) else schema.empty_table()


def events_expression(engine: TablesEngine, current: Snapshot | None, payloads: Sequence[bytes]) -> ir.Table | None:
    """Events of a version and of the log since, each once, with their places; None if there are none."""
    import pyarrow as pa

    parts: list[ir.Table | None] = [None, None]
    if current is not None and current.rows:
        parts[0] = in_schema(engine.parquet(current.paths, EVENTS.name, numbered=PLACE), EVENTS)
    if payloads:
        rows = from_log(payloads)
        placed = rows.append_column(PLACE, pa.array(np.arange(rows.num_rows)))
        parts[1] = in_schema(engine.table(placed, "log"), EVENTS)
    return events_of(*parts) if any(part is not None for part in parts) else None


def load(layout: Layout, config: WorkspaceConfig, engine: TablesEngine, log: EventLog | None = None) -> Dataset:
    """The versions in force of Events, Items and Users; with a log, what waits there is folded in.

    A build compacts first and gives no log: then the versions are exactly what it sees.
    """
    import pyarrow as pa

    tables = Snapshots(layout.tables)
    since: dict[str, list[bytes]] = {"event": [], "item": []}
    with layout.compacting(shared=True):
        found = {
            name: tables.find(name) for name in (EVENTS.name, ITEMS.name, USERS.name, RESETS.name, IMPRESSIONS.name)
        }
        current = {name: version for name, version in found.items() if version is not None}
        logs = dict(current[EVENTS.name].logs) if EVENTS.name in current else {}
        if log is not None:
            done = {name: tables.offset(name, log.id) for name in (EVENTS.name, ITEMS.name)}
            logs[log.id] = head = log.head()
            for kind, name in (("event", EVENTS.name), ("item", ITEMS.name)):
                since[kind] = read_log(log, done[name], head)[kind]
        items, users = (typed(tables, table) for table in (ITEMS, USERS))
    if since["item"]:
        items = put_items(items, since["item"])
    log_of_events = events_expression(engine, current.get(EVENTS.name), since["event"])
    if log_of_events is None and not items.num_rows:
        raise DataError(
            expected=f"events or items in {layout.root}",
            got="none",
            do="Load some with `honeyguide load`, or post them to /v1/events.",
        )
    if log_of_events is None:
        nothing = EVENTS.arrow().empty_table().append_column(PLACE, pa.array([], pa.int64()))
        log_of_events = in_schema(engine.table(nothing, "no_events"), EVENTS)
    strange = engine.arrow(first_seen(log_of_events, c.ITEM_ID, engine.table(items.select([c.ITEM_ID]))))
    items = pa.concat_tables([items, bare_items(strange, items[c.ITEM_ID])])
    resets = read_resets(tables, current[RESETS.name].id) if RESETS.name in current else {}
    log_of_events = selves(engine, log_of_events, resets, "resets")
    newcomers = engine.arrow(first_seen(log_of_events, c.USER_ID, engine.table(users.select([c.USER_ID]))))
    people = Vocabulary([*users[c.USER_ID].to_pylist(), *newcomers[c.USER_ID].to_pylist()])
    catalog = catalog_view(items)
    shown = current.pop(IMPRESSIONS.name, None)
    lists = in_schema(engine.parquet(shown.paths, IMPRESSIONS.name), IMPRESSIONS) if shown and shown.rows else None
    context = FeatureSet.from_config(config.features).context_keys if config.features else ()
    context = tuple(dict.fromkeys([*context, *config.ranker.context]))
    columns = [*_NEEDED, c.SURFACE, c.QUERY, c.CONTEXT] if context else list(_NEEDED)
    rows = engine.arrow(ordered(log_of_events).select(*columns))
    return Dataset(
        events=log_of_events,
        shown=None if lists is None else selves(engine, lists, resets, "resets_of_lists"),
        interactions=interactions(rows, people, catalog.items, config.actions, context),
        catalog=catalog,
        items=items,
        users=people,
        segments=_segments(users, people, config.segments.by),
        snapshots={name: version.sha256 for name, version in current.items()},
        shown_key=shown.sha256 if shown and shown.rows else "",
        versions={name: version.id for name, version in found.items() if version is not None},
        logs=logs,
        wishes=told_wishes(engine, log_of_events, config.rights, resets),
        folded=sum(map(len, since.values())),
    )
