"""Held rows: what is listed and handed out, what enters again, exactly once, and what never does."""

from __future__ import annotations

import datetime as dt
import json
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from honeyguide.engines.tables.snapshot import Snapshots
from honeyguide.errors import DataError, NotFoundError, RequestError, WorkspaceError
from honeyguide.flows.create import create
from honeyguide.flows.layout import Layout
from honeyguide.flows.loading.load import load
from honeyguide.flows.loading.quality import Quality
from honeyguide.flows.loading.quarantine import Selection, listing, scan, show
from honeyguide.flows.loading.records import contract_path, records
from honeyguide.flows.loading.replay import replay
from honeyguide.schema import columns as c

HEADER = "user,item,action,value,when,place"
START = dt.datetime(2026, 1, 5, tzinfo=dt.UTC)


def line(n: int, **cells: str) -> str:
    row = {
        "user": f"u{n % 7}", "item": f"i{n % 5}", "action": "view", "value": "1.5",
        "when": (START + dt.timedelta(minutes=n)).isoformat(), "place": f"p{n % 2}",
    }  # fmt: skip
    return ",".join((row | cells).values())


GOOD = [line(n) for n in range(60)]
BAD = {
    "missing_user": line(100, user="").encode(),
    "unreadable_time": line(101, when="never").encode(),
    "time_in_future": line(102, when="2999-01-01").encode(),
    "unreadable_number": line(103, value="much").encode(),
    "unparsed_line": b"u1,i1,view",
    "broken_encoding": line(104).replace("i4", "i\udc80").encode("latin-1", "surrogateescape"),
    "duplicate": GOOD[30].encode(),
}


