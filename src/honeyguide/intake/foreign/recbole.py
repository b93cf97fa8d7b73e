"""RecBole's atomic files: `.inter`, `.item` and `.user` of one folder, a typed name (`user_id:token`) a column.

Columns keep their names here: the loader knows what each is, and that a rating is an action of its own.
Source: RecBole's documentation, "Atomic Files".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from honeyguide.errors import DataError
from honeyguide.intake.files import read
from honeyguide.intake.foreign.base import File, Importer
from honeyguide.intake.foreign.records import Head
from honeyguide.intake.foreign.rows import Part, Rows
from honeyguide.schema.tables import EVENTS, ITEMS, USERS, Table

__all__ = ["RECBOLE"]

_TABLES: dict[str, Table] = {"inter": EVENTS, "item": ITEMS, "user": USERS}


def _role(head: Head) -> str | None:
    if head.written != "recbole":
        return None
    suffix = head.path.name.removesuffix(".gz").rpartition(".")[2]
    if suffix in _TABLES:
        return suffix
    if suffix in ("link", "kg", "net", "ent", "rel"):
        return None
    names = {name.lower() for name in head.names}
    has_user, has_item = (any(name.startswith(what) for name in names) for what in ("user", "item"))
    return "inter" if has_user and has_item else "item" if has_item else "user" if has_user else None


def _read(files: Sequence[File], rows: Rows) -> Iterator[Part]:
    logs = [file.path.name for file in files if file.role == "inter"]
    if len(logs) > 1:
        raise DataError(
            expected=f"the files of one RecBole dataset in {files[0].path.parent}",
            got=f"those of {len(logs)}: {', '.join(logs[:5])}",
            do="Put each dataset into a folder of its own.",
        )
    for file in files:
        table = _TABLES[file.role]
        if not rows.want(table):
            continue
        raw = read(file.path)
        for start in range(0, max(raw.table.num_rows, 1), rows.batch_rows):
            part = raw.table.slice(start, rows.batch_rows)
            numbers = raw.row_number[start : start + rows.batch_rows]
            yield table, replace(raw, table=part, row_number=numbers, refused=[] if start else raw.refused)


RECBOLE = Importer("recbole", "RecBole", (EVENTS, ITEMS, USERS), _role, _read, frozenset(_TABLES))
