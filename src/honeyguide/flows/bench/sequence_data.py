"""Leave-one-out questions of `bench sequence`: MovieLens 1M as papers cut it, and folders with a fixed test part."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from honeyguide.contracts import I32, Candidates, CatalogView, Interactions, Queries, Ragged, Source
from honeyguide.flows.bench.retrieval_data import Folder

__all__ = ["LeftOut", "data_folder", "figures", "left_out", "of_folder"]

LEAST = 5
"""Events that an item must have."""
_TOP = 10


@dataclass(frozen=True)
class LeftOut:
    """What is learnt from, and one question with one right answer for each person."""

    name: str
    events: Interactions
    catalog: CatalogView
    queries: Queries
    answer: I32


def data_folder(data: Path | None) -> Path:
    """Where benchmark data lies."""
    return data or Path(os.environ.get("HONEYGUIDE_BENCH_DATA", "../shared/data"))


def left_out(name: str, events: Interactions, catalog: CatalogView) -> LeftOut:
    """Everybody's last event is asked for, of items with `LEAST` events; ties of time keep the order of the file.

    The question is asked at the moment of what it asks for; a model with `clock` off does not look at it.
    """
    keep = np.bincount(events.item, minlength=events.n_items)[events.item] >= LEAST
    events = events.take(keep)
    order = np.argsort(events.user, kind="stable")  # the events are sorted by time already
    ends = np.searchsorted(events.user[order], np.arange(events.n_users + 1))
    some = np.flatnonzero(np.diff(ends) > 1)
    last = order[ends[some + 1] - 1]
    train = np.ones(len(events), np.bool_)
    train[last] = False
    rows = [order[ends[person] : ends[person + 1] - 1] for person in some]
    past = Ragged.of([row.astype(np.int32) for row in rows])
    n = len(some)
    queries = Queries(
        past.indptr, events.item[past.values], np.ones(len(past.values), np.float32), events.at[past.values],
        events.at[last], np.full(n, -1, np.int32), Ragged(past.indptr, events.item[past.values]),
    )  # fmt: skip
    return LeftOut(name, events.take(train), catalog, queries, events.item[last])


def of_folder(folder: Folder) -> LeftOut:
    """A folder whose test part holds one event of each person: learnt from train alone, asked after train and valid."""
    asked = folder.ask((0, 1), 2)
    answer = asked.relevant.values[asked.relevant.indptr[:-1]]
    return LeftOut(folder.name, folder.events(0), folder.catalog, asked.queries, answer)


def figures(source: Source, asked: LeftOut, *, masked: bool) -> dict[str, float]:
    """hr@10 and ndcg@10 over the whole catalog; ties go to the lower row."""
    queries = asked.queries
    if not masked:
        queries = replace(queries, exclude=Ragged.empty(len(queries)))
    return judged(source.retrieve(queries, _TOP), asked.answer)


def judged(found: Candidates, answer: I32) -> dict[str, float]:
    """Of lists with one right answer each."""
    hit = found.items[:, :_TOP] == answer[:, None]
    gain = 1.0 / np.log2(np.arange(2, 2 + hit.shape[1]))
    return {"hr@10": float(hit.any(axis=1).mean()), "ndcg@10": float((hit * gain).sum(axis=1).mean())}
