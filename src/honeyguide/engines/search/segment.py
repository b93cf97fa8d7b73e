"""Items as an inverted index in memory-mapped arrays: words and adjacent pairs of words, with a count per field."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np

from honeyguide.contracts import F32, I32, I64
from honeyguide.kernels import postings, text

__all__ = ["FIELDS", "Document", "Segment", "Term", "gram_buckets", "norms", "title_code"]

Term = str | tuple[str, str]
"""A word, or two that stand together."""

FIELDS: Final = ("title", "people", "categories", "description", "attributes")
"""The fields of an item, in the order of the counts' columns. A year stands in the title's field, as people say it."""

_PAIRED: Final = 3  # adjacent words are joined in so many of the fields: whoever joins words joins those of names
_BUCKETS: Final = 1 << 16  # of character 3-grams
_KEPT: Final = 50_000  # words whose 3-grams are kept in memory
_WIDTH: Final = 24  # letters of a word whose 3-grams are looked at


@dataclass(frozen=True, slots=True)
class Document:
    """The words of one item, a list per field; in names -1 never joins, so a name is a list of its own."""

    title: Sequence[str]
    names: tuple[Sequence[Sequence[str]], Sequence[Sequence[str]]]  # of people, of categories
    description: Sequence[str]
    attributes: Sequence[str]
    keys: Sequence[str]  # what the whole title reads as


class Words(defaultdict[str, int]):
    """Numbers for words, in order of appearance."""

    def __init__(self) -> None:
        super().__init__()
        self.default_factory = self.__len__


@dataclass
class Segment:
    """Postings of words (terms below `len(words)`), then of pairs of words, then of the 3-grams of titles."""

    words: list[str]
    pairs: I64  # (pairs,), ascending: first word << 32 | second word
    indptr: I64
    docs: I32
    counts: np.ndarray  # (nnz, fields) uint8; of a pair, its first column alone
    lengths: I32  # (n, fields)
    keys: I64  # ascending codes of whole titles
    key_docs: I32

    def __len__(self) -> int:
        return len(self.lengths)

    @cached_property
    def number(self) -> dict[str, int]:
        """Term of each word."""
        return {word: at for at, word in enumerate(self.words)}

    def term(self, word: str) -> int:
        """A word's term, -1 if no item holds it."""
        return self.number.get(word, -1)

    def pair(self, first: str, second: str) -> int:
        """The term of two adjacent words, -1 if no item holds them so."""
        a, b = self.number.get(first, -1), self.number.get(second, -1)
        if a < 0 or b < 0 or not len(self.pairs):
            return -1
        code = a << 32 | b
        at = bisect_left(self._codes, code)
        return len(self.words) + at if at < len(self.pairs) and self._codes[at] == code else -1

    def span(self, term: Term) -> tuple[int, int]:
        """Where a term's postings begin and end; (0, 0) without any."""
        at = self.number.get(term, -1) if isinstance(term, str) else self.pair(*term)
        return (0, 0) if at < 0 else (self._ends[at], self._ends[at + 1])

    @cached_property
    def _ends(self) -> memoryview:
        # Twice as fast as an array, one by one.
        return memoryview(np.ascontiguousarray(self.indptr).data)

    @cached_property
    def _codes(self) -> memoryview:
        return memoryview(np.ascontiguousarray(self.pairs).data)

    def buckets(self, words: Sequence[str]) -> I64:
        """Buckets of the 3-grams of some words, each once."""
        found: dict[int, None] = {}
        for word in words:
            mine = self._kept.get(word)
            if mine is None:
                codes, sizes = gram_buckets([word])
                mine = dict.fromkeys(codes[0, : int(sizes[0])].tolist())
                if len(self._kept) >= _KEPT:
                    self._kept.clear()
                self._kept[word] = mine
            found |= mine
        return np.fromiter(found, np.int64, len(found))

    @cached_property
    def _kept(self) -> dict[str, dict[int, None]]:
        return {}

    def gram_counts(self, buckets: I64) -> I64:
        """In how many titles each bucket stands."""
        at = buckets + (len(self.words) + len(self.pairs))
        return self.indptr[at + 1] - self.indptr[at]

    def titled(self, code: int) -> I32:
        """Items whose whole title has a code."""
        low, high = np.searchsorted(self.keys, [code, code + 1])
        return self.key_docs[low:high]

    @cached_property
    def _grams(self) -> tuple[I64, I32, I32]:
        """By bucket of 3-grams, the words of titles and names that hold one; and how many 3-grams each word has."""
        names = np.zeros(len(self.words), np.bool_)
        ends = self.indptr[: len(self.words) + 1]
        named = self.counts[: ends[-1], :_PAIRED].any(axis=1)
        names[np.repeat(np.arange(len(self.words)), np.diff(ends))[named]] = True
        buckets, sizes = gram_buckets(self.words)
        sizes = np.where(names, sizes, 0)
        live = np.arange(buckets.shape[1]) < sizes[:, None]
        starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)[None]
        indptr, holders, _, _ = postings.build(buckets[live], starts, _BUCKETS)
        return indptr, holders, sizes.astype(np.int32)

    def like(self, word: str, most: int, least: float) -> list[tuple[int, float]]:
        """Words of titles and names that share 3-grams with one that nobody knows: terms and Dice's coefficients."""
        if not self.words:
            return []
        indptr, holders, sizes = self._grams
        mine, count = gram_buckets([word])
        asked = np.unique(mine[0, : int(count[0])])
        if not len(asked):
            return []
        shared = np.bincount(
            np.concatenate([holders[indptr[g] : indptr[g + 1]] for g in asked]), minlength=len(self.words)
        )
        near = np.flatnonzero(shared)
        dice = 2 * shared[near] / (sizes[near] + len(asked))
        order = near[dice >= least]
        told = dice[dice >= least]
        best = np.lexsort((order, -told))[:most]
        return list(zip(order[best].tolist(), told[best].tolist(), strict=True))

    # ------------------------------------------------------------------------------------------------ building

    @classmethod
    def build(cls, documents: Iterable[Document]) -> Segment:
        """Index documents in order: the first of two that score alike comes first."""
        words = Words()
        streams = [array("i") for _ in FIELDS]
        starts: list[array[int]] = [array("q", [0]) for _ in FIELDS]
        keys: list[int] = []
        key_docs: list[int] = []
        named: dict[int, list[int]] = {}

        def name_ids(name: Sequence[str]) -> list[int]:
            found = named.get(id(name))
            if found is None:
                found = [words[word] for word in name]
                found.append(-1)
                named[id(name)] = found
                kept.append(name)
            return found

        kept: list[Sequence[str]] = []  # an id means something only while its object lives
        for doc, document in enumerate(documents):
            streams[0].extend([words[word] for word in document.title])
            streams[0].append(-1)
            for field, names in zip((1, 2), document.names, strict=True):
                for name in names:
                    streams[field].extend(name_ids(name))
            streams[3].extend([words[word] for word in document.description])
            streams[4].extend([words[word] for word in document.attributes])
            for stream, start in zip(streams, starts, strict=True):
                start.append(len(stream))
            for key in document.keys:
                keys.append(title_code(key))
                key_docs.append(doc)
        offset = np.cumsum([0, *(len(stream) for stream in streams)])
        tokens = np.concatenate([np.frombuffer(stream, np.int32) for stream in streams])
        begin = np.stack([np.frombuffer(start, np.int64) + offset[f] for f, start in enumerate(starts)])
        indptr, docs, counts, lengths = postings.build(tokens, begin, len(words))
        pairs, pair_ptr, pair_docs = _pairs(tokens[: offset[_PAIRED]], begin[:_PAIRED])
        gram_ptr, gram_docs, gram_counts = _title_grams(list(words), tokens[: offset[1]], begin[0])
        further = np.zeros((len(pair_docs) + len(gram_docs), len(FIELDS)), np.uint8)
        further[: len(pair_docs), 0] = 1
        further[len(pair_docs) :, :1] = gram_counts
        code = np.array(keys, np.int64)
        order = np.argsort(code, kind="stable")
        ends = np.concatenate([indptr, indptr[-1] + pair_ptr[1:], indptr[-1] + pair_ptr[-1] + gram_ptr[1:]])
        return cls(
            list(words), pairs, ends, np.concatenate([docs, pair_docs, gram_docs]), np.concatenate([counts, further]),
            lengths, code[order], np.array(key_docs, np.int32)[order],
        )  # fmt: skip

    def arrays(self) -> Mapping[str, np.ndarray]:
        """What is written, by name; the words are written beside."""
        return {
            name: getattr(self, name) for name in ("pairs", "indptr", "docs", "counts", "lengths", "keys", "key_docs")
        }


