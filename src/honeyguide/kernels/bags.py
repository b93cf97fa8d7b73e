"""Sums of table rows, and steps of row-wise Adagrad back into them: all that a two-tower model does per row.

A table is (rows, d) float32 with one number of state a row: the sum of its gradients' mean squares so far (Gupta et al.
2014, in the form of Naumov et al. 2019). A row that a batch names several times takes a step each time, in order.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

__all__ = ["bag_steps", "bag_sums"]

I32 = npt.NDArray[np.int32]
F32 = npt.NDArray[np.float32]

_EPS = np.float32(1e-6)


@njit(cache=True, nogil=True)
def bag_sums(table: F32, rows: I32, weights: F32, out: F32) -> None:
    """out (n, d) = the sum over j of weights[n, j] * table[rows[n, j]]; rows below 0 are passed over."""
    d = table.shape[1]
    for n in range(len(rows)):
        line = out[n]
        line[:] = 0.0
        for j in range(rows.shape[1]):
            row = rows[n, j]
            if row >= 0:
                weight, of = weights[n, j], table[row]
                for i in range(d):
                    line[i] += weight * of[i]


@njit(cache=True, nogil=True, fastmath={"reassoc", "nsz", "contract"})
def bag_steps(table: F32, state: F32, rows: I32, weights: F32, gradient: F32, rate: float) -> None:
    """A step of every named row along weights[n, j] * gradient[n] (n, d)."""
    d = table.shape[1]
    step = np.float32(rate)
    for n in range(len(rows)):
        of = gradient[n]
        square = np.float32(0.0)
        for i in range(d):
            square += of[i] * of[i]
        square /= np.float32(d)
        for j in range(rows.shape[1]):
            row = rows[n, j]
            weight = weights[n, j]
            if row < 0 or weight == 0.0:
                continue
            state[row] += weight * weight * square
            by = step * weight / (np.sqrt(state[row]) + _EPS)
            line = table[row]
            for i in range(d):
                line[i] -= by * of[i]
