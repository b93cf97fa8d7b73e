"""Spelling by a noisy channel: a word nobody knows becomes the likeliest words of the catalog and of past queries.

Only unknown words change. What a word may have meant comes as several alternatives with their probabilities, so that a
search can ask for all of them at once; the query as typed stays what to go back to.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import groupby, pairwise
from typing import Annotated

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from honeyguide.contracts import CatalogView
from honeyguide.kernels import text
from honeyguide.kernels.spelling import near_words
from honeyguide.kernels.text import natural_title
from honeyguide.schema.wire import Item

__all__ = ["Correction", "SpellingConfig", "Vocabulary", "correct"]

F64 = npt.NDArray[np.float64]
_WIDTH = 24  # letters of a word that are compared
_FRESH = 1_000  # new words that are looked at one by one before the table is made anew


class SpellingConfig(BaseModel):
    """When a word is taken for misspelt, and what for. Costs are in units of log probability."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    on: bool = True
    min_letters: Annotated[int, Field(ge=2)] = 3  # shorter words are left alone
    two_edits_from: Annotated[int, Field(ge=3)] = 6  # letters from which two edits are allowed
    edit_cost: Annotated[float, Field(ge=0)] = 4.0
    doubled_letter_cost: Annotated[float, Field(ge=0)] = 1.0  # instead, where only doubled letters differ
    first_letter_cost: Annotated[float, Field(ge=0)] = 0.5  # people seldom miss the first letter
    context: Annotated[float, Field(ge=0)] = 3.0  # how many sightings of a word alone weigh as much as its neighbour
    alternatives: Annotated[int, Field(ge=1, le=16)] = 4  # that are searched for at once
    least_share: Annotated[float, Field(gt=0, le=1)] = 0.05  # an alternative less likely than this is dropped
    trust: Annotated[float, Field(ge=0)] = 3.0  # in how frequent a word is in its language, where the catalog lacks it
    common: Annotated[float, Field(ge=0)] = 2e-7  # share of a word in its language from which queries may teach it
    max_words: Annotated[int, Field(ge=1, le=256)] = 16  # a longer query is left alone


@dataclass(frozen=True, slots=True)
class Correction:
    """A query with its unknown words replaced; `original` is what to search for where the person insists."""

    original: str
    corrected: str
    replaced: tuple[tuple[str, str], ...]  # word as typed (folded), likeliest word
    alternatives: Mapping[str, tuple[tuple[str, float], ...]] = field(default_factory=dict)
    """By the likeliest word: what else may have been meant, itself included, with probabilities."""


