"""The fused scorer against CatBoost's own predictions, bit by bit, and against a plain loop."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from catboost import CatBoost, Pool
from hypothesis import given, settings
from hypothesis import strategies as st

from honeyguide.engines.trees.catboost_trees import CatBoostConfig, CatBoostModel, CatBoostTrees
from honeyguide.errors import BuildError
from honeyguide.kernels.trees import FusedTrees, ObliviousTrees, fuse, score


def data(n: int = 3000, width: int = 9, seed: int = 0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, width)).astype(np.float32)
    x[:, 1] = np.round(x[:, 1] * 2)  # many equal values
    x[rng.random(x.shape) < 0.1] = np.nan
    x[:, 2] = 5.0  # says nothing
    x[:, 3] = rng.normal(size=n)  # never nan in training
    signal = np.nan_to_num(x[:, 0]) + np.nan_to_num(x[:, 1]) * 0.5 - x[:, 3] + np.isnan(x[:, 4])
    label = (signal + rng.normal(size=n) > 0).astype(np.float32)
    return x, label, np.arange(n) // 20


def probes(model_arrays: ObliviousTrees, n: int, seed: int):
    """Random rows, with nan, infinities, and values that lie exactly on borders or just beside them."""
    rng = np.random.default_rng(seed)
    width = model_arrays.n_features
    x = rng.normal(size=(n, width)).astype(np.float32)
    for f in range(width):
        borders = model_arrays.border[model_arrays.feature == f]
        if len(borders):
            hit = rng.random(n) < 0.5
            on = rng.choice(borders, n)
            on = np.choose(
                rng.integers(0, 3, n), [on, np.nextafter(on, np.float32(9)), np.nextafter(on, np.float32(-9))]
            )
            x[hit, f] = on[hit]
    x[rng.random(x.shape) < 0.1] = np.nan
    x[rng.random(x.shape) < 0.01] = np.inf
    x[rng.random(x.shape) < 0.01] = -np.inf
    return x


def plain(trees: ObliviousTrees, row) -> float:
    """One row through one ensemble, as one would do it by hand."""
    total, split, leaf = 0.0, 0, 0
    for depth in trees.depth:
        index = 0
        for level in range(depth):
            value = row[trees.feature[split]]
            yes = trees.nan_passes[trees.feature[split]] if np.isnan(value) else value > trees.border[split]
            index += int(yes) << level
            split += 1
        total += float(trees.leaf[leaf + index])
        leaf += 1 << int(depth)
    return total * trees.scale + trees.bias


@st.composite
def ensembles(draw, width: int = 4):
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    depth = np.array(draw(st.lists(st.integers(0, 8), max_size=9)), np.int32)
    splits = int(depth.sum())
    grid = draw(st.sampled_from([3, 50, 4000]))  # 4000: more borders than one byte column holds
    return ObliviousTrees(
        n_features=width,
        depth=depth,
        feature=rng.integers(0, width, splits).astype(np.int32),
        border=(rng.integers(-grid, grid, splits) / grid).astype(np.float32),
        leaf=rng.normal(size=int((1 << depth.astype(np.int64)).sum())),
        nan_passes=rng.random(width) < 0.5,
        scale=draw(st.sampled_from([1.0, 0.3])),
        bias=draw(st.sampled_from([0.0, -1.7])),
    )


@settings(max_examples=60, deadline=None)
@given(st.lists(ensembles(), min_size=1, max_size=3), st.integers(0, 1000))
def test_the_kernel_equals_a_plain_loop(heads, seed):
    x = np.concatenate([probes(head, 9, seed) for head in heads])
    assert score(fuse(heads), x).tolist() == [[plain(head, row) for head in heads] for row in x]


def test_more_borders_than_a_byte_holds():
    rng = np.random.default_rng(1)
    borders = np.sort(rng.normal(size=1000).astype(np.float32))
    trees = ObliviousTrees(
        1, np.ones(1000, np.int32), np.zeros(1000, np.int32), borders, np.tile([0.0, 1.0], 1000), np.zeros(1, bool)
    )
    fused = fuse([trees])
    assert len(fused.source) == 4
    x = np.concatenate([borders, rng.normal(size=200).astype(np.float32)])
    assert score(fused, x[:, None])[:, 0].tolist() == [float((borders < v).sum()) for v in x]


@pytest.mark.parametrize("objective", ["logloss", "rank"])
@pytest.mark.parametrize("depth", [1, 4, 6, 8])
def test_scores_are_bit_equal_to_catboost(objective, depth):
    x, y, group = data()
    heads = [
        CatBoostTrees().fit(x, y, objective=objective, group=group, trees=trees, depth=depth, seed=trees)
        for trees in (1, 6, 40)
    ]
    arrays = [head.arrays() for head in heads]
    z = probes(arrays[-1], 1500, depth)  # several blocks, the last one not full
    ours = score(fuse(arrays), z)
    for at, head in enumerate(heads):
        assert np.array_equal(ours[:, at], head.predict(z))


@pytest.mark.parametrize("options", [{"nan_mode": "Max"}, {"loss_function": "RMSE", "boost_from_average": True}])
def test_bit_equal_where_nan_is_largest_and_where_there_is_a_bias(options):
    x, y, _ = data()
    model = CatBoost(
        {"loss_function": "Logloss", "iterations": 30, "logging_level": "Silent", "allow_writing_files": False}
        | options
    )
    model.fit(Pool(x, y + 3.0 if "boost_from_average" in options else y))
    head = CatBoostModel(model)
    arrays = head.arrays()
    assert arrays.nan_passes.any() or arrays.bias > 1.0
    other = CatBoostTrees().fit(x, y, objective="logloss", trees=10).arrays()  # treats nan as smallest
    z = probes(arrays, 700, 1)
    assert np.array_equal(score(fuse([other, arrays]), z)[:, 1], head.predict(z))


def test_a_row_scores_the_same_in_any_company():
    x, y, _ = data()
    fused = fuse([CatBoostTrees().fit(x, y, objective="logloss", trees=30).arrays()])
    z = x[:1100]
    whole = score(fused, z)
    order = np.random.default_rng(0).permutation(len(z))
    assert np.array_equal(score(fused, z[order]), whole[order])
    assert np.array_equal(np.concatenate([score(fused, z[i : i + 1]) for i in range(50)]), whole[:50])
    # Columns that are the same for all candidates take a short cut.
    same = z.copy()
    same[:, [0, 3]] = same[7, [0, 3]]
    mixed = same.copy()
    mixed[-1] = z[-1]
    assert np.array_equal(score(fused, same)[:-1], score(fused, mixed)[:-1])
    assert score(fused, z[:0]).shape == (0, 1)
    assert np.array_equal(score(fused, np.asfortranarray(z)), whole)


def test_one_head_of_several():
    x, y, _ = data()
    arrays = [CatBoostTrees().fit(x, y, objective="logloss", trees=t, depth=d).arrays() for t, d in ((5, 3), (9, 7))]
    fused = fuse(arrays)
    assert isinstance(fused, FusedTrees)
    assert fused.heads == 2
    for at in range(2):
        assert np.array_equal(score(fused.only(at), x)[:, 0], score(fused, x)[:, at])


@pytest.mark.parametrize("objective", ["logloss", "rank"])
def test_the_same_seed_gives_the_same_trees_with_any_number_of_threads(objective):
    x, y, group = data()
    leaves = [
        CatBoostTrees().fit(x, y, objective=objective, group=group, trees=25, threads=threads, seed=3).arrays().leaf
        for threads in (1, 2, 2)
    ]
    assert np.array_equal(leaves[0], leaves[1])
    assert np.array_equal(leaves[1], leaves[2])


def test_rows_of_a_group_may_lie_anywhere():
    x, y, group = data()
    shuffled = np.random.default_rng(0).permutation(len(y))
    back = shuffled[np.argsort(group[shuffled], kind="stable")]
    one = CatBoostTrees().fit(x[shuffled], y[shuffled], objective="rank", group=group[shuffled], trees=10)
    two = CatBoostTrees().fit(x[back], y[back], objective="rank", group=group[back], trees=10)
    assert np.array_equal(one.predict(x), two.predict(x))


def test_stops_early_and_leaves_no_file(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    x, y, _ = data()
    noise = np.random.default_rng(5).integers(0, 2, len(y)).astype(np.float32)
    engine = CatBoostTrees(CatBoostConfig(early_stopping_rounds=5))
    model = engine.fit(x[:2000], noise[:2000], objective="logloss", validation=(x[2000:], noise[2000:], None))
    assert len(model.arrays().depth) < 100
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


def test_saved_and_loaded(tmp_path: Path):
    x, y, _ = data()
    model = CatBoostTrees().fit(x, y, objective="logloss", trees=10)
    model.save(tmp_path / "m.cbm")
    again = CatBoostTrees().load(tmp_path / "m.cbm")
    assert np.array_equal(again.predict(x), model.predict(x))
    assert np.array_equal(again.arrays().leaf, model.arrays().leaf)
    shares = model.importance()
    assert shares.shape == (9,)
    assert shares.sum() == pytest.approx(1.0)
    assert shares[2] == 0.0  # the constant
    assert set(np.argsort(-shares)[:3]) == {0, 1, 3}


def test_bad_input_is_refused_with_a_reason(tmp_path: Path):
    x, y, group = data(200)
    engine = CatBoostTrees()
    refused = [
        ({"objective": "rmse"}, "objective"),
        ({"objective": "rank"}, "a group per row"),
        ({"objective": "logloss", "depth": 9}, "depth"),
        ({"objective": "logloss", "label": np.zeros(200, np.float32)}, "both classes"),
        ({"objective": "logloss", "label": np.full(200, np.nan, np.float32)}, "labels that are numbers"),
        ({"objective": "logloss", "label": y[:-1]}, "one row per label"),
        ({"objective": "rank", "group": group[:-1]}, "one group per label"),
        ({"objective": "logloss", "weight": np.ones(3, np.float32)}, "one weight per label"),
        ({"objective": "logloss", "features": x[:0], "label": y[:0]}, "one row per label"),
        ({"objective": "logloss", "features": np.ones_like(x)}, "CatBoost can learn from"),
        ({"objective": "logloss", "validation": (x[:, :3], y, None)}, "validation with 9 features"),
    ]
    for arguments, expected in refused:
        with pytest.raises(BuildError, match=expected):
            engine.fit(**({"features": x, "label": y} | arguments))
    with pytest.raises(BuildError, match="a CatBoost model"):
        engine.load(tmp_path / "none.cbm")
    (tmp_path / "broken.cbm").write_bytes(b"not a model")
    with pytest.raises(BuildError, match="a CatBoost model"):
        engine.load(tmp_path / "broken.cbm")
    model = engine.fit(x, y, objective="logloss", trees=3)
    with pytest.raises(BuildError, match="9 features"):
        model.predict(x[:, :8])
    with pytest.raises(ValueError, match="expected"):
        score(fuse([model.arrays()]), x[:, :8])


def test_trees_that_do_not_fit_together_are_refused():
    flat = np.zeros(0, np.int32)
    none, bare = np.zeros(0, np.float32), np.zeros(0)

    def make(n_features=2, depth=flat, feature=flat, border=none, leaf=bare, nan=2):
        return ObliviousTrees(n_features, depth, feature, border, leaf, np.zeros(nan, bool))

    one = np.ones(1, np.int32)
    for bad in (
        {"depth": one * 9},
        {"depth": one},
        {"depth": one, "feature": one, "border": np.ones(1, np.float32), "leaf": np.zeros(3)},
        {"depth": one, "feature": one * 2, "border": np.ones(1, np.float32), "leaf": np.zeros(2)},
        {"nan": 3},
    ):
        with pytest.raises(ValueError):
            make(**bad)
    with pytest.raises(ValueError, match="share one feature matrix"):
        fuse([make(), make(n_features=3, nan=3)])
    with pytest.raises(ValueError, match="share one feature matrix"):
        fuse([])
    assert score(fuse([make()]), np.zeros((3, 2), np.float32)).tolist() == [[0.0]] * 3


def test_the_kernels_never_load_catboost():
    import subprocess

    code = "import honeyguide.kernels.trees, honeyguide.ranking.trees, sys; print('catboost' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
