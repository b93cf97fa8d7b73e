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

The plain kinds (numbers and times in one slot) are folded and read by the short kernels of `windows`, the others by
those of `lasting`, so that who needs only the former compiles no more.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

__all__ = ["DAY_US", "NONE", "amount_of", "finish", "meets"]

I64 = npt.NDArray[np.int64]
F64 = npt.NDArray[np.float64]

DAY_US = 86_400_000_000
NONE = -(2**63)  # the last (or minus the first) time of an entity without events

COUNT, SUM, SQUARE, LAST, FIRST, DISTINCT, DECAY, DECAY_SUM, RING = range(
    9
)  # kinds of a cell; the first five are plain
LASTING = (LAST, FIRST, DECAY, DECAY_SUM, RING)  # what cannot give an event back
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
def meets(c: int, action: int, value: float, cell_i: I64, cell_f: F64) -> bool:
    """Whether an event meets a cell's condition."""
    wanted = cell_i[c, ACTION]
    if wanted != -1 and wanted != action:
        return False
    return cell_i[c, VALUED] == 0 or cell_f[c, LOW] <= value <= cell_f[c, HIGH]  # nan is in no interval


@njit(cache=True)
def amount_of(c: int, action: int, value: float, cell_i: I64, cell_f: F64) -> Any:
    """What one event adds to a count, a sum or a sum of squares.

    `meets` is written out: a call that is not inlined costs ten times what it does.
    """
    wanted, kind = cell_i[c, ACTION], cell_i[c, KIND]
    if wanted != -1 and wanted != action:
        return 0
    if cell_i[c, VALUED] != 0 and not (cell_f[c, LOW] <= value <= cell_f[c, HIGH]):
        return 0
    if kind == COUNT:
        return 1
    limit = SUM_LIMIT if kind == SUM else SQUARE_LIMIT
    steps = np.int64(min(max(np.floor(value / cell_f[c, STEP] + 0.5), -limit), limit))
    return steps if kind == SUM else steps * steps


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
