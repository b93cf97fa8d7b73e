"""Estimators of lists: plain loops, exact expectations over every list, and when they may not answer."""

from __future__ import annotations

from itertools import product

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from honeyguide.evaluation.replay.log import DecisionLog, decision_log
from honeyguide.evaluation.replay.policy import Target, logging, uniform
from honeyguide.evaluation.replay.slates import SlateConfig, evaluate_slates
from honeyguide.kernels.ope_slates import (
    cascade_weights,
    item_weights,
    list_weights,
    pseudo_inverse,
    pseudo_inverse_weights,
    slate_interval,
    slate_value,
)
from honeyguide.schema import columns as c

ALL = {"sips": list_weights, "iips": item_weights, "rips": cascade_weights}


@given(st.integers(0, 5_000), st.booleans())
def test_values_are_their_formulas_in_plain_loops(seed: int, normalised: bool) -> None:
    rng = np.random.default_rng(seed)
    n, slots = 12, 3
    w, r = rng.exponential(size=(n, slots)), rng.random((n, slots))
    length = rng.integers(1, slots + 1, n)
    shown = np.arange(slots) < length[:, None]
    w, r = np.where(shown, w, 1.0), np.where(shown, r, 0.0)
    for name, weights in ALL.items():
        total = [0.0] * slots
        below = [0.0] * slots
        for i in range(n):
            product_ = 1.0
            for k in range(length[i]):
                product_ *= w[i, k]
                whole = float(np.prod(w[i, : length[i]]))
                weight = {"sips": whole, "iips": w[i, k], "rips": product_}[name]
                total[k] += weight * r[i, k]
                below[k] += weight
        present = [int((length > k).sum()) for k in range(slots)]
        if normalised:
            value = sum(t / b * m / n for t, b, m in zip(total, below, present, strict=True) if b > 0)
        else:
            value = sum(total) / n
        found = slate_value(weights(w), r, np.zeros(n), shown, normalised=normalised)
        assert found == pytest.approx(value, abs=1e-9)
        interval = slate_interval(
            weights(w), r, np.zeros(n), shown, np.ones(slots), np.ones(slots), np.zeros(slots), normalised=normalised
        )
        if not normalised:
            present_share = np.array(present) / n
            value = float((np.array(total) / np.maximum(present, 1) * present_share).sum())
        assert interval.estimate == pytest.approx(value, abs=1e-9)
        assert interval.low < interval.high


def lists_of(items: int, slots: int) -> list[tuple[int, ...]]:
    return list(product(range(items), repeat=slots))


def expectations(reading: str) -> tuple[float, dict[str, float]]:
    """The truth and the expectation of each estimator on one request, over every list."""
    rng = np.random.default_rng(8)
    items, slots = 3, 3
    p0, p1 = rng.dirichlet(np.ones(items), slots), rng.dirichlet(np.ones(items), slots)
    own, pair = rng.random((slots, items)), rng.random((items, items))
    q = rng.random((slots, items))

    def reward(shown: tuple[int, ...]) -> np.ndarray:
        if reading == "additive":
            return np.array([own[k, a] for k, a in enumerate(shown)])
        above = [1.0] + [pair[shown[k - 1], shown[k]] for k in range(1, slots)]
        if reading == "cascade":
            return np.array([own[k, a] * above[k] for k, a in enumerate(shown)])
        below = [pair[shown[k], shown[k + 1]] for k in range(slots - 1)] + [1.0]
        return np.array([own[k, a] * above[k] * below[k] for k, a in enumerate(shown)])

    names = ("sips", "rips", "iips", "pi", "cascade-dr")
    truth, expected = 0.0, dict.fromkeys(names, 0.0)
    second = np.zeros((slots * items, slots * items))
    goal = p1.ravel()
    general = 0.0
    indicators, chances, totals = [], [], []
    for shown in lists_of(items, slots):
        chance = float(np.prod([p0[k, a] for k, a in enumerate(shown)]))
        r = reward(shown)
        truth += float(np.prod([p1[k, a] for k, a in enumerate(shown)])) * r.sum()
        w = np.array([[p1[k, a] / p0[k, a] for k, a in enumerate(shown)]])
        full, none = np.ones((1, slots), np.bool_), np.zeros(1)
        for name, weights in ALL.items():
            expected[name] += chance * float(slate_value(weights(w), r[None], none, full, normalised=False))
        expected["pi"] += chance * float(
            slate_value(pseudo_inverse_weights(w, full), r[None], none, full, normalised=False)
        )
        chain = cascade_weights(w)
        above = np.concatenate([[1.0], chain[0, :-1]])
        model = float((above * (p1 * q).sum(1)).sum())
        residual = r - np.array([q[k, a] for k, a in enumerate(shown)])
        made = slate_value(chain, residual[None], np.array([model]), full, normalised=False)
        expected["cascade-dr"] += chance * float(made)
        one = np.zeros(slots * items)
        one[[k * items + a for k, a in enumerate(shown)]] = 1.0
        second += chance * np.outer(one, one)
        indicators.append(one)
        chances.append(chance)
        totals.append(r.sum())
    weights_general = pseudo_inverse(second, goal, np.array(indicators))
    general = float((np.array(chances) * weights_general * np.array(totals)).sum())
    factored = [
        float(pseudo_inverse_weights(
            np.array([[p1[k, a] / p0[k, a] for k, a in enumerate(shown)]]), np.ones((1, slots), np.bool_)
        )[0, 0])
        for shown in lists_of(items, slots)
    ]  # fmt: skip
    assert np.allclose(weights_general, factored, atol=1e-9)
    assert general == pytest.approx(expected["pi"], abs=1e-9)
    return truth, expected


