"""What whoever runs search works with, behind the API: merchandising rules, judgments, search traffic."""

from __future__ import annotations

import datetime as dt
import json
import time
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from honeyguide.errors import HoneyguideError
from honeyguide.flows import judging
from honeyguide.flows.analysis.workspace import open_tables
from honeyguide.flows.layout import Layout
from honeyguide.flows.merchandising import commands, store
from honeyguide.schema import columns as c
from honeyguide.schema.wire import JudgeRequest, SearchAnswer, SearchRequest
from honeyguide.understanding.judgments import GRADES, Judgment
from honeyguide.understanding.traffic import Search, report

if TYPE_CHECKING:
    from honeyguide.flows.live import Live

__all__ = ["SearchRoom", "traffic"]

FRESH_S = 30.0
TO_JUDGE = 20
SINCE_DAYS = 90
_SEARCHES = (
    "select s.words, s.day, s.user_id, s.hits, s.search_outcome, s.first_position, s.next_query, i.context, i.surface "
    "from searches s join impressions i using (request_id) "
    f"where s.day > (select max(day) from searches) - {SINCE_DAYS}"
)


class SearchRoom:
    """One workspace's; every method may be called from any thread."""

    def __init__(self, layout: Layout, *, writable: bool) -> None:
        self._layout, self._writable = layout, writable
        self._traffic: tuple[float, dict[str, Any]] | None = None

    def merchandising(self, live: Live) -> dict[str, Any]:
        """The rules, and what there is to say against them."""
        now = _now(live)
        rules = store.read(self._layout)
        return {
            "rules": store.listing(rules, now),
            "found": store.review(rules, live.catalog, now),
            "wrong": live.rules.wrong,
        }

    def add_rule(self, live: Live, given: dict[str, Any]) -> dict[str, Any]:
        """Write a rule."""
        self._may_write()
        made = commands.added(self._layout, given, live.catalog, _now(live))
        live.rules.look()
        return made

    def remove_rule(self, live: Live, rule_id: str) -> dict[str, Any]:
        """Take a rule away."""
        self._may_write()
        gone = store.remove(self._layout, rule_id)
        live.rules.look()
        return {"removed": store.listing([gone], _now(live))[0]}

    def judge(self, request: JudgeRequest) -> dict[str, Any]:
        """Keep a rater's judgments."""
        self._may_write()
        now = time.time_ns() // 1000
        told = [
            Judgment(request.query, one.item_id, one.grade, request.rater, now, request.language)
            for one in request.judgments
        ]
        judging.append(self._layout, told)
        return {"kept": len(told)}

    def to_judge(
        self, rater: str, query: str | None, search: Callable[[SearchRequest], SearchAnswer]
    ) -> dict[str, Any]:
        """A query with its list, its order mixed by nothing, and what the rater has said of it before."""
        told = judging.read(self._layout)
        own = {one.pair: one.grade for one in told if one.rater == rater}
        done = Counter(one.query for one in told if one.rater == rater)
        queue = judging.queue(self._layout)
        waiting = [one for one in queue if not done[one]]
        chosen = query if query is not None else next(iter(waiting), None)
        grades = [{"grade": grade, "means": means} for grade, means in GRADES.items()]
        if chosen is None:
            return {"query": None, "items": [], "waiting": 0, "done": len(done), "grades": grades}
        found = search(SearchRequest(chosen[:1_000], k=TO_JUDGE, log=False))
        items = [
            {"item_id": one.item_id, "title": one.title, "year": one.year, "categories": one.categories,
             "people": one.people, "grade": own.get((chosen, one.item_id))}
            for one in found.items
        ]  # fmt: skip
        return {"query": chosen, "items": items, "waiting": len(waiting), "done": len(done), "grades": grades}

    def judgments(self) -> dict[str, Any]:
        """What was judged, and how well raters agree."""
        return judging.summary(self._layout)

    def traffic(self, live: Live) -> dict[str, Any]:
        """Search traffic; worked out anew at most every half a minute."""
        if self._traffic is None or time.monotonic() - self._traffic[0] > FRESH_S:
            self._traffic = (time.monotonic(), traffic(self._layout, live))
        return self._traffic[1]

    def _may_write(self) -> None:
        if not self._writable:
            raise HoneyguideError(
                expected="a workspace opened for writing", got="one that only reads", do="Use `serve`."
            )


def _now(live: Live) -> dt.datetime:
    return dt.datetime.fromtimestamp(live.now_us() / 1e6, dt.UTC)


def traffic(layout: Layout, live: Live) -> dict[str, Any]:
    """What people searched for in the log's last 90 days, and what came of it; queries as the build in service reads
    them. A segment is the person's, or what the request's context says; else its device."""
    with open_tables(layout, [_SEARCHES]).tables as tables:
        rows = tables.ask(_SEARCHES).table.to_pylist()
    known: dict[str, tuple[str, str]] = {}
    told = []
    for row in rows:
        context, words = _context(row[c.CONTEXT]), row["words"]
        if words not in known:
            read = live.understander.read(words)
            known[words] = (read.intent or "unknown", read.language or "unknown")
        kind, language = known[words]
        user = live.users.row(row[c.USER_ID]) if row[c.USER_ID] else -1
        segment = live.segment(user, context)
        told.append(
            Search(
                words, (row["day"] - dt.date(1970, 1, 1)).days, row[c.USER_ID], row["hits"], row["search_outcome"],
                row["first_position"], row["next_query"], kind, context.get("language", language),
                live.segments.names[segment] if segment >= 0 else context.get("device", "unknown"),
            )
        )  # fmt: skip
    return report(told)


def _context(text: str | None) -> dict[str, str]:
    found = json.loads(text) if text else {}
    return {str(key): str(value) for key, value in found.items()} if isinstance(found, dict) else {}
