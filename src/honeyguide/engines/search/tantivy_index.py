"""A lexical index over the catalog, by tantivy: built once, opened read-only by any number of processes."""

from __future__ import annotations

import math
import shutil
import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final, Self

import msgspec
import numpy as np
import pydantic
import tantivy
from tantivy import FieldType, Occur, Query

from honeyguide.contracts import F32, CatalogView, Progress, Rewrites, TextHits
from honeyguide.engines.search.overlay import Overlay
from honeyguide.engines.search.plan import (
    BAG,
    EXACT,
    GRAMS,
    JOINED,
    SCORED,
    Concept,
    DocumentTerms,
    LexicalConfig,
    Plan,
)
from honeyguide.errors import BuildError
from honeyguide.kernels import text
from honeyguide.schema.wire import Filters, Item

__all__ = ["FACETS", "TantivyIndex"]

FACETS: Final = ("categories", "people", "countries", "decade")
"""The keys of `TextHits.facets`: the first three are also the names of the filters; a decade reads "1990s"."""

_NAMED: Final = FACETS[:3]
_DECADE: Final = FACETS[3]
_FORMAT: Final = 1
_MANIFEST: Final = "lexical.json"
_NAMES: Final = "facet_names.msgpack"
_FILES: Final = "tantivy"
_HEAP_BYTES: Final = 1_000_000_000  # a ceiling, not an allocation: one segment keeps ties in order
_TOP_VALUES: Final = 20  # values per facet
_YEARS: Final = 10**6  # wider than any year, narrower than the field


class _Manifest(msgspec.Struct, forbid_unknown_fields=True):
    format: int
    n_items: int
    config: dict[str, Any]
    mean_length: dict[str, float]
    sizes: dict[str, int]


def _code(field: str) -> str:
    return f"{field}_code"


def _schema() -> tantivy.Schema:
    builder = tantivy.SchemaBuilder()
    for field in SCORED:
        builder.add_text_field(field, tokenizer_name="whitespace", index_option="freq")
    for field in (EXACT, "id"):
        builder.add_text_field(field, tokenizer_name="raw", index_option="basic")
    for field in _NAMED:
        builder.add_text_field(field, tokenizer_name="raw", index_option="basic")
        builder.add_unsigned_field(_code(field), fast=True)  # counting codes costs a tenth of counting strings
    builder.add_unsigned_field("row", indexed=True, fast=True)
    builder.add_integer_field("year", indexed=True, fast=True)
    builder.add_float_field("price", indexed=True, fast=True)
    return builder.build()


