"""Bad input to every importer: each record is a row, a refused record as it stands, or the file is refused whole."""

from __future__ import annotations

import csv
import gzip
import io
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.csv as pv
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from foreign_helpers import FORMATS, NOW, found_in, refused_of, rows_of

from honeyguide.errors import DataError
from honeyguide.intake import foreign
from honeyguide.intake.events import load_events
from honeyguide.intake.raw import unmarked
from honeyguide.schema.tables import EVENTS

AT = 1_735_689_600
Fields = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """A format by its plainest record: what one person did with one item at one moment."""

    record: Callable[[Any, Any, Any, int], Fields]  # user, item, time, its running number
    folder: str  # where the example lies
    user: str = "user"
    item: str = "item"
    header: tuple[str, ...] = ()  # of a delimited file
    delimiter: str = ","
    prefix: str = ""  # of item ids
    shortened: bool = False  # the person is a digest of features

    def line(self, fields: Fields) -> bytes:
        """A record as the file holds it."""
        if not self.header:
            return json.dumps(fields).encode()
        if self.delimiter == "\t":
            return "\t".join(str(fields[name]) for name in fields).encode()
        out = io.StringIO()
        csv.writer(out, lineterminator="\n").writerow([fields[name] for name in fields])
        return out.getvalue()[:-1].encode()

    def write(self, path: Path, lines: list[bytes]) -> Path:
        """A file of lines, under its header."""
        head = [self.delimiter.join(self.header).encode()] if self.header else []
        path.write_bytes(b"\n".join([*head, *lines]) + b"\n")
        return path

    def some(self, n: int = 5) -> list[bytes]:
        """Good lines."""
        return [self.line(self.record(f"u{k % 2}", str(k % 3), str(AT + k), k)) for k in range(n)]


def _metarank(user, item, at, n):
    return {"event": "interaction", "id": f"e{n}", "timestamp": at, "user": user, "type": "click", "item": item}


def _retail(user, item, at, n):
    return {"eventType": "detail-page-view", "visitorId": user, "eventTime": at,
            "productDetails": [{"product": {"id": item}}], "pageViewId": str(n)}  # fmt: skip


def _dsjson(user, item, at, n):
    return {"_label_cost": 0, "_label_probability": 0.6, "_label_Action": 1, "_labelIndex": 0, "EventId": f"d{n}",
            "Timestamp": at, "a": [1, 2], "p": [0.6, 0.4],
            "c": {"User": {"id": user}, "_multi": [{"_tag": item}, {"_tag": "other"}]}}  # fmt: skip


def _gorse(user, item, at, n):
    return {"FeedbackType": f"like{n}", "UserId": user, "ItemId": item, "Timestamp": at}


def _ubi(user, item, at, n):
    return {"action_name": "click", "query_id": f"q{n}", "client_id": user, "timestamp": at,
            "event_attributes": {"object": {"object_id": item}}}  # fmt: skip


def _personalize(user, item, at, n):
    return {"USER_ID": user, "ITEM_ID": item, "TIMESTAMP": at, "EVENT_TYPE": f"click{n}"}


def _gorse_csv(user, item, at, n):
    return {"feedback_type": f"like{n}", "user_id": user, "item_id": item, "time_stamp": at}


def _bandit(user, item, at, n):
    return {"": n, "timestamp": at, "item_id": item, "position": 1, "click": 0, "propensity_score": 0.5,
            "user_feature_0": user}  # fmt: skip


CASES = {
    "metarank": Case(_metarank, "metarank"),
    "retail": Case(_retail, "retail"),
    "dsjson": Case(_dsjson, "dsjson"),
    "gorse": Case(_gorse, "gorse"),
    "ubi": Case(_ubi, "ubi"),
    "personalize": Case(_personalize, "personalize", header=("USER_ID", "ITEM_ID", "TIMESTAMP", "EVENT_TYPE")),
    "gorse-csv": Case(_gorse_csv, "gorse", header=("feedback_type", "user_id", "item_id", "time_stamp")),
    "open_bandit": Case(
        _bandit, "open_bandit", prefix="men:", shortened=True,
        header=("", "timestamp", "item_id", "position", "click", "propensity_score", "user_feature_0"),
    ),
    "recbole": Case(
        lambda user, item, at, n: {"user_id": user, "item_id": item, "timestamp": at, "rating": 3}, "recbole",
        header=("user_id:token", "item_id:token", "timestamp:float", "rating:float"), delimiter="\t",
    ),
}  # fmt: skip
JSON = [name for name, case in CASES.items() if not case.header]


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


