"""Routes of the search room: merchandising rules, judgments, search traffic. None of them is in a person's way."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from starlette.types import Scope

from honeyguide.contracts import Answerer
from honeyguide.errors import RequestError
from honeyguide.schema.wire import JudgeRequest
from honeyguide.serving.record import has_control_characters

__all__ = ["search_room"]

Handler = Callable[[Scope, bytes], Awaitable[tuple[int, bytes]]]
_judge_request = msgspec.json.Decoder(JudgeRequest)
_rule = msgspec.json.Decoder(dict[str, Any])


def search_room(answerer: Answerer, decoded: Any, encode: Any) -> dict[str, dict[str, Handler]]:
    """Route -> method -> handler. decoded: a body by a decoder, or a RequestError; encode: an answer as JSON."""

    async def rules(scope: Scope, body: bytes) -> tuple[int, bytes]:
        return 200, encode(await asyncio.to_thread(answerer.merchandising))

    async def add_rule(scope: Scope, body: bytes) -> tuple[int, bytes]:
        return 200, encode(await asyncio.to_thread(answerer.add_rule, decoded(_rule, body)))

    async def remove_rule(scope: Scope, body: bytes) -> tuple[int, bytes]:
        return 200, encode(await asyncio.to_thread(answerer.remove_rule, str(scope["path_params"]["rule_id"])))

    async def judgments(scope: Scope, body: bytes) -> tuple[int, bytes]:
        return 200, encode(await asyncio.to_thread(answerer.judgments))

    async def judge(scope: Scope, body: bytes) -> tuple[int, bytes]:
        request = decoded(_judge_request, body)
        for value in (request.rater, request.query, *(one.item_id for one in request.judgments)):
            if has_control_characters(value):
                raise RequestError(
                    expected="texts without control characters",
                    got=f"{value[:80]!a}",
                    do="Send them as they are shown.",
                )
        return 200, encode(await asyncio.to_thread(answerer.judge, request))

    async def to_judge(scope: Scope, body: bytes) -> tuple[int, bytes]:
        given = dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True))
        if not given.keys() <= {"rater", "query"} or not 0 < len(given.get("rater", "")) <= 100:
            raise RequestError(
                expected="rater, and query if you like",
                got=", ".join(sorted(given))[:80] or "nothing",
                do="Ask ?rater=...",
            )
        return 200, encode(answerer.to_judge(given["rater"], given.get("query")))

    async def traffic(scope: Scope, body: bytes) -> tuple[int, bytes]:
        return 200, encode(await asyncio.to_thread(answerer.traffic))

    return {
        "/v1/merchandising": {"GET": rules, "POST": add_rule},
        "/v1/merchandising/{rule_id}": {"DELETE": remove_rule},
        "/v1/judgments": {"GET": judgments, "POST": judge},
        "/v1/judgments/next": {"GET": to_judge},
        "/v1/search-traffic": {"GET": traffic},
    }
