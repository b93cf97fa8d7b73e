"""More files into a workspace."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from honeyguide.cli.common import Dir, Json, Map, examples

__all__ = ["app"]

app = typer.Typer()


@app.command(
    epilog=examples(
        "honeyguide load shop --events yesterday.parquet",
        "honeyguide load shop --items products.csv --users customers.csv",
        "honeyguide load shop --events log.jsonl.gz --map user_id=Kundennummer",
    )
)
def load(
    folder: Dir,
    events: Annotated[
        Path | None, typer.Option(help="Parquet, CSV, JSON lines or another tool's export: who did what, when.")
    ] = None,
    items: Annotated[
        Path | None, typer.Option(help="Items; what the file says of them takes the place of what is known.")
    ] = None,
    users: Annotated[Path | None, typer.Option(help="Facts about people.")] = None,
    mapping: Map = None,
    as_json: Json = False,
) -> None:
    """Add files of any size: through the gate and the contracts, all or nothing, and nothing twice."""
    from honeyguide.flows import render
    from honeyguide.flows.create import mapping_of
    from honeyguide.flows.loading.load import load as run

    chosen = mapping_of(mapping or [])
    with render.progress(quiet=as_json) as progress:
        report = run(folder, events=events, items=items, users=users, mapping=chosen, progress=progress)
    render.loaded(report, as_json=as_json)
