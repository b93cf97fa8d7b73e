"""A tree ensemble as the reward model of off-policy value."""

from __future__ import annotations

import numpy as np

from honeyguide.contracts import F32, F64, I64, BoolArray, TreesEngine
from honeyguide.engines.trees.catboost_trees import CatBoostTrees
from honeyguide.errors import ConfigError
from honeyguide.evaluation.replay.log import DecisionLog
from honeyguide.evaluation.replay.rewards import design
from honeyguide.kernels.ope_values import summed

__all__ = ["TreesRewards"]

_STRENGTH = 20.0


class TreesRewards:
    """Oblivious trees on the contexts' columns and the action's mean and number of choices, for rewards of 0 and 1."""

    name = "trees"

    def __init__(self, engine: TreesEngine | None = None, trees: int = 150, seed: int = 0) -> None:
        self._engine = engine or CatBoostTrees()
        self._trees, self._seed = trees, seed

    def predict(self, log: DecisionLog, train: BoolArray, pairs: I64) -> F64:
        """See RewardModel."""
        if not np.isin(log.reward, (0.0, 1.0)).all():
            raise ConfigError(
                expected="rewards of 0 and 1 for the model `trees`", got="other rewards", do="Use tabular or ridge."
            )
        rows = np.flatnonzero(train)
        reward, chosen = log.reward[rows], log.chosen[rows]
        if reward.min() == reward.max():
            return np.full(len(pairs), float(reward[0]))
        x, k = design(log), len(log.actions)
        base = reward.mean()

        def means(part: BoolArray) -> tuple[F64, F64]:
            n = np.bincount(chosen[part], minlength=k).astype(np.float64)
            return (summed(chosen[part], reward[part], k) + _STRENGTH * base) / (n + _STRENGTH), n

        # An action's mean comes from the other half of the people: one that held a row's own reward would tell it.
        half = np.random.default_rng(self._seed).random(log.n_units)[log.unit[rows]] < 0.5
        of_action, n_action = np.empty(len(rows)), np.empty(len(rows))
        for part in (half, ~half):
            mean, n = means(~part)
            of_action[part], n_action[part] = mean[chosen[part]], n[chosen[part]]

        def features(row: I64, count: F64, mean: F64, action: I64) -> F32:
            of_action = np.column_stack([mean, np.log1p(count), log.position[row], action])
            return np.concatenate([x[row], of_action], axis=1).astype(np.float32)

        model = self._engine.fit(
            features(rows, 2 * n_action, of_action, chosen.astype(np.int64)), reward.astype(np.float32),
            objective="logloss", trees=self._trees, depth=4, seed=self._seed,
        )  # fmt: skip
        action, decision = log.offered.values[pairs].astype(np.int64), log.decision[pairs]
        mean, n = means(np.ones(len(rows), np.bool_))
        raw = model.predict(features(decision, n[action], mean[action], action))
        return 1.0 / (1.0 + np.exp(-raw))
