"""How a query is read: every step against hand cases, laws that hold for any string, and bad input."""

from __future__ import annotations

import string

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from honeyguide.contracts import CatalogView, Ragged
from honeyguide.kernels import text
from honeyguide.kernels.spelling import near_words
from honeyguide.schema.vocabulary import Vocabulary as Ids
from honeyguide.schema.wire import Item
from honeyguide.understanding.attributes import Attribute, AttributesConfig, Facets, read_numbers
from honeyguide.understanding.compounds import Splitter
from honeyguide.understanding.forms import Forms, FormsConfig
from honeyguide.understanding.query import (
    CATEGORY,
    ITEM,
    NAVIGATIONAL,
    QUESTION,
    Understander,
    UnderstandingConfig,
    normalise,
)
from honeyguide.understanding.spelling import SpellingConfig, Vocabulary, correct
from honeyguide.understanding.synonyms import parse


def catalog() -> CatalogView:
    """Five things to wear, one of them gone."""
    return CatalogView(
        items=Ids(["a", "b", "c", "d", "e"]),
        title=["Air Zoom Running Shoes", "Classic Rain Jacket", "Trail Running Socks", "Harry Potter Scarf", "Gone"],
        description=["light shoes for long runs", "keeps you dry", "warm", "house colours", ""],
        category=Ragged.of([[0], [1], [2], [1], [0]]),
        category_names=["Shoes", "Jackets", "Clothing > Socks"],
        people=Ragged.of([[0], [], [0], [], []]),
        people_names=["Nike"],
        country=np.array([0, -1, -1, -1, -1], np.int32),
        country_names=["Vietnam"],
        year=np.array([2020, 2021, 2022, 2023, 2024], np.float32),
        price=np.array([89, 120, 12, 25, 1], np.float32),
        available=np.array([True, True, True, True, False]),
        known_at=np.zeros(5, np.int64),
    )


@pytest.fixture(scope="module")
def reader() -> Understander:
    view = catalog()
    vocabulary = Vocabulary.build(view)
    forms = Forms(["en"], lambda word, name: 0.0, vocabulary.weight)
    forms.add(vocabulary.words)
    rules, refused = parse(["trainers => running shoes", "anorak, rain jacket"])
    assert not refused
    return Understander(
        vocabulary, forms=forms, facets=Facets.build(view, ["en"]), rules=rules, titles=view.title[:4],
        prices=True, years=True,
    )  # fmt: skip


# --------------------------------------------------------------------------------------------------- normalise


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("  red\tshoes\n", "red shoes"),
        ("ｒｅｄ ﬁt", "red fit"),
        ("re\u200bd", "re d"),
        ("\u202eshoes\x00", "shoes"),
        ("Straße", "Straße"),
        ("\ud800shoes", "shoes"),
        ("", ""),
    ],
)
def test_normal_form(typed: str, read: str) -> None:
    assert normalise(typed) == read


@given(st.text(max_size=200))
@settings(max_examples=200, deadline=None)
def test_a_normal_form_is_normal(typed: str) -> None:
    once = normalise(typed)
    assert normalise(once) == once
    assert once == once.strip()
    assert not any(ord(sign) < 32 for sign in once)


# ----------------------------------------------------------------------------------------------------- numbers

EURO = AttributesConfig(currency="EUR", rates={"USD": 0.9})


