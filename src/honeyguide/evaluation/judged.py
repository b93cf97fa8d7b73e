"""Ranked lists judged: values per query, then figures with intervals per segment, then paired differences.

A million people's 20 places against ten metrics take about three seconds of one core; see `judge` for the memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from honeyguide.contracts import F64, I32, I64, BoolArray, Metric, Ragged
from honeyguide.errors import ConfigError, DataError
from honeyguide.evaluation.metrics import Coverage, ItemFacts, ListMetric, RelevanceMetric, compute
from honeyguide.kernels.intervals import Intervals, difference_intervals, poisson_weights, ratio_intervals
from honeyguide.schema import columns as c
from honeyguide.schema.tables import JUDGED

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Judgement", "Units", "compare", "difference_name", "judge", "judged_table", "summarise"]

Row = dict[str, Any]

_CHUNK = 65_536  # queries judged at once by one thread
BOOTSTRAP_UP_TO = 20_000  # units; above, the normal interval is the same to the third digit


@dataclass(frozen=True, slots=True)
class Judgement:
    """What each query's list was worth; nan where a metric is undefined (nothing relevant, too few items)."""

    values: dict[str, F64]  # by metric's name, (n,)
    shown: dict[str, tuple[I32, int]]  # by coverage metric's name: the first k places (n, k), items in the catalog

    def __len__(self) -> int:
        return len(next(iter(self.values.values()))) if self.values else 0

    def undefined(self) -> dict[str, int]:
        """How many queries have no value, by metric."""
        return {name: int(np.isnan(values).sum()) for name, values in self.values.items()}


@dataclass(frozen=True, slots=True)
class Units:
    """The independent units (people) behind the queries, and how to resample them.

    `weights` are shared by every figure made with the same `Units`, so that differences are paired; None means normal
    intervals (above `BOOTSTRAP_UP_TO` units).
    """

    unit: I64  # (n,) dense unit number of each query
    n: int
    weights: npt.NDArray[np.uint8] | None

    @classmethod
    def of(cls, ids: npt.NDArray[np.integer], *, resamples: int = 1_000, seed: int = 0) -> Units:
        """From one id per query. Takes resamples x units bytes, 20 MB at most by default."""
        distinct, unit = np.unique(ids, return_inverse=True)
        n = len(distinct)
        weights = poisson_weights(n, resamples, seed) if n <= BOOTSTRAP_UP_TO else None
        return cls(unit.astype(np.int64), n, weights)

    def together(self, names: list[str]) -> list[list[str]]:
        """Which figures to compute at once: all where the weights are read for each, one where memory counts."""
        return [[name] for name in names] if self.weights is None else [names] if names else []

    def gather(self, values: F64) -> tuple[F64, F64]:
        """Per unit: the sum of the defined values and how many they are."""
        defined = ~np.isnan(values)
        unit = self.unit[defined]
        sums = np.bincount(unit, values[defined], self.n).astype(np.float64)
        return sums, np.bincount(unit, minlength=self.n).astype(np.float64)


def judge(
    ranked: I32,
    relevant: Ragged,
    metrics: Sequence[Metric | ListMetric],
    *,
    grades: F64 | None = None,
    facts: ItemFacts | None = None,
    threads: int = 2,
) -> Judgement:
    """Every metric of every list.

    ranked: (n, k) item rows, best first, -1 pads. relevant: rows per query, any order; grades: one per relevant item
    (0 = not relevant), default 1. facts: for novelty, diversity and coverage. One compiled pass for this package's
    metrics, in chunks of 65,536 queries; besides the input it takes 8 bytes per query and metric.
    Raises DataError where shapes do not fit, ConfigError where a metric lacks its facts.
    """
    ranked = np.asarray(ranked)
    if ranked.ndim != 2 or len(ranked) != len(relevant):
        raise DataError(
            expected=f"one list per query, ({len(relevant)}, k)", got=f"shape {ranked.shape}", do="Rank every query."
        )
    if grades is not None and len(grades) != len(relevant.values):
        raise DataError(
            expected=f"{len(relevant.values)} grades, one per relevant item", got=str(len(grades)), do="Align them."
        )
    ours = [m for m in metrics if isinstance(m, RelevanceMetric | ListMetric) and not isinstance(m, Coverage)]
    starts = range(0, len(ranked), _CHUNK)

    def part(start: int) -> F64:
        stop = min(start + _CHUNK, len(ranked))
        low, high = relevant.indptr[start], relevant.indptr[stop]
        rows = Ragged(relevant.indptr[start : stop + 1] - low, relevant.values[low:high])
        return compute(ours, ranked[start:stop], rows, None if grades is None else grades[low:high], facts)

    with ThreadPoolExecutor(max(threads, 1)) as pool:
        parts = list(pool.map(part, starts))
    together = np.concatenate(parts, axis=1) if parts else np.zeros((len(ours), 0))
    found = dict(zip((metric.name for metric in ours), together, strict=True))
    shown: dict[str, tuple[I32, int]] = {}
    values: dict[str, F64] = {}
    for metric in metrics:
        if isinstance(metric, Coverage):
            if facts is None:
                raise ConfigError(expected=f"`facts` for {metric}", got="none", do="Pass `facts` to judge.")
            shown[metric.name] = (ranked[:, : metric.k], facts.n_items)
        elif isinstance(metric, RelevanceMetric | ListMetric):
            values[metric.name] = found[metric.name]
        else:
            values[metric.name] = np.asarray(metric.per_query(ranked, relevant), np.float64)
    return Judgement(values, shown)


