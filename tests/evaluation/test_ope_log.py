"""A log that cannot be used is refused with the reason, and never answered with a silent number."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from honeyguide.errors import DataError, HoneyguideError
from honeyguide.evaluation.replay.estimators import OpeConfig, evaluate
from honeyguide.evaluation.replay.log import decision_log
from honeyguide.evaluation.replay.policy import PolicyTable, Target, context_rows, tabled, uniform
from honeyguide.schema import columns as c

ACTIONS = ("a", "b", "c")


def rows(n: int = 400, seed: int = 0) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    p = [0.5, 0.3, 0.2]
    return [
        {
            c.REQUEST_ID: f"r{row}", c.CHOSEN: ACTIONS[a], c.PROPENSITY: p[a], c.REWARD: float(rng.random() < 0.3),
            c.OFFERED: list(ACTIONS), c.PROBABILITIES: list(p), c.POLICY_VERSION: "v1", c.CONTEXT: '{"device":"tv"}',
        }
        for row, a in enumerate(rng.choice(3, size=n, p=p))
    ]  # fmt: skip


def table(made: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist([{str(key): value for key, value in row.items()} for row in made])


def changed(**cells: Any) -> pa.Table:
    made = rows()
    made[7] |= cells
    return table(made)


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ({c.PROPENSITY: 0.0}, "above 0 and at most 1"),
        ({c.PROPENSITY: 1.2}, "above 0 and at most 1"),
        ({c.PROPENSITY: math.nan}, "above 0 and at most 1"),
        ({c.PROPENSITY: None}, "above 0 and at most 1"),
        ({c.REWARD: None}, "finite reward"),
        ({c.REWARD: math.nan}, "finite reward"),
        ({c.REWARD: math.inf}, "finite reward"),
        ({c.CHOSEN: None}, "chosen action"),
        ({c.CHOSEN: "stranger"}, "among the offered"),
        ({c.OFFERED: ["a", "a", "b"]}, "offered once"),
        ({c.OFFERED: []}, "offered actions in every row"),
        ({c.PROBABILITIES: [0.5, 0.5]}, "as many probabilities"),
        ({c.PROBABILITIES: [0.5, 0.3, 0.1]}, "sum to 1"),
        ({c.PROBABILITIES: [0.9, 0.3, -0.2]}, "from 0 to 1"),
        ({c.PROBABILITIES: [0.2, 0.2, 0.6]}, "to be its probability"),
        ({c.REQUEST_ID: "r8"}, "one row per request and slot"),
        ({c.REQUEST_ID: None}, "request id"),
        ({c.POLICY_VERSION: "v2"}, "one logging policy"),
    ],
)
def test_one_bad_row_refuses_the_log_and_is_named(cells: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError) as refused:
        decision_log(changed(**cells))
    assert said in str(refused.value)
    assert refused.value.do


def test_what_is_missing_is_named() -> None:
    for column in (c.CHOSEN, c.PROPENSITY, c.REWARD):
        with pytest.raises(DataError, match=f"--map {column}=THEIRS"):
            decision_log(table(rows()).drop_columns([str(column)]))
    with pytest.raises(DataError, match="at least two decisions"):
        decision_log(table(rows(1)))
    with pytest.raises(DataError, match="numbers in `reward`"):
        decision_log(table([row | {c.REWARD: "much"} for row in rows(5)]))
    one_request = [row | {c.REQUEST_ID: "r", c.POSITION: n} for n, row in enumerate(rows(5))]
    with pytest.raises(DataError, match="at least two requests"):
        decision_log(table(one_request))
    with pytest.raises(DataError, match="of the catalog"):
        decision_log(table(rows()), catalog=["a", "b"])


def test_a_policy_version_is_chosen_by_name() -> None:
    made = rows(300) + [row | {c.POLICY_VERSION: "v2", c.REQUEST_ID: f"s{n}"} for n, row in enumerate(rows(200, 1))]
    assert len(decision_log(table(made), logged_by="v2")) == 200
    with pytest.raises(DataError, match="one of the log's policies: v1, v2"):
        decision_log(table(made), logged_by="v3")


def test_missing_rewards_are_worth_what_was_said() -> None:
    log = decision_log(changed(**{c.REWARD: None}), missing_reward=0.0)
    assert log.reward[7] == 0.0
    assert any("1 missing reward" in note for note in log.notes)


def test_constant_rewards_need_a_range() -> None:
    made = table([row | {c.REWARD: 0.0} for row in rows()])
    log = decision_log(made)
    with pytest.raises(DataError, match="rewards that differ"):
        evaluate(log, uniform(log))
    told = evaluate(log, uniform(log), OpeConfig(reward_range=(0.0, 1.0), estimators=("snips",)))
    one = told.estimates[0]
    assert one.estimate == 0.0
    assert one.low == 0.0
    assert one.high is not None
    assert 0.0 < one.high < 0.05
    other = decision_log(table(rows()))
    with pytest.raises(DataError, match="rewards between 0 and"):
        evaluate(other, uniform(other), OpeConfig(reward_range=(0.0, 0.5)))


# -------------------------------------------------------------------------------------------------- the verdict


def test_mass_where_the_log_had_none_is_not_identifiable_and_says_how_much() -> None:
    made = [row | {c.OFFERED: ["a", "b", "c", "d"], c.PROBABILITIES: [0.5, 0.3, 0.2, 0.0]} for row in rows(2_000)]
    log = decision_log(table(made))
    valued = evaluate(log, uniform(log))
    assert valued.verdict.name == "NOT IDENTIFIABLE"
    assert "25.0%" in valued.verdict.reasons[0]
    assert "d 25.0%" in valued.verdict.reasons[0]
    assert all(one.estimate is None and one.low is None for one in valued.estimates)
    assert "small chance" in valued.verdict.advice[0]
    assert valued.bounds is not None
    low, high = valued.bounds
    assert low < 0.75 * 0.3 < 0.75 * 0.3 + 0.25 < high + 0.05
    assert high - low > 0.25


def test_an_empty_overlap_has_no_number() -> None:
    made = [row | {c.OFFERED: ["a", "b", "c", "d"], c.PROBABILITIES: [0.5, 0.3, 0.2, 0.0]} for row in rows()]
    log = decision_log(table(made))
    only = np.tile([0.0, 0.0, 0.0, 1.0], len(log))
    valued = evaluate(log, Target("d", only, np.zeros(len(log))))
    assert valued.verdict.name == "NOT IDENTIFIABLE"
    assert valued.overlap.ess == 0.0
    assert valued.bounds is None


def test_the_verdict_does_not_look_at_rewards() -> None:
    first = decision_log(table(rows(120)))
    other = decision_log(table([row | {c.REWARD: float(n % 7 == 0)} for n, row in enumerate(rows(120))]))
    for log in (first, other):
        far = np.tile([0.02, 0.02, 0.96], len(log))
        verdict = evaluate(log, Target("far", far, np.zeros(len(log)))).verdict
        assert verdict.name == "NOT IDENTIFIABLE"
        assert "under 100" in verdict.reasons[0]


# ----------------------------------------------------------------------------------------------------- policies


def test_tables_by_context_and_for_all_and_with_strangers() -> None:
    log = decision_log(table(rows()))
    every = PolicyTable(["", "", ""], list(ACTIONS), np.array([0.2, 0.3, 0.5]))
    target = tabled(log, "t", every, np.zeros(len(log), np.int64), [""], renormalise=False)
    assert np.allclose(target.probabilities.reshape(-1, 3), [0.2, 0.3, 0.5])
    of, keys = context_rows(log, "device")
    by_device = PolicyTable(["tv", "tv"], ["a", "new"], np.array([0.4, 0.6]))
    target = tabled(log, "t", by_device, of, keys, renormalise=False)
    assert np.allclose(target.elsewhere, 0.6)
    assert "new" in target.notes[0]
    spread = tabled(log, "t", by_device, of, keys, renormalise=True)
    assert np.allclose(spread.probabilities.reshape(-1, 3), [1, 0, 0])
    with pytest.raises(DataError, match="key `shape`"):
        context_rows(log, "shape")


@pytest.mark.parametrize(
    ("actions", "probabilities", "said"),
    [
        (["a", "b"], [0.5, 0.4], "sum to 1"),
        (["a", "b"], [1.5, -0.5], "between 0 and 1"),
        (["a", "b"], [math.nan, 1.0], "between 0 and 1"),
        (["a", "a"], [0.5, 0.5], "each action once"),
        ([], [], "sum to 1"),
    ],
)
def test_tables_that_are_no_policy_are_refused(actions: list[str], probabilities: list[float], said: str) -> None:
    log = decision_log(table(rows(50)))
    made = PolicyTable([""] * len(actions), actions, np.array(probabilities, float))
    with pytest.raises(DataError, match=said):
        tabled(log, "t", made, np.zeros(50, np.int64), [""], renormalise=False)


# ---------------------------------------------------------------------------------------------------------- fuzz

CELLS = {
    c.PROPENSITY: st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True), st.floats(0.001, 1)),
    c.REWARD: st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True), st.sampled_from([0.0, 1.0])),
    c.CHOSEN: st.one_of(st.none(), st.text(max_size=3), st.sampled_from(ACTIONS)),
    c.OFFERED: st.one_of(st.none(), st.lists(st.sampled_from([*ACTIONS, "d", ""]), max_size=4)),
    c.PROBABILITIES: st.one_of(st.none(), st.lists(st.floats(-0.2, 1.2), max_size=4)),
    c.REQUEST_ID: st.one_of(st.none(), st.text(max_size=2)),
    c.POLICY_VERSION: st.one_of(st.none(), st.sampled_from(["v1", "v2"])),
    c.CONTEXT: st.one_of(st.none(), st.text(max_size=5), st.just('{"device":null}'), st.just("[1]")),
    c.POSITION: st.one_of(st.none(), st.integers(-3, 5)),
    c.USER_ID: st.one_of(st.none(), st.text(max_size=1)),
}


@settings(max_examples=150)
@given(st.data())
def test_whatever_the_log_holds_it_is_answered_or_refused(data: st.DataObject) -> None:
    made = rows(data.draw(st.integers(1, 40)))
    for _ in range(data.draw(st.integers(1, 4))):
        column = data.draw(st.sampled_from(sorted(CELLS)))
        every = data.draw(st.booleans())
        for row in made if every else [data.draw(st.sampled_from(made))]:
            row[column] = data.draw(CELLS[column]) if not every else row.get(column)
        if every:
            dropped = data.draw(st.booleans())
            for row in made:
                row.pop(column, None) if dropped else None
    config = OpeConfig(ess_least=2, n3_least=1, unsupported_most=1.0, wrong_below=0.0, reward_range=None)
    try:
        log = decision_log(table(made))
        valued = evaluate(log, uniform(log), config)
    except HoneyguideError:
        return
    for one in valued.estimates:
        for value in (one.estimate, one.low, one.high):
            assert value is None or math.isfinite(value), one
        if one.low is not None and one.high is not None:
            assert one.low <= one.high
