"""Tables on many machines: the same Ibis expressions over Spark. Needs the extra `spark` and a Java runtime.

Driver and executors must see the workspace, and `temp_folder`, under the same paths: tables are files.
"""

from __future__ import annotations

import atexit
import functools
import os
import re
import shutil
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from pydantic import BaseModel, ConfigDict, Field

from honeyguide.engines.tables.arrow import (
    existing,
    first_rows,
    hash_function,
    merged,
    plain,
    plain_batches,
    published,
    shaped,
)
from honeyguide.errors import DataError, MissingExtraError, ResourceError

if TYPE_CHECKING:
    import ibis.expr.types as ir
    import pyarrow as pa

__all__ = ["SparkConfig", "SparkTables"]

_HERE = re.compile(r"local(-cluster)?\b|spark://(127\.0\.0\.1|localhost)\b")
_QUIET_FILE = "log4j2.properties"
# The second logger is that of the process PySpark talks to: it says aloud when its level is not the root's.
_QUIET = """\
rootLogger.level = error
rootLogger.appenderRef.stderr.ref = console
appender.console.type = Console
appender.console.name = console
appender.console.target = SYSTEM_ERR
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %p %c: %m%n
logger.gateway.name = org.apache.spark.api.python.PythonGatewayServer
logger.gateway.level = error
"""


