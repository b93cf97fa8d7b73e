"""Whether the log keeps its word: tests whose failure makes every estimate worthless."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from honeyguide.contracts import I64
from honeyguide.evaluation.replay.log import DecisionLog
from honeyguide.evaluation.replay.policy import Target
from honeyguide.kernels.ope_checks import Test, frequency_test, inverse_frequency_test, weight_mean_test
from honeyguide.kernels.ope_values import summed

__all__ = ["Check", "check_log"]

_GROUPS = 12  # values of one fact that are tested; the others count together
_FALSE_FLAGS = 0.05  # of a sound log, over all checks together
_PAIRS = 8_000_000  # above, a sample of decisions is tested


@dataclass(frozen=True, slots=True)
class Check:
    """One question to the log. `p_value` is adjusted for the others (Holm); nan: could not be asked."""

    name: str  # a stable code
    p_value: float
    flagged: bool
    says: str


def check_log(log: DecisionLog, target: Target | None = None) -> list[Check]:
    """All that can be asked of this log; together they flag a sound log in 5 % of cases.

    `propensities`: actions are chosen as often as logged. `weights`: the target's weights average 1.
    `depends-on:FACT`: the choice does not depend on a fact beyond the logged propensity, fact by fact: each key of the
    context, the time, the slot, what the same person chose and earned before. `one-policy`: decisions that look alike
    were not drawn from a few different sets of propensities.
    """
    part = _sample(log)
    tests: list[tuple[str, Test, str]] = []
    if log.probabilities is not None:
        decision = log.decision
        everybody = np.where(part, 0, -1)
        tests.append(("propensities", _frequency(log, decision, everybody, 1, part), ""))
        for fact, group, n_groups in _groups(log):
            tests.append((f"depends-on:{fact}", _frequency(log, decision, group, n_groups, part), fact))
        if target is not None:
            tests.append(("weights", _weights(log, target), ""))
    else:
        tests.append(("propensities", _excess(log), ""))
    adjusted = _holm([test.p_value for _, test, _ in tests])
    checks = [
        Check(name, p, bool(p < _FALSE_FLAGS), _says(log, name, test, p, fact))
        for (name, test, fact), p in zip(tests, adjusted, strict=True)
    ]
    return [*checks, _one_policy(log)]


def _sample(log: DecisionLog) -> npt.NDArray[np.bool_]:
    if len(log.offered.values) <= _PAIRS:
        return np.ones(len(log), np.bool_)
    kept = max(int(len(log) * _PAIRS / len(log.offered.values)), 1)
    part = np.zeros(len(log), np.bool_)
    part[np.random.default_rng(0).choice(len(log), kept, replace=False)] = True
    return part


def _frequency(log: DecisionLog, decision: I64, group: I64, n_groups: int, part: npt.NDArray[np.bool_]) -> Test:
    if log.probabilities is None:
        return Test(np.nan, np.nan, 0, -1)
    group = np.where(part, group, -1)
    return frequency_test(decision, log.offered.values, log.probabilities, log.place, group, n_groups)


def _excess(log: DecisionLog) -> Test:
    """The inverse-frequency test over all decisions and within each value of each fact; the worst, corrected."""
    k, decision = len(log.actions), log.decision
    found = []
    for group, n_groups in [(np.zeros(len(log), np.int64), 1), *((group, n) for _, group, n in _groups(log))]:
        offers = np.bincount(group[decision] * k + log.offered.values, minlength=n_groups * k).astype(np.float64)
        test = inverse_frequency_test(group * k + log.chosen, log.propensity, offers)
        if np.isfinite(test.p_value):
            found.append(test)
    if not found:
        return Test(np.nan, np.nan, 0, -1)
    worst = min(found, key=lambda test: test.p_value)
    return worst._replace(p_value=min(1.0, worst.p_value * len(found)))


def _weights(log: DecisionLog, target: Target) -> Test:
    p0 = log.probabilities
    if p0 is None:
        return Test(np.nan, np.nan, 0, -1)
    decision, p1, n = log.decision, target.probabilities, len(log)
    supported = p0 > 0
    second = np.divide(p1**2, p0, out=np.zeros_like(p1), where=supported)
    expected = summed(decision, np.where(supported, p1, 0.0), n)
    return weight_mean_test(p1[log.place] / p0[log.place], expected, summed(decision, second, n))


def _groups(log: DecisionLog) -> list[tuple[str, I64, int]]:
    """What was known before each choice, coded: name, (n,) group, how many groups."""
    found = []
    for key, (codes, names) in log.facts.codes.items():
        if len(names) >= 1:
            found.append((key, *_common(codes.astype(np.int64), len(names))))
    for key, values in log.facts.numbers.items():
        found.append((key, *_quarters(values)))
    if log.at is not None:
        found.append(("time", *_quarters(log.at.astype(np.float64))))
    if log.is_slates:
        found.append(("slot", *_common(log.position.astype(np.int64), int(log.position.max()) + 1)))
    if log.n_units < len(log.request_ids):
        before = _before(log)
        if before is not None:
            found.append(("reward before", before, 3))
    return [one for one in found if one[2] > 1]


def _common(codes: I64, n: int) -> tuple[I64, int]:
    """The commonest values one group each, the rest and the unknown two more."""
    count = np.bincount(codes[codes >= 0], minlength=n)
    kept = np.argsort(-count, kind="stable")[:_GROUPS]
    new = np.full(n + 1, len(kept))
    new[kept] = np.arange(len(kept))
    new[n] = len(kept) + 1
    group = new[np.where(codes < 0, n, codes)]
    used, dense = np.unique(group, return_inverse=True)
    return dense.astype(np.int64), len(used)


def _quarters(values: npt.NDArray[np.float64]) -> tuple[I64, int]:
    known = np.isfinite(values)
    if not known.any():
        return np.zeros(len(values), np.int64), 1
    ends = np.unique(np.quantile(values[known], [0.25, 0.5, 0.75]))
    group = np.where(known, np.searchsorted(ends, values, side="right"), len(ends) + 1)
    used, dense = np.unique(group, return_inverse=True)
    return dense.astype(np.int64), len(used)


def _before(log: DecisionLog) -> I64 | None:
    """0: the unit's first request, 1: its request before earned less than the median, 2: more. A negative control."""
    if log.at is None:
        return None
    total = np.bincount(log.request, log.reward)
    unit = np.zeros(len(total), np.int64)
    at = np.zeros(len(total), np.int64)
    unit[log.request], at[log.request] = log.unit, log.at
    order = np.lexsort((at, unit))
    again = np.zeros(len(total), np.bool_)
    again[1:] = unit[order][1:] == unit[order][:-1]
    if again.sum() < 20:
        return None
    group = np.zeros(len(total), np.int64)
    earlier = total[order][:-1][again[1:]]
    group[order[again]] = 1 + (earlier > np.median(total))
    return group[log.request]


