"""The `honeyguide.toml` that `honeyguide init` writes: what fits the data, and why."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from honeyguide.intake.actions import WEIGHTS, impressions_among, meaning
from honeyguide.retrieval.deep.config import installed
from honeyguide.schema import columns as c

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["config_text"]

USUAL = ("purchase", "cart", "save", "click", "view")
"""Actions of a workspace that has no events yet; `[actions]` is to name what will be posted."""
SEARCH_ALONE = (
    "No events: search and suggestions work from the catalog alone. Post what people do to /v1/events, under the names "
    "in [actions], and later builds learn from it."
)
STALE_DAYS = 30
"""A log that ended longer ago is not live: the present is taken to be its end."""
SEGMENT_VALUES = 10
SEGMENTS = 60
RATING = "rating"


def config_text(name: str, events: pa.Table, people: pa.Table | None, now_us: int) -> tuple[str, list[str]]:
    """A `honeyguide.toml` for this data, and what was decided."""
    notes: list[str] = []
    actions = _actions(events) if events.num_rows else {action: WEIGHTS[meaning(action)] for action in USUAL}
    notes += _said_of(actions)
    heads, said = _heads(events, actions)
    notes += said if events.num_rows else [SEARCH_ALONE]
    end_us = int(events[c.HAPPENED_AT].cast("int64").to_numpy()[-1]) if events.num_rows else now_us
    offset_s = 0.0
    if now_us - end_us > STALE_DAYS * 86_400_000_000:
        offset_s = float((now_us - end_us) // 1_000_000)
        notes.append("The log ended long ago: the present is taken to be its end ([clock] in honeyguide.toml).")
    segments = _segments(people)
    if segments:
        notes.append(f"Popularity for new people is kept per {' x '.join(segments)}.")
    weighed = {head["name"]: head for head in heads}
    rank = {n: 1.0 for n, head in weighed.items() if head["kind"] == "rank"}
    tastes = (("like", 0.1), ("dislike", -0.1))  # of ratings; an action may bear the name and only rank
    probability = {n: w for n, w in tastes if n in weighed and weighed[n]["kind"] == "probability"}
    probability |= {n: actions[h["action"]] for n, h in weighed.items() if h.get("given") in impressions_among(actions)}
    strong = [action for action in actions if meaning(action) == "strong"]
    had = strong or [action for action in actions if meaning(action) == "medium" and KEEPING & {*_words(action)}]
    if had and len(had) < sum(weight > 0 for weight in actions.values()):
        notes.append(f"Only {', '.join(had)} counts as having had an item; what was merely looked at is not hidden.")
    else:
        had = []
    return _TEMPLATE.format(
        name=json.dumps(name),
        clock=f"offset_s = {offset_s!r}",
        actions="\n".join(f"{json.dumps(action)} = {weight:g}" for action, weight in actions.items()),
        had=json.dumps(had),
        segments=json.dumps(list(segments)),
        heads="\n".join(_head_text(head) for head in heads),
        sources="\n".join(f"[[sources]]\nuse = {json.dumps(use)}{extra}" for use, extra in _sources(events)),
        home=_utility("home", rank, probability, blend=1.0),
        item=_utility("item", {}, {}, blend=1.0),
        board=_utility("board", {}, {}, blend=1.0),
    ), notes


DEEP_EVENTS = 50_000
"""From so many events on a trained source has something to learn from."""
DEEP_SOURCES = (
    ("honeyguide.retrieval.deep.sequence:Sequence", "\nconfig = { budget_cpu_s = 20.0 }"),
    ("honeyguide.retrieval.deep.towers:Towers", "\nconfig = { budget_cpu_s = 12.0 }"),
)
"""Where the extra `deep` is installed; the budgets are meant for a first look, and a longer training pays."""


def _sources(events: pa.Table) -> tuple[tuple[str, str], ...]:
    return SOURCES + (DEEP_SOURCES if installed() and events.num_rows >= DEEP_EVENTS else ())


KEEPING = frozenset({"save", "saved", "saves", "bookmark", "bookmarked"})
"""What is kept is no news, where nothing stronger is logged."""
SOURCES = (
    ("honeyguide.retrieval.popular:Popular", "\ngrid = { half_life_days = [3.0, 7.0, 14.0, 30.0, 60.0, 180.0] }"),
    ("honeyguide.retrieval.covisit:Covisit", ""),
    ("honeyguide.retrieval.covisit:RP3beta", ""),
    ("honeyguide.retrieval.factors:NextItem", ""),
    ("honeyguide.retrieval.factors:EASE", ""),
    ("honeyguide.retrieval.factors:ALS", ""),
)


def _actions(events: pa.Table) -> dict[str, float]:
    counts = {row["values"]: row["counts"] for row in events[c.ACTION].value_counts().to_pylist()}
    return {action: WEIGHTS[meaning(action)] for action in sorted(counts, key=lambda a: -counts[a])}


def _said_of(actions: Mapping[str, float]) -> list[str]:
    notes = []
    against = [action for action in actions if meaning(action) == "against"]
    unknown = [action for action in actions if meaning(action) == "unknown"]
    if against:
        notes.append(f"{', '.join(against)}: no sign of interest, so weight 0 and no head.")
    if unknown:
        notes.append(
            f"Not recognised, so weight 1 as the strongest: {', '.join(unknown)}; correct it in [actions] of "
            f"honeyguide.toml, and in its heads."
        )
    return notes


def _words(action: str) -> list[str]:
    return _identifier(action).split("_")


def _heads(events: pa.Table, actions: Mapping[str, float]) -> tuple[list[dict[str, Any]], list[str]]:
    """Heads that this log can teach. Without impressions an action can only be ranked."""
    heads: list[dict[str, Any]] = []
    notes: list[str] = []
    if RATING in actions:
        values = events.filter(_equals(events[c.ACTION], RATING))[c.VALUE].to_numpy()
        top = _top_of_scale(values)
        high, low = 0.8 * top, 0.4 * top
        heads = [
            {"name": "watch", "action": RATING, "kind": "rank"},
            {"name": "like", "action": RATING, "min_value": high, "given": RATING, "kind": "probability"},
            {"name": "dislike", "action": RATING, "max_value": low, "given": RATING, "kind": "probability"},
        ]
        notes.append(f"like is a rating of {high:g} or more, dislike one of {low:g} or less, given that it was rated.")
    shown = next(iter(impressions_among(actions)), None)  # the most frequent
    for action, weight in actions.items():
        if action == RATING or weight <= 0:
            continue
        head = {"name": _identifier(action), "action": action, "kind": "rank"}
        if shown is not None:
            head |= {"given": shown, "kind": "probability"}
        if head["name"] not in {h["name"] for h in heads}:
            heads.append(head)
    if shown is None:
        notes.append("Without impressions what people do next can be ranked, not given a probability.")
    return heads, notes


def _top_of_scale(values: np.ndarray) -> float:
    top = float(np.nanquantile(values, 0.999)) if len(values) else 5.0
    return next((scale for scale in (1.0, 5.0, 10.0, 100.0) if top <= scale), top)


def _equals(column: pa.ChunkedArray, value: str) -> Any:
    import pyarrow.compute as pc

    return pc.equal(column, value)


def _identifier(action: str) -> str:
    plain = "".join(ch if ch.isascii() and ch.isalnum() else "_" for ch in action.lower()).strip("_")
    return plain if plain[:1].isalpha() else f"a_{plain}"


def _segments(people: pa.Table | None) -> tuple[str, ...]:
    """The facts about people that part them into few, well-filled groups."""
    if people is None or not people.num_rows:
        return ()
    facts = [json.loads(text) if text else {} for text in people[c.ATTRIBUTES].to_pylist()]
    chosen: list[str] = []
    groups = 1
    for key in dict.fromkeys(key for fact in facts for key in fact):
        values = {json.dumps(fact[key]) for fact in facts if fact.get(key) is not None}
        known = sum(fact.get(key) is not None for fact in facts)
        if 2 <= len(values) <= SEGMENT_VALUES and known >= 0.8 * len(facts) and groups * len(values) <= SEGMENTS:
            chosen.append(key)
            groups *= len(values)
    return tuple(chosen)


def _head_text(head: Mapping[str, Any]) -> str:
    return "\n".join(["[[heads]]", *(f"{key} = {json.dumps(value)}" for key, value in head.items())]) + "\n"


def _utility(surface: str, rank: Mapping[str, float], probability: Mapping[str, float], *, blend: float) -> str:
    lines = [f"[surfaces.{surface}.slate.utility]"]
    for key, weights in (("rank_weights", rank), ("weights", probability)):
        if weights:
            inner = ", ".join(f"{name} = {weight:g}" for name, weight in weights.items())
            lines.append(f"{key} = {{ {inner} }}")
    if blend:
        lines.append(f"blend_weight = {blend:g}")
    return "\n".join(lines)


_TEMPLATE = """\
# A Honeyguide workspace. An unknown key is an error; `honeyguide explain` shows what this file makes.
# After a change: `honeyguide build` (only what changed is redone). docs/configuration.md lists all keys.
version = 1
name = {name}
seed = 42

