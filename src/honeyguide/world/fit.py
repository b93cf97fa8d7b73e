"""A world like a log: what is taken from the log, what is matched by trial, and how alike the two are."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from honeyguide.contracts import F64, I32, I64, CatalogView, Interactions, Progress
from honeyguide.errors import DataError
from honeyguide.kernels.world import CLICKED, DAY_US
from honeyguide.world.config import WorldConfig
from honeyguide.world.population import Priors
from honeyguide.world.portrait import SESSION_GAP_US, Portrait, distances
from honeyguide.world.world import Lists, World

__all__ = ["Fit", "fit", "portrait_of_world", "priors_of"]

MOST_PEOPLE = 1_500
"""People of a trial world; what is matched are shares and rates, which do not need more."""
DAYS, ENOUGH_PEOPLE = 60.0, 1_000
"""The newest days that are looked at; as often doubled as it takes to see so many people."""
TRIALS = 16
WARM_DAYS = 7.0
MOST_MEMORY = 400
FEWEST_EVENTS = 200
BRANCHES = 6
MOODS = 3


@dataclass(frozen=True)
class Fit:
    """A world's configuration and priors, and the log beside it."""

    config: WorldConfig
    priors: Priors
    log: Portrait
    world: Portrait
    distance: dict[str, float]  # figure -> 0 (alike) to 1
    people: I32  # (people of the world,) which person of the log each is

    @property
    def fit_distance(self) -> float:
        """Mean over the figures."""
        return float(np.mean(list(self.distance.values())))

    def report(self) -> list[dict[str, Any]]:
        """A row per figure: the log beside the world."""
        told = {
            "popularity": ("share of events on the top 10 % of items", self.log.lorenz[3], self.world.lorenz[3]),
            "events per session": ("median", *_medians(self, "session_events")),
            "sessions per person and span": ("median", *_medians(self, "sessions_each")),
            "hours between sessions": ("median", *_medians(self, "gap_hours")),
            "repeats": ("share of events", self.log.repeat_share, self.world.repeat_share),
            "hour of the week": ("busiest over mean", self.log.pulse.max(), self.world.pulse.max()),
            "people lost": ("share, first half to second", self.log.lost_share, self.world.lost_share),
            "stability of what is popular": ("overlap of halves", self.log.stable_share, self.world.stable_share),
        }
        return [
            {"figure": name, "what": told[name][0] if name in told else "largest difference",
             "log": float(told[name][1]) if name in told else None,
             "world": float(told[name][2]) if name in told else None, "distance": value}
            for name, value in self.distance.items()
        ]  # fmt: skip


def _medians(found: Fit, name: str) -> tuple[float, float]:
    return float(np.median(getattr(found.log, name))), float(np.median(getattr(found.world, name)))


def priors_of(events: Interactions, catalog: CatalogView, *, moods: int = MOODS, seed: int = 0) -> Priors:
    """What a log and a catalog say about each person and item: categories, prices, popularity, tastes, activity."""
    rng = np.random.default_rng(np.random.SeedSequence([seed, 4]))
    good = events.take(events.weight > 0) if np.any(events.weight > 0) else events
    first = np.full(len(catalog), -1, np.int32)
    has = np.diff(catalog.category.indptr) > 0
    first[has] = catalog.category.values[catalog.category.indptr[:-1][has]]
    leaves = max(1, len(catalog.category_names))
    counts = np.bincount(good.item, minlength=len(catalog)).astype(np.float64)
    appeal = np.log(counts + 1.0)
    spread = appeal.std()
    order = np.argsort(good.user, kind="stable")
    start = np.searchsorted(good.user[order], np.arange(good.n_users + 1))
    size = np.diff(start)
    pick = start[:-1, None] + (rng.random((good.n_users, moods)) * np.maximum(size, 1)[:, None]).astype(np.int64)
    liked = np.where(size[:, None] > 0, good.item[order[np.minimum(pick, len(order) - 1)]], -1).astype(np.int32)
    log_price = np.log(np.maximum(catalog.price.astype(np.float64), 1e-6))
    purse = np.full(good.n_users, np.nan)
    if not np.all(np.isnan(log_price)):
        paid = log_price[good.item]
        known = ~np.isnan(paid)
        n = np.bincount(good.user[known], minlength=good.n_users)
        total = np.bincount(good.user[known], weights=paid[known], minlength=good.n_users)
        purse = np.where(n > 0, total / np.maximum(n, 1), np.nan)
    return Priors(
        leaf=first,
        branch_of=_branches(good, first, leaves),
        log_price=log_price,
        appeal=(appeal - appeal.mean()) / (spread if spread > 0 else 1.0),
        born=np.minimum(catalog.known_at, int(events.at[-1])) if len(events) else catalog.known_at,
        stocked=catalog.available.copy(),
        liked=liked,
        rate=_rates(good),
        purse=purse,
    )


