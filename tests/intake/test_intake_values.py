"""Cells to values: each against a plain Python reading of the same cell."""

from __future__ import annotations

import datetime as dt
import json
import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from honeyguide.intake.values import lists, numbers, objects, text, time_unit, times

EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
moments = st.datetimes(dt.datetime(1990, 1, 1), dt.datetime(2100, 1, 1)).map(lambda at: at.replace(tzinfo=dt.UTC))


def _us(at: dt.datetime) -> int:
    return (at - EPOCH) // dt.timedelta(microseconds=1)


def _column(cells: list[object], kind: pa.DataType | None = None) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(cells, kind)])


@settings(max_examples=40, deadline=None)
@given(st.lists(moments, min_size=1, max_size=8), st.sampled_from(["s", "ms", "us", "ns"]), st.booleans())
def test_whole_timestamps_of_every_unit(chosen, unit, as_text):
    per_second = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    raw = [int((at - EPOCH).total_seconds()) * per_second for at in chosen]
    column = _column([str(value) for value in raw]) if as_text else _column(raw, pa.int64())
    read = times(column)
    assert read.us.tolist() == [value // per_second * 10**6 for value in raw]
    assert not (read.missing | read.unreadable).any()


@settings(max_examples=40, deadline=None)
@given(st.lists(moments, min_size=1, max_size=8))
def test_iso_strings_dates_and_timestamp_types(chosen):
    expected = [_us(at) for at in chosen]
    assert times(_column([at.isoformat() for at in chosen])).us.tolist() == expected
    zone = dt.timezone(dt.timedelta(hours=5, minutes=30))
    assert times(_column([at.astimezone(zone).isoformat(" ") for at in chosen])).us.tolist() == expected
    naive = [f"{at.replace(tzinfo=None).isoformat(' ', 'microseconds')} UTC" for at in chosen]
    assert times(_column(naive)).us.tolist() == expected
    for unit in ("us", "ns"):
        assert (
            times(_column(chosen, pa.timestamp("us", "Asia/Tokyo")).cast(pa.timestamp(unit, "UTC"))).us.tolist()
            == expected
        )
    days = [at.date() for at in chosen]
    midnight = [_us(dt.datetime(day.year, day.month, day.day, tzinfo=dt.UTC)) for day in days]
    assert times(_column(days, pa.date32())).us.tolist() == midnight
    assert times(_column([f"{day:%Y%m%d}" for day in days])).us.tolist() == midnight
    assert times(_column([int(f"{day:%Y%m%d}") for day in days])).us.tolist() == midnight


def test_times_that_cannot_be_read_and_times_that_are_not_there():
    read = times(
        _column(["2001-02-30", "now", "today", "12:00", "", "NULL", None, "2001-02-03T04:05:06Z", "31/31/2001", "-"])
    )
    assert read.unreadable.tolist() == [True, True, True, True, False, False, False, False, True, True]
    assert read.missing.tolist() == [False, False, False, False, True, True, True, False, False, False]
    read = times(_column(["978300760", "978300761.5", "soon", "1e30", "nan", ""]))
    assert read.us[:2].tolist() == [978300760000000, 978300761500000]
    assert read.unreadable.tolist() == [False, False, True, True, False, False]
    assert times(_column([20010230, 20010228])).unreadable.tolist() == [True, False]
    huge = times(_column([2**62, 978300760], pa.int64()))
    assert huge.unreadable.tolist() == [False, False]
    assert times(_column([2**62, 978300760, 978300761], pa.int64())).unreadable.tolist() == [True, False, False]


def test_the_unit_does_not_hang_on_one_odd_value():
    assert time_unit(np.array([978300760.0] * 9 + [9e17])) == "s"
    assert time_unit(np.array([])) == "s"
    assert time_unit(np.array([20000101.0, 20011231.0])) == "yyyymmdd"
    assert time_unit(np.array([20000101.0, 20019999.0])) == "s"


cells = st.none() | st.text(st.sampled_from("0123456789.eE+-naif "), max_size=7)


@settings(max_examples=150, deadline=None)
@given(st.lists(cells, min_size=1, max_size=10))
def test_numbers_agree_with_python(words):
    read = numbers(_column(words, pa.string()))
    for word, value, unreadable, odd in zip(words, read.values, read.unreadable, read.not_finite, strict=True):
        plain = (word or "").strip()
        try:
            expected = float(plain) if plain and plain.lower() != "nan" else None
        except ValueError:
            if plain.lower() != "nan":
                assert unreadable
            continue
        if expected is None:
            assert math.isnan(value)
            assert not unreadable
        elif math.isinf(expected):
            assert math.isnan(value)
            assert odd
        else:
            assert (value, unreadable, odd) == (expected, False, False)


def test_numbers_of_other_types():
    assert numbers(_column([1, None], pa.int32())).values.tolist()[0] == 1
    assert numbers(_column([True, False])).values.tolist() == [1, 0]
    assert numbers(_column([1.5, float("inf"), None, float("nan")])).not_finite.tolist() == [False, True, False, True]
    assert numbers(_column(["12.50"]).cast(pa.decimal128(6, 2))).values.tolist() == [12.5]


def test_text_of_ids():
    assert text(_column([" a ", "", "null", "None", "\\N", "NA", None, "nan"])).to_pylist() == [
        "a", None, None, None, None, "NA", None, None,
    ]  # fmt: skip
    assert text(_column([42.0, None, float("nan")])).to_pylist() == ["42", None, None]
    assert text(_column([0.5, 42.0])).to_pylist() == ["0.5", "42"]
    assert text(_column([7], pa.uint64())).to_pylist() == ["7"]
    assert text(_column([dt.date(2020, 1, 2)])).to_pylist() == ["2020-01-02"]


@pytest.mark.parametrize(
    "cells, expected",
    [
        (["a|b", "c", None, ""], [["a", "b"], ["c"], None, None]),
        (["a, b", " c ,", ","], [["a", "b"], ["c"], None]),
        (["a;b", "c,d"], [["a", "b"], ["c,d"]]),
        (['["a, b", "c"]', "['d']", "[e]"], [["a, b", "c"], ["d"], ["e"]]),
        ([["a", " ", None, "b "], None, []], [["a", "b"], None, None]),
    ],
)
def test_lists(cells, expected):
    assert lists(_column(cells)).to_pylist() == expected


def test_lists_of_tokens():
    column = _column(["Animation Children's", "Drama", None])
    assert lists(column, spaces=True).to_pylist() == [["Animation", "Children's"], ["Drama"], None]
    assert lists(column).to_pylist() == [["Animation Children's"], ["Drama"], None]


@settings(max_examples=80, deadline=None)
@given(
    st.lists(
        st.tuples(st.none() | st.text(max_size=5), st.none() | st.integers(-9, 9), st.none() | st.floats()), max_size=6
    )
)
def test_objects_are_json_with_the_values_that_are_there(rows):
    names = ['k"ey', "n", "x"]
    kinds = [pa.string(), pa.int64(), pa.float64()]
    table = pa.table({name: pa.array([row[at] for row in rows], kinds[at]) for at, name in enumerate(names)})
    for row, cell in zip(rows, objects(table).to_pylist(), strict=True):
        expected = {
            name: value
            for name, value in zip(names, row, strict=True)
            if value is not None and value != "" and not (isinstance(value, float) and not math.isfinite(value))
        }
        assert (json.loads(cell) if cell else {}) == expected


def test_objects_of_nested_and_timed_values():
    table = pa.table({"l": [[1, 2], None], "t": pa.array([0, None], pa.timestamp("us", "UTC")), "b": [True, None]})
    first, second = objects(table).to_pylist()
    assert json.loads(first) == {"l": [1, 2], "t": "1970-01-01 00:00:00.000000Z", "b": True}
    assert second is None


@settings(max_examples=60, deadline=None)
@given(
    st.lists(moments, min_size=1, max_size=8),
    st.sampled_from([
        "%d.%m.%Y %H:%M:%S", "%d.%m.%Y, %H:%M:%S", "%m/%d/%Y %I:%M:%S %p", "%d/%m/%Y %H:%M:%S", "%d-%m-%Y %H:%M:%S",
        "%b %d, %Y %H:%M:%S", "%B %d, %Y %I:%M:%S %p", "%d %b %Y %H:%M:%S", "%Y/%m/%d %H:%M:%S",
    ]),
)  # fmt: skip
def test_dates_as_people_write_them(chosen, form):
    # One row that shows which number is the day decides for all of its column.
    telling = [*(at.replace(microsecond=0) for at in chosen), dt.datetime(2001, 12, 31, 23, 59, 58, tzinfo=dt.UTC)]
    read = times(_column([at.strftime(form) for at in telling]))
    assert read.us.tolist() == [_us(at) for at in telling]
    assert read.ambiguous is None
    assert not (read.unreadable | read.missing).any()


def test_dates_without_time_with_zone_and_with_fractions():
    cells = [
        "31.12.2025",
        "31.12.2025 14:00",
        "1.2.2026 2:00 PM",
        "13/01/2026",
        "02/01/2026 00:00:00.25+01:30",
        "Jan 3, 2026",
    ]
    expected = [
        "2025-12-31",
        "2025-12-31 14:00",
        "2026-02-01 14:00",
        "2026-01-13",
        "2026-01-01 22:30:00.25",
        "2026-01-03",
    ]
    read = times(_column(cells))
    assert read.us.tolist() == [_us(dt.datetime.fromisoformat(cell).replace(tzinfo=dt.UTC)) for cell in expected]
    assert read.unit == "day.month.year and day/month/year and month by name, UTC where no zone is given"


def test_what_cannot_be_told_is_not_guessed():
    read = times(_column(["01/02/2026", "03/04/2026"]))
    assert read.ambiguous == "01/02/2026"
    assert read.unreadable.all()
    assert times(_column(["13/02/2026", "02/13/2026"])).ambiguous == "13/02/2026"
    among = times(_column(["2026-01-01", "2026-01-02", "01/02/2026"]))
    assert among.ambiguous is None
    assert among.unreadable.tolist() == [False, False, True]
    assert times(_column(["05/05/2026"])).ambiguous is None
    odd = times(
        _column(["30.02.2026", "12/31/2025", "13/13/2025", "1.1.2026 25:00", "12/30/2025 13:00 PM", "Foo 3, 2026"])
    )
    assert odd.unreadable.tolist() == [True, False, True, True, True, True]


def test_a_comma_is_read_where_it_can_mean_but_one_thing():
    said = {
        "12,5": 12.5, "-0,75": -0.75, "1.234,56": 1234.56, "12,3456": 12.3456, "1.234.567,8": 1234567.8,
        " 3,5 ": 3.5, "7": 7.0, "0.5": 0.5,
    }  # fmt: skip
    assert numbers(_column(list(said))).values.tolist() == list(said.values())
    grouped = {"1,234.56": 1234.56, "1,234,567": 1234567.0, "-12,345.": -12345.0}
    assert numbers(_column(list(grouped))).values.tolist() == list(grouped.values())
    assert numbers(_column(["1,234", "1,2,3", "12,34,56", ",5", "1.23,4", "1,23.4"])).unreadable.all()


def test_a_point_beside_commas_is_no_number_if_it_may_part_thousands():
    read = numbers(_column(["12,5", "1.234", None, " 9.999 ", "12.34"]))
    assert read.unreadable.tolist() == [False, True, False, True, False]
    assert numbers(_column(["1.234", "7"])).values.tolist() == [1.234, 7.0]
