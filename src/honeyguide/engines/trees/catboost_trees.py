"""Oblivious trees by CatBoost, on the CPU: fits a head, hands its trees over as arrays."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any, Literal

import numpy as np
from catboost import CatBoost, CatBoostError, Pool
from pydantic import BaseModel, ConfigDict, Field

from honeyguide.contracts import F32, F64, I64
from honeyguide.errors import BuildError
from honeyguide.kernels.trees import MAX_DEPTH, ObliviousTrees

__all__ = ["CatBoostConfig", "CatBoostModel", "CatBoostTrees"]


class CatBoostConfig(BaseModel):
    """What is CatBoost's own. The defaults were chosen on MovieLens 1M for quality per CPU-second."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    border_count: int = Field(default=64, ge=1, le=254)  # distinct values a feature is rounded to, less one
    early_stopping_rounds: int = Field(default=30, ge=1)
    rank_loss: Literal["QueryRMSE", "YetiRank", "QuerySoftMax", "PairLogit"] = "QueryRMSE"


class CatBoostModel:
    """A fitted ensemble. Implements `TreesModel`."""

    def __init__(self, model: CatBoost) -> None:
        self._model = model

    def predict(self, features: F32) -> F64:
        """Raw scores (n, features) -> (n,), by CatBoost itself."""
        if features.ndim != 2:
            raise BuildError(
                expected="a matrix of features",
                got=f"an array of shape {features.shape}",
                do="Give one row per candidate.",
            )
        if not len(features):
            return np.zeros(0)
        # A wider matrix is accepted by CatBoost and its further columns ignored: a mistake that must not pass.
        width = len(self._model.feature_names_)
        if features.shape[1] != width:
            raise BuildError(
                expected=f"{width} features",
                got=f"{features.shape[1]}",
                do="Score with the features the model was fitted on.",
            )
        raw = self._model.predict(np.ascontiguousarray(features, np.float32), prediction_type="RawFormulaVal")
        return np.asarray(raw, np.float64).reshape(len(features))

    def arrays(self) -> ObliviousTrees:
        """The same trees for `kernels.trees.fuse`; sums of their leaves are bit-equal to `predict`."""
        with tempfile.TemporaryDirectory(prefix="honeyguide-") as folder:
            path = Path(folder) / "model.json"
            self._model.save_model(str(path), format="json")
            document: dict[str, Any] = json.loads(path.read_bytes())
        described = document["features_info"].get("float_features", [])
        column = {f["feature_index"]: f["flat_feature_index"] for f in described}
        passes = np.zeros(len(self._model.feature_names_), bool)
        for f in described:
            passes[f["flat_feature_index"]] = f["nan_value_treatment"] == "AsTrue"
        trees = [tree.get("splits") or [] for tree in document["oblivious_trees"]]
        splits = [split for tree in trees for split in tree]
        scale, bias = self._model.get_scale_and_bias()
        return ObliviousTrees(
            n_features=len(passes),
            depth=np.array([len(tree) for tree in trees], np.int32),
            feature=np.array([column[split["float_feature_index"]] for split in splits], np.int32),
            border=np.array([split["border"] for split in splits], np.float32),
            leaf=np.asarray(self._model.get_leaf_values(), np.float64),
            nan_passes=passes,
            scale=float(scale),
            bias=float(bias),
        )

    def importance(self) -> F64:
        """How much the score moves when a feature changes, as shares that sum to one, (features,).

        CatBoost's PredictionValuesChange: per split, the variance between its two sides, weighted by training rows.
        """
        change = np.asarray(self._model.get_feature_importance(type="PredictionValuesChange"), np.float64)
        total = float(change.sum())
        return change / total if total > 0 else change

    def save(self, path: Path) -> None:
        """Write one `.cbm` file, readable by CatBoost everywhere."""
        self._model.save_model(str(path), format="cbm")


