"""The log into the tables: whatever is cut off and wherever, each record is there once."""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from honeyguide.contracts import LogRecord
from honeyguide.engines.log import store
from honeyguide.engines.log.sqlite import SqliteLog
from honeyguide.engines.tables.duckdb import DuckDBTables
from honeyguide.engines.tables.snapshot import Snapshots
from honeyguide.flows.build import build
from honeyguide.flows.config import WorkspaceConfig
from honeyguide.flows.create import create
from honeyguide.flows.data import all_items, held, held_expression, load
from honeyguide.flows.keeping import compact as module
from honeyguide.flows.keeping.compact import compact
from honeyguide.flows.keeping.compactor import Compactor
from honeyguide.flows.layout import Layout
from honeyguide.flows.wiring import open_desk
from honeyguide.flows.workspace import Workspace
from honeyguide.schema.tables import EVENTS, IMPRESSIONS
from honeyguide.schema.wire import EventIn, EventsRequest, Item, RecommendRequest
from honeyguide.serving.record import event_records, item_record

NOW = 1_040_000_000_000_000
DAY_US = 86_400_000_000


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, film_files: dict[str, Path]) -> Path:
    folder = tmp_path_factory.mktemp("made") / "shop"
    create(folder, events=film_files["events"], items=film_files["items"], users=film_files["users"])
    return folder


