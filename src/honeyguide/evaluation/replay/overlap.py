"""Overlap of two policies on a log, and the verdict: what the design of the log can carry, whatever was earned."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from honeyguide.contracts import F64
from honeyguide.evaluation.replay.log import DecisionLog
from honeyguide.evaluation.replay.policy import Target
from honeyguide.kernels.ope_values import Moments, design_moments, empirical_moments, summed

__all__ = ["BINS", "Overlap", "Verdict", "judge", "overlap"]

BINS = (0.0, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
"""Lower ends of the overlap chart's bins of weight."""

_NONE = 1e-9


@dataclass(frozen=True, slots=True)
class Overlap:
    """How much of the target the log has seen. All from the two policies' probabilities, nothing from rewards."""

    n: int
    units: int
    ess: float  # decisions' worth of the target in the log
    n3: float  # decisions that carry the third moment of the weights
    tail_weight: float
    largest: float
    mean_weight: float  # of what happened; 1 is expected
    unsupported: float  # share of the target's choices that the log could not make
    unsupported_actions: tuple[tuple[str, float], ...]  # which, and their shares, most first
    verified: bool  # full propensities were logged
    shares: tuple[tuple[float, float, float], ...]  # bin's lower end, share of the log, share of the target


@dataclass(frozen=True, slots=True)
class Verdict:
    """`IDENTIFIABLE`, `UNVERIFIED` (full propensities missing) or `NOT IDENTIFIABLE`, with reasons and what to log."""

    name: str
    reasons: tuple[str, ...]
    advice: tuple[str, ...]

    @property
    def answers(self) -> bool:
        """Whether a number may be said."""
        return self.name != "NOT IDENTIFIABLE"


def moments(log: DecisionLog, target: Target, w: F64) -> Moments:
    """The design's where the full propensities are known, else those of the weights that happened."""
    if log.probabilities is None:
        return empirical_moments(w)
    return design_moments(target.probabilities, log.probabilities, n=float(len(log)))


def _by_unit(log: DecisionLog, w: F64) -> Moments:
    """Moments of the units' sums of weights, in decisions: what is independent, where people come back."""
    return empirical_moments(summed(log.unit, w, log.n_units))


def overlap(log: DecisionLog, target: Target) -> Overlap:
    """The figures of the verdict and of the chart."""
    w = target.probabilities[log.place] / log.propensity
    known = moments(log, target, w)
    happened = _by_unit(log, w) if log.n_units < len(log) else empirical_moments(w)
    missing = target.elsewhere.sum()
    by_action = np.zeros(len(log.actions))
    if log.probabilities is not None:
        out = log.probabilities <= 0
        by_action += np.bincount(log.offered.values[out], target.probabilities[out], len(log.actions))
    else:
        # Only what was chosen is known to be possible: what never was chosen anywhere is not.
        never = np.bincount(log.chosen, minlength=len(log.actions)) == 0
        out = never[log.offered.values]
        by_action += np.bincount(log.offered.values[out], target.probabilities[out], len(log.actions))
    n = len(log)
    order = np.argsort(-by_action, kind="stable")
    named = [(log.actions[place], float(by_action[place] / n)) for place in order[:5] if by_action[place] > _NONE * n]
    if missing > _NONE * n:
        named.append(("not offered", float(missing / n)))
    bins = np.searchsorted(np.array(BINS), w, side="right") - 1
    of_log = np.bincount(bins, minlength=len(BINS)) / n
    of_target = np.bincount(bins, w, len(BINS)) / max(w.sum(), _NONE)
    share = float((by_action.sum() + missing) / n)
    ess, n3 = _number(known.ess), _number(known.n3)
    if log.n_units < n:
        ess, n3 = min(ess, _number(happened.ess)), min(n3, _number(happened.n3))
    return Overlap(
        n, log.n_units, ess, n3, max(_number(known.tail_weight), _number(happened.tail_weight)),
        float(w.max()), float(w.mean()), share if share > 1e-7 else 0.0, tuple(named), log.probabilities is not None,
        tuple((low, float(a), float(b)) for low, a, b in zip(BINS, of_log, of_target, strict=True)),
    )  # fmt: skip


def judge(found: Overlap, *, ess_least: float, n3_least: float, unsupported_most: float) -> Verdict:
    """The verdict on design quantities alone: refusing on the outcomes seen would select the lucky logs."""
    reasons, advice = [], []
    if found.unsupported > unsupported_most:
        most = ", ".join(f"{name} {share:.1%}" for name, share in found.unsupported_actions)
        reasons.append(f"{found.unsupported:.1%} of the target's choices had no chance in the log ({most}).")
        advice.append(
            "Give these actions a small chance in the logging policy (such as epsilon-greedy over what is offered), "
            "or value a policy that leaves them out."
        )
    if found.ess < ess_least or not np.isfinite(found.ess):
        reasons.append(f"The log is worth {_said(found.ess)} decisions of the target, under {ess_least:g}.")
        if found.ess > 0:
            more = ess_least / found.ess
            advice.append(f"Log about {more:.1f} times as many decisions, or log a policy nearer to the target.")
    if found.n3 < n3_least or not np.isfinite(found.n3):
        reasons.append(
            f"Rare weights of about {found.tail_weight:.3g} decide: the log holds {_said(found.n3)} decisions' worth "
            f"of them, under {n3_least:g}."
        )
        advice.append("Raise the least propensity of what the target likes, or log longer.")
    if reasons:
        return Verdict("NOT IDENTIFIABLE", tuple(reasons), tuple(dict.fromkeys(advice)))
    if not found.verified:
        return Verdict(
            "UNVERIFIED",
            ("Only the chosen action's propensity was logged: the weights' tails are guessed from those that came.",),
            ("Log the probability of every offered action (`offered`, `probabilities`): then the interval is sure.",),
        )
    return Verdict("IDENTIFIABLE", (), ())


def _number(value: F64) -> float:
    number = float(value)
    return number if np.isfinite(number) else 0.0


def _said(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"
