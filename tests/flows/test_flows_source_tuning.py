"""A stranger's folder read and split, sources tuned on it within a budget, and what each source is worth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from honeyguide.errors import DataError
from honeyguide.flows.bench import retrieval
from honeyguide.flows.bench.retrieval_data import Folder
from honeyguide.flows.sources import TUNABLE, made, searched
from honeyguide.flows.worth import worth


def write(
    folder: Path, rows: list[tuple[Any, ...]], columns: tuple[str, ...] = ("user_id", "item_id", "split")
) -> Path:
    folder.mkdir(exist_ok=True)
    pq.write_table(
        pa.table({name: [row[at] for row in rows] for at, name in enumerate(columns)}), folder / "interactions.parquet"
    )
    return folder


def stranger(folder: Path, *, ordered: bool) -> Path:
    """Two tastes of twenty items each; ids are text."""
    rng = np.random.default_rng(0)
    rows = []
    for person in range(120):
        items = rng.choice(20, 12, replace=False) + 20 * (person % 2)
        for place, item in enumerate(items):
            rows.append((f"p{person}", f"i{item}", "test" if place >= 10 else "train", place))
    columns = ("user_id", "item_id", "split", "position")
    return write(folder, [row[: len(columns) - (not ordered)] for row in rows], columns[: 4 - (not ordered)])


def test_seen_items_are_masked_and_the_parts_kept_apart(tmp_path: Path) -> None:
    data = Folder.read(stranger(tmp_path / "a", ordered=True))
    assert (data.n_users, data.n_items, data.ordered, data.own_valid) == (120, 40, True, False)
    asked = data.ask((0, 1), 2)
    for q in range(120):
        assert not np.isin(asked.relevant.row(q), asked.queries.exclude.row(q)).any()
    # as many as in test, and each person's newest
    valid = data.part == 1
    assert valid.sum() == 240
    for person in range(120):
        own = data.user == person
        assert data.at[own & valid].min() > data.at[own & (data.part == 0)].max()
    at_random = Folder.read(stranger(tmp_path / "b", ordered=False), seed=3)
    assert (at_random.part == 1).sum() == 240
    assert (at_random.part == Folder.read(tmp_path / "b", seed=3).part).all()


def test_a_folder_that_cannot_be_used_is_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="split"):
        Folder.read(write(tmp_path / "a", [("u", "i")], ("user_id", "item_id")))
    with pytest.raises(DataError, match="train and test"):
        Folder.read(write(tmp_path / "b", [("u", "i", "train")]))
    with pytest.raises(DataError, match="ids in every row"):
        Folder.read(write(tmp_path / "c", [("u", None, "train"), ("u", "j", "test")]))


def test_list_columns_of_items_become_facts(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", [("u", 1, "train"), ("u", 2, "train"), ("u", 3, "test")])
    pq.write_table(pa.table({"item_id": [3, 1, 9], "tags": [["x", "y"], ["x"], ["z"]]}), folder / "items.parquet")
    catalog = Folder.read(folder).catalog
    told = [[catalog.category_names[code] for code in catalog.category.row(i)] for i in range(3)]
    assert told == [["tags: x"], [], ["tags: x", "tags: y"]]


def test_every_start_is_a_config_of_its_source() -> None:
    for one in TUNABLE.values():
        for start in one.starts:
            made(one.use, start)


def test_tuning_stays_within_its_sources_and_says_what_it_left_out(tmp_path: Path) -> None:
    data = Folder.read(stranger(tmp_path / "a", ordered=True))
    asked = data.ask((0,), 1)
    found = searched(("rp3beta", "attributes"), data.events(0), data.catalog, asked.queries, asked.relevant, cpu_s=0.0)
    assert [one.name for one in found] == ["rp3beta", "attributes"]
    assert found[0].trials == len(TUNABLE["rp3beta"].starts)
    assert found[0].quality.recall_20 > 0.9
    assert "categories" in found[1].refused


@pytest.mark.heavy
def test_a_strangers_folder_gets_a_table_of_all_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrieval, "BUDGET_CPU_S", 1.0)
    monkeypatch.setenv("HONEYGUIDE_TUNE_CPU_S", "1")
    rows, missing = retrieval.run(stranger(tmp_path / "shop", ordered=True))
    assert missing == []
    cases = {row["case"] for row in rows}
    assert {"shop/rp3beta", "shop/spectral", "shop/als", "shop/popular", "shop/best"} <= cases
    best = {row["metric"]: row["ours"] for row in rows if row["case"] == "shop/best"}
    popular = {row["metric"]: row["ours"] for row in rows if row["case"] == "shop/popular"}
    assert best["recall@20"] > popular["recall@20"]
    assert best["fit_cpu_s"] >= 0
    assert best["peak_mb"] > 0


def test_what_can_go_is_said_with_what_it_saves() -> None:
    report = {
        "quality": {"visit": {"als": 0.2, "knn": 0.1, "popular": 0.01}},
        "marginal": {"visit": {"als": 0.05, "knn": 0.0004, "popular": 0.0}},
        "cpu_ms": {"als": 0.3, "knn": 0.2, "popular": 0.1},
    }
    config = {"regimes": [{"name": "visit", "weights": {"als": 0.7, "knn": 0.3, "popular": 0.0}}]}
    rows, said = worth(report, config)
    assert [(row["name"], row["on"]) for row in rows] == [("als", True), ("knn", True), ("popular", False)]
    assert any("popular" in line and "0.100 of 0.600 ms" in line for line in said)
    assert any(line.startswith("knn adds +0.0004") and "0.200 ms less" in line for line in said)
    assert not any(line.startswith("als") for line in said)
