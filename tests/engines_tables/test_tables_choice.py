"""Which engine, under which limits; and that a limit on memory is one on memory, not on what can be computed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import ibis
import pytest
from pydantic import ValidationError

from honeyguide.engines.tables.choice import EngineConfig, tables_engine
from honeyguide.engines.tables.duckdb import DuckDBConfig, DuckDBTables
from honeyguide.engines.tables.spark import SparkConfig, SparkTables
from honeyguide.errors import ResourceError


def test_the_configured_engine_spills_where_it_is_told(tmp_path: Path) -> None:
    assert isinstance(tables_engine(EngineConfig()), DuckDBTables)
    spark = tables_engine(EngineConfig(tables="spark", spark=SparkConfig(master="local[1]")), tmp_path)
    assert isinstance(spark, SparkTables)
    assert (spark.config.master, spark.config.temp_folder, spark.remote) == ("local[1]", tmp_path, True)
    own = EngineConfig(duckdb=DuckDBConfig(temp_folder=tmp_path / "own", memory_gb=2))
    duck = tables_engine(own, tmp_path / "scratch")
    assert isinstance(duck, DuckDBTables)
    assert (duck.config.temp_folder, duck.config.memory_gb, duck.remote) == (tmp_path / "own", 2, False)
    duck.arrow(ibis.range(0, 3).unnest().name("n").as_table())
    assert (tmp_path / "own").is_dir()
    assert not (tmp_path / "scratch").exists()
    duck.close()
    assert not any((tmp_path / "own").iterdir())


@pytest.mark.parametrize(
    "section",
    [{"tables": "polars"}, {"memory_gb": 1}, {"duckdb": {"memory_gb": 0}}, {"spark": {"partitions": 3}}],
)
def test_an_engine_that_is_not_known_is_refused(section: dict) -> None:
    with pytest.raises(ValidationError):
        EngineConfig.model_validate(section)


@pytest.mark.heavy
def test_spark_leaves_nothing_where_it_is_run(tmp_path: Path, java: str) -> None:
    assert java
    run = (
        "import pyarrow as pa\n"
        "from honeyguide.engines.tables.spark import SparkConfig, SparkTables\n"
        "with SparkTables(SparkConfig(master='local[1]', driver_memory_gb=1)) as tables:\n"
        "    tables.arrow(tables.table(pa.table({'n': [1]})))\n"  # its Java is the cluster's too
        "with SparkTables(SparkConfig(master='local-cluster[1,1,1024]', driver_memory_gb=1)) as tables:\n"
        "    print(tables.arrow(tables.table(pa.table({'n': [1, 2]})).count().name('n').as_table())['n'][0])\n"
    )
    (tmp_path / "tmp").mkdir()
    written = _work_of_spark()
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("SPARK", "PYSPARK"))}
    environment["TMPDIR"] = str(tmp_path / "tmp")
    environment["SPARK_HOME"] = pyspark_folder()  # as whoever used Spark before may have set it
    done = subprocess.run(
        [sys.executable, "-c", run], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "2\n"
    assert [path.name for path in tmp_path.iterdir()] == ["tmp"]
    assert not list((tmp_path / "tmp").glob("honeyguide-*"))
    assert _work_of_spark() == written


def _work_of_spark() -> list[Path]:
    """What clusters wrote into the installed package so far."""
    return sorted((Path(pyspark_folder()) / "work").glob("*"))


def pyspark_folder() -> str:
    import pyspark

    return str(Path(pyspark.__file__).parent)


JOIN = """
import sys
from pathlib import Path
import ibis
import pyarrow.parquet as pq
from honeyguide.engines.tables.duckdb import DuckDBConfig, DuckDBTables
folder, memory = Path(sys.argv[1]), float(sys.argv[2])
with DuckDBTables(DuckDBConfig(memory_gb=memory, threads=1, temp_folder=folder / "spill")) as tables:
    numbers = ibis.range(0, 1_500_000).unnest().name("n").as_table()
    left = numbers.mutate(key=(numbers.n * 7919 % 1_500_007).cast("string").hexdigest("sha256"))
    right = numbers.mutate(key=(numbers.n * 104729 % 1_500_007).cast("string").hexdigest("sha256"))
    joined = left.join(right, "key", rname="{name}_of").order_by("key").select("key", "n", "n_of")
    tables.write(joined, folder / "out.parquet")
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
print(pq.read_metadata(folder / "out.parquet").num_rows, peak.split()[1])
"""


@pytest.mark.heavy
def test_a_sort_of_a_join_larger_than_the_limit_completes(tmp_path: Path) -> None:
    # Two sides of 1.5 million keys of 64 letters, some 120 MB each, and a sorted result of as much again.
    done = subprocess.run([sys.executable, "-c", JOIN, tmp_path, "0.15"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    rows, peak = map(int, done.stdout.split())  # and nothing else is printed, though it takes seconds
    assert rows > 1_490_000
    assert not any((tmp_path / "spill").iterdir())
    assert peak < 900 * 1024  # KB of that process with its libraries; its own, for getrusage keeps what its parent held


def test_too_little_memory_and_nowhere_to_spill_is_one_sentence(tmp_path: Path) -> None:
    with DuckDBTables(DuckDBConfig(memory_gb=0.02, threads=1, temp_folder=tmp_path)) as tables:
        numbers = ibis.range(0, 3_000_000).unnest().name("n").as_table()
        with pytest.raises(ResourceError, match="memory_gb") as refused:
            tables.arrow(numbers.aggregate(everything=numbers.n.cast("string").collect()))
    assert "\n" not in str(refused.value)
