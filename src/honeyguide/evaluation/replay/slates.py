"""A target policy valued on logged lists: rewards per slot, propensities given the slots above."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from honeyguide.contracts import F64, I64, BoolArray
from honeyguide.evaluation.replay.checks import check_log
from honeyguide.evaluation.replay.estimators import Estimate, Valued, believed, range_notes, rewards_range
from honeyguide.evaluation.replay.log import DecisionLog
from honeyguide.evaluation.replay.overlap import Overlap, Verdict, judge, overlap
from honeyguide.evaluation.replay.policy import Target
from honeyguide.evaluation.replay.rewards import RewardModel, TabularRewards, cross_fitted, folds_of
from honeyguide.kernels.ope_intervals import reward_tails
from honeyguide.kernels.ope_slates import (
    cascade_weights,
    item_weights,
    list_weights,
    pseudo_inverse_weights,
    slate_interval,
)
from honeyguide.kernels.ope_values import Moments, summed

__all__ = ["SLATE_ESTIMATORS", "SlateConfig", "SlateEstimator", "evaluate_slates"]

SlateEstimator = Literal["rips", "cascade-dr", "sips", "iips", "pi"]
SLATE_ESTIMATORS: tuple[SlateEstimator, ...] = ("rips", "cascade-dr", "sips", "iips", "pi")

_ABOUT = {
    "rips": "a slot weighs itself and those above it: right if people read from the top",
    "cascade-dr": "as rips, with a reward model per slot corrected by the weighed residuals",
    "sips": "a slot weighs the whole list: no assumption, the least overlap",
    "iips": "a slot weighs its own item: right only if slots do not influence one another",
    "pi": "self-normalised pseudo-inverse: right if the list's reward is a sum over slots and items",
}
_MARGINAL = ("iips", "pi")


class SlateConfig(BaseModel):
    """How lists are valued. `independent_slots`: the log's propensities of a slot do not depend on the slots above."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    estimators: tuple[SlateEstimator, ...] = SLATE_ESTIMATORS
    level: float = Field(default=0.95, gt=0.5, lt=1.0)
    reward_range: tuple[float, float] | None = None  # of a slot
    independent_slots: bool | None = None  # None: where every slot of a request is offered the same
    folds: int = Field(default=5, ge=2, le=50)
    ess_least: float = Field(default=100.0, ge=2.0)  # requests
    n3_least: float = Field(default=25.0, ge=1.0)  # requests
    unsupported_most: float = Field(default=1e-6, ge=0.0, le=1.0)
    wrong_below: float = Field(default=0.001, ge=0.0, le=1.0)
    seed: int = 0


@dataclass(frozen=True, slots=True)
class _Lists:
    """The log as (requests, slots), padded."""

    w: F64
    r: F64
    shown: BoolArray
    second: F64  # (requests, slots) E w^2 given the slots above, 1 where padded
    third: F64
    unit: I64 | None
    n_units: int

    @classmethod
    def of(cls, log: DecisionLog, target: Target) -> _Lists:
        requests, slots = len(log.request_ids), int(np.bincount(log.request).max())
        w = target.probabilities[log.place] / log.propensity
        if log.probabilities is not None:
            p0, p1, decision = log.probabilities, target.probabilities, log.decision
            second = summed(decision, np.divide(p1**2, p0, out=np.zeros_like(p1), where=p0 > 0), len(log))
            third = summed(decision, np.divide(p1**3, p0**2, out=np.zeros_like(p1), where=p0 > 0), len(log))
        else:
            second, third = w**2, w**3
        unit = None
        if log.n_units < requests:
            of_request = np.zeros(requests, np.int64)
            of_request[log.request] = log.unit
            unit = of_request
        at = (log.request, slot_of(log))

        def padded(values: F64, fill: float) -> F64:
            made = np.full((requests, slots), fill)
            made[at] = values
            return made

        shown = padded(np.ones(len(log)), 0.0) > 0
        return cls(
            padded(w, 1.0), padded(log.reward, 0.0), shown, padded(second, 1.0), padded(third, 1.0), unit, log.n_units
        )

    def padded(self, log: DecisionLog, values: F64) -> F64:
        made = np.zeros(self.w.shape)
        made[log.request, slot_of(log)] = values
        return made


