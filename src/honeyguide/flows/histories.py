"""Events as people's histories: who had done what at a moment, as `Queries` for the sources and features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from honeyguide.contracts import I32, I64, BoolArray, Interactions, Queries, Ragged

__all__ = ["Moments", "Timelines"]


@dataclass(frozen=True, slots=True)
class Moments:
    """Moments at which somebody asks: `position` events of the person's timeline lie before it."""

    user: I32
    position: I64  # how many of the person's own events come before the moment
    at: I64

    def __len__(self) -> int:
        return len(self.user)

    def take(self, which: BoolArray | I64) -> Moments:
        """The chosen moments."""
        return Moments(self.user[which], self.position[which], self.at[which])


def _ragged_ranges(starts: I64, lengths: I64) -> tuple[I64, I64]:
    """Row pointers, and the flat indexes start .. start + length of every row, end to end."""
    indptr = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=indptr[1:])
    flat = np.arange(indptr[-1], dtype=np.int64) + np.repeat(starts - indptr[:-1], lengths)
    return indptr, flat


class Timelines:
    """Interactions grouped by person, each person's events in time order (ties keep the file's order)."""

    def __init__(self, interactions: Interactions) -> None:
        self.interactions = interactions
        self.order = np.argsort(interactions.user, kind="stable")  # event index, by person then time
        counts = np.bincount(interactions.user, minlength=interactions.n_users)
        self.indptr = np.zeros(interactions.n_users + 1, np.int64)
        np.cumsum(counts, out=self.indptr[1:])

    @property
    def lengths(self) -> I64:
        """Events per person."""
        return np.diff(self.indptr)

    def moments_of(self, events: I64) -> Moments:
        """The moments just before given events (by their index in the interactions)."""
        place = np.empty(len(self.order), np.int64)
        place[self.order] = np.arange(len(self.order))
        user = self.interactions.user[events]
        return Moments(user, place[events] - self.indptr[user], self.interactions.at[events])

    def queries(self, moments: Moments, segments: I32, *, history: int, had: BoolArray) -> Queries:
        """What each person had done before the moment: the newest `history` events.

        Excluded is what the person has had by then: items of events whose action code `had` marks.
        """
        starts = self.indptr[moments.user]
        kept = np.minimum(moments.position, history)
        indptr, flat = _ragged_ranges(starts + moments.position - kept, kept)
        events = self.order[flat]
        return Queries(
            indptr=indptr,
            items=self.interactions.item[events],
            weights=self.interactions.weight[events],
            at=self.interactions.at[events],
            now=moments.at,
            segment=segments[moments.user],
            exclude=self._had(moments, had) if had.any() else Ragged.empty(len(moments)),
        )

    def _had(self, moments: Moments, had: BoolArray) -> Ragged:
        indptr, flat = _ragged_ranges(self.indptr[moments.user], moments.position)
        before = self.order[flat]
        counts = had[self.interactions.action[before]]
        until = np.zeros(len(before) + 1, np.int64)
        np.cumsum(counts, out=until[1:])
        return Ragged(until[indptr], self.interactions.item[before[counts]])

    def within(self, moments: Moments, span_us: int) -> I64:
        """How many events of each person follow the moment within a span (the one at the moment included)."""
        at = self.interactions.at[self.order]
        # One sorted key over all people: the person, then the time since the first event of all.
        first = int(self.interactions.at[0]) if len(at) else 0
        wide = (int(self.interactions.at[-1]) - first + 2) if len(at) else 1
        key = np.repeat(np.arange(len(self.lengths)), self.lengths) * wide + (at - first)
        last = np.minimum(moments.at + span_us - first, wide - 1)
        end = np.searchsorted(key, moments.user.astype(np.int64) * wide + last, side="left")
        return np.maximum(end - self.indptr[moments.user] - moments.position, 0).astype(np.int64)

    def upcoming(self, moments: Moments, horizon: int | I64) -> tuple[Ragged, I64]:
        """The next `horizon` events of each person after the moment: their items, and the events beside them."""
        starts = self.indptr[moments.user] + moments.position
        lengths = np.minimum(horizon, self.indptr[moments.user + 1] - starts)
        indptr, flat = _ragged_ranges(starts, np.maximum(lengths, 0))
        events = self.order[flat]
        return Ragged(indptr, self.interactions.item[events]), events
