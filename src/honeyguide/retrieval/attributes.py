"""Items alike by what is known of them, walked from a history: it speaks for items that no event speaks for yet."""

from __future__ import annotations

from typing import Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from scipy import sparse

from honeyguide.contracts import CatalogView, Interactions
from honeyguide.errors import DataError
from honeyguide.retrieval.covisit import ItemGraph, together
from honeyguide.retrieval.signals import HistoryConfig, Signals, TrendConfig

__all__ = ["Attributes", "AttributesConfig"]


class AttributesConfig(BaseModel):
    """Which facts count, and how rare facts count for more."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    idf_power: float = Field(default=1.0, ge=0, le=4, description="power of log(items / items with the fact)")
    length_power: float = Field(default=0.5, ge=0, le=1, description="power of an item's own weight that divides")
    most_items: int = Field(default=5_000, ge=2, description="facts of more items than this tell nothing, and cost")
    prior: float = Field(default=0.0, ge=0, le=10, description="power of an item's events that multiplies its score")
    width: int = Field(default=200, ge=1, le=5_000, description="neighbours kept per item")
    history: HistoryConfig = HistoryConfig(step_power=1.0, newest=50)
    trend: TrendConfig = TrendConfig()


class Attributes(ItemGraph):
    """Items that share categories and people, rare ones counting most.

    `S[i, j] = n_j^prior * sum over shared facts f: idf_f^2 / (|i| |j|)^(2 length_power)`, with
    `idf_f = log(items / items with f)^idf_power` and `|i|` the root of i's sum of squares; the best `width` per item.
    Price: `width` x items x 8 bytes; fitting costs the square of the items per fact, which `most_items` bounds.
    """

    name = "attributes"
    Config = AttributesConfig
    config: AttributesConfig

    def fit(self, interactions: Interactions, catalog: CatalogView, *, seed: int = 0) -> Self:
        """Learn from the catalog, and from events how much an item is taken. DataError where it knows no fact."""
        self._facts = _facts(catalog, interactions.n_items)
        return super().fit(interactions, catalog, seed=seed)

    def _learn(self, events: Signals, seed: int) -> None:
        config, facts = self.config, self._facts
        count = np.diff(facts.indptr).astype(np.float64)
        idf = np.log(max(events.n_items, 2) / np.maximum(count, 1)).clip(1e-3) ** config.idf_power
        idf[count > config.most_items] = 0.0
        by_item = facts.tocsc()
        length = by_item.T @ (idf**2)
        scale = (np.where(length > 0, length, 1.0) ** -config.length_power).astype(np.float32)
        taken = (np.bincount(events.item, minlength=events.n_items) + 1.0) ** config.prior
        self.indptr, self.cols, self.vals = together(
            facts, by_item, (idf**2).astype(np.float32), scale, (scale * taken).astype(np.float32), config.width
        )
        del self._facts


def _facts(catalog: CatalogView, n_items: int) -> sparse.csr_matrix:
    """(facts, items) of ones: the categories, then the people. Raises DataError where there is none."""
    parts = []
    for ragged, names in ((catalog.category, catalog.category_names), (catalog.people, catalog.people_names)):
        n = min(len(ragged), n_items)
        item = np.repeat(np.arange(n), np.diff(ragged.indptr)[:n])
        code = ragged.values[: ragged.indptr[n]]
        shape = (max(len(names), int(code.max(initial=-1)) + 1), n_items)
        parts.append(sparse.csr_matrix((np.ones(len(code), np.float32), (code, item)), shape=shape))
    facts = sparse.vstack(parts).tocsr()
    facts.sum_duplicates()
    facts.data[:] = 1.0
    if not facts.nnz:
        raise DataError(
            expected="categories or people of items for `attributes`", got="a catalog without any",
            do="Load them with the items, or take `attributes` out of [[sources]].",
        )  # fmt: skip
    return facts
