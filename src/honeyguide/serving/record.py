"""What the log keeps: answered requests as Impressions, events and items, as msgpack maps of column to value; and back.

Nulls are left out of a payload and put back on reading. JSON columns hold their text, as in the tables.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from honeyguide.contracts import LogRecord
from honeyguide.engines.log.keys import time_key
from honeyguide.errors import DataError
from honeyguide.schema import columns as c
from honeyguide.schema.tables import EVENTS, IMPRESSIONS, ITEMS, RESETS, Table
from honeyguide.schema.wire import (
    Answer,
    EventIn,
    EventsRequest,
    Item,
    RecommendRequest,
    RefusedEvent,
    SearchAnswer,
    SearchRequest,
)

__all__ = [
    "ERASE",
    "EVENT",
    "IMPRESSION",
    "ITEM",
    "RESET",
    "EventRow",
    "PlainEventsRequest",
    "decode_event",
    "decode_events",
    "decode_impression",
    "decode_item",
    "decode_reset",
    "erase_record",
    "event_records",
    "has_control_characters",
    "impression_record",
    "item_record",
    "reset_record",
]

EVENT, IMPRESSION, ITEM, ERASE, RESET = "event", "impression", "item", "erase", "reset"
"""The kinds of LogRecord. Keys carry the kind's first letters, so that an event's id never shadows a request's."""

_SECOND = 1_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EARLIEST_US = int(datetime(1990, 1, 1, tzinfo=UTC).timestamp()) * _SECOND
_AHEAD_US = 300 * _SECOND  # clocks of clients run ahead; further than this is a mistake
_SEEN_AS_MS, _SEEN_AS_US = 1e11, 1e14  # in seconds 1e11 is the year 5138, in milliseconds 1973

_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(dict[str, Any]).decode
_json = msgspec.json.Encoder().encode
_epoch = re.compile(r"-?\d{9,}(\.\d*)?").fullmatch
has_control_characters = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]").search
"""Finds what no id may hold: control characters, line separators, halves of surrogate pairs."""


class _RefusedError(Exception):
    def __init__(self, reason: str, detail: str) -> None:
        self.reason, self.detail = reason, detail


def impression_record(
    request: RecommendRequest | SearchRequest,
    answer: Answer | SearchAnswer,
    at_us: int,
    *,
    experiment: str | None = None,
) -> LogRecord:
    """The IMPRESSIONS row of an answered request; about 5 us for 20 items."""
    user_id = request.user_id or ""
    items = answer.items
    row: dict[str, Any] = {
        c.REQUEST_ID: answer.request_id,
        c.USER_ID: user_id,
        c.SURFACE: answer.surface,
        c.HAPPENED_AT: at_us,
        c.POLICY_VERSION: answer.policy_version,
        c.BUILD_ID: answer.build_id,
        c.SHOWN_ITEMS: [shown.item_id for shown in items],
        c.SHOWN_PROPENSITIES: [shown.propensity for shown in items],
        c.LIST_PROPENSITY: answer.list_propensity,
        c.STAGE_US: _text(answer.stage_us),
    }
    if experiment is not None:
        row[c.EXPERIMENT] = experiment
    if isinstance(request, SearchRequest):
        row[c.QUERY] = request.query
    elif request.item_id is not None or request.board_items:
        row[c.SEEDS] = [request.item_id] if request.item_id is not None else request.board_items
    if request.context:
        row[c.CONTEXT] = _text(request.context)
    if answer.fallback is not None:
        row[c.FALLBACK] = answer.fallback
    if isinstance(answer, Answer) and answer.exploration is not None:
        row[c.EXPLORATION] = _text(answer.exploration)
    if answer.merchandising:
        row[c.MERCHANDISING] = _text(_ruled(answer))
    return LogRecord(f"imp:{answer.request_id}", IMPRESSION, at_us, user_id, _pack(row))


