"""The closed loop: people of a world ask the product, look at what it shows, and what they do goes into its log."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from honeyguide.contracts import F64, I64, Answerer, Progress
from honeyguide.errors import DataError
from honeyguide.kernels import world as k
from honeyguide.schema.vocabulary import Vocabulary
from honeyguide.schema.wire import EventIn, EventsRequest, Item, RecommendRequest, SearchRequest, ShownItem
from honeyguide.world.changes import Bot, BrokenFact
from honeyguide.world.world import Looked, Visit, World

__all__ = ["Audience", "Diary", "Shelf"]

ACTIONS = ((k.CLICKED, "click"), (k.SAVED, "save"), (k.BOUGHT, "purchase"), (k.HIDDEN, "hide"))
PAGE_US, SLOT_US = 90_000_000, 4_000_000


@dataclass(frozen=True)
class Shelf:
    """What product and world call the same things: item ids by the world's rows, and each item as it is told."""

    items: Vocabulary
    people: Sequence[str]
    item: Callable[[int], Item]
    words: Callable[[int, int], str]  # (category, any number) -> what a person types who is after it
    actions: Mapping[int, str] = field(default_factory=lambda: dict(ACTIONS))  # bit of a deed -> the product's name
    rates: bool = False  # an action has a value, from 3 (opened) over 4 (kept) to 5 (bought)


@dataclass
class Diary:
    """A row per list that was shown: who, when, where, what came of it, and what was to be expected."""

    request_id: list[str] = field(default_factory=list)
    user: list[int] = field(default_factory=list)
    at_us: list[int] = field(default_factory=list)
    surface: list[str] = field(default_factory=list)
    arm: list[str] = field(default_factory=list)
    clicks: list[float] = field(default_factory=list)
    purchases: list[float] = field(default_factory=list)
    expected_clicks: list[float] = field(default_factory=list)
    expected_purchases: list[float] = field(default_factory=list)
    expected_joy: list[float] = field(default_factory=list)
    day: list[int] = field(default_factory=list)
    fallbacks: int = 0
    refused_events: int = 0

    def __len__(self) -> int:
        return len(self.user)

    def column(self, name: str) -> F64:
        """A column of numbers, (rows,)."""
        return np.asarray(getattr(self, name), np.float64)

    def per_person(self, name: str, people: int) -> F64:
        """Sum of a column by person, (people,)."""
        users: I64 = np.asarray(self.user, np.int64)
        summed: F64 = np.bincount(users, weights=self.column(name), minlength=people).astype(np.float64)
        return summed


