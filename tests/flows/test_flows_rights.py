"""What people may ask for: no profiling, proved by taint; hide, less, begin anew; and why they see what they see."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import honeyguide as hg
from honeyguide.contracts import Pool
from honeyguide.engines.tables.snapshot import Snapshots
from honeyguide.errors import HoneyguideError, NotFoundError, RequestError
from honeyguide.flows.build import build
from honeyguide.flows.config import RightsConfig
from honeyguide.flows.keeping.compact import compact
from honeyguide.flows.keeping.forget import forget
from honeyguide.flows.layout import Layout
from honeyguide.flows.live import Live
from honeyguide.flows.rights import Wishes, _Said, former, lowered, person_of
from honeyguide.flows.wiring import Desk, open_desk
from honeyguide.schema.wire import (
    EventIn,
    EventsRequest,
    Filters,
    RecommendRequest,
    ResetRequest,
    SearchRequest,
)
from honeyguide.slate.utility import UtilityConfig


@pytest.fixture
def desk(shop: Path) -> Iterator[Desk]:
    opened = open_desk(str(shop), watch=False)
    yield opened
    opened.close()


def send(desk: Desk, *events: EventIn) -> None:
    answer = desk.record(EventsRequest(list(events))).result(10)
    assert not answer.refused


def ids(desk: Desk, **asked: Any) -> list[str]:
    return [item.item_id for item in desk.recommend(RecommendRequest(log=False, **asked)).items]


# ------------------------------------------------------------------------------------------- profiling off


class Tainted:
    """Stands before something of a person: whatever is asked of it is an offence."""

    def __init__(self, what: str) -> None:
        object.__setattr__(self, "_what", what)

    def __getattribute__(self, name: str) -> Any:
        raise AssertionError(f"personal: {object.__getattribute__(self, '_what')}.{name}")

    def _offence(self, *args: object, **kwargs: object) -> Any:
        raise AssertionError(f"personal: {object.__getattribute__(self, '_what')}")

    __call__ = __getitem__ = __len__ = __iter__ = __bool__ = __contains__ = _offence


def taint(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every way to what is known of people ends in an offence; what is known of items and of everybody stays."""
    monkeypatch.setattr(live, "users", Tainted("users"))
    monkeypatch.setattr(live, "wishes", Tainted("wishes"))
    monkeypatch.setattr(live.online, "history", Tainted("history"))
    monkeypatch.setattr(live, "segments", dataclasses.replace(live.segments, of_user=Tainted("segment")))  # type: ignore[arg-type]
    real = live.online.read

    def read(user: int, *args: Any, **kwargs: Any) -> Any:
        assert user == -1, "personal: the features of a person"
        return real(user, *args, **kwargs)

    monkeypatch.setattr(live.online, "read", read)
    # And the rows themselves: what a kernel would read of a person is no number.
    table = live.online._users.table
    table[:-1] = np.iinfo(table.dtype).min if table.dtype.kind == "i" else np.nan


ASKED: dict[str, dict[str, Any]] = {
    "home": {}, "item": {"item_id": "f3"}, "board": {"board_items": ["f2", "f160"]},
}  # fmt: skip


