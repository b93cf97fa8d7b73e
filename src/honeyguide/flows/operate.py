"""A workspace in operation: serve it, explain it, ask its tables."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from honeyguide.errors import ConfigError
from honeyguide.flows.config import WorkspaceConfig
from honeyguide.flows.layout import Layout
from honeyguide.flows.wiring import open_desk
from honeyguide.serving.server import Server
from honeyguide.serving.server import serve as serve_http
from honeyguide.serving.settings import ServeSettings

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["explain", "main_parameters", "serve", "server", "sql", "views"]


def settings_of(config: WorkspaceConfig, **given: Any) -> ServeSettings:
    """`[serve]` with what the command line gave."""
    try:
        return ServeSettings.model_validate(
            config.serve.model_dump() | {key: value for key, value in given.items() if value is not None}
        )
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise ConfigError(
            expected=f"a valid {name} ({first['msg']})", got=f"{first['input']!r:.80}", do="Give another value."
        ) from error


_say = partial(print, flush=True)  # a service manager's pipe shows it at once


def serve(
    folder: Path, *, host: str | None = None, port: int | None = None, workers: int | None = None,
    console_command: list[str] | None = None, say: Callable[[str], None] = _say,
) -> None:  # fmt: skip
    """Serve until told to stop; the console, if wanted, runs beside it in a process of its own."""
    layout = Layout.open(folder)
    layout.current_build()
    config = WorkspaceConfig.load(layout.config)
    settings = settings_of(config, host=host, port=port, workers=workers)
    children: list[subprocess.Popen[bytes]] = []

    def ready(url: str) -> None:
        say(f"API      {url}   (docs: {url}/docs, health: {url}/readyz, metrics: {url}/metrics)")
        if console_command is not None:
            port_of_console = int(console_command[console_command.index("--port") + 1])
            if not _free(port_of_console):
                say(f"console  not started: port {port_of_console} is taken; choose another with --console-port.")
            else:
                environment = dict(os.environ)
                if settings.api_keys:
                    environment["HONEYGUIDE_API_KEY"] = settings.api_keys[0]
                # Its standard input ends with this process, however that ends, and so does the console.
                command = [*console_command, "--api", url]
                children.append(subprocess.Popen(command, env=environment, stdin=subprocess.PIPE))
                say(f"console  http://127.0.0.1:{port_of_console}")
        say("Ctrl-C ends both." if children else "Ctrl-C ends it.")

    try:
        serve_http(
            "honeyguide.flows.wiring:open_desk", settings, arguments={"workspace": str(layout.root.resolve())},
            on_ready=ready,
        )  # fmt: skip
    finally:
        for child in children:
            child.terminate()
            with suppress(subprocess.TimeoutExpired):
                child.wait(10)


def _free(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except (OSError, OverflowError):
        return False
    return True


def server(folder: Path, **given: Any) -> Server:
    """The API as a context manager, for the demo, benchmarks and tests."""
    layout = Layout.open(folder)
    settings = settings_of(WorkspaceConfig.load(layout.config), **given)
    return Server("honeyguide.flows.wiring:open_desk", settings, {"workspace": str(layout.root.resolve())})


def explain(folder: Path) -> dict[str, Any]:
    """The pipeline per surface of the build in service."""
    desk = open_desk(str(folder), writable=False, watch=False)
    try:
        return desk.pipeline()
    finally:
        desk.close()


def main_parameters(folder: Path) -> dict[str, Any]:
    """The main parameters of each surface in plain words, of the build in service."""
    desk = open_desk(str(folder), writable=False, watch=False)
    try:
        return desk.parameters()
    finally:
        desk.close()


def sql(folder: Path, query: str) -> pa.Table:
    """One SELECT over the tables and views of the workspace."""
    from honeyguide.flows.analysis.workspace import open_tables

    with open_tables(Layout.open(folder), [query]).tables as tables:
        return tables.ask(query).table


def views(folder: Path) -> list[dict[str, Any]]:
    """The views that `sql` can name, each with `name`, `meaning` and `columns`."""
    from honeyguide.flows.analysis import VIEWS

    Layout.open(folder)
    return [
        {
            "name": view.name,
            "meaning": view.meaning,
            "columns": [
                {
                    "name": str(column), "dtype": column.dtype, "unit": column.unit, "nullable": column.nullable,
                    "meaning": column.meaning,
                }
                for column in view.columns
            ],
        }
        for view in VIEWS.values()
    ]  # fmt: skip
