"""The point-in-time aggregates as one Ibis expression: the same on DuckDB and on Spark, equal to the kernel's.

Each label asks at several moments: `now`, and the far edge of every window. These probes join the events of their
entity in one union, one running sum per entity counts what lies strictly before each row, and a window is the
difference of two probes. No range frame and no as-of join: those are slow, or missing, or read the future on some
engine.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import ibis

from honeyguide.features.definition import Feature, FeatureSet
from honeyguide.features.plan import Cell, Formula, formula_of
from honeyguide.kernels import aggregates as w
from honeyguide.schema import columns as c

if TYPE_CHECKING:
    import ibis.expr.types as ir

__all__ = ["as_of_table"]

# Columns that live inside the expression only.
_KEY, _AT, _IS_EVENT, _EDGE = "key_", "at_us_", "is_event_", "edge_"


def as_of_table(features: FeatureSet, events: ir.Table, labels: ir.Table) -> ir.Table:
    """The aggregates of a feature set for every label, as a table: the label's id and a float32 column per feature.

    events: user id, item id, action, value, happened-at (a timestamp, or int64 microseconds). labels: label id
    (unique), user id, item id, happened-at; an id may be null (unknown). Only events strictly before a label's moment
    count. Null where a feature is not defined. Facts, context and affinities are no aggregates, and not here.
    """
    formulas = {f: formula_of(f) for f in features if isinstance(f, Feature)}
    names = {f.name for f in formulas}
    events = events.mutate(**{_AT: _microseconds(events[c.HAPPENED_AT]), c.VALUE: _value(events[c.VALUE])})
    labels = labels.mutate(**{_AT: _microseconds(labels[c.HAPPENED_AT])})
    result = labels.select(c.LABEL_ID, _AT)
    place: dict[tuple[str, Cell], str] = {}
    for entity in ("user", "item", "everybody"):
        cells = list(dict.fromkeys(_cells(entity, formulas)))
        if cells:
            place |= {(entity, cell): f"{entity}_{at}_" for at, cell in enumerate(cells)}
            found = _cell_table(entity, cells, events, labels)
            result = result.left_join(found, c.LABEL_ID).drop(f"{c.LABEL_ID}_right")
    values = {
        f.name: _finish(
            formula,
            [result[place[f.entity, x.cell]] for x in formula.x],
            [result[place["everybody", x.cell]] for x in formula.g],
            result[_AT],
        ).cast("float32")
        for f, formula in formulas.items()
    }
    return result.select(c.LABEL_ID, **{name: values[name] for name in features.names if name in names})


def _microseconds(at: Any) -> Any:
    # Whole seconds first, as some engines round the epoch of a fraction; only text gives microseconds on every engine.
    if at.type().is_integer():
        return at.cast("int64")
    return at.truncate("s").epoch_seconds().cast("int64") * 1_000_000 + at.strftime("%f").cast("int64")


def _value(value: Any) -> Any:
    # Events travel as float32; a nan is no value.
    value = value.cast("float32").cast("float64")
    return ibis.ifelse(value.isnan(), ibis.null("float64"), value)


def _cells(entity: str, formulas: Mapping[Feature, Formula]) -> Sequence[Cell]:
    if entity == "everybody":
        return [x.cell for formula in formulas.values() for x in formula.g]
    return [x.cell for feature, formula in formulas.items() if feature.entity == entity for x in formula.x]


def _cell_table(
    entity: Literal["user", "item", "everybody"] | str, cells: list[Cell], events: ir.Table, labels: ir.Table
) -> ir.Table:
    """The cells of one entity at every label: the label's id and an int64 column per cell."""

    def key(table: ir.Table) -> Any:
        if entity == "everybody":
            return ibis.literal("")
        return table[c.USER_ID if entity == "user" else c.ITEM_ID].cast("string")

    # A measure is a cell without its window; each is summed once.
    measures = {cell: cell._replace(window_us=0, hop_us=0) for cell in cells}
    column = {measure: f"m{at}_" for at, measure in enumerate(dict.fromkeys(measures.values()))}
    edges = {(0, 0): 0} | {
        window: at + 1 for at, window in enumerate(sorted({(x.window_us, x.hop_us) for x in cells} - {(0, 0)}))
    }
    rows = [
        events.select(
            **{
                _KEY: key(events),
                _AT: events[_AT],
                _IS_EVENT: ibis.literal(1, "int8"),
                _EDGE: ibis.literal(0, "int16"),
            },
            **{c.LABEL_ID: ibis.null("int64")},
            **{name: _amount(measure, events) for measure, name in column.items()},
        )
    ]
    rows[0] = rows[0].filter(rows[0][_KEY].notnull())
    for (length, hop), edge in edges.items():
        moment = labels[_AT] - length
        start = moment if hop == 0 else moment - ((moment % hop) + hop) % hop
        rows.append(
            labels.select(
                **{_KEY: key(labels), _AT: start, _IS_EVENT: ibis.literal(0, "int8")},
                **{_EDGE: ibis.literal(edge, "int16"), c.LABEL_ID: labels[c.LABEL_ID].cast("int64")},
                **{name: _nothing(measure) for measure, name in column.items()},
            )
        )
    union = ibis.union(*rows, distinct=False)
    # At one microsecond the probes come first, so they see what lies strictly before.
    so_far = ibis.window(group_by=_KEY, order_by=[_AT, _IS_EVENT], rows=(None, 0))
    running = union.select(
        _IS_EVENT,
        _EDGE,
        c.LABEL_ID,
        **{
            name: (union[name].sum() if measure.kind <= w.SQUARE else union[name].max()).over(so_far).cast("int64")
            for measure, name in column.items()
        },
    )
    probes = running.filter(running[_IS_EVENT] == 0)

    def at_edge(name: str, edge: int) -> Any:
        return probes[name].max(where=probes[_EDGE] == edge)

    found = {}
    for at, cell in enumerate(cells):
        name = column[measures[cell]]
        value = at_edge(name, 0)
        if cell.window_us > 0:
            value = value - at_edge(name, edges[cell.window_us, cell.hop_us])
        found[f"{entity}_{at}_"] = value
    return probes.group_by(c.LABEL_ID).aggregate(**found)


