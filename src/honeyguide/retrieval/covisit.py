"""Item-to-item sources: a random walk, nearest neighbours, co-visitation, complements: graphs walked from a history."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from honeyguide.contracts import F32, I32, I64, CatalogView, Interactions
from honeyguide.errors import DataError
from honeyguide.kernels.itemgraph import covisit_rows, graph_topk, together_rows
from honeyguide.retrieval.personal import Personal
from honeyguide.retrieval.signals import DAY_US, HistoryConfig, Signals, TrendConfig, in_ranges

__all__ = [
    "Complements",
    "ComplementsConfig",
    "Covisit",
    "CovisitConfig",
    "ItemGraph",
    "ItemKNN",
    "ItemKNNConfig",
    "RP3beta",
    "RP3betaConfig",
    "level_rows",
    "together",
]

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


class ItemGraph(Personal):
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
        cols, vals = self.cols[row], self.vals[row]
        order = np.lexsort((cols, -vals))
        return cols[order], vals[order]


class RP3betaConfig(BaseModel):
    """Exponents of the walk and the width of the graph."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    alpha: float = Field(default=0.9, ge=0, le=3, description="power of the transition probabilities")
    beta: float = Field(default=0.35, ge=0, le=3, description="power by which popular items are held back")
    user_power: float | None = Field(
        default=None, ge=0, le=3, description="alpha of the step from a person, if another"
    )
    amplify: float = Field(default=1.0, gt=0, le=5, description="power of each strength: above 1 the near count more")
    row_power: float = Field(default=0.0, ge=0, le=1, description="power of a row's sum that divides it; 1: sums to 1")
    width: int = Field(default=500, ge=1, le=5_000, description="neighbours kept per item")
    history: HistoryConfig = HistoryConfig(step_power=0.5, newest=200)
    trend: TrendConfig = TrendConfig()


class RP3beta(ItemGraph):
    """Three steps item - person - item - person as a graph of items (Paudel et al. 2017, RP3-beta).

    `S[i, j] = sum over people u of both: (1 / n_i)^alpha (1 / n_u)^user_power / n_j^beta`, the best `width` per item,
    raised to `amplify` (Breese et al. 1998), then divided by the row's sum to the `row_power`: with 1 each item of a
    history has one vote to give.
    Price: `width` x items x 8 bytes, and fitting costs sum over people of n_u^2 additions; sensible to some millions
    of items while nobody has tens of thousands of them.
    """

    name = "rp3beta"
    Config = RP3betaConfig
    config: RP3betaConfig

    def _learn(self, events: Signals, seed: int) -> None:
        by_user, by_item = events.pairs()
        config = self.config
        user_power = config.alpha if config.user_power is None else config.user_power
        user_scale, degree = _power(np.diff(by_user.indptr), user_power), np.diff(by_item.indptr)
        self.indptr, self.cols, self.vals = together(
            by_user, by_item, user_scale, _power(degree, config.alpha), _power(degree, config.beta), config.width
        )
        level_rows(self.indptr, self.vals, config.row_power, config.amplify)


