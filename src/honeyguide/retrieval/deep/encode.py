"""Histories and moments as whole numbers: alike where a source learns and where it answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from honeyguide.contracts import F32, I32, I64, BoolArray, Interactions, Queries
from honeyguide.retrieval.signals import signals

__all__ = ["Lines", "Moments", "lines_of", "newest", "unit"]

_GAPS = 36
_HOUR_US = 3_600_000_000
_ALONE = 1 + _GAPS + 24 + 7
"""Values of the clock: a gap that is unknown, gaps, hours, weekdays."""


@dataclass(frozen=True)
class Lines:
    """Events that say something, person by person, oldest first."""

    indptr: I64  # (people with events + 1,)
    item: I32
    at: I64
    context: dict[str, I64]
    user: I32  # (people with events,) rows
    n_items: int


def lines_of(interactions: Interactions) -> Lines:
    """The lines of all people. DataError as `retrieval.signals.signals`."""
    signals(interactions, other=0.0, use_weights=False)  # checks
    keep = np.flatnonzero(interactions.weight > 0)
    order = keep[np.lexsort((interactions.at[keep], interactions.user[keep]))]
    user, counts = np.unique(interactions.user[order], return_counts=True)
    return Lines(
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), interactions.item[order].astype(np.int32),
        interactions.at[order].astype(np.int64), {name: codes[order] for name, codes in interactions.context.items()},
        user.astype(np.int32), interactions.n_items,
    )  # fmt: skip


@dataclass(frozen=True)
class Moments:
    """What is known of the moment of a question, as rows of one table: row 0 says nothing, and others add up.

    The time since the last event in steps of half a power of two, the hour, the weekday, and the facts of `names`.
    """

    clock: bool
    names: tuple[str, ...]
    codes: tuple[I64, ...]  # of each name, the facts that have a row, ascending

    @classmethod
    def learnt(cls, names: Sequence[str], clock: bool, lines: Lines, least: int) -> Moments:
        """From events: facts seen `least` times have a row; names that no event tells of are left out."""
        kept, codes = [], []
        for name in names:
            found, counts = np.unique(lines.context.get(name, np.zeros(0, np.int64)), return_counts=True)
            found = found[(counts >= least) & (found != 0)]
            if len(found):
                kept.append(name)
                codes.append(found)
        return cls(clock, tuple(kept), tuple(codes))

    @property
    def size(self) -> int:
        """Rows of the table."""
        return 1 + _ALONE * self.clock + sum(len(codes) for codes in self.codes)

    @property
    def width(self) -> int:
        """Rows that a moment names."""
        return 3 * self.clock + len(self.names)

    @property
    def facts_from(self) -> int:
        """The first of these that is a fact."""
        return 3 * self.clock

    def of_lines(self, lines: Lines) -> I32:
        """(n, width) rows of the moment just before each event."""
        last = np.concatenate([[-1], lines.at[:-1]]) if len(lines.at) else lines.at
        last[lines.indptr[:-1]] = -1
        return self.rows(lines.at, last, lines.context)

    def rows(self, now: I64, last: I64, context: Mapping[str, I64]) -> I32:
        """(n, width) rows. now: (n,) microseconds; last: (n,) of the newest event before, below 0 if there is none."""
        n = len(now)
        out = np.zeros((n, self.width), np.int32)
        column, base = 0, 1
        if self.clock:
            gap_s = np.maximum(now - last, 0) / 1e6
            step = np.minimum(np.floor(np.log2(1.0 + gap_s) * 1.5), _GAPS - 1).astype(np.int32)
            out[:, 0] = base + np.where(last < 0, 0, 1 + step)
            hour = now // _HOUR_US
            out[:, 1] = base + 1 + _GAPS + hour % 24
            out[:, 2] = base + 1 + _GAPS + 24 + hour // 24 % 7
            column, base = 3, base + _ALONE
        for name, codes in zip(self.names, self.codes, strict=True):
            told = context.get(name)
            if told is not None:
                place = np.minimum(np.searchsorted(codes, told), len(codes) - 1)
                out[:, column] = np.where(codes[place] == told, base + place, 0)
            column, base = column + 1, base + len(codes)
        return out


def newest(queries: Queries, q: int, n_items: int, most: int) -> tuple[I32, I64]:
    """The newest `most` items of a question's history that are known and liked, oldest first, and when each was."""
    first, end = int(queries.indptr[q]), int(queries.indptr[q + 1])
    items, at = queries.items[first:end], queries.at[first:end]
    good: BoolArray = (items >= 0) & (items < n_items) & (at <= queries.now[q]) & (queries.weights[first:end] > 0)
    if not good.all():
        items, at = items[good], at[good]
    return items[-most:], at[-most:]


def unit(vectors: F32) -> F32:
    """Rows of length one; rows of nothing stay nothing."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.where(length > 0, length, 1.0)).astype(np.float32)
