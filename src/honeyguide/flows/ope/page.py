"""Off-policy value for people: the terminal's table, and one page that opens from disk without a network."""

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
from honeyguide.flows.reports.charts import Interval, interval_chart

__all__ = ["overlap_chart", "print_report", "write_page"]

_COLOURS = {"IDENTIFIABLE": "green", "UNVERIFIED": "yellow", "NOT IDENTIFIABLE": "red"}


def print_report(report: Mapping[str, Any], *, as_json: bool) -> None:
    """`ope`: the answer in sentences, then the figures."""
    if as_json:
        return emit_json(report)
    verdict = report["verdict"]["name"]
    out.print(f"[bold {_COLOURS[verdict]}]{verdict}[/]  {escape(report['policy'])} on {escape(report['log'])}")
    for sentence in report["says"]:
        out.print(f"  {escape(sentence)}", soft_wrap=True)
    grid = Table(box=box.SIMPLE_HEAD, header_style="bold yellow")
    for name in ("estimator", "value", "low", "high", "how"):
        grid.add_column(name, justify="left" if name in ("estimator", "how") else "right", overflow="fold")
    for one in report["estimates"]:
        mark = "[bold]" if one["estimator"] == report["best"] else ""
        numbers = (f"{one[key]:.4g}" if one[key] is not None else "-" for key in ("estimate", "low", "high"))
        how = one["about"] if one["says"] in ("", "no interval") else one["says"]
        grid.add_row(f"{mark}{escape(one['estimator'])}", *numbers, escape(how))
    out.print(grid)
    overlap = report["overlap"]
    out.print(
        f"  overlap: {overlap['n']:,} {'lists' if report['lists'] else 'decisions'} are worth {overlap['ess']:,.0f} of "
        f"the target's; the rare weights {overlap['n3']:,.0f}; largest weight {overlap['largest']:.3g}; unsupported "
        f"{overlap['unsupported']:.1%}"
    )
    for check in report["checks"]:
        sign = "[red]x[/]" if check["flagged"] else "[green]ok[/]"
        chance = "" if check["p_value"] is None else f" (p {check['p_value']:.3g})"
        out.print(f"  {sign} {escape(check['name'])}: {escape(check['says'])}{chance}", soft_wrap=True)
    for note in report["notes"]:
        out.print(f"  [dim]{escape(note)}[/]", soft_wrap=True)
    return None


def write_page(report: Mapping[str, Any], path: Path) -> None:
    """The report as one HTML file."""
    rows = [
        Interval(one["estimator"], one["estimate"], one["low"], one["high"], tone)
        for tone, one in enumerate(report["estimates"])
        if one["estimate"] is not None
    ]
    chart = interval_chart(rows, label=f"Value by estimator, {report['level']:.0%} intervals") if rows else None
    shares = overlap_chart(report["overlap"]["shares"])
    page = template("ope.html").render(
        report=report, chart=chart, shares=shares, tone=_COLOURS[report["verdict"]["name"]]
    )
    with published(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def overlap_chart(shares: Sequence[Mapping[str, float]]) -> Markup:
    """By size of weight: what share of the log it is (pale), and what share of the target's choices it stands for.

    A target whose share lies where the log's does not is carried by few decisions.
    """
    width, left, top, row_height = 720, 130, 8, 34
    right = width - 120
    most = max([row[key] for row in shares for key in ("share_of_log", "share_of_target")] + [1e-9])
    parts = []
    for place, row in enumerate(shares):
        y = top + row_height * place
        upper = shares[place + 1]["from_weight"] if place + 1 < len(shares) else None
        name = f"{row['from_weight']:g} to {upper:g}" if upper is not None else f"{row['from_weight']:g} and more"
        parts.append(Markup('<text class="name" x="{}" y="{}">{}</text>').format(left - 12, y + 20, name))
        for shift, key, kind in ((3, "share_of_log", "pale"), (16, "share_of_target", "full")):
            length = (right - left) * row[key] / most
            parts.append(
                Markup('<rect class="{}" x="{}" y="{}" width="{:.1f}" height="11" rx="3"/>').format(
                    kind, left, y + shift, max(length, 0.0)
                )
            )
        said = f"{row['share_of_log']:.1%} / {row['share_of_target']:.1%}"
        parts.append(Markup('<text class="figure" x="{}" y="{}">{}</text>').format(right + 12, y + 20, said))
    label = "Overlap: shares of the log and of the target by size of weight"
    return Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        width, top + row_height * len(shares) + 6, label, Markup("").join(parts)
    )
