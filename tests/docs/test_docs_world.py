"""The pages on the world and on changes: what they show runs as it stands."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from honeyguide.flows.simulation.changes import Change

DOCS = Path(__file__).resolve().parents[2] / "docs"
_FENCE = re.compile(r"^```([^\n`]*)\n(.*?)^```[ ]*$", re.MULTILINE | re.DOTALL)


def blocks(page: str, tag: str) -> list[str]:
    return [text for found, text in _FENCE.findall((DOCS / page).read_text(encoding="utf-8")) if found.strip() == tag]


@pytest.mark.heavy
@pytest.mark.parametrize("page", ["world.md", "replay.md"])
def test_the_commands_run_as_they_stand(page: str, tmp_path: Path) -> None:
    [block] = blocks(page, "sh run")
    environment = os.environ | {"PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block], cwd=tmp_path, env=environment, capture_output=True, text=True,
        timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout}\n---\n{done.stderr}"
    assert "Traceback" not in done.stderr
    assert "predicted" in done.stdout
    if page == "replay.md":
        assert "<svg" in (tmp_path / "replayed.html").read_text()
        assert "<svg" in (tmp_path / "simulated.html").read_text()


@pytest.mark.parametrize("page", ["world.md", "replay.md"])
def test_the_change_files_that_are_shown_are_change_files(page: str) -> None:
    examples = blocks(page, "toml")
    assert examples
    for text in examples:
        assert Change.of(tomllib.loads(text)).world
