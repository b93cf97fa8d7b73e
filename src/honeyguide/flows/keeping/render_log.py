"""How a compaction and an erasure look in a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.markup import escape

from honeyguide.flows.render import emit_json, out

__all__ = ["compacted", "forgotten"]


def compacted(report: Mapping[str, Any], *, as_json: bool) -> None:
    """`compact`."""
    if as_json:
        return emit_json(report)
    moved = ", ".join(f"{rows:,} {name}" for name, rows in report["moved"].items() if rows)
    out.print(f"Moved from the log into the tables: {moved or 'nothing was waiting'}.")
    for name, rows in report["dropped"].items():
        out.print(f"Dropped by \\[retention]: {rows:,} rows of {escape(name)}.")
    for name, table in report["tables"].items():
        out.print(f"  [bold]{escape(name)}[/]  {table['rows']:,} rows in {table['files']:,} files")
    return None


def forgotten(report: Mapping[str, Any], *, as_json: bool) -> None:
    """`forget`."""
    if as_json:
        return emit_json(report)
    would = "Would leave" if report["dry_run"] else "Left"
    found = [f"{rows:,} records of the {name} log" for name, rows in report["log"].items() if rows]
    found += [
        f"{rows:,} rows of {name} ({report['versions'].get(name, 0):,} versions)"
        for name, rows in report["tables"].items()
    ]
    old = {name: n for name, n in report["versions"].items() if name not in report["tables"]}
    found += [f"{n:,} older versions of {name}" for name, n in old.items()]
    found += [f"the report {path}" for path in report["reports"]]
    found += [f"the record {path}" for path in report["records"]]
    out.print(f"{would}: {escape('; '.join(found)) or 'nothing was found of this person'}.")
    builds = ", ".join(report["builds"]) or "none"
    out.print(f"{'Would retire' if report['dry_run'] else 'Retired'} builds that saw the person: {escape(builds)}.")
    for path in report["yours"]:
        out.print(f"[yellow]{escape(path)} names the person; it is yours to change.[/]")
    if report["dry_run"]:
        return None
    if report["in_service"] is None:
        out.print("[yellow]No build is in service: run `honeyguide build`. Until then servers refuse to answer.[/]")
    else:
        out.print(f"In service: {report['in_service']}.")
    if report["kept_out"]:
        out.print("A salted hash keeps the person out of later loads; `forget --allow-return` lifts it.")
    else:
        out.print("Nothing keeps the person out: a later load of an old file would bring them back.")
    out.print("Servers that run have dropped the person within a second. Files outside the workspace stay as they are.")
    return None
