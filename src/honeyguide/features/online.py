"""The same features, kept up to date event by event and read for one request.

Cells (integers, `kernels.windows`) of every person, item and of everybody are kept as of the state's clock. An event is
queued, and enters the cells when the clock passes it; it leaves a window's cells when the window's far edge does. So
reading is a gather. The queue holds the events of the longest window in order of time instead of a ring of buckets per
entity: it gives the same values, is as large as the events and not as entities x buckets, and serves people as well as
items.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from honeyguide.contracts import F32, I16, I32, I64, CatalogView, Interactions
from honeyguide.errors import BuildError, DataError
from honeyguide.features.asof import EventStream, event_array
from honeyguide.features.definition import FeatureSet
from honeyguide.features.plan import CellPlan, ItemFacts, Plan
from honeyguide.kernels import affinity
from honeyguide.kernels import windows as w

__all__ = ["History", "OnlineState"]

_VERSION = 1
_SPARE = 1024
_ARRAYS = ("users", "items", "everybody", "base", "base_left", "past", "past_begin", "past_end", "pending")


class History(NamedTuple):
    """A person's newest events, oldest first."""

    items: I32
    weights: F32
    values: F32
    actions: I16
    at: I64


@dataclass(slots=True)
class _Arrays:
    """What a build writes. Opened as copy-on-write memory maps: workers share the pages that none has touched."""

    users: I64  # (people + spare, cells); the last row stays empty: somebody nobody knows
    items: I64  # (items + spare, cells); the last row stays empty
    everybody: I64  # (1, cells)
    base: npt.NDArray[Any]  # the events that a window still holds, in order of time
    base_left: I64  # (windows,) so many of them have left each window
    past: npt.NDArray[Any]  # all events, by person, then in order of time
    past_begin: I64  # (people,)
    past_end: I64  # (people,)
    pending: npt.NDArray[Any]  # events that are not due at the clock


