"""What a query says of the facets of the catalog: "red nike shoes under 50 €" -> colour, brand, category, price.

Numbers with a limit, a currency or a year become filters and leave the words; names of facet values are told, and stay
among the words, unless the configuration makes filters of them too.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from honeyguide.contracts import CatalogView
from honeyguide.kernels import text
from honeyguide.schema import columns as c
from honeyguide.understanding.lexicon import AND, BETWEEN, COLOURS, CURRENCIES, LOWER, UNITS, UPPER, YEARS
from honeyguide.understanding.stems import LANGUAGES, stems

__all__ = ["Attribute", "AttributesConfig", "Facets", "Numbers", "read_numbers"]

Kind = Literal["facet", "colour", "price", "year", "quantity"]


class AttributesConfig(BaseModel):
    """What of a query is read as a fact about items.

    numbers: what becomes of prices and years with a limit; facets: of names of categories, people, countries: "filter"
    leaves only such items, "tell" only says what was understood, "off" does not look. currency: of the catalog's
    prices, as "EUR"; "" takes any for it. rates: what one unit of another currency is in that one; a price in a
    currency without a rate is told and not applied.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    numbers: Literal["filter", "tell", "off"] = "filter"
    facets: Literal["filter", "tell", "off"] = "tell"
    currency: Annotated[str, Field(pattern=r"^([A-Z]{3})?$")] = ""
    rates: Mapping[str, Annotated[float, Field(gt=0)]] = {}
    most_values: Annotated[int, Field(ge=1)] = 5_000  # a fact with more different values is no facet
    most_words: Annotated[int, Field(ge=1, le=8)] = 4  # words of a value's name


@dataclass(frozen=True, slots=True)
class Attribute:
    """One thing that a query says. low, high: of a number, inclusive, None open. words: how it was typed."""

    kind: Kind
    name: str  # categories, people, countries, price, year, or a key of the items' attributes
    value: str  # as the catalog writes it; of a span, as a person reads it
    words: str
    low: float | None = None
    high: float | None = None
    applied: bool = False  # whether it filters
    note: str = ""


# ------------------------------------------------------------------------------------------------------ numbers

_NUMBER = r"\d{1,3}(?:[.,'\u202f ]\d{3})+(?:[.,]\d{1,2})?|\d{1,9}(?:[.,]\d{1,2})?"
_MONEY = "|".join(re.escape(one) for one in sorted(CURRENCIES, key=lambda one: (-len(one), one)))
_UNIT = "|".join(re.escape(one) for one in sorted(UNITS, key=lambda one: (-len(one), one)))


def _either(words: Iterable[str]) -> str:
    return "|".join(re.escape(one).replace(r"\ ", r"\s+") for one in sorted(words, key=lambda one: (-len(one), one)))


def _amount_at(which: int) -> str:
    """An amount with a currency before or after it, or none."""
    return (
        rf"(?:(?P<before{which}>{_MONEY})\s*)?(?P<number{which}>{_NUMBER})(?:,-)?"
        rf"(?:\s*(?P<after{which}>{_MONEY})(?![a-z]))?"
    )


_SPAN = re.compile(
    rf"(?<!\S)(?:(?:{_either(BETWEEN)})\s+)?{_amount_at(1)}\s*(?:{_either(AND)})\s*{_amount_at(2)}(?![\w.,]*\w)"
)
_LIMIT = re.compile(
    rf"(?<!\S)(?:(?P<upper>{_either(UPPER)})|(?P<lower>{_either(LOWER)}))\s*{_amount_at(1)}(?![\w]|[.,]\d)"
)
_PRICE = re.compile(rf"(?<!\S){_amount_at(1)}(?![\w]|[.,]\d)")
_QUANTITY = re.compile(rf"(?<![\w.,])(?P<number>\d{{1,6}}(?:[.,]\d{{1,3}})?)\s?(?P<unit>{_UNIT})(?![\w])")
_YEAR_LIMIT = re.compile(rf"(?<!\S)(?P<word>{_either(YEARS)})\s+(?P<year>(?:18|19|20)\d\d)(?!\w)")
_DECADE = re.compile(r"(?<!\S)(?:the\s+)?(?P<year>(?:18|19|20)\d)0(?:s|er|ies|erjahre)(?!\w)")


@dataclass(frozen=True, slots=True)
class Numbers:
    """What numbers say, and the text without those that filter."""

    found: tuple[Attribute, ...]
    rest: str


