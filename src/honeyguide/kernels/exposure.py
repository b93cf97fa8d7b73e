"""Lists under guardrails: the linear programme over all requests, its dual prices, and how far it is from the optimum.

Every request fills its slots with its own candidates; slot k counts `discount[k]`. A guardrail bounds the sum of an
amount over all that is shown, so it joins all requests, and there are few of them. The programme is solved by column
generation (Dantzig and Wolfe 1960): given prices each request's best list is a sort, and a small master programme mixes
lists of blocks of requests and gives new prices. The mixture is a feasible point, the prices a bound on what any point
can reach (Lagrange), and the two are told with their gap.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import linprog

__all__ = ["Exposure", "Shown", "discounts", "shown_under", "solve_exposure"]

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
BLOCKS = 64  # parts of the requests with lists of their own in the master programme
ROUNDS = 200
_MET = 1e-9
_LEEWAY = 1e-6  # share of its scale by which a bound that cannot be met is loosened beyond the nearest that can


def discounts(slots: int, kind: str) -> F64:
    """What an exposure in each slot counts: `log`: 1 / log2(1 + slot) (Jarvelin and Kekalainen 2002), `none`: 1."""
    return np.ones(slots) if kind == "none" else 1.0 / np.log2(np.arange(slots) + 2.0)


class Shown(NamedTuple):
    """Lists and what they hold, summed by request."""

    places: I64  # (requests, slots) candidates, best first; beyond the candidates that there are, anything
    exposure: F64  # (requests,) discounts filled
    utility: F64  # (requests,) discounted sum
    amounts: F64  # (guardrails, requests) discounted sums


@dataclass(frozen=True, slots=True)
class Exposure:
    """The solution, per unit of exposure. A price is the utility lost per unit by which the bound is tightened."""

    prices: F64  # (guardrails,) >= 0
    value: float  # of the mixture of lists: a feasible point
    bound: float  # no mixture of lists is better
    free: float  # the value without guardrails
    reached: F64  # (guardrails,) mean amounts of the mixture
    shortfall: F64  # (guardrails,) by how much each bound had to be loosened: all zeros where they can be met together
    conflict: npt.NDArray[np.bool_]  # (guardrails,) those that cannot be met together
    rounds: int

    @property
    def gap(self) -> float:
        """(bound - value) / |bound|, what the mixture may be short of the optimum."""
        return max(self.bound - self.value, 0.0) / max(abs(self.bound), 1e-12)


def shown_under(score: F64, utility: F64, amounts: F64, discount: F64) -> Shown:
    """Each request's list by `score`.

    score, utility: (requests, candidates), nan sinks and pads. amounts: (guardrails, requests, candidates).
    """
    slots = min(len(discount), score.shape[1])
    sunk = np.where(np.isnan(score), -np.inf, score)
    if slots < score.shape[1]:
        first = np.argpartition(-sunk, slots - 1, axis=1)[:, :slots]
        first.sort(axis=1)  # ties: the earlier candidate
    else:
        first = np.broadcast_to(np.arange(slots), (len(score), slots))
    order = np.argsort(-np.take_along_axis(sunk, first, 1), axis=1, kind="stable")
    index = np.take_along_axis(first, order, 1)
    weight = np.where(np.isfinite(np.take_along_axis(sunk, index, 1)), discount[:slots], 0.0)

    def summed(values: F64) -> F64:
        picked = np.take_along_axis(values, index, 1)
        return (np.where(weight > 0, picked, 0.0) * weight).sum(1)

    sums = np.stack([summed(one) for one in amounts]) if len(amounts) else np.zeros((0, len(score)))
    return Shown(index, weight.sum(1), summed(utility), sums)


def solve_exposure(
    utility: F64, amounts: F64, bounds: F64, senses: F64, discount: F64, *, tolerance: float = 1e-5
) -> Exposure:
    """Maximise the mean utility per exposure where each guardrail's mean amount keeps its bound.

    utility: (requests, candidates), nan pads. amounts: (guardrails, requests, candidates). senses: +1 at least, -1 at
    most. Where bounds cannot be met together, the sum of shortfalls, each relative to its bound, is made least first
    (an elastic programme), bounds are loosened by that, and the prices are those of the loosened bounds.
    """
    problem = _Problem(utility, amounts, bounds, senses, discount)
    problem.price(np.zeros(len(bounds)), 1.0)
    free = problem.dual
    shortfall, conflict = problem.nearest(tolerance)
    return problem.best(shortfall, conflict, free, tolerance)


class _Problem:
    """Columns so far: for each block, the lists that prices made of it."""

    def __init__(self, utility: F64, amounts: F64, bounds: F64, senses: F64, discount: F64) -> None:
        # At most is at least of the negative; a bound goes into the amounts, which are then at least 0 in the mean.
        self.utility, self.discount = utility, discount
        self.senses, self.bounds = np.asarray(senses, np.float64), np.asarray(bounds, np.float64)
        self.amounts = amounts
        self.scale = np.maximum(np.abs(self.bounds), 1e-3)
        n = len(utility)
        self.block = np.arange(n) * min(BLOCKS, n) // max(n, 1)
        self.n_blocks = min(BLOCKS, n)
        there = np.minimum((~np.isnan(utility)).sum(1), len(discount))
        self.total = float(np.concatenate([[0.0], np.cumsum(discount)])[there].sum())
        self.column_block: list[I64] = []
        self.column_utility: list[F64] = []
        self.column_amount: list[F64] = []
        self.dual, self.rounds = np.inf, 0

    def price(self, prices: F64, of_utility: float) -> float:
        """Add the lists of these prices; the Lagrangian bound that they give (without what the bounds pay back)."""
        signed = prices * self.senses
        score = of_utility * self.utility
        for price, amount in zip(signed, self.amounts, strict=True):
            if price != 0.0:
                score = score + price * amount
        if of_utility == 0.0:
            score = np.where(np.isnan(self.utility), np.nan, score)
        shown = shown_under(score, self.utility, self.amounts, self.discount)
        kept = self.senses[:, None] * (shown.amounts - self.bounds[:, None] * shown.exposure)
        self.column_block.append(np.arange(self.n_blocks))
        self.column_utility.append(np.bincount(self.block, shown.utility, self.n_blocks) / self.total)
        by_block = [np.bincount(self.block, row, self.n_blocks) for row in kept]
        self.column_amount.append(np.array(by_block).reshape(len(kept), self.n_blocks) / self.total)
        self.rounds += 1
        value = of_utility * self.column_utility[-1].sum() + float((prices @ self.column_amount[-1]).sum())
        if of_utility == 1.0 and not prices.any():
            self.dual = value
        return value

    def nearest(self, tolerance: float) -> tuple[F64, npt.NDArray[np.bool_]]:
        """The least shortfalls, and which guardrails stand against each other; nothing but zeros if all can be met."""
        least = 0.0
        for _ in range(ROUNDS):
            found = self._master(np.zeros(len(self.bounds)), elastic=True)
            short, prices = found.x[-len(self.bounds) :], self._prices(found)
            if found.fun <= _MET:
                return np.zeros(len(self.bounds)), np.zeros(len(self.bounds), np.bool_)
            # No mixture's shortfall lies below what these prices prove.
            least = max(least, -self.price(prices, 0.0))
            if found.fun - least <= tolerance * max(found.fun, 1e-3):
                break
        return np.maximum(short, 0.0), prices * self.scale > 1e-6

    def best(self, shortfall: F64, conflict: npt.NDArray[np.bool_], free: float, tolerance: float) -> Exposure:
        """The best mixture once bounds are loosened by the shortfall."""
        loosened = np.where(conflict | (shortfall > 0), shortfall + _LEEWAY * self.scale, 0.0)
        bound, best = free, np.zeros(len(self.bounds))
        while True:
            found = self._master(loosened, elastic=False)
            prices, value = self._prices(found), -float(found.fun)
            tight = self.price(prices, 1.0) + float(prices @ loosened)
            if tight < bound:
                bound, best = tight, prices
            if bound - value <= tolerance * max(abs(bound), 1e-12) or self.rounds >= ROUNDS:
                break
        amounts = np.concatenate(self.column_amount[: len(found.x) // self.n_blocks], axis=1)
        reached = self.senses * (amounts @ found.x) + self.bounds
        return Exposure(best, value, bound, free, reached, shortfall, conflict, self.rounds)

    def _master(self, loosened: F64, *, elastic: bool) -> Any:
        """Mix the lists of every block: maximise utility, or (elastic) make the relative shortfalls least."""
        utility = np.concatenate(self.column_utility)
        amounts = np.concatenate(self.column_amount, axis=1)
        n, g = len(utility), len(self.bounds)
        of_block = np.concatenate(self.column_block)
        each = np.zeros((self.n_blocks, n))
        each[of_block, np.arange(n)] = 1.0
        if elastic:
            cost = np.concatenate([np.zeros(n), 1.0 / self.scale])
            keep = np.concatenate([-amounts, -np.eye(g)], axis=1)
            each = np.concatenate([each, np.zeros((self.n_blocks, g))], axis=1)
        else:
            cost, keep = -utility, -amounts
        return linprog(
            cost, A_ub=keep if g else None, b_ub=loosened if g else None, A_eq=each, b_eq=np.ones(self.n_blocks),
            method="highs",
        )  # fmt: skip

    @staticmethod
    def _prices(found: Any) -> F64:
        return np.maximum(-np.asarray(found.ineqlin.marginals, np.float64), 0.0)
