"""Linear scores: a design of plain columns, and the order within a request that a linear score can learn.

A column of few values is split into one indicator per value; any other is standardised, and a missing value counts as
the mean, with an indicator that says so.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

__all__ = ["Design", "fit_listwise", "linear_scores", "read_design"]

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
_FAR = 10.0
"""Standard deviations beyond which a value counts as this far: one outlier must not move a line."""


@dataclass(frozen=True, slots=True)
class Design:
    """How features become columns: `dense` standardised, `gap` tells what is missing, `few` single values."""

    n_features: npt.NDArray[np.int32]  # (1,)
    dense: npt.NDArray[np.int32]  # (d,) features
    mean: F64  # (d,)
    spread: F64  # (d,)
    gap: npt.NDArray[np.int32]  # (g,) features that may be missing
    few: npt.NDArray[np.int32]  # (v,) features, one entry per value
    value: F32  # (v,) the value that the entry indicates

    @property
    def width(self) -> int:
        """Columns of the design."""
        return len(self.dense) + len(self.gap) + len(self.few)

    def matrix(self, features: F32) -> F64:
        """(n, features) -> (n, width)."""
        x = np.asarray(features)
        scaled = np.clip((x[:, self.dense] - self.mean) / self.spread, -_FAR, _FAR)
        return np.concatenate(
            [np.nan_to_num(scaled), np.isnan(x[:, self.gap]), x[:, self.few] == self.value], axis=1, dtype=np.float64
        )

    def feature_of(self) -> npt.NDArray[np.int32]:
        """The feature behind each column of the design, (width,)."""
        return np.concatenate([self.dense, self.gap, self.few])

    def arrays(self) -> dict[str, np.ndarray]:
        """By name, to be kept."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def read_design(features: F32, *, few: int = 16) -> Design:
    """The design for these features (n, k): columns of at most `few` different whole values are split into indicators.

    A column that never varies, or is never known, has no place in it.
    """
    n, k = features.shape
    dense, mean, spread, gaps, split, values = [], [], [], [], [], []
    for column in range(k):
        x = features[:, column]
        known = x[np.isfinite(x)]
        if len(known) < n and len(known):
            gaps.append(column)
        different = np.unique(known[:10_000])
        if len(different) <= few:
            different = np.unique(known)
        if 2 < len(different) <= few and (different == np.round(different)).all():
            # The most frequent value is what the others are compared with.
            counts = np.array([(known == value).sum() for value in different])
            rest = np.delete(different, int(counts.argmax()))
            split += [column] * len(rest)
            values += rest.tolist()
        elif len(different) > 1:
            deviation = float(known.astype(np.float64).std())
            if deviation > 0.0:
                dense.append(column)
                mean.append(float(known.astype(np.float64).mean()))
                spread.append(deviation)
    return Design(
        np.array([k], np.int32), np.array(dense, np.int32), np.array(mean, np.float64), np.array(spread, np.float64),
        np.array(gaps, np.int32), np.array(split, np.int32), np.array(values, np.float32),
    )  # fmt: skip


def linear_scores(design: Design, weight: F64, features: F32) -> F64:
    """Scores (n,): the design's columns times `weight` (width + 1,), whose last entry is the intercept."""
    if features.ndim != 2 or features.shape[1] != design.n_features[0]:
        raise ValueError(f"expected (n, {design.n_features[0]}) features, got {features.shape}")
    found: F64 = design.matrix(features) @ weight[:-1] + weight[-1]
    return found


def fit_listwise(design: F64, label: F64, group: npt.NDArray[np.int64], *, ridge: float = 1.0, steps: int = 100) -> F64:
    """Weights (k,) of a score that orders the rows of a group: (n, k), (n,), (n,) -> (k,).

    Minimises, summed over the groups that hold both, the cross entropy between softmax(score) and the labels' shares,
    plus `ridge` / 2 times the squared weights.
    Source: Cao et al. 2007 (ListNet, top one); with one positive a group it is the conditional logit of McFadden 1973.
    """
    order = np.argsort(group, kind="stable")
    x, y, g = np.asarray(design, np.float64)[order], np.asarray(label, np.float64)[order], group[order]
    starts = np.flatnonzero(np.r_[True, g[1:] != g[:-1]]) if len(g) else np.zeros(0, np.int64)
    if not len(starts):
        return np.zeros(x.shape[1])
    lengths = np.diff(np.append(starts, len(g)))
    total = np.add.reduceat(y, starts)
    told = np.repeat((total > 0) & (total < lengths), lengths)
    share = np.where(told, y / np.maximum(np.repeat(total, lengths), 1e-12), 0.0)

    def loss(w: F64) -> tuple[float, F64]:
        z = x @ w
        z -= np.repeat(np.maximum.reduceat(z, starts), lengths)
        e = np.exp(z)
        q = e / np.repeat(np.add.reduceat(e, starts), lengths)
        value = -float(share[told] @ np.log(np.maximum(q[told], 1e-300))) + 0.5 * ridge * float(w @ w)
        return value, x.T @ np.where(told, q - share, 0.0) + ridge * w

    found = minimize(loss, np.zeros(x.shape[1]), jac=True, method="L-BFGS-B", options={"maxiter": steps})
    weights: F64 = found.x
    return weights
