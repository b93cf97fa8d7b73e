"""Generated impressions for `bench rank`: people who follow rules, not the arithmetic of any model that learns of them.

`interactions`: what somebody clicks depends on which items lie in their history: an item whose style goes with that of
the last one, a style that they are in the mood for, or have had enough of; no feature tells an item's style.
`contexts`: hour, device and surface decide what is clicked, or only come along.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from honeyguide.contracts import F32, F64, I32, I64, BoolArray, Ragged, RankInput
from honeyguide.kernels.codes import code64
from honeyguide.schema import columns as c

__all__ = ["HEADS", "ShownLog", "contexts", "interactions"]

HEADS = ("click", "save", "purchase")
_HOUR_US = 3_600_000_000
_BEGIN_US = 19_700 * 24 * _HOUR_US
_HISTORY = 20
_LOOK = 0.87
"""From one slot to the next so many people go on looking."""


@dataclass(frozen=True)
class ShownLog:
    """Slots of lists as shown, request by request, oldest first."""

    given: RankInput
    columns: tuple[str, ...]
    labels: F32  # (n, heads of HEADS)
    position: I32  # (n,)
    chance: F64  # (n,) the true probability of a click in this slot
    n_items: int
    n_users: int

    @property
    def at(self) -> I64:
        """(n,) when each slot was shown."""
        return self.given.at_us[self.given.request]

    @property
    def unit(self) -> I64:
        """(n,) who was shown it."""
        return self.given.users[self.given.request].astype(np.int64)


def interactions(
    seed: int = 5, *, people: int = 1_500, items: int = 80, visits: int = 14, slots: int = 8
) -> ShownLog:  # fmt: skip
    """Everybody comes `visits` times and is shown `slots` items, drawn by popularity.

    An item is looked at more often the higher it stands; then it is clicked often if its style goes with that of the
    newest click (as a case goes with a phone) or is that of one of the three newest, and seldom if three of the newest
    six have its style. A click is a purchase more often on a cheap item for some people, on a dear one for others; what
    goes with the last click is saved more often.
    """
    rng = np.random.default_rng(seed)
    style = rng.integers(0, 12, items)
    follower = rng.permutation(12)
    price = rng.lognormal(3.0, 0.6, items)
    appeal = rng.normal(0.0, 0.4, items)
    popularity: F64 = 1.0 / (np.arange(items, dtype=np.float64) + 10.0)
    thrifty = rng.random(people) < 0.5
    past = np.full((people, _HISTORY), -1, np.int32)
    past_at = np.zeros((people, _HISTORY), np.int64)
    shown_of, taken_of, taken_by, seen_by = np.ones(items), np.zeros(items), np.zeros(people), np.ones(people)
    made = _Made(people * visits, slots)
    for visit in range(visits):
        at = _BEGIN_US + visit * 24 * _HOUR_US + rng.integers(0, 20, people) * _HOUR_US + np.arange(people)
        shown = _drawn(rng, popularity, people, slots)
        last = past[:, -1]
        goes = (last[:, None] >= 0) & (style[shown] == follower[style[np.maximum(last, 0)]][:, None])
        newest = np.where(past >= 0, style[np.maximum(past, 0)], -1)
        fresh = (newest[:, None, -3:] == style[shown][:, :, None]).any(axis=2)
        tired = (newest[:, None, -6:] == style[shown][:, :, None]).sum(axis=2) >= 3
        wish = np.where(goes, 0.75, np.where(tired, 0.02, np.where(fresh, 0.45, 0.06)))
        wish = np.clip(wish * np.exp(appeal[shown]), 0.0, 0.95)
        chance = wish * _LOOK ** np.arange(slots)
        click = rng.random(chance.shape) < chance
        buys = np.where(thrifty[:, None] == (price[shown] < 20.0), 0.45, 0.05)
        purchase = click & (rng.random(chance.shape) < buys)
        save = click & (rng.random(chance.shape) < np.where(goes, 0.6, 0.15))
        features = np.stack(
            [
                np.log(price)[shown], taken_of[shown] / shown_of[shown], np.log1p(shown_of)[shown],
                np.broadcast_to((taken_by / seen_by)[:, None], shown.shape),
                np.broadcast_to((past >= 0).sum(axis=1)[:, None], shown.shape),
                (past[:, None, :] == shown[:, :, None]).sum(axis=2),
                np.broadcast_to(((at - past_at[:, -1]) / _HOUR_US / 24.0)[:, None], shown.shape),
                rng.normal(size=shown.shape),
            ],
            axis=2,
        )  # fmt: skip
        features[..., 6] = np.where(last[:, None] >= 0, features[..., 6], np.nan)
        made.add(visit * people, shown, features, np.stack([click, save, purchase], axis=2), chance, at, past, past_at)
        shown_of += np.bincount(shown.reshape(-1), minlength=items)
        taken_of += np.bincount(shown[click], minlength=items)
        taken_by, seen_by = taken_by + click.sum(axis=1), seen_by + slots
        for slot in range(slots):
            did = click[:, slot]
            past[did] = np.column_stack([past[did, 1:], shown[did, slot]])
            past_at[did] = np.column_stack([past_at[did, 1:], at[did]])
    columns = ("log_price", "item_rate", "item_shown", "user_rate", "history", "again", "days_since", "noise")
    return made.log(columns, {}, items, people, visits)


def contexts(matters: bool, seed: int = 6, *, people: int = 1_500, items: int = 60, visits: int = 12) -> ShownLog:
    """Eight slots a visit, on a device, a surface and at an hour.

    Of three sorts of items, the first is clicked in the evening, the second on phones and the third on home, each three
    times as often as elsewhere; unless that does not matter: then each at the mean of its rates.
    """
    rng = np.random.default_rng(seed)
    slots, sort = 8, rng.integers(0, 3, items)
    quality = rng.normal(0.0, 0.3, items)
    told = {name: np.array([code64(text) for text in texts]) for name, texts in (
        ("device", ("phone", "tablet", "desk")), (c.SURFACE, ("home", "item", "board")),
    )}  # fmt: skip
    past, past_at = np.full((people, _HISTORY), -1, np.int32), np.zeros((people, _HISTORY), np.int64)
    made = _Made(people * visits, slots)
    context: dict[str, list[I64]] = {name: [] for name in told}
    for visit in range(visits):
        hour = rng.integers(0, 24, people)
        at = _BEGIN_US + (visit * 24 + hour) * _HOUR_US + np.arange(people)
        device, surface = rng.integers(0, 3, people), rng.integers(0, 3, people)
        shown = _drawn(rng, np.ones(items), people, slots)
        right = np.stack([hour >= 18, device == 0, surface == 0], axis=1)[np.arange(people)[:, None], sort[shown]]
        mean = np.array([0.25, 1 / 3, 1 / 3])[sort[shown]]
        level = np.where(right, 0.33, 0.11) if matters else 0.33 * mean + 0.11 * (1.0 - mean)
        chance = np.clip(level * np.exp(quality[shown]), 0.0, 0.95) * _LOOK ** np.arange(slots)
        click = rng.random(chance.shape) < chance
        features = np.stack([sort[shown] == k for k in range(3)] + [rng.normal(size=shown.shape)], axis=2)
        outcomes = np.stack(
            [click, click & (rng.random(click.shape) < 0.3), click & (rng.random(click.shape) < 0.2)], 2
        )
        made.add(visit * people, shown, features, outcomes, chance, at, past, past_at)
        for name, code in (("device", device), (c.SURFACE, surface)):
            context[name].append(told[name][code])
    return made.log(
        ("sort_0", "sort_1", "sort_2", "noise"), {name: np.concatenate(codes) for name, codes in context.items()},
        items, people, visits,
    )  # fmt: skip


def _drawn(rng: np.random.Generator, weight: F64, n: int, k: int) -> I32:
    """`k` different items for each of `n`, by weight (exponential races)."""
    race = rng.exponential(size=(n, len(weight))) / weight
    first: I32 = np.argpartition(race, k, axis=1)[:, :k].astype(np.int32)
    return np.take_along_axis(first, rng.random(first.shape).argsort(axis=1), axis=1)


class _Made:
    """Requests as they come, person after person within a visit."""

    def __init__(self, requests: int, slots: int) -> None:
        self._slots, self._parts = slots, list[tuple[np.ndarray, ...]]()
        self._requests = requests

    def add(
        self, first: int, shown: I32, features: np.ndarray, outcomes: BoolArray, chance: F64, at: I64, past: I32,
        past_at: I64,
    ) -> None:  # fmt: skip
        self._parts.append((
            shown.reshape(-1).copy(), features.reshape(-1, features.shape[2]).astype(np.float32),
            outcomes.reshape(-1, outcomes.shape[2]).astype(np.float32), chance.reshape(-1), at, past.copy(),
            past_at.copy(),
        ))  # fmt: skip

    def log(
        self, columns: tuple[str, ...], context: dict[str, I64], n_items: int, people: int, visits: int
    ) -> ShownLog:
        items, features, labels, chance, at, past, past_at = (
            np.concatenate(column) for column in zip(*self._parts, strict=True)
        )
        there = past >= 0
        indptr = np.zeros(len(at) + 1, np.int64)
        np.cumsum(there.sum(axis=1), out=indptr[1:])
        events = int(indptr[-1])
        given = RankInput(
            features=features, request=np.repeat(np.arange(len(at), dtype=np.int32), self._slots), items=items,
            users=np.tile(np.arange(people, dtype=np.int32), visits), at_us=at,
            histories=Ragged(indptr, past[there].astype(np.int32)), history_at=past_at[there],
            history_weights=np.ones(events, np.float32), history_values=np.full(events, np.nan, np.float32),
            seeds=Ragged.empty(len(at)), context=context,
        )  # fmt: skip
        position = np.tile(np.arange(1, self._slots + 1, dtype=np.int32), len(at))
        return ShownLog(given, columns, labels, position, chance, n_items, people)
