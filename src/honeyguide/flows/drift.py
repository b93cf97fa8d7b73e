"""What the features of what people take look like: a reference at the build, and how far the present has moved from it.

Both sides are made by one function: the features of the item that was taken, as they were known at that moment. So a
difference is the data's, never the measurement's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from honeyguide.contracts import F32, I64, CatalogView, Interactions
from honeyguide.features.definition import FeatureSet
from honeyguide.flows.histories import Timelines
from honeyguide.flows.labels import event_matrix
from honeyguide.kernels.drift import kolmogorov_smirnov, population_stability, sketch

__all__ = ["Reference", "drifted", "read_reference", "taken", "write_reference"]

ROWS = 4_000
"""Moments that are looked at, drawn evenly at random."""
_FILE = "reference.json"


class Reference(msgspec.Struct):
    """One feature at the build."""

    quantiles: list[float]
    n: int
    missing: float


def taken(
    features: FeatureSet, catalog: CatalogView, full: Interactions, which: I64, *, history: int, seed: int
) -> F32:
    """(n, features) of events `which` (indexes into `full`), at most `ROWS` of them."""
    if len(which) > ROWS:
        which = np.sort(np.random.default_rng(seed).choice(which, ROWS, replace=False))
    lines = Timelines(full)
    context = {name: codes[which] for name, codes in full.context.items()}
    return event_matrix(features, full, catalog, lines, lines.moments_of(which), full.item[which], history, context)


def write_reference(folder: Path, features: FeatureSet, matrix: F32) -> None:
    """Keep a sketch of every column."""
    found = {
        name: Reference(sketch(matrix[:, at]).tolist(), len(matrix), float(1.0 - np.isfinite(matrix[:, at]).mean()))
        for at, name in enumerate(features.names)
        if len(matrix)
    }
    (folder / _FILE).write_bytes(msgspec.json.encode(found, order="deterministic"))


def read_reference(folder: Path | None) -> dict[str, Reference]:
    """What `write_reference` kept; {} of a build that kept none."""
    path = None if folder is None else folder / _FILE
    if path is None or not path.exists():
        return {}
    return msgspec.json.decode(path.read_bytes(), type=dict[str, Reference])


def drifted(reference: dict[str, Reference], features: FeatureSet, matrix: F32) -> list[dict[str, Any]]:
    """PSI and KS of every feature that the reference knows, the most moved first."""
    rows = []
    for at, name in enumerate(features.names):
        if name in reference and len(matrix):
            was, column = reference[name], matrix[:, at]
            quantiles = np.array(was.quantiles)
            rows.append({
                "feature": name,
                "psi": round(population_stability(quantiles, was.n, was.missing, column), 4),
                "ks": round(kolmogorov_smirnov(quantiles, column), 4),
                "n": len(matrix),
            })  # fmt: skip
    return sorted(rows, key=lambda row: -row["psi"])
