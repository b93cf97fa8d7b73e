"""Candidates, histories and context as the numbers that the network reads: the same code when it learns and serves."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from honeyguide.contracts import F32, I32, I64, Ragged, RankInput

__all__ = ["AGES", "HOURS", "RANKS", "SIGNS", "WEEKDAYS", "Encoded", "Encoder", "Ids", "known_codes", "take_requests"]

AGES = 24
"""Ages of events in powers of two, from below two minutes to above 16 years."""
RANKS = 16
"""Places from the newest event on; the last one holds all that are older."""
SIGNS = 3
"""What is known of an event beside its item and age: weight, value, whether it has a value."""
HOURS, WEEKDAYS = 24, 7
_MINUTE_US = 60_000_000
_HOUR_US = 3_600_000_000


@dataclass(frozen=True)
class Ids:
    """Which row of a table stands for an id. Row 0 stands for every id that is unknown or too rare."""

    rows: I32 | None  # by id: its row; None: hashed
    size: int  # rows of the table

    @classmethod
    def dictionary(cls, ids: I32, n: int, min_count: int) -> Ids:
        """A row for each of `n` ids that is among `ids` (-1: none) `min_count` times, the most frequent first."""
        counts = np.bincount(ids[ids >= 0], minlength=n)
        order = np.argsort(-counts, kind="stable")
        kept = order[counts[order] >= min_count]
        rows = np.zeros(n, np.int32)
        rows[kept] = np.arange(1, len(kept) + 1)
        return cls(rows, len(kept) + 1)

    @classmethod
    def hashed(cls, buckets: int) -> Ids:
        """`buckets` rows that ids share."""
        return cls(None, buckets + 1)

    def of(self, ids: I32) -> I64:
        """Rows of ids, same shape."""
        if self.rows is None:
            # The finaliser of splitmix64: neighbours land far from each other.
            mixed = ids.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
            mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            mixed ^= mixed >> np.uint64(31)
            bucket = (mixed % np.uint64(self.size - 1)).astype(np.int64) + 1
            return np.where(ids >= 0, bucket, 0)
        known = (ids >= 0) & (ids < len(self.rows))
        if not len(self.rows):
            return np.zeros(ids.shape, np.int64)
        return np.where(known, self.rows[np.where(known, ids, 0)], 0).astype(np.int64)


@dataclass(frozen=True)
class Encoded:
    """Requests as the network reads them; `length` is that of the longest history, at least 1."""

    history: I64  # (requests, length) rows of the items' table, oldest first, padded in front
    age: I64  # (requests, length, 2) how long ago, 0..AGES - 1, and the place from the newest on, 0..RANKS - 1
    sign: F32  # (requests, length, SIGNS)
    mask: F32  # (requests, length) 1 where there is an event
    user: I64  # (requests,) rows of the people's table
    context: I64  # (requests, facts) rows of each fact's table
    seeds: Ragged  # rows of the items' table


class _Told(msgspec.Struct, frozen=True):
    sequence: int
    clock: bool
    context: list[str]
    sizes: tuple[int, int]
    hashed: bool
    mean: float
    spread: float
    seeds: bool


@dataclass(frozen=True)
class Encoder:
    """How ids, facts of the context and histories become numbers."""

    items: Ids
    users: Ids
    context: tuple[str, ...]
    codes: tuple[I64, ...]  # of each fact: the codes that have a row, ascending; others have row 0
    clock: bool
    sequence: int
    mean: float  # of the values of events
    spread: float
    seeds: bool  # whether some request that it learnt from had seeds; else they are not looked at

    @property
    def cardinalities(self) -> tuple[int, ...]:
        """Rows of each fact's table, in the order of the columns of `Encoded.context`."""
        clock = (HOURS, WEEKDAYS) if self.clock else ()
        return (*(len(codes) + 1 for codes in self.codes), *clock)

    def requests(self, told: RankInput) -> Encoded:
        """All requests of an input."""
        histories, n = told.histories, len(told.users)
        lengths = np.minimum(np.diff(histories.indptr), self.sequence)
        length = max(int(lengths.max(initial=0)), 1)
        if n == 1:
            flat = np.arange(histories.indptr[1] - lengths[0], histories.indptr[1])[None, :]
            mask = np.ones((1, len(flat[0])), np.float32)
            if not lengths[0]:
                flat, mask = np.zeros((1, 1), np.int64), np.zeros((1, 1), np.float32)
        else:
            flat = histories.indptr[1:, None] - length + np.arange(length)
            mask = (np.arange(length) >= length - lengths[:, None]).astype(np.float32)
            flat = np.where(mask > 0, flat, 0)
        there = mask > 0
        if len(histories.values):
            items, at = histories.values[flat], told.history_at[flat]
            weight, value = told.history_weights[flat], told.history_values[flat]
        else:
            items, at = np.full(flat.shape, -1, np.int32), np.zeros(flat.shape, np.int64)
            weight, value = np.zeros(flat.shape, np.float32), np.full(flat.shape, np.nan, np.float32)
        minutes = np.maximum(told.at_us[:, None] - at, 0) // _MINUTE_US
        # The exponent of 1 + minutes, exactly.
        age = np.minimum(np.frexp((minutes + 1).astype(np.float64))[1] - 1, AGES - 1)
        rank = np.minimum(np.arange(flat.shape[1] - 1, -1, -1), RANKS - 1)
        sign = np.zeros((*flat.shape, SIGNS), np.float32)
        valued = ~np.isnan(value)
        sign[..., 0] = np.clip(weight, -3.0, 3.0)
        sign[..., 1] = np.where(valued, np.clip((value - self.mean) / self.spread, -3.0, 3.0), 0.0)
        sign[..., 2] = valued
        return Encoded(
            history=np.where(there, self.items.of(np.where(there, items, -1)), 0),
            age=np.stack([np.where(there, age, 0), np.broadcast_to(rank, age.shape)], axis=2).astype(np.int64),
            sign=sign * mask[..., None],
            mask=mask,
            user=self.users.of(told.users),
            context=self._facts(told, n),
            seeds=Ragged(told.seeds.indptr, self.items.of(told.seeds.values).astype(np.int32))
            if self.seeds
            else Ragged.empty(n),
        )

    def _facts(self, told: RankInput, n: int) -> I64:
        out = np.zeros((n, len(self.cardinalities)), np.int64)
        for column, (name, known) in enumerate(zip(self.context, self.codes, strict=True)):
            if name in told.context and len(known):
                code = told.context[name]
                place = np.minimum(np.searchsorted(known, code), len(known) - 1)
                out[:, column] = np.where(known[place] == code, place + 1, 0)
        if self.clock:
            hours = told.at_us // _HOUR_US
            out[:, -2] = hours % HOURS
            out[:, -1] = hours // HOURS % WEEKDAYS
        return out

    def save(self, folder: Path) -> None:
        """Write into an existing folder."""
        for name, ids in (("items", self.items), ("users", self.users)):
            if ids.rows is not None:
                np.save(folder / f"rows.{name}.npy", ids.rows)
        for name, codes in zip(self.context, self.codes, strict=True):
            np.save(folder / f"codes.{self.context.index(name)}.npy", codes)
        told = _Told(
            self.sequence, self.clock, list(self.context), (self.items.size, self.users.size), self.items.rows is None,
            self.mean, self.spread, self.seeds,
        )  # fmt: skip
        (folder / "encoder.json").write_bytes(msgspec.json.encode(told))

    @classmethod
    def load(cls, folder: Path) -> Encoder:
        """Read what `save` wrote."""
        told = msgspec.json.decode((folder / "encoder.json").read_bytes(), type=_Told)

        def ids(name: str, size: int) -> Ids:
            return Ids(None if told.hashed else np.asarray(np.load(folder / f"rows.{name}.npy", mmap_mode="r")), size)

        codes = tuple(np.load(folder / f"codes.{place}.npy") for place in range(len(told.context)))
        return cls(
            ids("items", told.sizes[0]), ids("users", told.sizes[1]), tuple(told.context), codes, told.clock,
            told.sequence, told.mean, told.spread, told.seeds,
        )  # fmt: skip


