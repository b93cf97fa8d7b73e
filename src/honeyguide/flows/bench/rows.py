"""What every benchmark shares: its rows, its repeats, whole-process figures, and a process of its own."""

from __future__ import annotations

from typing import Any

__all__ = ["REPEATS", "row"]

REPEATS = 5


def row(benchmark: str, case: str, metric: str, unit: str, ours: float | None, **peer: Any) -> dict[str, Any]:
    """One figure; `peer`, `peer_name`, `ratio` and `floor` (a bare run beside it) where there are any."""
    made = {"benchmark": benchmark, "case": case, "metric": metric, "unit": unit, "ours": ours}
    return made | {"peer": None, "peer_name": None, "ratio": None, "floor": None} | peer