@pytest.mark.parametrize("surface", ASKED)
def test_without_profiling_nothing_of_the_person_is_read(
    desk: Desk, surface: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(desk, EventIn("p4", "f1", "hide"), EventIn("p4", "f5", "less_like_this"))
    asked = {"surface": surface, "request_id": "r-1", "k": 15, **ASKED[surface]}
    anonymous = desk.recommend(RecommendRequest(log=False, **asked))
    live = desk._live
    with monkeypatch.context() as patch:
        patch.setattr(live, "users", Tainted("users"))
        with pytest.raises(AssertionError, match="personal"):  # the taint bites where profiling is on
            desk.recommend(RecommendRequest(user_id="p4", log=False, **asked))
    taint(live, monkeypatch)
    answer = desk.recommend(RecommendRequest(user_id="p4", profiling=False, log=False, **asked))
    assert answer.fallback is None
    assert [(i.item_id, i.score, i.heads) for i in answer.items] == [
        (i.item_id, i.score, i.heads) for i in anonymous.items
    ]
    direct = hg.flows.answer.recommend(live, RecommendRequest(user_id="p4", profiling=False, log=False, **asked))  # type: ignore[attr-defined]
    assert [i.item_id for i in direct.items] == [i.item_id for i in anonymous.items]


def test_search_and_suggest_read_nothing_of_the_person(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = desk.search(SearchRequest("space story", k=5, log=False))
    taint(desk._live, monkeypatch)
    found = desk.search(SearchRequest("space story", k=5, user_id="p4", profiling=False, log=False))
    assert [i.item_id for i in found.items] == [i.item_id for i in plain.items]
    assert desk.suggest("spa", 5).suggestions


def test_without_profiling_the_log_names_nobody(shop: Path) -> None:
    desk = open_desk(str(shop), watch=False)
    on = desk.recommend(RecommendRequest(user_id="p4", k=3))
    off = desk.recommend(RecommendRequest(user_id="p4", k=3, profiling=False))
    desk.search(SearchRequest("space", user_id="p4", profiling=False))
    desk.close()
    compact(shop)
    rows = Snapshots(Layout.open(shop).tables).read("impressions").to_pylist()
    named = {row["request_id"]: row["user_id"] for row in rows}
    assert (named[on.request_id], named[off.request_id]) == ("p4", "")
    assert sum(row["user_id"] == "p4" for row in rows) == 1


# ------------------------------------------------------------------------------------------------------ hide


def test_a_hidden_item_never_comes_back(shop: Path) -> None:
    desk = open_desk(str(shop), watch=False)
    first = ids(desk, user_id="p4", k=20)
    gone, other = first[0], first[1]
    send(desk, EventIn("p4", gone, "hide", event_id="h1"), EventIn("p4", other, "hide", event_id="h2"))

    def absent(where: Desk) -> None:
        for surface, given_ in (("home", {}), ("item", {"item_id": first[3]}), ("board", {"board_items": first[4:7]})):
            for n in range(20):
                assert gone not in ids(where, surface=surface, user_id="p4", k=50, request_id=f"{surface}{n}", **given_)
        title = where.item(gone).title or gone
        found = where.search(SearchRequest(title, user_id="p4", k=20, log=False))
        assert gone not in [item.item_id for item in found.items]
        assert gone in [item.item_id for item in where.search(SearchRequest(title, k=20, log=False)).items]

    absent(desk)
    assert gone in ids(desk, user_id=None, k=200)  # of the others it is as it was
    send(desk, EventIn("p4", other, "retract", corrects="h2"))
    assert other in ids(desk, user_id="p4", k=50)
    desk.reset(ResetRequest("p4")).result(10)
    absent(desk)
    desk.close()
    desk = open_desk(str(shop), watch=False)
    absent(desk)  # after a restart
    desk.close()
    build(shop)
    desk = open_desk(str(shop), watch=False)
    absent(desk)  # and in a later build
    assert other in ids(desk, user_id="p4", k=200, filters=Filters(allow=[other, gone]))
    desk.close()


def test_a_pin_and_the_fallback_respect_what_was_hidden(shop: Path) -> None:
    config = shop / "honeyguide.toml"
    rules = '[surfaces.home.slate.rules]\npins = [{ item_id = "f150", position = 1 }]\nhide_seen = false\n'
    text = config.read_text()
    assert "[surfaces.home.slate.rules]\nhide_seen = true\n" in text
    config.write_text(text.replace("[surfaces.home.slate.rules]\nhide_seen = true\n", rules))
    build(shop)
    desk = open_desk(str(shop), watch=False)
    assert ids(desk, user_id="p4", k=5)[0] == "f150"
    send(desk, EventIn("p4", "f150", "hide"))
    assert "f150" not in ids(desk, user_id="p4", k=5)
    assert ids(desk, user_id="p5", k=5)[0] == "f150"
    desk.close()


# ------------------------------------------------------------------------------------------------------ less


def test_less_like_this_lowers_what_is_like_it(desk: Desk) -> None:
    def places() -> dict[str, int]:
        return {item: place for place, item in enumerate(ids(desk, user_id="p4", k=60, request_id="same"))}

    live = desk._live
    before = places()
    disliked = next(iter(before))
    send(desk, EventIn("p4", disliked, "less_like_this"))
    after = places()
    row = live.catalog.items.row(disliked)
    both = [item for item in before if item in after and item != disliked]
    cosine = live.vectors[live.catalog.items.rows(both)] @ live.vectors[row]
    moved = np.array([after[item] - before[item] for item in both])  # positive: lower in the list
    near = cosine > np.median(cosine)
    assert moved[near].mean() > moved[~near].mean() + 1
    assert after.get(disliked, 60) > before[disliked] + 10
    heads = desk.recommend(RecommendRequest(user_id="p4", k=5, log=False)).items[0].heads
    assert all(0 <= value <= 1 for value in heads.values())


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=30), st.data())
def test_lowering_keeps_probabilities_and_the_order_of_equals(blend: list[float], data: st.DataObject) -> None:
    n = len(blend)
    p = data.draw(st.lists(st.floats(0, 1), min_size=n, max_size=n))
    fall = data.draw(st.lists(st.floats(0, 1), min_size=n, max_size=n))
    scores = np.column_stack([p, p, np.array(blend)])
    pool = Pool(
        np.arange(n, dtype=np.int32)[None], np.array([blend], np.float32), np.zeros((1, n, 1), np.float32), ("a",)
    )
    utility = UtilityConfig(weights={"like": 1.0, "dislike": -1.0}, rank_weights={"watch": 1.0})
    heads = {"like": True, "dislike": True, "watch": False}
    changed, out = lowered(pool, scores, heads, utility, np.array(fall))
    assert out is not None
    assert ((out[:, 0] >= 0) & (out[:, 0] <= scores[:, 0])).all()
    assert (out[:, 1] == scores[:, 1]).all()  # what speaks against an item is not softened
    assert (out[:, 2] <= scores[:, 2] + 1e-12).all()
    assert (changed.blend <= pool.blend + 1e-6).all()
    untouched, same = lowered(pool, scores, heads, utility, np.zeros(n))
    assert same is not None
    assert (same == scores).all()
    assert (untouched.blend == pool.blend).all()