@pytest.mark.parametrize(
    ("typed", "rest", "name", "low", "high", "applied"),
    [
        ("red nike shoes under 50 €", "red nike shoes", "price", None, 50.0, True),
        ("rote schuhe bis 49,90 euro", "rote schuhe", "price", None, 49.9, True),
        ("chaussures moins de 1 299 €", "chaussures", "price", None, 1299.0, True),
        ("zapatos menos de 30 euros", "zapatos", "price", None, 30.0, True),
        ("scarpe fino a 80 €", "scarpe", "price", None, 80.0, True),
        ("schoenen onder 60 euro", "schoenen", "price", None, 60.0, True),
        ("tv ab 1.299,00 €", "tv", "price", 1299.0, None, True),
        ("tv over $1,000.50", "tv", "price", 900.45, None, True),
        ("between 50 and 20 eur shoes", "shoes", "price", 20.0, 50.0, True),
        ("20-50€ hose", "hose", "price", 20.0, 50.0, True),
        ("shoes under 50", "shoes", "price", None, 50.0, True),
        ("tv under 100 gbp", "tv under 100 gbp", "price", None, 100.0, False),
        ("shoes 50 euro", "shoes 50 euro", "price", 50.0, 50.0, False),
        ("comedy after 1990", "comedy", "year", 1991.0, None, True),
        ("filme vor 2000", "filme", "year", None, 1999.0, True),
        ("1990s horror", "1990s horror", "year", 1990.0, 1999.0, False),
        ("tv 55 zoll", "tv 55 zoll", "cm", 139.7, 139.7, False),
        ("milk 1,5 l", "milk 1,5 l", "ml", 1500.0, 1500.0, False),
    ],
)
def test_numbers(typed: str, rest: str, name: str, low: float | None, high: float | None, applied: bool) -> None:
    found = read_numbers(text.fold(typed), EURO, prices=True, years=True)
    one = next(one for one in found.found if one.name == name)
    assert (one.low, one.high) == (pytest.approx(low), pytest.approx(high))
    assert one.applied == applied
    assert found.rest == rest


@pytest.mark.parametrize(
    "typed",
    ["2001 a space odyssey", "10 things i hate about you", "300", "from dusk till dawn", "less than zero", "se7en",
     "catch 22", "under the skin", "blade runner 2049", "over 2000"],
)  # fmt: skip
def test_titles_with_numbers_stay_whole(typed: str) -> None:
    found = read_numbers(typed, EURO, prices=True, years=True)
    assert found.rest == typed
    assert not any(one.applied for one in found.found)


def test_a_bare_limit_is_not_the_whole_query(reader: Understander) -> None:
    assert reader.read("under 18").text == "under 18"
    assert reader.read("under 18").attributes[0].applied is False
    assert reader.read("under 18 €").text == "under 18 €"
    assert reader.read("under 18 €").attributes[0].applied


def test_numbers_can_be_switched_off() -> None:
    off = AttributesConfig(numbers="off")
    assert read_numbers("shoes under 50 €", off, prices=True, years=True).found == ()
    told = read_numbers("shoes under 50 €", AttributesConfig(numbers="tell"), prices=True, years=True)
    assert (told.rest, told.found[0].applied) == ("shoes under 50 €", False)


@given(st.text(alphabet=string.digits + "€$., -<>=abund efrom", max_size=60))
@settings(max_examples=300, deadline=None)
def test_any_numbers_can_be_read(typed: str) -> None:
    for one in read_numbers(typed, EURO, prices=True, years=True).found:
        if one.low is not None and one.high is not None:
            assert one.low <= one.high


# ------------------------------------------------------------------------------------------------------ facets


def test_facets_are_found_by_their_names_forms_and_colours() -> None:
    facets = Facets.build(catalog(), ["en", "de"])
    facets.add("colour", "Red")
    facets.add("size", "500 g")

    def read(query: str, language: str | None = "en") -> dict[str, str]:
        return {one.name: one.value for one in facets.read(text.words(text.fold(query)), language)}

    assert read("red nike shoe") == {"colour": "Red", "people": "Nike", "categories": "Shoes"}
    assert read("rote schuhe", "de") == {"colour": "Red"}
    assert read("socks") == {"categories": "Clothing > Socks"}
    assert read("from vietnam") == {"countries": "Vietnam"}
    assert read("harry potter") == {}
    half_kilo = Attribute("quantity", "g", "0.5 kg", "0.5 kg", 500.0, 500.0)
    assert facets.quantity(half_kilo) == [("size", "500 g")]


# ---------------------------------------------------------------------------------------------------- spelling


