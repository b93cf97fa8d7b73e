"""Tests of a log's propensities, of what the choice depended on, and of surrogates."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri
from scipy.stats import chi2

__all__ = [
    "Test",
    "frequency_test",
    "inverse_frequency_test",
    "surrogacy_sample_size",
    "surrogacy_test",
    "surrogate_basis",
    "weight_mean_test",
]

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

_HINGES = (0.1, 0.25, 0.5, 0.75, 0.9)
_LEAST = 5.0  # expected choices of a cell; rarer ones are pooled, as Cochran 1954 advises


class Test(NamedTuple):
    """A statistic with its p-value under the hypothesis that all is well; nan where too little is known."""

    statistic: float
    p_value: float
    degrees: int
    worst: int  # the cell that deviates most, -1 none; what a cell is, each test says


def frequency_test(
    decision: I64, action: npt.NDArray[np.integer], probability: F64, chosen: I64, group: I64, n_groups: int
) -> Test:
    """Whether actions were chosen, in every group of decisions, as often as their stated probabilities say.

    decision, action, probability: (pairs,) of every offered action, decisions ascending; chosen: (n,) the pair that was
    chosen; group: (n,) a code made of what was known before the choice, -1 left out. Exact score test: chi squared of
    chosen minus expected counts with their covariance sum(diag p - p p') under the stated probabilities; cells
    expecting fewer than five are pooled within their group. `worst` is group * actions + action.
    """
    n_actions = int(action.max()) + 1
    statistic, degrees, worst, furthest = 0.0, 0, -1, 0.0
    picked = np.zeros(len(decision))
    picked[chosen] = 1.0
    group_of_pair = group[decision]
    for g in range(n_groups):
        inside = group_of_pair == g
        if not inside.any():
            continue
        a, p, hit = action[inside], probability[inside], picked[inside]
        rows = np.unique(decision[inside], return_inverse=True)[1]
        expected = np.bincount(a, p, n_actions)
        variance = np.bincount(a, p * (1 - p), n_actions)
        # Rare cells count together; what is all but certain (or never offered) has no variance to be tested by.
        kept = np.flatnonzero((expected >= _LEAST) & (variance >= _LEAST / 2))
        kept = kept[np.argsort(-variance[kept], kind="stable")[:60]]
        cell = np.full(n_actions, len(kept))
        cell[kept] = np.arange(len(kept))
        size = len(kept) + 1
        flat = rows * size + cell[a]
        shares = np.bincount(flat, p, (rows[-1] + 1) * size).reshape(-1, size)
        apart = np.bincount(cell[a], hit - p, size)
        covariance = np.diag(shares.sum(0)) - shares.T @ shares
        live = np.diag(covariance) >= _LEAST / 2
        if live.sum() < 1:
            continue
        c, d = covariance[np.ix_(live, live)], apart[live]
        values, vectors = np.linalg.eigh(c)
        good = values > 1e-8 * values[-1]
        statistic += float((((vectors.T @ d)[good]) ** 2 / values[good]).sum())
        degrees += int(good.sum())
        z = np.abs(d) / np.sqrt(np.diag(c))
        place = int(np.argmax(z))
        if z[place] > furthest and np.flatnonzero(live)[place] < len(kept):
            furthest, worst = float(z[place]), g * n_actions + int(kept[np.flatnonzero(live)[place]])
    p_value = float(chi2.sf(statistic, degrees)) if degrees else np.nan
    return Test(statistic, p_value, degrees, worst)


def inverse_frequency_test(
    action: npt.NDArray[np.integer], propensity: F64, offers: F64, least_n3: float = 40.0
) -> Test:
    """Whether sum of 1 / propensity over an action's choices is at most the decisions that offered it.

    For logs that hold only the chosen action's propensity: the sum's mean is the number of decisions at which the
    action had a chance, which is no more than its offers; only an excess is evidence, so the test has one side.
    action, propensity: (n,); offers: (actions,). Per action a normal score with the variance under full support, only
    where its third moment allows (n3); the smallest p-value times how many were tested (Bonferroni). `worst` is that
    action.
    """
    inverse = 1.0 / propensity
    sums = [np.bincount(action, inverse**power, len(offers)) for power in (1, 2, 3)]
    with np.errstate(invalid="ignore", divide="ignore"):
        n3 = sums[1] ** 3 / sums[2] ** 2
        z = (sums[0] - offers) / np.sqrt(sums[1] - sums[0])
    usable = (n3 >= least_n3) & (sums[1] > sums[0] * (1 + 1e-9))
    if not usable.any():
        return Test(np.nan, np.nan, 0, -1)
    worst = int(np.argmax(np.where(usable, z, -np.inf)))
    tested = int(usable.sum())
    return Test(float(z[worst]), float(min(1.0, tested * ndtr(-z[worst]))), tested, worst)


def weight_mean_test(w: F64, expected: F64, second: F64) -> Test:
    """Whether the weights average what the stated propensities promise.

    w: (n,) weights of what was chosen; expected: (n,) sum over supported actions of the target's probability (1 under
    full support); second: (n,) E w^2 under the stated propensities. Normal score test; `worst` is -1.
    """
    variance = float(np.maximum(second - expected**2, 0.0).sum())
    if variance <= 1e-12 * len(w):
        return Test(np.nan, np.nan, 0, -1)
    z = float((w - expected).sum() / np.sqrt(variance))
    return Test(z, float(2 * ndtr(-abs(z))), 1, -1)


def surrogate_basis(surrogates: F64) -> F64:
    """Columns in which h(S) is linear: one, and of each surrogate (n, d) itself, its square and five hinges."""
    columns = [np.ones(len(surrogates))]
    for s in np.asarray(surrogates, np.float64).reshape(len(surrogates), -1).T:
        columns += [s, s**2]
        inner = np.unique(np.quantile(s, _HINGES))
        columns += [np.maximum(s - knot, 0.0) for knot in inner if s.min() < knot < s.max()]
    return np.column_stack(columns)


def surrogacy_test(outcome: F64, surrogates: F64, arm: npt.NDArray[np.integer]) -> Test:
    """Whether an arm moves the late outcome beyond what the early surrogates say: the mean of Y - h(S), arm to arm.

    outcome: (n,); surrogates: (n, d); arm: (n,) 0 or 1, randomised. h is quadratic in each surrogate with hinges at
    its quantiles, fitted with the arm beside it, so its own error is in the standard error (HC1). The statistic is z of
    the arm's direct effect; one sided neither way. Source: Prentice 1989, third criterion.
    """
    h = surrogate_basis(surrogates)
    x = np.column_stack([h[:, :1], np.asarray(arm, np.float64), h[:, 1:]])
    n, d = x.shape
    if n <= d + 2 or len(np.unique(arm)) < 2:
        return Test(np.nan, np.nan, 0, -1)
    bread = np.linalg.pinv(x.T @ x)
    beta = bread @ (x.T @ outcome)
    residual = outcome - x @ beta
    meat = (x * residual[:, None] ** 2).T @ x
    error = float(np.sqrt((bread @ meat @ bread)[1, 1] * n / (n - d)))
    if not error > 0:
        return Test(np.nan, np.nan, 0, -1)
    z = float(beta[1] / error)
    return Test(z, float(2 * ndtr(-abs(z))), 1, -1)


def surrogacy_sample_size(
    r_squared: float, direct: float, *, deviation: float = 1.0, power: float = 0.8, level: float = 0.05
) -> float:
    """Units in both arms together at which `surrogacy_test` finds a direct effect.

    4 (z + z)^2 (1 - R^2) sd^2 / direct^2.

    r_squared: how much of the outcome's variance the surrogates explain. direct: the part of the effect that does not
    pass through them, in units of the outcome. 31.4 (1 - R^2) / (share tau)^2 at power .8 and level .05, for an outcome
    of deviation 1 and a direct share of the effect tau.
    """
    z = float(ndtri(1 - level / 2) + ndtri(power))
    return 4 * z**2 * (1 - r_squared) * deviation**2 / direct**2
