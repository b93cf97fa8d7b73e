"""The closed loop in front of a small answerer, and the fit of a world to a log."""

from __future__ import annotations

from concurrent.futures import Future

import numpy as np
import pytest

from honeyguide.contracts import CatalogView, Interactions, Ragged
from honeyguide.errors import DataError
from honeyguide.kernels import world as k
from honeyguide.schema.vocabulary import Vocabulary
from honeyguide.schema.wire import (
    Answer,
    EventsAnswer,
    EventsRequest,
    Item,
    RecommendRequest,
    SearchAnswer,
    SearchRequest,
    ShownItem,
)
from honeyguide.world.audience import Audience
from honeyguide.world.changes import Bot, BrokenFact, PriceChange
from honeyguide.world.config import Shape, WorldConfig
from honeyguide.world.fit import fit
from honeyguide.world.portrait import Portrait, distances
from honeyguide.world.shop import items_table, shelf
from honeyguide.world.world import World

SMALL = Shape(people=80, items=60, leaves=6, branches=3, sellers=8, memory=16, visits_a_day=0.8)
DAY = k.DAY_US


class Popular:
    """An answerer that shows what was clicked most so far, and remembers what it was told."""

    def __init__(self, items: int) -> None:
        self.clicks = dict.fromkeys((f"i{row}" for row in range(items)), 0)
        self.now_us = 0
        self.asked: list[tuple[int, str]] = []
        self.events: list[tuple[int, str]] = []
        self.put: dict[str, Item] = {}

    def _best(self, k_: int, salt: str) -> list[ShownItem]:
        order = sorted(self.clicks, key=lambda item: (-self.clicks[item], hash(item + salt[-1:]) % 7, item))[:k_]
        return [ShownItem(item, slot + 1, 0.0, 1.0) for slot, item in enumerate(order)]

    def recommend(self, request: RecommendRequest) -> Answer:
        self.asked.append((self.now_us, request.surface))
        assert request.request_id is not None
        assert request.surface != "item" or request.item_id in self.clicks
        return Answer(request.request_id, request.surface, "p", "b", self._best(request.k, ""))

    def search(self, request: SearchRequest) -> SearchAnswer:
        self.asked.append((self.now_us, "search"))
        assert request.query.strip()
        assert request.request_id is not None
        return SearchAnswer(request.request_id, "search", "p", "b", request.query, 60, self._best(request.k, "s"))

    def record(self, batch: EventsRequest) -> Future[EventsAnswer]:
        for event in batch.events:
            assert isinstance(event.happened_at, float)
            assert event.happened_at * 1e6 <= self.now_us + 1 or event.user_id.startswith("bot")
            self.events.append((round(event.happened_at * 1e6), event.user_id))
            self.clicks[event.item_id] += event.action == "click"
        done: Future[EventsAnswer] = Future()
        done.set_result(EventsAnswer(len(batch.events), 0, []))
        return done

    def put_item(self, item: Item) -> Future[None]:
        self.put[item.item_id] = item
        done: Future[None] = Future()
        done.set_result(None)
        return done


def run(days: float, changes: tuple[object, ...] = (), seed: int = 1) -> tuple[World, Popular, Audience]:
    world = World(WorldConfig(seed=seed, slots=6, shape=SMALL), changes=changes)
    answerer = Popular(SMALL.items)

    def clock(at: int) -> None:
        assert at >= answerer.now_us - 3600 * 10**6  # visits of different people may overlap
        answerer.now_us = max(answerer.now_us, at)

    audience = Audience(world, shelf(world.goods, SMALL.people), lambda user: ("a", answerer), clock)
    audience.run(world.config.start_us + int(days * DAY))
    return world, answerer, audience


def test_what_people_do_enters_the_log_and_the_diary_alike() -> None:
    world, answerer, audience = run(10)
    diary = audience.diary
    assert len(diary) == len(answerer.asked) > 300
    assert {surface for _, surface in answerer.asked} == {"home", "item", "search"}
    clicks = sum(answerer.clicks.values())
    assert clicks == diary.column("clicks").sum() == world.tally[:, 2].sum()
    assert diary.per_person("clicks", SMALL.people).sum() == clicks
    assert np.allclose(diary.per_person("expected_clicks", SMALL.people), world.tally[:, 6])
    assert len(set(diary.request_id)) == len(diary)
    assert diary.fallbacks == diary.refused_events == 0


def test_the_loop_is_deterministic() -> None:
    one, other = run(5)[2].diary, run(5)[2].diary
    assert one == other
    assert one != run(5, seed=2)[2].diary


