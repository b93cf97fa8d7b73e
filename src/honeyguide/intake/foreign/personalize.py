"""Amazon Personalize: interactions, items and users as CSV, with the service's reserved column names in capitals.

`IMPRESSION` lists, parted by `|`, what was visible when a person acted: each becomes an impression of its own, once per
person, moment and list. The list's order is not documented as slots, so impressions carry none; it is kept in context.
Source: Amazon Personalize developer guide, "Item interactions dataset" and "Items / Users dataset requirements".
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

from honeyguide.intake.foreign.base import File, Importer
from honeyguide.intake.foreign.facts import ITEM_COLUMNS, item_facts
from honeyguide.intake.foreign.records import Head, records
from honeyguide.intake.foreign.rows import Part, Rows, strings, word
from honeyguide.schema import columns as c
from honeyguide.schema.columns import Column
from honeyguide.schema.tables import EVENTS, ITEMS, USERS, Table

__all__ = ["PERSONALIZE"]

_COLUMNS = {
    EVENTS.name: (
        c.USER_ID, c.ITEM_ID, c.ACTION, c.VALUE, c.HAPPENED_AT, c.REQUEST_ID,
    ),
    ITEMS.name: ITEM_COLUMNS,
    USERS.name: (c.USER_ID,),
}  # fmt: skip
_MAPPED = {"USER_ID", "ITEM_ID", "TIMESTAMP", "EVENT_TYPE", "EVENT_VALUE", "RECOMMENDATION_ID", "IMPRESSION"}
_TABLES = {"interactions": EVENTS, "items": ITEMS, "users": USERS}
_LEVELS = ("CATEGORY_L1", "CATEGORY_L2", "CATEGORY_L3")
_ITEM_FIELDS = {"CREATION_TIMESTAMP", "PRICE", "GENRES", "PRODUCT_DESCRIPTION", *_LEVELS}
_REMEMBERED = 100_000


def _role(head: Head) -> str | None:
    if head.written not in ("csv", "parquet"):
        return None
    if {"USER_ID", "ITEM_ID", "TIMESTAMP"} <= head.names:
        return "interactions"
    if "ITEM_ID" in head.names and "USER_ID" not in head.names:
        return "items"
    return "users" if "USER_ID" in head.names and "ITEM_ID" not in head.names else None


def _read(files: Sequence[File], rows: Rows) -> Iterator[Part]:
    for file in files:
        table = _TABLES[file.role]
        if not rows.want(table):
            continue
        yield from rows.begin(file.path, _COLUMNS)
        last: dict[str, None] = {}
        for record in records(file.path, file.written):
            if record.fields is None:
                rows.refuse(table, record)
            elif table is EVENTS:
                _interaction(record.number, record.fields, file, rows, last)
            else:
                _facts(table, record.number, record.fields, rows)
            yield from rows.full()
    yield from rows.all()


def _interaction(number: int, fields: dict[str, Any], file: File, rows: Rows, last: dict[str, None]) -> None:
    rest = {name: value for name, value in fields.items() if name not in _MAPPED}
    seen = strings(fields.get("IMPRESSION"), "|")
    request = word(fields.get("RECOMMENDATION_ID"))
    base: dict[Column, Any] = {c.USER_ID: word(fields.get("USER_ID")), c.HAPPENED_AT: word(fields.get("TIMESTAMP"))}
    if seen:
        key = "\x1f".join([base[c.USER_ID] or "", base[c.HAPPENED_AT] or "", *seen])
        list_id = hashlib.md5(key.encode()).hexdigest()
        request = request or list_id
        if list_id not in last:
            last[list_id] = None
            if len(last) > _REMEMBERED:
                del last[next(iter(last))]
            rows.say("{n} lists of IMPRESSION became an impression per item; their order is no slot, it is in context.")
            for place, item in enumerate(seen, 1):
                shown = {c.ITEM_ID: item, c.ACTION: "impression", c.REQUEST_ID: request}
                rows.give(EVENTS, number, base | shown, {"place_in_list": place})
    action = word(fields.get("EVENT_TYPE"))
    if "EVENT_TYPE" not in file.names:
        action = "view"
        rows.say("No column EVENT_TYPE says what people did: every row counts as 'view' ({n}).")
    own = {
        c.ITEM_ID: word(fields.get("ITEM_ID")),
        c.ACTION: action,
        c.VALUE: word(fields.get("EVENT_VALUE")),
        c.REQUEST_ID: request,
    }
    rows.give(EVENTS, number, base | own, rest)


def _facts(table: Table, number: int, fields: dict[str, Any], rows: Rows) -> None:
    if table is USERS:
        rest = {name: value for name, value in fields.items() if name != "USER_ID"}
        rows.give(USERS, number, {c.USER_ID: word(fields.get("USER_ID"))}, rest)
        return
    levels = [value for name in _LEVELS for value in strings(fields.get(name), "|") or []]
    described = {
        name: value for name, value in fields.items() if name not in ("ITEM_ID", "CREATION_TIMESTAMP", *_LEVELS)
    }
    if "PRODUCT_DESCRIPTION" in described:
        described.setdefault("DESCRIPTION", described.pop("PRODUCT_DESCRIPTION"))
    row, rest = item_facts(described, "|")
    row |= {c.ITEM_ID: word(fields.get("ITEM_ID")), c.KNOWN_AT: word(fields.get("CREATION_TIMESTAMP"))}
    if levels:
        row[c.CATEGORIES] = list(dict.fromkeys([*levels, *(row.get(c.CATEGORIES) or [])]))
    rows.give(ITEMS, number, row, rest)


PERSONALIZE = Importer(
    "personalize", "Amazon Personalize", (EVENTS, ITEMS, USERS), _role, _read, frozenset({"interactions"})
)
