"""Completions: word starts, popularity, one typo, live changes."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from honeyguide.contracts import CatalogView, Ragged
from honeyguide.kernels import text
from honeyguide.schema.vocabulary import Vocabulary
from honeyguide.schema.wire import Item, Suggestion
from honeyguide.understanding.suggest import SuggestConfig, Suggester

TITLES = [
    "Godfather, The (1972)", "Godfather: Part II, The (1974)", "Godzilla (1998)", "Matrix, The (1999)", "Alien (1979)",
    "Aliens (1986)", "Amélie (2001)", "City of God (2002)", "Gone (2012)", "",
]  # fmt: skip
POPULARITY = np.array([100, 60, 20, 90, 30, 300, 50, 40, 10, 500], np.float32)


def view_of(
    titles: list[str], people: list[list[str]] | None = None, available: list[bool] | None = None
) -> CatalogView:
    n = len(titles)
    names = sorted({name for one in people or [] for name in one})
    return CatalogView(
        items=Vocabulary(f"i{row}" for row in range(n)),
        title=titles,
        description=[""] * n,
        category=Ragged.of([[0] if row % 2 else [0, 1] for row in range(n)]),
        category_names=["Drama", "Gothic Horror"],
        people=Ragged.of([[names.index(name) for name in one] for one in people]) if people else Ragged.empty(n),
        people_names=names,
        country=np.full(n, -1, np.int32),
        country_names=[],
        year=np.full(n, np.nan, np.float32),
        price=np.full(n, np.nan, np.float32),
        available=np.array(available if available else [True] * n, np.bool_),
        known_at=np.zeros(n, np.int64),
    )


@pytest.fixture(scope="module")
def suggester() -> Suggester:
    people = [
        ["Al Pacino"],
        ["Al Pacino", "Robert De Niro"],
        [],
        ["Keanu Reeves"],
        [],
        [],
        ["Audrey Tautou"],
        [],
        [],
        [],
    ]
    return Suggester.build(view_of(TITLES, people), POPULARITY)


def texts(suggester: Suggester, prefix: str, k: int = 10) -> list[str]:
    return [suggestion.text for suggestion in suggester.suggest(prefix, k)]


def test_every_word_start_completes(suggester: Suggester) -> None:
    assert texts(suggester, "matr") == ["The Matrix"]
    assert texts(suggester, "the mat") == ["The Matrix"]
    assert texts(suggester, "MATRIX, THE") == ["The Matrix"]
    found = texts(suggester, "god")
    assert found[:3] == ["The Godfather", "The Godfather: Part II", "Godzilla"]
    assert "City of God" in found
    assert texts(suggester, "amé") == texts(suggester, "ame") == ["Amélie"]
    assert suggester.suggest("matr", 1) == [Suggestion("The Matrix", "title", "i3")]


def test_people_and_categories_complete(suggester: Suggester) -> None:
    assert suggester.suggest("pac", 3) == [Suggestion("Al Pacino", "person", None)]
    assert suggester.suggest("niro", 3) == [Suggestion("Robert De Niro", "person", None)]
    assert suggester.suggest("horr", 3) == [Suggestion("Gothic Horror", "category", None)]


def test_the_whole_name_comes_before_the_more_popular(suggester: Suggester) -> None:
    assert texts(suggester, "alie") == ["Aliens", "Alien"]
    assert texts(suggester, "alien") == ["Alien", "Aliens"]
    assert texts(suggester, "god", 3) == texts(suggester, "god")[:3]


@pytest.mark.parametrize("typo", ["matirx", "mtrix", "maatrix", "mayrix", "amtrix"])
def test_one_typo_is_forgiven_where_nothing_completes(suggester: Suggester, typo: str) -> None:
    assert texts(suggester, typo) == ["The Matrix"]


def test_two_typos_and_short_prefixes_are_not(suggester: Suggester) -> None:
    assert texts(suggester, "mytrjx") == []
    assert texts(suggester, "xyz") == []


def test_live_changes() -> None:
    suggester = Suggester.build(view_of(TITLES), POPULARITY)
    suggester.upsert(Item("new", title="Godspeed", people=["Zoe Saldana"], categories=["Drama"]))
    assert "Godspeed" in texts(suggester, "god")
    assert texts(suggester, "godspede") == ["Godspeed"]
    assert texts(suggester, "zoe") == ["Zoe Saldana"]
    suggester.upsert(Item("i3", title="Matrix, The: Remastered"))
    assert texts(suggester, "matri") == ["Matrix, The: Remastered"]
    suggester.upsert(Item("i3", title="Matrix, The", available=False))
    assert texts(suggester, "matri") == []
    suggester.upsert(Item("i3", title="Matrix, The"))
    assert suggester.suggest("matri") == [Suggestion("The Matrix", "title", "i3")]
    suggester.upsert(Item("i3"))
    assert texts(suggester, "matri") == []


def test_unavailable_items_and_their_people_are_not_suggested() -> None:
    view = view_of(["Solaris", "Stalker"], [["Donatas Banionis"], ["Alisa Freindlich"]], [False, True])
    suggester = Suggester.build(view)
    assert texts(suggester, "sol") == []
    assert texts(suggester, "donatas") == []
    assert texts(suggester, "st") == ["Stalker"]
    assert texts(suggester, "alisa") == ["Alisa Freindlich"]


@given(st.text(max_size=40), st.integers(-1, 12))
@settings(max_examples=150)
def test_anything_typed_completes_or_not(suggester: Suggester, prefix: str, k: int) -> None:
    found = suggester.suggest(prefix, k)
    assert len(found) <= max(k, 0)
    assert len({(one.kind, one.text) for one in found}) == len(found)


@pytest.mark.parametrize("prefix", ["", " ", "\x00", "a" * 10_000, "🎬", "\ud800", "%", "'; DROP TABLE x"])
def test_hostile_prefixes(suggester: Suggester, prefix: str) -> None:
    assert suggester.suggest(prefix) == []


names = st.lists(st.sampled_from(["go", "god", "gone", "the", "alien", "al", "matrix"]), min_size=1, max_size=3).map(
    " ".join
)


@given(
    st.lists(names, min_size=1, max_size=12, unique=True),
    st.sampled_from(["g", "go", "god", "al", "the", "m", "alien"]),
)
@settings(max_examples=100)
def test_completions_equal_a_scan_of_all_names(titles: list[str], prefix: str) -> None:
    found = set(texts(Suggester.build(view_of(titles)), prefix, 50))
    names = [*titles, "Drama", *(["Gothic Horror"] if titles else [])]
    expected = {
        name
        for name in names
        if any((text.fold(" ".join(name.split()[at:]))).startswith(prefix) for at in range(len(name.split())))
    }
    assert found == expected


def test_fifty_thousand_titles_complete_within_two_milliseconds() -> None:
    rng = np.random.default_rng(0)
    syllables = ["ka", "lo", "mi", "ra", "to", "ne", "sha", "ber", "vin", "dol"]
    drawn = rng.choice(syllables, (50_000, 3, 3))
    titles = [" ".join(map("".join, title)) for title in drawn.tolist()]
    suggester = Suggester.build(view_of(titles), rng.random(50_000).astype(np.float32))
    for prefix in ("k", "ka", "karami", "karqmi", "kalo mi", "zzzzzz"):
        suggester.suggest(prefix)
        start = time.process_time()
        for _ in range(10):
            suggester.suggest(prefix)
        # The bar is 2 ms; a machine that is shared gets room.
        assert (time.process_time() - start) / 10 < 0.006


def test_config_is_closed() -> None:
    with pytest.raises(ValueError, match="typo"):
        SuggestConfig.model_validate({"typo": 1})
