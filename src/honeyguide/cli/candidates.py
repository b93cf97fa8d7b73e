"""Candidates of all people, and sources tuned on anybody's data."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from honeyguide.cli.common import Dir, Json, examples

__all__ = ["app"]

app = typer.Typer()


class Of(StrEnum):
    """Whose vectors."""

    people = "people"
    items = "items"


@app.command(
    epilog=examples(
        "honeyguide candidates shop --out candidates.parquet",
        "honeyguide candidates shop --out als.parquet --source als --k 50 --deny recalled.txt",
    )
)
def candidates(
    folder: Dir,
    out: Annotated[Path, typer.Option(help="Parquet file to write.")],
    k: Annotated[int, typer.Option(min=1, max=10_000, help="Candidates per person.")] = 100,
    source: Annotated[str | None, typer.Option(help="One source in place of the blend.")] = None,
    allow: Annotated[Path | None, typer.Option(exists=True, help="File of item ids: nothing else.")] = None,
    deny: Annotated[Path | None, typer.Option(exists=True, help="File of item ids: none of these.")] = None,
    as_json: Json = False,
) -> None:
    """The best candidates of every person, in a file; in bounded memory, however many people there are."""
    from honeyguide.flows import render
    from honeyguide.flows.candidates import candidates as run

    with render.progress(quiet=as_json) as progress:
        report = run(folder, out, k=k, source=source, allow=allow, deny=deny, progress=progress)
    if as_json:
        render.emit_json(report)
    else:
        render.out.print(
            f"{report['rows']:,} candidates of {report['people']:,} people from {report['source']} in {report['path']}"
            + (f"; {report['empty']:,} people have none" if report["empty"] else ""),
            soft_wrap=True,
        )


@app.command(
    name="source-vectors",
    epilog=examples(
        "honeyguide source-vectors shop --out people.parquet --segments 20",
        "honeyguide source-vectors shop --out items.parquet --of items --source towers",
    ),
)
def source_vectors(
    folder: Dir,
    out: Annotated[Path, typer.Option(help="Parquet file to write.")],
    source: Annotated[str, typer.Option(help="A source with vectors.")] = "sequence",
    of: Annotated[Of, typer.Option(help="Whose vectors.")] = Of.people,
    segments: Annotated[int, typer.Option(min=0, help="Part them into so many groups; 0: none.")] = 0,
    as_json: Json = False,
) -> None:
    """The vectors that a source has learnt of people or items, in a file: for rankers, search and segments."""
    from honeyguide.flows import render
    from honeyguide.flows.source_vectors import source_vectors as run

    with render.progress(quiet=as_json) as progress:
        report = run(folder, out, source=source, of=of.value, segments=segments, progress=progress)
    if as_json:
        render.emit_json(report)
    else:
        render.out.print(
            f"{report['rows']:,} vectors of {report['d']} numbers from {source} in {report['path']}", soft_wrap=True
        )


@app.command(
    name="tune-sources",
    epilog=examples("honeyguide tune-sources data/shop --cpu-s 300", "honeyguide tune-sources data/shop --json"),
)
def tune_sources(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Folder with interactions.parquet.", exists=True)],
    cpu_s: Annotated[float, typer.Option(min=0, help="Processor seconds for all sources together.")] = 240.0,
    seed: Annotated[int, typer.Option(min=0)] = 7,
    as_json: Json = False,
) -> None:
    """Settings of the retrieval sources for any data with fixed parts, judged on validation alone; prints TOML.

    What is printed can stand in honeyguide.toml as it is. The test part is not looked at.
    """
    from honeyguide.flows import render
    from honeyguide.flows.source_tuning import tuned_sources

    with render.progress(quiet=as_json) as progress:
        report = tuned_sources(data, cpu_s=cpu_s, seed=seed, progress=progress)
    if as_json:
        render.emit_json(report)
    else:
        render.out.print(report["toml"], markup=False, soft_wrap=True)
