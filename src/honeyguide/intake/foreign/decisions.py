"""Logged choices with their propensities, as the Decisions table: what off-policy value reads."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from honeyguide.errors import DataError
from honeyguide.intake import values
from honeyguide.intake.foreign.base import Foreign
from honeyguide.intake.quality import Gate, fitted
from honeyguide.intake.raw import Raw
from honeyguide.schema import columns as c
from honeyguide.schema.tables import DECISIONS, QUARANTINE

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Decisions", "gathered"]

_NUMBERS = (c.POSITION, c.PROPENSITY, c.REWARD)
_MOST_SLOTS = 1_000_000


@dataclass(frozen=True, slots=True)
class Decisions:
    """`table` (schema.tables.DECISIONS, in the files' order) + `quarantine` = rows in; `notes` are for a person."""

    table: pa.Table
    quarantine: pa.Table
    notes: tuple[str, ...]

    @property
    def rows_in(self) -> int:
        """Choices and refused lines."""
        return int(self.table.num_rows + self.quarantine.num_rows)


def gathered(found: Foreign, now: int | None = None) -> Decisions:
    """All decisions of an export; `now` in microseconds. Raises DataError if its format logs none, or none is good."""
    import pyarrow as pa

    if DECISIONS not in found.tables:
        raise DataError(
            expected=f"logged choices with propensities in {found.path}",
            got=f"a {found.name} export, which has none",
            do="Give a DSJSON log or an Open Bandit log.",
        )
    at = time.time_ns() // 1000 if now is None else now
    good, bad, untimed = [DECISIONS.arrow().empty_table()], [QUARANTINE.arrow().empty_table()], 0
    seen: set[bytes] = set()
    for raw in found.file(DECISIONS).batches():
        accepted, refused, without = _judged(raw, at, untimed, seen)
        good.append(accepted)
        bad.append(refused)
        untimed += without
    notes = list(found.notes)
    if untimed:
        notes.append(f"{untimed:,} decisions have no time: they count as microseconds after 1970, in the file's order.")
    made = Decisions(pa.concat_tables(good), pa.concat_tables(bad), tuple(notes))
    if not made.table.num_rows:
        details = dict.fromkeys(made.quarantine[c.DETAIL].slice(0, 1000).to_pylist())
        raise DataError(
            expected=f"at least one good decision in {found.path}",
            got=f"{made.quarantine.num_rows:,} lines, all refused: {' '.join(list(details)[:3]) or 'an empty file'}",
            do="Export it again.",
        )
    return made


def _judged(raw: Raw, now: int, untimed: int, seen: set[bytes]) -> tuple[pa.Table, pa.Table, int]:
    """A batch as typed decisions, its refused rows, and how many had no time."""
    import pyarrow as pa

    table, gate = raw.table, Gate(raw)
    when = values.times(table[c.HAPPENED_AT])
    without = np.cumsum(when.missing)
    us = np.where(when.missing, untimed + without, when.us)
    gate.refuse(when.unreadable, "unreadable_time")
    gate.refuse(us > now, "time_in_future")
    gate.refuse(_again(table, seen), "duplicate")
    columns: dict[str, pa.Array] = {name: table[name].combine_chunks() for name in table.column_names}
    columns[c.HAPPENED_AT] = pa.array(us)
    for name in _NUMBERS:
        read = values.numbers(table[name])
        gate.refuse(read.unreadable | read.not_finite, "unreadable_number")
        columns[name] = pa.array(read.values, from_pandas=True)
    slot = values.numbers(table[c.POSITION]).values
    fine = (slot >= 1) & (slot <= _MOST_SLOTS) & (slot == np.round(slot))
    gate.refuse(~fine, "position_out_of_range")
    columns[c.POSITION] = pa.array(np.where(fine, slot, 0).astype(np.int32))
    kept = pa.array(np.flatnonzero(gate.passing))
    decided = fitted(DECISIONS, {name: column.take(kept) for name, column in columns.items()}, len(kept))
    return decided, gate.quarantine(now, DECISIONS), int(without[-1]) if len(without) else 0


def _again(table: pa.Table, seen: set[bytes]) -> npt.NDArray[np.bool_]:
    """Rows whose request and slot came before."""
    import pyarrow.compute as pc

    keys = pc.binary_join_element_wise(
        pc.fill_null(table[c.REQUEST_ID], ""), pc.fill_null(table[c.POSITION], ""), "\x1f"
    )
    again = np.zeros(table.num_rows, bool)
    for at, key in enumerate(keys.to_pylist()):
        digest = hashlib.blake2b(key.encode(), digest_size=12).digest()
        again[at] = digest in seen
        seen.add(digest)
    return again
