"""The server as processes behind a real socket."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from honeyguide.engines.log.sqlite import SqliteLog
from honeyguide.errors import ConfigError, ResourceError
from honeyguide.serving.server import Server, serve
from honeyguide.serving.settings import ServeSettings

sys.path.insert(0, str(Path(__file__).parent))
FREE = ServeSettings(port=0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("server")


@pytest.fixture(scope="module")
def two(folder: Path) -> Iterator[Server]:
    with Server("small_answerer:make", ServeSettings(port=0, workers=2), {"path": str(folder / "log")}) as server:
        yield server


def exchange(server: Server, request: bytes, chunks: int = 0, chunk: bytes = b"") -> bytes:
    """Raw bytes to a server and what it says before it closes."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as link:
        link.sendall(request)
        try:
            for _ in range(chunks):
                link.sendall(chunk)
        except (BrokenPipeError, ConnectionResetError):
            pass
        answer = b""
        while b"\r\n\r\n" not in answer or b'"request_id"' not in answer:
            part = link.recv(65_536)
            if not part:
                break
            answer += part
        return answer


def test_both_workers_answer_over_one_socket_and_share_one_log(two: Server) -> None:
    pids, sent = set(), 0
    body = {"events": [{"user_id": "u", "item_id": "b", "action": "click"}]}
    deadline = time.monotonic() + 20
    while len(pids) < 2 and time.monotonic() < deadline:
        # Connections held open at once: the system gives them to whoever is free.
        clients = [httpx.Client(base_url=two.url) for _ in range(8)]
        with ThreadPoolExecutor(8) as pool:
            pids |= set(pool.map(lambda client: client.get("/v1/pipeline").json()["pid"], clients))
            answers = list(pool.map(lambda client: client.post("/v1/events", json=body), clients))
            sent += sum(answer.json()["accepted"] for answer in answers)
            scores = {client.post("/v1/recommend", json={}).json()["items"][0]["score"] for client in clients}
        for client in clients:
            client.close()
        assert scores == {float(sent)}  # each worker knows the clicks the other took
    assert len(pids) == 2


def test_metrics_are_of_all_workers(two: Server) -> None:
    def counted() -> float:
        text = httpx.get(f"{two.url}/metrics").text
        [count] = re.findall(r'honeyguide_requests_total{route="/v1/search",status="200"} (\S+)', text) or ["0"]
        return float(count)

    for _ in range(20):
        httpx.post(f"{two.url}/v1/search", json={"query": "a"})
    deadline = time.monotonic() + 30
    told: list[float] = []
    while told != [20] * 6 and time.monotonic() < deadline:  # the others leave their counts once a second
        time.sleep(0.2)
        told = [counted() for _ in range(6)]
    # Whichever worker is scraped, it tells all, and counts nothing twice.
    assert told == [20] * 6


def test_ten_megabytes_at_a_time_or_in_chunks_are_refused(two: Server) -> None:
    head = b"POST /v1/recommend HTTP/1.1\r\nhost: x\r\n"
    answer = exchange(two, head + b"content-length: 10000000\r\n\r\n", 100, b"x" * 100_000)
    assert answer.startswith(b"HTTP/1.1 413")
    answer = exchange(two, head + b"transfer-encoding: chunked\r\n\r\n", 100, b"186a0\r\n" + b"x" * 100_000 + b"\r\n")
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"connection: close" in answer
    # A lying length is of no use either.
    assert exchange(two, head + b"content-length: 10000000\r\n\r\n{}").startswith(b"HTTP/1.1 413")
    assert httpx.get(f"{two.url}/healthz").status_code == 200


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x00\x01\x02\r\n\r\n",
        b"GET /v1/items/\xff\xfe HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /v1/items/%00 HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET http://[::1 HTTP/1.1\r\nhost: x\r\n\r\n",
        b"POST /v1/recommend HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
        b"POST /v1/recommend HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999999999999999\r\n\r\n",
        b"POST /v1/recommend HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"GET /nowhere HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
    ],
)
def test_no_bytes_on_the_wire_break_the_server(two: Server, request_bytes: bytes) -> None:
    with socket.create_connection(("127.0.0.1", two.port), timeout=10) as link:
        link.sendall(request_bytes)
        link.shutdown(socket.SHUT_WR)
        answer = link.recv(65_536)
    assert re.match(rb"HTTP/1\.[01] 4|$", answer), answer
    assert httpx.get(f"{two.url}/healthz").status_code == 200


