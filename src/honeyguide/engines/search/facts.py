"""What items are filtered, counted and sorted by, as arrays in the order of the index's documents."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from honeyguide.contracts import F32, I32, BoolArray, CatalogView, Ragged
from honeyguide.errors import RequestError
from honeyguide.kernels import postings, text
from honeyguide.schema.wire import Filters, Item

__all__ = ["DECADE", "FACETS", "NAMED", "SORTS", "Facts", "Names", "attributes_of", "is_utf8"]

FACETS: Final = ("categories", "people", "countries", "decade")
"""The facets every catalog has: the first three are also the names of the filters; a decade reads "1990s"."""
NAMED: Final = FACETS[:3]
DECADE: Final = FACETS[3]
SORTS: Final = ("relevance", "popularity", "price", "-price", "year", "-year", "title")
"""How hits may stand; a minus: the highest first. Items without the fact stand last."""


class Names:
    """The values of each facet as numbers; new ones may come."""

    def __init__(self, values: Mapping[str, Sequence[str]]) -> None:
        self.values = {facet: list(names) for facet, names in values.items()}
        self._codes = {facet: {name: at for at, name in enumerate(names)} for facet, names in self.values.items()}

    def code(self, facet: str, value: str) -> int:
        """A value's number, -1 for an unknown one."""
        return self._codes[facet].get(value, -1)

    def put(self, facet: str, value: str) -> int:
        """A value's number, a new one for an unknown one."""
        codes, names = self._codes[facet], self.values[facet]
        at = codes.setdefault(value, len(names))
        if at == len(names):
            names.append(value)
        return at


@dataclass
class Facts:
    """By document: row, id, codes of every facet, year and price."""

    rows: I32
    ids: list[str]
    codes: dict[str, Ragged]  # the three of `NAMED`, and an attribute each
    year: F32  # nan unknown
    price: F32
    titles: list[str]
    _place: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.rows)

    @classmethod
    def of_view(cls, view: CatalogView, order: I32, names: Names, attributes: Sequence[str]) -> Facts:
        """Of a catalog's rows in an order; `names` holds the view's own names."""
        codes = {
            facet: _take(ragged, order)
            for facet, ragged in (
                ("categories", view.category),
                ("people", view.people),
                ("countries", Ragged.of([[code] if code >= 0 else [] for code in view.country.tolist()])),
            )
        }
        if attributes:
            told = [attributes_of(one) for one in ([] if view.attributes is None else view.attributes.to_pylist())]
            told += [{}] * (len(view) - len(told))
            for key in attributes:
                values = [[names.put(key, value) for value in _values(told[row].get(key))] for row in order.tolist()]
                codes[key] = Ragged.of(values)
        ids = view.items.ids
        return cls(
            order.astype(np.int32), [ids[row] for row in order.tolist()], codes, view.year[order], view.price[order],
            [text.fold(view.title[row]) for row in order.tolist()],
        )  # fmt: skip

    @classmethod
    def of_items(cls, rows: Sequence[int], items: Sequence[Item], names: Names, attributes: Sequence[str]) -> Facts:
        """Of items as they came over the API."""
        told = {
            "categories": [item.categories for item in items],
            "people": [item.people for item in items],
            "countries": [[item.country] if item.country else [] for item in items],
        } | {key: [_values(item.attributes.get(key)) for item in items] for key in attributes}
        codes = {
            facet: Ragged.of([[names.put(facet, value) for value in dict.fromkeys(one)] for one in values])
            for facet, values in told.items()
        }

        def number(values: Iterable[float | None]) -> F32:
            return np.array([np.nan if value is None else value for value in values], np.float32)

        return cls(
            np.array(rows, np.int32), [item.item_id for item in items], codes,
            number(item.year for item in items), number(item.price for item in items),
            [text.fold(item.title or "") for item in items],
        )  # fmt: skip

    def passes(self, docs: I32, filters: Filters, names: Names) -> BoolArray:
        """Which documents pass all filters that are given; an unknown year or price passes no range."""
        keep = np.ones(len(docs), np.bool_)
        asked = {"categories": filters.categories, "people": filters.people, "countries": filters.countries}
        for facet, values in (asked | filters.attributes).items():
            if facet not in self.codes:
                raise unknown_facet(facet, self.codes)
            if values:
                wanted = [code for code in (names.code(facet, value) for value in values) if code >= 0]
                keep &= _any_of(docs, self.codes[facet], wanted)
        for low, high, have in (
            (filters.year_min, filters.year_max, self.year),
            (filters.price_min, filters.price_max, self.price),
        ):
            if low is None and high is None:
                continue
            value = have[docs]
            keep &= ~np.isnan(value)
            for bound, sign in ((low, 1), (high, -1)):
                if bound is not None:
                    # In single precision as the facts are: a price of 9.99 passes "at least 9.99".
                    keep &= sign * value >= sign * np.float32(max(-3e38, min(3e38, bound))) if bound == bound else False
        if filters.allow or filters.deny:
            if not self._place:
                self._place = {one: at for at, one in enumerate(self.ids)}
            if filters.allow:
                keep &= self._among(docs, filters.allow)
            if filters.deny:
                keep &= ~self._among(docs, filters.deny)
        return keep

    def _among(self, docs: I32, ids: Iterable[str]) -> BoolArray:
        named = np.zeros(len(self), np.bool_)
        named[[self._place[one] for one in ids if one in self._place]] = True
        return named[docs]

    def count(self, docs: I32, facet: str, n_codes: int) -> I32:
        """How many documents carry each value."""
        ragged = self.codes[facet]
        return postings.count_codes(docs, ragged.indptr, ragged.values, n_codes)

    def decades(self, docs: I32) -> dict[str, int]:
        """How many documents are of each decade."""
        year = self.year[docs]
        values, counts = np.unique(np.floor(year[~np.isnan(year)] / 10).astype(np.int64), return_counts=True)
        return {f"{decade * 10}s": int(n) for decade, n in zip(values.tolist(), counts.tolist(), strict=True)}

    def sort_key(self, docs: I32, sort: str) -> list[Any]:
        """What a document stands by, ascending; a missing fact last."""
        if sort == "title":
            return [(not self.titles[doc], self.titles[doc]) for doc in docs.tolist()]
        have = self.price if sort.endswith("price") else self.year
        sign = -1 if sort.startswith("-") else 1
        values = (sign * have[docs].astype(float)).tolist()
        return [(math.isnan(value), 0.0 if math.isnan(value) else value) for value in values]


