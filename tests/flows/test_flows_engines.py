"""A build on Spark is the build on DuckDB; what it learnt from is told by its card, and leaves as Parquet."""

from __future__ import annotations

import datetime as dt
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from honeyguide.engines.tables.snapshot import Snapshots, content_hash
from honeyguide.flows.build import build
from honeyguide.flows.create import create
from honeyguide.schema import columns as c
from honeyguide.schema.tables import IMPRESSIONS

if TYPE_CHECKING:
    from honeyguide.engines.tables.spark import SparkTables

pytestmark = pytest.mark.heavy

PEOPLE, ITEMS, REQUESTS, SLOTS = 60, 80, 1_500, 6
DAY_S = 86_400


def write_shown(folder: Path) -> tuple[Path, pa.Table]:
    """Lists as shown and clicks: ties, late clicks, clicks without a request. Half of the lists are events, the others
    what a server has logged."""
    rng = np.random.default_rng(3)
    rows: list[dict[str, Any]] = []
    lists: list[dict[str, Any]] = []
    for request in range(REQUESTS):
        person, at = int(rng.integers(0, PEOPLE)), 1_600_000_000 + int(rng.integers(0, 60 * 24)) * 3600
        shown = rng.choice(ITEMS, SLOTS, replace=False)
        if request % 2:
            lists.append(dict.fromkeys(IMPRESSIONS.columns) | {
                c.REQUEST_ID: f"r{request}", c.USER_ID: f"p'{person}", c.POLICY_VERSION: "p", c.BUILD_ID: "b",
                c.HAPPENED_AT: dt.datetime.fromtimestamp(at, dt.UTC), c.SHOWN_ITEMS: [f"ü{item}" for item in shown],
                c.SHOWN_PROPENSITIES: [1.0] * SLOTS, c.LIST_PROPENSITY: 1.0, c.STAGE_US: "{}",
            })  # fmt: skip
        for slot, item in enumerate(shown, 1):
            row = {"user_id": f"p'{person}", "item_id": f"ü{item}", "request_id": f"r{request}", "position": slot}
            if not request % 2:
                rows.append(row | {"action": "impression", "timestamp": at, "event_id": f"s{request}-{slot}"})
            liked = (item % 2 == person % 2) * 0.5 + 0.05
            if rng.random() < liked / slot**0.3:
                late = int(rng.choice([0, 5, 2 * 3600, 3 * DAY_S]))
                told = row if rng.random() < 0.8 else row | {"request_id": None}
                rows.append(told | {"action": "click", "timestamp": at + late, "event_id": f"c{request}-{slot}"})
    path = folder / "events.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path, pa.Table.from_pylist(lists, IMPRESSIONS.arrow())


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory, unhurried: Callable[[Path], None]) -> Path:
    """A workspace, not built yet, of a log of impressions."""
    folder = tmp_path_factory.mktemp("seen")
    events, lists = write_shown(folder)
    create(folder / "shop", events=events)
    Snapshots(folder / "shop" / "tables").write(IMPRESSIONS.name, lists)
    unhurried(folder / "shop")
    toml = folder / "shop" / "honeyguide.toml"
    extra = '\n[[heads]]\nname = "next"\naction = "click"\nkind = "rank"\n\n[training]\nleast_requests = 50\n'
    toml.write_text(toml.read_text() + extra)
    return folder / "shop"


