"""Cells that are more than a number in a slot, and events that come late or are corrected.

Different codes, decayed masses and the newest few amounts, beside the plain cells of `windows`; the same layouts
(`kernels.aggregates`). Events enter in the order in which they became known, and what is replaced is taken out again.

codes: (code_ptr (2, items + 1) int64, codes int32): the items' categories and people, for DISTINCT. keys, counts: a
hash table (`kernels.hashtable`) of how often each code is counted.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from honeyguide.kernels.aggregates import (
    ACTION_2,
    ADD,
    CATEGORY,
    DECAY,
    DECAY_SUM,
    DISTINCT,
    FIRST,
    HALF_LIFE,
    HIGH_2,
    ITEM,
    KIND,
    LAST,
    LOW_2,
    NONE,
    OFFSET,
    REFOLD,
    RING,
    RING_DISTINCT,
    RING_MAX,
    RING_MIN,
    RING_N,
    RING_SUM,
    SIZE,
    SQUARE,
    TAKE,
    USER,
    VALUE,
    VALUED_2,
    WHAT,
    WINDOW,
    amount_of,
    finish,
    meets,
)  # fmt: skip
from honeyguide.kernels.hashtable import EMPTY, find, mix
from honeyguide.kernels.windows import (
    COLUMN,
    EXPIRES,
    G0,
    G1,
    LIVE,
    NEVER,
    OP,
    PRIOR,
    SCALE,
    STRENGTH,
    X0,
    X1,
    X2,
    window_start,
)  # fmt: skip

__all__ = ["as_of_any", "fold", "fold_rows", "known_histories", "operand", "read_rows"]

BoolArray = npt.NDArray[np.bool_]
I16 = npt.NDArray[np.int16]
I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]
F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]


@njit(cache=True)
def _tally(entity: int, c: int, code: int, sign: int, keys: I64, counts: I64, mask: int) -> int:
    """Count one code of one entity's cell up or down; returns how the number of different codes changes."""
    key = mix(mix(entity) ^ mix(c * 0x1_0000_0000 + code))
    if key == EMPTY:
        key = 0
    place = find(keys, mask, key)
    if keys[place] == EMPTY:
        keys[place] = key
        counts[place] = 0
        counts[-1] += 1
    counts[place] += sign
    if sign > 0:
        return 1 if counts[place] == 1 else 0
    return -1 if counts[place] == 0 else 0


@njit(cache=True)
def _fold_codes(
    entity: int, c: int, what: int, sign: int, user: int, item: int, code_ptr: I64, codes: I32,
    keys: I64, counts: I64, mask: int,
) -> int:  # fmt: skip
    """How the number of different codes of one cell changes with an event."""
    if what == USER:
        return _tally(entity, c, user, sign, keys, counts, mask) if user >= 0 else 0
    if what == ITEM:
        return _tally(entity, c, item, sign, keys, counts, mask) if item >= 0 else 0
    change, facet = 0, what - CATEGORY
    if 0 <= item < code_ptr.shape[1] - 1:
        for k in range(code_ptr[facet, item], code_ptr[facet, item + 1]):
            change += _tally(entity, c, codes[k], sign, keys, counts, mask)
    return change


@njit(cache=True)
def _insert(row: I64, real: F64, o: int, size: int, at: int, amount: float) -> None:
    """Keep an amount if it is among the newest; `row[o]` says how many there are, then (time, amount) oldest first."""
    n = row[o]
    place = n
    while place > 0:
        before = o + 2 * place - 1
        if row[before] < at or (row[before] == at and real[before + 1] <= amount):
            break
        place -= 1
    if n == size:
        if place == 0:
            return
        place -= 1
        for k in range(o + 1, o + 1 + 2 * place):
            row[k] = row[k + 2]
    else:
        for k in range(o + 2 * n, o + 2 * place, -1):
            row[k + 2] = row[k]
        row[o] = n + 1
    row[o + 1 + 2 * place] = at
    real[o + 2 + 2 * place] = amount


