"""Inner products that do not depend on what else is asked: BLAS sums in another order for another number of rows."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

__all__ = ["products"]

F32 = npt.NDArray[np.float32]

_TILE = 128  # rows that stay in the cache while all queries pass over them


@njit(cache=True, nogil=True, fastmath={"reassoc", "nsz", "contract"})
def products(vectors: F32, queries: F32, out: F32) -> None:
    """out (n, m) = queries (n, d) @ vectors (m, d).T; each by one and the same loop."""
    m, d = vectors.shape
    for first in range(0, m, _TILE):
        last = min(first + _TILE, m)
        for q in range(len(queries)):
            query = queries[q]
            for i in range(first, last):
                line = vectors[i]
                total = np.float32(0.0)
                for j in range(d):
                    total += query[j] * line[j]
                out[q, i] = total
