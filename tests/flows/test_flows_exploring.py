"""Exploration through the product: configured, learnt, served, logged, audited, stopped and released."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from honeyguide.engines.log.sqlite import SqliteLog
from honeyguide.errors import ConfigError, RequestError
from honeyguide.flows.build import build
from honeyguide.flows.exploring import guard, stops
from honeyguide.flows.exploring.audit import audit_workspace
from honeyguide.flows.layout import Layout
from honeyguide.flows.live import Live
from honeyguide.flows.simulation.changes import Change, Changed
from honeyguide.flows.simulation.shop import make_shop
from honeyguide.flows.wiring import Desk, open_desk
from honeyguide.schema.wire import EventIn, EventsRequest, Item, RecommendRequest
from honeyguide.serving.record import decode_impression


def manifest_of(folder: Path) -> dict[str, Any]:
    """The manifest of the build in service."""
    return json.loads((folder / "builds" / f"{(folder / 'builds' / 'CURRENT').read_text()}.json").read_text())


LEARNT = 'kind = "thompson"\nreward = "click"\nshare = 0.6\nreplicates = 16\nscale = 5.0\npool = 8\n'
NEW = "new_share = 0.2\nnew_below = 60\nnew_candidates = 4\n"


def explore(folder: Path, text: str) -> Path:
    """Set the exploration of home."""
    path = folder / "honeyguide.toml"
    written = path.read_text()
    first = written.index("[surfaces.home.slate.explore]")
    last = written.index("[surfaces.item]")
    path.write_text(written[:first] + "[surfaces.home.slate.explore]\n" + text + "\n" + written[last:])
    return folder


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A built shop of a few people whose home samples after Thompson."""
    folder = tmp_path_factory.mktemp("exploring") / "shop"
    make_shop(folder, people=200, items=60, days=12, seed=4, slots=5)
    text = (folder / "honeyguide.toml").read_text()
    text = text.replace("trees = 100", "trees = 20").replace("max_rows = 60000", "max_rows = 5000")
    text = text.replace('kind = "home"', 'kind = "home"\ndeadline_ms = 60000.0')
    (folder / "honeyguide.toml").write_text(text)
    build(explore(folder, LEARNT + NEW))
    return folder


@pytest.fixture
def place(learnt: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(learnt, tmp_path / "shop"))


def serve(folder: Path, requests: int, k: int = 5) -> tuple[list[Any], list[dict[str, Any]]]:
    """Answers, and what was logged of them."""
    desk = open_desk(str(folder), watch=False)
    answers = [
        desk.recommend(RecommendRequest("home", user_id=f"u{n % 50}", k=k, request_id=f"r{n}")) for n in range(requests)
    ]
    desk.close()
    log = SqliteLog(Layout.open(folder).impressions)
    rows = [decode_impression(record.payload) for _, record in log.read(0, 10 * requests)]
    log.close()
    return answers, rows


def test_the_build_says_what_it_learnt_and_the_lists_are_logged_with_their_chances(place: Path) -> None:
    manifest = manifest_of(place)
    assert "experience" in manifest["folders"]
    assert any("exploration learnt what 'click' depends on" in said for said in manifest["decisions"])
    answers, rows = serve(place, 60)
    assert len(rows) == 60
    chosen = {row["request_id"]: row for row in rows}
    moved = 0
    for answer in answers:
        told = json.loads(chosen[answer.request_id]["exploration"])
        assert told["kind"] == "thompson"
        slots = {str(item.position) for item in answer.items if item.explored}
        assert set(told.get("explored", {})) == slots
        assert all(0 < chance <= 0.8 for chance in told.get("explored", {}).values())
        assert np.prod([item.propensity for item in answer.items]) == pytest.approx(answer.list_propensity)
        moved += len(slots)
    assert moved
    live = Live(Layout.open(place), None)
    told = live.description["surfaces"]["home"]["exploration"]
    assert "Thompson sampling of 'click', 16 bootstrapped heads" in told["says"]
    assert told["note"] == told["stopped"] == ""
    assert told["newcomers"] > 0


def test_the_audit_of_a_workspace_agrees(place: Path, run: Callable[..., tuple[int, str, str]]) -> None:
    report = audit_workspace(place, requests=2, draws=1_500, k=4)
    assert report["ok"], report
    assert [one["draws"] for one in report["requests"]] == [1_500, 1_500]
    code, out, _ = run("explore", "audit", place, "--requests", 1, "--draws", 300, "--json")
    assert code == 0
    assert json.loads(out)["surface"] == "home"
    code, _, err = run("explore", "audit", place, "--surface", "checkout")
    assert code == 2
    assert "a surface of this workspace" in err


