"""Intervals of off-policy values: hand cases, laws, peers against plain loops, and coverage measured anew."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from honeyguide.flows.bench.ope_measure import measure, peers
from honeyguide.flows.bench.ope_special import amounts, lists, people
from honeyguide.flows.bench.ope_strata import Stratum, strata
from honeyguide.kernels.ope_intervals import (
    bootstrap_intervals,
    empirical_bernstein,
    hedged_betting,
    reward_tails,
    tail_interval,
    wald_interval,
)
from honeyguide.kernels.ope_values import Sums, gather

Z = 1.959963984540054


def rows(w: np.ndarray, e: np.ndarray) -> Sums:
    return Sums(w * e, w, np.zeros_like(w), np.ones_like(w))


def test_equal_weights_give_agresti_and_coull_with_three_more_trials() -> None:
    reward = np.array([1.0] * 7 + [0.0] * 43)
    found = tail_interval(rows(np.ones(50), reward), 1.0, 1.0, 0.0, normalised=True)
    n, share = 53, 8.5 / 53
    half = Z * math.sqrt(share * (1 - share) / n)
    assert found.estimate == pytest.approx(7 / 50, abs=1e-12)
    assert (found.low, found.high) == pytest.approx((share - half, share + half), abs=1e-9)


@given(st.integers(0, 5_000), st.booleans())
def test_the_interval_is_its_definition_in_plain_loops(seed: int, normalised: bool) -> None:
    rng = np.random.default_rng(seed)
    n, tail = 30, 4.0
    w, r, q, v = rng.exponential(size=n), rng.integers(0, 2, n) * 1.0, rng.random(n) * 0.5, rng.random(n) * 0.5
    model = v.mean()
    up, down = 1 - model, -model
    extra = [(tail, up), (tail, down)]
    size = sum(w) if normalised else n
    grown = size + 3.0 * tail
    centre = (sum(w[i] * (r[i] - q[i]) for i in range(n)) + 1.5 * sum(t * e for t, e in extra)) / grown
    variance = 0.0
    for i in range(n):
        own = w[i] * (r[i] - q[i]) - centre * (w[i] if normalised else 1.0)
        variance += ((v[i] - model) / n + own / grown) ** 2
    variance += 1.5 * sum((t * (e - centre) / grown) ** 2 for t, e in extra)
    found = tail_interval(Sums(w * (r - q), w, v, np.ones(n)), tail, up, down, normalised=normalised)
    assert found.low == pytest.approx(model + centre - Z * math.sqrt(variance), abs=1e-9)
    assert found.high == pytest.approx(model + centre + Z * math.sqrt(variance), abs=1e-9)


@given(st.integers(0, 5_000))
def test_counted_rows_are_rows_written_out_and_units_are_sums(seed: int) -> None:
    rng = np.random.default_rng(seed)
    w, r, times = rng.exponential(size=8), rng.integers(0, 2, 8) * 1.0, rng.integers(1, 5, 8)
    counted = tail_interval(rows(w, r), 2.0, 1.0, 0.0, normalised=True, times=times.astype(float))
    written = tail_interval(rows(np.repeat(w, times), np.repeat(r, times)), 2.0, 1.0, 0.0, normalised=True)
    assert np.allclose(counted, written, atol=1e-12)
    several = np.stack([w, w[::-1]]), np.stack([r, r[::-1]])
    together = tail_interval(rows(*several), np.array([2.0, 2.0]), 1.0, 0.0, normalised=True)
    one = tail_interval(rows(w, r), 2.0, 1.0, 0.0, normalised=True)
    assert np.allclose(np.array(together)[:, 0], np.array(one), atol=1e-12)
    # A unit of two equal rows has the variance of one row of twice the weight.
    unit = np.repeat(np.arange(8), 2)
    doubled = gather(np.repeat(w * r, 2), np.repeat(w, 2), np.zeros(16), unit, 8)
    assert np.allclose(doubled.weighted, 2 * w * r)
    assert np.allclose(doubled.n, 2)


def test_tails_of_zeros_and_ones_are_one_and_zero() -> None:
    rng = np.random.default_rng(0)
    w, r = np.ones(400), (rng.random(400) < 0.1).astype(float)
    up, down = reward_tails(r, w, 1.0, r.mean())
    assert up == pytest.approx(1.0, abs=1e-12)
    assert down == pytest.approx(0.0, abs=1e-12)


@given(st.floats(0.01, 100), st.floats(-50, 50), st.integers(0, 1_000))
def test_tails_move_and_stretch_with_the_rewards(scale: float, shift: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    w, r = rng.exponential(size=60), rng.gamma(1.0, 1.0, 60)
    mean = (w * r).sum() / w.sum()
    first = np.array(reward_tails(r, w, 3.0, mean))
    second = np.array(reward_tails(scale * r + shift, w, 3.0, scale * mean + shift))
    assert np.allclose(second, scale * first + shift, rtol=1e-6, atol=1e-6 * max(scale, abs(shift)))


@given(st.integers(0, 1_000))
def test_more_pseudo_observations_never_narrow_the_interval_of_rare_rewards(seed: int) -> None:
    rng = np.random.default_rng(seed)
    w, r = rng.exponential(size=200), (rng.random(200) < 0.02).astype(float)
    widths = [
        float(np.subtract(*tail_interval(rows(w, r), 3.0, 1.0, 0.0, normalised=True, pseudo=p)[:0:-1]))
        for p in (0.0, 0.5, 1.5)
    ]
    assert widths[0] <= widths[1] <= widths[2]


# --------------------------------------------------------------------------------------------------------- peers


def test_the_plain_interval_is_the_delta_methods() -> None:
    rng = np.random.default_rng(4)
    w, r = rng.exponential(size=300), rng.random(300)
    value = (w * r).sum() / w.sum()
    half = Z * math.sqrt(((w * (r - value)) ** 2).sum()) / w.sum()
    found = wald_interval(rows(w, r), normalised=True)
    assert (found.low, found.high) == pytest.approx((value - half, value + half), abs=1e-12)


def test_bernstein_by_hand() -> None:
    z = np.array([0.0, 1.0, 0.5, 2.0])
    mean, variance = 0.875, sum((x - 0.875) ** 2 for x in z) / 3
    log = math.log(4 / 0.05)
    half = math.sqrt(2 * variance * log / 4) + 7 * 2.0 * log / (3 * 3)
    found = empirical_bernstein(z, 2.0)
    assert found.low == pytest.approx(max(mean - half, 0.0))
    assert found.high == pytest.approx(min(mean + half, 2.0))


def test_betting_is_its_definition_in_plain_loops() -> None:
    z = np.random.default_rng(5).random(60)
    found = hedged_betting(z[None], 1.0)

    def survives(m: float) -> bool:
        up = down = 0.5
        total, square = 0.5, 0.25
        for i, x in enumerate(z):
            bet = math.sqrt(2 * math.log(2 / 0.05) / (square / (i + 1) * len(z)))
            up *= 1 + min(bet, 0.5 / m) * (x - m)
            down *= 1 - min(bet, 0.5 / (1 - m)) * (x - m)
            total += x
            square += (x - total / (i + 2)) ** 2
        return max(up, down) < 1 / 0.05

    for end, inward in ((float(found.low[0]), 1e-4), (float(found.high[0]), -1e-4)):
        assert survives(end + inward)
        assert not survives(end - inward)


def test_the_bootstraps_agree_with_the_normal_interval_on_an_easy_log() -> None:
    rng = np.random.default_rng(6)
    w, r = np.array([0.5, 0.5, 1.5, 1.5]), np.array([0.0, 1.0, 0.0, 1.0])
    times = np.array([900.0, 1100.0, 1200.0, 800.0])
    normal = wald_interval(rows(w, r), normalised=True, times=times)
    for found in bootstrap_intervals(w, r, times, resamples=2_000, seed=int(rng.integers(100))):
        assert float(found.low[0]) == pytest.approx(float(normal.low), abs=0.004)
        assert float(found.high[0]) == pytest.approx(float(normal.high), abs=0.004)


# ------------------------------------------------------------------------------------------------------ coverage


def easy() -> Stratum:
    logged, target = np.array([[0.6, 0.3, 0.1]]), np.array([[0.2, 0.4, 0.4]])
    return Stratum("easy", 1_000, np.ones(1), logged, target, np.array([[0.1, 0.2, 0.3]]))


def test_a_world_of_counts_is_a_world_of_rows() -> None:
    found = measure(easy(), 400, seed=1)["snips"].figures()
    rng = np.random.default_rng(2)
    logged, target, mean = np.array([0.6, 0.3, 0.1]), np.array([0.2, 0.4, 0.4]), np.array([0.1, 0.2, 0.3])
    estimates = []
    for _ in range(400):
        a = rng.choice(3, size=1_000, p=logged)
        w, r = (target / logged)[a], rng.random(1_000) < mean[a]
        estimates.append((w * r).sum() / w.sum())
    assert found["rmse"] == pytest.approx(float(np.std(estimates)), rel=0.15)
    assert found["answered"] == 1.0


def test_intervals_hold_where_the_usual_ones_do_not() -> None:
    worst = next(one for one in strata() if one.name.startswith("rare-weight/4000/w-20-in-200/rate-0.03/it-earns-most"))
    ours = measure(worst, 1_000, seed=3)
    for name in ("snips", "dr", "ips", "sndr"):
        assert (ours[name].figures()["coverage"] or 0) >= 0.93, name
    usual = peers(worst, 100, seed=3, exact=False)
    assert (usual["normal"].figures()["coverage"] or 1) <= (ours["snips"].figures()["coverage"] or 0)


@pytest.mark.heavy
def test_every_tenth_stratum_holds() -> None:
    for place, stratum in enumerate(strata()[::10]):
        for name, found in measure(stratum, 2_000, seed=place).items():
            figures = found.figures()
            if (figures["answered"] or 0) > 0.5:
                assert (figures["coverage"] or 0) >= 0.925, (name, stratum.name)


@pytest.mark.heavy
def test_people_amounts_and_lists_hold() -> None:
    for name, found in people(1_000, 1):
        coverage = found.figures()["coverage"] or 0
        assert coverage >= 0.93 if name.endswith("by-person") else coverage < 0.93, name
    for name, found in amounts(600, 1):
        assert (found.figures()["coverage"] or 1) >= 0.91, name
    for estimator, name, found in lists(400, 1):
        if estimator != "iips":
            assert (found.figures()["coverage"] or 1) >= 0.91, (estimator, name)
