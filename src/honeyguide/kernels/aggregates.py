"""An entity's aggregates as one row of integers, and how one event changes it.

An entity (a person, an item, a pair, everybody) has a row of int64 slots. A *cell* is one or more of them: a count, a
sum, a sum of squares, a number of different codes, a decayed mass, the time of the last or first event, or the newest
few amounts; over the events that meet one condition, of all time or of one window.

Values are summed in steps of `step`, so that counts and sums are integers: adding and taking away commute and lose
nothing, and a late event, another order or another engine cannot change them by one bit. A decayed mass is a float
(the bits of one, in its slot) at a reference time; the newest amounts are kept in order of (time, amount). Every cell
is a function of the set of its events, not of the order in which they came.

What cannot be taken away again (decayed masses, last, first, newest) is folded anew from the events that are left.

Layouts:
    cell_i (C, 9) int64: ACTION (-1 any, -2 none), KIND, WINDOW (-1 all time), VALUED (only events that have a value),
        OFFSET (first slot), SIZE (of RING: so many amounts), WHAT (of DISTINCT and RING: see below), ACTION_2,
        VALUED_2 (of RING with MEETS: the second condition)
    cell_f (C, 6) float64: LOW, HIGH (bounds of the value, inclusive), STEP, HALF_LIFE (microseconds), LOW_2, HIGH_2
    codes: (code_ptr (2, items + 1) int64, codes int32): the items' categories and people, for DISTINCT
    keys, counts: a hash table with open addressing, see `find`
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

__all__ = ["EMPTY", "NONE", "filled", "find", "finish", "fold", "mix", "operand", "refold", "rows_of"]

I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]
F64 = npt.NDArray[np.float64]

DAY_US = 86_400_000_000
NONE = -(2**63)  # the last (or minus the first) time of an entity without events
EMPTY = NONE  # a free place of a hash table; no key is this number

COUNT, SUM, SQUARE, DISTINCT, LAST, FIRST, DECAY, DECAY_SUM, RING = range(9)  # kinds of a cell
AMOUNT, MEAN, STD, SINCE_LAST, SINCE_FIRST, RATE, SHARE = range(7)  # operations of a feature
ACTION, KIND, WINDOW, VALUED, OFFSET, SIZE, WHAT, ACTION_2, VALUED_2 = range(9)
LOW, HIGH, STEP, HALF_LIFE, LOW_2, HIGH_2 = range(6)
ITEM, USER, CATEGORY, PEOPLE, VALUE, MEETS = range(6)  # what DISTINCT counts and RING keeps
# How an operand reads its cell: as it is, or out of the newest amounts.
PLAIN, RING_N, RING_SUM, RING_MIN, RING_MAX, RING_STD, RING_DISTINCT = range(7)
TAKE, REFOLD, ADD = -1, 0, 1  # modes of `fold`

# So many steps of a value are told apart; further out it is clipped, so that no sum leaves int64 before 2**23 such
# events (2**19 for squares).
SUM_LIMIT = 2.0**40
SQUARE_LIMIT = 2.0**22


@njit(cache=True)
def mix(key: int) -> int:
    """A number that looks random in every bit (the finaliser of splitmix64, Steele, Lea and Flood 2014)."""
    x = np.uint64(key) + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.int64(x ^ (x >> np.uint64(31)))


@njit(cache=True)
def find(keys: I64, mask: int, key: int) -> int:
    """The place of a key among `keys[: mask + 1]` (a power of two), or the free place where it would go."""
    place = mix(key) & mask
    while keys[place] != key and keys[place] != EMPTY:
        place = (place + 1) & mask
    return place


@njit(cache=True)
def rows_of(keys: I64, values: I64, wanted: I64, add: bool) -> I64:
    """The number of each wanted key, -1 if it has none (or is EMPTY); with `add` new keys get the next numbers.

    `values[-1]` counts the places in use, which is also the next number. There must be room for what is added.
    """
    rows, mask = np.full(wanted.shape[0], -1, np.int64), keys.shape[0] - 1
    for i in range(wanted.shape[0]):
        if wanted[i] == EMPTY:
            continue
        place = find(keys, mask, wanted[i])
        if keys[place] == EMPTY:
            if not add:
                continue
            keys[place], values[place] = wanted[i], values[-1]
            values[-1] += 1
        rows[i] = values[place]
    return rows


@njit(cache=True)
def filled(old_keys: I64, old_counts: I64, keys: I64, counts: I64) -> None:
    """Move what is counted (above zero) into an empty table; `counts[-1]` says how many places are in use."""
    mask = keys.shape[0] - 1
    for i in range(old_keys.shape[0]):
        if old_keys[i] != EMPTY and old_counts[i] > 0:
            place = find(keys, mask, old_keys[i])
            keys[place], counts[place] = old_keys[i], old_counts[i]
            counts[-1] += 1


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
def _fold_rest(
    row: I64, real: F64, c: int, kind: int, action: int, value: float, at: int, user: int, item: int,
    cell_i: I64, cell_f: F64,
) -> None:  # fmt: skip
    """Add one event to a cell that cannot give it back."""
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
        wanted, kind, window = cell_i[c, ACTION], cell_i[c, KIND], cell_i[c, WINDOW]
        if wanted != -1 and wanted != action:
            continue
        if window >= 0 and at < starts[window]:
            continue
        if cell_i[c, VALUED] != 0 and not (cell_f[c, LOW] <= value <= cell_f[c, HIGH]):  # nan is in no interval
            continue
        if kind >= LAST:
            if mode != TAKE:
                _fold_rest(row, real, c, kind, action, value, at, user, item, cell_i, cell_f)
        elif mode != REFOLD:
            if kind == COUNT:
                row[cell_i[c, OFFSET]] += mode
            elif kind == SUM:
                steps = min(max(np.floor(value / cell_f[c, STEP] + 0.5), -SUM_LIMIT), SUM_LIMIT)
                row[cell_i[c, OFFSET]] += mode * np.int64(steps)
            elif kind == SQUARE:
                steps = min(max(np.floor(value / cell_f[c, STEP] + 0.5), -SQUARE_LIMIT), SQUARE_LIMIT)
                row[cell_i[c, OFFSET]] += mode * (np.int64(steps) * np.int64(steps))
            else:
                row[cell_i[c, OFFSET]] += _fold_codes(
                    entity, c, cell_i[c, WHAT], mode, user, item, code_ptr, codes, keys, counts, mask
                )


@njit(cache=True)
def refold(row: I64, cell_i: I64, empty: I64) -> None:
    """Empty the cells that cannot give an event back; `empty` is the row of an entity without events."""
    for c in range(cell_i.shape[0]):
        kind, o = cell_i[c, KIND], cell_i[c, OFFSET]
        if kind >= LAST:
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
def finish(
    op: int, x0: float, x1: float, x2: float, g0: float, g1: float, prior: float, strength: float, scale: float,
    now: int,
) -> float:  # fmt: skip
    """A feature's value from its operands: `x` of the entity, `g` of everybody. nan where it is not defined.

    AMOUNT x0 * scale · MEAN (x0 * scale + strength * prior) / (x1 + strength), the prior being everybody's own mean if
    nan · STD of x2 values with sum x1 and sum of squares x0 · SINCE_LAST, SINCE_FIRST days · RATE events a day since
    the first, which counts as at least one day · SHARE x0 / g0.
    """
    if op == AMOUNT:
        return x0 * scale
    if op == MEAN:
        top, bottom = x0 * scale, x1
        if strength > 0.0:
            centre = prior
            if np.isnan(centre) and g1 > 0.0:
                centre = g0 * scale / g1
            if not np.isnan(centre):
                top += strength * centre
                bottom += strength
        return top / bottom if bottom > 0.0 else np.nan
    if op == STD:
        if x2 < 2.0:
            return np.nan
        mean = x1 / x2
        return np.sqrt(max(x0 / x2 - mean * mean, 0.0)) * scale
    if op == SHARE:
        return x0 / g0 if g0 > 0.0 else np.nan
    if op == RATE:
        return x0 / max((now + x1) / DAY_US, 1.0) if x0 > 0.0 else 0.0
    if x0 == NONE:
        return np.nan
    return (now - x0) / DAY_US if op == SINCE_LAST else (now + x0) / DAY_US
