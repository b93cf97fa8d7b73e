"""What people were shown lately, against lists in memory: what is remembered, what is let go, what is erased."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from honeyguide.features.showings import Showings

SHOWN = st.lists(
    st.tuples(st.sampled_from(["a", "b", "c"]), st.lists(st.integers(-1, 9), max_size=4), st.integers(0, 3)),
    max_size=40,
)


@given(SHOWN, st.sampled_from([4, 7, 16, 10_000]), st.integers(0, 30))
@settings(max_examples=120, deadline=None)
def test_the_newest_of_everybody_are_remembered(lists, room: int, since: int) -> None:
    state, log, at = Showings(room), [], 0
    for who, items, later in lists:
        at += later
        state.add(who, np.array(items, np.int32), at)
        log += [(who, item, at) for item in [i for i in items if i >= 0][-room:]]
    kept = log[-room:]
    assert len(state) == min(len(log), room) if room <= 4_096 else len(state) == len(log)
    for who in ("a", "b", "c", "nobody"):
        rows, times = state.of(who, since)
        expected = [(item, moment) for name, item, moment in reversed(kept) if name == who and moment >= since]
        assert list(zip(rows.tolist(), times.tolist(), strict=True)) == expected


@given(SHOWN, st.sampled_from([5, 10_000]))
@settings(max_examples=60, deadline=None)
def test_an_erased_person_leaves_nothing_and_others_stay(lists, room: int) -> None:
    state, at = Showings(room), 0
    for who, items, later in lists:
        at += later
        state.add(who, items, at)
    before = {who: state.of(who, 0)[0].tolist() for who in ("b", "c")}
    had = len(state.of("a", 0)[0])
    assert state.erase("a") == had
    assert len(state.of("a", 0)[0]) == 0
    assert "a" not in state.people
    assert {who: state.of(who, 0)[0].tolist() for who in ("b", "c")} == before
    state.add("a", [3], at + 1)
    assert state.of("a", 0)[0].tolist() == [3]


def test_people_whose_showings_are_gone_are_dropped() -> None:
    state = Showings(10)
    for person in range(100):
        state.add(f"p{person}", [1], person)
    assert len(list(state.people)) <= 20
