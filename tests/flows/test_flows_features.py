"""Every kind of feature through a build and its answers: served as learnt, and what is new is seen at once."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from honeyguide.errors import ConfigError
from honeyguide.features.training_set import Requests, group_features
from honeyguide.flows.arrivals import coded_context
from honeyguide.flows.build import build, prepare
from honeyguide.flows.create import create
from honeyguide.flows.layout import Layout
from honeyguide.flows.wiring import open_desk
from honeyguide.schema import columns as c
from honeyguide.schema.wire import EventIn, EventsRequest, RecommendRequest

FEATURES = """
[[features]]
name = "item_events_7d"
entity = "item"
aggregate = "count"
window_days = 7

[[features]]
name = "item_fading"
entity = "item"
aggregate = "count"
half_life_days = 14

[[features]]
name = "item_last_stars"
entity = "item"
aggregate = "mean"
action = "rating"
last = 10
prior = 3.5
strength = 2

[[features]]
name = "item_people"
entity = "item"
aggregate = "distinct"
of = "user"
window_days = 90

[[features]]
name = "user_categories"
entity = "user"
aggregate = "distinct"
of = "category"
window_days = 365
hop = "day"

[[features]]
name = "user_liking_now"
entity = "user"
aggregate = "ratio"
action = "rating"
min_value = 4
half_life_days = 30
prior = "overall"
strength = 5
expires_days = 200

[[features]]
name = "again"
entity = "user_item"
aggregate = "recency"

[[features]]
name = "item_at_this_hour"
entity = "item_context"
context = "hour"
band_hours = 6
aggregate = "count"
window_days = 365
hop = "day"

[[features]]
name = "item_on_this_device"
entity = "item_context"
context = "device"
aggregate = "count"

[[features]]
kind = "embedding"
name = "like_the_last"
last = 20
half_life = 5

[[features]]
kind = "embedding"
name = "taste_is_narrow"
measure = "coherence"

