"""`honeyguide quarantine list | show`: what was held back, and why, and the rows themselves as they came."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from honeyguide.engines.tables.arrow import published
from honeyguide.engines.tables.snapshot import Snapshots
from honeyguide.errors import NotFoundError, RequestError
from honeyguide.flows.layout import Layout
from honeyguide.flows.loading.quality import held_counts
from honeyguide.flows.loading.records import LoadRecord, records
from honeyguide.intake.quality import meaning
from honeyguide.intake.raw import unmarked
from honeyguide.intake.written import as_written
from honeyguide.schema import columns as c
from honeyguide.schema.tables import QUARANTINE

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Selection", "State", "listing", "scan", "show"]

State = Literal["held", "replayed", "all"]
_NAMES = tuple(str(column) for column in QUARANTINE.columns)


@dataclass(frozen=True, slots=True)
class Selection:
    """Which rows of Quarantine: by load (an id or its beginning), reasons, table and state. None: all of them."""

    load: str | None = None
    reasons: tuple[str, ...] = ()
    table: str | None = None
    state: State = "held"

    def checked(self, layout: Layout) -> Selection:
        """The same with the load's whole id. NotFoundError for a load, reason or table that Quarantine lacks."""
        counts = held_counts(layout)
        loads = {load for load, *_ in counts}
        chosen = self.load
        if chosen is not None:
            found = sorted(load for load in loads if load.startswith(chosen))
            if len(found) != 1:
                got = f"{len(found)} loads that begin with {chosen!r}" if found else f"{chosen!r}"
                raise NotFoundError(
                    expected="a load that Quarantine has rows of",
                    got=got,
                    do="`honeyguide quarantine list` names them.",
                )
            chosen = found[0]
        known = {reason for _, reason, *_ in counts}
        for reason in self.reasons:
            if reason not in known:
                raise NotFoundError(
                    expected=f"a reason that Quarantine has ({', '.join(sorted(known)) or 'it is empty'})",
                    got=repr(reason),
                    do="Name one of these.",
                )
        tables = {table for _, _, table, _ in counts if table} | {record.table for record in records(layout)}
        if self.table is not None and self.table not in tables:
            raise NotFoundError(
                expected=f"a table that rows were meant for ({', '.join(sorted(tables)) or 'none yet'})",
                got=repr(self.table),
                do="Name one of these.",
            )
        return Selection(chosen, self.reasons, self.table, self.state)

    def of(self, rows: pa.Table) -> Any:
        """Mask of the rows that are chosen."""
        import pyarrow as pa
        import pyarrow.compute as pc

        back = rows[c.REPLAYED_AT].is_valid()
        chosen = pa.chunked_array([pa.repeat(pa.scalar(True), rows.num_rows)])
        if self.state != "all":
            chosen = back if self.state == "replayed" else pc.invert(back)
        if self.load is not None:
            chosen = pc.and_(chosen, pc.equal(rows[c.LOAD_ID], self.load))
        if self.reasons:
            chosen = pc.and_(chosen, pc.is_in(rows[c.REASON], value_set=pa.array(self.reasons, pa.string())))
        if self.table is not None:
            chosen = pc.and_(chosen, pc.fill_null(pc.equal(rows[c.MEANT_FOR], self.table), False))
        return chosen


def scan(tables: Snapshots, version: str | None = None) -> Iterator[pa.Table]:
    """Quarantine in pieces, in the columns of the schema, whatever version of Honeyguide wrote it."""
    import pyarrow as pa

    current = tables.find(QUARANTINE.name) if version is None else tables.version(QUARANTINE.name, version)
    if current is None:
        return
    schema = pa.schema([pa.field(field.name, field.type) for field in QUARANTINE.arrow()])
    for part in tables.scan(QUARANTINE.name, current.id):
        columns = [
            part[field.name].cast(field.type)
            if field.name in part.column_names
            else pa.nulls(part.num_rows, field.type)
            for field in schema
        ]
        yield pa.table(columns, schema=schema)


