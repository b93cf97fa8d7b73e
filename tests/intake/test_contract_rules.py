"""Every rule of a contract with hand cases, and the file it is kept in."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from honeyguide.errors import ConfigError
from honeyguide.intake.contract import (
    GATE_MAY_WARN,
    ROW_CODES,
    ColumnRules,
    FreshnessRule,
    NullRule,
    RangeRule,
    ReferenceRule,
    RowsRule,
    SchemaRule,
    ShareRule,
    TableContract,
    UniqueRule,
    ValuesRule,
)
from honeyguide.intake.contract_check import ContractCheck, Past
from honeyguide.intake.infer import file_kinds, infer
from honeyguide.intake.quality import REASONS, Report, Totals
from honeyguide.schema import columns as c
from honeyguide.schema.tables import EVENTS, ITEMS, USERS, Table

DAY_US = 86_400_000_000
NOW = 20_000 * DAY_US


def events(rows: list[dict[str, Any]]) -> pa.Table:
    defaults = {c.USER_ID: "u", c.ITEM_ID: "i", c.ACTION: "view", c.HAPPENED_AT: NOW - DAY_US}
    full = [{c.EVENT_ID: str(n), **defaults, **row} for n, row in enumerate(rows)]
    for row in full:
        row.setdefault(c.KNOWN_AT, row[c.HAPPENED_AT])
    schema = pa.schema(
        [pa.field(f.name, pa.int64() if pa.types.is_timestamp(f.type) else f.type) for f in EVENTS.arrow()]
    )
    return pa.Table.from_pylist(full, schema=schema).cast(pa.schema([pa.field(f.name, f.type) for f in EVENTS.arrow()]))


def totals(rows_in: int, *, quarantined: int = 0, days: dict[int, int] | None = None, **reasons: int) -> Totals:
    report = Report("events", "f", rows_in, rows_in - quarantined, quarantined, reasons, {}, (), {})
    return Totals(report, days or {})


def contract(table: str = "events", **parts: Any) -> TableContract:
    return TableContract(table=table, **parts)  # type: ignore[arg-type]


def judged(rules: TableContract, rows: list[dict[str, Any]], **given: Any) -> tuple[dict[str, list[int]], list[str]]:
    """Rows held back by code, and the codes of the load's breaches."""
    check = ContractCheck(EVENTS, rules, now_us=NOW, **given)
    table = events(rows)
    held: dict[str, list[int]] = {}
    for start in range(0, len(rows), 2):  # two rows a batch: a rule may not depend on where a batch ends
        for finding in check.batch(table.slice(start, 2)):
            assert finding.severity == "quarantine"
            held.setdefault(finding.reason, []).extend((start + np.flatnonzero(finding.rows)).tolist())
    check.finish(totals(len(rows), days=check.profile.days))
    return held, [breach.code for breach in check.breaches]


# ------------------------------------------------------------------------------------------------ rules on rows

CASES: list[tuple[ColumnRules, str, str, list[Any], list[int]]] = [
    (ColumnRules(nulls=NullRule()), c.SESSION_ID, "null_value", ["s", None, "t", None, None], [1, 3, 4]),
    (ColumnRules(range=RangeRule(low=1, high=5)), c.VALUE, "out_of_range", [1.0, 5.0, 0.99, None, 5.01], [2, 4]),
    (ColumnRules(range=RangeRule(low=0)), c.VALUE, "out_of_range", [-1.0, 1e300, 0.0], [0]),
    (ColumnRules(range=RangeRule(high=3)), c.POSITION, "out_of_range", [1, 4, 3], [1]),
    (ColumnRules(values=ValuesRule(allowed=("view",))), c.ACTION, "value_not_allowed", ["view", "zap", "View"], [1, 2]),
    (ColumnRules(values=ValuesRule(allowed=("a",))), c.SURFACE, "value_not_allowed", [None, "a", "b"], [2]),
    (ColumnRules(unique=UniqueRule()), c.SESSION_ID, "not_unique", ["a", "b", "a", None, None, "c", "b"], [2, 6]),
]


@pytest.mark.parametrize(("rules", "column", "code", "cells", "wrong"), CASES)
@pytest.mark.parametrize("severity", ["warn", "quarantine", "refuse"])
def test_a_rule_on_rows(
    rules: ColumnRules, column: str, code: str, cells: list[Any], wrong: list[int], severity: str
) -> None:
    (name,) = (name for name, _ in rules.rules())
    sharp = rules.model_copy(update={name: getattr(rules, name).model_copy(update={"severity": severity})})
    held, breaches = judged(contract(columns={column: sharp}), [{column: cell} for cell in cells])
    assert held == ({} if severity == "warn" else {code: wrong})
    assert breaches == [code]


