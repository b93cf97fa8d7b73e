"""The HTTP API: a FastAPI application whose routes decode and encode with msgspec.

Every route is an `_Endpoint`, a bare ASGI application: key, body, decode, answer, encode, count. FastAPI routes to it,
and adds the OpenAPI pages and whatever middleware an owner mounts. Without middleware, the hot routes skip FastAPI's
router altogether (`_Api.__call__`).
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from time import perf_counter_ns
from typing import Any, Protocol, TypeVar, runtime_checkable

import msgspec
import structlog
from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from honeyguide.contracts import Answerer
from honeyguide.engines.log.keys import time_key
from honeyguide.errors import HoneyguideError, RequestError, RequestTooLargeError, UnauthorizedError
from honeyguide.schema.wire import EventsRequest, RecommendRequest, RerankRequest, ResetRequest, SearchRequest
from honeyguide.serving.bodies import ItemBody
from honeyguide.serving.metrics import HasGauges, Metrics
from honeyguide.serving.openapi import document
from honeyguide.serving.queries import asked, item_id_of, suggest_query
from honeyguide.serving.record import PlainEventsRequest
from honeyguide.serving.refusals import (
    check_ids,
    error_answer,
    from_msgspec,
    internal_error,
    unmatched,
)
from honeyguide.serving.search_room import search_room
from honeyguide.serving.settings import ServeSettings

__all__ = ["create_app"]

_log = structlog.get_logger("honeyguide.serving")
_JSON = (b"content-type", b"application/json")
_TEXT = (b"content-type", b"text/plain; version=0.0.4; charset=utf-8")
_VERSION = version("honeyguide")  # of the package itself, which stands above this floor
_ROOT = msgspec.json.encode(
    {"name": "Honeyguide", "version": _VERSION, "docs": "/docs", "openapi": "/openapi.json", "health": "/readyz"}
)
_GONE = 499  # nobody hears this status: the client hung up; it only counts
_FLUSH_S = 1.0
_LINGER_S = 2.0

_recommend_request = msgspec.json.Decoder(RecommendRequest)
_search_request = msgspec.json.Decoder(SearchRequest)
_events_request = msgspec.json.Decoder(EventsRequest)
_plain_events_request = msgspec.json.Decoder(PlainEventsRequest)
_rerank_request = msgspec.json.Decoder(RerankRequest)
_reset_request = msgspec.json.Decoder(ResetRequest)
_item_body = msgspec.json.Decoder(ItemBody)
# Reports may hold numpy's numbers and paths.
_encode = msgspec.json.Encoder(enc_hook=lambda value: value.item() if hasattr(value, "item") else str(value)).encode

_Handler = Callable[[Scope, bytes], Awaitable[tuple[int, bytes]]]
_Header = tuple[bytes, bytes]


@runtime_checkable
class HasTick(Protocol):
    """An answerer that has something to do once a second, in the event loop."""

    def tick(self) -> None:
        """Do it, in well under a millisecond."""
        ...


class _GoneError(Exception):
    """The client went away before its request was whole."""


class _UnreadError(Exception):
    """A refusal while the client still sends."""

    def __init__(self, refusal: HoneyguideError) -> None:
        self.refusal = refusal


class _Door:
    """What all endpoints share: keys, limits, counts."""

    def __init__(self, settings: ServeSettings, metrics: Metrics) -> None:
        self.keys = tuple(key.encode() for key in settings.api_keys)
        self.max_body_bytes = settings.max_body_bytes
        self.metrics = metrics

    def check_key(self, scope: Scope) -> None:
        """An UnauthorizedError without a valid key; the same time for every wrong one."""
        given = b""
        for name, value in scope["headers"]:
            if name == b"x-api-key":
                given = value
            elif name == b"authorization" and value[:7].lower() == b"bearer ":
                given = value[7:].strip()
        valid = False
        for key in self.keys:
            valid |= hmac.compare_digest(given, key)
        if not valid:
            raise UnauthorizedError(
                expected="a valid API key",
                got="a wrong one" if given else "none",
                do="Send it as `Authorization: Bearer KEY` or `X-API-Key: KEY`.",
            )

    async def read(self, scope: Scope, receive: Receive) -> bytes:
        """The whole body, or a RequestTooLargeError as soon as it is known to be over the limit."""
        message = await receive()
        body: bytes = message.get("body", b"")
        if message.get("more_body"):
            for name, value in scope["headers"]:
                if name == b"content-length" and value.isdigit() and int(value) > self.max_body_bytes:
                    raise _UnreadError(self._too_large(str(int(value))))
            parts, size = [body], len(body)
            while message.get("more_body"):
                if size > self.max_body_bytes:
                    raise _UnreadError(self._too_large(f"more than {size}"))
                message = await receive()
                parts.append(message.get("body", b""))
                size += len(parts[-1])
            body = b"".join(parts)
        if message["type"] == "http.disconnect":
            raise _GoneError
        if len(body) > self.max_body_bytes:
            raise self._too_large(str(len(body)))
        return body

    def _too_large(self, got: str) -> RequestTooLargeError:
        return RequestTooLargeError(
            expected=f"a body of at most {self.max_body_bytes} bytes",
            got=f"{got} bytes",
            do="Send less at once, or raise max_body_bytes.",
        )


class _Endpoint:
    """One route as an ASGI application."""

    def __init__(
        self,
        door: _Door,
        route: str,
        handlers: dict[str, _Handler],
        *,
        content_type: _Header,
        keyless: bool,
    ) -> None:
        self._door, self._route, self._content_type = door, route, content_type
        self._handlers = handlers | ({"HEAD": handlers["GET"]} if "GET" in handlers else {})
        self._keyless = keyless or not door.keys
        self._count = door.metrics.request

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        start = perf_counter_ns()
        method, content_type, unread = scope["method"], self._content_type, False
        extra: tuple[_Header, ...] = ()
        try:
            if not self._keyless:
                self._door.check_key(scope)
            body = b"" if method == "GET" else await self._door.read(scope, receive)
            status, answer = await self._handlers[method](scope, body)
        except _GoneError:
            self._count(self._route, _GONE, perf_counter_ns() - start)
            return
        except Exception as error:  # noqa: BLE001 - the edge: whatever it is, the client learns no more than an id
            unread = isinstance(error, _UnreadError)
            status, answer, extra = _refusal(error.refusal if isinstance(error, _UnreadError) else error, self._route)
            content_type = _JSON
        headers = [content_type, (b"content-length", b"%d" % len(answer)), *extra]
        try:
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": answer, "more_body": unread})
            if unread:
                await _let_finish(receive)
                await send({"type": "http.response.body", "body": b""})
        except RuntimeError:  # what uvloop raises for a connection that its client has just closed
            status = _GONE
        self._count(self._route, status, perf_counter_ns() - start)


async def _let_finish(receive: Receive) -> None:
    """Throw away what a refused client still sends, for a while: a connection cut at once may lose it the answer."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_LINGER_S):
            while (await receive()).get("more_body"):
                pass