# --------------------------------------------------------------------------------------------------- begin anew


def test_who_begins_anew_is_somebody_new_at_once_after_a_restart_and_in_a_build(shop: Path) -> None:
    desk = open_desk(str(shop), watch=False)
    had = desk._live.online.history(desk._live.users.row("p4"), 100, desk._live.now_us()).items
    assert len(had)
    crowd = desk._live.online.read(-1, np.arange(5, dtype=np.int32), desk._live.now_us(), *_nothing()).copy()
    desk.reset(ResetRequest("p4")).result(10)

    def is_new(where: Desk) -> None:
        live = where._answering()
        asked = {"k": 10, "request_id": "x", "filters": Filters()}
        where.recommend(RecommendRequest(user_id="p4", log=False, **asked))
        assert not len(live.online.history(live.users.row("p4"), 100, live.now_us()).items)

    is_new(desk)
    # Nothing was erased: the crowd's figures are what they were.
    now = desk._live.online.read(-1, np.arange(5, dtype=np.int32), desk._live.now_us(), *_nothing())
    np.testing.assert_allclose(crowd, now, rtol=1e-5)  # what decays, decays
    assert desk._live.segment(desk._live.users.row("p4"), {}) == desk._live.segment(_of(desk, former("p4", 0)), {})
    desk.close()
    desk = open_desk(str(shop), watch=False)
    is_new(desk)
    send(desk, EventIn("p4", "f150", "rating", value=5.0))
    live = desk._answering()
    assert live.online.history(live.users.row("p4"), 100, live.now_us()).items.tolist() == [
        live.catalog.items.row("f150")
    ]
    desk.close()
    compact(shop)
    compact(shop)
    desk = open_desk(str(shop), watch=False)  # the reset is in a table now
    live = desk._answering()
    assert len(live.online.history(live.users.row("p4"), 100, live.now_us()).items) == 1
    desk.close()
    build(shop)
    desk = open_desk(str(shop), watch=False)
    live = desk._answering()
    assert len(live.online.history(live.users.row("p4"), 100, live.now_us()).items) == 1
    assert len(live.online.history(_of(desk, former("p4", 0)), 1000, live.now_us()).items) == len(had)
    desk.close()
    table = hg.Workspace(shop).sql("select count(*) as n from events where user_id = 'p4'").to_pylist()
    assert table[0]["n"] == len(had) + 1  # the log says what it said


def _nothing() -> tuple[Any, ...]:
    return np.zeros(0, np.int32), np.zeros(0, np.float32), np.zeros(0, np.int64)


