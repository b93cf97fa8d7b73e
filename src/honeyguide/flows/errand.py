"""What a running server has done beside it: a command in a process of its own, so that no answer waits for it."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Errand", "Returned"]

_NICE = 10  # whoever answers people goes first


@dataclass(frozen=True, slots=True)
class Returned:
    """How an errand ended: `code` 0 is well, else `reason` is the last line that it told."""

    code: int
    reason: str


class Errand:
    """`honeyguide ARGUMENTS`, now and then; of several processes of a machine, by the one that asks first.

    claim: a file that the one who runs errands holds locked until it closes. Called by one thread.
    """

    def __init__(self, claim: Path, *arguments: str) -> None:
        self._claim = claim.open("w")
        self._mine = False
        self._command = [sys.executable, "-m", "honeyguide", *arguments]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        """Whether it was started and nobody has seen it return."""
        return self._process is not None

    def start(self) -> bool:
        """Start it; False where another process runs these errands."""
        if not self._claimed():
            return False
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment, process_group=0
        )
        os.setpriority(os.PRIO_PROCESS, self._process.pid, _NICE)
        return True

    def returned(self) -> Returned | None:
        """How it ended, told once; None while it runs or where there is none."""
        if self._process is None or self._process.poll() is None:
            return None
        _, told = self._process.communicate()
        code, self._process = self._process.returncode, None
        return Returned(code, told.decode(errors="replace").strip().rpartition("\n")[2])

    def close(self) -> None:
        """End it if it runs, and let others run it."""
        if self._process is not None:
            self._process.terminate()
            self._process.communicate()
        self._claim.close()

    def _claimed(self) -> bool:
        if not self._mine:
            try:
                fcntl.flock(self._claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._mine = True
            except BlockingIOError:
                return False
        return True
