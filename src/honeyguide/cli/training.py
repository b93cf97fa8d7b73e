"""What heads learn from: the dataset card of a build, and tables for other tools."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from honeyguide.cli.common import Dir, Json, examples

__all__ = ["app"]

app = typer.Typer()


@app.command(epilog=examples("honeyguide card shop", "honeyguide card shop --json", "honeyguide card shop > card.md"))
def card(
    folder: Dir,
    build: Annotated[str | None, typer.Option(help="A build (default: the one in service).")] = None,
    as_json: Json = False,
) -> None:
    """What the heads learnt from: rows, period, label rates, features with what is missing, sampling, what was left."""
    from honeyguide.flows import render
    from honeyguide.flows.card import card_of

    render.card(card_of(folder, build), as_json=as_json)


@app.command(
    epilog=examples(
        "honeyguide export shop --out tables",
        "honeyguide export shop --out for-spark --table training_set --table events",
        "honeyguide export shop --out visits --table sessions",
    )
)
def export(
    folder: Dir,
    out: Annotated[Path, typer.Option(help="A new or empty folder.")],
    table: Annotated[
        list[str] | None,
        typer.Option(help="training_set, feature_values, events, ... or a view; repeat. Default: every stored table."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Tables as Parquet for other tools, with a page that says what each column means."""
    from honeyguide.flows import render
    from honeyguide.flows.export import export as run

    with render.progress(quiet=as_json) as progress:
        report = run(folder, out, table or [], progress=progress)
    render.exported(report, as_json=as_json)
