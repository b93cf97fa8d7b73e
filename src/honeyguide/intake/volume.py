"""Whether a load brought as much as it should: against the same weekday, and whether its last day was cut off."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median

__all__ = ["CutOff", "OddDay", "cut_off", "day_name", "odd_days"]

HOUR_US = 3_600_000_000

WEEKS = 8
"""So many weeks back, the same weekday is looked at."""
WEEKS_NEEDED = 3
"""With fewer of them a day is not judged."""
BEYOND = 4.0
"""And so many robust standard deviations a day must lie beyond its weekday, so that small numbers raise no alarm."""
_EXPECTED_AFTER = 20.0
_DAYS_NEEDED, _DAYS_BACK = 3, 28
_DAY = range(24)


@dataclass(frozen=True, slots=True)
class OddDay:
    """A day with far fewer or far more events than its weekday has."""

    day: int  # since 1970
    events: int
    usual: float  # median of the same weekday

    @property
    def ratio(self) -> float:
        """Events over the usual."""
        return self.events / self.usual if self.usual else math.inf


@dataclass(frozen=True, slots=True)
class CutOff:
    """The last hour since 1970 that has events, and how many the rest of its day should have brought."""

    hour: int
    missing: float


def odd_days(
    days: Mapping[int, int], known: Mapping[int, int], *, lowest: float, highest: float, skip: frozenset[int]
) -> tuple[list[OddDay], int]:
    """Days of a load below `lowest` or above `highest` times the median of the same weekday in the eight weeks before.

    days: day since 1970 -> events of this load; a day in between that has none counts as zero. known: the same of
    earlier loads; where both know a day, the sum counts. skip: days that are not whole. A day must also lie four robust
    standard deviations off (of logarithms: 1.4826 times the median absolute deviation, at least the Poisson noise of
    its size), and needs three such weekdays. Returns the odd days, oldest first, and how many were judged.
    """
    if not days:
        return [], 0
    everything = dict(known)
    for day in range(min(days), max(days) + 1):
        everything[day] = everything.get(day, 0) + days.get(day, 0)
    odd: list[OddDay] = []
    judged = 0
    for day in range(min(days), max(days) + 1):
        if day in skip:
            continue
        before = [everything[day - 7 * week] for week in range(1, WEEKS + 1) if day - 7 * week in everything]
        if len(before) < WEEKS_NEEDED or not median(before):
            continue
        judged += 1
        usual, events = float(median(before)), everything[day]
        logs = [math.log(count + 0.5) for count in before]
        middle = math.log(usual + 0.5)
        spread = max(1.4826 * median(abs(one - middle) for one in logs), 1 / math.sqrt(usual))
        away = abs(math.log(events + 0.5) - middle) / spread
        if away > BEYOND and not lowest * usual <= events <= highest * usual:
            odd.append(OddDay(day, events, usual))
    return odd, judged


def cut_off(hours: Mapping[int, int], known: Mapping[int, int], *, now_us: int) -> CutOff | None:
    """Whether the rest of a load's last day is missing; None if all is well or cannot be told.

    hours: hour since 1970 -> events of this load; known: the same of earlier loads. The whole days of the four weeks
    before say which share of a day comes after the last hour; the day is cut off where that share of its own rate is 20
    events or more (by chance: once in 500 million). Hours that were still to come when the load ran cannot be missing.
    """
    if not hours:
        return None
    everything = dict(known)
    for hour, events in hours.items():
        everything[hour] = everything.get(hour, 0) + events
    last, first_day = max(hours), min(everything) // 24
    day, hour_of_day = last // 24, last % 24
    end = min(24, now_us // HOUR_US - day * 24)
    whole = [d for d in range(max(first_day + 1, day - _DAYS_BACK), day) if any(d * 24 + h in everything for h in _DAY)]
    if len(whole) < _DAYS_NEEDED or end <= hour_of_day + 1:
        return None
    until = sum(everything.get(d * 24 + h, 0) for d in whole for h in range(hour_of_day + 1))
    after = sum(everything.get(d * 24 + h, 0) for d in whole for h in range(hour_of_day + 1, end))
    today = sum(everything.get(day * 24 + h, 0) for h in range(hour_of_day + 1))
    missing = today * after / until if until else 0.0
    return CutOff(last, missing) if missing >= _EXPECTED_AFTER else None


def day_name(day: int) -> str:
    """A day since 1970 as `Mon 2026-01-05`."""
    return f"{dt.date(1970, 1, 1) + dt.timedelta(days=day):%a %Y-%m-%d}"
