"""The API over its own door: every route, every refusal, and whatever a stranger may send."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from honeyguide.engines.log.sqlite import SqliteLog
from honeyguide.errors import ResourceError
from honeyguide.schema import wire
from honeyguide.serving.http import create_app
from honeyguide.serving.metrics import Metrics
from honeyguide.serving.record import decode_impression
from honeyguide.serving.settings import ServeSettings

sys.path.insert(0, str(Path(__file__).parent))

from small_answerer import TITLES, SmallAnswerer, make

ODD_ID = "al/x y'\"é"
KEY = "correct-horse"


class Client:
    """Synchronous requests to an ASGI application, without a socket."""

    def __init__(self, app: Any) -> None:
        self._transport = httpx.ASGITransport(app, raise_app_exceptions=False)

    def __call__(self, method: str, url: str, **options: Any) -> httpx.Response:
        async def go() -> httpx.Response:
            async with httpx.AsyncClient(transport=self._transport, base_url="http://test") as client:
                return await client.request(method, url, **options)

        return asyncio.run(go())


@pytest.fixture(scope="module")
def answerer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallAnswerer]:
    made = make(str(tmp_path_factory.mktemp("http") / "log"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def call(answerer: SmallAnswerer) -> Client:
    return Client(create_app(answerer))


def refusal(response: httpx.Response) -> tuple[int, str]:
    """Status and type of a refusal, after checking its shape."""
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert set(body) == {"error", "request_id"}
    assert set(body["error"]) == {"type", "expected", "got", "do", "message"}
    assert "Traceback" not in response.text
    return response.status_code, body["error"]["type"]


def test_a_slate_is_answered_and_logged(tmp_path: Path) -> None:
    made = make(str(tmp_path / "log"))
    response = Client(create_app(made))("POST", "/v1/recommend", json={"user_id": "u", "k": 2, "request_id": "r"})
    answer = msgspec.json.decode(response.content, type=wire.Answer)
    assert (response.status_code, answer.request_id, len(answer.items)) == (200, "r", 2)
    made.close()
    log = SqliteLog(tmp_path / "log")
    [(_, logged)] = log.read(0)
    assert decode_impression(logged.payload)["shown_items"] == [shown.item_id for shown in answer.items]
    log.close()


def test_a_click_is_durable_and_changes_the_next_slate(call: Client) -> None:
    event = {"user_id": "u", "item_id": "b", "action": "click", "event_id": "click-1"}
    bad = event | {"event_id": "click-2", "happened_at": "never"}
    answer = call("POST", "/v1/events", json={"events": [event, bad, event]}).json()
    assert (answer["accepted"], answer["duplicates"]) == (1, 1)
    assert [(refused["index"], refused["reason"]) for refused in answer["refused"]] == [(1, "bad_time")]
    assert call("POST", "/v1/events", json={"events": [event]}).json()["duplicates"] == 1
    assert call("POST", "/v1/recommend", json={"k": 1}).json()["items"][0]["item_id"] == "b"


def test_search_and_suggest(call: Client) -> None:
    answer = call("POST", "/v1/search", json={"query": "alf"}).json()
    assert (answer["total"], answer["items"][0]["item_id"]) == (1, ODD_ID)
    answer = call("GET", "/v1/suggest", params={"prefix": "al", "k": 1}).json()
    assert answer == {"prefix": "al", "suggestions": [{"text": "Alpha", "kind": "title", "item_id": "a"}]}


@pytest.mark.parametrize("item_id", [ODD_ID, "日本/語", "a b", "100%", "?x=1#y", "a//b", "/", "..", "naïve"])
def test_items_of_any_name_are_put_and_got(call: Client, item_id: str) -> None:
    address = "/v1/items/" + quote(item_id, safe="/" if ".." not in item_id else "").replace("..", "%2E%2E")
    item = {"item_id": item_id, "title": "T", "year": 2001}
    response = call("PUT", address, json=item)
    assert (response.status_code, response.json()) == (200, item)
    assert call("GET", address).json() == item
    assert refusal(call("PUT", address, json=item | {"item_id": "other"})) == (422, "RequestError")


def test_the_rest_of_the_routes(call: Client) -> None:
    assert call("GET", "/v1/pipeline").json()["surfaces"]["home"] == {"sources": ["popular"]}
    assert call("GET", "/v1/evaluation").json() == {}
    assert call("GET", "/healthz").json() == {"status": "alive"}
    assert call("HEAD", "/healthz").status_code == 200
    assert call("GET", "/readyz").json() == {"ready": True, "build_id": "b1", "detail": ""}
    assert "swagger" in call("GET", "/docs").text


def test_not_ready_is_503(tmp_path: Path) -> None:
    made = SmallAnswerer(SqliteLog(tmp_path / "log"), {})
    response = Client(create_app(made))("GET", "/readyz")
    assert (response.status_code, response.json()["detail"]) == (503, "no items")
    made.close()


@pytest.mark.parametrize(
    ("method", "url", "body", "expected"),
    [
        ("POST", "/v1/recommend", b'{"k":', (400, "MalformedRequestError")),
        ("POST", "/v1/recommend", b"", (400, "MalformedRequestError")),
        ("POST", "/v1/recommend", b'{"user_id":"\xff"}', (400, "MalformedRequestError")),
        ("POST", "/v1/recommend", b'{"user_id":"\\ud800"}', (400, "MalformedRequestError")),
        ("POST", "/v1/recommend", b"[" * 100_000, (422, "RequestError")),
        ("POST", "/v1/recommend", b'{"context":' + b'{"a":' * 100_000, (422, "RequestError")),
        ("POST", "/v1/recommend", b'{"k":0}', (422, "RequestError")),
        ("POST", "/v1/recommend", b'{"k":201}', (422, "RequestError")),
        ("POST", "/v1/recommend", b'{"K":1}', (422, "RequestError")),
        ("POST", "/v1/recommend", b'{"user_id":"a\\u0000b"}', (422, "RequestError")),
        ("POST", "/v1/recommend", b'{"surface":"board","board_items":["a","\\n"]}', (422, "RequestError")),
        ("POST", "/v1/recommend", b'{"surface":"nowhere"}', (404, "NotFoundError")),
        ("POST", "/v1/search", b"{}", (422, "RequestError")),
        ("POST", "/v1/search", b'{"query":"a","request_id":"\\u007f"}', (422, "RequestError")),
        ("POST", "/v1/events", b'{"events":[]}', (422, "RequestError")),
        ("POST", "/v1/events", b'{"events":[{"user_id":"u"}]}', (422, "RequestError")),
        ("GET", "/v1/suggest", None, (422, "RequestError")),
        ("GET", "/v1/suggest?prefix=a&k=0", None, (422, "RequestError")),
        ("GET", "/v1/suggest?prefix=a&k=51", None, (422, "RequestError")),
        ("GET", "/v1/suggest?prefix=a&K=5", None, (422, "RequestError")),
        ("GET", "/v1/suggest?prefix=%FF", None, (400, "MalformedRequestError")),
        ("GET", "/v1/suggest?prefix=" + "a" * 600, None, (422, "RequestError")),
        ("GET", "/v1/quality?table=events", None, (422, "RequestError")),
        ("GET", "/v1/quality?%FF", None, (422, "RequestError")),
        ("GET", "/v1/quality/events", None, (404, "NotFoundError")),
        ("POST", "/v1/quality", b"{}", (405, "RequestError")),
        ("GET", "/v1/items/nobody", None, (404, "NotFoundError")),
        ("GET", "/v1/items/", None, (422, "RequestError")),
        ("GET", "/v1/items/%FF", None, (400, "MalformedRequestError")),
        ("GET", "/v1/items/a%00b", None, (422, "RequestError")),
        ("GET", "/v1/items/" + "a" * 600, None, (422, "RequestError")),
        ("PUT", "/v1/items/x", b'{"item_id":"x","year":"x"}', (422, "RequestError")),
        ("GET", "/v1/recommend", None, (405, "RequestError")),
        ("DELETE", "/v1/items/a", None, (405, "RequestError")),
        ("POST", "/v1/recommend/", b"{}", (404, "NotFoundError")),
        ("GET", "/nowhere", None, (404, "NotFoundError")),
    ],
)
def test_bad_requests_get_one_clear_answer(
    call: Client, method: str, url: str, body: bytes | None, expected: tuple[int, str]
) -> None:
    assert refusal(call(method, url, content=body)) == expected


def test_a_put_takes_its_id_from_the_address(call: Client) -> None:
    assert call("PUT", "/v1/items/no%20id", json={"title": "Without"}).json() == {
        "item_id": "no id",
        "title": "Without",
    }
    assert call("GET", "/v1/items/no%20id").json()["title"] == "Without"
    assert refusal(call("PUT", "/v1/items/x", json={"item_id": ""})) == (422, "RequestError")
    operation = call("GET", "/openapi.json").json()["paths"]["/v1/items/{item_id}"]["put"]
    assert "whole item is replaced" in operation["description"]


def test_the_root_says_where_the_rest_is(call: Client) -> None:
    answer = call("GET", "/")
    assert answer.status_code == 200
    assert (answer.json()["name"], answer.json()["docs"]) == ("Honeyguide", "/docs")


@pytest.mark.parametrize(
    ("body", "got"),
    [
        ({"k": 0}, "0 at $.k"),
        ({"k": "ten"}, '"ten" (str) at $.k'),
        ({"filters": {"year_min": True}}, "true (bool) at $.filters.year_min"),
        ({"board_items": ["a", 7]}, "7 (int) at $.board_items[1]"),
        ({"k": {"deep": 1}}, "object at $.k"),
        ({"user_id": "x" * 600}, '"' + "x" * 59 + "… at $.user_id"),
    ],
)
def test_a_bad_value_is_shown(call: Client, body: dict[str, Any], got: str) -> None:
    assert call("POST", "/v1/recommend", json=body).json()["error"]["got"] == got


def test_a_wrong_field_is_named(call: Client) -> None:
    assert "$.filters.year_min" in call("POST", "/v1/recommend", json={"filters": {"year_min": "x"}}).text
    error = call("POST", "/v1/events", json={"events": [{"user_id": 1}]}).json()["error"]
    assert (error["expected"], error["got"]) == ("str", "1 (int) at $.events[0].user_id")


def test_a_defect_tells_the_client_an_id_and_the_log_the_rest(call: Client, capsys: pytest.CaptureFixture[str]) -> None:
    response = call("POST", "/v1/recommend", json={"surface": "broken"})
    assert refusal(response) == (500, "InternalError")
    assert "secret" not in response.text
    logged = capsys.readouterr()
    assert response.json()["request_id"] in logged.out + logged.err
    assert "ZeroDivisionError" in logged.out + logged.err


def test_a_log_that_refuses_is_the_servers_fault(tmp_path: Path) -> None:
    made = make(str(tmp_path / "log"), queue_records=5, lingering=("event", "item"), linger_ms=60_000)
    call = Client(create_app(made))
    events = {"events": [{"user_id": "u", "item_id": "a", "action": "click"}] * 2}

    async def two() -> list[httpx.Response]:
        async with httpx.AsyncClient(transport=call._transport, base_url="http://test") as client:
            first = asyncio.create_task(client.post("/v1/events", json=events))
            await asyncio.sleep(0.05)
            second = await client.post("/v1/events", json={"events": events["events"] * 2})
            await asyncio.to_thread(made.close)
            return [await first, second]

    first, second = asyncio.run(two())
    assert first.json()["accepted"] == 2
    assert refusal(second) == (503, "QueueFullError")
    assert second.headers["retry-after"] == "1"
    assert refusal(call("POST", "/v1/events", json=events)) == (ResourceError.http_status, "ResourceError")


@pytest.mark.parametrize("chunked", [False, True])
def test_ten_megabytes_are_refused_without_reading_them(call: Client, chunked: bool) -> None:
    given = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal given
        for _ in range(100):
            given += 100_000
            yield b"x" * 100_000

    if not chunked:
        assert refusal(call("POST", "/v1/recommend", content=b"x" * 10_000_000)) == (413, "RequestTooLargeError")
        return
    response = call("POST", "/v1/recommend", content=body())
    assert refusal(response) == (413, "RequestTooLargeError")
    assert response.headers["connection"] == "close"


# ---------------------------------------------------------------------------------------------------- keys, CORS


def test_keys_open_the_api_and_health_needs_none(answerer: SmallAnswerer) -> None:
    call = Client(create_app(answerer, ServeSettings(api_keys=("other-key", KEY))))
    for headers in ({"Authorization": f"Bearer {KEY}"}, {"authorization": f"bearer {KEY}"}, {"X-API-Key": KEY}):
        assert call("POST", "/v1/recommend", json={}, headers=headers).status_code == 200
        assert call("GET", "/v1/pipeline", headers=headers).status_code == 200
    for headers in (
        {}, {"X-API-Key": KEY[:-1]}, {"X-API-Key": ""}, {"Authorization": KEY}, {"Authorization": f"Basic {KEY}"}
    ):  # fmt: skip
        for method, url in (("POST", "/v1/recommend"), ("GET", "/v1/pipeline"), ("PUT", "/v1/items/x")):
            response = call(method, url, headers=headers)
            assert refusal(response) == (401, "UnauthorizedError")
            assert response.headers["www-authenticate"] == "Bearer"
    for url in ("/healthz", "/readyz", "/metrics"):
        assert call("GET", url).status_code == 200


def test_other_origins_are_let_in_only_when_named(answerer: SmallAnswerer, call: Client) -> None:
    asks = {"Origin": "https://shop.example", "Access-Control-Request-Method": "POST"}
    assert "access-control-allow-origin" not in call("POST", "/v1/recommend", json={}, headers=asks).headers
    open_call = Client(create_app(answerer, ServeSettings(cors_origins=("https://shop.example",))))
    assert open_call("OPTIONS", "/v1/recommend", headers=asks).status_code == 200
    for origin, allowed in (("https://shop.example", True), ("https://evil.example", False)):
        response = open_call("POST", "/v1/recommend", json={}, headers={"Origin": origin})
        assert response.status_code == 200
        assert ("access-control-allow-origin" in response.headers) == allowed


def test_an_owners_middleware_sees_the_hot_routes(answerer: SmallAnswerer) -> None:
    app = create_app(answerer)

    @app.middleware("http")
    async def mark(request: Any, call_next: Any) -> Any:
        response = await call_next(request)
        response.headers["x-seen"] = "yes"
        return response

    assert Client(app)("POST", "/v1/recommend", json={}).headers["x-seen"] == "yes"


# ------------------------------------------------------------------------------------------------------- metrics


def families(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_metrics_count_what_happened(tmp_path: Path) -> None:
    made = make(str(tmp_path / "log"))
    call = Client(create_app(made))
    for surface in ("home", "home", "late", "nowhere"):
        call("POST", "/v1/recommend", json={"surface": surface})
    call("GET", "/nowhere")
    found = families(call("GET", "/metrics").text)
    route = ("route", "/v1/recommend")
    assert found["honeyguide_requests_total", (route, ("status", "200"))] == 3
    assert found["honeyguide_requests_total", (route, ("status", "404"))] == 1
    assert found["honeyguide_requests_total", (("route", "unmatched"), ("status", "404"))] == 1
    assert found["honeyguide_request_seconds_count", (route,)] == 4
    assert found["honeyguide_request_seconds_bucket", (("le", "+Inf"), route)] == 4
    assert found["honeyguide_request_seconds_sum", (route,)] > 0
    assert found["honeyguide_fallbacks_total", (("reason", "deadline"),)] == 1
    assert found["honeyguide_stage_seconds_count", (("stage", "retrieve"),)] == 3
    assert ("honeyguide_log_queue", ()) in found
    made.close()


def test_quality_tells_what_became_of_events_sent(tmp_path: Path) -> None:
    made = make(str(tmp_path / "log"))
    call = Client(create_app(made))
    assert call("GET", "/v1/quality").json() == {"rows_in": 3, "held": 1, "live": {}}
    event = {"user_id": "u", "item_id": "a", "action": "click", "event_id": "e"}
    call("POST", "/v1/events", json={"events": [event, event, {**event, "event_id": "\n"}]})
    call("POST", "/v1/events", json={"events": [{**event, "happened_at": "never"}]})
    live = {"accepted": 1, "duplicate": 1, "bad_id": 1, "bad_time": 1}
    assert call("GET", "/v1/quality").json()["live"] == live
    found = families(call("GET", "/metrics").text)
    assert {
        dict(labels)["outcome"]: n for (name, labels), n in found.items() if name == "honeyguide_events_total"
    } == live
    made.close()


def test_workers_add_up_and_the_dead_still_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Queue:
        def gauges(self) -> dict[str, float]:
            return {"log_queue": 5.0}

    workers = []
    for pid in (1_111, 2_222, 3_333):
        monkeypatch.setattr("honeyguide.serving.metrics.os.getpid", lambda pid=pid: pid)
        workers.append(Metrics(Queue(), tmp_path))
    monkeypatch.setattr("honeyguide.serving.metrics._alive", lambda pid: pid != 3_333)
    for number, worker in enumerate(workers, start=1):
        for _ in range(number):
            worker.request("/r", 200, 3_000_000)
            worker.answer("late: by far", {"rank": 10.0})
            worker.events(2, 0, ["bad_id"])
        worker.flush()
    workers[0].request("/r", 200, 30_000_000_000)  # not flushed: the asked worker counts its own live
    assert workers[1].live_events() == {"accepted": 12, "bad_id": 6}
    found = families(workers[0].render().decode())
    assert found["honeyguide_requests_total", (("route", "/r"), ("status", "200"))] == 7
    assert found["honeyguide_request_seconds_bucket", (("le", "0.003"), ("route", "/r"))] == 6
    assert found["honeyguide_request_seconds_bucket", (("le", "2.5"), ("route", "/r"))] == 6
    assert found["honeyguide_request_seconds_count", (("route", "/r"),)] == 7
    assert found["honeyguide_request_seconds_sum", (("route", "/r"),)] == pytest.approx(30.018)
    assert found["honeyguide_stage_seconds_sum", (("stage", "rank"),)] == pytest.approx(60e-6)
    assert found["honeyguide_log_queue", ()] == 10  # of those alive


def test_labels_do_not_grow_without_bound() -> None:
    metrics = Metrics()
    for number in range(1_000):
        metrics.answer(f"reason {number}", {f"stage {number}": 1.0})
    text = metrics.render().decode()
    assert text.count("honeyguide_fallbacks_total{") <= 102
    assert families(text)["honeyguide_fallbacks_total", (("reason", "other"),)] == 900


def test_reports_are_listed_and_given_whole(call: Client) -> None:
    (one,) = call("GET", "/v1/reports").json()["reports"]
    assert call("GET", f"/v1/reports/{one['name']}").json() == {**one, "html": "<h1>é</h1>"}
    for name in ("nothing", "..%2F..%2Fetc%2Fpasswd", "%FF", "a/b", ""):
        refused = call("GET", f"/v1/reports/{name}")
        assert refused.status_code == 404, name
        assert refused.json()["error"]["message"]


# ---------------------------------------------------------------------------------------------- trace, why, rights


def test_a_trace_now_or_of_an_answer_and_why(call: Client) -> None:
    assert call("POST", "/v1/trace", json={"surface": "home"}).json()["surface"] == "home"
    assert call("GET", "/v1/trace?request_id=r%201").json()["again"] == "r 1"
    told = call("GET", f"/v1/why?request_id=r1&item_id={quote(ODD_ID, safe='')}").json()
    assert (told["request_id"], told["item_id"]) == ("r1", ODD_ID)
    assert call("GET", "/v1/models").json()["models"][0]["state"] == "in service"
    assert call("GET", "/v1/parameters").json()["surfaces"]["home"]["text"]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/trace", 422), ("/v1/trace?request_id=", 422), ("/v1/trace?request_id=a&x=1", 422),
        ("/v1/trace?request_id=%0a", 422), ("/v1/trace?request_id=%ff", 400), ("/v1/trace?request_id=unknown", 404),
        ("/v1/trace?request_id=" + "a" * 513, 422), ("/v1/why?request_id=r1", 422),
        ("/v1/why?request_id=unknown&item_id=a", 404), ("/v1/why?request_id=r1&item_id=nothing", 404),
    ],
)  # fmt: skip
def test_bad_questions_about_answers(call: Client, path: str, status: int) -> None:
    answer = call("GET", path)
    assert answer.status_code == status
    assert answer.json()["error"]["do"]


@pytest.mark.parametrize("body", [b"", b"{}", b'{"user_id": ""}', b'{"user_id": 4}', b'{"user_id": "a", "x": 1}',
                                  b'{"user_id": "a\\u0000"}'])  # fmt: skip
def test_bad_resets(call: Client, body: bytes) -> None:
    assert call("POST", "/v1/reset", content=body).status_code in (400, 422)


# ------------------------------------------------------------------------------------------------------- OpenAPI


def test_the_document_describes_every_route_and_its_examples_hold(call: Client) -> None:
    document = call("GET", "/openapi.json").json()
    assert set(document["paths"]) == {
        "/v1/recommend", "/v1/search", "/v1/suggest", "/v1/events", "/v1/items/{item_id}", "/v1/pipeline",
        "/v1/evaluation", "/v1/reports", "/v1/reports/{name}", "/v1/quality", "/", "/healthz", "/readyz", "/metrics",
        "/v1/reset", "/v1/trace", "/v1/why", "/v1/models", "/v1/parameters",
        "/v1/rerank", "/v1/merchandising", "/v1/merchandising/{rule_id}", "/v1/judgments", "/v1/judgments/next",
        "/v1/search-traffic",
    }  # fmt: skip
    assert set(document["paths"]["/v1/items/{item_id}"]) == {"get", "put"}
    defined = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}

    def walk(node: Any) -> Iterator[dict[str, Any]]:
        if isinstance(node, dict):
            yield node
            for value in node.values():
                yield from walk(value)
        elif isinstance(node, list):
            for value in node:
                yield from walk(value)

    for node in walk(document):
        assert node.get("$ref", next(iter(defined))) in defined
        if "schema" in node and "$ref" in node["schema"] and "example" in node:
            kind = getattr(wire, node["schema"]["$ref"].rpartition("/")[2], None)
            if kind is not None:
                msgspec.convert(node["example"], kind)
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            for content in operation["responses"]["200"]["content"].values():
                assert "example" in content, (path, method)


@pytest.mark.parametrize("route", ["recommend", "search", "events", "reset", "trace"])
def test_the_documents_examples_are_answered(call: Client, route: str) -> None:
    document = call("GET", "/openapi.json").json()
    operation = document["paths"][f"/v1/{route}"]["post"]
    example = operation["requestBody"]["content"]["application/json"]["example"]
    assert call("POST", f"/v1/{route}", json=example).status_code == 200


# ---------------------------------------------------------------------------------------------------------- fuzz

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
_REQUESTS = (wire.RecommendRequest, wire.SearchRequest, wire.EventsRequest, wire.EventIn, wire.Item)
_FIELDS = sorted({name for kind in _REQUESTS for name in kind.__struct_fields__})
_NEARLY = st.dictionaries(st.sampled_from(_FIELDS), _JSON | st.sampled_from([1, "a", "home", ["a"], [{}]]), max_size=5)
_BODIES = st.binary(max_size=200) | (_JSON | _NEARLY | st.fixed_dictionaries({"events": st.lists(_NEARLY)})).map(
    lambda value: json.dumps(value).encode()
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["/v1/recommend", "/v1/search", "/v1/events", "/v1/items/x", "/v1/suggest", "/v1/nothing"]),
    st.sampled_from(["POST", "PUT", "GET", "PATCH"]),
    _BODIES,
)
def test_no_body_breaks_the_server(call: Client, path: str, method: str, body: bytes) -> None:
    response = call(method, path, content=body)
    assert response.status_code < 500
    if response.status_code >= 400:
        refusal(response)


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=40), st.binary(max_size=40))
def test_no_address_breaks_the_server(call: Client, path: bytes, query: bytes) -> None:
    for root in ("/v1/items/", "/v1/suggest?prefix=", "/"):
        response = call("GET", root + quote(path) + ("&k=" if "?" in root else "?") + quote(query))
        assert response.status_code < 500


def test_titles_stay_as_they_are(call: Client) -> None:
    assert call("GET", f"/v1/items/{quote(ODD_ID)}").json()["item_id"] in TITLES
