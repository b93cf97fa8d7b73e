"""Whether what is served is what heads learn from."""

from __future__ import annotations

import typer

from honeyguide.cli.common import Dir, Json, examples

__all__ = ["app"]

app = typer.Typer()


@app.command(epilog=examples("honeyguide skew shop", "honeyguide skew shop --json"))
def skew(folder: Dir, as_json: Json = False) -> None:
    """Features as they were served beside the same features recomputed from the tables, row by row.

    Ends with exit code 2 if they differ by more than [skew] allows.
    """
    from honeyguide.flows import render, render_ranking
    from honeyguide.flows.skew import skew as run

    with render.progress(quiet=as_json) as progress:
        report = run(folder, progress=progress)
    render_ranking.skewed(report, as_json=as_json)
    raise typer.Exit(2 if report["blocked"] else 0)
