"""An epoch of implicit ALS on gowalla: both half epochs, three conjugate gradient steps a row, one thread.

implicit runs the same: its own kernel, the same number of steps (its constant), the same factors to begin with. The
two minimise the same loss up to how they weigh regularisation, which costs neither of them anything.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from honeyguide.flows.bench.retrieval_data import Folder
from honeyguide.flows.bench.rows import REPEATS, row
from honeyguide.kernels.factors import als_rows
from honeyguide.retrieval.signals import signals

__all__ = ["run"]

DATASET, SIZES = "gowalla-lightgcn", (64, 128)
_STEPS = 3


def run(data: Path | None) -> tuple[list[dict[str, Any]], list[str]]:
    """Rows `gowalla-d64` and `gowalla-d128`: processor seconds of an epoch, the least of five beside implicit's."""
    return elsewhere("als", data)


def elsewhere(name: str, data: Path | None) -> tuple[list[dict[str, Any]], list[str]]:
    """A benchmark's `child(folder)` in a process with one BLAS thread: its rows, or a line for what is missing."""
    root = data or Path(os.environ.get("HONEYGUIDE_BENCH_DATA", "../shared/data"))
    folder = root if (root / "interactions.parquet").exists() else root / DATASET
    if not (folder / "interactions.parquet").exists():
        return [], [f"{name}: no {folder}/interactions.parquet"]
    code = f"from honeyguide.flows.bench import {name} as b; b.child({str(folder)!r})"
    found = subprocess.run(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, check=True,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
    )  # fmt: skip
    rows, missing = msgspec.json.decode(found.stdout, type=tuple[list[dict[str, Any]], list[str]])
    return rows, missing


def child(folder: str) -> None:
    """Measure, and print rows and what is missing as JSON."""
    events = signals(Folder.read(Path(folder)).events(0, 1), other=0.0, use_weights=False)
    by_user, by_item = events.pairs()
    missing: list[str] = []
    try:
        from implicit.cpu._als import least_squares_cg as theirs
    except ImportError:
        theirs = None
        missing.append("implicit is not installed (pip install 'honeyguide[bench]').")
    rows = []
    for d in SIZES:
        rng = np.random.default_rng(0)
        start = rng.normal(0.0, 0.1 / np.sqrt(d), (events.n_items, d)).astype(np.float32)
        ours, peer = [], []
        for repeat in range(REPEATS + 1):  # the first compiles
            people, items = np.zeros((events.n_users, d), np.float32), start.copy()
            begun = time.process_time()
            for pairs, given, out in ((by_user, items, people), (by_item, people, items)):
                gram = (np.float32(0.002) * (given.T @ given)).astype(np.float32)
                ridge = np.ones(len(out), np.float32)
                indptr = pairs.indptr.astype(np.int64)
                als_rows(0, len(out), indptr, pairs.indices, pairs.data, given, gram, ridge, _STEPS, out)
            if repeat:
                ours.append(time.process_time() - begun)
            if theirs is not None:
                by_row, by_column = by_user.tocsr(), by_user.T.tocsr()
                people, items = np.zeros((events.n_users, d), np.float32), start.copy()
                begun = time.process_time()
                theirs(by_row, people, items, 0.01, num_threads=1, cg_steps=_STEPS)
                theirs(by_column, items, people, 0.01, num_threads=1, cg_steps=_STEPS)
                if repeat:
                    peer.append(time.process_time() - begun)
        told: dict[str, Any] = {}
        if peer:
            told = {"peer": statistics.median(peer), "peer_name": "implicit, conjugate gradients"}
            told["ratio"] = statistics.median(ours) / told["peer"]
        rows.append(row("als", f"gowalla-d{d}", "epoch_cpu_s", "s", statistics.median(ours), **told))
    sys.stdout.buffer.write(msgspec.json.encode((rows, missing)))
