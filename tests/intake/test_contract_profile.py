"""Profiles, rates and volumes against plain loops; programs among people; the same weekday; a day cut off."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from honeyguide.intake.bots import FLOOR_PER_HOUR, FLOOR_PER_MINUTE, Limits, Rates
from honeyguide.intake.contract import BotRule, TableContract, VolumeRule
from honeyguide.intake.contract_check import ContractCheck, Past
from honeyguide.intake.profile import HOUR_US, MOST_VALUES, Profile, hashed, profiled
from honeyguide.intake.quality import Report, Totals
from honeyguide.intake.volume import CutOff, cut_off, odd_days
from honeyguide.kernels.sketches import added, count_rates, distinct, seen
from honeyguide.schema import columns as c
from honeyguide.schema.tables import EVENTS

MINUTE_US, DAY_US = 60_000_000, 86_400_000_000
START = 20_000 * DAY_US


def table(users: list[str | None], at: Any, **columns: Any) -> pa.Table:
    times = pa.array(np.asarray(at, np.int64)).cast(pa.timestamp("us", tz="UTC"))
    actions = columns.pop(c.ACTION, ["view"] * len(users))
    return pa.table({c.USER_ID: pa.array(users, pa.string()), c.ACTION: actions, c.HAPPENED_AT: times, **columns})


# ------------------------------------------------------------------------------------------------------ profiles

CELLS = st.lists(
    st.tuples(
        st.one_of(st.none(), st.sampled_from(["a", "b", "ü", "", "x" * 30])),
        st.integers(0, 200 * 24),
        st.one_of(st.none(), st.floats(-1e6, 1e6)),
        st.sampled_from(["view", "click", "save"]),
    ),
    max_size=40,
)


def profile_of(rows: list[tuple[str | None, int, float | None, str]]) -> Profile:
    users, hours, values, actions = ([row[at] for row in rows] for at in range(4))
    at = [START + hour * HOUR_US + 5 for hour in hours]
    return profiled(
        EVENTS, table(users, at, value=pa.array(values, pa.float64()), action=pa.array(actions, pa.string()))
    ).profile


@given(CELLS, CELLS, CELLS)
def test_profiles_are_sums(one: Any, two: Any, three: Any) -> None:
    whole = profile_of([*one, *two, *three]).record()
    assert ((profile_of(one) + profile_of(two)) + profile_of(three)).record() == whole
    assert (profile_of(one) + (profile_of(two) + profile_of(three))).record() == whole


@given(CELLS)
def test_a_profile_is_what_a_loop_counts(rows: Any) -> None:
    found = profile_of(rows)
    values = [row[2] for row in rows if row[2] is not None]
    assert found.rows == len(rows)
    assert found.hours == Counter((START // HOUR_US) + row[1] for row in rows)
    assert found.days == Counter(20_000 + row[1] // 24 for row in rows)
    value = found.columns[c.VALUE]
    assert (value.nulls, value.low, value.high) == (
        sum(row[2] is None for row in rows), min(values, default=None), max(values, default=None),
    )  # fmt: skip
    assert found.columns[c.ACTION].values == Counter(row[3] for row in rows)
    if any(row[0] is not None for row in rows):
        assert found.columns[c.USER_ID].distinct == len({row[0] for row in rows if row[0] is not None})


def test_a_column_with_many_values_is_not_described_by_them() -> None:
    names = [f"s{n}" for n in range(MOST_VALUES + 1)]
    parts = [profile_of([("u", 0, None, name)]) for name in names]
    few = sum(parts[1:-1], parts[0])
    assert len(few.columns[c.ACTION].values or ()) == MOST_VALUES
    assert (few + parts[-1]).columns[c.ACTION].values is None


def test_a_late_column_was_empty_before() -> None:
    early = profiled(EVENTS, table(["a"] * 3, [START] * 3)).profile
    late = profiled(EVENTS, table(["a"] * 2, [START] * 2, query=["x", None])).profile
    assert (early + late).columns[c.QUERY].nulls == 4
    assert (late + early).columns[c.QUERY].nulls == 4


@given(st.lists(st.one_of(st.none(), st.text(max_size=20)), max_size=50), st.integers(0, 5))
def test_hashes_tell_texts_apart(texts: list[str | None], skip: int) -> None:
    whole = pa.array(texts, pa.string())
    of, _ = hashed(whole)
    assert hashed(whole.slice(skip))[0].tolist() == of[skip:].tolist()  # a slice of a buffer is read as such
    for text, one in zip(texts, of.tolist(), strict=True):
        assert (one == 0) == (text is None)
        assert sum(one == other for other in of.tolist()) == texts.count(text)


def test_distinct_counts_to_three_percent() -> None:
    for n in (100, 5_000, 300_000):
        _, registers = hashed(pa.array([f"user-{i}" for i in range(n)] * 2))
        assert abs(distinct(registers) / n - 1) < 0.03 + (n == 300_000) * 0.02


@given(st.lists(st.lists(st.integers(0, 2**64 - 1), max_size=30), max_size=5))
def test_a_set_knows_what_was_added(batches: list[list[int]]) -> None:
    slots, known = np.zeros(512, np.uint64), set[int]()
    for batch in batches:
        out = np.zeros(len(batch), bool)
        count = seen(slots, np.array(batch, np.uint64), True, out)
        expected, before = [], len(known)
        for one in batch:
            expected.append((one or 1) in known)
            known.add(one or 1)
        assert out.tolist() == expected
        assert count == len(known) - before


# --------------------------------------------------------------------------------------------------------- rates


def rates_of(users: list[str], at: Any, limits: Limits | None = None, batch: int = 1_000) -> Rates:
    rates = Rates(limits)
    names, times = pa.array(users, pa.string()), np.asarray(at, np.int64)
    for start in range(0, len(users), batch):
        part = names.slice(start, batch)
        rates.add(hashed(part)[0], times[start : start + batch], part)
    return rates


def peaks(users: list[str], at: Any) -> dict[str, tuple[int, int]]:
    """The fullest minute and hour of each person, by loops."""
    minutes, hours = Counter(), Counter()  # type: ignore[var-annotated]
    for user, moment in zip(users, np.asarray(at).tolist(), strict=True):
        minutes[user, moment // MINUTE_US] += 1
        hours[user, moment // HOUR_US] += 1
    found: dict[str, tuple[int, int]] = {}
    for user in set(users):
        found[user] = (
            max(n for (who, _), n in minutes.items() if who == user),
            max(n for (who, _), n in hours.items() if who == user),
        )
    return found


@given(
    st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 3 * 3600)), min_size=1, max_size=120),
    st.integers(1, 40),
)
def test_who_is_too_fast_is_named_with_the_right_figures(rows: list[tuple[str, int]], batch: int) -> None:
    users, at = [row[0] for row in rows], [START + 1 + row[1] * 1_000_000 for row in rows]
    limits = Limits(2, 5)
    truth = {user: peak for user, peak in peaks(users, at).items() if peak[0] > 2 or peak[1] > 5}
    found = {bot.user_id: (bot.per_minute, bot.per_hour) for bot in rates_of(users, at, limits, batch).bots()}
    assert found == truth  # six people in 262,144 cells: exact


def test_nobody_is_named_because_of_others() -> None:
    # 200,000 pairs of person and minute in 16 cells: every cell is shared by thousands.
    rng = np.random.default_rng(3)
    who = rng.integers(1, 2**60, 400).astype(np.uint64)[rng.integers(0, 400, 200_000)]
    at = START + rng.integers(0, DAY_US, 200_000)
    minutes, hours, peak = np.zeros(16, np.uint64), np.zeros(16, np.uint64), np.zeros(1 << 12, np.uint16)
    in_minute, in_hour = np.zeros(200_000, np.uint16), np.zeros(200_000, np.uint16)
    count_rates(who, at, minutes, hours, peak, peak.copy(), in_minute, in_hour)
    so_far: Counter[tuple[int, int]] = Counter()
    for one, minute, count in zip(who.tolist(), (at // MINUTE_US).tolist(), in_minute.tolist(), strict=True):
        so_far[one, minute] += 1
        assert count <= so_far[one, minute]


def test_cells_of_two_parts_add_up() -> None:
    def cell(tag: int, count: int) -> int:
        return (tag << 16) | count

    one = np.array([cell(1, 5), cell(1, 5), cell(1, 2), cell(1, 65_000), 0], np.uint64)
    two = np.array([cell(1, 7), cell(2, 3), cell(2, 9), cell(1, 65_000), cell(3, 4)], np.uint64)
    assert added(one, two).tolist() == [cell(1, 12), cell(1, 2), cell(2, 7), cell(1, 65_535), cell(3, 4)]
    assert np.array_equal(added(one, two), added(two, one))


def people(seed: int, n: int, days: int = 3) -> tuple[list[str], np.ndarray]:
    """Visits of people: 1 to 60 actions, 2 to 60 seconds apart, on some days; the busiest do ten visits a day."""
    rng = np.random.default_rng(seed)
    users: list[str] = []
    at: list[int] = []
    for person in range(n):
        for _ in range(1 + rng.poisson(1.5) + (10 * days if rng.random() < 0.01 else 0)):
            moment = START + int(rng.integers(0, days * DAY_US))
            for gap in rng.lognormal(1.8, 0.8, int(rng.integers(1, 60))).clip(0.5, 600):
                users.append(f"person-{person}")
                at.append(moment)
                moment += int(gap * 1e6)
    order = np.argsort(at, kind="stable")
    return [users[i] for i in order], np.array(at)[order]


def test_a_bot_among_people_is_found_and_people_are_not() -> None:
    named = 0
    for seed in range(5):
        users, at = people(seed, 1_000)
        assert rates_of(users, at).bots() == []
        named += len(rates_of(users, at).bots())
        bot = START + DAY_US + np.arange(2_000) * 200_000  # five a second, for under seven minutes
        slow = START + np.arange(3_000) * 2_000_000  # one each two seconds, for more than an hour
        mixed = [*users, *["bot"] * 2_000, *["slow bot"] * 3_000]
        found = rates_of(mixed, np.concatenate([at, bot, slow])).bots()
        assert [(one.user_id, one.per_minute) for one in found] == [("bot", 300), ("slow bot", 30)]
        assert found[1].per_hour == 1_800
    assert named == 0  # of 5,000 people: below 0.08 % at 98 % confidence


def test_limits_follow_the_people() -> None:
    assert rates_of(["a"] * 50, START + np.arange(50)).limits() == Limits(FLOOR_PER_MINUTE, FLOOR_PER_HOUR)
    fast = [f"u{n % 200}" for n in range(200 * 40)]  # 200 people with 40 actions in their minute: a fast medium
    limits = rates_of(fast, [START + 1 + n for n in range(len(fast))]).limits()
    assert limits == Limits(5 * 40, FLOOR_PER_HOUR)
    mixed = [*fast, *["bot"] * 5_000]  # one bot among 200 does not move them
    assert rates_of(mixed, [START + 1 + n for n in range(len(mixed))]).limits() == limits


@pytest.mark.parametrize(("grain", "named"), [(1_000_000, True), (HOUR_US, False), (DAY_US, False)])
def test_whole_hours_and_days_say_nothing_of_minutes(grain: int, named: bool) -> None:
    at = (START + HOUR_US + np.arange(500) * 1_000_000) // grain * grain
    rates = rates_of(["a"] * 500, at, Limits(20, 400 if grain == 1_000_000 else 600))
    assert bool(rates.bots()) == named
    assert rates.grain_us == (grain if grain > 1_000_000 else 1)


def test_impressions_are_no_actions() -> None:
    n = 3_000
    check = ContractCheck(EVENTS, now_us=START + DAY_US)
    check.batch(table(["a"] * n, START + 1 + np.arange(n), action=["impression"] * (n - 100) + ["click"] * 100))
    assert check.bots == []


def check_bots(severity: str, bots: dict[str, list[int]] | None = None) -> tuple[ContractCheck, int]:
    rule = BotRule(per_minute=10, per_hour=100, severity=severity)  # type: ignore[arg-type]
    check = ContractCheck(EVENTS, TableContract(table="events", bots=rule), now_us=START + DAY_US, bots=bots)
    users = ["bot", "person"] * 5 + ["bot"] * 40
    held = 0
    for start in range(0, 50, 7):
        part = table(users, START + 1 + np.arange(50)).slice(start, 7)
        held += sum(int(found.rows.sum()) for found in check.batch(part))
    check.finish(Totals(Report("events", "f", 50, 50 - held, held, {}, {}, (), {}), {}))
    return check, held


def test_a_bot_is_told_or_held_back() -> None:
    check, held = check_bots("warn")
    assert (held, check.bots_to_hold) == (0, {})
    assert [(one.code, one.severity) for one in check.breaches] == [("bot", "warn")]
    assert "bot" not in check.breaches[0].detail
    assert check.breaches[0].told.endswith("in an hour. 'bot' (45, 45)")
    check, held = check_bots("quarantine")
    assert (held, check.bots_to_hold) == (0, {"bot": [45, 45]})
    check, held = check_bots("quarantine", check.bots_to_hold)  # the second run over the same load
    assert (held, check.bots_to_hold) == (45, {})
    assert check.held_bots == {"bot": [45, 45]}
    check, _ = check_bots("refuse")
    assert [one.severity for one in check.breaches] == ["refuse"]


# ------------------------------------------------------------------------------------------------------- volumes


def weekly(weeks: int, seed: int = 0, level: float = 1_000.0) -> dict[int, int]:
    """Days with a strong weekly pattern (a weekend of one third) and Poisson noise of twice its size."""
    rng = np.random.default_rng(seed)
    pattern = np.array([1.0, 1.1, 1.05, 1.0, 1.3, 0.4, 0.3]) * level
    return {20_000 + day: int(rng.poisson(pattern[day % 7] / 4) * 4) for day in range(7 * weeks)}


def odd(days: dict[int, int], known: dict[int, int] | None = None, skip: frozenset[int] = frozenset()) -> list[int]:
    found, _ = odd_days(days, known or {}, lowest=0.5, highest=3.0, skip=skip)
    return [one.day for one in found]


def test_a_weekend_is_no_drop() -> None:
    for seed in range(10):
        assert odd(weekly(12, seed)) == []


def test_half_a_day_and_a_flood_are_told() -> None:
    days = weekly(6)
    monday, sunday = 20_035, 20_041
    assert odd(days | {monday: 300}) == [monday]
    assert odd(days | {sunday: 1_000}) == [sunday]  # a Monday's load on a Sunday
    assert odd(days | {monday: 300}, skip=frozenset([monday])) == []


def test_a_missing_day_is_a_day_without_events() -> None:
    days = weekly(6)
    del days[20_036]
    assert odd(days) == [20_036]


def test_later_loads_are_judged_by_earlier_ones() -> None:
    history = weekly(6)
    known = {day: n for day, n in history.items() if day < 20_035}
    day = {20_035: history[20_035]}
    assert odd(day, known) == []
    assert odd({20_035: 100}, known) == [20_035]
    assert odd({20_035: 100}) == []  # alone, nothing can be said
    assert odd_days({20_035: 100}, {}, lowest=0.5, highest=3.0, skip=frozenset()) == ([], 0)
    # The rest of a day that came in two files.
    assert odd({20_035: 100}, known | {20_035: history[20_035] - 100}) == []


def test_few_events_raise_no_alarm() -> None:
    assert odd({20_000 + day: n for day, n in enumerate([3, 2, 4, 1, 0, 2, 3] * 5 + [0, 0, 1, 9, 0, 0, 0])}) == []


def test_a_check_says_what_it_cannot_judge() -> None:
    check = ContractCheck(EVENTS, TableContract(table="events", volume=VolumeRule()), now_us=START + 30 * DAY_US)
    check.finish(Totals(Report("events", "f", 5, 5, 0, {}, {}, (), {}), {20_000: 5}))
    assert check.breaches == []
    assert "three earlier weeks" in check.unjudged[0]
    check = ContractCheck(
        EVENTS, TableContract(table="events", volume=VolumeRule(severity="refuse")), now_us=START + 90 * DAY_US,
        past=Past(days=weekly(5)),
    )  # fmt: skip
    found = check.finish(Totals(Report("events", "f", 5, 5, 0, {}, {}, (), {}), {20_035: 5}))
    assert [(one.reason, one.severity) for one in found] == [("low_volume", "refuse")]
    assert f"{dt.date(1970, 1, 1) + dt.timedelta(20_035)}: 5 (usually" in found[0].detail


def by_hour(days: int, until: int = 24, level: int = 40) -> dict[int, int]:
    """Days with a night; the last one only `until` an hour."""
    hours = {}
    for day in range(days):
        for hour in range(24 if day < days - 1 else until):
            hours[(20_000 + day) * 24 + hour] = level // 8 if hour < 6 else level
    return hours


LATER = START + 400 * DAY_US


def test_a_day_cut_off() -> None:
    found = cut_off(by_hour(6, until=13), {}, now_us=LATER)
    assert found == CutOff((20_005) * 24 + 12, pytest.approx(11 * 40))
    assert cut_off(by_hour(6), {}, now_us=LATER) is None
    assert cut_off(by_hour(6, until=24, level=8), {}, now_us=LATER) is None
    # One hour is missing: 40 events; by chance that does not happen.
    assert cut_off(by_hour(6, until=23), {}, now_us=LATER) is not None
    # Eight events an hour: the two that are missing say nothing.
    assert cut_off(by_hour(6, until=22, level=8), {}, now_us=LATER) is None


def test_hours_to_come_are_not_missing() -> None:
    noon = START + 5 * DAY_US + 13 * HOUR_US
    assert cut_off(by_hour(6, until=13), {}, now_us=noon) is None
    assert cut_off(by_hour(6, until=13), {}, now_us=noon + 2 * HOUR_US) == CutOff(20_005 * 24 + 12, pytest.approx(80))


def test_a_file_of_one_day_is_judged_by_the_days_before() -> None:
    whole = by_hour(6, until=13)
    day = {hour: n for hour, n in whole.items() if hour >= 20_005 * 24}
    known = {hour: n for hour, n in whole.items() if hour < 20_005 * 24}
    assert cut_off(day, {}, now_us=LATER) is None
    assert cut_off(day, known, now_us=LATER) is not None
    assert cut_off({}, known, now_us=LATER) is None
