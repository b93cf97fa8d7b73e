"""Filters and rules against a plain reading of each item."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from slate_oracle import catalog

from honeyguide.errors import RequestError
from honeyguide.schema.wire import Filters
from honeyguide.slate.rules import REASONS, CatalogRules, RulesConfig

N = 12
NAN = float("nan")
VIEW = catalog(
    N,
    [[i % 3] if i % 4 else [0, 2] for i in range(N)],
    3,
    year=[1990.0 + i if i % 5 else NAN for i in range(N)],
    price=[float(i) if i % 3 else NAN for i in range(N)],
    available=[i != 7 for i in range(N)],
    country=[(i % 3) - 1 for i in range(N)],
    people=[[i % 2] if i % 3 else [] for i in range(N)],
)

filters = st.builds(
    Filters,
    categories=st.lists(st.sampled_from(["c0", "c1", "c2", "nothing"]), max_size=2),
    people=st.lists(st.sampled_from(["p0", "p1", "p2"]), max_size=1),
    countries=st.lists(st.sampled_from(["k0", "k1", "nowhere"]), max_size=2),
    year_min=st.none() | st.integers(1988, 1995),
    year_max=st.none() | st.integers(1995, 2003),
    price_min=st.none() | st.floats(0, 5),
    price_max=st.none() | st.floats(5, 12),
    allow=st.lists(st.sampled_from([str(i) for i in range(N)] + ["unknown"]), max_size=8),
    deny=st.lists(st.sampled_from([str(i) for i in range(N)] + ["unknown"]), max_size=3),
)


def passes(row: int, wanted: Filters) -> bool:
    def inside(value: float, low: float | None, high: float | None) -> bool:
        if low is None and high is None:
            return True
        return value == value and (low is None or value >= low) and (high is None or value <= high)

    names = {f"c{code}" for code in VIEW.category.row(row)}
    people = {f"p{code}" for code in VIEW.people.row(row)}
    country = f"k{VIEW.country[row]}"
    return (
        bool(VIEW.available[row])
        and (not wanted.categories or bool(names & set(wanted.categories)))
        and (not wanted.people or bool(people & set(wanted.people)))
        and (not wanted.countries or country in wanted.countries)
        and inside(float(VIEW.year[row]), wanted.year_min, wanted.year_max)
        and inside(float(VIEW.price[row]), wanted.price_min, wanted.price_max)
        and (not wanted.allow or str(row) in wanted.allow)
        and str(row) not in wanted.deny
    )


@given(filters)
@settings(max_examples=150)
def test_filters_do_what_they_say(wanted: Filters) -> None:
    rules = CatalogRules(RulesConfig(), VIEW)
    assert rules.mask(wanted).tolist() == [passes(row, wanted) for row in range(N)]
    assert {int(code) for code in rules.barred(wanted)} <= {0, *REASONS}


def test_each_removal_has_its_reason() -> None:
    rules = CatalogRules(RulesConfig(deny=("1", "unknown"), deny_categories=("c2",)), VIEW)
    names = [REASONS.get(int(code)) for code in rules.barred(Filters(year_min=1996, deny=["9"], people=["p0"]))]
    assert names[7] == "unavailable"
    assert names[1] == names[0] == names[2] == "rule_deny"
    assert names[9] == "filter_deny"
    assert names[3] == "filter_people"
    assert names[10] == "filter_year"  # unknown
    assert rules.barred(Filters(people=["p0"]))[10] == 0


def test_no_filter_is_the_availability_and_costs_no_copy() -> None:
    rules = CatalogRules(RulesConfig(), VIEW)
    assert rules.barred() is rules.barred(Filters())
    assert rules.mask().tolist() == VIEW.available.tolist()
    assert not rules.barred().flags.writeable


def test_filter_sets_are_remembered_and_forgotten() -> None:
    rules = CatalogRules(RulesConfig(), VIEW, memory=2)
    first = rules.barred(Filters(year_min=1991))
    assert rules.barred(Filters(year_min=1991)) is first
    for year in (1992, 1993):
        rules.barred(Filters(year_min=year))
    assert rules.barred(Filters(year_min=1991)) is not first
    assert np.array_equal(rules.barred(Filters(year_min=1991)), first)


@pytest.mark.parametrize("upside_down", [Filters(year_min=2000, year_max=1990), Filters(price_min=2, price_max=1)])
def test_a_range_that_is_upside_down_is_refused(upside_down: Filters) -> None:
    with pytest.raises(RequestError, match="_min <= "):
        CatalogRules(RulesConfig(), VIEW).barred(upside_down)
