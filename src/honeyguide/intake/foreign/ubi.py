"""User Behavior Insights (UBI), versions 1.0 to 1.3: queries with the ids they found, and the events after them.

JSON lines (also as search engines dump them, under `_source`), CSV or Parquet, nested as specified or flat. A query
becomes an impression for each result, with its slot and the query's id as request; an event gets the words of its
query, and its slot there where it gives none. Source: o19s/ubi, event.schema.json and query.request.schema.json.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from honeyguide.intake.actions import meaning
from honeyguide.intake.foreign.base import File, Importer
from honeyguide.intake.foreign.records import Head, records
from honeyguide.intake.foreign.rows import Part, Rows, Unfit, identity, strings, text, word
from honeyguide.intake.foreign.showings import Showings
from honeyguide.schema import columns as c
from honeyguide.schema.columns import Column
from honeyguide.schema.tables import EVENTS

__all__ = ["UBI"]

_COLUMNS = {
    EVENTS.name: (
        c.EVENT_ID, c.USER_ID, c.ITEM_ID, c.ACTION, c.VALUE, c.HAPPENED_AT, c.SURFACE, c.REQUEST_ID, c.SESSION_ID,
        c.POSITION, c.QUERY,
    ),
}  # fmt: skip
# The specification's name first, then what older versions and flat exports say.
_ACTION = ("action_name", "action")
_TIME = ("timestamp", "ts")
_HITS = ("query_response_hit_ids", "query_response_objects_ids", "query_response_object_ids", "result_ids")
_NOTHING = {"None", "null", "NULL", "nan", ""}  # how flat exports write that there is none


def _role(head: Head) -> str | None:
    if "user_query" in head.names and "query_id" in head.names and not head.names & set(_ACTION):
        return "queries"
    about = {"query_id", "client_id", "session_id", "message_type", "event_attributes"} & head.names
    nested = "event_attributes" in head.names and "action_name" in head.names
    flat = head.names & set(_ACTION) and {"query_id", "object_id", "client_id"} <= head.names
    return "events" if (nested or flat) and len(about) >= 2 else None


def _read(files: Sequence[File], rows: Rows) -> Iterator[Part]:
    shown, seen, first = Showings(), False, 1
    if rows.want(EVENTS):
        for file in files:
            for record in records(file.path, file.written):
                if record.fields is not None:
                    if file.role == "queries":
                        _index(record.fields, shown)
                    else:
                        seen = seen or _is_showing(record.fields)
                        first = min(first, _ordinal(record.fields))
    if first == 0:
        rows.say("Ordinals of events start at 0: one was added, as the first slot is 1.", 0)
    if seen:
        rows.say("Events say what was seen: results of queries are not counted as shown.", 0)
    for file in files:
        yield from rows.begin(file.path, _COLUMNS)
        for record in records(file.path, file.written):
            if record.fields is None:
                rows.refuse(EVENTS, record)
                continue
            try:
                if file.role == "queries":
                    _query(record.number, record.fields, rows, seen)
                else:
                    _event(record.number, record.fields, rows, shown, 1 - first)
            except Unfit as unfit:
                rows.refuse(EVENTS, record, str(unfit))
            yield from rows.full()
    yield from rows.all()


def _first(fields: dict[str, Any], names: tuple[str, ...]) -> Any:
    return next((fields[name] for name in names if _there(fields.get(name))), None)


def _there(value: Any) -> bool:
    return value is not None and not (isinstance(value, str) and value in _NOTHING)


def _index(fields: dict[str, Any], shown: Showings) -> None:
    try:
        request = identity(fields.get("query_id"), "")
        hits = _hits(fields)
        person = identity(fields.get("client_id"), "")
    except Unfit:
        return
    if request is not None:
        shown.add(request, [*hits], (person, text(fields.get("user_query"))))


def _hits(fields: dict[str, Any]) -> list[str]:
    """The ids that a query found, best first: a list, a list as JSON text, or text parted by commas."""
    found = _first(fields, _HITS)
    if isinstance(found, str) and found.startswith("["):
        try:
            found = msgspec.json.decode(found)
        except (msgspec.DecodeError, RecursionError) as error:
            raise Unfit("The query's result ids are no list.") from error
    if found is not None and not isinstance(found, list | str):
        raise Unfit("The query's result ids are no list.")
    return strings(found, ",") or []


def _is_showing(fields: dict[str, Any]) -> bool:
    action = _first(fields, _ACTION)
    return isinstance(action, str) and meaning(action) == "shown" and _object(fields)[0] is not None


def _query(number: int, fields: dict[str, Any], rows: Rows, seen: bool) -> None:
    request = identity(fields.get("query_id"), "The query's id")
    items = _hits(fields)
    base: dict[Column, Any] = {
        c.USER_ID: identity(fields.get("client_id"), "The client"),
        c.SESSION_ID: identity(fields.get("session_id"), "The session"),
        c.HAPPENED_AT: word(_first(fields, _TIME)),
        c.REQUEST_ID: request,
        c.QUERY: text(fields.get("user_query")),
        c.ACTION: "impression",
        c.SURFACE: "search",
    }
    rest = _left(fields, {"query_id", "client_id", "session_id", "user_query", *_TIME, *_HITS})
    if seen or not items:
        # A query is no event of an item; it stays whole in quarantine, and its words are on its events.
        said = "{n} queries show nothing that counts as shown: they are in quarantine, their words are on their events."
        rows.say("{n} queries found nothing: they are in quarantine, as an event is of an item." if not items else said)
        rest |= {"results": items} if items else {}
        rows.give(EVENTS, number, base | {c.ACTION: "search"}, rest)
        return
    for slot, item in enumerate(items, 1):
        rows.give(EVENTS, number, base | {c.ITEM_ID: item, c.POSITION: str(slot)}, rest)


def _ordinal(fields: dict[str, Any]) -> int:
    """0 if the event's ordinal is 0, else 1."""
    try:
        return 0 if word(_object(fields)[1]) == "0" else 1
    except Unfit:
        return 1


