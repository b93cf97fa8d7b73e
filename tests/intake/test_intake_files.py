"""Files as they come: formats, delimiters, headers, broken ones; and random bytes, which never crash the importer."""

from __future__ import annotations

import csv
import gzip
import io
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from honeyguide.errors import DataError
from honeyguide.intake.events import load_events
from honeyguide.intake.files import read
from honeyguide.intake.importers import detect, guess
from honeyguide.schema import columns as c
from honeyguide.schema.tables import EVENTS, ITEMS, USERS

NOW = 1_800_000_000_000_000
ROWS = [("u1", "i1", "5", "978300760"), ("u2", "i2", "3", "978302109"), ("u1", "i3", "1", "978301968")]


def _write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def _loaded(engine, path: Path) -> list[tuple]:
    load = load_events(engine, path, now=NOW)
    assert load.report.rows_in == load.report.accepted + load.report.quarantined
    assert load.events.num_rows == load.report.accepted
    rows = load.events.select([c.USER_ID, c.ITEM_ID, c.VALUE, c.HAPPENED_AT]).to_pylist()
    return sorted((*list(row.values())[:3], row[c.HAPPENED_AT].timestamp()) for row in rows)


EXPECTED = sorted((u, i, float(r), float(t)) for u, i, r, t in ROWS)


@pytest.mark.parametrize("mark", [",", "\t", ";", "|", "::"])
@pytest.mark.parametrize("header", ["user_id{0}item_id{0}rating{0}timestamp", "UserID{0}Movie Id{0}Stars{0}ts", None])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_delimiters_headers_and_line_ends(engine, tmp_path, mark, header, ending):
    lines = ([header.format(mark)] if header else []) + [mark.join(row) for row in ROWS]
    assert _loaded(engine, _write(tmp_path / "e.txt", ending.join(lines) + ending)) == EXPECTED


def test_gzip_bom_blank_lines_and_a_missing_last_newline(engine, tmp_path):
    text = "\n\ufeffuser,item,rating,time\n\n" + "\n".join(",".join(row) for row in ROWS)
    path = tmp_path / "e.csv.gz"
    path.write_bytes(gzip.compress(text.lstrip("\n").encode()))
    assert _loaded(engine, path) == EXPECTED
    raw = read(path)
    assert raw.rows_in == 3
    assert raw.row_number.tolist() == [2, 3, 4], "the blank line is a line, not a row"


def test_recbole_files_are_read_without_quotes(engine, tmp_path):
    text = 'user_id:token\titem_id:token\trating:float\ttimestamp:float\n1\t"Weird Al" (1989)\t4\t978300760\n'
    path = _write(tmp_path / "x.inter", text)
    assert _loaded(engine, path) == [("1", '"Weird Al" (1989)', 4.0, 978300760.0)]
    assert detect(path).format == "recbole"


def test_parquet_types_lists_dictionaries_and_folders(engine, tmp_path):
    table = pa.table(
        {
            "customer_id": pa.array([1.0, 2.0, None]),
            "sku": pa.array(["a", "b", "c"]).dictionary_encode(),
            "event_time": pa.array([1, 2, 3], pa.timestamp("s")).cast(pa.timestamp("ns")),
            "event_type": pa.array([b"View", b"cart", b"view"]),
            "__index_level_0__": [7, 8, 9],
        }
    ).set_column(
        2, "event_time", pa.array([978300760 + n for n in range(3)], pa.timestamp("s")).cast(pa.timestamp("ns"))
    )
    folder = tmp_path / "parts"
    folder.mkdir()
    pq.write_table(table.slice(0, 2), folder / "a.parquet")
    pq.write_table(table.slice(2), folder / "b.parquet")
    load = load_events(engine, folder, now=NOW)
    assert load.report.reasons == {"missing_user": 1}
    assert load.events.select([c.USER_ID, c.ITEM_ID, c.ACTION]).to_pylist() == [
        {"user_id": "1", "item_id": "a", "action": "view"},
        {"user_id": "2", "item_id": "b", "action": "cart"},
    ]


