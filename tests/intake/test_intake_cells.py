"""Cells read by the kernels, against Python's own floats and against pandas' dates."""

from __future__ import annotations

import datetime as dt
import math

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from honeyguide.intake.values import TimeReader, numbers, parts_of, text, times
from honeyguide.kernels.cells import EMPTY, MOMENT, NUMBER, OTHER, parse

plain_numbers = st.from_regex(r"[+-]?[0-9]{1,20}(\.[0-9]{1,20})?", fullmatch=True)


def _parsed(words: list[str]) -> tuple[list[float], list[int], list[int]]:
    n = len(words)
    value, us, kind = np.empty(n), np.empty(n, np.int64), np.empty(n, np.uint8)
    parse(*parts_of(pa.array(words, pa.string())), value, us, kind)
    return value.tolist(), us.tolist(), kind.tolist()


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        plain_numbers | st.floats(allow_nan=False, allow_infinity=False).map(repr) | st.text(max_size=6), min_size=1
    )
)
@example(["0.1", "123456789012345678", "-0", "9007199254740993", "1.7976931348623157", " 5 ", "5.", ".5", "1e5", "+"])
def test_decimals_are_pythons_floats_to_the_bit(words):
    for word, value, kind in zip(words, *_parsed(words)[::2], strict=True):
        if kind == NUMBER:
            assert math.copysign(1, value) == math.copysign(1, float(word))
            assert value == float(word)
    found = numbers(pa.chunked_array([pa.array(words, pa.string())]))
    for word, value in zip(words, found.values.tolist(), strict=True):
        try:
            expected = float(word)
        except ValueError:
            continue
        if math.isfinite(expected) and word.isascii() and "_" not in word:
            assert value == expected


moments = st.datetimes(dt.datetime(1900, 1, 1), dt.datetime(2199, 12, 31))
zones = st.sampled_from(["", "Z", "+00:00", "+05:30", "-11:00"])


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(moments, st.sampled_from("T "), st.sampled_from(["auto", "minutes", "day"]), zones), min_size=1)
)
def test_moments_are_those_of_pandas(rows):
    words = []
    for at, mark, detail, zone in rows:
        words.append(at.date().isoformat() if detail == "day" else at.isoformat(mark, timespec=detail) + zone)
    expected = pd.to_datetime(words, utc=True, format="ISO8601").as_unit("us").asi8.tolist()
    _, us, kind = _parsed(words)
    assert kind == [MOMENT] * len(words)
    assert us == expected
    read_as = times(pa.chunked_array([words]))
    assert (read_as.us.tolist(), read_as.unreadable.any()) == (expected, False)


BAD = [
    "2001-02-30", "2001-13-01", "2001-1-1", "2001-01-01T25:00", "2001-01-01T10:60", "2001-01-01 10", "2001-01-01T",
    "2001-01-01T10:00Zx", "2001-01-01T10:00+2", "2001-01-01T10:00:00.", "2001-01-01T10:00:00.1234567", "20010101",
]  # fmt: skip


@pytest.mark.parametrize("word", BAD)
def test_what_is_not_plainly_a_moment_is_left_to_others(word):
    assert _parsed([word])[2] == [NUMBER if word.isdigit() else OTHER]


def test_empty_cells_and_blanks():
    assert _parsed(["", "  ", " 7 "])[2] == [EMPTY, EMPTY, NUMBER]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.none() | st.text(" \tnulNONEa<>\\é\u00a0", max_size=7), min_size=1), st.integers(0, 3))
def test_tidying_is_strip_and_a_list_of_words(cells, skip):
    words = {"", "null", "NULL", "Null", "None", "none", "nan", "NaN", "NAN", "\\N", "<null>", "<NA>"}
    expected = [None if cell is None or cell.strip() in words else cell.strip() for cell in cells]
    sliced = pa.array(["x"] * skip + cells, pa.string())[skip:]
    assert text(pa.chunked_array([sliced])).to_pylist() == expected


def test_a_reader_holds_what_it_was_told():
    reader = TimeReader()
    first = reader.read(pa.chunked_array([["1760000000", "1760000001"]]))
    assert first.unit == "seconds since 1970"
    later = reader.read(pa.chunked_array([["1760000002000", "2026-01-01"]]))
    assert later.unreadable.tolist() == [True, True]
    whole = TimeReader()
    assert whole.read(pa.chunked_array([pa.array([], pa.int64())])).us.tolist() == []
    assert whole.read(pa.chunked_array([pa.array([1_760_000_000_000])])).us.tolist() == [1_760_000_000_000_000]
    assert TimeReader().read(pa.chunked_array([[None, ""]])).missing.tolist() == [True, True]
