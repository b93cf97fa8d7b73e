"""How good a head is, and whether the ranker may replace the blend: figures with intervals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from honeyguide.contracts import F32, F64, I64
from honeyguide.kernels.calibration import auc, calibration_errors, log_losses
from honeyguide.kernels.intervals import poisson_weights, ratio_intervals

__all__ = [
    "Decision",
    "compare",
    "gain_of",
    "interval_of_mean",
    "ndcg_by_group",
    "probability_metrics",
    "rank_metrics",
    "reliability",
]

CURVE_POINTS = 10


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether the ranker goes into service: `on` only if the interval of its gain lies above zero."""

    on: bool
    gain: float  # mean of ranker - blend per query
    low: float  # 95 % interval
    high: float
    n: int  # queries compared
    reason: str


def compare(ranker: F64, blend: F64, *, unit: I64 | None = None, resamples: int = 2000, seed: int = 0) -> Decision:
    """Paired bootstrap of a metric per query, (n,) each; pairs where either is undefined (nan) are left out.

    `unit` says who asked (n,): people are resampled, not queries, since one person's queries are alike.
    Source: Sakai 2006, with percentile intervals.
    """
    if ranker.shape != blend.shape or ranker.ndim != 1:
        raise ValueError(f"expected one value per query from both, got {ranker.shape} and {blend.shape}")
    defined = ~(np.isnan(ranker) | np.isnan(blend))
    gain = (ranker - blend)[defined]
    n = len(gain)
    units = n if unit is None else len(np.unique(unit[defined]))
    if units < 2:
        nan = float("nan")
        return Decision(False, nan, nan, nan, n, f"{n} queries of {units} units are too few to compare on")
    low, high = interval_of_mean(gain, None if unit is None else unit[defined], resamples=resamples, seed=seed)
    mean = float(gain.mean())
    verdict = "better than the blend" if low > 0 else "not better than the blend beyond chance"
    return Decision(low > 0, mean, low, high, n, f"{verdict}: {mean:+.4f} [{low:+.4f}, {high:+.4f}], {n} queries")


def interval_of_mean(
    value: F64, unit: I64 | None = None, weight: F64 | None = None, *, resamples: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """95 % bootstrap interval of a mean (n,), resampling units (rows, if no unit is given); nan below two units."""
    w = np.ones(len(value)) if weight is None else np.asarray(weight, np.float64)
    if unit is None:
        sums, counts = w * np.asarray(value, np.float64), w
    else:
        _, inverse = np.unique(unit, return_inverse=True)
        sums = np.asarray(np.bincount(inverse, weights=w * value), np.float64)
        counts = np.asarray(np.bincount(inverse, weights=w), np.float64)
    # Weights cost resamples x units bytes; where they would not fit, the normal interval says the same.
    weights = poisson_weights(len(sums), resamples, seed) if len(sums) <= 10_000 else None
    found = ratio_intervals(sums, counts, weights)
    return float(found.low[0]), float(found.high[0])


def gain_of(
    gain: F64, unit: I64 | None, *, weight: F64 | None = None, resamples: int = 1000, seed: int = 0
) -> tuple[float | None, float | None, float | None]:
    """Mean of a gain per row (n,) with the ends of its 95 % interval; None where they cannot be known."""
    if not len(gain):
        return None, None, None
    low, high = interval_of_mean(gain, unit, weight, resamples=resamples, seed=seed)
    found = (float(np.average(gain, weights=weight)), low, high)
    return tuple(None if np.isnan(value) else value for value in found)  # type: ignore[return-value]


def probability_metrics(
    p: F64, label: F32, constant: float, unit: I64 | None = None, *, weight: F64 | None = None, resamples: int = 1000,
    seed: int = 0,
) -> dict[str, float | None]:  # fmt: skip
    """Log loss beside that of the constant (the share of positives known before), its gain with interval, AUC, and how
    far the probabilities lie from rates: `ece` as it is usually given, beside `ece_floor`, what chance alone makes of a
    perfectly calibrated head on these rows; `calibration_error` without what chance adds, with its interval.
    """
    y = label.astype(np.float64)
    mine, theirs = log_losses(p, y), log_losses(np.full(len(y), constant), y)
    low, high = interval_of_mean(theirs - mine, unit, weight, resamples=resamples, seed=seed)
    off = calibration_errors(p, y, unit, weight, seed=seed)

    def mean(value: F64) -> float:
        return float(np.average(value, weights=weight))

    return _known(
        rows=float(len(y)), people=float(len(y) if unit is None else len(np.unique(unit))), positives=mean(y),
        log_loss=mean(mine), log_loss_constant=mean(theirs), log_loss_gain=mean(theirs - mine),
        log_loss_gain_low=low, log_loss_gain_high=high, auc=auc(p, y), ece=off.ece, ece_floor=off.floor,
        calibration_error=off.error, calibration_error_low=off.low, calibration_error_high=off.high,
    )  # fmt: skip


def reliability(p: F64, label: F64, weight: F64) -> list[dict[str, float]]:
    """Points of a reliability diagram, of equal size: mean probability, rate, rows; none for fewer rows than points."""
    if len(p) < CURVE_POINTS:
        return []
    bins = np.array_split(np.argsort(p, kind="stable"), CURVE_POINTS)
    return [
        {"p": float(np.average(p[b], weights=weight[b])), "y": float(np.average(label[b], weights=weight[b])),
         "n": float(len(b))}
        for b in bins
    ]  # fmt: skip


def ndcg_by_group(score: F64, label: F32, group: I64, *, k: int = 10) -> F64:
    """nDCG@k of each request where something happened, in ascending order of the requests.

    Ties are broken against the ranker: of equal scores, the candidate without the outcome comes first.
    """
    order = np.lexsort((label, -score, group))
    g, y = group[order], label[order] > 0.5
    first = np.flatnonzero(np.r_[True, g[1:] != g[:-1]]) if len(g) else np.zeros(0, np.int64)
    if not len(first):
        return np.zeros(0)
    lengths = np.diff(np.append(first, len(g)))
    place = np.arange(len(g)) - np.repeat(first, lengths)
    discount = np.where(place < k, 1.0 / np.log2(place + 2.0), 0.0)
    positives = np.add.reduceat(y, first)
    best = np.append(0.0, np.cumsum(1.0 / np.log2(np.arange(k) + 2.0)))[np.minimum(positives, k)]
    gained = np.add.reduceat(discount * y, first)
    return np.asarray((gained / np.where(positives > 0, best, 1.0))[positives > 0], np.float64)


def rank_metrics(score: F64, label: F32, group: I64, *, k: int = 10) -> dict[str, float | None]:
    """nDCG@k and AUC within a request, as means over the requests where they are defined.

    Ties are broken against the ranker: of equal scores, the candidate without the outcome comes first.
    """
    ndcg = ndcg_by_group(score, label, group, k=k)
    within = []
    order = np.argsort(group, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(group[order])) + 1):
        y = label[rows] > 0.5
        if y.any():
            within.append(auc(score[rows], y))
    return _known(
        rows=float(len(label)), positives=float(np.mean(label > 0.5)), groups=float(len(ndcg)),
        **{f"ndcg_at_{k}": float(np.mean(ndcg)) if len(ndcg) else float("nan")},
        auc_within_group=float(np.nanmean(within)) if not np.isnan(within).all() else float("nan"),
    )  # fmt: skip


def _known(**metrics: float) -> dict[str, float | None]:
    """Undefined figures as None, so that they survive JSON."""
    return {name: None if np.isnan(value) else value for name, value in metrics.items()}