def test_users_that_nobody_knows() -> None:
    rules = ColumnRules(reference=ReferenceRule(table="users", severity="quarantine"))
    held, breaches = judged(
        contract(columns={c.USER_ID: rules}),
        [{c.USER_ID: user} for user in ("a", "zz", "b", "", "a")],
        known={"users": pa.array(["a", "b", ""])},
    )
    assert held == {"unknown_user": [1]}
    assert breaches == ["unknown_user"]


def test_what_is_kept_is_no_breach() -> None:
    rules = {c.VALUE: ColumnRules(nulls=NullRule(), range=RangeRule(low=0, high=1), unique=None)}
    assert judged(contract(columns=rules), [{c.VALUE: 0.0}, {c.VALUE: 1.0}, {c.VALUE: 0.5}]) == ({}, [])


@pytest.mark.parametrize(("tolerated", "broken"), [(0.24, True), (0.25, False), (1.0, False)])
def test_a_tolerated_share(tolerated: float, broken: bool) -> None:
    rule = RangeRule(high=1, severity="refuse", tolerated_share=tolerated)
    rows = [{c.VALUE: 2.0}, {c.VALUE: 0.0}, {c.VALUE: 0.0}, {c.VALUE: 0.0}]
    held, breaches = judged(contract(columns={c.VALUE: ColumnRules(range=rule)}), rows)
    assert held == {"out_of_range": [0]}  # held back whether or not the load is refused
    assert breaches == (["out_of_range"] if broken else [])


def test_a_column_that_a_batch_lacks_is_empty() -> None:
    rules = contract(columns={c.QUERY: ColumnRules(nulls=NullRule(severity="quarantine"))})
    check = ContractCheck(EVENTS, rules, now_us=NOW)
    (finding,) = check.batch(events([{}, {}]).drop_columns([c.QUERY]))
    assert finding.rows.tolist() == [True, True]


# ------------------------------------------------------------------------------------------------ rules on loads


def test_rows_that_the_gate_found() -> None:
    check = ContractCheck(EVENTS, contract(gate={"negative_price": "refuse", "duplicate": "quarantine"}), now_us=NOW)
    found = check.finish(totals(10, quarantined=3, negative_price=1, duplicate=2))
    assert [(one.reason, one.severity) for one in found] == [("negative_price", "refuse")]
    assert "1 rows with negative_price" in found[0].detail


def test_rows_that_the_gate_let_pass() -> None:
    rules = contract(gate={"negative_price": "warn", "time_in_future": "warn", "duplicate": "quarantine"})
    assert rules.gate_warns() == {"negative_price", "time_in_future"}
    report = Report("events", "f", 10, 10, 0, {}, {}, (), {}, warned={"negative_price": 4})
    found = ContractCheck(EVENTS, rules, now_us=NOW).finish(Totals(report, {}))
    assert [(one.reason, one.severity) for one in found] == [("negative_price", "warn")]
    assert "4 rows" in found[0].detail


@pytest.mark.parametrize(("quarantined", "broken"), [(10, False), (11, True)])
def test_too_large_a_share_held_back(quarantined: int, broken: bool) -> None:
    check = ContractCheck(EVENTS, contract(quarantined=ShareRule(max_share=0.1, severity="refuse")), now_us=NOW)
    found = check.finish(totals(100, quarantined=quarantined, duplicate=quarantined))
    assert [one.reason for one in found] == (["too_many_quarantined"] if broken else [])


@pytest.mark.parametrize(("before", "now", "broken"), [(100, 50, False), (100, 49, True), (None, 1, False)])
def test_a_table_that_shrinks(before: int | None, now: int, broken: bool) -> None:
    rules = contract("items", rows=RowsRule(least_share=0.5, severity="refuse"))
    check = ContractCheck(ITEMS, rules, now_us=NOW, past=Past(rows=before))
    assert [one.reason for one in check.finish(totals(now))] == (["too_few_rows"] if broken else [])


@pytest.mark.parametrize(("hours", "broken"), [(47, False), (49, True)])
def test_freshness(hours: int, broken: bool) -> None:
    rules = contract(freshness=FreshnessRule(max_age_hours=48))
    _, breaches = judged(rules, [{c.HAPPENED_AT: NOW - hours * 3_600_000_000}, {c.HAPPENED_AT: NOW - 90 * DAY_US}])
    assert breaches == (["stale"] if broken else [])


