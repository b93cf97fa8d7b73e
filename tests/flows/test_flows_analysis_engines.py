"""Every view gives the same rows on DuckDB and on Spark, from the same expression, and as DuckDB's own statement."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from honeyguide.contracts import TablesEngine
from honeyguide.engines.tables.arrow import plain
from honeyguide.engines.tables.duckdb import Confined, DuckDBTables
from honeyguide.engines.tables.snapshot import content_hash
from honeyguide.flows import analysis

sys.path.insert(0, str(Path(__file__).parent))
from analysis_logs import WEIGHTS, random_log, tables

LOGS = {
    "random": random_log(0),
    "another": random_log(1, people=4),
    "nothing": tables(),
    "no impressions": {**random_log(2), "impressions": tables()["impressions"]},
    "no events": {**random_log(3), "raw_events": tables()["raw_events"]},
}


def shape(name: str) -> pa.Schema:
    view = analysis.VIEWS[name]
    from honeyguide.schema.tables import Table

    return Table(name, "analysis", view.meaning, view.key, view.columns).arrow()


def rows_of(engine: TablesEngine, log: dict[str, pa.Table]) -> dict[str, pa.Table]:
    views = analysis.expressions({name: engine.table(table) for name, table in log.items()}, WEIGHTS)
    order = {name: analysis.VIEWS[name].key for name in views}
    return {name: engine.arrow(view.order_by(order[name])) for name, view in views.items()}


def asked(log: dict[str, pa.Table]) -> dict[str, pa.Table]:
    with Confined({}, log, analysis.statements(analysis.VIEWS, WEIGHTS)) as confined:
        return {
            name: confined.ask(
                f"SELECT * FROM {name} ORDER BY " + ", ".join(f'"{column}" NULLS LAST' for column in view.key)
            ).table
            for name, view in analysis.VIEWS.items()
        }


@pytest.fixture(scope="module")
def spark(java: str) -> Iterator[TablesEngine]:
    from honeyguide.engines.tables.spark import SparkConfig, SparkTables

    made = SparkTables(SparkConfig(master="local[1]", driver_memory_gb=1, shuffle_partitions=1))
    yield made
    made.close()


@pytest.mark.parametrize("log", LOGS)
def test_an_expression_and_its_statement_agree_and_have_the_declared_columns(log: str) -> None:
    with DuckDBTables() as engine:
        said, told = rows_of(engine, LOGS[log]), asked(LOGS[log])
    for name in analysis.VIEWS:
        assert plain(said[name]).schema.names == shape(name).names
        assert [field.type for field in told[name].schema] == [field.type for field in shape(name)], name
        assert content_hash(said[name]) == content_hash(told[name]), name


@pytest.mark.heavy
@pytest.mark.parametrize("log", ["random", "no impressions"])
def test_duckdb_and_spark_agree(spark: TablesEngine, log: str) -> None:
    with DuckDBTables() as engine:
        ours, theirs = rows_of(engine, LOGS[log]), rows_of(spark, LOGS[log])
    for name in analysis.VIEWS:
        assert ours[name].schema.equals(theirs[name].schema), name
        assert content_hash(ours[name]) == content_hash(theirs[name]), name
