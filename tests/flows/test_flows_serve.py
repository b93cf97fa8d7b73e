"""The product behind its socket: several workers that know the same, new builds, crashes, refusals, counts."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import pytest

import honeyguide as hg
from honeyguide.engines.log.sqlite import SqliteLog
from honeyguide.flows.build import build
from honeyguide.flows.layout import Layout
from honeyguide.flows.operate import server
from honeyguide.flows.wiring import open_desk
from honeyguide.schema.wire import Answer, RecommendRequest
from honeyguide.serving.record import EVENT, decode_event
from honeyguide.serving.server import Server

KEY = "a-key-that-only-tests-know"
HEADERS = {"Authorization": f"Bearer {KEY}"}


def opened(url: str, **given: Any) -> httpx.Client:
    """A client of its own connection, which asks no proxy."""
    return httpx.Client(base_url=url, timeout=20, trust_env=False, **{"headers": HEADERS, **given})


@pytest.fixture(scope="module")
def guarded(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The workspace, with an API key, and a surface whose deadline nobody can meet."""
    folder = tmp_path_factory.mktemp("served") / "shop"
    shutil.copytree(built, folder)
    text = (folder / "honeyguide.toml").read_text().replace("[serve]", f'[serve]\napi_keys = ["{KEY}"]')
    (folder / "honeyguide.toml").write_text(text + '\n[surfaces.hasty]\nkind = "home"\ndeadline_ms = 0.0001\n')
    build(folder)
    return folder


@pytest.fixture(scope="module")
def two(guarded: Path) -> Iterator[Server]:
    with server(guarded, port=0, workers=2) as running:
        yield running


@pytest.fixture
def client(two: Server) -> Iterator[httpx.Client]:
    with opened(two.url) as connection:
        yield connection


# ---------------------------------------------------------------------------------------------- who answers whom


def pids_of(running: Server) -> set[int]:
    return {worker.process.pid for worker in running._workers}


def worker_of(client: httpx.Client, running: Server) -> int:
    """The process at the other end of a connection, as the system's own tables tell."""
    mine = client.get("/healthz").extensions["network_stream"].get_extra_info("client_addr")[1]
    wanted = (f":{running.port:04X}", f":{mine:04X}")
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[1].endswith(wanted[0]) and fields[2].endswith(wanted[1]):
            for pid in pids_of(running):
                for handle in Path(f"/proc/{pid}/fd").iterdir():
                    with suppress(FileNotFoundError):
                        if os.readlink(handle) == f"socket:[{fields[9]}]":
                            return pid
    raise AssertionError("nobody holds the other end")


@pytest.fixture
def one_each(two: Server) -> Iterator[list[httpx.Client]]:
    """A connection to every worker."""
    if not Path("/proc/net/tcp").exists():
        pytest.skip("which worker holds a connection is read from /proc")
    with ExitStack() as stack:
        found: dict[int, httpx.Client] = {}
        deadline = time.monotonic() + 20
        while found.keys() != pids_of(two) and time.monotonic() < deadline:
            # Asked at once: the system gives a connection to whoever is free.
            fresh = [stack.enter_context(opened(two.url)) for _ in range(8)]
            with ThreadPoolExecutor(8) as pool:
                list(pool.map(lambda one: one.get("/healthz"), fresh))
            found |= {worker_of(one, two): one for one in fresh}
        assert found.keys() == pids_of(two)
        yield list(found.values())


def home(client: httpx.Client, user: str | None, **given: Any) -> dict[str, Any]:
    answer = client.post("/v1/recommend", json={"surface": "home", "user_id": user, "k": 20, **given})
    assert answer.status_code == 200, answer.text
    return answer.json()


def items(answer: dict[str, Any]) -> list[str]:
    return [item["item_id"] for item in answer["items"]]


def took(client: httpx.Client, user: str, item_id: str, **given: Any) -> dict[str, Any]:
    event = {"user_id": user, "item_id": item_id, "action": "rating", "value": 5.0, **given}
    answer = client.post("/v1/events", json={"events": [event]})
    assert answer.status_code == 200, answer.text
    return answer.json()


# ---------------------------------------------------------------------------------------------- the ring, at once


