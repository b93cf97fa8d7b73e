"""The laws that every row of Events must keep, column by column, and what is held over the batches of one load."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from honeyguide.contracts import TablesEngine
from honeyguide.intake import values
from honeyguide.intake.importers import Detected, yes
from honeyguide.intake.naming import PRICE_NAMES, squeezed
from honeyguide.intake.quality import MAX_ID_LENGTH, Gate, good_times
from honeyguide.intake.raw import Raw
from honeyguide.schema import columns as c

if TYPE_CHECKING:
    import ibis.expr.types as ir
    import pyarrow as pa

__all__ = ["YEAR_1990_US", "Held", "identities", "laws", "longer", "outcomes", "valid"]

Mask = npt.NDArray[np.bool_]
Columns = dict[str, Any]

RATING = "rating"
YEAR_1990_US = 631_152_000_000_000
_MAX_POSITION = 1_000_000
_MAX_ACTION = 64
_CELL_END = "\x1f"
_TEXTS = (c.EVENT_ID, c.SURFACE, c.REQUEST_ID, c.SESSION_ID, c.EXPERIMENT, c.QUERY, c.CORRECTS)
# Scales in use; the smallest that nearly all ratings fit is taken for the file's.
_SCALES = ((0.0, 1.0), (-1.0, 1.0), (1.0, 5.0), (0.0, 5.0), (1.0, 10.0), (0.0, 10.0), (-10.0, 10.0), (0.0, 100.0))
_SCALE_ROWS, _SCALE_SHARE, _TOP_SHARE = 1000, 0.999, 0.01


class Held:
    """What a load's batches have told so far, and hold from there on; and the counts that its notes name."""

    def __init__(self, now: int) -> None:
        self.now = now
        self.notes_of_file: list[str] = []
        self.settle: Callable[[str, values.TimeReader], None] = lambda name, reader: None
        self.readers: dict[str, values.TimeReader] = {}
        self.units: dict[str, dict[str, None]] = {}
        self.early = self.lost = 0
        self.scale: tuple[float, float] | None = None
        self.from_zero: bool | None = None
        self.came_of_it: dict[str, tuple[str, int]] = {}  # outcome column -> action, how often
        self._rated: list[npt.NDArray[np.float64]] | None = []  # None: the scale is decided

    def learn_scale(self, rated: npt.NDArray[np.float64]) -> None:
        """Take ratings in; with enough of them the scale is decided for good."""
        if self._rated is None:
            return
        self._rated.append(rated)
        so_far = np.concatenate(self._rated)
        if len(so_far) >= _SCALE_ROWS:
            self.scale, self._rated = _rating_scale(so_far), None

    def memory(self) -> dict[str, Any]:
        """What the file has told, as JSON."""
        readers = {name: reader.memory() for name, reader in self.readers.items()}
        return {"times": readers, "scale": self.scale, "from_zero": self.from_zero}

    def recall(self, memory: Mapping[str, Any]) -> None:
        """Hold what another load of the same file's rows was told."""
        self.readers = {name: values.TimeReader.remembering(one) for name, one in memory["times"].items()}
        self.from_zero = memory["from_zero"]
        if memory["scale"] is not None:
            low, high = memory["scale"]
            self.scale, self._rated = (low, high), None

    def notes(self, accepted: int) -> list[str]:
        """For a person, at the end."""
        notes = [f"{name} was read as {' and '.join(units)}." for name, units in self.units.items()]
        if self.early:
            notes.append(f"{self.early:,} events were known before they happened: known_at is lifted to happened_at.")
        if self.scale is not None:
            low, high = self.scale
            notes.append(f"Ratings were taken to be on the scale {low:g} to {high:g}.")
        if self.lost:
            notes.append(f"{self.lost:,} values that are no finite number were read as no value.")
        if self.from_zero:
            notes.append("Positions start at 0: one was added.")
        for name, (action, count) in self.came_of_it.items():
            notes.append(
                f"{name} says what became of what was shown: each of the {accepted:,} accepted rows is an "
                f"impression, and {count:,} of them a {action} as well (an accepted row counts once)."
            )
        return notes


def laws(gate: Gate, found: Detected, held: Held) -> tuple[Columns, Callable[[], Any]]:
    """A batch's columns in our terms; bad rows are refused. The second value makes the context without outcomes."""
    raw, columns = gate.raw, Columns()
    for column, code in ((c.USER_ID, "missing_user"), (c.ITEM_ID, "missing_item")):
        columns[column] = values.text(raw.table[found.mapping[column]])
        gate.refuse(~valid(columns[column]), code)
        gate.refuse(longer(columns[column], MAX_ID_LENGTH), "id_too_long")
    columns |= _times(gate, found, held)
    columns[c.ACTION] = _action(gate, found)
    if c.VALUE in found.mapping:
        columns[c.VALUE] = _value(gate, found, columns[c.ACTION], held)
    columns |= _numbers_of_the_slot(gate, found, held)
    for column in _TEXTS:
        if column in found.mapping:
            columns[column] = values.text(raw.table[found.mapping[column]])
    for name in found.outcomes:
        cells = raw.table[name]
        gate.refuse(~valid(yes(cells)) & valid(values.text(cells)), "unreadable_outcome")
    rest = [name for name in raw.table.column_names if name not in found.mapping.values()]
    columns[c.CONTEXT] = _context(raw, found, rest)
    return columns, lambda: _context(raw, found, [name for name in rest if name not in found.outcomes])


