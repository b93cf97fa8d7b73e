"""Versions of tables in a folder: Parquet files and JSON manifests, published by atomic renames.

Layout: `<folder>/<name>/<id>.parquet`, `<id>.json` and `CURRENT`, which holds the id in force. An id is the moment of
writing and the head of the content hash, so that ids sort by time and two writers never meet.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import re
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from honeyguide.contracts import TablesEngine
from honeyguide.engines.tables.arrow import plain, plain_type, publish, published, refusals, staged
from honeyguide.errors import DataError, NotFoundError

if TYPE_CHECKING:
    import ibis.expr.types as ir
    import pyarrow as pa
    import pyarrow.parquet as pq

__all__ = ["Snapshot", "Snapshots", "content_hash"]

_CURRENT = "CURRENT"
_BATCH_ROWS = 131_072
_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]*")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One version of a table."""

    id: str
    name: str
    path: Path
    rows: int
    sha256: str  # of the content, see `content_hash`
    created_at: str  # ISO 8601, UTC
    schema: dict[str, str]  # column -> Arrow type


class Snapshots:
    """A folder of versioned tables. Readers see a whole version or the one before, whatever happens to the writer.

    `engine` is needed only to write Ibis expressions; they are run to a file, never held in memory.
    """

    def __init__(self, folder: Path, engine: TablesEngine | None = None) -> None:
        self.folder = Path(folder)
        self._engine = engine

    def write(self, name: str, data: pa.Table | ir.Table) -> Snapshot:
        """Write a version and put it in force. If the content is that of the version in force, nothing is written.

        Raises ResourceError on a full disk; the version in force stays.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        if not _NAME.fullmatch(name):
            raise DataError(expected="a table name of a-z, 0-9, _ . -", got=repr(name), do="Rename the table.")
        place = self.folder / name
        with refusals(str(place)):
            place.mkdir(parents=True, exist_ok=True)
        # The file is named after its content, which is known only once it is written.
        with staged(place / "data") as temporary:
            if isinstance(data, pa.Table):
                with temporary.open("wb") as sink:
                    pq.write_table(plain(data), sink, compression="zstd")
            elif self._engine is None:
                raise DataError(expected="an Arrow table", got="an expression", do="Give Snapshots an engine.")
            else:
                self._engine.write(data, temporary)
            with pq.ParquetFile(temporary) as file:
                sha256 = content_hash(file)
                rows = file.metadata.num_rows
                schema = {field.name: str(plain_type(field.type)) for field in file.schema_arrow}
            current = self.find(name)
            if current is not None and current.sha256 == sha256:
                return current
            now = dt.datetime.now(dt.UTC)
            identity = f"{now:%Y%m%dT%H%M%S%f}-{sha256[:12]}"
            path = place / f"{identity}.parquet"
            snapshot = Snapshot(identity, name, path, rows, sha256, now.isoformat(), schema)
            publish(temporary, path)
        manifest = asdict(snapshot) | {"path": path.name}
        self._put(place / f"{identity}.json", json.dumps(manifest, indent=2, ensure_ascii=False))
        self._put(place / _CURRENT, identity)
        return snapshot

    def current(self, name: str) -> Snapshot:
        """The version in force. NotFoundError if the table was never written."""
        snapshot = self.find(name)
        if snapshot is None:
            raise NotFoundError(expected=f"a table {name!r} in {self.folder}", got="none", do="Write it first.")
        return snapshot

    def find(self, name: str) -> Snapshot | None:
        """The version in force, or None."""
        pointer = self.folder / name / _CURRENT
        return self.version(name, pointer.read_text().strip()) if pointer.is_file() else None

    def version(self, name: str, identity: str) -> Snapshot:
        """One version by its id. NotFoundError if it is not there."""
        manifest = self.folder / name / f"{identity}.json"
        path = self.folder / name / f"{identity}.parquet"
        if not manifest.is_file() or not path.is_file():
            raise NotFoundError(
                expected=f"version {identity} of {name!r}", got="no such version", do=f"See the ids in {path.parent}."
            )
        return Snapshot(**json.loads(manifest.read_text(encoding="utf-8")) | {"path": path})

    def path(self, name: str, identity: str | None = None) -> Path:
        """The Parquet file of a version (default: the one in force)."""
        return (self.current(name) if identity is None else self.version(name, identity)).path

    def read(self, name: str, identity: str | None = None) -> pa.Table:
        """The rows of a version (default: the one in force). DataError if the file is broken."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        path = self.path(name, identity)
        try:
            return plain(pq.read_table(path))
        except (pa.ArrowInvalid, OSError) as error:
            raise DataError(expected=f"a readable {path}", got=str(error), do="Build the table anew.") from error

    def names(self) -> list[str]:
        """Tables that have a version in force."""
        return sorted(pointer.parent.name for pointer in self.folder.glob(f"*/{_CURRENT}"))

    def history(self, name: str) -> list[Snapshot]:
        """All versions, oldest first."""
        return [self.version(name, manifest.stem) for manifest in sorted((self.folder / name).glob("*.json"))]

    def restore(self, name: str, identity: str) -> Snapshot:
        """Put an earlier version back in force."""
        snapshot = self.version(name, identity)
        self._put(self.folder / name / _CURRENT, identity)
        return snapshot

    def collect(self, name: str, keep: int = 3, pinned: Collection[str] = ()) -> list[str]:
        """Delete old versions; returns their ids.

        The newest `keep`, the version in force and the `pinned` ids stay. Half-written files of dead writers go too.
        """
        ids = [snapshot.id for snapshot in self.history(name)]
        safe = {*ids[max(0, len(ids) - keep) :], self.current(name).id, *pinned}
        gone = [identity for identity in ids if identity not in safe]
        place = self.folder / name
        for identity in gone:
            # The manifest first: without one, the data file is nobody's.
            (place / f"{identity}.json").unlink(missing_ok=True)
            (place / f"{identity}.parquet").unlink(missing_ok=True)
        an_hour_ago = dt.datetime.now().timestamp() - 3600
        orphans = [*place.glob(".*.tmp"), *(p for p in place.glob("*.parquet") if not p.with_suffix(".json").exists())]
        for orphan in orphans:
            if orphan.stat().st_mtime < an_hour_ago:
                orphan.unlink(missing_ok=True)
        return gone

    def _put(self, path: Path, text: str) -> None:
        with published(path) as temporary:
            temporary.write_text(text, encoding="utf-8")


def content_hash(data: pa.Table | pq.ParquetFile) -> str:
    """SHA-256 of what a table says: names, plain types, and the values in row order.

    Independent of row groups, chunks, compression, dictionary coding, metadata and time. Every NaN counts as the same.
    A Parquet file is streamed, never held whole.
    """
    import pyarrow as pa

    if isinstance(data, pa.Table):
        table = plain(data)
        schema, batches = table.schema, iter(table.to_batches(max_chunksize=_BATCH_ROWS))
    else:
        schema = pa.schema([pa.field(field.name, plain_type(field.type)) for field in data.schema_arrow])
        batches = (
            batch
            for raw in data.iter_batches(_BATCH_ROWS)
            for batch in plain(pa.Table.from_batches([raw])).to_batches()
        )
    columns = [_Digest() for _ in schema]
    for batch in batches:
        for digest, column in zip(columns, batch.columns, strict=True):
            digest.update(column)
    head = json.dumps([[field.name, str(field.type)] for field in schema], ensure_ascii=False)
    return hashlib.sha256("\n".join([head, *(digest.hex() for digest in columns)]).encode()).hexdigest()


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
