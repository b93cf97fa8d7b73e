"""Google Retail (Vertex AI Search for commerce): user events and the product catalog, a JSON object a line.

Each product of a user event is a row. The products of `search` and `category-page-view` are what was shown:
impressions, with their slots. A logged-in user's id goes before the visitor's. Source: the Retail API's UserEvent and
Product, v2.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from honeyguide.intake.foreign.base import File, Importer
from honeyguide.intake.foreign.facts import ITEM_COLUMNS
from honeyguide.intake.foreign.records import Head, records
from honeyguide.intake.foreign.rows import Part, Rows, Unfit, identity, strings, text, word
from honeyguide.schema import columns as c
from honeyguide.schema.columns import Column
from honeyguide.schema.tables import EVENTS, ITEMS

__all__ = ["RETAIL"]

_COLUMNS = {
    EVENTS.name: (
        c.USER_ID, c.ITEM_ID, c.ACTION, c.VALUE, c.HAPPENED_AT, c.SURFACE, c.REQUEST_ID, c.SESSION_ID, c.EXPERIMENT,
        c.POSITION, c.QUERY,
    ),
    ITEMS.name: ITEM_COLUMNS,
}  # fmt: skip
_SHOWS = {"search": "search", "category-page-view": "category"}
_MAPPED = {
    "eventType", "visitorId", "eventTime", "productDetails", "attributionToken", "searchQuery", "sessionId", "userInfo",
    "experimentIds", "offset",
}  # fmt: skip
_PRODUCT = {"id", "title", "categories", "brands", "description", "languageCode"}


def _role(head: Head) -> str | None:
    if head.written not in ("json", "parquet"):
        return None
    if {"eventType", "visitorId"} <= head.names:
        return "events"
    known = {"priceInfo", "languageCode", "availability", "primaryProductId", "images", "brands", "availableTime"}
    named = "title" in head.names and ("id" in head.names or "name" in head.names)
    return "products" if named and "categories" in head.names and head.names & known else None


def _read(files: Sequence[File], rows: Rows) -> Iterator[Part]:
    for file in files:
        table = EVENTS if file.role == "events" else ITEMS
        if not rows.want(table):
            continue
        yield from rows.begin(file.path, _COLUMNS)
        for record in records(file.path, file.written):
            if record.fields is None:
                rows.refuse(table, record)
                continue
            try:
                (_event if table is EVENTS else _product)(record.number, record.fields, rows)
            except Unfit as unfit:
                rows.refuse(table, record, str(unfit))
            yield from rows.full()
    yield from rows.all()


def _event(number: int, fields: dict[str, Any], rows: Rows) -> None:
    kind = fields.get("eventType")
    if not isinstance(kind, str):
        raise Unfit("The event has no `eventType`.")
    details = fields.get("productDetails") or []
    if not isinstance(details, list) or not all(isinstance(one, dict) for one in details):
        raise Unfit("`productDetails` is no list of products.")
    base, rest = _common(fields, rows)
    shows = _SHOWS.get(kind)
    base |= {c.ACTION: "impression" if shows else kind, c.SURFACE: shows}
    if shows:
        rest |= {"eventType": kind}
    offset = _whole(fields.get("offset"))
    if not details:
        rows.say(f"{{n}} {kind} events name no product: they are in quarantine, as an event is of an item.")
        rows.give(EVENTS, number, base, rest)
    for place, detail in enumerate(details, 1):
        product = detail.get("product")
        if not isinstance(product, dict):
            raise Unfit("A product of `productDetails` is no object.")
        own = {name: value for name, value in detail.items() if name != "product"}
        own |= {f"product.{name}": value for name, value in product.items() if name not in ("id", "name")}
        event = {c.ITEM_ID: _id(product), c.VALUE: _value(fields, len(details))}
        if shows:
            event[c.POSITION] = str(offset + place)
        rows.give(EVENTS, number, base | event, rest | own)


def _common(fields: dict[str, Any], rows: Rows) -> tuple[dict[Column, Any], dict[str, Any]]:
    rest = {name: value for name, value in fields.items() if name not in _MAPPED}
    user = fields.get("userInfo") or {}
    if not isinstance(user, dict):
        raise Unfit("`userInfo` is no object.")
    visitor, known = identity(fields.get("visitorId"), "The visitor"), identity(user.get("userId"), "The user's id")
    if known:
        rows.say("{n} events carry a userId: it stands for the person, the visitorId is kept in context.")
        rest["visitorId"] = visitor
    rest |= {f"userInfo.{name}": value for name, value in user.items() if name != "userId"}
    groups = strings(fields.get("experimentIds"))
    return {
        c.USER_ID: known or visitor,
        c.HAPPENED_AT: word(fields.get("eventTime")),
        c.REQUEST_ID: identity(fields.get("attributionToken"), "The attribution token"),
        c.SESSION_ID: identity(fields.get("sessionId"), "The session"),
        c.EXPERIMENT: ",".join(groups) if groups else None,
        c.QUERY: text(fields.get("searchQuery")),
    }, rest


def _value(fields: dict[str, Any], products: int) -> str | None:
    """The revenue of a purchase of one product; that of several cannot be parted and stays in context."""
    paid = fields.get("purchaseTransaction")
    return text(paid.get("revenue")) if products == 1 and isinstance(paid, dict) else None


def _whole(value: Any) -> int:
    return int(value) if isinstance(value, int | float | str) and str(value).isdigit() else 0


def _id(product: dict[str, Any]) -> str | None:
    found = identity(product.get("id"), "The product's id")
    name = product.get("name")
    return name.rsplit("/", 1)[-1] if not found and isinstance(name, str) else found


def _product(number: int, fields: dict[str, Any], rows: Rows) -> None:
    price, images = fields.get("priceInfo") or {}, fields.get("images") or []
    if not isinstance(price, dict) or not isinstance(images, list):
        raise Unfit("`priceInfo` is no object, or `images` is no list.")
    first = images[0] if images and isinstance(images[0], dict) else {}
    sold = fields.get("availability")
    row: dict[Column, Any] = {
        c.ITEM_ID: _id(fields),
        c.TITLE: text(fields.get("title")),
        c.DESCRIPTION: text(fields.get("description")),
        c.CATEGORIES: strings(fields.get("categories")),
        c.PEOPLE: strings(fields.get("brands")),
        c.LANGUAGE: text(fields.get("languageCode")),
        c.PRICE: word(price.get("price")),
        c.IMAGE_URL: text(first.get("uri")),
        c.AVAILABLE: "false" if sold == "OUT_OF_STOCK" else "true",
        c.KNOWN_AT: word(fields.get("publishTime") or fields.get("availableTime")),
    }
    rest = {name: value for name, value in fields.items() if name not in (*_PRODUCT, "name", "priceInfo", "images")}
    rest |= {f"priceInfo.{name}": value for name, value in price.items() if name != "price"}
    if images and images != [{"uri": first.get("uri")}]:
        rest["images"] = images
    rows.give(ITEMS, number, row, rest)


RETAIL = Importer("retail", "Google Retail", (EVENTS, ITEMS), _role, _read, frozenset({"events", "products"}))
