"""Long-term value by a surrogate index: what the hours after a choice say of the weeks that nobody has seen yet.

The index predicts the late outcome from early ones, on people old enough that the late one is known; then it stands for
the late outcome of everybody, also of those who are not. It may, if the early outcomes carry all of the effect (Athey,
Chetty, Imbens and Kang 2019, surrogacy) and people then and now are alike (comparability).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from scipy.special import expit

from honeyguide.contracts import F64, I64, BoolArray
from honeyguide.kernels.calibration import fit_logistic
from honeyguide.kernels.hashing import hash64
from honeyguide.kernels.linear import Design, read_design

__all__ = ["LEAST_ROWS", "LongTermConfig", "SurrogateIndex", "fit_index"]

LEAST_ROWS = 200
"""Moments old enough to know, and of each answer at least a tenth of it, below which there is no index."""
_HELD_OUT = 4  # one in so many people measures
_TOP = 0.995  # quantile of the late amount that counts as 1


class LongTermConfig(BaseModel):
    """One head for what happens within `days` after a choice, in the unit interval.

    outcome "return": the person comes back after the first `early_hours`; "value": what they then bring, as a share of
    what nearly nobody exceeds (the scale is told): the values of events of `action`, or without one the strengths of
    all events. Early outcomes are what the person does within `early_hours`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=64)
    outcome: Literal["return", "value"] = "return"
    days: float = Field(default=14.0, gt=0.0, le=365.0)
    early_hours: float = Field(default=24.0, gt=0.0, le=24.0 * 90)
    action: str = ""
    requests: int = Field(default=20_000, ge=LEAST_ROWS)  # moments that the index is learnt from, at most

    @property
    def said(self) -> str:
        """The late outcome in words."""
        after = f"within {self.days:g} days, the first {self.early_hours:g} hours left out"
        if self.outcome == "return":
            return f"the person comes back {after}"
        return f"{'strength of signs' if not self.action else f'value of {self.action}'} {after}"


@dataclass(frozen=True)
class SurrogateIndex:
    """The late outcome given the early ones, with what people who were not learnt from say of it."""

    design: Design
    weight: F64
    scale: float  # the late amount that counts as 1
    rows: int  # learnt from
    tested: int
    mean: float  # of the late outcome among those tested
    gap: float  # mean prediction less that
    explained: float  # share of the late outcome's variance that the index explains there

    def of(self, early: F64) -> F64:
        """(n, surrogates) -> (n,) in the unit interval."""
        found: F64 = expit(self.design.matrix(columns_of(early)) @ self.weight[:-1] + self.weight[-1])
        return found


def columns_of(early: F64) -> np.ndarray:
    """The surrogates and their logarithms: the second click says less than the first."""
    return np.concatenate([early, np.log1p(np.maximum(early, 0.0))], axis=1).astype(np.float32)


def held_out(unit: I64) -> BoolArray:
    """Which rows are of people who measure."""
    people, place = np.unique(unit, return_inverse=True)
    test: BoolArray = np.array([hash64(str(one), "surrogate") % _HELD_OUT == 0 for one in people.tolist()], np.bool_)
    return test[place]


def fit_index(config: LongTermConfig, early: F64, late: F64, unit: I64) -> SurrogateIndex | str:
    """From moments whose late outcome is known, (n, surrogates), (n,) and people (n,); or why there can be none.

    Late outcomes that are unknown must be left out: they are no zeros.
    """
    if len(late) < LEAST_ROWS:
        return f"only {len(late)} moments are older than {config.days:g} days, not {LEAST_ROWS}"
    scale = 1.0
    if config.outcome == "value":
        scale = float(np.quantile(late[late > 0], _TOP)) if (late > 0).any() else 0.0
        if scale <= 0.0:
            return "nobody brought anything later on"
    share = np.clip(late / scale, 0.0, 1.0)
    test = held_out(unit)
    spread = min(float((share[~test] > 0).sum()), float((share[~test] < 1).sum()))
    if not test.any() or test.all() or spread < LEAST_ROWS / 10:
        return f"too few people, or nearly all alike: of {len(late)} moments {int((share > 0).sum())} have the outcome"
    design = read_design(columns_of(early[~test]))
    if not design.width:
        return "nothing that happens early varies"
    weight = fit_logistic(design.matrix(columns_of(early[~test])), share[~test], ridge=1.0)
    index = SurrogateIndex(design, weight, scale, int((~test).sum()), int(test.sum()), 0.0, 0.0, 0.0)
    said, true = index.of(early[test]), share[test]
    variance = float(true.var())
    explained = float(np.clip(1.0 - ((true - said) ** 2).mean() / variance, 0.0, 1.0)) if variance > 0 else 0.0
    return SurrogateIndex(
        design, weight, scale, index.rows, index.tested, float(true.mean()), float(said.mean() - true.mean()), explained
    )
