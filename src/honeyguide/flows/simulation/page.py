"""A simulation for people: the terminal's tables, and one page that opens from disk without a network."""

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
from honeyguide.flows.reports.charts import Interval, interval_chart, ticks

__all__ = ["day_chart", "page", "print_report", "print_shop", "template", "write_page"]


def print_shop(report: Mapping[str, Any], *, as_json: bool) -> None:
    """`world`."""
    if as_json:
        return emit_json(report)
    out.print(
        f"A shop in [bold]{escape(report['workspace'])}[/]: {report['people']:,} people, {report['items']:,} items, "
        f"{report['days']} days; {report['visits']:,} visits, {report['lists']:,} lists with propensities."
    )
    out.print("  " + ", ".join(f"{count:,} {action}s" for action, count in report["actions"].items()))
    out.print(
        f"  {report['clicks_per_list']:.3f} clicks a list; {report['people_lost']:,} people will not come back. "
        "What they would have done with any other list is known: world.json."
    )
    out.print("\nNext:")
    for line in report["next"]:
        out.print(f"  [bold]{escape(line)}[/]")
    return None


def print_report(report: Mapping[str, Any], *, as_json: bool) -> None:
    """`simulate`: the answer in sentences, then what was predicted, measured and is true, side by side."""
    if as_json:
        return emit_json(report)
    out.print(
        f"[bold]{escape(report['change'])}[/] on {escape(report['workspace'])}: {report['people']:,} people, "
        f"{report['days']:g} days, seed {report['seed']}; the world is {report['world']}"
        + (f" (distance {report['fit']['fit_distance']:.3f})" if report["fit"] else "")
    )
    for sentence in report["says"]:
        out.print(f"  {escape(sentence)}", soft_wrap=True)
    grid = _grid(f"A list of {report['short'][0]['slots']}", "outcome", "present", "predicted", "measured", "truth")
    for row in report["short"]:
        truth = row["truth"]
        grid.add_row(
            row["outcome"], f"{truth['present']:.4f}", _predicted(row), _difference(row["measured"]), _difference(truth)
        )
    for row in report["partial"]:
        same = row["same_moments"]
        grid.add_row(
            f"{row['outcome']}, first {row['slots']}", f"{same['present']:.4f}", _predicted(row), "",
            f"{same['changed']:.4f} there",
        )  # fmt: skip
    out.print(grid)
    grid = _grid(f"A person in {report['days']:g} days", "outcome", "present", "measured", "truth", "")
    for row in report["long"]:
        truth = row["truth"]
        grid.add_row(
            row["outcome"], f"{truth['present']:.4f}", _difference(row["measured"]), _difference(truth), _share(truth)
        )
    out.print(grid)
    for row in report["short"][:1]:
        for advice in row["predicted"]["advice"] if row["predicted"] else ():
            out.print(f"  What to log: {escape(advice)}", soft_wrap=True)
    for note in report["notes"]:
        out.print(f"  [dim]{escape(note)}[/]", soft_wrap=True)
    return None


def _grid(title: str, *names: str) -> Table:
    grid = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, header_style="bold yellow")
    for name in names:
        grid.add_column(name, justify="left" if name == "outcome" else "right", overflow="fold")
    return grid


def _predicted(row: Mapping[str, Any]) -> str:
    found = row["predicted"]
    if found is None:
        return "not logged"
    if found["estimate"] is None:
        return "[red]NOT IDENTIFIABLE[/]"
    return f"{found['estimate']:.4f} [{found['low']:.4f}, {found['high']:.4f}]".replace("[", "\\[", 1)


