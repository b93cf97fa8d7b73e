"""Linear models of all items at once: EASE, the next item by ridge regression, and implicit ALS."""

from __future__ import annotations

from typing import Any, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from scipy.linalg import lapack

from honeyguide.contracts import F32, I16, I32, Candidates, CatalogView, Interactions, Queries
from honeyguide.errors import BuildError, DataError
from honeyguide.kernels.factors import als_people, als_rows, als_topk
from honeyguide.kernels.itemgraph import covisit_dense, gram_rows
from honeyguide.kernels.topk import dense_topk
from honeyguide.retrieval.exact import ExactTopK
from honeyguide.retrieval.personal import Personal
from honeyguide.retrieval.signals import (
    DAY_US,
    HistoryConfig,
    Signals,
    TrendConfig,
    arguments,
    in_ranges,
    lift,
    signals,
)

__all__ = ["ALS", "EASE", "ALSConfig", "EASEConfig", "NextItem", "NextItemConfig"]


class _Dense(Personal):
    """What the dense models share: a matrix (items, items) by which a history is multiplied.

    It is held as int16 with one scale per row (error at most 1 / 65,534 of a row's largest value): half the memory,
    and half the time of an answer, which is spent reading rows.
    """

    learnt = ("matrix", "scale")
    matrix: I16
    scale: F32  # (items,)

    def _answer(self, *given: Any) -> None:
        dense_topk(*given, self.matrix, self.scale)

    def _keep(self, exact: F32) -> None:
        top = np.maximum(exact.max(axis=1), -exact.min(axis=1))
        self.scale = (np.where(top > 0, top, 1.0) / 32_767.0).astype(np.float32)
        exact /= self.scale[:, None]
        self.matrix = np.rint(exact, out=exact).astype(np.int16)

    def _guard(self, n_items: int) -> None:
        if n_items > self.config.max_items:
            raise BuildError(
                expected=f"at most {self.config.max_items} items for `{self.name}`, whose matrix is items x items",
                got=f"{n_items} items ({n_items**2 * 8 / 1e9:.1f} GB while fitting)",
                do="Use `als` or `rp3beta` for this catalog, or raise max_items.",
            )


def _cholesky(gram: F32, l2: float) -> F32:
    """Upper Cholesky factor of `gram + l2 I`, in the memory of `gram` (symmetric, so its order does not matter)."""
    gram.flat[:: len(gram) + 1] += np.float32(l2)
    factor, info = lapack.spotrf(gram.T, lower=0, overwrite_a=1, clean=0)
    if info:
        raise BuildError(
            expected="a positive definite matrix of items",
            got=f"one that fails at row {info} with l2 = {l2:g}",
            do="Raise l2.",
        )
    return factor


class EASEConfig(BaseModel):
    """Strength of the ridge and the largest catalog it is meant for."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    l2: float = Field(default=2000.0, gt=0, description="ridge, in events")
    max_items: int = Field(default=20_000, ge=1, description="catalogs above this are refused")
    history: HistoryConfig = HistoryConfig(step_power=0.3, newest=500)
    trend: TrendConfig = TrendConfig()


class EASE(_Dense):
    """Closed-form linear autoencoder without a diagonal (Steck 2019): `B = I - P / diag(P)`, `P = (X'X + l2 I)^-1`.

    Price: items^2 x 2 bytes held (27 MB at 3,700 items, 800 MB at 20,000), four times that while fitting, and items^3
    operations: about 1 CPU-second at 3,700 items, some minutes at 20,000. Catalogs above `max_items` are refused.
    """

    name = "ease"
    Config = EASEConfig
    config: EASEConfig

    def _learn(self, events: Signals, seed: int) -> None:
        self._guard(events.n_items)
        by_user, by_item = events.pairs()
        n = events.n_items
        gram = np.zeros((n, n), np.float32)
        given = (
            by_item.indptr.astype(np.int64), by_item.indices, by_item.data, by_user.indptr.astype(np.int64),
            by_user.indices, by_user.data,
        )  # fmt: skip
        in_ranges(n, lambda start, stop: gram_rows(start, stop, *given, gram))
        inverse, _ = lapack.spotri(_cholesky(gram, self.config.l2), lower=0, overwrite_c=1)
        inverse = inverse.T  # C order; the lower triangle now holds the inverse
        diagonal = inverse.diagonal().copy()
        lower = np.tril_indices(n, -1)
        inverse.T[lower] = inverse[lower]
        inverse /= -diagonal[None, :]
        np.fill_diagonal(inverse, 0.0)
        self._keep(inverse)


class NextItemConfig(BaseModel):
    """How far a history reaches forward, and the ridge."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    decay: float = Field(default=0.9, gt=0, lt=1, description="factor per step back in the histories learnt from")
    window: int = Field(default=30, ge=1, le=1_000, description="steps after which a history is cut")
    l2: float = Field(default=1000.0, gt=0, description="ridge, in events")
    max_items: int = Field(default=20_000, ge=1, description="catalogs above this are refused")
    history: HistoryConfig = HistoryConfig(step_power=1.0, newest=50)
    trend: TrendConfig = TrendConfig()