def _pairs(tokens: I32, starts: I64) -> tuple[I64, I64, I32]:
    """Codes of adjacent words, ascending, and their postings (`indptr`, `docs`)."""
    n = starts.shape[1] - 1
    doc = np.concatenate([np.repeat(np.arange(n, dtype=np.int32), np.diff(start)) for start in starts])
    side = (tokens[:-1] >= 0) & (tokens[1:] >= 0) & (doc[:-1] == doc[1:])
    code = tokens[:-1][side].astype(np.int64) << 32 | tokens[1:][side]
    order = np.lexsort((doc[:-1][side], code))
    code, of = code[order], doc[:-1][side][order]
    first = np.ones(len(code), np.bool_)
    first[1:] = (code[1:] != code[:-1]) | (of[1:] != of[:-1])
    code, of = code[first], of[first]
    pairs, sizes = np.unique(code, return_counts=True)
    return pairs, np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64), of


def _title_grams(words: Sequence[str], tokens: I32, starts: I64) -> tuple[I64, I32, np.ndarray]:
    """Postings of the 3-grams of titles' words, by bucket."""
    buckets, sizes = gram_buckets(words)
    size = np.where(tokens >= 0, sizes[tokens], 0) if len(words) else np.zeros(len(tokens), np.int64)
    live = np.arange(buckets.shape[1]) < size[:, None]
    stream = buckets[tokens][live] if len(words) else np.zeros(0, np.int32)
    end = np.concatenate([[0], np.cumsum(size)]).astype(np.int64)
    indptr, docs, counts, _ = postings.build(stream, end[starts][None], _BUCKETS)
    return indptr, docs, counts


def title_code(key: str) -> int:
    """A code of a whole title, the same on every machine."""
    from honeyguide.kernels.codes import code64

    return int(code64(key)) >> 1


def gram_buckets(words: Sequence[str]) -> tuple[I32, I64]:
    """Buckets of each word's 3-grams, borders marked (n, width), and how many it has; words of a letter have two."""
    codes, lengths = text.encode_words(words, _WIDTH)
    padded = np.zeros((len(codes), _WIDTH + 2), np.uint32)
    padded[:, 1:-1] = codes
    padded[:, 0] = ord("_")
    padded[np.arange(len(codes)), lengths + 1] = ord("_")
    mixed = padded[:, :-2] * np.uint32(0x9E3779B1) ^ padded[:, 1:-1] * np.uint32(0x85EBCA6B)
    mixed ^= padded[:, 2:] * np.uint32(0xC2B2AE35)
    return (mixed >> np.uint32(16)).astype(np.int32), lengths


def norms(lengths: I32, mean: F32, b: F32) -> F32:
    """1 - b + b length / mean length by field, (n, fields); at least a hundredth, whatever b."""
    return np.maximum(1 - b + b * lengths / np.maximum(mean, 1e-6), 0.01).astype(np.float32)
