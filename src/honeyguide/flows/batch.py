"""Many requests at once through the same stages as one: for learning and for evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from honeyguide.contracts import F64, I32, I64, CatalogView, Interactions, Pool, Queries, Ragged
from honeyguide.features.asof import EventStream
from honeyguide.features.definition import FeatureSet
from honeyguide.features.training_set import Requests, group_features
from honeyguide.flows.pipeline import Composers, ranker_matrix
from honeyguide.flows.rank_input import Values, of_queries
from honeyguide.ranking.ranker import HeadsRanker
from honeyguide.retrieval.blend import Blend
from honeyguide.slate.moment import Moment

__all__ = ["Ranked", "moment_of", "rank_batch", "slates"]

BLOCK = 512
"""Requests held at once: 512 x 300 candidates x 60 columns are 37 MB."""


@dataclass(frozen=True, slots=True)
class Ranked:
    """Pools with the heads' scores: (n, candidates, heads)."""

    pool: Pool
    scores: F64


def rank_batch(
    features: FeatureSet, catalog: CatalogView, interactions: Interactions, blend: Blend, ranker: HeadsRanker | None,
    users: I32, queries: Queries, candidates: int, context: Mapping[str, I64] | None = None,
) -> Ranked:  # fmt: skip
    """Candidates and scores of many requests. `users` are rows, -1 unknown; features see what was known at `now`.

    context: (n,) facts of each request that features ask for, as codes; none of them is known if it is left away.
    """
    pool = blend.pool(queries, candidates)
    n, k = pool.items.shape
    if ranker is None:
        return Ranked(pool, np.zeros((n, k, 0)))
    scores = np.empty((n, k, len(ranker.names)))
    stream = EventStream(interactions)
    values = Values(interactions) if ranker.history else None
    for start in range(0, n, BLOCK):
        part = slice(start, min(start + BLOCK, n))
        told = {name: codes[part] for name, codes in (context or {}).items()}
        requests = Requests(users[part], queries.now[part], pool.items[part], told)
        base = group_features(features, stream, catalog, requests, _slice(queries, part))
        block = Pool(pool.items[part], pool.blend[part], pool.source_scores[part], pool.sources)
        matrix = ranker_matrix(base, block, blend.asked)
        asked = _slice(queries, part)
        given = matrix if ranker.plain else of_queries(users[part], asked, block.items, matrix, told, values)
        scores[part] = ranker.score(given).reshape(part.stop - start, k, -1)
    return Ranked(pool, scores)


def slates(found: Ranked, composers: Composers, kinds: Sequence[str], queries: Queries, k: int) -> I32:
    """What each request would be shown, (n, k), padded with -1. kinds: of the requests, see `pipeline.kinds_of`."""
    out = np.full((len(queries), k), -1, np.int32)
    for i, kind in enumerate(kinds):
        real = found.pool.items[i] >= 0
        slate = composers.of(kind).compose(
            found.pool.items[i][real], scores=found.scores[i][real], blend=found.pool.blend[i][real], k=k,
            request_id=str(i), seen=queries.exclude.row(i), moment=moment_of(queries, i),
        )  # fmt: skip
        out[i, : len(slate.rows)] = slate.rows
    return out


def moment_of(queries: Queries, i: int) -> Moment:
    """What a slate may ask about one of the requests: its time, and its history or seeds."""
    part = slice(queries.indptr[i], queries.indptr[i + 1])
    return Moment(int(queries.now[i]), queries.items[part], queries.weights[part])


def _slice(queries: Queries, part: slice) -> Queries:
    first, last = queries.indptr[part.start], queries.indptr[part.stop]
    return Queries(
        queries.indptr[part.start : part.stop + 1] - first, queries.items[first:last], queries.weights[first:last],
        queries.at[first:last], queries.now[part], queries.segment[part], Ragged.empty(part.stop - part.start),
        {name: codes[part] for name, codes in queries.context.items()},
    )  # fmt: skip
