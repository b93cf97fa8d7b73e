"""`python -m honeyguide.retrieval.deep.train FOLDER`: trains one source from a folder and leaves what serves in it.

A process of its own, so that its memory is its own and nothing that serves ever loads PyTorch. It keeps checkpoints in
the folder and goes on from the last one when it was killed.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import msgspec
import torch

from honeyguide.errors import HoneyguideError
from honeyguide.retrieval.deep.config import GenerativeConfig, SequenceConfig, TowersConfig
from honeyguide.retrieval.deep.generative_train import GenerativeLearner
from honeyguide.retrieval.deep.loop import Learner, device_of, run
from honeyguide.retrieval.deep.sequence_train import SequenceLearner
from honeyguide.retrieval.deep.task import DONE, ERROR, OUT, Failure, Result, Task, open_task
from honeyguide.retrieval.deep.towers_train import TowersLearner

__all__ = ["main", "train"]


def train(folder: Path) -> Result:
    """Learn what the folder asks for, or go on where it was left; the result is written beside it."""
    task = open_task(folder)
    kinds: dict[str, Any] = {"sequence": SequenceConfig, "generative": GenerativeConfig, "towers": TowersConfig}
    config = kinds[task.kind].model_validate(task.config)
    torch.set_num_threads(config.threads)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it a GPU's sums depend on the moment
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.manual_seed(task.seed)
    device = device_of(config)
    result = run(_learner(task, config, device), folder, folder / OUT, config, device)
    (folder / DONE).write_bytes(msgspec.json.encode(result))
    return result


def _learner(task: Task, config: SequenceConfig | GenerativeConfig | TowersConfig, device: torch.device) -> Learner:
    if isinstance(config, SequenceConfig):
        return SequenceLearner(task, config, device)
    if isinstance(config, GenerativeConfig):
        return GenerativeLearner(task, config, device)
    return TowersLearner(task, config, device)


def main(folder: Path) -> int:
    """Exit code 0, or 2 with the error in a file of the folder."""
    try:
        train(folder)
    except HoneyguideError as error:
        (folder / ERROR).write_bytes(msgspec.json.encode(Failure(error.expected, error.got, error.do)))
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