class SparkConfig(BaseModel):
    """Where Spark runs and how much it may take."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    master: str = Field(default="local[2]", description="local[N], spark://host:7077, yarn, k8s://...")
    driver_memory_gb: float = Field(default=2.0, gt=0)
    shuffle_partitions: int = Field(default=8, ge=1, description="Also how many buckets a kernel's rows are cut into.")
    temp_folder: Path | None = Field(
        default=None, description="What results pass through; every machine of the cluster must see it. Default: /tmp."
    )
    options: dict[str, str] = Field(default_factory=dict, description="Further `spark.*` settings, as they are.")


class SparkTables:
    """`TablesEngine` on Spark. Results travel as Arrow, never through pandas, which turns NaN into null.

    A session that runs already (a notebook's, a platform's) is used as it is, and left running by `close`.
    """

    name = "spark"
    remote = True

    def __init__(self, config: SparkConfig | None = None) -> None:
        self.config = config or SparkConfig()
        self._connection: Any = None
        self._session: Any = None
        self._folder: Path | None = None
        self._own_session = False

    def table(self, data: pa.Table, name: str | None = None) -> ir.Table:
        """An Arrow table as an expression."""
        self._open()
        return self._view(self._session.createDataFrame(plain(data)), name or "arrow")

    def parquet(
        self, paths: Path | Sequence[Path], name: str | None = None, *, numbered: str | None = None
    ) -> ir.Table:
        """Parquet files as an expression. Raises DataError for a missing or broken file.

        numbered: name of an int64 column to add: the row's place, counted on from file to file in the order given.
        """
        files = existing(paths)
        self._open()
        with _data_errors():
            # Hadoop would take some letters of a path for a pattern.
            frame = self._session.read.parquet(*(re.sub(r"([\[\]{}*?\\])", r"\\\1", file) for file in files))
            if numbered is not None:
                frame = self._numbered(frame, files, numbered)
        return self._view(frame, name or "parquet")

    def arrow(self, expression: ir.Table) -> pa.Table:
        """Run and fetch. Rows come in the expression's order; without an `order_by` in no promised order."""
        with _data_errors():
            return plain(self._frame(expression).toArrow())

    def batches(self, expression: ir.Table) -> Iterator[pa.RecordBatch]:
        """Run and fetch piece by piece, in the expression's order: for results larger than memory."""
        import pyarrow.parquet as pq

        with self._parts(expression) as parts:
            for part in parts:
                with pq.ParquetFile(part) as file:
                    yield from plain_batches(file.iter_batches())

    def write(self, expression: ir.Table, path: Path) -> None:
        """Run and write one Parquet file (zstd), whole or not at all."""
        with published(path) as temporary, self._parts(expression) as parts:
            merged(parts, temporary)

    def in_buckets(
        self, expression: ir.Table, key: str, function: Callable[[pa.Table], pa.Table], schema: pa.Schema
    ) -> ir.Table:
        """`function` over the rows, in one call for each of some buckets; all rows of a key are in the same one.

        It runs on the executors, which must have this package. Rows come to it in no promised order. Raises DataError
        (when the result is asked for) if what it returns has not the schema.
        """
        from pyspark.sql.pandas.types import from_arrow_schema

        def call(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            import pyarrow as pa

            rows = list(batches)
            if rows:
                yield from shaped(function(plain(pa.Table.from_batches(rows))), schema).to_batches()

        frame = self._frame(expression).repartition(self.config.shuffle_partitions, key)
        return self._view(frame.mapInArrow(call, from_arrow_schema(schema)), "buckets")

    def hash64(self, *values: ir.Value) -> ir.IntegerValue:
        """Spark's `xxhash64` of several values."""
        return hash_function("xxhash64", "int64", values)

    def close(self) -> None:
        """Stop the session, if it was started here, and remove what results passed through."""
        if self._session is not None:
            if self._own_session:
                self._session.stop()
            self._session = self._connection = None
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def __enter__(self) -> SparkTables:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    # ------------------------------------------------------------------------------------------------ the driver

    def _view(self, frame: Any, name: str) -> ir.Table:
        view = f"{name}_{uuid.uuid4().hex}"
        frame.createOrReplaceTempView(view)
        return self._connection.table(view)

    def _frame(self, expression: ir.Table) -> Any:
        self._open()
        return self._session.sql(self._connection.compile(expression))

    def _numbered(self, frame: Any, files: Sequence[str], name: str) -> Any:
        from pyspark.sql import functions

        # Spark spells a path `file:/a%20b` or `file:///a%20b`, depending on who asks.
        place = dict(zip((os.path.abspath(file) for file in files), first_rows(files), strict=True))
        spelt = {re.sub(r"^\w+:/+", "/", uri): uri for uri in frame.inputFiles()}
        first = {uri: place[unquote(uri)] for uri in spelt}
        starts = functions.create_map(*(functions.lit(x) for pair in first.items() for x in pair))
        uri = functions.regexp_replace("_metadata.file_path", r"^\w+:/+", "/")
        return frame.select("*", (functions.col("_metadata.row_index") + starts[uri]).cast("long").alias(name))

    @contextmanager
    def _parts(self, expression: ir.Table) -> Iterator[list[Path]]:
        """The result as Parquet files in order, gone afterwards."""
        with _data_errors():
            frame = self._frame(expression)
            parts = self._scratch() / uuid.uuid4().hex
            try:
                frame.write.option("compression", "zstd").parquet(parts.as_uri())
                yield sorted(parts.glob("part-*.parquet"))
            finally:
                shutil.rmtree(parts, ignore_errors=True)

    def _scratch(self) -> Path:
        if self._folder is None:
            if self.config.temp_folder is not None:
                self.config.temp_folder.mkdir(parents=True, exist_ok=True)
            made = tempfile.mkdtemp(prefix="honeyguide-spark-", dir=self.config.temp_folder)
            self._folder = Path(made).resolve()
        return self._folder

    def _open(self) -> Any:
        if self._connection is not None:
            return self._connection
        try:
            from pyspark.errors import PySparkException
            from pyspark.sql import SparkSession
        except ImportError as error:
            raise MissingExtraError(
                expected="PySpark for tables on Spark", got="no pyspark", do="pip install 'honeyguide[spark]'."
            ) from error
        import ibis

        running = SparkSession.getActiveSession()
        if running is None:
            _needs_java()
            try:
                self._session = self._started(SparkSession.builder)
            except (PySparkException, OSError) as error:
                raise ResourceError(
                    expected=f"Spark at {self.config.master}, on Java 17 or newer",
                    got=_first_line(error),
                    do="Install Java 17 (Debian: apt-get install openjdk-17-jre-headless), or mend master and options.",
                ) from error
            self._own_session = True
        else:
            self._session = running
        for key, value in _SQL_SETTINGS.items():
            self._session.conf.set(key, value)
        self._connection = ibis.pyspark.connect(self._session)
        return self._connection

    def _started(self, builder: Any) -> Any:
        # Executors must run this interpreter: another Python on the PATH may lack pyarrow.
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
        home = _home()
        settings = {
            "spark.ui.enabled": "false",
            "spark.ui.showConsoleProgress": "false",
            "spark.sql.warehouse.dir": (home / "warehouse").as_uri(),  # else it appears where the command is run
            "spark.sql.shuffle.partitions": str(self.config.shuffle_partitions),
            "spark.driver.memory": f"{self.config.driver_memory_gb * 1024:.0f}m",
            "spark.driver.extraJavaOptions": f"-Dlog4j2.configurationFile={home / _QUIET_FILE}",
        }
        if _HERE.match(self.config.master):
            import pyspark

            os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
            settings |= {"spark.driver.bindAddress": "127.0.0.1", "spark.driver.host": "127.0.0.1"}
            # A local cluster writes into SPARK_HOME, which must not be the installed package. Java reads it when it
            # starts, once a process: the first session decides for a cluster that comes after it.
            if os.environ.get("SPARK_HOME") in (None, str(Path(pyspark.__file__).parent)):
                os.environ["SPARK_HOME"] = str(home)
        builder = builder.master(self.config.master).appName("honeyguide")
        for key, value in (settings | self.config.options).items():
            builder = builder.config(key, value)
        session = builder.getOrCreate()
        session.sparkContext.setLogLevel("ERROR")
        return session


_SQL_SETTINGS = {
    "spark.sql.session.timeZone": "UTC",
    # The default is INT96, which other readers take for nanoseconds without a zone.
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
}


@functools.cache
def _home() -> Path:
    """A folder that looks like an installed Spark, for as long as this process (and so its Java) lives."""
    import pyspark

    home = Path(tempfile.mkdtemp(prefix="honeyguide-spark-home-"))
    for part in ("bin", "jars"):
        (home / part).symlink_to(Path(pyspark.__file__).parent / part)
    (home / _QUIET_FILE).write_text(_QUIET)
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    return home


def _needs_java() -> None:
    home = os.environ.get("JAVA_HOME")
    if shutil.which("java") is None and not (home and (Path(home) / "bin" / "java").is_file()):
        raise MissingExtraError(
            expected="a Java runtime for tables on Spark",
            got="no `java` on the PATH and none in JAVA_HOME",
            do="Install Java 17 (Debian: apt-get install openjdk-17-jre-headless), or set JAVA_HOME.",
        )


@contextmanager
def _data_errors() -> Iterator[None]:
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException

    try:
        yield
    except (PySparkException, Py4JError) as error:
        raise DataError(
            expected="files and values that can be read",
            got=_first_line(error),
            do="Correct the expression, or write the file anew.",
        ) from error


def _first_line(error: Exception) -> str:
    text = str(error)
    raised = re.findall(r"^[\w.]+(?:Error|Exception|Interrupt): .*", text.partition("Traceback (most recent")[2], re.M)
    if raised:
        return str(raised[0])  # by a Python function on an executor
    # Py4J puts the Java exception on the second line, below a line that only says that there was one.
    lines = [line for line in text.splitlines() if line and not line.startswith("An error occurred while calling")]
    return (lines or [type(error).__name__])[0]
