"""How often each person was shown each item lately: what frequency caps and fatigue ask."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from honeyguide.contracts import I32, I64
from honeyguide.kernels.showings import chain

__all__ = ["ROOM", "Showings"]

ROOM = 2_000_000
"""Showings of everybody that are remembered, the newest: 20 bytes each, and about 150 for each of their people."""
MOST = 2_000
"""Showings of one person that are looked at, the newest."""
_FIRST = 4_096


class Showings:
    """The newest `room` showings of everybody, by person. One thread writes and reads it.

    Memory is bounded: older showings are overwritten, and people all of whose showings are gone are dropped.
    Implements `Erasable`.
    """

    def __init__(self, room: int = ROOM) -> None:
        self._room, size = room, min(room, _FIRST)
        self._item: I32 = np.full(size, -1, np.int32)
        self._at: I64 = np.zeros(size, np.int64)
        self._before: I64 = np.full(size, -1, np.int64)
        self._newest: dict[str, int] = {}
        self._written = 0

    def __len__(self) -> int:
        return min(self._written, len(self._item))

    @property
    def people(self) -> Iterable[str]:
        """Everybody of whom something is remembered."""
        return self._newest.keys()

    def add(self, user_id: str, items: Sequence[int] | I32, at_us: int) -> None:
        """One list as shown; rows of -1 are left out. Lists must come in the order of time."""
        rows = np.asarray(items, np.int32)
        rows = rows[rows >= 0][-self._room :]
        if not len(rows) or not user_id:
            return
        while self._written + len(rows) > len(self._item) < self._room:
            self._grow()
        numbers = np.arange(self._written, self._written + len(rows))
        place = numbers % len(self._item)
        self._item[place], self._at[place], self._before[place] = rows, at_us, numbers - 1
        self._before[place[0]] = self._newest.get(user_id, -1)
        self._newest[user_id] = int(numbers[-1])
        turn = self._written // self._room
        self._written += len(rows)
        if self._written // self._room > turn:
            oldest = self._written - len(self._item)
            self._newest = {who: number for who, number in self._newest.items() if number >= oldest}

    def of(self, user_id: str, since_us: int) -> tuple[I32, I64]:
        """Item rows and moments of a person's showings since then, newest first."""
        newest = self._newest.get(user_id, -1)
        found: tuple[I32, I64] = chain(self._item, self._at, self._before, newest, self._written, since_us, MOST)
        return found

    def erase(self, user_id: str) -> int:
        """Remove every trace of a person; returns how many showings went."""
        number, gone = self._newest.pop(user_id, -1), 0
        while number >= max(self._written - len(self._item), 0):
            place = number % len(self._item)
            number = int(self._before[place])
            self._item[place], self._before[place], self._at[place] = -1, -1, 0
            gone += 1
        return gone

    def _grow(self) -> None:
        size = min(2 * len(self._item), self._room)
        for name in ("_item", "_at", "_before"):
            had = getattr(self, name)
            grown = np.full(size, -1, had.dtype)
            grown[: len(had)] = had
            setattr(self, name, grown)
