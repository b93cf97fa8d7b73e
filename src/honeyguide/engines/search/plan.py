"""What is indexed of an item, and what a query asks for: one analysis for the index on disk and the overlay in memory.

Three scored fields: a bag of all words, the adjacent words joined ("spiderman" finds "Spider-Man" and back), and
character 3-grams of the title for misspellings. A fourth holds the title's keys, so that the exact title comes first.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from honeyguide.contracts import Rewrites
from honeyguide.kernels import text
from honeyguide.schema.wire import Item

__all__ = ["BAG", "EXACT", "GRAMS", "JOINED", "SCORED", "Concept", "DocumentTerms", "LexicalConfig", "Plan", "bm25_idf"]

BAG, JOINED, GRAMS, EXACT = "bag", "joined", "grams", "exact"
SCORED = (BAG, JOINED, GRAMS)

_UNITS = 8  # how finely a query's information is divided between its words

Term = tuple[str, str]  # field, word
DocumentFrequency = Callable[[str, str], int]


class LexicalConfig(BaseModel):
    """How text is weighed. The defaults come from a public set of judged film queries and work without tuning."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    title_repeats: Annotated[int, Field(ge=1, le=10)] = 2  # how often the title counts in the bag
    bag_weight: Annotated[float, Field(ge=0)] = 1.0
    joined_weight: Annotated[float, Field(ge=0)] = 0.5
    gram_weight: Annotated[float, Field(ge=0)] = 0.3
    number_weight: Annotated[float, Field(ge=0, le=1)] = 0.4  # of a word's plural or singular
    exact_bonus: Annotated[float, Field(ge=0)] = 100.0  # added where the whole query is a title
    coverage: Annotated[float, Field(gt=0, le=1)] = 0.4  # a hit has this share of the query's information (idf)
    enough_hits: Annotated[int, Field(ge=1)] = 50  # with fewer hits, half as much is asked
    grams_share: Annotated[float, Field(gt=0, le=1)] = 0.5  # of an unknown word's 3-grams, this share must match
    max_query_words: Annotated[int, Field(ge=1, le=256)] = 32  # the rest of a query is not read
    max_like_terms: Annotated[int, Field(ge=1, le=256)] = 30  # terms taken from an item for "more like this"


@dataclass(frozen=True, slots=True)
class DocumentTerms:
    """The terms of one item by field; a word stands as often as it counts."""

    bag: list[str]
    joined: list[str]
    grams: list[str]
    exact: list[str]

    @classmethod
    def of(cls, item: Item, config: LexicalConfig) -> DocumentTerms:
        """Analyse one item."""
        return cls.from_folded(
            item.title or item.item_id,
            [text.fold(person) for person in item.people],
            [text.fold(category) for category in item.categories],
            text.fold(item.description or ""),
            item.year,
            config,
        )

    @classmethod
    def from_folded(
        cls,
        title: str,
        people: Sequence[str],
        categories: Sequence[str],
        description: str,
        year: int | None,
        config: LexicalConfig,
    ) -> DocumentTerms:
        """Analyse an item whose people, categories and description are folded already; the title comes as it is."""
        title_words = text.words(text.fold(text.natural_title(title)))
        described = text.words(description)
        bag = title_words * config.title_repeats + described
        joined = text.joined_pairs(title_words) + text.joined_pairs(described)
        for name in (*people, *categories):
            name_words = text.words(name)
            bag += name_words
            joined += text.joined_pairs(name_words)
        bag += [digit for word in title_words if (digit := text.numeral(word))]
        exact = text.title_keys(title)
        if year is not None:
            bag.append(str(year))
            exact += [f"{key} {year}" for key in exact]
        return cls(bag, joined, [gram for word in title_words for gram in text.grams(word)], exact)

    def field(self, name: str) -> list[str]:
        """Terms of one field."""
        return getattr(self, name)


@dataclass(frozen=True, slots=True)
class Concept:
    """One word of a query: met by any of its spellings or, for a word nobody knows, by enough of its 3-grams."""

    spellings: tuple[Term, ...]
    grams: tuple[str, ...] = ()
    at_least: int = 0
    units: int = 1  # its share of the query's information


