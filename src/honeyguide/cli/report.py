"""Saved queries as a page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from honeyguide.cli.common import Dir, Json, examples

__all__ = ["app"]

app = typer.Typer()


@app.command(
    epilog=examples(
        "honeyguide report shop --open",
        "honeyguide report shop --queries questions/ --out questions.html",
    )
)
def report(
    folder: Dir,
    queries: Annotated[
        Path | None,
        typer.Option(help="Ask the .sql files of this folder alone (default: DIR/queries, and those that come along)."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Where to write (default: DIR/reports/analysis.html).")] = None,
    open_it: Annotated[bool, typer.Option("--open", help="Show it in the browser.")] = False,
    as_json: Json = False,
) -> None:
    """One page from a folder of saved queries, each with a chart; every build refreshes it. Exit 3: some failed."""
    from honeyguide.flows import render
    from honeyguide.flows.reports.queries import query_report

    with render.progress(quiet=as_json) as progress:
        made = query_report(folder, queries=queries, out=out, progress=progress)
    render.reported(made, as_json=as_json)
    if open_it:
        import webbrowser

        webbrowser.open(Path(made["path"]).resolve().as_uri())
    raise typer.Exit(3 if made["failed"] else 0)
