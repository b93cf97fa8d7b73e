"""What a page must know of the workspace: the action behind each button, and which heads are no probabilities.

An action that the workspace does not weigh would teach it nothing, so the buttons speak the workspace's own language.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["RATING", "Signal", "ranks_only", "signals"]

RATING = "rating"
BEST_RATING = 5.0
_WATCHED = ("play", "watch", "view", "click", RATING)
_LIKED = ("like", RATING, "save", "purchase")


@dataclass(frozen=True)
class Signal:
    """An event to log: its action and value, and what the person did in the past tense."""

    action: str
    value: float | None
    past: str


def signals(pipeline: Mapping[str, Any]) -> dict[str, Signal]:
    """The event behind each button, by its act.

    `pipeline["actions"]` holds the weight of each action as a sign of interest; without it every action counts.
    """
    sent = pipeline.get("actions")
    weights = {str(name): float(weight) for name, weight in sent.items()} if isinstance(sent, Mapping) else {}
    watched, liked = _choose(_WATCHED, weights), _choose(_LIKED, weights)
    return {
        "watched": Signal(watched, None, "Watched"),
        "liked": Signal(liked, BEST_RATING if liked == RATING else None, "Liked"),
    }


def ranks_only(pipeline: Mapping[str, Any], surface: str) -> frozenset[str]:
    """Heads of a surface that order items and promise no probability."""
    surfaces = pipeline.get("surfaces")
    described = surfaces.get(surface) if isinstance(surfaces, Mapping) else None
    heads = described.get("heads") if isinstance(described, Mapping) else None
    rows = [head for head in heads if isinstance(head, Mapping)] if isinstance(heads, list) else []
    return frozenset(str(head.get("name")) for head in rows if head.get("calibrated") is False)


def _choose(wanted: tuple[str, ...], weights: Mapping[str, float]) -> str:
    known = [name for name in wanted if weights.get(name, 0.0) > 0]
    if known:
        return known[0]
    return max(weights, key=lambda name: weights[name]) if weights else wanted[0]