class CatBoostTrees:
    """Fits symmetric trees. Implements `TreesEngine`. Silent; writes no file; the same seed gives the same trees.

    nan is a value of its own, below all others. Rows of one group may lie anywhere. Memory: about one byte per value
    beside the given matrix; time: about 5 CPU-s for 100,000 x 50, 300 trees of depth 6.
    """

    def __init__(self, config: CatBoostConfig | None = None) -> None:
        self.config = config or CatBoostConfig()

    def fit(
        self,
        features: F32,
        label: F32,
        *,
        objective: str,
        group: I64 | None = None,
        weight: F32 | None = None,
        validation: tuple[F32, F32, I64 | None] | None = None,
        trees: int = 300,
        depth: int = 6,
        learning_rate: float | None = None,
        threads: int = 2,
        seed: int = 0,
    ) -> CatBoostModel:
        """Fit "logloss" (labels in [0, 1]) or "rank" (labels within groups); early stopping on `validation` if given.

        Raises BuildError for another objective, a depth over 8, rows that do not match, labels that cannot be learnt
        from (nan, or one class only), and for whatever CatBoost itself refuses.
        """
        if objective not in ("logloss", "rank"):
            raise BuildError(expected='objective "logloss" or "rank"', got=repr(objective), do="Choose one of the two.")
        if not 1 <= depth <= MAX_DEPTH:
            raise BuildError(expected=f"depth in 1..{MAX_DEPTH}", got=str(depth), do="Choose shallower trees.")
        pool = _pool(features, label, group, weight, objective)
        held = _pool(*validation[:2], validation[2], None, objective) if validation is not None else None
        if held is not None and held.shape[1] != pool.shape[1]:
            raise BuildError(
                expected=f"validation with {pool.shape[1]} features",
                got=str(held.shape[1]),
                do="Build both parts with the same features.",
            )
        parameters: dict[str, Any] = {
            "loss_function": "Logloss" if objective == "logloss" else self.config.rank_loss,
            "iterations": trees,
            "depth": depth,
            "grow_policy": "SymmetricTree",
            "border_count": self.config.border_count,
            "nan_mode": "Min",
            "thread_count": threads,
            "random_seed": seed,
            "allow_writing_files": False,
            "logging_level": "Silent",
        }
        if learning_rate is not None:
            parameters["learning_rate"] = learning_rate
        if held is not None:
            parameters |= {"early_stopping_rounds": self.config.early_stopping_rounds, "use_best_model": True}
        model = CatBoost(parameters)
        try:
            model.fit(pool, eval_set=held)
        except CatBoostError as error:
            raise BuildError(
                expected="data that CatBoost can learn from",
                got=str(error).strip().splitlines()[-1],
                do="Check labels, groups and features of this head.",
            ) from error
        return CatBoostModel(model)

    def load(self, path: Path) -> CatBoostModel:
        """Read what `CatBoostModel.save` wrote. Raises BuildError if there is none, or another file."""
        model = CatBoost()
        try:
            model.load_model(str(path), format="cbm")
        except CatBoostError as error:
            raise BuildError(
                expected=f"a CatBoost model in {path.name}",
                got=str(error).strip().splitlines()[-1],
                do="Build the ranker again.",
            ) from error
        return CatBoostModel(model)


def _pool(features: F32, label: F32, group: I64 | None, weight: F32 | None, objective: str) -> Pool:
    """Check one part of the data, and lay groups out one after the other (CatBoost wants them so)."""
    n = len(label)
    if features.ndim != 2 or len(features) != n or not n or not features.shape[1]:
        raise BuildError(
            expected="a matrix with at least one feature and one row per label",
            got=f"features {features.shape}, {n} labels",
            do="Check the training set.",
        )
    for name, column in (("group", group), ("weight", weight)):
        if column is not None and len(column) != n:
            raise BuildError(
                expected=f"one {name} per label", got=f"{len(column)} for {n}", do="Check the training set."
            )
    if not np.isfinite(label).all():
        raise BuildError(expected="labels that are numbers", got="nan or infinity", do="Leave unknown labels out.")
    if objective == "logloss" and not 0.0 <= label.min() < label.max() <= 1.0:
        raise BuildError(
            expected="labels of both classes, between 0 and 1",
            got=f"labels from {label.min():g} to {label.max():g}",
            do="Give the head more data, or switch it off.",
        )
    if objective == "logloss":
        group = None
    elif group is None:
        raise BuildError(expected="a group per row", got="none", do="Say which rows belong to one request.")
    elif (np.diff(group) < 0).any():
        order = np.argsort(group, kind="stable")
        features, label, group = features[order], label[order], group[order]
        weight = weight[order] if weight is not None else None
    return Pool(
        np.ascontiguousarray(features, np.float32),
        label=np.ascontiguousarray(label, np.float32),
        group_id=None if group is None else np.ascontiguousarray(group, np.int64),
        weight=weight,
    )
