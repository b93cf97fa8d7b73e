"""Intervals: against textbook numbers, against each other, and by how often they cover the truth."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from honeyguide.kernels.hashing import hash64, uniform
from honeyguide.kernels.intervals import (
    difference_intervals,
    mean_interval,
    normal_interval,
    poisson_weights,
    ratio_intervals,
    wilson_interval,
)


def test_wilson_equals_scipy_s() -> None:
    for successes, n in [(0, 10), (3, 10), (10, 10), (450, 1000)]:
        theirs = stats.binomtest(successes, n).proportion_ci(0.95, method="wilson")
        found = wilson_interval(successes, n)
        assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high))
    assert np.isnan(wilson_interval(0, 0).estimate)


def test_mean_interval_equals_the_textbook() -> None:
    values = np.array([1.0, 2.0, np.nan, 4.0, 7.0])
    found = mean_interval(values)
    kept = values[~np.isnan(values)]
    half = stats.norm.ppf(0.975) * kept.std(ddof=1) / np.sqrt(len(kept))
    assert found.estimate[0] == pytest.approx(3.5)
    assert found.high[0] - found.estimate[0] == pytest.approx(half)
    assert normal_interval(np.array([0.0]), np.array([1.0])).high[0] == pytest.approx(1.96, abs=1e-3)


def test_bootstrap_and_normal_agree_on_many_units() -> None:
    rng = np.random.default_rng(0)
    n = 10_000
    counts = rng.integers(1, 4, n).astype(float)
    sums = counts * rng.random(n)
    sums_b = sums + rng.normal(0, 0.05, n)
    weights = poisson_weights(n, 2_000, seed=1)
    a, b = ratio_intervals(sums, counts, weights), ratio_intervals(sums, counts, None)
    assert a.estimate == pytest.approx(b.estimate)
    assert a.low == pytest.approx(b.low, abs=0.05 * (b.high - b.low)[0])
    assert a.high == pytest.approx(b.high, abs=0.05 * (b.high - b.low)[0])
    a, b = (difference_intervals(sums, counts, sums_b, counts, w) for w in (weights, None))
    assert a.low == pytest.approx(b.low, abs=0.05 * (b.high - b.low)[0])
    # Paired: far narrower than the difference of two figures that know nothing of each other.
    one = ratio_intervals(sums, counts, None)
    assert (b.high - b.low)[0] < 0.3 * (one.high - one.low)[0]


@pytest.mark.parametrize("bootstrap", [True, False])
def test_intervals_cover_the_truth_about_as_often_as_they_say(bootstrap: bool) -> None:
    rng = np.random.default_rng(2)
    n, trials = 120, 600
    values = rng.exponential(1.0, (n, trials))
    found = ratio_intervals(values, np.ones_like(values), poisson_weights(n, 800, 3) if bootstrap else None)
    covered = ((found.low < 1) & (found.high > 1)).mean()
    assert 0.90 < covered < 0.97


def test_people_are_resampled_and_not_their_queries() -> None:
    rng = np.random.default_rng(4)
    person = rng.normal(size=200)
    per_query = ratio_intervals(np.repeat(person, 20), np.ones(4_000), None)
    per_person = ratio_intervals(person * 20, np.full(200, 20.0), None)
    assert per_person.estimate == pytest.approx(per_query.estimate)
    assert (per_person.high - per_person.low)[0] > 4 * (per_query.high - per_query.low)[0]


def test_what_cannot_be_known_is_nan() -> None:
    sums, counts = np.array([[1.0, 0.5, 0.0], [1.0, 0.0, 0.0]]), np.array([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    for weights in (poisson_weights(2, 200), None):
        found = ratio_intervals(sums, counts, weights)
        assert found.estimate[:2].tolist() == [1.0, 0.5]
        assert np.isnan(found.estimate[2])
        assert found.low[0] == found.high[0] == 1.0
        assert np.isnan(found.low[1:]).all()
        nothing = ratio_intervals(np.zeros((0, 1)), np.zeros((0, 1)), None if weights is None else weights[:, :0])
        assert np.isnan(nothing.estimate[0])


def test_weights_are_poisson_and_repeatable() -> None:
    weights = poisson_weights(3_000, 300, seed=5)
    assert weights.dtype == np.uint8
    observed = np.bincount(weights.ravel(), minlength=9)[:6] / weights.size
    assert observed == pytest.approx(stats.poisson(1).pmf(range(6)), abs=2e-3)
    assert np.array_equal(weights, poisson_weights(3_000, 300, seed=5))
    assert not np.array_equal(weights, poisson_weights(3_000, 300, seed=6))


# ------------------------------------------------------------------------------------------------- hashing


def test_a_hash_is_the_same_everywhere_and_for_ever() -> None:
    import hashlib

    expected = int.from_bytes(hashlib.blake2b(b"1:su", digest_size=8).digest(), "little")
    assert hash64("u", "s") == expected
    assert hash64("ab", "c") != hash64("b", "ca")
    assert hash64("\ud800") == hash64("\ud800")  # a broken string has a hash too


def test_uniform_is_uniform_and_salts_are_independent() -> None:
    a = np.array([uniform(str(i), "a") for i in range(5_000)])
    b = np.array([uniform(str(i), "b") for i in range(5_000)])
    assert 0 <= a.min() < a.max() < 1
    assert stats.kstest(a, "uniform").pvalue > 1e-3
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.06
