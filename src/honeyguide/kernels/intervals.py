"""Figures with their 95 % intervals: bootstrap, normal and Wilson.

A ratio figure is sum(sums) / sum(counts) over independent units; a mean over queries is one with counts 0 or 1 (or
more, where a unit asked several times). Two systems are compared on the same units with the same weights.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

__all__ = [
    "Intervals",
    "difference_intervals",
    "mean_interval",
    "normal_interval",
    "poisson_weights",
    "ratio_intervals",
    "wilson_interval",
]

F64 = npt.NDArray[np.float64]
U8 = npt.NDArray[np.uint8]

_CHUNK = 2_048  # units per matrix product: 16 MB of weights at 1,000 resamples


class Intervals(NamedTuple):
    """Point estimates with lower and upper ends, each (figures,); nan where they cannot be known."""

    estimate: F64
    low: F64
    high: F64


def normal_interval(estimate: F64, standard_error: F64, level: float = 0.95) -> Intervals:
    """estimate +- z x standard error."""
    half = ndtri(0.5 + level / 2) * standard_error
    return Intervals(estimate, estimate - half, estimate + half)


def mean_interval(values: npt.ArrayLike, level: float = 0.95) -> Intervals:
    """Normal interval of a mean: (n,) or (n, figures); nan is left out; no interval below two values."""
    values = np.asarray(values, np.float64)
    defined = ~np.isnan(values)
    return ratio_intervals(np.where(defined, values, 0.0), defined.astype(np.float64), None, level)


def wilson_interval(successes: npt.ArrayLike, n: npt.ArrayLike, level: float = 0.95) -> Intervals:
    """Interval of a share; stays in [0, 1] and holds its level for small n. Source: Wilson 1927."""
    s, n = np.asarray(successes, np.float64), np.asarray(n, np.float64)
    z = ndtri(0.5 + level / 2)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = s / n
        centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
        half = z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    return Intervals(share, np.clip(centre - half, 0.0, 1.0), np.clip(centre + half, 0.0, 1.0))


def poisson_weights(n: int, resamples: int = 1_000, seed: int = 0) -> U8:
    """How often each resample takes each unit, (resamples, n), n x resamples bytes: independent Poisson(1) counts.

    Differs from drawing n units with replacement only in that the total is random, which a ratio divides out.
    Source: Chamandy et al. 2012, "Estimating uncertainty for massive data streams".
    """
    # Inversion of a uniform byte pair: 65,536 steps hold every probability of Poisson(1) to within 1e-5.
    probability = np.cumsum([np.exp(-1.0) / f for f in (1, 1, 2, 6, 24, 120, 720, 5040)])
    steps = np.searchsorted(probability, (np.arange(65_536) + 0.5) / 65_536).astype(np.uint8)
    return steps[np.random.default_rng(seed).integers(0, 65_536, (resamples, n), np.uint16)]


def ratio_intervals(sums: F64, counts: F64, weights: U8 | None, level: float = 0.95) -> Intervals:
    """sum(sums) / sum(counts) per figure with its interval.

    sums, counts: (units,) or (units, figures). weights: from `poisson_weights` for percentile-bootstrap intervals, or
    None for normal ones by the delta method, which agree with them to the third digit from about 10,000 units on.
    A figure with one unit has no interval; one with none no estimate.
    """
    sums, counts = _columns(sums), _columns(counts)
    estimate = _ratio(sums.sum(0), counts.sum(0))
    if weights is None:
        found = normal_interval(estimate, _standard_error(_influence(sums, counts, estimate), counts), level)
    else:
        found = _percentiles(estimate, _ratio(_weighted(weights, sums), _weighted(weights, counts)), level)
    return _at_least_two(found, counts)


def difference_intervals(
    sums_a: F64, counts_a: F64, sums_b: F64, counts_b: F64, weights: U8 | None, level: float = 0.95
) -> Intervals:
    """Figure of a minus figure of b on the same units (row i is the same unit in all), as in `ratio_intervals`."""
    sums_a, counts_a, sums_b, counts_b = map(_columns, (sums_a, counts_a, sums_b, counts_b))
    a, b = _ratio(sums_a.sum(0), counts_a.sum(0)), _ratio(sums_b.sum(0), counts_b.sum(0))
    counts = np.minimum(counts_a, counts_b)
    if weights is None:
        influence = _influence(sums_a, counts_a, a) - _influence(sums_b, counts_b, b)
        found = normal_interval(a - b, _standard_error(influence, counts), level)
    else:
        replicates = _ratio(_weighted(weights, sums_a), _weighted(weights, counts_a))
        replicates -= _ratio(_weighted(weights, sums_b), _weighted(weights, counts_b))
        found = _percentiles(a - b, replicates, level)
    return _at_least_two(found, counts)


def _columns(values: F64) -> F64:
    values = np.asarray(values, np.float64)
    return values[:, None] if values.ndim == 1 else values


def _ratio(sums: F64, counts: F64) -> F64:
    return np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)


def _influence(sums: F64, counts: F64, estimate: F64) -> F64:
    """What each unit adds to the ratio's deviation, to first order (the delta method)."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return (sums - estimate * counts) / counts.sum(0)


def _standard_error(influence: F64, counts: F64) -> F64:
    n = (counts > 0).sum(0)
    return np.sqrt((influence**2).sum(0) * n / np.maximum(n - 1, 1))


def _weighted(weights: U8, values: F64) -> F64:
    """weights @ values, in chunks of units so that the weights are never all in float64."""
    total = np.zeros((weights.shape[0], values.shape[1]))
    for start in range(0, len(values), _CHUNK):
        part = slice(start, start + _CHUNK)
        total += weights[:, part].astype(np.float64) @ values[part]
    return total


def _percentiles(estimate: F64, replicates: F64, level: float) -> Intervals:
    low, high = np.full((2, len(estimate)), np.nan)
    # A resample that took no unit of a figure says nothing about it.
    known = np.flatnonzero(~np.isnan(estimate))
    if len(known):
        low[known], high[known] = np.nanquantile(replicates[:, known], [(1 - level) / 2, (1 + level) / 2], axis=0)
    return Intervals(estimate, low, high)


def _at_least_two(found: Intervals, counts: F64) -> Intervals:
    several = (counts > 0).sum(0) > 1
    return Intervals(found.estimate, np.where(several, found.low, np.nan), np.where(several, found.high, np.nan))
