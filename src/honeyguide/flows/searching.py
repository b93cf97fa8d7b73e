"""Search as it is served: hits by words, items that meaning adds, and the order that was learnt for the first page.

Behind the contract `TextIndex`, so that whoever asks for hits gets the ranked ones.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from honeyguide.contracts import F32, F64, I32, CatalogView, Encoder, Rewrites, TextHits
from honeyguide.engines.search.index import LexicalIndex
from honeyguide.engines.search.query_plan import words_of
from honeyguide.kernels import trees as tree_kernel
from honeyguide.ranking.search import COLUMNS, Candidates, ItemFacts, Person, features
from honeyguide.retrieval.hybrid import DenseItems, blended, checked, query_type
from honeyguide.schema.wire import Filters, Item

__all__ = ["Bound", "Finder", "Learnt", "text_of"]

_FILE = "search.json"
_TREES = "search.npz"
_FORMAT = 1
SHARE = 0.2
"""Of meaning in the blend that trees see."""


@dataclass(frozen=True)
class Learnt:
    """What judgments or clicks taught about ranking hits. `on` says whether it is served."""

    on: bool = False
    reason: str = "nothing was learnt"
    candidates: int = 100
    shares: dict[str, float] = field(default_factory=dict)  # of meaning, by query type
    report: dict[str, Any] = field(default_factory=dict)
    trees: tree_kernel.FusedTrees | None = None

    @classmethod
    def load(cls, folder: Path) -> Learnt:
        """Read what `flows.search_learn` wrote; one of another format or other columns counts as nothing learnt."""
        path = folder / _FILE
        if not path.is_file():
            return cls()
        told = json.loads(path.read_text())
        if told.get("format") != _FORMAT or told.get("columns") != list(COLUMNS):
            return cls(reason="it was learnt by another version: run `honeyguide build`")
        trees = folder / _TREES
        fused = None
        if trees.is_file():
            with np.load(trees) as kept:
                arrays = {one.name: kept[one.name] for one in fields(tree_kernel.FusedTrees)}
            fused = tree_kernel.FusedTrees(**arrays)
        return cls(told["on"], told["reason"], told["candidates"], checked(told["shares"]), told["report"], fused)

    @staticmethod
    def write(folder: Path, told: Mapping[str, Any], trees: tree_kernel.FusedTrees | None = None) -> None:
        """Write what was learnt. Trees are kept as arrays: who serves loads no library that trains."""
        if trees is not None:
            np.savez(folder / _TREES, **{one.name: getattr(trees, one.name) for one in fields(trees)})
        body = {"format": _FORMAT, "columns": list(COLUMNS), **told}
        (folder / _FILE).write_bytes(msgspec.json.format(msgspec.json.encode(body)))


class Finder:
    """`contracts.TextIndex` over a lexical index, with what meaning and learning add to the first hits.

    With neither it is the index itself, and costs nothing more.
    """

    def __init__(
        self, index: LexicalIndex, view: CatalogView, *, popularity: F32 | None = None, dense: DenseItems | None = None,
        encoder: Encoder | None = None, learnt: Learnt | None = None, clicks: F32 | None = None,
        shown: F32 | None = None,
    ) -> None:  # fmt: skip
        self.index, self.dense, self.encoder = index, dense, encoder
        self.learnt = learnt or Learnt()
        self.config = index.config
        self.facts = ItemFacts.of(view, popularity, clicks=clicks, shown=shown)

    def __len__(self) -> int:
        return len(self.index)

    @property
    def ranks(self) -> bool:
        """Whether the first hits are put in another order than the words give."""
        return self.learnt.on and (self.learnt.trees is not None or self.meaning)

    @property
    def meaning(self) -> bool:
        """Whether vectors are there to compare."""
        return self.dense is not None and self.encoder is not None

    def search(
        self, query: str, k: int, *, offset: int = 0, filters: Filters | None = None, facets: bool = False,
        rewrites: Rewrites | None = None, sort: str = "relevance", facet_text: Mapping[str, str] | None = None,
        person: Person | None = None,
    ) -> TextHits:  # fmt: skip
        """As `LexicalIndex.search`, the first hits in the learnt order. Pages continue each other."""
        wide = self.learnt.candidates
        if not self.ranks or sort != "relevance":
            return self.index.search(
                query, k, offset=offset, filters=filters, facets=facets, rewrites=rewrites, sort=sort,
                facet_text=facet_text,
            )  # fmt: skip
        first = self.index.search(query, wide, filters=filters, facets=facets, rewrites=rewrites, facet_text=facet_text)
        if not len(first.rows):
            return first
        found = self.candidates(query, first, filters, rewrites)
        scores = self.scored(found, person)
        order = np.lexsort((found.rows, -scores))
        added = len(found.rows) - len(first.rows)
        rows, values = found.rows[order], scores[order].astype(np.float32)
        if offset + k > len(rows) and first.total > len(first.rows):
            rest = self.index.search(
                query, offset + k + added, filters=filters, rewrites=rewrites, offset=len(first.rows)
            )  # fmt: skip
            new = ~np.isin(rest.rows, rows)
            low = values[-1] if len(values) else np.float32(0)
            rows = np.concatenate([rows, rest.rows[new]])
            values = np.concatenate([values, np.minimum(rest.scores[new], 0) + low])
        new_hits = int((found.fields[len(first.rows) :, 5] == 0).sum()) if added else 0
        page = slice(offset, offset + k)
        return TextHits(rows[page], values[page], first.total + new_hits, first.facets)

    def candidates(
        self, query: str, first: TextHits, filters: Filters | None = None, rewrites: Rewrites | None = None
    ) -> Candidates:
        """The first hits, and as many items by meaning that pass the filters, with all that is known of each."""
        rows = first.rows
        lexical = first.scores
        dense = np.full(len(rows), np.nan, np.float32)
        if self.dense is not None and self.encoder is not None:
            vector = self.encoder.encode_queries([query])[0]
            near, _ = self.dense.nearest(vector, self.learnt.candidates)
            near = near[~np.isin(near, rows)]
            near = near[self.index.allowed(near, filters or Filters())]
            rows = np.concatenate([rows, near])
            lexical = np.concatenate([lexical, np.zeros(len(near), np.float32)])
            dense = self.dense.cosines(vector, rows)
        fields = self.index.field_scores(query, rows.tolist(), rewrites)
        tokens = words_of(query, self.config)
        bonus = self.config.exact_bonus
        title = np.isin(rows, self.index.titled(query))
        plain = np.where(title & (lexical >= bonus), lexical - bonus, lexical).astype(np.float32)
        share = self.learnt.shares.get(query_type(len(tokens), title=bool(title.any())), 0.0)
        # A whole title stays above what only sounds like it.
        hybrid = blended(plain, dense, share) + title
        blend = blended(plain, dense, SHARE) + title if self.meaning else blended(plain, dense, 0.0) + title
        return Candidates(rows, plain, dense, fields, title, blend, hybrid, len(tokens), first.total)

    def scored(self, found: Candidates, person: Person | None = None) -> F64:
        """Scores of candidates, higher first: the trees', else the blend."""
        if self.learnt.trees is None:
            return found.hybrid
        return tree_kernel.score(self.learnt.trees, features(found, self.facts, person))[:, 0]

    def person(self, history: I32) -> Person | None:
        """What a history says to the ranking; None where nobody asks for it."""
        return Person.of(self.facts, history) if self.ranks and self.learnt.trees is not None else None

    def bound(self, sort: str, facet_text: Mapping[str, str], person: Person | None) -> Bound:
        """The same with what one request asks for beside its words."""
        return Bound(self, sort, facet_text, person)

    def like(self, item: Item, k: int, *, filters: Filters | None = None) -> TextHits:
        """Items with like texts."""
        return self.index.like(item, k, filters=filters)

    def lacking(self, query: str, rows: Sequence[int], rewrites: Rewrites | None = None) -> list[str]:
        """Words of a query that none of these items holds."""
        return self.index.lacking(query, rows, rewrites)

    def upsert(self, rows: Sequence[int], items: Sequence[Item]) -> None:
        """Add or replace items: found by words at once, by meaning from the next build on."""
        self.index.upsert(rows, items)


