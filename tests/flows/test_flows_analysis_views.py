"""The views against cases worked by hand, and against plain loops."""

from __future__ import annotations

import datetime as dt
import itertools
import re
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from honeyguide.engines.tables.duckdb import Confined
from honeyguide.flows import analysis
from honeyguide.schema import columns as c

sys.path.insert(0, str(Path(__file__).parent))
from analysis_logs import BEGIN, WEIGHTS, at, random_log, see, tables


def did(user: str, when: dt.datetime, item: str = "i", action: str = "click", **more: Any) -> dict[str, Any]:
    return {c.USER_ID: user, c.HAPPENED_AT: when, c.ITEM_ID: item, c.ACTION: action, **more}


def shown(user: str, when: dt.datetime, *items: str, **more: Any) -> dict[str, Any]:
    return {c.USER_ID: user, c.HAPPENED_AT: when, c.SHOWN_ITEMS: list(items), **more}


# --- declarations


def test_every_column_means_one_thing_in_all_views() -> None:
    said: dict[str, tuple[str, str]] = {}
    for view in analysis.VIEWS.values():
        assert view.meaning.endswith(".")
        assert set(view.key) <= set(view.columns)
        assert len(set(view.columns)) == len(view.columns)
        for column in view.columns:
            assert said.setdefault(str(column), (column.dtype, column.meaning)) == (column.dtype, column.meaning), (
                column
            )


def test_the_docs_say_what_the_code_says() -> None:
    page = (Path(__file__).parents[2] / "docs" / "analysis.md").read_text(encoding="utf-8")
    for view in analysis.VIEWS.values():
        told = page.split(f"### `{view.name}`\n")[1].split("\n### ")[0]
        assert view.meaning in told
        for column in view.columns:
            assert re.search(rf"\| `{column}` \| {re.escape(column.dtype)}[^|]*\| {re.escape(column.meaning)} \|", told)


def test_a_log_without_rows_gives_empty_views_with_their_columns() -> None:
    with Confined({}, tables(), analysis.statements(analysis.VIEWS, WEIGHTS)) as confined:
        for name, view in analysis.VIEWS.items():
            table = confined.ask(f"SELECT * FROM {name}").table
            assert table.column_names == [str(column) for column in view.columns]
            assert table.num_rows == 0 or name == "catalog_health"
    amounts = {row["measure"]: row["amount"] for row in see("catalog_health", tables())}
    assert amounts["items"] == 0
    assert amounts["coverage_events"] is None
    assert amounts["gini_events"] is None


# --- events and their showings


def test_an_event_finds_its_showing_by_request_or_by_person() -> None:
    log = tables(
        [
            did("p", at(0, minutes=1), "a", request_id="r0"),
            did("p", at(0, minutes=2), "b"),  # names no request: the newest showing of b
            did("p", at(0, minutes=3), "z"),  # never shown
            did("p", at(0, minutes=4), "a", request_id="elsewhere"),  # of a request that nobody answered
            did("q", at(0, minutes=5), "a"),  # shown to another person only
            did("p", at(1, minutes=2.5), "b"),  # more than a day later
            did("", at(0, minutes=6), "a"),
        ],
        [shown("p", at(0), "a", "b"), shown("p", at(0, minutes=1.5), "b"), shown("", at(0), "a")],
    )
    found = {row[c.EVENT_ID]: (row["shown_by"], row["showing_id"], row[c.POSITION]) for row in see("event_facts", log)}
    assert found == {
        "e0": ("request", "r0#000001", 1),
        "e1": ("person", "r1#000001", 1),
        "e2": (None, None, None),
        "e3": (None, None, None),
        "e4": (None, None, None),
        "e5": (None, None, None),
        "e6": (None, None, None),
    }
    exposures = {row["showing_id"]: (row["acts"], row["strength"], row["first_act_s"]) for row in see("exposures", log)}
    assert exposures == {
        "r0#000001": (1, 0.3, 60.0), "r0#000002": (0, 0.0, None), "r1#000001": (1, 0.3, 30.0),
        "r2#000001": (0, 0.0, None),
    }  # fmt: skip