class Vocabulary:
    """The words of a catalog and of its queries with their weights, and which words stand side by side.

    Titles count most: people type titles. Memory: about 250 bytes a word, 16 bytes a pair.
    """

    def __init__(
        self,
        weights: Mapping[str, float],
        config: SpellingConfig | None = None,
        *,
        pairs: Mapping[tuple[str, str], float] | None = None,
    ) -> None:
        self.config = config or SpellingConfig()
        self._weights = dict(weights)
        self._fresh: set[str] = set()
        self._pairs = {first + " " + second: weight for (first, second), weight in (pairs or {}).items()}
        self._index()

    @classmethod
    def build(
        cls,
        view: CatalogView,
        config: SpellingConfig | None = None,
        queries: Iterable[tuple[str, float]] = (),
        *,
        is_known: Callable[[str], bool] | None = None,
    ) -> Vocabulary:
        """From the available items' titles and people, the category names and the words of descriptions.

        queries: what people typed, each with how many were served by it. A misspelling that many typed stays one: a
        word of queries that the catalog lacks enters only if `is_known` vouches for it (without one every word does).
        """
        weights: defaultdict[str, float] = defaultdict(float)
        described: Counter[str] = Counter()
        pairs: defaultdict[tuple[str, str], float] = defaultdict(float)
        people = np.bincount(
            view.people.values, np.repeat(view.available, np.diff(view.people.indptr)), len(view.people_names)
        )
        for row in np.flatnonzero(view.available).tolist():
            title = _words(natural_title(view.title[row]))
            for word in title:
                weights[word] += 3
            for pair in pairwise(title):
                pairs[pair] += 1
            described.update(set(_words(view.description[row])))
        for name, count in zip(view.people_names, people.tolist(), strict=True):
            if count:
                words = _words(name)
                for word in words:
                    weights[word] += int(count)
                for pair in pairwise(words):
                    pairs[pair] += int(count)
        for name in view.category_names:
            words = _words(name)
            for word in words:
                weights[word] += 10
            for pair in pairwise(words):
                pairs[pair] += 10
        for word, found in described.items():
            weights[word] += found if found > 1 or word in weights else 0.5
        for query, people_count in queries:
            typed = [word if word in weights or is_known is None or is_known(word) else "" for word in _words(query)]
            for word in typed:
                if word:
                    weights[word] += 3 * people_count
            for pair in pairwise(typed):
                if all(pair):
                    pairs[pair] += 3 * people_count
        return cls(weights, config, pairs=pairs)

    def __contains__(self, word: object) -> bool:
        return word in self._weights

    def __len__(self) -> int:
        return len(self._weights)

    @property
    def words(self) -> Iterable[str]:
        """All words."""
        return self._weights.keys()

    def weight(self, word: str) -> float:
        """How much a word counts, 0 if nobody knows it."""
        return self._weights.get(word, 0.0)

    def upsert(self, item: Item) -> None:
        """Learn the words of a new or changed item; words of its old text stay known."""
        for words, weight in (
            (_words(item.title or ""), 3.0),
            (_words(" ".join([*item.people, *item.categories])), 1.0),
        ):
            for word in words:
                if word not in self._weights:
                    self._fresh.add(word)
                self._weights[word] = self._weights.get(word, 0.0) + weight
            for first, second in pairwise(words):
                self._pairs[f"{first} {second}"] = self._pairs.get(f"{first} {second}", 0.0) + weight
        if len(self._fresh) > _FRESH:
            self._index()

    def nearest(self, word: str) -> str | None:
        """The likeliest known word within one edit (two in longer words; a swap of neighbours counts one), or None."""
        found = self.candidates(word)
        return found[0][0] if found else None

    def candidates(
        self, word: str, before: str = "", after: str = "", *, share: float = 0.0
    ) -> list[tuple[str, float]]:
        """Known words that an unknown one may have meant, likeliest first, with probabilities that sum to one.

        before, after: the words beside it, which tell "star wrs" from "world wrs". Log score: the word's weight where
        its neighbours leave open what comes, less the costs of the edits (`SpellingConfig`). Ties: alphabetical.
        share: of the word in its language. One that is likelier to be meant as typed than to be any other has none.
        """
        config = self.config
        limit = 2 if len(word) >= config.two_edits_from else 1
        near = self._near(word, limit)
        scored = []
        for known, edits in near:
            price = config.edit_cost * edits
            if _single(known) == _single(word):
                price = min(price, config.doubled_letter_cost)
            price += (known[0] != word[0]) * config.first_letter_cost
            scored.append((self._prior(known, before, after) - price, known))
        if not scored:
            return []
        scored.sort(key=lambda one: (-one[0], one[1]))
        if share * config.trust > 0 and scored[0][0] < math.log(share * config.trust * self._total):
            return []
        top = scored[: config.alternatives]
        shares = [math.exp(score - top[0][0]) for score, _ in top]
        total = sum(shares)
        return [(known, share / total) for (_, known), share in zip(top, shares, strict=True)
                if share / total >= config.least_share]  # fmt: skip

    def _prior(self, word: str, before: str, after: str) -> float:
        weight, mu = self._weights[word], self.config.context
        prior = math.log(weight)
        if mu:
            for pair, beside in ((f"{before} {word}", before), (f"{word} {after}", after)):
                if beside in self._weights:
                    seen = self._pairs.get(pair, 0.0)
                    # The chance of the word beside that neighbour, over its chance anywhere (Dirichlet smoothing).
                    expected = weight / self._total
                    told = (seen + mu * expected) / (self._weights[beside] + mu)
                    prior += math.log(told / expected)
        return prior

    def _near(self, word: str, limit: int) -> list[tuple[str, int]]:
        size = min(len(word), _WIDTH)
        first, end = np.searchsorted(self._lengths, [size - limit, size + limit + 1])
        letters = np.frombuffer(word[:_WIDTH].encode("utf-32-le", "surrogatepass"), np.uint32)
        rows, distances = near_words(
            letters,
            _letters([word])[0],
            self._codes[first:end],
            self._lengths[first:end],
            self._masks[first:end],
            limit,
        )
        found = [
            (self._indexed[first + at], edits) for at, edits in zip(rows.tolist(), distances.tolist(), strict=True)
        ]
        if self._fresh:
            fresh = sorted(self._fresh)
            distances = text.osa_distances(word, *text.encode_words(fresh, _WIDTH), limit)
            found += [(known, edits) for known, edits in zip(fresh, distances.tolist(), strict=True) if edits <= limit]
        return found

    def _index(self) -> None:
        self._fresh.clear()
        self._total = sum(self._weights.values()) or 1.0
        kept = (word for word in self._weights if not word.isdigit() and len(word) >= self.config.min_letters)
        self._indexed = sorted(kept, key=lambda word: (min(len(word), _WIDTH), word))
        self._codes, self._lengths = text.encode_words(self._indexed, _WIDTH)
        self._masks = _letters(self._indexed)


