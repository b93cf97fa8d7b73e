"""The front of a surface's objectives for people: the terminal's tables, and a page that opens from disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup
from rich import box
from rich.markup import escape
from rich.table import Table

from honeyguide.engines.tables.arrow import published
from honeyguide.flows.pages import template
from honeyguide.flows.render import emit_json, out
from honeyguide.flows.reports.charts import ticks

__all__ = ["front_chart", "print_report", "write_page"]


def print_report(report: Mapping[str, Any], *, as_json: bool) -> None:
    """`tune-utility`: what objectives cost each other, and the tuned weights."""
    if as_json:
        return emit_json(report)
    for sentence in report["says"]:
        out.print(escape(sentence), soft_wrap=True)
    grid = Table(box=box.SIMPLE_HEAD, title=f"The front of {report['surface']}", title_justify="left")
    grid.add_column("weights")
    for name in (*report["objectives"], "next item"):
        grid.add_column(escape(name), justify="right")
    for row in _shown(report):
        weights = row["weights"]
        label = "as it is" if weights is None else ", ".join(f"{n} {w:.2f}" for n, w in weights.items() if w)
        cells = [*(row["values"][name] for name in report["objectives"]), row["next_item"]]
        grid.add_row(escape(label), *(f"{c['estimate']:.4f} [{c['low']:.4f}, {c['high']:.4f}]" for c in cells))
    out.print(grid)
    out.print(f"[bold]\\[surfaces.{escape(report['surface'])}.slate.utility][/]  tuned on {escape(report['goal'])}")
    out.print(escape(report["tuned"]["toml"]))
    for note in report["notes"]:
        out.print(f"  [dim]{escape(note)}[/]", soft_wrap=True)
    return out.print(f"\nPage: [bold]{escape(report['path'])}[/]")


def write_page(report: Mapping[str, Any], path: Path) -> None:
    """The same as one HTML file without a script or an address of anything outside."""
    names = report["objectives"]
    charts = [front_chart(_shown(report), names[0], other) for other in names[1:]]
    page = template("utility.html").render(report=report, rows=_shown(report), charts=charts)
    with published(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _shown(report: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The policy as it is, then the front in the order of the first objective."""
    first = report["objectives"][0]
    on = [row for row in report["front"] if row["on_front"]]
    present = [row for row in report["front"] if row["weights"] is None]
    return [*present, *sorted(on, key=lambda row: -row["values"][first]["estimate"])]


def front_chart(rows: Sequence[Mapping[str, Any]], across: str, up: str) -> Markup:
    """Two objectives against each other: dots with their intervals joined by a line, the policy as it is apart."""
    width, height, left, bottom = 720, 380, 76, 46
    ends = {name: [row["values"][name][end] for row in rows for end in ("low", "high")] for name in (across, up)}
    low = {name: min(values) for name, values in ends.items()}
    span = {name: (max(values) - low[name]) or 1.0 for name, values in ends.items()}

    def x(value: float) -> float:
        return left + 10 + (width - left - 30) * (value - low[across]) / span[across]

    def y(value: float) -> float:
        return height - bottom - 10 - (height - bottom - 30) * (value - low[up]) / span[up]

    parts = []
    for mark in ticks(low[across], low[across] + span[across]):
        parts.append(
            Markup('<path class="gridline" d="M{0:.1f} 10V{1}"/><text class="axis" x="{0:.1f}" y="{2}">{3:.4g}</text>')
            .format(x(mark), height - bottom, height - bottom + 16, mark)
        )  # fmt: skip
    for mark in ticks(low[up], low[up] + span[up]):
        parts.append(
            Markup('<path class="gridline" d="M{0} {1:.1f}H{2}"/><text class="name" x="{3}" y="{4:.1f}">{5:.4g}</text>')
            .format(left, y(mark), width - 10, left - 8, y(mark) + 4, mark)
        )  # fmt: skip
    dots = [(x(r["values"][across]["estimate"]), y(r["values"][up]["estimate"])) for r in rows]
    front = [dot for dot, row in zip(dots, rows, strict=True) if row["weights"] is not None]
    line = "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in front) if front else ""
    parts.append(Markup('<path class="tone" d="{}"/>').format(line))
    for (a, b), row in zip(dots, rows, strict=True):
        one, other = row["values"][across], row["values"][up]
        parts.append(
            Markup('<path class="whisker" d="M{:.1f} {:.1f}H{:.1f}M{:.1f} {:.1f}V{:.1f}"/>').format(
                x(one["low"]), b, x(one["high"]), a, y(other["low"]), y(other["high"])
            )
        )
        kind = "dot" if row["weights"] is not None else "present"
        parts.append(Markup('<circle class="{}" cx="{:.1f}" cy="{:.1f}" r="4.5"/>').format(kind, a, b))
    parts.append(
        Markup('<text class="axis" x="{}" y="{}">{}</text>').format((left + width) / 2, height - 8, f"{across} →")
    )
    parts.append(Markup('<text class="figure" x="4" y="12">↑ {}</text>').format(up))
    label = f"{up} against {across}: what more of one costs of the other"
    return Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        width, height, label, Markup("").join(parts)
    )