def _nothing(measure: Cell) -> Any:
    return ibis.literal(0, "int64") if measure.kind <= w.SQUARE else ibis.null("int64")


def _amount(measure: Cell, events: ir.Table) -> Any:
    """What an event adds to a measure."""
    value, conditions = events[c.VALUE], [ibis.literal(True)]
    if measure.action is not None:
        conditions.append((events[c.ACTION] == measure.action).fill_null(False))
    if measure.valued:
        conditions.append(value.notnull())
        if measure.low > -float("inf"):
            conditions.append((value >= measure.low).fill_null(False))
        if measure.high < float("inf"):
            conditions.append((value <= measure.high).fill_null(False))
    meets = functools.reduce(operator.and_, conditions)
    match measure.kind:
        case w.COUNT:
            amount = ibis.literal(1, "int64")
        case w.LAST:
            amount = events[_AT]
        case w.FIRST:
            amount = -events[_AT]
        case _:
            limit = w.SUM_LIMIT if measure.kind == w.SUM else w.SQUARE_LIMIT
            steps = ibis.greatest(ibis.least(value / measure.step + 0.5, limit), -limit).floor().cast("int64")
            amount = (steps if measure.kind == w.SUM else steps * steps).fill_null(0)
    return ibis.ifelse(meets, amount, _nothing(measure))


def _finish(formula: Formula, x: Sequence[Any], g: Sequence[Any], now: Any) -> Any:
    """`kernels.windows.finish` as an expression; null for nan."""
    if formula.op in (w.SINCE_LAST, w.SINCE_FIRST):
        since = now - x[0] if formula.op == w.SINCE_LAST else now + x[0]
        return _real(since) / _real(w.DAY_US)
    if formula.op == w.RATE:
        days = ibis.greatest(_real(now + x[1]) / _real(w.DAY_US), 1.0)
        return ibis.ifelse(x[0] > 0, _real(x[0]) / days, 0.0)
    if formula.op == w.SHARE:
        return _real(x[0]) / _positive(g[0])
    if formula.op == w.STD:
        n, mean = _positive(x[2]), _real(x[1]) / _positive(x[2])
        spread = ibis.greatest(_real(x[0]) / n - mean * mean, 0.0).sqrt() * formula.scale
        return ibis.ifelse(x[2] >= 2, spread, ibis.null("float64"))
    top = _real(x[0]) * formula.scale
    if formula.op == w.AMOUNT:
        return top
    plain = top / _positive(x[1])
    if formula.strength == 0.0:
        return plain
    centre = _real(g[0]) * formula.scale / _positive(g[1]) if g else _real(formula.prior)
    shrunk = (top + centre * formula.strength) / (_real(x[1]) + formula.strength)
    return ibis.coalesce(shrunk, plain)


def _real(number: Any) -> Any:
    return ibis.literal(float(number), "float64") if isinstance(number, int | float) else number.cast("float64")


def _positive(count: Any) -> Any:
    # Null instead of a division by zero, which engines answer differently.
    return _real(count).nullif(0.0)
