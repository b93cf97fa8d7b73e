"""How flows look in a terminal: clear tables for people, JSON for machines."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from honeyguide.engines.tasks.steps import atomic_write

if TYPE_CHECKING:
    import pyarrow as pa

    from honeyguide.contracts import Progress as ProgressCall

__all__ = [
    "bench",
    "built",
    "card",
    "checked",
    "created",
    "datasets",
    "doctor",
    "evaluated",
    "exported",
    "fetched",
    "grid_of",
    "pipeline",
    "progress",
    "reported",
    "rolled_back",
    "slate",
    "table",
    "views",
]

# A pipe has no width of its own: tables that are read by `less` or kept in a file should not be cut at 80 columns.
out = Console(highlight=False, emoji=False, width=None if sys.stdout.isatty() else 140)


def emit_json(value: Any) -> None:
    """Print any report as indented JSON."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value, enc_hook=str), indent=2).decode() + "\n")


@contextmanager
def progress(*, quiet: bool = False) -> Iterator[ProgressCall]:
    """Bars on stderr for long work; one line per piece of work where stderr is no terminal."""
    console = Console(stderr=True, highlight=False, emoji=False)
    if quiet or not console.is_terminal:
        last: list[str] = []

        def log(what: str, done: int, total: int) -> None:
            if not quiet and [what] != last:
                last[:] = [what]
                console.print(f"  · {escape(what)}")

        yield log
        return
    bars = Progress(
        SpinnerColumn(style="yellow"), TextColumn("{task.description}"), BarColumn(complete_style="yellow"),
        MofNCompleteColumn(), TimeElapsedColumn(), console=console, transient=True,
    )  # fmt: skip
    tasks: dict[str, Any] = {}

    def show(what: str, done: int, total: int) -> None:
        if what not in tasks:
            tasks[what] = bars.add_task(escape(what), total=max(total, 1))
        bars.update(tasks[what], completed=done, total=max(total, 1))

    with bars:
        yield show


def _grid(title: str, columns: Sequence[str], *, right: Sequence[str] = ()) -> Table:
    grid = Table(
        title=escape(title), title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, header_style="bold yellow"
    )
    for name in columns:
        grid.add_column(escape(name), justify="right" if name in right else "left", overflow="fold")
    return grid


def grid_of(title: str, columns: Sequence[str], cells: Sequence[Sequence[str]], *, right: Sequence[str] = ()) -> Table:
    """A table of plain texts."""
    grid = _grid(title, columns, right=right)
    for row in cells:
        grid.add_row(*map(escape, row))
    return grid


def _interval(row: Mapping[str, Any]) -> str:
    if row["low"] is None or row["high"] is None:
        return f"{row['estimate']:.4f}"
    return f"{row['estimate']:.4f} [{row['low']:.4f}, {row['high']:.4f}]"


def datasets(listing: Sequence[Mapping[str, Any]], *, as_json: bool) -> None:
    """`data list`."""
    if as_json:
        return emit_json(listing)
    grid = _grid("Datasets", ["name", "what it is", "rows", "licence", "cached"], right=["rows"])
    for row in listing:
        grid.add_row(
            escape(row["name"]),
            escape(row["about"]),
            f"{row['rows']:,}",
            escape(row["licence"]),
            "yes" if row["cached"] else "no",
        )
    return out.print(grid)


def fetched(report: Mapping[str, Any], *, as_json: bool) -> None:
    """`data fetch`."""
    if as_json:
        return emit_json(report)
    out.print(f"[bold]{escape(report['name'])}[/]: {report['rows']:,} rows, sha256 {report['sha256'][:16]}… checked")
    for name, path in report["files"].items():
        out.print(f"  {name:8} {escape(str(path))}")
    return out.print(f"[dim]{escape(report['licence'])}[/]")


