"""The same features, kept up to date event by event and read for one request.

Cells (`kernels.aggregates`) of every person, item, pair and of everybody are kept as of the state's clock. An event is
queued, and enters the cells when the clock passes the moment it was known; it leaves a window's cells when the window's
far edge does. So reading is a gather. The queue holds the events of the longest window in order of time instead of a
ring of buckets per entity: it gives the same values, is as large as the events and not as entities x buckets, and
serves people as well as items.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from honeyguide.contracts import F32, I16, I32, I64, CatalogView, Interactions
from honeyguide.errors import BuildError, DataError
from honeyguide.features.asof import EventStream, event_array
from honeyguide.features.definition import FeatureSet
from honeyguide.features.groups import EVERYBODY, Group
from honeyguide.features.held import GONE, Held, Kept, Waiting, columns, disown, merge, room
from honeyguide.features.keys import numbers
from honeyguide.features.plan import ITEM, USER, CellPlan, Codes, ItemFacts, Plan
from honeyguide.kernels import affinity, embedding, lasting
from honeyguide.kernels import aggregates as g
from honeyguide.kernels import windows as w
from honeyguide.kernels.hashtable import EMPTY

__all__ = ["History", "OnlineState"]

_VERSION = 2
_SPARE = 1024
_CHUNK = 500_000  # events of a build that are folded at once
_NEVER = w.NEVER
_NO_FORMULAS = np.zeros((0, 8), np.int64), np.zeros((0, 4))


class History(NamedTuple):
    """A person's newest events, oldest first."""

    items: I32
    weights: F32
    values: F32
    actions: I16
    at: I64


