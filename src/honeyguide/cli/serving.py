"""The API and the console as processes."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from honeyguide.cli.common import Dir, examples

__all__ = ["app"]

app = typer.Typer()


@app.command(epilog=examples("honeyguide serve shop", "honeyguide serve shop --workers 4 --port 8080 --no-console"))
def serve(
    folder: Dir,
    host: Annotated[str | None, typer.Option(help="Default: `[serve]` of honeyguide.toml.")] = None,
    port: Annotated[int | None, typer.Option(help="Port of the API.")] = None,
    workers: Annotated[int | None, typer.Option(help="Worker processes.")] = None,
    console: Annotated[bool, typer.Option(help="Start the console beside the API, in a process of its own.")] = True,
    console_port: Annotated[int, typer.Option(help="Port of the console.")] = 8081,
) -> None:
    """The HTTP API (N workers) and the console."""
    from honeyguide.flows.operate import serve as run

    run(folder, host=host, port=port, workers=workers, console_command=_console_command(console, console_port))


def _console_command(wanted: bool, port: int) -> list[str] | None:
    command = [sys.executable, "-m", "honeyguide", "console", "--follow-stdin", "--port", str(port)]
    return command if wanted else None


@app.command(epilog=examples("honeyguide console --api http://127.0.0.1:8080"))
def console(
    api: Annotated[str, typer.Option(help="Address of a running API.")] = "http://127.0.0.1:8080",
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port of the console.")] = 8081,
    api_key: Annotated[str | None, typer.Option(envvar="HONEYGUIDE_API_KEY", help="Key of the API.")] = None,
    follow_stdin: Annotated[bool, typer.Option("--follow-stdin", hidden=True)] = False,
) -> None:
    """The console alone: pages over an API that runs elsewhere."""
    from honeyguide.console.app import run_console

    run_console(api, host=host, port=port, api_key=api_key, follow_stdin=follow_stdin)
