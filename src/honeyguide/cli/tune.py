"""Parameters of heads, found by trying."""

from __future__ import annotations

from typing import Annotated

import typer

from honeyguide.cli.common import Dir, Json, examples

__all__ = ["app"]

app = typer.Typer()


@app.command(
    epilog=examples(
        "honeyguide tune shop",
        "honeyguide tune shop --head like --trials 60",
        "honeyguide tune shop --cpu-s 300 --apply",
    )
)
def tune(
    folder: Dir,
    head: Annotated[list[str] | None, typer.Option(help="A head; repeat. Default: all that a build fits.")] = None,
    trials: Annotated[int, typer.Option(min=1, help="In all, per head and kind of model, with earlier runs.")] = 30,
    cpu_s: Annotated[float | None, typer.Option(min=0, help="Processor seconds of this run, shared by all.")] = None,
    apply: Annotated[bool, typer.Option("--apply", help="Put the change in honeyguide.toml.")] = False,
    as_json: Json = False,
) -> None:
    """Depth, learning rate and number of trees, or the ridge of a line, by time-blocked cross validation.

    Never looks at the rows that a build measures on. Killed, it goes on where it was. What is found is written to
    `tuned.toml`, to be read and compared before it counts.
    """
    from honeyguide.flows import render, render_ranking
    from honeyguide.flows.tune import tune as run

    with render.progress(quiet=as_json) as progress:
        report = run(folder, heads=head or [], trials=trials, cpu_s=cpu_s, apply=apply, progress=progress)
    render_ranking.tuned(report, as_json=as_json)
