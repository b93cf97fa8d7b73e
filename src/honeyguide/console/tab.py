"""What one browser tab remembers: who is looking, the board being made, what was clicked in this visit."""

from __future__ import annotations

from collections.abc import MutableMapping
from secrets import token_hex
from typing import Any

__all__ = ["Tab"]

NEW_PREFIX = "new-"
VISIT_LENGTH = 12


class Tab:
    """A view on the tab's storage. Another tab has another one, so two people can sit side by side."""

    def __init__(self, store: MutableMapping[str, Any]) -> None:
        self._store = store

    @property
    def person(self) -> str:
        """The person's id; a fresh one until somebody is chosen."""
        if "person" not in self._store:
            self.become_new()
        return str(self._store["person"])

    @property
    def is_new(self) -> bool:
        """Whether this person was made up by this tab."""
        return bool(self._store.get("is_new", True))

    def become(self, person: str) -> None:
        """Look through the eyes of a known person."""
        if person != self._store.get("person"):
            self._store.update(person=person, is_new=False, visit=[])

    def become_new(self) -> None:
        """Look through the eyes of someone nobody has seen before."""
        self._store.update(person=NEW_PREFIX + token_hex(4), is_new=True, visit=[])

    @property
    def board(self) -> list[str]:
        """Ids of the items on the board, oldest first."""
        return list(self._store.get("board", []))

    def pin(self, item_id: str) -> None:
        """Put an item on the board, once."""
        if item_id not in self.board:
            self._store["board"] = [*self.board, item_id]

    def unpin(self, item_id: str) -> None:
        """Take an item off the board."""
        self._store["board"] = [item for item in self.board if item != item_id]

    @property
    def visit(self) -> list[dict[str, Any]]:
        """What was clicked, newest first: `item_id`, `title`, `category`, `what`."""
        return list(self._store.get("visit", []))

    def remember(self, item_id: str, title: str, category: str, what: str) -> None:
        """Add a click to the visit."""
        click = {"item_id": item_id, "title": title, "category": category, "what": what}
        self._store["visit"] = [click, *self.visit][:VISIT_LENGTH]