def test_a_stray_quote_costs_one_line(engine, tmp_path):
    text = 'user,item,time,query\nu1,i1,978300760,"fine, thanks"\nu2,"i2,978300761,\nu3,i3,978300762,x\n'
    load = load_events(engine, _write(tmp_path / "e.csv", text), now=NOW)
    assert load.report.reasons == {"unparsed_line": 1}
    entry = load.quarantine.to_pylist()[0]
    assert (entry["row_number"], entry["raw"]) == (2, 'u2,"i2,978300761,')
    assert load.events[c.QUERY].to_pylist() == ["fine, thanks", "x"]


def test_quoted_values_may_hold_line_breaks(engine, tmp_path):
    text = 'user,item,time,query\nu1,i1,978300760,"two\nlines"\nu2,i2,978300761,x\n'
    load = load_events(engine, _write(tmp_path / "e.csv", text), now=NOW)
    assert load.events[c.QUERY].to_pylist() == ["two\nlines", "x"]


def test_the_row_index_of_pandas_is_left_out(engine, tmp_path):
    text = ",user,item,time\n0,u1,i1,978300760\n1,u1,i1,978300760\n"
    load = load_events(engine, _write(tmp_path / "e.csv", text), now=NOW)
    assert load.report.reasons == {"duplicate": 1}


def test_repeated_and_blank_column_names_stay_apart(engine, tmp_path):
    text = "user,item,time,x,x,\nu1,i1,978300760,1,2,3\n"
    load = load_events(engine, _write(tmp_path / "e.csv", text), now=NOW)
    assert load.events[c.CONTEXT].to_pylist() == ['{"x":"1","x_2":"2","column_6":"3"}']


GOOD = pa.table({"user": ["a"], "item": ["b"], "time": [978300760]})


def _parquet_bytes() -> bytes:
    sink = io.BytesIO()
    pq.write_table(GOOD, sink)
    return sink.getvalue()


