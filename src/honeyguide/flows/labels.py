"""What the ranker learns from: requests as they would have been asked, and what people did next."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from honeyguide.contracts import F32, I16, I32, I64, BoolArray, CatalogView, Interactions, Pool, Queries, Ragged
from honeyguide.features.asof import EventStream
from honeyguide.features.definition import FeatureSet
from honeyguide.features.training_set import LabelRows, Requests, group_features, training_set
from honeyguide.flows.histories import Moments, Timelines
from honeyguide.flows.pipeline import ranker_matrix
from honeyguide.ranking.heads import HeadConfig, labels
from honeyguide.ranking.trees import Rows
from honeyguide.retrieval.blend import Blend
from honeyguide.retrieval.tune import pick

__all__ = ["Lesson", "ask", "outcome_rows", "request_rows"]

RETURN_US = 12 * 3_600_000_000
"""A person who was away for longer comes back; before that they are in the middle of a visit."""
DAY_US = 24 * 3_600_000_000
BLOCK = 1_024
"""Requests whose whole pools are held at once."""


@dataclass(frozen=True)
class Lesson:
    """Requests with what followed. `relevant`: what people took next; its length depends on the kind of moment."""

    moments: Moments
    queries: Queries
    relevant: Ragged
    events: I64  # beside relevant.values: the event that tells of it

    def part(self, index: I64) -> Lesson:
        """The chosen requests, in the order given."""
        queries, _ = pick(self.queries, self.relevant, index)
        lengths = np.diff(self.relevant.indptr)[index]
        indptr = np.zeros(len(index) + 1, np.int64)
        np.cumsum(lengths, out=indptr[1:])
        flat = np.arange(indptr[-1], dtype=np.int64) + np.repeat(self.relevant.indptr[index] - indptr[:-1], lengths)
        relevant = Ragged(indptr, self.relevant.values[flat])
        return Lesson(self.moments.take(index), queries, relevant, self.events[flat])


def ask(
    lines: Timelines,
    events: I64,
    segments: I32,
    *,
    history: int,
    had: BoolArray,
    requests: int,
    next_items: int,
    seed: int,
) -> Lesson:
    """At most `requests` moments, drawn from those just before `events` (indexes into the timelines' interactions).

    Half of them, if there are as many, are returns (nothing for twelve hours); the rest are in the middle of a visit.
    A return is answered by all that the person takes within a day, a moment within a visit by the next `next_items`.
    """
    rng = np.random.default_rng(seed)
    moments = lines.moments_of(np.sort(events))
    previous = lines.indptr[moments.user] + moments.position - 1
    known = moments.position > 0
    gap = np.full(len(moments), np.iinfo(np.int64).max, np.int64)
    gap[known] = moments.at[known] - lines.interactions.at[lines.order[previous[known]]]
    returns, visits = np.flatnonzero(gap > RETURN_US), np.flatnonzero(gap <= RETURN_US)
    if len(returns) > requests // 2:
        returns = rng.choice(returns, max(requests // 2, requests - len(visits)), replace=False)
    if len(visits) > requests - len(returns):
        visits = rng.choice(visits, requests - len(returns), replace=False)
    chosen = np.sort(np.concatenate([returns, visits]))
    moments = moments.take(chosen)
    horizon = np.where(gap[chosen] > RETURN_US, lines.within(moments, DAY_US), next_items)
    relevant, upcoming = lines.upcoming(moments, horizon)
    return Lesson(moments, lines.queries(moments, segments, history=history, had=had), relevant, upcoming)


def _among(pool: Pool, relevant: Ragged, wanted: BoolArray) -> BoolArray:
    """Whether each candidate (n, k) is one of its request's relevant items that are `wanted` (by relevant.values)."""
    n = len(relevant)
    wide = np.int64(max(int(pool.items.max(initial=0)), int(relevant.values.max(initial=0))) + 1)
    keys = np.unique((np.repeat(np.arange(n), np.diff(relevant.indptr)) * wide + relevant.values)[wanted])
    asked = np.arange(n)[:, None] * wide + np.maximum(pool.items, 0)
    if not len(keys):
        return np.zeros(pool.items.shape, np.bool_)
    place = np.minimum(np.searchsorted(keys, asked), len(keys) - 1)
    return (keys[place] == asked) & (pool.items >= 0)


def request_rows(
    features: FeatureSet, full: Interactions, catalog: CatalogView, blend: Blend, lesson: Lesson,
    heads: tuple[HeadConfig, ...], *, candidates: int, negatives: int, seed: int,
) -> Rows:  # fmt: skip
    """Rows for heads that rank: every candidate that was taken, and `negatives` others of each request.

    Pools are held for `BLOCK` requests at once; what stays is the drawn rows.
    """
    rng = np.random.default_rng(seed)
    stream = EventStream(full)
    action, value = full.action[lesson.events], full.value[lesson.events]
    wanted = {head.name: labels(head, action, value, full.actions) == 1.0 for head in heads if head.kind == "rank"}
    parts = []
    for start in range(0, len(lesson.moments), BLOCK):
        stop = min(start + BLOCK, len(lesson.moments))
        of = slice(lesson.relevant.indptr[start], lesson.relevant.indptr[stop])
        part = lesson.part(np.arange(start, stop))
        pool = blend.pool(part.queries, candidates)
        did = {name: _among(pool, part.relevant, mask[of]) for name, mask in wanted.items()}
        parts.append(_drawn(features, stream, catalog, blend, part, pool, did, heads, negatives, start, rng))
    return Rows.stacked(parts)


def _drawn(
    features: FeatureSet, stream: EventStream, catalog: CatalogView, blend: Blend, lesson: Lesson, pool: Pool,
    did: dict[str, BoolArray], heads: tuple[HeadConfig, ...], negatives: int, first: int, rng: np.random.Generator,
) -> Rows:  # fmt: skip
    taken = np.logical_or.reduce([*did.values(), np.zeros(pool.items.shape, np.bool_)])
    lottery = rng.random(taken.shape)
    lottery[taken] = -1.0
    lottery[pool.items < 0] = 2.0
    width = min(pool.items.shape[1], negatives + int(taken.sum(axis=1).max(initial=0)))
    order = np.argsort(lottery, axis=1, kind="stable")[:, :width]
    drawn = np.take_along_axis(lottery, order, axis=1)
    keep = (drawn < 0) | ((drawn <= 1.0) & (np.cumsum(drawn >= 0, axis=1) <= negatives))

    def chosen(array: np.ndarray) -> np.ndarray:
        return np.take_along_axis(array, order if array.ndim == 2 else order[:, :, None], axis=1)

    small = Pool(
        np.where(keep, chosen(pool.items), -1).astype(np.int32),
        chosen(pool.blend),
        chosen(pool.source_scores),
        pool.sources,
    )
    # The best score of a source is that among all candidates, as it will be when it is served.
    best = np.fmax.reduce(np.abs(pool.source_scores), axis=1, keepdims=True)
    moments = lesson.moments
    base = group_features(features, stream, catalog, Requests(moments.user, moments.at, small.items), lesson.queries)
    matrix = ranker_matrix(base, small, blend.asked, best=best)
    flat = keep.reshape(-1)
    unknown = np.full(flat.shape, np.nan, np.float32)
    columns = [
        chosen(did[head.name]).reshape(-1).astype(np.float32) if head.kind == "rank" else unknown for head in heads
    ]
    group = np.repeat(np.arange(first, first + len(moments), dtype=np.int64), width)
    at, unit = np.repeat(moments.at, width), np.repeat(moments.user.astype(np.int64), width)
    return Rows(matrix[flat], np.stack(columns, axis=1)[flat], at[flat], group[flat], unit[flat])


def outcome_rows(
    features: FeatureSet, full: Interactions, catalog: CatalogView, events: I64, heads: tuple[HeadConfig, ...],
    *, history: int, source_columns: int, most: int, seed: int,
) -> Rows:  # fmt: skip
    """Rows for heads that give a probability: one per event that a head's outcome is conditioned on.

    history: newest events of the person that the features look at, as many as when they are served.

    What the sources said is left out (nan): these rows are events that happened, not candidates that a source brought.
    """
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.choice(events, most, replace=False)) if len(events) > most else np.sort(events)
    rows = LabelRows(full.user[chosen], full.item[chosen], full.at[chosen])
    lines, nobody_had = Timelines(full), np.zeros(len(full.actions) + 1, np.bool_)
    segments = np.full(full.n_users, -1, np.int32)
    histories = lines.queries(lines.moments_of(chosen), segments, history=history, had=nobody_had)
    base = training_set(features, full, catalog, rows, histories)
    matrix = np.full((len(chosen), base.shape[1] + source_columns), np.nan, np.float32)
    matrix[:, : base.shape[1]] = base
    action, value = _did(full, np.sort(events), chosen)
    label = np.stack(
        [
            labels(head, action, value, full.actions)
            if head.kind == "probability"
            else np.full(len(chosen), np.nan, np.float32)
            for head in heads
        ],
        axis=1,
    )
    nobody = np.full(len(chosen), -1, np.int64)
    return Rows(matrix, label, full.at[chosen], nobody, full.user[chosen].astype(np.int64))


