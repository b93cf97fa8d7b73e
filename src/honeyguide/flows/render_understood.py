"""How queries are read, in a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.markup import escape

from honeyguide.flows.render import emit_json, grid_of, out

__all__ = ["accepted", "analysed", "listed", "proposed"]


def analysed(found: Mapping[str, Any], *, as_json: bool) -> None:
    """`understand`."""
    if as_json:
        return emit_json(found)
    cells = [[one["step"], escape(one["says"]), f"{one['us']:.0f}"] for one in found["steps"]]
    out.print(grid_of(f"“{escape(found['query'])}”", ["step", "what it did", "µs"], cells))
    out.print(f"Searched for: [bold]{escape(found['searched'])}[/]")
    for word, ways in found["rewrites"].items():
        told = ", ".join(f"{escape(other)} ({weight:.2f})" for other, weight in ways.items())
        out.print(f"  {escape(word)} also as {told}")
    for name, value in found["filters"].items():
        out.print(f"  only with {escape(name)}: {escape(str(value))}")
    if found["dropped"]:
        out.print(f"Nothing has all of it; left out: {escape(', '.join(found['dropped']))}")
    for other in found["did_you_mean"]:
        out.print(f"Or did they mean “{escape(other)}”?")
    first = "; ".join(escape(title) for title in found["first"])
    out.print(f"{found['total']:,} hits{': ' + first if first else ''}")
    return None


def proposed(report: Mapping[str, Any], *, as_json: bool) -> None:
    """`synonyms propose`."""
    if as_json:
        return emit_json(report)
    cells = [
        [escape(one["word"]), escape(one["synonym"]), f"{one['score']:.2f}", one["source"], escape(one["evidence"])]
        for one in report["new"][:20]
    ]
    if cells:
        out.print(grid_of("New proposals", ["word", "synonym", "score", "from", "evidence"], cells))
    out.print(f"{len(report['new'])} new, {report['waiting']} wait in {escape(report['file'])}.")
    out.print("Put `yes` into the first column, then run `honeyguide synonyms accept`. Nothing is applied before.")
    return None


def accepted(report: Mapping[str, Any], *, as_json: bool) -> None:
    """`synonyms accept`."""
    if as_json:
        return emit_json(report)
    for line in report["accepted"]:
        out.print(f"  {escape(line)}")
    out.print(f"{len(report['accepted'])} added to {escape(report['file'])}; `honeyguide build` puts them in service.")
    return None


def listed(found: Mapping[str, Any], *, as_json: bool) -> None:
    """`synonyms list`."""
    if as_json:
        return emit_json(found)
    for name, others in found["rules"].items():
        out.print(f"  {escape(name)}: {escape(', '.join(others))}")
    for one in found["refused"]:
        out.print(f"[bold red]line {one['line']}[/] is left out: {escape(one['reason'])}")
    out.print(f"{len(found['rules'])} names with synonyms; {found['waiting']} proposals wait.")
    return None
