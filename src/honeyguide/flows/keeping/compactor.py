"""When a running server moves its log into the tables: in a process of its own, so that no answer waits for it."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time

import structlog

from honeyguide.contracts import EventLog
from honeyguide.engines.tables.snapshot import Snapshots
from honeyguide.flows.config import WorkspaceConfig
from honeyguide.flows.layout import Layout
from honeyguide.schema.tables import EVENTS

__all__ = ["Compactor"]

_logger = structlog.get_logger("honeyguide.compactor")
_AGAIN_S = 60.0


class Compactor:
    """Looks after one workspace's log; of several processes, the one that comes first.

    `look` is called every now and then by one thread. It starts `honeyguide compact` when `[retention]` says so, and
    tells when that failed; the log then simply grows until it is tried again, a minute later.
    """

    def __init__(self, layout: Layout, log: EventLog) -> None:
        self._layout, self._log = layout, log
        self._retention = WorkspaceConfig.load(layout.config).retention
        self._claim = (layout.log.parent / ".compactor").open("w")
        self._mine = False
        self._running: subprocess.Popen[bytes] | None = None
        self._last = time.monotonic()
        self._not_before = 0.0
        self._moved = 0  # so much of the log was in the tables when it was last looked at

    def look(self) -> None:
        """Start a compaction if it is time."""
        if self._running is not None:
            self._ended()
        elif self._is_due() and self._claimed():
            command = [sys.executable, "-m", "honeyguide", "compact", str(self._layout.root.resolve()), "--json"]
            environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
            self._running = subprocess.Popen(
                command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment, process_group=0
            )

    def close(self) -> None:
        """Let a running compaction end; it can be killed as well, and loses nothing."""
        if self._running is not None:
            self._running.terminate()
            self._running.communicate()
        self._claim.close()

    def _is_due(self) -> bool:
        now = time.monotonic()
        if now < self._not_before or not self._retention.compact_minutes:
            return False
        late = now - self._last >= self._retention.compact_minutes * 60
        wanted = 1 if late else self._retention.compact_records
        if self._log.head() - self._moved >= wanted:
            self._moved = Snapshots(self._layout.tables).offset(EVENTS.name, self._log.id)
        elif late:
            self._last = now
        return self._log.head() - self._moved >= wanted

    def _claimed(self) -> bool:
        if not self._mine:
            try:
                fcntl.flock(self._claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._mine = True
            except BlockingIOError:
                return False
        return True

    def _ended(self) -> None:
        if self._running is None or self._running.poll() is None:
            return
        _, told = self._running.communicate()
        self._last = time.monotonic()
        if self._running.returncode:
            self._not_before = self._last + _AGAIN_S
            reason = told.decode(errors="replace").strip().rpartition("\n")[2]
            _logger.warning("the log was not compacted", reason=reason, code=self._running.returncode)
        self._running = None
