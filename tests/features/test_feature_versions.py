"""Late and corrected events: plain loops, the kernel, the online state and SQL say the same of every aggregate."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from feature_oracle import (
    N_ITEMS,
    N_USERS,
    QUERIES,
    SURFACES,
    Ask,
    Record,
    agree,
    asks,
    catalog,
    feature_sets,
    log_of,
    moments,
    plain,
    records,
)

from honeyguide.contracts import RETRACT
from honeyguide.features.definition import Affinity, Context, Feature, FeatureSet
from honeyguide.features.online import OnlineState
from honeyguide.features.training_set import LabelRows, Requests, group_features, training_set
from honeyguide.kernels.codes import code64
from honeyguide.kernels.hashing import normalised


def codes(texts: list[str | None]) -> np.ndarray:
    return np.array([code64(text) for text in texts], np.int64)


def labels_of(asked: list[Ask]) -> LabelRows:
    at, user, item = (np.array([getattr(one, name) for one in asked], np.int64) for name in ("at", "user", "item"))
    context = {
        "surface": codes([one.surface for one in asked]),
        "query": codes([None if one.query is None else normalised(one.query) for one in asked]),
    }
    return LabelRows(user.astype(np.int32), item.astype(np.int32), at, context)


@settings(max_examples=80)
@given(feature_sets(), records(), st.lists(asks, min_size=1, max_size=8))
def test_the_kernel_says_what_plain_loops_say(features: FeatureSet, rows: list[Record], asked: list[Ask]) -> None:
    got = training_set(features, log_of(rows), catalog(), labels_of(asked), dtype=np.float64)
    want = np.array([[plain(feature, rows, ask) for feature in features] for ask in asked], np.float64)
    agree(got, want, features)


PAIRS = (
    Affinity(name="again", facet="item", measure="share", last=3),
    Affinity(name="genre", facet="category", measure="like", last=50, half_life=2),
    Context(name="length", fact="history_length", last=4),
    Context(name="since", fact="history_recency"),
)


def send(state: OnlineState, rows: list[Record], part: list[int]) -> None:
    """Some records, one by one and by the array."""
    actions = {name: code for code, name in enumerate(state.actions)}

    def context(row: Record) -> dict[str, int]:
        return {"surface": code64(row.surface), "query": code64(row.query and normalised(row.query))}

    def event(number: int) -> int:
        return code64(f"e{number:04}")

    kept = [n for n in part if rows[n].action != RETRACT]
    for number in part:
        row = rows[number]
        if row.action == RETRACT:
            assert row.corrects is not None
            state.retract(row.user, event(row.corrects), row.known)
        elif number in kept[::2]:
            state.apply(
                row.user, row.item, actions[row.action], row.value, 1.0, row.at, known_us=row.known,
                event=event(number), corrects=0 if row.corrects is None else event(row.corrects), context=context(row),
            )  # fmt: skip
    rest = [(n, rows[n]) for n in kept[1::2]]
    column = {name: np.array([getattr(r, name) for _, r in rest]) for name in ("user", "item", "value", "at", "known")}
    told = [context(r) for _, r in rest]
    state.apply_many(
        column["user"].astype(np.int32), column["item"].astype(np.int32),
        np.array([actions[r.action] for _, r in rest], np.int16), column["value"].astype(np.float32),
        np.ones(len(rest), np.float32), column["at"].astype(np.int64), known_us=column["known"].astype(np.int64),
        event=np.array([event(n) for n, _ in rest], np.int64),
        corrects=np.array([0 if r.corrects is None else event(r.corrects) for _, r in rest], np.int64),
        context={name: np.array([one[name] for one in told], np.int64) for name in ("surface", "query")},
    )  # fmt: skip


@settings(max_examples=80)
@given(feature_sets(), records(in_turn=True), st.data())
def test_online_equals_training(features: FeatureSet, rows: list[Record], data: st.DataObject) -> None:
    features = FeatureSet((*features, *PAIRS))
    built_at = data.draw(moments, "built at")
    before = [n for n, row in enumerate(rows) if row.known < built_at]
    after = [n for n in range(len(rows)) if n not in before]
    # A build keeps the numbers of its rows: what is not known yet is left out of what it reads.
    log = log_of(rows)
    whole = data.draw(st.booleans(), "the build is told what becomes known later")
    # Rows left out are rows that nobody knows of: known long after all is asked.
    never = [row if n in before else row._replace(known=10**17) for n, row in enumerate(rows)]
    state = OnlineState.build(features, log if whole else log_of(never), catalog(), at_us=built_at)
    assert state.clock_us == built_at
    asked = sorted(at for at in data.draw(st.lists(moments, min_size=1, max_size=3), "asked at") if at >= built_at)
    sent = 0
    after.sort(key=lambda n: rows[n].known)
    for at in asked:
        due = sum(rows[n].known < at for n in after)
        until = data.draw(st.integers(max(due, sent), len(after)), "sent")
        if not whole:
            send(state, rows, after[sent:until])
        sent = until
        surface, query = data.draw(st.sampled_from(SURFACES)), data.draw(st.sampled_from(QUERIES))
        context = {"surface": code64(surface), "query": code64(query and normalised(query))}
        items = np.arange(-1, N_ITEMS, dtype=np.int32)
        for user in range(-1, N_USERS):
            past = state.history(user, max(features.history_limit, 1), at)
            got = np.empty((len(items), len(features)), np.float64)
            state.read(user, items, at, past.items, past.weights, past.at, got, context=context)
            request = Requests(
                np.array([user], np.int32), np.array([at]), items[None],
                {name: np.array([code]) for name, code in context.items()},
            )  # fmt: skip
            want = group_features(features, log, catalog(), request, dtype=np.float64)
            assert np.isnan(got[0]).all()
            own = FeatureSet(tuple(f for f in features if isinstance(f, Feature)))
            agree(got[:, : len(own)], want[:, : len(own)], own)
            np.testing.assert_allclose(got[:, len(own) :], want[:, len(own) :], rtol=1e-12)
