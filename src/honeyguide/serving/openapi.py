"""The OpenAPI document: schemas from the wire's own types, an example for every request and answer."""

from __future__ import annotations

from typing import Any

import msgspec

from honeyguide.schema.wire import (
    Answer,
    EventsAnswer,
    EventsRequest,
    Item,
    JudgeRequest,
    RecommendRequest,
    RerankAnswer,
    RerankRequest,
    ResetAnswer,
    ResetRequest,
    SearchAnswer,
    SearchRequest,
    SuggestAnswer,
)
from honeyguide.serving.bodies import ItemBody
from honeyguide.serving.openapi_room import search_room
from honeyguide.serving.refusals import ErrorAnswer

__all__ = ["document"]

_SHOWN = {
    "item_id": "2571",
    "position": 1,
    "score": 0.83,
    "propensity": 0.95,
    "title": "The Matrix",
    "reason": "because you liked Blade Runner",
    "sources": ["covisit", "factors"],
    "heads": {"like": 0.81, "dislike": 0.04},
    "year": 1999,
    "categories": ["Action", "Sci-Fi"],
    "because": ["541"],
}
_ANSWERED = {
    "request_id": "0646c1f0a1b2c00000001d3a5b7c9e1f",
    "policy_version": "home-3f9a",
    "build_id": "b0007",
    "items": [_SHOWN],
    "list_propensity": 0.95,
    "stage_us": {"retrieve": 240.0, "rank": 180.0, "slate": 60.0},
}
_ITEM = {
    "item_id": "2571",
    "title": "The Matrix",
    "categories": ["Action", "Sci-Fi"],
    "people": ["Keanu Reeves"],
    "country": "United States",
    "year": 1999,
    "attributes": {"runtime_minutes": 136},
}
_EXAMPLES: dict[type, dict[str, Any]] = {
    RecommendRequest: {"surface": "home", "user_id": "42", "k": 10, "filters": {"categories": ["Sci-Fi"]}},
    Answer: {"surface": "home", "dropped": {"seen": 112}, **_ANSWERED},
    SearchRequest: {"query": "matrx", "user_id": "42", "k": 10, "filters": {"year_min": 1990}},
    SearchAnswer: {
        "surface": "search",
        "query": "matrx",
        "total": 3,
        "facets": {"categories": [{"value": "Sci-Fi", "count": 3}]},
        "corrected": "matrix",
        **_ANSWERED,
    },
    SuggestAnswer: {
        "prefix": "mat",
        "suggestions": [{"text": "The Matrix", "kind": "title", "item_id": "2571"}],
    },
    EventsRequest: {
        "events": [
            {
                "event_id": "3f0c5a1e-8a34-4c39-9d0e-2b6f2b7e9a10",
                "user_id": "42",
                "item_id": "2571",
                "action": "click",
                "happened_at": "2026-05-01T12:00:00Z",
                "surface": "home",
                "request_id": "0646c1f0a1b2c00000001d3a5b7c9e1f",
                "position": 1,
            }
        ]
    },
    EventsAnswer: {"accepted": 1, "duplicates": 0, "refused": []},
    RerankRequest: {
        "query": "space opera",
        "user_id": "42",
        "response": {"hits": {"hits": [{"_id": "2571", "_score": 7.1}, {"_id": "541", "_score": 6.9}]}},
    },
    RerankAnswer: {
        **{name: value for name, value in _ANSWERED.items() if name in ("request_id", "policy_version", "build_id")},
        "surface": "search",
        "engine": "elasticsearch",
        "response": {"hits": {"hits": [{"_id": "541", "_score": 6.9}, {"_id": "2571", "_score": 7.1}]}},
        "items": [
            {"item_id": "541", "position": 1, "was": 2, "reason": "Words in the title; places: engine 2, search 1"}
        ],
    },
    JudgeRequest: {"query": "space opera", "rater": "anna", "judgments": [{"item_id": "2571", "grade": 3}]},
    ResetRequest: {"user_id": "42"},
    ResetAnswer: {"user_id": "42", "at": "2026-05-01T12:00:00.000+00:00"},
    Item: _ITEM,
    ItemBody: {name: value for name, value in _ITEM.items() if name != "item_id"},
    ErrorAnswer: {
        "error": {
            "type": "RequestError",
            "expected": "int >= 1",
            "got": "0 at $.k",
            "do": "Correct the field; /docs shows each request with an example.",
            "message": "Expected int >= 1; got 0 at $.k. Correct the field; /docs shows each ...",
        },
        "request_id": "0646c1f0a1b2c00000002d3a5b7c9e1f",
    },
}
_PIPELINE = {"surfaces": {"home": {"sources": ["covisit", "factors"], "heads": ["like", "dislike"]}}}
_EVALUATION = {"rows": [{"protocol": "global cutoff", "system": "home", "metric": "nDCG@10", "estimate": 0.21}]}
_QUALITY = {
    "rows_in": 1000,
    "accepted": 990,
    "quarantined": 10,
    "held": 9,
    "replayed": 1,
    "reasons": [{"reason": "duplicate", "meaning": "The same event id came before.", "held": 9, "replayed": 1}],
    "live": {"accepted": 57, "unknown_item": 2},
}
_HEALTH = {"ready": True, "build_id": "b0007", "detail": ""}
_METRICS = 'honeyguide_requests_total{route="/v1/recommend",status="200"} 1024.0\n'


