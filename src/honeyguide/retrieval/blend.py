"""Several sources as one: weighted by what validation found, and never empty-handed for a person nobody knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from honeyguide.contracts import F32, I32, I64, Candidates, CatalogView, Interactions, Pool, Queries, Source
from honeyguide.errors import BuildError, ConfigError
from honeyguide.kernels.blend import blend_topk
from honeyguide.retrieval import store
from honeyguide.retrieval.signals import in_ranges

__all__ = ["Blend", "BlendConfig", "Regime", "merge", "regime_of"]

_TRACE = 1e-4  # weight of the fallback source everywhere: it fills what the others leave empty


class Regime(BaseModel):
    """Weights for questions whose newest event is at most so old."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1)
    within_hours: float = Field(default=float("inf"), gt=0, description="age of the newest event, at most")
    weights: dict[str, float] = Field(description="weight per source, 0 or absent = not asked")


class BlendConfig(BaseModel):
    """Weights per regime and how lists become comparable.

    A person in the middle of a visit wants what goes with the last steps; one who comes back after weeks wants what
    goes with the whole history. So weights are kept per regime, the youngest first, the last without a limit.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    regimes: tuple[Regime, ...] = Field(default=(Regime(name="always", weights={}),), min_length=1)
    fallback: str = Field(default="popular", description="source that fills what the others leave empty")
    per_source: int = Field(default=200, ge=1, le=10_000, description="candidates asked of each source at least")
    rank_share: float = Field(default=0.3, ge=0, le=1, description="share of reciprocal ranks beside scores")
    rank_k: float = Field(default=10.0, ge=0, description="k of the reciprocal ranks")


def regime_of(queries: Queries, regimes: Sequence[Regime]) -> I64:
    """(n,) the first regime whose limit the age of the newest event at or before `now` keeps; the last otherwise."""
    n = len(queries)
    chosen = np.full(n, len(regimes) - 1, np.int64)
    if len(regimes) == 1 or not len(queries.items):
        return chosen
    newest = np.full(n, np.iinfo(np.int64).min // 4)
    if n == 1:
        past = queries.at[queries.at <= queries.now[0]]
        newest[0] = past.max() if len(past) else newest[0]
    else:
        owner = np.repeat(np.arange(n), np.diff(queries.indptr))
        past = queries.at <= queries.now[owner]
        np.maximum.at(newest, owner[past], queries.at[past])
    age_hours = (queries.now - newest) / 3.6e9
    for number in range(len(regimes) - 2, -1, -1):
        chosen[age_hours <= regimes[number].within_hours] = number
    return chosen


def merge(
    found: Sequence[Candidates], weights: F32, k: int, *, names: tuple[str, ...], rank_share: float, rank_k: float
) -> Pool:
    """Lists of several sources (n, per_source) as one Pool of `k`. `weights`: (n, sources), 0 = left out.

    Every list must be of one width.
    """
    n = len(weights)
    items = np.stack([one.items for one in found])
    scores = np.stack([one.scores for one in found])
    pool = Pool(
        np.empty((n, k), np.int32), np.empty((n, k), np.float32), np.empty((n, k, len(found)), np.float32), names
    )

    def run(start: int, stop: int) -> None:
        blend_topk(start, stop, items, scores, weights, rank_share, rank_k, pool.items, pool.blend, pool.source_scores)

    in_ranges(n, run)
    return pool


class Blend:
    """Sources asked together, their lists merged by weights.

    Price: the sum of the sources asked; a source without weight in any regime is not asked at all.
    Each source is asked for `per_source` items whatever `k` is, so a longer pool starts with the shorter one. Where
    all of them together bring less than `k`, the fallback source fills the pool further, with scores below 0.
    """

    name: ClassVar[str] = "blend"

    def __init__(self, sources: Sequence[Source], config: BlendConfig | None = None) -> None:
        """Fitted sources, or sources that `fit` will fit. Without weights all count the same.

        Raises ConfigError for weights of sources that are not there or that are negative.
        """
        self.config = config or BlendConfig()
        self.sources: dict[str, Source] = {source.name: source for source in sources}
        if len(self.sources) != len(sources) or not sources:
            raise ConfigError(
                expected="at least one source, each with a name of its own",
                got=", ".join(source.name for source in sources) or "none",
                do="Name each source once.",
            )
        for regime in self.config.regimes:
            wrong = [name for name, weight in regime.weights.items() if name not in self.sources or not weight >= 0]
            if wrong:
                raise ConfigError(
                    expected=f"weights of 0 or more for {', '.join(self.sources)}",
                    got=", ".join(f"{name} = {regime.weights[name]:g}" for name in wrong),
                    do=f"Change the regime `{regime.name}`.",
                )
        weights = np.array(
            [[regime.weights.get(name, 0.0 if regime.weights else 1.0) for name in self.sources]
             for regime in self.config.regimes], np.float32,
        )  # fmt: skip
        total = weights.sum(axis=1, keepdims=True)
        weights /= np.where(total > 0, total, 1.0)
        if self.config.fallback in self.sources:
            column = list(self.sources).index(self.config.fallback)
            weights[:, column] = np.maximum(weights[:, column], _TRACE)
        self._asked = [number for number in range(len(self.sources)) if weights[:, number].max() > 0]
        self._weights = np.ascontiguousarray(weights[:, self._asked])
        self.asked: tuple[str, ...] = tuple(name for i, name in enumerate(self.sources) if i in self._asked)
        keys = (key for name in self.asked for key in getattr(self.sources[name], "context_keys", ()))
        self.context_keys: tuple[str, ...] = tuple(dict.fromkeys(keys))  # facts of a question that a source looks at

    def fit(self, interactions: Interactions, catalog: CatalogView, *, seed: int = 0) -> Self:
        """Fit every source that has a weight."""
        for name in self.asked:
            self.sources[name].fit(interactions, catalog, seed=seed)
        return self

    def pool(self, queries: Queries, k: int) -> Pool:
        """The best `k` of all sources with the score of each; `sources` are those that have a weight."""
        found = [self.sources[name].retrieve(queries, self.config.per_source) for name in self.asked]
        weights = self._weights[regime_of(queries, self.config.regimes)]
        pool = merge(
            found, weights, max(k, 0), names=self.asked, rank_share=self.config.rank_share, rank_k=self.config.rank_k
        )
        if k > self.config.per_source and self.config.fallback in self.sources and (pool.items[:, -1] < 0).any():
            self._fill(pool, self.sources[self.config.fallback].retrieve(queries, k))
        return pool

    def _fill(self, pool: Pool, spare: Candidates) -> None:
        """Put the spare items that are not there yet after the others, in their order."""
        column = self.asked.index(self.config.fallback)
        for q in np.flatnonzero(pool.items[:, -1] < 0):
            first = int((pool.items[q] >= 0).sum())
            new = np.flatnonzero((spare.items[q] >= 0) & ~np.isin(spare.items[q], pool.items[q, :first]))
            new = new[: pool.items.shape[1] - first]
            last = first + len(new)
            pool.items[q, first:last] = spare.items[q, new]
            pool.blend[q, first:last] = -_TRACE * np.arange(1, len(new) + 1)
            pool.source_scores[q, first:last, column] = spare.scores[q, new]

    def retrieve(self, queries: Queries, k: int) -> Candidates:
        """The pool as a source of its own: best `k` by blend score."""
        pool = self.pool(queries, k)
        return Candidates(pool.items, pool.blend)

    def save(self, folder: Path) -> None:
        """Write the weights, and each source that has one into a folder of its name."""
        for name in self.asked:
            (folder / name).mkdir()
            self.sources[name].save(folder / name)
        kinds: dict[str, I32] = {}
        meta = {"config": self.config.model_dump(), "sources": list(self.asked)}
        store.write(folder, self.name, meta, kinds)

    @classmethod
    def load(cls, folder: Path, kinds: Mapping[str, type[Source]] | None = None) -> Blend:
        """Read what `save` wrote. `kinds`: classes by name for sources that are not of this room.

        Raises BuildError where it cannot be used.
        """
        meta, _ = store.read(folder, cls.name)
        config = store.config(BlendConfig, meta, folder)
        known = {**_own(), **(kinds or {})}
        names = [str(name) for name in meta.get("sources", [])]
        missing = [name for name in names if name not in known]
        if missing or not names:
            raise BuildError(
                expected=f"sources among {', '.join(known)} in {folder}",
                got=", ".join(missing) or "none",
                do="Pass the class of a source of your own in `kinds`.",
            )
        regimes = tuple(
            regime.model_copy(update={"weights": {n: w for n, w in regime.weights.items() if n in names}})
            for regime in config.regimes
        )
        return cls([known[name].load(folder / name) for name in names], config.model_copy(update={"regimes": regimes}))


def _own() -> dict[str, type[Source]]:
    from honeyguide.retrieval.covisit import Covisit, ItemKNN, RP3beta
    from honeyguide.retrieval.factors import ALS, EASE, NextItem
    from honeyguide.retrieval.popular import Popular

    kinds: tuple[type[Source], ...] = (Popular, RP3beta, ItemKNN, Covisit, EASE, NextItem, ALS)
    return {kind.name: kind for kind in kinds}