def _one_policy(log: DecisionLog) -> Check:
    """A few sets of propensities for decisions that look alike are a few policies, not one that reads its context."""
    p = log.probabilities
    if p is None:
        key = np.column_stack([log.context.astype(np.int64), log.chosen, log.position, np.round(log.propensity * 1e6)])
        alike, sets = key[:, :3], key
    else:
        rng = np.random.default_rng(0)
        mark, salt = rng.random(len(log.actions)), rng.random(len(log.actions))
        decision = log.decision
        offers = np.round(np.bincount(decision, mark[log.offered.values], len(log)) * 1e6)
        vector = np.round(np.bincount(decision, salt[log.offered.values] * p, len(log)) * 1e6)
        alike = np.column_stack([log.context.astype(np.int64), offers.astype(np.int64), log.position])
        sets = np.column_stack([alike, vector])
    _, group = np.unique(alike, axis=0, return_inverse=True)
    _, first = np.unique(sets, axis=0, return_index=True)
    rows = np.bincount(group)
    ways = np.bincount(group[first], minlength=len(rows))
    common = rows >= 20
    few = common & (ways >= 2) & (ways <= 4)
    share = float(rows[few].sum() / max(rows[common].sum(), 1))
    flagged = bool(common.any() and share >= 0.5)
    says = (
        f"In {share:.0%} of the decisions that look alike the propensities are one of two to four sets: this looks "
        "like several policies in one log. Name them in `policy_version` and value each apart."
        if flagged
        else "The propensities look like those of one policy."
        if common.any()
        else "Too few decisions look alike to tell whether one policy made them."
    )
    return Check("one-policy", float("nan"), flagged, says)


def _holm(p_values: list[float]) -> list[float]:
    """Adjusted p-values; nan stays out. Source: Holm 1979."""
    known = [place for place, p in enumerate(p_values) if np.isfinite(p)]
    order = sorted(known, key=lambda place: p_values[place])
    adjusted, running = list(p_values), 0.0
    for rank, place in enumerate(order):
        running = max(running, min(1.0, p_values[place] * (len(order) - rank)))
        adjusted[place] = running
    return adjusted


def _says(log: DecisionLog, name: str, test: Test, p: float, fact: str) -> str:
    if not np.isfinite(p):
        return "Too little is known to ask."
    flagged = p < _FALSE_FLAGS
    if name == "weights":
        return (
            "The target's weights do not average what the logged propensities promise: they are wrong where it differs."
            if flagged
            else "The target's weights average what the logged propensities promise."
        )
    worst = log.actions[test.worst % len(log.actions)] if test.worst >= 0 else "none"
    if name == "propensities":
        return (
            f"Actions were not chosen as often as logged (most so: {worst}): the propensities are wrong, or rows are "
            "missing."
            if flagged
            else "Actions were chosen as often as logged."
        )
    return (
        f"The choice depends on `{fact}` beyond the logged propensity: if rewards do too, every estimate is biased."
        if flagged
        else f"The choice does not depend on `{fact}` beyond the logged propensity."
    )
