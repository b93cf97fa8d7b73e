"""Nearest items by vectors, the convex blend of words and meaning, and its shares by type of query."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from honeyguide.retrieval.hybrid import MOST, QUERY_TYPES, DenseItems, blended, checked, learn_shares, query_type


def vectors(n: int = 500, d: int = 96, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    # Real vectors lie near few directions.
    found = rng.normal(size=(n, 12)) @ rng.normal(size=(12, d)) + 0.05 * rng.normal(size=(n, d))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def test_the_nearest_are_those_of_all_products(tmp_path: Path) -> None:
    items = DenseItems.of(vectors())
    items.save(tmp_path)
    for one in (items, DenseItems.load(tmp_path)):
        for query in vectors(20, seed=1):
            rows, cosine = one.nearest(query, 10)
            exact = one.vectors @ query
            assert len(np.intersect1d(rows, np.argsort(-exact)[:10])) >= 9
            assert cosine == pytest.approx(exact[rows], abs=1e-5)
            assert (np.diff(cosine) <= 0).all()


def test_nothing_is_near_nothing() -> None:
    items = DenseItems.of(vectors(5))
    assert len(items.nearest(np.zeros(96, np.float32), 3)[0]) == 0
    assert len(items.nearest(vectors(1, seed=2)[0], 99)[0]) == 5
    assert np.isnan(items.cosines(vectors(1)[0], np.array([99], np.int32))).all()
    assert len(DenseItems.of(np.zeros((0, 4), np.float32)).nearest(np.ones(4, np.float32), 3)[0]) == 0


@settings(max_examples=60, deadline=None)
@given(data=st.data(), share=st.floats(0, MOST))
def test_a_blend_lies_between_nothing_and_one_and_rises_with_both(data: st.DataObject, share: float) -> None:
    n = data.draw(st.integers(1, 8))
    real = st.floats(0, 50, width=32)
    words = np.array(data.draw(st.lists(real, min_size=n, max_size=n)), np.float32)
    near = st.one_of(st.just(float("nan")), st.floats(-1, 1, width=32))
    meaning = np.array(data.draw(st.lists(near, min_size=n, max_size=n)), np.float32)
    found = blended(words, meaning, share)
    assert ((found >= -1e-9) & (found <= 1 + 1e-9)).all()
    higher = words.copy()
    higher[0] += 1
    if words.max() > higher[0]:
        assert blended(higher, meaning, share)[0] >= found[0] - 1e-9
    if share == 0 and words.max() > 0:
        assert np.allclose(found, words / words.max())


def test_shares_are_learnt_by_type_and_never_beyond_half() -> None:
    """Words are right for one-word queries, meaning for sentences."""
    rng = np.random.default_rng(0)
    types, lexical, dense, gains, ideal = [], [], [], [], []
    for at in range(200):
        kind = "word" if at % 2 else "sentence"
        right, other = rng.random(20).astype(np.float32), rng.random(20).astype(np.float32)
        gain = np.zeros(20, np.float32)
        gain[right.argmax()] = 1
        types.append(kind)
        lexical.append(right if kind == "word" else other)
        dense.append(other if kind == "word" else right)
        gains.append(gain)
        ideal.append(1.0)
    found = learn_shares(types, lexical, dense, gains, ideal)
    assert found["word"] < 0.15
    assert 0.3 < found["sentence"] <= MOST
    assert set(found) == set(QUERY_TYPES)
    assert checked({"word": 7.0})["word"] == MOST
    assert learn_shares([], [], [], [], []) == dict.fromkeys(QUERY_TYPES, 0.0)


def test_types_of_queries() -> None:
    assert [query_type(n, title=False) for n in (0, 1, 2, 3, 4)] == ["word", "word", "words", "words", "sentence"]
    assert query_type(1, title=True) == "title"
