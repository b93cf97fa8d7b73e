"""Hyper-parameters of a head by time-blocked cross validation: learn from what came before a block, predict the block.

The rows that a build measures on are never looked at.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from honeyguide.contracts import F64, I64
from honeyguide.errors import BuildError
from honeyguide.kernels.calibration import log_losses
from honeyguide.ranking.config import RankerConfig
from honeyguide.ranking.heads import HeadConfig
from honeyguide.ranking.measure import gain_of, ndcg_by_group
from honeyguide.ranking.models import Family
from honeyguide.ranking.rows import Rows
from honeyguide.ranking.split import split_by_time, thin

__all__ = ["Fold", "Trials", "folds_of"]

BLOCKS = 4
"""Blocks of time; each but the first is predicted from those before it."""
STOP_SHARE = 0.15
"""Of the rows that a fold learns from, the newest: where trees stop growing."""
_EQUAL = (1.0 / BLOCKS, 1.0 / BLOCKS, 1.0 / BLOCKS)
_NEWEST = (STOP_SHARE / 3, STOP_SHARE / 3, STOP_SHARE / 3)


@dataclass(frozen=True)
class Fold:
    """Rows in order of time: to learn from, to stop on, to predict."""

    fit: I64
    stop: I64
    judge: I64


def folds_of(config: RankerConfig, head: HeadConfig, index: int, rows: Rows, *, seed: int = 0) -> list[Fold]:
    """The folds of a head over all rows older than those that a build measures on; [] if there are too few."""
    label = rows.labels[:, index]
    known = ~np.isnan(label)
    if rows.told is not None:
        known &= rows.told[:, index] >= 1.0
    ranks = head.kind == "rank"
    group = rows.group if ranks else None
    if ranks:
        if group is None:
            return []
        known &= group >= 0
        shares = (config.rank_share, config.rank_share, config.rank_share)
    else:
        shares = (config.stop_share, config.calibrate_share, config.test_share)
    parts = split_by_time(known, rows.at, group, shares)
    older = np.concatenate([parts.fit, parts.stop, parts.calibrate])
    mask = np.zeros(len(rows.at), np.bool_)
    mask[older] = True
    blocks = split_by_time(mask, rows.at, group, _EQUAL)
    cut = [blocks.fit, blocks.stop, blocks.calibrate, blocks.test]
    rng, folds = np.random.default_rng(seed), []
    for at in range(1, BLOCKS):
        before = np.concatenate(cut[:at])[-head.max_rows :]
        kept = np.zeros(len(rows.at), np.bool_)
        kept[before] = True
        inner = split_by_time(kept, rows.at, group, _NEWEST)
        stop = np.concatenate([inner.stop, inner.calibrate, inner.test])
        fold = Fold(inner.fit, stop, cut[at])
        if group is not None:
            fold = Fold(
                thin(fold.fit, label, group, head.negatives_per_group, rng),
                thin(fold.stop, label, group, head.negatives_per_group, rng), fold.judge,
            )  # fmt: skip
        if all(0.0 < float(label[part].mean()) < 1.0 for part in (fold.fit, fold.stop, fold.judge) if len(part)):
            folds.append(fold)
    return folds


@dataclass(frozen=True)
class Trials:
    """Parameters of one kind of model tried on the folds of one head."""

    head: HeadConfig
    index: int
    rows: Rows
    folds: list[Fold]
    family: Family

    @property
    def kind(self) -> Literal["trees", "linear"]:
        """Of the model."""
        return "trees" if self.family.kind == "trees" else "linear"

    @property
    def searched(self) -> list[Fold]:
        """The folds that parameters are chosen on."""
        return self.folds[:-1] or self.folds

    @property
    def decided(self) -> list[Fold]:
        """The newest fold, on which what was chosen is compared with what there is."""
        return self.folds[-1:]

    def losses(self, parameters: dict[str, Any], folds: list[Fold]) -> F64:
        """What each row to predict (each request, of a head that ranks) loses, fold after fold; lower is better."""
        head = self.head.model_copy(update=parameters)
        ranks, found = head.kind == "rank", []
        for fold in folds:
            x, y, group, _ = self.rows.take(fold.fit, self.index)
            stop_x, stop_y, stop_group, _ = self.rows.take(fold.stop, self.index)
            model = self.family.fit(
                head, x, y, group=group if ranks else None, weight=self._weight(fold.fit),
                stop=(stop_x, stop_y, stop_group if ranks else None),
            )  # fmt: skip
            raw = model.raw(self.rows.features[fold.judge])
            label = self.rows.labels[fold.judge, self.index]
            if not ranks:
                found.append(log_losses(1.0 / (1.0 + np.exp(-raw)), label.astype(np.float64)))
            elif self.rows.group is not None:
                found.append(1.0 - ndcg_by_group(raw, label, self.rows.group[fold.judge]))
        if not found:
            raise BuildError(expected="rows to try on", got="none", do="Build with more data.")
        return np.concatenate(found)

    def _weight(self, which: I64) -> Any:
        """Rows drawn at different rates count as those they stand for; then nothing is to be corrected afterwards."""
        if self.rows.rate is None or self.head.kind == "rank":
            return None
        weight = 1.0 / np.maximum(self.rows.rate[which].astype(np.float64), 1e-12)
        return (
            None if float(np.ptp(weight)) <= 1e-6 * float(weight.max()) else (weight / weight.mean()).astype(np.float32)
        )

    def gain(
        self, mine: F64, theirs: F64, folds: list[Fold], *, seed: int = 0
    ) -> tuple[float | None, float | None, float | None]:
        """By how much the first losses lie below the second, with a 95 % interval that resamples people."""
        unit = None
        if self.head.kind != "rank" and self.rows.unit is not None:
            unit = self.rows.unit[np.concatenate([fold.judge for fold in folds])]
        return gain_of(theirs - mine, unit, seed=seed)
