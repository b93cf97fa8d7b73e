"""What was known, what is asked, what came later: a global cut in time, and each person's next item."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from honeyguide.contracts import I32, I64, BoolArray, Interactions, Queries, Ragged
from honeyguide.errors import DataError

__all__ = ["Cuts", "NextItem", "Trial", "global_split", "global_trial", "leave_one_out", "next_item_trial"]


@dataclass(frozen=True, slots=True)
class Cuts:
    """Train is before `valid_at`, validation from there until before `test_at`, test from there on."""

    valid_at: int  # microseconds since the epoch, UTC
    test_at: int


@dataclass(frozen=True, slots=True)
class NextItem:
    """Each person's last two items; the events that are left are train."""

    train: BoolArray  # (events,) neither anybody's validation nor test event
    valid: I64  # (n_users,) index of the event, -1 where the person has too few
    test: I64  # (n_users,)


@dataclass(frozen=True, slots=True)
class Trial:
    """Questions with the answers that came later: one query per person who has any."""

    protocol: str
    queries: Queries
    relevant: Ragged  # distinct items per query, ascending, none of them known to the person before
    user: I32  # (n,) whose question it is

    def __len__(self) -> int:
        return len(self.user)

    @property
    def has_history(self) -> BoolArray:
        """Whether anything was known of the person when asked, (n,)."""
        return np.diff(self.queries.indptr) > 0


def global_split(interactions: Interactions, shares: tuple[float, float, float] = (0.8, 0.1, 0.1)) -> Cuts:
    """Two moments that part the events by time in about these shares.

    Events that happen at a cut all go to the later side, so the earlier side never holds more than its share.
    Raises DataError where that leaves a side empty, or the shares do not sum to one.
    """
    if len(shares) != 3 or min(shares) <= 0 or abs(sum(shares) - 1) > 1e-9:
        raise DataError(
            expected="three positive shares that sum to 1", got=str(shares), do="Say (train, validation, test)."
        )
    at, n = interactions.at, len(interactions)
    if n:
        valid_at, test_at = (int(at[min(int(n * share), n - 1)]) for share in (shares[0], shares[0] + shares[1]))
        if at[0] < valid_at < test_at:
            return Cuts(valid_at, test_at)
    raise DataError(
        expected="events at three or more moments, spread over time",
        got=f"{n} events at {len(np.unique(at))} moments",
        do="A cut in time needs timestamps; check the column that holds them.",
    )


def leave_one_out(interactions: Interactions, *, repeats: bool = False, min_events: int = 3) -> NextItem:
    """Test: each person's last item; validation: the one before.

    Last means last by time, then by the order of the file. Without `repeats` only a person's first event with an item
    can be asked for, so that the answer is new to them; with it every event counts. People with fewer than
    `min_events` such events stay in train. Other people's later events are in train: this protocol looks into the
    future, and is here because published figures use it.
    """
    user, item = interactions.user.astype(np.int64), interactions.item.astype(np.int64)
    eligible = np.arange(len(interactions))
    if not repeats:
        eligible = np.sort(np.unique(user * interactions.n_items + item, return_index=True)[1])
    # A stable sort by person keeps the order of time, so each person's events are a run that ends with the last.
    eligible = eligible[np.argsort(user[eligible], kind="stable")]
    ends = np.cumsum(np.bincount(user[eligible], minlength=interactions.n_users))
    enough = np.diff(ends, prepend=0) >= max(min_events, 2)
    test, valid = np.full((2, interactions.n_users), -1, np.int64)
    test[enough], valid[enough] = eligible[ends[enough] - 1], eligible[ends[enough] - 2]
    train = np.ones(len(interactions), np.bool_)
    train[test[enough]] = train[valid[enough]] = False
    return NextItem(train, valid, test)


def global_trial(
    interactions: Interactions,
    cut_at: int,
    until_at: int | None = None,
    *,
    min_weight: float = 0.0,
    segment: I32 | None = None,
    protocol: str = "global",
) -> Trial:
    """One question per person at `cut_at`: what new items will they take until `until_at` (default: the end)?

    Relevant: distinct items of later events with weight > `min_weight` that the person had no event with before.
    History: all of the person's earlier events; the same items are excluded. People without a relevant item are not
    asked. segment: by user row, for `Queries.segment`.
    """
    before = interactions.before(cut_at)
    after = interactions.since(cut_at)
    if until_at is not None:
        after = after.before(until_at)
    n_items = max(interactions.n_items, 1)
    wanted = after.weight > min_weight
    pairs = np.unique(after.user[wanted].astype(np.int64) * n_items + after.item[wanted])
    asked = np.zeros(interactions.n_users, np.bool_)
    asked[pairs // n_items] = True
    known = before.take(asked[before.user])
    pairs = pairs[~np.isin(pairs, known.user.astype(np.int64) * n_items + known.item)]
    user, counts = np.unique(pairs // n_items, return_counts=True)
    relevant = Ragged(_indptr(counts), (pairs % n_items).astype(np.int32))
    now = np.full(len(user), cut_at, np.int64)
    queries = _queries(before, user, np.full(len(user), len(before)), now, segment)
    return Trial(protocol, queries, relevant, user.astype(np.int32))


def next_item_trial(
    interactions: Interactions,
    asked: I64,
    *,
    exclude_history: bool = True,
    segment: I32 | None = None,
    protocol: str = "next_item",
) -> Trial:
    """One question per person: the item of event `asked[user]` (from `leave_one_out`; -1: not asked).

    History: all of the person's events that come before it in the order of the log; with `exclude_history` (the seen
    items masked) they are never to be returned.
    """
    user = np.flatnonzero(asked >= 0)
    event = asked[user]
    relevant = Ragged(np.arange(len(user) + 1, dtype=np.int64), interactions.item[event].astype(np.int32))
    queries = _queries(interactions, user, event, interactions.at[event], segment, exclude_history)
    return Trial(protocol, queries, relevant, user.astype(np.int32))


def _queries(
    events: Interactions, user: I64, until: I64, now: I64, segment: I32 | None, exclude_history: bool = True
) -> Queries:
    """Histories of `user` (ascending): their events with an index below `until`, oldest first."""
    limit = np.zeros(events.n_users, np.int64)
    limit[user] = until
    index = np.flatnonzero(np.arange(len(events)) < limit[events.user])
    index = index[np.argsort(events.user[index], kind="stable")]
    indptr = _indptr(np.bincount(events.user[index], minlength=events.n_users)[user])
    exclude = Ragged.empty(len(user))
    if exclude_history:
        n_items = max(events.n_items, 1)
        pairs = np.unique(events.user[index].astype(np.int64) * n_items + events.item[index])
        counts = np.bincount(pairs // n_items, minlength=events.n_users)[user]
        exclude = Ragged(_indptr(counts), (pairs % n_items).astype(np.int32))
    return Queries(
        indptr,
        events.item[index],
        events.weight[index],
        events.at[index],
        now,
        np.full(len(user), -1, np.int32) if segment is None else segment[user].astype(np.int32),
        exclude,
    )


def _indptr(counts: I64) -> I64:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(counts, dtype=np.int64)])
