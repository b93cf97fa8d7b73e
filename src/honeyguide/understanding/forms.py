"""Other forms of a word in the catalog: the same stem, a compound's parts, and the compounds that a word is part of.

The catalog's vocabulary is analysed once, when a build is loaded, with the analysis that every query gets: so index and
query agree without a second field in the index.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from honeyguide.understanding.compounds import COMPOUNDING, Splitter
from honeyguide.understanding.stems import LANGUAGES, stems

__all__ = ["Forms", "FormsConfig"]


class FormsConfig(BaseModel):
    """What else a word may look like in a text, and what such a form counts beside the word itself."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    stems: bool = True
    compounds: bool = True
    stem_weight: Annotated[float, Field(gt=0, le=1)] = 0.2  # of another form of the word
    part_weight: Annotated[float, Field(gt=0, le=1)] = 0.4  # of a compound's part, and of a compound of the word
    most_stems: Annotated[int, Field(ge=1, le=64)] = 8  # forms of a word that are searched for, heaviest first
    most_compounds: Annotated[int, Field(ge=1, le=256)] = 32
    min_letters: Annotated[int, Field(ge=2)] = 3  # shorter words have one form


class Forms:
    """Forms of words by language. Memory: about 200 bytes a word of the catalog and language."""

    def __init__(
        self,
        languages: Iterable[str],
        frequency: Callable[[str, str], float],
        weight: Callable[[str], float],
        config: FormsConfig | None = None,
        parts: Mapping[str, Mapping[str, Sequence[str]]] | None = None,
    ) -> None:
        """frequency: of a folded word in a language, by which compounds are split. weight: of a word in the catalog.
        parts: of words of the catalog that are split already, by language; then `add` splits no other word."""
        self._known = parts or {}
        self.config = config or FormsConfig()
        self._weight = weight
        self._splitters: dict[str, Splitter] = {}
        names = tuple(languages)
        for name in names:
            if name in COMPOUNDING and self.config.compounds:
                self._splitters[name] = Splitter(name, lambda word, name=name: frequency(word, name))  # type: ignore[misc]
        self._by_stem: dict[str, dict[str, list[str]]] = {
            name: {} for name in names if name in LANGUAGES and self.config.stems
        }
        self._of_part: dict[str, dict[str, list[str]]] = {name: {} for name in self._splitters}

    def __bool__(self) -> bool:
        return bool(self._by_stem or self._splitters)

    def add(self, words: Iterable[str]) -> None:
        """Analyse words of the catalog."""
        found = [word for word in words if len(word) >= self.config.min_letters and word.isalpha()]
        for name, table in self._by_stem.items():
            for word, stem in zip(found, stems(found, name), strict=True):
                table.setdefault(stem, []).append(word)
        for name in self._splitters:
            parts = self._of_part[name]
            for word in found:
                for part in self.parts(word, name):
                    parts.setdefault(self._stem(part, name), []).append(word)

    def knows(self, word: str) -> bool:
        """Whether the catalog has a word of the same stem."""
        return any(self._stem(word, name) in table for name, table in self._by_stem.items())

    def parts(self, word: str, language: str) -> list[str]:
        """A compound's parts, and the parts of these; [] for what is no compound, or where it is not asked."""
        if language not in self._splitters:
            return []
        found: list[str] = []
        waiting = list(self._split(word, language))
        while waiting:
            part = waiting.pop(0)
            found.append(part)
            waiting += self._split(part, language)
        return found

    def _split(self, word: str, language: str) -> Sequence[str]:
        known = self._known.get(language, {})
        if word in known:
            return known[word]
        # A word of the catalog that stands not among the compounds is none.
        return () if known and self._weight(word) else self._splitters[language].split(word)

    def stems(self, word: str, language: str) -> list[tuple[str, float]]:
        """Words of the catalog with the same stem, itself left out, heaviest first."""
        if language not in self._by_stem or len(word) < self.config.min_letters:
            return []
        same = self._by_stem[language].get(self._stem(word, language), ())
        return self._heaviest(word, same, self.config.most_stems, self.config.stem_weight)

    def compounds(self, word: str, language: str) -> list[tuple[str, float]]:
        """The parts of a compound, and the catalog's compounds that the word is part of."""
        if language not in self._splitters or len(word) < self.config.min_letters:
            return []
        weight = self.config.part_weight
        parts = [(part, weight) for part in self.parts(word, language)]
        for part, _ in list(parts):
            parts += [(form, weight * share) for form, share in self.stems(part, language)]
        whole = self._of_part[language].get(self._stem(word, language), ())
        return parts + self._heaviest(word, whole, self.config.most_compounds, weight)

    def _stem(self, word: str, language: str) -> str:
        return stems([word], language)[0] if language in self._by_stem else word

    def _heaviest(self, word: str, found: Iterable[str], most: int, weight: float) -> list[tuple[str, float]]:
        others = sorted({one for one in found if one != word}, key=lambda one: (-self._weight(one), one))
        return [(one, weight) for one in others[:most]]
