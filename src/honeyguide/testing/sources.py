"""Laws that every retrieval source keeps.

`problems = check_source(lambda: MySource(config))` is empty if it is sound. The kit makes its own small audience,
fits, asks, and says in a sentence each what is wrong.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from honeyguide.contracts import BoolArray, Candidates, CatalogView, Interactions, Queries, Ragged, Source
from honeyguide.schema.vocabulary import Vocabulary

__all__ = ["check_source", "small_audience", "small_catalog", "small_queries"]

_START_US = 1_600_000_000_000_000
_HOUR_US = 3_600_000_000


def small_audience(
    *, n_users: int = 60, n_items: int = 40, n_events: int = 900, tastes: int = 4, seed: int = 0
) -> Interactions:
    """People with a taste each, who mostly take items of it; distinct times; some dislikes, nans and repeats."""
    rng = np.random.default_rng(seed)
    user = rng.integers(0, n_users, n_events).astype(np.int32)
    popular = rng.random(n_items) ** 2 + 0.02
    odds = popular[None, :] * np.where(np.arange(n_items)[None, :] % tastes == (np.arange(tastes))[:, None], 8.0, 1.0)
    odds /= odds.sum(axis=1, keepdims=True)
    item = np.array([rng.choice(n_items, p=odds[person % tastes]) for person in user], np.int32)
    weight = rng.choice(np.array([1.0, 0.5, -1.0, np.nan], np.float32), n_events, p=[0.7, 0.2, 0.08, 0.02])
    at = _START_US + np.sort(rng.choice(n_events * 20, n_events, replace=False)).astype(np.int64) * _HOUR_US
    return Interactions(
        user, item, np.zeros(n_events, np.int16), np.full(n_events, np.nan, np.float32), weight.astype(np.float32),
        at, n_users, n_items, ("view",),
    )  # fmt: skip


def small_catalog(n_items: int) -> CatalogView:
    """A catalog that knows nothing but how many items there are."""
    none = Ragged.empty(n_items)
    return CatalogView(
        items=Vocabulary(str(row) for row in range(n_items)),
        title=[f"Item {row}" for row in range(n_items)],
        description=[""] * n_items,
        category=none,
        category_names=[],
        people=none,
        people_names=[],
        country=np.full(n_items, -1, np.int32),
        country_names=[],
        year=np.full(n_items, np.nan, np.float32),
        price=np.full(n_items, np.nan, np.float32),
        available=np.ones(n_items, np.bool_),
        known_at=np.full(n_items, _START_US, np.int64),
    )


def small_queries(interactions: Interactions, *, gap_hours: float = 1.0, only: BoolArray | None = None) -> Queries:
    """Each person's history up to the end, seen items excluded; `only` (users,) empties the others' histories."""
    order = np.lexsort((interactions.at, interactions.user))
    if only is not None:
        order = order[only[interactions.user[order]]]
    n = interactions.n_users
    indptr = np.searchsorted(interactions.user[order], np.arange(n + 1)).astype(np.int64)
    items = interactions.item[order]
    now = int(interactions.at.max(initial=_START_US)) + int(gap_hours * _HOUR_US)
    return Queries(
        indptr, items, interactions.weight[order], interactions.at[order], np.full(n, now, np.int64),
        np.full(n, -1, np.int32), Ragged(indptr, items.copy()),
    )  # fmt: skip


def _same(one: Candidates, other: Candidates) -> bool:
    return np.array_equal(one.items, other.items) and np.array_equal(one.scores, other.scores, equal_nan=True)


def _one(queries: Queries, q: int) -> Queries:
    row = slice(queries.indptr[q], queries.indptr[q + 1])
    size = int(queries.indptr[q + 1] - queries.indptr[q])
    return Queries(
        np.array([0, size], np.int64), queries.items[row].copy(), queries.weights[row].copy(), queries.at[row].copy(),
        queries.now[q : q + 1].copy(), queries.segment[q : q + 1].copy(), Ragged.of([queries.exclude.row(q)]),
    )  # fmt: skip


def _padding(found: Candidates, n_items: int) -> list[str]:
    problems = []
    real = found.items >= 0
    if (real[:, 1:] & ~real[:, :-1]).any():
        problems.append("padding: -1 stands before a real item")
    if (found.items < -1).any() or (found.items >= n_items).any():
        problems.append("padding: a row that is neither an item nor -1")
    if not np.isnan(found.scores[~real]).all():
        problems.append("padding: a slot without an item has a score")
    if np.isnan(found.scores[real]).any():
        problems.append("padding: an item has no score")
    for items, scores, row in zip(found.items, found.scores, real, strict=True):
        items, scores = items[row], scores[row]
        if len(np.unique(items)) != len(items):
            problems.append("order: an item stands twice")
        falls = scores[1:] < scores[:-1]
        if not (falls | ((scores[1:] == scores[:-1]) & (items[1:] > items[:-1]))).all():
            problems.append("order: not best first, or a tie that does not go to the lower row")
        if problems:
            break
    return problems


def check_source(
    make: Callable[[], Source], *, answers_everyone: bool = False, saved: bool = True, seed: int = 0
) -> list[str]:
    """What it does that no source may do; empty if nothing.

    `make` gives a fresh, unfitted source. `answers_everyone`: it promises an answer without a history.
    `saved`: whether save and load are checked.
    """
    problems: list[str] = []
    data = small_audience(seed=seed)
    catalog = small_catalog(data.n_items)
    queries = small_queries(data)
    source = make().fit(data, catalog, seed=seed)
    found = source.retrieve(queries, 12)

    if found.items.shape != (data.n_users, 12) or found.scores.shape != (data.n_users, 12):
        return [f"shape: {found.items.shape} and {found.scores.shape} for {data.n_users} queries and k = 12"]
    if found.items.dtype != np.int32 or found.scores.dtype != np.float32:
        problems.append(f"dtype: {found.items.dtype} and {found.scores.dtype} in place of int32 and float32")
    if not (found.items >= 0).any():
        problems.append("answer: nothing at all for people with a history")
    for k in (1, 12, data.n_items + 5):
        problems += _padding(source.retrieve(queries, k), data.n_items)
    if source.retrieve(queries, 0).items.shape != (data.n_users, 0):
        problems.append("shape: k = 0 does not give an empty list")

    if not _same(found, make().fit(data, catalog, seed=seed).retrieve(queries, 12)):
        problems.append("determinism: a second fit under the same seed answers otherwise")
    if not _same(found, source.retrieve(queries, 12)):
        problems.append("determinism: a second question is answered otherwise")
    for k in (1, 5, 11):
        longer, shorter = source.retrieve(queries, k + 1), source.retrieve(queries, k)
        if not _same(Candidates(longer.items[:, :k], longer.scores[:, :k]), shorter):
            problems.append(f"prefix: the list of {k + 1} does not start with the list of {k}")
    for q in range(0, data.n_users, 7):
        alone = source.retrieve(_one(queries, q), 12)
        if not _same(alone, Candidates(found.items[q : q + 1], found.scores[q : q + 1])):
            problems.append("batch: a question asked alone is answered otherwise than in a batch")
            break

    for q in range(data.n_users):
        if np.isin(found.items[q][found.items[q] >= 0], queries.exclude.row(q)).any():
            problems.append("exclude: an excluded item appears")
            break
    everything = Queries(
        queries.indptr, queries.items, queries.weights, queries.at, queries.now, queries.segment,
        Ragged.of([np.arange(data.n_items, dtype=np.int32)] * data.n_users),
    )  # fmt: skip
    if (source.retrieve(everything, 12).items >= 0).any():
        problems.append("exclude: an item appears although all are excluded")

    rng = np.random.default_rng(seed + 1)
    shuffled = make().fit(data.take(rng.permutation(len(data))), catalog, seed=seed)
    if not _same(found, shuffled.retrieve(queries, 12)):
        problems.append("permutation: the order of rows with distinct times changes the answer")

    problems += _odd_questions(source, data, answers_everyone)
    if saved:
        with tempfile.TemporaryDirectory() as name:
            source.save(Path(name))
            if not _same(found, type(source).load(Path(name)).retrieve(queries, 12)):
                problems.append("save: what was loaded answers otherwise than what was saved")
    return list(dict.fromkeys(problems))


def _odd_questions(source: Source, data: Interactions, answers_everyone: bool) -> list[str]:
    problems = []
    nobody = Queries(
        np.zeros(2, np.int64), np.zeros(0, np.int32), np.zeros(0, np.float32), np.zeros(0, np.int64),
        data.at[-1:] + _HOUR_US, np.full(1, -1, np.int32), Ragged.empty(1),
    )  # fmt: skip
    found = source.retrieve(nobody, 5)
    problems += _padding(found, data.n_items)
    if answers_everyone and not (found.items >= 0).all():
        problems.append("stranger: somebody without a history gets no answer")
    none = Queries(
        np.zeros(1, np.int64), np.zeros(0, np.int32), np.zeros(0, np.float32), np.zeros(0, np.int64),
        np.zeros(0, np.int64), np.zeros(0, np.int32), Ragged.empty(0),
    )  # fmt: skip
    if source.retrieve(none, 5).items.shape != (0, 5):
        problems.append("shape: no question does not give an empty answer")

    def ask(items: list[int], weights: list[float], at: list[int]) -> Candidates:
        n = len(items)
        return source.retrieve(
            Queries(
                np.array([0, n], np.int64), np.array(items, np.int32), np.array(weights, np.float32),
                np.array(at, np.int64), data.at[-1:] + _HOUR_US, np.full(1, 99, np.int32),
                Ragged.of([[-1, data.n_items + 7]]),
            ),
            5,
        )  # fmt: skip

    last, then = int(data.at[-1]), int(data.at[-1]) + 9 * _HOUR_US
    plain = ask([1, 2], [1.0, 1.0], [last - 1, last])
    problems += _padding(plain, data.n_items)
    unknown = ask([1, -1, 2, data.n_items, data.n_items + 9], [1.0] * 5, [last - 1, last - 1, last, last, last])
    if not _same(plain, unknown):
        problems.append("unknown: items nobody knows in a history (-1, or beyond the catalog) change the answer")
    if not _same(plain, ask([1, 2, 3], [1.0] * 3, [last - 1, last, then])):
        problems.append("future: an event after `now` changes the answer")
    for weight in (np.nan, np.inf, -np.inf, 1e30, -1e30, 0.0):
        problems += _padding(ask([1, 2], [1.0, weight], [last - 1, last]), data.n_items)
    return problems
