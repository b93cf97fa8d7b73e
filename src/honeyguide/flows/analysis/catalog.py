"""The health of a catalog: what is found, what is forgotten, what nobody knows, and how long new items wait."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ibis

from honeyguide.flows.analysis import columns as v
from honeyguide.flows.analysis.people import end_of_log
from honeyguide.flows.analysis.view import ALL_EVENTS, ALL_ITEMS, Scope, View, microseconds, real, share, whole
from honeyguide.schema import columns as c

if TYPE_CHECKING:
    import ibis.expr.types as ir

__all__ = ["STALE_DAYS", "VIEWS"]

STALE_DAYS = 28
"""An item is stale that had events, but none for so long; an item is new that became known within so long."""
_TEXTS = (c.TITLE, c.DESCRIPTION, c.COUNTRY, c.LANGUAGE, c.IMAGE_URL)
_LISTS = (c.CATEGORIES, c.PEOPLE)
_NUMBERS = (c.YEAR, c.PRICE)
_HOUR_US = 3_600_000_000
# Columns that live inside an expression only.
_RANK, _N, _SUM, _FIRST = "rank_", "n_", "sum_", "first_"


def _missing(items: ir.Table) -> dict[str, Any]:
    """Whether an item lacks a fact, by fact."""
    return (
        {name: (items[name].fill_null("") == "") for name in _TEXTS}
        | {name: (items[name].length().fill_null(0) == 0) for name in _LISTS}
        | {name: items[name].isnull() for name in _NUMBERS}
    )


def _item_facts(scope: Scope) -> ir.Table:
    items, events, showings = scope[ALL_ITEMS], scope[ALL_EVENTS], scope["showings"]
    done = events.filter(~scope.is_showing(events[c.ACTION]))
    of_events = done.group_by(**{f"{c.ITEM_ID}_": done[c.ITEM_ID]}).aggregate(
        **{
            v.EVENTS_N: done.count(),
            v.ACTS: (scope.weight(done[c.ACTION]) > 0).cast("int64").sum(),
            v.PEOPLE_N: done[c.USER_ID].nunique(),
            v.FIRST_EVENT_AT: done[c.HAPPENED_AT].min(),
            v.LAST_EVENT_AT: done[c.HAPPENED_AT].max(),
        }
    )
    of_showings = showings.group_by(**{f"{c.ITEM_ID}__": showings[c.ITEM_ID]}).aggregate(
        **{v.SHOWN: showings.count(), v.FIRST_SHOWN_AT: showings[v.SHOWN_AT].min()}
    )
    gaps = sum((flag.cast("int64") for flag in _missing(items).values()), start=ibis.literal(0, "int64"))
    facts = items.select(c.ITEM_ID, c.TITLE, c.AVAILABLE, c.KNOWN_AT, **{v.MISSING_FACTS: gaps})
    found = facts.left_join(of_events, facts[c.ITEM_ID] == of_events[f"{c.ITEM_ID}_"])
    found = found.left_join(of_showings, found[c.ITEM_ID] == of_showings[f"{c.ITEM_ID}__"])
    found = found.cross_join(end_of_log(scope))
    waited = microseconds(found[v.FIRST_SHOWN_AT], found[c.KNOWN_AT])
    return found.mutate(
        **{name: found[name].fill_null(0) for name in (v.EVENTS_N, v.ACTS, v.PEOPLE_N, v.SHOWN)},
        **{
            v.HOURS_TO_SHOWING: ibis.ifelse(waited >= 0, waited, ibis.null("int64")).cast("float64") / real(_HOUR_US),
            v.DAYS_SILENT: found[v.LAST_AT].date().delta(found[v.LAST_EVENT_AT].date(), unit="day"),
        },
    )


def _catalog_health(scope: Scope) -> ir.Table:
    facts, items, end = scope["item_facts"], scope[ALL_ITEMS], end_of_log(scope)
    events = scope[ALL_EVENTS]
    begin = events.aggregate(**{_FIRST: events[c.HAPPENED_AT].min()})
    aged = facts.cross_join(end).cross_join(begin)
    aged = aged.select(*aged.columns)
    # What was known before the log begins is not new to it.
    age = microseconds(aged[v.LAST_AT], aged[c.KNOWN_AT])
    fresh = (age >= 0) & (age <= STALE_DAYS * 24 * _HOUR_US) & (aged[c.KNOWN_AT] >= aged[_FIRST])

    waited = microseconds(aged[v.FIRST_SHOWN_AT], aged[c.KNOWN_AT])

    def count(condition: Any) -> Any:
        return condition.fill_null(False).cast("int64").sum().fill_null(0)

    counts = aged.aggregate(
        items=aged.count(),
        available=count(aged[c.AVAILABLE]),
        with_events=count(aged[v.EVENTS_N] > 0),
        without_events=count(aged[v.EVENTS_N] == 0),
        stale=count(aged[v.DAYS_SILENT] > STALE_DAYS),
        shown=count(aged[v.SHOWN] > 0),
        never_shown=count(aged[v.SHOWN] == 0),
        new=count(fresh),
        new_without_events=count(fresh & (aged[v.EVENTS_N] == 0)),
        new_never_shown=count(fresh & (aged[v.SHOWN] == 0)),
        # The median of whole numbers is exact on every engine; the hours follow from it.
        hours_to_showing=(ibis.ifelse(fresh & (waited >= 0), waited, ibis.null("int64")).cast("float64")).median()
        / real(_HOUR_US),
    )
    lacking = items.aggregate(**{f"without_{name}": count(flag) for name, flag in _missing(items).items()})
    events = events.filter(~scope.is_showing(events[c.ACTION]))
    strange = events.anti_join(items, [events[c.ITEM_ID] == items[c.ITEM_ID]])
    strange = strange.aggregate(events_on_unknown_items=strange.count())
    one = counts.cross_join(lacking).cross_join(strange)
    one = one.cross_join(_concentration(facts, v.EVENTS_N, "events")).cross_join(
        _concentration(facts, v.SHOWN, "showings")
    )
    n = one["items"]
    shares = {
        "coverage_events": share(one["with_events"], n),
        "coverage_showings": share(one["shown"], n),
        **{f"{part}_share": share(one[part], n) for part in ("available", "stale")},
        **{f"without_{name}_share": share(one[f"without_{name}"], n) for name in (*_TEXTS, *_LISTS, *_NUMBERS)},
    }
    one = one.mutate(**shares)
    measures = [name for name in one.columns if name != "items"]
    long = one.mutate(**{v.MEASURE: ibis.array(["items", *measures])}).unnest(v.MEASURE)
    values = [(name, long[name].cast("float64")) for name in ("items", *measures)]
    # Without items, or without a log, a share is not 0 but unknown.
    return long.mutate(**{v.AMOUNT: long[v.MEASURE].cases(*values), v.MEASURE_UNIT: _units(long[v.MEASURE], measures)})


def _units(measure: Any, names: list[str]) -> Any:
    told = {"hours_to_showing": "h", "events_on_unknown_items": "events"}
    told |= {name: "share" for name in names if name.endswith("_share") or name.startswith(("coverage", "gini", "top"))}
    return measure.cases(*told.items(), else_="items")


def _concentration(facts: ir.Table, amount: str, of: str) -> ir.Table:
    """Gini coefficient, and the share of the top 1 % of the items (at least one), of what falls to each item.

    With x ascending and i its rank from 1: G = 2 sum(i x) / (n sum(x)) - (n + 1) / n. Items without any count as 0.
    Source: Gini 1912, in the form for sorted values.
    """
    rising = facts.select(
        **{
            amount: facts[amount],
            _RANK: whole(ibis.row_number().over(ibis.window(order_by=[amount, c.ITEM_ID])) + 1),
            _N: whole(facts.count().over(ibis.window())),
        }
    )
    top = rising[_RANK] > rising[_N] - ibis.greatest(whole((rising[_N].cast("float64") / real(100)).ceil()), 1)
    sums = rising.aggregate(
        **{
            _RANK: (rising[_RANK] * rising[amount]).sum(), _SUM: rising[amount].sum(), _N: rising[_N].max(),
            "top_": rising[amount].sum(where=top),
        }
    )  # fmt: skip
    n = sums[_N].cast("float64")
    gini = share(sums[_RANK] * 2, sums[_SUM]) / n - (n + real(1)) / n
    return sums.select(**{f"gini_{of}": gini, f"top_1_percent_{of}": share(sums["top_"], sums[_SUM])})


VIEWS = (
    View(
        "item_facts",
        "A row per item of the catalog: what is known of it, what happened to it, where it was shown.",
        (c.ITEM_ID,),
        (
            c.ITEM_ID, c.TITLE, c.AVAILABLE, c.KNOWN_AT, v.MISSING_FACTS, v.EVENTS_N, v.ACTS, v.PEOPLE_N,
            v.FIRST_EVENT_AT, v.LAST_EVENT_AT, v.DAYS_SILENT, v.SHOWN, v.FIRST_SHOWN_AT, v.HOURS_TO_SHOWING,
        ),
        _item_facts,
    ),
    View(
        "catalog_health",
        f"Coverage, items without events, stale items (had events, none for {STALE_DAYS} days before the log's end), "
        "missing facts, concentration (Gini over all items, share of the top 1 %), new items (known within the log's "
        f"last {STALE_DAYS} days) and their median hours to the first showing.",
        (v.MEASURE,),
        (v.MEASURE, v.AMOUNT, v.MEASURE_UNIT),
        _catalog_health,
    ),
)  # fmt: skip
