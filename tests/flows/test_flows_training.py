"""What heads learn from: negatives by their rules, labels of what was shown, and the table of it all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from honeyguide.contracts import Interactions, Pool, Queries, Ragged
from honeyguide.errors import ConfigError
from honeyguide.flows.histories import Timelines
from honeyguide.flows.labels import ORIGINS, Negatives, Sample, _negatives, _taken
from honeyguide.flows.showings import _NEVER, Shown, conditioned_on_showing, moments_before, shown_lesson
from honeyguide.flows.training import check_names, label_column, read_rows, write_training_set
from honeyguide.ranking.heads import HeadConfig
from honeyguide.ranking.rows import Rows
from honeyguide.schema import columns as c
from honeyguide.schema.vocabulary import Vocabulary

HOUR = 3_600_000_000
ACTIONS = ("impression", "click", "buy")


def queries(n: int, had: list[list[int]] | None = None) -> Queries:
    nothing, zeros = Ragged.empty(n), np.zeros(n, np.int64)
    return Queries(
        nothing.indptr, nothing.values, np.zeros(0, np.float32), np.zeros(0, np.int64), zeros,
        np.full(n, -1, np.int32), Ragged.of(had) if had is not None else nothing,
    )  # fmt: skip


def pool_of(items: list[list[int]]) -> Pool:
    array = np.array(items, np.int32)
    return Pool(array, array.astype(np.float32), array[:, :, None].astype(np.float32), ("s",))


# ---------------------------------------------------------------------------------------------------- negatives


@given(st.integers(0, 2**32), st.integers(1, 6))
def test_pool_negatives_are_drawn_evenly_from_what_was_not_taken(seed: int, most: int) -> None:
    pool = pool_of([[0, 1, 2, 3, 4], [5, 6, 7, -1, -1], [3, 2, 1, 0, -1]])
    certain, outcomes = _taken(pool, {"h": np.isin(pool.items, [1, 2, 5, 6, 7])})
    assert [row[row >= 0].tolist() for row in certain] == [[1, 2], [5, 6, 7], [2, 1]]
    assert np.array_equal(outcomes["h"], certain >= 0)
    drawn, rate = _negatives(Negatives("pool", most), pool, certain, queries(3), np.random.default_rng(seed))
    for row, free in enumerate(([0, 3, 4], [], [0, 3])):
        got = drawn[row][drawn[row] >= 0].tolist()
        assert set(got) <= set(free)
        assert len(set(got)) == len(got) == min(most, len(free))
        if free:
            assert np.allclose(rate[row], min(1.0, most / len(free)))


@pytest.mark.parametrize("rule", ["uniform", "popularity"])
def test_catalog_negatives_come_as_often_as_their_rate_says(rule: str) -> None:
    chance = np.array([0.4, 0.3, 0.1, 0.1, 0.05, 0.05]) if rule == "popularity" else np.full(6, 1 / 6)
    n, most = 4_000, 3
    pool, certain = pool_of([[0]] * n), np.full((n, 1), 0, np.int32)
    rng, had = np.random.default_rng(1), [[1]] * n
    drawn, rate = _negatives(Negatives(rule, most, chance), pool, certain, queries(n, had), rng)  # type: ignore[arg-type]
    assert not np.isin(drawn, [0, 1]).any()  # taken, and had before
    assert all(len(set(row[row >= 0])) == (row >= 0).sum() for row in drawn)
    for item in range(2, 6):
        expected = 1.0 - (1.0 - chance[item]) ** most
        assert np.allclose(rate[drawn == item], expected)
        assert (drawn == item).any(axis=1).mean() == pytest.approx(expected, abs=0.03)
    assert rate[drawn == 5].mean() > 0


# ------------------------------------------------------------------------------------------------ what was shown


def shown_of(rows: list[tuple[int, int, int, int, int]], until: int) -> Shown:
    """(user, item, hour shown, request, hour of the click or -1), in order of time."""
    user, item, at, request, click = (np.array(column) for column in zip(*rows, strict=True))
    did = np.where(click >= 0, click * HOUR, _NEVER)[:, None]
    return Shown(
        user.astype(np.int32), item.astype(np.int32), at * HOUR, request.astype(np.int32), np.array([1], np.int16), did,
        np.full((len(rows), 1), np.nan, np.float32), tuple(f"r{n}" for n in range(request.max() + 1)), 24 * HOUR,
        until * HOUR, {}, {"surface": np.arange(len(rows))},
    )  # fmt: skip


CLICK = HeadConfig(name="click", action="click", given="impression")


def test_an_outcome_without_its_time_is_unknown_not_absent() -> None:
    shown = shown_of([(0, 0, 0, 0, -1), (0, 1, 0, 0, 5), (0, 2, 30, 1, -1), (0, 3, 30, 1, 31)], until=50)
    assert np.array_equal(shown.labels(CLICK, ACTIONS), [0.0, 1.0, np.nan, 1.0], equal_nan=True)
    # As it was at hour 25: the click of hour 5 was known, nothing after.
    early = shown.between(0, 25 * HOUR)
    assert np.array_equal(early.labels(CLICK, ACTIONS), [0.0, 1.0], equal_nan=True)
    at_four = shown.between(0, 4 * HOUR)
    assert np.isnan(at_four.labels(CLICK, ACTIONS)).all()


def test_a_head_may_ask_of_what_is_shown() -> None:
    assert conditioned_on_showing(CLICK)
    assert conditioned_on_showing(HeadConfig(name="x", action="click"))
    assert not conditioned_on_showing(HeadConfig(name="x", action="buy", given="click"))


def events_of(rows: list[tuple[int, int]]) -> Interactions:
    """(user, hour), in order of time."""
    user, hour = (np.array(column, np.int64) for column in zip(*rows, strict=True))
    n = len(rows)
    return Interactions(
        user.astype(np.int32), np.arange(n, dtype=np.int32), np.ones(n, np.int16), np.full(n, np.nan, np.float32),
        np.ones(n, np.float32), hour * HOUR, 4, max(n, 9), ACTIONS,
    )  # fmt: skip


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 9)), min_size=1, max_size=20),
    st.lists(st.tuples(st.integers(-1, 3), st.integers(-2, 12)), min_size=1, max_size=10),
)
def test_a_moment_knows_what_lies_strictly_before(events: list[tuple[int, int]], asked: list[tuple[int, int]]) -> None:
    events = sorted(events, key=lambda one: one[1])
    user, hour = np.array([u for u, _ in asked], np.int32), np.array([h for _, h in asked], np.int64)
    found = moments_before(Timelines(events_of(events)), user, hour * HOUR)
    expected = [sum(u == who and h < when for u, h in events) if who >= 0 else 0 for who, when in asked]
    assert found.position.tolist() == expected


def test_lists_as_shown_are_questions_with_their_slots() -> None:
    rows = [(0, 3, 2, 0, -1), (0, 4, 2, 0, 3), (0, 3, 2, 0, -1), (-1, 5, 4, 1, 5), (1, 6, 5, 2, -1), (1, 7, 6, 3, 7)]
    shown = shown_of(rows, until=100)
    lines = Timelines(events_of([(0, 0), (0, 1), (1, 5), (0, 9)]))
    head = HeadConfig(name="click", action="click", kind="rank")
    had = np.ones(len(ACTIONS) + 1, np.bool_)
    segments = np.arange(4, dtype=np.int32)
    lesson, there = shown_lesson(shown, lines, segments, [head], history=10, had=had, requests=10, seed=0)
    assert there == 3  # of the third request nothing was taken
    assert lesson.request.tolist() == [0, 1, 3]
    assert lesson.moments.user.tolist() == [0, -1, 1]
    assert [row[row >= 0].tolist() for row in lesson.items] == [[3, 4], [5], [7]]  # an item shown twice is one
    assert np.array_equal(lesson.outcomes["click"][0][:2], [0.0, 1.0])
    assert [np.diff(lesson.queries.indptr).tolist(), lesson.queries.segment.tolist()] == [[2, 0, 1], [0, -1, 1]]
    assert lesson.context["surface"].tolist() == [0, 3, 5]
    fewer, _ = shown_lesson(shown, lines, segments, [head], history=10, had=had, requests=2, seed=0)
    assert len(fewer.moments) == 2


# ------------------------------------------------------------------------------------------------------ the table


def sample(n: int, features: int, heads: int, seed: int) -> Sample:
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(n, features)).astype(np.float32)
    matrix[rng.random(matrix.shape) < 0.3] = np.nan
    matrix[rng.random(matrix.shape) < 0.1] = -0.0
    labels = rng.choice(np.array([0.0, 1.0, np.nan], np.float32), (n, heads))
    user = rng.integers(-1, 3, n).astype(np.int32)
    group = rng.integers(-1, 4, n)
    request = rng.integers(-1, 2, n).astype(np.int32)
    rows = Rows(matrix, labels, rng.integers(0, 10**15, n), group, user.astype(np.int64))
    origin = rng.integers(0, len(ORIGINS), n).astype(np.int16)
    return Sample(rows, user, rng.integers(0, 5, n).astype(np.int32), origin, rng.random(n).astype(np.float32), request)


HEADS = (HeadConfig(name="a", action="click"), HeadConfig(name="b", action="buy"))
USERS, ITEMS = Vocabulary(["u", "v'", "名"]), Vocabulary([f"i{n}" for n in range(5)])


@pytest.mark.parametrize("n", [0, 1, 500])
def test_rows_come_back_bit_for_bit_and_each_label_is_one_row(tmp_path: Path, n: int) -> None:
    made = sample(n, 3, 2, seed=n)
    shown = shown_of([(0, 0, 0, 0, -1), (0, 0, 0, 1, -1)], until=1)
    write_training_set(tmp_path, made, {"x": 1}, ("f", "g", "h"), HEADS, USERS, ITEMS, shown)
    table = pq.read_table(tmp_path / "training_set.parquet")
    assert table[c.LABEL_ID].to_pylist() == list(range(n))
    assert table.schema.names[:8] == [
        c.LABEL_ID, c.USER_ID, c.ITEM_ID, c.HAPPENED_AT, c.REQUEST_ID, c.GROUP_ID, c.ORIGIN, c.SAMPLING_RATE,
    ]  # fmt: skip
    back = read_rows(tmp_path, ("f", "g", "h"), HEADS, USERS, ITEMS)
    assert back.features.tobytes() == made.rows.features.tobytes()
    assert np.array_equal(back.labels, made.rows.labels, equal_nan=True)
    assert np.array_equal(back.at, made.rows.at)
    assert np.array_equal(back.group, made.rows.group)
    known = made.user >= 0
    assert np.array_equal(back.unit[known], made.user[known])
    assert not np.isin(back.unit[~known], range(len(USERS))).any()  # nobody known is no known person
    # Rows of nobody: those of one request (or question) are one person, others are not.
    requests = np.where(made.rows.group >= 0, 10 + made.rows.group, made.request)
    for one in np.flatnonzero(~known)[:20]:
        for two in np.flatnonzero(~known)[:20]:
            same = one == two or (requests[one] == requests[two] >= 0)
            assert (back.unit[one] == back.unit[two]) == same


def test_a_feature_may_not_be_named_like_another_column() -> None:
    check_names(("item_events", "blend"), HEADS)
    for name in (c.USER_ID, c.SAMPLING_RATE, label_column("a")):
        with pytest.raises(ConfigError, match="Rename"):
            check_names(("item_events", name), HEADS)
