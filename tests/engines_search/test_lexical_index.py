"""The lexical index: what people type and what they find, filters, facets, paging, live changes, damage."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from honeyguide.contracts import TextIndex
from honeyguide.engines.search.index import FACETS, LexicalIndex
from honeyguide.engines.search.lexical_config import LexicalConfig
from honeyguide.errors import BuildError
from honeyguide.schema.wire import Filters, Item

sys.path.insert(0, str(Path(__file__).parent))
from search_catalogs import FILMS, catalog_of, film

NASTY = [
    "", " ", "\t\n", "\x00", "\x00matrix\x1f", "AND OR NOT", "title:matrix", "+matrix -reloaded", '"the matrix', "mat*",
    "matrix~2", "[1990 TO 2000]", "(((", "\\", "'; DROP TABLE items; --", "<script>alert(1)</script>", "🎬🍿",
    "שלום מטריקס", "مصفوفة", "\ud800", "a" * 10_000, "matrix " * 1_500, "^^^", "%s %d", "𝕸𝖆𝖙𝖗𝖎𝖝",
    "e" + "\u0301" * 500, "/re.*gex/", "{}", "*",
]  # fmt: skip


def passes(item: Item, filters: Filters) -> bool:
    """Whether an item passes all filters that are given, in plain words."""

    def shares(wanted: list[str], have: list[str]) -> bool:
        return not wanted or not set(wanted).isdisjoint(have)

    def within(value: float | None, low: float | None, high: float | None) -> bool:
        if low is None and high is None:
            return True
        return value is not None and (low is None or value >= low) and (high is None or value <= high)

    return (
        shares(filters.categories, item.categories)
        and shares(filters.people, item.people)
        and shares(filters.countries, [item.country] if item.country else [])
        and within(item.year, filters.year_min, filters.year_max)
        and within(item.price, filters.price_min, filters.price_max)
        and shares(filters.allow, [item.item_id])
        and item.item_id not in filters.deny
    )


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> LexicalIndex:
    return LexicalIndex.build(tmp_path_factory.mktemp("films"), catalog_of(FILMS))


def found(index: LexicalIndex, query: str, k: int = 10, **more: object) -> list[str]:
    hits = index.search(query, k, **more)  # type: ignore[arg-type]
    return [FILMS[row].item_id for row in hits.rows]


def test_it_is_a_text_index(index: LexicalIndex) -> None:
    assert isinstance(index, TextIndex)
    assert len(index) == len(FILMS)


@pytest.mark.parametrize(
    ("query", "first"),
    [
        ("the matrix", ["m1", "m2"]),
        ("Matrix, The", ["m1", "m2"]),
        ("MATRIX", ["m1", "m2"]),
        ("alien", ["a1"]),
        ("aliens", ["a2"]),
        ("heat 1995", ["h1"]),
        ("heat 1986", ["h2"]),
        ("heat (1986)", ["h2"]),
        ("rocky 2", ["r2"]),
        ("rocky", ["r1", "r2"]),
        ("amelie", ["am"]),
        ("AMÉLIE", ["am"]),
        ("le fabuleux destin d'amelie poulain", ["am"]),
        ("spiderman", ["sp"]),
        ("spider man", ["sp"]),
        ("schindlers list", ["sl"]),
        ("pacino crime", ["gf"]),
        ("keanu", ["m1", "m2"]),
        ("matrx", ["m1"]),
        ("godfahter", ["gf"]),
        ("schindlre list", ["sl"]),
        ("東京", ["to"]),
        ("honey bees", ["nd"]),
        ("ozu", ["to"]),
    ],
)
def test_what_people_type(index: LexicalIndex, query: str, first: list[str]) -> None:
    assert found(index, query)[: len(first)] == first


def test_a_plural_is_found_after_the_exact_title(index: LexicalIndex) -> None:
    ids = found(index, "alien")
    assert ids[0] == "a1"
    assert set(ids) == {"a1", "a2", "an"}


@pytest.mark.parametrize("query", NASTY)
def test_nothing_a_person_types_raises(index: LexicalIndex, query: str) -> None:
    hits = index.search(query, 5, facets=True)
    assert len(hits.rows) == len(hits.scores) == min(5, hits.total)
    assert tuple(hits.facets) == FACETS


def test_an_empty_query_has_no_hits(index: LexicalIndex) -> None:
    for query in ("", "  ", "!?"):
        hits = index.search(query, 5, facets=True)
        assert hits.total == 0
        assert len(hits.rows) == 0
        assert hits.facets == {name: [] for name in FACETS}


@given(st.text(max_size=80), st.integers(-2, 30), st.integers(-2, 50))
@settings(max_examples=150, deadline=None)
def test_fuzz(index: LexicalIndex, query: str, k: int, offset: int) -> None:
    hits = index.search(query, k, offset=offset, facets=True)
    assert len(hits.rows) == max(0, min(k, hits.total - max(offset, 0)))


WORDS = ["matrix", "the", "heat", "crime", "drama", "pacino", "1995", "alien", "rocky", "sci", "scott", "zzz", "spidr"]
queries = st.lists(st.sampled_from(WORDS), min_size=1, max_size=4).map(" ".join)
filters_ = st.builds(
    Filters,
    categories=st.lists(st.sampled_from(["Crime", "Drama", "Sci-Fi", "nonsense", "\ud800"]), max_size=2),
    people=st.lists(st.sampled_from(["Al Pacino", "Keanu Reeves", "nobody"]), max_size=1),
    countries=st.lists(st.sampled_from(["USA", "UK", "Atlantis"]), max_size=2),
    year_min=st.none() | st.integers(1970, 2000) | st.just(-(10**30)),
    year_max=st.none() | st.integers(1970, 2010) | st.just(10**30),
    price_min=st.none() | st.floats(0, 9) | st.just(float("nan")),
    price_max=st.none() | st.floats(0, 9) | st.just(float("inf")),
    allow=st.lists(st.sampled_from([item.item_id for item in FILMS] + ["?", "\udcff"]), max_size=6),
    deny=st.lists(st.sampled_from([item.item_id for item in FILMS] + ["?", "\udcff"]), max_size=6),
)


@given(queries, filters_)
@settings(max_examples=200, deadline=None)
def test_filters_keep_exactly_the_hits_that_pass(index: LexicalIndex, query: str, filters: Filters) -> None:
    everything = index.search(query, 100).rows.tolist()
    hits = index.search(query, 100, filters=filters, facets=True)
    assert hits.rows.tolist() == [row for row in everything if passes(FILMS[row], filters)]
    assert hits.total == len(hits.rows)


@given(queries, st.integers(1, 5))
@settings(max_examples=60, deadline=None)
def test_pages_continue_each_other_and_facets_do_not_depend_on_them(index: LexicalIndex, query: str, k: int) -> None:
    whole = index.search(query, 100, facets=True)
    rows: list[int] = []
    for offset in range(0, whole.total + k, k):
        page = index.search(query, k, offset=offset, facets=True)
        assert page.facets == whole.facets
        assert page.total == whole.total
        rows += page.rows.tolist()
    assert rows == whole.rows.tolist()
    assert len(set(rows)) == len(rows)


@given(queries)
@settings(max_examples=50, deadline=None)
def test_facets_count_every_hit(index: LexicalIndex, query: str) -> None:
    hits = index.search(query, 100, facets=True)
    items = [FILMS[row] for row in hits.rows]
    expected = {
        "categories": Counter(name for item in items for name in item.categories),
        "people": Counter(name for item in items for name in item.people),
        "countries": Counter(item.country for item in items if item.country),
        "decade": Counter(f"{item.year // 10 * 10}s" for item in items if item.year is not None),
    }
    for name, counts in expected.items():
        assert hits.facets[name] == sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:20]


def test_equal_scores_stand_by_popularity_then_row(tmp_path: Path) -> None:
    twins = [film(f"t{i}", "Twin Peaks", 1990) for i in range(6)]
    plain = LexicalIndex.build(tmp_path / "plain", catalog_of(twins))
    assert plain.search("twin peaks", 6).rows.tolist() == [0, 1, 2, 3, 4, 5]
    popularity = np.array([1, 5, 2, 5, 0, 9], np.float32)
    known = LexicalIndex.build(tmp_path / "known", catalog_of(twins), popularity=popularity)
    assert known.search("twin peaks", 6).rows.tolist() == [5, 1, 3, 2, 0, 4]
    assert known.search("twin peaks", 2, offset=1).rows.tolist() == [1, 3]


def test_unavailable_items_are_not_found(tmp_path: Path) -> None:
    items = [film("x", "Solaris", 1972), film("y", "Solaris", 2002, available=False)]
    index = LexicalIndex.build(tmp_path, catalog_of(items))
    assert index.search("solaris", 5).rows.tolist() == [0]


# ----------------------------------------------------------------------------------------------- live changes


def test_an_upsert_is_seen_by_the_next_search(tmp_path: Path) -> None:
    index = LexicalIndex.build(tmp_path, catalog_of(FILMS))
    new = film("zz", "Zootopia (2016)", 2016, "Animation", "Ginnifer Goodwin; Keanu Reeves", country="USA")
    index.upsert([len(FILMS)], [new])
    assert index.search("zootopia", 5).rows.tolist() == [len(FILMS)]
    assert index.search("zootpia", 5).rows.tolist() == [len(FILMS)]
    hits = index.search("keanu reeves", 9, facets=True)
    assert len(FILMS) in hits.rows
    assert ("Animation", 1) in hits.facets["categories"]
    assert dict(hits.facets["people"])["Keanu Reeves"] == 3
    assert len(index) == len(FILMS) + 1

    index.upsert([0], [film("m1", "Quite Another Name", 1999, "Drama")])
    assert 0 not in index.search("the matrix", 9).rows
    assert index.search("quite another name", 1).rows.tolist() == [0]

    index.upsert([0], [film("m1", "Matrix, The", 1999, available=False)])
    assert 0 not in index.search("quite another name", 9).rows
    assert 0 not in index.search("the matrix", 9).rows
    assert len(index) == len(FILMS)

    index.upsert([0], [FILMS[0]])
    assert index.search("the matrix", 9).rows.tolist()[0] == 0
    again = LexicalIndex.open(tmp_path)
    assert len(FILMS) not in again.search("zootopia", 5).rows


@given(queries, st.sets(st.integers(0, len(FILMS) - 1), min_size=1), filters_, st.integers(0, 6), st.integers(1, 6))
@settings(max_examples=120, deadline=None)
def test_an_item_put_unchanged_changes_nothing(
    films_folder: Path, query: str, rows: set[int], filters: Filters, offset: int, k: int
) -> None:
    base, live = LexicalIndex.open(films_folder), LexicalIndex.open(films_folder)
    live.upsert(sorted(rows), [FILMS[row] for row in sorted(rows)])
    for given_filters in (None, filters):
        before = base.search(query, 100, filters=given_filters, facets=True)
        after = live.search(query, 100, filters=given_filters, facets=True)
        assert before.total == after.total
        assert before.facets == after.facets
        scores = dict(zip(before.rows.tolist(), before.scores.tolist(), strict=True))
        assert dict(zip(after.rows.tolist(), after.scores.tolist(), strict=True)) == pytest.approx(scores, rel=1e-4)
        page = live.search(query, k, offset=offset, filters=given_filters)
        assert page.rows.tolist() == after.rows[offset : offset + k].tolist()


@pytest.fixture(scope="module")
def films_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unchanged")
    LexicalIndex.build(folder, catalog_of(FILMS))
    return folder


def test_an_index_may_begin_empty(tmp_path: Path) -> None:
    index = LexicalIndex.build(tmp_path, catalog_of([]))
    assert index.search("matrix", 3, facets=True).total == 0
    index.upsert([0, 1], FILMS[:2])
    assert index.search("matrix", 3, facets=True).rows.tolist() == [0, 1]


def test_like_texts(index: LexicalIndex) -> None:
    hits = index.like(FILMS[0], 3)
    assert FILMS[hits.rows[0]].item_id == "m2"
    assert 0 not in hits.rows
    new = film("new", "Prometheus", 2012, "Sci-Fi", "Ridley Scott; Sigourney Weaver")
    assert FILMS[index.like(new, 3).rows[0]].item_id == "a1"
    assert index.like(Item("blank"), 3).total == 0
    crime_only = index.like(FILMS[0], 9, filters=Filters(categories=["Crime"]))
    assert all("Crime" in FILMS[row].categories for row in crime_only.rows)


# ------------------------------------------------------------------------------------------------------ damage


def test_several_processes_read_at_once(films_folder: Path) -> None:
    program = (
        "import sys, pathlib; from honeyguide.engines.search.index import LexicalIndex\n"
        "print(LexicalIndex.open(pathlib.Path(sys.argv[1])).search('the matrix', 1).rows.tolist())"
    )
    here = LexicalIndex.open(films_folder)
    others = [
        subprocess.Popen([sys.executable, "-c", program, str(films_folder)], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    assert [process.communicate()[0].strip() for process in others] == ["[0]", "[0]"]
    assert here.search("the matrix", 1).rows.tolist() == [0]


def test_a_damaged_folder_is_refused_in_one_sentence(tmp_path: Path) -> None:
    def refused(match: str) -> None:
        with pytest.raises(BuildError, match=match) as error:
            LexicalIndex.open(tmp_path)
        assert "\n" not in str(error.value)

    refused("no readable")
    LexicalIndex.build(tmp_path, catalog_of(FILMS))
    manifest = tmp_path / "lexical.json"
    good = manifest.read_bytes()
    for bad, match in (
        (json.dumps({**json.loads(good), "format": 99}).encode(), "format 99"),
        (good[:-20], "cannot be read"),
        (b"[]", "cannot be read"),
        (b'{"format": 2}', "cannot be read"),
        (json.dumps({**json.loads(good), "config": {"typo": 1}}).encode(), "cannot be read"),
    ):
        manifest.write_bytes(bad)
        refused(match)
    manifest.write_bytes(good)
    largest = max((tmp_path / "index").iterdir(), key=lambda path: path.stat().st_size)
    content = largest.read_bytes()
    largest.write_bytes(content[:-1])
    refused(f"with {len(content) - 1} of {len(content)} bytes")
    largest.unlink()
    refused("missing")


def test_a_second_build_replaces_the_first(tmp_path: Path) -> None:
    LexicalIndex.build(tmp_path, catalog_of(FILMS))
    LexicalIndex.build(tmp_path, catalog_of(FILMS[:3]), config=LexicalConfig(k1=2.0))
    index = LexicalIndex.open(tmp_path)
    assert len(index) == 3
    assert index.config.k1 == 2.0


def test_popularity_of_another_catalog_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="popularity"):
        LexicalIndex.build(tmp_path, catalog_of(FILMS), popularity=np.zeros(3, np.float32))


def test_names_that_utf8_cannot_hold_do_not_stop_a_build(tmp_path: Path) -> None:
    odd = film("o\ud800", "Odd \ud800 Film", 2000, people="Al \udcff Pacino", country="\ud800")
    index = LexicalIndex.build(tmp_path, catalog_of([odd, FILMS[0]]))
    assert index.search("odd film", 2, facets=True).rows[0] == 0


def test_config_is_closed() -> None:
    with pytest.raises(ValueError, match="typo"):
        LexicalConfig.model_validate({"typo": 1})
    assert msgspec.json.decode(msgspec.json.encode(LexicalConfig().model_dump())) == LexicalConfig().model_dump()
