"""Features as served beside features recomputed; parameters tried; scorers in a build that serves."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from honeyguide.errors import BuildError
from honeyguide.flows.build import build
from honeyguide.flows.config import WorkspaceConfig
from honeyguide.flows.layout import Layout
from honeyguide.flows.skew import compared, kept_rows, skew
from honeyguide.flows.tune import CHANGE, changed, tune
from honeyguide.flows.wiring import open_desk
from honeyguide.schema.wire import EventIn, EventsRequest, RecommendRequest


@pytest.fixture(scope="module")
def asked(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace that keeps every request, after visits with events in between."""
    folder = tmp_path_factory.mktemp("skew") / "shop"
    shutil.copytree(built, folder)
    text = (folder / "honeyguide.toml").read_text() + "\n[skew]\nshare = 1.0\n"
    (folder / "honeyguide.toml").write_text(text)
    build(folder)
    desk = open_desk(str(folder), watch=False)
    for n in range(12):
        home = desk.recommend(RecommendRequest(surface="home", user_id=f"p{n}"))
        event = EventIn(user_id=f"p{n}", item_id=home.items[1].item_id, action="rating", value=4.0)
        desk.record(EventsRequest(events=[event])).result(20)
        desk.recommend(RecommendRequest(surface="home", user_id=f"p{n}"))
    desk.recommend(RecommendRequest(surface="home", user_id="somebody-new"))
    desk.recommend(RecommendRequest(surface="home", user_id="p1", log=False))
    desk.close()
    return folder


@pytest.mark.heavy
def test_what_is_served_is_what_is_learnt_from(asked: Path) -> None:
    report = skew(asked)
    assert report["requests"] >= 24
    assert report["rows"] >= 24 * 20
    assert [one for one in report["features"] if one["differing"]] == []
    assert not report["blocked"]
    assert all(one.values for one in kept_rows(Layout.open(asked), 100))


@pytest.mark.heavy
def test_a_feature_served_otherwise_is_named_and_blocks_the_build(asked: Path, tmp_path: Path, monkeypatch) -> None:
    """Serving that looks at one feature half as large: found, named, and no build until somebody says so."""
    from honeyguide.features.online import OnlineState

    folder = tmp_path / "shop"
    shutil.copytree(asked, folder)
    honest = OnlineState.read

    def halved(self, *given, **options):
        found = honest(self, *given, **options).copy()
        found[:, self.features.names.index("item_events")] *= 0.5
        return found

    with monkeypatch.context() as patch:
        patch.setattr(OnlineState, "read", halved)
        desk = open_desk(str(folder), watch=False)
        for n in range(20):
            desk.recommend(RecommendRequest(surface="home", user_id=f"p{n}"))
        desk.close()
    report = skew(folder)
    worst = report["features"][0]
    assert worst["name"] == "item_events"
    assert worst["largest"] == pytest.approx(0.5, abs=0.1)
    assert worst["served"] == pytest.approx(worst["recomputed"] / 2)
    assert report["blocked"]
    assert sum(one["differing"] > 0 for one in report["features"]) == 1
    before = Layout.open(folder).current_build()
    with pytest.raises(BuildError, match="item_events"):
        build(folder)
    assert Layout.open(folder).current_build() == before
    made = build(folder, allow_skew=True)
    assert any("skew:" in line and "item_events" in line for line in made["decisions"])


def test_differences_by_plain_loops() -> None:
    served = np.array([[1.0, np.nan, 2.0], [3.0, np.nan, 4.0], [np.nan, 0.0, 4.0]], np.float32)
    again = np.array([[1.0, np.nan, 2.0], [2.0, np.nan, 4.001], [5.0, np.nan, 4.0]], np.float32)
    found = {one["name"]: one for one in compared(("a", "b", "c"), served, again, 1e-2)}
    assert found["a"]["largest"] == pytest.approx(1 / 3)
    assert (found["a"]["differing"], found["a"]["one_sided"]) == (2, 1)
    assert (found["b"]["differing"], found["b"]["one_sided"], found["b"]["largest"]) == (1, 1, 0.0)
    assert found["c"]["differing"] == 0
    assert found["c"]["largest"] == pytest.approx(0.001 / 5.001, rel=1e-3)


# ---------------------------------------------------------------------------------------------------------- tune

TEXT = """\
# kept
[[heads]]
name = "like"  # who
depth = 6  # how deep
kind = "probability"

[[heads]]
name = "likely"
kind = "rank"

[serve]
port = 1
"""


def test_a_change_keeps_what_it_does_not_change() -> None:
    new = changed(TEXT, "like", {"depth": 4, "learning_rate": 0.1})
    assert "depth = 4  # how deep\n" in new
    assert 'name = "like"  # who\nlearning_rate = 0.1\n' in new
    assert new.replace("depth = 4  # how", "depth = 6  # how").replace("learning_rate = 0.1\n", "") == TEXT
    other = changed(TEXT, "likely", {"trees": 50})
    assert 'name = "likely"\ntrees = 50\n' in other
    with pytest.raises(Exception, match="Set by hand: depth = 4"):
        changed("heads = []", "like", {"depth": 4})


