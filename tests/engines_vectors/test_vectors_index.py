"""The index of vectors against a plain search, and what it does with input nobody should send."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from honeyguide.contracts import Ragged, VectorIndex
from honeyguide.engines.vectors import faiss_driver
from honeyguide.engines.vectors.config import VectorsConfig
from honeyguide.engines.vectors.index import Vectors, build_vectors
from honeyguide.errors import BuildError, DataError

KINDS = ("exact", "ivf", "hnsw")


def clouds(n: int, d: int = 16, seed: int = 0) -> Any:
    """Points around a few centres, of unit length."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(20, d))
    points = centres[rng.integers(0, 20, n)] + 0.7 * rng.normal(size=(n, d))
    return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)


def plainly(vectors: Any, rows: Any, query: Any, k: int, allowed: set[int]) -> list[int]:
    """By a loop."""
    told = sorted((-float(np.dot(v.astype(np.float64), query)), int(row)) for v, row in zip(vectors, rows, strict=True))
    return [row for _, row in told if row in allowed][:k]


@pytest.mark.parametrize("kind", KINDS)
def test_an_index_is_what_the_contract_asks(kind: str) -> None:
    assert isinstance(build_vectors(clouds(50), VectorsConfig(kind=kind)), VectorIndex)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 40), st.integers(0, 45), st.integers(0, 2**31), st.data())
def test_exact_is_the_plain_search(n: int, k: int, seed: int, data: st.DataObject) -> None:
    vectors, queries = clouds(n, 5, seed), clouds(3, 5, seed + 1)
    rows = np.sort(np.random.default_rng(seed).choice(100, n, replace=False)).astype(np.int32)
    index = build_vectors(vectors, VectorsConfig(kind="exact"), rows=rows)
    allowed = np.array(data.draw(st.lists(st.booleans(), min_size=80, max_size=80)))
    hidden = [data.draw(st.lists(st.sampled_from([-1, 500, *rows.tolist()]), max_size=5)) for _ in range(3)]
    found = index.search(queries, k, allowed=allowed, exclude=Ragged.of(hidden))
    for q in range(3):
        may = {row for row in rows.tolist() if row < 80 and allowed[row]} - set(hidden[q])
        want = plainly(vectors, rows, queries[q].astype(np.float64), k, may)
        assert found.items[q].tolist() == want + [-1] * (k - len(want))


@pytest.mark.parametrize("kind", KINDS)
def test_alone_as_in_a_batch_and_a_longer_list_starts_with_the_shorter(kind: str) -> None:
    index, queries = build_vectors(clouds(3_000), VectorsConfig(kind=kind, sample=32)), clouds(20, seed=1)
    found = index.search(queries, 12)
    for q in range(0, 20, 5):
        alone = index.search(queries[q : q + 1], 12)
        assert np.array_equal(alone.items[0], found.items[q])
        assert np.array_equal(alone.scores[0], found.scores[q])
    assert np.array_equal(index.search(queries, 7).items, found.items[:, :7])


@pytest.mark.parametrize("kind", ["ivf", "hnsw"])
@pytest.mark.parametrize("share", [1.0, 0.5, 0.05])
def test_recall_is_kept_under_filters_that_let_little_through(kind: str, share: float) -> None:
    vectors, queries = clouds(6_000), clouds(100, seed=1)
    index = build_vectors(vectors, VectorsConfig(kind=kind, sample=64))
    assert index.measured["recall@10"] >= 0.99
    direction = np.random.default_rng(3).normal(size=16)
    far = vectors @ direction
    for allowed in (np.random.default_rng(2).random(6_000) < share, far >= np.quantile(far, 1 - share)):
        found = index.search(queries, 10, allowed=allowed)
        truth = build_vectors(vectors, VectorsConfig(kind="exact")).search(queries, 10, allowed=allowed)
        assert allowed[found.items[found.items >= 0]].all()
        hits = [np.isin(a, b).mean() for a, b in zip(found.items, truth.items, strict=True)]
        assert np.mean(hits) >= 0.95