def listing(folder: Path | str, selection: Selection | None = None) -> dict[str, Any]:
    """The report of `quarantine list`: per load and table what is held, what re-entered, why, and its share."""
    layout = Layout.open(folder)
    chosen = (selection or Selection(state="all")).checked(layout)
    history = {(record.load_id, record.table): record for record in records(layout)}
    loads: dict[tuple[str, str], dict[str, Any]] = {}
    for part in scan(Snapshots(layout.tables)):
        for row in _grouped(part.filter(chosen.of(part))):
            key = (row[c.LOAD_ID], row[c.MEANT_FOR] or _only_table(history, row[c.LOAD_ID]))
            load = loads.setdefault(key, _empty(row, key, history.get(key)))
            load["replayed" if row[c.REPLAYED_AT] else "held"] += row["count_all"]
            load["reasons"][row[c.REASON]] += row["count_all"]
    found = sorted(loads.values(), key=lambda load: load["at"], reverse=True)
    for load in found:
        load["reasons"] = dict(load["reasons"].most_common())
        rows = load["held"] + load["replayed"]
        load["share"] = rows / load["rows_in"] if load["rows_in"] else None
    total = Counter[str]()
    for load in found:
        total.update(load["reasons"])
    return {
        "workspace": str(layout.root),
        "held": sum(load["held"] for load in found),
        "replayed": sum(load["replayed"] for load in found),
        "reasons": {reason: {"rows": n, "meaning": meaning(reason)} for reason, n in total.most_common()},
        "loads": found,
    }


def _grouped(rows: pa.Table) -> list[dict[str, Any]]:
    at = rows.schema.get_field_index(c.REPLAYED_AT)
    marked = rows.set_column(at, str(c.REPLAYED_AT), rows[c.REPLAYED_AT].is_valid())
    keys = [str(name) for name in (c.LOAD_ID, c.SOURCE_FILE, c.LOADED_AT, c.MEANT_FOR, c.REASON, c.REPLAYED_AT)]
    return marked.group_by(keys).aggregate([([], "count_all")]).to_pylist()


def _empty(row: Mapping[str, Any], key: tuple[str, str], record: LoadRecord | None) -> dict[str, Any]:
    return {
        "load_id": key[0],
        "at": row[c.LOADED_AT].isoformat(timespec="milliseconds"),
        "file": row[c.SOURCE_FILE],
        "table": key[1],
        "rows_in": record.rows_in if record is not None else None,
        "held": 0,
        "replayed": 0,
        "reasons": Counter[str](),
    }


def _only_table(history: Mapping[tuple[str, str], LoadRecord], load: str) -> str:
    return next((table for one, table in history if one == load), "")


def show(
    folder: Path | str, selection: Selection | None = None, *, limit: int = 20, export: Path | None = None
) -> dict[str, Any]:
    """The report of `quarantine show`: the first `limit` rows, and with `export` all of them in a file as they came.

    Raises RequestError for a limit below 1, NotFoundError as `Selection.checked`.
    """
    layout = Layout.open(folder)
    if limit < 1:
        raise RequestError(expected="a limit of 1 or more", got=str(limit), do="Ask for at least one row.")
    chosen = (selection or Selection()).checked(layout)
    rows: list[dict[str, Any]] = []
    total = 0
    for part in scan(Snapshots(layout.tables)):
        found = part.filter(chosen.of(part))
        total += found.num_rows
        rows += found.slice(0, limit - len(rows)).to_pylist()
    report: dict[str, Any] = {"workspace": str(layout.root), "rows": [_row(row) for row in rows], "total": total}
    if export is not None:
        report["export"] = _export(layout, chosen, Path(export))
    return report


def _row(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value.isoformat(timespec="seconds") if hasattr(value, "isoformat") else value
        for name, value in row.items()
    }


def _export(layout: Layout, chosen: Selection, path: Path) -> dict[str, Any]:
    """Write the rows' own bytes, a record per line: where the file had a header line as such a file."""
    history = {(record.load_id, record.table): record for record in records(layout)}
    headers: set[tuple[str, str]] = set()
    rows = 0
    with published(path) as temporary, temporary.open("wb") as out:
        for part in scan(Snapshots(layout.tables)):
            found = part.filter(chosen.of(part))
            for row in found.to_pylist():
                record = history.get((row[c.LOAD_ID], row[c.MEANT_FOR] or ""))
                header = ("", "") if record is None else (record.header, record.delimiter)
                if not headers and header[0]:
                    out.write(unmarked(header[0]) + b"\n")
                headers.add(header)
                if len(headers) > 1:
                    raise RequestError(
                        expected="rows of files that are written alike",
                        got="rows of loads with different header lines",
                        do="Export one load at a time: --load ID.",
                    )
                out.write(unmarked(as_written(row[c.RAW], *header)) + b"\n")
                rows += 1
    return {"file": str(path), "rows": rows}
