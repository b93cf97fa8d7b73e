"""`honeyguide init`: files to a workspace: tables through the gate, and a `honeyguide.toml` that fits them."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from honeyguide.contracts import Progress, TablesEngine
from honeyguide.engines.tables.duckdb import DuckDBConfig, DuckDBTables
from honeyguide.engines.tables.snapshot import Snapshots
from honeyguide.engines.tasks.steps import atomic_write, disk_errors
from honeyguide.errors import DataError, RequestError
from honeyguide.flows.config import WorkspaceConfig
from honeyguide.flows.data import typed
from honeyguide.flows.layout import Layout
from honeyguide.flows.loading.load import FACTS, Sources, bring, load_line, mapping_lines
from honeyguide.flows.starter import config_text
from honeyguide.intake.catalog import load_items
from honeyguide.intake.evidence import evidence
from honeyguide.intake.quality import Report
from honeyguide.intake.titles import enrich_items
from honeyguide.schema import columns as c
from honeyguide.schema.columns import Column
from honeyguide.schema.tables import EVENTS, ITEMS, USERS

if TYPE_CHECKING:
    import ibis.expr.types as ir
    import pyarrow as pa

__all__ = ["create", "mapping_of"]

_GLANCE_ROWS = 2_000_000


def create(
    folder: Path, *, events: Path | None = None, items: Path | None = None, users: Path | None = None,
    facts: Path | None = None, name: str | None = None, mapping: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Make a workspace of files; returns the report of `honeyguide init`. Nothing is left behind if it fails.

    `mapping` (our column -> theirs) goes before what the columns' names say, in each file that has the column.
    """
    tell: Progress = progress or (lambda what, done, total: None)
    if events is None and items is None:
        raise RequestError(
            expected="a file of events, or of items for search alone",
            got="none",
            do="Give --events (what people did is what a workspace learns from), --items, or both.",
        )
    sources = Sources.of(events, items, users, facts=facts, mapping=mapping)
    existed = Path(folder).exists()
    with disk_errors(folder):
        layout = Layout.create(folder)
    try:
        with disk_errors(layout.root):
            return _fill(layout, sources, facts, name or layout.root.resolve().name, tell)
    except BaseException:
        # A half-made workspace would be taken for a whole one.
        for child in layout.root.iterdir():
            shutil.rmtree(child) if child.is_dir() else child.unlink()
        if not existed:
            layout.root.rmdir()
        raise


def _fill(layout: Layout, sources: Sources, facts: Path | None, name: str, tell: Progress) -> dict[str, Any]:
    now = time.time_ns() // 1000
    extra: list[str] = []
    with DuckDBTables(DuckDBConfig(temp_folder=layout.scratch)) as engine:
        brought = bring(layout, engine, sources, now=now, tell=tell, some=True)
        tables = Snapshots(layout.tables, engine)
        if tables.find(EVENTS.name) is None:
            tables.write(EVENTS.name, EVENTS.arrow().empty_table())  # what comes over the API is folded into it
            if not typed(tables, ITEMS).num_rows:
                raise nothing_to_find(brought.reports[0])
        log = engine.parquet(tables.paths(EVENTS.name), EVENTS.name)
        if facts is not None:
            extra.append(_enrich(engine, tables, log, facts, sources.mappings[FACTS], now))
        found = evidence(engine, log)
    shutil.rmtree(layout.scratch, ignore_errors=True)
    people = typed(tables, USERS) if tables.find(USERS.name) else None
    text, said = config_text(name, _glance(tables), people, now)
    atomic_write(layout.config, text.encode())
    WorkspaceConfig.load(layout.config)
    return {
        "workspace": str(layout.root),
        "mapping": [line for report in brought.reports for line in mapping_lines(report)],
        "loads": [load_line(report) for report in brought.reports],
        "evidence": {"level": found.level, "facts": list(found.facts), "numbers": dict(found.numbers)},
        "notes": [*brought.notes, *extra, *said],
    }


def nothing_to_find(report: Report) -> DataError:
    """Why a file of items alone makes no workspace."""
    return DataError(
        expected=f"at least one good item in {report.source_file}",
        got=f"all {report.quarantined:,} rows refused: {', '.join(report.reasons) or 'an empty file'}",
        do="Mend the rows, or say with --map which column is which.",
    )


def _enrich(
    engine: TablesEngine, tables: Snapshots, log: ir.Table, facts: Path, mapping: Mapping[Column, str], now: int
) -> str:
    """Join more facts to the catalog by title and year; how much of the events that reaches."""
    catalog = typed(tables, ITEMS)
    counted = engine.arrow(log.group_by(c.ITEM_ID).aggregate(**{c.N: log.count()}))
    counts = dict(zip(counted[c.ITEM_ID].to_pylist(), counted[c.N].to_pylist(), strict=True))
    weights = [float(counts.get(item_id, 0)) for item_id in catalog[c.ITEM_ID].to_pylist()]
    joined, share = enrich_items(catalog, load_items(engine, facts, mapping=mapping, now=now).items, weights)
    tables.write(ITEMS.name, joined)
    return f"{share:.1%} of the events are of items that found more facts in {facts.name}, by title and year."


def _glance(tables: Snapshots) -> pa.Table:
    """What the configuration is made of: of a long log every so-manieth event, and the last; of each action some."""
    import pyarrow as pa

    if not tables.current(EVENTS.name).rows:
        return tables.read(EVENTS.name, columns=[c.ACTION, c.VALUE, c.HAPPENED_AT])
    step = -(-tables.current(EVENTS.name).rows // _GLANCE_ROWS)
    met: set[str] = set()
    chosen: list[pa.Table] = []
    for part in tables.scan(EVENTS.name, columns=[c.ACTION, c.VALUE, c.HAPPENED_AT]):
        fresh = [action for action in part[c.ACTION].unique().to_pylist() if action not in met]
        met |= {*fresh}
        first = [part[c.ACTION].index(action).as_py() for action in fresh] if step > 1 else []
        rows = np.unique([*range(0, part.num_rows, step), *first, part.num_rows - 1])
        chosen.append(part.take(pa.array(rows)))
    return pa.concat_tables(chosen)


def mapping_of(pairs: Iterable[str]) -> dict[str, str]:
    """`OUR_COLUMN=THEIR_COLUMN` texts as a mapping. Raises RequestError for what has not this form."""
    mapping: dict[str, str] = {}
    for pair in pairs:
        ours, sign, theirs = (part.strip() for part in pair.partition("="))
        if not (ours and sign and theirs) or mapping.get(ours, theirs) != theirs:
            raise RequestError(
                expected="--map OUR_COLUMN=THEIR_COLUMN, once for each column of ours",
                got=repr(pair),
                do="For example: --map user_id=Kundennummer --map happened_at=Zeit.",
            )
        mapping[ours] = theirs
    return mapping
