"""Intervals of off-policy values: pseudo-observations of tail weight, and the peers they are measured against.

The last axis is units (decisions, or people's sums of them); axes before it are independent logs.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit
from scipy.special import ndtri

from honeyguide.kernels.intervals import Intervals
from honeyguide.kernels.ope_values import Sums

__all__ = [
    "PSEUDO",
    "bootstrap_intervals",
    "empirical_bernstein",
    "hedged_betting",
    "reward_tails",
    "tail_interval",
    "wald_interval",
]

F64 = npt.NDArray[np.float64]

PSEUDO = 1.5  # successes, and as many failures


def tail_interval(
    sums: Sums,
    tail_weight: F64 | float,
    up: F64 | float,
    down: F64 | float,
    *,
    normalised: bool,
    times: F64 | None = None,
    level: float = 0.95,
    pseudo: F64 | float = PSEUDO,
) -> Intervals:
    """Value with an interval that holds under skew weights and rare rewards.

    To the log are added `pseudo` decisions whose residual is `up` (the best reward minus the model's) and as many
    whose residual is `down` (the worst's), each of the weight at which the variance sits (`Moments.tail_weight`); the
    interval is Wald's on what results, as Agresti and Coull 1998 do for a share, which is the case of equal weights.
    It is centred there; the estimate given is the plain one.

    sums: of weighted residuals, weights and model values per unit, (..., units). normalised: residuals are divided by
    the sum of weights (SNIPS) or by n (IPS, DR). tail_weight, up, down: (...,). times: how often each unit occurred.
    """
    weighted, weight, model, n = sums
    count = np.ones_like(weight) if times is None else times
    decisions = (count * n).sum(-1)
    size = weight if normalised else n
    total = (count * size).sum(-1)
    w = np.asarray(tail_weight, np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        base = (count * model).sum(-1) / decisions
        mean = (count * weighted).sum(-1) / total
        grown = total + 2 * pseudo * w
        centre = (mean * total + pseudo * w * (up + down)) / grown
        influence = (model - base[..., None] * n) / decisions[..., None]
        influence = influence + (weighted - centre[..., None] * size) / grown[..., None]
        variance = (count * influence**2).sum(-1)
        variance = variance + pseudo * (w / grown) ** 2 * ((up - centre) ** 2 + (down - centre) ** 2)
    half = ndtri(0.5 + level / 2) * np.sqrt(variance)
    return Intervals(base + mean, base + centre - half, base + centre + half)


def reward_tails(residual: F64, w: F64, tail_weight: F64 | float, normalised_mean: F64 | float) -> tuple[F64, F64]:
    """Residuals `up` and `down` for `tail_interval` where nobody told the rewards' range: (..., n) -> (...,) each.

    On each side of the mean the residual at which the variance sits, sum |d|^3 / sum d^2 (1 and 0 exactly for rewards
    of 1 and 0), and no less than what the one decision of most influence would need at the tail weight. A reward much
    larger than any seen is beyond any interval made of the log alone.
    """
    mean = np.asarray(normalised_mean, np.float64)
    away = residual - mean[..., None]
    ends = []
    for side in (1.0, -1.0):
        part = np.maximum(side * away, 0.0)
        square = (part**2).sum(-1)
        typical = np.divide((part**3).sum(-1), square, out=np.zeros_like(square), where=square > 0)
        most = np.divide((w * part).max(-1), tail_weight, out=np.zeros_like(square), where=np.asarray(tail_weight) > 0)
        ends.append(mean + side * np.maximum(typical, most))
    return ends[0], ends[1]


# ------------------------------------------------------------------------------------------------------- peers


def wald_interval(sums: Sums, *, normalised: bool, times: F64 | None = None, level: float = 0.95) -> Intervals:
    """Estimate +- z x standard error by the delta method: what most packages print."""
    zero = np.zeros(sums.weight.shape[:-1])
    return tail_interval(sums, zero, zero, zero, normalised=normalised, times=times, level=level, pseudo=0.0)


def bootstrap_intervals(
    w: F64, r: F64, times: F64, *, resamples: int = 400, level: float = 0.95, seed: int = 0
) -> tuple[Intervals, Intervals]:
    """Percentile and studentised bootstrap of SNIPS on one log of distinct rows (rows,) that occurred `times` each."""
    draws = np.random.default_rng(seed).multinomial(int(times.sum()), times / times.sum(), size=resamples)
    with np.errstate(invalid="ignore", divide="ignore"):
        estimate, error = _value_and_error(w, r, times[None].astype(np.float64))
        values, errors = _value_and_error(w, r, draws.astype(np.float64))
        t = (values - estimate) / errors
    ends = [(1 - level) / 2, (1 + level) / 2]
    known = np.isfinite(t)
    low, high = np.quantile(values[~np.isnan(values)], ends) if (~np.isnan(values)).any() else (np.nan, np.nan)
    t_low, t_high = np.quantile(t[known], ends) if known.any() else (np.nan, np.nan)
    return (
        Intervals(estimate, np.array([low]), np.array([high])),
        Intervals(estimate, estimate - t_high * error, estimate - t_low * error),
    )


def _value_and_error(w: F64, r: F64, times: F64) -> tuple[F64, F64]:
    total = times @ w
    value = (times @ (w * r)) / total
    square = times @ (w * r) ** 2 - 2 * value * (times @ (w * w * r)) + value**2 * (times @ (w * w))
    return value, np.sqrt(np.maximum(square, 0.0)) / total


def empirical_bernstein(z: F64, most: float, level: float = 0.95) -> Intervals:
    """Interval of the mean of z in [0, most], (..., n): holds for every n, and is wide.

    Source: Maurer and Pontil 2009, theorem 4, both sides.
    """
    n = z.shape[-1]
    mean, log = z.mean(-1), np.log(4 / (1 - level))
    half = np.sqrt(2 * z.var(-1, ddof=1) * log / n) + 7 * most * log / (3 * (n - 1))
    return Intervals(mean, np.maximum(mean - half, 0.0), np.minimum(mean + half, most))


def hedged_betting(z: F64, most: float, level: float = 0.95, grid: int = 400) -> Intervals:
    """Interval of the mean of z in [0, most], (logs, n), in the order it came; exact for every n.

    Source: Waudby-Smith and Ramdas 2024, theorem 3: two capital processes bet on and against each candidate mean.
    """
    scaled = np.ascontiguousarray(np.clip(z / most, 0.0, 1.0), np.float64)
    low, high = _betting(scaled, 1 - level, grid)
    return Intervals(z.mean(-1), low * most, high * most)


@njit(cache=True)
def _betting(z: F64, alpha: float, grid: int) -> tuple[F64, F64]:
    logs, n = z.shape
    low, high = np.zeros(logs), np.ones(logs)
    bets = np.empty(n)
    for log in range(logs):
        total, square = 0.5, 0.25
        for i in range(n):
            bets[i] = np.sqrt(2 * np.log(2 / alpha) * (i + 1) / (square * n))
            total += z[log, i]
            square += (z[log, i] - total / (i + 2)) ** 2
        # The set of means that survive is an interval: look for its ends from the mean outwards.
        centre = total / (n + 1)
        for side in (0, 1):
            inside, outside = centre, float(side)
            for _ in range(grid):
                m = 0.5 * (inside + outside)
                if _survives(z[log], bets, m, alpha):
                    inside = m
                else:
                    outside = m
                if abs(inside - outside) < 1e-6:
                    break
            if side == 0:
                low[log] = outside
            else:
                high[log] = outside
    return low, high


@njit(cache=True)
def _survives(z: F64, bets: F64, m: float, alpha: float) -> bool:
    up, down = np.log(0.5), np.log(0.5)
    limit = np.log(1 / alpha)
    for i in range(len(z)):
        above = min(bets[i], 0.5 / m) if m > 0 else bets[i]
        below = min(bets[i], 0.5 / (1 - m)) if m < 1 else bets[i]
        up += np.log1p(above * (z[i] - m))
        down += np.log1p(-below * (z[i] - m))
    return max(up, down) < limit
