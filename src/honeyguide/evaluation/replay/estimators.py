"""A target policy valued on a log: every estimator beside the others, with intervals, checks and a verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from honeyguide.contracts import F64
from honeyguide.errors import DataError
from honeyguide.evaluation.replay.checks import Check, check_log
from honeyguide.evaluation.replay.log import DecisionLog
from honeyguide.evaluation.replay.overlap import Overlap, Verdict, judge, moments, overlap
from honeyguide.evaluation.replay.policy import Target
from honeyguide.evaluation.replay.rewards import RewardModel, chosen_model, cross_fitted
from honeyguide.evaluation.replay.tuning import Tuned, design_tuned, slope_tuned
from honeyguide.kernels.intervals import Intervals
from honeyguide.kernels.ope_intervals import reward_tails, tail_interval
from honeyguide.kernels.ope_values import Moments, direct, doubly_robust, empirical_moments, gather, ips, snips, summed
from honeyguide.schema import columns as c
from honeyguide.schema.tables import REPLAY_VALUE

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["ESTIMATORS", "Estimate", "Estimator", "OpeConfig", "Valued", "evaluate", "rewards_range", "value_table"]

Estimator = Literal["ips", "snips", "dm", "dr", "sndr", "dros", "switch"]
ESTIMATORS: tuple[Estimator, ...] = ("snips", "dr", "sndr", "ips", "dros", "switch", "dm")
"""All, the most trustworthy first."""

_ABOUT = {
    "ips": "as snips, divided by the number of decisions",
    "snips": "rewards weighed by the propensities, divided by the sum of weights",
    "dm": "a reward model's word alone; no interval, for its error cannot be known",
    "dr": "a reward model, corrected by weighed residuals",
    "sndr": "as dr, the correction divided by the sum of weights",
    "dros": "as dr with large weights shrunk; the interval holds their bias",
    "switch": "as dr with weights above a limit left to the model; the interval holds their bias",
}


class OpeConfig(BaseModel):
    """How a policy is valued. Nothing here depends on the rewards seen."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    estimators: tuple[Estimator, ...] = ESTIMATORS
    level: float = Field(default=0.95, gt=0.5, lt=1.0)
    reward_range: tuple[float, float] | None = None  # the least and most a decision can earn; None: rewards of 0 and 1
    folds: int = Field(default=5, ge=2, le=50)
    tuning: Literal["design", "slope"] = "design"
    ess_least: float = Field(default=100.0, ge=2.0)  # decisions
    n3_least: float = Field(default=25.0, ge=1.0)  # decisions
    unsupported_most: float = Field(default=1e-6, ge=0.0, le=1.0)  # share of the target's choices
    wrong_below: float = Field(default=0.001, ge=0.0, le=1.0)  # p-value of the propensities that ends in a refusal
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Estimate:
    """One estimator's word; None where it has none."""

    estimator: str
    about: str
    estimate: float | None
    low: float | None
    high: float | None
    parameter: float | None = None
    says: str = ""


@dataclass(frozen=True, slots=True)
class Valued:
    """All that is known of the target's value on this log."""

    policy: str
    verdict: Verdict
    estimates: tuple[Estimate, ...]
    overlap: Overlap
    checks: tuple[Check, ...]
    bounds: tuple[float, float] | None  # what the unsupported part leaves open, where that is all that can be said
    logged_value: float  # the mean reward of the log: what the logging policy earned
    best: str | None  # the estimator to read first
    notes: tuple[str, ...] = ()
    extras: Mapping[str, Any] = field(default_factory=dict)

    @property
    def flags(self) -> list[Check]:
        """The checks that failed."""
        return [check for check in self.checks if check.flagged]


def rewards_range(log: DecisionLog, told: tuple[float, float] | None) -> tuple[float, float] | None:
    """The range of a decision's reward: as told, or 0 and 1 if nothing else came; DataError where it cannot be."""
    least, most = float(log.reward.min()), float(log.reward.max())
    if told is not None:
        low, high = told
        if not low < high or least < low or most > high:
            raise DataError(
                expected=f"rewards between {low:g} and {high:g}, as told",
                got=f"rewards from {least:g} to {most:g}",
                do="Give the true range with --reward-range.",
            )
        return low, high
    if least == most:
        raise DataError(
            expected="rewards that differ",
            got=f"{least:g} in each of {len(log):,} rows",
            do="Check the join of rewards; if all truly are alike, tell what could have come: --reward-range 0 1.",
        )
    return (0.0, 1.0) if np.isin(log.reward, (0.0, 1.0)).all() else None