def _ref(kind: type) -> dict[str, Any]:
    return {"schema": {"$ref": f"#/components/schemas/{kind.__name__}"}, "example": _EXAMPLES[kind]}


def _found(content: dict[str, Any], description: str = "The answer.") -> dict[str, Any]:
    return {"description": description, "content": {"application/json": content}}


def _operation(
    name: str,
    summary: str,
    answer: dict[str, Any],
    *,
    body: type | None = None,
    parameters: tuple[dict[str, Any], ...] = (),
    refusals: tuple[int, ...] = (),
    others: dict[str, Any] | None = None,
    keyless: bool = False,
    description: str = "",
) -> dict[str, Any]:
    operation: dict[str, Any] = {"operationId": name, "summary": summary, "tags": ["health" if keyless else "v1"]}
    if description:
        operation["description"] = description
    if parameters:
        operation["parameters"] = list(parameters)
    if body is not None:
        operation["requestBody"] = {"required": True, "content": {"application/json": _ref(body)}}
        refusals = (400, 413, 422, *refusals)
    refusals = tuple(sorted((*refusals, *(() if keyless else (401, 500)))))
    refused = {str(status): _found(_ref(ErrorAnswer), _REFUSALS[status]) for status in refusals}
    operation["responses"] = {"200": answer, **refused, **(others or {})}
    if not keyless:
        operation["security"] = [{"bearer": []}, {"header": []}, {}]
    return operation


