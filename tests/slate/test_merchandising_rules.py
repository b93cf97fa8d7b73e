"""Merchandising rules by hand, and against plain loops."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from honeyguide.slate.merchandising import MerchRule, RuleBook, certain, conflicts, lifts, moved

NOW = dt.datetime(2026, 11, 20, 12, tzinfo=dt.UTC)


def rule(do: str = "pin", **given: Any) -> MerchRule:
    told = {"id": f"{do}-{len(str(given))}", "do": do, "items": ["a"], "query": "red shoes"} | given
    return MerchRule.model_validate({key: value for key, value in told.items() if value is not None})


def holds(one: MerchRule, query: str | None = None, categories: tuple[str, ...] = (), surface: str = "search") -> bool:
    def stems(words: Any, language: str) -> tuple[str, ...]:
        return tuple(word.removesuffix("s") for word in words)

    return bool(RuleBook([one], stems).holding(NOW, surface, query=query, categories=categories))


def test_which_lists_a_rule_holds_on() -> None:
    exact = rule()
    assert holds(exact, "  RED   Shoés!")
    assert not holds(exact, "red shoe")
    assert not holds(exact, "shoes red")
    within = rule(match="contains")
    assert holds(within, "cheap red shoes for men")
    assert not holds(within, "red cheap shoes")
    assert not holds(within, "infrared shoes")
    stemmed = rule(match="language", language="en")
    assert holds(stemmed, "shoe red")
    assert not holds(stemmed, "shoe red red")
    page = rule(query=None, category="Shoes")
    assert holds(page, None, ("Shoes",))
    assert holds(page, "anything", ("Hats", "Shoes"))
    assert not holds(page, "Shoes")
    both = rule(category="Shoes")
    assert holds(both, "red shoes", ("Shoes",))
    assert not holds(both, "red shoes")
    assert not holds(rule(surfaces=["home"]), "red shoes")
    assert holds(rule(surfaces=["home"]), "red shoes", surface="home")


def test_dates() -> None:
    assert rule(starts="2026-11-20", ends="2026-11-20").state(NOW) == "active"  # a bare date is its whole day
    assert rule(ends="2026-11-19").state(NOW) == "over"
    assert rule(ends="2026-11-20T12:00:00Z").state(NOW) == "over"
    assert rule(starts="2026-11-20T14:00:00+01:00").state(NOW) == "waiting"
    assert not holds(rule(starts="2026-12-01"), "red shoes")


@pytest.mark.parametrize(
    "given",
    [
        {"items": []}, {"query": None}, {"query": "?!"}, {"categories": ["Shoes"]}, {"position": 0}, {"position": 201},
        {"match": "language"}, {"items": ["a", "a"]}, {"starts": "2026-12-02", "ends": "2026-12-01"}, {"id": "a b"},
        {"do": "promote"}, {"places": 0}, {"colour": "red"}, {"ends": "2026-13-01"},
        {"items": ["x"] * 2}, {"position": 200, "items": ["a", "b"]}, {"language": "german", "match": "language"},
    ],
)  # fmt: skip
def test_what_is_no_rule(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        rule(**given)


def test_fights_are_settled_hide_before_pin_before_the_rest_and_the_earlier_pin_first() -> None:
    book = RuleBook([
        rule(id="first", items=["a", "b"], position=2), rule(id="second", items=["c", "a"], position=3),
        rule("hide", id="gone", items=["b", "d"]), rule("boost", id="up", items=["c", "d", "e"], places=3),
        rule("bury", id="down", items=["e"], places=1),
    ])  # fmt: skip
    plan = book.plan(NOW, "search", query="red shoes")
    assert plan.pins == ((2, "a", "first"), (3, "c", "second"))  # b is hidden, so its slot is free
    assert plan.hidden == {"b": "gone", "d": "gone"}
    assert [(one.id, places) for one, places in plan.shifts] == [("up", 3), ("down", -1)]
    assert set(plan.overruled) == {
        ("first", "b", "gone"), ("second", "a", "first"), ("up", "c", "second"), ("up", "d", "gone"),
    }  # fmt: skip
    assert not book.plan(NOW, "search", query="blue shoes")
    taken = RuleBook([rule(id="one", position=1), rule(id="two", items=["b"], position=1)])
    plan = taken.plan(NOW, "search", query="red shoes")
    assert plan.pins == ((1, "a", "one"), (2, "b", "two"))
    assert plan.overruled == (("two", "b", "one"),)


def test_conflicts_are_found_where_two_rules_meet_and_only_there() -> None:
    pin, hide = rule(id="pin"), rule("hide", id="hide")
    assert [(c.first, c.second) for c in conflicts([pin, hide])] == [("pin", "hide")]
    assert not conflicts([pin, rule("hide", id="hide", items=["b"])])
    assert not conflicts([pin, rule("hide", id="hide", query="blue shoes")])
    assert conflicts([pin, rule("hide", id="hide", query="shoes", match="contains")])
    assert not conflicts([pin, rule("hide", id="hide", query="shoes")])
    assert not conflicts([rule(id="p", ends="2026-11-01"), rule("hide", id="h", starts="2026-11-02")])
    assert not conflicts([rule(id="p", surfaces=["home"]), rule("hide", id="h", surfaces=["search"])])
    assert not conflicts([rule(id="p", query=None, category="A"), rule("hide", id="h", query=None, category="B")])
    assert conflicts([rule(id="p", query=None, category="A"), rule("hide", id="h", query=None, category="A")])
    same_slot = conflicts([rule(id="one", items=["a"]), rule(id="two", items=["b"])])
    assert "slot 1: a or b" in same_slot[0].about
    two_slots = conflicts([rule(id="one", items=["a"], position=1), rule(id="two", items=["a"], position=5)])
    assert "slot 1 or 5" in two_slots[0].about
    assert conflicts([rule("boost", id="up"), rule("bury", id="down")])
    assert conflicts([
        rule("boost", id="up", items=[], categories=["A"]), rule("hide", id="h", items=[], categories=["A"])
    ])  # fmt: skip
    assert not conflicts([rule("boost", id="up"), rule("boost", id="more")])


def one_by_one(shifts: list[int]) -> list[int]:
    """The same order by a plain rule: compare the places wanted, who rises first, who falls last."""
    return sorted(range(len(shifts)), key=lambda at: (at - shifts[at], -int(np.sign(shifts[at])), at))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from([0, 0, 0, 0, 1, 3, 20, -1, -4]), min_size=1, max_size=60), st.data())
def test_moves_are_those_of_plain_sorting_and_every_page_is_a_piece_of_one_list(
    shifts: list[int], data: st.DataObject
) -> None:
    whole = moved(np.array(shifts, np.int64)).tolist()
    assert whole == one_by_one(shifts)
    known = data.draw(st.integers(1, len(shifts)))
    most = max(max(shifts), 0)
    part = np.array(shifts[:known], np.int64)
    sure = certain(part, most, len(shifts))
    assert moved(part).tolist()[:sure] == whole[:sure]
    if not any(shifts):
        assert whole == list(range(len(shifts)))


def test_a_single_boost_takes_the_place_it_asks_for_and_a_bury_too() -> None:
    shifts = np.zeros(10, np.int64)
    shifts[6] = 4
    assert moved(shifts).tolist() == [0, 1, 6, 2, 3, 4, 5, 7, 8, 9]
    shifts = np.zeros(10, np.int64)
    shifts[2] = -4
    assert moved(shifts).tolist() == [0, 1, 3, 4, 5, 6, 2, 7, 8, 9]


def test_lifts_move_a_utility_by_places() -> None:
    utility = np.array([0.9, 0.5, np.nan, 0.7, 0.1])  # places: 0, 2, -, 1, 3
    order = lambda shifts: np.argsort(-(utility + lifts(utility, np.array(shifts))), kind="stable")[:4].tolist()  # noqa: E731
    assert order([0, 0, 0, 0, 0]) == [0, 3, 1, 4]
    assert order([0, 0, 0, 0, 2]) == [0, 4, 3, 1]
    assert order([-2, 0, 0, 0, 0]) == [3, 1, 0, 4]
    assert order([0, 0, 5, 0, 99]) == [4, 0, 3, 1]
