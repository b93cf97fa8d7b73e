"""A person leaves: no byte names them, and what is built afterwards equals what was built of data without them."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from honeyguide.contracts import LogRecord
from honeyguide.engines.log.sqlite import SqliteLog
from honeyguide.engines.tables.snapshot import Snapshots
from honeyguide.engines.trees.catboost_trees import CatBoostTrees
from honeyguide.errors import BuildError, DataError
from honeyguide.flows.build import build, rollback
from honeyguide.flows.create import create
from honeyguide.flows.keeping.compact import compact
from honeyguide.flows.keeping.forget import forget
from honeyguide.flows.keeping.traces import Person
from honeyguide.flows.layout import Layout
from honeyguide.flows.loading.load import load
from honeyguide.flows.operate import server
from honeyguide.flows.wiring import open_desk
from honeyguide.schema.wire import EventIn, EventsRequest, RecommendRequest, SearchRequest
from honeyguide.serving.record import event_records

PERSON = "ada.lovelace@example.org"
NOW = 1_040_000_000_000_000
DAY_S = 86_400


def _files(folder: Path, source: dict[str, Path], *, everybody: bool) -> dict[str, Path]:
    """The films, with one more person or without; a line that only she spoilt; items that nobody or only she knows."""
    folder.mkdir()
    events, users = (pq.read_table(source[name]).to_pylist() for name in ("events", "users"))
    start = max(row["ts"] for row in events) - 90 * DAY_S
    hers = [
        *({"customer_id": PERSON, "movie_id": f"f{7 * n % 200}", "stars": float(1 + n % 5), "ts": start + n * 997}
          for n in range(40)),
        {"customer_id": PERSON, "movie_id": "only-hers", "stars": 5.0, "ts": start + 50_000},
        {"customer_id": PERSON, "movie_id": "shared", "stars": 5.0, "ts": start + 50_001},
        {"customer_id": PERSON, "movie_id": "f1", "stars": float("nan"), "ts": start + 50_002},
    ]  # fmt: skip
    others = [
        {"customer_id": "p1", "movie_id": "shared", "stars": 4.0, "ts": start + 60_000},
        {"customer_id": "p2", "movie_id": "nobody knows", "stars": 4.0, "ts": start + 60_001},
        {"customer_id": "p3", "movie_id": "f1", "stars": float("nan"), "ts": start + 60_002},
    ]
    rows = sorted([*events, *others, *(hers if everybody else [])], key=lambda row: row["ts"])
    people = [*users[:70], *([{"customer_id": PERSON, "gender": "F"}] if everybody else []), *users[70:]]
    paths = {name: folder / f"{name}.parquet" for name in ("events", "items", "users")}
    pq.write_table(pa.Table.from_pylist(rows), paths["events"])
    pq.write_table(pa.Table.from_pylist(people), paths["users"])
    shutil.copy(source["items"], paths["items"])
    return paths


def _click(layout: Layout, *, everybody: bool) -> None:
    """What came over the API since, in the log."""
    clicks = [("p1", "f3"), (PERSON, "f4"), ("p5", "f9"), (PERSON, "shared"), ("latest", "f11"), (PERSON, "f12")]
    batch = EventsRequest([
        EventIn(user, item, "rating", event_id=f"{n}-{user}", value=5.0, happened_at=NOW / 1e6 + n, session_id=user)
        for n, (user, item) in enumerate(clicks)
        if everybody or user != PERSON
    ])  # fmt: skip
    records, refused = event_records(batch, NOW + 10_000_000)
    assert not refused
    log = SqliteLog(layout.log)
    log.append(records).result()
    log.close()


def _show(layout: Layout, *, everybody: bool) -> None:
    """What was shown, in the other log."""
    records = []
    for n, user in enumerate(["p1", PERSON, "p2", PERSON]):
        row = {
            "request_id": f"r{n}", "user_id": user, "surface": "home", "happened_at": NOW + n, "policy_version": "v",
            "build_id": "b", "shown_items": ["f3", "f4"], "shown_propensities": [1.0, 1.0], "list_propensity": 1.0,
            "stage_us": "{}", "context": json.dumps({"note": user}),
        }  # fmt: skip
        if everybody or user != PERSON:
            records.append(LogRecord(f"imp:r{n}", "impression", NOW + n, user, msgspec.msgpack.encode(row)))
    log = SqliteLog(layout.impressions)
    log.append(records).result()
    log.close()


def _world(folder: Path, source: dict[str, Path], *, everybody: bool) -> Layout:
    files = _files(folder, source, everybody=everybody)
    create(folder / "w", events=files["events"], items=files["items"], users=files["users"], name="films")
    layout = Layout.open(folder / "w")
    _click(layout, everybody=everybody)
    _show(layout, everybody=everybody)
    return layout


def _folders(layout: Layout) -> dict[str, Path]:
    manifest = json.loads(layout.manifest(layout.current_build()).read_text())
    return {name: layout.root / place for name, place in manifest["folders"].items()}


def _values(path: Path) -> object:
    """A file as what it says: tables by value, trees by their splits (a file of them is dated), else by its bytes."""
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pydict()
    if path.suffix == ".cbm":
        trees = CatBoostTrees().load(path).arrays()
        return {field.name: np.asarray(getattr(trees, field.name)).tolist() for field in fields(trees)}
    return _DATED.sub(b"", path.read_bytes()) if path.stem == "card" else path.read_bytes()


_DATED = re.compile(rb'\d{8}T\d{12}-|"fingerprint": "\w+"|"logs": \{[^}]*\}')
"""In a dataset card: when a version was written, and the log's name and offsets."""


