"""How much the report of saved queries may ask for."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["ReportConfig"]


class ReportConfig(BaseModel):
    """Limits of the report: a query over one of them is shown on the page as cut off or as failed, and says so."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    query_s: float = Field(default=20.0, gt=0, description="A query may take so long.")
    total_s: float = Field(default=120.0, gt=0, description="All queries together; what is left over is not run.")
    rows: int = Field(default=100_000, ge=1, le=5_000_000, description="Rows fetched of one answer.")
    on_build: bool = Field(default=True, description="Whether every build writes the report anew.")
