"""Oblivious trees, one ensemble per outcome: fitted by an engine, calibrated here, scored by one fused kernel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Self

import msgspec
import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from honeyguide.contracts import F32, F64, I64, Progress, TreesEngine, TreesModel
from honeyguide.errors import BuildError
from honeyguide.kernels.calibration import (
    Calibrator,
    CalibratorArrays,
    calibrate,
    fit_beta,
    fit_isotonic,
    fit_platt,
    identity,
    log_losses,
    stack,
    uncalibrated,
)
from honeyguide.kernels.trees import FusedTrees, ObliviousTrees, fuse, score
from honeyguide.ranking.heads import HeadConfig
from honeyguide.ranking.measure import logistic_baseline, probability_metrics, rank_metrics
from honeyguide.ranking.split import Parts, newest_groups, split_by_time, thin

__all__ = ["HeadReport", "HeadScorer", "Rows", "TreesConfig", "TreesRanker"]

_MANIFEST = "ranker.json"


class TreesConfig(BaseModel):
    """The heads, and the newest shares of their rows that are held out: to stop, to calibrate, to measure."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    heads: tuple[HeadConfig, ...] = Field(min_length=1)
    stop_share: float = Field(default=0.08, gt=0.0, lt=0.3)
    calibrate_share: float = Field(default=0.08, gt=0.0, lt=0.3)
    test_share: float = Field(default=0.08, gt=0.0, lt=0.3)
    min_rows_per_class: int = Field(default=20, ge=2)  # in the part that is learnt from
    resamples: int = Field(default=1000, ge=100)

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        names = [head.name for head in self.heads]
        if len(set(names)) != len(names):
            raise ValueError(f"two heads share a name: {names}")
        return self


