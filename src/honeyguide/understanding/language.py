"""Which of the catalog's languages a query is in, and which words its languages know.

Restricted to the catalog's own languages a word or two suffice: how frequent the words are in each language, and a
little of what their letters say.
"""

from __future__ import annotations

import json
import math
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from honeyguide.contracts import I64
from honeyguide.engines.language import known_languages, primary, word_frequencies
from honeyguide.errors import BuildError, ConfigError
from honeyguide.kernels import text
from honeyguide.kernels.hashtable import EMPTY, find
from honeyguide.kernels.language import ORDERS, count_grams, fill_words, language_scores, word_keys

__all__ = ["Identified", "LanguageConfig", "Languages", "languages_of"]

_ARRAYS = ("keys", "frequencies", "grams")
_NAMES = "languages.json"
_UNKNOWN = 255
_BUCKETS = 1 << 15
_FILL = 0.8  # of a table's places in use at most
_SMOOTHING = 1.0
_TYPE_POWER = 0.25  # a word's letters count by its frequency to this power: rare words tell of letters too
_PLAIN = 0.1  # how often a word is typed without its accents
_ALONE = 1e-7  # a single language needs no rarer words: there is nothing to tell apart


class LanguageConfig(BaseModel):
    """How the language of a query is told."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    on: bool = True
    languages: tuple[str, ...] = ()  # of the catalog and its people; (): as the items say, else as their texts read
    unknown: Annotated[float, Field(lt=0)] = -22.0  # log frequency of a word that a language does not know
    letters: Annotated[float, Field(ge=0)] = 0.1  # weight of what a word's letters say beside its frequency
    prior: Annotated[float, Field(ge=0)] = 0.0  # log odds of the catalog's main language beyond the others'
    least: Annotated[float, Field(ge=0, le=1)] = 0.0  # probability below which no language is said
    max_words: Annotated[int, Field(ge=1, le=256)] = 16  # the rest of a query is not read


@dataclass(frozen=True, slots=True)
class Identified:
    """The likeliest language, None where a text has no letters, and how likely it is among the catalog's."""

    language: str | None
    probability: float