_REFUSALS = {
    400: "Not readable at all: broken JSON, bytes that are no UTF-8.",
    401: "No valid API key, on a server that wants one.",
    404: "Nobody knows the item or surface.",
    413: "A body over the size limit.",
    422: "Readable, but no request: an unknown field, a value out of range.",
    500: "A defect; the server's log tells more under the request id.",
    503: "Not ready, or too much waits for the disk: try again.",
    507: "The server's disk refused; nothing of the request was stored.",
}
_ITEM_ID = {
    "name": "item_id",
    "in": "path",
    "required": True,
    "description": "Any text, percent-encoded; slashes may stay as they are.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 512},
    "example": "2571",
}
_NAME = {
    "name": "name",
    "in": "path",
    "required": True,
    "description": "One of `/v1/reports`.",
    "schema": {"type": "string"},
    "example": "analysis",
}
_REQUEST_ID = {
    "name": "request_id",
    "in": "query",
    "required": True,
    "description": "Of an answer that was logged.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 512},
    "example": "0646c1f0a1b2c00000001d3a5b7c9e1f",
}
_ITEM_OF = {**_ITEM_ID, "in": "query", "description": "An item, in that answer or not."}
_TRACE = {
    "request_id": "0646c1f0a1b2c00000001d3a5b7c9e1f",
    "surface": "home",
    "funnel": [{"stage": "blend", "left": 300, "says": "candidates, each once"}],
    "candidates": [
        {
            "item_id": "2571",
            "sources": {"covisit": {"score": 0.8, "place": 2}},
            "heads": {"like": {"score": 0.81, "place": 1}},
            "utility": 1.07,
            "slot": 1,
            "dropped_by": None,
        }
    ],
}
_WHY = {
    "item_id": "2571",
    "position": 1,
    "led_here": [{"item_id": "541", "title": "Blade Runner", "likeness": 0.71}],
    "explored": False,
    "because": ["It is like what you chose: Blade Runner."],
}
_REPORT = {
    "name": "analysis",
    "title": "Films: what the data says",
    "made_at": "2026-03-02T08:00:00+00:00",
    "bytes": 209140,
    "queries": 25,
    "failed": 0,
}
_PREFIX = {"name": "prefix", "in": "query", "required": True, "schema": {"type": "string"}, "example": "mat"}
_PERSON = {
    "name": "user_id",
    "in": "query",
    "required": False,
    "description": "The person who types; what their history is about moves up.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 512},
    "example": "42",
}
_K = {
    "name": "k",
    "in": "query",
    "schema": {"type": "integer", "minimum": 1, "maximum": 50, "default": 8},
    "example": 8,
}


