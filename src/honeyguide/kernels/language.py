"""Which language a few words are in: how frequent each is in every language, and what its letters say.

Texts come as code points in lower case. A language's letters are a naive Bayes over 1- to 5-grams of words with their
borders, hashed into one table.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from honeyguide.kernels.hashtable import EMPTY, find, mix

__all__ = ["ORDERS", "count_grams", "fill_words", "language_scores", "word_keys"]

I64 = npt.NDArray[np.int64]
U32 = npt.NDArray[np.uint32]
ORDERS = 5
_BORDER = 95


@njit(cache=True)
def _is_letter(sign: int) -> Any:
    if sign < 128:
        return 97 <= sign <= 122
    if sign < 0xC0:
        return sign == 0xAA or sign == 0xB5 or sign == 0xBA
    if sign == 0xD7 or sign == 0xF7 or 0xD800 <= sign <= 0xF8FF or 0xFE00 <= sign <= 0xFE0F:
        return False
    return not (0x2000 <= sign <= 0x2BFF or 0x3000 <= sign <= 0x303F or 0x1F000 <= sign <= 0x1FFFF)


@njit(cache=True)
def _key(codes: U32, first: int, end: int) -> Any:
    key = np.int64(end - first)
    for i in range(first, end):
        key = mix(key ^ np.int64(codes[i]))
    return key


@njit(cache=True)
def _gram(codes: U32, first: int, end: int, at: int, size: int) -> Any:
    """The number of the `size` signs of the word [first, end) from `at` on; beyond its ends stands the border."""
    key = np.int64(size)
    for i in range(at, at + size):
        key = mix(key ^ np.int64(codes[i] if first <= i < end else _BORDER))
    return key


@njit(cache=True)
def word_keys(codes: U32, indptr: I64) -> I64:
    """The number of each word `codes[indptr[i]:indptr[i + 1]]`."""
    keys = np.empty(indptr.shape[0] - 1, np.int64)
    for i in range(keys.shape[0]):
        keys[i] = _key(codes, indptr[i], indptr[i + 1])
    return keys


@njit(cache=True)
def fill_words(table: I64, keys: I64) -> I64:
    """Put keys into a hash table with room for them (`hashtable.find`); returns the place of each."""
    places, mask = np.empty(keys.shape[0], np.int64), table.shape[0] - 1
    for i in range(keys.shape[0]):
        places[i] = find(table, mask, keys[i])
        table[places[i]] = keys[i]
    return places


@njit(cache=True)
def count_grams(codes: U32, indptr: I64, weights: npt.NDArray[np.float64], table: npt.NDArray[np.float64]) -> None:
    """Add the grams of weighed words to `table` (ORDERS, buckets: a power of two)."""
    mask = table.shape[1] - 1
    for i in range(indptr.shape[0] - 1):
        first, end = indptr[i], indptr[i + 1]
        for size in range(1, ORDERS + 1):
            low, high = (first, end) if size == 1 else (first - 1, end + 1)
            for at in range(low, high - size + 1):
                table[size - 1, _gram(codes, first, end, at, size) & mask] += weights[i]


@njit(cache=True)
def language_scores(
    codes: U32,
    keys: I64,
    frequencies: npt.NDArray[np.uint8],
    grams: npt.NDArray[np.int16],
    unknown: float,
    letters: float,
    max_words: int,
) -> npt.NDArray[np.float64]:
    """A log score per language (languages,), higher is likelier; all zero for a text without letters.

    codes: a text in lower case. keys: a hash table of words (`hashtable.find`); frequencies: (places, languages), minus
    ten times the log frequency, 255 where unknown. grams: (ORDERS, buckets, languages), 256 times the log chance of a
    gram relative to the languages' mean. unknown: log frequency of a word that a language does not know. letters:
    weight of what the grams say. Words beyond `max_words` are not read.
    """
    n_languages = frequencies.shape[1]
    scores = np.zeros(n_languages)
    mask, gram_mask = keys.shape[0] - 1, grams.shape[1] - 1
    at, read = 0, 0
    while at < codes.shape[0] and read < max_words:
        if not _is_letter(codes[at]):
            at += 1
            continue
        first = at
        while at < codes.shape[0] and _is_letter(codes[at]):
            at += 1
        read += 1
        place = find(keys, mask, _key(codes, first, at))
        for one in range(n_languages):
            told = frequencies[place, one] if keys[place] != EMPTY else 255
            scores[one] += -told / 10.0 if told != 255 else unknown
        for size in range(1, ORDERS + 1):
            low, high = (first, at) if size == 1 else (first - 1, at + 1)
            for start in range(low, high - size + 1):
                bucket = _gram(codes, first, at, start, size) & gram_mask
                for one in range(n_languages):
                    scores[one] += letters * grams[size - 1, bucket, one] / 256.0
    return scores
