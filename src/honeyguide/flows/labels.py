"""What the ranker learns from: requests as they would have been asked, and what people did next."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from honeyguide.contracts import F32, F64, I16, I32, I64, BoolArray, CatalogView, Interactions, Pool, Queries, Ragged
from honeyguide.features.asof import EventStream
from honeyguide.features.definition import FeatureSet
from honeyguide.features.training_set import LabelRows, Requests, group_features, training_set
from honeyguide.flows.histories import Moments, Timelines
from honeyguide.flows.pipeline import ranker_matrix
from honeyguide.ranking.heads import HeadConfig, labels
from honeyguide.ranking.rows import Rows
from honeyguide.retrieval.blend import Blend
from honeyguide.retrieval.tune import pick

__all__ = [
    "DAY_US", "ORIGINS", "Lesson", "Negatives", "Sample", "ShownLesson", "ask", "event_matrix", "outcome_rows",
    "request_rows",
]  # fmt: skip

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
    asked: I64  # (n,) the event that each moment lies just before

    def part(self, index: I64) -> Lesson:
        """The chosen requests, in the order given."""
        queries, _ = pick(self.queries, self.relevant, index)
        lengths = np.diff(self.relevant.indptr)[index]
        indptr = np.zeros(len(index) + 1, np.int64)
        np.cumsum(lengths, out=indptr[1:])
        flat = np.arange(indptr[-1], dtype=np.int64) + np.repeat(self.relevant.indptr[index] - indptr[:-1], lengths)
        relevant = Ragged(indptr, self.relevant.values[flat])
        return Lesson(self.moments.take(index), queries, relevant, self.events[flat], self.asked[index])


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
    events = np.sort(events)
    moments = lines.moments_of(events)
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
    context = {name: codes[events[chosen]] for name, codes in lines.interactions.context.items()}
    queries = replace(lines.queries(moments, segments, history=history, had=had), context=context)
    return Lesson(moments, queries, relevant, upcoming, events[chosen])


@dataclass(frozen=True)
class ShownLesson:
    """Requests with the list that was shown, and what came of each slot."""

    moments: Moments
    queries: Queries
    items: I32  # (n, slots), padded with -1
    outcomes: dict[str, F32]  # head -> (n, slots): 1, 0, nan where it cannot be known (yet)
    request: I32  # (n,) whose list it is, a row of `Shown.request_ids`
    context: dict[str, I64]  # (n,) facts of the moment, as codes

    def part(self, index: I64) -> ShownLesson:
        """The chosen requests, in the order given."""
        queries, _ = pick(self.queries, Ragged.empty(len(self.moments)), index)
        outcomes = {name: label[index] for name, label in self.outcomes.items()}
        context = {name: codes[index] for name, codes in self.context.items()}
        return ShownLesson(self.moments.take(index), queries, self.items[index], outcomes, self.request[index], context)


@dataclass(frozen=True)
class Negatives:
    """How candidates without the outcome are chosen, so that what was left away can be weighed later.

    rule: `pool` draws evenly from what the sources bring for the request; `uniform` and `popularity` draw from the
    whole catalog with replacement, with the chance of each item (`chance`, summing to one).
    """

    rule: Literal["pool", "uniform", "popularity"]
    per_request: int
    chance: F64 | None = None  # (items,)


@dataclass(frozen=True)
class Sample:
    """Rows that heads learn from, with whom and what each is about and how it came to be among them."""

    rows: Rows
    user: I32  # (n,) -1 nobody known
    item: I32  # (n,)
    origin: I16  # (n,) code into ORIGINS
    rate: F32  # (n,) probability with which a row of its kind was drawn
    request: I32  # (n,) row of `Shown.request_ids`, -1 none

    @classmethod
    def stacked(cls, parts: Sequence[Sample]) -> Sample:
        """Samples below each other."""
        names = ("user", "item", "origin", "rate", "request")
        columns = [np.concatenate([getattr(part, name) for part in parts]) for name in names]
        return cls(Rows.stacked([part.rows for part in parts]), *columns)


ORIGINS = ("taken", "pool", "uniform", "popularity", "shown", "event")
"""What a row is: a candidate that the person took next; one drawn by a rule of `Negatives`; a slot of a list as shown;
an event."""


def _among(pool: Pool, relevant: Ragged, wanted: BoolArray) -> BoolArray:
    """Whether each candidate (n, k) is one of its request's relevant items that are `wanted` (by relevant.values)."""
    n = len(relevant)
    wide = np.int64(max(int(pool.items.max(initial=0)), int(relevant.values.max(initial=0))) + 1)
    keys = np.unique((np.repeat(np.arange(n), np.diff(relevant.indptr)) * wide + relevant.values)[wanted])
    return (_find(keys, np.arange(n)[:, None] * wide + np.maximum(pool.items, 0)) >= 0) & (pool.items >= 0)


def _find(keys: I64, asked: I64) -> I64:
    """Place of each asked key in the sorted `keys`, -1 where it is not among them."""
    if not len(keys):
        return np.full(asked.shape, -1, np.int64)
    place = np.minimum(np.searchsorted(keys, asked), len(keys) - 1)
    found: I64 = np.where(keys[place] == asked, place, -1)
    return found


