"""What the trained sources share: a training in another process, an index of items, questions read one by one."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Generic, TypeVar

import numpy as np
from pydantic import BaseModel

from honeyguide.contracts import F32, BoolArray, Candidates, Queries
from honeyguide.engines.vectors.config import VectorsConfig
from honeyguide.engines.vectors.index import Vectors, build_vectors
from honeyguide.retrieval.deep.encode import Moments
from honeyguide.retrieval.deep.task import Result
from honeyguide.retrieval.signals import arguments, in_ranges

__all__ = ["INDEX", "ByVectors", "Trained", "figured", "index_of", "save_index"]

INDEX = "index"
_BLOCK = 1_024
Settings = TypeVar("Settings", bound=BaseModel)


class Trained(Generic[Settings]):
    """A source that another process trains, and that looks at the moment of a question."""

    name: ClassVar[str]
    Config: type[Settings]
    moments: Moments
    figures: dict[str, float]
    notes: tuple[str, ...]

    def __init__(self, config: Settings | None = None, work: Path | None = None) -> None:
        """work: a folder in which a training that was killed goes on."""
        self.config, self._work = config or self.Config(), work

    @property
    def context_keys(self) -> tuple[str, ...]:
        """The facts of a question that it looks at."""
        return self.moments.names


class ByVectors(Trained[Settings]):
    """A source whose answer is the items whose vectors lie nearest to the question's.

    `answerable` (items,) says which items may be answered: those that something is known of.
    """

    n_items: int
    index: Vectors

    def user_vectors(self, queries: Queries) -> F32:
        """(n, d) of the questions: what their nearest items are looked up with. For ranking, search and segments."""
        arguments(queries)
        parts = in_ranges(len(queries), lambda start, stop: self._read(queries, start, stop))
        return np.concatenate(parts) if parts else np.zeros((0, self.index.dim), np.float32)

    def retrieve(self, queries: Queries, k: int) -> Candidates:
        """The items of the largest products; a person without a history is answered by the moment alone."""
        arguments(queries)
        k, n = max(k, 0), len(queries)
        out = Candidates(np.full((n, k), -1, np.int32), np.full((n, k), np.nan, np.float32))

        def run(start: int, stop: int) -> None:
            for first in range(start, stop, _BLOCK):
                last = min(first + _BLOCK, stop)
                hidden = type(queries.exclude)(
                    queries.exclude.indptr[first : last + 1] - queries.exclude.indptr[first],
                    queries.exclude.values[queries.exclude.indptr[first] : queries.exclude.indptr[last]],
                )
                found = self.index.search(self._read(queries, first, last), k, exclude=hidden)
                out.items[first:last], out.scores[first:last] = found.items, found.scores

        in_ranges(n, run, least=16)
        return out

    def _read(self, queries: Queries, start: int, stop: int) -> F32:
        raise NotImplementedError


def figured(result: Result) -> tuple[dict[str, float], tuple[str, ...]]:
    """Figures of a training, and what the build has to say of it."""
    figures = {
        "steps": float(result.steps), "epochs": result.epochs, "loss": result.loss, "cpu_s": result.cpu_s,
        "peak_mb": result.peak_mb, "parameters": float(result.parameters), "examples": float(result.examples),
        "learning_cpu_s": result.learning_cpu_s,
    }  # fmt: skip
    said = (
        f"{result.steps:,} steps, {result.epochs:.1f} passes on the {result.device}, {result.cpu_s:.0f} CPU-s, "
        f"{result.peak_mb:.0f} MB" + ("; went on from a checkpoint" if result.resumed else "")
    )
    return figures, (said,)


def index_of(vectors: F32, known: BoolArray, config: VectorsConfig, seed: int) -> Vectors:
    """An index of the items that something is known of, under their rows."""
    rows = np.flatnonzero(known).astype(np.int32)
    return build_vectors(np.ascontiguousarray(vectors[rows]), config, rows=rows, seed=seed)


def save_index(index: Vectors, folder: Path) -> None:
    """Into a folder of its own."""
    (folder / INDEX).mkdir()
    index.save(folder / INDEX)
