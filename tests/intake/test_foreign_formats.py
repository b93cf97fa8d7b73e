"""Each foreign format's example, value by value, as its specification says; and back where the format allows."""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from foreign_helpers import FORMATS, example, found_in, jsonl, refused_of, rows_of

from honeyguide.errors import DataError
from honeyguide.intake import foreign
from honeyguide.schema.tables import DECISIONS, EVENTS, ITEMS, USERS

ALL = {
    "metarank": "metarank", "retail": "retail", "personalize": "personalize", "dsjson": "dsjson",
    "open_bandit": "open_bandit", "gorse": "gorse", "gorse_csv": "gorse", "ubi": "ubi", "ubi_flat": "ubi",
    "recbole": "recbole",
}  # fmt: skip


@pytest.mark.parametrize("folder, name", ALL.items())
def test_an_export_is_known_by_its_content(folder, name, tmp_path):
    found = found_in(FORMATS / folder)
    assert found.format == name
    assert found.strangers == ()
    files = [path for path in sorted((FORMATS / folder).rglob("*")) if path.is_file()]
    assert sorted(file.path for file in found.files) == files
    if name != "open_bandit":  # whose folders say the policy
        renamed = []
        for at, path in enumerate(files):
            renamed.append(tmp_path / f"part-{at}")
            renamed[-1].write_bytes(path.read_bytes())
        assert found_in(*renamed).format == name


def test_a_teams_own_files_are_none_of_them(tmp_path):
    (tmp_path / "e.csv").write_text("user,item,time\nu1,i1,978300760\n")
    (tmp_path / "i.csv").write_text("item_id,title\ni1,Lamp\n")
    (tmp_path / "e.jsonl").write_text('{"user_id":"u","item_id":"i","action":"view","timestamp":1735689600}\n')
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0")
    (tmp_path / "empty").write_bytes(b"")
    for path in [tmp_path, *tmp_path.iterdir()]:
        assert foreign.detect(path) is None
    assert foreign.detect(tmp_path / "nowhere") is None


def test_strangers_beside_an_export_are_named(tmp_path):
    for path in (FORMATS / "gorse").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "README").write_text("Exported on Monday.\n")
    (tmp_path / ".hidden").write_text("x")
    found = found_in(tmp_path)
    assert [path.name for path in found.strangers] == ["README"]
    list(found.parts())
    assert any("README" in note for note in found.notes)


@pytest.mark.parametrize("folder", ALL)
@pytest.mark.parametrize("batch_rows", [1, 2, 1000])
def test_batches_of_any_size_hold_the_same(folder, batch_rows):
    found = found_in(FORMATS / folder)
    for table in found.tables:
        whole = rows_of(found, table)
        assert rows_of(found, table, batch_rows=batch_rows) == whole
        sizes = [raw.table.num_rows for _, raw in found.parts(table, batch_rows=batch_rows)]
        assert max(sizes, default=0) < batch_rows + 10  # a list shown is never parted


# ---------------------------------------------------------------------------------------------------- metarank


def test_metarank_rankings_become_impressions_and_interactions_find_their_slots():
    found = found_in(FORMATS / "metarank")
    shown = {"user_id": "ada", "session_id": "s1", "happened_at": "1735779600000", "request_id": "r1", "query": "lamp",
             "action": "impression"}  # fmt: skip
    assert rows_of(found, EVENTS) == [
        shown | {"event_id": "r1/1", "item_id": "lamp-2", "position": "1",
                 "context": {"source": "search", "relevancy": 2.5}},
        shown | {"event_id": "r1/2", "item_id": "lamp-1", "position": "2", "context": {"source": "search"}},
        {"event_id": "i1", "user_id": "ada", "session_id": "s1", "item_id": "lamp-1", "action": "click",
         "happened_at": "1735779605000", "request_id": "r1", "position": "2", "query": "lamp",
         "context": {"device": "phone"}},
        {"event_id": "i2", "user_id": "ada", "item_id": "lamp-1", "action": "purchase",
         "happened_at": "1735779700000", "request_id": "r1", "position": "2", "query": "lamp"},
        {"event_id": "i3", "user_id": "s2", "session_id": "s2", "item_id": "lamp-2", "action": "click",
         "happened_at": "1735779800000"},
        {"event_id": "i4", "user_id": "bo", "item_id": "lamp-2", "action": "click", "happened_at": "1735779900000",
         "request_id": "gone"},
        {"event_id": "r2/1", "user_id": "bo", "item_id": "lamp-1", "action": "impression",
         "happened_at": "1735780000000", "request_id": "r2", "position": "1", "context": {"relevancy": 0.5}},
    ]  # fmt: skip
    assert any("1 interactions name a ranking that is not in the export" in note for note in found.notes)
    assert any("session stands for the person" in note for note in found.notes)


