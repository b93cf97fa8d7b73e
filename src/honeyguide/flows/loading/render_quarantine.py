"""How Quarantine looks in a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table

from honeyguide.flows.render import emit_json, out

__all__ = ["listed", "replayed", "shown"]

_LONGEST_RAW = 400
_ID = 8
_FIGURES = ("rows in", "held", "re-entered", "share")


def listed(report: Mapping[str, Any], *, as_json: bool) -> None:
    """`quarantine list`."""
    if as_json:
        return emit_json(report)
    if not report["loads"]:
        return out.print("Quarantine holds no such row.")
    table = Table(
        title="Held back", title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, header_style="bold yellow"
    )
    for name in ("load", "at", "table", "file", "rows in", "held", "re-entered", "share", "reasons"):
        table.add_column(name, justify="right" if name in _FIGURES else "left", overflow="fold")
    for load in report["loads"]:
        reasons = ", ".join(f"{reason}: {n:,}" for reason, n in load["reasons"].items())
        table.add_row(
            escape(load["load_id"][:_ID]),
            escape(load["at"][:16].replace("T", " ")),
            escape(load["table"] or "-"),
            escape(load["file"]),
            "-" if load["rows_in"] is None else f"{load['rows_in']:,}",
            f"{load['held']:,}",
            f"{load['replayed']:,}",
            "-" if load["share"] is None else f"{load['share']:.2%}",
            escape(reasons),
        )
    out.print(table)
    for reason, found in report["reasons"].items():
        out.print(f"  [bold]{escape(reason)}[/]  {found['rows']:,}  [dim]{escape(found['meaning'])}[/]")
    return out.print(f"\n{report['held']:,} held, {report['replayed']:,} re-entered")


def shown(report: Mapping[str, Any], *, as_json: bool) -> None:
    """`quarantine show`."""
    if as_json:
        return emit_json(report)
    for row in report["rows"]:
        back = f", re-entered {row['replayed_at'][:16].replace('T', ' ')}" if row["replayed_at"] else ""
        where = f"{row['source_file']} row {row['row_number']:,}"
        out.print(f"[bold]{escape(row['reason'])}[/]  [dim]{escape(where)}, load {row['load_id'][:_ID]}{back}[/]")
        raw = row["raw"]
        cut = raw if len(raw) <= _LONGEST_RAW else f"{raw[:_LONGEST_RAW]}… ({len(raw):,} characters)"
        out.print(f"  {escape(row['detail'] or '')}\n  [yellow]{escape(cut)}[/]", soft_wrap=True)
    if report["total"] > len(report["rows"]):
        out.print(f"[dim]{len(report['rows']):,} of {report['total']:,} rows; --limit shows more[/]")
    if not report["total"]:
        out.print("Quarantine holds no such row.")
    if "export" in report:
        out.print(f"{report['export']['rows']:,} rows written to {escape(report['export']['file'])}")
    return None


def replayed(report: Mapping[str, Any], *, as_json: bool) -> None:
    """`quarantine replay`."""
    if as_json:
        return emit_json(report)
    if not report["rows"]:
        return out.print("Quarantine holds no such row.")
    out.print(f"{report['rows']:,} rows = {report['accepted']:,} entered + {report['held']:,} stay")
    for reason, n in report["reasons"].items():
        out.print(f"  {escape(reason)}: {n:,}")
    for note in report["notes"]:
        out.print(f"  [dim]{escape(note)}[/]")
    if report["accepted"]:
        out.print(f"\nNext: [bold]honeyguide build {escape(report['workspace'])}[/]")
    return None
