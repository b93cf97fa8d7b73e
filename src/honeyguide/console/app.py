"""Start the console: `run_console("http://127.0.0.1:8080")`."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING

from honeyguide.errors import ResourceError

if TYPE_CHECKING:
    import uvicorn
    from fastapi import FastAPI

    from honeyguide.console.client import Api

__all__ = ["run_console"]

SHUTDOWN_S = 2
ASSETS = Path(__file__).parent / "assets"


def run_console(
    api_url: str,
    *,
    host: str = "127.0.0.1",
    port: int = 8081,
    api_key: str | None = None,
    title: str = "Honeyguide",
    people: Sequence[str] = (),
    timeout_s: float = 10.0,
    follow_stdin: bool = False,
) -> None:
    """Serve the pages until the process is told to stop (SIGINT or SIGTERM).

    `people`: a few ids to offer as examples; without them the `examples` of the API's pipeline are offered.
    `follow_stdin`: end when standard input does, so that the console does not outlive who started it.
    One console per process: NiceGUI keeps its pages in module state. Raises `ResourceError` when the port is in
    use, `ConfigError` when `api_url` is no address.
    """
    import uvicorn

    from honeyguide.console.client import Api

    api = Api(api_url, api_key=api_key, timeout_s=timeout_s)
    listener = _listen(host, port)
    try:
        application = _application(api, title, tuple(people))
        config = uvicorn.Config(
            application, log_level="warning", access_log=False, timeout_graceful_shutdown=SHUTDOWN_S
        )
        server = uvicorn.Server(config)
        if follow_stdin:
            threading.Thread(target=_follow_stdin, args=(server,), daemon=True).start()
        server.run(sockets=[listener])
    finally:
        listener.close()


def _follow_stdin(server: uvicorn.Server) -> None:
    while os.read(0, 4096):
        pass
    server.should_exit = True


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(128)
    except (OSError, OverflowError) as error:
        listener.close()
        raise ResourceError(
            expected=f"a free port for the console at {host}:{port}",
            got=str(error),
            do="Choose another with --console-port, or stop what is using it.",
        ) from error
    return listener


def _application(api: Api, title: str, people: tuple[str, ...]) -> FastAPI:
    """The ASGI application with all pages. NiceGUI loads here, not when the module is imported."""
    from fastapi import FastAPI
    from nicegui import app, ui

    from honeyguide.console.pages import add_pages

    version = blake2b(b"".join(path.read_bytes() for path in sorted(ASSETS.iterdir())), digest_size=6).hexdigest()
    app.add_static_files("/assets", ASSETS)
    ui.add_head_html(
        f'<link rel="stylesheet" href="/assets/console.css?{version}">'
        f'<script defer src="/assets/console.js?{version}"></script>',
        shared=True,
    )
    add_pages(api, title, people)
    outer = FastAPI(openapi_url=None)
    ui.run_with(
        outer,
        title=title,
        favicon=(ASSETS / "logo.svg").read_text(encoding="utf-8"),
        dark=None,
        language="en-US",
        tailwind=False,
        show_welcome_message=False,
    )
    return outer
