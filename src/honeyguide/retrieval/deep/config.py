"""Settings of the sources that are trained, and whether they can be trained here."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from honeyguide.engines.vectors.config import VectorsConfig
from honeyguide.errors import MissingExtraError
from honeyguide.schema import columns as c

__all__ = ["FACTS", "GenerativeConfig", "SequenceConfig", "TowersConfig", "installed", "require_installed"]

FACTS = (str(c.SURFACE), "device", str(c.COUNTRY), str(c.QUERY))
"""Facts of a question's moment that are looked at where the log has them."""


class _Trained(BaseModel):
    """What all of them share.

    budget_cpu_s: processor time of the training's process; the learning rate falls to nothing at its end, or at that of
    `epochs` or `steps`, whichever comes first. A training that its budget ends is not repeated to the bit by another,
    since processors differ; with `steps` or few `epochs` it is. device: "auto" takes a GPU where PyTorch finds one.
    precision: "auto" makes products in bf16 where the processor has instructions for it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    d: int = Field(default=64, ge=4, le=1_024, description="dimensions of a vector")
    budget_cpu_s: float = Field(default=120.0, gt=0.0, le=1e6)
    epochs: float = Field(default=30.0, gt=0.0, le=10_000.0, description="at most; passes over the events")
    steps: int = Field(default=0, ge=0, description="at most; 0: as many as the budget and the epochs allow")
    learning_rate: float = Field(default=3e-3, gt=0.0, le=1.0)
    context: tuple[str, ...] = FACTS
    clock: bool = Field(default=True, description="the hour, the weekday (UTC) and the time since the last event")
    min_fact: int = Field(default=5, ge=1, description="a fact seen less often counts as not told")
    precision: Literal["auto", "float32", "bf16"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = Field(default=1, ge=1, le=256)
    checkpoint_s: float = Field(default=30.0, gt=0.0, description="processor time between two checkpoints")
    vectors: VectorsConfig = VectorsConfig()

    @model_validator(mode="after")
    def _once(self) -> Self:
        if len(set(self.context)) != len(self.context):
            raise ValueError(f"a fact of the context twice: {self.context}")
        return self


class _Transformer(_Trained):
    """What a history is read with: a causal transformer over its newest `length` events."""

    d: int = Field(default=128, ge=4, le=1_024, description="dimensions of a vector")
    length: int = Field(default=100, ge=1, le=4_096, description="newest events of a history that are read")
    layers: int = Field(default=2, ge=1, le=24)
    heads: int = Field(default=4, ge=1, le=64)
    inner: int = Field(default=256, ge=4, le=16_384, description="width of a layer's middle")
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    input_dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    batch: int = Field(default=8, ge=1, le=65_536, description="windows of a history in a step")
    weight_decay: float = Field(default=0.0, ge=0.0, le=1.0)

    @model_validator(mode="after")
    def _parts(self) -> Self:
        if self.d % self.heads:
            raise ValueError(f"d {self.d} is no multiple of heads {self.heads}")
        return self


class SequenceConfig(_Transformer):
    """The transformer that says what comes next (`[[sources]]` with `retrieval.deep.sequence:Sequence`).

    loss: "full" weighs each step against all items, "sampled" against `negatives` drawn by their frequency with their
    odds taken back (logQ); "auto" is full up to `full_up_to` items. targets: each step learns one of the next so many
    items, drawn anew each time it is seen (the all-action loss of Pancha et al. 2022); 1 is the next one alone.
    start: vectors begin as a spectral factorisation of what stands within `start_window` steps of each other.
    """

    loss: Literal["auto", "full", "sampled"] = "auto"
    full_up_to: int = Field(default=20_000, ge=1)
    negatives: int = Field(default=2_048, ge=1, le=1_000_000)
    targets: int = Field(default=1, ge=1, le=1_000)
    start: Literal["spectral", "random"] = "spectral"
    start_window: int = Field(default=10, ge=1, le=1_000)
    start_scale: float = Field(default=0.1, gt=0.0, le=10.0, description="spread of the vectors at first")


class GenerativeConfig(_Transformer):
    """Ids that mean something, spelt out code by code (`retrieval.deep.generative:Generative`).

    levels x codes: a residual quantisation of what is known of an item; items that share all codes are told apart by
    one more. content_share: of the vector that is quantised, what comes from the item's texts and facts, the rest from
    what it was taken with. beam: spellings that are followed at once. depth_layers: of the decoder.
    """

    levels: int = Field(default=3, ge=1, le=8)
    codes: int = Field(default=256, ge=2, le=4_096, description="of a level; fewer where there are few items")
    content_share: float = Field(default=0.3, ge=0.0, le=1.0)
    content_d: int = Field(default=64, ge=2, le=1_024)
    embeddings: tuple[str, ...] = Field(default=(), description="attributes of items that hold lists of numbers")
    beam: int = Field(default=128, ge=1, le=4_096)
    depth_layers: int = Field(default=1, ge=1, le=12)
    cold_bonus: float = Field(
        default=0.0, ge=-20.0, le=20.0, description="added to the logarithm of the odds of items without events"
    )


class TowersConfig(_Trained):
    """A tower for the question, one for the item (`retrieval.deep.towers:Towers`).

    The question's: the newest `history` items, weighed by their place, and the facts of the moment. The item's: a
    vector of its id, hidden in `id_dropout` of the lessons, and one made of its texts, facts and embeddings; an item
    without events has the latter alone. Trained by the softmax over the batch, the odds of an item to be in it taken
    back (logQ: Yi et al. 2019), with `hard` items more in each batch (one in 16 of
    all at most) that the towers at the time like too much.
    """

    history: int = Field(default=10, ge=1, le=1_000)
    batch: int = Field(default=512, ge=2, le=65_536)
    table_rate: float = Field(default=0.03, gt=0.0, le=10.0, description="of the vectors of ids (row-wise Adagrad)")
    temperature: float = Field(default=0.07, gt=0.0, le=10.0, description="by which cosines are divided")
    popularity: float = Field(
        default=1.0,
        ge=0.0,
        le=2.0,
        description="of the logarithm of an item's frequency, what is added where it serves",
    )
    hard: int = Field(default=32, ge=0, le=65_536)
    hard_after: float = Field(default=0.3, ge=0.0, le=1.0, description="share of the training before hard items begin")
    content_d: int = Field(default=64, ge=2, le=1_024)
    embeddings: tuple[str, ...] = Field(default=(), description="attributes of items that hold lists of numbers")
    id_dropout: float = Field(default=0.1, ge=0.0, lt=1.0)


def installed() -> bool:
    """Whether these sources can be trained here."""
    return all(find_spec(name) is not None for name in ("torch", "onnx", "onnxruntime"))


def require_installed(what: str) -> None:
    """MissingExtraError unless these sources can be trained here."""
    if not installed():
        raise MissingExtraError(
            expected=f"the extra `deep` (PyTorch, ONNX and ONNX Runtime), which the source `{what}` is trained with",
            got="an installation without it",
            do="Run `pip install 'honeyguide[deep]'`, or take the source out of [[sources]].",
        )
