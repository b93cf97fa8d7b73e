"""A build beside the one in service: a share of the requests is scored by it too, after they are answered, unseen.

The scoring runs in a process of its own, at low priority: no answer waits for it, nor for Python's lock. What it gets
goes through a bounded queue; what the queue cannot take is counted and let go. The process ends with this one.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from queue import SimpleQueue

import msgspec
import structlog

from honeyguide.flows.layout import Layout
from honeyguide.kernels.hashing import uniform
from honeyguide.schema.wire import Answer, RecommendRequest

__all__ = ["HEADER", "Frame", "Shadow"]

_logger = structlog.get_logger("honeyguide.shadow")
HEADER = 4
"""Bytes of a frame's length, big-endian, before it."""


class Frame(msgspec.Struct, array_like=True):
    """One answered request on its way to the shadow."""

    request: RecommendRequest
    request_id: str
    now_us: int
    beside: str  # the build that answered
    items: list[str]
    heads: list[dict[str, float]]
    us: float
    fallback: str | None
    dropped: int  # so far, because the queue was full


class Shadow:
    """Hands answered requests over. `offer` is called in the event loop and costs about a microsecond."""

    def __init__(self, layout: Layout, build_id: str, share: float, queue: int) -> None:
        self.build_id, self.share, self._most = build_id, share, queue
        self.dropped = self.offered = 0
        self._waiting: SimpleQueue[tuple[RecommendRequest, Answer, int] | None] = SimpleQueue()
        command = [sys.executable, "-m", "honeyguide.flows.shadow_worker", str(layout.root.resolve()), build_id]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE)
        self._feeder = threading.Thread(target=self._feed, name="honeyguide-shadow", daemon=True)
        self._feeder.start()

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return self._waiting.qsize()

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    def offer(self, request: RecommendRequest, answered: Answer, now_us: int) -> None:
        """An answered request; the same request id is always in, or always out."""
        if uniform(answered.request_id, "shadow") >= self.share:
            return
        self.offered += 1
        if self._waiting.qsize() >= self._most or not self._feeder.is_alive():
            self.dropped += 1
        else:
            self._waiting.put((request, answered, now_us))

    def _feed(self) -> None:
        encode, pipe = msgspec.msgpack.Encoder().encode, self._process.stdin
        while pipe is not None and (one := self._waiting.get()) is not None:
            request, answered, now_us = one
            frame = Frame(
                request, answered.request_id, now_us, answered.build_id, [item.item_id for item in answered.items],
                [item.heads for item in answered.items], sum(answered.stage_us.values()), answered.fallback,
                self.dropped,
            )  # fmt: skip
            data = encode(frame)
            try:
                pipe.write(len(data).to_bytes(HEADER, "big") + data)
                if not self._waiting.qsize():
                    pipe.flush()
            except OSError as error:  # the process is gone; what still comes is counted as dropped
                _logger.warning("the shadow's process ended", build=self.build_id, reason=str(error))
                return

    def close(self, patience_s: float = 20.0) -> None:
        """Let it finish what it has, then end it."""
        self._waiting.put(None)
        self._feeder.join(patience_s)
        if self._process.stdin is not None:
            try:
                self._process.stdin.close()
            except OSError as error:
                _logger.warning("the shadow's process ended", build=self.build_id, reason=str(error))
        try:
            self._process.wait(patience_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