def test_metarank_metadata_that_comes_in_pieces_is_merged():
    found = found_in(FORMATS / "metarank")
    assert rows_of(found, ITEMS) == [
        {"item_id": "lamp-1", "title": "Brass reading lamp", "price": "39.5", "categories": ["lighting", "brass"],
         "known_at": "1735776000000", "attributes": {"is_new": True}},
        {"item_id": "lamp-2", "title": "Paper lantern", "price": "12", "known_at": "1735689600000"},
    ]  # fmt: skip
    assert any("1 item records add to an earlier one" in note for note in found.notes)
    assert rows_of(found, USERS) == [
        {"user_id": "ada", "known_at": "1735689600000", "attributes": {"age": 33, "city": "Porto"}}
    ]


def test_metarank_goes_back_as_it_came():
    """The rankings and interactions, rebuilt from our events by what the specification says."""
    events = rows_of(found_in(FORMATS / "metarank"), EVENTS)
    rankings: dict[str, list[tuple[int, str]]] = {}
    for event in events:
        if event["action"] == "impression":
            rankings.setdefault(event["request_id"], []).append((int(event["position"]), event["item_id"]))
    source = example("metarank/events.jsonl")
    assert rankings == {
        one["id"]: [(at, item["id"]) for at, item in enumerate(one["items"], 1)]
        for one in source
        if one["event"] == "ranking"
    }
    acted = [(e["event_id"], e["action"], e["item_id"], e.get("request_id"), e["happened_at"])
             for e in events if e["action"] != "impression"]  # fmt: skip
    assert acted == [(one["id"], one["type"], one["item"], one.get("ranking"), one["timestamp"])
                     for one in source if one["event"] == "interaction"]  # fmt: skip


def test_the_join_does_not_mind_the_order_of_files_and_lines(tmp_path):
    lines = example("metarank/events.jsonl")
    path = jsonl(tmp_path / "reversed.jsonl", lines[::-1])

    def key(event):
        return event["event_id"]

    there = sorted(rows_of(found_in(path), EVENTS), key=key)
    assert there == sorted(rows_of(found_in(FORMATS / "metarank"), EVENTS), key=key)


# ------------------------------------------------------------------------------------------------------ retail


def test_retail_events_give_a_row_for_each_product():
    found = found_in(FORMATS / "retail")
    events = rows_of(found, EVENTS)
    search = {"user_id": "v1", "action": "impression", "happened_at": "2025-01-02T10:00:00Z", "surface": "search",
              "request_id": "tok-1", "session_id": "s1", "experiment": "exp=a", "query": "kettle",
              "context": {"eventType": "search"}}  # fmt: skip
    assert events[:2] == [
        search | {"item_id": "k1", "position": "21"},
        search | {"item_id": "k2", "position": "22"},
    ]
    assert events[2] == {
        "user_id": "ada", "item_id": "k2", "action": "detail-page-view", "happened_at": "2025-01-02T10:01:00Z",
        "request_id": "tok-1",
        "context": {"uri": "https://shop.example/k2", "visitorId": "v1", "userInfo.userAgent": "test"},
    }  # fmt: skip
    assert events[3]["context"] == {"quantity": 2}
    paid = {"id": "t1", "revenue": 59.9, "currencyCode": "EUR"}
    assert (events[4]["value"], events[4]["context"]) == ("59.9", {"purchaseTransaction": paid, "quantity": 2})
    assert [event["item_id"] for event in events[5:7]] == ["k1", "k2"]
    assert "value" not in events[5], "the revenue of two products cannot be parted"
    assert events[7] == {"user_id": "v3", "action": "home-page-view", "happened_at": "2025-01-02T12:00:00Z"}
    assert (events[8]["item_id"], events[8]["surface"], events[8]["position"]) == ("k1", "category", "1")
    assert any("1 home-page-view events name no product" in note for note in found.notes)