def _ruled(answer: Answer | SearchAnswer) -> dict[str, Any]:
    """What rules did, as the log keeps it: the pinned slots (their propensity is 1), and every rule that held."""
    pinned = {str(slot): shown.rule for slot, shown in enumerate(answer.items, 1) if shown.rule is not None}
    return {"pinned": pinned, "rules": sorted({one.rule for one in answer.merchandising})}


class PlainEventsRequest(EventsRequest):
    """Events from JSON of ASCII without an escape: no text of theirs holds what no id may hold."""

    @staticmethod
    def fits(body: bytes) -> bool:
        """Whether a body is such JSON; JSON itself lets no control character through but DEL. 3 us for 20 kB."""
        return body.isascii() and b"\\" not in body and b"\x7f" not in body


class _EventRow(msgspec.Struct, omit_defaults=True, gc=False):
    """An EVENTS row as it is packed; a subset of its columns, in their order."""

    event_id: str
    user_id: str
    item_id: str
    action: str
    happened_at: int
    known_at: int
    value: float | None = None
    surface: str | None = None
    request_id: str | None = None
    session_id: str | None = None
    position: int | None = None
    query: str | None = None
    context: str | None = None
    corrects: str | None = None


def event_records(
    batch: EventsRequest, now_us: int, refuse: Mapping[int, tuple[str, str]] | None = None
) -> tuple[list[LogRecord], list[RefusedEvent]]:
    """EVENTS rows of the valid events, in order, and the others with a stable reason and its detail; 1 us an event.

    Reasons: `bad_time`, `in_the_future` (more than five minutes ahead), `before_1990`, `not_finite`, `bad_id`; and
    what the caller refuses: reason and detail by the event's place.
    """
    records: list[LogRecord] = []
    refused: list[RefusedEvent] = []
    told = refuse or {}
    strict = not isinstance(batch, PlainEventsRequest) and not _clean(batch)
    latest = now_us + _AHEAD_US
    for index, event in enumerate(batch.events):
        if index in told:
            refused.append(RefusedEvent(index, *told[index]))
            continue
        event_id, value, at = event.event_id or time_key(), event.value, event.happened_at
        try:
            if strict:
                _check_ids(event, event_id)
            if value is not None and not math.isfinite(value):
                raise _RefusedError("not_finite", f"{c.VALUE} is {value}")
            # Seconds, as most clients send; everything else is looked at more closely.
            if at.__class__ is float and _EARLIEST_US / _SECOND <= at <= latest / _SECOND:
                at = round(at * _SECOND)
            else:
                at = now_us if at is None else _moment(at, now_us)
        except _RefusedError as error:
            refused.append(RefusedEvent(index, error.reason, error.detail))
            continue
        row = _EventRow(
            event_id, event.user_id, event.item_id, event.action, at, at if at > now_us else now_us, value,
            event.surface, event.request_id, event.session_id, event.position, event.query,
            _text(event.context) if event.context else None, event.corrects,
        )  # fmt: skip
        records.append(LogRecord("ev:" + event_id, EVENT, at, event.user_id, _pack(row)))
    return records, refused


def _clean(batch: EventsRequest) -> bool:
    """Whether no id of any event can hold what no id may hold: one look at all of them together."""
    texts = [
        f"{e.user_id}{e.item_id}{e.action}{e.event_id}{e.surface}{e.request_id}{e.session_id}{e.corrects}"
        for e in batch.events
    ]
    return "".join(texts).isprintable()


def erase_record(hashed: str, now_us: int) -> LogRecord:
    """Tells every process that a person was erased; by a salted hash, so that the log does not name them."""
    return LogRecord(f"erase:{time_key()}", ERASE, now_us, "", hashed.encode())


def reset_record(user_id: str, now_us: int, event_id: str | None = None) -> LogRecord:
    """The RESETS row of a person who begins anew; a second one with the same id is none."""
    event_id = event_id or time_key()
    row = {c.EVENT_ID: event_id, c.USER_ID: user_id, c.HAPPENED_AT: now_us}
    return LogRecord(f"reset:{event_id}", RESET, now_us, user_id, _pack(row))


