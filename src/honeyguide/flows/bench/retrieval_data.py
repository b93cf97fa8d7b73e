"""A stranger's folder as questions: `interactions.parquet` (docs/retrieval.md), and `items.parquet` if it is there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from honeyguide.contracts import I32, I64, BoolArray, CatalogView, Interactions, Queries, Ragged
from honeyguide.errors import DataError
from honeyguide.schema import columns as c
from honeyguide.schema.vocabulary import Vocabulary

__all__ = ["Asked", "Folder"]

SPLIT, TRAIN, VALID, TEST = "split", "train", "valid", "test"
ORDERS = ("timestamp", "position")
MOST = 10_000
"""People that settings are judged on at most."""


@dataclass(frozen=True)
class Asked:
    """Questions and their right answers."""

    queries: Queries
    relevant: Ragged
    people: I64  # rows


@dataclass(frozen=True)
class Folder:
    """A dataset with fixed parts. Rows are coded; seen items are masked; nobody without a right answer is asked."""

    name: str
    user: I32
    item: I32
    at: I64  # place in the order of time, or of the file where the folder has none
    part: npt.NDArray[np.int8]  # 0 train, 1 valid, 2 test
    n_users: int
    n_items: int
    ordered: bool
    own_valid: bool  # whether the folder brought its validation part
    catalog: CatalogView

    @classmethod
    def read(cls, folder: Path, *, seed: int = 0) -> Folder:
        """Raises DataError where a column is missing, a part is empty, or ids are null."""
        path = folder / "interactions.parquet"
        table = pq.read_table(path)
        missing = [name for name in (c.USER_ID, c.ITEM_ID, SPLIT) if name not in table.column_names]
        if missing:
            raise DataError(
                expected=f"the columns {c.USER_ID}, {c.ITEM_ID} and {SPLIT} in {path}", got=f"no {', '.join(missing)}",
                do="Rename its columns; docs/retrieval.md lists them.",
            )  # fmt: skip
        if table[c.USER_ID].null_count or table[c.ITEM_ID].null_count:
            raise DataError(expected=f"ids in every row of {path}", got="rows without", do="Leave those rows out.")
        part = np.full(table.num_rows, -1, np.int8)
        for number, name in enumerate((TRAIN, VALID, TEST)):
            part[pc.equal(table[SPLIT], name).to_numpy(zero_copy_only=False)] = number
        if (part < 0).any() or not (part == 0).any() or not (part == 2).any():
            found = ", ".join(f"{v}" for v in pc.unique(table[SPLIT]).to_pylist())
            raise DataError(
                expected=f"rows of {TRAIN} and {TEST} in {SPLIT} of {path}, {VALID} beside them if there is",
                got=found or "none", do="Mark each row with its part.",
            )  # fmt: skip
        user, users = _coded(table[c.USER_ID])
        item, items = _coded(table[c.ITEM_ID])
        order = next((name for name in ORDERS if name in table.column_names), None)
        at = np.arange(len(user), dtype=np.int64)
        if order is not None:
            # ranks, ties in the order of the file: microseconds, seconds and positions then mean the same
            values = table[order].to_numpy(zero_copy_only=False)
            at[np.argsort(values, kind="stable")] = np.arange(len(values))
        extra = folder / "items.parquet"
        catalog = _catalog(items, pq.read_table(extra) if extra.exists() else None)
        own_valid = bool((part == 1).any())
        if not own_valid:
            part = _cut(part, user, at, order is not None, seed)
        return cls(folder.name, user, item, at, part, len(users), len(items),
                   order is not None, own_valid, catalog)  # fmt: skip

    def events(self, *parts: int) -> Interactions:
        """The events of some parts, oldest first."""
        which = np.flatnonzero(np.isin(self.part, parts))
        if self.ordered:
            which = which[np.argsort(self.at[which])]
        n = len(which)
        # a step of the order is a second: what decays by days is off in these data, what decays by steps is on
        return Interactions(
            self.user[which], self.item[which], np.zeros(n, np.int16), np.full(n, np.nan, np.float32),
            np.ones(n, np.float32), self.at[which] * 1_000_000, self.n_users, self.n_items, ("interaction",),
        )  # fmt: skip

    def ask(self, past: tuple[int, ...], answers: int, *, most: int | None = None, seed: int = 0) -> Asked:
        """The people with answers in a part (at most `most` of them), with their past, all of it masked."""
        history = self._by_user(np.isin(self.part, past))
        wanted = self._by_user(self.part == answers)
        people = np.flatnonzero(np.diff(wanted.indptr) > 0)
        if most is not None and len(people) > most:
            people = np.sort(np.random.default_rng(seed).choice(people, most, replace=False))
        asked, right = _rows(history, people), _rows(wanted, people)
        items = self.item[asked.values]
        now = (int(self.at.max(initial=0)) + 1) * 1_000_000
        queries = Queries(
            asked.indptr, items, np.ones(len(items), np.float32), self.at[asked.values] * 1_000_000,
            np.full(len(people), now, np.int64), np.full(len(people), -1, np.int32),
            Ragged(asked.indptr, items.copy()),
        )  # fmt: skip
        return Asked(queries, Ragged(right.indptr, self.item[right.values]), people)

    def _by_user(self, which: BoolArray) -> Ragged:
        """Places of the chosen events by person, oldest first."""
        places = np.flatnonzero(which)
        places = places[np.lexsort((self.at[places], self.user[places]))]
        indptr = np.searchsorted(self.user[places], np.arange(self.n_users + 1)).astype(np.int64)
        return Ragged(indptr, places.astype(np.int32))


def _rows(ragged: Ragged, which: I64) -> Ragged:
    return Ragged.of([ragged.row(int(one)) for one in which])


def _coded(column: pa.ChunkedArray) -> tuple[I32, list[str]]:
    """Codes in order of first appearance, and the ids as text."""
    coded = pc.dictionary_encode(column.combine_chunks())
    coded = coded.combine_chunks() if isinstance(coded, pa.ChunkedArray) else coded
    ids = coded.dictionary.cast(pa.string()).to_pylist()
    return coded.indices.to_numpy(zero_copy_only=False).astype(np.int32), ids


def _cut(part: npt.NDArray[np.int8], user: I32, at: I64, ordered: bool, seed: int) -> npt.NDArray[np.int8]:
    """A validation part out of train, of each person the share that test has of all: the newest, or any at random.

    So that people with few events count as they do in test.
    """
    part = part.copy()
    train = np.flatnonzero(part == 0)
    when = at[train] if ordered else np.random.default_rng(seed).permutation(len(train))
    order = train[np.lexsort((when, user[train]))]
    first = np.searchsorted(user[order], user[order])
    after = np.searchsorted(user[order], user[order], side="right")
    share = float((part == 2).sum() / len(part))
    newest = np.maximum(np.round((after - first) * min(share, 0.5)), 1)
    part[order[(after - np.arange(len(order)) <= newest) & (after - first > 1)]] = 1
    return part


def _catalog(items: list[str], table: pa.Table | None) -> CatalogView:
    """What is known of the items: every list column's values, and every short text's, as categories."""
    n = len(items)
    names: list[str] = []
    codes: list[I32] = []
    rows: list[I32] = []
    if table is not None and c.ITEM_ID in table.column_names:
        place = Vocabulary(items).rows(table[c.ITEM_ID].cast(pa.string()).to_pylist())
        for name in table.column_names:
            column = table[name].combine_chunks()
            if not (pa.types.is_list(column.type) or pa.types.is_large_list(column.type)):
                continue
            coded = pc.dictionary_encode(column.flatten())
            parents = pc.list_parent_indices(column).to_numpy(zero_copy_only=False)
            rows.append(place[parents].astype(np.int32))
            codes.append(coded.indices.to_numpy(zero_copy_only=False).astype(np.int32) + len(names))
            names += [f"{name}: {value}" for value in coded.dictionary.to_pylist()]
    item, code = (np.concatenate(rows), np.concatenate(codes)) if rows else (np.zeros(0, np.int32),) * 2
    item, code = item[item >= 0], code[item >= 0]
    order = np.argsort(item, kind="stable")
    category = Ragged(np.searchsorted(item[order], np.arange(n + 1)).astype(np.int64), code[order])
    unknown = np.full(n, np.nan, np.float32)
    return CatalogView(
        Vocabulary(items), [""] * n, [""] * n, category, names, Ragged.empty(n), [], np.full(n, -1, np.int32), [],
        unknown, unknown, np.ones(n, np.bool_), np.zeros(n, np.int64),
    )  # fmt: skip
