"""The order between items: maximal marginal relevance over item vectors."""

from __future__ import annotations

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from honeyguide.contracts import F32

__all__ = ["DiversifyConfig", "unit_rows"]


class DiversifyConfig(BaseModel):
    """Greedy: next is the highest mmr_lambda x relevance - (1 - mmr_lambda) x highest cosine to what was chosen.

    `relevance` is the utility scaled over the `pool` best candidates, best 1, last 0; a negative cosine counts as 0.
    1.0 leaves the order of the utility. Costs about slots x pool x dimensions multiplications.
    Source: Carbonell and Goldstein 1998.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    mmr_lambda: float = Field(default=0.9, ge=0.0, le=1.0)
    pool: int = Field(default=100, ge=1, le=2_000)  # candidates


def unit_rows(vectors: F32) -> F32:
    """The rows scaled to length 1, so that a product is a cosine; rows of zeros (or of no number) become 0."""
    vectors = np.nan_to_num(np.asarray(vectors, np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 0)