def test_retail_products():
    first, second = rows_of(found_in(FORMATS / "retail"), ITEMS)
    assert {name: first[name] for name in first if name != "attributes"} == {
        "item_id": "k1", "title": "Enamel kettle", "description": "Two litres.", "language": "en", "price": "39.9",
        "categories": ["Kitchen > Kettles"], "people": ["Fjord"], "image_url": "https://shop.example/k1.jpg",
        "available": "true", "known_at": "2024-06-01T00:00:00Z",
    }  # fmt: skip
    source = example("retail/products.jsonl")[0]
    kept = first["attributes"]
    assert kept["images"] == source["images"]
    assert kept["attributes"] == source["attributes"]
    assert (kept["priceInfo.originalPrice"], kept["priceInfo.currencyCode"]) == (45, "EUR")
    assert (second["item_id"], second["available"], second["categories"]) == (
        "k2", "false", ["Kitchen > Kettles", "Gifts"],
    )  # fmt: skip


# ------------------------------------------------------------------------------------------------- personalize


def test_personalize_lists_of_impressions_are_told_once():
    found = found_in(FORMATS / "personalize")
    events = rows_of(found, EVENTS)
    shown = [event for event in events if event["action"] == "impression"]
    assert [(e["user_id"], e["item_id"], e["happened_at"]) for e in shown] == [
        ("ada", item, at) for at in ("1735779600", "1735779700") for item in ("b1", "b2", "b3")
    ]
    assert not any("position" in event for event in events), "the order of IMPRESSION is documented nowhere"
    acted = [event for event in events if event["action"] != "impression"]
    assert acted[0]["request_id"] == shown[0]["request_id"] != shown[3]["request_id"] == acted[1]["request_id"]
    back = io.StringIO()
    writer = csv.writer(back, lineterminator="\n")
    writer.writerow(["USER_ID", "ITEM_ID", "EVENT_TYPE", "EVENT_VALUE", "TIMESTAMP", "IMPRESSION", "DEVICE"])
    for event in acted:
        seen = [one["item_id"] for one in shown if one["request_id"] == event.get("request_id")]
        cells = [event.get(name, "") for name in ("user_id", "item_id", "action", "value", "happened_at")]
        writer.writerow([*cells, "|".join(seen), event.get("context", {}).get("DEVICE", "")])
    assert back.getvalue() == (FORMATS / "personalize" / "interactions.csv").read_text()


def test_personalize_items_and_users():
    found = found_in(FORMATS / "personalize")
    assert rows_of(found, ITEMS) == [
        {"item_id": "b1", "categories": ["Drama", "Comedy"], "price": "9.99", "known_at": "1704067200",
         "description": "A quiet play", "attributes": {"COLOUR": "red"}},
        {"item_id": "b2", "categories": ["Drama"], "price": "4.5", "known_at": "1704153600"},
        {"item_id": "b3", "known_at": "1704240000", "description": "Storm, in two acts",
         "attributes": {"COLOUR": "blue"}},
    ]  # fmt: skip
    assert rows_of(found, USERS) == [
        {"user_id": "ada", "attributes": {"AGE": "33", "MEMBERSHIP": "gold"}},
        {"user_id": "bo", "attributes": {"AGE": "41"}},
    ]


def test_personalize_without_event_types_and_with_categories_in_levels(tmp_path):
    (tmp_path / "i.csv").write_text("USER_ID,ITEM_ID,TIMESTAMP\nu,i,1735779600\n")
    (tmp_path / "c.csv").write_text(
        "ITEM_ID,CATEGORY_L1,CATEGORY_L2,CREATION_TIMESTAMP\ni,Home|Garden,Lamps,1704067200\n"
    )
    found = found_in(tmp_path)
    assert rows_of(found, EVENTS)[0]["action"] == "view"
    assert any("EVENT_TYPE" in note for note in found.notes)
    assert rows_of(found, ITEMS)[0]["categories"] == ["Home", "Garden", "Lamps"]


# ------------------------------------------------------------------------------------------------------ dsjson


