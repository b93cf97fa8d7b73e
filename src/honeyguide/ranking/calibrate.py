"""Choosing how raw scores become probabilities: for all people, and for segments where that pays."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit

from honeyguide.contracts import F32, F64, I32, I64
from honeyguide.kernels.calibration import (
    Calibrator,
    fit_beta,
    fit_isotonic,
    fit_platt,
    identity,
    log_losses,
)

__all__ = ["Calibration", "calibration_of", "choose_calibrator", "correct", "shifted"]

BLOCKS = 5
"""Blocks of time: each is tried after learning from those before it, as it will be in service."""
PRIORS = (300.0, 100.0, 30.0)
"""How many rows' worth of belief there is that a segment is like the whole."""
LEAST_OF_EACH = 10
BEYOND_CHANCE = 2.0
"""Standard errors by which a calibrator must be better than a simpler one."""
_Fit = Callable[[F64, F64, F64], Calibrator]


@dataclass(frozen=True, slots=True)
class Calibration:
    """What was chosen, and how it does on rows it had not seen."""

    calibrator: Calibrator
    losses: F64  # (m,) log loss of the newest m rows, each calibrated by what lay before it
    tried: slice  # which rows those are
    segments: F64 | None = None  # (segments + 1, 2) what to add to slope and intercept; the last row is of nobody's
    told: tuple[dict[str, float | str | None], ...] = ()


def choose_calibrator(raw: F64, label: F32, weight: F64 | None = None) -> Calibrator:
    """The calibrator with the least log loss on rows after those it learnt from, fitted again on all rows.

    Rows are in order of time. A calibrator may weigh recent rows more (half as much for every sixth of the rows
    that lies between). A simpler one stays unless the next is better beyond chance.
    """
    return calibration_of(raw, label, weight).calibrator