@pytest.mark.parametrize(
    ("before", "now", "codes"),
    [
        ({"a": "text", "user_id": "integer"}, {"user_id": "integer", "a": "text"}, []),
        ({"user_id": "integer", "a": "text"}, {"a": "text"}, [("column_lost", "warn")]),
        ({"user_id": "integer", "a": "text"}, {"user_id": "integer"}, [("column_gone", "warn")]),
        ({"a": "text"}, {"a": "text", "b": "list"}, [("column_new", "warn")]),
        ({"a": "integer"}, {"a": "text"}, [("type_changed", "warn")]),
        ({"a": "number"}, {"a": "integer"}, []),
        ({"a": "integer"}, {"a": "number"}, [("type_changed", "warn")]),
        ({"a": "text"}, {"a": "empty"}, []),
        ({"a": "time"}, {"a": "integer"}, []),
        ({"a": "time"}, {"a": "list"}, [("type_changed", "warn")]),
    ],
)
def test_a_change_of_the_file(before: dict[str, str], now: dict[str, str], codes: list[tuple[str, str]]) -> None:
    check = ContractCheck(EVENTS, contract(file=SchemaRule(columns=before)), now_us=NOW, kinds=now)
    assert [(one.reason, one.severity) for one in check.finish(totals(1))] == codes


def test_kinds_of_a_file() -> None:
    sample = pa.table(
        {
            "id": ["1", "2", " 3"],
            "when": ["2026-01-01", "2026-01-02T03:04:05Z", ""],
            "much": ["1.5", "-2", "1e9"],
            "name": ["x", "7", "y"],
            "ok": ["true", "FALSE", "True"],
            "none": ["", "null", None],
            "whole": pa.array([1, 2, 3]),
            "half": pa.array([1.0, 2.5, None]),
            "flag": pa.array([True, False, None]),
            "tags": pa.array([["a"], [], None]),
            "at": pa.array([1, 2, 3], pa.timestamp("ms")),
            "gone": pa.nulls(3),
        }
    )
    assert file_kinds(sample, {c.USER_ID: "id", c.HAPPENED_AT: "when"}) == {
        "user_id": "integer", "happened_at": "time", "much": "number", "name": "text", "ok": "boolean", "none": "empty",
        "whole": "integer", "half": "number", "flag": "boolean", "tags": "list", "at": "time", "gone": "empty",
    }  # fmt: skip


# ---------------------------------------------------------------------------------------------- the first load


def first(rows: list[dict[str, Any]], **given: Any) -> TableContract:
    check = ContractCheck(EVENTS, now_us=NOW)
    check.batch(events(rows))
    assert check.rates is not None
    return infer(EVENTS, check.profile, now_us=NOW, limits=check.rates.limits(), **given)


ROWS = [
    {c.ACTION: action, c.VALUE: float(n % 5 + 1), c.SURFACE: "home" if n % 2 else None, c.POSITION: n % 10 + 1,
     c.HAPPENED_AT: NOW - (n + 1) * 3_600_000_000}
    for n, action in enumerate(["view", "rating"] * 50)
]  # fmt: skip


def test_what_the_first_load_suggests() -> None:
    rules = first(ROWS, kinds={"user_id": "text"}, has_catalog=True)
    action, value = rules.columns[c.ACTION], rules.columns[c.VALUE]
    assert action.values == ValuesRule(allowed=("rating", "view"))
    assert value.range == RangeRule(low=1, high=5)
    assert value.nulls == NullRule(tolerated_share=0.01)
    assert rules.columns[c.SURFACE].nulls is None  # half empty already: no promise
    assert rules.columns[c.POSITION].range == RangeRule(low=1, high=100)
    assert rules.columns[c.ITEM_ID].reference == ReferenceRule(table="items")
    assert rules.freshness == FreshnessRule(max_age_hours=48)
    assert rules.bots is not None
    assert (rules.bots.per_minute, rules.bots.per_hour) == (120, 1_200)
    assert rules.unknown_item == "add"


def test_the_first_load_keeps_the_contract_it_suggests() -> None:
    rules = first(ROWS, kinds={"user_id": "text"})
    _, breaches = judged(rules, ROWS, kinds={"user_id": "text"})
    assert breaches == []


