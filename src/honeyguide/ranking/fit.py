"""Fitting heads: kinds of models compete for each; the best is calibrated, measured, and learns again to serve.

A head's rows are parted by time: to learn from, to stop on, to choose and calibrate on, to measure on. Nothing is
chosen on the last part; within it the calibration rolls forward, as builds that follow each other would make it. The
model in service is then made by the same recipe moved forward: it learns from all but the newest rows and is calibrated
on those, so that the rows that were held out to measure are not lost to it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from honeyguide.contracts import F32, F64, I64, BoolArray, Progress
from honeyguide.errors import BuildError
from honeyguide.kernels.calibration import log_losses, uncalibrated
from honeyguide.ranking.calibrate import Calibration, calibration_of, correct, shifted
from honeyguide.ranking.config import RankerConfig
from honeyguide.ranking.heads import HeadConfig
from honeyguide.ranking.linear import LinearFamily
from honeyguide.ranking.measure import gain_of, ndcg_by_group, probability_metrics, rank_metrics, reliability
from honeyguide.ranking.models import Family, Given, HeadModel, Part
from honeyguide.ranking.ranker import Fitted, HeadsRanker
from honeyguide.ranking.rows import Contest, HeadReport, Rows
from honeyguide.ranking.split import Parts, newest_groups, split_by_time, thin
from honeyguide.ranking.trees import most_important

__all__ = ["fit_heads"]

ROLLS = 4
"""Blocks of the rows to measure on, before each of which the calibration is made anew."""
NDCG = "ndcg_at_10"
LOG_LOSS = "log_loss"
_Gain = tuple[float | None, float | None, float | None]


def fit_heads(
    config: RankerConfig, heads: Sequence[HeadConfig], families: Sequence[Family], columns: Sequence[str], rows: Rows,
    *, given: Mapping[str, Sequence[Given]] | None = None, segments: int = 0, seed: int = 0,
    progress: Progress | None = None, more: Sequence[Fitted] = (),
) -> HeadsRanker:  # fmt: skip
    """Fit every head that its data supports; the others are off, with the reason in `reports`.

    families: kinds of models that are fitted here. given: by head, scores of parts fitted elsewhere; a head with a
    `scorer` takes its own and no other. segments: how many there are in `rows.segment`.
    more: heads that were fitted otherwise, which stand after the others.
    Raises BuildError if the parts of `rows` do not match each other, the names or the heads.
    """
    _check(heads, columns, rows)
    fitted = []
    for index, head in enumerate(heads):
        if progress is not None:
            progress(f"head {head.name}", index, len(heads))
        of = tuple((given or {}).get(head.name, ()))
        mine = () if head.scorer is not None else tuple(families)
        one = _Head(config, head, index, mine, tuple(columns), rows, of, segments, seed)
        fitted.append(one.ranks() if head.kind == "rank" else one.probability())
    if progress is not None:
        progress("heads", len(heads), len(heads))
    return HeadsRanker.of(columns, [*fitted, *more])


@dataclass(frozen=True)
class _Contestant:
    """A kind of model with its raw scores of all rows that choose and measure."""

    kind: str
    model: HeadModel | Part
    raw: F64  # (n,) by row
    importance: dict[str, float]
    size: int
    refit: Family | None = None


@dataclass(frozen=True)
class _Head:
    """One head, and what there is to make it of."""

    config: RankerConfig
    head: HeadConfig
    index: int
    families: tuple[Family, ...]
    columns: tuple[str, ...]
    rows: Rows
    given: tuple[Given, ...]
    segments: int
    seed: int

    @property
    def label(self) -> F32:
        return self.rows.labels[:, self.index]

    # ------------------------------------------------------------------------------------------------ probabilities

    def probability(self) -> Fitted:
        """Choose, calibrate and measure; or say why it cannot be."""
        rows, label = self.rows, self.label
        young = self._young()
        shares = (self.config.stop_share, self.config.calibrate_share, self.config.test_share)
        whole = split_by_time(~np.isnan(label) & ~young, rows.at, None, shares)
        parts = replace(whole, fit=whole.fit[-self.head.max_rows :])
        lacking = self._lacking(parts)
        if lacking:
            return self._off(lacking)
        offset, weight = self._sampling(parts.fit)
        held = np.concatenate([parts.calibrate, parts.test])
        tried, failed = self._contestants(parts, held, weight)
        if not tried:
            return self._off(failed[0].reason if failed else "no kind of model is to be tried")
        # Where an offset undoes the sampling, all before it lives among the rows drawn, of which each counts once.
        mass = self._mass()
        drawn = mass if weight is not None else np.ones(len(mass))
        calibrations = {one.kind: self._calibration(one.raw, parts.calibrate, drawn) for one in tried}
        eligible = [one for one in tried if one.refit is None or one.refit in self.families]
        best = self._preferred(
            eligible, lambda one, other: self._lost(calibrations[other.kind], calibrations[one.kind], parts, drawn)
        )
        contest = [*self._log_loss_contest(eligible, best, calibrations, parts, drawn), *failed]
        test, y = parts.test, label[parts.test].astype(np.float64)
        unit = None if rows.unit is None else rows.unit[test]
        base = float(np.average(label[parts.fit], weights=mass[parts.fit]))
        p = self._rolling(best, calibrations, parts, drawn, base, offset)
        options = {"weight": mass[test], "resamples": self.config.resamples, "seed": self.seed}
        metrics = probability_metrics(p, label[test], base, unit, **options)  # type: ignore[arg-type]
        plain = next((one for one in tried if one.kind == "linear"), None)
        if plain is not None:
            losses = log_losses(self._rolling(plain, calibrations, parts, drawn, base, offset), y)
            found = gain_of(losses - log_losses(p, y), unit, **options)  # type: ignore[arg-type]
            names = ("log_loss_logistic_gain", "log_loss_logistic_gain_low", "log_loss_logistic_gain_high")
            metrics |= {"log_loss_logistic": float(np.average(losses, weights=mass[test]))}
            metrics |= dict(zip(names, found, strict=True))
        low, high = metrics["log_loss_gain_low"] or 0.0, metrics["log_loss_gain_high"] or 0.0
        if low <= 0.0:
            return self._off(
                f"not better than the constant {base:.3f} beyond chance: "
                f"log loss gain [{low:+.4f}, {high:+.4f}] on {len(test)} rows",
                fit_rows=len(parts.fit), contest=contest, metrics=metrics,
            )  # fmt: skip
        served = self._served(best, calibrations[best.kind], whole, young, drawn, base)
        report = HeadReport(
            name=self.head.name, kind=self.head.kind, on=True,
            reason=f"log loss gain over the constant [{low:+.4f}, {high:+.4f}]", calibrated=True, model=best.kind,
            calibrator=served.calibration.calibrator.kind, trees=served.size if best.kind == "trees" else 0,
            fit_rows=len(parts.fit), refit_rows=served.rows, offset=served.offset if served.rows else offset,
            young_rows=served.young, metrics=metrics, importance=best.importance, contest=contest,
            segments=list(served.calibration.told), curve=reliability(p, y, mass[test]),
        )  # fmt: skip
        return Fitted(report, served.model, served.calibration.calibrator, served.calibration.segments, base)

    def _contestants(self, parts: Parts, held: I64, weight: F32 | None) -> tuple[list[_Contestant], list[Contest]]:
        """Every kind that can be fitted, and those that cannot. A line is always drawn, to be compared with."""
        rows, head = self.rows, self.head
        families: list[Family] = list(self.families)
        if families and all(family.kind != "linear" for family in families):
            families.append(LinearFamily())
        x, y, group, _ = rows.take(parts.fit, self.index)
        stop_x, stop_y, stop_group, _ = rows.take(parts.stop, self.index)
        ranks = head.kind == "rank"
        tried, failed = [], []
        for family in families:
            try:
                model = family.fit(
                    head, x, y, group=group if ranks else None, weight=weight,
                    stop=(stop_x, stop_y, stop_group if ranks else None),
                )  # fmt: skip
            except BuildError as error:
                if family in self.families:
                    failed.append(Contest(family.kind, False, NDCG if ranks else LOG_LOSS, None, reason=str(error)))
                continue
            raw = np.full(len(rows.at), np.nan)
            raw[held] = model.raw(rows.features[held])
            importance = most_important(self.columns, model.importance())
            tried.append(_Contestant(family.kind, model, raw, importance, model.size, family))
        for one in self.given:
            if np.isnan(one.scores[held]).all():
                reason = f"{one.part.kind} gave no score of the rows that it is judged on"
                failed.append(Contest(one.part.kind, False, NDCG if ranks else LOG_LOSS, None, reason=reason))
            else:
                tried.append(_Contestant(one.part.kind, one.part, one.scores, one.importance, one.size))
        return tried, failed

    def _calibration(self, raw: F64, part: I64, mass: F64) -> Calibration:
        segment = None if self.rows.segment is None or not self.config.by_segment else self.rows.segment
        known = part[~np.isnan(raw[part])]
        return calibration_of(
            raw[known], self.label[known], mass[known], segment=None if segment is None else segment[known],
            segments=self.segments, least_segment_rows=self.config.least_segment_rows,
        )  # fmt: skip

    def _rolling(
        self, one: _Contestant, found: Mapping[str, Calibration], parts: Parts, mass: F64, base: float, offset: float
    ) -> F64:
        """Probabilities of the rows to measure on, as builds that follow each other would give them.

        The model stays, the calibration is made anew for each of `ROLLS` blocks, from as many rows as ever, the newest
        before the block: what is measured is the recipe as it is used, and no row is calibrated by itself or by a later
        one.
        """
        given, before, calibration = [], parts.calibrate, found[one.kind]
        for at, block in enumerate(np.array_split(parts.test, ROLLS)):
            if at:
                calibration = self._calibration(one.raw, before, mass)
            given.append(self._probabilities(calibration, one.raw, block, base, offset))
            before = np.concatenate([before, block])[-len(parts.calibrate) :]
        return np.concatenate(given)

    def _probabilities(self, calibration: Calibration, raw: F64, which: I64, base: float, offset: float = 0.0) -> F64:
        p = calibration.calibrator(raw[which])
        if calibration.segments is not None and self.rows.segment is not None:
            p = correct(calibration.segments, p, self.rows.segment[which])
        return np.where(np.isnan(p), base, shifted(p, offset) if offset else p)

    def _loss(self, calibration: Calibration, part: I64, mass: F64) -> float:
        """Mean log loss over the rows of a part that have a score."""
        w = mass[part][-len(calibration.losses) :]
        return float(np.average(calibration.losses, weights=w))

    def _lost(self, mine: Calibration, theirs: Calibration, parts: Parts, mass: F64) -> _Gain:
        """By how much the first predicts better than the second, on the same rows, paired by person."""
        n = min(len(mine.losses), len(theirs.losses))
        rows, unit = parts.calibrate[-n:], self.rows.unit
        return gain_of(
            theirs.losses[-n:] - mine.losses[-n:], None if unit is None else unit[rows], weight=mass[rows],
            resamples=self.config.resamples, seed=self.seed,
        )  # fmt: skip

    def _preferred(
        self, tried: Sequence[_Contestant], gain: Callable[[_Contestant, _Contestant], _Gain]
    ) -> _Contestant:
        """The first kind of the configuration, unless a later one is better than what stands so far beyond chance.

        gain(one, other): by how much the other is better.
        """
        best = tried[0]
        for other in tried[1:]:
            low = gain(best, other)[1]
            if low is not None and low > 0.0:
                best = other
        return best

    def _log_loss_contest(
        self, tried: Sequence[_Contestant], best: _Contestant, found: Mapping[str, Calibration], parts: Parts, mass: F64
    ) -> list[Contest]:
        """Each kind beside the chosen one."""
        lines = []
        for one in tried:
            value = self._loss(found[one.kind], parts.calibrate, mass)
            gain = (None,) * 3 if one is best else self._lost(found[best.kind], found[one.kind], parts, mass)
            lines.append(Contest(one.kind, one is best, LOG_LOSS, value, *gain))
        return lines

    # -------------------------------------------------------------------------------------------------- what serves

    def _served(
        self, best: _Contestant, calibration: Calibration, parts: Parts, young: BoolArray, mass: F64, base: float
    ) -> _Served:
        """The chosen model fitted again on all but the newest rows and calibrated on those, if it can be."""
        as_it_is = _Served(best.model, calibration, best.size)
        if best.refit is None or not self.config.refit:
            return as_it_is
        all_rows = np.concatenate([parts.fit, parts.stop, parts.calibrate, parts.test])
        newest = all_rows[-len(parts.calibrate) :]
        older = all_rows[: -len(parts.calibrate)][-self.head.max_rows :]
        features, label, weight = self.rows.features[older], self.label[older], None
        offset, sampled = self._sampling(older)
        if sampled is not None:
            weight = sampled
        recent = self._recent(young, best, calibration, base)
        if recent is not None:
            x, y, w = recent
            weight = np.concatenate([np.ones(len(older), np.float32) if weight is None else weight, w])
            features, label = np.concatenate([features, x]), np.concatenate([label, y])
        try:
            model = best.refit.fit(self.head, features, label, weight=weight, size=best.size)
        except BuildError:
            return as_it_is
        raw = np.full(len(self.rows.at), np.nan)
        raw[newest] = model.raw(self.rows.features[newest])
        fresh = self._calibration(raw, newest, mass)
        n_young = 0 if recent is None else int((young & ~np.isnan(self.label)).sum())
        return _Served(model, fresh, model.size, len(older), offset, n_young)

    def _recent(
        self, young: BoolArray, best: _Contestant, calibration: Calibration, base: float
    ) -> tuple[F32, F32, F32] | None:
        """Rows that have not had their time, each as both outcomes by the chance of either.

        With p the chance of the outcome as the older rows taught it, and F that one that comes would be known by now,
        nothing so far leaves p (1 - F) / (1 - p F) for its coming yet. Source: Chapelle 2014, the E-step of section 3.
        """
        rows = np.flatnonzero(young & ~np.isnan(self.label))
        if not len(rows) or self.rows.told is None:
            return None
        x, y = self.rows.features[rows], self.label[rows].astype(np.float64)
        raw = np.full(len(self.rows.at), np.nan)
        raw[rows] = best.model.raw(x)  # type: ignore[arg-type]
        p = self._probabilities(calibration, raw, rows, base)
        known = self.rows.told[rows, self.index].astype(np.float64)
        chance = np.where(y > 0.5, 1.0, p * (1.0 - known) / np.maximum(1.0 - p * known, 1e-9))
        both = np.concatenate([np.ones(len(rows)), np.zeros(len(rows))])
        weight = np.concatenate([chance, 1.0 - chance])
        some = weight > 1e-4
        doubled = np.concatenate([x, x])[some]
        return doubled, both[some].astype(np.float32), weight[some].astype(np.float32)

    # --------------------------------------------------------------------------------------------------------- order

    def ranks(self) -> Fitted:
        """Choose and measure an order of candidates within a request; or say why it cannot be."""
        rows, head, label = self.rows, self.head, self.label
        if rows.group is None:
            return self._off("a rank head learns within requests, and the rows do not say which request they belong to")
        group = rows.group
        share = self.config.rank_share
        parts = split_by_time(~np.isnan(label) & (group >= 0), rows.at, group, (share,) * 3)
        rng = np.random.default_rng(self.seed)
        fit, stop = (thin(part, label, group, head.negatives_per_group, rng) for part in (parts.fit, parts.stop))
        parts = Parts(newest_groups(fit, group, head.max_rows), stop, parts.calibrate, parts.test)
        lacking = self._lacking(parts)
        if lacking:
            return self._off(lacking)
        tried, failed = self._contestants(parts, np.concatenate([parts.calibrate, parts.test]), None)
        eligible = [one for one in tried if one.refit is None or one.refit in self.families]
        if not eligible:
            return self._off(failed[0].reason if failed else "no kind of model is to be tried")
        judged = parts.calibrate
        by_kind = {
            one.kind: ndcg_by_group(np.nan_to_num(one.raw[judged], nan=-1e300), label[judged], group[judged])
            for one in eligible
        }

        def gain(one: _Contestant, other: _Contestant) -> _Gain:
            difference = by_kind[other.kind] - by_kind[one.kind]
            return gain_of(difference, None, resamples=self.config.resamples, seed=self.seed)

        best = self._preferred(eligible, gain)
        contest = []
        for one in eligible:
            value = float(by_kind[one.kind].mean()) if len(by_kind[one.kind]) else None
            told = (None,) * 3 if one is best else gain(one, best)
            contest.append(Contest(one.kind, one is best, NDCG, value, *told))
        raw = np.nan_to_num(best.raw[parts.test], nan=-1e300)
        report = HeadReport(
            name=head.name, kind=head.kind, on=True, reason="ranks candidates of one request; not a probability",
            calibrated=False, model=best.kind, trees=best.size if best.kind == "trees" else 0, fit_rows=len(parts.fit),
            metrics=rank_metrics(raw, label[parts.test], group[parts.test]), importance=best.importance,
            contest=[*contest, *failed],
        )  # fmt: skip
        return Fitted(report, best.model, uncalibrated)

    # ------------------------------------------------------------------------------------------------------- helpers

    def _off(self, reason: str, **more: object) -> Fitted:
        told = {"fit_rows": 0, "contest": [], "metrics": {}} | more
        return Fitted(
            HeadReport(
                name=self.head.name,
                kind=self.head.kind,
                on=False,
                reason=reason,
                calibrated=False,
                **told,  # type: ignore[arg-type]
            )
        )

    def _lacking(self, parts: Parts) -> str:
        """Why the parts cannot teach, "" if they can."""
        for part, which, least in (
            ("learn from", parts.fit, self.config.min_rows_per_class),
            ("stop on", parts.stop, 1),
            ("calibrate on", parts.calibrate, 2),
            ("measure on", parts.test, 1),
        ):
            label = self.label[which]
            ones = int((label > 0.5).sum())
            if min(ones, len(label) - ones) < least:
                return (
                    f"the rows to {part} hold {ones} with the outcome and {len(label) - ones} without; "
                    f"at least {least} of each are needed"
                )
        return ""

    def _young(self) -> BoolArray:
        """Rows that have not had their time."""
        if self.rows.told is None:
            return np.zeros(len(self.rows.at), np.bool_)
        young: BoolArray = self.rows.told[:, self.index] < 1.0
        return young

    def _mass(self) -> F64:
        """How many rows each stands for, (n,)."""
        if self.rows.rate is None:
            return np.ones(len(self.rows.at))
        return 1.0 / np.maximum(self.rows.rate.astype(np.float64), 1e-12)

    def _sampling(self, which: I64) -> tuple[float, F32 | None]:
        """What undoes the sampling of these rows: an offset of the log-odds, or weights to learn with.

        Where every row with the outcome was drawn at one rate, and every other at another, the log-odds of the sample
        are too high by the logarithm of the ratio, exactly (King and Zeng 2001, section 4.1; He et al. 2014, section
        6.3). Otherwise each row counts as many times as rows that it stands for.
        """
        if self.rows.rate is None or not len(which):
            return 0.0, None
        rate, positive = self.rows.rate[which].astype(np.float64), self.label[which] > 0.5
        some = [rate[positive], rate[~positive]]
        if any(not len(one) for one in some):
            return 0.0, None
        if all(float(np.ptp(one)) <= 1e-6 * float(one.max()) for one in some):
            return float(np.log(some[1].mean() / some[0].mean())), None
        weight = 1.0 / np.maximum(rate, 1e-12)
        return 0.0, (weight / weight.mean()).astype(np.float32)


@dataclass(frozen=True)
class _Served:
    """What goes into service of a head."""

    model: HeadModel | Part
    calibration: Calibration
    size: int
    rows: int = 0
    offset: float = 0.0
    young: int = 0


def _check(heads: Sequence[HeadConfig], columns: Sequence[str], rows: Rows) -> None:
    n = len(rows.at)
    shapes: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
        "features": (rows.features.shape, (n, len(columns))),
        "labels": (rows.labels.shape, (n, len(heads))),
        "told": ((n, len(heads)) if rows.told is None else rows.told.shape, (n, len(heads))),
    }
    for name in ("group", "unit", "rate", "segment"):
        column = getattr(rows, name)
        shapes[name] = ((n,) if column is None else column.shape, (n,))
    for name, (got, expected) in shapes.items():
        if got != expected:
            raise BuildError(expected=f"{name} of shape {expected}", got=str(got), do="Check the training set.")
    if len(set(columns)) != len(columns):
        raise BuildError(expected="distinct feature names", got="a name twice", do="Rename one of them.")
    names = [head.name for head in heads]
    if len(set(names)) != len(names):
        raise BuildError(expected="distinct names of heads", got=", ".join(names), do="Rename one in [[heads]].")
