"""Aggregates of an event stream: as they were at many moments, and kept up to date event by event.

One meaning of a window: an event counts at `now` if `start <= at < now`, where `start` is `now - window` rounded down
to the hop. The near edge is exact (an event at the very microsecond is not seen), the far edge moves once per hop. An
event counts from when it was known, `known < now`, and until another version of it took its place, `now <= until`.

The same functions (`kernels.aggregates`) serve the point-in-time join over labels (`as_of`) and the online state
(`fold_plain`), so a value is the same number in both. `kernels.lasting` has the like for what is not plain.

Layouts (a row per feature):
    windows (W, 2) int64: length, hop, both in microseconds; span (W, 2): the cells [first, end) of each window
    feat_i (F, 8) int64: OP, up to three operands of the entity, up to two of everybody (cell * 8 + how it is read),
        COLUMN, LIVE (the slot of the LAST cell that says whether the value has expired, or -1)
    feat_f (F, 4) float64: PRIOR (nan = everybody's own value at that moment), STRENGTH, SCALE, EXPIRES (microseconds)
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from honeyguide.kernels.aggregates import (
    ACTION,
    COUNT,
    FIRST,
    HIGH,
    KIND,
    LAST,
    LOW,
    NONE,
    OFFSET,
    REFOLD,
    SQUARE,
    STEP,
    TAKE,
    VALUED,
    WINDOW,
    amount_of,
    finish,
    meets,
)

__all__ = [
    "EVENT", "NEVER",
    "as_of", "chain", "counting_order", "fold_plain", "in_turn", "known_ranges", "newest", "read_plain", "window_start",
    "write_row",
]  # fmt: skip

BoolArray = npt.NDArray[np.bool_]
I16 = npt.NDArray[np.int16]
I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]
F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
Events = npt.NDArray[Any]  # of dtype EVENT

_CHUNK = 1024
_RUNNING = 4_000_000  # running sums that are kept at once: 32 MB
NEVER = 2**63 - 1  # the `until` of an event that nothing has replaced

# One event. `id` is the code of its name, 0 if it has none; `prev` chains a person's events in the online pool, newest
# first.
EVENT = np.dtype(
    [("at", "i8"), ("id", "i8"), ("user", "i4"), ("item", "i4"), ("value", "f4"), ("weight", "f4"), ("prev", "i4"),
     ("action", "i2")],
    align=True,
)  # fmt: skip

OP, X0, X1, X2, G0, G1, COLUMN, LIVE = range(8)
PRIOR, STRENGTH, SCALE, EXPIRES = range(4)


@njit(cache=True)
def counting_order(key: I32, order: I64, n_keys: int) -> tuple[I64, I64]:
    """Stable counting sort: `order` regrouped by `key[order]`, and where each key's group begins.

    Keys outside [0, n_keys) are left out. Returns (indptr (n_keys + 1,), order grouped).
    """
    indptr = np.zeros(n_keys + 1, np.int64)
    for i in order:
        if 0 <= key[i] < n_keys:
            indptr[key[i] + 1] += 1
    for k in range(n_keys):
        indptr[k + 1] += indptr[k]
    fill = indptr.copy()
    grouped = np.empty(indptr[n_keys], np.int64)
    for i in order:
        k = key[i]
        if 0 <= k < n_keys:
            grouped[fill[k]] = i
            fill[k] += 1
    return indptr, grouped


@njit(cache=True)
def window_start(now: int, length: int, hop: int) -> int:
    """First microsecond that a window still sees at `now`."""
    return ((now - length) // hop) * hop


@njit(cache=True)
def write_row(row: I64, cell_i: I64, all_row: I64, all_i: I64, feat_i: I64, feat_f: F64, now: int, out: Any) -> None:
    """All features of one entity into their columns of one row."""
    for f in range(feat_i.shape[0]):
        live = feat_i[f, LIVE]
        if live >= 0 and (row[live] == NONE or now - row[live] > feat_f[f, EXPIRES]):
            out[feat_i[f, COLUMN]] = np.nan
            continue
        out[feat_i[f, COLUMN]] = finish(
            feat_i[f, OP],
            float(row[cell_i[feat_i[f, X0] >> 3, OFFSET]]),
            float(row[cell_i[feat_i[f, X1] >> 3, OFFSET]]),
            float(row[cell_i[feat_i[f, X2] >> 3, OFFSET]]),
            float(all_row[all_i[feat_i[f, G0] >> 3, OFFSET]]),
            float(all_row[all_i[feat_i[f, G1] >> 3, OFFSET]]),
            feat_f[f, PRIOR], feat_f[f, STRENGTH], feat_f[f, SCALE], now,
        )  # fmt: skip


@njit(cache=True)
def _measures(cell_i: I64, cell_f: F64) -> tuple[I64, I64, I64]:
    """Cells that are alike but for their window are one measure: of each cell its measure (-1: it is a time), of each
    measure a cell, and the cells that are times."""
    n = cell_i.shape[0]
    of_cell, cells, n_measures = np.full(n, -1, np.int64), np.zeros(n, np.int64), 0
    times, n_times = np.zeros(n, np.int64), 0
    for c in range(n):
        if cell_i[c, KIND] > SQUARE:
            times[n_times] = c
            n_times += 1
            continue
        for m in range(n_measures):
            d, same = cells[m], True
            for k in (ACTION, KIND, VALUED):
                same = same and cell_i[c, k] == cell_i[d, k]
            for k in (LOW, HIGH, STEP):
                same = same and cell_f[c, k] == cell_f[d, k]
            if same:
                of_cell[c] = m
        if of_cell[c] < 0:
            cells[n_measures] = c
            of_cell[c] = n_measures
            n_measures += 1
    return of_cell, cells[:n_measures].copy(), times[:n_times].copy()


@njit(cache=True)
def in_turn(ev_ptr: I64, order: I64, known: I64, until: I64) -> BoolArray:
    """Of each entity whether its events became known in the order in which they happened, and none was replaced."""
    fine = np.ones(ev_ptr.shape[0] - 1, np.bool_)
    for e in range(fine.shape[0]):
        last = NONE
        for k in range(ev_ptr[e], ev_ptr[e + 1]):
            i = order[k]
            if known[i] < last or until[i] != NEVER:
                fine[e] = False
                break
            last = known[i]
    return fine


@njit(cache=True)
def as_of(
    ev_ptr: I64, order: I64, action: I16, value: F32, at: I64, known: I64,
    row_ptr: I64, row_order: I64, row_at: I64, row_moment: I64, everybody: I64, all_i: I64,
    windows: I64, span: I64, cell_i: I64, cell_f: F64, empty: I64, feat_i: I64, feat_f: F64, cells_out: I64, out: Any,
) -> None:  # fmt: skip
    """Features of many (entity, moment) rows, each as known just before its moment. Linear in events + rows.

    Events `order[ev_ptr[e]:ev_ptr[e + 1]]` of entity e are in order of time, and so are its rows
    `row_order[row_ptr[e]:row_ptr[e + 1]]`, whose moments are `row_at`; those of entities that have rows became known in
    that order too (`in_turn`). Row r reads everybody's cells `everybody[row_moment[r]]`. `known` may be empty: every
    event was known as it happened. Cells are plain. Writes features to `out[r]` and, where `cells_out` has rows, the
    cells to `cells_out[r]`.

    Counts and sums are running sums, of which a window is a difference. Of an entity with very many events they are
    not kept: what has left a window is summed a second time.
    """
    n_cells, n_windows, late = cell_i.shape[0], windows.shape[0], known.shape[0] > 0
    row, left = empty.copy(), np.empty(n_windows, np.int64)
    of_cell, measures, times = _measures(cell_i, cell_f)
    n_measures, n_times = measures.shape[0], times.shape[0]
    longest = 0
    for e in range(row_ptr.shape[0] - 1):
        if row_ptr[e] < row_ptr[e + 1]:
            longest = max(longest, ev_ptr[e + 1] - ev_ptr[e])
    # Gathered once, and then read in order.
    e_action, e_value, e_at = np.empty(longest, np.int16), np.empty(longest, np.float32), np.empty(longest, np.int64)
    e_known = np.empty(longest if late else 0, np.int64)
    running = np.zeros((min(longest, _RUNNING // max(n_measures, 1)) + 1, n_measures), np.int64)
    passed = np.empty(n_cells, np.int64)
    for e in range(row_ptr.shape[0] - 1):
        if row_ptr[e] == row_ptr[e + 1]:
            continue
        first, n_own = ev_ptr[e], ev_ptr[e + 1] - ev_ptr[e]
        row[:] = empty
        left[:] = 0
        for k in range(n_own):
            i = order[first + k]
            e_action[k], e_value[k], e_at[k] = action[i], value[i], at[i]
            if late:
                e_known[k] = known[i]
        enters = e_known if late else e_at
        seen, kept = 0, n_own < running.shape[0]
        passed[:] = 0
        running[0] = 0
        for j in range(row_ptr[e], row_ptr[e + 1]):
            r = row_order[j]
            now = row_at[r]
            while seen < n_own and enters[seen] < now:
                before = seen if kept else 0
                after = seen + 1 if kept else 0
                for m in range(n_measures):
                    running[after, m] = running[before, m] + amount_of(
                        measures[m], e_action[seen], e_value[seen], cell_i, cell_f
                    )
                for t in range(n_times):
                    c = times[t]
                    if meets(c, e_action[seen], e_value[seen], cell_i, cell_f):
                        time = e_at[seen] if cell_i[c, KIND] == LAST else -e_at[seen]
                        row[cell_i[c, OFFSET]] = max(row[cell_i[c, OFFSET]], time)
                seen += 1
            for w in range(n_windows):
                start, k = window_start(now, windows[w, 0], windows[w, 1]), left[w]
                while k < seen and e_at[k] < start:
                    if not kept:
                        for c in range(span[w, 0], span[w, 1]):
                            passed[c] += amount_of(c, e_action[k], e_value[k], cell_i, cell_f)
                    k += 1
                left[w] = k
            for c in range(n_cells):
                m, w = of_cell[c], cell_i[c, WINDOW]
                if m < 0:
                    continue
                if kept:
                    passed[c] = running[left[w], m] if w >= 0 else 0
                row[cell_i[c, OFFSET]] = running[seen if kept else 0, m] - passed[c]
            if cells_out.shape[0] > 0:
                cells_out[r] = row
            if feat_i.shape[0] > 0:
                write_row(row, cell_i, everybody[row_moment[r]], all_i, feat_i, feat_f, now, out[r])


@njit(cache=True)
def fold_plain(
    rows: I64, events: Events, mode: int, first: int, end: int, starts: I64, table: I64, cell_i: I64, cell_f: F64
) -> None:
    """Add events (ADD) to the plain cells [first, end) of their entities' rows of `table`, or TAKE them away; row -1 is
    nobody's. Windows count from their `starts` on. The times of the last and first event are never taken away; REFOLD
    adds to those alone.
    """
    # A cell at a time, over as many events as stay in the cache: what a cell asks is looked up once.
    for begin in range(0, rows.shape[0], _CHUNK):
        for c in range(first, end):
            kind, window, o, wanted = cell_i[c, KIND], cell_i[c, WINDOW], cell_i[c, OFFSET], cell_i[c, ACTION]
            if (kind <= SQUARE and mode == REFOLD) or (kind > SQUARE and mode == TAKE):
                continue
            since, valued = starts[window] if window >= 0 else NONE, cell_i[c, VALUED] != 0
            low, high = cell_f[c, LOW], cell_f[c, HIGH]
            for i in range(begin, min(begin + _CHUNK, rows.shape[0])):
                r, at = rows[i], events[i].at
                if r < 0 or at < since or (wanted != -1 and wanted != events[i].action):
                    continue
                if valued and not low <= events[i].value <= high:  # nan is in no interval
                    continue
                if kind == COUNT:
                    table[r, o] += mode
                elif kind == LAST:
                    table[r, o] = max(table[r, o], at)
                elif kind == FIRST:
                    table[r, o] = max(table[r, o], -at)
                else:
                    table[r, o] += mode * amount_of(c, events[i].action, events[i].value, cell_i, cell_f)


@njit(cache=True)
def read_plain(
    rows: I64, now: int, table: I64, cell_i: I64, everybody: I64, all_i: I64, feat_i: I64, feat_f: F64, out: Any
) -> None:
    """The features of entities `rows` of `table` into the rows of `out`; row -1 leaves its row untouched."""
    all_row = everybody[0]
    for f in range(feat_i.shape[0]):  # a feature at a time: its operation is the same for all rows
        op, column, live, expires = feat_i[f, OP], feat_i[f, COLUMN], feat_i[f, LIVE], feat_f[f, EXPIRES]
        o0, o1 = cell_i[feat_i[f, X0] >> 3, OFFSET], cell_i[feat_i[f, X1] >> 3, OFFSET]
        o2 = cell_i[feat_i[f, X2] >> 3, OFFSET]
        g0 = float(all_row[all_i[feat_i[f, G0] >> 3, OFFSET]])
        g1 = float(all_row[all_i[feat_i[f, G1] >> 3, OFFSET]])
        prior, strength, scale = feat_f[f, PRIOR], feat_f[f, STRENGTH], feat_f[f, SCALE]
        for j in range(rows.shape[0]):
            r = rows[j]
            if r < 0:
                continue
            if live >= 0 and (table[r, live] == NONE or now - table[r, live] > expires):
                out[j, column] = np.nan
            else:
                out[j, column] = finish(
                    op, float(table[r, o0]), float(table[r, o1]), float(table[r, o2]), g0, g1, prior, strength, scale,
                    now,
                )  # fmt: skip


@njit(cache=True)
def chain(batch: Events, pool: Events, n_pool: int, head: I32) -> None:
    """Put a batch (in order of time) into the pool, each event in the chain of its person: newest first, and of one
    microsecond the one that came last."""
    for k in range(batch.shape[0]):
        user = batch[k].user
        pool[n_pool + k] = batch[k]
        if user < 0:
            continue
        later, place = -1, head[user]
        while place >= 0 and pool[place].at > batch[k].at:
            later, place = place, pool[place].prev
        pool[n_pool + k].prev = place
        if later < 0:
            head[user] = n_pool + k
        else:
            pool[later].prev = n_pool + k


@njit(cache=True)
def newest(
    limit: int, base: Events, begin: int, end: int, pool: Events, place: int,
    items: I32, weights: F32, values: F32, actions: I16, at: I64,
) -> int:  # fmt: skip
    """A person's newest events, from the build's `base[begin:end]` and the chain that starts at `pool[place]`.

    Fills the arrays (of length `limit`) from the back, newest last; returns how many events there are. Events that were
    taken back have lost their person, and are passed over.
    """
    free = limit
    while free > 0 and (end > begin or place >= 0):
        if place >= 0 and (end == begin or pool[place].at >= base[end - 1].at):
            event = pool[place]
            place = event.prev
        else:
            end -= 1
            event = base[end]
        if event.user < 0:
            continue
        free -= 1
        items[free], weights[free], values[free] = event.item, event.weight, event.value
        actions[free], at[free] = event.action, event.at
    return limit - free


@njit(cache=True)
def known_ranges(ptr: I64, at: I64, who: I64, now: I64, limit: int) -> tuple[I64, I64]:
    """Where each question's history begins and ends: the newest `limit` events of `who` strictly before `now`.

    Events of entity e are `at[ptr[e]:ptr[e + 1]]`, in order of time.
    """
    begin, end = np.empty(who.shape[0], np.int64), np.empty(who.shape[0], np.int64)
    for r in range(who.shape[0]):
        first, low, high = ptr[who[r]], ptr[who[r]], ptr[who[r] + 1]
        while low < high:
            middle = (low + high) // 2
            if at[middle] < now[r]:
                low = middle + 1
            else:
                high = middle
        begin[r], end[r] = max(first, low - limit), low
    return begin, end
