"""`honeyguide init`: files to a workspace: tables through the gate, and a `honeyguide.toml` that fits them."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from honeyguide.contracts import Progress
from honeyguide.engines.tables.duckdb import DuckDBConfig, DuckDBTables
from honeyguide.engines.tables.snapshot import Snapshots
from honeyguide.engines.tasks.steps import atomic_write, disk_errors
from honeyguide.errors import DataError, RequestError
from honeyguide.flows.config import WorkspaceConfig
from honeyguide.flows.layout import Layout
from honeyguide.flows.starter import config_text
from honeyguide.intake.catalog import bare_items, load_items, load_users
from honeyguide.intake.dates import ACCEPTED
from honeyguide.intake.events import EventsLoad, load_events
from honeyguide.intake.evidence import evidence
from honeyguide.intake.importers import assigned
from honeyguide.intake.quality import Report
from honeyguide.intake.titles import enrich_items
from honeyguide.schema import columns as c
from honeyguide.schema.columns import Column
from honeyguide.schema.tables import EVENTS, ITEMS, QUARANTINE, USERS

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["create", "load_line", "mapping_of", "nothing_accepted"]


def create(
    folder: Path, *, events: Path, items: Path | None = None, users: Path | None = None, facts: Path | None = None,
    name: str | None = None, mapping: Mapping[str, str] | None = None, progress: Progress | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Make a workspace of files; returns the report of `honeyguide init`. Nothing is left behind if it fails.

    `mapping` (our column -> theirs) goes before what the columns' names say, in each file that has the column.
    """
    tell: Progress = progress or (lambda what, done, total: None)
    for path in (events, items, users, facts):
        if path is not None and not path.exists():
            raise DataError(expected=f"a file at {path}", got="nothing there", do="Check the path.")
    files = [
        (path, table) for path, table in ((events, EVENTS), (items, ITEMS), (users, USERS), (facts, ITEMS)) if path
    ]
    given = {path: part for (path, _), part in zip(files, assigned(files, mapping), strict=True)}
    existed = Path(folder).exists()
    with disk_errors(folder):
        layout = Layout.create(folder)
    try:
        with disk_errors(layout.root):
            return _fill(layout, events, items, users, facts, name or layout.root.resolve().name, given, tell)
    except BaseException:
        # A half-made workspace would be taken for a whole one.
        for child in layout.root.iterdir():
            shutil.rmtree(child) if child.is_dir() else child.unlink()
        if not existed:
            layout.root.rmdir()
        raise


def _fill(
    layout: Layout,
    events: Path,
    items: Path | None,
    users: Path | None,
    facts: Path | None,
    name: str,
    given: Mapping[Path, Mapping[Column, str]],
    tell: Progress,
) -> dict[str, Any]:
    import pyarrow as pa

    now = time.time_ns() // 1000
    reports: list[Report] = []
    quarantines: list[pa.Table] = []
    extra: list[str] = []
    with DuckDBTables(DuckDBConfig(temp_folder=layout.scratch)) as engine:
        tables = Snapshots(layout.tables, engine)
        catalog: pa.Table | None = None
        tell("items", 0, 1)
        if items is not None:
            loaded = load_items(engine, items, mapping=given[items], now=now)
            catalog = loaded.items
            reports.append(loaded.report)
            quarantines.append(loaded.quarantine)
        tell("items", 1, 1)
        tell("events", 0, 1)
        log = load_events(engine, events, mapping=given[events], items=catalog, now=now)
        reports.append(log.report)
        quarantines.append(log.quarantine)
        tell("events", 1, 1)
        if not log.events.num_rows:
            raise nothing_accepted(log)
        if catalog is None:
            catalog = bare_items(log.events, ITEMS.arrow().empty_table()[c.ITEM_ID])
        else:
            catalog = pa.concat_tables([catalog, log.bare_items])
        if facts is not None:
            catalog, found_facts = _enriched(engine, catalog, log.events, facts, given[facts], now)
            extra.append(found_facts)
        people: pa.Table | None = None
        if users is not None:
            tell("users", 0, 1)
            read = load_users(engine, users, mapping=given[users], now=now)
            people = read.users
            reports.append(read.report)
            quarantines.append(read.quarantine)
            tell("users", 1, 1)
        tell("writing tables", 0, 1)
        tables.write(EVENTS.name, log.events)
        tables.write(ITEMS.name, catalog)
        if people is not None:
            tables.write(USERS.name, people)
        tables.write(QUARANTINE.name, pa.concat_tables(quarantines))
        tell("writing tables", 1, 1)
        found = evidence(engine, engine.table(log.events))
    shutil.rmtree(layout.scratch, ignore_errors=True)
    notes = [f"{report.table}: {note}" for report in reports for note in report.notes]
    text, said = config_text(name, log.events, people, now)
    atomic_write(layout.config, text.encode())
    WorkspaceConfig.load(layout.config)
    atomic_write(layout.root / "loads.json", json.dumps([load_line(report) for report in reports]).encode())
    return {
        "workspace": str(layout.root),
        "mapping": [line for report in reports for line in _mapping(report)],
        "loads": [load_line(report) for report in reports],
        "evidence": {"level": found.level, "facts": list(found.facts), "numbers": dict(found.numbers)},
        "notes": [*notes, *extra, *said],
    }


def _enriched(
    engine: DuckDBTables, catalog: pa.Table, events: pa.Table, facts: Path, mapping: Mapping[Column, str], now: int
) -> tuple[pa.Table, str]:
    """The catalog with more facts, joined by title and year, and how much of the events that reaches."""
    import pyarrow.compute as pc

    counts = {row["values"]: row["counts"] for row in pc.value_counts(events[c.ITEM_ID]).to_pylist()}
    weights = [float(counts.get(item_id, 0)) for item_id in catalog[c.ITEM_ID].to_pylist()]
    joined, share = enrich_items(catalog, load_items(engine, facts, mapping=mapping, now=now).items, weights)
    return joined, f"{share:.1%} of the events are of items that found more facts in {facts.name}, by title and year."


def nothing_accepted(load: EventsLoad) -> DataError:
    """Why a file has not one good event, with values that could not be read as times."""
    report = load.report
    got = f"{report.quarantined:,} rows, all refused: {', '.join(report.reasons) or 'an empty file'}"
    do = "Mend the rows, or say with --map which column is which."
    if "unreadable_time" in report.reasons:
        column = report.mapping[c.HAPPENED_AT]
        rows = zip(load.quarantine[c.REASON].to_pylist(), load.quarantine[c.RAW].to_pylist(), strict=True)
        cells = (json.loads(raw).get(column) for reason, raw in rows if reason == "unreadable_time")
        shown = list(islice(dict.fromkeys(repr(cell) for cell in cells if cell is not None), 3))
        got += f" ({column} holds {', '.join(shown)})"
        do = f"A time may be: {ACCEPTED}."
    return DataError(expected=f"at least one good event in {report.source_file}", got=got, do=do)


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


def load_line(report: Report) -> dict[str, Any]:
    """A load as a row: rows in = accepted + quarantined."""
    return {
        "table": report.table,
        "file": report.source_file,
        "rows_in": report.rows_in,
        "accepted": report.accepted,
        "quarantined": report.quarantined,
        "reasons": dict(report.reasons),
    }


def _mapping(report: Report) -> list[dict[str, str]]:
    return [
        {
            "file": Path(report.source_file).name,
            "there": theirs,
            "here": f"{report.table}.{ours}",
            "how": report.how[ours],
        }
        for ours, theirs in report.mapping.items()
    ]
