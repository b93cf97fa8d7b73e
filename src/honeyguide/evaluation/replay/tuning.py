"""How SWITCH's limit and DRos's strength are chosen: from the design, or by Lepski's rule; never on a known truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from honeyguide.contracts import F64
from honeyguide.evaluation.replay.log import DecisionLog
from honeyguide.evaluation.replay.policy import Target
from honeyguide.kernels.ope_values import optimistic, switched

__all__ = ["CANDIDATES", "Tuned", "design_tuned", "shrink", "slope_tuned"]

CANDIDATES = 20


@dataclass(frozen=True, slots=True)
class Tuned:
    """The parameter, the weights it leaves, and the mean weight it took away (under the logging policy)."""

    parameter: float
    weights: F64
    lost: float


def shrink(name: str, w: F64, parameter: float) -> F64:
    """Weights of `dros` or `switch` at one parameter."""
    return optimistic(w, parameter) if name == "dros" else switched(w, parameter)


def design_tuned(name: str, log: DecisionLog, target: Target, w: F64) -> Tuned:
    """The parameter with the least bound on the squared error: (mean weight lost)^2 + E g^2 / n.

    Both terms are in units of the residuals' size, which cancels, so the choice sees no reward at all.
    """
    all_w, share = _support(log, target, w)
    costs = []
    for parameter in (grid := _grid(name, all_w[share > 0])):
        g = shrink(name, all_w, parameter)
        lost = float((share * (all_w - g)).sum())
        costs.append(lost**2 + float((share * g**2).sum()) / len(log))
    best = float(grid[int(np.argmin(costs))])
    g = shrink(name, all_w, best)
    return Tuned(best, shrink(name, w, best), max(float((share * (all_w - g)).sum()), 0.0))


def slope_tuned(name: str, log: DecisionLog, target: Target, w: F64, q: F64, v: F64) -> Tuned:
    """From the least biased candidate on, the last whose interval still meets those of all before it.

    Source: Su, Srinath and Krishnamurthy 2020 (SLOPE), eq. 4, with confidence half-widths of 2 standard errors.
    """
    all_w, share = _support(log, target, w)
    grid = _grid(name, all_w[share > 0])[::-1]  # large parameters shrink least
    estimates: list[float] = []
    widths: list[float] = []
    chosen = float(grid[0])
    for parameter in grid:
        psi = v + shrink(name, w, float(parameter)) * (log.reward - q)
        by_unit = np.bincount(log.unit, psi - psi.mean(), log.n_units)
        estimate, width = float(psi.mean()), 2 * float(np.sqrt((by_unit**2).sum())) / len(psi)
        if any(abs(estimate - e) > width + (np.sqrt(6) - 1) * d for e, d in zip(estimates, widths, strict=True)):
            break
        # The candidates' widths must fall; one that does not is no candidate.
        if not widths or width <= widths[-1]:
            estimates.append(estimate)
            widths.append(width)
            chosen = float(parameter)
    g = shrink(name, all_w, chosen)
    return Tuned(chosen, shrink(name, w, chosen), max(float((share * (all_w - g)).sum()), 0.0))


def _support(log: DecisionLog, target: Target, w: F64) -> tuple[F64, F64]:
    """Weights that could come and how often, summing to 1 over the log: the design's, or those that came."""
    if log.probabilities is None:
        return w, np.full(len(w), 1.0 / len(w))
    p0 = log.probabilities
    return np.divide(target.probabilities, p0, out=np.zeros_like(p0), where=p0 > 0), p0 / len(log)


def _grid(name: str, w: F64) -> F64:
    """Parameters from shrinking all but everything to nothing at all, ascending."""
    positive = w[w > 0]
    if not len(positive):
        return np.array([np.inf])
    low, high = np.quantile(positive, [0.05, 1.0])
    low = max(float(low), float(high) * 1e-6)
    if name == "dros":
        return np.append(np.geomspace(low**2 / 10, high**2 * 100, CANDIDATES - 1), np.inf)
    return np.append(np.geomspace(low, float(high), CANDIDATES - 1) * (1 + 1e-12), np.inf)