[[features]]
kind = "affinity"
name = "category_share"
facet = "category"
measure = "share"
"""


@pytest.fixture(scope="module")
def built_with_all(
    film_files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory, unhurried: Callable[[Path], None]
) -> Path:
    folder = tmp_path_factory.mktemp("features") / "shop"
    create(folder, events=film_files["events"], items=film_files["items"], users=film_files["users"])
    unhurried(folder)
    toml = folder / "honeyguide.toml"
    # Tables of tables come last; the features are written before the first section of the file's own.
    toml.write_text(toml.read_text() + FEATURES)
    build(folder)
    return folder


@pytest.fixture
def shop_with_all(built_with_all: Path, tmp_path: Path) -> Path:
    shutil.copytree(built_with_all, tmp_path / "shop")
    return tmp_path / "shop"


def test_what_is_served_is_what_training_would_say(shop_with_all: Path) -> None:
    desk = open_desk(str(shop_with_all), watch=False)
    try:
        event = EventIn("p3", "f20", "rating", value=5.0, event_id="mine", context={"device": "tv"}, surface="home")
        assert desk.record(EventsRequest([event])).result(10).accepted == 1
        answer = desk.recommend(RecommendRequest(user_id="p3", k=10, context={"device": "tv"}))
        assert answer.fallback is None
        assert answer.items
        live = desk._current()
        now = live.now_us()
        user, items = live.users.row("p3"), np.arange(60, dtype=np.int32)
        context = coded_context(live.online.features.context_keys, "home", {"device": "tv"})
        past = live.online.history(user, 200, now)
        got = live.online.read(user, items, now, past.items, past.weights, past.at, context=context)
        names, catalog = live.online.features.names, live.catalog
    finally:
        desk.close()
    assert got[catalog.items.row("f20"), names.index("item_on_this_device")] == 1
    assert got[catalog.items.row("f21"), names.index("item_on_this_device")] == 0
    assert 0 <= got[catalog.items.row("f20"), names.index("again")] < 1
    column = got[:, names.index("like_the_last")]
    assert np.nanmax(column) > 0.5
    # The same from the tables, with the log's event folded in, as a training set says it.
    prepared = prepare(Layout.open(shop_with_all), lambda what, done, total: None)
    data = prepared.data
    row = data.users.row("p3")
    request = Requests(
        np.array([row], np.int32), np.array([now]), items[None], {k: np.array([v]) for k, v in context.items()}
    )
    want = group_features(prepared.features, data.interactions, catalog, request)
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-6)


def test_an_event_is_in_the_items_features_within_a_second_and_in_its_persons_next_request(shop_with_all: Path) -> None:
    desk = open_desk(str(shop_with_all), watch=False)
    try:
        live = desk._current()
        names, row = live.online.features.names, live.catalog.items.row("f33")

        def seen() -> tuple[float, float]:
            now, user = live.now_us(), live.users.row("p9")
            past = live.online.history(user, 200, now)
            one = np.array([row], np.int32)
            got = live.online.read(user, one, now, past.items, past.weights, past.at)[0]
            return float(got[names.index("item_fading")]), float(got[names.index("again")])

        desk.recommend(RecommendRequest(user_id="p9", k=3))
        before = seen()
        started = time.process_time()
        assert desk.record(EventsRequest([EventIn("p9", "f33", "rating", value=4.0)])).result(10).accepted == 1
        desk.recommend(RecommendRequest(user_id="p9", k=3))
        after = seen()
        assert time.process_time() - started < 1.0
        assert after[0] == pytest.approx(before[0] + 1, abs=1e-3)
        assert after[1] < 1e-3
    finally:
        desk.close()


def test_a_correction_and_a_retraction_reach_the_next_answer_and_the_next_build(shop_with_all: Path) -> None:
    def count(desk) -> float:
        live = desk._current()
        row, now = live.catalog.items.row("f50"), live.now_us()
        past = live.online.history(-1, 10, now)
        got = live.online.read(-1, np.array([row], np.int32), now, past.items, past.weights, past.at)[0]
        names = live.online.features.names
        return float(got[names.index("item_events_7d")])

    def stars(desk) -> float:
        live = desk._current()
        row, now = live.catalog.items.row("f50"), live.now_us()
        got = live.online.read(
            -1, np.array([row], np.int32), now, *(np.zeros(0, kind) for kind in (np.int32, np.float32, np.int64))
        )[0]
        return float(got[live.online.features.names.index("item_last_stars")])

    desk = open_desk(str(shop_with_all), watch=False)
    try:
        base, said = count(desk), stars(desk)

        def send(**event) -> None:
            sent = EventsRequest([EventIn("p4", "f50", event.pop("action", "rating"), **event)])
            assert desk.record(sent).result(10).accepted == 1

        send(value=1.0, event_id="a")
        low = stars(desk)
        assert count(desk) == base + 1
        assert low < said
        send(value=5.0, event_id="b", corrects="a")
        assert count(desk) == base + 1
        assert stars(desk) > low
        corrected = stars(desk)
        send(value=3.0, event_id="c")
        send(action="retract", event_id="d", corrects="c")
        assert count(desk) == base + 1
        assert stars(desk) == pytest.approx(corrected)
    finally:
        desk.close()
    again = open_desk(str(shop_with_all), watch=False)  # a restart reads the log
    assert (count(again), stars(again)) == (base + 1, pytest.approx(corrected))
    again.close()
    build(shop_with_all)
    after = open_desk(str(shop_with_all), watch=False)  # a build reads the tables
    assert (count(after), stars(after)) == (base + 1, pytest.approx(corrected))
    after.close()


def test_feature_values_hold_the_new_kinds(built_with_all: Path) -> None:
    layout = Layout.open(built_with_all)
    manifest = json.loads(layout.manifest(layout.current_build()).read_text())
    table = pq.read_table(built_with_all / manifest["folders"]["feature_values"] / "feature_values.parquet")
    told = set(table[c.FEATURE].unique().to_pylist())
    assert {"item_people", "user_categories", "item_last_stars", "item_fading", "user_liking_now"} <= told
    assert {"like_the_last", "again"} <= {feature["name"] for feature in manifest["features"]}


def test_an_embedding_without_vectors_is_refused(shop_with_all: Path) -> None:
    toml = shop_with_all / "honeyguide.toml"
    sources = re.findall(r"^\[\[sources\]\]\n(?:(?!\[\[)[^\n]*\n)*", toml.read_text(), flags=re.M)
    text = toml.read_text()
    for source in sources:
        if "Popular" not in source:
            text = text.replace(source, "")
    toml.write_text(text)
    with pytest.raises(ConfigError, match="vectors"):
        build(shop_with_all)
