"""Features in SQL, at both ends: which version of an event counts when, and for whom; a value from its cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ibis

from honeyguide.contracts import RETRACT
from honeyguide.features.definition import HOUR, Key
from honeyguide.features.plan import Formula, Operand
from honeyguide.kernels import aggregates as g
from honeyguide.schema import columns as c

if TYPE_CHECKING:
    import ibis.expr.types as ir

__all__ = [
    "AT", "KNOWN", "LABEL", "UNTIL", "Log", "entity_of", "finish", "timed_labels", "told_of", "with_versions",
]  # fmt: skip

# Columns that live inside the expressions only.
LABEL, AT, KNOWN, UNTIL = "label_", "at_us_", "known_us_", "until_us_"
_ROOT = "root_"


def with_versions(events: ir.Table) -> ir.Table:
    """EVENTS rows with the moment until which each counts, for `as_of_table`; rows that count never are left out.

    A row counts until another one of the same person and event id (or that corrects it) is known: the version known
    last counts, of those known at once the one that happened later, then the one with the greatest id and content.
    A RETRACT row takes its event away. So a row that is there twice counts once.
    """
    root = ibis.coalesce(events[c.CORRECTS], events[c.EVENT_ID])
    known = ibis.greatest(_microseconds(events[c.KNOWN_AT]), _microseconds(events[c.HAPPENED_AT]))
    rows = events.mutate(**{_ROOT: root, KNOWN: known, AT: _microseconds(events[c.HAPPENED_AT])})
    order = [rows[KNOWN], rows[AT], rows[c.EVENT_ID], rows[c.ACTION], rows[c.ITEM_ID], rows[c.VALUE]]
    following = ibis.window(group_by=[rows[c.USER_ID], rows[_ROOT]], order_by=order)
    rows = rows.mutate(**{UNTIL: rows[KNOWN].lead().over(following)})
    counts = (rows[c.ACTION] != RETRACT) & (rows[UNTIL].isnull() | (rows[KNOWN] < rows[UNTIL]))
    return rows.filter(counts).drop(_ROOT, KNOWN, AT)


def timed_labels(labels: ir.Table) -> ir.Table:
    """Labels with their id and moment as whole numbers."""
    at = _microseconds(labels[c.HAPPENED_AT]).cast("int64")
    return labels.mutate(**{LABEL: labels[c.LABEL_ID].cast("int64"), AT: at})


@dataclass(frozen=True)
class Log:
    """Events by what is known of their versions, with their times as whole numbers."""

    standing: ir.Table  # with AT and KNOWN; not replaced
    former: ir.Table | None  # with UNTIL too
    late: bool  # whether an event may be known later than it happened

    @classmethod
    def of(cls, events: ir.Table) -> Log:
        """From EVENTS rows, perhaps through `with_versions`."""
        at = _microseconds(events[c.HAPPENED_AT]).cast("int64")
        late = c.KNOWN_AT in events.columns
        known = ibis.greatest(_microseconds(events[c.KNOWN_AT]).cast("int64"), at) if late else at
        told = events.mutate(**{AT: at, KNOWN: known, c.VALUE: _value(events[c.VALUE])})
        if UNTIL not in events.columns:
            return cls(told, None, late)
        return cls(told.filter(told[UNTIL].isnull()), told.filter(told[UNTIL].notnull()), late)

    @property
    def versions(self) -> bool:
        """Whether a label must look at some events one by one."""
        return self.late or self.former is not None

    def all(self) -> ir.Table:
        """Standing and former versions, with an UNTIL that is null for the standing ones."""
        standing = self.standing.mutate(**{UNTIL: ibis.null("int64")})
        if self.former is None:
            return standing
        return ibis.union(standing, self.former.select(*standing.columns), distinct=False)


def entity_of(key: Key | None, table: ir.Table) -> list[Any]:
    """What the rows are grouped by; null in one of them is nobody's."""
    if key is None:
        return [ibis.literal(0, "int8")]
    ids = [table[c.ITEM_ID]] if key.entity != "user" else []
    if key.entity in ("user", "user_item"):
        ids = [table[c.USER_ID], *ids]
    if key.context == HOUR:
        local = table[AT] + key.offset_us
        day = 24 * 3_600_000_000
        return [*ids, (((local % day) + day) % day // key.band_us).cast("int64")]
    return ids if key.context is None else [*ids, table[key.context].nullif("")]


def _microseconds(at: Any) -> Any:
    # Engines differ in what an epoch's fraction, or a cast, gives; a difference in microseconds is one everywhere.
    if at.type().is_integer():
        return at.cast("int64")
    # Without the zone (sessions run in UTC) it costs a third.
    epoch = ibis.literal("1970-01-01 00:00:00").cast("timestamp")
    return at.cast("timestamp").delta(epoch, unit="microsecond").cast("int64")


def _value(value: Any) -> Any:
    # Events travel as float32; a nan is no value.
    value = value.cast("float32").cast("float64")
    return ibis.ifelse(value.isnan(), ibis.null("float64"), value)


def told_of(x: Operand, column: Any) -> Any:
    """An operand's column with what it is where no event was met."""
    if x.cell.kind in (g.LAST, g.FIRST) or x.how in (g.RING_MIN, g.RING_MAX, g.RING_STD):
        return column
    return column.fill_null(0)


def finish(formula: Formula, x: Sequence[Any], of_all: Sequence[Any], now: Any) -> Any:
    """`kernels.aggregates.finish` as an expression; null for nan."""
    if formula.op in (g.SINCE_LAST, g.SINCE_FIRST):
        since = now - x[0] if formula.op == g.SINCE_LAST else now + x[0]
        return _real(since) / _real(g.DAY_US)
    if formula.op == g.RATE:
        days = ibis.greatest(_real(now + x[1]) / _real(g.DAY_US), 1.0)
        return ibis.ifelse(x[0] > 0, _real(x[0]) / days, 0.0)
    if formula.op == g.SHARE:
        return _real(x[0]) / _positive(of_all[0])
    if formula.op == g.STD:
        n, mean = _positive(x[2]), _real(x[1]) / _positive(x[2])
        spread = ibis.greatest(_real(x[0]) / n - mean * mean, 0.0).sqrt() * formula.scale
        return ibis.ifelse(x[2] >= 2, spread, ibis.null("float64"))
    top = _real(x[0]) * formula.scale
    if formula.op == g.AMOUNT:
        return top
    plain = top / _positive(x[1])
    if formula.strength == 0.0:
        return plain
    if of_all:
        centre = _real(of_all[0]) * formula.scale / _positive(of_all[1])
    else:
        centre = _real(formula.prior)
    shrunk = (top + centre * formula.strength) / (_real(x[1]) + formula.strength)
    return ibis.coalesce(shrunk, plain)


def _real(number: Any) -> Any:
    return ibis.literal(float(number), "float64") if isinstance(number, int | float) else number.cast("float64")


def _positive(count: Any) -> Any:
    # Null instead of a division by zero, which engines answer differently.
    return _real(count).nullif(0.0)
