"""The lexical index: words of a catalog in memory-mapped arrays, built once, opened by any number of processes.

Why not a library's: its BM25 parameters could not be set, a field's own score not be had, and building it took seven
times as long (docs/decisions/0013-lexical-index.md).
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

import msgspec
import numpy as np
import pydantic

from honeyguide.contracts import F32, I32, I64, BoolArray, CatalogView, Progress, Rewrites, TextHits
from honeyguide.engines.search.facts import (
    DECADE,
    FACETS,
    NAMED,
    SORTS,
    Facts,
    Names,
    attributes_of,
    is_utf8,
    unknown_facet,
)
from honeyguide.engines.search.lexical_config import LexicalConfig
from honeyguide.engines.search.query_plan import Plan, spellings, words_of
from honeyguide.engines.search.segment import FIELDS, Document, Segment, Term, norms, title_code
from honeyguide.errors import BuildError, RequestError
from honeyguide.kernels import postings, text
from honeyguide.schema.wire import Filters, Item

__all__ = ["FACETS", "LexicalIndex"]

_FORMAT: Final = 2
_MANIFEST: Final = "lexical.json"
_WORDS: Final = "words.msgpack"
_FILES: Final = "index"
_TOP_VALUES: Final = 20  # values per facet
_FROZEN: Final = 256  # so many fresh items become a segment of their own
_ARRAYS: Final = ("pairs", "indptr", "docs", "counts", "lengths", "keys", "key_docs")


class _Manifest(msgspec.Struct, forbid_unknown_fields=True):
    format: int
    n_items: int
    config: dict[str, Any]
    mean_length: list[float]
    popular: bool  # whether a popularity orders the documents
    sizes: dict[str, int]


@dataclass
class _Part:
    """A segment with its facts, what hides some of its documents, and room to count in."""

    segment: Segment
    facts: Facts
    impact: F32
    norms: F32
    prior: F32  # (n,) added to scores
    hidden: BoolArray
    scores: F32 = field(init=False)

    def __post_init__(self) -> None:
        n = len(self.segment)
        self.scores, self.best = np.zeros(n, np.float32), np.zeros(n, np.float32)
        self.met, self.last, self.hits = (np.zeros(n, np.int32) for _ in range(3))
        self.seen, self.calls = np.zeros(n, np.int32), 0
        self.hides = False

    def hide(self, doc: int) -> None:
        """From now on the document is not found."""
        self.hidden[doc] = self.hides = True

    def search(self, plan: Plan, covered: float) -> tuple[I32, F32]:
        """Documents that meet enough of a plan, and their scores; those that are hidden are not among them."""
        asked, segment = plan.of(self.segment), self.segment
        self.calls += 1
        n = postings.search(
            asked.concepts, asked.low, asked.high, asked.weights, asked.units, plan.required, segment.docs,
            self.impact, self.scores, self.met, self.seen, self.last, self.best, self.hits, self.calls, covered,
            asked.soft,
        )  # fmt: skip
        docs = self.hits[:n].copy()
        if plan.exact is not None:
            titled = segment.titled(title_code(plan.exact))
            met = (self.seen[titled] == self.calls) & (self.met[titled] >= plan.required)
            self.scores[titled[self.seen[titled] != self.calls]] = 0.0
            docs = np.concatenate([docs, titled[~met]])
        if self.hides:
            docs = docs[~self.hidden[docs]]
        return docs, self.scores[docs] + self.prior[docs]


class LexicalIndex:
    """`contracts.TextIndex`: words over titles, people, categories, descriptions, attributes; facets and hard filters.

    Order: score, then popularity (if `build` was given it), then row. Items put by `upsert` live in memory, hide the
    index's own row, and rank by the index's statistics; between equal scores they stand behind the index's items.
    Disk: about 1 kB an item with a description. Searching is thread-safe; `upsert` too.
    """

    def __init__(self, part: _Part, names: Names, mean: F32, config: LexicalConfig, popular: bool) -> None:
        self.config, self._popular = config, popular
        self._parts, self._names, self._mean = [part], names, mean
        self._n_items = len(part.segment)
        self._fresh: dict[int, Item] = {}  # not yet frozen; what is not available only hides
        self._tail: _Part | None = None
        self._place: dict[int, int] = {}  # row -> document of the first part
        self._lock = threading.RLock()

    # ------------------------------------------------------------------------------------------ build and open

    @classmethod
    def build(
        cls, folder: Path, view: CatalogView, *, popularity: F32 | None = None, config: LexicalConfig | None = None,
        progress: Progress | None = None,
    ) -> Self:  # fmt: skip
        """Index the available items of a catalog into a folder, replacing what lies there, and open it.

        popularity: (items,) higher first; orders equal scores, and weighs by `popularity_weight`.
        """
        config = config or LexicalConfig()
        if popularity is not None and len(popularity) != len(view):
            raise BuildError(
                expected=f"a popularity for each of {len(view)} items",
                got=f"{len(popularity)}",
                do="Compute the popularity on the catalog that is indexed.",
            )
        order = np.arange(len(view)) if popularity is None else np.argsort(-popularity, kind="stable")
        chosen: I32 = order[view.available[order]].astype(np.int32)
        attributes = [] if view.attributes is None else view.attributes.to_pylist()
        segment = Segment.build(_documents(view, chosen.tolist(), attributes, config, progress))
        names = Names(
            {"categories": view.category_names, "people": view.people_names, "countries": view.country_names}
            | {key: [] for key in config.facets}
        )
        facts = Facts.of_view(view, chosen, names, config.facets)
        prior = _prior(chosen, attributes, config, popularity is not None)
        folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(folder / _FILES, ignore_errors=True)
        (folder / _FILES).mkdir()
        (folder / _MANIFEST).unlink(missing_ok=True)
        mean = segment.lengths.mean(axis=0) if len(segment) else np.zeros(len(FIELDS))
        _write(folder, segment, facts, names, prior, mean.astype(np.float32), config, popularity is not None)
        if progress is not None:
            progress("index texts", len(chosen), len(chosen))
        return cls.open(folder)

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Open what `build` wrote. A folder that is truncated or of another version raises BuildError."""

        def refuse(got: str) -> BuildError:
            return BuildError(
                expected=f"a text index of format {_FORMAT} in {folder.name}", got=got, do="Run `honeyguide build`."
            )

        try:
            raw = (folder / _MANIFEST).read_bytes()
        except OSError as error:
            raise refuse(f"no readable {_MANIFEST} ({error.strerror})") from error
        try:
            version = msgspec.json.decode(raw, type=dict[str, Any]).get("format")
            if version != _FORMAT:
                raise refuse(f"format {version}")
            manifest = msgspec.json.decode(raw, type=_Manifest)
            config = LexicalConfig.model_validate(manifest.config)
        except (msgspec.DecodeError, pydantic.ValidationError) as error:
            raise refuse(f"a {_MANIFEST} that cannot be read") from error
        files = folder / _FILES
        for name, size in manifest.sizes.items():
            path = files / name
            found = path.stat().st_size if path.is_file() else None
            if found != size:
                raise refuse(f"{name} {'missing' if found is None else f'with {found} of {size} bytes'}")
        try:
            segment, facts, names, prior = _read(files)
        except (ValueError, OSError, KeyError, TypeError, msgspec.DecodeError) as error:
            raise refuse(f"files that cannot be opened ({error})") from error
        mean = np.array(manifest.mean_length, np.float32)
        return cls(_part(segment, facts, prior, mean, config), names, mean, config, manifest.popular)

    def reweighed(self, config: LexicalConfig) -> LexicalIndex:
        """The same index under another configuration of weights: what tuning tries. Fresh items are left behind."""
        base = self._parts[0]
        prior, n = base.prior, len(base.prior)
        if self._popular:
            prior = prior - _rank_prior(n, self.config) + _rank_prior(n, config)
        part = _part(base.segment, base.facts, prior, self._mean, config)
        return LexicalIndex(part, self._names, self._mean, config, self._popular)

    def __len__(self) -> int:
        """How many items can be found."""
        with self._lock:
            return sum(int((~part.hidden).sum()) for part in self._all())

    # ------------------------------------------------------------------------------------------------- search

    def search(
        self, query: str, k: int, *, offset: int = 0, filters: Filters | None = None, facets: bool = False,
        rewrites: Rewrites | None = None, sort: str = "relevance", facet_text: Mapping[str, str] | None = None,
    ) -> TextHits:  # fmt: skip
        """Hits for any string a person may type; never raises on a query. An empty query has no hits.

        A hit holds enough of the query's information (`coverage`; words count by how rare they are); where fewer
        than `enough_hits` items do, two thirds of it are, and where none do, any word. That is decided without the
        filters, so a filter only ever removes hits. Facets count all hits, whatever the page; facet_text: only values
        that hold these words. Raises RequestError for an unknown facet or order.
        """
        if sort not in SORTS:
            raise RequestError(expected=f"one of {', '.join(SORTS)}", got=repr(sort)[:80], do="Name one of them.")
        told = facet_text or {}
        for name in told:
            if name not in self._names.values and name != DECADE:
                raise unknown_facet(name, [*self._names.values, DECADE])
        with self._lock:
            plan = self.plan(query, rewrites)
            hits = [] if plan is None else self._hits(plan)
            return self._answer(hits, max(k, 0), max(offset, 0), filters or Filters(), facets, sort, told)

    def plan(self, query: str, rewrites: Rewrites | None = None) -> Plan | None:
        """What a query asks for."""
        with self._lock:
            parts = self._all()
            n = self._n_items or sum(len(part.segment) for part in parts)
            return Plan.of_query(query, self._found, self._near, self._grams, n, self.config, rewrites)

    def like(self, item: Item, k: int, *, filters: Filters | None = None) -> TextHits:
        """Items whose texts are most like one item's, itself excluded; the item need not be in the index."""
        with self._lock:
            n = self._n_items or sum(len(part.segment) for part in self._all())
            plan = Plan.like(_document(item, self.config), self._found, n, self.config)
            filters = filters or Filters()
            others = msgspec.structs.replace(filters, deny=[*filters.deny, item.item_id])
            hits = [] if plan is None else [part.search(plan, self.config.covered) for part in self._all()]
            return self._answer(hits, max(k, 0), 0, others, False, "relevance", {})

    def lacking(self, query: str, rows: Sequence[int], rewrites: Rewrites | None = None) -> list[str]:
        """Words of a query that none of these items holds, in any spelling; words that the index ignores aside."""
        with self._lock:
            parts = self._all()
            docs = [np.flatnonzero(np.isin(part.facts.rows, rows) & ~part.hidden) for part in parts]
            missing = []
            for word, ways in spellings(query, self.config, rewrites).items():
                held = any(
                    len(np.intersect1d(part.segment.docs[slice(*part.segment.span(term))], mine))
                    for part, mine in zip(parts, docs, strict=True)
                    for term in ways
                )
                if not held:
                    missing.append(word)
            return missing

    def field_scores(self, query: str, rows: Sequence[int], rewrites: Rewrites | None = None) -> F32:
        """BM25 of items by field, the shares of the query's words that they and their titles hold, (rows, fields + 2).

        Zeros for rows that are not in the index.
        """
        out = np.zeros((len(rows), len(FIELDS) + 2), np.float32)
        with self._lock:
            plan = self.plan(query, rewrites)
            if plan is None:
                return out
            words = Plan(tuple(one for one in plan.concepts if one.units), None, 1)
            wanted = np.asarray(rows, np.int64)
            for at, part in enumerate(self._all()):
                docs = self._docs(wanted) if at == 0 else _place_of(part.facts.rows, wanted)
                live = np.flatnonzero(docs >= 0)
                live = live[~part.hidden[docs[live]]]
                asked = words.of(part.segment)
                mine = np.zeros((len(live), out.shape[1]), np.float32)
                postings.field_scores(
                    docs[live].astype(np.int32), asked.concepts, asked.low, asked.high, asked.weights,
                    part.segment.docs, part.segment.counts, part.norms, self.config.k1, mine,
                )  # fmt: skip
                out[live] = mine
        return out

    def titled(self, query: str) -> I32:
        """Rows whose whole title a query is."""
        with self._lock:
            code = title_code(text.title_key(words_of(query, self.config)))
            found = [part.facts.rows[part.segment.titled(code)] for part in self._all()]
            return np.concatenate(found)

    def allowed(self, rows: I32, filters: Filters) -> BoolArray:
        """Which rows can be found at all, and pass the filters."""
        with self._lock:
            out = np.zeros(len(rows), np.bool_)
            for at, part in enumerate(self._all()):
                docs = self._docs(rows) if at == 0 else _place_of(part.facts.rows, rows)
                live = np.flatnonzero(docs >= 0)
                live = live[~part.hidden[docs[live]]]
                out[live] |= part.facts.passes(docs[live].astype(np.int32), filters, self._names)
            return out

    def upsert(self, rows: Sequence[int], items: Sequence[Item]) -> None:
        """Add or replace items in this process; the next search sees them. An unavailable item is hidden."""
        with self._lock:
            for row, item in zip(rows, items, strict=True):
                for part in self._parts[1:]:
                    for doc in np.flatnonzero(part.facts.rows == int(row)).tolist():
                        part.hide(doc)
                place = int(self._docs(np.array([row]))[0])
                if place >= 0:
                    self._parts[0].hide(place)
                self._fresh.pop(int(row), None)
                if item.available:
                    self._fresh[int(row)] = item
            self._tail = None
            while len(self._fresh) > _FROZEN:
                first = dict(list(self._fresh.items())[:_FROZEN])
                self._fresh = dict(list(self._fresh.items())[_FROZEN:])
                self._parts.append(self._part_of(first))

    # ------------------------------------------------------------------------------------------------- inside

    def _all(self) -> list[_Part]:
        if self._fresh and self._tail is None:
            self._tail = self._part_of(self._fresh)
        return self._parts if self._tail is None else [*self._parts, self._tail]

    def _part_of(self, items: Mapping[int, Item]) -> _Part:
        segment = Segment.build(_document(item, self.config) for item in items.values())
        facts = Facts.of_items(list(items), list(items.values()), self._names, self.config.facets)
        mean = self._mean if self._n_items else segment.lengths.mean(axis=0).astype(np.float32)
        prior = self._prior_of(items)
        return _part(segment, facts, prior, mean, self.config)

    def _prior_of(self, items: Mapping[int, Item]) -> F32:
        """Of fresh items: their popularity as it was built, and their own boost."""
        out = np.zeros(len(items), np.float32)
        base = self._parts[0]
        docs = self._docs(np.array(list(items), np.int64))
        for at, (doc, item) in enumerate(zip(docs.tolist(), items.values(), strict=True)):
            if doc >= 0:
                out[at] = base.prior[doc]
            if self.config.boost and self.config.boost in item.attributes:
                rank = _rank_prior(len(base.prior), self.config)[doc] if doc >= 0 and self._popular else 0.0
                out[at] = rank + _number(item.attributes[self.config.boost])
        return out

    def _docs(self, rows: np.ndarray) -> np.ndarray:
        """Documents of the first part by row, -1 where it has none."""
        if not hasattr(self, "_of_row"):
            have = self._parts[0].facts.rows
            self._of_row = np.full(int(have.max(initial=-1)) + 1, -1, np.int64)
            self._of_row[have] = np.arange(len(have))
        inside = (rows >= 0) & (rows < len(self._of_row))
        return np.where(inside, self._of_row[np.where(inside, rows, 0)] if len(self._of_row) else -1, -1)

    def _found(self, term: Term) -> int:
        # What is only in fresh items counts there; else the index's statistics stay as they were built.
        for part in self._all():
            low, high = part.segment.span(term)
            if high > low:
                return high - low
        return 0

    def _grams(self, words: Sequence[str]) -> tuple[I64, F32]:
        parts = self._all()
        buckets = parts[0].segment.buckets(words)
        found = parts[0].segment.gram_counts(buckets)
        for part in parts[1:]:
            found = np.where(found > 0, found, part.segment.gram_counts(buckets))
        n = self._n_items or sum(len(part.segment) for part in parts)
        least = np.minimum(found, n) + 0.5
        idf = np.log1p((n - least + 1) / least).astype(np.float32)
        return buckets[found > 0], idf[found > 0]

    def _near(self, word: str) -> list[tuple[str, float]]:
        most, least = self.config.grams_words, self.config.grams_share
        found: dict[str, float] = {}
        for part in self._all():
            found |= {part.segment.words[at]: like for at, like in part.segment.like(word, most, least)}
        return sorted(found.items(), key=lambda one: (-one[1], one[0]))[:most]

    def _hits(self, plan: Plan) -> list[tuple[I32, F32]]:
        hits = [part.search(plan, self.config.covered) for part in self._all()]
        found = sum(len(docs) for docs, _ in hits)
        if found < self.config.enough_hits and plan.required > 1:
            while True:
                plan = plan.relaxed()
                hits = [part.search(plan, self.config.covered) for part in self._all()]
                if plan.required == 1 or any(len(docs) for docs, _ in hits):
                    break
        return self._with_bonus(plan, hits)

    def _with_bonus(self, plan: Plan, hits: list[tuple[I32, F32]]) -> list[tuple[I32, F32]]:
        if plan.exact is None or self.config.exact_bonus <= 0:
            return hits
        out = []
        for part, (docs, scores) in zip(self._all(), hits, strict=True):
            titled = part.segment.titled(title_code(plan.exact))
            if len(titled):
                scores = scores.copy()
                scores[np.isin(docs, titled)] += np.float32(self.config.exact_bonus)
            out.append((docs, scores))
        return out

    def _answer(
        self, hits: list[tuple[I32, F32]], k: int, offset: int, filters: Filters, facets: bool, sort: str,
        facet_text: Mapping[str, str],
    ) -> TextHits:  # fmt: skip
        parts = self._all()
        if not hits:
            hits = [(np.zeros(0, np.int32), np.zeros(0, np.float32)) for _ in parts]
        if filters != _NONE:
            kept = [part.facts.passes(docs, filters, self._names) for part, (docs, _) in zip(parts, hits, strict=True)]
            hits = [(docs[keep], scores[keep]) for (docs, scores), keep in zip(hits, kept, strict=True)]
        total = sum(len(docs) for docs, _ in hits)
        counted = self._facets([docs for docs, _ in hits], facet_text) if facets else {}
        of_part = np.repeat(np.arange(len(parts)), [len(docs) for docs, _ in hits])
        docs = np.concatenate([docs for docs, _ in hits])
        scores = np.concatenate([scores for _, scores in hits])
        page = self._page(parts, of_part, docs, scores, k, offset, sort)
        rows = [int(parts[of_part[at]].facts.rows[docs[at]]) for at in page]
        return TextHits(np.array(rows, np.int32), scores[page].astype(np.float32), total, counted)

    def _page(
        self, parts: Sequence[_Part], of_part: np.ndarray, docs: I32, scores: F32, k: int, offset: int, sort: str
    ) -> np.ndarray:
        """Which hits stand on the page, in order; equal ones by part, then by document."""
        if offset >= len(docs) or k == 0:
            return np.zeros(0, np.int64)
        if sort in ("price", "-price", "year", "-year", "title"):
            keys = [key for at, part in enumerate(parts) for key in part.facts.sort_key(docs[of_part == at], sort)]
            order = sorted(range(len(docs)), key=lambda at: (keys[at], -scores[at], of_part[at], docs[at]))
            return np.array(order[offset : offset + k], np.int64)
        first = -scores if sort == "relevance" else np.zeros(len(docs), np.float32)
        end = offset + k
        near = np.arange(len(docs))
        if end < len(docs) and sort == "relevance":
            near = np.flatnonzero(first <= np.partition(first, end)[end])
        return near[np.lexsort((docs[near], of_part[near], first[near]))][offset:end]

    def _facets(self, hits: Sequence[I32], facet_text: Mapping[str, str]) -> dict[str, list[tuple[str, int]]]:
        """Counts per value over all hits, most frequent first, ties by value."""
        out: dict[str, list[tuple[str, int]]] = {}
        parts = self._all()
        for facet in (*NAMED, DECADE, *self.config.facets):
            if facet == DECADE:
                counts: dict[str, int] = {}
                for part, docs in zip(parts, hits, strict=True):
                    for value, n in part.facts.decades(docs).items():
                        counts[value] = counts.get(value, 0) + n
            else:
                names = self._names.values[facet]
                summed = np.zeros(len(names), np.int32)
                for part, docs in zip(parts, hits, strict=True):
                    summed += part.facts.count(docs, facet, len(names))
                some = np.flatnonzero(summed)
                if len(some) > 4 * _TOP_VALUES and facet not in facet_text:
                    least = np.partition(summed[some], -_TOP_VALUES)[-_TOP_VALUES]
                    some = some[summed[some] >= least]
                counts = {names[code]: int(summed[code]) for code in some.tolist()}
            if facet in facet_text:
                asked = text.words(text.fold(facet_text[facet]))
                counts = {value: n for value, n in counts.items() if _holds(value, asked)}
            out[facet] = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:_TOP_VALUES]
        return out


