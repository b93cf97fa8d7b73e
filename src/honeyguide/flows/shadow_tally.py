"""What a shadow saw beside the build in service, as sums: they add up over processes, restarts and days.

No sum names a person, an item or a request.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

__all__ = ["Moments", "SurfaceTally", "Tally", "bucket", "quantile"]

TOP = 10
_FIRST_US, _STEP, _BUCKETS = 20.0, 1.15, 100
_Z = 1.959964


class Moments(msgspec.Struct):
    """Count, sum and sum of squares."""

    n: int = 0
    total: float = 0.0
    squares: float = 0.0

    def add(self, value: float) -> None:
        """One more value."""
        self.n += 1
        self.total += value
        self.squares += value * value

    def plus(self, other: Moments) -> Moments:
        """Both together."""
        return Moments(self.n + other.n, self.total + other.total, self.squares + other.squares)

    def told(self) -> dict[str, float]:
        """Mean with its 95 % normal interval; the interval is as wide as can be below two values."""
        mean = self.total / self.n if self.n else 0.0
        spread = max(self.squares - self.n * mean * mean, 0.0) / (self.n - 1) if self.n > 1 else math.inf
        half = _Z * math.sqrt(spread / self.n) if self.n > 1 else math.inf
        return {"mean": mean, "low": mean - half, "high": mean + half, "n": self.n}


class SurfaceTally(msgspec.Struct):
    """One surface."""

    overlap: Moments = msgspec.field(default_factory=Moments)  # share of the first 10 that both show
    moved: Moments = msgspec.field(default_factory=Moments)  # places, of an item that both show
    same_list: int = 0
    same_first: int = 0
    heads: dict[str, Moments] = {}  # shadow minus served, of items that both show
    apart: dict[str, float] = {}  # the same without the sign, summed
    shadow_us: list[int] = msgspec.field(default_factory=lambda: [0] * _BUCKETS)
    served_us: list[int] = msgspec.field(default_factory=lambda: [0] * _BUCKETS)
    shadow_fallbacks: int = 0
    served_fallbacks: int = 0

    def add(self, served: Mapping[str, Any], shadow: Mapping[str, Any]) -> None:
        """One request: `items` (ids), `heads` (a dict per item), `us` and `fallback` of each side."""
        ours, theirs = list(shadow["items"]), list(served["items"])
        places = {item: place for place, item in enumerate(ours)}
        top = min(TOP, max(len(ours), len(theirs)))
        self.overlap.add(len(set(ours[:top]) & set(theirs[:top])) / top if top else 1.0)
        self.same_list += ours == theirs
        self.same_first += ours[:1] == theirs[:1]
        for place, item in enumerate(theirs):
            if item not in places:
                continue
            self.moved.add(abs(places[item] - place))
            mine = shadow["heads"][places[item]]
            for head, score in served["heads"][place].items():
                if head in mine:
                    self.heads.setdefault(head, Moments()).add(mine[head] - score)
                    self.apart[head] = self.apart.get(head, 0.0) + abs(mine[head] - score)
        self.shadow_us[bucket(shadow["us"])] += 1
        self.served_us[bucket(served["us"])] += 1
        self.shadow_fallbacks += shadow["fallback"] is not None
        self.served_fallbacks += served["fallback"] is not None

    def plus(self, other: SurfaceTally) -> SurfaceTally:
        """Both together."""
        names = {*self.heads, *other.heads}
        return SurfaceTally(
            self.overlap.plus(other.overlap), self.moved.plus(other.moved), self.same_list + other.same_list,
            self.same_first + other.same_first,
            {n: self.heads.get(n, Moments()).plus(other.heads.get(n, Moments())) for n in names},
            {n: self.apart.get(n, 0.0) + other.apart.get(n, 0.0) for n in names},
            [a + b for a, b in zip(self.shadow_us, other.shadow_us, strict=True)],
            [a + b for a, b in zip(self.served_us, other.served_us, strict=True)],
            self.shadow_fallbacks + other.shadow_fallbacks, self.served_fallbacks + other.served_fallbacks,
        )  # fmt: skip

    def told(self) -> dict[str, Any]:
        """For a report."""
        n = self.overlap.n
        return {
            "n": n,
            "overlap_at_10": self.overlap.told(),
            "moved": self.moved.told(),
            "same_list": self.same_list / n if n else 0.0,
            "same_first": self.same_first / n if n else 0.0,
            "heads": {
                name: {**found.told(), "absolute": self.apart.get(name, 0.0) / max(found.n, 1)}
                for name, found in sorted(self.heads.items())
            },
            "latency_ms": {
                side: {f"p{int(100 * q)}": quantile(counts, q) / 1000 for q in (0.5, 0.95, 0.99)}
                for side, counts in (("shadow", self.shadow_us), ("served", self.served_us))
            },
            "fallbacks": {"shadow": self.shadow_fallbacks, "served": self.served_fallbacks},
        }


class Tally(msgspec.Struct):
    """All that one process saw of one shadow beside one build."""

    shadow: str
    beside: str
    scored: int = 0
    dropped: int = 0  # the queue was full
    failed: int = 0  # the shadow raised
    surfaces: dict[str, SurfaceTally] = {}

    def plus(self, other: Tally) -> Tally:
        """Both together."""
        names = {*self.surfaces, *other.surfaces}
        found = {
            n: self.surfaces.get(n, SurfaceTally()).plus(other.surfaces.get(n, SurfaceTally())) for n in sorted(names)
        }
        return Tally(
            self.shadow, self.beside, self.scored + other.scored, self.dropped + other.dropped,
            self.failed + other.failed, found,
        )  # fmt: skip


def bucket(us: float) -> int:
    """Of a duration: buckets grow by 15 %."""
    return min(max(int(math.log(max(us, _FIRST_US) / _FIRST_US) / math.log(_STEP)), 0), _BUCKETS - 1)


def quantile(counts: Sequence[int], q: float) -> float:
    """Of durations in buckets, in microseconds: the upper end of the bucket that holds it; 0 without any."""
    total, seen = sum(counts), 0
    for at, count in enumerate(counts):
        seen += count
        if count and seen >= q * total:
            return float(_FIRST_US * _STEP ** (at + 1))
    return 0.0
