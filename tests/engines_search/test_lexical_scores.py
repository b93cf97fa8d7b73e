"""Scores against BM25F in plain loops, field scores, tuning of weights, and what makes a hit."""

from __future__ import annotations

import math
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from honeyguide.engines.search.index import LexicalIndex
from honeyguide.engines.search.lexical_config import FieldConfig, FieldsConfig, LexicalConfig
from honeyguide.engines.search.query_plan import Plan, bm25_idf
from honeyguide.errors import RequestError
from honeyguide.kernels import text
from honeyguide.schema.wire import Filters, Item

sys.path.insert(0, str(Path(__file__).parent))
from search_catalogs import FILMS, catalog_of, film

BARE = LexicalConfig(
    fields=FieldsConfig(title=FieldConfig(weight=2.5, b=0.8), people=FieldConfig(weight=0.7, b=0.3)),
    k1=1.7, gram_weight=0, joined_weight=0, exact_bonus=0, covered=0, popularity_weight=0, number_weight=0,
    split_weight=0, near_weight=0, coverage=0.01,
)  # fmt: skip


def fields_of(item: Item) -> list[list[str]]:
    """The words of each field, by hand."""

    def cut(value: str) -> list[str]:
        return text.words(text.fold(value))

    title = cut(text.natural_title(item.title or ""))
    title += [digit for word in title if (digit := text.numeral(word))]
    title += [str(item.year)] if item.year is not None else []
    return [
        title, [word for name in item.people for word in cut(name)],
        [word for name in item.categories for word in cut(name)], cut(item.description or ""), [],
    ]  # fmt: skip


def plain_bm25f(query: str, items: list[Item], config: LexicalConfig) -> list[float]:
    """Source: Robertson and Zaragoza 2009, section 3.6, with a length per field."""
    documents = [fields_of(item) for item in items]
    weights, b = config.fields.weights().tolist(), config.fields.b().tolist()
    mean = [sum(len(one[f]) for one in documents) / len(items) for f in range(5)]
    scores = [0.0] * len(items)
    for word in dict.fromkeys(text.words(text.fold(query))):
        found = sum(any(word in words for words in one) for one in documents)
        for at, one in enumerate(documents):
            tf = 0.0
            for f in range(5):
                norm = 1 - b[f] + b[f] * len(one[f]) / mean[f] if mean[f] else 1.0
                tf += weights[f] * Counter(one[f])[word] / max(norm, 0.01)
            scores[at] += bm25_idf(len(items), found) * tf * (config.k1 + 1) / (tf + config.k1) if found else 0.0
    return scores


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> LexicalIndex:
    return LexicalIndex.build(tmp_path_factory.mktemp("scores"), catalog_of(FILMS), config=BARE)


WORDS = ["matrix", "the", "heat", "alien", "aliens", "crime", "drama", "al", "pacino", "1995", "rocki", "list", "honey"]


@settings(max_examples=80, deadline=None)
@given(st.lists(st.sampled_from(WORDS), min_size=1, max_size=4).map(" ".join))
def test_scores_equal_plain_bm25f(bare: LexicalIndex, query: str) -> None:
    expected = plain_bm25f(query, FILMS, BARE)
    hits = bare.search(query, 100)
    got = dict(zip(hits.rows.tolist(), hits.scores.tolist(), strict=True))
    assert got == pytest.approx({row: expected[row] for row in got}, rel=1e-4)
    assert sorted(hits.scores.tolist(), reverse=True) == hits.scores.tolist()
    if hits.total:
        assert max(expected) == pytest.approx(hits.scores[0], rel=1e-4)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from(WORDS), min_size=1, max_size=3).map(" ".join))
def test_field_scores_are_bm25_of_each_field_alone(bare: LexicalIndex, query: str) -> None:
    found = bare.field_scores(query, range(len(FILMS)))
    for f, name in enumerate(("title", "people", "categories", "description", "attributes")):
        b = getattr(BARE.fields, name).b
        alone = FieldsConfig(**{n: FieldConfig(weight=float(n == name), b=b) for n in FieldsConfig.model_fields})
        expected = plain_bm25f(query, FILMS, BARE.model_copy(update={"fields": alone}))
        assert found[:, f].tolist() == pytest.approx(expected, rel=1e-4, abs=1e-6)
    held = [sum(any(w in words for words in fields_of(one)) for w in set(query.split())) for one in FILMS]
    told = [word for word in set(query.split()) if any(word in words for one in FILMS for words in fields_of(one))]
    assert found[:, 5].tolist() == pytest.approx([n / max(len(told), 1) for n in held])


def test_a_row_that_nobody_knows_scores_nothing(bare: LexicalIndex) -> None:
    assert not bare.field_scores("heat", [999, 10_000]).any()
    assert not bare.field_scores("", [0]).any()


def test_weights_are_set_without_indexing_anew(tmp_path: Path, bare: LexicalIndex) -> None:
    other = BARE.model_copy(update={"k1": 0.4, "fields": FieldsConfig()})
    fresh = LexicalIndex.build(tmp_path, catalog_of(FILMS), config=other)
    for query in ("crime drama", "al pacino", "the matrix"):
        mine, theirs = bare.reweighed(other).search(query, 20), fresh.search(query, 20)
        assert mine.rows.tolist() == theirs.rows.tolist()
        assert mine.scores.tolist() == pytest.approx(theirs.scores.tolist())