def write(path: Path, rows: list[Any], header: str = HEADER) -> Path:
    path.write_bytes(b"\n".join(row if isinstance(row, bytes) else row.encode() for row in [header, *rows]) + b"\n")
    return path


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace whose first load had one row of each kind of trouble."""
    folder = tmp_path_factory.mktemp("first")
    items = folder / "items.csv"
    items.write_text("item,title,price\n" + "".join(f"i{n},Item {n},{n}\n" for n in range(5)) + "i9,Bad,-1\n")
    create(folder / "shop", events=write(folder / "events.csv", [*GOOD, *BAD.values()]), items=items)
    return folder / "shop"


@pytest.fixture
def ws(first: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    shutil.copytree(first, tmp_path / "shop")
    return tmp_path / "shop"


def events(folder: Path) -> pa.Table:
    return Snapshots(Layout.open(folder).tables).read("events")


def ids(folder: Path) -> Counter[str]:
    return Counter(events(folder)[c.EVENT_ID].to_pylist())


def held(folder: Path, **chosen: Any) -> list[dict[str, Any]]:
    return show(folder, Selection(**chosen), limit=10_000)["rows"]


def all_rows(folder: Path) -> int:
    return sum(part.num_rows for part in scan(Snapshots(Layout.open(folder).tables)))


def edit(folder: Path, table: str, *pairs: tuple[str, str]) -> None:
    path = contract_path(Layout.open(folder), table)
    text = path.read_text()
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)


# ------------------------------------------------------------------------------------------- list, show, export


def test_every_row_is_accepted_or_held(first: Path) -> None:
    report = listing(first)
    loads = {load["table"]: load for load in report["loads"]}
    assert loads["events"]["rows_in"] == len(GOOD) + len(BAD) == events(first).num_rows + loads["events"]["held"]
    assert loads["events"]["reasons"] == dict.fromkeys(BAD, 1)
    assert loads["events"]["share"] == len(BAD) / (len(GOOD) + len(BAD))
    assert loads["items"]["reasons"] == {"negative_price": 1}
    assert (report["held"], report["replayed"]) == (len(BAD) + 1, 0)
    assert all(found["meaning"] for found in report["reasons"].values())


def test_a_choice_of_rows(first: Path) -> None:
    load_id = next(record.load_id for record in records(Layout.open(first)) if record.table == "events")
    assert {row[c.REASON] for row in held(first, load=load_id[:6])} == set(BAD)
    assert [row[c.ROW_NUMBER] for row in held(first, reasons=("duplicate", "missing_user"))] == [61, 67]
    assert [row[c.REASON] for row in held(first, table="items")] == ["negative_price"]
    assert held(first, state="replayed") == []
    found = show(first, limit=2)
    assert (len(found["rows"]), found["total"]) == (2, 8)
    assert listing(first, Selection(table="items"))["held"] == 1


def test_rows_go_out_byte_for_byte(first: Path, tmp_path: Path) -> None:
    out = tmp_path / "mend.csv"
    assert show(first, Selection(table="events"), export=out)["export"] == {"file": str(out), "rows": len(BAD)}
    assert out.read_bytes().split(b"\n") == [HEADER.encode(), *BAD.values(), b""]
    show(first, Selection(reasons=("broken_encoding",)), export=out)
    assert b"i\x80" in out.read_bytes()


def test_rows_of_files_that_are_written_differently(first: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="one load at a time"):
        show(first, export=tmp_path / "both")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("chosen", "error", "said"),
    [
        ({"load": "zzz"}, NotFoundError, "'zzz'"),
        ({"load": ""}, NotFoundError, "2 loads"),
        ({"reasons": ("dupl",)}, NotFoundError, "duplicate"),
        ({"table": "boards"}, NotFoundError, "events, items"),
    ],
)
def test_a_choice_of_nothing_known(first: Path, chosen: dict[str, Any], error: type[Exception], said: str) -> None:
    for ask in (listing, show, replay):
        with pytest.raises(error, match=said):
            ask(first, Selection(**chosen))  # type: ignore[operator]


def test_bad_questions(first: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="a limit of 1"):
        show(first, limit=0)
    with pytest.raises(WorkspaceError):
        listing(tmp_path)
    with pytest.raises(DataError, match="nothing there"):
        replay(first, Selection(table="events"), mended=tmp_path / "none.csv")
    with pytest.raises(RequestError, match="rows of one table"):
        replay(first, mended=write(tmp_path / "m.csv", GOOD[:1]))
    with pytest.raises(RequestError, match="at most 1 mended"):
        replay(first, Selection(reasons=("duplicate",)), mended=write(tmp_path / "m.csv", GOOD[:2]))
    assert len(ids(first)) == len(GOOD)
    assert len(held(first)) == len(BAD) + 1


def test_the_command_line(ws: Path, tmp_path: Path, run: Callable[..., tuple[int, str, str]]) -> None:
    code, out, _ = run("quarantine", "list", ws)
    assert code == 0
    assert "8 held, 0 re-entered" in out
    assert json.loads(run("quarantine", "list", ws, "--json")[1])["held"] == 8
    code, out, _ = run("quarantine", "show", ws, "--reason", "unparsed_line")
    assert "u1,i1,view" in out
    assert len(json.loads(run("quarantine", "show", ws, "--limit", "3", "--json")[1])["rows"]) == 3
    mended = write(tmp_path / "m.csv", [line(105)])
    code, out, _ = run("quarantine", "replay", ws, "--reason", "missing_user", "--with", mended)
    assert "1 rows = 1 entered + 0 stay" in out
    assert "1 re-entered" in run("quarantine", "list", ws)[1]
    assert "line(105)" not in run("quarantine", "show", ws, "--replayed")[1]
    code, out, error = run("quarantine", "replay", ws, "--load", "zzz")
    assert (code, out) == (2, "")
    assert "Expected a load that Quarantine has rows of" in error
    assert run("quarantine", "show", ws, "--limit", "0")[0] == 2
    assert run("quarantine", "replay", ws, "--map", "nonsense")[0] == 2


# ---------------------------------------------------------------------------------------------------- in again


def test_what_fails_again_stays(ws: Path) -> None:
    before = ids(ws)
    report = replay(ws)
    assert (report["rows"], report["accepted"], report["held"]) == (8, 0, 8)
    assert "1 lines have not their file's shape" in report["notes"][0]
    assert ids(ws) == before
    assert {row[c.REASON]: row[c.ROW_NUMBER] for row in held(ws, table="events")} == {
        reason: 61 + at for at, reason in enumerate(BAD)
    }


def test_mended_rows_enter_once(ws: Path, tmp_path: Path) -> None:
    show(ws, Selection(table="events"), export=tmp_path / "mend.csv")
    lines = (tmp_path / "mend.csv").read_bytes().splitlines()
    lines[1] = line(100).encode()  # a person
    lines[2] = line(101).encode()  # a time
    lines[5] = line(106).encode()  # the cells that were missing
    (tmp_path / "mend.csv").write_bytes(b"\n".join(lines) + b"\n")
    report = replay(ws, Selection(table="events"), mended=tmp_path / "mend.csv")
    assert (report["rows"], report["accepted"], report["held"]) == (7, 3, 4)
    assert max(ids(ws).values()) == 1
    assert len(ids(ws)) == len(GOOD) + 3
    left = held(ws, table="events")
    assert sorted(row[c.REASON] for row in left) == [
        "broken_encoding", "duplicate", "time_in_future", "unreadable_number",
    ]  # fmt: skip
    assert {row[c.SOURCE_FILE] for row in left} == {"mend.csv"}
    assert len(held(ws, state="replayed")) == len(BAD)
    assert replay(ws, Selection(table="events"))["accepted"] == 0
    with pytest.raises(RequestError, match="at most 4 mended rows"):
        replay(ws, Selection(table="events"), mended=tmp_path / "mend.csv")
    assert len(ids(ws)) == len(GOOD) + 3
    assert max(ids(ws).values()) == 1


def test_after_a_fix_of_the_catalog(ws: Path, tmp_path: Path) -> None:
    edit(ws, "events", ('reference = { severity = "warn"', 'reference = { severity = "quarantine"'))
    load(ws, events=write(tmp_path / "more.csv", [line(200, item="new"), line(201, item="newer"), line(202)]))
    assert [row[c.REASON] for row in held(ws)].count("unknown_item") == 2
    chosen = Selection(reasons=("unknown_item",))
    assert replay(ws, chosen)["accepted"] == 0
    (tmp_path / "new.csv").write_text("item,title\nnew,A new one\n")
    load(ws, items=tmp_path / "new.csv")
    assert replay(ws, chosen)["accepted"] == 1
    assert replay(ws, chosen)["accepted"] == 0
    assert [row[c.RAW].count("newer") for row in held(ws, reasons=("unknown_item",))] == [1]
    assert Counter(events(ws)[c.ITEM_ID].to_pylist())["new"] == 1
    load_id = next(record.load_id for record in records(Layout.open(ws)) if Path(record.file).name == "more.csv")
    mine = next(load for load in listing(ws)["loads"] if load["load_id"] == load_id)
    assert (mine["rows_in"], mine["held"], mine["replayed"]) == (3, 1, 1)


def test_after_a_fix_of_the_mapping(tmp_path: Path) -> None:
    rows = [line(n, value="much" if n % 2 else "2") for n in range(20)]
    path = write(tmp_path / "e.csv", [f"{row},{n}" for n, row in enumerate(rows)], f"{HEADER},amount")
    create(tmp_path / "shop", events=path)
    assert len(ids(tmp_path / "shop")) == 10
    report = replay(tmp_path / "shop", mapping={"value": "amount"})
    assert (report["accepted"], report["held"]) == (10, 0)
    assert len(ids(tmp_path / "shop")) == 20
    assert set(events(tmp_path / "shop")[c.VALUE].to_pylist()) == {2.0, *(float(n) for n in range(1, 20, 2))}


def test_after_a_fix_of_the_contract(ws: Path, tmp_path: Path) -> None:
    edit(ws, "events", ('range = { severity = "warn"', 'range = { severity = "quarantine"'))
    load(ws, events=write(tmp_path / "more.csv", [line(200 + n, value=str(n * 100)) for n in range(4)]))
    assert len(held(ws, reasons=("out_of_range",))) == 3
    assert replay(ws, Selection(reasons=("out_of_range",)))["held"] == 3
    edit(ws, "events", ("high = 3.0", "high = 250.0"))
    report = replay(ws, Selection(reasons=("out_of_range",)))
    assert (report["accepted"], report["held"]) == (2, 1)
    edit(ws, "events", ('broken_encoding = "quarantine"', 'broken_encoding = "warn"'))
    assert replay(ws, Selection(reasons=("broken_encoding",)))["accepted"] == 1
    assert max(ids(ws).values()) == 1


def test_rows_of_the_catalog(ws: Path) -> None:
    assert replay(ws, Selection(table="items"))["accepted"] == 0
    edit(ws, "items", ('negative_price = "quarantine"', 'negative_price = "warn"'))
    assert replay(ws, Selection(table="items"))["accepted"] == 1
    items = Snapshots(Layout.open(ws).tables).read("items")
    assert Counter(items[c.ITEM_ID].to_pylist())["i9"] == 1
    assert replay(ws, Selection(table="items"))["rows"] == 0


def test_a_few_rows_are_read_as_their_whole_file_was(tmp_path: Path) -> None:
    """Alone, milliseconds that are a thousandth too small are good seconds, and 99 stars are no odd rating."""
    at = int(START.timestamp() * 1000)
    rows = [f"u{n % 50},i{n % 20},{n % 5 + 1},{at + n * 1000}" for n in range(1_200)]
    rows += [f"u1,i1,99,{at}", f"u1,i2,3,{at // 1000}", f"u1,i3,,{at + 1}"]
    create(tmp_path / "shop", events=write(tmp_path / "r.csv", rows, "user,item,rating,timestamp"))
    reasons = {"rating_out_of_range": 1, "time_before_1990": 1, "missing_value": 1}
    assert listing(tmp_path / "shop")["loads"][0]["reasons"] == reasons
    for reason in reasons:
        assert replay(tmp_path / "shop", Selection(reasons=(reason,)))["reasons"] == {reason: 1}
    assert len(ids(tmp_path / "shop")) == 1_200


def _csv(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("\n".join([",".join(rows[0]), *(",".join(str(v) for v in row.values()) for row in rows)]) + "\n")


def _jsonl(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row, default=str) + "\n" for row in rows))


def _parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    pq.write_table(pa.Table.from_pylist(rows), path)


def _recbole(path: Path, rows: list[dict[str, Any]]) -> None:
    names = ["user_id:token", "item_id:token", "amount:float", "timestamp:float", "note:token", "tags:token_seq"]
    cells = [
        [row["user"], row["item"], row["amount"], row["when"].timestamp(), row["note"] or "", "a b"] for row in rows
    ]
    path.write_text("\n".join("\t".join(str(cell) for cell in row) for row in [names, *cells]) + "\n")


@pytest.mark.parametrize("writer", [_csv, _jsonl, _parquet, _recbole])
def test_a_row_that_is_in_already_never_enters_again(writer: Callable[..., None], tmp_path: Path) -> None:
    """An event without an id is known by its content, whatever road it takes."""
    rows = [
        {
            "when": START + dt.timedelta(seconds=n), "note": ["é \\ /", "", 'quo"ted'.replace('"', "''")][n % 3],
            "user": float(n % 5) if writer is _parquet else n % 5, "item": f"i{n % 4}", "amount": n / 7,
            "flag": bool(n % 2), "whole": n, "none": None,
        }
        for n in range(40)
    ]  # fmt: skip
    writer(tmp_path / "rows", rows)
    create(tmp_path / "shop", events=tmp_path / "rows")
    assert len(ids(tmp_path / "shop")) == 40
    report = load(tmp_path / "shop", events=tmp_path / "rows")["loads"][0]
    assert report["reasons"] == {"duplicate": 40}
    assert replay(tmp_path / "shop")["reasons"] == {"duplicate": 40}
    assert max(ids(tmp_path / "shop").values()) == 1
    assert len(ids(tmp_path / "shop")) == 40


METARANK = {"event": "interaction", "user": "u1", "session": "s", "type": "click", "item": "i1", "fields": []}


def test_rows_of_another_tools_export(tmp_path: Path) -> None:
    """They are held under our names where they could be read, as they stand where not; both can be mended."""
    at = int(START.timestamp() * 1000)
    rows = [json.dumps(METARANK | {"id": f"e{n}", "timestamp": str(at + n)}) for n in range(30)]
    rows += [json.dumps(METARANK | {"id": "x1", "timestamp": "never"}), '{"event":"interaction","id":"x2",']
    rows += [json.dumps(METARANK | {"id": "x3", "timestamp": str(at // 1000)})]
    (tmp_path / "events.jsonl").write_text("\n".join(rows) + "\n")
    shop = tmp_path / "shop"
    create(shop, events=tmp_path / "events.jsonl")
    reasons = {"unreadable_time": 1, "unparsed_line": 1, "time_before_1990": 1}
    assert listing(shop)["loads"][0]["reasons"] == reasons
    assert replay(shop)["reasons"] == reasons  # alone, the last one would be in good seconds
    (tmp_path / "mended.jsonl").write_text(json.dumps(METARANK | {"id": "x2", "timestamp": str(at)}) + "\n")
    assert replay(shop, Selection(reasons=("unparsed_line",)), mended=tmp_path / "mended.jsonl")["accepted"] == 1
    show(shop, Selection(reasons=("unreadable_time",)), export=tmp_path / "ours.jsonl")
    (tmp_path / "ours.jsonl").write_text((tmp_path / "ours.jsonl").read_text().replace("never", str(at)))
    assert replay(shop, Selection(reasons=("unreadable_time",)), mended=tmp_path / "ours.jsonl")["accepted"] == 1
    assert set(ids(shop)) == {f"e{n}" for n in range(30)} | {"x1", "x2"}


def test_a_workspace_of_an_older_version(ws: Path) -> None:
    """Its Quarantine has two columns fewer, and nobody wrote down its loads."""
    tables = Snapshots(Layout.open(ws).tables)
    old = tables.read("quarantine").filter(pa.compute.equal(tables.read("quarantine")[c.MEANT_FOR], "events"))
    shutil.rmtree(tables.folder / "quarantine")
    shutil.rmtree(ws / "loads")
    shutil.rmtree(ws / "contracts")
    (tables.folder / "quarantine").mkdir()
    part = tables.folder / "quarantine" / "20260101T000000000000-000000000000.parquet"
    pq.write_table(old.drop_columns([c.MEANT_FOR, c.REPLAYED_AT]), part)
    manifest = {
        "id": part.stem, "name": "quarantine", "rows": old.num_rows, "sha256": "0", "path": part.name,
        "created_at": "2026-01-01T00:00:00+00:00",
        "schema": {f.name: str(f.type) for f in old.schema if f.name not in (c.MEANT_FOR, c.REPLAYED_AT)},
    }  # fmt: skip
    part.with_suffix(".json").write_text(json.dumps(manifest))
    (part.parent / "CURRENT").write_text(part.stem)
    assert listing(ws)["held"] == len(BAD)
    assert replay(ws)["accepted"] == 0
    assert replay(ws, Selection(reasons=("missing_user",)), mapping={"user_id": "place"})["accepted"] == 1
    assert (listing(ws)["held"], listing(ws)["replayed"]) == (len(BAD) - 1, 1)


# ------------------------------------------------------------------------------------------------ exactly once

KILLED = """
import os, shutil, signal, sys
from pathlib import Path
import duckdb, ibis.backends.duckdb, pandas, pyarrow.parquet, honeyguide.flows.loading.replay
from honeyguide.flows.loading.quarantine import Selection
from honeyguide.flows.loading.replay import replay