def evaluate(
    log: DecisionLog, target: Target, config: OpeConfig | None = None, *, model: RewardModel | None = None
) -> Valued:
    """Value `target` on a log of single choices (see `slates.evaluate_slates` for lists).

    model: of rewards, default by `chosen_model`; cross-fitted by unit. Raises DataError for a log without spread.
    """
    config = config or OpeConfig()
    ends = rewards_range(log, config.reward_range)
    found = overlap(log, target)
    verdict = judge(
        found, ess_least=config.ess_least, n3_least=config.n3_least, unsupported_most=config.unsupported_most
    )
    checks = check_log(log, target)
    verdict = believed(verdict, checks, config.wrong_below)
    notes = [*log.notes, *target.notes, *range_notes(ends)]
    mean = float(log.reward.mean())
    if not verdict.answers:
        silent = tuple(Estimate(name, _ABOUT[name], None, None, None, says="refused") for name in config.estimators)
        bounds = _bounds(log, target, found, ends, config)
        return Valued(target.name, verdict, silent, found, tuple(checks), bounds, mean, None, tuple(notes))
    chosen = model or chosen_model(log)
    needs_model = set(config.estimators) & {"dm", "dr", "sndr", "dros", "switch"}
    q_pairs = cross_fitted(log, chosen, config.folds, config.seed) if needs_model else np.zeros(len(log.offered.values))
    case = _Case.of(log, target, q_pairs, ends, config)
    estimates = tuple(case.estimate(name) for name in config.estimators)
    if needs_model:
        notes.append(f"Reward model: {chosen.name}, cross-fitted over {config.folds} parts.")
    notes += _influence_notes(case)
    best = next((one.estimator for one in estimates if one.low is not None), None)
    return Valued(target.name, verdict, estimates, found, tuple(checks), None, mean, best, tuple(notes))


def value_table(values: Sequence[Valued], metric: str, units: int | None = None) -> pa.Table:
    """Rows of the ReplayValue table: one per policy and estimator that gave a number."""
    import pyarrow as pa

    rows = [
        {
            c.SYSTEM: valued.policy,
            c.METRIC: f"{metric} ({one.estimator})",
            c.ESTIMATE: one.estimate,
            c.LOW: one.low,
            c.HIGH: one.high,
            c.N: units or valued.overlap.units,
        }
        for valued in values
        for one in valued.estimates
        if one.estimate is not None
    ]
    return pa.Table.from_pylist(rows, schema=REPLAY_VALUE.arrow())


# -------------------------------------------------------------------------------------------------------- parts