def test_newcomers_join_by_turns_and_get_their_share(place: Path) -> None:
    desk = open_desk(str(place), watch=False)
    desk.put_item(Item(item_id="brand-new", title="Brand new", categories=["0"])).result()
    shown = [
        item
        for n in range(400)
        for item in desk.recommend(RecommendRequest("home", user_id=f"u{n % 40}", k=5, request_id=f"n{n}")).items
    ]
    live = desk._live
    new = {live.catalog.items.id(int(row)) for row in live.surfaces["home"].newcomers}
    desk.close()
    assert "brand-new" in new
    assert any(item.item_id == "brand-new" and item.explored for item in shown)
    share = np.mean([item.explored and item.item_id in new for item in shown])
    assert 0.1 < share < 0.45  # the new ones' own share, and what Thompson gives those among the candidates


@pytest.mark.heavy
def test_where_there_are_no_impressions_the_build_says_so(
    film_files: dict[str, Path], tmp_path: Path, unhurried: Callable[[Path], None]
) -> None:
    from honeyguide.flows.create import create

    folder = tmp_path / "films"
    create(folder, events=film_files["events"], items=film_files["items"], users=film_files["users"])
    unhurried(folder)
    path = folder / "honeyguide.toml"
    head = next(line for line in path.read_text().splitlines() if line.startswith("name = ") and "films" not in line)
    reward = head.split('"')[1]
    text = path.read_text().replace(
        "[surfaces.home.slate.explore]", f'[surfaces.home.slate.explore]\nkind = "linucb"\nreward = "{reward}"'
    )
    path.write_text(text)
    build(folder)
    assert any("0.05 of the slots evenly until then" in said for said in manifest_of(folder)["decisions"])
    assert Live(Layout.open(folder), None).surfaces["home"].composers.plain.explorer.kind == "epsilon"


def test_a_change_of_kind_is_served_by_the_same_build_unless_it_must_learn(place: Path) -> None:
    layout = Layout.open(place)

    def changed(slate: dict[str, Any], surface: str = "home") -> Changed:
        return Changed.of(Change.of({"policy": {"surfaces": {surface: {"slate": {"explore": slate}}}}}), layout)

    assert not changed({"temperature": 2.0, "kind": "plackett_luce"}, "item").needs_build
    assert not changed({"replicates": 4}).needs_build
    assert changed({"reward": "save"}).needs_build
    with pytest.raises(ConfigError, match="lower `share`"):
        changed({"new_share": 0.9})


def test_never_is_kept_by_changes_too(place: Path) -> None:
    text = (place / "honeyguide.toml").read_text()
    (place / "honeyguide.toml").write_text(text + "\n[surfaces.item.slate.explore]\nnever = true\n")
    build(place)
    change = Change.of({"policy": {"surfaces": {"item": {"slate": {"explore": {"epsilon": 0.2}}}}}})
    with pytest.raises(ConfigError, match="never"):
        Changed.of(change, Layout.open(place))


def test_names_that_are_no_heads_are_refused_before_anything_is_learnt(place: Path) -> None:
    for text, said in ((LEARNT.replace("click", "clik"), "clik"), (LEARNT + "floor_heads = { like = 0.1 }", "like")):
        with pytest.raises(ConfigError, match=said):
            build(explore(place, text))


# ------------------------------------------------------------------------------------------------------- guardrails

RAILED = 'epsilon = 0.5\npool = 10\nguardrails = [{ action = "hide", hurt = "more", within_hours = 1.0 }]\n'


def hide(desk: Desk, requests: int, prefix: str, *, harmful: bool) -> None:
    """Every list is answered with one hide: of an explored slot if there is one, or of any slot."""
    rng = np.random.default_rng(1)
    events = []
    for n in range(requests):
        user = f"u{n % 50}"
        answer = desk.recommend(RecommendRequest("home", user_id=user, k=5, request_id=f"{prefix}{n}"))
        explored = [item for item in answer.items if item.explored]
        item = explored[0] if harmful and explored else answer.items[int(rng.integers(len(answer.items)))]
        events.append(EventIn(user, item.item_id, "hide", request_id=answer.request_id))
    desk.record(EventsRequest(events)).result()


