"""The exact best `k` by factors for many people at once: tiles by falling norm, or plain products, as measured."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from honeyguide.contracts import F32, Candidates, Ragged
from honeyguide.errors import DataError
from honeyguide.kernels.tiles import TILE, tiles_topk
from honeyguide.retrieval.signals import blank, in_ranges

__all__ = ["ExactTopK", "one_blas_thread"]

_PROBES = 128
_WORTH = 0.95
"""Share of the products above which leaving early is not worth looking for."""
_lock = threading.Lock()
_inside = 0


class ExactTopK:
    """Items by factors (items, d), asked with people (n, d): best dot product first, ties to the lower row.

    Items stand by falling norm in tiles of 1,024, and a person leaves once |u| x the next tile's norm cannot beat the
    k-th score. What that saves hangs on the spread of the norms, so `measured` asks a sample: `share` is the part of
    the products that was needed, and where it is nearly all of them the search goes on without the test.
    Price: the factors twice more; 2 x items x d x share operations a person through BLAS, some 20 to 50 microseconds
    at 41,000 items and d = 64. The answer of a person is the same alone and among others, to the last bit.
    """

    def __init__(self, factors: F32, share: float | None = None) -> None:
        """`share`: as `measured` found it; None = look for an early end. Raises DataError for factors that are not
        finite numbers."""
        self.factors = np.ascontiguousarray(factors, np.float32)
        n, d = self.factors.shape
        norms = np.linalg.norm(self.factors, axis=1).astype(np.float32)
        if not np.isfinite(norms).all():
            raise DataError(
                expected="factors of finite numbers", got=f"{int((~np.isfinite(norms)).sum())} rows that are none",
                do="Fit again with more regularisation.",
            )  # fmt: skip
        self._order = np.argsort(-norms, kind="stable").astype(np.int32)
        self._norms = norms[self._order]
        self._place = np.empty(n, np.int32)
        self._place[self._order] = np.arange(n, dtype=np.int32)
        tiles = -(-n // TILE)
        padded = np.zeros((tiles * TILE, d), np.float32)
        padded[:n] = self.factors[self._order]
        self._tiles = np.ascontiguousarray(padded.reshape(tiles, TILE, d).transpose(0, 2, 1))
        self.share = 0.0 if share is None else share

    @classmethod
    def measured(cls, factors: F32, people: F32, k: int = 20) -> ExactTopK:
        """The search after trying a sample of `people` (n, d): deterministic, for it counts products, not seconds."""
        index = cls(factors)
        index.share = index.needed(people[:: max(len(people) // _PROBES, 1)][:_PROBES], k)
        return index

    def needed(self, people: F32, k: int = 20) -> float:
        """The share of (person, tile) products that these people need; 1 = all."""
        asked = np.ascontiguousarray(people[(people != 0).any(axis=1)], np.float32)
        if not len(asked) or not len(self._tiles):
            return 1.0
        products = self._search(asked, blank(len(asked), k), Ragged.empty(len(asked)), prune=True)
        return products / (len(asked) * len(self._tiles))

    def search(self, people: F32, k: int, exclude: Ragged | None = None) -> Candidates:
        """The best `k` rows for each of people (n, d); nothing for somebody whose vector is 0.

        exclude: rows not to be returned, by person. Memory: the answer and a block of products per thread, however
        many people ask.
        """
        asked = np.ascontiguousarray(people, np.float32)
        if asked.ndim != 2 or asked.shape[1] != self.factors.shape[1]:
            raise DataError(
                expected=f"people with {self.factors.shape[1]} dimensions", got=f"an array {asked.shape}",
                do="Ask with vectors of the model that made the factors.",
            )  # fmt: skip
        out = blank(len(asked), k)
        barred = exclude if exclude is not None else Ragged.empty(len(asked))
        if len(barred) != len(asked):
            raise DataError(
                expected=f"one row of exclusions for each of {len(asked)} people", got=f"{len(barred)} rows",
                do="Pass exclude by person, empty where there is nothing to exclude.",
            )  # fmt: skip
        self._search(asked, out, barred, prune=self.share < _WORTH)
        return out

    def _search(self, people: F32, out: Candidates, exclude: Ragged, *, prune: bool) -> int:
        rows = np.ascontiguousarray(exclude.values, np.int32)
        with one_blas_thread():
            return sum(
                in_ranges(
                    len(people),
                    lambda start, stop: tiles_topk(
                        start, stop, people, self.factors, self._tiles, self._norms, self._order, exclude.indptr,
                        rows, self._place, prune, out.items, out.scores,
                    ),
                    least=1_024,
                )
            )  # fmt: skip


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Hold BLAS to one thread while threads of our own call it; nothing happens where it is not OpenBLAS."""
    global _inside
    with _lock:
        _inside += 1
        if _inside == 1:
            for _, get, put in _libraries():
                _before.append((put, int(get())))
                put(1)
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if not _inside:
                for put, threads in _before:
                    put(threads)
                _before.clear()


_before: list[tuple[Any, int]] = []


@cache
def _libraries() -> list[tuple[str, Any, Any]]:
    """The OpenBLAS libraries that numpy and scipy brought, with the calls that read and set their threads."""
    import scipy

    found = []
    for package in (np, scipy):
        root = Path(package.__path__[0])
        for place in (root.parent / f"{root.name}.libs", root / ".dylibs"):
            for path in sorted(place.glob("*openblas*")):
                library = ctypes.CDLL(str(path))
                for prefix in ("scipy_openblas", "openblas"):
                    for suffix in ("64_", ""):
                        if hasattr(library, f"{prefix}_set_num_threads{suffix}"):
                            get = getattr(library, f"{prefix}_get_num_threads{suffix}")
                            put = getattr(library, f"{prefix}_set_num_threads{suffix}")
                            found.append((str(path), get, put))
    return found
