"""Events: every reason of the gate, the accounting, ids, order, the log and the arrays."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from honeyguide.errors import DataError
from honeyguide.intake.catalog import items_table, load_users
from honeyguide.intake.events import from_log, impressions_from_log, interactions, load_events
from honeyguide.intake.quality import REASONS
from honeyguide.schema import columns as c
from honeyguide.schema.tables import EVENTS, IMPRESSIONS, QUARANTINE
from honeyguide.schema.vocabulary import Vocabulary
from honeyguide.schema.wire import Item

NOW = 1_800_000_000_000_000
AT = 978_300_760


def _csv(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_each_reason_is_given_to_the_row_that_earns_it(engine, tmp_path):
    header = "event_id,user_id,item_id,action,value,happened_at,position,propensity,price"
    rows = {
        "1,u,i,view,,978300760,1,.5,": None,
        "2,,i,view,,978300760,,,": "missing_user",
        "3,u,null,view,,978300760,,,": "missing_item",
        "4,u,i,view,,,,,": "missing_time",
        "5,u,i,,,978300760,,,": "missing_action",
        "6,u,i,rating,,978300760,,,": "missing_value",
        f"7,{'u' * 513},i,view,,978300760,,,": "id_too_long",
        f"{'8' * 513},u,i,view,,978300760,,,": "id_too_long",
        f"9,u,i,{'v' * 65},,978300760,,,": "id_too_long",
        "10,u,i,view,,soon,,,": "unreadable_time",
        "11,u,i,rating,four,978300760,,,": "unreadable_number",
        "12,u,i,view,,1800000001,,,": "time_in_future",
        "13,u,i,view,,631151999,,,": "time_before_1990",
        "14,u,i,rating,inf,978300760,,,": "nan_value",
        "15,u,i,view,,978300760,-1,,": "position_out_of_range",
        "16,u,i,view,,978300760,1.5,,": "position_out_of_range",
        "17,u,i,view,,978300760,,0,": "propensity_out_of_range",
        "18,u,i,view,,978300760,,1.01,": "propensity_out_of_range",
        "1,u,other,view,,978300760,,,": "duplicate",
        "20,u,i,view": "unparsed_line",
        "21,u,i,view,,978300760,,,,": "unparsed_line",
        "22,u\ufffd,i,view,,978300760,,,": "broken_encoding",
        "23,u,i,view,,978300760,,,cheap": None,
    }
    load = load_events(engine, _csv(tmp_path / "e.csv", "\n".join([header, *rows])), now=NOW)
    found = {entry[c.ROW_NUMBER]: entry for entry in load.quarantine.to_pylist()}
    expected = {number: reason for number, reason in enumerate(rows.values(), 1) if reason}
    assert {number: entry[c.REASON] for number, entry in found.items()} == expected
    assert load.events[c.EVENT_ID].to_pylist() == ["1", "23"]
    assert load.report.rows_in == len(rows) == load.events.num_rows + load.quarantine.num_rows
    assert set(expected.values()) <= set(REASONS)
    for number, entry in found.items():
        line = list(rows)[number - 1]
        if entry[c.REASON] == "unparsed_line":
            assert entry[c.RAW] == line
        else:
            cells = dict(zip(header.split(","), line.split(","), strict=True))
            assert json.loads(entry[c.RAW]) == {key: value for key, value in cells.items() if value}
    assert load.quarantine.schema.equals(QUARANTINE.arrow())
    assert load.events.schema.equals(EVENTS.arrow())
    assert load.events[c.CONTEXT].to_pylist() == [None, '{"price":"cheap"}']


def test_bytes_that_are_no_utf8_cost_their_row_and_stay_legible(engine, tmp_path):
    path = tmp_path / "e.csv"
    path.write_bytes(b"user,item,time\nu1,i1,978300760\nM\xfcller,i1,978300760\nu3,i1,978300760\n")
    load = load_events(engine, path, now=NOW)
    assert load.report.reasons == {"broken_encoding": 1}
    assert "<FC>" in load.quarantine[c.RAW][0].as_py()


def test_a_negative_price_is_refused_and_a_negative_score_is_not(engine, tmp_path):
    text = f"user,item,action,{{}},time\nu,i,purchase,-3,{AT}\nu,i,purchase,3,{AT}\n"
    assert load_events(engine, _csv(tmp_path / "p.csv", text.format("price")), now=NOW).report.reasons == {
        "negative_price": 1
    }
    assert not load_events(engine, _csv(tmp_path / "s.csv", text.format("value")), now=NOW).report.reasons


def test_ratings_off_a_scale_that_all_others_keep(engine, tmp_path):
    def reasons(values: list[float]) -> dict[str, int]:
        n = len(values)
        table = pa.table({"user": ["u"] * n, "item": [str(k) for k in range(n)], "rating": values, "ts": [AT] * n})
        pq.write_table(table, tmp_path / "r.parquet")
        return load_events(engine, tmp_path / "r.parquet", now=NOW).report.reasons

    stars = [1.0 + k % 5 for k in range(2000)]
    assert reasons(stars) == {}
    assert reasons([*stars, 55.0]) == {"rating_out_of_range": 1}
    assert reasons([0.5 + (k % 10) / 2 for k in range(2000)]) == {}
    counts = np.random.default_rng(0).geometric(0.9, 5000).astype(float)
    assert reasons(counts.tolist()) == {}, "a long tail is no scale"
    assert reasons([*stars[:500], 55.0]) == {}, "too few to tell"


def test_missing_values_of_other_actions_are_no_fault(engine, tmp_path):
    table = pa.table(
        {
            "user": ["u", "u"],
            "item": ["a", "b"],
            "event": ["view", "view"],
            "value": [float("nan"), 1.0],
            "ts": [AT, AT],
        }
    )
    pq.write_table(table, tmp_path / "e.parquet")
    load = load_events(engine, tmp_path / "e.parquet", now=NOW)
    assert load.events[c.VALUE].to_pylist() == [None, 1.0]
    assert any("no finite number" in note for note in load.report.notes)


def test_known_at_is_never_before_it_happened(engine, tmp_path):
    text = "user,item,time,received_at\nu,a,978300760,978300700\nu,b,978300760,978300800\nu,c,978300760,\n"
    load = load_events(engine, _csv(tmp_path / "e.csv", text), now=NOW)
    assert [at.timestamp() - AT for at in load.events[c.KNOWN_AT].to_pylist()] == [0, 40, 0]


def test_positions_from_zero_are_shifted(engine, tmp_path):
    text = "user,item,time,pos\nu,a,978300760,0\nu,b,978300760,1\n"
    assert load_events(engine, _csv(tmp_path / "e.csv", text), now=NOW).events[c.POSITION].to_pylist() == [1, 2]


def test_ids_follow_from_the_content_alone(engine, tmp_path):
    one = _csv(
        tmp_path / "a.csv",
        "user,item,action,time,note\nu,i,view,978300760,x\nu,i,click,978300760,x\nu,i,view,978300760,x\n",
    )
    other = _csv(
        tmp_path / "b.tsv", "time\titem\tnote\tuser\taction\n978300760\ti\tx\tu\tclick\n978300760\ti\tx\tu\tview\n"
    )
    first, second = (load_events(engine, path, now=NOW) for path in (one, other))
    assert first.report.reasons == {"duplicate": 1}, "the same row; another action is another event"
    assert first.quarantine[c.ROW_NUMBER].to_pylist() == [3]
    ids = [
        dict(zip(e[c.ACTION].to_pylist(), e[c.EVENT_ID].to_pylist(), strict=True))
        for e in (first.events, second.events)
    ]
    assert ids[0] == ids[1]


def test_a_refused_row_does_not_shadow_a_good_one(engine, tmp_path):
    text = "event_id,user,item,time\n1,,i,978300760\n1,u,i,978300760\n"
    load = load_events(engine, _csv(tmp_path / "e.csv", text), now=NOW)
    assert load.report.reasons == {"missing_user": 1}
    assert load.events.num_rows == 1


def test_unknown_items_become_bare_or_are_refused(engine, tmp_path):
    catalog = items_table([Item("a", title="A")], 0)
    path = _csv(tmp_path / "e.csv", "user,item,time\nu,a,978300760\nu,b,978300770\nv,b,978300765\n")
    load = load_events(engine, path, items=catalog, now=NOW)
    assert load.events.num_rows == 3
    (bare,) = load.bare_items.to_pylist()
    assert (bare[c.ITEM_ID], bare[c.AVAILABLE], bare[c.TITLE], bare[c.KNOWN_AT].timestamp()) == (
        "b",
        True,
        None,
        AT + 5,
    )
    strict = load_events(engine, path, items=catalog, unknown_item="quarantine", now=NOW)
    assert strict.report.reasons == {"unknown_item": 2}
    assert strict.bare_items.num_rows == 0


@pytest.mark.heavy
@pytest.mark.skipif(not shutil.which("java"), reason="no Java runtime on the PATH, which Spark needs")
def test_spark_gives_the_same_events(engine, tmp_path):
    spark = pytest.importorskip("honeyguide.engines.tables.spark", reason="pyspark is not installed").SparkTables()
    lines = [
        f"u{k % 3},i\\{k % 5},{'rating' if k % 2 else 'view'},{k % 7 / 3 + 0.1},{AT + k % 11},n\x1f{k % 2}"
        for k in range(200)
    ]
    path = _csv(tmp_path / "e.csv", "\n".join(["user,item,action,value,time,note", *lines]))
    try:
        loads = [load_events(tables, path, now=NOW) for tables in (engine, spark)]
        users = _csv(tmp_path / "u.csv", "user_id,age\n1,2\n2,3\n1,4\n1,4\n")
        people = [load_users(tables, users, now=NOW) for tables in (engine, spark)]
    finally:
        spark.close()
    assert loads[0].events.equals(loads[1].events)
    assert loads[0].quarantine.equals(loads[1].quarantine)
    assert people[0].users.equals(people[1].users)
    assert people[0].report == people[1].report


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("uvw"), st.sampled_from("abc"), st.integers(0, 3)), min_size=1, max_size=25))
def test_order_is_by_time_and_ties_keep_the_file(engine, tmp_path_factory, rows):
    table = pa.table(
        {
            "user": [r[0] for r in rows],
            "item": [r[1] for r in rows],
            "ts": [AT + r[2] for r in rows],
            "event_id": [str(k) for k in range(len(rows))],
        }
    )
    path = tmp_path_factory.mktemp("order") / "e.parquet"
    pq.write_table(table, path)
    load = load_events(engine, path, now=NOW)
    expected = sorted(range(len(rows)), key=lambda k: rows[k][2])  # Python's sort is stable
    assert load.events[c.EVENT_ID].to_pylist() == [str(k) for k in expected]


WEIGHTS = {"view": 0.5, "hide": -1.0}


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from("uvw"),
            st.sampled_from("abc"),
            st.sampled_from(["view", "hide", "buy"]),
            st.none() | st.integers(0, 5),
        ),
        max_size=20,
    )
)
def test_arrays_agree_with_a_plain_loop(rows):
    events = from_log(
        msgspec.msgpack.encode(
            {
                "event_id": str(k),
                "user_id": u,
                "item_id": i,
                "action": a,
                "value": v,
                "happened_at": AT + k,
                "known_at": AT + k,
            }
        )
        for k, (u, i, a, v) in enumerate(rows)
    )
    users, items = Vocabulary("xwvu"), Vocabulary("cba")
    made = interactions(events, users, items, WEIGHTS)
    assert (made.n_users, made.n_items, len(made)) == (4, 3, len(rows))
    assert made.actions[:2] == ("view", "hide")
    for k, (u, i, a, v) in enumerate(rows):
        assert (made.user[k], made.item[k]) == (users.row(u), items.row(i))
        assert made.actions[made.action[k]] == a
        assert made.weight[k] == np.float32(WEIGHTS.get(a, 0.0))
        assert made.at[k] == AT + k
        assert np.isnan(made.value[k]) if v is None else made.value[k] == v
    assert [str(x.dtype) for x in (made.user, made.item, made.action, made.value, made.weight, made.at)] == [
        "int32", "int32", "int16", "float32", "float32", "int64",
    ]  # fmt: skip


def test_arrays_refuse_strangers_and_disorder(engine, tmp_path):
    events = load_events(
        engine, _csv(tmp_path / "e.csv", "user,item,time\nu,a,978300760\nu,b,978300761\n"), now=NOW
    ).events
    with pytest.raises(DataError, match="'b'"):
        interactions(events, Vocabulary("u"), Vocabulary("a"), {})
    with pytest.raises(DataError, match="out of order"):
        interactions(events.take([1, 0]), Vocabulary("u"), Vocabulary("ab"), {})


def test_the_log_comes_back_as_tables():
    event = {"event_id": "e", "user_id": "u", "item_id": "i", "action": "click", "happened_at": 7, "known_at": 9}
    later = event | {"event_id": "f", "happened_at": 8, "context": {"device": "phone"}, "position": 2, "value": 1}
    table = from_log([msgspec.msgpack.encode(later), msgspec.msgpack.encode(event)])
    assert table.schema.equals(EVENTS.arrow())
    assert table[c.EVENT_ID].to_pylist() == ["e", "f"]
    assert table[c.CONTEXT].to_pylist() == [None, '{"device":"phone"}']
    assert table[c.HAPPENED_AT].cast(pa.int64()).to_pylist() == [7, 8]
    assert from_log([]).num_rows == 0
    with pytest.raises(DataError, match="user_id"):
        from_log([msgspec.msgpack.encode({key: value for key, value in event.items() if key != "user_id"})])
    shown = {column: None for column in IMPRESSIONS.columns if column.nullable} | {
        "request_id": "r", "user_id": "u", "surface": "home", "happened_at": 5, "policy_version": "p", "build_id": "b",
        "shown_items": ["i", "j"], "shown_propensities": [1.0, 0.5], "list_propensity": 0.5, "stage_us": {"rank": 3.5},
    }  # fmt: skip
    back = impressions_from_log([msgspec.msgpack.encode(shown)])
    assert back.schema.equals(IMPRESSIONS.arrow())
    assert back[c.SHOWN_ITEMS].to_pylist() == [["i", "j"]]
    assert json.loads(back[c.STAGE_US][0].as_py()) == {"rank": 3.5}


@pytest.mark.parametrize("no, yes", [("0", "1"), ("False", "true"), ("0.0", "1.0")])
def test_a_column_of_outcomes_makes_impressions_and_what_became_of_them(engine, tmp_path, no, yes):
    rows = [
        f"u,a,{AT + 1},r1,1,{no},{no},x",
        f"u,b,{AT + 1},r1,2,{yes},{yes},",
        f"u,b,{AT + 1},r1,2,{no},{no},",  # not the row before: its outcome is another
        f"u,b,{AT + 1},r1,2,{yes},{yes},",  # but this one is
        f"u,c,{AT},r0,1,{yes},,",
        f",c,{AT},r0,1,{yes},{no},",
    ]
    text = "\n".join(["user,item,ts,request_id,position,clicked,is_purchase,note", *rows])
    load, again = (load_events(engine, _csv(tmp_path / "e.csv", text), now=NOW) for _ in range(2))
    told = [tuple(row[k] for k in (c.ITEM_ID, c.ACTION, c.POSITION, c.REQUEST_ID)) for row in load.events.to_pylist()]
    assert told == [
        ("c", "impression", 1, "r0"), ("c", "click", 1, "r0"), ("a", "impression", 1, "r1"),
        ("b", "impression", 2, "r1"), ("b", "click", 2, "r1"), ("b", "purchase", 2, "r1"), ("b", "impression", 2, "r1"),
    ]  # fmt: skip
    ids = load.events[c.EVENT_ID].to_pylist()
    assert len(set(ids)) == len(ids)
    assert ids == again.events[c.EVENT_ID].to_pylist()
    assert load.events[c.CONTEXT].to_pylist() == [None, None, '{"note":"x"}', None, None, None, None]
    report = load.report
    assert (report.rows_in, report.accepted, report.quarantined) == (6, 4, 2)
    assert sorted(report.reasons) == ["duplicate", "missing_user"]
    assert any("clicked" in note and "2 of them a click" in note for note in report.notes)
    assert not any("clicked" in note and "context" in note for note in report.notes)


def test_a_column_that_is_no_outcome_is_left_and_one_beside_an_action_is_named(engine, tmp_path):
    counts = load_events(engine, _csv(tmp_path / "n.csv", f"user,item,ts,clicks\nu,a,{AT},3\nu,b,{AT},0"), now=NOW)
    assert counts.events[c.ACTION].to_pylist() == ["view", "view"]
    both = load_events(
        engine, _csv(tmp_path / "b.csv", f"user,item,ts,action,clicked\nu,a,{AT},view,1\nu,b,{AT},view,0"), now=NOW
    )
    assert both.events[c.ACTION].to_pylist() == ["view", "view"]
    assert any("clicked was NOT read as an outcome" in note for note in both.report.notes)
