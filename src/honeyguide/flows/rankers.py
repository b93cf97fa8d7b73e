"""Rankers of a workspace: fitted from its training set, and read again with whatever parts they have."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msgspec import to_builtins

from honeyguide.contracts import Progress
from honeyguide.flows.config import WorkspaceConfig
from honeyguide.flows.deep import DeepData, deep_scores
from honeyguide.flows.render_ranking import contest_sentences
from honeyguide.flows.scorers import LOADERS, scores_of
from honeyguide.ranking.deep.nets import DeepNet
from honeyguide.ranking.fit import fit_heads
from honeyguide.ranking.linear import LinearFamily
from honeyguide.ranking.models import Family
from honeyguide.ranking.ranker import Fitted, HeadsRanker
from honeyguide.ranking.rows import HeadReport, Rows
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
    return [
        {"head": report.name, "points": report.curve, "said": _said(report)}
        for report in ranker.reports if report.on and report.curve
    ]  # fmt: skip


def _said(report: HeadReport) -> list[str]:
    """What a reader of the diagram wants to know: how far off it is beyond chance, and what it was chosen against."""
    told = report.metrics
    error, low, high = (told.get(f"calibration_error{end}") for end in ("", "_low", "_high"))
    lines = [f"{report.model}, calibrated by {report.calibrator}"]
    if error is not None and low is not None and high is not None:
        lines.append(f"calibration error {error:.4f} [{low:.4f}, {high:.4f}], without what chance adds")
    if told.get("ece") is not None and told.get("ece_floor") is not None:
        lines.append(f"ECE {told['ece']:.4f}; chance alone makes {told['ece_floor']:.4f}")
    gain, least, most = (told.get(f"log_loss_logistic_gain{end}") for end in ("", "_low", "_high"))
    if gain is not None and least is not None and most is not None:
        lines.append(f"log loss better than a logistic regression's by {gain:+.4f} [{least:+.4f}, {most:+.4f}]")
    contest = [to_builtins(one) for one in report.contest]
    return lines + contest_sentences({"name": report.name, "contest": contest})


def network_sentences(ranker: HeadsRanker | None) -> list[str]:
    """What the build has to say of the networks that serve."""
    parts = () if ranker is None else ranker.parts
    nets = [part for part in parts if isinstance(part, DeepNet)]
    return [f"network of {', '.join(net.heads)}: {note}" for net in nets for note in net.manifest.notes]
