"""What `honeyguide explore` prints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from rich.markup import escape

from honeyguide.flows.exploring.stops import Stop
from honeyguide.flows.render import emit_json, out

__all__ = ["audited", "released", "status"]


def status(report: Mapping[str, Any], *, as_json: bool) -> None:
    """`explore status` and `explore check`."""
    if as_json:
        return emit_json(report)
    for name, surface in report["surfaces"].items():
        out.print(f"[bold yellow]{escape(name)}[/]  {escape(surface['says'])}")
        if surface["stopped"] is not None:
            out.print(f"  [red]stopped[/] {surface['stopped']['at']}: {escape(surface['stopped']['why'])}")
        for rail in surface["guardrails"]:
            out.print(
                f"  {escape(rail['action'])} {rail['hurt']} than {rail['ratio']:g} x: evidence {rail['evidence']:.3g}, "
                f"{rail['needed']:g} stops it; {rail['explored']} on explored slots, {rail['unexplored']} on others, "
                f"{rail['expected_explored']:.1f} explored at {rail['ratio']:g} x"
            )
    return None


def released(surface: str, stop: Stop, *, as_json: bool) -> None:
    """`explore release`."""
    if as_json:
        return emit_json({"surface": surface, "was": msgspec.to_builtins(stop)})
    out.print(f"[green]✓[/] {escape(surface)} explores again; it had stopped on {stop.at}: {escape(stop.why)}")
    return None


def audited(report: Mapping[str, Any], *, as_json: bool) -> None:
    """`explore audit`."""
    if as_json:
        return emit_json(report)
    out.print(f"[bold]{escape(report['surface'])}[/]  {escape(report['exploration'])}")
    for one in report["requests"]:
        mark = "[green]✓[/]" if one["ok"] else "[red]✗[/]"
        out.print(f"{mark} {escape(str(one['user_id']))}: {one['draws']:,} draws, {one['lists']:,} different lists")
        for test in one["tests"]:
            out.print(f"    {test['name']}: p = {test['p_value']:.3g}; furthest: {escape(test['worst'])}")
        for problem in one["problems"]:
            out.print(f"    [red]{escape(problem)}[/]")
    return None
