"""The blend against a dictionary, its fallback, its regimes, and tuning on a case with a known answer."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from honeyguide.contracts import Candidates, Interactions, Queries, Ragged
from honeyguide.errors import BuildError, ConfigError, DataError
from honeyguide.retrieval.blend import Blend, BlendConfig, Regime, merge, regime_of
from honeyguide.retrieval.covisit import Covisit, RP3beta
from honeyguide.retrieval.factors import ALS
from honeyguide.retrieval.popular import Popular
from honeyguide.retrieval.tune import choose, pick, quality, tune
from honeyguide.testing.sources import small_audience, small_catalog, small_queries

HOUR_US = 3_600_000_000
Lists = list[list[tuple[int, float]]]  # source -> (item, score), best first


def some_lists() -> st.SearchStrategy[Lists]:
    one = st.lists(st.tuples(st.integers(0, 30), st.integers(-4, 9)), max_size=8, unique_by=lambda pair: pair[0])
    return st.lists(one.map(lambda pairs: sorted(pairs, key=lambda pair: (-pair[1], pair[0]))), min_size=1, max_size=4)


def arrays(lists: Lists, k: int = 8) -> list[Candidates]:
    found = []
    for pairs in lists:
        items, scores = np.full((1, k), -1, np.int32), np.full((1, k), np.nan, np.float32)
        for rank, (item, score) in enumerate(pairs):
            items[0, rank], scores[0, rank] = item, score
        found.append(Candidates(items, scores))
    return found


@settings(max_examples=100, deadline=None)
@given(
    some_lists(), st.lists(st.integers(0, 3), min_size=4, max_size=4), st.integers(0, 20), st.sampled_from([0, 0.5, 1])
)
def test_merging_is_a_weighted_sum_in_a_dictionary(lists: Lists, weights: list[int], k: int, rank_share: float) -> None:
    total: dict[int, float] = {}
    brought: dict[tuple[int, int], float] = {}
    for number, pairs in enumerate(lists):
        if not weights[number]:
            continue
        scores = [score for _, score in pairs]
        for rank, (item, score) in enumerate(pairs, start=1):
            level = (score - min(scores)) / (max(scores) - min(scores)) if max(scores) > min(scores) else 1.0
            value = (1 - rank_share) * level + rank_share * 11.0 / (10.0 + rank)
            total[item] = total.get(item, 0.0) + weights[number] * value
            brought[item, number] = score
    row = np.array([weights[: len(lists)]], np.float32)
    names = tuple(f"s{number}" for number in range(len(lists)))
    pool = merge(arrays(lists), row, k, names=names, rank_share=rank_share, rank_k=10.0)
    items = [int(item) for item in pool.items[0] if item >= 0]
    assert len(items) == min(k, len(total))
    assert set(items) <= set(total)
    assert [total[item] for item in items] == pytest.approx(
        sorted(total.values(), reverse=True)[: len(items)], abs=1e-5
    )
    assert pool.blend[0, : len(items)] == pytest.approx([total[item] for item in items], abs=1e-5)
    for place, item in enumerate(items):
        for number in range(len(lists)):
            got = float(pool.source_scores[0, place, number])
            assert (math.isnan(got) and (item, number) not in brought) or got == brought[item, number]
    assert (pool.items[0, len(items) :] == -1).all()
    assert np.isnan(pool.blend[0, len(items) :]).all()
    assert np.isnan(pool.source_scores[0, len(items) :]).all()


def fitted(**config: Any) -> tuple[Blend, Interactions]:
    data = small_audience()
    blend = Blend([Popular(), RP3beta(), Covisit()], BlendConfig(**config))
    return blend.fit(data, small_catalog(data.n_items)), data


def ask(items: list[int], at: list[int], now: int) -> Queries:
    return Queries(
        np.array([0, len(items)], np.int64), np.array(items, np.int32), np.ones(len(items), np.float32),
        np.array(at, np.int64), np.array([now], np.int64), np.array([-1], np.int32), Ragged.of([items]),
    )  # fmt: skip


def test_somebody_without_a_history_gets_what_is_popular_although_it_has_no_weight() -> None:
    blend, data = fitted(regimes=(Regime(name="all", weights={"rp3beta": 1.0, "covisit": 1.0}),))
    stranger = ask([], [], int(data.at[-1]))
    popular = blend.sources["popular"].retrieve(stranger, 10)
    assert np.array_equal(blend.retrieve(stranger, 10).items, popular.items)
    known = ask([3, 7], [int(data.at[-1])] * 2, int(data.at[-1]) + 1)
    pool = blend.pool(known, 10)
    assert pool.sources == ("popular", "rp3beta", "covisit")
    assert not np.isnan(pool.source_scores[0, :5, 1:]).all(axis=1).any()


def test_the_fallback_fills_a_pool_that_the_sources_leave_short() -> None:
    blend, data = fitted(per_source=4)
    query = ask([3], [int(data.at[-1])], int(data.at[-1]) + 1)
    short, long = blend.pool(query, 8), blend.pool(query, 39)
    assert np.array_equal(long.items[0, :8], short.items[0])
    assert sorted(long.items[0].tolist()) == [row for row in range(40) if row != 3]
    assert (np.diff(long.blend[0]) <= 0).all()


def test_the_age_of_the_newest_event_chooses_the_weights() -> None:
    regimes = (
        Regime(name="visit", within_hours=2.0, weights={"covisit": 1.0}),
        Regime(name="return", weights={"rp3beta": 1.0}),
    )
    blend, data = fitted(regimes=regimes)
    last = int(data.at[-1])
    for age_hours, name in ((1.0, "covisit"), (2.0, "covisit"), (2.5, "rp3beta"), (9_999.0, "rp3beta")):
        query = ask([3, 7], [last, last], last + int(age_hours * HOUR_US))
        alone = blend.sources[name].retrieve(query, 5)
        assert np.array_equal(blend.retrieve(query, 5).items, alone.items)
    # what lies after the moment of the question is not looked at
    assert regime_of(ask([3, 7], [last, last + 5 * HOUR_US], last + 3 * HOUR_US), regimes).tolist() == [1]
    assert regime_of(ask([], [], last), regimes).tolist() == [1]


def test_weights_that_make_no_sense_are_refused() -> None:
    for weights in ({"unheard": 1.0}, {"popular": -1.0}, {"popular": math.nan}):
        with pytest.raises(ConfigError, match="regime `all`"):
            Blend([Popular()], BlendConfig(regimes=(Regime(name="all", weights=weights),)))
    with pytest.raises(ConfigError, match="a name of its own"):
        Blend([Popular(), Popular()])
    with pytest.raises(ConfigError, match="at least one source"):
        Blend([])


def test_a_source_without_weight_is_neither_fitted_nor_asked_nor_saved(tmp_path: Path) -> None:
    class Costly:
        name: ClassVar[str] = "costly"

        def fit(self, *args: Any, **kwargs: Any) -> Any:
            raise AssertionError

        retrieve = save = load = fit

    data = small_audience()
    regimes = (Regime(name="all", weights={"rp3beta": 1.0, "costly": 0.0}),)
    blend = Blend([Costly(), Popular(), RP3beta()], BlendConfig(regimes=regimes)).fit(data, small_catalog(40))
    found = blend.retrieve(small_queries(data), 9)
    blend.save(tmp_path)
    loaded = Blend.load(tmp_path)
    assert loaded.asked == ("popular", "rp3beta")
    assert np.array_equal(loaded.retrieve(small_queries(data), 9).items, found.items)
    (tmp_path / "rp3beta" / "meta.json").unlink()
    with pytest.raises(BuildError):
        Blend.load(tmp_path)


class _Oracle:
    """Brings the relevant items of each query (found by its first history item) after some noise."""

    def __init__(self, name: str, answers: dict[int, list[int]]) -> None:
        self.name, self.answers = name, answers

    def retrieve(self, queries: Queries, k: int) -> Candidates:
        items = np.full((len(queries), k), -1, np.int32)
        scores = np.full((len(queries), k), np.nan, np.float32)
        for q in range(len(queries)):
            row = self.answers[int(queries.items[queries.indptr[q]])][:k]
            items[q, : len(row)] = row
            scores[q, : len(row)] = np.arange(len(row), 0, -1)
        return Candidates(items, scores)


def _validation(n: int) -> tuple[Queries, Ragged]:
    queries = Queries(
        np.arange(n + 1, dtype=np.int64), np.arange(n, dtype=np.int32), np.ones(n, np.float32),
        np.zeros(n, np.int64), np.full(n, HOUR_US, np.int64), np.full(n, -1, np.int32), Ragged.empty(n),
    )  # fmt: skip
    return queries, Ragged.of([[1000 + q] for q in range(n)])


def test_tuning_finds_the_good_source_and_switches_the_useless_one_off() -> None:
    queries, relevant = _validation(40)
    noise = {q: [5000 + 7 * q + j for j in range(15)] for q in range(40)}
    good = {q: [1000 + q, 3000 + q] if q % 4 else [3000 + q] for q in range(40)}
    other = {q: [1000 + q, 4000 + q] if q % 4 == 0 else [4000 + q] for q in range(40)}
    sources: Any = [_Oracle("noise", noise), _Oracle("good", good), _Oracle("other", other)]
    tuned = tune(sources, queries, relevant)
    weights = tuned.config.regimes[0].weights
    assert weights["noise"] == 0.0
    assert weights["good"] > 0
    assert weights["other"] > 0
    assert tuned.sources["always"]["good"].ndcg_10 == pytest.approx(0.75)
    assert tuned.blend["always"].ndcg_10 > 0.75
    assert tuned.marginal["always"]["good"] > tuned.marginal["always"]["other"] > 0
    assert tuned.marginal["always"]["noise"] == 0.0
    # of two rivals the better one stays
    rivals = tune(sources, queries, relevant, one_of=[("good", "other")]).config.regimes[0].weights
    assert rivals["other"] == 0.0
    assert rivals["good"] > 0
    assert tune(sources, queries, relevant).config == tuned.config


def test_each_regime_is_tuned_on_its_own_questions() -> None:
    queries, relevant = _validation(40)
    queries.now[::2] = 100 * HOUR_US
    right = {q: [1000 + q] for q in range(40)}
    wrong = {q: [2000 + q] for q in range(40)}
    early: Any = _Oracle("early", {q: right[q] if q % 2 else wrong[q] for q in range(40)})
    late: Any = _Oracle("late", {q: wrong[q] if q % 2 else right[q] for q in range(40)})
    config = BlendConfig(
        regimes=(Regime(name="visit", within_hours=2.0, weights={}), Regime(name="return", weights={}))
    )
    tuned = tune([early, late], queries, relevant, config=config)
    visit, back = tuned.config.regimes
    assert visit.weights["early"] > 0
    assert visit.weights["late"] == 0
    assert back.weights["late"] > 0
    assert back.weights["early"] == 0
    assert tuned.config.regimes[0].within_hours == 2.0


def test_tuning_without_a_usable_question_says_so() -> None:
    queries, _ = _validation(3)
    with pytest.raises(DataError, match="validation question"):
        tune([Popular()], queries, Ragged.empty(3))


def test_quality_by_hand() -> None:
    relevant = Ragged.of([[1, 2], [], [9]])
    items = np.array([[5, 1, 7, 2], [1, 2, 3, 4], [-1, -1, -1, -1]], np.int32)
    found = quality(items, relevant)
    ideal = 1 + 1 / math.log2(3)
    assert found.n == 2
    assert found.ndcg_10 == pytest.approx((1 / math.log2(3) + 1 / math.log2(5)) / ideal / 2)
    assert found.recall_20 == pytest.approx(0.5)
    assert math.isnan(quality(items[:1], Ragged.empty(1)).ndcg_10)


def test_choosing_and_picking() -> None:
    data = small_audience()
    queries = small_queries(data)
    catalog = small_catalog(data.n_items)
    relevant = Ragged.of([[int(q) % 40] for q in range(data.n_users)])
    which = np.array([5, 2, 2], np.int64)
    chosen, wanted = pick(queries, relevant, which)
    for place, q in enumerate(which):
        row, source_row = (slice(chosen.indptr[place], chosen.indptr[place + 1]), slice(*queries.indptr[q : q + 2]))
        assert np.array_equal(chosen.items[row], queries.items[source_row])
        assert np.array_equal(chosen.exclude.row(place), queries.exclude.row(int(q)))
        assert wanted.row(place).tolist() == relevant.row(int(q)).tolist()
    candidates = [RP3beta().fit(data, catalog), ALS().fit(data, catalog)]
    best, found = choose(candidates, queries, relevant)
    assert best is candidates[int(np.argmax([one.objective for one in found]))]


def test_a_short_pool_of_long_lists_keeps_each_item_with_its_own_scores() -> None:
    """Far more candidates than places: what is left must still carry what each source said of it."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        lists = [rng.choice(500, 60, replace=False).astype(np.int32) for _ in range(3)]
        scores = [np.sort(rng.random(60).astype(np.float32))[::-1] for _ in lists]
        found = [Candidates(items[None], score[None]) for items, score in zip(lists, scores, strict=True)]
        weights = np.full((1, 3), 1 / 3, np.float32)
        pool = merge(found, weights, 7, names=("a", "b", "c"), rank_share=0.3, rank_k=10.0)
        for place, item in enumerate(pool.items[0].tolist()):
            for number, (items, score) in enumerate(zip(lists, scores, strict=True)):
                where = np.flatnonzero(items == item)
                said = pool.source_scores[0, place, number]
                assert said == score[where[0]] if len(where) else np.isnan(said)
