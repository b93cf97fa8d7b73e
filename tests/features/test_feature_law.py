"""One definition, one value: plain loops, the kernel, the online state and SQL must agree on random streams."""

from __future__ import annotations

import math
from typing import NamedTuple

import ibis
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from honeyguide.contracts import CatalogView, Interactions, Queries, Ragged
from honeyguide.features.asof import as_of
from honeyguide.features.asof_ibis import as_of_table
from honeyguide.features.definition import HOP_US, Affinity, Context, Distance, Fact, Feature, FeatureSet
from honeyguide.features.online import OnlineState
from honeyguide.features.training_set import LabelRows, Requests, group_features, training_set
from honeyguide.schema import columns as c
from honeyguide.schema.vocabulary import Vocabulary

DAY = 86_400_000_000
BEGIN = 1_700_000_000_000_000
N_USERS, N_ITEMS = 4, 5
ACTIONS = ("view", "rating", "buy")


class Event(NamedTuple):
    at: int
    user: int
    item: int
    action: int
    value: float
    weight: float


moments = st.builds(
    lambda days, us: BEGIN + int(days * DAY) + us,
    st.sampled_from([0, 0.01, 1 / 24, 0.5, 1, 1.5, 2, 3, 4, 5, 10]),
    st.integers(-1, 1),
)
# Halves are whole steps, so the plain sums of the oracle are exact too.
values = st.one_of(st.just(math.nan), st.integers(-4, 20).map(lambda v: v / 2))
events = st.lists(
    st.builds(
        Event,
        moments,
        st.integers(-1, N_USERS - 1),
        st.integers(0, N_ITEMS - 1),
        st.integers(0, 2),
        values,
        st.sampled_from([-1.0, 0.0, 0.5, 1.0]),
    ),
    max_size=40,
).map(lambda rows: sorted(rows, key=lambda event: event.at))


@st.composite
def feature_sets(draw: st.DrawFn) -> FeatureSet:
    def one(at: int) -> Feature:
        aggregate = draw(
            st.sampled_from(["count", "sum", "mean", "std", "ratio", "trend", "share", "rate", "recency", "tenure"])
        )
        body: dict[str, object] = {
            "name": f"f{at}",
            "aggregate": aggregate,
            "entity": draw(st.sampled_from(["user", "item"])),
        }
        body["action"] = draw(st.sampled_from([None, *ACTIONS, "never seen"]))
        low, high = draw(st.sampled_from([(None, None), (1.0, None), (None, 2.0), (0.5, 4.0)]))
        body |= {"min_value": low, "max_value": high, "hop": draw(st.sampled_from(list(HOP_US)))}
        windows = st.sampled_from([1 / 48, 0.5, 1.0, 2.5])
        if aggregate == "trend":
            body |= {"window_days": draw(windows), "of_days": draw(st.none() | windows)}
        elif aggregate not in ("rate", "recency", "tenure"):
            body["window_days"] = draw(st.none() | windows)
        if aggregate == "ratio":
            body["of_action"] = draw(st.sampled_from([None, "*", "view"]))
        if aggregate in ("mean", "ratio", "trend") and draw(st.booleans()):
            body |= {"prior": draw(st.sampled_from(["overall", 0.25])), "strength": draw(st.sampled_from([1.0, 2.5]))}
        return Feature.model_validate(body)

    return FeatureSet(tuple(one(at) for at in range(draw(st.integers(1, 8)))))


def log_of(rows: list[Event]) -> Interactions:
    column = list(zip(*rows, strict=True)) if rows else [()] * 6
    return Interactions(
        np.array(column[1], np.int32), np.array(column[2], np.int32), np.array(column[3], np.int16),
        np.array(column[4], np.float32), np.array(column[5], np.float32), np.array(column[0], np.int64),
        N_USERS, N_ITEMS, ACTIONS,
    )  # fmt: skip


