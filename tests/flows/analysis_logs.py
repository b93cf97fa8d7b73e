"""Small logs for the views: rows as dictionaries, and what a view makes of them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa

from honeyguide.engines.tables.duckdb import Confined
from honeyguide.flows import analysis
from honeyguide.schema import columns as c
from honeyguide.schema.tables import EVENTS, IMPRESSIONS, ITEMS, Table

BEGIN = dt.datetime(2026, 3, 2, tzinfo=dt.UTC)  # a Monday
WEIGHTS = {"impression": 0.0, "click": 0.3, "save": 0.6, "purchase": 1.0, "hide": -1.0}

Rows = Iterable[Mapping[str, Any]]


def at(day: float = 0, *, hours: float = 0, minutes: float = 0, seconds: float = 0) -> dt.datetime:
    return BEGIN + dt.timedelta(days=day, hours=hours, minutes=minutes, seconds=seconds)


def _table(table: Table, rows: Rows, defaults: Mapping[str, Any]) -> pa.Table:
    return pa.Table.from_pylist([{**defaults, **row} for row in rows], schema=table.arrow())


def events(rows: Rows) -> pa.Table:
    made = []
    for n, row in enumerate(rows):
        made.append({c.EVENT_ID: f"e{n}", c.ACTION: "click", c.ITEM_ID: "i", c.KNOWN_AT: row[c.HAPPENED_AT], **row})
    return _table(EVENTS, made, {})


def impressions(rows: Rows) -> pa.Table:
    made = []
    for n, row in enumerate(rows):
        shown = row.get(c.SHOWN_ITEMS, [])
        made.append({
            c.REQUEST_ID: f"r{n}", c.USER_ID: "", c.SURFACE: "home", c.POLICY_VERSION: "p", c.BUILD_ID: "b",
            c.SHOWN_ITEMS: shown, c.SHOWN_PROPENSITIES: [1.0] * len(shown), c.LIST_PROPENSITY: 1.0, c.STAGE_US: "{}",
            **row,
        })  # fmt: skip
    return _table(IMPRESSIONS, made, {})


def items(rows: Rows) -> pa.Table:
    return _table(ITEMS, rows, {c.AVAILABLE: True, c.KNOWN_AT: BEGIN})


def tables(did: Rows = (), shown: Rows = (), catalog: Rows = ()) -> dict[str, pa.Table]:
    return {"raw_events": events(did), "impressions": impressions(shown), "all_items": items(catalog)}


@cache
def _statements(name: str, weights: tuple[tuple[str, float], ...]) -> dict[str, str]:
    return analysis.statements([name], dict(weights))


def see(name: str, given: Mapping[str, pa.Table], weights: Mapping[str, float] = WEIGHTS) -> list[dict[str, Any]]:
    """The rows of a view on DuckDB, by its key."""
    view = analysis.VIEWS[name]
    with Confined({}, given, _statements(name, tuple(weights.items()))) as confined:
        order = ", ".join(f'"{column}" NULLS FIRST' for column in view.key)
        return confined.ask(f"SELECT * FROM {name} ORDER BY {order}").table.to_pylist()


def random_log(seed: int, people: int = 12, rows: int = 400) -> dict[str, pa.Table]:
    """Ties, nulls, repeats, late and corrected events, anonymous requests, items nobody knows, empty lists."""
    rng = np.random.default_rng(seed)
    actions = list(WEIGHTS)
    did, shown = [], []
    for n in range(rows):
        happened = at(seconds=int(rng.integers(0, 60 * 86_400) // 60 * 60), minutes=int(rng.integers(0, 3)))
        user = f"p{rng.integers(people)}"
        if rng.random() < 0.35:
            words = str(rng.choice(["Red Shoes", "red shoes ", "hat", "ÄPFEL"])) if rng.random() < 0.5 else None
            shown.append({
                c.USER_ID: "" if rng.random() < 0.2 else user, c.HAPPENED_AT: happened, c.QUERY: words,
                c.SURFACE: "search" if words else str(rng.choice(["home", "item"])),
                c.SHOWN_ITEMS: [f"i{rng.integers(9)}" for _ in range(rng.integers(0, 5))],
                c.EXPERIMENT: None if rng.random() < 0.5 else "x=a",
                c.FALLBACK: "slow" if rng.random() < 0.1 else None,
            })  # fmt: skip
            shown[-1][c.SHOWN_PROPENSITIES] = [0.5] * len(shown[-1][c.SHOWN_ITEMS])
            continue
        listed = shown[int(rng.integers(len(shown)))] if shown else None
        of_list = listed is not None and listed[c.SHOWN_ITEMS] and rng.random() < 0.6
        item = str(rng.choice(listed[c.SHOWN_ITEMS])) if listed is not None and of_list else f"i{rng.integers(11)}"
        if listed is not None and of_list:
            happened = listed[c.HAPPENED_AT] + dt.timedelta(minutes=int(rng.integers(0, 2000)))
        did.append({
            c.USER_ID: (listed[c.USER_ID] or user) if listed is not None and of_list else user, c.ITEM_ID: item,
            c.ACTION: str(rng.choice(actions)), c.HAPPENED_AT: happened,
            c.KNOWN_AT: happened + dt.timedelta(seconds=float(rng.choice([0, 1, 90, 7200, 200_000]))),
            c.REQUEST_ID: f"r{shown.index(listed)}" if listed is not None and of_list and rng.random() < 0.5 else None,
            c.POSITION: int(rng.integers(1, 4)) if rng.random() < 0.3 else None,
            c.SURFACE: "home" if rng.random() < 0.3 else None,
            c.CORRECTS: f"e{rng.integers(rows)}" if rng.random() < 0.05 else None,
            c.VALUE: None if n % 3 else 1.5,
        })  # fmt: skip
    catalog = [
        {
            c.ITEM_ID: f"i{n}", c.TITLE: None if n % 4 == 0 else f"Item {n}", c.KNOWN_AT: at(n * 6),
            c.CATEGORIES: [] if n % 3 == 0 else ["a"], c.PRICE: None if n % 2 else 2.5, c.AVAILABLE: n % 5 > 0,
        }
        for n in range(9)
    ]  # fmt: skip
    return tables(did, shown, catalog)