@njit(cache=True)
def _fold_lasting(
    row: I64, real: F64, c: int, kind: int, action: int, value: float, at: int, user: int, item: int,
    cell_i: I64, cell_f: F64,
) -> None:  # fmt: skip
    """Add one event to a cell that cannot give it back; the event meets the cell's condition."""
    o = cell_i[c, OFFSET]
    if kind == LAST:
        row[o] = max(row[o], at)
    elif kind == FIRST:
        row[o] = max(row[o], -at)
    elif kind == RING:
        what = cell_i[c, WHAT]
        if what == ITEM:
            amount = float(item)
        elif what == USER:
            amount = float(user)
        elif what == VALUE:
            amount = float(value)
        else:
            meets = cell_i[c, ACTION_2] == -1 or cell_i[c, ACTION_2] == action
            if cell_i[c, VALUED_2] != 0:
                meets = meets and cell_f[c, LOW_2] <= value <= cell_f[c, HIGH_2]
            amount = 1.0 if meets else 0.0
        _insert(row, real, o, cell_i[c, SIZE], at, amount)
    else:
        amount = float(value) if kind == DECAY_SUM else 1.0
        reference = row[o + 1]
        if reference == NONE:
            real[o] = amount
            row[o + 1] = at
        elif at >= reference:
            real[o] = real[o] * np.exp2((reference - at) / cell_f[c, HALF_LIFE]) + amount
            row[o + 1] = at
        else:
            real[o] += amount * np.exp2((at - reference) / cell_f[c, HALF_LIFE])


@njit(cache=True)
def fold(
    row: I64, real: F64, mode: int, first: int, end: int, starts: I64, entity: int,
    action: int, value: float, at: int, user: int, item: int,
    cell_i: I64, cell_f: F64, code_ptr: I64, codes: I32, keys: I64, counts: I64, mask: int,
) -> None:  # fmt: skip
    """Add one event to the cells [first, end) of one entity (ADD), or TAKE it from those that can give it back.

    REFOLD adds it only to those that cannot. Windows count it from their `starts` on. `real` is `row` as floats;
    `entity` names the row in the table of codes, which has `mask + 1` places.
    """
    for c in range(first, end):
        kind, window = cell_i[c, KIND], cell_i[c, WINDOW]
        if window >= 0 and at < starts[window]:
            continue
        if kind <= SQUARE:
            if mode != REFOLD:
                row[cell_i[c, OFFSET]] += mode * amount_of(c, action, value, cell_i, cell_f)
        elif not meets(c, action, value, cell_i, cell_f):
            continue
        elif kind != DISTINCT:
            if mode != TAKE:
                _fold_lasting(row, real, c, kind, action, value, at, user, item, cell_i, cell_f)
        elif mode != REFOLD:
            row[cell_i[c, OFFSET]] += _fold_codes(
                entity, c, cell_i[c, WHAT], mode, user, item, code_ptr, codes, keys, counts, mask
            )


@njit(cache=True)
def refold(row: I64, cell_i: I64, empty: I64) -> None:
    """Empty the cells that cannot give an event back; `empty` is the row of an entity without events."""
    for c in range(cell_i.shape[0]):
        kind, o = cell_i[c, KIND], cell_i[c, OFFSET]
        if kind >= LAST and kind != DISTINCT:
            width = 1 if kind <= FIRST else 2 if kind <= DECAY_SUM else 1 + 2 * cell_i[c, SIZE]
            row[o : o + width] = empty[o : o + width]


@njit(cache=True)
def _of_ring(row: I64, real: F64, o: int, how: int) -> float:
    """A figure of the newest amounts; nan for what none have."""
    n = row[o]
    if how == RING_N:
        return float(n)
    total, least, most, different = 0.0, np.inf, -np.inf, 0
    for k in range(n):
        x = real[o + 2 + 2 * k]
        total += x
        least, most = min(least, x), max(most, x)
        if how == RING_DISTINCT:
            new = 1
            for j in range(k):
                if real[o + 2 + 2 * j] == x:
                    new = 0
            different += new
    if how == RING_SUM:
        return total
    if how == RING_DISTINCT:
        return float(different)
    if n == 0:
        return np.nan
    if how == RING_MIN:
        return least
    if how == RING_MAX:
        return most
    if n < 2:
        return np.nan
    squares = 0.0
    for k in range(n):
        squares += (real[o + 2 + 2 * k] - total / n) ** 2
    return np.sqrt(squares / n)