def test_a_click_is_known_to_every_worker_at_once(one_each: list[httpx.Client], two: Server) -> None:
    for n, writer in enumerate(one_each * 3):
        user = f"reader-of-their-own-writes-{n}"
        first = items(home(writer, user))[0]
        assert took(writer, user, first) == {"accepted": 1, "duplicates": 0, "refused": []}
        for reader in one_each:
            answer = home(reader, user)
            assert answer["items"]
            assert first not in items(answer)
            # No longer a stranger: more than popularity speaks now.
            assert {source for item in answer["items"] for source in item["sources"]} > {"popular"}
        with opened(two.url) as fresh:
            assert first not in items(home(fresh, user))


def test_a_retry_counts_once_whoever_takes_it(one_each: list[httpx.Client]) -> None:
    sent = [took(client, "retry", "f5", event_id="the-same") for client in one_each * 2]
    assert [answer["accepted"] for answer in sent] == [1] + [0] * (len(sent) - 1)
    assert [answer["duplicates"] for answer in sent] == [0] + [1] * (len(sent) - 1)


def test_an_item_put_once_is_found_through_every_worker(one_each: list[httpx.Client]) -> None:
    for n, writer in enumerate(one_each):
        item_id, title = f"new/film {n}", f"Zebra Xylophone {'Quartz' if n else 'Opal'}"
        body = {"item_id": item_id, "title": title, "categories": ["Romance"], "year": 2020}
        address = f"/v1/items/{item_id.replace(' ', '%20')}"
        assert writer.put(address, json=body).status_code == 200
        for reader in one_each:
            assert items(reader.post("/v1/search", json={"query": title}).json())[0] == item_id
            assert reader.get(address).json()["title"] == title
            suggested = reader.get("/v1/suggest", params={"prefix": title[:18].lower()}).json()["suggestions"]
            assert title in {one["text"] for one in suggested}
            related = reader.post("/v1/recommend", json={"surface": "item", "item_id": item_id, "k": 5})
            assert len(related.json()["items"]) == 5


# --------------------------------------------------------------------------------------------------- one answer


def test_what_is_served_is_what_the_workspace_answers(guarded: Path, client: httpx.Client) -> None:
    asked = [
        RecommendRequest(user_id="p4", k=20, request_id="the same"),
        RecommendRequest(user_id="nobody", k=7, request_id="nobody's", context={"gender": "F"}),
        RecommendRequest(surface="item", item_id="f3", k=5, request_id="a page"),
        RecommendRequest(surface="board", board_items=["f2", "f160"], k=5, request_id="a board"),
    ]
    with hg.Workspace(guarded) as workspace:
        for request in asked:
            served = client.post("/v1/recommend", content=msgspec.json.encode(request))
            ours = workspace._open().recommend(msgspec.structs.replace(request, log=False))
            theirs = msgspec.json.decode(served.content, type=Answer)
            assert theirs.request_id == request.request_id
            assert (theirs.build_id, theirs.policy_version) == (workspace.build_id, ours.policy_version)
            assert [one.item_id for one in theirs.items] == [one.item_id for one in ours.items]
            assert [one.score for one in theirs.items] == pytest.approx([one.score for one in ours.items])
            for one, other in zip(theirs.items, ours.items, strict=True):
                assert one.heads == pytest.approx(other.heads)
                assert msgspec.structs.replace(one, score=0, heads={}) == msgspec.structs.replace(
                    other, score=0, heads={}
                )
            assert theirs.list_propensity == ours.list_propensity
            assert theirs.fallback is None


def test_propensities_multiply_and_exploration_happens(client: httpx.Client) -> None:
    answers = [home(client, "p9", request_id=f"explored {n}") for n in range(60)]
    for answer in answers:
        product = math.prod(item["propensity"] for item in answer["items"])
        assert answer.get("list_propensity", 1.0) == pytest.approx(product, rel=1e-9)
        assert all(0 < item["propensity"] <= 1 for item in answer["items"])
    assert any(item.get("explored") for answer in answers for item in answer["items"])
    assert any(answer.get("list_propensity", 1.0) < 1 for answer in answers)