def test_dsjson_decisions():
    made = foreign.decisions(FORMATS / "dsjson", now=1_800_000_000_000_000)
    names = ["request_id", "position", "policy_version", "offered", "probabilities", "chosen", "propensity", "reward"]
    rows = [tuple(row[name] for name in names) for row in made.table.to_pylist()]
    assert rows[:2] == [
        ("e1", 1, "model-7", ["salad", "pasta", "curry"], [0.8, 0.1, 0.1], "salad", 0.8, 1.0),
        ("e2", 1, "model-7", ["curry", "pasta", "salad"], [0.1, 0.8, 0.1], "curry", 0.1, 0.0),
    ]
    (top, side), slates = rows[2:4], rows[4:]
    one, two, three = (item["item_id"] for item in rows_of(found_in(FORMATS / "dsjson"), ITEMS)[3:6])
    assert top == ("e4", 1, "model-8", [three, two, one], [0.5, 0.25, 0.25], three, 0.5, 0.5)
    assert side == ("e4", 2, "model-8", [two, one], [0.5, 0.5], two, 0.5, 0.0)
    assert slates == [
        ("e5", 1, "model-8", ["head-b", "head-a"], [0.8, 0.2], "head-b", 0.8, -1.0),
        ("e5", 2, "model-8", ["foot-a"], [1.0], "foot-a", 1.0, -1.0),
    ]
    assert json.loads(made.table["context"][1].as_py()) == {"User": {"id": "bo"}, "pdrop": 0.5}
    assert made.rows_in == 8
    assert made.table.schema.equals(DECISIONS.arrow())


def test_dsjson_lines_that_are_no_decision_stay_as_they_stand():
    lines = (FORMATS / "dsjson" / "decisions.dsjson").read_text().splitlines()
    made = foreign.decisions(FORMATS / "dsjson", now=1_800_000_000_000_000)
    quarantined = made.quarantine.to_pylist()
    assert [(row["row_number"], row["raw"]) for row in quarantined] == [(3, lines[2]), (4, lines[3])]
    assert "_skipLearn" in quarantined[0]["detail"]
    assert "dangling" in quarantined[1]["detail"]
    assert any("1 decisions carry pdrop" in note for note in made.notes)


def test_dsjson_events_are_impressions_with_propensities_and_rewards():
    events = rows_of(found_in(FORMATS / "dsjson"), EVENTS)
    said = [(e["event_id"], e["user_id"], e["item_id"], e["action"], e["propensity"], e.get("value")) for e in events]
    assert said[:3] == [
        ("e1/1", "ada", "salad", "impression", "0.8", None),
        ("e1/1/reward", "ada", "salad", "reward", "0.8", "1.0"),
        ("e2/1", "bo", "curry", "impression", "0.1", None),
    ]
    assert [one[3] for one in said[3:6]] == ["impression", "reward", "impression"]
    items = {row["item_id"]: row for row in rows_of(found_in(FORMATS / "dsjson"), ITEMS)}
    assert items["curry"]["title"] == "Red curry"
    assert items["curry"]["attributes"]["spicy"] == 1


CB = {"_label_cost": -1, "_label_probability": 0.6, "_label_Action": 1, "_labelIndex": 0, "EventId": "x",
      "Timestamp": "2025-01-02T10:00:00Z", "a": [1, 2], "p": [0.6, 0.4], "VWState": {"m": "m"},
      "c": {"u": 1, "_multi": [{"_tag": "one"}, {"_tag": "two"}]}}  # fmt: skip


