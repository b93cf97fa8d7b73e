"""What people do over time: visits, retention, who is how active; and the volumes and delays of the log."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import ibis

from honeyguide.flows.analysis import columns as v
from honeyguide.flows.analysis.view import ALL_EVENTS, Scope, View, microseconds, monday, real, seconds, share
from honeyguide.schema import columns as c
from honeyguide.schema.tables import IMPRESSIONS

if TYPE_CHECKING:
    import ibis.expr.types as ir

__all__ = ["AFTER_DAYS", "GAP_US", "VIEWS", "WEEKS", "end_of_log"]

GAP_US = 30 * 60 * 1_000_000
"""A visit ends when nothing is heard of the person for longer than half an hour."""
AFTER_DAYS = (1, 7, 28)
WEEKS = 12
_STEPS = 21  # classes of activity: 1, 2-3, 4-7, ... 2^20 and more
_HOUR_US = 3_600_000_000
# Columns that live inside an expression only.
_AT, _BEFORE, _FIRST, _LATER, _GAP, _IS_EVENT, _IS_ACT, _IS_SEARCH = (
    "at_", "before_", "first_", "later_", "gap_", "is_event_", "is_act_", "is_search_",
)  # fmt: skip


def _signs(scope: Scope) -> ir.Table:
    """Every sign of life of a known person: events, and requests that were answered."""
    events, lists = scope[ALL_EVENTS], scope[IMPRESSIONS.name]
    lists = lists.filter((lists[c.USER_ID] != "").fill_null(False))
    did = ~scope.is_showing(events[c.ACTION])

    def flag(condition: Any) -> Any:
        return condition.cast("int64")

    return ibis.union(
        events.select(c.USER_ID, **{
            _AT: events[c.HAPPENED_AT], _IS_EVENT: flag(did), _IS_ACT: flag(scope.weight(events[c.ACTION]) > 0),
            v.REQUESTS: ibis.literal(0, "int64"), _IS_SEARCH: ibis.literal(0, "int64"),
            c.ITEM_ID: ibis.ifelse(did, events[c.ITEM_ID], ibis.null("string")),
        }),
        lists.select(c.USER_ID, **{
            _AT: lists[c.HAPPENED_AT], _IS_EVENT: ibis.literal(0, "int64"), _IS_ACT: ibis.literal(0, "int64"),
            v.REQUESTS: ibis.literal(1, "int64"), _IS_SEARCH: flag(lists[c.QUERY].notnull()),
            c.ITEM_ID: ibis.null("string"),
        }),
        distinct=False,
    )  # fmt: skip


def _sums(signs: ir.Table) -> dict[str, Any]:
    return {
        v.REQUESTS: signs[v.REQUESTS].sum(), v.SEARCHES: signs[_IS_SEARCH].sum(), v.EVENTS_N: signs[_IS_EVENT].sum(),
        v.ACTS: signs[_IS_ACT].sum(),
    }  # fmt: skip


def _sessions(scope: Scope) -> ir.Table:
    signs = _signs(scope)
    line = ibis.window(group_by=c.USER_ID, order_by=_AT)
    signs = signs.mutate(**{_BEFORE: signs[_AT].lag().over(line)})
    gap = microseconds(signs[_AT], signs[_BEFORE])
    fresh = gap.isnull() | (gap > GAP_US)
    signs = signs.mutate(**{_GAP: ibis.ifelse(fresh, gap, ibis.null("int64")), _FIRST: fresh.cast("int64")})
    so_far = ibis.window(group_by=c.USER_ID, order_by=_AT, rows=(None, 0))
    signs = signs.mutate(**{v.SESSION: signs[_FIRST].sum().over(so_far).cast("int64")})
    visits = signs.group_by(c.USER_ID, v.SESSION).aggregate(
        **{v.STARTED_AT: signs[_AT].min(), v.ENDED_AT: signs[_AT].max(), _GAP: signs[_GAP].max()}, **_sums(signs)
    )
    return visits.mutate(
        **{
            v.DAY: visits[v.STARTED_AT].date(),
            v.SECONDS: seconds(microseconds(visits[v.ENDED_AT], visits[v.STARTED_AT])),
            v.HOURS_AWAY: visits[_GAP].cast("float64") / real(_HOUR_US),
        }
    )


def _user_activity(scope: Scope) -> ir.Table:
    signs = _signs(scope)
    signs = signs.mutate(**{v.DAY: signs[_AT].date()})
    return signs.group_by(c.USER_ID).aggregate(
        **{v.FIRST_AT: signs[_AT].min(), v.LAST_AT: signs[_AT].max(), v.DAYS: signs[v.DAY].nunique()},
        **{v.ITEMS_N: signs[c.ITEM_ID].nunique()},
        **_sums(signs),
    )


def _activity_classes(scope: Scope) -> ir.Table:
    people = scope["user_activity"]
    edges = [0, *(2**n for n in range(_STEPS))]
    at_least = ibis.cases(
        *((people[v.EVENTS_N] >= edge, ibis.literal(edge, "int64")) for edge in reversed(edges[1:])),
        else_=ibis.literal(0, "int64"),
    )
    classes = people.mutate(**{v.AT_LEAST: at_least})
    classes = classes.group_by(v.AT_LEAST).aggregate(
        **{v.PEOPLE_N: classes.count(), v.EVENTS_N: classes[v.EVENTS_N].sum()}
    )
    everybody = ibis.window()
    ends = [(low, ibis.literal(high - 1, "int64")) for low, high in pairwise(edges)]
    return classes.mutate(
        **{
            v.AT_MOST: classes[v.AT_LEAST].cases(*ends, else_=ibis.null("int64")),
            v.PEOPLE_SHARE: share(classes[v.PEOPLE_N], classes[v.PEOPLE_N].sum().over(everybody)),
            v.EVENTS_SHARE: share(classes[v.EVENTS_N], classes[v.EVENTS_N].sum().over(everybody)),
        }
    )


def _active_days(scope: Scope) -> ir.Table:
    """Person, day, the person's first day: a row per day with a sign of life."""
    signs = _signs(scope)
    days = signs.select(c.USER_ID, **{v.DAY: signs[_AT].date()}).distinct()
    return days.mutate(**{_FIRST: days[v.DAY].min().over(ibis.window(group_by=c.USER_ID))})