@pytest.fixture(scope="module")
def guarded(learnt: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = Path(shutil.copytree(learnt, tmp_path_factory.mktemp("guarded") / "shop"))
    build(explore(folder, RAILED))
    return folder


@pytest.fixture
def railed(guarded: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(guarded, tmp_path / "shop"))


def test_a_hurt_guardrail_stops_the_surface_until_it_is_released(
    railed: Path, run: Callable[..., tuple[int, str, str]]
) -> None:
    desk = open_desk(str(railed), watch=False)
    hide(desk, 60, "h", harmful=True)
    # Nobody's hour is over.
    assert guard.check(railed)["surfaces"]["home"]["stopped"] is None
    later = desk._live.now_us() + 2 * 3_600_000_000
    report = guard.check(railed, now_us=later)["surfaces"]["home"]
    assert report["stopped"]["guardrail"] == "hide"
    assert report["guardrails"][0]["evidence"] >= 100
    assert report["guardrails"][0]["explored"] > report["guardrails"][0]["expected_explored"]

    # A server that starts, and one that looks, explore no more; the policy's name says that it is another.
    fresh = open_desk(str(railed), watch=False)
    answers = [fresh.recommend(RecommendRequest("home", user_id=f"u{n}", k=5)) for n in range(20)]
    assert all(answer.list_propensity == 1.0 and answer.exploration is None for answer in answers)
    assert answers[0].policy_version != desk.recommend(RecommendRequest("home", user_id="u1", k=5)).policy_version
    assert fresh.gauges()["exploration_stopped"] == 1.0
    assert "hide follows" in fresh.pipeline()["surfaces"]["home"]["exploration"]["stopped"]
    fresh.close()
    desk.close()
    code, out, _ = run("explore", "status", railed)
    assert code == 0
    assert "stopped" in out

    # It stays stopped over checks and builds, until somebody lets it go on; what was before counts no more.
    guard.check(railed, now_us=later)
    build(railed)
    assert stops.read(Layout.open(railed)).stopped
    code, out, _ = run("explore", "release", railed, "home")
    assert code == 0
    assert "explores again" in out
    assert guard.check(railed, now_us=later)["surfaces"]["home"]["stopped"] is None
    assert not Live(Layout.open(railed), None).stopped
    with pytest.raises(RequestError, match="whose exploration stopped"):
        stops.release(Layout.open(railed), "home")


def test_without_harm_nothing_stops(railed: Path) -> None:
    desk = open_desk(str(railed), watch=False)
    hide(desk, 120, "g", harmful=False)
    later = desk._live.now_us() + 2 * 3_600_000_000
    desk.close()
    report = guard.check(railed, now_us=later)["surfaces"]["home"]
    assert report["stopped"] is None
    assert report["guardrails"][0]["explored"] + report["guardrails"][0]["unexplored"] > 100


def test_a_changed_exploration_is_tried_although_the_present_one_stopped(railed: Path) -> None:
    layout = Layout.open(railed)
    with stops.changing(layout) as found:
        found.stopped["home"] = stops.Stop("2026-01-01T00:00:00+00:00", "hide", "it hurt", 9, 1, 3.0)
    changed = Changed.of(
        Change.of({"policy": {"surfaces": {"home": {"slate": {"explore": {"epsilon": 0.1}}}}}}), layout
    )
    assert Live(layout, None).surfaces["home"].slate.explore.epsilon == 0.0
    tried = Live(layout, None, config=changed.change.applied)
    assert tried.surfaces["home"].slate.explore.epsilon == 0.1


def test_a_file_of_stops_that_cannot_be_read_says_so(railed: Path) -> None:
    stops.path(Layout.open(railed)).write_text("{")
    with pytest.raises(Exception, match="what stopped"):
        Live(Layout.open(railed), None)


@pytest.mark.heavy
def test_a_running_server_follows_what_stopped(railed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    desk = open_desk(str(railed))
    try:
        with stops.changing(Layout.open(railed)) as found:
            found.stopped["home"] = stops.Stop("2026-01-01T00:00:00+00:00", "hide", "it hurt", 9, 1, 3.0)
        deadline = time.monotonic() + 60
        while desk.recommend(RecommendRequest("home", user_id="u1", k=5, log=False)).exploration is not None:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert desk.gauges()["exploration_stopped"] == 1.0
    finally:
        desk.close()


# -------------------------------------------------------------------------------------------- beside another policy


def test_a_list_that_the_other_policy_ends_early_earns_nothing_there() -> None:
    import honeyguide.flows.simulation.shadow as shadow
    from honeyguide.slate.compose import Odds

    rows, start = np.array([1, 2, 1, 3], np.int32), np.array([0, 2, 4])
    own = Odds(start, rows, np.array([0.5, 0.5, 0.25, 0.75]))
    ended = Odds(np.array([0, 2, 2]), rows[:2], np.array([0.9, 0.1]))
    chance, rest = shadow._aligned(own, ended, np.array([2, 3], np.int32))
    np.testing.assert_allclose(chance, [0.9, 0.1, 0.25, 0.75])  # the weight of the slot above stays as it is
    assert rest.tolist() == [0.0, shadow._ENDED]


def test_nothing_is_asked_of_a_policy_after_slots_that_it_would_never_show() -> None:
    import honeyguide.flows.simulation.shadow as shadow
    from honeyguide.slate.compose import Odds

    rows, start = np.array([1, 2, 1, 3], np.int32), np.array([0, 2, 4])
    own = Odds(start, rows, np.array([0.5, 0.5, 0.25, 0.75]))
    other = Odds(np.array([0, 1, 2]), np.array([1, 9], np.int32), np.array([1.0, 1.0]))
    _, there = shadow._aligned(own, other, np.array([1, 3], np.int32))
    _, never = shadow._aligned(own, other, np.array([2, 3], np.int32))
    assert there.tolist() == [0.0, 1.0]  # it would show 9, of which the log knows nothing
    assert never.tolist() == [0.0, 0.0]
