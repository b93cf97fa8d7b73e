"""Aggregates of an event stream: as they were at many moments, and kept up to date event by event.

One meaning of a window: an event counts at `now` if `start <= at < now`, where `start` is `now - window` rounded down
to the hop. The near edge is exact (an event at the very microsecond is not seen), the far edge moves once per hop. An
event counts from when it was known, `known < now`, and until another version of it took its place, `now <= until`.

The same functions (`kernels.aggregates`) serve the point-in-time join over labels (`as_of`) and the online state
(`fold_rows`), so a value is the same number in both.

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
    ADD,
    DECAY,
    DISTINCT,
    KIND,
    LAST,
    NONE,
    OFFSET,
    REFOLD,
    RING,
    TAKE,
    finish,
    fold,
    operand,
    refold,
)

__all__ = [
    "EVENT", "NEVER",
    "as_of", "chain", "counting_order", "fold_rows", "known_histories", "known_ranges", "newest", "read_rows",
    "refold_rows", "window_start", "write_row",
]  # fmt: skip

I16 = npt.NDArray[np.int16]
I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]
F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
Events = npt.NDArray[Any]  # of dtype EVENT

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
def write_row(
    row: I64, real: F64, cell_i: I64, cell_f: F64, all_row: I64, all_real: F64, all_i: I64, all_f: F64,
    feat_i: I64, feat_f: F64, now: int, out: Any,
) -> None:  # fmt: skip
    """All features of one entity into their columns of one row."""
    for f in range(feat_i.shape[0]):
        live = feat_i[f, LIVE]
        if live >= 0 and (row[live] == NONE or now - row[live] > feat_f[f, EXPIRES]):
            out[feat_i[f, COLUMN]] = np.nan
            continue
        out[feat_i[f, COLUMN]] = finish(
            feat_i[f, OP],
            operand(row, real, feat_i[f, X0], now, cell_i, cell_f),
            operand(row, real, feat_i[f, X1], now, cell_i, cell_f),
            operand(row, real, feat_i[f, X2], now, cell_i, cell_f),
            operand(all_row, all_real, feat_i[f, G0], now, all_i, all_f),
            operand(all_row, all_real, feat_i[f, G1], now, all_i, all_f),
            feat_f[f, PRIOR], feat_f[f, STRENGTH], feat_f[f, SCALE], now,
        )  # fmt: skip


@njit(cache=True)
def as_of(
    ev_ptr: I64, order: I64, action: I16, value: F32, at: I64, user: I32, item: I32, known: I64, until: I64,
    row_ptr: I64, row_order: I64, row_at: I64, row_moment: I64, everybody: I64, all_i: I64, all_f: F64,
    windows: I64, span: I64, cell_i: I64, cell_f: F64, empty: I64, code_ptr: I64, codes: I32, spread: int,
    feat_i: I64, feat_f: F64, cells_out: I64, out: Any,
) -> None:  # fmt: skip
    """Features of many (entity, moment) rows, each as known just before its moment. Linear in events + rows.

    Events `order[ev_ptr[e]:ev_ptr[e + 1]]` of entity e are in order of time, and so are its rows
    `row_order[row_ptr[e]:row_ptr[e + 1]]`, whose moments are `row_at`. Row r reads everybody's cells
    `everybody[row_moment[r]]`. `known` and `until` are empty if every event was known as it happened and stays.
    `spread`: so many codes an event may add to the table of codes (0: no cell counts any).
    Writes features to `out[r]` and, where `cells_out` has rows, the cells to `cells_out[r]`.
    A correction costs one more pass over its entity's events, but only where a cell cannot give an event back.
    """
    n_cells, n_windows, versions = cell_i.shape[0], windows.shape[0], known.shape[0] > 0
    row = empty.copy()
    real = row.view(np.float64)
    starts, left = np.empty(n_windows, np.int64), np.empty(n_windows, np.int64)
    ever = np.full(n_windows, NONE, np.int64)
    longest, lasting, by_name = 0, False, False
    for c in range(n_cells):
        lasting = lasting or cell_i[c, KIND] >= LAST
        by_name = by_name or cell_i[c, KIND] == RING or cell_i[c, KIND] == DISTINCT
    for e in range(row_ptr.shape[0] - 1):
        if row_ptr[e] < row_ptr[e + 1]:
            longest = max(longest, ev_ptr[e + 1] - ev_ptr[e])
    # Each window walks over the entity's events again: they are gathered once, and then read in order.
    e_action, e_value, e_at = np.empty(longest, np.int16), np.empty(longest, np.float32), np.empty(longest, np.int64)
    coded = longest if by_name else 0
    e_user, e_item = np.full(coded, -1, np.int32), np.full(coded, -1, np.int32)
    places = 1
    while places < 2 * longest * spread:
        places *= 2
    keys, counts = np.full(places, NONE, np.int64), np.zeros(places + 1, np.int64)
    many = longest if versions else 0
    e_known, e_until, inside = np.empty(many, np.int64), np.empty(many, np.int64), np.zeros(many, np.bool_)
    none = np.zeros(0, np.int64)
    for e in range(row_ptr.shape[0] - 1):
        if row_ptr[e] == row_ptr[e + 1]:
            continue
        first, n_own = ev_ptr[e], ev_ptr[e + 1] - ev_ptr[e]
        row[:] = empty
        left[:] = 0
        for k in range(n_own):
            i = order[first + k]
            e_action[k], e_value[k], e_at[k] = action[i], value[i], at[i]
            if coded > 0:
                e_user[k], e_item[k] = user[i], item[i]
        mask = 1
        while mask < 2 * n_own * spread:
            mask *= 2
        mask -= 1
        if spread > 0:
            keys[: mask + 1] = NONE
        entering, leaving, late = none, none, False
        if versions:
            n_gone = 0
            for k in range(n_own):
                i = order[first + k]
                e_known[k], e_until[k], inside[k] = known[i], until[i], False
                late = late or e_known[k] != e_at[k]
                n_gone += e_until[k] != NEVER
            if late:
                entering = np.argsort(e_known[:n_own], kind="mergesort")
            if n_gone > 0:
                leaving = np.argsort(e_until[:n_own], kind="mergesort")[:n_gone]
        seen, gone, simple = 0, 0, not late and leaving.shape[0] == 0
        for j in range(row_ptr[e], row_ptr[e + 1]):
            r = row_order[j]
            now = row_at[r]
            for w in range(n_windows):
                starts[w] = window_start(now, windows[w, 0], windows[w, 1])
                begin, end = span[w, 0], span[w, 1]
                k = left[w]
                if begin == end:
                    continue
                while k < n_own and e_at[k] < starts[w]:
                    if k < seen if simple else inside[k]:
                        u, v = (e_user[k], e_item[k]) if coded > 0 else (np.int32(-1), np.int32(-1))
                        fold(
                            row, real, TAKE, begin, end, ever, e, e_action[k], e_value[k], e_at[k], u, v,
                            cell_i, cell_f, code_ptr, codes, keys, counts, mask,
                        )  # fmt: skip
                    k += 1
                left[w] = k
            stale = False
            while gone < leaving.shape[0] and e_until[leaving[gone]] < now:
                k = leaving[gone]
                gone += 1
                if inside[k]:
                    inside[k], stale = False, lasting
                    u, v = (e_user[k], e_item[k]) if coded > 0 else (np.int32(-1), np.int32(-1))
                    fold(
                        row, real, TAKE, 0, n_cells, starts, e, e_action[k], e_value[k], e_at[k], u, v,
                        cell_i, cell_f, code_ptr, codes, keys, counts, mask,
                    )  # fmt: skip
            if stale:
                refold(row, cell_i, empty)
                for k in range(n_own):
                    if inside[k]:
                        u, v = (e_user[k], e_item[k]) if coded > 0 else (np.int32(-1), np.int32(-1))
                        fold(
                            row, real, REFOLD, 0, n_cells, starts, e, e_action[k], e_value[k], e_at[k], u, v,
                            cell_i, cell_f, code_ptr, codes, keys, counts, mask,
                        )  # fmt: skip
            while seen < n_own:
                k = entering[seen] if late else seen
                if (e_known[k] if late else e_at[k]) >= now:
                    break
                seen += 1
                if not simple:
                    if e_until[k] < now:
                        continue
                    inside[k] = True
                u, v = (e_user[k], e_item[k]) if coded > 0 else (np.int32(-1), np.int32(-1))
                fold(
                    row, real, ADD, 0, n_cells, starts, e, e_action[k], e_value[k], e_at[k], u, v,
                    cell_i, cell_f, code_ptr, codes, keys, counts, mask,
                )  # fmt: skip
            if cells_out.shape[0] > 0:
                cells_out[r] = row
            if feat_i.shape[0] > 0:
                all_row = everybody[row_moment[r]]
                write_row(
                    row, real, cell_i, cell_f, all_row, all_row.view(np.float64), all_i, all_f, feat_i, feat_f, now,
                    out[r],
                )  # fmt: skip


@njit(cache=True)
def fold_rows(
    rows: I64, names: I64, events: Events, mode: int, first: int, end: int, starts: I64, table: I64,
    cell_i: I64, cell_f: F64, code_ptr: I64, codes: I32, keys: I64, counts: I64,
) -> None:  # fmt: skip
    """Add or take away events in the cells [first, end) of their entities' rows of `table`; row -1 is nobody's.

    `names` are the entities' own numbers, which the table of codes knows them by.
    """
    reals, mask = table.view(np.float64), keys.shape[0] - 1
    for i in range(rows.shape[0]):
        if rows[i] >= 0:
            event = events[i]
            fold(
                table[rows[i]], reals[rows[i]], mode, first, end, starts, names[i], event.action, event.value,
                event.at, event.user, event.item, cell_i, cell_f, code_ptr, codes, keys, counts, mask,
            )  # fmt: skip


@njit(cache=True)
def refold_rows(rows: I64, table: I64, cell_i: I64, empty: I64) -> None:
    """Empty the cells that cannot give an event back, in some rows."""
    for r in rows:
        refold(table[r], cell_i, empty)


@njit(cache=True)
def read_rows(
    rows: I64, now: int, table: I64, cell_i: I64, cell_f: F64, everybody: I64, all_i: I64, all_f: F64,
    feat_i: I64, feat_f: F64, out: Any,
) -> None:  # fmt: skip
    """The features of entities `rows` of `table` into the rows of `out`; row -1 leaves its row untouched."""
    reals, all_row = table.view(np.float64), everybody[0]
    all_real = all_row.view(np.float64)
    for f in range(feat_i.shape[0]):  # a feature at a time: its operation is the same for all rows
        op, column, live = feat_i[f, OP], feat_i[f, COLUMN], feat_i[f, LIVE]
        x0, x1, x2 = feat_i[f, X0], feat_i[f, X1], feat_i[f, X2]
        g0 = operand(all_row, all_real, feat_i[f, G0], now, all_i, all_f)
        g1 = operand(all_row, all_real, feat_i[f, G1], now, all_i, all_f)
        prior, strength, scale = feat_f[f, PRIOR], feat_f[f, STRENGTH], feat_f[f, SCALE]
        plain = max(cell_i[x0 >> 3, KIND], cell_i[x1 >> 3, KIND], cell_i[x2 >> 3, KIND]) < DECAY and live < 0
        o0, o1, o2 = cell_i[x0 >> 3, OFFSET], cell_i[x1 >> 3, OFFSET], cell_i[x2 >> 3, OFFSET]
        for j in range(rows.shape[0]):
            r = rows[j]
            if r < 0:
                continue
            if plain:
                out[j, column] = finish(
                    op, float(table[r, o0]), float(table[r, o1]), float(table[r, o2]), g0, g1, prior, strength, scale,
                    now,
                )  # fmt: skip
            elif live >= 0 and (table[r, live] == NONE or now - table[r, live] > feat_f[f, EXPIRES]):
                out[j, column] = np.nan
            else:
                out[j, column] = finish(
                    op,
                    operand(table[r], reals[r], x0, now, cell_i, cell_f),
                    operand(table[r], reals[r], x1, now, cell_i, cell_f),
                    operand(table[r], reals[r], x2, now, cell_i, cell_f),
                    g0, g1, prior, strength, scale, now,
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


@njit(cache=True)
def known_histories(
    first: I64, end: I64, known: I64, until: I64, now: I64, limit: int
) -> tuple[I64, I64]:  # fmt: skip
    """The same where events come late or are corrected: of the events before `end[r]`, back to `first[r]`, the newest
    `limit` that count at `now[r]`. Returns (indptr, places), oldest first."""
    indptr = np.zeros(now.shape[0] + 1, np.int64)
    places = np.empty(limit * 8 + 64, np.int64)
    for r in range(now.shape[0]):
        n, k = 0, end[r] - 1
        if indptr[r] + limit > places.shape[0]:
            more = np.empty(2 * places.shape[0] + limit, np.int64)
            more[: indptr[r]] = places[: indptr[r]]
            places = more
        while k >= first[r] and n < limit:
            if known[k] < now[r] <= until[k]:
                places[indptr[r] + n] = k
                n += 1
            k -= 1
        places[indptr[r] : indptr[r] + n] = places[indptr[r] : indptr[r] + n][::-1].copy()
        indptr[r + 1] = indptr[r] + n
    return indptr, places[: indptr[now.shape[0]]]