@pytest.mark.parametrize(
    "change, why",
    [
        ({"p": [0.6, 0.1]}, "sum to 0.7"),
        ({"p": [0.6]}, "not one for each"),
        ({"p": [1.2, -0.2]}, "below 0 or above 1"),
        ({"p": "0.6"}, "not one for each"),
        ({"_label_probability": 0}, "no probability above zero"),
        ({"_label_probability": 0.5}, "not what `p` says"),
        ({"_label_Action": 3, "_labelIndex": 2}, "none of `c._multi`"),
        ({"_labelIndex": 1}, "different actions"),
        ({"a": [2], "p": [1.0]}, "not among those in `a`"),
        ({"a": [1, 1]}, "repeated"),
        ({"a": [0, 1]}, "none of the actions"),
        ({"_label_cost": "cheap"}, "no number"),
        ({"c": {"u": 1}}, "no list of actions"),
        ({"c": {"_label_ca": {}, "_multi": [{}]}}, "continuous"),
        ({"_outcomes": []}, "no list of outcomes"),
        (
            {"_outcomes": [{"_a": [0], "_p": [0.5]}, {}], "c": {"_multi": [{}], "_slots": [{}]}},
            "2 outcomes for 1 slots",
        ),
    ],
)
def test_a_decision_that_contradicts_itself_is_refused_with_the_reason(tmp_path, change, why):
    path = jsonl(tmp_path / "log", [CB, CB | {"EventId": "y"} | change])
    made = foreign.decisions(path)
    assert made.table.num_rows == 1
    (row,) = made.quarantine.to_pylist()
    assert why in row["detail"]
    assert json.loads(row["raw"]) == CB | {"EventId": "y"} | change


def test_actions_of_one_id_are_one_item_whose_chances_add_up(tmp_path):
    line = CB | {"a": [1, 2, 3], "p": [0.6, 0.3, 0.1], "c": {"_multi": [{"_tag": "b"}, {"_tag": "a"}, {"_tag": "b"}]}}
    (row,) = foreign.decisions(jsonl(tmp_path / "log", [line])).table.to_pylist()
    assert (row["offered"], row["chosen"]) == (["b", "a"], "b")
    assert row["probabilities"] == pytest.approx([0.7, 0.3])
    assert row["propensity"] == pytest.approx(0.7)


def test_decisions_without_a_time_keep_the_files_order(tmp_path):
    lines = [{name: value for name, value in CB.items() if name != "Timestamp"} | {"EventId": str(n)} for n in range(5)]
    made = foreign.decisions(jsonl(tmp_path / "log", [*lines, lines[0]]))
    assert made.table["request_id"].to_pylist() == ["0", "1", "2", "3", "4"]
    assert made.table["happened_at"].is_valid().to_pylist() == [True] * 5
    assert pc.all(pc.less(made.table["happened_at"][:-1], made.table["happened_at"][1:])).as_py()
    assert made.quarantine["reason"].to_pylist() == ["duplicate"]
    assert any("no time" in note for note in made.notes)


def test_other_exports_hold_no_decisions(tmp_path):
    with pytest.raises(DataError, match="Metarank export"):
        foreign.decisions(FORMATS / "metarank")
    (tmp_path / "e.csv").write_text("user,item,time\nu,i,1\n")
    with pytest.raises(DataError, match="no format"):
        foreign.decisions(tmp_path / "e.csv")
    bad = jsonl(tmp_path / "log", [CB | {"p": [0.1, 0.1]}] * 3)
    with pytest.raises(DataError, match=r"3 lines, all refused: The probabilities sum to 0\.2"):
        foreign.decisions(bad)


# ------------------------------------------------------------------------------------------------- open bandit


def test_open_bandit_rows_are_impressions_with_propensities_and_decisions():
    found = found_in(FORMATS / "open_bandit")
    events = rows_of(found, EVENTS)
    assert [(e["event_id"], e["action"], e["item_id"], e["position"], e["propensity"]) for e in events] == [
        ("bts-men-0", "impression", "men:1", "3", "0.87125"),
        ("random-men-0", "impression", "men:1", "2", "0.5"),
        ("random-men-1", "impression", "men:0", "1", "0.5"),
        ("random-men-1-click", "click", "men:0", "1", "0.5"),
    ]
    assert events[0]["user_id"] == events[1]["user_id"], "who shares the anonymous features counts as one"
    assert events[3]["context"]["user-item_affinity_1"] == 2.0
    assert "user-item_affinity_0" not in events[3]["context"]
    made = foreign.decisions(FORMATS / "open_bandit")
    assert made.table.select(["policy_version", "offered", "chosen", "propensity", "reward"]).to_pylist() == [
        {"policy_version": p, "offered": ["men:0", "men:1"], "chosen": i, "propensity": s, "reward": r}
        for p, i, s, r in [("bts", "men:1", 0.87125, 0), ("random", "men:1", 0.5, 0), ("random", "men:0", 0.5, 1)]
    ]
    assert [item["item_id"] for item in rows_of(found, ITEMS)] == ["men:0", "men:1"]


