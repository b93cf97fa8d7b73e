"""From scored candidates to a slate, in one compiled call.

The order is the contract: remove -> score -> diversify -> pin -> explore. Candidates are named by their index in the
arrays of the request; catalog arrays are read by item row. Nothing here depends on the order of the candidates.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from honeyguide.kernels.diversity import diversity_order
from honeyguide.kernels.slate_explore import NEW_SHARE, POOL, SHARE, _count, fill_slots, strengths

__all__ = [
    "CATEGORY_CAP",
    "DUPLICATE",
    "KEPT",
    "OUTRANKED",
    "PADDING",
    "PIN_BEYOND_SLOTS",
    "RULE_CODES_FROM",
    "SEEN",
    "TOO_OFTEN",
    "UNKNOWN",
    "compose_slate",
    "remove",
    "utilities",
]

KEPT = 0
PADDING = 1  # the row is negative
UNKNOWN = 2  # the row is beyond the catalog
DUPLICATE = 3  # a candidate (or pin) with the same row came before
SEEN = 4
CATEGORY_CAP = 5  # passed over because its category was full
PIN_BEYOND_SLOTS = 6  # a pin whose position the request did not ask for, or that is taken
OUTRANKED = 7  # survived every rule and found no slot
TOO_OFTEN = 8  # shown to this person as often as a cap allows
RULE_CODES_FROM = 16  # codes from here on belong to the caller's `barred`

_PROBABILITY_SLACK = 1e-9  # rounding that a calibrator may leave outside [0, 1]


@njit(cache=True, nogil=True)
def _slot_of(table: Any, rows: Any, row: Any) -> Any:
    """Place in the open-addressing `table` that holds `row`, or where it belongs."""
    mask = len(table) - 1
    place = (np.int64(row) * np.int64(2654435761)) & mask
    while table[place] >= 0 and rows[table[place]] != row:
        place = (place + 1) & mask
    return place


@njit(cache=True, nogil=True)
def _table(rows: Any) -> Any:
    """Row -> first candidate index, as an open-addressing table of a power-of-two size; -1 is empty."""
    size = 16
    while size < 3 * len(rows):
        size *= 2
    table = np.full(size, -1, np.int32)
    for i in range(len(rows)):
        if rows[i] >= 0:
            place = _slot_of(table, rows, rows[i])
            if table[place] < 0:
                table[place] = i
    return table


@njit(cache=True, nogil=True)
def remove(rows: Any, barred: Any, seen: Any, hide_seen: Any, tired: Any, table: Any) -> Any:
    """Which rule removes each candidate, uint8 (n,): 0 keeps it.

    rows: int32 (n,). barred: uint8 by item row, 0 = may be shown. seen, tired: int32 (m,) rows that were had, and that
    were shown too often. table: from `_table(rows)`.
    """
    dropped = np.zeros(len(rows), np.uint8)
    for i in range(len(rows)):
        row = rows[i]
        if row < 0:
            dropped[i] = PADDING
        elif row >= len(barred):
            dropped[i] = UNKNOWN
        elif table[_slot_of(table, rows, row)] != i:
            dropped[i] = DUPLICATE
        else:
            dropped[i] = barred[row]
    if hide_seen:
        for s in range(len(seen)):
            if seen[s] >= 0:
                i = table[_slot_of(table, rows, seen[s])]
                if i >= 0 and dropped[i] == KEPT:
                    dropped[i] = SEEN
    for s in range(len(tired)):
        i = table[_slot_of(table, rows, tired[s])]
        if i >= 0 and dropped[i] == KEPT:
            dropped[i] = TOO_OFTEN
    return dropped


@njit(cache=True, nogil=True)
def _kept(codes: Any) -> Any:
    """Where the codes are `KEPT`, int32."""
    n = 0
    for i in range(len(codes)):
        n += codes[i] == KEPT
    where = np.empty(n, np.int32)
    n = 0
    for i in range(len(codes)):
        if codes[i] == KEPT:
            where[n] = i
            n += 1
    return where


@njit(cache=True, nogil=True)
def _is_before(a: Any, b: Any, first: Any, second: Any, rows: Any) -> Any:
    """Whether candidate a stands before b: higher `first`, then higher `second`, then lower row; nan last."""
    x, y = first[a], first[b]
    if x > y or (np.isnan(y) and not np.isnan(x)):
        return True
    if y > x or (np.isnan(x) and not np.isnan(y)):
        return False
    x, y = second[a], second[b]
    if x > y or (np.isnan(y) and not np.isnan(x)):
        return True
    if y > x or (np.isnan(x) and not np.isnan(y)):
        return False
    return rows[a] < rows[b]


@njit(cache=True, nogil=True)
def _sorted(which: Any, first: Any, second: Any, rows: Any) -> Any:
    """The candidates `which`, best first: a bottom-up merge sort by `_is_before`."""
    n = len(which)
    here, there = which.copy(), which.copy()
    width = 1
    while width < n:
        start = 0
        while start < n:
            middle, end = min(start + width, n), min(start + 2 * width, n)
            a, b = start, middle
            for out in range(start, end):
                if b >= end or (a < middle and not _is_before(here[b], here[a], first, second, rows)):
                    there[out] = here[a]
                    a += 1
                else:
                    there[out] = here[b]
                    b += 1
            start = end
        here, there = there, here
        width *= 2
    return here


@njit(cache=True, nogil=True)
def _add_reciprocal_rank(out: Any, weight: Any, constant: Any, values: Any, which: Any, rows: Any) -> Any:
    """Add weight x constant / (constant + rank - 1) to the candidates `which`; equal values share the better rank."""
    order = _sorted(which, values, values, rows)
    rank = 0
    for place in range(len(order)):
        if place == 0 or values[order[place]] != values[order[place - 1]]:
            rank = place
        value = values[order[place]]
        out[order[place]] += np.nan if np.isnan(value) else weight * constant / (constant + rank)


@njit(cache=True, nogil=True)
def utilities(
    rows: Any,
    scores: Any,
    blend: Any,
    which: Any,
    probability_weights: Any,
    rank_weights: Any,
    blend_weight: Any,
    rank_constant: Any,
    added: Any,
    faded: Any,
) -> Any:
    """Utility of the candidates `which` (nan for the others), and the first head that is no probability (-1: none).

    utility = sum of probability_weights x scores + sum of weight x c / (c + rank - 1), where rank is the place of the
    score among `which`, 1 = best (Cormack, Clarke and Buettcher 2009, eq. 1, scaled so that the best is 1).
    scores: float64 (n, heads). A nan in anything that has a weight makes the utility nan.
    added: float64 (n,) more utility, or empty. faded: float64 (n,) in (0, 1], or empty: a utility above 0 is multiplied
    by it, one below 0 divided, so that what is faded never gains.
    """
    utility = np.full(len(rows), np.nan)
    for i in which:
        utility[i] = added[i] if len(added) > 0 else 0.0
    for head in range(scores.shape[1]):
        weight = probability_weights[head]
        if weight != 0.0:
            for i in which:
                p = scores[i, head]
                if p < -_PROBABILITY_SLACK or p > 1.0 + _PROBABILITY_SLACK:
                    return utility, head
                utility[i] += weight * p
        if rank_weights[head] != 0.0:
            column = scores[:, head].copy()
            _add_reciprocal_rank(utility, rank_weights[head], rank_constant, column, which, rows)
    if blend_weight != 0.0:
        _add_reciprocal_rank(utility, blend_weight, rank_constant, blend, which, rows)
    if len(faded) > 0:
        for i in which:
            utility[i] = utility[i] * faded[i] if utility[i] > 0.0 else utility[i] / faded[i]
    return utility, -1


@njit(cache=True, nogil=True)
def _place_pins(pin_rows: Any, pin_slots: Any, slots: Any, barred: Any, seen: Any, hide_seen: Any, tired: Any) -> Any:
    """Slot -> number of the pin that takes it (-1: none), and the rule that refuses each pin (0: none)."""
    pin_at = np.full(slots, -1, np.int32)
    refused = np.zeros(len(pin_rows), np.uint8)
    for p in range(len(pin_rows)):
        row = pin_rows[p]
        if row < 0 or row >= len(barred):
            refused[p] = UNKNOWN
            continue
        refused[p] = barred[row]
        if refused[p] == KEPT and hide_seen:
            for s in range(len(seen)):
                if seen[s] == row:
                    refused[p] = SEEN
        for s in range(len(tired)):
            if refused[p] == KEPT and tired[s] == row:
                refused[p] = TOO_OFTEN
        if refused[p] == KEPT and (pin_slots[p] > slots or pin_at[pin_slots[p] - 1] >= 0):
            refused[p] = PIN_BEYOND_SLOTS
        for q in range(p):
            if refused[p] == KEPT and refused[q] == KEPT and pin_rows[q] == row:
                refused[p] = DUPLICATE
        if refused[p] == KEPT:
            pin_at[pin_slots[p] - 1] = p
    return pin_at, refused


@njit(cache=True, nogil=True)
def _relevance(order: Any, utility: Any, pool_size: Any) -> Any:
    """Utility scaled over the first `pool_size` of `order`: best 1, last 0, below it 0; -1 where it is nan."""
    relevance = np.full(len(utility), -1.0)
    size = 0
    while size < len(order) and not np.isnan(utility[order[size]]):
        size += 1
    if size == 0:
        return relevance
    high, low = utility[order[0]], utility[order[min(size, pool_size) - 1]]
    for place in range(size):
        i = order[place]
        relevance[i] = max((utility[i] - low) / (high - low), 0.0) if high > low else 1.0
    return relevance


@njit(cache=True, nogil=True)
def compose_slate(
    rows: Any,
    scores: Any,
    blend: Any,
    barred: Any,
    seen: Any,
    hide_seen: Any,
    tired: Any,
    probability_weights: Any,
    rank_weights: Any,
    blend_weight: Any,
    rank_constant: Any,
    added: Any,
    faded: Any,
    pin_rows: Any,
    pin_slots: Any,
    how: Any,
    cat_indptr: Any,
    cat_values: Any,
    counts: Any,
    cap: Any,
    cap_first: Any,
    allowed: Any,
    new: Any,
    deviation: Any,
    plan: Any,
    slots: Any,
    seed: Any,
) -> Any:
    """The whole slate: remove -> score -> diversify -> pin -> explore.

    rows int32 (n,), scores float64 (n, heads), blend float64 (n,); barred uint8 and categories by item row; counts
    int64 (categories,): what each category already holds (very negative: exempt from the cap).
    tired: as in `remove`; added, faded: as in `utilities`; how: a `diversity.Diversity`.
    allowed, new, deviation, plan: of the exploration, see `slate_explore`.
    Returns by slot: row, candidate index (-1: a pin that is no candidate), utility, propensity, chance that it was to
    be another than the best left, pinned, explored; by candidate: utility, dropped (0: shown); by pin: refused; and the
    first head whose scores are no probabilities (-1).
    """
    table = _table(rows)
    dropped = remove(rows, barred, seen, hide_seen, tired, table)
    which = _kept(dropped)

    utility, bad_head = utilities(
        rows, scores, blend, which, probability_weights, rank_weights, blend_weight, rank_constant, added, faded
    )

    pin_at, refused = _place_pins(pin_rows, pin_slots, slots, barred, seen, hide_seen, tired)
    pins = _kept(refused)
    early_pins = 0
    elsewhere = dropped.copy()
    for p in pins:
        i = table[_slot_of(table, rows, pin_rows[p])]
        if i >= 0:
            elsewhere[i] = OUTRANKED
        if pin_slots[p] <= cap_first:
            early_pins += 1
            _count(pin_rows[p], 1, counts, cat_indptr, cat_values)
    order = _sorted(_kept(elsewhere), utility, blend, rows)
    relevance = _relevance(order, utility, how.pool)

    free = slots - len(pins)
    explores = plan[SHARE] > 0.0 or plan[NEW_SHARE] > 0.0
    steps = free + (int(plan[POOL]) if explores else 0)
    order = diversity_order(
        order, relevance, rows, pin_rows, pins, how, steps,
        min(free, cap_first - early_pins), cap, counts, cat_indptr, cat_values,
    )  # fmt: skip

    strength = strengths(order, utility, relevance, plan)
    index, propensity, aside, explored, passed = fill_slots(
        order, relevance, strength, rows, pin_at, cap, cap_first, counts, cat_indptr, cat_values,
        allowed, new, deviation, plan, seed,
    )  # fmt: skip
    shown = np.empty(len(index), np.int32)
    value = np.full(len(index), np.nan)
    pinned = index < 0
    for i in which:
        dropped[i] = CATEGORY_CAP if passed[i] else OUTRANKED
    for slot in range(len(index)):
        if pinned[slot]:
            shown[slot] = pin_rows[-1 - index[slot]]
            index[slot] = table[_slot_of(table, rows, shown[slot])]
        else:
            shown[slot] = rows[index[slot]]
        if index[slot] >= 0:
            value[slot] = utility[index[slot]]
            dropped[index[slot]] = KEPT
    return shown, index, value, propensity, aside, pinned, explored, utility, dropped, refused, bad_head