def end_of_log(scope: Scope) -> ir.Table:
    """One row, `last_at`: the newest moment that the log tells of. Null without a log."""
    events, lists = scope[ALL_EVENTS], scope[IMPRESSIONS.name]
    both = ibis.union(events.select(c.HAPPENED_AT), lists.select(c.HAPPENED_AT), distinct=False)
    return both.aggregate(**{v.LAST_AT: both[c.HAPPENED_AT].max()})


def _days_between(later: Any, earlier: Any) -> Any:
    return later.delta(earlier, unit="day")


def _retention(scope: Scope) -> ir.Table:
    days, end = _active_days(scope), end_of_log(scope)
    grains = days.mutate(**{v.GRAIN: ibis.array(["day", "week"])}).unnest(v.GRAIN)
    cohort = ibis.ifelse(grains[v.GRAIN] == "day", grains[_FIRST], monday(grains[_FIRST]))
    grains = grains.mutate(**{v.COHORT: cohort, _LATER: _days_between(grains[v.DAY], grains[_FIRST])})
    counted = grains.group_by(v.GRAIN, v.COHORT).aggregate(
        **{v.PEOPLE_N: (grains[_LATER] == 0).cast("int64").sum()},
        **{f"after_{n}_": (grains[_LATER] == n).cast("int64").sum() for n in AFTER_DAYS},
    )
    after = ibis.array([ibis.literal(n, "int64") for n in AFTER_DAYS])
    long = counted.mutate(**{v.AFTER_DAYS: after}).unnest(v.AFTER_DAYS).cross_join(end)
    # The last day of the log is not over, and a week's last member may have come on its Sunday.
    last = ibis.ifelse(long[v.GRAIN] == "day", 0, 6) + long[v.AFTER_DAYS]
    known = _days_between(long[v.LAST_AT].date(), long[v.COHORT]) > last
    came = long[v.AFTER_DAYS].cases(*((n, long[f"after_{n}_"]) for n in AFTER_DAYS), else_=0)
    returned = ibis.ifelse(known, came, ibis.null("int64"))
    return long.mutate(**{v.KNOWN: known, v.RETURNED: returned, v.RATE: share(returned, long[v.PEOPLE_N])})