_NONE: Final = Filters()


def _holds(value: str, asked: Sequence[str]) -> bool:
    """Whether each word asked for begins a word of a facet's value."""
    words = text.words(text.fold(value))
    return all(any(word.startswith(one) for word in words) for one in asked)


def _place_of(have: I32, wanted: np.ndarray) -> np.ndarray:
    place = {row: at for at, row in enumerate(have.tolist())}
    return np.array([place.get(row, -1) for row in wanted.tolist()], np.int64)


def _part(segment: Segment, facts: Facts, prior: F32, mean: F32, config: LexicalConfig) -> _Part:
    norm = norms(segment.lengths, mean, config.fields.b())
    impact = postings.impacts(segment.docs, segment.counts, norm, config.fields.weights(), config.k1)
    words, grams = segment.indptr[[len(segment.words), len(segment.words) + len(segment.pairs)]]
    impact[words:grams] = 1.0  # two words that stand together do, or do not
    one = np.zeros(len(FIELDS), np.float32)
    one[0] = 1.0
    impact[grams:] = postings.impacts(segment.docs[grams:], segment.counts[grams:], norm, one, config.k1)
    return _Part(segment, facts, impact, norm, prior, np.zeros(len(segment), np.bool_))


def _rank_prior(n: int, config: LexicalConfig) -> F32:
    return (config.popularity_weight * (1 - np.log1p(np.arange(n)) / np.log1p(max(n, 1)))).astype(np.float32)


