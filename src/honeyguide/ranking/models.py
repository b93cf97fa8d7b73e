"""What the fitting of a head asks of a kind of model, and what a ranker asks of a part that is scored elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from honeyguide.contracts import F32, F64, I64, RankInput
from honeyguide.ranking.heads import HeadConfig

__all__ = ["Family", "Given", "HeadModel", "Part"]


class HeadModel(Protocol):
    """A fitted model of one head. Raw scores of a probability are log-odds."""

    @property
    def size(self) -> int:
        """Trees, or columns."""
        ...

    def raw(self, features: F32) -> F64:
        """(n, features) -> (n,)."""
        ...

    def importance(self) -> F64:
        """Share of each feature, (features,)."""
        ...


class Family(Protocol):
    """A kind of model that can be fitted from features alone."""

    kind: str

    def fit(
        self, head: HeadConfig, features: F32, label: F32, *, group: I64 | None = None, weight: F32 | None = None,
        stop: tuple[F32, F32, I64 | None] | None = None, size: int | None = None,
    ) -> HeadModel:  # fmt: skip
        """Rows in order of time. stop: rows to stop on; size: how large to grow without them. BuildError: it cannot."""
        ...


@runtime_checkable
class Part(Protocol):
    """Something that scores heads apart from the fused kernels: a deep network, a scorer from outside."""

    kind: str
    heads: tuple[str, ...]

    def raw(self, told: RankInput) -> F64:
        """(n, heads), log-odds for heads that give a probability; nan where it has no score."""
        ...

    def save(self, folder: Path) -> None:
        """Write into an existing folder."""
        ...


@dataclass(frozen=True)
class Given:
    """Raw scores of one head by a part that was not fitted here: of all rows that choose, calibrate and measure."""

    part: Part
    scores: F64  # (n,) by row, nan where there is none
    importance: dict[str, float]
    size: int = 0
