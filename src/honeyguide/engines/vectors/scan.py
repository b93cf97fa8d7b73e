"""Exact search: products, and the best of each row; the same bits alone as in a batch."""

from __future__ import annotations

import numpy as np

from honeyguide.contracts import F32, I32, Candidates, Ragged
from honeyguide.kernels.nearest import products
from honeyguide.kernels.topk import best

__all__ = ["merged", "scan"]

_LINES = 16
"""Questions whose products are held at once."""


def scan(vectors: F32, rows: I32, queries: F32, k: int, exclude: Ragged | None, ex_places: Ragged | None) -> Candidates:
    """The k largest inner products of each query: vectors (m, d), rows (m,) that they stand for, queries (n, d).

    ex_places: the excluded rows as places in `vectors`, made by the caller where `rows` is not 0, 1, 2, ...
    Padded with -1 / nan; ties go to the lower row, for which `rows` must ascend.
    """
    n, m = len(queries), len(vectors)
    out = Candidates(np.full((n, k), -1, np.int32), np.full((n, k), np.nan, np.float32))
    if not n or not m or not k:
        return out
    hidden = ex_places if ex_places is not None else exclude
    values_of, places = np.empty((min(_LINES, n), m), np.float32), np.empty(m, np.int32)
    of, every = _plain(vectors), np.arange(m, dtype=np.int32)
    for start in range(0, n, _LINES):
        part = np.ascontiguousarray(queries[start : start + _LINES])
        products(of, part, values_of)
        for i in range(len(part)):
            values = values_of[i]
            if hidden is not None:
                gone = hidden.row(start + i)
                values[gone[(gone >= 0) & (gone < m)]] = -np.inf
            places[:] = every
            best(values, places, m, out.items[start + i], out.scores[start + i])
    found = out.items >= 0
    out.items[found] = rows[out.items[found]]
    return out


def merged(one: Candidates, other: Candidates, k: int) -> Candidates:
    """The best k of two lists without a row in common."""
    items = np.concatenate([one.items, other.items], axis=1)
    scores = np.concatenate([one.scores, other.scores], axis=1)
    order = np.lexsort((items, np.where(np.isnan(scores), np.inf, -scores)), axis=1)[:, :k]
    return Candidates(np.take_along_axis(items, order, 1), np.take_along_axis(scores, order, 1))


def _plain(vectors: F32) -> F32:
    """Of the one type that the kernel is compiled for."""
    flags = vectors.flags
    if flags.writeable and flags.c_contiguous and vectors.dtype == np.float32:
        return vectors
    return np.array(vectors, np.float32, order="C")