def test_neighbours_tell_which_word_was_meant() -> None:
    words = {"star": 50.0, "wars": 30.0, "ward": 60.0, "world": 40.0}
    told = Vocabulary(words, pairs={("star", "wars"): 25.0, ("world", "ward"): 5.0})
    assert told.candidates("warx", "star")[0][0] == "wars"
    assert told.candidates("warx", "world")[0][0] == "ward"
    found = correct("star warx", told)
    assert found is not None
    assert found.corrected == "star wars"
    assert found.replaced == (("warx", "wars"),)
    assert sum(share for _, share in found.alternatives["wars"]) == pytest.approx(1.0, abs=0.06)


def test_a_word_of_the_language_stays_as_typed() -> None:
    words = Vocabulary({"netflies": 1.0, "shark": 20.0, "movies": 500.0})
    assert correct("netflix", words, share=lambda word: 0.0) is not None
    assert correct("netflix", words, share=lambda word: 1e-2) is None


def test_misspellings_of_the_log_teach_nothing() -> None:
    view = catalog()
    log = [("runing shoes", 500.0), ("nike zoom", 3.0)]
    told = Vocabulary.build(view, queries=log, is_known=lambda word: False)
    assert "runing" not in told
    assert told.weight("zoom") > Vocabulary.build(view).weight("zoom")
    assert "runing" in Vocabulary.build(view, queries=log)


def test_only_unknown_words_change_and_the_original_stays(reader: Understander) -> None:
    read = reader.read("runing shoes")
    assert (read.original, read.text) == ("runing shoes", "running shoes")
    known = reader.read("running shoes")
    assert known.correction is None
    assert reader.read("runing shoes", verbatim=True).text == "runing shoes"


# -------------------------------------------------------------------------------------------- forms, compounds

SHARES = {
    "lauf": 1e-4, "schuhe": 1e-4, "schuh": 1e-4, "damen": 1e-4, "arbeit": 3e-4, "zimmer": 1e-4, "hand": 4e-4,
    "tasche": 1e-4, "regen": 1e-4, "jas": 5e-5, "schule": 1e-4, "buch": 3e-4, "freund": 1e-4, "schaft": 1e-4,
}  # fmt: skip


@pytest.mark.parametrize(
    ("word", "parts"),
    [
        ("laufschuhe", ("lauf", "schuhe")),
        ("damenlaufschuhe", ("damen", "lauf", "schuhe")),
        ("arbeitszimmer", ("arbeit", "zimmer")),
        ("schulbuch", ("schule", "buch")),
        ("handtasche", ("hand", "tasche")),
        ("freundschaft", ()),
        ("schuhe", ()),
        ("xqzwvkplm", ()),
        ("", ()),
        ("a" * 500, ()),
    ],
)
def test_german_compounds(word: str, parts: tuple[str, ...]) -> None:
    assert Splitter("de", lambda part: SHARES.get(part, 0.0)).split(word) == parts


def test_a_dutch_compound_with_a_short_part() -> None:
    assert Splitter("nl", lambda part: SHARES.get(part, 0.0)).split("regenjas") == ("regen", "jas")


@given(st.text(alphabet="laufschuhedamen", max_size=30))
@settings(max_examples=200, deadline=None)
def test_parts_are_words_that_cover_the_compound(word: str) -> None:
    parts = Splitter("de", lambda part: SHARES.get(part, 0.0)).split(word)
    assert len(parts) != 1
    assert all(part in SHARES for part in parts)
    assert sum(len(part) for part in parts) <= len(word) + len(parts)


def test_index_and_query_meet_at_stems_and_parts() -> None:
    words = {"laufschuhe": 5.0, "schuh": 3.0, "wanderung": 1.0, "schuhen": 1.0}
    forms = Forms(["de"], lambda word, name: SHARES.get(word, 0.0), words.__getitem__)
    forms.add(words)
    assert dict(forms.stems("schuhe", "de")) == {"schuh": 0.2, "schuhen": 0.2}
    assert dict(forms.compounds("schuhe", "de")) == {"laufschuhe": 0.4}
    assert {"lauf", "schuhe"} <= dict(forms.compounds("laufschuhe", "de")).keys()
    assert forms.compounds("schuhe", "en") == []
    off = Forms(["de"], lambda word, name: 1.0, words.__getitem__, FormsConfig(stems=False, compounds=False))
    assert not off


# -------------------------------------------------------------------------------------------- intents, switches