# --------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "words"),
    [
        ("POST", "/v1/recommend", b'{"user_id": ', 400, "JSON"),
        ("POST", "/v1/recommend", b"\xff\xfe", 400, "JSON"),
        ("POST", "/v1/recommend", b'{"colour": "red"}', 422, "colour"),
        ("POST", "/v1/recommend", b'{"k": 0}', 422, "$.k"),
        ("POST", "/v1/recommend", b'{"filters": {"year_min": 2000, "year_max": 1990}}', 422, "year_min"),
        ("POST", "/v1/search", b'{"query": 7}', 422, "$.query"),
        ("POST", "/v1/events", b'{"events": [{"user_id": "p1", "item_id": "f1"}]}', 422, "action"),
        ("POST", "/v1/recommend", b"[" * 10_000_000, 413, "10000000 bytes"),
        ("POST", "/v1/recommend", b'{"surface": "item", "item_id": "no such film"}', 404, "no such film"),
        ("POST", "/v1/recommend", b'{"surface": "item"}', 422, "item_id"),
        ("POST", "/v1/recommend", b'{"surface": "attic"}', 404, "attic"),
        ("GET", "/v1/items/no%20such%20film", None, 404, "no such film"),
        ("GET", "/v1/attic", None, 404, "/v1/attic"),
        ("DELETE", "/v1/recommend", None, 405, "DELETE"),
        ("GET", "/v1/suggest", None, 422, "prefix"),
    ],
)
def test_a_refusal_says_what_was_expected_what_came_and_what_to_do(
    client: httpx.Client, method: str, path: str, body: bytes | None, status: int, words: str
) -> None:
    answer = client.request(method, path, content=body)
    assert answer.status_code == status, answer.text[:300]
    said = answer.json()["error"]
    assert said["expected"]
    assert said["got"]
    assert said["do"]
    assert words in said["message"]
    assert answer.json()["request_id"]
    assert not re.search(r"Traceback|File \"|\.py|site-packages", answer.text)
    assert client.get("/healthz").status_code == 200


def test_an_event_about_an_unknown_item_is_refused_alone(client: httpx.Client) -> None:
    batch = [
        {"user_id": "p1", "item_id": "no such film", "action": "rating"},
        {"user_id": "p1", "item_id": "f7", "action": "rating", "value": 3.0},
        {"user_id": "p1", "item_id": "f8", "action": "rating", "happened_at": "never"},
    ]
    answer = client.post("/v1/events", json={"events": batch}).json()
    assert (answer["accepted"], answer["duplicates"]) == (1, 0)
    assert [(one["index"], one["reason"]) for one in answer["refused"]] == [(0, "unknown_item"), (2, "bad_time")]
    assert "no such film" in answer["refused"][0]["detail"]


@pytest.mark.parametrize(
    "headers", [{}, {"Authorization": "Bearer wrong-wrong"}, {"X-API-Key": ""}, {"Authorization": f"Basic {KEY}"}]
)
def test_without_the_key_nothing_is_told(two: Server, headers: dict[str, str]) -> None:
    with opened(two.url, headers=headers) as stranger:
        for method, path in (
            ("POST", "/v1/recommend"), ("POST", "/v1/events"), ("GET", "/v1/pipeline"), ("GET", "/v1/items/f1"),
        ):  # fmt: skip
            answer = stranger.request(method, path, content=b"{}" if method == "POST" else None)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"] == "Bearer"
            assert KEY not in answer.text
        assert {stranger.get(path).status_code for path in ("/healthz", "/readyz", "/metrics")} == {200}
    with opened(two.url, headers={"X-API-Key": KEY}) as friend:
        assert home(friend, "p1")["items"]


# ------------------------------------------------------------------------------------------- counts and documents


