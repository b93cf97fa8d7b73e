"""The history of a workspace's loads, and its contracts: what a load is judged by, and what stays known of it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from honeyguide.engines.tables.snapshot import Snapshots
from honeyguide.engines.tasks.steps import atomic_write
from honeyguide.errors import WorkspaceError
from honeyguide.flows.layout import Layout
from honeyguide.intake.contract import CONTRACTED, TableContract
from honeyguide.intake.contract_check import ContractCheck, Past
from honeyguide.intake.files import Raw
from honeyguide.intake.infer import infer
from honeyguide.intake.quality import Report
from honeyguide.intake.written import header_of
from honeyguide.schema import columns as c
from honeyguide.schema.tables import USERS, Table

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "LoadRecord",
    "contract_of",
    "contract_path",
    "of_file",
    "opened",
    "past_of",
    "recorded",
    "records",
    "remember",
    "settled",
]


class LoadRecord(msgspec.Struct, omit_defaults=True):
    """What stays known of one load of one table."""

    load_id: str
    table: str
    file: str
    at: str  # ISO 8601, UTC
    rows_in: int
    accepted: int
    quarantined: int
    reasons: dict[str, int] = {}
    findings: list[dict[str, Any]] = []  # code, severity, detail, rows, column
    unjudged: list[str] = []
    days: dict[str, int] = {}  # accepted events by day since 1970
    profile: dict[str, Any] = {}  # `Profile.record`
    mapping: dict[str, str] = {}
    format: str = ""
    header: str = ""  # of a delimited file: its header line, by which its rows can be written again
    delimiter: str = ""
    sequences: list[str] = []  # columns that hold several tokens
    told: dict[str, Any] = {}  # what the load decided of the file: units of times, the ratings' scale
    bots: list[dict[str, Any]] = []  # user_id, per_minute, per_hour of those whose rows were held back as a bot's
    replay: bool = False  # whether the rows came from Quarantine


def contract_path(layout: Layout, table: str) -> Path:
    """Where a table's contract lies."""
    return layout.contracts / f"{table}.toml"


def contract_of(layout: Layout, table: str) -> TableContract | None:
    """The contract of a table, None before its first load. Raises ConfigError for one that cannot be read."""
    path = contract_path(layout, table)
    return TableContract.load(path) if path.exists() else None


def records(layout: Layout) -> list[LoadRecord]:
    """Every load there was, oldest first."""
    found = [_read(path) for path in sorted(layout.loads.glob("*.json"))]
    return sorted(found, key=lambda record: record.at)


def _read(path: Path) -> LoadRecord:
    try:
        return msgspec.json.decode(path.read_bytes(), type=LoadRecord)
    except msgspec.MsgspecError as error:
        raise WorkspaceError(
            expected=f"the record of a load in {path}", got=str(error), do="Restore the file, or remove it."
        ) from error


def remember(layout: Layout, record: LoadRecord) -> None:
    """Add a load to the history; the same load again takes the place of its record."""
    layout.loads.mkdir(exist_ok=True)
    atomic_write(layout.loads / f"{record.load_id}-{record.table}.json", msgspec.json.encode(record))


def past_of(history: Sequence[LoadRecord], table: str) -> Past:
    """What the loads of a table brought so far."""
    mine = [record for record in history if record.table == table]
    days: dict[int, int] = {}
    hours: dict[int, int] = {}
    for record in mine:
        _add(days, record.days)
        _add(hours, record.profile.get("hours", {}))
    whole = [record for record in mine if not record.replay]
    return Past(days, hours, whole[-1].rows_in if whole else None)


def _add(total: dict[int, int], counts: Mapping[str, int]) -> None:
    for key, count in counts.items():
        total[int(key)] = total.get(int(key), 0) + count