def test_items_of_any_length_put_unchanged_score_as_in_the_index(tmp_path: Path) -> None:
    items = [film(str(n), "", None, description="word " * n + "mark") for n in (1, 30, 40, 57, 100, 999, 3000)]
    index = LexicalIndex.build(tmp_path, catalog_of(items))
    before = index.search("mark", 50)
    index.upsert(range(len(items)), items)
    after = index.search("mark", 50)
    expected = dict(zip(before.rows.tolist(), before.scores.tolist(), strict=True))
    assert len(expected) == len(items)
    assert dict(zip(after.rows.tolist(), after.scores.tolist(), strict=True)) == pytest.approx(expected, rel=1e-5)


def test_many_fresh_items_become_segments_and_are_found_once(tmp_path: Path) -> None:
    index = LexicalIndex.build(tmp_path, catalog_of(FILMS))
    for turn in range(2):
        for at in range(600):
            index.upsert([100 + at], [film(f"n{at}", f"Novelty {at} turn{turn}", 2020)])
    assert len(index) == len(FILMS) + 600
    assert index.search("novelty", 1).total == 600
    assert index.search("turn0", 5).total == 0
    assert index.search("novelty 77", 1).rows.tolist() == [177]


def test_a_hit_holds_enough_of_what_the_query_tells() -> None:
    counts = {"heat": 3, "the": 900, "1995": 200}
    nothing = (np.zeros(0, np.int64), np.zeros(0, np.float32))
    plan = Plan.of_query(
        "the heat 1995", lambda term: counts.get(term, 0) if isinstance(term, str) else 0, lambda word: [],
        lambda words: nothing, 1000, LexicalConfig(),
    )  # fmt: skip
    assert plan is not None
    units = {concept.ways[0][0]: concept.units for concept in plan.concepts}
    assert units["heat"] > units["1995"] > 0
    assert units["the"] == 0
    assert units["heat"] >= plan.required


def test_rewrites_stand_for_words_by_their_weight(bare: LexicalIndex) -> None:
    alone = bare.search("heat", 5).scores[0]
    found = bare.search("hitze", 5, rewrites={"hitze": [("heat", 0.5)]})
    assert found.scores[0] == pytest.approx(alone / 2, rel=1e-4)
    assert bare.search("hitze", 5).total == 0
    assert bare.lacking("hitze keanu", found.rows.tolist(), {"hitze": [("heat", 0.5)]}) == ["keanu"]


def test_attributes_are_searched_counted_and_filtered(tmp_path: Path) -> None:
    import pyarrow as pa

    items = [
        film("1", "Runner", 2020, attributes={"brand": "Nike", "colour": "red"}, price=50.0),
        film("2", "Walker", 2021, attributes={"brand": "Puma", "colour": "red"}, price=20.0),
        film("3", "Runner two", 2019, attributes={"brand": "Nike", "colour": "blue"}),
    ]
    from dataclasses import replace

    import msgspec

    told = pa.chunked_array([[msgspec.json.encode(item.attributes).decode() for item in items]])
    view = replace(catalog_of(items), attributes=told)
    index = LexicalIndex.build(tmp_path, view, config=LexicalConfig(facets=["brand", "colour"]))
    found = index.search("nike", 5, facets=True)
    assert sorted(found.rows.tolist()) == [0, 2]
    assert found.facets["brand"] == [("Nike", 2)]
    assert found.facets["colour"] == [("blue", 1), ("red", 1)]
    red = index.search("runner walker", 5, filters=Filters(attributes={"colour": ["red"]}), facets=True)
    assert sorted(red.rows.tolist()) == [0, 1]
    narrowed = index.search("red", 5, facets=True, facet_text={"brand": "ni"})
    assert narrowed.facets["brand"] == [("Nike", 1)]
    index.upsert([3], [film("4", "Jumper", 2022, attributes={"brand": "Asics", "colour": "red"}, price=30.0)])
    assert ("Asics", 1) in index.search("red", 5, facets=True).facets["brand"]
    assert index.search("red", 5, sort="price").rows.tolist() == [1, 3, 0]
    assert index.search("red", 5, sort="-price").rows.tolist() == [0, 3, 1]
    assert index.search("red", 5, sort="-year").rows.tolist() == [3, 1, 0]
    assert index.search("red", 5, sort="title").rows.tolist() == [3, 0, 1]
    with pytest.raises(RequestError, match="brand"):
        index.search("red", 5, filters=Filters(attributes={"size": ["42"]}))
    with pytest.raises(RequestError, match="relevance"):
        index.search("red", 5, sort="cheap")
    with pytest.raises(RequestError, match="decade"):
        index.search("red", 5, facets=True, facet_text={"size": "4"})


def test_boosts_and_popularity_move_equals(tmp_path: Path) -> None:
    from dataclasses import replace

    import pyarrow as pa

    items = [film(str(n), "Same words", None) for n in range(4)]
    view = replace(catalog_of(items), attributes=pa.chunked_array([[None, None, '{"boost": 3.5}', None]]))
    popularity = np.array([0, 1, 0, 2], np.float32)
    plain = LexicalIndex.build(tmp_path / "a", view, popularity=popularity)
    assert plain.search("same", 4).rows.tolist() == [3, 1, 0, 2]
    boosted = LexicalIndex.build(tmp_path / "b", view, popularity=popularity, config=LexicalConfig(boost="boost"))
    found = boosted.search("same", 4)
    assert found.rows.tolist()[0] == 2
    assert math.isclose(found.scores[0] - plain.search("same", 4).scores[3], 3.5, rel_tol=1e-4)