class TantivyIndex:
    """`contracts.TextIndex`: words over titles, people, categories and descriptions, with facets and hard filters.

    Order: score, then popularity (if `build` was given it), then row. Items put by `upsert` live in memory, hide the
    index's own row, and rank by the index's statistics; between equal scores they stand behind the index's items.
    Disk: about 2 kB an item with a description. Searching is thread-safe; `upsert` too.
    """

    def __init__(self, index: tantivy.Index, manifest: _Manifest, names: dict[str, list[str]]) -> None:
        self._schema = index.schema
        self._searcher = index.searcher()
        self._n_items = manifest.n_items
        self._mean_length = manifest.mean_length
        self._names = names
        self.config = LexicalConfig.model_validate(manifest.config)
        self._overlay = Overlay(self.config)
        self._hidden: Query | None = None
        self._lock = threading.Lock()

    # ------------------------------------------------------------------------------------------ build and open

    @classmethod
    def build(
        cls,
        folder: Path,
        view: CatalogView,
        *,
        popularity: F32 | None = None,
        config: LexicalConfig | None = None,
        progress: Progress | None = None,
    ) -> Self:
        """Index the available items of a catalog into a folder, replacing what lies there, and open it.

        popularity: (items,) higher first; orders equal scores.
        """
        config = config or LexicalConfig()
        if popularity is not None and len(popularity) != len(view):
            raise BuildError(
                expected=f"a popularity for each of {len(view)} items",
                got=f"{len(popularity)}",
                do="Compute the popularity on the catalog that is indexed.",
            )
        files = folder / _FILES
        shutil.rmtree(files, ignore_errors=True)
        files.mkdir(parents=True)
        (folder / _MANIFEST).unlink(missing_ok=True)
        index = tantivy.Index(_schema(), path=str(files))
        writer = index.writer(_HEAP_BYTES, 1)
        order = np.arange(len(view)) if popularity is None else np.argsort(-popularity, kind="stable")
        order = order[view.available[order]]
        lengths: Counter[str] = Counter()
        fold_all = _FoldedView(view)
        for done, row in enumerate(order.tolist()):
            terms = fold_all.terms(row, config)
            for field in SCORED:
                lengths[field] += len(terms.field(field))
            writer.add_document(_document(view, row, terms))
            if progress is not None and done % 10_000 == 0:
                progress("index texts", done, len(order))
        writer.commit()
        writer.wait_merging_threads()
        index.config_reader("manual")
        index.reload()
        n = len(order)
        names = {
            field: [name.encode(errors="replace").decode() for name in values]
            for field, values in zip(_NAMED, (view.category_names, view.people_names, view.country_names), strict=True)
        }
        (files / _NAMES).write_bytes(msgspec.msgpack.encode(names))
        sizes = {path.name: path.stat().st_size for path in sorted(files.iterdir()) if not path.name.startswith(".")}
        mean_length = {field: lengths[field] / n if n else 0.0 for field in SCORED}
        manifest = _Manifest(_FORMAT, n, config.model_dump(), mean_length, sizes)
        (folder / _MANIFEST).write_bytes(msgspec.json.encode(manifest))
        if progress is not None:
            progress("index texts", n, n)
        return cls(index, manifest, names)

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
            LexicalConfig.model_validate(manifest.config)
        except (msgspec.DecodeError, pydantic.ValidationError) as error:
            raise refuse(f"a {_MANIFEST} that cannot be read") from error
        files = folder / _FILES
        for name, size in manifest.sizes.items():
            path = files / name
            found = path.stat().st_size if path.is_file() else None
            if found != size:
                raise refuse(f"{name} {'missing' if found is None else f'with {found} of {size} bytes'}")
        try:
            index = tantivy.Index.open(str(files))
            index.config_reader("manual")
            index.reload()
            names = msgspec.msgpack.decode((files / _NAMES).read_bytes(), type=dict[str, list[str]])
        except (ValueError, OSError, msgspec.DecodeError) as error:
            raise refuse(f"files that cannot be opened ({error})") from error
        return cls(index, manifest, names)

    def __len__(self) -> int:
        """How many items can be found."""
        hidden = 0 if self._hidden is None else self._searcher.search(self._hidden, 1).count
        return self._n_items - hidden + len(self._overlay.items)

    # ------------------------------------------------------------------------------------------------- search

    def search(
        self,
        query: str,
        k: int,
        *,
        offset: int = 0,
        filters: Filters | None = None,
        facets: bool = False,
        rewrites: Rewrites | None = None,
    ) -> TextHits:
        """Hits for any string a person may type; never raises on a query. An empty query has no hits.

        A hit holds enough of the query's information (`coverage`; words count by how rare they are); where fewer
        than `enough_hits` items do, half of it is enough, and where none do, any word. That is decided without the
        filters, so a filter only ever removes hits. Facets count all hits, whatever the page.
        """
        with self._lock:
            plan = Plan.of_query(query, self._frequency, self._n_items, self.config, rewrites)
            if plan is None:
                return _nothing(facets)
            found = self._count(plan)
            if found < self.config.enough_hits:
                plan = plan.relaxed()
                while plan.required > 1 and found == 0 and (found := self._count(plan)) == 0:
                    plan = plan.relaxed()
            return self._answer(plan, k, offset, filters or Filters(), facets)

    def lacking(self, query: str, rows: Sequence[int], rewrites: Rewrites | None = None) -> list[str]:
        """Words of a query that none of these items holds, in any spelling; words that the index ignores aside."""
        with self._lock:
            missing = []
            ids = [row for row in map(int, rows) if row not in self._overlay.items]
            fresh = [self._overlay.items[row] for row in map(int, rows) if row in self._overlay.items]
            among = Query.term_set_query(self._schema, "row", ids) if ids else Query.empty_query()
            held = [set(terms.bag) | set(terms.joined) for terms in (DocumentTerms.of(i, self.config) for i in fresh)]
            for word, spellings in Plan.spellings(query, self.config, rewrites).items():
                if any(not have.isdisjoint(spellings) for have in held):
                    continue
                words = [term for term in spellings if _is_utf8(term)]
                ways = [(Occur.Should, Query.term_set_query(self._schema, field, words)) for field in (BAG, JOINED)]
                asked = [(Occur.Must, among), (Occur.Must, Query.boolean_query(ways))]
                if not words or not self._searcher.search(Query.boolean_query(asked), 1).count:
                    missing.append(word)
            return missing

    def like(self, item: Item, k: int, *, filters: Filters | None = None) -> TextHits:
        """Items whose texts are most like one item's, itself excluded; the item need not be in the index."""
        with self._lock:
            plan = Plan.like_item(item, self._frequency, self._n_items, self.config)
            if plan is None:
                return _nothing(False)
            filters = filters or Filters()
            others = msgspec.structs.replace(filters, deny=[*filters.deny, item.item_id])
            return self._answer(plan, k, 0, others, False)

    def upsert(self, rows: Sequence[int], items: Sequence[Item]) -> None:
        """Add or replace items in this process; the next search sees them. An unavailable item is hidden."""
        with self._lock:
            for row, item in zip(rows, items, strict=True):
                self._overlay.put(int(row), item)
            self._hidden = Query.term_set_query(self._schema, "row", sorted(self._overlay.rows))

    def _frequency(self, field: str, term: str) -> int:
        # What is only in the overlay counts there; else the index's statistics stay as they were built.
        return self._searcher.doc_freq(field, term) or self._overlay.frequency(field, term)

    def _overlay_hits(self, plan: Plan, filters: Filters) -> list[tuple[float, int]]:
        if not self._overlay.items:
            return []
        return self._overlay.search(plan, filters, self._n_items, self._searcher.doc_freq, self._mean_length)

    def _count(self, plan: Plan) -> int:
        found: int = self._searcher.search(self._restrict(self._match(plan), Filters()), 1).count
        return found + len(self._overlay_hits(plan, Filters()))

    def _answer(self, plan: Plan, k: int, offset: int, filters: Filters, facets: bool) -> TextHits:
        k, offset = max(k, 0), max(offset, 0)
        fresh = self._overlay_hits(plan, filters)
        must = self._restrict(self._match(plan), filters)
        asked = self._scored(plan, must)
        # The page is cut from a merge, in which every overlay hit may stand before the index's own.
        start = max(0, offset - len(fresh))
        limit = min(offset + k, self._n_items) - start
        found = self._searcher.search(asked, max(limit, 1), offset=start)
        hits = found.hits[: max(limit, 0)]
        rows = self._searcher.fast_field_values("row", [address for _, address in hits]) if hits else []
        scores = [score for score, _ in hits]
        if fresh:
            merged = sorted(
                [(-score, 0, start + at, row) for at, (score, row) in enumerate(zip(scores, rows, strict=True))]
                + [(-score, 1, at, row) for at, (score, row) in enumerate(fresh)]
            )
            scores, rows = [-hit[0] for hit in merged], [hit[3] for hit in merged]
        page = slice(offset - start, offset - start + k)
        return TextHits(
            np.array(rows[page], np.int32),
            np.array(scores[page], np.float32),
            found.count + len(fresh),
            self._facets(must, [self._overlay.items[row] for _, row in fresh]) if facets else {},
        )

    def _match(self, plan: Plan) -> Query:
        """What makes an item a hit, without a score."""
        enough = [concept for concept in plan.concepts if concept.units >= plan.required]
        ways = [(Occur.Should, self._concept(concept)) for concept in enough]
        # The others must come together: each stands as often as it has units.
        rest = [concept for concept in plan.concepts if concept.units < plan.required]
        if sum(concept.units for concept in rest) >= plan.required:
            units = [(Occur.Should, query) for c in rest for query in [self._concept(c)] * c.units]
            ways.append((Occur.Should, Query.boolean_query(units, minimum_number_should_match=plan.required)))
        if plan.exact is not None:
            ways.append((Occur.Should, self._exactly(plan.exact)))
        return Query.boolean_query(ways)

    def _exactly(self, key: str) -> Query:
        return Query.term_query(self._schema, EXACT, key, "basic")

    def _concept(self, concept: Concept) -> Query:
        terms = [
            (Occur.Should, Query.term_query(self._schema, field, word, "freq")) for field, word in concept.spellings
        ]
        if concept.grams:
            grams = [(Occur.Should, Query.term_query(self._schema, GRAMS, gram, "freq")) for gram in concept.grams]
            terms.append((Occur.Should, Query.boolean_query(grams, minimum_number_should_match=concept.at_least)))
        return terms[0][1] if len(terms) == 1 else Query.boolean_query(terms)

    def _scored(self, plan: Plan, must: Query) -> Query:
        clauses = [(Occur.Must, Query.const_score_query(must, 0.0))]
        for field, word, weight in plan.scored:
            term = Query.term_query(self._schema, field, word, "freq")
            clauses.append((Occur.Should, term if weight == 1.0 else Query.boost_query(term, weight)))
        if plan.exact is not None and self.config.exact_bonus > 0:
            bonus = Query.const_score_query(self._exactly(plan.exact), self.config.exact_bonus)
            clauses.append((Occur.Should, bonus))
        return Query.boolean_query(clauses)

    def _restrict(self, match: Query, filters: Filters) -> Query:
        """A match under the hard filters, without what the overlay hides."""
        clauses = [(Occur.Must, match)]
        for field, values in (
            ("categories", filters.categories),
            ("people", filters.people),
            ("countries", filters.countries),
            ("id", filters.allow),
        ):
            if values:
                clauses.append((Occur.Must, self._one_of(field, values)))
        if filters.deny:
            clauses.append((Occur.MustNot, self._one_of("id", filters.deny)))
        years = [
            None if bound is None else max(-_YEARS, min(_YEARS, bound))
            for bound in (filters.year_min, filters.year_max)
        ]
        for field, kind, (low, high) in (
            ("year", FieldType.Integer, years),
            ("price", FieldType.Float, [filters.price_min, filters.price_max]),
        ):
            if low is None and high is None:
                continue
            possible = all(bound is None or not math.isnan(bound) for bound in (low, high))
            within = Query.range_query(self._schema, field, kind, low, high) if possible else Query.empty_query()
            clauses.append((Occur.Must, within))
        if self._hidden is not None:
            clauses.append((Occur.MustNot, self._hidden))
        return clauses[0][1] if len(clauses) == 1 else Query.boolean_query(clauses)

    def _one_of(self, field: str, values: Iterable[str]) -> Query:
        known = [value for value in values if _is_utf8(value)]
        return Query.term_set_query(self._schema, field, known) if known else Query.empty_query()

    def _facets(self, must: Query, fresh: Sequence[Item]) -> dict[str, list[tuple[str, int]]]:
        """Counts per value over all hits, most frequent first, ties by value."""
        # Overlay hits may lift a value into the top, so more of the index's own values are asked then; a value that is
        # rarer still among the index's hits counts its overlay hits only.
        size = _TOP_VALUES if not fresh else 10 * _TOP_VALUES
        asked: dict[str, Any] = {field: {"terms": {"field": _code(field), "size": size}} for field in _NAMED}
        asked[_DECADE] = {"histogram": {"field": "year", "interval": 10, "min_doc_count": 1}}
        found = {field: answer["buckets"] for field, answer in self._searcher.aggregate(must, asked).items()}
        counts = {
            field: {self._names[field][int(b["key"])]: int(b["doc_count"]) for b in found[field]} for field in _NAMED
        }
        counts[_DECADE] = {_decade(int(b["key"])): int(b["doc_count"]) for b in found[_DECADE]}
        for item in fresh:
            country = [item.country] if item.country else []
            decade = [] if item.year is None else [_decade(item.year)]
            for field, values in zip(FACETS, (item.categories, item.people, country, decade), strict=True):
                for value in dict.fromkeys(values):
                    counts[field][value] = counts[field].get(value, 0) + 1
        return {
            field: sorted(values.items(), key=lambda pair: (-pair[1], pair[0]))[:_TOP_VALUES]
            for field, values in counts.items()
        }


