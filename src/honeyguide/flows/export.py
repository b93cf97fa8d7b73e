"""`honeyguide export`: a workspace's tables as Parquet for other tools, with a page that says what the columns mean."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from honeyguide.contracts import Progress, TablesEngine
from honeyguide.engines.tables.choice import tables_engine
from honeyguide.engines.tables.snapshot import Snapshots
from honeyguide.engines.tasks.steps import disk_errors
from honeyguide.errors import NotFoundError, RequestError
from honeyguide.features.definition import FeatureSet
from honeyguide.flows.card import READABLE
from honeyguide.flows.config import WorkspaceConfig
from honeyguide.flows.data import all_items, held_expression
from honeyguide.flows.layout import Layout
from honeyguide.flows.live import load_manifest
from honeyguide.flows.tables import PLACE, in_schema, ordered
from honeyguide.flows.training import FIXED, label_column
from honeyguide.schema import columns as c
from honeyguide.schema.columns import Column
from honeyguide.schema.tables import EVENTS, FEATURE_VALUES, IMPRESSIONS, ITEMS, TABLES, TRAINING_SET

if TYPE_CHECKING:
    import ibis.expr.types as ir
    import pyarrow as pa

    from honeyguide.flows.build import Manifest

__all__ = ["export"]

_ROW_GROUP = 131_072
_OWN = (TRAINING_SET.name, FEATURE_VALUES.name)  # made by a build
_ASKED = (EVENTS.name, ITEMS.name, IMPRESSIONS.name)  # the tables' rows and what the log has brought since


def export(folder: Path, out: Path, tables: Sequence[str] = (), *, progress: Progress | None = None) -> dict[str, Any]:
    """Write tables (default: all stored ones) as `<out>/<table>.parquet` with a README; returns what was written.

    Rows are streamed, whatever their number. `out` must be new or empty and appears whole or not at all.
    Raises NotFoundError for a table that is not there, RequestError for a folder that holds something.
    """
    tell: Progress = progress or (lambda what, done, total: None)
    layout = Layout.open(folder)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RequestError(
            expected="a new or empty folder", got=f"{out}, which is not empty", do="Name another with --out."
        )
    known = {one.name: one for one in _sources(layout)}
    chosen = list(dict.fromkeys(tables)) or [name for name, source in known.items() if source.stored]
    unknown = [name for name in chosen if name not in known]
    if unknown:
        raise NotFoundError(
            expected=f"a table of this workspace ({', '.join(known)})", got=", ".join(unknown), do="Name one of these."
        )
    config = WorkspaceConfig.load(layout.config)
    place = out.resolve()
    temporary = place.with_name(f".{place.name}.tmp-{os.getpid()}")
    written: list[dict[str, Any]] = []
    with disk_errors(place.parent), closing(tables_engine(config.engine)) as engine:
        temporary.mkdir(parents=True)
        try:
            for done, name in enumerate(chosen):
                tell(name, done, len(chosen))
                path = temporary / f"{name}.parquet"
                rows = known[name].write(engine, path)
                written.append(
                    {"table": name, "rows": rows, "bytes": path.stat().st_size, "file": str(out / path.name)}
                )
            tell("tables", len(chosen), len(chosen))
            page = _readme(layout, [known[name] for name in chosen], written)
            (temporary / "README.md").write_text(page, encoding="utf-8")
            if place.exists():
                place.rmdir()
            temporary.rename(place)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return {"workspace": str(layout.root), "out": str(out), "tables": written}


@dataclass(frozen=True)
class _Source:
    """A table that can be exported. `write` streams it into a file and returns its rows."""

    name: str
    meaning: str
    columns: Sequence[Column]
    write: Callable[[TablesEngine, Path], int]
    stored: bool = True


def _sources(layout: Layout) -> Iterator[_Source]:
    """What this workspace can export, the stored tables first."""
    manifest = load_manifest(layout) if layout.current.exists() else None
    for name in _OWN:
        path = _artifact(layout, manifest, name)
        if path is not None and manifest is not None:
            yield _Source(name, TABLES[name].meaning, _columns(name, manifest, path), _copy(path))
    stored = Snapshots(layout.tables).names()
    for name in (*_ASKED, *(name for name in stored if name not in _ASKED)):
        if name in TABLES and (name in stored or name in _ASKED):
            table = TABLES[name]
            there = name in stored or (name == ITEMS.name and EVENTS.name in stored)
            yield _Source(name, table.meaning, table.columns, _held(layout, name), stored=there)
    yield from _views(layout)


def _artifact(layout: Layout, manifest: Manifest | None, name: str) -> Path | None:
    folders = {} if manifest is None else manifest.folders
    folder = folders.get({TRAINING_SET.name: "training"}.get(name, name))
    path = None if folder is None else layout.root / folder / f"{name}.parquet"
    return path if path is not None and path.exists() else None


def _columns(name: str, manifest: Manifest, path: Path) -> Sequence[Column]:
    """The columns of a build's table; those of the training set are named by its heads and features."""
    import pyarrow.parquet as pq

    table = TABLES[name]
    if name != TRAINING_SET.name:
        return table.columns
    heads = WorkspaceConfig.of_build(manifest.config).heads
    said = {one.name: f"{one.meaning} ({one.window})" for one in FeatureSet.from_config(manifest.features).explain()}
    labels = {label_column(head.name): head for head in heads}
    declared = {str(column): column for column in FIXED}
    found = []
    for column in pq.read_schema(path).names:
        if column in declared:
            found.append(declared[column])
        elif column in labels:
            head = labels[column]
            meaning = f"1 if the outcome of head {head.name} ({head.action}) happened, 0 if not, null if unknown."
            found.append(Column(column, "float32", meaning, nullable=True))
        else:
            meaning = said.get(column, "What the sources said of the candidate, relative to their best in the request")
            found.append(Column(column, "float32", meaning.rstrip(".") + ".", nullable=True))
    return found