def calibration_of(
    raw: F64, label: F32, weight: F64 | None = None, *, segment: I32 | None = None, segments: int = 0,
    least_segment_rows: int = 400,
) -> Calibration:  # fmt: skip
    """The calibration of rows in order of time; `segment` (-1 unknown) with the number of `segments` there are."""
    y, n = label.astype(np.float64), len(raw)
    w = np.ones(n) if weight is None else np.asarray(weight, np.float64)
    cuts = np.linspace(0, n, BLOCKS + 1).astype(int)[1:] if n >= 4 * BLOCKS else np.array([n // 2, n])
    first = int(cuts[0])
    found: dict[str, F64] = {}
    for name, fit in _candidates():
        parts = [fit(raw[:a], y[:a], w[:a])(raw[a:b]) for a, b in itertools.pairwise(cuts)]
        found[name] = log_losses(np.concatenate(parts), y[first:])
    best = "identity"
    for name, losses in found.items():
        gain = w[first:] * (found[best] - losses)
        # What is better by chance alone is no reason to leave the simpler one.
        if float(gain.sum()) > BEYOND_CHANCE * float(gain.std()) * np.sqrt(len(gain)):
            best = name
    fits = dict(_candidates())
    calibrator = fits[best](raw, y, w)
    plain = Calibration(calibrator, found[best], slice(first, n))
    if segment is None or segments < 2:
        return plain
    return _by_segment(plain, fits[best], cuts, raw, y, w, segment, segments, least_segment_rows)


def correct(segments: F64, p: F64, segment: I32) -> F64:
    """Probabilities (n,) corrected for the segment of each row (n,); -1 is nobody's and stays as it is."""
    z = logit(np.clip(p, 1e-15, 1.0 - 1e-15))
    slope, intercept = segments[segment].T
    found: F64 = np.where((slope == 0.0) & (intercept == 0.0), p, expit(z + slope * z + intercept))
    return found


def shifted(p: F64, offset: F64 | float) -> F64:
    """Probabilities whose log-odds are moved by `offset`."""
    found: F64 = expit(logit(np.clip(p, 1e-15, 1.0 - 1e-15)) + offset)
    return found


def _candidates() -> Iterator[tuple[str, _Fit]]:
    """Simplest first."""
    yield "identity", lambda raw, y, w: identity
    for name, fit in (("platt", fit_platt), ("beta", fit_beta), ("isotonic", fit_isotonic)):
        yield name, fit
    for name, fit in (("platt", fit_platt), ("beta", fit_beta)):
        yield f"{name}, recent rows", _recently(fit)


def _recently(fit: _Fit) -> _Fit:
    """The same from rows that count less the older they are."""
    return lambda raw, y, w: fit(raw, y, w * _recent(len(y)))


def _recent(n: int) -> F64:
    """1 for the newest row, a half for one that lies a sixth of all rows before it, and so on."""
    return np.exp2(-6.0 * (n - 1 - np.arange(n)) / max(n, 1))


def _by_segment(
    plain: Calibration, fit: _Fit, cuts: I64, raw: F64, y: F64, w: F64, segment: I32, segments: int, least: int
) -> Calibration:
    """The same with a correction for each segment, shrunk towards none, if that predicts later rows better."""
    first, n = plain.tried.start, len(raw)
    losses = {prior: np.zeros(n - first) for prior in PRIORS}
    for a, b in itertools.pairwise(cuts):
        before = fit(raw[:a], y[:a], w[:a])
        for prior, out in losses.items():
            deltas, _ = _corrections(before(raw[:a]), y[:a], w[:a], segment[:a], segments, prior, least * a / n)
            out[a - first : b - first] = log_losses(correct(deltas, before(raw[a:b]), segment[a:b]), y[a:b])
    mass = w[first:]
    best = min(losses, key=lambda prior: float(mass @ losses[prior]))
    gain = float(mass @ (plain.losses - losses[best]) / mass.sum())
    deltas, told = _corrections(plain.calibrator(raw), y, w, segment, segments, best, least)
    if gain <= 0.0 or not deltas.any():
        why = f"calibrating segments apart does not predict later rows better (log loss {-gain:+.5f})"
        told = [{**one, "intercept": None, "slope": None, "reason": one["reason"] or why} for one in told]
        return Calibration(plain.calibrator, plain.losses, plain.tried, None, tuple(told))
    return Calibration(plain.calibrator, losses[best], plain.tried, deltas, tuple(told))


def _corrections(
    p: F64, y: F64, w: F64, segment: I32, segments: int, prior: float, least: float
) -> tuple[F64, list[dict[str, float | str | None]]]:
    """What to add to slope and intercept of the log-odds of each segment, (segments + 1, 2), and what was done.

    The maximum of the posterior with independent normal priors around zero, of precision `prior` / 4: what so many
    rows of even odds would say.
    """
    deltas = np.zeros((segments + 1, 2))
    told: list[dict[str, float | str | None]] = []
    z = logit(np.clip(p, 1e-9, 1.0 - 1e-9))
    for code in range(segments):
        rows = np.flatnonzero(segment == code)
        ones = float(y[rows].sum())
        said: dict[str, float | str | None] = {"segment": code, "rows": float(len(rows)), "reason": ""}
        if len(rows) < least or min(ones, len(rows) - ones) < LEAST_OF_EACH:
            said["reason"] = f"{len(rows)} rows, {ones:.0f} with the outcome: too few, as the whole"
        else:
            slope, intercept = _shrunk(z[rows], y[rows], w[rows], prior / 4.0)
            deltas[code] = max(slope, -0.9), intercept  # never turned round
        told.append(said | {"slope": float(deltas[code, 0]), "intercept": float(deltas[code, 1])})
    return deltas, told


def _shrunk(z: F64, y: F64, w: F64, ridge: float) -> tuple[float, float]:
    """Newton's method for logit p = z + a z + b under a ridge on a and b."""
    theta, design = np.zeros(2), np.column_stack([z, np.ones(len(z))])
    for _ in range(25):
        p = expit(z + design @ theta)
        gradient = design.T @ (w * (p - y)) + ridge * theta
        hessian = (design * (w * p * (1.0 - p))[:, None]).T @ design + ridge * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        theta = theta - np.clip(step, -2.0, 2.0)
        if np.abs(step).max() < 1e-9:
            break
    return float(theta[0]), float(theta[1])