def _prior(order: I32, attributes: Sequence[str | None], config: LexicalConfig, popular: bool) -> F32:
    """What is added to each document's score: by its rank of popularity, and by its own boost."""
    out = _rank_prior(len(order), config) if popular else np.zeros(len(order), np.float32)
    if config.boost and attributes:
        out += np.array([_number(attributes_of(attributes[row]).get(config.boost)) for row in order], np.float32)
    return out


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and np.isfinite(value) else 0.0


def _document(item: Item, config: LexicalConfig) -> Document:
    """The words of an item as it came over the API."""
    return _words(
        item.title or item.item_id, [text.words(text.fold(name)) for name in item.people],
        [text.words(text.fold(name)) for name in item.categories], text.words(text.fold(item.description or "")),
        item.attributes, item.year, config,
    )  # fmt: skip


def _words(
    title: str, people: Sequence[Sequence[str]], categories: Sequence[Sequence[str]], description: Sequence[str],
    attributes: Mapping[str, Any], year: int | None, config: LexicalConfig,
) -> Document:  # fmt: skip
    words = text.words(text.fold(text.natural_title(title)))
    keys = text.title_keys(title)
    titled = words + [digit for word in words if (digit := text.numeral(word))]
    if year is not None:
        titled.append(str(year))
        keys += [f"{key} {year}" for key in keys]
    told = [
        str(one)
        for key, value in attributes.items()
        if key not in config.unsearched and key != config.boost
        for one in (value if isinstance(value, list) else [value])
        if isinstance(one, str | int | float) and not isinstance(one, bool)
    ]
    return Document(
        titled, (people, categories), description, text.words(text.fold(" . ".join(told))) if told else [], keys
    )


