"""Spectral filters of the item graph: a sparse linear filter, a sharpened low pass, and factors, as one score."""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from scipy import sparse

from honeyguide.contracts import F32, I32, I64
from honeyguide.kernels.spectral import spectral_topk
from honeyguide.retrieval.covisit import level_rows, together
from honeyguide.retrieval.factors import ALS, ALSConfig
from honeyguide.retrieval.personal import Personal
from honeyguide.retrieval.signals import HistoryConfig, Signals, TrendConfig

__all__ = ["Spectral", "SpectralConfig", "low_rank"]

_OVERSAMPLE = 16


class SpectralConfig(BaseModel):
    """The three parts and their weights beside each other; the graph's is 1.

    Powers below 1/2 each take popularity off only in part: then what many took stays a little ahead.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    width: int = Field(default=200, ge=1, le=5_000, description="neighbours kept per item of the linear filter")
    user_power: float = Field(default=0.7, ge=0, le=2, description="power of a person's count that divides")
    item_power: float = Field(default=0.33, ge=0, le=2, description="power of a neighbour's count that divides")
    amplify: float = Field(default=1.4, gt=0, le=5, description="power of each strength of the linear filter")
    d: int = Field(default=64, ge=0, le=2_048, description="frequencies that the low pass lets through; 0 = none")
    low_weight: float = Field(default=0.4, ge=0, le=100, description="of the low pass beside the graph")
    sharpen: float = Field(default=0.5, ge=0, le=1, description="how much of the very lowest frequency is taken off")
    iterations: int = Field(default=2, ge=0, le=50, description="power iterations of the randomised SVD")
    als: ALSConfig | None = Field(default=None, description="factors beside the filters; its history is not asked")
    als_weight: float = Field(default=0.6, ge=0, le=100, description="of the factors beside the graph")
    history: HistoryConfig = HistoryConfig(newest=500, use_weights=False)
    trend: TrendConfig = TrendConfig()


class Spectral(Personal):
    """Graph filters of collaborative filtering (Shen et al. 2021, GF-CF; Choi et al. 2023, BSPM for the sharpening).

    With `R~ = D_u^-a/2 R D_i^-b` (a = user_power, b = item_power): the linear filter `R~' R~`, its rows cut to the best
    `width`, raised to `amplify`, made to sum to 1; the low pass `D_i^-b V f V' D_i^b` over the first d right singular
    vectors of R~, with `f = 1 - sharpen (s / s_1)^2`: one step of the blurred signal against its own blur, which costs
    nothing in this basis. `als` adds factors as further columns of the same product. Each part is scaled to a root mean
    square of 1.
    Price: `width` x items x 8 bytes and (2 d + e) x items x 4; fitting costs the graph and 2 (iterations + 1) products
    of the events with d columns; a question reads (d + e) x items floats: .1 ms at 3,700 items and d = 64, 5 ms at
    41,000 items and d + e = 512. Beyond some 100,000 items use `rp3beta`.
    """

    name = "spectral"
    Config = SpectralConfig
    config: SpectralConfig
    learnt = ("indptr", "cols", "vals", "left", "right", "low_gram", "als_gram", "base")
    indptr: I64
    cols: I32
    vals: F32
    left: F32  # (items, d)
    right: F32  # (items, d + e)
    low_gram: F32  # (d, d)
    als_gram: F32  # (e, e), w * factors.T @ factors
    base: F32  # (1,), w * items

    def _learn(self, events: Signals, seed: int) -> None:
        config = self.config
        by_user, by_item = events.pairs()
        n_u, n_i = np.diff(by_user.indptr), np.diff(by_item.indptr)
        per_item = np.maximum(n_i, 1).astype(np.float64)
        ones = np.ones(events.n_items, np.float32)
        self.indptr, self.cols, self.vals = together(
            by_user, by_item, (np.maximum(n_u, 1) ** -config.user_power).astype(np.float32), ones,
            (per_item**-config.item_power).astype(np.float32), config.width,
        )  # fmt: skip
        level_rows(self.indptr, self.vals, 1.0, config.amplify)
        d = min(config.d, events.n_items - 1, events.n_users) if config.low_weight else 0
        if d > 0:
            scaled = by_user.copy()
            scaled.data = (
                np.repeat(np.maximum(n_u, 1) ** (-0.5 * config.user_power), n_u)
                * (per_item**-config.item_power)[by_user.indices]
            ).astype(np.float32)
            s, v = low_rank(scaled, d, config.iterations, seed)
            f = 1.0 - config.sharpen * (s / max(float(s[0]), 1e-12)) ** 2
            level = (per_item**config.item_power).astype(np.float32)[:, None]
            self.left = v / level
            self.left *= f.astype(np.float32)
            right = v
            right *= level
        else:
            self.left = right = np.zeros((events.n_items, 0), np.float32)
        self.low_gram = (right.T @ right / events.n_items).astype(np.float32)
        self.als_gram, self.base = np.zeros((0, 0), np.float32), np.ones(1, np.float32)
        if config.als is not None and config.als_weight:
            als = ALS(config.als.model_copy(update={"history": config.history}))
            als.learn(events, seed)
            right = np.concatenate([right, als.factors], axis=1)
            self.als_gram, self.base = als.gram, als.base
        self.right = right

    def _answer(self, *given: Any) -> None:
        config, als = self.config, self.config.als or ALSConfig()
        spectral_topk(
            *given, self.indptr, self.cols, self.vals, self.left, self.right, self.low_gram, self.als_gram,
            config.low_weight, config.als_weight, als.reg, float(self.base[0]), als.power, als.fold_in_steps,
            float(self.base[0]) / len(self.right),
        )  # fmt: skip


def low_rank(matrix: sparse.csr_matrix, d: int, iterations: int, seed: int) -> tuple[F32, F32]:
    """The first `d` singular values and right singular vectors (columns, d) of a sparse matrix, approximately.

    Source: Halko, Martinsson and Tropp 2011, algorithm 4.4, with power iterations. Each vector's largest entry is
    positive, so that the same data give the same signs.
    """
    rng = np.random.default_rng(seed)
    wide = min(d + _OVERSAMPLE, *matrix.shape)
    basis = rng.standard_normal((matrix.shape[1], wide), np.float32)
    turned = matrix.T.tocsr()
    for _ in range(iterations + 1):
        basis = _orthonormal(turned @ (matrix @ basis))
    image = matrix @ basis
    # the eigenvectors of the small gram: a tall SVD would cost ten times as much
    values, vectors = np.linalg.eigh((image.T @ image).astype(np.float64))
    order = np.argsort(-values)[:d]
    v = basis @ vectors[:, order].astype(np.float32)
    sign = np.sign(v[np.abs(v).argmax(axis=0), np.arange(v.shape[1])])
    v *= np.where(sign == 0, 1, sign).astype(np.float32)
    return np.sqrt(np.maximum(values[order], 0.0)).astype(np.float32), v


def _orthonormal(tall: F32) -> F32:
    """An orthonormal basis of the columns, by the gram: half the time and memory of Householder, precise enough here.

    Directions that float32 cannot tell from nothing become 0.
    """
    values, vectors = np.linalg.eigh((tall.T @ tall).astype(np.float64))
    scale = np.where(values > 1e-6 * values[-1], 1.0 / np.sqrt(np.maximum(values, 1e-300)), 0.0)
    return tall @ (vectors * scale).astype(np.float32)
