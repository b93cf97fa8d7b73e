"""How a simulated person decides, a session at a time: chance by counter, attraction, browsing, leaving.

Nothing here is a dot product of a person's and an item's factors, nor a tree, nor a logistic regression: taste is the
better of several moods, each a place in a tree of categories times a bump around a style that no catalog lists;
repetition wears out, neighbours in a list take from one another, and what lures is not what contents.
The link is complementary log-log. All chance is drawn by counter, so that two worlds of one seed differ only in what
their policies show.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

__all__ = [
    "BOUGHT", "CLICKED", "DAY_US", "EVENT", "HIDDEN", "HOUR_US", "LIST", "LOOKED", "MOST_PAGES", "SAVED", "Goods",
    "Minds", "Nature", "arrive", "browse", "chance", "expected", "leave", "live", "stay", "turns",
]  # fmt: skip

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I16 = npt.NDArray[np.int16]
I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

LOOKED, CLICKED, SAVED, BOUGHT, HIDDEN = 1, 2, 4, 8, 16
"""Bits of what a person did with one slot."""

MOST_PAGES = 48
"""Of a visit."""
HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US

EVENT = np.dtype(
    [
        ("at", np.int64), ("user", np.int32), ("item", np.int32), ("visit", np.int32), ("page", np.int16),
        ("position", np.int16), ("did", np.uint8), ("surface", np.uint8),
    ]
)  # fmt: skip
"""What `live` writes: a slot that was looked at."""
LIST = np.dtype(
    [
        ("at", np.int64), ("user", np.int32), ("visit", np.int32), ("about", np.int32), ("page", np.int16),
        ("surface", np.uint8),
    ], align=True,
)  # fmt: skip
"""What `live` writes of a list that was shown, beside its items and their propensities; `about`: the item whose page it
was, -1 none."""

# Streams of chance: one purpose each.
_MOOD, _OCCASION, _LEAF, _LOOK, _CLICK, _STAY, _SAVE, _BUY, _HIDE, _GAP, _QUIT, _MORE, _SHOW, _EAGER = range(14)


class Minds(NamedTuple):
    """People: who they are (fixed) and how they feel (changes with what they see)."""

    weight: F64  # (n, moods) share of each mood
    leaf: I32  # (n, moods) category each mood is after
    style: F32  # (n, moods, styles) what it is drawn to there
    thrift: F64  # (n,) how much a price above the purse repels
    purse: F64  # (n,) natural log of the price that is easy to pay
    weary: F64  # (n,) how fast one thing bores
    patience: F64  # (n,) probability to look at the next slot
    rate: F64  # (n,) visits a day when neither pleased nor displeased
    due: I64  # (n,) next visit, microseconds
    visit: I64  # (n,) visits so far
    gone: Flags  # (n,) never comes back
    content: F64  # (n,) decayed mean of how visits went
    sated: F64  # (n, moods) decayed consumption
    sated_at: I64  # (n,) when that was
    seen: I32  # (n, memory) items seen lately, -1 none
    times: I16  # (n, memory) how often
    taken: Flags  # (n, memory) whether it was opened
    cursor: I64  # (n,) next place of the memory to overwrite


class Goods(NamedTuple):
    """Items."""

    leaf: I32  # (m,) category
    branch: I32  # (m,) the category's parent
    style: F32  # (m, styles)
    quality: F64  # (m,) what contents
    lure: F64  # (m,) what attracts and does not content
    appeal: F64  # (m,) what attracts everybody
    log_price: F64  # (m,)
    seller: I32  # (m,)
    born: I64  # (m,) microseconds
    stocked: Flags  # (m,)


class Nature(NamedTuple):
    """The constants of how people decide (see `world.config.Mind` for their meaning)."""

    seed: int
    base: float
    category: float
    style: float
    width: float
    quality: float
    lure: float
    novelty: float
    novelty_days: float
    price: float
    boredom: float
    sated_days: float
    warmth: float
    wear: float
    crowding: float
    glance: float
    stop: float
    save: float
    buy: float
    hide: float
    joy: float
    effort: float
    memory: float
    loyalty: float
    shape: float
    quit: float
    quit_joy: float
    gift: float
    hurry: float
    again: float
    eager: float


@njit(cache=True, inline="always")
def _mixed(x: Any) -> Any:
    # The finaliser of SplitMix64 (Steele, Lea and Flood 2014).
    x = np.uint64(x)
    x ^= x >> np.uint64(30)
    x *= np.uint64(0xBF58476D1CE4E5B9)
    x ^= x >> np.uint64(27)
    x *= np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    return x


@njit(cache=True)
def chance(seed: int, purpose: int, a: int, b: int, c: int) -> float:
    """A number in (0, 1) that depends on its arguments alone."""
    x = _mixed(np.uint64(seed) + np.uint64(0x9E3779B97F4A7C15))
    x = _mixed(x ^ (np.uint64(purpose) * np.uint64(0xD1B54A32D192ED03)))
    x = _mixed(x + np.uint64(a) * np.uint64(0x9E3779B97F4A7C15))
    x = _mixed(x + np.uint64(b) * np.uint64(0xC2B2AE3D27D4EB4F))
    x = _mixed(x + np.uint64(c) * np.uint64(0x165667B19E3779F9))
    return (float(x >> np.uint64(11)) + 0.5) * 2.0**-53


@njit(cache=True)
def _likely(z: float) -> float:
    # Complementary log-log.
    return 1.0 - np.exp(-np.exp(min(z, 4.0)))


@njit(cache=True)
def arrive(minds: Minds, nature: Nature, leaves: int, u: int, now: int) -> tuple[int, int, int]:
    """Why a person came: (mood, category sought, occasion: 0 as usual, 1 for somebody else, 2 in a hurry)."""
    decay = np.exp(-(now - minds.sated_at[u]) / (nature.sated_days * DAY_US))
    moods = minds.weight.shape[1]
    total = 0.0
    pull = np.empty(moods)
    for m in range(moods):
        minds.sated[u, m] *= decay
        pull[m] = minds.weight[u, m] * np.exp(-minds.weary[u] * minds.sated[u, m])
        total += pull[m]
    minds.sated_at[u] = now
    left = chance(nature.seed, _MOOD, u, minds.visit[u], 0) * total
    mood = 0
    while mood < moods - 1 and left >= pull[mood]:
        left -= pull[mood]
        mood += 1
    leaf, occasion = minds.leaf[u, mood], 0
    # Presents are looked for at weekends: the moment tells something, the reason is never logged.
    weekend = (now // DAY_US + 3) % 7 >= 5
    drawn = chance(nature.seed, _OCCASION, u, minds.visit[u], 0)
    gift = nature.gift * (2.0 if weekend else 0.6)
    if drawn < gift:
        occasion = 1
        leaf = int(chance(nature.seed, _LEAF, u, minds.visit[u], 0) * leaves)
    elif drawn < gift + nature.hurry:
        occasion = 2
    return mood, leaf, occasion


@njit(cache=True)
def _memory(minds: Minds, u: int, i: int) -> int:
    for place in range(minds.seen.shape[1]):
        if minds.seen[u, place] == i:
            return place
    return -1


@njit(cache=True)
def _drawn_to(
    minds: Minds, goods: Goods, nature: Nature, trend: F64, branch_of: I32, u: int, mood: int, leaf: int, occasion: int,
    i: int, now: int, alike: int, push: float,
) -> tuple[float, float]:  # fmt: skip
    """(attraction: the link's argument for a click, joy: how well the item will do for this person)."""
    if goods.leaf[i] == leaf:
        near = 1.0
    elif goods.branch[i] == branch_of[leaf]:
        near = 0.4
    else:
        near = 0.0
    far = 0.0
    for s in range(goods.style.shape[1]):
        # A present is chosen without one's own style.
        far += (goods.style[i, s] - (0.5 if occasion == 1 else minds.style[u, mood, s])) ** 2
    match = near * (0.3 + 0.7 * np.exp(-far / (2.0 * nature.width**2)))
    dear = max(0.0, goods.log_price[i] - minds.purse[u] - (0.5 if occasion == 1 else 0.0))
    toll = nature.price * minds.thrift[u] * dear * dear
    age = max(0.0, (now - goods.born[i]) / (nature.novelty_days * DAY_US))
    place = _memory(minds, u, i)
    shown = 0.0 if place < 0 else float(minds.times[u, place])
    # First met, better liked (mere exposure); then it wears out.
    repeated = nature.warmth * min(shown, 2.0) - nature.wear * max(0.0, shown - 2.0)
    if place >= 0 and minds.taken[u, place]:
        repeated += nature.again
    bored = nature.boredom * minds.weary[u] * minds.sated[u, mood] * near
    attraction = (
        nature.base + nature.category * near + nature.style * match + goods.appeal[i]
        + nature.quality * goods.quality[i] + nature.lure * goods.lure[i] + nature.novelty * np.exp(-age)
        + trend[goods.branch[i]] - toll + repeated - bored - nature.crowding * alike + push
    )  # fmt: skip
    joy = 1.5 * match + 0.5 * goods.quality[i] - 0.8 * goods.lure[i] - 0.5 * min(toll, 2.0) + 0.9
    return attraction, joy


@njit(cache=True)
def _alike(goods: Goods, shown: I32, p: int) -> int:
    """How many items above the slot are of its item's category, six at most."""
    alike = 0
    for q in range(p):
        if goods.leaf[shown[q]] == goods.leaf[shown[p]]:
            alike += 1
    return min(alike, 6)


@njit(cache=True)
def expected(
    minds: Minds, goods: Goods, nature: Nature, trend: F64, branch_of: I32, u: int, mood: int, leaf: int, occasion: int,
    now: int, shown: I32, push: float, truth: F64,
) -> None:  # fmt: skip
    """Adds to truth (3,): the expected clicks, purchases and joy of a list for this person at this moment, over all
    chance within the list. Changes nobody."""
    patience = minds.patience[u] * (0.8 if occasion == 2 else 1.0)
    reach = 1.0
    for p in range(len(shown)):
        i = shown[p]
        if i < 0:
            break
        alike = _alike(goods, shown, p)
        z, joy = _drawn_to(minds, goods, nature, trend, branch_of, u, mood, leaf, occasion, i, now, alike, push)
        click = _likely(z)
        buy = _likely(nature.buy + nature.joy * joy) if goods.stocked[i] else 0.0
        truth[0] += reach * nature.glance * click
        truth[1] += reach * nature.glance * click * buy
        truth[2] += reach * nature.glance * click * joy
        reach *= patience * (1.0 - nature.glance * click * nature.stop)


@njit(cache=True)
def browse(
    minds: Minds, goods: Goods, nature: Nature, trend: F64, branch_of: I32, u: int, mood: int, leaf: int, occasion: int,
    now: int, page: int, shown: I32, push: float, did: npt.NDArray[np.uint8], truth: F64,
) -> float:  # fmt: skip
    """One list, looked at from the top.

    shown: (k,) item rows, -1 ends. did: (k,) out, bits of what was done. truth: (3,) added to, as in `expected`.
    Returns how the list went: joy of what was opened, less the effort of looking.
    """
    expected(minds, goods, nature, trend, branch_of, u, mood, leaf, occasion, now, shown, push, truth)
    visit, seed = minds.visit[u], nature.seed
    patience = minds.patience[u] * (0.8 if occasion == 2 else 1.0)
    here, went, clicks = True, 0.0, 0.0
    did[:] = 0
    for p in range(len(shown)):
        i = shown[p]
        if i < 0 or not here:
            break
        if chance(seed, _LOOK, u, visit * 64 + page, p) < nature.glance:
            alike = _alike(goods, shown, p)
            z, joy = _drawn_to(minds, goods, nature, trend, branch_of, u, mood, leaf, occasion, i, now, alike, push)
            click = _likely(z)
            buy = _likely(nature.buy + nature.joy * joy) if goods.stocked[i] else 0.0
            did[p] |= LOOKED
            went -= nature.effort
            clicked = chance(seed, _CLICK, u, visit * 64 + page, i) < click
            if clicked:
                did[p] |= CLICKED
                went += joy
                clicks += 1.0
                if chance(seed, _SAVE, u, visit * 64 + page, i) < _likely(nature.save + nature.joy * joy):
                    did[p] |= SAVED
                if chance(seed, _BUY, u, visit * 64 + page, i) < buy:
                    did[p] |= BOUGHT
            elif chance(seed, _HIDE, u, visit * 64 + page, i) < _likely(nature.hide - z):
                did[p] |= HIDDEN
                went -= 0.5
            if clicked and chance(seed, _STAY, u, visit * 64 + page, p) < nature.stop:
                here = False
        if chance(seed, _STAY, u, visit * 64 + page, 4096 + p) >= patience:
            here = False
    # Only now, so that `truth` is the expectation over all that could have happened within the list.
    minds.sated[u, mood] += clicks
    for p in range(len(shown)):
        if did[p] & LOOKED:
            _remember(minds, u, shown[p], (did[p] & CLICKED) != 0)
    return went


@njit(cache=True)
def _remember(minds: Minds, u: int, i: int, taken: bool) -> None:
    place = _memory(minds, u, i)
    if place < 0:
        place = minds.cursor[u]
        minds.cursor[u] = (place + 1) % minds.seen.shape[1]
        minds.seen[u, place] = i
        minds.times[u, place] = 0
        minds.taken[u, place] = False
    minds.times[u, place] = min(minds.times[u, place] + 1, 1000)
    minds.taken[u, place] |= taken


@njit(cache=True)
def stay(minds: Minds, nature: Nature, u: int, page: int, more: float) -> bool:
    """Whether the person asks for another page; `more`: the probability in a visit of middling eagerness."""
    # Box and Muller: some visits are a glance, some an evening.
    first, second = chance(nature.seed, _EAGER, u, minds.visit[u], 0), chance(nature.seed, _EAGER, u, minds.visit[u], 1)
    eager = np.sqrt(-2.0 * np.log(first)) * np.cos(2.0 * np.pi * second)
    odds = more / (1.0 - more) * np.exp(nature.eager * eager)
    return bool(chance(nature.seed, _MORE, u, minds.visit[u], page) < odds / (1.0 + odds))


@njit(cache=True)
def turns(minds: Minds, nature: Nature, u: int, page: int, share: float) -> bool:
    """Whether the next page is that of the item just opened (at page 0: whether the visit begins with words)."""
    return bool(chance(nature.seed, _MORE, u, minds.visit[u], 64 + page) < share)


@njit(cache=True)
def leave(minds: Minds, nature: Nature, u: int, now: int, went: float, pulse: F64, busy: float) -> bool:
    """End of a visit: how it went is remembered, and when (if ever) the person is back.

    pulse: (168,) relative activity of each hour of the week from Monday 0:00 UTC, mean 1. busy: a factor of the hour's
    activity for everybody. The gap is Weibull, shortened by contentment; then moved to a likelier hour. Returns whether
    the person will come back.
    """
    seed, visit = nature.seed, minds.visit[u]
    minds.content[u] += nature.memory * (went - minds.content[u])
    minds.visit[u] += 1
    if chance(seed, _QUIT, u, visit, 0) < _likely(nature.quit - nature.quit_joy * minds.content[u]):
        minds.gone[u] = True
        return False
    spread = (-np.log(chance(seed, _GAP, u, visit, 0))) ** (1.0 / nature.shape)
    content = min(max(minds.content[u], -2.0), 2.0)
    gap_h = max(1.0, 24.0 / (minds.rate[u] * busy) * spread * np.exp(-nature.loyalty * content))
    due = now + int(gap_h * HOUR_US)
    # By rejection, so that visits follow the week's pulse; a week's search at most.
    top = pulse.max()
    for attempt in range(168):
        hour = (due // HOUR_US + 72) % 168
        if chance(seed, _GAP, u, visit, 1 + attempt) * top < pulse[hour]:
            break
        due += HOUR_US
    minds.due[u] = due
    return True


@njit(cache=True)
def _list(
    nature: Nature, order: I64, mass: F64, start: I64, wish: float, u: int, visit: int, page: int, leaf: int, out: I32,
    odds: F32,
) -> None:  # fmt: skip
    """A list of the built-in policy: drawn one by one without replacement by the items' masses, those of `leaf` times
    1 + wish (Plackett-Luce, by drawing again what is there already).

    order: (m,) items by category. mass: (m + 1,) their running sum in that order. start: (leaves + 1,) where each
    category begins in it. out, odds: the items, and each one's propensity given those above it.
    """
    out[:] = -1
    odds[:] = 0.0
    extra, used = 0.0, 0.0
    if leaf >= 0:
        extra = wish * (mass[start[leaf + 1]] - mass[start[leaf]])
    total = mass[-1] + extra
    for p in range(len(out)):
        for attempt in range(200):
            drawn = chance(nature.seed, _SHOW, u, visit * 64 + page, p * 256 + attempt) * total
            if drawn < extra:
                drawn = mass[start[leaf]] + drawn / wish
            else:
                drawn -= extra
            place = min(np.searchsorted(mass, drawn, side="right"), len(order)) - 1
            i = order[place]
            own = mass[place + 1] - mass[place]
            # Rounding may hit an item without mass, which is not to be had.
            fresh = own > 0.0
            for q in range(p):
                if out[q] == i:
                    fresh = False
                    break
            if fresh:
                if leaf >= 0 and start[leaf] <= place < start[leaf + 1]:
                    own *= 1.0 + wish
                # What is left holds at least this item, whatever rounding makes of the difference.
                out[p], odds[p] = i, own / max(total - used, own)
                used += own
                break
        if out[p] < 0:
            break


@njit(cache=True)
def live(
    minds: Minds, goods: Goods, nature: Nature, trend: F64, branch_of: I32, who: I64, order: I64, mass: F64, start: I64,
    wish: float, slots: int, more: float, item_page: float, push: F64, pulse: F64, busy: float, last: I32, tally: F64,
    events: Any, lists: Any, listed: I32, odds: F32,
) -> int:  # fmt: skip
    """One visit of each person of `who`, in that order, under the built-in policy; returns how many events it wrote.

    last: (n,) the category each person opened last, -1 none: what the policy knows of a person. tally: (n, 9) added to:
    visits, lists, clicks, saves, purchases, hides, expected clicks, expected joy, expected purchases. events: room for
    MOST_PAGES x slots a visit. lists, listed, odds: room for MOST_PAGES lists a visit (LIST; (n, slots) items and
    propensities), or none where nobody asks; lists["at"] stays 0 where none was written.
    """
    shown, did, truth = np.empty(slots, np.int32), np.zeros(slots, np.uint8), np.zeros(3)
    drawn = np.empty(slots, np.float32)
    leaves, written, told = len(branch_of), 0, 0
    for u in who:
        now = minds.due[u]
        mood, leaf, occasion = arrive(minds, nature, leaves, u, now)
        went, page, surface, about, item = 0.0, 0, 0, last[u], -1
        while True:
            _list(nature, order, mass, start, wish, u, minds.visit[u], page, about, shown, drawn)
            truth[:] = 0.0
            at = now + page * 90_000_000
            if len(lists):
                head = lists[told]
                head.at, head.user, head.visit, head.page, head.surface = at, u, minds.visit[u], page, surface
                head.about = item
                listed[told], odds[told] = shown, drawn
                told += 1
            went += browse(
                minds, goods, nature, trend, branch_of, u, mood, leaf, occasion, at, page, shown, push[u], did, truth
            )
            tally[u, 1] += 1
            tally[u, 6] += truth[0]
            tally[u, 7] += truth[2]
            tally[u, 8] += truth[1]
            opened = -1
            for p in range(slots):
                if did[p] == 0:
                    continue
                tally[u, 2] += (did[p] & CLICKED) > 0
                tally[u, 3] += (did[p] & SAVED) > 0
                tally[u, 4] += (did[p] & BOUGHT) > 0
                tally[u, 5] += (did[p] & HIDDEN) > 0
                if did[p] & CLICKED:
                    opened = shown[p]
                    last[u] = goods.leaf[opened]
                one = events[written]
                one.at, one.user, one.item, one.visit = at + p * 4_000_000, u, shown[p], minds.visit[u]
                one.page, one.position, one.did, one.surface = page, p + 1, did[p], surface
                written += 1
            page += 1
            if page == MOST_PAGES or not stay(minds, nature, u, page, more):
                break
            on_page = opened >= 0 and turns(minds, nature, u, page, item_page)
            surface, about, item = (2, goods.leaf[opened], opened) if on_page else (0, last[u], -1)
        tally[u, 0] += 1
        leave(minds, nature, u, now, went, pulse, busy)
    return written
