"""The propensity audit: lists drawn again and again, and how often each came held against what was logged of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from scipy import stats

from honeyguide.contracts import F64, I32, I64

__all__ = ["AuditReport", "AuditTest", "OddsLike", "Shown", "audit"]

LEAST = 10.0
"""Expected draws below which a bin is pooled with others."""
_SAME = 1e-9


class Shown(Protocol):
    """A list as shown, as in `compose.SlateResult`."""

    @property
    def rows(self) -> I32:
        """Item rows, (m,)."""
        ...

    @property
    def propensity(self) -> F64:
        """Of each slot given the slots before, (m,)."""
        ...


class OddsLike(Protocol):
    """What may stand in each slot given those above, as in `compose.Odds`."""

    @property
    def start(self) -> I64:
        """(slots + 1,) where each slot's entries begin."""
        ...

    @property
    def rows(self) -> I32:
        """Item rows."""
        ...

    @property
    def chance(self) -> F64:
        """Their chances."""
        ...


@dataclass(frozen=True, slots=True)
class AuditTest:
    """One comparison. p_value is already multiplied by how many figures it looked at, where it looked at several."""

    name: str
    statistic: float
    degrees: int
    p_value: float
    worst: str  # where the log and the draws are furthest apart


@dataclass(frozen=True, slots=True)
class AuditReport:
    """What a number of draws said. `problems` is empty if the propensities are true as far as these draws can tell."""

    draws: int
    lists: int  # different ones that came
    tests: tuple[AuditTest, ...]
    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """No problem was found."""
        return not self.problems

    def document(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "ok": self.ok, "draws": self.draws, "lists": self.lists, "problems": list(self.problems),
            "tests": [{"name": t.name, "statistic": t.statistic, "degrees": t.degrees, "p_value": t.p_value,
                       "worst": t.worst} for t in self.tests],
        }  # fmt: skip


def audit(
    draw: Callable[[str], Shown], odds: Callable[[I32], OddsLike] | None = None, *, draws: int = 20_000,
    alpha: float = 1e-4, seed: int = 0,
) -> AuditReport:  # fmt: skip
    """Draw the list of one request under `draws` request ids and test what was logged.

    lists, starts of lists: Pearson's chi-square of how often each came against draws x its propensity (what is expected
    fewer than ten times is pooled). slots: for every slot and item, how often it stood there against the sum of its
    chances given the slots above (`odds`); the largest deviation counts, by Bonferroni. alpha: of the whole audit.
    """
    count: dict[tuple[int, ...], int] = defaultdict(int)
    logged: dict[tuple[int, ...], F64] = {}
    problems: list[str] = []
    for number in range(draws):
        slate = draw(f"audit-{seed}-{number}")
        shown = tuple(slate.rows.tolist())
        count[shown] += 1
        known = logged.setdefault(shown, slate.propensity)
        if known is not slate.propensity and not np.allclose(known, slate.propensity, rtol=0, atol=_SAME):
            return AuditReport(draws, len(count), (), (f"the list {shown} has two different propensities",))
    tests = [test for test in (_starts(count, logged, draws, depth, problems) for depth in _depths(count)) if test]
    if odds is not None:
        tests.append(_slots(count, logged, odds, problems))
    limit = alpha / max(len(tests), 1)
    problems += [
        f"{test.name}: p = {test.p_value:.2g}; furthest apart: {test.worst}" for test in tests if test.p_value < limit
    ]
    return AuditReport(draws, len(count), tuple(tests), tuple(problems))


def _depths(count: dict[tuple[int, ...], int]) -> list[int]:
    longest = max((len(shown) for shown in count), default=0)
    return sorted({1, 2, longest} & set(range(1, longest + 1)))


def _starts(
    count: dict[tuple[int, ...], int], logged: dict[tuple[int, ...], F64], draws: int, depth: int, problems: list[str]
) -> AuditTest | None:
    """How often each start of `depth` slots came, against the product of its propensities."""
    name = f"first {depth} slots"
    came: dict[tuple[int, ...], int] = defaultdict(int)
    said: dict[tuple[int, ...], float] = {}
    for shown, times in count.items():
        start, product = shown[:depth], float(np.prod(logged[shown][:depth]))
        came[start] += times
        if abs(said.setdefault(start, product) - product) > _SAME:
            problems.append(f"{name}: {start} has two different propensities")
    if sum(said.values()) > 1.0 + 1e-6:
        problems.append(f"{name}: the propensities sum to {sum(said.values()):.6f}, over 1")
    large = [start for start, p in said.items() if p * draws >= LEAST]
    expected = np.array([said[start] * draws for start in large])
    observed = np.array([came[start] for start in large], np.float64)
    rest = draws - expected.sum()
    if rest >= LEAST:
        expected, observed = np.append(expected, rest), np.append(observed, draws - observed.sum())
    elif draws - observed.sum() > LEAST + 10 * np.sqrt(max(rest, 1.0)):
        problems.append(f"{name}: {draws - observed.sum():.0f} draws outside what was logged, {rest:.1f} expected")
    if len(expected) < 2:
        return None
    deviation = (observed - expected) ** 2 / expected
    at = int(deviation.argmax())
    what = f"{large[at]}" if at < len(large) else "all others"
    worst = f"{what} came {observed[at]:.0f} times, {expected[at]:.1f} expected"
    statistic, degrees = float(deviation.sum()), len(expected) - 1
    return AuditTest(name, statistic, degrees, float(stats.chi2.sf(statistic, degrees)), worst)


def _slots(
    count: dict[tuple[int, ...], int], logged: dict[tuple[int, ...], F64], odds: Callable[[I32], OddsLike],
    problems: list[str],
) -> AuditTest:  # fmt: skip
    """How often each item stood in each slot, against the sum of its chances given what stood above."""
    came: dict[tuple[int, int], float] = defaultdict(float)
    expected: dict[tuple[int, int], float] = defaultdict(float)
    variance: dict[tuple[int, int], float] = defaultdict(float)
    for shown, times in count.items():
        told = odds(np.array(shown, np.int32))
        for slot, row in enumerate(shown):
            mine = slice(int(told.start[slot]), int(told.start[slot + 1]))
            chances = dict(zip(told.rows[mine].tolist(), told.chance[mine].tolist(), strict=True))
            if abs(chances.get(row, 0.0) - logged[shown][slot]) > _SAME:
                problems.append(f"slot {slot + 1}: logged {logged[shown][slot]:.6g}, the policy says otherwise")
                return AuditTest("slots", float("inf"), 1, 0.0, f"item {row} in slot {slot + 1}")
            came[slot, row] += times
            for item, chance in chances.items():
                expected[slot, item] += times * chance
                variance[slot, item] += times * chance * (1.0 - chance)
    large = [key for key, value in expected.items() if value >= LEAST and variance[key] >= LEAST / 2]
    if not large:
        return AuditTest("slots", 0.0, 0, 1.0, "no slot was left to chance")
    z = {key: (came[key] - expected[key]) / np.sqrt(variance[key]) for key in large}
    worst = max(large, key=lambda key: abs(z[key]))
    p = min(1.0, len(large) * 2.0 * float(stats.norm.sf(abs(z[worst]))))
    said = f"item {worst[1]} in slot {worst[0] + 1} came {came[worst]:.0f} times, {expected[worst]:.1f} expected"
    return AuditTest("slots", float(abs(z[worst])), len(large), p, said)
