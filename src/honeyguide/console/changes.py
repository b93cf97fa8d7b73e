"""What a click changed: two lists of items, compared slot by slot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Change", "compare"]


@dataclass(frozen=True)
class Change:
    """`new`: items that were not in the old list. `moved`: how many slots an item rose (positive) or fell."""

    total: int
    new: frozenset[str]
    moved: dict[str, int]

    def sentence(self, cause: str) -> str:
        """The change in words: "<cause> changed 7 of 20"."""
        if not self.total:
            return f"{cause} is logged. There is nothing left to show."
        if not self.new and not self.moved:
            return f"{cause} is logged. The list stays as it was."
        if not self.new:
            return f"{cause} moved {len(self.moved)} of {self.total}; the same titles in another order."
        return f"{cause} changed {len(self.new)} of {self.total}."


def compare(old: Sequence[str], new: Sequence[str], *, taken: str | None = None) -> Change:
    """Compare two lists; ids appear once in each.

    `taken`: the item that was clicked. It is left out of both lists, so that an item which only closes the gap
    it left does not count as moved.
    """
    before = {item: slot for slot, item in enumerate(item for item in old if item != taken)}
    after = [item for item in new if item != taken]
    moved = {item: before[item] - slot for slot, item in enumerate(after) if item in before and before[item] != slot}
    return Change(len(new), frozenset(new) - frozenset(old), moved)
