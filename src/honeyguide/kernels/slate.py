"""From scored candidates to a slate, in one compiled call.

The order is the contract: remove -> score -> diversify -> pin -> explore. Candidates are named by their index in the
arrays of the request; catalog arrays are read by item row. Nothing here depends on the order of the candidates.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

__all__ = [
    "CATEGORY_CAP",
    "DUPLICATE",
    "KEPT",
    "OUTRANKED",
    "PADDING",
    "PIN_BEYOND_SLOTS",
    "RULE_CODES_FROM",
    "SEEN",
    "UNKNOWN",
    "compose_slate",
    "diversity_order",
    "fill_slots",
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
RULE_CODES_FROM = 16  # codes from here on belong to the caller's `barred`

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
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
def remove(rows: Any, barred: Any, seen: Any, hide_seen: Any, table: Any) -> Any:
    """Which rule removes each candidate, uint8 (n,): 0 keeps it.

    rows: int32 (n,). barred: uint8 by item row, 0 = may be shown. seen: int32 (m,) rows. table: from `_table(rows)`.
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
) -> Any:
    """Utility of the candidates `which` (nan for the others), and the first head that is no probability (-1: none).

    utility = sum of probability_weights x scores + sum of weight x c / (c + rank - 1), where rank is the place of the
    score among `which`, 1 = best (Cormack, Clarke and Buettcher 2009, eq. 1, scaled so that the best is 1).
    scores: float64 (n, heads). A nan in anything that has a weight makes the utility nan.
    """
    utility = np.full(len(rows), np.nan)
    for i in which:
        utility[i] = 0.0
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
    return utility, -1


@njit(cache=True, nogil=True)
def _count(row: Any, by: Any, counts: Any, cat_indptr: Any, cat_values: Any) -> Any:
    """Add `by` to the counts of the row's categories."""
    if row < len(cat_indptr) - 1:
        for c in range(cat_indptr[row], cat_indptr[row + 1]):
            counts[cat_values[c]] += by


@njit(cache=True, nogil=True)
def _fits(row: Any, cap: Any, counts: Any, cat_indptr: Any, cat_values: Any) -> Any:
    """Whether each of the row's categories has room."""
    if cap > 0 and row < len(cat_indptr) - 1:
        for c in range(cat_indptr[row], cat_indptr[row + 1]):
            if counts[cat_values[c]] >= cap:
                return False
    return True


@njit(cache=True, nogil=True)
def _raise_similarity(highest: Any, row: Any, pool: Any, vectors: Any) -> Any:
    """highest[j] = max(highest[j], pool[:, j] . vectors[row]); the inner loop runs over j, so no sum is reordered."""
    if row >= len(vectors):
        return
    similarity = np.zeros(len(highest), np.float32)
    for t in range(vectors.shape[1]):
        factor = vectors[row, t]
        line = pool[t]
        for j in range(len(highest)):
            similarity[j] += line[j] * factor
    for j in range(len(highest)):
        highest[j] = max(highest[j], similarity[j])


@njit(cache=True, nogil=True)
def diversity_order(
    order: Any,
    relevance: Any,
    rows: Any,
    pin_rows: Any,
    pins: Any,
    vectors: Any,
    mmr_lambda: Any,
    pool_size: Any,
    steps: Any,
    capped_steps: Any,
    cap: Any,
    counts: Any,
    cat_indptr: Any,
    cat_values: Any,
) -> Any:
    """The candidates `order` (best utility first) reordered by maximal marginal relevance.

    Greedy over the first `pool_size` that have a relevance (>= 0): the next is the one that fits under the cap (first
    `capped_steps` steps) with the highest mmr_lambda x relevance - (1 - mmr_lambda) x (highest cosine to what was
    chosen or is pinned, at least 0); ties: the better utility. After `steps` choices the rest follows by utility.
    pins: which of `pin_rows` have a slot.
    vectors: float32 (items, d), rows of length 1 or 0; rows beyond it count as 0. `counts` is not changed.
    Source: Carbonell and Goldstein 1998.
    """
    size = 0
    while size < min(pool_size, len(order)) and relevance[order[size]] >= 0.0:
        size += 1
    counts = counts.copy()
    uses_vectors = mmr_lambda < 1.0 and len(vectors) > 0
    pool = np.zeros((vectors.shape[1] if uses_vectors else 0, size), np.float32)
    highest = np.zeros(size, np.float32)
    if uses_vectors:
        for j in range(size):
            if rows[order[j]] < len(vectors):
                for t in range(vectors.shape[1]):
                    pool[t, j] = vectors[rows[order[j]], t]
        for p in pins:
            _raise_similarity(highest, pin_rows[p], pool, vectors)
    result = np.empty(len(order), np.int32)
    taken = np.zeros(len(order), np.bool_)
    done = 0
    for step in range(min(steps, size)):
        limit = cap if step < capped_steps else 0
        best, best_value = -1, -np.inf
        for j in range(size):
            if not taken[j]:
                value = mmr_lambda * relevance[order[j]]
                if uses_vectors:
                    value -= (1.0 - mmr_lambda) * highest[j]
                if value > best_value and _fits(rows[order[j]], limit, counts, cat_indptr, cat_values):
                    best, best_value = j, value
        if best < 0:
            break
        taken[best] = True
        result[done] = order[best]
        done += 1
        if limit > 0:
            _count(rows[order[best]], 1, counts, cat_indptr, cat_values)
        if uses_vectors:
            _raise_similarity(highest, rows[order[best]], pool, vectors)
    for j in range(len(order)):
        if not taken[j]:
            result[done] = order[j]
            done += 1
    return result


