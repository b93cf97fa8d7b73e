"""Quality of ranked lists and of probabilities.

A list is a row of item rows, best first, padded with -1. An item that stands twice in a list counts once, where it
stands first. What is relevant comes as ragged rows; a repeated item in a row counts once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

__all__ = [
    "AVERAGE_PRECISION",
    "DIVERSITY",
    "HIT_RATE",
    "NDCG",
    "NOVELTY",
    "PRECISION",
    "RECALL",
    "RECIPROCAL_RANK",
    "calibration_error",
    "judge_lists",
    "self_information",
]

NDCG, RECALL, PRECISION, HIT_RATE, AVERAGE_PRECISION, RECIPROCAL_RANK, NOVELTY, DIVERSITY = range(8)


@njit(cache=True, nogil=True)
def _place_gains(ranked: Any, relevant: Any, grades: Any, gain: Any, ideal: Any) -> Any:
    """Write the gain of each place and those of all relevant items, highest first; returns how many are relevant."""
    gain[:] = 0.0
    n = 0
    ascending = True
    for r in range(1, len(relevant)):
        if relevant[r] <= relevant[r - 1]:
            ascending = False
    for r in range(len(relevant)):
        item = relevant[r]
        grade = grades[r] if len(grades) > 0 else 1.0
        repeated = False
        if not ascending:
            for q in range(r):
                if relevant[q] == item:
                    repeated = True
        if item < 0 or not grade > 0.0 or repeated:
            continue
        place = n
        while place > 0 and ideal[place - 1] < grade:
            ideal[place] = ideal[place - 1]
            place -= 1
        ideal[place] = grade
        n += 1
        for place in range(len(ranked)):
            if ranked[place] == item:
                gain[place] = grade
                break
    return n


@njit(cache=True, nogil=True)
def _relevance_metric(kind: Any, cut: Any, width: Any, gain: Any, ideal: Any, n_relevant: Any, discount: Any) -> Any:
    """One metric of one list. `cut` is the cut-off, at least `width` = how many places of the list are looked at."""
    hits = 0
    total = 0.0
    first = 0
    for place in range(width):
        if gain[place] > 0.0:
            hits += 1
            if kind == NDCG:
                total += gain[place] * discount[place]
            elif kind == AVERAGE_PRECISION:
                total += hits / (place + 1.0)
            if first == 0:
                first = place + 1
    if kind == NDCG:
        best = 0.0
        for place in range(min(n_relevant, cut)):
            best += ideal[place] * discount[place]
        return total / best
    if kind == RECALL:
        return hits / n_relevant
    if kind == PRECISION:
        return hits / cut
    if kind == HIT_RATE:
        return 1.0 if hits > 0 else 0.0
    if kind == AVERAGE_PRECISION:
        return total / n_relevant
    return 1.0 / first if first > 0 else 0.0


@njit(cache=True, nogil=True)
def _list_metric(kind: Any, width: Any, ranked: Any, information: Any, vectors: Any, total: Any) -> Any:
    """Mean self-information, or mean of 1 - cosine over the pairs, of the items among the first `width` places."""
    items = 0
    value = 0.0
    if kind == NOVELTY:
        for place in range(width):
            if ranked[place] >= 0:
                items += 1
                value += information[ranked[place]]
        return value / items if items > 0 else np.nan
    # The sum over pairs follows from the length of the summed vector: |sum v|^2 = sum |v|^2 + 2 sum of the products.
    total[:] = 0.0
    squares = 0.0
    for place in range(width):
        if ranked[place] >= 0:
            items += 1
            vector = vectors[ranked[place]]
            for t in range(len(vector)):
                total[t] += vector[t]
                squares += np.float64(vector[t]) * vector[t]
    if items < 2:
        return np.nan
    for t in range(len(total)):
        value += total[t] * total[t]
    return 1.0 - (value - squares) / (items * (items - 1.0))


@njit(cache=True, nogil=True)
def judge_lists(
    ranked: Any,
    indptr: Any,
    relevant: Any,
    grades: Any,
    kinds: Any,
    cutoffs: Any,
    information: Any,
    vectors: Any,
    discount: Any,
    out: Any,
) -> Any:
    """Every metric of every list in one pass, into `out` float64 (metrics, n); nan where nothing is relevant.

    ranked: int32 (n, k). relevant int32 and grades float64 (empty: all 1): row i is [indptr[i]:indptr[i + 1]].
    kinds, cutoffs: int64 (metrics,); cut-off 0 is the whole list. information float64 and vectors float32 by item.
    discount: float64, 1 / log2(place + 2), as long as the longest of the lists, cut-offs and relevant rows.

    nDCG: linear gain, discount 1 / log2(rank + 1), ideal over all relevant items up to the cut-off (Jarvelin and
    Kekalainen 2002). Average precision divides by all relevant items, precision by the cut-off, as trec_eval does.
    """
    n, k = ranked.shape
    longest = 1
    for i in range(n):
        longest = max(longest, indptr[i + 1] - indptr[i])
    gain, ideal, total = np.zeros(k), np.zeros(longest), np.zeros(vectors.shape[1])
    no_grades = grades[:0]
    for i in range(n):
        low, high = indptr[i], indptr[i + 1]
        graded = len(grades) > 0
        n_relevant = _place_gains(ranked[i], relevant[low:high], grades[low:high] if graded else no_grades, gain, ideal)
        for m in range(len(kinds)):
            width = min(k, cutoffs[m]) if cutoffs[m] > 0 else k
            cut = cutoffs[m] if cutoffs[m] > 0 else (n_relevant if kinds[m] == NDCG else k)
            if kinds[m] >= NOVELTY:
                out[m, i] = _list_metric(kinds[m], width, ranked[i], information, vectors, total)
            elif n_relevant == 0:
                out[m, i] = np.nan
            else:
                out[m, i] = _relevance_metric(kinds[m], cut, width, gain, ideal, n_relevant, discount)


def self_information(people: npt.NDArray[np.int64], n_people: int) -> npt.NDArray[np.float64]:
    """Bits of surprise per item: log2(n_people / people who know it); an item nobody knows counts as known by one.

    Source: Zhou et al. 2010, "Solving the apparent diversity-accuracy dilemma of recommender systems".
    """
    return np.log2(max(n_people, 1) / np.maximum(people, 1))


def calibration_error(probability: npt.ArrayLike, outcome: npt.ArrayLike, bins: int = 15) -> float:
    """Expected calibration error in [0, 1]: mean distance between mean probability and rate, over bins of equal size.

    probability, outcome: (n,); nan in either is left out; nan if nothing is left. Equal probabilities fall into one
    bin, so the order of ties changes nothing. Source: Naeini, Cooper and Hauskrecht 2015 (equal-mass bins).
    """
    p, y = np.asarray(probability, np.float64), np.asarray(outcome, np.float64)
    keep = ~(np.isnan(p) | np.isnan(y))
    p, y = p[keep], y[keep]
    if len(p) == 0:
        return float("nan")
    edges = np.quantile(p, np.linspace(0.0, 1.0, bins + 1)[1:-1], method="inverted_cdf")
    which = np.searchsorted(np.unique(edges), p, side="left")
    gap = np.abs(np.bincount(which, weights=p) - np.bincount(which, weights=y))
    return float(gap.sum() / len(p))
