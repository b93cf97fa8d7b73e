"""Contracts over loads: written by the first, kept or broken by the next; a refused load leaves no trace."""

from __future__ import annotations

import datetime as dt
import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from honeyguide.engines.tables.snapshot import Snapshots
from honeyguide.errors import ConfigError, DataError
from honeyguide.flows.create import create
from honeyguide.flows.layout import Layout
from honeyguide.flows.loading.load import load
from honeyguide.flows.loading.quality import quality
from honeyguide.flows.loading.records import contract_of, contract_path, past_of, records
from honeyguide.intake.quality import REASONS, meaning
from honeyguide.schema import columns as c

HEADER = "user,item,action,value,when"
TODAY = dt.datetime.now(dt.UTC).replace(hour=0, minute=0, second=0, microsecond=0)
FIRST = TODAY - dt.timedelta(days=35)


def line(n: int, at: dt.datetime, **cells: object) -> str:
    row = {"user": f"u{n % 40}", "item": f"i{n % 9}", "action": "view", "value": 1.5, "when": at.isoformat()} | cells
    return ",".join(str(cell) for cell in row.values())


def day(number: int, events: int = 40, until: int = 24) -> list[str]:
    """Events spread over a day, up to an hour; the number counts from the first day of the first load."""
    start = FIRST + dt.timedelta(days=number)
    return [
        line(number * 1_000 + n, start + dt.timedelta(seconds=n * 86_400 // events))
        for n in range(events * until // 24)
    ]  # fmt: skip


def write(path: Path, rows: list[str], header: str = HEADER) -> Path:
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four whole weeks, with a weekend of a quarter."""
    folder = tmp_path_factory.mktemp("contracts")
    rows = [row for number in range(28) for row in day(number, 40 if number % 7 < 5 else 10)]
    items, users = folder / "items.csv", folder / "users.csv"
    items.write_text("item,title\n" + "".join(f"i{n},Item {n}\n" for n in range(9)))
    users.write_text("user,city\n" + "".join(f"u{n},Bonn\n" for n in range(40)))
    create(folder / "shop", events=write(folder / "events.csv", rows), items=items, users=users)
    return folder / "shop"


@pytest.fixture
def ws(first: Path, tmp_path: Path) -> Path:
    shutil.copytree(first, tmp_path / "shop")
    return tmp_path / "shop"


def edit(folder: Path, table: str, *pairs: tuple[str, str]) -> None:
    path = contract_path(Layout.open(folder), table)
    text = path.read_text()
    for old, new in pairs:
        assert old in text, text
        text = text.replace(old, new)
    path.write_text(text)


def trace(folder: Path) -> dict[str, str]:
    """Every file of a workspace and what is in it, but for locks."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.stat().st_size and not path.name.startswith(".")
    }


def broken(folder: Path) -> list[tuple[str, str]]:
    """Codes and severities of the newest load of events."""
    newest = [record for record in records(Layout.open(folder)) if record.table == "events"][-1]
    return [(found["code"], found["severity"]) for found in newest.findings]


def test_the_first_load_writes_contracts(first: Path) -> None:
    layout = Layout.open(first)
    contract = contract_of(layout, "events")
    assert contract is not None
    assert contract.file is not None
    assert contract.file.columns == {
        "user_id": "text", "item_id": "text", "action": "text", "value": "number", "happened_at": "time",
    }  # fmt: skip
    assert contract.freshness is not None
    assert {path.name for path in layout.contracts.iterdir()} == {"events.toml", "items.toml", "users.toml"}
    assert [record.findings for record in records(layout)] == [[], [], []]
    past = past_of(records(layout), "events")
    assert (past.rows, sum(past.days.values()), sum(past.hours.values())) == (880, 880, 880)


def test_a_good_day_keeps_the_contract(ws: Path, tmp_path: Path) -> None:
    report = load(ws, events=write(tmp_path / "d.csv", day(28)))
    assert report["loads"][0]["accepted"] == 40
    assert broken(ws) == []
    assert past_of(records(Layout.open(ws)), "events").rows == 40


CASES: dict[str, tuple[Callable[[], list[str]], str, set[str]]] = {
    "half a day is missing": (lambda: day(28, until=10), HEADER, {"last_day_cut_off"}),
    "a thin day": (lambda: day(28, 12), HEADER, {"low_volume"}),
    "a flood": (lambda: day(28, 200), HEADER, {"high_volume"}),
    "a new action": (lambda: [*day(28)[1:], line(1, FIRST + dt.timedelta(days=28), action="zap")], HEADER,
                     {"value_not_allowed"}),
    "numbers of another size": (lambda: [line(n, FIRST + dt.timedelta(days=28, hours=n % 24), value=900 + n)
                                         for n in range(40)], HEADER, {"out_of_range"}),
    "a column more": (lambda: [f"{row},x" for row in day(28)], f"{HEADER},colour", {"column_new"}),
    "a column less": (lambda: [",".join(row.split(",")[:3] + row.split(",")[4:]) for row in day(28)],
                      "user,item,action,when", {"column_lost", "null_value"}),
    "texts for numbers": (lambda: [line(n, FIRST + dt.timedelta(days=28, hours=n % 24), value="x")
                                   for n in range(40)], HEADER, {"type_changed", "too_many_quarantined"}),
    "an unknown item": (lambda: [*day(28)[1:], line(1, FIRST + dt.timedelta(days=28), item="new")], HEADER, set()),
    "a bot": (lambda: [*day(28), *(line(n, FIRST + dt.timedelta(days=28, hours=9, milliseconds=200 * n), user="bot")
                                   for n in range(400))], HEADER, {"bot", "high_volume"}),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_a_load_breaks_is_said(case: str, ws: Path, tmp_path: Path) -> None:
    rows, header, codes = CASES[case]
    report = load(ws, events=write(tmp_path / "d.csv", rows(), header))
    found = broken(ws)
    assert {code for code, _ in found} == codes
    assert {severity for _, severity in found} <= {"warn"}
    shown = quality(Layout.open(ws))["loads"][0]["findings"]
    assert {one["code"] for one in shown} == codes
    assert all(any(one["detail"] in note for note in report["notes"]) for one in shown)


SHARP = {
    "half a day is missing": ("[last_day]\nseverity = \"warn\"", "[last_day]\nseverity = \"refuse\""),
    "a thin day": ("[volume]\nlowest = 0.5\nhighest = 3.0\nseverity = \"warn\"",
                              "[volume]\nlowest = 0.5\nhighest = 3.0\nseverity = \"refuse\""),
    "a new action": ('values = { severity = "warn"', 'values = { severity = "refuse"'),
    "a column more": ('new = "warn"', 'new = "refuse"'),
    "a column less": ('lost = "warn"', 'lost = "refuse"'),
    "texts for numbers": ("max_share = 0.05\nseverity = \"warn\"", "max_share = 0.05\nseverity = \"refuse\""),
    "a bot": ("per_hour = 1200\nseverity = \"warn\"", "per_hour = 1200\nseverity = \"refuse\""),
}  # fmt: skip


@pytest.mark.parametrize("case", SHARP)
def test_a_refused_load_leaves_no_trace(case: str, ws: Path, tmp_path: Path) -> None:
    rows, header, _ = CASES[case]
    edit(ws, "events", SHARP[case])
    before = trace(ws)
    (tmp_path / "new.csv").write_text("item,title\nnew,New\n")
    with pytest.raises(DataError, match="keeps the contract of events"):
        load(ws, events=write(tmp_path / "d.csv", rows(), header), items=tmp_path / "new.csv")
    assert trace(ws) == before


def test_a_bot_is_held_back_whole(ws: Path, tmp_path: Path) -> None:
    rows, _, _ = CASES["a bot"]
    edit(ws, "events", ('per_hour = 1200\nseverity = "warn"', 'per_hour = 1200\nseverity = "quarantine"'))
    report = load(ws, events=write(tmp_path / "d.csv", rows()))["loads"][0]
    assert (report["accepted"], report["reasons"]) == (40, {"bot": 400})
    assert "bot" not in Snapshots(Layout.open(ws).tables).read("events")[c.USER_ID].to_pylist()
    from honeyguide.flows.loading.quarantine import Selection
    from honeyguide.flows.loading.replay import replay

    assert replay(ws, Selection(reasons=("bot",)))["reasons"] == {"bot": 400}
    edit(ws, "events", ("per_minute = 120", "per_minute = 500"))
    assert replay(ws, Selection(reasons=("bot",)))["accepted"] == 400


def test_a_bot_among_users_that_are_known(ws: Path, tmp_path: Path) -> None:
    path = contract_path(Layout.open(ws), "events")
    path.write_text(
        path.read_text() + '\n[columns.user_id]\nreference = { table = "users", severity = "quarantine" }\n'
    )
    rows, _, _ = CASES["a bot"]
    report = load(ws, events=write(tmp_path / "d.csv", rows()))["loads"][0]
    assert report["reasons"] == {"unknown_user": 400}


def test_a_contract_that_cannot_be_read_refuses(ws: Path, tmp_path: Path) -> None:
    edit(ws, "events", ("[gate]", "[gate]\nnonsense = 3"))
    before = trace(ws)
    with pytest.raises(ConfigError, match=r"gate\.nonsense"):
        load(ws, events=write(tmp_path / "d.csv", day(28)))
    assert trace(ws) == before


def test_a_catalog_that_shrinks(ws: Path, tmp_path: Path) -> None:
    (tmp_path / "few.csv").write_text("item,title\ni1,One\n")
    load(ws, items=tmp_path / "few.csv")
    newest = [record for record in records(Layout.open(ws)) if record.table == "items"][-1]
    assert [found["code"] for found in newest.findings] == ["too_few_rows"]
    edit(ws, "items", ('least_share = 0.5\nseverity = "warn"', 'least_share = 0.5\nseverity = "refuse"'))
    (tmp_path / "none.csv").write_text("item,title\ni1,1\n")
    load(ws, items=tmp_path / "none.csv")  # as many as the load before


# ----------------------------------------------------------------------------------- rows in = accepted + held

CELLS = {
    "user": st.sampled_from(["u1", "u2", "", "x" * 600, "ü"]),
    "item": st.sampled_from(["i1", "i2", "new", ""]),
    "action": st.sampled_from(["view", "zap", ""]),
    "value": st.sampled_from(["1.5", "", "x", "-5", "1e400", "900"]),
    "when": st.sampled_from([FIRST.isoformat(), TODAY.isoformat(), "never", "2999-01-01", "1970-01-02", ""]),
}
ROWS = st.lists(
    st.one_of(
        st.fixed_dictionaries(CELLS).map(lambda row: ",".join(row.values()).encode()),
        st.sampled_from([b"u1,i1", b'u1,"i1,view,1,2026-01-01', b"\xff,i1,view,1,2026-01-01", b"a,b,c,d,e,f", b"   "]),
    ),
    min_size=1,
    max_size=25,
)
SEVERITIES = st.sampled_from(["warn", "quarantine"])


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(rows=ROWS, reference=SEVERITIES, value=SEVERITIES, span=SEVERITIES, future=SEVERITIES, nulls=SEVERITIES)
def test_rows_in_are_accepted_or_held(
    rows: list[bytes], reference: str, value: str, span: str, future: str, nulls: str, first: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:  # fmt: skip
    place = tmp_path_factory.mktemp("mix")
    shutil.copytree(first, place / "shop")
    edit(
        place / "shop", "events",
        ('reference = { severity = "warn"', f'reference = {{ severity = "{reference}"'),
        ('values = { severity = "warn"', f'values = {{ severity = "{value}"'),
        ('range = { severity = "warn"', f'range = {{ severity = "{span}"'),
        ('time_in_future = "quarantine"', f'time_in_future = "{future}"'),
        ('nulls = { severity = "warn"', f'nulls = {{ severity = "{nulls}"'),
    )  # fmt: skip
    path = place / "mix.csv"
    path.write_bytes(b"\n".join([HEADER.encode(), *rows]) + b"\n")
    tables = Snapshots(Layout.open(place / "shop").tables)
    before = {name: tables.current(name).rows for name in ("events", "quarantine")}
    try:
        report = load(place / "shop", events=path)["loads"][0]
    except DataError:
        return  # nothing in it can be read at all
    assert report["rows_in"] == report["accepted"] + report["quarantined"]
    if sum(b'"' in row for row in rows) < 2:  # two stray quotes make a value of several lines
        assert report["rows_in"] == sum(bool(row.strip()) for row in rows)
    assert sum(report["reasons"].values()) == report["quarantined"]
    assert tables.current("events").rows == before["events"] + report["accepted"]
    assert tables.current("quarantine").rows == before["quarantine"] + report["quarantined"]
    figures = quality(Layout.open(place / "shop"))
    assert figures["rows_in"] == figures["accepted"] + figures["quarantined"]
    assert figures["held"] == before["quarantine"] + report["quarantined"]


def test_every_reason_is_explained() -> None:
    for code in (*REASONS, "null_value", "out_of_range", "value_not_allowed", "not_unique", "unknown_user", "bot"):
        assert meaning(code) != code
