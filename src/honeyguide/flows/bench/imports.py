"""Bulk import: generated events through the whole gate, with exact deduplication, into published tables."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from honeyguide.engines.tables.choice import EngineConfig, tables_engine
from honeyguide.flows.bench.rows import row
from honeyguide.flows.layout import Layout
from honeyguide.flows.loading.load import Sources, bring
from honeyguide.intake.datasets import cache_folder

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["DAYS", "ROWS_VARIABLE", "START_S", "one", "peer", "run", "write"]

ROWS_VARIABLE = "HONEYGUIDE_BENCH_ROWS"
"""How many events are generated; 10 million unless set."""

FORMATS = ("parquet", "csv", "jsonl")
_BATCH = 1 << 18
START_S = 1_767_225_600  # 2026-01-01
DAYS = 90
_DUPLICATES, _BAD = 0.01, 0.001
_ACTIONS = ("view", "click", "cart", "purchase", "save", "impression")
_SURFACES = ("home", "search", "item", "board")
_DEVICES = ("phone", "desktop", "tablet")
# What DuckDB itself does with the file: read, one row per id, write. No gate, no reasons, no bad line kept.
_PEER = """
import duckdb, resource, sys, time
kind, path, out, temp = sys.argv[1:]
read = {
    "parquet": f"read_parquet('{path}')",
    "csv": f"read_csv('{path}', ignore_errors=true, strict_mode=false)",
    "jsonl": f"read_json('{path}', format='newline_delimited', ignore_errors=true)",
}[kind]
started = time.perf_counter()
connection = duckdb.connect(config={"threads": 2, "memory_limit": "4GB", "temp_directory": temp})
connection.execute("set enable_progress_bar = false")
connection.execute(f"copy (select distinct on (event_id) * from {read}) to '{out}' (format parquet, compression zstd)")
wall = time.perf_counter() - started
used = resource.getrusage(resource.RUSAGE_SELF)
print('{"wall_s": %f, "cpu_s": %f, "peak_mb": %f}' % (wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024))
"""


def run(data: Path | None) -> tuple[list[dict[str, Any]], list[str]]:
    """A process of its own for each format, and DuckDB's bare `DISTINCT ON` beside it.

    `data`: the folder that generated files are kept in; without it the cache.
    """
    n = int(os.environ.get(ROWS_VARIABLE, "10_000_000"))
    folder = (Path(data) if data is not None else cache_folder() / "bench") / f"import-{n}"
    rows: list[dict[str, Any]] = []
    missing: list[str] = []
    for kind in FORMATS if n <= 20_000_000 else FORMATS[:1]:
        path = write(folder, kind, n)
        ours = _own_process("-c", f"from honeyguide.flows.bench.imports import one; one({str(path)!r})")
        theirs = peer(kind, path)
        if theirs is None:
            missing.append(f"import: DuckDB could not read the {kind} file within its memory.")
        case = f"{kind}-{_spoken(n)}"
        for metric, unit in (("events_per_s", "1/s"), ("cpu_s", "s"), ("peak_mb", "MB")):
            beside = {} if theirs is None else {"peer": theirs[metric], "peer_name": "DuckDB, DISTINCT ON alone"}
            if theirs is not None:
                beside["ratio"] = ours[metric] / theirs[metric]
            rows.append(row("import", case, metric, unit, ours[metric], **beside))
    return rows, missing


def _spoken(n: int) -> str:
    return f"{n // 1_000_000}m" if n % 1_000_000 == 0 else f"{n // 1_000}k" if n % 1_000 == 0 else str(n)


def _own_process(*arguments: str) -> dict[str, float]:
    found = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=True)
    return msgspec.json.decode(found.stdout, type=dict[str, float])


def one(path: str) -> None:
    """Load one file into a new workspace; prints the figures as JSON."""
    with tempfile.TemporaryDirectory(prefix="honeyguide-bench-") as folder:
        layout = Layout.create(folder)
        started, spent = time.perf_counter(), _cpu_s()
        with closing(tables_engine(EngineConfig(), layout.scratch)) as engine:
            sources = Sources.of(Path(path))
            brought = bring(layout, engine, sources, now=time.time_ns() // 1000, tell=lambda what, done, total: None)
        wall, cpu = time.perf_counter() - started, _cpu_s() - spent
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    report = brought.reports[0]
    figures = {"events_per_s": report.rows_in / wall, "cpu_s": cpu, "peak_mb": peak, "rows_in": report.rows_in}
    print(msgspec.json.encode(figures | {"accepted": report.accepted, "quarantined": report.quarantined}).decode())


def _cpu_s() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def peer(kind: str, path: Path) -> dict[str, float] | None:
    """DuckDB's own path over the same file, None if it fails."""
    with tempfile.TemporaryDirectory(prefix="honeyguide-bench-") as folder:
        arguments = [sys.executable, "-c", _PEER, kind, str(path), f"{folder}/out.parquet", folder]
        found = subprocess.run(arguments, capture_output=True, text=True, check=False)
        if found.returncode:
            return None
        figures = msgspec.json.decode(found.stdout, type=dict[str, float])
    n = int(os.environ.get(ROWS_VARIABLE, "10_000_000"))
    return figures | {"events_per_s": n / figures["wall_s"]}


