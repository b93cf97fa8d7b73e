"""Target policies as probabilities of each offered action, aligned with a log's pairs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
import numpy as np

from honeyguide.contracts import F64, I64
from honeyguide.errors import DataError
from honeyguide.evaluation.replay.log import DecisionLog

__all__ = ["Target", "best_of", "logging", "tabled", "uniform"]

_NEAR = 1e-4


@dataclass(frozen=True, slots=True)
class Target:
    """What the policy would do at each decision of one log."""

    name: str
    probabilities: F64  # (pairs,) of each offered action, in the order of log.offered.values
    elsewhere: F64  # (n,) probability of actions that were not offered
    notes: tuple[str, ...] = ()


def uniform(log: DecisionLog) -> Target:
    """Every offered action alike."""
    sizes = np.diff(log.offered.indptr)
    return Target("uniform", np.repeat(1.0 / sizes, sizes), np.zeros(len(log)))


def logging(log: DecisionLog) -> Target:
    """The policy that wrote the log: its value is the mean reward, whatever the estimator.

    Needs the full propensities; with only the chosen action's the rest of each row is spread evenly, which changes no
    weight.
    """
    if log.probabilities is not None:
        return Target("logging", log.probabilities, np.zeros(len(log)))
    sizes = np.diff(log.offered.indptr)
    rest = np.where(sizes > 1, (1 - log.propensity) / np.maximum(sizes - 1, 1), 0.0)
    probabilities = np.repeat(rest, sizes)
    probabilities[log.place] = log.propensity
    return Target("logging", probabilities, np.zeros(len(log)))


def best_of(log: DecisionLog, name: str, scores: F64) -> Target:
    """The offered action with the highest score, always. scores: (pairs,); ties: the one offered first."""
    if len(scores) != len(log.offered.values) or not np.isfinite(scores).all():
        raise DataError(
            expected=f"{len(log.offered.values):,} finite scores in `{name}`, one for each offered action",
            got=f"{len(scores):,}, {int((~np.isfinite(scores)).sum()):,} of them not finite",
            do="Write a list of scores beside the list of offered actions.",
        )
    order = np.lexsort((np.arange(len(scores)), -scores, log.decision))
    probabilities = np.zeros(len(scores))
    probabilities[order[log.offered.indptr[:-1]]] = 1.0
    return Target(f"best-of:{name}", probabilities, np.zeros(len(log)))


def tabled(
    log: DecisionLog,
    name: str,
    rows: Mapping[str, Mapping[str, float]],
    of: I64,
    keys: list[str],
    *,
    renormalise: bool = False,
) -> Target:
    """A table: `rows[key]` holds an action's probability by name; decision i uses the row `keys[of[i]]`.

    A row may leave out actions (probability zero) and must sum to 1. Mass on actions that were not offered is counted
    in `elsewhere`, or spread over the offered in proportion with `renormalise`.
    """
    code = {action: place for place, action in enumerate(log.actions)}
    dense = np.zeros((len(keys), len(log.actions)))
    total = np.zeros(len(keys))
    unknown: dict[str, float] = {}
    for place, key in enumerate(keys):
        for action, probability in rows.get(key, {}).items():
            if not (np.isfinite(probability) and -1e-12 <= probability <= 1 + _NEAR):
                raise DataError(
                    expected="the policy's probabilities to lie between 0 and 1",
                    got=f"{probability} for {action!r} in the row {key!r}",
                    do="Give each action's probability.",
                )
            total[place] += probability
            if action in code:
                dense[place, code[action]] = max(probability, 0.0)
            elif probability > 0:
                unknown[action] = max(unknown.get(action, 0.0), probability)
    used = np.unique(of)
    off = used[np.abs(total[used] - 1) > _NEAR]
    if len(off):
        raise DataError(
            expected="the policy's probabilities to sum to 1 for each decision",
            got=f"{total[off[0]]:.6g} for {keys[off[0]]!r}" + (f" and {len(off) - 1:,} more" if len(off) > 1 else ""),
            do="Give every action it may choose, and a row for every decision of the log.",
        )
    decision = log.decision
    probabilities = dense[of[decision], log.offered.values]
    inside = np.bincount(decision, probabilities, len(log))
    notes = []
    if unknown:
        most = sorted(unknown, key=lambda one: -unknown[one])[:3]
        notes.append(f"{len(unknown):,} actions of the policy are not in the log: {', '.join(most)}.")
    if renormalise:
        if (inside <= 0).any():
            raise DataError(
                expected="the policy to choose one of the offered actions at every decision",
                got=f"{int((inside <= 0).sum()):,} of {len(log):,} decisions at which it chooses none of them",
                do="Give it probabilities for what is offered there.",
            )
        return Target(name, probabilities / inside[decision], np.zeros(len(log)), tuple(notes))
    elsewhere = np.maximum(1.0 - inside, 0.0)
    return Target(name, probabilities, np.where(elsewhere < _NEAR, 0.0, elsewhere), tuple(notes))


def context_rows(log: DecisionLog, key: str | None) -> tuple[I64, list[str]]:
    """Which row of a table each decision uses: the value of one key of its context, or its whole context (JSON)."""
    if key is None:
        names = [*(_canonical(text) for text in log.contexts), ""]
        return log.context.astype(np.int64) % len(names), names
    if key in log.facts.codes:
        codes, values = log.facts.codes[key]
        return codes.astype(np.int64) % (len(values) + 1), [*values, ""]
    if key in log.facts.numbers:
        values_, codes_ = np.unique(log.facts.numbers[key], return_inverse=True)
        return codes_.astype(np.int64), [f"{value:.15g}" for value in values_]
    raise DataError(
        expected=f"a key `{key}` in the log's contexts",
        got=", ".join([*log.facts.codes, *log.facts.numbers][:10]) or "contexts without keys",
        do="Name a key that the log has, or give the policy by request.",
    )


def _canonical(text: str) -> str:
    try:
        return msgspec.json.encode(msgspec.json.decode(text), order="sorted").decode()
    except msgspec.DecodeError:
        return text
