"""Vectors of items by what stands near them in people's lines, and by their texts: factorised by random projections."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from honeyguide.contracts import F32, I32, I64

__all__ = ["factors", "nearby", "principal"]


def nearby(
    indptr: I64, item: I32, n_items: int, window: int, *, decay: float = 0.9, logarithm: bool = True
) -> sparse.csr_matrix:
    """(items, items) how much more often two items stand within `window` steps than by chance; symmetric.

    Pairs g steps apart count decay^g. As a logarithm, below chance as 0 (positive pointwise mutual information), or as
    the count over the roots of both items' counts, which leaves rare pairs less of a say.
    """
    owner = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
    counts = sparse.csr_matrix((n_items, n_items), dtype=np.float32)
    for gap in range(1, min(window, max(len(item) - 1, 0)) + 1):
        same = owner[gap:] == owner[:-gap]
        if not same.any():
            break
        pair = (np.full(int(same.sum()), decay**gap, np.float32), (item[:-gap][same], item[gap:][same]))
        counts = counts + sparse.csr_matrix(pair, shape=(n_items, n_items))
    counts = (counts + counts.T).tocoo()
    of = np.asarray(counts.sum(axis=1)).ravel()
    if not logarithm:
        root = np.sqrt(np.maximum(of, 1e-12))
        counts.data /= root[counts.row] * root[counts.col]
        return counts.tocsr()
    value = np.log(np.maximum(counts.data * of.sum() / np.maximum(of[counts.row] * of[counts.col], 1e-12), 1e-12))
    keep = value > 0
    return sparse.csr_matrix(
        (value[keep].astype(np.float32), (counts.row[keep], counts.col[keep])), shape=(n_items, n_items)
    )


def principal(matrix: sparse.csr_matrix, d: int, seed: int, rounds: int = 3) -> tuple[F32, F32]:
    """The left singular vectors (n, r) and singular values (r,) of the largest r = min(d, n, m).

    By random projections with `rounds` powers (Halko, Martinsson and Tropp 2011, algorithm 4.4).
    """
    n, m = matrix.shape
    r = min(d, n, m)
    width = min(r + 16, n, m)
    basis = matrix @ np.random.default_rng(seed).normal(size=(m, width)).astype(np.float32)
    for _ in range(rounds):
        basis = matrix @ (matrix.T @ _orthogonal(basis))
    basis = _orthogonal(_orthogonal(basis))
    across = matrix.T @ basis
    squares, left = np.linalg.eigh((across.T @ across).astype(np.float64))
    values, left = np.sqrt(np.maximum(squares[::-1], 0.0)), left[:, ::-1].astype(np.float32)
    vectors = basis @ left[:, :r]
    # of both signs, that by which the largest entry is above 0: another machine's LAPACK may give the other
    top = np.abs(vectors).argmax(axis=0)
    signs = np.sign(vectors[top, np.arange(r)])
    return (vectors * np.where(signs == 0, 1.0, signs)).astype(np.float32), values[:r].astype(np.float32)


def _orthogonal(basis: F32) -> F32:
    """Columns of length one at right angles that span the same, by the small square of their products: far fewer
    operations than a QR of tall matrices takes; directions lost in rounding become 0."""
    squares, turns = np.linalg.eigh((basis.T @ basis).astype(np.float64))
    sure = squares > 1e-10 * max(float(squares[-1]), 1e-30)
    scale = np.where(sure, 1.0 / np.sqrt(np.where(sure, squares, 1.0)), 0.0)
    return basis @ (turns * scale).astype(np.float32)


def factors(matrix: sparse.csr_matrix, d: int, seed: int) -> F32:
    """(n, d) vectors whose products come near the matrix; columns beyond its rank are 0."""
    vectors, values = principal(matrix, d, seed)
    out = np.zeros((matrix.shape[0], d), np.float32)
    out[:, : vectors.shape[1]] = vectors * np.sqrt(values)
    return out
