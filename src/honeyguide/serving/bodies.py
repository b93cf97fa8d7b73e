"""Bodies that differ from the wire's own types."""

from __future__ import annotations

import msgspec

from honeyguide.schema.wire import Id, Item

__all__ = ["ItemBody"]


class ItemBody(Item, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """The body of PUT: an Item whose `item_id` may be left to the address."""

    item_id: Id = ""  # left out; an empty one that is sent is refused by its type

    def of(self, item_id: str) -> Item:
        """The item itself."""
        return Item(**msgspec.structs.asdict(self) | {"item_id": item_id})
