"""Views for analysis: events, sessions, funnels, retention, catalog health, search traffic, delays.

Takes: Events, Items, Impressions and `[actions]`. Gives: one Ibis expression per view, the same on every tables
engine; or one SQL statement per view for an engine that holds views. Never: writes anything.

Times are UTC. The last day of a log is not over, so what would need it is "not yet known", never 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import ibis

from honeyguide.flows.analysis import catalog, people, searches, shown
from honeyguide.flows.analysis.view import BASE, Scope, View, named, typed

if TYPE_CHECKING:
    import ibis.expr.types as ir

__all__ = ["BASE", "VIEWS", "View", "expressions", "statements"]

VIEWS: dict[str, View] = {view.name: view for view in (*shown.VIEWS, *people.VIEWS, *catalog.VIEWS, *searches.VIEWS)}
"""Every view by name."""

_SQL_TYPES = {
    "string": "VARCHAR", "json": "VARCHAR", "bool": "BOOLEAN", "int32": "INTEGER", "int64": "BIGINT",
    "float64": "DOUBLE", "date": "DATE", "timestamp": "TIMESTAMPTZ",
}  # fmt: skip


def expressions(tables: Mapping[str, ir.Table], weights: Mapping[str, float]) -> dict[str, ir.Table]:
    """Every view over `raw_events`, `all_items` and `impressions` of one engine; `weights` is `[actions]`."""
    scope = Scope(tables, VIEWS, weights, by_name=False)
    return {name: scope[name] for name in VIEWS}


def statements(names: Iterable[str], weights: Mapping[str, float]) -> dict[str, str]:
    """A SELECT of DuckDB for each named view and for those that they read, each after what it reads.

    They read one another, and `raw_events`, `all_items` and `impressions`, by these names.
    """
    base = {name: named(table, name) for name, table in BASE.items()}
    made: dict[str, str] = {}

    def make(name: str) -> None:
        if name in made or name not in VIEWS:
            return
        scope = Scope(base, VIEWS, weights, by_name=True)
        expression = typed(VIEWS[name], VIEWS[name].of(scope))
        for other in sorted(scope.read):
            make(other)
        # DuckDB sums whole numbers in 128 bits; whoever asks gets what the columns declare.
        columns = ", ".join(f'CAST("{col}" AS {_SQL_TYPES[col.dtype]}) AS "{col}"' for col in VIEWS[name].columns)
        made[name] = f"SELECT {columns} FROM ({ibis.to_sql(expression, dialect='duckdb')})"

    for name in names:
        make(name)
    return made
