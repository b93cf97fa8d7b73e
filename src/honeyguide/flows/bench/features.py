"""What point-in-time features cost offline and online, and whether the engines agree.

A million labels against ten million events of a year, 20 features over windows of people and items. Each case runs in
a process of its own, over files that another one wrote, so its processor time and peak memory are the whole process's:
interpreter, imports, reading and writing included. `HONEYGUIDE_BENCH_SCALE` (1 unless set) scales events and labels.

Feast's own path is left out: it does not install beside the versions that are pinned here.
"""

from __future__ import annotations

import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from honeyguide.errors import MissingExtraError, ResourceError
from honeyguide.features.definition import FeatureSet
from honeyguide.flows.bench.rows import REPEATS, row
from honeyguide.schema import columns as c

__all__ = ["ACTIONS", "FEATURES", "alone", "measured", "run", "scale"]

EVENTS, LABELS, PEOPLE, ITEMS = 10_000_000, 1_000_000, 200_000, 50_000
ACTIONS = ("view", "click", "buy")
DAY_US = 86_400_000_000
BEGIN_US = 19_700 * DAY_US
_RESULT = "figures.json"
_WINDOWED: tuple[dict[str, Any], ...] = (
    {"aggregate": "count", "window_days": 1},
    {"aggregate": "count", "window_days": 7},
    {"aggregate": "count", "window_days": 30, "hop": "day"},
    {"aggregate": "count", "action": "click", "window_days": 7},
    {"aggregate": "count", "action": "buy", "window_days": 30, "hop": "day"},
    {"aggregate": "sum", "window_days": 7},
    {"aggregate": "mean", "window_days": 7},
    {"aggregate": "mean", "window_days": 30, "hop": "day"},
    {"aggregate": "ratio", "action": "buy", "of_action": "*", "window_days": 30, "hop": "day"},
    {"aggregate": "trend", "window_days": 1, "of_days": 7},
)
FEATURES = FeatureSet.from_config(
    [{"name": f"{entity}_{at}", "entity": entity} | body for entity in ("user", "item")
     for at, body in enumerate(_WINDOWED)]
)  # fmt: skip
"""Ten windows of people and ten of items."""


def scale() -> float:
    """By how much the sizes are scaled."""
    return float(os.environ.get("HONEYGUIDE_BENCH_SCALE", "1"))


def run(data: Path | None) -> tuple[list[dict[str, Any]], list[str]]:
    """Kernel, SQL and a bare as-of join over the same files; online reads and updates; values on DuckDB and Spark."""
    folder, missing = Path(tempfile.mkdtemp(prefix="honeyguide-bench-")), list[str]()
    rows: list[dict[str, Any]] = []
    try:
        measured("prepare", folder)
        bare = measured("bare_join", folder)
        for case, name in (("pit-1m-10m/kernel", "by_kernel"), ("pit-1m-10m/ibis", "by_sql")):
            found = measured(name, folder)
            for metric, unit in (("wall_s", "s"), ("cpu_s", "s"), ("peak_mb", "MB")):
                peer = {
                    "peer": bare[metric],
                    "peer_name": "bare DuckDB as-of join",
                    "ratio": found[metric] / bare[metric],
                }
                rows.append(row("features", case, metric, unit, found[metric], **peer))
        online = measured("online", folder)
        rows.append(row("features", "online-read-500x20", "p50_us", "us", online["read_us"]))
        rows.append(row("features", "online-update", "us_per_event", "us", online["update_us"]))
        spark = measured("by_spark", folder)
        if "missing" in spark:
            missing.append("duckdb-spark: PySpark or Java is not installed (pip install 'honeyguide[spark]').")
        else:
            rows.append(row("features", "duckdb-spark", "mismatches", "values", spark["mismatches"]))
            rows.append(row("features", "duckdb-spark", "wall_s", "s", spark["wall_s"]))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return rows, missing


