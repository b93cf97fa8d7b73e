"""German and Dutch compounds: "laufschuhe" -> "lauf", "schuhe". Words are folded: without accents, in lower case."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

__all__ = ["COMPOUNDING", "Splitter"]

COMPOUNDING: Final = {
    # What stands between two parts, and what a part may have lost at the joint ("schul-buch": schule).
    "de": (("", "s", "es", "n", "en", "er", "e"), ("", "e")),
    "nl": (("", "s", "en", "n", "e", "er"), ("", "e")),
}
"""Languages that write compounds in one word, with their linking letters and endings that a first part loses."""


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


# Endings that make a word of a word, and are words to a list of frequencies; none is the head of a compound.
_ENDINGS: Final = _set(
    "schaft heit keit lich lichen licher liches bar sam haft los lose loser loses isch ische chen lein ung ungen "
    "iert ieren igkeit eren heid lijk lijke baar loos loze ing ingen ster sters erei erin innen tion nis nisse "
    "sche ende schap king rijk den ten ter der gen sen"
)
_PREFIXES: Final = _set(
    "ver ent zer emp miss ge be un ur vor auf aus ein bei nach mit uber unter durch hinter wieder wider zuruck "
    "ont her op aan af uit voor door over onder tegen terug toe mee weg"
)
_LETTERS, _MOST_LETTERS = 3, 40
_SHORT = 3.0  # what a part of three letters must have the more, in log frequency: most of them are no parts


class Splitter:
    """The likeliest parts of a compound, by how frequent they are on their own.

    A split's score is the geometric mean of its parts' frequencies; fewer parts go first where every part is a word
    that people use. Source: Koehn and Knight 2003, section 4.2, with their minimum part length raised to what keeps
    endings apart.
    """

    def __init__(
        self, language: str, frequency: Callable[[str], float], *, least: float = 1.5e-6, least_short: float = 3e-5
    ) -> None:
        """frequency: the share of a folded word in the language, 0.0 if unknown. least: of a part on its own, and
        least_short of one of three letters; shorter parts there are none."""
        self._links, self._lost = COMPOUNDING[language]
        self._frequency, self._least, self._least_short = frequency, least, least_short

    def split(self, word: str) -> tuple[str, ...]:
        """The parts in order, linking letters left out; () for what is no compound."""
        if not 2 * _LETTERS <= len(word) <= _MOST_LETTERS or not word.isalpha():
            return ()
        found = self._parts(word, 4, {})
        return found[1] if found is not None and len(found[1]) > 1 else ()

    def _parts(
        self, rest: str, most: int, known: dict[tuple[str, int], tuple[float, tuple[str, ...]] | None]
    ) -> tuple[float, tuple[str, ...]] | None:
        """The best split of what is left into at most so many parts: mean log frequency, parts."""
        key = rest, most
        if key in known:
            return known[key]
        best: tuple[float, tuple[str, ...]] | None = None
        for end in range(_LETTERS, len(rest) - _LETTERS + 1) if most > 1 else ():
            head = self._head(rest[:end])
            if head is None:
                continue
            for link in self._links:
                if not rest.startswith(link, end) or len(rest) - end - len(link) < _LETTERS:
                    continue
                tail = self._tail(rest[end + len(link) :], most - 1, known)
                if tail is None:
                    continue
                n = len(tail[1])
                # Each further part, and each link, must pay for itself.
                score = (head[0] + n * tail[0]) / (n + 1) - 0.5 * bool(link) - 1.0 * (n - 1)
                if best is None or score > best[0]:
                    best = score, (head[1], *tail[1])
        known[key] = best
        return best

    def _tail(
        self, rest: str, most: int, known: dict[tuple[str, int], tuple[float, tuple[str, ...]] | None]
    ) -> tuple[float, tuple[str, ...]] | None:
        whole = None if rest in _ENDINGS else self._log(rest)
        split = self._parts(rest, most, known)
        if whole is None or (split is not None and split[0] > whole):
            return split
        return whole, (rest,)

    def _head(self, part: str) -> tuple[float, str] | None:
        if part in _PREFIXES:
            return None
        found = [(log, part + end) for end in self._lost if (log := self._log(part + end)) is not None]
        # A part as it stands counts more than one that lost an ending.
        return max(found, key=lambda one: one[0] - (one[1] != part)) if found else None

    def _log(self, word: str) -> float | None:
        share, short = self._frequency(word), len(word) == _LETTERS
        if share < (self._least_short if short else self._least):
            return None
        return math.log(share) - _SHORT * short
