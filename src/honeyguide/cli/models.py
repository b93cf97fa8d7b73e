"""The registry of models, and retraining."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from honeyguide.cli.common import Dir, Json, examples
from honeyguide.errors import RequestError

__all__ = ["app", "retraining"]

app = typer.Typer(no_args_is_help=True, help="Every model: its data, figures, parent and state; promote and roll back.")
retraining = typer.Typer()

Build = Annotated[str, typer.Argument(metavar="BUILD", help="A build; `models list` names them.")]
Share = Annotated[float, typer.Option(help="Share of the requests.")]
Off = Annotated[bool, typer.Option("--off", help="End it.")]


@app.command("list", epilog=examples("honeyguide models list shop", "honeyguide models list shop --json"))
def list_(folder: Dir, as_json: Json = False) -> None:
    """Every build, newest first: built, shadow, canary, in service or retired, and why."""
    from honeyguide.flows import registry, render_models
    from honeyguide.flows.layout import Layout

    render_models.listed(registry.listing(Layout.open(folder)), as_json=as_json)


@app.command(epilog=examples("honeyguide models show shop", "honeyguide models show shop 20260101T120000-ab12cd34"))
def show(
    folder: Dir,
    build: Annotated[str | None, typer.Argument(metavar="[BUILD]", help="Default: the one in service.")] = None,
    as_json: Json = False,
) -> None:
    """One build whole: data snapshot, features, parameters, figures of each model, parent, moves."""
    from honeyguide.flows import registry, render_models
    from honeyguide.flows.layout import Layout

    render_models.shown(registry.record(Layout.open(folder), build), as_json=as_json)


@app.command(epilog=examples("honeyguide models promote shop 20260101T120000-ab12cd34"))
def promote(folder: Dir, build: Build, as_json: Json = False) -> None:
    """Put a build in service, by one atomic rename; running servers load it within a second."""
    from honeyguide.flows import registry, render_models
    from honeyguide.flows.layout import Layout

    render_models.changed(registry.promote(Layout.open(folder), build), as_json=as_json)


@app.command(epilog=examples("honeyguide models rollback shop"))
def rollback(
    folder: Dir,
    build: Annotated[str | None, typer.Argument(metavar="[BUILD]", help="Default: the one before.")] = None,
    as_json: Json = False,
) -> None:
    """Put the build that was in service before, or the one named, back in service."""
    from honeyguide.flows import registry, render_models
    from honeyguide.flows.layout import Layout

    render_models.changed(registry.rollback(Layout.open(folder), build), as_json=as_json)


@app.command(
    epilog=examples("honeyguide models retire shop 20260101T120000-ab12cd34", "honeyguide models retire shop --prune")
)
def retire(
    folder: Dir,
    build: Annotated[str | None, typer.Argument(metavar="[BUILD]", help="The build to retire.")] = None,
    reason: Annotated[str, typer.Option(help="Why; it is kept.")] = "retired by hand",
    prune: Annotated[bool, typer.Option("--prune", help="Delete retired builds and what only they hold.")] = False,
    as_json: Json = False,
) -> None:
    """Take a build out of reach of every server; its record stays until it is pruned."""
    from honeyguide.flows import registry, render_models
    from honeyguide.flows.layout import Layout

    layout = Layout.open(folder)
    if build is None and not prune:
        raise RequestError(
            expected="a build to retire, or --prune", got="neither", do="`honeyguide models list` names."
        )
    if build is not None:
        report = registry.retire(layout, build, reason)
        if not prune:
            return render_models.changed(report, as_json=as_json)
    return render_models.pruned(registry.prune(layout), as_json=as_json)


@app.command(
    epilog=examples(
        "honeyguide models shadow shop 20260101T120000-ab12cd34 --share .1",
        "honeyguide models shadow shop",
        "honeyguide models shadow shop --off",
    )
)
def shadow(
    folder: Dir,
    build: Annotated[str | None, typer.Argument(metavar="[BUILD]", help="None: the report so far.")] = None,
    share: Share = 0.1,
    off: Off = False,
    as_json: Json = False,
) -> None:
    """Let a build score a share of the requests unseen, after they are answered; or show how it compares."""
    from honeyguide.flows import registry, render_models
    from honeyguide.flows.layout import Layout
    from honeyguide.flows.shadow_report import shadow_report

    layout = Layout.open(folder)
    if off:
        return render_models.changed(registry.withdraw(layout, "shadow"), as_json=as_json)
    if build is None:
        return render_models.shadowed(shadow_report(layout), as_json=as_json)
    return render_models.changed(registry.assign(layout, "shadow", build, share), as_json=as_json)


@app.command(
    epilog=examples(
        "honeyguide models canary shop 20260101T120000-ab12cd34 --share .05", "honeyguide models canary shop --off"
    )
)
def canary(
    folder: Dir,
    build: Annotated[str | None, typer.Argument(metavar="[BUILD]", help="The build that answers a share.")] = None,
    share: Share = 0.05,
    off: Off = False,
    as_json: Json = False,
) -> None:
    """Let a build answer a share of the people; it steps back by itself when it fails, is slow or hurts."""
    from honeyguide.flows import registry, render_models
    from honeyguide.flows.layout import Layout

    layout = Layout.open(folder)
    if off == (build is not None):
        raise RequestError(
            expected="a build, or --off", got="both" if off else "neither", do="`honeyguide models list` names builds."
        )
    if build is None:
        return render_models.changed(registry.withdraw(layout, "canary"), as_json=as_json)
    return render_models.changed(registry.assign(layout, "canary", build, share), as_json=as_json)


@app.command(epilog=examples("honeyguide models export shop --out mlruns"))
def export(
    folder: Dir, out: Annotated[Path, typer.Option(help="A new or empty folder.")], as_json: Json = False
) -> None:
    """The registry as MLflow's file store: a run per build. MLflow itself is needed only to look at it."""
    from honeyguide.flows import render_models
    from honeyguide.flows.mlflow_export import export_mlflow

    render_models.exported(export_mlflow(folder, out), as_json=as_json)


@retraining.command(
    epilog=examples("honeyguide retrain shop --if-needed", "0 4 * * * honeyguide retrain /srv/shop --if-needed --json")
)
def retrain(
    folder: Dir,
    if_needed: Annotated[bool, typer.Option("--if-needed", help="Only on drift, age or many new events.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say whether it is needed, and why.")] = False,
    as_json: Json = False,
) -> None:
    """Build anew on what came since, compare with the build in service, and promote only what is not worse.

    Exit code 0: nothing to do, or done and promoted; 3: built, and left as `built` for the reason given.
    """
    from honeyguide.flows import render, render_models
    from honeyguide.flows.retrain import retrain as run

    with render.progress(quiet=as_json) as progress:
        report = run(folder, if_needed=if_needed, dry_run=dry_run, progress=progress)
    render_models.retrained(report, as_json=as_json)
    raise typer.Exit(3 if report["build_id"] is not None and not report["promoted"] else 0)