def opened(
    layout: Layout | None,
    table: Table,
    *,
    now_us: int,
    kinds: Mapping[str, str] | None = None,
    users: pa.ChunkedArray | None = None,
    bots: Mapping[str, Sequence[int]] | None = None,
    rows_only: bool = False,
) -> ContractCheck | None:
    """The check of one load of a table, None for a table that has no contracts. Without a workspace it only profiles.

    users: ids that the users' table will hold; default: those of the workspace, if the contract refers to them. bots,
    rows_only: as `ContractCheck`.
    """
    if table.name not in CONTRACTED:
        return None
    contract = None if layout is None else contract_of(layout, table.name)
    past = Past() if layout is None else past_of(records(layout), table.name)
    known = {}
    if contract is not None and any(
        rules.reference is not None and rules.reference.table == USERS.name for rules in contract.columns.values()
    ):
        if users is None and layout is not None and Snapshots(layout.tables).find(USERS.name):
            users = Snapshots(layout.tables).read(USERS.name, columns=[c.USER_ID])[c.USER_ID]
        if users is not None:
            known[USERS.name] = users
    return ContractCheck(
        table, contract, now_us=now_us, past=past, kinds=kinds, known=known, bots=bots, rows_only=rows_only
    )


def settled(
    layout: Layout,
    check: ContractCheck,
    report: Report,
    *,
    load_id: str,
    now_us: int,
    days: Mapping[int, int],
    kinds: Mapping[str, str] | None = None,
    has_catalog: bool = False,
    **of_file: Any,
) -> LoadRecord:
    """After a load is in: write the table's contract if it has none, and the load's record; returns the record.

    of_file: fields of the record that say how the file is written (format, header, delimiter, sequences, told).
    """
    path = contract_path(layout, report.table)
    if not path.exists():
        rates = check.rates
        said = f"{Path(report.source_file).name}, {report.accepted:,} rows, {_date(now_us)}"
        contract = infer(
            CONTRACTED[report.table],
            check.profile,
            now_us=now_us,
            kinds=kinds,
            quarantined_share=report.quarantined / max(report.rows_in, 1),
            limits=rates.limits() if rates is not None else None,
            has_catalog=has_catalog,
            inferred_from=said,
        )
        path.parent.mkdir(exist_ok=True)
        atomic_write(path, contract.text().encode())
    record = recorded(
        load_id, report.table, report.source_file, now_us, report.rows_in, report.accepted, report.reasons,
        findings=[asdict(one) for one in check.breaches],
        unjudged=list(check.unjudged),
        days=days,
        profile=check.profile.record(),
        mapping=dict(report.mapping),
        bots=[
            {c.USER_ID: who, "per_minute": most[0], "per_hour": most[1]} for who, most in check.held_bots.items()
        ],
        **of_file,
    )  # fmt: skip
    remember(layout, record)
    return record


def of_file(path: Path, sample: Raw) -> dict[str, Any]:
    """The fields of a record that say how a file is written, by which its rows can be read and written again."""
    delimited = sample.format in ("csv", "recbole") and sample.has_header and path.is_file()
    header, delimiter = header_of(path, sample.table.column_names) if delimited else ("", "")
    sequences = sorted(sample.sequences)
    return {"format": sample.format, "header": header, "delimiter": delimiter, "sequences": sequences}


def recorded(
    load_id: str, table: str, file: str, now_us: int, rows_in: int, accepted: int, reasons: Mapping[str, int],
    *, days: Mapping[int, int], **more: Any,
) -> LoadRecord:  # fmt: skip
    """A record; rows in = accepted + held back."""
    at = dt.datetime.fromtimestamp(now_us / 1e6, dt.UTC).isoformat(timespec="milliseconds")
    by_day = {str(day): rows for day, rows in sorted(days.items())}
    return LoadRecord(
        load_id, table, file, at, rows_in, accepted, rows_in - accepted, dict(reasons), days=by_day, **more
    )


def _date(now_us: int) -> str:
    return dt.datetime.fromtimestamp(now_us / 1e6, dt.UTC).date().isoformat()
