"""The public HTTP API, asked with httpx and read with the wire types."""

from __future__ import annotations

import ipaddress
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
import msgspec

from honeyguide.errors import ConfigError, HoneyguideError
from honeyguide.kernels.text import natural_title
from honeyguide.schema.wire import (
    Answer,
    EventIn,
    EventsAnswer,
    EventsRequest,
    Item,
    JudgeRequest,
    RecommendRequest,
    SearchAnswer,
    SearchRequest,
    SuggestAnswer,
)

__all__ = ["Api", "ApiError"]

T = TypeVar("T")


class ApiError(HoneyguideError):
    """The API is down, slow, or refused. `title` heads the message on the page; `status` is 0 without an answer."""

    http_status = 502

    def __init__(self, title: str, *, status: int = 0, expected: str, got: str, do: str) -> None:
        super().__init__(expected=expected, got=got, do=do)
        self.title, self.status = title, status


class Api:
    """One connection pool to the API at `url`, e.g. `http://127.0.0.1:8080`.

    Every method raises `ApiError` when no usable answer comes within `timeout_s` seconds.
    """

    def __init__(self, url: str, *, api_key: str | None = None, timeout_s: float = 10.0) -> None:
        parsed = _parsed(url)
        self.url = str(parsed).rstrip("/")
        self.timeout_s = timeout_s
        headers = {"accept": "application/json"}
        if api_key:
            headers["authorization"] = f"Bearer {api_key}"
        # A proxy from the environment is for the outside world, not for an API on this very machine.
        self._http = httpx.AsyncClient(
            base_url=self.url, headers=headers, timeout=timeout_s, trust_env=not _is_loopback(parsed.host)
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def recommend(self, request: RecommendRequest) -> Answer:
        """Ask for a slate."""
        return await self._post("/v1/recommend", request, Answer)

    async def search(self, request: SearchRequest) -> SearchAnswer:
        """Ask for hits and facets."""
        return await self._post("/v1/search", request, SearchAnswer)

    async def suggest(self, prefix: str, k: int = 8) -> SuggestAnswer:
        """Ask for completions of what has been typed so far."""
        return _decoded(await self._send("GET", "/v1/suggest", params={"prefix": prefix, "k": k}), SuggestAnswer)

    async def record(self, event: EventIn) -> EventsAnswer:
        """Log one event. A refusal by the API is an `ApiError`: a click must not get lost unseen."""
        answer = await self._post("/v1/events", EventsRequest(events=[event]), EventsAnswer)
        if answer.refused:
            refusal = answer.refused[0]
            raise ApiError(
                "This click was not taken",
                status=422,
                expected="an event that the API accepts",
                got=f"{refusal.reason}: {refusal.detail}",
                do="Check which actions the workspace knows.",
            )
        return answer

    async def item(self, item_id: str) -> Item:
        """One item of the catalog, its title as lists show it."""
        item = _decoded(await self._send("GET", f"/v1/items/{quote(item_id, safe='')}"), Item)
        return msgspec.structs.replace(item, title=natural_title(item.title)) if item.title else item

    async def pipeline(self) -> dict[str, Any]:
        """What the build in service is made of."""
        return _decoded(await self._send("GET", "/v1/pipeline"), dict)

    async def trace(self, request: RecommendRequest) -> dict[str, Any]:
        """The way of every candidate of a request that is made now."""
        return await self._post("/v1/trace", request, dict)

    async def trace_again(self, request_id: str) -> dict[str, Any]:
        """The same of an answer that was logged."""
        return _decoded(await self._send("GET", "/v1/trace", params={"request_id": request_id}), dict)

    async def why(self, request_id: str, item_id: str) -> dict[str, Any]:
        """Why the person of an answer saw an item."""
        params = {"request_id": request_id, "item_id": item_id}
        return _decoded(await self._send("GET", "/v1/why", params=params), dict)

    async def traffic(self) -> dict[str, Any]:
        """What people search for."""
        return _decoded(await self._send("GET", "/v1/search-traffic"), dict)

    async def merchandising(self) -> dict[str, Any]:
        """The merchandising rules."""
        return _decoded(await self._send("GET", "/v1/merchandising"), dict)

    async def effects(self, query: str) -> dict[str, Any]:
        """The list of a query and what rules did to it; nothing is logged."""
        return await self._post("/v1/search", SearchRequest(query, k=20, log=False), dict)

    async def judgments(self) -> dict[str, Any]:
        """What was judged."""
        return _decoded(await self._send("GET", "/v1/judgments"), dict)

    async def to_judge(self, rater: str, query: str | None = None) -> dict[str, Any]:
        """The next list of a rater."""
        params = {"rater": rater} | ({"query": query} if query is not None else {})
        return _decoded(await self._send("GET", "/v1/judgments/next", params=params), dict)

    async def judge(self, request: JudgeRequest) -> dict[str, Any]:
        """Keep judgments."""
        return await self._post("/v1/judgments", request, dict)

    async def models(self) -> dict[str, Any]:
        """The registry of builds."""
        return _decoded(await self._send("GET", "/v1/models"), dict)

    async def evaluation(self) -> dict[str, Any]:
        """The last evaluation."""
        return _decoded(await self._send("GET", "/v1/evaluation"), dict)

    async def reports(self) -> dict[str, Any]:
        """The reports that were written."""
        return _decoded(await self._send("GET", "/v1/reports"), dict)

    async def report(self, name: str) -> dict[str, Any]:
        """One of them with its page."""
        return _decoded(await self._send("GET", f"/v1/reports/{quote(name, safe='')}"), dict)

    async def quality(self) -> dict[str, Any]:
        """The quality of the data."""
        return _decoded(await self._send("GET", "/v1/quality"), dict)

    async def _post(self, path: str, body: msgspec.Struct, kind: type[T]) -> T:
        content = msgspec.json.encode(body)
        return _decoded(await self._send("POST", path, content=content), kind)

    async def _send(
        self, method: str, path: str, *, content: bytes | None = None, params: Any = None
    ) -> httpx.Response:
        headers = {"content-type": "application/json"} if content is not None else None
        try:
            response = await self._http.request(method, path, content=content, params=params, headers=headers)
        except httpx.TimeoutException as error:
            raise ApiError(
                "The API is slow",
                expected=f"an answer within {self.timeout_s:g} seconds from {self.url}",
                got="none",
                do="Try again; if it stays slow, look at the stage times under /metrics.",
            ) from error
        except httpx.TransportError as error:
            raise ApiError(
                "The API does not answer",
                expected=f"a running API at {self.url}",
                got=str(error) or type(error).__name__,
                do="Start it with `honeyguide serve`, then try again.",
            ) from error
        if response.is_success:
            return response
        raise _refusal(response, path)


def _decoded(response: httpx.Response, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(response.content, type=kind)
    except msgspec.MsgspecError as error:
        raise ApiError(
            "The API answered in another language",
            status=response.status_code,
            expected=f"the {kind.__name__} of this version's API",
            got=str(error),
            do="Run the API and the console from the same version of Honeyguide.",
        ) from error


def _refusal(response: httpx.Response, path: str) -> ApiError:
    try:
        body = msgspec.json.decode(response.content)
    except msgspec.MsgspecError:
        body = None
    detail = body.get("error") if isinstance(body, dict) else None
    message = str(detail.get("message") or "") if isinstance(detail, dict) else ""
    status = response.status_code
    title, do = _REFUSALS.get(status // 100 if status >= 500 else status, ("The API refused", "Check the request."))
    return ApiError(
        title,
        status=status,
        expected=f"an answer from {path}",
        got=message or f"status {status} without a reason",
        do=do,
    )


_REFUSALS = {
    401: ("The API wants a key", "Start the console with an API key that the API knows."),
    403: ("The API wants a key", "Start the console with an API key that the API knows."),
    404: ("Nothing is known under this name", "Check the name, or go back to the start page."),
    429: ("Too many requests", "Wait a moment, then try again."),
    5: ("The API is in trouble", "Try again; the API's own log says what went wrong."),
}


def _parsed(url: str) -> httpx.URL:
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise _no_url(url) from error
    if parsed.scheme not in {"http", "https"} or not parsed.host:
        raise _no_url(url)
    return parsed


def _no_url(url: str) -> ConfigError:
    return ConfigError(
        expected="the address of an API, as http://127.0.0.1:8080", got=repr(url), do="Give the address in full."
    )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
