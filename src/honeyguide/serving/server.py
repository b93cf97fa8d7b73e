"""The server: one listening socket, N worker processes, and whoever watches them."""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

import msgspec
import structlog

from honeyguide import errors
from honeyguide.contracts import Answerer
from honeyguide.errors import ConfigError, HoneyguideError, ResourceError
from honeyguide.serving.handshake import Spec, Started
from honeyguide.serving.settings import ServeSettings

__all__ = ["Server", "serve"]

_log = structlog.get_logger("honeyguide.serving")
_BACKLOG = 2048
_POLL_S = 0.2
_MOST_RESTARTS, _RESTART_WINDOW_S = 5, 60.0
# A worker is one thread of numeric work; with more, workers would fight for the cores.
_ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS", "NUMBA_NUM_THREADS"), "1"
)


class Server:
    """Worker processes behind one listening socket.

    `make_answerer` is a module-level callable, or its name as `package.module:callable`; each worker calls it with
    `arguments` (what JSON can hold). `start` returns when every worker accepts requests, and raises what the factory
    raised. `watch` replaces workers that die. `stop` answers what is in flight and closes the answerers.
    """

    def __init__(
        self,
        make_answerer: str | Callable[..., Answerer],
        settings: ServeSettings | None = None,
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        self.settings = settings or ServeSettings()
        self._factory = make_answerer if isinstance(make_answerer, str) else _name_of(make_answerer)
        self._arguments = dict(arguments or {})
        self._workers: list[_Worker] = []
        self._stopping = threading.Event()
        self._restarts: list[float] = []
        self._metrics: Path | None = None
        self._socket: socket.socket | None = None
        self.port = self.settings.port  # the one the system chose, after `start`, if the settings say 0

    @property
    def url(self) -> str:
        """The address for clients on this machine."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.settings.host, self.settings.host)
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    def start(self) -> Self:
        """Take the port, start the workers, wait until all are ready."""
        self._socket = _listen(self.settings.host, self.settings.port)
        self.port = int(self._socket.getsockname()[1])
        if self.settings.workers > 1:
            self._metrics = Path(tempfile.mkdtemp(prefix="honeyguide-metrics-"))
        try:
            self._workers = [self._spawn() for _ in range(self.settings.workers)]
            for worker in self._workers:
                worker.await_ready(self.settings.start_s)
        except BaseException:
            self.stop()
            raise
        return self

    def watch(self) -> None:
        """Replace workers that die, until `stop`; a ResourceError if they keep dying."""
        while not self._stopping.wait(_POLL_S):
            for place, worker in enumerate(self._workers):
                code = worker.process.poll()
                if code is not None and not self._stopping.is_set():
                    worker.await_end(time.monotonic())
                    self._count_restart(code)
                    _log.warning("worker ended; starting another", pid=worker.process.pid, code=code)
                    self._workers[place] = self._spawn()

    def stop(self) -> None:
        """No new connections; requests in flight are answered, logs written, answerers closed."""
        self._stopping.set()
        if self._socket is not None:
            self._socket.close()
        for worker in self._workers:
            worker.end()
        until = time.monotonic() + self.settings.drain_s + 10
        for worker in self._workers:
            worker.await_end(until)
        self._workers = []
        if self._metrics is not None:
            shutil.rmtree(self._metrics, ignore_errors=True)

    def request_stop(self) -> None:
        """Make `watch` return; for signal handlers."""
        self._stopping.set()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _spawn(self) -> _Worker:
        if self._socket is None:
            raise ResourceError(expected="a started server", got="one that is not", do="Call start first.")
        spec = Spec(
            self._factory,
            self._arguments,
            self.settings.model_dump_json(),
            str(self._metrics) if self._metrics else None,
        )
        return _Worker(self._socket, spec)

    def _count_restart(self, code: int) -> None:
        now = time.monotonic()
        self._restarts = [at for at in self._restarts if at > now - _RESTART_WINDOW_S] + [now]
        if len(self._restarts) > _MOST_RESTARTS * self.settings.workers:
            raise ResourceError(
                expected="workers that stay alive",
                got=f"{len(self._restarts)} deaths in {_RESTART_WINDOW_S:g} s, the last with code {code}",
                do="Their messages above say why; -9 is often the system's answer to a lack of memory.",
            )


class _Worker:
    """A worker process, seen from the parent."""

    def __init__(self, listening: socket.socket, spec: Spec) -> None:
        self._ready, told = os.pipe()
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "honeyguide.serving.worker", str(listening.fileno()), str(told)],
                stdin=subprocess.PIPE,
                pass_fds=(listening.fileno(), told),
                env=os.environ | _ONE_THREAD | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                process_group=0,  # Ctrl-C reaches the parent alone, which then ends the workers in order
            )
        finally:
            os.close(told)
        if self.process.stdin is None:
            raise ResourceError(expected="a pipe to the worker", got="none", do="Raise the limit of open files.")
        self._life = self.process.stdin
        with suppress(BrokenPipeError):  # it died at once: `await_ready` tells
            self._life.write(msgspec.json.encode(spec) + b"\n")
            self._life.flush()

    def await_ready(self, timeout_s: float) -> None:
        """Return when it accepts requests; raise what kept it from starting."""
        readable, _, _ = select.select([self._ready], [], [], timeout_s)
        text = b""
        while readable and (part := os.read(self._ready, 65_536)):
            text += part
        started = msgspec.json.decode(text, type=Started) if text else None
        if started is None:
            got = f"exit code {self.process.wait()}" if readable else f"nothing within {timeout_s:g} s"
            raise ResourceError(
                expected="a worker that starts", got=got, do="Its messages above say why; `honeyguide doctor` helps."
            )
        if started.error is not None:
            kind = getattr(errors, started.error, HoneyguideError)
            raise kind(expected=started.expected, got=started.got, do=started.do)

    def end(self) -> None:
        """Ask it to finish."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)

    def await_end(self, until: float) -> None:
        """Wait for its end; past `until` it is killed."""
        try:
            self.process.wait(max(0.1, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if not self._life.closed:
            with suppress(BrokenPipeError):
                self._life.close()
            os.close(self._ready)


def serve(
    make_answerer: str | Callable[..., Answerer],
    settings: ServeSettings | None = None,
    *,
    arguments: Mapping[str, Any] | None = None,
    on_ready: Callable[[str], None] | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM. `on_ready(url)` is called once every worker accepts requests.

    Raises a ResourceError, before any worker starts, if the port is in use; and whatever the factory raises.
    """
    server = Server(make_answerer, settings, arguments)

    def end(signum: int, frame: FrameType | None) -> None:
        server.request_stop()

    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {signum: signal.signal(signum, end) for signum in (signal.SIGINT, signal.SIGTERM)}
    try:
        with server:
            if on_ready is not None:
                on_ready(server.url)
            server.watch()
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise ResourceError(
            expected=f"port {port} of {host} to be free and allowed",
            got=error.strerror or str(error),
            do="Stop what listens there, or choose another port.",
        ) from error


def _name_of(factory: Callable[..., Answerer]) -> str:
    module, name = getattr(factory, "__module__", ""), getattr(factory, "__qualname__", "")
    if not name.isidentifier() or module == "__main__" or getattr(sys.modules.get(module), name, None) is not factory:
        raise ConfigError(
            expected="an answerer factory that another process can import",
            got=f"{factory!r}",
            do="Define it at the top level of a module, or name it as package.module:callable.",
        )
    return f"{module}:{name}"