def _event(number: int, fields: dict[str, Any], rows: Rows, shown: Showings, add: int) -> None:
    action = text(_first(fields, _ACTION))
    request = identity(fields.get("query_id") if _there(fields.get("query_id")) else None, "The query's id")
    item, position, rest = _object(fields)
    of_query = shown.facts(request)
    if item is not None and of_query is not None and not shown.ever(item):
        rows.say("{n} events are of an object that no query found (a filter, a page): in quarantine, as it is no item.")
        item, rest = None, rest | {"object_id": item}
    elif item is None:
        rows.say("{n} events name no object: they are in quarantine, as an event is of an item.")
    client = fields.get("client_id") if _there(fields.get("client_id")) else fields.get("user_id")
    query = text(fields.get("user_query")) or (of_query[1] if of_query else None)
    slot = shown.slot(request, item) if position is None else position
    if add and position is not None and str(word(position)).isdigit():
        slot = int(str(word(position))) + add
    rows.give(
        EVENTS,
        number,
        {
            c.EVENT_ID: identity(fields.get("event_id"), "The event's id"),
            c.USER_ID: identity(client, "The client") or (of_query[0] if of_query else None),
            c.SESSION_ID: identity(fields.get("session_id"), "The session"),
            c.ITEM_ID: item,
            c.ACTION: action,
            c.VALUE: None,
            c.HAPPENED_AT: word(_first(fields, _TIME)),
            c.REQUEST_ID: request,
            c.POSITION: None if slot is None else word(slot),
            c.QUERY: query,
            c.SURFACE: None,
        },
        rest,
    )


_ENVELOPE = {"query_id", "client_id", "session_id", "event_id", "user_query", *_ACTION, *_TIME}


def _object(fields: dict[str, Any]) -> tuple[str | None, Any, dict[str, Any]]:
    """The item, its slot, and what is left, of an event in its nested or its flat form."""
    rest = _left(fields, {*_ENVELOPE, "event_attributes", "object_id", "position"})
    given = fields.get("event_attributes")
    if given is None:
        item = fields.get("object_id")
        position = fields.get("position")
        return (
            identity(item, "The object's id") if _there(item) else None,
            position if _there(position) else None,
            rest,
        )
    if not isinstance(given, dict):
        raise Unfit("`event_attributes` is no object.")
    thing, place = given.get("object") or {}, given.get("position") or {}
    if not isinstance(thing, dict) or not isinstance(place, dict):
        raise Unfit("`event_attributes.object` or `.position` is no object.")
    item, ordinal = thing.get("object_id"), place.get("ordinal")
    if isinstance(ordinal, dict):  # 1.0 nests it once more
        ordinal = ordinal.get("index")
    rest |= {name: value for name, value in given.items() if name not in ("object", "position")}
    rest |= {f"object.{name}": value for name, value in thing.items() if name != "object_id"}
    rest |= {f"position.{name}": value for name, value in place.items() if name != "ordinal"}
    return (identity(item, "The object's id") if _there(item) else None), ordinal, rest


def _left(fields: dict[str, Any], known: set[str]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name not in known and _there(value)}


UBI = Importer("ubi", "User Behavior Insights (UBI)", (EVENTS,), _role, _read, frozenset({"events", "queries"}))
