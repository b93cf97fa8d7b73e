"""One request from its sources to its slots: every candidate's scores, and why it is, or is not, in the list.

`trace` runs the very stages of `flows.answer` and keeps what each of them said. The draws of exploration depend on the
request id alone, so a request made again under its id draws the same; what the person did since is known by now.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from honeyguide.contracts import F32, F64, Pool
from honeyguide.errors import NotFoundError
from honeyguide.flows import answer
from honeyguide.flows.pipeline import ranker_columns
from honeyguide.flows.rank_input import of_request
from honeyguide.schema.wire import RecommendRequest
from honeyguide.serving.deadline import Deadline
from honeyguide.slate.compose import SlateResult
from honeyguide.slate.rules import REASONS

if TYPE_CHECKING:
    from honeyguide.flows.answered import Answered
    from honeyguide.flows.live import Live, Surface

__all__ = ["Made", "compared", "make", "trace", "why"]

_PATIENCE_MS = 60_000.0
_HISTORY = 30
_REST = "formula, guardrails and fatigue"
_LED = 3
"""Items of the history that are named as having led to one."""
_FEATURES = 6
"""Features that are named as having moved a head most."""


@dataclass(frozen=True)
class Made:
    """A request with what every stage gave."""

    surface: Surface
    ask: answer.Ask
    pool: Pool
    scores: F64 | None
    slate: SlateResult
    stage_us: dict[str, float]


def make(live: Live, request: RecommendRequest) -> Made:
    """Run the stages without a deadline and without a fallback: what fails is to be seen here."""
    surface = live.surfaces.get(request.surface)
    if surface is None:
        raise NotFoundError(
            expected=f"a surface of this workspace ({', '.join(live.surfaces)})",
            got=repr(request.surface),
            do="Name one of them.",
        )
    deadline = Deadline(_PATIENCE_MS)
    ask = answer.resolve(live, surface, request)
    deadline.note("resolve")
    pool = answer.retrieve(live, surface, ask)
    deadline.note("retrieve")
    scores: F64 | None = answer.rank(live, surface, ask, pool, deadline)
    slate, _ = answer.ruled_by(live, surface, ask, *answer.wanted(live, surface, ask, pool, scores))
    deadline.note("slate")
    return Made(surface, ask, pool, scores, slate, deadline.stage_us)


def trace(live: Live, request: RecommendRequest) -> dict[str, Any]:
    """The whole way of a request, as a document; candidates in the order of their slots, then of their utility."""
    made = make(live, request)
    ask, pool, slate = made.ask, made.pool, made.slate
    shown = _slots(slate)
    order = sorted(range(len(pool.items[0])), key=lambda at: _place(at, shown, slate))
    candidates = [_candidate(live, made, at, shown) for at in order if pool.items[0][at] >= 0]
    extra = [slot for slot, at in enumerate(slate.index.tolist()) if at < 0]
    return {
        "request_id": ask.request_id,
        "surface": request.surface,
        "user_id": request.user_id if request.profiling else None,
        "profiling": request.profiling,
        "known": ask.user >= 0,
        "build_id": live.build_id,
        "policy_version": live.policy_version,
        "kind": ask.kind,
        "k": request.k,
        "history": [_named(live, row) for row in ask.items[::-1][:_HISTORY].tolist() if row >= 0],
        "history_length": len(ask.items),
        "less": [_named(live, row) for row in ask.less.tolist()],
        "hidden": len(live.wishes.hidden(request.user_id)) if request.profiling and request.user_id else 0,
        "kept_from_sources": len(ask.exclude),
        "sources": _sources(made),
        "heads": [{"name": name, "calibrated": told} for name, told in live.pipeline.heads.items()],
        "funnel": _funnel(made),
        "dropped": slate.dropped,
        "refused_pins": slate.refused_pins,
        "pinned_from_outside": [_named(live, int(slate.rows[slot])) | {"slot": slot + 1} for slot in extra],
        "list_propensity": slate.list_propensity,
        "stage_us": made.stage_us,
        "slots": [_named(live, row) for row in slate.rows.tolist()],
        "candidates": candidates,
    }


def _slots(slate: SlateResult) -> dict[int, int]:
    return {at: slot for slot, at in enumerate(slate.index.tolist()) if at >= 0}


def _place(at: int, shown: dict[int, int], slate: SlateResult) -> tuple[int, float, int]:
    utility = float(slate.utilities[at])
    return shown.get(at, len(slate.rows)), -utility if utility == utility else np.inf, at


def _named(live: Live, row: int) -> dict[str, Any]:
    facts = live.facts(row)
    return {"item_id": facts.item_id, "title": facts.title}


def _sources(made: Made) -> list[dict[str, Any]]:
    regimes = made.surface.blend.config.regimes
    regime = next((one for one in regimes if one.name == made.ask.kind), regimes[-1])
    scores = made.pool.source_scores[0]
    return [
        {
            "name": name,
            "weight": regime.weights.get(name, 0.0),
            "brought": int((~np.isnan(scores[:, at])).sum()),
            "alone": int((~np.isnan(scores[:, at]) & (np.isnan(scores).sum(axis=1) == scores.shape[1] - 1)).sum()),
        }
        for at, name in enumerate(made.pool.sources)
    ]


def _funnel(made: Made) -> list[dict[str, Any]]:
    """How many are left after each stage."""
    slate, scores = made.slate, made.pool.source_scores[0]
    brought = int((~np.isnan(scores)).sum())
    pool = int((made.pool.items[0] >= 0).sum())
    kept = int((~np.isnan(slate.utilities)).sum())
    return [
        {"stage": "sources", "left": brought, "says": "what the sources brought, an item once per source"},
        {"stage": "blend", "left": pool, "says": "candidates, each once"},
        {"stage": "rules", "left": kept, "says": "not removed by a rule or a filter, and scored"},
        {"stage": "slate", "left": len(slate.rows), "says": "slots filled"},
    ]


def _candidate(live: Live, made: Made, at: int, shown: dict[int, int]) -> dict[str, Any]:
    pool, slate, facts = made.pool, made.slate, live.facts(int(made.pool.items[0][at]))
    slot = shown.get(at)
    reason = REASONS.get(int(slate.reasons[at]), str(int(slate.reasons[at]))) if slate.reasons[at] else None
    if reason == "filter_deny" and facts.item_id in _hides(live, made.ask):
        reason = "hidden_by_the_person"
    return {
        "item_id": facts.item_id,
        "title": facts.title,
        "year": facts.year,
        "categories": facts.categories,
        "sources": _brought(pool, at),
        "blend": _finite(pool.blend[0][at]),
        "blend_place": _rank(pool.blend[0], at),
        "heads": _heads(live, made, at),
        "utility": _finite(slate.utilities[at]),
        "utility_place": _rank(slate.utilities, at),
        "parts": _parts(live, made, at),
        "slot": None if slot is None else slot + 1,
        "propensity": None if slot is None else float(slate.propensity[slot]),
        "pinned": slot is not None and bool(slate.pinned[slot]),
        "explored": slot is not None and bool(slate.explored[slot]),
        "dropped_by": reason,
    }


def _hides(live: Live, ask: answer.Ask) -> list[str]:
    person = ask.request.user_id
    return live.wishes.hidden(person) if person is not None and ask.request.profiling else []


def _brought(pool: Pool, at: int) -> dict[str, dict[str, float]]:
    """Per source that brought the item: its score and its place there."""
    scores = pool.source_scores[0]
    return {
        name: {"score": round(float(scores[at, column]), 6), "place": _rank(scores[:, column], at) or 0}
        for column, name in enumerate(pool.sources)
        if not np.isnan(scores[at, column])
    }


def _heads(live: Live, made: Made, at: int) -> dict[str, dict[str, float | int | None]]:
    if made.scores is None:
        return {}
    return {
        name: {"score": _finite(made.scores[at, column]), "place": _rank(made.scores[:, column], at)}
        for column, name in enumerate(live.pipeline.heads)
    }


def _parts(live: Live, made: Made, at: int) -> dict[str, float]:
    """What each weighed head, and the blend, brings to the utility; {} where a rule removed the item before.

    What no weight brings (a formula's value, the prices of guardrails, what fatigue takes) is one part.
    """
    utility = made.surface.slate.utility
    survivors = ~np.isnan(made.slate.utilities)
    if not survivors[at]:
        return {}
    ranks = made.ask.kind in live.pipeline.ranks
    found: dict[str, float] = {}
    pool, scores = answer.wanted(live, made.surface, made.ask, made.pool, made.scores)
    constant = utility.rank_constant
    blend_weight = utility.blend_weight
    for column, name in enumerate(live.pipeline.heads):
        if scores is None:
            continue
        if utility.weights.get(name):
            found[name] = utility.weights[name] * float(scores[at, column])
        elif utility.rank_weights.get(name) and ranks:
            place = _reciprocal(scores[:, column], survivors, at, constant)
            found[f"{name} (rank)"] = utility.rank_weights[name] * place
        elif utility.rank_weights.get(name):
            blend_weight += utility.rank_weights[name]
    found |= _added(made, pool, scores, at)
    if blend_weight or not (found or utility.formula):
        found["blend (rank)"] = (blend_weight or 1.0) * _reciprocal(pool.blend[0], survivors, at, constant)
    rest = float(made.slate.utilities[at]) - sum(found.values())
    if abs(rest) > 1e-9:
        found[_REST] = rest
    return {name: round(value, 6) for name, value in found.items()}


def _added(made: Made, pool: Any, scores: Any, at: int) -> dict[str, float]:
    """What the formula and the guardrails bring."""
    added = made.surface.composers.of(made.ask.kind).added
    if scores is None or not added:
        return {}
    row, own = pool.items[0][at : at + 1], scores[at : at + 1]
    return {name: float(value[0]) for name, value in added.parts(row, own, made.ask.now_us).items()}


def _reciprocal(values: Any, among: Any, at: int, constant: float) -> float:
    better = int((values[among] > values[at]).sum())
    return constant / (constant + better)


def _rank(values: Any, at: int) -> int | None:
    """Place of a value, 1 = highest; equal values share the better place; None for nan."""
    return None if np.isnan(values[at]) else int((values > values[at]).sum()) + 1


def _finite(value: Any) -> float | None:
    number = float(value)
    return round(number, 6) if np.isfinite(number) else None


def compared(then: Answered, now: Mapping[str, Any]) -> dict[str, Any]:
    """How far a request made again gives the list that was shown."""
    slots = [one["item_id"] for one in now["slots"]]
    same = sum(a == b for a, b in zip(then.shown, slots, strict=False))
    notes = []
    if then.build_id != now["build_id"]:
        notes.append(f"it was answered by {then.build_id}, and is made again by {now['build_id']}")
    if same < len(then.shown):
        notes.append("what happened since, and filters of the request, which are not logged, may change the list")
    return {"answered_at": then.at, "shown": then.shown, "same_slots": same, "of": len(then.shown), "notes": notes}


# ------------------------------------------------------------------------------------------------ why this item


def why(live: Live, request: RecommendRequest, item_id: str) -> dict[str, Any]:
    """Why a person sees an item: where it came from, what of theirs led there, what moved the heads, and chance.

    An item that the request does not show says so, with what took it out.
    """
    made = make(live, request)
    row = live.catalog.items.row(item_id)
    if row < 0:
        raise NotFoundError(expected="an item of the catalog", got=repr(item_id), do="Name an item of the answer.")
    places = np.flatnonzero(made.pool.items[0] == row)
    slots = np.flatnonzero(made.slate.rows == row)
    told: dict[str, Any] = {
        "request_id": made.ask.request_id,
        "surface": request.surface,
        "user_id": request.user_id if request.profiling else None,
        "profiling": request.profiling,
        "build_id": live.build_id,
        **_named(live, row),
        "position": int(slots[0]) + 1 if len(slots) else None,
    }
    if len(places):
        at = int(places[0])
        found = _candidate(live, made, at, _slots(made.slate))
        told |= {key: found[key] for key in ("sources", "heads", "parts", "propensity", "pinned", "explored")}
        told["dropped_by"] = found["dropped_by"]
        told["features"] = _moved_by(live, made, at)
    else:
        told |= {
            "sources": {}, "heads": {}, "parts": {}, "features": {}, "explored": False,
            "pinned": bool(len(slots)), "propensity": 1.0 if len(slots) else None,
            "dropped_by": None if len(slots) else "not_brought",
        }  # fmt: skip
    told["led_here"] = _led(live, made.ask, row)
    told["because"] = _sentences(live, made, told)
    return told


def _led(live: Live, ask: answer.Ask, row: int) -> list[dict[str, Any]]:
    """The items of the history, or the seeds, that are most like this one; none where none is near."""
    items = np.unique(ask.reasons[(ask.reasons >= 0) & (ask.reasons < len(live.vectors))])
    if not len(items) or row >= len(live.vectors):
        return []
    cosine = live.vectors[items] @ live.vectors[row]
    best = np.argsort(-cosine, kind="stable")[:_LED]
    return [
        _named(live, int(items[at])) | {"likeness": round(float(cosine[at]), 3)}
        for at in best.tolist()
        if cosine[at] >= answer.BECAUSE
    ]


def _moved_by(live: Live, made: Made, at: int) -> dict[str, list[dict[str, Any]]]:
    """Per head, the features that move its score most when they are as in the middle of this request's candidates.

    A contribution is the head's score minus its score with that one feature at the candidates' median: a probability's
    difference for calibrated heads, a raw score's for those that rank. They need not add up.
    """
    ranker = live.pipeline.ranker
    if ranker is None or made.scores is None or np.isnan(made.scores[at]).all():
        return {}
    matrix = answer.ranked_by(live, made.ask, made.pool)
    typical = _medians(matrix)
    names = ranker_columns(live.pipeline.features, live.pipeline.blend.asked)
    asked = of_request(made.ask, made.pool, matrix)

    def score(rows: F32) -> F64:
        if ranker.plain:
            return ranker.score(rows)
        item = np.full(len(rows), made.pool.items[0][at], np.int32)
        return ranker.score(replace(asked, features=rows, items=item, request=np.zeros(len(rows), np.int32)))

    moved = _occluded(matrix, typical, at, score)
    return {
        head: [
            {
                "feature": names[column],
                "value": _finite(matrix[at, column]),
                "typical": _finite(typical[column]),
                "contribution": round(float(moved[column, n]), 6),
            }
            for column in np.argsort(-np.abs(moved[:, n]), kind="stable")[:_FEATURES].tolist()
            if moved[column, n]
        ]
        for n, head in enumerate(live.pipeline.heads)
    }


def _medians(matrix: F32) -> F32:
    out = np.full(matrix.shape[1], np.nan, np.float32)
    some = (~np.isnan(matrix)).any(axis=0)
    out[some] = np.nanmedian(matrix[:, some], axis=0)
    return out


def _occluded(matrix: F32, typical: F32, at: int, score: Callable[[F32], F64]) -> F64:
    """(features, heads): the score of a row minus that with each feature replaced by the typical one."""
    width = matrix.shape[1]
    rows = np.repeat(matrix[at][None], width + 1, axis=0)
    rows[np.arange(width), np.arange(width)] = typical
    scores = score(rows)
    return np.nan_to_num(scores[-1] - scores[:-1])


def _sentences(live: Live, made: Made, told: dict[str, Any]) -> list[str]:
    """The same for a person who knows nothing of heads and sources."""
    if told["position"] is None:
        return [_ABSENT.get(told["dropped_by"], "It is not in this list: other items were chosen.")]
    if told["pinned"]:
        return ["The shop fixed this place for it, for everybody."]
    said = []
    if told["explored"]:
        said.append("Chance chose it for this place, so that something new gets a look.")
    where = "you chose" if made.surface.config.kind == "home" else "you are looking at"
    if told["led_here"]:
        said.append(f"It is like what {where}: {', '.join(one['title'] for one in told['led_here'])}.")
    names = set(told["sources"])
    if names == {"popular"}:
        said.append("Many people choose it at present.")
    elif names and not told["led_here"] and len(made.ask.items):
        said.append(f"People who chose what {where} often chose it too.")
    if "popular" in names and len(names) > 1:
        said.append("Many people choose it at present.")
    if not made.ask.request.profiling:
        said.append("Nothing of your own history was looked at.")
    return said or ["It is among what is shown to everybody."]


_ABSENT = {
    "seen": "It is not in this list: you have had it already.",
    "hidden_by_the_person": "It is not in this list: you hid it.",
    "unavailable": "It is not in this list: it is not available.",
    "not_brought": "It is not in this list: no source thought of it, or you have had it already.",
}
