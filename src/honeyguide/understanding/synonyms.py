"""Synonyms: what a team wrote into a file, and what logs and texts propose for it. Nothing proposed is ever applied.

The file holds a rule a line, as search engines write them: `sofa, couch, settee` (each stands for the others) or
`tv, telly => television` (the left stands for the right, not back); `#` begins a remark.
"""

from __future__ import annotations

import csv
import io
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from honeyguide.contracts import Encoder
from honeyguide.errors import DataError
from honeyguide.kernels import text
from honeyguide.understanding.lexicon import STOP

__all__ = [
    "Proposal", "Refused", "Rules", "SynonymsConfig", "from_vectors", "mine", "parse", "read_proposals", "rule",
    "write_proposals",
]  # fmt: skip

_HEADER = ("accept", "word", "synonym", "score", "from", "evidence")
_YES = frozenset({"yes", "y", "x", "1", "true", "ja", "oui", "si"})
_MOST_WORDS = 4


class SynonymsConfig(BaseModel):
    """How synonyms count, and what is proposed. file, proposals: beside `honeyguide.toml`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    on: bool = True
    file: str = "synonyms.txt"
    proposals: str = "synonyms.proposed.csv"
    weight: Annotated[float, Field(gt=0, le=1)] = 0.8  # of a synonym beside the word itself
    least_people: Annotated[int, Field(ge=1)] = 20  # whose searches led to the same items, before a pair is proposed
    least_overlap: Annotated[float, Field(gt=0, le=1)] = 0.2  # cosine of the items that two words lead to
    least_alike: Annotated[float, Field(gt=0, le=1)] = 0.75  # cosine of two words' vectors
    most: Annotated[int, Field(ge=1)] = 500  # proposals at a time, best first


@dataclass(frozen=True, slots=True)
class Refused:
    """A line of the file that is no rule."""

    line: int
    reason: str


@dataclass(frozen=True, slots=True)
class Proposal:
    """Two words that may mean the same, why one may think so, and how sure."""

    word: str
    synonym: str
    score: float
    source: str  # log, vectors
    evidence: str
    accept: bool = False


class Rules:
    """What stands for what: phrases of up to four folded words."""

    def __init__(self, pairs: Mapping[str, Sequence[str]] | None = None) -> None:
        self._of = {left: tuple(rights) for left, rights in (pairs or {}).items()}
        self.words = frozenset(word for left in self._of for word in left.split())
        """Every word that a rule begins with: nobody misspelt it."""
        self._longest = max((left.count(" ") + 1 for left in self._of), default=0)

    def __len__(self) -> int:
        return len(self._of)

    def items(self) -> Iterable[tuple[str, tuple[str, ...]]]:
        """Every name with its synonyms."""
        return self._of.items()

    def of(self, phrase: str) -> tuple[str, ...]:
        """Synonyms of a folded word or phrase."""
        return self._of.get(phrase, ())

    def found(self, tokens: Sequence[str]) -> list[tuple[int, int, tuple[str, ...]]]:
        """First word, word after the last, synonyms: of every phrase of a query that has some, longest first."""
        hits = []
        for size in range(min(self._longest, len(tokens)), 0, -1):
            for at in range(len(tokens) - size + 1):
                rights = self._of.get(" ".join(tokens[at : at + size]))
                if rights:
                    hits.append((at, at + size, rights))
        return hits


def parse(lines: Iterable[str]) -> tuple[Rules, list[Refused]]:
    """Rules of a file, and the lines that are none with the reason."""
    pairs: dict[str, dict[str, None]] = defaultdict(dict)
    refused: list[Refused] = []
    for number, line in enumerate(lines, 1):
        rule_text = line.partition("#")[0].strip()
        if not rule_text:
            continue
        left, arrow, right = rule_text.partition("=>")
        names = [_phrase(one) for one in left.split(",")]
        others = [_phrase(one) for one in right.split(",")] if arrow else names
        if not all(names) or not all(others):
            refused.append(Refused(number, "a name is empty"))
        elif arrow and "=>" in right:
            refused.append(Refused(number, "more than one =>"))
        elif not arrow and len(set(names)) < 2:
            refused.append(Refused(number, "one name alone: write `sofa, couch` or `tv => television`"))
        elif any(len(one.split()) > _MOST_WORDS for one in (*names, *others)):
            refused.append(Refused(number, f"a name of more than {_MOST_WORDS} words"))
        else:
            for name in names:
                pairs[name].update((other, None) for other in others if other != name)
    return Rules({name: tuple(others) for name, others in pairs.items() if others}), refused


def rule(words: Sequence[str]) -> str:
    """A line of the file that says that these mean the same."""
    return ", ".join(words)


def mine(
    log: Iterable[tuple[str, str, float]], config: SynonymsConfig | None = None, known: Rules | None = None
) -> list[Proposal]:
    """Pairs of words whose searches lead to the same items, best first; pairs that are known already left out.

    log: query, item, number of people who typed it and took the item. Words of one query are never proposed for each
    other, nor forms that differ by an ending. Score: cosine of the words' items, weighed by how few words lead to each.
    """
    config, known = config or SynonymsConfig(), known or Rules()
    items: dict[str, Counter[str]] = defaultdict(Counter)
    people: Counter[str] = Counter()
    together: set[tuple[str, str]] = set()
    for query, item, count in log:
        words = sorted({word for word in _words(query) if len(word) > 2 and word not in STOP and not word.isdigit()})
        for at, word in enumerate(words):
            items[word][item] += count  # type: ignore[assignment]
            people[word] += count  # type: ignore[assignment]
            together.update((word, other) for other in words[at + 1 :])
    told = [word for word in items if people[word] >= config.least_people]
    spread = Counter(item for word in told for item in items[word])
    leads: dict[str, list[str]] = defaultdict(list)
    weighed: dict[str, dict[str, float]] = {}
    for word in told:
        vector = {
            item: math.sqrt(count) * math.log(1 + len(told) / spread[item]) for item, count in items[word].items()
        }
        size = math.sqrt(sum(value * value for value in vector.values()))
        weighed[word] = {item: value / size for item, value in vector.items()} if size else {}
        for item in vector:
            leads[item].append(word)
    scores: dict[tuple[str, str], float] = defaultdict(float)
    for item, words in leads.items():
        for at, first in enumerate(sorted(words)):
            for second in sorted(words)[at + 1 :]:
                scores[first, second] += weighed[first][item] * weighed[second][item]
    found = []
    for (first, second), score in scores.items():
        if score < config.least_overlap or (first, second) in together or _same_word(first, second):
            continue
        if second in known.of(first) or first in known.of(second):
            continue
        shared = len(items[first].keys() & items[second].keys())
        evidence = f"{shared} items in common, {people[first]:g} and {people[second]:g} people"
        found.append(Proposal(first, second, round(score, 3), "log", evidence))
    return sorted(found, key=lambda one: (-one.score, one.word, one.synonym))[: config.most]


def from_vectors(
    words: Sequence[str], encoder: Encoder, config: SynonymsConfig | None = None, known: Rules | None = None
) -> list[Proposal]:
    """Pairs of words whose vectors are alike, best first. words: the most frequent ones; their square is computed."""
    config, known = config or SynonymsConfig(), known or Rules()
    plain = [word for word in words if len(word) > 3 and word.isalpha() and word not in STOP]
    if len(plain) < 2:
        return []
    vectors = encoder.encode(plain)
    found = []
    for start in range(0, len(plain), 1_000):
        alike = vectors[start : start + 1_000] @ vectors.T
        for row, column in np.argwhere(alike >= config.least_alike).tolist():
            first, second = plain[start + row], plain[column]
            if start + row >= column or _same_word(first, second):
                continue
            if second in known.of(first) or first in known.of(second):
                continue
            score = round(float(alike[row, column]), 3)
            found.append(Proposal(first, second, score, "vectors", f"alike to {encoder.name}"))
    return sorted(found, key=lambda one: (-one.score, one.word, one.synonym))[: config.most]


def write_proposals(path: Path, proposals: Sequence[Proposal]) -> None:
    """Write a table in which somebody puts `yes` into the first column."""
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    table.writerow(_HEADER)
    for one in proposals:
        table.writerow(["yes" if one.accept else "", one.word, one.synonym, one.score, one.source, one.evidence])
    path.write_text(out.getvalue(), encoding="utf-8")


def read_proposals(path: Path) -> list[Proposal]:
    """Read what `write_proposals` wrote and somebody edited; DataError naming the line that cannot be read."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.reader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            expected=f"proposals in {path.name}", got=str(error), do="Run `honeyguide synonyms propose`."
        ) from error
    if not rows or tuple(rows[0]) != _HEADER:
        raise DataError(
            expected=f"the columns {', '.join(_HEADER)} in {path.name}",
            got=", ".join(rows[0]) if rows else "an empty file",
            do="Run `honeyguide synonyms propose`.",
        )
    found = []
    for number, row in enumerate(rows[1:], 2):
        if not row:
            continue
        try:
            accept, word, synonym, score, source, evidence = row
            found.append(Proposal(word, synonym, float(score), source, evidence, accept.strip().lower() in _YES))
        except ValueError as error:
            raise DataError(
                expected=f"{len(_HEADER)} values with a number as the score in line {number} of {path.name}",
                got=",".join(row)[:100],
                do="Mend the line or remove it.",
            ) from error
    return found


def _phrase(value: str) -> str:
    return " ".join(_words(value))


def _words(value: str) -> list[str]:
    return text.words(text.fold(value))


def _same_word(first: str, second: str) -> bool:
    """Whether two words differ by no more than a spelling or an ending: no synonyms, but what others look after."""
    short, long = sorted((first, second), key=len)
    return long.startswith(short[: max(4, len(short) - 2)]) or int(
        text.osa_distances(short, *text.encode_words([long]), 2)[0]
    ) <= (2 if len(short) > 5 else 1)
