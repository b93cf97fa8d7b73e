"""Exploration: what is left to chance, whether its propensities are true, and what stopped it."""

from __future__ import annotations

from typing import Annotated

import typer

from honeyguide.cli.common import Dir, Json, examples

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True, help="Exploration: its guardrails, its stops, and an audit of its propensities."
)
Surface = Annotated[str, typer.Argument(metavar="SURFACE", help="A surface; `explore status` names them.")]


@app.command(epilog=examples("honeyguide explore status shop", "honeyguide explore status shop --json"))
def status(folder: Dir, as_json: Json = False) -> None:
    """How each surface explores, what its guardrails say so far, and what stopped."""
    from honeyguide.flows.exploring import guard, render_exploring

    render_exploring.status(guard.status(folder), as_json=as_json)


@app.command(epilog=examples("honeyguide explore check shop"))
def check(folder: Dir, as_json: Json = False) -> None:
    """Judge the guardrails now; a surface that exploration hurts stops exploring until it is released."""
    from honeyguide.flows.exploring import guard, render_exploring

    render_exploring.status(guard.check(folder), as_json=as_json)


@app.command(epilog=examples("honeyguide explore release shop home"))
def release(folder: Dir, surface: Surface, as_json: Json = False) -> None:
    """Let a surface that stopped explore again; its guardrails begin anew."""
    from honeyguide.flows.exploring import render_exploring, stops
    from honeyguide.flows.layout import Layout

    render_exploring.released(surface, stops.release(Layout.open(folder), surface), as_json=as_json)


@app.command(
    epilog=examples("honeyguide explore audit shop", "honeyguide explore audit shop --surface item --draws 1000000")
)
def audit(
    folder: Dir,
    surface: Annotated[str, typer.Option(help="Which surface.")] = "home",
    requests: Annotated[int, typer.Option(help="So many people's requests.")] = 3,
    draws: Annotated[int, typer.Option(help="Lists drawn of each request.")] = 20_000,
    slots: Annotated[int, typer.Option("-k", "--slots", help="Slots of the lists.")] = 10,
    as_json: Json = False,
) -> None:
    """Hold the logged propensities against how often the lists really come, on the workspace's own requests.

    Exits with 3 if they do not agree.
    """
    from honeyguide.flows import render
    from honeyguide.flows.exploring import render_exploring
    from honeyguide.flows.exploring.audit import audit_workspace

    with render.progress(quiet=as_json) as tell:
        report = audit_workspace(folder, surface=surface, requests=requests, draws=draws, k=slots, progress=tell)
    render_exploring.audited(report, as_json=as_json)
    if not report["ok"]:
        raise typer.Exit(3)