class Languages:
    """The words and letters of a few languages as arrays that can be memory-mapped.

    Disk and shared memory: about 15 bytes a word and language (6 languages: 30 MB). A query costs 2 to 4 microseconds.
    """

    def __init__(
        self,
        names: Sequence[str],
        keys: I64,
        frequencies: npt.NDArray[np.uint8],
        grams: npt.NDArray[np.int16],
        config: LanguageConfig | None = None,
    ) -> None:
        self.names = tuple(names)
        self.config = config or LanguageConfig()
        self._keys, self._frequencies, self._grams = keys, frequencies, grams

    @classmethod
    def build(cls, names: Sequence[str], config: LanguageConfig | None = None) -> Self:
        """From the frequencies of words; ConfigError for a language whose words nobody knows."""
        names = tuple(dict.fromkeys(names))
        strange = [name for name in names if name not in known_languages()]
        if strange:
            raise ConfigError(
                expected=f"languages among {', '.join(sorted(known_languages()))}",
                got=", ".join(map(repr, strange)),
                do="Name others in [search.understanding.language].",
            )
        counts = np.zeros((len(names), ORDERS, _BUCKETS))
        told: list[tuple[I64, npt.NDArray[np.float64]]] = []
        for at, name in enumerate(names):
            words = {
                word: share
                for word, share in word_frequencies(name).items()
                if word.isalpha() and (len(names) > 1 or share >= _ALONE)
            }
            codes, indptr = _encoded(words)
            shares = np.fromiter(words.values(), np.float64, len(words))
            if len(names) > 1:
                count_grams(codes, indptr, (shares / 1e-8) ** _TYPE_POWER, counts[at])
            accented = [word for word in words if not word.isascii()]
            plain = {bare: words[word] * _PLAIN for word in accented if (bare := text.fold(word)) not in words}
            plain_codes, plain_indptr = _encoded(plain)
            keys = np.concatenate([word_keys(codes, indptr), word_keys(plain_codes, plain_indptr)])
            told.append((keys, np.concatenate([shares, np.fromiter(plain.values(), np.float64, len(plain))])))
        every = np.unique(np.concatenate([keys for keys, _ in told])) if told else np.zeros(0, np.int64)
        table = np.full(1 << max(4, math.ceil(math.log2(max(len(every), 1) / _FILL))), EMPTY, np.int64)
        frequencies = np.full((len(table), max(len(names), 1)), _UNKNOWN, np.uint8)
        for at, (keys, shares) in enumerate(told):
            places = fill_words(table, keys)
            frequencies[places, at] = np.clip(np.round(-10.0 * np.log(shares)), 0, _UNKNOWN - 1).astype(np.uint8)
        chance = np.log((counts + _SMOOTHING) / (counts.sum(2, keepdims=True) + _SMOOTHING * _BUCKETS))
        chance -= chance.mean(0, keepdims=True) if len(names) else 0.0
        grams = np.clip(np.round(256 * chance), -32768, 32767).astype(np.int16).transpose(1, 2, 0)
        return cls(names, table, frequencies, np.ascontiguousarray(grams), config)

    def save(self, folder: Path) -> None:
        """Write the arrays into an existing folder."""
        np.save(folder / "keys.npy", self._keys)
        np.save(folder / "frequencies.npy", self._frequencies)
        np.save(folder / "grams.npy", self._grams)
        (folder / _NAMES).write_text(json.dumps(self.names))

    @classmethod
    def load(cls, folder: Path, config: LanguageConfig | None = None) -> Self:
        """Open what `save` wrote, memory-mapped; BuildError if it is not whole."""
        try:
            names = json.loads((folder / _NAMES).read_text())
            keys, frequencies, grams = (
                np.load(folder / f"{name}.npy", mmap_mode="r").view(np.ndarray) for name in _ARRAYS
            )
        except (OSError, ValueError) as error:
            raise BuildError(
                expected="the words of the catalog's languages", got=str(error), do="Run `honeyguide build`."
            ) from error
        return cls(names, keys, frequencies, grams, config)

    def identify(self, query: str) -> Identified:
        """The likeliest of the catalog's languages. Kana are Japanese; Han without them is Chinese, where asked."""
        if not self.names:
            return Identified(None, 0.0)
        written = self._by_script(query)
        if written is not None:
            return Identified(written, 1.0)
        codes = np.frombuffer(
            unicodedata.normalize("NFC", query[:1_000]).lower().encode("utf-32-le", "surrogatepass"), np.uint32
        )
        config = self.config
        scores = language_scores(
            codes, self._keys, self._frequencies, self._grams, config.unknown, config.letters, config.max_words
        )
        if not scores.any():
            return Identified(None, 0.0)
        if config.prior:
            scores[0] += config.prior
        shares = np.exp(scores - scores.max())
        best = int(shares.argmax())
        probability = float(1.0 / shares.sum())
        return Identified(self.names[best] if probability >= config.least else None, probability)

    def _by_script(self, query: str) -> str | None:
        if query.isascii() or not ({"ja", "zh"} & set(self.names)):
            return None
        if "ja" in self.names and any("\u3040" <= sign <= "\u30ff" for sign in query):
            return "ja"
        if "zh" in self.names and any("\u4e00" <= sign <= "\u9fff" for sign in query):
            return "zh"
        return None

    def frequency(self, word: str, language: str | None = None) -> float:
        """The share of a word in a language, else in the one that uses it most; 0.0 where it is unknown."""
        if not self.names or (language is not None and language not in self.names):
            return 0.0
        codes, indptr = _encoded([word])
        place = int(find(self._keys, len(self._keys) - 1, int(word_keys(codes, indptr)[0])))
        if self._keys[place] == EMPTY:
            return 0.0
        row = self._frequencies[place]
        best = int(row.min() if language is None else row[self.names.index(language)])
        return math.exp(-best / 10.0) if best < _UNKNOWN else 0.0


def languages_of(
    tags: Iterable[str | None], sample: Sequence[str], *, least: float = 0.03, least_read: float = 0.1
) -> tuple[str, ...]:
    """The languages of a catalog, most frequent first.

    tags: each item's own, where it says one. sample: texts of items, read where fewer than half of them say one. A
    language of less than `least` of the items (`least_read` of the texts: some read as what they are not) is left out,
    and so is one whose words nobody knows.
    """
    said = [primary(tag) for tag in tags]
    counts = Counter(name for name in said if name in known_languages())
    if said and sum(counts.values()) >= len(said) / 2:
        total = sum(counts.values())
        return tuple(name for name, found in counts.most_common() if found >= least * total)
    readers = {name: word_frequencies(name, small=True) for name in _TRIED}
    for value in sample:
        words = set(text.words(value.lower()))
        hits = {
            name: sum(math.log1p(1e6 * reader.get(word, 0.0)) for word in words) for name, reader in readers.items()
        }
        best = max(hits, key=lambda name: hits[name])
        if hits[best] > 0:
            counts[best] += 1
    total = sum(counts.values())
    return tuple(name for name, found in counts.most_common() if found >= least_read * total)


_TRIED = ("en", "de", "fr", "es", "it", "nl", "pt", "sv", "da", "pl", "cs", "fi", "ru", "tr", "ja", "zh")


def _encoded(words: Iterable[str]) -> tuple[npt.NDArray[np.uint32], I64]:
    found = list(words)
    indptr = np.zeros(len(found) + 1, np.int64)
    np.cumsum([len(word) for word in found], out=indptr[1:])
    return np.frombuffer("".join(found).encode("utf-32-le", "surrogatepass"), np.uint32), indptr
