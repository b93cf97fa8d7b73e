"""Facts about items by the names that a configuration gives them: numbers for formulas, labels for groups."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np

from honeyguide.contracts import F64, CatalogView, Ragged
from honeyguide.errors import ConfigError

__all__ = ["item_labels", "item_numbers"]

_NUMBERS = ("price", "year")
_LABELS = ("category", "people", "country")
_NAMED = 12  # attributes that an error names


def item_numbers(catalog: CatalogView, name: str) -> F64:
    """A number of every item, nan where it has none: `price`, `year` or an attribute (true is 1, false 0).

    Raises ConfigError where no item has such a number.
    """
    if name in _NUMBERS:
        return np.asarray(getattr(catalog, name), np.float64)
    values = np.full(len(catalog), np.nan)
    for row, facts in _attributes(catalog):
        value = facts.get(name)
        if isinstance(value, bool | int | float):
            values[row] = float(value)
    if np.isnan(values).all() and len(catalog):
        raise ConfigError(
            expected=f"a number of the catalog ({', '.join([*_NUMBERS, *_known(catalog, (bool, int, float))])})",
            got=f"item.{name}",
            do="Mend the name, or load items with this column.",
        )
    return values


def item_labels(catalog: CatalogView, name: str) -> tuple[Ragged, list[str]]:
    """The labels of every item as codes into names: `category`, `people`, `country` or an attribute.

    Raises ConfigError where no item has such a label.
    """
    if name == "category":
        return catalog.category, catalog.category_names
    if name == "people":
        return catalog.people, catalog.people_names
    if name == "country":
        there = catalog.country >= 0
        indptr = np.concatenate([[0], np.cumsum(there)]).astype(np.int64)
        return Ragged(indptr, catalog.country[there].astype(np.int32)), catalog.country_names
    codes: dict[str, int] = {}
    lengths, values = np.zeros(len(catalog), np.int64), []
    for row, facts in _attributes(catalog):
        value = facts.get(name)
        if isinstance(value, str | bool | int):
            text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
            values.append(codes.setdefault(text, len(codes)))
            lengths[row] = 1
    if not codes:
        raise ConfigError(
            expected=f"a label of the catalog ({', '.join([*_LABELS, *_known(catalog, (str, bool, int))])})",
            got=repr(name),
            do="Mend the name, or load items with this column.",
        )
    return Ragged(np.concatenate([[0], np.cumsum(lengths)]), np.array(values, np.int32)), list(codes)


def _attributes(catalog: CatalogView) -> Iterator[tuple[int, dict[str, Any]]]:
    if catalog.attributes is None:
        return
    decode = msgspec.json.Decoder(dict[str, Any]).decode
    for row, text in enumerate(catalog.attributes.to_pylist()):
        if text:
            yield row, decode(text)


def _known(catalog: CatalogView, kinds: tuple[type, ...]) -> list[str]:
    found: dict[str, None] = {}
    for _, facts in _attributes(catalog):
        found |= dict.fromkeys(key for key, value in facts.items() if isinstance(value, kinds))
        if len(found) >= _NAMED:
            break
    return list(found)[:_NAMED]
