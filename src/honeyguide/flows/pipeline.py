"""What training and serving share: from a pool of candidates to the columns that the ranker reads.

Both sides call `ranker_columns` and `ranker_matrix`, so a model cannot be served other features than it learnt from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from honeyguide.contracts import F32, CatalogView, Pool, Queries, Source
from honeyguide.errors import BuildError
from honeyguide.features.definition import FeatureSet
from honeyguide.flows.config import SourceConfig, SurfaceConfig, load_plugin
from honeyguide.flows.data import Segments
from honeyguide.ranking.ranker import HeadsRanker
from honeyguide.retrieval.blend import Blend, BlendConfig, Regime, regime_of
from honeyguide.slate.bandit import Experience
from honeyguide.slate.compose import Composer, SlateConfig
from honeyguide.slate.explore import ExploreConfig
from honeyguide.slate.utility import Price

__all__ = [
    "NEW",
    "Composers",
    "Pipeline",
    "kinds_of",
    "load_blend",
    "load_sources",
    "ranker_columns",
    "ranker_matrix",
    "serviceable",
]


def ranker_columns(features: FeatureSet, asked: tuple[str, ...]) -> tuple[str, ...]:
    """Names of the ranker's columns: the features, then what each source said, then the blend."""
    return (*features.names, *(f"source_{name}" for name in asked), "blend")


def ranker_matrix(features: F32, pool: Pool, asked: tuple[str, ...], best: F32 | None = None) -> F32:
    """The ranker's columns (n * K, features + sources + 1) of candidates (n, K), request by request.

    A source's score is given relative to the best it gave in this request: the raw scores grow with the history, and
    what a tree learns from few events would not hold for many. nan where the source did not bring the item, or was not
    asked on this surface. asked: the sources that the ranker learnt from, in order.
    best: (n, 1, sources), the sources' best scores where the pool holds only a part of the candidates.
    """
    n, k, sources = pool.source_scores.shape
    if best is None:
        best = np.fmax.reduce(np.abs(pool.source_scores), axis=1, keepdims=True)
    relative = (pool.source_scores / np.where(best > 0, best, np.float32(1.0))).reshape(n * k, sources)
    width = features.shape[1]
    out = np.empty((n * k, width + len(asked) + 1), np.float32)
    out[:, :width] = features
    if pool.sources == asked:
        out[:, width:-1] = relative
    else:
        for column, name in enumerate(asked, width):
            out[:, column] = relative[:, pool.sources.index(name)] if name in pool.sources else np.nan
    out[:, -1] = pool.blend.reshape(-1)
    return out


def load_sources(specs: tuple[SourceConfig, ...], folders: Mapping[str, Path]) -> list[Source]:
    """Fitted sources from their folders, in the order of the configuration."""
    found = []
    for spec in specs:
        kind = load_plugin(spec.use)
        if kind.name in folders:
            found.append(kind.load(folders[kind.name]))
    return found


def serviceable(
    surface: SurfaceConfig, heads: Mapping[str, bool], ranks: bool, known: frozenset[str]
) -> tuple[SlateConfig, list[str]]:
    """A surface's slate as the build can serve it, and what was changed: heads that are off cannot be weighed.

    heads: those in service, name -> calibrated. ranks: whether the heads that rank beat the blend. known: every head
    that the configuration names (another name is a ConfigError of the utility, not something to be passed over).
    """
    utility = surface.slate.utility
    off = {name for name in utility.heads if name in known and name not in heads}
    if not ranks:
        off |= set(utility.rank_weights) & known
    explore, noted = explorable(surface.slate.explore, heads, known)
    slate = surface.slate.model_copy(update={"explore": explore}) if noted else surface.slate
    if not off:
        return slate, noted
    changed = utility.without(off)
    lost = changed.blend_weight != utility.blend_weight
    note = f"{', '.join(sorted(off))} off" + (": the weight goes to the blend's rank" if lost else "")
    if changed.formula != utility.formula:
        note += f"; of the formula is left: {changed.formula or 'nothing'}"
    return slate.model_copy(update={"utility": changed}), [note, *noted]


def explorable(
    explore: ExploreConfig, heads: Mapping[str, bool], known: frozenset[str]
) -> tuple[ExploreConfig, list[str]]:
    """The exploration that these heads allow: where a floor cannot be seen, nothing is explored."""
    blind = sorted(name for name in explore.floor_heads if name in known and not heads.get(name, False))
    if not blind or not explore.explores:
        return explore, []
    return ExploreConfig(), [f"nothing is explored: {', '.join(blind)}, of which it needs a least probability, is off"]


