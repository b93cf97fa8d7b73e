"""Rankers of a workspace: fitted from its training set, and read again with whatever parts they have."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from honeyguide.contracts import Progress
from honeyguide.flows.config import WorkspaceConfig
from honeyguide.flows.deep import DeepData, deep_scores
from honeyguide.flows.scorers import LOADERS, scores_of
from honeyguide.ranking.deep.nets import DeepNet
from honeyguide.ranking.fit import fit_heads
from honeyguide.ranking.linear import LinearFamily
from honeyguide.ranking.models import Family
from honeyguide.ranking.ranker import Fitted, HeadsRanker
from honeyguide.ranking.rows import Rows
from honeyguide.ranking.trees import TreesFamily
from honeyguide.schema.vocabulary import Vocabulary

__all__ = ["fit_ranker", "load_ranker", "network_sentences", "reliability"]


def fit_ranker(
    config: WorkspaceConfig, columns: Sequence[str], rows: Rows, users: Vocabulary, items: Vocabulary, *,
    root: Path = Path(), segments: int = 0, threads: int = 2, progress: Progress | None = None,
    more: Sequence[Fitted] = (), data: DeepData | None = None,
) -> HeadsRanker:  # fmt: skip
    """All heads of a configuration, each with the kind of model that serves it best. root: where scorers' files lie.
    more: heads that were fitted otherwise. data: what a deep ranker learns from, where one is configured."""
    given = {name: list(of) for name, of in scores_of(config.heads, root, columns, rows, users, items).items()}
    if "deep" in config.ranker.kinds and data is not None:
        found = deep_scores(config, columns, rows, data, n_items=len(items), n_users=len(users), progress=progress)
        for name, one in found.items():
            given.setdefault(name, []).append(one)
    return fit_heads(
        config.ranker, config.heads, families_of(config, threads), columns, rows, given=given, segments=segments,
        seed=config.seed, progress=progress, more=more,
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
    return HeadsRanker.load(folder, columns, loaders=LOADERS)


def reliability(ranker: HeadsRanker) -> list[dict[str, Any]]:
    """Reliability curves on the newest rows of each head, which it neither learnt nor was calibrated on."""
    return [{"head": report.name, "points": report.curve} for report in ranker.reports if report.on and report.curve]


def network_sentences(ranker: HeadsRanker | None) -> list[str]:
    """What the build has to say of the networks that serve."""
    parts = () if ranker is None else ranker.parts
    nets = [part for part in parts if isinstance(part, DeepNet)]
    return [f"network of {', '.join(net.heads)}: {note}" for net in nets for note in net.manifest.notes]
