"""The product's table pipelines: one Ibis expression each, which DuckDB and Spark run to the same rows.

An engine promises no order, so every order is told: `PLACE` is where a row came from, the files' rows in their order
and then the log's. Times are compared as timestamps or as whole microseconds, never as text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from honeyguide.schema import columns as c

if TYPE_CHECKING:
    import ibis.expr.types as ir

    from honeyguide.schema.tables import Table

__all__ = [
    "AT_US",
    "DID",
    "PLACE",
    "VALUE_OF",
    "events_of",
    "first_seen",
    "in_schema",
    "label_rows",
    "microseconds",
    "ordered",
]

# Columns that live inside the expressions only.
PLACE = "place_"
_FIRST, _AT, _KIND, _NUMBER, _ACTION = "first_", "at_", "kind_", "number_", "action_"
_SLOT, _SLOT_, _OF = "slot_", "slot_of_", "of_"
_LATER = 1 << 40  # above the places of any table's files

AT_US = "at_us"
"""When it was shown, in microseconds."""
DID, VALUE_OF = "did_{}", "value_{}"
"""By the action's code: when it followed, in microseconds, and with which value; null where it did not."""


def microseconds(at: Any) -> Any:
    """A moment as int64 microseconds since the epoch, exact on every engine."""
    import ibis

    return at.delta(ibis.timestamp("1970-01-01T00:00:00+00:00", timezone="UTC"), unit="microsecond").cast("int64")


def in_schema(rows: ir.Table, table: Table) -> ir.Table:
    """The table's declared columns in order (then a `PLACE`); null where an older file has no such column."""
    import ibis

    place = [PLACE] if PLACE in rows.columns else []
    types = {str(column): ibis.schema(table.arrow())[column] for column in table.columns}
    told = {name: rows[name] if name in rows.columns else ibis.null(kind) for name, kind in types.items()}
    return rows.select(**told, **{name: rows[name] for name in place})


# ---------------------------------------------------------------------------------------------------- the events


def events_of(snapshot: ir.Table | None, since: ir.Table | None) -> ir.Table:
    """Events of the snapshot and those of the log since, each once: an id that came before does not come again.

    Both have a `PLACE`, each from 0 on; so has the result.
    """
    if snapshot is None or since is None:
        found = snapshot if since is None else _once(since)
        if found is None:
            raise ValueError("neither a snapshot nor a log")
        return found
    since = _once(since)
    # Only the log's few ids are compared, so that no engine holds those of the whole history.
    known = snapshot.semi_join(since, c.EVENT_ID).select(c.EVENT_ID).distinct()
    fresh = since.anti_join(known, c.EVENT_ID)
    fresh = fresh.mutate(**{PLACE: fresh[PLACE] + _LATER})
    return snapshot.union(fresh.select(snapshot.columns), distinct=False)


def _once(events: ir.Table) -> ir.Table:
    first = events.group_by(c.EVENT_ID).aggregate(**{_FIRST: events[PLACE].min()})
    found = events.inner_join(first, [c.EVENT_ID, events[PLACE] == first[_FIRST]])
    return found.select(events.columns)


def uncorrected(events: ir.Table) -> ir.Table:
    """Without the events that a later one of the same person corrects."""
    newer = events.filter(events[c.CORRECTS].notnull())
    newer = newer.select(**{_OF: newer[c.USER_ID], _FIRST: newer[c.CORRECTS]}).distinct()
    return events.anti_join(newer, [events[c.USER_ID] == newer[_OF], events[c.EVENT_ID] == newer[_FIRST]])


def ordered(events: ir.Table) -> ir.Table:
    """Oldest first; ties in the order of their places. Without the place."""
    return events.order_by([c.HAPPENED_AT, PLACE]).drop(PLACE)


