"""Guardrails, formula, long-term heads, caps and fatigue in the product: configured, built, served, shown, erased."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from honeyguide.contracts import Interactions
from honeyguide.errors import ConfigError
from honeyguide.features.online import History
from honeyguide.flows import answer
from honeyguide.flows.build import build
from honeyguide.flows.keeping.forget import forget
from honeyguide.flows.long_term import early_outcomes, late_outcome, long_term_heads
from honeyguide.flows.operate import explain
from honeyguide.flows.showed import in_vain
from honeyguide.flows.utility_front import tune_utility
from honeyguide.flows.wiring import open_desk
from honeyguide.ranking.rows import Rows
from honeyguide.schema.wire import EventIn, EventsRequest, RecommendRequest, ResetRequest
from honeyguide.serving.deadline import Deadline
from honeyguide.slate.long_term import LongTermConfig, fit_index

DAY_US = 86_400_000_000
POLICY = """
[[long_term]]
name = "comes_back"
days = 14

[surfaces.home.slate.guardrails]
slots = 5
requests = 200
[[surfaces.home.slate.guardrails.keep]]
name = "love stories"
group = { column = "category", values = ["Romance"] }
at_least = 0.62
[[surfaces.home.slate.guardrails.keep]]
name = "dislikes"
head = "dislike"
at_most = "present"
"""


def configured(folder: Path) -> None:
    path = folder / "honeyguide.toml"
    text = path.read_text()
    at = text.index("[surfaces.home.slate.utility]")
    end = text.index("[", at + 5)
    utility = (
        '[surfaces.home.slate.utility]\nformula = "0.1 * like - 0.1 * dislike + 0.1 * comes_back"\nblend_weight = 1\n'
        "fatigue = { keep = 0.8, days = 30 }\n\n"
    )
    text = text[:at] + utility + text[end:]
    text = text.replace(
        "[surfaces.home.slate.rules]\n", "[surfaces.home.slate.rules]\nfrequency_cap = { times = 2, days = 30 }\n"
    )
    text = text.replace("mmr_lambda = 0.95", 'kind = "calibrated"\ncalibration_lambda = 0.8')
    path.write_text(text.replace("[surfaces.home]\n", POLICY.split("[surfaces")[0] + "[surfaces.home]\n", 1)
                    + "[surfaces" + POLICY.split("[surfaces", 1)[1])  # fmt: skip


@pytest.fixture(scope="module")
def guarded(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("guarded") / "shop"
    shutil.copytree(built, folder)
    configured(folder)
    build(folder)
    return folder


@pytest.mark.heavy
def test_what_is_configured_is_built_served_and_told(guarded: Path) -> None:
    told = explain(guarded)
    home = told["surfaces"]["home"]
    assert home["formula"] == "0.1 * like - 0.1 * dislike + 0.1 * comes_back"
    assert home["diversity_kind"] == "calibrated"
    assert {"like", "dislike", "comes_back"} <= {head["name"] for head in home["heads"]}
    love, dislikes = home["guardrails"]["guardrails"]
    assert home["guardrails"]["gap"] <= 1e-4
    assert love["met"]
    assert love["price"] > 0
    assert love["reached"] == pytest.approx(0.62, abs=1e-4)
    assert love["without"] < 0.62
    assert love["checked"]["estimate"] > love["checked_without"]["estimate"]
    assert dislikes["bound_from"].startswith("the policy in service")
    assert any("love stories" in line and "costs" in line for line in home["guardrails_say"])
    [late] = told["long_term"]
    assert late["on"], late["reason"]
    assert "cannot be tested" in late["surrogacy"]["says"]
    assert any(line.startswith("comes_back") and "surrogacy" in line for line in told["decisions"])


@pytest.mark.heavy
def test_a_level_of_today_stays_while_the_guardrail_does(guarded: Path, tmp_path: Path) -> None:
    folder = tmp_path / "again"
    shutil.copytree(guarded, folder)
    before = explain(folder)
    build(folder)
    after = explain(folder)
    of = [one["surfaces"]["home"]["guardrails"]["guardrails"][1]["bound"] for one in (before, after)]
    assert of[0] == of[1]
    build(folder)
    assert explain(folder)["build_id"] == after["build_id"]  # nothing changes any more


@pytest.mark.heavy
def test_caps_and_fatigue_follow_what_was_shown_and_forget_it(guarded: Path, tmp_path: Path) -> None:
    folder = tmp_path / "shown"
    shutil.copytree(guarded, folder)
    desk = open_desk(str(folder), watch=False)
    try:
        lists = []
        for number in range(4):
            answer = desk.recommend(RecommendRequest(user_id="p3", k=8))
            lists.append([item.item_id for item in answer.items])
            deadline = time.monotonic() + 30
            while desk._live.showed.showings._newest.get("p3", -1) < 8 * (number + 1) - 1:  # until the log has it
                desk._live.catch_up()
                assert time.monotonic() < deadline
                time.sleep(0.01)
        shown = [item for one in lists for item in one]
        assert max(shown.count(item) for item in shown) == 2
        assert desk.recommend(RecommendRequest(user_id="p3", k=8, log=False)).dropped["frequency_cap"] >= 8
        assert "frequency_cap" not in desk.recommend(RecommendRequest(user_id="p4", k=8, log=False)).dropped
        assert desk._live.erase("p3") >= 0
        assert "p3" not in desk._live.showed.showings.people
    finally:
        desk.close()
    again = open_desk(str(folder), watch=False)  # a new process reads the same log
    try:
        assert again.recommend(RecommendRequest(user_id="p3", k=8, log=False)).dropped["frequency_cap"] >= 8
    finally:
        again.close()
    forget(folder, "p3", rebuild=True)
    gone = open_desk(str(folder), watch=False)
    try:
        assert "p3" not in gone._live.showed.showings.people
    finally:
        gone.close()


@pytest.mark.heavy
def test_the_front_and_the_tuned_weights(guarded: Path, tmp_path: Path) -> None:
    folder = tmp_path / "tuned"
    shutil.copytree(guarded, folder)
    objectives = ["liked=like", "quiet=0 - dislike"]
    report = tune_utility(folder, objectives=objectives, goal="like - dislike", requests=120, trials=8, points=5)
    front = [row for row in report["front"] if row["on_front"]]
    assert front
    best = max(row["values"]["liked"]["estimate"] for row in report["front"])
    corner = next(row for row in report["front"] if row["weights"] and row["weights"]["liked"] == 1.0)
    assert corner["values"]["liked"]["estimate"] == pytest.approx(best)
    assert all(v["low"] <= v["estimate"] <= v["high"] for row in front for v in row["values"].values())
    assert report["tuned"]["difference"]["low"] <= report["tuned"]["difference"]["high"]
    page = Path(report["path"]).read_text()
    assert "<svg" in page
    assert "http" not in page.replace("http-equiv", "")
    assert json.loads(Path(report["path"]).with_suffix(".json").read_text())["objectives"] == ["liked", "quiet"]
    with pytest.raises(ConfigError, match="calibrated heads"):
        tune_utility(folder, goal="watch", requests=120, trials=4)
    with pytest.raises(ConfigError, match="NAME=FORMULA"):
        tune_utility(folder, objectives=["like"], requests=120, trials=4)


@pytest.mark.heavy
def test_guardrails_that_cannot_be_met_are_named(built: Path, tmp_path: Path) -> None:
    folder = tmp_path / "torn"
    shutil.copytree(built, folder)
    path = folder / "honeyguide.toml"
    torn = """
