"""The benchmark runs small; a hundred million events stay within a bucket's memory and say what the kernel says."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from honeyguide.contracts import Interactions
from honeyguide.features.asof import as_of
from honeyguide.features.definition import FeatureSet
from honeyguide.flows.bench import features as bench
from honeyguide.schema import columns as c

FIGURES = {
    ("pit-1m-10m/kernel", "wall_s"), ("pit-1m-10m/kernel", "cpu_s"), ("pit-1m-10m/kernel", "peak_mb"),
    ("pit-1m-10m/ibis", "wall_s"), ("pit-1m-10m/ibis", "cpu_s"), ("pit-1m-10m/ibis", "peak_mb"),
    ("online-read-500x20", "p50_us"), ("online-update", "us_per_event"),
}  # fmt: skip


@pytest.mark.heavy
def test_the_benchmark_runs_small_and_its_engines_agree(monkeypatch: pytest.MonkeyPatch, java: str) -> None:
    monkeypatch.setenv("HONEYGUIDE_BENCH_SCALE", "0.002")
    rows, missing = bench.run(None)
    told = {(row["case"], row["metric"]): row["ours"] for row in rows}
    assert set(told) >= FIGURES
    assert all(value > 0 for key, value in told.items() if key in FIGURES)
    assert missing == []
    assert told["duckdb-spark", "mismatches"] == 0


def _by_days(folder: Path, scale: float, monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    monkeypatch.setenv("HONEYGUIDE_BENCH_SCALE", str(scale))
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    made = bench.measured("prepare_days", folder)
    found = bench.measured("by_buckets", folder)
    return {"events": made["events"], **found}


def _agrees_with_the_kernel(folder: Path) -> None:
    """Some people's and items' labels, against the kernel over their events alone."""
    labels = pq.read_table(folder / "day_labels.parquet")
    values = pq.read_table(folder / "buckets.parquet").sort_by(str(c.LABEL_ID))
    assert values[c.LABEL_ID].to_pylist() == labels[c.LABEL_ID].to_pylist()
    log = ds.dataset(sorted((folder / "days").glob("*.parquet")))
    for entity, name in (("user", c.USER_ID), ("item", c.ITEM_ID)):
        ids = labels[name].to_numpy()
        some = np.unique(ids)[:: max(len(np.unique(ids)) // 10, 1)][:10]
        events = log.to_table(filter=pc.field(str(name)).isin(some.tolist()))
        at = events[c.HAPPENED_AT].cast("int64").to_numpy()
        order = np.argsort(at, kind="stable")
        actions = pc.index_in(events[c.ACTION], value_set=pa.array(bench.ACTIONS)).to_numpy()
        stream = Interactions(
            events[c.USER_ID].to_numpy()[order], events[c.ITEM_ID].to_numpy()[order],
            actions.astype(np.int16)[order], events[c.VALUE].to_numpy()[order], np.zeros(len(at), np.float32),
            at[order], bench.PEOPLE, bench.ITEMS, bench.ACTIONS,
        )  # fmt: skip
        rows = np.flatnonzero(np.isin(ids, some))
        side = FeatureSet(bench.FEATURES.aggregates("user" if entity == "user" else "item"))
        want = as_of(
            side, stream, "user" if entity == "user" else "item", ids[rows].astype(np.int32),
            labels[c.HAPPENED_AT].cast("int64").to_numpy()[rows],
        )  # fmt: skip
        for column, feature in enumerate(side.names):
            got = values[feature].combine_chunks().fill_null(np.nan).to_numpy(False)[rows]
            np.testing.assert_array_equal(got.astype(np.float32), want[:, column], err_msg=feature)


@pytest.mark.heavy
def test_buckets_say_what_the_kernel_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _by_days(tmp_path / "small", 0.003, monkeypatch)
    _agrees_with_the_kernel(tmp_path / "small")


@pytest.mark.slow
def test_a_hundred_million_events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = float(os.environ.get("HONEYGUIDE_SLOW_SCALE", "1"))
    small = _by_days(tmp_path / "small", size / 10, monkeypatch)
    large = _by_days(tmp_path / "large", size, monkeypatch)
    _agrees_with_the_kernel(tmp_path / "large")
    assert large["peak_mb"] < 8_000
    # Linear: ten times the events cost about ten times the time.
    slope = (large["cpu_s"] / small["cpu_s"]) / (large["events"] / small["events"])
    print(json.dumps({"small": small, "large": large, "slope": slope}))
    assert slope < 1.5