NEW = "new"
"""A request without any history; the other kinds are the regimes of the blend."""


def kinds_of(queries: Queries, regimes: Sequence[Regime]) -> list[str]:
    """The kind of each request: new, or the regime that the age of its newest event falls into."""
    names = [regime.name for regime in regimes]
    empty = np.diff(queries.indptr) == 0
    return [
        NEW if none else names[n] for none, n in zip(empty.tolist(), regime_of(queries, regimes).tolist(), strict=True)
    ]


@dataclass(frozen=True)
class Composers:
    """Two composers of one surface: with the heads that rank, and with the blend's rank in their place."""

    ranked: Composer
    plain: Composer
    ranks: frozenset[str]  # kinds of requests for which the heads that rank are in service

    def of(self, kind: str) -> Composer:
        """The composer for a kind of request."""
        return self.ranked if kind in self.ranks else self.plain


@dataclass(frozen=True)
class Pipeline:
    """A fitted pipeline: what a build serves and what an evaluation judges."""

    catalog: CatalogView
    segments: Segments
    sources: dict[str, Source]  # all that are fitted; the blend of home asks those that pay
    blend: Blend
    features: FeatureSet
    ranker: HeadsRanker | None
    vectors: F32 | None
    ranks: frozenset[str]  # kinds of requests for which the heads that rank are in service
    experience: Experience | None = None  # what was learnt of what was shown, where exploration looks at it

    def __post_init__(self) -> None:
        if self.ranker is not None:
            self.ranker.check(ranker_columns(self.features, self.blend.asked))

    @property
    def heads(self) -> dict[str, bool]:
        """Heads in service, name -> calibrated, in the order of the score columns."""
        return {} if self.ranker is None else dict(zip(self.ranker.names, self.ranker.calibrated, strict=True))

    def composers(
        self, surface: SurfaceConfig, known: frozenset[str], catalog: CatalogView | None = None, *,
        explore: bool = True, prices: Sequence[Price] = (),
    ) -> Composers:  # fmt: skip
        """Composers of a surface over this pipeline's heads and vectors; known: all heads of the configuration.

        prices: what guardrails add to the utility.
        """
        made = []
        for ranks in (True, False):
            slate, _ = serviceable(surface, self.heads, ranks, known)
            if not explore:
                slate = slate.model_copy(update={"explore": ExploreConfig()})
            made.append(
                Composer(slate, self.heads, catalog or self.catalog, self.vectors, self.experience, prices=prices)
            )
        return Composers(made[0], made[1], self.ranks)

    def blend_of(self, surface: SurfaceConfig) -> Blend:
        """The blend of a surface: its own weights over the sources there are, or those that the build found; the
        sources that it is to do without are left out, and where none remains the fallback answers alone."""
        weights = {name: weight for name, weight in surface.weights.items() if name in self.sources and weight > 0}
        if not weights and not surface.without:
            return self.blend
        fallback = self.blend.config.fallback
        # The regimes stay those of home: they also name the kind of a request.
        regimes = (Regime(name="request", weights=weights),) if weights else self.blend.config.regimes
        kept = tuple(
            regime.model_copy(
                update={
                    "weights": {n: w for n, w in regime.weights.items() if n not in surface.without} or {fallback: 1.0}
                }
            )
            for regime in regimes
        )
        names = {name for regime in kept for name in regime.weights} | {fallback}
        return Blend([s for name, s in self.sources.items() if name in names], self.blend.config.model_copy(
            update={"regimes": kept}
        ))  # fmt: skip


def load_blend(sources: Mapping[str, Source], config: BlendConfig) -> Blend:
    """The blend of home over loaded sources; BuildError if one that has a weight is gone."""
    wanted = {n for regime in config.regimes for n, w in regime.weights.items() if w > 0} | {config.fallback}
    missing = wanted - set(sources) - {config.fallback}
    if missing:
        raise BuildError(
            expected="every source that the build weighed",
            got=f"no {', '.join(sorted(missing))}",
            do="Build again after a change of [[sources]].",
        )
    return Blend([source for name, source in sources.items() if name in wanted], _known(config, sources))


def _known(config: BlendConfig, sources: Mapping[str, Source]) -> BlendConfig:
    regimes = tuple(
        regime.model_copy(update={"weights": {n: w for n, w in regime.weights.items() if n in sources and w > 0}})
        for regime in config.regimes
    )
    return config.model_copy(update={"regimes": regimes})