@pytest.fixture(scope="module")
def on_duckdb(seen: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The workspace, built on DuckDB."""
    folder = tmp_path_factory.mktemp("duckdb") / "shop"
    shutil.copytree(seen, folder)
    build(folder)
    return folder


def manifest_of(folder: Path) -> dict[str, Any]:
    current = (folder / "builds" / "CURRENT").read_text()
    found: dict[str, Any] = json.loads((folder / "builds" / f"{current}.json").read_text())
    return found


def content_of(path: Path) -> Any:
    """What a file says: tables and arrays by value (records have gaps between their fields), the rest as it is."""
    if path.suffix == ".parquet":
        return content_hash(pq.ParquetFile(path))
    if path.suffix == ".npy":
        array = np.load(path)
        fields = array.dtype.names
        return [array[name].tobytes() for name in fields] if fields else (array.dtype.str, array.tobytes())
    return path.read_bytes()


def test_a_build_on_spark_is_the_build_on_duckdb(seen: Path, on_duckdb: Path, tmp_path: Path, cluster: SparkTables):
    shutil.copytree(seen, tmp_path / "shop")
    # The session of the cluster that runs is used as it is.
    assert cluster.arrow(cluster.table(pa.table({"n": [1]}))).num_rows == 1
    build(tmp_path / "shop", engine="spark")
    one, other = manifest_of(on_duckdb), manifest_of(tmp_path / "shop")
    for key in ("data", "config", "features", "blend", "ranks", "reports", "decisions"):
        assert one[key] == other[key], key
    assert one["folders"] == other["folders"]
    compared = 0
    for name, folder in one["folders"].items():
        for path in sorted((on_duckdb / folder).rglob("*")):
            # An index names its segments at random, and the library of the trees writes the time into its own format.
            if path.is_dir() or name == "text" or path.suffix == ".cbm":
                continue
            twin = tmp_path / "shop" / folder / path.relative_to(on_duckdb / folder)
            assert content_of(path) == content_of(twin), f"{name}: {path.name}"
            compared += 1
    assert compared > 30


def test_heads_learn_from_what_was_shown(on_duckdb: Path, run: Callable[..., tuple[int, str, str]]):
    code, out, _ = run("card", on_duckdb, "--json")
    card = json.loads(out)
    assert code == 0
    heads = {head["name"]: head for head in card["heads"]}
    assert {name: head["labels_from"] for name, head in heads.items()} == {
        "click": "impressions", "next": "impressions",
    }  # fmt: skip
    table = pq.read_table(on_duckdb / manifest_of(on_duckdb)["folders"]["training"] / "training_set.parquet")
    assert table.num_rows == card["training_set"]["rows"]
    assert len(set(table[c.LABEL_ID].to_pylist())) == table.num_rows
    click = heads["click"]
    label = table["label_click"].to_pylist()
    assert click["positives"] == label.count(1.0)
    assert click["unknown"] == label.count(None)
    # Slots of the log's last day may still be clicked on.
    last = max(table[c.HAPPENED_AT].to_pylist())
    assert any(
        one is None and (last - at).total_seconds() < DAY_S and origin == "shown"
        for one, at, origin in zip(label, table[c.HAPPENED_AT].to_pylist(), table[c.ORIGIN].to_pylist(), strict=True)
    )
    # Of the list as shown all slots are there, and beside them what the rule drew.
    groups = table.filter(pa.compute.is_valid(table[c.GROUP_ID])).to_pylist()
    by_group: dict[int, list[dict[str, Any]]] = {}
    for row in groups:
        by_group.setdefault(row[c.GROUP_ID], []).append(row)
    for rows in by_group.values():
        shown = [row for row in rows if row[c.ORIGIN] == "shown"]
        assert len(shown) == SLOTS
        assert any(row["label_next"] == 1.0 for row in shown)
        assert all(row["label_next"] == 0.0 for row in rows if row[c.ORIGIN] == "pool")
        assert len({row[c.ITEM_ID] for row in rows}) == len(rows)


def test_without_impressions_heads_learn_from_what_people_took_next(
    on_duckdb: Path, tmp_path: Path, run: Callable[..., tuple[int, str, str]]
):
    shutil.copytree(on_duckdb, tmp_path / "shop")
    toml = tmp_path / "shop" / "honeyguide.toml"
    rules = '[training]\nlabels = "events"\nnegatives = "popularity"\n'
    toml.write_text(toml.read_text().replace("[training]\n", rules))
    assert run("build", tmp_path / "shop")[0] == 0
    card = json.loads(run("card", tmp_path / "shop", "--json")[1])
    assert {head["name"]: head["labels_from"] for head in card["heads"]} == {"click": "events", "next": "next items"}
    assert set(card["training_set"]["origins"]) == {"event", "popularity", "taken"}
    folder = tmp_path / "shop" / manifest_of(tmp_path / "shop")["folders"]["training"]
    table = pq.read_table(folder / "training_set.parquet")
    drawn = table.filter(pa.compute.equal(table[c.ORIGIN], "popularity"))
    # The rate of an item is the same wherever it was drawn, and the more popular ones have the greater.
    rates: dict[str, set[float]] = {}
    for item, rate, label in zip(*(drawn[name].to_pylist() for name in (c.ITEM_ID, c.SAMPLING_RATE, "label_next")),
                                 strict=True):  # fmt: skip
        rates.setdefault(item, set()).add(rate)
        assert label == 0.0
    assert all(len(of) == 1 and 0 < min(of) < 1 for of in rates.values())
    assert len({min(of) for of in rates.values()}) > 3


def test_the_card_counts_what_is_in_the_table(on_duckdb: Path, run: Callable[..., tuple[int, str, str]]):
    card = json.loads(run("card", on_duckdb, "--json")[1])
    manifest = manifest_of(on_duckdb)
    table = pq.read_table(on_duckdb / manifest["folders"]["training"] / "training_set.parquet")
    assert card["data"]["versions"]["events"].endswith(card["data"]["content"]["events"][:12])
    assert card["build_id"] == manifest["build_id"]
    for feature in card["features"]:
        column = table[feature["name"]].to_numpy()
        known = column[~np.isnan(column)]
        assert feature["missing"] == pytest.approx(1 - len(known) / len(column))
        if len(known):
            assert (feature["min"], feature["median"], feature["max"]) == (
                known.min(), np.median(known), known.max(),
            )  # fmt: skip
    rate, label = table[c.SAMPLING_RATE].to_numpy(), table["label_next"].to_numpy()
    known = ~np.isnan(label)
    head = next(head for head in card["heads"] if head["name"] == "next")
    assert head["rate"] == pytest.approx(label[known].mean())
    assert head["rate_before_sampling"] == pytest.approx(np.average(label[known], weights=1 / rate[known]))
    code, text, _ = run("card", on_duckdb)
    assert code == 0
    assert text.startswith("# Dataset card")
    assert all(f"| {feature['name']} |" in text for feature in card["features"])


def test_a_build_without_a_card_says_so(on_duckdb: Path, tmp_path: Path, run: Callable[..., tuple[int, str, str]]):
    shutil.copytree(on_duckdb, tmp_path / "shop")
    manifest = manifest_of(tmp_path / "shop")
    del manifest["folders"]["card"]
    (tmp_path / "shop" / "builds" / f"{manifest['build_id']}.json").write_text(json.dumps(manifest))
    code, _, error = run("card", tmp_path / "shop")
    assert code == 2
    assert "honeyguide build" in error


def test_tables_leave_as_parquet_with_their_columns_told(
    on_duckdb: Path, tmp_path: Path, run: Callable[..., tuple[int, str, str]]
):
    out = tmp_path / "out"
    code, text, _ = run("export", on_duckdb, "--out", out, "--json")
    report = json.loads(text)
    assert code == 0
    assert {row["table"] for row in report["tables"]} >= {"training_set", "feature_values", "events", "items"}
    page = (out / "README.md").read_text()
    for row in report["tables"]:
        file = pq.ParquetFile(out / f"{row['table']}.parquet")
        assert file.metadata.num_rows == row["rows"]
        section = page.partition(f"## {row['table']}.parquet")[2].partition("## ")[0]
        assert all(f"| {name} | " in section for name in file.schema_arrow.names), row["table"]
    events = pq.read_table(out / "events.parquet")
    at = events[c.HAPPENED_AT].to_pylist()
    assert at == sorted(at)
    assert events.num_rows == manifest_of(on_duckdb)["data"]["events"]
    again = run("export", on_duckdb, "--out", out)
    assert again[0] == 2
    assert "new or empty folder" in again[2]
    unknown = run("export", on_duckdb, "--out", tmp_path / "other", "--table", "nope")
    assert unknown[0] == 2
    assert "training_set" in unknown[2]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]  # nothing half done is left


def test_a_view_leaves_too(on_duckdb: Path, tmp_path: Path, run: Callable[..., tuple[int, str, str]]):
    code, _, _ = run("export", on_duckdb, "--out", tmp_path / "out", "--table", "sessions", "--table", "showings")
    assert code == 0
    assert pq.read_metadata(tmp_path / "out" / "showings.parquet").num_rows == REQUESTS * SLOTS
    assert pq.read_metadata(tmp_path / "out" / "sessions.parquet").num_rows > PEOPLE


def test_without_spark_one_sentence_says_what_to_install(
    on_duckdb: Path, run: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
):
    from pyspark.sql import SparkSession

    monkeypatch.setattr(SparkSession, "getActiveSession", classmethod(lambda cls: None))
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("JAVA_HOME", raising=False)
    code, _, error = run("build", on_duckdb, "--engine", "spark")
    assert code == 2
    assert "Install Java 17" in error
    assert error.strip().count("\n") == 0 or "error:" in error.strip().splitlines()[-1]
    monkeypatch.setitem(__import__("sys").modules, "pyspark.errors", None)
    code, _, error = run("build", on_duckdb, "--engine", "spark")
    assert code == 2
    assert "pip install 'honeyguide[spark]'" in error
