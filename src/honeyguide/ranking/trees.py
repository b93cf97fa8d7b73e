"""Heads of oblivious trees: fitted by an engine, scored by one fused kernel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from honeyguide.contracts import F32, F64, I64, TreesEngine, TreesModel
from honeyguide.kernels.trees import FusedTrees, ObliviousTrees, fuse, score
from honeyguide.ranking.heads import HeadConfig

__all__ = ["TreesFamily", "TreesHead"]


@dataclass(frozen=True)
class TreesHead:
    """One ensemble. Implements `models.HeadModel`."""

    arrays: ObliviousTrees
    model: TreesModel
    fused: FusedTrees

    @property
    def size(self) -> int:
        """Number of trees."""
        return len(self.arrays.depth)

    def raw(self, features: F32) -> F64:
        """(n, features) -> (n,)."""
        return score(self.fused, features)[:, 0]

    def importance(self) -> F64:
        """Share of each feature, (features,)."""
        return self.model.importance()


class TreesFamily:
    """Fits ensembles of trees. Implements `models.Family`."""

    kind = "trees"

    def __init__(self, engine: TreesEngine, *, threads: int = 2, seed: int = 0) -> None:
        self._engine, self._threads, self._seed = engine, threads, seed

    def fit(
        self, head: HeadConfig, features: F32, label: F32, *, group: I64 | None = None, weight: F32 | None = None,
        stop: tuple[F32, F32, I64 | None] | None = None, size: int | None = None,
    ) -> TreesHead:  # fmt: skip
        """Trees for one head, stopped on `stop` if given, else `size` of them."""
        model = self._engine.fit(
            features, label, objective="rank" if head.kind == "rank" else "logloss", group=group, weight=weight,
            validation=stop, trees=head.trees if size is None else max(size, 1), depth=head.depth,
            learning_rate=head.learning_rate, threads=self._threads, seed=self._seed,
        )  # fmt: skip
        arrays = model.arrays()
        return TreesHead(arrays, model, fuse([arrays]))


def most_important(names: tuple[str, ...], shares: F64) -> dict[str, float]:
    """Shares by name, largest first."""
    return {names[i]: float(shares[i]) for i in np.argsort(-shares, kind="stable")}