def _refusal(error: Exception, route: str) -> tuple[int, bytes, tuple[_Header, ...]]:
    """Status, body and further headers for an error; what is the server's fault is logged, with its traceback."""
    request_id = time_key()
    if not isinstance(error, HoneyguideError):
        _log.error("request failed", route=route, request_id=request_id, exc_info=error)
        return 500, internal_error(request_id), ()
    status = error.http_status
    extra: tuple[_Header, ...] = ()
    if status == 401:
        extra = ((b"www-authenticate", b"Bearer"),)
    elif status == 413:
        extra = ((b"connection", b"close"),)
    elif status >= 500:
        _log.warning("request refused", route=route, request_id=request_id, reason=str(error))
        extra = ((b"retry-after", b"1"),) if status == 503 else ()
    return status, error_answer(error, request_id), extra


def _handlers(answerer: Answerer, metrics: Metrics) -> dict[str, dict[str, _Handler]]:
    """Route -> method -> handler."""

    async def recommend(scope: Scope, body: bytes) -> tuple[int, bytes]:
        request = _decoded(_recommend_request, body)
        check_ids(request)
        answer = answerer.recommend(request)
        metrics.answer(answer.fallback, answer.stage_us)
        return 200, _encode(answer)

    async def search(scope: Scope, body: bytes) -> tuple[int, bytes]:
        request = _decoded(_search_request, body)
        check_ids(request)
        answer = answerer.search(request)
        metrics.answer(answer.fallback, answer.stage_us)
        return 200, _encode(answer)

    async def suggest(scope: Scope, body: bytes) -> tuple[int, bytes]:
        return 200, _encode(answerer.suggest(*suggest_query(scope["query_string"])))

    async def rerank(scope: Scope, body: bytes) -> tuple[int, bytes]:
        request = _decoded(_rerank_request, body)
        check_ids(request)
        answer = answerer.rerank(request)
        metrics.answer(answer.fallback, answer.stage_us)
        return 200, _encode(answer)

    async def events(scope: Scope, body: bytes) -> tuple[int, bytes]:
        plain = PlainEventsRequest.fits(body)
        batch = _decoded(_plain_events_request, body) if plain else _decoded(_events_request, body)
        answer = await asyncio.wrap_future(answerer.record(batch))
        metrics.events(answer.accepted, answer.duplicates, (one.reason for one in answer.refused))
        return 200, _encode(answer)

    async def get_item(scope: Scope, body: bytes) -> tuple[int, bytes]:
        return 200, _encode(answerer.item(item_id_of(scope)))

    async def put_item(scope: Scope, body: bytes) -> tuple[int, bytes]:
        given, item_id = _decoded(_item_body, body), item_id_of(scope)
        if given.item_id not in ("", item_id):
            raise RequestError(
                expected=f"item_id {item_id!a}, as in the address",
                got=f"{given.item_id!a} in the body",
                do="Send the same id in both, or none in the body.",
            )
        item = given.of(item_id)
        await asyncio.wrap_future(answerer.put_item(item))
        return 200, _encode(item)

    async def reset(scope: Scope, body: bytes) -> tuple[int, bytes]:
        request = _decoded(_reset_request, body)
        check_ids(request)
        return 200, _encode(await asyncio.wrap_future(answerer.reset(request)))

    async def trace(scope: Scope, body: bytes) -> tuple[int, bytes]:
        request = _decoded(_recommend_request, body)
        check_ids(request)
        return 200, _encode(answerer.trace(request))

    async def trace_again(scope: Scope, body: bytes) -> tuple[int, bytes]:
        given = asked(scope["query_string"], ("request_id",))
        found = await asyncio.to_thread(answerer.again, given["request_id"])
        return 200, _encode(answerer.trace(RecommendRequest(), found))

    async def why(scope: Scope, body: bytes) -> tuple[int, bytes]:
        given = asked(scope["query_string"], ("request_id", "item_id"))
        found = await asyncio.to_thread(answerer.again, given["request_id"])
        return 200, _encode(answerer.why(found, given["item_id"]))

    async def models(scope: Scope, body: bytes) -> tuple[int, bytes]:
        return 200, _encode(await asyncio.to_thread(answerer.models))

    async def parameters(scope: Scope, body: bytes) -> tuple[int, bytes]:
        return 200, _encode(answerer.parameters())

    async def pipeline(scope: Scope, body: bytes) -> tuple[int, bytes]:
        return 200, _encode(answerer.pipeline())

    async def reports(scope: Scope, body: bytes) -> tuple[int, bytes]:
        return 200, _encode({"reports": answerer.reports()})

    async def report(scope: Scope, body: bytes) -> tuple[int, bytes]:
        return 200, _encode(answerer.report(str(scope["path_params"]["name"])))

    async def evaluation(scope: Scope, body: bytes) -> tuple[int, bytes]:
        return 200, _encode(answerer.evaluation())

    async def quality(scope: Scope, body: bytes) -> tuple[int, bytes]:
        if scope["query_string"]:
            raise RequestError(expected="no query", got=f"{scope['query_string'][:80]!a}", do="Ask /v1/quality alone.")
        return 200, _encode({**answerer.quality(), "live": metrics.live_events()})

    async def root(scope: Scope, body: bytes) -> tuple[int, bytes]:
        return 200, _ROOT

    async def alive(scope: Scope, body: bytes) -> tuple[int, bytes]:
        return 200, b'{"status":"alive"}'

    async def ready(scope: Scope, body: bytes) -> tuple[int, bytes]:
        health = answerer.health()
        return 200 if health.ready else 503, _encode(health)

    async def scrape(scope: Scope, body: bytes) -> tuple[int, bytes]:
        return 200, metrics.render()

    return {
        "/": {"GET": root},
        "/v1/recommend": {"POST": recommend},
        "/v1/search": {"POST": search},
        "/v1/suggest": {"GET": suggest},
        "/v1/rerank": {"POST": rerank},
        **search_room(answerer, _decoded, _encode),
        "/v1/events": {"POST": events},
        "/v1/items/{item_id:path}": {"GET": get_item, "PUT": put_item},
        "/v1/reset": {"POST": reset},
        "/v1/trace": {"POST": trace, "GET": trace_again},
        "/v1/why": {"GET": why},
        "/v1/models": {"GET": models},
        "/v1/parameters": {"GET": parameters},
        "/v1/pipeline": {"GET": pipeline},
        "/v1/evaluation": {"GET": evaluation},
        "/v1/reports": {"GET": reports},
        "/v1/reports/{name}": {"GET": report},
        "/v1/quality": {"GET": quality},
        "/healthz": {"GET": alive},
        "/readyz": {"GET": ready},
        "/metrics": {"GET": scrape},
    }


