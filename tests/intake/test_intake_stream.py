"""Events of any size: batches of any size give the same tables; what was told is held; ids are compared exactly."""

from __future__ import annotations

import csv
import io
import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from honeyguide.errors import DataError
from honeyguide.intake import blocks, files, parquet, seen
from honeyguide.intake.ahead import ahead
from honeyguide.intake.events import load_events
from honeyguide.intake.files import Raw, open_raw, read, rows_about
from honeyguide.intake.quality import Finding, Totals
from honeyguide.intake.raw import unmarked
from honeyguide.intake.seen import Seen
from honeyguide.schema import columns as c

NOW = 1_800_000_000_000_000
AT = 1_760_000_000


@pytest.fixture
def tiny(monkeypatch):
    """Blocks of some 300 bytes and batches of five rows."""
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 300)
    monkeypatch.setattr(files, "_SAMPLE_BYTES", 120)
    monkeypatch.setattr(parquet, "_BATCH_ROWS", 5)


def _csv(path: Path, rows: Sequence[Sequence[Any]], end: str = "\n") -> Path:
    text = io.StringIO()
    csv.writer(text, lineterminator=end).writerows(rows)
    path.write_bytes(text.getvalue().encode())
    return path


def _parts(raw: Raw, sizes: Sequence[int]) -> Iterator[Raw]:
    first = 0
    for size in [*sizes, raw.table.num_rows]:
        rows = slice(first, first + size)
        refused = raw.refused if first == 0 else []
        yield Raw(raw.path, raw.format, raw.table[rows], raw.row_number[rows], refused, raw.has_header, notes=raw.notes)
        first += size


cells = st.tuples(
    st.sampled_from(["u", "v", "", "w" * 600]),
    st.sampled_from(["a", "b", "null"]),
    st.sampled_from(["view", "Rating", ""]),
    st.sampled_from(["4", "5", "", "nan", "soon", "inf"]),
    st.sampled_from([str(AT), str(AT + 1), "", "later", "99999999999"]),
    st.sampled_from(["1", "2", "1", "3", ""]),
)


@settings(max_examples=30, deadline=None)
@given(st.lists(cells, min_size=1, max_size=30), st.lists(st.integers(0, 9), max_size=6))
def test_a_load_does_not_depend_on_where_batches_end(engine, tmp_path_factory, rows, sizes):
    header = ("user", "item", "action", "value", "ts", "event_id")
    # The first batch tells how times are written.
    decisive = [(f"u{n}", "a", "view", "1", AT, f"first {n}") for n in range(40)]
    path = _csv(tmp_path_factory.mktemp("cut") / "e.csv", [header, *decisive, *rows])
    whole = load_events(engine, path, now=NOW)
    cut = load_events(engine, _parts(read(path), [40, *sizes]), now=NOW)
    assert cut.events.equals(whole.events)
    assert cut.quarantine.sort_by(c.ROW_NUMBER).equals(whole.quarantine)
    assert cut.report.reasons == whole.report.reasons
    assert cut.report.rows_in == whole.report.rows_in == len(rows) + 40


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.tuples(*[st.text(st.sampled_from('ab,"\n é;'), max_size=8)] * 2), min_size=1, max_size=25),
    st.sampled_from(["\n", "\r\n"]),
    st.integers(20, 200),
)
def test_csv_in_blocks_is_what_the_csv_module_wrote(tmp_path_factory, rows, end, size):
    path = _csv(
        tmp_path_factory.mktemp("csv") / "e.csv",
        [("user", "item", "n"), *((*row, n) for n, row in enumerate(rows))],
        end,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "BLOCK_BYTES", size)
        patch.setattr(files, "_SAMPLE_BYTES", 64)
        raw = read(path)
    assert not raw.refused
    assert raw.row_number.tolist() == list(range(1, len(rows) + 1))
    assert list(zip(raw.table["user"].to_pylist(), raw.table["item"].to_pylist(), strict=True)) == rows


def test_a_stray_quote_costs_its_line_and_no_other(tiny, tmp_path):
    lines = [
        f'u{n},"i, {n}",{AT + n},{"two" if n % 9 else chr(34) + "two" + chr(10) + "lines" + chr(34)}'
        for n in range(200)
    ]
    torn = {50, 51, 120}
    stray = [f"{line.replace(chr(34), '', 1)}" if n in torn else line for n, line in enumerate(lines)]
    path = tmp_path / "e.csv"
    path.write_text("user,item,ts,note\n" + "\n".join(stray) + "\n")
    raw = read(path)
    kept = {int(user[1:]) for user in raw.table["user"].to_pylist() if user.startswith("u") and user[1:].isdigit()}
    assert set(range(200)) - kept <= torn | {n for n in range(200) if n % 9 == 0}
    assert len(kept) > 180
    held = "\n".join(line.raw for line in raw.refused)
    assert all(f"i, {n}" in held for n in torn)
    numbers = sorted([*raw.row_number.tolist(), *(line.row_number for line in raw.refused)])
    assert len(set(numbers)) == len(numbers) == raw.rows_in


