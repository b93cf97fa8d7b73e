"""Learning to rank the hits of a search: what trees see of a query and a candidate, and how they are learnt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from honeyguide.contracts import F32, F64, I32, I64, CatalogView, Ragged, TreesEngine, TreesModel
from honeyguide.errors import BuildError

__all__ = ["COLUMNS", "Candidates", "ItemFacts", "Person", "features", "folds_of", "learn"]

COLUMNS: Final = (
    "title", "people", "categories", "description", "attributes", "words_held", "words_in_title",
    "lexical", "lexical_of_best", "lexical_rank", "is_title", "title_filled",
    "cosine", "cosine_of_best", "cosine_rank", "blend",
    "popularity", "clicks", "click_rate", "age_days", "year", "price", "price_of_median", "category_match",
    "query_words", "hits", "best_lexical",
    "affinity_categories", "affinity_people", "had",
)  # fmt: skip
"""A value that is not known is nan; `title` to `attributes` are BM25 by field."""
_LEADERS: Final = 20  # first hits whose categories tell what a query is about


@dataclass(frozen=True, slots=True)
class Candidates:
    """The first hits of a query, and those that meaning added."""

    rows: I32
    lexical: F32  # 0 without a hit
    dense: F32  # cosine; nan without vectors
    fields: F32  # (n, 7) as `LexicalIndex.field_scores` gives them
    is_title: np.ndarray  # (n,) bool
    blend: F64  # of both, always in the same shares
    hybrid: F64  # of both, in the shares that were learnt
    words: int  # of the query
    total: int  # hits


@dataclass(frozen=True)
class ItemFacts:
    """What is known of items whoever asks, by row."""

    popularity: F32  # 1 the most popular, 0 the least
    clicks: F32  # log(1 + clicks on it in searches); 0 for none
    click_rate: F32  # smoothed, nan never shown
    age_days: F32
    year: F32
    price: F32
    title_words: F32
    category: Ragged
    people: Ragged
    n_categories: int
    n_people: int

    @classmethod
    def of(
        cls, view: CatalogView, popularity: F32 | None, *, clicks: F32 | None = None, shown: F32 | None = None
    ) -> ItemFacts:
        """From the catalog, and counts of clicks and showings in searches by row where a log has some."""
        n = len(view)
        rank = np.zeros(n, np.float32)
        if popularity is not None:
            wide = np.zeros(n, np.float32)
            wide[: min(n, len(popularity))] = popularity[:n]
            order = np.argsort(np.argsort(-wide, kind="stable"), kind="stable")
            rank = (1 - np.log1p(order) / np.log1p(max(n, 1))).astype(np.float32)
        newest = view.known_at.max(initial=0)
        taken, seen = _wide(clicks, n), _wide(shown, n)
        mean = taken.sum() / max(float(seen.sum()), 1.0)
        rate = np.where(seen > 0, (taken + 10 * mean) / (seen + 10), np.nan)
        return cls(
            rank, np.log1p(taken), rate.astype(np.float32), ((newest - view.known_at) / 8.64e10).astype(np.float32),
            view.year, view.price, np.array([len(title.split()) for title in view.title], np.float32), view.category,
            view.people, len(view.category_names), len(view.people_names),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Person:
    """What a person's history says of kinds of items: shares that sum to one, and rows they had."""

    categories: F32
    people: F32
    had: I32

    @classmethod
    def of(cls, facts: ItemFacts, rows: I32) -> Person:
        """From the rows of a history; rows that are newer than the facts tell nothing."""
        rows = rows[(rows >= 0) & (rows < len(facts.category))]

        def share(ragged: Ragged, n: int) -> F32:
            values = [ragged.row(row) for row in rows.tolist()]
            counts = np.bincount(np.concatenate(values), minlength=n) if values else np.zeros(n)
            return (counts / max(counts.sum(), 1)).astype(np.float32)

        return cls(share(facts.category, facts.n_categories), share(facts.people, facts.n_people), rows)


