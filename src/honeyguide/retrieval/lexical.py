"""Retrieval by words: a query's hits as a Pool, and items with like texts as Candidates for items without events."""

from __future__ import annotations

import html
from typing import ClassVar

import numpy as np

from honeyguide.contracts import Candidates, CatalogView, Pool, TextHits, TextIndex
from honeyguide.errors import NotFoundError
from honeyguide.kernels import text
from honeyguide.schema.wire import Filters, Item

__all__ = ["LexicalSource", "highlight", "item_of"]


class LexicalSource:
    """Candidates from a text index that wiring hands over.

    Search asks with a query; the item page of a new item, which no event speaks for, asks with the item itself.
    """

    name: ClassVar[str] = "lexical"

    def __init__(self, index: TextIndex, view: CatalogView) -> None:
        self._index = index
        self._view = view

    def search(
        self, query: str, k: int, *, offset: int = 0, filters: Filters | None = None, facets: bool = False
    ) -> tuple[Pool, TextHits]:
        """Hits of one query as a pool of one row and one source (1, k), and the hits with total and facets."""
        hits = self._index.search(query, k, offset=offset, filters=filters, facets=facets)
        found = _padded(hits, k)
        return Pool(found.items, found.scores, found.scores[:, :, None], (self.name,)), hits

    def like(self, what: int | Item, k: int, *, filters: Filters | None = None) -> Candidates:
        """The `k` items whose titles, people, categories and descriptions are most like one item's (1, k).

        what: a row of the catalog, or an item that may be newer than the catalog. It is never in the answer itself.
        """
        item = what if isinstance(what, Item) else item_of(self._view, what)
        return _padded(self._index.like(item, k, filters=filters), k)


def item_of(view: CatalogView, row: int) -> Item:
    """One row of the catalog as an item; raises NotFoundError beyond its end."""
    if not 0 <= row < len(view):
        raise NotFoundError(
            expected=f"a row of the catalog's {len(view)} items", got=f"{row}", do="Pass the item itself if it is new."
        )
    year, price, country = view.year[row], view.price[row], view.country[row]
    return Item(
        view.items.id(row),
        title=view.title[row] or None,
        description=view.description[row] or None,
        categories=[view.category_names[code] for code in view.category.row(row)],
        people=[view.people_names[code] for code in view.people.row(row)],
        country=view.country_names[country] if country >= 0 else None,
        year=None if np.isnan(year) else int(year),
        price=None if np.isnan(price) else float(price),
        available=bool(view.available[row]),
    )


def _padded(hits: TextHits, k: int) -> Candidates:
    items = np.full((1, k), -1, np.int32)
    scores = np.full((1, k), np.nan, np.float32)
    items[0, : len(hits.rows)] = hits.rows
    scores[0, : len(hits.rows)] = hits.scores
    return Candidates(items, scores)


def highlight(title: str, query: str) -> str:
    """A title as HTML, escaped, with `<mark>` around the words that the query asks for.

    A word is marked if the query holds it or its joined form ("spiderman" marks "Spider-Man"), or if it shares half of
    its 3-grams with a longer word of the query that the title does not hold.
    """
    spans = text.word_spans(title)
    folded = ["".join(text.words(text.fold(title[start:end]))) for start, end in spans]
    tokens = text.words(text.fold(query))
    asked = {*tokens, *text.joined_pairs(tokens)}
    pairs = text.joined_pairs(folded)
    marked = [word in asked for word in folded]
    for at, pair in enumerate(pairs):
        if pair in asked:
            marked[at] = marked[at + 1] = True
    unseen = [
        set(text.grams(token)) for token in asked.difference(folded, pairs).intersection(tokens) if len(token) > 3
    ]
    for at, word in enumerate(folded if unseen else ()):
        letters = set(text.grams(word))
        marked[at] = marked[at] or any(_dice(letters, token) >= 0.5 for token in unseen)
    parts, done = [], 0
    for (start, end), mark in zip(spans, marked, strict=True):
        if mark:
            parts += [html.escape(title[done:start]), "<mark>", html.escape(title[start:end]), "</mark>"]
            done = end
    return "".join([*parts, html.escape(title[done:])])


def _dice(first: set[str], second: set[str]) -> float:
    return 2 * len(first & second) / (len(first) + len(second))
