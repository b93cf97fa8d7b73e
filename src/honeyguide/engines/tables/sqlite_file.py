"""Reads one query out of a SQLite file into Arrow, without any extension to download."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

from honeyguide.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["read_sqlite"]


def read_sqlite(path: Path, query: str) -> pa.Table:
    """All rows of one SELECT, opened read-only; types follow the values. DataError if the file or query is no good."""
    import pyarrow as pa

    if not path.is_file():
        raise DataError(expected=f"a SQLite file at {path}", got="nothing there", do="Check the path.")
    try:
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro&immutable=1", uri=True)
        try:
            cursor = connection.execute(query)
            names = [column[0] for column in cursor.description]
            rows = cursor.fetchall()
        finally:
            connection.close()
    except sqlite3.DatabaseError as error:
        raise DataError(expected="a readable SQLite file", got=str(error), do=f"Fetch {path.name} anew.") from error
    columns = zip(*rows, strict=True) if rows else ([] for _ in names)
    return pa.table({name: pa.array(values) for name, values in zip(names, columns, strict=True)})
