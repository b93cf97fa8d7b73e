"""The quality of a workspace's data in figures: what came, what was held back and why, what each load broke."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from honeyguide.engines.tables.snapshot import Snapshots
from honeyguide.flows.layout import Layout
from honeyguide.flows.loading.records import LoadRecord, contract_of, contract_path, records
from honeyguide.intake.contract import VolumeRule
from honeyguide.intake.quality import meaning
from honeyguide.intake.volume import WEEKS, WEEKS_NEEDED, odd_days
from honeyguide.schema import columns as c
from honeyguide.schema.tables import EVENTS, QUARANTINE

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["MOST_DAYS", "MOST_LOADS", "Quality", "held_counts", "quality"]

MOST_LOADS, MOST_DAYS = 200, 400
"""So many of the newest are listed; the sums count all."""
_COUNTED = (c.LOAD_ID, c.REASON, c.MEANT_FOR, c.REPLAYED_AT)


class Quality:
    """`quality` of one workspace, made anew only when a load or a replay has changed something."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._stamp: tuple[Any, ...] = ()
        self._report: dict[str, Any] = {}

    def report(self) -> dict[str, Any]:
        """The figures as they are now."""
        current = Snapshots(self._layout.tables).find(QUARANTINE.name)
        folder = self._layout.loads
        files = tuple(sorted((p.name, p.stat().st_mtime_ns) for p in folder.glob("*.json"))) if folder.exists() else ()
        stamp = (current.id if current is not None else "", files)
        if stamp != self._stamp:
            self._report, self._stamp = quality(self._layout), stamp
        return self._report


def quality(layout: Layout) -> dict[str, Any]:
    """The figures that `GET /v1/quality` sends; `docs/data-quality.md` says what each is."""
    history = records(layout)
    held = held_counts(layout)
    shown = history[: -MOST_LOADS - 1 : -1]
    whole = [record for record in history if not record.replay]
    return {
        "rows_in": sum(record.rows_in for record in whole),
        "accepted": sum(record.accepted for record in whole),
        "quarantined": sum(record.quarantined for record in whole),
        "held": sum(n for (_, _, _, replayed), n in held.items() if not replayed),
        "replayed": sum(n for (_, _, _, replayed), n in held.items() if replayed),
        "tables": _tables(layout, whole, held),
        "reasons": _reasons(held),
        "loads": [_load(record, held) for record in shown],
        "more_loads": max(0, len(history) - len(shown)),
        "days": _days(layout, history),
    }


def held_counts(layout: Layout) -> Counter[tuple[str, str, str, bool]]:
    """Rows of Quarantine by load, reason, table ("" where an old version did not say) and whether they re-entered."""
    counts: Counter[tuple[str, str, str, bool]] = Counter()
    tables = Snapshots(layout.tables)
    current = tables.find(QUARANTINE.name)
    if current is None:
        return counts
    names = [name for name in _COUNTED if name in current.schema]
    for part in tables.scan(QUARANTINE.name, current.id, columns=names):
        counts.update(_counted(part))
    return counts


def _counted(part: pa.Table) -> dict[tuple[str, str, str, bool], int]:
    import pyarrow as pa

    for name in (c.MEANT_FOR, c.REPLAYED_AT):
        if name not in part.column_names:
            part = part.append_column(str(name), pa.nulls(part.num_rows, pa.string()))
    state = part[c.REPLAYED_AT].is_valid()
    keyed = part.drop_columns([c.REPLAYED_AT]).append_column(str(c.REPLAYED_AT), state)
    keys = [str(name) for name in _COUNTED]
    grouped = keyed.group_by(keys).aggregate([([], "count_all")]).to_pylist()
    return {(row[keys[0]], row[keys[1]], row[keys[2]] or "", row[keys[3]]): row["count_all"] for row in grouped}


def _tables(layout: Layout, history: Sequence[LoadRecord], held: Mapping[Any, int]) -> list[dict[str, Any]]:
    names = dict.fromkeys([record.table for record in history])
    of_load = {record.load_id: record.table for record in history}
    return [
        {
            "table": name,
            "loads": sum(record.table == name for record in history),
            "rows_in": sum(record.rows_in for record in history if record.table == name),
            "accepted": sum(record.accepted for record in history if record.table == name),
            "quarantined": sum(record.quarantined for record in history if record.table == name),
            "held": sum(
                n for (load, _, table, back), n in held.items() if not back and (table or of_load.get(load)) == name
            ),
            "contract": str(path.relative_to(layout.root)) if (path := contract_path(layout, name)).exists() else None,
        }
        for name in names
    ]


def _reasons(held: Mapping[tuple[str, str, str, bool], int]) -> list[dict[str, Any]]:
    waiting: Counter[str] = Counter()
    back: Counter[str] = Counter()
    for (_, reason, _, replayed), n in held.items():
        (back if replayed else waiting)[reason] += n
    return [
        {"reason": reason, "meaning": meaning(reason), "held": waiting[reason], "replayed": back[reason]}
        for reason in sorted({*waiting, *back}, key=lambda reason: (-waiting[reason], -back[reason], reason))
    ]


def _load(record: LoadRecord, held: Mapping[tuple[str, str, str, bool], int]) -> dict[str, Any]:
    return {
        "load_id": record.load_id,
        "table": record.table,
        "file": Path(record.file).name,
        "at": record.at,
        "rows_in": record.rows_in,
        "accepted": record.accepted,
        "quarantined": record.quarantined,
        "share": record.quarantined / record.rows_in if record.rows_in else 0.0,
        "reasons": record.reasons,
        "replayed": sum(
            n for (load, _, table, back), n in held.items()
            if back and load == record.load_id and table in ("", record.table)
        ),
        "findings": record.findings,
        "unjudged": record.unjudged,
        "replay": record.replay,
    }  # fmt: skip


def _days(layout: Layout, history: Sequence[LoadRecord]) -> list[dict[str, Any]]:
    """Accepted events per day, with the median of the same weekday in the weeks before, as a contract judges them."""
    days: dict[int, int] = {}
    for record in history:
        if record.table == EVENTS.name:
            for day, n in record.days.items():
                days[int(day)] = days.get(int(day), 0) + n
    if not days:
        return []
    first, last = min(days), max(days)
    contract = contract_of(layout, EVENTS.name)
    rule = (contract.volume if contract is not None else None) or VolumeRule()
    # The last day may not be over.
    odd, _ = odd_days(days, {}, lowest=rule.lowest, highest=rule.highest, skip=frozenset([last]))
    doubted = {one.day for one in odd}
    found = []
    for number in range(max(first, last - MOST_DAYS + 1), last + 1):
        before = [days.get(number - 7 * week, 0) for week in range(1, WEEKS + 1) if number - 7 * week >= first]
        usual = float(median(before)) if len(before) >= WEEKS_NEEDED else None
        date = dt.date(1970, 1, 1) + dt.timedelta(days=number)
        found.append({"day": date.isoformat(), "events": days.get(number, 0), "usual": usual, "odd": number in doubted})
    return found
