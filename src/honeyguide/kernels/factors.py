"""Implicit alternating least squares by conjugate gradients or Cholesky, and answers from a history folded in."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from honeyguide.kernels.topk import best, history, is_return, mask

__all__ = ["BLOCK", "als_people", "als_rows", "als_topk", "fold_in"]

F32 = npt.NDArray[np.float32]
I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]

# Sums may be reordered so that they vectorise; nan and inf keep their meaning.
_DOT = {"reassoc", "nsz", "contract"}
_SMALL = 262_144
"""Multiplications up to which BLAS keeps a product on the caller's thread; the callers are threads already."""
BLOCK = 64
"""Rows solved side by side at most; ranges that begin at a multiple of it give the same bits however they are cut."""


@njit(cache=True, nogil=True, fastmath=_DOT)
def _add_pairs(
    factors: F32, rows: I32, strengths: F32, first: int, last: int, constant: float, slope: float, x: F32, r: int,
    out: F32,
) -> None:  # fmt: skip
    """`out[r] += sum over pairs first to last: strength * (constant + slope * y.x[r]) * y`.

    Four pairs a pass: `out` is read and written a quarter as often, and the four sums need not wait for one another.
    """
    d = x.shape[1]
    c, s = np.float32(constant), np.float32(slope)
    j = first
    while j + 4 <= last:
        i0, i1, i2, i3 = rows[j], rows[j + 1], rows[j + 2], rows[j + 3]
        s0 = s1 = s2 = s3 = np.float32(0.0)
        for a in range(d):
            along = x[r, a]
            s0 += factors[i0, a] * along
            s1 += factors[i1, a] * along
            s2 += factors[i2, a] * along
            s3 += factors[i3, a] * along
        s0, s1 = strengths[j] * (c + s * s0), strengths[j + 1] * (c + s * s1)
        s2, s3 = strengths[j + 2] * (c + s * s2), strengths[j + 3] * (c + s * s3)
        for a in range(d):
            out[r, a] += s0 * factors[i0, a] + s1 * factors[i1, a] + s2 * factors[i2, a] + s3 * factors[i3, a]
        j += 4
    for p in range(j, last):
        i0 = rows[p]
        s0 = np.float32(0.0)
        for a in range(d):
            s0 += factors[i0, a] * x[r, a]
        s0 = strengths[p] * (c + s * s0)
        for a in range(d):
            out[r, a] += s0 * factors[i0, a]


@njit(cache=True, nogil=True, fastmath=_DOT)
def _begin(x: F32, r: int, image: F32, left: F32, along: F32, ridge: float) -> float:
    """The residual's square; `left` holds all of the residual but the part of gram and ridge, which is taken off."""
    square = np.float32(0.0)
    for a in range(x.shape[1]):
        left[r, a] -= image[r, a] + np.float32(ridge) * x[r, a]
        along[r, a] = left[r, a]
        square += left[r, a] * left[r, a]
    return float(square)


@njit(cache=True, nogil=True, fastmath=_DOT)
def _advance(x: F32, r: int, image: F32, left: F32, along: F32, old: float) -> float:
    """One step of conjugate gradients once `image` is the matrix times `along`; the new residual's square."""
    d = x.shape[1]
    curve, square = np.float32(0.0), np.float32(0.0)
    for a in range(d):
        curve += along[r, a] * image[r, a]
    length = np.float32(old) / curve
    for a in range(d):
        x[r, a] += length * along[r, a]
        left[r, a] -= length * image[r, a]
        square += left[r, a] * left[r, a]
    ratio = square / np.float32(old)
    for a in range(d):
        along[r, a] = left[r, a] + ratio * along[r, a]
    return float(square)


@njit(cache=True, nogil=True, fastmath=_DOT)
def _exact(
    gram: F32, ridge: float, factors: F32, rows: I32, strengths: F32, first: int, last: int, a: F32, x: F32, r: int
) -> None:
    """Solve `(gram + ridge I + sum: s y y.T) x[r] = sum: s y` by Cholesky; `a` (d, d) is room to work in."""
    d = x.shape[1]
    for i in range(d):
        for j in range(i + 1):
            a[i, j] = gram[i, j]
        a[i, i] += np.float32(ridge)
        x[r, i] = 0.0
    for p in range(first, last):
        row, strength = rows[p], strengths[p]
        for i in range(d):
            scale = strength * factors[row, i]
            x[r, i] += scale
            for j in range(i + 1):
                a[i, j] += scale * factors[row, j]
    for i in range(d):
        for j in range(i):
            dot = np.float32(0.0)
            for k in range(j):
                dot += a[i, k] * a[j, k]
            a[i, j] = (a[i, j] - dot) / a[j, j]
        dot = np.float32(0.0)
        for k in range(i):
            dot += a[i, k] * a[i, k]
        a[i, i] = np.sqrt(a[i, i] - dot)
        dot = np.float32(0.0)
        for k in range(i):
            dot += a[i, k] * x[r, k]
        x[r, i] = (x[r, i] - dot) / a[i, i]
    for i in range(d - 1, -1, -1):
        x[r, i] /= a[i, i]
        for k in range(i):
            x[r, k] -= a[i, k] * x[r, i]


