"""Each off-policy estimator against plain loops, and against the exact expectation over every action on small cases."""

from __future__ import annotations

from itertools import product

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from honeyguide.evaluation.replay.estimators import OpeConfig, evaluate, value_table
from honeyguide.evaluation.replay.log import DecisionLog, decision_log
from honeyguide.evaluation.replay.policy import PolicyTable, Target, best_of, context_rows, logging, tabled, uniform
from honeyguide.evaluation.replay.rewards import GivenRewards, RidgeRewards, TabularRewards, cross_fitted
from honeyguide.evaluation.replay.tuning import design_tuned, slope_tuned
from honeyguide.kernels.ope_models import ridge, shrunken_means
from honeyguide.kernels.ope_values import (
    design_moments,
    direct,
    doubly_robust,
    empirical_moments,
    ips,
    optimistic,
    snips,
    switched,
)
from honeyguide.schema import columns as c
from honeyguide.schema.tables import REPLAY_VALUE


def sound_log(n: int = 600, actions: int = 4, seed: int = 0, **columns: object) -> pa.Table:
    """A log that is as it says it is; `columns` replace or add."""
    rng = np.random.default_rng(seed)
    segment = rng.integers(0, 3, n)
    base = rng.dirichlet(np.full(actions, 4.0), 3) * 0.8 + 0.2 / actions
    p = base[segment]
    action = (p.cumsum(1) > rng.random((n, 1))).argmax(1)
    reward = (rng.random(n) < 0.1 + 0.1 * action).astype(float)
    made: dict[str, object] = {
        c.REQUEST_ID: [f"r{row}" for row in range(n)],
        c.CHOSEN: [f"a{place}" for place in action],
        c.PROPENSITY: p[np.arange(n), action],
        c.REWARD: reward,
        c.OFFERED: [[f"a{place}" for place in range(actions)]] * n,
        c.PROBABILITIES: [row.tolist() for row in p],
        c.CONTEXT: [f'{{"segment":"s{one}","age":{20 + one}}}' for one in segment],
    }
    made |= columns
    return pa.table({str(name): column for name, column in made.items() if column is not None})


def arrays(seed: int, n: int = 40, k: int = 5) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    p0, p1 = rng.dirichlet(np.ones(k), n), rng.dirichlet(np.ones(k), n)
    action = np.array([rng.choice(k, p=row) for row in p0])
    return p0, p1, action, rng.random(n), rng.random((n, k))


@given(st.integers(0, 10_000), st.floats(0.1, 20))
def test_estimators_are_their_formulas_in_plain_loops(seed: int, parameter: float) -> None:
    p0, p1, action, r, q = arrays(seed)
    n, k = p0.shape
    total = dict.fromkeys(("ips", "weights", "dm", "dr", "dros", "switch"), 0.0)
    for i in range(n):
        a = action[i]
        w = p1[i, a] / p0[i, a]
        v = sum(p1[i, b] * q[i, b] for b in range(k))
        total["ips"] += w * r[i]
        total["weights"] += w
        total["dm"] += v
        total["dr"] += v + w * (r[i] - q[i, a])
        total["dros"] += v + parameter * w / (w * w + parameter) * (r[i] - q[i, a])
        total["switch"] += v + (w * (r[i] - q[i, a]) if w <= parameter else 0.0)
    rows = np.arange(n)
    w, qa, v = p1[rows, action] / p0[rows, action], q[rows, action], (p1 * q).sum(1)
    assert ips(w, r) == pytest.approx(total["ips"] / n, abs=1e-9)
    assert snips(w, r) == pytest.approx(total["ips"] / total["weights"], abs=1e-9)
    assert direct(v) == pytest.approx(total["dm"] / n, abs=1e-9)
    assert doubly_robust(w, r, qa, v) == pytest.approx(total["dr"] / n, abs=1e-9)
    assert doubly_robust(optimistic(w, parameter), r, qa, v) == pytest.approx(total["dros"] / n, abs=1e-9)
    assert doubly_robust(switched(w, parameter), r, qa, v) == pytest.approx(total["switch"] / n, abs=1e-9)


def test_ips_and_dr_are_unbiased_by_enumeration_of_every_log() -> None:
    rng = np.random.default_rng(3)
    n, k = 3, 3
    p0, p1, mean, q = rng.dirichlet(np.ones(k), n), rng.dirichlet(np.ones(k), n), rng.random((n, k)), rng.random((n, k))
    truth = (p1 * mean).sum(1).mean()
    expected = {"ips": 0.0, "dr": 0.0, "dr-wrong-propensities": 0.0}
    wrong = rng.dirichlet(np.ones(k), n)
    rows = np.arange(n)
    for actions in product(range(k), repeat=n):
        for rewards in product((0.0, 1.0), repeat=n):
            a, r = np.array(actions), np.array(rewards)
            m = mean[rows, a]
            chance = p0[rows, a].prod() * np.where(r == 1, m, 1 - m).prod()
            w, bad = p1[rows, a] / p0[rows, a], p1[rows, a] / wrong[rows, a]
            expected["ips"] += chance * ips(w, r)
            expected["dr"] += chance * doubly_robust(w, r, q[rows, a], (p1 * q).sum(1))
            expected["dr-wrong-propensities"] += chance * doubly_robust(bad, r, m, (p1 * mean).sum(1))
    for name, value in expected.items():
        assert value == pytest.approx(truth, abs=1e-9), name


