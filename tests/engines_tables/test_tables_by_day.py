"""Tables by day: whatever the pieces, the parts follow from the rows alone; what did not change is shared."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from honeyguide.engines.tables import parts
from honeyguide.engines.tables.snapshot import Snapshots
from honeyguide.errors import DataError, NotFoundError, ResourceError
from honeyguide.schema.tables import EVENTS

HOUR = 3_600_000_000
DAY = 24 * HOUR
START = 1_709_164_800_000_000  # 2024-02-29: the months that follow have 29, 31 and 30 days


def _events(ats: list[int], first: int = 0, user: str = "u") -> pa.Table:
    n = len(ats)
    rows = {
        "event_id": [f"e{first + i}" for i in range(n)], "user_id": [f"{user}{i % 3}" for i in range(n)],
        "item_id": ["i"] * n, "action": ["view"] * n, "happened_at": ats, "known_at": ats,
    }  # fmt: skip
    schema = EVENTS.arrow()
    return pa.table(
        {name: pa.array(cells, pa.int64()).cast(schema.field(name).type) if name.endswith("_at") else cells
         for name, cells in rows.items()}
    )  # fmt: skip


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "QUIET_ROWS", 6)
    monkeypatch.setattr(parts, "BUSY_ROWS", 9)
    monkeypatch.setattr(parts, "_SPILL_BYTES", 700)
    monkeypatch.setattr(parts, "_BATCH_ROWS", 2)


moments = st.one_of(
    st.integers(0, 90).map(lambda day: START + day * DAY),
    st.integers(0, 30 * 24).map(lambda hour: START + hour * HOUR + 17),
    st.integers(0, DAY).map(lambda us: START + 2 * DAY + us),
)
pieces = st.lists(st.lists(moments, max_size=12), min_size=1, max_size=5)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(loads=st.lists(pieces, min_size=1, max_size=3))
def test_rows_are_those_of_a_stable_sort_and_parts_follow_from_them(small, tmp_path_factory, loads):
    shots, came = Snapshots(tmp_path_factory.mktemp("t")), []
    for load in loads:
        with shots.appender("events") as writer:
            for piece in load:
                writer.add(_events(piece, first=len(came)))
                came += [(at, f"e{len(came) + i}") for i, at in enumerate(piece)]
    expected = [(at, key) for at, key in sorted(came, key=lambda pair: pair[0])]
    table = shots.read("events", columns=["happened_at", "event_id"])
    ats = table["happened_at"].cast(pa.int64()).to_pylist()
    assert list(zip(ats, table["event_id"].to_pylist(), strict=True)) == expected
    scanned = pa.concat_tables(list(shots.scan("events", rows=2)) or [table.slice(0, 0)])
    assert scanned.num_rows == len(expected) == shots.current("events").rows
    for part in shots.current("events").parts:
        if part.day:
            first, end = parts.span(part.day)
            inside = pq.read_table(part.path, columns=["happened_at"])["happened_at"].cast(pa.int64()).to_pylist()
            assert len(inside) == part.rows > 0
            assert all(first <= at < end for at in inside)
    # All at once, or all over again: the same content, so the same version and the same files.
    once = Snapshots(tmp_path_factory.mktemp("t"))
    with once.appender("events", replace=True) as writer:
        keys = [key for _, key in came]
        writer.add(_events([at for at, _ in came]).set_column(0, "event_id", [keys]))
        for piece in loads[0]:
            writer.add(_events(piece).slice(0, 0))
    whole, built = once.current("events"), shots.current("events")
    renamed = [(p.day, p.rows) for p in whole.parts]
    assert renamed == [(p.day, p.rows) for p in built.parts]
    users = shots.read("events", columns=["user_id"])["user_id"]
    if users.to_pylist() == once.read("events", columns=["user_id"])["user_id"].to_pylist():
        assert (whole.sha256, [p.path.name for p in whole.parts]) == (built.sha256, [p.path.name for p in built.parts])


def test_days_that_get_no_rows_are_shared(small, tmp_path: Path):
    shots = Snapshots(tmp_path)
    days = [START + day * DAY + i for day in range(1, 20) for i in range(3)]
    first = shots.write("events", _events(days))
    assert [p.day for p in first.parts] == [f"2024-03-{day:02}" for day in range(1, 20)]
    with shots.appender("events", logs={"log": 7}) as writer:
        writer.add(_events([START + 5 * DAY + 9, START + 60 * DAY], first=1000))
    second = writer.snapshot
    assert second.logs == {"log": 7}
    shared = set(first.paths) & set(second.paths)
    assert len(shared) == 18
    assert [p.day for p in second.parts][-1] == "2024-04", "a quiet month is one file"
    with shots.appender("events") as writer:
        writer.add(_events([START + 5 * DAY + HOUR * i for i in range(8)], first=2000))
    third = writer.snapshot
    assert third.logs == {"log": 7}, "what is in the rows stays known"
    assert [p.day for p in third.parts if p.day.startswith("2024-03-05")] == [
        f"2024-03-05T{hour:02}" for hour in range(8)
    ], "a busy day is a file per hour"
    assert shots.collect("events", keep=1) == [first.id, second.id]
    assert {p.name for p in (tmp_path / "events").glob("*.parquet")} == {p.name for p in third.paths}


def test_nothing_happens_if_the_block_raises_and_an_offset_alone_is_a_version(small, tmp_path: Path):
    shots = Snapshots(tmp_path)
    first = shots.write("events", _events([START, START + DAY]))
    with pytest.raises(RuntimeError), shots.appender("events") as writer:  # noqa: PT012
        writer.add(_events([START] * 40))
        raise RuntimeError
    assert shots.current("events") == first
    assert not list((tmp_path / "events").glob(".*.tmp"))
    with shots.appender("events", logs={"log": 3}) as writer:
        pass
    assert (writer.snapshot.sha256, writer.snapshot.parts) == (first.sha256, first.parts)
    assert writer.snapshot.id != first.id
    assert shots.current("events").logs == {"log": 3}


def test_an_empty_table_has_its_columns(tmp_path: Path):
    shots = Snapshots(tmp_path)
    shots.write("events", EVENTS.arrow().empty_table())
    assert shots.read("events").column_names == [str(column) for column in EVENTS.columns]
    assert shots.read("events", columns=["user_id"]).num_rows == 0
    with shots.appender("events") as writer:
        writer.add(_events([START]))
    assert [p.day for p in writer.snapshot.parts] == ["2024-02"]


def test_an_older_version_gains_a_column_and_is_taken_apart_by_day(tmp_path: Path):
    place = tmp_path / "events"
    place.mkdir()
    old = _events([START + 40 * DAY, START]).select(
        ["event_id", "user_id", "item_id", "action", "happened_at", "known_at"]
    )
    pq.write_table(old.sort_by("happened_at"), place / "20240101-aa.parquet")
    schema = {field.name: str(field.type) for field in old.schema}
    manifest = {"id": "20240101-aa", "name": "events", "path": "20240101-aa.parquet", "rows": 2, "sha256": "aa",
                "created_at": "2024-01-01", "schema": schema}  # fmt: skip
    (place / "20240101-aa.json").write_text(json.dumps(manifest))
    (place / "CURRENT").write_text("20240101-aa")
    shots = Snapshots(tmp_path)
    assert shots.read("events")["event_id"].to_pylist() == ["e1", "e0"]
    with shots.appender("events") as writer:
        writer.add(_events([START + 1], first=5))
    assert shots.read("events")["event_id"].to_pylist() == ["e1", "e5", "e0"]
    assert shots.read("events").column_names == [str(column) for column in EVENTS.columns]
    assert [p.day for p in writer.snapshot.parts] == ["2024-02", "2024-04"]


def test_what_does_not_fit_is_refused(tmp_path: Path):
    shots = Snapshots(tmp_path)
    for table in (
        _events([START]).drop_columns(["user_id"]),
        _events([START]).append_column("odd", [["x"]]),
        _events([START]).set_column(4, "happened_at", pa.array([None], pa.timestamp("us", tz="UTC"))),
    ):
        with pytest.raises(DataError), shots.appender("events") as writer:
            writer.add(table)
    with pytest.raises(NotFoundError):
        shots.current("events")


def test_the_erased_stay_out(tmp_path: Path):
    shots = Snapshots(tmp_path)
    with shots.appender("events") as writer:
        writer.add(_events([START, START + 1, START + 2], user="p"))
    shots.forgotten.add("p1")
    assert "p1" not in shots.forgotten.path.read_text()
    with shots.appender("events", replace=True) as writer:
        writer.add(_events([START, START + 1, START + 2], user="p"))
    assert (writer.rows, writer.erased) == (2, 1)
    assert shots.read("events")["user_id"].to_pylist() == ["p0", "p2"]
    Snapshots(tmp_path).forgotten.allow("p1")
    assert not shots.forgotten
    with shots.appender("events") as writer:
        writer.add(_events([START], user="p1"))
    assert writer.erased == 0
    with pytest.raises(DataError):
        shots.forgotten.allow("p1")
    with pytest.raises(ResourceError), shots.appender("events") as writer:  # noqa: PT012
        writer.add(_events([START], user="p"))
        Snapshots(tmp_path).forgotten.add("p0")
    assert "p0" not in str(shots.forgotten.path.read_bytes())


def test_a_dead_writers_files_go_and_a_living_ones_stay(tmp_path: Path):
    shots = Snapshots(tmp_path)
    shots.write("events", _events([START]))
    (tmp_path / "events" / ".dead.tmp").mkdir()
    (tmp_path / "events" / ".dead.tmp" / "alive").touch()
    with shots.appender("events") as writer:
        writer.add(_events([START]))
        shots.collect("events")
        assert [path.name for path in (tmp_path / "events").glob(".*.tmp")] == [writer.folder.name]
    assert shots.current("events").rows == 2


@pytest.mark.parametrize("pieces", [[[1], [2, 3]], [[], [1]]])
def test_a_table_that_is_not_by_day_keeps_the_order_of_arrival(tmp_path: Path, pieces: list[list[int]]):
    shots = Snapshots(tmp_path)
    for piece in pieces:
        with shots.appender("counts") as writer:
            writer.add(pa.table({"n": pa.array(piece, pa.int64())}))
    assert shots.read("counts")["n"].to_pylist() == [n for piece in pieces for n in piece]
    assert len(shots.paths("counts")) == 1, "small parts are joined"
    with pytest.raises(DataError), shots.appender("counts") as writer:
        writer.add(pa.table({"m": [1]}))
