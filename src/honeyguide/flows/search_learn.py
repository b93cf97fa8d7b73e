"""What judged queries, or clicks, teach about ranking hits: learnt by folds of queries, served where it pays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from honeyguide.contracts import F32, F64, I32, Progress
from honeyguide.flows.search_config import SearchRankingConfig
from honeyguide.flows.search_tune import graded_ndcg
from honeyguide.flows.searching import Finder, Learnt
from honeyguide.kernels import trees as tree_kernel
from honeyguide.ranking.search import COLUMNS, Candidates, Person, features, folds_of, learn
from honeyguide.retrieval.hybrid import learn_shares, query_type

__all__ = ["Lesson", "Trial", "interval", "learn_ranking", "trials"]

LEAST_CANDIDATES = 2


@dataclass(frozen=True)
class Lesson:
    """Queries with what is known of the worth of items: grades, 0 none. `rows[i]` ascend."""

    queries: Sequence[str]
    rows: Sequence[I32]
    grades: Sequence[F32]
    source: str  # "judgments" or "clicks"
    weights: Sequence[F32] | None = None  # how much each grade is to be believed
    people: Sequence[Person | None] | None = None  # who asked


@dataclass(frozen=True)
class Trial:
    """Held-out rankings by query: rows in order, of words alone, of words and meaning, of trees; and their nDCG@10."""

    lexical: list[I32]
    hybrid: list[I32]
    learnt: list[I32]
    ndcg: dict[str, F64]


def collected(finder: Finder, lesson: Lesson, progress: Progress | None = None) -> list[Candidates]:
    """The candidates of every query."""
    found = []
    for done, query in enumerate(lesson.queries):
        if progress is not None and done % 100 == 0:
            progress("candidates of search", done, len(lesson.queries))
        found.append(finder.candidates(query, finder.index.search(query, finder.learnt.candidates)))
    return found


def trials(
    finder: Finder, lesson: Lesson, config: SearchRankingConfig, *, seed: int = 0, progress: Progress | None = None
) -> Trial:
    """Every query ranked by what the other folds taught; a fold holds whole queries."""
    found = collected(finder, lesson, progress)
    matrices = _matrices(finder, lesson, found)
    labels = _labels(lesson, found)
    folds = folds_of(lesson.queries, config.folds, seed)
    lexical = [one.rows[np.lexsort((one.rows, -(one.lexical + one.is_title * 1e6)))] for one in found]
    lexical = [rows[: int((one.lexical > 0).sum())] for rows, one in zip(lexical, found, strict=True)]
    hybrid: list[I32] = [np.zeros(0, np.int32)] * len(found)
    learnt: list[I32] = [np.zeros(0, np.int32)] * len(found)
    for fold in range(config.folds):
        if progress is not None:
            progress("ranking of search", fold, config.folds)
        inside, outside = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        shares = _shares(finder, [found[at] for at in inside], [labels[at] for at in inside], _part(lesson, inside))
        model = _fit(matrices, labels, lesson, inside, config, seed)
        for at in outside.tolist():
            one = found[at]
            mixed = _mixed(finder, one, shares)
            hybrid[at] = one.rows[np.lexsort((one.rows, -mixed))]
            learnt[at] = one.rows[np.lexsort((one.rows, -tree_kernel.score(model, matrices[at])[:, 0]))]
    if progress is not None:
        progress("ranking of search", config.folds, config.folds)
    lists = {"lexical": lexical, "hybrid": hybrid, "ltr": learnt}
    return Trial(
        lexical, hybrid, learnt,
        {name: graded_ndcg(ranked, lesson.rows, lesson.grades) for name, ranked in lists.items()},
    )  # fmt: skip


def learn_ranking(
    finder: Finder, lesson: Lesson, config: SearchRankingConfig, folder: Path, *, seed: int = 0,
    progress: Progress | None = None,
) -> Learnt:  # fmt: skip
    """Judge words, blend and trees by folds, learn the best of them on all queries and write it; off where none pays.

    What is served beats the order of words by an interval of paired differences whose low end is above 0.
    """
    asked = len(set(lesson.queries))
    if asked < config.least_queries:
        return _kept(folder, Learnt(reason=f"{asked} queries with {lesson.source}; {config.least_queries} are needed"))
    judged = trials(finder, lesson, config, seed=seed, progress=progress)
    report: dict[str, Any] = {"source": lesson.source, "queries": asked, "ndcg@10": {}, "gain": {}}
    for name, values in judged.ndcg.items():
        report["ndcg@10"][name] = round(float(values.mean()), 5)
        if name != "lexical":
            report["gain"][name] = [round(one, 5) for one in interval(values - judged.ndcg["lexical"])]
    best = max(report["gain"], key=lambda name: report["gain"][name][1])
    mean, low, high = report["gain"][best]
    told = f"{mean:+.4f} ({low:+.4f} to {high:+.4f}) nDCG@10 over words alone, on {asked} queries held out by folds"
    if low <= 0:
        return _kept(folder, Learnt(reason=f"off: {best} brings {told}", report=report))
    found = collected(finder, lesson)
    labels = _labels(lesson, found)
    shares = _shares(finder, found, labels, lesson)
    fused = None
    if best == "ltr":
        matrices = _matrices(finder, lesson, found)
        model = _learnt(matrices, labels, lesson, np.arange(len(found)), config, seed)
        report["importance"] = dict(zip(COLUMNS, np.round(model.importance(), 4).tolist(), strict=True))
        fused = tree_kernel.fuse([model.arrays()])
    return _kept(folder, Learnt(True, f"{best} brings {told}", config.candidates, shares, report, fused))


def interval(differences: F64, draws: int = 2_000) -> tuple[float, float, float]:
    """Mean of values by query, and the ends of its 95 % interval by a bootstrap over queries with a fixed seed."""
    if not len(differences):
        return float("nan"), float("nan"), float("nan")
    rng = np.random.default_rng(0)
    means = np.array([differences[rng.integers(0, len(differences), len(differences))].mean() for _ in range(draws)])
    low, high = np.quantile(means, [0.025, 0.975])
    return float(differences.mean()), float(low), float(high)


def _kept(folder: Path, learnt: Learnt) -> Learnt:
    Learnt.write(
        folder,
        {"on": learnt.on, "reason": learnt.reason, "candidates": learnt.candidates, "shares": learnt.shares,
         "report": learnt.report},
        learnt.trees,
    )  # fmt: skip
    return learnt


def _matrices(finder: Finder, lesson: Lesson, found: Sequence[Candidates]) -> list[F32]:
    people = lesson.people or [None] * len(found)
    return [features(one, finder.facts, person) for one, person in zip(found, people, strict=True)]


def _labels(lesson: Lesson, found: Sequence[Candidates]) -> list[F32]:
    return [
        _looked_up(one.rows, rows, grades) for one, rows, grades in zip(found, lesson.rows, lesson.grades, strict=True)
    ]


def _looked_up(wanted: I32, rows: I32, values: F32, missing: float = 0.0) -> F32:
    """Values by row, `missing` for rows that are not among them."""
    if not len(rows):
        return np.full(len(wanted), missing, np.float32)
    place = np.minimum(np.searchsorted(rows, wanted), len(rows) - 1)
    return np.where(rows[place] == wanted, values[place], np.float32(missing)).astype(np.float32)


def _part(lesson: Lesson, which: np.ndarray) -> Lesson:
    return replace(
        lesson, queries=[lesson.queries[at] for at in which], rows=[lesson.rows[at] for at in which],
        grades=[lesson.grades[at] for at in which],
        weights=None if lesson.weights is None else [lesson.weights[at] for at in which],
        people=None if lesson.people is None else [lesson.people[at] for at in which],
    )  # fmt: skip


def _shares(finder: Finder, found: Sequence[Candidates], labels: Sequence[F32], lesson: Lesson) -> dict[str, float]:
    if not finder.meaning:
        return {}
    gains = [np.exp2(label) - 1 for label in labels]
    discount = 1 / np.log2(np.arange(10) + 2)
    ideal = [float(np.sort(np.exp2(one) - 1)[::-1][:10] @ discount[: min(10, len(one))]) for one in lesson.grades]
    types = [query_type(one.words, title=bool(one.is_title.any())) for one in found]
    # The whole title stands above all in the blend, so it does here.
    words = [(one.lexical + one.is_title * 1e-6).astype(np.float32) for one in found]
    return learn_shares(types, words, [one.dense for one in found], gains, ideal)


def _mixed(finder: Finder, one: Candidates, shares: dict[str, float]) -> F64:
    from honeyguide.retrieval.hybrid import blended

    share = shares.get(query_type(one.words, title=bool(one.is_title.any())), 0.0)
    return blended(one.lexical, one.dense, share) + one.is_title


def _learnt(
    matrices: Sequence[F32], labels: Sequence[F32], lesson: Lesson, which: np.ndarray, config: SearchRankingConfig,
    seed: int,
) -> Any:  # fmt: skip
    # The library that fits is not imported above: a process that serves imports this module too.
    from honeyguide.engines.trees.catboost_trees import CatBoostConfig, CatBoostTrees

    engine = CatBoostTrees(CatBoostConfig(rank_loss=config.loss))
    return learn(
        engine, [matrices[at] for at in which], [labels[at] for at in which], trees=config.trees, depth=config.depth,
        seed=seed,
    )  # fmt: skip


def _fit(
    matrices: Sequence[F32], labels: Sequence[F32], lesson: Lesson, which: np.ndarray, config: SearchRankingConfig,
    seed: int,
) -> tree_kernel.FusedTrees:  # fmt: skip
    return tree_kernel.fuse([_learnt(matrices, labels, lesson, which, config, seed).arrays()])
