"""The two towers as a source: one reads the question, one the item, and an item without events has its content's."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import numpy as np

from honeyguide.contracts import F32, I32, CatalogView, Interactions, Queries
from honeyguide.engines.vectors.index import Vectors
from honeyguide.kernels.bags import bag_sums
from honeyguide.kernels.nearest import products
from honeyguide.retrieval import store
from honeyguide.retrieval.deep.base import INDEX, ByVectors, figured, index_of, save_index
from honeyguide.retrieval.deep.config import TowersConfig, require_installed
from honeyguide.retrieval.deep.content import Content, known
from honeyguide.retrieval.deep.encode import Moments, lines_of, newest, unit
from honeyguide.retrieval.deep.reader import moments_from, moments_meta
from honeyguide.retrieval.deep.task import OUT, folder_for, train_folder, write_task

__all__ = ["Towers"]

_LAYERS = ("past", "told", "middle", "middle_bias", "back", "back_bias", "described")
_ARRAYS = ("vectors", "liked", *_LAYERS, *Content.arrays)


class Towers(ByVectors[TowersConfig]):
    """Two towers with vectors of ids and content, trained by the softmax over the batch (Yi et al. 2019).

    The question is the newest items of the history (a seed or a board stands in its place) and the moment: the hour,
    the time since, surface, device, country, query, as far as the log tells. An item that nobody has taken has the
    vector that its texts, facts and embeddings give; `embed` gives one to items that come later.
    Price: items x d x 8 bytes held; training 84,000 events and more a CPU-second at d = 64, batch 512, whatever the
    number of items; a question some microseconds and the search of its neighbours. Sensible to tens of millions.
    """

    name = "towers"
    Config = TowersConfig

    def fit(self, interactions: Interactions, catalog: CatalogView, *, seed: int = 0) -> Self:
        """Train in a process of its own. MissingExtraError without the extra `deep`; DataError, BuildError as told."""
        require_installed(self.name)
        config = self.config
        lines = lines_of(interactions)
        self.moments = Moments.learnt(config.context, config.clock, lines, config.min_fact)
        self.content = Content.learnt(catalog, config.content_d, config.embeddings, seed)
        content = self.content.of(catalog)
        arrays: dict[str, Any] = {
            "indptr": lines.indptr, "item": lines.item, "moments": self.moments.of_lines(lines), "content": content,
        }  # fmt: skip
        with folder_for(self._work) as name:
            folder = Path(name)
            write_task(
                folder, self.name, config.model_dump(), arrays, seed, n_items=lines.n_items, moments=self.moments.size
            )
            self.figures, self.notes = figured(train_folder(folder))
            out = folder / OUT
            self._layers = {part: np.load(out / f"{part}.npy") for part in _LAYERS}
            self._vectors = np.load(out / "vectors.npy")
        self.n_items = lines.n_items
        count = np.bincount(lines.item, minlength=lines.n_items)
        liked = np.log(np.maximum(count, 1) / count.sum())
        # Nobody has had the chance to like a new item: it is taken to be as liked as the middle one.
        self.liked = np.where(count > 0, liked, np.median(liked[count > 0])).astype(np.float32)
        self.index = index_of(
            self._answers(self._vectors, self.liked), (count > 0) | known(content), config.vectors, seed
        )
        return self

    def _answers(self, vectors: F32, liked: F32) -> F32:
        """What a question's vector, with a 1 behind it, is multiplied with."""
        addend = np.float32(self.config.popularity) * liked
        scaled = vectors / np.float32(self.config.temperature)
        return np.concatenate([scaled, addend[:, None]], axis=1).astype(np.float32)

    def _read(self, queries: Queries, start: int, stop: int) -> F32:
        """Of unit length, with a 1 behind it for how liked an item is."""
        n, of = stop - start, self._layers
        rows = np.full((n, self.config.history), -1, np.int32)
        last = np.full(n, -1, np.int64)
        for at in range(n):
            items, when = newest(queries, start + at, self.n_items, self.config.history)
            rows[at, : len(items)] = items[::-1]
            last[at] = when[-1] if len(when) else -1
        weights = (1.0 + np.arange(self.config.history, dtype=np.float32)) ** np.float32(-0.5) * (rows >= 0)
        weights = (weights / np.maximum(weights.sum(axis=1, keepdims=True), 1e-9)).astype(np.float32)
        x = np.empty((n, self.config.d), np.float32)
        bag_sums(of["past"], rows, weights, x)
        context = {name: codes[start:stop] for name, codes in queries.context.items()}
        told = self.moments.rows(queries.now[start:stop], last, context)
        if told.shape[1]:
            more = np.empty_like(x)
            bag_sums(of["told"], told, np.ones(told.shape, np.float32), more)
            x = x + more
        wide = np.empty((n, len(of["middle"])), np.float32)
        products(of["middle"], x, wide)
        wide = np.maximum(wide + of["middle_bias"], 0.0)
        narrow = np.empty_like(x)
        products(of["back"], wide, narrow)
        return np.concatenate([unit(x + narrow + of["back_bias"]), np.ones((n, 1), np.float32)], axis=1)

    def embed(self, catalog: CatalogView) -> F32:
        """(items, d) of unit length from content alone, for items that came later; 0 where it says nothing."""
        return unit(self.content.of(catalog) @ self._layers["described"].T)

    def add(self, rows: I32, catalog: CatalogView) -> None:
        """Make items that came after the training answers, under these rows: a row for each item of the catalog."""
        vectors = self.embed(catalog)
        there = known(vectors)
        liked = np.full(len(vectors), np.median(self.liked), np.float32)
        self.index.add(rows[there], self._answers(vectors, liked)[there])

    def item_vectors(self) -> F32:
        """(items, d) of unit length: cosine between them is similarity; 0 for items that nothing is known of."""
        return np.asarray(self._vectors)

    def save(self, folder: Path) -> None:
        """Tables, layers, what folds content, and the index."""
        save_index(self.index, folder)
        meta: dict[str, Any] = {
            "config": self.config.model_dump(), "moments": moments_meta(self.moments), "figures": self.figures,
            "notes": list(self.notes),
        }  # fmt: skip
        folded = {name: getattr(self.content, name) for name in Content.arrays}
        store.write(folder, self.name, meta, {"vectors": self._vectors, "liked": self.liked, **self._layers, **folded})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Map what `save` wrote. BuildError where it cannot be used."""
        meta, arrays = store.read(folder, cls.name, _ARRAYS)
        found = cls(store.config(TowersConfig, meta, folder))
        found.moments = moments_from(meta, folder)
        found.figures, found.notes = dict(meta.get("figures", {})), tuple(meta.get("notes", ()))
        found.content = Content(found.config.embeddings, *(arrays[name] for name in Content.arrays))
        found._layers = {name: arrays[name] for name in _LAYERS}
        found.liked = arrays["liked"]
        found._vectors, found.n_items = arrays["vectors"], len(arrays["vectors"])
        found.index = Vectors.load(folder / INDEX)
        return found
