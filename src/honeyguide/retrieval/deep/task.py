"""What passes between the build and the process that trains: a folder of arrays, mapped on both sides."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from honeyguide.errors import BuildError, ResourceError

__all__ = ["DONE", "ERROR", "OUT", "Failure", "Result", "Task", "folder_for", "open_task", "train_folder", "write_task"]

OUT = "model"
"""Folder of what the process leaves."""
DONE = "result.json"
ERROR = "error.json"
_TOLD = "task.json"
_AGAIN = "Run `honeyguide build` again: it goes on from the last checkpoint."


class Result(msgspec.Struct, frozen=True):
    """What became of a training."""

    steps: int
    epochs: float
    loss: float  # mean of the last tenth
    cpu_s: float
    peak_mb: float
    device: str
    parameters: int
    resumed: bool
    examples: int = 0  # that were learnt from
    learning_cpu_s: float = 0.0  # without what comes before the first and after the last step


class Failure(msgspec.Struct, frozen=True):
    """An error of the process that trains, for whoever started it."""

    expected: str
    got: str
    do: str


class _Told(msgspec.Struct, frozen=True):
    kind: str
    config: dict[str, Any]
    seed: int
    facts: dict[str, Any]
    arrays: dict[str, list[Any]]


class Task(msgspec.Struct, frozen=True):
    """An opened folder."""

    folder: Path
    kind: str
    config: dict[str, Any]
    seed: int
    facts: dict[str, Any]
    arrays: dict[str, Any]


def folder_for(work: Path | None) -> AbstractContextManager[str]:
    """A folder to train in: the one given, which outlives a build that is killed, or one that goes when it is left."""
    if work is None:
        return tempfile.TemporaryDirectory(prefix="honeyguide-")
    work.mkdir(parents=True, exist_ok=True)
    return nullcontext(str(work))


def write_task(
    folder: Path, kind: str, config: dict[str, Any], arrays: Mapping[str, npt.NDArray[Any]], seed: int, **facts: Any
) -> None:
    """Write into an existing folder; the file that names the task comes last."""
    shapes = {}
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
        shapes[name] = [str(array.dtype), *array.shape]
    (folder / _TOLD).write_bytes(msgspec.json.encode(_Told(kind, config, seed, facts, shapes)))


def open_task(folder: Path) -> Task:
    """Map what `write_task` wrote. BuildError if it is not whole."""
    try:
        told = msgspec.json.decode((folder / _TOLD).read_bytes(), type=_Told)
        arrays = {}
        for name, (dtype, *shape) in told.arrays.items():
            found = np.load(folder / f"{name}.npy", mmap_mode="r" if np.prod(shape) else None, allow_pickle=False)
            if [str(found.dtype), *found.shape] != [dtype, *shape]:
                raise ValueError(f"{name}.npy with {found.dtype}{found.shape} in place of {dtype}{shape}")
            arrays[name] = np.asarray(found)
    except (OSError, ValueError, EOFError, msgspec.DecodeError) as error:
        raise BuildError(
            expected=f"the task of a source's training in {folder}", got=str(error), do="Run `honeyguide build` again."
        ) from error
    return Task(folder, told.kind, told.config, told.seed, told.facts, arrays)


def train_folder(folder: Path) -> Result:
    """Run the training of a folder to its end, or read its result if it has ended. BuildError if it fails."""
    done, failed = folder / DONE, folder / ERROR
    if not done.exists():
        failed.unlink(missing_ok=True)
        command = [sys.executable, "-m", "honeyguide.retrieval.deep.train", str(folder)]
        with (folder / "stderr.txt").open("wb") as errors, subprocess.Popen(command, stderr=errors) as process:
            try:
                process.wait()
            except BaseException:
                process.kill()  # whoever interrupts the build interrupts the training, which can go on later
                raise
        if failed.exists():
            told = msgspec.json.decode(failed.read_bytes(), type=Failure)
            raise BuildError(expected=told.expected, got=told.got, do=told.do)
        if process.returncode:
            last = (folder / "stderr.txt").read_text(errors="replace").strip().splitlines()[-1:] or ["no message"]
            kind = ResourceError if process.returncode < 0 else BuildError
            raise kind(
                expected="a source's training that ends", got=f"exit code {process.returncode}: {last[0][:300]}",
                do=_AGAIN,
            )  # fmt: skip
    try:
        return msgspec.json.decode(done.read_bytes(), type=Result)
    except msgspec.DecodeError as error:
        raise BuildError(
            expected=f"a result in {done}", got=str(error), do="Remove the file and build again."
        ) from error
