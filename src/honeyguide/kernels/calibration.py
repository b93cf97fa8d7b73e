"""From raw scores to probabilities, and how good probabilities are.

A calibrator never reverses two scores. Raw scores are log-odds, as boosted trees with log loss give them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit
from scipy.optimize import isotonic_regression
from scipy.special import expit
from scipy.stats import rankdata

__all__ = [
    "CalibrationError",
    "Calibrator",
    "CalibratorArrays",
    "auc",
    "calibrate",
    "calibration_errors",
    "fit_beta",
    "fit_isotonic",
    "fit_logistic",
    "fit_platt",
    "identity",
    "log_losses",
    "stack",
    "uncalibrated",
]

F64 = npt.NDArray[np.float64]
Kind = Literal["raw", "identity", "platt", "beta", "isotonic"]
_KINDS: tuple[Kind, ...] = ("raw", "identity", "platt", "beta", "isotonic")
_BETA, _ISOTONIC = 3, 4  # kinds 1 and 2 differ only in their parameters


@dataclass(frozen=True, slots=True)
class Calibrator:
    """One fitted map from raw scores to probabilities (kind "raw": the score itself, which is no probability)."""

    kind: Kind
    slope: tuple[float, float, float] = (0.0, 0.0, 0.0)
    knot_x: F64 | None = None  # ascending raw scores
    knot_y: F64 | None = None  # their probabilities, ascending

    def __call__(self, raw: F64) -> F64:
        """(n,) -> (n,)."""
        return calibrate(stack([self]), np.asarray(raw, np.float64)[:, None])[:, 0]


uncalibrated = Calibrator("raw")
identity = Calibrator("identity", (1.0, 0.0, 0.0))


def fit_platt(raw: F64, label: F64, weight: F64 | None = None) -> Calibrator:
    """p = sigmoid(a raw + b), a >= 0, by maximum likelihood.

    Source: Platt 1999, without the smoothing of its targets (a ridge of 1e-6 keeps separable data finite).
    """
    a, b = fit_logistic(np.asarray(raw, np.float64)[:, None], label, weight=weight)
    if a < 0.0:
        (b,) = fit_logistic(np.zeros((len(label), 0)), label, weight=weight)
        a = 0.0
    return Calibrator("platt", (float(a), float(b), 0.0))


def fit_beta(raw: F64, label: F64, weight: F64 | None = None) -> Calibrator:
    """logit p = a ln q - b ln(1 - q) + c with q = sigmoid(raw) and a, b >= 0.

    Source: Kull, Silva Filho and Flach 2017, section 4; a negative coefficient is set to zero, the rest
    fitted again.
    """
    design = _beta_design(np.asarray(raw, np.float64))
    keep = [0, 1]
    while True:
        fitted = fit_logistic(design[:, keep], label, weight=weight)
        negative = [column for column, value in zip(keep, fitted[:-1], strict=True) if value < 0.0]
        if not negative:
            break
        keep = [column for column in keep if column != negative[0]]
    slope = np.zeros(2)
    slope[keep] = fitted[:-1]
    return Calibrator("beta", (float(slope[0]), float(slope[1]), float(fitted[-1])))


def fit_isotonic(raw: F64, label: F64, weight: F64 | None = None) -> Calibrator:
    """The best non-decreasing function (pool adjacent violators), linear between its blocks, constant outside.

    Probabilities keep half an observation's distance from 0 and 1, so that log loss stays finite.
    Source: Zadrozny and Elkan 2002.
    """
    w = np.ones(len(label)) if weight is None else np.asarray(weight, np.float64) / np.mean(weight)
    x, inverse = np.unique(np.asarray(raw, np.float64), return_inverse=True)
    mass = np.bincount(inverse, weights=w)
    mean = np.bincount(inverse, weights=w * np.asarray(label, np.float64)) / mass
    edge = 0.5 / (len(label) + 1.0)
    fitted = isotonic_regression(mean, weights=mass)
    # A block is described by its first and last score.
    ends = np.zeros(len(x), bool)
    ends[fitted.blocks[:-1]] = True
    ends[fitted.blocks[1:] - 1] = True
    return Calibrator("isotonic", knot_x=x[ends], knot_y=np.clip(fitted.x[ends], edge, 1.0 - edge))


@dataclass(frozen=True, slots=True)
class CalibratorArrays:
    """The calibrators of several heads, for `calibrate`. All arrays are read-only."""

    kind: npt.NDArray[np.int32]  # (heads,)
    slope: F64  # (heads, 3)
    knot_start: npt.NDArray[np.int32]  # (heads + 1,)
    knot_x: F64
    knot_y: F64

    def __post_init__(self) -> None:
        for field in fields(self):
            array = np.ascontiguousarray(getattr(self, field.name)).view(np.ndarray)
            array.flags.writeable = False
            object.__setattr__(self, field.name, array)

    def unstack(self) -> list[Calibrator]:
        """The calibrators again."""
        bounds = zip(self.knot_start[:-1], self.knot_start[1:], strict=True)
        return [
            Calibrator(
                _KINDS[kind], (float(slope[0]), float(slope[1]), float(slope[2])), self.knot_x[a:z], self.knot_y[a:z]
            )
            for kind, slope, (a, z) in zip(self.kind, self.slope, bounds, strict=True)
        ]


def stack(calibrators: Sequence[Calibrator]) -> CalibratorArrays:
    """Lay several calibrators out for `calibrate`."""
    empty = np.zeros(0)
    xs = [empty if c.knot_x is None else c.knot_x for c in calibrators]
    ys = [empty if c.knot_y is None else c.knot_y for c in calibrators]
    return CalibratorArrays(
        kind=np.array([_KINDS.index(c.kind) for c in calibrators], np.int32),
        slope=np.array([c.slope for c in calibrators], np.float64).reshape(-1, 3),
        knot_start=np.cumsum([0, *map(len, xs)]).astype(np.int32),
        knot_x=np.concatenate([empty, *xs]),
        knot_y=np.concatenate([empty, *ys]),
    )


def calibrate(calibrators: CalibratorArrays, raw: F64) -> F64:
    """Raw scores (n, heads) -> probabilities (n, heads); columns of kind "raw" pass unchanged. nan stays nan."""
    matrix = np.require(raw, np.float64, ("C", "W"))
    c = calibrators
    return _calibrate(matrix, c.kind, c.slope, c.knot_start, c.knot_x, c.knot_y)


@njit(cache=True, nogil=True)
def _calibrate(raw, kind, slope, knot_start, knot_x, knot_y):  # type: ignore[no-untyped-def]
    out = np.empty_like(raw)
    for head in range(raw.shape[1]):
        a, b, c = slope[head, 0], slope[head, 1], slope[head, 2]
        x, y = knot_x[knot_start[head] : knot_start[head + 1]], knot_y[knot_start[head] : knot_start[head + 1]]
        for i in range(raw.shape[0]):
            z = raw[i, head]
            if kind[head] == 0 or np.isnan(z):
                out[i, head] = z
            elif kind[head] == _ISOTONIC:
                j = np.searchsorted(x, z, side="right")
                if j == 0:
                    out[i, head] = y[0]
                elif j == len(x):
                    out[i, head] = y[j - 1]
                else:
                    part = (z - x[j - 1]) / (x[j] - x[j - 1])
                    # Rounding must not carry a value past its block.
                    out[i, head] = min(y[j - 1] + part * (y[j] - y[j - 1]), y[j])
            else:
                if kind[head] == _BETA:
                    tail = np.log1p(np.exp(-abs(z)))
                    z = c - a * (max(-z, 0.0) + tail) + b * (max(z, 0.0) + tail)
                else:
                    z = a * z + b
                e = np.exp(-abs(z))
                out[i, head] = 1.0 / (1.0 + e) if z >= 0.0 else e / (1.0 + e)
    return out


def fit_logistic(design: F64, label: F64, *, weight: F64 | None = None, ridge: float = 1e-6, steps: int = 50) -> F64:
    """Coefficients of a logistic regression, the intercept last: (n, k), (n,) -> (k + 1,).

    Newton's method with halved steps; `ridge` / 2 times the squared coefficients (not the intercept) is added to the
    summed log loss, in which a row counts `weight` times.
    """
    y = np.asarray(label, np.float64)
    mass = np.ones(len(y)) if weight is None else np.asarray(weight, np.float64)
    x = np.column_stack([np.asarray(design, np.float64), np.ones(len(y))])
    penalty = np.full(x.shape[1], ridge)
    penalty[-1] = 1e-9  # keeps the intercept finite when there is one class only

    def loss(w: F64) -> float:
        z = x @ w
        return float(mass @ (np.logaddexp(0.0, z) - y * z) + 0.5 * penalty @ (w * w))

    w = np.zeros(x.shape[1])
    now = loss(w)
    for _ in range(steps):
        p = expit(x @ w)
        gradient = x.T @ (mass * (p - y)) + penalty * w
        hessian = (x * (mass * p * (1.0 - p))[:, None]).T @ x + np.diag(penalty)
        step = np.linalg.lstsq(hessian, gradient, rcond=None)[0]
        size = 1.0
        while size > 1e-4 and not (after := loss(w - size * step)) <= now:
            size /= 2.0
        if size <= 1e-4:
            break
        w, before, now = w - size * step, now, after
        if before - now <= 1e-10 * max(now, 1.0):
            break
    return w


def log_losses(p: F64, label: F64) -> F64:
    """-ln of the probability given to what happened, per row (n,); probabilities are kept 1e-15 from 0 and 1."""
    q = np.clip(p, 1e-15, 1.0 - 1e-15)
    return -(label * np.log(q) + (1.0 - label) * np.log1p(-q))


def auc(score: F64, label: npt.ArrayLike) -> float:
    """Probability that a random positive scores above a random negative, ties count half; nan with one class only.

    Source: Mann and Whitney 1947.
    """
    positive = np.asarray(label) > 0.5
    ones, zeros = int(positive.sum()), int((~positive).sum())
    if not ones or not zeros:
        return float("nan")
    return float((rankdata(score)[positive].sum() - ones * (ones + 1) / 2.0) / (ones * zeros))


class CalibrationError(NamedTuple):
    """How far probabilities lie from rates, over bins of equal size; nan where it cannot be known."""

    ece: float  # mean distance, as it is usually given: chance alone makes it positive
    floor: float  # the `ece` to be expected of a perfectly calibrated head on as many rows of as many people
    error: float  # root mean squared distance, without what chance adds
    low: float  # 95 % interval of `error`
    high: float


def calibration_errors(
    p: F64, label: F64, unit: npt.NDArray[np.int64] | None = None, weight: F64 | None = None, *, bins: int = 15,
    resamples: int = 2000, seed: int = 0,
) -> CalibrationError:  # fmt: skip
    """Calibration error of probabilities (n,) with what chance adds to it, and without.

    unit: the person behind a row (default: each row is one): rows of a person err alike. weight: how often it counts.
    The squared distance of a bin is estimated without bias by subtracting its variance, which is taken over units; the
    interval resamples the bins' distances from the normal distribution with their covariance, and a resample's own
    noise is subtracted too.
    Source: Naeini, Cooper and Hauskrecht 2015 (bins); Broecker 2012 and Kumar, Liang and Ma 2019 (without bias).
    """
    if not len(p):
        return CalibrationError(*[float("nan")] * 5)
    edges = np.unique(np.quantile(p, np.linspace(0.0, 1.0, bins + 1)[1:-1], method="inverted_cdf"))
    which = np.searchsorted(edges, p, side="left")
    which = np.unique(which, return_inverse=True)[1]
    k = int(which.max()) + 1
    w = np.ones(len(p)) if weight is None else np.asarray(weight, np.float64)
    person = np.arange(len(p)) if unit is None else np.unique(unit, return_inverse=True)[1]
    cell, place = np.unique(person * k + which, return_inverse=True)
    off, mass = np.bincount(place, weights=w * (label - p)), np.bincount(place, weights=w)
    owner, of = cell // k, cell % k
    total = np.bincount(of, weights=mass, minlength=k)
    gap = np.bincount(of, weights=off, minlength=k) / total
    people = np.bincount(of, minlength=k)
    # What each unit adds to each bin's distance (the delta method), scaled so that the variance is unbiased.
    influence = (off - gap[of] * mass) / total[of] * np.sqrt(people[of] / np.maximum(people[of] - 1, 1))
    covariance = _cross(owner, of, influence, k)
    variance = np.diag(covariance).copy()
    share = total / total.sum()
    # One unit alone says nothing of its bin's error.
    square = np.where(people > 1, gap**2 - variance, 0.0)
    error = float(np.sqrt(max(share @ square, 0.0)))
    values, vectors = np.linalg.eigh(covariance)
    noise = np.random.default_rng(seed).normal(size=(resamples, k)) * np.sqrt(np.maximum(values, 0.0)) @ vectors.T
    squares = np.where(people > 1, (gap + noise) ** 2 - 2.0 * variance, 0.0) @ share
    low, high = np.sqrt(np.maximum(np.quantile(squares, [0.025, 0.975]), 0.0))
    if len(np.unique(owner)) < 2:
        low = high = error = float("nan")
    floor = float(np.sqrt(2.0 / np.pi) * share @ np.sqrt(variance))
    return CalibrationError(float(share @ np.abs(gap)), floor, error, float(low), float(high))


def _cross(owner: npt.NDArray[np.int64], of: npt.NDArray[np.int64], value: F64, k: int) -> F64:
    """Sum over owners of the outer product of their values by column, (k, k)."""
    rows = np.unique(owner, return_inverse=True)[1]
    found = np.zeros((k, k))
    step = 65_536  # owners whose rows are held at once
    for start in range(0, int(rows.max(initial=-1)) + 1, step):
        of_part = (rows >= start) & (rows < start + step)
        dense = np.zeros((min(step, int(rows.max()) + 1 - start), k))
        dense[rows[of_part] - start, of[of_part]] = value[of_part]
        found += dense.T @ dense
    return found


def _beta_design(raw: F64) -> F64:
    """(ln q, -ln(1 - q)) of q = sigmoid(raw), without loss far from zero."""
    return np.column_stack([-np.logaddexp(0.0, -raw), np.logaddexp(0.0, raw)])
