"""Item-to-item sources: a random walk, cosine, and ordered co-visitation. All are graphs walked from a history."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from honeyguide.contracts import F32, I32, I64
from honeyguide.kernels.itemgraph import covisit_rows, graph_topk, together_rows
from honeyguide.retrieval.personal import Personal
from honeyguide.retrieval.signals import DAY_US, HistoryConfig, Signals, TrendConfig, in_ranges

__all__ = ["Covisit", "CovisitConfig", "ItemKNN", "ItemKNNConfig", "RP3beta", "RP3betaConfig"]

Rows = Callable[[int, int, I32, F32], None]


def _graph(n_items: int, width: int, rows: Rows) -> tuple[I64, I32, F32]:
    """CSR of the neighbours that `rows(start, stop, cols, vals)` writes; peak memory is the result and a block."""
    width = max(1, min(width, n_items - 1))

    def block(start: int, stop: int) -> tuple[I64, I32, F32]:
        cols, vals = np.empty((stop - start, width), np.int32), np.empty((stop - start, width), np.float32)
        rows(start, stop, cols, vals)
        found = cols >= 0
        return found.sum(axis=1), cols[found], vals[found]

    blocks = in_ranges(n_items, block)
    indptr = np.zeros(n_items + 1, np.int64)
    np.cumsum(np.concatenate([part[0] for part in blocks]), out=indptr[1:])
    return indptr, np.concatenate([part[1] for part in blocks]), np.concatenate([part[2] for part in blocks])


def _power(counts: Any, exponent: float) -> F32:
    """`counts ** -exponent`, 1 where the count is 0."""
    return (np.maximum(counts, 1).astype(np.float64) ** -exponent).astype(np.float32)


class _ItemGraph(Personal):
    """What the graphs share: a CSR of neighbours, walked from a history."""

    learnt = ("indptr", "cols", "vals")
    indptr: I64
    cols: I32
    vals: F32

    def _answer(self, *given: Any) -> None:
        graph_topk(*given, self.indptr, self.cols, self.vals)

    def neighbours(self, item: int) -> tuple[I32, F32]:
        """Neighbours of an item row with their strengths, best first."""
        row = slice(self.indptr[item], self.indptr[item + 1])
        return self.cols[row], self.vals[row]


class RP3betaConfig(BaseModel):
    """Exponents of the walk and the width of the graph."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    alpha: float = Field(default=0.9, ge=0, le=3, description="power of the transition probabilities")
    beta: float = Field(default=0.35, ge=0, le=3, description="power by which popular items are held back")
    width: int = Field(default=500, ge=1, le=5_000, description="neighbours kept per item")
    history: HistoryConfig = HistoryConfig(step_power=0.5, newest=200)
    trend: TrendConfig = TrendConfig()


class RP3beta(_ItemGraph):
    """Three steps item - person - item - person as a graph of items (Paudel et al. 2017, RP3-beta).

    `S[i, j] = sum over people u of both: (1 / n_i)^alpha (1 / n_u)^alpha / n_j^beta`, the best `width` per item.
    Price: `width` x items x 8 bytes, and fitting costs sum over people of n_u^2 additions; sensible to some millions
    of items while nobody has tens of thousands of them.
    """

    name = "rp3beta"
    Config = RP3betaConfig
    config: RP3betaConfig

    def _learn(self, events: Signals, seed: int) -> None:
        by_user, by_item = events.pairs()
        user_scale = _power(np.diff(by_user.indptr), self.config.alpha)
        degree = np.diff(by_item.indptr)
        row_scale, col_scale = _power(degree, self.config.alpha), _power(degree, self.config.beta)
        self.indptr, self.cols, self.vals = _together(
            by_user, by_item, user_scale, row_scale, col_scale, self.config.width
        )


class ItemKNNConfig(BaseModel):
    """Width of the graph. Histories count flat, as the literature has it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    width: int = Field(default=100, ge=1, le=5_000, description="neighbours kept per item")
    history: HistoryConfig = HistoryConfig(newest=10_000, use_weights=False)
    trend: TrendConfig = TrendConfig(window_days=0.0)


class ItemKNN(_ItemGraph):
    """Cosine of binary columns, the best `width` per item (Deshpande and Karypis 2004): the plain baseline.

    Price: as RP3beta.
    """

    name = "itemknn"
    Config = ItemKNNConfig
    config: ItemKNNConfig

    def _learn(self, events: Signals, seed: int) -> None:
        by_user, by_item = events.pairs()
        scale = _power(np.diff(by_item.indptr), 0.5)
        ones = np.ones(events.n_users, np.float32)
        self.indptr, self.cols, self.vals = _together(by_user, by_item, ones, scale, scale, self.config.width)


def _together(
    by_user: Any, by_item: Any, user_scale: F32, row_scale: F32, col_scale: F32, width: int
) -> tuple[I64, I32, F32]:
    given = (by_item.indptr.astype(np.int64), by_item.indices, by_user.indptr.astype(np.int64), by_user.indices)

    def rows(start: int, stop: int, cols: I32, vals: F32) -> None:
        together_rows(start, stop, *given, user_scale, row_scale, col_scale, cols, vals)

    return _graph(by_item.shape[1], width, rows)


class CovisitConfig(BaseModel):
    """What counts as visited together, and how popularity is held back."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    window: int = Field(default=10, ge=1, le=1_000, description="events ahead that count as visited after")
    gap_decay: float = Field(default=0.8, gt=0, le=1, description="factor per event in between")
    backward: float = Field(default=0.2, ge=0, le=1, description="weight of the pair in the other direction")
    row_power: float = Field(default=0.5, ge=0, le=2, description="power of the seed's count that divides")
    col_power: float = Field(default=0.3, ge=0, le=2, description="power of the neighbour's count that divides")
    fit_half_life_days: float = Field(default=0.0, ge=0, description="age at which a pair counts half; 0 = off")
    width: int = Field(default=200, ge=1, le=5_000, description="neighbours kept per item")
    history: HistoryConfig = HistoryConfig(step_power=1.0, newest=50)
    trend: TrendConfig = TrendConfig()


class Covisit(_ItemGraph):
    """Ordered co-visitation: what people turn to next, within a window, nearer is stronger.

    `S[i, j] = sum over pairs: gap_decay^(gap - 1) (backward if j came first) / (n_i^row_power n_j^col_power)`.
    Price: `width` x items x 8 bytes, and fitting costs events x window additions: linear, sensible at any size.
    """

    name = "covisit"
    Config = CovisitConfig
    config: CovisitConfig

    def _learn(self, events: Signals, seed: int) -> None:
        config = self.config
        gap_weight = (config.gap_decay ** np.arange(config.window)).astype(np.float32)
        strengths = events.strength
        if config.fit_half_life_days > 0:
            age_days = (events.at.max() - events.at) / DAY_US
            strengths = (strengths * 2.0 ** (-age_days / config.fit_half_life_days)).astype(np.float32)
        count = np.bincount(events.item, minlength=events.n_items)
        by_item = np.zeros(events.n_items + 1, np.int64)
        np.cumsum(count, out=by_item[1:])
        places = np.argsort(events.item, kind="stable")
        row_scale, col_scale = _power(count, config.row_power), _power(count, config.col_power)

        def rows(start: int, stop: int, cols: I32, vals: F32) -> None:
            covisit_rows(
                start, stop, by_item, places, events.user, events.item, strengths, gap_weight, config.backward,
                row_scale, col_scale, cols, vals,
            )  # fmt: skip

        self.indptr, self.cols, self.vals = _graph(events.n_items, config.width, rows)