def _copy(path: Path) -> Callable[[TablesEngine, Path], int]:
    def write(engine: TablesEngine, to: Path) -> int:
        import pyarrow.parquet as pq

        shutil.copyfile(path, to)
        return int(pq.read_metadata(to).num_rows)

    return write


def _held(layout: Layout, name: str) -> Callable[[TablesEngine, Path], int]:
    table = TABLES[name]

    def write(engine: TablesEngine, to: Path) -> int:
        import pyarrow.parquet as pq

        if name not in _ASKED:
            files = Snapshots(layout.tables).paths(name)
            rows = in_schema(engine.parquet(files, name, numbered=PLACE), table)
            return _streamed(engine, rows.order_by(PLACE).drop(PLACE), to, table.arrow())
        if table is ITEMS:
            # Small beside the events: what one machine must hold to serve it.
            pq.write_table(items := all_items(layout), to, compression="zstd")
            return items.num_rows
        found = held_expression(engine, layout, table)
        if found is None:
            return _streamed(engine, None, to, table.arrow())
        in_order = ordered(found) if table is EVENTS else found.order_by([c.HAPPENED_AT, c.REQUEST_ID])
        return _streamed(engine, in_order, to, table.arrow())

    return write


def _views(layout: Layout) -> Iterator[_Source]:
    from honeyguide.flows.analysis import VIEWS

    for view in VIEWS.values():
        yield _Source(view.name, view.meaning, view.columns, _viewed(layout, view.name), stored=False)


def _viewed(layout: Layout, name: str) -> Callable[[TablesEngine, Path], int]:
    def write(engine: TablesEngine, to: Path) -> int:
        from honeyguide.flows.analysis import BASE, VIEWS, expressions

        base: dict[str, ir.Table] = {}
        for of, table in BASE.items():
            found = None if table is ITEMS else held_expression(engine, layout, table)
            if table is ITEMS:
                found = engine.table(all_items(layout))
            elif found is None:
                found = engine.table(table.arrow().empty_table())
            base[of] = in_schema(found, table).drop(PLACE) if PLACE in found.columns else in_schema(found, table)
        view = VIEWS[name]
        weights = WorkspaceConfig.load(layout.config).actions
        rows = expressions(base, weights)[name].order_by([str(column) for column in view.key])
        return _streamed(engine, rows, to, None)

    return write


def _streamed(engine: TablesEngine, rows: ir.Table | None, to: Path, schema: pa.Schema | None) -> int:
    """Write the rows, a piece at a time, under the schema (default: their own); returns how many."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    n = 0
    if schema is None and rows is not None:
        schema = rows.schema().to_pyarrow()
    with pq.ParquetWriter(to, schema, compression="zstd") as writer:
        for batch in engine.batches(rows) if rows is not None else ():
            writer.write_table(pa.Table.from_batches([batch]).cast(schema), row_group_size=_ROW_GROUP)
            n += batch.num_rows
    return n


def _readme(layout: Layout, sources: Iterable[_Source], written: Sequence[dict[str, Any]]) -> str:
    rows = {one["table"]: one["rows"] for one in written}
    build = f" (build {layout.current_build()})" if layout.current.exists() else ""
    lines = [
        f"# Tables of {layout.root.resolve().name}{build}",
        "",
        "Times are UTC. Every table is one Parquet file.",
        "",
    ]
    for source in sources:
        lines += [f"## {source.name}.parquet", "", f"{source.meaning} {rows[source.name]:,} rows.", ""]
        lines += ["| column | type | unit | may be null | meaning |", "| --- | --- | --- | --- | --- |"]
        for column in source.columns:
            nullable = "yes" if column.nullable else ""
            cells = (str(column), column.dtype, column.unit, nullable, column.meaning.replace("|", "\\|"))
            lines.append("| " + " | ".join(cells) + " |")
        lines.append("")
    lines.append(
        f"How the rows of the training set were chosen is told by `honeyguide card` ({READABLE} of the build)."
    )
    return "\n".join([*lines, ""])
