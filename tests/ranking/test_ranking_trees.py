from __future__ import annotations

import itertools
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from sklearn.metrics import ndcg_score

from honeyguide.contracts import Scorer
from honeyguide.engines.trees.catboost_trees import CatBoostTrees
from honeyguide.errors import BuildError
from honeyguide.kernels.calibration import log_losses
from honeyguide.ranking.calibrate import choose_calibrator
from honeyguide.ranking.config import RankerConfig
from honeyguide.ranking.fit import fit_heads
from honeyguide.ranking.heads import FILM_HEADS, HeadConfig, labels
from honeyguide.ranking.measure import compare, interval_of_mean, rank_metrics
from honeyguide.ranking.ranker import HeadsRanker
from honeyguide.ranking.rows import HeadReport, Rows
from honeyguide.ranking.split import split_by_time
from honeyguide.ranking.trees import TreesFamily
from honeyguide.testing.scorers import broken_scorer_laws

NAMES = [f"feature_{i}" for i in range(7)]
HEADS = tuple(head.model_copy(update={"trees": 40}) for head in FILM_HEADS)


def training(requests: int = 500, candidates: int = 20, seed: int = 0) -> Rows:
    """Requests with candidates; what is watched depends on features 0 and 1, how it is liked on feature 2."""
    rng = np.random.default_rng(seed)
    n = requests * candidates
    x = rng.normal(size=(n, len(NAMES))).astype(np.float32)
    x[rng.random(x.shape) < 0.05] = np.nan
    group = np.repeat(np.arange(requests), candidates)
    pull = np.nan_to_num(x[:, 0]) + np.nan_to_num(x[:, 1] ** 2)
    watched = pull + rng.gumbel(size=n) > 2.0
    stars = np.clip(np.round(3.3 + np.nan_to_num(x[:, 2]) + rng.normal(size=n) * 0.7), 1, 5)
    action = np.where(watched, 0, -1).astype(np.int16)
    value = np.where(watched, stars, np.nan).astype(np.float32)
    y = np.stack([labels(head, action, value, ("rating",)) for head in HEADS], axis=1)
    order = rng.permutation(n)  # rows need not come in order
    return Rows(x[order], y[order], group[order] * 1_000_000, group[order], group[order] % 97)


CONFIG = RankerConfig(kinds=("trees",))


def trees_of(heads, rows: Rows, engine=None, *, names=NAMES, threads: int = 2, **options) -> HeadsRanker:
    return fit_heads(CONFIG, heads, [TreesFamily(engine or CatBoostTrees(), threads=threads)], names, rows, **options)


@pytest.fixture(scope="module")
def rows() -> Rows:
    return training()


@pytest.fixture(scope="module")
def ranker(rows) -> HeadsRanker:
    return trees_of(HEADS, rows)


def test_all_heads_learn(ranker):
    assert ranker.names == ("like", "dislike", "watch")
    assert ranker.calibrated == (True, True, False)
    for report in ranker.reports[:2]:
        m = report.metrics
        assert m["log_loss"] < m["log_loss_constant"]
        assert m["log_loss_gain"] == pytest.approx(m["log_loss_constant"] - m["log_loss"])
        assert 0 < m["log_loss_gain_low"] < m["log_loss_gain"] < m["log_loss_gain_high"]
        assert m["auc"] > 0.75
        assert m["ece"] < 0.12
        assert next(iter(report.importance)) == "feature_2"
        assert sum(report.importance.values()) == pytest.approx(1.0)
    watch = ranker.reports[2]
    assert set(list(watch.importance)[:2]) == {"feature_0", "feature_1"}
    assert watch.metrics["auc_within_group"] > 0.7
    assert "not a probability" in watch.reason
    assert watch.calibrator == "raw"


def test_scores_are_bit_equal_to_the_engines_own(ranker, rows, tmp_path):
    ranker.save(tmp_path)
    raw = ranker.raw(rows.features)
    for at, name in enumerate(ranker.names):
        assert np.array_equal(CatBoostTrees().load(tmp_path / f"{name}.cbm").predict(rows.features), raw[:, at])
    scores = ranker.score(rows.features)
    assert np.array_equal(scores[:, 2], raw[:, 2])
    assert ((scores[:, :2] >= 0) & (scores[:, :2] <= 1)).all()
    for at in range(2):  # calibration never reverses two candidates
        assert (np.diff(scores[np.argsort(raw[:, at]), at]) >= 0).all()


