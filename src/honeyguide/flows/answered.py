"""A request that was answered, found again by its id in the log or in Impressions."""

from __future__ import annotations

import datetime as dt
import json
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from honeyguide.contracts import EventLog
from honeyguide.engines.log.sqlite import SqliteLog
from honeyguide.engines.tables.snapshot import Snapshots
from honeyguide.errors import NotFoundError, RequestError
from honeyguide.flows.layout import Layout
from honeyguide.schema import columns as c
from honeyguide.schema.tables import IMPRESSIONS
from honeyguide.schema.wire import RecommendRequest
from honeyguide.serving.record import decode_impression

__all__ = ["Answered", "answered"]

_PAGE = 20_000
MOST_BACK = 1_000_000
"""Records of the log that are looked through, newest first, before the table."""


@dataclass(frozen=True)
class Answered:
    """What Impressions keeps of an answer. Its filters are not kept, so they are none."""

    request: RecommendRequest
    shown: list[str]
    build_id: str
    at: str  # ISO 8601


def answered(layout: Layout, request_id: str, log: EventLog | None = None) -> Answered:
    """The request behind an id; NotFoundError if it was not logged or has been let go. Reads files: not for a hot loop.

    log: the open log of impressions of a process that has it.
    """
    row = _in_log(layout, request_id, log) or _in_table(layout, request_id)
    if row is None:
        raise NotFoundError(
            expected="the id of an answer that was logged", got=repr(request_id),
            do="Take `request_id` of an answer to a request with log = true, a second after it came.",
        )  # fmt: skip
    if row[c.QUERY] is not None:
        raise RequestError(
            expected="the id of a slate", got=f"{request_id!r}, a search", do="Search results say why in `reason`."
        )
    seeds = list(row[c.SEEDS] or ())
    shown = list(row[c.SHOWN_ITEMS])
    alone = row[c.SURFACE] != "board" and len(seeds) == 1
    request = RecommendRequest(
        surface=row[c.SURFACE], user_id=row[c.USER_ID] or None, item_id=seeds[0] if alone else None,
        board_items=[] if alone else seeds, k=max(len(shown), 1), context=json.loads(row[c.CONTEXT] or "{}"),
        request_id=request_id, log=False, profiling=bool(row[c.USER_ID]),
    )  # fmt: skip
    at = row[c.HAPPENED_AT]
    moment = at if isinstance(at, dt.datetime) else dt.datetime.fromtimestamp(at / 1e6, dt.UTC)
    return Answered(request, shown, row[c.BUILD_ID], moment.isoformat(timespec="seconds"))


def _in_log(layout: Layout, request_id: str, log: EventLog | None) -> dict[str, Any] | None:
    if log is not None:
        return _newest(log, request_id)
    if not layout.impressions.exists():
        return None
    with closing(SqliteLog(layout.impressions)) as opened:
        return _newest(opened, request_id)


def _newest(log: EventLog, request_id: str) -> dict[str, Any] | None:
    key, end = f"imp:{request_id}", log.head()
    last = max(log.trimmed(), end - MOST_BACK)
    while end > last:
        start = max(end - _PAGE, last)
        for at, record in log.read(start, _PAGE):
            if at <= end and record.key == key:
                return decode_impression(record.payload)
        end = start
    return None


def _in_table(layout: Layout, request_id: str) -> dict[str, Any] | None:
    import pyarrow.compute as pc

    tables = Snapshots(layout.tables)
    if tables.find(IMPRESSIONS.name) is None:
        return None
    for rows in tables.scan(IMPRESSIONS.name):
        found = rows.filter(pc.equal(rows[c.REQUEST_ID], request_id))
        if found.num_rows:
            row: dict[str, Any] = found.slice(0, 1).to_pylist()[0]
            return row
    return None
