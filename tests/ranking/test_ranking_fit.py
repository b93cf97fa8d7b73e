"""How heads are made, against planted truths: kinds compete, samples and delays are undone, drift is followed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit, logit

from honeyguide.contracts import RankInput
from honeyguide.engines.trees.catboost_trees import CatBoostTrees
from honeyguide.errors import BuildError
from honeyguide.kernels.calibration import calibration_errors, fit_logistic, log_losses
from honeyguide.kernels.linear import fit_listwise, linear_scores, read_design
from honeyguide.ranking.calibrate import calibration_of, choose_calibrator, correct
from honeyguide.ranking.config import RankerConfig
from honeyguide.ranking.fit import fit_heads
from honeyguide.ranking.heads import HeadConfig
from honeyguide.ranking.linear import LinearFamily
from honeyguide.ranking.measure import ndcg_by_group
from honeyguide.ranking.models import Given
from honeyguide.ranking.ranker import HeadsRanker
from honeyguide.ranking.rows import Rows
from honeyguide.ranking.trees import TreesFamily

NAMES = ("a", "b", "c")
HEAD = HeadConfig(name="click", action="click", trees=60)
RANK = HeadConfig(name="next", action="click", kind="rank", trees=60)
CONFIG = RankerConfig(resamples=200)


def trees() -> TreesFamily:
    return TreesFamily(CatBoostTrees(), threads=1)


def world(n: int, seed: int = 0, *, curved: bool = False, base: float = 0.0) -> tuple[Rows, np.ndarray]:
    """Rows with the true probability of each: a line in two features, or bent where `curved`."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 3)).astype(np.float32)
    z = 1.2 * x[:, 0] - 0.8 * x[:, 1] + base
    if curved:
        z = 2.0 * np.sign(x[:, 0] * x[:, 1]) + base
    p = expit(z.astype(np.float64))
    y = (rng.random(n) < p).astype(np.float32)
    return Rows(x, y[:, None], np.arange(n) * 1_000_000, unit=rng.integers(0, n // 20, n)), p


# -------------------------------------------------------------------------------------------------- which kind


def test_trees_win_where_it_bends_and_lines_where_it_is_straight() -> None:
    bent, _ = world(6_000, curved=True)
    (report,) = fit_heads(CONFIG, (HEAD,), [LinearFamily(), trees()], NAMES, bent).reports
    assert report.model == "trees"  # though a line is preferred: it is better beyond chance
    line = next(one for one in report.contest if one.kind == "linear")
    assert line.gain is not None
    assert 0.0 < line.low < line.gain < line.high
    assert report.metrics["log_loss_logistic_gain_low"] > 0.0
    straight, _ = world(2_500)
    (report,) = fit_heads(CONFIG, (HEAD,), [LinearFamily(), trees()], NAMES, straight).reports
    assert report.model == "linear"
    (report,) = fit_heads(CONFIG, (HEAD,), [trees(), LinearFamily()], NAMES, straight).reports
    other = next(one for one in report.contest if not one.chosen)
    # The first kind stays unless the other is better beyond chance.
    assert report.model == "linear" if other.kind == "trees" else (other.high is None or other.high > 0.0)


def test_the_paired_gain_is_that_of_the_losses() -> None:
    """On the newest rows, by hand: the ranker against a line fitted here on what the line saw."""
    rows, p = world(5_000, curved=True)
    config = CONFIG.model_copy(update={"refit": False})
    ranker = fit_heads(config, (HEAD,), [trees(), LinearFamily()], NAMES, rows)
    (report,) = ranker.reports
    test = slice(4_000, None)
    mine = log_losses(ranker.score(rows.features[test])[:, 0], rows.labels[test, 0].astype(float))
    assert report.metrics["rows"] == 1_000
    assert report.metrics["log_loss"] == pytest.approx(mine.mean(), abs=0.01)  # but for rolling calibration
    truth = log_losses(p[test], rows.labels[test, 0].astype(float)).mean()
    assert truth - 0.02 < report.metrics["log_loss"] < report.metrics["log_loss_logistic"]


def test_a_line_can_order_the_candidates_of_a_request() -> None:
    rng = np.random.default_rng(0)
    groups, k = 600, 12
    x = rng.normal(size=(groups * k, 3)).astype(np.float32)
    group = np.repeat(np.arange(groups), k)
    utility = 1.5 * x[:, 0] - x[:, 2] + rng.gumbel(size=groups * k)
    y = np.zeros(groups * k, np.float32)
    y[np.arange(groups) * k + utility.reshape(groups, k).argmax(axis=1)] = 1.0
    rows = Rows(x, y[:, None], group * 1_000_000, group, group.astype(np.int64))
    ranker = fit_heads(CONFIG, (RANK,), [LinearFamily(), trees()], NAMES, rows)
    (report,) = ranker.reports
    assert report.model == "linear"
    assert report.metrics["ndcg_at_10"] > 0.7
    weights = fit_listwise(x.astype(float), y.astype(float), group, ridge=1e-6)
    assert weights == pytest.approx([1.5, 0.0, -1.0], abs=0.15)  # the conditional logit finds the truth


def test_listwise_equals_the_gradient_by_plain_loops() -> None:
    rng = np.random.default_rng(3)
    x, group = rng.normal(size=(30, 2)), np.repeat([5, 1, 3], [8, 12, 10])
    y = (rng.random(30) < 0.3).astype(float)
    w = fit_listwise(x, y, group, ridge=0.5)

    def loss(w: np.ndarray) -> float:
        total = 0.25 * float(w @ w)
        for g in (1, 3, 5):
            z, t = x[group == g] @ w, y[group == g]
            if 0 < t.sum() < len(t):
                total -= float((t / t.sum()) @ (z - np.log(np.exp(z).sum())))
        return total

    best = loss(w)
    for step in np.vstack([np.eye(2), -np.eye(2)]) * 1e-3:
        assert loss(w + step) >= best


def test_ndcg_by_group_by_plain_loops() -> None:
    rng = np.random.default_rng(5)
    group, label = rng.integers(0, 20, 300), (rng.random(300) < 0.2).astype(np.float32)
    score = rng.integers(0, 6, 300).astype(float)
    expected = []
    for g in np.unique(group):
        rows = sorted(np.flatnonzero(group == g), key=lambda i: (-score[i], label[i]))
        gains = [label[i] / np.log2(place + 2) for place, i in enumerate(rows[:10])]
        ideal = [1 / np.log2(place + 2) for place in range(min(int(label[rows].sum()), 10))]
        if ideal:
            expected.append(sum(gains) / sum(ideal))
    assert ndcg_by_group(score, label, group) == pytest.approx(expected)


def test_the_design_splits_short_lists_and_tells_what_is_missing() -> None:
    x = np.array(
        [[0, 1.0, 7, np.nan], [1, 2.0, 7, 3.0], [2, 4.0, 7, 5.0], [2, 9.0, 7, 8.5], [2, 9.5, 7, 1.5]], np.float32
    )
    design = read_design(x, few=3)
    assert design.dense.tolist() == [1, 3]
    assert design.gap.tolist() == [3]
    assert list(zip(design.few.tolist(), design.value.tolist(), strict=True)) == [
        (0, 0.0),
        (0, 1.0),
    ]  # 2 is most frequent
    matrix = design.matrix(x)
    assert matrix[:, 0] == pytest.approx((x[:, 1] - x[:, 1].mean()) / x[:, 1].std())
    assert matrix[0, 1] == 0.0  # missing: the mean
    assert matrix[:, 2].tolist() == [1, 0, 0, 0, 0]
    assert linear_scores(design, np.arange(6.0), x) == pytest.approx(matrix @ np.arange(5.0) + 5.0)
    with pytest.raises(ValueError, match="expected"):
        linear_scores(design, np.arange(6.0), x[:, :3])


# ----------------------------------------------------------------------------------------- sampling and delays


@pytest.mark.parametrize("family", [LinearFamily(), trees()])
def test_sampled_negatives_are_undone_exactly(family) -> None:
    """Nineteen of twenty rows without the outcome are thrown away; probabilities are those of all rows."""
    whole, p = world(60_000, base=-3.0)
    rng = np.random.default_rng(1)
    rate = np.where(whole.labels[:, 0] > 0.5, 1.0, 0.05).astype(np.float32)
    kept = np.flatnonzero(rng.random(60_000) < rate)
    part = Rows(whole.features[kept], whole.labels[kept], whole.at[kept], unit=whole.unit[kept], rate=rate[kept])
    ranker = fit_heads(CONFIG, (HEAD,), [family], NAMES, part)
    (report,) = ranker.reports
    assert report.offset == pytest.approx(np.log(0.05), rel=1e-5)
    mine = ranker.score(whole.features)[:, 0]
    assert mine.mean() == pytest.approx(p.mean(), rel=0.06)
    assert calibration_errors(mine, whole.labels[:, 0].astype(float)).error < 0.012
    assert report.metrics["positives"] == pytest.approx(whole.labels.mean(), rel=0.1)  # measured as before sampling
    naive = fit_heads(CONFIG, (HEAD,), [family], NAMES, replace(part, rate=None)).score(whole.features)[:, 0]
    assert naive.mean() > 2.5 * p.mean()


def test_the_offset_is_that_of_the_sampling_to_the_last_digit() -> None:
    """King and Zeng: a logistic regression on the sample differs from that on all rows in its intercept alone."""
    rng = np.random.default_rng(0)
    n = 400_000
    x = rng.normal(size=(n, 1))
    y = (rng.random(n) < expit(x[:, 0] - 3.0)).astype(float)
    kept = (y > 0) | (rng.random(n) < 0.1)
    whole, part = fit_logistic(x, y), fit_logistic(x[kept], y[kept])
    assert part[0] == pytest.approx(whole[0], abs=0.03)
    assert part[1] + np.log(0.1) == pytest.approx(whole[1], abs=0.03)


def test_rows_drawn_at_many_rates_count_as_what_they_stand_for() -> None:
    whole, p = world(60_000, base=-2.0)
    rng = np.random.default_rng(2)
    rate = np.clip(expit(whole.features[:, 0]) * 0.5, 0.02, 1.0).astype(np.float32)  # tells of the feature
    kept = np.flatnonzero(rng.random(60_000) < rate)
    part = Rows(whole.features[kept], whole.labels[kept], whole.at[kept], unit=whole.unit[kept], rate=rate[kept])
    ranker = fit_heads(CONFIG, (HEAD,), [LinearFamily()], NAMES, part)
    assert ranker.reports[0].offset == 0.0
    assert ranker.score(whole.features)[:, 0].mean() == pytest.approx(p.mean(), rel=0.05)


def test_what_may_still_come_is_weighed_by_its_chance() -> None:
    """The rate doubles lately, and lately most outcomes have not come yet: taken for negatives they hide the change."""
    n, young_from = 30_000, 24_000
    rng = np.random.default_rng(4)
    x = rng.normal(size=(n, 3)).astype(np.float32)
    x[:, 2] = np.arange(n) >= 22_000  # a mark of the new time
    p = expit(-1.5 + 0.8 * x[:, 0] + 1.2 * x[:, 2])
    y = (rng.random(n) < p).astype(np.float32)
    age = (n - np.arange(n)) / (n - young_from)  # in horizons
    known = np.where(np.arange(n) < young_from, 1.0, 1.0 - np.exp(-3.0 * age)) / np.where(
        np.arange(n) < young_from, 1.0, 1.0 - np.exp(-3.0)
    )
    so_far = (y * (rng.random(n) < known)).astype(np.float32)
    told = np.minimum(known, np.where(np.arange(n) < young_from, 1.0, 1.0 - 1e-6)).astype(np.float32)
    rows = Rows(x, so_far[:, None], np.arange(n) * 1_000_000, unit=rng.integers(0, 3_000, n), told=told[:, None])
    config = CONFIG.model_copy(update={"calibrate_share": 0.05, "test_share": 0.05})
    new = slice(young_from, None)

    def gap(these: Rows) -> float:
        ranker = fit_heads(config, (HEAD,), [LinearFamily()], NAMES, these)
        return float((ranker.score(x[new])[:, 0] - p[new]).mean())

    weighed = fit_heads(config, (HEAD,), [LinearFamily()], NAMES, rows)
    assert weighed.reports[0].young_rows == n - young_from
    naive = gap(replace(rows, told=None))
    assert naive < -0.05  # what has not come yet is taken for what never comes
    assert abs(gap(rows)) < 0.35 * abs(naive)


# -------------------------------------------------------------------------------------------------- calibration


def test_calibration_rolls_and_follows_a_drift() -> None:
    """The base rate climbs all along: a calibration that weighs recent rows is nearer to what follows."""
    rng = np.random.default_rng(0)
    n = 20_000
    z = rng.normal(size=n)
    drift = np.linspace(-1.0, 1.0, n)
    y = (rng.random(n) < expit(z + drift)).astype(np.float32)
    plain = choose_calibrator(z[: n // 2], y[: n // 2])
    after = slice(n // 2, n // 2 + 1_000)
    bias = float((plain(z[after]) - expit(z + drift)[after]).mean())
    everything = float((expit(z[: n // 2] + drift[: n // 2].mean()) - expit(z[: n // 2])).mean())
    assert abs(bias) < 0.6 * abs(everything)


def test_losses_of_a_calibration_are_of_rows_it_had_not_seen() -> None:
    rng = np.random.default_rng(0)
    z = rng.normal(size=4_000)
    y = (rng.random(4_000) < expit(2 * z + 1)).astype(np.float32)
    turned = y.copy()
    turned[3_200:] = 1 - turned[3_200:]
    honest, fooled = calibration_of(z, y), calibration_of(z, turned)
    assert honest.tried == slice(800, 4_000)
    assert (
        np.array_equal(honest.losses[:2_400], fooled.losses[:2_400]) or honest.calibrator.kind != fooled.calibrator.kind
    )


def test_segments_are_calibrated_apart_only_where_it_pays() -> None:
    rng = np.random.default_rng(1)
    n = 20_000
    z, segment = rng.normal(size=n), rng.integers(0, 4, n).astype(np.int32)
    segment[:80] = 4
    shift = np.array([0.8, -0.8, 0.0, 0.3, 0.0])[segment]
    y = (rng.random(n) < expit(z + shift)).astype(np.float32)
    found = calibration_of(z, y, segment=segment, segments=5)
    assert found.segments is not None
    p = correct(found.segments, found.calibrator(z), segment)
    for code in range(4):
        of = segment == code
        assert p[of].mean() == pytest.approx(expit(z + shift)[of].mean(), abs=0.012)
    assert "too few, as the whole" in str(found.told[4]["reason"])
    assert np.array_equal(found.segments[4:], np.zeros((2, 2)))  # so few, and nobody's: as the whole
    alike = calibration_of(z, (rng.random(n) < expit(z)).astype(np.float32), segment=segment, segments=5)
    assert alike.segments is None or np.abs(alike.segments).max() < 0.15  # shrunk towards nothing
    none = calibration_of(z, y, segment=np.full(n, -1, np.int32), segments=5)
    assert none.segments is None


def test_a_segment_never_turns_scores_round() -> None:
    rng = np.random.default_rng(2)
    z = rng.normal(size=3_000)
    y = (rng.random(3_000) < expit(-3.0 * z)).astype(np.float32)  # the score is wrong way round in segment 1
    segment = np.repeat([0, 1], 1_500).astype(np.int32)
    y[:1_500] = rng.random(1_500) < expit(z[:1_500])
    order = rng.permutation(3_000)
    found = calibration_of(z[order], y[order], segment=segment[order], segments=2)
    if found.segments is not None:
        at = np.linspace(-3, 3, 50)
        p = correct(found.segments, found.calibrator(at), np.ones(50, np.int32))
        assert (np.diff(p) >= 0).all()


def test_segments_are_served_as_they_were_calibrated(tmp_path) -> None:
    rows, _ = world(12_000)
    rng = np.random.default_rng(0)
    segment = rng.integers(0, 3, 12_000).astype(np.int32)
    shifted = expit(
        logit(expit(1.2 * rows.features[:, 0] - 0.8 * rows.features[:, 1])) + np.array([1.0, -1.0, 0.0])[segment]
    )
    y = (rng.random(12_000) < shifted).astype(np.float32)
    rows = replace(rows, labels=y[:, None], segment=segment)
    ranker = fit_heads(CONFIG, (HEAD,), [LinearFamily()], NAMES, rows, segments=3)
    ranker.save(tmp_path)
    again = HeadsRanker.load(tmp_path, NAMES)
    assert not again.plain
    for code in range(3):
        of = segment == code
        given = replace(RankInput.of_features(rows.features[of]), segment=np.array([code], np.int32))
        assert np.array_equal(again.score(given), ranker.score(given))
        assert again.score(given)[:, 0].mean() == pytest.approx(shifted[of].mean(), abs=0.02)
    nobody = again.score(rows.features)[:, 0]
    assert np.array_equal(
        nobody, again.score(replace(RankInput.of_features(rows.features), segment=np.array([-1], np.int32)))[:, 0]
    )


@pytest.mark.parametrize("shift", [0.0, 0.03])
def test_the_calibration_error_is_found_without_what_chance_adds(shift: float) -> None:
    """Rows of a person err alike; the interval holds the truth in nearly all of many logs, the plain figure never."""
    holds, errors, plain = 0, [], []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        person, q = rng.integers(0, 200, 3_000), rng.uniform(0.1, 0.9, 3_000)
        own = rng.normal(0, 0.05, 200)[person]
        y = (rng.random(3_000) < np.clip(q + shift + own, 0, 1)).astype(float)
        found = calibration_errors(q, y, person, resamples=400)
        holds += found.low <= shift <= found.high
        errors.append(found.error)
        plain.append(found.ece)
        assert found.floor < found.ece + 0.02
    assert holds >= 54
    assert np.mean(np.square(errors)) == pytest.approx(shift**2, abs=3e-4)
    assert np.mean(plain) > shift + 0.008 if shift == 0.0 else True


def test_calibration_error_by_hand() -> None:
    found = calibration_errors(
        np.array([0.2] * 10 + [0.8] * 10), np.array([1.0] * 4 + [0.0] * 6 + [1.0] * 8 + [0.0] * 2)
    )
    assert found.ece == pytest.approx(0.1)  # .2 off in one half
    variance = np.array([0.24, 0.16]) / 9  # of the rate of each half, without bias
    assert found.error**2 == pytest.approx(max(0.5 * ((0.2**2 - variance[0]) + (0.0 - variance[1])), 0.0))
    assert np.isnan(calibration_errors(np.zeros(0), np.zeros(0)).ece)
    assert np.isnan(calibration_errors(np.full(5, 0.5), np.ones(5), np.zeros(5, np.int64)).error)  # one person


# ----------------------------------------------------------------------------------------------------- refitting


def test_the_served_model_has_learnt_from_the_newer_rows() -> None:
    rows, _ = world(8_000)
    config = CONFIG.model_copy(update={"refit": True})
    (report,) = fit_heads(config, (HEAD,), [LinearFamily()], NAMES, rows).reports
    assert report.fit_rows == pytest.approx(8_000 * 0.62, abs=2)
    assert report.refit_rows == pytest.approx(8_000 * 0.88, abs=2)
    (kept,) = fit_heads(config.model_copy(update={"refit": False}), (HEAD,), [LinearFamily()], NAMES, rows).reports
    assert kept.refit_rows == 0
    assert kept.metrics == report.metrics  # what is measured is the same


class _Elsewhere:
    """A part that knows the answer; nan for the last rows."""

    kind, heads = "deep", ("click",)

    def raw(self, told: RankInput) -> np.ndarray:
        return (1.2 * told.features[:, :1] - 0.8 * told.features[:, 1:2]).astype(np.float64)

    def save(self, folder) -> None:
        (folder / "there").touch()


def test_a_part_from_elsewhere_competes_like_any_kind(tmp_path) -> None:
    rows, p = world(4_000, curved=False)
    part = _Elsewhere()
    scores = part.raw(RankInput.of_features(rows.features))[:, 0]
    scores[:2_000] = np.nan  # learnt from: it has no say of those
    given = {"click": [Given(part, scores, {"a": 1.0})]}
    ranker = fit_heads(CONFIG, (HEAD,), [], NAMES, rows, given=given)
    assert ranker.reports[0].model == "deep"
    assert ranker.score(rows.features)[:, 0] == pytest.approx(p, abs=0.08)
    ranker.save(tmp_path)
    again = HeadsRanker.load(tmp_path, loaders={"deep": lambda folder: _Elsewhere()})
    assert np.array_equal(again.score(rows.features), ranker.score(rows.features))
    with pytest.raises(BuildError, match="a reader of parts of kind 'deep'"):
        HeadsRanker.load(tmp_path)
    nothing = {"click": [Given(part, np.full(4_000, np.nan), {})]}
    assert "gave no score" in fit_heads(CONFIG, (HEAD,), [], NAMES, rows, given=nothing).reports[0].reason
    assert not fit_heads(CONFIG, (HEAD,), [], NAMES, rows).reports[0].on
