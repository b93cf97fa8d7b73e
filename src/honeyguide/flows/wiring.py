"""Where parts become a product: the `Answerer` of a workspace, with its logs, and new builds taken up while it runs."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import structlog

from honeyguide.contracts import Appended, EventLog, Health
from honeyguide.engines.log.sqlite import SqliteLog
from honeyguide.errors import HoneyguideError, NotFoundError
from honeyguide.flows import answer
from honeyguide.flows.evaluation_report import newest
from honeyguide.flows.layout import Layout
from honeyguide.flows.live import Live
from honeyguide.flows.quality import Quality
from honeyguide.schema.wire import (
    Answer,
    EventsAnswer,
    EventsRequest,
    Item,
    RecommendRequest,
    RefusedEvent,
    SearchAnswer,
    SearchRequest,
    SuggestAnswer,
)
from honeyguide.serving.record import event_records, impression_record, item_record

__all__ = ["Desk", "open_desk"]

_logger = structlog.get_logger("honeyguide.wiring")
LOOK_EVERY_S = 0.5
"""How often a running process looks whether another build was put in service."""


class Desk:
    """Answers for one workspace in one process. Implements `contracts.Answerer`.

    One thread (the event loop) asks; another loads new builds and hands them over whole, between two requests.
    """

    def __init__(self, layout: Layout, log: EventLog | None, impressions: EventLog | None, *, watch: bool) -> None:
        self._layout, self._log, self._impressions = layout, log, impressions
        self._live = _warm(Live(layout, log))
        self._quality = Quality(layout)
        self._next: Live | None = None
        self._refused = ""
        self._stop = threading.Event()
        self._watcher: threading.Thread | None = None
        if watch:
            self._watcher = threading.Thread(target=self._watch, name="honeyguide-builds", daemon=True)
            self._watcher.start()

    # ------------------------------------------------------------------------------------------------ answers

    def recommend(self, request: RecommendRequest) -> Answer:
        """A slate; logged, unless the request says not to."""
        live = self._current()
        answered = answer.recommend(live, request)
        if request.log and self._impressions is not None:
            self._impressions.append([impression_record(request, answered, live.now_us())])
        return answered

    def search(self, request: SearchRequest) -> SearchAnswer:
        """Hits; logged, unless the request says not to."""
        live = self._current()
        found = answer.search(live, request)
        if request.log and self._impressions is not None:
            self._impressions.append([impression_record(request, found, live.now_us())])
        return found

    def suggest(self, prefix: str, k: int) -> SuggestAnswer:
        """Completions of what was typed so far."""
        return SuggestAnswer(prefix, self._current().suggester.suggest(prefix, k))

    # ----------------------------------------------------------------------------------------------- the ring

    def record(self, batch: EventsRequest) -> Future[EventsAnswer]:
        """Log events; resolves when they are on disk, and so seen by the next answer of any process."""
        live = self._current()
        known = live.catalog.items
        strange = [i for i, event in enumerate(batch.events) if event.item_id not in known]
        asked = [i for i in range(len(batch.events)) if i not in set(strange)] if strange else None
        part = batch if asked is None else EventsRequest([batch.events[i] for i in asked])
        records, refused = event_records(part, live.now_us())
        if asked is not None:
            refused = [RefusedEvent(asked[one.index], one.reason, one.detail) for one in refused]
            refused += [
                RefusedEvent(i, "unknown_item", f"{batch.events[i].item_id!r} is not in the catalog") for i in strange
            ]
            refused.sort(key=lambda one: one.index)
        return self._appended(records, lambda done: EventsAnswer(
            len(records) - len(done.duplicates), len(done.duplicates), refused
        ))  # fmt: skip

    def item(self, item_id: str) -> Item:
        """One item of the catalog, as it is now."""
        live = self._current()
        row = live.catalog.items.row(item_id)
        if row < 0:
            raise NotFoundError(
                expected="an item of the catalog", got=repr(item_id), do="PUT /v1/items/{id} adds an item."
            )
        return live.item(row)

    def put_item(self, item: Item) -> Future[None]:
        """Add or change an item; found, and shown on pages, from the next request on."""
        return self._appended([item_record(item, self._current().now_us())], lambda done: None)

    def _appended(self, records: list[Any], then: Any) -> Future[Any]:
        outcome: Future[Any] = Future()
        if not records:
            outcome.set_result(then(Appended(0, ())))
            return outcome
        if self._log is None:
            outcome.set_exception(
                HoneyguideError(expected="a workspace opened for writing", got="one that only reads", do="Use `serve`.")
            )
            return outcome

        def finish(done: Future[Appended]) -> None:
            error = done.exception()
            if error is not None:
                outcome.set_exception(error)
            else:
                outcome.set_result(then(done.result()))

        self._log.append(records).add_done_callback(finish)
        return outcome

    # --------------------------------------------------------------------------------------------- description

    def health(self) -> Health:
        """Ready when a build is loaded."""
        live = self._current()
        return Health(True, live.build_id, self._refused or f"{len(live.catalog):,} items, {len(live.users):,} people")

    def pipeline(self) -> dict[str, Any]:
        """The pipeline per surface."""
        return self._current().description

    def evaluation(self) -> dict[str, Any]:
        """The newest evaluation, {} if there is none."""
        return newest(self._layout)

    def quality(self) -> dict[str, Any]:
        """What the loads brought, and what Quarantine holds."""
        return self._quality.report()

    def gauges(self) -> dict[str, float]:
        """For /metrics: what waits to be written."""
        return {
            "log_queue": float(sum(log.queued for log in (self._log, self._impressions) if isinstance(log, SqliteLog)))
        }

    def close(self) -> None:
        """Write what is queued, then close."""
        self._stop.set()
        if self._watcher is not None:
            self._watcher.join()
        for log in (self._log, self._impressions):
            if log is not None:
                log.close()

    # ----------------------------------------------------------------------------------------------- new builds

    def _current(self) -> Live:
        fresh = self._next
        if fresh is not None:
            self._live, self._next = fresh, None
        self._live.catch_up()
        return self._live

    def _watch(self) -> None:
        while not self._stop.wait(LOOK_EVERY_S):
            try:
                if self._layout.current_build() != self._live.build_id and self._next is None:
                    self._next = _warm(Live(self._layout, self._log))
                    self._refused = ""
                    _logger.info("a new build is in service", build=self._next.build_id)
            except HoneyguideError as error:
                # The build that is loaded stays in service; readiness tells why the new one is not.
                if str(error) != self._refused:
                    self._refused = str(error)
                    _logger.error("the new build cannot be loaded", reason=self._refused)


def _warm(live: Live) -> Live:
    """Ask every surface once, so that no person waits for a compiler or a cold page."""
    somebody = live.users.id(0) if len(live.users) else None
    something = live.catalog.items.id(0) if len(live.catalog) else "nothing"
    for name, surface in live.surfaces.items():
        patient = replace(surface, config=surface.config.model_copy(update={"deadline_ms": 60_000.0}))
        live.surfaces[name] = patient
        for user in (somebody, None):
            answer.recommend(
                live, RecommendRequest(surface=name, user_id=user, item_id=something, board_items=[something], k=5)
            )
        live.surfaces[name] = surface
    answer.search(live, SearchRequest(query="a", k=5))
    return live


def open_desk(workspace: str, *, writable: bool = True, watch: bool = True) -> Desk:
    """The answerer of a workspace. Read-only, it leaves no trace: nothing is logged, nothing can be recorded."""
    layout = Layout.open(Path(workspace))
    layout.current_build()
    if writable:
        return Desk(layout, SqliteLog(layout.log), SqliteLog(layout.impressions), watch=watch)
    log = SqliteLog(layout.log) if layout.log.exists() else None
    return Desk(layout, log, None, watch=watch)
