"""The gate: rows in = accepted + quarantined, always, each refused row with a reason and as it came."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from honeyguide.errors import DataError
from honeyguide.intake.contract import ROW_CODES
from honeyguide.intake.files import BROKEN, Raw
from honeyguide.intake.importers import Detected
from honeyguide.intake.values import Times, objects, times
from honeyguide.schema import columns as c
from honeyguide.schema.tables import QUARANTINE, Table

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "MAX_ID_LENGTH", "REASONS", "BatchCheck", "Finding", "Gate", "Report", "Severity", "Tally", "Totals", "concluded",
    "fitted", "gate_times", "good_times", "judge", "load_id", "meaning",
]  # fmt: skip

Mask = npt.NDArray[np.bool_]

MAX_ID_LENGTH = 512  # as in schema.wire.Id

REASONS: dict[str, str] = {
    "unparsed_line": "The line has not the header's shape.",
    "broken_encoding": "Bytes that are no UTF-8.",
    "missing_user": "No person.",
    "missing_item": "No item.",
    "missing_time": "No time.",
    "missing_action": "No action.",
    "missing_value": "A rating without a number.",
    "id_too_long": f"An id or action longer than {MAX_ID_LENGTH} characters.",
    "unreadable_time": "A time that cannot be read.",
    "unreadable_number": "Text where a number belongs.",
    "time_in_future": "A time after the load.",
    "time_before_1990": "A time before 1990: a default or a wrong unit.",
    "nan_value": "A number that is not finite.",
    "negative_price": "A price below zero.",
    "rating_out_of_range": "A rating outside the scale that nearly all others keep to.",
    "position_out_of_range": "A position below the first slot or beyond reason.",
    "propensity_out_of_range": "A propensity that is no probability above zero.",
    "unreadable_outcome": "A word that is neither yes nor no where the file says what came of it.",
    "unknown_item": "An item that the catalog does not hold.",
    "duplicate": "The same event id, or the very same row, came before.",
    "superseded": "A newer row has the same id.",
    "forgotten": "Of a person who was erased; nothing of the row is kept.",
}
"""Every reason code of Quarantine, with what it means."""


def meaning(code: str) -> str:
    """What a reason code means, of the gate's or a contract's."""
    return REASONS.get(code) or ROW_CODES.get(code, code)


@dataclass(frozen=True, slots=True)
class Report:
    """What a load did."""

    table: str
    source_file: str
    rows_in: int
    accepted: int
    quarantined: int
    reasons: dict[str, int]  # code -> rows, most first
    mapping: dict[str, str]
    notes: tuple[str, ...]
    how: dict[str, str]  # of each mapped column: by its name, by its content, as given
    load_id: str = ""
    warned: dict[str, int] = field(default_factory=dict)  # code -> accepted rows that a contract lets pass with it

    def lines(self) -> list[str]:
        """For a person: the sum, a line per reason, then the notes."""
        head = f"{self.rows_in:,} rows in = {self.accepted:,} accepted + {self.quarantined:,} quarantined"
        reasons = (f"{code}: {n:,} ({meaning(code)})" for code, n in self.reasons.items())
        return [head, *reasons, *self.notes]


Severity = Literal["warn", "quarantine", "refuse"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found: a note (`warn`), rows for Quarantine, or a reason to refuse the whole load."""

    rows: Mask  # of the batch's rows; empty where the finding is about the load as a whole
    reason: str  # a stable code, as in REASONS
    detail: str  # one sentence for a person
    severity: Severity


@dataclass(frozen=True, slots=True)
class Totals:
    """A load at its end."""

    report: Report
    rows_per_day: Mapping[int, int]  # accepted rows by day of `happened_at`, in days since 1970; {} without times


class BatchCheck(Protocol):
    """A contract that rows must keep: judges batches as they pass, and the load at its end."""

    def batch(self, rows: pa.Table) -> Sequence[Finding]:
        """Judge rows that passed every law of the gate, in the table's schema and the file's order.

        Duplicates are told apart only afterwards, so that a row refused here shadows none; a batch may be empty.
        """
        ...

    def finish(self, totals: Totals) -> Sequence[Finding]:
        """Judge the load as a whole, before it is published; `quarantine` counts as `warn` here."""
        ...


