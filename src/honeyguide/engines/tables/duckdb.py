"""Tables on one machine: Ibis over DuckDB, which spills to disk when a result does not fit in memory."""

from __future__ import annotations

import shutil
import tempfile
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from honeyguide.engines.tables.arrow import existing, plain, published
from honeyguide.errors import DataError, RequestError, ResourceError

if TYPE_CHECKING:
    import duckdb
    import ibis.expr.types as ir
    import pyarrow as pa

__all__ = ["DuckDBConfig", "DuckDBTables", "ask"]


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
                folder = self.config.temp_folder or self._own_folder
                raise _too_small(self.config, f"Raise memory_gb or free space in {folder}.") from error
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


def _too_small(config: DuckDBConfig, do: str) -> ResourceError:
    return ResourceError(
        expected=f"to stay within {config.memory_gb:g} GB",
        got="a query that needs more, and no disk space to spill to",
        do=do,
    )


def ask(
    query: str, files: Mapping[str, Path], tables: Mapping[str, pa.Table], config: DuckDBConfig | None = None
) -> pa.Table:
    """One SELECT by somebody who may see these Parquet files and Arrow tables, and nothing else of the machine.

    A column whose name was there before gets a number behind it. Ctrl-C ends the query. Raises RequestError for what
    is no SELECT, names what is not there or wants another file; ResourceError if the machine is too small for it.
    """
    import duckdb

    config = config or DuckDBConfig()
    known = ", ".join(sorted([*files, *tables]))
    with tempfile.TemporaryDirectory(prefix="honeyguide-duckdb-", dir=config.temp_folder) as spill:
        options: dict[str, str | int | float | list[str]] = {
            "memory_limit": f"{config.memory_gb * 1000:.0f}MB",
            "threads": config.threads,
            "temp_directory": spill,
        }
        with duckdb.connect(config=options) as connection:
            try:
                for name, path in files.items():
                    _view(connection, name, path.resolve())
                for name, table in tables.items():
                    connection.register(name, table)
                _confine(connection, [str(path.resolve()) for path in files.values()])
                types = [statement.type for statement in duckdb.extract_statements(query)]
                if types != [duckdb.StatementType.SELECT]:
                    got = ", ".join(kind.name for kind in types) or "an empty statement"
                    raise RequestError(expected="one SELECT", got=got, do="Tables are read-only here.")
                return _distinct(plain(_interruptible(connection, query)))
            except duckdb.OutOfMemoryException as error:
                raise _too_small(config, f"Ask for less, or free space in {Path(spill).parent}.") from error
            except duckdb.PermissionException as error:
                raise RequestError(
                    expected=f"a SELECT over {known}",
                    got="a query that reads other files",
                    do="Bring other data in with `honeyguide init`.",
                ) from error
            except duckdb.Error as error:
                raise RequestError(
                    expected=f"a SELECT over {known}", got=str(error).splitlines()[0], do="Correct the query."
                ) from error


def _view(connection: duckdb.DuckDBPyConnection, name: str, path: Path) -> None:
    import duckdb

    files = existing(path)
    try:
        connection.read_parquet(files).create_view(name)
    except duckdb.Error as error:
        raise DataError(
            expected=f"a Parquet file at {path}", got=str(error).splitlines()[0], do="Write the table anew."
        ) from error


def _confine(connection: duckdb.DuckDBPyConnection, paths: list[str]) -> None:
    quoted = ", ".join("'" + path.replace("'", "''") + "'" for path in paths)
    connection.execute(f"SET allowed_paths = [{quoted}]")
    connection.execute("SET python_enable_replacements = false")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


def _interruptible(connection: duckdb.DuckDBPyConnection, query: str) -> pa.Table:
    # The query runs beside this thread, which is then free to hear a Ctrl-C.
    with ThreadPoolExecutor(1) as beside:
        running = beside.submit(lambda: _fetched(connection, query))
        try:
            return running.result()
        except KeyboardInterrupt:
            connection.interrupt()
            raise


def _fetched(connection: duckdb.DuckDBPyConnection, query: str) -> pa.Table:
    import pyarrow as pa

    reader = connection.execute(query).to_arrow_reader()
    return pa.Table.from_batches(reader, reader.schema)


def _distinct(table: pa.Table) -> pa.Table:
    names: list[str] = []
    for name in table.column_names:
        number, fresh = 2, name
        while fresh in names:
            number, fresh = number + 1, f"{name}_{number}"
        names.append(fresh)
    return table.rename_columns(names)
