"""The tables engine that files are read with."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from honeyguide.engines.tables.duckdb import DuckDBTables


@pytest.fixture(scope="module")
def engine() -> Iterator[DuckDBTables]:
    with DuckDBTables() as tables:
        yield tables
