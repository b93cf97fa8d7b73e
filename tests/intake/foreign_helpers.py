"""What the tests of foreign formats share: where the examples lie, rows of an export, and the way through the gate."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from honeyguide.intake import foreign
from honeyguide.intake.foreign import Foreign
from honeyguide.intake.raw import RefusedLine
from honeyguide.schema.tables import Table

FORMATS = Path(__file__).parent / "formats"
NOW = 1_800_000_000_000_000


def found_in(*paths: Path) -> Foreign:
    """An export that must be recognised."""
    found = foreign.detect(paths)
    assert found is not None
    return found


def rows_of(found: Foreign, table: Table, **options: Any) -> list[dict[str, Any]]:
    """Rows of one table without what is null; JSON texts decoded."""
    made = []
    for of, raw in found.parts(table, **options):
        assert of is table
        assert raw.format == found.format
        assert len(raw.row_number) == raw.table.num_rows
        made += [_plain(row) for row in raw.table.to_pylist()]
    return made


def refused_of(found: Foreign, table: Table) -> list[RefusedLine]:
    """Lines that gave no row."""
    return [line for _, raw in found.parts(table) for line in raw.refused]


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    texts = {name: json.loads(row[name]) for name in ("context", "attributes") if row.get(name)}
    return {name: value for name, value in (row | texts).items() if value is not None}


def jsonl(path: Path, records: Iterable[Any]) -> Path:
    """Records as JSON lines, by another library than the one that reads them; texts and bytes as they are."""
    lines = [
        one if isinstance(one, bytes) else (one if isinstance(one, str) else json.dumps(one)).encode()
        for one in records
    ]
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


def example(name: str) -> list[dict[str, Any]]:
    """The records of an example file."""
    return [json.loads(line) for line in (FORMATS / name).read_text().splitlines()]
