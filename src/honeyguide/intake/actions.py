"""What actions mean, by their names in any spelling: shown, against, weak, medium or strong signs of interest."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal

__all__ = ["IMPRESSION", "WEIGHTS", "Meaning", "impressions_among", "meaning"]

Meaning = Literal["shown", "against", "weak", "medium", "strong", "unknown"]

WEIGHTS: dict[Meaning, float] = {
    "shown": 0.0,
    "against": 0.0,
    "weak": 0.3,
    "medium": 0.6,
    "strong": 1.0,
    "unknown": 1.0,
}
"""Strength of an action as a sign of interest."""


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


IMPRESSION = _set("impression imp shown exposure expose serve display")
"""Words of actions that say what a person was shown."""

_AGAINST = _set(
    "remove delete refund return cancel dislike block hide hidden report skip mute dismiss reject decline abandon "
    "downvote down bounce uninstall unsubscribe ignore complain complaint chargeback ban spam"
)
# Long enough to be told within a word without separators ("removefromcart").
_AGAINST_WITHIN = re.compile(
    r"remove|delete|refund|cancel|dislike|unlike|unfollow|unsubscri|unsav|unfav|uninstall|unheart|unstar|unbookmark|"
    r"downvote|thumbsdown|notinterested|dismiss|reject|abandon"
)
_LEVELS: tuple[tuple[Meaning, frozenset[str]], ...] = (
    (
        "strong",
        _set(
            "purchase buy bought order transaction checkout paid pay payment sale sold conversion convert play watch "
            "listen stream complete finish book booking reserve reservation apply application install download rent "
            "subscribe rating rate review reorder"
        ),
    ),
    (
        "medium",
        _set(
            "cart basket bag wishlist save like love heart star favorite favourite fav bookmark pin share follow "
            "upvote thumb collect"
        ),
    ),
    (
        "weak",
        _set("view click detail pageview pv open visit browse look tap hover see seen search expand preview"),
    ),
)
_BEGINS = _set("begin start initiate proceed")


def meaning(action: str) -> Meaning:
    """What an action's name says, without regard to case, separators and endings (`Remove-From-Cart`, `viewed`)."""
    plain = re.sub(r"([a-z])([A-Z])", r"\1 \2", action).casefold()
    words = [_forms(word) for word in re.findall(r"[a-z]+", plain)]
    joined = "".join(re.findall(r"[a-z]+", plain))
    if any(forms & _AGAINST or _undone(forms) for forms in words) or _AGAINST_WITHIN.search(joined):
        return "against"
    levels = [_level(forms) for forms in words]
    if any(forms & IMPRESSION for forms in words) and not any(forms & {"click"} for forms in words):
        return "shown"
    if "strong" in levels and any(forms & _BEGINS for forms in words):
        return "medium"  # a checkout that is begun is none yet
    known = [level for level in levels if level]
    if levels and levels[0]:
        return levels[0]  # view_cart is a view
    for level, _ in _LEVELS:
        if level in known:
            return level
    for level, stems in (("shown", IMPRESSION), *_LEVELS):
        long = tuple(stem for stem in stems if len(stem) > 3)
        if joined.endswith(long) or joined.startswith(long):
            return level
    return "unknown"


def impressions_among(actions: Iterable[str]) -> list[str]:
    """Those of the actions that say what a person was shown, in their order."""
    return [action for action in actions if meaning(action) == "shown"]


def _level(forms: set[str]) -> Meaning | None:
    return next((level for level, stems in _LEVELS if forms & stems), None)


def _undone(forms: set[str]) -> bool:
    return any(form.startswith("un") and _level({form[2:]}) for form in forms)


def _forms(word: str) -> set[str]:
    """A word and what it may be an ending of: viewed, plays, saved, skipping."""
    forms = {word}
    for ending in ("s", "es", "d", "ed", "ing", "er"):
        if word.endswith(ending) and len(word) - len(ending) >= 2:
            stem = word[: -len(ending)]
            forms |= {stem, stem + "e"}
            if stem[-1:] == stem[-2:-1]:
                forms.add(stem[:-1])
    return forms