first, place, mended = map(Path, sys.argv[1:])

def child(folder, left):
    def counted(do):
        def rename(*args, **more):
            nonlocal left
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1
            return do(*args, **more)
        return rename
    os.rename, Path.replace = counted(os.rename), counted(Path.replace)
    replay(folder, Selection(reasons=("missing_user", "unreadable_time")), mended=mended)

for after in range(60):
    shutil.copytree(first, place / f"shop{after}")
    # Forked before anything has started a thread: a process per kill, the imports once.
    pid = os.fork()
    if not pid:
        try:
            child(place / f"shop{after}", after)
        except BaseException as error:
            print(repr(error), flush=True)
            os._exit(3)
        os._exit(0)
    status = os.waitpid(pid, 0)[1]
    if not os.WIFSIGNALED(status):
        print(after, os.WEXITSTATUS(status))
        break
"""


@pytest.mark.heavy
def test_a_killed_replay_enters_once(first: Path, tmp_path: Path) -> None:
    """Killed before each of its renames in turn, then run again: every mended row is in once, and all are counted."""
    mended = write(tmp_path / "m.csv", [line(100), line(101, when="never again")])
    command = [sys.executable, "-c", KILLED, str(first), str(tmp_path), str(mended)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    kills, status = map(int, done.stdout.split())
    assert (status, kills > 8) == (0, True)
    recovered = 0
    for after in range(kills + 1):
        folder = tmp_path / f"shop{after}"
        entered, marked = len(ids(folder)) > len(GOOD), len(held(folder)) == len(BAD)
        chosen = Selection(reasons=("missing_user", "unreadable_time"))
        # Where all was marked already, the row that failed again is the one there would be to choose.
        report = replay(
            folder, Selection(reasons=("missing_user",)) if marked else chosen, mended=None if marked else mended
        )
        if report["recovered"] or not marked:
            assert (report["rows"], report["accepted"], report["held"]) == (2, 1, 1)
        assert entered or not report["recovered"]
        recovered += report["recovered"]
        assert len(ids(folder)) == len(GOOD) + 1, after
        assert max(ids(folder).values()) == 1, after
        report = listing(folder)
        assert (report["held"], report["replayed"]) == (len(BAD), 2), after
        assert all_rows(folder) == len(BAD) + 2  # and the item; the row that failed again is a new one
        assert not list((folder / "loads").glob("*replaying*"))
        again = [record for record in records(Layout.open(folder)) if record.replay and record.rows_in]
        assert [(record.rows_in, record.accepted, record.quarantined) for record in again] == [(2, 1, 1)]
    assert recovered > 2


def test_nobody_who_is_erased_stays_in_a_replay_cut_short(
    ws: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from honeyguide.flows.keeping.forget import forget
    from honeyguide.flows.loading.pending import Pending

    def dies(self: Pending, tables: Snapshots) -> None:
        raise KeyboardInterrupt

    mended = write(tmp_path / "m.csv", [line(100, user="ada@example.org"), line(101, user="ada@example.org", when="x")])
    with monkeypatch.context() as patched:
        patched.setattr(Pending, "finish", dies)
        with pytest.raises(KeyboardInterrupt):
            replay(ws, Selection(reasons=("missing_user", "unreadable_time")), mended=mended)
    assert len(ids(ws)) == len(GOOD) + 1
    forget(ws, "ada@example.org")
    assert len(ids(ws)) == len(GOOD)
    for path in ws.rglob("*"):
        if path.is_file():
            text = pq.read_table(path).to_pylist() if path.suffix == ".parquet" else path.read_bytes()
            assert "ada@example.org" not in str(text), path
    assert not list((ws / "loads").glob("replaying*"))


def test_two_replays_at_once(ws: Path) -> None:
    from honeyguide.engines.tasks.steps import only_process

    with only_process(ws / ".loading", "load"), pytest.raises(WorkspaceError, match="no other process to load"):
        replay(ws)


# ------------------------------------------------------------------------------------------------- the figures


def test_the_figures_of_the_page(ws: Path, tmp_path: Path) -> None:
    report = Quality(Layout.open(ws)).report()
    assert (report["rows_in"], report["accepted"], report["quarantined"]) == (73, 65, 8)
    assert (report["held"], report["replayed"]) == (8, 0)
    assert {row["reason"]: row["held"] for row in report["reasons"]} == dict.fromkeys([*BAD, "negative_price"], 1)
    assert [load["table"] for load in report["loads"]] == ["items", "events"] or len(report["loads"]) == 2
    assert [(day["day"], day["events"]) for day in report["days"]] == [("2026-01-05", 60)]
    figures = Quality(Layout.open(ws))
    assert figures.report() is figures.report()
    replay(ws, Selection(reasons=("missing_user",)), mended=write(tmp_path / "m.csv", [line(105)]))
    after = figures.report()
    assert (after["rows_in"], after["held"], after["replayed"]) == (73, 7, 1)
    assert [(load["rows_in"], load["accepted"]) for load in after["loads"] if load["replay"]] == [(1, 1)]
    assert after["days"][0]["events"] == 61


@pytest.mark.heavy
def test_an_answerer_tells_them(shop: Path) -> None:
    from honeyguide.flows.wiring import open_desk

    desk = open_desk(str(shop), writable=False, watch=False)
    try:
        report = desk.quality()
    finally:
        desk.close()
    assert report["rows_in"] == report["accepted"] + report["quarantined"] > 0
    assert {load["table"] for load in report["loads"]} == {"events", "items", "users"}
    assert json.dumps(report)


def test_a_workspace_that_never_loaded(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    report = Quality(layout).report()
    assert (report["rows_in"], report["loads"], report["days"]) == (0, [], [])