def plain(feature: Feature, rows: list[Event], who: int, now: int) -> float:
    """The definition's words, in loops."""

    def chosen(action: str | None, days: float | None, *, bounds: bool, valued: bool, all_entities: bool = False):
        start = -math.inf
        if days is not None:
            start = (now - round(days * DAY)) // HOP_US[feature.hop] * HOP_US[feature.hop]
        for event in rows:
            if not all_entities and (event.user if feature.entity == "user" else event.item) != who:
                continue
            if not start <= event.at < now:
                continue
            if action is not None and (action not in ACTIONS or event.action != ACTIONS.index(action)):
                continue
            if valued and math.isnan(event.value):
                continue
            if bounds and feature.min_value is not None and not event.value >= feature.min_value:
                continue
            if bounds and feature.max_value is not None and not event.value <= feature.max_value:
                continue
            yield event

    bounded = feature.min_value is not None or feature.max_value is not None
    days = feature.window_days
    own = list(chosen(feature.action, days, bounds=True, valued=bounded))
    of_value = [event.value for event in own if not math.isnan(event.value)]

    def parts(everybody: bool) -> tuple[float, float]:
        own = list(chosen(feature.action, days, bounds=True, valued=bounded, all_entities=everybody))
        known = [event.value for event in own if not math.isnan(event.value)]
        if feature.aggregate == "mean":
            return sum(known), len(known)
        if feature.aggregate == "trend":
            base = chosen(feature.action, feature.of_days, bounds=True, valued=bounded, all_entities=everybody)
            return len(own), len(list(base))
        of = feature.of_action
        action, valued = (feature.action, bounded) if of is None else (None if of == "*" else of, False)
        return len(own), len(list(chosen(action, days, bounds=False, valued=valued, all_entities=everybody)))

    match feature.aggregate:
        case "count":
            return float(len(own))
        case "sum":
            return float(sum(of_value))
        case "std":
            return float(np.std(of_value)) if len(of_value) > 1 else math.nan
        case "share":
            total = len(list(chosen(feature.action, days, bounds=True, valued=bounded, all_entities=True)))
            return len(own) / total if total else math.nan
        case "recency":
            return (now - max(e.at for e in own)) / DAY if own else math.nan
        case "tenure":
            return (now - min(e.at for e in own)) / DAY if own else math.nan
        case "rate":
            return len(own) / max(1.0, (now - min(e.at for e in own)) / DAY) if own else 0.0
    top, bottom = parts(False)
    if feature.prior is not None:
        above, below = parts(True)
        centre = feature.prior if feature.prior != "overall" else above / below if below else None
        if centre is not None:
            top, bottom = top + feature.strength * centre, bottom + feature.strength
    return top / bottom if bottom else math.nan


def catalog_of(known: tuple[int, ...] = (0,) * N_ITEMS) -> CatalogView:
    nan = np.nan
    return CatalogView(
        Vocabulary([str(i) for i in range(N_ITEMS)]), [""] * N_ITEMS, [""] * N_ITEMS,
        Ragged.of([[0], [0, 1], [1, 2], [], [2]]), ["a", "b", "c"], Ragged.of([[0, 1], [1], [], [2, 3], [3]]),
        list("wxyz"), np.array([0, 1, -1, 0, 1], np.int32), ["n", "s"],
        np.array([1990, 1995, nan, 2001, 1980], np.float32), np.array([9.5, nan, 20, 1, 3], np.float32),
        np.ones(N_ITEMS, np.bool_), np.array(known, np.int64),
    )  # fmt: skip


