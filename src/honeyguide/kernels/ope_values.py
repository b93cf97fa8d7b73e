"""Off-policy estimators: what a target policy would have earned on a log of another one.

The last axis is decisions; axes before it are independent logs. `w` = target probability / logged probability of the
action that was chosen, `r` its reward, `q` a model's reward of the chosen action, `v` the model's expected reward under
the target, sum over actions of target(a) q(a). `times` says how often each row occurred (default once each).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = [
    "Moments",
    "Sums",
    "design_moments",
    "direct",
    "doubly_robust",
    "empirical_moments",
    "gather",
    "ips",
    "optimistic",
    "snips",
    "summed",
    "switched",
]

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]


class Moments(NamedTuple):
    """Sums of w, w^2, w^3 over n decisions; each (...,). Their ratios are the design's sample sizes."""

    n: F64
    w1: F64
    w2: F64
    w3: F64

    @property
    def ess(self) -> F64:
        """Effective sample size (sum w)^2 / sum w^2, decisions. Source: Kish 1965."""
        return _ratio(self.w1**2, self.w2)

    @property
    def n3(self) -> F64:
        """n (E w^2)^3 / (E w^3)^2: how many decisions carry the third moment; small where a few weights rule."""
        return _ratio(self.w2**3, self.w3**2)

    @property
    def tail_weight(self) -> F64:
        """E w^3 / E w^2: the weight at which the variance sits."""
        return _ratio(self.w3, self.w2)

    @property
    def mean(self) -> F64:
        """E w: 1 where the log's propensities are true and support the target."""
        return _ratio(self.w1, self.n)


class Sums(NamedTuple):
    """Per independent unit, over its decisions: sums of weighted residuals, weights, model values; and how many."""

    weighted: F64  # sum of w (r - q)
    weight: F64  # sum of w
    model: F64  # sum of v
    n: F64  # decisions


def empirical_moments(w: F64, times: F64 | None = None) -> Moments:
    """Moments of the weights that happened: they know only what was drawn."""
    count = np.ones_like(w) if times is None else times
    return Moments(count.sum(-1), (count * w).sum(-1), (count * w**2).sum(-1), (count * w**3).sum(-1))


def design_moments(target: F64, logged: F64, times: F64 | None = None, n: F64 | float | None = None) -> Moments:
    """Moments of the weights that could have happened, E under the logging policy summed over the decisions.

    target, logged: (..., pairs) probabilities of each decision's offered actions, all decisions in a row; only pairs
    with logged > 0 count. Needs the logging policy's full propensities. n: decisions (default: sum of logged).
    """
    w = np.divide(target, logged, out=np.zeros(np.broadcast_shapes(target.shape, logged.shape)), where=logged > 0)
    share = logged if times is None else logged * times
    total = share.sum(-1) if n is None else np.asarray(n, np.float64)
    return Moments(total, (share * w).sum(-1), (share * w**2).sum(-1), (share * w**3).sum(-1))


def gather(weighted: F64, weight: F64, model: F64, unit: I64 | None, n_units: int = 0) -> Sums:
    """Row values (n,) summed by unit; without `unit` every row is a unit of its own."""
    if unit is None:
        return Sums(weighted, weight, model, np.ones_like(weight))
    return Sums(
        summed(unit, weighted, n_units),
        summed(unit, weight, n_units),
        summed(unit, model, n_units),
        summed(unit, np.ones_like(weight), n_units),
    )


def summed(code: npt.NDArray[np.integer], values: F64, n: int) -> F64:
    """(n,) sums of the values (rows,) of each code."""
    return np.bincount(code, values, n).astype(np.float64)


def ips(w: F64, r: F64) -> F64:
    """mean of w r. Unbiased under true propensities and full support. Source: Horvitz and Thompson 1952."""
    return (w * r).mean(-1)


def snips(w: F64, r: F64) -> F64:
    """sum of w r / sum of w; nan where every weight is zero. Source: Swaminathan and Joachims 2015."""
    return _ratio((w * r).sum(-1), w.sum(-1))


def direct(v: F64) -> F64:
    """mean of v: the model's word alone, as wrong as the model. Source: Beygelzimer and Langford 2009."""
    return v.mean(-1)


def doubly_robust(w: F64, r: F64, q: F64, v: F64) -> F64:
    """mean of v + w (r - q). Right if the propensities or the model are. Source: Dudik, Langford and Li 2011."""
    return (v + w * (r - q)).mean(-1)


def optimistic(w: F64, strength: F64 | float) -> F64:
    """strength w / (w^2 + strength): the weights of DRos; strength 0 is DM, infinity DR.

    Source: Su, Dimakopoulou, Krishnamurthy and Dudik 2020, eq. 8.
    """
    strength = np.asarray(strength, np.float64)
    with np.errstate(invalid="ignore"):
        found = strength * w / (w**2 + strength)
    # 0 / 0 is a weight of zero under strength zero; infinity / infinity is no shrinkage.
    return np.where(np.isinf(strength), w, np.nan_to_num(found, nan=0.0))


def switched(w: F64, most: F64 | float) -> F64:
    """w up to `most`, 0 above: the model answers where weights are large. Source: Wang, Agarwal and Dudik 2017."""
    return np.where(w <= most, w, 0.0)


def _ratio(above: F64, below: F64) -> F64:
    above, below = np.asarray(above, np.float64), np.asarray(below, np.float64)
    return np.divide(above, below, out=np.full(np.broadcast_shapes(above.shape, below.shape), np.nan), where=below > 0)