def _of(desk: Desk, user_id: str) -> int:
    return desk._live.users.row(user_id)


def test_forgetting_takes_former_selves_along(shop: Path) -> None:
    desk = open_desk(str(shop), watch=False)
    desk.reset(ResetRequest("p4")).result(10)
    send(desk, EventIn("p4", "f9", "hide"))
    desk.close()
    build(shop)
    report = forget(shop, "p4", rebuild=True)
    assert report["builds"]
    layout = Layout.open(shop)
    for path in [*layout.artifacts.rglob("*.json"), *layout.tables.rglob("*.json")]:
        assert "p4\\u001f" not in path.read_text()
        assert '"p4"' not in path.read_text()
    assert "p4" not in Snapshots(layout.tables).read("resets")["user_id"].to_pylist()


def test_a_running_process_forgets_former_selves(shop: Path) -> None:
    desk = open_desk(str(shop), watch=False)
    desk.reset(ResetRequest("p4")).result(10)
    desk.recommend(RecommendRequest(user_id="p4", log=False))
    old = _of(desk, former("p4", 0))
    assert old >= 0
    forget(shop, "p4")
    desk.tick()
    assert _of(desk, former("p4", 0)) == -1
    assert not len(desk._live.online.history(old, 10, desk._live.now_us()).items)
    assert not desk._live.wishes.said.resets
    desk.close()


def test_of_whom_nothing_is_known_nothing_is_reset(desk: Desk) -> None:
    with pytest.raises(NotFoundError):
        desk.reset(ResetRequest("nobody-at-all"))


# ------------------------------------------------------------------------------------------------ as a fold


@st.composite
def said(draw: st.DrawFn) -> list[tuple[str, str, str, int, str | None]]:
    rows = []
    for n in range(draw(st.integers(0, 25))):
        action = draw(st.sampled_from(["hide", "less_like_this", "view", "retract", "reset"]))
        earlier = [row[0] for row in rows]
        corrects = draw(st.sampled_from(earlier)) if earlier and action == "retract" else None
        rows.append((f"e{n}", action, draw(st.sampled_from("abc")), n, corrects))
    return rows


@given(said())
def test_wishes_are_what_a_plain_reading_says(rows: list[tuple[str, str, str, int, str | None]]) -> None:
    from honeyguide.serving.record import EventRow

    wishes = Wishes(RightsConfig(), _Said())
    hidden: dict[str, str] = {}
    less: dict[str, str] = {}
    for event_id, action, item, at, corrects in rows:
        if action == "reset":
            wishes.begin_anew("p", at)
            less.clear()
            continue
        wishes.apply([EventRow("p", item, action, at, event_id=event_id, corrects=corrects)], [at], [event_id])
        if corrects is not None:
            hidden.pop(corrects, None)
            less.pop(corrects, None)
        if action == "hide":
            hidden[event_id] = item
        elif action == "less_like_this":
            less[event_id] = item
    assert sorted(wishes.hidden("p")) == sorted(set(hidden.values()))
    assert sorted(wishes.less("p")) == sorted(set(less.values()))
    again = Wishes(RightsConfig(), msgspec.json.decode(msgspec.json.encode(wishes.said), type=_Said))
    assert again == wishes
    wishes.erase("p")
    assert not wishes


@given(st.lists(st.integers(0, 20), max_size=4, unique=True), st.integers(-1, 21))
def test_a_moment_belongs_to_one_self(resets: list[int], at: int) -> None:
    wishes = Wishes(RightsConfig(), _Said())
    for reset in resets:
        wishes.begin_anew("p", reset)
    found = wishes.self_at("p", at)
    assert person_of(found) == "p"
    assert (found == "p") == (at >= max(resets, default=-1))


# ------------------------------------------------------------------------------------------------ trace and why


