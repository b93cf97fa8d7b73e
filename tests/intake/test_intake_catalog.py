"""Items and people: the gate, as arrays, over the wire, from the log."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from honeyguide.errors import DataError
from honeyguide.intake.catalog import catalog_view, items_table, load_items, load_users, put_items, wire_items
from honeyguide.schema import columns as c
from honeyguide.schema.tables import ITEMS, USERS
from honeyguide.schema.wire import Item

NOW = 1_800_000_000_000_000


def _csv(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_a_shops_catalog(engine, tmp_path):
    text = (
        "SKU,Product Name,Category,Brand,Price,Colour,In Stock\n"
        'p1,Kettle,"Kitchen|Tea",Acme,19.90,red,true\n'
        "p2,Cup,Kitchen,,4,blue,no\n"
        "p3,Free gift,,Acme,0,,yes\n"
        "p4,Refund,,,-1,,yes\n"
        ",Nameless,,,1,,yes\n"
        "p5,Odd,,,cheap,,yes\n"
    )
    load = load_items(engine, _csv(tmp_path / "i.csv", text), now=NOW)
    assert load.report.rows_in == 6 == load.items.num_rows + load.quarantine.num_rows
    assert load.report.reasons == {"missing_item": 1, "negative_price": 1}
    assert load.items.schema.equals(ITEMS.arrow())
    kettle, cup, gift, odd = load.items.to_pylist()
    assert (kettle[c.TITLE], kettle[c.CATEGORIES], kettle[c.PEOPLE], kettle[c.PRICE]) == (
        "Kettle",
        ["Kitchen", "Tea"],
        ["Acme"],
        19.9,
    )
    assert json.loads(kettle[c.ATTRIBUTES]) == {"Colour": "red"}
    assert [row[c.AVAILABLE] for row in (kettle, cup, gift, odd)] == [True, False, True, True]
    assert (odd[c.PRICE], json.loads(odd[c.ATTRIBUTES])) == (None, {"Price": "cheap"})


def test_the_newest_row_of_an_id_stays(engine, tmp_path):
    rows = ["a,old,978300760", "a,new,978300770", "a,older,978300750", "b,same,978300760", "b,same,978300760"]
    text = "\n".join(["item_id,title,known_at", *rows])
    load = load_items(engine, _csv(tmp_path / "i.csv", text), now=NOW)
    assert load.items[c.TITLE].to_pylist() == ["new", "same"]
    assert load.report.reasons == {"superseded": 2, "duplicate": 1}
    undated = load_items(engine, _csv(tmp_path / "j.csv", "item_id,title\na,old\nb,x\na,new\n"), now=NOW)
    assert undated.items[c.TITLE].to_pylist() == ["x", "new"], "without a time the last row counts"


def test_facts_are_known_from_the_start_of_the_year(engine, tmp_path):
    load = load_items(
        engine, _csv(tmp_path / "m.csv", "movieId,title,genres\n1,Heat (1995),Crime|Drama\n2,M (1931),Crime\n"), now=NOW
    )
    assert load.items[c.YEAR].to_pylist() == [1995, 1931]
    assert [at.isoformat()[:10] for at in load.items[c.KNOWN_AT].to_pylist()] == ["1995-01-01", "1931-01-01"]
    assert any("start of its year" in note for note in load.report.notes)


def test_lists_of_parquet_and_tokens_of_recbole(engine, tmp_path):
    table = pa.table({"id": [1, 2], "genres": [["Drama", "War"], None], "cast": ["A. Guinness", None]})
    pq.write_table(table, tmp_path / "i.parquet")
    items = load_items(engine, tmp_path / "i.parquet", now=NOW).items
    assert (items[c.CATEGORIES].to_pylist(), items[c.PEOPLE].to_pylist()) == (
        [["Drama", "War"], None],
        [["A. Guinness"], None],
    )
    atomic = _csv(
        tmp_path / "x.item",
        "item_id:token\tmovie_title:token_seq\tgenre:token_seq\tyear:float\n7\tToy Story\tAnimation Children's\t1995\n",
    )
    (toy,) = load_items(engine, atomic, now=NOW).items.to_pylist()
    assert (toy[c.TITLE], toy[c.CATEGORIES], toy[c.YEAR]) == ("Toy Story", ["Animation", "Children's"], 1995)


def test_people_keep_their_facts_as_json(engine, tmp_path):
    load = load_users(engine, _csv(tmp_path / "u.csv", "user_id,age,gender\n1,25,F\n2,,M\n1,26,F\n,1,1\n"), now=NOW)
    assert load.users.schema.equals(USERS.arrow())
    assert {row[c.USER_ID]: json.loads(row[c.ATTRIBUTES]) for row in load.users.to_pylist()} == {
        "1": {"age": "26", "gender": "F"},
        "2": {"gender": "M"},
    }
    assert load.report.reasons == {"missing_user": 1, "superseded": 1}
    with pytest.raises(DataError):
        load_users(engine, _csv(tmp_path / "n.csv", "age,gender\n1,F\n"), now=NOW)


words = st.text("abc", min_size=1, max_size=2)
wire = st.builds(
    Item,
    item_id=words,
    title=st.none() | words,
    description=st.none() | words,
    categories=st.lists(words, max_size=3),
    people=st.lists(words, max_size=3),
    country=st.none() | words,
    year=st.none() | st.integers(1900, 2030),
    price=st.none() | st.sampled_from([0.0, 1.5]),
    attributes=st.dictionaries(words, st.none() | words | st.integers(-3, 3) | st.booleans(), max_size=2),
    available=st.booleans(),
)
catalogs = st.lists(wire, max_size=6, unique_by=lambda item: item.item_id)


@settings(max_examples=40, deadline=None)
@given(catalogs)
def test_items_survive_the_table_and_the_view_agrees_with_a_plain_loop(items):
    table = items_table(items, 5)
    assert table.schema.equals(ITEMS.arrow())
    assert wire_items(table) == items
    view = catalog_view(table)
    assert list(view.items.ids) == [item.item_id for item in items]
    for row, item in enumerate(items):
        assert view.title[row] == (item.title or "")
        assert [view.category_names[k] for k in view.category.row(row)] == list(dict.fromkeys(item.categories))
        assert [view.people_names[k] for k in view.people.row(row)] == list(dict.fromkeys(item.people))
        assert (view.country_names[view.country[row]] if view.country[row] >= 0 else None) == item.country
        assert np.isnan(view.year[row]) if item.year is None else view.year[row] == item.year
        assert np.isnan(view.price[row]) if item.price is None else view.price[row] == np.float32(item.price)
        assert view.available[row] == item.available
        assert view.known_at[row] == 5
    assert len(set(view.category_names)) == len(view.category_names)


@settings(max_examples=40, deadline=None)
@given(catalogs, st.lists(wire, max_size=6))
def test_putting_items_keeps_rows_and_takes_the_last(items, changes):
    table = put_items(items_table(items, 5), [msgspec.msgpack.encode(item) for item in changes])
    expected = {item.item_id: item for item in [*items, *changes]}
    assert wire_items(table) == list(expected.values()), "old rows stay where they were, new ones follow"
    known = dict(zip(table[c.ITEM_ID].to_pylist(), table[c.KNOWN_AT].cast(pa.int64()).to_pylist(), strict=True))
    assert all(known[item.item_id] == 5 for item in items)


def test_known_at_may_come_with_the_change():
    payload = msgspec.msgpack.encode({"item_id": "a", "title": "A", "known_at": 77})
    dated = msgspec.msgpack.encode({"item_id": "b", "year": 1971})
    table = put_items(items_table([Item("a")], 5), [payload, dated])
    assert table[c.KNOWN_AT].cast(pa.int64()).to_pylist() == [77, 365 * 86_400_000_000]
