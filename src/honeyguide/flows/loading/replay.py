"""`honeyguide quarantine replay`: held rows go through the gate again and enter exactly once, whenever it is killed."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from honeyguide.contracts import Progress, TablesEngine
from honeyguide.engines.tables.choice import tables_engine
from honeyguide.engines.tables.snapshot import Snapshots
from honeyguide.engines.tasks.steps import disk_errors, only_process
from honeyguide.errors import RequestError
from honeyguide.flows.config import WorkspaceConfig
from honeyguide.flows.data import all_items, typed
from honeyguide.flows.layout import Layout
from honeyguide.flows.loading.load import Sources, seed
from honeyguide.flows.loading.pending import KEY, REPLAYED, HeldRow, Outcome, Pending, recover, replay_log
from honeyguide.flows.loading.quarantine import Selection, scan
from honeyguide.flows.loading.records import LoadRecord, contract_of, opened, recorded, records
from honeyguide.intake.catalog import load_items, load_users, put_rows
from honeyguide.intake.contract_check import ContractCheck
from honeyguide.intake.files import Raw, RawFile, open_raw
from honeyguide.intake.quality import Report, load_id, meaning
from honeyguide.intake.raw import unmarked
from honeyguide.intake.seen import Seen
from honeyguide.intake.stream import stream_events
from honeyguide.schema import columns as c
from honeyguide.schema.columns import Column
from honeyguide.schema.tables import EVENTS, ITEMS, Table

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["replay"]

_UNPARSED = "unparsed_line"
_CUT_SHORT = "This is a replay that was cut short, finished now; run the command again for what else is held."


def replay(
    folder: Path | str,
    selection: Selection | None = None,
    *,
    mended: Path | None = None,
    mapping: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Let the chosen rows in again; returns the report of the command.

    mended: a file whose rows enter in place of the chosen ones, which leave Quarantine; those that the gate refuses are
    new rows there. mapping: our column -> theirs, before what the first load was told.
    Raises RequestError for a mended file of more rows than were chosen or of rows of several tables.
    """
    tell: Progress = progress or (lambda what, done, total: None)
    layout = Layout.open(folder)
    with only_process(layout.loading, "load"), disk_errors(layout.root):
        finished = recover(layout)
        if finished:
            return _report(layout, finished, [_CUT_SHORT], recovered=True)
        chosen = replace(selection or Selection(), state="held").checked(layout)
        waiting = _waiting(layout, chosen)
        if mended is not None:
            _one_table(waiting)
        made = []
        for place, (name, rows) in enumerate(waiting.items()):
            tell(f"replaying {name}", place, len(waiting))
            made.append(_Replay(layout, REPLAYED[name], rows, mended, mapping or {}).run())
            tell(f"replaying {name}", place + 1, len(waiting))
    return _report(layout, made, _notes(waiting, mended), recovered=False)


def _report(layout: Layout, made: Sequence[LoadRecord], notes: list[str], *, recovered: bool) -> dict[str, Any]:
    reasons: Counter[str] = Counter()
    for record in made:
        reasons.update(record.reasons)
    return {
        "workspace": str(layout.root),
        "recovered": recovered,
        "rows": sum(record.rows_in for record in made),
        "accepted": sum(record.accepted for record in made),
        "held": sum(record.quarantined for record in made),
        "reasons": dict(reasons.most_common()),
        "tables": {record.table: {"rows": record.rows_in, "accepted": record.accepted} for record in made},
        "notes": notes,
    }


def _notes(waiting: Mapping[str, list[HeldRow]], mended: Path | None) -> list[str]:
    if mended is not None:
        return (
            [f"{sum(map(len, waiting.values())):,} rows left Quarantine for those of {mended.name}."] if waiting else []
        )
    unparsed = sum(row.reason == _UNPARSED for rows in waiting.values() for row in rows)
    if not unparsed:
        return []
    return [
        f"{unparsed:,} lines have not their file's shape and stay: export them with `quarantine show --reason "
        f"{_UNPARSED} --export FILE`, mend them, and replay --with FILE."
    ]


def _one_table(waiting: Mapping[str, Any]) -> None:
    if len(waiting) > 1:
        raise RequestError(
            expected="a mended file with rows of one table",
            got=f"rows of {', '.join(waiting)}",
            do="Choose one with --table, --load or --reason.",
        )


