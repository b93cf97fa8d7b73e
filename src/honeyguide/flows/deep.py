"""The deep ranker of a workspace: what it learns from, and its scores of the rows by which kinds of models compete."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from honeyguide.contracts import I64, BoolArray, Interactions, Progress
from honeyguide.engines.tasks.steps import code_fingerprint, fingerprint
from honeyguide.flows.config import WorkspaceConfig
from honeyguide.flows.rank_input import of_rows
from honeyguide.flows.showings import Shown
from honeyguide.ranking.deep.config import chain, require_installed
from honeyguide.ranking.deep.fit import Lesson, fit_nets
from honeyguide.ranking.models import Given
from honeyguide.ranking.rows import Rows
from honeyguide.ranking.split import split_by_time

__all__ = ["DeepData", "deep_scores"]


@dataclass(frozen=True)
class DeepData:
    """What a deep ranker learns from beside the rows of all heads. work: where a training that was killed goes on."""

    full: Interactions
    shown: Shown | None
    work: Path


def deep_scores(
    config: WorkspaceConfig, columns: Sequence[str], rows: Rows, data: DeepData, *, n_items: int, n_users: int,
    progress: Progress | None = None,
) -> dict[str, Given]:  # fmt: skip
    """By head that could be learnt: the network, and its scores of the rows that are held out.

    Raises MissingExtraError without the extra `deep`, and as `fit_nets` does.
    """
    require_installed()
    chain(config.heads)
    deep = config.ranker.deep
    history = min(config.surface("home").history, deep.sequence)
    given, order, position = of_rows(rows, data.full, data.shown, history=history, context=deep.context)
    learn, stop = parts_of(config, rows)
    unit = np.arange(len(rows.at)) if rows.unit is None else rows.unit
    lesson = Lesson(given, rows.labels[order], learn[order], stop[order], unit[order], position)
    work = data.work / "deep" / _key(config, columns, lesson)
    work.mkdir(parents=True, exist_ok=True)
    trained = fit_nets(
        deep, config.heads, columns, lesson, work, n_items=n_items, n_users=n_users, seed=config.seed,
        min_rows_per_class=config.ranker.min_rows_per_class, progress=progress,
    )  # fmt: skip
    found = {}
    for net in trained.nets:
        for name in net.heads:
            place = [head.name for head in config.heads].index(name)
            scores = np.full(len(rows.at), np.nan)
            scores[order] = trained.raw[:, place]
            found[name] = Given(net, scores, {}, int(net.manifest.figures["parameters"]))
    return found


def parts_of(config: WorkspaceConfig, rows: Rows) -> tuple[BoolArray, BoolArray]:
    """Which rows each head learns from and stops on, (n, heads) each: those that every kind of model does."""
    ranker = config.ranker
    learn, stop = np.zeros(rows.labels.shape, np.bool_), np.zeros(rows.labels.shape, np.bool_)
    for place, head in enumerate(config.heads):
        known = ~np.isnan(rows.labels[:, place])
        if head.scorer is not None:
            continue
        if rows.told is not None:
            known &= rows.told[:, place] >= 1.0
        if head.kind == "rank":
            if rows.group is None:
                continue
            parts = split_by_time(known & (rows.group >= 0), rows.at, rows.group, (ranker.rank_share,) * 3)
        else:
            shares = (ranker.stop_share, ranker.calibrate_share, ranker.test_share)
            parts = split_by_time(known, rows.at, None, shares)
        learn[parts.fit, place] = True
        stop[parts.stop, place] = True
    return learn, stop


def _key(config: WorkspaceConfig, columns: Sequence[str], lesson: Lesson) -> str:
    """Names a training by all that decides it."""
    digest = hashlib.blake2b(digest_size=16)
    given = lesson.given
    arrays: list[np.ndarray | I64] = [
        given.features, given.request, given.items, given.users, given.at_us, given.histories.indptr,
        given.histories.values, given.history_values, given.history_weights, given.seeds.indptr, given.seeds.values,
        lesson.labels, lesson.learn, lesson.stop, *_values(given.context),
    ]  # fmt: skip
    for array in arrays:
        digest.update(np.ascontiguousarray(array).data)
    told = [config.ranker.deep.model_dump(), [head.model_dump() for head in config.heads], config.seed, list(columns)]
    return fingerprint([digest.hexdigest(), told, code_fingerprint()])


def _values(context: Mapping[str, I64]) -> list[I64]:
    return [context[name] for name in sorted(context)]
