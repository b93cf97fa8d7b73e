"""Events: from a file through the gate, from the log back into the table, and on as arrays."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from honeyguide.contracts import Interactions, TablesEngine
from honeyguide.errors import DataError
from honeyguide.intake import values
from honeyguide.intake.catalog import bare_items
from honeyguide.intake.files import read
from honeyguide.intake.importers import Detected, resolve, yes
from honeyguide.intake.naming import PRICE_NAMES, squeezed
from honeyguide.intake.quality import MAX_ID_LENGTH, Gate, Report, fitted, gate_times
from honeyguide.schema import columns as c
from honeyguide.schema.columns import Column
from honeyguide.schema.tables import EVENTS, IMPRESSIONS, Table
from honeyguide.schema.vocabulary import Vocabulary

if TYPE_CHECKING:
    import ibis.expr.types as ir
    import pyarrow as pa

__all__ = ["EventsLoad", "from_log", "impressions_from_log", "interactions", "load_events"]

RATING = "rating"
YEAR_1990_US = 631_152_000_000_000
_MAX_POSITION = 1_000_000
_CELL_END = "\x1f"
# Scales in use; the smallest that nearly all ratings fit is taken for the file's.
_SCALES = ((0.0, 1.0), (-1.0, 1.0), (1.0, 5.0), (0.0, 5.0), (1.0, 10.0), (0.0, 10.0), (-10.0, 10.0), (0.0, 100.0))
_SCALE_ROWS, _SCALE_SHARE, _TOP_SHARE = 1000, 0.999, 0.01


@dataclass(frozen=True, slots=True)
class EventsLoad:
    """`events` (oldest first; ties keep the file's order) + `quarantine` = rows in, but for outcomes: where a row says
    that what was shown was also clicked (or bought), it makes two events and counts as one accepted row in `report`.
    `bare_items` are items that only the events know, when a catalog was given."""

    events: pa.Table
    quarantine: pa.Table
    report: Report
    bare_items: pa.Table


def load_events(
    engine: TablesEngine,
    path: Path,
    *,
    mapping: Mapping[Column, str] | None = None,
    items: pa.Table | None = None,
    unknown_item: Literal["add", "quarantine"] = "add",
    now: int,
) -> EventsLoad:
    """Read a file of events through the gate.

    An event without an id gets the MD5 of its row, so that a second load of the same file yields the same ids and a row
    that is there twice is a duplicate; the same person, item and moment with another action is not. `known_at` is
    `happened_at` unless a column says otherwise. Raises DataError if the file or its columns are no good.
    """
    import pyarrow as pa

    raw = read(Path(path))
    found = resolve(raw, EVENTS, mapping)
    gate, notes = Gate(raw), list[str]()
    n = raw.table.num_rows
    columns: dict[str, pa.Array] = {}
    for column, code in ((c.USER_ID, "missing_user"), (c.ITEM_ID, "missing_item")):
        columns[column] = values.text(raw.table[found.mapping[column]])
        gate.refuse(~_valid(columns[column]), code)
        gate.refuse(_longer(columns[column], MAX_ID_LENGTH), "id_too_long")
    columns |= _times(gate, found, now, notes)
    columns[c.ACTION] = _action(gate, found)
    columns[c.VALUE] = _value(gate, found, columns[c.ACTION], notes)
    columns |= _numbers_of_the_slot(gate, found, notes)
    for column in (c.EVENT_ID, c.SURFACE, c.REQUEST_ID, c.SESSION_ID, c.EXPERIMENT, c.QUERY, c.CONTEXT):
        if column in found.mapping:
            columns[column] = values.text(raw.table[found.mapping[column]])
    if c.CONTEXT not in found.mapping:
        rest = [name for name in raw.table.column_names if name not in found.mapping.values()]
        columns[c.CONTEXT] = values.objects(raw.table.select(rest))
    known = None if items is None else items[c.ITEM_ID]
    if known is not None and unknown_item == "quarantine":
        gate.refuse(~_is_in(columns[c.ITEM_ID], known), "unknown_item")
    columns[c.EVENT_ID] = _unique_ids(engine, gate, columns, n)
    rows = np.flatnonzero(gate.passing)
    at = columns[c.HAPPENED_AT].to_numpy()[rows]
    order = pa.array(rows[np.argsort(at, kind="stable")])
    if found.outcomes and c.CONTEXT not in found.mapping:
        # They are part of what a row is, so of its id; but no context: the outcome was not known when it was shown.
        rest = [name for name in rest if name not in found.outcomes]
        columns[c.CONTEXT] = values.objects(raw.table.select(rest))
    events = fitted(EVENTS, {name: array.take(order) for name, array in columns.items()}, len(rows))
    if found.outcomes:
        events = _with_outcomes(events, found, raw.table.take(order), notes)
    quarantine = gate.quarantine(now)
    bare = bare_items(events, known)
    if bare.num_rows:
        notes.append(f"{bare.num_rows:,} items are in the events but not in the catalog: added without facts.")
    return EventsLoad(events, quarantine, gate.report(EVENTS, found, quarantine, notes), bare)


def _with_outcomes(events: pa.Table, found: Detected, rows: pa.Table, notes: list[str]) -> pa.Table:
    """Impressions, each followed by what its row's outcomes say: the same event under another action and id."""
    import pyarrow as pa
    import pyarrow.compute as pc

    parts, places = [events], [np.arange(events.num_rows)]
    for name, action in found.outcomes.items():
        where = np.flatnonzero(pc.fill_null(yes(rows[name]), False).to_numpy(zero_copy_only=False))
        made = events.take(pa.array(where))
        ids = [hashlib.md5(f"{one}\x1f{action}".encode()).hexdigest() for one in made[c.EVENT_ID].to_pylist()]
        for column, cells in ((c.EVENT_ID, ids), (c.ACTION, [action] * len(ids))):
            made = made.set_column(made.schema.get_field_index(column), made.schema.field(column), [cells])
        parts.append(made)
        places.append(where)
        notes.append(
            f"{name} says what became of what was shown: each of the {events.num_rows:,} accepted rows is an "
            f"impression, and {len(where):,} of them a {action} as well (an accepted row counts once)."
        )
    order = np.argsort(np.concatenate(places), kind="stable")
    return pa.concat_tables(parts).take(pa.array(order)).combine_chunks()


def _times(gate: Gate, found: Detected, now: int, notes: list[str]) -> dict[str, pa.Array]:
    import pyarrow as pa

    name = found.mapping[c.HAPPENED_AT]
    read_as = gate_times(gate, name)
    notes.append(f"{name} was read as {read_as.unit}.")
    gate.refuse(read_as.missing, "missing_time")
    gate.refuse(read_as.us > now, "time_in_future")
    gate.refuse(read_as.us < YEAR_1990_US, "time_before_1990")
    known = read_as.us
    if c.KNOWN_AT in found.mapping:
        given = gate_times(gate, found.mapping[c.KNOWN_AT])
        known = np.where(given.missing, read_as.us, given.us)
        early = gate.passing & (known < read_as.us)
        if early.any():
            notes.append(
                f"{int(early.sum()):,} events were known before they happened: known_at is lifted to happened_at."
            )
        known = np.maximum(known, read_as.us)
    return {c.HAPPENED_AT: pa.array(read_as.us), c.KNOWN_AT: pa.array(known)}


def _action(gate: Gate, found: Detected) -> pa.Array:
    import pyarrow as pa
    import pyarrow.compute as pc

    if found.default_action is not None:
        return pa.array([found.default_action]).take(pa.array(np.zeros(gate.raw.table.num_rows, np.int64)))
    action = pc.utf8_lower(values.text(gate.raw.table[found.mapping[c.ACTION]]))
    gate.refuse(~_valid(action), "missing_action")
    gate.refuse(_longer(action, 64), "id_too_long")
    return action


def _value(gate: Gate, found: Detected, action: pa.Array, notes: list[str]) -> pa.Array:
    """The action's number. Only a rating needs one; a nan elsewhere is how some writers say "none"."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if c.VALUE not in found.mapping:
        return pa.nulls(gate.raw.table.num_rows, pa.float64())
    name = found.mapping[c.VALUE]
    read_as = values.numbers(gate.raw.table[name])
    rated = pc.fill_null(pc.equal(action, RATING), False).to_numpy(zero_copy_only=False)
    gate.refuse(read_as.unreadable, "unreadable_number")
    gate.refuse(read_as.not_finite & rated, "nan_value")
    gate.refuse(np.isnan(read_as.values) & rated, "missing_value")
    if squeezed(name) in PRICE_NAMES:
        gate.refuse(read_as.values < 0, "negative_price")
    scale = _rating_scale(read_as.values[rated & gate.passing])
    if scale is not None:
        low, high = scale
        gate.refuse(rated & ((read_as.values < low) | (read_as.values > high)), "rating_out_of_range")
        notes.append(f"Ratings were taken to be on the scale {low:g} to {high:g}.")
    lost = int((read_as.not_finite & gate.passing).sum())
    if lost:
        notes.append(f"{lost:,} values that are no finite number were read as no value.")
    return pa.array(read_as.values, from_pandas=True)


def _rating_scale(rated: npt.NDArray[np.float64]) -> tuple[float, float] | None:
    """The scale that 99.9 % of at least 1,000 ratings keep to, if its top grade is really given.

    The last condition tells ratings from counts, whose long tail would otherwise be refused.
    """
    if len(rated) < _SCALE_ROWS:
        return None
    for low, high in _SCALES:
        inside = (rated >= low) & (rated <= high)
        if inside.mean() >= _SCALE_SHARE:
            return (low, high) if np.mean(rated == high) >= _TOP_SHARE else None
    return None


def _numbers_of_the_slot(gate: Gate, found: Detected, notes: list[str]) -> dict[str, pa.Array]:
    import pyarrow as pa

    made: dict[str, pa.Array] = {}
    if c.POSITION in found.mapping:
        slots = values.numbers(gate.raw.table[found.mapping[c.POSITION]])
        gate.refuse(slots.unreadable | slots.not_finite, "unreadable_number")
        given = slots.values
        if np.any(given[gate.passing] == 0) and not np.any(given[gate.passing] < 0):
            notes.append("Positions start at 0: one was added.")
            given = given + 1
        has = ~np.isnan(given)
        gate.refuse(has & ((given < 1) | (given > _MAX_POSITION) | (given != np.round(given))), "position_out_of_range")
        fine = has & (given >= 1) & (given <= _MAX_POSITION)
        made[c.POSITION] = pa.array(np.where(fine, given, 0).astype(np.int32), mask=~fine)
    if c.PROPENSITY in found.mapping:
        chance = values.numbers(gate.raw.table[found.mapping[c.PROPENSITY]])
        gate.refuse(chance.unreadable | chance.not_finite, "unreadable_number")
        gate.refuse((chance.values <= 0) | (chance.values > 1), "propensity_out_of_range")
        made[c.PROPENSITY] = pa.array(chance.values, from_pandas=True)
    return made


def _unique_ids(engine: TablesEngine, gate: Gate, columns: Mapping[str, pa.Array], n: int) -> pa.Array:
    """An id for each row (its own, else the MD5 of its content); refuses all but the first row of an id."""
    import ibis
    import pyarrow as pa

    at = pa.array(np.flatnonzero(gate.passing))
    plain = {name: _exact(array) for name, array in columns.items() if array.null_count < n or name == c.USER_ID}
    everyone = len(at) == n
    rows = pa.table({c.ROW_NUMBER: at} | {name: a if everyone else a.take(at) for name, a in plain.items()})
    keyed = engine.table(rows, "rows")
    cells = [_escaped(keyed[name]) for name in sorted(plain) if name != c.EVENT_ID]
    identity = ibis.literal("").concat(*cells).hexdigest("md5")
    if c.EVENT_ID in plain:
        identity = ibis.coalesce(keyed[c.EVENT_ID], identity)
    named = keyed.select(keyed[c.ROW_NUMBER], identity.name(c.EVENT_ID))
    kept = engine.arrow(named.group_by(c.EVENT_ID).aggregate(named[c.ROW_NUMBER].min().name(c.ROW_NUMBER)))
    where = kept[c.ROW_NUMBER].to_numpy()
    place = np.full(n, -1, np.int64)
    place[where] = np.arange(len(where))
    gate.refuse(place < 0, "duplicate")
    ids = kept[c.EVENT_ID].combine_chunks()
    gate.refuse(_spread(_longer(ids, MAX_ID_LENGTH), place), "id_too_long")
    return ids.take(pa.array(place, mask=place < 0))


def _exact(array: pa.Array) -> pa.Array:
    # Engines print floats each in its own way; their bits they print alike.
    import pyarrow as pa
    import pyarrow.types as t

    return array.view(pa.int64()) if t.is_floating(array.type) else array


def _escaped(column: ir.Value) -> ir.StringValue:
    """A cell under its name, so that no two different rows read the same when joined."""
    import ibis

    cell = column.cast("string")
    if column.type().is_string():
        cell = cell.replace("\\", "\\\\").replace(_CELL_END, "\\e")
    return ibis.coalesce(ibis.literal(f"{column.get_name()}=").concat(cell, _CELL_END), "")


def _spread(flags: npt.NDArray[np.bool_], place: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    known = place >= 0
    spread = np.zeros(len(place), bool)
    spread[known] = flags[place[known]]
    return spread


def _valid(array: pa.Array) -> npt.NDArray[np.bool_]:
    return np.asarray(array.is_valid().to_numpy(zero_copy_only=False), bool)


def _longer(array: pa.Array, limit: int) -> npt.NDArray[np.bool_]:
    import pyarrow.compute as pc

    lengths = pc.fill_null(pc.utf8_length(array), 0).to_numpy(zero_copy_only=False)
    return np.asarray(lengths > limit)


def _is_in(array: pa.Array, known: pa.ChunkedArray) -> npt.NDArray[np.bool_]:
    import pyarrow.compute as pc

    return np.asarray(pc.is_in(array, value_set=known.combine_chunks()).to_numpy(zero_copy_only=False), bool)


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


def interactions(events: pa.Table, users: Vocabulary, items: Vocabulary, weights: Mapping[str, float]) -> Interactions:
    """Events (sorted by `happened_at`) as arrays of rows.

    `weights`: action -> strength of the sign of interest; an action that is not named weighs 0. `actions` holds the
    named ones first, in their order, then the others in order of appearance. Raises DataError for a person or item that
    the vocabularies do not hold, and for events out of order.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    user = _rows(events, c.USER_ID, users)
    item = _rows(events, c.ITEM_ID, items)
    at = events[c.HAPPENED_AT].cast(pa.int64()).to_numpy()
    if np.any(np.diff(at) < 0):
        raise DataError(expected="events oldest first", got="events out of order", do="Sort them by happened_at.")
    appeared = pc.unique(events[c.ACTION]).to_pylist()
    actions = (*weights, *(action for action in appeared if action not in weights))
    action = pc.index_in(events[c.ACTION], value_set=pa.array(actions, pa.string())).to_numpy().astype(np.int16)
    strength = np.array([weights.get(name, 0.0) for name in actions], np.float32)
    value = pc.fill_null(events[c.VALUE], np.nan).to_numpy().astype(np.float32)
    weight = strength[action] if len(action) else np.zeros(0, np.float32)
    return Interactions(user, item, action, value, weight, at, len(users), len(items), actions)


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
