"""Ten thousand small logs, with late events, corrections, ties, duplicates and nulls, judged on every engine."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from feature_oracle import (
    ACTIONS,
    BEGIN,
    CATEGORIES,
    DAY,
    N_ITEMS,
    N_USERS,
    PEOPLE,
    QUERIES,
    SURFACES,
    Ask,
    Record,
    agree,
    name_of,
    plain,
    spelt,
)

from honeyguide.contracts import RETRACT, TablesEngine
from honeyguide.engines.tables.duckdb import DuckDBTables
from honeyguide.features.asof_buckets import as_of_buckets
from honeyguide.features.asof_ibis import as_of_table, with_versions
from honeyguide.features.definition import FeatureSet
from honeyguide.schema import columns as c

ENTITIES: tuple[dict[str, object], ...] = (
    {"entity": "user"},
    {"entity": "item"},
    {"entity": "user_item"},
    {"entity": "item_context", "context": "surface"},
    {"entity": "item_context", "context": "hour", "band_hours": 6, "utc_offset_hours": -3.5},
    {"entity": "query_item"},
)
ALONE: tuple[dict[str, object], ...] = (
    {"aggregate": "count"},
    {"aggregate": "count", "window_days": 1, "action": "view"},
    {"aggregate": "sum", "window_days": 2.5, "hop": "5min", "expires_days": 3},
    {"aggregate": "std"},
    {"aggregate": "mean", "window_days": 1, "hop": "day", "prior": 0.25, "strength": 2},
    {"aggregate": "ratio", "action": "rating", "min_value": 4, "prior": 0.5, "strength": 1},
    {"aggregate": "ratio", "action": "buy", "of_action": "*", "window_days": 0.5},
    {"aggregate": "trend", "window_days": 1, "of_days": 5},
    {"aggregate": "recency", "max_value": 2},
    {"aggregate": "tenure", "expires_days": 0.5},
    {"aggregate": "rate"},
    {"aggregate": "distinct", "of": "item", "window_days": 2.5},
    {"aggregate": "distinct", "of": "category", "window_days": 1},
    {"aggregate": "distinct", "of": "user"},
    {"aggregate": "count", "half_life_days": 0.25},
    {"aggregate": "mean", "half_life_days": 2, "min_value": 1},
    {"aggregate": "ratio", "action": "buy", "of_action": "*", "half_life_days": 2},
    {"aggregate": "mean", "last": 2, "prior": 0.25, "strength": 1},
    {"aggregate": "max", "last": 3, "action": "rating"},
    {"aggregate": "std", "last": 3},
    {"aggregate": "ratio", "last": 1, "action": "view", "of_action": "*"},
)
AMONG_ALL: tuple[dict[str, object], ...] = (
    {"aggregate": "share", "window_days": 2},
    {"aggregate": "share", "half_life_days": 2},
    {"aggregate": "mean", "prior": "overall", "strength": 2},
    {"aggregate": "mean", "half_life_days": 1, "prior": "overall", "strength": 2},
    {"aggregate": "trend", "window_days": 1, "of_days": 5, "prior": "overall", "strength": 3},
    {"aggregate": "ratio", "min_value": 3, "window_days": 2.5, "prior": "overall", "strength": 1},
)


def features_of(bodies: tuple[dict[str, object], ...], entities: tuple[dict[str, object], ...]) -> FeatureSet:
    return FeatureSet.from_config(
        [{"name": f"f{i}_{j}"} | entity | body for i, entity in enumerate(entities) for j, body in enumerate(bodies)]
    )


def random_records(rng: np.random.Generator, n: int) -> list[Record]:
    """Times on a coarse grid, so that many are equal, and on the edges of windows."""
    made: list[Record] = []
    days = np.array([0, 0.01, 1 / 24, 0.5, 1, 1.5, 2, 3, 4, 5, 10])
    delays = [0, 0, 0, 1, 60_000_000, DAY // 24, DAY // 2, DAY, 3 * DAY]
    for _ in range(n):
        at = BEGIN + int(rng.choice(days) * DAY) + int(rng.integers(-1, 2))
        roots = [k for k, row in enumerate(made) if row.corrects is None]
        root = int(rng.choice(roots)) if roots and rng.random() < 0.25 else None
        user = int(rng.integers(0, N_USERS)) if root is None else made[root].user
        action = RETRACT if root is not None and rng.random() < 0.4 else str(rng.choice(ACTIONS))
        value = float(rng.integers(-4, 21)) / 2 if rng.random() < 0.7 else float("nan")
        made.append(
            Record(
                at, at + int(rng.choice(delays)), user, int(rng.integers(0, N_ITEMS)), action, value,
                SURFACES[rng.integers(len(SURFACES))], QUERIES[rng.integers(len(QUERIES))], root,
            )
        )  # fmt: skip
    return made


def random_ask(rng: np.random.Generator, rows: list[Record]) -> Ask:
    at = int(rng.choice([row.at for row in rows] or [BEGIN])) + int(rng.choice([-1, 0, 1, DAY // 2, DAY, 5 * DAY]))
    user, item = int(rng.integers(-1, N_USERS)), int(rng.integers(-1, N_ITEMS))
    return Ask(at, user, item, SURFACES[rng.integers(len(SURFACES))], QUERIES[rng.integers(len(QUERIES))])


def tables(cases: list[tuple[list[Record], list[Ask]]]) -> tuple[pa.Table, pa.Table, dict[str, pa.Table]]:
    """All cases in one: each has people and items of its own. Some rows are there twice."""
    time = pa.timestamp("us", tz="UTC")

    def column(cells: list[object], kind: pa.DataType) -> pa.Array:
        return pa.array(cells, pa.int64()).cast(kind) if kind == time else pa.array(cells, kind)

    def at(case: int, who: str, row: int) -> str | None:
        return None if row < 0 else f"{case}{who}{row}"

    events = [(k, n, r) for k, (rows, _) in enumerate(cases) for n, r in enumerate(rows)]
    events += events[::7]
    log = {
        c.EVENT_ID: ([f"{k}{name_of(n)}" for k, n, _ in events], pa.string()),
        c.USER_ID: ([at(k, "u", r.user) for k, _, r in events], pa.string()),
        c.ITEM_ID: ([at(k, "i", r.item) for k, _, r in events], pa.string()),
        c.ACTION: ([r.action for _, _, r in events], pa.string()),
        c.VALUE: ([None if np.isnan(r.value) else r.value for _, _, r in events], pa.float64()),
        c.HAPPENED_AT: ([r.at for _, _, r in events], time),
        c.KNOWN_AT: ([r.known for _, _, r in events], time),
        c.SURFACE: ([r.surface for _, _, r in events], pa.string()),
        c.QUERY: ([spelt(r.query) for _, _, r in events], pa.string()),
        c.CORRECTS: ([None if r.corrects is None else f"{k}{name_of(r.corrects)}" for k, _, r in events], pa.string()),
    }
    asked = [(k, one) for k, (_, asks) in enumerate(cases) for one in asks]
    labels = {
        c.LABEL_ID: (list(range(len(asked))), pa.int64()),
        c.USER_ID: ([at(k, "u", one.user) for k, one in asked], pa.string()),
        c.ITEM_ID: ([at(k, "i", one.item) for k, one in asked], pa.string()),
        c.HAPPENED_AT: ([one.at for _, one in asked], time),
        c.SURFACE: ([one.surface for _, one in asked], pa.string()),
        c.QUERY: ([spelt(one.query) for _, one in asked], pa.string()),
    }
    facets = {}
    for facet, of in (("category", CATEGORIES), ("people", PEOPLE)):
        pairs = [(at(k, "i", item), code) for k in range(len(cases)) for item, own in enumerate(of) for code in own]
        facets[facet] = pa.table({c.ITEM_ID: [one for one, _ in pairs], facet: [str(code) for _, code in pairs]})

    def made(columns: dict) -> pa.Table:
        return pa.table({str(name): column(list(cells), kind) for name, (cells, kind) in columns.items()})

    return made(log), made(labels), facets


def judge(engine: TablesEngine, features: FeatureSet, cases: list[tuple[list[Record], list[Ask]]]) -> None:
    log, labels, facets = tables(cases)
    codes = {name: engine.table(table) for name, table in facets.items()}
    events = with_versions(engine.table(log))
    asked_of = engine.table(labels)
    expression = as_of_table(features, events, asked_of, codes=codes, real="float64")
    result = engine.arrow(expression).sort_by(str(c.LABEL_ID))
    asked = [(rows, one) for rows, asks in cases for one in asks]
    assert result[c.LABEL_ID].to_pylist() == list(range(len(asked)))
    assert result.column_names == [c.LABEL_ID, *features.names]
    got = numbers(result, features)
    by_kernel = as_of_buckets(features, engine, events, asked_of, ACTIONS, codes=facets)
    other = engine.arrow(by_kernel).sort_by(str(c.LABEL_ID))
    assert other[c.LABEL_ID].to_pylist() == list(range(len(asked)))
    np.testing.assert_allclose(numbers(other, features), got, rtol=2e-7, atol=1e-7)
    want = np.array([[plain(feature, rows, one) for feature in features] for rows, one in asked], np.float64)
    agree(got, want, features)


def numbers(table: pa.Table, features: FeatureSet) -> np.ndarray:
    return np.column_stack(
        [table[name].combine_chunks().fill_null(float("nan")).to_numpy(False) for name in features.names]
    )


def some_cases(seed: int, n: int, most: int) -> list[tuple[list[Record], list[Ask]]]:
    rng = np.random.default_rng(seed)
    cases = []
    for _ in range(n):
        rows = random_records(rng, int(rng.integers(0, most)))
        cases.append((rows, [random_ask(rng, rows)]))
    return cases


@pytest.mark.parametrize("at", [1, 3])
def test_duckdb_says_what_plain_loops_say(at: int) -> None:
    with DuckDBTables() as tables:
        judge(tables, features_of(ALONE[at % 2 :: 2], ENTITIES[at : at + 1]), some_cases(at, 60, 14))


@pytest.mark.heavy
def test_an_engine_compares_with_everybody_as_plain_loops_do(engine: TablesEngine) -> None:
    rng = np.random.default_rng(5)
    rows = random_records(rng, 120)
    features = features_of(AMONG_ALL, ENTITIES[:2])
    judge(engine, features, [(rows, [random_ask(rng, rows) for _ in range(60)])])


@pytest.mark.heavy
@pytest.mark.parametrize("at", range(len(ENTITIES)), ids=lambda at: "_".join(map(str, ENTITIES[at].values())))
def test_ten_thousand_cases(engine: TablesEngine, at: int) -> None:
    judge(engine, features_of(ALONE, ENTITIES[at : at + 1]), some_cases(100 + at, 1_667, 12))
