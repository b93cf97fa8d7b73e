"""The exact best k in tiles against a full sort, ALS solvers against each other, warm starts and new items."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from honeyguide.contracts import Candidates, Ragged
from honeyguide.errors import BuildError, DataError
from honeyguide.retrieval.exact import ExactTopK, one_blas_thread
from honeyguide.retrieval.factors import ALS, ALSConfig
from honeyguide.retrieval.signals import HistoryConfig, TrendConfig
from honeyguide.testing.sources import small_audience, small_catalog, small_queries

FLAT, NO_TREND = HistoryConfig(newest=10_000, use_weights=False), TrendConfig(window_days=0.0)


def alike(one: Candidates, other: Candidates) -> bool:
    return np.array_equal(one.items, other.items) and np.array_equal(one.scores, other.scores, equal_nan=True)


@given(
    n=st.integers(1, 2_600), d=st.integers(1, 9), k=st.integers(0, 30), spread=st.sampled_from([0.0, 0.3, 1.5]),
    seed=st.integers(0, 10**6),
)  # fmt: skip
@settings(max_examples=25, deadline=None)
def test_tiles_find_what_a_full_sort_finds(n: int, d: int, k: int, spread: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    # small whole numbers: products are exact, and there are many ties
    factors = np.round(rng.normal(size=(n, d)) * 2 * rng.lognormal(0.0, spread, (n, 1))).astype(np.float32)
    people = np.round(rng.normal(size=(7, d)) * 2).astype(np.float32)
    exclude = Ragged.of([rng.choice(n, rng.integers(0, min(n, 40)), replace=False).astype(np.int32) for _ in range(7)])
    for share in (0.0, 1.0):
        index = ExactTopK(factors, share)
        found = index.search(people, k, exclude)
        for person in range(7):
            scores = factors.astype(np.float64) @ people[person].astype(np.float64)
            scores[exclude.row(person)] = -np.inf
            wanted = np.lexsort((np.arange(n), -scores))
            wanted = wanted[scores[wanted] > -np.inf][:k] if people[person].any() else wanted[:0]
            assert found.items[person][: len(wanted)].tolist() == wanted.tolist()
            assert (found.items[person][len(wanted) :] == -1).all()
            assert np.isnan(found.scores[person][len(wanted) :]).all()


def test_a_person_alone_is_answered_like_among_others_and_more_begins_with_less() -> None:
    rng = np.random.default_rng(5)
    factors = rng.normal(size=(3_000, 24)).astype(np.float32) * rng.lognormal(0, 1, (3_000, 1)).astype(np.float32)
    people = rng.normal(size=(1_500, 24)).astype(np.float32)
    index = ExactTopK.measured(factors, people, 10)
    assert 0.0 < index.share < 1.0
    assert index.share == ExactTopK.measured(factors, people, 10).share
    found, longer = index.search(people, 10), index.search(people, 11)
    assert alike(found, Candidates(longer.items[:, :10], longer.scores[:, :10]))
    for person in (0, 700, 1_499):
        alone = index.search(people[person : person + 1], 10)
        assert alike(alone, Candidates(found.items[person : person + 1], found.scores[person : person + 1]))


def test_more_ties_than_there_is_room_for_go_to_the_lower_rows() -> None:
    found = ExactTopK(np.ones((5_000, 3), np.float32)).search(np.ones((2, 3)), 4, Ragged.of([[0, 2], []]))
    assert found.items.tolist() == [[1, 3, 4, 5], [0, 1, 2, 3]]


def test_questions_that_cannot_be_answered_are_refused() -> None:
    index = ExactTopK(np.ones((4, 3), np.float32))
    with pytest.raises(DataError, match="3 dimensions"):
        index.search(np.ones((2, 5)), 2)
    with pytest.raises(DataError, match="one row of exclusions"):
        index.search(np.ones((2, 3)), 2, Ragged.empty(1))
    with pytest.raises(DataError, match="finite"):
        ExactTopK(np.array([[1.0, np.nan]], np.float32))


def test_blas_gets_its_threads_back() -> None:
    from honeyguide.retrieval import exact

    before = [get() for _, get, _ in exact._libraries()]
    with one_blas_thread(), one_blas_thread():
        assert all(get() == 1 for _, get, _ in exact._libraries())
    assert [get() for _, get, _ in exact._libraries()] == before


DATA = small_audience(n_users=120, n_items=60, n_events=2_500, seed=11)
CATALOG = small_catalog(60)
CONFIG = ALSConfig(d=8, unobserved=2.0, reg=0.05, epochs=40, cg_steps=10, history=FLAT, trend=NO_TREND)


def test_both_solvers_reach_the_same_factors() -> None:
    by_steps = ALS(CONFIG).fit(DATA, CATALOG, seed=4)
    exactly = ALS(CONFIG.model_copy(update={"solver": "cholesky"})).fit(DATA, CATALOG, seed=4)
    assert by_steps.factors == pytest.approx(exactly.factors, abs=2e-3)


def test_how_the_rows_are_cut_into_ranges_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from honeyguide.retrieval import signals

    few = ALSConfig(d=8, epochs=2)
    alone = ALS(few).fit(DATA, CATALOG)
    monkeypatch.setattr(signals, "workers", lambda: 5)
    assert np.array_equal(ALS(few).fit(DATA, CATALOG).factors, alone.factors)


def test_a_batch_is_answered_like_single_questions() -> None:
    source, queries = ALS(CONFIG).fit(DATA, CATALOG), small_queries(DATA)
    one, many = source.retrieve(queries, 10), source.batch(queries, 10)
    assert np.nan_to_num(many.scores) == pytest.approx(np.nan_to_num(one.scores), abs=1e-5)
    assert (many.items == one.items).mean() > 0.99


def test_resuming_two_epochs_after_new_events_is_near_a_fit_from_nothing() -> None:
    old = DATA.take(slice(0, 2_300))
    warm = ALS(CONFIG).resume(ALS(CONFIG).fit(old, CATALOG), DATA, CATALOG, epochs=2)
    whole = ALS(CONFIG).fit(DATA, CATALOG)
    queries = small_queries(DATA)
    first, wanted = warm.retrieve(queries, 10).items, whole.retrieve(queries, 10).items
    same = np.mean([len(np.intersect1d(a, b)) / 10 for a, b in zip(first, wanted, strict=True)])
    assert same > 0.8
    with pytest.raises(BuildError, match="d = 8"):
        ALS(ALSConfig(d=4)).resume(whole, DATA, CATALOG)


def test_new_items_get_vectors_and_the_others_keep_theirs() -> None:
    newcomer = DATA.item == 59
    source = ALS(CONFIG).fit(DATA.take(~newcomer), CATALOG)
    before = source.factors.copy()
    assert not before[59].any()
    source.learn_items(DATA, np.array([59], np.int32))
    assert np.array_equal(source.factors[:59], before[:59])
    whole = ALS(CONFIG).fit(DATA, CATALOG).factors
    vectors = source.item_vectors()
    near, wanted = vectors[:59] @ vectors[59], whole[:59] @ whole[59] / np.linalg.norm(whole[:59], axis=1)
    assert np.corrcoef(near, wanted)[0, 1] > 0.7
    with pytest.raises(DataError, match="item rows"):
        source.learn_items(DATA, np.array([60], np.int32))


@pytest.mark.slow
def test_ten_million_items_with_three_events_each_are_fitted_in_bounded_time() -> None:
    from honeyguide.contracts import Interactions
    from honeyguide.retrieval.covisit import RP3beta, RP3betaConfig

    n = 10_000_000
    rng = np.random.default_rng(0)
    user, item = rng.integers(0, 2_000_000, 3 * n).astype(np.int32), np.repeat(np.arange(n, dtype=np.int32), 3)
    data = Interactions(
        user, item, np.zeros(3 * n, np.int16), np.full(3 * n, np.nan, np.float32), np.ones(3 * n, np.float32),
        np.arange(3 * n, dtype=np.int64), 2_000_000, n, ("view",),
    )  # fmt: skip
    begun = time.process_time()
    source = RP3beta(RP3betaConfig(width=20)).fit(data, small_catalog(1))
    assert time.process_time() - begun < 600
    assert len(source.neighbours(5)[0])
