"""Files into a workspace's tables, whatever their size: all of them or nothing, and nothing twice."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from time import time_ns
from typing import TYPE_CHECKING, Any

from honeyguide.contracts import Progress, TablesEngine
from honeyguide.engines.tables.choice import tables_engine
from honeyguide.engines.tables.snapshot import Snapshots
from honeyguide.engines.tasks.steps import disk_errors, only_process
from honeyguide.errors import DataError, RequestError
from honeyguide.flows.config import WorkspaceConfig
from honeyguide.flows.data import typed, waiting
from honeyguide.flows.layout import Layout
from honeyguide.flows.loading.kept_out import KeptOut
from honeyguide.flows.loading.records import of_file, opened, settled
from honeyguide.intake.catalog import load_items, load_users, put_rows
from honeyguide.intake.contract_check import ContractCheck
from honeyguide.intake.dates import ACCEPTED
from honeyguide.intake.events import from_log
from honeyguide.intake.files import RawFile, open_raw, rows_about
from honeyguide.intake.foreign import Foreign, detect
from honeyguide.intake.importers import assigned, resolve
from honeyguide.intake.infer import file_kinds
from honeyguide.intake.quality import Report
from honeyguide.intake.seen import Seen
from honeyguide.intake.stream import Streamed, stream_events
from honeyguide.schema import columns as c
from honeyguide.schema.columns import Column
from honeyguide.schema.tables import EVENTS, ITEMS, QUARANTINE, USERS, Table

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["FACTS", "Brought", "Refused", "Sources", "bring", "load", "load_line", "mapping_lines"]

FACTS = "facts"
_SHOWN_ROWS = 1000
_MANY, _HARDLY = 100, 0.1  # of so many rows, fewer good ones than this share: the file was not understood
_TABLES = {table.name: table for table in (EVENTS, ITEMS, USERS)}
_LOADERS: dict[str, Any] = {ITEMS.name: load_items, USERS.name: load_users}


@dataclass(frozen=True, slots=True)
class Sources:
    """What is loaded: an open file and a mapping (our column -> theirs) for each table that there is a file of."""

    files: dict[str, RawFile]
    mappings: dict[str, Mapping[Column, str]]
    exports: list[Foreign] = field(default_factory=list)  # of other tools; they say what could not be mapped

    @classmethod
    def of(
        cls,
        events: Path | None,
        items: Path | None = None,
        users: Path | None = None,
        *,
        facts: Path | None = None,
        mapping: Mapping[str, str] | None = None,
    ) -> Sources:
        """Open files, whatever tool wrote them; an export of several tables may bring items and users along.

        facts: a file of items that is no table of its own: it only gets its part of the mapping, under FACTS.

        Raises DataError for what is not there or unreadable, RequestError if there is no file at all.
        """
        given = {EVENTS.name: events, ITEMS.name: items, USERS.name: users}
        paths = {name: Path(path) for name, path in given.items() if path is not None}
        if not paths:
            raise RequestError(expected="a file to load", got="none", do="Name one with --events, --items or --users.")
        for path in (*paths.values(), *([facts] if facts is not None else [])):
            if not path.exists():
                raise DataError(expected=f"a file at {path}", got="nothing there", do="Check the path.")
        files: dict[str, RawFile] = {}
        plain: list[tuple[str, Path]] = []
        exports: list[Foreign] = []
        for name, path in paths.items():
            # Who says which column is which has files of their own.
            export = None if mapping else _export(path)
            if export is None:
                plain.append((name, path))
                continue
            files[name] = export.file(_TABLES[name])
            exports.append(export)
            for table in export.tables:
                if name == EVENTS.name and table.name in given and table.name not in paths:
                    beside = export.file(table)
                    if _holds_rows(beside):
                        files[table.name] = beside
        more = [(FACTS, facts)] if facts is not None else []
        found = assigned([(path, _TABLES.get(name, ITEMS)) for name, path in [*plain, *more]], mapping)
        files |= {name: open_raw(path) for name, path in plain}
        return cls(files, {name: part for (name, _), part in zip([*plain, *more], found, strict=True)}, exports)


def _export(path: Path) -> Foreign | None:
    found = detect(path)
    # One atomic file needs no help, and is read faster without.
    return None if found is not None and found.format == "recbole" and path.is_file() else found


def _holds_rows(file: RawFile) -> bool:
    try:
        return file.sample().rows_in > 0
    except DataError:
        return False


@dataclass(slots=True)
class Brought:
    """What a load did. `streamed` is there if there was a file of events."""

    reports: list[Report] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    streamed: Streamed | None = None


Bots = Mapping[str, Sequence[int]]


class _BotsFoundError(Exception):
    """A contract wants rows of these people held back, who were found only at the load's end: it is run again."""

    def __init__(self, bots: Bots) -> None:
        super().__init__(f"{len(bots)} bots")
        self.bots = bots


