"""`honeyguide doctor`: what this machine and this workspace have, and what to do about it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from honeyguide import __version__
from honeyguide.errors import HoneyguideError
from honeyguide.flows.layout import Layout

__all__ = ["examine", "machine"]

CORE = (
    "numpy", "scipy", "numba", "pyarrow", "duckdb", "ibis-framework", "sqlglot", "catboost", "fastapi",
    "uvicorn", "msgspec", "nicegui",
)  # fmt: skip
EXTRAS = {"spark": "pyspark"}
LOW_DISK_GB = 5
PORTS = (8080, 8081)

Finding = dict[str, Any]


def _line(state: str, what: str, found: object, do: str = "") -> Finding:
    return {"state": state, "what": what, "found": found, "do": do}


def cpu_model() -> str:
    """The processor's name, as the kernel tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def memory_gb() -> float:
    """Memory of the machine, in GB."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9


def machine() -> dict[str, Any]:
    """What a benchmark's result names."""
    return {
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "memory_gb": round(memory_gb(), 1),
        "os": platform.platform(),
        "python": platform.python_version(),
        "openblas_coretype": os.environ.get("OPENBLAS_CORETYPE", ""),
        "versions": {name: importlib.metadata.version(name) for name in CORE},
    }


def _versions() -> Iterator[Finding]:
    yield _line("ok", "honeyguide", __version__)
    yield _line("ok", "Python", platform.python_version())
    for name in CORE:
        try:
            yield _line("ok", name, importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            yield _line("bad", name, "missing", "Run `pip install honeyguide` again.")
    for extra, module in EXTRAS.items():
        if importlib.util.find_spec(module) is None:
            yield _line(
                "note", f"extra {extra}", "not installed", f"`pip install 'honeyguide[{extra}]'` if you need it."
            )
        else:
            yield _line("ok", f"extra {extra}", "installed")


def _machine() -> Iterator[Finding]:
    cores = os.cpu_count() or 1
    do = "" if cores >= 2 else "Builds will be slow; two cores or more are better."
    yield _line("ok" if cores >= 2 else "note", "cores", f"{cores} x {cpu_model()}", do)
    yield _line("ok" if memory_gb() >= 4 else "note", "memory", f"{memory_gb():.1f} GB")
    coretype = os.environ.get("OPENBLAS_CORETYPE")
    if coretype:
        yield _line(
            "note", "BLAS", f"OPENBLAS_CORETYPE={coretype}",
            "The same product can be twice as fast under another core type; unset it and measure.",
        )  # fmt: skip
    else:
        yield _line("ok", "BLAS", "core type chosen by the library")


def _disk(path: Path) -> Finding:
    free = shutil.disk_usage(path).free / 1e9
    if free < LOW_DISK_GB:
        return _line("note", "disk", f"{free:.1f} GB free at {path}", f"Builds want {LOW_DISK_GB} GB; free some.")
    return _line("ok", "disk", f"{free:.0f} GB free at {path}")


def _ports() -> Iterator[Finding]:
    for port in PORTS:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                yield _line("note", f"port {port}", "in use", "Give another with --port or --console-port.")
            else:
                yield _line("ok", f"port {port}", "free")


def _workspace(folder: Path) -> Iterator[Finding]:
    from honeyguide.flows.config import WorkspaceConfig

    try:
        layout = Layout.open(folder)
        yield _line("ok", "workspace", str(layout.root))
        WorkspaceConfig.load(layout.config)
        yield _line("ok", "honeyguide.toml", "valid")
        build = layout.current_build()
        manifest = json.loads(layout.manifest(build).read_text())
        gone = [step["name"] for step in manifest["steps"] if not (layout.root / step["folder"] / "done.json").exists()]
    except HoneyguideError as error:
        yield _line("bad", "workspace", f"{error.got} (expected {error.expected})", error.do)
        return
    if gone:
        yield _line("bad", "build in service", f"{build}: artifacts gone: {', '.join(gone)}", "Run `honeyguide build`.")
    else:
        yield _line("ok", "build in service", build)
    left = list(layout.artifacts.glob("*/.tmp-*"))
    if left:
        yield _line("note", "interrupted builds", f"{len(left)} half artifacts", "The next build removes them.")


def examine(folder: Path | None) -> list[Finding]:
    """All findings; `state` is ok, note or bad."""
    findings = [*_versions(), *_machine(), _disk(folder if folder and folder.exists() else Path.cwd()), *_ports()]
    if folder is not None:
        findings += _workspace(folder)
    return findings
