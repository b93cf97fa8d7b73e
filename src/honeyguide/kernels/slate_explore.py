"""Exploration, slot by slot: what chance may put where, with which probability, and the draw itself."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

__all__ = [
    "FIRST_SLOT",
    "FLOOR",
    "INVERSE_GAP",
    "KIND",
    "KNOBS",
    "MIXTURE",
    "MOST_SLOTS",
    "NEW_SHARE",
    "PARAMETER",
    "POOL",
    "RELATIVE",
    "SHARE",
    "SOFTMAX",
    "UNIFORM",
    "choices",
    "fill_slots",
    "strengths",
]

UNIFORM, SOFTMAX, INVERSE_GAP, MIXTURE = 0, 1, 2, 3
"""How chance chooses among the pool: evenly, by exp(strength / T), by inverse gaps, as one of several rankings does."""

KIND, SHARE, PARAMETER, POOL, FLOOR, FIRST_SLOT, MOST_SLOTS, NEW_SHARE, RELATIVE, KNOBS = 0, 1, 2, 3, 4, 5, 6, 7, 8, 9
"""Places in `plan`, float64 (KNOBS,). PARAMETER: the temperature, or gamma. MOST_SLOTS: of a list, -1 = any number.
RELATIVE: 1 = strengths are relevances, not utilities."""

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


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
def _uniform(seed: Any, counter: Any) -> Any:
    """Number `counter` of the stream `seed`, in [0, 1): SplitMix64 (Steele, Lea and Flood 2014)."""
    z = seed + _GOLDEN * (np.uint64(counter) + np.uint64(1))
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    return np.float64(z >> np.uint64(11)) * 2.0**-53


@njit(cache=True, nogil=True)
def strengths(order: Any, utility: Any, relevance: Any, plan: Any) -> Any:
    """Worth of each place of `order`: the utilities (or relevances) themselves, best first, -inf where there is none.

    Diversity moves an item to a place; with the place comes its worth, so the likeliest list is the diversified one.
    Empty where the plan asks for none.
    """
    if plan[KIND] == UNIFORM or plan[SHARE] <= 0.0:
        return np.empty(0)
    worth = np.full(len(order), -np.inf)
    n = 0
    for i in order:
        if not np.isnan(utility[i]):
            worth[n] = relevance[i] if plan[RELATIVE] != 0.0 else utility[i]
            n += 1
    worth[:n] = np.sort(worth[:n])[::-1]
    return worth


@njit(cache=True, nogil=True)
def _spread(found: Any, places: Any, mass: Any, order: Any, strength: Any, deviation: Any, plan: Any) -> Any:
    """mass[:found] = share x the chance of each place of the pool, as the kind has it."""
    kind, share, parameter = plan[KIND], plan[SHARE], plan[PARAMETER]
    if kind == UNIFORM:
        mass[:found] = share / found
        return
    if kind == MIXTURE:
        rankings = deviation.shape[1]
        mass[:found] = 0.0
        for b in range(rankings):
            first, highest = 0, -np.inf
            for j in range(found):
                value = strength[places[j]] + deviation[order[places[j]], b]
                if value > highest:
                    first, highest = j, value
            mass[first] += share / rankings
        return
    top = strength[places[0]]  # places ascend, and strengths fall with them
    if kind == SOFTMAX:
        total = 0.0
        for j in range(found):
            mass[j] = np.exp((strength[places[j]] - top) / parameter)
            total += mass[j]
        for j in range(found):
            mass[j] *= share / total
        return
    rest = 1.0
    for j in range(1, found):
        chance = 1.0 / (found + parameter * (top - strength[places[j]]))
        mass[j] = share * chance
        rest -= chance
    mass[0] = share * rest


@njit(cache=True, nogil=True)
def choices(
    order: Any,
    relevance: Any,
    strength: Any,
    rows: Any,
    allowed: Any,
    new: Any,
    deviation: Any,
    plan: Any,
    explores: Any,
    used: Any,
    head: Any,
    limit: Any,
    counts: Any,
    cat_indptr: Any,
    cat_values: Any,
    passed: Any,
    places: Any,
    mass: Any,
) -> Any:
    """What one slot may show: the place of the best left (-1: nothing fits), and what chance may put there instead.

    places[:n] with mass[:n]: first the `found` of the pool, then the new items; a place may be in both, or the best.
    The best has what is left of 1 besides. Returns (best, found, n, mass of the best beyond its own entries).
    allowed: uint8 by candidate, or empty: all. new: uint8 by item row; rows beyond it are new. `passed` marks whom the
    cap passed over. Sources: Plackett-Luce: Plackett 1975; inverse gap weighting: Foster and Rakhlin 2020, eq. 3.
    """
    wanted = int(plan[POOL]) if explores and plan[SHARE] > 0.0 else 0
    seeks_new = explores and plan[NEW_SHARE] > 0.0
    floor = plan[FLOOR]
    best, found, n_new = -1, 0, 0
    last = len(places) - 1
    for place in range(head, len(order)):
        if used[place]:
            continue
        i = order[place]
        if not _fits(rows[i], limit, counts, cat_indptr, cat_values):
            passed[i] |= best < 0
            continue
        if best < 0:
            best = place
        if explores and relevance[i] >= floor and (len(allowed) == 0 or allowed[i] != 0):
            if found < wanted:
                places[found] = place
                found += 1
            if seeks_new and (rows[i] >= len(new) or new[rows[i]] != 0):
                # The new ones are kept at the far end until it is known how large the pool is.
                places[last - n_new] = place
                n_new += 1
        if found >= wanted and not seeks_new:
            break
    own = 1.0
    if found > 0:
        _spread(found, places, mass, order, strength, deviation, plan)
        own -= plan[SHARE]
    for j in range(n_new):
        places[found + j] = places[last - n_new + 1 + j]
        mass[found + j] = plan[NEW_SHARE] / n_new
    if n_new > 0:
        own -= plan[NEW_SHARE]
    return best, found, found + n_new, own


@njit(cache=True, nogil=True)
def room_for_choices(order: Any, plan: Any) -> Any:
    """How long `places` and `mass` must be."""
    return max(int(plan[POOL]), 1) + (2 * len(order) if plan[NEW_SHARE] > 0.0 else 0)


@njit(cache=True, nogil=True)
def _drawn(found: Any, n: Any, mass: Any, plan: Any, seed: Any, slot: Any) -> Any:
    """Which entry of `choices` the request's chance takes in this slot, -1 for the best."""
    first = _uniform(seed, 2 * slot)
    if found > 0 and first < plan[SHARE]:
        second = _uniform(seed, 2 * slot + 1)
        if plan[KIND] == UNIFORM:
            return min(int(second * found), found - 1)
        left, last = second * plan[SHARE], 0
        for j in range(found):
            if mass[j] > 0.0:
                last = j
                left -= mass[j]
                if left < 0.0:
                    break
        return last
    if n > found and first >= 1.0 - plan[NEW_SHARE]:
        return found + min(int(_uniform(seed, 2 * slot + 1) * (n - found)), n - found - 1)
    return -1


