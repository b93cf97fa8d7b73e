"""Who lives in a world: people with moods, items with what no catalog lists, sellers, fashions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from honeyguide.contracts import F32, F64, I32, I64
from honeyguide.kernels.world import DAY_US, Goods, Minds
from honeyguide.world.config import Shape, WorldConfig

__all__ = ["Population", "Priors", "fashions", "populate", "usual_pulse"]


@dataclass(frozen=True)
class Priors:
    """What a catalog and a log tell about people and items (`world.fit.priors_of`); None where they tell nothing."""

    leaf: I32 | None = None  # (items,) category, -1 unknown
    branch_of: I32 | None = None  # (leaves,)
    log_price: F64 | None = None  # (items,) nan unknown
    appeal: F64 | None = None  # (items,) standardised; `appeal_spread` scales it
    born: I64 | None = None  # (items,)
    stocked: npt.NDArray[np.bool_] | None = None  # (items,)
    liked: I32 | None = None  # (people, moods) items from each person's history, -1 unknown
    rate: F64 | None = None  # (people,) visits a day; `visits_a_day` scales it
    joined: I64 | None = None  # (people,) first visit
    purse: F64 | None = None  # (people,) log of the price usually paid, nan unknown


@dataclass(frozen=True)
class Population:
    """People and items of a world."""

    minds: Minds
    goods: Goods
    branch_of: I32  # (leaves,)
    quality_of_seller: F64


def usual_pulse() -> F64:
    """Relative activity by hour of the week from Monday 0:00 UTC, mean 1: evenings and weekends are busier."""
    hour = np.arange(168)
    of_day = (
        1.0 + 0.75 * np.sin((hour % 24 - 14.0) / 24.0 * 2 * np.pi) + 0.15 * np.sin((hour % 24 - 8) / 12 * 2 * np.pi)
    )
    weekend = np.where(hour // 24 >= 5, 1.25, 1.0)
    pulse: F64 = np.maximum(of_day, 0.08) * weekend
    return pulse / pulse.mean()


def _style(rng: np.random.Generator, centres: F64, spread: float) -> F32:
    return np.clip(centres + rng.normal(0.0, spread, centres.shape), 0.0, 1.0).astype(np.float32)


def populate(config: WorldConfig, priors: Priors | None = None) -> Population:
    """Draw a population; what the priors know is taken from them. Deterministic under `config.seed`."""
    shape, told = config.shape, priors or Priors()
    rng = np.random.default_rng(np.random.SeedSequence([config.seed, 1]))
    leaves = shape.leaves if told.branch_of is None else len(told.branch_of)
    branch_of = (
        np.sort(rng.integers(0, shape.branches, leaves)).astype(np.int32) if told.branch_of is None else told.branch_of
    )
    goods, seller_quality = _goods(config, told, leaves, branch_of, rng)
    return Population(_minds(config, told, goods, leaves, rng), goods, branch_of, seller_quality)


def _goods(
    config: WorldConfig, told: Priors, leaves: int, branch_of: I32, rng: np.random.Generator
) -> tuple[Goods, F64]:
    shape = config.shape
    m = shape.items
    if told.leaf is None:
        leaf = rng.choice(leaves, m, p=_uneven(leaves, rng)).astype(np.int32)
    else:
        # An item whose category nobody states is somewhere all the same.
        leaf = np.where(told.leaf >= 0, told.leaf, rng.integers(0, leaves, m)).astype(np.int32)
    # Each category has a few styles of its own: a mixture, not a plane.
    centres = rng.random((leaves, 3, shape.styles))
    style = _style(rng, centres[leaf, rng.integers(0, 3, m)], 0.12)
    seller = rng.choice(shape.sellers, m, p=_uneven(shape.sellers, rng)).astype(np.int32)
    of_seller = rng.normal(0.0, 0.6, shape.sellers)
    quality = of_seller[seller] + rng.normal(0.0, 0.8, m)
    # Some sellers lure: what attracts and what contents are nearly unrelated.
    lure = np.maximum(rng.normal(0.0, 0.7, shape.sellers)[seller] + rng.normal(0.0, 0.6, m), -0.5)
    appeal = shape.appeal_spread * (rng.normal(0.0, 1.0, m) if told.appeal is None else told.appeal)
    log_price = np.log(shape.price_median) + rng.normal(0.0, shape.price_spread, m) + 0.25 * of_seller[seller]
    if told.log_price is not None:
        log_price = np.where(np.isnan(told.log_price), log_price, told.log_price)
    if told.born is None:
        early = config.start_us - (rng.exponential(120.0, m) * DAY_US).astype(np.int64)
        count = min(m // 3, int(shape.new_items_a_day * 60))
        early[m - count :] = config.start_us + np.sort(rng.random(count) * 60 * DAY_US).astype(np.int64)
        born = early
    else:
        born = told.born
    stocked = np.asarray(born <= config.start_us) if told.stocked is None else told.stocked & (born <= config.start_us)
    goods = Goods(
        leaf, np.ascontiguousarray(branch_of[leaf]), style, quality, lure, np.asarray(appeal, np.float64), log_price,
        seller, born, stocked,
    )  # fmt: skip
    return goods, of_seller


def _minds(config: WorldConfig, told: Priors, goods: Goods, leaves: int, rng: np.random.Generator) -> Minds:
    shape, n, moods = config.shape, config.shape.people, config.shape.moods
    weight = rng.dirichlet(np.full(moods, 0.8), n)
    leaf = rng.choice(leaves, (n, moods), p=_uneven(leaves, rng)).astype(np.int32)
    if told.liked is not None:
        leaf = np.where(told.liked >= 0, goods.leaf[told.liked], leaf)
    # A mood is drawn to what exists: around an item of its category.
    order = np.argsort(goods.leaf, kind="stable")
    start = np.searchsorted(goods.leaf[order], np.arange(leaves + 1))
    size = np.maximum(np.diff(start), 1)
    pick = order[np.minimum(start[leaf] + (rng.random((n, moods)) * size[leaf]).astype(np.int64), len(order) - 1)]
    if told.liked is not None:
        pick = np.where(told.liked >= 0, told.liked, pick)
    rate = np.exp(rng.normal(0.0, shape.visits_spread, n)) if told.rate is None else told.rate
    rate = shape.visits_a_day * rate
    purse = np.log(shape.price_median) + rng.normal(0.15, 0.5, n)
    if told.purse is not None:
        purse = np.where(np.isnan(told.purse), purse, told.purse)
    spread = shape.patience * 30.0
    patience = rng.beta(max(spread, 0.5), max(30.0 - spread, 0.5), n)
    first = config.start_us + (rng.exponential(1.0, n) / rate * DAY_US).astype(np.int64)
    if told.joined is not None:
        first = np.maximum(told.joined, config.start_us)
    return Minds(
        weight, leaf, _style(rng, goods.style[pick].astype(np.float64), 0.1), rng.gamma(2.0, 0.5, n), purse,
        rng.gamma(2.0, 0.3, n), patience, rate, first, np.zeros(n, np.int64), np.zeros(n, np.bool_), np.zeros(n),
        np.zeros((n, moods)), np.full(n, config.start_us, np.int64), np.full((n, shape.memory), -1, np.int32),
        np.zeros((n, shape.memory), np.int16), np.zeros((n, shape.memory), np.bool_), np.zeros(n, np.int64),
    )  # fmt: skip


def _uneven(n: int, rng: np.random.Generator) -> F64:
    share = rng.permutation(1.0 / np.arange(1, n + 1) ** 0.7)
    return np.asarray(share / share.sum())


def fashions(shape: Shape, seed: int, branches: int, days: int) -> F64:
    """(days, branches) attraction that comes and goes: an autoregressive walk with now and then a burst."""
    keep = np.exp(-1.0 / shape.trend_days)
    # A generator each, so that a longer run begins with the shorter one.
    walk, burst = (np.random.default_rng(np.random.SeedSequence([seed, 2, n])) for n in range(2))
    steps = walk.normal(0.0, 1.0, (days, branches)) * shape.trend_spread * np.sqrt(1 - keep**2)
    steps += np.where(burst.random((days, branches)) < 0.01, 0.8, 0.0)
    made, level = np.zeros((days, branches)), np.zeros(branches)
    for day in range(days):
        level = keep * level + steps[day]
        made[day] = level
    return made
