"""What labels, clicks and word lists teach: classifiers, languages, synonyms, the log of queries."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from honeyguide.contracts import F32
from honeyguide.errors import BuildError, ConfigError, DataError, RequestError
from honeyguide.understanding.classifier import ClassifierConfig, TextClassifier
from honeyguide.understanding.language import Languages, languages_of
from honeyguide.understanding.synonyms import (
    Proposal,
    SynonymsConfig,
    from_vectors,
    mine,
    parse,
    read_proposals,
    write_proposals,
)

KITCHEN = ["coffee machine", "espresso maker", "coffee grinder", "milk frother", "tea kettle", "coffee filter"]
SHOES = ["running shoes", "trail shoes", "leather boots", "hiking boots", "shoe laces", "running socks"]


class Meaning:
    """An encoder in which a word and its translation have one vector."""

    name, version, dimension = "meaning", "1", 4
    _of = {"coffee": 0, "kaffee": 0, "machine": 0, "maschine": 0, "shoes": 1, "schuhe": 1, "boots": 1, "stiefel": 1}

    def encode(self, texts: Sequence[str]) -> F32:
        out = np.full((len(texts), 4), 1e-3, np.float32)
        for row, value in enumerate(texts):
            for word in value.split():
                out[row, self._of.get(word, 2)] += 1
        return np.asarray(out / np.linalg.norm(out, axis=1, keepdims=True), np.float32)

    encode_queries = encode


# ------------------------------------------------------------------------------------------------- classifiers


def test_a_classifier_learns_words_and_letters(tmp_path: Path) -> None:
    texts, labels = KITCHEN + SHOES, ["kitchen"] * 6 + ["shoes"] * 6
    learnt = TextClassifier.fit(texts, labels)
    assert learnt.predict(["coffee machines", "hiking shoe", "espressos"]) == ["kitchen", "shoes", "kitchen"]
    assert learnt.probabilities("boots").sum() == pytest.approx(1.0)
    assert learnt.probabilities("").argmax() in (0, 1)
    learnt.save(tmp_path)
    again = TextClassifier.load(tmp_path)
    assert np.array_equal(again.probabilities("trail"), learnt.probabilities("trail"))
    with pytest.raises(BuildError, match="encoder None of the classifier"):
        TextClassifier.load(tmp_path, Meaning())
    (tmp_path / "weights.npz").write_bytes(b"broken")
    with pytest.raises(BuildError, match="honeyguide build"):
        TextClassifier.load(tmp_path)


def test_its_probabilities_equal_those_of_another_library() -> None:
    linear = pytest.importorskip("sklearn.linear_model")
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(["red", "blue", "green", "shoe", "tea"], 3)) for _ in range(60)]
    labels = ["a" if "red" in one else "b" if "tea" in one else "c" for one in texts]

    class Counts:
        name, version, dimension = "counts", "1", 5

        def encode(self, texts: Sequence[str]) -> F32:
            words = ["red", "blue", "green", "shoe", "tea"]
            return np.array([[one.split().count(word) for word in words] for one in texts], np.float32)

        encode_queries = encode

    config = ClassifierConfig(words_weight=0.0, encoder_weight=1.0, l2=0.01, max_iterations=2_000)
    learnt = TextClassifier.fit(texts, labels, config=config, encoder=Counts())
    peer = linear.LogisticRegression(C=1 / (0.01 * len(texts)), tol=1e-8, max_iter=5_000)
    peer.fit(Counts().encode(texts), labels)
    ours = np.stack([learnt.probabilities(one) for one in texts[:10]])
    assert np.allclose(ours, peer.predict_proba(Counts().encode(texts[:10])), atol=2e-3)


def test_an_encoder_carries_labels_to_another_language() -> None:
    config = ClassifierConfig(words_weight=0.5)
    english = ["coffee machine", "coffee", "machine", "shoes", "boots", "boots shoes"]
    learnt = TextClassifier.fit(english, ["k", "k", "k", "s", "s", "s"], config=config, encoder=Meaning())
    assert learnt.predict(["kaffee maschine", "stiefel", "schuhe"]) == ["k", "s", "s"]


def test_one_class_teaches_nothing() -> None:
    with pytest.raises(RequestError, match="two classes"):
        TextClassifier.fit(["a", "b"], ["x", "x"])


# --------------------------------------------------------------------------------------------------- languages


@pytest.fixture(scope="module")
def languages() -> Languages:
    return Languages.build(["en", "de", "fr"])


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("query", "language"),
    [("red shoes", "en"), ("rote schuhe", "de"), ("chaussures rouges", "fr"), ("waschmaschine", "de"),
     ("la cafetière", "fr"), ("kinderbucher", "de"), ("the lord of the rings", "en"), ("manteau d'hiver", "fr")],
)  # fmt: skip
def test_short_queries_are_told_apart(languages: Languages, query: str, language: str) -> None:
    assert languages.identify(query).language == language


@pytest.mark.heavy
def test_what_has_no_letters_has_no_language(languages: Languages, tmp_path: Path) -> None:
    for query in ("", "   ", "123", "€50", "🎬"):
        assert languages.identify(query).language is None
    assert languages.frequency("schuhe") > 1e-6
    assert languages.frequency("schuhe", "fr") < languages.frequency("schuhe", "de")
    assert languages.frequency("xqzwvk") == 0.0
    languages.save(tmp_path)
    again = Languages.load(tmp_path)
    assert again.identify("rote schuhe") == languages.identify("rote schuhe")
    (tmp_path / "keys.npy").unlink()
    with pytest.raises(BuildError, match="honeyguide build"):
        Languages.load(tmp_path)


@pytest.mark.heavy
@given(query=st.text(max_size=80))
@settings(max_examples=100, deadline=None)
def test_any_text_can_be_identified(languages: Languages, query: str) -> None:
    told = languages.identify(query)
    assert told.language in ("en", "de", "fr", None)
    assert 0.0 <= told.probability <= 1.0


def test_the_languages_of_a_catalog() -> None:
    assert languages_of(["de-AT", "de", "en", None, "de"], []) == ("de", "en")
    assert languages_of(["de"] * 99 + ["xx"], []) == ("de",)
    assert languages_of([None] * 4, ["the shoes of the woman"] * 3 + ["die schuhe der frau"]) == ("en", "de")
    assert languages_of([], []) == ()
    assert Languages.build([]).identify("anything").language is None
    with pytest.raises(ConfigError, match="languages among"):
        Languages.build(["tlh"])


# ---------------------------------------------------------------------------------------------------- synonyms


def test_rules_and_what_is_none() -> None:
    rules, refused = parse(
        ["sofa, Couch , settee", "tv, telly => television # remark", "", "# nothing", "alone", "a, ", "x => ",
         "a => b => c", "one two three four five, six"]
    )  # fmt: skip
    assert rules.of("sofa") == ("couch", "settee")
    assert rules.of("couch") == ("sofa", "settee")
    assert rules.of("telly") == ("television",)
    assert rules.of("television") == ()
    assert [one.line for one in refused] == [5, 6, 7, 8, 9]
    assert rules.found(["old", "tv", "couch"]) == [(1, 2, ("television",)), (2, 3, ("sofa", "settee"))]


@given(st.lists(st.text(max_size=40), max_size=10))
@settings(max_examples=200, deadline=None)
def test_any_file_of_synonyms_can_be_read(lines: list[str]) -> None:
    rules, refused = parse(lines)
    assert all(1 <= one.line <= len(lines) for one in refused)
    assert all(name not in others for name, others in rules.items())


def planted() -> list[tuple[str, str, float]]:
    """Sofa and couch lead to the same ten items, shoes to others; sofas differs by an ending; all are well searched."""
    log = [(word, f"i{item}", 5.0) for word in ("sofa", "couch", "sofas") for item in range(10)]
    log += [("shoes", f"s{item}", 5.0) for item in range(10)]
    log += [("rare", "i1", 1.0), ("leather sofa", "i2", 30.0), ("leather", "i2", 1.0)]
    return log


def test_words_that_lead_to_the_same_items_are_proposed() -> None:
    found = mine(planted())
    pairs = {frozenset((one.word, one.synonym)) for one in found}
    assert frozenset(("couch", "sofa")) in pairs
    for first, second in (("sofa", "sofas"), ("leather", "sofa"), ("shoes", "sofa"), ("rare", "sofa")):
        assert frozenset((first, second)) not in pairs
    best = found[0]
    assert {best.word, best.synonym} & {"couch"}
    assert best.score > 0.5
    assert "items in common" in best.evidence
    known, _ = parse(["sofa, couch"])
    assert not any({one.word, one.synonym} == {"sofa", "couch"} for one in mine(planted(), known=known))
    assert mine(planted(), SynonymsConfig(least_people=10_000)) == []


def test_vectors_propose_too() -> None:
    found = from_vectors(["boots", "stiefel", "kaffee", "coffee", "other"], Meaning())
    assert {(one.word, one.synonym) for one in found} == {("boots", "stiefel")}  # kaffee and coffee are a spelling


def test_proposals_keep_what_somebody_marked(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    proposals = [
        Proposal("sofa", "couch", 0.8, "log", '3 items, "quoted"'),
        Proposal("tv", "telly", 0.5, "log", "", True),
    ]
    write_proposals(path, proposals)
    assert read_proposals(path) == proposals
    path.write_text(path.read_text().replace("\n,sofa", "\n Ja ,sofa"))
    assert [one.accept for one in read_proposals(path)] == [True, True]
    path.write_text(path.read_text() + "yes,a,b,not a number,log,\n")
    with pytest.raises(DataError, match="line 4"):
        read_proposals(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError):
        read_proposals(path)
