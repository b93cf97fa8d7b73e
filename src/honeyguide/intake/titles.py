"""Film titles: as shown, and as keys under which two catalogs meet; facts joined by title and year."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from honeyguide.schema import columns as c

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["enrich_items", "shown_title", "title_keys"]

# Articles of the languages that film catalogs put behind a comma.
_ARTICLES = "|".join(
    [
        "the|a|an",
        "le|la|les|l'|un|une|des",
        "il|lo|i|gli|uno|una",
        "el|los|las",
        "der|die|das|den|ein|eine",
        "det|de|het|een",
    ]
)
_TRAILING = re.compile(rf",\s*({_ARTICLES})\s*$", re.IGNORECASE)
_LEADING = re.compile(rf"^(l'\s*|({_ARTICLES})\s+)", re.IGNORECASE)
_ASIDE = re.compile(r"\(([^()]*)\)")
_ALSO_KNOWN = re.compile(r"^(a\.?k\.?a\.?|also known as)\s*", re.IGNORECASE)
_NO_WORD = re.compile(r"[^0-9a-z]+")
# Letters that Unicode does not take apart into a base and an accent.
_LETTERS = str.maketrans(
    {"ø": "o", "æ": "ae", "œ": "oe", "ß": "ss", "ð": "d", "þ": "th", "ł": "l", "đ": "d", "&": " and "}
)
_NUMBER_WORDS = ["two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
_NUMBERS = {word: str(n) for n, word in enumerate(_NUMBER_WORDS, 2)}
_NEAR_YEARS = (0, -1, 1)
_SHORT = 6  # shorter keys stand for many films: they must agree on the year, and parts of titles must be longer


def shown_title(title: str) -> str:
    """A title as people write it: "Usual Suspects, The" -> "The Usual Suspects", also before and inside parentheses."""
    main, aside = (title[: title.index(" (")], title[title.index(" (") :]) if " (" in title else (title, "")
    found = _TRAILING.search(main)
    if found:
        article = found[1]
        main = article + ("" if article.endswith("'") else " ") + main[: found.start()].strip()
    aside = _ASIDE.sub(lambda part: f"({shown_title(part[1].strip())})", aside)
    return main.strip() + aside


def _key(title: str) -> str:
    plain = unicodedata.normalize("NFKD", title.casefold().translate(_LETTERS))
    plain = "".join(letter for letter in plain if not unicodedata.combining(letter))
    plain = _LEADING.sub("", plain.strip())
    return "".join(_NUMBERS.get(word, word) for word in _NO_WORD.sub(" ", plain).split())


def title_keys(title: str) -> list[str]:
    """Keys of a title, the surest first: its main name, then each name in parentheses, then all of it.

    A key has no case, accents, punctuation, blanks or leading article, and small numbers as digits: "Misérables, Les"
    and "Les Miserables" meet, as do "Twelve Monkeys" and "12 Monkeys".
    """
    asides = [_ALSO_KNOWN.sub("", aside.strip()) for aside in _ASIDE.findall(title)]
    names = [_ASIDE.sub(" ", title), *asides, title]
    keys = [_key(shown_title(" ".join(name.split()))) for name in names]
    return [key for key in dict.fromkeys(keys) if key]


def _part_keys(title: str) -> list[str]:
    """Keys of what stands before and after a colon: weaker, so they must agree on the year."""
    head, colon, tail = _ASIDE.sub(" ", title).partition(":")
    return [key for key in (_key(head), _key(tail)) if len(key) >= _SHORT] if colon else []


def enrich_items(items: pa.Table, facts: pa.Table, weights: Sequence[float] | None = None) -> tuple[pa.Table, float]:
    """Join facts (Items rows, such as `film-facts`) onto items by title and year.

    Adds people, country, language, description and missing categories where an item has none; what an item says of
    itself stays. A whole title may differ by one year (the exact year first), a part of a title (before or after a
    colon) by none; of several matches the fact that comes first counts. Returns the items in their order and the share
    of items (or of `weights`, one per item) that found facts.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    whole: dict[tuple[str, int], int] = {}
    parts: dict[tuple[str, int], int] = {}
    for at, (title, year) in enumerate(_titled(facts)):
        for key in title_keys(title):
            whole.setdefault((key, year), at)
        for key in _part_keys(title):
            parts.setdefault((key, year), at)
    matched = pa.array([_match(title, year, whole, parts) for title, year in _titled(items)], pa.int64())
    table = items
    for column in (c.PEOPLE, c.COUNTRY, c.LANGUAGE, c.DESCRIPTION, c.CATEGORIES):
        place = table.column_names.index(column)
        own = table[column].combine_chunks()
        joined = pc.coalesce(own, facts[column].combine_chunks().take(matched).cast(own.type))
        table = table.set_column(place, table.field(place), joined)
    hit = matched.is_valid().to_numpy(zero_copy_only=False).astype(np.float64)
    share = float(np.average(hit, weights=weights)) if len(hit) else 0.0
    return table, share


def _titled(table: pa.Table) -> Iterator[tuple[str, int]]:
    for title, year in zip(table[c.TITLE].to_pylist(), table[c.YEAR].to_pylist(), strict=True):
        if title and year is not None:
            yield title, year
        else:
            yield "", 0


def _match(title: str, year: int, whole: dict[tuple[str, int], int], parts: dict[tuple[str, int], int]) -> int | None:
    keys = title_keys(title)
    for key in keys:
        for near in _NEAR_YEARS if len(key) >= _SHORT else _NEAR_YEARS[:1]:
            row = whole.get((key, year + near))
            if row is not None:
                return row
    for key in keys + _part_keys(title):
        row = whole.get((key, year), parts.get((key, year)))
        if row is not None:
            return row
    return None
