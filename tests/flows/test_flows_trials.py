"""Builds on trial: a shadow that nobody sees, a canary that steps back, and a new build that must be no worse."""

from __future__ import annotations

import datetime as dt
import json
import math
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from honeyguide.flows import registry
from honeyguide.flows.build import build
from honeyguide.flows.canary import Bet, Canary, Side
from honeyguide.flows.config import CanaryConfig
from honeyguide.flows.layout import Layout
from honeyguide.flows.live import Live
from honeyguide.flows.operate import server
from honeyguide.flows.retrain import retrain
from honeyguide.flows.shadow import Frame
from honeyguide.flows.shadow_report import shadow_report
from honeyguide.flows.shadow_tally import Moments, SurfaceTally, Tally, bucket, quantile
from honeyguide.flows.shadow_worker import Scorer
from honeyguide.flows.wiring import Desk, open_desk
from honeyguide.schema.wire import EventIn, EventsRequest, RecommendRequest

Run = Callable[..., tuple[int, str, str]]


def again(layout: Layout, name: str, **changed: Any) -> str:
    """Another build with the artifacts of the one in service, and another configuration if you like."""
    current = layout.current_build()
    manifest = json.loads(layout.manifest(current).read_text())
    made = f"{current[:18]}-{name}"
    manifest["config"]["surfaces"]["home"].update(changed)
    manifest |= {"build_id": made, "parent": current}
    (layout.builds / f"{made}.json").write_text(json.dumps(manifest))
    return made


def until(true: Callable[[], Any], seconds: float = 60.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.05)
    return found


# ------------------------------------------------------------------------------------------------ shadow


def frame_of(desk: Desk, n: int, dropped: int = 0) -> Frame:
    request = RecommendRequest(user_id=f"p{n}", k=10, log=False, request_id=f"r{n}")
    answered = desk.recommend(request)
    return Frame(
        request, answered.request_id, desk._live.now_us(), answered.build_id, [i.item_id for i in answered.items],
        [i.heads for i in answered.items], sum(answered.stage_us.values()), answered.fallback, dropped,
    )  # fmt: skip