def test_what_was_offered_is_that_of_the_logs_own_campaign(tmp_path):
    for campaign, items in (("men", 2), ("women", 3)):
        folder = tmp_path / "bts" / campaign
        folder.mkdir(parents=True)
        log = (FORMATS / "open_bandit" / "bts" / "men" / "men.csv").read_text()
        (folder / f"{campaign}.csv").write_text(log)
        (folder / "item_context.csv").write_text("item_id,item_feature_0\n" + "".join(f"{n},x\n" for n in range(items)))
    made = foreign.decisions(tmp_path)
    assert made.table["offered"].to_pylist() == [["men:0", "men:1"], ["women:0", "women:1", "women:2"]]
    assert len(rows_of(found_in(tmp_path), ITEMS)) == 5


def test_one_open_bandit_log_alone():
    found = found_in(FORMATS / "open_bandit" / "random" / "men" / "men.csv")
    assert [event["surface"] for event in rows_of(found, EVENTS)] == ["men"] * 3
    assert foreign.decisions(FORMATS / "open_bandit" / "random" / "men" / "men.csv").table["offered"].null_count == 2


# ------------------------------------------------------------------------------------------------------- gorse


def test_gorse_json_lines():
    found = found_in(FORMATS / "gorse")
    assert rows_of(found, EVENTS) == [
        {"user_id": "ada", "item_id": "n1", "action": "read", "value": "0", "happened_at": "2025-01-02T10:00:00Z"},
        {"user_id": "ada", "item_id": "n1", "action": "like", "value": "1", "happened_at": "2025-01-02T10:01:00.25Z",
         "context": {"updated": "2025-01-03T00:00:00Z", "comment": "from the app"}},
        {"user_id": "bo", "item_id": "n2", "action": "read", "happened_at": "2025-01-02 11:00:00.000000001+0000"},
        {"user_id": "cy", "item_id": "n2", "action": "read"},
    ]  # fmt: skip
    assert rows_of(found, ITEMS) == [
        {"item_id": "n1", "available": "true", "categories": ["news", "sport", "final"], "people": ["K. Lund"],
         "known_at": "2025-01-01T00:00:00Z", "description": "Cup final", "attributes": {"length": 900}},
        {"item_id": "n2", "available": "false", "attributes": {"labels": ["plain", "list"]}},
    ]  # fmt: skip
    assert rows_of(found, USERS) == [
        {"user_id": "ada", "attributes": {"gender": "female", "job": "engineer"}},
        {"user_id": "bo", "attributes": {"labels": ["early", "bird"], "comment": "came by mail"}},
    ]


def test_gorse_csv_and_an_array_of_its_api(tmp_path):
    found = found_in(FORMATS / "gorse_csv")
    assert [e["happened_at"] for e in rows_of(found, EVENTS)] == [
        "2025-01-02 10:00:00+0000",
        "2025-01-03 10:00:00+0000",
    ]
    first, second = rows_of(found, ITEMS)
    assert (first["categories"], first["attributes"]) == (["news", "sport", "final"], {"length": 900})
    assert (second["available"], second["attributes"]) == ("false", {"labels": ["plain", "list"]})
    assert rows_of(found, USERS)[1]["attributes"] == {"labels": ["early", "bird"]}
    array = tmp_path / "feedback.json"
    array.write_text(json.dumps(example("gorse/feedback.jsonl"), indent=1))
    assert rows_of(found_in(array), EVENTS) == rows_of(found_in(FORMATS / "gorse"), EVENTS)


# --------------------------------------------------------------------------------------------------------- ubi


