"""A request's time budget, checked between the stages, which it times at the same stroke."""

from __future__ import annotations

from time import perf_counter_ns

from honeyguide.errors import DeadlineExceededError

__all__ = ["Deadline"]


class Deadline:
    """Starts when made. About a quarter of a microsecond a check.

    `stage_us` holds the wall time of each stage in microseconds, in the order in which they ran.
    """

    __slots__ = ("_end", "_mark", "_start", "budget_ms", "stage_us")

    def __init__(self, budget_ms: float) -> None:
        self.budget_ms = budget_ms
        self.stage_us: dict[str, float] = {}
        self._start = self._mark = perf_counter_ns()
        self._end = self._start + int(budget_ms * 1_000_000)

    def note(self, stage: str) -> bool:
        """Time what ran since the last note as `stage`; whether the budget still holds.

        For the fallback, which must answer even when the budget is spent. A stage noted twice adds up.
        """
        now = perf_counter_ns()
        self.stage_us[stage] = self.stage_us.get(stage, 0.0) + (now - self._mark) / 1000
        self._mark = now
        return now <= self._end

    def check(self, stage: str) -> None:
        """`note`, and a DeadlineExceededError if the budget is spent."""
        if not self.note(stage):
            raise DeadlineExceededError(
                expected=f"an answer within {self.budget_ms:g} ms",
                got=f"{(self._mark - self._start) / 1_000_000:.1f} ms after {stage}",
                do="Raise the surface's deadline, or retrieve fewer candidates.",
            )

    @property
    def left_ms(self) -> float:
        """Budget left, negative when it is spent."""
        return (self._end - perf_counter_ns()) / 1_000_000