class OnlineState:
    """Online features of one process. All methods may be called from several threads.

    The clock never runs backwards: `read`, `history` and `advance` at an earlier moment answer as of the clock. Equal
    to `training_set` for every stream applied before it is read; an event that comes late (before the clock) counts
    from the next read on, in every window that still holds it.
    An event costs the same however many came before it. Taking one back costs that too, and a pass over the events
    where a feature asks for the newest or a decayed sum of something else than a person's events.
    Memory: 8 bytes a slot and entity, 40 an event of the longest window and 40 an event of all time (and 8 more for
    each fact of the context that features ask for), most of it mapped.
    """

    def __init__(
        self, plan: Plan, catalog: CatalogView, codes: Codes, groups: list[Group], kept: Kept, waiting: Waiting,
        clock_us: int,
    ) -> None:  # fmt: skip
        self._plan, self._codes, self._kept, self._clock = plan, codes, kept, clock_us
        self._groups, self._keys = groups, plan.features.context_keys
        self._users, self._items, self._everybody = groups[0], groups[1], groups[-1]
        self._longer = [
            group for at, group in enumerate(groups[:-1])
            if len(plan.formulas(group.key)[0]) and (at > 1 or not plan.plain(group.key))
        ]  # fmt: skip
        self._lock = threading.RLock()
        self._waiting = [waiting]
        self._due, self._seq = waiting.first(), 1
        self._next_start = plan.next_start(clock_us)
        self._queue, self._n_queue = Held.none(len(self._keys), _SPARE), 0
        self._queue_left = np.zeros(len(plan.windows), np.int64)
        self._pool, self._n_pool = Held.none(len(self._keys), _SPARE), 0
        self._head = np.full(len(self._users.table), -1, np.int32)
        self._targets = np.arange(_SPARE)
        self._facts = ItemFacts.of(catalog, plan.features)

    # ------------------------------------------------------------------------------------------ build and keep

    @classmethod
    def build(
        cls, features: FeatureSet, interactions: Interactions, catalog: CatalogView, *, at_us: int | None = None
    ) -> OnlineState:
        """From all events, with the clock at `at_us` (default: just after the last event became known)."""
        plan, stream = Plan.of(features, interactions.actions), EventStream(interactions)
        keys, codes = features.context_keys, Codes.of(catalog, features)
        known = stream.known if len(stream.known) else stream.at
        until = stream.until if len(stream.until) else np.full(len(stream), _NEVER)
        last = max(int(known.max(initial=-1)), int(until[until < _NEVER].max(initial=-1)))
        clock = last + 1 if at_us is None else at_us
        all_events = Held(
            event_array(
                stream.user, stream.item, stream.action, stream.value, stream.weight, stream.at,
                stream.event if len(stream.event) else 0,
            ),
            columns(stream.context, keys, len(stream)),
        )  # fmt: skip
        due = all_events.take((known < clock) & (clock <= until))
        later = known >= clock
        ending = (until >= clock) & (until < _NEVER)
        gone = np.zeros(np.count_nonzero(ending), GONE)
        for name, column in (("due", until), ("id", stream.event), ("user", stream.user)):
            gone[name] = column[ending] if len(column) else 0
        waiting = Waiting(all_events.take(later), known[later], np.zeros(np.count_nonzero(later), np.int64), gone)
        starts = plan.starts(clock)
        n_users, n_items = interactions.n_users, max(interactions.n_items, len(catalog))
        kept = Kept.of(due, n_users, starts, clock)
        groups = [Group.new(key, cells, n_users if key == USER else n_items) for key, cells in _groups(plan)]
        for first in range(0, len(due), _CHUNK):
            part = due.take(slice(first, first + _CHUNK))
            for group in groups:
                group.fold(part, keys, codes, g.ADD, starts)
        return cls(plan, catalog, codes, groups, kept, waiting, clock)

    def save(self, folder: Path) -> None:
        """Write the state as of its clock into an existing folder: one file per array and `state.json`."""
        with self._lock:
            later = self._pool.take(slice(0, self._n_pool))
            starts, n_users = self._plan.starts(self._clock), len(self._users.table) - 1
            kept = self._kept.after(later, n_users, starts, self._clock)
            waiting = Waiting.joined([Waiting.none(len(self._keys)), *self._waiting])
            codes: dict[str, npt.NDArray[Any]] = {"code_ptr": self._codes.code_ptr, "codes": self._codes.codes}
            arrays: dict[str, npt.NDArray[Any]] = kept.save() | waiting.save() | codes
            for at, group in enumerate(self._groups):
                arrays |= group.save(f"group{at}")
            for name, array in arrays.items():
                np.save(folder / f"{name}.npy", _tidy(array), allow_pickle=False)
            state = {
                "version": _VERSION,
                "clock_us": self._clock,
                "actions": self._plan.actions,
                "features": self._plan.features.to_config(),
                "arrays": sorted(arrays),
            }
            (folder / "state.json").write_text(json.dumps(state, indent=1))

    @classmethod
    def open(cls, folder: Path, catalog: CatalogView) -> OnlineState:
        """Map what `save` wrote. What changes is copied page by page into this process and never written back.

        Raises BuildError if the folder holds no state or one of another version.
        """
        try:
            state = json.loads((folder / "state.json").read_text())
            version = state["version"]
            names = state.get("arrays", ())
            mapped = {name: np.load(folder / f"{name}.npy", mmap_mode="c") for name in names}
        except (OSError, ValueError, KeyError) as error:
            raise BuildError(
                expected=f"a saved feature state in {folder}", got=str(error), do="Run `honeyguide build` again."
            ) from error
        if version != _VERSION:
            raise BuildError(
                expected=f"a feature state of version {_VERSION}",
                got=f"version {version}",
                do="Run `honeyguide build` again.",
            )
        plan = Plan.of(FeatureSet.from_config(state["features"]), tuple(state["actions"]))
        # Kernels are compiled for plain arrays and aligned records; the views keep the map alive. A file does not say
        # that its records are aligned.
        plain: dict[str, Any] = {name: np.asarray(array) for name, array in mapped.items()}
        kept, waiting = Kept.load(plain), Waiting.load(plain)
        groups = [Group.load(key, cells, plain, f"group{at}") for at, (key, cells) in enumerate(_groups(plan))]
        codes = Codes(plain["code_ptr"], plain["codes"])
        return cls(plan, catalog, codes, groups, kept, waiting, state["clock_us"])

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
        """Make room for so many people and items."""
        with self._lock:
            self._users.ensure(n_users)
            self._items.ensure(n_items)
            more = len(self._users.table) - len(self._head)
            if more:
                self._head = np.concatenate([self._head, np.full(more, -1, np.int32)])

    def use_catalog(self, catalog: CatalogView) -> None:
        """Read facts of items from another view of the catalog from now on.

        What `distinct` counts (categories, people) are those that the build knew, until the next one.
        """
        facts = ItemFacts.of(catalog, self._plan.features)
        with self._lock:
            self._facts = facts

    # ------------------------------------------------------------------------------------------ events

    def apply(
        self, user: int, item: int, action: int, value: float, weight: float, at_us: int, *,
        known_us: int | None = None, event: int = 0, corrects: int = 0, context: Mapping[str, int] | None = None,
    ) -> None:  # fmt: skip
        """One event by rows (-1: nobody, nothing) and action code. Seen by reads after it happened and was known.

        event: the code of its id; corrects: that of the same person's event whose place it takes. context: the facts
        of the moment that the features ask for, as `code64`.
        """
        one = np.array([(at_us, corrects or event, user, item, value, weight, -1, action)], w.EVENT)
        facts = np.array([[(context or {}).get(name, 0) for name in self._keys]], np.int64).reshape(1, len(self._keys))
        due = np.array([max(at_us, at_us if known_us is None else known_us)])
        with self._lock:
            self._take(Held(one, facts), due, np.array([corrects]) if corrects else None)

    def apply_many(
        self, user: I32, item: I32, action: I16, value: F32, weight: F32, at_us: I64, *,
        known_us: I64 | None = None, event: I64 | None = None, corrects: I64 | None = None,
        context: Mapping[str, I64] | None = None,
    ) -> None:  # fmt: skip
        """Many events, in any order; those of one microsecond keep theirs. Arrays as in `apply`."""
        if len(at_us) == 0:
            return
        name = np.zeros(len(at_us), np.int64) if event is None else np.asarray(event, np.int64)
        if corrects is not None:
            name = np.where(corrects != 0, corrects, name)
        due = np.maximum(at_us, at_us if known_us is None else known_us).astype(np.int64)
        events = event_array(user, item, action, value, weight, at_us, name)
        with self._lock:
            self._take(Held(events, columns(context or {}, self._keys, len(due))), due, corrects)

    def retract(self, user: int, event: int, known_us: int) -> None:
        """Take back a person's event by the code of its id, from the moment that it was known to be none."""
        with self._lock:
            nothing = Waiting.none(len(self._keys))
            self._seq += 1
            nothing.gone = np.array([(known_us, self._seq, event, user)], GONE)
            self._wait(nothing)

    def _take(self, held: Held, due: I64, corrects: I64 | None) -> None:
        self.ensure(int(held.events["user"].max()) + 1, int(held.events["item"].max()) + 1)
        waiting = Waiting.of(held, due, self._seq, corrects)
        self._seq += len(due)
        self._wait(waiting)

    def _wait(self, waiting: Waiting) -> None:
        self._waiting.append(waiting)
        self._due = min(self._due, waiting.first())

    def advance(self, now_us: int) -> None:
        """Move the clock: events known before `now_us` enter, windows move on. `read` and `history` do this too."""
        with self._lock:
            self._advance(now_us)

    def _advance(self, now_us: int) -> None:
        now_us = max(int(now_us), self._clock)
        self._clock = now_us
        if self._due >= now_us and self._next_start > now_us:
            return
        starts = self._plan.starts(now_us)
        if self._next_start <= now_us:
            self._leave(self._kept.base, len(self._kept.base), self._kept.base_left, starts)
            self._leave(self._queue, self._n_queue, self._queue_left, starts)
            self._next_start = self._plan.next_start(now_us)
        if self._due < now_us:
            batch, gone, later = Waiting.joined(self._waiting).split(now_us)
            self._due = later.first()
            self._waiting = [later] if self._due < _NEVER else []
            if len(gone):
                self._take_back(gone, starts)
            self._enter(batch, starts)

    def _leave(self, queue: Held, n: int, left: I64, starts: I64) -> None:
        """Take the events that have left each window out of its cells; `left[w]` of the queue are out already."""
        ever, times = np.full(len(starts), g.NONE), queue.events["at"][:n]
        for window, start in enumerate(starts):
            end = int(np.searchsorted(times, start))
            if end > left[window]:
                part = Held(queue.events[left[window] : end], queue.context[left[window] : end])
                for group in self._groups:
                    span = group.cells.span[window]
                    if span[0] < span[1]:
                        group.fold(part, self._keys, self._codes, g.TAKE, ever, (int(span[0]), int(span[1])))
                left[window] = end

    def _enter(self, batch: Held, starts: I64) -> None:
        n = len(batch)
        if not n:
            return
        for group in self._groups:
            group.fold(batch, self._keys, self._codes, g.ADD, starts)
        self._pool, _ = room(self._pool, self._n_pool, n, None)
        w.chain(batch.events, self._pool.events, self._n_pool, self._head)
        self._pool.context[self._n_pool : self._n_pool + n] = batch.context
        self._n_pool += n
        if len(starts):
            self._queue, self._n_queue = room(self._queue, self._n_queue, n, self._queue_left)
            merge(self._queue, self._n_queue, batch)
            self._n_queue += n
            # What is too late for a window was not counted, and will not be taken away.
            self._queue_left += np.searchsorted(batch.events["at"], starts)

    # ------------------------------------------------------------------------------------------ reading

    def history(self, user: int, limit: int, now_us: int) -> History:
        """The person's newest `limit` events strictly before `now_us`, oldest first. Empty for -1 or a new person."""
        with self._lock:
            self._advance(now_us)
            kept = self._kept
            known = 0 <= user < len(kept.past_begin)
            begin, end = (int(kept.past_begin[user]), int(kept.past_end[user])) if known else (0, 0)
            place = int(self._head[user]) if 0 <= user < len(self._head) else -1
            columns = History(
                np.empty(limit, np.int32), np.empty(limit, np.float32), np.empty(limit, np.float32),
                np.empty(limit, np.int16), np.empty(limit, np.int64),
            )  # fmt: skip
            n = w.newest(limit, kept.past.events, begin, end, self._pool.events, place, *columns)
        first, c = limit - n, columns
        return History(c.items[first:], c.weights[first:], c.values[first:], c.actions[first:], c.at[first:])

    def read(
        self, user: int, items: I32, now_us: int, h_items: I32, h_weights: F32, h_at: I64, out: Any = None,
        *, context: Mapping[str, int] | None = None,
    ) -> Any:  # fmt: skip
        """All features of `n` candidates (-1 pads, and gives nan) for one person (-1 unknown) at `now_us`.

        h_items, h_weights, h_at: the history or seeds, oldest first; at least `features.history_limit` newest events,
        or all. context: the facts of the moment that the features ask for (`features.context_keys`), as `code64`.
        Writes into `out` (n, features) float32 or float64 if given, and returns it. DataError if the arrays do not fit
        together.
        """
        n, width = len(items), len(self._plan.features)
        if out is None:
            out = np.empty((n, width), np.float32)
        if out.shape != (n, width) or out.dtype not in (np.float32, np.float64) or not out.flags.c_contiguous:
            raise DataError(
                expected=f"`out` as a C-ordered array of floats, {(n, width)}",
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
            plan, facts, all_of = self._plan, self._facts, self._everybody
            affinity.read_request(
                int(user), items, self._clock, h_items, h_weights, h_at,
                *self._short(self._users), *self._short(self._items), all_of.table, all_of.cells.cell_i,
                *facts.arrays, *plan.pair.arrays, facts.scratch, self._targets, out,
            )  # fmt: skip
            for group in self._longer:
                self._read_longer(group, int(user), items, context or {}, out)
            if len(plan.pair.emb_i):
                one = np.array([self._clock, 0, n, 0, len(h_items)])
                embedding.embedding_rows(
                    one[:1], items, self._targets, one[1:3], h_items, h_weights, h_at, one[3:4], one[4:],
                    facts.vectors, plan.pair.emb_i, plan.pair.emb_f, out,
                )  # fmt: skip
        return out

    def _short(self, group: Group) -> tuple[Any, ...]:
        """A group as the short kernel reads it; nothing of it if that cannot."""
        formulas = self._plan.formulas(group.key) if self._plan.plain(group.key) else _NO_FORMULAS
        return group.table, group.cells.cell_i, *formulas

    def _read_longer(self, group: Group, user: int, items: I32, context: Mapping[str, int], out: Any) -> None:
        everybody = (self._everybody.table, *self._plan.everybody.arrays)
        formulas = self._plan.formulas(group.key)
        nothing = len(group.table) - 1
        if group.key == USER:  # the same for all candidates
            own = np.full((1, out.shape[1]), np.nan, out.dtype)
            row = np.array([user if 0 <= user < nothing else nothing])
            lasting.read_rows(row, self._clock, group.table, *group.cells.arrays, *everybody, *formulas, own)
            columns = formulas[0][:, w.COLUMN]
            out[np.ix_(items >= 0, columns)] = own[0, columns]
            return
        if group.key == ITEM:
            rows = np.where(items < nothing, items, nothing).astype(np.int64)
        else:
            asked = numbers(group.key, user, items, self._clock, context)
            rows = np.where(items < 0, -1, np.maximum(group.rows(asked), 0))
        lasting.read_rows(rows, self._clock, group.table, *group.cells.arrays, *everybody, *formulas, out)

    # ------------------------------------------------------------------------------------------ taking back

    def erase(self, user: int) -> int:
        """Forget a person: their events leave every cell, queue and history; returns how many events went.

        Memory maps are not written back: a saved state forgets when it is saved again.
        """
        with self._lock:
            forgotten = sum(int(np.count_nonzero(one.held.events["user"] == user)) for one in self._waiting)
            self._waiting = [one.without(user) for one in self._waiting]
            if not 0 <= user < len(self._users.table) - 1:
                return forgotten
            gone = self._own(user, None)
            self._remove(gone, self._plan.starts(self._clock))
            if user < len(self._kept.past_begin):
                self._kept.past_end[user] = self._kept.past_begin[user]
            self._head[user] = -1
            return forgotten + len(gone)

    def _take_back(self, gone: npt.NDArray[Any], starts: I64) -> None:
        """Take back what is named; what is named but not there was never here."""
        known = gone[(gone["user"] >= 0) & (gone["user"] < len(self._users.table) - 1)]
        found = [self._own(int(one["user"]), int(one["id"])) for one in known]
        self._remove(Held.joined([Held.none(len(self._keys)), *found]), starts)

    def _own(self, user: int, event: int | None) -> Held:
        """A person's events (or the one by the code of its id), which become nobody's where histories are kept."""
        parts = []
        kept, pool = self._kept, self._pool
        if user < len(kept.past_begin):
            own = np.arange(kept.past_begin[user], kept.past_end[user])
            parts.append((kept.past, own))
        parts.append((pool, np.flatnonzero(pool.events["user"][: self._n_pool] == user)))
        found = []
        for held, places in parts:
            mine = held.events["user"][places] == user
            chosen = places[mine if event is None else mine & (held.events["id"][places] == event)]
            found.append(held.take(chosen))
            disown(held, chosen)
        return Held.joined(found)

    def _remove(self, gone: Held, starts: I64) -> None:
        """Take events out of all cells and queues."""
        if not len(gone):
            return
        touched = [group.fold(gone, self._keys, self._codes, g.TAKE, starts) for group in self._groups]
        for queue, n in ((self._kept.base, len(self._kept.base)), (self._queue, self._n_queue)):
            times = queue.events["at"][:n]
            for one in gone.events:
                first, end = np.searchsorted(times, (one["at"], one["at"] + 1))
                same = queue.events[first:end]
                alike = (same["user"] == one["user"]) & (same["id"] == one["id"]) & (same["item"] == one["item"])
                disown(queue, first + np.flatnonzero(alike & (same["action"] == one["action"])))
        for group, rows in zip(self._groups, touched, strict=True):
            if group.cells.lasting:
                self._refold(group, np.unique(rows[rows >= 0]), starts)

    def _refold(self, group: Group, rows: I64, starts: I64) -> None:
        """Fold the cells that cannot give an event back anew, from all events that are left."""
        group.empty_lasting(rows)
        for held, n in ((self._kept.past, len(self._kept.past)), (self._pool, self._n_pool)):
            for first in range(0, n, _CHUNK):
                part = Held(held.events[first : min(first + _CHUNK, n)], held.context[first : min(first + _CHUNK, n)])
                names = group.names(part, self._keys)
                mine = np.flatnonzero(np.isin(group.rows(names), rows) & (names != EMPTY))
                if len(mine):
                    group.fold(part.take(mine), self._keys, self._codes, g.REFOLD, starts)


def _tidy(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The same with zeros between its fields, where else stands whatever this process's memory held before."""
    if array.dtype.names is None:
        return array
    tidy = np.zeros(array.shape, array.dtype)
    for name in array.dtype.names:
        tidy[name] = array[name]
    return tidy


def _groups(plan: Plan) -> list[tuple[Any, CellPlan]]:
    return [*plan.groups.items(), (EVERYBODY, plan.everybody)]


def _plain(array: npt.NDArray[Any], dtype: type[np.generic]) -> npt.NDArray[Any]:
    # A kernel compiled once takes one layout: another one, or a read-only view, would compile it again in a request.
    flags = array.flags
    return array if array.dtype == dtype and flags.c_contiguous and flags.writeable else np.array(array, dtype)