PAIRS = (
    *(
        Affinity(
            name=f"{facet}_{measure}_{last}", facet=facet, measure=measure, last=last, half_life=half, strength=0.5
        )
        for facet in ("category", "people", "country", "item")
        for measure in ("share", "like", "overlap", "recency")
        for last, half in ((3, 0.0), (50, 2.0))
    ),
    Distance(name="year_distance", fact="year", last=4, half_life=1.0),
    Distance(name="price_distance", fact="price"),
    *(Fact(name=f, fact=f) for f in ("year", "price", "n_categories", "n_people", "age_days", "years_old")),
    *(
        Context(name=f"{f}_here", fact=f, last=6, half_life=2.0, utc_offset_hours=-3.5)
        for f in ("hour", "weekday", "history_length", "history_liking", "history_recency")
    ),
)
known_ats = st.tuples(*[st.sampled_from([0, BEGIN + DAY, BEGIN + 100 * DAY])] * N_ITEMS)


@settings(max_examples=60, deadline=None)
@given(feature_sets(), events, st.lists(moments, min_size=1, max_size=4))
def test_the_kernel_says_what_plain_loops_say(features: FeatureSet, rows: list[Event], asked: list[int]) -> None:
    for entity, n in (("user", N_USERS), ("item", N_ITEMS)):
        who = np.repeat(np.arange(n + 1), len(asked)).astype(np.int32)  # the last one nobody knows
        at = np.tile(asked, n + 1)
        got = as_of(features, log_of(rows), entity, who, at)
        want = [[plain(f, rows, e, t) for f in features.aggregates(entity)] for e, t in zip(who, at, strict=True)]
        np.testing.assert_allclose(got, np.array(want).reshape(got.shape), rtol=2e-7, atol=1e-7)
        for column, feature in enumerate(features.aggregates(entity)):
            if feature.aggregate == "count":
                assert [row[column] for row in want] == got[:, column].tolist()


def everything(features: FeatureSet, rows: list[Event], catalog: CatalogView, user: int, at: int) -> np.ndarray:
    items = np.arange(-1, N_ITEMS, dtype=np.int32)[None]
    return group_features(features, log_of(rows), catalog, Requests(np.array([user], np.int32), np.array([at]), items))


def online(state: OnlineState, user: int, at: int) -> np.ndarray:
    past = state.history(user, max(state.features.history_limit, 1), at)
    return state.read(user, np.arange(-1, N_ITEMS, dtype=np.int32), at, past.items, past.weights, past.at)


@settings(max_examples=60, deadline=None)
@given(feature_sets(), events, st.data(), known_ats)
def test_online_equals_training_bit_for_bit(
    features: FeatureSet, rows: list[Event], data: st.DataObject, known: tuple[int, ...]
) -> None:
    features, catalog = FeatureSet((*features, *PAIRS)), catalog_of(known)
    first = data.draw(st.integers(0, len(rows)), "events in the build")
    state = OnlineState.build(features, log_of(rows[:first]), catalog)
    asked = sorted(data.draw(st.lists(moments, min_size=1, max_size=3), "asked at"))
    asked = [at for at in asked if at >= state.clock_us]
    sent = first
    for at in asked:
        # Everything before the moment has been sent, and perhaps more: that must not be seen.
        due = sum(event.at < at for event in rows)
        until = data.draw(st.integers(max(due, sent), len(rows)), "events sent")
        middle = (sent + until) // 2
        for event in rows[sent:middle]:
            state.apply(event.user, event.item, event.action, event.value, event.weight, event.at)
        rest = log_of(rows[middle:until])
        state.apply_many(rest.user, rest.item, rest.action, rest.value, rest.weight, rest.at)
        sent = until
        for user in range(-1, N_USERS + 1):
            expected = everything(features, rows, catalog, user, at)
            assert online(state, user, at).tobytes() == expected.tobytes()


