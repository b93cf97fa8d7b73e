"""Drift: against scipy, against plain counts, and what must never change it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from honeyguide.kernels.drift import kolmogorov_smirnov, population_stability, sketch


@pytest.mark.parametrize("shift", [0.0, 0.1, 0.5, 2.0])
def test_the_distance_is_scipys(shift: float) -> None:
    rng = np.random.default_rng(3)
    was, now = rng.normal(size=5_000), rng.normal(shift, 1, 4_000)
    assert kolmogorov_smirnov(sketch(was), now) == pytest.approx(stats.ks_2samp(was, now).statistic, abs=0.006)


@pytest.mark.parametrize("shift", [0.25, 0.5, 1.0])
def test_stability_is_what_the_integral_says(shift: float) -> None:
    """Of normal distributions the share of each tenth is known; so is their PSI."""
    edges = stats.norm.ppf(np.linspace(0, 1, 11))
    p, q = np.full(10, 0.1), np.diff(stats.norm.cdf(edges - shift))
    truth = float(((q - p) * np.log(q / p)).sum())
    rng = np.random.default_rng(4)
    found = [
        population_stability(sketch(rng.normal(size=20_000)), 20_000, 0.0, rng.normal(shift, 1, 20_000))
        for _ in range(5)
    ]
    assert np.mean(found) == pytest.approx(truth, rel=0.12)


def test_without_a_shift_chance_alone_calls_nobody() -> None:
    rng = np.random.default_rng(5)
    found = [population_stability(sketch(rng.normal(size=800)), 800, 0.0, rng.normal(size=600)) for _ in range(200)]
    assert np.mean(found) < 0.02
    assert max(found) < 0.1


def test_what_was_constant_and_moves_is_seen_and_so_is_what_goes_missing() -> None:
    constant = sketch(np.zeros(1_000))
    assert population_stability(constant, 1_000, 0.0, np.zeros(500)) < 0.01
    assert population_stability(constant, 1_000, 0.0, np.ones(500)) > 1
    assert population_stability(constant, 1_000, 0.0, np.full(500, np.nan)) > 1
    assert population_stability(sketch(np.full(9, np.nan)), 1_000, 1.0, np.full(500, np.nan)) < 0.02
    assert population_stability(sketch(np.full(9, np.nan)), 1_000, 1.0, np.ones(500)) > 1
    few = np.repeat([0.0, 1.0, 2.0], 400)
    assert population_stability(sketch(few), 1_200, 0.0, few) < 0.02
    assert population_stability(sketch(few), 1_200, 0.0, np.repeat([0.0, 1.0, 2.0], (50, 50, 1_100))) > 0.3


@given(st.lists(st.floats(-100, 100), min_size=5, max_size=60), st.lists(st.floats(-100, 100), max_size=60), st.data())
def test_laws(was: list[float], now: list[float], data: st.DataObject) -> None:
    quantiles = sketch(was)
    psi, ks = population_stability(quantiles, len(was), 0.0, now), kolmogorov_smirnov(quantiles, now)
    assert psi >= 0
    assert 0 <= ks <= 1
    shuffled = data.draw(st.permutations(now))
    assert population_stability(quantiles, len(was), 0.0, shuffled) == psi
    assert kolmogorov_smirnov(quantiles, shuffled) == ks
