"""Words of a text: folding, tokens, joined pairs, character grams, title keys, edit distances.

Index, query, suggestions and highlights must cut a text the same way, so the cutting lives here. Standard library and
numpy only; strings in, strings out.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

__all__ = [
    "encode_words",
    "fold",
    "grams",
    "is_year",
    "joined_pairs",
    "natural_title",
    "numeral",
    "osa_distances",
    "title_key",
    "title_keys",
    "word_spans",
    "words",
]

# Han and Kana are written without spaces: each sign is a word, and joined pairs give the bigrams.
_UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
# Vowel signs of Indic and South-East Asian scripts belong to the word, though they are no letters to `\w`.
_VOWEL_SIGNS = "\u0900-\u0963\u0966-\u0dff\u0e31-\u0e4e\u0eb1-\u0ecd\u1000-\u109f"
_WORD = re.compile(f"[{_UNSPACED}]|(?:[^\\W_{_UNSPACED}]|[{_VOWEL_SIGNS}])+")
_ASCII_WORD = re.compile("[A-Za-z0-9]+")  # the same for plain texts, in a third of the time
# The same over an unfolded text: combining marks and apostrophes inside a word stay with it.
_SPAN = re.compile(f"[{_UNSPACED}]|(?:[^\\W_{_UNSPACED}]|[{_VOWEL_SIGNS}\u0300-\u036f]|(?<=\\w)['’‘ʼ](?=\\w))+")
# Accents of Latin, Greek and Cyrillic, points of Hebrew, short vowels of Arabic; apostrophes join.
_DROPPED = re.compile("[\u0300-\u036f\u0591-\u05c7\u064b-\u0652\u0670'’‘ʼ]")
_LETTERS = str.maketrans({"ø": "o", "đ": "d", "ł": "l", "æ": "ae", "œ": "oe", "ð": "d", "þ": "th", "ı": "i", "ħ": "h"})
_ARTICLES = frozenset(
    ["the", "a", "an", "le", "la", "les", "l", "un", "une", "el", "los", "las", "una", "lo", "il", "gli", "i"]
) | frozenset(
    ["der", "die", "das", "ein", "eine", "de", "het", "een", "den", "det", "en", "o", "os", "as", "um", "uma"]
)
_YEAR_AT_END = re.compile(r" ?\(\d{4}\)$")
_LATE_ARTICLE = re.compile(r"^(?P<rest>.+), (?P<article>[^\W\d_]{1,5}|[LlDd]['’])$")
_BRACKETS = re.compile(r"\(([^()]*)\)")
_ROMAN = {"ii": "2", "iii": "3", "iv": "4", "vi": "6", "vii": "7", "viii": "8", "ix": "9"}


def fold(text: str) -> str:
    """Lower case, without accents and apostrophes; compatibility forms (full width, ligatures) become plain letters."""
    if text.isascii():
        return text.lower().replace("'", "")
    plain = _DROPPED.sub("", unicodedata.normalize("NFKD", text).casefold()).translate(_LETTERS)
    return unicodedata.normalize("NFC", plain)


def words(folded: str) -> list[str]:
    """Words of a folded text, in order: runs of letters and digits; signs of unspaced scripts one by one."""
    return (_ASCII_WORD if folded.isascii() else _WORD).findall(folded)


def word_spans(text: str) -> list[tuple[int, int]]:
    """Where the words of an unfolded text begin and end."""
    return [match.span() for match in _SPAN.finditer(text)]


def joined_pairs(tokens: Sequence[str]) -> list[str]:
    """Adjacent words without the space: "spider man" -> "spiderman"."""
    return [first + second for first, second in pairwise(tokens)]


def grams(word: str) -> list[str]:
    """Character 3-grams of one word with its borders marked: "alien" -> "_al", "ali", "lie", "ien", "en_"."""
    padded = f"_{word}_"
    return [padded[i : i + 3] for i in range(len(padded) - 2)]


def is_year(word: str) -> bool:
    """Whether a word reads as a year of production."""
    return len(word) == 4 and word.isascii() and word.isdigit() and "1850" <= word <= "2099"


def numeral(word: str) -> str | None:
    """The digit of a roman numeral that is no other word ("ii" -> "2"), so that "rocky 2" finds "Rocky II"."""
    return _ROMAN.get(word)


def natural_title(title: str) -> str:
    """A catalog title as a person says it: "Matrix, The (1999)" -> "The Matrix"."""
    spaced_once = " ".join(title.split())
    without_year = _YEAR_AT_END.sub("", spaced_once) or spaced_once
    head, bracket, tail = without_year.partition(" (")
    return _article_first(head.strip()) + _BRACKETS.sub(lambda m: f"({_article_first(m[1].strip())})", bracket + tail)


def _article_first(name: str) -> str:
    match = _LATE_ARTICLE.match(name)
    if match is None or fold(match["article"]) not in _ARTICLES | {"d"}:
        return name
    article = match["article"]
    return f"{article}{'' if article[-1] in chr(39) + '’' else ' '}{match['rest']}"


def title_key(tokens: Sequence[str]) -> str:
    """What two spellings of one title share: its words without a leading article."""
    return " ".join(tokens[1:] if len(tokens) > 1 and tokens[0] in _ARTICLES else tokens)


def title_keys(title: str) -> list[str]:
    """Keys of a title and of the other names in its brackets, without its year; empty if it has no words."""
    natural = natural_title(title)
    names = [_BRACKETS.sub(" ", natural), *_BRACKETS.findall(natural), natural]
    keys = (title_key(words(fold(re.sub(r"^a\.?k\.?a\.?\s", "", name)))) for name in names)
    return list(dict.fromkeys(key for key in keys if key))


def encode_words(vocabulary: Iterable[str], width: int = 24) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.int64]]:
    """Words as code points (n, width), zero-padded and cut at `width`, and their lengths (n,) after the cut."""
    cut = [word[:width] for word in vocabulary]
    codes = np.array(cut, dtype=f"<U{width}").view(np.uint32).reshape(len(cut), width) if cut else None
    lengths = np.fromiter(map(len, cut), np.int64, len(cut))
    return (np.zeros((0, width), np.uint32) if codes is None else codes), lengths


def osa_distances(
    word: str, codes: npt.NDArray[np.uint32], lengths: npt.NDArray[np.int64], limit: int = 2
) -> npt.NDArray[np.int64]:
    """Edit distances of one word to many; adjacent transposition counts one. Beyond `limit`: `limit + 1`.

    codes: (n, width) and lengths: (n,) as `encode_words` gives them; the loop runs over cells, all words at once.
    Source: optimal string alignment, Damerau 1964 as restricted by Wagner and Lowrance 1975.
    """
    query = np.frombuffer(word[: codes.shape[1]].encode("utf-32-le", "surrogatepass"), np.uint32)
    n, m = len(codes), len(query)
    far = np.int64(limit + 1)
    width = int(lengths.max(initial=0))
    above2 = np.full((width + 1, n), far)
    above = np.full((width + 1, n), far)
    above[: limit + 1] = np.arange(min(limit, width) + 1)[:, None]
    columns = np.ascontiguousarray(codes.T)
    for i in range(1, m + 1):
        row = np.full((width + 1, n), far)
        if i <= limit:
            row[0] = i
        for j in range(max(1, i - limit), min(width, i + limit) + 1):
            differ = columns[j - 1] != query[i - 1]
            cell = np.minimum(np.minimum(above[j], row[j - 1]) + 1, above[j - 1] + differ)
            if i > 1 and j > 1:
                swapped = (columns[j - 1] == query[i - 2]) & (columns[j - 2] == query[i - 1])
                cell = np.where(swapped, np.minimum(cell, above2[j - 2] + 1), cell)
            row[j] = np.minimum(cell, far)
        above2, above = above, row
    return above[lengths, np.arange(n)]
