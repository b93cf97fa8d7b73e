"""What makes a replay exactly once: what becomes of each row is on disk before the rows enter their table.

The rows enter with the replay's number in the version's own manifest (`Snapshot.logs`), put in force by one rename. A
replay that dies before the rename has done nothing; one that dies after it is finished by the next, which finds the
number and only marks.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import defaultdict, deque
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from honeyguide.engines.tables.arrow import publish
from honeyguide.engines.tables.parts import Part, file_rows
from honeyguide.engines.tables.snapshot import Snapshots
from honeyguide.flows.layout import Layout
from honeyguide.flows.loading.records import LoadRecord, remember
from honeyguide.intake.quality import Report
from honeyguide.schema import columns as c
from honeyguide.schema.tables import EVENTS, ITEMS, QUARANTINE, USERS, Table

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["KEY", "REPLAYED", "HeldRow", "Outcome", "Pending", "recover", "replay_log"]

KEY = (c.LOAD_ID, c.MEANT_FOR, c.SOURCE_FILE, c.ROW_NUMBER, c.REASON, c.RAW)
"""What tells a row of Quarantine from others; rows that agree in all of it are as good as each other."""
REPLAYED = {table.name: table for table in (ITEMS, USERS, EVENTS)}
"""Tables whose rows can re-enter, in the order in which they do: an event may wait for its item."""
_NEW_REASON, _NEW_DETAIL = "new_reason", "new_detail"


@dataclass(frozen=True, slots=True)
class HeldRow:
    """A row of Quarantine."""

    key: tuple[Any, ...]

    @property
    def load(self) -> str:
        """The load that met it."""
        return str(self.key[0])

    @property
    def file(self) -> str:
        """The name of the file that it came from."""
        return str(self.key[2])

    @property
    def reason(self) -> str:
        """Why it is held."""
        return str(self.key[4])

    @property
    def raw(self) -> str:
        """The row as it came."""
        return str(self.key[5])


@dataclass(slots=True)
class Outcome:
    """What became of rows: None for one that entered, else its new reason and detail."""

    rows: list[HeldRow]
    why: list[tuple[str, str] | None]
    refused: list[pa.Table]  # of a mended file: the rows that were refused
    rows_in: int
    reports: list[Report]
    days: dict[int, int]

    @property
    def accepted(self) -> int:
        """Rows that entered."""
        return sum(report.accepted for report in self.reports)


def replay_log(table: Table) -> str:
    """Under this name a version says which replays of the table are in it (or, in Quarantine, marked)."""
    return f"replay:{table.name}"


def recover(layout: Layout) -> list[LoadRecord]:
    """Finish a replay that was cut short after its rows had entered; forget one that was before. What was finished."""
    tables = Snapshots(layout.tables)
    finished = []
    for table in REPLAYED.values():
        pending = Pending.found(layout, table)
        if pending is not None:
            if tables.offset(table.name, replay_log(table)) >= pending.number:
                finished.append(pending.finish(tables))
            else:
                pending.forget()
    return finished


class Pending:
    """What a replay is about to do to Quarantine, on disk before its rows enter."""

    def __init__(self, layout: Layout, table: Table, number: int) -> None:
        self._layout, self._table, self.number = layout, table, number
        self._folder = layout.loads / f"replaying-{table.name}"

    @classmethod
    def found(cls, layout: Layout, table: Table) -> Pending | None:
        """The one that was left, if one was."""
        pending = cls(layout, table, 0)
        shutil.rmtree(pending._half, ignore_errors=True)
        if not pending._folder.is_dir():
            return None
        pending.number = int(json.loads((pending._folder / "number.json").read_text()))
        return pending

    @property
    def _half(self) -> Path:
        return self._folder.with_name(f".{self._folder.name}.tmp")

    def write(self, outcome: Outcome, record: LoadRecord) -> None:
        """Put it on disk, whole or not at all."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        shutil.rmtree(self._half, ignore_errors=True)
        self._half.mkdir(parents=True)
        schema = QUARANTINE.arrow()
        columns = {str(name): [row.key[at] for row in outcome.rows] for at, name in enumerate(KEY)}
        arrays = [pa.array(cells, schema.field(name).type) for name, cells in columns.items()]
        arrays += [pa.array([one and one[at] for one in outcome.why], pa.string()) for at in (0, 1)]
        marks = pa.table(arrays, [*columns, _NEW_REASON, _NEW_DETAIL])
        refused = [table.cast(schema) for table in outcome.refused]
        for name, table in (
            ("marks", marks),
            ("refused", pa.concat_tables(refused) if refused else schema.empty_table()),
        ):
            pq.write_table(table, self._half / f"{name}.new", compression="zstd")
            publish(self._half / f"{name}.new", self._half / f"{name}.parquet")
        for name, data in (("record", msgspec.json.encode(record)), ("number", json.dumps(self.number).encode())):
            (self._half / f"{name}.new").write_bytes(data)
            publish(self._half / f"{name}.new", self._half / f"{name}.json")
        os.rename(self._half, self._folder)

    def finish(self, tables: Snapshots) -> LoadRecord:
        """Mark the rows, add those of a mended file that were refused, remember the load; each step once."""
        import pyarrow.parquet as pq

        record = msgspec.json.decode((self._folder / "record.json").read_bytes(), type=LoadRecord)
        refused = pq.read_table(self._folder / "refused.parquet")
        mended, marked = f"mended:{self._table.name}", replay_log(self._table)
        if tables.offset(QUARANTINE.name, mended) < self.number:
            # Also brings what an older version wrote into the columns of this one.
            with tables.appender(QUARANTINE.name, logs={mended: self.number}) as writer:
                writer.add(refused)
        if tables.offset(QUARANTINE.name, marked) < self.number:
            marks = _Marks(pq.read_table(self._folder / "marks.parquet"), record)
            with tables.rewriting(QUARANTINE.name, logs={marked: self.number}) as rewriting:
                for part in rewriting.had:
                    if marks.touches(part):
                        rewriting.put(part, map(marks.set, file_rows([part.path])))
                    else:
                        rewriting.keep(part)
        remember(self._layout, record)
        self.forget()
        return record

    def forget(self) -> None:
        """Remove it, whole at once."""
        if self._folder.exists():
            shutil.rmtree(self._half, ignore_errors=True)
            os.rename(self._folder, self._half)
        shutil.rmtree(self._half, ignore_errors=True)


