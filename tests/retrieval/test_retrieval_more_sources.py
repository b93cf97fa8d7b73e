"""Weighed neighbours, levelled walks, complements, spectral filters, attributes, themes, trends, newcomers."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from scipy import sparse

from honeyguide.contracts import CatalogView, Interactions, Queries, Ragged, Source
from honeyguide.errors import BuildError, DataError
from honeyguide.retrieval.attributes import Attributes, AttributesConfig
from honeyguide.retrieval.covisit import (
    Complements,
    ComplementsConfig,
    ItemKNN,
    ItemKNNConfig,
    RP3beta,
    RP3betaConfig,
)
from honeyguide.retrieval.factors import ALS, ALSConfig
from honeyguide.retrieval.interests import Interests, InterestsConfig
from honeyguide.retrieval.signals import HistoryConfig, TrendConfig
from honeyguide.retrieval.spectral import Spectral, SpectralConfig, low_rank
from honeyguide.retrieval.trending import Fresh, FreshConfig, Trending, TrendingConfig
from honeyguide.testing.sources import check_source, small_audience, small_catalog

DAY_US = 86_400_000_000
FLAT, NO_TREND = HistoryConfig(newest=10_000, use_weights=False), TrendConfig(window_days=0.0)
DATA = small_audience(n_users=30, n_items=25, n_events=400, seed=3)
CATALOG = small_catalog(25)


def with_facts(n: int) -> CatalogView:
    """Item i is of category i % 4; every third is by person 0 too."""
    people = Ragged.of([[0] if i % 3 == 0 else [] for i in range(n)])
    return replace(
        small_catalog(n), category=Ragged.of([[i % 4] for i in range(n)]), category_names=list("abcd"),
        people=people, people_names=["zoe"],
    )  # fmt: skip


class _Attributes(Attributes):
    """With a catalog that knows something, whatever catalog it is given."""

    def fit(self, interactions: Interactions, catalog: CatalogView, *, seed: int = 0) -> _Attributes:
        return super().fit(interactions, with_facts(interactions.n_items), seed=seed)


SOURCES: dict[str, Callable[[], Any]] = {
    "tfidf": lambda: ItemKNN(ItemKNNConfig(weights="tfidf")),
    "bm25": lambda: ItemKNN(ItemKNNConfig(weights="bm25")),
    "levelled": lambda: RP3beta(RP3betaConfig(row_power=1.0, user_power=0.7)),
    "complements": Complements,
    "spectral": lambda: Spectral(SpectralConfig(d=8)),
    "spectral-als": lambda: Spectral(SpectralConfig(d=6, als=ALSConfig(d=6, epochs=2))),
    "spectral-graph": lambda: Spectral(SpectralConfig(d=0)),
    "cholesky": lambda: ALS(ALSConfig(d=8, solver="cholesky", epochs=3)),
    "attributes": _Attributes,
    "interests": lambda: Interests(InterestsConfig(d=8)),
    "trending": Trending,
    "fresh": lambda: Fresh(FreshConfig(most_events=1_000, max_age_days=1e5)),
}


def ask(items: list[int], now: int = 10**17, exclude: list[int] | None = None, segment: int = -1) -> Queries:
    n = len(items)
    return Queries(
        np.array([0, n], np.int64), np.array(items, np.int32), np.ones(n, np.float32), np.arange(n, dtype=np.int64),
        np.array([now], np.int64), np.array([segment], np.int32), Ragged.of([exclude or []]),
    )  # fmt: skip


def events(user: list[int], item: list[int], at: list[int] | None = None, **more: Any) -> Interactions:
    n = len(user)
    return Interactions(
        np.array(user, np.int32), np.array(item, np.int32), np.array(more.get("action", [0] * n), np.int16),
        np.full(n, np.nan, np.float32), np.ones(n, np.float32),
        np.array(at if at is not None else range(n), np.int64),
        more.get("n_users", max(user) + 1), more.get("n_items", max(item) + 1), more.get("actions", ("view",)),
    )  # fmt: skip


def scores_of(source: Source, queries: Queries, n: int = 25) -> np.ndarray:
    found, out = source.retrieve(queries, n), np.zeros(n)
    real = found.items[0] >= 0
    out[found.items[0][real]] = found.scores[0][real]
    return out


def binary() -> np.ndarray:
    x = np.zeros((30, 25))
    liked = DATA.weight > 0
    x[DATA.user[liked], DATA.item[liked]] = 1.0
    return x


@pytest.mark.parametrize("name", SOURCES)
def test_every_further_source_keeps_the_laws(name: str) -> None:
    assert isinstance(SOURCES[name](), Source)
    assert check_source(SOURCES[name], answers_everyone=name == "trending") == []


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize(
    "data",
    [
        events([0], [0]),
        events([0, 0, 0], [0, 1, 2]),
        events([0, 1, 2], [0, 0, 0]),
        events([0, 0, 0, 0], [1, 1, 1, 1], n_items=5, n_users=4),
        events([*[0] * 40, 1, 2, 3], [*range(40), 0, 1, 2]),
    ],
    ids=["one-event", "one-user", "one-item", "repeats", "took-everything"],
)
def test_further_sources_survive_small_audiences(name: str, data: Interactions) -> None:
    source = SOURCES[name]().fit(data, small_catalog(data.n_items))
    found = source.retrieve(ask([0, data.n_items - 1], exclude=[0]), data.n_items + 3)
    real = found.items[0] >= 0
    assert 0 not in found.items[0]
    assert np.isfinite(found.scores[0][real]).all()
    assert np.isnan(found.scores[0][~real]).all()


@pytest.mark.parametrize("name", SOURCES)
def test_a_truncated_artifact_is_refused(name: str, tmp_path: Path) -> None:
    source = SOURCES[name]().fit(DATA, CATALOG)
    source.save(tmp_path)
    array = next(path for path in sorted(tmp_path.rglob("*.npy")) if path.stat().st_size > 200)
    array.write_bytes(array.read_bytes()[:-40])
    with pytest.raises(BuildError, match="truncated"):
        type(source).load(tmp_path)


def test_tfidf_is_the_cosine_of_weighed_people() -> None:
    x = binary()
    weighed = x * np.log(26.0 / (1.0 + x.sum(1)))[:, None]
    norm = np.maximum(np.linalg.norm(weighed, axis=0), 1e-9)
    wanted = weighed.T @ weighed / np.outer(norm, norm)
    np.fill_diagonal(wanted, 0.0)
    assert scores_of(ItemKNN(ItemKNNConfig(weights="tfidf")).fit(DATA, CATALOG), ask([3])) == pytest.approx(
        wanted[3], abs=1e-5
    )


def test_bm25_by_plain_loops() -> None:
    x, k1, b = binary(), 1.5, 0.6
    mean = x.sum(0)[x.sum(0) > 0].mean()
    wanted = np.zeros(25)
    for j in range(25):
        for person in range(30):
            n = x[person].sum()
            idf = math.log(1 + (25 - n + 0.5) / (n + 0.5))
            both = x[person, 4] * x[person, j]
            f = [(k1 + 1) / (1 + k1 * (1 - b + b * x[:, i].sum() / mean)) for i in (4, j)]
            wanted[j] += both * idf**2 * f[0] * f[1]
    wanted[4] = 0.0
    source = ItemKNN(ItemKNNConfig(weights="bm25", k1=k1, b=b)).fit(DATA, CATALOG)
    assert scores_of(source, ask([4])) == pytest.approx(wanted, rel=1e-4)


def test_levelled_rows_sum_to_one() -> None:
    source = RP3beta(RP3betaConfig(row_power=1.0, width=5, history=FLAT, trend=NO_TREND)).fit(DATA, CATALOG)
    for item in range(25):
        _, strengths = source.neighbours(item)
        if len(strengths):
            assert strengths.sum() == pytest.approx(1.0, abs=1e-5)


def test_complements_are_lift_within_a_visit() -> None:
    # bread and butter are bought together twice; everybody buys milk, with everything; a visit ends after a day
    bread, butter, milk, pen = range(4)
    user, item, at = [], [], []
    for person, basket in enumerate([[bread, butter, milk], [bread, butter, milk], [pen, milk], [pen, milk]]):
        for place, what in enumerate(basket):
            user.append(person)
            item.append(what)
            at.append(place * 60_000_000)
    user, item, at = [*user, 0], [*item, pen], [*at, 30 * DAY_US]
    config = ComplementsConfig(gap_decay=1.0, backward=1.0, prior_events=0.0)
    source = Complements(config).fit(events(user, item, at), small_catalog(4))
    rows, strengths = source.neighbours(bread)
    told = dict(zip(rows.tolist(), strengths.tolist(), strict=True))
    # 4 pairs begin at bread, 2 of them with butter; butter is 2 of 11 events
    assert told[butter] == pytest.approx(2 / (4 * 2 / 11))
    assert told[milk] == pytest.approx(2 / (4 * 4 / 11))
    assert pen not in told
    shrunk = Complements(config.model_copy(update={"prior_events": 3.0})).fit(events(user, item, at), small_catalog(4))
    assert dict(zip(*(part.tolist() for part in shrunk.neighbours(bread)), strict=True))[butter] == pytest.approx(
        2 / (4 * 2 / 11 + 3.0)
    )


def test_complements_count_the_chosen_actions_alone() -> None:
    data = events([0, 0, 1, 1], [0, 1, 0, 2], action=[0, 0, 1, 1], actions=("buy", "view"))
    source = Complements(ComplementsConfig(actions=("buy",))).fit(data, small_catalog(3))
    assert source.neighbours(0)[0].tolist() == [1]
    with pytest.raises(DataError, match="rent"):
        Complements(ComplementsConfig(actions=("rent",))).fit(data, small_catalog(3))


def test_the_randomised_svd_finds_the_subspace() -> None:
    x = sparse.csr_matrix(binary().astype(np.float32))
    s, v = low_rank(x, 6, 8, 0)
    _, exact, vt = np.linalg.svd(binary())
    assert s == pytest.approx(exact[:6], rel=1e-3)
    assert np.abs(np.abs(np.sum(v.T * vt[:6], axis=1)) - 1.0).max() < 1e-2


def test_spectral_parts_are_each_of_root_mean_square_one() -> None:
    config = SpectralConfig(
        width=24, amplify=1.2, user_power=1.0, item_power=0.5, d=6, low_weight=0.7, sharpen=0.4, iterations=12,
        als_weight=0.3, als=ALSConfig(d=5, epochs=4, fold_in_steps=40), history=FLAT, trend=NO_TREND,
    )  # fmt: skip
    source = Spectral(config).fit(DATA, CATALOG, seed=2)
    x = binary()
    n_u, n_i = np.maximum(x.sum(1), 1), np.maximum(x.sum(0), 1)
    scaled = x * (n_u**-0.5)[:, None] * (n_i**-0.5)[None, :]
    graph = x.T @ (x / n_u[:, None]) / np.sqrt(n_i)[None, :]
    np.fill_diagonal(graph, 0.0)
    graph **= 1.2
    graph /= np.maximum(graph.sum(1, keepdims=True), 1e-9)
    _, s, vt = np.linalg.svd(scaled)
    v = vt[:6].T
    low = (n_i**-0.5)[:, None] * (v * (1 - 0.4 * (s[:6] / s[0]) ** 2)) @ v.T * np.sqrt(n_i)[None, :]
    history = [2, 9, 14]
    y = ALS(config.als.model_copy(update={"history": FLAT})).fit(DATA, CATALOG, seed=2)  # type: ignore[union-attr]
    seen, w = y.factors[history].astype(np.float64), float(y.base[0]) / 25
    person = np.linalg.solve(y.gram + seen.T @ seen + 0.03 * (3 + w * 25) * np.eye(5), seen.sum(axis=0))
    parts = [graph[history].sum(0), low[history].sum(0), y.factors @ person]
    wanted = sum(weight * part / np.sqrt((part**2).mean()) for weight, part in zip((1.0, 0.7, 0.3), parts, strict=True))
    assert scores_of(source, ask(history)) == pytest.approx(wanted, abs=2e-2)


def test_attributes_reach_what_nobody_took() -> None:
    data = events([0, 0, 1], [0, 1, 2], n_items=12)
    source = Attributes(AttributesConfig(history=FLAT, trend=NO_TREND)).fit(data, with_facts(12))
    found = source.retrieve(ask([8], exclude=[8]), 12)
    alike = {i for i in range(12) if i % 4 == 0}  # 8 has category 0 and nobody else's person
    assert set(found.items[0][found.items[0] >= 0].tolist()) == alike - {8}
    with pytest.raises(DataError, match="categories"):
        Attributes().fit(data, small_catalog(12))


def _two_tastes() -> Interactions:
    rng = np.random.default_rng(0)
    user = np.repeat(np.arange(80), 12)
    item = np.concatenate([rng.choice(20, 12, replace=False) + 20 * (person % 2) for person in range(80)])
    return events(user.tolist(), item.tolist(), n_items=40)


def test_a_board_with_two_themes_gets_both() -> None:
    source = Interests(InterestsConfig(d=2, each=50)).fit(_two_tastes(), small_catalog(40))
    board = [0, 1, 2, 3, 4, 25]  # five of one theme, the newest of the other
    themes = source.themes_of(np.array(board, np.int32))
    assert len(set(themes[:5].tolist())) == 1
    assert themes[5] != themes[0]
    first = source.retrieve(ask(board, exclude=board), 10).items[0]
    assert 3 <= (first >= 20).sum() <= 7
    one = source.retrieve(ask(board[:5], exclude=board), 5).items[0]
    assert (one < 20).all()


def test_each_segment_has_the_window_that_foretells_it() -> None:
    # segment 0 chases what came up yesterday; segment 1 takes the same ten items for ever
    rng = np.random.default_rng(1)
    user, item, at = [], [], []
    for day in range(60):
        for _ in range(60):
            user += [0, 1]
            item += [10 + day, int(rng.integers(0, 10))]
            at += [day * DAY_US + int(rng.integers(0, DAY_US))] * 2
    order = np.argsort(at, kind="stable")
    data = events([user[i] for i in order], [item[i] for i in order], [at[i] for i in order], n_items=80)
    config = TrendingConfig(half_life_days=(0.5, 60.0), top=5, least_events=50, prior_events=1.0)
    segment = np.array([0, 1], np.int32)
    source = Trending(config, segment).fit(data, small_catalog(80))
    assert source.windows.tolist()[1] == 0
    now = int(data.at[-1]) + 1
    quick = source.retrieve(ask([], now, segment=0), 3).items[0]
    steady = source.retrieve(ask([], now, segment=1), 3).items[0]
    assert quick[0] == 69
    assert (steady < 10).all()
    source.update([5] * 500, now + DAY_US, 0)
    assert source.retrieve(ask([], now + DAY_US, segment=0), 1).items[0, 0] == 5


def test_new_items_come_by_turns_and_step_down_once_they_had_their_chance() -> None:
    data = events([0] * 50 + [1] * 6, [0] * 50 + [1, 2, 3, 4, 5, 6], [0] * 50 + [10 * DAY_US] * 6)
    source = Fresh(FreshConfig(most_events=3, most=2, max_age_days=5.0)).fit(data, small_catalog(7))
    firsts = {int(source.retrieve(ask([0], 11 * DAY_US + hour * 3_600_000_000), 1).items[0, 0]) for hour in range(60)}
    assert firsts == {1, 2, 3, 4, 5, 6}
    assert (source.retrieve(ask([0], 11 * DAY_US), 20).items[0] >= 0).sum() == 2
    assert (source.retrieve(ask([0], 16 * DAY_US), 20).items[0] < 0).all()
    source.update([1, 1], 11 * DAY_US)
    source.update([9], 11 * DAY_US)
    later = {int(source.retrieve(ask([0], 11 * DAY_US + hour * 3_600_000_000), 1).items[0, 0]) for hour in range(90)}
    assert later == {2, 3, 4, 5, 6, 9}


@pytest.mark.parametrize(
    "kind", [ComplementsConfig, SpectralConfig, InterestsConfig, TrendingConfig, FreshConfig, AttributesConfig]
)
def test_further_configs_are_closed(kind: type[Any]) -> None:
    with pytest.raises(ValidationError):
        kind(unheard_of=1)
