"""One body for every engine: what `TablesEngine` promises."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import ibis
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from honeyguide.contracts import TablesEngine
from honeyguide.engines.tables.duckdb import DuckDBConfig, DuckDBTables
from honeyguide.engines.tables.snapshot import content_hash
from honeyguide.engines.tables.sqlite_file import read_sqlite
from honeyguide.errors import DataError, RequestError, ResourceError


def _java() -> str | None:
    try:
        import pyspark  # noqa: F401
    except ImportError:
        return "pyspark is not installed (pip install 'honeyguide[spark]')"
    return None if shutil.which("java") else "no Java runtime on the PATH, which Spark needs"


@pytest.fixture(
    scope="module",
    params=[
        "duckdb",
        pytest.param("spark", marks=[pytest.mark.heavy, pytest.mark.skipif(_java() is not None, reason=str(_java()))]),
    ],
)
def engine(request):
    if request.param == "duckdb":
        made: TablesEngine = DuckDBTables()
    else:
        from honeyguide.engines.tables.spark import SparkTables

        made = SparkTables()
    yield made
    made.close()


ROWS = pa.table(
    {
        "at": pa.array([3, None, 1, 2], pa.timestamp("us", tz="UTC")),
        "who": pa.array(["a", None, "ü", ""]),
        "tags": pa.array([["x", "y"], None, [], ["z"]], pa.list_(pa.string())),
        "value": pa.array([1.5, None, float("inf"), -0.0]),
        "n": pa.array([1, 2, 3, 4], pa.int64()),
        "ok": pa.array([True, None, False, True]),
    }
)


def test_a_table_comes_back_as_it_went_in(engine):
    back = engine.arrow(engine.table(ROWS, "rows").order_by("n"))
    assert back.equals(ROWS.cast(back.schema))
    assert content_hash(back) == content_hash(ROWS)


def test_nan_stays_nan_and_null_stays_null(engine):
    back = engine.arrow(engine.table(pa.table({"n": [1, 2], "x": pa.array([float("nan"), None])})).order_by("n"))
    assert [value.as_py() is None for value in back["x"]] == [False, True]


def test_written_parquet_is_one_zstd_file_and_reads_back(engine, tmp_path: Path):
    path = tmp_path / "rows.parquet"
    engine.write(engine.table(ROWS).order_by("n"), path)
    assert [p.name for p in tmp_path.iterdir()] == ["rows.parquet"]
    assert pq.ParquetFile(path).metadata.row_group(0).column(0).compression == "ZSTD"
    assert content_hash(pq.ParquetFile(path)) == content_hash(ROWS)
    twice = engine.arrow(engine.parquet([path, path], "rows").count().name("n").as_table())
    assert twice["n"].to_pylist() == [8]


def test_the_same_expression_gives_the_same_rows(engine):
    table = engine.table(ROWS)
    query = (
        table.filter(table.n > 1)
        .mutate(key=table.who.hexdigest("md5"), rank=ibis.row_number().over(order_by=table.n.desc()))
        .order_by("n")
        .select("n", "key", "rank")
    )
    rows = engine.arrow(query).to_pylist()
    assert [row["n"] for row in rows] == [2, 3, 4]
    assert [row["rank"] for row in rows] == [2, 1, 0]
    assert rows[2]["key"] == "d41d8cd98f00b204e9800998ecf8427e"  # md5 of nothing
    assert rows[0]["key"] is None


def test_sql_runs_one_select(engine):
    answer = engine.sql("SELECT sum(n) AS total FROM shop WHERE ok", {"shop": engine.table(ROWS)})
    assert answer["total"].to_pylist() == [5]


@pytest.mark.parametrize("query", ["drop table shop", "select nope from shop", "select 1 from nowhere", "", "sel"])
def test_sql_refuses_the_rest_in_a_sentence(engine, query):
    with pytest.raises(RequestError) as caught:
        engine.sql(query, {"shop": engine.table(ROWS)})
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read(engine, tmp_path: Path):
    (tmp_path / "empty.parquet").touch()
    pq.write_table(ROWS, tmp_path / "rows.parquet")
    (tmp_path / "cut.parquet").write_bytes((tmp_path / "rows.parquet").read_bytes()[:-30])
    for bad in (tmp_path / "none.parquet", tmp_path / "empty.parquet", tmp_path / "cut.parquet", []):
        with pytest.raises(DataError):
            engine.parquet(bad)


def test_a_failed_write_leaves_the_old_file(engine, tmp_path: Path):
    path = tmp_path / "rows.parquet"
    engine.write(engine.table(ROWS), path)
    before = path.read_bytes()
    table = engine.table(pa.table({"s": ["1", "x"]}))
    with pytest.raises(DataError):
        engine.write(table.mutate(n=table.s.cast("int64")), path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["rows.parquet"]


def test_duckdb_spills_and_keeps_its_folder_clean(tmp_path: Path):
    with DuckDBTables(DuckDBConfig(memory_gb=0.06, threads=1, temp_folder=tmp_path)) as tables:
        numbers = ibis.range(0, 1_000_000).unnest().name("n").as_table()
        ordered = numbers.mutate(key=numbers.n.cast("string").hexdigest("md5")).order_by("key")
        tables.write(ordered, tmp_path / "out.parquet")
    assert pq.ParquetFile(tmp_path / "out.parquet").metadata.num_rows == 1_000_000
    assert [p.name for p in tmp_path.iterdir()] == ["out.parquet"]


def test_duckdb_out_of_memory_is_a_resource_error(tmp_path: Path):
    with DuckDBTables(DuckDBConfig(memory_gb=0.02, threads=1, temp_folder=tmp_path)) as tables:
        numbers = ibis.range(0, 3_000_000).unnest().name("n").as_table()
        with pytest.raises(ResourceError):
            tables.arrow(numbers.aggregate(everything=numbers.n.cast("string").collect()))


def test_sqlite_is_read_without_an_extension(tmp_path: Path):
    path = tmp_path / "facts.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE f (id INTEGER, name TEXT)")
    connection.executemany("INSERT INTO f VALUES (?, ?)", [(1, "Amélie"), (2, None)])
    connection.commit()
    connection.close()
    assert read_sqlite(path, "SELECT * FROM f ORDER BY id").to_pydict() == {"id": [1, 2], "name": ["Amélie", None]}
    assert read_sqlite(path, "SELECT id FROM f WHERE id > 9").num_rows == 0
    (tmp_path / "text.db").write_text("not a database, only some text that is long enough to have a header" * 20)
    for bad, query in (
        (tmp_path / "none.db", "SELECT 1"),
        (tmp_path / "text.db", "SELECT * FROM f"),
        (path, "SELECT z"),
    ):
        with pytest.raises(DataError):
            read_sqlite(bad, query)
