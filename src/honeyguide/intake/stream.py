"""Events of any size through the gate: a batch at a time, ids compared over the whole load, rows on to their tables."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from honeyguide.contracts import TablesEngine
from honeyguide.errors import DataError
from honeyguide.intake import values
from honeyguide.intake.ahead import ahead
from honeyguide.intake.files import Raw, RawFile, open_raw, rows_of
from honeyguide.intake.importers import Detected, resolve
from honeyguide.intake.laws import Held, identities, laws, longer, outcomes
from honeyguide.intake.quality import MAX_ID_LENGTH, BatchCheck, Gate, Report, Tally, concluded, fitted, judge
from honeyguide.intake.seen import Seen
from honeyguide.schema import columns as c
from honeyguide.schema.columns import Column
from honeyguide.schema.tables import EVENTS, ITEMS

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Sink", "Streamed", "stream_events"]

Mask = npt.NDArray[np.bool_]
_DAY_US = 86_400_000_000
_COMPACT_ROWS = 1 << 20


class Sink(Protocol):
    """Takes rows, such as `engines.tables.snapshot.PartWriter`."""

    def add(self, batch: pa.Table) -> None:
        """Take some rows."""
        ...


@dataclass(frozen=True, slots=True)
class Streamed:
    """What went through. `bare_items`: items that the catalog does not know, as Items without facts (none if no items
    were given). `actions`: accepted events of each action."""

    report: Report
    bare_items: pa.Table
    actions: dict[str, int]
    days: dict[int, int]  # accepted events by day since 1970
    told: dict[str, Any] = field(default_factory=dict)  # what the file told, as JSON, for another load of its rows


def stream_events(
    engine: TablesEngine,
    source: Path | RawFile | Iterable[Raw],
    events: Sink,
    quarantine: Sink,
    *,
    seen: Seen,
    mapping: Mapping[Column, str] | None = None,
    items: pa.ChunkedArray | pa.Array | None = None,
    unknown_item: Literal["add", "quarantine"] = "add",
    checks: Sequence[BatchCheck] = (),
    warns: Collection[str] = (),
    now: int,
    tell: Callable[[int], None] = lambda rows: None,
    told: Mapping[str, Any] | None = None,
) -> Streamed:
    """Send a file's events (in the file's order) and its refused rows to their tables; memory does not grow with it.

    seen: the ids that are there already; the accepted ones are added. items: the ids that the catalog holds. warns:
    reason codes that refuse nobody. tell: is told how many rows are through. told: what another load of rows of the
    same file was told (`Streamed.told`), to be held from the first row on; `mapping` goes before it.

    What only a whole file can tell (columns, the unit of times, whether the day or the month stands first, the ratings'
    scale, whether positions start at 0) is decided at the first batch that tells it, and held: rows that contradict it
    go to Quarantine. Raises DataError if the file or its columns are no good, or if a check refuses the load; what was
    sent by then must not be published.
    """
    stream = _Stream(engine, source, mapping, items, unknown_item, checks, warns, now, told)
    with contextlib.closing(ahead(stream.batches())) as batches:
        for raw in batches:
            accepted, refused = stream.through(raw, seen)
            if accepted.num_rows:
                events.add(accepted)
            if refused.num_rows:
                quarantine.add(refused)
            tell(stream.tally.rows_in)
    return stream.finished()


class _Stream:
    def __init__(
        self,
        engine: TablesEngine,
        source: Path | RawFile | Iterable[Raw],
        mapping: Mapping[Column, str] | None,
        items: pa.ChunkedArray | pa.Array | None,
        unknown_item: str,
        checks: Sequence[BatchCheck],
        warns: Collection[str],
        now: int,
        told: Mapping[str, Any] | None,
    ) -> None:
        import pyarrow as pa

        self.tally = Tally()
        self._engine, self._mapping, self._checks, self._warns, self._now = engine, mapping, checks, warns, now
        self._source = open_raw(source) if isinstance(source, str | Path) else source
        self._items = items.combine_chunks() if isinstance(items, pa.ChunkedArray) else items
        self._strict = unknown_item == "quarantine"
        self._found: Detected | None = None
        self._told, self._held = told, Held(now)
        if told:
            self._held.recall(told["held"])
        self._notes: list[str] = []
        self._names: dict[str, None] = {}
        self._days: Counter[int] = Counter()
        self._actions: Counter[str] = Counter()
        self._bare: list[pa.Table] = []
        self._path: Path | None = None

    def batches(self) -> Iterator[Raw]:
        """The source's."""
        source = self._source
        return iter(source) if isinstance(source, Iterable) else rows_of(source)  # type: ignore[arg-type]

    def through(self, raw: Raw, seen: Seen) -> tuple[pa.Table, pa.Table]:
        """A batch: accepted events, and the rows for Quarantine."""
        found = self._columns_of(raw)
        gate = Gate(raw, self._warns)
        raw = self._whole(raw, found)
        gate.raw = raw
        columns, rest = laws(gate, found, self._held)
        if self._items is not None and self._strict:
            gate.refuse(~_is_in(columns[c.ITEM_ID], self._items), "unknown_item")
        identities(self._engine, gate, columns)
        gate.refuse(longer(columns[c.EVENT_ID], MAX_ID_LENGTH), "id_too_long")
        rows = np.flatnonzero(gate.passing)
        judge(self._checks, gate, rows, _typed(columns, rows), EVENTS)
        again = seen.admit(columns[c.EVENT_ID], gate.passing)
        gate.refuse(again, "duplicate")
        rows = np.flatnonzero(gate.passing)
        if found.outcomes:
            # They are part of what a row is, so of its id; but no context: they were not known when it was shown.
            columns[c.CONTEXT] = rest()
        events = _typed(columns, rows)
        if found.outcomes:
            events = outcomes(events, found, raw.table.take(_index(rows)), self._held)
        self._count(events)
        refused = gate.quarantine(self._now, EVENTS)
        self.tally.add(gate, refused)
        return events, refused

    def _columns_of(self, raw: Raw) -> Detected:
        names = set(raw.table.column_names)
        if self._found is None:
            self._found, self._path = self._resolved(raw), raw.path
            self._held.settle = self._settle
        elif names - self._names.keys():
            fresh = [name for name in raw.table.column_names if name not in self._names]
            first = int(raw.row_number[0]) if len(raw.row_number) else self.tally.rows_in + 1
            self._notes.append(f"From about row {first:,} on also kept in {c.CONTEXT}: {', '.join(fresh[:20])}.")
        self._names |= dict.fromkeys(raw.table.column_names)
        self._held.notes_of_file = raw.notes
        return self._found

    def _resolved(self, raw: Raw) -> Detected:
        if not self._told:
            return resolve(raw, EVENTS, self._mapping)
        told = self._told
        mapping = {column: told["mapping"][column] for column in EVENTS.columns if column in told["mapping"]}
        mapping |= self._mapping or {}
        how = {column: "as given" if column in (self._mapping or {}) else "as before" for column in mapping}
        action = None if c.ACTION in mapping else told["default_action"]
        return Detected(raw.format, mapping, (), action, dict(told["outcomes"]), how)

    def _whole(self, raw: Raw, found: Detected) -> Raw:
        """With every mapped column; a later part of a file may lack one."""
        import pyarrow as pa

        table = raw.table
        for name in (*found.mapping.values(), *found.outcomes):
            if name not in table.column_names:
                table = table.append_column(name, pa.nulls(table.num_rows, pa.string()))
        return raw if table is raw.table else replace(raw, table=table)

    def _settle(self, name: str, reader: values.TimeReader) -> None:
        """Read on in the file until its times tell whether day or month is first."""
        source = self._source
        if isinstance(source, Iterable):
            return
        for raw in source.batches():
            if (
                name in raw.table.column_names
                and reader.read(raw.table[name]).ambiguous is None
                and reader.day_first is not None
            ):
                return

    def _count(self, events: pa.Table) -> None:
        import pyarrow as pa
        import pyarrow.compute as pc

        if not events.num_rows:
            return
        days, counts = np.unique(events[c.HAPPENED_AT].cast(pa.int64()).to_numpy() // _DAY_US, return_counts=True)
        self._days.update(dict(zip(days.tolist(), counts.tolist(), strict=True)))
        for row in events[c.ACTION].value_counts().to_pylist():
            self._actions[row["values"]] += row["counts"]
        if self._items is None:
            return
        strange = events.select([c.ITEM_ID, c.HAPPENED_AT])
        if len(self._items):
            strange = strange.filter(pc.invert(pc.is_in(strange[c.ITEM_ID], value_set=self._items)))
        if strange.num_rows:
            self._bare.append(_first_seen(strange))
            if sum(part.num_rows for part in self._bare) > _COMPACT_ROWS + 2 * self._bare[0].num_rows:
                self._bare = [_first_seen(pa.concat_tables(self._bare))]

    def finished(self) -> Streamed:
        """The report, once all batches are through. Raises DataError if a check refuses the load."""
        if self._found is None or self._path is None:
            raise DataError(expected="rows to load", got="none", do="Give a file that has some.")
        bare = self._bare_items()
        notes = [*self._held.notes(self.tally.accepted), *self._notes]
        notes += [note for note in self._held.notes_of_file if note not in self._found.notes]
        if bare.num_rows:
            notes.append(f"{bare.num_rows:,} items are in the events but not in the catalog: added without facts.")
        report = self.tally.report(EVENTS, self._path, self._found, self._now, notes)
        days = dict(self._days)
        report = concluded(self._checks, report, EVENTS, days)
        told = {
            "columns": list(self._names),
            "mapping": {str(ours): theirs for ours, theirs in self._found.mapping.items()},
            "default_action": self._found.default_action,
            "outcomes": dict(self._found.outcomes),
            "held": self._held.memory(),
        }
        return Streamed(report, bare, dict(self._actions), days, told)

    def _bare_items(self) -> pa.Table:
        import pyarrow as pa

        if not self._bare:
            return ITEMS.arrow().empty_table()
        first = _first_seen(pa.concat_tables(self._bare)).sort_by(c.ITEM_ID)
        n = first.num_rows
        columns: dict[str, Any] = {
            c.ITEM_ID: first[c.ITEM_ID].combine_chunks(),
            c.AVAILABLE: pa.array(np.ones(n, bool)),
            c.KNOWN_AT: first[c.HAPPENED_AT].combine_chunks(),
        }
        return fitted(ITEMS, columns, n)


def _first_seen(events: pa.Table) -> pa.Table:
    found = events.group_by(c.ITEM_ID).aggregate([(c.HAPPENED_AT, "min")])
    return found.select([c.ITEM_ID, f"{c.HAPPENED_AT}_min"]).rename_columns([c.ITEM_ID, c.HAPPENED_AT])


def _typed(columns: Mapping[str, Any], rows: npt.NDArray[np.int64]) -> pa.Table:
    n = len(columns[c.USER_ID])
    if len(rows) < n:
        at = _index(rows)
        columns = {name: array.take(at) for name, array in columns.items()}
    return fitted(EVENTS, columns, len(rows))


def _index(rows: npt.NDArray[np.int64]) -> pa.Array:
    import pyarrow as pa

    return pa.array(rows)


def _is_in(array: pa.Array, known: pa.Array) -> Mask:
    import pyarrow.compute as pc

    return np.asarray(pc.is_in(array, value_set=known).to_numpy(zero_copy_only=False), bool)