def first_seen(events: ir.Table, column: c.Column, known: ir.Table | None = None) -> ir.Table:
    """The column's values that `known` does not hold, in order of their first event, with its `happened_at`."""
    seen = events.select(column, **{_FIRST: _struct(events, c.HAPPENED_AT, PLACE)})
    seen = seen.group_by(column).aggregate(**{_FIRST: seen[_FIRST].min()})
    if known is not None:
        seen = seen.anti_join(known, column)
    at, place = seen[_FIRST][c.HAPPENED_AT], seen[_FIRST][PLACE]
    return seen.select(column, **{c.HAPPENED_AT: at, PLACE: place}).order_by([c.HAPPENED_AT, PLACE]).drop(PLACE)


# -------------------------------------------------------------------------------------------------- label rows


def label_rows(
    impressions: ir.Table | None, events: ir.Table, shown: Sequence[str], outcomes: Sequence[str], horizon_us: int,
    facts: Sequence[c.Column] = (),
) -> ir.Table:  # fmt: skip
    """One row per slot of a list as shown, with what came of it: what heads can learn of people's choices.

    Shown is what the serving log (`impressions`) and events whose action is one of `shown` tell. An outcome is the
    first event of its action on the same request and item; an event that names no request belongs to the person's
    newest showing of the item before it. What comes later than `horizon_us` after the showing is no outcome of it.
    Columns: request, person (null: nobody), item, position, propensity, `AT_US`, the `facts` of the moment (columns
    that both tables have), and for each of `outcomes` by its place `DID` and `VALUE_OF`. In order of time; ties by
    request and slot.
    """
    import ibis

    slots = _showings(impressions, events, shown, facts)
    done = events.filter(events[c.ACTION].isin(list(outcomes)))
    done = done.select(
        c.REQUEST_ID, c.ITEM_ID, PLACE, **{c.USER_ID: done[c.USER_ID].nullif("")},
        # Some engines lose the sign of a zero on the way.
        **{c.VALUE: ibis.ifelse(done[c.VALUE] == 0.0, 0.0, done[c.VALUE])},
        **{_AT: microseconds(done[c.HAPPENED_AT]), _ACTION: done[c.ACTION]},
    )  # fmt: skip
    came = _of_request(slots, done).union(_of_person(slots, done), distinct=False)
    came = came.filter(came[_AT] - came[AT_US] <= horizon_us)
    came = came.group_by(_SLOT, _ACTION).aggregate(**{_FIRST: _struct(came, _AT, PLACE, c.VALUE).min()})
    first_at, value = came[_FIRST][_AT], came[_FIRST][c.VALUE]
    wide = {}
    for code, action in enumerate(outcomes):
        wide[DID.format(code)] = first_at.max(where=came[_ACTION] == action)
        wide[VALUE_OF.format(code)] = value.max(where=came[_ACTION] == action)
    what = came.group_by(**{_SLOT_: came[_SLOT]}).aggregate(**wide)
    rows = slots.left_join(what, slots[_SLOT] == what[_SLOT_])
    told = (c.REQUEST_ID, c.USER_ID, c.ITEM_ID, c.POSITION, c.PROPENSITY, AT_US, *facts)
    return rows.order_by([AT_US, _SLOT]).select(*told, *wide)


