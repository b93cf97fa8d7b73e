"""Programs among people: who acts faster, or for longer without a pause, than people do.

One pass, 5 MB whatever the load's size, 26 ns an event. A count is never above the truth, so nobody is named because of
others; it may fall short of it by what shares its cell: next to nothing where the file is in the order of time, else
about an event for every 260,000 of the load.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from honeyguide.kernels.sketches import added, count_rates

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["FLOOR_PER_HOUR", "FLOOR_PER_MINUTE", "Bot", "Limits", "Rates"]

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]

FLOOR_PER_MINUTE, FLOOR_PER_HOUR = 120, 1_200
"""No limit lies below these: two actions a second for a whole minute, one in three seconds for a whole hour."""
ABOVE_PEOPLE = 5.0
"""Limits lie this many times above the rate that 99 in 100 people never reach."""
PEOPLE_NEEDED = 100
"""With fewer people than this, the floors alone are the limits."""

_CELLS, _PEOPLE_CELLS = 1 << 18, 1 << 18  # small enough for a cache: 26 ns an event; 2 million cells cost 100
_HOUR_US, _DAY_US = 3_600_000_000, 86_400_000_000
_GRAIN_ROWS = 1_000  # of each batch, looked at for how finely times were taken
_NEVER = 1 << 16  # counts stop below


@dataclass(frozen=True, slots=True)
class Limits:
    """Actions of one person in one minute and in one hour that are still a person's."""

    per_minute: int
    per_hour: int


@dataclass(frozen=True, slots=True)
class Bot:
    """Somebody beyond a limit, with the fullest minute and the fullest hour."""

    user_id: str
    per_minute: int
    per_hour: int


class Rates:
    """Actions per person and minute, and per person and hour. Two of them add up."""

    def __init__(self, limits: Limits | None = None) -> None:
        """`limits`: whom to remember by name; by default those beyond the limits that the people themselves set."""
        self._given = limits
        self._minutes, self._hours = np.zeros(_CELLS, np.uint64), np.zeros(_CELLS, np.uint64)
        self._peak_minute, self._peak_hour = np.zeros(_PEOPLE_CELLS, np.uint16), np.zeros(_PEOPLE_CELLS, np.uint16)
        self._grain_us = _DAY_US
        self._fast: dict[str, tuple[int, int]] = {}
        self._known = np.zeros(0, np.uint64)

    @property
    def grain_us(self) -> int:
        """How finely the times were taken: whole days or hours (in microseconds), 1 for anything finer."""
        return self._grain_us

    def add(self, who: U64, at_us: I64, names: pa.Array) -> None:
        """Count actions: the people's hashes, when it happened, and the people's names, all by place."""
        import pyarrow as pa

        some = at_us[:_GRAIN_ROWS]
        while self._grain_us > 1 and np.any(some % self._grain_us):
            self._grain_us = _HOUR_US if self._grain_us == _DAY_US else 1
        in_minute, in_hour = np.empty(len(who), np.uint16), np.empty(len(who), np.uint16)
        count_rates(
            who, at_us, self._minutes, self._hours, self._peak_minute, self._peak_hour, in_minute, in_hour
        )  # fmt: skip
        limits = self._judged(self._given or Limits(FLOOR_PER_MINUTE, FLOOR_PER_HOUR))
        fast = np.flatnonzero((in_minute > limits.per_minute) | (in_hour > limits.per_hour))
        if len(fast) and self._given is None:
            limits = self._judged(self.limits())
            fast = fast[(in_minute[fast] > limits.per_minute) | (in_hour[fast] > limits.per_hour)]
        self._known = np.union1d(self._known, who[fast])
        if len(self._known):  # once known, a person's every count is looked at
            fast = np.flatnonzero(np.isin(who, self._known))
        for at, name in zip(fast.tolist(), names.take(pa.array(fast)).to_pylist(), strict=True):
            minute, hour = self._fast.get(name, (0, 0))
            self._fast[name] = (max(minute, int(in_minute[at])), max(hour, int(in_hour[at])))

    def __add__(self, other: Rates) -> Rates:
        """Both together. Peaks, and so who is fast, are then those of either part: a minute cut apart reads lower."""
        both = Rates(self._given)
        both._minutes, both._hours = added(self._minutes, other._minutes), added(self._hours, other._hours)
        both._peak_minute = np.maximum(self._peak_minute, other._peak_minute)
        both._peak_hour = np.maximum(self._peak_hour, other._peak_hour)
        both._known = np.union1d(self._known, other._known)
        both._grain_us = min(self._grain_us, other._grain_us)
        for name in [*self._fast, *other._fast]:
            one, two = self._fast.get(name, (0, 0)), other._fast.get(name, (0, 0))
            both._fast[name] = (max(one[0], two[0]), max(one[1], two[1]))
        return both

    def limits(self) -> Limits:
        """Limits that leave these people alone: `ABOVE_PEOPLE` times what 99 in 100 of them never reach, or the floor.

        Up to one person in a hundred may be a bot without moving them.
        """
        return Limits(_limit(self._peak_minute, FLOOR_PER_MINUTE), _limit(self._peak_hour, FLOOR_PER_HOUR))

    def bots(self) -> list[Bot]:
        """Who is beyond the limits, the fastest first."""
        limits = self._judged(self._given or self.limits())
        found = [
            Bot(name, minute, hour)
            for name, (minute, hour) in self._fast.items()
            if minute > limits.per_minute or hour > limits.per_hour
        ]
        return sorted(found, key=lambda bot: (-bot.per_minute, -bot.per_hour, bot.user_id))

    def _judged(self, limits: Limits) -> Limits:
        """The limits that these times can speak about: a log of whole days says nothing of minutes and hours."""
        return Limits(
            limits.per_minute if self._grain_us == 1 else _NEVER,
            limits.per_hour if self._grain_us < _DAY_US else _NEVER,
        )


def _limit(peaks: npt.NDArray[np.uint16], floor: int) -> int:
    reached = peaks[peaks > 0]
    if len(reached) < PEOPLE_NEEDED:
        return floor
    return max(floor, int(np.ceil(ABOVE_PEOPLE * float(np.quantile(reached, 0.99)))))