@dataclass(frozen=True, slots=True)
class _Case:
    """The arrays that all estimators share."""

    log: DecisionLog
    target: Target
    w: F64
    q: F64  # (n,)
    v: F64  # (n,)
    q_pairs: F64
    moments: Moments
    ends: tuple[float, float] | None
    config: OpeConfig

    @classmethod
    def of(
        cls, log: DecisionLog, target: Target, q_pairs: F64, ends: tuple[float, float] | None, config: OpeConfig
    ) -> _Case:
        w = target.probabilities[log.place] / log.propensity
        v = summed(log.decision, target.probabilities * q_pairs, len(log))
        return cls(log, target, w, q_pairs[log.place], v, q_pairs, moments(log, target, w), ends, config)

    def estimate(self, name: str) -> Estimate:
        if name == "dm":
            return Estimate(name, _ABOUT[name], float(direct(self.v)), None, None, says="no interval")
        if name in ("dros", "switch"):
            return self._shrunk(name)
        w, r, q, v = self.w, self.log.reward, self.q, self.v
        normalised = name in ("snips", "sndr")
        if name in ("ips", "snips"):
            q, v = np.zeros_like(w), np.zeros_like(w)
        interval = self._interval(w, r - q, v, normalised=normalised)
        plain = {"ips": ips(w, r), "snips": snips(w, r), "dr": doubly_robust(w, r, q, v)}.get(name, interval.estimate)
        return self._made(name, float(plain), interval)

    def _interval(self, w: F64, residual: F64, v: F64, *, normalised: bool) -> Intervals:
        log = self.log
        clustered = log.n_units < len(log)
        sums = gather(w * residual, w, v, log.unit if clustered else None, log.n_units)
        tail = max(_finite(self._moments(w).tail_weight), _finite(empirical_moments(sums.weight).tail_weight))
        up, down = self._residual_ends(w, residual, v, tail, normalised=normalised)
        return tail_interval(sums, tail, up, down, normalised=normalised, level=self.config.level)

    def _moments(self, w: F64) -> Moments:
        """The design's for the plain weights, those that happened for shrunken ones (which are never larger)."""
        return self.moments if w is self.w else empirical_moments(w)

    def _residual_ends(self, w: F64, residual: F64, v: F64, tail: float, *, normalised: bool) -> tuple[float, float]:
        if self.ends is not None:
            model = float(v.mean())
            return self.ends[1] - model, self.ends[0] - model
        size = w.sum() if normalised else float(len(w))
        up, down = reward_tails(residual, w, tail, (w * residual).sum() / max(size, 1e-300))
        return float(up), float(down)

    def _shrunk(self, name: str) -> Estimate:
        tuned = self._tune(name)
        g, w = tuned.weights, self.w
        interval = self._interval(g, self.log.reward - self.q, self.v, normalised=False)
        up, down = self._residual_ends(
            w, self.log.reward - self.q, self.v, _finite(self.moments.tail_weight), normalised=False
        )
        # What the weights lost, at worst all of it at the best or the worst reward.
        biased = Intervals(
            interval.estimate, interval.low + tuned.lost * min(down, 0.0), interval.high + tuned.lost * max(up, 0.0)
        )
        return self._made(name, float(interval.estimate), biased, tuned.parameter)

    def _tune(self, name: str) -> Tuned:
        if self.config.tuning == "slope":
            return slope_tuned(name, self.log, self.target, self.w, self.q, self.v)
        return design_tuned(name, self.log, self.target, self.w)

    def _made(self, name: str, estimate: float, interval: Intervals, parameter: float | None = None) -> Estimate:
        least, most = self.ends or (-np.inf, np.inf)
        low, high = (float(np.clip(end, least, most)) for end in (interval.low, interval.high))
        return Estimate(name, _ABOUT[name], estimate, low, high, parameter)


def believed(verdict: Verdict, checks: Sequence[Check], wrong_below: float) -> Verdict:
    """A log whose propensities are wrong beyond doubt answers nothing."""
    wrong = [check for check in checks if check.name == "propensities" and check.p_value < wrong_below]
    if not wrong:
        return verdict
    advice = "Find what draws the actions, and log the probabilities it draws from, row by row."
    return Verdict("NOT IDENTIFIABLE", (*verdict.reasons, wrong[0].says), (*verdict.advice, advice))


def _bounds(
    log: DecisionLog, target: Target, found: Overlap, ends: tuple[float, float] | None, config: OpeConfig
) -> tuple[float, float] | None:
    """What is left open where some of the target has no support: the supported part's interval, the rest anything.

    Source: Manski 1990. None where the range is unknown or the supported part cannot be valued either.
    """
    part = judge(found, ess_least=config.ess_least, n3_least=config.n3_least, unsupported_most=1.0)
    if ends is None or not part.answers or not 0 < found.unsupported < 1:
        return None
    case = _Case.of(log, target, np.zeros(len(log.offered.values)), ends, config)
    one = case.estimate("snips")
    if one.low is None or one.high is None:
        return None
    share = found.unsupported
    return (1 - share) * one.low + share * ends[0], (1 - share) * one.high + share * ends[1]


def range_notes(ends: tuple[float, float] | None) -> list[str]:
    """A sentence where nobody told the rewards' range."""
    if ends is not None:
        return []
    return [
        "The rewards' range was not told: a reward much larger than any seen would be outside the intervals. "
        "Tell it with --reward-range, or cap the reward."
    ]


def _influence_notes(case: _Case) -> list[str]:
    """One decision that carries much of the figure is worth a sentence, and no more: it does not refuse."""
    share = np.abs(case.w * case.log.reward)
    total = share.sum()
    if total > 0 and share.max() > 0.1 * total:
        return [f"One decision carries {share.max() / total:.0%} of the weighed reward."]
    return []


def _finite(value: F64 | float) -> float:
    number = float(value)
    return number if np.isfinite(number) else 0.0