BAD = {
    "empty": b"",
    "blank": b"\n \n\n",
    "header only": b"user,item,time\n",
    "one column": b"user\nu1\nu2\n",
    "no item": b"user,time,rating\nu1,978300760,4\n",
    "truncated parquet": _parquet_bytes()[:-25],
    "half a parquet": _parquet_bytes()[:40],
    "utf-16": "user,item,time\nu1,i1,978300760\n".encode("utf-16"),
    "latin-1 header": "user,item,größe\nu,i,1\n".encode("latin-1"),
    "latin-1 throughout": "user,item,time\nä,ö,978300760\nü,ß,978300761\n".encode("latin-1"),
    "binary": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
    "half a gzip": gzip.compress(b"user,item,time\nu1,i1,978300760\n" * 50)[:40],
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_refused_in_a_sentence(engine, tmp_path, name):
    path = _write(tmp_path / "e.csv", BAD[name])
    with pytest.raises(DataError) as caught:
        load_events(engine, path, now=NOW)
    assert "\n" not in str(caught.value)
    assert caught.value.do.endswith(".")


def test_missing_files_folders_and_wrong_suffixes(engine, tmp_path):
    (tmp_path / "folder").mkdir()
    text = _write(tmp_path / "text.parquet", "user,item,time\nu,i,978300760\n")
    for path in (tmp_path / "none.csv", tmp_path / "folder", text):
        with pytest.raises(DataError):
            load_events(engine, path, now=NOW)
    pq.write_table(GOOD.slice(0, 0), tmp_path / "rows.parquet")
    with pytest.raises(DataError):
        load_events(engine, tmp_path / "rows.parquet", now=NOW)


def test_a_given_mapping_wins_and_must_exist(engine, tmp_path):
    path = _write(tmp_path / "e.csv", "who,what,time,rating\nu1,i1,978300760,4\n")
    with pytest.raises(DataError, match="user_id, item_id"):
        load_events(engine, path, now=NOW)
    given = {c.USER_ID: "who", c.ITEM_ID: "what"}
    assert load_events(engine, path, mapping=given, now=NOW).events[c.USER_ID].to_pylist() == ["u1"]
    with pytest.raises(DataError, match="'nobody'"):
        load_events(engine, path, mapping={c.USER_ID: "nobody"}, now=NOW)


def test_detect_says_what_it_chose(tmp_path):
    path = _write(tmp_path / "e.csv", "visitorid,itemid,event,timestamp,extra\nv,i,view,1433221332117,x\n")
    found = detect(path)
    assert found.mapping == {
        c.USER_ID: "visitorid",
        c.ITEM_ID: "itemid",
        c.ACTION: "event",
        c.HAPPENED_AT: "timestamp",
    }
    assert "timestamp holds milliseconds since 1970." in found.notes
    assert any("extra" in note for note in found.notes)
    assert found.lines()[0] == "user_id <- visitorid"


@pytest.mark.parametrize(
    "header, table",
    [("user,item,time", EVENTS), ("item_id,title,price", ITEMS), ("user_id,age", USERS), ("id,title", ITEMS)],
)
def test_guess_tells_the_tables_apart(tmp_path, header, table):
    row = ",".join("1" for _ in header.split(","))
    assert guess(_write(tmp_path / "t.csv", f"{header}\n{row}x\n")) is table


# -------------------------------------------------------------------------------------------------- fuzzing

WORDS = ["u1", "i1", "978300760", "5", "-1", "nan", "inf", "1e999", "null", " ", "2001-02-30", "ä", "{", "'", "\ufeff"]
MARKS = [b",", b",", b",", b"\n", b"\n", b"\r\n", b"\r", b'"', b'""', b"\t", b";", b"::", b"\0", b"\xff"]
pieces = st.sampled_from([*MARKS, *(word.encode() for word in WORDS)])
bodies = st.lists(pieces, max_size=40).map(b"".join) | st.binary(max_size=60)


@settings(max_examples=250, deadline=None)
@given(
    st.sampled_from(
        [b"user,item,time\n", b"user,item,rating,time,note\n", b"user_id:token\titem_id:token\tt:float\n", b""]
    ),
    bodies,
)
@example(b"user,item,time\n", b'u1,"i1,978300760')
@example(b"user,item,time\n", b'"\n"\n"')
def test_random_bytes_are_rows_or_a_data_error(engine, tmp_path_factory, header, body):
    path = tmp_path_factory.mktemp("fuzz") / "e.csv"
    path.write_bytes(header + body)
    try:
        load = load_events(engine, path, now=NOW)
    except DataError:
        return
    report = load.report
    assert report.rows_in == report.accepted + report.quarantined
    assert load.events.num_rows == report.accepted
    assert load.quarantine.num_rows == report.quarantined == sum(report.reasons.values())
    numbers = load.quarantine[c.ROW_NUMBER].to_pylist()
    assert len(set(numbers)) == len(numbers)
    if b'"' not in body and header:
        # Without quotes a row is a line that holds more than blanks and delimiters.
        text = (header + body).decode("utf-8", "replace").removeprefix("\ufeff")
        lines = [line for line in re.split("\r\n|\n|\r", text) if line.strip(" \t")][1:]
        mark = "\t" if b"\t" in header else ","
        assert report.rows_in == sum(line != mark * header.decode().count(mark) for line in lines)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(*[st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=6)] * 2),
        min_size=1,
        max_size=20,
    )
)
def test_what_the_csv_module_writes_is_read_back(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("csv") / "e.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("user", "item", "time"), *((u, i, "978300760") for u, i in rows)])
    table = read(path).table
    assert list(zip(table["user"].to_pylist(), table["item"].to_pylist(), strict=True)) == rows
