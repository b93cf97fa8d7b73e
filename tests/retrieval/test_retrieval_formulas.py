"""Each source against a second derivation: plain loops, scikit-learn, dense linear algebra."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics.pairwise import cosine_similarity

from honeyguide.contracts import Interactions, Queries, Ragged
from honeyguide.kernels.topk import best
from honeyguide.retrieval.covisit import Covisit, CovisitConfig, ItemKNN, RP3beta, RP3betaConfig
from honeyguide.retrieval.factors import ALS, EASE, ALSConfig, EASEConfig, NextItem, NextItemConfig
from honeyguide.retrieval.popular import Popular, PopularConfig
from honeyguide.retrieval.signals import DAY_US, HistoryConfig, TrendConfig, lift, signals
from honeyguide.testing.sources import small_audience, small_catalog

DATA = small_audience(n_users=30, n_items=25, n_events=500, seed=3)
CATALOG = small_catalog(25)
NOW = int(DATA.at[-1]) + 1
NO_TREND = TrendConfig(window_days=0.0)
FLAT = HistoryConfig(use_weights=False)


def binary(data: Interactions = DATA) -> np.ndarray:
    x = np.zeros((data.n_users, data.n_items))
    for user, item, weight in zip(data.user, data.item, data.weight, strict=True):
        if weight > 0:
            x[user, item] = 1.0
    return x


def sequences(data: Interactions = DATA) -> dict[int, list[int]]:
    lists: dict[int, list[int]] = defaultdict(list)
    for user, item, weight in zip(data.user, data.item, data.weight, strict=True):
        if weight > 0:
            lists[int(user)].append(int(item))
    return lists


def ask(items: list[int], at: list[int] | None = None, now: int = NOW) -> Queries:
    n = len(items)
    return Queries(
        np.array([0, n], np.int64), np.array(items, np.int32), np.ones(n, np.float32),
        np.array(at if at is not None else [NOW - 1] * n, np.int64), np.array([now], np.int64),
        np.array([-1], np.int32), Ragged.empty(1),
    )  # fmt: skip


def scores_of(source: object, queries: Queries, n: int = 25) -> np.ndarray:
    found = source.retrieve(queries, n)  # type: ignore[attr-defined]
    out = np.zeros(n)
    real = found.items[0] >= 0
    out[found.items[0][real]] = found.scores[0][real]
    return out


@settings(max_examples=150, deadline=None)
@given(
    hnp.arrays(np.float32, st.integers(0, 300), elements=st.sampled_from([0.0, 1.0, -2.5, 3.25, np.nan, -np.inf, 7.5])
               | st.floats(-1024, 1024, width=32, allow_subnormal=False)),
    st.integers(0, 40),
)  # fmt: skip
def test_the_best_k_are_those_of_a_full_sort(values: np.ndarray, k: int) -> None:
    rows = np.random.default_rng(len(values)).permutation(len(values)).astype(np.int32)
    order = [
        (-float(value), int(row))
        for value, row in zip(values, rows, strict=True)
        if not np.isnan(value) and value > -np.inf
    ]
    wanted = [row for _, row in sorted(order)][:k]
    items, scores = np.empty(k, np.int32), np.empty(k, np.float32)
    found = best(values.copy(), rows.copy(), len(values), items, scores)
    assert found == len(wanted)
    assert items.tolist() == wanted + [-1] * (k - len(wanted))
    assert np.isnan(scores[found:]).all()


def test_popularity_decays_by_half_lives() -> None:
    source = Popular(PopularConfig(half_life_days=2.0, use_weights=False)).fit(DATA, CATALOG)
    wanted = np.zeros(25)
    for item, weight, at in zip(DATA.item, DATA.weight, DATA.at, strict=True):
        if weight > 0:
            wanted[item] += 0.5 ** ((DATA.at[DATA.weight > 0].max() - at) / DAY_US / 2.0)
    assert scores_of(source, ask([])) == pytest.approx(wanted, rel=1e-5)


def test_popularity_in_a_window_counts_only_what_is_in_it() -> None:
    source = Popular(PopularConfig(half_life_days=0.0, window_days=100.0, use_weights=False)).fit(DATA, CATALOG)
    last = DATA.at[DATA.weight > 0].max()
    inside = (DATA.weight > 0) & (DATA.at >= last - 100 * DAY_US)
    assert scores_of(source, ask([])) == pytest.approx(np.bincount(DATA.item[inside], minlength=25))


def test_a_segment_is_shrunk_towards_everybody() -> None:
    segment = (np.arange(30) % 3 - 1).astype(np.int32)  # a third of the people are in none
    source = Popular(PopularConfig(half_life_days=0.0, prior_events=10.0, use_weights=False), segment).fit(
        DATA, CATALOG
    )
    liked = DATA.weight > 0
    own = np.bincount(DATA.item[liked & (segment[DATA.user] == 1)], minlength=25)
    everybody = np.bincount(DATA.item[liked], minlength=25)
    queries = ask([])
    queries.segment[0] = 1
    assert scores_of(source, queries) == pytest.approx(own + 10.0 * everybody / everybody.sum())
    queries.segment[0] = 77
    assert scores_of(source, queries) == pytest.approx(everybody)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(-1, 27), st.integers(0, 4000), st.integers(-1, 3)), max_size=30), st.booleans())
def test_updating_equals_counting_again(news: list[tuple[int, int, int]], one_by_one: bool) -> None:
    """Also for items that are new, for people of unknown segments, and many half-lives later."""
    segment = (np.arange(30) % 2).astype(np.int32)
    config = PopularConfig(half_life_days=30.0, prior_events=10.0, use_weights=False)
    source = Popular(config, segment).fit(DATA, CATALOG)
    last = int(DATA.at[DATA.weight > 0].max())
    rows, at = [row for row, _, _ in news], [last + days * DAY_US for _, days, _ in news]
    groups = [group for _, _, group in news]
    if one_by_one:
        for row, when, group in zip(rows, at, groups, strict=True):
            source.update(row, when, group)
    elif rows:
        source.update(rows, at, groups)
    wanted = np.zeros((3, 28))
    newest = max([last, *at])
    old = [(i, t, segment[u]) for u, i, t, w in zip(DATA.user, DATA.item, DATA.at, DATA.weight, strict=True) if w > 0]
    for item, when, group in [*old, *zip(rows, at, groups, strict=True)]:
        if item >= 0:
            strength = 0.5 ** ((newest - when) / DAY_US / 30.0)
            wanted[0, item] += strength
            if 0 <= group < 2:
                wanted[group + 1, item] += strength
    for line in range(2):
        queries = ask([])
        queries.segment[0] = line - 1
        got = source.retrieve(queries, 28)
        real = got.items[0] >= 0
        scores = np.zeros(28)
        scores[got.items[0][real]] = got.scores[0][real]
        assert (np.diff(got.scores[0][real]) <= 0).all()
        if line == 0 and wanted[0].max() > 0:
            assert scores / scores.max() == pytest.approx(wanted[0] / wanted[0].max(), rel=1e-3, abs=1e-5)


def test_item_knn_is_the_cosine_of_scikit_learn() -> None:
    source = ItemKNN().fit(DATA, CATALOG)
    wanted = cosine_similarity(binary().T)
    np.fill_diagonal(wanted, 0.0)
    assert scores_of(source, ask([3])) == pytest.approx(wanted[3], abs=1e-6)
    assert scores_of(source, ask([3, 8, 8])) == pytest.approx(wanted[3] + 2 * wanted[8], abs=1e-6)


def test_rp3beta_is_three_steps_of_a_walk() -> None:
    config = RP3betaConfig(alpha=0.7, beta=0.4, history=FLAT, trend=NO_TREND)
    x = binary()
    to_user = (x.T / np.maximum(x.sum(0), 1)[:, None]) ** 0.7
    to_item = (x / np.maximum(x.sum(1), 1)[:, None]) ** 0.7
    walk = to_user @ to_item / np.maximum(x.sum(0), 1)[None, :] ** 0.4
    np.fill_diagonal(walk, 0.0)
    source = RP3beta(config).fit(DATA, CATALOG)
    assert scores_of(source, ask([6])) == pytest.approx(walk[6], abs=1e-6)
    narrow = RP3beta(config.model_copy(update={"width": 4})).fit(DATA, CATALOG)
    cols, vals = narrow.neighbours(6)
    assert cols.tolist() == np.argsort(-walk[6], kind="stable")[:4].tolist()
    assert vals == pytest.approx(np.sort(walk[6])[::-1][:4], abs=1e-6)


def test_covisit_counts_pairs_in_their_order() -> None:
    config = CovisitConfig(
        window=3, gap_decay=0.8, backward=0.25, row_power=0.5, col_power=0.2, history=FLAT, trend=NO_TREND
    )
    pairs, count = np.zeros((25, 25)), np.zeros(25)
    for line in sequences().values():
        for place, item in enumerate(line):
            count[item] += 1
            for gap in range(1, 4):
                if place + gap < len(line):
                    pairs[item, line[place + gap]] += 0.8 ** (gap - 1)
                    pairs[line[place + gap], item] += 0.25 * 0.8 ** (gap - 1)
    wanted = pairs / np.maximum(count, 1)[:, None] ** 0.5 / np.maximum(count, 1)[None, :] ** 0.2
    np.fill_diagonal(wanted, 0.0)
    source = Covisit(config).fit(DATA, CATALOG)
    for seed in (0, 7, 24):
        assert scores_of(source, ask([seed])) == pytest.approx(wanted[seed], rel=1e-4, abs=1e-6)


def test_ease_is_the_closed_form() -> None:
    source = EASE(EASEConfig(l2=30.0, history=FLAT, trend=NO_TREND)).fit(DATA, CATALOG)
    x = binary()
    inverse = np.linalg.inv(x.T @ x + 30.0 * np.eye(25))
    wanted = -inverse / np.diag(inverse)[None, :]
    np.fill_diagonal(wanted, 0.0)
    got = source.scale[:, None] * source.matrix
    assert np.abs(got - wanted).max() < 1e-4 * np.abs(wanted).max()
    assert scores_of(source, ask([2, 9])) == pytest.approx(wanted[2] + wanted[9], abs=1e-4)


def test_next_item_is_the_ridge_regression_over_all_steps() -> None:
    config = NextItemConfig(decay=0.5, window=60, l2=5.0, history=FLAT, trend=NO_TREND)
    states, targets = [], []
    for line in sequences().values():
        state = np.zeros(25)
        for item, follower in zip(line, [*line[1:], None], strict=True):
            state = 0.5 * state
            state[item] += 1.0
            states.append(state)
            targets.append(np.zeros(25))
            if follower is not None:
                targets[-1][follower] = 1.0
    x, y = np.array(states), np.array(targets)
    # the closed form sums geometric series to infinity: it knows each history as if it went on in silence
    tails = [
        state * 0.5**step
        for line_end in np.cumsum([len(line) for line in sequences().values()]) - 1
        for state in [x[line_end]]
        for step in range(1, 60)
    ]
    gram = x.T @ x + np.array(tails).T @ np.array(tails)
    wanted = np.linalg.solve(gram + 5.0 * np.eye(25), x.T @ y)
    source = NextItem(config).fit(DATA, CATALOG)
    assert np.abs(source.scale[:, None] * source.matrix - wanted).max() < 1e-3 * np.abs(wanted).max()


def test_als_stands_still_at_its_own_solution() -> None:
    config = ALSConfig(
        d=6, unobserved=0.2 * 30 * 25 / binary().sum(), reg=0.05, power=1.0, epochs=60, cg_steps=30, fold_in_steps=60,
        history=FLAT, trend=NO_TREND,
    )  # fmt: skip
    source = ALS(config).fit(DATA, CATALOG, seed=1)
    x, y = binary(), source.factors.astype(np.float64)
    gram = 0.2 * y.T @ y

    def person(items: list[int]) -> np.ndarray:
        seen = y[items]
        ridge = 0.05 * (len(items) + 0.2 * 25)
        return np.linalg.solve(gram + seen.T @ seen + ridge * np.eye(6), seen.sum(axis=0))

    people = np.array([person(np.flatnonzero(row).tolist()) for row in x])
    # an item's vector, solved exactly from those people, is the one it has
    for item in range(25):
        fans = people[x[:, item] > 0]
        left = 0.2 * people.T @ people + fans.T @ fans + 0.05 * (len(fans) + 0.2 * 30) * np.eye(6)
        assert np.linalg.solve(left, fans.sum(axis=0)) == pytest.approx(y[item], abs=2e-2)
    # and a history is folded in by the same equation
    found = scores_of(source, ask([1, 4, 11]))
    assert found == pytest.approx(y @ person([1, 4, 11]), abs=1e-4)


def test_item_vectors_have_unit_length_or_none() -> None:
    data = DATA.take(DATA.item != 7)
    vectors = ALS(ALSConfig(d=8)).fit(data, CATALOG).item_vectors()
    length = np.linalg.norm(vectors, axis=1)
    has_events = np.bincount(data.item[data.weight > 0], minlength=25) > 0
    assert not has_events[7]
    assert length == pytest.approx(has_events.astype(float), abs=1e-5)


def test_history_weights_fall_by_step_power_and_age() -> None:
    history = HistoryConfig(step_decay=0.5, step_power=1.0, half_life_days=2.0)
    flat = RP3beta(RP3betaConfig(history=FLAT, trend=NO_TREND)).fit(DATA, CATALOG)
    source = flat.variant(history=history)
    at = [NOW - 4 * DAY_US, NOW - 2 * DAY_US, NOW]
    single = [scores_of(flat, ask([item])) for item in (1, 2, 3)]
    wanted = single[2] + 0.5 * (1 / 2) * 0.5 * single[1] + 0.25 * (1 / 3) * 0.25 * single[0]
    assert scores_of(source, ask([1, 2, 3], at)) == pytest.approx(wanted, rel=1e-4, abs=1e-7)


def test_the_lift_is_the_mean_of_a_gamma_poisson_posterior() -> None:
    events = signals(DATA, other=0.0, use_weights=False)
    config = TrendConfig(window_days=60.0, prior_events=5.0)
    fresh = events.at >= events.at.max() - 60 * DAY_US
    recent = np.bincount(events.item[fresh], minlength=25)
    share = np.bincount(events.item, minlength=25) / len(events.item)
    wanted = (recent + 5.0) / (share * recent.sum() + 5.0)
    assert lift(events, config) == pytest.approx(wanted, rel=1e-5)
    # only those who come back are lifted
    source = RP3beta(RP3betaConfig(history=FLAT, trend=config.model_copy(update={"after_hours": 10.0}))).fit(
        DATA, CATALOG
    )
    fresh_scores = scores_of(source, ask([1, 2]))
    later = scores_of(source, ask([1, 2], now=NOW + 11 * 3_600_000_000))
    assert later == pytest.approx(fresh_scores * wanted, rel=1e-4)


def test_dislikes_count_only_where_the_config_says_so() -> None:
    with_dislikes = RP3beta(RP3betaConfig(history=HistoryConfig(other=1.0, use_weights=False), trend=NO_TREND)).fit(
        DATA, CATALOG
    )
    every = Interactions(
        DATA.user, DATA.item, DATA.action, DATA.value, np.ones(len(DATA), np.float32), DATA.at, 30, 25, ("view",)
    )
    as_likes = RP3beta(RP3betaConfig(history=FLAT, trend=NO_TREND)).fit(every, CATALOG)
    assert np.array_equal(with_dislikes.cols, as_likes.cols)
    assert np.array_equal(with_dislikes.vals, as_likes.vals)


def test_weights_are_strengths_where_the_config_says_so() -> None:
    flat = RP3beta(RP3betaConfig(history=FLAT, trend=NO_TREND)).fit(DATA, CATALOG)
    weighted = flat.variant(history=HistoryConfig(use_weights=True))
    queries = ask([1, 2, 3])
    queries.weights[:] = [0.5, 2.0, 1e9]
    single = [scores_of(flat, ask([item])) for item in (1, 2, 3)]
    wanted = 0.5 * single[0] + 2.0 * single[1] + 10.0 * single[2]
    assert scores_of(weighted, queries) == pytest.approx(wanted, rel=1e-4)
    popular = Popular(PopularConfig(half_life_days=0.0)).fit(DATA, CATALOG)
    liked = DATA.weight > 0
    assert scores_of(popular, ask([])) == pytest.approx(np.bincount(DATA.item[liked], DATA.weight[liked], 25))
