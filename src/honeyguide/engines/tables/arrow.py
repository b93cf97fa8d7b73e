"""What both engines share: one spelling of Arrow types, one way to publish a file."""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from inspect import Parameter, Signature
from pathlib import Path
from typing import TYPE_CHECKING

from honeyguide.errors import DataError, ResourceError

if TYPE_CHECKING:
    import ibis.expr.types as ir
    import pyarrow as pa

__all__ = [
    "existing", "first_rows", "hash_function", "merged", "plain", "plain_batches", "plain_type", "publish", "published",
    "refusals", "shaped", "staged",
]  # fmt: skip

_REFUSED = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EMFILE}


def plain_type(kind: pa.DataType) -> pa.DataType:
    """The one spelling of a type: no views, no 64-bit offsets, no dictionaries, list children called `item`."""
    import pyarrow as pa
    import pyarrow.types as t

    if t.is_dictionary(kind):
        return plain_type(kind.value_type)
    if t.is_large_string(kind) or t.is_string_view(kind):
        return pa.string()
    if t.is_large_binary(kind) or t.is_binary_view(kind):
        return pa.binary()
    if t.is_list(kind) or t.is_large_list(kind) or t.is_list_view(kind) or t.is_fixed_size_list(kind):
        return pa.list_(pa.field("item", plain_type(kind.value_type)))
    if t.is_struct(kind):
        return pa.struct([pa.field(field.name, plain_type(field.type)) for field in kind])
    if t.is_timestamp(kind) and kind.tz in {"Etc/UTC", "GMT", "+00:00"}:
        return pa.timestamp(kind.unit, tz="UTC")
    return kind


def plain(table: pa.Table) -> pa.Table:
    """The same rows with every column in its plain type, so that results of two engines can be compared."""
    import pyarrow as pa

    schema = pa.schema([pa.field(field.name, plain_type(field.type)) for field in table.schema])
    return table if table.schema.equals(schema, check_metadata=True) else table.cast(schema)


def plain_batches(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The same, batch by batch."""
    import pyarrow as pa

    for batch in batches:
        yield from plain(pa.Table.from_batches([batch])).to_batches()


def shaped(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """A table that a plugged-in function made, under the schema it promised; DataError if it is another."""
    import pyarrow as pa

    try:
        return plain(table).select(schema.names).cast(schema)
    except (KeyError, pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError(
            expected=f"columns {', '.join(schema.names)}", got=str(error), do="Mend the function that makes them."
        ) from error


def hash_function(name: str, returns: str, values: Sequence[ir.Value]) -> ir.IntegerValue:
    """A call of a hash function that the engine has itself."""
    import ibis

    def function(*values: object) -> None: ...

    function.__name__ = name
    parameters = [Parameter(f"v{at}", Parameter.POSITIONAL_OR_KEYWORD) for at in range(len(values))]
    function.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    kinds = tuple(value.type() for value in values)
    called: ir.IntegerValue = ibis.udf.scalar.builtin(function, signature=(kinds, returns))(*values)
    return called


def existing(paths: Path | Sequence[Path]) -> list[str]:
    """Paths as strings; DataError if there are none or one is missing or empty."""
    chosen = [paths] if isinstance(paths, str | Path) else list(paths)
    if not chosen:
        raise DataError(expected="at least one Parquet file", got="none", do="Name the files to read.")
    for path in chosen:
        file = Path(path)
        if not file.is_file() or file.stat().st_size == 0:
            got = "an empty file" if file.is_file() else "nothing there"
            raise DataError(expected=f"a Parquet file at {file}", got=got, do="Check the path, or write the file anew.")
    return [str(path) for path in chosen]


def first_rows(files: Sequence[str]) -> list[int]:
    """How many rows come before each Parquet file, read from the files' ends. DataError for a broken one."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    starts, rows = [], 0
    for file in files:
        starts.append(rows)
        try:
            rows += pq.read_metadata(file).num_rows
        except pa.ArrowInvalid as error:
            raise DataError(expected=f"a Parquet file at {file}", got=str(error), do="Write the file anew.") from error
    return starts


def merged(parts: Sequence[Path], path: Path) -> None:
    """Parquet files below each other in one (zstd), a piece at a time. They share their columns."""
    import pyarrow.parquet as pq

    writer: pq.ParquetWriter | None = None
    try:
        for part in parts:
            with pq.ParquetFile(part) as file:
                if writer is None:
                    writer = pq.ParquetWriter(path, file.schema_arrow, compression="zstd")
                for batch in file.iter_batches():
                    writer.write_batch(batch)
    finally:
        if writer is not None:
            writer.close()


@contextmanager
def refusals(what: str) -> Iterator[None]:
    """Turn the machine's refusals (full disk, no permission) into a ResourceError."""
    try:
        yield
    except OSError as error:
        if error.errno not in _REFUSED:
            raise
        raise ResourceError(
            expected=f"to write {what}",
            got=os.strerror(error.errno or 0).lower(),
            do="Free some disk space or check the folder's permissions, then run it again; nothing was lost.",
        ) from error


@contextmanager
def published(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; when the block ends well, publish it there.

    A reader sees the old file or the new one, never half of one; a failure leaves the old one.
    """
    with staged(path) as temporary:
        yield temporary
        publish(temporary, path)


@contextmanager
def staged(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, removed at the end if it was not published."""
    temporary = path.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        with refusals(str(path)):
            yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def publish(temporary: Path, path: Path) -> None:
    """Sync a file, rename it into place, sync the folder."""
    with refusals(str(path)):
        _sync(temporary)
        temporary.replace(path)
        _sync(path.parent)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
