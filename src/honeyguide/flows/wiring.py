"""Where parts become a product: the `Answerer` of a workspace, with its logs, and new builds taken up while it runs."""

from __future__ import annotations

import datetime as dt
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import structlog
from msgspec import structs

from honeyguide.contracts import Appended, EventLog, Health
from honeyguide.engines.log.sqlite import SqliteLog
from honeyguide.engines.tables.snapshot import Snapshots
from honeyguide.errors import BuildError, HoneyguideError, NotFoundError, TrimmedError
from honeyguide.flows import answer, registry
from honeyguide.flows.answered import Answered, answered
from honeyguide.flows.beside import Beside
from honeyguide.flows.config import WorkspaceConfig
from honeyguide.flows.exploring.guardian import Guardian
from honeyguide.flows.keeping.compact import open_log
from honeyguide.flows.keeping.compactor import Compactor
from honeyguide.flows.layout import Layout
from honeyguide.flows.live import Live, Own
from honeyguide.flows.loading.quality import Quality
from honeyguide.flows.public import public
from honeyguide.flows.reports import saved_reports
from honeyguide.flows.reports.evaluation import newest
from honeyguide.flows.reranking import as_search, rerank
from honeyguide.flows.search_room import SearchRoom
from honeyguide.flows.shadow_report import shadow_report
from honeyguide.flows.skew import Served
from honeyguide.flows.tastes import taste_of
from honeyguide.flows.trace import compared, trace, why
from honeyguide.schema.wire import (
    Answer,
    EventsAnswer,
    EventsRequest,
    Item,
    JudgeRequest,
    RecommendRequest,
    RerankAnswer,
    RerankRequest,
    ResetAnswer,
    ResetRequest,
    SearchAnswer,
    SearchRequest,
    SuggestAnswer,
)
from honeyguide.serving.record import event_records, impression_record, item_record, reset_record

__all__ = ["Desk", "open_desk", "warmed"]

_logger = structlog.get_logger("honeyguide.wiring")
LOOK_EVERY_S = 0.5
"""How often a running process looks whether another build was put in service."""
MOST_WAITING = 2_000
"""Events that a process lets wait for the next request, or the next second; applying so many takes 5 ms."""


