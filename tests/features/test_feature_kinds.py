"""What the new kinds owe beyond their values: bounded memory, keeping, forgetting, and refusing nonsense."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from feature_oracle import BEGIN, DAY, N_ITEMS, Record, catalog, feature_sets, log_of, records

from honeyguide.contracts import RETRACT, Interactions, Queries, Ragged
from honeyguide.errors import ConfigError, DataError
from honeyguide.features.asof import EventStream
from honeyguide.features.definition import Embedding, Feature, FeatureSet
from honeyguide.features.online import OnlineState
from honeyguide.features.training_set import Requests, group_features
from honeyguide.kernels.codes import code64, text_codes
from honeyguide.kernels.hashing import normalised
from honeyguide.kernels.hashtable import EMPTY, rows_of

NOW = BEGIN + 30 * DAY
EMPTY_LOG = Interactions(
    np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0, np.int16), np.zeros(0, np.float32),
    np.zeros(0, np.float32), np.zeros(0, np.int64), 0, N_ITEMS, (),
)  # fmt: skip
VECTORS = np.array([[1, 0, 0], [0, 1, 0], [0.6, 0.8, 0], [0, 0, 0]], np.float32)  # item 3 has none, item 4 no row


def read(state: OnlineState, at: int, user: int = 1) -> np.ndarray:
    past = state.history(user, max(state.features.history_limit, 1), at)
    out = np.empty((N_ITEMS, len(state.features)), np.float64)
    context = {"surface": code64("home"), "query": code64("blau")}
    return state.read(
        user, np.arange(N_ITEMS, dtype=np.int32), at, past.items, past.weights, past.at, out, context=context
    )


# ------------------------------------------------------------------------------------------------- embeddings

pasts = st.lists(
    st.tuples(
        st.integers(-1, N_ITEMS), st.sampled_from([-1.0, 0.0, 0.5, 1.0]), st.sampled_from([-9 * DAY, -DAY, -5, -1, 0])
    ),
    max_size=10,
).map(lambda rows: sorted(((item, weight, NOW + ago) for item, weight, ago in rows), key=lambda row: row[2]))


@settings(max_examples=120)
@given(pasts, st.integers(1, 5), st.sampled_from([0.0, 1.0, 2.5]), st.booleans(), st.sampled_from([None, 2.0]))
def test_embeddings_say_what_plain_loops_say(
    past: list[tuple[int, float, int]], last: int, half_life: float, liked_only: bool, days: float | None
) -> None:
    measures = ("similarity", "distance", "coherence")
    features = FeatureSet(
        tuple(
            Embedding(name=m, measure=m, last=last, half_life=half_life, liked_only=liked_only, window_days=days)
            for m in measures
        )
    )
    items, weights, at = (np.array(column) for column in zip(*past, strict=True)) if past else np.zeros((3, 0))
    history = Queries(
        np.array([0, len(past)]), items.astype(np.int32), weights.astype(np.float32), at.astype(np.int64),
        np.array([NOW]), np.array([-1], np.int32), Ragged.empty(1),
    )  # fmt: skip
    asked = Requests(np.array([-1], np.int32), np.array([NOW]), np.arange(-1, N_ITEMS, dtype=np.int32)[None])
    seen = replace(catalog(), vectors=VECTORS)
    got = group_features(features, EMPTY_LOG, seen, asked, history, dtype=np.float64)
    used = [row for row in reversed(past) if row[2] < NOW and (row[1] > 0 or not liked_only)][:last]
    used = [row for row in used if days is None or row[2] >= NOW - days * DAY]
    fade = [0.5 ** (rank / half_life) if half_life else 1.0 for rank in range(len(used))]
    with_vector = [(f, VECTORS[i].astype(float)) for f, (i, _, _) in zip(fade, used, strict=True) if i in (0, 1, 2)]
    assert np.isnan(got[0]).all()
    if not with_vector:
        assert np.isnan(got).all()
        return
    mean = sum(f * v for f, v in with_vector) / sum(f for f, _ in with_vector)
    length = math.sqrt(float(mean @ mean))
    for item in range(N_ITEMS):
        known = item in (0, 1, 2)
        own = VECTORS[item].astype(float) if known else np.full(3, np.nan)
        np.testing.assert_allclose(got[item + 1], [own @ mean / length, np.linalg.norm(own - mean), length], atol=2e-7)


def test_without_vectors_an_embedding_is_not_defined() -> None:
    features = FeatureSet((Embedding(name="like"),))
    asked = Requests(np.array([-1], np.int32), np.array([NOW]), np.arange(2, dtype=np.int32)[None])
    assert np.isnan(group_features(features, EMPTY_LOG, catalog(), asked)).all()


# ------------------------------------------------------------------------------------------- memory, erasing, keeping


def pair_feature(**more: object) -> FeatureSet:
    body = {"name": "again", "entity": "user_item", "aggregate": "count", "hop": "5min"} | more
    return FeatureSet((Feature.model_validate(body),))


def stream_of_pairs(n: int, first: int, n_users: int) -> Interactions:
    """Each event is of another pair than those before it."""
    number = np.arange(first, first + n)
    return Interactions(
        (number % n_users).astype(np.int32), (number // n_users).astype(np.int32), np.zeros(n, np.int16),
        np.ones(n, np.float32), np.ones(n, np.float32), BEGIN + number * 1_000_000, n_users, 10**6, ("view",),
    )  # fmt: skip


def rows_after(features: FeatureSet, n: int) -> int:
    state = OnlineState.build(features, stream_of_pairs(0, 0, 100), catalog())
    for first in range(0, n, 500):
        part = stream_of_pairs(500, first, 100)
        state.apply_many(part.user, part.item, part.action, part.value, part.weight, part.at)
        state.advance(int(part.at[-1]) + 1)
    return len(state._groups[2].table)


def test_pairs_take_no_more_rows_than_the_longest_window_holds() -> None:
    windowed = pair_feature(window_days=1 / 24)  # 3,600 seconds and a hop: 3,900 pairs
    assert rows_after(windowed, 60_000) <= 4 * 3_900
    assert rows_after(pair_feature(), 60_000) > 60_000


def test_a_pair_is_counted_when_its_row_was_given_back_and_when_the_table_grew() -> None:
    features = pair_feature(window_days=1 / 24)
    state = OnlineState.build(features, stream_of_pairs(0, 0, 100), catalog())
    for first in range(0, 30_000, 500):
        part = stream_of_pairs(500, first, 100)
        state.apply_many(part.user, part.item, part.action, part.value, part.weight, part.at)
        # The first pair comes again and again.
        now = int(part.at[-1])
        state.apply(7, 3, 0, 1.0, 1.0, now)
        got = state.read(
            7, np.array([3, 4], np.int32), now + 1, *(np.zeros(0, k) for k in (np.int32, np.float32, np.int64))
        )
        hours = np.arange(first, -1, -500)
        since = ((now + 1 - 3_600_000_000) // 300_000_000) * 300_000_000
        repeats = sum(BEGIN + (h + 499) * 1_000_000 >= since for h in hours)
        own = [n for n in (307, 407) if n < first + 500 and BEGIN + n * 1_000_000 >= since]
        assert got[0, 0] == repeats + (307 in own)
        assert got[1, 0] == (407 in own)


def test_two_pairs_never_share_a_row() -> None:
    keys, values = np.full(1 << 17, EMPTY, np.int64), np.zeros((1 << 17) + 1, np.int64)
    wanted = np.random.default_rng(0).integers(-(2**62), 2**62, 50_000)
    rows = rows_of(keys, values, wanted, True)
    assert len(np.unique(rows)) == len(np.unique(wanted))
    assert rows_of(keys, values, wanted, False).tolist() == rows.tolist()
    assert rows_of(keys, values, np.array([EMPTY, 2**62 + 5]), False).tolist() == [-1, -1]


@settings(max_examples=60)
@given(feature_sets(), records(in_turn=True), st.integers(0, 3), st.floats(0, 9))
def test_who_is_erased_was_never_there(features: FeatureSet, rows: list[Record], who: int, days: float) -> None:
    log = log_of(rows)
    last = max([row.known for row in rows], default=BEGIN) + 1
    at = max(last, BEGIN + int((2 + days) * DAY))
    state = OnlineState.build(features, log, catalog(), at_us=BEGIN + 2 * DAY)
    state.advance(at)
    state.erase(who)
    # Whoever is replaced keeps the numbers of the rows.
    rest = [row if row.user != who else row._replace(action=RETRACT, known=10**17) for row in rows]
    never = OnlineState.build(features, log_of(rest), catalog(), at_us=at)
    for later in (at, at + DAY):
        for user in range(4):
            np.testing.assert_allclose(read(state, later, user), read(never, later, user), rtol=1e-9, atol=1e-9)


@settings(max_examples=40)
@given(feature_sets(), records(in_turn=True), st.floats(0, 6), st.floats(0, 6))
def test_a_saved_state_opens_as_it_was_with_what_waits(
    tmp_path_factory: pytest.TempPathFactory, features: FeatureSet, rows: list[Record], first: float, later: float
) -> None:
    folder = tmp_path_factory.mktemp("state")
    state = OnlineState.build(features, log_of(rows), catalog(), at_us=BEGIN + int(first * DAY))
    state.advance(state.clock_us + int(later * DAY))
    state.save(folder)
    opened = OnlineState.open(folder, catalog())
    for days in (0, 1, 20):
        at = state.clock_us + days * DAY
        np.testing.assert_allclose(read(opened, at), read(state, at), rtol=1e-12)


def test_a_correction_of_what_nobody_knows_stands_for_itself() -> None:
    features = FeatureSet((Feature(name="n", entity="item", aggregate="count"),))
    state = OnlineState.build(features, EMPTY_LOG, catalog())
    state.apply(1, 2, -1, 1.0, 1.0, BEGIN, event=5, corrects=77)
    state.retract(1, 99, BEGIN + 1)
    state.retract(-1, 99, BEGIN + 1)
    assert read(state, BEGIN + 2)[:, 0].tolist() == [0, 0, 1, 0, 0]
    state.apply(1, 3, -1, 1.0, 1.0, BEGIN, known_us=BEGIN + 5, event=6, corrects=77)  # the same event once more
    assert read(state, BEGIN + 6)[:, 0].tolist() == [0, 0, 0, 1, 0]


# ---------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    "wrong",
    [
        {"window_days": 7, "last": 3},
        {"window_days": 7, "half_life_days": 3},
        {"aggregate": "min"},
        {"aggregate": "std", "half_life_days": 3},
        {"aggregate": "count", "last": 3},
        {"aggregate": "distinct"},
        {"of": "item"},
        {"aggregate": "distinct", "of": "category", "last": 3},
        {"entity": "item_context"},
        {"context": "surface"},
        {"entity": "item_context", "context": "query"},
        {"aggregate": "mean", "last": 3, "prior": "overall", "strength": 1},
        {"last": 65},
        {"expires_days": 0},
        {"kind": "embedding", "measure": "component"},
    ],
)
def test_what_makes_no_sense_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="plays"):
        FeatureSet.from_config([{"name": "plays", "entity": "item", "aggregate": "count"} | wrong])


def test_the_new_kinds_travel_and_are_explained() -> None:
    features = FeatureSet(
        (
            Feature(name="a", entity="item_context", context="hour", band_hours=4, aggregate="count", half_life_days=2),
            Feature(name="b", entity="query_item", aggregate="mean", last=3, expires_days=9),
            Feature(name="c", entity="user_item", aggregate="distinct", of="category", window_days=3),
            Embedding(name="d", measure="coherence", window_days=30),
        )
    )
    assert FeatureSet.from_config(features.to_config()) == features
    assert [one.meaning for one in features.explain()] == [
        "number of events, of the item in the same hour",
        "mean value of events, of the item under the query, unless nothing came for 9 days",
        "number of different categories of events, of the person with the item",
        "length of the mean vector of the history's liked items",
    ]
    assert [one.window for one in features.explain()] == [
        "all time, half the weight after 2 days", "last 3 events", "3 days by hour", "last 200 events in 30 days",
    ]  # fmt: skip
    assert features.context_keys == ("query",)


def test_events_that_do_not_say_the_context_are_refused() -> None:
    features = FeatureSet((Feature(name="a", entity="item_context", context="device", aggregate="count"),))
    asked = Requests(np.array([-1], np.int32), np.array([NOW]), np.arange(2, dtype=np.int32)[None])
    with pytest.raises(DataError, match="device"):
        group_features(features, log_of([]), catalog(), asked)


def test_events_known_before_they_happened_are_refused() -> None:
    at = np.array([BEGIN, BEGIN + 1])
    one = np.zeros(2, np.int32)
    log = Interactions(
        one, one, one.astype(np.int16), one.astype(np.float32), one.astype(np.float32), at, 1, 1, ("view",), at - 1
    )
    with pytest.raises(DataError, match="known"):
        EventStream(log)


@given(st.lists(st.text(max_size=20), max_size=8))
def test_a_text_has_one_code_in_a_column_and_alone(texts: list[str]) -> None:
    data = [text.encode() for text in texts]
    offsets = np.cumsum([0, *(len(one) for one in data)]).astype(np.int64)
    codes = text_codes(offsets, np.frombuffer(bytearray(b"".join(data)), np.uint8))
    assert codes.tolist() == [code64(text) for text in texts]
    assert len(set(codes.tolist())) == len(set(texts))


def test_spellings_of_a_query_are_one() -> None:
    assert normalised("  Ｒed\tSHOES ") == normalised("red shoes") == "red shoes"
