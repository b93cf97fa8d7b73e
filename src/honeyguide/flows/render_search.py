"""What commands about search print."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

__all__ = ["encoders"]


def encoders(report: Mapping[str, Any], *, as_json: bool) -> None:
    """What each step of a training is worth, and how to use what was kept."""
    if as_json:
        print(json.dumps(report))
        return
    table = Table("step", "nDCG@10", "MB", "CPU-ms a text", title=f"{report['held_out']} queries held out")
    for step in report["steps"]:
        kept = " (kept)" if step["step"] == report["kept"] else ""
        table.add_row(
            step["step"] + kept, f"{step['ndcg@10']:.4f}", f"{step['size_mb']:.2f}", f"{step['cpu_ms_per_text']:.3f}"
        )
    console = Console()
    console.print(table)
    console.print(f"Kept in {report['folder']}. In honeyguide.toml: {report['use']}", markup=False)
