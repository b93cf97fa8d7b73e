"""Bandits that learn online: a ridge regression of the reward for every arm, and what chance does with it.

Sources: Foster and Rakhlin 2020 (SquareCB), Agrawal and Goyal 2013 (linear Thompson sampling), Li et al. 2010 (LinUCB),
Osband and Van Roy 2015 (bootstrapped Thompson sampling).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

__all__ = ["BOOTSTRAP", "EPSILON", "FULL", "LINUCB", "SQUARECB", "THOMPSON", "play"]

EPSILON, SQUARECB, THOMPSON, LINUCB, BOOTSTRAP, FULL = 0, 1, 2, 3, 4, 5
"""What chooses an arm. FULL is no bandit: it is told the reward of every arm, and takes the best (the oracle)."""

_RATE = 2.0
"""Of the experts' weights: the squared loss of predictions in [0, 1] is 2-mixable (Vovk 1998)."""
_WIDEST = 100.0
"""Times the prior's variance, mean over the features."""
_SHARED = 0.002
"""Of the trust goes to all experts after each round, so that one that was wrong may come back."""


@njit(cache=True, nogil=True)
def _learn(inverse: Any, weights: Any, x: Any, target: Any, times: Any, keep: Any, ridge: Any) -> Any:
    """One more observation, `times` over: recursive least squares (Sherman, Morrison 1950), the past fading by `keep`.

    Nothing fades where the variances have grown far beyond the prior's: what is never seen would become ever less
    certain, and the sums lose their digits.
    """
    d = len(x)
    trace = 0.0
    for i in range(d):
        trace += inverse[i, i]
    kept = keep if trace < _WIDEST * d / ridge else 1.0
    px = np.zeros(d)
    for i in range(d):
        for j in range(d):
            px[i] += inverse[i, j] * x[j]
    variance, predicted = 0.0, 0.0
    for i in range(d):
        variance += x[i] * px[i]
        predicted += x[i] * weights[i]
    gain = times / (kept + times * variance)
    error = target - predicted
    for i in range(d):
        weights[i] += gain * px[i] * error
        for j in range(d):
            inverse[i, j] = (inverse[i, j] - gain * px[i] * px[j]) / kept


@njit(cache=True, nogil=True)
def _variance(inverse: Any, x: Any) -> Any:
    total = 0.0
    for i in range(len(x)):
        row = 0.0
        for j in range(len(x)):
            row += inverse[i, j] * x[j]
        total += row * x[i]
    return max(total, 0.0)


@njit(cache=True, nogil=True)
def play(
    x: Any, right: Any, arms: Any, kind: Any, strength: Any, exponent: Any, ridge: Any, keeps: Any, replicates: Any,
    seed: Any,
) -> Any:  # fmt: skip
    """Rewards (n,) of one pass: an arm is chosen for each x (n, d) float64, and earns 1 if it is `right` (n,), else 0.

    strength: epsilon; of squarecb gamma = strength x round^exponent; of thompson and linucb the width in standard
    deviations of a reward. ridge: the prior's weight. keeps (experts,): what the past of an arm is worth after another
    observation of it, 1 = nothing fades; an expert each, whose predictions are averaged by how well they did lately
    (exponential weights with a fixed share, Herbster and Warmuth 1998). replicates: of BOOTSTRAP, per expert, each
    learning from an observation Poisson(1) times.
    """
    np.random.seed(seed)
    n, d = x.shape
    experts = len(keeps)
    if kind == FULL:
        keeps = keeps ** (1.0 / arms)  # every arm is observed in every round, not one of them
    copies = replicates if kind == BOOTSTRAP else 1
    weights = np.zeros((experts, copies, arms, d))
    inverse = np.zeros((experts, copies, arms, d, d))
    for e in range(experts):
        for c in range(copies):
            for a in range(arms):
                for i in range(d):
                    inverse[e, c, a, i, i] = 1.0 / ridge
                    if kind == BOOTSTRAP:
                        # A draw of the prior, so that the replicates differ where nothing was seen.
                        weights[e, c, a, i] = np.random.normal() * strength / np.sqrt(ridge)
    trust = np.full(experts, 1.0 / experts)
    said = np.zeros((experts, arms))
    value = np.empty(arms)
    rewards = np.zeros(n)
    for t in range(n):
        c = np.random.randint(copies)
        for a in range(arms):
            value[a], spread = 0.0, 0.0
            for e in range(experts):
                said[e, a] = 0.0
                for i in range(d):
                    said[e, a] += weights[e, c, a, i] * x[t, i]
                value[a] += trust[e] * said[e, a]
                if kind in (LINUCB, THOMPSON):
                    spread += trust[e] * np.sqrt(_variance(inverse[e, 0, a], x[t]))
            if kind == LINUCB:
                value[a] += strength * spread
            elif kind == THOMPSON:
                value[a] += strength * spread * np.random.normal()
        best = 0
        for a in range(1, arms):
            if value[a] > value[best]:
                best = a
        arm = best
        if kind == EPSILON:
            if np.random.random() < strength:
                arm = np.random.randint(arms)
        elif kind == SQUARECB:
            gamma = strength * (t + 1.0) ** exponent
            left = np.random.random()
            for a in range(arms):
                if a != best:
                    left -= 1.0 / (arms + gamma * (value[best] - value[a]))
                    if left < 0.0:
                        arm = a
                        break
        rewards[t] = 1.0 if arm == right[t] else 0.0
        total = 0.0
        for e in range(experts):
            for a in range(arms):
                if a == arm or kind == FULL:
                    target = 1.0 if a == right[t] else 0.0
                    trust[e] *= np.exp(-_RATE * (target - min(max(said[e, a], 0.0), 1.0)) ** 2)
            total += trust[e]
        for e in range(experts):
            trust[e] = (1.0 - _SHARED) * trust[e] / total + _SHARED / experts
            for copy in range(copies):
                times = 1.0
                if kind == BOOTSTRAP:
                    times = float(np.random.poisson(1.0))
                for a in range(arms):
                    if times > 0.0 and (a == arm or kind == FULL):
                        target = 1.0 if a == right[t] else 0.0
                        _learn(inverse[e, copy, a], weights[e, copy, a], x[t], target, times, keeps[e], ridge)
    return rewards
