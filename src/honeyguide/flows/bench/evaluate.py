"""What it costs to judge a million lists."""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from honeyguide.evaluation.judged import Units, judge, summarise
from honeyguide.evaluation.metrics import MAP, MRR, HitRate, Precision, Recall, nDCG
from honeyguide.flows.bench.rows import REPEATS, row
from honeyguide.testing.metrics import judged_case

__all__ = ["million", "run"]


def run(data: Path | None) -> tuple[list[dict[str, Any]], list[str]]:
    """A million people x top 20, in a process of its own so that its peak memory is its own."""
    found = subprocess.run(
        [sys.executable, "-c", "from honeyguide.flows.bench.evaluate import million; million()"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    figures = msgspec.json.decode(found.stdout, type=dict[str, float])
    units = {"wall_s": "s", "cpu_s": "s", "peak_mb": "MB"}
    return [row("evaluate", "1m-users", name, unit, figures[name]) for name, unit in units.items()], []


def million() -> None:
    """Judge a million lists five times; print the medians as JSON."""
    ranked, relevant = judged_case(1_000_000, 20, n_items=50_000)[:2]
    metrics = (nDCG(10), Recall(20), HitRate(10), MAP(10), MRR(10), Precision(10))
    people = np.arange(len(ranked))
    judge(ranked[:1000], _head(relevant, 1000), metrics)
    wall, cpu = [], []
    for _ in range(REPEATS):
        started, spent = time.perf_counter(), time.process_time()
        summarise(judge(ranked, relevant, metrics), Units.of(people), protocol="bench", system="random")
        wall.append(time.perf_counter() - started)
        cpu.append(time.process_time() - spent)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(msgspec.json.encode({"wall_s": min(wall), "cpu_s": statistics.median(cpu), "peak_mb": peak}).decode())


def _head(relevant: Any, n: int) -> Any:
    return type(relevant)(relevant.indptr[: n + 1], relevant.values[: relevant.indptr[n]])
