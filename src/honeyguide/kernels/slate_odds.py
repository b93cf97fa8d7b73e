"""With what chance a policy for slates would have put each item into each slot, given the slots above as they were."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from honeyguide.kernels.diversity import diversity_order
from honeyguide.kernels.slate import (
    OUTRANKED,
    _kept,
    _place_pins,
    _relevance,
    _slot_of,
    _sorted,
    _table,
    remove,
    utilities,
)
from honeyguide.kernels.slate_explore import (
    FIRST_SLOT,
    MOST_SLOTS,
    NEW_SHARE,
    POOL,
    SHARE,
    _count,
    choices,
    room_for_choices,
    strengths,
)

__all__ = ["slot_odds"]


@njit(cache=True, nogil=True)
def slot_odds(
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
    shown: Any,
) -> Any:
    """Chances of what may stand in each slot of a list that was `shown`, each given the slots above it.

    Arguments as in `slate.compose_slate`, with the list (rows) in place of a seed; whoever made the list need not be
    this policy. Returns (start, rows, chance): slot s may hold rows[start[s]:start[s + 1]]; where this policy's list
    would have ended above, nothing.
    """
    table = _table(rows)
    elsewhere = remove(rows, barred, seen, hide_seen, tired, table)
    which = _kept(elsewhere)
    utility, _ = utilities(
        rows, scores, blend, which, probability_weights, rank_weights, blend_weight, rank_constant, added, faded
    )
    pin_at, refused = _place_pins(pin_rows, pin_slots, slots, barred, seen, hide_seen, tired)
    pins = _kept(refused)
    early_pins = 0
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
    n = len(shown)
    start = np.zeros(n + 1, np.int64)
    size = room_for_choices(order, plan)
    found_rows = np.empty(n * (size + 1), np.int32)
    chance = np.empty(len(found_rows))
    places, mass = np.empty(size, np.int32), np.empty(size)
    used = np.zeros(len(order), np.bool_)
    passed = np.zeros(len(rows), np.bool_)
    at, written, so_far = 0, 0, 0
    for slot in range(slots):
        if at >= n:
            break
        if pin_at[slot] >= 0:
            found_rows[written], chance[written] = pin_rows[pin_at[slot]], 1.0
            written += 1
        else:
            limit = cap if at < cap_first else 0
            open_ = at + 1 >= plan[FIRST_SLOT] and (plan[MOST_SLOTS] < 0 or so_far < plan[MOST_SLOTS])
            best, _, entries, own = choices(
                order, relevance, strength, rows, allowed, new, deviation, plan, open_, used, 0, limit,
                counts, cat_indptr, cat_values, passed, places, mass,
            )  # fmt: skip
            if best < 0:
                continue
            # The best beyond its own entries is one more; entries of one place are one row.
            first = written
            for j in range(entries + 1):
                place, more = (places[j], mass[j]) if j < entries else (np.int32(best), own)
                if more <= 0.0 and place != best:
                    continue
                row = rows[order[place]]
                at_row = written
                for known in range(first, written):
                    if found_rows[known] == row:
                        at_row = known
                if at_row == written:
                    found_rows[written], chance[written] = row, 0.0
                    written += 1
                chance[at_row] += more
            so_far += rows[order[best]] != shown[at]
            for place in range(len(order)):
                if rows[order[place]] == shown[at]:
                    used[place] = True
                    break
            if limit > 0:
                _count(shown[at], 1, counts, cat_indptr, cat_values)
        at += 1
        start[at] = written
    for rest in range(at, n):
        start[rest + 1] = written
    return start, found_rows[:written], chance[:written]
