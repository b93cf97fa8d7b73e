"""Trade-offs between objectives: weights to try, and which points no other beats."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import numpy.typing as npt

__all__ = ["not_dominated", "weights_to_try"]

F64 = npt.NDArray[np.float64]


def weights_to_try(objectives: int, most: int, seed: int = 0) -> F64:
    """(points, objectives) weights >= 0 that sum to one, corners first: a lattice of at most `most`, and where even the
    coarsest useful one is larger, the corners, the middle and even draws from the simplex (seeded)."""
    corners = np.eye(objectives)
    if objectives == 1:
        return corners
    parts = 1
    while _lattice_size(objectives, parts + 1) <= most:
        parts += 1
    if parts >= 4:
        bars = np.array(list(combinations(range(parts + objectives - 1), objectives - 1)))
        edges = np.concatenate(
            [np.full((len(bars), 1), -1), bars, np.full((len(bars), 1), parts + objectives - 1)], axis=1
        )
        points = (np.diff(edges, axis=1) - 1) / parts
    else:
        middle = np.full((1, objectives), 1 / objectives)
        drawn = np.random.default_rng(seed).dirichlet(np.ones(objectives), max(most - objectives - 1, 0))
        points = np.concatenate([middle, drawn])
    inner = points[points.max(axis=1) < 1.0]
    return np.concatenate([corners, inner])


def _lattice_size(objectives: int, parts: int) -> int:
    size = 1.0
    for i in range(1, objectives):
        size *= (parts + i) / i
    return round(size)


def not_dominated(values: F64, tolerance: float = 1e-12) -> npt.NDArray[np.bool_]:
    """(points,) which of (points, objectives), higher is better, no other point equals or beats everywhere and beats
    somewhere; of equal points the first."""
    n = len(values)
    keep = np.ones(n, np.bool_)
    for i in range(n):
        better = (values >= values[i] - tolerance).all(axis=1)
        strictly = (values > values[i] + tolerance).any(axis=1)
        equal_before = better & ~strictly & (np.arange(n) < i)
        keep[i] = not ((better & strictly).any() or equal_before.any())
    return keep
