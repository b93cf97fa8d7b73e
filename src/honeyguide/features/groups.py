"""The online tables: a row of cells per person, item or pair, found by number, in arrays that can be memory-mapped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from honeyguide.contracts import I64
from honeyguide.features.definition import Key
from honeyguide.features.held import Held
from honeyguide.features.keys import numbers
from honeyguide.features.plan import ITEM, USER, CellPlan, Codes
from honeyguide.kernels import aggregates as g
from honeyguide.kernels import lasting
from honeyguide.kernels import windows as w
from honeyguide.kernels.hashtable import EMPTY, filled, rows_of

__all__ = ["EVERYBODY", "Group"]

EVERYBODY = Key("user", "everybody")
"""Names the group whose one row is everybody's."""
_SPARE = 1024


@dataclass(slots=True)
class Group:
    """The cells of all entities of one kind.

    People's and items' rows are their own numbers, and the last one stays empty: somebody nobody knows. Pairs find
    theirs in a hash table, and row 0 stays empty. A pair's row is given back, when room is needed, once it is as empty
    as a new one: with windows alone there are as many rows as pairs in the longest window.
    """

    key: Key
    cells: CellPlan
    table: I64  # (rows, slots)
    keys: I64  # of the hash table of pairs
    values: I64
    tally_keys: I64  # of the table of codes that DISTINCT counts
    tally: I64

    @classmethod
    def new(cls, key: Key, cells: CellPlan, n: int) -> Group:
        """Without events, with room for `n` people or items."""
        rows = 1 if key == EVERYBODY else n + _spare(n) if key in (USER, ITEM) else _SPARE
        group = cls(key, cells, cells.empty(rows), *_hash(1), *_hash(1))
        if key not in (USER, ITEM, EVERYBODY):
            group.keys, group.values = _hash(2 * rows)
            group.values[-1] = 1
        return group

    ARRAYS = ("table", "keys", "values", "tally_keys", "tally")

    @property
    def hashed(self) -> bool:
        """Whether rows are found by a hash table."""
        return len(self.values) > 2

    def ensure(self, n: int) -> None:
        """Make room for so many people or items; a table without a spare row is copied with a tenth more."""
        if n >= len(self.table):  # the last row stays empty
            self.table = np.concatenate([self.table, self.cells.empty(n + _spare(n) - len(self.table))])

    def names(self, held: Held, keys: tuple[str, ...]) -> I64:
        """The number of each event's entity."""
        events = held.events
        if self.key == EVERYBODY:
            return np.where((events["user"] >= 0) | (events["item"] >= 0), 0, EMPTY)
        context = {name: held.context[:, at] for at, name in enumerate(keys)}
        return numbers(self.key, events["user"], events["item"], events["at"], context)

    def rows(self, names: I64, *, add: bool = False) -> I64:
        """Rows of the table by the entities' numbers, -1 where there is none."""
        if not self.hashed:
            return np.where(names == EMPTY, -1, names)
        if add and self.values[-1] + len(names) >= len(self.table):
            self._grow(len(names))
        return rows_of(self.keys, self.values, names, add)

    def _grow(self, more: int) -> None:
        used = int(self.values[-1])
        of_row = np.full(used, EMPTY)
        taken = self.keys != EMPTY
        of_row[self.values[:-1][taken]] = self.keys[taken]
        kept = np.flatnonzero((self.table[:used] != self.cells.empty_row).any(axis=1))
        table = self.cells.empty(1 + len(kept) + max(more, len(kept), _SPARE))
        table[1 : 1 + len(kept)] = self.table[kept]
        self.table = table
        self.keys, self.values = _hash(2 * len(table))
        self.values[-1] = 1
        rows_of(self.keys, self.values, of_row[kept], True)

    def fold(
        self,
        held: Held,
        keys: tuple[str, ...],
        codes: Codes,
        mode: int,
        starts: I64,
        span: tuple[int, int] | None = None,
    ) -> I64:
        """Add events, or take them away, in all cells or those of `span`; returns the rows."""
        first, end = (0, len(self.cells.cells)) if span is None else span
        if self.cells.plain and not self.hashed:
            rows = self._own_rows(held)
            w.fold_plain(rows, held.events, mode, first, end, starts, self.table, *self.cells.arrays)
            return rows
        names = self.names(held, keys)
        rows = self.rows(names, add=mode == g.ADD)
        if self.cells.plain:
            w.fold_plain(rows, held.events, mode, first, end, starts, self.table, *self.cells.arrays)
            return rows
        spread = self.cells.spread(codes)
        if spread and mode == g.ADD:
            self._make_room(spread * len(held))
        lasting.fold_rows(
            rows, names, held.events, mode, first, end, starts, self.table, *self.cells.arrays, *codes.arrays,
            self.tally_keys, self.tally,
        )  # fmt: skip
        return rows

    def _own_rows(self, held: Held) -> I64:
        if self.key == EVERYBODY:
            return np.where((held.events["user"] >= 0) | (held.events["item"] >= 0), 0, -1)
        return held.events[self.key.entity].astype(np.int64)

    def empty_lasting(self, rows: I64) -> None:
        """Empty the cells of some rows that cannot give an event back."""
        for cell, first in zip(self.cells.cells, self.cells.cell_i[:, g.OFFSET].tolist(), strict=True):
            if cell.kind in g.LASTING:
                slots = slice(first, first + cell.width)
                self.table[rows, slots] = self.cells.empty_row[slots]

    def _make_room(self, more: int) -> None:
        if 2 * (int(self.tally[-1]) + more) > len(self.tally_keys):
            live = int(np.count_nonzero(self.tally[:-1] > 0))
            keys, tally = _hash(4 * (live + more))
            filled(self.tally_keys, self.tally, keys, tally)
            self.tally_keys, self.tally = keys, tally

    def save(self, prefix: str) -> dict[str, npt.NDArray[Any]]:
        """Its arrays by name."""
        return {f"{prefix}_{name}": getattr(self, name) for name in self.ARRAYS}

    @classmethod
    def load(cls, key: Key, cells: CellPlan, arrays: Mapping[str, npt.NDArray[Any]], prefix: str) -> Group:
        """What `save` gave."""
        return cls(key, cells, *(arrays[f"{prefix}_{name}"] for name in cls.ARRAYS))


def _spare(n: int) -> int:
    """Rows kept free for who comes after."""
    return max(_SPARE, n // 10)


def _hash(least: int) -> tuple[I64, I64]:
    places = 1
    while places < least:
        places *= 2
    return np.full(places, EMPTY, np.int64), np.zeros(places + 1, np.int64)