@pytest.fixture(params=JSON)
def json_case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


def _file(case: Case, folder: Path, lines: list[bytes]) -> Path:
    return case.write(folder / "men.csv", lines)


def _gated(engine: Any, path: Path) -> Any:
    """The export through the gate: rows in = accepted + quarantined."""
    load = load_events(engine, found_in(path).file(EVENTS), now=NOW)
    report = load.report
    assert report.rows_in == report.accepted + report.quarantined
    assert (load.events.num_rows, load.quarantine.num_rows) == (report.accepted, report.quarantined)
    assert sum(report.reasons.values()) == report.quarantined
    return load


def test_nothing_and_blank_lines_are_no_export(case, tmp_path):
    for data in (b"", b"\n \n\n", b"\0\0\0\0", "a,b\n".encode("utf-16")):
        (tmp_path / "f").write_bytes(data)
        assert foreign.detect(tmp_path / "f") is None
    blank = _file(case, tmp_path, [line for good in case.some() for line in (good, b"")])
    assert len(rows_of(found_in(blank), EVENTS)) == 5


def test_a_file_cut_off_within_a_line_loses_that_line_alone(case, tmp_path):
    before = rows_of(found_in(_file(case, tmp_path, case.some(4))), EVENTS)
    whole = _file(case, tmp_path, case.some()).read_bytes()
    cut = len(whole) - len(case.some()[-1]) // 2 - 1
    for at in (cut, cut - 1):
        (tmp_path / "men.csv").write_bytes(whole[:at])
        found = found_in(tmp_path / "men.csv")
        refused = refused_of(found, EVENTS)
        rows = rows_of(found, EVENTS)
        assert rows[:4] == before
        assert len(rows) + len(refused) == 5
        if not case.header:
            assert [line.raw.encode() for line in refused] == [whole[:at].splitlines()[-1]]


def test_a_gzip_file_cut_off_is_refused_in_a_sentence(case, tmp_path):
    lines = case.some(3000)
    packed = gzip.compress(_file(case, tmp_path, lines).read_bytes())
    (tmp_path / "men.csv").write_bytes(packed)
    assert len(rows_of(found_in(tmp_path / "men.csv"), EVENTS)) == 3000
    (tmp_path / "men.csv").write_bytes(packed[: len(packed) - 9])
    with pytest.raises(DataError, match="gzip") as refused:
        list(found_in(tmp_path / "men.csv").parts())
    assert "\n" not in str(refused.value)


