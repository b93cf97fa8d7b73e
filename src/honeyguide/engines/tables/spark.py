"""Tables on many machines: the same Ibis expressions over Spark. Needs the extra `spark` and a Java runtime."""

from __future__ import annotations

import os
import shutil
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from honeyguide.engines.tables.arrow import existing, plain, published
from honeyguide.errors import DataError, MissingExtraError, RequestError, ResourceError

if TYPE_CHECKING:
    import ibis.expr.types as ir
    import pyarrow as pa

__all__ = ["SparkConfig", "SparkTables"]


class SparkConfig(BaseModel):
    """Where Spark runs and how much it may take."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    master: str = "local[2]"
    driver_memory_gb: float = Field(default=2.0, gt=0)
    shuffle_partitions: int = Field(default=8, ge=1)
    options: dict[str, str] = Field(default_factory=dict, description="Further `spark.*` settings, as they are.")


class SparkTables:
    """`TablesEngine` on Spark. Results travel as Arrow, never through pandas, which turns NaN into null."""

    name = "spark"

    def __init__(self, config: SparkConfig | None = None) -> None:
        self.config = config or SparkConfig()
        self._connection: Any = None
        self._session: Any = None

    def table(self, data: pa.Table, name: str | None = None) -> ir.Table:
        """An Arrow table as an expression."""
        connection = self._open()
        view = f"{name or 'arrow'}_{uuid.uuid4().hex}"
        self._session.createDataFrame(plain(data)).createOrReplaceTempView(view)
        return connection.table(view)

    def parquet(self, paths: Path | Sequence[Path], name: str | None = None) -> ir.Table:
        """Parquet files as an expression. Raises DataError for a missing or broken file."""
        files = existing(paths)
        connection = self._open()
        view = f"{name or 'parquet'}_{uuid.uuid4().hex}"
        with _data_errors():
            self._session.read.parquet(*files).createOrReplaceTempView(view)
        return connection.table(view)

    def arrow(self, expression: ir.Table) -> pa.Table:
        """Run and fetch. Rows come in the expression's order; without an `order_by` in no promised order."""
        with _data_errors():
            return plain(self._frame(expression).toArrow())

    def write(self, expression: ir.Table, path: Path) -> None:
        """Run and write one Parquet file (zstd), whole or not at all."""
        with published(path) as temporary:
            parts = temporary.with_suffix(".parts")
            try:
                with _data_errors():
                    self._frame(expression).coalesce(1).write.option("compression", "zstd").parquet(str(parts))
                next(parts.glob("part-*.parquet")).replace(temporary)
            finally:
                shutil.rmtree(parts, ignore_errors=True)

    def sql(self, query: str, tables: Mapping[str, ir.Table]) -> pa.Table:
        """Run one SELECT over the named tables. Anything else is a RequestError."""
        from pyspark.errors import PySparkException

        if query.lstrip().split(None, 1)[:1] not in (["select"], ["SELECT"], ["with"], ["WITH"]):
            raise RequestError(expected="one SELECT", got=query[:80], do="Tables are read-only here.")
        for name, expression in tables.items():
            self._frame(expression).createOrReplaceTempView(name)
        try:
            return plain(self._session.sql(query).toArrow())
        except PySparkException as error:
            raise RequestError(
                expected="a SELECT over " + (", ".join(sorted(tables)) or "no tables"),
                got=_first_line(error),
                do="Correct the query.",
            ) from error
        finally:
            for name in tables:
                self._session.catalog.dropTempView(name)

    def close(self) -> None:
        """Stop the session."""
        if self._session is not None:
            self._session.stop()
            self._session = self._connection = None

    def _frame(self, expression: ir.Table) -> Any:
        self._open()
        return self._session.sql(self._connection.compile(expression))

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

        # Executors must run this interpreter: another Python on the PATH may lack pyarrow.
        os.environ["PYSPARK_PYTHON"] = sys.executable
        settings = {
            "spark.ui.enabled": "false",
            "spark.ui.showConsoleProgress": "false",
            "spark.sql.session.timeZone": "UTC",
            # The default is INT96, which other readers take for nanoseconds without a zone.
            "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
            "spark.sql.shuffle.partitions": str(self.config.shuffle_partitions),
            "spark.driver.memory": f"{self.config.driver_memory_gb * 1024:.0f}m",
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.driver.host": "127.0.0.1",
        }
        builder = SparkSession.builder.master(self.config.master).appName("honeyguide")
        for key, value in (settings | self.config.options).items():
            builder = builder.config(key, value)
        try:
            self._session = builder.getOrCreate()
        except (PySparkException, OSError) as error:
            raise ResourceError(
                expected="a Java runtime for Spark", got=_first_line(error), do="Install Java 17 or set JAVA_HOME."
            ) from error
        self._session.sparkContext.setLogLevel("ERROR")
        self._connection = ibis.pyspark.connect(self._session)
        return self._connection


@contextmanager
def _data_errors() -> Iterator[None]:
    from py4j.protocol import Py4JError  # type: ignore[import-untyped]
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
    # Py4J puts the Java exception on the second line, below a line that only says that there was one.
    lines = [
        line for line in str(error).splitlines() if line and not line.startswith("An error occurred while calling")
    ]
    return (lines or [type(error).__name__])[0]
