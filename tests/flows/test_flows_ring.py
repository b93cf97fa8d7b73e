"""The ring in one process: files to a build, answers, clicks that change the next answer, a build that saw them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import honeyguide as hg
from honeyguide.errors import BuildError, NotFoundError, RequestError
from honeyguide.flows.build import build, rollback
from honeyguide.flows.create import create
from honeyguide.flows.wiring import open_desk
from honeyguide.schema.wire import EventIn, EventsRequest, Filters, Item, RecommendRequest, SearchRequest


def test_init_says_what_it_mapped_and_counts_every_row(film_files: dict[str, Path], tmp_path: Path) -> None:
    report = create(tmp_path / "w", events=film_files["events"], items=film_files["items"], users=film_files["users"])
    mapped = {(line["there"], line["here"]) for line in report["mapping"]}
    assert {("customer_id", "events.user_id"), ("movie_id", "events.item_id"), ("stars", "events.value")} <= mapped
    for load in report["loads"]:
        assert load["rows_in"] == load["accepted"] + load["quarantined"]
    assert report["evidence"]["level"] == "L0"
    assert len(report["evidence"]["facts"]) == 5


def test_home_follows_taste(built: Path) -> None:
    with hg.Workspace(built) as ws:
        people = ws.table("events").to_pandas()
        hits = []
        for user, mine in list(people.groupby("user_id"))[:40]:
            side = np.median([int(item[1:]) >= 100 for item in mine.item_id])
            slate = ws.recommend(user=user, k=5)
            assert slate.answer.fallback is None
            assert not {item.item_id for item in slate.items} & set(mine.item_id)
            hits += [float((int(item.item_id[1:]) >= 100) == bool(side)) for item in slate.items]
        assert np.mean(hits) > 0.7


def test_a_new_person_gets_what_is_popular_and_improves_with_the_first_click(shop: Path) -> None:
    desk = open_desk(str(shop), watch=False)
    try:
        before = desk.recommend(RecommendRequest(user_id="nobody-yet", k=10))
        assert {"popular"} == {source for item in before.items for source in item.sources}
        click = EventIn("nobody-yet", "f170", "rating", value=5.0, request_id=before.request_id, position=1)
        assert desk.record(EventsRequest([click])).result(10).accepted == 1
        after = desk.recommend(RecommendRequest(user_id="nobody-yet", k=10))
        love = [sum(int(item.item_id[1:]) >= 100 for item in answer.items) for answer in (before, after)]
        assert love[1] > love[0]
        assert "f170" not in {item.item_id for item in after.items}
    finally:
        desk.close()


def test_clicks_close_the_ring(shop: Path) -> None:
    desk = open_desk(str(shop), watch=False)
    answer = desk.recommend(RecommendRequest(user_id="p3", k=5))
    events = [EventIn("p3", item.item_id, "rating", value=5.0, event_id=f"e{n}") for n, item in enumerate(answer.items)]
    assert desk.record(EventsRequest(events)).result(10).accepted == 5
    assert desk.record(EventsRequest(events)).result(10).duplicates == 5
    desk.close()
    with hg.Workspace(shop) as ws:
        shown = ws.sql("select shown_items, shown_propensities, list_propensity from impressions").to_pylist()
        assert shown[0]["shown_items"] == [item.item_id for item in answer.items]
        assert np.prod(shown[0]["shown_propensities"]) == pytest.approx(shown[0]["list_propensity"])
    before = json.loads((shop / "builds" / f"{(shop / 'builds' / 'CURRENT').read_text()}.json").read_text())
    build(shop)
    after = json.loads((shop / "builds" / f"{(shop / 'builds' / 'CURRENT').read_text()}.json").read_text())
    assert after["data"]["events"] == before["data"]["events"] + 5
    with hg.Workspace(shop) as ws:
        seen = {item.item_id for item in answer.items}
        assert not seen & {item.item_id for item in ws.recommend(user="p3", k=20).items}


def test_an_item_put_over_the_api_is_found_shown_and_built_in(shop: Path) -> None:
    desk = open_desk(str(shop), watch=False)
    new = Item("f-new", title="Brand New Comet (2001)", categories=["Sci-Fi"], people=["Director 1"], year=2001)
    desk.put_item(new).result(10)
    assert desk.item("f-new").title == new.title
    assert desk.search(SearchRequest("brand new comet")).items[0].item_id == "f-new"
    related = desk.recommend(RecommendRequest(surface="item", item_id="f-new", k=5))
    assert related.items
    assert related.items[0].sources == ["text"]
    desk.put_item(msgspec.structs.replace(new, available=False)).result(10)
    assert "f-new" not in {item.item_id for item in desk.search(SearchRequest("brand new comet")).items}
    desk.put_item(new).result(10)
    desk.close()
    again = open_desk(str(shop), watch=False)  # a restart knows the same, from the log
    assert again.search(SearchRequest("brand new comet")).items[0].item_id == "f-new"
    again.close()
    build(shop)
    with hg.Workspace(shop) as ws:
        assert ws.search("brand new comet").items[0].item_id == "f-new"


def test_four_surfaces_filters_and_reasons(built: Path) -> None:
    with hg.Workspace(built) as ws:
        home = ws.recommend(user="p5", k=8, filters={"categories": ["Romance"]})
        assert home.items
        assert all(item.categories == ["Romance"] for item in home.items)
        item = ws.recommend(surface="item", item="f3", k=8)
        assert "f3" not in {shown.item_id for shown in item.items}
        board = ws.recommend(surface="board", board=["f2", "f160"], k=8)
        assert not {"f2", "f160"} & {shown.item_id for shown in board.items}
        found = ws.search("space story", k=4)
        for slate in (home, item, board, found):
            assert all(shown.reason for shown in slate.items)
            assert [shown.position for shown in slate.items] == list(range(1, len(slate) + 1))
            assert slate.arrow().num_rows == len(slate) == len(slate.pandas())
            assert slate._repr_html_().startswith("<table>")
        assert found.answer.facets["categories"]


def test_exploration_logs_true_propensities_and_an_answer_can_be_made_again(built: Path) -> None:
    with hg.Workspace(built) as ws:
        desk = ws._open()
        asked = [RecommendRequest(user_id="p8", k=10, request_id=f"r{n}", log=False) for n in range(200)]
        answers = [desk.recommend(request) for request in asked]
        explored = [sum(item.explored for item in answer.items) for answer in answers]
        assert 0 < np.mean(explored) < 2
        for answer, request in zip(answers[:20], asked, strict=False):
            product = np.prod([item.propensity for item in answer.items])
            assert answer.list_propensity == pytest.approx(product)
            assert [i.item_id for i in desk.recommend(request).items] == [i.item_id for i in answer.items]


def test_two_builds_of_the_same_data_are_equal(
    built: Path, film_files: dict[str, Path], tmp_path: Path, unhurried: Callable[[Path], None]
) -> None:
    other = tmp_path / "other"
    create(other, events=film_files["events"], items=film_files["items"], users=film_files["users"], name="shop")
    unhurried(other)
    build(other)
    with hg.Workspace(built) as a, hg.Workspace(other) as b:
        assert a.table("events").equals(b.table("events"))
        for user in ("p1", "p2", None):
            asked = {"user": user, "k": 20}
            one, two = (ws._open().recommend(_fixed(asked)) for ws in (a, b))
            assert [(i.item_id, i.score, i.heads) for i in one.items] == [
                (i.item_id, i.score, i.heads) for i in two.items
            ]


def _fixed(asked: dict) -> RecommendRequest:
    return RecommendRequest(user_id=asked["user"], k=asked["k"], request_id="same", log=False)


def test_a_second_build_redoes_only_what_changed_and_rolls_back(shop: Path) -> None:
    before = hg.Workspace(shop).build_id
    again = build(shop)
    assert all(step["reused"] for step in again["steps"])
    assert again["build_id"] == before  # nothing changed: no build that pushes an older one out
    first = sorted(p.stem for p in (shop / "builds").glob("*.json"))[0]
    text = (shop / "honeyguide.toml").read_text().replace("mmr_lambda = 0.95", "mmr_lambda = 0.5")
    (shop / "honeyguide.toml").write_text(text)
    changed = build(shop)
    assert all(step["reused"] for step in changed["steps"])  # a slate's configuration is no artifact
    text = text.replace("half_life_days = [3.0,", "half_life_days = [4.0,")
    (shop / "honeyguide.toml").write_text(text)
    redone = {step["name"] for step in build(shop)["steps"] if not step["reused"]}
    assert "source-popular" in redone
    assert not {"source-ease", "source-als", "text", "online", "catalog"} & redone
    back = rollback(shop, first)
    assert back["build_id"] == first == hg.Workspace(shop).build_id
    with pytest.raises(BuildError, match="the newest"):
        rollback(shop, "20010101T000000-nobuild")


def test_a_running_desk_takes_up_a_new_build(shop: Path) -> None:
    import time

    desk = open_desk(str(shop), watch=True)
    try:
        before = desk.health().build_id
        (shop / "honeyguide.toml").write_text((shop / "honeyguide.toml").read_text().replace("seed = 42", "seed = 43"))
        after = build(shop)["build_id"]
        deadline = time.monotonic() + 30
        while desk.health().build_id == before and time.monotonic() < deadline:
            assert desk.recommend(RecommendRequest(user_id="p1")).items
            time.sleep(0.05)
        assert desk.health().build_id == after != before
    finally:
        desk.close()


def test_an_interrupted_build_leaves_the_last_one_in_service(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = hg.Workspace(shop).build_id
    (shop / "honeyguide.toml").write_text((shop / "honeyguide.toml").read_text().replace("seed = 42", "seed = 44"))

    def killed(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("honeyguide.flows.build.search_steps", killed)
    with pytest.raises(KeyboardInterrupt):
        build(shop)
    assert hg.Workspace(shop).build_id == before
    with hg.Workspace(shop) as ws:
        assert ws.recommend(user="p1").items
    monkeypatch.undo()
    resumed = build(shop)
    assert {step["name"] for step in resumed["steps"] if step["reused"]} >= {"ranker", "blend"}


def test_a_stage_that_fails_falls_back_and_says_so(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with hg.Workspace(built) as ws:
        ws.recommend(user="p1")

        def broken(*args: object, **kwargs: object) -> None:
            raise ZeroDivisionError("a bug")

        monkeypatch.setattr("honeyguide.flows.answer.rank", broken)
        answer = ws.recommend(user="p1", k=5).answer
        assert answer.fallback == "popular: a stage failed"
        assert len(answer.items) == 5


def test_a_late_stage_falls_back_and_says_so(shop: Path) -> None:
    text = (shop / "honeyguide.toml").read_text().replace("deadline_ms = 60000.0", "deadline_ms = 0.0001")
    (shop / "honeyguide.toml").write_text(text)
    build(shop)  # a build is served as it was configured
    with hg.Workspace(shop) as ws:
        answer = ws.recommend(user="p1", k=5).answer
        assert answer.fallback == "popular: DeadlineExceeded"
        assert len(answer.items) == 5


def test_nobody_knows(built: Path) -> None:
    with hg.Workspace(built) as ws:
        assert ws.recommend(user="a stranger").items
        with pytest.raises(NotFoundError, match="items of the catalog"):
            ws.recommend(surface="item", item="no such film")
        with pytest.raises(NotFoundError, match="a surface of this workspace"):
            ws.recommend(surface="attic")
        with pytest.raises(RequestError, match="item_id for the surface"):
            ws.recommend(surface="item")
        with pytest.raises(RequestError, match="year_min"):
            ws.search("story", filters={"year_min": 2000, "year_max": 1990})
        with pytest.raises(RequestError, match="unknown field"):
            ws.recommend(filters={"colour": ["red"]})
        desk = ws._open()
        with pytest.raises(NotFoundError, match="an item of the catalog"):
            desk.item("no such film")
        assert Filters() == Filters()


def test_a_look_hides_nothing_and_a_purchase_does(tmp_path: Path, unhurried: Callable[[Path], None]) -> None:
    rng = np.random.default_rng(3)
    rows = [
        (f"c{rng.integers(80)}", f"s{rng.integers(40)}", ["view", "view", "purchase"][n % 3], 1_750_000_000 + 900 * n)
        for n in range(2500)
    ]
    rows += [("me", "s1", "view", 1_752_300_000), ("me", "s2", "purchase", 1_752_300_060)]
    user, item, event, at = (list(column) for column in zip(*rows, strict=True))
    pq.write_table(pa.table({"user": user, "item": item, "event": event, "time": at}), tmp_path / "log.parquet")
    made = create(tmp_path / "w", events=tmp_path / "log.parquet")
    assert any("Only purchase counts" in note for note in made["notes"])
    unhurried(tmp_path / "w")
    build(tmp_path / "w")
    with hg.Workspace(tmp_path / "w") as ws:
        shown = {item.item_id for item in ws.recommend(user="me", k=40).items}
    assert "s1" in shown
    assert "s2" not in shown


def test_a_narrow_filter_is_answered_from_the_whole_catalog(shop: Path) -> None:
    text = (shop / "honeyguide.toml").read_text().replace("candidates = 300", "candidates = 10")
    (shop / "honeyguide.toml").write_text(text)
    build(shop)
    with hg.Workspace(shop) as ws:
        for user in ("p1", "p2", "stranger"):
            wanted = {"categories": ["Romance"], "year_min": 2000}
            shown = ws.recommend(user=user, k=10, filters=wanted).items
            assert len(shown) == 10
            assert all(item.categories == ["Romance"] and (item.year or 0) >= 2000 for item in shown)


def test_who_has_had_everything_sees_it_again_and_is_told(shop: Path) -> None:
    desk = open_desk(str(shop), watch=False)
    try:
        everything = [EventIn("glutton", f"f{n}", "rating", value=4.0, event_id=f"g{n}") for n in range(200)]
        desk.record(EventsRequest(everything)).result(10)
        answer = desk.recommend(RecommendRequest(user_id="glutton", k=5))
        assert len(answer.items) == 5
        assert answer.fallback == "popular: nothing new is left"
    finally:
        desk.close()


def test_a_rolled_back_build_is_served_as_it_was_configured(shop: Path) -> None:
    first = hg.Workspace(shop).build_id
    text = (shop / "honeyguide.toml").read_text()
    without = text.replace('[[sources]]\nuse = "honeyguide.retrieval.factors:NextItem"\n', "")
    assert without != text
    (shop / "honeyguide.toml").write_text(without)
    assert build(shop)["build_id"] != first
    rollback(shop)
    with hg.Workspace(shop) as ws:
        assert ws.build_id == first
        assert ws.recommend(user="p1", k=5).answer.fallback is None
