"""Rows that were held back: which, why, and in again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from honeyguide.cli.common import Dir, Json, Map, examples

__all__ = ["app"]

app = typer.Typer(help="Rows that were held back: which, why, and in again.", no_args_is_help=True)

Load = Annotated[str | None, typer.Option("--load", metavar="LOAD", help="Of this load: its id, or how it begins.")]
Reason = Annotated[list[str] | None, typer.Option("--reason", metavar="CODE", help="Of this reason; repeat.")]
Of = Annotated[str | None, typer.Option("--table", metavar="TABLE", help="Meant for this table.")]


@app.command(
    "list",
    epilog=examples("honeyguide quarantine list shop", "honeyguide quarantine list shop --reason duplicate --json"),
)
def quarantine_list(
    folder: Dir, load: Load = None, reason: Reason = None, table: Of = None, as_json: Json = False
) -> None:
    """Loads with rows that were held back: how many, why, which share, and how many re-entered."""
    from honeyguide.flows.loading import render_quarantine
    from honeyguide.flows.loading.quarantine import Selection, listing

    chosen = Selection(load, tuple(reason or ()), table, "all")
    render_quarantine.listed(listing(folder, chosen), as_json=as_json)


@app.command(
    "show",
    epilog=examples(
        "honeyguide quarantine show shop --reason unreadable_time",
        "honeyguide quarantine show shop --load 4f1c --limit 100",
        "honeyguide quarantine show shop --reason missing_user --export mend.csv",
    ),
)
def quarantine_show(
    folder: Dir,
    load: Load = None,
    reason: Reason = None,
    table: Of = None,
    replayed: Annotated[bool, typer.Option("--replayed", help="Those that re-entered, instead of those held.")] = False,
    limit: Annotated[int, typer.Option(help="Rows to print.")] = 20,
    export: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write all of them to a file, byte for byte as they came.")
    ] = None,
    as_json: Json = False,
) -> None:
    """The rows themselves, as they came, each with its reason."""
    from honeyguide.flows.loading import render_quarantine
    from honeyguide.flows.loading.quarantine import Selection, show

    chosen = Selection(load, tuple(reason or ()), table, "replayed" if replayed else "held")
    render_quarantine.shown(show(folder, chosen, limit=limit, export=export), as_json=as_json)


@app.command(
    "replay",
    epilog=examples(
        "honeyguide quarantine replay shop --reason unknown_item",
        "honeyguide quarantine replay shop --load 4f1c --map happened_at=Zeit",
        "honeyguide quarantine replay shop --reason missing_user --with mended.csv",
    ),
)
def quarantine_replay(
    folder: Dir,
    load: Load = None,
    reason: Reason = None,
    table: Of = None,
    mended: Annotated[
        Path | None,
        typer.Option("--with", metavar="FILE", help="A file with the mended rows, to enter in their place."),
    ] = None,
    mapping: Map = None,
    as_json: Json = False,
) -> None:
    """Let held rows in again, through the same gate, exactly once; what fails again stays, with its new reason."""
    from honeyguide.flows import render
    from honeyguide.flows.create import mapping_of
    from honeyguide.flows.loading import render_quarantine
    from honeyguide.flows.loading.quarantine import Selection
    from honeyguide.flows.loading.replay import replay

    chosen = Selection(load, tuple(reason or ()), table)
    with render.progress(quiet=as_json) as progress:
        report = replay(folder, chosen, mended=mended, mapping=mapping_of(mapping or []), progress=progress)
    render_quarantine.replayed(report, as_json=as_json)
