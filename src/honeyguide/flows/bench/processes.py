"""Other processes, seen from a benchmark: what they cost, and which they are. Linux alone tells it (`/proc`)."""

from __future__ import annotations

from pathlib import Path

from honeyguide.errors import NotFoundError

__all__ = ["cpu_s", "only_child_of"]


def cpu_s(pid: int) -> float:
    """Processor time of a process and all its threads, to the nanosecond where the system keeps it."""
    total = 0.0
    for task in Path(f"/proc/{pid}/task").iterdir():
        total += int((task / "schedstat").read_text().split()[0]) / 1e9
    return total


def only_child_of(parent: int, module: str) -> int:
    """The process that a parent runs a module in."""
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                command = (process / "cmdline").read_bytes().decode(errors="replace")
                of = int((process / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
            if of == parent and module in command:
                return int(process.name)
    raise NotFoundError(expected=f"a worker process of {module}", got="none", do="Run it on Linux: it reads /proc.")