@pytest.mark.parametrize(
    "text, cell, refused",
    [
        ('user;item;ts\n"a;b";i;1760000000\n', "a;b", []),
        ("user::item::ts\n1\x1f::i::1760000000\n1::2\n", "1\x1f", ["1::2"]),
        ('"us\ner",item,ts\nu,i,1760000000\n', "u", []),
        ("user,item,ts\n" + "u,i,1760000000\n" * 700 + "n\0ul,i,1760000000\n", "u", []),
    ],
)
def test_separators_inside_values(tmp_path, text, cell, refused):
    (tmp_path / "e.csv").write_bytes(text.encode())
    raw = read(tmp_path / "e.csv")
    assert raw.table.column(0)[0].as_py() == cell
    assert [line.raw for line in raw.refused] == refused
    assert raw.rows_in == raw.table.num_rows + len(refused)


def test_mixed_line_ends_control_bytes_and_other_encodings(engine, tiny, tmp_path):
    good = [f"u{n},i\x02,{AT + n},{'é' * (n % 3)}".encode() for n in range(60)]
    good[20] = b"M\xfcller,i,%d,x" % AT
    good[40] = b"u40,i,%d" % AT
    ends = [b"\n", b"\r\n", b"\n"]
    path = tmp_path / "e.csv"
    path.write_bytes(b"user,item,ts,note\n" + b"".join(line + ends[n % 3] for n, line in enumerate(good)))
    load = load_events(engine, path, now=NOW)
    assert load.report.reasons == {"broken_encoding": 1, "unparsed_line": 1}
    encoding, ragged = load.quarantine.to_pylist()
    assert (encoding[c.ROW_NUMBER], ragged[c.ROW_NUMBER]) == (21, 41)
    assert unmarked(json.loads(encoding[c.RAW])["user"]) == b"M\xfcller"
    assert ragged[c.RAW] == f"u40,i,{AT}"
    assert load.events[c.ITEM_ID][0].as_py() == "i\x02"


def test_parquet_in_batches_of_a_folder_whose_parts_differ(engine, tiny, tmp_path):
    for at in range(3):
        rows = {"user": [f"u{at}{n}" for n in range(12)], "item": ["i"] * 12, "ts": [AT + n for n in range(12)]}
        rows |= {"note": [f"n{n}" for n in range(12)]} if at == 1 else {}
        pq.write_table(pa.table(rows), tmp_path / f"{at}.parquet")
    file = open_raw(tmp_path)
    assert [raw.table.num_rows for raw in file.batches()][:3] == [5, 5, 2]
    assert rows_about(file) == 36
    load = load_events(engine, file, now=NOW)
    assert load.report.accepted == 36
    assert sorted(x for x in load.events[c.CONTEXT].to_pylist() if x) == sorted(f'{{"note":"n{n}"}}' for n in range(12))


def test_bytes_in_parquet_that_are_no_text_cost_their_row(engine, tmp_path):
    bad = pa.array([b"u1", b"M\xfcller", "\ufffd".encode()], pa.binary()).view(pa.string())
    table = pa.table({"user": bad, "item": pa.array(["a"] * 3).cast(pa.large_string()), "ts": [AT, AT + 1, AT + 2]})
    pq.write_table(table, tmp_path / "e.parquet")
    load = load_events(engine, tmp_path / "e.parquet", now=NOW)
    assert load.events[c.USER_ID].to_pylist() == ["u1"]
    raws = [unmarked(json.loads(raw)["user"]) for raw in load.quarantine[c.RAW].to_pylist()]
    assert raws == [b"M\xfcller", "\ufffd".encode()]


# ---------------------------------------------------------------------------------------------- what is held


def test_day_or_month_is_told_by_a_later_part_of_the_file(engine, tiny, tmp_path):
    dates = ["01/02/2025"] * 40 + ["25/02/2025"] * 30 + ["01/02/2025"] * 30 + ["03/14/2025"]
    path = _csv(tmp_path / "e.csv", [("user", "item", "ts"), *((f"u{n}", "i", day) for n, day in enumerate(dates))])
    load = load_events(engine, path, now=NOW)
    assert load.events[c.HAPPENED_AT][0].as_py().date().isoformat() == "2025-02-01"
    assert load.report.reasons == {"unreadable_time": 1}, "what contradicts the rest cannot be read"
    never = _csv(tmp_path / "n.csv", [("user", "item", "ts"), *((f"u{n}", "i", "01/02/2025") for n in range(60))])
    with pytest.raises(DataError, match="day or month"):
        load_events(engine, never, now=NOW)