def test_a_port_in_use_is_one_sentence_before_any_worker_starts(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        started = time.monotonic()
        settings = ServeSettings(port=taken.getsockname()[1])
        with pytest.raises(ResourceError, match="to be free and allowed; got Address already in use"):
            serve("small_answerer:make", settings, arguments={"path": str(folder / "unused")})
        assert time.monotonic() - started < 2
    assert not (folder / "unused").exists()
    with pytest.raises(ResourceError):
        serve("small_answerer:make", ServeSettings(host="no.such.host.invalid", port=0))


@pytest.mark.heavy
def test_what_the_factory_raises_arrives(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError, match="Make one with `honeyguide init`"):
        Server("small_answerer:make_nothing", FREE, {"path": "here"}).start()
    with pytest.raises(ConfigError, match="as package"):
        Server("small_answerer:missing", FREE).start()
    with pytest.raises(ResourceError, match="exit code 1"):
        Server("small_answerer:make_defect", FREE, {"path": "here"}).start()
    assert "ZeroDivisionError" in capfd.readouterr().err
    with pytest.raises(ConfigError, match="another process can import"):
        Server(lambda: None, FREE)  # type: ignore[arg-type, return-value]


@pytest.mark.heavy
def test_stopping_answers_what_is_in_flight_and_drains_the_log(folder: Path) -> None:
    path = str(folder / "drained")
    options = {"path": path, "lingering": ["impression", "event"], "linger_ms": 60_000}
    server = Server("small_answerer:make", FREE, options).start()
    event = {"user_id": "u", "item_id": "a", "action": "click"}
    for _ in range(5):
        httpx.post(f"{server.url}/v1/recommend", json={})
    server.stop()
    log = SqliteLog(path)
    assert log.head() == 5  # queued for a minute, written at the end
    log.close()

    server = Server("small_answerer:make", FREE, options | {"linger_ms": 700}).start()
    with ThreadPoolExecutor(1) as pool:
        flying = pool.submit(httpx.post, f"{server.url}/v1/events", json={"events": [event]}, timeout=20)
        time.sleep(0.3)
        server.stop()
        assert flying.result().json() == {"accepted": 1, "duplicates": 0, "refused": []}


@pytest.mark.heavy
def test_a_dead_worker_is_replaced(folder: Path) -> None:
    server = Server("small_answerer:make", FREE, {"path": str(folder / "restarted")})
    with server:
        watching = threading.Thread(target=server.watch)
        watching.start()
        first = httpx.get(f"{server.url}/v1/pipeline").json()["pid"]
        os.kill(first, signal.SIGKILL)
        second = httpx.get(f"{server.url}/v1/pipeline", timeout=30).json()["pid"]  # waits in the socket's queue
        assert second != first
        server.request_stop()
        watching.join(10)
        assert not watching.is_alive()
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{server.url}/healthz")


_SERVE = """
import sys
sys.path.insert(0, sys.argv[1])
from honeyguide.serving.server import serve
from honeyguide.serving.settings import ServeSettings
serve("small_answerer:make", ServeSettings(port=0), arguments={"path": sys.argv[2]},
      on_ready=lambda url: print(url, flush=True))
print("ended in order", flush=True)
"""


@pytest.mark.heavy
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_signals_end_the_server_and_its_workers(folder: Path, signum: signal.Signals) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", _SERVE, str(Path(__file__).parent), str(folder / f"log{signum}")],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert parent.stdout is not None
    url = parent.stdout.readline().strip()
    worker = httpx.get(f"{url}/v1/pipeline").json()["pid"]
    parent.send_signal(signum)
    text = parent.communicate(timeout=30)[0]
    assert (parent.returncode, text) == ((-9, "") if signum == signal.SIGKILL else (0, "ended in order\n"))
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and Path(f"/proc/{worker}/stat").exists():
        time.sleep(0.05)
    with pytest.raises(ProcessLookupError):
        os.kill(worker, 0)


@pytest.mark.heavy
def test_the_serving_process_never_loads_pytorch_and_uses_one_thread(folder: Path) -> None:
    code = """
    import json, sys
    from pathlib import Path
    sys.path.insert(0, sys.argv[1])
    import honeyguide.serving.server, honeyguide.serving.worker
    from honeyguide.serving.http import create_app
    from small_answerer import make
    create_app(make(sys.argv[2])).openapi()
    print(json.dumps([name for name in sys.modules if name.partition(".")[0] in ("torch", "duckdb", "ibis", "pandas")]))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(Path(__file__).parent), str(folder / "light")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout) == []
    with Server("small_answerer:make", FREE, {"path": str(folder / "light")}) as server:
        pid = httpx.get(f"{server.url}/v1/pipeline").json()["pid"]
        environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        assert {b"OPENBLAS_NUM_THREADS=1", b"OMP_NUM_THREADS=1", b"NUMBA_NUM_THREADS=1"} <= set(environment)


@pytest.mark.parametrize(
    "bad", [{"port": 70_000}, {"workers": 0}, {"api_keys": ["short"]}, {"max_body_bytes": 1}, {"colour": "green"}]
)
def test_settings_are_closed(bad: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        ServeSettings.model_validate(bad)
