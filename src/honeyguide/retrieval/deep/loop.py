"""The way of every training: a budget, a rate that ends at nothing, checkpoints, and going on from the last.

Imported by the process that trains, and by nothing else.
"""

from __future__ import annotations

import os
import resource
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from honeyguide.errors import BuildError
from honeyguide.retrieval.deep.task import Result

__all__ = ["Learner", "device_of", "low_precision", "run"]

_CHECKPOINT = "checkpoint.pt"
_WARM = 100
"""Steps in which the rate rises."""


class Learner(Protocol):
    """What is trained."""

    def batches(self, epoch: int) -> Sequence[Any]:
        """The batches of a pass, in an order that the seed and its number decide."""
        ...

    def step(self, batch: Any, rate: float, progress: float) -> tuple[Tensor, int]:
        """One step with so much of the full rate; the loss, and how many examples it was of."""
        ...

    def state(self) -> dict[str, Any]:
        """All that a step changes."""
        ...

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        ...

    def parameters(self) -> int:
        """Numbers that are learnt."""
        ...

    def give(self, out: Path) -> None:
        """Leave what serves in an existing folder."""
        ...


def run(learner: Learner, folder: Path, out: Path, config: Any, device: torch.device) -> Result:
    """Train to the end of the budget, of the epochs or of the steps, whichever comes first."""
    epoch, place, steps, spent, examples, progress = 0, 0, 0, 0.0, 0, 0.0
    losses: deque[float] = deque(maxlen=4_096)
    path, resumed = folder / _CHECKPOINT, False
    if path.exists():
        found = torch.load(path, weights_only=True, map_location="cpu")
        learner.restore(found["state"])
        torch.set_rng_state(found["random"])
        epoch, place, steps, examples = found["at"]
        spent, progress, resumed = found["spent"], found["progress"], True
        losses.extend(found["losses"])
    started = -spent  # all that this process has taken counts, and what those before it took
    kept = learning = time.process_time()
    left = max(config.budget_cpu_s - (learning - started), 1e-9)
    batches: Sequence[Any] = ()
    while progress < 1.0:
        batches = learner.batches(epoch)
        if not len(batches):
            raise BuildError(
                expected="a person with two events to learn from", got="none", do="Load more events, or leave it out."
            )
        most = max(round(config.epochs * len(batches)), 1)
        most = min(most, config.steps) if config.steps else most
        while place < len(batches) and progress < 1.0:
            rate = min(1.0, (steps + 1) / _WARM) * max(1.0 - progress, 0.0)
            loss, size = learner.step(batches[place], rate, progress)
            place, steps, examples = place + 1, steps + 1, examples + size
            losses.append(float(loss))
            if not np.isfinite(losses[-1]):
                raise BuildError(
                    expected="a source that learns", got=f"a loss of {losses[-1]} after {steps} steps",
                    do="Lower learning_rate in the source's config.",
                )  # fmt: skip
            now = time.process_time()
            # Without a budget that binds, nothing hangs on the processor's time: the same steps at the same rates.
            progress = max(steps / most, (now - learning) / left)
            if now - kept > config.checkpoint_s:
                _keep(path, learner, (epoch, place, steps, examples), now - started, progress, list(losses))
                kept = now
        epoch, place = (epoch + 1, 0) if place >= len(batches) else (epoch, place)
    learnt = time.process_time()
    out.mkdir(exist_ok=True)
    learner.give(out)
    tail = list(losses)[-max(len(losses) // 10, 1) :]
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Result(
        steps=steps, epochs=epoch + place / len(batches), loss=float(np.mean(tail)),
        cpu_s=time.process_time() - started, peak_mb=peak_mb, device=device.type,
        parameters=learner.parameters(), resumed=resumed, examples=examples, learning_cpu_s=learnt - learning,
    )  # fmt: skip


def _keep(
    path: Path, learner: Learner, at: tuple[int, ...], spent: float, progress: float, losses: list[float]
) -> None:
    """A checkpoint: the old one stays until the new one is whole."""
    temporary = path.with_suffix(".tmp")
    torch.save(
        {
            "state": learner.state(),
            "random": torch.get_rng_state(),
            "at": at,
            "spent": spent,
            "progress": progress,
            "losses": losses,
        },
        temporary,
    )
    os.replace(temporary, path)


def device_of(config: Any) -> torch.device:
    """Where to train. BuildError if that is a GPU and there is none."""
    there = torch.cuda.is_available()
    if config.device == "cuda" and not there:
        raise BuildError(
            expected="a GPU that PyTorch can use", got="none on this machine",
            do='Set device = "auto" or "cpu" in the source\'s config, or train where there is one.',
        )  # fmt: skip
    return torch.device("cuda" if there and config.device != "cpu" else "cpu")


def low_precision(config: Any, device: torch.device) -> bool:
    """Whether products are made in bf16."""
    if config.precision != "auto":
        return bool(config.precision == "bf16")
    return device.type == "cuda" or _bf16_instructions()


def _bf16_instructions() -> bool:
    try:
        told = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return "avx512_bf16" in told or "amx_bf16" in told