def _loads(loads: Sequence[Mapping[str, Any]]) -> Table:
    grid = _grid(
        "Rows in = accepted + quarantined",
        ["table", "rows in", "accepted", "quarantined", "reasons"],
        right=["rows in", "accepted", "quarantined"],
    )
    for load in loads:
        reasons = ", ".join(f"{reason}: {count:,}" for reason, count in load["reasons"].items()) or "-"
        grid.add_row(
            escape(load["table"]),
            f"{load['rows_in']:,}",
            f"{load['accepted']:,}",
            f"{load['quarantined']:,}",
            escape(reasons),
        )
    return grid


def _evidence(evidence: Mapping[str, Any]) -> None:
    out.print(f"[bold]Evidence level {evidence['level']}[/]")
    for fact in evidence["facts"]:
        out.print(f"  • {escape(fact)}")


def created(report: Mapping[str, Any], *, as_json: bool) -> None:
    """`init`."""
    if as_json:
        return emit_json(report)
    grid = _grid("The mapping that was chosen", ["file", "column there", "column here", "how"])
    for line in report["mapping"]:
        grid.add_row(*(escape(str(line[key])) for key in ("file", "there", "here", "how")))
    out.print(grid)
    out.print(_loads(report["loads"]))
    _evidence(report["evidence"])
    for note in report["notes"]:
        out.print(f"  [dim]{escape(note)}[/]")
    return out.print(f"\nNext: [bold]honeyguide build {escape(report['workspace'])}[/]")


def loaded(report: Mapping[str, Any], *, as_json: bool) -> None:
    """`load`."""
    if as_json:
        return emit_json(report)
    out.print(_loads(report["loads"]))
    for note in report["notes"]:
        out.print(f"  [dim]{escape(note)}[/]")
    return out.print(f"\nNext: [bold]honeyguide build {escape(report['workspace'])}[/]")


def checked(report: Mapping[str, Any], *, as_json: bool) -> None:
    """`check`."""
    if as_json:
        return emit_json(report)
    if report["loads"]:
        out.print(_loads(report["loads"]))
    grid = _grid("In numbers", ["what", "value"], right=["value"])
    for key, value in report["evidence"]["numbers"].items():
        text = f"{value:,}" if isinstance(value, int) else f"{value:.4g}" if isinstance(value, float) else str(value)
        grid.add_row(key.replace("_", " "), escape(text))
    out.print(grid)
    return _evidence(report["evidence"])


def built(report: Mapping[str, Any], *, as_json: bool) -> None:
    """`build`."""
    if as_json:
        return emit_json(report)
    grid = _grid(f"Build {report['build_id']}", ["step", "seconds", ""], right=["seconds"])
    for name in dict.fromkeys(step["name"] for step in report["steps"]):
        runs = [step for step in report["steps"] if step["name"] == name]
        reused = "[dim]reused[/]" if all(step["reused"] for step in runs) else ""
        grid.add_row(escape(name), f"{sum(step['seconds'] for step in runs):.1f}", reused)
    out.print(grid)
    if report["heads"]:
        from honeyguide.flows import render_ranking

        render_ranking.heads(report["heads"])
    for decision in report["decisions"]:
        out.print(f"  • {escape(decision)}")
    made = report.get("report") or {}
    if "error" in made:
        out.print(f"\n[red]✗[/] the report of saved queries was not written: {escape(made['error'])}")
    elif made:
        failed = f", [red]{made['failed']} failed[/]" if made["failed"] else ""
        out.print(f"\nReport: {escape(made['path'])} ({made['queries']} queries{failed}, {made['seconds']:.1f} s)")
    return out.print(f"\nIn service: [bold]{report['build_id']}[/] ({report['seconds']:.1f} s)")


def card(found: Mapping[str, Any], *, as_json: bool) -> None:
    """The dataset card of a build: Markdown, laid out on a terminal."""
    from honeyguide.flows.card import markdown

    if as_json:
        return emit_json(found)
    text = f"{markdown(found)}\nBuild {found['build_id']}.\n"
    if not sys.stdout.isatty():
        sys.stdout.write(text)
        return None
    from rich.markdown import Markdown

    return out.print(Markdown(text))