def request_rows(
    features: FeatureSet, full: Interactions, catalog: CatalogView, blend: Blend, lesson: Lesson | ShownLesson,
    heads: tuple[HeadConfig, ...], *, candidates: int, negatives: Negatives, seed: int,
) -> Sample:  # fmt: skip
    """Rows for heads that rank: what each request is known by, and `negatives` beside it.

    Known are the candidates that the person took next, or the slots that were shown. Pools are held for `BLOCK`
    requests at once; what stays is the drawn rows.
    """
    rng = np.random.default_rng(seed)
    stream = EventStream(full)
    ranked = [head for head in heads if head.kind == "rank"]
    wanted: dict[str, BoolArray] = {}
    if isinstance(lesson, Lesson):
        action, value = full.action[lesson.events], full.value[lesson.events]
        wanted = {head.name: labels(head, action, value, full.actions) == 1.0 for head in ranked}
    parts = []
    for start in range(0, len(lesson.moments), BLOCK):
        stop = min(start + BLOCK, len(lesson.moments))
        part = lesson.part(np.arange(start, stop))
        pool = blend.pool(part.queries, candidates)
        if isinstance(part, ShownLesson):
            certain, outcomes, request, context = part.items, part.outcomes, part.request, part.context
        else:
            of = slice(lesson.relevant.indptr[start], lesson.relevant.indptr[stop])  # type: ignore[union-attr]
            did = {name: _among(pool, part.relevant, mask[of]) for name, mask in wanted.items()}
            certain, outcomes = _taken(pool, did)
            request = np.full(stop - start, -1, np.int32)
            context = {name: codes[part.asked] for name, codes in full.context.items()}
        drawn, rate = _negatives(negatives, pool, certain, part.queries, rng)
        items = np.concatenate([certain, drawn], axis=1)
        known = certain.shape[1]
        label = np.full((*items.shape, len(heads)), np.nan, np.float32)
        for column, head in enumerate(heads):
            if head.kind == "rank":
                label[:, :known, column] = outcomes[head.name]
                label[:, known:, column] = 0.0
        how = "shown" if isinstance(part, ShownLesson) else "taken"
        origin = np.full(items.shape, ORIGINS.index(how), np.int16)
        origin[:, known:] = ORIGINS.index(negatives.rule)
        chances = np.concatenate([np.ones(certain.shape, np.float32), rate], axis=1)
        matrix = _matrix(features, stream, catalog, blend, part, pool, items, context)
        flat, width = (items >= 0).reshape(-1), items.shape[1]
        user = np.repeat(part.moments.user, width)[flat]
        group = np.repeat(np.arange(start, stop, dtype=np.int64), width)[flat]
        # Nobody known is somebody: each request of such a one counts as a person of its own.
        unit = np.where(user < 0, full.n_users + group, user).astype(np.int64)
        rows = Rows(
            matrix[flat], label.reshape(-1, len(heads))[flat], np.repeat(part.moments.at, width)[flat], group, unit
        )
        parts.append(
            Sample(rows, user, items.reshape(-1)[flat], origin.reshape(-1)[flat], chances.reshape(-1)[flat],
                   np.repeat(request, width)[flat])
        )  # fmt: skip
    return Sample.stacked(parts)


def _taken(pool: Pool, did: dict[str, BoolArray]) -> tuple[I32, dict[str, F32]]:
    """The candidates with an outcome, in the pool's order (n, most), and the outcome of each head."""
    taken = np.logical_or.reduce([*did.values(), np.zeros(pool.items.shape, np.bool_)])
    order = np.argsort(~taken, axis=1, kind="stable")[:, : int(taken.sum(axis=1).max(initial=0))]
    there = np.take_along_axis(taken, order, axis=1)
    certain = np.where(there, np.take_along_axis(pool.items, order, axis=1), -1).astype(np.int32)
    return certain, {name: np.take_along_axis(mask, order, axis=1).astype(np.float32) for name, mask in did.items()}


def _negatives(
    rule: Negatives, pool: Pool, certain: I32, queries: Queries, rng: np.random.Generator
) -> tuple[I32, F32]:
    """Items (n, per_request) beside the certain ones, padded with -1, and the probability with which each was drawn."""
    n, wide = len(certain), np.int64(max(int(pool.items.max(initial=0)), int(certain.max(initial=0))) + 1)
    row = np.arange(n)[:, None]
    keys = np.unique((row * wide + certain)[certain >= 0])
    if rule.rule == "pool":
        lottery = rng.random(pool.items.shape)
        free = (pool.items >= 0) & (_find(keys, row * wide + pool.items) < 0)
        lottery[~free] = 2.0
        order = np.argsort(lottery, axis=1, kind="stable")[:, : rule.per_request]
        drawn = np.where(
            np.take_along_axis(lottery, order, axis=1) <= 1.0, np.take_along_axis(pool.items, order, 1), -1
        )
        rate = np.minimum(1.0, rule.per_request / np.maximum(free.sum(axis=1, keepdims=True), 1))
        return drawn.astype(np.int32), np.broadcast_to(rate, drawn.shape).astype(np.float32)
    chance = rule.chance if rule.chance is not None else np.zeros(0)
    drawn = np.sort(rng.choice(len(chance), size=(n, rule.per_request), p=chance), axis=1)
    wide = np.int64(len(chance))
    had = np.repeat(np.arange(n), np.diff(queries.exclude.indptr)) * wide + queries.exclude.values
    keys = np.unique(np.concatenate([(row * wide + certain)[certain >= 0], had]))
    again = np.zeros(drawn.shape, np.bool_)
    again[:, 1:] = drawn[:, 1:] == drawn[:, :-1]
    rate = 1.0 - (1.0 - chance[drawn]) ** rule.per_request
    drawn = np.where(again | (_find(keys, row * wide + drawn) >= 0), -1, drawn)
    return drawn.astype(np.int32), rate.astype(np.float32)


