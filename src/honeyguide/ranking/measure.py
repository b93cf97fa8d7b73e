"""How good a head is, and whether the ranker may replace the blend: figures with intervals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from honeyguide.contracts import F32, F64, I64
from honeyguide.kernels.calibration import auc, fit_logistic, log_losses
from honeyguide.kernels.intervals import poisson_weights, ratio_intervals
from honeyguide.kernels.metrics import calibration_error

__all__ = ["Decision", "compare", "interval_of_mean", "logistic_baseline", "probability_metrics", "rank_metrics"]


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
    value: F64, unit: I64 | None = None, *, resamples: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """95 % bootstrap interval of a mean (n,), resampling units (rows, if no unit is given); nan below two units."""
    if unit is None:
        sums, counts = np.asarray(value, np.float64), np.ones(len(value))
    else:
        _, inverse = np.unique(unit, return_inverse=True)
        sums = np.asarray(np.bincount(inverse, weights=value), np.float64)
        counts = np.asarray(np.bincount(inverse), np.float64)
    # Weights cost resamples x units bytes; where they would not fit, the normal interval says the same.
    weights = poisson_weights(len(sums), resamples, seed) if len(sums) <= 10_000 else None
    found = ratio_intervals(sums, counts, weights)
    return float(found.low[0]), float(found.high[0])


def probability_metrics(
    p: F64, label: F32, constant: float, unit: I64 | None = None, *, resamples: int = 1000, seed: int = 0
) -> dict[str, float | None]:
    """Log loss beside that of the constant (the share of positives known before), its gain with interval, AUC, ECE."""
    y = label.astype(np.float64)
    mine, theirs = log_losses(p, y), log_losses(np.full(len(y), constant), y)
    low, high = interval_of_mean(theirs - mine, unit, resamples=resamples, seed=seed)
    return _known(
        rows=float(len(y)), positives=float(y.mean()), log_loss=float(mine.mean()),
        log_loss_constant=float(theirs.mean()), log_loss_gain=float((theirs - mine).mean()),
        log_loss_gain_low=low, log_loss_gain_high=high, auc=auc(p, y), ece=calibration_error(p, y),
    )  # fmt: skip


def rank_metrics(score: F64, label: F32, group: I64, *, k: int = 10) -> dict[str, float | None]:
    """nDCG@k and AUC within a request, as means over the requests where they are defined.

    Ties are broken against the ranker: of equal scores, the candidate without the outcome comes first.
    """
    ndcg, within = [], []
    order = np.lexsort((label, -score, group))
    bounds = np.flatnonzero(np.diff(group[order])) + 1
    discount = 1.0 / np.log2(np.arange(2, k + 2))
    for rows in np.split(order, bounds):
        y = label[rows] > 0.5
        if not y.any():
            continue
        ndcg.append(float(discount[: len(y)][y[:k]].sum() / discount[: int(y.sum())].sum()))
        within.append(auc(score[rows], y))
    return _known(
        rows=float(len(label)), positives=float(np.mean(label > 0.5)), groups=float(len(ndcg)),
        **{f"ndcg_at_{k}": float(np.mean(ndcg)) if ndcg else float("nan")},
        auc_within_group=float(np.nanmean(within)) if not np.isnan(within).all() else float("nan"),
    )  # fmt: skip


def logistic_baseline(fit: tuple[F32, F32], test: tuple[F32, F32], *, max_rows: int = 30_000) -> float:
    """Held-out log loss of a plain logistic regression on the same features: what trees must beat to earn their cost.

    Features are standardised; nan becomes the mean, with a column that says so. Learns from the newest `max_rows`.
    """
    x, y = fit[0][-max_rows:].astype(np.float64), fit[1][-max_rows:].astype(np.float64)
    gaps = np.flatnonzero(np.isnan(x).any(axis=0))
    known = np.where(np.isfinite(x), x, np.nan)
    some = np.isfinite(known).any(axis=0)
    mean, spread = np.zeros(x.shape[1]), np.ones(x.shape[1])
    mean[some] = np.nanmean(known[:, some], axis=0)
    spread[some] = np.nanstd(known[:, some], axis=0)
    spread[spread == 0.0] = 1.0

    def design(features: F64) -> F64:
        scaled = np.clip((features - mean) / spread, -10.0, 10.0)
        return np.column_stack([np.nan_to_num(scaled), np.isnan(features[:, gaps])])

    weights = fit_logistic(design(x), y, ridge=1.0)
    logit = design(test[0].astype(np.float64)) @ weights[:-1] + weights[-1]
    return float(log_losses(1.0 / (1.0 + np.exp(-logit)), test[1].astype(np.float64)).mean())


def _known(**metrics: float) -> dict[str, float | None]:
    """Undefined figures as None, so that they survive JSON."""
    return {name: None if np.isnan(value) else value for name, value in metrics.items()}