def test_a_shadow_that_is_the_same_build_says_the_same(shop: Path) -> None:
    layout = Layout.open(shop)
    twin = again(layout, "zzzzzzzs")
    with closing(open_desk(str(shop), watch=False)) as desk:
        scorer = Scorer(layout, twin, desk._log)
        for n in range(30):
            scorer.score(frame_of(desk, n, dropped=n // 10))
        scorer.write()
    report = shadow_report(layout, twin)
    home = report["surfaces"]["home"]
    assert (report["scored"], report["dropped"], report["failed"]) == (30, 2, 0)
    assert (home["same_list"], home["overlap_at_10"]["mean"], home["moved"]["mean"]) == (1.0, 1.0, 0.0)
    assert all(one["absolute"] == 0 for one in home["heads"].values())
    named = "".join(path.read_text() for path in (layout.models / "shadow").rglob("*.json"))
    assert not any(f'"{word}{n}"' in named for n in range(150) for word in "pfr")  # no person, item or request


def test_a_shadow_that_fails_is_counted(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = Layout.open(shop)
    twin = again(layout, "zzzzzzzf")
    with closing(open_desk(str(shop), watch=False)) as desk:
        scorer = Scorer(layout, twin, desk._log)
        frame = frame_of(desk, 1)
        monkeypatch.setattr(scorer._live, "surfaces", {})
        scorer.score(frame)
        scorer.write()
    assert shadow_report(layout, twin)["failed"] == 1


@pytest.mark.heavy
def test_a_server_feeds_its_shadow_and_follows_the_registry(shop: Path) -> None:
    import httpx

    layout = Layout.open(shop)
    twin = again(layout, "zzzzzzzt", candidates=30)
    registry.assign(layout, "shadow", twin, 1.0)
    with server(shop, port=0) as api, httpx.Client(base_url=api.url, trust_env=False, timeout=30) as client:

        def asked() -> bool:
            for n in range(10):
                client.post("/v1/recommend", json={"user_id": f"p{n}", "k": 10})
            return shadow_report(layout)["scored"] >= 20

        until(asked, 120)
        report = client.get("/v1/models").json()["shadow"]
        assert report["shadow"] == twin
        assert report["surfaces"]["home"]["overlap_at_10"]["mean"] > 0.2
        registry.withdraw(layout, "shadow")
        until(lambda: "honeyguide_shadow_waiting 0" in client.get("/metrics").text)
    assert not registry.given(layout)


@given(st.lists(st.tuples(st.lists(st.integers(0, 12), unique=True, max_size=12), st.floats(1, 1e6)), max_size=6))
def test_tallies_add_up(lists: list[tuple[list[int], float]]) -> None:
    def side(items: list[int], us: float) -> dict[str, Any]:
        return {
            "items": [str(i) for i in items],
            "heads": [{"like": i / 20} for i in items],
            "us": us,
            "fallback": None,
        }

    whole, parts = SurfaceTally(), [SurfaceTally(), SurfaceTally()]
    for n, (items, us) in enumerate(lists):
        served, shadow = side(items, us), side(items[::-1], us)
        whole.add(served, shadow)
        parts[n % 2].add(served, shadow)
    both = parts[0].plus(parts[1])
    told, other = both.told(), whole.told()
    for key in ("n", "same_list", "same_first", "latency_ms", "fallbacks"):
        assert told[key] == other[key]
    for key in ("overlap_at_10", "moved"):
        assert told[key] == pytest.approx(other[key])
    assert set(told["heads"]) == set(other["heads"])
    assert Tally("a", "b", 1, 2, 3).plus(Tally("a", "b", 10, 20, 30)) == Tally("a", "b", 11, 22, 33)


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=40))
def test_moments_are_numpys(values: list[float]) -> None:
    moments = Moments()
    for value in values:
        moments.add(value)
    told = moments.told()
    assert told["mean"] == pytest.approx(np.mean(values), abs=1e-9)
    half = 1.959964 * np.std(values, ddof=1) / math.sqrt(len(values))
    assert told["high"] - told["mean"] == pytest.approx(half, abs=1e-6)


@given(st.lists(st.floats(20, 1e6), min_size=1, max_size=200), st.floats(0.01, 0.99))
def test_a_quantile_is_within_its_bucket(times: list[float], q: float) -> None:
    counts = [0] * 100
    for us in times:
        counts[bucket(us)] += 1
    truth = float(np.quantile(times, q, method="inverted_cdf"))
    assert truth / 1.16 <= quantile(counts, q) <= truth * 1.16


# ------------------------------------------------------------------------------------------------ canary


def test_a_bet_is_seldom_won_by_chance_and_soon_by_harm() -> None:
    rng = np.random.default_rng(11)
    share, false, found_after = 0.1, 0, []
    for _ in range(400):
        bet = Bet()
        units = rng.random(400) < share
        if any((bet.add(bool(mine), share), bet.value >= 100)[1] for mine in units):
            false += 1
    assert false / 400 <= 0.02  # 1 % is promised, looking after every unit
    for _ in range(50):
        bet = Bet()
        for n, mine in enumerate(rng.random(4_000) < 0.3):  # three times its share
            bet.add(bool(mine), share)
            if bet.value >= 100:
                found_after.append(n)
                break
    assert len(found_after) == 50
    assert np.median(found_after) < 120


def small_canary(shop: Path, **config: Any) -> tuple[Desk, Canary]:
    layout = Layout.open(shop)
    twin = again(layout, "zzzzzzzc")
    desk = open_desk(str(shop), watch=False)
    return desk, Canary(Live(layout, desk._log, build_id=twin), 0.3, CanaryConfig(**config))


def test_who_sees_the_canary_always_does_and_is_its_share(shop: Path) -> None:
    desk, canary = small_canary(shop)
    people = [f"someone{n}" for n in range(4_000)]
    taken = [canary.takes(person) for person in people]
    assert [canary.takes(person) for person in people] == taken
    assert np.mean(taken) == pytest.approx(0.3, abs=0.03)
    for person in ("p1", "p2", "p3", "p4", "p5", "p6"):
        answered = canary.recommend(desk._live, RecommendRequest(user_id=person, k=5))
        assert answered.build_id == (canary.build_id if canary.takes(person) else desk._live.build_id)
        assert answered.policy_version.startswith(answered.build_id)
    assert canary.recommend(desk._live, RecommendRequest(k=5)).build_id == desk._live.build_id
    desk.close()


def test_a_canary_that_raises_answers_nobody_badly_and_steps_back(shop: Path) -> None:
    desk, canary = small_canary(shop)
    canary.live.surfaces = None  # type: ignore[assignment]
    n = 0
    while not canary.hurts():
        answered = canary.recommend(desk._live, RecommendRequest(user_id=f"p{n % 150}", k=5))
        assert answered.items
        assert answered.build_id == desk._live.build_id
        n += 1
        assert n < 500
    assert "failed" in canary.hurts()
    desk.close()


def test_a_canary_that_is_slow_or_unwelcome_steps_back(shop: Path) -> None:
    desk, canary = small_canary(shop, least_requests=50)
    rng = np.random.default_rng(2)
    sides = (Side(), Side())
    for _ in range(100):
        sides[0].add(float(rng.lognormal(6, 0.3)), False)
        sides[1].add(float(rng.lognormal(6.05, 0.3)), False)
    canary.sides = sides
    assert canary.hurts() == ""
    for _ in range(300):
        sides[1].add(float(rng.lognormal(7, 0.3)), False)
    assert "times as long" in canary.hurts()
    desk.close()
    desk, canary = small_canary(shop)
    canary.build_id = "the same in each run"  # it decides who is in the share
    people = [f"someone{n}" for n in range(3_000)]
    even = [person for person in people if rng.random() < 0.05]
    canary.record([EventIn(person, "f1", "hide") for person in even])
    assert canary.hurts() == ""
    for person in [one for one in people if canary.takes(one)][:120]:
        canary.record([EventIn(person, "f2", "hide")] * 3)  # each counts once
    assert "'hide'" in canary.hurts()
    desk.close()


def test_the_registry_hears_of_a_step_back_and_the_desk_goes_on(shop: Path) -> None:
    layout = Layout.open(shop)
    twin = again(layout, "zzzzzzzd")
    registry.assign(layout, "canary", twin, 0.5)
    with closing(open_desk(str(shop))) as desk:
        beside = desk._beside
        assert beside is not None
        canary = beside.canary
        assert canary is not None
        seen = {desk.recommend(RecommendRequest(user_id=f"p{n}", k=5)).build_id for n in range(30)}
        assert seen == {twin, layout.current_build()}
        mine = [f"q{n}" for n in range(4_000) if canary.takes(f"q{n}")][:40]
        desk.record(EventsRequest([EventIn(person, "f1", "hide") for person in mine])).result(10)
        assert beside.canary is None
        assert desk.gauges()["canary_stepped_back"] == 1.0
        desk._look()
        assert beside.canary is None
        assert not registry.given(layout)
        assert {desk.recommend(RecommendRequest(user_id=f"p{n}", k=5)).build_id for n in range(30)} == {
            layout.current_build()
        }
    last = registry.record(layout, twin)["moves"][-1]
    assert (last["was"], last["now"]) == ("canary", "built")
    assert "stepped back" in last["why"]


# ------------------------------------------------------------------------------------------------ retraining


def more_events(shop: Path, n: int, *, swapped: bool) -> None:
    """People go on after the log's end; swapped: each of them likes what the others liked."""
    rng = np.random.default_rng(8)
    with closing(open_desk(str(shop), watch=False)) as desk:
        live = desk._live
        items, users = live.catalog.items, [f"p{i}" for i in range(150)]
        half = len(items) // 2
        last = dt.datetime.fromisoformat(live.manifest.data["last"]).timestamp() + 2
        step = (live.now_us() / 1e6 + 280 - last) / n  # a clock may be five minutes ahead
        batch = []
        for at in range(n):
            user = users[int(rng.integers(150))]
            past = live.online.history(live.users.row(user), 50, live.now_us()).items
            names = [int(items.id(int(row))[1:]) for row in past]
            side = int(np.mean([name >= half for name in names]) > 0.5) if names else 0
            side = 1 - side if swapped else side
            film = side * half + min(int(rng.exponential(half / 4)), half - 1)
            batch.append(
                EventIn(user, f"f{film}", "rating", value=float(rng.integers(3, 6)), happened_at=last + at * step)
            )
        answer = desk.record(EventsRequest(batch)).result(30)
        assert not answer.refused


def test_nothing_to_do_is_said_and_done(run: Run, shop: Path) -> None:
    code, out, _ = run("retrain", shop, "--if-needed", "--json")
    report = json.loads(out)
    assert code == 0
    assert report["needed"] is False
    assert report["build_id"] is None
    assert {one["kind"] for one in report["reasons"]} == {"age", "events", "drift"}
    code, out, _ = run("retrain", shop, "--dry-run")
    assert code == 0
    assert "No retraining is needed" in out


def test_age_calls_and_too_little_to_compare_on_leaves_it_built(run: Run, shop: Path) -> None:
    layout = Layout.open(shop)
    path = layout.manifest(layout.current_build())
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps(manifest | {"made_at": "2020-01-01T00:00:00+00:00"}))
    more_events(shop, 40, swapped=False)
    current = layout.current_build()
    code, out, _ = run("retrain", shop, "--if-needed", "--json")
    report = json.loads(out)
    assert code == 3
    assert report["needed"] is True
    assert "too few to compare on" in report["verdict"]
    assert layout.current_build() == current
    assert next(line for line in registry.listing(layout) if line["build"] == report["build_id"])["state"] == "built"