def exported(report: Mapping[str, Any], *, as_json: bool) -> None:
    """What an export wrote."""
    if as_json:
        return emit_json(report)
    grid = _grid(f"Exported to {report['out']}", ("table", "rows", "MB", "file"), right=("rows", "MB"))
    for row in report["tables"]:
        grid.add_row(row["table"], f"{row['rows']:,}", f"{row['bytes'] / 1e6:.1f}", escape(row["file"]))
    out.print(grid)
    return out.print("Columns, types and units: README.md beside them.")


def rolled_back(report: Mapping[str, Any], *, as_json: bool) -> None:
    """`rollback`."""
    if as_json:
        return emit_json(report)
    return out.print(f"In service: [bold]{report['build_id']}[/] (was {report['was']})")


def evaluated(report: Mapping[str, Any], *, as_json: bool) -> None:
    """`evaluate`."""
    if as_json:
        return emit_json(report)
    headline = report["headline_metrics"]
    for protocol in dict.fromkeys(row["protocol"] for row in report["rows"]):
        rows = [r for r in report["rows"] if r["protocol"] == protocol and r["metric"] in headline]
        grid = _grid(report["protocols"].get(protocol, protocol), ["people", "system", *headline, "n"], right=["n"])
        cells: dict[tuple[str, str], dict[str, Any]] = {}
        for row in rows:
            cells.setdefault((row["segment"], row["system"]), {})[row["metric"]] = row
        for (segment, system), metrics in cells.items():
            n = max(row["n"] for row in metrics.values())
            values = [_interval(metrics[name]) if name in metrics else "-" for name in headline]
            name = escape(system)
            grid.add_row(escape(segment), f"[bold]{name}[/]" if system == "home" else name, *values, f"{n:,}")
        out.print(grid)
    grid = _grid(
        "home minus baseline, paired by person, 95 % interval",
        ["protocol", "people", "baseline", "metric", "difference"],
    )
    for row in report["differences"]:
        if row["metric"] in headline:
            clear = row["low"] is not None and (row["low"] > 0 or row["high"] < 0)
            colour = ("green" if row["low"] > 0 else "red") if clear else "dim"
            text = f"[{colour}]{_interval(row)}[/]"
            grid.add_row(*(escape(row[key]) for key in ("protocol", "segment", "baseline", "metric")), text)
    out.print(grid)
    for note in report["notes"]:
        out.print(f"  • {escape(note)}")
    for row in report["differences"]:
        if row["metric"] in headline and row["segment"] == "all":
            out.print(f"  {escape(row['protocol'])}: {_verdict(row)}")
    return None


def _verdict(row: Mapping[str, Any]) -> str:
    """A difference in words; what its interval does not settle is no win."""
    baseline, metric = escape(row["baseline"]), escape(row["metric"])
    if row["low"] is None or row["high"] is None:
        return f"no interval for home against {baseline} on {metric} ({row['estimate']:+.4f}): too few people"
    by = f"{row['estimate']:+.4f} [{row['low']:+.4f}, {row['high']:+.4f}]"
    if row["low"] > 0:
        return f"[green]home beats {baseline}[/] on {metric} by {escape(by)}"
    if row["high"] < 0:
        return f"[red]home is worse than {baseline}[/] on {metric} by {escape(by)}"
    return f"home does not beat {baseline} on {metric}: {escape(by)}"


def slate(answer: Any, *, as_json: bool) -> None:
    """`recommend` and `search`."""
    if as_json:
        return emit_json(answer)
    if getattr(answer, "corrected", None):
        out.print(f"Did you mean [bold]{escape(answer.corrected)}[/]?")
    grid = _grid(f"{answer.surface}", ["#", "item", "year", "why", "sources", "heads"], right=["#"])
    for item in answer.items:
        marks = " [yellow]pinned[/]" if item.pinned else " [cyan]explored[/]" if item.explored else ""
        heads = " ".join(f"{name} {value:.2f}" for name, value in item.heads.items())
        title = escape(item.title or item.item_id) + marks
        grid.add_row(
            str(item.position),
            title,
            str(item.year or ""),
            escape(item.reason),
            escape(", ".join(item.sources)),
            escape(heads),
        )
    if answer.items:
        out.print(grid)
    else:
        out.print("Nothing matches.")
    for name, counts in getattr(answer, "facets", {}).items():
        out.print(f"[dim]{escape(name)}:[/] " + ", ".join(f"{escape(c.value)} {c.count}" for c in counts[:8]))
    if answer.fallback:
        out.print(f"[yellow]Fallback: {escape(answer.fallback)}[/]")
    dropped = ", ".join(f"{reason} {count}" for reason, count in answer.dropped.items()) or "nothing"
    return out.print(f"[dim]dropped: {escape(dropped)} · policy {answer.policy_version}[/]")


