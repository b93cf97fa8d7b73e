"""One row of features per label or candidate, as known at its moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from honeyguide.contracts import F32, I32, I64, CatalogView, Interactions, Queries
from honeyguide.errors import DataError
from honeyguide.features.asof import EventStream, codes_of
from honeyguide.features.definition import FeatureSet
from honeyguide.features.keys import numbers
from honeyguide.features.plan import ITEM, USER, ItemFacts, Plan
from honeyguide.kernels import affinity, embedding, windows
from honeyguide.kernels.lasting import known_histories

__all__ = ["LabelRows", "Requests", "group_features", "training_set"]


@dataclass(frozen=True, slots=True)
class LabelRows:
    """What is to be learnt: `n` rows of a person, an item and the moment before which everything may be used."""

    user: I32  # -1 unknown
    item: I32  # -1 gives a row of nan
    at: I64
    context: Mapping[str, I64] = field(default_factory=dict)  # facts of the moment as `code64` of their text, 0 = none

    def __len__(self) -> int:
        return len(self.user)


@dataclass(frozen=True, slots=True)
class Requests:
    """`n` requests with their candidates."""

    user: I32  # (n,) -1 unknown
    at: I64  # (n,)
    items: I32  # (n, K), padded with -1
    context: Mapping[str, I64] = field(default_factory=dict)  # facts of the moment as `code64` of their text, 0 = none

    def __len__(self) -> int:
        return len(self.user)


def training_set(
    features: FeatureSet,
    interactions: Interactions | EventStream,
    catalog: CatalogView,
    labels: LabelRows,
    histories: Queries | None = None,
    *,
    dtype: type[np.floating] = np.float32,
) -> Any:
    """Exactly one row of features per label, in the order of the labels: (n, features).

    Only events strictly before a label's `at` are seen, so never the label's own event. Rows of the same person and
    moment share the work. histories: one per label, oldest first; None = the person's own events.
    """
    context = {name: labels.context[name] for name in features.context_keys if name in labels.context}
    if histories is None:
        order = np.lexsort(np.stack([*context.values(), labels.at, labels.user.astype(np.int64)]))
        user, at = labels.user[order], labels.at[order]
        first = np.ones(len(labels), np.bool_)
        first[1:] = (user[1:] != user[:-1]) | (at[1:] != at[:-1])
        for name, told in context.items():
            first[1:] |= told[order][1:] != told[order][:-1]
            context[name] = told[order]
        context = {name: told[first] for name, told in context.items()}
        user, at, ptr = user[first], at[first], np.append(np.flatnonzero(first), len(labels))
    else:
        order, user, at, ptr = np.arange(len(labels)), labels.user, labels.at, np.arange(len(labels) + 1)
    return _rows(features, interactions, catalog, user, at, labels.item, order, ptr, histories, context, dtype)


def group_features(
    features: FeatureSet,
    interactions: Interactions | EventStream,
    catalog: CatalogView,
    requests: Requests,
    histories: Queries | None = None,
    *,
    dtype: type[np.floating] = np.float32,
) -> Any:
    """Features of every candidate of every request: (n * K, features), request by request; nan where padded.

    histories: one per request, oldest first (its `items`, `weights` and `at` are used); None = the person's own events.
    Costs one pass over the events and about 0.2 microseconds a feature and candidate; the result is the largest array.
    """
    n, k = requests.items.shape
    order, ptr = np.arange(n * k), np.arange(n + 1) * k
    items = requests.items.reshape(-1)
    return _rows(
        features,
        interactions,
        catalog,
        requests.user,
        requests.at,
        items,
        order,
        ptr,
        histories,
        requests.context,
        dtype,
    )


def _rows(
    features: FeatureSet, interactions: Interactions | EventStream, catalog: CatalogView,
    user: I32, at: I64, item: I32, order: I64, ptr: I64, histories: Queries | None, context: Mapping[str, I64],
    dtype: type[np.floating],
) -> Any:  # fmt: skip
    # Request r, by user[r] at at[r] in context[r], asks about the rows order[ptr[r]:ptr[r + 1]] of `item` and of the
    # result.
    if histories is not None and len(histories) != len(user):
        raise DataError(
            expected=f"one history per request, {len(user)}",
            got=f"{len(histories)}",
            do="Give one each, empty if unknown.",
        )
    stream = EventStream.of(interactions)
    plan = Plan.of(features, stream.interactions.actions)
    user, at = np.array(user, np.int32), np.array(at, np.int64)
    item, order, ptr = np.array(item, np.int32), np.array(order, np.int64), np.array(ptr, np.int64)
    request = np.empty(len(item), np.int64)
    request[order] = np.repeat(np.arange(len(user)), np.diff(ptr))

    out = np.full((len(item), len(features)), np.nan, dtype)
    everybody, codes = stream.everybody(plan, at), codes_of(features, catalog)
    stream.aggregates(plan, ITEM, codes, item, at[request], request, everybody, out)
    for key in plan.keyed:
        moments = {name: told[request] for name, told in context.items()}
        asked = numbers(key, user[request], item, at[request], moments)
        stream.aggregates(plan, key, codes, asked, at[request], request, everybody, out)
    of_user = np.full((len(user), len(features)), np.nan, dtype)
    stream.aggregates(plan, USER, codes, user, at, np.arange(len(user)), everybody, of_user)
    real = item >= 0
    for column in plan.formulas(USER)[0][:, windows.COLUMN]:
        out[real, column] = of_user[request[real], column]
    if plan.keyed:
        out[~real] = np.nan

    if histories is None:
        h_items, h_weights, h_at, begin, end = _own_histories(stream, user, at, features.history_limit)
    else:
        h_items, h_weights = np.array(histories.items, np.int32), np.array(histories.weights, np.float32)
        h_at = np.array(histories.at, np.int64)
        begin, end = np.array(histories.indptr[:-1], np.int64), np.array(histories.indptr[1:], np.int64)
    facts = ItemFacts.of(catalog, features)
    affinity.requests_rows(
        at, item[order], order, ptr, h_items, h_weights, h_at, begin, end, *facts.arrays, *plan.pair.arrays,
        facts.scratch, out,
    )  # fmt: skip
    if features.needs_vectors:
        embedding.embedding_rows(
            at, item[order], order, ptr, h_items, h_weights, h_at, begin, end, facts.vectors, plan.pair.emb_i,
            plan.pair.emb_f, out,
        )  # fmt: skip
    return out


def _own_histories(stream: EventStream, user: I32, at: I64, limit: int) -> tuple[I32, F32, I64, I64, I64]:
    """Items, weights and times of events, and where the history of each request begins and ends in them."""
    indptr, grouped = stream.by_user
    nobody = stream.interactions.n_users
    who = np.where((user < 0) | (user >= nobody), nobody, user).astype(np.int64)
    h_at = stream.at[grouped]
    if not len(stream.known):
        begin, end = windows.known_ranges(indptr, h_at, who, at, limit)
        return stream.item[grouped], stream.weight[grouped], h_at, begin, end
    first, end = windows.known_ranges(indptr, h_at, who, at, windows.NEVER)
    ptr, places = known_histories(first, end, stream.known[grouped], stream.until[grouped], at, limit)
    chosen = grouped[places]
    return stream.item[chosen], stream.weight[chosen], stream.at[chosen], ptr[:-1].copy(), ptr[1:].copy()
