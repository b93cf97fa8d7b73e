"""The OpenAPI paths of those who run search: merchandising, judgments, traffic."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from honeyguide.schema.wire import JudgeRequest

__all__ = ["search_room"]


def search_room(
    operation: Callable[..., dict[str, Any]], found: Callable[..., dict[str, Any]], named: dict[str, Any],
    anything: dict[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """Their paths. operation, found: how the document writes an operation and an answer; named: a part of an address;
    anything: the schema of a body that is not told further."""
    rule = {"id": "autumn", "do": "pin", "items": ["2571"], "query": "space opera", "ends": "2026-11-30"}
    kept = {
        "description": "The rule, one object.",
        "content": {"application/json": {"schema": anything, "example": rule}},
    }
    added = operation(
        "add_rule", "Write a merchandising rule; in force within half a second.",
        found({"schema": anything, "example": {"rule": rule, "found": []}}), refusals=(400, 413, 422, 503),
    )  # fmt: skip
    rater = {"name": "rater", "in": "query", "required": True, "description": "Who judges.",
             "schema": {"type": "string", "minLength": 1, "maxLength": 100}, "example": "anna"}  # fmt: skip
    return {
        "/v1/merchandising": {
            "get": operation(
                "merchandising", "The merchandising rules, and what there is to say against them.",
                found({"schema": anything, "example": {"rules": [rule], "found": []}}),
            ),
            "post": added | {"requestBody": {"required": True, **kept}},
        },
        "/v1/merchandising/{rule_id}": {
            "delete": operation(
                "remove_rule", "Take a merchandising rule away.",
                found({"schema": anything, "example": {"removed": rule}}), refusals=(404,),
                parameters=({**named, "name": "rule_id", "description": "The rule's id.", "example": "autumn"},),
            ),
        },
        "/v1/judgments": {
            "get": operation(
                "judgments", "What was judged, by whom, and how well raters agree.",
                found({"schema": anything, "example": {"judgments": 120, "alpha": 0.71}}),
            ),
            "post": operation(
                "judge", "Keep a rater's judgments of one query's list; on disk when answered.",
                found({"schema": anything, "example": {"kept": 1}}), body=JudgeRequest,
            ),
        },
        "/v1/judgments/next": {
            "get": operation(
                "to_judge", "The next query that a rater is to judge, with its list.",
                found({"schema": anything, "example": {"query": "space opera", "items": [], "waiting": 7}}),
                parameters=(rater,), refusals=(422,),
            )
        },
        "/v1/search-traffic": {
            "get": operation(
                "traffic", "What people search for and what comes of it, the last week against the one before.",
                found({"schema": anything, "example": {"searches": 900, "last_day": "2026-11-20"}}),
            )
        },
    }  # fmt: skip
