"""What a build learns for exploration: how often each item was shown, and what rewards depend on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from honeyguide.contracts import F32, I64
from honeyguide.engines.tasks.steps import StepResult, Steps
from honeyguide.errors import ConfigError
from honeyguide.flows.config import WorkspaceConfig
from honeyguide.flows.pipeline import Pipeline, ranker_columns
from honeyguide.flows.showings import Shown
from honeyguide.flows.training import read_rows
from honeyguide.ranking.heads import HeadConfig
from honeyguide.schema import columns as c
from honeyguide.schema.tables import TRAINING_SET
from honeyguide.schema.vocabulary import Vocabulary
from honeyguide.slate.bandit import LEAST_HITS, LEAST_ROWS, Experience, LearntReward, candidate_facts
from honeyguide.slate.explorer import Explorer

__all__ = ["check_names", "item_facts", "learn", "learn_step", "sentences", "wanted"]

FACTORS = 8
"""Directions of the items' vectors that are kept."""


def wanted(config: WorkspaceConfig) -> tuple[str, ...] | None:
    """Rewards that the surfaces' exploration learns, sorted; None if it looks at nothing that was shown."""
    explored = [surface.slate.explore for surface in config.surfaces.values()]
    if not any(explore.learns or explore.new_share > 0 for explore in explored):
        return None
    return tuple(sorted({explore.reward for explore in explored if explore.learns}))


def check_names(config: WorkspaceConfig) -> None:
    """ConfigError where exploration names a head that there is not, or a floor under one that only ranks."""
    heads = {head.name: head for head in config.heads}
    there = ", ".join(heads) or "none"
    for name, surface in config.surfaces.items():
        explore = surface.slate.explore
        named = [explore.reward] if explore.learns else []
        for head in (*named, *explore.floor_heads):
            if head not in heads:
                raise ConfigError(
                    expected=f"heads of the workspace ({there}) in surfaces.{name}.slate.explore", got=repr(head),
                    do="Mend the name, or add the head.",
                )  # fmt: skip
        for head in explore.floor_heads:
            if heads[head].kind != "probability":
                raise ConfigError(
                    expected=f"heads that give a probability under surfaces.{name}.slate.explore.floor_heads",
                    got=f"{head!r}, which only ranks", do="Use `floor`, which looks at the utility.",
                )  # fmt: skip


def sentences(config: WorkspaceConfig, pipeline: Pipeline, folder: Path | None) -> list[str]:
    """What the build says of each surface's exploration: what was learnt, and where nothing could be."""
    if folder is None:
        return []
    experience = Experience.load(folder)
    said = [
        f"exploration learnt what {one.reward!r} depends on from {one.rows:,} shown slots, {one.hits:,} of them hits"
        for one in experience.rewards.values()
    ]
    for name, surface in config.surfaces.items():
        explorer = Explorer(surface.slate.explore.model_copy(update={"floor_heads": {}}), pipeline.heads, experience)
        said += [f"{name}: {explorer.note}"] if explorer.note else []
    return said


def learn_step(
    steps: Steps, config: WorkspaceConfig, pipeline: Pipeline, users: Vocabulary, shown: Shown | None,
    folders: dict[str, Path], key: dict[str, Any],
) -> StepResult | None:  # fmt: skip
    """The artifact of `learn`, None if no surface wants it. folders: of the build so far, with training and ranker."""
    rewards = wanted(config)
    if rewards is None:
        return None

    def make(folder: Path) -> None:
        learn(config, pipeline, users, shown, folders["training"], rewards).save(folder)

    inputs = {
        **key, "rewards": rewards, "training": folders["training"].name, "ranker": folders["ranker"].name,
        "shown": None if shown is None else shown.fingerprint, "seed": config.seed,
    }  # fmt: skip
    return steps.run("experience", inputs, make)


def learn(
    config: WorkspaceConfig, pipeline: Pipeline, users: Vocabulary, shown: Shown | None, training: Path,
    rewards: Sequence[str],
) -> Experience:  # fmt: skip
    """From the slots of the training set that were shown; what cannot be learnt is told in the notes."""
    n_items = len(pipeline.catalog)
    counts = np.zeros(n_items, np.int64) if shown is None else np.bincount(shown.item, minlength=n_items)
    items = item_facts(counts, pipeline.vectors)
    path = training / f"{TRAINING_SET.name}.parquet"
    if not rewards or not path.exists():
        nothing = [f"{reward!r}: there is no training set, for there are no heads" for reward in rewards]
        return Experience(counts, items, {}, tuple(nothing))
    columns = ranker_columns(pipeline.features, pipeline.blend.asked)
    heads = config.heads
    rows = read_rows(training, columns, heads, users, pipeline.catalog.items, pipeline.segments.of_user)
    was_shown = _shown(path)
    calibrated = [name for name, sure in pipeline.heads.items() if sure]
    at = [list(pipeline.heads).index(name) for name in calibrated]
    found: dict[str, LearntReward] = {}
    notes = []
    for reward in rewards:
        label = _label(rows.labels, heads, reward)
        known = was_shown & ~np.isnan(label)
        hits = int((label[known] == 1.0).sum())
        lacking = _lacking(int(known.sum()), hits)
        if lacking or rows.item is None or rows.unit is None:
            notes.append(f"{reward!r}: {lacking}")
            continue
        part = np.flatnonzero(known & (rows.item >= 0))
        matrix = rows.features[part]
        scores = np.zeros((len(part), 0)) if pipeline.ranker is None else pipeline.ranker.score(matrix)
        facts = candidate_facts(scores, at, rows.item[part], items)
        found[reward] = LearntReward.fit(
            reward, calibrated, facts, label[part].astype(np.float64), rows.unit[part], seed=config.seed
        )
    return Experience(counts, items, found, tuple(notes))


def item_facts(counts: I64, vectors: F32 | None) -> F32:
    """(items, facts): log of the impressions, and the main directions of the items' vectors, where there are any."""
    facts = [np.log1p(counts).astype(np.float32)[:, None]]
    if vectors is not None and len(vectors):
        centred = np.asarray(vectors, np.float64) - np.asarray(vectors, np.float64).mean(0)
        _, axes = np.linalg.eigh(centred.T @ centred)
        main = (centred @ axes[:, ::-1][:, :FACTORS]).astype(np.float32)
        facts.append(np.pad(main[: len(counts)], ((0, max(len(counts) - len(main), 0)), (0, 0))))
    return np.ascontiguousarray(np.concatenate(facts, axis=1))


def _label(labels: F32, heads: Sequence[HeadConfig], reward: str) -> F32:
    return labels[:, [head.name for head in heads].index(reward)]


def _lacking(rows: int, hits: int) -> str:
    if rows < LEAST_ROWS:
        return f"{rows} slots of impressions with a known outcome, {LEAST_ROWS} are needed"
    if min(hits, rows - hits) < LEAST_HITS:
        return f"{hits} of {rows} shown slots had the outcome; {LEAST_HITS} with and without are needed"
    return ""


def _shown(path: Path) -> np.ndarray:
    """Which rows of the training set are slots of lists as shown."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    origin = pq.read_table(path, columns=[str(c.ORIGIN)])[c.ORIGIN]
    found: np.ndarray = pc.fill_null(pc.equal(origin, "shown"), False).to_numpy(zero_copy_only=False)
    return found
