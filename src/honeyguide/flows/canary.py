"""A build that answers a share of the people, and steps back by itself when it hurts.

Who is in the share is a hash of the person's id and the build's, so that the same people see the same build. Failures
and unwelcome actions are judged by a bet: were the canary no worse, each of them would fall to it with the share of
what it answers, and no way of betting on more would grow tenfold but once in ten times, however often one looks
(Waudby-Smith and Ramdas 2024). Each process counts its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import structlog

from honeyguide.errors import NotFoundError, RequestError, TrimmedError
from honeyguide.flows import answer
from honeyguide.flows.config import CanaryConfig
from honeyguide.flows.live import Live
from honeyguide.kernels.hashing import hash64, uniform
from honeyguide.schema.wire import Answer, EventIn, RecommendRequest

__all__ = ["Bet", "Canary", "Side"]

_logger = structlog.get_logger("honeyguide.canary")
_STAKES = (0.05, 0.1, 0.2, 0.4, 0.8)
"""Shares of the wealth that are bet side by side."""
_LEAST = 5
"""So many failures (or people with an unwelcome action) of its own a canary may always have."""
_ERRORS = 4.0
MOST_PEOPLE = 200_000
"""People with an unwelcome action that are remembered, by hash; nobody further is counted."""


@dataclass
class Bet:
    """Evidence that units fall to the canary more often than they should."""

    wealth: list[float] = field(default_factory=lambda: [0.0] * len(_STAKES))  # logarithms
    mine: int = 0
    n: int = 0

    def add(self, mine: bool, chance: float) -> None:
        """One unit; chance: with which it would fall to the canary were there no difference."""
        chance = min(max(chance, 1e-6), 1.0 - 1e-6)
        self.n += 1
        self.mine += mine
        for at, stake in enumerate(_STAKES):
            self.wealth[at] += math.log1p(stake / chance * (mine - chance))

    @property
    def value(self) -> float:
        """The wealth, 1 at first; above 1 / alpha with a chance of at most alpha, were there no difference."""
        top = max(self.wealth)
        return math.exp(min(top, 600.0)) * sum(math.exp(one - top) for one in self.wealth) / len(_STAKES)


@dataclass
class Side:
    """Answers of one side: how many, and the logarithms of their times."""

    n: int = 0
    failed: int = 0
    total: float = 0.0
    squares: float = 0.0

    def add(self, us: float, failed: bool) -> None:
        """One answer."""
        took = math.log(max(us, 1.0))
        self.n += 1
        self.failed += failed
        self.total += took
        self.squares += took * took

    @property
    def mean(self) -> float:
        """Mean logarithm of microseconds."""
        return self.total / self.n

    @property
    def error(self) -> float:
        """Squared standard error of the mean."""
        return max(self.squares / self.n - self.mean**2, 0.0) / self.n


class Canary:
    """Answers for a share of the people. Lives in the event loop; `live` is replaced whole by whoever loads it anew."""

    def __init__(self, live: Live, share: float, config: CanaryConfig) -> None:
        self.live, self.share, self.config = live, share, config
        self.build_id = live.build_id
        self.stale = False  # the log was trimmed under it: it must be loaded anew, and does not answer until then
        self.sides = (Side(), Side())  # of the build in service, of the canary
        self.failures = Bet()
        self.guardrails = {action: Bet() for action in config.guardrails}
        self._people: set[int] = set()

    def takes(self, user_id: str) -> bool:
        """Whether a person is in the share; always the same for the same build."""
        return uniform(user_id, f"canary:{self.build_id}") < self.share

    def recommend(self, live: Live, request: RecommendRequest) -> Answer:
        """An answer to a person, by the canary or by the build in service; what the canary cannot do, that does."""
        mine = request.user_id is not None and self.takes(request.user_id) and not self.stale
        if not mine:
            answered = answer.recommend(live, request)
            if request.user_id is not None and not self.stale:
                self._count(False, answered)
            return answered
        try:
            self.live.catch_up()
            answered = answer.recommend(self.live, request)
        except (RequestError, NotFoundError):
            raise
        except TrimmedError:
            self.stale = True
            return answer.recommend(live, request)
        except Exception as error:
            _logger.error("the canary failed; the build in service answers", build=self.build_id, exc_info=error)
            answered = answer.recommend(live, request)
            self._count(True, answered, failed=True)
            return answered
        self._count(True, answered)
        return answered

    def _count(self, mine: bool, answered: Answer, *, failed: bool = False) -> None:
        failed = failed or answered.fallback is not None
        if failed:
            total = self.sides[0].n + self.sides[1].n
            self.failures.add(mine, self.sides[1].n / total if total > _LEAST else self.share)
        self.sides[mine].add(sum(answered.stage_us.values()), failed)

    def record(self, events: Sequence[EventIn]) -> None:
        """What people did: each unwelcome action counts once a person."""
        for event in events:
            bet = self.guardrails.get(event.action)
            if bet is not None and len(self._people) < MOST_PEOPLE:
                who = hash64(event.user_id, event.action)
                if who not in self._people:
                    self._people.add(who)
                    bet.add(self.takes(event.user_id), self.share)

    def hurts(self) -> str:
        """Why it should step back, "" if it need not."""
        served, own, limit = *self.sides, 1.0 / self.config.alpha
        if self.failures.mine >= _LEAST and self.failures.value >= limit:
            return (
                f"{own.failed} of {own.n} answers failed, {served.failed} of {served.n} of the build in service "
                f"(evidence {self.failures.value:.3g} to 1)"
            )
        for action, bet in self.guardrails.items():
            if bet.mine >= _LEAST and bet.value >= limit:
                return (
                    f"{bet.mine} of the {bet.n} people with {action!r} saw the canary, which answers "
                    f"{self.share:.0%} (evidence {bet.value:.3g} to 1)"
                )
        if min(served.n, own.n) >= self.config.least_requests:
            slower = own.mean - served.mean
            if slower - _ERRORS * math.sqrt(own.error + served.error) > math.log(self.config.slower):
                return f"answers take {math.exp(slower):.2f} times as long"
        return ""