def test_the_product_is_told_of_prices_and_of_broken_facts() -> None:
    world, answerer, _ = run(4, (PriceChange(factor=2.0, from_day=1), BrokenFact(fact="title", from_day=2, share=0.5)))
    # Nobody is told of what is not there yet; what comes in is told in the morning.
    known = np.flatnonzero(world.goods.born <= world.now_us)
    assert {*answerer.put} == {f"i{row}" for row in known}
    assert 0 < len(known) < SMALL.items
    broken = [item for item in answerer.put.values() if item.title is None]
    assert 0.25 * len(known) <= len(broken) <= 0.75 * len(known)
    dear = [item for item in answerer.put.values() if item.title is not None]
    for item in dear:
        assert item.price == pytest.approx(float(np.exp(world.goods.log_price[int(item.item_id[1:])])), rel=0.3)


def test_bots_click_at_their_pace() -> None:
    _, answerer, _ = run(3, (Bot(accounts=2, clicks_per_hour=600, from_day=1, until_day=2.5),))
    bots = [(at, who) for at, who in answerer.events if who.startswith("bot")]
    assert len(bots) in (2 * 600, 4 * 600)
    first = sorted(at for at, who in bots if who == "bot-0")[:600]
    assert np.diff(first).max() == pytest.approx(6_000_000, abs=2)


def test_a_shelf_of_another_catalog_is_refused() -> None:
    world = World(WorldConfig(shape=SMALL))
    wrong = World(WorldConfig(shape=SMALL.model_copy(update={"items": 10})))
    with pytest.raises(DataError, match="60 items"):
        Audience(world, shelf(wrong.goods, 80), lambda user: ("a", Popular(10)), lambda at: None)


def test_the_shops_catalog_fits_the_schema() -> None:
    world = World(WorldConfig(shape=SMALL))
    table = items_table(world.goods, world.config.start_us, np.arange(SMALL.items, dtype=np.int32))
    assert table.num_rows == SMALL.items
    assert len(set(table["item_id"].to_pylist())) == SMALL.items


# ----------------------------------------------------------------------------------------------------------- fit


def log_of(config: WorldConfig, days: float) -> tuple[Interactions, CatalogView]:
    world = World(config)
    world.live(5)
    seen = world.live(days)
    clicks = seen[(seen["did"] & k.CLICKED) > 0]
    n = len(clicks)
    events = Interactions(
        clicks["user"].astype(np.int32), clicks["item"].astype(np.int32), np.zeros(n, np.int16),
        np.full(n, np.nan, np.float32), np.ones(n, np.float32), clicks["at"].astype(np.int64),
        config.shape.people, config.shape.items, ("click",),
    )  # fmt: skip
    goods = world.goods
    empty = Ragged.empty(config.shape.items)
    catalog = CatalogView(
        Vocabulary(f"i{row}" for row in range(config.shape.items)), [""] * config.shape.items,
        [""] * config.shape.items, Ragged.of([[int(leaf)] for leaf in goods.leaf]),
        [f"c{leaf}" for leaf in range(config.shape.leaves)], empty, [], np.full(config.shape.items, -1, np.int32), [],
        np.full(config.shape.items, np.nan, np.float32), np.exp(goods.log_price).astype(np.float32),
        np.ones(config.shape.items, np.bool_), np.full(config.shape.items, config.start_us, np.int64),
    )  # fmt: skip
    return events, catalog


@pytest.mark.heavy
def test_a_world_is_fitted_to_a_log_whose_maker_differs_from_the_default() -> None:
    shape = Shape(people=400, items=200, leaves=10, branches=4, visits_a_day=1.1, more=0.7, heat=1.0)
    events, catalog = log_of(WorldConfig(seed=9, shape=shape), 30)
    found = fit(events, catalog, seed=1)
    assert found.fit_distance < 0.16
    plain = Portrait.of(*(_default_log()))
    assert found.fit_distance < 0.7 * np.mean(list(distances(found.log, plain).values()))
    assert [row["figure"] for row in found.report()] == list(found.distance)


def _default_log() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    events, _ = log_of(WorldConfig(seed=2, shape=Shape(people=400, items=200, leaves=10, branches=4)), 30)
    return events.user, events.item, events.at


def test_a_portrait_by_hand() -> None:
    minute = 60_000_000
    user = np.array([0, 0, 1, 0, 1], np.int32)
    item = np.array([0, 1, 0, 0, 2], np.int32)
    at = np.array([0, 10 * minute, 20 * minute, 120 * minute, 2000 * minute], np.int64)
    found = Portrait.of(user, item, at)
    assert (found.people, found.items, found.events) == (2, 3, 5)
    assert found.session_events.tolist() == [1, 1, 1, 2]
    assert found.sessions_each.tolist() == [2, 2]
    assert found.gap_hours == pytest.approx([110 / 60, 1980 / 60])
    assert found.repeat_share == pytest.approx(1 / 5)
    assert found.lost_share == 0.5
    assert found.lorenz[-1] == 1.0
    assert distances(found, found) == dict.fromkeys(distances(found, found), 0.0)


def test_a_log_too_small_to_fit_is_refused() -> None:
    events, catalog = log_of(WorldConfig(seed=2, shape=SMALL), 5)
    with pytest.raises(DataError, match="200 events"):
        fit(events.take(slice(0, 50)), catalog)
