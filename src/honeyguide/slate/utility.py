"""What a slate maximises: calibrated probabilities, weighed or in a formula, and ranks where there are none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, field_validator

from honeyguide.contracts import F64, I32, CatalogView
from honeyguide.errors import ConfigError, DataError
from honeyguide.slate.columns import item_numbers
from honeyguide.slate.formula import Formula
from honeyguide.slate.groups import Group, GroupConfig

__all__ = ["Added", "FatigueConfig", "Price", "UtilityConfig", "UtilityWeights"]

NOTHING: F64 = np.zeros(0)
_SLACK = 1e-9


_parsed = lru_cache(maxsize=256)(Formula.parse)


class FatigueConfig(BaseModel):
    """An item that a person was shown n times within `days`, since they last did anything with it, counts less:
    a utility above 0 is multiplied by `keep` to the n-th, one below 0 divided by it. keep 1: no fatigue."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    keep: float = Field(default=1.0, gt=0.0, le=1.0)
    days: float = Field(default=14.0, gt=0.0, le=365.0)


class UtilityConfig(BaseModel):
    """utility = formula + sum(weights x p) + sum(rank_weights x r) + blend_weight x r(blend), then fatigue.

    p: a head's calibrated probability. r = c / (c + rank - 1) with c = `rank_constant` and the rank of the head's score
    among the request's surviving candidates (1 = best, equal scores share the better rank), so the best has r = 1 and
    a longer list of candidates changes nothing at its top. A head that only ranks has no place in `weights` or in
    `formula`: its scores are not probabilities, and a sum of them would mean nothing.
    formula: + - * / min max over heads and `item.COLUMN` (see `slate/formula.py`).
    Without any weight the utility is r(blend), the retrieval's own order.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    formula: str = ""
    weights: dict[str, FiniteFloat] = {}
    rank_weights: dict[str, FiniteFloat] = {}
    blend_weight: FiniteFloat = 0.0
    rank_constant: float = Field(default=60.0, gt=0.0, allow_inf_nan=False)
    fatigue: FatigueConfig = FatigueConfig()

    @field_validator("formula")
    @classmethod
    def _parses(cls, text: str) -> str:
        if text:
            Formula.parse(text)
        return text

    @property
    def parsed(self) -> Formula | None:
        """The formula, None if there is none."""
        return _parsed(self.formula) if self.formula else None

    @property
    def heads(self) -> tuple[str, ...]:
        """Every head that it reads."""
        of_formula = self.parsed.heads if self.parsed is not None else ()
        return tuple(dict.fromkeys((*self.weights, *self.rank_weights, *of_formula)))

    def without(self, heads: set[str]) -> UtilityConfig:
        """The same without these heads; weight on a rank goes to the blend's rank. Terms of the formula go whole."""
        lost = sum(weight for name, weight in self.rank_weights.items() if name in heads)
        formula = self.parsed.without(heads) if self.parsed is not None else None
        return self.model_copy(
            update={
                "formula": formula.text if formula is not None else "",
                "weights": {name: weight for name, weight in self.weights.items() if name not in heads},
                "rank_weights": {name: weight for name, weight in self.rank_weights.items() if name not in heads},
                "blend_weight": self.blend_weight + lost,
            }
        )


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
        formula = config.parsed
        of_formula = formula.heads if formula is not None else ()
        for name in (*config.weights, *config.rank_weights, *of_formula):
            if name not in heads:
                raise ConfigError(
                    expected=f"heads that the build trained ({known})",
                    got=f"{name!r} in the formula" if name in of_formula else f"a utility weight for {name!r}",
                    do="Mend the name in the surface's utility, or add the head and build again.",
                )
        for name in (*config.weights, *of_formula):
            if not heads[name]:
                where = "in the formula" if name in of_formula else "under `weights`"
                raise ConfigError(
                    expected=f"calibrated probabilities {where}",
                    got=f"{name!r}, a head that only ranks",
                    do="Move it to `rank_weights`, where its rank counts, or calibrate it.",
                )
        probability = np.array([config.weights.get(name, 0.0) for name in heads], np.float64)
        rank = np.array([config.rank_weights.get(name, 0.0) for name in heads], np.float64)
        weightless = not probability.any() and not rank.any() and config.blend_weight == 0.0 and formula is None
        blend = 1.0 if weightless else config.blend_weight
        return cls(tuple(heads), probability, rank, blend, config.rank_constant)


