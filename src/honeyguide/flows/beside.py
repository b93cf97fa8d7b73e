"""What runs beside the build in service in one process: a shadow that scores, a canary that answers some."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import structlog

from honeyguide.errors import HoneyguideError
from honeyguide.flows import answer, registry
from honeyguide.flows.canary import Canary
from honeyguide.flows.config import WorkspaceConfig
from honeyguide.flows.layout import Layout
from honeyguide.flows.live import Live
from honeyguide.flows.shadow import Shadow
from honeyguide.schema.wire import Answer, EventIn, RecommendRequest

__all__ = ["Beside"]

_logger = structlog.get_logger("honeyguide.beside")
_LOOK_AT_HURT = 50  # answers


class Beside:
    """Follows the registry. `look` runs in the thread that watches; everything else in the event loop."""

    def __init__(self, layout: Layout, load: Callable[[str], Live]) -> None:
        """load: a build, ready to answer."""
        self._layout, self._load = layout, load
        self.canary: Canary | None = None
        self.shadow: Shadow | None = None
        self._stamp: tuple[Any, ...] = ()
        self._given: dict[str, registry.Given] = {}
        self._config = WorkspaceConfig.load(layout.config)
        self._refused = ""
        self._answers = 0
        self.stepped_back = 0

    # --------------------------------------------------------------------------------------------- event loop

    def recommend(self, live: Live, request: RecommendRequest) -> Answer:
        """An answer, by the canary where it is its turn; the shadow gets it to score."""
        canary, shadow = self.canary, self.shadow
        if canary is None:
            answered = answer.recommend(live, request)
        else:
            answered = canary.recommend(live, request)
            self._answers += 1
            if answered.fallback is not None or self._answers % _LOOK_AT_HURT == 0:
                self._check(canary)
        if shadow is not None and answered.build_id == live.build_id:
            shadow.offer(request, answered, live.now_us())
        return answered

    def record(self, events: Sequence[EventIn]) -> None:
        """What people did."""
        canary = self.canary
        if canary is not None:
            canary.record(events)
            self._check(canary)

    def _check(self, canary: Canary) -> None:
        why = canary.hurts()
        if why and self.canary is canary:
            self.canary = None
            self.stepped_back += 1
            _logger.error("the canary steps back", build=canary.build_id, reason=why)
            registry.step_back(self._layout, canary.build_id, why)

    def tick(self) -> None:
        """Once a second."""
        canary = self.canary
        if canary is not None and not canary.stale:
            canary.live.online.advance(canary.live.now_us())

    def gauges(self) -> dict[str, float]:
        """For /metrics."""
        canary, shadow = self.canary, self.shadow
        return {
            "canary_answers": float(canary.sides[1].n) if canary is not None else 0.0,
            "canary_failures": float(canary.sides[1].failed) if canary is not None else 0.0,
            "canary_stepped_back": float(self.stepped_back),
            "shadow_waiting": float(shadow.waiting) if shadow is not None else 0.0,
            "shadow_dropped": float(shadow.dropped) if shadow is not None else 0.0,
        }

    # ------------------------------------------------------------------------------------------- watching thread

    def look(self) -> None:
        """Take up what the registry says by now."""
        given = self._now_given()
        self._follow_shadow(given.get("shadow"))
        self._follow_canary(given.get("canary"))

    def _now_given(self) -> dict[str, registry.Given]:
        layout = self._layout
        paths = [layout.models / "roles.json", layout.config, layout.current]
        paths += [layout.builds / f"{role.build}.json" for role in self._given.values()]
        stamp = tuple(path.stat().st_mtime_ns if path.exists() else 0 for path in paths)
        if stamp != self._stamp:
            try:
                self._config = WorkspaceConfig.load(layout.config)
                self._given = registry.given(layout, self._config)
            except HoneyguideError as error:
                if str(error) != self._refused:
                    _logger.warning("roles stay as they are", reason=str(error))
                self._refused = str(error)
            self._stamp = stamp
        return self._given

    def _follow_shadow(self, role: registry.Given | None) -> None:
        had = self.shadow
        if had is not None and role is not None and (had.build_id, had.share) == (role.build, role.share):
            return
        if had is not None:
            self.shadow = None
            had.close()
        if role is not None:
            self.shadow = Shadow(self._layout, role.build, role.share, self._config.shadow.queue)
            _logger.info("a shadow scores", build=role.build, share=role.share)

    def _follow_canary(self, role: registry.Given | None) -> None:
        had = self.canary
        if role is None:
            self.canary = None
        elif had is None or had.build_id != role.build:
            self.canary = Canary(self._load(role.build), role.share, self._config.canary)
            _logger.info("a canary answers", build=role.build, share=role.share)
        elif had.stale:
            had.live = self._load(role.build)
            had.stale = False
        elif had.share != role.share:
            self.canary = Canary(had.live, role.share, self._config.canary)

    def close(self) -> None:
        """End the shadow."""
        self.canary = None
        if self.shadow is not None:
            self.shadow.close()
            self.shadow = None