def _paths() -> dict[str, Any]:
    anything = {"type": "object"}
    health = {
        "type": "object",
        "properties": {"ready": {"type": "boolean"}, "build_id": {"type": "string"}, "detail": {"type": "string"}},
    }
    item = _found(_ref(Item))
    return {
        "/v1/recommend": {
            "post": _operation(
                "recommend",
                "A slate for a surface, each item with the reason why it is there.",
                _found(_ref(Answer)),
                body=RecommendRequest,
                refusals=(404,),
            )
        },
        "/v1/search": {
            "post": _operation(
                "search", "Hits for words a person typed.", _found(_ref(SearchAnswer)), body=SearchRequest
            )
        },
        "/v1/suggest": {
            "get": _operation(
                "suggest",
                "Completions of what is being typed.",
                _found(_ref(SuggestAnswer)),
                parameters=(_PREFIX, _K, _PERSON),
                refusals=(400, 422),
            )
        },
        "/v1/events": {
            "post": _operation(
                "record",
                "Log what people did. The answer comes when it is on disk; the next slate knows it.",
                _found(_ref(EventsAnswer)),
                body=EventsRequest,
                refusals=(503, 507),
            )
        },
        "/v1/items/{item_id}": {
            "get": _operation(
                "get_item", "One item of the catalog.", item, parameters=(_ITEM_ID,), refusals=(400, 404, 422)
            ),
            "put": _operation(
                "put_item",
                "Add or replace an item.",
                item,
                body=ItemBody,
                parameters=(_ITEM_ID,),
                refusals=(503, 507),
                description="The whole item is replaced: a field that the body leaves out is empty afterwards. "
                "`item_id` may be left out; if it is sent, it must be the one of the address.",
            ),
        },
        "/v1/reset": {
            "post": _operation(
                "reset",
                "Let a person begin anew: from the next answer on nothing of what they did before makes their profile.",
                _found(_ref(ResetAnswer)),
                body=ResetRequest,
                refusals=(404, 503, 507),
                description="Nothing is erased: earlier events stay in the log, as those of a former self that no "
                "request names. What was hidden stays hidden. `honeyguide forget` erases.",
            )
        },
        "/v1/trace": {
            "post": _operation(
                "trace",
                "Every candidate's way from source to slot, for a request that is made now and not logged.",
                _found({"schema": anything, "example": _TRACE}),
                body=RecommendRequest,
                refusals=(404,),
            ),
            "get": _operation(
                "trace_again",
                "The same for an answer that was logged, made again under its id, which draws the same.",
                _found({"schema": anything, "example": _TRACE | {"again": {"same_slots": 10, "of": 10}}}),
                parameters=(_REQUEST_ID,),
                refusals=(400, 404, 422),
            ),
        },
        "/v1/why": {
            "get": _operation(
                "why",
                "Why a person saw an item: sources, what of theirs led there, features, chance; and in plain words.",
                _found({"schema": anything, "example": _WHY}),
                parameters=(_REQUEST_ID, _ITEM_OF),
                refusals=(400, 404, 422),
            )
        },
        "/v1/models": {
            "get": _operation(
                "models",
                "The registry: every build with its state and figures, the moves, and what the shadow saw.",
                _found({"schema": anything, "example": {"models": [{"build": "b0007", "state": "in service"}]}}),
            )
        },
        "/v1/parameters": {
            "get": _operation(
                "parameters",
                "The main parameters of each surface in plain words, made of the configuration in service.",
                _found({"schema": anything, "example": {"surfaces": {"home": {"text": ["What ..."]}}}}),
            )
        },
        "/v1/rerank": {
            "post": _operation(
                "rerank",
                "Another engine's hits in the order that this workspace would show them in.",
                _found(_ref(RerankAnswer)),
                body=RerankRequest,
                description="Elasticsearch, OpenSearch, Solr or a plain list; unknown hits keep their places.",
            )
        },
        **search_room(_operation, _found, _NAME, anything),
        "/v1/pipeline": {
            "get": _operation(
                "pipeline",
                "Sources, heads and policy of each surface.",
                _found({"schema": anything, "example": _PIPELINE}),
            )
        },
        "/v1/evaluation": {
            "get": _operation(
                "evaluation",
                "The newest offline evaluation.",
                _found({"schema": anything, "example": _EVALUATION}),
            )
        },
        "/v1/reports": {
            "get": _operation(
                "reports",
                "The reports that were written: of saved queries (`honeyguide report`), and of the demo.",
                _found({"schema": anything, "example": {"reports": [_REPORT]}}),
            )
        },
        "/v1/reports/{name}": {
            "get": _operation(
                "report",
                "One report with its page, which is self-contained HTML.",
                _found({"schema": anything, "example": _REPORT | {"html": "<!doctype html>..."}}),
                parameters=(_NAME,),
                refusals=(404,),
            )
        },
        "/v1/quality": {
            "get": _operation(
                "quality",
                "The quality of the data: loads, what was held back and why, and what became of events sent here.",
                _found({"schema": anything, "example": _QUALITY}),
                refusals=(422,),
            )
        },
        "/": {
            "get": _operation(
                "root",
                "Where to find the rest.",
                _found({"schema": anything, "example": {"name": "Honeyguide", "docs": "/docs"}}),
                keyless=True,
            )
        },
        "/healthz": {
            "get": _operation(
                "alive",
                "Whether the process answers.",
                _found({"schema": anything, "example": {"status": "alive"}}),
                keyless=True,
            )
        },
        "/readyz": {
            "get": _operation(
                "ready",
                "Whether a build is in service.",
                _found({"schema": health, "example": _HEALTH}),
                others={"503": _found({"schema": health, "example": _HEALTH | {"ready": False}}, "Not ready.")},
                keyless=True,
            )
        },
        "/metrics": {
            "get": _operation(
                "metrics",
                "Prometheus metrics, summed over the workers.",
                {
                    "description": "The answer.",
                    "content": {"text/plain": {"schema": {"type": "string"}, "example": _METRICS}},
                },
                keyless=True,
            )
        },
    }


def document(version: str) -> dict[str, Any]:
    """The whole OpenAPI 3.1 document."""
    _, schemas = msgspec.json.schema_components(list(_EXAMPLES), ref_template="#/components/schemas/{name}")
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Honeyguide",
            "version": version,
            "description": "Discovery you can prove: slates, search, events and items.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": _paths(),
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            },
        },
    }