@njit(cache=True, nogil=True, fastmath=_DOT)
def als_rows(
    start: int, stop: int, indptr: I64, cols: I32, strengths: F32, factors: F32, gram: F32, ridge: F32, steps: int,
    out: F32,
) -> None:  # fmt: skip
    """Half an epoch for rows [start, stop): `steps` of conjugate gradients from `out`, in place; 0 steps = exactly.

    `gram` (d, d) is the unobserved weight times `factors.T @ factors`; `ridge` (rows,) is each row's regularisation.
    Rows go in blocks, whose products with `gram` are one small matrix product.
    Source: Hu, Koren and Volinsky 2008; Takacs, Pilaszy and Tikk 2011 for the conjugate gradients.
    """
    d = out.shape[1]
    size = min(max(_SMALL // (d * d), 4), BLOCK)
    x, left = np.zeros((size, d), np.float32), np.zeros((size, d), np.float32)
    along, image = np.zeros((size, d), np.float32), np.zeros((size, d), np.float32)
    old = np.zeros(size, np.float32)
    room = np.zeros((d if steps == 0 else 0, d), np.float32)
    for begin in range(start, stop, size):
        n = min(size, stop - begin)
        for r in range(n):
            for a in range(d):
                x[r, a] = along[r, a] = out[begin + r, a]
                left[r, a] = 0.0
        for step in range(steps + 1):
            if steps > 0:
                np.dot(along, gram, image)
            for r in range(n):
                row = begin + r
                first, last = indptr[row], indptr[row + 1]
                if first == last or (step > 0 and old[r] < 1e-20):
                    continue
                if steps == 0:
                    _exact(gram, ridge[row], factors, cols, strengths, first, last, room, x, r)
                elif step == 0:
                    _add_pairs(factors, cols, strengths, first, last, 1.0, -1.0, x, r, left)
                    old[r] = _begin(x, r, image, left, along, ridge[row])
                else:
                    for a in range(d):
                        image[r, a] += ridge[row] * along[r, a]
                    _add_pairs(factors, cols, strengths, first, last, 0.0, 1.0, along, r, image)
                    old[r] = _advance(x, r, image, left, along, old[r])
        for r in range(n):
            known = indptr[begin + r] < indptr[begin + r + 1]
            for a in range(d):
                out[begin + r, a] = x[r, a] if known else np.float32(0.0)


@njit(cache=True, nogil=True, fastmath=_DOT)
def fold_in(gram: F32, ridge: float, factors: F32, rows: I32, strengths: F32, m: int, steps: int, x: F32) -> None:
    """The vector (1, d) of one history by conjugate gradients from 0, written into `x`."""
    d = x.shape[1]
    left, along, image = np.zeros((1, d), np.float32), np.empty((1, d), np.float32), np.zeros((1, d), np.float32)
    x[:] = 0.0
    _add_pairs(factors, rows, strengths, 0, m, 1.0, 0.0, x, 0, left)
    old = _begin(x, 0, image, left, along, ridge)
    for _ in range(steps):
        if old < 1e-20:
            break
        for a in range(d):
            image[0, a] = np.float32(ridge) * along[0, a]
        for b in range(d):
            scale = along[0, b]
            for a in range(d):
                image[0, a] += scale * gram[b, a]
        _add_pairs(factors, rows, strengths, 0, m, 0.0, 1.0, along, 0, image)
        old = _advance(x, 0, image, left, along, old)


@njit(cache=True, nogil=True)
def als_people(
    start: int, stop: int, indptr: I64, items: I32, weights: F32, at: I64, now: I64, recency: F32, half_life_us: float,
    other: float, use_weights: bool, out: F32, factors: F32, gram: F32, reg: float, base: float, power: float,
    steps: int,
) -> None:  # fmt: skip
    """The vectors of the histories of queries [start, stop), as `als_topk` folds them in; 0 for an empty one."""
    rows, strengths = np.empty(len(recency), np.int32), np.empty(len(recency), np.float32)
    x = np.empty((1, factors.shape[1]), np.float32)
    for q in range(start, stop):
        m = history(
            indptr[q], indptr[q + 1], items, weights, at, now[q], len(factors), recency, half_life_us, other,
            use_weights, rows, strengths,
        )  # fmt: skip
        if m:
            total = 0.0
            for j in range(m):
                total += strengths[j]
            fold_in(gram, reg * (total + base) ** power, factors, rows, strengths, m, steps, x)
            out[q] = x[0]


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
    x = np.empty((1, d), np.float32)
    for q in range(start, stop):
        m = history(
            indptr[q], indptr[q + 1], items, weights, at, now[q], n_items, recency, half_life_us, other, use_weights,
            rows, strengths,
        )  # fmt: skip
        if m:
            total = 0.0
            for j in range(m):
                total += strengths[j]
            fold_in(gram, reg * (total + base) ** power, factors, rows, strengths, m, steps, x)
            for i in range(n_items):
                dot = np.float32(0.0)
                for a in range(d):
                    dot += factors[i, a] * x[0, a]
                values[i], every[i] = dot, i
            if is_return(indptr[q], indptr[q + 1], at, now[q], after_us):
                for i in range(n_items):
                    if values[i] > 0.0:
                        values[i] *= trend[i]
            mask(values, ex_indptr[q], ex_indptr[q + 1], ex_items)
        best(values, every, n_items if m else 0, out_items[q], out_scores[q])
