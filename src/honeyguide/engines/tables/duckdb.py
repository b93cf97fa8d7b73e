"""Tables on one machine: Ibis over DuckDB, which spills to disk when a result does not fit in memory."""

from __future__ import annotations

import shutil
import tempfile
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from honeyguide.engines.tables.arrow import existing, plain, published
from honeyguide.errors import DataError, RequestError, ResourceError

if TYPE_CHECKING:
    import ibis.expr.types as ir
    import pyarrow as pa

__all__ = ["DuckDBConfig", "DuckDBTables"]


class DuckDBConfig(BaseModel):
    """How much of the machine DuckDB may take."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    memory_gb: float = Field(default=1.0, gt=0, description="Above this, DuckDB spills to `temp_folder`.")
    threads: int = Field(default=2, ge=1)
    temp_folder: Path | None = Field(default=None, description="Where to spill; default: a folder of its own in /tmp.")


class DuckDBTables:
    """`TablesEngine` on DuckDB. One connection; calls from several threads wait for each other.

    Arrow tables are scanned in place (no copy) and are released with the last expression that uses them.
    """

    name = "duckdb"

    def __init__(self, config: DuckDBConfig | None = None) -> None:
        self.config = config or DuckDBConfig()
        self._lock = threading.RLock()
        self._connection: Any = None
        self._own_folder: Path | None = None

    def table(self, data: pa.Table, name: str | None = None) -> ir.Table:
        """An Arrow table as an expression; `name` only names it in error messages and plans."""
        import ibis

        self._open()
        return ibis.memtable(plain(data))

    def parquet(self, paths: Path | Sequence[Path], name: str | None = None) -> ir.Table:
        """Parquet files as an expression. Raises DataError for a missing or broken file."""
        files = existing(paths)
        with self._run():
            return self._open().read_parquet(files, table_name=f"{name or 'parquet'}_{uuid.uuid4().hex}")

    def arrow(self, expression: ir.Table) -> pa.Table:
        """Run and fetch. Rows come in the expression's order; without an `order_by` in no promised order."""
        with self._run():
            return plain(self._open().to_pyarrow(expression))

    def write(self, expression: ir.Table, path: Path) -> None:
        """Run and write one Parquet file (zstd), whole or not at all."""
        with published(path) as temporary, self._run():
            self._open().to_parquet(expression, temporary, compression="zstd")

    def sql(self, query: str, tables: Mapping[str, ir.Table]) -> pa.Table:
        """Run one SELECT over the named tables. Anything else is a RequestError."""
        import duckdb

        with self._run():
            connection = self._open()
            try:
                statements = duckdb.extract_statements(query)
                types = [statement.type for statement in statements]
                if types != [duckdb.StatementType.SELECT]:
                    got = ", ".join(kind.name for kind in types) or "an empty statement"
                    raise RequestError(expected="one SELECT", got=got, do="Tables are read-only here.")
                with ExitStack() as views:
                    for name, expression in tables.items():
                        connection.create_view(name, expression, overwrite=True)
                        views.callback(connection.drop_view, name, force=True)
                    return plain(connection.con.execute(query).to_arrow_table())
            except (duckdb.ProgrammingError, duckdb.DataError, duckdb.NotSupportedError) as error:
                raise RequestError(
                    expected="a SELECT over " + (", ".join(sorted(tables)) or "no tables"),
                    got=str(error).splitlines()[0],
                    do="Correct the query.",
                ) from error

    def close(self) -> None:
        """Close the connection and remove what it spilled."""
        with self._lock:
            if self._connection is not None:
                self._connection.disconnect()
                self._connection = None
            if self._own_folder is not None:
                shutil.rmtree(self._own_folder, ignore_errors=True)
                self._own_folder = None

    def __enter__(self) -> DuckDBTables:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _open(self) -> Any:
        with self._lock:
            if self._connection is None:
                import ibis

                folder = self.config.temp_folder
                if folder is None:
                    folder = self._own_folder = Path(tempfile.mkdtemp(prefix="honeyguide-duckdb-"))
                self._connection = ibis.duckdb.connect(
                    memory_limit=f"{self.config.memory_gb * 1000:.0f}MB",
                    threads=self.config.threads,
                    temp_directory=str(folder),
                )
            return self._connection

    @contextmanager
    def _run(self) -> Iterator[None]:
        import duckdb

        with self._lock:
            try:
                yield
            except duckdb.OutOfMemoryException as error:
                raise ResourceError(
                    expected=f"to stay within {self.config.memory_gb:g} GB",
                    got="a query that needs more, and no disk space to spill to",
                    do=f"Raise memory_gb or free space in {self.config.temp_folder or self._own_folder}.",
                ) from error
            except duckdb.IOException as error:
                raise ResourceError(
                    expected="to read and write files",
                    got=str(error).splitlines()[0],
                    do="Check the disk and the path.",
                ) from error
            except (duckdb.InvalidInputException, duckdb.DataError) as error:
                raise DataError(
                    expected="files and values that can be read",
                    got=str(error).splitlines()[0],
                    do="Correct the expression, or write the file anew.",
                ) from error
