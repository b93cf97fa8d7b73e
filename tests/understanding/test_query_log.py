"""A shop with a log of searches: what a build learns of it, and what it proposes."""

from __future__ import annotations

import csv
import datetime as dt
from pathlib import Path

import pytest

from honeyguide.engines.tables.duckdb import DuckDBTables
from honeyguide.flows.build import build
from honeyguide.flows.create import create
from honeyguide.flows.layout import Layout
from honeyguide.flows.live import load_manifest
from honeyguide.flows.understanding import accept, propose, understand
from honeyguide.flows.understood import searches_of, taken_of
from honeyguide.schema import columns as c

pytestmark = pytest.mark.heavy

START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
KINDS = ("Sofas", "Lamps")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("searched")
    with (place / "items.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["item_id", "title", "categories"])
        for n in range(30):
            table.writerow([f"i{n}", f"Model {'abcdefghij'[n % 10] * 3} {KINDS[n % 2][:-1]}", KINDS[n % 2]])
    with (place / "events.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["user_id", "item_id", "action", "happened_at", "query"])
        for person in range(40):
            for step, query in enumerate(("settee", "couch", "reading light", "Lamp", "")):
                item = 2 * ((person + step) % 10) + (query in ("reading light", "Lamp"))
                at = (START + dt.timedelta(minutes=person * 60 + step)).isoformat()
                table.writerow([f"u{person}", f"i{item}", "click", at, query])
    made = place / "shop"
    create(made, events=place / "events.csv", items=place / "items.csv")
    build(made)
    return made


def learnt(folder: Path) -> Path:
    layout = Layout.open(folder)
    return layout.root / load_manifest(layout).folders["understanding"]


def test_people_and_what_they_took_are_counted(folder: Path) -> None:
    taken = taken_of(learnt(folder))
    assert {query for query, _, _ in taken} == {"settee", "couch", "reading light", "lamp"}
    assert sum(people for query, _, people in taken if query == "settee") == 40


def test_words_of_queries_that_the_language_knows_are_no_misspellings(folder: Path) -> None:
    assert understand(folder, "couch")["corrected"] is None
    assert understand(folder, "lmap")["corrected"] == "lamp"


def test_synonyms_come_from_the_log_and_wait_for_a_yes(folder: Path) -> None:
    report = propose(folder)
    assert {"couch", "settee"} in [{one["word"], one["synonym"]} for one in report["new"]]
    assert understand(folder, "settee")["synonyms"] == {}
    path = folder / "synonyms.proposed.csv"
    path.write_text(path.read_text().replace(",couch,settee,", "yes,couch,settee,"))
    assert propose(folder)["new"] == []
    assert "yes,couch,settee," in path.read_text()
    assert accept(folder, [])["accepted"] == ["couch, settee"]
    build(folder)
    assert understand(folder, "settee")["synonyms"] == {"settee": ["couch"]}


def test_a_list_s_query_is_found_by_its_request() -> None:
    import pyarrow as pa

    engine = DuckDBTables()
    events = pa.table(
        {
            c.USER_ID: ["u", "v", "w", "u"], c.ITEM_ID: ["a", "a", "b", "b"],
            c.ACTION: ["click", "click", "view", "click"],
            c.QUERY: pa.array([None, "Red  Shoes", "x", None], pa.string()), c.REQUEST_ID: ["r1", None, "r1", "r9"],
        }
    )  # fmt: skip
    shown = pa.table({c.REQUEST_ID: ["r1", "r1"], c.QUERY: ["red shoes", "red shoes"]})
    found = searches_of(engine, engine.table(events), engine.table(shown), {"click": 1.0, "view": 0.0})
    engine.close()
    assert found.taken == [("red shoes", "a", 2.0)]
    assert found.people == {"red shoes": 2.0}