def pipeline(description: Mapping[str, Any], *, as_json: bool) -> None:
    """`explain`."""
    if as_json:
        return emit_json(description)
    data = description["data"]
    out.print(
        f"[bold]{escape(description['workspace'])}[/]  build {description['build_id']}\n"
        f"{data['events']:,} events, {data['people']:,} people, {data['items']:,} items, "
        f"{data['first']} to {data['last']}"
    )
    for name, surface in description["surfaces"].items():
        out.print(f"\n[bold yellow]{escape(name)}[/]")
        for regime in surface["sources"][0]["weights"] if surface["sources"] else ():
            weights = ", ".join(f"{s['name']} x {s['weights'][regime]:.2f}" for s in surface["sources"])
            out.print(f"  1 sources      on a {regime}: {escape(weights)} -> {surface['candidates']} candidates")
        heads = ", ".join(f"{h['name']} ({h['gives']})" for h in surface["heads"]) or "none: the blend's rank decides"
        if surface["ranked_requests"]:
            heads += f"; the rank counts on: {', '.join(surface['ranked_requests'])}"
        out.print(f"  2 heads        {escape(heads)}")
        out.print(f"  3 rules        {escape('; '.join(surface['rules'])) or 'none'}")
        terms = [surface["formula"]] if surface.get("formula") else []
        terms += [f"{w:+g} x {h}" for h, w in surface["utility"].items()]
        out.print(f"  4 utility      {escape(' '.join(terms))}")
        if surface.get("fatigue"):
            out.print(f"    fatigue      x {surface['fatigue']['keep']:g} for each showing in vain")
        for sentence in surface.get("guardrails_say", ()):
            out.print(f"    guardrail    {escape(sentence)}", soft_wrap=True)
        out.print(f"  5 diversity    {escape(surface['diversity_says'])}")
        exploration = surface["exploration"]
        out.print(f"  6 exploration  {escape(exploration['says'])}; propensities logged")
        for said in (exploration["note"], exploration["stopped"] and f"stopped: {exploration['stopped']}"):
            if said:
                out.print(f"                 [yellow]{escape(said)}[/]")
        out.print(f"  deadline       {surface['deadline_ms']:g} ms, then popular")
    _sources(description.get("sources", ()), description.get("sources_say", ()))
    for one in description.get("long_term", ()):
        out.print(f"\n[bold yellow]{escape(one['name'])}[/]  {escape(one['says'])}")
        told = one["reason"] if not one["on"] else f"index explains {one['index']['explained']:.0%} of it"
        out.print(f"  {escape(told)}")
        if "surrogacy" in one:
            out.print(f"  surrogacy: {escape(one['surrogacy']['says'])}", soft_wrap=True)
    grid = _grid("Features", ["feature", "of", "meaning", "window", "importance"], right=["importance"])
    for feature in description["features"]:
        share = feature.get("importance")
        shown = "-" if share is None else f"{share:.1%}"
        grid.add_row(*(escape(feature[key]) for key in ("name", "entity", "meaning", "window")), shown)
    return out.print(grid)