def test_what_events_say_was_shown_is_a_showing_too() -> None:
    log = tables([did("p", at(0), "a", "impression", position=3, surface="mail"), did("p", at(0, minutes=9), "a")])
    (row,) = see("exposures", log)
    assert (row[c.SURFACE], row[c.POSITION], row["logged_by"], row["acts"]) == ("mail", 3, "events", 1)
    first, second = see("event_facts", log)
    assert (first["is_showing"], first["showing_id"]) == (True, None)
    assert (second["showing_id"], second[c.SURFACE], second[c.POSITION]) == ("e0", "mail", 3)


def test_of_an_item_twice_on_a_list_the_upper_slot_is_meant() -> None:
    log = tables([did("p", at(0, minutes=1), "a", request_id="r0")], [shown("p", at(0), *"bcdefghijka", "a")])
    assert [row[c.POSITION] for row in see("exposures", log) if row["acts"]] == [11]


def test_of_corrected_events_only_the_last_version_stands() -> None:
    later = {c.KNOWN_AT: at(2)}
    log = tables([
        did("p", at(0), action="click"),
        did("p", at(0), action="save", corrects="e0", known_at=at(1)),
        did("p", at(0), action="purchase", corrects="e0", **later),
        did("p", at(0), action="click"),
        did("p", at(0), action="retract", corrects="e3", **later),
        did("q", at(0), action="retract", corrects="e0", **later),  # another person's: takes nothing back
        did("p", at(0), action="hide", corrects="unknown", **later),
    ])  # fmt: skip
    assert {row[c.EVENT_ID]: row[c.ACTION] for row in see("all_events", log)} == {"e2": "purchase", "e6": "hide"}


# --- funnels and positions


def test_a_funnel_by_hand() -> None:
    log = tables(
        [
            did("p", at(0, minutes=1), "a", "click", request_id="r0"),
            did("p", at(0, minutes=2), "a", "purchase", request_id="r0"),
            did("p", at(0, minutes=3), "b", "save", request_id="r0"),
            did("q", at(0, minutes=4), "a", "click", request_id="r1"),
            did("q", at(0, minutes=5), "b", "hide", request_id="r1"),
            did("s", at(0, minutes=6), "c", "purchase", request_id="r2"),  # without a click before
        ],
        [shown("p", at(0), "a", "b"), shown("q", at(0), "a", "b"), shown("s", at(0), "c"), shown("t", at(0), "a")],
    )
    found = {
        (row[c.POSITION], row["actions"]): (row["reached"], row["of_shown"], row["of_before"])
        for row in see("funnels", log)
    }
    assert found == {
        (1, "shown"): (4, 1.0, 1.0), (1, "click"): (3, 0.75, 0.75), (1, "save"): (2, 0.5, pytest.approx(2 / 3)),
        (1, "purchase"): (2, 0.5, 1.0),
        (2, "shown"): (2, 1.0, 1.0), (2, "click"): (1, 0.5, 0.5), (2, "save"): (1, 0.5, 1.0),
        (2, "purchase"): (0, 0.0, 0.0),
    }  # fmt: skip
    first, second = see("position_ctr", log)
    assert (first["shown"], first["people"], first["acted"], first["ctr"]) == (4, 4, 3, 0.75)
    assert (second["shown"], second["acted"]) == (2, 1)
    # Wilson's interval of 3 of 4, by another library.
    wilson = scipy.stats.binomtest(3, 4).proportion_ci(method="wilson")
    assert (first["ctr_low"], first["ctr_high"]) == pytest.approx((wilson.low, wilson.high))


def test_a_funnel_follows_the_workspace_s_own_actions() -> None:
    log = tables([did("p", at(0), "a", "spielen", request_id="r0")], [shown("p", at(0), "a")])
    rows = see("funnels", log, {"spielen": 1, "merken": 1})
    assert [(r["step"], r["actions"], r["reached"]) for r in rows] == [(0, "shown", 1), (1, "merken, spielen", 1)]
    assert [row["actions"] for row in see("funnels", log, {})] == ["shown"]


# --- visits


