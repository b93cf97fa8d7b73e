"""Timelines against plain loops."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from honeyguide.contracts import Interactions
from honeyguide.flows.histories import Timelines

events = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6), st.integers(0, 5)), min_size=1, max_size=40)


def interactions(rows: list[tuple[int, int, int]]) -> Interactions:
    rows = sorted(rows, key=lambda row: row[2])
    user, item, at = (np.array(column) for column in zip(*rows, strict=True))
    n = len(rows)
    return Interactions(
        user.astype(np.int32), item.astype(np.int32), (item % 2).astype(np.int16), np.arange(n, dtype=np.float32),
        np.ones(n, np.float32), at.astype(np.int64), 5, 7, ("buy", "view"),
    )  # fmt: skip


@given(events, st.integers(1, 4), st.integers(1, 4))
def test_histories_are_what_came_before(rows: list[tuple[int, int, int]], limit: int, horizon: int) -> None:
    data = interactions(rows)
    lines = Timelines(data)
    moments = lines.moments_of(np.arange(len(data)))
    queries = lines.queries(moments, np.zeros(5, np.int32), history=limit, had=np.array([True, False, False]))
    upcoming, told = lines.upcoming(moments, horizon)
    for e in range(len(data)):
        own = [j for j in range(len(data)) if data.user[j] == data.user[e]]
        before, after = [j for j in own if j < e], [j for j in own if j >= e][:horizon]
        assert list(queries.items[queries.indptr[e] : queries.indptr[e + 1]]) == [data.item[j] for j in before][-limit:]
        assert list(queries.exclude.row(e)) == [data.item[j] for j in before if data.item[j] % 2 == 0]
        assert list(upcoming.row(e)) == [data.item[j] for j in after]
        assert list(told[upcoming.indptr[e] : upcoming.indptr[e + 1]]) == after


@given(events, st.integers(0, 6))
def test_within_counts_what_follows_in_a_span(rows: list[tuple[int, int, int]], span: int) -> None:
    data = interactions(rows)
    lines = Timelines(data)
    counts = lines.within(lines.moments_of(np.arange(len(data))), span)
    for e in range(len(data)):
        own = [j for j in range(e, len(data)) if data.user[j] == data.user[e] and data.at[j] < data.at[e] + span]
        assert counts[e] == len(own)