# Actions by which a person has had an item (hidden by hide_seen, masked in evaluation); [] = all with a weight.
had = {had}

[clock]
# The present is wall time minus this; 0 for live data.
{clock}

[actions]
# How strong a sign of interest each action is; 0 = none.
{actions}

[segments]
# Facts about people (or a request's context) that part new people into groups.
by = {segments}

# Heads predict outcomes. kind "probability": calibrated, may be summed. kind "rank": orders candidates and no more.
{heads}
# Retrieval sources: `package.module:Class`, with the class's own config. The build weighs them on validation and
# switches off what does not pay; `honeyguide explain` says what each is worth. docs/retrieval.md has more of them.
{sources}

[surfaces.home]
kind = "home"
candidates = 300
deadline_ms = 100.0
{home}
[surfaces.home.slate.rules]
hide_seen = true
[surfaces.home.slate.diversify]
mmr_lambda = 0.95
[surfaces.home.slate.explore]
epsilon = 0.05
first_slot = 4

[surfaces.item]
kind = "item"
# An item page asks what is alike, not what comes next.
weights = {{ ease = 1.0, rp3beta = 0.2, covisit = 0.2 }}
{item}
[surfaces.item.slate.rules]
hide_seen = false
[surfaces.item.slate.diversify]
mmr_lambda = 1.0

[surfaces.board]
kind = "board"
weights = {{ ease = 1.0, rp3beta = 0.2, covisit = 0.2 }}
{board}
[surfaces.board.slate.rules]
hide_seen = false
[surfaces.board.slate.diversify]
mmr_lambda = 0.9

[serve]
host = "127.0.0.1"
port = 8080
workers = 1
"""