def _time(gate: Gate, name: str, held: Held) -> values.Times:
    reader = held.readers.setdefault(name, values.TimeReader())
    read_as = reader.read(gate.raw.table[name])
    if read_as.ambiguous is not None:
        held.settle(name, reader)
        read_as = reader.read(gate.raw.table[name])
    held.units.setdefault(name, {})[read_as.unit] = None
    return good_times(gate, name, read_as)


def _times(gate: Gate, found: Detected, held: Held) -> Columns:
    import pyarrow as pa

    read_as = _time(gate, found.mapping[c.HAPPENED_AT], held)
    gate.refuse(read_as.missing, "missing_time")
    gate.refuse(read_as.us > held.now, "time_in_future")
    gate.refuse(read_as.us < YEAR_1990_US, "time_before_1990")
    happened = pa.array(read_as.us)
    if c.KNOWN_AT not in found.mapping:
        return {c.HAPPENED_AT: happened, c.KNOWN_AT: happened}
    given = _time(gate, found.mapping[c.KNOWN_AT], held)
    known = np.where(given.missing, read_as.us, given.us)
    held.early += int((gate.passing & (known < read_as.us)).sum())
    return {c.HAPPENED_AT: happened, c.KNOWN_AT: pa.array(np.maximum(known, read_as.us))}


def _action(gate: Gate, found: Detected) -> pa.Array:
    import pyarrow as pa
    import pyarrow.compute as pc

    if found.default_action is not None:
        return pa.repeat(pa.scalar(found.default_action, pa.string()), gate.raw.table.num_rows)
    # There are few actions: each is looked at once.
    coded = values.unchunked(gate.raw.table[found.mapping[c.ACTION]]).dictionary_encode()
    words = pc.utf8_lower(values.text(pa.chunked_array([coded.dictionary])))
    action = words.take(coded.indices)
    gate.refuse(~valid(action), "missing_action")
    gate.refuse(longer(action, _MAX_ACTION), "id_too_long")
    return action


def _value(gate: Gate, found: Detected, action: pa.Array, held: Held) -> pa.Array:
    """The action's number. Only a rating needs one; a nan elsewhere is how some writers say "none"."""
    import pyarrow as pa
    import pyarrow.compute as pc

    name = found.mapping[c.VALUE]
    read_as = values.numbers(gate.raw.table[name])
    rated = pc.fill_null(pc.equal(action, RATING), False).to_numpy(zero_copy_only=False)
    gate.refuse(read_as.unreadable, "unreadable_number")
    if rated.any():
        gate.refuse(read_as.not_finite & rated, "nan_value")
        gate.refuse(np.isnan(read_as.values) & rated, "missing_value")
    if squeezed(name) in PRICE_NAMES:
        gate.refuse(read_as.values < 0, "negative_price")
    if rated.any():
        held.learn_scale(read_as.values[rated & gate.passing])
        if held.scale is not None:
            low, high = held.scale
            gate.refuse(rated & ((read_as.values < low) | (read_as.values > high)), "rating_out_of_range")
    held.lost += int((read_as.not_finite & gate.passing).sum())
    return pa.array(read_as.values, from_pandas=True)


def _rating_scale(rated: npt.NDArray[np.float64]) -> tuple[float, float] | None:
    """The scale that 99.9 % of the ratings keep to, if its top grade is really given.

    The last condition tells ratings from counts, whose long tail would otherwise be refused.
    """
    for low, high in _SCALES:
        inside = (rated >= low) & (rated <= high)
        if inside.mean() >= _SCALE_SHARE:
            return (low, high) if np.mean(rated == high) >= _TOP_SHARE else None
    return None


