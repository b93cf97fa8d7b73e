"""Another engine's hits in the order that this workspace would show them in.

Three orders of the same hits are fused by their ranks: the engine's own, that of our search over these hits alone
(understanding, words, meaning, whatever the build learnt), and what the person's history makes of them. Ranks need no
common scale. Source: reciprocal rank fusion, Cormack, Clarke and Buettcher 2009, with weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import structlog

from honeyguide.contracts import F64, I32, Pool
from honeyguide.engines.log.keys import time_key
from honeyguide.errors import HoneyguideError, RequestError
from honeyguide.flows import answer
from honeyguide.schema.wire import (
    Filters,
    RecommendRequest,
    RerankAnswer,
    Reranked,
    RerankRequest,
    SearchAnswer,
    SearchRequest,
    ShownItem,
)
from honeyguide.serving.deadline import Deadline
from honeyguide.serving.rerank import ForeignHits, read_hits

if TYPE_CHECKING:
    from honeyguide.flows.live import Live

__all__ = ["as_search", "fused", "rerank"]

_logger = structlog.get_logger("honeyguide.rerank")
DEADLINE_MS = 200.0


def fused(orders: Mapping[str, F64], weights: Mapping[str, float], constant: float) -> F64:
    """Score per hit, higher is better. orders: name -> (n,) ranks, 1 = best, nan = not in it."""
    found = np.zeros(len(next(iter(orders.values()))))
    for name, ranks in orders.items():
        found += np.nan_to_num(weights[name] / (constant + ranks))
    return found


def rerank(live: Live, request: RerankRequest) -> RerankAnswer:
    """The engine's answer, its hits re-ordered. Hits that the catalog does not know keep their places.

    A RequestError for what is no answer of an engine; anything else that fails leaves the engine's order, and says so.
    """
    deadline = Deadline(DEADLINE_MS)
    given = read_hits(request.response, request.engine, request.id_field)
    rows = live.catalog.items.rows(given.ids)
    deadline.note("read")
    order, personal, corrected, fallback = list(range(len(rows))), False, None, None
    reasons: dict[int, str] = {}
    try:
        order, reasons, personal, corrected = _ordered(live, request, given, rows, deadline)
    except RequestError:
        raise
    except HoneyguideError as error:
        fallback = f"the engine's order: {error.got}"
        _logger.warning("hits were not re-ranked", reason=str(error))
    items = [
        Reranked(given.ids[at], place, at + 1, bool(rows[at] >= 0), reasons.get(at, "" if rows[at] >= 0 else UNKNOWN))
        for place, at in enumerate(order, 1)
    ]
    response = given.back(order)
    deadline.note("present")
    return RerankAnswer(
        request.request_id or time_key(), request.surface, live.policy_version, live.build_id, given.engine, response,
        items, personal, corrected, fallback, deadline.stage_us,
    )  # fmt: skip


UNKNOWN = "Not in the catalog: it keeps its place"


def _ordered(
    live: Live, request: RerankRequest, given: ForeignHits, rows: I32, deadline: Deadline
) -> tuple[list[int], dict[int, str], bool, str | None]:
    """Old indexes in their new order, the reason for each, whether the person counted, and the corrected query."""
    known = np.flatnonzero(rows >= 0)
    if not len(known):
        return list(range(len(rows))), {}, False, None
    config = live.config.rerank
    ids = list(dict.fromkeys(given.ids[at] for at in known.tolist()))
    orders: dict[str, F64] = {"engine": np.arange(1.0, len(known) + 1)}
    found = answer.search(
        live,
        SearchRequest(
            request.query, user_id=request.user_id if request.profiling else None, k=len(ids),
            filters=Filters(allow=ids), context=request.context, log=False, profiling=request.profiling,
        ),
    )  # fmt: skip
    place = {item.item_id: float(item.position) for item in found.items}
    orders["search"] = np.array([place.get(given.ids[at], np.nan) for at in known.tolist()])
    deadline.note("search")
    own = _of_person(live, request, rows[known]) if config.person > 0 else None
    if own is not None:
        orders["person"] = own
    deadline.note("person")
    score = fused(orders, {"engine": config.engine, "search": config.search, "person": config.person},
                  config.rank_constant)  # fmt: skip
    hidden = {effect.item_id for effect in found.merchandising if effect.do == "hide"}
    barred = np.array([given.ids[at] in hidden for at in known.tolist()])
    best = known[np.lexsort((np.arange(len(known)), -score, barred))]
    order = np.arange(len(rows))
    order[known] = best  # the n-th place of a known hit goes to the n-th best of them
    said = {item.item_id: item.reason for item in found.items}
    reasons = {
        int(at): "Hidden by a rule: last"
        if given.ids[at] in hidden
        else _reason(orders, n, said.get(given.ids[at], ""))
        for n, at in enumerate(known.tolist())
    }
    return order.tolist(), reasons, own is not None, found.corrected


def _reason(orders: Mapping[str, F64], n: int, said: str) -> str:
    ranks = [f"{name} {ranks[n]:.0f}" for name, ranks in orders.items() if ranks[n] == ranks[n]]
    return "; ".join(part for part in (said, f"places: {', '.join(ranks)}") if part)


def _of_person(live: Live, request: RerankRequest, rows: I32) -> F64 | None:
    """Ranks of items by what home would make of them for the person; None where nothing is known of them."""
    surface = next((one for one in live.surfaces.values() if one.config.kind == "home"), None)
    if surface is None or request.user_id is None or not request.profiling:
        return None
    ask = answer.resolve(
        live, surface, RecommendRequest(surface.name, user_id=request.user_id, context=request.context, log=False)
    )
    if not len(ask.items):
        return None
    pool = answer.retrieve(live, surface, ask)
    place = {row: at for at, row in enumerate(pool.items[0].tolist()) if row >= 0}
    at = np.array([place.get(row, -1) for row in rows.tolist()])
    # What no source brought has no score of theirs, as any candidate that a source did not bring.
    blend = np.where(at >= 0, pool.blend[0][at], np.float32(0.0)).astype(np.float32)
    scores = np.where((at >= 0)[:, None], pool.source_scores[0][at], np.float32(np.nan)).astype(np.float32)
    own = Pool(rows[None].astype(np.int32), blend[None], scores[None], pool.sources)
    heads = answer.rank(live, surface, ask, own, Deadline(DEADLINE_MS))
    changed, lowered = answer.wanted(live, surface, ask, own, heads)
    slate = surface.composers.of(ask.kind).compose(
        changed.items[0], scores=heads if lowered is None else lowered, blend=changed.blend[0], k=1,
        request_id="rerank", moment=ask.moment,
    )  # fmt: skip
    utility = slate.utilities
    ranks = np.full(len(rows), np.nan)
    scored = np.flatnonzero(~np.isnan(utility))
    ranks[scored[np.argsort(-utility[scored], kind="stable")]] = np.arange(1.0, len(scored) + 1)
    return ranks


def as_search(request: RerankRequest, answered: RerankAnswer) -> tuple[SearchRequest, SearchAnswer]:
    """A re-ranked list as the log keeps it: a search's answer, with the engine in its context."""
    shown = [ShownItem(item.item_id, item.position, 0.0, 1.0) for item in answered.items]
    asked = SearchRequest(
        request.query, user_id=request.user_id, context={**request.context, "engine": answered.engine},
        request_id=answered.request_id,
    )  # fmt: skip
    return asked, SearchAnswer(
        answered.request_id, answered.surface, answered.policy_version, answered.build_id, request.query, len(shown),
        shown, corrected=answered.corrected, fallback=answered.fallback, stage_us=answered.stage_us,
    )  # fmt: skip
