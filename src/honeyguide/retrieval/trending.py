"""What rises now, in the window that serves each segment best; and a bounded chance for what is new."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from honeyguide.contracts import F32, I32, I64, Candidates, CatalogView, Interactions, Queries
from honeyguide.retrieval import store
from honeyguide.retrieval.popular import Popular, PopularConfig
from honeyguide.retrieval.signals import DAY_US, arguments, blank, signals
from honeyguide.retrieval.tune import pick

__all__ = ["Fresh", "FreshConfig", "Trending", "TrendingConfig"]


class TrendingConfig(BaseModel):
    """Among which windows each segment finds its own, and on what it judges them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    half_life_days: tuple[float, ...] = Field(
        default=(1.0, 3.0, 7.0, 30.0), min_length=1, description="windows to try: ages at which an event counts half"
    )
    judged_share: float = Field(default=0.1, gt=0, le=0.5, description="newest share of the events that judges them")
    least_events: int = Field(default=200, ge=1, description="a segment with fewer judging events takes everybody's")
    top: int = Field(default=50, ge=1, le=10_000, description="a window is as good as its best so many items")
    prior_events: float = Field(default=100.0, gt=0, description="events of everybody mixed into each segment's own")
    other: float = Field(default=0.0, ge=0, le=1, description="strength of events whose weight is not above 0")
    use_weights: bool = Field(default=True, description="a positive weight counts as such (clipped to 10), not as 1")


class Trending:
    """Decayed popularity per segment, each in the window that foretold its newest events best.

    The newest `judged_share` of the events is held back; the window whose `top` items hold most of a segment's events
    there is the segment's. Then all events are counted. `update` adds new events at once.
    Price: that of `popular`, once for every window that somebody has chosen; fitting counts each window twice.
    """

    name: ClassVar[str] = "trending"
    Config = TrendingConfig

    def __init__(self, config: TrendingConfig | None = None, user_segment: I32 | None = None) -> None:
        """`user_segment`: (users,) the segment of each person row, -1 unknown; None = everybody is one segment."""
        self.config = config or TrendingConfig()
        self._user_segment = None if user_segment is None else np.asarray(user_segment, np.int32)
        self.windows: I64 = np.zeros(1, np.int64)
        """Index into `half_life_days` of the window of each line: everybody, then the segments."""
        self._popular: dict[int, Popular] = {}

    def _counted(self, window: int, data: Interactions, catalog: CatalogView) -> Popular:
        config = self.config
        popular = PopularConfig(
            half_life_days=config.half_life_days[window], prior_events=config.prior_events, other=config.other,
            use_weights=config.use_weights,
        )  # fmt: skip
        return Popular(popular, self._user_segment).fit(data, catalog)

    def fit(self, interactions: Interactions, catalog: CatalogView, *, seed: int = 0) -> Self:
        """Choose windows, then count. Nothing is drawn at random. DataError where no event is a sign of interest."""
        self.windows = self._chosen(interactions, catalog)
        self._popular = {int(w): self._counted(int(w), interactions, catalog) for w in np.unique(self.windows)}
        return self

    def _chosen(self, interactions: Interactions, catalog: CatalogView) -> I64:
        config = self.config
        events = signals(interactions, other=config.other, use_weights=config.use_weights)
        segment = np.full(events.n_users, -1, np.int64)
        if self._user_segment is not None and len(self._user_segment) == events.n_users:
            segment = self._user_segment.astype(np.int64)
        lines = int(segment.max(initial=-1)) + 2
        cut = float(np.quantile(events.at, 1.0 - config.judged_share))
        late = events.at > cut
        if late.all() or not late.any() or len(config.half_life_days) == 1:
            return np.zeros(lines, np.int64)
        before = interactions.take(interactions.at <= cut)
        owner = np.maximum(segment[events.user[late]], -1) + 1
        count = np.bincount(owner, minlength=lines)
        count[0] = int(late.sum())
        caught = np.zeros((len(config.half_life_days), lines))
        for window in range(len(caught)):
            found = self._counted(window, before, catalog).leaders(config.top)
            for line in range(lines):
                hit = np.isin(events.item[late], found[line] if line < len(found) else found[0])
                caught[window, line] = hit.sum() if line == 0 else (hit & (owner == line)).sum()
        chosen: I64 = caught.argmax(axis=0).astype(np.int64)
        chosen[count < config.least_events] = chosen[0]
        return chosen

    def retrieve(self, queries: Queries, k: int) -> Candidates:
        """Best `k` items of each query's segment (of everybody where it is unknown), whatever the history is."""
        arguments(queries)
        segment = np.asarray(queries.segment, np.int64)
        line = np.where((segment >= 0) & (segment < len(self.windows) - 1), segment + 1, 0)
        window = self.windows[line]
        if len(self._popular) == 1:
            return next(iter(self._popular.values())).retrieve(queries, k)
        out = blank(len(queries), k)
        for number, popular in self._popular.items():
            rows = np.flatnonzero(window == number)
            if len(rows):
                asked, _ = pick(queries, queries.exclude, rows)
                found = popular.retrieve(asked, k)
                out.items[rows], out.scores[rows] = found.items, found.scores
        return out

    def update(self, item_rows: npt.ArrayLike, at: npt.ArrayLike, segment: npt.ArrayLike = -1) -> None:
        """Count new events at once, as `Popular.update` does."""
        for popular in self._popular.values():
            popular.update(item_rows, at, segment)

    def save(self, folder: Path) -> None:
        """Write the windows, and the counts of each into a folder of its own."""
        for number, popular in self._popular.items():
            (folder / str(number)).mkdir()
            popular.save(folder / str(number))
        store.write(folder, self.name, {"config": self.config.model_dump()}, {"windows": self.windows})

    @classmethod
    def load(cls, folder: Path) -> Trending:
        """Read what `save` wrote. Raises BuildError where it cannot be used."""
        meta, arrays = store.read(folder, cls.name, ("windows",))
        source = cls(store.config(TrendingConfig, meta, folder))
        source.windows = arrays["windows"]
        source._popular = {int(w): Popular.load(folder / str(int(w))) for w in np.unique(source.windows)}
        return source


