"""`honeyguide data`: the public datasets as a table, and one of them on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from honeyguide.contracts import Progress
from honeyguide.intake.datasets import DATASETS, cache_folder
from honeyguide.intake.datasets import fetch as fetch_dataset

__all__ = ["fetch", "listing"]


def listing() -> list[dict[str, Any]]:
    """A row per dataset."""
    home = cache_folder() / "datasets"
    return [
        {
            "name": name,
            "about": dataset.about,
            "rows": dataset.rows,
            "licence": dataset.licence,
            "licence_url": dataset.licence_url,
            "cached": (home / name).is_dir(),
        }
        for name, dataset in DATASETS.items()
    ]


def fetch(name: str, cache: Path | None = None, progress: Progress | None = None) -> dict[str, Any]:
    """Fetch, check and cache a dataset; where its files lie."""
    found = fetch_dataset(name, cache, progress=progress)
    return {
        "name": name,
        "rows": found.rows,
        "sha256": found.sha256,
        "licence": found.licence,
        "source": found.source,
        "cached": found.cached,
        "files": {table: str(path) for table, path in found.files.items()},
    }
