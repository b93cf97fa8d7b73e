"""Pools and like texts from a text index, and highlighted titles."""

import html
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from honeyguide.contracts import CatalogView, Ragged
from honeyguide.engines.search.index import LexicalIndex
from honeyguide.errors import NotFoundError
from honeyguide.retrieval.lexical import LexicalSource, highlight, item_of
from honeyguide.schema.vocabulary import Vocabulary
from honeyguide.schema.wire import Filters, Item

TITLES = ["Alien", "Aliens", "Heat", "The Mission", "Prometheus"]
CATEGORIES = [[0], [0, 1], [2], [2], [0]]
PEOPLE = [[0, 1], [1], [2], [2], [0]]


@pytest.fixture(scope="module")
def view() -> CatalogView:
    n = len(TITLES)
    return CatalogView(
        items=Vocabulary(f"i{row}" for row in range(n)),
        title=TITLES,
        description=["" for _ in TITLES],
        category=Ragged.of(CATEGORIES),
        category_names=["Sci-Fi", "Action", "Drama"],
        people=Ragged.of(PEOPLE),
        people_names=["Ridley Scott", "Sigourney Weaver", "Robert De Niro"],
        country=np.array([0, -1, -1, -1, 0], np.int32),
        country_names=["UK"],
        year=np.array([1979, 1986, 1995, np.nan, 2012], np.float32),
        price=np.array([2.5, np.nan, np.nan, np.nan, np.nan], np.float32),
        available=np.ones(n, np.bool_),
        known_at=np.zeros(n, np.int64),
    )


@pytest.fixture(scope="module")
def source(view: CatalogView, tmp_path_factory: pytest.TempPathFactory) -> LexicalSource:
    return LexicalSource(LexicalIndex.build(tmp_path_factory.mktemp("lexical"), view), view)


def brought(items: Sequence[int] | np.ndarray) -> list[int]:
    return [int(row) for row in items if row >= 0]


def test_a_query_gives_a_padded_pool(source: LexicalSource) -> None:
    pool, hits = source.search("alien", 4, facets=True)
    assert pool.items.tolist() == [[0, 1, -1, -1]]
    assert pool.sources == ("lexical",)
    assert pool.source_scores.shape == (1, 4, 1)
    assert np.array_equal(pool.source_scores[:, :, 0], pool.blend, equal_nan=True)
    assert np.isnan(pool.blend[0, 2:]).all()
    assert (np.diff(pool.blend[0, :2]) <= 0).all()
    assert hits.total == 2
    assert hits.facets["categories"] == [("Sci-Fi", 2), ("Action", 1)]
    assert source.search("alien", 4, offset=1)[0].items.tolist() == [[1, -1, -1, -1]]
    assert source.search("", 2)[0].items.tolist() == [[-1, -1]]


def test_a_new_item_without_events_has_related_items(source: LexicalSource) -> None:
    new = Item("new", title="Blade Runner", people=["Ridley Scott"], categories=["Sci-Fi"])
    related = source.like(new, 4)
    assert set(brought(related.items[0])[:2]) == {0, 4}
    assert brought(source.like(Item("nothing"), 4).items[0]) == []
    assert brought(source.like(new, 4, filters=Filters(deny=["i0"])).items[0])[0] == 4


def test_an_item_is_not_like_itself(source: LexicalSource) -> None:
    for row in range(len(TITLES)):
        assert row not in brought(source.like(row, 5).items[0])
    assert brought(source.like(2, 1).items[0]) == [3]


def test_a_longer_list_starts_with_the_shorter(source: LexicalSource) -> None:
    assert source.like(0, 5).items[0, :2].tolist() == source.like(0, 2).items[0].tolist()


def test_rows_as_items(view: CatalogView) -> None:
    first = item_of(view, 0)
    people = ["Ridley Scott", "Sigourney Weaver"]
    assert first == Item("i0", title="Alien", categories=["Sci-Fi"], people=people, country="UK", year=1979, price=2.5)
    assert item_of(view, 3).year is None
    for row in (-1, len(TITLES)):
        with pytest.raises(NotFoundError, match="a row of the catalog's 5 items"):
            item_of(view, row)


@pytest.mark.parametrize(
    ("title", "query", "expected"),
    [
        ("The Matrix", "matrix", "The <mark>Matrix</mark>"),
        ("The Matrix", "the matrx", "<mark>The</mark> <mark>Matrix</mark>"),
        ("Spider-Man", "spiderman", "<mark>Spider</mark>-<mark>Man</mark>"),
        ("Spiderman", "spider man", "<mark>Spiderman</mark>"),
        ("Amélie", "amelie", "<mark>Amélie</mark>"),
        ("Cafe\u0301 Society", "café", "<mark>Cafe\u0301</mark> Society"),
        ("Schindler's <List>", "schindlers list", "<mark>Schindler&#x27;s</mark> &lt;<mark>List</mark>&gt;"),
        ("Tom & Jerry", "", "Tom &amp; Jerry"),
        ("<script>alert(1)</script>", "script", "&lt;<mark>script</mark>&gt;alert(1)&lt;/<mark>script</mark>&gt;"),
        ("Heat", "<b>heat</b>", "<mark>Heat</mark>"),
        ("", "heat", ""),
    ],
)
def test_highlights(title: str, query: str, expected: str) -> None:
    assert highlight(title, query) == expected


@given(st.text(max_size=40), st.text(max_size=40))
def test_a_highlight_is_the_title_escaped_but_for_marks(title: str, query: str) -> None:
    marked = highlight(title, query)
    assert html.unescape(re.sub("</?mark>", "", marked)) == html.unescape(html.escape(title))
    assert not re.search(r"<(?!/?mark>)", marked)
    assert marked.count("<mark>") == marked.count("</mark>")


def test_the_index_takes_part_by_its_contract_alone(tmp_path: Path, view: CatalogView) -> None:
    index = LexicalIndex.build(tmp_path, view)
    source = LexicalSource(index, view)
    index.upsert([5], [Item("i5", title="Alien Romulus", categories=["Sci-Fi"])])
    assert brought(source.search("romulus", 3)[0].items[0]) == [5]