def test_sessions_by_hand() -> None:
    log = tables(
        [
            did("p", at(0), "a"),
            did("p", at(0, minutes=30), "a", "save"),  # half an hour of silence is still the same visit
            did("p", at(0, minutes=60, seconds=0.000001), "b"),  # a microsecond more is not
            did("q", at(0), "a", "impression"),
            did("", at(0), "a"),
        ],
        [shown("p", at(0, minutes=75), "x", query="hat"), shown("", at(0, minutes=1), "x")],
    )
    columns = (c.USER_ID, "session", "seconds", "hours_away", "requests", "searches", "events", "acts")
    found = [tuple(row[column] for column in columns) for row in see("sessions", log)]
    assert found == [
        ("", 1, 0.0, None, 0, 0, 1, 1),
        ("p", 1, 1800.0, None, 0, 0, 2, 2),
        ("p", 2, pytest.approx(15 * 60), pytest.approx(0.5), 1, 1, 1, 1),
        ("q", 1, 0.0, None, 0, 0, 0, 0),
    ]


MOMENTS = st.lists(st.tuples(st.sampled_from("pq"), st.integers(0, 400)), min_size=1, max_size=30)


@settings(max_examples=25, deadline=None)
@given(MOMENTS)
def test_sessions_equal_a_plain_loop(moments: list[tuple[str, int]]) -> None:
    expected = []
    for person in sorted({who for who, _ in moments}):
        visits: list[list[int]] = []
        for minute in sorted(minute for who, minute in moments if who == person):
            if visits and minute - visits[-1][-1] <= 30:
                visits[-1].append(minute)
            else:
                visits.append([minute])
        expected += [(person, n, len(v), 60.0 * (v[-1] - v[0])) for n, v in enumerate(visits, 1)]
    rows = see("sessions", tables([did(who, at(0, minutes=minute)) for who, minute in moments]))
    assert [(r[c.USER_ID], r["session"], r["events"], r["seconds"]) for r in rows] == expected


# --- retention


