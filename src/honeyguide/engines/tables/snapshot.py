"""Versions of tables in a folder: Parquet parts and JSON manifests, published by atomic renames.

Layout: `<folder>/<name>/<part>.parquet`, `<id>.json` (a version: the parts it is made of) and `CURRENT`, which holds
the id in force. A part is named after its content and belongs to every version that lists it, so that a version costs
what it changes. An id is the moment of writing and the head of the content hash, so that ids sort by time and two
writers never meet.
"""

from __future__ import annotations

import datetime as dt
import fcntl
import hashlib
import json
import re
import shutil
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from honeyguide.contracts import TablesEngine
from honeyguide.engines.tables.arrow import published, refusals
from honeyguide.engines.tables.content import content_hash
from honeyguide.engines.tables.forgotten import Forgotten
from honeyguide.engines.tables.parts import (
    Cursor,
    Part,
    days_of,
    file_rows,
    file_schema,
    in_order,
    overlap,
    span,
    write_part,
)
from honeyguide.engines.tables.writer import PartWriter, aligned, is_abandoned, sync
from honeyguide.errors import DataError, NotFoundError
from honeyguide.schema.columns import HAPPENED_AT
from honeyguide.schema.tables import TABLES

if TYPE_CHECKING:
    import ibis.expr.types as ir
    import pyarrow as pa

__all__ = ["Part", "PartWriter", "Snapshot", "Snapshots", "content_hash"]