@dataclass(frozen=True, slots=True)
class Price:
    """What a guardrail adds to the utility of each item: `amount` x the head's score, or x whether it is a member.

    A head that is to stay low has a negative amount.
    """

    name: str
    amount: float
    head: str = ""
    group: GroupConfig | None = None


class Added:
    """The part of a utility that is no weighted sum: the formula, and what guardrails add."""

    def __init__(
        self, config: UtilityConfig, prices: Sequence[Price], heads: Mapping[str, bool], catalog: CatalogView
    ) -> None:
        """heads: in the order of the score columns.

        Raises ConfigError for a column that the catalog does not have, and for a guardrail over an unknown head.
        """
        self._formula = config.parsed
        self._at = {name: column for column, name in enumerate(heads)}
        columns = self._formula.columns if self._formula is not None else ()
        self._columns = {name: item_numbers(catalog, name) for name in columns}
        served = [price for price in prices if price.amount != 0.0]
        for price in served:
            if price.head and price.head not in heads:
                raise ConfigError(
                    expected=f"guardrails over heads in service ({', '.join(heads) or 'none'})",
                    got=f"{price.head!r} in {price.name!r}",
                    do="Build again.",
                )
        self._by_head = [(price.name, self._at[price.head], price.amount) for price in served if price.head]
        self._by_group = [(p.name, Group(p.group, catalog), p.amount) for p in served if p.group is not None]

    def __bool__(self) -> bool:
        return self._formula is not None or bool(self._by_head or self._by_group)

    def of(self, rows: I32, scores: F64, now_us: int) -> F64:
        """(n,) for item rows and their scores (n, heads); empty where nothing is added.

        Raises DataError where a probability is none.
        """
        if not self:
            return NOTHING
        first, *others = self.parts(rows, scores, now_us).values()
        for other in others:
            first = first + other
        return first

    def against(self, rows: I32, scores: F64, now_us: int) -> frozenset[str]:
        """Heads that the formula holds against an item: were they lower, it would be higher over these candidates."""
        if self._formula is None:
            return frozenset()
        now = self.parts(rows, scores, now_us)["formula"]
        found = set()
        for name in self._formula.heads:
            less = scores.copy()
            less[:, self._at[name]] *= 0.9
            if np.nansum(self.parts(rows, less, now_us)["formula"] - now) > 0.0:
                found.add(name)
        return frozenset(found)

    def parts(self, rows: I32, scores: F64, now_us: int) -> dict[str, F64]:
        """By name (`formula`, or the guardrail's), what each adds: (n,)."""
        found: dict[str, F64] = {}
        if self._formula is not None:
            heads = {name: scores[:, self._at[name]] for name in self._formula.heads}
            for name, score in heads.items():
                if ((score < -_SLACK) | (score > 1.0 + _SLACK)).any():
                    raise DataError(
                        expected=f"probabilities from the calibrated head {name!r}",
                        got="a score outside [0, 1]",
                        do="Calibrate the head, or say that it only ranks.",
                    )
            columns = {name: _of(values, rows) for name, values in self._columns.items()}
            found["formula"] = self._formula.value(heads, columns, len(rows))
        for name, column, amount in self._by_head:
            found[f"guardrail {name}"] = amount * scores[:, column]
        for name, group, amount in self._by_group:
            found[f"guardrail {name}"] = np.where(group.of(rows, now_us), amount, 0.0)
        return found


def _of(values: F64, rows: I32) -> F64:
    """A column's values at rows; nan for rows that it does not have."""
    inside = (rows >= 0) & (rows < len(values))
    if not len(values):
        return np.full(len(rows), np.nan)
    return np.where(inside, values[np.where(inside, rows, 0)], np.nan)