class Gate:
    """Collects the refusals of one batch; the first reason of a row stands.

    warns: codes that only count, and refuse nobody.
    """

    def __init__(self, raw: Raw, warns: Collection[str] = ()) -> None:
        self.raw = raw
        self.warned: Counter[str] = Counter()
        self._warns = frozenset(warns)
        self._reason = np.full(raw.table.num_rows, -1, np.int16)
        self._reasons: list[tuple[str, str]] = []  # code and detail
        if not raw.clean:
            self.refuse(_broken(raw.table), "broken_encoding")

    @property
    def passing(self) -> Mask:
        """Rows that nothing has refused so far."""
        return self._reason < 0

    def refuse(self, which: Mask, code: str, detail: str = "") -> None:
        """Refuse the rows of a mask that still pass."""
        which = which & (self._reason < 0)
        if not which.any():
            return
        if code in self._warns:
            self.warned[code] += int(which.sum())
            return
        reason = (code, detail or meaning(code))
        if reason not in self._reasons:
            self._reasons.append(reason)
        self._reason[which] = self._reasons.index(reason)

    def quarantine(self, now: int, table: Table) -> pa.Table:
        """The refused rows by row number: as they stand (JSON lines, unparsed lines), else their cells as JSON."""
        import pyarrow as pa

        at = np.flatnonzero(self._reason >= 0)
        raw, lines = self.raw, self.raw.refused
        if raw.written is not None:
            rows = pa.array(raw.written.records(at), pa.string())
        else:
            rows = objects(raw.table.take(pa.array(at))).fill_null("{}")
        codes = pa.array([code for code, _ in self._reasons], pa.string())
        details = pa.array([detail for _, detail in self._reasons], pa.string())
        which = pa.array(self._reason[at])
        n = len(at) + len(lines)
        numbers = np.concatenate([raw.row_number[at], np.array([line.row_number for line in lines], np.int64)])
        order = pa.array(np.argsort(numbers, kind="stable"))
        unparsed = pa.array(["unparsed_line"] * len(lines), pa.string())
        found = {
            c.ROW_NUMBER: pa.array(numbers),
            c.REASON: pa.concat_arrays([codes.take(which), unparsed]),
            c.DETAIL: pa.concat_arrays([details.take(which), pa.array([line.detail for line in lines], pa.string())]),
            c.RAW: pa.concat_arrays([rows, pa.array([line.raw for line in lines], pa.string())]),
        }
        columns: dict[str, Any] = {name: column.take(order) for name, column in found.items()}
        same = {c.LOAD_ID: load_id(raw.path, now), c.SOURCE_FILE: raw.path.name, c.MEANT_FOR: table.name}
        columns |= {name: pa.repeat(pa.scalar(cell, pa.string()), n) for name, cell in same.items()}
        columns[c.LOADED_AT] = pa.repeat(pa.scalar(now, pa.int64()), n)
        return fitted(QUARANTINE, columns, n)


@dataclass(slots=True)
class Tally:
    """A load so far: rows in = accepted + quarantined."""

    rows_in: int = 0
    accepted: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    warned: Counter[str] = field(default_factory=Counter)

    def add(self, gate: Gate, quarantine: pa.Table) -> None:
        """Count a batch."""
        self.rows_in += gate.raw.rows_in
        self.accepted += int(gate.passing.sum())
        self.warned += gate.warned
        for row in quarantine[c.REASON].value_counts().to_pylist():
            self.reasons[row["values"]] += row["counts"]

    def report(self, table: Table, path: Path, detected: Detected, now: int, notes: Iterable[str]) -> Report:
        """Figures and notes of the load."""
        return Report(
            table.name,
            str(path),
            self.rows_in,
            self.accepted,
            self.reasons.total(),
            dict(sorted(self.reasons.items(), key=lambda item: (-item[1], item[0]))),
            {str(ours): theirs for ours, theirs in detected.mapping.items()},
            (*detected.notes, *notes),
            {str(ours): how for ours, how in detected.how.items()},
            load_id(path, now),
            dict(self.warned),
        )


def judge(checks: Sequence[BatchCheck], gate: Gate, rows: npt.NDArray[np.int64], typed: pa.Table, table: Table) -> None:
    """Let checks refuse rows of a batch; `typed` are its rows `rows`. Raises DataError if one refuses the load."""
    for check in checks:
        for finding in check.batch(typed):
            if finding.severity == "refuse" and np.any(finding.rows):
                raise _broken_contract(gate.raw.path, table, finding.detail)
            which = np.zeros(len(gate.passing), bool)
            which[rows] = finding.rows
            if finding.severity == "quarantine":
                gate.refuse(which, finding.reason, finding.detail)
            elif finding.severity == "warn":
                gate.warned[finding.reason] += int((which & gate.passing).sum())


def concluded(checks: Sequence[BatchCheck], report: Report, table: Table, rows_per_day: Mapping[int, int]) -> Report:
    """The report with what checks say of the load as a whole. Raises DataError if one refuses it."""
    said: list[str] = []
    for check in checks:
        for finding in check.finish(Totals(report, rows_per_day)):
            if finding.severity == "refuse":
                raise _broken_contract(Path(report.source_file), table, finding.detail)
            said.append(finding.detail)
    return replace(report, notes=(*report.notes, *said))


def _broken_contract(path: Path, table: Table, detail: str) -> DataError:
    return DataError(
        expected=f"a load of {path} that keeps the contract of {table.name}",
        got=detail.rstrip("."),
        do="Nothing was loaded: mend the file, or edit the contract.",
    )


def load_id(path: Path, now: int) -> str:
    """Names a load: of this file at this moment."""
    return hashlib.sha256(f"{path}\0{now}".encode()).hexdigest()[:16]


def gate_times(gate: Gate, name: str) -> Times:
    """A column of times; its unreadable cells are refused. Raises DataError where day and month cannot be told."""
    return good_times(gate, name, times(gate.raw.table[name]))


def good_times(gate: Gate, name: str, read_as: Times) -> Times:
    """The same for a column that was read already."""
    if read_as.ambiguous is not None:
        raise DataError(
            expected=f"dates in {name!r} of {gate.raw.path.name} of which one shows whether day or month is first",
            got=f"{read_as.ambiguous!r}, and no number in the column that tells",
            do="Write them as 2026-01-31 or 31.01.2026, or give more rows.",
        )
    gate.refuse(read_as.unreadable, "unreadable_time")
    return read_as


def fitted(table: Table, columns: Mapping[str, pa.Array], rows: int) -> pa.Table:
    """Columns in the table's schema and order; a nullable column that is not given is null throughout."""
    import pyarrow as pa

    schema = table.arrow()
    arrays = [
        columns[field.name].cast(field.type) if field.name in columns else pa.nulls(rows, field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def _broken(table: pa.Table) -> Mask:
    import pyarrow.compute as pc
    import pyarrow.types as t

    bad = np.zeros(table.num_rows, bool)
    for column in table.columns:
        if t.is_string(column.type):
            bad |= pc.fill_null(pc.match_substring(column, BROKEN), False).to_numpy()
    return bad
