"""Ids that mean something: items alike begin with the same codes (Rajput et al. 2023), by residual quantisation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from honeyguide.contracts import F32, I32, I64, BoolArray
from honeyguide.retrieval.deep.encode import unit

__all__ = ["Trie", "clusters", "joined", "semantic_ids"]

_ROUNDS = 15
_BLOCK = 8_192
_RIDGE = 1.0


def joined(content: F32, taken: F32, seen: BoolArray, content_share: float) -> F32:
    """(items, d) of what is known of an item and what it was taken with, lengths squared by `content_share`.

    An item without events has the latter as its content foretells it: by ridge regression over the items that have
    both. So it stands among those it is like in either way.
    """
    with_content = np.abs(content).sum(axis=1) > 0
    both, told = seen & with_content, unit(taken)
    foretold = np.zeros_like(told)
    if both.any():
        x = content[both].astype(np.float64)
        weights = np.linalg.solve(x.T @ x + _RIDGE * np.eye(x.shape[1]), x.T @ told[both])
        foretold = unit((content @ weights).astype(np.float32))
    told = np.where(seen[:, None], told, foretold)
    share = np.where(with_content, content_share, 0.0)[:, None]
    return np.concatenate([np.sqrt(share) * unit(content), np.sqrt(1.0 - share) * told], axis=1).astype(np.float32)


def semantic_ids(vectors: F32, use: BoolArray, seen: BoolArray, levels: int, codes: int, seed: int) -> I32:
    """(items, levels + 1) codes, -1 for items not in use. No two items share all of them.

    Each level is a k-means of what the levels before leave over, made of the items with events (`seen`). An item
    without goes, level by level, to the nearest code that one of them has there: nothing was ever spelt otherwise, so
    it is reached wherever those that it is most like are. The last number tells items apart that share all others;
    where more than `codes` with events do, those beyond move to the emptiest last code beside theirs.
    """
    rows = np.flatnonzero(use)
    out = np.full((len(vectors), levels + 1), -1, np.int32)
    left = vectors[rows].astype(np.float32).copy()
    warm = seen[rows] if (seen[rows]).any() else np.ones(len(rows), np.bool_)
    random = np.random.default_rng(seed)
    found = np.zeros((len(rows), levels), np.int64)
    prefix = np.zeros(len(rows), np.int64)
    for level in range(levels if len(rows) else 0):
        centres = _centres(left[warm], min(codes, int(warm.sum())), random)
        found[warm, level] = _nearest(left[warm], centres)
        if level == levels - 1:
            part = found[warm]
            _spread(part, codes)
            found[warm] = part
        if not warm.all():
            found[~warm, level] = _among(left[~warm], centres, prefix[~warm], prefix[warm], found[warm, level])
        left -= centres[np.minimum(found[:, level], len(centres) - 1)]
        prefix = prefix * codes + found[:, level]
    order = np.argsort(prefix, kind="stable")
    first = np.ones(len(rows), np.bool_)
    first[1:] = prefix[order][1:] != prefix[order][:-1]
    start = np.maximum.accumulate(np.where(first, np.arange(len(order)), 0))
    tie = np.empty(len(rows), np.int64)
    tie[order] = np.arange(len(order)) - start
    out[rows, :levels], out[rows, levels] = found, tie
    return out


def clusters(vectors: F32, k: int, seed: int) -> I64:
    """The nearest of k centres (k-means) to each row."""
    return _nearest(vectors, _centres(vectors, k, np.random.default_rng(seed)))


def _among(points: F32, centres: F32, mine: I64, theirs: I64, codes: I64) -> I64:
    """The nearest centre to each point among those that items of the same beginning have."""
    order = np.lexsort((codes, theirs))
    theirs, codes = theirs[order], codes[order]
    out = np.zeros(len(points), np.int64)
    for beginning in np.unique(mine):
        first, last = np.searchsorted(theirs, [beginning, beginning + 1])
        some, at = np.unique(codes[first:last]), np.flatnonzero(mine == beginning)
        out[at] = some[_nearest(points[at], centres[np.minimum(some, len(centres) - 1)])]
    return out


def _centres(points: F32, k: int, random: np.random.Generator) -> F32:
    """k-means from points drawn at random; a centre that nothing is near goes to the point that is farthest off."""
    centres = points[random.choice(len(points), k, replace=False)].copy()
    for _ in range(_ROUNDS):
        near = _nearest(points, centres)
        count = np.bincount(near, minlength=k)
        sums = np.zeros((k, points.shape[1]), np.float64)
        np.add.at(sums, near, points)
        empty = np.flatnonzero(count == 0)
        centres = (sums / np.maximum(count, 1)[:, None]).astype(np.float32)
        if len(empty):
            far = np.argsort(-np.square(points - centres[near]).sum(axis=1), kind="stable")[: len(empty)]
            centres[empty] = points[far]
    return centres


def _nearest(points: F32, centres: F32) -> I64:
    half = 0.5 * np.square(centres).sum(axis=1)
    parts = [(points[at : at + _BLOCK] @ centres.T - half).argmax(axis=1) for at in range(0, len(points), _BLOCK)]
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)


def _spread(found: I64, codes: int) -> None:
    """No more than `codes` items share all levels, as long as there is room beside them."""
    while True:
        _, which, count = np.unique(found, axis=0, return_inverse=True, return_counts=True)
        over = np.flatnonzero(count > codes)
        if not len(over) or len(found) > codes * codes:
            return
        which = which.reshape(-1)
        for group in over:
            members = np.flatnonzero(which == group)[codes:]
            beside = (found[:, :-1] == found[members[0], :-1]).all(axis=1)
            held = np.bincount(found[beside, -1], minlength=codes)
            for member in members:
                to = int(held.argmin())
                held[to] += 1
                found[member, -1] = to


@dataclass(frozen=True)
class Trie:
    """All ids as a tree: node n of a level has the children first[n] to first[n + 1] of the next, ascending.

    codes[level]: (nodes,) code by which a node is reached. rows: (items,) of the leaves.
    """

    codes: tuple[I32, ...]
    first: tuple[I64, ...]  # of the root, then of each level but the last
    rows: I32

    @classmethod
    def of(cls, ids: I32) -> Trie:
        """From (items, levels) codes, -1 for items that have none."""
        rows = np.flatnonzero(ids[:, 0] >= 0) if len(ids) else np.zeros(0, np.int64)
        rows = rows[np.lexsort(ids[rows].T[::-1])] if len(rows) else rows
        sorted_ids = ids[rows]
        codes, first = [], []
        above = np.zeros(len(rows), np.int64)  # the node of the level before, by item
        nodes = 1
        for level in range(ids.shape[1]):
            new = np.ones(len(rows), np.bool_)
            if len(rows):
                new[1:] = (above[1:] != above[:-1]) | (sorted_ids[1:, level] != sorted_ids[:-1, level])
            codes.append(sorted_ids[new, level].astype(np.int32))
            first.append(np.searchsorted(above[new], np.arange(nodes + 1)).astype(np.int64))
            above = np.cumsum(new) - 1
            nodes = int(new.sum())
        return cls(tuple(codes), tuple(first), rows.astype(np.int32))
