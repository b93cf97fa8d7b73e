"""What all sources share that answer from a history: fitting, weighing, asking in threads, saving."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from honeyguide.contracts import F32, Candidates, CatalogView, Interactions, Queries
from honeyguide.retrieval import store
from honeyguide.retrieval.signals import (
    DAY_US,
    HistoryConfig,
    Signals,
    TrendConfig,
    arguments,
    blank,
    in_ranges,
    lift,
    signals,
)

__all__ = ["Personal"]


class Personal(ABC):
    """A source whose answer is a function of the history alone: nobody's vector is stored.

    A subclass names its config class, the arrays it learns and saves, how it learns them and how it answers.
    """

    name: ClassVar[str]
    Config: ClassVar[type[Any]]
    learnt: ClassVar[tuple[str, ...]]
    config: Any

    def __init__(self, config: Any = None) -> None:
        self.config = config if config is not None else self.Config()
        self.trend: F32 = np.zeros(0, np.float32)
        self._recency = self.config.history.recency()

    @abstractmethod
    def _learn(self, events: Signals, seed: int) -> None:
        """Set the arrays named in `learnt`."""

    @abstractmethod
    def _answer(self, *given: Any) -> None:
        """Fill a range of answers: (start, stop, *questions, *weighing, items, scores)."""

    def fit(self, interactions: Interactions, catalog: CatalogView, *, seed: int = 0) -> Self:
        """Learn from events. Raises DataError where no event is a sign of interest."""
        history: HistoryConfig = self.config.history
        events = signals(interactions, other=history.other, use_weights=history.use_weights)
        self._learn(events, seed)
        self.trend = lift(events, self.config.trend)
        return self

    def retrieve(self, queries: Queries, k: int) -> Candidates:
        """Best `k` items for each history; none for an empty one."""
        given, history, out = arguments(queries), self.config.history, blank(len(queries), k)
        weighing = (
            self._recency, history.half_life_days * DAY_US, history.other, history.use_weights,
            self.trend, int(self.config.trend.after_hours * 3.6e9),
        )  # fmt: skip
        in_ranges(len(queries), lambda start, stop: self._answer(start, stop, *given, *weighing, out.items, out.scores))
        return out

    def variant(
        self,
        *,
        history: HistoryConfig | None = None,
        trend: TrendConfig | None = None,
        interactions: Interactions | None = None,
    ) -> Self:
        """The same learnt arrays asked otherwise, for tuning: shares memory and costs nothing.

        A `trend` is counted from `interactions` (those of `fit`) where given; else only `after_hours` can change.
        """
        update = {key: value for key, value in (("history", history), ("trend", trend)) if value is not None}
        other = type(self)(self.config.model_copy(update=update))
        for name in self.learnt:
            setattr(other, name, getattr(self, name))
        other.trend = self.trend
        if interactions is not None:
            asked = other.config.history
            other.trend = lift(
                signals(interactions, other=asked.other, use_weights=asked.use_weights), other.config.trend
            )
        return other

    def save(self, folder: Path) -> None:
        """Write the arrays into an existing, empty folder."""
        arrays: dict[str, npt.NDArray[Any]] = {name: getattr(self, name) for name in self.learnt}
        store.write(folder, self.name, {"config": self.config.model_dump()}, {**arrays, "trend": self.trend})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote. Raises BuildError where it cannot be used."""
        meta, arrays = store.read(folder, cls.name, (*cls.learnt, "trend"))
        source = cls(store.config(cls.Config, meta, folder))
        for name, array in arrays.items():
            setattr(source, name, array)
        return source
