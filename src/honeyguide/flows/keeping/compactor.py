"""When a running server moves its log into the tables: in a process of its own, so that no answer waits for it."""

from __future__ import annotations

import time

import structlog

from honeyguide.contracts import EventLog
from honeyguide.engines.tables.snapshot import Snapshots
from honeyguide.flows.config import WorkspaceConfig
from honeyguide.flows.errand import Errand
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
        self._compact = Errand(layout.log.parent / ".compactor", "compact", str(layout.root.resolve()), "--json")
        self._last = time.monotonic()
        self._not_before = 0.0
        self._moved = 0  # so much of the log was in the tables when it was last looked at

    def look(self) -> None:
        """Start a compaction if it is time."""
        if self._compact.running:
            self._ended()
        elif self._is_due():
            self._compact.start()

    def close(self) -> None:
        """End a running compaction; it can be killed as well, and loses nothing."""
        self._compact.close()

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

    def _ended(self) -> None:
        returned = self._compact.returned()
        if returned is None:
            return
        self._last = time.monotonic()
        if returned.code:
            self._not_before = self._last + _AGAIN_S
            _logger.warning("the log was not compacted", reason=returned.reason, code=returned.code)
