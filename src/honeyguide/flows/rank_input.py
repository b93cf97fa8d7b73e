"""Candidates as a ranker sees them that looks at more than features: alike in batches and in service."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from honeyguide.contracts import F32, I32, I64, Interactions, Pool, Queries, Ragged, RankInput
from honeyguide.flows.histories import Timelines
from honeyguide.flows.showings import Shown, moments_before
from honeyguide.ranking.rows import Rows

if TYPE_CHECKING:
    from honeyguide.flows.answer import Ask

__all__ = ["Values", "of_queries", "of_request", "of_rows"]


class Values:
    """The numbers that events came with, found again by person, item and moment."""

    def __init__(self, interactions: Interactions) -> None:
        key = _key(interactions.user, interactions.at, interactions.item)
        order = np.argsort(key, kind="stable")
        self._keys, self._values = key[order], interactions.value[order]

    def of(self, users: I32, queries: Queries) -> F32:
        """By event of the histories; nan where there is no such event."""
        owner = np.repeat(users, np.diff(queries.indptr))
        place = _find(self._keys, _key(owner, queries.at, queries.items))
        return np.append(self._values, np.float32(np.nan))[place]


def of_request(ask: Ask, pool: Pool, features: F32, context: Mapping[str, int] | None = None) -> RankInput:
    """The candidates of one request in service. Seeds stand in the place of a history, as they do for the features."""
    items = pool.items[0]
    n, past = len(items), np.array([0, len(ask.items)], np.int64)
    home = ask.request.item_id is None and not ask.request.board_items
    values = ask.values if len(ask.values) == len(ask.items) else np.full(len(ask.items), np.nan, np.float32)
    return RankInput(
        features=features, request=np.zeros(n, np.int32), items=items, users=np.array([ask.user], np.int32),
        at_us=np.array([ask.now_us], np.int64), histories=Ragged(past, ask.items), history_at=ask.at,
        history_weights=ask.weights, history_values=values,
        seeds=Ragged.empty(1) if home else Ragged(past, ask.items),
        context={name: np.array([code], np.int64) for name, code in (context or {}).items()},
        segment=np.array([ask.segment], np.int32),
    )  # fmt: skip


def of_queries(
    users: I32, queries: Queries, items: I32, features: F32, context: Mapping[str, I64] | None = None,
    values: Values | None = None,
) -> RankInput:  # fmt: skip
    """The candidates (n, k) of many requests; features (n * k, columns), request by request."""
    n, k = items.shape
    nothing = np.full(len(queries.items), np.nan, np.float32)
    return RankInput(
        features=features, request=np.repeat(np.arange(n, dtype=np.int32), k), items=items.reshape(-1), users=users,
        at_us=queries.now, histories=Ragged(queries.indptr, queries.items), history_at=queries.at,
        history_weights=queries.weights, history_values=nothing if values is None else values.of(users, queries),
        seeds=Ragged.empty(n), context=context or {}, segment=queries.segment,
    )  # fmt: skip


def of_rows(
    rows: Rows, full: Interactions, shown: Shown | None, *, history: int, context: Sequence[str] = ()
) -> tuple[RankInput, I64, I32]:
    """The rows that heads learn from: what a ranker sees of them, their order in it, and where each was shown (0: not).

    A request is a person and a moment. Its history is what the person had done strictly before; its context that of the
    list as shown then, else that of the event. Row i of the input is row order[i] of `rows`.
    """
    n = len(rows.at)
    user = np.full(n, -1, np.int32) if rows.user is None else rows.user
    item = np.full(n, -1, np.int32) if rows.item is None else rows.item
    unit = user.astype(np.int64) if rows.unit is None else rows.unit
    order = np.lexsort((unit, rows.at))
    new = np.ones(n, np.bool_)
    new[1:] = (unit[order][1:] != unit[order][:-1]) | (rows.at[order][1:] != rows.at[order][:-1])
    request, first = (np.cumsum(new) - 1).astype(np.int32), order[new]
    users, at = user[first], rows.at[first]
    lines = Timelines(full)
    nobody_had = np.zeros(len(full.actions) + 1, np.bool_)
    queries = lines.queries(
        moments_before(lines, users, at), np.full(full.n_users, -1, np.int32), history=history, had=nobody_had
    )
    if shown is None or shown.position is None or not len(shown):
        position, beside = np.zeros(n, np.int32), np.full(len(users), -1, np.int64)
    else:
        slots = _index(_key(shown.user, shown.at, shown.item))
        place = slots(_key(user, rows.at, item))
        position = np.where(place >= 0, np.append(shown.position, 0)[place], 0).astype(np.int32)
        beside = _index(_key(shown.user, shown.at))(_key(users, at))
    event = _index(_key(full.user, full.at))(_key(users, at))
    told = {name: _told(name, shown, beside, full, event) for name in context}
    seeds = Ragged.empty(len(users)) if shown is None else shown.seeds_of(beside)
    given = RankInput(
        features=rows.features[order], request=request, items=item[order], users=users, at_us=at,
        histories=Ragged(queries.indptr, queries.items), history_at=queries.at, history_weights=queries.weights,
        history_values=Values(full).of(users, queries), seeds=seeds, context=told,
    )  # fmt: skip
    return given, order, position[order]


def _told(name: str, shown: Shown | None, beside: I64, full: Interactions, event: I64) -> I64:
    """A fact of each request: of the list as shown, else of the event."""
    found = np.zeros(len(beside), np.int64)
    for codes, place in (
        (full.context.get(name), event),
        (None if shown is None else shown.context.get(name), beside),
    ):
        if codes is not None:
            found = np.where(place >= 0, np.append(codes, 0)[place], found)
    return found


def _index(keys: I64) -> _Places:
    return _Places(keys)


class _Places:
    """Where keys stand; of equal ones the first."""

    def __init__(self, keys: I64) -> None:
        self._order = np.argsort(keys, kind="stable")
        self._sorted = keys[self._order]

    def __call__(self, asked: I64) -> I64:
        place = _find(self._sorted, asked)
        return np.append(self._order, -1)[place]


def _find(keys: I64, asked: I64) -> I64:
    """Place of each asked key in sorted keys, -1 where it is not among them."""
    if not len(keys):
        return np.full(len(asked), -1, np.int64)
    place = np.minimum(np.searchsorted(keys, asked), len(keys) - 1)
    return np.where(keys[place] == asked, place, -1)


def _key(*columns: I32 | I64) -> I64:
    """One number for each row of columns, another for other rows (but for one pair in 2 ** 63)."""
    mixed = np.zeros(len(columns[0]), np.uint64)
    for column in columns:
        mixed ^= column.astype(np.int64).view(np.uint64)
        mixed *= np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
        mixed *= np.uint64(0xBF58476D1CE4E5B9)
        mixed ^= mixed >> np.uint64(32)
    return mixed.view(np.int64)
