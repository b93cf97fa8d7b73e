"""What a view is, and where it finds what it reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ibis

from honeyguide.intake.actions import impressions_among
from honeyguide.schema.columns import Column
from honeyguide.schema.tables import EVENTS, IMPRESSIONS, ITEMS, Table

if TYPE_CHECKING:
    import ibis.expr.types as ir

__all__ = [
    "ALL_EVENTS",
    "ALL_ITEMS",
    "BASE",
    "Scope",
    "View",
    "microseconds",
    "monday",
    "named",
    "real",
    "seconds",
    "share",
    "typed",
    "whole",
]

RAW_EVENTS, ALL_EVENTS, ALL_ITEMS = "raw_events", "all_events", "all_items"

_TYPES = {
    "string": "string", "int32": "int32", "int64": "int64", "float64": "float64", "bool": "boolean", "date": "date",
    "timestamp": "timestamp('UTC', 6)", "list<string>": "array<string>", "list<float64>": "array<float64>",
    "json": "string",
}  # fmt: skip


@dataclass(frozen=True)
class View:
    """A table that is computed when asked for. `of` makes its expression of what a scope holds; columns in order."""

    name: str
    meaning: str
    key: tuple[Column, ...]
    columns: tuple[Column, ...]
    of: Callable[[Scope], ir.Table]
    kept: bool = True  # whether it is computed once for all questions of a report: not if it is as long as the log


BASE: dict[str, Table] = {RAW_EVENTS: EVENTS, ALL_ITEMS: ITEMS, IMPRESSIONS.name: IMPRESSIONS}
"""What all views begin with, and the tables whose columns these have: the tables' rows with those that the log has
brought since."""


class Scope:
    """What a view may read: the base tables, `[actions]`, and other views.

    `by_name`: other views stay names (for engines that hold views); otherwise their expressions are put in.
    `read` tells which were asked for.
    """

    def __init__(
        self, tables: Mapping[str, ir.Table], views: Mapping[str, View], weights: Mapping[str, float], *, by_name: bool
    ) -> None:
        self.weights = dict(weights)
        self.shown_actions = impressions_among(weights)
        self.read: set[str] = set()
        # The same types everywhere: one engine knows which columns may be null, another does not.
        self._tables = {name: typed(BASE[name], table) for name, table in tables.items()}
        self._views, self._by_name = views, by_name

    def __getitem__(self, name: str) -> ir.Table:
        self.read.add(name)
        if name not in self._tables:
            view = self._views[name]
            self._tables[name] = named(view, name) if self._by_name else typed(view, view.of(self))
        return self._tables[name]

    def is_showing(self, action: Any) -> Any:
        """Whether an event's action says that something was shown."""
        return action.isin(self.shown_actions) if self.shown_actions else ibis.literal(False)

    def weight(self, action: Any) -> Any:
        """The weight of an event's action, 0 for one that `[actions]` does not know."""
        told = [(name, real(weight)) for name, weight in self.weights.items() if weight]
        return action.cases(*told, else_=real(0)) if told else real(0)


def typed(view: View | Table, made: ir.Table) -> ir.Table:
    """The declared columns in order, each in its declared type; null where an older table has no such column."""

    def column(name: Column) -> Any:
        if name not in made.columns:
            return ibis.null(_TYPES[name.dtype])
        return whole(made[name]) if name.dtype == "int64" else made[name].cast(_TYPES[name.dtype])

    return made.select(**{name: column(name) for name in view.columns})


def named(view: View | Table, name: str) -> ir.Table:
    """The view or table as an engine will find it: by name, with its declared columns."""
    return ibis.table({column: _TYPES[column.dtype] for column in view.columns}, name=name)


def microseconds(later: Any, earlier: Any) -> Any:
    """From one moment to another; exact on every engine."""
    return later.delta(earlier, unit="microsecond")


def real(number: float) -> Any:
    """A float64 literal, through text: one engine would read its digits as a decimal number, and round twice."""
    return ibis.literal(repr(float(number))).cast("float64")


def whole(number: Any) -> Any:
    """As int64. Ibis leaves out a cast to the type that it believes is there, and one engine counts in 32 bits."""
    return number.cast("float64").cast("int64")


def monday(day: Any) -> Any:
    """The Monday of a date's week; through a moment, as one engine makes a moment of a truncated date."""
    return day.cast("timestamp('UTC', 6)").truncate("W").date()


def seconds(us: Any) -> Any:
    """Microseconds as seconds."""
    return us.cast("float64") / real(1e6)


def share(part: Any, whole: Any) -> Any:
    """`part` / `whole`, null where there is no whole: engines differ on a division by zero."""
    return part.cast("float64") / whole.cast("float64").nullif(0.0)