def _matrix(
    features: FeatureSet, stream: EventStream, catalog: CatalogView, blend: Blend, part: Lesson | ShownLesson,
    pool: Pool, items: I32, context: dict[str, I64],
) -> F32:  # fmt: skip
    """The ranker's columns of these items (n, k); what the sources said is nan for an item that is not in the pool."""
    n, wide = len(items), np.int64(max(int(pool.items.max(initial=0)), int(items.max(initial=0))) + 1)
    row = np.arange(n)[:, None]
    pooled = np.where(pool.items >= 0, row * wide + pool.items, -1).reshape(-1)
    order = np.argsort(pooled, kind="stable")
    place = _find(pooled[order], np.where(items >= 0, row * wide + items, -2))
    place = np.where(place >= 0, order[np.maximum(place, 0)], -1)
    sources = pool.source_scores.shape[2]
    blended = np.append(pool.blend.reshape(-1), np.float32(np.nan))[place]
    scores = np.concatenate([pool.source_scores.reshape(-1, sources), np.full((1, sources), np.nan, np.float32)])[place]
    # The best score of a source is that among all candidates, as it will be when it is served.
    best = np.fmax.reduce(np.abs(pool.source_scores), axis=1, keepdims=True)
    asked = Requests(part.moments.user, part.moments.at, items, context)
    base = group_features(features, stream, catalog, asked, part.queries)
    return ranker_matrix(base, Pool(items, blended, scores, pool.sources), blend.asked, best=best)


def outcome_rows(
    features: FeatureSet, full: Interactions, catalog: CatalogView, events: I64, heads: tuple[HeadConfig, ...],
    of: Collection[str], *, history: int, source_columns: int, most: int, seed: int,
) -> Sample:  # fmt: skip
    """Rows for heads that give a probability: one per event that a head's outcome is conditioned on, `of` those named.

    history: newest events of the person that the features look at, as many as when they are served. Where another
    action is the outcome and has not had its day yet, it is unknown, whatever came of it so far.

    What the sources said is left out (nan): these rows are events that happened, not candidates that a source brought.
    """
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.choice(events, most, replace=False)) if len(events) > most else np.sort(events)
    lines = Timelines(full)
    context = {name: codes[chosen] for name, codes in full.context.items()}
    matrix = event_matrix(features, full, catalog, lines, lines.moments_of(chosen), full.item[chosen], history, context)
    matrix = np.pad(matrix, ((0, 0), (0, source_columns)), constant_values=np.nan)
    action, value = _did(full, np.sort(events), chosen)
    young = full.at[chosen] + DAY_US > full.at[-1] if len(full) else np.zeros(0, np.bool_)
    columns = []
    for head in heads:
        label = np.full(len(chosen), np.nan, np.float32)
        if head.name in of:
            label = labels(head, action, value, full.actions)
            if head.action != head.given:
                label[young] = np.nan  # also where something came: of the young, only what comes early is known
        columns.append(label)
    n = len(chosen)
    rows = Rows(
        matrix, np.stack(columns, axis=1), full.at[chosen], np.full(n, -1, np.int64), full.user[chosen].astype(np.int64)
    )
    origin = np.full(n, ORIGINS.index("event"), np.int16)
    rate = np.full(n, n / max(len(events), 1), np.float32)
    return Sample(rows, full.user[chosen], full.item[chosen], origin, rate, np.full(n, -1, np.int32))


def event_matrix(
    features: FeatureSet, full: Interactions, catalog: CatalogView, lines: Timelines, moments: Moments, item: I32,
    history: int, context: dict[str, I64],
) -> F32:  # fmt: skip
    """Features of one item at each moment and in its context, with the history as it is served."""
    nobody_had = np.zeros(len(full.actions) + 1, np.bool_)
    segments = np.full(full.n_users, -1, np.int32)
    somebody = Moments(np.maximum(moments.user, 0), moments.position, moments.at)
    histories = lines.queries(somebody, segments, history=history, had=nobody_had)
    rows = LabelRows(moments.user, item, moments.at, context)
    matrix: F32 = training_set(features, full, catalog, rows, histories)
    return matrix


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