class _Marks:
    """Which rows of Quarantine entered, and the new reasons of those that did not."""

    def __init__(self, marks: pa.Table, record: LoadRecord) -> None:
        import pyarrow.compute as pc

        self._at = int(np.datetime64(record.at.removesuffix("+00:00"), "us").astype(np.int64))
        self._loads = set(pc.unique(marks[c.LOAD_ID]).to_pylist())
        self._left: defaultdict[tuple[Any, ...], deque[tuple[str | None, str | None]]] = defaultdict(deque)
        for row in marks.to_pylist():
            key = tuple(row[name] for name in KEY)
            self._left[key].append((row[_NEW_REASON], row[_NEW_DETAIL]))

    def touches(self, part: Part) -> bool:
        """Whether a part has rows of the loads."""
        import pyarrow.compute as pc

        return any(
            self._loads & set(pc.unique(rows[c.LOAD_ID]).to_pylist()) for rows in file_rows([part.path], [c.LOAD_ID])
        )

    def set(self, rows: pa.Table) -> pa.Table:
        """The same rows, marked."""
        import pyarrow as pa

        keys = zip(*(rows[name].to_pylist() for name in KEY), strict=True)
        back = rows[c.REPLAYED_AT].cast(pa.int64()).to_pylist()
        reasons, details = rows[c.REASON].to_pylist(), rows[c.DETAIL].to_pylist()
        for at, key in enumerate(keys):
            if back[at] is not None or not self._left.get(key):
                continue
            reason, detail = self._left[key].popleft()
            if reason is None:
                back[at] = self._at
            else:
                reasons[at], details[at] = reason, detail
        for name, cells in ((c.REASON, reasons), (c.DETAIL, details), (c.REPLAYED_AT, back)):
            place = rows.schema.get_field_index(name)
            kind = rows.schema.field(place).type
            plain = pa.array(cells, pa.int64() if name == c.REPLAYED_AT else kind)
            rows = rows.set_column(place, rows.schema.field(place), plain.cast(kind))
        return rows
