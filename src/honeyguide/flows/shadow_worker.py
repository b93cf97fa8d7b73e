"""The process that scores what a server hands over, with another build: `python -m honeyguide.flows.shadow_worker`.

Reads frames (`flows.shadow.Frame`) from standard input until that ends, and leaves sums in
`models/shadow/<build>/<process>.json`, each written whole.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import BinaryIO

import msgspec
import structlog
from msgspec import structs

from honeyguide.contracts import EventLog
from honeyguide.engines.tasks.steps import atomic_write
from honeyguide.errors import HoneyguideError, TrimmedError
from honeyguide.flows import answer
from honeyguide.flows.config import WorkspaceConfig
from honeyguide.flows.keeping.compact import open_log
from honeyguide.flows.layout import Layout
from honeyguide.flows.live import Live
from honeyguide.flows.logs import log_to_stderr
from honeyguide.flows.shadow import HEADER, Frame
from honeyguide.flows.shadow_report import folder_of
from honeyguide.flows.shadow_tally import SurfaceTally, Tally
from honeyguide.flows.wiring import warmed

__all__ = ["Scorer", "main"]

_logger = structlog.get_logger("honeyguide.shadow")
_WRITE_EVERY_S = 1.0
_NICE = 10


class Scorer:
    """Asks a build what another one was asked, at the same moment, and adds up how the answers differ."""

    def __init__(self, layout: Layout, build_id: str, log: EventLog | None) -> None:
        self._layout, self._build_id, self._log = layout, build_id, log
        self._now_us = 0
        self._live = self._load()
        self._last: Tally | None = None
        self._dropped = 0
        self._place = folder_of(layout, build_id)
        self._name = f"{os.getpid()}-{time.time_ns()}"

    def _load(self) -> Live:
        live = warmed(Live(self._layout, self._log, build_id=self._build_id))
        # From now on the present is that of the request.
        live._clock = lambda: self._now_us
        return live

    def score(self, frame: Frame) -> None:
        """One request."""
        tally = self._tally(frame.beside)
        tally.dropped += frame.dropped - self._dropped
        self._dropped = frame.dropped
        self._now_us = frame.now_us
        request = structs.replace(frame.request, request_id=frame.request_id, log=False)
        try:
            try:
                self._live.catch_up()
            except TrimmedError:
                self._live = self._load()
            answered = answer.recommend(self._live, request)
        except Exception as error:  # noqa: BLE001 - whatever a build under trial does is to be counted, not to end it
            tally.failed += 1
            _logger.warning("the shadow failed", build=self._build_id, reason=str(error))
            return
        tally.scored += 1
        tally.surfaces.setdefault(request.surface, SurfaceTally()).add(
            {"items": frame.items, "heads": frame.heads, "us": frame.us, "fallback": frame.fallback},
            {
                "items": [item.item_id for item in answered.items],
                "heads": [item.heads for item in answered.items],
                "us": sum(answered.stage_us.values()),
                "fallback": answered.fallback,
            },
        )

    def _tally(self, beside: str) -> Tally:
        """The sums beside a build; another one in service begins another."""
        if self._last is None or self._last.beside != beside:
            self.write()
            self._name = f"{os.getpid()}-{time.time_ns()}"
            self._last = Tally(self._build_id, beside)
        return self._last

    def write(self) -> None:
        """Leave the sums on disk."""
        if self._last is not None:
            self._place.mkdir(parents=True, exist_ok=True)
            atomic_write(self._place / f"{self._name}.json", msgspec.json.encode(self._last))


def _frame(stream: BinaryIO) -> bytes | None:
    """The next frame whole; None at the end, also in the middle of one."""
    head = stream.read(HEADER)
    size = int.from_bytes(head, "big")
    data = stream.read(size) if len(head) == HEADER else b""
    return data if data and len(data) == size else None


def main(workspace: str, build_id: str) -> None:
    """Score until standard input ends."""
    log_to_stderr()
    os.nice(_NICE)
    layout = Layout.open(Path(workspace))
    log = open_log(layout.log, WorkspaceConfig.load(layout.config)) if layout.log.exists() else None
    decode = msgspec.msgpack.Decoder(Frame).decode
    try:
        scorer = Scorer(layout, build_id, log)
        written = time.monotonic()
        while (data := _frame(sys.stdin.buffer)) is not None:
            scorer.score(decode(data))
            if time.monotonic() - written > _WRITE_EVERY_S:
                scorer.write()
                written = time.monotonic()
        scorer.write()
    except HoneyguideError as error:
        _logger.error("the shadow cannot run", build=build_id, reason=str(error))
        raise SystemExit(error.exit_code) from error
    finally:
        if log is not None:
            log.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