def correct(query: str, vocabulary: Vocabulary, *, share: Callable[[str], float] | None = None) -> Correction | None:
    """ "Did you mean": the query with each unknown word replaced by its nearest known one; None if nothing changes.

    Known words, numbers and very short words stay, and so do those that are so frequent in the language that they are
    likelier to be meant as typed. share: of a word in its language. Two words that are known when joined stay too.
    The text between the words stays as typed.
    """
    spans = text.word_spans(query)
    if not 0 < len(spans) <= vocabulary.config.max_words:
        return None
    typed = ["".join(text.words(text.fold(query[start:end]))) for start, end in spans]
    joined = [pair in vocabulary for pair in text.joined_pairs(typed)]
    parts, done, replaced = [], 0, []
    alternatives: dict[str, tuple[tuple[str, float], ...]] = {}
    before = ""
    for at, ((start, end), word) in enumerate(zip(spans, typed, strict=True)):
        left, before = before, word
        if word in vocabulary or any(joined[max(0, at - 1) : at + 1]):
            continue
        if len(word) < vocabulary.config.min_letters or any(sign.isdigit() for sign in word):
            continue
        after = typed[at + 1] if at + 1 < len(typed) else ""
        found = vocabulary.candidates(word, left, after, share=0.0 if share is None else share(word))
        if found:
            best = before = found[0][0]
            parts += [query[done:start], best]
            done = end
            replaced.append((word, best))
            alternatives[best] = tuple(found)
    if not replaced:
        return None
    return Correction(query, "".join([*parts, query[done:]]), tuple(replaced), alternatives)


def _words(value: str) -> list[str]:
    return text.words(text.fold(value))


def _single(word: str) -> str:
    """A word with its doubled letters written once."""
    return "".join(letter for letter, _ in groupby(word))


def _letters(words: Iterable[str]) -> npt.NDArray[np.uint64]:
    """A bit per letter of each word, as far as it is compared; different letters may share one of 64 bits."""
    masks = []
    for word in words:
        mask = 0
        for sign in word[:_WIDTH]:
            mask |= 1 << (ord(sign) & 63)
        masks.append(mask)
    return np.array(masks, np.uint64)