class OnlineState:
    """Online features of one process. All methods may be called from several threads.

    The clock never runs backwards: `read`, `history` and `advance` at an earlier moment answer as of the clock. Equal
    to `training_set` for every stream applied before it is read; an event that comes late (before the clock) counts
    from the next read on, in every window that still holds it.
    Memory: 8 bytes a cell and entity, 32 an event of the longest window, 32 an event of all time, most of it mapped.
    """

    def __init__(self, plan: Plan, catalog: CatalogView, arrays: _Arrays, clock_us: int) -> None:
        self._plan, self._arrays, self._clock = plan, arrays, clock_us
        self._lock = threading.RLock()
        self._pending: list[npt.NDArray[Any]] = [arrays.pending] if len(arrays.pending) else []
        self._due = int(arrays.pending["at"].min(initial=2**63 - 1))
        self._next_start = plan.next_start(clock_us)
        self._queue, self._n_queue = np.zeros(_SPARE, w.EVENT), 0
        self._queue_left = np.zeros(len(plan.windows), np.int64)
        self._pool, self._n_pool = np.zeros(_SPARE, w.EVENT), 0
        self._head = np.full(len(arrays.users), -1, np.int32)
        self._formulas = (*plan.formulas("user"), *plan.formulas("item"))
        self._targets = np.arange(_SPARE)
        self._facts = ItemFacts.of(catalog, plan.features)

    # ------------------------------------------------------------------------------------------ build and keep

    @classmethod
    def build(
        cls, features: FeatureSet, interactions: Interactions, catalog: CatalogView, *, at_us: int | None = None
    ) -> OnlineState:
        """From all events, with the clock at `at_us` (default: just after the last event)."""
        plan, stream = Plan.of(features, interactions.actions), EventStream(interactions)
        events = stream.events
        clock = (int(events["at"][-1]) + 1 if len(events) else 0) if at_us is None else at_us
        due = events[: np.searchsorted(events["at"], clock)]
        starts = plan.starts(clock)
        n_users, n_items = interactions.n_users, max(interactions.n_items, len(catalog))
        held = due[np.searchsorted(due["at"], starts.min(initial=clock)) :]
        indptr, order = w.counting_order(
            np.ascontiguousarray(due["user"]), np.arange(len(due), dtype=np.int64), n_users
        )
        users, items = plan.user.empty(n_users + _spare(n_users)), plan.item.empty(n_items + _spare(n_items))
        arrays = _Arrays(
            users, items, plan.everybody.empty(1),
            held.copy(), np.searchsorted(held["at"], starts).astype(np.int64),
            due[order], indptr[:-1].copy(), indptr[1:].copy(), events[len(due) :].copy(),
        )  # fmt: skip
        w.fold_events(due.copy(), 1, -1, starts, *_tables(plan, arrays))
        return cls(plan, catalog, arrays, clock)

    def save(self, folder: Path) -> None:
        """Write the state as of its clock into an existing folder: one file per array and `state.json`."""
        with self._lock:
            now = self._merged()
            for name in _ARRAYS:
                np.save(folder / f"{name}.npy", getattr(now, name), allow_pickle=False)
            state = {
                "version": _VERSION,
                "clock_us": self._clock,
                "actions": self._plan.actions,
                "features": self._plan.features.to_config(),
            }
            (folder / "state.json").write_text(json.dumps(state, indent=1))

    @classmethod
    def open(cls, folder: Path, catalog: CatalogView) -> OnlineState:
        """Map what `save` wrote. What changes is copied page by page into this process and never written back.

        Raises BuildError if the folder holds no state or one of another version.
        """
        try:
            state = json.loads((folder / "state.json").read_text())
            mapped = {name: np.load(folder / f"{name}.npy", mmap_mode="c") for name in _ARRAYS}
        except (OSError, ValueError) as error:
            raise BuildError(
                expected=f"a saved feature state in {folder}", got=str(error), do="Run `honeyguide build` again."
            ) from error
        if state["version"] != _VERSION:
            raise BuildError(
                expected=f"a feature state of version {_VERSION}",
                got=f"version {state['version']}",
                do="Run `honeyguide build` again.",
            )
        plan = Plan.of(FeatureSet.from_config(state["features"]), tuple(state["actions"]))
        # Kernels are compiled for plain arrays and aligned records; the views keep the map alive. A file does not say
        # that its records are aligned.
        plain = {name: np.asarray(array) for name, array in mapped.items()}
        aligned: dict[str, Any] = {name: a.view(w.EVENT) if a.dtype.names else a for name, a in plain.items()}
        return cls(plan, catalog, _Arrays(**aligned), state["clock_us"])

    @property
    def features(self) -> FeatureSet:
        """The definitions: `read` writes their columns in this order."""
        return self._plan.features

    @property
    def actions(self) -> tuple[str, ...]:
        """What the action codes of `apply` mean; -1 is any other action."""
        return self._plan.actions

    @property
    def clock_us(self) -> int:
        """The state is as of just before this moment."""
        return self._clock

    def ensure(self, n_users: int, n_items: int) -> None:
        """Make room for so many people and items; a table that has no spare row left is copied with a tenth more."""
        with self._lock:
            a = self._arrays
            if n_users >= len(a.users):  # the last row stays empty
                more = n_users + _spare(n_users) - len(a.users)
                a.users = np.concatenate([a.users, self._plan.user.empty(more)])
                self._head = np.concatenate([self._head, np.full(more, -1, np.int32)])
            if n_items >= len(a.items):
                more = n_items + _spare(n_items) - len(a.items)
                a.items = np.concatenate([a.items, self._plan.item.empty(more)])

    def use_catalog(self, catalog: CatalogView) -> None:
        """Read facts of items from another view of the catalog from now on."""
        facts = ItemFacts.of(catalog, self._plan.features)
        with self._lock:
            self._facts = facts

    # ------------------------------------------------------------------------------------------ events

    def apply(self, user: int, item: int, action: int, value: float, weight: float, at_us: int) -> None:
        """One event by rows (-1: nobody, nothing) and action code. Seen by reads after `at_us`."""
        event = np.array([(at_us, user, item, value, weight, -1, action)], w.EVENT)
        with self._lock:
            self._take(event, user, item, at_us)

    def apply_many(self, user: I32, item: I32, action: I16, value: F32, weight: F32, at_us: I64) -> None:
        """Many events, in any order; those of one microsecond keep theirs."""
        if len(at_us) == 0:
            return
        events = event_array(user, item, action, value, weight, at_us)
        with self._lock:
            self._take(events, int(np.max(user)), int(np.max(item)), int(np.min(at_us)))

    def _take(self, events: npt.NDArray[Any], user: int, item: int, first_us: int) -> None:
        self.ensure(user + 1, item + 1)
        self._pending.append(events)
        self._due = min(self._due, first_us)

    def advance(self, now_us: int) -> None:
        """Move the clock: events before `now_us` enter, windows move on. `read` and `history` do this by themselves."""
        with self._lock:
            self._advance(now_us)

    def _advance(self, now_us: int) -> None:
        now_us = max(int(now_us), self._clock)
        self._clock = now_us
        if self._due >= now_us and self._next_start > now_us:
            return
        batch = np.zeros(0, w.EVENT)
        if self._due < now_us:
            waiting = np.concatenate(self._pending)
            due = waiting["at"] < now_us
            later = waiting[~due]
            batch = waiting[due]
            batch = batch[np.argsort(batch["at"], kind="stable")]
            self._pending = [later] if len(later) else []
            self._due = int(later["at"].min(initial=2**63 - 1))
        a, plan, windowed = self._arrays, self._plan, len(self._plan.windows) > 0
        if windowed:
            self._queue, self._n_queue = _room(self._queue, self._n_queue, len(batch), self._queue_left)
        self._pool, _ = _room(self._pool, self._n_pool, len(batch), None)
        starts = plan.starts(now_us)
        self._next_start = plan.next_start(now_us)
        queue = self._queue if windowed else np.zeros(len(batch), w.EVENT)
        w.advance(
            batch, starts, a.base, a.base_left, queue, self._n_queue, self._queue_left,
            self._pool, self._n_pool, self._head, *_tables(plan, a),
        )  # fmt: skip
        self._n_queue += len(batch) if windowed else 0
        self._n_pool += int(np.count_nonzero(batch["user"] >= 0))

    # ------------------------------------------------------------------------------------------ reading

    def history(self, user: int, limit: int, now_us: int) -> History:
        """The person's newest `limit` events strictly before `now_us`, oldest first. Empty for -1 or a new person."""
        with self._lock:
            self._advance(now_us)
            a = self._arrays
            known = 0 <= user < len(a.past_begin)
            begin, end = (int(a.past_begin[user]), int(a.past_end[user])) if known else (0, 0)
            place = int(self._head[user]) if 0 <= user < len(self._head) else -1
            columns = History(
                np.empty(limit, np.int32), np.empty(limit, np.float32), np.empty(limit, np.float32),
                np.empty(limit, np.int16), np.empty(limit, np.int64),
            )  # fmt: skip
            n = w.newest(limit, a.past, begin, end, self._pool, place, *columns)
        first, c = limit - n, columns
        return History(c.items[first:], c.weights[first:], c.values[first:], c.actions[first:], c.at[first:])

    def read(
        self, user: int, items: I32, now_us: int, h_items: I32, h_weights: F32, h_at: I64, out: F32 | None = None
    ) -> F32:
        """All features of `n` candidates (-1 pads, and gives nan) for one person (-1 unknown) at `now_us`.

        h_items, h_weights, h_at: the history or seeds, oldest first; at least `features.history_limit` newest events,
        or all. Writes into `out` (n, features) float32 if given, and returns it. DataError if the arrays do not fit
        together.
        """
        n, width = len(items), len(self._plan.features)
        if out is None:
            out = np.empty((n, width), np.float32)
        if out.shape != (n, width) or out.dtype != np.float32 or not out.flags.c_contiguous:
            raise DataError(
                expected=f"`out` as a C-ordered float32 array of {(n, width)}",
                got=f"{out.dtype} of {out.shape}",
                do="Leave `out` away, or take its shape from the candidates and `len(features)`.",
            )
        if not len(h_items) == len(h_weights) == len(h_at):
            raise DataError(
                expected="a history of three arrays of one length",
                got=f"{len(h_items)}, {len(h_weights)} and {len(h_at)}",
                do="Pass the arrays of one `history` call.",
            )
        if n == 0:
            return out
        items, h_items = _plain(items, np.int32), _plain(h_items, np.int32)
        h_weights, h_at = _plain(h_weights, np.float32), _plain(h_at, np.int64)
        with self._lock:
            self._advance(now_us)
            if n > len(self._targets):
                self._targets = np.arange(2 * n)
            a, facts = self._arrays, self._facts
            user_i, user_f, item_i, item_f = self._formulas
            affinity.read_request(
                int(user), items, self._clock, h_items, h_weights, h_at,
                a.users, user_i, user_f, a.items, item_i, item_f, a.everybody, *facts.arrays, *self._plan.pair.arrays,
                facts.scratch, self._targets, out,
            )  # fmt: skip
        return out

    # ------------------------------------------------------------------------------------------ erasing

    def erase(self, user: int) -> int:
        """Forget a person: their events leave every cell, queue and history; returns how many events went.

        The time of an item's first and last event, which names nobody, stays until the next build. Memory maps are not
        written back: a saved state forgets when it is saved again.
        """
        with self._lock:
            waiting = sum(int(np.count_nonzero(events["user"] == user)) for events in self._pending)
            self._pending = [events[events["user"] != user] for events in self._pending]
            a, plan = self._arrays, self._plan
            if not 0 <= user < len(a.users):
                return waiting
            gone = [np.zeros(0, w.EVENT)]
            nobody = np.array((0, -1, -1, 0.0, 0.0, -1, -1), w.EVENT)
            if user < len(a.past_begin):
                own = slice(a.past_begin[user], a.past_end[user])
                gone.append(a.past[own].copy())
                a.past[own] = nobody
                a.past_end[user] = a.past_begin[user]
            place = int(self._head[user])
            while place >= 0:
                gone.append(self._pool[place : place + 1].copy())
                forgotten, place = place, int(self._pool[place]["prev"])
                self._pool[forgotten] = nobody
            self._head[user] = -1
            events = np.concatenate(gone)
            w.fold_events(events, -1, -1, plan.starts(self._clock), *_tables(plan, a))
            a.users[user] = plan.user.empty(1)[0]
            for queue in (a.base, self._queue[: self._n_queue]):
                mine = queue["user"] == user
                for name in ("user", "item", "value", "weight", "action"):  # the time keeps the queue in order
                    queue[name][mine] = nobody[name]
            return waiting + len(events)

    def _merged(self) -> _Arrays:
        # The state with what came since the build folded into the arrays that a build writes.
        a, plan = self._arrays, self._plan
        held = np.concatenate([a.base, self._queue[: self._n_queue]])
        held = held[np.argsort(held["at"], kind="stable")]
        starts = plan.starts(self._clock)
        held = held[np.searchsorted(held["at"], starts.min(initial=self._clock)) :]
        marks = np.zeros(len(a.past) + 1, np.int64)
        np.add.at(marks, a.past_begin, 1)
        np.add.at(marks, a.past_end, -1)
        n_users = len(a.users) - 1
        kept = np.flatnonzero(np.cumsum(marks)[:-1] > 0)
        live = self._pool[: self._n_pool]
        past = np.concatenate([a.past[kept], live[live["user"] >= 0]])
        owner = past["user"].astype(np.int64)
        past = past[np.lexsort((past["at"], owner))]
        counts = np.bincount(owner, minlength=n_users)
        end = np.cumsum(counts)
        pending = np.concatenate([np.zeros(0, w.EVENT), *self._pending])
        return _Arrays(
            a.users, a.items, a.everybody, held, np.searchsorted(held["at"], starts).astype(np.int64),
            past, end - counts, end, pending,
        )  # fmt: skip


def _spare(n: int) -> int:
    return max(_SPARE, n // 10)


def _plain(array: npt.NDArray[Any], dtype: type[np.generic]) -> npt.NDArray[Any]:
    # A kernel compiled once takes one layout: another one, or a read-only view, would compile it again in a request.
    flags = array.flags
    return array if array.dtype == dtype and flags.c_contiguous and flags.writeable else np.array(array, dtype)


def _tables(plan: Plan, a: _Arrays) -> Sequence[Any]:
    def of(cells: CellPlan, table: I64) -> tuple[Any, ...]:
        return table, cells.span, cells.cell_i, cells.cell_f

    return (*of(plan.user, a.users), *of(plan.item, a.items), *of(plan.everybody, a.everybody))


def _room(events: npt.NDArray[Any], used: int, more: int, left: I64 | None) -> tuple[npt.NDArray[Any], int]:
    """The buffer with room for `more` events; the head that every window has left is dropped on the way."""
    if used + more <= len(events):
        return events, used
    dead = 0 if left is None else int(left.min(initial=used))
    if left is not None:
        left -= dead
    grown = np.zeros(max(len(events), 2 * (used - dead + more)), w.EVENT)
    grown[: used - dead] = events[dead:used]
    return grown, used - dead
