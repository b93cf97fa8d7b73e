"""Events in memory with the facts of their moments: those that are kept, and those that wait to become due."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from honeyguide.contracts import I64
from honeyguide.kernels import windows as w

__all__ = ["GONE", "Held", "Kept", "Waiting", "columns", "disown", "merge", "room"]

GONE = np.dtype([("due", "i8"), ("seq", "i8"), ("id", "i8"), ("user", "i8")])
"""An event to be taken back once `due` is past: a person's, by the code of its id."""


@dataclass(frozen=True, slots=True)
class Held:
    """Events with the facts of their moments, a column of `context` per key that features ask for."""

    events: npt.NDArray[Any]  # (n,) of `kernels.windows.EVENT`
    context: I64  # (n, keys)

    def __len__(self) -> int:
        return len(self.events)

    def take(self, which: Any) -> Held:
        """The chosen events, copied."""
        return Held(self.events[which].copy(), self.context[which].copy())

    @classmethod
    def none(cls, keys: int, n: int = 0) -> Held:
        """Room for `n` events, untouched."""
        return cls(np.zeros(n, w.EVENT), np.zeros((n, keys), np.int64))

    @classmethod
    def joined(cls, parts: list[Held]) -> Held:
        """One after the other."""
        if len(parts) == 1:
            return parts[0]
        return cls(np.concatenate([p.events for p in parts]), np.concatenate([p.context for p in parts]))


@dataclass(slots=True)
class Waiting:
    """Events that are not due yet, and events that are to be taken back."""

    held: Held
    due: I64  # when each becomes known
    seq: I64  # in which order they came
    gone: npt.NDArray[Any]  # of GONE

    ARRAYS = ("due", "seq", "gone")

    @classmethod
    def of(cls, held: Held, due: I64, seq: int = 0, corrects: I64 | None = None) -> Waiting:
        """Events that came together; those that correct another one (by the code of its id) take its place away."""
        order = seq + np.arange(len(due), dtype=np.int64) if seq else np.zeros(len(due), np.int64)
        correcting = np.flatnonzero(corrects) if corrects is not None else np.zeros(0, np.int64)
        gone = np.zeros(len(correcting), GONE)
        if corrects is not None:
            gone["due"], gone["seq"] = due[correcting], order[correcting]
            gone["id"], gone["user"] = corrects[correcting], held.events["user"][correcting]
        return cls(held, due, order, gone)

    @classmethod
    def none(cls, keys: int) -> Waiting:
        """Nothing."""
        return cls.of(Held.none(keys), np.zeros(0, np.int64))

    @classmethod
    def joined(cls, parts: list[Waiting]) -> Waiting:
        """All that waits."""
        if len(parts) == 1:
            return parts[0]
        return cls(
            Held.joined([one.held for one in parts]),
            *(np.concatenate([getattr(one, name) for one in parts]) for name in cls.ARRAYS),
        )

    def save(self) -> dict[str, npt.NDArray[Any]]:
        """Its arrays by name. Whatever comes later than a saved state came after it."""
        held = {"waiting": self.held.events, "waiting_context": self.held.context}
        return held | {"waiting_due": self.due, "waiting_seq": np.zeros_like(self.seq), "waiting_gone": self.gone}

    @classmethod
    def load(cls, arrays: Mapping[str, Any]) -> Waiting:
        """What `save` gave."""
        held = Held(arrays["waiting"].view(w.EVENT), arrays["waiting_context"])
        return cls(held, *(arrays[f"waiting_{name}"] for name in cls.ARRAYS))

    def first(self) -> int:
        """When the next one is due."""
        return min(int(self.due.min(initial=w.NEVER)), int(self.gone["due"].min(initial=w.NEVER)))

    def without(self, user: int) -> Waiting:
        """What others wait for."""
        others = self.held.events["user"] != user
        return Waiting(self.held.take(others), self.due[others], self.seq[others], self.gone[self.gone["user"] != user])

    def split(self, now_us: int) -> tuple[Held, npt.NDArray[Any], Waiting]:
        """What is due: events in order of (happened, known), and those to be taken back; and what waits on.

        A version that is replaced before anybody could see it does not become due at all.
        """
        due, gone = self.due < now_us, self.gone["due"] < now_us
        if len(due) == 1 and due[0] and not len(gone):
            return self.held, self.gone, Waiting.none(self.held.context.shape[1])
        later = Waiting(self.held.take(~due), self.due[~due], self.seq[~due], self.gone[~gone])
        batch, known, seq, leaving = self.held.take(due), self.due[due], self.seq[due], self.gone[gone]
        if len(leaving):
            ends: dict[tuple[int, int], list[tuple[int, int]]] = {}
            for one in leaving:
                ends.setdefault((int(one["user"]), int(one["id"])), []).append((int(one["due"]), int(one["seq"])))
            names = zip(batch.events["user"].tolist(), batch.events["id"].tolist(), strict=True)
            since = zip(known.tolist(), seq.tolist(), strict=True)
            stays = [max(ends.get(name, [(0, 0)])) <= came for name, came in zip(names, since, strict=True)]
            chosen = np.array(stays, np.bool_)
            batch, known = batch.take(chosen), known[chosen]
        return batch.take(np.lexsort((known, batch.events["at"]))), leaving, later


