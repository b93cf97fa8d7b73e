"""The online state's own duties: keep, map, grow, wait, forget."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from honeyguide.contracts import CatalogView, Interactions, Ragged
from honeyguide.errors import BuildError, DataError
from honeyguide.features.definition import Affinity, Fact, Feature, FeatureSet
from honeyguide.features.online import OnlineState
from honeyguide.features.training_set import Requests, group_features
from honeyguide.kernels import affinity, windows
from honeyguide.schema.vocabulary import Vocabulary

DAY = 86_400_000_000
BEGIN = 20_000 * DAY
FEATURES = FeatureSet(
    (
        Feature(name="item_day", entity="item", aggregate="count", window_days=1),
        Feature(name="item_week", entity="item", aggregate="sum", window_days=7, hop="day"),
        Feature(name="item_like", entity="item", aggregate="ratio", min_value=3, prior="overall", strength=2),
        Feature(name="item_share", entity="item", aggregate="share", window_days=3),
        Feature(name="user_day", entity="user", aggregate="count", window_days=1, hop="5min"),
        Feature(name="user_mean", entity="user", aggregate="mean", prior="overall", strength=1),
        Feature(name="user_last", entity="user", aggregate="recency"),
        Affinity(name="genre", facet="category", measure="share", half_life=2),
        Affinity(name="again", facet="item", measure="overlap"),
        Fact(name="year", fact="year"),
    )
)


def catalog(n: int = 6) -> CatalogView:
    rows = np.arange(n)
    return CatalogView(
        Vocabulary([str(i) for i in rows]), [""] * n, [""] * n, Ragged.of([[int(i) % 3] for i in rows]), list("abc"),
        Ragged.empty(n), [], np.full(n, -1, np.int32), [], (1990 + rows).astype(np.float32),
        np.full(n, np.nan, np.float32), np.ones(n, np.bool_), np.zeros(n, np.int64),
    )  # fmt: skip


def stream(seed: int, n: int = 60, days: float = 12) -> Interactions:
    rng = np.random.default_rng(seed)
    at = BEGIN + np.sort(rng.integers(0, int(days * DAY), n))
    return Interactions(
        rng.integers(0, 4, n).astype(np.int32), rng.integers(0, 6, n).astype(np.int32), np.zeros(n, np.int16),
        rng.integers(1, 6, n).astype(np.float32), rng.normal(size=n).astype(np.float32), at, 4, 6, ("rating",),
    )  # fmt: skip


def read(state: OnlineState, user: int, at: int, items: np.ndarray | None = None) -> np.ndarray:
    past = state.history(user, 200, at)
    candidates = np.arange(6, dtype=np.int32) if items is None else items
    return state.read(user, candidates, at, past.items, past.weights, past.at)


def expected(log: Interactions, user: int, at: int) -> np.ndarray:
    items = np.arange(6, dtype=np.int32)[None]
    return group_features(FEATURES, log, catalog(), Requests(np.array([user], np.int32), np.array([at]), items))


def send(state: OnlineState, log: Interactions) -> None:
    state.apply_many(log.user, log.item, log.action, log.value, log.weight, log.at)


@settings(max_examples=20)
@given(st.integers(0, 99), st.floats(0, 1), st.floats(0, 14), st.floats(0, 6))
def test_a_saved_state_opens_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, seed: int, part: float, days: float, later: float
) -> None:
    folder, log = tmp_path_factory.mktemp("state"), stream(seed)
    built = int(part * len(log))
    state = OnlineState.build(FEATURES, log.take(slice(0, built)), catalog())
    send(state, log.take(slice(built, None)))
    state.advance(max(state.clock_us, BEGIN + int(days * DAY)))
    state.save(folder)
    opened = OnlineState.open(folder, catalog())
    assert opened.features == FEATURES
    assert opened.clock_us == state.clock_us
    at = state.clock_us + int(later * DAY)
    for user in range(-1, 5):
        assert read(opened, user, at).tobytes() == expected(log, user, at).tobytes()


def test_processes_share_what_is_on_disk_and_keep_their_news_to_themselves(tmp_path: Path) -> None:
    log = stream(1)
    OnlineState.build(FEATURES, log.take(slice(0, 30)), catalog()).save(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    one, two = OnlineState.open(tmp_path, catalog()), OnlineState.open(tmp_path, catalog())
    at = int(log.at[-1]) + 1
    send(one, log.take(slice(30, None)))
    one.advance(at)
    one.erase(2)
    assert read(two, 1, at).tobytes() == expected(log.take(slice(0, 30)), 1, at).tobytes()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("spoil", ["missing", "truncated", "other version"])
def test_a_folder_without_a_state_is_refused(tmp_path: Path, spoil: str) -> None:
    if spoil != "missing":
        OnlineState.build(FEATURES, stream(1), catalog()).save(tmp_path)
    if spoil == "truncated":
        (tmp_path / "group0_table.npy").write_bytes(b"\x93NUMPY")
    if spoil == "other version":
        path = tmp_path / "state.json"
        path.write_text(path.read_text().replace('"version": 2', '"version": 99'))
    with pytest.raises(BuildError, match="honeyguide build"):
        OnlineState.open(tmp_path, catalog())


def test_new_people_and_items_find_room() -> None:
    log = stream(2)
    state = OnlineState.build(FEATURES, log, catalog())
    at = int(log.at[-1]) + 1
    state.apply(50_000, 70_000, 0, 4.0, 1.0, at)
    row = read(state, 50_000, at + 1, np.array([70_000, 0, 69_999], np.int32))
    assert row[0, FEATURES.names.index("item_day")] == 1
    assert row[2, FEATURES.names.index("item_day")] == 0
    assert set(row[:, FEATURES.names.index("user_day")]) == {1.0}
    assert np.isnan(row[0, FEATURES.names.index("year")])
    assert state.history(50_000, 5, at + 1).items.tolist() == [70_000]
    state.use_catalog(catalog(70_001))
    assert read(state, 0, at + 1, np.array([70_000], np.int32))[0, FEATURES.names.index("year")] == 71_990


def test_an_event_from_the_future_waits_for_its_moment() -> None:
    log = stream(3)
    state, at = OnlineState.build(FEATURES, log, catalog()), int(log.at[-1]) + 1
    calm = read(state, 1, at)
    state.apply(1, 1, 0, 5.0, 1.0, at + 365_000 * DAY)
    assert read(state, 1, at).tobytes() == calm.tobytes()
    assert len(state.history(1, 200, at).items) == np.count_nonzero(log.user == 1)


def test_the_clock_does_not_run_backwards() -> None:
    log = stream(4)
    state, at = OnlineState.build(FEATURES, log, catalog()), int(log.at[-1]) + 1
    assert read(state, 1, at - 5 * DAY).tobytes() == read(state, 1, at).tobytes()
    assert state.clock_us == at


def test_a_late_event_leaves_its_window_before_an_earlier_arrival() -> None:
    state = OnlineState.build(FEATURES, stream(0, n=0), catalog())
    column = FEATURES.names.index("user_day")
    state.apply(0, 0, 0, 1.0, 1.0, BEGIN + DAY)
    state.advance(BEGIN + DAY + 1)
    state.apply(0, 1, 0, 1.0, 1.0, BEGIN + DAY // 2)
    assert read(state, 0, BEGIN + DAY + 2)[0, column] == 2
    assert state.history(0, 9, BEGIN + DAY + 2).items.tolist() == [1, 0]
    assert read(state, 0, BEGIN + 7 * DAY // 4)[0, column] == 1
    assert read(state, 0, BEGIN + 9 * DAY // 4)[0, column] == 0


@settings(max_examples=30)
@given(st.integers(0, 99), st.floats(0, 1), st.floats(0, 5), st.integers(0, 3))
def test_a_forgotten_person_was_never_there(seed: int, part: float, later: float, who: int) -> None:
    log = stream(seed)
    built = int(part * len(log))
    state = OnlineState.build(FEATURES, log.take(slice(0, built)), catalog())
    send(state, log.take(slice(built, None)))
    state.advance(max(state.clock_us, BEGIN + 6 * DAY))
    assert state.erase(who) == np.count_nonzero(log.user == who)
    assert state.erase(who) == 0
    rest = log.take(log.user != who)
    at = max(state.clock_us, int(log.at[-1])) + 1 + int(later * DAY)
    for user in range(4):
        assert read(state, user, at).tobytes() == expected(rest, user, at).tobytes()
    assert len(state.history(who, 100, at).items) == 0
    state.apply(who, 0, 0, 3.0, 1.0, at)
    assert state.history(who, 100, at + 1).items.tolist() == [0]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 1)), max_size=30), st.integers(0, 30), st.integers(1, 12))
def test_events_of_one_microsecond_keep_their_order_in_the_history(
    arrivals: list[tuple[int, int]], built: int, limit: int
) -> None:
    def part(rows: list[tuple[int, tuple[int, int]]]) -> Interactions:
        at, user = (np.array([row[k] for _, row in rows], np.int64) for k in (0, 1))
        label = np.array([place for place, _ in rows], np.float32)
        zero = np.zeros(len(rows), np.int32)
        return Interactions(user.astype(np.int32), zero, zero.astype(np.int16), label, label, at, 2, 6, ("rating",))

    # A build sorts what it has, stably; the rest comes as it comes, a piece at a time.
    numbered = list(enumerate(arrivals))
    first = sorted(numbered[:built], key=lambda row: row[1][0])
    state = OnlineState.build(FEATURES, part(first), catalog())
    for piece in range(built, len(numbered), 3):
        send(state, part(numbered[piece : piece + 3]))
        state.advance(4)
    for user in (0, 1):
        own = sorted((row for row in numbered if row[1][1] == user), key=lambda row: row[1][0])
        assert state.history(user, limit, 4).values.tolist() == [place for place, _ in own][-limit:]


def test_erasing_somebody_nobody_knows_changes_nothing() -> None:
    state = OnlineState.build(FEATURES, stream(5), catalog())
    assert state.erase(-1) == 0
    assert state.erase(10**9) == 0


def test_the_request_path_never_compiles_twice(tmp_path: Path) -> None:
    log = stream(6)
    state, at = OnlineState.build(FEATURES, log, catalog()), int(log.at[-1]) + 1
    kernels = (affinity.read_request, windows.newest, windows.fold_plain, windows.chain)
    send(state, log)
    at = at + 1
    wanted = read(state, 1, at)
    known = [len(kernel.signatures) for kernel in kernels]
    past = state.history(1, 200, at)
    frozen = past.items.copy()
    frozen.flags.writeable = False
    candidates = np.arange(12, dtype=np.int64)[::2] // 2
    got = state.read(np.int32(1), candidates, np.int64(at), frozen, past.weights.astype(np.float64), past.at)
    assert got.tobytes() == wanted.tobytes()
    state.save(tmp_path)
    mapped = OnlineState.open(tmp_path, catalog())
    send(mapped, log)
    read(mapped, 1, at + DAY)
    assert [len(kernel.signatures) for kernel in kernels] == known


def test_arrays_that_do_not_fit_are_refused() -> None:
    state, at = OnlineState.build(FEATURES, stream(7), catalog()), BEGIN + 20 * DAY
    items, past = np.arange(3, dtype=np.int32), state.history(0, 5, at)
    with pytest.raises(DataError, match="out"):
        state.read(0, items, at, past.items, past.weights, past.at, np.empty((2, len(FEATURES)), np.float32))
    with pytest.raises(DataError, match="history"):
        state.read(0, items, at, past.items, past.weights[1:], past.at)
    assert state.read(0, items[:0], at, past.items, past.weights, past.at).shape == (0, len(FEATURES))


def test_unordered_events_are_refused_by_the_build() -> None:
    log = stream(8)
    with pytest.raises(DataError, match="order of time"):
        OnlineState.build(FEATURES, log.take(np.arange(len(log))[::-1].copy()), catalog())
