"""Sources tuned on a folder with fixed parts, as TOML that a workspace can hold."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from honeyguide.contracts import Progress
from honeyguide.flows.bench.retrieval_data import MOST, Folder
from honeyguide.flows.sources import TUNABLE, Found, searched

__all__ = ["as_toml", "tuned_sources"]


def tuned_sources(
    data: Path, *, cpu_s: float = 240.0, seed: int = 7, progress: Progress | None = None
) -> dict[str, Any]:
    """What validation found for each source: settings, quality, trials, processor time, and all of it as TOML."""
    folder = Folder.read(data, seed=seed)
    asked = folder.ask((0,), 1, most=MOST, seed=seed)
    found = searched(
        tuple(TUNABLE), folder.events(0), folder.catalog, asked.queries, asked.relevant, cpu_s=cpu_s, seed=seed,
        progress=progress,
    )  # fmt: skip
    best = sorted(found, key=lambda one: -one.quality.objective)
    return {
        "data": str(data), "people": len(asked.people), "seed": seed, "found": msgspec.to_builtins(best),
        "toml": "\n".join(as_toml(one) for one in best),
    }  # fmt: skip


def as_toml(one: Found) -> str:
    """A `[[sources]]` block, or a comment that says why there is none."""
    if one.refused:
        return f"# {one.name} left out: {one.refused}\n"
    said = f"# nDCG@10 {one.quality.ndcg_10:.4f}, recall@20 {one.quality.recall_20:.4f} on validation, "
    return (
        f"{said}{one.trials} trials, {one.cpu_s:.0f} CPU-s\n[[sources]]\nuse = {json.dumps(one.use)}\n"
        f"config = {_inline(one.config)}\n"
    )


def _inline(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_inline(inner)}" for key, inner in value.items()) + " }"
    if isinstance(value, float):
        return f"{value:.4g}" if not value.is_integer() else f"{value:.1f}"
    return json.dumps(value)
