"""The request path on one screen: a line per stage, a deadline between them, and a fallback that always answers."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import structlog
from msgspec import structs

from honeyguide.contracts import F32, F64, I32, I64, Pool, Queries, Ragged, TextHits, TextIndex
from honeyguide.engines.log.keys import time_key
from honeyguide.errors import HoneyguideError, NotFoundError, RequestError
from honeyguide.features.online import History
from honeyguide.flows import understood
from honeyguide.flows.arrivals import coded_context
from honeyguide.flows.merchandising.apply import RuledList
from honeyguide.flows.pipeline import NEW, ranker_matrix
from honeyguide.flows.rank_input import of_request
from honeyguide.flows.rights import likeness, lowered
from honeyguide.kernels.hashing import hash64
from honeyguide.retrieval.lexical import highlight
from honeyguide.schema.wire import (
    Answer,
    Exploration,
    FacetCount,
    Filters,
    RecommendRequest,
    RuleEffect,
    SearchAnswer,
    SearchRequest,
    ShownItem,
)
from honeyguide.serving.deadline import Deadline
from honeyguide.slate.compose import NOT_FORCED, SlateResult
from honeyguide.slate.moment import NO_MOMENT, Moment

if TYPE_CHECKING:
    from honeyguide.flows.live import Facts, Live, Surface
    from honeyguide.ranking.ranker import HeadsRanker

__all__ = ["Ask", "recommend", "search"]

_logger = structlog.get_logger("honeyguide.answer")
_NO_ROWS: I32 = np.zeros(0, np.int32)
_NO_PAST = History(_NO_ROWS, np.zeros(0, np.float32), np.zeros(0, np.float32), np.zeros(0, np.int16),
                   np.zeros(0, np.int64))  # fmt: skip
_ALL = Filters()
SEEN_LIMIT = 10_000
"""Newest events of a person that count as seen."""
BECAUSE = 0.35
"""Cosine from which an item of the history is given as a reason."""
SEARCH_DEADLINE_MS = 200.0
SEARCH_HISTORY = 100
"""Newest events of a person that the ranking of search looks at."""
PLACED = "Placed here by a rule"


@dataclass(frozen=True, slots=True)
class Ask:
    """A request in rows."""

    request: RecommendRequest
    request_id: str
    user: int  # -1 unknown
    now_us: int
    items: I32  # the history or the seeds, oldest first
    weights: F32
    at: I64
    seen: I32
    exclude: I32
    segment: int
    kind: str  # of the request: new, visit or return
    reasons: I32  # of the items, those that may be given as a reason: nobody wants more of what they disliked
    less: I32 = field(default_factory=lambda: _NO_ROWS)  # items of whose kind the person wants less
    moment: Moment = NO_MOMENT
    ruled: RuledList | None = None  # what merchandising rules want of the page of a category
    values: F32 = field(default_factory=lambda: _NO_PAST.values)  # of the history's events; of seeds there are none

    def queries(self, context_keys: tuple[str, ...] = ()) -> Queries:
        """The request as a batch of one; with the facts of its moment that are asked for."""
        request = self.request
        told = coded_context(context_keys, request.surface, request.context) if context_keys else {}
        return Queries(
            np.array([0, len(self.items)], np.int64), self.items, self.weights, self.at,
            np.array([self.now_us], np.int64), np.array([self.segment], np.int32),
            Ragged(np.array([0, len(self.exclude)], np.int64), self.exclude),
            {name: np.array([code], np.int64) for name, code in told.items()},
        )  # fmt: skip


def recommend(live: Live, request: RecommendRequest) -> Answer:
    """A slate. What is late or fails falls back to what is popular, and the answer says so."""
    surface = live.surfaces.get(request.surface) or _unknown_surface(live, request.surface)
    deadline = Deadline(surface.config.deadline_ms)
    ask = resolve(live, surface, request)
    pool: Pool | None = None
    scores: F64 | None = None
    fallback: str | None = None
    effects: list[RuleEffect] = []
    try:
        deadline.check("resolve")
        pool = retrieve(live, surface, ask)
        deadline.check("retrieve")
        scores = rank(live, surface, ask, pool, deadline)
        slate, effects = ruled_by(live, surface, ask, *wanted(live, surface, ask, pool, scores))
        if not len(slate.rows) and len(ask.seen):
            fallback = "popular: nothing new is left"
            ask = replace(ask, seen=_NO_ROWS, exclude=ask.exclude[len(ask.seen) :])
            pool, scores = popular(live, surface, ask), None
            slate = compose(surface, ask, *wanted(live, surface, ask, pool, None))
        deadline.check("slate")
    except RequestError:
        raise
    except Exception as error:  # noqa: BLE001 - the one place where a failing stage must not fail the answer
        fallback = _named(error)
        pool, scores = popular(live, surface, ask), None
        slate = compose(surface, ask, *wanted(live, surface, ask, pool, None))
        deadline.note("fallback")
    if live.watch is not None and fallback is None:
        live.watch(surface, ask, pool, scores, slate)
    if fallback is None and scores is not None:
        if live.served is not None and request.log and live.served.wants(ask.request_id):
            live.served.keep(live, ask, pool)
        fallback = _lapsed(live)
    answer = present(live, ask, pool, scores, slate, fallback)
    answer.merchandising = effects
    deadline.note("present")
    answer.stage_us = deadline.stage_us
    return answer


def _lapsed(live: Live) -> str | None:
    """What a scorer from outside did not say; then the base rate of its head counted."""
    ranker = live.pipeline.ranker
    return f"base rate: {ranker.lapsed}" if ranker is not None and ranker.parts and ranker.lapsed else None


def resolve(live: Live, surface: Surface, request: RecommendRequest) -> Ask:
    """Ids to rows, and the history (or the seeds) that the question is made of."""
    if request.filters.attributes:
        raise RequestError(
            expected="filters of the catalog's own facts", got="attributes", do="Attributes narrow a search alone."
        )
    now, less = live.now_us(), _NO_ROWS
    if request.profiling and request.user_id is not None:
        person = request.user_id
        user = live.users.row(person)
        past = live.online.history(user, SEEN_LIMIT, now)
        if live.wishes:
            request = structs.replace(request, filters=live.wishes.barring(person, request.filters))
            rows = live.catalog.items.rows(live.wishes.less(person))
            less = rows[rows >= 0]
    else:
        user, past = -1, _NO_PAST
    if surface.config.kind == "home":
        newest = slice(max(len(past.items) - surface.config.history, 0), None)
        items, weights, at = past.items[newest], past.weights[newest], past.at[newest]
        seeds, values = _NO_ROWS, past.values[newest]
        blamed = values <= live.blamed_up_to[past.actions[newest]]
        reasons = items[~blamed]
    else:
        seeds = reasons = _seeds(live, request, surface.config.kind)
        items, weights, values = seeds, np.ones(len(seeds), np.float32), _NO_PAST.values
        at = np.full(len(seeds), now - 1, np.int64)
    ruled = live.merchandiser.listed(request.surface, request.filters, now)
    seen = past.items[live.had[past.actions]] if surface.slate.rules.hide_seen else _NO_ROWS
    # Sources are told what the filters bar, so that a narrow filter is answered from the whole catalog.
    rules = surface.popular.rules
    barred = np.flatnonzero(~rules.mask(request.filters)).astype(np.int32) if request.filters != _ALL else _NO_ROWS
    exclude = np.concatenate([seen, seeds, barred]) if len(seeds) or len(barred) else seen
    regimes = live.pipeline.blend.config.regimes
    age_hours = (now - int(at[-1])) / 3.6e9 if len(at) else 0.0
    kind = next((r.name for r in regimes if age_hours <= r.within_hours), regimes[-1].name) if len(at) else NEW
    return Ask(
        request, request.request_id or time_key(), user, now, items, weights, at, seen, exclude,
        live.segment(user, request.context), kind, reasons, less,
        live.moment(surface, request.user_id if request.profiling else None, now, past, items, weights),
        ruled, values,
    )  # fmt: skip


def _seeds(live: Live, request: RecommendRequest, kind: str) -> I32:
    wanted = [request.item_id] if kind == "item" else request.board_items
    if not wanted or wanted[0] is None:
        needs = "item_id" if kind == "item" else "board_items"
        raise RequestError(
            expected=f"{needs} for the surface {request.surface!r}", got="none", do=f"Send {needs}, or ask for home."
        )
    rows = live.catalog.items.rows(str(item_id) for item_id in wanted)
    known = rows[rows >= 0]
    if not len(known):
        raise NotFoundError(
            expected="items of the catalog", got=", ".join(map(repr, wanted[:3])), do="PUT /v1/items/{id} adds an item."
        )
    return np.asarray(known, np.int32)


def retrieve(live: Live, surface: Surface, ask: Ask) -> Pool:
    """Candidates of all sources; for seeds that no event speaks for yet, items with like texts."""
    pool = surface.blend.pool(ask.queries(surface.blend.context_keys), surface.config.candidates)
    if surface.config.kind == "home" or not _only_popular(pool):
        return _with_newcomers(pool, surface, ask)
    like = live.lexical.like(live.item(int(ask.items[-1])), surface.config.candidates)
    return Pool(like.items, like.scores, like.scores[:, :, None], ("text",))


def _with_newcomers(pool: Pool, surface: Surface, ask: Ask) -> Pool:
    """The pool and a few items that hardly anybody was shown, by turns, where exploration has slots for them."""
    most = surface.slate.explore.new_candidates
    if not most or not len(surface.newcomers):
        return pool
    start = hash64(ask.request_id, "newcomers") % len(surface.newcomers)
    turn = np.roll(surface.newcomers, -start)[: most + len(ask.exclude)]
    fresh = turn[~np.isin(turn, pool.items[0]) & ~np.isin(turn, ask.exclude)][:most]
    n = len(fresh)
    return Pool(
        np.concatenate([pool.items, fresh[None]], axis=1),
        np.concatenate([pool.blend, np.zeros((1, n), np.float32)], axis=1),
        np.concatenate([pool.source_scores, np.full((1, n, len(pool.sources)), np.nan, np.float32)], axis=1),
        pool.sources,
    )


def _only_popular(pool: Pool) -> bool:
    others = [i for i, name in enumerate(pool.sources) if name != "popular"]
    return bool(np.isnan(pool.source_scores[0][:, others]).all())


def rank(live: Live, surface: Surface, ask: Ask, pool: Pool, deadline: Deadline) -> F64:
    """The heads' scores of every candidate (n, heads)."""
    ranker, slate = live.pipeline.ranker, surface.slate
    items = pool.items[0]
    if ranker is None or not (slate.heads or slate.explore.reads_heads):
        return np.full((len(items), len(live.pipeline.heads)), np.nan)
    matrix = ranked_by(live, ask, pool)
    deadline.check("features")
    given = matrix if ranker.plain else of_request(ask, pool, matrix, ranker_context(ranker, ask))
    scores = ranker.score(given)
    deadline.check("rank")
    return scores


