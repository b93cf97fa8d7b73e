"""Implicit alternating least squares by conjugate gradients, and answers from a history folded in on the spot."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from honeyguide.kernels.topk import best, history, is_return, mask

__all__ = ["als_rows", "als_topk"]

F32 = npt.NDArray[np.float32]
I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]

# Sums may be reordered so that they vectorise; nan and inf keep their meaning.
_DOT = {"reassoc", "nsz", "contract"}


@njit(cache=True, nogil=True, fastmath=_DOT)
def _apply(gram: F32, ridge: float, factors: F32, rows: I32, strengths: F32, m: int, x: F32, out: F32) -> None:
    """`out = (gram + ridge I + sum over rows: strength * y y.T) x`."""
    d = len(x)
    for a in range(d):
        out[a] = np.float32(ridge) * x[a]
    for b in range(d):
        scale, line = x[b], gram[b]
        for a in range(d):
            out[a] += scale * line[a]
    for j in range(m):
        y = factors[rows[j]]
        dot = np.float32(0.0)
        for a in range(d):
            dot += y[a] * x[a]
        dot *= strengths[j]
        for a in range(d):
            out[a] += dot * y[a]


@njit(cache=True, nogil=True, fastmath=_DOT)
def _solve(
    gram: F32, ridge: float, factors: F32, rows: I32, strengths: F32, m: int, steps: int, x: F32, work: F32
) -> None:
    """Conjugate gradients on `(gram + ridge I + sum: s y y.T) x = sum: s y`, from the x given, in place."""
    d = len(x)
    residual, direction, product = work[0], work[1], work[2]
    _apply(gram, ridge, factors, rows, strengths, m, x, product)
    for a in range(d):
        residual[a] = -product[a]
    for j in range(m):
        y, strength = factors[rows[j]], strengths[j]
        for a in range(d):
            residual[a] += strength * y[a]
    old = np.float32(0.0)
    for a in range(d):
        direction[a] = residual[a]
        old += residual[a] * residual[a]
    for _ in range(steps):
        if old < 1e-20:
            break
        _apply(gram, ridge, factors, rows, strengths, m, direction, product)
        curve = np.float32(0.0)
        for a in range(d):
            curve += direction[a] * product[a]
        step = old / curve
        new = np.float32(0.0)
        for a in range(d):
            x[a] += step * direction[a]
            residual[a] -= step * product[a]
            new += residual[a] * residual[a]
        ratio = new / old
        for a in range(d):
            direction[a] = residual[a] + ratio * direction[a]
        old = new


@njit(cache=True, nogil=True)
def als_rows(
    start: int, stop: int, indptr: I64, cols: I32, strengths: F32, factors: F32, gram: F32, ridge: F32, steps: int,
    out: F32,
) -> None:  # fmt: skip
    """Half an epoch for rows [start, stop): `steps` of conjugate gradients from `out`, in place.

    `gram` (d, d) is the unobserved weight times `factors.T @ factors`; `ridge` (rows,) is each row's regularisation.
    Source: Hu, Koren and Volinsky 2008; Takacs, Pilaszy and Tikk 2011 for the conjugate gradients.
    """
    work = np.empty((3, out.shape[1]), np.float32)
    for r in range(start, stop):
        first, last = indptr[r], indptr[r + 1]
        if first == last:
            out[r] = 0.0
        else:
            _solve(gram, ridge[r], factors, cols[first:last], strengths[first:last], last - first, steps, out[r], work)


@njit(cache=True, nogil=True, fastmath=_DOT)
def als_topk(
    start: int, stop: int, indptr: I64, items: I32, weights: F32, at: I64, now: I64, ex_indptr: I64, ex_items: I32,
    recency: F32, half_life_us: float, other: float, use_weights: bool, trend: F32, after_us: int,
    out_items: I32, out_scores: F32, factors: F32, gram: F32, reg: float, base: float, power: float, steps: int,
) -> None:  # fmt: skip
    """Fold each history of queries [start, stop) in and score all items by the dot product.

    The ridge is `reg * (total strength + base) ** power`. An empty history brings nothing.
    Positive scores are multiplied by `trend` (items,) where the history's newest event is older than `after_us`.
    """
    n_items, d = factors.shape
    values = np.empty(n_items, np.float32)
    every = np.empty(n_items, np.int32)
    rows = np.empty(len(recency), np.int32)
    strengths = np.empty(len(recency), np.float32)
    work = np.empty((3, d), np.float32)
    x = np.empty(d, np.float32)
    for q in range(start, stop):
        m = history(
            indptr[q], indptr[q + 1], items, weights, at, now[q], n_items, recency, half_life_us, other, use_weights,
            rows, strengths,
        )  # fmt: skip
        if m:
            total = 0.0
            for j in range(m):
                total += strengths[j]
            x[:] = 0.0
            _solve(gram, reg * (total + base) ** power, factors, rows, strengths, m, steps, x, work)
            for i in range(n_items):
                dot = np.float32(0.0)
                for a in range(d):
                    dot += factors[i, a] * x[a]
                values[i], every[i] = dot, i
            if is_return(indptr[q], indptr[q + 1], at, now[q], after_us):
                for i in range(n_items):
                    if values[i] > 0.0:
                        values[i] *= trend[i]
            mask(values, ex_indptr[q], ex_indptr[q + 1], ex_items)
        best(values, every, n_items if m else 0, out_items[q], out_scores[q])
