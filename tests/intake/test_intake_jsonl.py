"""JSON lines: the kernel against the standard library, bad lines as they stand, and random bytes."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from honeyguide.errors import DataError
from honeyguide.intake import blocks, files
from honeyguide.intake.events import load_events
from honeyguide.intake.files import json_lines, marked, open_raw, read, unmarked
from honeyguide.intake.jsonl import MOST_FIELDS
from honeyguide.schema import columns as c

NOW = 1_800_000_000_000_000
AT = 1_760_000_000


def _write(path: Path, *lines: str | bytes) -> Path:
    path.write_bytes(b"".join((line if isinstance(line, bytes) else line.encode()) + b"\n" for line in lines))
    return path


def _event(**more: Any) -> str:
    return json.dumps({"event_id": "1", "user_id": "u", "item_id": "i", "action": "view", "ts": AT} | more)


def _strict(line: bytes) -> Any:
    """What RFC 8259 makes of a line, by the standard library; ValueError if it is no JSON."""

    def refuse(word: str) -> None:
        raise ValueError(word)

    value = json.loads(line.decode(), parse_constant=refuse)
    json.dumps(value, ensure_ascii=False).encode()  # half a surrogate pair is a UnicodeEncodeError, so a ValueError
    return value


scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
documents = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
)
good_lines = st.dictionaries(st.text(max_size=5), documents, max_size=5).flatmap(
    lambda value: st.sampled_from(
        [json.dumps(value), json.dumps(value, ensure_ascii=False, indent=0).replace("\n", " ")]
    )
)
shreds = st.lists(
    st.sampled_from(
        ['{', '}', '[', ']', ',', ':', '"', 'a', '"a"', '1', '-', '0', '.5', 'e', '1e5', 'true', 'null', 'nul', ' ',
         '\\', '\\n', '\\u00e9', '\\ud83d\\ude00', '\\ud800', '\x01', '\t', 'é', '"b":2']
    ),
    max_size=14,
).map("".join)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.lists(good_lines | shreds | shreds.map(lambda inner: '{"a":' + inner + "}"), min_size=1, max_size=6))
@example(['{"a":1,"a":"twice"}'])
@example(['{"a":"\\ud83d\\ude00","b":"\\ud83d"}'])
def test_every_line_is_what_the_standard_library_says(tmp_path_factory, lines):
    lines = [line for line in lines if line.strip(" \t\r")]
    path = _write(tmp_path_factory.mktemp("jsonl") / "e.jsonl", '{"first":0}', *lines)
    raw = read(path)
    rows = dict(zip(raw.row_number.tolist(), raw.table.to_pylist(), strict=True))
    refused = {line.row_number: line for line in raw.refused}
    assert rows.keys() | refused.keys() == set(range(1, len(lines) + 2))
    for number, line in enumerate(lines, 2):
        try:
            value = _strict(line.encode())
        except ValueError:
            value = None
        if not isinstance(value, dict):
            assert refused[number].raw == line.rstrip("\r")
            continue
        cells = {name: cell for name, cell in rows[number].items() if cell is not None}
        kept = {name or "column_1": one for name, one in value.items() if one is not None}
        if "" in value and any(name == "" for name in value):
            continue  # a nameless field gets a name by its place
        assert cells.keys() == kept.keys()
        for name, one in kept.items():
            assert cells[name] == one if isinstance(one, str) else json.loads(cells[name]) == one


def test_numbers_and_nested_values_stay_as_they_are_written(tmp_path):
    raw = read(_write(tmp_path / "e.jsonl", '{"a": 1.50, "b": {"x": [1,  2]}, "c": 12345678901234567890, "d": false}'))
    assert raw.table.to_pylist() == [{"a": "1.50", "b": '{"x": [1,  2]}', "c": "12345678901234567890", "d": "false"}]
    assert raw.written is not None
    assert raw.written.objects(["b", "c", "nobody"]).to_pylist() == ['{"b":{"x": [1,  2]},"c":12345678901234567890}']
    assert raw.written.objects([]).to_pylist() == [None]


def test_a_field_without_a_name_is_kept_under_its_place(engine, tmp_path):
    path = _write(tmp_path / "e.jsonl", _event()[:-1] + ', "": 5, "column_6": 6}')
    (event,) = load_events(engine, path, now=NOW).events.to_pylist()
    assert json.loads(event[c.CONTEXT]) == {"column_6": 5, "column_6_2": 6}


def test_fields_that_are_none_of_ours_keep_their_types_in_the_context(engine, tmp_path):
    path = _write(tmp_path / "e.jsonl", _event(n=7, device={"os": "x"}, note="", none=None, said='say "hi"\n'))
    (event,) = load_events(engine, path, now=NOW).events.to_pylist()
    assert json.loads(event[c.CONTEXT]) == {"n": 7, "device": {"os": "x"}, "said": 'say "hi"\n'}


def test_bad_lines_come_back_byte_for_byte(engine, tmp_path):
    bad = [b'{"event_id":"2","user_id":', b"not json", b"[1]", b'"word"', b'{"a":"\xff\xfe"', b'{"a":"tab\there"}']
    broken = b'{"event_id":"9","user_id":"M\xfcller","item_id":"i","action":"view","ts":1760000000}'
    path = _write(tmp_path / "e.jsonl", _event(), *bad, broken, b"", b"  ")
    load = load_events(engine, path, now=NOW)
    held = load.quarantine.to_pylist()
    assert [unmarked(row[c.RAW]) for row in held] == [*bad, broken]
    assert [row[c.REASON] for row in held] == ["unparsed_line"] * len(bad) + ["broken_encoding"]
    assert [row[c.ROW_NUMBER] for row in held] == list(range(2, 9))
    assert load.report.rows_in == 8 == load.report.accepted + load.report.quarantined


@settings(max_examples=200, deadline=None)
@given(
    st.binary(max_size=30) | st.lists(st.sampled_from([b"\xef\xbf\xbd", b"<FC>", b"\xfc", b"<", b"a"])).map(b"".join)
)
def test_marking_is_undone_exactly(data):
    text = marked(data).decode()
    assert unmarked(text) == data
    if b"\xef\xbf\xbd" not in data:
        try:
            assert text == data.decode()
        except UnicodeDecodeError:
            assert "\ufffd" in text


def test_ids_of_every_kind_and_four_units_of_time(engine, tmp_path):
    ids = ['say "hi"', "two\nlines", "🐝" * 3, "a,b;c\td", "\\", "x" * 512, "x" * 10_000, "é" * 513]
    units = {"s": AT, "ms": AT * 10**3, "us": AT * 10**6, "ns": AT * 10**9}
    for unit, at in units.items():
        lines = [_event(event_id=str(n), user_id=one, ts=at) for n, one in enumerate(ids)]
        load = load_events(engine, _write(tmp_path / f"{unit}.jsonl", *lines), now=NOW)
        assert load.events[c.USER_ID].to_pylist() == ids[:6]
        assert load.report.reasons == {"id_too_long": 2}
        assert {at.timestamp() for at in load.events[c.HAPPENED_AT].to_pylist()} == {AT}


def test_a_field_that_comes_late_and_one_that_goes(engine, tmp_path, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 400)
    monkeypatch.setattr(files, "_SAMPLE_BYTES", 200)
    lines = [_event(event_id=str(n), session_id="s") for n in range(8)]
    lines += [
        json.dumps({"event_id": f"x{n}", "user_id": "u", "item_id": "i", "action": "view", "ts": AT, "later": n})
        for n in range(8)
    ]
    load = load_events(engine, _write(tmp_path / "e.jsonl", *lines), now=NOW)
    assert load.report.accepted == 16
    assert load.events[c.CONTEXT].to_pylist() == [None] * 8 + [f'{{"later":{n}}}' for n in range(8)]
    assert load.events[c.SESSION_ID].to_pylist() == ["s"] * 8 + [None] * 8
    assert any("also kept in context: later" in note for note in load.report.notes)


def test_more_fields_than_a_file_may_have_cost_their_line(tmp_path):
    wide = json.dumps({f"f{n}": n for n in range(MOST_FIELDS + 1)})
    raw = read(_write(tmp_path / "e.jsonl", '{"a":1}', wide, '{"a":2}'))
    assert raw.table["a"].to_pylist() == ["1", "2"]
    assert [line.raw for line in raw.refused] == [wide]


def test_lines_have_their_numbers_and_bytes(tmp_path):
    path = _write(tmp_path / "e.txt", b"one\r", b"", b"  \t", b"\xfftwo", b" three ")
    (lines,) = json_lines(path)
    assert list(lines) == [(1, b"one"), (4, b"\xfftwo"), (5, b" three ")]
    assert lines.array().to_pylist() == [b"one", b"\xfftwo", b" three "]
    (plain,) = json_lines(_write(tmp_path / "p.txt", b"a", b"b"))
    assert [value.rstrip() for value in plain.array().to_pylist()] == [b"a", b"b"]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(["", " ", "a", "bc", "é"]), max_size=30), st.integers(1, 9), st.booleans())
def test_blocks_of_any_size_give_the_same_lines(tmp_path_factory, lines, size, packed):
    path = tmp_path_factory.mktemp("lines") / "e.txt"
    data = "\n".join(lines).encode()
    path.write_bytes(gzip.compress(data) if packed else data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "BLOCK_BYTES", size)
        found = [pair for part in json_lines(path) for pair in part]
    assert found == [(n, line.encode()) for n, line in enumerate(lines, 1) if line.strip()]


@pytest.mark.parametrize("text", ["[\n{}\n]", "[]"])
def test_a_json_list_is_refused_with_what_to_do(tmp_path, text):
    path = tmp_path / "e.json"
    path.write_text(text)
    with pytest.raises(DataError, match="jq -c"):
        open_raw(path)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=80) | shreds.map(str.encode), st.booleans(), st.integers(0, 30))
def test_random_bytes_are_rows_or_a_data_error(engine, tmp_path_factory, body, packed, cut):
    path = tmp_path_factory.mktemp("fuzz") / "e.jsonl"
    data = f"{_event()}\n".encode() + body + b"\n" + _event(event_id="3").encode()
    data = gzip.compress(data)[: -cut or None] if packed else data
    path.write_bytes(data)
    try:
        load = load_events(engine, path, now=NOW)
    except DataError:
        return
    report = load.report
    assert report.rows_in == report.accepted + report.quarantined == load.events.num_rows + load.quarantine.num_rows
    assert not (packed and cut)
    if not packed:
        numbers = np.array(load.quarantine[c.ROW_NUMBER].to_pylist())
        assert len(set(numbers.tolist())) == len(numbers)
        lines = [line for line in data.split(b"\n") if line.strip(b" \t\r\n\x0b\x0c")]
        assert report.rows_in == len(lines)
