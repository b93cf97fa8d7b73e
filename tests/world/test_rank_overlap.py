"""Rank-biased overlap against its definition, added up slot by slot without an end."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from honeyguide.kernels.rank_overlap import rank_biased_overlap

lists = st.lists(st.integers(0, 9), unique=True, max_size=8)


def by_definition(one: list[int], other: list[int], p: float) -> float:
    """Equal lengths: the sum of (1 - p) p^(d-1) x agreement at depth d, the last agreement going on."""
    n = len(one)
    agreements = [len({*one[:d]} & {*other[:d]}) / d for d in range(1, n + 1)]
    return sum((1 - p) * p ** (d - 1) * agreements[min(d, n) - 1] for d in range(1, 2_000))


@given(st.permutations(range(8)), st.permutations(range(5, 13)), st.sampled_from([0.5, 0.9]))
def test_lists_of_one_length_are_as_defined(one: list[int], other: list[int], p: float) -> None:
    assert rank_biased_overlap(one, other, p) == pytest.approx(by_definition(one, other, p), abs=1e-9)


@given(lists, lists)
def test_laws(one: list[int], other: list[int]) -> None:
    value = rank_biased_overlap(one, other)
    assert -1e-12 <= value <= 1.0 + 1e-12
    assert value == pytest.approx(rank_biased_overlap(other, one))
    assert rank_biased_overlap(one, one) == pytest.approx(1.0)
    if not {*one} & {*other} and (one or other):
        assert value == pytest.approx(0.0)


def test_by_hand() -> None:
    assert rank_biased_overlap([], []) == 1.0
    assert rank_biased_overlap([1], []) == 0.0
    # The first differs, from the second on all are common: 1 - (1 - p).
    assert rank_biased_overlap([1, 2], [2, 1], 0.9) == pytest.approx(0.9)
    # The top counts more than the tail.
    assert rank_biased_overlap([1, 2, 3], [9, 2, 3]) < rank_biased_overlap([1, 2, 3], [1, 2, 9])
