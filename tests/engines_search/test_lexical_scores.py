"""Scores of the index against BM25 in plain loops."""

import math
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from honeyguide.engines.search.overlay import stored_length
from honeyguide.engines.search.plan import BAG, EXACT, SCORED, DocumentTerms, LexicalConfig, Plan
from honeyguide.engines.search.tantivy_index import TantivyIndex
from honeyguide.schema.wire import Item

sys.path.insert(0, str(Path(__file__).parent))
from search_catalogs import FILMS, catalog_of, film


def plain_scores(query: str, items: list[Item], config: LexicalConfig) -> dict[int, float]:
    """BM25 of every item for every scored term, by the textbook: no index, no short cuts."""
    documents = [DocumentTerms.of(item, config) for item in items]

    def frequency(field: str, term: str) -> int:
        return sum(term in document.field(field) for document in documents)

    plan = Plan.of_query(query, frequency, len(items), config)
    scores = dict.fromkeys(range(len(items)), 0.0)
    if plan is None:
        return scores
    for row, document in enumerate(documents):
        for field, term, weight in plan.scored:
            found = frequency(field, term)
            idf = math.log(1 + (len(items) - found + 0.5) / (found + 0.5))
            mean = sum(len(other.field(field)) for other in documents) / len(items)
            tf = document.field(field).count(term)
            length = stored_length(len(document.field(field)))
            scores[row] += weight * idf * tf * 2.2 / (tf + 1.2 * (0.25 + 0.75 * length / mean))
        if plan.exact in document.field(EXACT):
            scores[row] += config.exact_bonus
    return scores


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> TantivyIndex:
    return TantivyIndex.build(tmp_path_factory.mktemp("scores"), catalog_of(FILMS))


@given(
    st.lists(
        st.sampled_from(
            ["matrix", "the", "heat", "alien", "aliens", "crime", "drama", "al", "pacino", "1995", "rocki", "list"]
        ),
        min_size=1,
        max_size=4,
    ).map(" ".join)
)
@settings(max_examples=80, deadline=None)
def test_scores_equal_plain_bm25(index: TantivyIndex, query: str) -> None:
    expected = plain_scores(query, FILMS, index.config)
    hits = index.search(query, 100)
    for row, score in zip(hits.rows.tolist(), hits.scores.tolist(), strict=True):
        assert score == pytest.approx(expected[row], rel=1e-4, abs=1e-4)
    assert sorted(hits.scores.tolist(), reverse=True) == hits.scores.tolist()
    # What scores best over the whole catalog is a hit, and the first.
    if hits.total:
        assert expected[int(hits.rows[0])] == pytest.approx(max(expected.values()), rel=1e-4)


def test_lengths_are_kept_as_the_index_keeps_them(tmp_path: Path) -> None:
    """Items from 1 to 3,000 words: an item put unchanged scores as in the index, whatever its length."""
    items = [
        film(str(n), "", None, description="word " * n + "mark")
        for n in (1, 30, 38, 39, 40, 41, 55, 56, 57, 63, 100, 999, 3000)
    ]
    index = TantivyIndex.build(tmp_path, catalog_of(items))
    before = index.search("mark", 50)
    index.upsert(range(len(items)), items)
    after = index.search("mark", 50)
    expected = dict(zip(before.rows.tolist(), before.scores.tolist(), strict=True))
    assert len(expected) == len(items)
    assert dict(zip(after.rows.tolist(), after.scores.tolist(), strict=True)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("length", "stored"), [(0, 0), (39, 39), (40, 40), (41, 40), (42, 42), (57, 56), (2013944, 1966104)]
)
def test_stored_length(length: int, stored: int) -> None:
    assert stored_length(length) == stored


def test_a_hit_holds_enough_of_what_the_query_tells() -> None:
    config = LexicalConfig()
    counts = {(BAG, "heat"): 3, (BAG, "the"): 900, (BAG, "1995"): 200}
    plan = Plan.of_query("the heat 1995", lambda field, term: counts.get((field, term), 0), 1000, config)
    assert plan is not None
    units = {concept.spellings[0][1]: concept.units for concept in plan.concepts}
    assert units["heat"] > units["1995"] > 0
    assert "the" not in units
    assert units["heat"] >= plan.required
    assert {field for field, _, _ in plan.scored} <= set(SCORED)
