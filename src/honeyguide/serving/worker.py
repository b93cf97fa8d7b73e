"""One worker process of the server: `python -m honeyguide.serving.worker LISTENING_FD READY_FD`, started by `server`.

The first line of standard input is the `Spec`; its end tells that the parent is gone, and so does a worker. What
became of the start is written to READY_FD as one `Started`.
"""

from __future__ import annotations

import gc
import importlib
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec
import structlog
import uvicorn

from honeyguide.contracts import Answerer
from honeyguide.errors import ConfigError, HoneyguideError
from honeyguide.serving.handshake import Spec, Started
from honeyguide.serving.http import create_app
from honeyguide.serving.settings import ServeSettings
from honeyguide.serving.wire_protocol import OneWriteProtocol

__all__ = ["load_factory", "main"]

_SWITCH_S = 0.0005  # the log's writer gets the interpreter within this, however busy the event loop is (default 5 ms)


def load_factory(name: str) -> Any:
    """What `package.module:name` names."""
    module_name, _, attribute = name.partition(":")
    try:
        return getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            expected="an answerer factory as package.module:callable", got=f"{name} ({error})", do="Correct the name."
        ) from error


class _Server(uvicorn.Server):
    """Uvicorn, telling when it accepts requests."""

    def __init__(self, config: uvicorn.Config, ready_fd: int) -> None:
        super().__init__(config)
        self._ready_fd = ready_fd

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        # What is loaded by now stays: the collector need not walk over it again in the middle of a request.
        gc.collect()
        gc.freeze()
        _tell(self._ready_fd, Started())


def _tell(ready_fd: int, started: Started) -> None:
    os.write(ready_fd, msgspec.json.encode(started))
    os.close(ready_fd)


def _on_signals(handler: Callable[[int, FrameType | None], None] | signal.Handlers) -> None:
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, handler)


def _leave(signum: int, frame: FrameType | None) -> None:
    _on_signals(signal.SIG_IGN)  # told twice, it must not leave a second time in the middle of leaving
    raise SystemExit(0)


def _follow_parent(server: uvicorn.Server) -> None:
    while os.read(0, 4096):  # not through sys.stdin, whose lock a thread may not hold when the interpreter ends
        pass
    server.should_exit = True


def main(listening_fd: int, ready_fd: int) -> None:
    """Serve until told to end; requests in flight are answered and the answerer is closed first."""
    _on_signals(_leave)
    spec = msgspec.json.decode(sys.stdin.buffer.readline(), type=Spec)
    settings = ServeSettings.model_validate_json(spec.settings)
    logging.basicConfig(level=logging.INFO if settings.access_log else logging.WARNING)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    sys.setswitchinterval(_SWITCH_S)
    try:
        answerer: Answerer = load_factory(spec.factory)(**spec.arguments)
    except HoneyguideError as error:
        _tell(ready_fd, Started(type(error).__name__, error.expected, error.got, error.do))
        raise SystemExit(error.exit_code) from error
    shared = Path(spec.shared_metrics) if spec.shared_metrics else None
    config = uvicorn.Config(
        create_app(answerer, settings, shared_metrics=shared),
        http=OneWriteProtocol,
        interface="asgi3",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=settings.access_log,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=settings.keep_alive_s,
        timeout_graceful_shutdown=settings.drain_s,
    )
    server = _Server(config, ready_fd)
    threading.Thread(target=_follow_parent, args=(server,), daemon=True).start()
    server.run(sockets=[socket.socket(fileno=listening_fd)])
    _on_signals(signal.SIG_IGN)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
