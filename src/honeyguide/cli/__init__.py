"""The command line: a verb per flow. Each command prints for people, or with `--json` for machines.

Exit codes: 0 done, 2 refused (one sentence on stderr says what was expected, what came and what to do),
3 done in part (what is missing is named), 130 interrupted.
"""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from honeyguide import __version__
from honeyguide.cli import (
    bench,
    candidates,
    data,
    encoder,
    explore,
    judgments,
    load,
    log,
    merch,
    models,
    ope,
    quarantine,
    report,
    serving,
    simulate,
    skew,
    training,
    tune,
    understand,
    utility,
    workspace,
)
from honeyguide.errors import HoneyguideError, RequestError

__all__ = ["app", "main"]

app = typer.Typer(
    name="honeyguide",
    help="Discovery you can prove: search and recommendation, from the event log to the slate.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
app.add_typer(data.app, name="data")
app.add_typer(quarantine.app, name="quarantine")
app.add_typer(models.app, name="models")
app.add_typer(understand.synonyms, name="synonyms")
app.add_typer(explore.app, name="explore")
app.add_typer(merch.app, name="merch")
app.add_typer(judgments.app, name="judgments")
for commands in (
    workspace.app, load.app, training.app, ope.app, simulate.app, report.app, serving.app, log.app, skew.app, tune.app,
    bench.app, candidates.app, judgments.traffic_app, models.retraining, utility.app, understand.app, encoder.app,
):  # fmt: skip
    app.add_typer(commands)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def _honeyguide(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Discovery you can prove: search and recommendation, from the event log to the slate."""


def _print_error(error: HoneyguideError) -> None:
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.text import Text

        Console(stderr=True).print(Text.assemble(("✗", "bold red"), " ", str(error)))
    else:
        print(f"error: {error}", file=sys.stderr)


def main(argv: list[str] | None = None) -> Any:
    """Entry point: runs a command and turns refusals into one sentence and exit code 2."""
    from msgspec import ValidationError

    from honeyguide.flows.logs import log_to_stderr

    log_to_stderr()
    try:
        return app(args=argv, standalone_mode=True)
    except ValidationError as error:
        refused = RequestError(expected="valid options", got=str(error), do="See the command's --help.")
        _print_error(refused)
        raise SystemExit(refused.exit_code) from error
    except HoneyguideError as error:
        _print_error(error)
        raise SystemExit(error.exit_code) from error
    except KeyboardInterrupt:
        raise SystemExit(130) from None
