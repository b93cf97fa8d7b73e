"""The gate: rows in = accepted + quarantined, always, each refused row with a reason and as it came."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
import numpy.typing as npt

from honeyguide.errors import DataError
from honeyguide.intake.files import BROKEN, Raw
from honeyguide.intake.importers import Detected
from honeyguide.intake.values import Times, objects, times
from honeyguide.schema import columns as c
from honeyguide.schema.tables import QUARANTINE, Table

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "MAX_ID_LENGTH", "REASONS", "BatchCheck", "Finding", "Gate", "Report", "Severity", "Totals", "fitted", "gate_times",
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
    "unknown_item": "An item that the catalog does not hold.",
    "duplicate": "The same event id, or the very same row, came before.",
    "superseded": "A newer row has the same id.",
}
"""Every reason code of Quarantine, with what it means."""

_CODES = tuple(REASONS)


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

    def lines(self) -> list[str]:
        """For a person: the sum, a line per reason, then the notes."""
        head = f"{self.rows_in:,} rows in = {self.accepted:,} accepted + {self.quarantined:,} quarantined"
        return [head, *(f"{code}: {n:,} ({REASONS[code]})" for code, n in self.reasons.items()), *self.notes]


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
    """Collects refusals; the first reason of a row stands."""

    def __init__(self, raw: Raw) -> None:
        self.raw = raw
        self._reason = np.full(raw.table.num_rows, -1, np.int8)
        self.refuse(_broken(raw.table), "broken_encoding")

    @property
    def passing(self) -> Mask:
        """Rows that nothing has refused so far."""
        return self._reason < 0

    def refuse(self, which: Mask, code: str) -> None:
        """Refuse the rows of a mask that still pass."""
        self._reason[which & (self._reason < 0)] = _CODES.index(code)

    def quarantine(self, now: int) -> pa.Table:
        """The refused rows: table rows as JSON, unparsed lines as they came, by row number."""
        import pyarrow as pa

        at = np.flatnonzero(self._reason >= 0)
        rows = objects(self.raw.table.take(pa.array(at))).fill_null("{}").to_pylist()
        codes = [_CODES[code] for code in self._reason[at]]
        entries = [
            (number, code, REASONS[code], row)
            for number, code, row in zip(self.raw.row_number[at].tolist(), codes, rows, strict=True)
        ]
        entries += [(line.row_number, "unparsed_line", line.detail, line.raw) for line in self.raw.refused]
        entries.sort(key=lambda entry: entry[0])
        source = self.raw.path.name
        load = hashlib.sha256(f"{self.raw.path}\0{now}".encode()).hexdigest()[:16]
        n = len(entries)
        return fitted(
            QUARANTINE,
            {
                c.LOAD_ID: pa.array([load] * n, pa.string()),
                c.SOURCE_FILE: pa.array([source] * n, pa.string()),
                c.ROW_NUMBER: pa.array([entry[0] for entry in entries], pa.int64()),
                c.REASON: pa.array([entry[1] for entry in entries], pa.string()),
                c.DETAIL: pa.array([entry[2] for entry in entries], pa.string()),
                c.RAW: pa.array([entry[3] for entry in entries], pa.string()),
                c.LOADED_AT: pa.array([now] * n, pa.int64()),
            },
            n,
        )

    def report(self, table: Table, detected: Detected, quarantine: pa.Table, notes: list[str]) -> Report:
        """Figures and notes of the load."""
        codes, counts = np.unique(np.array(quarantine[c.REASON].to_pylist(), dtype=str), return_counts=True)
        reasons = {str(codes[at]): int(counts[at]) for at in np.argsort(-counts, kind="stable")}
        return Report(
            table.name,
            str(self.raw.path),
            self.raw.rows_in,
            int(self.passing.sum()),
            quarantine.num_rows,
            reasons,
            {str(ours): theirs for ours, theirs in detected.mapping.items()},
            (*detected.notes, *notes),
            {str(ours): how for ours, how in detected.how.items()},
        )


def gate_times(gate: Gate, name: str) -> Times:
    """A column of times; its unreadable cells are refused. Raises DataError where day and month cannot be told."""
    read_as = times(gate.raw.table[name])
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
