"""Table pipelines against plain loops, on every engine; and both engines to the same hash."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from honeyguide.contracts import TablesEngine
from honeyguide.engines.tables.snapshot import content_hash
from honeyguide.flows import tables as t
from honeyguide.schema import columns as c
from honeyguide.schema.tables import EVENTS, IMPRESSIONS

HOUR = 3_600_000_000
BEGIN = 1_700_000_000_000_000
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def moment(us: int) -> dt.datetime:
    return EPOCH + dt.timedelta(microseconds=us)


def event(key: str, at: int, user: str = "u", item: str = "i", action: str = "click", **more: Any) -> dict[str, Any]:
    row = dict.fromkeys(EVENTS.columns)
    return row | {
        c.EVENT_ID: key, c.USER_ID: user, c.ITEM_ID: item, c.ACTION: action, c.HAPPENED_AT: moment(at),
        c.KNOWN_AT: moment(at), **more,
    }  # fmt: skip


def events_table(rows: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=EVENTS.arrow())


def placed(engine: TablesEngine, rows: list[dict[str, Any]]) -> Any:
    table = events_table(rows).append_column(t.PLACE, pa.array(range(len(rows)), pa.int64()))
    return engine.table(table)


def random_events(seed: int, n: int, prefix: str = "e") -> list[dict[str, Any]]:
    """Ties, nulls, NaN, duplicates, late events, strange letters: whatever a log may hold."""
    rng = np.random.default_rng(seed)
    people = ["", "u", "U", "ü", "u'2", "名", "u\n3"]
    rows = []
    for _ in range(n):
        at = BEGIN + int(rng.integers(0, 6)) * HOUR + int(rng.integers(0, 3))
        late = int(rng.integers(0, 2)) * int(rng.integers(0, 100)) * HOUR
        rows.append(
            event(
                f"{prefix}{rng.integers(0, n)}", at, people[rng.integers(0, len(people))], f"i{rng.integers(0, 4)}",
                ["impression", "click", "buy", "share"][rng.integers(0, 4)],
                **{
                    c.KNOWN_AT: moment(at + late),
                    c.VALUE: [None, float("nan"), -0.0, 1.5][rng.integers(0, 4)],
                    c.REQUEST_ID: [None, None, "r0", "r1", "r'2"][rng.integers(0, 5)],
                    c.POSITION: [None, 1, 2, 11][rng.integers(0, 4)],
                    c.CONTEXT: [None, '{"a": "ü"}'][rng.integers(0, 2)],
                },
            )
        )  # fmt: skip
    return rows


def random_lists(seed: int, n: int) -> pa.Table:
    rng = np.random.default_rng(seed)
    rows = []
    for k in range(n):
        items = [f"i{x}" for x in rng.integers(0, 5, rng.integers(0, 5))]
        rows.append(
            dict.fromkeys(IMPRESSIONS.columns)
            | {
                c.REQUEST_ID: f"r{k}", c.USER_ID: ["", "u", "ü"][rng.integers(0, 3)],
                c.HAPPENED_AT: moment(BEGIN + int(rng.integers(0, 6)) * HOUR), c.POLICY_VERSION: "p", c.BUILD_ID: "b",
                c.SHOWN_ITEMS: items, c.SHOWN_PROPENSITIES: [0.5] * len(items), c.LIST_PROPENSITY: 1.0,
                c.STAGE_US: "{}",
            }
        )  # fmt: skip
    return pa.Table.from_pylist(rows, schema=IMPRESSIONS.arrow())


# ------------------------------------------------------------------------------------------------------- events


@pytest.mark.parametrize("seed", range(3))
def test_events_come_once_and_in_order(engine: TablesEngine, seed: int):
    before = list({row[c.EVENT_ID]: row for row in random_events(seed, 60)}.values())
    since = random_events(seed + 100, 60)
    found = engine.arrow(t.ordered(t.events_of(placed(engine, before), placed(engine, since))))
    seen, expected = set(), []
    for row in [*before, *since]:
        if row[c.EVENT_ID] not in seen:
            seen.add(row[c.EVENT_ID])
            expected.append(row)
    expected.sort(key=lambda row: row[c.HAPPENED_AT])  # stable
    assert content_hash(found) == content_hash(events_table(expected))


def test_a_log_or_a_snapshot_alone_is_enough(engine: TablesEngine):
    rows = random_events(5, 30)
    once = list({row[c.EVENT_ID]: row for row in rows[::-1]}.values())[::-1]
    alone = engine.arrow(t.ordered(t.events_of(None, placed(engine, rows))))
    assert sorted(alone[c.EVENT_ID].to_pylist()) == sorted(row[c.EVENT_ID] for row in once)
    empty = placed(engine, [])
    both = engine.arrow(t.ordered(t.events_of(placed(engine, once), empty)))
    assert both.num_rows == len(once)
    assert engine.arrow(t.ordered(t.events_of(empty, empty))).num_rows == 0


@pytest.mark.parametrize("seed", range(2))
def test_first_seen_is_in_order_of_appearance(engine: TablesEngine, seed: int):
    rows = random_events(seed, 80)
    in_time = sorted(rows, key=lambda row: row[c.HAPPENED_AT])
    known = ["u", "nobody's"]
    table = engine.table(pa.table({c.USER_ID: known}))
    found = engine.arrow(t.first_seen(placed(engine, rows), c.USER_ID, table))
    first: dict[str, Any] = {}
    for row in in_time:
        first.setdefault(row[c.USER_ID], row[c.HAPPENED_AT])
    expected = [(user, at) for user, at in first.items() if user not in known]
    assert list(zip(found[c.USER_ID].to_pylist(), found[c.HAPPENED_AT].to_pylist(), strict=True)) == expected


# --------------------------------------------------------------------------------------------------- label rows

SHOWN, OUTCOMES = ["impression"], ["click", "buy"]


def expected_labels(lists: pa.Table, rows: list[dict[str, Any]], horizon: int) -> list[dict[str, Any]]:
    """`label_rows` in plain loops."""
    us = lambda at: (at - EPOCH) // dt.timedelta(microseconds=1)  # noqa: E731
    slots = []
    for row in lists.to_pylist():
        for place, item in enumerate(row[c.SHOWN_ITEMS]):
            slots.append((us(row[c.HAPPENED_AT]), f"i{row[c.REQUEST_ID]}#{place + 1:07}", row[c.REQUEST_ID],
                          row[c.USER_ID] or None, item, place + 1))  # fmt: skip
    for row in rows:
        if row[c.ACTION] in SHOWN:
            key = f"e{row[c.REQUEST_ID] or ''}#{row[c.POSITION] or 0:07}{row[c.EVENT_ID]}"
            slots.append((us(row[c.HAPPENED_AT]), key, row[c.REQUEST_ID], row[c.USER_ID] or None, row[c.ITEM_ID],
                          row[c.POSITION]))  # fmt: skip
    slots.sort()
    made: dict[str, dict[str, tuple[int, int, Any]]] = {slot[1]: {} for slot in slots}
    for place, row in enumerate(rows):
        if row[c.ACTION] not in OUTCOMES:
            continue
        at, request, user = us(row[c.HAPPENED_AT]), row[c.REQUEST_ID], row[c.USER_ID] or None
        if request is not None:
            mine = sorted((s[1], s) for s in slots if s[2] == request and s[4] == row[c.ITEM_ID])[:1]
        else:
            mine = [
                (s[1], s) for s in slots if user is not None and s[3] == user and s[4] == row[c.ITEM_ID] and s[0] <= at
            ]
            mine = mine[-1:]
        for _, slot in mine:
            if at - slot[0] <= horizon:
                was = made[slot[1]].get(row[c.ACTION])
                if was is None or (at, place) < was[:2]:
                    made[slot[1]][row[c.ACTION]] = (at, place, None if row[c.VALUE] is None else row[c.VALUE] + 0.0)
    found = []
    for at, key, request, user, item, position in slots:
        line = {c.REQUEST_ID: request, c.USER_ID: user, c.ITEM_ID: item, c.POSITION: position, t.AT_US: at}
        for code, action in enumerate(OUTCOMES):
            what = made[key].get(action, (None, None, None))
            line |= {t.DID.format(code): what[0], t.VALUE_OF.format(code): what[2]}
        found.append(line)
    return found


@pytest.mark.parametrize("seed", range(4))
def test_label_rows_are_those_of_plain_loops(engine: TablesEngine, seed: int):
    rows = list({row[c.EVENT_ID]: row for row in random_events(seed, 150)}.values())
    lists = random_lists(seed, 12)
    horizon = [HOUR, 2 * HOUR, 24 * HOUR][seed % 3]
    made = engine.arrow(t.label_rows(engine.table(lists), placed(engine, rows), SHOWN, OUTCOMES, horizon))
    expected = expected_labels(lists, rows, horizon)
    assert made.num_rows == sum(len(x) for x in lists[c.SHOWN_ITEMS].to_pylist()) + sum(
        row[c.ACTION] in SHOWN for row in rows
    )
    assert any(line["did_0"] is not None for line in expected)
    for got, line in zip(made.to_pylist(), expected, strict=True):
        assert repr({name: got[name] for name in line}) == repr(line)


def test_events_alone_tell_what_was_shown(engine: TablesEngine):
    rows = [
        event("s1", BEGIN, action="impression"), event("s2", BEGIN + HOUR, action="impression"),
        event("x", BEGIN + 2 * HOUR), event("y", BEGIN + 3 * HOUR, user="other"),
    ]  # fmt: skip
    made = engine.arrow(t.label_rows(None, placed(engine, rows), SHOWN, OUTCOMES, 24 * HOUR)).to_pylist()
    assert [line["did_0"] for line in made] == [None, BEGIN + 2 * HOUR]  # the newest showing, and only that


@pytest.mark.heavy
def test_both_engines_give_the_same_hashes(cluster: TablesEngine):
    from honeyguide.engines.tables.duckdb import DuckDBTables

    before = list({row[c.EVENT_ID]: row for row in random_events(9, 400)}.values())
    since, lists = random_events(10, 400), random_lists(11, 40)
    hashes = []
    with DuckDBTables() as duck:
        for engine in (duck, cluster):
            events = t.events_of(placed(engine, before), placed(engine, since))
            made = (
                t.ordered(events), t.first_seen(events, c.ITEM_ID), t.first_seen(events, c.ACTION),
                t.label_rows(engine.table(lists), events, SHOWN, OUTCOMES, 5 * HOUR),
                t.label_rows(None, placed(engine, []), SHOWN, OUTCOMES, 5 * HOUR),
            )  # fmt: skip
            hashes.append([content_hash(engine.arrow(one)) for one in made])
    assert hashes[0] == hashes[1]
