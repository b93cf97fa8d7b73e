"""What was shown in answer to which request: the join of what people did to what they saw."""

from __future__ import annotations

from array import array
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Showings"]

_MASK = (1 << 64) - 1


class Showings:
    """Slots of items by request, and a few facts of each request. Add all, then look up.

    Keys are kept as 64-bit hashes: of 100 million showings two collide with a chance of 1 in 4,000.
    """

    def __init__(self) -> None:
        self._shown, self._slots = array("Q"), array("i")
        self._requests, self._facts = array("Q"), array("i")
        self._codes: dict[tuple[str | None, ...], int] = {}
        self._distinct: list[tuple[str | None, ...]] = []
        self._order: tuple[npt.NDArray[np.int64], npt.NDArray[np.uint64]] | None = None
        self._by_request: tuple[npt.NDArray[np.int64], npt.NDArray[np.uint64]] | None = None
        self._items: set[int] = set()

    def add(self, request: str, items: list[str | None], facts: tuple[str | None, ...]) -> None:
        """A request's list, first slot first, and its facts (such as who asked, and for what)."""
        self._requests.append(hash(request) & _MASK)
        code = self._codes.get(facts)
        if code is None:
            code = self._codes[facts] = len(self._distinct)
            self._distinct.append(facts)
        self._facts.append(code)
        for slot, item in enumerate(items, 1):
            if item is not None:
                self._shown.append(hash((request, item)) & _MASK)
                self._slots.append(slot)
                self._items.add(hash(item))

    def slot(self, request: str | None, item: str | None) -> int | None:
        """The first slot in which a request's list held an item; None if it did not."""
        if request is None or item is None or not self._shown:
            return None
        if self._order is None:
            self._order = _sorted(self._shown)
        at = _find(self._order, hash((request, item)) & _MASK)
        return None if at is None else self._slots[at]

    def facts(self, request: str | None) -> tuple[str | None, ...] | None:
        """A request's facts; None if nobody knows it."""
        if request is None or not self._requests:
            return None
        if self._by_request is None:
            self._by_request = _sorted(self._requests)
        at = _find(self._by_request, hash(request) & _MASK)
        return None if at is None else self._distinct[self._facts[at]]

    def ever(self, item: Any) -> bool:
        """Whether any list held an item."""
        return hash(item) in self._items


def _sorted(keys: array[int]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint64]]:
    values = np.frombuffer(keys, np.uint64)
    order = np.argsort(values, kind="stable")
    return order, values[order]


def _find(found: tuple[npt.NDArray[np.int64], npt.NDArray[np.uint64]], key: int) -> int | None:
    order, values = found
    at = int(np.searchsorted(values, np.uint64(key)))
    return int(order[at]) if at < len(values) and values[at] == key else None
