"""`bench vectors`: nearest among 200,000 vectors, all of them and under filters, beside raw FAISS and hnswlib.

Vectors lie around a thousand centres, of unit length, with the questions drawn alike: as embeddings do, other than
points without any structure, for which no index beats reading them all by much. A filter lets 5 % through by chance.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from honeyguide.contracts import F32, I64, BoolArray
from honeyguide.engines.vectors.config import VectorsConfig
from honeyguide.engines.vectors.index import Vectors, build_vectors
from honeyguide.flows.bench.rows import row

__all__ = ["run"]

ROWS, DIMENSIONS, CENTRES, QUERIES = 200_000, 128, 1_000, 1_000
_K = 10
_SHARE = 0.05
_EXACT_QUERIES = 200  # of a search that reads everything
_EFFORT = 128
Ask = Callable[[F32, "BoolArray | None"], Any]


def run(data: Path | None) -> tuple[list[dict[str, Any]], list[str]]:
    """Our kinds of index, and each library on its own with effort 128 (nprobe 32 of 894 lists)."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(CENTRES, DIMENSIONS))

    def drawn(n: int) -> F32:
        points = centres[rng.integers(0, CENTRES, n)] + 0.7 * rng.normal(size=(n, DIMENSIONS))
        return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)

    vectors, queries = drawn(ROWS), drawn(QUERIES)
    allowed = rng.random(ROWS) < _SHARE
    exact = build_vectors(vectors, VectorsConfig(kind="exact"))
    truth = {case: exact.search(queries, _K, allowed=one).items for case, one in _cases(allowed)}
    rows, missing = [], []
    kinds = ("exact", "ivf", "hnsw") if find_spec("faiss") else ("exact",)
    if len(kinds) == 1:
        missing.append("vectors: no FAISS (`pip install 'honeyguide[vectors]'`)")
    for kind in kinds:
        started = time.process_time()
        index = build_vectors(vectors, VectorsConfig(kind=kind))  # type: ignore[arg-type]
        spent = time.process_time() - started
        rows += _measured(kind, _ours(index), queries, allowed, truth)
        rows.append(row("vectors", f"200k-128/{kind}", "build_cpu_s", "s", spent))
    for name, build in (("faiss-ivf", _faiss_ivf), ("faiss-hnsw", _faiss_hnsw), ("hnswlib", _hnswlib)):
        if find_spec("hnswlib" if name == "hnswlib" else "faiss") is None:
            missing.append(f"vectors: the peer {name} is not installed (extra `bench`)")
            continue
        started = time.process_time()
        ask = build(vectors)
        spent = time.process_time() - started
        rows += _measured(name, ask, queries, allowed, truth)
        rows.append(row("vectors", f"200k-128/{name}", "build_cpu_s", "s", spent))
    return rows, missing


def _cases(allowed: BoolArray) -> list[tuple[str, BoolArray | None]]:
    return [("200k-128", None), ("200k-128-filter5", allowed)]


def _measured(kind: str, ask: Ask, queries: F32, allowed: BoolArray, truth: dict[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for case, one in _cases(allowed):
        asked = queries[:_EXACT_QUERIES] if kind == "exact" else queries
        ask(asked[:2], one)
        started = time.process_time()
        found = ask(asked, one)
        spent = time.process_time() - started
        recall = np.mean([np.isin(a, b).mean() for a, b in zip(truth[case], found, strict=False)])
        rows.append(row("vectors", f"{case}/{kind}", "recall@10", "share", float(recall)))
        rows.append(row("vectors", f"{case}/{kind}", "queries_per_cpu_s", "1/s", len(asked) / max(spent, 1e-9)))
    return rows


def _ours(index: Vectors) -> Ask:
    return lambda queries, allowed: index.search(queries, _K, allowed=allowed).items


def _faiss_ivf(vectors: F32) -> Ask:
    import faiss as library

    faiss: Any = library
    faiss.omp_set_num_threads(1)
    lists = round(2 * len(vectors) ** 0.5)
    index = faiss.index_factory(vectors.shape[1], f"IVF{lists},Flat", faiss.METRIC_INNER_PRODUCT)
    index.train(vectors)
    index.add(vectors)

    def ask(queries: F32, allowed: BoolArray | None) -> I64:
        chosen = {} if allowed is None else {"sel": faiss.IDSelectorBatch(np.flatnonzero(allowed))}
        found: I64 = index.search(queries, _K, params=faiss.SearchParametersIVF(nprobe=32, **chosen))[1]
        return found

    return ask


def _faiss_hnsw(vectors: F32) -> Ask:
    import faiss as library

    faiss: Any = library
    faiss.omp_set_num_threads(1)
    index = faiss.IndexHNSWFlat(vectors.shape[1], 32, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = 80
    index.add(vectors)

    def ask(queries: F32, allowed: BoolArray | None) -> I64:
        chosen = {} if allowed is None else {"sel": faiss.IDSelectorBatch(np.flatnonzero(allowed))}
        found: I64 = index.search(queries, _K, params=faiss.SearchParametersHNSW(efSearch=_EFFORT, **chosen))[1]
        return found

    return ask


def _hnswlib(vectors: F32) -> Ask:
    import hnswlib

    index = hnswlib.Index(space="ip", dim=vectors.shape[1])
    index.init_index(max_elements=len(vectors), M=32, ef_construction=80, random_seed=0)
    index.set_num_threads(1)
    index.add_items(vectors)
    index.set_ef(_EFFORT)

    def ask(queries: F32, allowed: BoolArray | None) -> I64:
        keep = None if allowed is None else lambda row: bool(allowed[row])
        found: I64 = index.knn_query(queries, k=_K, num_threads=1, filter=keep)[0].astype(np.int64)
        return found

    return ask