def item_record(item: Item, now_us: int) -> LogRecord:
    """The ITEMS row of an added or changed item. Each change is a record of its own; the newest counts."""
    row = {column: value for column in ITEMS.columns if (value := getattr(item, column, None)) is not None}
    row[c.ATTRIBUTES] = _text(item.attributes)
    row[c.KNOWN_AT] = now_us
    return LogRecord(f"item:{time_key()}", ITEM, now_us, "", _pack(row))


class EventRow(msgspec.Struct, gc=False):
    """What features need of a logged event; times in microseconds."""

    user_id: str
    item_id: str
    action: str
    happened_at: int
    value: float | None = None
    event_id: str = ""
    corrects: str | None = None
    surface: str | None = None
    query: str | None = None
    context: str | None = None


_rows = msgspec.msgpack.Decoder(EventRow)


def decode_events(payloads: Sequence[bytes]) -> list[EventRow]:
    """Logged events as far as features need them; .4 us each."""
    decode = _rows.decode
    try:
        return [decode(payload) for payload in payloads]
    except msgspec.DecodeError as error:
        raise _unreadable(EVENTS, str(error)) from error


def decode_event(payload: bytes) -> dict[str, Any]:
    """An EVENTS row, every column present; times in microseconds."""
    return _row(payload, EVENTS)


def decode_impression(payload: bytes) -> dict[str, Any]:
    """An IMPRESSIONS row, every column present."""
    return _row(payload, IMPRESSIONS)


def decode_item(payload: bytes) -> dict[str, Any]:
    """An ITEMS row, every column present."""
    return _row(payload, ITEMS)


def decode_reset(payload: bytes) -> dict[str, Any]:
    """A RESETS row, every column present."""
    return _row(payload, RESETS)


def _row(payload: bytes, table: Table) -> dict[str, Any]:
    try:
        found = _unpack(payload)
    except msgspec.DecodeError as error:
        raise _unreadable(table, f"{len(payload)} bytes that are none ({error})") from error
    return {column: found.get(column) for column in table.columns}


def _unreadable(table: Table, got: str) -> DataError:
    return DataError(
        expected=f"a logged row of {table.name}",
        got=got,
        do="The log was written by something else, or is damaged: restore it from a copy.",
    )


def _text(document: object) -> str:
    return _json(document).decode()


def _check_ids(event: EventIn, event_id: str) -> None:
    for name, given in (
        (c.USER_ID, event.user_id),
        (c.ITEM_ID, event.item_id),
        (c.ACTION, event.action),
        (c.EVENT_ID, event_id),
        (c.SURFACE, event.surface),
        (c.REQUEST_ID, event.request_id),
        (c.SESSION_ID, event.session_id),
        (c.CORRECTS, event.corrects),
    ):
        if given is not None and has_control_characters(given):
            raise _RefusedError("bad_id", f"{name} holds control characters: {given!a}")


def _moment(given: str | float, now_us: int) -> int:
    """Microseconds of ISO 8601 (UTC if it names no zone) or of seconds, milli- or microseconds since the epoch."""
    try:
        if isinstance(given, str) and not _epoch(given):
            moment = datetime.fromisoformat(given.strip())
            since = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH
            at = (since.days * 86_400 + since.seconds) * _SECOND + since.microseconds
        else:
            number = float(given)
            unit = 1 if abs(number) >= _SEEN_AS_US else 1000 if abs(number) >= _SEEN_AS_MS else _SECOND
            at = round(number * unit)
    except (ValueError, OverflowError) as error:
        raise _RefusedError("bad_time", f"{c.HAPPENED_AT} is no ISO 8601 time and no epoch time: {given!a}") from error
    if at > now_us + _AHEAD_US:
        raise _RefusedError("in_the_future", f"{c.HAPPENED_AT} {given!a} is more than five minutes ahead")
    if at < _EARLIEST_US:
        raise _RefusedError("before_1990", f"{c.HAPPENED_AT} {given!a} is before 1990")
    return at
