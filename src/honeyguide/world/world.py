"""A world that runs: visits in order of time, lists browsed, sellers that compete, changes that set in."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import numpy.typing as npt

from honeyguide.contracts import F32, F64, I32, I64
from honeyguide.kernels import world as k
from honeyguide.world.changes import AnyChange, FlashCrowd, PriceChange, TasteShift, TrueEffect
from honeyguide.world.config import WorldConfig
from honeyguide.world.population import Population, Priors, fashions, populate, usual_pulse

__all__ = ["TALLY", "Lists", "Looked", "Visit", "World"]

TALLY = (
    "visits", "lists", "clicks", "saves", "purchases", "hides", "expected_clicks", "expected_joy", "expected_purchases",
)  # fmt: skip
"""What is counted for each person; the expected ones are the truth, free of the chance within a list."""
LONGEST_DAYS = 3_700
"""So far ahead the fashions are drawn."""
BATCH = 512
PRICE_CUT, MOST_CUTS = 0.9, 3
WISH = 11.0
"""Of the built-in policy: so many times likelier (and one) is an item of the category opened last."""


@dataclass(frozen=True, slots=True)
class Visit:
    """A person has come: why (nobody logs that) and when."""

    user: int
    number: int
    at_us: int
    mood: int
    leaf: int
    occasion: int


@dataclass(frozen=True, slots=True)
class Looked:
    """What became of one list. did: (k,) bits of `kernels.world`; expected over the chance within the list."""

    did: npt.NDArray[np.uint8]
    clicks: float
    purchases: float
    joy: float
    went: float


@dataclass(frozen=True, slots=True)
class Lists:
    """Lists of the built-in policy: (n,) `kernels.world.LIST`, (n, slots) item rows (-1 pads) and propensities."""

    head: np.ndarray
    items: I32
    odds: F32

    @classmethod
    def joined(cls, parts: Sequence[Lists], slots: int) -> Lists:
        """All parts, in order of time."""
        if not parts:
            return cls(np.zeros(0, k.LIST), np.zeros((0, slots), np.int32), np.zeros((0, slots), np.float32))
        head = np.concatenate([part.head for part in parts])
        order = np.argsort(head["at"], kind="stable")
        items, odds = (np.concatenate([getattr(part, name) for part in parts])[order] for name in ("items", "odds"))
        return cls(head[order], items, odds)


class World:
    """People, items and time. Deterministic under `config.seed`; two worlds of one seed share all chance, whatever
    their policies show.

    Price: about 400 bytes a person, 100 an item.
    """

    def __init__(
        self, config: WorldConfig, priors: Priors | None = None, changes: Sequence[AnyChange] = (),
        changed: npt.NDArray[np.bool_] | None = None,
    ) -> None:  # fmt: skip
        """`changed`: (people,) who meets the changes that concern people (default: everybody)."""
        self.config = config
        self.population: Population = populate(config, priors)
        self.minds, self.goods = self.population.minds, self.population.goods
        self.nature = config.nature()
        self.changes = tuple(changes)
        self.changes_from_us = config.start_us
        n = config.shape.people
        self.changed = np.ones(n, np.bool_) if changed is None else changed
        self.pulse = usual_pulse() if config.shape.pulse is None else np.array(config.shape.pulse)
        branches = int(self.population.branch_of.max()) + 1
        self._fashions = fashions(config.shape, config.seed, branches, LONGEST_DAYS)
        self.tally = np.zeros((n, len(TALLY)))
        self.last = np.full(n, -1, np.int32)
        self.opened = np.zeros(config.shape.items)  # decayed by day: what the built-in policy ranks by
        self._sold_day = np.full(config.shape.sellers, 0.0)
        self._cuts = np.zeros(config.shape.sellers, np.int64)
        self._gone_sellers = np.zeros(config.shape.sellers, np.bool_)
        self._shelf = np.argsort(self.goods.leaf, kind="stable")
        leaves = np.arange(len(self.population.branch_of) + 1)
        self._shelf_start = np.searchsorted(self.goods.leaf[self._shelf], leaves).astype(np.int64)
        self._day = -1
        self._begun: set[int] = set()
        self.now_us = config.start_us

    # -------------------------------------------------------------------------------------------------- time

    @property
    def day(self) -> int:
        """Days since the start."""
        return int((self.now_us - self.config.start_us) // k.DAY_US)

    @property
    def trend(self) -> F64:
        """Attraction of each branch today."""
        return self._fashions[min(self.day, LONGEST_DAYS - 1)]

    def _busy(self) -> float:
        """How many times the usual visits there are now."""
        return prod(one.times for one in self.changes if isinstance(one, FlashCrowd) and self.lasts(one))

    def _push(self) -> float:
        return sum(one.lift for one in self.changes if isinstance(one, TrueEffect) and self.lasts(one))

    def begin(self, changes: Sequence[AnyChange], changed: npt.NDArray[np.bool_], seed: int = 0) -> None:
        """From now on other things happen: days of `changes` count from now; `seed` (0: none) gives other chance."""
        self.changes, self.changed, self.changes_from_us = tuple(changes), changed, self.now_us
        self._begun = set()
        self.nature = self.nature._replace(seed=(self.config.seed + 1_000_003 * seed) % 2**62)

    def lasts(self, one: AnyChange) -> bool:
        """Whether a change is in force now."""
        at = (self.now_us - self.changes_from_us) / k.DAY_US
        return one.from_day <= at and (one.until_day is None or at < one.until_day)

    def turn_to(self, at_us: int) -> None:
        """Let time pass: new items enter, sellers without sales cut prices and then leave, changes set in."""
        self.now_us = max(self.now_us, at_us)
        while self._day < self.day:
            self._day += 1
            self._morning()
        for number, one in enumerate(self.changes):
            begins = self.changes_from_us + one.from_day * k.DAY_US
            if number not in self._begun and self.now_us >= begins:
                self._begun.add(number)
                self._set_in(number, one)

    def _morning(self) -> None:
        goods, shape = self.goods, self.config.shape
        midnight = self.config.start_us + self._day * k.DAY_US
        arrived = (goods.born <= midnight) & (goods.born > midnight - k.DAY_US)
        goods.stocked[arrived & ~self._gone_sellers[goods.seller]] = True
        self.opened *= 0.93
        idle = (self._day - self._sold_day) / shape.seller_patience_days
        for seller in np.flatnonzero((idle >= 1.0) & ~self._gone_sellers):
            mine = goods.seller == seller
            self._sold_day[seller] = self._day
            if self._cuts[seller] < MOST_CUTS:
                goods.log_price[mine] += np.log(PRICE_CUT)
            else:
                self._gone_sellers[seller] = True
                goods.stocked[mine] = False
            self._cuts[seller] += 1

    def _set_in(self, number: int, one: AnyChange) -> None:
        rng = np.random.default_rng(np.random.SeedSequence([self.config.seed, 3, number]))
        if isinstance(one, PriceChange):
            some = rng.random(self.config.shape.items) < one.share
            self.goods.log_price[some] += np.log(one.factor)
        elif isinstance(one, TasteShift):
            some = self.changed & (rng.random(self.config.shape.people) < one.share)
            moved = rng.integers(0, len(self.population.branch_of), self.minds.leaf.shape)
            self.minds.leaf[some] = moved[some]
        elif isinstance(one, FlashCrowd):
            # Who would have come later comes sooner; the pace afterwards follows `_busy`.
            waiting = self.minds.due > self.now_us
            ahead = (self.minds.due[waiting] - self.now_us) / one.times
            self.minds.due[waiting] = self.now_us + ahead.astype(np.int64)

    # ------------------------------------------------------------------------------------------------- visits

    def visits(self, until_us: int) -> Iterator[Visit]:
        """Visits in order of time. End each with `leave` before asking for the next."""
        minds, nature = self.minds, self.nature
        waiting = [(int(due), int(u)) for u, due in enumerate(minds.due) if not minds.gone[u]]
        heapq.heapify(waiting)
        while waiting and waiting[0][0] < until_us:
            due, u = heapq.heappop(waiting)
            if due != minds.due[u]:  # a change has moved it
                heapq.heappush(waiting, (int(minds.due[u]), u))
                continue
            self.turn_to(due)
            if due != minds.due[u]:
                heapq.heappush(waiting, (int(minds.due[u]), u))
                continue
            number = int(minds.visit[u])
            mood, leaf, occasion = k.arrive(minds, nature, len(self.population.branch_of), u, due)
            yield Visit(u, number, due, mood, leaf, occasion)
            if not minds.gone[u]:
                heapq.heappush(waiting, (int(minds.due[u]), u))
        self.turn_to(until_us)

    def look(self, visit: Visit, page: int, items: I32, at_us: int) -> Looked:
        """The person looks at a list of item rows (page 0 to 63 of the visit)."""
        did, truth = np.zeros(len(items), np.uint8), np.zeros(3)
        push = self._push() if self.changed[visit.user] else 0.0
        went = k.browse(
            self.minds, self.goods, self.nature, self.trend, self.population.branch_of, visit.user, visit.mood,
            visit.leaf, visit.occasion, at_us, page, np.ascontiguousarray(items, np.int32), push, did, truth,
        )  # fmt: skip
        counts = [np.count_nonzero(did & bit) for bit in (k.CLICKED, k.SAVED, k.BOUGHT, k.HIDDEN)]
        self.tally[visit.user] += [0, 1, *counts, truth[0], truth[2], truth[1]]
        clicked = items[(did & k.CLICKED) > 0]
        if len(clicked):
            self.last[visit.user] = self.goods.leaf[clicked[-1]]
            np.add.at(self.opened, clicked, 1.0)
            self._sold_day[self.goods.seller[items[(did & k.BOUGHT) > 0]]] = self._day
        return Looked(did, float(truth[0]), float(truth[1]), float(truth[2]), float(went))

    def would(self, visit: Visit, items: I32, at_us: int) -> tuple[float, float, float]:
        """Expected clicks, purchases and joy of a list if it were shown to the person now; nothing comes of it."""
        truth = np.zeros(3)
        push = self._push() if self.changed[visit.user] else 0.0
        k.expected(
            self.minds, self.goods, self.nature, self.trend, self.population.branch_of, visit.user, visit.mood,
            visit.leaf, visit.occasion, at_us, np.ascontiguousarray(items, np.int32), push, truth,
        )  # fmt: skip
        return float(truth[0]), float(truth[1]), float(truth[2])

    def stays(self, visit: Visit, page: int) -> bool:
        """Whether the person asks for the page of this number."""
        return bool(page < k.MOST_PAGES and k.stay(self.minds, self.nature, visit.user, page, self.config.shape.more))

    def opens_page(self, visit: Visit, page: int) -> bool:
        """Whether that is the page of the item just opened."""
        return bool(k.turns(self.minds, self.nature, visit.user, page, self.config.shape.item_page))

    def types(self, visit: Visit) -> bool:
        """Whether the visit begins with words."""
        return bool(k.turns(self.minds, self.nature, visit.user, 0, self.config.shape.searches))

    def leave(self, visit: Visit, went: float) -> None:
        """End a visit that went as said (sum over its lists)."""
        self.tally[visit.user, 0] += 1
        k.leave(self.minds, self.nature, visit.user, visit.at_us, went, self.pulse, self._busy())

    # -------------------------------------------------------------------------------------------- by itself

    def live(self, days: float, lists: list[Lists] | None = None) -> np.ndarray:
        """Let the world run under its built-in policy (popularity, drawn by Plackett-Luce, with the category opened
        last); returns the slots looked at as `kernels.world.EVENT`, in order of time. lists: takes what was shown."""
        until, parts = self.now_us + int(days * k.DAY_US), []
        tick = self._tick()
        while self.now_us < until:
            self.turn_to(self.now_us)
            end = min((self.now_us // tick + 1) * tick, until)
            due = self.minds.due
            push = np.where(self.changed, self._push(), 0.0)
            # A person may come twice within a tick.
            while len(who := np.flatnonzero((due < end) & ~self.minds.gone)):
                who = who[np.argsort(due[who], kind="stable")]
                for start in range(0, len(who), BATCH):
                    parts.append(self._lived(who[start : start + BATCH], push, lists))
            self.now_us = end
        everything = np.concatenate(parts) if parts else np.zeros(0, k.EVENT)
        return everything[np.argsort(everything["at"], kind="stable")]

    def _tick(self) -> int:
        """An hour, or as much longer as it takes for some hundred visits; a day at most."""
        a_day = float(self.minds.rate[~self.minds.gone].sum())
        return int(np.clip(24 * 200 / max(a_day, 1e-9), 1, 24)) * k.HOUR_US

    def _lived(self, who: I64, push: F64, lists: list[Lists] | None) -> np.ndarray:
        shape, slots = self.config.shape, self.config.slots
        room = 0 if lists is None else len(who) * k.MOST_PAGES
        told = Lists(np.zeros(room, k.LIST), np.empty((room, slots), np.int32), np.empty((room, slots), np.float32))
        events = np.zeros(len(who) * k.MOST_PAGES * slots, k.EVENT)
        mass = np.where(self.goods.stocked, (1.0 + self.opened) ** (1.0 / shape.heat), 0.0)[self._shelf]
        n = k.live(
            self.minds, self.goods, self.nature, self.trend, self.population.branch_of, who, self._shelf,
            np.concatenate([[0.0], np.cumsum(mass)]), self._shelf_start, WISH, slots, shape.more, shape.item_page, push,
            self.pulse, self._busy(), self.last, self.tally, events, told.head, told.items, told.odds,
        )  # fmt: skip
        if lists is not None:
            made_lists = int(np.count_nonzero(told.head["at"]))
            head, items, odds = told.head[:made_lists], told.items[:made_lists], told.odds[:made_lists]
            lists.append(Lists(head.copy(), items.copy(), odds.copy()))
        made = events[:n].copy()
        np.add.at(self.opened, made["item"][(made["did"] & k.CLICKED) > 0], 1.0)
        self._sold_day[self.goods.seller[made["item"][(made["did"] & k.BOUGHT) > 0]]] = self._day
        return made