def test_a_parquet_file_that_promises_more_than_it_holds_is_missed_by_nobody(tmp_path):
    for name in ("events", "queries"):
        table = pv.read_csv(FORMATS / "ubi_flat" / f"{name}.csv")
        pq.write_table(table, tmp_path / f"{name}.parquet")
    assert len(rows_of(found_in(tmp_path), EVENTS)) == 4
    whole = (tmp_path / "queries.parquet").read_bytes()
    for cut in (whole[:-20], whole[: len(whole) // 2], whole[:4] + whole[40:], b"", b"PAR1"):
        (tmp_path / "queries.parquet").write_bytes(cut)
        for there in (tmp_path, tmp_path / "queries.parquet"):
            with pytest.raises(DataError) as refused:
                list(found_in(there).parts())
            assert "\n" not in str(refused.value)


def test_bytes_of_another_encoding_cost_one_line_and_come_back(case, tmp_path):
    lines = case.some(6)
    lines[2] = case.line(case.record("u0", "KEY", str(AT), 2)).replace(b"KEY", "stra\xdfe".encode("latin-1"))
    path = _file(case, tmp_path, lines)
    found = found_in(path)
    kept = [row for row in rows_of(found, EVENTS) if "\ufffd" not in str(row)]
    assert len(kept) == 5
    broken = [unmarked(line.raw) for line in refused_of(found, EVENTS)]
    if not case.header:
        assert broken == [lines[2]]
    elif broken:
        assert b"stra\xdfe" in broken[0]


def test_lines_that_are_none_are_refused_as_they_stand(json_case, tmp_path):
    junk = [b"{", b"[1,2]", b"42", b'"text"', b"null", b'{"a":NaN}', b'{"a":1}}', b'{"x":"\\ud800"}', b"[" * 5000]
    good = json_case.some(12)
    lines = [line for pair in zip(good, [*junk, *[b""] * 3], strict=True) for line in pair]
    found = found_in(_file(json_case, tmp_path, lines))
    refused = refused_of(found, EVENTS)
    assert [line.raw.encode() for line in refused] == junk
    assert [line.row_number for line in refused] == [2 * n + 2 for n in range(len(junk))]
    assert all(line.detail.endswith(".") for line in refused)
    assert len(rows_of(found, EVENTS)) == 12


def test_an_object_that_is_no_record_is_refused_or_lacks_its_item(json_case, tmp_path):
    strange = [{}, {"hello": "world"}, {"event": "party", "eventType": 3, "c": 7}]
    lines = [*json_case.some(), *(json.dumps(one).encode() for one in strange)]
    found = found_in(_file(json_case, tmp_path, lines))
    rows = rows_of(found, EVENTS)
    refused = refused_of(found, EVENTS)
    empty = [row for row in rows if "item_id" not in row]
    assert len(rows) - len(empty) == 5
    assert len(empty) + len(refused) == len(strange)


IDS = ['a "quoted" one', "two\nlines", "semi;colon,comma|bar", "\u540d\u524d \U0001f36f", "back\\slash", "x" * 10_000]


@pytest.mark.parametrize("odd", IDS, ids=["quotes", "newline", "marks", "emoji", "backslash", "long"])
def test_odd_ids_arrive_exactly(case, tmp_path, odd):
    if case.delimiter == "\t":
        odd = odd.replace("\n", " ")  # an atomic file has no way to write a line break
    lines = [*case.some(3), case.line(case.record(odd, odd, str(AT + 9), 9))]
    found = found_in(_file(case, tmp_path, lines))
    row = rows_of(found, EVENTS)[3]
    assert row["item_id"] == case.prefix + odd
    if not case.shortened:
        assert row["user_id"] == odd
    else:
        assert row["context"]["user_feature_0"] == odd


@pytest.mark.parametrize("value, text", [(42, "42"), (42.0, "42"), (0, "0"), (2**70, str(2**70)), (1.5, "1.5")])
def test_numbers_as_ids_are_the_same_as_their_text(json_case, tmp_path, value, text):
    lines = [*json_case.some(3), json_case.line(json_case.record(value, value, str(AT), 9))]
    found = found_in(_file(json_case, tmp_path, lines))
    rows = rows_of(found, EVENTS)
    if len(rows) == 4:
        assert (rows[3]["user_id"], rows[3]["item_id"]) == (text, text)
    else:
        assert isinstance(value, float), "only a feature that is a fraction is no id"


@pytest.mark.parametrize("value", [True, ["a"], {"a": 1}])
def test_what_is_neither_text_nor_number_is_no_id(json_case, tmp_path, value):
    record = json_case.record("u", value, str(AT), 9)
    lines = [*json_case.some(3), json_case.line(record)]
    found = found_in(_file(json_case, tmp_path, lines))
    rows, refused = rows_of(found, EVENTS), refused_of(found, EVENTS)
    assert len(rows[:3]) == 3
    if refused:
        assert json.loads(refused[0].raw) == record
    else:
        assert rows[3]["item_id"].startswith("action-"), "an action without an id goes by its features"


def test_extra_fields_are_kept_and_counted(case, tmp_path):
    case_lines = [case.record(f"u{n}", str(n), str(AT + n), n) | {"colour": "deep blue"} for n in range(4)]
    header = (*case.header, "colour:token" if case.delimiter == "\t" else "colour") if case.header else ()
    odd = Case(case.record, case.folder, header=header, delimiter=case.delimiter)
    found = found_in(odd.write(tmp_path / "men.csv", [odd.line(fields) for fields in case_lines]))
    rows = rows_of(found, EVENTS)
    assert [row.get("context", row)["colour"] for row in rows] == ["deep blue"] * 4
    if found.format != "recbole":
        assert any("kept in context as JSON" in note and "colour (4)" in note for note in found.notes)


def test_each_field_may_be_missing(json_case, tmp_path):
    record = json_case.record("u", "i", str(AT), 9)
    for name in record:
        lines = [*json_case.some(), json_case.line({key: record[key] for key in record if key != name})]
        found = found_in(_file(json_case, tmp_path, lines))
        rows, refused = rows_of(found, EVENTS), refused_of(found, EVENTS)
        assert len(rows) + len(refused) == 6
        assert rows[:5] == rows_of(found_in(_file(json_case, tmp_path, json_case.some())), EVENTS)


# -------------------------------------------------------------------------------------------- through the gate

UNITS = {
    "seconds": lambda s: str(s), "milliseconds": lambda s: str(s * 1000), "microseconds": lambda s: str(s * 10**6),
    "nanoseconds": lambda s: str(s * 10**9), "a number": lambda s: s * 1000,
}  # fmt: skip


@pytest.mark.parametrize("unit", UNITS)
def test_times_in_four_units_are_the_same_moments(engine, case, tmp_path, unit):
    lines = [case.line(case.record(f"u{n}", str(n), UNITS[unit](AT + 60 * n), n)) for n in range(5)]
    load = _gated(engine, _file(case, tmp_path, lines))
    assert [at.timestamp() for at in load.events["happened_at"].to_pylist()] == [AT + 60 * n for n in range(5)]


def test_bad_rows_are_quarantined_with_reasons(engine, case, tmp_path):
    bad = {
        "id_too_long": case.record("u" * 600, "i" * 600, str(AT), 10),
        "unreadable_time": case.record("u", "i", "soon", 11),
        "time_in_future": case.record("u", "i", str(2_000_000_000), 12),
        "missing_item": case.record("u", "", str(AT), 13),
    }
    lines = [*case.some(8), *(case.line(fields) for fields in bad.values())]
    reasons = _gated(engine, _file(case, tmp_path, lines)).report.reasons
    if case.folder == "dsjson":
        bad.pop("missing_item")  # an action without an id goes by its features
    assert set(bad) <= set(reasons), reasons


def test_the_same_file_twice_is_counted_once(engine, case, tmp_path):
    lines = case.some()
    once = _gated(engine, _file(case, tmp_path, lines))
    assert once.report.reasons == {}
    twice = _gated(engine, _file(case, tmp_path, lines + lines))
    if case.folder == "open_bandit":
        assert twice.report.accepted == 10, "a row's place is its only id there"
    else:
        assert twice.report.reasons == {"duplicate": 5}
        assert twice.events.equals(once.events)


@pytest.mark.parametrize("which", [name for name in CASES if name not in ("recbole", "open_bandit")])
def test_two_copies_of_a_file_in_one_folder(engine, which, tmp_path):
    """But for RecBole and Open Bandit, where files of other names are other datasets."""
    case = CASES[which]
    for name in ("monday", "tuesday"):
        case.write(tmp_path / name, case.some())
    load = _gated(engine, tmp_path)
    assert (load.report.accepted, load.report.reasons) == (5, {"duplicate": 5})


# ----------------------------------------------------------------------------------------------------- fuzzing

WORDS = [b'"', b"{", b"}", b"[", b"]", b",", b":", b"\\", b"\\u12", b"\xff", b"\xef\xbf\xbd<FF>", b"\t", b"\r", b"\n",
         b"null", b"true", b"-1", b"1e999", b"NaN", b"\0", b"item", b"ranking", b"'", b"\xe2\x80\xa8", b""]  # fmt: skip
edits = st.lists(
    st.tuples(st.floats(0, 1), st.integers(0, 12), st.sampled_from(WORDS) | st.binary(max_size=4)), max_size=6
)


@pytest.mark.parametrize("name", CASES)
@settings(max_examples=40, deadline=None)
@given(edits=edits)
def test_whatever_is_changed_each_line_is_accounted_for(tmp_path_factory, engine, name, edits):
    case = CASES[name]
    path = tmp_path_factory.mktemp("fuzz") / "men.csv"
    data = case.write(path, case.some(8)).read_bytes()
    for place, length, put in edits:
        at = int(place * len(data))
        data = data[:at] + put + data[at + length :]
    path.write_bytes(data)
    try:
        found = foreign.detect(path)
        if found is None:
            return
        parts = [raw for _, raw in found.parts(EVENTS)]
        load = load_events(engine, found.file(EVENTS), now=NOW)
    except DataError:
        return
    report = load.report
    assert report.rows_in == sum(raw.rows_in for raw in parts) == report.accepted + report.quarantined
    assert load.events.num_rows == report.accepted
    numbers = {n for raw in parts for n in [*raw.row_number.tolist(), *(line.row_number for line in raw.refused)]}
    if not case.header:
        lines = data.removeprefix(b"\xef\xbb\xbf").split(b"\n")
        assert numbers == {at for at, line in enumerate(lines, 1) if line.strip()}
        for raw in parts:
            for line in raw.refused:
                assert unmarked(line.raw) == lines[line.row_number - 1].rstrip(b"\r")


EXAMPLES = [
    "metarank/events.jsonl", "retail/user_events.jsonl", "retail/products.jsonl", "dsjson/decisions.dsjson",
    "gorse/feedback.jsonl", "gorse/items.jsonl", "gorse/users.jsonl", "ubi/ubi_queries.jsonl", "ubi/ubi_events.jsonl",
]  # fmt: skip
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
)


def _changed(value: Any, turns: list[int], put: Any) -> Any:
    """The value with what lies at some path replaced."""
    if not turns or not isinstance(value, dict | list) or not value:
        return put
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    key = keys[turns[0] % len(keys)]
    copied = dict(value) if isinstance(value, dict) else list(value)
    copied[key] = _changed(value[key], turns[1:], put)
    return copied


@pytest.mark.parametrize("name", EXAMPLES)
@settings(max_examples=60, deadline=None)
@given(
    at=st.integers(0, 9), turns=st.lists(st.integers(0, 9), min_size=1, max_size=5),
    put=anything | st.just({}) | st.just([]) | st.just([{}]) | st.just("") | st.just(2**70) | st.just("0"),
)  # fmt: skip
def test_any_value_anywhere_is_a_row_or_a_refusal(tmp_path_factory, name, at, turns, put):
    source = [json.loads(line) for line in (FORMATS / name).read_text().splitlines()]
    source[at % len(source)] = _changed(source[at % len(source)], turns, put)
    path = tmp_path_factory.mktemp("values") / "export"
    path.write_bytes(b"\n".join(json.dumps(record).encode() for record in source * 2))
    found = foreign.detect(path)
    if found is None:
        return
    told: set[int] = set()
    for _, raw in found.parts():
        told |= {*raw.row_number.tolist(), *(line.row_number for line in raw.refused)}
        assert all(line.detail.endswith(".") for line in raw.refused)
    merged = "metarank" in name or "dsjson" in name  # metadata comes in pieces; an action is described once
    lines = set(range(1, 2 * len(source) + 1))
    assert told <= lines
    assert merged or told == lines
    if found.format == "dsjson":
        try:
            made = foreign.decisions(path, now=NOW)
        except DataError:
            return
        assert made.rows_in >= len(lines)
