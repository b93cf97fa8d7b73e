"""How far a distribution has moved from a reference that is kept as a sketch of quantiles."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["kolmogorov_smirnov", "population_stability", "sketch"]

F64 = npt.NDArray[np.float64]
BINS = 10
_SMOOTH = 0.5  # of a row in each bin, so that an empty one is no infinity


def sketch(values: npt.ArrayLike, points: int = 401) -> F64:
    """(points,) evenly spaced quantiles of the finite values, from the least to the greatest; empty without any."""
    x = np.asarray(values, np.float64)
    x = x[np.isfinite(x)]
    return np.quantile(x, np.linspace(0.0, 1.0, points)) if len(x) else np.zeros(0)


def population_stability(quantiles: F64, n: int, missing: float, values: npt.ArrayLike, *, bins: int = BINS) -> float:
    """PSI of values (m,) against a reference of n rows, of which a share `missing` had none; never negative.

    sum over bins of (p - q) x log(p / q), over equal parts of the reference, what lies below and above all of it, and
    what is missing; less the (bins - 1) x (1 / n + 1 / m) that chance alone is expected to add (Yurdakul and Naranjo
    2020). Bins between equal quantiles are one.
    """
    x = np.asarray(values, np.float64)
    m, finite = len(x), np.isfinite(x)
    if not m or not n:
        return 0.0
    inner = np.zeros(0)
    if len(quantiles):
        edges = np.quantile(quantiles, np.linspace(0.0, 1.0, bins + 1))
        edges[-1] = np.nextafter(edges[-1], np.inf)
        inner = np.unique(edges)
    # A quantile may stand for a value of many rows: such a value is a bin's lower end on both sides.
    shares = np.diff([0.0, *(np.searchsorted(quantiles, inner) / max(len(quantiles), 1)), 1.0]) * (1.0 - missing)
    reference = np.append(shares * n, missing * n)
    counts = np.bincount(np.searchsorted(inner, x[finite], side="right"), minlength=len(inner) + 1)
    present = np.append(counts, m - finite.sum())
    cells = len(reference)
    p = (reference + _SMOOTH) / (n + cells * _SMOOTH)
    q = (present + _SMOOTH) / (m + cells * _SMOOTH)
    psi = float(((q - p) * np.log(q / p)).sum())
    used = int(((reference > 0) | (present > 0)).sum())
    return max(psi - (used - 1) * (1.0 / n + 1.0 / m), 0.0)


def kolmogorov_smirnov(quantiles: F64, values: npt.ArrayLike) -> float:
    """Largest distance between the distribution functions of a sketch and of values, at both their points; 0 to 1.

    Within 1 / (points - 1) of the distance from the sketched values themselves. Missing values are left out.
    """
    x = np.sort(np.asarray(values, np.float64))
    x = x[np.isfinite(x)]
    if not len(x) or not len(quantiles):
        return 0.0
    at = np.concatenate([quantiles, x])
    ours = np.searchsorted(x, at, side="right") / len(x)
    theirs = np.searchsorted(quantiles, at, side="right") / len(quantiles)
    return float(np.abs(ours - theirs).max())
