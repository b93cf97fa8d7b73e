"""Search traffic: what was asked, what came of it, what nobody found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ibis

from honeyguide.flows.analysis import columns as v
from honeyguide.flows.analysis.people import end_of_log
from honeyguide.flows.analysis.view import Scope, View, microseconds, monday, share, whole
from honeyguide.schema import columns as c
from honeyguide.schema.tables import IMPRESSIONS

if TYPE_CHECKING:
    import ibis.expr.types as ir

__all__ = ["SOON_US", "VIEWS"]

SOON_US = 5 * 60 * 1_000_000
"""A search within five minutes after another belongs to the same wish."""
# Columns that live inside an expression only.
_NEXT_AT, _NEXT = "next_at_", "next_"


def _searches(scope: Scope) -> ir.Table:
    lists, slots = scope[IMPRESSIONS.name], scope["exposures"]
    asked = lists.filter(lists[c.QUERY].notnull())
    asked = asked.select(
        c.REQUEST_ID,
        c.SURFACE,
        c.QUERY,
        c.POLICY_VERSION,
        **{
            c.USER_ID: asked[c.USER_ID].nullif(""),
            v.WORDS: asked[c.QUERY].strip().lower(),
            v.ASKED_AT: asked[c.HAPPENED_AT],
            v.DAY: asked[c.HAPPENED_AT].date(),
            v.HITS: whole(asked[c.SHOWN_ITEMS].length().fill_null(0)),
        },
    )
    line = ibis.window(group_by=c.USER_ID, order_by=[v.ASKED_AT, c.REQUEST_ID])
    asked = asked.mutate(**{_NEXT_AT: asked[v.ASKED_AT].lead().over(line), _NEXT: asked[v.WORDS].lead().over(line)})
    acted = slots.filter((slots[v.LOGGED_BY] == "impressions") & (slots[v.ACTS] > 0))
    came = acted.group_by(**{f"{c.REQUEST_ID}_": acted[c.REQUEST_ID]}).aggregate(
        **{v.ACTED: acted.count(), v.FIRST_POSITION: acted[c.POSITION].min().cast("int64")}
    )
    found = asked.left_join(came, asked[c.REQUEST_ID] == came[f"{c.REQUEST_ID}_"]).cross_join(end_of_log(scope))
    soon = (microseconds(found[_NEXT_AT], found[v.ASKED_AT]) <= SOON_US) & found[c.USER_ID].notnull()
    soon = soon.fill_null(False)
    too_late = microseconds(found[v.LAST_AT], found[v.ASKED_AT]) < SOON_US
    outcome = ibis.cases(
        (found[v.ACTED].fill_null(0) > 0, "clicked"),
        (soon & (found[_NEXT] != found[v.WORDS]), "reformulated"),
        (soon, "again"),
        (found[c.USER_ID].isnull() | too_late, "unknown"),
        else_="abandoned",
    )
    return found.mutate(
        **{
            v.ACTED: found[v.ACTED].fill_null(0),
            v.NEXT_QUERY: ibis.ifelse(soon, found[_NEXT], ibis.null("string")),
            v.SEARCH_OUTCOME: outcome,
        }
    )


def _counted(searches: ir.Table, by: str, **more: Any) -> ir.Table:
    def outcome(name: str) -> Any:
        return (searches[v.SEARCH_OUTCOME] == name).cast("int64").sum()

    counted = searches.group_by(by).aggregate(
        **{
            v.SEARCHES: searches.count(),
            v.PEOPLE_N: searches[c.USER_ID].nunique(),
            v.ZERO: (searches[v.HITS] == 0).cast("int64").sum(),
            v.CLICKED: outcome("clicked"),
            v.REFORMULATED: outcome("reformulated"),
            v.ABANDONED: outcome("abandoned"),
            v.UNKNOWN: outcome("unknown"),
        },
        **more,
    )
    return counted.mutate(
        **{
            v.ZERO_RATE: share(counted[v.ZERO], counted[v.SEARCHES]),
            v.CLICK_RATE: share(counted[v.CLICKED], counted[v.SEARCHES]),
            v.ABANDON_RATE: share(counted[v.ABANDONED], counted[v.SEARCHES] - counted[v.UNKNOWN]),
        }
    )


def _search_traffic(scope: Scope) -> ir.Table:
    searches = scope["searches"]
    return _counted(searches, v.DAY, **{v.QUERIES: searches[v.WORDS].nunique()})


def _search_weeks(scope: Scope) -> ir.Table:
    searches = scope["searches"]
    searches = searches.mutate(**{v.SEARCH_WEEK: monday(searches[v.DAY])})
    weeks = _counted(searches, v.SEARCH_WEEK, **{v.QUERIES: searches[v.WORDS].nunique()})
    # The week before is joined by its date, not by its place: a week without a search breaks the line.
    told: dict[str, Any] = {
        v.SEARCHES_BEFORE: weeks[v.SEARCHES], v.ZERO_BEFORE: weeks[v.ZERO_RATE], v.CLICK_BEFORE: weeks[v.CLICK_RATE],
        v.ABANDON_BEFORE: weeks[v.ABANDON_RATE],
    }  # fmt: skip
    next_week = weeks[v.SEARCH_WEEK].cast("timestamp('UTC', 6)") + ibis.interval(days=7)
    before = weeks.select(**{_NEXT: next_week.date(), **told})
    return weeks.left_join(before, weeks[v.SEARCH_WEEK] == before[_NEXT])


def _search_positions(scope: Scope) -> ir.Table:
    searches = scope["searches"]
    clicked = searches.filter(searches[v.FIRST_POSITION].notnull())
    return clicked.group_by(v.FIRST_POSITION).aggregate(
        **{v.SEARCHES: clicked.count(), v.PEOPLE_N: clicked[c.USER_ID].nunique()}
    )


def _search_rewrites(scope: Scope) -> ir.Table:
    searches = scope["searches"]
    anew = searches.filter((searches[v.SEARCH_OUTCOME] == "reformulated") & searches[v.NEXT_QUERY].notnull())
    return anew.group_by(v.WORDS, v.NEXT_QUERY).aggregate(
        **{v.SEARCHES: anew.count(), v.PEOPLE_N: anew[c.USER_ID].nunique()}
    )


def _search_queries(scope: Scope) -> ir.Table:
    searches = scope["searches"]
    return _counted(searches, v.WORDS, **{v.FIRST_POSITION: searches[v.FIRST_POSITION].min()})


_COUNTS = (
    v.SEARCHES, v.PEOPLE_N, v.ZERO, v.CLICKED, v.REFORMULATED, v.ABANDONED, v.UNKNOWN, v.ZERO_RATE, v.CLICK_RATE,
    v.ABANDON_RATE,
)  # fmt: skip

VIEWS = (
    View(
        "searches",
        "A row per answered search (an impression with a query) and what came of it.",
        (c.REQUEST_ID,),
        (
            c.REQUEST_ID, c.USER_ID, c.SURFACE, c.QUERY, v.WORDS, v.ASKED_AT, v.DAY, v.HITS, v.ACTED, v.FIRST_POSITION,
            v.NEXT_QUERY, v.SEARCH_OUTCOME, c.POLICY_VERSION,
        ),
        _searches,
    ),
    View(
        "search_traffic",
        "Searches per day: how many found nothing, led to a click, were asked anew, were given up.",
        (v.DAY,),
        (v.DAY, v.QUERIES, *_COUNTS),
        _search_traffic,
    ),
    View(
        "search_queries",
        "The same per query, over the whole log.",
        (v.WORDS,),
        (v.WORDS, *_COUNTS, v.FIRST_POSITION),
        _search_queries,
    ),
    View(
        "search_weeks",
        "Searches per week from Monday on, with the rates of the week before where there is one.",
        (v.SEARCH_WEEK,),
        (
            v.SEARCH_WEEK, v.QUERIES, *_COUNTS, v.SEARCHES_BEFORE, v.ZERO_BEFORE, v.CLICK_BEFORE, v.ABANDON_BEFORE,
        ),
        _search_weeks,
    ),
    View(
        "search_positions",
        "In which slot the first click of a search was, over the whole log.",
        (v.FIRST_POSITION,),
        (v.FIRST_POSITION, v.SEARCHES, v.PEOPLE_N),
        _search_positions,
    ),
    View(
        "search_rewrites",
        "Which query people asked after which, within five minutes and without a click.",
        (v.WORDS, v.NEXT_QUERY),
        (v.WORDS, v.NEXT_QUERY, v.SEARCHES, v.PEOPLE_N),
        _search_rewrites,
    ),
)  # fmt: skip