class NextItem(_Dense):
    """Ridge regression of the next item on the decayed history, at every step of everybody's events.

    `B = (sum x x' + l2 I)^-1 sum x y'` with `x` the history so far, newest step 1, then `decay`, `decay^2` ..., and
    `y` the item that came next: co-visitation that has been told what the steps have in common.
    Source: the linear transition model of Choi et al. 2021 (SLIST), with decayed histories on its left side.
    Price: as EASE, with about three times the operations.
    """

    name = "next_item"
    Config = NextItemConfig
    config: NextItemConfig

    def _learn(self, events: Signals, seed: int) -> None:
        self._guard(events.n_items)
        config = self.config
        n = events.n_items
        after = np.zeros((n, n), np.float32)
        by_item = np.zeros(n + 1, np.int64)
        np.cumsum(np.bincount(events.item, minlength=n), out=by_item[1:])
        places = np.argsort(events.item, kind="stable")
        gap_weight = (config.decay ** np.arange(config.window)).astype(np.float32)
        in_ranges(
            n,
            lambda start, stop: covisit_dense(
                start, stop, by_item, places, events.user, events.item, gap_weight, after
            ),
        )
        # sum over t of x_t x_t' for x_t = sum of decay^(t - s) e_s: each pair at gap g counts decay^g / (1 - decay^2)
        scale = np.float32(1.0 / (1.0 - config.decay**2))
        gram = (after + after.T) * np.float32(config.decay) * scale
        gram.flat[:: n + 1] += scale * np.diff(by_item)
        solution, _ = lapack.spotrs(_cholesky(gram, config.l2), after.T.copy().T, lower=0, overwrite_b=1)
        self._keep(np.ascontiguousarray(solution))


