"""What thompson and linucb have learnt: a light linear head over what every candidate is known by when it is scored.

Its mean is not served (the utility is); its uncertainty is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import msgspec
import numpy as np

from honeyguide.contracts import F32, F64, I32, I64, BoolArray
from honeyguide.slate.explore import ExploreConfig

__all__ = ["LEAST_ROWS", "Experience", "LearntReward", "candidate_facts"]

LEAST_ROWS = 200
"""Slots with a known outcome, below which nothing is learnt."""
LEAST_HITS = 10
"""Of them with the outcome, and without."""
REPLICATES = 256
"""Bootstrapped heads that a build fits; a surface uses the first ones."""
_LOGIT = 8.0
_BLOCK = 4_096
"""Slots whose products are held at once."""
PRIOR_ROWS = 10.0
"""Of the prior, which holds the weights of standardised facts near 0: worth so many slots."""


@dataclass(frozen=True)
class LearntReward:
    """A linear head of one outcome: weights over standardised facts, their covariance, and bootstrapped replicates.

    facts: the calibrated heads (their log-odds), then item facts. Ridge regression of 0 and 1; covariance = residual
    variance x (X'X + prior)^-1.
    """

    reward: str
    heads: tuple[str, ...]
    centre: F64  # (d - 1,) of the facts; the constant is the last weight
    spread: F64  # (d - 1,)
    weights: F64  # (d,)
    covariance: F64  # (d, d)
    replicates: F64  # (REPLICATES, d)
    rows: int
    hits: int

    @classmethod
    def fit(cls, reward: str, heads: Sequence[str], facts: F64, label: F64, unit: I64, *, seed: int) -> Self:
        """Learn from slots: facts (n, d - 1), label (n,) 0 or 1, unit (n,) whose request or person (drawn together)."""
        centre, spread = facts.mean(0), facts.std(0)
        spread = np.where(spread > 1e-9, spread, 1.0)
        x = np.column_stack([np.clip((facts - centre) / spread, -5.0, 5.0), np.ones(len(facts))])
        prior = np.diag(np.r_[np.full(x.shape[1] - 1, PRIOR_ROWS), 1e-6])
        gram = x.T @ x + prior
        weights = np.linalg.solve(gram, x.T @ label)
        residual = label - x @ weights
        variance = float(residual @ residual / max(len(label) - x.shape[1], 1))
        replicates = _bootstrapped(x, label, unit, prior, np.sqrt(variance), seed)
        covariance = variance * np.linalg.inv(gram)
        return cls(
            reward, tuple(heads), centre, spread, weights, (covariance + covariance.T) / 2, replicates,
            len(label), int(label.sum()),
        )  # fmt: skip

    def directions(self, config: ExploreConfig) -> F64:
        """(d, b): what each replicate adds to the utility per standardised fact; of linucb a root of the covariance."""
        if config.kind == "linucb":
            values, vectors = np.linalg.eigh(self.covariance)
            return config.scale * config.alpha * vectors * np.sqrt(values.clip(0.0))
        if config.posterior == "bootstrap":
            some = self.replicates[: config.replicates]
            return config.scale * (some - some.mean(0)).T
        rng = np.random.default_rng(np.random.SeedSequence([len(self.weights), config.replicates, 32]))
        values, vectors = np.linalg.eigh(self.covariance)
        half = rng.normal(size=(len(self.weights), (config.replicates + 1) // 2))
        both = np.concatenate([half, -half], axis=1)[:, : config.replicates]  # antithetic: their mean is the mean
        return config.scale * (vectors * np.sqrt(values.clip(0.0))) @ both

    def deviations(self, directions: F64, facts: F64, config: ExploreConfig) -> F64:
        """(n, b) by candidate and ranking: what is added to the utility."""
        x = np.ones((len(facts), facts.shape[1] + 1))
        np.clip((facts - self.centre) / self.spread, -5.0, 5.0, out=x[:, :-1])
        x[:, :-1][np.isnan(x[:, :-1])] = 0.0
        moved = x @ directions
        if config.kind == "linucb":
            return np.sqrt((moved**2).sum(1, keepdims=True))
        return np.ascontiguousarray(moved)


def _bootstrapped(x: F64, label: F64, unit: I64, prior: F64, noise: float, seed: int) -> F64:
    """Replicates (REPLICATES, d): ridge regressions in which every unit counts Poisson(1) times.

    Each is pulled towards a draw of the prior, not towards 0, so that what was never seen stays uncertain
    (Osband, Aslanides and Cassirer 2018).
    """
    rng = np.random.default_rng(np.random.SeedSequence([seed, 31]))
    d = x.shape[1]
    order = np.argsort(unit, kind="stable")
    first = np.flatnonzero(np.diff(unit[order], prepend=unit[order[0]] - 1))
    ends = np.append(first[1:], len(unit))
    grams = np.tile(prior, (REPLICATES, 1, 1)).reshape(REPLICATES, d * d)
    sums = (rng.normal(size=(REPLICATES, d)) * noise) @ np.sqrt(prior)
    start = 0
    while start < len(first):
        stop = max(int(np.searchsorted(ends, first[start] + _BLOCK, side="right")), start + 1)
        rows = order[first[start] : ends[stop - 1]]
        at = first[start:stop] - first[start]
        times = rng.poisson(1.0, (REPLICATES, stop - start)).astype(np.float64)
        outer = x[rows][:, :, None] * x[rows][:, None, :]
        grams += times @ np.add.reduceat(outer.reshape(len(rows), d * d), at, axis=0)
        sums += times @ np.add.reduceat(x[rows] * label[rows, None], at, axis=0)
        start = stop
    solved: F64 = np.asarray(np.linalg.solve(grams.reshape(REPLICATES, d, d), sums[:, :, None])[:, :, 0], np.float64)
    return solved


def candidate_facts(scores: F64, columns: Sequence[int], rows: I32, items: F32) -> F64:
    """(n, heads + item facts) of candidates: log-odds of the calibrated heads, facts of the items (nan: unknown)."""
    facts = np.empty((len(rows), len(columns) + items.shape[1]))
    for place, column in enumerate(columns):
        p = np.clip(scores[:, column], 1e-12, 1.0 - 1e-12)
        facts[:, place] = np.clip(np.log(p / (1.0 - p)), -_LOGIT, _LOGIT)
    known = (rows >= 0) & (rows < len(items))
    facts[:, len(columns) :] = (
        np.where(known[:, None], items[np.where(known, rows, 0)], np.nan) if len(items) else np.nan
    )
    return facts


_ARRAYS = ("centre", "spread", "weights", "covariance", "replicates")


class _Header(msgspec.Struct):
    rewards: list[tuple[str, tuple[str, ...], int, int]]
    notes: list[str]


@dataclass(frozen=True)
class Experience:
    """What a build knows of what was shown: how often each item was, and what rewards depend on."""

    shown: I64  # (items,) impressions when the build was made
    items: F32 = field(default_factory=lambda: np.zeros((0, 0), np.float32))  # (items, facts)
    rewards: Mapping[str, LearntReward] = field(default_factory=dict)
    notes: tuple[str, ...] = ()  # what could not be learnt, and why

    def is_new(self, below: int) -> BoolArray:
        """By item row, whether it was shown fewer than `below` times."""
        new: BoolArray = self.shown < below
        return new

    def save(self, folder: Path) -> None:
        """Write arrays into an existing folder."""
        arrays = {"shown": self.shown, "items": self.items}
        for n, one in enumerate(self.rewards.values()):
            for name in _ARRAYS:
                arrays[f"{n}-{name}"] = getattr(one, name)
        np.savez(folder / "experience.npz", **arrays)  # type: ignore[arg-type]
        told = [(one.reward, one.heads, one.rows, one.hits) for one in self.rewards.values()]
        (folder / "experience.json").write_bytes(msgspec.json.encode(_Header(told, list(self.notes))))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        header = msgspec.json.decode((folder / "experience.json").read_bytes(), type=_Header)
        with np.load(folder / "experience.npz") as arrays:
            rewards = {}
            for n, (reward, heads, rows, hits) in enumerate(header.rewards):
                named = {name: arrays[f"{n}-{name}"] for name in _ARRAYS}
                rewards[reward] = LearntReward(reward, heads, rows=rows, hits=hits, **named)
            return cls(arrays["shown"], arrays["items"], rewards, tuple(header.notes))
