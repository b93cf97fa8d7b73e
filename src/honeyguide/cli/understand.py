"""How queries are read, and the synonyms that a team accepts."""

from __future__ import annotations

from typing import Annotated

import typer

from honeyguide.cli.common import Dir, Json, examples

__all__ = ["app", "synonyms"]

app = typer.Typer()
synonyms = typer.Typer(no_args_is_help=True, help="Words that mean the same: proposed by the log, accepted by people.")


@app.command(
    epilog=examples(
        'honeyguide understand shop "red nike shoes under 50 €"',
        'honeyguide understand shop "laufschue damen" --json',
    )
)
def understand(
    folder: Dir,
    query: Annotated[str, typer.Argument(help="What a person typed.")],
    verbatim: Annotated[bool, typer.Option("--verbatim", help="As a search for exactly these words.")] = False,
    as_json: Json = False,
) -> None:
    """The whole analysis of a query, step by step, and what is searched for in the end."""
    from honeyguide.flows.render_understood import analysed
    from honeyguide.flows.understanding import understand as run

    analysed(run(folder, query, verbatim=verbatim), as_json=as_json)


@synonyms.command(epilog=examples("honeyguide synonyms propose shop", "honeyguide synonyms propose shop --json"))
def propose(folder: Dir, as_json: Json = False) -> None:
    """Write pairs of words that may mean the same into `synonyms.proposed.csv`; none of them is applied."""
    from honeyguide.flows import render
    from honeyguide.flows.render_understood import proposed
    from honeyguide.flows.understanding import propose as run

    with render.progress(quiet=as_json) as progress:
        report = run(folder, progress=progress)
    proposed(report, as_json=as_json)


@synonyms.command(
    epilog=examples(
        "honeyguide synonyms accept shop",
        "honeyguide synonyms accept shop --pair sofa=couch --pair tv=television",
    )
)
def accept(
    folder: Dir,
    pair: Annotated[
        list[str] | None,
        typer.Option(metavar="WORD=SYNONYM", help="A pair; repeat. Default: what has `yes` in the first column."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Move accepted pairs from the proposals into `synonyms.txt`; the next build serves them."""
    from honeyguide.flows.render_understood import accepted
    from honeyguide.flows.understanding import accept as run

    accepted(run(folder, pair or []), as_json=as_json)


@synonyms.command("list", epilog=examples("honeyguide synonyms list shop"))
def list_(folder: Dir, as_json: Json = False) -> None:
    """The rules in force with the next build, lines that are none with the reason, and how many wait to be judged."""
    from honeyguide.flows.render_understood import listed
    from honeyguide.flows.understanding import listing as run

    listed(run(folder), as_json=as_json)