@pytest.mark.parametrize(
    ("typed", "intent"),
    [
        ("classic rain jacket", NAVIGATIONAL),
        ("the classic rain jacket", NAVIGATIONAL),
        ("nike shoes", CATEGORY),
        ("jackets under 50 €", CATEGORY),
        ("which shoes are good for trails", QUESTION),
        ("is it waterproof?", QUESTION),
        ("zoom trail", ITEM),
    ],
)
def test_intents(reader: Understander, typed: str, intent: str) -> None:
    assert reader.read(typed).intent == intent


def test_synonyms_reach_the_index_as_words_and_joined_pairs(reader: Understander) -> None:
    read = reader.read("trainers")
    assert read.synonyms == {"trainers": ("running shoes",)}
    assert dict(read.rewrites["trainers"]) == {"runningshoes": 0.8}


def test_every_step_has_a_switch(reader: Understander) -> None:
    off = UnderstandingConfig.model_validate(
        {
            "language": {"on": False},
            "spelling": {"on": False},
            "attributes": {"numbers": "off", "facets": "off"},
            "synonyms": {"on": False},
            "forms": {"stems": False, "compounds": False},
            "intent": {"on": False},
        }
    )
    bare = Understander(reader.vocabulary, off, rules=reader.rules, prices=True)
    read = bare.read("runing trainers under 50 €")
    assert [step.name for step in read.steps] == ["normalise"]
    assert (read.text, read.rewrites, read.attributes, read.intent) == ("runing trainers under 50 €", {}, (), None)


def test_a_new_item_is_understood_at_once(reader: Understander) -> None:
    reader.upsert(Item("z", title="Snowboard Bindings", categories=["Wintersport"], attributes={"brand": "Burton"}))
    read = reader.read("burton snowbord")
    assert read.text == "burton snowboard"
    assert [one.value for one in read.attributes] == ["Burton"]
    assert reader.read("snowboard bindings").intent == NAVIGATIONAL


@given(st.one_of(st.text(max_size=80), st.text(alphabet="shoe runig 50€<>\"';-()", max_size=40)))
@settings(max_examples=300, deadline=None)
def test_any_string_is_read(reader: Understander, typed: str) -> None:
    read = reader.read(typed)
    assert read.original == typed
    assert all(0 < weight <= 1 for ways in read.rewrites.values() for _, weight in ways)
    assert reader.read(typed).text == read.text


@pytest.mark.parametrize(
    "typed",
    ["", " ", "a" * 10_000, "x " * 5_000, '"; DROP TABLE items; --', "<script>alert(1)</script>", "\x00\x1f", "🎬🍿",
     "שלום עולם", "مرحبا", "AND OR NOT ()", "\ud800", "-" * 500, "€" * 300, "9" * 300],
)  # fmt: skip
def test_bad_input_is_read_without_an_error(reader: Understander, typed: str) -> None:
    read = reader.read(typed)
    assert len(read.text) <= max(len(typed), 1)


def test_a_config_is_closed() -> None:
    with pytest.raises(ValueError, match="Extra inputs"):
        UnderstandingConfig.model_validate({"speling": {}})
    with pytest.raises(ValueError):
        SpellingConfig(trust=-1)


@given(st.lists(st.text("abcé", max_size=9), min_size=1, max_size=30), st.text("abcé", min_size=1, max_size=9))
@settings(max_examples=300, deadline=None)
def test_near_words_equal_the_plain_distances(words: list[str], word: str) -> None:
    codes, lengths = text.encode_words(words, 24)
    masks = np.array([sum({1 << (ord(sign) & 63) for sign in one}) for one in words], np.uint64)
    mask = np.uint64(sum({1 << (ord(sign) & 63) for sign in word}))
    letters = np.frombuffer(word.encode("utf-32-le"), np.uint32)
    for limit in (1, 2):
        plain = text.osa_distances(word, codes, lengths, limit)
        rows, distances = near_words(letters, mask, codes, lengths, masks, limit)
        assert rows.tolist() == np.flatnonzero(plain <= limit).tolist()
        assert distances.tolist() == plain[plain <= limit].tolist()