def slot_of(log: DecisionLog) -> I64:
    """(n,) 0 for the first slot of its request that is in the log, and so on."""
    starts = np.flatnonzero(np.append(True, np.diff(log.request) != 0))
    sizes = np.diff(np.append(starts, len(log)))
    return np.arange(len(log)) - np.repeat(starts, sizes)


def evaluate_slates(
    log: DecisionLog, target: Target, config: SlateConfig | None = None, *, model: RewardModel | None = None
) -> Valued:
    """Value `target` on a log of lists: the expected sum of a list's rewards. Raises DataError as `evaluate` does.

    Each estimator answers where the overlap that it needs is there; IIPS and PI only for slots filled independently.
    """
    config = config or SlateConfig()
    ends = rewards_range(log, config.reward_range)
    lists = _Lists.of(log, target)
    rows = overlap(log, target)
    by_name = {name: _moments(name, lists, full=log.probabilities is not None) for name in config.estimators}
    overlaps = {name: _with(rows, found, lists) for name, found in by_name.items()}
    verdicts = {
        name: judge(one, ess_least=config.ess_least, n3_least=config.n3_least, unsupported_most=config.unsupported_most)
        for name, one in overlaps.items()
    }
    checks = check_log(log, target)
    independent = _independent(log) if config.independent_slots is None else config.independent_slots
    answering = [
        name for name in config.estimators if verdicts[name].answers and (independent or name not in _MARGINAL)
    ]
    leading = answering[0] if answering else config.estimators[0]
    verdict: Verdict = believed(verdicts[leading], checks, config.wrong_below)
    if not answering and verdict.answers:
        verdict = Verdict("NOT IDENTIFIABLE", _NOT_MARGINAL[:1], _NOT_MARGINAL[1:])
    notes = [*log.notes, *target.notes, *range_notes(ends)]
    mean = float(log.reward.sum() / len(log.request_ids))
    estimates = []
    make = _maker(log, target, lists, ends, config, model)
    for name in config.estimators:
        if not verdict.answers:
            estimates.append(Estimate(name, _ABOUT[name], None, None, None, says="refused"))
        elif name in _MARGINAL and not independent:
            estimates.append(Estimate(name, _ABOUT[name], None, None, None, says=_NOT_MARGINAL[0]))
        elif not verdicts[name].answers:
            estimates.append(Estimate(name, _ABOUT[name], None, None, None, says=" ".join(verdicts[name].reasons)))
        else:
            estimates.append(make(name))
    best = next((one.estimator for one in estimates if one.low is not None), None)
    extras = {"lists": len(log.request_ids), "slots": lists.w.shape[1], "ess": {k: v.ess for k, v in overlaps.items()}}
    return Valued(
        target.name, verdict, tuple(estimates), overlaps[leading], tuple(checks), None, mean, best, tuple(notes), extras
    )


_NOT_MARGINAL = (
    "needs each slot's own propensities: the log's are given the slots above",
    "Log the marginal propensity of each item in each slot, or use rips.",
)


