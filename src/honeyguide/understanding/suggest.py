"""Completions while a person types: titles, people, categories and what others asked with success."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from honeyguide.contracts import F32, CatalogView
from honeyguide.kernels import text
from honeyguide.schema.wire import Item, Suggestion

__all__ = ["LEAST_PEOPLE", "PastQuery", "SuggestConfig", "Suggester", "Taste"]

TITLE, PERSON, CATEGORY, QUERY = "title", "person", "category", "query"
LEAST_PEOPLE = 20
"""A query that fewer people asked is never suggested: it may say who asked it."""
_LAST = "\U0010ffff"


class SuggestConfig(BaseModel):
    """How completions are weighed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    middle_weight: Annotated[float, Field(ge=0, le=1)] = 0.5  # of a name that continues the prefix in its middle
    typo_min_letters: Annotated[int, Field(ge=2)] = 4  # shorter prefixes are not forgiven a typo
    success_share: Annotated[float, Field(ge=0, le=1)] = 0.05  # of a past query's searches, so many led to something
    personal_weight: Annotated[float, Field(ge=0)] = 1.0  # how much more an entry counts that all of a history is about
    max_prefix_letters: Annotated[int, Field(ge=1, le=1000)] = 100  # a longer prefix completes nothing


@dataclass(frozen=True, slots=True)
class PastQuery:
    """A query as people asked it: how often, how many of them, and after how many searches somebody took something."""

    text: str
    searches: int
    people: int
    successes: int


@dataclass(frozen=True, slots=True)
class Taste:
    """What a person's history speaks for: names of categories and people -> share of the history, 0 to 1."""

    names: Mapping[str, float]


class _Entry(NamedTuple):
    text: str
    kind: str
    item_id: str | None
    folded: str  # without a leading article: typed in full, it comes first
    score: float
    about: tuple[str, ...] = ()  # categories and people that the entry stands for


@dataclass(frozen=True, slots=True)
class _Keys:
    """Every word start of every entry, sorted, with the entry and its score there."""

    keys: list[str]
    entry: list[int]
    score: F32


