"""A catalog and nothing else: init, build, serve, search; and what becomes of it when people come."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

import honeyguide as hg
from honeyguide.errors import DataError, RequestError
from honeyguide.flows.build import LEAST_TELLING, build
from honeyguide.flows.create import create
from honeyguide.flows.operate import server

THINGS = (
    ("1", "Red running shoe", "Shoes", 59.9),
    ("2", "Blue running shoe", "Shoes", 89.9),
    ("3", "Green rain jacket", "Jackets", 120.0),
    ("4", "Wool sweater", "Knitwear", 75.0),
    ("5", "Leather boot", "Shoes", 150.0),
    ("6", "Trail socks", "Socks", 15.0),
)


def catalog(folder: Path, rows: tuple[tuple[str, str, str, float], ...] = THINGS) -> Path:
    path = folder / "items.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["item_id", "title", "categories", "price"])
        writer.writerows(rows)
    return path


def test_a_catalog_alone_is_searched(tmp_path: Path, unhurried: Callable[[Path], None]) -> None:
    made = create(tmp_path / "w", items=catalog(tmp_path))
    assert any("work from the catalog alone" in note for note in made["notes"])
    unhurried(tmp_path / "w")
    report = build(tmp_path / "w")
    assert report["decisions"][0].startswith("search alone: 0 events")
    assert build(tmp_path / "w")["build_id"] == report["build_id"]  # nothing changed
    with hg.Workspace(tmp_path / "w") as workspace:
        found = workspace.search("runing shoe")
        assert [item.item_id for item in found.items[:2]] == ["1", "2"]
        assert workspace.search("", k=10).answer.total in (0, 6)
        assert len(workspace.recommend(k=10)) == 6
        assert workspace.recommend(surface="item", item="1", k=3).items[0].item_id == "2"
        assert workspace.explain()["surfaces"]["home"]["heads"] == []


@pytest.mark.heavy
def test_it_is_served_and_learns_once_there_is_something_to_learn(
    tmp_path: Path, unhurried: Callable[[Path], None]
) -> None:
    folder = tmp_path / "w"
    create(folder, items=catalog(tmp_path, tuple((f"i{n}", f"Thing {n} of {n % 5}", "All", 1.0) for n in range(40))))
    unhurried(folder)
    build(folder)

    def click(http: httpx.Client, number: int, first: int) -> None:
        events = [
            {"user_id": f"p{n % 12}", "item_id": f"i{(n * 7 + n // 12) % 40}", "action": "click",
             "happened_at": 1_700_000_000 + 3_600 * (first + n), "event_id": f"e{first + n}"}
            for n in range(number)
        ]  # fmt: skip
        answer = http.post("/v1/events", content=json.dumps({"events": events})).json()
        assert answer["accepted"] == number

    with server(folder, port=0, workers=1) as running, httpx.Client(base_url=running.url, trust_env=False) as http:
        assert http.post("/v1/search", json={"query": "thing 7"}).json()["items"][0]["item_id"] == "i7"
        suggested = http.get("/v1/suggest", params={"prefix": "thi"}).json()["suggestions"]
        assert suggested
        click(http, 20, 0)
        assert http.post("/v1/recommend", json={"user_id": "p1"}).json()["items"]
    assert build(folder)["decisions"][0].startswith("search alone: 20 events")
    with server(folder, port=0, workers=1) as running, httpx.Client(base_url=running.url, trust_env=False) as http:
        click(http, LEAST_TELLING + 200, 20)
    decisions = build(folder)["decisions"]
    assert not any(line.startswith("search alone") for line in decisions)
    with hg.Workspace(folder) as workspace:
        assert workspace.search("thing 7").items[0].item_id == "i7"
        assert workspace.recommend(user="p3").items


def test_neither_events_nor_items_is_refused_and_so_is_a_catalog_without_a_good_row(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="--items"):
        create(tmp_path / "w")
    with pytest.raises(DataError):
        create(tmp_path / "w", items=catalog(tmp_path, ()))
    assert not (tmp_path / "w").exists()
