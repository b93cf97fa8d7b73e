"""When a running server judges the guardrails of exploration: in a process of its own, so that no answer waits."""

from __future__ import annotations

import time

import structlog

from honeyguide.flows.config import WorkspaceConfig
from honeyguide.flows.errand import Errand
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
        self._check = Errand(layout.root / ".guardian", "explore", "check", str(layout.root.resolve()), "--json")
        self._last = float("-inf")
        self._stamp = self._written()

    def look(self, config: WorkspaceConfig) -> bool:
        """Judge if it is time; whether what stopped has changed since the last look. config: that is served."""
        if self._check.running:
            self._ended()
        elif time.monotonic() - self._last >= self._every_s and guarded(config):
            self._check.start()
        stamp = self._written()
        changed, self._stamp = stamp != self._stamp, stamp
        return changed

    def close(self) -> None:
        """End a running check; it can be killed as well."""
        self._check.close()

    def _written(self) -> int:
        try:
            return stops.path(self._layout).stat().st_mtime_ns
        except FileNotFoundError:
            return 0

    def _ended(self) -> None:
        returned = self._check.returned()
        if returned is None:
            return
        self._last = time.monotonic()
        if returned.code:
            _logger.warning("the guardrails were not judged", reason=returned.reason, code=returned.code)
        for name, stop in stops.read(self._layout).stopped.items():
            _logger.warning("exploration is stopped", surface=name, guardrail=stop.guardrail, reason=stop.why)