def scraped(client: httpx.Client) -> dict[str, float]:
    lines = [line for line in client.get("/metrics").text.splitlines() if line and not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


@pytest.mark.heavy
def test_metrics_count_requests_fallbacks_and_what_waits(one_each: list[httpx.Client]) -> None:
    def settled() -> dict[str, float]:
        counts, then = scraped(one_each[0]), None
        while counts != then:
            time.sleep(1.3)  # the other worker leaves its counts once a second
            counts, then = {name: n for name, n in scraped(one_each[0]).items() if "/metrics" not in name}, counts
        return counts

    before = settled()
    for client in one_each:
        for _ in range(5):
            late = home(client, "p1", surface="hasty")
            assert late["fallback"] == "popular: DeadlineExceeded"
            assert len(late["items"]) == 20
            client.post("/v1/search", json={"query": "space"})
        client.post("/v1/recommend", content=b"{")
    after = settled()

    def grew(name: str) -> float:
        return after.get(name, 0.0) - before.get(name, 0.0)

    asked = 5 * len(one_each)
    assert grew('honeyguide_requests_total{route="/v1/recommend",status="200"}') == asked
    assert grew('honeyguide_requests_total{route="/v1/search",status="200"}') == asked
    assert grew('honeyguide_requests_total{route="/v1/recommend",status="400"}') == len(one_each)
    assert grew('honeyguide_fallbacks_total{reason="popular"}') == asked
    assert grew('honeyguide_request_seconds_count{route="/v1/search"}') == asked
    assert grew('honeyguide_stage_seconds_count{stage="fallback"}') == asked
    assert after["honeyguide_log_queue"] == 0.0


def test_the_openapi_document_is_whole_and_its_examples_can_be_sent(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    assert document["openapi"].startswith("3.")
    assert document["info"]["title"] == "Honeyguide"
    assert document["info"]["version"] == hg.__version__

    def walk(node: Any) -> Iterator[dict[str, Any]]:
        if isinstance(node, dict):
            yield node
        for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
            yield from walk(child)

    defined = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert {node["$ref"] for node in walk(document) if "$ref" in node} <= defined
    sent = 0
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert operation["responses"], (method, path)
            if "requestBody" in operation:
                [content] = operation["requestBody"]["content"].values()
                example = content["example"]
                address = path.replace("{item_id}", "f1")
                if method == "put":
                    example = {**example, "item_id": "f1"}
                # Its shape is right; whether this shop has such an item is another matter.
                status = client.request(method, address, json=example).status_code
                assert status in (200, 404), (method, path, status)
                sent += 1
    assert sent >= 4
    assert client.get("/docs").status_code == 200


# --------------------------------------------------------------------------------------------------- lean workers

_TRAINERS = ("torch", "catboost", "lightgbm", "pyspark", "implicit", "nicegui")


def test_a_worker_never_loads_what_only_trains(two: Server, client: httpx.Client) -> None:
    home(client, "p1")
    client.post("/v1/search", json={"query": "space"})
    if Path("/proc/self/maps").exists():
        for pid in pids_of(two):
            mapped = Path(f"/proc/{pid}/maps").read_text()
            assert "numba" in mapped or "llvmlite" in mapped  # the right process is looked at
            assert not [name for name in ("torch", "catboost", "lightgbm", "pyspark") if f"/{name}/" in mapped]
    code = (
        "import sys, json, honeyguide.flows.wiring, honeyguide.serving.worker\n"
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(json.loads(said.stdout.splitlines()[-1]))
    assert "numba" in loaded
    assert not loaded & set(_TRAINERS)


# ------------------------------------------------------------------------------------------------ while it runs


@pytest.mark.heavy
def test_a_new_build_drops_no_request(shop: Path) -> None:
    before = hg.Workspace(shop).build_id
    (shop / "honeyguide.toml").write_text((shop / "honeyguide.toml").read_text().replace("seed = 42", "seed = 43"))
    stop = threading.Event()

    def keep_asking(running: Server, name: int) -> list[tuple[int, str, str]]:
        seen = []
        while not stop.is_set():
            with opened(running.url) as fresh:
                for n in range(20):
                    if n % 3:
                        answer = fresh.post("/v1/recommend", json={"user_id": f"p{n}", "k": 5})
                    else:
                        answer = fresh.post("/v1/search", json={"query": "space story", "k": 5})
                    body = answer.json()
                    seen.append((answer.status_code, body.get("build_id", ""), body.get("fallback") or ""))
                    assert body["items"], name
        return seen

    with server(shop, port=0, workers=2) as running, ThreadPoolExecutor(2) as pool:
        asking = [pool.submit(keep_asking, running, name) for name in range(2)]
        try:
            after = build(shop)["build_id"]
            deadline = time.monotonic() + 60
            same = 0
            while same < 20 and time.monotonic() < deadline:  # both workers, not only the one that is asked first
                with opened(running.url) as fresh:
                    same = same + 1 if home(fresh, "p1")["build_id"] == after else 0
                time.sleep(0.05)
        finally:
            stop.set()
        answers = [one for future in asking for one in future.result(60)]
    assert same == 20
    assert {status for status, _, _ in answers} == {200}
    assert {build_id for _, build_id, _ in answers} == {before, after}
    # A deadline may be missed while a build has the machine to itself; nothing else may go wrong.
    assert {why for _, _, why in answers} <= {"", "popular: DeadlineExceeded"}
    assert len(answers) > 50


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.fixture
def serving(shop: Path) -> Iterator[Callable[[], tuple[subprocess.Popen[str], str]]]:
    """Starts `honeyguide serve` as a person does: (the parent process, its address)."""
    if not Path("/proc/self/task").exists():
        pytest.skip("the workers of a server are found through /proc")
    running: list[subprocess.Popen[str]] = []

    def start() -> tuple[subprocess.Popen[str], str]:
        command = [sys.executable, "-m", "honeyguide", "serve", str(shop), "--port", str(free_port())]
        process = subprocess.Popen(
            [*command, "--workers", "2", "--no-console"], stdout=subprocess.PIPE, text=True,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
        running.append(process)
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("API"):
                return process, line.split()[1]
        raise AssertionError(f"the server ended with {process.wait()}")

    yield start
    for process in running:
        if process.poll() is None:
            process.terminate()
            process.wait(30)
        if process.stdout is not None:
            process.stdout.close()


def logged(folder: Path) -> list[dict[str, Any]]:
    log = SqliteLog(Layout.open(folder).log)
    try:
        return [decode_event(record.payload) for _, record in log.read(0, 1_000_000) if record.kind == EVENT]
    finally:
        log.close()


@pytest.mark.heavy
def test_what_was_acknowledged_survives_the_death_of_every_process(
    shop: Path, serving: Callable[[], tuple[subprocess.Popen[str], str]]
) -> None:
    parent, url = serving()
    workers = children_of(parent.pid)
    assert len(workers) == 2
    acknowledged: list[tuple[str, str, str]] = []
    answered: list[tuple[float, str]] = []
    dead = threading.Event()

    def post(name: int) -> None:
        with suppress(httpx.TransportError), opened(url) as client:
            for n in range(10_000):
                if dead.is_set():
                    return
                key, user, item = f"{name}-{n}", f"crash-{name}", f"f{n % 200}"
                if took(client, user, item, event_id=key)["accepted"] == 1:
                    acknowledged.append((key, user, item))

    def ask(name: int) -> None:
        with suppress(httpx.TransportError), opened(url) as client:
            for n in range(10_000):
                if dead.is_set():
                    return
                home(client, f"p{name}", request_id=f"shown-{name}-{n}")
                answered.append((time.monotonic(), f"shown-{name}-{n}"))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(3) for work in (post, ask)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 30
    while (len(acknowledged) < 100 or len(answered) < 100) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.5)
    killed_at = time.monotonic()
    for pid in (*workers, parent.pid):
        os.kill(pid, signal.SIGKILL)
    dead.set()
    for thread in threads:
        thread.join(30)
    assert parent.wait(10) == -signal.SIGKILL
    assert len(acknowledged) >= 100

    found = [event["event_id"] for event in logged(shop)]
    assert len(found) == len(set(found))
    assert {key for key, _, _ in acknowledged} <= set(found)
    desk = open_desk(str(shop), watch=False)
    try:
        for user in {user for _, user, _ in acknowledged}:
            theirs = {item for _, one, item in acknowledged if one == user}
            shown = {item.item_id for item in desk.recommend(RecommendRequest(user_id=user, k=50, log=False)).items}
            assert not shown & theirs
    finally:
        desk.close()
    with hg.Workspace(shop) as workspace:
        shown = workspace.sql("select request_id, shown_items, shown_propensities, list_propensity from impressions")
    rows = {row["request_id"]: row for row in shown.to_pylist()}
    assert len(rows) == shown.num_rows
    # Impressions are durable within 100 ms; a busy machine gets a little more.
    old_enough = {request_id for at, request_id in answered if at < killed_at - 0.3}
    assert len(old_enough) >= 50
    assert old_enough <= rows.keys()
    for row in rows.values():
        assert np.prod(row["shown_propensities"]) == pytest.approx(row["list_propensity"])
    # And the ring turns on: a build counts them, once each.
    with hg.Workspace(shop) as workspace:
        before = workspace.table("events").num_rows
    build(shop)
    with hg.Workspace(shop) as workspace:
        assert workspace.explain()["data"]["events"] == workspace.table("events").num_rows == before + len(found)


@pytest.mark.heavy
def test_a_worker_that_dies_is_replaced_and_nobody_notices_for_long(
    shop: Path, serving: Callable[[], tuple[subprocess.Popen[str], str]]
) -> None:
    parent, url = serving()
    with opened(url) as client:
        took(client, "survivor", "f3", event_id="before")
    [victim, _] = before = children_of(parent.pid)
    os.kill(victim, signal.SIGKILL)
    deadline = time.monotonic() + 30
    while (len(children_of(parent.pid)) < 2 or victim in children_of(parent.pid)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert len(children_of(parent.pid)) == 2 != len(set(before) & set(children_of(parent.pid)))
    for _ in range(10):
        with opened(url) as fresh:
            assert "f3" not in items(home(fresh, "survivor"))
    parent.send_signal(signal.SIGINT)
    assert parent.wait(30) == 0
    assert [event["event_id"] for event in logged(shop)] == ["before"]
