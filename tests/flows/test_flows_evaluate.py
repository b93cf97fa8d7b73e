"""`honeyguide evaluate` on the small world, an oracle for one of its figures, and builds of awkward data."""

from __future__ import annotations

import json
import math
import shutil
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import honeyguide as hg
from honeyguide.contracts import Progress
from honeyguide.engines.log.sqlite import SqliteLog
from honeyguide.errors import HoneyguideError
from honeyguide.evaluation import protocols
from honeyguide.flows import evaluate as flow
from honeyguide.flows.build import build
from honeyguide.flows.create import create
from honeyguide.flows.evaluate import BASELINES, METRICS, evaluate
from honeyguide.flows.layout import Layout
from honeyguide.flows.wiring import open_desk
from honeyguide.schema.wire import EventIn, EventsRequest, RecommendRequest

SEGMENTS = {"all", "new person", "old person", "head item", "tail item"}


@pytest.fixture(scope="module")
def judged(built: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A workspace and its evaluation."""
    folder = tmp_path_factory.mktemp("judged") / "shop"
    shutil.copytree(built, folder)
    return folder, evaluate(folder)


def figure(report: dict[str, Any], system: str, protocol: str, metric: str, segment: str = "all") -> dict[str, Any]:
    [row] = [
        row
        for row in report["rows"]
        if (row["system"], row["protocol"], row["metric"], row["segment"]) == (system, protocol, metric, segment)
    ]
    return row


def rows_of(folder: Path) -> list[dict[str, Any]]:
    with hg.Workspace(folder) as workspace:
        return workspace.table("events").to_pylist()


# ------------------------------------------------------------------------------------------------------ the report


@pytest.mark.heavy
def test_the_report_has_both_protocols_every_system_and_every_segment(judged: tuple[Path, dict[str, Any]]) -> None:
    folder, report = judged
    systems = {"home", *BASELINES}
    for protocol in ("global", "next_item"):
        mine = [row for row in report["rows"] if row["protocol"] == protocol]
        assert {row["system"] for row in mine} == systems
        assert {row["metric"] for row in mine} == {metric.name for metric in METRICS}
        segments = {row["segment"] for row in mine}
        assert SEGMENTS - {"new person"} <= segments <= SEGMENTS  # nobody is new in this world's last tenth
        keys = [(row["system"], row["metric"], row["segment"]) for row in mine]
        assert len(keys) == len(set(keys))
    assert {(row["system"], row["baseline"]) for row in report["differences"]} == {("home", name) for name in BASELINES}
    assert json.loads((folder / "reports" / "evaluation.json").read_text()) == report
    assert set(report["headline_metrics"]) <= {row["metric"] for row in report["rows"]}
    with hg.Workspace(folder) as workspace:
        told = workspace.sql(
            "select system, metric, estimate from judged where segment = 'all' and protocol = 'global'"
        )
        assert told.num_rows == 3 * len(METRICS)


@pytest.mark.heavy
def test_every_figure_lies_in_its_range_and_its_interval(judged: tuple[Path, dict[str, Any]]) -> None:
    _, report = judged
    for row in report["rows"]:
        if row["metric"].startswith("Novelty"):
            assert 0 <= row["estimate"] < 20
        else:
            assert 0 <= row["estimate"] <= 1, row
        if row["metric"].startswith("Coverage"):
            assert row["low"] is row["high"] is None
        else:
            assert row["low"] <= row["estimate"] <= row["high"]
    for row in report["differences"]:
        assert -1 <= row["low"] <= row["estimate"] <= row["high"] <= 20
        of = {
            name: figure(report, name, row["protocol"], row["metric"], row["segment"])["estimate"]
            for name in (row["system"], row["baseline"])
        }
        # The same people on both sides, so the difference of the means is the mean of the differences.
        assert row["estimate"] == pytest.approx(of[row["system"]] - of[row["baseline"]], abs=1e-9)


@pytest.mark.heavy
def test_n_counts_people(judged: tuple[Path, dict[str, Any]]) -> None:
    folder, report = judged
    events = rows_of(folder)
    cut = sorted(event["happened_at"] for event in events)[int(len(events) * (0.8 + 0.1))]
    before, after = defaultdict(set), defaultdict(set)
    for event in events:
        (after if event["happened_at"] >= cut else before)[event["user_id"]].add(event["item_id"])
    asked = {user for user, items in after.items() if items - before[user]}
    assert figure(report, "home", "global", "nDCG@10")["n"] == len(asked)
    old = {user for user in asked if before[user]}
    assert figure(report, "home", "global", "nDCG@10", "old person")["n"] == len(old)
    several = {user for user, count in Counter(event["user_id"] for event in events).items() if count >= 3}
    assert figure(report, "home", "next_item", "HitRate@10")["n"] == len(several)


@pytest.mark.heavy
def test_popularity_rebuilt_by_hand_has_the_reported_ndcg(judged: tuple[Path, dict[str, Any]]) -> None:
    """Plain loops over the table: a cut at nine tenths, the reported window, what a person had is left out."""
    folder, report = judged
    events = rows_of(folder)  # in the order of time
    with hg.Workspace(folder) as workspace:
        catalog = workspace.table("items")["item_id"].to_pylist()
    cut = events[int(len(events) * (0.8 + 0.1))]["happened_at"]
    [said] = [note for note in report["notes"] if note.startswith("global: the popularity baseline")]
    days = 0.0 if "all time" in said else float(said.split(" is ")[1].removesuffix(" days."))
    before = [event for event in events if event["happened_at"] < cut]
    last = before[-1]["happened_at"]
    counts: Counter[str] = Counter()
    had = defaultdict(set)
    for event in before:
        had[event["user_id"]].add(event["item_id"])
        if not days or (last - event["happened_at"]).total_seconds() <= days * 86_400:
            counts[event["item_id"]] += 1
    order = sorted(catalog, key=lambda item: (-counts[item], catalog.index(item)))
    wanted = defaultdict(set)
    for event in events:
        if event["happened_at"] >= cut and event["item_id"] not in had[event["user_id"]]:
            wanted[event["user_id"]].add(event["item_id"])
    values = []
    for user, right in wanted.items():
        shown = [item for item in order if item not in had[user]][:10]
        gain = sum(1 / math.log2(place + 2) for place, item in enumerate(shown) if item in right)
        values.append(gain / sum(1 / math.log2(place + 2) for place in range(min(10, len(right)))))
    assert figure(report, "popular", "global", "nDCG@10")["estimate"] == pytest.approx(np.mean(values), abs=1e-6)


@pytest.mark.heavy
def test_it_can_tell_taste_from_popularity(judged: tuple[Path, dict[str, Any]]) -> None:
    _, report = judged
    for protocol in ("global", "next_item"):
        home, popular = (figure(report, name, protocol, "nDCG@10")["estimate"] for name in ("home", "popular"))
        assert home > popular


@pytest.mark.heavy
def test_no_list_holds_what_the_person_has_had(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks over the shoulder of the judge: the real lists of every system, on both protocols."""
    looked: Counter[tuple[str, str]] = Counter()
    judge = flow.judge_systems

    def watched(trial: Any, systems: Mapping[str, protocols.Recommender], *args: Any, **given: Any) -> pa.Table:
        def checked(name: str, system: protocols.Recommender) -> protocols.Recommender:
            def ask(queries: Any, k: int) -> Any:
                found = system(queries, k)
                for n in range(len(queries)):
                    listed = found[n][found[n] >= 0].tolist()
                    assert len(listed) == len(set(listed))
                    assert not set(listed) & set(queries.items[queries.indptr[n] : queries.indptr[n + 1]].tolist())
                    looked[trial.protocol, name] += 1
                return found

            return ask

        return judge(trial, {name: checked(name, one) for name, one in systems.items()}, *args, **given)

    monkeypatch.setattr(flow, "judge_systems", watched)
    report = evaluate(shop)
    for (protocol, system), count in looked.items():
        assert count == figure(report, system, protocol, "nDCG@10")["n"]
    assert len(looked) == 6


@pytest.mark.heavy
def test_two_runs_from_nothing_are_equal_and_a_cached_one_is_quick(
    judged: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    folder, report = judged
    shutil.copytree(folder, tmp_path / "shop")
    made: list[str] = []
    notice: Progress = lambda what, done, total: made.append(what) if done == total else None  # noqa: E731
    cached = evaluate(tmp_path / "shop", progress=notice)
    assert not [what for what in made if what.startswith("asking")]  # nobody was asked again
    assert {**cached, "made_at": None} == {**report, "made_at": None}
    shutil.rmtree(tmp_path / "shop" / "artifacts")
    (tmp_path / "shop" / "artifacts").mkdir()
    made.clear()
    again = evaluate(tmp_path / "shop", progress=notice)
    assert [what for what in made if what.startswith("asking")]
    assert again["rows"] == report["rows"]
    assert again["differences"] == report["differences"]


@pytest.mark.heavy
def test_after_a_change_the_last_build_is_a_baseline(judged: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    folder, first = judged
    shop = tmp_path / "shop"
    shutil.copytree(folder, shop)
    assert any("no earlier build" in note for note in first["notes"])
    text = (shop / "honeyguide.toml").read_text()
    changed = text.replace("half_life_days = [3.0,", "half_life_days = [4.0,").replace(
        "candidates = 300", "candidates = 60"
    )
    assert changed != text
    (shop / "honeyguide.toml").write_text(changed)
    build(shop)
    report = evaluate(shop)
    assert not any("no earlier build" in note for note in report["notes"])
    for protocol in ("global", "next_item"):
        then = figure(report, "last build", protocol, "nDCG@10")
        assert then == {**figure(first, "home", protocol, "nDCG@10"), "system": "last build"}
    against = {row["baseline"] for row in report["differences"]}
    assert against == {"last build", *BASELINES}


# ---------------------------------------------------------------------------------------------- awkward data


def config_of(folder: Path, *changes: tuple[str, str]) -> None:
    text = (folder / "honeyguide.toml").read_text()
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    (folder / "honeyguide.toml").write_text(text)


@pytest.mark.heavy
def test_a_source_too_small_for_the_catalog_is_left_out_and_said(shop: Path) -> None:
    use = 'use = "honeyguide.retrieval.factors:EASE"'
    config_of(shop, (use, f"{use}\nconfig = {{ max_items = 10 }}"))
    report = build(shop)
    [said] = [line for line in report["decisions"] if "left out" in line]
    assert said.startswith("ease left out: ")
    assert "10" in said
    with hg.Workspace(shop) as workspace:
        for slate in (
            workspace.recommend(user="p1", k=5),
            workspace.recommend(surface="item", item="f3", k=5),
            workspace.recommend(surface="board", board=["f3", "f4"], k=5),
        ):
            assert len(slate) == 5
            assert slate.answer.fallback is None
            assert not any("ease" in item.sources for item in slate.items)
    assert {row["system"] for row in evaluate(shop)["rows"]} >= {"home", *BASELINES}


@pytest.mark.heavy
def test_events_alone_build_and_answer(
    film_files: dict[str, Path], tmp_path: Path, unhurried: Callable[[Path], None]
) -> None:
    create(tmp_path / "w", events=film_files["events"])
    unhurried(tmp_path / "w")
    build(tmp_path / "w")
    with hg.Workspace(tmp_path / "w") as workspace:
        home = workspace.recommend(user="p1", k=10)
        assert len(home) == 10
        assert home.answer.fallback is None
        assert all(item.title for item in home.items)  # for want of a title, the id
        assert len(workspace.recommend(user="nobody", k=10)) == 10
        assert len(workspace.recommend(surface="item", item="f3", k=5)) == 5
        assert workspace.search("f17").items[0].item_id == "f17"
        assert len(workspace.search("no such words at all")) == 0


def write_actions(path: Path, rows: list[tuple[Any, Any, str, int]]) -> Path:
    who, what, action, at = zip(*rows, strict=True)
    pq.write_table(
        pa.table({"user_id": list(who), "item_id": list(what), "action": list(action), "timestamp": list(at)}), path
    )
    return path


def shopping(seed: int = 3, people: int = 120, goods: int = 90, steps: int = 4_000) -> list[tuple[int, int, str, int]]:
    """Views of goods on one's own side, and a purchase after every fifth or so. Ids are numbers."""
    rng = np.random.default_rng(seed)
    rows: list[tuple[int, int, str, int]] = []
    for n in range(steps):
        person = int(rng.integers(people))
        item = 1_000 + 2 * int(rng.integers(goods // 2)) + person % 2
        at = 1_700_000_000 + 2_000 * n
        rows.append((person, item, "view", at))
        if rng.random() < 0.2:
            rows.append((person, item, "purchase", at + 60))
    return rows


@pytest.mark.heavy
def test_views_and_purchases_with_numbers_for_ids_and_no_users(
    tmp_path: Path, unhurried: Callable[[Path], None]
) -> None:
    made = create(tmp_path / "w", events=write_actions(tmp_path / "clicks.parquet", shopping()))
    unhurried(tmp_path / "w")
    assert any("can be ranked, not given a probability" in note for note in made["notes"])
    report = build(tmp_path / "w")
    assert {head["name"] for head in report["heads"]} == {"view", "purchase"}
    assert not [head for head in report["heads"] if head["gives"] == "probability"]
    with hg.Workspace(tmp_path / "w") as workspace:
        slate = workspace.recommend(user="7", k=10)
        assert slate.items
        assert all(item.item_id.isdecimal() and int(item.item_id) % 2 == 1 for item in slate.items[:5])
        assert all(item.heads == {} for item in slate.items)
        assert len(workspace.recommend(user="a stranger", k=10)) == 10
        assert workspace.search("1004").items[0].item_id == "1004"
    judged = evaluate(tmp_path / "w")
    assert figure(judged, "home", "global", "nDCG@10")["estimate"] > 0


def refused(run: Callable[[Path], Any], folder: Path) -> bool:
    """Whether it was refused; then in one sentence that says what to do."""
    try:
        run(folder)
    except HoneyguideError as error:
        said = error
    else:
        return False
    assert said.expected
    assert said.got
    assert said.do
    assert "\n" not in str(said)
    return True


def test_a_tiny_workspace_builds_or_says_why_not(tmp_path: Path, unhurried: Callable[[Path], None]) -> None:
    rows = [(f"u{n % 3}", f"i{n % 4}", "view", 1_700_000_000 + 3_600 * n) for n in range(12)]
    create(tmp_path / "w", events=write_actions(tmp_path / "few.parquet", rows))
    unhurried(tmp_path / "w")
    if refused(build, tmp_path / "w"):
        return
    with hg.Workspace(tmp_path / "w") as workspace:
        assert {item.item_id for item in workspace.recommend(user="new", k=10).items} <= {"i0", "i1", "i2", "i3"}
        assert workspace.recommend(user="new", k=10).items
        assert workspace.recommend(surface="item", item="i0", k=2).items
        full = workspace.recommend(user="u0", k=10).answer  # they have had all four
        assert full.fallback == "popular: nothing new is left"


@pytest.mark.parametrize(
    "rows",
    [
        [("u0", "i0", "view", 1_700_000_000)],
        [(f"u{n}", f"i{n}", "view", 1_700_000_000) for n in range(50)],  # all at one moment
        [("u0", f"i{n}", "view", 1_700_000_000 + n) for n in range(50)],  # one person
        [(f"u{n}", "i0", "view", 1_700_000_000 + n) for n in range(50)],  # one item
        [(f"u{n % 5}", f"i{n % 7}", "hide", 1_700_000_000 + n) for n in range(50)],  # nobody likes anything
    ],
    ids=["one event", "one moment", "one person", "one item", "no interest"],
)
def test_degenerate_logs_build_or_say_why_not(
    tmp_path: Path, rows: list[tuple[str, str, str, int]], unhurried: Callable[[Path], None]
) -> None:
    create(tmp_path / "w", events=write_actions(tmp_path / "odd.parquet", rows))
    unhurried(tmp_path / "w")
    if not refused(build, tmp_path / "w"):
        with hg.Workspace(tmp_path / "w") as workspace:
            assert workspace.recommend(user="new", k=5).answer.fallback is None
            workspace.recommend(user="u0", k=5)
    refused(evaluate, tmp_path / "w")


@pytest.mark.heavy
def test_a_log_with_impressions_gets_calibrated_heads(tmp_path: Path, unhurried: Callable[[Path], None]) -> None:
    """What was shown and not taken is known: so a head may say how likely a click is, and must be right on average."""
    rng = np.random.default_rng(5)
    rows: list[tuple[str, str, str, int]] = []
    quality = np.where(rng.random(80) < 0.5, 0.1, 0.6)
    for n in range(20_000):
        person, item = int(rng.integers(1_000)), int(rng.integers(80))
        at = 1_700_000_000 + 600 * n
        rows.append((f"u{person}", f"i{item}", "impression", at))
        if rng.random() < quality[item]:
            rows.append((f"u{person}", f"i{item}", "click", at + 5))
            if rng.random() < 0.3:
                rows.append((f"u{person}", f"i{item}", "purchase", at + 90))
    made = create(tmp_path / "w", events=write_actions(tmp_path / "shown.parquet", rows))
    unhurried(tmp_path / "w")
    assert not any("Without impressions" in note for note in made["notes"])
    assert "weights = { click = 0.3, purchase = 1 }" in (tmp_path / "w" / "honeyguide.toml").read_text()
    config_of(tmp_path / "w", ("mmr_lambda = 0.95", "mmr_lambda = 1.0"))
    report = build(tmp_path / "w")
    heads = {head["name"]: head for head in report["heads"]}
    assert heads["click"]["gives"] == "probability", heads
    with hg.Workspace(tmp_path / "w") as workspace:
        slates = [workspace.recommend(user=f"u{n}", k=80).items for n in range(20)]
    shown = [item for slate in slates for item in slate]  # all that is left to show: no choice, so no winner's curse
    said = np.array([item.heads["click"] for item in shown])
    truth = np.array([quality[int(item.item_id[1:])] for item in shown])
    assert len(shown) > 20 * 40
    assert ((said > 0) & (said < 1)).all()
    assert abs(said.mean() - truth.mean()) < 0.1
    assert np.mean([quality[int(item.item_id[1:])] for slate in slates for item in slate[:5]]) > 0.5
    if "purchase" in shown[0].heads:
        assert np.mean([item.heads["purchase"] for item in shown]) < said.mean()


@pytest.mark.heavy
def test_what_came_over_the_log_is_judged_too(shop: Path) -> None:
    desk = open_desk(str(shop), watch=False)
    try:
        for n in range(30):
            answer = desk.recommend(RecommendRequest(user_id=f"late-{n}", k=3))
            batch = [EventIn(f"late-{n}", item.item_id, "rating", value=5.0) for item in answer.items]
            assert desk.record(EventsRequest(batch)).result(10).accepted == 3
    finally:
        desk.close()
    log = SqliteLog(Layout.open(shop).log)
    assert log.head() == 90
    log.close()
    report = evaluate(shop)
    # People who came after the cut, and had nothing before it.
    assert figure(report, "home", "global", "nDCG@10", "new person")["n"] >= 30
