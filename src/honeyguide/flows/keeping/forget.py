"""`honeyguide forget`: a person leaves the log, the tables and all their versions, what was built of them, and memory.

In this order, so that it can be killed anywhere and run again: first a salted hash that lets nothing of the person in
any more; then word to running servers; then log and tables; then the builds that saw the person.
"""

from __future__ import annotations

import datetime as dt
import json
import shutil
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from honeyguide.contracts import LogRecord, Progress
from honeyguide.engines.log.sqlite import SqliteLog
from honeyguide.engines.tables.parts import Part, file_rows, file_schema
from honeyguide.engines.tables.snapshot import Snapshots
from honeyguide.engines.tasks.steps import atomic_write, disk_errors, only_process
from honeyguide.errors import DataError
from honeyguide.flows.build import build
from honeyguide.flows.config import WorkspaceConfig
from honeyguide.flows.keeping.compact import compact, open_log
from honeyguide.flows.keeping.traces import Person
from honeyguide.flows.layout import Layout
from honeyguide.flows.loading.pending import recover
from honeyguide.flows.registry import fallback
from honeyguide.flows.rights import person_of
from honeyguide.serving.record import erase_record

__all__ = ["forget"]

_PAGE = 50_000


def forget(
    folder: Path | str, user_id: str, *, dry_run: bool = False, rebuild: bool = False, allow_return: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Erase a person; returns the report of `honeyguide forget`. What is not there is no error.

    rebuild: a build without the person is made before those that saw them are retired, so that a server always has
    one. allow_return: no hash stays behind, so that a later load may bring the person back; one left earlier goes.
    """
    tell: Progress = progress or (lambda what, done, total: None)
    if not user_id:
        raise DataError(expected="a person's id", got="an empty text", do="Name the person: --user ID.")
    layout = Layout.open(folder)
    config = WorkspaceConfig.load(layout.config)
    person, tables = Person(user_id), Snapshots(layout.tables)
    started = time.perf_counter()
    tell("looking", 0, 1)
    report: dict[str, Any] = {"workspace": str(layout.root), "dry_run": dry_run, **_survey(layout, tables, person)}
    tell("looking", 1, 1)
    if dry_run:
        return report
    with (
        only_process(layout.lock, "build or forget"),
        only_process(layout.loading, "load or forget"),
        disk_errors(layout.root),
    ):
        hashed = tables.forgotten.add(user_id)
        tell("log and tables", 0, 1)
        if layout.log.exists():
            with closing(open_log(layout.log, config)) as log:
                log.append([erase_record(hashed, time.time_ns() // 1000)]).result()
        # What the log holds of the person does not get into the tables any more.
        compact(layout)
        recover(layout)  # a replay that was cut short has left rows as they came
        with layout.compacting():
            for path in (layout.log, layout.impressions, layout.served):
                if path.exists():
                    with closing(open_log(path, config)) as log:
                        log.erase(user_id)
            for name in tables.names():
                _leave_table(layout, tables, name, person)
        _leave_records(layout, person)
        shutil.rmtree(layout.scratch, ignore_errors=True)
        tell("log and tables", 1, 1)
    try:
        if rebuild:
            build(layout.root, progress=tell)
    finally:
        with only_process(layout.lock, "build or forget"), disk_errors(layout.root):
            report["builds"] = _retire(layout, person)
            for name in tables.names():
                tables.collect(name, keep=1, pinned=layout.pinned(name), orphans_after_s=0)
        if allow_return:
            tables.forgotten.allow(user_id)
    report["kept_out"] = not allow_return
    report["in_service"] = layout.current_build() if layout.current.exists() else None
    report["seconds"] = round(time.perf_counter() - started, 2)
    return report


# -------------------------------------------------------------------------------------------------- what there is


def _survey(layout: Layout, tables: Snapshots, person: Person) -> dict[str, Any]:
    """Where the person is, and how much of them."""
    rows, versions = {}, {}
    for name in tables.names():
        seen: dict[str, int] = {}
        had = [sum(_count(part, person, seen) for part in version.parts) for version in tables.history(name)]
        rows[name] = sum(_count(part, person, seen) for part in tables.current(name).parts)
        versions[name] = sum(count > 0 for count in had)
    waiting = {
        path.stem: _in_log(path, person) for path in (layout.log, layout.impressions, layout.served) if path.exists()
    }
    return {
        "log": waiting,
        "tables": {name: count for name, count in rows.items() if count},
        "versions": {name: count for name, count in versions.items() if count},
        "builds": [build_id for build_id in layout.build_ids() if _saw(layout, build_id, person)],
        "reports": [str(path.relative_to(layout.root)) for path in _naming(layout.reports, person)],
        "records": [str(path.relative_to(layout.root)) for path in _records(layout) if person.is_in(path.read_text())],
        "yours": [str(path.relative_to(layout.root)) for path in _yours(layout) if person.is_in(path.read_text())],
    }


def _in_log(path: Path, person: Person) -> int:
    with closing(SqliteLog(path)) as log:
        return sum(record.user_id == person.id for page in _pages(log) for record in page)


def _pages(log: Any) -> Iterator[list[LogRecord]]:
    after = log.trimmed()
    while page := log.read(after, _PAGE):
        yield [record for _, record in page]
        after = page[-1][0]


def _count(part: Part, person: Person, seen: dict[str, int]) -> int:
    """Rows of a part that are the person's; a part that several versions share is read once."""
    known = seen.get(part.path.name)
    if known is None:
        columns = person.columns(file_schema(part.path).names)
        rows = [] if columns is None else file_rows([part.path], columns)
        known = seen[part.path.name] = sum(int(np.count_nonzero(person.rows(table))) for table in rows)
    return known


def _naming(folder: Path, person: Person) -> list[Path]:
    texts = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return [path for path in texts if person.is_in(path.read_text(encoding="utf-8", errors="replace"))]


def _records(layout: Layout) -> list[Path]:
    """What was kept of loads."""
    return [path for path in (layout.root / "loads.json", *sorted(layout.loads.glob("*.json"))) if path.exists()]


def _yours(layout: Layout) -> list[Path]:
    """What people wrote, and nobody else changes."""
    return [path for path in (layout.config, *sorted(layout.contracts.glob("*.toml"))) if path.exists()]


def _saw(layout: Layout, build_id: str, person: Person) -> bool:
    """Whether a build knows the person; one whose people cannot be read counts as such."""
    manifest = json.loads(layout.manifest(build_id).read_text())
    people = layout.root / manifest["folders"].get("catalog", "") / "users.json"
    try:
        # One who began anew may be there as a former self alone.
        return any(person_of(one) == person.id for one in msgspec.json.decode(people.read_bytes(), type=list[str]))
    except (OSError, msgspec.DecodeError):
        return True


# ------------------------------------------------------------------------------------------------------- erasing


def _leave_table(layout: Layout, tables: Snapshots, name: str, person: Person) -> None:
    """Out of the version in force, and out of all others: those that hold the person go, pinned or not."""
    seen: dict[str, int] = {}

    def others(part: Part) -> Iterator[pa.Table]:
        for table in file_rows([part.path]):
            yield table.filter(pa.array(~person.rows(table)))

    with tables.rewriting(name) as rewriting:
        for part in rewriting.had:
            if _count(part, person, seen):
                rewriting.put(part, others(part))
            else:
                rewriting.keep(part)
    clean = [
        version.id
        for version in tables.history(name)
        if not any(_count(part, person, seen) for part in version.parts if part.path.exists())
    ]
    pinned = layout.pinned(name)
    tables.collect(name, keep=1, pinned=[one for one in clean if one in pinned], orphans_after_s=0)


def _leave_records(layout: Layout, person: Person) -> None:
    for path in _naming(layout.reports, person):
        path.unlink()
    for path in _records(layout):
        text = path.read_text(encoding="utf-8")
        if person.is_in(text):
            document = person.without(msgspec.json.decode(text))
            atomic_write(path, msgspec.json.encode(document))


def _retire(layout: Layout, person: Person) -> list[str]:
    """Take builds that saw the person out of reach, and what was made of data with them; returns their ids.

    The newest build that did not see them goes into service if the one there is retired; without one, none is.
    """
    retired = [build_id for build_id in layout.build_ids() if _saw(layout, build_id, person)]
    current = layout.current.read_text().strip() if layout.current.exists() else ""
    left = [build_id for build_id in layout.build_ids() if build_id not in retired]
    if current in retired and left:
        atomic_write(layout.current, fallback(layout, left).encode())
    elif current in retired:
        layout.current.unlink()
    layout.retired.mkdir(exist_ok=True)
    now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    for build_id in retired:
        manifest = json.loads(layout.manifest(build_id).read_text())
        told = manifest | {"retired": {"at": now, "reason": "a person it had learnt from was erased"}}
        atomic_write(layout.retired / f"{build_id}.json", msgspec.json.format(msgspec.json.encode(told)))
        layout.manifest(build_id).unlink()
    kept = set()
    for build_id in left:
        manifest = json.loads(layout.manifest(build_id).read_text())
        kept |= {layout.root / place for place in manifest["folders"].values()}
        kept |= {layout.root / step["folder"] for step in manifest["steps"]}
    for step in layout.artifacts.iterdir() if layout.artifacts.exists() else ():
        for folder in step.iterdir():
            if folder not in kept:
                shutil.rmtree(folder, ignore_errors=True)
    return retired
