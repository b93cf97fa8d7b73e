"""FAISS behind a few functions. One thread: requests and pools have their own."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from honeyguide.contracts import F32, I64, BoolArray
from honeyguide.engines.vectors.config import VectorsConfig
from honeyguide.errors import BuildError, MissingExtraError

__all__ = ["build", "efforts", "installed", "read", "search", "write"]


def installed() -> bool:
    """Whether FAISS is there."""
    return find_spec("faiss") is not None


def _faiss() -> Any:
    try:
        import faiss
    except ImportError as error:
        raise MissingExtraError(
            expected="FAISS, by which this index of vectors is searched", got="an installation without it",
            do="Run `pip install 'honeyguide[vectors]'`, or build with kind = \"exact\".",
        ) from error  # fmt: skip
    faiss.omp_set_num_threads(1)
    return faiss


def build(kind: str, vectors: F32, config: VectorsConfig, seed: int) -> Any:
    """An index of the inner product over (m, d)."""
    faiss = _faiss()
    m, d = vectors.shape
    if kind == "hnsw":
        index = faiss.IndexHNSWFlat(d, config.links, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = config.effort
        index.hnsw.rng = faiss.RandomGenerator(seed)
    else:
        lists = min(config.lists or max(1, round(2 * m**0.5)), m)
        centres = faiss.IndexFlatIP(d)
        index = faiss.IndexIVFFlat(centres, d, lists, faiss.METRIC_INNER_PRODUCT)
        index.own_fields = True
        centres.this.disown()
        index.cp.seed, index.cp.niter = seed, 8
        index.cp.max_points_per_centroid, index.cp.min_points_per_centroid = 64, 1
        index.train(vectors)
    index.add(vectors)
    return index


def efforts(kind: str, index: Any) -> list[int]:
    """How much may be read for a question, from little to (ivf) all."""
    if kind == "hnsw":
        return [16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 1024, 2048]
    ladder = np.unique(np.round(np.geomspace(1, index.nlist, 28)).astype(int))
    return [int(step) for step in ladder]


def search(kind: str, index: Any, queries: F32, k: int, effort: int, allowed: BoolArray | None) -> tuple[F32, I64]:
    """(n, k) products and places, -1 where there is none. allowed: (m,) places that may be found."""
    faiss = _faiss()
    chosen = None
    if allowed is not None:
        bits = np.packbits(allowed, bitorder="little")
        chosen = faiss.IDSelectorBitmap(len(allowed), faiss.swig_ptr(bits))
    if kind == "hnsw":
        options = faiss.SearchParametersHNSW(efSearch=max(effort, k), **({"sel": chosen} if chosen else {}))
    else:
        options = faiss.SearchParametersIVF(nprobe=effort, **({"sel": chosen} if chosen else {}))
    scores, places = index.search(np.ascontiguousarray(queries, np.float32), k, params=options)
    return scores, places


def write(index: Any, path: Path) -> None:
    """One file."""
    _faiss().write_index(index, str(path))


def read(path: Path) -> Any:
    """The file, mapped into memory. BuildError if it is none."""
    faiss = _faiss()
    try:
        return faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
    except RuntimeError as error:
        raise BuildError(
            expected=f"an index that FAISS can read in {path}", got=str(error).strip().splitlines()[-1][:160],
            do="Build again.",
        ) from error  # fmt: skip
