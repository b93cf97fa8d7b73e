"""What is popular now, and what is popular now among people like these."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from honeyguide.contracts import F32, F64, I32, I64, Candidates, CatalogView, Interactions, Queries
from honeyguide.errors import DataError
from honeyguide.kernels.blend import ordered_topk, promote
from honeyguide.retrieval import store
from honeyguide.retrieval.signals import DAY_US, arguments, blank, signals

__all__ = ["Popular", "PopularConfig"]

_REBASE_AT = 20.0  # half-lives ahead of the reference after which sums are scaled back, to stay exact in float32


class PopularConfig(BaseModel):
    """How long popularity lasts, and how much a segment's own counts must be to count."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    half_life_days: float = Field(default=0.0, ge=0, description="age at which an event counts half; 0 = off")
    window_days: float = Field(
        default=0.0, ge=0, description="older events are left out, counted from the last one; 0 = all"
    )
    prior_events: float = Field(default=500.0, gt=0, description="events of everybody mixed into each segment's own")
    other: float = Field(default=0.0, ge=0, le=1, description="strength of events whose weight is not above 0")
    use_weights: bool = Field(default=True, description="a positive weight counts as such (clipped to 10), not as 1")


class Popular:
    """Popularity with time decay, per segment, shrunk toward everybody's.

    The score of an item in a segment is its decayed count there plus `prior_events` times its share of everybody's
    decayed count. Decay is forward (Cormode et al. 2009): an event weighs `2 ** ((at - reference) / half_life)`
    forever, so `update` adds and never recounts. It answers everybody, also people without a history.
    Price: (segments + 1) x items x 16 bytes; sensible to some hundred million of segments x items. A question costs
    k + excluded steps; an update as many steps as items are overtaken.
    """

    name: ClassVar[str] = "popular"
    Config = PopularConfig

    def __init__(self, config: PopularConfig | None = None, user_segment: I32 | None = None) -> None:
        """`user_segment`: (users,) the segment of each person row, -1 unknown; None = everybody is one segment."""
        self.config = config or PopularConfig()
        self._user_segment = None if user_segment is None else np.asarray(user_segment, np.int32)
        self._count: F64 = np.zeros((1, 0))  # lines: everybody, then the segments
        self._reference = 0
        self._prior = 0.0
        self._arrange()

    def fit(self, interactions: Interactions, catalog: CatalogView, *, seed: int = 0) -> Self:
        """Count; nothing is drawn at random. Raises DataError where no event is a sign of interest."""
        config = self.config
        events = signals(interactions, other=config.other, use_weights=config.use_weights)
        self._reference = int(events.at.max())
        age_days = (self._reference - events.at) / DAY_US
        strength = events.strength.astype(np.float64)
        if config.half_life_days > 0:
            strength *= 2.0 ** (-age_days / config.half_life_days)
        if config.window_days > 0:
            strength *= age_days <= config.window_days
        segment: I32 = np.full(events.n_users, -1, np.int32)
        if self._user_segment is not None:
            if len(self._user_segment) != events.n_users:
                raise DataError(
                    expected=f"one segment for each of {events.n_users} people",
                    got=f"{len(self._user_segment)} segments",
                    do="Pass user_segment by person row, -1 where unknown.",
                )
            segment = self._user_segment
        lines = int(segment.max(initial=-1)) + 2
        line = np.maximum(segment[events.user].astype(np.int64), -1) + 1
        flat = np.bincount(line * events.n_items + events.item, strength, lines * events.n_items)
        self._count = flat.reshape(lines, events.n_items).astype(np.float64)
        self._count[0] = self._count.sum(axis=0)
        # the prior's scale is fixed here, so that scores only ever rise and `update` need not sort again
        self._prior = config.prior_events / max(float(self._count[0].sum()), 1e-9)
        self._arrange()
        return self

    def _arrange(self) -> None:
        """Scores, order and its inverse from the counts."""
        self._scores = self._scored(slice(None))
        self._order = np.argsort(-self._scores, axis=1, kind="stable").astype(np.int32)
        self._place = np.empty_like(self._order)
        columns = np.arange(self._order.shape[1], dtype=np.int32)[None, :]
        np.put_along_axis(self._place, self._order, np.broadcast_to(columns, self._order.shape), axis=1)
        self._marked: npt.NDArray[np.bool_] = np.zeros(self._order.shape[1], np.bool_)

    def _scored(self, columns: I64 | slice) -> F32:
        count = self._count[:, columns]
        score = count + self._prior * count[:1]
        score[0] = count[0]
        return score.astype(np.float32)

    def retrieve(self, queries: Queries, k: int) -> Candidates:
        """Best `k` items of each query's segment (of everybody where it is unknown), whatever the history is."""
        *_, ex_indptr, ex_items = arguments(queries)
        out = blank(len(queries), k)
        segment = np.asarray(queries.segment, np.int32)
        line = np.where((segment >= 0) & (segment < len(self._order) - 1), segment + 1, 0).astype(np.int32)
        ordered_topk(self._order, self._scores, line, ex_indptr, ex_items, self._marked, out.items, out.scores)
        return out

    def leaders(self, k: int) -> I32:
        """(segments + 1, k) the best items of everybody, then of each segment."""
        return self._order[:, :k]

    def update(self, item_rows: npt.ArrayLike, at: npt.ArrayLike, segment: npt.ArrayLike = -1) -> None:
        """Count new events at once. Rows above the catalog's enlarge it; rows below 0 are nobody's and do not count.

        `item_rows` (n,), `at` (n,) microseconds or one for all, `segment` (n,) or one for all, -1 unknown.
        """
        rows = np.atleast_1d(np.asarray(item_rows, np.int64))
        times = np.broadcast_to(np.asarray(at, np.int64), rows.shape)
        line = np.broadcast_to(np.asarray(segment, np.int64), rows.shape) + 1
        known = rows >= 0
        if not known.any():
            return
        rows, times, line = rows[known], times[known], line[known]
        whole = False
        if int(rows.max()) >= self._count.shape[1]:
            grown = np.zeros((len(self._count), int(rows.max()) + 1))
            grown[:, : self._count.shape[1]] = self._count
            self._count, whole = grown, True
        strength = np.ones(len(rows))
        if self.config.half_life_days > 0:
            exponent = (times - self._reference) / (self.config.half_life_days * DAY_US)
            if float(exponent.max()) > _REBASE_AT:
                newest = int(times.max())
                self._count *= 2.0 ** ((self._reference - newest) / (self.config.half_life_days * DAY_US))
                exponent -= float(exponent.max())
                self._reference, whole = newest, True
            strength = 2.0**exponent
        np.add.at(self._count, (np.zeros_like(rows), rows), strength)
        own = (line > 0) & (line < len(self._count))
        np.add.at(self._count, (line[own], rows[own]), strength[own])
        if whole:
            self._arrange()
            return
        changed = np.unique(rows)
        self._scores[:, changed] = self._scored(changed)
        by_place = changed[np.argsort(self._place[:, changed], axis=1)]
        promote(self._order, self._place, self._scores, by_place.astype(np.int32))

    def save(self, folder: Path) -> None:
        """Write the counts into an existing, empty folder."""
        meta = {"config": self.config.model_dump(), "reference_us": self._reference, "prior": self._prior}
        store.write(folder, self.name, meta, {"count": self._count})

    @classmethod
    def load(cls, folder: Path) -> Popular:
        """Read what `save` wrote. Raises BuildError where it cannot be used."""
        meta, arrays = store.read(folder, cls.name, ("count",))
        source = cls(store.config(PopularConfig, meta, folder))
        source._count, source._reference = arrays["count"], int(meta["reference_us"])
        source._prior = float(meta["prior"])
        source._arrange()
        return source
