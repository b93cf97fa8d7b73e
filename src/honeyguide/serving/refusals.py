"""Errors on the wire: what a refused request is told, and nothing of how the server is made."""

from __future__ import annotations

import re

import msgspec

from honeyguide.engines.log.keys import time_key
from honeyguide.errors import HoneyguideError, NotFoundError, RequestError
from honeyguide.schema.wire import RecommendRequest, RerankRequest, ResetRequest, SearchRequest
from honeyguide.serving.record import has_control_characters

__all__ = [
    "ErrorAnswer",
    "ErrorBody",
    "MalformedRequestError",
    "check_ids",
    "error_answer",
    "from_msgspec",
    "internal_error",
    "unmatched",
]


class MalformedRequestError(RequestError):
    """A body, path or query that cannot be read at all."""

    http_status = 400


class ErrorBody(msgspec.Struct):
    """What was expected, what came and what to do."""

    type: str
    expected: str
    got: str
    do: str
    message: str


class ErrorAnswer(msgspec.Struct):
    """The body of every answer that is not a success."""

    error: ErrorBody
    request_id: str


_EXPECTED = re.compile(r"Expected (?P<expected>.+?)(?:, got (?P<got>.+?))?(?: - at `(?P<path>.+)`)?")
_STEP = re.compile(r"\.(\w+)|\[(\d+)\]")
_MOST_SHOWN = 60
_OTHER = re.compile(r"(?P<got>.+?)(?: - at `(?P<path>.+)`)?")


def error_answer(error: HoneyguideError, request_id: str) -> bytes:
    """The JSON of an error."""
    body = ErrorBody(type(error).__name__, error.expected, error.got, error.do, str(error))
    return msgspec.json.encode(ErrorAnswer(body, request_id))


def internal_error(request_id: str) -> bytes:
    """The JSON of a defect: an id under which the server's log tells the rest."""
    body = ErrorBody(
        "InternalError",
        "an answer",
        "a defect in the server",
        f"Tell whoever runs it the request id {request_id}: its log has the rest.",
        "The server failed to answer.",
    )
    return msgspec.json.encode(ErrorAnswer(body, request_id))


def unmatched(method: str, path: str, status: int) -> bytes:
    """The JSON of a request that no route takes."""
    error: HoneyguideError
    if status == 405:
        error = RequestError(
            expected="a method this path takes", got=f"{method} {path[:200]!a}", do="The Allow header names them."
        )
    else:
        error = NotFoundError(
            expected="a path of the API", got=f"{method} {path[:200]!a}", do="/openapi.json lists all paths."
        )
    return error_answer(error, time_key())


def from_msgspec(error: msgspec.DecodeError | RecursionError | UnicodeError, body: bytes) -> RequestError:
    """400 for what is no JSON; 422, with the path of the field and its value, for JSON that is no request."""
    if not isinstance(error, msgspec.ValidationError):
        return MalformedRequestError(expected="a JSON body", got=str(error), do="Send valid JSON in UTF-8.")
    text = str(error)
    found = _EXPECTED.fullmatch(text) or _OTHER.fullmatch(text)
    parts = found.groupdict() if found else {"got": text}
    if (value := _value_at(parts.get("path") or "", body)) is not None:
        parts["got"] = f"{value} ({parts['got']})" if parts.get("got") else value
    return RequestError(
        expected=(parts.get("expected") or "a body as /openapi.json describes it").replace("`", ""),
        got=f"{(parts.get('got') or 'something else').replace('`', '')} at {parts.get('path') or '$'}",
        do="Correct the field; /docs shows each request with an example.",
    )


def _value_at(path: str, body: bytes) -> str | None:
    """The text, number or truth value at `$.field[0]` of a body, as JSON; None if there is no such one."""
    try:
        value = msgspec.json.decode(body)
        for field, place in _STEP.findall(path):
            value = value[field] if field else value[int(place)]
    except (msgspec.DecodeError, RecursionError, UnicodeError, LookupError, TypeError):
        return None
    if "..." in path or not isinstance(value, str | int | float):
        return None
    shown = msgspec.json.encode(value).decode()
    return shown if len(shown) <= _MOST_SHOWN else shown[:_MOST_SHOWN] + "…"


_IDS: dict[type, tuple[str, ...]] = {
    RecommendRequest: ("user_id", "surface", "item_id", "request_id"),
    SearchRequest: ("user_id", "request_id"),
    RerankRequest: ("user_id", "surface", "request_id"),
    ResetRequest: ("user_id", "request_id"),
}


def check_ids(request: RecommendRequest | SearchRequest | RerankRequest | ResetRequest) -> None:
    """A RequestError for control characters in an id. Events are checked one by one, where they are recorded."""
    for name in _IDS[type(request)]:
        value = getattr(request, name)
        if value is not None and has_control_characters(value):
            raise _bad_id(name, value)
    if isinstance(request, RecommendRequest):
        for value in request.board_items:
            if has_control_characters(value):
                raise _bad_id("board_items", value)


def _bad_id(name: str, value: str) -> RequestError:
    return RequestError(
        expected=f"{name} without control characters", got=f"{value!a}", do="Send the id as the catalog has it."
    )
