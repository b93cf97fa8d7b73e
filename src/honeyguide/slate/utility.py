"""What a slate maximises: weights times calibrated probabilities, and ranks where there is no probability."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from honeyguide.contracts import F64
from honeyguide.errors import ConfigError

__all__ = ["UtilityConfig", "UtilityWeights"]


class UtilityConfig(BaseModel):
    """utility = sum(weights x p) + sum(rank_weights x r) + blend_weight x r(blend).

    p: a head's calibrated probability. r = c / (c + rank - 1) with c = `rank_constant` and the rank of the head's score
    among the request's surviving candidates (1 = best, equal scores share the better rank), so the best has r = 1 and
    a longer list of candidates changes nothing at its top. A head that only ranks has no place in `weights`: its scores
    are not probabilities, and a sum of them would mean nothing.
    Without any weight the utility is r(blend), the retrieval's own order.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    weights: dict[str, FiniteFloat] = {}
    rank_weights: dict[str, FiniteFloat] = {}
    blend_weight: FiniteFloat = 0.0
    rank_constant: float = Field(default=60.0, gt=0.0, allow_inf_nan=False)


@dataclass(frozen=True, slots=True)
class UtilityWeights:
    """A `UtilityConfig` matched with the heads that there are, as arrays by head."""

    heads: tuple[str, ...]
    probability: F64  # (heads,)
    rank: F64  # (heads,)
    blend: float
    rank_constant: float

    @classmethod
    def of(cls, config: UtilityConfig, heads: Mapping[str, bool]) -> UtilityWeights:
        """Match with `heads`: name -> calibrated, in the order of the score columns.

        Raises ConfigError for a head nobody trained, and for one that only ranks but is weighted as a probability.
        """
        known = ", ".join(heads) or "no head at all"
        for name in (*config.weights, *config.rank_weights):
            if name not in heads:
                raise ConfigError(
                    expected=f"heads that the build trained ({known})",
                    got=f"a utility weight for {name!r}",
                    do="Mend the name in the surface's utility, or add the head and build again.",
                )
        for name in config.weights:
            if not heads[name]:
                raise ConfigError(
                    expected="calibrated probabilities under `weights`",
                    got=f"{name!r}, a head that only ranks",
                    do="Move it to `rank_weights`, where its rank counts, or calibrate it.",
                )
        probability = np.array([config.weights.get(name, 0.0) for name in heads], np.float64)
        rank = np.array([config.rank_weights.get(name, 0.0) for name in heads], np.float64)
        weightless = not probability.any() and not rank.any() and config.blend_weight == 0.0
        blend = 1.0 if weightless else config.blend_weight
        return cls(tuple(heads), probability, rank, blend, config.rank_constant)
