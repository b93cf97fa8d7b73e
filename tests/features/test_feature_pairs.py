"""Facts, context and affinities against plain loops and cases done by hand."""

from __future__ import annotations

import datetime as dt
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from honeyguide.contracts import CatalogView, Interactions, Queries, Ragged
from honeyguide.errors import DataError
from honeyguide.features.definition import Affinity, Context, Distance, Fact, FeatureSet
from honeyguide.features.training_set import Requests, group_features
from honeyguide.schema.vocabulary import Vocabulary

DAY = 86_400_000_000
NOW = 20_000 * DAY + 12_345_678
N = 5
CATEGORIES = [[0], [0, 1], [1, 2], [], [2]]
PEOPLE = [[3], [0, 1], [1], [2, 3], [0]]
YEARS = [1990.0, 2000.0, math.nan, 1980.0, 1970.0]
EMPTY_LOG = Interactions(
    np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0, np.int16), np.zeros(0, np.float32),
    np.zeros(0, np.float32), np.zeros(0, np.int64), 0, N, (),
)  # fmt: skip


def catalog(known: tuple[int, ...] = (0,) * N) -> CatalogView:
    return CatalogView(
        Vocabulary([str(i) for i in range(N)]), [""] * N, [""] * N, Ragged.of(CATEGORIES), list("abc"),
        Ragged.of(PEOPLE), list("wxyz"), np.full(N, -1, np.int32), [], np.array(YEARS, np.float32),
        np.full(N, np.nan, np.float32), np.ones(N, np.bool_), np.array(known, np.int64),
    )  # fmt: skip


def ask(features: FeatureSet, past: list[tuple[int, float, int]], known: tuple[int, ...] = (0,) * N) -> np.ndarray:
    items, weights, at = (np.array(column) for column in zip(*past, strict=True)) if past else np.zeros((3, 0))
    histories = Queries(
        np.array([0, len(past)]), items.astype(np.int32), weights.astype(np.float32), at.astype(np.int64),
        np.array([NOW]), np.array([-1], np.int32), Ragged.empty(1),
    )  # fmt: skip
    requests = Requests(np.array([-1], np.int32), np.array([NOW]), np.arange(N, dtype=np.int32)[None])
    return group_features(features, EMPTY_LOG, catalog(known), requests, histories)


pasts = st.lists(
    st.tuples(
        st.integers(-1, N), st.sampled_from([-1.0, 0.0, 0.5, 1.0]), st.sampled_from([-3 * DAY, -DAY, -5, -1, 0, 1])
    ),
    max_size=12,
).map(lambda rows: sorted(((item, weight, NOW + ago) for item, weight, ago in rows), key=lambda row: row[2]))
knowns = st.tuples(*[st.sampled_from([0, NOW, NOW + 1])] * N)


@settings(max_examples=150)
@given(
    pasts, knowns, st.sampled_from(["category", "people", "item"]), st.integers(1, 6), st.sampled_from([0.0, 1.0, 2.5]),
    st.sampled_from([0.0, 1.5]),
)  # fmt: skip
def test_affinities_say_what_plain_loops_say(
    past: list[tuple[int, float, int]], known: tuple[int, ...], facet: str, last: int, half_life: float, strength: float
) -> None:
    codes = {"category": CATEGORIES, "people": PEOPLE, "item": [[i] for i in range(N)]}[facet]
    measures = ("share", "like", "overlap", "recency")
    features = FeatureSet(
        tuple(
            Affinity.model_validate(
                {"name": m, "facet": facet, "measure": m, "last": last, "half_life": half_life, "strength": strength}
            )
            for m in measures
        )
    )
    usable = [
        (rank, codes[item], weight, at)
        for rank, (item, weight, at) in enumerate(reversed([row for row in past if row[2] < NOW]))
        if rank < last and 0 <= item < N and known[item] <= NOW and codes[item]
    ]
    fade = (lambda rank: 0.5 ** (rank / half_life)) if half_life else (lambda rank: 1.0)
    total = sum(fade(rank) for rank, *_ in usable)
    for candidate, row in enumerate(ask(features, past, known)):
        own = codes[candidate]
        if not usable or not own or known[candidate] > NOW:
            assert np.isnan(row).all()
            continue
        shared = sum(fade(r) * sum(k in own for k in theirs) / len(theirs) for r, theirs, _, _ in usable)
        liked = sum(fade(r) * w * sum(k in own for k in theirs) / len(theirs) for r, theirs, w, _ in usable)
        mean = sum(fade(r) * w for r, _, w, _ in usable) / total
        when = [at for _, theirs, _, at in usable if set(theirs) & set(own)]
        want = [
            shared / total,
            (liked + strength * mean) / (shared + strength) if shared + strength else math.nan,
            len(set(own) & {k for _, theirs, _, _ in usable for k in theirs}),
            (NOW - max(when)) / DAY if when else math.nan,
        ]
        np.testing.assert_allclose(row, want, rtol=1e-6, atol=1e-7)