class ALSConfig(BaseModel):
    """Size, regularisation and effort."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    d: int = Field(default=64, ge=1, le=1_024, description="dimensions")
    unobserved: float = Field(
        default=2.5, gt=0, le=1_000, description="weight of all pairs not observed, as a multiple of the observed ones"
    )
    reg: float = Field(default=0.03, gt=0, description="regularisation")
    power: float = Field(default=1.0, ge=0, le=2, description="power of the frequency by which regularisation grows")
    epochs: int = Field(default=8, ge=1, le=200)
    solver: Literal["cg", "cholesky"] = Field(default="cg", description="cholesky: exact, d^2 in place of d per event")
    cg_steps: int = Field(default=3, ge=1, le=100, description="conjugate gradient steps per row and epoch")
    fold_in_steps: int = Field(default=10, ge=1, le=100, description="the same when a history is folded in")
    history: HistoryConfig = HistoryConfig(step_power=0.5, newest=500)
    trend: TrendConfig = TrendConfig(prior_events=20.0, power=0.5)


class ALS(Personal):
    """Implicit matrix factorisation with frequency-scaled regularisation (Rendle, Krichene, Zhang and Koren 2021).

    Minimises `sum observed (1 - x'y)^2 + w * sum all (x'y)^2 + reg * (n + w * N)^power |.|^2`, with `n` the row's own
    observations of `N` possible ones and `w = unobserved * density`, so that one setting serves dense and sparse data.
    People are folded in from their history at the moment of the question: a person seen a second ago is served like
    one seen for years. `resume` goes on from an earlier fit in a fraction of the epochs; `learn_items` gives new items
    vectors from the people who took them, without touching the others.
    Price: items x d x 4 bytes held (people x d more while fitting); events x d x 16 x (cg_steps + 1) operations an
    epoch, by Cholesky events x d^2 and d^3 / 3 per row. Sensible to some millions of items; scoring reads all items,
    some milliseconds at a million.
    """

    name = "als"
    Config = ALSConfig
    config: ALSConfig
    learnt = ("factors", "gram", "base")
    factors: F32  # (items, d)
    gram: F32  # (d, d), w * factors.T @ factors
    base: F32  # (1,), w * items
    _index: ExactTopK | None = None

    def _learn(self, events: Signals, seed: int) -> None:
        rng = np.random.default_rng(seed)
        d = self.config.d
        self._epochs(events, rng.normal(0.0, 0.1 / np.sqrt(d), (events.n_items, d)).astype(np.float32))

    def learn(self, events: Signals, seed: int) -> None:
        """Fit on events that are checked already, for a source that uses factors among other things."""
        self._learn(events, seed)

    def resume(
        self, earlier: ALS, interactions: Interactions, catalog: CatalogView, *, epochs: int = 2, seed: int = 0
    ) -> Self:
        """Fit from where `earlier` ended: its items keep their rows, later ones start at random. Returns itself.

        After a day of new events two epochs reach what a fit from nothing reaches in eight. Raises BuildError where
        `earlier` has another d, or more items than there are.
        """
        config = self.config
        known, d = earlier.factors.shape
        if d != config.d or known > interactions.n_items:
            raise BuildError(
                expected=f"an earlier fit with d = {config.d} over at most {interactions.n_items} items",
                got=f"d = {d} over {known} items",
                do="Fit from nothing after a change of d or of the catalog's order.",
            )
        events = signals(interactions, other=config.history.other, use_weights=config.history.use_weights)
        rng = np.random.default_rng(seed)
        items = rng.normal(0.0, 0.1 / np.sqrt(d), (events.n_items, d)).astype(np.float32)
        items[:known] = earlier.factors
        self._epochs(events, items, epochs)
        self.trend = lift(events, config.trend)
        return self

    def learn_items(self, interactions: Interactions, items: I32) -> None:
        """Vectors of items (rows, new ones at the end included) from who took them, by one exact half epoch.

        The other items keep theirs, so every answer about them stays. Raises DataError for rows out of range.
        """
        config = self.config
        events = signals(interactions, other=config.history.other, use_weights=config.history.use_weights)
        wanted = np.unique(np.asarray(items, np.int64))
        if len(wanted) and not (wanted[0] >= 0 and wanted[-1] < events.n_items):
            raise DataError(
                expected=f"item rows from 0 to {events.n_items - 1}",
                got=f"rows from {wanted[0]} to {wanted[-1]}", do="Pass interactions that know these items.",
            )  # fmt: skip
        by_user, by_item = events.pairs(weighted=config.history.use_weights)
        factors = np.zeros((events.n_items, config.d), np.float32)
        factors[: len(self.factors)] = self.factors[: events.n_items]
        new = np.setdiff1d(wanted, np.arange(len(self.factors)))
        factors[new] = 0.0
        weight = np.float32(self.base[0] / max(len(self.factors), 1))
        people = np.zeros((events.n_users, config.d), np.float32)
        self._half(by_user, self._ridge(by_user, weight), weight, factors, people)
        columns = by_item[:, wanted].tocsc()
        fresh = np.zeros((len(wanted), config.d), np.float32)
        self._half(columns, self._ridge(columns, weight, events.n_users), weight, people, fresh)
        factors[wanted] = fresh
        self._keep(factors, weight)
        self.trend = lift(events, config.trend)

    def _keep(self, items: F32, weight: np.float32) -> None:
        self.factors, self.gram = items, weight * (items.T @ items)
        self.base = np.array([weight * len(items)], np.float32)

    def _epochs(self, events: Signals, items: F32, epochs: int | None = None) -> None:
        config = self.config
        by_user, by_item = events.pairs(weighted=config.history.use_weights)
        people = np.zeros((events.n_users, config.d), np.float32)
        weight = np.float32(config.unobserved * by_user.nnz / (events.n_users * events.n_items))
        ridges = self._ridge(by_user, weight), self._ridge(by_item, weight)
        for _ in range(epochs or config.epochs):
            self._half(by_user, ridges[0], weight, items, people)
            self._half(by_item, ridges[1], weight, people, items)
        self._keep(items, weight)

    def _ridge(self, pairs: Any, weight: np.float32, width: int | None = None) -> F32:
        """Per row of `pairs` (its compressed axis): `reg * (observed + weight * possible) ** power`."""
        observed = np.diff(pairs.indptr)
        possible = width or (pairs.shape[1] if pairs.format == "csr" else pairs.shape[0])
        total = observed + float(weight) * possible
        return (self.config.reg * total**self.config.power).astype(np.float32)

    def _half(self, pairs: Any, ridge: F32, weight: np.float32, given: F32, out: F32) -> None:
        gram, indptr = weight * (given.T @ given), pairs.indptr.astype(np.int64)
        steps = self.config.cg_steps if self.config.solver == "cg" else 0
        in_ranges(
            len(out),
            lambda start, stop: als_rows(
                start, stop, indptr, pairs.indices, pairs.data, given, gram, ridge, steps, out
            ),
        )

    def _answer(self, *given: Any) -> None:
        config = self.config
        als_topk(*given, self.factors, self.gram, config.reg, float(self.base[0]), config.power, config.fold_in_steps)

    def people(self, queries: Queries) -> F32:
        """(n, d) the folded-in vector of each question's history; 0 for an empty one."""
        given, config = arguments(queries), self.config
        history, vectors = config.history, np.zeros((len(queries), self.factors.shape[1]), np.float32)
        in_ranges(
            len(queries),
            lambda start, stop: als_people(
                start, stop, *given[:5], self._recency, history.half_life_days * DAY_US, history.other,
                history.use_weights, vectors, self.factors, self.gram, config.reg, float(self.base[0]), config.power,
                config.fold_in_steps,
            ),
        )  # fmt: skip
        return vectors

    def batch(self, queries: Queries, k: int) -> Candidates:
        """`retrieve` for many people at once, several times faster: through `ExactTopK`, and without the trend.

        Equal to `retrieve` of a source without trend up to the rounding of the last digit.
        """
        if self._index is None or self._index.factors is not self.factors:
            vectors = self.people(queries)
            self._index = ExactTopK.measured(self.factors, vectors)
            return self._index.search(vectors, k, queries.exclude)
        return self._index.search(self.people(queries), k, queries.exclude)

    def item_vectors(self) -> F32:
        """(items, d) of unit length, zero for items without events: cosine between them is similarity."""
        length = np.linalg.norm(self.factors, axis=1, keepdims=True)
        return (self.factors / np.where(length > 0, length, 1.0)).astype(np.float32)
