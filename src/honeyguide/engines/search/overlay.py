"""Items added or changed since the index was built: a few postings in memory, scored by the index's statistics."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping

import numpy as np

from honeyguide.engines.search.plan import EXACT, GRAMS, SCORED, Concept, DocumentTerms, LexicalConfig, Plan, bm25_idf
from honeyguide.schema.wire import Filters, Item

__all__ = ["Overlay", "stored_length"]

K1, B = 1.2, 0.75  # tantivy's own, which cannot be set


def stored_length(length: int) -> int:
    """A field's length as the index keeps it in one byte: exact to 40, then rounded down to four bits of mantissa.

    Source: Lucene's SmallFloat.intToByte4, which tantivy's fieldnorm table repeats.
    """
    if length < 40:
        return length
    shift = (length - 24).bit_length() - 4
    return 24 + ((length - 24) >> shift << shift)


class Overlay:
    """Postings of the items that override the index's rows. Memory: about 5 kB an item.

    Scores equal the index's own as long as its statistics (`n_items`, `frequency`, `mean_length`) are the index's.
    """

    def __init__(self, config: LexicalConfig) -> None:
        self._config = config
        self.items: dict[int, Item] = {}  # what is shown
        self.rows: set[int] = set()  # what hides the index's row, removed items included
        self._terms: dict[int, list[tuple[str, str]]] = {}
        self._lengths: dict[tuple[int, str], int] = {}
        self._postings: defaultdict[tuple[str, str], dict[int, int]] = defaultdict(dict)

    def put(self, row: int, item: Item) -> None:
        """Add or replace one item; an item that is not available only hides."""
        self.rows.add(row)
        for term in self._terms.pop(row, ()):
            postings = self._postings[term]
            del postings[row]
            if not postings:
                del self._postings[term]
        self.items.pop(row, None)
        if not item.available:
            return
        self.items[row] = item
        document = DocumentTerms.of(item, self._config)
        mine = self._terms[row] = []
        for field in (*SCORED, EXACT):
            values = document.field(field)
            self._lengths[row, field] = stored_length(len(values))
            for word, count in Counter(values).items():
                self._postings[field, word][row] = count
                mine.append((field, word))

    def frequency(self, field: str, term: str) -> int:
        """In how many of its items a term stands."""
        return len(self._postings.get((field, term), ()))

    def search(
        self,
        plan: Plan,
        filters: Filters,
        n_items: int,
        frequency: Callable[[str, str], int],
        mean_length: Mapping[str, float],
    ) -> list[tuple[float, int]]:
        """Scores and rows of all its hits, best first, ties by row."""
        met: Counter[int] = Counter()
        for concept in plan.concepts:
            for row in self._meets(concept):
                met[row] += concept.units
        hits = {row for row, count in met.items() if count >= plan.required}
        if plan.exact is not None:
            hits.update(self._postings.get((EXACT, plan.exact), ()))
        hits = {row for row in hits if passes(self.items[row], filters)}
        scores = dict.fromkeys(hits, 0.0)
        for field, term, weight in plan.scored:
            postings = self._postings.get((field, term))
            if not postings:
                continue
            idf = bm25_idf(n_items, frequency(field, term))
            mean = mean_length[field] or 1.0
            for row in hits & postings.keys():
                tf = postings[row]
                norm = K1 * (1 - B + B * self._lengths[row, field] / mean)
                scores[row] += weight * idf * (1 + K1) * tf / (tf + norm)
        if plan.exact is not None:
            for row in hits & self._postings.get((EXACT, plan.exact), {}).keys():
                scores[row] += self._config.exact_bonus
        # The index scores in single precision; so ties are ties here too.
        return sorted(((float(np.float32(score)), row) for row, score in scores.items()), key=lambda h: (-h[0], h[1]))

    def _meets(self, concept: Concept) -> Iterable[int]:
        rows: set[int] = set()
        for term in concept.spellings:
            rows.update(self._postings.get(term, ()))
        if concept.grams:
            counts: Counter[int] = Counter()
            for gram in concept.grams:
                counts.update(self._postings.get((GRAMS, gram), {}).keys())
            rows.update(row for row, count in counts.items() if count >= concept.at_least)
        return rows


def passes(item: Item, filters: Filters) -> bool:
    """Whether an item passes all filters that are given; an unknown year or price passes no range."""

    def shares(wanted: list[str], have: list[str]) -> bool:
        return not wanted or not set(wanted).isdisjoint(have)

    def within(value: float | None, low: float | None, high: float | None) -> bool:
        if low is None and high is None:
            return True
        return value is not None and (low is None or value >= low) and (high is None or value <= high)

    return (
        shares(filters.categories, item.categories)
        and shares(filters.people, item.people)
        and shares(filters.countries, [item.country] if item.country else [])
        and within(item.year, filters.year_min, filters.year_max)
        and within(item.price, filters.price_min, filters.price_max)
        and shares(filters.allow, [item.item_id])
        and item.item_id not in filters.deny
    )