class ItemKNNConfig(BaseModel):
    """What a person's or an item's size counts, and the width of the graph. Histories count flat, as the literature
    has it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    weights: Literal["cosine", "tfidf", "bm25"] = Field(default="cosine", description="how pairs are weighed")
    k1: float = Field(default=1.2, gt=0, le=100, description="bm25: how soon a popular item's events stop counting")
    b: float = Field(default=0.75, ge=0, le=1, description="bm25: how much an item's popularity counts against it")
    width: int = Field(default=100, ge=1, le=5_000, description="neighbours kept per item")
    history: HistoryConfig = HistoryConfig(newest=10_000, use_weights=False)
    trend: TrendConfig = TrendConfig(window_days=0.0)


class ItemKNN(ItemGraph):
    """Nearest neighbours of binary columns (Deshpande and Karypis 2004): items are documents, people their words.

    cosine: `n_ij / sqrt(n_i n_j)`. tfidf: the cosine after each person is weighed by `log((1 + items) / (1 + n_u))`.
    bm25: `sum over people of both: idf_u^2 f_i f_j` with `idf_u = log(1 + (items - n_u + .5) / (n_u + .5))` and
    `f_i = (k1 + 1) / (1 + k1 (1 - b + b n_i / mean n))` (Robertson and Zaragoza 2009, of binary counts).
    Price: as RP3beta.
    """

    name = "itemknn"
    Config = ItemKNNConfig
    config: ItemKNNConfig

    def _learn(self, events: Signals, seed: int) -> None:
        by_user, by_item = events.pairs()
        config, degree = self.config, np.diff(by_item.indptr)
        activity = np.diff(by_user.indptr).astype(np.float64)
        if config.weights == "bm25":
            idf = np.log1p((events.n_items - activity + 0.5) / (activity + 0.5))
            level = 1.0 - config.b + config.b * degree / degree[degree > 0].mean()
            scale = ((config.k1 + 1.0) / (1.0 + config.k1 * level)).astype(np.float32)
        elif config.weights == "tfidf":
            idf = np.log((1.0 + events.n_items) / (1.0 + activity))
            length = np.sqrt(by_item.T @ (idf**2))
            scale = np.where(length > 0, 1.0 / np.where(length > 0, length, 1.0), 1.0).astype(np.float32)
        else:
            idf, scale = np.ones(events.n_users), _power(degree, 0.5)
        squared = (idf**2).astype(np.float32)
        self.indptr, self.cols, self.vals = together(by_user, by_item, squared, scale, scale, config.width)


def together(
    by_user: Any, by_item: Any, user_scale: F32, row_scale: F32, col_scale: F32, width: int
) -> tuple[I64, I32, F32]:
    """CSR of `row_scale[i] * col_scale[j] * sum over people of both: user_scale[u]`, the best `width` of each row."""
    given = (by_item.indptr.astype(np.int64), by_item.indices, by_user.indptr.astype(np.int64), by_user.indices)

    def rows(start: int, stop: int, cols: I32, vals: F32) -> None:
        together_rows(start, stop, *given, user_scale, row_scale, col_scale, cols, vals)

    return _graph(by_item.shape[1], width, rows)


def level_rows(indptr: I64, vals: F32, power: float, amplify: float = 1.0) -> None:
    """Raise all of a CSR to `amplify`, then divide each row by its sum to the `power`, in place."""
    if amplify != 1.0:
        np.power(vals, np.float32(amplify), out=vals)
    if power and len(vals):
        size = np.diff(indptr)
        total = np.add.reduceat(vals, np.minimum(indptr[:-1], len(vals) - 1), dtype=np.float64)
        vals /= np.repeat(np.where((size > 0) & (total > 0), total, 1.0) ** power, size).astype(np.float32)


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


class Covisit(ItemGraph):
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
        self.indptr, self.cols, self.vals = _pairs(
            events, events.user, strengths, gap_weight, config.backward, _power(count, config.row_power),
            _power(count, config.col_power), 0.0, config.width,
        )  # fmt: skip


def _pairs(
    events: Signals, owner: I32, strengths: F32, gap_weight: F32, backward: float, row_scale: F32, col_scale: F32,
    prior: float, width: int,
) -> tuple[I64, I32, F32]:  # fmt: skip
    """CSR of ordered pairs within the events of one owner (a person, or one visit)."""
    by_item = np.zeros(events.n_items + 1, np.int64)
    np.cumsum(np.bincount(events.item, minlength=events.n_items), out=by_item[1:])
    places = np.argsort(events.item, kind="stable")

    def rows(start: int, stop: int, cols: I32, vals: F32) -> None:
        covisit_rows(
            start, stop, by_item, places, owner, events.item, strengths, gap_weight, backward, row_scale, col_scale,
            prior, cols, vals,
        )  # fmt: skip

    return _graph(events.n_items, width, rows)


class ComplementsConfig(BaseModel):
    """What counts as taken together, and how far chance is taken off."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    actions: tuple[str, ...] = Field(default=(), description="actions that count, such as purchase; () = all")
    within_hours: float = Field(default=24.0, gt=0, description="a longer pause ends what belongs together")
    window: int = Field(default=20, ge=1, le=1_000, description="events ahead that count at most")
    gap_decay: float = Field(default=0.9, gt=0, le=1, description="factor per event in between")
    backward: float = Field(default=0.5, ge=0, le=1, description="weight of what was taken before, not after")
    prior_events: float = Field(default=3.0, ge=0, description="pairs by chance added to those expected")
    width: int = Field(default=100, ge=1, le=5_000, description="neighbours kept per item")
    history: HistoryConfig = HistoryConfig(newest=50)
    trend: TrendConfig = TrendConfig(window_days=0.0)


class Complements(ItemGraph):
    """What goes with an item, not what is like it: taken after it or beside it more often than chance has it.

    `S[i, j] = c_ij / (e_ij + prior_events)`, with `c_ij` the decayed pairs within one visit and `e_ij = p_i n_j / n`
    those expected if what follows i were drawn like everything else (p_i: pairs that start at i). Lift, shrunk by a
    prior: a pair seen once tells little. Made for the item page and for boards.
    Price: as Covisit.
    """

    name = "complements"
    Config = ComplementsConfig
    config: ComplementsConfig

    def fit(self, interactions: Interactions, catalog: CatalogView, *, seed: int = 0) -> Self:
        """Learn from the events of the chosen actions. DataError where there is none of them."""
        wanted = self.config.actions
        if wanted:
            codes = [code for code, action in enumerate(interactions.actions) if action in wanted]
            chosen = np.isin(interactions.action, codes)
            if not chosen.any():
                raise DataError(
                    expected=f"events of {', '.join(wanted)} for `{self.name}`",
                    got=f"none among {', '.join(interactions.actions)}", do="Mend `actions` in its config.",
                )  # fmt: skip
            interactions = interactions.take(chosen)
        return super().fit(interactions, catalog, seed=seed)

    def _learn(self, events: Signals, seed: int) -> None:
        config = self.config
        pause = int(config.within_hours * 3.6e9)
        new = np.ones(len(events.item), np.bool_)
        new[1:] = (events.user[1:] != events.user[:-1]) | (events.at[1:] - events.at[:-1] > pause)
        visit = np.cumsum(new, dtype=np.int32)
        gap_weight = (config.gap_decay ** np.arange(config.window)).astype(np.float32)
        # pairs that an event starts: those of the steps to the end of its visit, and back to the begin of it
        first = np.flatnonzero(new)
        size = np.diff(np.append(first, len(new)))[visit - 1]
        place = np.arange(len(new)) - first[visit - 1]
        reach = np.concatenate([[0.0], np.cumsum(gap_weight, dtype=np.float64)])
        ahead, behind = np.minimum(size - 1 - place, config.window), np.minimum(place, config.window)
        started = np.bincount(events.item, reach[ahead] + config.backward * reach[behind], events.n_items)
        count = np.bincount(events.item, minlength=events.n_items)
        row_scale = (1.0 / np.maximum(started, 1e-6)).astype(np.float32)
        col_scale = (len(events.item) / np.maximum(count, 1)).astype(np.float32)
        self.indptr, self.cols, self.vals = _pairs(
            events, visit, np.ones(len(visit), np.float32), gap_weight, config.backward, row_scale, col_scale,
            config.prior_events, config.width,
        )  # fmt: skip
