"""What a query asks of an index: concepts, each with the words that may stand for it."""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from honeyguide.contracts import F32, I32, I64, Rewrites
from honeyguide.engines.search.lexical_config import LexicalConfig
from honeyguide.engines.search.segment import Document, Segment, Term
from honeyguide.kernels import text

__all__ = ["Asked", "Concept", "Plan", "bm25_idf", "other_number", "spellings", "words_of"]

_YEAR = re.compile(r"\((\d{4})\)\s*$")
_MOST_LETTERS = 10_000
_RARE = 10  # a word of more items is not read as two
_SENTENCE = 5  # words from which a query is a sentence
_UNITS = 16  # how finely a query's information is divided between its words

Found = Callable[[Term], int]  # in how many items


@dataclass(frozen=True, slots=True)
class Concept:
    """One word of a query and what may stand for it, each with a weight; the best of them scores."""

    ways: tuple[tuple[Term, float], ...]
    idf: float
    units: int = 0  # its share of the query's information; 0: it scores, and makes no hit


@dataclass(frozen=True, slots=True)
class Asked:
    """A plan in the terms of one segment, as `kernels.postings` takes it."""

    concepts: I64
    low: I64
    high: I64
    weights: F32
    units: I32
    soft: int  # from this concept on they only move what is a hit


