"""Logged choices with their propensities, as the Decisions table: what off-policy value reads."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from honeyguide.errors import DataError
from honeyguide.intake import values
from honeyguide.intake.foreign.base import Foreign
from honeyguide.intake.quality import REASONS, fitted
from honeyguide.intake.raw import Raw
from honeyguide.schema import columns as c
from honeyguide.schema.tables import DECISIONS, QUARANTINE

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Decisions", "gathered"]

_NUMBERS = (c.POSITION, c.PROPENSITY, c.REWARD)


@dataclass(frozen=True, slots=True)
class Decisions:
    """`table` (schema.tables.DECISIONS, in the files' order) + `quarantine` = rows in; `notes` are for a person."""

    table: pa.Table
    quarantine: pa.Table
    notes: tuple[str, ...]

    @property
    def rows_in(self) -> int:
        """Choices and refused lines."""
        return int(self.table.num_rows + self.quarantine.num_rows)


def gathered(found: Foreign, now: int | None = None) -> Decisions:
    """All decisions of an export; `now` in microseconds. Raises DataError if its format logs none, or none is good."""
    import pyarrow as pa

    if DECISIONS not in found.tables:
        raise DataError(
            expected=f"logged choices with propensities in {found.path}",
            got=f"a {found.name} export, which has none",
            do="Give a DSJSON log or an Open Bandit log.",
        )
    at = time.time_ns() // 1000 if now is None else now
    good, bad, untimed = [DECISIONS.arrow().empty_table()], [QUARANTINE.arrow().empty_table()], 0
    seen: set[bytes] = set()
    for raw in found.file(DECISIONS).batches():
        accepted, refused, without = _judged(raw, at, untimed, seen)
        good.append(accepted)
        bad.append(refused)
        untimed += without
    notes = list(found.notes)
    if untimed:
        notes.append(f"{untimed:,} decisions have no time: they count as microseconds after 1970, in the file's order.")
    made = Decisions(pa.concat_tables(good), pa.concat_tables(bad), tuple(notes))
    if not made.table.num_rows:
        details = dict.fromkeys(made.quarantine[c.DETAIL].slice(0, 1000).to_pylist())
        raise DataError(
            expected=f"at least one good decision in {found.path}",
            got=f"{made.quarantine.num_rows:,} lines, all refused: {' '.join(list(details)[:3]) or 'an empty file'}",
            do="Export it again.",
        )
    return made


def _judged(raw: Raw, now: int, untimed: int, seen: set[bytes]) -> tuple[pa.Table, pa.Table, int]:
    """A batch as typed decisions, its refused rows, and how many had no time."""
    import pyarrow as pa

    table, n = raw.table, raw.table.num_rows
    when = values.times(table[c.HAPPENED_AT])
    without = np.cumsum(when.missing)
    us = np.where(when.missing, untimed + without, when.us)
    reasons: list[tuple[str, npt.NDArray[np.bool_]]] = [
        ("unreadable_time", when.unreadable),
        ("time_in_future", us > now),
        ("duplicate", _again(table, seen)),
    ]
    columns: dict[str, pa.Array] = {name: table[name].combine_chunks() for name in table.column_names}
    columns[c.HAPPENED_AT] = pa.array(us)
    for name in _NUMBERS:
        read = values.numbers(table[name])
        reasons.append(("unreadable_number", read.unreadable | read.not_finite))
        columns[name] = pa.array(read.values, from_pandas=True)
    position = values.numbers(table[c.POSITION]).values
    reasons.append(("position_out_of_range", ~((position >= 1) & (position <= 1_000_000) & (position % 1 == 0))))
    code = np.full(n, "", dtype=object)
    for reason, which in reasons:
        code[which & (code == "")] = reason
    kept = pa.array(np.flatnonzero(code == ""))
    columns[c.POSITION] = pa.array(np.nan_to_num(position, nan=0, posinf=0, neginf=0).astype(np.int64))
    decided = fitted(DECISIONS, {name: column.take(kept) for name, column in columns.items()}, len(kept))
    return decided, _refused(raw, code, now), int(without[-1]) if n else 0


def _again(table: pa.Table, seen: set[bytes]) -> npt.NDArray[np.bool_]:
    """Rows whose request and slot came before."""
    import pyarrow.compute as pc

    keys = pc.binary_join_element_wise(
        pc.fill_null(table[c.REQUEST_ID], ""), pc.fill_null(table[c.POSITION], ""), "\x1f"
    )
    again = np.zeros(table.num_rows, bool)
    for at, key in enumerate(keys.to_pylist()):
        digest = hashlib.blake2b(key.encode(), digest_size=12).digest()
        again[at] = digest in seen
        seen.add(digest)
    return again


def _refused(raw: Raw, code: npt.NDArray[np.object_], now: int) -> pa.Table:
    import pyarrow as pa

    at = np.flatnonzero(code != "")
    rows = values.objects(raw.table.take(pa.array(at))).fill_null("{}").to_pylist()
    entries: Iterable[tuple[int, str, str, str]] = [
        *(
            (int(raw.row_number[row]), code[row], REASONS[code[row]], cells)
            for row, cells in zip(at, rows, strict=True)
        ),
        *((line.row_number, "unparsed_line", line.detail, line.raw) for line in raw.refused),
    ]
    ordered = sorted(entries)
    load = hashlib.sha256(f"{raw.path}\0{now}".encode()).hexdigest()[:16]
    n = len(ordered)
    return fitted(
        QUARANTINE,
        {
            c.LOAD_ID: pa.array([load] * n, pa.string()),
            c.SOURCE_FILE: pa.array([raw.path.name] * n, pa.string()),
            c.ROW_NUMBER: pa.array([entry[0] for entry in ordered], pa.int64()),
            c.REASON: pa.array([entry[1] for entry in ordered], pa.string()),
            c.DETAIL: pa.array([entry[2] for entry in ordered], pa.string()),
            c.RAW: pa.array([entry[3] for entry in ordered], pa.string()),
            c.LOADED_AT: pa.array([now] * n, pa.int64()),
        },
        n,
    )
