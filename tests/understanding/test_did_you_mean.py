"""Did you mean: only unknown words change, to the likeliest known one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from honeyguide.contracts import CatalogView, Ragged
from honeyguide.kernels import text
from honeyguide.kernels.text import natural_title
from honeyguide.schema.vocabulary import Vocabulary as Ids
from honeyguide.schema.wire import Item
from honeyguide.understanding.spelling import SpellingConfig, Vocabulary, correct

WEIGHTS = {
    "the": 500.0, "matrix": 20.0, "godfather": 15.0, "star": 40.0, "wars": 30.0, "potter": 20.0, "peter": 60.0,
    "harry": 30.0, "heat": 10.0, "hear": 9.0, "arnold": 5.0, "schwarzenegger": 5.0, "1995": 80.0, "it": 200.0,
    "tokyo": 8.0, "amelie": 6.0, "spiderman": 4.0,
}  # fmt: skip


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    return Vocabulary(WEIGHTS)


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("matrx", "matrix"),
        ("the matirx", "the matrix"),
        ("Godfahter", "godfather"),
        ("Schwarzeneger, Arnold!", "schwarzenegger, Arnold!"),
        ("schwartzeneger", "schwarzenegger"),
        ("harry poter", "harry potter"),
        ("teh matrix", "the matrix"),
        ("Amelei", "amelie"),
        ("stra wars", "star wars"),
    ],
)
def test_unknown_words_are_replaced(vocabulary: Vocabulary, typed: str, expected: str) -> None:
    correction = correct(typed, vocabulary)
    assert correction is not None
    assert correction.original == typed
    assert correction.corrected == expected


@pytest.mark.parametrize(
    "typed",
    [
        "the matrix",
        "HEAT 1995",
        "Amélie",
        "spider man",
        "xqzw",
        "1996",
        "ti",
        "",
        " ",
        "🎬",
        "\x00",
        "a" * 10_000,
        "x " * 99,
        "\ud800abc",
    ],
)
def test_what_is_known_or_hopeless_stays(vocabulary: Vocabulary, typed: str) -> None:
    assert correct(typed, vocabulary) is None


def test_the_heavier_word_wins_a_tie(vocabulary: Vocabulary) -> None:
    assert vocabulary.nearest("heaq") == "heat"
    assert Vocabulary({**WEIGHTS, "hear": 99.0}).nearest("heaq") == "hear"


def test_words_of_new_items_are_known_at_once() -> None:
    vocabulary = Vocabulary(WEIGHTS)
    assert correct("zootopia", vocabulary) is None
    vocabulary.upsert(Item("z", title="Zootopia", people=["Ginnifer Goodwin"]))
    assert correct("zootpia godwin", vocabulary) is not None
    assert correct("zootpia", vocabulary).corrected == "zootopia"  # type: ignore[union-attr]
    for at in range(1_200):
        vocabulary.upsert(Item(str(at), title=f"Filler{at}x"))
    assert correct("zootpia", vocabulary).corrected == "zootopia"  # type: ignore[union-attr]
    assert "zootopia" in vocabulary


def test_a_vocabulary_of_a_catalog() -> None:
    view = CatalogView(
        items=Ids(["a", "b", "c"]),
        title=["Matrix, The (1999)", "Gone", "Hidden Thing"],
        description=["a hacker learns", "the hacker rests", "sekret"],
        category=Ragged.of([[0], [0], [0]]),
        category_names=["Thriller"],
        people=Ragged.of([[0], [], [1]]),
        people_names=["Keanu Reeves", "Nobody Known"],
        country=np.full(3, -1, np.int32),
        country_names=[],
        year=np.full(3, np.nan, np.float32),
        price=np.full(3, np.nan, np.float32),
        available=np.array([True, True, False]),
        known_at=np.zeros(3, np.int64),
    )
    vocabulary = Vocabulary.build(view)
    for word in ("matrix", "keanu", "thriller", "hacker", "learns"):
        assert word in vocabulary
    for word in ("hidden", "nobody", "sekret"):
        assert word not in vocabulary
    assert correct("matrx keanuu", vocabulary).corrected == "matrix keanu"  # type: ignore[union-attr]


def plain_nearest(word: str, weights: dict[str, float], config: SpellingConfig) -> str | None:
    """Every known word, one by one."""

    def single(value: str) -> str:
        return "".join(letter for at, letter in enumerate(value) if not at or value[at - 1] != letter)

    best: tuple[float, str] | None = None
    limit = 2 if len(word) >= config.two_edits_from else 1
    for known, weight in sorted(weights.items()):
        edits = int(text.osa_distances(word, *text.encode_words([known]), 2)[0])
        if edits > limit or len(known) < config.min_letters or known.isdigit():
            continue
        cost = edits * config.edit_cost
        if single(known) == single(word):
            cost = min(cost, config.doubled_letter_cost)
        cost += config.first_letter_cost * (known[0] != word[0]) - float(np.log(weight))
        if best is None or cost < best[0] - 1e-12:
            best = (cost, known)
    return best and best[1]


@given(
    st.dictionaries(st.text("abcé", min_size=1, max_size=8), st.floats(1, 100), min_size=1, max_size=20),
    st.text("abcé", min_size=3, max_size=9),
)
@settings(max_examples=200)
def test_nearest_equals_a_look_at_every_word(weights: dict[str, float], word: str) -> None:
    config = SpellingConfig()
    assert Vocabulary(weights, config).nearest(word) == plain_nearest(word, weights, config)


@given(st.text(max_size=60))
@settings(max_examples=150)
def test_any_query_is_corrected_or_not(vocabulary: Vocabulary, query: str) -> None:
    correction = correct(query, vocabulary)
    if correction is not None:
        assert correction.replaced
        for typed, known in correction.replaced:
            assert typed not in vocabulary
            assert known in vocabulary


def test_titles_as_said() -> None:
    assert natural_title("Matrix, The (1999)") == "The Matrix"
