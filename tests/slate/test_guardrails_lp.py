"""Guardrails: the decomposed programme against the whole one, its certificate, and what cannot be met."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from honeyguide.kernels.exposure import discounts, shown_under, solve_exposure
from honeyguide.slate.guardrails import GuardrailConfig, GuardrailsConfig


def instance(seed: int, requests: int = 6, candidates: int = 5, guardrails: int = 2):
    rng = np.random.default_rng(seed)
    utility = rng.random((requests, candidates))
    if seed % 3 == 0:
        utility[rng.random(utility.shape) < 0.15] = np.nan  # removed by a rule
        utility[:, 0] = np.where(np.isnan(utility[:, 0]), 0.5, utility[:, 0])
    amounts = np.stack(
        [
            (rng.random(utility.shape) < 0.4).astype(float) if g % 2 == 0 else rng.random(utility.shape) * 0.3
            for g in range(guardrails)
        ]
    )
    senses = np.array([1.0 if g % 2 == 0 else -1.0 for g in range(guardrails)])
    return utility, amounts, senses


def whole(utility, amounts, bounds, senses, discount, elastic=False):
    """Every request, candidate and slot is a variable: what is shown there, and how often."""
    n, m = utility.shape
    k = min(len(discount), m)
    fill = [min(k, int((~np.isnan(row)).sum())) for row in utility]
    index = {
        (r, i, s): at
        for at, (r, i, s) in enumerate(
            (r, i, s) for r in range(n) for i in range(m) if not np.isnan(utility[r, i]) for s in range(fill[r])
        )
    }
    total = sum(discount[:f].sum() for f in fill)
    value = np.zeros(len(index))
    keep = np.zeros((len(bounds), len(index)))
    for (r, i, s), at in index.items():
        value[at] = discount[s] * utility[r, i] / total
        keep[:, at] = senses * (amounts[:, r, i] - bounds) * discount[s] / total
    slots = sorted({(r, s) for r, _, s in index})
    items = sorted({(r, i) for r, i, _ in index})
    each = np.zeros((len(slots), len(index)))
    once = np.zeros((len(items), len(index)))
    for (r, i, s), at in index.items():
        each[slots.index((r, s)), at] = 1
        once[items.index((r, i)), at] = 1
    if elastic:
        scale = np.maximum(np.abs(bounds), 1e-3)
        g = len(bounds)
        found = linprog(
            np.concatenate([np.zeros(len(index)), 1 / scale]),
            A_ub=np.block([[-keep, -np.eye(g)], [once, np.zeros((len(items), g))]]),
            b_ub=np.concatenate([np.zeros(g), np.ones(len(items))]),
            A_eq=np.hstack([each, np.zeros((len(slots), g))]), b_eq=np.ones(len(slots)),
        )  # fmt: skip
        return found.fun
    found = linprog(
        -value, A_ub=np.vstack([-keep, once]), b_ub=np.concatenate([np.zeros(len(bounds)), np.ones(len(items))]),
        A_eq=each, b_eq=np.ones(len(slots)),
    )  # fmt: skip
    return -found.fun if found.status == 0 else None


@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.3, 0.8]), st.sampled_from(["log", "none"]))
@settings(max_examples=60, deadline=None)
def test_the_whole_programme_has_the_same_optimum(seed: int, tightness: float, kind: str) -> None:
    utility, amounts, senses = instance(seed)
    discount = discounts(3, kind)
    free = shown_under(utility, utility, amounts, discount)
    far = np.array([
        (s * shown_under(np.where(np.isnan(utility), np.nan, s * a), utility, (s * a)[None], discount).amounts.sum())
        for s, a in zip(senses, amounts, strict=True)
    ]) / free.exposure.sum()  # fmt: skip
    now = free.amounts.sum(1) / free.exposure.sum()
    bounds = now + tightness * (far - now)
    exact = whole(utility, amounts, bounds, senses, discount)
    found = solve_exposure(utility, amounts, bounds, senses, discount, tolerance=1e-7)
    if exact is None:
        assert found.shortfall.sum() > 0
        return
    assert found.gap <= 1e-6
    assert found.value == pytest.approx(exact, abs=2e-6)
    assert found.bound >= exact - 1e-9  # the certificate
    assert not found.conflict.any()
    assert (senses * (found.reached - bounds) >= -1e-6).all()
    assert found.free >= found.value - 1e-9


def test_the_price_is_what_a_tighter_bound_costs() -> None:
    utility, amounts, senses = instance(1, requests=200, candidates=8, guardrails=1)
    discount = discounts(4, "log")

    def value(bound: float) -> float:
        return solve_exposure(utility, amounts, np.array([bound]), senses, discount, tolerance=1e-8).value

    free = shown_under(utility, utility, amounts, discount)
    bound = free.amounts.sum() / free.exposure.sum() + 0.15
    price = solve_exposure(utility, amounts, np.array([bound]), senses, discount, tolerance=1e-8).prices[0]
    assert price == pytest.approx((value(bound - 0.005) - value(bound + 0.005)) / 0.01, rel=0.05)


def test_served_with_its_price_a_list_keeps_the_guardrail() -> None:
    """The utility plus price x member, sorted, is what is served: no mixture is needed when requests are many."""
    utility, amounts, senses = instance(2, requests=3_000, candidates=20, guardrails=2)
    discount = discounts(5, "log")
    free = shown_under(utility, utility, amounts, discount)
    bounds = free.amounts.sum(1) / free.exposure.sum() * np.array([1.3, 0.8])
    found = solve_exposure(utility, amounts, bounds, senses, discount)
    served = utility + np.tensordot(found.prices * senses, amounts, axes=1)
    shown = shown_under(served, utility, amounts, discount)
    means = shown.amounts.sum(1) / shown.exposure.sum()
    assert (senses * (means - bounds) >= -2e-3 * np.abs(bounds)).all()
    assert shown.utility.sum() / shown.exposure.sum() == pytest.approx(found.value, rel=1e-3)


def test_which_guardrails_conflict_and_by_how_much() -> None:
    rng = np.random.default_rng(0)
    group = rng.integers(0, 3, (200, 12))
    utility = rng.random(group.shape)
    amounts = np.stack([(group == g).astype(float) for g in range(3)])
    found = solve_exposure(
        utility, amounts, np.array([0.7, 0.6, 0.1]), np.array([1.0, 1.0, -1.0]), discounts(3, "none")
    )
    assert found.conflict.tolist() == [True, True, False]
    # A share of .6 costs less to forgo of .7, relative to the bound.
    assert found.shortfall == pytest.approx([0.3, 0.0, 0.0], abs=1e-4)
    assert found.reached[1] >= 0.6 - 1e-4


@given(st.integers(0, 2_000))
@settings(max_examples=25, deadline=None)
def test_the_least_shortfall_is_that_of_the_whole_programme(seed: int) -> None:
    utility, amounts, senses = instance(seed, guardrails=2)
    bounds = np.array([0.95, 0.02])
    found = solve_exposure(utility, amounts, bounds, senses, discounts(2, "log"), tolerance=1e-7)
    least = whole(utility, amounts, bounds, senses, discounts(2, "log"), elastic=True)
    assert (found.shortfall / np.maximum(bounds, 1e-3)).sum() == pytest.approx(least, abs=1e-4)


def test_without_guardrails_and_with_one_request() -> None:
    utility, amounts, _ = instance(4, requests=1, candidates=1)
    found = solve_exposure(utility, amounts[:0], np.zeros(0), np.zeros(0), discounts(10, "log"))
    assert found.value == pytest.approx(float(np.nanmax(utility)))
    assert found.gap == 0.0


@pytest.mark.heavy
def test_ten_thousand_requests_of_a_hundred_candidates() -> None:
    rng = np.random.default_rng(0)
    utility = rng.random((10_000, 100)) ** 2
    seller = np.broadcast_to(rng.random((1, 100)) < 0.05, utility.shape).astype(float)
    hide = np.clip(0.1 * utility + 0.05 * rng.random(utility.shape), 0, 1)
    amounts, discount = np.stack([seller, hide]), discounts(10, "log")
    free = shown_under(utility, utility, amounts, discount)
    today = free.amounts.sum(1) / free.exposure.sum()
    found = solve_exposure(utility, amounts, np.array([0.08, today[1] * 0.97]), np.array([1.0, -1.0]), discount)
    assert found.gap <= 1e-4
    assert found.reached[0] >= 0.08 - 1e-6


def test_what_a_guardrail_may_be() -> None:
    for wrong in (
        {"name": "a", "head": "hide"},
        {"name": "a", "head": "hide", "at_least": 0.1, "at_most": 0.2},
        {"name": "a", "head": "hide", "group": {"newer_than_days": 3}, "at_least": 0.1},
        {"name": "a", "at_least": 0.1},
        {"name": "a", "group": {"column": "year"}, "at_least": 0.1},
        {"name": "a", "group": {"column": "year", "at_least": 5, "at_most": 4}, "at_least": 0.1},
    ):
        with pytest.raises(ValueError, match=r"guardrail|group|at_least"):
            GuardrailConfig.model_validate(wrong)
    same = {"name": "a", "head": "hide", "at_most": "present"}
    with pytest.raises(ValueError, match="same name"):
        GuardrailsConfig.model_validate({"keep": [same, same]})
