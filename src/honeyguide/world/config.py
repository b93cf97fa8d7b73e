"""The world's parameters, each with its unit and where it comes from: fitted to a log, or chosen."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from honeyguide.kernels.world import Nature

__all__ = ["FITTED", "Mind", "Shape", "WorldConfig"]

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Mind(_Closed):
    """How people decide. Strengths are in units of the link's argument (complementary log-log)."""

    base: float = -4.2  # attraction of an item that nothing speaks for: the click rate's level
    category: float = 0.9  # of the category sought (.4 of it: of the same branch)
    style: float = 1.6  # of a full match of category and style
    width: Positive = 0.28  # of the bump around a style, in style units (0 to 1 a dimension)
    quality: float = 0.25  # as far as it can be seen beforehand
    lure: float = 0.75  # attracts, and takes .8 of itself from the joy
    novelty: float = 0.4  # of an item that is quite new
    novelty_days: Positive = 10.0
    price: float = 0.8  # repulsion per squared log unit above the purse
    boredom: float = 0.5  # per click in the same mood, decayed
    sated_days: Positive = 2.0
    warmth: float = 0.12  # per showing, the first two
    wear: float = 0.25  # per showing after the second
    crowding: float = 0.18  # per earlier item of the same category in the list
    again: float = -0.8  # for an item opened before (fitted to the share of repeats)
    glance: Share = 0.92  # probability to look at a slot that is reached
    stop: Share = 0.12  # probability to leave the list after a click
    save: float = -1.6
    buy: float = -2.0
    hide: float = -8.5  # hides grow as attraction falls
    joy: float = 0.8  # of joy on saving and buying
    effort: float = 0.015  # joy lost per slot looked at
    memory: Share = 0.25  # share of the last visit in what a person remembers of all
    loyalty: float = 0.9  # log visits a day per unit of contentment
    quit: float = -4.2  # probability to never come back, at contentment 0
    quit_joy: float = 2.2
    gift: Share = 0.08  # visits for somebody else
    hurry: Share = 0.15
    eager: Annotated[float, Field(ge=0)] = 0.8  # how visits differ in length: spread of the log odds of another page


class Shape(_Closed):
    """The crowd and the shop."""

    people: Annotated[int, Field(ge=1, le=10_000_000)] = 2_000
    items: Annotated[int, Field(ge=2, le=10_000_000)] = 1_200
    branches: Annotated[int, Field(ge=1)] = 6
    leaves: Annotated[int, Field(ge=1)] = 24  # over all branches
    sellers: Annotated[int, Field(ge=1)] = 60
    moods: Annotated[int, Field(ge=1, le=16)] = 3
    styles: Annotated[int, Field(ge=1, le=16)] = 3
    memory: Annotated[int, Field(ge=4, le=1_000)] = 48  # items a person remembers
    visits_a_day: Positive = 0.45  # median over people
    visits_spread: Annotated[float, Field(ge=0)] = 0.8  # standard deviation of its logarithm
    gap_shape: Positive = 0.75  # Weibull shape of the time between visits; 1 = memoryless
    patience: Share = 0.9  # mean probability to look at the next slot
    more: Annotated[float, Field(gt=0, lt=1)] = 0.45  # probability to ask for another page, in a middling visit
    item_page: Share = 0.5  # share of further pages that are the page of an item just opened
    searches: Share = 0.12  # share of visits that begin with words
    appeal_spread: Annotated[float, Field(ge=0)] = 0.8  # standard deviation of items' appeal to everybody
    heat: Positive = 1.4  # of the built-in policy: it draws items by popularity to the power 1 / heat
    price_median: Positive = 25.0
    price_spread: Annotated[float, Field(ge=0)] = 0.7
    new_items_a_day: Annotated[float, Field(ge=0)] = 2.0
    trend_days: Positive = 9.0  # how long a fashion lasts
    trend_spread: Annotated[float, Field(ge=0)] = 0.35
    seller_patience_days: Positive = (
        14.0  # without a sale, until a seller cuts prices; after three cuts in vain it leaves
    )
    pulse: Annotated[tuple[float, ...], Field(min_length=168, max_length=168)] | None = None  # None: evenings, weekends


class WorldConfig(_Closed):
    """A world: one seed, one start, who lives in it and how they decide."""

    seed: Annotated[int, Field(ge=0, lt=2**62)] = 0
    start_us: int = 1_767_225_600_000_000  # 2026-01-01
    slots: Annotated[int, Field(ge=1, le=200)] = 12
    shape: Shape = Shape()
    mind: Mind = Mind()

    def nature(self) -> Nature:
        """The constants as the kernels take them."""
        mind = self.mind
        own = {name: getattr(mind, name) for name in Mind.model_fields}
        return Nature(seed=self.seed, shape=self.shape.gap_shape, **own)


FITTED = (
    "people", "items", "memory", "visits_a_day", "visits_spread", "gap_shape", "more", "heat", "pulse",
    "patience", "base", "again", "quit", "eager",
)  # fmt: skip
"""Parameters that `world.fit` takes from a log; all others are chosen, and stated as such in docs/world.md."""
