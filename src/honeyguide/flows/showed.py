"""What each person was shown lately, as one process knows it: a fold of the impressions, like all live state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from honeyguide.contracts import F32, I32, I64, EventLog
from honeyguide.engines.tables.snapshot import Snapshots
from honeyguide.features.online import History
from honeyguide.features.showings import Showings
from honeyguide.flows.layout import Layout
from honeyguide.schema import columns as c
from honeyguide.schema.tables import IMPRESSIONS
from honeyguide.schema.vocabulary import Vocabulary
from honeyguide.serving.record import IMPRESSION, decode_impression
from honeyguide.slate.compose import SlateConfig
from honeyguide.slate.moment import Moment

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Showed", "days_of"]

_PAGE = 5_000
_DAY_US = 86_400_000_000
_SEARCH = "search"  # hits were asked for by words, and tire nobody


def days_of(slate: SlateConfig) -> float:
    """How many days of showings a surface looks back on, 0 = none."""
    cap, fatigue = slate.rules.frequency_cap, slate.utility.fatigue
    return max(cap.days if cap is not None else 0.0, fatigue.days if fatigue.keep < 1.0 else 0.0)


class Showed:
    """Showings of the last `days`: from the tables, then from the log as it grows.

    items: the catalog's ids; whoever has a newer catalog sets it. Without `follow` the tables alone are known.
    """

    def __init__(
        self, layout: Layout, days: float, now_us: int, items: Vocabulary, resets: Mapping[str, Sequence[int]]
    ) -> None:
        """resets: person -> when they began anew; what was shown before counts no more."""
        self.showings, self.items = Showings(), items
        self._anew = {user_id: max(ats) for user_id, ats in resets.items() if len(ats)}
        self._layout, self._days = layout, days
        self._log: EventLog | None = None
        self._applied = 0
        tables = Snapshots(layout.tables)
        if tables.find(IMPRESSIONS.name) is not None:
            self._take(tables, now_us - int(days * _DAY_US))

    def follow(self, log: EventLog) -> None:
        """From now on the log is read as well, from where the tables end."""
        self._log = log
        self._applied = Snapshots(self._layout.tables).offset(IMPRESSIONS.name, log.id)

    def catch_up(self) -> None:
        """Apply what the log has brought; costs a microsecond when there is nothing. What was trimmed is in the tables
        and was shown before this process began, or is lost to it: caps then count a little less."""
        log = self._log
        if log is None or log.head() <= self._applied:
            return
        self._applied = max(self._applied, log.trimmed())
        while log.head() > self._applied:
            page = log.read(self._applied, _PAGE)
            if not page:
                return
            for _, record in page:
                if record.kind == IMPRESSION and record.user_id:
                    row = decode_impression(record.payload)
                    if row[c.SURFACE] != _SEARCH and row[c.QUERY] is None:
                        shown = self.items.rows(row[c.SHOWN_ITEMS] or [])
                        self.showings.add(record.user_id, shown, int(row[c.HAPPENED_AT]))
            self._applied = page[-1][0]

    def moment(
        self, slate: SlateConfig, user_id: str | None, now_us: int, past: History, items: I32, weights: F32
    ) -> Moment:
        """What a surface's slate may ask: caps and fatigue of this person. past: what the person did."""
        days = days_of(slate)
        if not days or user_id is None:
            return Moment(now_us, items, weights)
        rows, at = self.showings.of(user_id, max(now_us - int(days * _DAY_US), self._anew.get(user_id, -1) + 1))
        cap, fatigue = slate.rules.frequency_cap, slate.utility.fatigue
        too_often = shown = times = np.zeros(0, np.int32)
        if cap is not None:
            unique, count = np.unique(rows[at >= now_us - int(cap.days * _DAY_US)], return_counts=True)
            too_often = unique[count >= cap.times].astype(np.int32)
        if fatigue.keep < 1.0:
            shown, times = in_vain(rows, at, now_us - int(fatigue.days * _DAY_US), past)
        return Moment(now_us, items, weights, too_often, shown, times)

    def begin_anew(self, user_id: str, at_us: int) -> None:
        """What a person was shown up to a moment tires them no more, and is capped no more."""
        self._anew[user_id] = max(at_us, self._anew.get(user_id, at_us))

    def erase(self, user_id: str) -> int:
        """Forget a person; returns how many showings went."""
        return self.showings.erase(user_id)

    def _take(self, tables: Snapshots, since_us: int) -> None:
        columns = [c.USER_ID, c.SURFACE, c.HAPPENED_AT, c.SHOWN_ITEMS, c.QUERY]
        for rows in tables.scan(IMPRESSIONS.name, columns=columns):
            self._add(rows, since_us)

    def _add(self, rows: pa.Table, since_us: int) -> None:
        at = rows[c.HAPPENED_AT].cast("int64").to_numpy()
        kept = np.flatnonzero(at >= since_us)
        told = rows.take(kept)
        users, surfaces = told[c.USER_ID].to_pylist(), told[c.SURFACE].to_pylist()
        lists: Sequence[list[str] | None] = told[c.SHOWN_ITEMS].to_pylist()
        queries = told[c.QUERY].to_pylist()
        for user_id, surface, items, query, moment in zip(
            users, surfaces, lists, queries, at[kept].tolist(), strict=True
        ):
            if user_id and surface != _SEARCH and query is None and items:
                self.showings.add(user_id, self.items.rows(items), moment)


def in_vain(rows: I32, at: I64, since_us: int, past: History) -> tuple[I32, I32]:
    """Items shown since a moment, with how often since the person last did anything with each."""
    recent = at >= since_us
    unique, where = np.unique(rows[recent], return_inverse=True)
    reacted = np.full(len(unique), np.iinfo(np.int64).min)
    late = np.searchsorted(past.at, since_us)  # oldest first
    place = np.searchsorted(unique, past.items[late:])
    known = place < len(unique)
    known[known] = unique[place[known]] == past.items[late:][known]
    np.maximum.at(reacted, place[known], past.at[late:][known])
    times = np.bincount(where[at[recent] > reacted[where]], minlength=len(unique))
    vain = times > 0
    return unique[vain].astype(np.int32), times[vain].astype(np.int32)
