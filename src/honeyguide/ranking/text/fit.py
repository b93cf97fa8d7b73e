"""Has encoders trained in a process of their own. Never imports PyTorch itself."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from honeyguide.contracts import Progress
from honeyguide.errors import BuildError, ResourceError

__all__ = ["train_text"]


def train_text(folder: Path, progress: Progress | None = None) -> dict[str, object]:
    """Run the training of a folder to its end, or read what it said if it has ended. BuildError if it fails."""
    done = folder / "done.json"
    if not done.exists():
        with (folder / "stderr.txt").open("wb") as errors, subprocess.Popen(
            [sys.executable, "-m", "honeyguide.ranking.text.train", str(folder)], stdout=subprocess.PIPE, stderr=errors
        ) as process:  # fmt: skip
            try:
                for line in process.stdout or ():
                    told = json.loads(line)
                    if progress is not None:
                        progress("encoders", int(told["done"]), int(told["total"]))
            except BaseException:
                process.kill()  # whoever interrupts the command interrupts the training
                raise
        if process.returncode:
            last = (folder / "stderr.txt").read_text(errors="replace").strip().splitlines()[-1:] or ["no message"]
            kind = ResourceError if process.returncode < 0 else BuildError
            raise kind(
                expected="a training of encoders that ends", got=f"exit code {process.returncode}: {last[0][:300]}",
                do="Check the extra `deep`; fewer `batch` or `item_tokens` need less memory.",
            )  # fmt: skip
    found: dict[str, object] = json.loads(done.read_text())
    return found
