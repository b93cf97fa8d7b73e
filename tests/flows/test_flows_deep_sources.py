"""Trained sources in the product: configured, built, served with the facts of the moment, and their vectors taken."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from honeyguide.errors import ConfigError, NotFoundError, RequestError
from honeyguide.flows import starter
from honeyguide.flows.build import build
from honeyguide.flows.source_vectors import source_vectors
from honeyguide.flows.wiring import open_desk
from honeyguide.retrieval.deep import config as configs
from honeyguide.schema import columns as c
from honeyguide.schema.wire import RecommendRequest

deep = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="the extra `deep` is not installed")
SMALL = "d = 16, epochs = 3.0, context = []"
MORE = f"""
[[sources]]
use = "honeyguide.retrieval.deep.sequence:Sequence"
config = {{ {SMALL}, length = 12, heads = 2, inner = 32 }}
[[sources]]
use = "honeyguide.retrieval.deep.towers:Towers"
config = {{ {SMALL}, batch = 64 }}
[[sources]]
use = "honeyguide.retrieval.deep.generative:Generative"
config = {{ {SMALL}, length = 12, heads = 2, inner = 32, codes = 8 }}

"""


def with_sources(built: Path, folder: Path) -> Path:
    shutil.copytree(built, folder)
    path = folder / "honeyguide.toml"
    text = path.read_text().replace("[surfaces.home]", f"{MORE}[surfaces.home]", 1)
    weights = "weights = { sequence = 1.0, towers = 1.0, generative = 1.0 }\n"
    path.write_text(text.replace("[surfaces.board]\n", f"[surfaces.shelf]\n{weights}\n[surfaces.board]\n", 1))
    return folder


@deep
@pytest.mark.heavy
def test_trained_sources_are_built_served_and_their_vectors_taken(
    built: Path, tmp_path: Path, run: Callable[..., Any]
) -> None:
    folder = with_sources(built, tmp_path / "shop")
    report = build(folder)
    code, out, _ = run("explain", folder, "--json")
    assert code == 0
    assert {"sequence", "towers", "generative"} <= {row["name"] for row in json.loads(out)["sources"]}
    desk = open_desk(str(folder), writable=False, watch=False)
    person = desk._live.users.id(0)
    answer = desk.recommend(RecommendRequest(user_id=person, surface="shelf", k=5, log=False))
    assert answer.fallback is None
    assert answer.items
    desk.close()
    assert build(folder)["build_id"] == report["build_id"]
    out_file = tmp_path / "people.parquet"
    code, _, _ = run("source-vectors", folder, "--out", out_file, "--source", "towers", "--segments", "4")
    assert code == 0
    people = pq.read_table(out_file)
    assert set(people[c.SEGMENT].to_pylist()) <= {"0", "1", "2", "3"}
    assert np.isfinite(np.array(people[c.VECTOR].to_pylist())).all()
    told = source_vectors(folder, tmp_path / "items.parquet", of="items")
    assert told["d"] == 16
    with pytest.raises(NotFoundError, match="towers"):
        source_vectors(folder, tmp_path / "x.parquet", source="none")
    with pytest.raises(ConfigError, match="vectors of people"):
        source_vectors(folder, tmp_path / "x.parquet", source="popular")
    with pytest.raises(RequestError, match="segments"):
        source_vectors(folder, tmp_path / "x.parquet", segments=10**6)


@pytest.mark.heavy
def test_without_the_extra_a_build_leaves_them_out_and_says_how_to_install_it(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(configs, "find_spec", lambda name: None if name == "torch" else object())
    folder = with_sources(built, tmp_path / "shop")
    path = folder / "honeyguide.toml"
    text = path.read_text()
    path.write_text(text.replace("weights = { sequence = 1.0, towers = 1.0, generative = 1.0 }\n", ""))
    said = [line for line in build(folder)["decisions"] if line.startswith(("sequence", "towers", "generative"))]
    assert len(said) == 3
    assert all("pip install 'honeyguide[deep]'" in line for line in said)


def test_the_starter_offers_them_where_they_can_be_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    events = pa.table({str(c.ACTION): ["view"] * starter.DEEP_EVENTS})
    monkeypatch.setattr(starter, "installed", lambda: True)
    assert starter._sources(events) == starter.SOURCES + starter.DEEP_SOURCES
    assert starter._sources(events.slice(1)) == starter.SOURCES
    monkeypatch.setattr(starter, "installed", lambda: False)
    assert starter._sources(events) == starter.SOURCES
