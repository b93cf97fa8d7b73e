"""What a deep ranker is made of, and how outcomes follow each other."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from honeyguide.errors import ConfigError, MissingExtraError
from honeyguide.ranking.heads import HeadConfig
from honeyguide.schema import columns as c

__all__ = ["DeepConfig", "chain", "installed", "require_installed"]


class DeepConfig(BaseModel):
    """The network, what it reads and how it learns (`[ranker.deep]`).

    kind: "shared" (one bottom for all heads), "mmoe" (experts that each head weighs: Ma et al. 2018) or "ple" (experts
    of all and experts of each head, in two levels: Tang et al. 2020). ids: of items and people, each with a row of its
    own ("dictionary": ids seen `min_count` times at least) or hashed into `buckets` rows; `id_dropout` of them are
    hidden while it learns, which teaches the row that stands for an id nobody has seen. position: what is done about
    items that were taken because they stood on top: "tower" learns an addend of the position apart from the item,
    "ipw" weighs outcomes by the inverse of how often a position is looked at (Saito et al. 2020), "none" nothing.
    serve_position: the position whose addend counts when it serves; "logged": the mean over the positions it learnt
    from, so that probabilities are those of the log.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["shared", "mmoe", "ple"] = "mmoe"
    experts: int = Field(default=4, ge=1, le=64)
    own_experts: int = Field(default=1, ge=1, le=16)  # kind "ple": of each head
    units: int = Field(default=48, ge=4, le=1024)  # of an expert's layer
    tower: int = Field(default=24, ge=2, le=512)  # units of a head's own layer
    item_dim: int = Field(default=32, ge=4, le=512)
    user_dim: int = Field(default=8, ge=1, le=256)
    context_dim: int = Field(default=6, ge=1, le=64)
    sequence: int = Field(default=50, ge=1, le=1_000)  # newest items of the history
    attention_heads: int = Field(default=2, ge=1, le=16)
    ids: Literal["dictionary", "hashed"] = "dictionary"
    buckets: int = Field(default=100_000, ge=16, le=100_000_000)
    min_count: int = Field(default=5, ge=1)
    id_dropout: float = Field(default=0.1, ge=0.0, lt=1.0)
    dropout: float = Field(default=0.1, ge=0.0, lt=1.0)
    normalise: Literal["quantile", "standard"] = "quantile"
    context: tuple[str, ...] = (str(c.SURFACE), "device", str(c.COUNTRY), str(c.QUERY))
    clock: bool = True  # the hour of the day and the day of the week (UTC)
    position: Literal["tower", "ipw", "none"] = "tower"
    examination: tuple[
        float, ...
    ] = ()  # "ipw": share of requests that look at position 1, 2, ...; (): found in the log
    serve_position: Literal["logged"] | int = "logged"
    epochs: int = Field(default=12, ge=1, le=1_000)
    evaluations: int = Field(default=2, ge=1, le=100)  # per epoch
    patience: int = Field(default=3, ge=1)  # evaluations without a better one before it stops
    batch: int = Field(default=512, ge=2)  # rows
    learning_rate: float = Field(default=3e-3, gt=0.0, le=1.0)
    table_rate: float = Field(default=0.05, gt=0.0, le=10.0)  # of the embeddings (row-wise Adagrad)
    weight_decay: float = Field(default=1e-4, ge=0.0, le=1.0)
    precision: Literal["float32", "bf16"] = "float32"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = Field(default=1, ge=1, le=256)  # small products gain nothing from more
    checkpoint_steps: int = Field(default=200, ge=1)
    max_rows: int = Field(default=2_000_000, ge=100)  # to learn from; the newest are kept
    int8: bool = True  # serve eight-bit weights where they are no worse and faster
    int8_tolerance: float = Field(default=0.0005, ge=0.0)  # by how much the loss may rise, at the upper end of 95 %
    int8_speedup: float = Field(default=1.1, ge=0.0)  # how many times as fast they must be

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.item_dim % self.attention_heads:
            raise ValueError(f"item_dim {self.item_dim} is no multiple of attention_heads {self.attention_heads}")
        if len(set(self.context)) != len(self.context):
            raise ValueError(f"a fact of the context twice: {self.context}")
        if any(not 0.0 < share <= 1.0 for share in self.examination):
            raise ValueError(f"examination holds shares above 0 and up to 1, got {self.examination}")
        if self.serve_position != "logged" and self.serve_position < 1:
            raise ValueError(f'serve_position is "logged" or a position from 1 on, got {self.serve_position}')
        return self


def chain(heads: Sequence[HeadConfig]) -> tuple[int, ...]:
    """For each head, the place of the head that its outcome follows, -1 if none.

    ConfigError if that head is unknown, only ranks, or follows in a circle.
    """
    places = {head.name: place for place, head in enumerate(heads)}
    parents = []
    for head in heads:
        parent = -1 if head.follows is None else places.get(head.follows, -2)
        if parent == -2 or (parent >= 0 and "rank" in (head.kind, heads[parent].kind)):
            raise ConfigError(
                expected=f"head {head.name!r} to follow another head that gives a probability, as it does itself",
                got=repr(head.follows),
                do="Mend `follows` in [[heads]].",
            )
        parents.append(parent)
    for place in range(len(heads)):
        seen, at = {place}, parents[place]
        while at >= 0:
            if at in seen:
                raise ConfigError(
                    expected="outcomes that follow each other in one direction",
                    got=f"a circle through {heads[place].name!r}",
                    do="Mend `follows` in [[heads]].",
                )
            seen.add(at)
            at = parents[at]
    return tuple(parents)


def installed() -> bool:
    """Whether a deep ranker can be trained here."""
    return all(find_spec(name) is not None for name in ("torch", "onnx", "onnxscript", "onnxruntime"))


def require_installed() -> None:
    """MissingExtraError unless a deep ranker can be trained here."""
    if not installed():
        raise MissingExtraError(
            expected="the extra `deep` (PyTorch, ONNX and ONNX Runtime), which the deep ranker is trained with",
            got="an installation without it",
            do="Run `pip install 'honeyguide[deep]'`, or take \"deep\" out of `kinds` in [ranker].",
        )
