"""How transformers for search are trained."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["TextConfig"]


class TextConfig(BaseModel):
    """Training of a bi-encoder, a cross-encoder, and the first taught by the second.

    start: "minilm" goes on from all-MiniLM-L6-v2 (fetched, 90 MB); "scratch" begins with random weights of the sizes
    below and a vocabulary of the catalog's own, enough where the words of a catalog are all there is to know.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    start: Literal["minilm", "scratch"] = "minilm"
    layers: Annotated[int, Field(ge=1, le=24)] = 2
    width: Annotated[int, Field(ge=16, le=1_024)] = 128
    heads: Annotated[int, Field(ge=1, le=16)] = 4
    vocabulary: Annotated[int, Field(ge=200, le=100_000)] = 8_000
    query_tokens: Annotated[int, Field(ge=4, le=64)] = 16
    item_tokens: Annotated[int, Field(ge=8, le=256)] = 48
    batch: Annotated[int, Field(ge=2, le=1_024)] = 64
    epochs: Annotated[int, Field(ge=1, le=100)] = 4
    mined_epochs: Annotated[int, Field(ge=0, le=100)] = 2  # of those, with hard negatives
    cross_epochs: Annotated[int, Field(ge=0, le=100)] = 2
    distil_epochs: Annotated[int, Field(ge=0, le=100)] = 2
    negatives: Annotated[int, Field(ge=1, le=64)] = 7  # of a query, for the cross-encoder
    mined: Annotated[int, Field(ge=1, le=1_000)] = 30  # nearest wrong items that negatives are drawn from
    temperature: Annotated[float, Field(gt=0, le=1)] = 0.05
    learning_rate: Annotated[float, Field(gt=0, le=0.1)] = 1e-4
    device: Literal["auto", "cpu"] = "auto"
    threads: Annotated[int, Field(ge=1, le=64)] = 1
