"""`honeyguide load`: all or nothing, nothing twice, and what a file does not say stays."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from honeyguide.engines.log.sqlite import SqliteLog
from honeyguide.engines.tables.snapshot import Snapshots
from honeyguide.errors import DataError, RequestError, WorkspaceError
from honeyguide.flows.check import check
from honeyguide.flows.create import create
from honeyguide.flows.layout import Layout
from honeyguide.flows.loading.load import load
from honeyguide.flows.loading.records import records
from honeyguide.schema import columns as c

AT = 1_760_000_000


def _csv(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _events(path: Path, *numbers: int, action: str = "view") -> Path:
    return _csv(path, "event_id,user,item,action,ts", *(f"e{n},u{n % 5},i{n % 3},{action},{AT + n}" for n in numbers))


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """Forty events, three items and five people."""
    items = _csv(tmp_path / "items.csv", "item_id,title,price", *(f"i{n},Lamp {n},{n}" for n in range(3)))
    users = _csv(tmp_path / "users.csv", "user_id,age", *(f"u{n},{20 + n}" for n in range(5)))
    create(tmp_path / "shop", events=_events(tmp_path / "first.csv", *range(40)), items=items, users=users)
    return tmp_path / "shop"


def _tables(folder: Path) -> Snapshots:
    return Snapshots(Layout.open(folder).tables)


def _counts(report: dict[str, Any]) -> dict[str, tuple[int, int, int, dict[str, int]]]:
    return {
        one["table"]: (one["rows_in"], one["accepted"], one["quarantined"], one["reasons"]) for one in report["loads"]
    }


def test_the_same_files_again_add_nothing_and_every_row_is_counted(shop: Path, tmp_path: Path) -> None:
    before = {name: _tables(shop).current(name).sha256 for name in ("events", "items", "users")}
    report = load(shop, events=tmp_path / "first.csv", items=tmp_path / "items.csv", users=tmp_path / "users.csv")
    assert _counts(report) == {
        "items": (3, 0, 3, {"duplicate": 3}),
        "users": (5, 0, 5, {"duplicate": 5}),
        "events": (40, 0, 40, {"duplicate": 40}),
    }
    assert {name: _tables(shop).current(name).sha256 for name in before} == before
    assert _tables(shop).current("quarantine").rows == 48


def test_new_rows_enter_among_known_ones_in_order_of_time(shop: Path, tmp_path: Path) -> None:
    later = _events(tmp_path / "more.csv", *range(30, 60))
    packed = tmp_path / "more.csv.gz"
    packed.write_bytes(gzip.compress(later.read_bytes()))
    assert _counts(load(shop, events=packed))["events"] == (30, 20, 10, {"duplicate": 10})
    early = _csv(tmp_path / "early.csv", "event_id,user,item,action,ts", f"x,u9,i9,view,{AT - 9}")
    report = load(shop, events=early)
    assert any("1 items are in the events but not in the catalog" in note for note in report["notes"])
    events = _tables(shop).read("events")
    assert events[c.EVENT_ID].to_pylist() == ["x", *(f"e{n}" for n in range(60))]
    assert _tables(shop).read("items")[c.ITEM_ID].to_pylist() == ["i0", "i1", "i2"]


def test_a_file_speaks_for_its_columns_and_the_others_stay(shop: Path, tmp_path: Path) -> None:
    prices = pa.table({"item_id": ["i1", "i2", "i7"], "price": [9.5, 2.0, 1.0], "title": ["Lamp 1", None, "New"]})
    pq.write_table(prices, tmp_path / "prices.parquet")
    contract = Layout.open(shop).contracts / "items.toml"
    contract.unlink(missing_ok=True)
    report = load(shop, items=tmp_path / "prices.parquet")
    assert _counts(report)["items"][:3] == (3, 3, 0)
    rows = {row[c.ITEM_ID]: row for row in _tables(shop).read("items").to_pylist()}
    assert list(rows) == ["i0", "i1", "i2", "i7"], "rows keep their numbers"
    assert (rows["i1"][c.PRICE], rows["i1"][c.TITLE]) == (9.5, "Lamp 1")
    assert (rows["i2"][c.PRICE], rows["i2"][c.TITLE]) == (2.0, None), "the file has titles, and none for this one"
    only = _csv(tmp_path / "only.csv", "item_id,price", "i1,8", "i1,7")
    contract.unlink(missing_ok=True)
    assert _counts(load(shop, items=only))["items"] == (2, 1, 1, {"superseded": 1})
    row = {row[c.ITEM_ID]: row for row in _tables(shop).read("items").to_pylist()}["i1"]
    assert (row[c.PRICE], row[c.TITLE]) == (7.0, "Lamp 1")


def test_older_facts_do_not_take_the_place_of_newer_ones(tmp_path: Path) -> None:
    items = _csv(tmp_path / "i.csv", "item_id,title,known_at", "a,New,2025-06-01", "b,Old,2025-01-01")
    create(tmp_path / "shop", events=_events(tmp_path / "e.csv", 1, 2), items=items)
    again = _csv(tmp_path / "j.csv", "item_id,title,known_at", "a,Older,2025-05-01", "b,Newer,2025-07-01")
    assert _counts(load(tmp_path / "shop", items=again))["items"] == (2, 1, 1, {"superseded": 1})
    titles = dict(
        zip(*(_tables(tmp_path / "shop").read("items")[name].to_pylist() for name in (c.ITEM_ID, c.TITLE)), strict=True)
    )
    assert (titles["a"], titles["b"]) == ("New", "Newer")


def test_actions_that_the_configuration_does_not_know_are_said(shop: Path, tmp_path: Path) -> None:
    report = load(shop, events=_events(tmp_path / "zap.csv", *range(100, 103), action="Zap"))
    assert any("does not know: zap (3)" in note for note in report["notes"])
    assert not any("does not know" in note for note in load(shop, events=_events(tmp_path / "v.csv", 200))["notes"])


def test_an_event_that_waits_in_the_log_is_known_already(shop: Path, tmp_path: Path) -> None:
    import msgspec

    from honeyguide.contracts import LogRecord

    event = {
        "event_id": "e500",
        "user_id": "u",
        "item_id": "i0",
        "action": "view",
        "happened_at": AT * 10**6,
        "known_at": AT * 10**6,
    }
    log = SqliteLog(Layout.open(shop).log)
    log.append([LogRecord("e500", "event", AT * 10**6, "u", msgspec.msgpack.encode(event))]).result()
    log.close()
    assert _counts(load(shop, events=_events(tmp_path / "l.csv", 500, 501)))["events"] == (2, 1, 1, {"duplicate": 1})


def test_one_bad_file_keeps_all_of_them_out(shop: Path, tmp_path: Path) -> None:
    tables = _tables(shop)
    before = {name: tables.current(name).id for name in tables.names()}
    half = tmp_path / "half.csv.gz"
    half.write_bytes(gzip.compress(_events(tmp_path / "m.csv", *range(50, 90)).read_bytes())[:-12])
    items = _csv(tmp_path / "i.csv", "item_id,title,price", "i8,Eight,8")
    with pytest.raises(DataError, match="whole gzip file"):
        load(shop, events=half, items=items)
    with pytest.raises(DataError, match="nothing there"):
        load(shop, events=tmp_path / "none.csv")
    with pytest.raises(RequestError, match="a file to load"):
        load(shop)
    assert {name: _tables(shop).current(name).id for name in tables.names()} == before
    assert not list(Layout.open(shop).scratch.glob("*"))


def test_a_contract_refuses_a_load_and_holds_rows_back(shop: Path, tmp_path: Path) -> None:
    contract = Layout.open(shop).contracts / "events.toml"
    assert contract.exists()
    contract.write_text('table = "events"\n[columns.user_id.values]\nallowed = ["u0", "u1"]\nseverity = "quarantine"\n')
    found = _counts(load(shop, events=_events(tmp_path / "m.csv", *range(50, 55))))["events"]
    assert found == (5, 2, 3, {"value_not_allowed": 3})
    contract.write_text(contract.read_text().replace('"quarantine"', '"refuse"'))
    before = _tables(shop).current("events").id
    with pytest.raises(DataError, match="keeps the contract of events"):
        load(shop, events=_events(tmp_path / "n.csv", *range(60, 65)))
    assert _tables(shop).current("events").id == before


def test_two_loads_at_once_are_one_too_many(shop: Path, tmp_path: Path) -> None:
    from honeyguide.engines.tasks.steps import only_process

    with only_process(shop / ".loading", "load"), pytest.raises(WorkspaceError, match="no other process to load"):
        load(shop, events=tmp_path / "first.csv")


def test_the_history_and_the_command(shop: Path, tmp_path: Path, run: Callable[..., tuple[int, str, str]]) -> None:
    more = _events(tmp_path / "more.csv", 70, 71, 1)
    code, out, _ = run("load", shop, "--events", more, "--json")
    assert code == 0
    (line,) = json.loads(out)["loads"]
    assert (line["rows_in"], line["accepted"], line["reasons"]) == (3, 2, {"duplicate": 1})
    history = [one for one in records(Layout.open(shop)) if one.table == "events"]
    assert [one.accepted for one in history] == [40, 2]
    assert (history[-1].load_id, history[-1].file) == (line["load_id"], str(more))
    assert [one["rows_in"] for one in check(shop)["loads"] if one["table"] == "events"] == [40, 3]
    code, out, err = run("load", shop)
    assert (code, out) == (2, "")
    assert "a file to load" in err
    code, out, _ = run("load", shop, "--events", more)
    assert code == 0
    assert "duplicate: 3" in out


def test_json_lines_go_all_the_way(tmp_path: Path) -> None:
    path = tmp_path / "e.jsonl"
    rows = [
        {"user": f"u{n % 4}", "item": f"i{n % 6}", "type": "play", "time": f"2026-01-01T00:00:{n:02}Z", "n": n}
        for n in range(30)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"user": "u1", "it')
    report = create(tmp_path / "shop", events=path)
    assert _counts(report)["events"] == (31, 30, 1, {"unparsed_line": 1})
    found = check(path)
    assert found["evidence"]["numbers"]["events"] == 30


@pytest.mark.parametrize("rows", [1, 7])
def test_a_long_log_is_glanced_at_for_the_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    from honeyguide.flows import create as module

    monkeypatch.setattr(module, "_GLANCE_ROWS", rows)
    lines = [f"e{n},u,i{n},{'rare' if n == 33 else 'view'},{AT + n}" for n in range(60)]
    create(tmp_path / "shop", events=_csv(tmp_path / "e.csv", "event_id,user,item,action,ts", *lines))
    text = (tmp_path / "shop" / "honeyguide.toml").read_text()
    assert "rare" in text
    assert "view" in text


def test_a_file_that_was_misread_makes_no_workspace(tmp_path: Path) -> None:
    rows = [f"u{n % 5},i{n % 3},view,{AT + n},some {n}" for n in range(199)]
    log = _csv(tmp_path / "log.csv", "user,item,action,ts,value", *rows, f"u1,i1,view,{AT},7")
    with pytest.raises(DataError, match=r"199 of 200 rows refused: unreadable_number.*honeyguide check"):
        create(tmp_path / "shop", events=log, items=_csv(tmp_path / "items.csv", "item_id,title", "i0,Lamp"))
    assert not (tmp_path / "shop").exists()
