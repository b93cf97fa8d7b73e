"""With what chance a policy for slates would have put each item into each slot, given the slots above as they were."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from honeyguide.kernels.slate import (
    OUTRANKED,
    _count,
    _fits,
    _kept,
    _place_pins,
    _relevance,
    _slot_of,
    _sorted,
    _table,
    diversity_order,
    remove,
    utilities,
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
    probability_weights: Any,
    rank_weights: Any,
    blend_weight: Any,
    rank_constant: Any,
    pin_rows: Any,
    pin_slots: Any,
    vectors: Any,
    mmr_lambda: Any,
    mmr_pool: Any,
    cat_indptr: Any,
    cat_values: Any,
    counts: Any,
    cap: Any,
    cap_first: Any,
    epsilon: Any,
    explore_pool: Any,
    floor: Any,
    first_slot: Any,
    slots: Any,
    shown: Any,
) -> Any:
    """Chances of what may stand in each slot of a list that was `shown`, each given the slots above it.

    Arguments as in `slate.compose_slate`, with the list (rows) in place of a seed; whoever made the list need not be
    this policy. Returns (start, rows, chance): slot s may hold rows[start[s]:start[s + 1]]; where this policy's list
    would have ended above, nothing.
    """
    table = _table(rows)
    which = _kept(remove(rows, barred, seen, hide_seen, table))
    utility, _ = utilities(rows, scores, blend, which, probability_weights, rank_weights, blend_weight, rank_constant)
    pin_at, refused = _place_pins(pin_rows, pin_slots, slots, barred, seen, hide_seen)
    pins = _kept(refused)
    early_pins = 0
    elsewhere = remove(rows, barred, seen, hide_seen, table)
    for p in pins:
        i = table[_slot_of(table, rows, pin_rows[p])]
        if i >= 0:
            elsewhere[i] = OUTRANKED
        if pin_slots[p] <= cap_first:
            early_pins += 1
            _count(pin_rows[p], 1, counts, cat_indptr, cat_values)
    order = _sorted(_kept(elsewhere), utility, blend, rows)
    relevance = _relevance(order, utility, mmr_pool)
    free = slots - len(pins)
    steps = free + (explore_pool if epsilon > 0.0 else 0)
    order = diversity_order(
        order, relevance, rows, pin_rows, pins, vectors, mmr_lambda, mmr_pool, steps,
        min(free, cap_first - early_pins), cap, counts, cat_indptr, cat_values,
    )  # fmt: skip

    n = len(shown)
    start = np.zeros(n + 1, np.int64)
    found_rows = np.empty(n * (max(explore_pool, 1) + 1), np.int32)
    chance = np.empty(len(found_rows))
    used = np.zeros(len(order), np.bool_)
    at, written = 0, 0
    for slot in range(slots):
        if at >= n:
            break
        if pin_at[slot] >= 0:
            found_rows[written], chance[written] = pin_rows[pin_at[slot]], 1.0
            written += 1
        else:
            limit = cap if at < cap_first else 0
            wanted = explore_pool if epsilon > 0.0 and at + 1 >= first_slot else 0
            best, first = -1, written
            for place in range(len(order)):
                if used[place] or not _fits(rows[order[place]], limit, counts, cat_indptr, cat_values):
                    continue
                if best < 0:
                    best = place
                if written - first < wanted and relevance[order[place]] >= floor:
                    found_rows[written] = rows[order[place]]
                    written += 1
                if written - first >= wanted:
                    break
            if best < 0:
                continue
            drawn = written - first
            there = False
            for j in range(first, written):
                chance[j] = epsilon / drawn
                if found_rows[j] == rows[order[best]]:
                    chance[j] += 1.0 - epsilon
                    there = True
            if not there:
                found_rows[written] = rows[order[best]]
                chance[written] = 1.0 - epsilon if drawn > 0 else 1.0
                written += 1
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
