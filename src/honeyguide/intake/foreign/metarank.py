"""Metarank's events: item, user, ranking and interaction, a JSON object a line, all in one file or in several.

A ranking becomes an impression for each of its items, with its slot and the ranking's id as request; an interaction
that names its ranking gets the slot, and the person and the query where it lacks them. Metadata may come in pieces:
the last value of each field stands. Source: Metarank's documentation, "Event schema".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from honeyguide.intake.foreign.base import File, Importer
from honeyguide.intake.foreign.facts import ITEM_COLUMNS, called, item_facts
from honeyguide.intake.foreign.records import Head, Record, records
from honeyguide.intake.foreign.rows import Part, Rows, Unfit, identity, text, word
from honeyguide.intake.foreign.showings import Showings
from honeyguide.schema import columns as c
from honeyguide.schema.columns import Column
from honeyguide.schema.tables import EVENTS, ITEMS, USERS

__all__ = ["METARANK"]

_EVENT = (
    c.EVENT_ID, c.USER_ID, c.ITEM_ID, c.ACTION, c.VALUE, c.HAPPENED_AT, c.REQUEST_ID, c.SESSION_ID, c.POSITION, c.QUERY,
)  # fmt: skip
_COLUMNS = {
    EVENTS.name: _EVENT,
    ITEMS.name: ITEM_COLUMNS,
    USERS.name: (c.USER_ID, c.KNOWN_AT),
}
_KINDS = ("item", "user", "ranking", "interaction")
_NEEDED = {"item": ("item",), "user": ("user",), "ranking": ("items",), "interaction": ("item", "type")}
_LOST_RANKING = "{n} interactions name a ranking that is not in the export: they have no slot."
_NO_USER = "{n} records name no user: the session stands for the person."


def _role(head: Head) -> str | None:
    if head.written not in ("json", "parquet") or not {"event", "timestamp"} <= head.names:
        return None
    kinds = [fields for fields in head.first if fields.get("event") in _KINDS and _whole(fields)]
    return "events" if 2 * len(kinds) > len(head.first) else None


def _whole(fields: dict[str, Any]) -> bool:
    return all(name in fields for name in _NEEDED[fields["event"]])


def _read(files: Sequence[File], rows: Rows) -> Iterator[Part]:
    shown = Showings()
    if rows.want(EVENTS):
        for file in files:
            for record in records(file.path, file.written):
                _index(record, shown)
    metadata: dict[tuple[str, str], _Merged] = {}
    for file in files:
        yield from rows.begin(file.path, _COLUMNS)
        for record in records(file.path, file.written):
            if record.fields is None:
                rows.refuse(EVENTS, record)
                continue
            try:
                _take(record, record.fields, rows, shown, metadata, file)
            except Unfit as unfit:
                rows.refuse(_table(record.fields), record, str(unfit))
            yield from rows.full()
    yield from rows.all()
    yield from _merged(metadata, rows)


def _table(fields: dict[str, Any]) -> Any:
    return {"item": ITEMS, "user": USERS}.get(str(fields.get("event")), EVENTS)


def _index(record: Record, shown: Showings) -> None:
    fields = record.fields
    if fields is None or fields.get("event") != "ranking" or not isinstance(fields.get("items"), list):
        return
    try:
        request = identity(fields.get("id"), "The ranking's id")
        items = [_item_of(item) for item in fields["items"]]
        person = identity(fields.get("user"), "") or identity(fields.get("session"), "")
        query, _ = _query(_named(fields))
    except Unfit:
        return
    if request is not None:
        shown.add(request, items, (person, query))


def _take(
    record: Record,
    fields: dict[str, Any],
    rows: Rows,
    shown: Showings,
    metadata: dict[tuple[str, str], _Merged],
    file: File,
) -> None:
    kind = fields.get("event")
    if not isinstance(kind, str) or kind not in _KINDS:
        raise Unfit("`event` is none of item, user, ranking, interaction.")
    if not _whole(fields):
        raise Unfit(f"The {kind} lacks {' and '.join(name for name in _NEEDED[kind] if name not in fields)}.")
    if kind in ("item", "user"):
        if rows.want(_table(fields)):
            key = identity(fields[kind], f"The {kind}")
            if not key:
                raise Unfit(f"The {kind} has no id.")
            _merge(metadata, kind, key, record, file, rows)
    elif rows.want(EVENTS):
        (_ranking if kind == "ranking" else _interaction)(record.number, fields, rows, shown)


def _ranking(number: int, fields: dict[str, Any], rows: Rows, shown: Showings) -> None:
    if not isinstance(fields["items"], list):
        raise Unfit("The ranking's `items` is no list.")
    request = identity(fields.get("id"), "The ranking's id")
    base = _common(fields, rows) | {c.ACTION: "impression", c.REQUEST_ID: request}
    base[c.QUERY], facts = _query(_named(fields))
    facts |= _beside(fields, {"items"})
    items = fields["items"]
    ids = [_item_of(item) for item in items]
    if not items:
        rows.say("{n} rankings hold no item: they are in quarantine, as an event is of an item.")
        rows.give(EVENTS, number, base, facts)
    for slot, (item_id, item) in enumerate(zip(ids, items, strict=True), 1):
        own = _named(item) | {name: item[name] for name in item if name not in ("id", "fields")}
        event = {c.ITEM_ID: item_id, c.POSITION: str(slot), c.EVENT_ID: f"{request}/{slot}" if request else None}
        rows.give(EVENTS, number, base | event, facts | own)


def _interaction(number: int, fields: dict[str, Any], rows: Rows, shown: Showings) -> None:
    request = identity(fields.get("ranking"), "The ranking")
    item = identity(fields["item"], "The item")
    event = _common(fields, rows, quiet=True) | {
        c.EVENT_ID: identity(fields.get("id"), "The interaction's id"),
        c.ITEM_ID: item,
        c.ACTION: text(fields["type"]),
        c.REQUEST_ID: request,
    }
    event[c.QUERY], facts = _query(_named(fields))
    of_request = shown.facts(request)
    if of_request is not None:
        slot = shown.slot(request, item)
        event[c.POSITION] = None if slot is None else str(slot)
        event[c.USER_ID] = event[c.USER_ID] or of_request[0]
        event[c.QUERY] = event[c.QUERY] or of_request[1]
        if slot is None:
            rows.say("{n} interactions are with an item that their ranking does not hold: they have no slot.")
    elif request is not None:
        rows.say(_LOST_RANKING)
    if event[c.USER_ID] is None and event[c.SESSION_ID] is not None:
        event[c.USER_ID] = event[c.SESSION_ID]
        rows.say(_NO_USER)
    rows.give(EVENTS, number, event, facts | _beside(fields, {"item", "type", "ranking"}))


def _common(fields: dict[str, Any], rows: Rows, quiet: bool = False) -> dict[Column, Any]:
    user, session = identity(fields.get("user"), "The user"), identity(fields.get("session"), "The session")
    if user is None and session is not None and not quiet:
        user = session
        rows.say(_NO_USER)
    return {c.USER_ID: user, c.SESSION_ID: session, c.HAPPENED_AT: word(fields.get("timestamp"))}


def _beside(fields: dict[str, Any], known: set[str]) -> dict[str, Any]:
    """What Metarank itself does not define: nothing is lost of it."""
    return {
        name: value
        for name, value in fields.items()
        if name not in known and name not in ("event", "id", "timestamp", "user", "session", "fields")
    }


def _item_of(item: Any) -> str | None:
    if not isinstance(item, dict):
        raise Unfit("An item of the ranking is no object.")
    return identity(item.get("id"), "An item's id")


def _named(fields: dict[str, Any]) -> dict[str, Any]:
    """`[{"name": ..., "value": ...}]` as a dictionary."""
    given = fields.get("fields")
    if given is None:
        return {}
    if not isinstance(given, list) or not all(isinstance(f, dict) and isinstance(f.get("name"), str) for f in given):
        raise Unfit("`fields` is no list of names and values.")
    return {f["name"]: f.get("value") for f in given}


def _query(facts: dict[str, Any]) -> tuple[str | None, dict[str, Any]]:
    """The query among the fields, and the fields that are left."""
    name = called(EVENTS.name, tuple(facts)).get(c.QUERY) if facts else None
    if name is None or text(facts[name]) is None:
        return None, facts
    return text(facts[name]), {key: value for key, value in facts.items() if key != name}


# --------------------------------------------------------------------------------------------------- metadata


class _Merged:
    """An item or a person as its records say together: the last value of each field, and when it came."""

    __slots__ = ("fields", "file", "known_at", "number")

    def __init__(self) -> None:
        self.fields: dict[str, Any] = {}
        self.known_at: Any = None
        self.number, self.file = 0, ""


def _merge(
    metadata: dict[tuple[str, str], _Merged], kind: str, key: str, record: Record, file: File, rows: Rows
) -> None:
    fields = record.fields or {}
    named = _named(fields) | _beside(fields, {"item", "user"})
    if (kind, key) in metadata:
        rows.say(f"{{n}} {kind} records add to an earlier one of the same {kind}: merged, the last value stands.")
    merged = metadata.setdefault((kind, key), _Merged())
    merged.fields |= named
    merged.known_at, merged.number, merged.file = fields.get("timestamp"), record.number, str(file.path)


def _merged(metadata: dict[tuple[str, str], _Merged], rows: Rows) -> Iterator[Part]:
    path = ""
    for (kind, key), merged in metadata.items():
        if merged.file != path:
            path = merged.file
            yield from rows.begin(Path(path), _COLUMNS)
        row: dict[Column, Any] = {c.KNOWN_AT: word(merged.known_at)}
        if kind == "user":
            rows.give(USERS, merged.number, row | {c.USER_ID: key}, merged.fields)
        else:
            facts, rest = item_facts(merged.fields)
            rows.give(ITEMS, merged.number, row | facts | {c.ITEM_ID: key}, rest)
        yield from rows.full()
    yield from rows.all()


METARANK = Importer("metarank", "Metarank", (EVENTS, ITEMS, USERS), _role, _read, frozenset({"events"}))
