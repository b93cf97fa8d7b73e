"""SIGKILL at random moments, under several writers and a compaction that never rests: what was lost, what doubled.

Also the processes that die: `python -m honeyguide.flows.bench.log_kill append LOG SEED FIRST`, `... post PORT SEED
FIRST` (both print the number of each batch that was acknowledged) and `... compact DIR`.
"""

from __future__ import annotations

import http.client
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

import msgspec

from honeyguide.contracts import LogRecord
from honeyguide.engines.log.sqlite import SqliteLog
from honeyguide.flows.layout import Layout
from honeyguide.schema import columns as c
from honeyguide.schema.tables import EVENTS
from honeyguide.schema.wire import EventIn, EventsAnswer, EventsRequest
from honeyguide.serving.record import event_records

__all__ = ["Killed", "kill_again_and_again"]

WRITERS = 3
_FLYING = 4  # batches that a writer has under way
_BACK = 6  # each life begins some batches back, as a client does that heard no answer
_START_S = 60.0


@dataclass(frozen=True, slots=True)
class Killed:
    """What became of the events of all lives."""

    kills: int
    acknowledged: int
    stored: int
    lost: int
    doubled: int
    torn: int  # batches of which only a part is there


def kill_again_and_again(
    layout: Layout, rounds: int, *, over_http: int = 0, seed: int = 0, item_id: str = "item"
) -> Killed:
    """Rounds of writers that append to the workspace's log, `over_http` of them through a server, and die.

    Sizes of batches follow from the writer and the batch's number, ids from these: so the end shows what is missing.
    """
    from honeyguide.flows.data import held

    chance = random.Random(seed)
    promised: list[set[int]] = [set() for _ in range(WRITERS)]
    compactor: subprocess.Popen[str] | None = None
    kills = 0
    for number in range(rounds):
        if compactor is None or compactor.poll() is not None:
            compactor = _start("compact", layout.root)
        first = [max(0, max(acked, default=0) - _BACK) for acked in promised]
        life = _over_http if number >= rounds - over_http else _directly
        for writer, acked in enumerate(life(layout, first, chance, item_id)):
            promised[writer] |= acked
        kills += 1
        if chance.random() < 0.4:
            compactor.kill()
            compactor.communicate()
            compactor = None
    if compactor is not None:
        compactor.kill()
        compactor.communicate()
    stored = [key for key in held(layout, EVENTS)[c.EVENT_ID].to_pylist() if key.startswith("writer ")]
    counts = Counter(stored)
    expected = {key for writer, acked in enumerate(promised) for batch in acked for key in _keys(writer, batch)}
    batches = Counter(tuple(map(int, key.split()[1:3])) for key in counts)
    torn = sum(n != _size(writer, batch) for (writer, batch), n in batches.items())
    lost = len(expected - counts.keys())
    return Killed(kills, len(expected), len(counts), lost, len(stored) - len(counts), torn)


def _directly(layout: Layout, first: list[int], chance: random.Random, item_id: str) -> Iterator[set[int]]:
    """Writers with the log open in their own processes, all killed at once."""
    writers = [_start("append", layout.log, n, first[n], item_id) for n in range(WRITERS)]
    begun = [_first_line(writer) for writer in writers]
    time.sleep(chance.uniform(0, 0.3))
    chance.shuffle(order := list(writers))
    for writer in order:
        writer.kill()
    for writer, line in zip(writers, begun, strict=True):
        yield _numbers(line + writer.communicate()[0])


def _over_http(layout: Layout, first: list[int], chance: random.Random, item_id: str) -> Iterator[set[int]]:
    """Clients of a server whose worker is killed."""
    from honeyguide.flows.bench.processes import only_child_of
    from honeyguide.flows.operate import server

    with server(layout.root, port=0, workers=1, api_keys=()) as api:
        worker = only_child_of(os.getpid(), "honeyguide.serving.worker")
        writers = [_start("post", api.port, n, first[n], item_id) for n in range(WRITERS)]
        begun = [_first_line(writer) for writer in writers]
        time.sleep(chance.uniform(0, 0.3))
        os.kill(worker, signal.SIGKILL)
        for writer, line in zip(writers, begun, strict=True):
            yield _numbers(line + writer.communicate()[0])


def _start(what: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "honeyguide.flows.bench.log_kill", what, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def _first_line(writer: subprocess.Popen[str]) -> str:
    return writer.stdout.readline() if writer.stdout is not None else ""


def _numbers(text: str) -> set[int]:
    # A line that death cut short was never heard.
    return {int(line) for line in text.splitlines(keepends=True) if line.endswith("\n")}


# ------------------------------------------------------------------------------------------------- who will die


def _size(writer: int, batch: int) -> int:
    return 1 + (31 * writer + 7 * batch) % 40


def _keys(writer: int, batch: int) -> list[str]:
    return [f"writer {writer} {batch} {n}" for n in range(_size(writer, batch))]


def _batch(writer: int, batch: int, item_id: str) -> EventsRequest:
    return EventsRequest([EventIn(f"user {writer}", item_id, "view", event_id=key) for key in _keys(writer, batch)])


def _records(writer: int, batch: int, item_id: str) -> list[LogRecord]:
    return event_records(_batch(writer, batch, item_id), time.time_ns() // 1000)[0]


def _append(path: str, writer: int, batch: int, item_id: str) -> None:
    log = SqliteLog(path)
    flying = []
    while True:
        flying.append((batch, log.append(_records(writer, batch, item_id))))
        batch += 1
        if len(flying) >= _FLYING:
            number, future = flying.pop(0)
            future.result()
            print(number, flush=True)


def _post(port: int, writer: int, batch: int, item_id: str) -> None:
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=_START_S)
    with suppress(OSError, http.client.HTTPException):
        while True:
            body = msgspec.json.encode(_batch(writer, batch, item_id))
            client.request("POST", "/v1/events", body, {"Content-Type": "application/json"})
            answer = msgspec.json.decode(client.getresponse().read(), type=EventsAnswer)
            if answer.accepted + answer.duplicates == _size(writer, batch):
                print(batch, flush=True)
            batch += 1


def _compact(folder: str) -> None:
    from honeyguide.flows.keeping.compact import compact

    while True:
        compact(folder)


if __name__ == "__main__":
    if sys.argv[1] == "append":
        _append(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5])
    elif sys.argv[1] == "post":
        _post(int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5])
    else:
        _compact(sys.argv[2])
