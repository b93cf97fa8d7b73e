"""Reward models for DM, DR and their kin, cross-fitted so that no decision judges itself."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from honeyguide.contracts import F64, I64, BoolArray
from honeyguide.evaluation.replay.log import DecisionLog
from honeyguide.kernels.ope_models import ridge, shrunken_means
from honeyguide.kernels.ope_values import summed

__all__ = [
    "GivenRewards",
    "RewardModel",
    "RidgeRewards",
    "TabularRewards",
    "chosen_model",
    "cross_fitted",
    "design",
    "folds_of",
]

_CELL = 10  # decisions a context needs on average to have cells of its own
_LEVELS = 30  # of one categorical key
_WIDTH = 400  # columns at most


class RewardModel(Protocol):
    """Learns from some decisions of a log what each offered action of others would earn."""

    name: str

    def predict(self, log: DecisionLog, train: BoolArray, pairs: I64) -> F64:
        """Expected reward (len(pairs),) of pairs (places in log.offered.values), learnt from the rows `train` (n,)."""
        ...


class TabularRewards:
    """Means by context and action, drawn to the action's mean and the log's. For contexts that come back."""

    name = "tabular"

    def __init__(self, strength: float = 20.0) -> None:
        self.strength = strength

    def predict(self, log: DecisionLog, train: BoolArray, pairs: I64) -> F64:
        """See RewardModel."""
        contexts = max(len(log.contexts), 1) + 1
        if contexts * _CELL > len(log):
            contexts = 1
        context = log.context.astype(np.int64) % contexts
        k = len(log.actions)
        cell = context[train] * k + log.chosen[train]
        n = np.bincount(cell, minlength=contexts * k).astype(np.float64).reshape(contexts, k)
        total = summed(cell, log.reward[train], contexts * k).reshape(contexts, k)
        means = shrunken_means(total, n, self.strength)
        return means[context[log.decision[pairs]], log.offered.values[pairs]]


class RidgeRewards:
    """Ridge regression on the contexts' keys, the actions, and their products where they are few."""

    name = "ridge"

    def __init__(self, strength: float = 10.0) -> None:
        self.strength = strength

    def predict(self, log: DecisionLog, train: BoolArray, pairs: I64) -> F64:
        """See RewardModel."""
        x = design(log)
        low, high = float(log.reward[train].min()), float(log.reward[train].max())
        k = min(len(log.actions), _WIDTH // 2)
        common = np.argsort(-np.bincount(log.chosen[train], minlength=len(log.actions)), kind="stable")[:k]
        code = np.full(len(log.actions), k)
        code[common] = np.arange(k)
        crossed = x.shape[1] > 0 and k * x.shape[1] <= _WIDTH

        def features(rows: I64, action: I64) -> F64:
            one = np.zeros((len(rows), k + 1))
            one[np.arange(len(rows)), code[action]] = 1.0
            parts = [x[rows], one[:, :k]]
            if crossed:
                parts.append((one[:, :k, None] * x[rows][:, None, :]).reshape(len(rows), -1))
            return np.concatenate(parts, axis=1)

        rows = np.flatnonzero(train)
        beta = ridge(features(rows, log.chosen[rows].astype(np.int64)), log.reward[rows], self.strength)
        found, decision = np.empty(len(pairs)), log.decision
        for start in range(0, len(pairs), 20_000):
            part = pairs[start : start + 20_000]
            these = features(decision[part], log.offered.values[part].astype(np.int64))
            found[start : start + 20_000] = these @ beta[:-1] + beta[-1]
        return np.clip(found, low, high)


class GivenRewards:
    """Rewards of every pair that some other model predicted; it must not have learnt from this log's rewards."""

    name = "given"

    def __init__(self, rewards: F64) -> None:
        self.rewards = rewards

    def predict(self, log: DecisionLog, train: BoolArray, pairs: I64) -> F64:
        """See RewardModel."""
        return self.rewards[pairs]


def chosen_model(log: DecisionLog) -> RewardModel:
    """Cells where contexts come back (or are none), ridge where they do not."""
    comes_back = (len(log.contexts) + 1) * _CELL <= len(log)
    return TabularRewards() if comes_back or not (log.facts.codes or log.facts.numbers) else RidgeRewards()


def cross_fitted(log: DecisionLog, model: RewardModel, folds: int, seed: int) -> F64:
    """(pairs,) expected reward of every offered action, each unit's from a fit without that unit."""
    of_row = folds_of(log, folds, seed)[log.unit]
    of_pair = of_row[log.decision]
    found = np.empty(len(log.offered.values))
    for one in range(folds):
        pairs = np.flatnonzero(of_pair == one)
        if len(pairs):
            train = of_row != one
            found[pairs] = model.predict(log, train if train.any() else ~train, pairs)
    return found


def folds_of(log: DecisionLog, folds: int, seed: int) -> I64:
    """(units,) the part of each unit."""
    return np.random.default_rng(seed).permutation(log.n_units).astype(np.int64) % folds


def design(log: DecisionLog) -> F64:
    """The contexts as columns (n, d): numbers standardised (absent = mean), the commonest categories one-hot."""
    columns = []
    for values in log.facts.numbers.values():
        known = np.isfinite(values)
        if known.any() and values[known].std() > 0:
            columns.append(np.where(known, (values - values[known].mean()) / values[known].std(), 0.0))
    for codes, names in log.facts.codes.values():
        if len(names) < 2:
            continue
        count = np.bincount(codes[codes >= 0], minlength=len(names))
        for code in np.argsort(-count, kind="stable")[:_LEVELS]:
            columns.append((codes == code).astype(np.float64))
    return np.column_stack(columns[:_WIDTH]) if columns else np.zeros((len(log), 0))
