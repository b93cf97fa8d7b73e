"""Which engine computes the tables, as `[engine]` of the configuration or the command line says."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict

from honeyguide.contracts import TablesEngine
from honeyguide.engines.tables.duckdb import DuckDBConfig, DuckDBTables
from honeyguide.engines.tables.spark import SparkConfig, SparkTables

__all__ = ["EngineConfig", "EngineName", "tables_engine"]

EngineName = Literal["duckdb", "spark"]
_Limits = TypeVar("_Limits", DuckDBConfig, SparkConfig)


class EngineConfig(BaseModel):
    """`[engine]`: where tables are computed, with the limits of each engine. What comes out is the same on both."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tables: EngineName = "duckdb"
    duckdb: DuckDBConfig = DuckDBConfig()
    spark: SparkConfig = SparkConfig()


def tables_engine(config: EngineConfig, scratch: Path | None = None) -> TablesEngine:
    """The configured engine, not yet started; close it after use.

    What it spills goes to the folder that the configuration names, else to `scratch`, else to /tmp.
    """
    if config.tables == "spark":
        return SparkTables(_within(config.spark, scratch))
    return DuckDBTables(_within(config.duckdb, scratch))


def _within(config: _Limits, scratch: Path | None) -> _Limits:
    return config if config.temp_folder is not None else config.model_copy(update={"temp_folder": scratch})
