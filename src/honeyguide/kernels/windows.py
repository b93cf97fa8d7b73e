"""Windowed aggregates of an event stream, as integers.

An entity (a person, an item, everybody) has a row of int64 *cells*. A cell is a count, a sum, a sum of squares, or the
time of the last or first event, over the events that meet one condition, either of all time or of one window. Values
are read in steps of `step`, so every cell is an integer: adding and taking away commute and lose nothing, and a late
event, another order or another engine cannot change a feature by one bit.

One meaning of a window: an event counts at `now` if `start <= at < now`, where `start` is `now - window` rounded down
to the hop. The near edge is exact (an event at the very microsecond is not seen), the far edge moves once per hop.

The same three functions (`fold`, `finish`, `window_start`) serve the point-in-time join over labels (`as_of`) and the
online state (`advance`).

Layouts (a row per cell or feature):
    cell_i (C, 4) int64: ACTION (-1 any, -2 none), KIND, WINDOW (-1 all time), VALUED (only events that have a value)
    cell_f (C, 3) float64: LOW, HIGH (bounds of the value, inclusive), STEP
    windows (W, 2) int64: length, hop, both in microseconds; span (W, 2): the cells [first, end) of each window
    feat_i (F, 7) int64: OP, up to three cells of the entity, up to two of everybody, COLUMN
    feat_f (F, 3) float64: PRIOR (nan = everybody's own value at that moment), STRENGTH, SCALE
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

__all__ = [
    "DAY_US", "EVENT", "NONE",
    "advance", "as_of", "counting_order", "finish", "fold", "fold_events", "known_ranges", "newest", "window_start",
]  # fmt: skip

I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]
F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
Events = npt.NDArray[Any]  # of dtype EVENT

DAY_US = 86_400_000_000
NONE = -(2**63)  # the last (or minus the first) time of an entity without events

# One event. `prev` chains a person's events in the online pool, newest first.
EVENT = np.dtype(
    [("at", "i8"), ("user", "i4"), ("item", "i4"), ("value", "f4"), ("weight", "f4"), ("prev", "i4"), ("action", "i2")],
    align=True,
)

COUNT, SUM, SQUARE, LAST, FIRST = range(5)  # kinds of a cell
AMOUNT, MEAN, STD, SINCE_LAST, SINCE_FIRST, RATE, SHARE = range(7)  # operations of a feature
ACTION, KIND, WINDOW, VALUED = range(4)
LOW, HIGH, STEP = range(3)
OP, X0, X1, X2, G0, G1, COLUMN = range(7)
PRIOR, STRENGTH, SCALE = range(3)

# So many steps of a value are told apart; further out it is clipped, so that no sum leaves int64 before 2**23 such
# events (2**19 for squares).
SUM_LIMIT = 2.0**40
SQUARE_LIMIT = 2.0**22


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
def fold(
    cells: I64, sign: int, first: int, end: int, starts: I64,
    action: int, value: float, at: int, cell_i: I64, cell_f: F64,
) -> None:  # fmt: skip
    """Add (`sign` 1) or take away (-1) one event in the cells [first, end) of one entity; only open windows count it.

    The time of the last and the first event is never taken away.
    """
    for c in range(first, end):
        wanted, kind, window = cell_i[c, ACTION], cell_i[c, KIND], cell_i[c, WINDOW]
        if wanted != -1 and wanted != action:
            continue
        if window >= 0 and at < starts[window]:
            continue
        if cell_i[c, VALUED] != 0 and not (cell_f[c, LOW] <= value <= cell_f[c, HIGH]):  # nan is in no interval
            continue
        if kind == COUNT:
            cells[c] += sign
        elif kind == SUM:
            steps = min(max(np.floor(value / cell_f[c, STEP] + 0.5), -SUM_LIMIT), SUM_LIMIT)
            cells[c] += sign * np.int64(steps)
        elif kind == SQUARE:
            steps = min(max(np.floor(value / cell_f[c, STEP] + 0.5), -SQUARE_LIMIT), SQUARE_LIMIT)
            cells[c] += sign * (np.int64(steps) * np.int64(steps))
        elif sign > 0:
            cells[c] = max(cells[c], at if kind == LAST else -at)


@njit(cache=True)
def finish(
    op: int, x0: int, x1: int, x2: int, g0: int, g1: int, prior: float, strength: float, scale: float, now: int
) -> float:
    """A feature's value from its cells: `x` of the entity, `g` of everybody. nan where it is not defined.

    AMOUNT x0 * scale · MEAN (x0 * scale + strength * prior) / (x1 + strength), the prior being everybody's own mean if
    nan · STD of x2 values with sum x1 and sum of squares x0 · SINCE_LAST, SINCE_FIRST days · RATE events a day since
    the first, which counts as at least one day · SHARE x0 / g0.
    """
    if op == AMOUNT:
        return x0 * scale
    if op == MEAN:
        top, bottom = x0 * scale, float(x1)
        if strength > 0.0:
            centre = prior
            if np.isnan(centre) and g1 > 0:
                centre = g0 * scale / g1
            if not np.isnan(centre):
                top += strength * centre
                bottom += strength
        return top / bottom if bottom > 0.0 else np.nan
    if op == STD:
        if x2 < 2:
            return np.nan
        mean = x1 / x2
        return np.sqrt(max(x0 / x2 - mean * mean, 0.0)) * scale
    if op == SHARE:
        return x0 / g0 if g0 > 0 else np.nan
    if op == RATE:
        return x0 / max((now + x1) / DAY_US, 1.0) if x0 > 0 else 0.0
    if x0 == NONE:
        return np.nan
    return (now - x0) / DAY_US if op == SINCE_LAST else (now + x0) / DAY_US


@njit(cache=True)
def _write_features(cells: I64, everybody: I64, feat_i: I64, feat_f: F64, now: int, out: F32) -> None:
    """All features of one entity into their columns of one row."""
    for f in range(feat_i.shape[0]):
        out[feat_i[f, COLUMN]] = np.float32(
            finish(
                feat_i[f, OP], cells[feat_i[f, X0]], cells[feat_i[f, X1]], cells[feat_i[f, X2]],
                everybody[feat_i[f, G0]], everybody[feat_i[f, G1]],
                feat_f[f, PRIOR], feat_f[f, STRENGTH], feat_f[f, SCALE], now,
            )
        )  # fmt: skip


@njit(cache=True)
def as_of(
    ev_ptr: I64, ev: Events, ev_order: I64, row_ptr: I64, row_order: I64, row_at: I64, row_moment: I64, everybody: I64,
    windows: I64, span: I64, cell_i: I64, cell_f: F64, feat_i: I64, feat_f: F64, cells_out: I64, out: F32,
) -> None:  # fmt: skip
    """Features of many (entity, moment) rows, each as known just before its moment. Linear in events + rows.

    Events `ev[ev_order[ev_ptr[e]:ev_ptr[e + 1]]]` of entity e are in order of time, and so are its rows
    `row_order[row_ptr[e]:row_ptr[e + 1]]`, whose moments are `row_at`. Row r reads everybody's cells
    `everybody[row_moment[r]]`. Writes features to `out[r]` and, where `cells_out` has rows, the cells to
    `cells_out[r]`.
    """
    n_cells, n_windows = cell_i.shape[0], windows.shape[0]
    cells = np.empty(n_cells, np.int64)
    left = np.empty(n_windows, np.int64)
    ever = np.full(n_windows, NONE, np.int64)
    longest = 0
    for e in range(row_ptr.shape[0] - 1):
        if row_ptr[e] < row_ptr[e + 1]:
            longest = max(longest, ev_ptr[e + 1] - ev_ptr[e])
    # Each window walks over the entity's events again: they are gathered once, and then read in order.
    action, value, at = np.empty(longest, np.int16), np.empty(longest, np.float32), np.empty(longest, np.int64)
    for e in range(row_ptr.shape[0] - 1):
        if row_ptr[e] == row_ptr[e + 1]:
            continue
        for c in range(n_cells):
            cells[c] = 0 if cell_i[c, KIND] <= SQUARE else NONE
        seen, n_own = 0, ev_ptr[e + 1] - ev_ptr[e]
        left[:] = 0
        for k in range(n_own):
            event = ev[ev_order[ev_ptr[e] + k]]
            action[k], value[k], at[k] = event.action, event.value, event.at
        for j in range(row_ptr[e], row_ptr[e + 1]):
            r = row_order[j]
            now = row_at[r]
            while seen < n_own and at[seen] < now:
                fold(cells, 1, 0, n_cells, ever, action[seen], value[seen], at[seen], cell_i, cell_f)
                seen += 1
            for w in range(n_windows):
                first, end = span[w, 0], span[w, 1]
                if first == end:
                    continue
                start = window_start(now, windows[w, 0], windows[w, 1])
                k = left[w]
                while k < seen and at[k] < start:
                    fold(cells, -1, first, end, ever, action[k], value[k], at[k], cell_i, cell_f)
                    k += 1
                left[w] = k
            if cells_out.shape[0] > 0:
                cells_out[r] = cells
            _write_features(cells, everybody[row_moment[r]], feat_i, feat_f, now, out[r])


@njit(cache=True)
def fold_events(
    events: Events, sign: int, only: int, starts: I64,
    users: I64, user_span: I64, user_i: I64, user_f: F64,
    items: I64, item_span: I64, item_i: I64, item_f: F64,
    everybody: I64, all_span: I64, all_i: I64, all_f: F64,
) -> None:  # fmt: skip
    """Add or take away events in the cells of their person, their item and everybody.

    `only` >= 0 touches the cells of that window alone. Rows -1 belong to nobody and are skipped.
    """
    for event in events:
        action, value, at = event.action, event.value, event.at
        first, end = (0, user_i.shape[0]) if only < 0 else (user_span[only, 0], user_span[only, 1])
        if event.user >= 0:
            fold(users[event.user], sign, first, end, starts, action, value, at, user_i, user_f)
        first, end = (0, item_i.shape[0]) if only < 0 else (item_span[only, 0], item_span[only, 1])
        if event.item >= 0:
            fold(items[event.item], sign, first, end, starts, action, value, at, item_i, item_f)
        first, end = (0, all_i.shape[0]) if only < 0 else (all_span[only, 0], all_span[only, 1])
        if event.user >= 0 or event.item >= 0:
            fold(everybody[0], sign, first, end, starts, action, value, at, all_i, all_f)


@njit(cache=True)
def _leave(
    queue: Events, n_queue: int, left: I64, starts: I64,
    users: I64, user_span: I64, user_i: I64, user_f: F64,
    items: I64, item_span: I64, item_i: I64, item_f: F64,
    everybody: I64, all_span: I64, all_i: I64, all_f: F64,
) -> None:  # fmt: skip
    """Take the events that have left each window out of its cells; `left[w]` events of the queue are out already."""
    ever = np.full(starts.shape[0], NONE, np.int64)
    for w in range(starts.shape[0]):
        end = left[w]
        while end < n_queue and queue[end].at < starts[w]:
            end += 1
        fold_events(
            queue[left[w] : end], -1, w, ever, users, user_span, user_i, user_f, items, item_span, item_i, item_f,
            everybody, all_span, all_i, all_f,
        )  # fmt: skip
        left[w] = end


@njit(cache=True)
def advance(
    batch: Events, starts: I64, base: Events, base_left: I64, queue: Events, n_queue: int, queue_left: I64,
    pool: Events, n_pool: int, head: I32,
    users: I64, user_span: I64, user_i: I64, user_f: F64,
    items: I64, item_span: I64, item_i: I64, item_f: F64,
    everybody: I64, all_span: I64, all_i: I64, all_f: F64,
) -> None:  # fmt: skip
    """Move the state to the moment whose windows begin at `starts`, taking in `batch` (in order of time).

    What leaves a window is taken from its cells; the batch enters the cells, the queue (in order of time, so that it
    leaves in time) and the chains of its people (newest first). `queue` and `pool` must have room for the batch.
    """
    _leave(
        base, base.shape[0], base_left, starts, users, user_span, user_i, user_f, items, item_span, item_i, item_f,
        everybody, all_span, all_i, all_f,
    )  # fmt: skip
    _leave(
        queue, n_queue, queue_left, starts, users, user_span, user_i, user_f, items, item_span, item_i, item_f,
        everybody, all_span, all_i, all_f,
    )  # fmt: skip
    fold_events(
        batch, 1, -1, starts, users, user_span, user_i, user_f, items, item_span, item_i, item_f,
        everybody, all_span, all_i, all_f,
    )  # fmt: skip
    old, new = n_queue - 1, batch.shape[0] - 1
    while new >= 0:  # merge from the back: late events find their place, a batch in time is one copy
        if old >= 0 and queue[old].at > batch[new].at:
            queue[old + new + 1] = queue[old]
            old -= 1
        else:
            queue[old + new + 1] = batch[new]
            new -= 1
    for k in range(batch.shape[0]):
        for w in range(starts.shape[0]):
            if batch[k].at < starts[w]:  # too late for this window: it was not counted, and will not be taken away
                queue_left[w] += 1
        user = batch[k].user
        if user < 0:
            continue
        later, place = -1, head[user]
        while place >= 0 and pool[place].at > batch[k].at:
            later, place = place, pool[place].prev
        pool[n_pool] = batch[k]
        pool[n_pool].prev = place
        if later < 0:
            head[user] = n_pool
        else:
            pool[later].prev = n_pool
        n_pool += 1


@njit(cache=True)
def newest(
    limit: int, base: Events, begin: int, end: int, pool: Events, place: int,
    items: I32, weights: F32, values: F32, actions: npt.NDArray[np.int16], at: I64,
) -> int:  # fmt: skip
    """A person's newest events, from the build's `base[begin:end]` and the chain that starts at `pool[place]`.

    Fills the arrays (of length `limit`) from the back, newest last; returns how many events there are.
    """
    free = limit
    while free > 0 and (end > begin or place >= 0):
        if place >= 0 and (end == begin or pool[place].at >= base[end - 1].at):
            event = pool[place]
            place = event.prev
        else:
            end -= 1
            event = base[end]
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