@settings(max_examples=100)
@given(pasts, knowns, st.integers(1, 6), st.sampled_from([0.0, 2.0]))
def test_the_history_as_such_says_what_plain_loops_say(
    past: list[tuple[int, float, int]], known: tuple[int, ...], last: int, half_life: float
) -> None:
    of_history = {"last": last, "half_life": half_life}
    features = FeatureSet(
        (
            *(
                Context.model_validate({"name": f, "fact": f} | of_history)
                for f in ("history_length", "history_liking", "history_recency")
            ),
            Distance.model_validate({"name": "distance", "fact": "year"} | of_history),
        )
    )
    seen = list(reversed([row for row in past if row[2] < NOW]))[:last]
    fade = [0.5 ** (rank / half_life) if half_life else 1.0 for rank in range(len(seen))]
    liking = sum(f * row[1] for f, row in zip(fade, seen, strict=True)) / sum(fade) if seen else math.nan
    recency = (NOW - max(at for *_, at in seen)) / DAY if seen else math.nan
    dated = [
        (f, YEARS[item])
        for f, (item, _, _) in zip(fade, seen, strict=True)
        if 0 <= item < N and known[item] <= NOW and not math.isnan(YEARS[item])
    ]
    centre = sum(f * year for f, year in dated) / sum(f for f, _ in dated) if dated else math.nan
    for candidate, row in enumerate(ask(features, past, known)):
        year = YEARS[candidate] if known[candidate] <= NOW else math.nan
        np.testing.assert_allclose(row, [len(seen), liking, recency, abs(year - centre)], rtol=1e-6, atol=1e-4)


def test_a_fact_that_was_known_only_later_is_not_known() -> None:
    facts = ("year", "n_categories", "n_people", "age_days", "years_old")
    features = FeatureSet(tuple(Fact.model_validate({"name": f, "fact": f}) for f in facts))
    rows = ask(features, [], (0, NOW, NOW + 1, NOW - 2 * DAY, NOW + 1))
    assert np.isnan(rows[[2, 4]]).all()
    assert rows[1, :4].tolist() == [2000, 2, 2, 0]
    assert rows[3, :4].tolist() == [1980, 0, 2, 2]
    # 2024-10-04 is 76 % through its year.
    assert rows[1, 4] == pytest.approx(2024.76 - 2000, abs=0.01)


@given(st.datetimes(dt.datetime(1950, 1, 1), dt.datetime(2100, 1, 1)), st.sampled_from([0.0, 5.5, -8.0]))
def test_hour_and_weekday_are_the_calendars(moment: dt.datetime, offset: float) -> None:
    features = FeatureSet(
        (
            Context(name="hour", fact="hour", utc_offset_hours=offset),
            Context(name="weekday", fact="weekday", utc_offset_hours=offset),
        )
    )
    at = (moment - dt.datetime(1970, 1, 1)) // dt.timedelta(microseconds=1)
    requests = Requests(np.array([-1], np.int32), np.array([at]), np.zeros((1, 1), np.int32))
    local = moment + dt.timedelta(hours=offset)
    assert group_features(features, EMPTY_LOG, catalog(), requests)[0].tolist() == [local.hour, local.weekday()]


def test_each_request_needs_its_history() -> None:
    requests = Requests(np.array([-1, -1], np.int32), np.array([NOW, NOW]), np.zeros((2, 1), np.int32))
    one = Queries(
        np.zeros(2, np.int64), np.zeros(0, np.int32), np.zeros(0, np.float32), np.zeros(0, np.int64),
        np.array([NOW]), np.array([-1], np.int32), Ragged.empty(1),
    )  # fmt: skip
    with pytest.raises(DataError, match="one history per request, 2"):
        group_features(FeatureSet((Fact(name="year", fact="year"),)), EMPTY_LOG, catalog(), requests, one)


def test_padding_gives_nan_and_changes_nobody_elses_row() -> None:
    features = FeatureSet((Fact(name="year", fact="year"), Context(name="hour", fact="hour")))
    wide = Requests(np.array([-1], np.int32), np.array([NOW]), np.array([[-1, 1, -1, 0]], np.int32))
    rows = group_features(features, EMPTY_LOG, catalog(), wide)
    assert np.isnan(rows[[0, 2]]).all()
    assert rows[[1, 3], 0].tolist() == [2000, 1990]
    none = Requests(np.array([-1], np.int32), np.array([NOW]), np.zeros((1, 0), np.int32))
    assert group_features(features, EMPTY_LOG, catalog(), none).shape == (0, 2)
