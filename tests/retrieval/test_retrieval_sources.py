"""Laws over all sources at once, and what they do with input nobody should send."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from honeyguide.contracts import Candidates, Interactions, Queries, Ragged, Source
from honeyguide.errors import BuildError, DataError
from honeyguide.retrieval.blend import Blend
from honeyguide.retrieval.covisit import Covisit, ItemKNN, RP3beta
from honeyguide.retrieval.factors import ALS, EASE, EASEConfig, NextItem
from honeyguide.retrieval.popular import Popular
from honeyguide.retrieval.signals import HistoryConfig
from honeyguide.testing.sources import check_source, small_audience, small_catalog, small_queries

HISTORY: list[type[Any]] = [ItemKNN, RP3beta, Covisit, EASE, NextItem, ALS]
ALL: list[type[Any]] = [Popular, *HISTORY]


def events(user: list[int], item: list[int], weight: list[float] | None = None, **size: int) -> Interactions:
    n = len(user)
    return Interactions(
        np.array(user, np.int32), np.array(item, np.int32), np.zeros(n, np.int16), np.full(n, np.nan, np.float32),
        np.array(weight if weight is not None else [1.0] * n, np.float32), np.arange(n, dtype=np.int64) * 1_000_000,
        size.get("n_users", max(user, default=-1) + 1), size.get("n_items", max(item, default=-1) + 1), ("view",),
    )  # fmt: skip


def ask(items: list[int], now: int = 10**15, exclude: list[int] | None = None) -> Queries:
    n = len(items)
    return Queries(
        np.array([0, n], np.int64), np.array(items, np.int32), np.ones(n, np.float32), np.arange(n, dtype=np.int64),
        np.array([now], np.int64), np.array([-1], np.int32), Ragged.of([exclude or []]),
    )  # fmt: skip


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.name)
def test_every_source_keeps_the_laws(kind: type[Any]) -> None:
    assert isinstance(kind(), Source)
    assert check_source(kind, answers_everyone=kind is Popular) == []


def test_the_blend_keeps_the_laws() -> None:
    def make() -> Blend:
        return Blend([Popular(), RP3beta(), Covisit(), ALS(), EASE(), NextItem()])

    assert check_source(make, answers_everyone=True) == []


class _Broken:
    """A sound source with one fault."""

    name = "broken"

    def __init__(self, fault: Callable[[Candidates, Queries, int], Candidates]) -> None:
        self.inner, self.fault, self.calls = RP3beta(), fault, 0

    def fit(self, interactions: Interactions, catalog: Any, *, seed: int = 0) -> _Broken:
        self.inner.fit(interactions, catalog, seed=seed)
        return self

    def retrieve(self, queries: Queries, k: int) -> Candidates:
        self.calls += 1
        return self.fault(self.inner.retrieve(queries, k), queries, self.calls)


def _reversed(found: Candidates, queries: Queries, call: int) -> Candidates:
    return Candidates(found.items[:, ::-1].copy(), found.scores[:, ::-1].copy())


def _seen(found: Candidates, queries: Queries, call: int) -> Candidates:
    items = found.items.copy()
    if items.shape[1] and len(queries) and len(queries.exclude.row(0)):
        items[0, 0] = queries.exclude.row(0)[0]
    return Candidates(items, found.scores)


def _moody(found: Candidates, queries: Queries, call: int) -> Candidates:
    return Candidates(found.items, found.scores + np.float32(call))


def _doubled(found: Candidates, queries: Queries, call: int) -> Candidates:
    items = found.items.copy()
    if items.shape[1] > 1:
        items[:, 1] = items[:, 0]
    return Candidates(items, found.scores)


@pytest.mark.parametrize(
    "fault, law",
    [(_reversed, "padding"), (_reversed, "order"), (_seen, "exclude"), (_moody, "determinism"), (_doubled, "order")],
)
def test_the_kit_names_the_law_that_is_broken(fault: Any, law: str) -> None:
    problems = check_source(lambda: _Broken(fault), saved=False)  # type: ignore[arg-type,return-value]
    assert any(problem.startswith(law) for problem in problems), problems


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.name)
@pytest.mark.parametrize(
    "data",
    [
        events([0], [0]),
        events([0, 0, 0], [0, 1, 2]),
        events([0, 1, 2], [0, 0, 0]),
        events([0, 0, 0, 0], [1, 1, 1, 1], n_items=5, n_users=4),
        events([0, 0, 1], [0, 1, 1], [1e30, np.inf, 1.0]),
        events([0, 0, 1, 1], [0, 1, 1, 2], [1.0, np.nan, -1e30, 1.0]),
        events([*[0] * 40, 1, 2, 3], [*range(40), 0, 1, 2]),
    ],
    ids=["one-event", "one-user", "one-item", "repeats", "huge", "nan-and-negative", "took-everything"],
)
def test_small_and_odd_audiences_are_survived(kind: type[Any], data: Interactions) -> None:
    source = kind().fit(data, small_catalog(data.n_items))
    found = source.retrieve(ask([0, data.n_items - 1], exclude=[0]), data.n_items + 3)
    real = found.items[found.items >= 0]
    assert 0 not in real
    assert len(np.unique(real)) == len(real)
    assert np.isnan(found.scores[found.items < 0]).all()
    assert np.isfinite(found.scores[found.items >= 0]).all()


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.name)
@pytest.mark.parametrize(
    "data, word",
    [
        (events([], [], n_users=3, n_items=3), "weight above 0"),
        (events([0, 1], [0, 1], [-1.0, np.nan]), "weight above 0"),
        (events([0, 5], [0, 1], n_users=2), "user rows"),
        (events([0, 1], [0, -1], n_items=2), "item rows"),
    ],
    ids=["empty", "nothing-liked", "user-out-of-range", "unknown-item"],
)
def test_what_cannot_be_learnt_from_is_refused_in_a_sentence(kind: type[Any], data: Interactions, word: str) -> None:
    with pytest.raises(DataError, match=word):
        kind().fit(data, small_catalog(data.n_items))


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.name)
def test_questions_that_do_not_fit_together_are_refused(kind: type[Any]) -> None:
    source = kind().fit(events([0, 0, 1], [0, 1, 1]), small_catalog(2))
    with pytest.raises(DataError, match="fit each other"):
        source.retrieve(replace(ask([0, 1]), weights=np.ones(1, np.float32)), 3)


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.name)
def test_read_only_and_foreign_dtypes_are_answered_alike(kind: type[Any]) -> None:
    data = small_audience(n_events=200)
    source = kind().fit(data, small_catalog(data.n_items))
    plain = ask([3, 5, 7], now=int(data.at[-1]))
    frozen = plain.items.copy()
    frozen.setflags(write=False)
    odd = replace(plain, items=frozen, weights=plain.weights.astype(np.float64), indptr=plain.indptr.astype(np.int32))
    one, other = source.retrieve(plain, 9), source.retrieve(odd, 9)
    assert np.array_equal(one.items, other.items)
    assert np.array_equal(one.scores, other.scores, equal_nan=True)


@pytest.mark.parametrize("kind", [*ALL], ids=lambda kind: kind.name)
def test_artifacts_that_cannot_be_used_are_refused(kind: type[Any], tmp_path: Path) -> None:
    data = small_audience(n_events=200)

    def saved(name: str) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        kind().fit(data, small_catalog(data.n_items)).save(folder)
        return folder

    with pytest.raises(BuildError, match=r"meta\.json"):
        kind.load(tmp_path / "nowhere")
    folder = saved("garbled")
    (folder / "meta.json").write_text("{")
    with pytest.raises(BuildError):
        kind.load(folder)
    folder = saved("version")
    meta = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(json.dumps({**meta, "format": 99}))
    with pytest.raises(BuildError, match="99"):
        kind.load(folder)
    folder = saved("kind")
    (folder / "meta.json").write_text(json.dumps({**meta, "kind": "other"}))
    with pytest.raises(BuildError, match="other"):
        kind.load(folder)
    folder = saved("config")
    (folder / "meta.json").write_text(json.dumps({**meta, "meta": {"config": {"unheard_of": 1}}}))
    with pytest.raises(BuildError, match="does not know"):
        kind.load(folder)
    folder = saved("arrays")
    (folder / "meta.json").write_text(json.dumps({**meta, "arrays": {}}))
    with pytest.raises(BuildError, match="arrays none"):
        kind.load(folder)
    for how in ("truncated", "missing", "swapped"):
        folder = saved(how)
        array = max(folder.glob("*.npy"), key=lambda path: path.stat().st_size)
        if how == "truncated":
            array.write_bytes(array.read_bytes()[:-40])
        elif how == "missing":
            array.unlink()
        else:
            np.save(array, np.zeros(3, np.float32))
        with pytest.raises(BuildError, match=array.name):
            kind.load(folder)


def test_a_catalog_too_large_for_a_dense_model_is_refused_before_any_memory_is_taken() -> None:
    with pytest.raises(BuildError, match="at most 20000 items"):
        EASE().fit(events([0, 0], [0, 1], n_items=3_000_000), small_catalog(2))
    with pytest.raises(BuildError, match="at most 2 items"):
        EASE(EASEConfig(max_items=2)).fit(events([0, 0], [0, 2]), small_catalog(3))


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.name)
def test_configs_are_closed(kind: type[Any]) -> None:
    with pytest.raises(ValidationError):
        kind.Config(unheard_of=1)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.integers(-2, 45), max_size=12),
    st.lists(st.integers(-2, 45), max_size=12),
    st.integers(0, 60),
    st.sampled_from(range(len(ALL))),
)
def test_any_history_and_exclusion_gives_a_lawful_list(
    history: list[int], exclude: list[int], k: int, which: int
) -> None:
    source, n_items = _fitted()[which], 40
    found = source.retrieve(ask(history, exclude=exclude), k)
    items, scores = found.items[0], found.scores[0]
    real = items >= 0
    assert not (real[1:] & ~real[:-1]).any()
    assert not np.isin(items[real], exclude).any()
    assert (items < n_items).all()
    assert len(set(items[real].tolist())) == real.sum()
    pairs = list(zip(-scores[real], items[real], strict=True))
    assert pairs == sorted(pairs)
    longer = source.retrieve(ask(history, exclude=exclude), k + 1)
    assert np.array_equal(longer.items[0, :k], items)


_CACHE: list[Any] = []


def _fitted() -> list[Any]:
    if not _CACHE:
        data = small_audience()
        _CACHE.extend(kind().fit(data, small_catalog(data.n_items)) for kind in ALL)
    return _CACHE


@pytest.mark.parametrize("kind", HISTORY, ids=lambda kind: kind.name)
def test_taste_is_learnt(kind: type[Any]) -> None:
    """People mostly take items of their taste (row % 4): so should the lists."""
    data = small_audience(n_events=900, n_items=120)
    source = kind().fit(data, small_catalog(data.n_items))
    found = source.retrieve(small_queries(data), 5)
    share = (found.items % 4 == np.arange(data.n_users)[:, None] % 4)[found.items >= 0].mean()
    assert share > 0.4  # by chance: below 0.25


@pytest.mark.parametrize("kind", HISTORY, ids=lambda kind: kind.name)
def test_the_newest_events_speak_louder(kind: type[Any]) -> None:
    data = small_audience(n_events=2_000, n_items=80)
    source = kind().fit(data, small_catalog(data.n_items)).variant(history=HistoryConfig(step_decay=0.05))
    found = source.retrieve(ask([0, 4, 8, 1], now=int(data.at[-1]), exclude=[0, 4, 8]), 3)
    last = source.retrieve(ask([1], now=int(data.at[-1]), exclude=[0, 4, 8]), 1)
    assert found.items[0, 0] == last.items[0, 0]
