"""Events and questions as the kernels want them: checked, ordered, one dtype each; and threads for batches."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field
from scipy import sparse

from honeyguide.contracts import F32, I32, I64, Candidates, Interactions, Queries
from honeyguide.errors import DataError

__all__ = [
    "DAY_US",
    "HistoryConfig",
    "Signals",
    "TrendConfig",
    "arguments",
    "blank",
    "in_ranges",
    "lift",
    "signals",
    "workers",
]

DAY_US = 86_400_000_000
_BATCH = 64  # fewer queries than this are answered on the caller's thread: starting threads costs more


class HistoryConfig(BaseModel):
    """How a person's history speaks: newer signs of interest weigh more.

    The j-th newest event weighs `step_decay ** j * (1 + j) ** -step_power * 2 ** (-age_days / half_life_days)`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    step_decay: float = Field(default=1.0, gt=0, le=1, description="factor per step back")
    step_power: float = Field(default=0.0, ge=0, le=5, description="power of the step number by which weights fall")
    half_life_days: float = Field(default=0.0, ge=0, description="age at which an event counts half; 0 = off")
    newest: int = Field(default=200, ge=1, le=10_000, description="how many of the newest events are used at most")
    other: float = Field(default=0.0, ge=0, le=1, description="strength of events whose weight is not above 0")
    use_weights: bool = Field(default=True, description="a positive weight counts as such (clipped to 10), not as 1")

    def recency(self) -> F32:
        """Weight per step back, newest first; cut where it falls below a millionth."""
        steps = np.arange(self.newest, dtype=np.float64)
        weight = self.step_decay**steps * (1.0 + steps) ** -self.step_power
        return weight[weight >= 1e-6].astype(np.float32)