class Suggester:
    """Prefix completion over sorted word starts; live changes stand in a second, small list.

    A prefix continues a title at any word ("god" -> "The Godfather"). Better: the prefix is the whole name, then
    popularity (logarithmic), halved where the prefix meets the middle of a name. Memory: about 1 kB an item.
    """

    def __init__(self, entries: list[_Entry], popularity: dict[str, float], config: SuggestConfig) -> None:
        self._config = config
        self._entries = entries
        self._popularity = popularity  # by item id, for items that change
        self._names = {(entry.kind, entry.text) for entry in entries if entry.item_id is None}
        starts = sorted((key, at, weight) for at, entry in enumerate(entries) for key, weight in _starts(entry, config))
        self._keys = _Keys(
            [start[0] for start in starts],
            [start[1] for start in starts],
            np.array([start[2] * entries[start[1]].score for start in starts], np.float32),
        )
        self._fresh: list[tuple[str, int, float]] = []  # key, entry, score; sorted
        self._of_item: dict[str, list[int]] = {}
        for at, entry in enumerate(entries):
            if entry.item_id is not None:
                self._of_item.setdefault(entry.item_id, []).append(at)
        self._gone: set[int] = set()

    @classmethod
    def build(
        cls, view: CatalogView, popularity: F32 | None = None, config: SuggestConfig | None = None,
        queries: Iterable[PastQuery] = (),
    ) -> Suggester:  # fmt: skip
        """From the available items of a catalog, and from what people asked.

        popularity: (items,) not negative; a person's is the sum. A past query counts by its successes times their
        share; one that fewer than `LEAST_PEOPLE` people asked does not count at all. One that names an entry of the
        catalog makes that entry count more.
        """
        config = config or SuggestConfig()
        pop = np.zeros(len(view)) if popularity is None else np.nan_to_num(popularity.astype(np.float64)).clip(0)
        rows = np.flatnonzero(view.available)
        entries = [
            _entry(title, TITLE, view.items.id(row), float(pop[row]))._replace(about=_about(view, row))
            for row in rows.tolist()
            if (title := text.natural_title(view.title[row]))
        ]
        of_row = np.where(view.available, pop, 0.0)
        for kind, names, ragged in (
            (PERSON, view.people_names, view.people),
            (CATEGORY, view.category_names, view.category),
        ):
            lengths = np.diff(ragged.indptr)
            mass = np.bincount(ragged.values, np.repeat(of_row, lengths), len(names))
            alive = np.bincount(ragged.values, np.repeat(view.available, lengths), len(names))
            entries += [
                _entry(name, kind, None, value)
                for name, value, count in zip(names, mass.tolist(), alive.tolist(), strict=True)
                if count and name
            ]
        entries = _with_queries(entries, queries, config)
        by_id = {view.items.id(row): float(pop[row]) for row in rows.tolist() if pop[row] > 0}
        return cls(entries, by_id, config)

    def suggest(self, prefix: str, k: int = 10, taste: Taste | None = None) -> list[Suggestion]:
        """Best completions of what was typed so far; for anything typed, [] at worst.

        Where nothing continues the prefix, whatever continues it after one edit does. taste: of the person who types.
        """
        typed = " ".join(text.words(text.fold(prefix)))
        if not typed or k <= 0 or len(typed) > self._config.max_prefix_letters:
            return []
        whole = text.title_key(typed.split())
        found = self._best([typed], whole, k, taste)
        if not found and "," in prefix:  # "matrix, the", as catalogs write it
            typed = " ".join(text.words(text.fold(text.natural_title(prefix))))
            found = self._best([typed], text.title_key(typed.split()), k, taste)
        if not found and len(typed) >= self._config.typo_min_letters:
            found = self._best(self._one_edit(typed), whole, k, taste)
        return [Suggestion(entry.text, entry.kind, entry.item_id) for entry in found]

    def upsert(self, item: Item) -> None:
        """Add or replace an item; its old title is suggested no more. An unavailable item is not suggested."""
        self._gone.update(self._of_item.pop(item.item_id, ()))
        if not item.available:
            return
        popularity = self._popularity.get(item.item_id, 0.0)
        title = text.natural_title(item.title or "")
        if title:
            about = (*item.categories, *item.people)
            entry = _entry(title, TITLE, item.item_id, popularity)._replace(about=about)
            self._of_item[item.item_id] = [self._add(entry)]
        for kind, names in ((PERSON, item.people), (CATEGORY, item.categories)):
            for name in names:
                if (kind, name) not in self._names:
                    self._names.add((kind, name))
                    self._add(_entry(name, kind, None, popularity))

    def _add(self, entry: _Entry) -> int:
        at = len(self._entries)
        self._entries.append(entry)
        for key, weight in _starts(entry, self._config):
            insort(self._fresh, (key, at, weight * entry.score))
        return at

    def _best(self, prefixes: Iterable[str], whole: str, k: int, taste: Taste | None = None) -> list[_Entry]:
        scored: dict[int, float] = {}
        for prefix in prefixes:
            low, high = _range(self._keys.keys, prefix)
            # Names meet a prefix at more than one word, so more than k starts are looked at.
            for at in _top(self._keys.score[low:high], (4 if taste is None else 20) * k + 4 + len(self._gone)):
                entry = self._keys.entry[low + at]
                scored[entry] = max(scored.get(entry, 0.0), float(self._keys.score[low + at]))
            # A name typed in full may be too rare for the top, but its key is the first of the range.
            for at in range(low, min(high, low + k)):
                if self._keys.keys[at] == prefix:
                    scored.setdefault(self._keys.entry[at], float(self._keys.score[at]))
            start = bisect_left(self._fresh, (prefix,))
            for _, entry, score in self._fresh[start : bisect_left(self._fresh, (prefix + _LAST,))]:
                scored[entry] = max(scored.get(entry, 0.0), score)
        if taste is not None:
            for entry in scored:
                scored[entry] *= 1.0 + self._config.personal_weight * _fit(self._entries[entry], taste)
        order = sorted(
            (entry for entry in scored if entry not in self._gone),
            key=lambda at: (self._entries[at].folded != whole, -scored[at], len(self._entries[at].text), at),
        )
        unique = {(self._entries[at].kind, self._entries[at].text): self._entries[at] for at in reversed(order)}
        return list(reversed(unique.values()))[:k]

    def _one_edit(self, typed: str) -> list[str]:
        """Prefixes one edit away that some key continues."""
        fresh = [key for key, _, _ in self._fresh]
        return list(dict.fromkeys([*_within_one_edit(self._keys.keys, typed), *_within_one_edit(fresh, typed)]))


