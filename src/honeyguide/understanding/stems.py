"""Words of a query without their endings, by language: the Snowball stemmers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from honeyguide.errors import RequestError
from honeyguide.kernels import text

__all__ = ["LANGUAGES", "stems"]

LANGUAGES = {
    "ar": "arabic", "ca": "catalan", "da": "danish", "de": "german", "el": "greek", "en": "english", "es": "spanish",
    "et": "estonian", "eu": "basque", "fi": "finnish", "fr": "french", "ga": "irish", "hi": "hindi", "hu": "hungarian",
    "hy": "armenian", "id": "indonesian", "it": "italian", "lt": "lithuanian", "ne": "nepali", "nl": "dutch",
    "no": "norwegian", "pt": "portuguese", "ro": "romanian", "ru": "russian", "sr": "serbian", "sv": "swedish",
    "ta": "tamil", "tr": "turkish", "yi": "yiddish",
}  # fmt: skip
"""Code -> the algorithm's name."""


@lru_cache(maxsize=64)
def _stemmer(language: str) -> Any:
    import Stemmer

    if language not in LANGUAGES:
        raise RequestError(
            expected=f"a language that has a stemmer ({', '.join(LANGUAGES)})",
            got=repr(language),
            do="Name one of them.",
        )
    return Stemmer.Stemmer(LANGUAGES[language])


def stems(words: Sequence[str], language: str) -> tuple[str, ...]:
    """Folded words -> their folded stems, in the same order. RequestError for a language without a stemmer.

    Source: Porter 2001, Snowball.
    """
    return tuple(text.fold(stem) for stem in _stemmer(language).stemWords(list(words)))