def _difference(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "not logged"
    said = f"{found['difference']:+.4f}"
    if found.get("low") is not None and found.get("high") is not None:
        said += f" \\[{found['low']:+.4f}, {found['high']:+.4f}]"
    return said


def _share(truth: Mapping[str, Any]) -> str:
    return f"{truth['difference'] / truth['present']:+.1%}" if truth["present"] > 1e-12 else ""


# ----------------------------------------------------------------------------------------------------------- page


def write_page(report: Mapping[str, Any], path: Path) -> None:
    """The report as one HTML file."""
    with published(path) as temporary:
        temporary.write_text(page(report), encoding="utf-8")


def page(report: Mapping[str, Any]) -> str:
    """The report as HTML."""
    charts = [(row, _short_chart(row)) for row in report["short"]] + [
        ({**row, "outcome": f"{row['outcome']}, first {row['slots']} slots"}, _short_chart(row))
        for row in report["partial"]
    ]
    days = [
        (name, day_chart(report["daily"], name))
        for name in ("lists", "clicks", "purchases", "joy")
        if report["daily"]["present"] and report["daily"]["changed"]
    ]
    return template("simulate.html").render(
        report=report, charts=charts, long_chart=_long_chart(report["long"]), days=days, share=_share
    )


def _short_chart(row: Mapping[str, Any]) -> Markup:
    same = row["same_moments"]
    rows = [Interval("present, true", same["present"], tone=3)]
    found = row["predicted"]
    if found is not None and found["estimate"] is not None:
        rows.append(Interval("predicted", found["estimate"], found["low"], found["high"], tone=0))
    rows.append(Interval("true, same lists", same["changed"], tone=1))
    measured = row.get("measured")
    if measured is not None and measured["difference"] is not None:
        # The arms are other people than everybody: what they tell is the difference.
        start = row["truth"]["present"]
        low, high = (None if measured[end] is None else start + measured[end] for end in ("low", "high"))
        rows.append(Interval("measured", start + measured["difference"], low, high, 2))
    if "truth" in row:
        rows.append(Interval("true, lived with", row["truth"]["changed"], tone=5))
    return interval_chart(rows, label=f"{row['outcome']}: predicted, measured and true")


def _long_chart(rows: Sequence[Mapping[str, Any]]) -> Markup:
    """Differences as shares of the present policy's figure, percent."""
    drawn = []
    for row in rows:
        for tone, (name, found) in enumerate((("measured", row["measured"]), ("true", row["truth"]))):
            if found is None or not found["present"] or found["present"] <= 1e-12 or found["difference"] is None:
                continue
            base = found["present"] / 100
            low, high = (None if found[end] is None else found[end] / base for end in ("low", "high"))
            drawn.append(Interval(f"{row['outcome']}, {name}", found["difference"] / base, low, high, 5 if tone else 2))
    return interval_chart(drawn, label="Differences over the whole time, percent of the present policy's figure")


def day_chart(daily: Mapping[str, Sequence[Mapping[str, float]]], name: str) -> Markup:
    """Two lines over the days: the present policy's world and the changed policy's."""
    width, height, left, top = 720, 190, 54, 10
    right, bottom = width - 96, height - 26
    days = max(len(rows) for rows in daily.values())
    most = max((row[name] for rows in daily.values() for row in rows), default=0.0) or 1.0
    low = min(0.0, min((row[name] for rows in daily.values() for row in rows), default=0.0))

    def at(day: float, value: float) -> str:
        x = left + (right - left) * (day - 1) / max(days - 1, 1)
        y = bottom - (bottom - top) * (value - low) / (most - low)
        return f"{x:.1f},{y:.1f}"

    parts = []
    for mark in ticks(low, most, 4):
        y = at(1, mark).split(",")[1]
        parts.append(Markup('<path class="gridline" d="M{} {}H{}"/>').format(left, y, right))
        parts.append(Markup('<text class="name small" x="{}" y="{}">{:g}</text>').format(left - 8, y, mark))
    for tone, (policy, rows) in zip((3, 0), daily.items(), strict=True):
        line = " ".join(at(row["day"], row[name]) for row in rows)
        parts.append(Markup('<polyline class="tone t{}" points="{}"/>').format(tone, line))
        end_x, end_y = (float(one) for one in at(rows[-1]["day"], rows[-1][name]).split(","))
        # The higher line's name stands above, so that two that end together can be read.
        ends = {one: other[-1][name] for one, other in daily.items()}
        above = policy == max(ends, key=lambda one: (ends[one], one))
        label = Markup('<text class="figure" x="{:.1f}" y="{:.1f}">{}</text>')
        parts.append(label.format(end_x + 8, end_y + (-5 if above else 11), policy))
    parts.append(Markup('<text class="axis" x="{}" y="{}">day 1</text>').format(left, height - 6))
    parts.append(Markup('<text class="axis" x="{}" y="{}">day {}</text>').format(right, height - 6, days))
    return Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{} by day">{}</svg>').format(
        width, height, name, Markup("").join(parts)
    )
