"""One body for every engine: what `TablesEngine` promises."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import ibis
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from honeyguide.contracts import TablesEngine
from honeyguide.engines.tables.duckdb import DuckDBConfig, DuckDBTables
from honeyguide.engines.tables.snapshot import content_hash
from honeyguide.engines.tables.sqlite_file import read_sqlite
from honeyguide.errors import DataError, ResourceError

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


def _in_utc(engine):
    moments = [1_700_006_399_999_999, 1_700_006_400_000_000, -1]
    table = engine.table(pa.table({"at": pa.array(moments, pa.timestamp("us", "UTC"))}))
    day = table["at"].truncate("D").cast("string").left(10)
    found = table.select(
        us=table["at"], date=table["at"].date().cast("string"), hour=table["at"].hour(), day=day
    ).order_by("us")
    rows = engine.arrow(found).to_pylist()
    days = ["1969-12-31", "2023-11-14", "2023-11-15"]
    return [row["date"] for row in rows] == [row["day"] for row in rows] == days and [row["hour"] for row in rows] == [
        23,
        23,
        0,
    ]


def test_days_and_hours_are_those_of_utc(engine):
    assert _in_utc(engine)


def test_the_zone_of_the_machine_changes_nothing(monkeypatch):
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        with DuckDBTables() as fresh:
            assert _in_utc(fresh)
    finally:
        monkeypatch.undo()
        time.tzset()


def test_pieces_come_in_order_and_are_all_there(engine):
    many = pa.table({"n": np.random.default_rng(1).permutation(300_000)})
    pieces = list(engine.batches(engine.table(many).order_by("n")))
    assert len(pieces) > 1
    assert np.array_equal(np.concatenate([piece["n"].to_numpy() for piece in pieces]), np.arange(300_000))
    nothing = engine.table(many).filter(ibis._.n < 0)
    assert sum(piece.num_rows for piece in engine.batches(nothing)) == 0


def test_a_large_result_is_written_in_its_order(engine, tmp_path: Path):
    many = pa.table({"n": np.random.default_rng(1).permutation(300_000)})
    engine.write(engine.table(many).order_by("n"), tmp_path / "ordered.parquet")
    assert np.array_equal(pq.read_table(tmp_path / "ordered.parquet")["n"].to_numpy(), np.arange(300_000))
    engine.write(engine.table(many).filter(ibis._.n < 0), tmp_path / "none.parquet")
    assert pq.read_table(tmp_path / "none.parquet").schema.names == ["n"]


def test_rows_are_numbered_as_the_files_hold_them(engine, tmp_path: Path):
    folder = tmp_path / "odd [1] {a}* ü%20'x"
    folder.mkdir()
    names = [f"f?[{at}] +.parquet" for at in (2, 0, 1)]
    for at, name in enumerate(names):
        rows = pa.table({"n": pa.array(range(at * 1000, at * 1000 + 1000))})
        pq.write_table(rows.slice(0, 0 if at == 1 else 1000), folder / name, row_group_size=130)
    (folder / "f.parquet").write_bytes(b"a pattern would match this one")
    numbered = engine.arrow(engine.parquet([folder / name for name in names], numbered="at").order_by("at"))
    assert numbered["at"].to_pylist() == list(range(2000))
    assert numbered["n"].to_pylist() == [*range(1000), *range(2000, 3000)]
    one = engine.arrow(engine.parquet(folder / names[2], numbered="at").filter(ibis._.n == 2007))
    assert one.to_pylist() == [{"n": 2007, "at": 7}]


def _spread() -> Callable[[pa.Table], pa.Table]:
    # Made here, so that it travels to the executors whole: they cannot import a test.
    def counted(rows: pa.Table) -> pa.Table:
        keys = rows["key"].to_pylist()
        found = sorted(set(keys), key=str)
        counts = [keys.count(key) for key in found]
        here, bucket = [os.getpid()] * len(found), [min(map(str, keys))] * len(found)
        return pa.table({"key": found, "rows": counts, "process": here, "bucket": bucket})

    return counted


SPREAD = pa.schema([("key", pa.string()), ("rows", pa.int64()), ("process", pa.int64()), ("bucket", pa.string())])


def test_every_key_is_in_one_bucket(engine):
    keys = [None, *(f"k{at % 97}" for at in range(2000)), None]
    found = engine.arrow(engine.in_buckets(engine.table(pa.table({"key": keys})), "key", _spread(), SPREAD))
    assert sorted(found["key"].to_pylist(), key=str) == sorted(set(keys), key=str)
    assert dict(zip(found["key"].to_pylist(), found["rows"].to_pylist(), strict=True)) == {
        key: keys.count(key) for key in set(keys)
    }
    if engine.name == "spark":
        processes = set(found["process"].to_pylist())
        assert len(processes) == 2
        assert os.getpid() not in processes
    none = engine.in_buckets(engine.table(pa.table({"key": pa.array([], pa.string())})), "key", _spread(), SPREAD)
    assert engine.arrow(none).num_rows == 0


def test_a_bucket_holds_about_as_many_rows_as_it_may():
    with DuckDBTables(DuckDBConfig(bucket_rows=100)) as tables:
        rows = tables.table(pa.table({"key": [f"k{at % 97}" for at in range(1000)] + [None]}))
        found = tables.arrow(tables.in_buckets(rows, "key", _spread(), SPREAD))
    assert sum(found["rows"].to_pylist()) == 1001
    assert len(set(found["bucket"].to_pylist())) > 5


def test_a_function_that_breaks_its_promise_is_refused(engine):
    rows = engine.table(pa.table({"key": ["a"]}))
    with pytest.raises(DataError, match="other"):
        engine.arrow(engine.in_buckets(rows, "key", lambda rows: rows, pa.schema([("other", pa.int64())])))


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


def test_hashes_of_several_values_tell_rows_apart(engine: TablesEngine) -> None:
    rows = [("a", "b"), ("b", "a"), ("a", "a"), ("ab", ""), ("", "ab"), ("a", None), (None, None), ("a", "b")]
    table = engine.table(pa.table({"one": [one for one, _ in rows], "two": [two for _, two in rows]}))
    found = engine.arrow(table.mutate(key=engine.hash64(table["one"], table["two"])))
    keys: dict[tuple[str | None, str | None], set[int]] = {}
    for row in found.to_pylist():
        keys.setdefault((row["one"], row["two"]), set()).add(row["key"])
    assert all(len(of) == 1 for of in keys.values())
    assert len(set().union(*keys.values())) == len(set(rows))