def ranker_context(ranker: HeadsRanker, ask: Ask) -> dict[str, int]:
    """The facts of a request that the ranker looks at beyond features."""
    return coded_context(ranker.context_keys, ask.request.surface, ask.request.context) if ranker.context_keys else {}


def ranked_by(live: Live, ask: Ask, pool: Pool) -> F32:
    """The ranker's columns of every candidate (n, columns)."""
    keys = live.online.features.context_keys
    context = coded_context(keys, ask.request.surface, ask.request.context) if keys else None
    features = live.online.read(ask.user, pool.items[0], ask.now_us, ask.items, ask.weights, ask.at, context=context)
    return ranker_matrix(features, pool, live.pipeline.blend.asked)


def wanted(live: Live, surface: Surface, ask: Ask, pool: Pool, scores: F64 | None) -> tuple[Pool, F64 | None]:
    """The same candidates; what a person wants less of is scored lower."""
    if not len(ask.less):
        return pool, scores
    fall = live.config.rights.strength * likeness(live.catalog, live.vectors, pool.items[0], ask.less)
    added = surface.composers.of(ask.kind).added
    against = frozenset[str]() if scores is None else added.against(pool.items[0], scores, ask.now_us)
    return lowered(pool, scores, live.pipeline.heads, surface.slate.utility, fall, against)