# ----------------------------------------------------------------------------------------------------- the data


def write(folder: Path, kind: str, n: int) -> Path:
    """`n` generated events, the same each time; a file that is there already stays. Some ids are there twice, and of
    the text files one line in a thousand is no record."""
    import pyarrow.csv as pv
    import pyarrow.parquet as pq

    path = folder / f"events.{kind}"
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    if kind == "parquet":
        writer = None
        for batch in _batches(n):
            writer = writer or pq.ParquetWriter(temporary, batch.schema, compression="zstd")
            writer.write_table(batch)
        if writer is not None:
            writer.close()
    else:
        with temporary.open("wb") as file:
            for at, batch in enumerate(_batches(n)):
                if kind == "csv":
                    pv.write_csv(batch, file, pv.WriteOptions(include_header=at == 0, quoting_style="needed"))
                else:
                    file.write(_json(batch))
                broken = b'"torn,line\n' if kind == "csv" else b'{"event_id":"torn\n'
                file.write(broken * int(batch.num_rows * _BAD))
    shutil.move(temporary, path)
    return path


def _batches(n: int) -> Iterator[pa.Table]:
    import pyarrow as pa

    rng = np.random.default_rng(17)
    people, items = max(100, n // 50), max(50, n // 1000)
    for first in range(0, n, _BATCH):
        m = min(_BATCH, n - first)
        number = first + np.arange(m)
        again = rng.random(m) < _DUPLICATES
        number[again] = rng.integers(0, first + m, int(again.sum()))
        who = number * 2_654_435_761 % 4_294_967_296 % people
        at = START_S * 1000 + number * (DAYS * 86_400_000 // n) + rng.integers(0, 1000, m)
        yield pa.table(
            {
                "event_id": _ids(number),
                "user_id": _worded("user-", who),
                "item_id": _worded("sku-", (items * rng.power(0.3, m)).astype(np.int64)),
                "action": pa.array(_ACTIONS).take(pa.array(rng.integers(0, len(_ACTIONS), m))),
                "happened_at": pa.array(at, pa.timestamp("ms")).cast(pa.string()),
                "value": pa.array(np.round(rng.gamma(2.0, 20.0, m), 2)),
                "surface": pa.array(_SURFACES).take(pa.array(rng.integers(0, len(_SURFACES), m))),
                "session_id": _worded("s", number // 7),
                "position": pa.array(rng.integers(1, 21, m).astype(np.int32)),
                "device": pa.array(_DEVICES).take(pa.array(rng.integers(0, len(_DEVICES), m))),
            }
        )


def _ids(number: np.ndarray) -> pa.Array:
    """32 hexadecimal digits, mixed, so that neighbours have nothing in common."""
    import pyarrow as pa

    low = number.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    high = (low ^ (low >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
    pairs = np.stack([high, low], axis=1).astype(">u8").view(np.uint8).reshape(len(number), 16)
    digits = np.frombuffer(b"0123456789abcdef", np.uint8)
    text = np.stack([digits[pairs >> 4], digits[pairs & 15]], axis=2).reshape(len(number), 32)
    offsets = np.arange(0, 32 * (len(number) + 1), 32, dtype=np.int32)
    return pa.Array.from_buffers(
        pa.string(), len(number), [None, pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(text))]
    )


def _worded(word: str, number: np.ndarray) -> pa.Array:
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.binary_join_element_wise(word, pa.array(number).cast(pa.string()), "")


def _json(batch: pa.Table) -> bytes:
    import pyarrow as pa
    import pyarrow.compute as pc

    parts: list[Any] = []
    for at, name in enumerate(batch.column_names):
        column = batch[name].combine_chunks()
        text = pa.types.is_string(column.type)
        parts += [f'{"," if at else "{"}"{name}":' + ('"' if text else ""), column.cast(pa.string())]
        parts += ['"'] if text else []
    lines = pc.binary_join_element_wise(*parts, "}\n", "")
    return lines.buffers()[2].to_pybytes()
