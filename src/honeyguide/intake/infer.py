"""A contract from the first load: what it held, with room to breathe; mostly warnings, which people may sharpen."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from honeyguide.intake.bots import Limits
from honeyguide.intake.contract import (
    BotRule,
    ColumnRules,
    CutOffRule,
    FreshnessRule,
    NullRule,
    RangeRule,
    ReferenceRule,
    RowsRule,
    SchemaRule,
    Severity,
    ShareRule,
    TableContract,
    ValuesRule,
    VolumeRule,
)
from honeyguide.intake.profile import HOUR_US, ColumnProfile, Profile
from honeyguide.intake.values import text
from honeyguide.schema import columns as c
from honeyguide.schema.columns import Column
from honeyguide.schema.tables import EVENTS, Table

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["file_kinds", "infer"]

GATE: dict[str, dict[str, Severity]] = {
    "events": {
        "duplicate": "quarantine",
        "broken_encoding": "quarantine",
        "time_in_future": "quarantine",
        "time_before_1990": "quarantine",
        "unreadable_time": "quarantine",
        "negative_price": "quarantine",
        "rating_out_of_range": "quarantine",
    },
    "items": {"duplicate": "quarantine", "broken_encoding": "quarantine", "negative_price": "quarantine"},
    "users": {"duplicate": "quarantine", "broken_encoding": "quarantine"},
}
"""Severities written out, so that whoever edits the file sees what there is to edit."""

_LIVE_H = 24 * 30
"""A first load whose newest event is older than this is history: it says nothing of how fresh later ones must be."""
_RANGED = (c.VALUE, c.PRICE, c.YEAR, c.POSITION)
_INTEGER = r"^[+-]?\d+$"
_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
_TIME = r"^\d{4}-\d{1,2}-\d{1,2}([T ]\S.*)?$|^\d{1,2}[./]\d{1,2}[./]\d{4}.*$"
_BOOLEAN = r"(?i)^(true|false)$"
_SAMPLE_ROWS = 10_000


def infer(
    table: Table,
    profile: Profile,
    *,
    now_us: int,
    kinds: Mapping[str, str] | None = None,
    quarantined_share: float = 0.0,
    limits: Limits | None = None,
    has_catalog: bool = False,
    inferred_from: str = "",
) -> TableContract:
    """The contract that a first load of `table` suggests.

    profile: of what was accepted; kinds: of the file's columns, see `file_kinds`; limits: of the people's rates
    (events); has_catalog: whether items came in a file of their own, so that an unknown one is worth a word.
    """
    columns = {
        str(column): rules
        for column in table.columns
        if (rules := _column_rules(table, column, profile, has_catalog)) is not None
    }
    events = table is EVENTS
    return TableContract(
        table=table.name,  # type: ignore[arg-type]
        inferred_from=inferred_from,
        gate=GATE[table.name],
        file=None if kinds is None else SchemaRule(columns=dict(kinds)),
        freshness=_freshness(profile, now_us) if events else None,
        volume=VolumeRule() if events else None,
        last_day=CutOffRule() if events else None,
        rows=None if events else RowsRule(),
        quarantined=ShareRule(max_share=min(1.0, _rounded_up(max(0.05, 3 * quarantined_share)))),
        bots=None if limits is None else BotRule(per_minute=limits.per_minute, per_hour=limits.per_hour),
        columns=columns,
    )


def _column_rules(table: Table, column: Column, profile: Profile, has_catalog: bool) -> ColumnRules | None:
    found, rows = profile.columns.get(column), profile.rows
    if found is None or not rows or found.nulls == rows:
        return None
    rules: dict[str, Any] = {}
    if column.nullable:
        share = found.nulls / rows
        rules["nulls"] = (
            NullRule(tolerated_share=_rounded_up(min(1.0, max(0.01, 1.5 * share)))) if share < 0.5 else None
        )
    if column in _RANGED and found.low is not None and found.high is not None:
        rated = "rating" in (profile.columns.get(c.ACTION, ColumnProfile()).values or ())
        low, high = _widened(column, found.low, found.high, graded=rated and column == c.VALUE)
        rules["range"] = RangeRule(low=low, high=high)
    if found.values and (column == c.ACTION or _is_closed(found, rows)):
        rules["values"] = ValuesRule(allowed=tuple(sorted(found.values)))
    if table is EVENTS and column == c.ITEM_ID and has_catalog:
        rules["reference"] = ReferenceRule(table="items")
    rules = {name: rule for name, rule in rules.items() if rule is not None}
    return ColumnRules(**rules) if rules else None


def _is_closed(found: ColumnProfile, rows: int) -> bool:
    """Whether the values seen look like all there are: few, and each seen often."""
    return bool(found.values) and 20 * len(found.values or ()) <= rows - found.nulls


def _widened(column: Column, low: float, high: float, *, graded: bool) -> tuple[float | None, float | None]:
    """Grades as they are; anything else with its own width to spare on both sides."""
    if graded and low == round(low) and high == round(high) and high - low <= 10:
        return low, high
    if column == c.POSITION:
        return 1.0, _rounded_up(10 * high)
    wide = max(high - low, abs(high), 1.0)
    return (0.0 if low >= 0 else low - wide), _rounded_up(high + wide)


def _freshness(profile: Profile, now_us: int) -> FreshnessRule | None:
    newest = profile.columns.get(c.HAPPENED_AT, ColumnProfile()).high
    if newest is None or now_us - newest > _LIVE_H * HOUR_US:
        return None
    return FreshnessRule(max_age_hours=float(max(48, math.ceil(2 * (now_us - newest) / HOUR_US))))


def _rounded_up(value: float) -> float:
    """Two figures, never below."""
    if value <= 0:
        return 0.0
    unit = 10.0 ** (math.floor(math.log10(value)) - 1)
    return float(f"{math.ceil(value / unit - 1e-9) * unit:.12g}")


def file_kinds(sample: pa.Table, mapping: Mapping[Column, str]) -> dict[str, str]:
    """The kind of each of a file's columns, from its first 10,000 rows; under our name where one is mapped."""
    ours = {theirs: str(column) for column, theirs in mapping.items()}
    rows = sample.slice(0, _SAMPLE_ROWS)
    return {ours.get(name, name): _kind(rows[name]) for name in rows.column_names}


def _kind(column: pa.ChunkedArray) -> str:
    import pyarrow.types as t

    kind = column.type
    if column.null_count == len(column):
        return "empty"
    if t.is_nested(kind):
        return "list"
    if t.is_boolean(kind):
        return "boolean"
    if t.is_integer(kind):
        return "integer"
    if t.is_floating(kind) or t.is_decimal(kind):
        return "number"
    if t.is_temporal(kind):
        return "time"
    cells = [cell for cell in text(column).to_pylist() if cell is not None]
    if not cells:
        return "empty"
    for name, pattern in (("integer", _INTEGER), ("number", _NUMBER), ("time", _TIME), ("boolean", _BOOLEAN)):
        fits = re.compile(pattern).search
        # A few bad cells are rows for the gate, no other kind of column.
        if sum(fits(cell) is not None for cell in cells) >= 0.95 * len(cells):
            return name
    return "text"