class Desk:
    """Answers for one workspace in one process. Implements `contracts.Answerer`.

    One thread (the event loop) asks; another loads new builds and hands them over whole, between two requests.
    """

    def __init__(
        self, layout: Layout, log: EventLog | None, impressions: EventLog | None, *, watch: bool,
        make: Callable[[Layout, EventLog | None], Live] = Live, served: Served | None = None,
    ) -> None:  # fmt: skip
        """make: loads the build in service, where that is not served as it was built (see `Live`)."""
        if served is not None:
            make = _keeping(make, served)
        self._served = served
        self._layout, self._log, self._impressions, self._make = layout, log, impressions, make
        self._forgotten = Snapshots(layout.tables).forgotten
        self._kept_out = bool(self._forgotten)
        self._live = warmed(make(layout, log).follow(impressions))
        self._retired = ""
        self._own: deque[Own] = deque()
        self._quality = Quality(layout)
        self._room = SearchRoom(layout, writable=log is not None)
        self._next: Live | None = None
        self._refused = ""
        self._stop = threading.Event()
        self._compactor = Compactor(layout, log) if watch and log is not None and impressions is not None else None
        self._guardian = Guardian(layout) if watch and log is not None and impressions is not None else None
        self._beside: Beside | None = None
        if watch and impressions is not None:
            self._beside = Beside(layout, lambda build_id: self._ready(Live(layout, log, build_id=build_id)))
            self._beside.look()
        self._watcher: threading.Thread | None = None
        if watch:
            self._watcher = threading.Thread(target=self._watch, name="honeyguide-builds", daemon=True)
            self._watcher.start()

    # ------------------------------------------------------------------------------------------------ answers

    def recommend(self, request: RecommendRequest) -> Answer:
        """A slate; logged, unless the request says not to."""
        live = self._answering()
        if request.user_id is not None and (not request.profiling or self._is_forgotten(live, request.user_id)):
            request = structs.replace(request, user_id=None)
        beside = self._beside
        answered = answer.recommend(live, request) if beside is None else beside.recommend(live, request)
        if request.log and self._impressions is not None:
            self._impressions.append([impression_record(request, answered, live.now_us())])
        return answered

    def search(self, request: SearchRequest) -> SearchAnswer:
        """Hits; logged, unless the request says not to."""
        live = self._answering()
        if request.user_id is not None and (not request.profiling or self._is_forgotten(live, request.user_id)):
            request = structs.replace(request, user_id=None)
        found = answer.search(live, request)
        if request.log and self._impressions is not None:
            self._impressions.append([impression_record(request, found, live.now_us())])
        return found

    def suggest(self, prefix: str, k: int, user_id: str | None = None) -> SuggestAnswer:
        """Completions of what was typed so far; a person's history moves those that go with it up."""
        live = self._answering()
        taste = None if user_id is None or self._is_forgotten(live, user_id) else taste_of(live, user_id)
        return SuggestAnswer(prefix, live.suggester.suggest(prefix, k, taste))

    def rerank(self, request: RerankRequest) -> RerankAnswer:
        """Another engine's hits in a new order; logged, unless the request says not to."""
        live = self._answering()
        if request.user_id is not None and (not request.profiling or self._is_forgotten(live, request.user_id)):
            request = structs.replace(request, user_id=None)
        found = rerank(live, request)
        if request.log and self._impressions is not None:
            self._impressions.append([impression_record(*as_search(request, found), live.now_us())])
        return found

    # --------------------------------------------------------------------------------------- the search room

    def merchandising(self) -> dict[str, Any]:
        """The rules, and what there is to say against them."""
        return self._room.merchandising(self._live)

    def add_rule(self, given: dict[str, Any]) -> dict[str, Any]:
        """Write a rule; in force here at once, in other processes within half a second."""
        return self._room.add_rule(self._live, given)

    def remove_rule(self, rule_id: str) -> dict[str, Any]:
        """Take a rule away."""
        return self._room.remove_rule(self._live, rule_id)

    def judge(self, request: JudgeRequest) -> dict[str, Any]:
        """Keep judgments."""
        return self._room.judge(request)

    def to_judge(self, rater: str, query: str | None = None) -> dict[str, Any]:
        """The next query of a rater with its list."""
        return self._room.to_judge(rater, query, self.search)

    def judgments(self) -> dict[str, Any]:
        """What was judged."""
        return self._room.judgments()

    def traffic(self) -> dict[str, Any]:
        """What people search for."""
        return self._room.traffic(self._live)

    # ----------------------------------------------------------------------------------------------- the ring

    def record(self, batch: EventsRequest) -> Future[EventsAnswer]:
        """Log events; resolves when they are on disk, and so seen by the next answer of any process."""
        live = self._recording()
        records, refused = event_records(batch, live.now_us(), refuse=self._at_the_door(live, batch))
        out = {one.index for one in refused}
        events = [event for i, event in enumerate(batch.events) if i not in out] if out else batch.events

        def then(done: Appended) -> EventsAnswer:
            # Its own events a process need not read again.
            if done.after >= 0 and done.duplicates:
                old = set(done.duplicates)
                fresh = [i for i in range(len(records)) if i not in old]
                self._own.append(Own(done.after, [events[i] for i in fresh], [records[i] for i in fresh]))
            elif done.after >= 0:
                self._own.append(Own(done.after, events, records))
            if self._beside is not None:
                self._beside.record(events)
            return EventsAnswer(len(records) - len(done.duplicates), len(done.duplicates), refused)

        return self._appended(records, then)

    def _at_the_door(self, live: Live, batch: EventsRequest) -> dict[int, tuple[str, str]]:
        """Events, by their place, that enter no log whatever else they hold: of unknown items, of people erased."""
        events, refuse = batch.events, {}
        strange = live.catalog.items.unknown([event.item_id for event in events])
        if strange:
            live = self._current()  # an item may have come a moment ago
            for i in strange:
                if events[i].item_id not in live.catalog.items:
                    refuse[i] = ("unknown_item", f"{events[i].item_id!r} is not in the catalog")
        if self._kept_out:
            people = [event.user_id for event in events]
            gone = self._forgotten.among({people[i] for i in live.users.unknown(people)})
            if gone:
                said = "this person was erased; `honeyguide forget --allow-return` lets them come back"
                refuse |= {i: ("forgotten", said) for i, event in enumerate(events) if event.user_id in gone}
        return refuse

    def _is_forgotten(self, live: Live, user_id: str) -> bool:
        return self._kept_out and user_id not in live.users and self._forgotten.date(user_id) is not None

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

    # ------------------------------------------------------------------------------------------------- rights

    def reset(self, request: ResetRequest) -> Future[ResetAnswer]:
        """A person begins anew; in force from the next request of any process on."""
        live = self._current()
        if request.user_id not in live.users:
            raise NotFoundError(
                expected="a person of whom something is known", got="one of whom nothing is", do="Nothing needs doing."
            )
        now = live.now_us()
        at = dt.datetime.fromtimestamp(now / 1e6, dt.UTC).isoformat(timespec="milliseconds")
        told = [reset_record(request.user_id, now, request.request_id)]
        return self._appended(told, lambda done: ResetAnswer(request.user_id, at))

    def again(self, request_id: str) -> Answered:
        """What was logged of an answer."""
        return answered(self._layout, request_id, self._impressions)

    def trace(self, request: RecommendRequest, again: Answered | None = None) -> dict[str, Any]:
        """The way of every candidate from source to slot."""
        live = self._answering()
        found = trace(live, request if again is None else again.request)
        return found if again is None else found | {"again": compared(again, found)}

    def why(self, again: Answered, item_id: str) -> dict[str, Any]:
        """Why a person saw an item."""
        return {**why(self._answering(), again.request, item_id), "shown": item_id in again.shown}

    def models(self) -> dict[str, Any]:
        """The registry, and what shadow and canary showed."""
        return {
            "models": registry.listing(self._layout),
            "moves": [msgspec.to_builtins(move) for move in registry.roles(self._layout).moves[-50:]],
            "shadow": shadow_report(self._layout),
        }

    def parameters(self) -> dict[str, Any]:
        """The main parameters of each surface in plain words."""
        return public(self._current())

    # --------------------------------------------------------------------------------------------- description

    def health(self) -> Health:
        """Ready when a build is loaded."""
        live = self._current()
        if self._retired:
            return Health(False, "", f"{self._retired}: run `honeyguide build`")
        return Health(True, live.build_id, self._refused or f"{len(live.catalog):,} items, {len(live.users):,} people")

    def tick(self) -> None:
        """Once a second: what came is applied, windows move on and who was erased is dropped, though nobody asks."""
        live = self._current()
        live.online.advance(live.now_us())
        if self._beside is not None:
            self._beside.tick()
        self._kept_out = bool(self._forgotten)

    def pipeline(self) -> dict[str, Any]:
        """The pipeline per surface."""
        return self._current().description

    def evaluation(self) -> dict[str, Any]:
        """The newest evaluation, {} if there is none."""
        return newest(self._layout)

    def reports(self) -> list[dict[str, Any]]:
        """The reports that were written."""
        return saved_reports.listing(self._layout)

    def report(self, name: str) -> dict[str, Any]:
        """One report with its page."""
        return saved_reports.read(self._layout, name)

    def quality(self) -> dict[str, Any]:
        """What the loads brought, and what Quarantine holds."""
        return self._quality.report()

    def gauges(self) -> dict[str, float]:
        """For /metrics: what waits to be written."""
        return {
            "log_queue": float(sum(log.queued for log in (self._log, self._impressions) if isinstance(log, SqliteLog))),
            "exploration_stopped": float(len(self._live.stopped)),
            **self._lapses(),
            **({} if self._beside is None else self._beside.gauges()),
        }

    def _lapses(self) -> dict[str, float]:
        """Candidates that a scorer from outside gave no score, by head and reason."""
        ranker = self._live.pipeline.ranker
        return {} if ranker is None else {f"scorer_lapses_{name}": n for name, n in ranker.lapses().items()}

    def close(self) -> None:
        """Write what is queued, then close."""
        self._stop.set()
        if self._watcher is not None:
            self._watcher.join()
        if self._compactor is not None:
            self._compactor.close()
        if self._guardian is not None:
            self._guardian.close()
        if self._beside is not None:
            self._beside.close()
        for log in (self._log, self._impressions, self._served):
            if log is not None:
                log.close()

    # ----------------------------------------------------------------------------------------------- new builds

    def _recording(self) -> Live:
        """What an event is judged by: not the newest state, unless so much waits that a request would feel it."""
        if self._next is None and self._log is not None and self._log.head() - self._live.applied < MOST_WAITING:
            return self._live
        return self._current()

    def _current(self) -> Live:
        fresh = self._next
        if fresh is not None:
            self._live, self._next = fresh, None
        try:
            self._live.catch_up(self._own)
        except TrimmedError:
            self._overtaken()
        return self._live

    def _ready(self, live: Live) -> Live:
        """A build beside the one in service, as that one is made ready."""
        return warmed(live.follow(self._impressions))

    def _overtaken(self) -> None:
        """This process slept through two compactions: what it missed is in the tables."""
        try:
            self._live = self._make(self._layout, self._log).follow(self._impressions)
        except HoneyguideError as error:
            # There is no build to load any more. This one stays, without the people that were erased meanwhile.
            _logger.warning("the log was trimmed and the build cannot be loaded again", reason=str(error))
            for user_id in self._forgotten.among(self._live.users.ids):
                self._live.erase(user_id)
            self._live.skip_trimmed()

    def _answering(self) -> Live:
        live = self._current()
        if self._retired:
            raise BuildError(expected="a build that may be served", got=self._retired, do="Run `honeyguide build`.")
        return live

    def _watch(self) -> None:
        while not self._stop.wait(LOOK_EVERY_S):
            self._look()

    def _look(self) -> None:
        """Whether the build was retired, the log is to be compacted, or another build is in service."""
        try:
            self._kept_out = bool(self._forgotten)
            if self._compactor is not None:
                self._compactor.look()
            if self._next is not None:
                return
            moved = self._guardian is not None and self._guardian.look(self._live.config)
            if self._beside is not None:
                self._beside.look()
            self._retired = self._layout.why_retired(self._live.build_id)
            if self._layout.current_build() != self._live.build_id or moved:
                self._next = warmed(self._make(self._layout, self._log).follow(self._impressions))
                self._refused = self._retired = ""
                said = "what may be explored has changed" if moved else "a new build is in service"
                _logger.info(said, build=self._next.build_id, stopped=sorted(self._next.stopped))
        except HoneyguideError as error:
            # The build that is loaded stays in service, unless it was retired; readiness tells why.
            if str(error) != self._refused:
                self._refused = str(error)
                _logger.error("the new build cannot be loaded", reason=self._refused)


def warmed(live: Live) -> Live:
    """Ask every surface once and fold an event of nobody, so that no person waits for a compiler or a cold page."""
    now = live.now_us()
    live.online.apply(-1, -1, 0, 0.0, 0.0, now - 1)
    live.online.advance(now)
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


def _keeping(make: Callable[[Layout, EventLog | None], Live], served: Served) -> Callable[..., Live]:
    """The same, and the build keeps a share of its requests with their features."""

    def made(layout: Layout, log: EventLog | None) -> Live:
        live = make(layout, log)
        live.served = served
        return live

    return made


def open_desk(workspace: str, *, writable: bool = True, watch: bool = True) -> Desk:
    """The answerer of a workspace. Read-only, it leaves no trace: nothing is logged, nothing can be recorded."""
    layout = Layout.open(Path(workspace))
    layout.current_build()
    config = WorkspaceConfig.load(layout.config)
    if writable:
        served = Served(open_log(layout.served, config), config.skew) if config.skew.share else None
        both = open_log(layout.log, config), open_log(layout.impressions, config)
        return Desk(layout, *both, watch=watch, served=served)
    log = open_log(layout.log, config) if layout.log.exists() else None
    return Desk(layout, log, None, watch=watch)