def _waiting(layout: Layout, chosen: Selection) -> dict[str, list[HeldRow]]:
    """The chosen rows by table, in the order of replaying; a row of an old version is an event's."""
    found: dict[str, list[HeldRow]] = {name: [] for name in REPLAYED}
    of_load = {record.load_id: record.table for record in records(layout)}
    for part in scan(Snapshots(layout.tables)):
        for row in part.filter(chosen.of(part)).select([str(name) for name in KEY]).to_pylist():
            held = HeldRow(tuple(row.values()))
            found.setdefault(str(held.key[1] or of_load.get(held.load, EVENTS.name)), []).append(held)
    return {name: rows for name, rows in found.items() if rows and name in REPLAYED}


# ------------------------------------------------------------------------------------------- through the gate


class _Replay:
    """The replay of rows of one table."""

    def __init__(
        self, layout: Layout, table: Table, rows: list[HeldRow], mended: Path | None, mapping: Mapping[str, str]
    ) -> None:
        self._layout, self._table, self._rows, self._mended = layout, table, rows, mended
        self._tables = Snapshots(layout.tables)
        self._now = time.time_ns() // 1000
        self._history = {(record.load_id, record.table): record for record in records(layout)}
        self._given = {column: mapping[column] for column in table.columns if column in mapping}
        self._pending = Pending(layout, table, self._tables.offset(table.name, replay_log(table)) + 1)

    def run(self) -> LoadRecord:
        """Through the gate, into the table, and marked."""
        scratch = self._layout.scratch / "replay"
        config = WorkspaceConfig.load(self._layout.config)
        with closing(tables_engine(config.engine, self._layout.scratch)) as engine:
            (self._events if self._table is EVENTS else self._catalog)(engine, scratch)
        shutil.rmtree(scratch, ignore_errors=True)
        return self._pending.finish(self._tables)

    def _events(self, engine: TablesEngine, scratch: Path) -> None:
        tables = self._tables
        ids = all_items(self._layout)[c.ITEM_ID]
        contract = contract_of(self._layout, EVENTS.name)
        outcome = self._empty()
        logs = {replay_log(EVENTS): self._pending.number}
        with ExitStack() as stack:
            seen = stack.enter_context(Seen(self._layout.scratch))
            writer = stack.enter_context(tables.appender(EVENTS.name, logs=logs))
            seed(self._layout, tables, seen)
            for source, record, sink, check in self._sources(scratch, outcome):
                streamed = stream_events(
                    engine,
                    source,
                    writer,
                    sink,
                    seen=seen,
                    mapping=self._mapping(source, record),
                    items=ids,
                    unknown_item="add" if contract is None else contract.unknown_item,
                    checks=[] if check is None else [check],
                    warns=frozenset() if contract is None else contract.gate_warns(),
                    now=self._now,
                    told=record.told if record is not None and isinstance(source, Iterable) else None,
                )
                self._count(outcome, sink, streamed.report)
                for day, n in streamed.days.items():
                    outcome.days[day] = outcome.days.get(day, 0) + n
            if not writer.rows:
                writer.add(EVENTS.arrow().empty_table())
            self._pending.write(outcome, self._record(outcome))
            stack.enter_context(self._layout.compacting())  # nobody moves the log while the rows enter

    def _catalog(self, engine: TablesEngine, scratch: Path) -> None:
        table, tables = self._table, self._tables
        contract = contract_of(self._layout, table.name)
        had = typed(tables, table)
        outcome = self._empty()
        for source, record, sink, check in self._sources(scratch, outcome):
            given = {
                "mapping": self._mapping(source, record),
                "had": had,
                "checks": [] if check is None else [check],
                "warns": frozenset() if contract is None else contract.gate_warns(),
                "now": self._now,
            }
            whole = list(source) if isinstance(source, Iterable) else source
            if table is ITEMS:
                items = load_items(engine, whole, **given)
                news, refused, report = items.items, items.quarantine, items.report
            else:
                users = load_users(engine, whole, **given)
                news, refused, report = users.users, users.quarantine, users.report
            sink.add(refused)
            self._count(outcome, sink, report)
            had = put_rows(table, had, news)
        self._pending.write(outcome, self._record(outcome))
        with (
            self._layout.compacting(),
            tables.appender(table.name, replace=True, logs={replay_log(table): self._pending.number}) as writer,
        ):
            writer.add(had)

    def _empty(self) -> Outcome:
        stays = [(row.reason, meaning(row.reason)) for row in self._rows]
        why: list[tuple[str, str] | None] = [*stays]
        return Outcome(self._rows, why, [], 0, [], {})

    def _sources(
        self, scratch: Path, outcome: Outcome
    ) -> Iterator[tuple[RawFile | Iterable[Raw], LoadRecord | None, _Refused, ContractCheck | None]]:
        """What goes through the gate: the mended file, or the rows of each load that have their file's shape."""
        if self._mended is not None:
            file = self._file(self._mended)
            rows_in = sum(raw.rows_in for raw in file.batches())
            if rows_in > len(self._rows):
                raise RequestError(
                    expected=f"at most {len(self._rows):,} mended rows, as many as were chosen",
                    got=f"{rows_in:,} in {self._mended}",
                    do="Choose the rows that the file stands for with --load and --reason; load others with `load`.",
                )
            outcome.why = [None] * len(self._rows)
            record = self._history.get((self._rows[0].load, self._table.name))
            yield file, record, _Refused(None), self._check(record)
            return
        loads: dict[str, list[int]] = {}
        for at, row in enumerate(self._rows):
            if row.reason != _UNPARSED and row.raw.startswith("{"):
                loads.setdefault(row.load, []).append(at)
        outcome.rows_in += len(self._rows) - sum(map(len, loads.values()))
        for load, places in loads.items():
            record = self._history.get((load, self._table.name))
            path = scratch / f"{load}.jsonl"
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as out:
                for at in places:
                    out.write(unmarked(self._rows[at].raw) + b"\n")
            yield _raws(path, self._rows[places[0]].file, places, record), record, _Refused(places), self._check(record)

    def _check(self, record: LoadRecord | None) -> ContractCheck | None:
        found = [] if record is None else record.bots
        bots = {one[c.USER_ID]: (one["per_minute"], one["per_hour"]) for one in found}
        return opened(self._layout, self._table, now_us=self._now, rows_only=True, bots=bots)

    def _file(self, path: Path) -> RawFile:
        given = {str(column): name for column, name in self._given.items()}
        sources = Sources.of(**{name: path if name == self._table.name else None for name in REPLAYED}, mapping=given)
        return sources.files[self._table.name]

    def _mapping(self, source: RawFile | Iterable[Raw], record: LoadRecord | None) -> dict[Column, str]:
        """What was given, before what the load had: of a file, only what it has; of rows, all of it."""
        before = {} if record is None else record.mapping
        if isinstance(source, Iterable):
            if record is not None and record.told:
                return self._given
            return {**{column: before[column] for column in self._table.columns if column in before}, **self._given}
        names = source.sample().table.column_names
        kept = {column: before[column] for column in self._table.columns if before.get(column) in names}
        return {**kept, **self._given}

    def _count(self, outcome: Outcome, sink: _Refused, report: Report) -> None:
        outcome.reports.append(report)
        outcome.rows_in += report.rows_in
        if sink.places is None:
            outcome.refused += sink.tables
            return
        for at in sink.places:
            outcome.why[at] = None
        for refused in sink.tables:
            for at, reason, detail in zip(
                *(refused[name].to_pylist() for name in (c.ROW_NUMBER, c.REASON, c.DETAIL)), strict=True
            ):
                outcome.why[at] = (reason, detail)

    def _record(self, outcome: Outcome) -> LoadRecord:
        reasons = Counter(reason for reason, _ in filter(None, outcome.why))
        for refused in outcome.refused:
            reasons.update(refused[c.REASON].to_pylist())
        path = self._mended or Path("Quarantine")
        return recorded(
            load_id(path, self._now), self._table.name, path.name, self._now, outcome.rows_in, outcome.accepted,
            dict(reasons.most_common()), days=outcome.days, replay=True,
        )  # fmt: skip


