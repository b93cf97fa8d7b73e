"""When a running server judges the guardrails of exploration: in a process of its own, so that no answer waits."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time

import structlog

from honeyguide.flows.config import WorkspaceConfig
from honeyguide.flows.exploring import stops
from honeyguide.flows.exploring.guard import guarded
from honeyguide.flows.layout import Layout

__all__ = ["Guardian"]

_logger = structlog.get_logger("honeyguide.exploration")
EVERY_S = 60.0


class Guardian:
    """Looks after the exploration of one workspace; of several processes, the one that comes first.

    `look` is called every now and then by one thread. It starts `honeyguide explore check` once a minute where a
    surface has guardrails, and tells when that failed; then nothing new is stopped until the next minute.
    """

    def __init__(self, layout: Layout, *, every_s: float = EVERY_S) -> None:
        self._layout, self._every_s = layout, every_s
        self._claim = (layout.root / ".guardian").open("w")
        self._mine = False
        self._running: subprocess.Popen[bytes] | None = None
        self._last = float("-inf")
        self._stamp = self._written()

    def look(self, config: WorkspaceConfig) -> bool:
        """Judge if it is time; whether what stopped has changed since the last look. config: that is served."""
        if self._running is not None:
            self._ended()
        elif time.monotonic() - self._last >= self._every_s and guarded(config) and self._claimed():
            command = [
                sys.executable,
                "-m",
                "honeyguide",
                "explore",
                "check",
                str(self._layout.root.resolve()),
                "--json",
            ]
            environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
            self._running = subprocess.Popen(
                command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment, process_group=0
            )
        stamp = self._written()
        changed, self._stamp = stamp != self._stamp, stamp
        return changed

    def close(self) -> None:
        """End a running check; it can be killed as well."""
        if self._running is not None:
            self._running.terminate()
            self._running.communicate()
        self._claim.close()

    def _written(self) -> int:
        try:
            return stops.path(self._layout).stat().st_mtime_ns
        except FileNotFoundError:
            return 0

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
            reason = told.decode(errors="replace").strip().rpartition("\n")[2]
            _logger.warning("the guardrails were not judged", reason=reason, code=self._running.returncode)
        for name, stop in stops.read(self._layout).stopped.items():
            _logger.warning("exploration is stopped", surface=name, guardrail=stop.guardrail, reason=stop.why)
        self._running = None