def _places(layout: Layout, needle: bytes) -> Iterator[str]:
    """Where in a workspace the bytes stand: in files as they are, in Parquet's values, in the log's records."""
    for path in sorted(layout.root.rglob("*")):
        if not path.is_file():
            continue
        if needle in path.read_bytes():
            yield f"{path} as it is"
        if path.suffix == ".parquet":
            for name, column in zip(pq.read_schema(path).names, pq.read_table(path).columns, strict=True):
                flat = column
                while pa.types.is_list(flat.type):
                    flat = pc.list_flatten(flat)
                if pa.types.is_string(flat.type) and any(needle in str(v).encode() for v in flat.to_pylist()):
                    yield f"{path}: {name}"
        if path.suffix == ".sqlite":
            with sqlite3.connect(path) as db:
                for (table,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
                    if any(needle in bytes(str(row), "utf-8") for row in db.execute(f"SELECT * FROM {table}")):
                        yield f"{path}: {table}"


@pytest.mark.heavy
def test_a_build_afterwards_is_a_build_that_never_saw_them(tmp_path: Path, film_files: dict[str, Path]) -> None:
    layout = _world(tmp_path / "with", film_files, everybody=True)
    never = _world(tmp_path / "without", film_files, everybody=False)
    shutil.copy(never.config, layout.config)  # what a person writes is no data
    old = build(layout.root)["build_id"]
    desk = open_desk(str(layout.root), watch=False)
    desk.recommend(RecommendRequest(user_id=PERSON, context={"note": PERSON}, k=5))
    desk.search(SearchRequest("space", user_id=PERSON))
    desk.close()
    (layout.reports / "people.html").write_text(f"<td>{PERSON}</td>")
    (layout.reports / "sums.html").write_text("<td>1,000 people</td>")
    compact(layout)
    assert list(_places(layout, PERSON.encode())), "the search finds what is there"

    told = forget(layout.root, PERSON, dry_run=True)
    assert told["tables"]["events"] == 42 + 3
    assert told["tables"]["quarantine"] == told["tables"]["users"] == 1
    assert told["tables"]["impressions"] == 4
    assert told["builds"] == [old]
    assert "reports/people.html" in told["reports"]
    assert list(_places(layout, PERSON.encode())), "a dry run touches nothing"

    report = forget(layout.root, PERSON)
    assert list(_places(layout, PERSON.encode())) == []
    assert (report["builds"], report["in_service"]) == ([old], None)
    assert not (layout.reports / "people.html").exists()
    assert (layout.reports / "sums.html").exists()
    with pytest.raises(BuildError, match=r"retired on .* erased"):
        open_desk(str(layout.root))
    with pytest.raises(BuildError, match="retired"):
        rollback(layout.root, old)

    build(layout.root)
    build(never.root)
    assert list(_places(layout, PERSON.encode())) == []
    ours, theirs = Snapshots(layout.tables), Snapshots(never.tables)
    for name in ("events", "items", "users"):
        assert ours.read(name).equals(theirs.read(name)), name
        assert ours.current(name).sha256 == theirs.current(name).sha256
        assert [p.path.name for p in ours.current(name).parts] == [p.path.name for p in theirs.current(name).parts]
    assert ours.read("quarantine")["raw"].to_pylist() == theirs.read("quarantine")["raw"].to_pylist() != []
    mine, others = _folders(layout), _folders(never)
    assert mine.keys() == others.keys()
    for name, folder in mine.items():
        if name == "text":
            continue  # an index names its segments at random: what it answers is compared below
        files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
        assert files == sorted(path.relative_to(others[name]) for path in others[name].rglob("*") if path.is_file())
        for file in files:
            if file.name != "done.json":  # the step's inputs, by the hashes of this workspace
                assert _values(folder / file) == _values(others[name] / file), (name, file)
    _same_answers(layout, never)


def _same_answers(layout: Layout, never: Layout) -> None:
    desks = [open_desk(str(one.root), writable=False, watch=False) for one in (layout, never)]
    try:
        people = desks[0]._live.users.ids
        assert list(people) == list(desks[1]._live.users.ids)
        requests: list[RecommendRequest | SearchRequest] = [
            RecommendRequest(user_id=user, k=20, log=False) for user in (*people[::9], PERSON, "latest")
        ]
        requests += [RecommendRequest(surface="item", item_id=item, k=20, log=False) for item in ("f3", "shared")]
        requests += [SearchRequest(query, k=20, log=False) for query in ("space story", "love", "shared", "nobody")]
        for n, bare in enumerate(requests):
            request = msgspec.structs.replace(bare, request_id=f"the {n}th")  # exploration draws by the request's id
            ask = [desk.search if isinstance(request, SearchRequest) else desk.recommend for desk in desks]
            one, other = (
                [(i.item_id, round(i.score, 9), i.heads, i.reason, i.sources) for i in answer(request).items]  # type: ignore[arg-type]
                for answer in ask
            )
            assert one == other, request
    finally:
        for desk in desks:
            desk.close()


@pytest.mark.heavy
def test_a_running_server_drops_the_person_and_an_old_file_does_not_bring_them_back(
    tmp_path: Path, film_files: dict[str, Path]
) -> None:
    layout = _world(tmp_path / "world", film_files, everybody=True)
    saw = build(layout.root)["build_id"]
    assert PERSON in msgspec.json.decode((_folders(layout)["catalog"] / "users.json").read_bytes())
    desk = open_desk(str(layout.root), watch=False)
    row = desk._live.users.row(PERSON)
    assert row >= 0
    assert len(desk._live.online.history(row, 100, NOW + DAY_S * 1_000_000).items) > 10
    forget(layout.root, PERSON)
    desk.tick()
    assert desk._live.build_id == saw
    assert PERSON not in desk._live.users
    assert PERSON not in desk._live.users.ids
    assert len(desk._live.online.history(row, 100, NOW + DAY_S * 2_000_000).items) == 0
    assert PERSON not in json.dumps(desk.pipeline())
    answer = desk.record(EventsRequest([EventIn(PERSON, "f3", "rating"), EventIn("p1", "f3", "rating")])).result(10)
    assert (answer.accepted, [one.reason for one in answer.refused]) == (1, ["forgotten"])
    desk._look()
    assert "retired" in desk.health().detail
    with pytest.raises(BuildError, match="retired"):
        desk.recommend(RecommendRequest(user_id="p1", k=3))
    desk.close()
    report = forget(layout.root, PERSON, rebuild=True)
    assert report["in_service"] == Layout.open(layout.root).current_build() != saw
    desk = open_desk(str(layout.root), watch=False)
    desk.recommend(RecommendRequest(user_id=PERSON, k=3))
    desk.close()
    compact(layout)
    old = tmp_path / "world"
    report = load(layout.root, events=old / "events.parquet", users=old / "users.parquet")
    for line in report["loads"]:
        assert line["rows_in"] == line["accepted"] + line["quarantined"]
        assert line["reasons"]["forgotten"] == {"events": 42, "users": 1}[line["table"]]
    with Snapshots(layout.tables).appender("events") as writer:
        writer.add(_old_rows(old / "events.parquet"))
    assert writer.erased == 42
    assert list(_places(layout, PERSON.encode())) == []
    forget(layout.root, PERSON, allow_return=True)
    with Snapshots(layout.tables).appender("events") as writer:
        writer.add(_old_rows(tmp_path / "world" / "events.parquet"))
    assert writer.erased == 0


def _old_rows(path: Path) -> pa.Table:
    """Her rows of the old file, as an importer would map them."""
    rows = [
        row for row in pq.read_table(path).to_pylist() if row["customer_id"] == PERSON and row["stars"] == row["stars"]
    ]
    at = pa.array([row["ts"] * 1_000_000 for row in rows], pa.int64()).cast(pa.timestamp("us", tz="UTC"))
    return pa.table({
        "event_id": [f"old{n}" for n in range(len(rows))], "user_id": [row["customer_id"] for row in rows],
        "item_id": [row["movie_id"] for row in rows], "action": ["rating"] * len(rows),
        "value": [row["stars"] for row in rows], "happened_at": at, "known_at": at,
    })  # fmt: skip


@pytest.mark.heavy
def test_a_server_without_a_good_build_says_so_and_takes_events(shop: Path) -> None:
    def ask(path: str, body: object = None) -> tuple[int, str]:
        data = None if body is None else msgspec.json.encode(body)
        try:
            with urllib.request.urlopen(urllib.request.Request(f"{api.url}{path}", data)) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    with server(shop, port=0, workers=2, api_keys=()) as api:
        assert ask("/v1/recommend", {"user_id": "p1"})[0] == 200
        forget(shop, "p1")
        # Two workers, each looking twice a second; the socket gives any of them the next request.
        until, calm = time.monotonic() + 60, 0
        while calm < 20 and time.monotonic() < until:
            calm = calm + 1 if ask("/readyz")[0] == 503 else 0
        status, said = ask("/v1/recommend", {"user_id": "p2"})
        assert status == 503
        assert "retired" in said
        assert "honeyguide build" in said
        event = {"item_id": "f3", "action": "rating", "value": 4.0}
        status, said = ask("/v1/events", {"events": [event | {"user_id": "p2"}, event | {"user_id": "p1"}]})
        assert (status, msgspec.json.decode(said)["accepted"]) == (200, 1)
        assert "forgotten" in said
        build(shop)
        until, calm = time.monotonic() + 60, 0
        while calm < 20 and time.monotonic() < until:
            calm = calm + 1 if ask("/readyz")[0] == 200 else 0
        assert ask("/v1/recommend", {"user_id": "p2"})[0] == 200


def test_an_erasure_that_was_cut_off_is_finished_by_the_next(
    tmp_path: Path, film_files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = _world(tmp_path / "world", film_files, everybody=True)
    for place in ("compact", "_leave_table", "_leave_records", "_retire"):
        with monkeypatch.context() as cut:
            cut.setattr(f"honeyguide.flows.keeping.forget.{place}", _killed)
            with pytest.raises(KeyboardInterrupt):
                forget(layout.root, PERSON)
    forget(layout.root, PERSON)
    assert list(_places(layout, PERSON.encode())) == []


def _killed(*arguments: object, **named: object) -> None:
    raise KeyboardInterrupt


def test_the_command_says_what_it_did(tmp_path: Path, film_files: dict[str, Path]) -> None:
    layout = _world(tmp_path / "world", film_files, everybody=True)

    def run(*arguments: str) -> str:
        command = [sys.executable, "-m", "honeyguide", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    dry = json.loads(run("forget", str(layout.root), "--user", PERSON, "--dry-run", "--json"))
    assert (dry["dry_run"], dry["tables"]["events"], dry["log"]["events"]) == (True, 42, 3)
    text = run("forget", str(layout.root), "--user", PERSON)
    assert "42 rows of events" in text
    assert "keeps the person out" in text
    assert "nothing was found" in run("forget", str(layout.root), "--user", "nobody at all", "--dry-run")
    with pytest.raises(DataError):
        forget(layout.root, "")


def test_who_is_named_and_who_is_not() -> None:
    ada, number = Person("ada@x.org"), Person("42")
    assert ada.is_in('{"who": "ada@x.org", "n": 1}')
    assert ada.is_in("1,2,ada@x.org,5")
    assert ada.is_in("she wrote to ada@x.org.")
    assert not ada.is_in("1,2,granada@x.org,5")
    assert number.is_in('{"customer_id": 42, "price": 7}')
    assert not number.is_in('{"customer_id": 7, "price": 42}')
    assert number.is_in("1;42;9")
    assert not number.is_in("1;142;9")
    quoted = Person('a "b" \\ é')
    assert quoted.is_in(json.dumps({"user": 'a "b" \\ é'}))
    assert quoted.is_in('1,"a ""b"" \\ é",3')
    assert ada.without({"findings": [{"detail": "ada@x.org acted 9,000 times", "n": 1}]}) == {
        "findings": [{"detail": "[erased] acted 9,000 times", "n": 1}]
    }
    assert number.without({"user": "42", "n": 42, "items": ["42"]}) == {"user": "[erased]", "n": 42, "items": ["42"]}
    rows = pa.table({"entity": ["user", "item", "user"], "entity_id": ["42", "42", "7"]})
    assert np.array_equal(number.rows(rows), [True, False, False])