class Audience:
    """A world in front of an answerer (or two, by arm).

    desk: person's row -> (arm, answerer). clock: told the moment of each request, so that the product lives in the
    world's time.
    """

    def __init__(
        self, world: World, shelf: Shelf, desk: Callable[[int], tuple[str, Answerer]], clock: Callable[[int], None]
    ) -> None:
        if len(shelf.items) != world.config.shape.items or len(shelf.people) < world.config.shape.people:
            raise DataError(
                expected=f"{world.config.shape.items} items and {world.config.shape.people} people, as in the world",
                got=f"{len(shelf.items)} and {len(shelf.people)}",
                do="Make the world from the same catalog.",
            )
        self.world, self._shelf, self._desk, self._clock = world, shelf, desk, clock
        self.diary = Diary()
        self.asking: tuple[Visit, int] | None = None
        """Whose request is being answered, and when: what a policy is compared on while it answers."""
        self.seen: Callable[[str, Looked], None] | None = None
        """Told of every request (by its id) what became of the list."""
        self._broken: dict[int, set[str]] = {}  # item row -> facts that the product is told wrongly
        self._begun: set[int] = set()
        goods = world.goods
        self._told_stocked, self._told_price = goods.stocked.copy(), goods.log_price.copy()
        self._day = world.day

    def run(self, until_us: int, progress: Progress | None = None) -> Diary:
        """Let people come until a moment; returns the diary so far (it grows over calls)."""
        start, world = self.world.now_us, self.world
        for visit in world.visits(until_us):
            if world.day != self._day:
                self._morning()
                if progress is not None:
                    progress("simulating", (world.now_us - start) // k.DAY_US, max(1, (until_us - start) // k.DAY_US))
            world.leave(visit, self._session(visit))
        self._morning()
        return self.diary

    def rows(self, item_ids: Sequence[str]) -> npt.NDArray[np.int32]:
        """The world's rows of the product's items, -1 for what the world does not know."""
        return self._shelf.items.rows(item_ids)

    # ----------------------------------------------------------------------------------------------- a visit

    def _session(self, visit: Visit) -> float:
        arm, answerer = self._desk(visit.user)
        went, page, about = 0.0, 0, -1
        while True:
            at = visit.at_us + page * PAGE_US
            self._clock(at)
            self.asking = visit, at
            answer, surface = self._ask(answerer, visit, page, about)
            self.asking = None
            rows = self._shelf.items.rows([shown.item_id for shown in answer.items])
            if (rows < 0).any():
                # What the world does not know (an item somebody put in by hand) nobody looks at.
                rows = rows[rows >= 0]
            looked = self.world.look(visit, page, rows, at)
            went += looked.went
            self._note(answer, surface, arm, visit, at, looked)
            if self.seen is not None:
                self.seen(answer.request_id, looked)
            self._tell(answerer, answer, rows, surface, visit, at, looked.did)
            opened = rows[(looked.did & k.CLICKED) > 0]
            page += 1
            if not self.world.stays(visit, page):
                return went
            on_page = len(opened) > 0 and self.world.opens_page(visit, page)
            about = int(opened[-1]) if on_page else -1

    def _ask(self, answerer: Answerer, visit: Visit, page: int, about: int) -> tuple[Any, str]:
        user, slots = self._shelf.people[visit.user], self.world.config.slots
        # Ids by the visit, so that a run repeated is the same to the byte, exploration included.
        request_id = f"w{self.world.nature.seed}-{visit.user}-{visit.number}-{page}"
        if page == 0 and self.world.types(visit):
            words = self._shelf.words(visit.leaf, visit.number)
            return answerer.search(SearchRequest(words, user_id=user, k=slots, request_id=request_id)), "search"
        if about >= 0:
            item = self._shelf.items.id(about)
            request = RecommendRequest("item", user_id=user, item_id=item, k=slots, request_id=request_id)
            return answerer.recommend(request), "item"
        return answerer.recommend(RecommendRequest("home", user_id=user, k=slots, request_id=request_id)), "home"

    def _note(self, answer: Any, surface: str, arm: str, visit: Visit, at: int, looked: Any) -> None:
        diary = self.diary
        diary.request_id.append(answer.request_id)
        diary.user.append(visit.user)
        diary.at_us.append(at)
        diary.day.append(self.world.day)
        diary.surface.append(surface)
        diary.arm.append(arm)
        diary.clicks.append(float(np.count_nonzero(looked.did & k.CLICKED)))
        diary.purchases.append(float(np.count_nonzero(looked.did & k.BOUGHT)))
        diary.expected_clicks.append(looked.clicks)
        diary.expected_purchases.append(looked.purchases)
        diary.expected_joy.append(looked.joy)
        diary.fallbacks += answer.fallback is not None

    def _tell(
        self, answerer: Answerer, answer: Any, rows: npt.NDArray[np.int32], surface: str, visit: Visit, at: int,
        did: npt.NDArray[np.uint8],
    ) -> None:  # fmt: skip
        shown: dict[str, ShownItem] = {one.item_id: one for one in answer.items}
        events = []
        for place in np.flatnonzero(did & ~np.uint8(k.LOOKED)):
            item_id = self._shelf.items.id(int(rows[place]))
            for bit, action in self._shelf.actions.items():
                if did[place] & bit:
                    events.append(
                        EventIn(
                            user_id=self._shelf.people[visit.user],
                            item_id=item_id,
                            action=action,
                            event_id=f"{answer.request_id}-{place}-{action}",
                            value=_value(int(did[place])) if self._shelf.rates else None,
                            happened_at=(at + (int(place) + 1) * SLOT_US) / 1e6,
                            surface=surface,
                            request_id=answer.request_id,
                            session_id=f"{visit.user}-{visit.number}",
                            position=shown[item_id].position,
                        )
                    )
        if events:
            self._clock(at + (len(did) + 1) * SLOT_US)
            self.diary.refused_events += len(answerer.record(EventsRequest(events)).result().refused)

    # ------------------------------------------------------------------------------------------- what changes

    def _morning(self) -> None:
        """What the product is told every day: new items, items that are gone, other prices, facts that broke."""
        self._day = self.world.day
        _, answerer = self._desk(0)
        world, goods = self.world, self.world.goods
        changed = (goods.stocked != self._told_stocked) | (np.abs(goods.log_price - self._told_price) > 1e-9)
        changed &= goods.stocked | self._told_stocked  # what is not there yet nobody knows of
        for number, one in enumerate(world.changes):
            begun = world.now_us >= world.changes_from_us + one.from_day * k.DAY_US
            if isinstance(one, Bot) and world.lasts(one):
                self._bots(answerer, one)
            elif begun and number not in self._begun and isinstance(one, BrokenFact):
                self._begun.add(number)
                rng = np.random.default_rng(np.random.SeedSequence([world.config.seed, 3, number]))
                some = (rng.random(world.config.shape.items) < one.share) & goods.stocked
                for row in np.flatnonzero(some):
                    self._broken.setdefault(int(row), set()).add(one.fact)
                changed |= some
        for row in np.flatnonzero(changed):
            answerer.put_item(self._retold(int(row))).result()
        self._told_stocked[changed] = goods.stocked[changed]
        self._told_price[changed] = goods.log_price[changed]

    def _retold(self, row: int) -> Item:
        item, goods = self._shelf.item(row), self.world.goods
        item.available = bool(goods.stocked[row])
        if item.price is not None:
            item.price = round(float(np.exp(goods.log_price[row])), 2)
        for fact in self._broken.get(row, ()):
            if fact == "price":
                item.price = 0.0
            elif fact == "categories":
                item.categories = []
            else:
                item.title = None
        return item

    def _bots(self, answerer: Answerer, one: Bot) -> None:
        """A day's clicks of the bots, one account after the other, spread evenly over one hour."""
        items, now = self.world.config.shape.items, self.world.now_us
        step = 3600.0 / one.clicks_per_hour
        clicks = int(one.clicks_per_hour)
        for account in range(one.accounts):
            events = [
                EventIn(
                    user_id=f"bot-{account}",
                    item_id=self._shelf.items.id((account * 7919 + n * 31) % items),
                    action=self._shelf.actions[k.CLICKED],
                    event_id=f"bot-{account}-{self._day}-{n}",
                    happened_at=now / 1e6 - 3600.0 + n * step,
                )
                for n in range(clicks)
            ]
            for part in _parts(events, 5_000):
                self.diary.refused_events += len(answerer.record(EventsRequest(part)).result().refused)


def _value(did: int) -> float:
    return 5.0 if did & k.BOUGHT else 4.0 if did & k.SAVED else 3.0


def _parts(events: list[EventIn], size: int) -> Iterator[list[EventIn]]:
    for start in range(0, len(events), size):
        yield events[start : start + size]
