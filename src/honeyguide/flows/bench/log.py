"""What a durable event costs over HTTP, and what is lost when processes are killed."""

from __future__ import annotations

import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

import numpy as np

from honeyguide.engines.log.sqlite import SqliteLog
from honeyguide.flows.bench.log_kill import kill_again_and_again
from honeyguide.flows.bench.processes import cpu_s, only_child_of
from honeyguide.flows.bench.rows import REPEATS, row
from honeyguide.flows.build import build
from honeyguide.flows.create import create
from honeyguide.flows.layout import Layout
from honeyguide.flows.operate import server
from honeyguide.schema.wire import EventIn, EventsRequest
from honeyguide.serving.record import event_records

__all__ = ["events", "run", "small_workspace"]

CLIENTS, BATCH, BATCHES = 8, 100, 250
PRESENT = 1_000_000
PEOPLE, ITEMS, EVENTS = 6_000, 3_000, 60_000
KILLS, KILLS_OVER_HTTP = 50, 10
PEER = "sqlite3: random text key, a synced transaction a batch, no HTTP"
_START_S = 1_600_000_000


def run(data: Path | None) -> tuple[list[dict[str, Any]], list[str]]:
    """Both cases, in a workspace of their own; `data` is not needed."""
    with tempfile.TemporaryDirectory(prefix="honeyguide-bench-log-") as folder:
        workspace = small_workspace(Path(folder) / "workspace")
        rows = _over_http(workspace, Path(folder))
        killed = kill_again_and_again(
            Layout.open(workspace), KILLS, over_http=KILLS_OVER_HTTP, seed=42, item_id=_item(0)
        )
    case = f"kill-{KILLS}"
    rows += [
        row("log", case, "lost", "events", killed.lost),
        row("log", case, "doubled", "events", killed.doubled),
        row("log", case, "torn", "batches", killed.torn),
        row("log", case, "acknowledged", "events", killed.acknowledged),
    ]
    return rows, []


def small_workspace(folder: Path) -> Path:
    """A built workspace of generated events."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = np.random.default_rng(0)
    folder.parent.mkdir(exist_ok=True)
    log, items = folder.parent / "events.parquet", folder.parent / "items.parquet"
    item = np.minimum(rng.exponential(ITEMS / 6, EVENTS).astype(int), ITEMS - 1)
    pq.write_table(
        pa.table({
            "user_id": [_person(n) for n in rng.integers(0, PEOPLE, EVENTS)],
            "item_id": [_item(n) for n in item],
            "action": ["view"] * EVENTS,
            "timestamp": _START_S + np.sort(rng.integers(0, 90 * 86_400, EVENTS)),
        }),
        log,
    )  # fmt: skip
    pq.write_table(
        pa.table({
            "item_id": [_item(n) for n in range(ITEMS)],
            "title": [f"Thing {n}" for n in range(ITEMS)],
            "category": [f"kind {n % 20}" for n in range(ITEMS)],
        }),
        items,
    )  # fmt: skip
    create(folder, events=log, items=items, name="log bench")
    build(folder)
    return folder


def _person(n: int) -> str:
    return f"person-{n:06d}"


def _item(n: int) -> str:
    return f"item-{n:05d}"


def _over_http(workspace: Path, folder: Path) -> list[dict[str, Any]]:
    log = SqliteLog(Layout.open(workspace).log)
    for at in range(0, PRESENT, 5_000):
        records, _ = event_records(EventsRequest(events(5_000, at, at_s=at * 1e-5)), time.time_ns() // 1000)
        log.append(records).result()
    log.close()
    per_s, cpu_us = [], []
    with server(workspace, port=0, workers=1, api_keys=()) as api:
        worker = only_child_of(os.getpid(), "honeyguide.serving.worker")
        for repeat in range(REPEATS + 1):
            clients = [_client(api.port, repeat, n) for n in range(CLIENTS)]
            for client in clients:
                client.stdout.readline()  # type: ignore[union-attr]  # its bodies are made
            before, started = cpu_s(worker), time.perf_counter()
            for client in clients:
                client.stdin.write("go\n")  # type: ignore[union-attr]
                client.stdin.flush()  # type: ignore[union-attr]
            for client in clients:
                client.wait()
            took = time.perf_counter() - started
            time.sleep(1.5)  # what the events do to the online state within a second belongs to them
            sent = CLIENTS * BATCHES * BATCH
            if repeat:  # the first one warms
                per_s.append(sent / took)
                cpu_us.append((cpu_s(worker) - before) / sent * 1e6)
    peer_per_s, peer_cpu_us = _plain_sqlite(folder / "plain.sqlite")
    case = f"http-batch-{BATCH}"
    return [
        row("log", case, "events_per_s", "1/s", max(per_s), peer=peer_per_s, peer_name=PEER,
            ratio=max(per_s) / peer_per_s),
        row("log", case, "cpu_us_per_event", "us", statistics.median(cpu_us), peer=peer_cpu_us, peer_name=PEER,
            ratio=statistics.median(cpu_us) / peer_cpu_us),
    ]  # fmt: skip


def events(count: int, seed: int, *, at_s: float) -> list[EventIn]:
    """Events with random ids, one every 100 us from so many seconds after the workspace's last one."""
    rng = np.random.default_rng(seed)
    people, items = rng.integers(0, PEOPLE, count).tolist(), rng.integers(0, ITEMS, count).tolist()
    ids = rng.bytes(16 * count)
    return [
        EventIn(
            _person(people[n]), _item(items[n]), "view", event_id=str(uuid.UUID(bytes=ids[16 * n : 16 * n + 16])),
            happened_at=_START_S + 90 * 86_400 + at_s + n * 1e-4, surface="home", position=1 + n % 20,
        )
        for n in range(count)
    ]  # fmt: skip


def _client(port: int, repeat: int, number: int) -> subprocess.Popen[str]:
    arguments = map(str, (port, repeat, number, BATCHES, BATCH))
    command = [sys.executable, "-m", "honeyguide.flows.bench.log_client", *arguments]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _plain_sqlite(path: Path) -> tuple[float, float]:
    """Events a second and processor microseconds an event of a table whose key is the event's random id."""
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("CREATE TABLE log(key TEXT PRIMARY KEY, at INTEGER, user_id TEXT, payload BLOB) WITHOUT ROWID")
    rng = np.random.default_rng(1)
    payload = b"x" * 150

    def batch(count: int) -> list[tuple[str, int, str, bytes]]:
        ids = rng.bytes(16 * count)
        return [(str(uuid.UUID(bytes=ids[16 * n : 16 * n + 16])), n, "person-000001", payload) for n in range(count)]

    def insert(rows: list[tuple[str, int, str, bytes]]) -> None:
        db.execute("BEGIN IMMEDIATE")
        db.executemany("INSERT OR IGNORE INTO log VALUES (?, ?, ?, ?)", rows)
        db.execute("COMMIT")

    for _ in range(PRESENT // 50_000):
        insert(batch(50_000))
    batches = [batch(BATCH) for _ in range(200)]
    wall, cpu = time.perf_counter(), time.process_time()
    for rows in batches:
        insert(rows)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    db.close()
    stored = len(batches) * BATCH
    return stored / wall, cpu / stored * 1e6
