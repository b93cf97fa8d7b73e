"""How simulated people decide: against plain loops, and the laws that make the world a test of the product."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from honeyguide.errors import ConfigError
from honeyguide.kernels import world as k
from honeyguide.world.changes import FlashCrowd, PriceChange, TasteShift, TrueEffect, changes_of
from honeyguide.world.config import Mind, Shape, WorldConfig
from honeyguide.world.world import TALLY, Lists, Visit, World

SMALL = Shape(people=120, items=150, leaves=8, branches=3, sellers=12, memory=16)
DAY = k.DAY_US


def world(seed: int = 3, **kwargs: object) -> World:
    return World(WorldConfig(seed=seed, slots=6, shape=SMALL), **kwargs)


def first_visit(one: World) -> Visit:
    u = int(np.argmin(one.minds.due))
    at = int(one.minds.due[u])
    mood, leaf, occasion = k.arrive(one.minds, one.nature, len(one.population.branch_of), u, at)
    return Visit(u, int(one.minds.visit[u]), at, mood, leaf, occasion)


def attraction(one: World, visit: Visit, items: list[int], slot: int) -> tuple[float, float]:
    """(click probability, joy) of a slot, from the words of docs/world.md alone."""
    mind, goods, minds, u = one.config.mind, one.goods, one.minds, visit.user
    i = items[slot]
    same_branch = goods.branch[i] == one.population.branch_of[visit.leaf]
    near = 1.0 if goods.leaf[i] == visit.leaf else 0.4 if same_branch else 0.0
    own = [0.5] * 3 if visit.occasion == 1 else list(minds.style[u, visit.mood])
    far = sum((float(a) - float(b)) ** 2 for a, b in zip(goods.style[i], own, strict=True))
    match = near * (0.3 + 0.7 * math.exp(-far / (2 * mind.width**2)))
    dear = max(0.0, goods.log_price[i] - minds.purse[u] - (0.5 if visit.occasion == 1 else 0.0))
    toll = mind.price * minds.thrift[u] * dear**2
    age_days = max(0.0, (visit.at_us - goods.born[i]) / DAY)
    alike = min(6, sum(goods.leaf[j] == goods.leaf[i] for j in items[:slot]))
    z = (
        mind.base + mind.category * near + mind.style * match + goods.appeal[i] + mind.quality * goods.quality[i]
        + mind.lure * goods.lure[i] + mind.novelty * math.exp(-age_days / mind.novelty_days)
        + one.trend[goods.branch[i]] - toll - mind.crowding * alike
    )  # fmt: skip
    joy = 1.5 * match + 0.5 * goods.quality[i] - 0.8 * goods.lure[i] - 0.5 * min(toll, 2.0) + 0.9
    return 1.0 - math.exp(-math.exp(min(z, 4.0))), joy


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.permutations(range(12)))
def test_expectations_are_those_of_a_plain_loop(seed: int, items: list[int]) -> None:
    one = world(seed)
    one.goods.stocked[:] = True
    visit = first_visit(one)
    shown = list(items[:6])
    mind = one.config.mind
    patience = one.minds.patience[visit.user] * (0.8 if visit.occasion == 2 else 1.0)
    reach, clicks, joys, buys = 1.0, 0.0, 0.0, 0.0
    for slot in range(len(shown)):
        p, joy = attraction(one, visit, shown, slot)
        buy = 1.0 - math.exp(-math.exp(min(mind.buy + mind.joy * joy, 4.0)))
        clicks += reach * mind.glance * p
        buys += reach * mind.glance * p * buy
        joys += reach * mind.glance * p * joy
        reach *= patience * (1.0 - mind.glance * p * mind.stop)
    looked = one.look(visit, 0, np.array(shown, np.int32), visit.at_us)
    assert looked.clicks == pytest.approx(clicks, abs=1e-9)
    assert looked.purchases == pytest.approx(buys, abs=1e-9)
    assert looked.joy == pytest.approx(joys, abs=1e-9)


def test_what_happens_agrees_with_what_was_to_be_expected() -> None:
    one = World(WorldConfig(seed=5, shape=SMALL.model_copy(update={"people": 600})))
    one.live(40)
    clicks, expected = (one.tally[:, TALLY.index(name)].sum() for name in ("clicks", "expected_clicks"))
    assert clicks > 2_000
    assert abs(clicks - expected) < 4.5 * math.sqrt(clicks)


def test_chance_is_uniform_and_depends_on_each_argument() -> None:
    drawn = np.array([k.chance(7, 1, a, b, 0) for a in range(100) for b in range(100)])
    assert len(np.unique(drawn)) == 10_000
    assert drawn.min() > 0.0
    assert drawn.max() < 1.0
    counts = np.histogram(drawn, 20, (0, 1))[0]
    assert ((counts - 500) ** 2 / 500).sum() < 43.8  # chi-square with 19 degrees of freedom, p = .001
    assert k.chance(7, 1, 2, 3, 4) != k.chance(8, 1, 2, 3, 4) != k.chance(7, 2, 2, 3, 4) != k.chance(7, 1, 2, 4, 3)


def test_a_seed_gives_one_world_and_a_longer_run_begins_with_the_shorter() -> None:
    short, long, other = world(), world(), world(seed=4)
    first, longer = short.live(3), long.live(6)
    assert len(first) > 50
    assert np.array_equal(first, longer[: len(first)])
    assert not np.array_equal(first, other.live(3)[: len(first)])


def test_a_list_that_lures_wins_clicks_today_and_loses_visits_later() -> None:
    """The world must punish what a learner of clicks would praise."""
    found = {}
    for name, of in (("lure", lambda g: g.lure), ("quality", lambda g: 1.0 * g.quality)):
        one = World(WorldConfig(seed=11, slots=8, shape=SMALL.model_copy(update={"people": 500, "appeal_spread": 0.2})))
        order = np.argsort(-of(one.goods), kind="stable").astype(np.int32)
        order = order[one.goods.stocked[order]]
        rng = np.random.default_rng(0)
        clicks_first_visit = 0.0
        for visit in one.visits(one.config.start_us + 60 * DAY):
            shown = rng.permutation(order[:40])[:8].astype(np.int32)
            looked = one.look(visit, 0, shown, visit.at_us)
            if visit.number == 0:
                clicks_first_visit += looked.clicks
            one.leave(visit, looked.went)
        found[name] = (clicks_first_visit, one.tally[:, 0].sum(), one.minds.gone.mean())
    print(found)
    assert found["lure"][0] > 1.1 * found["quality"][0]
    assert found["lure"][1] < 0.9 * found["quality"][1]
    assert found["lure"][2] > found["quality"][2]


def test_repetition_and_sameness_cost_attraction() -> None:
    one = world()
    one.goods.stocked[:] = True
    visit = first_visit(one)
    leaf = one.goods.leaf
    same = np.flatnonzero(leaf == np.bincount(leaf).argmax())[:6].astype(np.int32)
    alone = one.look(visit, 0, same[:1], visit.at_us).clicks
    together = one.look(visit, 0, same, visit.at_us).clicks
    assert together < 6 * alone * 3  # far from additive where items are alike; exact values: the loop above
    fresh = world()
    fresh.goods.stocked[:] = True
    item = same[:1]
    rates = []
    for page in range(30):
        rates.append(fresh.look(visit, page, item, visit.at_us).clicks)
        fresh.minds.sated[:] = 0.0
        fresh.minds.taken[:] = False
    assert max(rates[:4]) > rates[0] * 0.999
    assert rates[-1] < 0.5 * rates[0]


@pytest.mark.parametrize(
    ("change", "column", "sign"),
    [
        (TrueEffect(lift=0.5), "expected_clicks", 1),
        (PriceChange(factor=4.0), "purchases", -1),
        (FlashCrowd(times=4.0, from_day=2, until_day=12), "visits", 1),
    ],
)
def test_a_change_moves_the_truth(change: object, column: str, sign: int) -> None:
    tallies = []
    for changes in ((), (change,)):
        one = World(WorldConfig(seed=2, shape=SMALL.model_copy(update={"people": 400})), changes=changes)
        one.live(14)
        tallies.append(one.tally[:, TALLY.index(column)].sum())
    before, after = tallies
    assert sign * (after - before) > 0.05 * before


def test_a_shift_of_taste_concerns_the_changed_arm_alone() -> None:
    changed = np.arange(SMALL.people) % 2 == 0
    one = world(changes=(TasteShift(share=1.0, from_day=1),), changed=changed)
    before = one.minds.leaf.copy()
    one.turn_to(one.config.start_us + 2 * DAY)
    assert np.array_equal(before[~changed], one.minds.leaf[~changed])
    assert (before[changed] != one.minds.leaf[changed]).mean() > 0.5


def test_the_built_in_policy_tells_its_chances_truly() -> None:
    """Summed over draws, 1 / chance counts what could have been drawn (Horvitz and Thompson), slot by slot."""
    shape = SMALL.model_copy(update={"people": 900, "items": 30, "heat": 3.0, "new_items_a_day": 0.0, "sellers": 30,
                                     "seller_patience_days": 1e6})  # fmt: skip
    one, lists = World(WorldConfig(seed=8, slots=6, shape=shape)), list[Lists]()
    one.live(12, lists)
    shown = Lists.joined(lists, 6)
    assert len(shown.head) > 5_000
    assert np.all(np.diff(shown.head["at"]) >= 0)
    assert all(len(set(row)) == 6 for row in shown.items.tolist())
    for slot in range(6):
        counted = 1.0 / shown.odds[:, slot].astype(np.float64)
        assert abs(counted.mean() - (30 - slot)) < 5 * counted.std() / math.sqrt(len(counted))
    pages = shown.head["surface"] == 2
    assert np.array_equal(pages, shown.head["about"] >= 0)


def test_what_would_be_is_what_is_to_be_expected_and_changes_nobody() -> None:
    one = world()
    one.goods.stocked[:] = True
    visit, items = first_visit(one), np.arange(6, dtype=np.int32)
    before = [array.copy() for array in one.minds]
    told = one.would(visit, items, visit.at_us)
    assert all(np.array_equal(was, now) for was, now in zip(before, one.minds, strict=True))
    looked = one.look(visit, 0, items, visit.at_us)
    assert told == pytest.approx((looked.clicks, looked.purchases, looked.joy), abs=1e-12)
    # What stands below changes nothing above: the first slots by themselves.
    fresh = world()
    fresh.goods.stocked[:] = True
    parts = [fresh.would(visit, items[:depth], visit.at_us)[0] for depth in range(1, 7)]
    assert np.all(np.diff(parts) >= 0)
    assert parts[-1] == pytest.approx(told[0])


def test_sellers_without_sales_cut_prices_and_leave() -> None:
    shape = SMALL.model_copy(update={"seller_patience_days": 2.0, "visits_a_day": 0.001})
    one = World(WorldConfig(seed=1, shape=shape))
    prices = one.goods.log_price.copy()
    one.turn_to(one.config.start_us + 5 * DAY)
    assert (one.goods.log_price < prices).mean() > 0.9
    one.turn_to(one.config.start_us + 40 * DAY)
    assert one.goods.stocked.mean() < 0.1


@pytest.mark.parametrize(
    "given_",
    [
        [{"kind": "earthquake"}],
        [{"kind": "effect"}],
        [{"kind": "effect", "lift": 0.1, "unknown": 1}],
        [{"kind": "taste", "share": 1.5}],
        [{"kind": "effect", "lift": 0.1, "from_day": 5, "until_day": 5}],
    ],
)
def test_a_change_that_is_none_is_refused_in_words(given_: list[dict[str, object]]) -> None:
    with pytest.raises(ConfigError, match="Expected changes of the world"):
        changes_of(given_)


def test_configuration_is_closed() -> None:
    with pytest.raises(ValueError):
        Mind.model_validate({"basis": 1.0})
    with pytest.raises(ValueError):
        Shape.model_validate({"people": 0})
