"""What is known of items without anybody having taken them: texts, facts and embeddings as one vector."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterator, Sequence
from typing import Any, Self

import numpy as np
from scipy import sparse

from honeyguide.contracts import F32, BoolArray, CatalogView
from honeyguide.errors import ConfigError
from honeyguide.retrieval.deep.encode import unit
from honeyguide.retrieval.deep.spectral import principal

__all__ = ["Content"]

_BUCKETS = 1 << 15
_WORDS = 60
"""Words of a description that count."""
_WORD = re.compile(r"\w+")


class Content:
    """Words and facts, weighed by how rare they are, folded to `d` dimensions (latent semantic analysis: Deerwester et
    al. 1990), and beside them the embeddings that the catalog brings, `d` dimensions each. Items that came later are
    folded by `of` in the same way.
    """

    arrays = ("rarity", "axes", "centres", "turns")

    def __init__(self, embeddings: Sequence[str], rarity: F32, axes: F32, centres: F32, turns: F32) -> None:
        """rarity: (buckets,); axes: (buckets, d); centres, turns: of all embeddings, joined."""
        self.embeddings = tuple(embeddings)
        self.rarity, self.axes, self.centres, self.turns = rarity, axes, centres, turns

    @classmethod
    def learnt(cls, catalog: CatalogView, d: int, embeddings: Sequence[str], seed: int) -> Self:
        """From all items. ConfigError where an embedding is no list of numbers of one length."""
        bags = _bags(catalog)
        held = np.bincount(bags.indices, minlength=_BUCKETS)
        # A word of one item alone tells nothing of others, and one of most items nothing at all.
        rare = np.where(held >= 2, np.log((1.0 + len(catalog)) / (1.0 + held)), 0.0).astype(np.float32)
        axes = np.zeros((_BUCKETS, d), np.float32)
        if rare.any():
            found, _ = principal(_even(bags @ sparse.diags_array(rare)).T.tocsr(), d, seed)
            axes[:, : found.shape[1]] = found
        given = _embeddings(catalog, embeddings)
        there = np.abs(given).sum(axis=1) > 0
        centres = given[there].mean(axis=0) if there.any() else np.zeros(given.shape[1], np.float32)
        turns = np.zeros((given.shape[1], d if given.shape[1] else 0), np.float32)
        if there.any() and given.shape[1]:
            _, _, right = np.linalg.svd(given[there] - centres, full_matrices=False)
            turns[:, : min(d, len(right))] = right[:d].T
        return cls(embeddings, rare, axes, centres.astype(np.float32), turns)

    def of(self, catalog: CatalogView) -> F32:
        """(items, d or more); 0 for items that nothing is known of."""
        text = unit(np.asarray(_even(_bags(catalog) @ sparse.diags_array(self.rarity)) @ self.axes, np.float32))
        if not self.turns.shape[1]:
            return text
        given = _embeddings(catalog, self.embeddings)
        there = np.abs(given).sum(axis=1, keepdims=True) > 0
        folded = unit(np.where(there, (given - self.centres) @ self.turns, 0.0).astype(np.float32))
        return np.concatenate([text, folded], axis=1)


def known(content: F32) -> BoolArray:
    """Which items anything is known of."""
    return np.abs(content).sum(axis=1) > 0


def _even(bags: sparse.csr_matrix) -> sparse.csr_matrix:
    """Rows of length one."""
    bags = sparse.csr_matrix(bags)
    length = np.sqrt(np.asarray(bags.multiply(bags).sum(axis=1)).ravel())
    return sparse.csr_matrix(sparse.diags_array(1.0 / np.where(length > 0, length, 1.0)) @ bags)


def _bags(catalog: CatalogView) -> sparse.csr_matrix:
    """(items, buckets) whether an item has a word or a fact that falls into a bucket."""
    indptr, indices = np.zeros(len(catalog) + 1, np.int64), []
    attributes = _attributes(catalog)
    for row in range(len(catalog)):
        told = {zlib.crc32(token.encode("utf-8", "surrogatepass")) % _BUCKETS for token in _tokens(catalog, row)}
        told |= {zlib.crc32(fact.encode("utf-8", "surrogatepass")) % _BUCKETS for fact in _facts(attributes[row])}
        indices.append(np.array(sorted(told), np.int64))
        indptr[row + 1] = indptr[row] + len(told)
    joined = np.concatenate(indices) if indices else np.zeros(0, np.int64)
    return sparse.csr_matrix((np.ones(len(joined), np.float32), joined, indptr), shape=(len(catalog), _BUCKETS))


def _tokens(catalog: CatalogView, row: int) -> Iterator[str]:
    yield from _WORD.findall(catalog.title[row].lower())
    yield from _WORD.findall(catalog.description[row].lower())[:_WORDS]
    yield from (f"category:{catalog.category_names[code]}" for code in catalog.category.row(row))
    yield from (f"people:{catalog.people_names[code]}" for code in catalog.people.row(row))
    if catalog.country[row] >= 0:
        yield f"country:{catalog.country_names[catalog.country[row]]}"
    if np.isfinite(catalog.year[row]):
        yield f"decade:{int(catalog.year[row]) // 10}"
    if np.isfinite(catalog.price[row]) and catalog.price[row] > 0:
        yield f"price:{int(np.log2(catalog.price[row]) * 2)}"


def _attributes(catalog: CatalogView) -> list[dict[str, Any]]:
    if catalog.attributes is None:
        return [{}] * len(catalog)
    texts = catalog.attributes.to_pylist()
    return [found if text and isinstance(found := json.loads(text), dict) else {} for text in texts]


def _facts(told: dict[str, Any]) -> Iterator[str]:
    """Names and values; lists of numbers are embeddings, and no facts."""
    for name, value in told.items():
        if isinstance(value, list):
            yield from (f"{name}:{one}" for one in value if isinstance(one, (str, bool, int)))
        elif isinstance(value, (str, bool, int)):
            yield f"{name}:{value}"


def _embeddings(catalog: CatalogView, names: Sequence[str]) -> F32:
    """(items, all their dimensions), 0 where an item has none."""
    if not names:
        return np.zeros((len(catalog), 0), np.float32)
    told, blocks = _attributes(catalog), []
    for name in names:
        given = [one.get(name) for one in told]
        sizes = {len(one) if isinstance(one, list) else -1 for one in given if one is not None}
        if len(sizes) != 1 or -1 in sizes or 0 in sizes:
            raise ConfigError(
                expected=f"the attribute {name!r} of items as lists of numbers of one length",
                got=f"lengths {', '.join(map(str, sorted(sizes)))}" if sizes else "an attribute that no item has",
                do="Mend `embeddings` in the source's config, or the attribute.",
            )
        block = np.zeros((len(given), sizes.pop()), np.float32)
        for row, one in enumerate(given):
            if one is None:
                continue
            try:
                block[row] = one
            except (TypeError, ValueError) as error:
                raise ConfigError(
                    expected=f"numbers in the attribute {name!r}", got=str(error), do="Mend the attribute."
                ) from error
        blocks.append(np.nan_to_num(block, nan=0.0, posinf=0.0, neginf=0.0))
    return (
        unit(np.concatenate(blocks, axis=1)) if len(blocks) == 1 else np.concatenate([unit(b) for b in blocks], axis=1)
    )
