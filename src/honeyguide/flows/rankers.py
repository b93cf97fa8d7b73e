"""Rankers of a workspace: fitted from its training set, and read again with whatever parts they have."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from honeyguide.contracts import Progress
from honeyguide.flows.config import WorkspaceConfig
from honeyguide.ranking.fit import fit_heads
from honeyguide.ranking.linear import LinearFamily
from honeyguide.ranking.models import Family
from honeyguide.ranking.ranker import HeadsRanker
from honeyguide.ranking.rows import Rows
from honeyguide.ranking.trees import TreesFamily

__all__ = ["fit_ranker", "load_ranker", "reliability"]


def fit_ranker(
    config: WorkspaceConfig, columns: Sequence[str], rows: Rows, *, segments: int = 0, threads: int = 2,
    progress: Progress | None = None,
) -> HeadsRanker:  # fmt: skip
    """All heads of a configuration, each with the kind of model that serves it best."""
    return fit_heads(
        config.ranker, config.heads, families_of(config, threads), columns, rows, segments=segments, seed=config.seed,
        progress=progress,
    )  # fmt: skip


def families_of(config: WorkspaceConfig, threads: int) -> list[Family]:
    """The kinds of models that are fitted here from features alone."""
    found: list[Family] = []
    for kind in config.ranker.kinds:
        if kind == "linear":
            found.append(LinearFamily())
        elif kind == "trees":
            # The library that fits is not imported above: a process that serves imports this module too.
            from honeyguide.engines.trees.catboost_trees import CatBoostTrees

            found.append(TreesFamily(CatBoostTrees(), threads=threads, seed=config.seed))
    return found


def load_ranker(folder: Path, columns: Sequence[str] | None = None) -> HeadsRanker:
    """What a build saved, with its parts."""
    return HeadsRanker.load(folder, columns)


def reliability(ranker: HeadsRanker) -> list[dict[str, Any]]:
    """Reliability curves on the newest rows of each head, which it neither learnt nor was calibrated on."""
    return [{"head": report.name, "points": report.curve} for report in ranker.reports if report.on and report.curve]
