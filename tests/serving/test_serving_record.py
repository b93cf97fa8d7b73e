"""What the log keeps, column by column, and what it refuses."""

from __future__ import annotations

import contextlib
import math
from datetime import UTC, datetime, timedelta, timezone

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from honeyguide.errors import DataError, DeadlineExceededError
from honeyguide.schema.tables import EVENTS, IMPRESSIONS, ITEMS
from honeyguide.schema.wire import (
    Answer,
    EventIn,
    EventsRequest,
    Item,
    RecommendRequest,
    SearchAnswer,
    SearchRequest,
    ShownItem,
)
from honeyguide.serving import deadline as deadline_module
from honeyguide.serving.deadline import Deadline
from honeyguide.serving.record import (
    decode_event,
    decode_impression,
    decode_item,
    event_records,
    impression_record,
    item_record,
)

NOW = int(datetime(2026, 5, 1, 12, tzinfo=UTC).timestamp()) * 1_000_000
SHOWN = [ShownItem("x", 1, 0.5, 0.25, pinned=True), ShownItem("y", 2, 0.4, 0.5)]


def one(**fields: object) -> EventsRequest:
    return EventsRequest([EventIn(**({"user_id": "u", "item_id": "i", "action": "click"} | fields))])  # type: ignore[arg-type]


def test_a_slate_becomes_an_impression_with_every_column() -> None:
    request = RecommendRequest(user_id="u", context={"device": "phone"})
    answer = Answer("r1", "home", "p7", "b3", SHOWN, list_propensity=0.125, stage_us={"rank": 12.5}, fallback="late")
    record = impression_record(request, answer, NOW, experiment="e=arm")
    assert (record.key, record.kind, record.at, record.user_id) == ("imp:r1", "impression", NOW, "u")
    row = decode_impression(record.payload)
    assert tuple(row) == IMPRESSIONS.columns
    assert row == {
        "request_id": "r1", "user_id": "u", "surface": "home", "happened_at": NOW, "policy_version": "p7",
        "build_id": "b3", "experiment": "e=arm", "query": None, "context": '{"device":"phone"}',
        "shown_items": ["x", "y"], "shown_propensities": [0.25, 0.5], "list_propensity": 0.125,
        "stage_us": '{"rank":12.5}', "fallback": "late", "seeds": None,
        "exploration": None, "merchandising": None,
    }  # fmt: skip


def test_a_search_becomes_an_impression_with_its_words_and_nobody_is_an_empty_id() -> None:
    answer = SearchAnswer("r2", "search", "p", "b", "matrix", 9, SHOWN)
    record = impression_record(SearchRequest("matrix"), answer, NOW)
    row = decode_impression(record.payload)
    assert (row["query"], row["user_id"], row["surface"], record.user_id) == ("matrix", "", "search", "")
    assert row["fallback"] is row["experiment"] is row["context"] is None


def test_an_event_comes_back_with_every_column() -> None:
    batch = one(
        event_id="e1", value=4.5, happened_at="2026-05-01T11:59:59.5Z", surface="home", request_id="r", session_id="s",
        position=3, query="q", context={"a": "b"},
    )  # fmt: skip
    [record], refused = event_records(batch, NOW)
    assert (record.key, record.kind, record.at, record.user_id, refused) == ("ev:e1", "event", NOW - 500_000, "u", [])
    row = decode_event(record.payload)
    assert tuple(row) == EVENTS.columns
    assert row == {
        "event_id": "e1", "user_id": "u", "item_id": "i", "action": "click", "value": 4.5,
        "happened_at": NOW - 500_000, "known_at": NOW, "surface": "home", "request_id": "r", "session_id": "s",
        "experiment": None, "position": 3, "propensity": None, "query": "q", "context": '{"a":"b"}',
        "corrects": None,
    }  # fmt: skip


def test_an_event_without_an_id_gets_one_of_its_own() -> None:
    records, _ = event_records(EventsRequest(one().events * 3), NOW)
    assert len({record.key for record in records}) == 3
    assert all(decode_event(record.payload)["happened_at"] == NOW for record in records)


@pytest.mark.parametrize(
    "given_at",
    [
        "2026-05-01T10:00:00Z",
        "2026-05-01T12:00:00+02:00",
        "2026-05-01 10:00:00",
        "20260501T100000Z",
        1_777_629_600,
        1_777_629_600.0,
        1_777_629_600_000,
        1_777_629_600_000_000,
        "1777629600",
        "1777629600000",
    ],
)
def test_times_are_read_as_people_write_them(given_at: str | float) -> None:
    [record], _ = event_records(one(happened_at=given_at), NOW)
    assert record.at == NOW - 7_200_000_000


