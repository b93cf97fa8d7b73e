"""The order between items: greedy choice by relevance and by what a list already holds.

Candidates are named by their index in the arrays of the request; catalog arrays are read by item row.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from honeyguide.kernels.slate_explore import _count, _fits

__all__ = ["CALIBRATED", "DPP", "MMR", "SMOOTHING", "Diversity", "diversity_order"]

MMR, DPP, CALIBRATED = 0, 1, 2
SMOOTHING = 0.01
"""Share of the target in a list's own distribution, so that no label of the target is missing (Steck 2018, eq. 7)."""
_SHRINK = 0.999  # of cosines in a determinant: more items than dimensions must not make it zero
_LEAST = 1e-12


class Diversity(NamedTuple):
    """How to order. `share`: of relevance in what is maximised, 1 = the order of the utility.

    vectors: float32 (items, d), rows of length 1 or 0; rows beyond it count as 0. labels by item row, int64
    (items + 1,) and int32; target: float64 (labels,), summing to one, or zeros. groups: uint8 by item row, a bit per
    group (empty: no groups); least: float64 (groups,), each group's least share of every first part of the list.
    """

    kind: int
    share: float
    pool: int
    vectors: npt.NDArray[np.float32]
    label_indptr: npt.NDArray[np.int64]
    label_values: npt.NDArray[np.int32]
    target: npt.NDArray[np.float64]
    groups: npt.NDArray[np.uint8]
    least: npt.NDArray[np.float64]


@njit(cache=True, nogil=True)
def _similarities(row: Any, pool: Any, vectors: Any) -> Any:
    """pool[:, j] . vectors[row], float32 (pool,); the inner loop runs over j, so no sum is reordered."""
    similarity = np.zeros(pool.shape[1], np.float32)
    if row < len(vectors):
        for t in range(vectors.shape[1]):
            factor = vectors[row, t]
            line = pool[t]
            for j in range(len(similarity)):
                similarity[j] += line[j] * factor
    return similarity


@njit(cache=True, nogil=True)
def _raise_similarity(highest: Any, row: Any, pool: Any, vectors: Any) -> Any:
    """highest[j] = max(highest[j], cosine to the row)."""
    if row >= len(vectors):
        return
    similarity = _similarities(row, pool, vectors)
    for j in range(len(highest)):
        highest[j] = max(highest[j], similarity[j])


@njit(cache=True, nogil=True)
def _condition(left: Any, factors: Any, known: Any, at: Any, row: Any, pool: Any, vectors: Any) -> Any:
    """Condition a determinantal process on column `at`: the Cholesky update of Chen et al. 2018, algorithm 1.

    left: float64 (columns,), by how much each would multiply the determinant; factors: float64 (chosen, columns), the
    first `known` rows of the Cholesky factor. row: of the column's item.
    """
    similarity = _similarities(row, pool, vectors)
    root = np.sqrt(max(left[at], _LEAST))
    for j in range(len(left)):
        inner = _SHRINK * similarity[j]
        for s in range(known):
            inner -= factors[s, j] * factors[s, at]
        factors[known, j] = inner / root
    for j in range(len(left)):
        left[j] -= factors[known, j] ** 2


@njit(cache=True, nogil=True)
def _told(target: Any, held: Any, n: Any, parts: Any) -> Any:
    """The divergence of a list of n items from the target; `parts` gets what each label gives of it."""
    total = 0.0
    for label in range(len(target)):
        if target[label] > 0.0:
            share = held[label] / n if n > 0.0 else 0.0
            smooth = (1.0 - SMOOTHING) * share + SMOOTHING * target[label]
            parts[label] = target[label] * np.log(target[label] / smooth)
            total += parts[label]
    return total


@njit(cache=True, nogil=True)
def _gap_with(row: Any, indptr: Any, values: Any, target: Any, held: Any, n: Any, parts: Any, total: Any) -> Any:
    """The divergence of the list with the row added; parts and total: of `_told` for n + 1 items without it."""
    first, last = indptr[row], indptr[row + 1]
    for c in range(first, last):
        label = values[c]
        if target[label] > 0.0:
            share = (held[label] + 1.0 / (last - first)) / (n + 1.0)
            total += (
                target[label] * np.log(target[label] / ((1.0 - SMOOTHING) * share + SMOOTHING * target[label]))
                - parts[label]
            )
    return total


@njit(cache=True, nogil=True)
def _label(row: Any, indptr: Any, values: Any, held: Any) -> Any:
    """Add the row's labels, one item in all, to what the list holds. How many items that is: 1, or 0 without one."""
    if row >= len(indptr) - 1 or indptr[row] == indptr[row + 1]:
        return 0.0
    share = 1.0 / (indptr[row + 1] - indptr[row])
    for c in range(indptr[row], indptr[row + 1]):
        held[values[c]] += share
    return 1.0


@njit(cache=True, nogil=True)
def _behind(groups: Any, least: Any, members: Any, length: Any, last: Any) -> Any:
    """The groups, a bit each, of which one must have place `length` (1 = first), so that all keep their shares.

    A group has its share of the first n places with floor(share x n) of them. A place must go to a group as soon as
    what groups lack of some first part, up to `last` places, is as much as there are places left in it.
    """
    if len(groups) == 0:
        return np.uint8(0)
    for n in range(length, last + 1):
        bits, lacking = np.uint8(0), 0
        for g in range(len(least)):
            lack = int(np.floor(least[g] * n + 1e-9)) - members[g]
            if lack > 0:
                bits |= np.uint8(1 << g)
                lacking += lack
        if lacking > n - length:
            return bits
    return np.uint8(0)


