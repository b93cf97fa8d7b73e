"""A shop with known truth, a change lived through in it, and yesterday answered again: through the commands."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest

from honeyguide.cli import main
from honeyguide.engines.tables.snapshot import Snapshots
from honeyguide.errors import ConfigError, DataError, RequestError
from honeyguide.flows import answer
from honeyguide.flows.build import build
from honeyguide.flows.config import WorkspaceConfig
from honeyguide.flows.layout import Layout
from honeyguide.flows.live import Live
from honeyguide.flows.simulation.arms import SimClock, copied, drop_log, scratch, toml_of
from honeyguide.flows.simulation.changes import Change, Changed
from honeyguide.flows.simulation.loop import Lived, live_through
from honeyguide.flows.simulation.replay import replay
from honeyguide.flows.simulation.shadow import Shadow
from honeyguide.flows.simulation.shop import make_shop, saved_world
from honeyguide.flows.simulation.simulate import simulate
from honeyguide.flows.simulation.stage import stage_of
from honeyguide.schema.wire import RecommendRequest
from honeyguide.world.world import TALLY

NEIGHBOURS = "[policy.surfaces.home]\nweights = { ease = 1.0, covisit = 1.0 }\n"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A built shop of a few people."""
    folder = tmp_path_factory.mktemp("simulate") / "shop"
    make_shop(folder, people=150, items=60, days=10, seed=4, slots=5)
    text = (folder / "honeyguide.toml").read_text()
    text = text.replace("trees = 100", "trees = 20").replace("max_rows = 60000", "max_rows = 5000")
    (folder / "honeyguide.toml").write_text(text)
    build(folder)
    return folder