def compose(surface: Surface, ask: Ask, pool: Pool, scores: F64 | None, lift: F64 | None = None) -> SlateResult:
    """Rules, utility, diversity, pins, exploration: in this order. Without scores: the order of the pool."""
    composer = surface.popular if scores is None else surface.composers.of(ask.kind)
    if scores is None:
        scores = np.zeros((pool.items.shape[1], 0))
    forced = NOT_FORCED if ask.ruled is None else ask.ruled.forced
    return composer.compose(
        pool.items[0],
        scores=scores,
        blend=pool.blend[0],
        k=ask.request.k,
        request_id=ask.request_id,
        seen=ask.seen,
        filters=ask.request.filters if ask.ruled is None else ask.ruled.filters,
        moment=ask.moment,
        forced=forced if lift is None else forced.over(lift),
    )


def ruled_by(
    live: Live, surface: Surface, ask: Ask, pool: Pool, scores: F64 | None
) -> tuple[SlateResult, list[RuleEffect]]:
    """The slate as merchandising rules want it, and what they did to it."""
    if ask.ruled is None:
        return compose(surface, ask, pool, scores), []
    plain = compose(surface, replace(ask, ruled=None), pool, scores)
    slate = compose(surface, ask, pool, scores, ask.ruled.lift(pool.items[0], plain.utilities))
    return slate, live.merchandiser.effects(ask.ruled, slate, plain)


