"""Several query vectors for one history or board: a board with two themes gets both."""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from honeyguide.contracts import F32, I32
from honeyguide.kernels.interests import interests_topk, themes
from honeyguide.retrieval.personal import Personal
from honeyguide.retrieval.signals import HistoryConfig, Signals, TrendConfig
from honeyguide.retrieval.spectral import low_rank

__all__ = ["Interests", "InterestsConfig"]


class InterestsConfig(BaseModel):
    """The space in which themes are found, and how their lists are merged."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    d: int = Field(default=32, ge=1, le=512, description="dimensions of the items' vectors")
    iterations: int = Field(default=2, ge=0, le=50, description="power iterations of the randomised SVD")
    themes: int = Field(default=5, ge=1, le=64, description="themes at most")
    alike: float = Field(default=0.4, ge=-1, le=1, description="cosine from which an item belongs to a theme")
    each: int = Field(default=200, ge=1, le=10_000, description="items of each theme that enter the merged list")
    rank_k: float = Field(default=0.0, ge=0, description="added to ranks; 0: slots in proportion to the shares")
    share_power: float = Field(default=0.5, ge=0, le=2, description="how much a larger theme counts for more; 0 = not")
    popularity: float = Field(default=0.2, ge=0, le=2, description="power of an item's events that lifts it")
    history: HistoryConfig = HistoryConfig(step_power=0.3, newest=100)
    trend: TrendConfig = TrendConfig(window_days=0.0)


class Interests(Personal):
    """Themes of a history by nearest centres in a spectral space (after Pal et al. 2020, PinnerSage).

    Vectors are the right singular vectors of the normalised people x items matrix, scaled by their values, without what
    all items share, to unit length. A theme weighs what its items weigh, newer ones more. Lists are merged
    like seats by d'Hondt, `share ** share_power / rank`: every theme has its places, whatever the others score.
    Price: items x d x 4 bytes; a question reads them once per theme. Sensible to some hundred thousand items.
    """

    name = "interests"
    Config = InterestsConfig
    config: InterestsConfig
    learnt = ("vectors", "popular")
    vectors: F32  # (items, d) of unit length; zero for items without events
    popular: F32  # (items,) (events + 1) ** popularity

    def _learn(self, events: Signals, seed: int) -> None:
        by_user, _ = events.pairs()
        n_u, n_i = np.diff(by_user.indptr), np.bincount(by_user.indices, minlength=events.n_items)
        scaled = by_user.copy()
        scaled.data = (np.repeat(np.maximum(n_u, 1) ** -0.5, n_u) * np.maximum(n_i, 1)[by_user.indices] ** -0.5).astype(
            np.float32
        )
        s, v = low_rank(scaled, min(self.config.d, *scaled.shape), self.config.iterations, seed)
        known = (n_i > 0)[:, None]
        vectors = _unit(v * s)
        # what all items share is popularity: it tells no two themes apart
        vectors -= vectors[known[:, 0]].mean(axis=0)
        self.vectors = np.where(known, _unit(vectors), 0.0).astype(np.float32)
        self.popular = ((n_i + 1.0) ** self.config.popularity).astype(np.float32)

    def _answer(self, *given: Any) -> None:
        config = self.config
        interests_topk(
            *given, self.vectors, self.popular, config.themes, config.alike, config.each, config.rank_k,
            config.share_power,
        )  # fmt: skip

    def themes_of(self, items: I32) -> I32:
        """(n,) the theme of each item row, newest last, as a question would find it; -1 for an item without events."""
        rows = np.ascontiguousarray(np.asarray(items, np.int32)[::-1])
        d, most = self.vectors.shape[1], self.config.themes
        theme = np.full(len(rows), -1, np.int32)
        strengths = np.resize(self._recency, len(rows)).astype(np.float32)
        themes(
            self.vectors, rows, strengths, len(rows), self.config.alike, np.zeros((most, d), np.float32),
            np.zeros(most, np.float32), theme,
        )  # fmt: skip
        return theme[::-1].copy()


def _unit(vectors: F32) -> F32:
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.where(length > 1e-12, length, 1.0)).astype(np.float32)