def test_ubi_queries_become_impressions_and_events_find_their_query():
    found = found_in(FORMATS / "ubi")
    events = rows_of(found, EVENTS)
    search, click, cart, bought, brand = events[:5]
    assert (search["action"], search["query"], "item_id" in search) == ("on_search", "tea pot", False)
    assert (click["item_id"], click["position"], click["query"], click["session_id"]) == ("p2", "2", "tea pot", "s1")
    assert click["context"] == {
        "application": "shop", "message_type": "CLICK", "object.object_id_field": "ean",
        "object.description": "Tea pot", "position.xy": {"x": 10, "y": 20},
    }  # fmt: skip
    assert cart["position"] == "3", "version 1.0 nests the ordinal once more"
    assert (bought["position"], bought["user_id"], bought["action"]) == ("3", "c1", "purchase"), "from its query"
    assert ("item_id" in brand, brand["context"]) == (False, {"object_id": "brand-box"})
    shown = {"user_id": "c1", "happened_at": "2025-01-02T10:00:00.000Z", "request_id": "q1", "query": "tea pot",
             "action": "impression", "surface": "search",
             "context": {"object_id_field": "ean", "query_response_id": "a1", "query_attributes": {"page": 1}},
             }  # fmt: skip
    assert events[5:8] == [shown | {"item_id": f"p{n}", "position": str(n)} for n in (1, 2, 3)]
    assert (events[8]["action"], events[8]["query"], "item_id" in events[8]) == ("search", "tee pott", False)
    for said in ("1 events name no object", "1 events are of an object that no query found", "1 queries found nothing"):
        assert any(said in note for note in found.notes)


def test_ubi_events_that_say_what_was_seen_stand_for_the_lists(tmp_path):
    seen = {"action_name": "impression", "query_id": "q1", "client_id": "c1", "timestamp": "2025-01-02T10:00:01Z",
            "event_attributes": {"object": {"object_id": "p1"}, "position": {"ordinal": 1}}}  # fmt: skip
    jsonl(tmp_path / "queries", example("ubi/ubi_queries.jsonl")[:1])
    jsonl(tmp_path / "events", [seen])
    events = rows_of(found_in(tmp_path), EVENTS)
    assert [event["action"] for event in events] == ["impression", "search"]
    assert events[1]["context"]["results"] == ["p1", "p2", "p3"], "nothing is lost"


def test_ubi_ordinals_that_start_at_zero_are_the_slots_of_the_lists(tmp_path):
    events = [
        {"action_name": "click", "query_id": "q1", "client_id": "c1", "timestamp": "2025-01-02T10:00:01Z",
         "event_attributes": {"object": {"object_id": f"p{n + 1}"}, "position": {"ordinal": n}}} for n in range(3)
    ]  # fmt: skip
    jsonl(tmp_path / "queries", example("ubi/ubi_queries.jsonl")[:1])
    jsonl(tmp_path / "events", events)
    found = found_in(tmp_path)
    slots = [(event["item_id"], event["position"]) for event in rows_of(found, EVENTS)]
    assert slots == [("p1", "1"), ("p2", "2"), ("p3", "3")] * 2
    assert any("start at 0" in note for note in found.notes)


def test_ubi_flat_as_csv_and_as_parquet(tmp_path):
    import pyarrow.csv as pv

    found = found_in(FORMATS / "ubi_flat")
    events = rows_of(found, EVENTS)
    assert [(e["action"], e.get("item_id"), e.get("position")) for e in events] == [
        ("on_search", None, None), ("item_click", "p2", "2"), ("impression", "p1", "1"), ("impression", "p2", "2"),
    ]  # fmt: skip
    for name in ("events", "queries"):
        table = pv.read_csv(FORMATS / "ubi_flat" / f"{name}.csv")
        pq.write_table(table, tmp_path / f"{name}.parquet")
    assert rows_of(found_in(tmp_path), EVENTS) == events


# ----------------------------------------------------------------------------------------------------- recbole


def test_recbole_files_of_one_folder_work_together(tmp_path):
    found = found_in(FORMATS / "recbole")
    assert found.tables == (EVENTS, ITEMS, USERS)
    assert [row["rating"] for row in rows_of(found, EVENTS)] == ["4", "2.5"]
    assert [row["movie_title"] for row in rows_of(found, ITEMS)] == ["The Tide", 'Up "North"']
    assert [row["age"] for row in rows_of(found, USERS)] == ["33", "41"]
    assert refused_of(found, EVENTS) == []
    for path in (FORMATS / "recbole").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
        (tmp_path / path.name.replace("films", "songs")).write_bytes(path.read_bytes())
    with pytest.raises(DataError, match="one RecBole dataset"):
        list(found_in(tmp_path).parts())
