"""What passes between the build and the process that trains: a folder of arrays, mapped into memory on both sides."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from honeyguide.contracts import F32, I32, BoolArray, Ragged, RankInput
from honeyguide.errors import BuildError

__all__ = ["DONE", "ERROR", "OUT", "Failure", "Result", "Task", "Told", "open_task", "write_task"]

OUT = "model"
"""Folder of what the process leaves."""
DONE = "result.json"
ERROR = "error.json"
_TOLD = "task.json"
_ARRAYS = ("features", "request", "items", "users", "at_us", "history_at", "history_weights", "history_values")


class Told(msgspec.Struct, frozen=True):
    """What to learn, beside the arrays."""

    config: dict[str, Any]  # DeepConfig
    heads: list[str]
    parents: list[int]
    kind: str  # "probability" or "rank": the heads of one network are all of one kind
    context: list[str]
    n_items: int
    n_users: int
    seed: int


class Result(msgspec.Struct, frozen=True):
    """What became of it."""

    epochs: float
    steps: int
    best: float  # loss of the evaluation that was kept
    losses: list[float]  # of all evaluations
    cpu_s: float
    peak_mb: float
    device: str
    parameters: int
    rows: tuple[int, int]  # of the tables of items and people
    gaps: list[int]  # columns that are nan in some rows that it learnt from
    empty: list[int]  # columns that are nan in all of them
    examination: list[float]  # "ipw": how often each position is looked at
    resumed: bool


class Failure(msgspec.Struct, frozen=True):
    """An error of the process that trains, for whoever started it."""

    expected: str
    got: str
    do: str


class Task(msgspec.Struct, frozen=True):
    """An opened folder."""

    folder: Path
    told: Told
    input: RankInput
    labels: F32  # (n, heads), nan unknown
    learn: BoolArray  # (n, heads) rows that a head learns from
    stop: BoolArray  # (n, heads) rows that it stops on
    weight: F32  # (n,)
    position: I32  # (n,) 0 unknown


def write_task(
    folder: Path, told: Told, given: RankInput, labels: F32, learn: BoolArray, stop: BoolArray, weight: F32,
    position: I32,
) -> None:  # fmt: skip
    """Write into an existing, empty folder; the file that names the task comes last."""
    for name in _ARRAYS:
        np.save(folder / f"{name}.npy", getattr(given, name))
    for name, ragged in (("histories", given.histories), ("seeds", given.seeds)):
        np.save(folder / f"{name}.indptr.npy", ragged.indptr)
        np.save(folder / f"{name}.values.npy", ragged.values)
    for place, name in enumerate(told.context):
        codes = given.context.get(name)
        np.save(folder / f"context.{place}.npy", np.zeros(len(given.users), np.int64) if codes is None else codes)
    for name, array in (
        ("labels", labels), ("learn", learn), ("stop", stop), ("weight", weight), ("position", position),
    ):  # fmt: skip
        np.save(folder / f"{name}.npy", array)
    (folder / _TOLD).write_bytes(msgspec.json.encode(told))


def open_task(folder: Path) -> Task:
    """Map what `write_task` wrote. BuildError if it is not whole, or its arrays do not fit together."""
    try:
        told = msgspec.json.decode((folder / _TOLD).read_bytes(), type=Told)

        def array(name: str) -> Any:
            return np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r"))

        given = RankInput(
            **{name: array(name) for name in _ARRAYS},
            histories=Ragged(array("histories.indptr"), array("histories.values")),
            seeds=Ragged(array("seeds.indptr"), array("seeds.values")),
            context={name: array(f"context.{place}") for place, name in enumerate(told.context)},
        )
        task = Task(
            folder, told, given, array("labels"), array("learn"), array("stop"), array("weight"), array("position")
        )
    except (OSError, ValueError, EOFError, msgspec.DecodeError) as error:
        raise BuildError(
            expected=f"a deep ranker's task in {folder}", got=str(error), do="Run `honeyguide build` again."
        ) from error
    n, shape = len(given), (len(given), len(told.heads))
    _must(task.labels.shape == task.learn.shape == task.stop.shape == shape, "labels of every candidate and head", task)
    _must(len(task.weight) == len(task.position) == len(given.request) == len(given.features) == n, "n rows", task)
    _must(len(given.histories) == len(given.seeds) == len(given.at_us) == len(given.users), "requests of one n", task)
    return task


def _must(holds: bool, expected: str, task: Task) -> None:
    if not holds:
        raise BuildError(
            expected=expected, got=f"arrays of other lengths in {task.folder}", do="Run `honeyguide build` again."
        )


def names(columns: Sequence[str], places: Sequence[int]) -> list[str]:
    """The columns at these places."""
    return [columns[place] for place in places]
