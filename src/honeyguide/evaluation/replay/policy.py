"""Target policies as probabilities of each offered action, aligned with a log's pairs."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import numpy as np

from honeyguide.contracts import F64, I64
from honeyguide.errors import DataError
from honeyguide.evaluation.replay.log import DecisionLog
from honeyguide.kernels.ope_values import summed

__all__ = ["PolicyTable", "Target", "best_of", "context_rows", "logging", "tabled", "uniform"]

_NEAR = 1e-4


@dataclass(frozen=True, slots=True)
class Target:
    """What the policy would do at each decision of one log."""

    name: str
    probabilities: F64  # (pairs,) of each offered action, in the order of log.offered.values
    elsewhere: F64  # (n,) probability of actions that were not offered
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PolicyTable:
    """A policy as rows: under this key (a request, a context, "" for all) this action has this probability."""

    keys: list[str]
    actions: list[str]
    probabilities: F64


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


def tabled(log: DecisionLog, name: str, table: PolicyTable, of: I64, keys: list[str], *, renormalise: bool) -> Target:
    """A table of probabilities; decision i uses the rows whose key is `keys[of[i]]`.

    An action that a key leaves out has probability zero; each key that is used must sum to 1. Mass on actions that were
    not offered is counted in `elsewhere`, or spread over the offered in proportion with `renormalise`.
    """
    p = table.probabilities
    bad = np.flatnonzero(~((p >= 0) & (p <= 1 + _NEAR)))
    if len(bad):
        raise DataError(
            expected="the policy's probabilities to lie between 0 and 1",
            got=f"{p[bad[0]]} for {table.actions[bad[0]]!r}",
            do="Give each action's probability.",
        )
    key_code = {key: place for place, key in enumerate(keys)}
    action_code = {action: place for place, action in enumerate(log.actions)}
    key = np.array([key_code.get(one, -1) for one in table.keys], np.int64)
    action = np.array([action_code.get(one, -1) for one in table.actions], np.int64)
    total = summed(key[key >= 0], p[key >= 0], len(keys))
    used = np.unique(of)
    off = used[np.abs(total[used] - 1) > _NEAR]
    if len(off):
        raise DataError(
            expected="the policy's probabilities to sum to 1 for each decision",
            got=f"{total[off[0]]:.6g} for {keys[off[0]]!r}" + (f" and {len(off) - 1:,} more" if len(off) > 1 else ""),
            do="Give every action it may choose, and a row for every decision of the log.",
        )
    known = np.flatnonzero((key >= 0) & (action >= 0))
    code = key[known] * len(log.actions) + action[known]
    order = np.argsort(code, kind="stable")
    ordered, values = code[order], p[known][order]
    if (np.diff(ordered) == 0).any():
        twice = int(ordered[1:][np.diff(ordered) == 0][0])
        raise DataError(
            expected="each action once for a decision",
            got=f"{log.actions[twice % len(log.actions)]!r} twice for {keys[twice // len(log.actions)]!r}",
            do="Sum its probabilities into one row.",
        )
    decision = log.decision
    wanted = of[decision] * len(log.actions) + log.offered.values
    at = np.minimum(np.searchsorted(ordered, wanted), max(len(ordered) - 1, 0))
    probabilities = np.where(ordered[at] == wanted, values[at], 0.0) if len(ordered) else np.zeros(len(wanted))
    inside = summed(decision, probabilities, len(log))
    unknown = sorted({str(table.actions[place]) for place in np.flatnonzero((action < 0) & (p > 0))})
    more = "" if len(unknown) <= 3 else " ..."
    notes = (
        [f"{len(unknown):,} actions of the policy are not in the log: {', '.join(unknown[:3])}{more}."]
        if unknown
        else []
    )
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
        return np.where(log.context < 0, len(names) - 1, log.context).astype(np.int64), names
    if key in log.facts.codes:
        codes, values = log.facts.codes[key]
        return np.where(codes < 0, len(values), codes).astype(np.int64), [*values, ""]
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