def _retention_weeks(scope: Scope) -> ir.Table:
    days, end = _active_days(scope), end_of_log(scope)
    days = days.mutate(**{v.COHORT: monday(days[_FIRST])})
    weeks = days.select(
        c.USER_ID, v.COHORT, **{v.WEEK: (_days_between(days[v.DAY], days[v.COHORT]) / 7).floor().cast("int64")}
    ).distinct()
    counted = weeks.group_by(v.COHORT).aggregate(
        **{v.PEOPLE_N: (weeks[v.WEEK] == 0).cast("int64").sum()},
        **{f"week_{n}_": (weeks[v.WEEK] == n).cast("int64").sum() for n in range(WEEKS + 1)},
    )
    after = ibis.array([ibis.literal(n, "int64") for n in range(WEEKS + 1)])
    long = counted.mutate(**{v.WEEK: after}).unnest(v.WEEK).cross_join(end)
    known = _days_between(long[v.LAST_AT].date(), long[v.COHORT]) >= (long[v.WEEK] + 1) * 7
    came = long[v.WEEK].cases(*((n, long[f"week_{n}_"]) for n in range(WEEKS + 1)), else_=0)
    returned = ibis.ifelse(known, came, ibis.null("int64"))
    return long.mutate(**{v.KNOWN: known, v.RETURNED: returned, v.RATE: share(returned, long[v.PEOPLE_N])})


def _volumes(scope: Scope) -> ir.Table:
    events = scope[ALL_EVENTS]
    events = events.mutate(**{
        v.DAY: events[c.HAPPENED_AT].date(), _LATER: microseconds(events[c.KNOWN_AT], events[c.HAPPENED_AT]),
    })  # fmt: skip
    delay = events[_LATER]
    return events.group_by(v.DAY, c.ACTION).aggregate(
        **{
            v.EVENTS_N: events.count(),
            v.PEOPLE_N: events[c.USER_ID].nunique(),
            v.ITEMS_N: events[c.ITEM_ID].nunique(),
            v.WITHIN_MINUTE: (delay <= 60_000_000).cast("int64").sum(),
            v.WITHIN_HOUR: (delay <= _HOUR_US).cast("int64").sum(),
            v.WITHIN_DAY: (delay <= 24 * _HOUR_US).cast("int64").sum(),
            # A median of whole microseconds: both engines take the middle of the two in the middle, exactly.
            v.DELAY_MEDIAN_S: seconds(delay.cast("float64").median()),
            v.DELAY_MAX_S: seconds(delay.max()),
        }
    )


VIEWS = (
    View(
        "sessions",
        "A row per visit of a known person: events and answered requests, parted where nothing is heard for longer "
        "than 30 minutes.",
        (c.USER_ID, v.SESSION),
        (
            c.USER_ID, v.SESSION, v.STARTED_AT, v.ENDED_AT, v.DAY, v.SECONDS, v.HOURS_AWAY, v.REQUESTS, v.SEARCHES,
            v.EVENTS_N, v.ACTS,
        ),
        _sessions,
    ),
    View(
        "user_activity",
        "A row per known person.",
        (c.USER_ID,),
        (
            c.USER_ID, v.FIRST_AT, v.LAST_AT, v.DAYS, v.REQUESTS, v.SEARCHES, v.EVENTS_N, v.ACTS, v.ITEMS_N,
        ),
        _user_activity,
    ),
    View(
        "activity_classes",
        "How activity is spread: people by their number of events, in classes that double.",
        (v.AT_LEAST,),
        (v.AT_LEAST, v.AT_MOST, v.PEOPLE_N, v.PEOPLE_SHARE, v.EVENTS_N, v.EVENTS_SHARE),
        _activity_classes,
    ),
    View(
        "retention",
        "Who was there again exactly 1, 7 and 28 days after their first day, by cohorts of a day and of a week. Who "
        "was there before the log begins looks new in its first weeks.",
        (v.GRAIN, v.COHORT, v.AFTER_DAYS),
        (v.GRAIN, v.COHORT, v.AFTER_DAYS, v.PEOPLE_N, v.RETURNED, v.RATE, v.KNOWN),
        _retention,
    ),
    View(
        "retention_weeks",
        f"Who was there again in each of the {WEEKS} calendar weeks after the cohort's own.",
        (v.COHORT, v.WEEK),
        (v.COHORT, v.WEEK, v.PEOPLE_N, v.RETURNED, v.RATE, v.KNOWN),
        _retention_weeks,
    ),
    View(
        "volumes",
        "Events per day and action, and how long they took to be known (`known_at` - `happened_at`). A log loaded from "
        "a file without `known_at` shows no delay.",
        (v.DAY, c.ACTION),
        (
            v.DAY, c.ACTION, v.EVENTS_N, v.PEOPLE_N, v.ITEMS_N, v.WITHIN_MINUTE, v.WITHIN_HOUR, v.WITHIN_DAY,
            v.DELAY_MEDIAN_S, v.DELAY_MAX_S,
        ),
        _volumes,
    ),
)  # fmt: skip
