"""Events: from a file through the gate, from the log back into the table, and on as arrays."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from honeyguide.contracts import RETRACT, Interactions, TablesEngine
from honeyguide.errors import DataError
from honeyguide.intake.files import Raw, RawFile
from honeyguide.intake.quality import BatchCheck, Report, fitted
from honeyguide.intake.seen import Seen
from honeyguide.intake.stream import stream_events
from honeyguide.intake.versions import NEVER, context_codes, versions
from honeyguide.schema import columns as c
from honeyguide.schema.columns import Column
from honeyguide.schema.tables import EVENTS, IMPRESSIONS, QUARANTINE, Table
from honeyguide.schema.vocabulary import Vocabulary

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["EventsLoad", "from_log", "impressions_from_log", "interactions", "load_events"]


@dataclass(frozen=True, slots=True)
class EventsLoad:
    """`events` (oldest first; ties keep the file's order) + `quarantine` = rows in, but for outcomes: where a row says
    that what was shown was also clicked (or bought), it makes two events and counts as one accepted row in `report`.
    `bare_items` are items that only the events know, when a catalog was given."""

    events: pa.Table
    quarantine: pa.Table
    report: Report
    bare_items: pa.Table


class _Held(list["pa.Table"]):
    """A sink that keeps what it is given."""

    def add(self, batch: pa.Table) -> None:
        self.append(batch)


def load_events(
    engine: TablesEngine,
    source: Path | RawFile | Iterable[Raw],
    *,
    mapping: Mapping[Column, str] | None = None,
    items: pa.Table | None = None,
    unknown_item: Literal["add", "quarantine"] = "add",
    checks: Sequence[BatchCheck] = (),
    warns: Collection[str] = (),
    now: int,
) -> EventsLoad:
    """Read a file of events through the gate into memory; `stream.stream_events` does it for any size, and says more.

    An event without an id gets the MD5 of its row, so that a second load of the same file yields the same ids and a row
    that is there twice is a duplicate; the same person, item and moment with another action is not. `known_at` is
    `happened_at` unless a column says otherwise. Raises DataError if the file or its columns are no good.
    """
    import pyarrow as pa

    events, quarantine = _Held(), _Held()
    known = None if items is None else items[c.ITEM_ID]
    with Seen() as seen:
        done = stream_events(
            engine, source, events, quarantine, seen=seen, mapping=mapping, items=known, unknown_item=unknown_item,
            checks=checks, warns=warns, now=now,
        )  # fmt: skip
    return EventsLoad(
        _sorted(pa.concat_tables([EVENTS.arrow().empty_table(), *events]), c.HAPPENED_AT).combine_chunks(),
        pa.concat_tables([QUARANTINE.arrow().empty_table(), *quarantine]).combine_chunks(),
        done.report,
        done.bare_items,
    )


# ------------------------------------------------------------------------------------------- the ring closes


def from_log(payloads: Iterable[bytes]) -> pa.Table:
    """Payloads of the log's `event` records as Events, oldest first; ties keep the log's order.

    A payload is a msgpack map of Events columns, times in microseconds, `context` as a map or as JSON text.
    """
    return _sorted(_unpacked(payloads, EVENTS), c.HAPPENED_AT)


def impressions_from_log(payloads: Iterable[bytes]) -> pa.Table:
    """Payloads of the log's `impression` records as Impressions, oldest first."""
    return _sorted(_unpacked(payloads, IMPRESSIONS), c.HAPPENED_AT)


def _unpacked(payloads: Iterable[bytes], table: Table) -> pa.Table:
    import pyarrow as pa

    decode = msgspec.msgpack.Decoder(dict[str, Any]).decode
    rows = [decode(payload) for payload in payloads]
    arrays: dict[str, pa.Array] = {}
    for column in table.columns:
        cells = [row.get(column) for row in rows]
        if column.dtype == "json":
            cells = [_json_text(cell) for cell in cells]
        if not column.nullable and None in cells:
            expected = f"{column} in every record for {table.name}"
            raise DataError(expected=expected, got="a record without it", do="Mend what writes the log.")
        plain = pa.int64() if column.dtype == "timestamp" else table.arrow().field(column).type
        arrays[column] = pa.array(cells, plain)
    return fitted(table, arrays, len(rows))


def _json_text(cell: object) -> str | None:
    if cell is None or isinstance(cell, str):
        return cell
    return msgspec.json.encode(cell).decode() if cell else None


def _sorted(table: pa.Table, by: Column) -> pa.Table:
    import pyarrow as pa

    at = table[by].cast(pa.int64()).to_numpy()
    return table.take(pa.array(np.argsort(at, kind="stable")))


# ------------------------------------------------------------------------------------------------- as arrays


def interactions(
    events: pa.Table, users: Vocabulary, items: Vocabulary, weights: Mapping[str, float], context: Iterable[str] = ()
) -> Interactions:
    """Events (sorted by `happened_at`) as arrays of rows, with former versions of those that were corrected.

    `weights`: action -> strength of the sign of interest; an action that is not named weighs 0. `actions` holds the
    named ones first, in their order, then the others in order of appearance. context: the facts of the moment that
    are wanted as codes. Raises DataError for a person or item that the vocabularies do not hold, and for events out of
    order.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    at = events[c.HAPPENED_AT].cast(pa.int64()).to_numpy()
    if np.any(np.diff(at) < 0):
        raise DataError(expected="events oldest first", got="events out of order", do="Sort them by happened_at.")
    appeared = [action for action in pc.unique(events[c.ACTION]).to_pylist() if action != RETRACT]
    actions = (*weights, *(action for action in appeared if action not in weights))
    told = versions(events)

    def part(rows: pa.Table, which: npt.NDArray[np.bool_] | slice) -> Interactions:
        action = pc.index_in(rows[c.ACTION], value_set=pa.array(actions, pa.string())).to_numpy().astype(np.int16)
        strength = np.array([weights.get(name, 0.0) for name in actions], np.float32)
        known, ended = told.known[which], told.until[which]
        return Interactions(
            _rows(rows, c.USER_ID, users),
            _rows(rows, c.ITEM_ID, items),
            action,
            pc.fill_null(rows[c.VALUE], np.nan).to_numpy().astype(np.float32),
            strength[action] if len(action) else np.zeros(0, np.float32),
            at[which],
            len(users),
            len(items),
            actions,
            None if np.array_equal(known, at[which]) else known,
            told.event[which],
            {name: context_codes(rows, name) for name in context},
            ended if np.any(ended < NEVER) else None,
        )

    if told.standing.all():
        return part(events, slice(None))
    former = part(events.filter(pa.array(told.former)), told.former) if told.former.any() else None
    return replace(part(events.filter(pa.array(told.standing)), told.standing), former=former)


def _rows(events: pa.Table, column: Column, vocabulary: Vocabulary) -> npt.NDArray[np.int32]:
    import pyarrow as pa
    import pyarrow.compute as pc

    ids = pa.array(vocabulary.ids, pa.string())
    rows = pc.fill_null(pc.index_in(events[column], value_set=ids), -1).to_numpy().astype(np.int32)
    unknown = np.flatnonzero(rows < 0)
    if len(unknown):
        got = f"{len(unknown):,} events with others, such as {events[column][int(unknown[0])].as_py()!r}"
        raise DataError(
            expected=f"only a {column} of the vocabulary",
            got=got,
            do="Add them to the vocabulary, or leave those events out.",
        )
    return rows
