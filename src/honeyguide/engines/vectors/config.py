"""How nearest vectors are found."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["VectorsConfig"]


class VectorsConfig(BaseModel):
    """Kind of the index, and the recall that it must reach when it is built.

    kind: "exact"; "ivf" (FAISS: lists around centres, of which the nearest are read); "hnsw" (FAISS: a graph; faster to
    ask, slower to build, and its longer lists do not always begin with the shorter ones); "auto" is exact up to
    `exact_up_to` rows, and beyond it `ivf` where FAISS is installed.
    Price: rows x d x 4 bytes, mapped; hnsw rows x m x 8 more. Exact reads them all: half a millisecond at
    50,000 x 128.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["auto", "exact", "ivf", "hnsw"] = "auto"
    exact_up_to: int = Field(default=50_000, ge=0)
    recall: float = Field(default=0.99, gt=0.0, le=1.0, description="of the true 10 nearest, on the sample")
    filtered_recall: float = Field(default=0.97, gt=0.0, le=1.0, description="the same where a filter is asked for")
    sample: int = Field(default=256, ge=8, le=100_000, description="questions on which recall is measured")
    lists: int = Field(default=0, ge=0, description="ivf: 0 = 2 * sqrt(rows)")
    links: int = Field(default=32, ge=4, le=256, description="hnsw: neighbours of a node")
    effort: int = Field(default=80, ge=8, le=2_000, description="hnsw: nodes looked at while building")
    merge_share: float = Field(default=0.1, gt=0.0, le=1.0, description="share of added rows from which a rebuild pays")
