"""What was shown and what came of it: showings, events led back to them, exposures, positions, funnels, slates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ibis

from honeyguide.contracts import RETRACT
from honeyguide.flows.analysis import columns as v
from honeyguide.flows.analysis.view import (
    ALL_EVENTS,
    RAW_EVENTS,
    Scope,
    View,
    microseconds,
    real,
    seconds,
    share,
    whole,
)
from honeyguide.schema import columns as c
from honeyguide.schema.tables import EVENTS, IMPRESSIONS

if TYPE_CHECKING:
    import ibis.expr.types as ir

__all__ = ["VIEWS"]

DAY_US = 86_400_000_000
_Z = 1.959963984540054  # of a 95 % interval
# Columns that live inside an expression only.
_AT, _KIND, _NUMBER, _SLOT, _ROOT = "at_", "kind_", "number_", "slot_", "root_"
_TOLD = (c.SURFACE, c.POSITION, c.PROPENSITY, c.EXPERIMENT, c.QUERY)


def _somebody(user: Any) -> Any:
    """The log writes "" for nobody."""
    return user.nullif("")


def _all_events(scope: Scope) -> ir.Table:
    events = scope[RAW_EVENTS]
    corrected = events.filter(events[c.CORRECTS].notnull())
    corrected = corrected.select(
        **{f"{c.USER_ID}_": corrected[c.USER_ID], f"{c.CORRECTS}_": corrected[c.CORRECTS]}
    ).distinct()
    events = events.mutate(**{_ROOT: ibis.coalesce(events[c.CORRECTS], events[c.EVENT_ID])})
    same = [events[c.USER_ID] == corrected[f"{c.USER_ID}_"], events[_ROOT] == corrected[f"{c.CORRECTS}_"]]
    versions = events.semi_join(corrected, same)
    newest = ibis.window(
        group_by=[c.USER_ID, _ROOT], order_by=[versions[c.KNOWN_AT].desc(), versions[c.EVENT_ID].desc()]
    )
    # The number in a column of its own: DuckDB has an internal error on a filter over a window.
    versions = versions.mutate(**{_NUMBER: ibis.row_number().over(newest)})
    versions = versions.filter((versions[_NUMBER] < 1) & (versions[c.ACTION] != RETRACT)).drop(_NUMBER)
    return ibis.union(events.anti_join(corrected, same), versions, distinct=False)


def _showings(scope: Scope) -> ir.Table:
    lists = scope[IMPRESSIONS.name]
    slots = lists.unnest(c.SHOWN_ITEMS, offset=_SLOT)
    place = whole(slots[_SLOT])
    logged = slots.select(
        **{
            # Padded, so that the smallest id of a list is its first slot.
            v.SHOWING_ID: slots[c.REQUEST_ID] + "#" + (place + 1).cast("string").lpad(6, "0"),
            c.REQUEST_ID: slots[c.REQUEST_ID],
            c.USER_ID: _somebody(slots[c.USER_ID]),
            c.ITEM_ID: slots[c.SHOWN_ITEMS],
            c.SURFACE: slots[c.SURFACE],
            c.POSITION: (place + 1).cast("int32"),
            v.SHOWN_AT: slots[c.HAPPENED_AT],
            c.PROPENSITY: slots[c.SHOWN_PROPENSITIES][slots[_SLOT].cast("int32")],
            c.QUERY: slots[c.QUERY],
            c.EXPERIMENT: slots[c.EXPERIMENT],
            c.POLICY_VERSION: slots[c.POLICY_VERSION],
            c.BUILD_ID: slots[c.BUILD_ID],
            v.LOGGED_BY: ibis.literal("impressions"),
        }
    )
    events = scope[ALL_EVENTS]
    events = events.filter(scope.is_showing(events[c.ACTION]))
    told = events.select(
        **{
            v.SHOWING_ID: events[c.EVENT_ID],
            **{name: events[name] for name in (c.REQUEST_ID, c.USER_ID, c.ITEM_ID, c.SURFACE, c.POSITION)},
            v.SHOWN_AT: events[c.HAPPENED_AT],
            **{name: events[name] for name in (c.PROPENSITY, c.QUERY, c.EXPERIMENT)},
            c.POLICY_VERSION: ibis.null("string"),
            c.BUILD_ID: ibis.null("string"),
            v.LOGGED_BY: ibis.literal("events"),
        }
    )
    return ibis.union(logged, told, distinct=False).mutate(**{v.DAY: lambda t: t[v.SHOWN_AT].date()})


def _event_facts(scope: Scope) -> ir.Table:
    events, showings = scope[ALL_EVENTS], scope["showings"]
    done = events.filter(~scope.is_showing(events[c.ACTION]))
    # The way back is found on a few columns, then joined to the whole rows once.
    by_request = _by_request(done, showings)
    by_person = _by_person(done, showings)
    ways = ibis.union(by_request, by_person, distinct=False)
    ways = ways.rename(**{f"{c.EVENT_ID}_": c.EVENT_ID})
    found = events.left_join(ways, events[c.EVENT_ID] == ways[f"{c.EVENT_ID}_"])
    facts = showings.select(
        v.SHOWING_ID, v.SHOWN_AT, c.POLICY_VERSION, c.BUILD_ID,
        **{f"{name}_": showings[name] for name in _TOLD},
    )  # fmt: skip
    facts = facts.rename(**{f"{v.SHOWING_ID}_": v.SHOWING_ID})
    found = found.left_join(facts, found[v.SHOWING_ID] == facts[f"{v.SHOWING_ID}_"])
    return found.mutate(
        **{
            v.WEIGHT: scope.weight(found[c.ACTION]),
            v.IS_SHOWING: scope.is_showing(found[c.ACTION]),
            v.DAY: found[c.HAPPENED_AT].date(),
            v.DELAY_S: seconds(microseconds(found[c.KNOWN_AT], found[c.HAPPENED_AT])),
            v.SECONDS_AFTER: seconds(microseconds(found[c.HAPPENED_AT], found[v.SHOWN_AT])),
            **{name: ibis.coalesce(found[name], found[f"{name}_"]) for name in _TOLD},
        }
    )


def _by_request(done: ir.Table, showings: ir.Table) -> ir.Table:
    """Event id, showing id: of the same request and item; of an item that a list holds twice, the upper slot."""
    slots = showings.filter(showings[c.REQUEST_ID].notnull())
    slots = slots.group_by(
        **{f"{name}_": slots[name] for name in (c.REQUEST_ID, c.ITEM_ID)}
    ).aggregate(**{v.SHOWING_ID: slots[v.SHOWING_ID].min()})  # fmt: skip
    asked = done.filter(done[c.REQUEST_ID].notnull())
    same = [asked[name] == slots[f"{name}_"] for name in (c.REQUEST_ID, c.ITEM_ID)]
    return asked.inner_join(slots, same).select(c.EVENT_ID, v.SHOWING_ID, **{v.SHOWN_BY: ibis.literal("request")})


def _by_person(done: ir.Table, showings: ir.Table) -> ir.Table:
    """Event id, showing id: for events that name no request, the person's newest showing of the item within a day.

    Showings are numbered per person and item; in one union with the events, a running maximum of the number is the
    newest showing at or before each event. No as-of join: Spark has none.
    """
    pair = [c.USER_ID, c.ITEM_ID]
    slots = showings.filter(showings[c.USER_ID].notnull())
    order = ibis.window(group_by=pair, order_by=[v.SHOWN_AT, v.SHOWING_ID])
    slots = slots.select(*pair, v.SHOWN_AT, v.SHOWING_ID, **{_NUMBER: whole(ibis.row_number().over(order) + 1)})
    alone = done.filter(done[c.REQUEST_ID].isnull())
    # Most events are of items that were never shown to the person: they need not be sorted.
    alone = alone.semi_join(slots, [alone[name] == slots[name] for name in pair])
    union = ibis.union(
        slots.select(*pair, **{
            _AT: slots[v.SHOWN_AT], _KIND: ibis.literal(0, "int8"), _NUMBER: slots[_NUMBER],
            c.EVENT_ID: ibis.null("string"),
        }),
        alone.select(*pair, **{
            _AT: alone[c.HAPPENED_AT], _KIND: ibis.literal(1, "int8"), _NUMBER: ibis.null("int64"),
            c.EVENT_ID: alone[c.EVENT_ID],
        }),
        distinct=False,
    )  # fmt: skip
    so_far = ibis.window(group_by=pair, order_by=[_AT, _KIND], rows=(None, 0))
    running = union.select(*pair, _AT, c.EVENT_ID, **{_NUMBER: union[_NUMBER].max().over(so_far)})
    running = running.filter(running[c.EVENT_ID].notnull() & running[_NUMBER].notnull())
    slots = slots.rename(**{f"{name}_": name for name in [*pair, _NUMBER]})
    same = [running[name] == slots[f"{name}_"] for name in [*pair, _NUMBER]]
    found = running.inner_join(slots, same)
    found = found.filter(microseconds(found[_AT], found[v.SHOWN_AT]) <= DAY_US)
    return found.select(c.EVENT_ID, v.SHOWING_ID, **{v.SHOWN_BY: ibis.literal("person")})


def _exposures(scope: Scope) -> ir.Table:
    showings, facts = scope["showings"], scope["event_facts"]
    acts = facts.filter(facts[v.SHOWING_ID].notnull() & (facts[v.WEIGHT] > 0))
    came = acts.group_by(**{f"{v.SHOWING_ID}_": acts[v.SHOWING_ID]}).aggregate(
        **{
            v.ACTS: acts.count(),
            v.STRENGTH: acts[v.WEIGHT].max(),
            v.FIRST_ACT_S: acts[v.SECONDS_AFTER].min(),
        }
    )
    found = showings.left_join(came, showings[v.SHOWING_ID] == came[f"{v.SHOWING_ID}_"])
    return found.mutate(**{v.ACTS: found[v.ACTS].fill_null(0), v.STRENGTH: found[v.STRENGTH].fill_null(real(0))})


def _position_ctr(scope: Scope) -> ir.Table:
    slots = scope["exposures"]
    slots = slots.filter(slots[c.POSITION].notnull())
    counted = slots.group_by(c.SURFACE, c.POSITION).aggregate(
        **{
            v.SHOWN: slots.count(),
            v.ACTED: (slots[v.ACTS] > 0).cast("int64").sum(),
            v.PEOPLE_N: slots[c.USER_ID].nunique(),
        }
    )
    n, p = counted[v.SHOWN].cast("float64"), share(counted[v.ACTED], counted[v.SHOWN])
    # Wilson 1927, in the form that needs no square of p: centre and half width over 1 + z^2 / n.
    one, z, z2 = real(1), real(_Z), real(_Z * _Z)
    centre = (p + z2 / (n * real(2))) / (one + z2 / n)
    half = (p * (one - p) / n + z2 / (n * n * real(4))).sqrt() * z / (one + z2 / n)
    # Rounding must not leave the share outside of its own interval.
    low, high = ibis.greatest(ibis.least(centre - half, p), real(0)), ibis.least(ibis.greatest(centre + half, p), one)
    return counted.mutate(**{v.CTR: p, v.CTR_LOW: low, v.CTR_HIGH: high})


def _funnels(scope: Scope) -> ir.Table:
    slots = scope["exposures"]
    levels = sorted({weight for weight in scope.weights.values() if weight > 0})
    steps = [("shown", 0.0)] + [
        (", ".join(sorted(action for action, weight in scope.weights.items() if weight == level)), float(level))
        for level in levels
    ]
    reached = {
        f"step_{n}_": (slots[v.STRENGTH] >= real(level)).cast("int64").sum() for n, (_, level) in enumerate(steps)
    }
    wide = slots.group_by(c.SURFACE, c.POSITION).aggregate(**reached)
    long = wide.mutate(**{v.STEP: ibis.array([ibis.literal(n, "int64") for n in range(len(steps))])}).unnest(v.STEP)
    return long.mutate(
        **{
            v.ACTIONS: long[v.STEP].cases(*((n, said) for n, (said, _) in enumerate(steps)), else_=""),
            v.REACHED: long[v.STEP].cases(*((n, long[f"step_{n}_"]) for n in range(len(steps))), else_=0),
            v.OF_SHOWN: long[v.STEP].cases(
                *((n, share(long[f"step_{n}_"], long["step_0_"])) for n in range(len(steps))), else_=0.0
            ),
            v.OF_BEFORE: long[v.STEP].cases(
                *((n, share(long[f"step_{n}_"], long[f"step_{max(n - 1, 0)}_"])) for n in range(len(steps))), else_=0.0
            ),
        }
    )


def _slate_days(scope: Scope) -> ir.Table:
    lists, slots = scope[IMPRESSIONS.name], scope["exposures"]
    slots = slots.filter(slots[v.LOGGED_BY] == "impressions")
    acted = slots.group_by(**{f"{c.REQUEST_ID}_": slots[c.REQUEST_ID]}).aggregate(
        **{v.ACTED: (slots[v.ACTS] > 0).cast("int64").sum()}
    )
    found = lists.left_join(acted, lists[c.REQUEST_ID] == acted[f"{c.REQUEST_ID}_"])
    found = found.mutate(**{v.DAY: found[c.HAPPENED_AT].date(), v.SHOWN: whole(found[c.SHOWN_ITEMS].length())})
    by_request = found.group_by(v.DAY, c.SURFACE).aggregate(
        **{
            v.REQUESTS: found.count(),
            v.PEOPLE_N: _somebody(found[c.USER_ID]).nunique(),
            v.SHOWN: found[v.SHOWN].sum().fill_null(0),
            v.ACTED: found[v.ACTED].sum().fill_null(0),
            v.REQUESTS_ACTED: (found[v.ACTED] > 0).fill_null(False).cast("int64").sum(),
            v.EMPTY: (found[v.SHOWN] == 0).cast("int64").sum(),
            v.FELL_BACK: found[c.FALLBACK].notnull().cast("int64").sum(),
        }
    )
    of_items = slots.group_by(**{f"{v.DAY}_": slots[v.DAY], f"{c.SURFACE}_": slots[c.SURFACE]}).aggregate(
        **{v.ITEMS_N: slots[c.ITEM_ID].nunique()}
    )
    same = [by_request[name] == of_items[f"{name}_"] for name in (v.DAY, c.SURFACE)]
    days = by_request.left_join(of_items, same)
    return days.mutate(**{v.ITEMS_N: days[v.ITEMS_N].fill_null(0), v.CTR: share(days[v.ACTED], days[v.SHOWN])})


VIEWS = (
    View(
        ALL_EVENTS,
        "Every event: those of the tables, and those of the log that no build has seen yet. Of an event that the "
        "same person's later rows correct, only the version known last; none if that takes it back.",
        (c.EVENT_ID,),
        EVENTS.columns,
        _all_events,
        kept=False,
    ),
    View(
        "showings",
        "A row per slot of a list as shown: from the serving log, and from events whose action says so.",
        (v.SHOWING_ID,),
        (
            v.SHOWING_ID,
            c.REQUEST_ID,
            c.USER_ID,
            c.ITEM_ID,
            c.SURFACE,
            c.POSITION,
            v.SHOWN_AT,
            v.DAY,
            c.PROPENSITY,
            c.QUERY,
            c.EXPERIMENT,
            c.POLICY_VERSION,
            c.BUILD_ID,
            v.LOGGED_BY,
        ),
        _showings,
        kept=False,
    ),
    View(
        "event_facts",
        "Every event, led back to the showing it answers; surface, position, query, experiment and propensity are the "
        "event's own or, where it has none, the showing's.",
        (c.EVENT_ID,),
        (
            c.EVENT_ID,
            c.USER_ID,
            c.ITEM_ID,
            c.ACTION,
            c.VALUE,
            v.WEIGHT,
            v.IS_SHOWING,
            c.HAPPENED_AT,
            v.DAY,
            c.KNOWN_AT,
            v.DELAY_S,
            v.SHOWING_ID,
            v.SHOWN_BY,
            v.SECONDS_AFTER,
            c.REQUEST_ID,
            c.SESSION_ID,
            c.SURFACE,
            c.POSITION,
            c.PROPENSITY,
            c.QUERY,
            c.EXPERIMENT,
            c.POLICY_VERSION,
            c.BUILD_ID,
            c.CONTEXT,
        ),
        _event_facts,
        kept=False,
    ),
    View(
        "exposures",
        "Every showing with what came of it.",
        (v.SHOWING_ID,),
        (
            v.SHOWING_ID,
            c.REQUEST_ID,
            c.USER_ID,
            c.ITEM_ID,
            c.SURFACE,
            c.POSITION,
            v.SHOWN_AT,
            v.DAY,
            c.PROPENSITY,
            c.QUERY,
            c.EXPERIMENT,
            c.POLICY_VERSION,
            c.BUILD_ID,
            v.LOGGED_BY,
            v.ACTS,
            v.STRENGTH,
            v.FIRST_ACT_S,
        ),
        _exposures,
    ),
    View(
        "position_ctr",
        "Per surface and slot: how many showings were acted on. The interval takes showings as independent; several of "
        "one person are not, so it is somewhat too narrow.",
        (c.SURFACE, c.POSITION),
        (c.SURFACE, c.POSITION, v.SHOWN, v.PEOPLE_N, v.ACTED, v.CTR, v.CTR_LOW, v.CTR_HIGH),
        _position_ctr,
    ),
    View(
        "funnels",
        "Per surface and slot, from shown to the strongest action: a showing reaches a step by an action of its weight "
        "or a larger one, so a purchase without a click counts for both.",
        (c.SURFACE, c.POSITION, v.STEP),
        (c.SURFACE, c.POSITION, v.STEP, v.ACTIONS, v.REACHED, v.OF_SHOWN, v.OF_BEFORE),
        _funnels,
    ),
    View(
        "slate_days",
        "The lists answered per day and surface, from the serving log.",
        (v.DAY, c.SURFACE),
        (
            v.DAY,
            c.SURFACE,
            v.REQUESTS,
            v.PEOPLE_N,
            v.SHOWN,
            v.ITEMS_N,
            v.ACTED,
            v.CTR,
            v.REQUESTS_ACTED,
            v.EMPTY,
            v.FELL_BACK,
        ),
        _slate_days,
    ),
)
