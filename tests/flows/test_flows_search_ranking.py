"""The learnt order of search: what trees see, that it is on only where it pays, pages, persons, clicks, judgments."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import honeyguide as hg
from honeyguide.contracts import F32, CatalogView, TextIndex
from honeyguide.engines.search.index import LexicalIndex
from honeyguide.engines.search.lexical_config import FieldConfig, FieldsConfig, LexicalConfig
from honeyguide.errors import DataError
from honeyguide.flows import judging
from honeyguide.flows.bench.search_data import folders, load
from honeyguide.flows.build import build
from honeyguide.flows.create import create
from honeyguide.flows.layout import Layout
from honeyguide.flows.search_config import SearchConfig, SearchRankingConfig
from honeyguide.flows.search_learn import Lesson, interval, learn_ranking, trials
from honeyguide.flows.search_step import SearchLog, lesson_of_clicks
from honeyguide.flows.search_tune import graded_ndcg, tuned
from honeyguide.flows.searching import Finder, Learnt
from honeyguide.intake.catalog import catalog_view, items_table
from honeyguide.ranking.search import COLUMNS, ItemFacts, Person, features, folds_of
from honeyguide.retrieval.hybrid import DenseItems
from honeyguide.schema.wire import Filters, Item
from honeyguide.understanding.judgments import Judgment

N = 120
NAMES = ("alpha", "beta", "gamma", "delta", "omega")


def things() -> list[Item]:
    """Many items of each name; what is right is the cheap one, which words cannot know."""
    rng = np.random.default_rng(0)
    return [
        Item(
            f"i{n}", title=f"{NAMES[n % 5]} thing {'big ' * (n % 3)}", description=f"made by maker {n % 7}",
            categories=[f"kind {n % 4}"], price=float(rng.integers(1, 500)),
        )
        for n in range(N)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def view() -> CatalogView:
    return catalog_view(items_table(things(), 0))


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory, view: CatalogView) -> LexicalIndex:
    return LexicalIndex.build(tmp_path_factory.mktemp("words"), view)


def cheap(view: CatalogView, n: int = 60) -> Lesson:
    queries = [f"{NAMES[at % 5]} thing {at}" for at in range(n)]
    rows, grades = [], []
    for at in range(n):
        mine = np.array([row for row in range(N) if row % 5 == at % 5], np.int32)
        rows.append(mine)
        grades.append((view.price[mine] <= np.sort(view.price[mine])[4]).astype(np.float32))
    return Lesson(queries, rows, grades, "judgments")


QUICK = SearchRankingConfig(trees=40, depth=3, folds=3, least_queries=20, candidates=40)


def test_trees_learn_what_words_cannot_know_and_serve_it(
    tmp_path: Path, index: LexicalIndex, view: CatalogView
) -> None:
    finder = Finder(index, view, learnt=Learnt(candidates=40))
    lesson = cheap(view)
    learnt = learn_ranking(finder, lesson, QUICK, tmp_path)
    assert learnt.on, learnt.reason
    assert learnt.report["gain"]["ltr"][1] > 0
    loaded = Learnt.load(tmp_path)
    served = Finder(index, view, learnt=loaded)
    assert isinstance(served, TextIndex)
    first = served.search("beta thing", 5).rows
    mine = np.array([row for row in range(N) if row % 5 == 1])
    assert np.isin(first, mine[np.argsort(view.price[mine])[:8]]).mean() >= 0.8


def test_an_order_that_does_not_pay_is_off(tmp_path: Path, index: LexicalIndex, view: CatalogView) -> None:
    rng = np.random.default_rng(1)
    lesson = cheap(view)
    noise = replace(lesson, grades=[rng.permutation(one) for one in lesson.grades])
    noise = replace(noise, queries=[f"{query} x{at}" for at, query in enumerate(noise.queries)])
    learnt = learn_ranking(Finder(index, view, learnt=Learnt(candidates=40)), noise, QUICK, tmp_path)
    assert not learnt.on
    served = Finder(index, view, learnt=Learnt.load(tmp_path))
    assert not served.ranks
    assert served.search("beta thing", 9).rows.tolist() == index.search("beta thing", 9).rows.tolist()


def test_too_few_queries_teach_nothing(tmp_path: Path, index: LexicalIndex, view: CatalogView) -> None:
    learnt = learn_ranking(Finder(index, view), cheap(view, 5), QUICK, tmp_path)
    assert "20 are needed" in learnt.reason
    (tmp_path / "search.json").write_text(json.dumps({"format": 99}))
    assert "another version" in Learnt.load(tmp_path).reason


class Letters:
    """An encoder that counts letters: texts with the same letters are near."""

    name, version, dimension = "letters", "1", 26

    def encode(self, texts: Sequence[str]) -> F32:
        out = np.zeros((len(texts), 26), np.float32)
        for at, text in enumerate(texts):
            for sign in text.lower():
                if "a" <= sign <= "z":
                    out[at, ord(sign) - 97] += 1
        return out / np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-9)

    def encode_queries(self, queries: Sequence[str]) -> F32:
        return self.encode(queries)


@pytest.fixture(scope="module")
def hybrid(index: LexicalIndex, view: CatalogView) -> Finder:
    dense = DenseItems.of(Letters().encode(view.title))
    learnt = Learnt(on=True, candidates=20, shares=dict.fromkeys(("title", "word", "words", "sentence"), 0.3))
    return Finder(index, view, dense=dense, encoder=Letters(), learnt=learnt)


@settings(max_examples=30, deadline=None)
@given(query=st.sampled_from(["beta thing", "alpha", "thing big", "maker 3", "gamma kind 2"]), k=st.integers(1, 9))
def test_pages_of_a_ranked_search_continue_each_other(hybrid: Finder, query: str, k: int) -> None:
    everything = hybrid.search(query, 500)
    paged: list[int] = []
    while len(paged) < len(everything.rows):
        page = hybrid.search(query, k, offset=len(paged))
        assert len(page.rows)
        assert page.total == everything.total
        paged += page.rows.tolist()
    assert paged == everything.rows.tolist()
    assert len(set(paged)) == len(paged)
    assert (np.diff(everything.scores) <= 1e-6).all()
    assert len(hybrid.search(query, k, offset=10_000).rows) == 0


def test_meaning_never_answers_alone_and_obeys_filters(hybrid: Finder) -> None:
    assert hybrid.search("zzzzqqq", 5).total == 0
    assert hybrid.search("", 5).total == 0
    only = Filters(categories=["kind 2"])
    found = hybrid.search("beta thing", 200, filters=only).rows
    assert len(found)
    assert (found % 4 == 2).all()


def test_a_person_and_new_items_change_no_shape(hybrid: Finder, view: CatalogView) -> None:
    found = hybrid.candidates("beta thing", hybrid.index.search("beta thing", 20))
    facts = ItemFacts.of(view, None)
    person = Person.of(facts, np.array([1, 6, 11, 900], np.int32))
    with_person, without = features(found, facts, person), features(found, facts)
    assert with_person.shape == without.shape == (len(found.rows), len(COLUMNS))
    at = COLUMNS.index("affinity_categories")
    assert np.isnan(without[:, at:]).all()
    assert np.array_equal(with_person[:, :at], without[:, :at], equal_nan=True)
    assert with_person[np.isin(found.rows, [1, 6, 11]), COLUMNS.index("had")].all()
    order = np.random.default_rng(0).permutation(len(found.rows))
    moved = replace(
        found, rows=found.rows[order], lexical=found.lexical[order], dense=found.dense[order],
        fields=found.fields[order], is_title=found.is_title[order], blend=found.blend[order],
    )  # fmt: skip
    stable = [n for n, name in enumerate(COLUMNS) if "rank" not in name and name != "category_match"]
    assert np.allclose(features(moved, facts)[:, stable], without[order][:, stable], equal_nan=True, atol=1e-6)


def test_clicks_become_a_lesson_without_the_place_where_they_stood(view: CatalogView) -> None:
    """Everybody sees one order; the last result is the best, and hardly anybody gets so far."""
    rng = np.random.default_rng(0)
    attraction, chance = [0.2, 0.2, 0.8], [1.0, 0.5, 0.3]
    log = SearchLog()
    for at in range(6_000):
        order = rng.permutation(3)
        log.queries.append(f"q{at % 30}")
        log.shown.append(order.tolist())
        log.clicked.append([p for p, row in enumerate(order) if rng.random() < attraction[row] * chance[p]])
        log.user.append(-1)
        log.at_us.append(at)
    from honeyguide.contracts import Interactions

    nothing = np.zeros(0, np.int32)
    empty = Interactions(
        nothing, nothing, nothing.astype(np.int16), nothing.astype(np.float32), nothing.astype(np.float32),
        nothing.astype(np.int64), 0, N, (),
    )  # fmt: skip
    for kind in ("position", "cascade", "dbn"):
        config = SearchConfig(ranking=SearchRankingConfig(clicks=kind))
        lesson = lesson_of_clicks(log, config, empty, ItemFacts.of(view, None))
        assert len(lesson.queries) == 30
        best = [rows[grades.argmax()] for rows, grades in zip(lesson.rows, lesson.grades, strict=True)]
        # People who look at each place by itself are read aright by the model that says so.
        assert np.mean(np.array(best) == 2) > (0.9 if kind == "position" else 0.5)
        assert all(grades.max() == 3.0 for grades in lesson.grades)
    clicks, shown = log.counts(N)
    assert shown[:3].sum() == 18_000
    assert clicks[2] > clicks[0]


def test_weights_are_tuned_where_a_field_misleads(tmp_path: Path) -> None:
    """What is right stands in descriptions, whose weight begins near nothing."""
    items = [Item(f"{n}", title="red one", description="blue " * (1 + n % 4) + "word " * (n % 7)) for n in range(20)]
    items += [Item(f"{20 + n}", title="blue one", description="red " * (1 + n % 4)) for n in range(20)]
    misled = LexicalConfig(
        fields=FieldsConfig(title=FieldConfig(weight=1.5), description=FieldConfig(weight=0.3)), gram_weight=0
    )
    index = LexicalIndex.build(tmp_path, catalog_view(items_table(items, 0)), config=misled)
    rows = [np.arange(20, 40, dtype=np.int32), np.arange(20, dtype=np.int32)]
    grades = [np.ones(20, np.float32)] * 2
    before = graded_ndcg([index.search(q, 10).rows for q in ("red", "blue")], rows, grades).mean()
    config, after = tuned(index, ["red", "blue"], rows, grades, rounds=3)
    assert after > before + 0.1
    assert config != index.config


def test_ndcg_by_hand() -> None:
    found = [np.array([5, 3, 9], np.int32), np.array([], np.int32)]
    rows, grades = [np.array([3, 5, 7], np.int32)] * 2, [np.array([3, 1, 2], np.float32)] * 2
    best = 7 + 3 / np.log2(3) + 1 / 2
    assert graded_ndcg(found, rows, grades).tolist() == pytest.approx([(1 + 7 / np.log2(3)) / best, 0.0])
    folds = folds_of(["a", "b", "a", "c"], 2)
    assert folds[0] == folds[2]
    mean, low, high = interval(np.array([0.1, 0.2, 0.3]))
    assert low <= mean <= high


def judged_folder(folder: Path) -> Path:
    folder.mkdir()
    items = things()
    told = {
        "item_id": [item.item_id for item in items], "title": [item.title for item in items],
        "description": [item.description for item in items], "price": [item.price for item in items],
        "categories": [item.categories for item in items], "brand": [f"b{n % 3}" for n in range(N)],
    }  # fmt: skip
    pq.write_table(pa.table(told), folder / "items.parquet")
    asked = [f"{NAMES[at % 5]} thing big {at}" for at in range(12)]
    pq.write_table(pa.table({"query_id": list(range(12)), "query": asked}), folder / "queries.parquet")
    pairs = [(at, f"i{row}", row % 4) for at in range(12) for row in range(N) if row % 5 == at % 5]
    names = ("query_id", "item_id", "grade")
    pq.write_table(
        pa.table(dict(zip(names, map(list, zip(*pairs, strict=True)), strict=True))), folder / "qrels.parquet"
    )
    return folder


def test_a_strangers_folder_is_read_and_others_are_refused(tmp_path: Path) -> None:
    folder = judged_folder(tmp_path / "shop")
    judged = load(folder)
    assert folders(tmp_path) == [folder]
    assert (len(judged.view), len(judged.queries)) == (N, 12)
    assert judged.sample(5).queries == judged.sample(5).queries != judged.queries[:5]
    with pytest.raises(DataError, match="nothing"):
        folders(tmp_path / "shop" / "..") if False else folders(_empty(tmp_path / "none"))
    pq.write_table(pa.table({"id": [1]}), folder / "qrels.parquet")
    with pytest.raises(DataError, match="grade"):
        load(folder)


def _empty(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_trials_hold_queries_out(index: LexicalIndex, view: CatalogView) -> None:
    found = trials(Finder(index, view, learnt=Learnt(candidates=40)), cheap(view, 30), QUICK)
    assert found.ndcg["ltr"].mean() > found.ndcg["lexical"].mean()
    assert np.array_equal(found.ndcg["hybrid"], found.ndcg["lexical"])  # without meaning there is nothing to blend


@pytest.mark.heavy
def test_a_workspace_learns_from_its_judgments(tmp_path: Path, unhurried: Callable[[Path], None]) -> None:
    folder = tmp_path / "w"
    path = tmp_path / "items.json"
    items = things()
    rows = [
        {
            "item_id": one.item_id,
            "title": one.title,
            "categories": one.categories,
            "price": one.price,
            "shade": f"b{n % 3}",
        }
        for n, one in enumerate(items)
    ]
    path.write_text("\n".join(json.dumps(row) for row in rows))
    path = path.rename(tmp_path / "items.jsonl")
    create(folder, items=path)
    unhurried(folder)
    toml = folder / "honeyguide.toml"
    toml.write_text(
        toml.read_text()
        + '\n[search.lexical]\nfacets = ["shade"]\n[search.ranking]\nleast_queries = 20\ntrees = 40\nfolds = 3\n'
    )
    view = catalog_view(items_table(items, 0))
    lesson = cheap(view)
    told = [
        Judgment(query, f"i{row}", int(3 * grade), "me", 1)
        for query, rows_, grades in zip(lesson.queries, lesson.rows, lesson.grades, strict=True)
        for row, grade in zip(rows_.tolist(), grades.tolist(), strict=True)
    ]
    judging.append(Layout.open(folder), told)
    decisions = build(folder)["decisions"]
    assert any(line.startswith("ranking of search: ltr brings") for line in decisions), decisions
    with hg.Workspace(folder) as workspace:
        answer = workspace.search("beta thing", k=5).answer
        assert answer.facets["shade"]
        prices = [items[int(one.item_id[1:])].price for one in answer.items]
        mine = sorted(one.price for n, one in enumerate(items) if n % 5 == 1)  # type: ignore[type-var]
        assert np.mean([price <= mine[9] for price in prices]) >= 0.6  # type: ignore[operator]
