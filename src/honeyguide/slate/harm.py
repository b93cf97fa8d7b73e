"""Whether exploration hurts: a test that may be looked at after every list, by the propensities alone."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["HarmTest"]

_STEPS = (1.1, 1.25, 1.5, 2.0, 3.0, 6.0)
"""Multiples of the ratio allowed that the evidence is spread over, evenly."""


@dataclass
class HarmTest:
    """Of one action on one surface.

    A slot explores with a known chance c, given the slots above. Were the action to follow explored slots exactly
    `ratio` times as often as the others of that slot, then among the slots that it followed a share
    c ratio / (c ratio + 1 - c) would be explored, wherever in the list they stand and whoever looks. Each such slot is
    a fair coin of that chance under the least favourable harmless case; the likelihood ratios of harmful cases are
    multiplied up and averaged. Their value exceeds 1 / alpha with a chance of at most alpha however often one looks
    (Ville 1939; safe tests: Grünwald, de Heide and Koolen 2024). Assumes that what another slot shows does not change
    what follows this one.
    """

    hurt: Literal["more", "less"]
    ratio: float
    alpha: float
    logs: list[float] = field(default_factory=lambda: [0.0] * len(_STEPS))
    explored: int = 0  # slots that the action followed
    unexplored: int = 0
    expected: float = 0.0  # explored ones among them, were the ratio exactly as allowed

    def add(self, explored: bool, chance: float) -> None:
        """One slot that the action followed; chance: with which the slot was to show another than the best left."""
        if not 0.0 < chance < 1.0:
            return
        fair = _share(chance, self.ratio)
        self.explored += explored
        self.unexplored += not explored
        self.expected += fair
        for at, step in enumerate(_STEPS):
            harmful = _share(chance, self.ratio * step if self.hurt == "more" else self.ratio / step)
            self.logs[at] += math.log(harmful / fair) if explored else math.log((1.0 - harmful) / (1.0 - fair))

    @property
    def evidence(self) -> float:
        """Against harmlessness, 1 at first."""
        top = max(self.logs)
        return math.exp(min(top, 600.0)) * sum(math.exp(one - top) for one in self.logs) / len(self.logs)

    @property
    def hurts(self) -> bool:
        """Whether exploration must stop."""
        return self.evidence >= 1.0 / self.alpha


def _share(chance: float, ratio: float) -> float:
    return chance * ratio / (chance * ratio + 1.0 - chance)