class _FoldedView:
    """A catalog with its texts folded: names once each, descriptions all in one pass."""

    def __init__(self, view: CatalogView) -> None:
        self._view = view
        self._people = [text.fold(name) for name in view.people_names]
        self._categories = [text.fold(name) for name in view.category_names]
        self._descriptions = [text.fold(description) for description in view.description]

    def terms(self, row: int, config: LexicalConfig) -> DocumentTerms:
        """Terms of one row."""
        view = self._view
        return DocumentTerms.from_folded(
            view.title[row] or view.items.id(row),  # an item without a title is shown, and so looked for, by its id
            [self._people[code] for code in view.people.row(row)],
            [self._categories[code] for code in view.category.row(row)],
            self._descriptions[row],
            None if np.isnan(view.year[row]) else int(view.year[row]),
            config,
        )


def _document(view: CatalogView, row: int, terms: DocumentTerms) -> tantivy.Document:
    document = tantivy.Document()
    for field in SCORED:
        document.add_text(field, " ".join(terms.field(field)))
    for key in terms.exact:
        document.add_text(EXACT, key)
    country = view.country[row : row + 1]
    for field, names, codes in (
        ("categories", view.category_names, view.category.row(row)),
        ("people", view.people_names, view.people.row(row)),
        ("countries", view.country_names, country[country >= 0]),
    ):
        for code in dict.fromkeys(codes.tolist()):
            document.add_unsigned(_code(field), code)
            if _is_utf8(names[code]):
                document.add_text(field, names[code])
    if _is_utf8(view.items.id(row)):
        document.add_text("id", view.items.id(row))
    document.add_unsigned("row", row)
    if not np.isnan(view.year[row]):
        document.add_integer("year", int(view.year[row]))
    if not np.isnan(view.price[row]):
        document.add_float("price", float(view.price[row]))
    return document


def _decade(year: int) -> str:
    return f"{year // 10 * 10}s"


def _is_utf8(value: str) -> bool:
    """Whether a string can be stored: a lone surrogate (from broken JSON) cannot."""
    return value.isascii() or not any("\ud800" <= sign <= "\udfff" for sign in value)


def _nothing(facets: bool) -> TextHits:
    return TextHits(
        np.zeros(0, np.int32), np.zeros(0, np.float32), 0, {field: [] for field in FACETS} if facets else {}
    )