def features(found: Candidates, facts: ItemFacts, person: Person | None = None) -> F32:
    """(candidates, COLUMNS) of one query; the order of the candidates changes no row's values but by their ranks."""
    n = len(found.rows)
    out = np.full((n, len(COLUMNS)), np.nan, np.float32)
    if not n:
        return out
    out[:, :7] = found.fields
    best = float(found.lexical.max(initial=0.0))
    out[:, 7] = found.lexical
    out[:, 8] = found.lexical / best if best > 0 else 0.0
    out[:, 9] = 1 / (1 + _ranks(found.lexical))
    out[:, 10] = found.is_title
    known = found.rows < len(facts.year)  # an item that came over the API has its texts, and no facts yet
    at = np.where(known, found.rows, 0)

    def fact(values: F32) -> F32:
        return np.where(known, values[at], np.nan).astype(np.float32)

    out[:, 11] = found.fields[:, 6] * found.words / np.maximum(fact(facts.title_words), 1)
    out[:, 12] = found.dense
    if np.isfinite(found.dense).any():
        out[:, 13] = found.dense - np.nanmax(found.dense)
        out[:, 14] = 1 / (1 + _ranks(np.nan_to_num(found.dense, nan=-1.0)))
    out[:, 15] = found.blend
    for column, values in enumerate(
        (facts.popularity, facts.clicks, facts.click_rate, facts.age_days, facts.year, facts.price), 16
    ):
        out[:, column] = fact(values)
    price = out[:, 21]
    if np.isfinite(price).any():
        out[:, 22] = price / max(float(np.nanmedian(price)), 1e-6)
    owner, codes = _codes(facts.category, at, known)
    leaders = np.argsort(-found.blend, kind="stable")[:_LEADERS]
    weight = np.zeros(n)
    weight[leaders] = 1 / (1 + np.arange(len(leaders)))
    about = np.bincount(codes, weight[owner], minlength=facts.n_categories)
    out[:, 23] = _most(owner, about[codes] / max(weight.sum(), 1e-9), n)
    out[:, 24], out[:, 25], out[:, 26] = found.words, np.log1p(found.total), best
    if person is not None and len(person.had):
        out[:, 27] = np.bincount(owner, person.categories[codes], minlength=n)
        names, who = _codes(facts.people, at, known)
        out[:, 28] = np.bincount(names, person.people[who], minlength=n)
        out[:, 29] = np.isin(found.rows, person.had)
    return out


def folds_of(queries: Sequence[str], folds: int, seed: int = 0) -> I64:
    """A fold for each query; the same query is always in one."""
    names = {query: at for at, query in enumerate(dict.fromkeys(queries))}
    drawn = np.random.default_rng(seed).permutation(len(names)) % folds
    return np.array([drawn[names[query]] for query in queries], np.int64)


def learn(
    engine: TreesEngine, matrices: Sequence[F32], labels: Sequence[F32], *, trees: int, depth: int, seed: int,
    weights: Sequence[F32] | None = None, threads: int = 2,
) -> TreesModel:  # fmt: skip
    """Trees that order each query's candidates by their labels (0 none, higher better).

    Queries whose labels are all the same teach nothing and are left out; BuildError if no other remains. weights: of
    each candidate, 1 without.
    """
    kept = [at for at, label in enumerate(labels) if len(label) and label.max() > label.min()]
    if not kept:
        raise BuildError(
            expected="queries with candidates of different worth",
            got="none",
            do="Judge more results, or log more clicks.",
        )
    sizes = [len(labels[at]) for at in kept]
    weight = None if weights is None else np.concatenate([weights[at] for at in kept])
    return engine.fit(
        np.concatenate([matrices[at] for at in kept]), np.concatenate([labels[at] for at in kept]).astype(np.float32),
        objective="rank", group=np.repeat(np.arange(len(kept)), sizes), weight=weight, trees=trees, depth=depth,
        seed=seed, threads=threads,
    )  # fmt: skip


Score = Callable[[F32], F64]


def _wide(values: F32 | None, n: int) -> F32:
    out = np.zeros(n, np.float32)
    if values is not None:
        out[: min(n, len(values))] = values[:n]
    return out


def _ranks(values: F32) -> I64:
    """0 for the highest; equal ones in their order."""
    rank = np.empty(len(values), np.int64)
    rank[np.argsort(-values, kind="stable")] = np.arange(len(values))
    return rank


def _codes(ragged: Ragged, rows: np.ndarray, known: np.ndarray) -> tuple[I64, I32]:
    """Codes of some rows, and the place of the row that each belongs to."""
    begin = ragged.indptr[rows]
    sizes = np.where(known, ragged.indptr[rows + 1] - begin, 0)
    owner = np.repeat(np.arange(len(rows)), sizes)
    place = np.arange(len(owner)) - np.repeat(np.cumsum(sizes) - sizes, sizes) + np.repeat(begin, sizes)
    return owner, ragged.values[place]


def _most(owner: I64, values: F64, n: int) -> F64:
    out = np.zeros(n)
    np.maximum.at(out, owner, values)
    return out
