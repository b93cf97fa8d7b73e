"""A utility as a formula: what it may say, what it is worth, and how it stands beside weights, prices and fatigue."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from honeyguide.contracts import CatalogView, Ragged
from honeyguide.errors import ConfigError, DataError
from honeyguide.kernels.pareto import not_dominated, weights_to_try
from honeyguide.schema.vocabulary import Vocabulary
from honeyguide.slate.compose import Composer, SlateConfig
from honeyguide.slate.formula import Formula
from honeyguide.slate.groups import GroupConfig
from honeyguide.slate.moment import Moment
from honeyguide.slate.utility import Price, UtilityConfig, UtilityWeights

HEADS = {"purchase": True, "hide": True, "watch": False}
DAY_US = 86_400_000_000


def shop(n: int = 6) -> CatalogView:
    margin = [0.5, 0.1, None, 0.3, 0.9, 0.2][:n]
    texts = [
        None if m is None else f'{{"margin": {m}, "seller": "{"new" if i % 2 else "old"}"}}'
        for i, m in enumerate(margin)
    ]
    return CatalogView(
        Vocabulary(f"i{row}" for row in range(n)), [""] * n, [""] * n, Ragged.empty(n), [], Ragged.empty(n), [],
        np.full(n, -1, np.int32), [], np.arange(n, dtype=np.float32) + 2000, np.arange(n, dtype=np.float32),
        np.ones(n, np.bool_), np.arange(n, dtype=np.int64) * DAY_US, attributes=pa.chunked_array([texts]),
    )  # fmt: skip


def composed(policy: dict, scores: np.ndarray, moment: Moment | None = None, prices: tuple[Price, ...] = ()):
    n = len(scores)
    composer = Composer(SlateConfig.model_validate(policy), HEADS, shop(n), prices=prices)
    return composer.compose(
        np.arange(n, dtype=np.int32), scores=scores, blend=np.zeros(n), k=n, request_id="x", moment=moment or Moment()
    )


NAMES = st.sampled_from(["a", "b", "item.x", "item.y"])
TREES = st.recursive(
    NAMES | st.floats(0, 9).map(lambda x: f"{x:.3g}"),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from("+-*/"), inner).map(lambda t: f"({t[0]} {t[1]} {t[2]})"),
        st.tuples(st.sampled_from(["min", "max"]), inner, inner).map(lambda t: f"{t[0]}({t[1]}, {t[2]})"),
        inner.map(lambda text: f"(-{text})"),
    ),
    max_leaves=8,
)


@given(TREES, st.lists(st.tuples(*[st.floats(-5, 5)] * 4), min_size=1, max_size=4))
@settings(max_examples=150, deadline=None)
def test_a_formula_means_what_python_says(text: str, rows: list[tuple[float, ...]]) -> None:
    try:
        formula = Formula.parse(text)
    except ConfigError:
        return  # a division by a constant zero, which the next test asks about
    table = np.array(rows)
    found = formula.value({"a": table[:, 0], "b": table[:, 1]}, {"x": table[:, 2], "y": table[:, 3]}, len(rows))

    class Item:
        def __init__(self, x: float, y: float) -> None:
            self.x, self.y = x, y

    for (a, b, x, y), value in zip(rows, found, strict=True):
        try:
            expected = float(eval(text, {"min": min, "max": max}, {"a": a, "b": b, "item": Item(x, y)}))
        except ZeroDivisionError:
            assert math.isnan(value)
            continue
        if math.isfinite(expected) and math.isfinite(value):
            assert value == pytest.approx(expected, rel=1e-9, abs=1e-9)


@given(TREES)
@settings(max_examples=80, deadline=None)
def test_what_is_left_of_a_formula_says_the_same_again(text: str) -> None:
    try:
        formula = Formula.parse(f"{text} + b - a * 2 + item.x")
    except ConfigError:
        return
    left = formula.without({"b"})
    assert left is not None
    assert "b" not in left.heads
    again = Formula.parse(left.text)
    told = {"a": np.array([0.3, 2.0])}, {"x": np.array([1.5, -1.0]), "y": np.array([0.7, 0.0])}
    assert again.value(*told, 2) == pytest.approx(left.value(*told, 2), rel=1e-4, abs=1e-4, nan_ok=True)


@pytest.mark.parametrize(
    "text",
    ["", "a +", "a ** 2", "a if b else c", "__import__('os')", "a.b", "item.x.y", "f(a)", "min(a)", "max(a, key=b)",
     "a / 0", "a / (1 - 1)", "1e999", "True", "'a'", "[a]", "a < b", "a; b", "lambda: a",
     "+".join(["a"] * 1500)],
)  # fmt: skip
def test_whatever_else_it_says_is_refused_in_a_sentence(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Formula.parse(text)
    assert len(str(caught.value)) < 500


def test_a_formula_over_heads_prices_and_margins() -> None:
    scores = np.array([[0.5, 0.1, 0.0], [0.4, 0.0, 0.0], [0.9, 0.0, 0.0], [0.2, 0.3, 0.0]])
    slate = composed({"utility": {"formula": "3 * purchase * item.margin - 2 * hide + item.price / 10"}}, scores)
    expected = [3 * 0.5 * 0.5 - 0.2, 3 * 0.4 * 0.1 + 0.1, math.nan, 3 * 0.2 * 0.3 - 0.6 + 0.3]
    assert slate.utilities == pytest.approx(expected, nan_ok=True)
    assert slate.rows.tolist() == [0, 1, 3, 2]  # the margin of item 2 is not known: it sinks


def test_a_formula_adds_to_weights_and_ranks() -> None:
    scores = np.array([[0.5, 0.1, 3.0], [0.4, 0.0, 5.0]])
    both = composed(
        {"utility": {"formula": "purchase", "weights": {"hide": -1.0}, "rank_weights": {"watch": 0.5}}}, scores
    )
    assert both.utilities == pytest.approx([0.5 - 0.1 + 0.5 * 60 / 61, 0.4 + 0.5])


def test_what_the_formula_names_must_be_there_and_calibrated() -> None:
    with pytest.raises(ConfigError, match="'clik' in the formula"):
        UtilityWeights.of(UtilityConfig(formula="clik * 2"), HEADS)
    with pytest.raises(ConfigError, match="only ranks"):
        UtilityWeights.of(UtilityConfig(formula="watch + purchase"), HEADS)
    with pytest.raises(ConfigError, match=r"price, year, margin.*item\.marge|item\.marge"):
        composed({"utility": {"formula": "purchase * item.marge"}}, np.zeros((3, 3)))
    with pytest.raises(DataError, match="outside"):
        composed({"utility": {"formula": "purchase"}}, np.array([[1.5, 0, 0]]))


def test_heads_that_are_off_take_their_terms_with_them() -> None:
    utility = UtilityConfig(formula="3 * purchase * item.margin + 0.2 * hide", rank_weights={"watch": 1.0})
    left = utility.without({"hide", "watch"})
    assert left.formula == "3 * purchase * item.margin"
    assert left.blend_weight == 1.0
    assert left.rank_weights == {}
    assert utility.without({"purchase", "hide"}).formula == ""


def test_prices_of_guardrails_are_terms_of_the_utility() -> None:
    scores = np.array([[0.5, 0.1, 0.0], [0.4, 0.2, 0.0], [0.3, 0.0, 0.0], [0.2, 0.5, 0.0]])
    new = GroupConfig(column="seller", values=("new",))
    prices = (Price("new sellers", 0.25, group=new), Price("hides", -0.5, head="hide"))
    slate = composed({"utility": {"weights": {"purchase": 1.0}}}, scores, prices=prices)
    assert slate.utilities == pytest.approx([0.45, 0.4 + 0.25 - 0.1, 0.3, 0.2 + 0.25 - 0.25])


def test_a_group_by_age_moves_with_the_moment() -> None:
    price = (Price("fresh", 1.0, group=GroupConfig(newer_than_days=2)),)
    policy = {"utility": {"weights": {"purchase": 1.0}}}
    slate = composed(policy, np.zeros((6, 3)), Moment(now_us=5 * DAY_US), price)
    assert slate.utilities.tolist() == [0, 0, 0, 0, 1, 1]
    assert composed(policy, np.zeros((6, 3)), Moment(now_us=7 * DAY_US), price).utilities.tolist() == [0] * 6


def test_what_was_shown_in_vain_fades_and_what_was_shown_too_often_goes() -> None:
    moment = Moment(
        shown=np.array([0, 3], np.int32), times=np.array([2, 1], np.int32), too_often=np.array([1], np.int32)
    )
    scores = np.array([[0.8, 0, 0], [0.9, 0, 0], [0.5, 0, 0], [0.0, 0.4, 0]])
    policy = {"utility": {"weights": {"purchase": 1.0, "hide": -1.0}, "fatigue": {"keep": 0.5}}}
    slate = composed(policy, scores, moment)
    assert slate.utilities == pytest.approx([0.2, math.nan, 0.5, -0.8], nan_ok=True)  # below 0 it falls as well
    assert slate.dropped == {"frequency_cap": 1}
    assert slate.rows.tolist() == [2, 0, 3]
    assert composed({"utility": {"weights": {"purchase": 1.0}}}, scores, moment).rows.tolist() == [0, 2, 3]


def test_a_pin_shown_too_often_is_refused() -> None:
    policy = {"rules": {"pins": [{"item_id": "i1", "position": 1}]}}
    slate = composed(policy, np.zeros((4, 3)), Moment(too_often=np.array([1], np.int32)))
    assert slate.refused_pins == {"i1": "frequency_cap"}


@given(st.integers(1, 5), st.integers(6, 60))
@settings(max_examples=40, deadline=None)
def test_weights_to_try_cover_the_simplex(objectives: int, most: int) -> None:
    found = weights_to_try(objectives, most)
    assert found.sum(axis=1) == pytest.approx(np.ones(len(found)))
    assert (found >= 0).all()
    assert (found[:objectives] == np.eye(objectives)).all()
    assert len(found) <= max(most, objectives) + objectives


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=12))
def test_no_point_of_the_front_is_beaten(points: list[tuple[int, int]]) -> None:
    values = np.array(points, float)
    kept = not_dominated(values)
    for i, one in enumerate(points):
        beaten = any(a >= one[0] and b >= one[1] and (a, b) != one for a, b in points)
        assert kept[i] == (not beaten and points.index(one) == i)
