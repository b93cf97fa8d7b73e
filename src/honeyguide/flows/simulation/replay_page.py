"""A replay for people: the terminal's tables, and one page that opens from disk without a network."""

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

__all__ = ["page", "print_report", "write_page"]


def print_report(report: Mapping[str, Any], *, as_json: bool) -> None:
    """`replay`: the answer in sentences, then for whom, which items, how fast, and lists side by side."""
    if as_json:
        return emit_json(report)
    out.print(f"[bold]{escape(report['change'])}[/] on {escape(report['workspace'])}, requests of {report['day']}")
    for sentence in report["says"]:
        out.print(f"  {escape(sentence)}", soft_wrap=True)
    for why, count in report["left_out"].items():
        out.print(f"  [dim]left out: {count:,} {escape(why)}[/]", soft_wrap=True)
    grid = _grid("For whom", "", "requests", "change", "first slot", "overlap", "rank-biased", "places moved")
    for name, groups in (("everybody", [{"group": "", **report["all"]}]), *report["by"].items()):
        if name != "everybody" and len(groups) < 2:
            continue
        for group in groups:
            moved = "" if group["moved"] is None else f"{group['moved']:.1f}"
            grid.add_row(
                escape(f"{name} {group['group']}".strip()), f"{group['requests']:,}", f"{group['changed']:.0%}",
                f"{group['first']:.0%}", f"{group['overlap']:.0%}", f"{group['rbo']:.3f}", moved,
            )  # fmt: skip
    out.print(grid)
    grid = _grid("Who is shown more and less", "item", "shown before", "after", "exposure")
    for one in (*report["exposure"]["winners"][:5], *report["exposure"]["losers"][:5]):
        grid.add_row(escape(one["title"]), f"{one['before']:,}", f"{one['after']:,}", f"{one['gain']:+.1f}")
    out.print(grid)
    grid = _grid("Wall time by stage, ms", "stage", "p50", "p99", "p50 changed", "p99 changed")
    for one in report["speed"]["stages"]:
        figures = (one[policy][name] for policy in ("before", "after") for name in ("p50_ms", "p99_ms"))
        grid.add_row(one["stage"], *("" if figure is None else f"{figure:.3f}" for figure in figures))
    out.print(grid)
    for example in report["examples"][:2]:
        grid = _grid(f"{example['surface']} of {escape(str(example['user_id']))}", "#", "present", "changed", "moved")
        for place in range(max(len(example["before"]), len(example["after"]))):
            mine, theirs = (_at(example[name], place) for name in ("before", "after"))
            grid.add_row(
                str(place + 1), escape(mine["title"]) if mine else "", escape(theirs["title"]) if theirs else "",
                _moved(theirs),
            )  # fmt: skip
        out.print(grid)
    for note in report["notes"]:
        out.print(f"  [dim]{escape(note)}[/]", soft_wrap=True)
    return None


def _at(slots: Sequence[Mapping[str, Any]], place: int) -> Mapping[str, Any] | None:
    return slots[place] if place < len(slots) else None


def _moved(slot: Mapping[str, Any] | None) -> str:
    if slot is None:
        return ""
    return "new" if slot["moved"] is None else f"{slot['moved']:+d}" if slot["moved"] else "="


def _grid(title: str, *names: str) -> Table:
    grid = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, header_style="bold yellow")
    left = {"", "item", "stage", "present", "changed"}
    for name in names:
        grid.add_column(name, justify="left" if name in left else "right", overflow="fold")
    return grid


def write_page(report: Mapping[str, Any], path: Path) -> None:
    """The report as one HTML file."""
    with published(path) as temporary:
        temporary.write_text(page(report), encoding="utf-8")


def page(report: Mapping[str, Any]) -> str:
    """The report as HTML."""
    return template("policy_replay.html").render(
        report=report, histogram=_histogram(report["histogram"]), moved=_moved, categories=_bars(report["exposure"])
    )


def _histogram(counts: Sequence[int]) -> Markup:
    """Requests by rank-biased overlap of their two lists, from nothing in common to the same list."""
    width, height, left, top = 720, 170, 40, 8
    bottom, most = height - 26, max([*counts, 1])
    step = (width - 2 * left) / len(counts)
    bar = '<rect class="dot t0" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"><title>{}</title></rect>'
    parts = []
    for place, count in enumerate(counts):
        tall = (bottom - top) * count / most
        words = f"{place / len(counts):.1f} to {(place + 1) / len(counts):.1f}: {count:,} requests"
        parts.append(
            Markup(bar).format(left + step * place, bottom - tall, step - 3, tall, words)
        )  # fmt: skip
        parts.append(
            Markup('<text class="axis" x="{:.1f}" y="{}">{:.1f}</text>').format(
                left + step * place, height - 8, place / len(counts)
            )
        )
    parts.append(Markup('<text class="axis" x="{}" y="{}">the same</text>').format(width - left, height - 8))
    label = "Requests by rank-biased overlap of the two lists"
    return Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        width, height, label, Markup("").join(parts)
    )


def _bars(exposure: Mapping[str, Any]) -> Markup | None:
    """Categories by the share of all exposure that they win (right) or lose (left)."""
    rows = exposure["categories"]
    if not rows:
        return None
    width, left, height = 720, 170, 26
    middle, most = left + (width - left - 70) / 2, max(abs(row["gain_share"]) for row in rows) or 1.0
    parts = []
    for place, row in enumerate(rows):
        y, long = height * place + 4, (width - left - 70) / 2 * abs(row["gain_share"]) / most
        x = middle if row["gain_share"] > 0 else middle - long
        tone = "t5" if row["gain_share"] > 0 else "t2"
        parts.append(Markup('<text class="name" x="{}" y="{}">{}</text>').format(left - 12, y + 13, row["category"]))
        parts.append(
            Markup('<rect class="dot {}" x="{:.1f}" y="{}" width="{:.1f}" height="16" rx="3"/>').format(
                tone, x, y, long
            )
        )
        parts.append(
            Markup('<text class="figure" x="{}" y="{}">{:+.1%}</text>').format(width - 60, y + 13, row["gain_share"])
        )
    parts.append(Markup('<path class="gridline" d="M{0:.1f} 0V{1}"/>').format(middle, height * len(rows)))
    return Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        width, height * len(rows) + 4, "Exposure won and lost by category", Markup("").join(parts)
    )