def test_retention_by_hand() -> None:
    log = tables([
        did("a", at(0)), did("a", at(1)), did("a", at(7, hours=23)),
        did("b", at(0, hours=5)), did("b", at(28)),
        did("c", at(2)), did("c", at(8)),
        did("d", at(29, hours=1)),  # the last day, which is not over
    ])  # fmt: skip
    found = {
        (r["grain"], r["cohort"], r["after_days"]): (r["people"], r["returned"], r["rate"], r["known"])
        for r in see("retention", log)
    }
    day = BEGIN.date()
    week = dt.timedelta(days=7)
    assert found["day", day, 1] == (2, 1, 0.5, True)
    assert found["day", day, 7] == (2, 1, 0.5, True)
    assert found["day", day, 28] == (2, 1, 0.5, True)
    assert found["day", day + dt.timedelta(days=2), 7] == (1, 0, 0.0, True)
    assert found["day", day + dt.timedelta(days=2), 28] == (1, None, None, False)
    assert found["week", day, 1] == (3, 1, pytest.approx(1 / 3), True)
    assert found["week", day, 7] == (3, 1, pytest.approx(1 / 3), True)
    # The cohort's Sunday is 6 days on: its 28th day is not over.
    assert found["week", day, 28] == (3, None, None, False)
    assert found["week", day + 4 * week, 1] == (1, None, None, False)
    weeks = {(r["cohort"], r["week"]): (r["people"], r["returned"], r["known"]) for r in see("retention_weeks", log)}
    assert weeks[day, 0] == (3, 3, True)
    assert weeks[day, 1] == (3, 2, True)
    assert weeks[day, 3] == (3, 0, True)
    assert weeks[day, 4] == (3, None, False)
    assert {week for _, week in weeks} == set(range(13))


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("pqrs"), st.integers(0, 45)), min_size=1, max_size=40))
def test_retention_equals_a_plain_loop(moments: list[tuple[str, int]]) -> None:
    days = defaultdict(set)
    for who, day in moments:
        days[who].add(day)
    last = max(day for _, day in moments)
    expected = {}
    for grain, length in (("day", 1), ("week", 7)):
        cohorts = defaultdict(list)
        for seen in days.values():
            cohorts[min(seen) // length * length].append(seen)
        for (cohort, people), after in itertools.product(cohorts.items(), (1, 7, 28)):
            known = cohort + length - 1 + after < last
            back = sum(min(seen) + after in seen for seen in people) if known else None
            expected[grain, BEGIN.date() + dt.timedelta(days=cohort), after] = (len(people), back)
    rows = see("retention", tables([did(who, at(day, hours=3)) for who, day in moments]))
    assert {(r["grain"], r["cohort"], r["after_days"]): (r["people"], r["returned"]) for r in rows} == expected


# --- activity, the catalog, searches, volumes


def test_people_are_parted_by_their_events() -> None:
    log = tables(
        [did(who, at(0)) for who, n in (("a", 1), ("b", 2), ("c", 3), ("d", 5)) for _ in range(n)], [shown("e", at(0))]
    )
    found = [(r["at_least"], r["at_most"], r["people"], r["events"]) for r in see("activity_classes", log)]
    assert found == [(0, 0, 1, 0), (1, 1, 1, 1), (2, 3, 2, 5), (4, 7, 1, 5)]
    shares = see("activity_classes", log)
    assert sum(row["people_share"] for row in shares) == pytest.approx(1)
    assert sum(row["events_share"] for row in shares) == pytest.approx(1)


def test_catalog_health_by_hand() -> None:
    log = tables(
        [did("p", at(1), "a"), did("p", at(50), "b"), did("q", at(50), "b"), did("q", at(60), "ghost")],
        [shown("p", at(51), "c", "c")],
        [
            {c.ITEM_ID: "a", c.TITLE: "A", c.KNOWN_AT: at(0)},
            {c.ITEM_ID: "b", c.TITLE: "", c.CATEGORIES: ["x"], c.KNOWN_AT: at(40)},
            {c.ITEM_ID: "c", c.PRICE: 1.0, c.KNOWN_AT: at(50, hours=22)},
            {c.ITEM_ID: "d", c.AVAILABLE: False, c.KNOWN_AT: at(55)},
        ],
    )
    facts = {row[c.ITEM_ID]: row for row in see("item_facts", log)}
    assert [facts[name]["missing_facts"] for name in "abcd"] == [8, 8, 8, 9]
    assert [facts[name]["days_silent"] for name in "abcd"] == [59, 10, None, None]
    assert facts["c"]["hours_to_showing"] == 2.0
    assert (facts["c"]["shown"], facts["b"]["people"]) == (2, 2)
    amount = {row["measure"]: row["amount"] for row in see("catalog_health", log)}
    assert {name: amount[name] for name in (
        "items", "available", "with_events", "without_events", "stale", "shown", "new", "new_never_shown",
        "new_without_events", "events_on_unknown_items", "without_title", "coverage_events", "without_price_share",
        "hours_to_showing", "top_1_percent_events",
    )} == {
        "items": 4, "available": 3, "with_events": 2, "without_events": 2, "stale": 1, "shown": 1, "new": 3,
        "new_never_shown": 2, "new_without_events": 2, "events_on_unknown_items": 1, "without_title": 3,
        "coverage_events": 0.5, "without_price_share": 0.75, "hours_to_showing": 2.0,
        "top_1_percent_events": pytest.approx(2 / 3),
    }  # fmt: skip


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=12).filter(any))
def test_gini_equals_the_mean_of_all_differences(counts: list[int]) -> None:
    log = tables(
        [did("p", at(0), f"i{n}") for n, count in enumerate(counts) for _ in range(count)],
        (),
        [{c.ITEM_ID: f"i{n}"} for n in range(len(counts))],
    )
    x = np.array(counts, float)
    expected = np.abs(x[:, None] - x[None, :]).mean() / (2 * x.mean())
    amount = {row["measure"]: row["amount"] for row in see("catalog_health", log)}
    assert amount["gini_events"] == pytest.approx(expected, abs=1e-12)