@dataclass(frozen=True, slots=True)
class Plan:
    """A query, analysed: an item is a hit if the units of the concepts it meets reach `required`, or if the whole
    query is its title; its score sums the scored terms.
    """

    scored: tuple[tuple[str, str, float], ...]  # field, term, weight
    exact: str | None
    concepts: tuple[Concept, ...]
    required: int

    def relaxed(self) -> Plan:
        """The same with half as much required, at least one unit."""
        return Plan(self.scored, self.exact, self.concepts, max(1, self.required // 2))

    @classmethod
    def of_query(
        cls,
        query: str,
        frequency: DocumentFrequency,
        n_items: int,
        config: LexicalConfig,
        rewrites: Rewrites | None = None,
    ) -> Plan | None:
        """Analyse a query against a catalog's document frequencies; None if nothing in it can match.

        rewrites: other words that meet a word's concept, and score by their weight.
        """
        tokens = text.words(text.fold(text.natural_title(query)))[: config.max_query_words]
        pairs = text.joined_pairs(tokens)
        scored: dict[Term, float] = {}
        concepts: dict[str, Concept] = {}
        idf: dict[str, float] = {}
        for at, word in enumerate(tokens):
            around = pairs[max(0, at - 1) : at + 1]
            exact = [(BAG, word), (JOINED, word), *((BAG, pair) for pair in around)]
            found = {term: count for term in [*exact, (BAG, _other_number(word))] if (count := frequency(*term))}
            own = 1.0
            share: dict[Term, float] = {}
            for other, weight in rewrites.get(word, ()) if rewrites else ():
                if other == word:
                    own = weight
                    continue
                for term in ((BAG, other), (JOINED, other)):
                    if term not in found and (count := frequency(*term)):
                        found[term], share[term] = count, weight
            for term in found:
                weight = share.get(term, own if term in exact else own * config.number_weight)
                scored[term] = max(scored.get(term, 0.0), weight)
            all_grams = dict.fromkeys(text.grams(word))
            known_grams = [gram for gram in all_grams if frequency(GRAMS, gram)]
            if len(tokens) == 1 or not text.is_year(word):
                scored.update(((GRAMS, gram), 1.0) for gram in known_grams)
            needed = math.ceil(config.grams_share * len(all_grams))
            if found:
                concepts[word] = Concept(tuple(found))
                idf[word] = bm25_idf(n_items, max(found.values()))
            elif len(known_grams) >= needed > 1:
                concepts[word] = Concept((), tuple(known_grams), needed)
                idf[word] = bm25_idf(n_items, 1)
        if not concepts:
            return None
        scored.update(((JOINED, pair), 1.0) for pair in pairs if frequency(JOINED, pair))
        # A word weighs by what it tells: "heat" in "heat 1995" more than a year of 300 films, "the" nothing.
        unit = sum(idf.values()) / (_UNITS + len(idf))
        weighed = [replace(concept, units=round(idf[word] / unit)) for word, concept in concepts.items()]
        weighed = [concept for concept in weighed if concept.units] or list(concepts.values())
        required = math.ceil(config.coverage * sum(concept.units for concept in weighed))
        return cls(cls._weigh(scored, config), text.title_key(tokens), tuple(weighed), required)

    @staticmethod
    def spellings(query: str, config: LexicalConfig, rewrites: Rewrites | None = None) -> dict[str, list[str]]:
        """Each word of a query with all that may stand for it: itself, a neighbour joined, its number, its rewrites."""
        tokens = text.words(text.fold(text.natural_title(query)))[: config.max_query_words]
        pairs = text.joined_pairs(tokens)
        found: dict[str, list[str]] = {}
        for at, word in enumerate(tokens):
            around = pairs[max(0, at - 1) : at + 1]
            others = [other for other, _ in rewrites.get(word, ())] if rewrites else []
            found.setdefault(word, []).extend([word, *around, _other_number(word), *others])
        return found

    @classmethod
    def like_item(cls, item: Item, frequency: DocumentFrequency, n_items: int, config: LexicalConfig) -> Plan | None:
        """The most telling terms of an item, by tf-idf; None if it shares no word with the catalog."""
        terms = DocumentTerms.of(item, config)
        gain: dict[Term, float] = {}
        for field, weight in ((BAG, config.bag_weight), (JOINED, config.joined_weight)):
            for term, count in Counter(terms.field(field)).items():
                found = frequency(field, term)
                if found:
                    gain[field, term] = weight * count * bm25_idf(n_items, found)
        best = sorted(gain, key=lambda term: (-gain[term], term))[: config.max_like_terms]
        if not best:
            return None
        return cls(cls._weigh(dict.fromkeys(best, 1.0), config), None, (Concept(tuple(best)),), 1)

    @staticmethod
    def _weigh(terms: Mapping[Term, float], config: LexicalConfig) -> tuple[tuple[str, str, float], ...]:
        weights = {BAG: config.bag_weight, JOINED: config.joined_weight, GRAMS: config.gram_weight}
        weighed = ((field, term, share * weights[field]) for (field, term), share in terms.items())
        return tuple(term for term in weighed if term[2] > 0)


def _other_number(word: str) -> str:
    """Singular or plural of a word, as most Western European languages form it: by an s."""
    return word[:-1] if len(word) > 3 and word[-1] == "s" else word + "s"


def bm25_idf(n_items: int, found: int) -> float:
    """Inverse document frequency, never negative. Source: Robertson and Zaragoza 2009, with Lucene's 1 +."""
    return math.log(1 + (n_items - min(found, n_items) + 0.5) / (min(found, n_items) + 0.5))
