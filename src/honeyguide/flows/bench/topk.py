"""The exact best 20 of 40,981 items for every person of gowalla by factors, d = 64, seen items masked, one thread."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from scipy import sparse

from honeyguide.flows.bench.als import elsewhere
from honeyguide.flows.bench.retrieval_data import Folder
from honeyguide.flows.bench.rows import REPEATS, row
from honeyguide.retrieval.exact import ExactTopK
from honeyguide.retrieval.factors import ALS, ALSConfig
from honeyguide.retrieval.signals import HistoryConfig, TrendConfig

__all__ = ["run"]

CONFIG = ALSConfig(
    d=64, unobserved=5.0, reg=0.03, epochs=6, history=HistoryConfig(newest=10_000, use_weights=False),
    trend=TrendConfig(window_days=0.0),
)  # fmt: skip
K = 20


def run(data: Path | None) -> tuple[list[dict[str, Any]], list[str]]:
    """Rows `gowalla-d64`: people per processor second, the share of the products that was needed, and implicit's."""
    return elsewhere("topk", data)


def child(folder: str) -> None:
    """Measure, and print rows and what is missing as JSON."""
    data = Folder.read(Path(folder))
    model = ALS(CONFIG).fit(data.events(0, 1), data.catalog, seed=0)
    asked = data.ask((0, 1), 2)
    people = model.people(asked.queries)
    index = ExactTopK.measured(model.factors, people, K)
    missing: list[str] = []
    ours: list[float] = []
    plain: list[float] = []
    peer: list[float] = []
    without = ExactTopK(model.factors, share=1.0)
    filtered = sparse.csr_matrix(
        (np.ones(len(asked.queries.items), np.float32), asked.queries.items, asked.queries.indptr),
        shape=(len(people), data.n_items),
    )
    try:
        from implicit.cpu.topk import topk as theirs
    except ImportError:
        theirs = None
        missing.append("implicit is not installed (pip install 'honeyguide[bench]').")
    agrees = 1.0
    for repeat in range(REPEATS + 1):  # the first compiles
        for search, times in ((index, ours), (without, plain)):
            begun = time.process_time()
            found = search.search(people, K, asked.queries.exclude)
            if repeat:
                times.append(len(people) / (time.process_time() - begun))
        if theirs is not None:
            begun = time.process_time()
            ids, _ = theirs(model.factors, people, K, filter_query_items=filtered, num_threads=1)
            if repeat:
                peer.append(len(people) / (time.process_time() - begun))
            agrees = float((ids == found.items).mean())
    rows = [row("topk", "gowalla-d64", "users_per_cpu_s", "1/s", float(np.median(ours)))]
    if peer:
        rows[0] |= {
            "peer": float(np.median(peer)),
            "peer_name": "implicit",
            "ratio": float(np.median(ours) / np.median(peer)),
        }
        rows.append(row("topk", "gowalla-d64", "same_as_peer", "share", agrees))
    rows += [
        row("topk", "gowalla-d64", "products_needed", "share", index.needed(people, K)),
        row("topk", "gowalla-d64-plain", "users_per_cpu_s", "1/s", float(np.median(plain))),
    ]
    sys.stdout.buffer.write(msgspec.json.encode((rows, missing)))
