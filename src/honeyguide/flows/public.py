"""The main parameters of each surface in plain words, for the people who use it.

Made of the configuration in service, so it cannot say something else than what happens. It names what counts and what
counts most, and how to change it, as Article 27 of the EU's Digital Services Act asks of recommender systems; weights,
models and figures of the business stay out.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from honeyguide.flows.config import WorkspaceConfig
from honeyguide.ranking.heads import HeadConfig

if TYPE_CHECKING:
    from honeyguide.flows.live import Live, Surface

__all__ = ["public", "text"]

_QUESTIONS = {
    "home": "What is shown to you on {name}",
    "item": "What is shown beside an item ({name})",
    "board": "What is shown for a collection ({name})",
}
_SOURCES = {
    "popular": "what many people choose at present",
    "lexical": "items with like words, people and categories",
    "text": "items with like words, people and categories",
}
_BEHAVIOUR = {
    "home": "what people who chose the same as you chose besides, or next",
    "item": "what people who chose this item chose besides, or next",
    "board": "what people who chose these items chose besides, or next",
}
_PARTS = {
    "user": "how much, and how lately, you did something here",
    "item": "how often the item is chosen at present, and how it is liked",
    "pair": "how well the item fits what you chose so far",
    "global": "what is going on everywhere",
}
_MUCH, _LITTLE = 0.4, 0.1


def public(live: Live) -> dict[str, Any]:
    """The text of each surface: `title`, `text` (sentences), and `parameters` with the most important first."""
    config = live.config
    return {
        "name": config.name,
        "made_of": live.manifest.made_at[:10],
        "as_of": dt.datetime.fromtimestamp(live.now_us() / 1e6, dt.UTC).date().isoformat(),
        "surfaces": {name: _surface(live, name, surface) for name, surface in live.surfaces.items()}
        | {"search": _search()},
        "choices": choices(config),
    }


def choices(config: WorkspaceConfig) -> list[str]:
    """What a person can do about it."""
    said = ["You can ask for answers without profiling: then nothing of what you did is looked at."]
    if config.rights.hide:
        said.append("You can hide an item: it is not shown to you again, until you take that back.")
    if config.rights.less:
        said.append("You can ask for less of something: it, and what is like it, then stands lower.")
    said.append("You can begin anew: what you did before no longer counts for what you are shown.")
    said.append("You can ask of every item why you see it.")
    return said


def _surface(live: Live, name: str, surface: Surface) -> dict[str, Any]:
    config, kind = live.config, surface.config.kind
    slate: dict[str, Any] = surface.slate.model_dump(mode="json")
    parameters = _parameters(live, surface, slate)
    said = [f"{one['what'][:1].upper()}{one['what'][1:]}: {one['weight']}." for one in parameters]
    if kind == "home":
        said.append("What you did is used from your visits here, the newest first.")
    facts = config.segments.by
    if facts:
        said.append(
            f"Somebody of whom nothing is known yet sees what is popular among people of the same "
            f"{_listed(fact.replace('_', ' ') for fact in facts)}."
        )
    said += _rules(slate["rules"])
    said += _shaping(slate)
    return {"title": _QUESTIONS[kind].format(name=name), "text": said, "parameters": parameters}


def _search() -> dict[str, Any]:
    said = [
        "What you typed decides: the words of titles first, then people, categories and descriptions.",
        "Spelling that is nearly right is found too.",
        "What you did before does not change the order.",
    ]
    return {
        "title": "What is found when you search",
        "text": said,
        "parameters": [{"what": "the words that you typed", "weight": "counts most"}],
    }


def _parameters(live: Live, surface: Surface, slate: Mapping[str, Any]) -> list[dict[str, str]]:
    """What brings an item into question, then what orders it; the most important first."""
    kind = surface.config.kind
    shares: dict[str, float] = {}
    regimes = surface.blend.config.regimes
    for regime in regimes:
        for source, weight in regime.weights.items():
            what = _SOURCES.get(source, _BEHAVIOUR[kind])
            shares[what] = shares.get(what, 0.0) + weight / len(regimes)
    found = _weighed(shares)
    utility = slate["utility"]
    heads = {head.name: head for head in live.config.heads}
    weighed = {**utility["rank_weights"], **utility["weights"]}
    weighed |= {name: 1.0 for name in live.pipeline.heads if name in _words(utility.get("formula", ""))}
    served = [head for head in weighed if head in heads and head in live.pipeline.heads]
    if served:
        wanted = [_outcome(heads[head]) for head in served if weighed[head] > 0]
        unwanted = [_outcome(heads[head]) for head in served if weighed[head] < 0]
        if wanted:
            found.append({"what": f"how likely it is that {_listed(wanted)}", "weight": "moves an item up"})
        if unwanted:
            found.append({"what": f"how likely it is that {_listed(unwanted)}", "weight": "moves an item down"})
        parts: dict[str, float] = {}
        for feature in live.description["features"]:
            part = _PARTS.get(feature["entity"])
            if part is not None and feature["importance"]:
                parts[part] = parts.get(part, 0.0) + feature["importance"]
        found += [one | {"weight": f"{one['weight']} for that"} for one in _weighed(parts)]
    return found


def _weighed(shares: Mapping[str, float]) -> list[dict[str, str]]:
    total = sum(shares.values()) or 1.0
    found: list[dict[str, str]] = []
    for what, weight in sorted(shares.items(), key=lambda pair: -pair[1]):
        share = weight / total
        if share > 0:
            how = "counts most" if not found or share >= _MUCH else "counts" if share >= _LITTLE else "counts a little"
            found.append({"what": what, "weight": how})
    return found


def _outcome(head: HeadConfig) -> str:
    action = head.action.replace("_", " ")
    if head.action == "rating":
        if head.min_value is not None:
            return "you would like it"
        if head.max_value is not None:
            return "you would not like it"
        return "you would choose it next"
    return f"you would choose it ({action})" if head.kind == "rank" else f"a {action} follows"


def _rules(rules: Mapping[str, Any]) -> list[str]:
    said = []
    if rules["hide_seen"]:
        said.append("What you had already is left out.")
    if rules["category_cap"]:
        said.append(f"No category fills the list: at most {rules['category_cap']} items of each stand near its top.")
    if rules["pins"]:
        said.append("Some places are fixed by us, the same for everybody; such items are marked.")
    if rules["deny"] or rules["deny_categories"]:
        said.append("Some items or categories are not shown here at all.")
    if rules.get("frequency_cap"):
        said.append("An item that was shown to you often is left out for some time.")
    return said


def _shaping(slate: Mapping[str, Any]) -> list[str]:
    said = []
    diversify = slate["diversify"]
    kind = diversify.get("kind", "mmr")
    if kind == "calibrated":
        said.append("The list keeps the mixture of what you chose so far.")
    elif (kind == "mmr" and diversify["mmr_lambda"] < 1.0) or kind == "dpp":
        said.append("Items that are much alike are spread out.")
    utility = slate["utility"]
    if (utility.get("fatigue") or {}).get("keep", 1.0) < 1.0:
        said.append("What you were shown and passed over stands lower.")
    if diversify.get("shares") or any((slate.get("guardrails") or {}).values()):
        said.append("Some groups of items get at least a certain share of the places.")
    prices = [name for name in ("price", "margin") if name in _words(utility.get("formula", ""))]
    if prices:
        said.append(f"The {_listed(prices)} of an item counts for its place too.")
    explore = slate["explore"]
    share = explore["epsilon"] if explore.get("kind", "epsilon") == "epsilon" else explore.get("share", 0.0)
    if share > 0 or explore.get("new_share", 0.0) > 0:
        said.append("A part of the places is left to chance, so that something new gets a look; such items are marked.")
    return said


def _words(formula: str) -> set[str]:
    return set("".join(ch if ch.isalnum() or ch == "_" else " " for ch in formula).split())


def _listed(names: Iterable[str]) -> str:
    *some, last = dict.fromkeys(names)
    return f"{', '.join(some)} and {last}" if some else last


def text(found: Mapping[str, Any]) -> str:
    """The same as Markdown, to be put on a page."""
    lines = [f"# How {found['name']} chooses what you see", ""]
    for surface in found["surfaces"].values():
        lines += [f"## {surface['title']}", "", *(f"- {line}" for line in surface["text"]), ""]
    lines += ["## What you can do", "", *(f"- {line}" for line in found["choices"]), "", f"As of {found['as_of']}."]
    return "\n".join(lines) + "\n"