def read_numbers(query: str, config: AttributesConfig, *, prices: bool, years: bool) -> Numbers:
    """Prices with a limit or a currency, years with a limit, decades, and quantities with a unit.

    query: lower case, without accents. prices, years: whether the catalog knows them. A limit without a currency reads
    as a price if the catalog has prices; a price without a limit is told and never filters. An impossible span (the low
    end above the high one) is turned round.
    """
    if config.numbers == "off" or not any(sign.isdigit() for sign in query):
        return Numbers((), query)
    filters = config.numbers == "filter"
    found: list[Attribute] = []
    rest = query
    if years:
        for match in [*_YEAR_LIMIT.finditer(rest)][:1]:
            step, year = YEARS[re.sub(r"\s+", " ", match["word"])], int(match["year"])
            closing = step < 0 or match["word"] == "until"
            low, high = (None, float(year + step)) if closing else (float(year + step), None)
            found.append(Attribute("year", str(c.YEAR), _span(low, high), match[0], low, high, applied=filters))
            rest = _without(rest, match, filters)
        for match in [*_DECADE.finditer(rest)][:1] if not found else ():
            low = float(int(match["year"]) * 10)
            found.append(Attribute("year", str(c.YEAR), f"{low:.0f}s", match[0], low, low + 9))
    if prices:
        money = _money(rest, config, filters)
        if money is not None:
            attribute, rest = money
            found.append(attribute)
    for match in _QUANTITY.finditer(rest):
        unit, factor = UNITS[match["unit"]]
        amount = float(match["number"].replace(",", ".")) * factor
        found.append(Attribute("quantity", unit, f"{match['number']} {match['unit']}", match[0], amount, amount))
    return Numbers(tuple(found), " ".join(rest.split()))


def _money(query: str, config: AttributesConfig, filters: bool) -> tuple[Attribute, str] | None:
    match = _SPAN.search(query)
    if match is not None:
        currency = _currency(match, 2) or _currency(match, 1)
        if currency is not None:
            ends = sorted((_amount(match["number1"]), _amount(match["number2"])))
            return _priced(query, match, config, filters, ends[0], ends[1], currency)
    match = _LIMIT.search(query)
    if match is not None:
        amount, currency = _amount(match["number1"]), _currency(match, 1)
        unit = _QUANTITY.match(query, match.start("number1"))
        year = currency is None and amount == int(amount) and 1850 <= amount <= 2099
        if currency is not None or (unit is None and not year and match["upper"] is not None):
            low, high = (None, amount) if match["upper"] is not None else (amount, None)
            return _priced(query, match, config, filters, low, high, currency)
    for match in _PRICE.finditer(query):
        currency = _currency(match, 1)
        if currency is not None:
            amount = _amount(match["number1"])
            return _priced(query, match, config, False, amount, amount, currency)
    return None


def _priced(
    query: str, match: re.Match[str], config: AttributesConfig, filters: bool, low: float | None, high: float | None,
    currency: str | None,
) -> tuple[Attribute, str]:  # fmt: skip
    note, rate = "", 1.0
    if currency is not None and config.currency and currency != config.currency:
        known = config.rates.get(currency)
        note = (
            f"{currency} at {known:g} {config.currency}" if known else f"no rate from {currency} to {config.currency}"
        )
        rate, filters = known or 1.0, filters and known is not None
    low, high = (None if end is None else round(end * rate, 4) for end in (low, high))
    # "under 18" alone may be a title.
    filters = filters and (currency is not None or bool(_without(query, match, True)))
    attribute = Attribute("price", str(c.PRICE), _span(low, high), match[0].strip(), low, high, filters, note)
    return attribute, _without(query, match, filters)


def _currency(match: re.Match[str], which: int) -> str | None:
    found = match[f"after{which}"] or match[f"before{which}"]
    return CURRENCIES[found] if found else None


def _amount(typed: str) -> float:
    """A number as people write it: "1.299,00", "1,299.00", "1 299", "49,90"."""
    plain = re.sub(r"['\u202f ]", "", typed)
    last = max(plain.rfind("."), plain.rfind(","))
    if last >= 0 and len(plain) - last - 1 != 3:  # what has three digits after it parts thousands
        return float(re.sub(r"[.,]", "", plain[:last]) + "." + plain[last + 1 :])
    return float(re.sub(r"[.,]", "", plain))


def _span(low: float | None, high: float | None) -> str:
    if low is not None and high is not None:
        return f"{low:g}" if low == high else f"{low:g} to {high:g}"
    return f"up to {high:g}" if high is not None else f"from {low:g}"


def _without(query: str, match: re.Match[str], filters: bool) -> str:
    rest = f"{query[: match.start()]} {query[match.end() :]}".strip()
    return rest if filters else query


# ------------------------------------------------------------------------------------------------------- facets


