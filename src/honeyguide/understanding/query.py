"""What a query means, step by step: each can be switched off, and each says what it did.

normalise -> numbers (prices, years) -> language -> spelling -> facets -> synonyms -> forms -> intent and categories.
Spelling changes unknown words only and comes before synonyms; what is added to a word is weighed below it.
"""

from __future__ import annotations

import re
import time
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from honeyguide.contracts import Rewrites
from honeyguide.kernels import text
from honeyguide.kernels.text import natural_title
from honeyguide.schema.wire import Item
from honeyguide.understanding.attributes import Attribute, AttributesConfig, Facets, read_numbers
from honeyguide.understanding.classifier import TextClassifier
from honeyguide.understanding.forms import Forms, FormsConfig
from honeyguide.understanding.language import LanguageConfig, Languages
from honeyguide.understanding.lexicon import QUESTIONS, STOP
from honeyguide.understanding.spelling import Correction, SpellingConfig, Vocabulary, correct
from honeyguide.understanding.synonyms import Rules, SynonymsConfig

__all__ = [
    "CATEGORY",
    "INTENTS",
    "ITEM",
    "NAVIGATIONAL",
    "QUESTION",
    "IntentConfig",
    "Step",
    "Understander",
    "UnderstandingConfig",
    "Understood",
    "natural_title",
    "normalise",
]

NAVIGATIONAL, ITEM, CATEGORY, QUESTION = "navigational", "item", "category", "question"
INTENTS = (NAVIGATIONAL, ITEM, CATEGORY, QUESTION)
_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2064\ufeff\ud800-\udfff]")
_SURE = 0.7  # of the language, from which words of the others are not looked at


class IntentConfig(BaseModel):
    """What a query wants, and which categories it is about.

    labels: a table beside `honeyguide.toml` with the columns query, intent and category (either may be empty), from
    which both are learnt beside clicks. encoder: "multilingual" carries what was learnt to other languages, for about
    1 CPU-ms a query (extra `encoders`); "" learns from words alone.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    on: bool = True
    labels: str = "query_labels.csv"
    encoder: bool = False
    least: Annotated[float, Field(ge=0, le=1)] = 0.35  # probability from which a category is said
    most: Annotated[int, Field(ge=1, le=20)] = 3  # categories that are said
    question_words: Annotated[int, Field(ge=1)] = 4  # from which a query that begins like a question is one


class UnderstandingConfig(BaseModel):
    """`[search.understanding]`: every step with its switch."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    on: bool = True
    max_letters: Annotated[int, Field(ge=1, le=10_000)] = 300  # a longer query is searched for as it is
    language: LanguageConfig = LanguageConfig()
    spelling: SpellingConfig = SpellingConfig()
    attributes: AttributesConfig = AttributesConfig()
    synonyms: SynonymsConfig = SynonymsConfig()
    forms: FormsConfig = FormsConfig()
    intent: IntentConfig = IntentConfig()
    relax: bool = True  # where nothing matches: leave out what was read as a limit, and say which words no hit holds


@dataclass(frozen=True, slots=True)
class Step:
    """One step: what it did, in a sentence, and what it cost."""

    name: str
    says: str
    us: float


@dataclass(frozen=True, slots=True)
class Understood:
    """A query, read. `text` is what to search for, with `rewrites`; `original` what to go back to."""

    original: str
    text: str
    language: str | None = None
    language_probability: float = 0.0
    correction: Correction | None = None
    attributes: tuple[Attribute, ...] = ()
    synonyms: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    forms: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    rewrites: Rewrites = field(default_factory=dict)
    intent: str | None = None
    intent_probability: float = 0.0
    categories: tuple[tuple[str, float], ...] = ()
    steps: tuple[Step, ...] = ()

    @property
    def did_you_mean(self) -> tuple[str, ...]:
        """The query with the second best spelling of each word, where there is one."""
        if self.correction is None:
            return ()
        found = []
        for _, best in self.correction.replaced:
            for other, _ in self.correction.alternatives[best][1:2]:
                found.append(re.sub(rf"(?<!\w){re.escape(best)}(?!\w)", other, self.correction.corrected, count=1))
        return tuple(found)


def normalise(query: str) -> str:
    """The query in compatibility form (NFKC), without control and format characters, single spaces between words."""
    if query.isascii() and query.isprintable():
        return " ".join(query.split())
    plain = unicodedata.normalize("NFKC", _UNSEEN.sub(" ", query))
    return " ".join(_UNSEEN.sub(" ", plain).split())