_T = TypeVar("_T")


def _decoded(decoder: msgspec.json.Decoder[_T], body: bytes) -> _T:
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        raise from_msgspec(error, body) from error


class _Api(FastAPI):
    """FastAPI with its own OpenAPI document, and a short way to the hot routes."""

    hot: dict[str, _Endpoint]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # An owner's middleware must see every request: then the long way is the only one.
        if scope["type"] == "http" and scope["method"] == "POST" and not self.user_middleware:
            endpoint = self.hot.get(scope["path"])
            if endpoint is not None:
                await endpoint(scope, receive, send)
                return
        await super().__call__(scope, receive, send)

    def openapi(self) -> dict[str, Any]:
        """The document of all routes, with examples."""
        if self.openapi_schema is None:
            self.openapi_schema = document(self.version)
        return self.openapi_schema


def create_app(
    answerer: Answerer, settings: ServeSettings | None = None, *, shared_metrics: Path | None = None
) -> FastAPI:
    """The API around an answerer, which the application closes when it shuts down.

    The answerer is called in the event loop: an answer is under a millisecond of processor time, and a thread hop
    would cost a good part of it. `shared_metrics` is a folder in which several workers add up their counts.
    The OpenAPI pages need no key: they hold no data.
    """
    settings = settings or ServeSettings()
    metrics = Metrics(answerer if isinstance(answerer, HasGauges) else None, shared_metrics)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        flushing = asyncio.create_task(_every_second(metrics, answerer if isinstance(answerer, HasTick) else None))
        try:
            yield
        finally:
            flushing.cancel()
            await asyncio.to_thread(answerer.close)
            _leave_counts(metrics)

    app = _Api(title="Honeyguide", version=_VERSION, lifespan=lifespan, redirect_slashes=False)
    door = _Door(settings, metrics)
    app.hot = {}
    for path, handlers in _handlers(answerer, metrics).items():
        endpoint = _Endpoint(
            door,
            path,
            handlers,
            content_type=_TEXT if path == "/metrics" else _JSON,
            keyless=path in ("/", "/healthz", "/readyz", "/metrics"),
        )
        app.router.routes.append(Route(path, endpoint, methods=list(handlers), include_in_schema=False))
        if "POST" in handlers:
            app.hot[path] = endpoint
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors_origins),
            allow_methods=["GET", "POST", "PUT"],
            allow_headers=["Authorization", "X-API-Key", "Content-Type"],
        )

    async def unroutable(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        metrics.request("unmatched", status, 0)
        headers = error.headers if isinstance(error, HTTPException) else None
        return Response(unmatched(request.method, request.url.path, status), status, headers, "application/json")

    async def failed(request: Request, error: Exception) -> Response:
        return Response(_refusal(error, "unmatched")[1], 500, media_type="application/json")

    app.add_exception_handler(HTTPException, unroutable)
    app.add_exception_handler(Exception, failed)
    return app


async def _every_second(metrics: Metrics, answerer: HasTick | None) -> None:
    while True:
        _leave_counts(metrics)
        if answerer is not None:
            try:
                answerer.tick()
            except HoneyguideError as error:
                _log.warning("the log could not be followed", reason=str(error))
        await asyncio.sleep(_FLUSH_S)


def _leave_counts(metrics: Metrics) -> None:
    try:
        metrics.flush()
    except OSError as error:
        _log.warning("counts not shared with the other workers", reason=str(error))