@pytest.mark.heavy
def test_a_search_that_is_killed_goes_on_to_the_same_end(built: Path, tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for folder in (whole, cut):
        shutil.copytree(built, folder)
        text = (folder / "honeyguide.toml").read_text()
        (folder / "honeyguide.toml").write_text(text + '\n[ranker]\nkinds = ["linear"]\n')
    one = tune(whole, heads=["like"], trials=5)
    code = (
        "import os, sys; from honeyguide.ranking.tune import Trials; from honeyguide.flows.tune import tune\n"
        "losses, seen = Trials.losses, []\n"
        "def dies(self, parameters, folds):\n"
        "    seen.append(1)\n"
        "    if len(seen) == 3: os._exit(9)\n"
        "    return losses(self, parameters, folds)\n"
        "Trials.losses = dies\n"
        "tune(sys.argv[1], heads=['like'], trials=5)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(cut)], check=False).returncode == 9
    two = tune(cut, heads=["like"], trials=5)
    assert two["found"][0]["trials_before"] == 2
    for key in ("parameters", "loss", "loss_now", "gain", "low", "high", "changed", "trials"):
        assert two["found"][0][key] == one["found"][0][key], key
    again = tune(cut, heads=["like"], trials=5)
    assert again["found"][0]["trials_before"] == 5


@pytest.mark.heavy
def test_tuning_never_looks_at_what_a_build_measures_on(built: Path, tmp_path: Path, monkeypatch) -> None:
    pytest.importorskip("optuna")
    from honeyguide.ranking.tune import folds_of

    folder = tmp_path / "shop"
    shutil.copytree(built, folder)
    text = (folder / "honeyguide.toml").read_text()
    (folder / "honeyguide.toml").write_text(text + '\n[ranker]\nkinds = ["linear"]\n')
    looked: list[np.ndarray] = []

    def spy(config, head, index, rows, **options):
        folds = folds_of(config, head, index, rows, **options)
        known = ~np.isnan(rows.labels[:, index])
        last = max(int(rows.at[np.concatenate([f.fit, f.stop, f.judge])].max()) for f in folds)
        looked.append(np.mean(rows.at[known] > last))
        for fold in folds:
            assert rows.at[fold.fit].max() < rows.at[fold.judge].min()
            assert rows.at[fold.stop].max() < rows.at[fold.judge].min()
        return folds

    monkeypatch.setattr("honeyguide.flows.tune.folds_of", spy)
    report = tune(folder, heads=["like"], trials=2, apply=True)
    assert looked[0] == pytest.approx(0.2, abs=0.02)  # the newest fifth is not among them
    if report["change"] is not None:
        assert WorkspaceConfig.load(folder / "honeyguide.toml").heads
        assert not (folder / CHANGE).exists()


# ------------------------------------------------------------------------------------------- a scorer in the product


@pytest.mark.heavy
def test_a_table_of_scores_takes_a_heads_place_in_a_build(built: Path, tmp_path: Path) -> None:
    """How people rated either half of the catalog, as a table: calibrated, in the utility, served."""
    folder = tmp_path / "shop"
    shutil.copytree(built, folder)
    columns = ["user_id", "item_id", "value"]
    events = pq.read_table(next((folder / "tables").glob("events/**/*.parquet")), columns=columns).to_pylist()
    told: dict[tuple[str, bool], list[float]] = {}
    for one in events:
        told.setdefault((one["user_id"], int(one["item_id"][1:]) < 100), []).append(one["value"])
    rows = [(u, f"f{n}", float(np.mean(v))) for (u, half), v in told.items() for n in range(200) if (n < 100) == half]
    names = ("user_id", "item_id", "score")
    table = pa.table({name: [row[at] for row in rows] for at, name in enumerate(names)})
    pq.write_table(table, folder / "quality.parquet")
    text = (folder / "honeyguide.toml").read_text()
    text = text.replace(
        'name = "like"\n', 'name = "like"\nscorer = { kind = "parquet", path = "quality.parquet" }\n', 1
    )
    (folder / "honeyguide.toml").write_text(text)
    made = build(folder)
    like = next(head for head in made["heads"] if head["name"] == "like")
    assert like["gives"] == "probability"
    assert like["model"] == "parquet"
    desk = open_desk(str(folder), watch=False)
    shown = desk.recommend(RecommendRequest(surface="home", user_id="p1"))
    assert shown.fallback is None
    assert all(0.0 < item.heads["like"] < 1.0 for item in shown.items)
    assert any(key.startswith("scorer_lapses_") for key in desk.gauges()) == bool(desk._live.pipeline.ranker.lapses())
    desk.close()
    (folder / "quality.parquet").write_bytes(b"")
    with pytest.raises(Exception, match=r"quality\.parquet"):
        build(folder)
    assert json.loads((folder / "builds" / f"{made['build_id']}.json").read_text())["build_id"] == made["build_id"]