class FreshConfig(BaseModel):
    """What is new, and when it has had its chance."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_age_days: float = Field(default=30.0, gt=0, description="an item is new for so long after it became known")
    most_events: int = Field(default=20, ge=1, description="with so many events of anybody it must stand by itself")
    most: int = Field(default=20, ge=1, le=10_000, description="items brought for a question at most")


class Fresh:
    """New items by turns: each gets its chance, and none more than its share.

    New is what became known (or was first met, where the catalog does not say) within `max_age_days` before the moment
    of the question and has fewer than `most_events` events; `update` counts on. The items stand in the order of a
    pseudo-random draw that changes with the history and the hour, so that at any time every new item stands first
    before equally many people. At most `most` items come, however long a list is asked for, and the blend gives them
    the `chance` of honeyguide.toml and no more.
    Price: items x 16 bytes, and a pass over the new items for a question.
    """

    name: ClassVar[str] = "fresh"
    Config = FreshConfig

    def __init__(self, config: FreshConfig | None = None) -> None:
        self.config = config or FreshConfig()
        self.since: I64 = np.zeros(0, np.int64)  # (items,) moment it became known; the far future: never met
        self.count: I64 = np.zeros(0, np.int64)  # (items,) events

    def fit(self, interactions: Interactions, catalog: CatalogView, *, seed: int = 0) -> Self:
        """Count events and note when each item was first met. Raises DataError where rows are out of range."""
        events = signals(interactions, other=1.0, use_weights=False)
        self.since = np.full(events.n_items, np.iinfo(np.int64).max)
        np.minimum.at(self.since, events.item, events.at)
        known = np.asarray(catalog.known_at[: events.n_items], np.int64)
        # A catalog that was loaded at once says one moment of all items: then the first event says more.
        if len(np.unique(known)) > 1:
            self.since[: len(known)] = known
        self.count = np.bincount(events.item, minlength=events.n_items).astype(np.int64)
        return self

    def retrieve(self, queries: Queries, k: int) -> Candidates:
        """At most `most` new items for each query, in the order of its own draw; scores fall from 1 to 0."""
        indptr, items, _, at, now, ex_indptr, ex_items = arguments(queries)
        out = blank(len(queries), k)
        out.items[:], out.scores[:] = -1, np.nan
        candidates = np.flatnonzero(self.count < self.config.most_events).astype(np.int64)
        since, span = self.since[candidates], int(self.config.max_age_days * DAY_US)
        for q in range(len(queries)):
            fresh = candidates[(since <= now[q]) & (since >= now[q] - span)]
            fresh = fresh[~np.isin(fresh, ex_items[ex_indptr[q] : ex_indptr[q + 1]])]
            past = slice(indptr[q], indptr[q + 1])
            heard = items[past][(at[past] <= now[q]) & (items[past] >= 0) & (items[past] < len(self.count))]
            salt = int(heard.sum()) * 31 + len(heard) + int(now[q]) // 3_600_000_000
            draw = _mixed(fresh.astype(np.uint64) + np.uint64(salt * 0x9E3779B97F4A7C15 % 2**64))
            order = np.lexsort((fresh, -draw))[: min(k, self.config.most)]
            out.items[q, : len(order)], out.scores[q, : len(order)] = fresh[order], draw[order]
        return out

    def update(self, item_rows: npt.ArrayLike, at: npt.ArrayLike, segment: npt.ArrayLike = -1) -> None:
        """Count new events at once; rows above the catalog's are new items, first met now."""
        rows = np.atleast_1d(np.asarray(item_rows, np.int64))
        times = np.broadcast_to(np.asarray(at, np.int64), rows.shape)[rows >= 0]
        rows = rows[rows >= 0]
        more = int(rows.max(initial=-1)) + 1 - len(self.count)
        if more > 0:
            self.count = np.concatenate([self.count, np.zeros(more, np.int64)])
            self.since = np.concatenate([self.since, np.full(more, np.iinfo(np.int64).max)])
        np.add.at(self.count, rows, 1)
        np.minimum.at(self.since, rows, times)

    def save(self, folder: Path) -> None:
        """Write the counts into an existing, empty folder."""
        arrays = {"since": self.since, "count": self.count}
        store.write(folder, self.name, {"config": self.config.model_dump()}, arrays)

    @classmethod
    def load(cls, folder: Path) -> Fresh:
        """Read what `save` wrote. Raises BuildError where it cannot be used."""
        meta, arrays = store.read(folder, cls.name, ("since", "count"))
        source = cls(store.config(FreshConfig, meta, folder))
        source.since, source.count = arrays["since"], arrays["count"]
        return source


def _mixed(values: npt.NDArray[np.uint64]) -> F32:
    """A float in (0, 1) per integer that looks random (the finaliser of splitmix64, Steele et al. 2014)."""
    z = values + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (((z ^ (z >> np.uint64(31))) >> np.uint64(41)).astype(np.float32) + np.float32(0.5)) / np.float32(2**23)