@given(
    st.datetimes(datetime(1990, 1, 2), datetime(2026, 4, 30)),
    st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes))),
)
def test_every_iso_time_is_exact_to_the_microsecond(moment: datetime, zone: timezone) -> None:
    aware = moment.replace(tzinfo=UTC).astimezone(zone)
    [record], _ = event_records(one(happened_at=aware.isoformat()), NOW)
    assert datetime.fromtimestamp(record.at // 1_000_000, UTC).replace(microsecond=record.at % 1_000_000) == aware


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"happened_at": "yesterday"}, "bad_time"),
        ({"happened_at": ""}, "bad_time"),
        ({"happened_at": math.nan}, "bad_time"),
        ({"happened_at": math.inf}, "bad_time"),
        ({"happened_at": "9" * 400}, "bad_time"),
        ({"happened_at": "2026-05-01T12:05:01Z"}, "in_the_future"),
        ({"happened_at": 1e30}, "in_the_future"),
        ({"happened_at": 0}, "before_1990"),
        ({"happened_at": "1989-12-31T23:59:59Z"}, "before_1990"),
        ({"happened_at": -1e11}, "before_1990"),
        ({"value": math.nan}, "not_finite"),
        ({"value": -math.inf}, "not_finite"),
        ({"user_id": "a\x00b"}, "bad_id"),
        ({"item_id": "a\nb"}, "bad_id"),
        ({"event_id": "a\x85b"}, "bad_id"),
        ({"session_id": "\ud800"}, "bad_id"),
    ],
)
def test_what_cannot_be_is_refused_with_its_reason_and_the_rest_enters(fields: dict[str, object], reason: str) -> None:
    batch = EventsRequest([*one().events, *one(**fields).events, *one().events])
    records, [refused] = event_records(batch, NOW)
    assert len(records) == 2
    assert (refused.index, refused.reason) == (1, reason)
    assert msgspec.json.encode(refused)


def test_a_clock_a_little_ahead_is_let_in_and_nothing_is_known_before_it_happened() -> None:
    [record], _ = event_records(one(happened_at="2026-05-01T12:05:00Z"), NOW)
    row = decode_event(record.payload)
    assert row["known_at"] == row["happened_at"] == NOW + 300_000_000


def test_an_item_comes_back_with_every_column() -> None:
    item = Item("i/1", title="T", categories=["c"], year=1999, price=2.5, attributes={"a": 1, "b": None})
    first, second = item_record(item, NOW), item_record(item, NOW)
    assert first.key != second.key
    assert (first.kind, first.at, first.user_id) == ("item", NOW, "")
    row = decode_item(first.payload)
    assert tuple(row) == ITEMS.columns
    assert row == {
        "item_id": "i/1", "title": "T", "description": None, "categories": ["c"], "people": [], "country": None,
        "year": 1999, "price": 2.5, "language": None, "image_url": None, "attributes": '{"a":1,"b":null}',
        "available": True, "known_at": NOW,
    }  # fmt: skip


@given(st.binary(max_size=40))
def test_bytes_that_are_no_row_are_said_to_be_none(payload: bytes) -> None:
    with contextlib.suppress(DataError):
        assert tuple(decode_event(payload)) == EVENTS.columns
    with pytest.raises(DataError, match="bytes that are none"):
        decode_event(b"\xc1" + payload)


def test_a_deadline_times_its_stages_and_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0, 2_000_000, 2_500_000, 7_000_000, 10_000_001, 11_000_000, 11_000_000])
    monkeypatch.setattr(deadline_module, "perf_counter_ns", lambda: next(clock))
    deadline = Deadline(budget_ms=10)
    deadline.check("retrieve")
    deadline.check("rank")
    deadline.check("retrieve")
    with pytest.raises(DeadlineExceededError, match=r"within 10 ms; got 10\.0 ms after slate"):
        deadline.check("slate")
    assert not deadline.note("fallback")
    assert deadline.stage_us == {"retrieve": 6_500.0, "rank": 500.0, "slate": 3_000.001, "fallback": 999.999}
    assert deadline.left_ms == -1.0
