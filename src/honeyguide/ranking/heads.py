"""What a head predicts: an outcome, read from events; and whether its score may be called a probability."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from honeyguide.contracts import F32, I16, BoolArray
from honeyguide.kernels.trees import MAX_DEPTH

__all__ = ["FILM_HEADS", "HeadConfig", "labels"]


class HeadConfig(BaseModel):
    """One head: `action` (with a value in `min_value`..`max_value`) happened, `given` that another action did.

    kind "probability": a calibrated probability that may be weighed and summed with others. kind "rank": an order of
    candidates within one request and nothing more; its score must never be read, or summed, as a probability.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=64)
    action: str = Field(min_length=1)
    min_value: float | None = None  # inclusive
    max_value: float | None = None  # inclusive
    given: str | None = None  # without this action on the same person and item the outcome is unknown, not absent
    follows: str | None = None  # the head whose outcome comes first: deep heads learn p(that) x p(this | that)
    kind: Literal["probability", "rank"] = "probability"
    trees: int = Field(default=200, ge=1, le=5000)
    depth: int = Field(default=6, ge=1, le=MAX_DEPTH)
    learning_rate: float = Field(default=0.12, gt=0.0, le=1.0)
    max_rows: int = Field(default=200_000, ge=100)  # to learn from; the newest are kept
    negatives_per_group: int = Field(default=20, ge=1)  # kind "rank": of a request's candidates without the outcome

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min_value is not None and self.max_value is not None and self.min_value > self.max_value:
            raise ValueError(f"min_value {self.min_value} lies above max_value {self.max_value}")
        return self

    @property
    def calibrated(self) -> bool:
        """Whether the score is a probability."""
        return self.kind == "probability"


FILM_HEADS = (
    HeadConfig(name="like", action="rating", min_value=4.0, given="rating"),
    HeadConfig(name="dislike", action="rating", max_value=2.0, given="rating"),
    # Ratings say what was watched, never what was shown and passed over. Which candidates count as not watched is our
    # own choice, so the share of watched ones is too: no probability of watching can be learnt until impressions are
    # logged. This head ranks only.
    HeadConfig(name="watch", action="rating", kind="rank"),
)
"""Heads for ratings of one to five stars without impressions."""


def labels(head: HeadConfig, action: I16, value: F32, actions: Sequence[str]) -> F32:
    """1 where the outcome happened, 0 where it did not, nan where it cannot be known.

    action: (n,), or (n, k) if several actions of one person on one item are known; codes into `actions`, -1 = none.
    value: the actions' own numbers, same shape, nan if absent. Returns (n,).
    Unknown: rows without the action `given`; rows whose only matching action lacks the value that a bound asks for.
    """
    if action.shape != value.shape or action.ndim not in (1, 2):
        raise ValueError(f"expected actions and values of one shape, (n,) or (n, k); got {action.shape}, {value.shape}")
    if action.ndim == 1:
        action, value = action[:, None], value[:, None]

    def happened(name: str) -> BoolArray:
        return action == actions.index(name) if name in actions else np.zeros(action.shape, bool)

    did = happened(head.action)
    within, unclear = did.copy(), np.zeros(action.shape, bool)
    if head.min_value is not None:
        within &= value >= head.min_value
    if head.max_value is not None:
        within &= value <= head.max_value
    if head.min_value is not None or head.max_value is not None:
        unclear = did & np.isnan(value)
    label: F32 = np.where(within.any(axis=1), 1.0, 0.0).astype(np.float32)
    label[unclear.any(axis=1) & (label == 0.0)] = np.nan
    if head.given is not None:
        label[~happened(head.given).any(axis=1)] = np.nan
    return label
