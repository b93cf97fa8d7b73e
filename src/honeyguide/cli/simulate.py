"""A world with known truth: make one, live a change in it, answer yesterday's requests under a change."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from honeyguide.cli.common import Dir, Json, examples

__all__ = ["app"]

app = typer.Typer()
ChangeFile = Annotated[
    Path, typer.Option("--change", metavar="FILE", help="What of the policy is otherwise, and what happens: TOML.")
]
Page = Annotated[Path | None, typer.Option(help="Write a page with charts.")]


@app.command(epilog=examples("honeyguide world shop", "honeyguide world shop --people 5000 --days 60 --seed 7"))
def world(
    folder: Dir,
    people: Annotated[int, typer.Option(help="How many people live there.")] = 1_000,
    items: Annotated[int, typer.Option(help="How many items are ever sold.")] = 500,
    days: Annotated[int, typer.Option(help="Days of its log.")] = 28,
    seed: Annotated[int, typer.Option(help="Of all chance.")] = 0,
    as_json: Json = False,
) -> None:
    """Make a shop whose people are simulated, with a log of its first days: a workspace in which the truth is known."""
    from honeyguide.flows import render
    from honeyguide.flows.simulation.page import print_shop
    from honeyguide.flows.simulation.shop import make_shop

    with render.progress(quiet=as_json) as progress:
        report = make_shop(folder, people=people, items=items, days=days, seed=seed, progress=progress)
    print_shop(report, as_json=as_json)


@app.command(
    epilog=examples(
        "honeyguide simulate shop --change change.toml",
        "honeyguide simulate shop --change change.toml --days 56 --people 2000 --html simulated.html",
    )
)
def simulate(
    folder: Dir,
    change: ChangeFile,
    days: Annotated[float, typer.Option(help="Days that people live with it.")] = 28.0,
    people: Annotated[int | None, typer.Option(help="People who take part, at most.")] = None,
    seed: Annotated[int, typer.Option(help="Of what happens, and of who is in which arm.")] = 0,
    retrain_days: Annotated[float, typer.Option(help="A new build as often; 0: never.")] = 7.0,
    offline: Annotated[bool, typer.Option("--offline", help="Judge both on held-out events too (minutes).")] = False,
    html: Page = None,
    as_json: Json = False,
) -> None:
    """Predicted, measured and true, side by side: a change lived through by simulated people, on a copy."""
    from honeyguide.flows import render
    from honeyguide.flows.simulation.page import print_report
    from honeyguide.flows.simulation.simulate import simulate as run

    with render.progress(quiet=as_json) as progress:
        report = run(
            folder, change, days=days, people=people, seed=seed, retrain_days=retrain_days, offline=offline,
            html=html, progress=progress,
        )  # fmt: skip
    print_report(report, as_json=as_json)


@app.command(
    epilog=examples(
        "honeyguide replay shop --change change.toml",
        "honeyguide replay shop --change change.toml --requests 5000 --html replay.html",
    )
)
def replay(
    folder: Dir,
    change: ChangeFile,
    requests: Annotated[int, typer.Option(help="Requests at most; a seeded sample of the day's.")] = 2_000,
    html: Page = None,
    as_json: Json = False,
) -> None:
    """The newest day's requests answered by a changed policy: which lists change, for whom, at what cost."""
    from honeyguide.flows import render
    from honeyguide.flows.simulation.replay import replay as run
    from honeyguide.flows.simulation.replay_page import print_report

    with render.progress(quiet=as_json) as progress:
        report = run(folder, change, requests=requests, html=html, progress=progress)
    print_report(report, as_json=as_json)