def _showings(
    impressions: ir.Table | None, events: ir.Table, shown: Sequence[str], facts: Sequence[c.Column]
) -> ir.Table:
    """A row per slot of a list as shown, with an id of its own that sorts by request and slot."""
    import ibis

    told = events.filter(events[c.ACTION].isin(list(shown)))
    parts = [
        told.select(
            c.REQUEST_ID, c.ITEM_ID, c.POSITION, c.PROPENSITY,
            **{
                _SLOT: "e" + ibis.coalesce(told[c.REQUEST_ID], "") + "#"
                + ibis.coalesce(told[c.POSITION], 0).cast("string").lpad(7, "0") + told[c.EVENT_ID],
                c.USER_ID: told[c.USER_ID].nullif(""), AT_US: microseconds(told[c.HAPPENED_AT]),
            },
            **{name: told[name] for name in facts},
        )
    ]  # fmt: skip
    if impressions is not None:
        lists = impressions.unnest(c.SHOWN_ITEMS, offset=_NUMBER)
        at = lists[_NUMBER].cast("int64")
        parts.append(
            lists.select(
                c.REQUEST_ID,
                **{
                    c.ITEM_ID: lists[c.SHOWN_ITEMS], c.POSITION: (at + 1).cast("int32"),
                    c.PROPENSITY: lists[c.SHOWN_PROPENSITIES][at],
                    _SLOT: "i" + lists[c.REQUEST_ID] + "#" + (at + 1).cast("string").lpad(7, "0"),
                    c.USER_ID: lists[c.USER_ID].nullif(""), AT_US: microseconds(lists[c.HAPPENED_AT]),
                },
                **{name: lists[name] for name in facts},
            )
        )  # fmt: skip
    return ibis.union(*parts, distinct=False) if len(parts) > 1 else parts[0]


def _of_request(slots: ir.Table, done: ir.Table) -> ir.Table:
    """Events that name the request in which the item was shown; of an item shown twice, the upper slot."""
    asked = slots.filter(slots[c.REQUEST_ID].notnull())
    asked = asked.select(c.REQUEST_ID, c.ITEM_ID, **{_FIRST: _struct(asked, _SLOT, AT_US)})
    asked = asked.group_by(c.REQUEST_ID, c.ITEM_ID).aggregate(**{_FIRST: asked[_FIRST].min()})
    asked = asked.select(c.REQUEST_ID, c.ITEM_ID, **{_SLOT: asked[_FIRST][_SLOT], AT_US: asked[_FIRST][AT_US]})
    found = done.inner_join(asked, [c.REQUEST_ID, c.ITEM_ID])
    return found.select(_SLOT, AT_US, _ACTION, _AT, PLACE, c.VALUE)


def _of_person(slots: ir.Table, done: ir.Table) -> ir.Table:
    """Events that name no request, each with the person's newest showing of the item at or before it.

    No as-of join: Spark has none. In one union with the events, the running maximum of the showings' order is it.
    """
    import ibis

    pair = (c.USER_ID, c.ITEM_ID)
    alone = done.filter(done[c.REQUEST_ID].isnull() & done[c.USER_ID].notnull())
    seen = slots.filter(slots[c.USER_ID].notnull())
    place = ibis.window(group_by=list(pair), order_by=[AT_US, _SLOT])
    seen = seen.select(*pair, AT_US, _SLOT, **{_NUMBER: ibis.row_number().over(place).cast("int64")})
    both = ibis.union(
        seen.select(
            *pair, _NUMBER,
            **{_AT: seen[AT_US], _KIND: ibis.literal(0, "int8"), PLACE: ibis.null("int64"),
               _ACTION: ibis.null("string"), c.VALUE: ibis.null("float64")},
        ),
        alone.select(
            *pair, **{_NUMBER: ibis.null("int64"), _AT: alone[_AT], _KIND: ibis.literal(1, "int8")},
            **{PLACE: alone[PLACE], _ACTION: alone[_ACTION], c.VALUE: alone[c.VALUE]},
        ),
        distinct=False,
    )  # fmt: skip
    so_far = ibis.window(group_by=list(pair), order_by=[_AT, _KIND], rows=(None, 0))
    both = both.select(*pair, _AT, _KIND, PLACE, _ACTION, c.VALUE, **{_NUMBER: both[_NUMBER].max().over(so_far)})
    both = both.filter((both[_KIND] == 1) & both[_NUMBER].notnull())
    found = both.inner_join(seen, [*pair, _NUMBER])
    return found.select(_SLOT, AT_US, _ACTION, _AT, PLACE, c.VALUE)


def _struct(table: ir.Table, *names: str) -> Any:
    """Columns as one value: compared by the first of them, then by the next."""
    import ibis

    return ibis.struct({str(name): table[name] for name in names})