def test_people_who_change_are_drift_and_the_new_build_is_promoted(shop: Path) -> None:
    layout = Layout.open(shop)
    current = layout.current_build()
    with (layout.config).open("a") as file:
        file.write("\n[retrain]\nevery_days = 0\nleast_importance = 0.0\nleast_events = 300\n")
    more_events(shop, 2_500, swapped=True)
    report = retrain(shop, if_needed=True)
    moved = next(one for one in report["reasons"] if one["kind"] == "features")
    assert moved["calls"]
    assert moved["drift"][0]["psi"] > 0.25
    assert report["comparison"]["gain"] > 0
    assert report["promoted"]
    assert layout.current_build() == report["build_id"] != current
    assert "not worse" in registry.record(layout)["moves"][-1]["why"]
    told = retrain(shop, if_needed=True)
    assert told["build_id"] is None


def test_what_may_be_worse_is_not_promoted(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import honeyguide.flows.retrain as module

    layout = Layout.open(shop)
    current = layout.current_build()
    with (layout.config).open("a") as file:
        file.write("\n[retrain]\nleast_events = 300\n")
    more_events(shop, 800, swapped=False)
    worse = module._lists

    made: list[int] = []

    def lists(pipeline: Any, *given_: Any) -> Any:
        found = worse(pipeline, *given_)
        made.append(1)
        return np.full_like(found, -1) if len(made) == 1 else found  # the new one finds nothing

    monkeypatch.setattr(module, "_lists", lists)
    report = retrain(shop)
    assert report["build_id"] not in (None, current)
    assert not report["promoted"]
    assert report["comparison"]["high"] < 0
    assert layout.current_build() == current


def test_a_build_made_beside_is_not_served(shop: Path) -> None:
    layout = Layout.open(shop)
    current = layout.current_build()
    more_events(shop, 60, swapped=False)
    made = build(shop, serve=False)["build_id"]
    assert made != current
    assert layout.current_build() == current
    assert registry.record(layout, made)["parent"] == current
    assert made in registry.record(layout, current)["children"]
