"""`bench towers`: how many lessons two towers learn from in a processor second, and what comes of it.

Gowalla has no times: within a person events are put in a random order, so that "before" means nothing it should not.
A lesson is an event with the ten before it, d = 64, 512 in a batch, softmax over the batch with logQ and hard items.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from honeyguide.flows.bench.retrieval_data import Folder
from honeyguide.flows.bench.rows import row
from honeyguide.flows.bench.sequence_data import data_folder
from honeyguide.retrieval.deep.config import TowersConfig, installed
from honeyguide.retrieval.deep.towers import Towers
from honeyguide.retrieval.tune import quality

__all__ = ["run"]

_PEER = {
    "peer": 84_000.0,
    "peer_name": "PyTorch with sparse gradients, an earlier probe",
}
_BUDGET_S = 60.0


def run(data: Path | None) -> tuple[list[dict[str, Any]], list[str]]:
    """One training of `_BUDGET_S` on the train part; the test part is read once."""
    folder = data_folder(data) / "gowalla-lightgcn"
    if not installed():
        return [], ["towers: needs the extra `deep` (`pip install 'honeyguide[deep]'`)"]
    if not (folder / "interactions.parquet").exists():
        return [], [f"towers: no {folder}"]
    read = Folder.read(folder)
    train = read.events(0, 1)
    train = train.take(np.random.default_rng(0).permutation(len(train)))
    train = replace(train, at=np.arange(len(train), dtype=np.int64) * 1_000_000)
    source = Towers(TowersConfig(d=64, batch=512, clock=False, budget_cpu_s=_BUDGET_S)).fit(train, read.catalog)
    figures = source.figures
    rate = figures["examples"] / figures["learning_cpu_s"]
    asked = read.ask((0, 1), 2)
    found = quality(source.retrieve(asked.queries, 20), asked.relevant)
    case = "gowalla-d64-b512"
    return [
        row("towers", case, "examples_per_cpu_s", "1/s", rate, **_PEER, ratio=rate / 84_000.0),
        row("towers", case, "recall@20", "share", found.recall_20),
        row("towers", case, "fit_cpu_s", "s", figures["cpu_s"]),
        row("towers", case, "peak_mb", "MB", figures["peak_mb"]),
    ], []