class _Refused:
    """A sink for refused rows; `places`: where in the chosen rows each row number lies, None for rows of a file."""

    def __init__(self, places: list[int] | None) -> None:
        self.places = places
        self.tables: list[pa.Table] = []

    def add(self, batch: pa.Table) -> None:
        self.tables.append(batch)


def _raws(file: Path, name: str, places: list[int], record: LoadRecord | None) -> Iterator[Raw]:
    """Rows as their file had them: its columns in its order, each row under its place among the chosen ones."""
    import pyarrow as pa

    at = np.array(places, np.int64)
    for raw in open_raw(file).batches():
        table = raw.table
        columns = list(record.told.get("columns", ())) if record is not None else []
        columns += [one for one in table.column_names if one not in columns]
        if record is not None:
            columns += [one for one in record.mapping.values() if one not in columns]
        filled = {
            one: table[one] if one in table.column_names else pa.nulls(table.num_rows, pa.string()) for one in columns
        }
        yield replace(
            raw,
            path=Path(name),
            table=pa.table(filled),
            row_number=at[raw.row_number - 1],
            refused=[replace(line, row_number=int(at[line.row_number - 1])) for line in raw.refused],
            format=record.format or raw.format if record is not None else raw.format,
            sequences=frozenset(record.sequences) if record is not None else raw.sequences,
        )
