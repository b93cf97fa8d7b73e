"""Which kind of model predicts better, and what the context is worth: the cases of `bench rank` that train."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from honeyguide.contracts import F32, F64, I64
from honeyguide.engines.trees.catboost_trees import CatBoostTrees
from honeyguide.flows.bench.rank_logs import HEADS, ShownLog, contexts, interactions
from honeyguide.flows.bench.rows import row
from honeyguide.flows.bench.serve import bench_workspace
from honeyguide.flows.build import prepare
from honeyguide.flows.config import WorkspaceConfig
from honeyguide.flows.deep import DeepData, deep_scores
from honeyguide.flows.layout import Layout
from honeyguide.flows.live import load_manifest
from honeyguide.flows.rankers import load_ranker
from honeyguide.flows.training import read_rows
from honeyguide.kernels.calibration import auc, log_losses
from honeyguide.kernels.metrics import calibration_error
from honeyguide.ranking.calibrate import calibration_of
from honeyguide.ranking.deep.config import DeepConfig
from honeyguide.ranking.deep.fit import Lesson, Trained, fit_nets
from honeyguide.ranking.fit import fit_heads
from honeyguide.ranking.heads import HeadConfig
from honeyguide.ranking.linear import LinearFamily
from honeyguide.ranking.measure import gain_of
from honeyguide.ranking.models import HeadModel
from honeyguide.ranking.trees import TreesFamily

__all__ = ["ablations", "films", "generated"]

FACTS = ("device", "surface", "hour")
SEEDS = 2


class _Timed:
    """A kind of model, with the processor time that its fits took."""

    def __init__(self, family: TreesFamily) -> None:
        self._family, self.kind, self.cpu_s = family, family.kind, 0.0

    def fit(self, head: HeadConfig, features: F32, label: F32, **more: Any) -> HeadModel:
        """The same, timed."""
        started = time.process_time()
        found = self._family.fit(head, features, label, **more)
        self.cpu_s += time.process_time() - started
        return found


def generated(work: Path) -> list[dict[str, Any]]:
    """Deep against trees where histories and ids decide: both calibrated on the same block, measured on the newest."""
    log = interactions()
    parts = _parts(log.at)
    trained = _trained(log, DeepConfig(), work / "interactions", HEADS)
    rows, of_trees = list[dict[str, Any]](), 0.0
    for place, head in enumerate(HEADS):
        started = time.process_time()
        trees = CatBoostTrees().fit(
            log.given.features[parts[0]], log.labels[parts[0], place], objective="logloss",
            validation=(log.given.features[parts[1]], log.labels[parts[1], place], None), trees=300, threads=1,
        )  # fmt: skip
        of_trees += time.process_time() - started
        y = log.labels[:, place]
        deep = _calibrated(trained.raw[:, place].astype(np.float64), y, parts)
        theirs = _calibrated(trees.predict(log.given.features), y, parts)
        label, unit = y[parts[3]].astype(np.float64), log.unit[parts[3]]
        losses, others = log_losses(deep, label), log_losses(theirs, label)
        mean, low, high = gain_of(others - losses, unit)
        constant = log_losses(np.full(len(label), float(y[parts[0]].mean())), label)
        figures = {
            "auc": ("", auc(deep, label), auc(theirs, label)),
            "log_loss": ("nats", float(losses.mean()), float(others.mean())),
            "log_loss_constant": ("nats", float(constant.mean()), None),
            "ece": ("", calibration_error(deep, label), calibration_error(theirs, label)),
        }
        for metric, (unit_of, mine, peer) in figures.items():
            told = {} if peer is None else {"peer": peer, "peer_name": "trees", "ratio": mine / peer}
            rows.append(row("rank", f"interactions/{head}", metric, unit_of, mine, **told))
        rows += _interval(f"interactions/{head}", "deep_gain", mean, low, high)
    cpu_s = trained.nets[0].manifest.figures["cpu_s"]
    return [*rows, row("rank", "interactions/all", "train_cpu_s", "s", cpu_s, peer=of_trees, peer_name="trees")]


def ablations(work: Path) -> list[dict[str, Any]]:
    """By how much log loss rises without a fact of the context, each fact by itself; the interval resamples people.

    `SEEDS` networks with the fact and as many without are averaged: one network's luck is as large as a small gain.
    """
    rows = []
    for name, matters in (("context-matters", True), ("context-idle", False)):
        log = contexts(matters)
        test = _parts(log.at)[3]
        y, unit = log.labels[test, 0].astype(np.float64), log.unit[test]
        base = DeepConfig(context=("device", "surface"), epochs=6, int8=False, user_dim=1, item_dim=8, sequence=1,
                          units=24, tower=12)  # fmt: skip
        told = {
            "all": base, "device": base.model_copy(update={"context": ("surface",)}),
            "surface": base.model_copy(update={"context": ("device",)}),
            "hour": base.model_copy(update={"clock": False}),
        }  # fmt: skip
        losses = {}
        for case, config in told.items():
            found = [
                _trained(log, config, work / f"{name}-{case}-{seed}", HEADS[:1], seed).raw[test, 0].astype(np.float64)
                for seed in range(SEEDS)
            ]
            losses[case] = log_losses(1.0 / (1.0 + np.exp(-np.mean(found, axis=0))), y)
        for fact in FACTS:
            mean, low, high = gain_of(losses[fact] - losses["all"], unit)
            rows += _interval(f"{name}/{fact}", "log_loss_gain", mean, low, high)
            rows.append(row("rank", f"{name}/{fact}", "claimed", "", float(low is not None and low > 0.0)))
    return rows


def films(data: Path | None, work: Path) -> list[dict[str, Any]]:
    """Every head of MovieLens 1M as the build makes it, with trees, linear models and a deep ranker competing."""
    layout = Layout.open(bench_workspace(data))
    manifest = load_manifest(layout)
    prepared = prepare(layout, lambda what, done, total: None)
    folders = {name: layout.root / place for name, place in manifest.folders.items()}
    columns = load_ranker(folders["ranker"]).columns
    config: WorkspaceConfig = prepared.config.model_copy(
        update={"ranker": prepared.config.ranker.model_copy(update={"kinds": ("trees", "linear", "deep")})}
    )
    users, items = prepared.data.users, prepared.data.catalog.items
    segments = prepared.data.segments
    learnt = read_rows(folders["training"], columns, config.heads, users, items, segments.of_user)
    found = deep_scores(
        config, columns, learnt, DeepData(prepared.data.interactions, None, work), n_items=len(items),
        n_users=len(users),
    )  # fmt: skip
    trees = _Timed(TreesFamily(CatBoostTrees(), threads=1, seed=config.seed))
    ranker = fit_heads(
        config.ranker, config.heads, [trees, LinearFamily()], columns, learnt,
        given={name: [one] for name, one in found.items()}, segments=len(segments.names), seed=config.seed,
    )  # fmt: skip
    spent = {id(one.part): one.part.manifest.figures["cpu_s"] for one in found.values()}  # type: ignore[attr-defined]
    rows = [row("rank", "ml-1m/all", "train_cpu_s", "s", sum(spent.values()), peer=trees.cpu_s, peer_name="trees")]
    for report in ranker.reports:
        case = f"ml-1m/{report.name}"
        for metric in ("auc", "auc_within_group", "log_loss", "log_loss_constant", "log_loss_logistic", "ece",
                       "calibration_error", "ndcg_at_10"):  # fmt: skip
            if report.metrics.get(metric) is not None:
                rows.append(row("rank", case, metric, "", report.metrics[metric]))
        for one in report.contest:
            rows.append(row("rank", case, f"{one.measure}_{one.kind}_validation", "", one.value))
            if not one.chosen:
                rows += _interval(case, f"{report.model}_gain_over_{one.kind}", one.gain, one.low, one.high)
        for kind in ("trees", "linear", "deep"):
            rows.append(row("rank", case, f"served_by_{kind}", "", float(report.model == kind)))
    return rows


def _interval(
    case: str, metric: str, mean: float | None, low: float | None, high: float | None
) -> list[dict[str, Any]]:
    named = ((metric, mean), (f"{metric}_low", low), (f"{metric}_high", high))
    return [row("rank", case, name, "", value) for name, value in named]


def _parts(at: I64) -> tuple[I64, I64, I64, I64]:
    """Rows to learn from, to stop on, to calibrate on and to measure on: later and later."""
    bounds = np.quantile(at, [0.64, 0.72, 0.8])
    part = np.searchsorted(bounds, at, side="right")
    return tuple(np.flatnonzero(part == k) for k in range(4))  # type: ignore[return-value]


def _trained(log: ShownLog, config: DeepConfig, work: Path, heads: Sequence[str], seed: int = 0) -> Trained:
    work.mkdir(parents=True)
    parts = _parts(log.at)
    learn, stop = (np.zeros((len(log.at), len(heads)), np.bool_) for _ in range(2))
    learn[parts[0]], stop[parts[1]] = True, True
    told = [
        HeadConfig(name=name, action=name, given="view", follows=None if name == "click" else "click") for name in heads
    ]
    lesson = Lesson(log.given, log.labels[:, : len(heads)], learn, stop, log.unit, log.position)
    return fit_nets(config, told, log.columns, lesson, work, n_items=log.n_items, n_users=log.n_users, seed=seed)


def _calibrated(raw: F64, label: F32, parts: Sequence[I64]) -> F64:
    found = calibration_of(raw[parts[2]], label[parts[2]], np.ones(len(parts[2])))
    return found.calibrator(raw[parts[3]])