def _rates(events: Interactions) -> F64:
    """Visits a day of each person while active, relative to the median; shrunk to everybody's by one visit."""
    by_user = np.lexsort((np.arange(len(events)), events.user))
    u, at = events.user[by_user], events.at[by_user]
    gap = np.diff(at)
    again = (u[1:] == u[:-1]) & (gap > SESSION_GAP_US)
    gaps = np.bincount(u[1:][again], minlength=events.n_users)
    days = np.bincount(u[1:][again], weights=gap[again] / DAY_US, minlength=events.n_users)
    usual = days.sum() / max(gaps.sum(), 1)
    rate = (gaps + 1.0) / np.maximum(days + usual, 1e-3)
    relative: F64 = np.clip(rate / np.median(rate), 0.05, 50.0)
    return relative


def _branches(events: Interactions, leaf: I32, leaves: int) -> I32:
    """Categories that the same people take are of one branch (average linkage on the cosine of who took them)."""
    from scipy.cluster.hierarchy import fcluster, linkage

    if leaves <= BRANCHES:
        return np.arange(leaves, dtype=np.int32)
    of = leaf[events.item]
    known = of >= 0
    # People are folded into 256 groups: enough to tell which categories go together.
    table = np.zeros((leaves, 256))
    np.add.at(table, (of[known], events.user[known] % 256), 1.0)
    norm = np.linalg.norm(table, axis=1, keepdims=True)
    table = np.where(norm > 0, table / np.maximum(norm, 1e-12), 1.0 / 16.0)
    groups = fcluster(linkage(table, "average", metric="cosine"), BRANCHES, "maxclust")
    return (np.unique(groups, return_inverse=True)[1]).astype(np.int32)


def portrait_of_world(config: WorldConfig, priors: Priors, days: float, warm_days: float = WARM_DAYS) -> Portrait:
    """A world under its built-in policy, seen as its log of clicks (after a warm-up)."""
    world, lists = World(config, priors), list[Lists]()
    world.live(warm_days)
    seen = world.live(days, lists)
    clicks = seen[(seen["did"] & CLICKED) > 0]
    if len(clicks) < 2:
        raise DataError(
            expected="a world in which people click", got=f"{len(clicks)} clicks in {days:g} days",
            do="Raise base or visits_a_day, or start from the default world.",
        )  # fmt: skip
    shown = (Lists.joined(lists, config.slots).items >= 0).sum(0)
    rate = np.bincount(clicks["position"], minlength=config.slots + 1)[1:] / np.maximum(shown, 1)
    item, user = clicks["item"].astype(np.int32), clicks["user"].astype(np.int32)
    return Portrait.of(user, item, clicks["at"].astype(np.int64), rate)