@dataclass(frozen=True, slots=True)
class Bound:
    """`contracts.TextIndex`: a finder for one request, with its order, its words for facets, and who asks."""

    finder: Finder
    sort: str
    facet_text: Mapping[str, str]
    person: Person | None

    def search(
        self, query: str, k: int, *, offset: int = 0, filters: Filters | None = None, facets: bool = False,
        rewrites: Rewrites | None = None,
    ) -> TextHits:  # fmt: skip
        """As `Finder.search`."""
        return self.finder.search(
            query, k, offset=offset, filters=filters, facets=facets, rewrites=rewrites, sort=self.sort,
            facet_text=self.facet_text, person=self.person,
        )  # fmt: skip

    def lacking(self, query: str, rows: Sequence[int], rewrites: Rewrites | None = None) -> list[str]:
        """As `Finder.lacking`."""
        return self.finder.lacking(query, rows, rewrites)

    def like(self, item: Item, k: int, *, filters: Filters | None = None) -> TextHits:
        """As `Finder.like`."""
        return self.finder.like(item, k, filters=filters)

    def upsert(self, rows: Sequence[int], items: Sequence[Item]) -> None:
        """As `Finder.upsert`."""
        self.finder.upsert(rows, items)


def text_of(view: CatalogView, row: int, letters: int) -> str:
    """What an encoder reads of an item: its title, kinds, and of its description so much as there is room for."""
    kinds = ", ".join(view.category_names[code] for code in view.category.row(row).tolist()[:4])
    parts = (view.title[row], kinds, view.description[row])
    return ". ".join(part for part in parts if part)[:letters]