[surfaces.home.slate.guardrails]
requests = 60
on_conflict = "refuse"
keep = [
  { name = "action", group = { column = "category", values = ["Action"] }, at_least = 0.8 },
  { name = "romance", group = { column = "category", values = ["Romance"] }, at_least = 0.7 },
]
"""
    path.write_text(path.read_text() + torn)
    with pytest.raises(Exception, match=r"'action'.*'romance'|short by"):
        build(folder)
    path.write_text(path.read_text().replace('"refuse"', '"relax"'))
    said = build(folder)["decisions"]
    assert any("CANNOT BE MET" in line and "short by" in line for line in said)


# ------------------------------------------------------------------------------------------------------ long term


def log_of(rng: np.random.Generator, people: int = 300, days: int = 60) -> Interactions:
    """Every day some people come; who stays long on a day comes back within two weeks."""
    user, at = [], []
    for person in range(people):
        day = int(rng.integers(0, 20))
        while day < days:
            clicks = int(rng.integers(1, 8))
            user += [person] * clicks
            at += [day * DAY_US + int(rng.integers(0, DAY_US // 2)) for _ in range(clicks)]
            day += int(rng.integers(3, 12)) if clicks > 3 else 40
    order = np.argsort(at, kind="stable")
    n = len(at)
    return Interactions(
        np.array(user, np.int32)[order], rng.integers(0, 30, n).astype(np.int32), np.zeros(n, np.int16),
        np.ones(n, np.float32), np.ones(n, np.float32), np.array(at, np.int64)[order], people, 30, ("click",),
    )  # fmt: skip


def test_early_and_late_outcomes_are_those_of_plain_loops() -> None:
    full = log_of(np.random.default_rng(1), people=40)
    rng = np.random.default_rng(2)
    user, at = rng.integers(0, 40, 60).astype(np.int32), rng.integers(0, 60 * DAY_US, 60)
    early = early_outcomes(full, user, at, 24)
    back = late_outcome(full, LongTermConfig(name="b", days=14), user, at)
    value = late_outcome(full, LongTermConfig(name="v", outcome="value", days=14, action="click"), user, at)
    for i in range(60):
        mine = full.at[full.user == user[i]]
        within = (mine >= at[i]) & (mine <= at[i] + DAY_US)
        later = (mine > at[i] + DAY_US) & (mine <= at[i] + 14 * DAY_US)
        assert early[i, 0] == within.sum() == early[i, 1]
        assert early[i, -1] == (mine < at[i]).sum()
        assert back[i] == later.any()
        assert value[i] == later.sum()


def test_the_index_finds_what_early_outcomes_say_and_leaves_the_young_out() -> None:
    full = log_of(np.random.default_rng(3))
    config = LongTermConfig(name="comes_back", days=14)
    until = int(full.at[-1])
    rng = np.random.default_rng(4)
    rows = rng.choice(len(full), 1_500, replace=False)
    features = rng.normal(size=(1_500, 3)).astype(np.float32)
    made = Rows(
        features, np.ones((1_500, 1), np.float32), full.at[rows], np.full(1_500, -1, np.int64),
        full.user[rows].astype(np.int64), user=full.user[rows], item=full.item[rows],
    )  # fmt: skip
    [head], [told] = long_term_heads([config], made, ("a", "b", "c"), full, None, 0)
    assert head.report.on, told
    assert told["index"]["explained"] > 0.3
    assert abs(told["index"]["gap"]) < 0.06
    assert told["moments"]["old_enough"] == int((full.at + 14 * DAY_US <= until + 1).sum())
    assert told["surrogacy"]["tested"]
    assert not told["surrogacy"]["randomised"]
    [young], [why] = long_term_heads([LongTermConfig(name="x", days=90)], made, ("a", "b", "c"), full, None, 0)
    assert not young.report.on
    assert "older than 90 days" in why["reason"]


def test_an_index_needs_people_who_differ() -> None:
    rng = np.random.default_rng(0)
    early, unit = rng.random((500, 2)), np.arange(500)
    config = LongTermConfig(name="b")
    assert "nearly all alike" in str(fit_index(config, early, np.ones(500), unit))
    assert "brought anything" in str(fit_index(LongTermConfig(name="v", outcome="value"), early, np.zeros(500), unit))
    assert "varies" in str(fit_index(config, np.ones((500, 2)), (rng.random(500) < 0.5).astype(float), unit))


def test_only_showings_after_the_last_reaction_are_in_vain() -> None:
    past = History(
        np.array([5, 7], np.int32), np.ones(2, np.float32), np.ones(2, np.float32), np.zeros(2, np.int16),
        np.array([100, 300], np.int64),
    )  # fmt: skip
    rows, at = np.array([7, 5, 5, 9, 9, 7], np.int32), np.array([400, 350, 80, 60, 20, 200], np.int64)
    items, times = in_vain(rows, at, 50, past)
    assert dict(zip(items.tolist(), times.tolist(), strict=True)) == {5: 1, 7: 1, 9: 1}


def test_who_begins_anew_is_capped_by_nothing_shown_before(guarded: Path, tmp_path: Path) -> None:
    folder = tmp_path / "anew"
    shutil.copytree(guarded, folder)
    asked = RecommendRequest(user_id="p3", k=8, log=False)
    desk = open_desk(str(folder), watch=False)
    try:
        for number in range(4):
            desk.recommend(RecommendRequest(user_id="p3", k=8))
            deadline = time.monotonic() + 30
            while desk._live.showed.showings._newest.get("p3", -1) < 8 * (number + 1) - 1:
                desk._live.catch_up()
                assert time.monotonic() < deadline
                time.sleep(0.01)
        assert desk.recommend(asked).dropped["frequency_cap"] >= 8
        desk.reset(ResetRequest("p3")).result(10)
        assert "frequency_cap" not in desk.recommend(asked).dropped
    finally:
        desk.close()
    again = open_desk(str(folder), watch=False)  # the logs are read anew: showings and resets in two of them
    try:
        assert "frequency_cap" not in again.recommend(asked).dropped
    finally:
        again.close()
    build(folder)
    after = open_desk(str(folder), watch=False)  # now both are in tables
    try:
        assert "frequency_cap" not in after.recommend(asked).dropped
    finally:
        after.close()


def test_less_like_this_counts_with_a_formula_and_what_it_holds_against_an_item_stays(
    guarded: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "less"
    shutil.copytree(guarded, folder)
    desk = open_desk(str(folder), watch=False)
    try:
        live = desk._live
        surface = live.surfaces["home"]
        asked = RecommendRequest(user_id="p4", k=60, log=False, request_id="same")
        before = [item.item_id for item in desk.recommend(asked).items]
        desk.record(EventsRequest([EventIn("p4", before[0], "less_like_this")])).result(10)
        after = [item.item_id for item in desk.recommend(asked).items]
        assert before[0] not in after[:10]
        ask = answer.resolve(live, surface, asked)
        pool = answer.retrieve(live, surface, ask)
        scores = answer.rank(live, surface, ask, pool, Deadline(60_000))
        assert surface.composers.of(ask.kind).added.against(pool.items[0], scores, ask.now_us) == {"dislike"}
        _, lowered = answer.wanted(live, surface, ask, pool, scores)
        names = list(live.pipeline.heads)
        assert np.array_equal(lowered[:, names.index("dislike")], scores[:, names.index("dislike")], equal_nan=True)
        assert (lowered[:, names.index("like")] < scores[:, names.index("like")]).any()
    finally:
        desk.close()