def take_requests(told: RankInput, chosen: I64, pointers: I64) -> tuple[RankInput, I64]:
    """The chosen requests with their candidates, in that order, and the candidates' places in `told`.

    pointers: (requests + 1,) where the candidates of each request begin.
    """
    counts = np.diff(pointers)[chosen]
    rows = _ranges(pointers[:-1][chosen], counts)
    lengths = np.diff(told.histories.indptr)[chosen]
    events = _ranges(told.histories.indptr[:-1][chosen], lengths)
    seed_lengths = np.diff(told.seeds.indptr)[chosen]
    seeds = _ranges(told.seeds.indptr[:-1][chosen], seed_lengths)
    return RankInput(
        features=np.asarray(told.features[rows]),
        request=np.repeat(np.arange(len(chosen), dtype=np.int32), counts),
        items=np.asarray(told.items[rows]),
        users=np.asarray(told.users[chosen]),
        at_us=np.asarray(told.at_us[chosen]),
        histories=Ragged(_pointers(lengths), np.asarray(told.histories.values[events])),
        history_at=np.asarray(told.history_at[events]),
        history_weights=np.asarray(told.history_weights[events]),
        history_values=np.asarray(told.history_values[events]),
        seeds=Ragged(_pointers(seed_lengths), np.asarray(told.seeds.values[seeds])),
        context={name: np.asarray(codes[chosen]) for name, codes in told.context.items()},
    ), rows


def _pointers(lengths: I64) -> I64:
    found = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=found[1:])
    return found


def _ranges(starts: I64, lengths: I64) -> I64:
    """start .. start + length of every row, end to end."""
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    return np.arange(total, dtype=np.int64) + np.repeat(starts - ends + lengths, lengths)


def known_codes(codes: I64, min_count: int) -> I64:
    """The codes that appear often enough to have a row, ascending; 0 (nothing told) is none."""
    values, counts = np.unique(codes, return_counts=True)
    return values[(counts >= min_count) & (values != 0)].astype(np.int64)
