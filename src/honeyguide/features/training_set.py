"""One row of features per label or candidate, as known at its moment."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from honeyguide.contracts import F32, I32, I64, CatalogView, Interactions, Queries
from honeyguide.errors import DataError
from honeyguide.features.asof import EventStream
from honeyguide.features.definition import FeatureSet
from honeyguide.features.plan import ItemFacts, Plan
from honeyguide.kernels import affinity, windows

__all__ = ["LabelRows", "Requests", "group_features", "training_set"]


@dataclass(frozen=True, slots=True)
class LabelRows:
    """What is to be learnt: `n` rows of a person, an item and the moment before which everything may be used."""

    user: I32  # -1 unknown
    item: I32  # -1 gives a row of nan
    at: I64

    def __len__(self) -> int:
        return len(self.user)


@dataclass(frozen=True, slots=True)
class Requests:
    """`n` requests with their candidates."""

    user: I32  # (n,) -1 unknown
    at: I64  # (n,)
    items: I32  # (n, K), padded with -1

    def __len__(self) -> int:
        return len(self.user)


def training_set(
    features: FeatureSet,
    interactions: Interactions | EventStream,
    catalog: CatalogView,
    labels: LabelRows,
    histories: Queries | None = None,
) -> F32:
    """Exactly one row of features per label, in the order of the labels: (n, features).

    Only events strictly before a label's `at` are seen, so never the label's own event. Rows of the same person and
    moment share the work. histories: one per label, oldest first; None = the person's own events.
    """
    if histories is None:
        order = np.lexsort((labels.at, labels.user))
        user, at = labels.user[order], labels.at[order]
        first = np.ones(len(labels), np.bool_)
        first[1:] = (user[1:] != user[:-1]) | (at[1:] != at[:-1])
        user, at, ptr = user[first], at[first], np.append(np.flatnonzero(first), len(labels))
    else:
        order, user, at, ptr = np.arange(len(labels)), labels.user, labels.at, np.arange(len(labels) + 1)
    return _rows(features, interactions, catalog, user, at, labels.item, order, ptr, histories)


def group_features(
    features: FeatureSet,
    interactions: Interactions | EventStream,
    catalog: CatalogView,
    requests: Requests,
    histories: Queries | None = None,
) -> F32:
    """Features of every candidate of every request: (n * K, features), request by request; nan where padded.

    histories: one per request, oldest first (its `items`, `weights` and `at` are used); None = the person's own events.
    Costs one pass over the events and about 0.2 microseconds a feature and candidate; the result is the largest array.
    """
    n, k = requests.items.shape
    order, ptr = np.arange(n * k), np.arange(n + 1) * k
    items = requests.items.reshape(-1)
    return _rows(features, interactions, catalog, requests.user, requests.at, items, order, ptr, histories)


def _rows(
    features: FeatureSet, interactions: Interactions | EventStream, catalog: CatalogView,
    user: I32, at: I64, item: I32, order: I64, ptr: I64, histories: Queries | None,
) -> F32:  # fmt: skip
    # Request r, by user[r] at at[r], asks about the rows order[ptr[r]:ptr[r + 1]] of `item` and of the result.
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

    out = np.full((len(item), len(features)), np.nan, np.float32)
    everybody = stream.everybody(plan, at)
    stream.aggregates(plan, "item", item, at[request], request, everybody, out)
    of_user = np.full((len(user), len(features)), np.nan, np.float32)
    stream.aggregates(plan, "user", user, at, np.arange(len(user)), everybody, of_user)
    real = item >= 0
    for column in plan.formulas("user")[0][:, windows.COLUMN]:
        out[real, column] = of_user[request[real], column]

    if histories is None:
        indptr, grouped = stream.by_user
        past = stream.events[grouped]
        nobody = stream.interactions.n_users
        who = np.where((user < 0) | (user >= nobody), nobody, user).astype(np.int64)
        h_items, h_weights = np.ascontiguousarray(past["item"]), np.ascontiguousarray(past["weight"])
        h_at = np.ascontiguousarray(past["at"])
        begin, end = windows.known_ranges(indptr, h_at, who, at, features.history_limit)
    else:
        h_items, h_weights = np.array(histories.items, np.int32), np.array(histories.weights, np.float32)
        h_at = np.array(histories.at, np.int64)
        begin, end = np.array(histories.indptr[:-1], np.int64), np.array(histories.indptr[1:], np.int64)
    facts = ItemFacts.of(catalog, features)
    affinity.requests_rows(
        at, item[order], order, ptr, h_items, h_weights, h_at, begin, end, *facts.arrays, *plan.pair.arrays,
        facts.scratch, out,
    )  # fmt: skip
    return out
