"""What is kept, for how long, and of whom: the log into the tables, and people out of the workspace."""

from __future__ import annotations

from typing import Annotated

import typer

from honeyguide.cli.common import Dir, Json, examples

__all__ = ["app"]

app = typer.Typer()


@app.command(epilog=examples("honeyguide compact shop", "honeyguide compact shop --json"))
def compact(folder: Dir, as_json: Json = False) -> None:
    """Move the log into the tables, trim it, drop what `[retention]` lets go. `build` and a server do it, too."""
    from honeyguide.flows import render
    from honeyguide.flows.keeping import render_log
    from honeyguide.flows.keeping.compact import compact as run

    with render.progress(quiet=as_json) as progress:
        report = run(folder, progress=progress)
    render_log.compacted(report, as_json=as_json)


@app.command(
    epilog=examples(
        "honeyguide forget shop --user 42 --dry-run",
        "honeyguide forget shop --user 42 --rebuild",
        "honeyguide forget shop --user 42 --allow-return",
    )
)
def forget(
    folder: Dir,
    user: Annotated[str, typer.Option(help="The person's id.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what it would touch.")] = False,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Build without them before old builds go.")] = False,
    allow_return: Annotated[
        bool, typer.Option("--allow-return", help="Keep no hash that would keep the person out; lifts an earlier one.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Erase a person: log, tables, every snapshot, quarantine, builds that saw them, and what servers know."""
    from honeyguide.flows import render
    from honeyguide.flows.keeping import render_log
    from honeyguide.flows.keeping.forget import forget as run

    with render.progress(quiet=as_json) as progress:
        report = run(folder, user, dry_run=dry_run, rebuild=rebuild, allow_return=allow_return, progress=progress)
    render_log.forgotten(report, as_json=as_json)