def test_another_unit_of_time_or_scale_later_on_is_quarantined(engine, tiny, tmp_path):
    rows = [(f"u{n}", "i", AT + n, 1 + n % 5, n) for n in range(1100)]
    rows += [("x", "i", (AT + 1) * 1000, 5, "x"), ("y", "i", AT, 55, "y")]
    path = _csv(tmp_path / "e.csv", [("user", "item", "ts", "rating", "event_id"), *rows])
    load = load_events(engine, path, now=NOW)
    assert load.report.reasons == {"rating_out_of_range": 1, "unreadable_time": 1}
    assert any("scale 1 to 5" in note for note in load.report.notes)


def test_positions_are_read_as_the_beginning_told(engine, tiny, tmp_path):
    rows = [(f"u{n}", "i", AT + n, n % 3) for n in range(60)]
    load = load_events(engine, _csv(tmp_path / "e.csv", [("user", "item", "ts", "pos"), *rows]), now=NOW)
    assert set(load.events[c.POSITION].to_pylist()) == {1, 2, 3}
    rows = [(f"u{n}", "i", AT + n, 1 + n % 3) for n in range(60)] + [("z", "i", AT, 0)]
    load = load_events(engine, _csv(tmp_path / "o.csv", [("user", "item", "ts", "pos"), *rows]), now=NOW)
    assert load.report.reasons == {"position_out_of_range": 1}


def test_an_outcome_that_says_neither_yes_nor_no(engine, tiny, tmp_path):
    rows = [(f"u{n}", "i", AT + n, n % 2) for n in range(60)] + [("z", "i", AT, "perhaps")]
    load = load_events(engine, _csv(tmp_path / "e.csv", [("user", "item", "ts", "clicked"), *rows]), now=NOW)
    assert load.report.reasons == {"unreadable_outcome": 1}
    assert (load.report.accepted, load.events.num_rows) == (60, 90)


def test_the_files_own_context_and_its_other_columns_go_together(engine, tmp_path):
    rows = [
        ("u", "a", AT, '{"x":1}', "k"),
        ("u", "b", AT, "", "l"),
        ("u", "c", AT, "word", "m"),
        ("u", "d", AT, "{}", ""),
    ]
    load = load_events(engine, _csv(tmp_path / "e.csv", [("user", "item", "ts", "context", "more"), *rows]), now=NOW)
    found = [None if text is None else json.loads(text) for text in load.events[c.CONTEXT].to_pylist()]
    assert found == [{"x": 1, "more": "k"}, {"more": "l"}, {"context": "word", "more": "m"}, {}]


# -------------------------------------------------------------------------------------------------- checks


class _Check:
    """Holds one person back, wonders at another, and refuses a load with a third."""

    def __init__(self) -> None:
        self.rows = 0
        self.totals: Totals | None = None

    def batch(self, rows: pa.Table) -> Sequence[Finding]:
        self.rows += rows.num_rows
        who = np.array(rows[c.USER_ID].to_pylist(), dtype=object)
        return [
            Finding(who == "bad", "bot", "Too fast.", "quarantine"),
            Finding(who == "odd", "odd", "Odd.", "warn"),
            Finding(who == "worst", "worst", "The worst came.", "refuse"),
        ]

    def finish(self, totals: Totals) -> Sequence[Finding]:
        self.totals = totals
        return [Finding(np.zeros(0, bool), "few", "Few rows.", "refuse" if totals.report.accepted < 2 else "warn")]


