"""The order between items: how alike they may be, whose tastes the list mirrors, whom it may not leave out."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from honeyguide.contracts import F32, F64, I32, CatalogView
from honeyguide.kernels import diversity as kernel
from honeyguide.slate.columns import item_labels
from honeyguide.slate.groups import Group, GroupConfig

__all__ = ["DiversifyConfig", "Diversifier", "ShareConfig", "unit_rows"]

_KINDS = {"mmr": kernel.MMR, "dpp": kernel.DPP, "calibrated": kernel.CALIBRATED, "none": kernel.MMR}


class ShareConfig(BaseModel):
    """A group's least share of each list: of its first n items at least floor(share x n), while there are any."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    group: GroupConfig
    share: float = Field(gt=0.0, le=1.0)


class DiversifyConfig(BaseModel):
    """Greedy: next is the highest weight x relevance + (1 - weight) x what the item adds to the list.

    `relevance` is the utility scaled over the `pool` best candidates, best 1, last 0. What an item adds:
    mmr: minus the highest cosine to what was chosen, negative ones count as 0 (Carbonell and Goldstein 1998);
    dpp: the logarithm by which the determinant of the list's cosines grows (Chen, Zhang and Zhou 2018);
    calibrated: minus the divergence between the labels of the person's history and of the list (Steck 2018), over
    `column`: `category`, `people`, `country` or an attribute of the items. Without a history: the order of the utility.
    The weights are `mmr_lambda`, `dpp_theta` and `calibration_lambda`; 1.0, or kind none, leaves the utility's order.
    shares: groups that no list may leave out; the order is otherwise the same.
    Costs about slots x pool x dimensions multiplications.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["mmr", "dpp", "calibrated", "none"] = "mmr"
    mmr_lambda: float = Field(default=0.9, ge=0.0, le=1.0)
    dpp_theta: float = Field(default=0.9, ge=0.0, le=1.0)
    calibration_lambda: float = Field(default=0.5, ge=0.0, le=1.0)
    column: str = "category"
    shares: tuple[ShareConfig, ...] = Field(default=(), max_length=8)
    pool: int = Field(default=100, ge=1, le=2_000)  # candidates

    @property
    def weight(self) -> float:
        """The share of relevance in what the kind maximises."""
        weights = {"mmr": self.mmr_lambda, "dpp": self.dpp_theta, "calibrated": self.calibration_lambda}
        return weights.get(self.kind, 1.0)

    @property
    def said(self) -> str:
        """The order in words."""
        spoken = {"mmr": "MMR", "dpp": "DPP", "calibrated": f"calibrated to the history's {self.column}"}
        parts = [f"{spoken[self.kind]}, share {1.0 - self.weight:.4g}"] if self.weight < 1.0 else []
        parts += [f"at least {one.share:.0%} {one.group.said}" for one in self.shares]
        return "; ".join(parts) or "none"


class Diversifier:
    """A `DiversifyConfig` over one view of the catalog, as the kernel takes it.

    vectors: (items, d), rows of length 1 or 0. Raises ConfigError for a column or a value that no item has.
    """

    def __init__(self, config: DiversifyConfig, catalog: CatalogView, vectors: F32) -> None:
        self.config = config
        calibrated = config.kind == "calibrated" and config.weight < 1.0
        if calibrated:
            labels, names = item_labels(catalog, config.column)
            indptr, values, self._labels = labels.indptr, labels.values, len(names)
        else:
            indptr, values, self._labels = np.zeros(1, np.int64), np.zeros(0, np.int32), 0
        self.wants_history = calibrated
        self._groups = [Group(one.group, catalog) for one in config.shares]
        self._moving = any(one.group.newer_than_days is not None for one in config.shares)
        self._how = kernel.Diversity(
            _KINDS[config.kind], config.weight, config.pool, vectors, frozen(indptr, np.int64),
            frozen(values, np.int32), np.zeros(self._labels), self._bits(0),
            np.array([one.share for one in config.shares], np.float64),
        )  # fmt: skip

    def how(self, now_us: int, items: I32, weights: F32) -> kernel.Diversity:
        """For one request: items and weights are the person's history (or the seeds) with the strength of each sign."""
        how = self._how
        if self.wants_history and len(items):
            how = how._replace(target=self.target(items, weights))
        if self._moving:
            how = how._replace(groups=self._bits(now_us))
        return how

    def target(self, items: I32, weights: F32) -> F64:
        """(labels,) the share of each label in a history: an item's weight is parted evenly among its labels."""
        indptr, values = self._how.label_indptr, self._how.label_values
        there = (items >= 0) & (items < len(indptr) - 1) & (weights > 0)
        rows, weight = items[there], weights[there].astype(np.float64)
        lengths = indptr[rows + 1] - indptr[rows]
        flat = np.arange(lengths.sum()) + np.repeat(indptr[rows] - np.cumsum(lengths) + lengths, lengths)
        total = np.bincount(values[flat], np.repeat(weight / np.maximum(lengths, 1), lengths), minlength=self._labels)
        return total / total.sum() if total.sum() > 0 else np.zeros(self._labels)

    def _bits(self, now_us: int) -> np.ndarray:
        """uint8 by item row, a bit per group; empty without groups."""
        if not self._groups:
            return frozen(np.zeros(0), np.uint8)
        bits = np.zeros(len(self._groups[0].members), np.uint8)
        for at, group in enumerate(self._groups):
            bits |= group.all(now_us).astype(np.uint8) << np.uint8(at)
        return frozen(bits, np.uint8)


def unit_rows(vectors: F32) -> F32:
    """The rows scaled to length 1, so that a product is a cosine; rows of zeros (or of no number) become 0."""
    vectors = np.nan_to_num(np.asarray(vectors, np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 0)


def frozen(array: np.ndarray, dtype: np.typing.DTypeLike) -> np.ndarray:
    """The array as a kernel that is compiled once takes catalog arrays: contiguous, read-only, a plain ndarray."""
    view = np.ascontiguousarray(array, dtype).view(np.ndarray)
    view.flags.writeable = False
    return view
