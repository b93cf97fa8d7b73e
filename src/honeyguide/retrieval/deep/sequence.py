"""The sequence model as a source: what comes next, said by a transformer over what came before."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import numpy as np

from honeyguide.contracts import F32, CatalogView, Interactions, Queries
from honeyguide.engines.vectors.index import Vectors
from honeyguide.retrieval import store
from honeyguide.retrieval.deep.base import INDEX, ByVectors, figured, index_of, save_index
from honeyguide.retrieval.deep.config import SequenceConfig, require_installed
from honeyguide.retrieval.deep.encode import Moments, lines_of, unit
from honeyguide.retrieval.deep.reader import Reader, moments_from, moments_meta
from honeyguide.retrieval.deep.task import OUT, folder_for, train_folder, write_task

__all__ = ["Sequence"]

_GRAPH = "encoder.onnx"


class Sequence(ByVectors[SequenceConfig]):
    """A causal transformer over a person's events, with what is known of each moment (Kang and McAuley 2018).

    Each step of everybody's events is a lesson: given what came before and the moment, which item came next, against
    all items (or a sample of them, its odds taken back). Item vectors are shared between what is read and what is
    said, and begin as a spectral factorisation of co-occurrence.
    Price: items x d x 8 bytes held; training as budgeted; a question about length x layers x d^2 x 24 operations, one
    to three milliseconds at length 100. Sensible to some millions of items, with sampled softmax from 20,000 on.
    """

    name = "sequence"
    Config = SequenceConfig

    def fit(self, interactions: Interactions, catalog: CatalogView, *, seed: int = 0) -> Self:
        """Train in a process of its own. MissingExtraError without the extra `deep`; DataError, BuildError as told."""
        require_installed(self.name)
        config = self.config
        lines = lines_of(interactions)
        self.moments = Moments.learnt(config.context, config.clock, lines, config.min_fact)
        arrays: dict[str, Any] = {"indptr": lines.indptr, "item": lines.item, "moments": self.moments.of_lines(lines)}
        with folder_for(self._work) as name:
            folder = Path(name)
            write_task(
                folder, self.name, config.model_dump(), arrays, seed, n_items=lines.n_items, moments=self.moments.size,
                facts_from=self.moments.facts_from,
            )  # fmt: skip
            self.figures, self.notes = figured(train_folder(folder))
            out = folder / OUT
            table, places, told = (np.load(out / f"{part}.npy") for part in ("table", "places", "moments"))
            self._graph = (out / _GRAPH).read_bytes()
            self._use(table, places, told, out / _GRAPH)
            self._reader.check(out, self.name)
        known = np.bincount(lines.item, minlength=lines.n_items) > 0
        self.index = index_of(table[1:], known, config.vectors, seed)
        return self

    def _use(self, table: F32, places: F32, told: F32, graph: Path) -> None:
        self.n_items, self._table, self._places, self._told = len(table) - 1, table, places, told
        self._reader = Reader(graph, self.moments, table[:, :-1], places, told, self.n_items)

    def _read(self, queries: Queries, start: int, stop: int) -> F32:
        hidden = self._reader.read(queries, start, stop)
        return np.concatenate([hidden, np.ones((len(hidden), 1), np.float32)], axis=1)

    def item_vectors(self) -> F32:
        """(items, d) of unit length: cosine between them is similarity of what people do around them."""
        return unit(self._table[1:, :-1])

    def save(self, folder: Path) -> None:
        """Tables, the graph and the index."""
        (folder / _GRAPH).write_bytes(self._graph)
        save_index(self.index, folder)
        meta = {
            "config": self.config.model_dump(), "moments": moments_meta(self.moments), "figures": self.figures,
            "notes": list(self.notes),
        }  # fmt: skip
        store.write(folder, self.name, meta, {"table": self._table, "places": self._places, "told": self._told})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Map what `save` wrote. BuildError where it cannot be used; MissingExtraError without ONNX Runtime."""
        meta, arrays = store.read(folder, cls.name, ("table", "places", "told"))
        found = cls(store.config(SequenceConfig, meta, folder))
        found.moments = moments_from(meta, folder)
        found.figures, found.notes = dict(meta.get("figures", {})), tuple(meta.get("notes", ()))
        found._use(arrays["table"], arrays["places"], arrays["told"], folder / _GRAPH)
        found._graph = (folder / _GRAPH).read_bytes()
        found.index = Vectors.load(folder / INDEX)
        return found