def test_checks_hold_rows_back_warn_and_refuse(engine, tiny, tmp_path):
    header = ("event_id", "user", "item", "ts")
    rows = [("1", "bad", "i", AT), ("1", "fine", "i", AT + 1), ("2", "odd", "i", AT + 90_000)]
    check = _Check()
    load = load_events(engine, _csv(tmp_path / "e.csv", [header, *rows]), now=NOW, checks=[check])
    assert load.events[c.USER_ID].to_pylist() == ["fine", "odd"], "a row that a check holds back shadows no other"
    (held,) = load.quarantine.to_pylist()
    assert (held[c.REASON], held[c.DETAIL]) == ("bot", "Too fast.")
    assert (check.rows, load.report.warned) == (3, {"odd": 1})
    assert load.report.notes[-1] == "Few rows."
    assert check.totals is not None
    assert check.totals.rows_per_day == {AT // 86_400: 1, AT // 86_400 + 1: 1}
    with pytest.raises(DataError, match="worst came"):
        load_events(
            engine, _csv(tmp_path / "w.csv", [header, *rows, ("3", "worst", "i", AT)]), now=NOW, checks=[_Check()]
        )
    with pytest.raises(DataError, match="keeps the contract"):
        load_events(engine, _csv(tmp_path / "f.csv", [header, rows[0]]), now=NOW, checks=[_Check()])


def test_a_code_that_only_warns_lets_the_row_pass(engine, tmp_path):
    path = _csv(tmp_path / "e.csv", [("user", "item", "action", "price", "ts"), ("u", "i", "purchase", -3, AT)])
    load = load_events(engine, path, now=NOW, warns={"negative_price"})
    assert (load.report.accepted, load.report.warned, load.report.reasons) == (1, {"negative_price": 1}, {})


# --------------------------------------------------------------------------------------------------- the set


ids = st.lists(st.none() | st.text("abé", max_size=3) | st.integers(0, 40).map(str), max_size=40)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(ids, st.integers(0, 2**30)), max_size=8))
def test_the_set_of_ids_is_a_set(batches):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(seen, "_FIRST_SLOTS", 4)
        patch.setattr(seen, "_IN_MEMORY_SLOTS", 32)
        patch.setattr(seen, "_CHUNK", 7)
        known: set[str] = set()
        with Seen() as found:
            folder = found._folder
            for texts, mask in batches:
                passing = np.array([bool(mask >> (n % 30) & 1) for n in range(len(texts))], bool)
                expected = []
                for text, passes in zip(texts, passing, strict=True):
                    met = bool(passes) and text is not None
                    expected.append(met and text in known)
                    known |= {text} if met and text is not None else set()
                assert found.admit(pa.array(texts, pa.string()), passing).tolist() == expected
                assert len(found) == len(known)
        assert not folder.exists()


def test_ids_that_agree_in_all_of_the_hash_that_is_kept_are_told_apart(monkeypatch):
    from honeyguide.kernels import cells

    texts = pa.array([f"id-{n}" for n in range(50)] * 2)
    offsets, data = seen.parts_of(texts)
    passing = seen.frozen(np.ones(100, bool))
    slots = np.zeros(256, np.uint64)
    fresh, again = np.empty(100, np.int64), np.empty(100, bool)
    none = seen.frozen(np.zeros(1, np.int64)), seen.frozen(np.zeros(1, np.uint8))
    assert cells.admit(offsets, data, passing, slots, 0, *none, fresh, again) == 50
    # The same slots under the pretence that every ordinal is another's: nothing may count as met by its hash alone.
    taken = slots > 0
    slots[taken] = (slots[taken] >> np.uint64(32) << np.uint64(32)) | np.uint64(1)
    ends, lie = np.array([0, 3], np.int64), np.frombuffer(b"lie", np.uint8)
    count = cells.admit(offsets, data, passing, slots, 1, seen.frozen(ends), lie, fresh, again)
    assert count == 50
    assert again.tolist() == [False] * 50 + [True] * 50


def test_what_is_read_ahead_comes_in_order_with_its_error():
    def source() -> Iterator[int]:
        yield from range(3)
        raise DataError(expected="more", got="an end", do="Stop.")

    found = []
    with pytest.raises(DataError, match="an end"):
        found.extend(ahead(source()))
    rest = ahead(iter(range(1000)))
    assert next(rest) == 0
    rest.close()


# ------------------------------------------------------------------------------------------------- fuzzing


def _parquet() -> bytes:
    sink = io.BytesIO()
    rows = 60
    table = pa.table({
        "user": [f"u{n}" for n in range(rows)], "item": ["i"] * rows, "ts": [AT + n for n in range(rows)],
        "note": [None if n % 3 else "é" * n for n in range(rows)],
    })  # fmt: skip
    pq.write_table(table, sink, row_group_size=20)
    return sink.getvalue()


GOOD = _parquet()


@settings(max_examples=120, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(0, 200), st.booleans())
def test_parquet_with_any_bytes_changed_is_rows_or_a_data_error(engine, tmp_path_factory, seed, changes, cut, footer):
    rng = random.Random(seed)
    data = bytearray(GOOD[: len(GOOD) - cut] if cut % 3 == 0 else GOOD)
    for _ in range(changes):
        first = len(data) - 400 if footer and len(data) > 400 else 4
        data[rng.randrange(first, len(data))] = rng.randrange(256)
    path = tmp_path_factory.mktemp("fuzz") / "e.parquet"
    path.write_bytes(bytes(data))
    try:
        load = load_events(engine, path, now=NOW)
    except DataError:
        return
    assert load.report.rows_in == load.report.accepted + load.report.quarantined
    assert load.report.accepted == load.events.num_rows


def test_a_parquet_file_that_promises_more_than_it_holds(engine, tmp_path):
    (tmp_path / "e.parquet").write_bytes(GOOD[:200] + GOOD[-300:])
    with pytest.raises(DataError):
        load_events(engine, tmp_path / "e.parquet", now=NOW)
