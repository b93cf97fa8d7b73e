"""Words, title keys and edit distances, against cases by hand and a plain loop."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from honeyguide.kernels import text


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("Amélie", ["amelie"]),
        ("Schindler’s List", ["schindlers", "list"]),
        ("Straße ŁÓDŹ Ærø", ["strasse", "lodz", "aero"]),
        ("Ｆｕｌｌ ﬁne", ["full", "fine"]),
        ("spider-man_3", ["spider", "man", "3"]),
        ("東京 物語", ["東", "京", "物", "語"]),
        ("हिन्दी सिनेमा", ["हिन्दी", "सिनेमा"]),
        ("Ёлки й", ["елки", "и"]),
        ("שָׁלוֹם", ["שלום"]),
        ("a\x00b\ud800c", ["a", "b", "c"]),
        ("🎬 !!! \t\n", []),
        ("", []),
    ],
)
def test_words(typed: str, expected: list[str]) -> None:
    assert text.words(text.fold(typed)) == expected


@pytest.mark.parametrize(
    ("title", "said", "keys"),
    [
        ("Matrix, The (1999)", "The Matrix", ["matrix"]),
        ("Avventura, L' (The Adventure) (1960)", "L'Avventura (The Adventure)", ["lavventura", "adventure"]),
        ("Seven (a.k.a. Se7en) (1995)", "Seven (a.k.a. Se7en)", ["seven", "se7en"]),
        ("1984", "1984", ["1984"]),
        ("(1984)", "(1984)", ["1984"]),
        ("Me, Myself & Irene", "Me, Myself & Irene", ["me myself irene"]),
        ("The", "The", ["the"]),
        ("", "", []),
    ],
)
def test_titles_as_people_say_them(title: str, said: str, keys: list[str]) -> None:
    assert text.natural_title(title) == said
    assert text.title_keys(title)[: len(keys)] == keys


def test_brackets_of_a_title_are_turned_too() -> None:
    title = "City of Lost Children, The (Cité des enfants perdus, La) (1995)"
    assert text.natural_title(title) == "The City of Lost Children (La Cité des enfants perdus)"
    assert "cite des enfants perdus" in text.title_keys(title)


def test_grams_and_pairs() -> None:
    assert text.grams("alien") == ["_al", "ali", "lie", "ien", "en_"]
    assert text.grams("x") == ["_x_"]
    assert text.joined_pairs(["spider", "man", "2"]) == ["spiderman", "man2"]


@pytest.mark.parametrize("hostile", [" " * 10_000, ", " * 5_000, "(" * 10_000, "(1999) " * 1_500, "a, the" * 2_000])
def test_long_hostile_titles_take_no_long_time(hostile: str) -> None:
    start = time.process_time()
    text.title_keys(hostile)
    assert time.process_time() - start < 0.5


@given(st.text(max_size=60))
@settings(max_examples=150, deadline=None)
def test_any_text_has_words_and_spans(value: str) -> None:
    for start, end in text.word_spans(value):
        assert value[start:end]
    for word in text.words(text.fold(value)):
        assert word
        assert text.words(word) == [word]
    text.title_keys(value)


@given(st.text(st.characters(max_codepoint=127), max_size=60))
@settings(max_examples=100, deadline=None)
def test_plain_texts_are_cut_as_all_others(value: str) -> None:
    # A far sign sends the same text the general way.
    assert text.words(text.fold(value)) == text.words(text.fold(value + " 🎬"))


def plain_osa(a: str, b: str) -> int:
    """The textbook table, cell by cell."""
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i in range(len(a) + 1):
        for j in range(len(b) + 1):
            if not i or not j:
                table[i][j] = i + j
                continue
            table[i][j] = min(table[i - 1][j] + 1, table[i][j - 1] + 1, table[i - 1][j - 1] + (a[i - 1] != b[j - 1]))
            if i > 1 and j > 1 and a[i - 1] == b[j - 2] and a[i - 2] == b[j - 1]:
                table[i][j] = min(table[i][j], table[i - 2][j - 2] + 1)
    return table[-1][-1]


@given(st.text("abcé", max_size=8), st.lists(st.text("abcé", max_size=8), min_size=1, max_size=12), st.integers(1, 3))
@settings(max_examples=200, deadline=None)
def test_edit_distances_equal_the_plain_table(word: str, others: list[str], limit: int) -> None:
    got = text.osa_distances(word, *text.encode_words(others, 12), limit)
    assert got.tolist() == [min(plain_osa(word, other), limit + 1) for other in others]


def test_no_words_no_distances() -> None:
    assert text.osa_distances("abc", *text.encode_words([]), 2).tolist() == []
    assert np.array_equal(text.osa_distances("", *text.encode_words(["a", ""]), 2), [1, 0])
