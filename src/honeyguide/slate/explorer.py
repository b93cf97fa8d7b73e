"""A surface's exploration, ready for the kernels: what an `ExploreConfig` means for these heads and this build."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from honeyguide.contracts import F64, I32
from honeyguide.errors import ConfigError
from honeyguide.kernels.slate_explore import NEW_SHARE, SHARE
from honeyguide.slate.bandit import Experience, candidate_facts
from honeyguide.slate.explore import ExploreConfig

__all__ = ["Explorer"]

_Bytes = npt.NDArray[np.uint8]
_ALL: _Bytes = np.zeros(0, np.uint8)
_NO_RANKING: F64 = np.zeros((0, 0))


class Explorer:
    """Holds no state of a request: threads may share one.

    Where a kind learns and the build had nothing to learn from, `config` is what is done instead and `note` says why.
    Raises ConfigError for a floor under a head that gives no probability.
    """

    def __init__(self, config: ExploreConfig, heads: Mapping[str, bool], experience: Experience | None = None) -> None:
        order = list(heads)
        for name in config.floor_heads:
            if not heads.get(name, False):
                known = ", ".join(head for head, calibrated in heads.items() if calibrated) or "none"
                raise ConfigError(
                    expected=f"calibrated heads under `explore.floor_heads` ({known})", got=repr(name),
                    do="Mend the name, or remove the floor.",
                )  # fmt: skip
        self.note = ""
        learnt = None if experience is None else experience.rewards.get(config.reward)
        if config.learns and learnt is not None and any(name not in heads for name in learnt.heads):
            learnt, self.note = None, f"{config.kind}: a head that it learnt from is off"
        if config.learns and learnt is None:
            why = [] if experience is None else [note for note in experience.notes if repr(config.reward) in note]
            self.note = self.note or (
                why[0] if why else f"{config.kind}: the build learnt nothing of {config.reward!r}"
            )
            config = config.unlearnt()
            self.note += f"; {config.epsilon:g} of the slots evenly until then"
        self.config = config
        self.kind = config.kind if config.explores else ""
        self.plan = config.plan()
        self._floors = [(order.index(name), least) for name, least in config.floor_heads.items()]
        self._new = _ALL
        if config.new_share > 0 and experience is not None:
            self._new = experience.is_new(config.new_below).astype(np.uint8)
        self._learnt = learnt if config.learns else None
        if self._learnt is not None and experience is not None:
            self._items, self._columns = experience.items, [order.index(name) for name in self._learnt.heads]
            self._directions = self._learnt.directions(config)

    @property
    def share(self) -> float:
        """Of the slots that it may take, at most."""
        return float(self.plan[SHARE] + self.plan[NEW_SHARE])

    def arrays(self, rows: I32, scores: F64) -> tuple[_Bytes, _Bytes, F64, F64]:
        """What the kernels take of a request: allowed, new, deviation, plan (see `kernels.slate_explore`)."""
        allowed, deviation = _ALL, _NO_RANKING
        if self._floors:
            good = np.ones(len(rows), np.bool_)
            for column, least in self._floors:
                good &= scores[:, column] >= least
            allowed = good.astype(np.uint8)
        if self._learnt is not None:
            facts = candidate_facts(scores, self._columns, rows, self._items)
            deviation = self._learnt.deviations(self._directions, facts, self.config)
        return allowed, self._new, deviation, self.plan
