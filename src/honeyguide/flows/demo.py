"""`honeyguide demo`: the whole ring on MovieLens, as a chain of the commands that a user runs on their own data."""

from __future__ import annotations

import resource
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.rule import Rule

from honeyguide.engines.tasks.steps import atomic_write
from honeyguide.errors import WorkspaceError
from honeyguide.flows import render
from honeyguide.flows.build import build
from honeyguide.flows.check import check
from honeyguide.flows.create import create
from honeyguide.flows.evaluate import evaluate
from honeyguide.flows.film_policy import film_policy
from honeyguide.flows.layout import Layout
from honeyguide.flows.live import load_manifest
from honeyguide.flows.loading import sources_of_data
from honeyguide.flows.operate import server
from honeyguide.flows.reports.build_report import render_report
from honeyguide.flows.reports.queries import query_report
from honeyguide.flows.simulation import two_changes
from honeyguide.flows.warm import compiling

__all__ = ["demo"]

DATASETS = ("ml-1m", "ml-100k")
WORLD = "world"
LIKED = ("Toy Story (1995)", "Alien (1979)")
NEWCOMER = "somebody-new"


class _Clock:
    """Times the steps and keeps their shares."""

    def __init__(self, out: Console) -> None:
        self.steps: list[dict[str, Any]] = []
        self._out = out

    @contextmanager
    def step(self, command: str, why: str) -> Iterator[None]:
        self._out.print(Rule(f"[bold yellow]{len(self.steps) + 1}[/]  {why}", align="left", style="yellow"))
        self._out.print(f"[dim]$ {escape(command)}[/]")
        started = time.perf_counter()
        yield
        self.steps.append({"name": why, "seconds": round(time.perf_counter() - started, 2), "reused": False})

    @property
    def seconds(self) -> float:
        return sum(step["seconds"] for step in self.steps)


def demo(folder: Path, *, dataset: str = "ml-1m", as_json: bool = False) -> dict[str, Any]:
    """Run the ring and end; everything it makes lies in `folder`, which a second run makes anew.

    dataset: `world` is an invented shop whose truth is known, and two changes of it beside that truth.
    """
    if dataset not in (*DATASETS, WORLD):
        known = ", ".join((*DATASETS, WORLD))
        raise WorkspaceError(expected=f"one of {known}", got=repr(dataset), do="Name one of them.")
    folder = Path(folder)
    _clear(folder)
    if dataset == WORLD:
        return _two_changes(folder, as_json)
    with compiling():
        return _turn(folder, dataset, as_json)


def _turn(folder: Path, dataset: str, as_json: bool) -> dict[str, Any]:
    out = Console(highlight=False, emoji=False, stderr=as_json, quiet=as_json)
    clock = _Clock(out)
    with clock.step(f"honeyguide data fetch {dataset}; honeyguide data fetch film-facts", "fetch and check the data"):
        with render.progress(quiet=as_json) as progress:
            films = sources_of_data.fetch(dataset, progress=progress)
            facts = sources_of_data.fetch("film-facts", progress=progress)
        out.print(f"{films['rows']:,} ratings from {films['source']}, SHA-256 checked. [dim]{films['licence']}[/]")
    files = films["files"]
    command = f"honeyguide init {folder} --events events.parquet --items items.parquet --users users.parquet"
    with clock.step(f"{command} --facts film-facts.parquet", "make a workspace"):
        with render.progress(quiet=as_json) as progress:
            created = create(
                folder, events=Path(files["events"]), items=Path(files["items"]), users=Path(files["users"]),
                facts=Path(facts["files"]["items"]), name="Films", progress=progress,
            )  # fmt: skip
        for load in created["loads"]:
            out.print(
                f"  {load['table']:7} {load['rows_in']:>9,} rows in = {load['accepted']:,} accepted "
                f"+ {load['quarantined']:,} quarantined"
            )
        for line in film_policy(folder):
            out.print(f"  honeyguide.toml: {escape(line)}")
    with clock.step(f"honeyguide check {folder}", "what this data can and cannot support"):
        found = check(folder)["evidence"]
        out.print(f"  evidence level [bold]{found['level']}[/]")
        for fact in found["facts"]:
            out.print(f"  • {escape(fact)}")
    with clock.step(f"honeyguide build {folder}", "features, sources, ranker, indexes: a build"):
        with render.progress(quiet=as_json) as progress:
            built = build(folder, progress=progress, report=False)  # it is written when something was served
        for line in built["decisions"]:
            out.print(f"  • {escape(line)}")
    with clock.step(f"honeyguide evaluate {folder}", "measure it honestly"):
        with render.progress(quiet=as_json) as progress:
            judged = evaluate(folder, progress=progress)
        if not as_json:
            _headline(out, judged)
    with clock.step(f"honeyguide serve {folder}", "serve four surfaces, click, and see the next answer change"):
        samples = _ring(folder, out.print)
    report = folder / "reports" / "report.html"
    with clock.step(f"honeyguide report {folder}", "write the reports"):
        queries = query_report(folder)["path"]
        _write_report(folder, report, judged, clock.steps, samples)
    summary = _summary(folder, clock, built, judged, report) | {"analysis": queries}
    if as_json:
        render.emit_json(summary)
    else:
        _say_summary(out, summary)
    return summary


