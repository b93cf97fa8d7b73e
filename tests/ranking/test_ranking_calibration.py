"""Calibrators against scikit-learn, and the laws they must hold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score

from honeyguide.kernels.calibration import (
    Calibrator,
    auc,
    calibrate,
    fit_beta,
    fit_isotonic,
    fit_logistic,
    fit_platt,
    identity,
    log_losses,
    stack,
    uncalibrated,
)

FITS = {"platt": fit_platt, "beta": fit_beta, "isotonic": fit_isotonic}


def sample(n: int, seed: int, a: float = 1.0, b: float = 0.0):
    rng = np.random.default_rng(seed)
    raw = rng.normal(0, 1.5, n)
    return raw, (rng.random(n) < 1 / (1 + np.exp(-(a * raw + b)))).astype(np.float64)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(list(FITS)),
    st.integers(0, 10**6),
    st.integers(2, 200),
    st.floats(-3, 3),
    st.sampled_from([1, 0]),
)
def test_calibrated_scores_are_probabilities_and_never_reverse_two(kind, seed, n, slope, digits):
    raw, label = sample(n, seed, slope)
    raw = np.round(raw, digits)  # with ties
    calibrator = FITS[kind](raw, label)
    at = np.sort(np.concatenate([np.random.default_rng(seed).normal(0, 3, 300), raw, [-1e9, -800, 800, 1e9]]))
    p = calibrator(at)
    assert ((p >= 0) & (p <= 1)).all()
    assert (np.diff(p) >= 0).all()
    assert np.isnan(calibrator(np.array([np.nan, 0.0]))).tolist() == [True, False]


@pytest.mark.parametrize("seed", range(3))
def test_isotonic_equals_scikit_learn(seed):
    raw, label = sample(500, seed)
    raw = np.round(raw, 1 + seed)
    edge = 0.5 / 501
    theirs = IsotonicRegression(y_min=edge, y_max=1 - edge, out_of_bounds="clip").fit(raw, label)
    at = np.linspace(-6, 6, 1001)
    np.testing.assert_allclose(fit_isotonic(raw, label)(at), theirs.predict(at), atol=1e-12)


def test_isotonic_by_hand():
    # 0, 1 | 1, 0 pool to a half each; the ends keep half an observation's distance from 0 and 1.
    calibrator = fit_isotonic(np.array([1.0, 2.0, 3.0, 4.0]), np.array([0.0, 1.0, 0.0, 1.0]))
    assert calibrator(np.array([0.0, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 9.0])) == pytest.approx(
        [0.1, 0.1, 0.3, 0.5, 0.5, 0.5, 0.9, 0.9]
    )


def test_platt_and_logistic_regression_equal_scikit_learn():
    raw, label = sample(2000, 1, 0.6, -0.8)
    theirs = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(raw[:, None], label)
    assert fit_platt(raw, label).slope[:2] == pytest.approx([theirs.coef_[0, 0], theirs.intercept_[0]], abs=1e-5)
    rng = np.random.default_rng(0)
    design = np.column_stack([raw, rng.normal(size=(2000, 3))])
    ridged = LogisticRegression(C=0.1, tol=1e-10, max_iter=1000).fit(design, label)
    ours = fit_logistic(design, label, ridge=10.0)
    np.testing.assert_allclose(ours, [*ridged.coef_[0], ridged.intercept_[0]], atol=1e-5)


def test_beta_is_logistic_regression_on_both_logarithms():
    raw, label = sample(3000, 2, 0.7, 0.4)
    q = 1 / (1 + np.exp(-raw))
    theirs = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(
        np.column_stack([np.log(q), -np.log1p(-q)]), label
    )
    a, b, c = fit_beta(raw, label).slope
    assert [a, b, c] == pytest.approx([*theirs.coef_[0], theirs.intercept_[0]], abs=1e-3)
    p = 1 / (1 + ((1 - q) ** b) / (np.exp(c) * q**a))  # Kull et al., eq. 5
    np.testing.assert_allclose(fit_beta(raw, label)(raw), p, rtol=1e-9)


def test_beta_with_equal_slopes_is_platt():
    raw, _ = sample(50, 0)
    np.testing.assert_allclose(
        Calibrator("beta", (0.7, 0.7, -0.2))(raw), Calibrator("platt", (0.7, -0.2, 0.0))(raw), rtol=1e-12
    )


@pytest.mark.parametrize("kind", list(FITS))
def test_separable_or_reversed_data_stays_finite(kind):
    raw = np.arange(10.0)
    apart = (raw > 4).astype(float)
    for label in (apart, 1 - apart, np.ones(10)):
        p = FITS[kind](raw, label)(raw)
        assert np.isfinite(log_losses(p, label)).all()
    if kind != "isotonic":
        assert FITS[kind](raw, 1 - apart)(raw) == pytest.approx(0.5, abs=1e-6)


def test_heads_are_calibrated_side_by_side_as_alone():
    raw, label = sample(400, 3)
    all_kinds = [uncalibrated, fit_isotonic(raw, label), identity, fit_beta(raw, label), fit_platt(raw, label)]
    matrix = np.random.default_rng(0).normal(0, 2, (77, 5))
    stacked = stack(all_kinds)
    together = calibrate(stacked, matrix)
    for at, (calibrator, again) in enumerate(zip(all_kinds, stacked.unstack(), strict=True)):
        assert np.array_equal(together[:, at], calibrator(matrix[:, at]))
        assert np.array_equal(together[:, at], again(matrix[:, at]))
        assert again.kind == calibrator.kind
    assert np.array_equal(together[:, 0], matrix[:, 0])
    np.testing.assert_allclose(together[:, 2], 1 / (1 + np.exp(-matrix[:, 2])), rtol=1e-14)
    assert calibrate(stacked, matrix[:0]).shape == (0, 5)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 300), st.sampled_from([1, 6]))
def test_log_loss_and_auc_equal_scikit_learn(seed, n, digits):
    rng = np.random.default_rng(seed)
    label = np.append(rng.integers(0, 2, n), [0, 1]).astype(float)
    p = np.round(rng.random(n + 2), digits)
    assert log_losses(p, label).mean() == pytest.approx(log_loss(label, np.clip(p, 1e-15, 1 - 1e-15)), rel=1e-9)
    assert auc(p, label) == pytest.approx(roc_auc_score(label, p))


def test_auc_needs_both_classes():
    assert np.isnan(auc(np.ones(3), np.ones(3)))