def _documents(
    view: CatalogView, order: list[int], attributes: Sequence[str | None], config: LexicalConfig,
    progress: Progress | None,
) -> Iterable[Document]:  # fmt: skip
    """The words of a catalog's rows: names are cut once each."""
    people = [text.words(text.fold(name)) for name in view.people_names]
    categories = [text.words(text.fold(name)) for name in view.category_names]
    years = [None if np.isnan(year) else int(year) for year in view.year.tolist()]
    ids = view.items.ids
    for done, row in enumerate(order):
        if progress is not None and done % 10_000 == 0:
            progress("index texts", done, len(order))
        yield _words(
            view.title[row] or ids[row],  # an item without a title is shown, and so looked for, by its id
            [people[code] for code in view.people.row(row).tolist()],
            [categories[code] for code in view.category.row(row).tolist()],
            text.words(text.fold(view.description[row])),
            attributes_of(attributes[row]) if row < len(attributes) else {}, years[row], config,
        )  # fmt: skip


# --------------------------------------------------------------------------------------------------- the files


def _write(
    folder: Path,
    segment: Segment,
    facts: Facts,
    names: Names,
    prior: F32,
    mean: F32,
    config: LexicalConfig,
    popular: bool,
) -> None:
    files = folder / _FILES
    for name, values in segment.arrays().items():
        np.save(files / f"{name}.npy", values)
    for name, array in (("rows", facts.rows), ("year", facts.year), ("price", facts.price), ("prior", prior)):
        np.save(files / f"{name}.npy", array)
    for at, ragged in enumerate(facts.codes.values()):
        np.save(files / f"facet{at}_indptr.npy", ragged.indptr)
        np.save(files / f"facet{at}_values.npy", ragged.values)
    clean = {facet: [_clean(value) for value in values] for facet, values in names.values.items()}
    told = {
        "words": segment.words,
        "ids": facts.ids,
        "titles": facts.titles,
        "names": clean,
        "facets": list(facts.codes),
    }
    told["words"] = [_clean(word) for word in segment.words]
    told["ids"], told["titles"] = [_clean(one) for one in facts.ids], [_clean(one) for one in facts.titles]
    (files / _WORDS).write_bytes(msgspec.msgpack.encode(told))
    sizes = {path.name: path.stat().st_size for path in sorted(files.iterdir())}
    manifest = _Manifest(
        _FORMAT, len(segment), config.model_dump(mode="json"), [float(one) for one in mean], popular, sizes
    )
    (folder / _MANIFEST).write_bytes(msgspec.json.encode(manifest))


def _clean(value: str) -> str:
    return value if is_utf8(value) else value.encode(errors="replace").decode()


def _read(files: Path) -> tuple[Segment, Facts, Names, F32]:
    def load(name: str) -> Any:
        # Copy on write: the kernels take arrays that may be written, and nobody writes them.
        return np.asarray(np.load(files / f"{name}.npy", mmap_mode="c", allow_pickle=False))

    told = msgspec.msgpack.decode((files / _WORDS).read_bytes(), type=dict[str, Any])
    from honeyguide.contracts import Ragged

    segment = Segment(told["words"], **{name: load(name) for name in _ARRAYS})
    codes = {
        facet: Ragged(load(f"facet{at}_indptr"), load(f"facet{at}_values")) for at, facet in enumerate(told["facets"])
    }
    facts = Facts(load("rows"), told["ids"], codes, load("year"), load("price"), told["titles"])
    return segment, facts, Names(told["names"]), load("prior")
