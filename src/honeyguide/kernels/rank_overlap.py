"""How alike two ranked lists are."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["rank_biased_overlap"]


def rank_biased_overlap(one: Sequence[int], other: Sequence[int], p: float = 0.9) -> float:
    """Extrapolated rank-biased overlap of two lists of distinct items, 0 (nothing in common) to 1 (the same list).

    The mean share in common over all depths, depth d with weight p^(d - 1): at p = .9 the first ten carry 86 %. Below
    the lists' ends the share found there goes on. Two empty lists are the same.
    Source: Webber, Moffat and Zobel 2010, eq. 32.
    """
    short, long = sorted((list(one), list(other)), key=len)
    s, n = len(short), len(long)
    if n == 0:
        return 1.0
    if s == 0:
        return 0.0
    total, common, at_short = 0.0, 0, 0
    left: set[int] = set()
    right: set[int] = set()
    for d in range(1, n + 1):
        item = long[d - 1]
        left.add(item)
        common += item in right
        if d <= s:
            theirs = short[d - 1]
            right.add(theirs)
            common += theirs in left if theirs != item else 1
        if d == s:
            at_short = common
        total += common / d * p**d
        if d > s:
            total += at_short * (d - s) / (s * d) * p**d
    tail = ((common - at_short) / n + at_short / s) * p**n
    return (1.0 - p) / p * total + tail
