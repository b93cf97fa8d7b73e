"""What a surface's objectives cost each other."""

from __future__ import annotations

from typing import Annotated

import typer

from honeyguide.cli.common import Dir, Json, examples

__all__ = ["app"]

app = typer.Typer()


@app.command(
    "tune-utility",
    epilog=examples(
        "honeyguide tune-utility shop",
        "honeyguide tune-utility shop --surface home --goal 'like - 2 * dislike'",
        "honeyguide tune-utility shop --objective 'income=purchase * item.price' --objective 'quiet=0 - hide'",
    ),
)
def tune_utility(
    folder: Dir,
    surface: Annotated[str, typer.Option(help="home, item, board, or one of `honeyguide.toml`.")] = "home",
    objective: Annotated[
        list[str] | None,
        typer.Option(help="NAME=FORMULA over heads and item.COLUMN, higher is better; repeat. Default: the heads."),
    ] = None,
    goal: Annotated[
        str, typer.Option(help="What weights are tuned for: next_item (nDCG@10 of what was taken), or a formula.")
    ] = "next_item",
    requests: Annotated[
        int, typer.Option(help="Held-out requests at most: half to search on, half to measure on.")
    ] = 1_000,
    trials: Annotated[int, typer.Option(help="Weights to try.")] = 200,
    points: Annotated[int, typer.Option(help="Points of the front to try.")] = 21,
    as_json: Json = False,
) -> None:
    """The Pareto front between a surface's objectives, and weights tuned on held-out requests, with intervals."""
    from honeyguide.flows import render
    from honeyguide.flows.utility_front import tune_utility as run
    from honeyguide.flows.utility_page import print_report

    with render.progress(quiet=as_json) as progress:
        report = run(
            folder, surface=surface, objectives=objective or [], goal=goal, requests=requests, trials=trials,
            points=points, progress=progress,
        )  # fmt: skip
    print_report(report, as_json=as_json)
