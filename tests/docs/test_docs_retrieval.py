"""The page on retrieval: its Python runs as it stands, and its TOML makes sources."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

from honeyguide.flows.config import SourceConfig, SurfaceConfig, load_plugin

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "retrieval.md").read_text(encoding="utf-8")
_FENCE = re.compile(r"^```([^\n`]*)\n(.*?)^```[ ]*$", re.MULTILINE | re.DOTALL)


def test_the_python_runs_as_it_stands(tmp_path: Path) -> None:
    [block] = [text for tag, text in _FENCE.findall(PAGE) if tag.strip() == "python run"]
    done = subprocess.run([sys.executable, "-c", block], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def test_the_toml_makes_sources_and_surfaces() -> None:
    [block] = [text for tag, text in _FENCE.findall(PAGE) if tag.strip() == "toml"]
    read = tomllib.loads(block)
    for one in read["sources"]:
        spec = SourceConfig.model_validate(one)
        kind = load_plugin(spec.use)
        kind.Config.model_validate(spec.config)
        assert set(spec.grid) <= set(kind.Config.model_fields)
    for one in read["surfaces"].values():
        SurfaceConfig.model_validate(one)


def test_every_class_of_the_table_is_a_source_of_the_room() -> None:
    named = re.findall(r"^\| `(\w+:\w+)` \|", PAGE, re.MULTILINE)
    assert len(named) >= 13
    for name in named:
        load_plugin(f"honeyguide.retrieval.{name}")