def _about(view: CatalogView, row: int) -> tuple[str, ...]:
    categories = (view.category_names[code] for code in view.category.row(row).tolist())
    return (*categories, *(view.people_names[code] for code in view.people.row(row).tolist()))


def _fit(entry: _Entry, taste: Taste) -> float:
    """How much of a history an entry stands for: the largest share among its names."""
    names = entry.about if entry.item_id is not None else (entry.text,)
    return max((taste.names.get(name, 0.0) for name in names), default=0.0)


def _with_queries(entries: list[_Entry], queries: Iterable[PastQuery], config: SuggestConfig) -> list[_Entry]:
    """The entries, and past queries beside them; a query that is an entry's name adds to its score."""
    told: dict[str, tuple[float, str, int]] = {}
    for one in queries:
        key = " ".join(text.words(text.fold(one.text)))
        if (
            not key
            or one.people < LEAST_PEOPLE
            or one.successes < config.success_share * one.searches
            or not one.successes
        ):
            continue
        score = float(np.log1p(one.successes)) * one.successes / one.searches
        before = told.get(key, (0.0, one.text, 0))
        told[key] = (
            before[0] + score,
            one.text if one.searches > before[2] else before[1],
            max(one.searches, before[2]),
        )
    named = {" ".join(text.words(text.fold(entry.text))): at for at, entry in enumerate(entries)} if told else {}
    out = list(entries)
    for key, (score, typed, _) in told.items():
        at = named.get(key)
        if at is not None:
            out[at] = out[at]._replace(score=out[at].score + score)
        else:
            out.append(_Entry(" ".join(typed.split()), QUERY, None, text.title_key(key.split()), score + 1e-3))
    return out


def _entry(name: str, kind: str, item_id: str | None, popularity: float) -> _Entry:
    key = text.title_key(text.words(text.fold(name)))
    return _Entry(name, kind, item_id, key, float(np.log1p(popularity)) + 1e-3)


def _starts(entry: _Entry, config: SuggestConfig) -> Iterator[tuple[str, float]]:
    """The name from each of its words on; full weight from its first word or the first after an article."""
    words = text.words(text.fold(entry.text))
    for at in range(len(words)):
        key = " ".join(words[at:])
        yield key, 1.0 if at == 0 or key == entry.folded else config.middle_weight


def _range(keys: list[str], prefix: str) -> tuple[int, int]:
    low = bisect_left(keys, prefix)
    return low, bisect_left(keys, prefix + _LAST, low)


def _within_one_edit(keys: list[str], typed: str) -> Iterator[str]:
    """Prefixes of keys that are one edit from what was typed: the sorted keys walked as a trie."""
    for at in range(len(typed) + 1):
        head, tail = typed[:at], typed[at:]
        low, high = _range(keys, head)
        if low == high:
            return
        tries = [head + tail[1:]] if tail else []
        if len(tail) > 1:
            tries.append(head + tail[1] + tail[0] + tail[2:])
        for letter in _next_letters(keys, head, low, high):
            tries += [head + letter + tail[1:], head + letter + tail] if tail else []
        for prefix in tries:
            first, end = _range(keys, prefix)
            if first < end:
                yield prefix


def _next_letters(keys: list[str], head: str, low: int, high: int) -> Iterator[str]:
    """Letters that follow a prefix somewhere in keys[low:high], a jump for each."""
    size = len(head)
    while low < high:
        if len(keys[low]) <= size:
            low += 1
            continue
        letter = keys[low][size]
        yield letter
        low = bisect_left(keys, head + letter + _LAST, low, high)


def _top(scores: F32, n: int) -> list[int]:
    if len(scores) > n:
        return np.argpartition(scores, len(scores) - n)[-n:].tolist()
    return list(range(len(scores)))
