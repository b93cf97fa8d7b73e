"""How frequent words are in a language, by the package wordfreq (code Apache 2.0, data CC BY-SA 4.0)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

__all__ = ["known_languages", "primary", "word_frequencies"]


def primary(tag: str | None) -> str | None:
    """The language of a BCP 47 tag, two or three letters: "de-AT" -> "de"; None for what is no tag."""
    head = (tag or "").strip().replace("_", "-").partition("-")[0].lower()
    return head if 2 <= len(head) <= 3 and head.isascii() and head.isalpha() else None


@cache
def known_languages() -> frozenset[str]:
    """The languages whose words are known."""
    from wordfreq import available_languages

    return frozenset(available_languages("small"))


def word_frequencies(language: str, *, small: bool = False) -> Mapping[str, float]:
    """Words in lower case and the share of a text that each makes up; {} for a language nobody knows.

    small: the tens of thousands that are frequent (.1 s), else all, some hundred thousand (.2 s).
    """
    if language not in known_languages():
        return {}
    from wordfreq import get_frequency_dict

    found: Mapping[str, float] = get_frequency_dict(language, "small" if small else "best")
    return found