@njit(cache=True, nogil=True)
def _uniform(seed: Any, counter: Any) -> Any:
    """Number `counter` of the stream `seed`, in [0, 1): SplitMix64 (Steele, Lea and Flood 2014)."""
    z = seed + _GOLDEN * (np.uint64(counter) + np.uint64(1))
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    return np.float64(z >> np.uint64(11)) * 2.0**-53


@njit(cache=True, nogil=True)
def fill_slots(
    order: Any,
    relevance: Any,
    rows: Any,
    pin_at: Any,
    cap: Any,
    cap_first: Any,
    counts: Any,
    cat_indptr: Any,
    cat_values: Any,
    epsilon: Any,
    pool_size: Any,
    floor: Any,
    first_slot: Any,
    seed: Any,
) -> Any:
    """Slot by slot: a pin where there is one, else the best left in `order` or, with `epsilon`, a draw.

    The draw is uniform over the first `pool_size` left that fit under the cap and have relevance >= `floor` (over the
    best alone if there are none), from slot `first_slot` (1 = first) on. pin_at: int32 (k,), a pin's number or -1.
    Returns candidate index (pins: -1 - number), propensity given the slots before, explored, passed over by the cap.
    The list is as long as there are items: where nothing fits, what follows moves up. `counts` is changed.
    """
    slots = len(pin_at)
    index = np.empty(slots, np.int32)
    propensity = np.ones(slots)
    explored = np.zeros(slots, np.bool_)
    used = np.zeros(len(order), np.bool_)
    passed = np.zeros(len(rows), np.bool_)
    pool = np.empty(max(pool_size, 1), np.int32)
    head = shown = 0
    for slot in range(slots):
        if pin_at[slot] >= 0:
            index[shown] = -1 - pin_at[slot]
            shown += 1
            continue
        limit = cap if shown < cap_first else 0
        wanted = pool_size if epsilon > 0.0 and shown + 1 >= first_slot else 0
        while head < len(order) and used[head]:
            head += 1
        best, found = -1, 0
        for place in range(head, len(order)):
            if used[place]:
                continue
            if not _fits(rows[order[place]], limit, counts, cat_indptr, cat_values):
                passed[order[place]] |= best < 0
                continue
            if best < 0:
                best = place
            if found < wanted and relevance[order[place]] >= floor:
                pool[found] = place
                found += 1
            if found >= wanted:
                break
        if best < 0:
            continue
        chosen = best
        if found > 0:
            if _uniform(seed, 2 * slot) < epsilon:
                chosen = pool[min(int(_uniform(seed, 2 * slot + 1) * found), found - 1)]
            propensity[shown] = 1.0 - epsilon if chosen == best else 0.0
            for j in range(found):
                if pool[j] == chosen:
                    propensity[shown] += epsilon / found
        used[chosen] = True
        index[shown] = order[chosen]
        explored[shown] = chosen != best
        if limit > 0:
            _count(rows[order[chosen]], 1, counts, cat_indptr, cat_values)
        shown += 1
    return index[:shown], propensity[:shown], explored[:shown], passed


@njit(cache=True, nogil=True)
def _place_pins(pin_rows: Any, pin_slots: Any, slots: Any, barred: Any, seen: Any, hide_seen: Any) -> Any:
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
    seed: Any,
) -> Any:
    """The whole slate: remove -> score -> diversify -> pin -> explore.

    rows int32 (n,), scores float64 (n, heads), blend float64 (n,); barred uint8, vectors float32 and categories by
    item row; counts int64 (categories,): what each category already holds (very negative: exempt from the cap).
    Returns by slot: row, candidate index (-1: a pin that is no candidate), utility, propensity, pinned, explored; by
    candidate: utility, dropped (0: shown); by pin: refused; and the first head whose scores are no probabilities (-1).
    """
    table = _table(rows)
    dropped = remove(rows, barred, seen, hide_seen, table)
    which = _kept(dropped)

    utility, bad_head = utilities(
        rows, scores, blend, which, probability_weights, rank_weights, blend_weight, rank_constant
    )

    pin_at, refused = _place_pins(pin_rows, pin_slots, slots, barred, seen, hide_seen)
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
    relevance = _relevance(order, utility, mmr_pool)

    free = slots - len(pins)
    steps = free + (explore_pool if epsilon > 0.0 else 0)
    order = diversity_order(
        order, relevance, rows, pin_rows, pins, vectors, mmr_lambda, mmr_pool, steps,
        min(free, cap_first - early_pins), cap, counts, cat_indptr, cat_values,
    )  # fmt: skip

    index, propensity, explored, passed = fill_slots(
        order, relevance, rows, pin_at, cap, cap_first, counts, cat_indptr, cat_values,
        epsilon, explore_pool, floor, first_slot, seed,
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
    return shown, index, value, propensity, pinned, explored, utility, dropped, refused, bad_head