@njit(cache=True, nogil=True)
def fill_slots(
    order: Any,
    relevance: Any,
    strength: Any,
    rows: Any,
    pin_at: Any,
    cap: Any,
    cap_first: Any,
    counts: Any,
    cat_indptr: Any,
    cat_values: Any,
    allowed: Any,
    new: Any,
    deviation: Any,
    plan: Any,
    seed: Any,
) -> Any:
    """Slot by slot: a pin where there is one, else the best left in `order`, or what chance draws of `choices`.

    pin_at: int32 (k,), a pin's number or -1. Slots before the plan's first never explore, and no slot does once the
    list holds as many explored ones as the plan allows. Returns candidate index (pins: -1 - number), propensity given
    the slots before, the chance that it was to be another one than the best left, explored, passed over by the cap.
    The list is as long as there are items: where nothing fits, what follows moves up. `counts` is changed.
    """
    slots = len(pin_at)
    index = np.empty(slots, np.int32)
    propensity = np.ones(slots)
    aside = np.zeros(slots)
    explored = np.zeros(slots, np.bool_)
    used = np.zeros(len(order), np.bool_)
    passed = np.zeros(len(rows), np.bool_)
    size = room_for_choices(order, plan)
    places, mass = np.empty(size, np.int32), np.empty(size)
    head = shown = so_far = 0
    for slot in range(slots):
        if pin_at[slot] >= 0:
            index[shown] = -1 - pin_at[slot]
            shown += 1
            continue
        limit = cap if shown < cap_first else 0
        explores = shown + 1 >= plan[FIRST_SLOT] and (plan[MOST_SLOTS] < 0 or so_far < plan[MOST_SLOTS])
        while head < len(order) and used[head]:
            head += 1
        best, found, n, own = choices(
            order, relevance, strength, rows, allowed, new, deviation, plan, explores, used, head, limit,
            counts, cat_indptr, cat_values, passed, places, mass,
        )  # fmt: skip
        if best < 0:
            continue
        chosen = best
        if n > 0:
            taken = _drawn(found, n, mass, plan, seed, slot)
            if taken >= 0:
                chosen = places[taken]
            propensity[shown] = own if chosen == best else 0.0
            of_best = own
            for j in range(n):
                if places[j] == chosen:
                    propensity[shown] += mass[j]
                if places[j] == best:
                    of_best += mass[j]
            aside[shown] = max(1.0 - of_best, 0.0)
        used[chosen] = True
        index[shown] = order[chosen]
        explored[shown] = chosen != best
        so_far += chosen != best
        if limit > 0:
            _count(rows[order[chosen]], 1, counts, cat_indptr, cat_values)
        shown += 1
    return index[:shown], propensity[:shown], aside[:shown], explored[:shown], passed
