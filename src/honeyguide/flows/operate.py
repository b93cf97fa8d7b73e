"""A workspace in operation: serve it, explain it, ask its tables."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from honeyguide.engines.tables.duckdb import ask
from honeyguide.engines.tables.snapshot import Snapshots
from honeyguide.errors import ConfigError
from honeyguide.flows.check import impressions
from honeyguide.flows.config import WorkspaceConfig
from honeyguide.flows.evaluation_report import newest
from honeyguide.flows.layout import Layout
from honeyguide.flows.live import load_manifest
from honeyguide.flows.wiring import open_desk
from honeyguide.schema.tables import FEATURE_VALUES, IMPRESSIONS, JUDGED, USERS
from honeyguide.serving.server import Server
from honeyguide.serving.server import serve as serve_http
from honeyguide.serving.settings import ServeSettings

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["explain", "serve", "server", "sql"]


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


def sql(folder: Path, query: str) -> pa.Table:
    """One SELECT over the tables of the workspace: snapshots, feature values, what was shown, the newest evaluation."""
    import pyarrow as pa

    layout = Layout.open(folder)
    tables = Snapshots(layout.tables)
    files: dict[str, Path | Sequence[Path]] = {name: tables.paths(name) for name in tables.names()}
    if layout.current.exists():
        folder_of = load_manifest(layout).folders.get(FEATURE_VALUES.name)
        if folder_of is not None:
            files[FEATURE_VALUES.name] = layout.root / folder_of / f"{FEATURE_VALUES.name}.parquet"
    shown = impressions(layout)
    rows = newest(layout).get("rows", [])
    made = {
        IMPRESSIONS.name: shown if shown is not None else IMPRESSIONS.arrow().empty_table(),
        JUDGED.name: pa.Table.from_pylist(rows, schema=JUDGED.arrow()),
        USERS.name: USERS.arrow().empty_table(),
    }
    return ask(query, files, {name: table for name, table in made.items() if name not in files})
