"""Answers of other engines: Elasticsearch, OpenSearch, Solr, or a plain list. Read, put in another order, given back.

A hit is given back as it came, whatever it holds; only the order of the hits changes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from honeyguide.errors import RequestError
from honeyguide.serving.record import has_control_characters

__all__ = ["MOST_HITS", "ForeignHits", "read_hits"]

MOST_HITS = 1_000
_LONGEST_ID = 512
_ELASTIC, _OPENSEARCH, _SOLR, _LIST = "elasticsearch", "opensearch", "solr", "list"
_ID_FIELDS = {_ELASTIC: ("_id",), _OPENSEARCH: ("_id",), _SOLR: ("id",), _LIST: ("id", "item_id", "_id")}
_SHAPES = {
    _ELASTIC: "an answer of _search: an object with hits.hits, a list of hits",
    _OPENSEARCH: "an answer of _search: an object with hits.hits, a list of hits",
    _SOLR: "an answer of /select: an object with response.docs, a list of documents",
    _LIST: "a list of ids, or of objects with an id",
}


@dataclass(frozen=True, slots=True)
class ForeignHits:
    """Hits of another engine in its order. `back(order)` is the engine's answer with hits at these old indexes."""

    engine: str
    ids: tuple[str, ...]
    back: Callable[[Sequence[int]], Any]


def read_hits(response: Any, engine: str | None = None, id_field: str | None = None) -> ForeignHits:
    """The hits of an engine's answer. A RequestError says what the shape should be and where it is not."""
    kind = engine or _guess(response)
    hits, back = _found(response, kind)
    if len(hits) > MOST_HITS:
        raise RequestError(
            expected=f"at most {MOST_HITS:,} hits", got=f"{len(hits):,}", do="Send the first page or two of them."
        )
    fields = (id_field,) if id_field is not None else _ID_FIELDS[kind]
    return ForeignHits(kind, tuple(_id_of(hit, at, fields) for at, hit in enumerate(hits)), back)


def _guess(response: Any) -> str:
    if isinstance(response, list):
        return _LIST
    if isinstance(response, dict):
        if "hits" in response:
            return _ELASTIC
        if "response" in response or "grouped" in response:
            return _SOLR
        if "responses" in response:
            raise _no_shape(_ELASTIC, "an answer of _msearch, which is several")
    raise RequestError(
        expected="an answer of Elasticsearch or OpenSearch (hits.hits), of Solr (response.docs), or a list of hits",
        got=_kind(response), do="Send the engine's answer as it gave it, under `response`.",
    )  # fmt: skip


def _found(response: Any, kind: str) -> tuple[list[Any], Callable[[Sequence[int]], Any]]:
    if kind == _LIST:
        if not isinstance(response, list):
            raise _no_shape(kind, _kind(response))
        listed: list[Any] = response
        return listed, lambda order: [listed[at] for at in order]
    outer, inner = ("response", "docs") if kind == _SOLR else ("hits", "hits")
    if not isinstance(response, dict):
        raise _no_shape(kind, _kind(response))
    if kind == _SOLR and "grouped" in response:
        raise _no_shape(kind, "a grouped answer, whose documents have no one order")
    body = response.get(outer)
    if not isinstance(body, dict):
        raise _no_shape(kind, f"{_kind(body)} under {outer}" if outer in response else f"an object without {outer}")
    hits = body.get(inner)
    if not isinstance(hits, list):
        said = f"{_kind(hits)} under {outer}.{inner}" if inner in body else f"{outer} without {inner}"
        raise _no_shape(kind, said)
    whole: dict[str, Any] = response
    return hits, lambda order: {**whole, outer: {**body, inner: [hits[at] for at in order]}}


def _id_of(hit: Any, at: int, fields: tuple[str, ...]) -> str:
    given = hit if isinstance(hit, str | int) and not isinstance(hit, bool) else None
    for field in fields if isinstance(hit, dict) else ():
        value: Any = hit.get(field)
        if value is None:
            value = hit
            for part in field.split("."):
                value = value.get(part) if isinstance(value, dict) else None
        if isinstance(value, list) and len(value) == 1:
            value = value[0]  # Solr gives a field that may hold several values as a list
        if isinstance(value, str | int) and not isinstance(value, bool):
            given = value
            break
    text = "" if given is None else str(given)
    if not 0 < len(text) <= _LONGEST_ID or has_control_characters(text):
        raise RequestError(
            expected=f"an id (text or a whole number) in each hit, under {' or '.join(fields)}",
            got=f"{_kind(hit) if given is None else repr(text[:80])} as hit {at + 1}",
            do="Say with `id_field` where the catalog's id stands, as in `_source.sku`.",
        )
    return text


def _no_shape(kind: str, got: str) -> RequestError:
    return RequestError(expected=_SHAPES[kind], got=got, do="Send the engine's answer as it gave it, under `response`.")


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    if isinstance(value, dict) and value:
        return f"an object with {', '.join(map(repr, list(value)[:4]))}"
    return names.get(type(value), "a number")
