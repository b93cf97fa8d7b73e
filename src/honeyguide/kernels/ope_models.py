"""Reward models that need no library: shrunken means of cells, and ridge regression on coded columns."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["ridge", "shrunken_means"]

F64 = npt.NDArray[np.float64]


def shrunken_means(total: F64, n: F64, strength: float = 20.0) -> F64:
    """Mean reward of every (context, action) cell, drawn to its action's, and that to the log's.

    total, n: (..., contexts, actions) sums of rewards and decisions. A cell of n decisions keeps n / (n + strength) of
    its own mean; an empty log gives zero. Source: Efron and Morris
    1975, with a fixed prior size.
    """
    everything = total.sum((-2, -1), keepdims=True) / np.maximum(n.sum((-2, -1), keepdims=True), 1.0)
    of_action = (total.sum(-2, keepdims=True) + strength * everything) / (n.sum(-2, keepdims=True) + strength)
    return (total + strength * of_action) / (n + strength)


def ridge(features: F64, reward: F64, strength: float = 1.0) -> F64:
    """Coefficients (features + 1,), the intercept last and not penalised, of least squares + strength |beta|^2."""
    mean_x, mean_y = features.mean(0), reward.mean()
    x = features - mean_x
    gram = x.T @ x
    gram[np.diag_indices_from(gram)] += strength
    beta = np.linalg.solve(gram, x.T @ (reward - mean_y))
    return np.append(beta, mean_y - mean_x @ beta)