def _moments(name: str, lists: _Lists, *, full: bool) -> Moments:
    """Of the weights that a slot's reward gets, averaged over the slots: the design's where it is known."""
    n = np.array(float(len(lists.w)))
    slots = lists.shown.mean(0) / lists.shown.mean(0).sum()
    if name == "pi":
        w = pseudo_inverse_weights(lists.w, lists.shown)[:, :1]
        if full:
            second = 1.0 + np.where(lists.shown, lists.second - 1.0, 0.0).mean(0).sum()
            return Moments(n, n, n * second, n * np.maximum(np.mean(np.abs(w) ** 3), second**1.5))
        return Moments(n, np.array(w.sum()), np.array((w**2).sum()), np.array((np.abs(w) ** 3).sum()))
    if full:
        second, third = lists.second.mean(0), lists.third.mean(0)
        if name == "sips":
            second, third = np.full_like(second, second.prod()), np.full_like(third, third.prod())
        elif name != "iips":
            second, third = np.cumprod(second), np.cumprod(third)
        return Moments(n, n, n * (slots @ second), n * (slots @ third))
    w = _WEIGHTS[name](lists.w)
    w = np.where(lists.shown, w, 0.0)
    each = [slots @ (w**power).sum(0) for power in (1, 2, 3)]
    return Moments(n, each[0], each[1], each[2])


_WEIGHTS: dict[str, Callable[[F64], F64]] = {
    "sips": list_weights,
    "iips": item_weights,
    "rips": cascade_weights,
    "cascade-dr": cascade_weights,
}


def _with(rows: Overlap, found: Moments, lists: _Lists) -> Overlap:
    """The rows' overlap with the lists' sample sizes; by person where people come back, the more careful of the two."""
    ess, n3 = float(found.ess), float(found.n3)
    n = len(lists.w)
    if lists.unit is not None:
        by_person = summed(lists.unit, cascade_weights(lists.w)[:, -1], lists.n_units)
        ess = min(ess, float(by_person.sum() ** 2 / max((by_person**2).sum(), 1e-300)))
    return replace(rows, n=n, ess=ess if np.isfinite(ess) else 0.0, n3=n3 if np.isfinite(n3) else 0.0,
                   tail_weight=float(found.tail_weight))  # fmt: skip


def _independent(log: DecisionLog) -> bool:
    """Whether every slot of a request is offered the same actions with full propensities, so that none was used up."""
    if log.probabilities is None:
        return False
    mark = np.random.default_rng(0).random(len(log.actions))
    offers = summed(log.decision, mark[log.offered.values], len(log))
    same = np.diff(log.request) == 0
    return bool(np.allclose(np.diff(offers)[same], 0.0, atol=1e-9)) and not _never_twice(log)


def _never_twice(log: DecisionLog) -> bool:
    """Whether lists hold no item twice although chance would have put one there: 20 expected pairs or more."""
    p = log.probabilities
    if p is None:
        return True
    same = np.flatnonzero(np.diff(log.request) == 0)
    repeated = (log.chosen[same] == log.chosen[same + 1]).sum()
    sums = summed(log.decision, p**2, len(log))
    return bool(repeated == 0 and sums[same].sum() > 20)


def _maker(
    log: DecisionLog,
    target: Target,
    lists: _Lists,
    ends: tuple[float, float] | None,
    config: SlateConfig,
    model: RewardModel | None,
) -> Callable[[str], Estimate]:
    """A function from an estimator's name to its estimate."""

    def make(name: str) -> Estimate:
        weight = pseudo_inverse_weights(lists.w, lists.shown) if name == "pi" else _WEIGHTS[name](lists.w)
        residual, base, expected = lists.r, np.zeros(len(lists.w)), np.zeros(lists.w.shape[1])
        if name == "cascade-dr":
            residual, base, expected = _modelled(log, target, lists, config, model)
        tail = _tails(name, weight, lists, full=log.probabilities is not None)
        up, down = _slot_ends(residual, weight, lists.shown, tail, expected, ends)
        found = slate_interval(
            weight, residual, base, lists.shown, tail, up, down,
            normalised=name != "cascade-dr", unit=lists.unit, n_units=lists.n_units, level=config.level,
        )  # fmt: skip
        sizes = lists.shown.sum(1)
        low, high = (-np.inf, np.inf) if ends is None else (ends[0] * sizes.max(), ends[1] * sizes.max())
        if ends is not None and ends[0] >= 0:
            low = ends[0] * sizes.min()
        return Estimate(
            name, _ABOUT[name], float(found.estimate), float(np.clip(found.low, low, high)),
            float(np.clip(found.high, low, high)),
        )  # fmt: skip

    return make


