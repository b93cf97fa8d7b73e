"""`honeyguide bench`: what the product costs and how good it is on this machine, a module per benchmark.

A benchmark is a function `run(data) -> (rows, missing)`: rows as `bench.rows.row` makes them, and a line for whatever
was left out.
"""

from __future__ import annotations

import subprocess
from importlib import import_module
from pathlib import Path
from typing import Any

from honeyguide.errors import NotFoundError
from honeyguide.flows.doctor import machine

__all__ = ["BENCHMARKS", "run"]

BENCHMARKS: dict[str, str] = {
    "serve": "a request of each surface over HTTP",
    "evaluate": "a million lists judged",
    "log": "durable events over HTTP; processes killed again and again",
    "import": "ten million events through the gate into tables, from Parquet, CSV and JSON lines",
    "features": "features as of a million moments over ten million events, by kernel and SQL; online reads and updates",
    "retrieval": "retrieval sources on public data or a folder of your own, tuned on validation, alone and blended",
    "als": "an epoch of implicit factorisation, beside implicit",
    "topk": "the exact best 20 by factors for everybody, beside implicit",
    "sequence": "what comes next: the sequence model and generated ids, leave-one-out, beside published figures",
    "towers": "two towers: lessons learnt in a processor second",
    "vectors": "nearest vectors, filtered and not, beside raw FAISS and hnswlib",
    "ope": "whether off-policy intervals hold, and what the checks of a log catch",
    "explore": "bandits on streams of classification, beside Vowpal Wabbit",
    "rank": "candidates scored by trees and networks; kinds of models head by head; what the context is worth",
    "search": "judged queries by words, with meaning, in a learnt order; typos, languages, intents (--data)",
    "slate": "guardrails at full size, kinds of diversity against brute force, and what a list costs",
    "world": "a simulated audience, alone and in front of the product, and off-policy intervals against its truth",
}
"""Name of each benchmark (and of its module here, unless `_MODULES` says another) and what it measures."""

_MODULES = {"import": "imports"}


def run(name: str, data: Path | None) -> dict[str, Any]:
    """Rows of one benchmark, with the machine and the commit."""
    if name not in BENCHMARKS:
        raise NotFoundError(expected=f"one of {', '.join(BENCHMARKS)}", got=repr(name), do="Name one of them.")
    rows, missing = import_module(f"honeyguide.flows.bench.{_MODULES.get(name, name.replace('-', '_'))}").run(data)
    return {"machine": machine(), "commit": _commit(), "rows": rows, "missing": missing}


def _commit() -> str:
    found = subprocess.run(
        ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short=12", "HEAD"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return found.stdout.strip() or "unknown"