class HeadReport(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a head. A head that is off says why; nothing about it is hidden."""

    name: str
    kind: str
    on: bool
    reason: str
    calibrated: bool  # whether the score is a probability and may be summed
    calibrator: str = "raw"
    trees: int = 0
    fit_rows: int = 0
    metrics: dict[str, float | None] = {}  # on the newest rows, which nothing was chosen on
    importance: dict[str, float] = {}  # share of each feature, largest first


@dataclass(frozen=True, slots=True)
class Rows:
    """What heads learn from, one row per (request, item) or per outcome; a label is nan where it is unknown."""

    features: F32  # (n, features)
    labels: F32  # (n, heads), in the order of the config
    at: I64  # (n,) when the features were read
    group: I64 | None = None  # (n,) the request behind a row, -1 none; rank heads need it
    unit: I64 | None = None  # (n,) the person behind a row: intervals resample people

    @classmethod
    def stacked(cls, parts: Sequence[Rows]) -> Rows:
        """Parts below each other; a part without groups or units counts as having none (-1)."""

        def column(name: str) -> I64:
            of = [getattr(part, name) for part in parts]
            return np.concatenate(
                [np.full(len(p.at), -1, np.int64) if c is None else c for p, c in zip(parts, of, strict=True)]
            )

        return cls(
            np.concatenate([part.features for part in parts]),
            np.concatenate([part.labels for part in parts]),
            np.concatenate([part.at for part in parts]),
            column("group"),
            column("unit"),
        )

    def take(self, which: I64, head: int) -> tuple[F32, F32, I64 | None, I64 | None]:
        """Features, one head's labels, groups and units of the chosen rows."""
        group = None if self.group is None else self.group[which]
        return self.features[which], self.labels[which, head], group, None if self.unit is None else self.unit[which]


class HeadScorer:
    """One head of a ranker. Implements `Scorer`."""

    def __init__(self, name: str, calibrated: bool, trees: FusedTrees, calibrators: CalibratorArrays) -> None:
        self.name, self.calibrated = name, calibrated
        self._trees, self._calibrators = trees, calibrators

    def score(self, features: F32) -> F64:
        """(n, features) -> (n,)."""
        return calibrate(self._calibrators, score(self._trees, features))[:, 0]


class TreesRanker:
    """All heads over one feature matrix.

    `names` are the heads that are on, in the order of the columns of `score`; `calibrated` says of each whether its
    column is a probability. `reports` tells of all heads, those that are off included.
    Memory: the leaves, 8 bytes x 2 ** depth x trees a head (150 kB for 300 x 6).
    """

    def __init__(
        self,
        features: Sequence[str],
        reports: Sequence[HeadReport],
        trees: FusedTrees | None,
        calibrators: CalibratorArrays,
        models: dict[str, TreesModel] | None = None,
    ) -> None:
        self.features, self.reports = tuple(features), tuple(reports)
        on = [report for report in reports if report.on]
        self.names = tuple(report.name for report in on)
        self.calibrated = tuple(report.calibrated for report in on)
        self._trees, self._calibrators = trees, calibrators
        self._models = models or {}

    @classmethod
    def fit(
        cls,
        config: TreesConfig,
        engine: TreesEngine,
        features: Sequence[str],
        rows: Rows,
        *,
        threads: int = 2,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> Self:
        """Fit every head that its data supports; the others are off, with the reason in `reports`.

        Raises BuildError if the parts of `rows` do not match each other, the names or the config.
        """
        _check(config, features, rows)
        fitted: list[_Fitted] = []
        for index, head in enumerate(config.heads):
            if progress is not None:
                progress(f"head {head.name}", index, len(config.heads))
            fitted.append(_fit_head(config, head, index, engine, tuple(features), rows, threads, seed))
        if progress is not None:
            progress("heads", len(config.heads), len(config.heads))
        on = [f for f in fitted if f.model is not None and f.trees is not None]
        return cls(
            features,
            [f.report for f in fitted],
            fuse([f.trees for f in on if f.trees is not None]) if on else None,
            stack([f.calibrator for f in on]),
            {f.report.name: f.model for f in on if f.model is not None},
        )

    def score(self, features: F32) -> F64:
        """(n, features) -> (n, heads that are on): a probability where `calibrated`, else the raw score."""
        return calibrate(self._calibrators, self.raw(features))

    def raw(self, features: F32) -> F64:
        """(n, features) -> (n, heads that are on): raw scores, bit-equal to the engine's own.

        Raises BuildError if the matrix has another width.
        """
        if features.ndim != 2 or features.shape[1] != len(self.features):
            raise BuildError(
                expected=f"a matrix of {len(self.features)} features",
                got=f"shape {features.shape}",
                do="Compute the features that the ranker was built with.",
            )
        return np.zeros((len(features), 0)) if self._trees is None else score(self._trees, features)

    def head(self, name: str) -> HeadScorer:
        """One head as a `Scorer`. Raises BuildError if it is off or unknown."""
        if self._trees is None or name not in self.names:
            raise BuildError(
                expected=f"one of the heads in service: {', '.join(self.names) or 'none'}",
                got=name,
                do=next((r.reason for r in self.reports if r.name == name), "Add the head to the configuration."),
            )
        at = self.names.index(name)
        return HeadScorer(name, self.calibrated[at], self._trees.only(at), stack([self._calibrators.unstack()[at]]))

    def check(self, features: Sequence[str]) -> None:
        """Raise BuildError unless these are the names, in the order, that the ranker was fitted on."""
        if tuple(features) != self.features:
            missing = [name for name in self.features if name not in features]
            new = [name for name in features if name not in self.features]
            got = f"missing {missing}, new {new}" if missing or new else "the same names in another order"
            raise BuildError(
                expected=f"the {len(self.features)} features that the ranker was built with",
                got=got,
                do="Build again: the ranker must be fitted on the features it is served.",
            )

    def save(self, folder: Path) -> None:
        """Write arrays, reports and (if just fitted) each model in its library's own format into an existing folder."""
        parts: list[tuple[str, FusedTrees | CalibratorArrays]] = [("calibrators", self._calibrators)]
        if self._trees is not None:
            parts.append(("trees", self._trees))
        for prefix, part in parts:
            for field in fields(part):
                np.save(folder / f"{prefix}.{field.name}.npy", getattr(part, field.name))
        for name, model in self._models.items():
            model.save(folder / f"{name}.cbm")
        (folder / _MANIFEST).write_bytes(msgspec.json.encode(_Manifest(features=self.features, heads=self.reports)))

    @classmethod
    def load(cls, folder: Path, features: Sequence[str] | None = None) -> Self:
        """Read what `save` wrote: arrays as memory maps, no tree library. With `features`, `check` them.

        Raises BuildError if files are missing or damaged, or the features differ.
        """
        try:
            manifest = msgspec.json.decode((folder / _MANIFEST).read_bytes(), type=_Manifest)
            calibrators = CalibratorArrays(**_arrays(folder, "calibrators", CalibratorArrays))
            on = any(report.on for report in manifest.heads)
            trees = FusedTrees(**_arrays(folder, "trees", FusedTrees)) if on else None
        except (OSError, ValueError, EOFError, msgspec.DecodeError) as error:
            raise BuildError(
                expected=f"a ranker in {folder.name}", got=str(error), do="Build again, or roll back."
            ) from error
        ranker = cls(manifest.features, manifest.heads, trees, calibrators)
        if features is not None:
            ranker.check(features)
        return ranker


class _Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    features: tuple[str, ...]
    heads: tuple[HeadReport, ...]


@dataclass(frozen=True, slots=True)
class _Fitted:
    report: HeadReport
    model: TreesModel | None = None
    trees: ObliviousTrees | None = None
    calibrator: Calibrator = uncalibrated


def _arrays(folder: Path, prefix: str, kind: type[FusedTrees] | type[CalibratorArrays]) -> dict[str, np.ndarray]:
    return {f.name: np.load(folder / f"{prefix}.{f.name}.npy", mmap_mode="r") for f in fields(kind)}


def _check(config: TreesConfig, features: Sequence[str], rows: Rows) -> None:
    n = len(rows.at)
    shapes = {
        "features": (rows.features.shape, (n, len(features))),
        "labels": (rows.labels.shape, (n, len(config.heads))),
        "group": ((n,) if rows.group is None else rows.group.shape, (n,)),
        "unit": ((n,) if rows.unit is None else rows.unit.shape, (n,)),
    }
    for name, (got, expected) in shapes.items():
        if got != expected:
            raise BuildError(expected=f"{name} of shape {expected}", got=str(got), do="Check the training set.")
    if len(set(features)) != len(features):
        raise BuildError(expected="distinct feature names", got="a name twice", do="Rename one of them.")


def _fit_head(
    config: TreesConfig,
    head: HeadConfig,
    index: int,
    engine: TreesEngine,
    names: tuple[str, ...],
    rows: Rows,
    threads: int,
    seed: int,
) -> _Fitted:
    """Fit, calibrate and measure one head on parts that follow each other in time; or say why it cannot be."""

    def off(reason: str, fit_rows: int = 0) -> _Fitted:
        return _Fitted(
            HeadReport(name=head.name, kind=head.kind, on=False, reason=reason, calibrated=False, fit_rows=fit_rows)
        )

    if head.kind == "rank" and rows.group is None:
        return off("a rank head learns within requests, and the rows do not say which request they belong to")
    parts = _parts(config, head, rows.labels[:, index], rows, seed)
    for part, which, least in (
        ("learn from", parts.fit, config.min_rows_per_class),
        ("stop on", parts.stop, 1),
        ("calibrate on", parts.calibrate, 2),
        ("measure on", parts.test, 1),
    ):
        label = rows.labels[which, index]
        ones = int((label > 0.5).sum())
        if min(ones, len(label) - ones) < least:
            return off(
                f"the rows to {part} hold {ones} with the outcome and {len(label) - ones} without; "
                f"at least {least} of each are needed"
            )

    fit_x, fit_y, fit_group, _ = rows.take(parts.fit, index)
    stop_x, stop_y, stop_group, _ = rows.take(parts.stop, index)
    test_x, test_y, test_group, test_unit = rows.take(parts.test, index)
    try:
        model = engine.fit(
            fit_x,
            fit_y,
            objective="rank" if head.kind == "rank" else "logloss",
            group=fit_group if head.kind == "rank" else None,
            validation=(stop_x, stop_y, stop_group if head.kind == "rank" else None),
            trees=head.trees,
            depth=head.depth,
            learning_rate=head.learning_rate,
            threads=threads,
            seed=seed,
        )
    except BuildError as error:
        return off(str(error))
    arrays = model.arrays()
    fused = fuse([arrays])
    raw = score(fused, test_x)[:, 0]
    calibrator = uncalibrated
    metrics: dict[str, float | None]
    if head.kind == "rank":
        if test_group is None:
            return off("no groups")
        metrics = rank_metrics(raw, test_y, test_group)
        reason = "ranks candidates of one request; not a probability"
    else:
        tune_x, tune_y, _, _ = rows.take(parts.calibrate, index)
        calibrator = choose_calibrator(score(fused, tune_x)[:, 0], tune_y)
        constant = float(fit_y.mean())
        metrics = probability_metrics(
            calibrator(raw), test_y, constant, test_unit, resamples=config.resamples, seed=seed
        )
        metrics["log_loss_logistic"] = logistic_baseline((fit_x, fit_y), (test_x, test_y))
        low, high = metrics["log_loss_gain_low"] or 0.0, metrics["log_loss_gain_high"] or 0.0
        if low <= 0.0:
            return off(
                f"not better than the constant {constant:.3f} beyond chance: "
                f"log loss gain [{low:+.4f}, {high:+.4f}] on {len(test_y)} rows",
                fit_rows=len(parts.fit),
            )
        reason = f"log loss gain over the constant [{low:+.4f}, {high:+.4f}]"
    shares = model.importance()
    report = HeadReport(
        name=head.name,
        kind=head.kind,
        on=True,
        reason=reason,
        calibrated=head.calibrated,
        calibrator=calibrator.kind,
        trees=len(arrays.depth),
        fit_rows=len(parts.fit),
        metrics=metrics,
        importance={names[i]: float(shares[i]) for i in np.argsort(-shares, kind="stable")},
    )
    return _Fitted(report, model, arrays, calibrator)


def choose_calibrator(raw: F64, label: F32) -> Calibrator:
    """The calibrator with the least log loss on rows it was not fitted on, fitted again on all rows.

    Rows are in order of time. Each candidate learns from one half and is tried on the other, both ways; of equals the
    simplest wins.
    """
    y = label.astype(np.float64)
    half = len(raw) // 2
    halves = (np.arange(half), np.arange(half, len(raw)))
    tried = {
        "identity": lambda z, t: identity,
        "platt": fit_platt,
        "beta": fit_beta,
        "isotonic": fit_isotonic,
    }
    losses = {
        name: sum(float(log_losses(fit(raw[a], y[a])(raw[b]), y[b]).sum()) for a, b in (halves, halves[::-1]))
        for name, fit in tried.items()
    }
    return tried[min(losses, key=losses.__getitem__)](raw, y)


def _parts(config: TreesConfig, head: HeadConfig, label: F32, rows: Rows, seed: int) -> Parts:
    """The head's rows by time; a rank head's requests are thinned where it learns, never where it is measured."""
    shares = (config.stop_share, config.calibrate_share, config.test_share)
    known = ~np.isnan(label)
    if head.kind == "probability" or rows.group is None:
        parts = split_by_time(known, rows.at, None, shares)
        return replace(parts, fit=parts.fit[-head.max_rows :])
    group = rows.group
    parts = split_by_time(known & (group >= 0), rows.at, group, shares)
    rng = np.random.default_rng(seed)
    fit, stop = (thin(part, label, group, head.negatives_per_group, rng) for part in (parts.fit, parts.stop))
    # Nothing is calibrated, so those rows measure too.
    test = np.append(parts.calibrate, parts.test)
    return Parts(newest_groups(fit, group, head.max_rows), stop, parts.calibrate, test)
