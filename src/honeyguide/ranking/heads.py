"""What a head predicts: an outcome, read from events; and whether its score may be called a probability."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from honeyguide.contracts import F32, I16, BoolArray
from honeyguide.kernels.trees import MAX_DEPTH

__all__ = ["FILM_HEADS", "HeadConfig", "ScorerConfig", "labels"]


class ScorerConfig(BaseModel):
    """A scorer from outside: an ONNX file, an HTTP endpoint, or a Parquet table of scores.

    kind "onnx": the file at `path` takes one input (n, features), those named in `columns` (default: all of the
    ranker's, in its order), and gives one number per row (`output`, default: its first output; of several columns the
    last counts). kind "http": `url` is posted candidates as JSON and answers `{"scores": [...]}`. kind "parquet": the
    table at `path` has `score` by `item_id`, or by `user_id` and `item_id`. Paths are relative to the workspace.
    gives: what the number is; "probability" and "logit" are still calibrated on outcomes. deadline_ms, retry_s: kind
    "http": how long a batch may take, and how long the endpoint is left alone after `failures` failures in a row.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["onnx", "http", "parquet"]
    path: str = ""
    url: str = ""
    columns: tuple[str, ...] = ()
    output: str = ""
    gives: Literal["score", "probability", "logit"] = "score"
    deadline_ms: float = Field(default=40.0, gt=0.0, le=60_000.0)
    failures: int = Field(default=5, ge=1)
    retry_s: float = Field(default=5.0, gt=0.0)
    headers: dict[str, str] = {}
    batch: int = Field(default=500, ge=1, le=10_000)  # kind "http": candidates per request while the build asks

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.kind == "http" and not self.url.startswith(("http://", "https://")):
            raise ValueError(f"a scorer of kind http needs `url`, beginning with http:// or https://; got {self.url!r}")
        if self.kind != "http" and not self.path:
            raise ValueError(f"a scorer of kind {self.kind} needs `path`")
        return self


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
    ridge: float = Field(default=1.0, gt=0.0)  # of a linear model: squared weights of standardised columns
    scorer: ScorerConfig | None = None  # a model from outside, in the place of those that the build would fit
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
