"""Gorse: feedback, items and users, as its dashboard exports them: JSON lines (0.5), or CSV (to 0.4).

What `read_feedback_types` says in Gorse's configuration is not in the export: each feedback type is an action under its
own name. Go's zero time (year 1) means that there is none. Source: Gorse's storage types `Feedback`, `Item`, `User`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from honeyguide.intake.foreign.base import File, Importer
from honeyguide.intake.foreign.facts import ITEM_COLUMNS, item_facts
from honeyguide.intake.foreign.records import Head, records
from honeyguide.intake.foreign.rows import Part, Rows, Unfit, identity, strings, text, word
from honeyguide.schema import columns as c
from honeyguide.schema.tables import EVENTS, ITEMS, USERS, Table

__all__ = ["GORSE"]

_COLUMNS = {
    EVENTS.name: (c.USER_ID, c.ITEM_ID, c.ACTION, c.VALUE, c.HAPPENED_AT),
    ITEMS.name: ITEM_COLUMNS,
    USERS.name: (c.USER_ID,),
}
_TABLES: dict[str, Table] = {"feedback": EVENTS, "items": ITEMS, "users": USERS}
_GO_ZONE = re.compile(r"(?<=\d) ([+-]\d{4}) [A-Za-z]+$|(?<=\d) ([+-]\d{4}) [+-]\d{2,4}$")


def _role(head: Head) -> str | None:
    names = {_plain(name) for name in head.names}
    json = head.written == "json"
    if {"feedbacktype", "userid", "itemid"} <= names:
        return "feedback"
    if "itemid" in names and "ishidden" in names:
        return "items"
    if "userid" in names and "itemid" not in names and "labels" in names:
        return "users" if json or names <= {"userid", "labels", "subscribe", "comment", "description"} else None
    return None


def _plain(name: str) -> str:
    return name.replace("_", "").lower()


def _read(files: Sequence[File], rows: Rows) -> Iterator[Part]:
    for file in files:
        table = _TABLES[file.role]
        if not rows.want(table):
            continue
        yield from rows.begin(file.path, _COLUMNS)
        for record in records(file.path, file.written):
            if record.fields is None:
                rows.refuse(table, record)
                continue
            fields = {_plain(name): value for name, value in record.fields.items()}
            try:
                _GIVERS[file.role](record.number, fields, rows)
            except Unfit as unfit:
                rows.refuse(table, record, str(unfit))
            yield from rows.full()
    yield from rows.all()


def _feedback(number: int, fields: dict[str, Any], rows: Rows) -> None:
    row = {
        c.USER_ID: identity(fields.get("userid"), "The user's id"),
        c.ITEM_ID: identity(fields.get("itemid"), "The item's id"),
        c.ACTION: text(fields.get("feedbacktype")),
        c.VALUE: word(fields.get("value")),
        c.HAPPENED_AT: _time(fields),
    }
    known = {"userid", "itemid", "feedbacktype", "value", "timestamp"}
    rest = {name: value for name, value in fields.items() if name not in known and value != ""}
    if _is_zero(rest.get("updated")):
        del rest["updated"]
    rows.give(EVENTS, number, row, rest)


def _item(number: int, fields: dict[str, Any], rows: Rows) -> None:
    labels, own = _labels(fields.get("labels"))
    facts, left = item_facts(own)
    hidden = str(fields.get("ishidden", "")).strip().lower()
    categories = strings(fields.get("categories"), None if isinstance(fields.get("categories"), list) else "|")
    row = facts | {
        c.ITEM_ID: identity(fields.get("itemid"), "The item's id"),
        c.AVAILABLE: "false" if hidden in ("true", "1", "t") else "true",
        c.CATEGORIES: list(dict.fromkeys([*(categories or []), *(facts.get(c.CATEGORIES) or [])])) or None,
        c.KNOWN_AT: _time(fields),
    }
    comment = text(fields.get("comment") or fields.get("description"))
    if comment and not row.get(c.DESCRIPTION):
        row[c.DESCRIPTION] = comment
    known = {"itemid", "ishidden", "categories", "timestamp", "labels", "comment", "description"}
    rest = {name: value for name, value in fields.items() if name not in known}
    rows.give(ITEMS, number, row, rest | left | ({"labels": labels} if labels is not None else {}))


def _user(number: int, fields: dict[str, Any], rows: Rows) -> None:
    labels, own = _labels(fields.get("labels"))
    rest = {name: value for name, value in fields.items() if name not in ("userid", "labels") and value not in ("", [])}
    row = {c.USER_ID: identity(fields.get("userid"), "The user's id")}
    rows.give(USERS, number, row, rest | own | ({"labels": labels} if labels is not None else {}))


def _labels(given: Any) -> tuple[Any, dict[str, Any]]:
    """Labels without names (a list), and those with: an object, also one in text as CSV holds it."""
    if isinstance(given, str):
        try:
            given = msgspec.json.decode(given)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            given = strings(given, "|")  # how versions before 0.4 wrote them
    if isinstance(given, dict):
        return None, given
    return (None, {}) if given in (None, [], "") else (given, {})


def _time(fields: dict[str, Any]) -> str | None:
    """A moment as text; Go's own notation brought to ISO 8601."""
    given = word(fields.get("timestamp"))
    if given is None or _is_zero(given):
        return None
    return _GO_ZONE.sub(lambda found: found[1] or found[2], given)


def _is_zero(value: Any) -> bool:
    return isinstance(value, str) and value.startswith("0001-01-01")


_GIVERS = {"feedback": _feedback, "items": _item, "users": _user}
GORSE = Importer("gorse", "Gorse", (EVENTS, ITEMS, USERS), _role, _read, frozenset(_TABLES))
