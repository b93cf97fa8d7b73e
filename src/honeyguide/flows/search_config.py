"""`[search]`: how the catalog is searched."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from honeyguide.engines.search.lexical_config import LexicalConfig
from honeyguide.flows.encoders import EncoderConfig
from honeyguide.understanding.query import UnderstandingConfig

__all__ = ["SearchConfig", "SearchRankingConfig"]


class SearchRankingConfig(BaseModel):
    """Whether and how the first hits are put in another order than the words give.

    learn: "auto" learns from the workspace's judgments where `least_queries` queries have some, else from clicks on
    searches where so many were clicked, and serves what was learnt where it beats the words on queries held out;
    "off" leaves the words' order. candidates: so many of the first hits are looked at, and as many items by meaning.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    learn: Literal["auto", "off"] = "auto"
    clicks: Literal["position", "cascade", "dbn"] = "position"
    least_queries: Annotated[int, Field(ge=10)] = 50
    candidates: Annotated[int, Field(ge=10, le=1_000)] = 100
    trees: Annotated[int, Field(ge=10, le=2_000)] = 300
    depth: Annotated[int, Field(ge=2, le=8)] = 6
    loss: Literal["QueryRMSE", "YetiRank", "QuerySoftMax", "PairLogit"] = "QueryRMSE"
    folds: Annotated[int, Field(ge=2, le=20)] = 5


class SearchConfig(BaseModel):
    """All of `[search]`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    understanding: UnderstandingConfig = UnderstandingConfig()
    lexical: LexicalConfig = LexicalConfig()
    encoder: EncoderConfig = EncoderConfig()
    ranking: SearchRankingConfig = SearchRankingConfig()
    tune: bool = True  # weights of fields, on the workspace's judgments where there are enough
