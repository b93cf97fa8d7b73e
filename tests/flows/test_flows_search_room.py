"""Merchandising, judgments, re-ranking, suggestions and search traffic, behind the socket and in the terminal."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import honeyguide as hg
from honeyguide.cli import main
from honeyguide.errors import ConfigError, DataError, RequestError
from honeyguide.flows import judging
from honeyguide.flows.build import build
from honeyguide.flows.layout import Layout
from honeyguide.flows.merchandising import commands, store
from honeyguide.flows.operate import server
from honeyguide.flows.wiring import open_desk
from honeyguide.schema.wire import Filters, RecommendRequest, SearchRequest
from honeyguide.slate.merchandising import MerchRule, RuleBook


def found(desk: Any, query: str = "space story", **given: Any) -> Any:
    return desk.search(SearchRequest(query, log=False, **given))


def ids(answer: Any) -> list[str]:
    return [item.item_id for item in answer.items]


def test_rules_at_work_on_a_search(shop: Path) -> None:
    with closing(open_desk(str(shop), writable=False, watch=False)) as desk:
        plain = ids(found(desk, k=60))
        assert plain
        commands.add_rule(
            shop, {"id": "pin", "do": "pin", "items": ["f150", plain[5]], "query": "space story", "position": 2}
        )
        commands.add_rule(shop, {"id": "up", "do": "boost", "items": [plain[9]], "query": "space", "match": "contains",
                                 "places": 9})  # fmt: skip
        commands.add_rule(shop, {"id": "down", "do": "bury", "items": [plain[0]], "query": "space story", "places": 15})
        commands.add_rule(shop, {"id": "gone", "do": "hide", "items": [plain[1]], "query": "space story"})
        desk._live.rules.look()
        whole = found(desk, k=60)
        got = ids(whole)
        assert got[1:3] == ["f150", plain[5]]  # f150 is a love story: pins need not match
        assert got[0] == plain[9]
        assert plain[1] not in got
        assert 13 <= got.index(plain[0]) <= 18
        rest = [item for item in plain if item not in {plain[0], plain[1], plain[5], plain[9]}]
        assert [item for item in got if item in rest] == [item for item in rest if item in got]
        assert [item for page in range(3) for item in ids(found(desk, k=20, offset=20 * page))] == got  # stable pages
        pinned = whole.items[1]
        assert (pinned.pinned, pinned.rule, pinned.propensity, pinned.reason) == (
            True,
            "pin",
            1.0,
            "Placed here by a rule",
        )
        told = {(one.rule, one.item_id): (one.position, one.was) for one in whole.merchandising}
        assert told["pin", "f150"] == (2, None)
        assert told["pin", plain[5]] == (3, 6)
        assert told["gone", plain[1]] == (None, 2)
        assert told["up", plain[9]] == (1, 10)
        # Filters go before pins, other orders before anything but hides, and other queries are untouched.
        action = found(desk, k=60, filters=Filters(categories=["Action"]))
        assert "f150" not in ids(action)
        assert plain[5] in ids(action)[:3]
        by_year = found(desk, k=60, sort="year")
        assert not any(item.pinned for item in by_year.items)
        assert plain[1] not in ids(by_year)
        assert not found(desk, "director 3").merchandising
        assert found(desk, k=10, offset=5_000).items == []


def test_rules_on_the_page_of_a_category(shop: Path) -> None:
    def page(desk: Any, **given: Any) -> Any:
        return desk.recommend(
            RecommendRequest(
                user_id="p3", k=10, filters=Filters(categories=["Romance"]), log=False, request_id="r", **given
            )
        )

    with closing(open_desk(str(shop), writable=False, watch=False)) as desk:
        plain = ids(page(desk))
        commands.add_rule(shop, {"id": "first", "do": "pin", "items": [plain[6]], "category": "Romance", "position": 1})
        commands.add_rule(shop, {"id": "gone", "do": "hide", "items": [plain[2]], "category": "Romance"})
        commands.add_rule(shop, {"id": "no", "do": "pin", "items": ["f1"], "category": "Romance", "position": 2})
        desk._live.rules.look()
        answer = page(desk)
        assert ids(answer)[0] == plain[6]
        assert plain[2] not in ids(answer)
        assert "f1" not in ids(answer)  # not of the category that the person asked for
        assert (answer.items[0].pinned, answer.items[0].propensity, answer.items[0].rule) == (True, 1.0, "first")
        assert {one.rule for one in answer.merchandising} == {"first", "gone"}
        assert not desk.recommend(RecommendRequest(user_id="p3", k=10, log=False)).merchandising


def test_a_file_by_hand_keeps_its_comments_and_is_refused_by_name(shop: Path) -> None:
    layout = Layout.open(shop)
    path = shop / "merchandising.toml"
    path.write_text('# ours\n[[rules]]\nid = "a"\ndo = "hide"\nitems = ["f1"]\nquery = "x"\nends = 2030-01-01\n')
    store.add(layout, store.rule_of({"id": "b", "do": "boost", "categories": ["Action"], "query": "über “alles”"}))
    assert "# ours" in path.read_text()
    assert [rule.id for rule in store.read(layout)] == ["a", "b"]
    assert store.read(layout)[1].query == "über “alles”"
    store.remove(layout, "a")
    assert [rule.id for rule in store.read(layout)] == ["b"]
    assert "# ours" in path.read_text()
    with pytest.raises(RequestError, match="no rule has"):
        store.add(layout, store.rule_of({"id": "b", "do": "hide", "items": ["f1"], "query": "x"}))
    good = path.read_text()
    for bad, said in (
        ("[[rules]", "TOML"), (good + good, "twice"), (good + "x = 1", "x of rule 'b'"),
        (good.replace("boost", "lift"), "do of rule 'b'"),
        (good + 'match = "language"\nlanguage = "xx"\n', "stemmer"),
    ):  # fmt: skip
        path.write_text(bad)
        with pytest.raises(ConfigError, match=said):
            store.read(layout)
    with closing(open_desk(str(shop), writable=False, watch=False)) as desk:  # a broken file stops nobody
        assert found(desk).items
        assert "stemmer" in desk._live.rules.wrong


def test_the_command_line(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*args: object) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            main([str(arg) for arg in args])
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out + captured.err

    assert run("merch", "add", shop, "one", "pin", "--item", "f3", "--query", "love")[0] == 0
    code, out = run("merch", "add", shop, "two", "hide", "--item", "f3", "--query", "love", "--json")
    assert code == 0
    assert json.loads(out)["found"][0]["other"] == "two"
    assert "pin f3 in slot 1" in run("merch", "list", shop)[1]
    assert run("merch", "check", shop)[0] == 3
    assert run("merch", "remove", shop, "two")[0] == 0
    assert run("merch", "check", shop)[0] == 0
    assert "Expected a rule" in run("merch", "remove", shop, "two")[1]
    assert run("merch", "add", shop, "x y", "pin", "--item", "a", "--query", "b")[0] == 2
    judged = shop / "judged.csv"
    judged.write_text(
        "query,item_id,grade,rater\nspace story,f1,3,anna\nspace story,f1,2,bob\nspace story,f150,0,anna\n,f1,3,\n"
    )
    code, out = run("judgments", "import", shop, judged, "--json")
    assert (code, json.loads(out)) == (0, {"imported": 3, "refused": {"no query": 1}, "judgments": 3})
    assert "Krippendorff" in run("judgments", "show", shop)[1]
    assert "in service" in run("judgments", "compare", shop)[1]
    assert run("judgments", "export", shop, shop / "out")[0] == 0
    assert pq.read_table(shop / "out" / "queries.parquet").to_pylist() == [
        {"query_id": "q000001", "query": "space story", "language": None}
    ]
    assert {(r["item_id"], r["grade"]) for r in pq.read_table(shop / "out" / "qrels.parquet").to_pylist()} == {
        ("f1", 2), ("f150", 0)
    }  # fmt: skip
    assert "searches in the log" in run("judgments", "sample", shop)[1]
    assert "No searches" in run("traffic", shop)[1]


def test_judgments_files(shop: Path, tmp_path: Path) -> None:
    (tmp_path / "q.tsv").write_text("query_id\tquery\n7\tspace story\n")
    (tmp_path / "x.qrels").write_text("7 0 f1 2\n7 0 f2 -1\n8 0 f3 1\n")
    assert judging.import_file(shop, tmp_path / "x.qrels", queries=tmp_path / "q.tsv") == {
        "imported": 2, "refused": {"no query": 1}, "judgments": 2
    }  # fmt: skip
    assert {(one.query, one.item_id, one.grade) for one in judging.read(Layout.open(shop))} == {
        ("space story", "f1", 2), ("space story", "f2", 0)
    }  # fmt: skip
    (tmp_path / "run.txt").write_text("space story Q0 f2 1 9.0 other\nspace story Q0 f1 2 8.0 other\n")
    rows = judging.compare(shop, runs=[tmp_path / "run.txt"])
    assert [row["ranker"] for row in rows] == ["in service", "run"]
    assert hg.Workspace(shop).sql("select count(*) n from judgments").to_pylist() == [{"n": 2}]
    for name, text in (("a.csv", "x,y\n1,2\n"), ("b.qrels", "one two\n"), ("c.csv", ""), ("d.parquet", "no")):
        (tmp_path / name).write_text(text)
        with pytest.raises(DataError):
            judging.import_file(shop, tmp_path / name)
    with pytest.raises(DataError):
        judging.import_file(shop, tmp_path / "none.csv")


def logged(room: httpx.Client, query: str, rows: int = 1) -> Any:
    """Rows of a query, once the log has so many: answers do not wait for the disk."""
    until = time.monotonic() + 30
    while True:
        found = hg.Workspace(room.headers["x-folder"]).sql(query)
        if found.num_rows >= rows or time.monotonic() > until:
            return found
        time.sleep(0.1)


@pytest.fixture(scope="module")
def room(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    folder = tmp_path_factory.mktemp("room") / "shop"
    shutil.copytree(built, folder)
    with (
        server(folder, port=0, workers=1) as running,
        httpx.Client(base_url=running.url, trust_env=False, timeout=30) as http,
    ):
        http.headers["x-folder"] = str(folder)
        yield http


@pytest.mark.heavy
def test_re_ranking_behind_another_engine(room: httpx.Client) -> None:
    hits = [{"_id": name, "_score": 9.0 - at} for at, name in enumerate(["f150", "nobody's", "f3", "f7", "f20"])]
    body = {"query": "space story 3", "response": {"took": 1, "hits": {"total": {"value": 5}, "hits": hits}}}
    answer = room.post("/v1/rerank", json=body).json()
    got = [hit["_id"] for hit in answer["response"]["hits"]["hits"]]
    assert got[1] == "nobody's"  # unknown: it keeps its place
    assert sorted(got) == sorted(hit["_id"] for hit in hits)
    assert got[0] == "f3"
    assert answer["response"]["took"] == 1
    assert answer["items"][1] == {
        "item_id": "nobody's", "position": 2, "was": 2, "known": False,
        "reason": "Not in the catalog: it keeps its place"
    }  # fmt: skip
    assert not answer.get("personal", False)
    own = room.post("/v1/rerank", json={**body, "user_id": "p3"}).json()
    assert own["personal"]
    off = room.post("/v1/rerank", json={**body, "user_id": "p3", "profiling": False}).json()
    assert not off.get("personal", False)
    assert room.post("/v1/rerank", json={"query": "", "response": ["f1", "f2"]}).json()["response"] == ["f1", "f2"]
    assert room.post("/v1/rerank", json={"query": "x", "response": []}).json()["response"] == []
    for bad in (None, {}, {"hits": 3}, [{}], "text"):
        refused = room.post("/v1/rerank", json={"query": "x", "response": bad})
        assert refused.status_code == 422
        assert refused.json()["error"]["do"]
    assert room.post("/v1/rerank", json={"query": "x"}).status_code == 422
    told = logged(room, "select query, context, shown_items from impressions where query = 'space story 3'", 3)
    assert told.num_rows == 3
    assert json.loads(told["context"][0].as_py()) == {"engine": "elasticsearch"}
    assert told["shown_items"][0].as_py() == got


@pytest.mark.heavy
def test_rules_over_the_api_and_in_the_log(room: httpx.Client) -> None:
    rule = {"id": "api", "do": "pin", "items": ["f150"], "query": "space story 5", "note": "<b>'; drop table--"}
    assert room.post("/v1/merchandising", json=rule).json()["rule"]["state"] == "active"
    answer = room.post("/v1/search", json={"query": "Space  Story 5", "request_id": "ruled"}).json()
    assert (answer["items"][0]["item_id"], answer["items"][0]["rule"]) == ("f150", "api")
    assert answer["merchandising"][0]["do"] == "pin"
    told = logged(room, "select merchandising, shown_propensities from impressions where request_id = 'ruled'")
    assert json.loads(told["merchandising"][0].as_py()) == {"pinned": {"1": "api"}, "rules": ["api"]}
    assert told["shown_propensities"][0].as_py()[0] == 1.0
    assert room.post("/v1/merchandising", json=rule).status_code == 422
    for bad in ({}, {"id": "x"}, {**rule, "id": "y", "do": "shout"}, {**rule, "id": "z", "more": 1}, []):
        assert room.post("/v1/merchandising", json=bad).status_code == 422
    listed = room.get("/v1/merchandising").json()
    assert [one["id"] for one in listed["rules"]] == ["api"]
    assert room.delete("/v1/merchandising/none").status_code == 404
    assert room.delete("/v1/merchandising/api").json()["removed"]["id"] == "api"
    assert "merchandising" not in room.post("/v1/search", json={"query": "space story 5"}).json()


@pytest.mark.heavy
def test_judging_over_the_api(room: httpx.Client) -> None:
    for n in range(3):
        room.post("/v1/search", json={"query": f"love story {n}", "user_id": f"p{n}"})
    first = room.get("/v1/judgments/next", params={"rater": "anna"}).json()
    assert first["items"]
    assert first["items"][0]["grade"] is None
    told = [{"item_id": item["item_id"], "grade": 3} for item in first["items"][:2]]
    assert room.post("/v1/judgments", json={"query": first["query"], "rater": "anna", "judgments": told}).json() == {
        "kept": 2
    }
    again = room.get("/v1/judgments/next", params={"rater": "anna", "query": first["query"]}).json()
    assert [item["grade"] for item in again["items"][:3]] == [3, 3, None]
    assert room.get("/v1/judgments/next", params={"rater": "anna"}).json()["query"] != first["query"]
    room.post("/v1/judgments", json={"query": first["query"], "rater": "bob", "judgments": told})
    found = room.get("/v1/judgments").json()
    assert (found["judgments"], found["alpha"]) == (4, 1.0)
    for bad in (
        {"query": "x", "rater": "", "judgments": told}, {"query": "x", "rater": "a", "judgments": []},
        {"query": "x", "rater": "a", "judgments": [{"item_id": "f1", "grade": 4}]},
        {"query": "x\u0000", "rater": "a", "judgments": told},
    ):  # fmt: skip
        assert room.post("/v1/judgments", json=bad).status_code == 422
    assert room.get("/v1/judgments/next").status_code == 422


@pytest.mark.heavy
def test_traffic_and_suggestions_of_what_many_asked(room: httpx.Client) -> None:
    for n in range(22):
        asked = room.post("/v1/search", json={"query": "space story nine", "user_id": f"p{n}"}).json()
        click = {"user_id": f"p{n}", "item_id": asked["items"][0]["item_id"], "action": "rating", "value": 5,
                 "request_id": asked["request_id"], "position": 1, "surface": "search"}  # fmt: skip
        assert room.post("/v1/events", json={"events": [click]}).json()["accepted"] == 1
        if n < 19:
            room.post("/v1/search", json={"query": "space story nobody shares", "user_id": f"p{n}"})
    room.post("/v1/search", json={"query": "<script>alert(1)</script>'; drop table", "user_id": "p1"})
    found = room.get("/v1/search-traffic").json()
    assert found["week"]["searches"] >= 22
    assert found["week"]["clicked"] >= 22
    assert {"by_class", "by_language", "by_segment", "bad", "positions", "days"} <= found.keys()
    assert any(row["name"] not in ("", "unknown") for row in found["by_segment"])  # people's own segments
    folder = Path(room.headers["x-folder"])
    build(folder)
    with hg.Workspace(folder) as workspace:
        suggester = workspace._open()._live.suggester
        texts = [one.text for one in suggester.suggest("space story n")]
        assert "space story nine" in texts
        assert not any("nobody" in text for text in texts)
    wanted = room.get("/v1/suggest", params={"prefix": "space", "user_id": "p3"}).json()["suggestions"]
    assert wanted
    assert room.get("/v1/suggest", params={"prefix": "space", "user_id": ""}).status_code == 422


PIECES = [
    "space",
    "story",
    "love",
    '"',
    "AND",
    "-",
    "*",
    "(",
    "<script>",
    "'; drop table",
    "\x00",
    "\u202e",
    "👟",
    "ß",
    " " * 9,
]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    query=st.lists(st.sampled_from(PIECES), max_size=6).map(" ".join) | st.text(max_size=40),
    k=st.integers(1, 30), offset=st.sampled_from([0, 1, 7, 50, 10_000]), position=st.integers(1, 200),
    places=st.integers(1, 1_000), sort=st.sampled_from(["relevance", "year"]),
)  # fmt: skip
def test_no_query_and_no_rule_breaks_a_search(
    ruled: Any, query: str, k: int, offset: int, position: int, places: int, sort: str
) -> None:
    about = {"items": ("f1", "f150", "nobody's"), "query": "space", "match": "contains"}
    ruled._live.rules._book = RuleBook([
        MerchRule(id="pin", do="pin", **about, position=min(position, 198)),
        MerchRule(id="up", do="boost", categories=("Romance", "none"), query="story", match="contains", places=places),
        MerchRule(id="down", do="bury", items=("f2",), query="story", match="contains", places=places),
        MerchRule(id="gone", do="hide", items=("f3",), query="space", match="contains"),
    ])  # fmt: skip
    ruled._live.rules._looked = float("inf")
    answer = ruled.search(SearchRequest(query, k=k, offset=offset, sort=sort, log=False))
    got = ids(answer)
    assert len(got) == len(set(got)) <= k
    assert [item.position for item in answer.items] == list(range(offset + 1, offset + 1 + len(got)))
    assert len(got) == max(min(k, answer.total - offset), 0)
    if any(rule.rule == "gone" for rule in answer.merchandising):
        assert "f3" not in got


@pytest.fixture(scope="module")
def ruled(built: Path) -> Iterator[Any]:
    with closing(open_desk(str(built), writable=False, watch=False)) as desk:
        yield desk