class Understander:
    """All that a workspace knows for reading queries. Costs .05 to .5 CPU-ms a query without an encoder.

    Not thread-safe: one event loop, or one caller, owns it.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        config: UnderstandingConfig | None = None,
        *,
        languages: Languages | None = None,
        forms: Forms | None = None,
        facets: Facets | None = None,
        rules: Rules | None = None,
        titles: Iterable[str] = (),
        categories: TextClassifier | None = None,
        intents: TextClassifier | None = None,
        prices: bool = False,
        years: bool = False,
    ) -> None:
        """titles: of the catalog, as they are. prices, years: whether items have them."""
        self.config = config or UnderstandingConfig()
        self.vocabulary, self.languages, self.forms, self.facets = vocabulary, languages, forms, facets
        self.rules = rules or Rules()
        self.categories, self.intents = categories, intents
        self._prices, self._years = prices, years
        self._titles = {hash(key) for title in titles for key in text.title_keys(title)}

    def read(self, query: str, *, verbatim: bool = False) -> Understood:
        """Read any string; never raises on a query. verbatim: search for exactly what was typed."""
        config = self.config
        clock, steps = time.perf_counter, []
        started = clock()

        def done(name: str, says: str) -> None:
            nonlocal started
            now = clock()
            steps.append(Step(name, says, (now - started) * 1e6))
            started = now

        plain = normalise(query)
        done("normalise", "nothing to do" if plain == query else f"read as “{plain}”")
        if not config.on or verbatim or not plain or len(plain) > config.max_letters:
            return Understood(query, plain, steps=tuple(steps))
        attributes: list[Attribute] = []
        if config.attributes.numbers != "off":
            plain = self._numbers(plain, attributes, done)
        language, probability = None, 0.0
        if config.language.on and self.languages is not None:
            told = self.languages.identify(plain)
            language, probability = told.language, told.probability
            among = ", ".join(self.languages.names)
            done("language", f"{language or 'none'} ({probability:.2f}) among {among}")
        correction: Correction | None = None
        if config.spelling.on:
            correction = correct(plain, self.vocabulary, share=self._share)
            plain = plain if correction is None else correction.corrected
            done("spelling", _said_of(correction))
        tokens = text.words(text.fold(natural_title(plain)))
        found = [] if self.facets is None else self.facets.read(tokens, language)
        attributes += found
        if config.attributes.facets != "off":
            done("facets", ", ".join(f"{one.words}: {one.name} {one.value}" for one in found) or "none")
        rewrites: dict[str, dict[str, float]] = {}
        if correction is not None:
            for best, others in correction.alternatives.items():
                _add(rewrites, best, others)
        synonyms = self._synonyms(tokens, rewrites, done)
        forms = self._forms(tokens, language, probability, rewrites, done)
        self._quantities(attributes, tokens, rewrites)
        intent, chance, categories = self._intent(query, plain, tokens, attributes, done)
        weighed = {word: tuple(others.items()) for word, others in rewrites.items()}
        return Understood(
            query, plain, language, probability, correction, tuple(attributes), synonyms, forms, weighed,
            intent, chance, categories, tuple(steps),
        )  # fmt: skip

    def upsert(self, item: Item) -> None:
        """Learn the words and the facets of a new or changed item."""
        before = len(self.vocabulary)
        words = text.words(text.fold(" ".join([item.title or "", *item.people, *item.categories])))
        fresh = [word for word in dict.fromkeys(words) if word not in self.vocabulary]
        self.vocabulary.upsert(item)
        if self.forms is not None and len(self.vocabulary) > before:
            self.forms.add(fresh)
        if not item.available:
            return
        self._titles.update(hash(key) for key in text.title_keys(item.title or ""))
        if self.facets is not None:
            for facet, names in (("categories", item.categories), ("people", item.people)):
                for name in names:
                    self.facets.add(facet, name)
            for key, value in item.attributes.items():
                if isinstance(value, str):
                    self.facets.add(key, value)

    # --------------------------------------------------------------------------------------------------- steps

    def _numbers(self, plain: str, attributes: list[Attribute], done: Callable[[str, str], None]) -> str:
        if not any(sign.isdigit() for sign in plain):
            done("numbers", "none")
            return plain
        numbers = read_numbers(text.fold(plain), self.config.attributes, prices=self._prices, years=self._years)
        attributes += numbers.found
        done("numbers", ", ".join(f"{one.words}: {one.name} {one.value}" for one in numbers.found) or "none")
        # Where a limit is all there is, its words are what is left to search for.
        return numbers.rest if numbers.rest and any(one.applied for one in numbers.found) else plain

    def _share(self, word: str) -> float:
        """How frequent a word that the catalog does not hold is in the catalog's languages."""
        if word in self.rules.words:
            return 1.0
        share = 0.0 if self.languages is None else self.languages.frequency(word)
        # A word of the language, of which the catalog has another form, needs no correction: that form is found.
        return 1.0 if share > 0 and self.forms is not None and self.forms.knows(word) else share

    def _synonyms(
        self, tokens: Sequence[str], rewrites: dict[str, dict[str, float]], done: Callable[[str, str], None]
    ) -> dict[str, tuple[str, ...]]:
        config = self.config.synonyms
        if not config.on or not len(self.rules):
            return {}
        applied: dict[str, tuple[str, ...]] = {}
        for first, end, rights in self.rules.found(tokens):
            applied[" ".join(tokens[first:end])] = rights
            for word in tokens[first:end]:
                for right in rights:
                    # The index knows one word, and two that stand side by side as one.
                    parts = right.split()
                    pairs = parts if len(parts) == 1 else text.joined_pairs(parts)
                    _add(rewrites, word, [(one, config.weight) for one in pairs])
        done("synonyms", "; ".join(f"{left}: {', '.join(rights)}" for left, rights in applied.items()) or "none")
        return applied

    def _forms(
        self,
        tokens: Sequence[str],
        language: str | None,
        probability: float,
        rewrites: dict[str, dict[str, float]],
        done: Callable[[str, str], None],
    ) -> dict[str, tuple[str, ...]]:
        if self.forms is None or not self.forms:
            return {}
        names = self.languages.names if self.languages is not None else ()
        asked = (language,) if language is not None and probability >= _SURE else names
        applied: dict[str, dict[str, None]] = {}
        for word in tokens:
            if word in STOP:
                continue
            for name in asked:
                others = self.forms.stems(word, name) + self.forms.compounds(word, name)
                if others:
                    _add(rewrites, word, others)
                    applied.setdefault(word, {}).update((other, None) for other, _ in others)
        done("forms", "; ".join(f"{word}: {', '.join(others)}" for word, others in applied.items()) or "none")
        return {word: tuple(others) for word, others in applied.items()}

    def _quantities(
        self, attributes: Sequence[Attribute], tokens: Sequence[str], rewrites: dict[str, dict[str, float]]
    ) -> None:
        """Where the catalog gives the same quantity in another unit, its words stand for the query's."""
        if self.facets is None:
            return
        for attribute in attributes:
            if attribute.kind == "quantity":
                typed = [word for word in text.words(text.fold(attribute.words)) if word in tokens]
                for _, value in self.facets.quantity(attribute):
                    words = text.words(text.fold(value))
                    pairs = words if len(words) == 1 else text.joined_pairs(words)
                    for word in typed:
                        _add(rewrites, word, [(one, 1.0) for one in pairs if one not in typed])

    def _intent(
        self, query: str, plain: str, tokens: Sequence[str], attributes: Sequence[Attribute],
        done: Callable[[str, str], None],
    ) -> tuple[str | None, float, tuple[tuple[str, float], ...]]:  # fmt: skip
        config = self.config.intent
        if not config.on or not tokens:
            return None, 0.0, ()
        categories: list[tuple[str, float]] = []
        named = [one.value for one in attributes if one.name == "categories"]
        if named:
            categories = [(name, 1.0) for name in dict.fromkeys(named)]
        elif self.categories is not None:
            chances = self.categories.probabilities(plain)
            best = chances.argsort()[::-1][: config.most]
            categories = [
                (self.categories.classes[at], round(float(chances[at]), 4))
                for at in best
                if chances[at] >= config.least
            ]
        intent, chance = self._wanted(query, plain, tokens, attributes)
        said = ", ".join(f"{name} ({share:.2f})" for name, share in categories)
        done("intent", f"{intent} ({chance:.2f})" + (f"; about {said}" if said else ""))
        return intent, chance, tuple(categories)

    def _wanted(
        self, query: str, plain: str, tokens: Sequence[str], attributes: Sequence[Attribute]
    ) -> tuple[str, float]:
        if hash(text.title_key(tokens)) in self._titles:
            return NAVIGATIONAL, 1.0
        if self.intents is not None:
            chances = self.intents.probabilities(plain)
            best = int(chances.argmax())
            return self.intents.classes[best], round(float(chances[best]), 4)
        asks = tokens[0] in QUESTIONS and len(tokens) >= self.config.intent.question_words
        if query.rstrip().endswith(("?", "？", "؟")) or asks:
            return QUESTION, 1.0
        facts = {word for one in attributes for word in text.words(text.fold(one.words))}
        if facts and all(word in facts or word in STOP for word in tokens):
            return CATEGORY, 1.0
        return ITEM, 1.0


def _add(rewrites: dict[str, dict[str, float]], word: str, others: Iterable[tuple[str, float]]) -> None:
    known = rewrites.setdefault(word, {})
    for other, weight in others:
        if other != word or other not in known:
            known[other] = max(known.get(other, 0.0), weight)
    if word in known and len(known) == 1:
        del rewrites[word]


def _said_of(correction: Correction | None) -> str:
    if correction is None:
        return "nothing to change"
    parts = []
    for typed, best in correction.replaced:
        shares = ", ".join(f"{word} {share:.2f}" for word, share in correction.alternatives[best])
        parts.append(f"{typed} -> {shares}")
    return "; ".join(parts)
