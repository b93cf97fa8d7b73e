"""What a request costs: HTTP over a kept-alive socket, processor time of the whole worker process."""

from __future__ import annotations

import os
import socket
import statistics
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from honeyguide.errors import NotFoundError
from honeyguide.flows.bench.processes import cpu_s, only_child_of
from honeyguide.flows.bench.rows import REPEATS, row
from honeyguide.flows.build import build
from honeyguide.flows.create import create
from honeyguide.flows.layout import Layout
from honeyguide.flows.live import load_manifest
from honeyguide.flows.loading import sources_of_data
from honeyguide.flows.operate import server
from honeyguide.intake.datasets import cache_folder

__all__ = ["run"]

REQUESTS = 400


def run(data: Path | None) -> tuple[list[dict[str, Any]], list[str]]:
    """Requests over a kept-alive socket, one in flight, against a server of one worker with durable logging."""
    workspace = bench_workspace(data)
    rows: list[dict[str, Any]] = []
    with server(workspace, port=0, workers=1, api_keys=()) as api:
        worker = only_child_of(os.getpid(), "honeyguide.serving.worker")
        client = _Client(api.port)
        people = msgspec.json.decode(client.ask("GET", "/v1/pipeline"))["examples"]
        item = _popular_item(workspace)
        bodies = {
            "home": ("/v1/recommend", [{"user_id": person, "k": 20} for person in people]),
            "item": ("/v1/recommend", [{"surface": "item", "item_id": item, "k": 20}]),
            "board": ("/v1/recommend", [{"surface": "board", "board_items": [item], "k": 20}]),
            "search": ("/v1/search", [{"query": query, "k": 20} for query in ("star wars", "tom hanks", "godfather")]),
        }
        empty = _measure(client, worker, "GET", "/healthz", [b""])
        rows += _serve_rows("empty-route", empty, None)
        for case, (path, requests) in bodies.items():
            encoded = [msgspec.json.encode(request) for request in requests]
            rows += _serve_rows(case, _measure(client, worker, "POST", path, encoded), empty)
        answers = [msgspec.json.decode(client.ask("POST", *_of(bodies["home"], n))) for n in range(200)]
        for stage in answers[-1]["stage_us"]:
            took = statistics.median(answer["stage_us"].get(stage, 0.0) for answer in answers[50:])
            rows.append(row("serve", f"stage:{stage}", "wall_p50_ms", "ms", took / 1e3))
    return rows, []


def _of(body: tuple[str, list[dict[str, Any]]], n: int) -> tuple[str, bytes]:
    path, requests = body
    return path, msgspec.json.encode(requests[n % len(requests)])


def _serve_rows(case: str, found: dict[str, float], empty: dict[str, float] | None) -> list[dict[str, Any]]:
    floor = {} if empty is None else empty
    return [
        row("serve", case, "cpu_ms_per_request", "ms", found["cpu_ms"], floor=floor.get("cpu_ms")),
        row("serve", case, "requests_per_cpu_s", "1/s", 1e3 / found["cpu_ms"]),
        row("serve", case, "wall_p50_ms", "ms", found["p50"], floor=floor.get("p50")),
        row("serve", case, "wall_p99_ms", "ms", found["p99"], floor=floor.get("p99")),
    ]


def _measure(client: _Client, worker: int, method: str, path: str, bodies: list[bytes]) -> dict[str, float]:
    """Median of five for processor time (whole worker process), best of five for wall time."""
    for n in range(100):
        client.ask(method, path, bodies[n % len(bodies)])
    cpu, p50, p99 = [], [], []
    for _ in range(REPEATS):
        before = cpu_s(worker)
        took = []
        for n in range(REQUESTS):
            started = time.perf_counter_ns()
            client.ask(method, path, bodies[n % len(bodies)])
            took.append((time.perf_counter_ns() - started) / 1e6)
        time.sleep(0.15)  # impressions are written within 100 ms: their cost belongs to these requests
        cpu.append((cpu_s(worker) - before) / REQUESTS * 1e3)
        p50.append(float(np.percentile(took, 50)))
        p99.append(float(np.percentile(took, 99)))
    return {"cpu_ms": statistics.median(cpu), "p50": min(p50), "p99": min(p99)}


class _Client:
    """HTTP/1.1 over one socket: cheap enough not to be what is measured."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, method: str, path: str, body: bytes = b"") -> bytes:
        fields = f"Host: bench\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
        self._socket.sendall(f"{method} {path} HTTP/1.1\r\n{fields}\r\n\r\n".encode() + body)
        received = bytearray()
        while b"\r\n\r\n" not in received:
            received += self._receive()
        top, _, rest = bytes(received).partition(b"\r\n\r\n")
        lines = top.decode("latin-1").split("\r\n")
        if " 200 " not in lines[0]:
            raise NotFoundError(expected=f"200 from {path}", got=lines[0], do="See the server's log.")
        told = dict(line.lower().split(": ", 1) for line in lines[1:])
        content = bytearray(rest)
        while len(content) < int(told.get("content-length", "0")):
            content += self._receive()
        return bytes(content)

    def _receive(self) -> bytes:
        part = self._socket.recv(1 << 16)
        if not part:
            raise NotFoundError(expected="an answer", got="a closed connection", do="See the server's log.")
        return part


def bench_workspace(data: Path | None) -> Path:
    """The workspace `data`, if it is one; else MovieLens 1M in the cache, built if code or data have changed."""
    given = data is not None and (Path(data) / "workspace.json").exists()
    folder = Path(data) if data is not None and given else cache_folder() / "bench" / "ml-1m"
    if not (folder / "workspace.json").exists():
        films, facts = sources_of_data.fetch("ml-1m"), sources_of_data.fetch("film-facts")
        files = {name: Path(path) for name, path in films["files"].items()}
        create(
            folder, events=files["events"], items=files["items"], users=files["users"],
            facts=Path(facts["files"]["items"]), name="Films",
        )  # fmt: skip
    build(folder)
    return folder


def _popular_item(workspace: Path) -> str:
    from honeyguide.flows.operate import sql

    load_manifest(Layout.open(workspace))
    rows = sql(workspace, "select item_id, count(*) n from events group by 1 order by n desc, item_id limit 1")
    return str(rows["item_id"][0].as_py())