def test_shrinkage_goes_from_the_model_alone_to_dr() -> None:
    w = np.array([0.0, 0.5, 2.0, 40.0])
    assert optimistic(w, 0.0).tolist() == [0, 0, 0, 0]
    assert optimistic(w, np.inf).tolist() == w.tolist()
    assert (optimistic(w, 3.0) <= w).all()
    assert switched(w, 2.0).tolist() == [0.0, 0.5, 2.0, 0.0]


@given(st.integers(0, 10_000))
def test_design_moments_are_the_expectation_of_what_happens(seed: int) -> None:
    p0, p1, _, _, _ = arrays(seed, n=4, k=3)
    design = design_moments(p1.ravel(), p0.ravel(), n=4.0)
    expected = np.zeros(3)
    for actions in product(range(3), repeat=4):
        a, rows = np.array(actions), np.arange(4)
        found = empirical_moments(p1[rows, a] / p0[rows, a])
        expected += p0[rows, a].prod() * np.array([found.w1, found.w2, found.w3])
    assert np.allclose([design.w1, design.w2, design.w3], expected, rtol=1e-9)
    assert design.ess == pytest.approx(design.w1**2 / design.w2)
    assert design.n3 == pytest.approx(design.w2**3 / design.w3**2)


# ------------------------------------------------------------------------------------------------ on a real table


def target_of(log: DecisionLog, seed: int = 5) -> Target:
    p = np.random.default_rng(seed).dirichlet(np.full(len(log.actions), 2.0), 3)
    rows = [(f"s{s}", a, p[s, i]) for s in range(3) for i, a in enumerate(log.actions)]
    of, keys = context_rows(log, "segment")
    table = PolicyTable([one[0] for one in rows], [one[1] for one in rows], np.array([one[2] for one in rows]))
    return tabled(log, "t", table, of, keys, renormalise=False)


def test_the_flow_of_a_log_gives_what_loops_over_its_rows_give() -> None:
    table = sound_log()
    log = decision_log(table)
    target = target_of(log)
    q = np.random.default_rng(1).random(len(log.offered.values))
    valued = evaluate(log, target, model=GivenRewards(q))
    by_name = {one.estimator: one for one in valued.estimates}
    sums, weights, model, dr = 0.0, 0.0, 0.0, 0.0
    for i, row in enumerate(table.to_pylist()):
        place = [log.actions[a] for a in log.offered.row(i)].index(row["chosen"])
        low = log.offered.indptr[i]
        w = target.probabilities[low + place] / row["propensity"]
        v = sum(target.probabilities[low + j] * q[low + j] for j in range(4))
        sums, weights, model = sums + w * row["reward"], weights + w, model + v
        dr += v + w * (row["reward"] - q[low + place])
    assert by_name["ips"].estimate == pytest.approx(sums / 600, abs=1e-9)
    assert by_name["snips"].estimate == pytest.approx(sums / weights, abs=1e-9)
    assert by_name["dm"].estimate == pytest.approx(model / 600, abs=1e-9)
    assert by_name["dr"].estimate == pytest.approx(dr / 600, abs=1e-9)
    assert by_name["dm"].low is None
    assert valued.best == "snips"
    assert valued.verdict.name == "IDENTIFIABLE"
    assert valued.overlap.unsupported == 0.0
    rows = value_table([valued], "click")
    assert rows.schema == REPLAY_VALUE.arrow()
    assert rows.num_rows == 7


def test_the_logging_policy_is_worth_the_mean_reward() -> None:
    log = decision_log(sound_log())
    mean = float(log.reward.mean())
    for table in (sound_log(), sound_log(probabilities=None)):
        log = decision_log(table)
        valued = evaluate(log, logging(log))
        for one in valued.estimates:
            if one.estimator in ("ips", "snips"):
                assert one.estimate == pytest.approx(mean, abs=1e-12)
    assert valued.verdict.name == "UNVERIFIED"
    assert "offered" in valued.verdict.advice[0]