def load(
    folder: Path | str, *, events: Path | None = None, items: Path | None = None, users: Path | None = None,
    mapping: Mapping[str, str] | None = None, progress: Progress | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Add files to a workspace; returns the report of `honeyguide load`. All of them enter, or none if one is refused.

    What is there already (the same event id, the same facts of an item or person) is a counted duplicate. Raises
    WorkspaceError while another load runs.
    """
    tell: Progress = progress or (lambda what, done, total: None)
    layout = Layout.open(folder)
    config = WorkspaceConfig.load(layout.config)
    sources = Sources.of(events, items, users, mapping=mapping)
    with (
        only_process(layout.loading, "load"),
        disk_errors(layout.root),
        closing(tables_engine(config.engine, layout.scratch)) as engine,
    ):
        brought = bring(layout, engine, sources, now=time_ns() // 1000, tell=tell)
    notes = [*brought.notes]
    new = {} if brought.streamed is None else brought.streamed.actions
    strange = {action: n for action, n in new.items() if action not in config.actions}
    if strange:
        named = ", ".join(f"{action} ({n:,})" for action, n in sorted(strange.items(), key=lambda item: -item[1]))
        notes.append(f"Actions that honeyguide.toml does not know: {named}. They weigh 0 until [actions] names them.")
    return {
        "workspace": str(layout.root),
        "mapping": [line for report in brought.reports for line in mapping_lines(report)],
        "loads": [load_line(report) for report in brought.reports],
        "notes": notes,
    }


class Refused:
    """Quarantine's writer, and the first rows it was given."""

    def __init__(self, writer: Any, kept_out: KeptOut) -> None:
        self._writer, self._kept_out = writer, kept_out
        self.first: list[dict[str, Any]] = []

    def add(self, batch: pa.Table) -> None:
        """Take rows."""
        batch = self._kept_out.blanked(batch)
        self._writer.add(batch)
        self.first += batch.slice(0, _SHOWN_ROWS - len(self.first)).to_pylist()


def bring(
    layout: Layout, engine: TablesEngine, sources: Sources, *, now: int, tell: Progress, some: bool = False
) -> Brought:
    """Load files into the tables; with `some`, a file of events without one good event is a DataError.

    Quarantine is put in force before the events that it was parted from, so that a crash between the two loses none.
    """
    bots: Bots = {}
    while True:
        try:
            return _Load(layout, engine, sources, now, tell, bots).run(some)
        except _BotsFoundError as found:
            bots = {**found.bots, **bots}


class _Load:
    """One load of up to three tables."""

    def __init__(
        self, layout: Layout, engine: TablesEngine, sources: Sources, now: int, tell: Progress, bots: Bots
    ) -> None:
        self.layout, self.engine, self.sources, self.now, self.tell, self.bots = (
            layout, engine, sources, now, tell, bots,
        )  # fmt: skip
        self.tables = Snapshots(layout.tables, engine)
        self.kept_out = KeptOut(self.tables.forgotten)
        self.brought = Brought()
        self.checks: dict[str, ContractCheck] = {}
        self.kinds: dict[str, dict[str, str]] = {}
        self.written: dict[str, dict[str, Any]] = {}  # how each table's file is written
        self.catalog: dict[str, pa.Table] = {}  # what came of items and users

    def run(self, some: bool) -> Brought:
        """Everything, then the history."""
        files = self.sources.files
        with ExitStack() as locks, ExitStack() as writers:
            writer = writers.enter_context(self.tables.appender(EVENTS.name)) if EVENTS.name in files else None
            refused = Refused(writers.enter_context(self.tables.appender(QUARANTINE.name)), self.kept_out)
            refused.add(QUARANTINE.arrow().empty_table())
            for table in (ITEMS, USERS):
                if table.name in files:
                    self._facts(table, refused)
            if writer is not None:
                self._events(writer, refused)
                if some:
                    believed(self.brought.reports[-1], refused)
            self.tell("writing tables", 0, 1)
            locks.enter_context(self.layout.compacting())  # until the writers have put their rows in force
            for table in (ITEMS, USERS):
                came = self.catalog.get(table.name)
                if came is not None:
                    self.tables.write(table.name, put_rows(table, typed(self.tables, table), came))
        self.tell("writing tables", 1, 1)
        self.brought.notes += [note for export in self.sources.exports for note in export.notes]
        self._remember()
        return self.brought

    def _check(self, table: Table) -> ContractCheck | None:
        """The contract's check of a table's load; remembers what kinds of columns its file has."""
        file = self.sources.files[table.name]
        sample = file.sample()
        found = resolve(sample, table, self.sources.mappings.get(table.name))
        kinds = self.kinds[table.name] = file_kinds(sample.table, found.mapping)
        self.written[table.name] = of_file(file.path, sample)
        people = self.catalog.get(USERS.name)
        users = None
        if people is not None:
            users = put_rows(USERS, typed(self.tables, USERS), people)[c.USER_ID]
        check = opened(self.layout, table, now_us=self.now, kinds=kinds, users=users, bots=self.bots)
        if check is not None:
            self.checks[table.name] = check
        return check

    def _facts(self, table: Table, refused: Refused) -> None:
        self.tell(table.name, 0, 1)
        check = self._check(table)
        loaded = _LOADERS[table.name](
            self.engine, self.sources.files[table.name], mapping=self.sources.mappings.get(table.name),
            had=typed(self.tables, table), checks=[self.kept_out, *_listed(check)], warns=_warns(check), now=self.now,
        )  # fmt: skip
        self.catalog[table.name] = loaded.items if table is ITEMS else loaded.users
        refused.add(loaded.quarantine)
        self._told(loaded.report)
        self.tell(table.name, 1, 1)

    def _events(self, writer: Any, refused: Refused) -> None:
        file = self.sources.files[EVENTS.name]
        check = self._check(EVENTS)
        known = put_rows(ITEMS, typed(self.tables, ITEMS), self.catalog.get(ITEMS.name, ITEMS.arrow().empty_table()))
        about = rows_about(file)
        self.tell(EVENTS.name, 0, max(about, 1))
        current = self.tables.find(EVENTS.name)
        with Seen(self.layout.scratch, about + (current.rows if current is not None else 0)) as seen:
            seed(self.layout, self.tables, seen)
            streamed = stream_events(
                self.engine, file, writer, refused, seen=seen, mapping=self.sources.mappings.get(EVENTS.name),
                items=known[c.ITEM_ID], checks=[self.kept_out, *_listed(check)], warns=_warns(check), now=self.now,
                unknown_item="add" if check is None or check.contract is None else check.contract.unknown_item,
                tell=lambda rows: self.tell(EVENTS.name, rows, max(about, rows, 1)),
            )  # fmt: skip
        if check is not None and check.bots_to_hold:
            raise _BotsFoundError(check.bots_to_hold)
        self.tell(EVENTS.name, streamed.report.rows_in, max(streamed.report.rows_in, 1))
        # Items that only events know are in no table: they come and go with the events, see `flows.data.load`.
        self.brought.streamed = streamed
        self._told(streamed.report)

    def _told(self, report: Report) -> None:
        self.brought.reports.append(report)
        self.brought.notes += [f"{report.table}: {note}" for note in report.notes]

    def _remember(self) -> None:
        streamed = self.brought.streamed
        days, told = ({}, {}) if streamed is None else (streamed.days, streamed.told)
        for report in self.brought.reports:
            check = self.checks.get(report.table)
            if check is not None:
                settled(
                    self.layout, check, report, load_id=report.load_id, now_us=self.now,
                    days=days if report.table == EVENTS.name else {}, kinds=self.kinds[report.table],
                    has_catalog=ITEMS.name in self.sources.files, told=told if report.table == EVENTS.name else {},
                    **self.written[report.table],
                )  # fmt: skip


def seed(layout: Layout, tables: Snapshots, seen: Seen) -> None:
    """Take the ids of events that are there: the table's and, while they wait to be moved there, the log's."""
    with layout.compacting(shared=True):
        current, payloads = tables.find(EVENTS.name), waiting(layout, tables, EVENTS)
    if current is not None:
        for part in tables.scan(EVENTS.name, current.id, columns=[c.EVENT_ID]):
            seen.add(part[c.EVENT_ID].chunks)
    if payloads:
        seen.add(from_log(payloads)[c.EVENT_ID].chunks)


def _listed(check: ContractCheck | None) -> Sequence[ContractCheck]:
    return () if check is None else (check,)


def _warns(check: ContractCheck | None) -> frozenset[str]:
    return frozenset() if check is None or check.contract is None else check.contract.gate_warns()


def believed(report: Report, refused: Refused) -> None:
    """DataError where a first load's events were misread rather than bad: not one good one, or hardly any of many."""
    enough = report.rows_in >= _MANY and report.accepted < _HARDLY * report.rows_in
    if not report.accepted or enough:
        raise misread(report, refused)


def misread(report: Report, refused: Refused) -> DataError:
    """Why a file has hardly a good event, with values that could not be read as times."""
    held = f"all {report.quarantined:,}" if not report.accepted else f"{report.quarantined:,} of {report.rows_in:,}"
    got = f"{held} rows refused: {', '.join(report.reasons) or 'an empty file'}"
    do = "Mend the rows, or say with --map which column is which; `honeyguide check FILE` shows what is read as what."
    if "unreadable_time" in report.reasons:
        column = report.mapping[c.HAPPENED_AT]
        rows = (row for row in refused.first if row[c.REASON] == "unreadable_time")
        cells = (json.loads(row[c.RAW]).get(column) for row in rows)
        shown = list(islice(dict.fromkeys(repr(cell) for cell in cells if cell is not None), 3))
        got += f" ({column} holds {', '.join(shown)})"
        do = f"A time may be: {ACCEPTED}."
    return DataError(expected=f"good events in {report.source_file}, at least one in ten", got=got, do=do)


def load_line(report: Report) -> dict[str, Any]:
    """A load as a row: rows in = accepted + quarantined."""
    return {
        "load_id": report.load_id,
        "table": report.table,
        "file": report.source_file,
        "rows_in": report.rows_in,
        "accepted": report.accepted,
        "quarantined": report.quarantined,
        "reasons": dict(report.reasons),
    }


def mapping_lines(report: Report) -> list[dict[str, str]]:
    """Which column of a file became which of ours, and how that was found."""
    return [
        {
            "file": Path(report.source_file).name,
            "there": theirs,
            "here": f"{report.table}.{ours}",
            "how": report.how[ours],
        }
        for ours, theirs in report.mapping.items()
    ]
