"""Online bandits against plain linear algebra, and on streams that a child can solve."""

from __future__ import annotations

import numpy as np
import pytest

from honeyguide.kernels import bandit

ONE = np.array([1.0])


def test_recursive_least_squares_is_ridge_regression_with_fading_weights() -> None:
    rng = np.random.default_rng(1)
    n, d, keep, ridge = 60, 4, 0.97, 0.5
    x, y, times = rng.normal(size=(n, d)), rng.random(n), rng.integers(1, 4, n).astype(float)
    inverse, weights = np.eye(d) / ridge, np.zeros(d)
    for row, target, often in zip(x, y, times, strict=True):
        bandit._learn(inverse, weights, row, target, often, keep, ridge)
    age = keep ** np.arange(n - 1, -1, -1)
    gram = (x * (age * times)[:, None]).T @ x + ridge * keep**n * np.eye(d)
    np.testing.assert_allclose(weights, np.linalg.solve(gram, (x * (age * times)[:, None]).T @ y), rtol=1e-8)
    np.testing.assert_allclose(inverse, np.linalg.inv(gram), rtol=1e-7)


def test_what_is_never_seen_keeps_a_bounded_variance() -> None:
    inverse, weights = np.eye(2), np.zeros(2)
    for _ in range(20_000):
        bandit._learn(inverse, weights, np.array([1.0, 0.0]), 1.0, 1.0, 0.9, 1.0)
    assert np.isfinite(inverse).all()
    assert inverse[1, 1] <= 2 * bandit._WIDEST / 0.9
    assert weights[0] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("kind", "strength", "exponent", "least"),
    [
        (bandit.EPSILON, 0.1, 0.0, 0.85), (bandit.SQUARECB, 10.0, 0.5, 0.9), (bandit.THOMPSON, 0.2, 0.0, 0.93),
        (bandit.LINUCB, 0.3, 0.0, 0.93), (bandit.BOOTSTRAP, 0.3, 0.0, 0.93), (bandit.FULL, 0.0, 0.0, 0.97),
    ],
)  # fmt: skip
def test_every_kind_learns_which_arm_goes_with_which_feature(
    kind: int, strength: float, exponent: float, least: float
) -> None:
    right = np.random.default_rng(2).integers(0, 4, 3_000)
    rewards = bandit.play(np.eye(4)[right], right, 4, kind, strength, exponent, 1.0, ONE, 10, 3)
    assert rewards[1_000:].mean() >= least
    assert kind == bandit.FULL or rewards[:20].mean() < 0.9  # nothing was known
    again = bandit.play(np.eye(4)[right], right, 4, kind, strength, exponent, 1.0, ONE, 10, 3)
    np.testing.assert_array_equal(rewards, again)


def test_experts_that_forget_win_where_the_world_turns() -> None:
    rng = np.random.default_rng(4)
    right = rng.integers(0, 4, 6_000)
    x = np.eye(4)[right]
    right[3_000:] = (right[3_000:] + 1) % 4
    steady = bandit.play(x, right, 4, bandit.LINUCB, 0.3, 0.0, 1.0, ONE, 1, 0)[3_000:].mean()
    both = bandit.play(x, right, 4, bandit.LINUCB, 0.3, 0.0, 1.0, np.array([1.0, 0.98]), 1, 0)[3_000:].mean()
    assert both > steady + 0.1