@settings(max_examples=40, deadline=None)
@given(feature_sets(), events, st.data(), known_ats)
def test_events_in_any_order_count_from_the_next_read(
    features: FeatureSet, rows: list[Event], data: st.DataObject, known: tuple[int, ...]
) -> None:
    features, catalog = FeatureSet((*features, *PAIRS)), catalog_of(known)
    shuffled = data.draw(st.permutations(rows), "order")
    first = data.draw(st.integers(0, len(rows)), "events in the build")
    built = sorted(shuffled[:first], key=lambda event: event.at)
    state = OnlineState.build(features, log_of(built), catalog)
    arrived = list(built)
    for event in [*shuffled[first:], None]:
        if event is not None:
            state.apply(event.user, event.item, event.action, event.value, event.weight, event.at)
            arrived.append(event)
        if event is None or data.draw(st.booleans(), "read"):
            at = max(state.clock_us, data.draw(moments, "at"))
            # Ties keep the order in which they came.
            known_now = sorted(arrived, key=lambda event: event.at)
            user = data.draw(st.integers(-1, N_USERS - 1), "user")
            assert online(state, user, at).tobytes() == everything(features, known_now, catalog, user, at).tobytes()


@settings(max_examples=60, deadline=None)
@given(feature_sets(), events, st.lists(st.tuples(moments, st.integers(-1, 3), st.integers(-1, 4)), max_size=12))
def test_each_label_has_the_row_of_its_own_request(
    features: FeatureSet, rows: list[Event], asked: list[tuple[int, int, int]]
) -> None:
    features, catalog, log = FeatureSet((*features, *PAIRS)), catalog_of(), log_of(rows)
    at, user, item = (np.array(column, np.int64) for column in zip(*asked, strict=True)) if asked else np.zeros((3, 0))
    labels = LabelRows(user.astype(np.int32), item.astype(np.int32), at.astype(np.int64))
    got = training_set(features, log, catalog, labels)
    assert got.shape == (len(asked), len(features))
    for row, (now, who, what) in enumerate(asked):
        assert got[row].tobytes() == everything(features, rows, catalog, who, now)[what + 1].tobytes()
    past = [[event for event in rows if event.user == who >= 0 and event.at < now] for now, who, _ in asked]
    flat = [event for one in past for event in one]
    histories = Queries(
        np.cumsum([0, *map(len, past)]), np.array([e.item for e in flat], np.int32),
        np.array([e.weight for e in flat], np.float32), np.array([e.at for e in flat], np.int64), labels.at,
        np.full(len(asked), -1, np.int32), Ragged.empty(len(asked)),
    )  # fmt: skip
    assert training_set(features, log, catalog, labels, histories).tobytes() == got.tobytes()


@settings(max_examples=60, deadline=None)
@given(feature_sets(), events, moments)
def test_nothing_at_or_after_the_moment_is_seen(features: FeatureSet, rows: list[Event], at: int) -> None:
    features = FeatureSet((*features, *PAIRS))
    past = [event for event in rows if event.at < at]
    for user in range(N_USERS):
        seen = everything(features, rows, catalog_of(), user, at)
        assert seen.tobytes() == everything(features, past, catalog_of(), user, at).tobytes()


def tables(rows: list[Event], asked: list[tuple[int, int | None, int | None]]) -> tuple[pa.Table, pa.Table]:
    def name(row: int | None) -> str | None:
        return None if row is None or row < 0 else str(row)

    time = pa.timestamp("us", tz="UTC")
    log = pa.table(
        {
            c.USER_ID: pa.array([name(e.user) for e in rows], pa.string()),
            c.ITEM_ID: pa.array([name(e.item) for e in rows], pa.string()),
            c.ACTION: pa.array([ACTIONS[e.action] for e in rows], pa.string()),
            c.VALUE: pa.array([None if math.isnan(e.value) else e.value for e in rows], pa.float64()),
            c.HAPPENED_AT: pa.array([e.at for e in rows], pa.int64()).cast(time),
        }
    )
    labels = pa.table(
        {
            c.LABEL_ID: pa.array(range(len(asked)), pa.int64()),
            c.USER_ID: pa.array([name(user) for _, user, _ in asked], pa.string()),
            c.ITEM_ID: pa.array([name(item) for _, _, item in asked], pa.string()),
            c.HAPPENED_AT: pa.array([at for at, _, _ in asked], pa.int64()).cast(time),
        }
    )
    return log, labels


