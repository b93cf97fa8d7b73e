"""The further sources in a real build: weighed, explained, served, and asked for everybody at once."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from honeyguide.flows.build import build
from honeyguide.flows.candidates import candidates

MORE = """
[[sources]]
use = "honeyguide.retrieval.spectral:Spectral"
config = { d = 16, als = { d = 8, epochs = 2 } }
[[sources]]
use = "honeyguide.retrieval.covisit:Complements"
[[sources]]
use = "honeyguide.retrieval.attributes:Attributes"
[[sources]]
use = "honeyguide.retrieval.interests:Interests"
config = { d = 8 }
[[sources]]
use = "honeyguide.retrieval.trending:Trending"
[[sources]]
use = "honeyguide.retrieval.trending:Fresh"
config = { most_events = 1000, max_age_days = 10000.0 }
chance = 0.1

"""


@pytest.fixture(scope="module")
def rich(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rich") / "shop"
    shutil.copytree(built, folder)
    path = folder / "honeyguide.toml"
    text = path.read_text().replace("[surfaces.home]", f"{MORE}[surfaces.home]", 1)
    text = re.sub(r"(\[surfaces\.board\]\n(?:.*\n)*?)weights = .*\n", r"\1weights = { interests = 1.0 }\n", text)
    text = re.sub(r"(\[surfaces\.item\]\n(?:.*\n)*?)weights = .*\n", r"\1weights = { complements = 1.0 }\n", text)
    path.write_text(text)
    build(folder)
    return folder


@pytest.mark.heavy
def test_all_sources_are_weighed_and_explained(rich: Path, run: Callable[..., Any]) -> None:
    code, out, _ = run("explain", rich, "--json")
    told = json.loads(out)
    assert code == 0
    rows = {row["name"]: row for row in told["sources"]}
    assert {"spectral", "complements", "attributes", "interests", "trending", "fresh", "popular"} <= set(rows)
    assert all(weight > 0.04 for weight in rows["fresh"]["weights"].values())
    assert any("off, for validation found no use" in line for line in told["sources_say"])
    code, out, _ = run("explain", rich)
    assert "Sources on validation" in out


@pytest.mark.heavy
def test_each_item_says_which_source_brought_it(rich: Path) -> None:
    from honeyguide.flows.wiring import open_desk
    from honeyguide.schema.wire import RecommendRequest

    desk = open_desk(str(rich), writable=False, watch=False)
    try:
        page = desk.recommend(RecommendRequest(surface="item", item_id="f3", k=8, request_id="a"))
        board = desk.recommend(
            RecommendRequest(surface="board", board_items=["f1", "f2", "f150"], k=10, request_id="b")
        )
        home = desk.recommend(RecommendRequest(surface="home", user_id="p1", k=20, request_id="c"))
    finally:
        desk.close()
    assert any("complements" in item.sources for item in page.items)
    sides = [int(item.item_id[1:]) < 100 for item in board.items if "interests" in item.sources]
    assert 0 < sum(sides) < len(sides)
    assert home.fallback is None
    assert any("fresh" in item.sources for item in home.items)


@pytest.mark.heavy
def test_candidates_for_everybody_keep_to_allowed_and_denied(
    rich: Path, tmp_path: Path, run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from honeyguide.flows import candidates as module

    whole = candidates(rich, tmp_path / "a.parquet", k=15)
    table = pq.read_table(tmp_path / "a.parquet")
    assert whole["people"] == len(set(table["user_id"].to_pylist())) + whole["empty"]
    assert max(table["position"].to_pylist()) == 15
    monkeypatch.setattr(module, "BLOCK", 7)
    candidates(rich, tmp_path / "b.parquet", k=15)
    assert pq.read_table(tmp_path / "b.parquet").equals(table)

    allow, deny = tmp_path / "allow.txt", tmp_path / "deny.txt"
    allow.write_text("f1\nf2\nf120\n")
    deny.write_text("f2\n")
    out = tmp_path / "c.parquet"
    code, said, _ = run("candidates", rich, "--out", out, "--source", "interests", "--allow", allow, "--deny", deny)
    assert code == 0
    assert "interests" in said
    assert set(pq.read_table(out)["item_id"].to_pylist()) <= {"f1", "f120"}
    deny.write_text("f1\nf2\nf120\n")
    code, said, _ = run("candidates", rich, "--out", out, "--allow", allow, "--deny", deny)
    assert code == 0
    assert "people have none" in said
    assert pq.read_table(out).num_rows == 0
    deny.write_text("nobody\n")
    code, _, error = run("candidates", rich, "--out", out, "--deny", deny)
    assert code != 0
    assert "'nobody'" in error
    code, _, error = run("candidates", rich, "--out", out, "--source", "nothing")
    assert code != 0
    assert "interests" in error