class TrendConfig(BaseModel):
    """How a score follows the drift of what people choose, for those whose own history is not of today.

    `lift = ((recent + prior_events) / (expected + prior_events)) ** power` with `recent` the item's events in the last
    `window_days` of the data and `expected` its share of all events times the recent ones (the mean of a
    gamma-Poisson posterior). It multiplies the scores of questions whose newest event is older than `after_hours`:
    in the middle of a visit the history says more than the drift.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    window_days: float = Field(default=7.0, ge=0, description="what counts as recent; 0 = no lift")
    prior_events: float = Field(default=5.0, gt=0, description="events of the prior, at lift 1")
    power: float = Field(default=1.0, ge=0, le=3)
    after_hours: float = Field(default=12.0, ge=0)


@dataclass(frozen=True, slots=True)
class Signals:
    """Events that say something, person by person, oldest first."""

    user: I32
    item: I32
    at: I64
    strength: F32  # above 0
    n_users: int
    n_items: int

    def pairs(self, *, weighted: bool = False) -> tuple[sparse.csr_matrix, sparse.csc_matrix]:
        """Distinct (person, item) pairs by person and by item: 1, or strengths summed up to 10."""
        indptr = np.searchsorted(self.user, np.arange(self.n_users + 1)).astype(np.int64)
        shape = (self.n_users, self.n_items)
        by_user = sparse.csr_matrix((self.strength.copy(), self.item.copy(), indptr), shape=shape)
        by_user.sum_duplicates()
        by_user.data[:] = np.minimum(by_user.data, 10.0) if weighted else 1.0
        return by_user, by_user.tocsc()


def lift(events: Signals, config: TrendConfig) -> F32:
    """(items,) the lift of TrendConfig, 1 everywhere where `window_days` is 0."""
    if config.window_days == 0 or config.power == 0:
        return np.ones(events.n_items, np.float32)
    all_of = np.bincount(events.item, events.strength, events.n_items)
    fresh = events.at >= events.at.max() - config.window_days * DAY_US
    recent = np.bincount(events.item[fresh], events.strength[fresh], events.n_items)
    expected = all_of * (recent.sum() / all_of.sum())
    return (((recent + config.prior_events) / (expected + config.prior_events)) ** config.power).astype(np.float32)


def signals(interactions: Interactions, *, other: float, use_weights: bool) -> Signals:
    """Checked and ordered events; those of no strength are left out (their meaning is the config's).

    Raises DataError where rows are out of range, arrays differ in length, or nothing is left.
    """
    user, item, at, weight = interactions.user, interactions.item, interactions.at, interactions.weight
    if not len(user) == len(item) == len(at) == len(weight):
        raise DataError(
            expected="user, item, at and weight of one length",
            got=f"{len(user)}, {len(item)}, {len(at)} and {len(weight)}",
            do="Pass the Interactions that intake gives.",
        )
    for what, rows, n in (("user", user, interactions.n_users), ("item", item, interactions.n_items)):
        if len(rows) and not (int(rows.min()) >= 0 and int(rows.max()) < n):
            raise DataError(
                expected=f"{what} rows from 0 to {n - 1}",
                got=f"rows from {int(rows.min())} to {int(rows.max())}",
                do="Map ids through the vocabulary and quarantine events nobody knows.",
            )
    positive = weight > 0  # false for nan
    strength = np.where(positive, np.minimum(weight, 10.0) if use_weights else 1.0, other).astype(np.float32)
    keep = np.flatnonzero(strength > 0)
    if not len(keep):
        raise DataError(
            expected="at least one event with a weight above 0",
            got=f"{len(user)} events, none of them",
            do="Look at [actions] in honeyguide.toml: which actions are signs of interest?",
        )
    order = keep if _sorted(user, at) else keep[np.lexsort((at[keep], user[keep]))]
    return Signals(
        user[order].astype(np.int32, copy=False), item[order].astype(np.int32, copy=False),
        at[order].astype(np.int64, copy=False), strength[order], interactions.n_users, interactions.n_items,
    )  # fmt: skip


def _sorted(user: npt.NDArray[Any], at: npt.NDArray[Any]) -> bool:
    """Whether events stand person by person, oldest first: sorting them again would cost half of a quick fit."""
    same = user[1:] == user[:-1]
    return bool((same & (at[1:] >= at[:-1]) | (user[1:] > user[:-1])).all())


def _plain(array: npt.NDArray[Any], dtype: type) -> npt.NDArray[Any]:
    """The array as the one type that the kernels are compiled for (a read-only array is another type to numba)."""
    flags = array.flags
    if array.dtype == dtype and flags.writeable and flags.c_contiguous:
        return array
    return np.array(array, dtype, order="C", ndmin=1)


def arguments(queries: Queries) -> tuple[I64, I32, F32, I64, I64, I64, I32]:
    """The questions as kernel arguments: indptr, items, weights, at, now, exclude.indptr, exclude.items.

    Raises DataError where lengths do not fit: a kernel would read beyond an array.
    """
    exclude = queries.exclude
    given = (
        _plain(queries.indptr, np.int64), _plain(queries.items, np.int32), _plain(queries.weights, np.float32),
        _plain(queries.at, np.int64), _plain(queries.now, np.int64), _plain(exclude.indptr, np.int64),
        _plain(exclude.values, np.int32),
    )  # fmt: skip
    indptr, items, weights, at, now, ex_indptr, ex_items = given
    n, total = len(indptr) - 1, len(items)
    if (
        n < 0 or len(now) != n or len(ex_indptr) != n + 1 or len(weights) != total or len(at) != total
        or indptr[0] < 0 or indptr[n] > total or ex_indptr[0] < 0 or ex_indptr[n] > len(ex_items)
        or (n > 1 and ((indptr[1:] < indptr[:-1]).any() or (ex_indptr[1:] < ex_indptr[:-1]).any()))
    ):  # fmt: skip
        raise DataError(
            expected="Queries whose arrays fit each other",
            got=f"{n} queries with {total} items, {len(weights)} weights, {len(at)} times, {len(now)} moments "
            f"and {len(ex_indptr) - 1} rows of exclusions",
            do="Build Queries with one `now` and one row of `exclude` each.",
        )
    return indptr, items, weights, at, now, ex_indptr, ex_items


def blank(n: int, k: int) -> Candidates:
    """Candidates to be filled by a kernel; `k` below 0 counts as 0."""
    return Candidates(np.empty((n, max(k, 0)), np.int32), np.empty((n, max(k, 0)), np.float32))


def workers() -> int:
    """Processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_ranges(n: int, run: Callable[[int, int], Any], *, least: int = _BATCH) -> list[Any]:
    """`run(start, stop)` over ranges of 0..n in threads (the kernels release the GIL); results in order.

    What runs may not depend on how the ranges are cut; they begin at multiples of `_BATCH`. Below `least` it runs on
    the caller's thread.
    """
    if n <= least or workers() == 1:
        return [run(0, n)]
    size = -(-max(least // 2, -(-n // (8 * workers()))) // _BATCH) * _BATCH
    with ThreadPoolExecutor(workers()) as pool:
        tasks = [pool.submit(run, start, min(start + size, n)) for start in range(0, n, size)]
        return [task.result() for task in tasks]