def summarise(
    judgement: Judgement,
    units: Units,
    segments: Mapping[str, BoolArray] | None = None,
    *,
    protocol: str,
    system: str,
) -> list[Row]:
    """Rows of the Judged table: per segment and metric the mean over the defined queries, with its 95 % interval.

    segments: name -> which queries (n,); default: all. People are resampled, not queries: the figure is
    sum of values / number of values over people. A figure that no query defines has no row; n counts people.
    """
    rows: list[Row] = []
    for segment, chosen in (segments or {"all": np.ones(len(units.unit), np.bool_)}).items():
        for names in units.together(list(judgement.values)):
            gathered = [units.gather(np.where(chosen, judgement.values[name], np.nan)) for name in names]
            sums, counts = (np.column_stack(part) for part in zip(*gathered, strict=True))
            rows += _rows(protocol, segment, system, names, ratio_intervals(sums, counts, units.weights), counts)
        for name, (ranked, n_items) in judgement.shown.items():
            people = len(np.unique(units.unit[chosen]))
            if people:
                rows.append(
                    _row(protocol, segment, system, name, (_covered(ranked[chosen], n_items), None, None), people)
                )
    return rows


def compare(
    a: Judgement,
    b: Judgement,
    units: Units,
    segments: Mapping[str, BoolArray] | None = None,
    *,
    protocol: str,
    system_a: str,
    system_b: str,
) -> list[Row]:
    """Rows of the Judged table for a minus b, paired: only queries that both define, people resampled together."""
    rows: list[Row] = []
    for segment, chosen in (segments or {"all": np.ones(len(units.unit), np.bool_)}).items():
        for names in units.together([name for name in a.values if name in b.values]):
            both = [chosen & ~np.isnan(a.values[name]) & ~np.isnan(b.values[name]) for name in names]
            of_a, of_b = (
                [
                    units.gather(np.where(defined, side.values[name], np.nan))
                    for name, defined in zip(names, both, strict=True)
                ]
                for side in (a, b)
            )
            sums_a, counts = (np.column_stack(part) for part in zip(*of_a, strict=True))
            sums_b = np.column_stack([sums for sums, _ in of_b])
            found = difference_intervals(sums_a, counts, sums_b, counts, units.weights)
            rows += _rows(protocol, segment, difference_name(system_a, system_b), names, found, counts)
    return rows


def difference_name(system_a: str, system_b: str) -> str:
    """How a paired difference is named in the Judged table's system column."""
    return f"{system_a} minus {system_b}"


def judged_table(rows: Sequence[Row]) -> pa.Table:
    """The rows as the Judged table."""
    import pyarrow as pa

    return pa.Table.from_pylist(list(rows), schema=JUDGED.arrow())


def _covered(ranked: I32, n_items: int) -> float:
    return float(np.bincount(ranked[ranked >= 0].ravel(), minlength=n_items).astype(bool).mean()) if n_items else 0.0


def _rows(protocol: str, segment: str, system: str, names: Sequence[str], found: Intervals, counts: F64) -> list[Row]:
    people = (counts > 0).sum(0)
    return [
        _row(protocol, segment, system, name, (estimate, low, high), int(n))
        for name, estimate, low, high, n in zip(names, *found, people, strict=True)
        if n > 0
    ]


def _row(protocol: str, segment: str, system: str, metric: str, figure: tuple[float | None, ...], n: int) -> Row:
    estimate, low, high = (None if value is None or np.isnan(value) else float(value) for value in figure)
    return {
        c.PROTOCOL: protocol, c.SEGMENT: segment, c.SYSTEM: system, c.METRIC: metric,
        c.ESTIMATE: estimate, c.LOW: low, c.HIGH: high, c.N: n,
    }  # fmt: skip
