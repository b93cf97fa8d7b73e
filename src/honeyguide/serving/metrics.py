"""What `/metrics` says, summed over the worker processes.

A worker counts in plain Python (half a microsecond a request). With several workers each leaves its counts once a
second, and at its end, in a file of a folder they share; whichever worker is asked adds up all files and its own live
counts. So counters are of the whole server, at most a second late, and outlive a worker that was replaced. Gauges add
up over the workers that are alive.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol, runtime_checkable

import msgspec
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, SummaryMetricFamily
from prometheus_client.metrics_core import Metric

__all__ = ["HasGauges", "Metrics"]

_BUCKETS_S = (0.0005, 0.001, 0.0015, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0, 2.5)
_BUCKETS_NS = tuple(round(bound * 1e9) for bound in _BUCKETS_S)
_MOST_LABELS = 100  # of one kind; what comes after is counted as "other"


@runtime_checkable
class HasGauges(Protocol):
    """An answerer that also tells figures of the moment, such as the records waiting for the log's disk."""

    def gauges(self) -> dict[str, float]:
        """Metric name (without the `honeyguide_` in front) to value."""
        ...


class _Tally(msgspec.Struct):
    """One worker's counts since it started."""

    pid: int
    requests: dict[str, dict[int, int]] = {}  # route -> status -> number
    latency: dict[str, list[int]] = {}  # route -> numbers per bucket, one for beyond the last, and the sum in ns
    fallbacks: dict[str, int] = {}  # reason -> number
    events: dict[str, int] = {}  # "accepted", "duplicate" or the reason of a refusal -> number
    stages: dict[str, list[float]] = {}  # stage -> number, sum in us
    gauges: dict[str, float] = {}

    def add(self, other: _Tally) -> None:
        """Counters add up; gauges too, if their process lives."""
        for route, statuses in other.requests.items():
            mine = self.requests.setdefault(route, {})
            for status, number in statuses.items():
                mine[status] = mine.get(status, 0) + number
        for route, cells in other.latency.items():
            self.latency[route] = [a + b for a, b in zip(self.latency.get(route, [0] * len(cells)), cells, strict=True)]
        for reason, number in other.fallbacks.items():
            self.fallbacks[reason] = self.fallbacks.get(reason, 0) + number
        for outcome, number in other.events.items():
            self.events[outcome] = self.events.get(outcome, 0) + number
        for stage, sums in other.stages.items():
            self.stages[stage] = [a + b for a, b in zip(self.stages.get(stage, [0.0, 0.0]), sums, strict=True)]
        if _alive(other.pid):
            for name, value in other.gauges.items():
                self.gauges[name] = self.gauges.get(name, 0.0) + value


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


class Metrics:
    """The counts of this worker, and the sum over all.

    `gauges` is asked at each scrape and flush.
    """

    def __init__(self, gauges: HasGauges | None = None, shared: Path | None = None) -> None:
        self._tally = _Tally(os.getpid())
        self._gauges, self._shared = gauges, shared

    def request(self, route: str, status: int, ns: int) -> None:
        """Count an answered request."""
        tally = self._tally
        statuses = tally.requests.get(route)
        if statuses is None:
            statuses = tally.requests[route] = {}
            tally.latency[route] = [0] * (len(_BUCKETS_NS) + 2)
        statuses[status] = statuses.get(status, 0) + 1
        cells = tally.latency[route]
        cells[bisect_left(_BUCKETS_NS, ns)] += 1
        cells[-1] += ns

    def answer(self, fallback: str | None, stage_us: dict[str, float]) -> None:
        """Count an answer's stages, and why it fell back: its text up to a colon."""
        tally = self._tally
        stages = tally.stages
        for stage, us in stage_us.items():
            cell = stages.get(stage)
            if cell is None:
                cell = stages.setdefault(stage if len(stages) < _MOST_LABELS else "other", [0, 0.0])
            cell[0] += 1
            cell[1] += us
        if fallback is not None:
            reason = fallback.partition(":")[0]
            if reason not in tally.fallbacks and len(tally.fallbacks) >= _MOST_LABELS:
                reason = "other"
            tally.fallbacks[reason] = tally.fallbacks.get(reason, 0) + 1

    def events(self, accepted: int, duplicates: int, refused: Iterable[str]) -> None:
        """Count what became of a batch of events; `refused` names the reason of each that did not enter."""
        counts = self._tally.events
        for outcome, number in (("accepted", accepted), ("duplicate", duplicates)):
            if number:
                counts[outcome] = counts.get(outcome, 0) + number
        for reason in refused:
            counts[reason] = counts.get(reason, 0) + 1

    def flush(self) -> None:
        """Leave this worker's counts where the others find them."""
        if self._shared is None:
            return
        self._ask_gauges()
        path = self._shared / f"{self._tally.pid}.tally"
        new = path.with_suffix(".new")
        new.write_bytes(msgspec.msgpack.encode(self._tally))
        os.replace(new, path)

    def render(self) -> bytes:
        """The Prometheus text format."""
        self._ask_gauges()
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Families(self._total()))
        return generate_latest(registry)

    def live_events(self) -> dict[str, int]:
        """What became of the events sent since the server started, over all workers; see `events`."""
        return dict(self._total().events)

    def _total(self) -> _Tally:
        total = _Tally(self._tally.pid)
        total.add(self._tally)
        if self._shared is not None:
            for path in sorted(self._shared.glob("*.tally")):
                other = msgspec.msgpack.decode(path.read_bytes(), type=_Tally)
                if other.pid != self._tally.pid:
                    total.add(other)
        return total

    def _ask_gauges(self) -> None:
        if self._gauges is not None:
            self._tally.gauges = self._gauges.gauges()


class _Families:
    """A tally as Prometheus metric families."""

    def __init__(self, tally: _Tally) -> None:
        self._tally = tally

    def collect(self) -> Iterator[Metric]:
        """What prometheus-client asks of a collector."""
        tally = self._tally
        requests = CounterMetricFamily("honeyguide_requests", "Requests answered.", labels=["route", "status"])
        for route, statuses in tally.requests.items():
            for status, number in statuses.items():
                requests.add_metric([route, str(status)], number)
        yield requests
        latency = HistogramMetricFamily(
            "honeyguide_request_seconds", "Time from a request's headers to its answer.", labels=["route"]
        )
        for route, cells in tally.latency.items():
            buckets, running = [], 0
            for bound, number in zip((*map(str, _BUCKETS_S), "+Inf"), cells[:-1], strict=True):
                running += number
                buckets.append((bound, running))
            latency.add_metric([route], buckets, sum_value=cells[-1] / 1e9)
        yield latency
        fallbacks = CounterMetricFamily(
            "honeyguide_fallbacks", "Answers that are not the policy's own.", labels=["reason"]
        )
        for reason, number in tally.fallbacks.items():
            fallbacks.add_metric([reason], number)
        yield fallbacks
        events = CounterMetricFamily("honeyguide_events", "Events sent, by what became of them.", labels=["outcome"])
        for outcome, number in tally.events.items():
            events.add_metric([outcome], number)
        yield events
        stages = SummaryMetricFamily("honeyguide_stage_seconds", "Wall time of each stage.", labels=["stage"])
        for stage, (count, total_us) in tally.stages.items():
            stages.add_metric([stage], count_value=int(count), sum_value=total_us / 1e6)
        yield stages
        for name, value in tally.gauges.items():
            yield GaugeMetricFamily(f"honeyguide_{name}", "A figure of the moment, summed over workers.", value=value)