_CURRENT = "CURRENT"
_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]*")
_ORPHAN_S = 3600.0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One version of a table."""

    id: str
    name: str
    parts: tuple[Part, ...]  # by day in order of time, else in order of arrival; never empty
    rows: int
    sha256: str  # of the content: that of the only part, else of the parts' days and hashes
    created_at: str  # ISO 8601, UTC
    schema: dict[str, str]  # column -> Arrow type
    by_day: bool = False
    logs: dict[str, int] = field(default_factory=dict)  # log's name -> offset up to which it is in this version

    @property
    def paths(self) -> list[Path]:
        """The files, in order."""
        return [part.path for part in self.parts]

    @property
    def path(self) -> Path:
        """The file of a version that is one. DataError if it is several: read `paths`."""
        if len(self.parts) != 1:
            raise DataError(
                expected=f"{self.name!r} in one file", got=f"{len(self.parts)} files", do="Read all of its `paths`."
            )
        return self.parts[0].path


class Snapshots:
    """A folder of versioned tables. Readers see a whole version or the one before, whatever happens to the writer.

    Tables of `schema.tables` that name a `day` column are kept by UTC day. A person who was erased (`forgotten`) enters
    no table again. `engine` is needed only to write Ibis expressions; they are run to a file, never held in memory.
    """

    def __init__(self, folder: Path, engine: TablesEngine | None = None) -> None:
        self.folder = Path(folder)
        self.forgotten = Forgotten(self.folder)
        self._engine = engine

    # ------------------------------------------------------------------------------------------------ writing

    def write(self, name: str, data: pa.Table | ir.Table, *, by_day: bool | None = None) -> Snapshot:
        """Write a version and put it in force. If the content is that of the version in force, nothing is written.

        Raises ResourceError on a full disk; the version in force stays.
        """
        import pyarrow as pa

        with self.appender(name, replace=True, by_day=by_day) as writer:
            if isinstance(data, pa.Table):
                writer.add(data)
            elif self._engine is None:
                raise DataError(expected="an Arrow table", got="an expression", do="Give Snapshots an engine.")
            else:
                temporary = writer.folder / "expression.parquet"
                self._engine.write(data, temporary)
                for table in file_rows([temporary]):
                    writer.add(table)
        return writer.snapshot

    @contextmanager
    def appender(
        self, name: str, *, replace: bool = False, by_day: bool | None = None, logs: Mapping[str, int] | None = None
    ) -> Iterator[PartWriter]:
        """Write a version piece by piece, in bounded memory: `with tables.appender("events") as w: w.add(batch)`.

        At the end of the block the rows added, and unless `replace` those of the version in force at that moment, are
        put in force as one version (`w.snapshot`); parts that stay as they are stay shared. If the block raises,
        nothing has happened. by_day: default: as `schema.tables` says, else as the version in force. logs: offsets of
        logs that are in the rows from now on; what is not named stays. One process commits at a time, others wait.
        """
        declared, had = TABLES.get(name), self.find(name)
        if by_day is None:
            by_day = declared.day is not None if declared is not None else had is not None and had.by_day
        writer = PartWriter(
            self._place(name),
            declared.arrow() if declared is not None else None,
            ((declared.day if declared is not None else None) or HAPPENED_AT) if by_day else None,
            self.forgotten,
            extra=declared is None or declared.open,
        )
        try:
            yield writer
            with self.locked(name):
                current = self.find(name)
                had = None if replace else current
                parts, schema = writer.parts(had.parts if had else (), had.schema if had else {})
                writer.snapshot = self._put_in_force(name, current, parts, schema, by_day, logs)
        finally:
            writer.close()

    @contextmanager
    def rewriting(self, name: str, *, logs: Mapping[str, int] | None = None) -> Iterator[Rewriting]:
        """Put a version in force whose parts are some of those there were, some of them with fewer or other rows.

        What the block neither keeps nor puts is dropped. Other writers wait from the start of the block to its end.
        logs: as `appender`; a version in which no row is gone is put in force only with them.
        """
        with self.locked(name):
            current = self.current(name)
            declared = TABLES.get(name)
            day = (declared.day if declared is not None else None) or HAPPENED_AT
            rewriting = Rewriting(self.folder / name, current, day)
            yield rewriting
            if rewriting.gone or logs:
                self._put_in_force(name, current, rewriting.parts(), current.schema, current.by_day, logs)

    def offset(self, name: str, log_id: str) -> int:
        """Up to which offset of a log the version in force holds what the log brought; 0 if nothing."""
        current = self.find(name)
        return 0 if current is None else current.logs.get(log_id, 0)

    def since(
        self, name: str, identity: str, key: str, *, columns: Collection[str] | None = None
    ) -> Iterator[pa.Table]:
        """Rows of the version in force whose `key` is not in an older version; only parts that differ are read."""
        import pyarrow as pa
        import pyarrow.compute as pc

        old, new = self.version(name, identity).parts, self.current(name).parts
        shared = {part.path.name for part in old} & {part.path.name for part in new}
        changed = [part for part in old if part.path.name not in shared]
        wanted = None if columns is None else [str(one) for one in {*columns, key}]
        for part in new:
            if part.path.name in shared:
                continue
            before = [one.path for one in changed if overlap(one, part)]
            keys = [rows[key] for rows in file_rows(before, [str(key)])]
            known = pa.chunked_array(keys, pa.string()).combine_chunks() if keys else pa.array([], pa.string())
            for rows in file_rows([part.path], wanted):
                fresh = rows.filter(pc.invert(pc.is_in(rows[key], value_set=known)))
                if fresh.num_rows:
                    yield fresh

    @contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """A block in which no other process puts a version of the table in force. Does not nest."""
        place = self._place(name)
        with refusals(str(place)), (place / ".lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _put_in_force(
        self, name: str, current: Snapshot | None, parts: tuple[Part, ...], schema: dict[str, str], by_day: bool,
        logs: Mapping[str, int] | None,
    ) -> Snapshot:  # fmt: skip
        place = self.folder / name
        known = {} if current is None else current.logs
        offsets = {**known, **(logs or {})}
        sha256 = parts[0].sha256 if len(parts) == 1 else _hash_of_parts(parts, schema)
        if current is not None and current.sha256 == sha256 and current.by_day == by_day and known == offsets:
            return current
        now = dt.datetime.now(dt.UTC)
        identity = f"{now:%Y%m%dT%H%M%S%f}-{sha256[:12]}"
        rows = sum(part.rows for part in parts)
        made = Snapshot(identity, name, parts, rows, sha256, now.isoformat(), schema, by_day, offsets)
        sync(part.path for part in parts if current is None or part not in current.parts)
        manifest = {
            "id": made.id, "name": name, "rows": rows, "sha256": sha256, "created_at": made.created_at,
            "schema": schema, "by_day": by_day, "logs": offsets,
            "parts": [{"path": p.path.name, "day": p.day, "rows": p.rows, "sha256": p.sha256} for p in parts],
        }  # fmt: skip
        self._put(place / f"{identity}.json", json.dumps(manifest, indent=1, ensure_ascii=False))
        self._put(place / _CURRENT, identity)
        return made

    # ------------------------------------------------------------------------------------------------ reading

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
        """One version by its id. NotFoundError if it is not there, or lacks one of its files."""
        place = self.folder / name
        manifest = place / f"{identity}.json"
        if manifest.is_file():
            snapshot = _snapshot(place, json.loads(manifest.read_text(encoding="utf-8")))
            if all(part.path.is_file() for part in snapshot.parts):
                return snapshot
        raise NotFoundError(
            expected=f"version {identity} of {name!r}", got="no such version", do=f"See the ids in {place}."
        )

    def paths(self, name: str, identity: str | None = None) -> list[Path]:
        """The Parquet files of a version (default: the one in force), in order."""
        return (self.current(name) if identity is None else self.version(name, identity)).paths

    def read(self, name: str, identity: str | None = None, *, columns: Collection[str] | None = None) -> pa.Table:
        """The rows of a version (default: the one in force), or some columns of them. DataError if a file is broken."""
        import pyarrow as pa

        snapshot = self.current(name) if identity is None else self.version(name, identity)
        tables = list(file_rows(snapshot.paths, _names(columns), 1 << 20))
        if tables:
            return pa.concat_tables(tables)
        empty = file_schema(snapshot.paths[0]).empty_table()
        return empty if columns is None else empty.select(_names(columns))

    def scan(
        self, name: str, identity: str | None = None, *, columns: Collection[str] | None = None, rows: int = 131_072
    ) -> Iterator[pa.Table]:
        """The same in pieces of at most `rows` rows, in order; never more than one piece in memory."""
        snapshot = self.current(name) if identity is None else self.version(name, identity)
        return file_rows(snapshot.paths, _names(columns), rows)

    def names(self) -> list[str]:
        """Tables that have a version in force."""
        return sorted(pointer.parent.name for pointer in self.folder.glob(f"*/{_CURRENT}"))

    def history(self, name: str) -> list[Snapshot]:
        """All versions, oldest first."""
        place = self.folder / name
        return [
            _snapshot(place, json.loads(manifest.read_text(encoding="utf-8")))
            for manifest in sorted(place.glob("*.json"))
        ]

    # ------------------------------------------------------------------------------------------------ keeping

    def restore(self, name: str, identity: str) -> Snapshot:
        """Put an earlier version back in force."""
        snapshot = self.version(name, identity)
        self._put(self.folder / name / _CURRENT, identity)
        return snapshot

    def collect(
        self, name: str, keep: int = 3, pinned: Collection[str] = (), *, orphans_after_s: float = _ORPHAN_S
    ) -> list[str]:
        """Delete old versions, and the parts that no version lists any more; returns the versions' ids.

        The newest `keep`, the version in force and the `pinned` ids stay. What a writer who died left goes once it is
        `orphans_after_s` old: a living one may still be about to list it.
        """
        place = self.folder / name
        with self.locked(name):
            versions = self.history(name)
            ids = [snapshot.id for snapshot in versions]
            safe = {*ids[max(0, len(ids) - keep) :], self.current(name).id, *pinned}
            gone = [identity for identity in ids if identity not in safe]
            kept = {part.path.name for snapshot in versions if snapshot.id in safe for part in snapshot.parts}
            had = {part.path.name for snapshot in versions for part in snapshot.parts}
            for identity in gone:
                # The manifest first: without one, a part is nobody's.
                (place / f"{identity}.json").unlink(missing_ok=True)
            before = dt.datetime.now().timestamp() - orphans_after_s
            for path in (*place.glob("*.parquet"), *place.glob(".*.tmp"), *place.glob(".*.part")):
                if path.is_dir():
                    if is_abandoned(path):
                        shutil.rmtree(path, ignore_errors=True)
                elif path.name not in kept and (path.name in had or path.stat().st_mtime < before):
                    path.unlink(missing_ok=True)
        return gone

    def _place(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise DataError(expected="a table name of a-z, 0-9, _ . -", got=repr(name), do="Rename the table.")
        place = self.folder / name
        with refusals(str(place)):
            place.mkdir(parents=True, exist_ok=True)
        return place

    def _put(self, path: Path, text: str) -> None:
        with published(path) as temporary:
            temporary.write_text(text, encoding="utf-8")


class Rewriting:
    """What becomes of the parts of a version, see `Snapshots.rewriting`."""

    def __init__(self, place: Path, current: Snapshot, day: str) -> None:
        self._place, self._current, self._day = place, current, day
        self.had = current.parts
        self.gone = current.rows
        """Rows that are in no part kept or put."""
        self._parts: list[Part] = []
        self._months: set[str] = set()

    def keep(self, part: Part) -> None:
        """Leave a part as it is."""
        self._parts.append(part)
        self.gone -= part.rows

    def put(self, part: Part, rows: Iterable[pa.Table]) -> None:
        """Put these rows, the part's or some of them and in its order, in the part's place."""
        schema = file_schema(part.path)
        made = write_part(self._place, part.day, (aligned(table, schema) for table in rows), schema)
        self._months.add(part.day[:7])
        if made.rows:
            self._parts.append(made)
        self.gone -= made.rows

    def parts(self) -> tuple[Part, ...]:
        """The parts of the new version, in the periods that so many rows have."""
        parts = list(self._parts)
        for month in sorted(self._months - {""}):
            mine = [part for part in parts if part.day[:7] == month]
            days: Counter[str] = Counter()
            for part in mine:
                days.update(days_of(part, self._day))
            periods = in_order(days)
            if any(part.day not in periods for part in mine):
                parts = [part for part in parts if part not in mine] + self._regrouped(mine, periods)
        if not parts:
            return (write_part(self._place, "", [], file_schema(self.had[0].path)),)
        return tuple(sorted(parts, key=lambda part: part.day)) if self._current.by_day else tuple(parts)

    def _regrouped(self, parts: list[Part], periods: list[str]) -> list[Part]:
        schema = file_schema(parts[0].path)
        cursor = Cursor((aligned(table, schema) for table in file_rows(part.path for part in parts)), self._day)
        made = [write_part(self._place, period, cursor.until(span(period)[1]), schema) for period in periods]
        return [part for part in made if part.rows]


def _names(columns: Collection[str] | None) -> list[str] | None:
    return None if columns is None else [str(column) for column in columns]


def _snapshot(place: Path, manifest: dict[str, Any]) -> Snapshot:
    if "parts" not in manifest:  # as versions before 0.2 wrote it: one file, named after the version
        part = Part(place / manifest["path"], "", manifest["rows"], manifest["sha256"])
        del manifest["path"]
        return Snapshot(parts=(part,), **manifest)
    parts = tuple(Part(place / one["path"], one["day"], one["rows"], one["sha256"]) for one in manifest.pop("parts"))
    return Snapshot(parts=parts, **manifest)


def _hash_of_parts(parts: tuple[Part, ...], schema: Mapping[str, str]) -> str:
    said = json.dumps([dict(schema), [[part.day, part.sha256] for part in parts]], ensure_ascii=False)
    return hashlib.sha256(said.encode()).hexdigest()
