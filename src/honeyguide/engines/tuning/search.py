"""A search that can be killed and goes on: after so many trials it has tried the same whoever interrupted it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from honeyguide.errors import MissingExtraError

if TYPE_CHECKING:
    import optuna

__all__ = ["Range", "Search", "Tried"]

_STARTUP = 8
"""Trials drawn at random before a model of the losses guides them."""


@dataclass(frozen=True, slots=True)
class Range:
    """A number between two others, whole or not, evenly or evenly in its logarithm."""

    low: float
    high: float
    whole: bool = False
    log: bool = False


@dataclass(frozen=True, slots=True)
class Tried:
    """One trial: its parameters and what they cost."""

    parameters: dict[str, Any]
    loss: float


class Search:
    """Trials over a space, kept in a journal file.

    Each trial draws from a generator of its own, seeded by how many ended before it, so neither an interruption nor a
    trial that was cut short changes what is tried. Source of the sampler: Bergstra et al. 2011 (TPE).
    """

    def __init__(self, path: Path, space: Mapping[str, Range], *, seed: int, first: Mapping[str, Any]) -> None:
        """first: parameters to begin with, those in use. MissingExtraError without Optuna."""
        try:
            import optuna
            from optuna.storages import JournalStorage
            from optuna.storages.journal import JournalFileBackend
        except ImportError as error:
            raise MissingExtraError(
                expected="Optuna, by which parameters are searched", got="an installation without it",
                do="Run `pip install 'honeyguide[tune]'`.",
            ) from error  # fmt: skip
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._space, self._seed, self._first = dict(space), seed, dict(first)
        storage = JournalStorage(JournalFileBackend(str(path)))
        self._study: optuna.Study = optuna.create_study(
            storage=storage, study_name="search", direction="minimize", load_if_exists=True
        )
        self._distributions: dict[str, Any] = {
            name: optuna.distributions.IntDistribution(int(one.low), int(one.high), log=one.log)
            if one.whole
            else optuna.distributions.FloatDistribution(one.low, one.high, log=one.log)
            for name, one in self._space.items()
        }
        for trial in self._study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
            self._study.tell(trial.number, state=optuna.trial.TrialState.FAIL)  # whoever ran it is gone

    def tried(self) -> list[Tried]:
        """Every trial that ended, in order."""
        import optuna

        ended = self._study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
        return [Tried(dict(trial.params), float(trial.value)) for trial in ended if trial.value is not None]

    def run(self, loss: Callable[[dict[str, Any]], float]) -> Tried:
        """One more trial."""
        import optuna

        done = len(self.tried())
        self._study.sampler = optuna.samplers.TPESampler(
            seed=(self._seed * 1_000_003 + done) % 2**32, n_startup_trials=_STARTUP, multivariate=True,
        )  # fmt: skip
        if not done:
            self._study.enqueue_trial(self._first, skip_if_exists=False)
        trial = self._study.ask(self._distributions)
        value = loss(dict(trial.params))
        self._study.tell(trial, value)
        return Tried(dict(trial.params), value)