def test_a_trace_adds_up(desk: Desk) -> None:
    answer = desk.recommend(RecommendRequest(user_id="p8", k=10, request_id="t-1"))
    found = desk.trace(RecommendRequest(user_id="p8", k=10, request_id="t-1", log=False))
    assert [one["item_id"] for one in found["slots"]] == [item.item_id for item in answer.items]
    shown = [one for one in found["candidates"] if one["slot"] is not None]
    assert [one["slot"] for one in shown] == list(range(1, 11))
    for one, item in zip(shown, answer.items, strict=True):
        assert one["propensity"] == item.propensity
        assert one["explored"] == item.explored
        assert sorted(one["sources"]) == sorted(item.sources)
        assert one["utility"] == pytest.approx(item.score, abs=1e-5)
        assert one["dropped_by"] is None
    for one in found["candidates"]:
        if one["slot"] is None:
            assert one["dropped_by"]
        if one["parts"]:
            assert sum(one["parts"].values()) == pytest.approx(one["utility"], abs=1e-5)
    left = {stage["stage"]: stage["left"] for stage in found["funnel"]}
    assert left["blend"] == len(found["candidates"]) >= left["rules"] >= left["slate"] == 10
    counted = {}
    for one in found["candidates"]:
        if one["dropped_by"] not in (None, "outranked"):
            counted[one["dropped_by"]] = counted.get(one["dropped_by"], 0) + 1
    assert counted == found["dropped"]


def test_an_answer_is_made_again_from_its_id(desk: Desk) -> None:
    answer = desk.recommend(RecommendRequest(user_id="p8", surface="board", board_items=["f2", "f160"], k=10))
    desk._impressions.append([]).result(10)  # type: ignore[union-attr]
    again = desk.again(answer.request_id)
    found = desk.trace(RecommendRequest(), again)
    assert found["again"]["same_slots"] == found["again"]["of"] == 10
    with pytest.raises(NotFoundError):
        desk.again("no-such-request")
    searched = desk.search(SearchRequest("space"))
    desk._impressions.append([]).result(10)  # type: ignore[union-attr]
    with pytest.raises(RequestError):
        desk.again(searched.request_id)


def test_an_answer_is_found_in_the_table_too(shop: Path) -> None:
    desk = open_desk(str(shop), watch=False)
    answer = desk.recommend(RecommendRequest(user_id="p8", k=6))
    desk.close()
    compact(shop)
    compact(shop)
    desk = open_desk(str(shop), watch=False)
    again = desk.again(answer.request_id)
    assert again.shown == [item.item_id for item in answer.items]
    assert desk.why(again, again.shown[0])["shown"] is True
    desk.close()


def test_why_an_item_is_there(desk: Desk) -> None:
    answer = desk.recommend(RecommendRequest(user_id="p8", k=10))
    desk._impressions.append([]).result(10)  # type: ignore[union-attr]
    again = desk.again(answer.request_id)
    for item in answer.items:
        told = desk.why(again, item.item_id)
        assert told["position"] == item.position
        assert sorted(told["sources"]) == sorted(item.sources)
        assert told["because"]
        assert told["explored"] == item.explored
        if item.because:
            assert item.because[0] in [one["item_id"] for one in told["led_here"]]
    served = desk._live.pipeline.heads
    told = desk.why(again, answer.items[0].item_id)
    assert set(told["features"]) <= set(served)
    for rows in told["features"].values():
        sizes = [abs(row["contribution"]) for row in rows]
        assert sizes == sorted(sizes, reverse=True)
    seen = desk._live.catalog.items.id(int(desk._live.online.history(desk._live.users.row("p8"), 5, 2**62).items[-1]))
    assert desk.why(again, seen)["position"] is None
    with pytest.raises(NotFoundError):
        desk.why(again, "no such item")


def test_the_public_text_follows_the_configuration(shop: Path, run: Callable[..., tuple[int, str, str]]) -> None:
    code, out, _ = run("explain", shop, "--public")
    assert code == 0
    assert "What you had already is left out" in out
    assert "chance" in out
    for inside in ("rp3beta", "ALS", "MMR", "0.", "epsilon", "weight"):
        assert inside not in out
    config = shop / "honeyguide.toml"
    text = config.read_text()
    changed = text.replace("epsilon = 0.05", "epsilon = 0.0").replace("hide_seen = true", "hide_seen = false")
    assert changed != text
    config.write_text(changed)
    build(shop)
    _, later, _ = run("explain", shop, "--public")
    assert later.count("left to chance") < out.count("left to chance")
    with hg.Workspace(shop) as ws:
        told = ws._open().parameters()
    assert set(told["surfaces"]) == {"home", "item", "board", "search"}
    assert all(one["text"] and one["parameters"] for one in told["surfaces"].values())


def test_unknown_surface_in_a_trace(desk: Desk) -> None:
    with pytest.raises(HoneyguideError):
        desk.trace(RecommendRequest(surface="nowhere"))
