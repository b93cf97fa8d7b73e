"""Splits and protocols against plain loops over every event."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from honeyguide.contracts import Interactions, Queries
from honeyguide.errors import DataError
from honeyguide.evaluation.metrics import Coverage, ItemFacts, Novelty, Recall, nDCG
from honeyguide.evaluation.protocols import ask, evaluate, head_items
from honeyguide.evaluation.split import global_split, global_trial, leave_one_out, next_item_trial
from honeyguide.schema import columns as c

N_USERS, N_ITEMS = 6, 8


def log_of(events: list[tuple[int, int, int, float]]) -> Interactions:
    """Events (user, item, at, weight), sorted by time with ties in the given order."""
    events = sorted(events, key=lambda event: event[2])
    user, item, at, weight = (np.array([event[i] for event in events]) for i in range(4))
    n = len(events)
    return Interactions(
        user.astype(np.int32), item.astype(np.int32), np.zeros(n, np.int16), np.full(n, np.nan, np.float32),
        weight.astype(np.float32), at.astype(np.int64), N_USERS, N_ITEMS, ("view",),
    )  # fmt: skip


events = st.lists(
    st.tuples(
        st.integers(0, N_USERS - 1), st.integers(0, N_ITEMS - 1), st.integers(0, 9), st.sampled_from([1.0, 0.0, -1.0])
    ),
    max_size=40,
)


@given(events, st.integers(0, 10), st.none() | st.integers(5, 10))
@settings(max_examples=100)
def test_the_global_trial_is_what_a_loop_finds(raw: list, cut: int, until: int | None) -> None:
    log = log_of(raw)
    trial = global_trial(log, cut, until)
    expected = {}
    for user in range(N_USERS):
        mine = [i for i in range(len(log)) if log.user[i] == user]
        history = [i for i in mine if log.at[i] < cut]
        known = {int(log.item[i]) for i in history}
        later = [i for i in mine if log.at[i] >= cut and (until is None or log.at[i] < until) and log.weight[i] > 0]
        answers = {int(log.item[i]) for i in later} - known
        if answers:
            expected[user] = (history, known, sorted(answers))
    assert trial.user.tolist() == sorted(expected)
    queries = trial.queries
    assert len(queries) == len(trial)
    for query, user in enumerate(trial.user):
        history, known, answers = expected[int(user)]
        part = slice(queries.indptr[query], queries.indptr[query + 1])
        assert queries.items[part].tolist() == [int(log.item[i]) for i in history]
        assert queries.at[part].tolist() == [int(log.at[i]) for i in history]
        assert queries.weights[part].tolist() == [float(log.weight[i]) for i in history]
        assert queries.exclude.row(query).tolist() == sorted(known)
        assert trial.relevant.row(query).tolist() == answers
        assert queries.now[query] == cut
        assert trial.has_history[query] == bool(history)


@given(events, st.booleans())
@settings(max_examples=100)
def test_leave_one_out_is_what_a_loop_finds(raw: list, repeats: bool) -> None:
    log = log_of(raw)
    found = leave_one_out(log, repeats=repeats)
    left = np.ones(len(log), bool)
    for user in range(N_USERS):
        mine, known = [], set()
        for i in range(len(log)):
            if log.user[i] == user and (repeats or int(log.item[i]) not in known):
                mine.append(i)
                known.add(int(log.item[i]))
        if len(mine) >= 3:
            assert (found.valid[user], found.test[user]) == (mine[-2], mine[-1])
            left[mine[-2:]] = False
        else:
            assert (found.valid[user], found.test[user]) == (-1, -1)
    assert found.train.tolist() == left.tolist()
    trial = next_item_trial(log, found.test, exclude_history=not repeats)
    for query, user in enumerate(trial.user):
        event = found.test[user]
        history = [i for i in range(event) if log.user[i] == user]
        assert trial.queries.items[trial.queries.indptr[query] : trial.queries.indptr[query + 1]].tolist() == [
            int(log.item[i]) for i in history
        ]
        assert trial.relevant.row(query).tolist() == [int(log.item[event])]
        excluded = set(trial.queries.exclude.row(query).tolist())
        assert excluded == (set() if repeats else {int(log.item[i]) for i in history})
        assert int(log.item[event]) not in excluded
        assert trial.queries.now[query] == log.at[event]


@given(st.lists(st.integers(0, 50), min_size=3, max_size=80))
def test_the_cut_never_gives_the_early_side_more_than_its_share(moments: list[int]) -> None:
    log = log_of([(0, 0, at, 1.0) for at in moments])
    try:
        cuts = global_split(log)
    except DataError:
        return
    n = len(moments)
    train, valid = sum(at < cuts.valid_at for at in moments), sum(at < cuts.test_at for at in moments)
    assert 0 < train <= 0.8 * n
    assert train < valid <= 0.9 * n
    assert valid < n


def test_a_cut_by_hand() -> None:
    log = log_of([(0, 0, at, 1.0) for at in (1, 2, 3, 4, 5, 6, 7, 8, 8, 10)])
    cuts = global_split(log, (0.7, 0.2, 0.1))
    assert (cuts.valid_at, cuts.test_at) == (8, 10)


@pytest.mark.parametrize("moments", [[], [5], [5, 5, 5, 5]])
def test_without_time_there_is_no_cut_in_time(moments: list[int]) -> None:
    with pytest.raises(DataError, match="moments"):
        global_split(log_of([(0, 0, at, 1.0) for at in moments]))
    with pytest.raises(DataError, match="shares"):
        global_split(log_of([]), (0.5, 0.1, 0.1))


def test_nobody_to_ask() -> None:
    trial = global_trial(log_of([]), 5)
    assert len(trial) == 0
    assert len(next_item_trial(log_of([]), np.full(N_USERS, -1))) == 0


def test_the_head_is_the_fewest_items_that_hold_the_share() -> None:
    log = log_of([(0, item, 0, 1.0) for item in [0] * 5 + [1] * 3 + [2] * 2 + [3]])
    assert np.flatnonzero(head_items(log)).tolist() == [0, 1]
    assert np.flatnonzero(head_items(log, 0.4)).tolist() == [0]
    assert np.flatnonzero(head_items(log, 1.0)).tolist() == [0, 1, 2, 3]
    assert not head_items(log_of([])).any()


# ---------------------------------------------------------------------------------------------- protocols


def small_world() -> tuple[Interactions, Interactions]:
    rng = np.random.default_rng(0)
    raw = [(int(rng.integers(N_USERS)), int(rng.integers(N_ITEMS)), int(rng.integers(100)), 1.0) for _ in range(60)]
    log = log_of(raw)
    return log, log.before(50)


def test_evaluate_against_systems_whose_figures_are_known() -> None:
    log, train = small_world()
    trial = global_trial(log, 50)
    answers = {int(user): trial.relevant.row(i) for i, user in enumerate(trial.user)}
    asked = iter(trial.user)

    def perfect(queries: Queries, k: int) -> np.ndarray:
        lists = np.full((len(queries), k), -1, np.int32)
        for i in range(len(queries)):
            row = answers[int(next(asked))]
            lists[i, : min(k, len(row))] = row[:k]
        return lists

    def nothing(queries: Queries, k: int) -> np.ndarray:
        return np.full((len(queries), k), -1, np.int32)

    head = head_items(train)
    steps: list[tuple[str, int, int]] = []
    table = evaluate(
        trial, {"perfect": perfect, "nothing": nothing}, [nDCG(3), Recall(8), Novelty(3), Coverage(3)],
        facts=ItemFacts.of(train), head=head, baselines=["nothing"], batch=2,
        progress=lambda what, done, total: steps.append((what, done, total)),
    ).to_pylist()  # fmt: skip
    assert steps[-1] == ("asking nothing", len(trial), len(trial))

    def figure(system: str, metric: str, segment: str = "all") -> dict:
        return next(r for r in table if (r[c.SYSTEM], r[c.METRIC], r[c.SEGMENT]) == (system, metric, segment))

    assert figure("perfect", "nDCG@3")[c.ESTIMATE] == 1.0
    assert figure("perfect", "Recall@8")[c.ESTIMATE] == 1.0
    assert figure("perfect", "Recall@8", "tail item")[c.ESTIMATE] == 1.0
    assert figure("nothing", "nDCG@3")[c.ESTIMATE] == 0.0
    assert figure("nothing", "Coverage@3")[c.ESTIMATE] == 0.0
    difference = figure("perfect minus nothing", "nDCG@3")
    assert (difference[c.ESTIMATE], difference[c.LOW], difference[c.N]) == (1.0, 1.0, len(trial))
    assert not [r for r in table if r[c.SYSTEM] == "nothing" and r[c.METRIC] == "Novelty@3"]
    assert not [r for r in table if r[c.SYSTEM].startswith("nothing minus")]
    with_head = sum(bool(head[trial.relevant.row(i)].any()) for i in range(len(trial)))
    assert figure("perfect", "nDCG@3", "head item")[c.N] == with_head
    keys = [(r[c.SEGMENT], r[c.SYSTEM], r[c.METRIC]) for r in table]
    assert len(set(keys)) == len(keys)
    assert {r[c.PROTOCOL] for r in table} == {"global"}


def test_batches_change_no_query() -> None:
    log, _ = small_world()
    trial = global_trial(log, 50)

    def echo(queries: Queries, k: int) -> np.ndarray:
        lists = np.full((len(queries), k), -1, np.int32)
        for i in range(len(queries)):
            told = np.concatenate(
                [queries.items[queries.indptr[i] : queries.indptr[i + 1]][:4], queries.exclude.row(i)[:4]]
            )
            lists[i, : len(told)] = told
        return lists

    whole = ask(echo, trial.queries, 8, n_items=N_ITEMS)
    for batch in (1, 2, 5):
        assert np.array_equal(ask(echo, trial.queries, 8, n_items=N_ITEMS, batch=batch), whole)


@pytest.mark.parametrize(
    "found",
    [np.zeros((1, 3), np.int32), np.zeros((2, 3)), np.full((2, 3), 99, np.int32), np.full((2, 3), -2, np.int32)],
)
def test_a_system_that_gives_no_lists_is_named(found: np.ndarray) -> None:
    queries = global_trial(log_of([(0, 1, 9, 1.0), (1, 1, 9, 1.0)]), 5).queries
    with pytest.raises(DataError, match="'mine'"):
        ask(lambda _queries, _k: found, queries, 3, n_items=N_ITEMS, name="mine")


def test_a_baseline_that_is_no_system_is_refused() -> None:
    log, train = small_world()
    with pytest.raises(DataError, match="baselines"):
        evaluate(
            global_trial(log, 50), {}, [nDCG(3)], facts=ItemFacts.of(train), head=head_items(train), baselines=["x"]
        )
