"""A small but real answerer over the real log: counts actions per item, shows the most acted on first."""

from __future__ import annotations

import os
import time
from collections import Counter
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from msgspec import structs

from honeyguide.contracts import Appended, Health
from honeyguide.engines.log.keys import time_key
from honeyguide.engines.log.sqlite import SqliteLog
from honeyguide.errors import ConfigError, NotFoundError
from honeyguide.schema.wire import (
    Answer,
    EventsAnswer,
    EventsRequest,
    Item,
    RecommendRequest,
    ResetAnswer,
    ResetRequest,
    SearchAnswer,
    SearchRequest,
    ShownItem,
    SuggestAnswer,
    Suggestion,
)
from honeyguide.serving.deadline import Deadline
from honeyguide.serving.record import EVENT, decode_event, event_records, impression_record, item_record


def _now_us() -> int:
    return time.time_ns() // 1000


class SmallAnswerer:
    def __init__(self, log: SqliteLog, titles: dict[str, str]) -> None:
        self._log = log
        self._items = {item_id: Item(item_id, title=title) for item_id, title in titles.items()}
        self._counts: Counter[str] = Counter()
        self._seen = 0

    def _catch_up(self) -> None:
        if self._seen < self._log.head():
            for offset, record in self._log.read(self._seen):
                self._seen = offset
                if record.kind == EVENT:
                    self._counts[decode_event(record.payload)["item_id"]] += 1

    def _shown(self, ids: list[str]) -> list[ShownItem]:
        return [
            ShownItem(item_id, position, float(self._counts[item_id]), 1.0, title=self._items[item_id].title)
            for position, item_id in enumerate(ids, start=1)
        ]

    def recommend(self, request: RecommendRequest) -> Answer:
        if request.surface not in ("home", "item", "board", "broken", "late"):
            raise NotFoundError(expected="a known surface", got=request.surface, do="Ask for home, item or board.")
        if request.surface == "broken":
            raise ZeroDivisionError("a secret of the server")
        deadline = Deadline(budget_ms=50)
        self._catch_up()
        ranked = sorted(self._items, key=lambda item_id: -self._counts[item_id])[: request.k]
        deadline.check("retrieve")
        fallback = "deadline: the ranker was late" if request.surface == "late" else None
        answer = Answer(
            request.request_id or time_key(), request.surface, "popular-1", "b1", self._shown(ranked),
            fallback=fallback, stage_us=deadline.stage_us,
        )  # fmt: skip
        if request.log:
            self._log.append([impression_record(request, answer, _now_us())])
        return answer

    def search(self, request: SearchRequest) -> SearchAnswer:
        hits = [i for i, item in self._items.items() if request.query.lower() in (item.title or "").lower()]
        shown = self._shown(hits[request.offset : request.offset + request.k])
        return SearchAnswer(
            request.request_id or time_key(), "search", "words-1", "b1", request.query, len(hits), shown
        )

    def suggest(self, prefix: str, k: int, user_id: str | None = None) -> SuggestAnswer:
        found = [
            Suggestion(item.title, "title", item_id)
            for item_id, item in self._items.items()
            if item.title and item.title.lower().startswith(prefix.lower())
        ]
        return SuggestAnswer(prefix, found[:k])

    def record(self, batch: EventsRequest) -> Future[EventsAnswer]:
        records, refused = event_records(batch, _now_us())
        answer: Future[EventsAnswer] = Future()

        def stored(appended: Future[Appended]) -> None:
            error = appended.exception()
            if error is not None:
                answer.set_exception(error)
            else:
                duplicates = len(appended.result().duplicates)
                answer.set_result(EventsAnswer(len(records) - duplicates, duplicates, refused))

        self._log.append(records).add_done_callback(stored)
        return answer

    def item(self, item_id: str) -> Item:
        if item_id not in self._items:
            raise NotFoundError(expected="an item of the catalog", got=repr(item_id), do="Put it there first.")
        return self._items[item_id]

    def put_item(self, item: Item) -> Future[None]:
        done: Future[None] = Future()

        def stored(appended: Future[Appended]) -> None:
            error = appended.exception()
            if error is not None:
                done.set_exception(error)
            else:
                self._items[item.item_id] = item
                done.set_result(None)

        self._log.append([item_record(item, _now_us())]).add_done_callback(stored)
        return done

    def reset(self, request: ResetRequest) -> Future[ResetAnswer]:
        answer: Future[ResetAnswer] = Future()
        answer.set_result(ResetAnswer(request.user_id, "2026-01-01T00:00:00+00:00"))
        return answer

    def again(self, request_id: str) -> str:
        if request_id == "unknown":
            raise NotFoundError(expected="the id of an answer", got=request_id, do="Take one of an answer.")
        return request_id

    def trace(self, request: RecommendRequest, again: str | None = None) -> dict[str, Any]:
        return {"surface": request.surface, "again": again, "candidates": []}

    def why(self, again: str, item_id: str) -> dict[str, Any]:
        return {"request_id": again, **structs.asdict(self.item(item_id))}

    def models(self) -> dict[str, Any]:
        return {"models": [{"build": "b1", "state": "in service"}]}

    def parameters(self) -> dict[str, Any]:
        return {"surfaces": {"home": {"text": ["What many people choose: counts most."]}}}

    def health(self) -> Health:
        return Health(ready=bool(self._items), build_id="b1", detail="" if self._items else "no items")

    def pipeline(self) -> dict[str, Any]:
        return {"surfaces": {"home": {"sources": ["popular"]}}, "pid": os.getpid()}

    def evaluation(self) -> dict[str, Any]:
        return {}

    def reports(self) -> list[dict[str, Any]]:
        return [{"name": "analysis", "title": "What the data says"}]

    def report(self, name: str) -> dict[str, Any]:
        if name != "analysis":
            raise NotFoundError(expected="a report (analysis)", got=repr(name), do="Ask /v1/reports.")
        return {**self.reports()[0], "html": "<h1>é</h1>"}

    def quality(self) -> dict[str, Any]:
        return {"rows_in": 3, "held": 1}

    def gauges(self) -> dict[str, float]:
        return {"log_queue": float(self._log.queued)}

    def close(self) -> None:
        self._log.close()


TITLES = {"a": "Alpha", "b": "Beta", "al/x y'\"é": "Alfa with a difficult id"}


def make(path: str, **options: Any) -> SmallAnswerer:
    return SmallAnswerer(SqliteLog(Path(path), **options), TITLES)


def make_nothing(path: str) -> SmallAnswerer:
    raise ConfigError(expected="a workspace", got=f"nothing in {path}", do="Make one with `honeyguide init`.")


def make_defect(path: str) -> SmallAnswerer:
    raise ZeroDivisionError(path)