def test_each_head_is_a_scorer_that_keeps_the_laws(ranker, rows):
    for at, name in enumerate(ranker.names):
        head = ranker.head(name)
        assert isinstance(head, Scorer)
        assert broken_scorer_laws(head, rows.features[:600]) == []
        assert head.calibrated == ranker.calibrated[at]
        assert np.array_equal(head.score(rows.features), ranker.score(rows.features)[:, at])


def test_saved_and_loaded_without_the_tree_library(ranker, rows, tmp_path):
    ranker.save(tmp_path)
    np.save(tmp_path / "x.npy", rows.features[:300])
    code = (
        "import sys, numpy as np; from pathlib import Path; from honeyguide.ranking.ranker import HeadsRanker;"
        "p = Path(sys.argv[1]); r = HeadsRanker.load(p); np.save(p / 'y.npy', r.score(np.load(p / 'x.npy')));"
        "print('catboost' in sys.modules, 'sklearn' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert out.stdout == "False False\n"
    assert np.array_equal(np.load(tmp_path / "y.npy"), ranker.score(rows.features[:300]))
    again = HeadsRanker.load(tmp_path, NAMES)
    assert again.reports == ranker.reports
    assert (again.names, again.calibrated) == (ranker.names, ranker.calibrated)


def test_other_features_are_refused(ranker, rows, tmp_path):
    ranker.save(tmp_path)
    with pytest.raises(BuildError, match="missing \\['feature_6'\\], new \\['late'\\]"):
        HeadsRanker.load(tmp_path, [*NAMES[:-1], "late"])
    with pytest.raises(BuildError, match="another order"):
        ranker.check(NAMES[::-1])
    with pytest.raises(BuildError, match="7 features"):
        ranker.score(rows.features[:, :6])
    with pytest.raises(BuildError, match="in service"):
        ranker.head("love")


def test_a_damaged_folder_is_refused(ranker, tmp_path):
    with pytest.raises(BuildError, match="a ranker in"):
        HeadsRanker.load(tmp_path)
    for name in ("trees.leaf.npy", "ranker.json"):
        folder = tmp_path / name
        folder.mkdir()
        ranker.save(folder)
        (folder / name).write_bytes(b"")
        with pytest.raises(BuildError, match="a ranker in"):
            HeadsRanker.load(folder)


def test_the_same_seed_gives_the_same_ranker(ranker, rows):
    again = trees_of(HEADS, rows, threads=1)
    assert again.reports == ranker.reports
    assert np.array_equal(again.score(rows.features), ranker.score(rows.features))


def test_nothing_newer_is_learnt_from(rows):
    """Labels of the newest rows turned round change what is measured there, and not one tree."""
    fitted = []

    class Spy(CatBoostTrees):
        def fit(self, *data, **options):
            fitted.append(super().fit(*data, **options))
            return fitted[-1]

    known = rows.at[~np.isnan(rows.labels[:, 0])]
    newest = rows.at >= np.quantile(known, 0.93)
    turned = np.where(newest[:, None], 1.0 - rows.labels, rows.labels)[:, :1]
    honest = trees_of(HEADS[:1], replace(rows, labels=rows.labels[:, :1]), Spy()).reports[0]
    fooled = trees_of(HEADS[:1], replace(rows, labels=turned), Spy()).reports[0]
    assert len(fitted) == 3  # the honest one learnt again before it serves; the fooled one is off
    assert np.array_equal(fitted[0].arrays().leaf, fitted[2].arrays().leaf)
    assert honest.on
    assert not fooled.on
    assert "not better than the constant" in fooled.reason


def test_a_head_without_support_is_off_and_says_why(rows):
    nan = np.full((len(rows.at), 1), np.nan, np.float32)

    def only(label, head=HEADS[0], **changes):
        ranker = trees_of((head,), replace(rows, labels=label, **changes))
        assert ranker.names == ()
        assert ranker.score(rows.features[:3]).shape == (3, 0)
        return ranker

    assert "0 with the outcome and 0 without" in only(nan).reports[0].reason
    assert "and 0 without" in only(np.ones_like(nan)).reports[0].reason
    chance = np.random.default_rng(0).integers(0, 2, nan.shape).astype(np.float32)
    assert "not better than the constant" in only(chance).reports[0].reason
    assert "CatBoost can learn from" in only(chance, features=np.ones_like(rows.features)).reports[0].reason
    assert "which request" in only(rows.labels[:, 2:], HEADS[2], group=None).reports[0].reason
    # All rows of one moment leave nothing to hold out.
    assert not only(rows.labels[:, :1], at=np.zeros_like(rows.at)).reports[0].on


def test_off_and_on_heads_live_together(rows, tmp_path):
    y = rows.labels.copy()
    y[:, 0] = np.nan
    ranker = trees_of(HEADS, replace(rows, labels=y))
    assert ranker.names == ("dislike", "watch")
    assert [report.on for report in ranker.reports] == [False, True, True]
    ranker.save(tmp_path)
    assert np.array_equal(HeadsRanker.load(tmp_path).score(rows.features), ranker.score(rows.features))
    with pytest.raises(BuildError, match="0 with the outcome"):
        ranker.head("like")


def test_no_head_at_all_is_still_a_ranker(rows, tmp_path):
    ranker = trees_of(HEADS, replace(rows, labels=rows.labels * np.nan))
    ranker.save(tmp_path)
    assert HeadsRanker.load(tmp_path, NAMES).score(rows.features[:2]).shape == (2, 0)


def test_parts_that_do_not_match_are_refused(rows):
    for bad in (
        {"labels": rows.labels[:, :2]},
        {"features": rows.features[:-1]},
        {"group": rows.group[:-1]},
        {"unit": rows.unit[:-1]},
    ):
        with pytest.raises(BuildError, match="of shape"):
            trees_of(HEADS, replace(rows, **bad))
    with pytest.raises(BuildError, match="distinct"):
        trees_of(HEADS, rows, names=["a"] * 7)
    with pytest.raises(BuildError, match="distinct names of heads"):
        trees_of((HEADS[0], HEADS[0], HEADS[2]), rows)
    with pytest.raises(ValidationError, match="each kind once"):
        RankerConfig(kinds=())
    with pytest.raises(ValidationError, match="less than a fifth"):
        RankerConfig(stop_share=0.2, calibrate_share=0.35, test_share=0.35)


def test_progress_is_told(rows):
    told = []
    trees_of(HEADS[2:], replace(rows, labels=rows.labels[:, 2:]), progress=lambda *step: told.append(step))
    assert told == [("head watch", 0, 1), ("heads", 1, 1)]


@pytest.mark.parametrize("distort, kinds", [
    (lambda z: z, {"identity"}),
    (lambda z: 3 * z + 1, {"platt", "beta"}),
    (lambda z: np.where(z > 0, 4.0 + z / 9, -4.0 + z / 9) - 2, {"isotonic", "beta"}),
])  # fmt: skip
def test_the_calibrator_fits_the_distortion(distort, kinds):
    rng = np.random.default_rng(0)
    z = rng.normal(0, 2, 20_000)
    y = (rng.random(len(z)) < 1 / (1 + np.exp(-z))).astype(np.float32)
    chosen = choose_calibrator(distort(z), y)
    assert chosen.kind in kinds
    best = log_losses(1 / (1 + np.exp(-z)), y).mean()
    if distort(1.0) in (1.0, 4.0):  # the distortion can be undone
        assert log_losses(chosen(distort(z)), y).mean() == pytest.approx(best, abs=2e-3)


def test_rank_metrics_equal_scikit_learn():
    rng = np.random.default_rng(0)
    group = rng.permutation(np.repeat(np.arange(30), 15))
    score, label = rng.normal(size=450), (rng.random(450) < 0.2).astype(np.float32)
    ours = rank_metrics(score, label, group)
    theirs = [
        ndcg_score(label[group == g][None], score[group == g][None], k=10) for g in range(30) if label[group == g].any()
    ]
    assert ours["ndcg_at_10"] == pytest.approx(np.mean(theirs))
    assert ours["groups"] == len(theirs)
    # A constant score earns nothing by luck: the candidates without the outcome come first.
    tied = rank_metrics(np.zeros(22), np.repeat([1.0, 0.0], 11).astype(np.float32), np.zeros(22, np.int64))
    assert tied["ndcg_at_10"] == 0.0
    assert tied["auc_within_group"] == 0.5
    assert rank_metrics(score[:3], np.zeros(3, np.float32), group[:3])["ndcg_at_10"] is None


def test_the_ranker_is_switched_on_only_beyond_chance():
    rng = np.random.default_rng(0)
    blend = rng.random(400)
    better = compare(blend + 0.05 + rng.normal(0, 0.1, 400), blend)
    assert better.on
    assert better.low > 0.0
    assert better.n == 400
    same = compare(blend + rng.normal(0, 0.1, 400), blend)
    assert not same.on
    assert same.low < 0.0 < same.high
    worse = compare(blend - 0.05, blend)
    assert not worse.on
    assert worse.high < 0.0
    holes = np.where(rng.random(400) < 0.1, np.nan, blend)
    assert compare(blend + 0.1, holes).n == int((~np.isnan(holes)).sum())
    none = compare(np.full(3, np.nan), np.zeros(3))
    assert not none.on
    assert "0 queries of 0 units" in none.reason
    assert not compare(blend + 1, blend, unit=np.zeros(400, np.int64)).on  # one person proves nothing
    with pytest.raises(ValueError, match="one value per query"):
        compare(np.zeros(2), np.zeros(3))


def test_the_interval_covers_what_theory_says():
    rng = np.random.default_rng(1)
    value = rng.normal(1.0, 2.0, 500)
    low, high = interval_of_mean(value, resamples=4000)
    half = 1.96 * value.std() / np.sqrt(500)
    assert [low, high] == pytest.approx([value.mean() - half, value.mean() + half], abs=0.03)
    # Twenty copies of each person's row hold no more evidence than one.
    people = np.repeat(np.arange(500), 20)
    wide = interval_of_mean(np.repeat(value, 20), people, resamples=4000)
    assert wide == pytest.approx((low, high), abs=0.03)


def test_the_kit_names_what_a_scorer_breaks(rows):
    class Honest:
        name, calibrated = "honest", False

        def score(self, features):
            return np.nan_to_num(features[:, 0]).astype(np.float64)

    class Loud(Honest):
        calibrated = True

    class Relative(Honest):
        def score(self, features):
            return super().score(features) - np.nan_to_num(features[:, 0]).astype(np.float64).max(initial=0)

    class Listwise(Honest):
        def score(self, features):
            return np.arange(len(features), dtype=np.float64)

    class Careless(Honest):
        def score(self, features):
            features[:, 0] = 0.0
            return features[:, 0].astype(np.float64)

    class Single(Honest):
        def score(self, features):
            return super().score(features).astype(np.float32)

    class Endless(Honest):
        def score(self, features):
            return np.full(len(features), np.inf)

    x = rows.features[:90]
    assert broken_scorer_laws(Honest(), x) == []
    for scorer, word in (
        (Loud(), "outside"),
        (Relative(), "other candidates"),
        (Listwise(), "order"),
        (Careless(), "changes the features"),
        (Single(), "float64"),
        (Endless(), "infinity"),
        (object(), "lacks"),
    ):
        assert any(word in law for law in broken_scorer_laws(scorer, x)), word


def test_a_report_survives_json():
    import msgspec

    report = HeadReport(name="a", kind="rank", on=True, reason="", calibrated=False, metrics={"auc": None, "ece": 0.1})
    assert msgspec.json.decode(msgspec.json.encode(report), type=HeadReport) == report


def test_a_rank_head_keeps_requests_whole_and_thins_them():
    rows = training(requests=200)
    seen = {}

    class Spy(CatBoostTrees):
        def fit(self, features, label, **options):
            seen.update(label=label, group=options["group"], held=options["validation"])
            return super().fit(features, label, **options)

    head = HeadConfig(name="watch", action="rating", kind="rank", trees=5, negatives_per_group=3, max_rows=500)
    trees_of((head,), replace(rows, labels=rows.labels[:, 2:]), Spy())
    group, label, held = seen["group"], seen["label"], seen["held"]
    assert len(label) <= 500
    assert not set(group) & set(held[2])
    for g in set(group):
        whole = (rows.group == g) & (rows.labels[:, 2] == 1)
        assert label[group == g].sum() == whole.sum()
        assert (label[group == g] == 0).sum() == min(3, (rows.group == g).sum() - whole.sum())
    assert set(group) == set(range(min(group), max(group) + 1))  # the newest that fit, none left out between


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 120), st.sampled_from([3, 30, 10**9]), st.booleans())
def test_parts_follow_each_other_and_lose_no_row(seed, n, moments, grouped):
    rng = np.random.default_rng(seed)
    at, known = rng.integers(0, moments, n), rng.random(n) < 0.8
    group = rng.integers(0, max(n // 4, 1), n) if grouped else None
    parts = split_by_time(known, at, group, (0.1, 0.1, 0.2))
    rows = [parts.fit, parts.stop, parts.calibrate, parts.test]
    assert sorted(np.concatenate(rows)) == np.flatnonzero(known).tolist()
    if grouped:  # a request lies where its last known row does
        at = np.array([at[known & (group == g)].max(initial=-1) for g in group], np.int64)
    filled = [at[part] for part in rows if len(part)]
    for earlier, later in itertools.pairwise(filled):
        assert earlier.max() < later.min()
    if moments == 10**9 and not grouped and n == 100:
        assert len(parts.test) == pytest.approx(0.2 * known.sum(), abs=1)