def _sources(rows: Sequence[Mapping[str, Any]], said: Sequence[str]) -> None:
    """What each source adds and costs, as validation found it."""
    if not rows:
        return
    regimes = list(rows[0]["alone"])
    columns = [f"{what} ({regime})" for regime in regimes for what in ("weight", "alone", "adds")]
    grid = _grid(
        "Sources on validation, nDCG@10", ["source", *columns, "ms a question"], right=[*columns, "ms a question"]
    )
    for row in rows:
        cells = []
        for regime in regimes:
            alone = row["alone"][regime]
            cells += [f"{row['weights'].get(regime, 0.0):.2f}", "-" if alone is None else f"{alone:.4f}",
                      f"{row['adds'].get(regime, 0.0):+.4f}"]  # fmt: skip
        cost = "-" if row["cpu_ms"] is None else f"{row['cpu_ms']:.3f}"
        grid.add_row(escape(row["name"]) + ("" if row["on"] else " [dim](off)[/]"), *cells, cost)
    out.print(grid)
    for sentence in said:
        out.print(f"  {escape(sentence)}", soft_wrap=True)


def parameters(found: Mapping[str, Any], *, as_json: bool) -> None:
    """`explain --public`."""
    from honeyguide.flows.public import text

    if as_json:
        return emit_json(found)
    sys.stdout.write(text(found))
    return None


def reported(report: Mapping[str, Any], *, as_json: bool) -> None:
    """`report`."""
    if as_json:
        return emit_json(report)
    out.print(
        f"[bold]{escape(report['path'])}[/]: {report['queries']} queries, {report['empty']} without rows, "
        f"{report['failed']} failed, {report['seconds']:.1f} s"
    )
    for one in report["sections"]:
        if one["error"]:
            out.print(f"  [red]✗[/] {escape(one['name'])}: {escape(one['error'])}")
    return None


def views(listing: Sequence[Mapping[str, Any]], *, as_json: bool) -> None:
    """`sql --views`."""
    if as_json:
        return emit_json(listing)
    for view in listing:
        out.print(f"\n[bold yellow]{escape(view['name'])}[/]  {escape(view['meaning'])}")
        grid = _grid("", ["column", "type", "meaning"])
        for column in view["columns"]:
            unit = f" [{column['unit']}]" if column["unit"] else ""
            grid.add_row(escape(column["name"]), escape(column["dtype"] + unit), escape(column["meaning"]))
        out.print(grid)
    return None


def table(data: pa.Table, *, limit: int, as_json: bool) -> None:
    """`sql`."""
    rows = data.slice(0, limit).to_pylist()
    if as_json:
        return emit_json(rows)
    grid = _grid("", data.column_names)
    for row in rows:
        grid.add_row(*("" if value is None else escape(str(value)) for value in row.values()))
    out.print(grid)
    if data.num_rows > limit:
        out.print(f"[dim]{limit:,} of {data.num_rows:,} rows; --limit shows more[/]")
    return None


def doctor(findings: Sequence[Mapping[str, Any]], *, as_json: bool) -> bool:
    """`doctor`; returns whether nothing is broken."""
    if as_json:
        emit_json(findings)
    else:
        marks = {"ok": "[green]✓[/]", "note": "[yellow]•[/]", "bad": "[red]✗[/]"}
        grid = _grid("", ["", "what", "found", "what to do"])
        for line in findings:
            grid.add_row(marks[line["state"]], *(escape(str(line[key])) for key in ("what", "found", "do")))
        out.print(grid)
    return all(line["state"] != "bad" for line in findings)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def listing(named: Mapping[str, str]) -> None:
    """Names and what they are."""
    for name, meaning in named.items():
        out.print(f"[bold]{escape(name)}[/]  {escape(meaning)}")


def bench(result: Mapping[str, Any], json_file: Path | None) -> None:
    """`bench`."""
    columns = ["benchmark", "case", "metric", "ours", "peer", "peer_name", "ratio", "floor", "unit"]
    grid = _grid(result["machine"]["cpu"], columns, right=["ours", "peer", "ratio", "floor"])
    for row in result["rows"]:
        cells = (row[name] for name in columns)
        grid.add_row(
            *("" if c is None else _number(c) if isinstance(c, float | int) else escape(str(c)) for c in cells)
        )
    out.print(grid)
    for line in result["missing"]:
        out.print(f"[yellow]left out: {escape(line)}[/]")
    if json_file is not None:
        document = {key: result[key] for key in ("machine", "commit", "rows")}
        atomic_write(json_file, msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n")