def _two_changes(folder: Path, as_json: bool) -> dict[str, Any]:
    out = Console(highlight=False, emoji=False, stderr=as_json, quiet=as_json)
    clock = _Clock(out)
    command = f"honeyguide world {folder}; honeyguide simulate {folder} --change {folder}/changes/clicks.toml --offline"
    with (
        clock.step(command, "two changes of a shop whose truth is known"),
        render.progress(quiet=as_json) as progress,
    ):
        reports = two_changes.live_both(folder, progress=progress)
    summary = {"workspace": str(folder), "changes": reports, "seconds": round(clock.seconds, 1)}
    if as_json:
        render.emit_json(summary)
        return summary
    two_changes.say(out, reports)
    out.print("\nHeld-out events cannot see what a change does to people who live with it; the truth can.")
    for name in two_changes.NAMES:
        out.print(f"Report   [bold]{escape(str(folder / 'reports' / name))}.html[/]  (opens from disk)")
    return summary


def _clear(folder: Path) -> None:
    """A second demo starts anew, but only over the workspace of an earlier one."""
    if folder.exists() and any(folder.iterdir()):
        if not (folder / "workspace.json").exists():
            raise WorkspaceError(
                expected="a new folder, or that of an earlier demo", got=f"{folder}, which holds other things",
                do="Name another folder: `honeyguide demo DIR`.",
            )  # fmt: skip
        shutil.rmtree(folder)


def _headline(out: Console, judged: dict[str, Any]) -> None:
    for row in judged["differences"]:
        if row["metric"] == "nDCG@10" and row["segment"] == "all":
            base = next(
                r["estimate"] for r in judged["rows"]
                if (r["protocol"], r["segment"], r["system"], r["metric"])
                == (row["protocol"], "all", row["baseline"], "nDCG@10")
            )  # fmt: skip
            share = row["estimate"] / base if base else float("nan")
            out.print(
                f"  {row['protocol']:9} home is [bold]{share:+.0%}[/] on {row['baseline']:8} "
                f"(nDCG@10 {row['estimate']:+.4f} [{row['low']:+.4f}, {row['high']:+.4f}])"
            )