def test_an_old_log_promises_no_freshness() -> None:
    assert first([{c.HAPPENED_AT: NOW - 400 * DAY_US}]).freshness is None


@pytest.mark.parametrize("table", [ITEMS, USERS])
def test_catalogs_have_no_rules_of_time(table: Table) -> None:
    check = ContractCheck(table, now_us=NOW)
    check.batch(table.arrow().empty_table())
    rules = infer(table, check.profile, now_us=NOW)
    assert (rules.freshness, rules.volume, rules.last_day, rules.bots) == (None, None, None, None)
    assert rules.rows == RowsRule()


# ------------------------------------------------------------------------------------------------------ the file

NAMES = st.text(min_size=1, max_size=8)


@given(
    names=st.lists(NAMES, unique=True, max_size=4),
    allowed=st.lists(st.text(max_size=9), min_size=1, max_size=4),
    low=st.floats(-1e12, 0),
    high=st.floats(0, 1e12),
    said=st.text(),
)
def test_the_file_says_what_the_contract_says(
    names: list[str], allowed: list[str], low: float, high: float, said: str
) -> None:
    rules = contract(
        inferred_from=said.replace("\ud800", ""),
        gate={"duplicate": "refuse", "negative_price": "warn"},
        file=SchemaRule(columns=dict.fromkeys(names, "text")),
        columns={
            c.ACTION: ColumnRules(values=ValuesRule(allowed=tuple(allowed), severity="quarantine")),
            c.VALUE: ColumnRules(range=RangeRule(low=low, high=high, tolerated_share=0.25)),
        },
    )
    assert TableContract.model_validate(tomllib.loads(rules.text())) == rules


def test_the_inferred_file_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "events.toml"
    rules = first(ROWS, kinds={"user_id": "text", "a b": "list", "ü": "text", "": "text"}, inferred_from='x"\n')
    path.write_text(rules.text(), encoding="utf-8")
    assert TableContract.load(path) == rules


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('table = "events"\nspeed = 3', "the unknown key 'speed'"),
        ('table = "events"\n[bots]\nper_minute = 0\nper_hour = 1', "bots.per_minute"),
        ('table = "events"\n[gate]\nduplicate = "shout"', "gate.duplicate"),
        ('table = "events"\n[gate]\nmissing_user = "warn"', "a row with missing_user cannot be kept"),
        ('table = "events"\n[columns.colour]\nnulls = {}', "has no column 'colour'"),
        ('table = "events"\n[columns.action]\nrange = { low = 1 }', "holds no numbers"),
        ('table = "events"\n[columns.value]\nrange = { low = 2, high = 1 }', "low is above high"),
        ('table = "events"\n[columns.value]\nvalues = { allowed = ["a"] }', "are for texts"),
        ('table = "events"\n[columns.action]\nvalues = { allowed = [] }', "columns.action.values.allowed"),
        ('table = "events"\n[columns.query]\nreference = { table = "items" }', "refers to no ids"),
        ('table = "events"\n[columns.value]\nnulls = { tolerated_share = 1.5 }', "tolerated_share"),
        ('table = "items"', "that of items"),
        ('table = "boards"', "a valid table"),
        ("table = [", "TOML"),
        ("", "a valid table"),
    ],
)
def test_a_contract_that_cannot_be_read(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "events.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as refused:
        TableContract.load(path)
    assert said in str(refused.value)


def test_bytes_that_are_no_toml(tmp_path: Path) -> None:
    path = tmp_path / "events.toml"
    path.write_bytes(b'table = "\xff"')
    with pytest.raises(ConfigError, match="TOML"):
        TableContract.load(path)


def test_rules_of_time_are_for_events() -> None:
    with pytest.raises(ValueError, match="freshness is for events"):
        contract("users", freshness=FreshnessRule(max_age_hours=1))


def test_every_code_has_a_meaning() -> None:
    assert set(REASONS) >= GATE_MAY_WARN
    assert not set(ROW_CODES) & set(REASONS) or {code: REASONS[code] for code in ROW_CODES} == ROW_CODES


def test_the_contract_of_the_documentation_is_one() -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "data-quality.md"
    (example,) = re.findall(r"^```toml\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    rules = TableContract.model_validate(tomllib.loads(example))
    assert set(rules.model_fields_set) == set(TableContract.model_fields) - {"inferred_from", "rows"}
    assert {name for column in rules.columns.values() for name, _ in column.rules()} == set(ColumnRules.model_fields)
