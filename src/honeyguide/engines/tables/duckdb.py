"""Tables on one machine: Ibis over DuckDB, which spills to disk when a result does not fit in memory."""

from __future__ import annotations

import re
import shutil
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from honeyguide.engines.tables.arrow import (
    existing,
    first_rows,
    hash_function,
    plain,
    plain_batches,
    published,
    shaped,
)
from honeyguide.errors import DataError, RequestError, ResourceError

if TYPE_CHECKING:
    import duckdb
    import ibis.expr.types as ir
    import pyarrow as pa

__all__ = ["Asked", "Confined", "DuckDBConfig", "DuckDBTables", "ask"]

_BATCH_ROWS = 131_072
_ROW, _FILE = "file_row_number", "filename"  # what DuckDB calls them


class DuckDBConfig(BaseModel):
    """How much of the machine DuckDB may take."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    memory_gb: float = Field(default=1.0, gt=0, description="Above this, DuckDB spills to `temp_folder`.")
    threads: int = Field(default=2, ge=1)
    temp_folder: Path | None = Field(default=None, description="Where to spill; default: a folder of its own in /tmp.")
    bucket_rows: int = Field(default=4_000_000, ge=1, description="Rows that a kernel is given at once.")


class DuckDBTables:
    """`TablesEngine` on DuckDB. One connection; calls from several threads wait for each other.

    Arrow tables are scanned in place (no copy) and are released with the last expression that uses them.
    """

    name = "duckdb"
    remote = False

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

    def parquet(
        self, paths: Path | Sequence[Path], name: str | None = None, *, numbered: str | None = None
    ) -> ir.Table:
        """Parquet files as an expression. Raises DataError for a missing or broken file.

        numbered: name of an int64 column to add: the row's place, counted on from file to file in the order given.
        """
        import ibis

        files = existing(paths)
        given = [_literally(file) for file in files]
        view = f"{name or 'parquet'}_{uuid.uuid4().hex}"
        with self._run():
            if numbered is None:
                return self._open().read_parquet(given, table_name=view)
            plainly = self._open().read_parquet(given, table_name=f"{view}_plain").columns
            rows = self._open().read_parquet(given, table_name=view, file_row_number=True, filename=True)
            place = rows[_ROW].cast("int64")
            if len(files) > 1:
                starts = ibis.map(dict(zip(files, first_rows(files), strict=True)))
                place = place + starts[rows[_FILE]]
            return rows.select(*plainly, place.name(numbered))

    def arrow(self, expression: ir.Table) -> pa.Table:
        """Run and fetch. Rows come in the expression's order; without an `order_by` in no promised order."""
        with self._run():
            return plain(self._open().to_pyarrow(expression))

    def write(self, expression: ir.Table, path: Path) -> None:
        """Run and write one Parquet file (zstd), whole or not at all."""
        with published(path) as temporary, self._run():
            self._open().to_parquet(expression, temporary, compression="zstd")

    def batches(self, expression: ir.Table) -> Iterator[pa.RecordBatch]:
        """Run and fetch piece by piece, in the expression's order: for results larger than memory.

        Until the last piece is taken the engine does nothing else: another question would end this one.
        """
        with self._run(), self._open().to_pyarrow_batches(expression, chunk_size=_BATCH_ROWS) as reader:
            yield from plain_batches(reader)

    def in_buckets(
        self, expression: ir.Table, key: str, function: Callable[[pa.Table], pa.Table], schema: pa.Schema
    ) -> ir.Table:
        """`function` over the rows, in one call for each of some buckets; all rows of a key are in the same one.

        At once, in this process, `bucket_rows` rows (of the mean bucket) at a time; what it returns goes to disk. Rows
        come to it in no promised order. Raises DataError if what it returns has not the schema.
        """
        import ibis
        import pyarrow.parquet as pq

        name = uuid.uuid4().hex
        rows = self.parquet(self._spilt(expression, f"{name}-in"))
        n = -(-self.arrow(rows.count().name("n").as_table())["n"][0].as_py() // self.config.bucket_rows)
        bucket = (rows[key].hash() % ibis.literal(n)).abs() if n > 1 else ibis.literal(0)
        path = self._folder() / f"{name}-out.parquet"
        with pq.ParquetWriter(path, schema, compression="zstd") as writer:
            for at in range(n):
                part = self.arrow(rows.filter(bucket.fill_null(0) == at))
                if part.num_rows:
                    writer.write_table(shaped(function(part), schema))
        return self.parquet(path)

    def hash64(self, *values: ir.Value) -> ir.IntegerValue:
        """DuckDB's `hash` of several values."""
        return hash_function("hash", "uint64", values)

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

                self._connection = ibis.duckdb.connect(
                    memory_limit=f"{self.config.memory_gb * 1000:.0f}MB",
                    threads=self.config.threads,
                    temp_directory=str(self._folder()),
                )
                # On a query of some seconds it would write into what commands print.
                self._connection.raw_sql("SET enable_progress_bar = false")
            return self._connection

    def _folder(self) -> Path:
        if self._own_folder is None:
            if self.config.temp_folder is not None:
                self.config.temp_folder.mkdir(parents=True, exist_ok=True)
            self._own_folder = Path(tempfile.mkdtemp(prefix="honeyguide-duckdb-", dir=self.config.temp_folder))
        return self._own_folder

    def _spilt(self, expression: ir.Table, name: str) -> Path:
        path = self._folder() / f"{name}.parquet"
        self.write(expression, path)
        return path

    @contextmanager
    def _run(self) -> Iterator[None]:
        import duckdb

        with self._lock:
            try:
                yield
            except duckdb.OutOfMemoryException as error:
                raise _too_small(self.config, f"Raise memory_gb or free space in {self._folder()}.") from error
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


@dataclass(frozen=True, slots=True)
class Asked:
    """What a query gave: its first rows, and whether there are more."""

    table: pa.Table
    more: bool


class Confined:
    """These Parquet files, Arrow tables and views, read only, and nothing else of the machine. Times are UTC.

    views: name -> SELECT over files, tables and views before it. names, hint: what errors
    tell of, and what to do about a query that fails. Use as a context manager; one question at a time.
    """

    def __init__(
        self, files: Mapping[str, Path | Sequence[Path]], tables: Mapping[str, pa.Table],
        views: Mapping[str, str] | None = None, config: DuckDBConfig | None = None,
        names: Sequence[str] = (), hint: str = "Correct the query.",
    ) -> None:  # fmt: skip
        self.config, self._hint = config or DuckDBConfig(), hint
        self.names = sorted(names or [*files, *tables, *(views or {})])
        self._files = {name: [Path(path).resolve() for path in _several(paths)] for name, paths in files.items()}
        self._tables, self._views = tables, dict(views or {})
        self._ends = ExitStack()

    def __enter__(self) -> Confined:
        import duckdb

        with ExitStack() as ends:
            self._spill = ends.enter_context(
                tempfile.TemporaryDirectory(prefix="honeyguide-duckdb-", dir=self.config.temp_folder)
            )
            options: dict[str, str | int | float | list[str]] = {
                "memory_limit": f"{self.config.memory_gb * 1000:.0f}MB",
                "threads": self.config.threads,
                "temp_directory": self._spill,
            }
            self._connection = ends.enter_context(duckdb.connect(config=options))
            self._connection.execute("SET TimeZone = 'UTC'")
            self._connection.execute("SET enable_progress_bar = false")  # it would write into what commands print
            for name, paths in self._files.items():
                _view(self._connection, name, paths)
            with self._errors():
                for name, table in self._tables.items():
                    # Copied: a join may hand a scan of Arrow a filter that it does not know (DuckDB 1.5).
                    self._connection.register("arrow", table)
                    self._connection.execute(f'CREATE TABLE "{name}" AS SELECT * FROM "arrow"')
                    self._connection.unregister("arrow")
                for name, query in self._views.items():
                    self._connection.execute(f'CREATE VIEW "{name}" AS {query}')
            _confine(self._connection, [str(path) for paths in self._files.values() for path in paths])
            self._ends = ends.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ends.close()

    def ask(self, query: str, *, rows: int | None = None, timeout_s: float | None = None) -> Asked:
        """Run one SELECT. `rows`: fetch no more than so many; `timeout_s`: end it after so many seconds.

        A column whose name was there before gets a number behind it. Ctrl-C ends the query. Raises RequestError for
        what is no SELECT, names what is not there, wants another file or takes too long; ResourceError if the machine
        is too small for it.
        """
        import duckdb

        with self._errors():
            types = [statement.type for statement in duckdb.extract_statements(query)]
            if types != [duckdb.StatementType.SELECT]:
                got = ", ".join(kind.name for kind in types) or "an empty statement"
                raise RequestError(expected="one SELECT", got=got, do="Tables are read-only here.")
            found = _interruptible(self._connection, query, rows, timeout_s)
            return Asked(_distinct(plain(found.table)), found.more)

    def keep(self, view: str, *, timeout_s: float | None = None) -> None:
        """Compute a view now, for all questions to come. Raises as `ask`."""
        made = f'CREATE TABLE "{view} kept" AS SELECT * FROM "{view}"'
        with self._errors():
            _interruptible(self._connection, made, None, timeout_s)
            self._connection.execute(f'CREATE OR REPLACE VIEW "{view}" AS SELECT * FROM "{view} kept"')

    @contextmanager
    def _errors(self) -> Iterator[None]:
        import duckdb

        known = ", ".join(self.names)
        try:
            yield
        except duckdb.OutOfMemoryException as error:
            raise _too_small(self.config, f"Ask for less, or free space in {Path(self._spill).parent}.") from error
        except duckdb.PermissionException as error:
            raise RequestError(
                expected=f"a SELECT over {known}",
                got="a query that reads other files",
                do="Bring other data in with `honeyguide init`.",
            ) from error
        except duckdb.Error as error:
            raise RequestError(
                expected=f"a SELECT over {known}", got=str(error).splitlines()[0], do=self._hint
            ) from error


def ask(
    query: str,
    files: Mapping[str, Path | Sequence[Path]],
    tables: Mapping[str, pa.Table],
    config: DuckDBConfig | None = None,
) -> pa.Table:
    """One SELECT over these files and tables, as `Confined.ask`."""
    with Confined(files, tables, config=config) as confined:
        return confined.ask(query).table


def _several(paths: Path | Sequence[Path]) -> Sequence[Path]:
    return [paths] if isinstance(paths, str | Path) else paths


def _view(connection: duckdb.DuckDBPyConnection, name: str, paths: Sequence[Path]) -> None:
    import duckdb

    files = [_literally(file) for file in existing(paths)]
    try:
        connection.read_parquet(files, union_by_name=len(files) > 1).create_view(name)
    except duckdb.Error as error:
        raise DataError(
            expected=f"a Parquet file at {paths[0]}" if len(paths) == 1 else f"Parquet files in {paths[0].parent}",
            got=str(error).splitlines()[0],
            do="Write the table anew.",
        ) from error


def _literally(file: str) -> str:
    return re.sub(r"([\[*?])", r"[\1]", file)  # else letters of a path make a pattern


def _confine(connection: duckdb.DuckDBPyConnection, paths: list[str]) -> None:
    quoted = ", ".join("'" + path.replace("'", "''") + "'" for path in paths)
    connection.execute(f"SET allowed_paths = [{quoted}]")
    connection.execute("SET python_enable_replacements = false")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


def _interruptible(
    connection: duckdb.DuckDBPyConnection, query: str, rows: int | None, timeout_s: float | None
) -> Asked:
    # The query runs beside this thread, which is then free to hear a Ctrl-C and to look at the clock.
    with ThreadPoolExecutor(1) as beside:
        running = beside.submit(lambda: _fetched(connection, query, rows))
        try:
            return running.result(timeout_s)
        except KeyboardInterrupt:
            connection.interrupt()
            raise
        except TimeoutError as error:
            connection.interrupt()
            raise RequestError(
                expected=f"an answer within {timeout_s:.2g} s", got="a query that takes longer",
                do="Ask for less (a period, a sample), or allow more time.",
            ) from error  # fmt: skip


def _fetched(connection: duckdb.DuckDBPyConnection, query: str, rows: int | None) -> Asked:
    import pyarrow as pa

    reader = connection.execute(query).to_arrow_reader()
    batches, fetched = [], 0
    for batch in reader:
        batches.append(batch)
        fetched += batch.num_rows
        if rows is not None and fetched > rows:
            break
    table = pa.Table.from_batches(batches, reader.schema)
    return Asked(table.slice(0, rows), rows is not None and fetched > rows)


def _distinct(table: pa.Table) -> pa.Table:
    names: list[str] = []
    for name in table.column_names:
        number, fresh = 2, name
        while fresh in names:
            number, fresh = number + 1, f"{name}_{number}"
        names.append(fresh)
    return table.rename_columns(names)
