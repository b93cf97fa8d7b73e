"""`honeyguide bench import`: generated files hold what they say, and a hundred million events go through."""

from __future__ import annotations

import json
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


def _loaded(folder: Path, n: int) -> dict[str, float]:
    path = imports.write(folder / str(n), "parquet", n)
    code = f"from honeyguide.flows.bench.imports import one; one({str(path)!r})"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return json.loads(found.stdout)


@pytest.mark.slow
def test_a_hundred_million_events_within_eight_gigabytes(tmp_path: Path) -> None:
    some, many = _loaded(tmp_path, 10_000_000), _loaded(tmp_path, 100_000_000)
    print("cost of 100 M over 10 M:", many["cpu_s"] / some["cpu_s"])
    assert many["rows_in"] == 100_000_000 == many["accepted"] + many["quarantined"]
    assert many["peak_mb"] < 8_000
    assert many["cpu_s"] < 14 * some["cpu_s"]