def unknown_facet(facet: str, known: Iterable[str]) -> RequestError:
    """A request names a facet that the catalog does not have."""
    return RequestError(
        expected=f"a facet of this workspace ({', '.join(known)})",
        got=repr(facet)[:80],
        do="Name one of them; [search.lexical] facets in honeyguide.toml adds attributes.",
    )


def attributes_of(told: str | None) -> dict[str, Any]:
    """The further facts of an item as its row holds them: JSON, {} for none."""
    found = json.loads(told) if told else {}
    return found if isinstance(found, dict) else {}


def _values(value: Any) -> list[str]:
    """An attribute as facet values: text as it is, numbers as people write them, lists one by one."""
    if value is None or value == "":
        return []
    if isinstance(value, list):
        return list(dict.fromkeys(one for part in value for one in _values(part)))
    if isinstance(value, bool):
        return ["yes" if value else "no"]
    return [f"{value:g}" if isinstance(value, float) else str(value)]


def _take(ragged: Ragged, order: I32) -> Ragged:
    sizes = np.diff(ragged.indptr)[order]
    indptr = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    place = np.arange(indptr[-1]) - np.repeat(indptr[:-1], sizes) + np.repeat(ragged.indptr[:-1][order], sizes)
    return Ragged(indptr, ragged.values[place].astype(np.int32))


def _any_of(docs: I32, ragged: Ragged, wanted: Sequence[int]) -> BoolArray:
    """Which documents carry at least one of the codes."""
    if not wanted or not len(ragged.values):
        return np.zeros(len(docs), np.bool_)
    places = np.flatnonzero(np.isin(ragged.values, wanted))
    found = np.zeros(len(ragged), np.bool_)
    found[np.searchsorted(ragged.indptr, places, side="right") - 1] = True
    return found[docs]


def is_utf8(value: str) -> bool:
    """Whether a string can be stored: a lone surrogate (from broken JSON) cannot."""
    return value.isascii() or not any("\ud800" <= sign <= "\udfff" for sign in value)
