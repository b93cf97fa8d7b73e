"""Facts of items under our names, wherever a format leaves the names of fields to the team."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from honeyguide.intake.foreign.rows import strings, word
from honeyguide.intake.naming import by_name
from honeyguide.schema import columns as c
from honeyguide.schema.columns import Column
from honeyguide.schema.tables import ITEMS, TABLES

__all__ = ["ITEM_COLUMNS", "called", "item_facts"]

_FACTS = (c.TITLE, c.DESCRIPTION, c.COUNTRY, c.LANGUAGE, c.IMAGE_URL, c.YEAR, c.PRICE, c.AVAILABLE)
_LISTS = (c.CATEGORIES, c.PEOPLE)
ITEM_COLUMNS = (c.ITEM_ID, *_FACTS, *_LISTS, c.KNOWN_AT)
"""What an importer of items may fill."""


@lru_cache(4096)
def called(table: str, names: tuple[str, ...]) -> dict[Column, str]:
    """`by_name`, remembered: most records of a file have the same fields."""
    return by_name(TABLES[table], list(names))


def item_facts(fields: dict[str, Any], mark: str | None = None) -> tuple[dict[Column, Any], dict[str, Any]]:
    """Facts of an item under our names, and the fields that are left. A list in text is cut at `mark`."""
    found = called(ITEMS.name, tuple(name for name, value in fields.items() if value is not None))
    row: dict[Column, Any] = {}
    for column, name in found.items():
        value = fields[name]
        if column in _LISTS:
            row[column] = strings(value, mark)
        elif column in _FACTS and not isinstance(value, list | dict):
            row[column] = word(value)
    used = {found[column] for column in row}
    return row, {name: value for name, value in fields.items() if name not in used}