def compare_with_sql(table, features: FeatureSet, rows: list[Event], asked: list[tuple[int, int, int]]) -> None:
    frame = table.to_pandas().sort_values(str(c.LABEL_ID))
    assert list(frame.columns) == [c.LABEL_ID, *features.names]
    assert frame[c.LABEL_ID].tolist() == list(range(len(asked)))
    at, user, item = (np.array(column) for column in zip(*asked, strict=True))
    want = training_set(features, log_of(rows), catalog_of(), LabelRows(user, item, at))
    for column, name in enumerate(features.names):
        got = frame[name].to_numpy(np.float32, na_value=np.nan)
        np.testing.assert_array_equal(got, want[:, column], err_msg=name)


asked_pairs = st.lists(
    st.tuples(moments, st.integers(-1, N_USERS - 1), st.integers(0, N_ITEMS - 1)), min_size=1, max_size=6
)


@settings(max_examples=6, deadline=None)
@given(feature_sets(), events, asked_pairs)
def test_sql_on_duckdb_equals_the_kernel(
    features: FeatureSet, rows: list[Event], asked: list[tuple[int, int, int]]
) -> None:
    log, labels = tables(rows, asked)
    engine = ibis.duckdb.connect()
    expression = as_of_table(features, engine.create_table("log", log), engine.create_table("labels", labels))
    compare_with_sql(expression.to_pyarrow(), features, rows, asked)
    engine.disconnect()


@pytest.mark.heavy
def test_sql_on_spark_equals_the_kernel(java: str) -> None:
    pytest.importorskip("pyspark", reason="the Spark test needs honeyguide[spark]")
    from honeyguide.engines.tables.spark import SparkTables

    rng = np.random.default_rng(7)
    at = BEGIN + rng.integers(0, 40, 300) * (DAY // 4) + rng.integers(-1, 2, 300)
    rows = [
        Event(int(t), int(u), int(i), int(a), float(v), 0.0)
        for t, u, i, a, v in zip(
            np.sort(at), rng.integers(-1, N_USERS, 300), rng.integers(0, N_ITEMS, 300), rng.integers(0, 3, 300),
            rng.choice([*np.arange(-4, 20) / 2, np.nan], 300), strict=True,
        )
    ]  # fmt: skip
    asked = [(e.at + int(rng.integers(-1, 2)), e.user, int(rng.integers(0, N_ITEMS))) for e in rows[::5]]
    of = [
        {"aggregate": "count"},
        {"aggregate": "count", "window_days": 1, "action": "view"},
        {"aggregate": "sum", "window_days": 2.5, "hop": "5min"},
        {"aggregate": "std"},
        {"aggregate": "mean", "window_days": 1, "hop": "day", "prior": "overall", "strength": 2},
        {"aggregate": "ratio", "action": "rating", "min_value": 4, "prior": 0.5, "strength": 1},
        {"aggregate": "ratio", "action": "buy", "of_action": "*", "window_days": 0.5},
        {"aggregate": "trend", "window_days": 1, "of_days": 5, "prior": "overall", "strength": 3},
        {"aggregate": "share", "window_days": 2},
        {"aggregate": "recency", "max_value": 2},
        {"aggregate": "tenure"},
        {"aggregate": "rate"},
    ]
    features = FeatureSet.from_config(
        [
            {"name": f"{entity}_{at}", "entity": entity} | body
            for entity in ("user", "item")
            for at, body in enumerate(of)
        ]
    )
    log, labels = tables(rows, asked)
    engine = SparkTables()
    try:
        result = engine.arrow(as_of_table(features, engine.table(log), engine.table(labels)))
        compare_with_sql(result, features, rows, asked)
    finally:
        engine.close()