class Facets:
    """The names of a catalog's facet values, by their words. Memory: about 200 bytes a name and language."""

    def __init__(self, languages: Sequence[str] = (), config: AttributesConfig | None = None) -> None:
        self.config = config or AttributesConfig()
        self._languages = [name for name in languages if name in LANGUAGES]
        self._names: dict[str, dict[tuple[str, str], float]] = {}
        self._stemmed: dict[str, dict[str, dict[tuple[str, str], float]]] = {name: {} for name in self._languages}
        self._colours: dict[str, dict[tuple[str, str], float]] = {}
        self._quantities: dict[tuple[str, float], list[tuple[str, str]]] = {}
        self._longest = 1

    @classmethod
    def build(cls, view: CatalogView, languages: Sequence[str] = (), config: AttributesConfig | None = None) -> Facets:
        """From the categories, people and countries of available items and the short texts among their attributes."""
        made = cls(languages, config)
        shown = view.available
        for facet, ragged, names in (
            ("categories", view.category, view.category_names),
            ("people", view.people, view.people_names),
        ):
            counts = np.bincount(ragged.values, np.repeat(shown, np.diff(ragged.indptr)), len(names))
            for name, count in zip(names, counts.tolist(), strict=True):
                if count:
                    made.add(facet, name, count)
        countries = view.country[shown & (view.country >= 0)]
        for code, count in enumerate(np.bincount(countries, minlength=len(view.country_names)).tolist()):
            if count:
                made.add("countries", view.country_names[code], count)
        if view.attributes is not None:
            for key, values in _told(view.attributes.to_pylist(), shown, made.config.most_values).items():
                for value, count in values.items():
                    made.add(key, value, count)
        return made

    def add(self, facet: str, value: str, count: float = 1.0) -> None:
        """One value of a facet, with how many items have it. The path "Shoes > Running" is known by its end too."""
        names = [value, *([value.rsplit(">", 1)[1]] if ">" in value else [])]
        for name in names:
            tokens = text.words(text.fold(name))
            if not 0 < len(tokens) <= self.config.most_words:
                continue
            self._longest = max(self._longest, len(tokens))
            _put(self._names, " ".join(tokens), (facet, value), count)
            for language in self._languages:
                _put(self._stemmed[language], " ".join(stems(tokens, language)), (facet, value), count)
            if len(tokens) == 1 and tokens[0] in COLOURS and facet not in ("people", "countries"):
                _put(self._colours, COLOURS[tokens[0]], (facet, value), count)
        match = _QUANTITY.fullmatch(text.fold(value).strip())
        if match is not None:
            unit, factor = UNITS[match["unit"]]
            amount = round(float(match["number"].replace(",", ".")) * factor, 6)
            self._quantities.setdefault((unit, amount), []).append((facet, value))

    def read(self, tokens: Sequence[str], language: str | None) -> list[Attribute]:
        """The facet values that a query names, longest first, none overlapping; of several facets the most frequent.

        tokens: folded words.
        """
        if self.config.facets == "off":
            return []
        found: list[tuple[int, Attribute]] = []
        taken = [False] * len(tokens)
        for size in range(min(self._longest, len(tokens)), 0, -1):
            for at in range(len(tokens) - size + 1):
                if any(taken[at : at + size]):
                    continue
                words = tokens[at : at + size]
                named = self._named(words, language)
                if named is not None:
                    taken[at : at + size] = [True] * size
                    found.append((at, named))
        return [attribute for _, attribute in sorted(found, key=lambda one: one[0])]

    def quantity(self, attribute: Attribute) -> list[tuple[str, str]]:
        """Facet, value: where the catalog gives the same quantity, in whatever unit."""
        return self._quantities.get((attribute.name, round(attribute.low or math.nan, 6)), [])

    def _named(self, words: Sequence[str], language: str | None) -> Attribute | None:
        typed = " ".join(words)
        if typed.isdigit() or (len(words) == 1 and len(typed) < 2):
            return None
        values = self._names.get(typed)
        if values is None and language in self._stemmed:
            values = self._stemmed[language].get(" ".join(stems(words, language)))
        kind: Kind = "facet"
        if len(words) == 1 and typed in COLOURS:
            kind = "colour"
            values = values or self._colours.get(COLOURS[typed])
            if values is None:
                return Attribute("colour", "colour", COLOURS[typed], typed)
        if not values:
            return None
        # A single word is a person's name only where it is all of it; that is what the table holds.
        facet, value = min(values, key=lambda one: (-values[one], one))
        applied = self.config.facets == "filter" and facet in ("categories", "people", "countries")
        return Attribute(kind, facet, value, typed, applied=applied)


def _put(table: dict[str, dict[tuple[str, str], float]], key: str, value: tuple[str, str], count: float) -> None:
    values = table.setdefault(key, {})
    values[value] = values.get(value, 0.0) + count


def _told(documents: Iterable[str | None], shown: np.ndarray, most: int) -> dict[str, Counter[str]]:
    """Key -> its short texts with how many items have each; keys of too many different values are left out."""
    found: dict[str, Counter[str]] = {}
    for document, on in zip(documents, shown.tolist(), strict=True):
        if not on or not document:
            continue
        for key, value in json.loads(document).items():
            if isinstance(value, str) and 0 < len(value) <= 60:
                found.setdefault(key, Counter())[value] += 1
    return {key: values for key, values in found.items() if len(values) <= most}