@pytest.mark.parametrize(
    ("reading", "right", "wrong"),
    [
        ("additive", {"sips", "rips", "iips", "pi", "cascade-dr"}, set()),
        ("cascade", {"sips", "rips", "cascade-dr"}, {"iips"}),
        ("both ways", {"sips"}, {"iips", "rips"}),
    ],
)
def test_each_is_unbiased_exactly_where_its_assumption_holds(reading: str, right: set[str], wrong: set[str]) -> None:
    truth, expected = expectations(reading)
    for name in right:
        assert expected[name] == pytest.approx(truth, abs=1e-9), name
    for name in wrong:
        assert abs(expected[name] - truth) > 1e-3, name


# ----------------------------------------------------------------------------------------------------- on tables


def list_log(n: int = 800, *, full: bool = True, seed: int = 0) -> pa.Table:
    """Three slots filled independently of each other from five items; clicks as people read from the top."""
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.full(5, 4.0), 3) * 0.7 + 0.06
    rows = []
    for request in range(n):
        done = False
        for slot in range(3):
            a = int(rng.choice(5, p=p[slot]))
            clicked = not done and rng.random() < 0.1 + 0.05 * a
            done |= clicked
            rows.append({
                c.REQUEST_ID: f"r{request}", c.POSITION: slot + 1, c.CHOSEN: f"i{a}", c.PROPENSITY: float(p[slot, a]),
                c.REWARD: float(clicked), c.OFFERED: [f"i{j}" for j in range(5)],
                c.PROBABILITIES: p[slot].tolist() if full else None,
            })  # fmt: skip
    return pa.Table.from_pylist([{str(k): v for k, v in row.items()} for row in rows])


def test_the_logging_policy_is_worth_the_mean_of_its_lists() -> None:
    log = decision_log(list_log())
    assert log.is_slates
    valued = evaluate_slates(log, logging(log))
    mean = float(log.reward.sum() / 800)
    for one in valued.estimates:
        if one.estimator != "cascade-dr":
            assert one.estimate == pytest.approx(mean, abs=1e-9), one.estimator
        assert one.low is not None
        assert one.high is not None
        assert one.low < mean < one.high
    assert valued.verdict.name == "IDENTIFIABLE"
    assert valued.extras["lists"] == 800


def test_lists_without_marginal_propensities_have_no_iips_and_no_pi() -> None:
    log = decision_log(list_log(full=False))
    target = uniform(log)
    by_name = {one.estimator: one for one in evaluate_slates(log, target).estimates}
    assert by_name["rips"].estimate is not None
    for name in ("iips", "pi"):
        assert by_name[name].estimate is None
        assert "given the slots above" in by_name[name].says
    told = evaluate_slates(log, target, SlateConfig(independent_slots=True))
    assert all(one.estimate is not None for one in told.estimates)
    assert told.verdict.name == "UNVERIFIED"


def test_a_target_far_away_is_refused_by_the_whole_list_first() -> None:
    log = decision_log(list_log(n=300))
    far = np.tile([0.96, 0.01, 0.01, 0.01, 0.01], len(log))
    valued = evaluate_slates(log, Target("far", far, np.zeros(len(log))), SlateConfig(n3_least=1))
    answers = {one.estimator: one.estimate is not None for one in valued.estimates}
    ess = valued.extras["ess"]
    assert ess["sips"] < ess["rips"] < ess["iips"]
    assert not answers["sips"]


def test_order_of_rows_and_of_slots_in_the_file_changes_nothing() -> None:
    table = list_log(n=200)
    shuffled = table.take(pa.array(np.random.default_rng(1).permutation(table.num_rows)))

    def values(log: DecisionLog) -> list[float]:
        config = SlateConfig(ess_least=2, n3_least=1, estimators=("rips", "sips", "iips", "pi"))
        return [end for e in evaluate_slates(log, uniform(log), config).estimates for end in (e.estimate, e.low, e.high) if end is not None]  # fmt: skip # noqa: E501

    assert np.allclose(values(decision_log(table)), values(decision_log(shuffled)), atol=1e-9)