def popular(live: Live, surface: Surface, ask: Ask) -> Pool:
    """What everybody can be shown, from the fallback source alone."""
    source = live.pipeline.sources.get(live.pipeline.blend.config.fallback)
    if source is None:
        order = np.argsort(-live.popularity, kind="stable")[: surface.config.candidates].astype(np.int32)
        return Pool(order[None], live.popularity[order][None], live.popularity[order][None, :, None], ("popular",))
    found = source.retrieve(ask.queries(), surface.config.candidates)
    return Pool(found.items, found.scores, found.scores[:, :, None], (source.name,))


def present(live: Live, ask: Ask, pool: Pool, scores: F64 | None, slate: SlateResult, fallback: str | None) -> Answer:
    """The slate as it travels: titles, sources, heads and the reason for each item."""
    heads = live.pipeline.heads if scores is not None else {}
    told = [(name, column) for column, (name, calibrated) in enumerate(heads.items()) if calibrated]
    of = np.maximum(slate.index, 0)  # a pin that was no candidate has index -1, and neither sources nor heads
    values: list[list[float]] = [] if scores is None else np.round(scores[of], 4).tolist()
    because = _because(live, ask, slate.rows)
    brought = (~np.isnan(pool.source_scores[0][of])).tolist()
    utility = np.round(np.nan_to_num(slate.utility), 6).tolist()
    propensity = slate.propensity.tolist()
    pinned, explored = slate.pinned.tolist(), slate.explored.tolist()
    shown = []
    for slot, (row, index) in enumerate(zip(slate.rows.tolist(), slate.index.tolist(), strict=True)):
        facts = live.facts(row)
        sources = [name for name, there in zip(pool.sources, brought[slot], strict=True) if there] if index >= 0 else []
        head_values = values[slot] if index >= 0 and values else []
        why = because[slot]
        shown.append(
            ShownItem(
                facts.item_id,
                slot + 1,
                utility[slot],
                propensity[slot],
                facts.title,
                _reason(live, ask, why, sources, pinned[slot], explored[slot]),
                sources,
                {name: head_values[at] for name, at in told if head_values[at] == head_values[at]}
                if head_values
                else {},
                facts.year,
                facts.categories,
                facts.people,
                pinned[slot],
                explored[slot],
                [live.facts(why).item_id] if why >= 0 else [],
                rule=ask.ruled.forced.rules.get(row) if ask.ruled is not None and pinned[slot] else None,
            )
        )
    return Answer(
        ask.request_id, ask.request.surface, live.policy_version, live.build_id, shown,
        list_propensity=slate.list_propensity, fallback=fallback, dropped=slate.dropped,
        exploration=_exploration(slate),
    )  # fmt: skip


def _exploration(slate: SlateResult) -> Exploration | None:
    if not slate.exploration:
        return None
    slots = np.flatnonzero(slate.explored).tolist()
    return Exploration(slate.exploration, {str(slot + 1): round(float(slate.aside[slot]), 6) for slot in slots})


def _because(live: Live, ask: Ask, rows: I32) -> list[int]:
    """For each item, the row of the history or the seeds that is nearest to it, -1 if none is near."""
    vectors = live.vectors
    items = ask.reasons[(ask.reasons >= 0) & (ask.reasons < len(vectors))]
    if not len(items) or not len(rows):
        return [-1] * len(rows)
    inside = rows < len(vectors)
    cosine = vectors[rows if inside.all() else np.where(inside, rows, 0)] @ vectors[items].T
    first = cosine.argmax(axis=1)
    near = cosine[np.arange(len(rows)), first] >= BECAUSE
    found: list[int] = np.where(near & inside, items[first], -1).tolist()
    return found