def tree(folder: Path) -> dict[str, str]:
    """Every file and its content, but locks and what logs keep beside themselves."""
    return {
        str(path.relative_to(folder)): hashlib.md5(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith(".") and "log" not in path.relative_to(folder).parts
    }


def change(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "change.toml"
    path.write_text(text)
    return path


# ------------------------------------------------------------------------------------------------------ the shop


def test_a_shop_is_a_workspace_with_honest_propensities(shop: Path) -> None:
    tables = Snapshots(Layout.open(shop).tables)
    shown = tables.read("impressions").to_pylist()
    events = tables.read("events").to_pylist()
    assert {event["action"] for event in events} >= {"click", "save", "purchase"}
    assert len({event["event_id"] for event in events}) == len(events)
    by_request = {row["request_id"]: row for row in shown}
    for event in events:
        row = by_request[event["request_id"]]
        assert row["shown_items"][event["position"] - 1] == event["item_id"]
        assert row["user_id"] == event["user_id"]
    for row in shown:
        propensities = row["shown_propensities"]
        assert all(0 < p <= 1 for p in propensities)
        assert np.prod(propensities) == pytest.approx(row["list_propensity"], rel=1e-5)
        assert (row["seeds"] is not None) == (row["surface"] == "item")
    # Drawn without replacement by mass: over all first slots the chances say how often an item comes first.
    chances = {}
    for row in shown:
        chances.setdefault(row["shown_items"][0], []).append(row["shown_propensities"][0])
    expected = np.array([sum(1 / p for p in values) for values in chances.values()])
    # Horvitz and Thompson: an item that could always come first has been drawn about once per list, weighed.
    assert np.median(expected / len(shown)) == pytest.approx(1.0, abs=0.5)


def test_its_world_is_made_again_as_it_was(shop: Path) -> None:
    saved = saved_world(Layout.open(shop))
    assert saved is not None
    world = saved.lived()
    clicks = sum(row["action"] == "click" for row in Snapshots(Layout.open(shop).tables).read("events").to_pylist())
    assert world.tally[:, TALLY.index("clicks")].sum() == clicks
    assert saved_world(Layout(shop.parent)) is None


# ------------------------------------------------------------------------------------------------------ the loop


def lived(shop: Path, days: float = 2.0, retrain_days: float = 0.0, **given: object) -> Lived:
    layout = Layout.open(shop)
    with scratch(layout) as place:
        return live_through(stage_of(layout, **given), place / "a", days=days, retrain_days=retrain_days)


def test_the_loop_is_deterministic_and_leaves_no_trace(shop: Path) -> None:
    before = tree(shop)
    one, other = lived(shop), lived(shop)
    assert one.diary == other.diary
    assert np.array_equal(one.tally, other.tally)
    assert tree(shop) == before
    assert not [path for path in shop.iterdir() if path.name.startswith(".simulated")]
    assert one.diary.fallbacks == one.diary.refused_events == 0
    assert {*one.diary.surface} == {"home", "item", "search"}
    assert lived(shop, seed=1).diary != one.diary
    few = lived(shop, people=20)
    assert 0 < len({*few.diary.user}) <= 20


def test_what_people_do_is_known_at_their_next_request(shop: Path) -> None:
    """A click is in the history of the very next request: through the log, in simulated time."""
    layout = Layout.open(shop)
    histories: list[tuple[int, int]] = []

    def spy(first, others, audience) -> None:
        def watch(surface, ask, pool, scores, slate) -> None:
            visit, _ = audience.asking
            done = audience.diary.per_person("clicks", 150)[visit.user]
            histories.append((len(first.live.online.history(ask.user, 10_000, ask.now_us).items), int(done)))

        first.live.watch = watch

    stage = stage_of(layout)
    with scratch(layout) as place:
        live_through(stage, place / "a", days=1.5, on_open=spy)
    assert len(histories) > 30
    assert any(done for _, done in histories)
    assert all(held >= done for held, done in histories)


def test_a_copy_holds_what_waits_in_the_log(shop: Path, tmp_path: Path) -> None:
    from honeyguide.flows.wiring import open_desk
    from honeyguide.schema.wire import EventIn, EventsRequest

    mine = tmp_path / "shop"
    shutil.copytree(shop, mine)
    desk = open_desk(str(mine), watch=False)
    told = desk.record(EventsRequest([EventIn("u1", "i1", "click", event_id="new")])).result()
    assert told.accepted == 1
    desk.close()
    layout = Layout.open(mine)
    with scratch(layout) as place:
        copy = copied(layout, place / "copy")
        rows = Snapshots(copy.tables).read("events").to_pylist()
        assert sum(row["event_id"] == "new" for row in rows) == 1
        assert sum(row["event_id"] == "new" for row in Snapshots(layout.tables).read("events").to_pylist()) == 0
        drop_log(copy)


def test_copies_go_whatever_happens_and_so_does_what_a_killed_process_left(shop: Path) -> None:
    layout, ram = Layout.open(shop), Path("/dev/shm")
    before = {path.name for path in ram.glob("honeyguide-log-*")} if ram.is_dir() else set()
    places: list[Path] = []

    def interrupted() -> None:
        with scratch(layout) as place:
            places.append(copied(layout, place / "copy").root / "log")
            assert places[0].exists()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not places[0].parent.parent.exists()
    left = shop / ".simulated-left"
    left.mkdir()
    copied(layout, left / "copy")
    with scratch(layout) as place:
        assert not left.exists()
        with scratch(layout) as another:
            assert place.exists()  # somebody is at work there
            assert another != place
    assert ({path.name for path in ram.glob("honeyguide-log-*")} if ram.is_dir() else set()) <= before


def test_toml_of_a_configuration_reads_as_it_was(shop: Path, tmp_path: Path) -> None:
    document = WorkspaceConfig.load(shop / "honeyguide.toml").model_dump(mode="json")
    document["name"] = 'a "quoted" \\ name\twith\x7f everything'
    path = tmp_path / "x.toml"
    path.write_text(toml_of(document))
    assert WorkspaceConfig.load(path) == WorkspaceConfig.model_validate(document)


def test_a_clock_and_another_policy_for_what_is_loaded(shop: Path) -> None:
    layout = Layout.open(shop)
    clock = SimClock(1_800_000_000_000_000)
    off = Change.of({"policy": {"sources_off": ["covisit", "ease"]}})
    live = Live(layout, None, clock=clock, config=off.applied)
    assert live.now_us() == clock.now_us
    assert live.surfaces["home"].blend.asked == ("popular",)
    assert Live(layout, None).surfaces["home"].blend.asked != ("popular",)
    assert live.policy_version != Live(layout, None).policy_version
    shown = answer.recommend(live, RecommendRequest("home", user_id="u1", k=5))
    assert shown.fallback is None
    assert {source for item in shown.items for source in item.sources} == {"popular"}


# -------------------------------------------------------------------------------------------------- what is said


@pytest.mark.heavy
def test_predicted_measured_and_true_side_by_side(
    shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.html"
    path = change(tmp_path, 'name = "more chance"\n[policy.surfaces.home.slate.explore]\nepsilon = 0.3\n')
    arguments = [
        "simulate",
        str(shop),
        "--change",
        str(path),
        "--days",
        "6",
        "--retrain-days",
        "3",
        "--html",
        str(page),
    ]
    with pytest.raises(SystemExit) as done:
        main([*arguments, "--json"])
    assert not done.value.code
    report = json.loads(capsys.readouterr().out)
    clicks = report["short"][0]
    assert report["builds"] == {"present": 1, "test": 1, "changed": 1}
    predicted = clicks["predicted"]
    if predicted["verdict"] == "IDENTIFIABLE":
        assert predicted["low"] <= predicted["estimate"] <= predicted["high"]
    else:
        assert predicted["reasons"]
        assert predicted["advice"]
    assert {row["outcome"] for row in report["long"]} >= {"visits", "clicks", "purchases", "joy", "people lost"}
    assert report["short"][2]["predicted"] is None  # nobody logs joy
    for row in report["long"]:
        assert row["truth"]["difference"] == pytest.approx(row["truth"]["changed"] - row["truth"]["present"])
    text = page.read_text()
    assert "more chance" in text
    assert text.count("<svg") >= 4
    assert "http://" not in text.replace("http://www.w3.org", "")
    with pytest.raises(SystemExit):
        main(arguments)
    said = capsys.readouterr().out
    assert "predicted" in said
    assert "A person in 6 days" in said


@pytest.mark.heavy
def test_no_change_is_predicted_exactly_and_is_true_to_the_last_digit(shop: Path) -> None:
    nothing = Change.of({"policy": {"name": "another name"}})
    report = simulate(shop, nothing, days=3, retrain_days=0)
    clicks = report["short"][0]
    assert clicks["truth"]["difference"] == 0.0
    assert clicks["same_moments"]["changed"] == pytest.approx(clicks["same_moments"]["present"], rel=0.05)
    if clicks["predicted"]["estimate"] is not None:
        assert clicks["predicted"]["estimate"] == pytest.approx(clicks["predicted"]["logged"])
    assert all(row["truth"]["difference"] == 0.0 for row in report["long"])


@pytest.mark.heavy
def test_a_true_effect_is_measured_and_known(shop: Path) -> None:
    effect = Change.of({"world": [{"kind": "effect", "lift": 1.0}]})
    report = simulate(shop, effect, days=5, retrain_days=0)
    long = {row["outcome"]: row for row in report["long"]}
    assert long["clicks"]["truth"]["difference"] > 0.3 * long["clicks"]["truth"]["present"]
    assert report["short"][0]["measured"]["difference"] > 0
    assert any("effect" in note for note in report["notes"])


def test_shadows_know_the_logged_propensities(shop: Path) -> None:
    layout = Layout.open(shop)
    others = [Changed.of(Change.of(document), layout) for document in (
        {"policy": {"surfaces": {"home": {"slate": {"explore": {"epsilon": 0.5}}}}}},
        {"policy": {"sources_off": ["covisit"]}},
        {"policy": {"name": "no change"}},
    )]  # fmt: skip
    shadow = Shadow(5)
    with scratch(layout) as place:
        run = live_through(stage_of(layout), place / "a", days=2, beside=others, on_open=shadow.attach)
    assert len(shadow.lists) == sum(surface != "search" for surface in run.diary.surface)
    for told in shadow.lists:
        reached = [True] * len(told.others)
        for slot, row in enumerate(told.shown):
            mine = slice(told.odds.start[slot], told.odds.start[slot + 1])
            here = told.odds.rows[mine] == row
            assert told.odds.chance[mine][here].sum() == pytest.approx(told.propensity[slot])
            for n, (chance, rest) in enumerate(zip(told.others, told.elsewhere, strict=True)):
                # A distribution, unless the list has ended (-1) or the other policy would never have come here.
                if rest[slot] >= 0 and reached[n]:
                    assert chance[mine].sum() + rest[slot] == pytest.approx(1.0)
                reached[n] = reached[n] and chance[mine][here].sum() > 0
        assert np.allclose(told.others[2], told.odds.chance)
    expected = np.mean([told.truth[0, -1] for told in shadow.lists], axis=0)
    assert shadow.truth(0) == pytest.approx(expected)
    listed = np.array([surface != "search" for surface in run.diary.surface])
    assert shadow.truth(0)[0] == pytest.approx(run.diary.column("expected_clicks")[listed].mean())
    log, chances, rest = shadow.decisions(0, "clicks")
    assert len(log) == sum(len(told.shown) for told in shadow.lists)
    assert np.allclose(log.propensity, np.concatenate([told.propensity for told in shadow.lists]))
    assert np.allclose(np.bincount(log.decision, chances, len(log)) + rest, 1.0)


# ---------------------------------------------------------------------------------------------------- yesterday


def test_yesterday_answered_again(shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, page = tree(shop), tmp_path / "replay.html"
    path = change(tmp_path, NEIGHBOURS)
    with pytest.raises(SystemExit) as done:
        main(["replay", str(shop), "--change", str(path), "--html", str(page), "--json"])
    assert not done.value.code
    report = json.loads(capsys.readouterr().out)
    assert tree(shop) == before
    n = report["requests"]
    assert n > 100
    assert sum(report["histogram"]) == n
    assert sum(group["requests"] for group in report["by"]["surface"]) == n
    assert {group["group"] for group in report["by"]["surface"]} == {"home", "item"}
    for name in ("changed", "first", "overlap", "rbo"):
        weighed = sum(group["requests"] * group[name] for group in report["by"]["history"]) / n
        assert weighed == pytest.approx(report["all"][name])
    item = next(group for group in report["by"]["surface"] if group["group"] == "item")
    assert item["rbo"] == pytest.approx(1.0)  # the change is of home alone
    assert report["speed"]["stages"][-1]["stage"] == "in all"
    assert report["speed"]["cpu_ms"]["before"] > 0
    for example in report["examples"]:
        places = {slot["item_id"]: n for n, slot in enumerate(example["before"])}
        for n, slot in enumerate(example["after"]):
            if slot["moved"] is not None and slot["item_id"] in places:
                assert slot["moved"] == places[slot["item_id"]] - n
    assert report["all"]["changed"] > 0.5
    assert report["examples"]
    assert report["exposure"]["winners"]
    assert "<svg" in page.read_text()
    with pytest.raises(SystemExit):
        main(["replay", str(shop), "--change", str(path), "--requests", "20"])
    assert "For whom" in capsys.readouterr().out


def test_the_present_policy_is_no_change(shop: Path) -> None:
    report = replay(shop, Change.of({"policy": {"name": "same"}}), requests=30)
    assert report["all"]["changed"] == 0.0
    assert report["all"]["rbo"] == pytest.approx(1.0)
    assert report["exposure"]["moved_share"] == 0.0
    assert report["exposure"]["winners"] == report["examples"] == []


def test_a_replay_sees_the_past_and_not_the_future(shop: Path) -> None:
    """The list of a request is the one that a process gives that knows the events before it and no more."""
    from honeyguide.engines.tables.duckdb import DuckDBTables
    from honeyguide.flows.data import load
    from honeyguide.flows.simulation.arms import Arm
    from honeyguide.flows.simulation.replay import _asked, _at, _newest_day

    layout = Layout.open(shop)
    with DuckDBTables() as engine:
        data = load(layout, WorkspaceConfig.load(layout.config), engine)
    day = _newest_day(layout)
    clock = SimClock(day.start_us)
    arm = Arm("present", layout, clock)
    live = _at(arm, data, day.start_us, None)
    asked, _ = _asked(day, live, 10_000)
    events = data.interactions
    for request, row in asked[:: max(1, len(asked) // 15)]:
        clock.turn(row["at"])
        user = live.users.row(request.user_id)
        there = (events.user == data.users.row(request.user_id)) & (events.at < row["at"])
        assert live.online.history(user, 10_000, row["at"]).at.tolist() == events.at[there].tolist()


@pytest.mark.heavy
def test_a_change_of_what_a_build_is_made_of_is_built_on_a_copy(shop: Path) -> None:
    before = tree(shop)
    other = Change.of({"policy": {"sources": [{"use": "honeyguide.retrieval.covisit:RP3beta"}]}})
    layout = Layout.open(shop)
    assert Changed.of(other, layout).needs_build
    assert not Changed.of(Change.of({"policy": {"surfaces": {"home": {"candidates": 50}}}}), layout).needs_build
    replayed = replay(shop, other, requests=40)
    assert replayed["built_anew"]
    assert replayed["all"]["changed"] > 0.5
    simulated = simulate(shop, other, days=1, retrain_days=0.5)
    assert simulated["needs_build"]
    assert simulated["builds"] == {"present": 2, "test": 2, "changed": 1}  # with the policy beside
    same = Change.of({"policy": {"build": layout.current_build()}})
    assert replay(shop, same, requests=20)["all"]["changed"] == 0.0
    assert tree(shop) == before


# ----------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "something that changes"),
        ("[policy]\nsurface = 1\n", "'surface'"),
        ("[policy.surfaces.home]\nkindd = 'x'\n", "surfaces.home.kindd"),
        ("[policy.surfaces.home.slate.utility]\nweights = { clicks = 1.0 }\n", "'clicks'"),
        ("[policy.surfaces.home.slate.explore]\nepsilon = 2.0\n", "epsilon"),
        ("[policy]\nsources_off = ['als']\n", "'als'"),
        ("[policy]\nsources_off = 'als'\n", "sources_off"),
        ("[policy]\nconfig = 'nowhere.toml'\n", "nowhere.toml"),
        ("[policy]\nbuild = 'nothing'\n", "'nothing'"),
        ("[[world]]\nkind = 'earthquake'\n", "changes of the world"),
        ("[world]\nkind = 'taste'\n", "world"),
        ("unknown = 1\n", "unknown"),
        ("this is no TOML", "TOML"),
    ],
)
@pytest.mark.parametrize("command", ["simulate", "replay"])
def test_a_change_that_cannot_be_is_refused_in_one_sentence(
    shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, text: str, said: str
) -> None:
    with pytest.raises(SystemExit) as stop:
        main([command, str(shop), "--change", str(change(tmp_path, text))])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error
    assert "Expected" in error


def test_other_refusals(shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = change(tmp_path, NEIGHBOURS)
    with pytest.raises(ConfigError, match="nothing there"):
        Change.load(tmp_path / "no.toml")
    for days in (0.0, -1.0, 1e6):
        with pytest.raises(RequestError, match="days"):
            simulate(shop, path, days=days)
    with pytest.raises(RequestError, match="people"):
        simulate(shop, path, people=1)
    with pytest.raises(RequestError, match="builds"):
        simulate(shop, path, retrain_days=-1)
    with pytest.raises(RequestError, match="request"):
        replay(shop, path, requests=0)
    for arguments, said in (
        (["world", str(shop)], "workspace already"),
        (["world", str(tmp_path / "w"), "--people", "0"], "people"),
        (["world", str(tmp_path / "w"), "--items", "1"], "items"),
        (["world", str(tmp_path / "w"), "--days", "0"], "days"),
        (["world", str(tmp_path / "w"), "--seed", "-1"], "seed"),
        (["simulate", str(tmp_path / "none"), "--change", str(path)], "a workspace"),
        (["replay", str(tmp_path / "none"), "--change", str(path)], "a workspace"),
    ):
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert stop.value.code == 2
        assert said in capsys.readouterr().err
        assert not (tmp_path / "w").exists()


def test_without_a_build_or_impressions(shop: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(shop, bare)
    shutil.rmtree(bare / "tables" / "impressions")
    with pytest.raises(DataError, match="none yet: nothing was served"):
        replay(bare, change(tmp_path, NEIGHBOURS))
    (bare / "world.json").write_text("{}")
    with pytest.raises(Exception, match=r"world\.json"):
        simulate(bare, change(tmp_path, NEIGHBOURS))
    (bare / "builds" / "CURRENT").unlink()
    with pytest.raises(Exception, match="none yet"):
        simulate(bare, change(tmp_path, NEIGHBOURS))


def test_a_report_is_plain_data(shop: Path, tmp_path: Path) -> None:
    report = replay(shop, change(tmp_path, NEIGHBOURS), requests=10)
    assert msgspec.json.decode(msgspec.json.encode(report)) is not None