def _numbers_of_the_slot(gate: Gate, found: Detected, held: Held) -> Columns:
    import pyarrow as pa

    made = Columns()
    if c.POSITION in found.mapping:
        slots = values.numbers(gate.raw.table[found.mapping[c.POSITION]])
        gate.refuse(slots.unreadable | slots.not_finite, "unreadable_number")
        given = slots.values
        there = given[gate.passing]
        if held.from_zero is None and not np.all(np.isnan(there)):
            held.from_zero = bool(np.any(there == 0) and not np.any(there < 0))
        if held.from_zero:
            given = given + 1
        has = ~np.isnan(given)
        fine = has & (given >= 1) & (given <= _MAX_POSITION) & (given == np.round(given))
        gate.refuse(has & ~fine, "position_out_of_range")
        made[c.POSITION] = pa.array(np.where(fine, given, 0).astype(np.int32), mask=~fine)
    if c.PROPENSITY in found.mapping:
        chance = values.numbers(gate.raw.table[found.mapping[c.PROPENSITY]])
        gate.refuse(chance.unreadable | chance.not_finite, "unreadable_number")
        gate.refuse((chance.values <= 0) | (chance.values > 1), "propensity_out_of_range")
        made[c.PROPENSITY] = pa.array(chance.values, from_pandas=True)
    return made


def _context(raw: Raw, found: Detected, rest: list[str]) -> pa.Array:
    """The file's own context and the columns that are none of ours, as one JSON object."""
    others = values.objects(raw.table.select(rest)) if raw.written is None else raw.written.objects(rest)
    if c.CONTEXT not in found.mapping:
        return others
    return values.both_objects(values.text(raw.table[found.mapping[c.CONTEXT]]), others, name=c.CONTEXT)


# --------------------------------------------------------------------------------------------------------- ids


def identities(engine: TablesEngine, gate: Gate, columns: Columns) -> None:
    """Fills EVENT_ID: each passing row has its own id, else the MD5 of its content."""
    import pyarrow as pa
    import pyarrow.compute as pc

    n = gate.raw.table.num_rows
    own = columns.pop(c.EVENT_ID, None)
    without = gate.passing if own is None else gate.passing & ~valid(own)
    rows = np.flatnonzero(without)
    if own is None:
        own = pa.nulls(n, pa.string())
    if len(rows):
        made = _of_content(engine, columns, rows, n)
        own = made if len(rows) == n else pc.replace_with_mask(own, pa.array(without), made)
    columns[c.EVENT_ID] = own


def _of_content(engine: TablesEngine, columns: Columns, rows: npt.NDArray[np.int64], n: int) -> pa.Array:
    import ibis
    import pyarrow as pa

    at = pa.array(rows)
    plain = {name: _exact(array) for name, array in columns.items() if array.null_count < n or name == c.USER_ID}
    if len(rows) < n:
        plain = {name: array.take(at) for name, array in plain.items()}
    keyed = engine.table(pa.table({c.ROW_NUMBER: at} | plain), "rows")
    cells = [_escaped(keyed[name]) for name in sorted(plain)]
    identity = ibis.literal("").concat(*cells).hexdigest("md5")
    made = engine.arrow(keyed.select(keyed[c.ROW_NUMBER], identity.name(c.EVENT_ID)))
    number = made[c.ROW_NUMBER].to_numpy()
    ids = values.unchunked(made[c.EVENT_ID])
    # An engine promises no order.
    return ids if np.all(number[1:] > number[:-1]) else ids.take(pa.array(np.argsort(number)))


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


# ---------------------------------------------------------------------------------------------------- outcomes


def outcomes(events: pa.Table, found: Detected, rows: pa.Table, held: Held) -> pa.Table:
    """Impressions, each followed by what its row's outcomes say: the same event under another action and id."""
    import pyarrow as pa
    import pyarrow.compute as pc

    parts, places = [events], [np.arange(events.num_rows)]
    for name, action in found.outcomes.items():
        where = np.flatnonzero(pc.fill_null(yes(rows[name]), False).to_numpy(zero_copy_only=False))
        made = events.take(pa.array(where))
        ids = [hashlib.md5(f"{one}\x1f{action}".encode()).hexdigest() for one in made[c.EVENT_ID].to_pylist()]
        for column, cells in ((c.EVENT_ID, ids), (c.ACTION, [action] * len(ids))):
            made = made.set_column(
                made.schema.get_field_index(column), made.schema.field(column), pa.array(cells, pa.string())
            )
        parts.append(made)
        places.append(where)
        held.came_of_it[name] = (action, held.came_of_it.get(name, (action, 0))[1] + len(where))
    order = np.argsort(np.concatenate(places), kind="stable")
    return pa.concat_tables(parts).take(pa.array(order)).combine_chunks()


# ------------------------------------------------------------------------------------------------------- cells


def valid(array: pa.Array) -> Mask:
    """Which cells are not null."""
    if not array.null_count:
        return np.ones(len(array), bool)
    return np.asarray(array.is_valid().to_numpy(zero_copy_only=False), bool)


def longer(array: pa.Array, limit: int) -> Mask:
    """Which texts have more characters than `limit`."""
    import pyarrow.compute as pc

    offsets, _ = values.parts_of(array)
    if not np.any(np.diff(offsets) > limit):  # a character is a byte or more
        return np.zeros(len(array), bool)
    lengths = pc.fill_null(pc.utf8_length(array), 0).to_numpy(zero_copy_only=False)
    return np.asarray(lengths > limit)