@dataclass(frozen=True, slots=True)
class Plan:
    """A query, analysed: an item is a hit if the units of the concepts it meets reach `required`, or if the whole
    query is its title; its score sums the concepts'.
    """

    concepts: tuple[Concept, ...]
    exact: str | None
    required: int
    grams: I64 = field(default_factory=lambda: np.zeros(0, np.int64))  # buckets of 3-grams that score in titles
    gram_weights: F32 = field(default_factory=lambda: np.zeros(0, np.float32))

    def relaxed(self) -> Plan:
        """The same with two thirds as much required, at least one unit."""
        return replace(self, required=max(1, self.required * 2 // 3))

    def of(self, segment: Segment) -> Asked:
        """The same in a segment's terms; words that it does not hold are left out."""
        bounds, low, high, weights, units = [0], [], [], [], []
        span = segment.span
        for concept in self.concepts:
            for term, weight in concept.ways:
                begin, end = span(term)
                if end > begin:
                    low.append(begin)
                    high.append(end)
                    weights.append(weight * concept.idf)
            bounds.append(len(low))
            units.append(concept.units)
        n, more = len(low), len(self.grams)
        first = len(segment.words) + len(segment.pairs)
        ends = np.empty((2, n + more), np.int64)
        ends[0, :n], ends[1, :n] = low, high
        np.take(segment.indptr, self.grams + first, out=ends[0, n:])
        np.take(segment.indptr, self.grams + (first + 1), out=ends[1, n:])
        weighed = np.empty(n + more, np.float32)
        weighed[:n], weighed[n:] = weights, self.gram_weights
        concepts = np.empty(len(bounds) + more, np.int64)
        concepts[: len(bounds)] = bounds
        concepts[len(bounds) :] = np.arange(n + 1, n + more + 1)
        counted = np.zeros(len(units) + more, np.int32)
        counted[: len(units)] = units
        return Asked(concepts, ends[0], ends[1], weighed, counted, len(units))

    @classmethod
    def of_query(
        cls, query: str, found: Found, near: Callable[[str], list[tuple[str, float]]],
        grams: Callable[[Sequence[str]], tuple[I64, F32]], n_items: int, config: LexicalConfig,
        rewrites: Rewrites | None = None,
    ) -> Plan | None:  # fmt: skip
        """Analyse a query against a catalog's document frequencies; None if nothing in it can match.

        near: words with like spelling, for one that nobody knows. grams: buckets of words' 3-grams, and their idf.
        rewrites: other words that stand for one of the query's, with their weights.
        """
        tokens = words_of(query, config)
        concepts: dict[str, Concept] = {}
        for at, word in enumerate(tokens):
            if word not in concepts:
                ways = _ways(tokens, at, found, near, config, rewrites)
                if ways:
                    frequency = max(found(term) for term, weight in ways if weight >= 0.5 * ways[0][1])
                    concepts[word] = Concept(tuple(ways), bm25_idf(n_items, frequency))
        if not concepts:
            return None
        # A word weighs by what it tells: "heat" in "heat 1995" more than a year of 300 films, "the" nothing.
        unit = sum(concept.idf for concept in concepts.values()) / (_UNITS + len(concepts))
        units = [round(concept.idf / unit) if unit > 0 else 1 for concept in concepts.values()]
        if not any(units):
            units = [1] * len(units)
        weighed = [replace(one, units=n) for one, n in zip(concepts.values(), units, strict=True)]
        pairs = [
            Concept(((pair, config.joined_weight),), bm25_idf(n_items, count))
            for pair in dict.fromkeys(itertools.pairwise(tokens))
            if config.joined_weight > 0 and (count := found(pair))
        ]
        # The most telling first: then what follows looks at few documents.
        weighed.sort(key=lambda one: -one.units)
        # Nobody's sentence is held whole by an item: of many words a smaller share is asked.
        required = math.ceil(config.coverage * sum(units) * min(1.0, _SENTENCE / len(tokens)))
        plan = cls((*weighed, *pairs), text.title_key(tokens), required)
        if config.gram_weight <= 0:
            return plan
        buckets, idf = grams([w for w in dict.fromkeys(tokens) if len(tokens) == 1 or not text.is_year(w)])
        return replace(plan, grams=buckets, gram_weights=np.float32(config.gram_weight) * idf)

    @classmethod
    def like(cls, document: Document, found: Found, n_items: int, config: LexicalConfig) -> Plan | None:
        """The most telling words of an item, by tf-idf; None if it shares no word with the catalog."""
        told = Counter(document.title)
        for weight, words in (
            (1.0, document.description), (1.0, document.attributes),
            *((1.0, name) for names in document.names for name in names),
        ):  # fmt: skip
            for word in words:
                told[word] += weight  # type: ignore[assignment]
        gain = {word: n * bm25_idf(n_items, count) for word, n in told.items() if (count := found(word))}
        best = sorted(gain, key=lambda word: (-gain[word], word))[: config.max_like_terms]
        if not best:
            return None
        return cls(tuple(Concept(((w, 1.0),), bm25_idf(n_items, found(w)), 1) for w in best), None, 1)


def words_of(query: str, config: LexicalConfig) -> list[str]:
    """The words of a query, folded, as titles are; a year in brackets at its end is asked for."""
    query = query[:_MOST_LETTERS]
    told = text.words(text.fold(text.natural_title(query)))
    year = _YEAR.search(query)
    return [*told, *([year[1]] if year and told[-1:] != [year[1]] else [])][: config.max_query_words]


def _ways(
    tokens: Sequence[str], at: int, found: Found, near: Callable[[str], list[tuple[str, float]]],
    config: LexicalConfig, rewrites: Rewrites | None,
) -> list[tuple[Term, float]]:  # fmt: skip
    word = tokens[at]
    others = {} if rewrites is None else dict(rewrites.get(word, ()))
    own = others.pop(word, 1.0)
    ways: dict[Term, float] = {word: own} if found(word) else {}
    split = own * config.split_weight
    for begin in (at - 1, at):
        if begin >= 0 and begin + 1 < len(tokens) and found(tokens[begin] + tokens[begin + 1]):
            ways.setdefault(tokens[begin] + tokens[begin + 1], split)
    if found(word) <= _RARE:
        ways |= {pair: split for pair in _halves(word) if found(pair)}
    number = other_number(word)
    if config.number_weight > 0 and found(number):
        ways.setdefault(number, own * config.number_weight)
    for other, weight in others.items():
        if weight > ways.get(other, 0.0) and found(other):
            ways[other] = weight
        ways |= {pair: weight * config.split_weight for pair in _halves(other) if pair not in ways and found(pair)}
    if not ways and config.near_weight > 0:
        ways = {other: config.near_weight * like for other, like in near(word)}
    return sorted(ways.items(), key=lambda way: -way[1])


def _halves(word: str) -> list[tuple[str, str]]:
    """The ways to read a word as two."""
    return [(word[:cut], word[cut:]) for cut in range(1, len(word))] if 3 < len(word) <= 24 else []


def spellings(query: str, config: LexicalConfig, rewrites: Rewrites | None = None) -> dict[str, list[Term]]:
    """Each word of a query with all that may stand for it: itself, neighbours joined, halves, its number, rewrites."""
    tokens = words_of(query, config)
    pairs = text.joined_pairs(tokens)
    out: dict[str, list[Term]] = {}
    for at, word in enumerate(tokens):
        others = [other for other, _ in rewrites.get(word, ())] if rewrites else []
        own = [word, *pairs[max(0, at - 1) : at + 1], other_number(word), *others]
        out.setdefault(word, []).extend([*own, *_halves(word)])
    return out


def other_number(word: str) -> str:
    """Singular or plural of a word, as most Western European languages form it: by an s."""
    return word[:-1] if len(word) > 3 and word[-1] == "s" else word + "s"


def bm25_idf(n_items: int, found: int) -> float:
    """Inverse document frequency, never negative. Source: Robertson and Zaragoza 2009, with Lucene's 1 +."""
    return math.log(1 + (n_items - min(found, n_items) + 0.5) / (min(found, n_items) + 0.5))