def _reason(live: Live, ask: Ask, why: int, sources: list[str], pinned: bool, explored: bool) -> str:
    if pinned:
        return PLACED
    if explored:
        return "Something new to try"
    if why >= 0:
        title = live.facts(why).title
        return f"Because of {title}" if ask.request.surface == "home" else f"Goes with {title}"
    if sources == ["text"]:
        return "Similar words, people and genres"
    liked = sources != ["popular"] and len(ask.items) > 0
    if ask.request.surface != "home" and liked:
        return f"Often chosen with {live.facts(int(ask.items[-1])).title}"
    if liked:
        return "Fits what you chose lately"
    return "Popular among people like you" if not len(ask.items) and ask.segment >= 0 else "Popular right now"


def _named(error: Exception) -> str:
    if not isinstance(error, HoneyguideError):
        _logger.error("a stage failed; popular items are shown", exc_info=error)
        return "popular: a stage failed"
    return f"popular: {type(error).__name__.removesuffix('Error')}"


def _unknown_surface(live: Live, name: str) -> Surface:
    raise NotFoundError(
        expected=f"a surface of this workspace ({', '.join(live.surfaces)})", got=repr(name), do="Name one of them."
    )


# ------------------------------------------------------------------------------------------------------ search


def search(live: Live, request: SearchRequest) -> SearchAnswer:
    """Hits by words, with facets, and how the query was read."""
    deadline = Deadline(SEARCH_DEADLINE_MS)
    _check_ranges(live, request)
    if request.profiling and request.user_id is not None and live.wishes:
        request = structs.replace(request, filters=live.wishes.barring(request.user_id, request.filters))
    text = asked_of(live, request)
    found = understood.find(live.understander, text, request)
    deadline.note("retrieve")
    query = found.text

    def find(filters: Filters, k: int, facets: bool) -> TextHits:
        return text.search(query, k, filters=filters, facets=facets, rewrites=found.rewrites or None)

    narrowed = request if found.filters is request.filters else structs.replace(request, filters=found.filters)
    ruled = live.merchandiser.search(narrowed, [request.query, query], found.hits, find, live.now_us())
    hits = ruled.hits
    shown = [
        ShownItem(
            item_id=facts.item_id,
            position=request.offset + slot + 1,
            score=round(score, 4) if score == score else 0.0,
            propensity=1.0,
            title=facts.title,
            reason=PLACED if row in ruled.pinned else _matched(facts, live.catalog.description[row], found.marked),
            sources=[] if row in ruled.pinned else ["lexical"],
            year=facts.year,
            categories=facts.categories,
            people=facts.people,
            highlight=highlight(facts.title, found.marked),
            pinned=row in ruled.pinned,
            rule=ruled.pinned.get(row),
        )
        for slot, (row, score) in enumerate(zip(hits.rows.tolist(), hits.scores.tolist(), strict=True))
        for facts in (live.facts(row),)
    ]
    deadline.note("present")
    return SearchAnswer(
        request_id=request.request_id or time_key(),
        surface="search",
        policy_version=live.policy_version,
        build_id=live.build_id,
        query=request.query,
        total=hits.total,
        items=shown,
        facets={name: [FacetCount(value, count) for value, count in counts] for name, counts in hits.facets.items()},
        corrected=found.corrected,
        understood=understood.told(found.read, found.dropped),
        stage_us=deadline.stage_us,
        merchandising=ruled.effects,
    )


def asked_of(live: Live, request: SearchRequest) -> TextIndex:
    """The index for one request: its order, its words for facets, and what the person's history says to the ranking."""
    text = live.text
    plain = request.sort == "relevance" and not request.facet_text
    if plain and not text.ranks:
        return text
    person = None
    if text.ranks and request.profiling and request.user_id is not None:
        now = live.now_us()
        person = text.person(live.online.history(live.users.row(request.user_id), SEARCH_HISTORY, now).items)
    return text.bound(request.sort, request.facet_text, person)


def _check_ranges(live: Live, request: SearchRequest) -> None:
    # The rules of any surface hold the checks of a filter; an upside-down range is refused alike everywhere.
    next(iter(live.surfaces.values())).popular.rules.barred(request.filters)


_WORDS = re.compile(r"\w+")


def _matched(facts: Facts, description: str, query: str) -> str:
    """Where the words were found, for a person."""
    words = {word for word in _WORDS.findall(query.lower()) if len(word) > 1}
    if words & set(_WORDS.findall(facts.title.lower())):
        return "Words in the title"
    for person in facts.all_people:
        if words & set(_WORDS.findall(person.lower())):
            return f"With {person}"
    for category in facts.categories:
        if words & set(_WORDS.findall(category.lower())):
            return f"In {category}"
    if words & set(_WORDS.findall(description.lower())):
        return "Words in the description"
    return "Similar spelling"
