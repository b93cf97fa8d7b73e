"""What each foreign format can and cannot support, as `honeyguide check` says it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from foreign_helpers import FORMATS, NOW, found_in

from honeyguide.intake.catalog import load_items, load_users
from honeyguide.intake.events import load_events
from honeyguide.intake.evidence import evidence
from honeyguide.schema.tables import EVENTS, ITEMS, USERS

# folder: level, (accepted, refused) events, a word of the fact on impressions, and of that on propensities
EXPECTED = {
    "metarank": ("L1", (7, {}), "Impressions with positions", "No propensity"),
    "retail": ("L1", (8, {"missing_item": 1}), "Impressions with positions", "No propensity"),
    "personalize": ("L0", (10, {}), "Impressions without position", "No propensity"),
    "dsjson": ("L3", (10, {"unparsed_line": 2}), "Impressions with positions", "Propensities are logged"),
    "open_bandit": ("L3", (4, {}), "Impressions with positions", "Propensities are logged"),
    "gorse": ("L0", (3, {"missing_time": 1}), "No impressions", "No propensity"),
    "gorse_csv": ("L0", (2, {}), "No impressions", "No propensity"),
    "ubi": ("L1", (6, {"missing_item": 3}), "Impressions with positions", "No propensity"),
    "ubi_flat": ("L1", (3, {"missing_item": 1}), "Impressions with positions", "No propensity"),
    "recbole": ("L0", (2, {}), "No impressions", "No propensity"),
}  # fmt: skip


@pytest.mark.parametrize("folder", EXPECTED)
def test_the_level_and_the_five_facts(engine, folder):
    level, (accepted, reasons), shown, chance = EXPECTED[folder]
    load = load_events(engine, found_in(FORMATS / folder).file(EVENTS), now=NOW)
    assert (load.report.accepted, load.report.reasons) == (accepted, reasons)
    assert load.report.rows_in == accepted + sum(reasons.values())
    found = evidence(engine, engine.table(load.events))
    assert found.level == level
    assert len(found.facts) == 5
    assert found.facts[3].startswith(shown)
    assert found.facts[4].startswith(chance)


@pytest.mark.parametrize("folder", [name for name in EXPECTED if not name.startswith("ubi")])
def test_items_and_people_pass_their_gates(engine, folder):
    found = found_in(FORMATS / folder)
    items = load_items(engine, found.file(ITEMS), now=NOW)
    assert items.report.quarantined == 0
    assert items.items.num_rows >= 2
    if USERS in found.tables:
        people = load_users(engine, found.file(USERS), now=NOW)
        assert people.report.quarantined == 0
        assert people.users.num_rows >= 1


def test_facts_of_items_arrive_in_their_types(engine):
    lamp, lantern = load_items(engine, found_in(FORMATS / "metarank").file(ITEMS), now=NOW).items.to_pylist()
    assert (lamp["price"], lamp["categories"], lamp["known_at"].isoformat()) == (
        39.5, ["lighting", "brass"], "2025-01-02T00:00:00+00:00",
    )  # fmt: skip
    assert (lantern["price"], lantern["available"]) == (12.0, True)
    kettles = load_items(engine, found_in(FORMATS / "retail").file(ITEMS), now=NOW).items.to_pylist()
    assert [(one["item_id"], one["available"]) for one in kettles] == [("k1", True), ("k2", False)]
    films = load_items(engine, found_in(FORMATS / "recbole").file(ITEMS), now=NOW).items.to_pylist()
    assert [(one["title"], one["categories"], one["year"]) for one in films] == [
        ("The Tide", ["Drama", "Sea"], 1999), ('Up "North"', ["Comedy"], 2004),
    ]  # fmt: skip
