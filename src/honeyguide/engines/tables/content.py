"""What a table says, as a hash: independent of files, row groups, chunks, compression and dictionary coding."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from honeyguide.engines.tables.arrow import plain, plain_type

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

__all__ = ["ContentHash", "content_hash"]

_BATCH_ROWS = 131_072


class ContentHash:
    """SHA-256 of what a table says: names, plain types, and the values in row order. Every NaN counts as the same.

    Rows may come in batches of any size; price: about 4 ns a byte of what is hashed.
    """

    def __init__(self, schema: pa.Schema) -> None:
        """`schema` has plain types, see `arrow.plain`."""
        self._head = json.dumps([[field.name, str(field.type)] for field in schema], ensure_ascii=False)
        self._columns = [_Digest() for _ in schema]

    def update(self, table: pa.Table) -> None:
        """Add rows, whose columns are those of the schema in plain types."""
        for batch in table.to_batches(max_chunksize=_BATCH_ROWS):
            for digest, column in zip(self._columns, batch.columns, strict=True):
                digest.update(column)

    def hexdigest(self) -> str:
        """The hash of what came so far."""
        return hashlib.sha256("\n".join([self._head, *(digest.hex() for digest in self._columns)]).encode()).hexdigest()


def content_hash(data: pa.Table | pq.ParquetFile) -> str:
    """`ContentHash` of a table or a file; a file is streamed, never held whole."""
    import pyarrow as pa

    if isinstance(data, pa.Table):
        table = plain(data)
        digest = ContentHash(table.schema)
        digest.update(table)
    else:
        digest = ContentHash(pa.schema([pa.field(f.name, plain_type(f.type)) for f in data.schema_arrow]))
        for raw in data.iter_batches(_BATCH_ROWS):
            digest.update(plain(pa.Table.from_batches([raw])))
    return digest.hexdigest()


class _Digest:
    """Running digest of one column: validity, lengths and values each in a stream of its own.

    A stream is a plain concatenation over rows, so where one batch ends and the next begins leaves no trace.
    """

    def __init__(self) -> None:
        self._streams: list[hashlib._Hash] = []

    def hex(self) -> str:
        """The streams' digests, in order."""
        return " ".join(stream.hexdigest() for stream in self._streams)

    def update(self, column: pa.Array) -> None:
        """Add the rows of one array."""
        for at, data in enumerate(_streams(column)):
            if at == len(self._streams):
                self._streams.append(hashlib.sha256())
            self._streams[at].update(data)


def _streams(column: pa.Array) -> Iterator[Any]:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.types as t

    yield np.ascontiguousarray(column.is_valid().to_numpy(zero_copy_only=False)).view(np.uint8).data
    kind = column.type
    if t.is_string(kind) or t.is_binary(kind):
        yield pc.fill_null(pc.binary_length(column), -1).to_numpy(zero_copy_only=False).astype(np.int64).data
        filled = pc.fill_null(column, "" if t.is_string(kind) else b"")
        start, end = np.frombuffer(filled.buffers()[1], np.int32)[[filled.offset, filled.offset + len(filled)]]
        data = filled.buffers()[2]
        yield memoryview(b"" if data is None else data)[int(start) : int(end)]
    elif t.is_list(kind):
        yield pc.fill_null(pc.list_value_length(column), -1).to_numpy(zero_copy_only=False).astype(np.int64).data
        yield from _streams(pc.list_flatten(column))
    elif t.is_struct(kind):
        for child in column.flatten():
            yield from _streams(child)
    elif t.is_floating(kind):
        values = pc.fill_null(column, pa.scalar(0, kind)).to_numpy(zero_copy_only=False)
        yield np.where(np.isnan(values), np.array(np.nan, values.dtype), values).data
    elif t.is_boolean(kind):
        yield pc.fill_null(column, False).to_numpy(zero_copy_only=False).view(np.uint8).data
    elif t.is_null(kind):
        return
    elif t.is_integer(kind) or t.is_temporal(kind):
        width = kind.bit_width
        whole = column.view(pa.int64() if width == 64 else pa.int32()) if t.is_temporal(kind) else column
        yield pc.fill_null(whole, 0).to_numpy(zero_copy_only=False).data
    else:
        yield from _streams(column.cast(pa.string()))
