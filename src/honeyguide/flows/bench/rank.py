"""What it costs to score candidates, and which kind of model serves a head best.

Costs: 500 candidates x 50 features, one thread: trees beside LightGBM's own predict, a network with 4 experts and 3
heads (ids, a history of 50, context) beside PyTorch eager. Quality: each head on MovieLens 1M; trees and deep on
generated impressions where histories decide; what hour, device and surface are worth where they matter, and where not.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from honeyguide.contracts import F32, Ragged, RankInput
from honeyguide.errors import BuildError
from honeyguide.flows.bench.rank_compare import ablations, films, generated
from honeyguide.flows.bench.rows import row
from honeyguide.kernels.trees import ObliviousTrees, fuse, score
from honeyguide.ranking.deep.config import installed
from honeyguide.ranking.deep.nets import DeepNet

__all__ = ["run"]

CANDIDATES, COLUMNS, TREES, DEPTH, HEADS = 500, 50, 300, 6, 3
_CALLS = 300
_HISTORY = 50


def run(data: Path | None) -> tuple[list[dict[str, Any]], list[str]]:
    """All cases; those that need an extra that is not installed are named."""
    rows, missing = trees()
    if not installed():
        return rows, [*missing, "deep rankers: PyTorch and ONNX are not installed (pip install 'honeyguide[deep]')."]
    rows += multitask()
    with tempfile.TemporaryDirectory(prefix="honeyguide-bench-") as work:
        rows += generated(Path(work))
        rows += ablations(Path(work))
        rows += films(data, Path(work))
    return rows, missing


def trees() -> tuple[list[dict[str, Any]], list[str]]:
    """Oblivious trees of random splits, as many and as deep as a head has, beside LightGBM with as many leaves."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(CANDIDATES, COLUMNS)).astype(np.float32)
    fused = fuse([_ensemble(rng) for _ in range(HEADS)])
    ours = p50_ms(lambda: score(fused, features)) / HEADS
    peer, missing = {}, []
    try:
        import lightgbm
    except ImportError:
        missing.append("LightGBM is not installed (pip install 'honeyguide[bench]').")
    else:
        x = rng.normal(size=(5_000, COLUMNS))
        y = (x[:, 0] * x[:, 1] + rng.normal(size=5_000) > 0).astype(int)
        told = {"objective": "binary", "num_leaves": 1 << DEPTH, "num_threads": 1, "verbose": -1, "min_data_in_leaf": 5}
        booster = lightgbm.train(told, lightgbm.Dataset(x, y), num_boost_round=TREES)
        wide = features.astype(np.float64)
        theirs = p50_ms(lambda: booster.predict(wide, num_threads=1))
        peer = {"peer": theirs, "peer_name": "LightGBM predict", "ratio": ours / theirs}
    return [row("rank", "trees-500x50", "cpu_ms_p50", "ms a head", ours, **peer)], missing


def _ensemble(rng: np.random.Generator) -> ObliviousTrees:
    splits = TREES * DEPTH
    return ObliviousTrees(
        COLUMNS, np.full(TREES, DEPTH, np.int32), rng.integers(0, COLUMNS, splits).astype(np.int32),
        rng.choice(np.linspace(-2, 2, 64), splits).astype(np.float32), rng.normal(size=TREES << DEPTH),
        np.zeros(COLUMNS, np.bool_),
    )  # fmt: skip


def multitask() -> list[dict[str, Any]]:
    """A network as the build makes it, from ids to log-odds, beside PyTorch eager over tensors that are there."""
    with tempfile.TemporaryDirectory(prefix="honeyguide-bench-") as place:
        told = [sys.executable, "-m", "honeyguide.ranking.deep.eager", place, str(CANDIDATES), str(COLUMNS)]
        done = subprocess.run(told, capture_output=True, text=True, check=False)
        if done.returncode:
            last = done.stderr.strip().splitlines()[-1:] or ["no message"]
            raise BuildError(expected="a network to measure", got=last[0], do="Check the extra `deep`.")
        eager = float(done.stdout.strip().splitlines()[-1])
        net = DeepNet.load(Path(place))
        request = _request(np.random.default_rng(1).normal(size=(CANDIDATES, COLUMNS)).astype(np.float32))
        ours = p50_ms(lambda: net.raw(request))
    peer = {"peer": eager, "peer_name": "PyTorch eager", "ratio": ours / eager}
    return [row("rank", "multitask-500x50", "cpu_ms_p50", "ms", ours, **peer)]


def _request(features: F32) -> RankInput:
    rng, n = np.random.default_rng(2), len(features)
    return RankInput(
        features=features, request=np.zeros(n, np.int32), items=rng.integers(0, 10_000, n).astype(np.int32),
        users=np.zeros(1, np.int32), at_us=np.array([10**15]),
        histories=Ragged(np.array([0, _HISTORY]), rng.integers(0, 10_000, _HISTORY).astype(np.int32)),
        history_at=np.arange(_HISTORY) * 10**12, history_weights=np.ones(_HISTORY, np.float32),
        history_values=np.ones(_HISTORY, np.float32), seeds=Ragged.empty(1), context={"device": np.array([2])},
    )  # fmt: skip


def p50_ms(call: Callable[[], Any]) -> float:
    """Median processor time of a call, after some to warm up."""
    took = []
    for n in range(_CALLS):
        started = time.thread_time()
        call()
        if n >= _CALLS // 10:
            took.append(time.thread_time() - started)
    return statistics.median(took) * 1e3