def test_searches_by_hand() -> None:
    log = tables(
        [did("p", at(0, minutes=1), "b", request_id="r0"), did("z", at(0, hours=5))],
        [
            shown("p", at(0), "a", "b", query="Hat "),
            shown("q", at(0), query="shos"),
            shown("q", at(0, minutes=5), "s", query="shoes"),  # within five minutes: asked anew
            shown("q", at(0, minutes=6), "t", query=" SHOES"),  # the same again: the next page
            shown("q", at(0, minutes=20), "t", query="hat"),
            shown("", at(0, minutes=21), "t", query="hat"),
            shown("z", at(0, hours=4, minutes=59), "t", query="late"),  # the log ends a minute later
            shown("p", at(0, minutes=3), "a"),  # no search
        ],
    )
    found = [
        (r["words"], r["hits"], r["search_outcome"], r["first_position"], r["next_query"]) for r in see("searches", log)
    ]
    assert found == [
        ("hat", 2, "clicked", 2, None),
        ("shos", 0, "reformulated", None, "shoes"),
        ("shoes", 1, "again", None, "shoes"),
        ("shoes", 1, "abandoned", None, None),
        ("hat", 1, "abandoned", None, None),
        ("hat", 1, "unknown", None, None),
        ("late", 1, "unknown", None, None),
    ]
    (day,) = see("search_traffic", log)
    assert (day["searches"], day["queries"], day["people"], day["zero"]) == (7, 4, 3, 1)
    assert (day["clicked"], day["reformulated"], day["abandoned"], day["unknown"]) == (1, 1, 2, 2)
    assert day["abandon_rate"] == pytest.approx(2 / 5)
    (week,) = see("search_weeks", log)
    assert (week["searches"], week["queries"], week["searches_before"]) == (7, 4, None)
    later = tables(
        shown=[shown("p", at(0), "a", query="x"), shown("p", at(8), query="y"), shown("p", at(30), "a", query="y")]
    )
    weeks = {row["search_week"].isoformat(): row for row in see("search_weeks", later)}
    assert [weeks[day]["searches_before"] for day in sorted(weeks)] == [None, 1, None]  # a week is missing in between
    assert [weeks[day]["zero_rate_before"] for day in sorted(weeks)] == [None, 0.0, None]
    assert all(row["first_position"] >= 1 for row in see("search_positions", log))
    assert sum(row["searches"] for row in see("search_positions", log)) == day["clicked"]
    assert sum(row["searches"] for row in see("search_rewrites", log)) == day["reformulated"]
    hat = next(row for row in see("search_queries", log) if row["words"] == "hat")
    assert (hat["searches"], hat["clicked"], hat["click_rate"]) == (3, 1, pytest.approx(1 / 3))


def test_volumes_and_delays_by_hand() -> None:
    log = tables(
        [did("p", at(0), known_at=at(0, seconds=seconds)) for seconds in (0, 60, 61, 3600, 90_000)]
        + [did("q", at(1), action="save")]
    )
    first, second = see("volumes", log)
    assert (first["events"], first["within_minute"], first["within_hour"], first["within_day"]) == (5, 2, 4, 4)
    assert (first["delay_median_s"], first["delay_max_s"]) == (61.0, 90_000.0)
    assert (second[c.ACTION], second["people"], second["delay_max_s"]) == ("save", 1, 0.0)


def test_slates_by_day() -> None:
    log = tables(
        [did("p", at(0, minutes=1), "a", request_id="r0")],
        [shown("p", at(0), "a", "b"), shown("p", at(0), fallback="slow"), shown("", at(0), "a")],
    )
    (day,) = see("slate_days", log)
    assert (day["requests"], day["people"], day["shown"], day["items"]) == (3, 1, 3, 2)
    assert (day["acted"], day["requests_acted"], day["empty"], day["fell_back"]) == (1, 1, 1, 1)


@pytest.mark.parametrize("seed", [0, 1])
def test_views_agree_with_one_another(seed: int) -> None:
    log = random_log(seed)
    facts, exposures = see("event_facts", log), see("exposures", log)
    acts = [row for row in facts if row["weight"] > 0]
    assert len(facts) == len(see("all_events", log))
    assert sum(row["acts"] for row in exposures) == sum(row["showing_id"] is not None for row in acts)
    assert len({row["showing_id"] for row in exposures}) == len(exposures)
    sessions = see("sessions", log)
    did_so = [row for row in facts if not row["is_showing"]]
    assert sum(row["events"] for row in sessions) == len(did_so)
    assert sum(row["requests"] for row in sessions) == sum(
        user != "" for user in log["impressions"][c.USER_ID].to_pylist()
    )
    positions = see("position_ctr", log)
    funnels = see("funnels", log)
    for row in positions:
        steps = [f["reached"] for f in funnels if (f[c.SURFACE], f[c.POSITION]) == (row[c.SURFACE], row[c.POSITION])]
        assert steps[0] == row["shown"]
        assert steps[1] == row["acted"]
        assert steps == sorted(steps, reverse=True)
        assert 0 <= row["ctr_low"] <= row["ctr"] <= row["ctr_high"] <= 1
    assert sum(row["events"] for row in see("volumes", log)) == len(facts)
    assert set(WEIGHTS) >= {row[c.ACTION] for row in facts}
