"""Words and meaning together: the nearest items of a query's vector, and a convex blend of both scores.

Meaning never ranks alone: it adds items to a query that words have hits for, and at most half of a score.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from honeyguide.contracts import F32, F64, I32

__all__ = ["MOST", "QUERY_TYPES", "DenseItems", "blended", "checked", "learn_shares", "query_type"]

QUERY_TYPES: Final = ("title", "word", "words", "sentence")
"""A query that is a title as it stands; else one word, two or three, or more."""
MOST: Final = 0.5
_SHARES: Final = tuple(np.round(np.arange(0.0, MOST + 0.01, 0.05), 2).tolist())
_LEAST: Final = 30  # queries of a type below which it takes what all queries do best with
_SKETCH: Final = 64
_WIDER: Final = 4


@dataclass(frozen=True)
class DenseItems:
    """Vectors of a catalog's rows, and a shorter sketch of each in which the nearest are looked for first."""

    vectors: F32  # (n, d), rows of unit length or zeros
    basis: F32  # (d, m)
    sketch: F32  # (n, m)

    def __len__(self) -> int:
        return len(self.vectors)

    @classmethod
    def of(cls, vectors: F32) -> DenseItems:
        """Sketches by the main directions of the vectors (uncentred, so that products of sketches near the others')."""
        width = min(_SKETCH, vectors.shape[1])
        sample = vectors[np.linspace(0, max(len(vectors) - 1, 0), min(len(vectors), 20_000)).astype(int)]
        _, directions = np.linalg.eigh(sample.T.astype(np.float64) @ sample)
        basis = np.ascontiguousarray(directions[:, ::-1][:, :width], np.float32)
        return cls(vectors, basis, np.ascontiguousarray(vectors @ basis))

    def nearest(self, query: F32, k: int) -> tuple[I32, F32]:
        """Rows and cosines of the `k` items nearest to a query's vector (d,), nearest first; exact over 4 k found by
        the sketch. Ties: the lower row."""
        k = min(k, len(self))
        if not k or not query.any():
            return np.zeros(0, np.int32), np.zeros(0, np.float32)
        near = self.sketch @ (query @ self.basis)
        wide = min(_WIDER * k, len(near))
        rows = np.argpartition(-near, wide - 1)[:wide]
        cosine = self.vectors[rows] @ query
        order = np.lexsort((rows, -cosine))[:k]
        return rows[order].astype(np.int32), cosine[order].astype(np.float32)

    def cosines(self, query: F32, rows: I32) -> F32:
        """Cosines of some rows, nan of rows that have no vector."""
        inside = (rows >= 0) & (rows < len(self))
        out = self.vectors[np.where(inside, rows, 0)] @ query if len(self) else np.zeros(len(rows), np.float32)
        return np.where(inside, out, np.nan).astype(np.float32)

    def save(self, folder: Path) -> None:
        """Write arrays into an existing folder."""
        for name in ("vectors", "basis", "sketch"):
            np.save(folder / f"{name}.npy", getattr(self, name))

    @classmethod
    def load(cls, folder: Path) -> DenseItems:
        """Read what `save` wrote, as memory maps."""
        names = ("vectors", "basis", "sketch")
        return cls(*(np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r")) for name in names))


def query_type(words: int, *, title: bool) -> str:
    """Which of `QUERY_TYPES` a query is."""
    if title:
        return QUERY_TYPES[0]
    return QUERY_TYPES[1] if words <= 1 else QUERY_TYPES[2] if words <= 3 else QUERY_TYPES[3]


def blended(lexical: F32, dense: F32 | F64, share: float) -> F64:
    """(1 - share) of the lexical score and `share` of the cosine, each between 0 and 1 within the query, (n,).

    An item without hits scores 0 by words, one without a vector 0 by meaning. Source: Bruch, Gai and Ingber 2023.
    """
    words = np.nan_to_num(lexical).astype(np.float64)
    best = words.max(initial=0.0)
    words = words / best if best > 0 else words
    dense = dense.astype(np.float64)
    low, high = (np.nanmin(dense), np.nanmax(dense)) if np.isfinite(dense).any() else (0.0, 0.0)
    meaning = np.nan_to_num((dense - low) / (high - low)) if high > low else np.zeros(len(dense))
    return (1 - share) * words + share * meaning


def learn_shares(
    types: Sequence[str], lexical: Sequence[F32], dense: Sequence[F32], gains: Sequence[F32], ideal: Sequence[float],
    k: int = 10,
) -> dict[str, float]:  # fmt: skip
    """By query type, the share of meaning that ranks judged candidates best by DCG@k over the ideal.

    lexical, dense, gains: of each query's candidates; ideal: the best DCG@k that the query could have. Of shares that
    do alike the smallest. Types with few queries take the share of all.
    """
    discount = 1 / np.log2(np.arange(k) + 2)
    value = np.zeros((len(types), len(_SHARES)))
    for at, (words, meaning, gain, best) in enumerate(zip(lexical, dense, gains, ideal, strict=True)):
        if best <= 0:
            continue
        for column, share in enumerate(_SHARES):
            order = np.argsort(-blended(words, meaning, share), kind="stable")[:k]
            value[at, column] = gain[order] @ discount[: len(order)] / best
    kinds = np.array(types)

    def best_of(rows: np.ndarray) -> float:
        mean = np.round(value[rows].mean(axis=0), 6)
        return float(_SHARES[int(mean.argmax())])

    pooled = best_of(np.ones(len(kinds), np.bool_)) if len(kinds) else 0.0
    return {kind: best_of(kinds == kind) if (kinds == kind).sum() >= _LEAST else pooled for kind in QUERY_TYPES}


def checked(shares: Mapping[str, float]) -> dict[str, float]:
    """A share for every type, none above `MOST`."""
    return {kind: min(max(float(shares.get(kind, 0.0)), 0.0), MOST) for kind in QUERY_TYPES}