@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_added_replaced_and_forgotten(kind: str) -> None:
    vectors = clouds(2_000)
    index = build_vectors(vectors, VectorsConfig(kind=kind, sample=32))
    query = vectors[:1]
    assert index.search(query, 1).items[0, 0] == 0
    assert index.delete(np.array([0, 77_777], np.int32)) == 1
    assert index.search(query, 5).items[0, 0] != 0
    index.add(np.array([5_000, 9], np.int32), np.stack([query[0] * 3, query[0] * 2]))
    assert index.search(query, 2).items[0].tolist() == [5_000, 9]
    assert len(index) == 2_000
    anew = index.rebuilt()
    assert len(anew) == 2_000
    assert anew.search(query, 2).items[0].tolist() == [5_000, 9]
    assert index.delete(np.array([5_000], np.int32)) == 1
    assert index.search(query, 1).items[0, 0] == 9
    assert not index.wants_rebuild


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_saved_answers_as_before(kind: str, tmp_path: Path) -> None:
    index, queries = build_vectors(clouds(2_000), VectorsConfig(kind=kind, sample=32)), clouds(20, seed=1)
    index.delete(np.array([3], np.int32))
    index.add(np.array([4_000], np.int32), clouds(1, seed=5))
    index.save(tmp_path)
    again = Vectors.load(tmp_path)
    assert again.measured == index.measured
    one, other = index.search(queries, 10), again.search(queries, 10)
    assert np.array_equal(one.items, other.items)
    assert np.array_equal(one.scores, other.scores)
    again.add(np.array([1], np.int32), clouds(1, seed=6))  # what is mapped is not written to
    assert np.array_equal(Vectors.load(tmp_path).search(queries, 10).items, other.items)


@pytest.mark.parametrize("fault", ["truncated", "version", "gone", "not json", "graph"])
def test_what_cannot_be_read_is_refused_in_a_sentence(fault: str, tmp_path: Path) -> None:
    build_vectors(clouds(500), VectorsConfig(kind="ivf", sample=32)).save(tmp_path)
    if fault == "truncated":
        path = tmp_path / "vectors.npy"
        path.write_bytes(path.read_bytes()[:-100])
    elif fault == "version":
        told = json.loads((tmp_path / "vectors.json").read_text())
        (tmp_path / "vectors.json").write_text(json.dumps({**told, "format": 99}))
    elif fault == "gone":
        (tmp_path / "vectors.json").unlink()
    elif fault == "not json":
        (tmp_path / "vectors.json").write_text("{")
    else:
        path = tmp_path / "faiss.index"
        path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(BuildError, match="Build again"):
        Vectors.load(tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_small_and_odd_indexes_are_survived(kind: str) -> None:
    config = VectorsConfig(kind=kind)
    nothing = build_vectors(np.zeros((0, 4), np.float32), config)
    assert (nothing.search(np.ones((2, 4), np.float32), 3).items == -1).all()
    same = build_vectors(np.ones((40, 4), np.float32), config)
    assert same.search(np.ones((1, 4), np.float32), 50).items[0, :40].tolist() == list(range(40))
    none = same.search(np.ones((1, 4), np.float32), 3, allowed=np.zeros(40, np.bool_))
    assert (none.items == -1).all()
    assert np.isnan(none.scores).all()
    every = same.search(np.ones((1, 4), np.float32), 3, exclude=Ragged.of([np.arange(40, dtype=np.int32)]))
    assert (every.items == -1).all()
    assert same.search(np.ones((1, 4), np.float32), 0).items.shape == (1, 0)


def test_what_does_not_fit_is_refused() -> None:
    index = build_vectors(clouds(10), VectorsConfig(kind="exact"))
    with pytest.raises(DataError, match="finite"):
        build_vectors(np.full((3, 2), np.nan, np.float32))
    with pytest.raises(DataError, match="row of its own"):
        build_vectors(clouds(3), rows=np.array([1, 1, 2], np.int32))
    with pytest.raises(DataError, match="matrix"):
        index.search(np.ones((1, 3), np.float32), 1)
    with pytest.raises(DataError, match="exclude"):
        index.search(clouds(2), 1, exclude=Ragged.empty(1))
    with pytest.raises(DataError, match="from 0 on"):
        index.add(np.array([-1], np.int32), clouds(1))


def test_without_faiss_it_stays_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faiss_driver, "installed", lambda: False)
    assert build_vectors(clouds(200), VectorsConfig(exact_up_to=100)).kind == "exact"
    monkeypatch.setattr(faiss_driver, "installed", lambda: True)
    assert build_vectors(clouds(200), VectorsConfig(exact_up_to=100)).kind == "ivf"
    assert build_vectors(clouds(200)).kind == "exact"
