"""What a query means: "did you mean" from the catalog's own words, and titles as a person says them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from honeyguide.contracts import CatalogView
from honeyguide.kernels import text
from honeyguide.kernels.text import natural_title
from honeyguide.schema.wire import Item

__all__ = ["Correction", "SpellingConfig", "Vocabulary", "correct", "natural_title"]

_WIDTH = 24  # letters of a word that are compared


class SpellingConfig(BaseModel):
    """When a word is taken for misspelt, and what for."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    min_letters: Annotated[int, Field(ge=2)] = 3  # shorter words are left alone
    two_edits_from: Annotated[int, Field(ge=3)] = 6  # letters from which two edits are allowed
    edit_cost: Annotated[float, Field(ge=0)] = 4.0  # in units of log frequency: e^4 = 55 times rarer
    doubled_letter_cost: Annotated[float, Field(ge=0)] = 1.0  # instead, where only doubled letters differ
    first_letter_cost: Annotated[float, Field(ge=0)] = 1.5  # people seldom miss the first letter
    max_words: Annotated[int, Field(ge=1, le=256)] = 16  # a longer query is left alone


@dataclass(frozen=True, slots=True)
class Correction:
    """A query with its unknown words replaced; `original` is what to search for where the person insists."""

    original: str
    corrected: str
    replaced: tuple[tuple[str, str], ...]  # word as typed (folded), word as in the catalog


class Vocabulary:
    """The words of a catalog with their weights. Titles count most: people type titles.

    Memory: about 250 bytes a word.
    """

    def __init__(self, weights: Mapping[str, float], config: SpellingConfig | None = None) -> None:
        self.config = config or SpellingConfig()
        self._weights = dict(weights)
        self._fresh: set[str] = set()
        self._index()

    @classmethod
    def build(cls, view: CatalogView, config: SpellingConfig | None = None) -> Vocabulary:
        """From the available items' titles and people, the category names, and description words that recur."""
        weights: Counter[str] = Counter()
        described: Counter[str] = Counter()
        people = np.bincount(
            view.people.values, np.repeat(view.available, np.diff(view.people.indptr)), len(view.people_names)
        )
        for row in np.flatnonzero(view.available).tolist():
            for word in _words(natural_title(view.title[row])):
                weights[word] += 3
            described.update(set(_words(view.description[row])))
        for name, count in zip(view.people_names, people.tolist(), strict=True):
            for word in _words(name) if count else ():
                weights[word] += int(count)
        for name in view.category_names:
            for word in _words(name):
                weights[word] += 10
        for word, count in described.items():
            if count > 1 or word in weights:
                weights[word] += count
        return cls(weights, config)

    def __contains__(self, word: object) -> bool:
        return word in self._weights

    def __len__(self) -> int:
        return len(self._weights)

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
        if len(self._fresh) > 1_000:
            self._index()

    def nearest(self, word: str) -> str | None:
        """The best known word within one edit (two in longer words; a swap of neighbours counts one), or None.

        Score: log weight, less the costs of the edits (`SpellingConfig`). Ties: the alphabetically first.
        """
        limit = 2 if len(word) >= self.config.two_edits_from else 1
        wanted = _letters([word])[0]
        size = min(len(word), _WIDTH)
        # One edit changes at most two letters of the set, so most words fall out before any distance is computed.
        near = np.flatnonzero(
            (np.abs(self._lengths - size) <= limit) & (np.bitwise_count(self._masks ^ wanted) <= 2 * limit)
        )
        distances = text.osa_distances(word, self._codes[near], self._lengths[near], limit)
        candidates = [
            (self._indexed[at], int(distance))
            for at, distance in zip(near.tolist(), distances.tolist(), strict=True)
            if distance <= limit
        ]
        if self._fresh:
            fresh = sorted(self._fresh)
            distances = text.osa_distances(word, *text.encode_words(fresh, _WIDTH), limit)
            candidates += [(w, d) for w, d in zip(fresh, distances.tolist(), strict=True) if d <= limit]
        candidates = [(w, d) for w, d in candidates if not w.isdigit() and len(w) >= self.config.min_letters]
        if not candidates:
            return None

        def cost(candidate: tuple[str, int]) -> tuple[float, str]:
            known, edits = candidate
            config = self.config
            only_doubled = _single(known) == _single(word)
            price = config.doubled_letter_cost if only_doubled else edits * config.edit_cost
            return price + (known[0] != word[0]) * config.first_letter_cost - math.log(self._weights[known]), known

        return min(candidates, key=cost)[0]

    def _index(self) -> None:
        self._fresh.clear()
        self._indexed = sorted(self._weights)
        self._codes, self._lengths = text.encode_words(self._indexed, _WIDTH)
        self._masks = _letters(self._indexed)


def correct(query: str, vocabulary: Vocabulary) -> Correction | None:
    """ "Did you mean": the query with each unknown word replaced by its nearest known one; None if nothing changes.

    Known words, numbers and very short words stay. Two words that are known when joined stay too. The text between the
    words stays as typed.
    """
    spans = text.word_spans(query)
    if not 0 < len(spans) <= vocabulary.config.max_words:
        return None
    typed = ["".join(text.words(text.fold(query[start:end]))) for start, end in spans]
    joined = [pair in vocabulary for pair in text.joined_pairs(typed)]
    parts, done, replaced = [], 0, []
    for at, ((start, end), word) in enumerate(zip(spans, typed, strict=True)):
        known = word in vocabulary or any(joined[max(0, at - 1) : at + 1])
        if known or len(word) < vocabulary.config.min_letters or any(sign.isdigit() for sign in word):
            continue
        best = vocabulary.nearest(word)
        if best is not None:
            parts += [query[done:start], best]
            done = end
            replaced.append((word, best))
    if not replaced:
        return None
    return Correction(query, "".join([*parts, query[done:]]), tuple(replaced))


def _words(value: str) -> list[str]:
    return text.words(text.fold(value))


def _single(word: str) -> str:
    """A word with its doubled letters written once."""
    return "".join(letter for letter, _ in groupby(word))


def _letters(words: Iterable[str]) -> np.ndarray[tuple[int, ...], np.dtype[np.uint64]]:
    """A bit per letter of each word, as far as it is compared; different letters may share one of 64 bits."""
    masks = []
    for word in words:
        mask = 0
        for sign in word[:_WIDTH]:
            mask |= 1 << (ord(sign) & 63)
        masks.append(mask)
    return np.array(masks, np.uint64)
