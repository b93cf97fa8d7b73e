"""The Open Bandit sample: 10,000 impressions of a random and a Thompson-sampling policy in each of three campaigns."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from honeyguide.evaluation.replay.estimators import OpeConfig, evaluate
from honeyguide.evaluation.replay.log import DecisionLog, decision_log, prepared
from honeyguide.evaluation.replay.policy import PolicyTable, tabled, uniform
from honeyguide.flows.ope.log import find_log
from honeyguide.kernels.intervals import wilson_interval

__all__ = ["both_ways"]

_CAMPAIGNS = ("all", "men", "women")
_EPS = 1e-12


def both_ways() -> dict[tuple[str, str], dict[str, float | None]]:
    """Per campaign and way: the SNIPS estimate, its ends and whether the log answers; what the policy's own log says.

    Thompson sampling's propensities changed with time; as a target it is what it chose on average in each slot, which
    its own log tells with an error that is small beside that of forty clicks.
    """
    found: dict[tuple[str, str], dict[str, float | None]] = {}
    for campaign in _CAMPAIGNS:
        table = find_log(Path("open-bandit"), reward="click", surface=campaign).table
        random, bts = (decision_log(prepared(table, f"open-bandit={policy}")) for policy in ("random", "bts"))
        found[campaign, "random-log/bts-policy"] = _value(random, _average(bts, random), bts)
        found[campaign, "bts-log/random-policy"] = _value(bts, None, random)
    return found


def _average(bts: DecisionLog, log: DecisionLog) -> PolicyTable:
    """How often each item stood in each slot, as a table by request of the other log."""
    by_slot: dict[int, Counter[str]] = {}
    for action, slot in zip(bts.chosen, bts.position, strict=True):
        by_slot.setdefault(int(slot), Counter())[bts.actions[action]] += 1
    rows = [
        (str(slot), action, count / sum(counts.values()))
        for slot, counts in by_slot.items()
        for action, count in counts.items()
    ]
    return PolicyTable([row[0] for row in rows], [row[1] for row in rows], np.array([row[2] for row in rows]))


def _value(log: DecisionLog, table: PolicyTable | None, own: DecisionLog) -> dict[str, float | None]:
    if table is None:
        target = uniform(log)
    else:
        slots = sorted(set(table.keys))
        of = np.searchsorted(np.array(slots), log.position.astype(str))
        target = tabled(log, "bts", table, of, slots, renormalise=False)
    sure = evaluate(log, target, OpeConfig(estimators=("snips",), reward_range=(0.0, 1.0)))
    # Where the design refuses, the interval that would have been given is shown all the same, as refused.
    wide = OpeConfig(
        estimators=("snips",), reward_range=(0.0, 1.0), ess_least=2, n3_least=1, unsupported_most=1.0, wrong_below=0.0
    )
    said = evaluate(log, target, wide).estimates[0]
    low, high = said.low or 0.0, said.high or 1.0
    truth = wilson_interval(own.reward.sum(), float(len(own)))
    width = (high - low) / (said.estimate or _EPS)
    return {
        "estimate": said.estimate, "low": low, "high": high, "width_over_estimate": width,
        "answered": float(sure.verdict.answers), "ess": sure.overlap.ess, "clicks": float(log.reward.sum()),
        "own": float(truth.estimate), "own_low": float(truth.low), "own_high": float(truth.high),
    }  # fmt: skip