@dataclass(slots=True)
class Kept:
    """What a build writes beside the groups. Opened as copy-on-write memory maps: workers share untouched pages."""

    base: Held  # the events that a window still holds, in order of time
    base_left: I64  # (windows,) so many of them have left each window
    past: Held  # all events, by person, then in order of time; those of nobody last
    past_begin: I64  # (people,)
    past_end: I64  # (people,)

    @classmethod
    def of(cls, events: Held, n_users: int, starts: I64, clock_us: int) -> Kept:
        """From all events that count at the clock, in order of time; windows begin at `starts`."""
        first = int(np.searchsorted(events.events["at"], starts.min(initial=clock_us)))
        base = events.take(slice(first, None))
        owner = np.where(events.events["user"] < 0, n_users, events.events["user"]).astype(np.int32)
        indptr, order = w.counting_order(owner, np.arange(len(events), dtype=np.int64), n_users + 1)
        left = np.searchsorted(base.events["at"], starts).astype(np.int64)
        return cls(base, left, events.take(order), indptr[:n_users].copy(), indptr[1 : n_users + 1].copy())

    def after(self, later: Held, n_users: int, starts: I64, clock_us: int) -> Kept:
        """The same with events that came later; what was taken back is left out."""
        events = Held.joined([self.past, later])
        events = events.take((events.events["user"] >= 0) | (events.events["item"] >= 0))
        events = events.take(np.argsort(events.events["at"], kind="stable"))
        events.events["prev"] = -1
        return Kept.of(events, n_users, starts, clock_us)

    def save(self) -> dict[str, npt.NDArray[Any]]:
        """Its arrays by name."""
        return {
            "base": self.base.events, "base_context": self.base.context, "base_left": self.base_left,
            "past": self.past.events, "past_context": self.past.context, "past_begin": self.past_begin,
            "past_end": self.past_end,
        }  # fmt: skip

    @classmethod
    def load(cls, arrays: Mapping[str, Any]) -> Kept:
        """What `save` gave."""
        base, past = (Held(arrays[name].view(w.EVENT), arrays[f"{name}_context"]) for name in ("base", "past"))
        return cls(base, arrays["base_left"], past, arrays["past_begin"], arrays["past_end"])


def columns(context: Mapping[str, I64], keys: tuple[str, ...], n: int) -> I64:
    """Facts of `n` moments as columns, 0 where none is told."""
    facts = np.zeros((n, len(keys)), np.int64)
    for column, name in enumerate(keys):
        if name in context:
            facts[:, column] = context[name]
    return facts


def disown(held: Held, places: I64) -> None:
    """Make events nobody's; their times keep a queue in order, and their chain whole."""
    for name, nothing in (("user", -1), ("item", -1), ("value", 0.0), ("weight", 0.0), ("action", -1), ("id", 0)):
        column = held.events[name]
        column[places] = nothing
    held.context[places] = 0


def merge(queue: Held, n: int, batch: Held) -> None:
    """Put a batch (in order of time) into the first `n` of a queue in order of time; there must be room."""
    first = int(np.searchsorted(queue.events["at"][:n], batch.events["at"][0], side="right"))
    both = batch
    if first < n:  # late events find their places
        both = Held.joined([queue.take(slice(first, n)), batch])
        both = both.take(np.argsort(both.events["at"], kind="stable"))
    tail = slice(first, n + len(batch))
    queue.events[tail], queue.context[tail] = both.events, both.context


def room(held: Held, used: int, more: int, left: I64 | None) -> tuple[Held, int]:
    """The buffer with room for `more` events; the head that every window has left is dropped on the way."""
    if used + more <= len(held):
        return held, used
    dead = 0 if left is None else int(left.min(initial=used))
    if left is not None:
        left -= dead
    grown = Held.none(held.context.shape[1], max(len(held), 2 * (used - dead + more)))
    grown.events[: used - dead] = held.events[dead:used]
    grown.context[: used - dead] = held.context[dead:used]
    return grown, used - dead