def fit(
    events: Interactions, catalog: CatalogView, *, seed: int = 0, position_rate: F64 | None = None,
    most_people: int = MOST_PEOPLE, trials: int = TRIALS, progress: Progress | None = None,
) -> Fit:  # fmt: skip
    """Fit a world to a log. Raises DataError if it holds fewer than 200 events or two items.

    Taken straight from the log: people, items, each person's tastes and pace, prices, popularity, the week's pulse.
    Matched by trial (damped, 16 worlds): visits a day, events per session, popularity skew, repeats, people lost.
    position_rate: (slots,) of a list, clicks on each slot per list that had it; with it patience is matched too.
    """
    good = events.take(events.weight > 0) if np.any(events.weight > 0) else events
    if len(good) < FEWEST_EVENTS or len(catalog) < 2 or len(np.unique(good.item)) < 2:
        raise DataError(
            expected=f"at least {FEWEST_EVENTS} events on two items or more to fit a world to",
            got=f"{len(good)} events on {len(np.unique(good.item))} items",
            do="Simulate the default shop, or load more of the log.",
        )
    newest = _newest(good)
    log = Portrait.of(newest.user, newest.item, newest.at, position_rate)
    priors = priors_of(events, catalog, seed=seed)
    people = np.unique(newest.user)
    rng = np.random.default_rng(np.random.SeedSequence([seed, 5]))
    some = np.sort(rng.choice(people, most_people, replace=False)) if len(people) > most_people else people
    trial = _of_people(replace(priors, joined=_joined(newest)), some)
    config = _first_guess(log, catalog, len(some), int(newest.at[0]) - int(WARM_DAYS * DAY_US), seed)
    if position_rate is not None:
        config = config.model_copy(update={"slots": len(position_rate)})
    days = max(log.days, 7.0)
    best: tuple[float, WorldConfig, Portrait] | None = None
    for attempt in range(trials):
        if progress is not None:
            progress("fitting the world", attempt, trials)
        seen = portrait_of_world(config, trial, days)
        far = float(np.mean(list(distances(log, seen).values())))
        if best is None or far < best[0]:
            best = (far, config, seen)
        config = _nearer(config, log, seen, step=1.0 / (1.0 + 0.15 * attempt))
    if progress is not None:
        progress("fitting the world", trials, trials)
    _, chosen, seen = best if best is not None else (0.0, config, log)
    return Fit(chosen, trial, log, seen, distances(log, seen), some)


def _newest(events: Interactions) -> Interactions:
    days = DAYS
    while True:
        newest = events.since(int(events.at[-1]) - int(days * DAY_US))
        if len(newest) == len(events) or len(np.unique(newest.user)) >= ENOUGH_PEOPLE:
            return newest
        days *= 2


def _joined(events: Interactions) -> I64:
    """Each person's first event (of those that are looked at)."""
    first = np.full(events.n_users, events.at[-1], np.int64)
    np.minimum.at(first, events.user, events.at)
    return first


def _of_people(priors: Priors, people: I32) -> Priors:
    by_person = {name: getattr(priors, name) for name in ("liked", "rate", "joined", "purse")}
    return replace(priors, **{name: None if value is None else value[people] for name, value in by_person.items()})


def _first_guess(log: Portrait, catalog: CatalogView, people: int, start_us: int, seed: int) -> WorldConfig:
    plain = WorldConfig()
    known = catalog.price[~np.isnan(catalog.price)]
    positive = known[known > 0]
    shape = plain.shape.model_copy(
        update={
            "people": people,
            "items": len(catalog),
            "moods": MOODS,
            "visits_a_day": float(np.clip(24.0 / _middle(log.gap_hours), 1e-3, 20.0)),
            "price_median": float(np.median(positive)) if len(positive) else plain.shape.price_median,
            "pulse": tuple(float(hour) for hour in np.maximum(log.pulse, 0.02)),
            "memory": int(np.clip(2 * log.events / log.people, 48, MOST_MEMORY)),
            "new_items_a_day": 0.0,
        }
    )
    # As if each visit were the last with the same probability.
    last = float(np.clip(1.0 / np.mean(log.sessions_each), 0.002, 0.8))
    mind = plain.mind.model_copy(update={"quit": float(np.log(-np.log1p(-last)))})
    return WorldConfig(seed=seed, start_us=start_us, slots=plain.slots, shape=shape, mind=mind)


