"""Snapshots: the hash is the content's alone, and a failed write changes nothing."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from honeyguide.engines.tables.duckdb import DuckDBTables
from honeyguide.engines.tables.snapshot import Snapshots, content_hash
from honeyguide.errors import DataError, NotFoundError

cells = {
    "s": st.none() | st.text(max_size=4),
    "f": st.none() | st.floats(),
    "i": st.none() | st.integers(-(2**62), 2**62),
    "b": st.none() | st.booleans(),
    "l": st.none() | st.lists(st.none() | st.text(max_size=2), max_size=3),
}
TYPES = {"s": pa.string(), "f": pa.float64(), "i": pa.int64(), "b": pa.bool_(), "l": pa.list_(pa.string())}
rows = st.lists(st.fixed_dictionaries(cells), max_size=12)


def _table(data: list[dict[str, object]]) -> pa.Table:
    return pa.table({name: pa.array([row[name] for row in data], kind) for name, kind in TYPES.items()})


@settings(max_examples=60, deadline=None)
@given(rows, st.integers(1, 5))
def test_the_hash_does_not_see_chunks_dictionaries_or_row_groups(tmp_path_factory, data, chunk):
    table = _table(data)
    expected = content_hash(table)
    assert content_hash(pa.Table.from_batches(table.to_batches(max_chunksize=chunk), table.schema)) == expected
    coded = table.set_column(0, "s", table["s"].dictionary_encode()).set_column(
        4, "l", table["l"].cast(pa.large_list(pa.large_string()))
    )
    assert content_hash(coded) == expected
    path = tmp_path_factory.mktemp("hash") / "t.parquet"
    pq.write_table(table, path, row_group_size=chunk, compression="gzip", use_dictionary=chunk % 2 == 0)
    assert content_hash(pq.ParquetFile(path)) == expected


def _plain(value: object) -> object:
    return "nan" if isinstance(value, float) and value != value else (str(value) if isinstance(value, float) else value)


@settings(max_examples=60, deadline=None)
@given(rows, rows)
def test_equal_hashes_mean_equal_rows(left, right):
    same = [{k: _plain(v) for k, v in row.items()} for row in left] == [
        {k: _plain(v) for k, v in row.items()} for row in right
    ]
    assert (content_hash(_table(left)) == content_hash(_table(right))) == same


def test_neighbouring_values_do_not_run_together():
    assert content_hash(pa.table({"s": ["ab", "c"]})) != content_hash(pa.table({"s": ["a", "bc"]}))
    assert content_hash(pa.table({"s": ["", None]})) != content_hash(pa.table({"s": [None, ""]}))
    assert content_hash(pa.table({"s": ["a"]})) != content_hash(pa.table({"t": ["a"]}))
    assert content_hash(pa.table({"s": pa.array([1], pa.int32())})) != content_hash(pa.table({"s": [1]}))


def test_versions_are_kept_found_restored_and_collected(tmp_path: Path):
    shots = Snapshots(tmp_path)
    first = shots.write("counts", pa.table({"n": [1]}))
    assert (first.rows, first.schema) == (1, {"n": "int64"})
    assert shots.write("counts", pa.table({"n": [1]})).id == first.id, "the same content writes nothing"
    second = shots.write("counts", pa.table({"n": [1, 2]}))
    assert shots.current("counts") == second
    assert shots.paths("counts") == second.paths == [second.path]
    assert shots.read("counts").to_pydict() == {"n": [1, 2]}
    assert shots.read("counts", first.id).to_pydict() == {"n": [1]}
    assert [s.id for s in shots.history("counts")] == [first.id, second.id]
    assert json.loads((tmp_path / "counts" / f"{second.id}.json").read_text())["sha256"] == second.sha256
    assert second.sha256 == content_hash(pa.table({"n": [1, 2]}))
    shots.restore("counts", first.id)
    third = shots.write("counts", pa.table({"n": [3]}))
    fourth = shots.write("counts", pa.table({"n": [4]}))
    assert shots.collect("counts", keep=1, pinned=[first.id]) == [second.id, third.id]
    assert [s.id for s in shots.history("counts")] == [first.id, fourth.id]
    assert {p.name for p in (tmp_path / "counts").glob("*.parquet")} == {first.path.name, fourth.path.name}
    assert shots.names() == ["counts"]


def test_an_expression_and_its_rows_are_the_same_version(tmp_path: Path):
    with DuckDBTables() as engine:
        shots = Snapshots(tmp_path, engine)
        table = pa.table({"n": [3, 1, 2], "s": ["c", "a", "b"]})
        written = shots.write("t", engine.table(table).order_by("n"))
        assert shots.write("t", table.sort_by("n")).id == written.id
    with pytest.raises(DataError):
        Snapshots(tmp_path / "other").write("t", engine.table(table))


def test_what_is_not_there(tmp_path: Path):
    shots = Snapshots(tmp_path)
    assert shots.find("counts") is None
    for call in (lambda: shots.current("counts"), lambda: shots.read("counts"), lambda: shots.version("counts", "x")):
        with pytest.raises(NotFoundError):
            call()
    with pytest.raises(DataError):
        shots.write("../escape", pa.table({"n": [1]}))
    path = shots.write("counts", pa.table({"n": list(range(1000))})).path
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(DataError):
        shots.read("counts")


@pytest.mark.parametrize("expression", [False, True])
def test_a_full_disk_keeps_the_version_in_force(tmp_path: Path, expression: bool):
    # A limit on the size of files makes the kernel refuse the write, as a full disk does.
    Snapshots(tmp_path).write("counts", pa.table({"n": [1]}))
    code = f"""
import numpy as np, pyarrow as pa
from honeyguide.engines.tables.duckdb import DuckDBTables
from honeyguide.engines.tables.snapshot import Snapshots
from honeyguide.errors import ResourceError
from pathlib import Path
engine = DuckDBTables()
data = pa.table({{"n": np.random.default_rng(0).random(200_000)}})
try:
    Snapshots(Path({str(tmp_path)!r}), engine).write("counts", engine.table(data) if {expression} else data)
except ResourceError as error:
    print("refused:", error)
"""
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))  # noqa: E731
    done = subprocess.run(
        [sys.executable, "-c", code], preexec_fn=limit, capture_output=True, text=True, env=os.environ
    )
    assert done.stdout.startswith("refused:"), done.stderr
    assert Snapshots(tmp_path).read("counts").to_pydict() == {"n": [1]}
    assert not list((tmp_path / "counts").glob(".*.tmp"))