@njit(cache=True, nogil=True)
def _join(row: Any, groups: Any, members: Any) -> Any:
    """Count the row in its groups."""
    if row < len(groups):
        for g in range(len(members)):
            members[g] += (groups[row] >> g) & 1


@njit(cache=True, nogil=True)
def diversity_order(
    order: Any,
    relevance: Any,
    rows: Any,
    pin_rows: Any,
    pins: Any,
    how: Any,
    steps: Any,
    capped_steps: Any,
    cap: Any,
    counts: Any,
    cat_indptr: Any,
    cat_values: Any,
) -> Any:
    """The candidates `order` (best utility first) reordered greedily.

    Of the first `how.pool` that have a relevance (>= 0) the next is, among those that fit under the cap (first
    `capped_steps` steps) and, where a group has less than its share, belong to such a group (if any of it fits), the
    one with the highest share x relevance + (1 - share) x gain; ties: the better utility. Chosen and pinned items are
    the list so far. The gain is
    MMR: minus the highest cosine to the list, at least 0 (Carbonell and Goldstein 1998);
    DPP: the logarithm by which the determinant of the list's cosines grows (Chen, Zhang and Zhou 2018);
    CALIBRATED: minus the divergence of the list's labels from `target` (Steck 2018).
    After `steps` choices the rest follows by utility. pins: which of `pin_rows` have a slot. `counts` is not changed.
    """
    size = 0
    while size < min(how.pool, len(order)) and relevance[order[size]] >= 0.0:
        size += 1
    counts = counts.copy()
    kind, share, vectors = how.kind, how.share, how.vectors
    by_vectors = share < 1.0 and kind != CALIBRATED and len(vectors) > 0
    by_labels = share < 1.0 and kind == CALIBRATED
    by_volume = by_vectors and kind == DPP
    # Columns of the pool: the candidates, then the pins, which are chosen before all others.
    columns = size + len(pins) if by_volume else size
    pool = np.zeros((vectors.shape[1] if by_vectors else 0, columns), np.float32)
    highest = np.zeros(size, np.float32)
    left, known = np.ones(columns if by_volume else 0), 0
    factors = np.zeros((len(pins) + min(steps, size) if by_volume else 0, columns))
    held, n_held = np.zeros(len(how.target) if by_labels else 0), 0.0
    parts, gap, total = np.zeros(len(held)), 0.0, 0.0
    members = np.zeros(len(how.least), np.int64)
    if by_vectors:
        for j in range(columns):
            row = rows[order[j]] if j < size else pin_rows[pins[j - size]]
            if row < len(vectors):
                for t in range(vectors.shape[1]):
                    pool[t, j] = vectors[row, t]
    for p in range(len(pins)):
        row = pin_rows[pins[p]]
        if by_volume:
            _condition(left, factors, known, size + p, row, pool, vectors)
            known += 1
        elif by_vectors:
            _raise_similarity(highest, row, pool, vectors)
        if by_labels:
            n_held += _label(row, how.label_indptr, how.label_values, held)
        _join(row, how.groups, members)
    result = np.empty(len(order), np.int32)
    taken = np.zeros(len(order), np.bool_)
    done = 0
    for step in range(min(steps, size)):
        limit = cap if step < capped_steps else 0
        wanted = _behind(how.groups, how.least, members, len(pins) + step + 1, len(pins) + min(steps, size))
        if by_labels:
            gap = _told(how.target, held, n_held, parts)
            total = _told(how.target, held, n_held + 1.0, parts)
        best, best_value, bound = -1, -np.inf, False
        for j in range(size):
            if not taken[j]:
                row = rows[order[j]]
                needed = wanted != 0 and row < len(how.groups) and (how.groups[row] & wanted) != 0
                if bound and not needed:
                    continue
                value = share * relevance[order[j]]
                if by_volume:
                    value += (1.0 - share) * np.log(max(left[j], _LEAST))
                elif by_vectors:
                    value -= (1.0 - share) * highest[j]
                elif by_labels:
                    labelled = row < len(how.label_indptr) - 1 and how.label_indptr[row] < how.label_indptr[row + 1]
                    value -= (1.0 - share) * (
                        _gap_with(row, how.label_indptr, how.label_values, how.target, held, n_held, parts, total)
                        if labelled
                        else gap
                    )
                if (value > best_value or (needed and not bound)) and _fits(row, limit, counts, cat_indptr, cat_values):
                    best, best_value, bound = j, value, needed
        if best < 0:
            break
        row = rows[order[best]]
        taken[best] = True
        result[done] = order[best]
        done += 1
        if limit > 0:
            _count(row, 1, counts, cat_indptr, cat_values)
        if by_volume:
            _condition(left, factors, known, best, row, pool, vectors)
            known += 1
        elif by_vectors:
            _raise_similarity(highest, row, pool, vectors)
        if by_labels:
            n_held += _label(row, how.label_indptr, how.label_values, held)
        _join(row, how.groups, members)
    for j in range(len(order)):
        if not taken[j]:
            result[done] = order[j]
            done += 1
    return result