def _tails(name: str, weight: F64, lists: _Lists, *, full: bool) -> F64:
    """(slots,) the weight at which each slot's variance sits, the design's or what came, whichever is more."""
    size = np.where(lists.shown, np.abs(weight), 0.0)
    if lists.unit is not None:
        by_unit = [summed(lists.unit, column, lists.n_units) for column in size.T]
        size = np.column_stack(by_unit)
    square = (size**2).sum(0)
    came = np.divide((size**3).sum(0), square, out=np.zeros_like(square), where=square > 0)
    if not full or name == "pi":
        return came
    slot = lists.third.mean(0) / lists.second.mean(0)
    designed = {"sips": np.full_like(slot, slot.prod()), "iips": slot}.get(name, np.cumprod(slot))
    return np.maximum(came, designed)


def _slot_ends(
    residual: F64, weight: F64, shown: BoolArray, tail: F64, expected: F64, ends: tuple[float, float] | None
) -> tuple[F64, F64]:
    if ends is not None:
        return ends[1] - expected, ends[0] - expected
    up, down = np.zeros_like(tail), np.zeros_like(tail)
    for slot in range(len(tail)):
        some = shown[:, slot]
        w, e = np.abs(weight[some, slot]), residual[some, slot]
        up[slot], down[slot] = reward_tails(e, w, tail[slot], (w * e).sum() / max(w.sum(), 1e-300))
    return up, down


def _modelled(
    log: DecisionLog, target: Target, lists: _Lists, config: SlateConfig, model: RewardModel | None
) -> tuple[F64, F64, F64]:
    """Residuals, the model's part by request, and the model's mean by slot. Source: Kiyohara et al. 2022, eq. 8.

    Q of a slot = its own expected reward + the mean of what the slots below it earn, each from the other parts.
    """
    slot = slot_of(log)
    slots = lists.w.shape[1]
    apart = replace(
        log,
        context=(np.maximum(log.context, 0) * slots + slot).astype(np.int32),
        contexts=[text for text in (log.contexts or [""]) for _ in range(slots)],
    )
    q_pairs = cross_fitted(apart, model or TabularRewards(), config.folds, config.seed)
    own = summed(log.decision, target.probabilities * q_pairs, len(log))
    fold = folds_of(log, config.folds, config.seed)[log.unit]
    later = np.zeros(len(log))
    for one in range(config.folds):
        train = fold != one
        count = np.bincount(slot[train], minlength=slots)
        mean = summed(slot[train], own[train], slots) / np.maximum(count, 1)
        below = np.append(np.cumsum(mean[::-1])[::-1][1:], 0.0)
        later[fold == one] = below[slot[fold == one]]
    # A list that ends earlier earns nothing further down.
    ends_at = np.bincount(log.request)[log.request]
    if ends_at.min() < slots:
        mean = summed(slot, own, slots) / np.maximum(np.bincount(slot, minlength=slots), 1)
        tail = np.append(0.0, np.cumsum(mean))
        later = np.maximum(later - (tail[slots] - tail[ends_at]), 0.0)
    q = lists.padded(log, q_pairs[log.place] + later)
    v = lists.padded(log, own + later)
    above = np.concatenate([np.ones((len(lists.w), 1)), cascade_weights(lists.w)[:, :-1]], axis=1)
    base = np.where(lists.shown, above * v, 0.0).sum(1)
    shown = np.maximum(lists.shown.sum(0), 1)
    return np.where(lists.shown, lists.r - q, 0.0), base, np.where(lists.shown, v, 0.0).sum(0) / shown