def _nearer(config: WorldConfig, log: Portrait, seen: Portrait, step: float) -> WorldConfig:
    """Each parameter towards the figure that it moves most."""

    def log_ratio(ours: float, theirs: float) -> float:
        return float(np.clip(np.log(max(theirs, 1e-6) / max(ours, 1e-6)), -1.0, 1.0)) * step

    shape, mind = config.shape, config.mind
    # The pace of those who stay shows in the gaps; how many visits there are in all tells who stays.
    visits = log_ratio(1.0 / _middle(seen.gap_hours), 1.0 / _middle(log.gap_hours))
    many = log_ratio(float(np.mean(seen.sessions_each)), float(np.mean(log.sessions_each)))
    length = log_ratio(float(np.mean(seen.session_events)), float(np.mean(log.session_events)))
    middle = log_ratio(float(np.median(seen.session_events)), float(np.median(log.session_events)))
    skew = float(np.clip(log.lorenz[3] - seen.lorenz[3], -0.5, 0.5)) * step
    repeats = log_ratio(seen.repeat_share + 0.002, log.repeat_share + 0.002)
    odds = np.log(shape.more / (1.0 - shape.more)) + 0.8 * length
    tails = log_ratio(_tail(seen.session_events), _tail(log.session_events))
    gaps = log_ratio(_spread(seen.gap_hours), _spread(log.gap_hours))
    slots = 0.0
    if log.position_rate is not None and seen.position_rate is not None and len(log.position_rate) >= 4:
        # What is left of the first half's clicks in the second: about the patience to the power of half the slots.
        slots = log_ratio(_lower(seen.position_rate), _lower(log.position_rate)) / (len(log.position_rate) / 2)
    new_shape = shape.model_copy(
        update={
            "visits_a_day": float(np.clip(shape.visits_a_day * np.exp(visits), 1e-4, 50.0)),
            "more": float(np.clip(1.0 / (1.0 + np.exp(-odds)), 0.01, 0.95)),
            "heat": float(np.clip(shape.heat * np.exp(-2.0 * skew), 0.3, 20.0)),
            "patience": float(np.clip(shape.patience * np.exp(slots), 0.3, 0.995)),
            "gap_shape": float(np.clip(shape.gap_shape * np.exp(-0.5 * gaps), 0.25, 4.0)),
        }
    )
    new_mind = mind.model_copy(
        update={
            "base": float(np.clip(mind.base + 0.5 * middle, -8.0, 1.0)),
            "eager": float(np.clip(mind.eager + 0.8 * tails, 0.0, 5.0)),
            "again": float(np.clip(mind.again + repeats, -6.0, 3.0)),
            "quit": float(np.clip(mind.quit - many, -9.0, 1.0)),
        }
    )
    return config.model_copy(update={"shape": new_shape, "mind": new_mind})


def _middle(hours: F64) -> float:
    return 24.0 if np.isnan(hours).any() else max(float(np.median(hours)), 0.5)


def _lower(rate: F64) -> float:
    """Clicks of the lower half of the slots over those of the upper half."""
    half = len(rate) // 2
    return float(rate[half:].mean() / max(rate[:half].mean(), 1e-12))


def _tail(session: F64) -> float:
    """Mean over median: how much longer the long visits are."""
    return float(session.mean() / np.median(session))


def _spread(hours: F64) -> float:
    """Ratio of the upper to the lower quartile."""
    if np.isnan(hours).any():
        return 1.0
    low, high = np.quantile(hours, (0.25, 0.75))
    return float(high / max(low, 1e-6))