def test_nothing_depends_on_the_order_of_rows_or_of_offered_actions() -> None:
    table = sound_log()
    shuffled = table.take(pa.array(np.random.default_rng(0).permutation(600)))
    turned = table.set_column(
        table.column_names.index("offered"), "offered", [[list(reversed(o)) for o in table["offered"].to_pylist()]]
    )
    turned = turned.set_column(
        table.column_names.index("probabilities"), "probabilities",
        [[list(reversed(p)) for p in table["probabilities"].to_pylist()]],
    )  # fmt: skip
    wanted = ("snips", "ips", "dr")
    config = OpeConfig(estimators=wanted, folds=2)
    first: list[float] = []
    for one in (table, shuffled, turned):
        log = decision_log(one)
        valued = evaluate(log, uniform(log), config, model=GivenRewards(np.full(len(log.offered.values), 0.2)))
        found = [end for e in valued.estimates for end in (e.estimate, e.low, e.high) if end is not None]
        first = first or found
        assert np.allclose(found, first, atol=1e-12)


@settings(max_examples=12)
@given(st.floats(0.01, 50), st.floats(-20, 20))
def test_intervals_move_and_stretch_with_the_reward(scale: float, shift: float) -> None:
    table = sound_log(n=400)
    amounts = np.random.default_rng(2).gamma(2.0, 1.0, 400)
    made = []
    for reward in (amounts, scale * amounts + shift):
        log = decision_log(sound_log(n=400, reward=reward))
        valued = evaluate(log, uniform(log), OpeConfig(estimators=("snips", "sndr")))
        made.append(np.array([[e.estimate, e.low, e.high] for e in valued.estimates], float))
    assert table.num_rows == 400
    assert np.allclose(made[1], scale * made[0] + shift, rtol=1e-6, atol=1e-6 * max(scale, abs(shift), 1))


def test_best_of_takes_the_highest_score_and_the_first_of_equals() -> None:
    log = decision_log(sound_log(n=4))
    scores = np.array([1, 3, 2, 0, 5, 5, 0, 0, 0, 0, 0, 0, -4, -3, -2, -1], float)
    chosen = best_of(log, "score", scores).probabilities.reshape(4, 4).argmax(1)
    assert chosen.tolist() == [1, 0, 0, 3]


# ------------------------------------------------------------------------------------------------- reward models


def test_shrunken_means_of_a_case_a_child_can_check() -> None:
    total, n = np.array([[4.0, 0.0]]), np.array([[10.0, 0.0]])
    # All 10 earn .4; the action: (4 + 10 x .4) / 20 = .4; an action never seen stays at the log's .4.
    assert shrunken_means(total, n, strength=10.0).tolist() == [[0.4, 0.4]]
    total, n = np.array([[8.0, 2.0]]), np.array([[10.0, 10.0]])
    action = (8 + 10 * 0.5) / 20
    assert shrunken_means(total, n, 10.0)[0, 0] == pytest.approx((8 + 10 * action) / 20)


def test_ridge_is_scikit_learns() -> None:
    from sklearn.linear_model import Ridge

    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(80, 5)), rng.normal(size=80)
    theirs = Ridge(alpha=2.0).fit(x, y)
    assert np.allclose(ridge(x, y, 2.0), [*theirs.coef_, theirs.intercept_], atol=1e-9)


@pytest.mark.parametrize("model", [TabularRewards(), RidgeRewards()])
def test_a_row_never_judges_itself(model: TabularRewards | RidgeRewards) -> None:
    table = sound_log(n=200)
    log = decision_log(table)
    before = cross_fitted(log, model, 5, seed=0).reshape(200, 4)
    reward = np.array(log.reward)
    reward[17] = 1.0 - reward[17]
    changed = decision_log(sound_log(n=200, reward=reward))
    after = cross_fitted(changed, model, 5, seed=0).reshape(200, 4)
    assert np.array_equal(before[17], after[17])
    assert not np.array_equal(before, after)


def test_models_learn_what_there_is_to_learn() -> None:
    log = decision_log(sound_log(n=6_000))
    for model in (TabularRewards(), RidgeRewards()):
        q = cross_fitted(log, model, 5, 0).reshape(-1, 4).mean(0)
        assert np.allclose(q, [0.1, 0.2, 0.3, 0.4], atol=0.05), model.name


# -------------------------------------------------------------------------------------------------------- tuning


@pytest.mark.parametrize("name", ["dros", "switch"])
def test_tuning_by_design_sees_no_reward(name: str) -> None:
    log = decision_log(sound_log())
    other = decision_log(sound_log(reward=np.random.default_rng(9).random(600)))
    target = target_of(log)
    w = target.probabilities[log.place] / log.propensity
    first, second = design_tuned(name, log, target, w), design_tuned(name, other, target, w)
    assert first.parameter == second.parameter
    assert first.lost >= 0
    assert (first.weights <= w + 1e-12).all()


def test_slope_shrinks_more_where_noise_rules() -> None:
    log = decision_log(sound_log(n=3_000))
    target = target_of(log)
    w = target.probabilities[log.place] / log.propensity
    q = np.full(len(log), log.reward.mean())
    noise = slope_tuned("dros", log, target, w, q, q)
    assert noise.lost >= 0
    # A model that is far off: shrinking towards it would show at once.
    far = slope_tuned("dros", log, target, w, q + 5.0, q + 5.0)
    assert far.lost <= noise.lost
