"""Generative retrieval as a source: the answer is spelt out, code by code, among the ids that there are."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import numpy as np

from honeyguide.contracts import F32, I32, I64, BoolArray, Candidates, CatalogView, Interactions, Queries
from honeyguide.engines.onnx.session import OnnxModel, Port
from honeyguide.errors import BuildError
from honeyguide.kernels.nearest import products
from honeyguide.retrieval import store
from honeyguide.retrieval.deep.base import Trained, figured
from honeyguide.retrieval.deep.config import GenerativeConfig, require_installed
from honeyguide.retrieval.deep.content import Content, known
from honeyguide.retrieval.deep.encode import Moments, lines_of, unit
from honeyguide.retrieval.deep.ports import AFTER, BEFORE, HIDDEN, STEPS
from honeyguide.retrieval.deep.reader import FAR, Reader, moments_from, moments_meta
from honeyguide.retrieval.deep.semantic import Trie, joined, semantic_ids
from honeyguide.retrieval.deep.spectral import factors, nearby
from honeyguide.retrieval.deep.task import OUT, folder_for, train_folder, write_task
from honeyguide.retrieval.signals import arguments, in_ranges

__all__ = ["Generative"]

_TABLES = ("inputs", "places", "moments", "depth", "spelt", "said")
_GRAPHS = ("encoder.onnx", "speller.onnx")
_WINDOW = 10
_START = 0.1


class Generative(Trained[GenerativeConfig]):
    """A transformer that spells the id of what comes next (Rajput et al. 2023, with the depth transformer of Lee et al.
    2022).

    An id is made of codes of a residual quantisation of what is known of an item and what it was taken with, so that
    what is alike is spelt alike, and an item that nobody has taken is reached through its content. The best `beam`
    spellings are followed code by code, keys and values of the codes so far kept, and none that no item has.
    Price: items x d x 4 bytes held; training about that of the sequence model with a softmax over a few hundred codes
    in place of all items; a question levels x beam x d^2 x 24 operations, some milliseconds. It brings at most `beam`
    items. Sensible where new items matter, from some thousands to some millions of items.
    """

    name = "generative"
    Config = GenerativeConfig

    def fit(self, interactions: Interactions, catalog: CatalogView, *, seed: int = 0) -> Self:
        """Make the ids, then train in a process of its own. MissingExtraError without the extra `deep`."""
        require_installed(self.name)
        config = self.config
        lines = lines_of(interactions)
        self.moments = Moments.learnt(config.context, config.clock, lines, config.min_fact)
        seen = np.bincount(lines.item, minlength=lines.n_items) > 0
        content = Content.learnt(catalog, config.content_d, config.embeddings, seed).of(catalog)
        taken = factors(nearby(lines.indptr, lines.item, lines.n_items, _WINDOW), config.d, seed)
        vectors = joined(content, taken, seen, config.content_share)
        self.ids = semantic_ids(vectors, seen | known(content), seen, config.levels, config.codes, seed)
        sizes = [max(int(top) + 1, 1) for top in self.ids.max(axis=0)]
        with folder_for(self._work) as name:
            folder = Path(name)
            arrays: dict[str, Any] = {
                "indptr": lines.indptr, "item": lines.item, "moments": self.moments.of_lines(lines), "ids": self.ids,
                "start": _folded(vectors, config.d),
            }  # fmt: skip
            write_task(
                folder, self.name, config.model_dump(), arrays, seed, sizes=sizes, moments=self.moments.size,
                facts_from=self.moments.facts_from,
            )  # fmt: skip
            self.figures, self.notes = figured(train_folder(folder))
            out = folder / OUT
            self._graphs = {graph: (out / graph).read_bytes() for graph in _GRAPHS}
            self._use({table: np.load(out / f"{table}.npy") for table in _TABLES}, sizes, ~seen, out)
            self._reader.check(out, self.name)
            self._check(out)
        return self

    def _use(self, tables: dict[str, Any], sizes: list[int], cold: BoolArray, folder: Path) -> None:
        self._tables, self.sizes, self.cold = tables, sizes, cold
        self.n_items = len(tables["inputs"]) - 1
        self.trie = Trie.of(self.ids)
        ends = np.cumsum([0, *sizes])
        self._said = [np.array(tables["said"][ends[level] : ends[level + 1]]) for level in range(len(sizes))]
        self._spelt = [tables["spelt"][ends[level] : ends[level + 1]] for level in range(len(sizes) - 1)]
        d, heads, width = self.config.d, self.config.heads, 2 * self.config.depth_layers
        self._reader = Reader(
            folder / _GRAPHS[0], self.moments, tables["inputs"], tables["places"], tables["moments"], self.n_items
        )
        f32 = np.dtype(np.float32)
        ports = [Port(STEPS, f32, (None, 1, d)), Port(BEFORE, f32, (None, width, heads, None, d // heads))]
        self._speller = OnnxModel(folder / _GRAPHS[1], ports, [HIDDEN, AFTER])

    def _check(self, folder: Path) -> None:
        """BuildError if codes spelt one by one are not those that PyTorch spelt at once."""
        steps, spoken = np.load(folder / "spelling.npy"), np.load(folder / "spoken.npy")
        kept, far = self._nothing(len(steps)), 0.0
        for level in range(steps.shape[1]):
            said, kept = self._speller.run({STEPS: steps[:, level : level + 1].copy(), BEFORE: kept})
            far = max(far, float(np.abs(said - spoken[:, level]).max()))
        if not far <= FAR:
            raise BuildError(
                expected="ONNX Runtime to spell as PyTorch does", got=f"numbers that differ by {far:.2g}",
                do="Report this with the versions of torch, onnx and onnxruntime.",
            )  # fmt: skip

    def _nothing(self, n: int) -> F32:
        config = self.config
        return np.zeros((n, 2 * config.depth_layers, config.heads, 0, config.d // config.heads), np.float32)

    # ------------------------------------------------------------------------------------------------- asking

    def retrieve(self, queries: Queries, k: int) -> Candidates:
        """The likeliest items among those of the best `beam` spellings; scores are logarithms of their odds."""
        arguments(queries)
        k, n = max(k, 0), len(queries)
        out = Candidates(np.full((n, k), -1, np.int32), np.full((n, k), np.nan, np.float32))

        def run(start: int, stop: int) -> None:
            hidden = self._reader.read(queries, start, stop)
            for q in range(start, stop):
                rows, scores = self._spell(hidden[q - start], queries.exclude.row(q))
                size = min(k, len(rows))
                out.items[q, :size], out.scores[q, :size] = rows[:size], scores[:size]

        if len(self.trie.rows):
            in_ranges(n, run, least=16)
        return out

    def _spell(self, hidden: F32, exclude: I32) -> tuple[I32, F32]:
        """Rows and scores of the spellings that end, best first."""
        gone = np.zeros(self.n_items, np.bool_)
        gone[exclude[(exclude >= 0) & (exclude < self.n_items)]] = True
        # As many more spellings as there are items not to give: they may stand before those that are looked for.
        beam = self.config.beam + min(int(gone.sum()), self.config.beam)
        nodes, scores, kept = np.zeros(1, np.int64), np.zeros(1, np.float32), self._nothing(1)
        steps, last = hidden[None], len(self.sizes) - 1
        level = 0
        while True:
            of = (steps + self._tables["depth"][level])[:, None].astype(np.float32)
            spoken, kept = self._speller.run({STEPS: of, BEFORE: kept})
            first, codes = self.trie.first[level], self.trie.codes[level]
            count = first[nodes + 1] - first[nodes]
            parent = np.repeat(np.arange(len(nodes)), count)
            child = np.arange(len(parent)) - np.repeat(np.cumsum(count) - count, count) + np.repeat(first[nodes], count)
            every = np.empty((len(spoken), len(self._said[level])), np.float32)
            products(self._said[level], spoken, every)
            logits = every[parent, codes[child]]
            if level == last:
                cold = self.cold[self.trie.rows[child]]
                logits = self._evened(logits, cold, parent, len(nodes))
                keep = ~gone[self.trie.rows[child]]
                rows, found = self.trie.rows[child[keep]], (scores[parent] + logits)[keep].astype(np.float32)
                order = np.lexsort((rows, -found))
                return rows[order], found[order]
            # Odds among the codes that an item has: no id is unlikelier for beginning like ids that there are not.
            found = (scores[parent] + _log_shares(logits, parent, len(nodes))).astype(np.float32)
            best = np.lexsort((child, -found))[:beam]
            nodes, scores, kept = child[best], found[best], kept[parent[best]]
            steps = self._spelt[level][codes[nodes]]
            level += 1

    def _evened(self, logits: F32, cold: BoolArray, parent: I64, n: int) -> F32:
        """Shares of the items that share all codes but the last, which is only a number: one that nobody has taken
        has, of what it means, no less than the middle one of those."""
        shares = _log_shares(logits, parent, n)
        even = -np.log(np.maximum(np.bincount(parent, minlength=n), 1))[parent]
        found: F32 = np.where(cold, even + self.config.cold_bonus, shares).astype(np.float32)
        return found

    def user_vectors(self, queries: Queries) -> F32:
        """(n, d) what was read of the histories."""
        arguments(queries)
        parts = in_ranges(len(queries), lambda start, stop: self._reader.read(queries, start, stop))
        return np.concatenate(parts) if parts else np.zeros((0, self.config.d), np.float32)

    def item_vectors(self) -> F32:
        """(items, d) of unit length: cosine between them is similarity."""
        return unit(self._tables["inputs"][1:])

    # ------------------------------------------------------------------------------------------------- keeping

    def save(self, folder: Path) -> None:
        """Ids, tables and graphs."""
        for name, data in self._graphs.items():
            (folder / name).write_bytes(data)
        meta = {
            "config": self.config.model_dump(), "moments": moments_meta(self.moments), "figures": self.figures,
            "notes": list(self.notes), "sizes": self.sizes,
        }  # fmt: skip
        store.write(folder, self.name, meta, {**self._tables, "ids": self.ids, "cold": self.cold})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Map what `save` wrote. BuildError where it cannot be used; MissingExtraError without ONNX Runtime."""
        meta, arrays = store.read(folder, cls.name, (*_TABLES, "ids", "cold"))
        found = cls(store.config(GenerativeConfig, meta, folder))
        found.moments, found.ids = moments_from(meta, folder), arrays["ids"]
        found.figures, found.notes = dict(meta.get("figures", {})), tuple(meta.get("notes", ()))
        found._use({name: arrays[name] for name in _TABLES}, list(meta["sizes"]), arrays["cold"], folder)
        found._graphs = {name: (folder / name).read_bytes() for name in _GRAPHS}
        return found


def _log_shares(logits: F32, parent: I64, n: int) -> F32:
    """Logarithms of the softmax within each parent's children, which stand together."""
    top = np.full(n, -np.inf, np.float32)
    np.maximum.at(top, parent, logits)
    mass = np.bincount(parent, weights=np.exp(logits - top[parent]), minlength=n)
    found: F32 = (logits - top[parent] - np.log(mass)[parent]).astype(np.float32)
    return found


def _folded(vectors: F32, d: int) -> F32:
    """(items, d) of the vectors that ids are made of: turned so that the first d say most, and small."""
    _, turns = np.linalg.eigh((vectors.T @ vectors).astype(np.float64))
    out = np.zeros((len(vectors), d), np.float32)
    turned = vectors @ turns[:, ::-1][:, :d].astype(np.float32)
    out[:, : turned.shape[1]] = turned
    spread = float(out.std())
    return out * np.float32(_START / spread) if spread > 0 else out