@pytest.fixture
def layout(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    monkeypatch.setattr(store, "_BLOCK", 4)  # the log lets go of whole blocks
    shutil.copytree(made, tmp_path / "shop")
    return Layout.open(tmp_path / "shop")


def _post(layout: Layout, first: int, count: int, *, at: int = NOW) -> None:
    events = [
        EventIn(f"p{n % 9}", "f3", "rating", event_id=f"e{n}", happened_at=(at + n) / 1e6)
        for n in range(first, first + count)
    ]
    records, _ = event_records(EventsRequest(events), at + 10_000_000)
    log = SqliteLog(layout.log)
    log.append(records).result()
    log.close()


def _put(layout: Layout, *items: Item) -> None:
    log = SqliteLog(layout.log)
    log.append([item_record(item, NOW) for item in items]).result()
    log.close()


def _new(layout: Layout) -> list[str]:
    """Ids of the events that came over the API, in the order in which a reader meets them."""
    ids = held(layout, EVENTS)["event_id"].to_pylist()
    return [one for one in ids if one.startswith("e") and one[1:].isdigit()]


def test_readers_see_each_record_once_before_between_and_after(layout: Layout) -> None:
    had = Snapshots(layout.tables).current("events").rows
    config = WorkspaceConfig.load(layout.config)
    for step in range(4):
        n = 10 * (step + 1)
        _post(layout, n - 10, 9)
        assert _new(layout) == [f"e{i}" for i in range(n - 1)]
        assert compact(layout)["moved"]["events"] == 9 + (step > 0)
        assert _new(layout) == [f"e{i}" for i in range(n - 1)]
        _post(layout, n - 1, 1)
        with DuckDBTables() as engine:
            expression = held_expression(engine, layout, EVENTS)
            assert expression is not None
            assert engine.arrow(expression.count().as_table()).column(0)[0].as_py() == had + n
            log = SqliteLog(layout.log)
            folded, alone = load(layout, config, engine, log), load(layout, config, engine)
            log.close()
        assert (folded.folded, alone.folded) == (1, 0)
        assert (len(folded.interactions), len(alone.interactions)) == (had + n, had + n - 1)
    assert compact(layout)["moved"]["events"] == 1
    assert compact(layout)["moved"] == {"events": 0, "items": 0, "impressions": 0}
    log = SqliteLog(layout.log)
    assert log.trimmed() == log.head(), "with nothing new, nothing stays behind"
    again, _ = event_records(EventsRequest([EventIn("p1", "f3", "rating", event_id="e1")]), NOW)
    assert log.append(again).result(10).duplicates == (0,), "an event of the tables is still known to the log"
    log.close()


@pytest.mark.parametrize("where", ["nothing in force", "events in force", "items in force", "before the trim"])
def test_a_compaction_that_dies_is_taken_up_by_the_next(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    _post(layout, 0, 10)
    _put(layout, Item("f-new", title="Brand New (2001)"), Item("f3", title="Another Title"))

    class DiedError(Exception):
        pass

    def die(*arguments: object, **named: object) -> None:
        raise DiedError

    with monkeypatch.context() as cut:
        put = Snapshots._put_in_force
        done: list[str] = []

        def dying(self: Snapshots, name: str, *arguments: object) -> object:
            if where == "nothing in force" or (where == "events in force" and name == "items"):
                raise DiedError
            done.append(name)
            return put(self, name, *arguments)  # type: ignore[arg-type]

        cut.setattr(Snapshots, "_put_in_force", dying)
        if where in ("items in force", "before the trim"):
            cut.setattr(SqliteLog, "trim", die)
        with pytest.raises(DiedError):
            compact(layout)
        assert done == {"nothing in force": [], "events in force": ["events"]}.get(where, ["events", "items"])
    assert _new(layout) == [f"e{n}" for n in range(10)], "readers see it once even so"
    _post(layout, 10, 5)
    compact(layout)
    compact(layout)
    assert _new(layout) == [f"e{n}" for n in range(15)]
    items = {row["item_id"]: row["title"] for row in all_items(layout).to_pylist()}
    assert (items["f-new"], items["f3"], len(items)) == ("Brand New (2001)", "Another Title", 201)
    assert not list((layout.tables / "events").glob(".*.tmp"))


def test_impressions_become_a_table_too(layout: Layout) -> None:
    for n in range(6):
        row = {
            "request_id": f"r{n}", "user_id": "p1", "surface": "home", "happened_at": NOW + n * DAY_US,
            "policy_version": "v", "build_id": "b", "shown_items": ["f1"], "shown_propensities": [1.0],
            "list_propensity": 1.0, "stage_us": "{}",
        }  # fmt: skip
        log = SqliteLog(layout.impressions)
        log.append([LogRecord(f"imp:r{n}", "impression", NOW, "p1", store._encode(row))]).result()
        log.close()
        if n % 2:
            compact(layout)
        assert held(layout, IMPRESSIONS)["request_id"].to_pylist() == [f"r{i}" for i in range(n + 1)]


def test_days_leave_when_their_time_has_come(layout: Layout) -> None:
    text = layout.config.read_text()
    newest = held(layout, EVENTS)["happened_at"].to_pylist()[-1]
    config = WorkspaceConfig.load(layout.config)
    here = time.time() - config.clock.offset_s
    days = (here - newest.timestamp()) / 86_400 + 30
    layout.config.write_text(text + f"\n[retention]\nevents_days = {days}\nimpressions_days = 1\nquarantine_days = 1\n")
    tables = Snapshots(layout.tables)
    before = tables.read("events")
    report = compact(layout)
    left = tables.read("events")
    cut = int((time.time_ns() // 1000 - config.clock.offset_s * 1e6 - days * DAY_US) // DAY_US * DAY_US)
    at = before["happened_at"].cast(pa.int64()).to_numpy()
    assert report["dropped"]["events"] == int((at < cut).sum()) > 100
    assert left.equals(before.filter(pa.array(at >= cut)))
    assert compact(layout)["dropped"] == {}
    again = Snapshots(layout.root / "again")
    again.write("events", left)
    assert [p.path.name for p in again.current("events").parts] == [p.path.name for p in tables.current("events").parts]


@pytest.mark.heavy
def test_a_build_names_and_pins_what_it_saw(layout: Layout) -> None:
    _post(layout, 0, 10)
    first = build(layout.root)["build_id"]
    data = json.loads(layout.manifest(first).read_text())["data"]
    tables = Snapshots(layout.tables)
    assert data["versions"] == {name: tables.current(name).id for name in ("events", "items", "users")}
    for step in range(1, 6):
        _post(layout, step * 10, 10)
        compact(layout)
    saw = tables.version("events", data["versions"]["events"])
    assert saw.rows == data["events"], "versions that builds saw stay"
    assert len(tables.history("events")) == 4
    assert build(layout.root)["build_id"] != first
    # A server that starts on either build knows all events that came after it.
    for build_id in (None, first):
        if build_id is not None:
            (layout.builds / "CURRENT").write_text(build_id)
        desk = open_desk(str(layout.root), watch=False)
        history = desk._live.online.history(desk._live.users.row("p1"), 1000, NOW + DAY_US)
        assert sum(at >= NOW for at in history.at.tolist()) == 7
        desk.close()


@pytest.mark.heavy
def test_a_server_that_was_overtaken_reads_the_tables_and_one_that_follows_never_is(layout: Layout) -> None:
    build(layout.root)
    follows, sleeps = (open_desk(str(layout.root), watch=False) for _ in range(2))
    loaded = {"follows": id(follows._live), "sleeps": id(sleeps._live)}
    for step in range(3):
        _post(layout, step * 20, 20)
        compact(layout)
        follows.tick()
    sleeps.tick()
    assert id(follows._live) == loaded["follows"]
    assert id(sleeps._live) != loaded["sleeps"]
    for desk in (follows, sleeps):
        history = desk._live.online.history(desk._live.users.row("p1"), 1000, NOW + DAY_US)
        assert sum(at >= NOW for at in history.at.tolist()) == 7
        assert desk.recommend(RecommendRequest(user_id="p1", k=3)).items
        desk.close()


@pytest.mark.heavy
def test_processes_that_write_in_turn_know_each_event_once(shop: Path) -> None:
    desks = [open_desk(str(shop), watch=False) for _ in range(2)]
    chance = np.random.default_rng(3)
    for step in range(40):
        desk = desks[int(chance.integers(2))]
        events = [
            EventIn(f"p{n % 7}", f"f{n % 190}", "rating", event_id=f"own {n}", value=4.0)
            for n in chance.integers(0, 300, int(chance.integers(1, 30))).tolist()
        ]
        told = desk.record(EventsRequest(events)).result(10)
        assert told.accepted + told.duplicates == len(events)
        if step % 5 == 0:
            desks[step % 2].put_item(Item(f"f-new-{step}", title=f"New {step}")).result(10)
        if chance.random() < 0.3:
            desks[int(chance.integers(2))].tick()
    fresh = open_desk(str(shop), watch=False)
    for desk in (*desks, fresh):
        desk.tick()
    later = time.time_ns() // 1000
    for person in range(7):
        histories = [
            Counter(desk._live.online.history(desk._live.users.row(f"p{person}"), 5_000, later).items.tolist())
            for desk in (*desks, fresh)
        ]
        assert histories[0] == histories[1] == histories[2]
    assert len({desk._live.applied for desk in (*desks, fresh)}) == 1
    assert not desks[0]._own
    for desk in (*desks, fresh):
        desk.close()


def test_the_command_says_what_it_moved(layout: Layout, run: Callable[..., tuple[int, str, str]]) -> None:
    _post(layout, 0, 10)
    code, said, _ = run("compact", layout.root)
    assert code == 0
    assert "10 events" in said
    code, said, _ = run("compact", layout.root, "--json")
    assert json.loads(said)["moved"] == {"events": 0, "items": 0, "impressions": 0}
    with Workspace(layout.root) as workspace:
        assert workspace.compact()["dropped"] == {}
        assert workspace.forget("nobody", dry_run=True)["tables"] == {}


def test_a_server_compacts_in_a_process_of_its_own_when_it_is_time(layout: Layout) -> None:
    layout.config.write_text(layout.config.read_text() + "\n[retention]\ncompact_records = 30\n")
    log = SqliteLog(layout.log)
    first, second = Compactor(layout, log), Compactor(layout, log)
    tables = Snapshots(layout.tables)
    _post(layout, 0, 20)
    first.look()
    assert not first._compact.running, "too little waits"
    _post(layout, 20, 20)
    first.look()
    second.look()
    assert first._compact.running
    assert not second._compact.running, "one looks after the log"
    until = time.monotonic() + 120
    while (first._compact.running or not tables.offset("events", log.id)) and time.monotonic() < until:
        first.look()
        time.sleep(0.05)
    assert tables.offset("events", log.id) == 40
    first.look()
    assert not first._compact.running
    first.close()
    second.close()
    log.close()


def test_compactions_and_loads_at_once_lose_nothing(layout: Layout) -> None:
    assert module.compact is compact
    _post(layout, 0, 10)
    with Snapshots(layout.tables).appender("events") as writer:
        writer.add(held(layout, EVENTS).slice(0, 0))
        row = Snapshots(layout.tables).read("events").slice(0, 1)
        writer.add(row.set_column(0, "event_id", [["loaded"]]))
        compact(layout)  # while a load is writing
    ids = held(layout, EVENTS)["event_id"].to_pylist()
    assert len(ids) == len(set(ids))
    assert "loaded" in ids
    assert _new(layout) == [f"e{n}" for n in range(10)]
