"""A workspace's tables as arrays: the newest snapshots, and what the log has brought since."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from honeyguide.contracts import I32, CatalogView, EventLog, Interactions, TablesEngine
from honeyguide.engines.tables.snapshot import Snapshots
from honeyguide.engines.tasks.steps import fingerprint
from honeyguide.errors import DataError
from honeyguide.flows.config import WorkspaceConfig
from honeyguide.flows.layout import Layout
from honeyguide.flows.tables import PLACE, events_of, first_seen, in_schema, ordered
from honeyguide.intake.catalog import bare_items, catalog_view, put_items
from honeyguide.intake.events import from_log, interactions
from honeyguide.schema import columns as c
from honeyguide.schema.tables import EVENTS, ITEMS, USERS, Table
from honeyguide.schema.vocabulary import Vocabulary

if TYPE_CHECKING:
    import ibis.expr.types as ir
    import pyarrow as pa

__all__ = ["Dataset", "Segments", "events_expression", "load", "read_log", "typed"]

_PAGE = 50_000


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
    interactions: Interactions
    catalog: CatalogView
    items: pa.Table
    users: Vocabulary
    segments: Segments
    snapshots: dict[str, str]
    log_offset: int

    @property
    def fingerprint(self) -> str:
        """Changes when any row changes."""
        return fingerprint({"snapshots": self.snapshots, "log": self.log_offset})


def read_log(log: EventLog, until: int) -> dict[str, list[bytes]]:
    """Payloads by kind, in order, up to and including an offset."""
    found: dict[str, list[bytes]] = {"event": [], "item": []}
    after = 0
    while after < until:
        page = log.read(after, _PAGE)
        if not page:
            break
        for offset, record in page:
            if offset <= until:
                found.setdefault(record.kind, []).append(record.payload)
        after = page[-1][0]
    return found


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
    return tables.read(table.name).cast(schema) if tables.find(table.name) else schema.empty_table()


def events_expression(engine: TablesEngine, tables: Snapshots, payloads: Sequence[bytes]) -> ir.Table | None:
    """Events of the newest snapshot and of the log since, each once, with their places; None if there are none."""
    import pyarrow as pa

    parts: list[ir.Table | None] = [None, None]
    if tables.find(EVENTS.name) and tables.current(EVENTS.name).rows:
        files = tables.current(EVENTS.name).paths
        parts[0] = in_schema(engine.parquet(files, EVENTS.name, numbered=PLACE), EVENTS)
    if payloads:
        rows = from_log(payloads)
        placed = rows.append_column(PLACE, pa.array(np.arange(rows.num_rows)))
        parts[1] = in_schema(engine.table(placed, "log"), EVENTS)
    return events_of(*parts) if any(part is not None for part in parts) else None


def load(layout: Layout, config: WorkspaceConfig, engine: TablesEngine, log: EventLog | None = None) -> Dataset:
    """The newest snapshots of Events, Items and Users with the log's events and item changes folded in."""
    import pyarrow as pa

    tables = Snapshots(layout.tables)
    items, users = (typed(tables, table) for table in (ITEMS, USERS))
    snapshots = {
        name: tables.current(name).sha256 for name in (EVENTS.name, ITEMS.name, USERS.name) if tables.find(name)
    }
    offset = log.head() if log is not None else 0
    since = read_log(log, offset) if log is not None else {"event": [], "item": []}
    if since["item"]:
        items = put_items(items, since["item"])
    log_of_events = events_expression(engine, tables, since["event"])
    if log_of_events is None:
        raise DataError(
            expected=f"events in {layout.root}",
            got="none",
            do="Load some with `honeyguide init`, or post them to /v1/events.",
        )
    strange = engine.arrow(first_seen(log_of_events, c.ITEM_ID, engine.table(items.select([c.ITEM_ID]))))
    items = pa.concat_tables([items, bare_items(strange, items[c.ITEM_ID])])
    newcomers = engine.arrow(first_seen(log_of_events, c.USER_ID, engine.table(users.select([c.USER_ID]))))
    people = Vocabulary([*users[c.USER_ID].to_pylist(), *newcomers[c.USER_ID].to_pylist()])
    catalog = catalog_view(items)
    return Dataset(
        events=log_of_events,
        interactions=interactions(engine.arrow(ordered(log_of_events)), people, catalog.items, config.actions),
        catalog=catalog,
        items=items,
        users=people,
        segments=_segments(users, people, config.segments.by),
        snapshots=snapshots,
        log_offset=offset,
    )
