"""Benchmarks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from honeyguide.cli.common import examples

__all__ = ["app"]

app = typer.Typer()


@app.command(epilog=examples("honeyguide bench serve", "honeyguide bench evaluate --json evaluate.json"))
def bench(
    name: Annotated[str | None, typer.Argument(help="Which one; without a name the list is printed.")] = None,
    data: Annotated[Path | None, typer.Option(help="Folder of benchmark data.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the rows as JSON.")] = None,
) -> None:
    """Benchmarks: what it costs on this machine, beside peers where they install."""
    from honeyguide.flows import render
    from honeyguide.flows.bench import BENCHMARKS
    from honeyguide.flows.bench import run as run_bench

    if name is None:
        render.listing(BENCHMARKS)
        return
    result = run_bench(name, data)
    render.bench(result, json_file)
    raise typer.Exit(3 if result["missing"] else 0)