def _ring(folder: Path, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """Start the real server, ask every surface, click as a new person, and ask again."""
    samples: list[dict[str, Any]] = []
    with server(folder, port=0, workers=1) as api, httpx.Client(base_url=api.url, timeout=30.0) as client:

        def ask(title: str, **request: Any) -> dict[str, Any]:
            answer = client.post("/v1/recommend", json={"k": 10, **request}).raise_for_status().json()
            samples.append(_sample(title, answer))
            return answer

        known = client.get("/v1/pipeline").raise_for_status().json()["examples"]
        ask(f"Home of person {known[len(known) // 2]}", user_id=known[len(known) // 2])
        ask(f"Item page of {LIKED[0]}", surface="item", item_id=LIKED[0])
        ask("Board of " + " and ".join(LIKED), surface="board", board_items=list(LIKED))
        found = client.post("/v1/search", json={"query": "tom hanks", "k": 10}).raise_for_status().json()
        samples.append(_sample("Search for “tom hanks”", found))
        before = ask("Home of somebody new", user_id=NEWCOMER, context={})
        click = {"user_id": NEWCOMER, "item_id": LIKED[1], "action": "rating", "value": 5, "surface": "home"}
        client.post("/v1/events", json={"events": [{**click, "request_id": before["request_id"]}]}).raise_for_status()
        after = ask(f"Home of the same person after liking {LIKED[1]}", user_id=NEWCOMER)
        old = {item["item_id"] for item in before["items"]}
        changed = sum(item["item_id"] not in old for item in after["items"])
        say(f"  home, item, board and search answer at {api.url}")
        say(
            f"  a new person likes {LIKED[1]}: {changed} of 10 items of the next home answer are new, nothing retrained"
        )
        took = [client.post("/v1/recommend", json={"user_id": known[0]}).elapsed.total_seconds() for _ in range(30)]
        say(f"  a home answer over HTTP, client included: {1e3 * float(np.median(took)):.1f} ms median")
    return samples


def _sample(title: str, answer: dict[str, Any]) -> dict[str, Any]:
    items = [{"title": i.get("title"), "year": i.get("year"), "reason": i.get("reason")} for i in answer["items"][:8]]
    return {"title": title, "items": items}


def _write_report(
    folder: Path, path: Path, judged: dict[str, Any], steps: list[dict[str, Any]], samples: list[dict[str, Any]]
) -> None:
    from honeyguide.flows.operate import explain

    layout = Layout.open(folder)
    manifest = load_manifest(layout)
    curves = layout.root / manifest.folders["ranker"] / "reliability.json"
    extras = {
        "title": "Films: what was built, and how good it is",
        "samples": samples,
        "reliability": msgspec.json.decode(curves.read_bytes()) if curves.exists() else [],
        "next": [f"Open the console: {_command()} serve {folder}, then http://127.0.0.1:8081"],
    }
    atomic_write(path, render_report(explain(folder), judged, steps, extras).encode())


def _summary(
    folder: Path, clock: _Clock, built: dict[str, Any], judged: dict[str, Any], report: Path
) -> dict[str, Any]:
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return {
        "workspace": str(folder),
        "build_id": built["build_id"],
        "differences": [r for r in judged["differences"] if r["metric"] == "nDCG@10" and r["segment"] == "all"],
        "report": str(report),
        "steps": [{**step, "share": round(step["seconds"] / clock.seconds, 3)} for step in clock.steps],
        "seconds": round(clock.seconds, 1),
        "peak_gb": round(peak * 1024 / 1e9, 2),
    }


def _command() -> str:
    """How this command can be called again: by its name, if the shell would find it."""
    return "honeyguide" if shutil.which("honeyguide") else sys.argv[0]


def _say_summary(out: Console, summary: dict[str, Any]) -> None:
    out.print(Rule("[bold yellow]done[/]", align="left", style="yellow"))
    for step in summary["steps"]:
        out.print(f"  {step['seconds']:6.1f} s  {step['share']:4.0%}  {step['name']}")
    out.print(f"  {summary['seconds']:6.1f} s in all, {summary['peak_gb']:.1f} GB at the peak")
    folder = escape(summary["workspace"])
    out.print(f"\nReport   [bold]{escape(summary['report'])}[/]  (opens from disk)")
    out.print(f"Data     [bold]{escape(summary['analysis'])}[/]  (saved queries; every build writes it anew)")
    out.print(f"Console  [bold]{_command()} serve {folder}[/], then http://127.0.0.1:8081")
    out.print(f"Yours    [bold]{_command()} init shop --events YOUR.parquet --items YOUR.parquet[/]")
