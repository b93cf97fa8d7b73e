"""What each source is worth and costs, as validation found it: which one can go, and what that saves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["LITTLE", "worth"]

LITTLE = 0.001
"""nDCG@10 below which a source adds so little that a person may prefer to save its time."""


def worth(report: Mapping[str, Any], config: Mapping[str, Any]) -> tuple[list[dict[str, Any]], list[str]]:
    """A row per source, and sentences.

    report: `quality`, `marginal` (by regime and source, nDCG@10) and `cpu_ms` (by source, of a question) as the build
    keeps them, `cpu_ms` optional; config: the blend's. Sources that are off are not asked: their time is saved already.
    """
    weights = {regime["name"]: regime["weights"] for regime in config["regimes"]}
    cost: Mapping[str, float] = report.get("cpu_ms", {})
    names = list(cost) or sorted({name for found in report["quality"].values() for name in found})
    rows: list[dict[str, Any]] = []
    for name in names:
        weight = {regime: float(of.get(name, 0.0)) for regime, of in weights.items()}
        rows.append(
            {
                "name": name,
                "on": any(weight.values()),
                "weights": weight,
                "alone": {regime: found.get(name) for regime, found in report["quality"].items()},
                "adds": {regime: found.get(name, 0.0) for regime, found in report["marginal"].items()},
                "cpu_ms": cost.get(name),
            }
        )
    on = sum(row["cpu_ms"] or 0.0 for row in rows if row["on"])
    said = []
    off = [row for row in rows if not row["on"]]
    if off:
        saved = sum(row["cpu_ms"] or 0.0 for row in off)
        told = f"; saves {saved:.3f} of {on + saved:.3f} ms" if saved else ""
        said.append(f"off, for validation found no use for them: {_names(off)}{told}")
    for row in rows:
        most = max(row["adds"].values(), default=0.0)
        if row["on"] and most < LITTLE:
            cheaper = f"; without it a question costs {row['cpu_ms']:.3f} ms less" if row["cpu_ms"] is not None else ""
            said.append(f"{row['name']} adds {most:+.4f} nDCG@10 at most{cheaper}")
    return rows, said


def _names(rows: list[dict[str, Any]]) -> str:
    return ", ".join(str(row["name"]) for row in rows)
