"""`honeyguide bench import`: generated files hold what they say, and a hundred million events go through."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from honeyguide.flows.bench import imports
from honeyguide.intake.files import read

ROWS = 4_000


@pytest.mark.parametrize("kind", imports.FORMATS)
def test_generated_events_are_the_same_in_every_format(tmp_path: Path, kind: str) -> None:
    raw = read(imports.write(tmp_path, kind, ROWS))
    assert raw.table.num_rows == ROWS
    assert len(raw.refused) == (0 if kind == "parquet" else ROWS // 1000)
    assert 0.98 * ROWS < len(raw.table["event_id"].unique()) < ROWS
    assert imports.write(tmp_path, kind, ROWS).stat().st_size > 20 * ROWS
    if kind == "jsonl":
        mean = (tmp_path / "events.jsonl").stat().st_size / ROWS
        assert 180 < mean < 260, "lines of some 200 bytes"


@pytest.mark.heavy
def test_the_benchmark_counts_every_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(imports.ROWS_VARIABLE, str(ROWS))
    rows, missing = imports.run(tmp_path)
    assert missing == []
    assert {row["case"] for row in rows} == {"parquet-4k", "csv-4k", "jsonl-4k"}
    assert {row["metric"] for row in rows} == {"events_per_s", "cpu_s", "peak_mb"}
    assert all(row["ours"] > 0 and row["peer"] > 0 for row in rows)


RING = """
import json, resource, sys, time
from contextlib import closing
from pathlib import Path
import numpy as np
from honeyguide.engines.log.sqlite import SqliteLog
from honeyguide.engines.tables.snapshot import Snapshots
from honeyguide.flows.create import create
from honeyguide.flows.keeping.compact import compact
from honeyguide.flows.layout import Layout
from honeyguide.schema.wire import EventIn, EventsRequest
from honeyguide.serving.record import event_records

path, folder, start_s, days, late = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5])

def spent():
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)

def peak_mb():
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024

found, began = {}, spent()
create(folder, events=path, items=None, name="many")
layout = Layout.open(folder)
found["load_cpu_s"], found["load_peak_mb"] = spent() - began, peak_mb()
before, began = Snapshots(layout.tables).current("events").rows, spent()
rng = np.random.default_rng(0)
with closing(SqliteLog(layout.log)) as log:
    for part in range(late // 5_000):
        at = start_s + rng.uniform(0, 86_400, 5_000) + 86_400 * (days - 1) * (rng.random(5_000) < .99)
        events = [EventIn(f"late {n % 999}", "i1", "view", event_id=f"late {part} {n}", happened_at=float(moment))
                  for n, moment in enumerate(at)]
        log.append(event_records(EventsRequest(events), time.time_ns() // 1000)[0]).result()
    compact(folder, log=log)
found["compact_cpu_s"], found["peak_mb"] = spent() - began, peak_mb()
found["before"], found["after"] = before, Snapshots(layout.tables).current("events").rows
print(json.dumps(found))
"""


def _lived(folder: Path, n: int, late: int) -> dict[str, float]:
    path = imports.write(folder / str(n), "parquet", n)
    arguments = map(str, (path, folder / f"shop {n}", imports.START_S, imports.DAYS, late))
    found = subprocess.run([sys.executable, "-c", RING, *arguments], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr[-2000:]
    return json.loads(found.stdout)


@pytest.mark.slow
def test_a_hundred_million_events_within_eight_gigabytes(tmp_path: Path) -> None:
    size, late = int(100_000_000 * float(os.environ.get("HONEYGUIDE_SLOW_SCALE", "1"))), 100_000
    some, many = _lived(tmp_path, size // 10, late), _lived(tmp_path, size, late)
    print(json.dumps({"some": some, "many": many, "slope": many["load_cpu_s"] / some["load_cpu_s"] / 10}))
    assert many["after"] == many["before"] + late
    assert many["before"] > 0.95 * size
    assert many["peak_mb"] < 8_000
    assert many["load_cpu_s"] < 14 * some["load_cpu_s"]
