"""What a log says of itself is tested: p-values against other libraries, failures seen, sound logs left alone."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from honeyguide.errors import DataError
from honeyguide.evaluation.replay.checks import check_log
from honeyguide.evaluation.replay.surrogates import surrogacy
from honeyguide.flows.bench.ope_planted import PLANTED, flagged, made_log, surrogacy_flagged
from honeyguide.kernels.ope_checks import (
    frequency_test,
    inverse_frequency_test,
    surrogacy_sample_size,
    surrogacy_test,
    weight_mean_test,
)


def test_equal_propensities_give_pearsons_chi_square() -> None:
    rng = np.random.default_rng(0)
    p, n = np.array([0.5, 0.3, 0.2]), 500
    action = rng.choice(3, size=n, p=p)
    decision, actions = np.repeat(np.arange(n), 3), np.tile(np.arange(3), n)
    found = frequency_test(decision, actions, np.tile(p, n), np.arange(n) * 3 + action, np.zeros(n, np.int64), 1)
    theirs = stats.chisquare(np.bincount(action, minlength=3), p * n)
    assert found.degrees == 2
    assert found.statistic == pytest.approx(theirs.statistic, abs=1e-9)
    assert found.p_value == pytest.approx(theirs.pvalue, abs=1e-9)


def test_groups_add_up_and_rare_actions_count_together() -> None:
    rng = np.random.default_rng(1)
    p, n = np.array([0.6, 0.39, 0.006, 0.004]), 600
    action = rng.choice(4, size=n, p=p)
    group = np.arange(n) % 2
    decision, actions = np.repeat(np.arange(n), 4), np.tile(np.arange(4), n)
    found = frequency_test(decision, actions, np.tile(p, n), np.arange(n) * 4 + action, group, 2)
    statistic = 0.0
    for g in (0, 1):
        seen = np.bincount(action[group == g], minlength=4)
        # Two rare actions expect three choices together: too few for a cell of their own.
        cells, chances = [seen[0], seen[1], seen[2:].sum()], [0.6, 0.39, 0.01]
        statistic += stats.chisquare(cells, np.array(chances) * 300).statistic
    assert found.degrees == 4
    assert found.statistic == pytest.approx(statistic, rel=1e-9)


def test_the_weights_score_is_its_formula() -> None:
    rng = np.random.default_rng(2)
    p0, p1 = rng.dirichlet(np.ones(4), 200), rng.dirichlet(np.ones(4), 200)
    a = np.array([rng.choice(4, p=row) for row in p0])
    w = p1[np.arange(200), a] / p0[np.arange(200), a]
    second = (p1**2 / p0).sum(1)
    z = (w.sum() - 200) / np.sqrt((second - 1).sum())
    found = weight_mean_test(w, np.ones(200), second)
    assert found.statistic == pytest.approx(z)
    assert found.p_value == pytest.approx(2 * stats.norm.sf(abs(z)))
    assert np.isnan(weight_mean_test(np.ones(9), np.ones(9), np.ones(9)).p_value)


def test_p_values_of_sound_logs_are_uniform() -> None:
    rng = np.random.default_rng(3)
    found = []
    for _ in range(400):
        p = rng.dirichlet(np.full(4, 3.0), 200) * 0.8 + 0.05
        a = (p.cumsum(1) > rng.random((200, 1))).argmax(1)
        decision, actions = np.repeat(np.arange(200), 4), np.tile(np.arange(4), 200)
        test = frequency_test(decision, actions, p.ravel(), np.arange(200) * 4 + a, np.arange(200) % 2, 2)
        inverse = inverse_frequency_test(a, p[np.arange(200), a], np.full(4, 200.0))
        found.append((test.p_value, inverse.p_value))
    for p_values in np.array(found).T:
        assert (p_values < 0.05).mean() <= 0.08
    assert stats.kstest(np.array(found)[:, 0], "uniform").pvalue > 1e-3


@pytest.mark.parametrize("kind", [kind for kind in PLANTED if not kind.startswith("sound")])
def test_planted_failures_are_seen(kind: str) -> None:
    assert flagged(kind, 12, seed=1) >= 0.8


def test_sound_logs_are_left_alone() -> None:
    assert flagged("sound", 40, seed=2) <= 0.125
    rng = np.random.default_rng(4)
    names = {check.name for check in check_log(made_log("sound", rng))}
    assert {"propensities", "depends-on:device", "depends-on:segment", "depends-on:time", "one-policy"} <= names


@pytest.mark.heavy
def test_false_flags_and_power_over_many_logs() -> None:
    assert flagged("sound", 400, seed=5) <= 0.07
    for direct, low, high in ((0.0, 0.04, 0.068), (0.4, 0.78, 0.84)):
        share, n = surrogacy_flagged(direct, 4_000, seed=6)
        assert low <= share <= high
        assert n == 2_453


# ------------------------------------------------------------------------------------------------------ surrogates


def test_the_sample_size_is_the_known_formula() -> None:
    for explained, direct in ((0.5, 0.1), (0.8, 0.03)):
        wanted = 31.4 * (1 - explained) / direct**2
        assert surrogacy_sample_size(explained, direct) == pytest.approx(wanted, rel=1e-3)


def test_the_direct_effect_is_least_squares_with_a_robust_error() -> None:
    rng = np.random.default_rng(7)
    n = 300
    s, arm = rng.normal(size=n), rng.integers(0, 2, n)
    y = s + 0.3 * arm + rng.normal(size=n) * (1 + 0.5 * arm)
    knots = np.quantile(s, [0.1, 0.25, 0.5, 0.75, 0.9])
    x = np.column_stack([np.ones(n), arm, s, s**2, *(np.maximum(s - k, 0) for k in knots)])
    beta, *_ = np.linalg.lstsq(x, y, rcond=None)
    bread = np.linalg.inv(x.T @ x)
    meat = sum(np.outer(row, row) * e**2 for row, e in zip(x, y - x @ beta, strict=True))
    error = np.sqrt((bread @ meat @ bread)[1, 1] * n / (n - 9))
    found = surrogacy_test(y, s[:, None], arm)
    assert found.statistic == pytest.approx(beta[1] / error, rel=1e-8)


def test_surrogates_that_say_all_and_those_that_do_not() -> None:
    rng = np.random.default_rng(8)
    n = 8_000
    arm = np.arange(n) % 2
    early = rng.normal(size=n) + 0.2 * arm
    curved = [surrogacy(early**2 + rng.normal(size=n), early[:, None], arm).flagged for _ in range(40)]
    assert np.mean(curved) <= 0.175
    found = surrogacy(early + 0.3 * arm + rng.normal(size=n), early[:, None], arm)
    assert found.flagged
    assert "do not use" in found.says
    assert 0.4 < found.explained < 0.65


@pytest.mark.parametrize("bad", ["length", "arm", "nan", "constant"])
def test_what_cannot_be_tested_is_refused(bad: str) -> None:
    late, early, arm = np.arange(20.0), np.arange(20.0)[:, None] % 3, np.arange(20) % 2
    if bad == "length":
        late = late[:-1]
    elif bad == "arm":
        arm = arm + 1
    elif bad == "nan":
        late = np.where(late == 3, np.nan, late)
    else:
        arm = np.zeros(20, int)
    with pytest.raises(DataError):
        surrogacy(late, early, arm)