@njit(cache=True)
def operand(row: I64, real: F64, x: int, now: int, cell_i: I64, cell_f: F64) -> float:
    """What a formula reads: cell `x >> 3`, by `x & 7`."""
    c, how = x >> 3, x & 7
    kind, o = cell_i[c, KIND], cell_i[c, OFFSET]
    if kind < DECAY:
        return float(row[o])
    if kind == RING:
        return _of_ring(row, real, o, how)
    return real[o] * np.exp2((row[o + 1] - now) / cell_f[c, HALF_LIFE]) if row[o + 1] != NONE else 0.0


@njit(cache=True)
def _write_row(
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
def as_of_any(
    ev_ptr: I64, order: I64, action: I16, value: F32, at: I64, user: I32, item: I32, known: I64, until: I64,
    row_ptr: I64, row_order: I64, row_at: I64, row_moment: I64, everybody: I64, all_i: I64, all_f: F64,
    windows: I64, span: I64, cell_i: I64, cell_f: F64, empty: I64, code_ptr: I64, codes: I32, spread: int,
    feat_i: I64, feat_f: F64, cells_out: I64, out: Any,
) -> None:  # fmt: skip
    """`windows.as_of` for cells of any kind and events of any order, on the same terms.

    `known` and `until` are empty if every event was known as it happened and stays; `user` and `item` say who and what
    an event is about; `spread`: so many codes an event may add to the table of codes (0: no cell counts any).
    Events are folded in and taken out again. A correction costs one more pass over its entity's events, but only where
    a cell cannot give an event back.
    """
    n_cells, n_windows, versions = cell_i.shape[0], windows.shape[0], known.shape[0] > 0
    row = empty.copy()
    real = row.view(np.float64)
    starts, left = np.empty(n_windows, np.int64), np.empty(n_windows, np.int64)
    longest, lasting, by_name = 0, False, False
    for c in range(n_cells):
        kind = cell_i[c, KIND]
        lasting = lasting or (kind >= LAST and kind != DISTINCT)
        by_name = by_name or kind in (RING, DISTINCT)
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
    e_known, e_until, inside = np.empty(many, np.int64), np.empty(many, np.int64), np.zeros(longest, np.bool_)
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
        entering, leaving, late = none, none, False
        if versions:
            n_gone = 0
            for k in range(n_own):
                i = order[first + k]
                e_known[k], e_until[k] = known[i], until[i]
                late = late or e_known[k] != e_at[k]
                n_gone += e_until[k] != NEVER
            if late:
                entering = np.argsort(e_known[:n_own], kind="mergesort")
            if n_gone > 0:
                leaving = np.argsort(e_until[:n_own], kind="mergesort")[:n_gone]
        mask = 1
        while mask < 2 * n_own * spread:
            mask *= 2
        mask -= 1
        if spread > 0:
            keys[: mask + 1] = NONE
        inside[:n_own] = False
        seen, gone = 0, 0
        for j in range(row_ptr[e], row_ptr[e + 1]):
            r = row_order[j]
            now = row_at[r]
            for w in range(n_windows):
                starts[w] = window_start(now, windows[w, 0], windows[w, 1])
            seen, gone = _moved(
                row, real, now, starts, left, seen, gone, e, n_own, late, entering, leaving, inside,
                e_action, e_value, e_at, e_user, e_item, e_known, e_until, span, lasting,
                cell_i, cell_f, empty, code_ptr, codes, keys, counts, mask,
            )  # fmt: skip
            if cells_out.shape[0] > 0:
                cells_out[r] = row
            if feat_i.shape[0] > 0:
                all_row = everybody[row_moment[r]]
                _write_row(
                    row, real, cell_i, cell_f, all_row, all_row.view(np.float64), all_i, all_f, feat_i, feat_f, now,
                    out[r],
                )  # fmt: skip


@njit(cache=True)
def _moved(
    row: I64, real: F64, now: int, starts: I64, left: I64, seen: int, gone: int, e: int, n_own: int, late: bool,
    entering: I64, leaving: I64, inside: BoolArray,
    action: I16, value: F32, at: I64, user: I32, item: I32, known: I64, until: I64, span: I64, lasting: bool,
    cell_i: I64, cell_f: F64, empty: I64, code_ptr: I64, codes: I32, keys: I64, counts: I64, mask: int,
) -> tuple[int, int]:  # fmt: skip
    """An entity's row moved on to `now`: what windows have passed and what was replaced leaves, what is known enters.

    `inside` says which events are in the row; `seen` of them have entered, in the order `entering` if some are `late`,
    and `gone` of those that are ever replaced, in the order `leaving`, have left. Returns both.
    """
    ever, n_cells = np.full(starts.shape[0], NONE, np.int64), cell_i.shape[0]
    u, v, named = np.int32(-1), np.int32(-1), user.shape[0] > 0
    for w in range(starts.shape[0]):
        begin, end = span[w, 0], span[w, 1]
        if begin == end:
            continue
        k = left[w]
        while k < n_own and at[k] < starts[w]:
            if inside[k]:
                if named:
                    u, v = user[k], item[k]
                fold(
                    row, real, TAKE, begin, end, ever, e, action[k], value[k], at[k], u, v,
                    cell_i, cell_f, code_ptr, codes, keys, counts, mask,
                )  # fmt: skip
            k += 1
        left[w] = k
    stale = False
    while gone < leaving.shape[0] and until[leaving[gone]] < now:
        k = leaving[gone]
        gone += 1
        if inside[k]:
            inside[k], stale = False, lasting
            if named:
                u, v = user[k], item[k]
            fold(
                row, real, TAKE, 0, n_cells, starts, e, action[k], value[k], at[k], u, v,
                cell_i, cell_f, code_ptr, codes, keys, counts, mask,
            )  # fmt: skip
    if stale:
        refold(row, cell_i, empty)
        for k in range(n_own):
            if inside[k]:
                if named:
                    u, v = user[k], item[k]
                fold(
                    row, real, REFOLD, 0, n_cells, starts, e, action[k], value[k], at[k], u, v,
                    cell_i, cell_f, code_ptr, codes, keys, counts, mask,
                )  # fmt: skip
    while seen < n_own:
        k = entering[seen] if late else seen
        if (known[k] if late else at[k]) >= now:
            break
        seen += 1
        if leaving.shape[0] > 0 and until[k] < now:
            continue
        inside[k] = True
        if named:
            u, v = user[k], item[k]
        fold(
            row, real, ADD, 0, n_cells, starts, e, action[k], value[k], at[k], u, v,
            cell_i, cell_f, code_ptr, codes, keys, counts, mask,
        )  # fmt: skip
    return seen, gone


@njit(cache=True)
def fold_rows(
    rows: I64, names: I64, events: Any, mode: int, first: int, end: int, starts: I64, table: I64,
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
def read_rows(
    rows: I64, now: int, table: I64, cell_i: I64, cell_f: F64, everybody: I64, all_i: I64, all_f: F64,
    feat_i: I64, feat_f: F64, out: Any,
) -> None:  # fmt: skip
    """The features of entities `rows` of `table` into the rows of `out`; row -1 leaves its row untouched."""
    reals, all_row = table.view(np.float64), everybody[0]
    for j in range(rows.shape[0]):
        if rows[j] >= 0:
            _write_row(
                table[rows[j]], reals[rows[j]], cell_i, cell_f, all_row, all_row.view(np.float64), all_i, all_f,
                feat_i, feat_f, now, out[j],
            )  # fmt: skip


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