def _did(full: Interactions, given: I64, chosen: I64) -> tuple[I16, F32]:
    """What followed each chosen event: (n, actions) codes and values of the same person and item, within a day.

    What a person did is credited to the newest of the events `given` (of which `chosen` are some) before it, and to no
    other: an item that was shown five times and clicked once was clicked once.
    """
    # Numbered by appearance, so that pair x event stays far from the end of int64 whatever the catalog's size.
    pair = np.unique(full.user.astype(np.int64) * full.n_items + full.item, return_inverse=True)[1].astype(np.int64)
    wide = np.int64(len(full))
    keys = np.sort(pair[given] * wide + given)
    action = np.full((len(chosen), len(full.actions)), -1, np.int16)
    value = np.full((len(chosen), len(full.actions)), np.nan, np.float32)
    if not len(given):
        return action, value
    place_of = np.full(len(full), -1, np.int64)
    place_of[chosen] = np.arange(len(chosen))
    for code in range(len(full.actions)):
        did = np.flatnonzero(full.action == code)
        place = np.searchsorted(keys, pair[did] * wide + did, side="right") - 1
        key = keys[np.maximum(place, 0)]
        event = key % wide
        credited = (place >= 0) & (key // wide == pair[did]) & (full.at[did] - full.at[event] <= DAY_US)
        row = np.where(credited, place_of[event], -1)
        # Newest first, so that the first thing that followed is the one that stays.
        did, row = did[row >= 0][::-1], row[row >= 0][::-1]
        action[row, code] = code
        value[row, code] = full.value[did]
    return action, value