def measured(name: str, folder: Path) -> dict[str, float]:
    """A function of this module in a process of its own: what it returned, with the process's own figures."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    code = f"from honeyguide.flows.bench import features; features.alone({name!r}, {str(folder)!r})"
    subprocess.run([sys.executable, "-c", code], check=True)
    wall = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    found = msgspec.json.decode((folder / _RESULT).read_bytes(), type=dict[str, float])
    return {"wall_s": wall, "cpu_s": cpu} | found


def alone(name: str, folder: str) -> None:
    """Run one of the cases and leave its figures in the folder, with this process's peak memory."""
    cases: dict[str, Callable[[Path], dict[str, float]]] = {
        "prepare": _prepare, "by_kernel": _by_kernel, "by_sql": _by_sql, "bare_join": _bare_join, "online": _online,
        "by_spark": _by_spark, "prepare_days": _prepare_days, "by_buckets": _by_buckets,
    }  # fmt: skip
    found = cases[name](Path(folder))
    found["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    (Path(folder) / _RESULT).write_bytes(msgspec.json.encode(found))


# ------------------------------------------------------------------------------------------------------- cases


def _prepare(folder: Path) -> dict[str, float]:
    """Events and labels of popular items and busy people, as Parquet; ids are whole numbers."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng, n, m = np.random.default_rng(11), int(EVENTS * scale()), int(LABELS * scale())
    events = _events(rng, n, BEGIN_US, BEGIN_US + 365 * DAY_US)
    pq.write_table(events, folder / "events.parquet", row_group_size=1_000_000)
    asked = _labels(events.take(pa.array(np.sort(rng.choice(n, m, replace=False)))), 0)
    pq.write_table(asked, folder / "labels.parquet", row_group_size=1_000_000)
    return {}


def _events(rng: np.random.Generator, n: int, first: int, end: int) -> Any:
    import pyarrow as pa

    at = first + np.sort(rng.integers(0, end - first, n))
    action = pa.DictionaryArray.from_arrays(pa.array(rng.integers(0, 3, n).astype(np.int8)), list(ACTIONS))
    return pa.table(
        {
            c.USER_ID: (PEOPLE * rng.random(n) ** 2).astype(np.int32),
            c.ITEM_ID: (ITEMS * rng.random(n) ** 3).astype(np.int32),
            c.HAPPENED_AT: pa.array(at).cast(pa.timestamp("us", tz="UTC")),
            c.ACTION: action.dictionary_decode(),
            c.VALUE: rng.integers(1, 6, n).astype(np.float32),
        }
    )


def _labels(events: Any, first: int) -> Any:
    import pyarrow as pa

    numbers = pa.array(np.arange(first, first + events.num_rows, dtype=np.int64))
    return events.select([c.USER_ID, c.ITEM_ID, c.HAPPENED_AT]).add_column(0, c.LABEL_ID, numbers)


def _prepare_days(folder: Path) -> dict[str, float]:
    """The same, ten times as many events, a file a day: made and written day by day."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng, days = np.random.default_rng(12), 365
    n, m = int(10 * EVENTS * scale()) // days, int(LABELS * scale()) // days
    (folder / "days").mkdir()
    labels = []
    for day in range(days):
        first = BEGIN_US + day * DAY_US
        events = _events(rng, n, first, first + DAY_US)
        pq.write_table(events, folder / "days" / f"{day:03}.parquet", compression="zstd")
        labels.append(_labels(events.take(pa.array(np.sort(rng.choice(n, m, replace=False)))), day * m))
    pq.write_table(pa.concat_tables(labels), folder / "day_labels.parquet")
    return {"events": float(n * days), "labels": float(m * days)}


def _by_buckets(folder: Path) -> dict[str, float]:
    """The kernel over buckets of people and items, from a file a day to a file: memory is that of a bucket."""
    from honeyguide.engines.tables.duckdb import DuckDBConfig, DuckDBTables
    from honeyguide.features.asof_buckets import as_of_buckets

    config = DuckDBConfig(memory_gb=2.0, temp_folder=folder / "spill", bucket_rows=25_000_000)
    with DuckDBTables(config) as engine:
        events = engine.parquet(sorted((folder / "days").glob("*.parquet")))
        labels = engine.parquet(folder / "day_labels.parquet")
        engine.write(as_of_buckets(FEATURES, engine, events, labels, ACTIONS), folder / "buckets.parquet")
    return {}


def _by_kernel(folder: Path) -> dict[str, float]:
    """Files to arrays, the kernel, and a file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from honeyguide.contracts import Interactions
    from honeyguide.features.asof import EventStream, as_of

    read = pq.read_table(folder / "events.parquet", columns=[c.USER_ID, c.ITEM_ID, c.ACTION, c.VALUE, c.HAPPENED_AT],
                         read_dictionary=[c.ACTION])  # fmt: skip
    events = {name: _array(read, name) for name in (c.USER_ID, c.ITEM_ID, c.VALUE, c.HAPPENED_AT)}
    words = read[c.ACTION].combine_chunks()
    code = np.array([ACTIONS.index(word) for word in words.dictionary.to_pylist()], np.int16)
    action = code[words.indices.to_numpy()]
    del read, words
    pa.default_memory_pool().release_unused()
    log = Interactions(
        events[c.USER_ID], events[c.ITEM_ID], action, events[c.VALUE], np.zeros(len(action), np.float32),
        events[c.HAPPENED_AT], PEOPLE, ITEMS, ACTIONS,
    )  # fmt: skip
    del events
    labels = pq.read_table(folder / "labels.parquet")
    stream, at = EventStream(log), _array(labels, c.HAPPENED_AT)
    made: dict[str, Any] = {c.LABEL_ID: labels[c.LABEL_ID]}
    for entity, name in (("user", c.USER_ID), ("item", c.ITEM_ID)):
        side = FeatureSet(FEATURES.aggregates("user" if entity == "user" else "item"))
        found = as_of(side, stream, "user" if entity == "user" else "item", _array(labels, name), at)
        stream.forget()
        made |= {feature: found[:, column] for column, feature in enumerate(side.names)}
    pq.write_table(pa.table(made), folder / "kernel.parquet")
    return {}


def _array(table: Any, name: str) -> Any:
    import pyarrow as pa

    column = table[name]
    return (column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column).to_numpy()


def _by_sql(folder: Path) -> dict[str, float]:
    """The portable expression on DuckDB, from files to a file."""
    from honeyguide.engines.tables.duckdb import DuckDBConfig, DuckDBTables
    from honeyguide.features.asof_ibis import as_of_table

    with DuckDBTables(DuckDBConfig(memory_gb=1.2, temp_folder=folder / "spill")) as engine:
        events, labels = (engine.parquet(folder / f"{name}.parquet") for name in ("events", "labels"))
        engine.write(as_of_table(FEATURES, events, labels), folder / "sql.parquet")
    return {}


def _bare_join(folder: Path) -> dict[str, float]:
    """The newest earlier event of each label's person and of its item by DuckDB's own as-of join: no feature at all."""
    from honeyguide.engines.tables.duckdb import DuckDBConfig, DuckDBTables

    with DuckDBTables(DuckDBConfig(memory_gb=1.2, temp_folder=folder / "spill")) as engine:
        events, labels = (engine.parquet(folder / f"{name}.parquet") for name in ("events", "labels"))
        joined = labels.select(c.LABEL_ID)
        for key in (c.USER_ID, c.ITEM_ID):
            asked = labels.select(c.LABEL_ID, key, c.HAPPENED_AT)
            last = events.select(key, **{c.VALUE: events[c.VALUE], "then": events[c.HAPPENED_AT]})
            found = asked.asof_join(last, asked[c.HAPPENED_AT] > last["then"], predicates=key)
            joined = joined.inner_join(found.select(c.LABEL_ID, **{f"{key}_value": found[c.VALUE]}), c.LABEL_ID)
        engine.write(joined, folder / "bare.parquet")
    return {}


def _by_spark(folder: Path) -> dict[str, float]:
    """The same expression on a cluster of two executors; values that differ from DuckDB's and the kernel's."""
    import pyarrow.parquet as pq

    from honeyguide.engines.tables.spark import SparkConfig, SparkTables
    from honeyguide.features.asof_ibis import as_of_table

    config = SparkConfig(master="local-cluster[2,1,2048]", options={"spark.executor.memory": "2g"})
    started = time.perf_counter()
    try:
        with SparkTables(config) as engine:
            events, labels = (engine.parquet(folder / f"{name}.parquet") for name in ("events", "labels"))
            engine.write(as_of_table(FEATURES, events, labels), folder / "spark.parquet")
    except (MissingExtraError, ResourceError):
        return {"missing": 1.0}
    wall = time.perf_counter() - started
    ours = pq.read_table(folder / "sql.parquet").sort_by(str(c.LABEL_ID))
    mismatches = 0
    for other in ("spark", "kernel"):
        theirs = pq.read_table(folder / f"{other}.parquet").sort_by(str(c.LABEL_ID))
        for name in ours.column_names:
            one, two = (table[name].to_numpy().astype(np.float64) for table in (ours, theirs))
            mismatches += int(np.count_nonzero(~((one == two) | (np.isnan(one) & np.isnan(two)))))
    return {"mismatches": float(mismatches), "wall_s": wall}


def _online(folder: Path) -> dict[str, float]:
    """A state of half a million events: 500 candidates are read, and batches of a thousand events come in."""
    from honeyguide.contracts import CatalogView, Interactions, Ragged
    from honeyguide.features.online import OnlineState
    from honeyguide.schema.vocabulary import Vocabulary

    n, more, batch, some = max(int(500_000 * scale()), 2_000), 200_000, 1_000, min(ITEMS, 5_000)
    rng = np.random.default_rng(3)

    def events(n: int, first: int, last: int) -> Interactions:
        at = np.sort(rng.integers(first, last, n))
        return Interactions(
            rng.integers(0, 20_000, n).astype(np.int32), (some * rng.random(n) ** 3).astype(np.int32),
            rng.integers(0, 3, n).astype(np.int16), rng.integers(1, 6, n).astype(np.float32),
            np.ones(n, np.float32), at, 20_000, some, ACTIONS,
        )  # fmt: skip

    nan = np.full(some, np.nan, np.float32)
    catalog = CatalogView(
        Vocabulary([str(k) for k in range(some)]), [""] * some, [""] * some, Ragged.empty(some), [],
        Ragged.empty(some), [], np.full(some, -1, np.int32), [], nan, nan, np.ones(some, np.bool_),
        np.zeros(some, np.int64),
    )  # fmt: skip
    end = BEGIN_US + 60 * DAY_US
    OnlineState.build(FEATURES, events(n, BEGIN_US, end), catalog).save(folder)
    state = OnlineState.open(folder, catalog)
    items = rng.integers(0, some, 500).astype(np.int32)
    past = state.history(7, 50, end)
    out = np.empty((500, len(FEATURES)), np.float32)
    state.read(7, items, end, past.items, past.weights, past.at, out)
    took = []
    for _ in range(REPEATS * 400):
        started = time.perf_counter_ns()
        state.read(7, items, end, past.items, past.weights, past.at, out)
        took.append((time.perf_counter_ns() - started) / 1e3)
    update = []
    for repeat in range(REPEATS + 1):
        first = end + repeat * DAY_US
        coming = events(more, first, first + DAY_US)
        spent = time.process_time()
        for at in range(0, more, batch):
            part = coming.take(slice(at, at + batch))
            state.apply_many(part.user, part.item, part.action, part.value, part.weight, part.at)
            state.advance(int(part.at[-1]) + 1)
        update.append((time.process_time() - spent) / more * 1e6)
    return {"read_us": float(np.median(took)), "update_us": statistics.median(update[1:])}
