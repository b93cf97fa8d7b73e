"""Click models against simulated people with known parameters, plain sums and hand cases."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from honeyguide.kernels import clicks as kernel
from honeyguide.understanding.clicks import ClickModel, Sessions, fit, inverse_propensity, simulate

DOCS, RANKS, SESSIONS = 12, 6, 40_000


def world(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lists in random order, attraction and satisfaction of their documents."""
    rng = np.random.default_rng(seed)
    pairs = np.stack([rng.permutation(DOCS)[:RANKS] for _ in range(SESSIONS)]).astype(np.int32)
    return pairs, rng.uniform(0.05, 0.7, DOCS), rng.uniform(0.2, 0.9, DOCS)


def sessions_of(pairs: np.ndarray, clicks: np.ndarray) -> Sessions:
    return Sessions(pairs, clicks, ["q"] * DOCS, np.arange(DOCS, dtype=np.int32))


def test_the_position_based_model_finds_what_was_planted() -> None:
    pairs, attraction, _ = world()
    chance = np.array([1.0, 0.8, 0.5, 0.35, 0.2, 0.1])
    found = fit(sessions_of(pairs, simulate("position", pairs, attraction, examination=chance)), "position")
    assert found.examination == pytest.approx(chance, abs=0.02)
    assert found.attraction == pytest.approx(attraction, abs=0.03)


def test_the_cascade_finds_what_was_planted() -> None:
    pairs, attraction, _ = world(1)
    found = fit(sessions_of(pairs, simulate("cascade", pairs, attraction)), "cascade")
    assert found.attraction == pytest.approx(attraction, abs=0.02)
    assert found.examination[0] == 1.0
    assert (np.diff(found.examination) < 0).all()


def test_the_network_finds_what_was_planted() -> None:
    pairs, attraction, satisfaction = world(2)
    clicks = simulate("dbn", pairs, attraction, satisfaction=satisfaction, going_on=0.85)
    found = fit(sessions_of(pairs, clicks), "dbn")
    assert found.going_on == pytest.approx(0.85, abs=0.02)
    assert found.attraction == pytest.approx(attraction, abs=0.03)
    assert found.satisfaction == pytest.approx(satisfaction, abs=0.08)
    assert np.corrcoef(found.relevance, attraction * satisfaction)[0, 1] > 0.98


def test_inverse_propensity_undoes_a_fixed_order() -> None:
    """Everybody sees one order: clicks alone rank by place, weighed clicks by worth."""
    attraction = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    chance = np.array([1.0, 0.7, 0.4, 0.3, 0.2, 0.1])
    pairs = np.tile(np.arange(RANKS, dtype=np.int32), (60_000, 1))
    clicks = simulate("position", pairs, attraction, examination=chance)
    sessions = Sessions(pairs, clicks, ["q"] * RANKS, np.arange(RANKS, dtype=np.int32))
    found, worth = inverse_propensity(sessions, chance)
    assert clicks.mean(axis=0).argmax() != 5
    assert found == pytest.approx(attraction, abs=0.03)
    assert worth == pytest.approx(60_000 * chance, rel=1e-6)


def brute_likelihood(list_: list[int], clicked: list[int], a: np.ndarray, s: np.ndarray, on: float) -> float:
    """Chance of one session under the network, summed over every way to have read it."""
    total = 0.0
    for reading in itertools.product([0, 1], repeat=3 * len(list_)):
        looks, likes, pleased = reading[: len(list_)], reading[len(list_) : 2 * len(list_)], reading[2 * len(list_) :]
        chance = 1.0
        for r, doc in enumerate(list_):
            go = 1.0 if r == 0 else 0.0 if not looks[r - 1] else on
            if r and looks[r - 1] and likes[r - 1] and pleased[r - 1]:
                go = 0.0
            chance *= go if looks[r] else 1 - go
            chance *= a[doc] if likes[r] else 1 - a[doc]
            click = looks[r] and likes[r]
            chance *= (s[doc] if pleased[r] else 1 - s[doc]) if click else (1.0 if not pleased[r] else 0.0)
            if click != clicked[r]:
                chance = 0.0
        total += chance
    return total


@settings(max_examples=40, deadline=None)
@given(clicked=st.lists(st.integers(0, 1), min_size=1, max_size=3), on=st.floats(0.1, 0.9), seed=st.integers(0, 99))
def test_the_networks_likelihood_is_the_sum_over_all_readings(clicked: list[int], on: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, s = rng.uniform(0.1, 0.9, 3), rng.uniform(0.1, 0.9, 3)
    docs = list(range(len(clicked)))
    *_, likelihood = kernel.dbn_step(np.array([docs], np.int32), np.array([clicked], np.uint8), a, s, on)
    assert math.exp(likelihood) == pytest.approx(brute_likelihood(docs, clicked, a, s, on), rel=1e-9)


def test_a_step_never_lowers_the_likelihood() -> None:
    pairs, attraction, satisfaction = world(3)
    few = pairs[:500]
    clicks = simulate("dbn", few, attraction, satisfaction=satisfaction, going_on=0.7)
    a, s, on, before = np.full(DOCS, 0.3), np.full(DOCS, 0.5), 0.8, -np.inf
    for _ in range(20):
        clicked, looked, pleased, tried, went, could, now = kernel.dbn_step(few, clicks, a, s, on)
        assert now >= before - 1e-9
        before = now
        a, s, on = clicked / looked, pleased / np.maximum(tried, 1e-9), went / could


def test_the_cascade_counts_by_hand() -> None:
    sessions = Sessions.of(["q", "q", "r"], [[5, 6, 7], [6, 5], [5]], [[1], [], [0]])
    assert sessions.queries == ["q", "q", "q", "r"]
    first, looked = kernel.cascade_counts(sessions.pairs, sessions.clicks, 4)
    assert first.tolist() == [0, 1, 0, 1]
    assert looked.tolist() == [2, 2, 0, 1]


@settings(max_examples=40, deadline=None)
@given(data=st.data(), kind=st.sampled_from(["position", "cascade", "dbn"]))
def test_whatever_was_logged_gives_probabilities(data: st.DataObject, kind: str) -> None:
    n = data.draw(st.integers(0, 8))
    shown = [data.draw(st.lists(st.integers(0, 5), max_size=25, unique=True)) for _ in range(n)]
    clicked = [data.draw(st.lists(st.integers(-3, 40), max_size=4)) for _ in range(n)]
    sessions = Sessions.of(["q"] * n, shown, clicked)
    found: ClickModel = fit(sessions, kind)  # type: ignore[arg-type]
    for values in (found.attraction, found.examination, found.relevance):
        assert np.isfinite(values).all()
        assert ((values >= 0) & (values <= 1)).all()
