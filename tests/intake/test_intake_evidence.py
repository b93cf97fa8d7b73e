"""Evidence: the level follows from what is logged, the figures from plain counting."""

from __future__ import annotations

import random
from collections import Counter

import msgspec
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from honeyguide.engines.tables.duckdb import DuckDBTables
from honeyguide.intake.events import from_log, impressions_from_log
from honeyguide.intake.evidence import Evidence, evidence

AT = 978_300_760_000_000


def _evidence(engine: DuckDBTables, events: pa.Table, shown: pa.Table | None = None) -> Evidence:
    return evidence(engine, engine.table(events), None if shown is None else engine.table(shown))


def _events(rows: list[dict[str, object]]):
    plain = {"user_id": "u", "item_id": "i", "action": "view", "happened_at": AT, "known_at": AT}
    return from_log(msgspec.msgpack.encode(plain | {"event_id": str(k)} | row) for k, row in enumerate(rows))


SHOWN = {"action": "impression"}


@pytest.mark.parametrize(
    "rows, level, words",
    [
        ([{}], "L0", "No propensity: off-policy evaluation is impossible; log request_id, position and propensity."),
        ([SHOWN, {}], "L0", "log position"),
        ([SHOWN | {"position": 1}, {}], "L1", "log request_id and propensity."),
        ([SHOWN | {"position": 1, "request_id": "r", "experiment": "e=a"}, {}], "L2", "log propensity."),
        (
            [SHOWN | {"position": 1, "request_id": "r", "experiment": "e=a", "propensity": 0.5}],
            "L3",
            "valued on this log",
        ),
    ],
)
def test_levels(engine, rows, level, words):
    found = _evidence(engine, _events(rows))
    assert found.level == level
    assert len(found.facts) == 5
    assert any(words in fact for fact in found.facts)
    assert all(fact.endswith(".") and "\n" not in fact for fact in found.facts)


def test_served_impressions_carry_everything(engine):
    record = {
        "request_id": "r", "user_id": "u", "surface": "home", "happened_at": 5, "policy_version": "p", "build_id": "b",
        "shown_items": ["i"], "shown_propensities": [1.0], "list_propensity": 1.0, "stage_us": {},
    }  # fmt: skip
    shown = impressions_from_log([msgspec.msgpack.encode(record | {"stage_us": "{}"})])
    assert _evidence(engine, _events([{}]), shown).level == "L3"
    assert _evidence(engine, _events([{}]), shown.slice(0, 0)).level == "L0"


def test_no_events_at_all(engine):
    found = _evidence(engine, _events([]))
    assert (found.level, len(found.facts), found.numbers["events"]) == ("L0", 5, 0)


rows = st.lists(
    st.tuples(st.sampled_from("uvw"), st.sampled_from("abc"), st.integers(0, 3_000_000)), min_size=1, max_size=25
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows)
def test_figures_agree_with_plain_counting(engine, rows):
    found = _evidence(
        engine,
        _events(
            [{"user_id": u, "item_id": i, "happened_at": AT + t, "action": "rating", "value": 3} for u, i, t in rows]
        ),
    )
    seconds = Counter((u, (AT + t) // 1_000_000) for u, _, t in rows)
    ties = sum(seconds[u, (AT + t) // 1_000_000] > 1 for u, _, t in rows) / len(rows)
    pairs = {(u, i) for u, i, _ in rows}
    people, items = {u for u, _, _ in rows}, {i for _, i, _ in rows}
    numbers = found.numbers
    assert (numbers["events"], numbers["people"], numbers["items"]) == (len(rows), len(people), len(items))
    assert numbers["ties"] == pytest.approx(ties)
    assert numbers["repeats"] == pytest.approx(1 - len(pairs) / len(rows))
    assert numbers["density"] == pytest.approx(len(pairs) / len(people) / len(items))
    assert numbers["first"] == "2000-12-31"


def test_figures_read_as_a_person_would_write_them(engine):
    one = _evidence(engine, _events([{}])).facts
    assert one[0].startswith("1 event of 1 person on 1 item, ")
    assert "100 % of all pairs occur, half of the people have at most 1 event." in one[0]
    two = _evidence(engine, _events([{}, {"item_id": "j"}])).facts
    assert two[0].startswith("2 events of 1 person on 2 items, ")
    assert two[2].startswith("100 % of the events share")
    assert not any("e+" in fact or "e-" in fact for fact in (*one, *two))


def test_people_and_items_may_share_their_names(engine) -> None:
    chance = random.Random(3)
    pairs = [(f"{chance.randrange(60)}", f"{chance.randrange(60)}") for _ in range(3_000)]
    events = [{"user_id": u, "item_id": i, "happened_at": AT + n * 10**6} for n, (u, i) in enumerate(pairs)]
    found = _evidence(engine, _events(events)).numbers
    assert found["repeats"] == pytest.approx(1 - len(set(pairs)) / len(pairs))
    assert (found["people"], found["ties"]) == (60, 0)
