"""A share of slots given to chance, with exact propensities: without them nothing can be learnt from a log."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["ExploreConfig"]


class ExploreConfig(BaseModel):
    """Slot by slot over what is left of the diversity's order.

    With 1 - `epsilon` the best left is shown; with `epsilon` a uniform draw from the first `pool` left whose relevance
    (as in `DiversifyConfig`) is at least `floor`. The propensity of the item shown, given the slots before, is
    (1 - epsilon) x [it is the best left] + epsilon x [it is in the pool] / pool's size; the list's is the product.
    Where no item reaches the floor, the best left is shown with propensity 1. Slots before `first_slot` never explore.
    The draws depend on the request id alone, so an answer can be made again.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    epsilon: float = Field(default=0.0, ge=0.0, le=1.0)
    pool: int = Field(default=20, ge=1, le=2_000)  # candidates
    floor: float = Field(default=0.0, ge=0.0, le=1.0)  # relevance, 0 = last of the pool, 1 = the best
    first_slot: int = Field(default=1, ge=1, le=200)  # 1 = first
