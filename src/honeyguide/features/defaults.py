"""A sensible feature set for a workspace nobody has tuned yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from honeyguide.contracts import CatalogView, Interactions
from honeyguide.features.definition import Affinity, AnyFeature, Context, Distance, Fact, Feature, FeatureSet

__all__ = ["default_features", "value_bounds"]

_MOST_ACTIONS = 3  # so many actions get counts of their own, so that a rich log does not make hundreds of features


def value_bounds(interactions: Interactions) -> dict[str, tuple[float, float]]:
    """For each action whose events mostly carry differing values: (low, high), the quantiles .25 and .6 of them.

    On stars from 1 to 5 this gives (3, 4). A value at or below `low` reads as dislike, at or above `high` as like.
    """
    bounds = {}
    for code, action in enumerate(interactions.actions):
        values = interactions.value[interactions.action == code]
        known = values[~np.isnan(values)]
        if len(known) and 2 * len(known) >= len(values) and known.min() < known.max():
            low, high = (float(q) for q in np.quantile(known, (0.25, 0.6)))
            bounds[action] = (low, high)
    return bounds


def default_features(
    actions: Sequence[str], has_values: Mapping[str, tuple[float, float]], catalog: CatalogView
) -> FeatureSet:
    """Popularity, opinion, activity, affinity, facts and context: about 40 features for a catalog with all facets.

    actions: of the log, the most telling first. has_values: the actions whose events carry a value, each with the
    bounds (dislike at or below, like at or above); `value_bounds` guesses them. Facts that the catalog does not have
    are left out.
    """
    words = _words([*actions, *has_values])
    some = {action: words[action] for action in list(actions)[:_MOST_ACTIONS]} if len(actions) > 1 else {}
    features: list[AnyFeature] = [*_popularity(some), *_activity(some)]
    for action, (low, high) in has_values.items():
        features += _opinions(words[action], action, low, high)
    return FeatureSet((*features, *_of_pairs(catalog), *_facts(catalog), *_contexts()))


def _words(actions: Sequence[str]) -> dict[str, str]:
    # An action's name as part of a feature's name; numbered where two become the same.
    words: dict[str, str] = {}
    for action in dict.fromkeys(actions):
        word = "".join(c if c.isascii() and c.isalnum() else "_" for c in action.lower())[:32].strip("_") or "action"
        words[action] = f"{word}__{len(words)}" if word in words.values() else word
    return words


def _popularity(actions: Mapping[str, str]) -> list[AnyFeature]:
    def item(name: str, **rest: object) -> Feature:
        return Feature.model_validate({"name": f"item_{name}", "entity": "item", "hop": "day"} | rest)

    features: list[AnyFeature] = [
        item("events_7d", aggregate="count", window_days=7, hop="hour"),
        item("events_30d", aggregate="count", window_days=30),
        item("events_90d", aggregate="count", window_days=90),
        item("events", aggregate="count"),
        item("share_30d", aggregate="share", window_days=30),
        item("share_365d", aggregate="share", window_days=365),
        item("trend", aggregate="trend", window_days=30, of_days=365, prior="overall", strength=10),
        item("days_since_last", aggregate="recency"),
        item("days_since_first", aggregate="tenure"),
        item("events_a_day", aggregate="rate"),
    ]
    for action, word in actions.items():
        features += [
            item(f"{word}_events_30d", aggregate="count", action=action, window_days=30),
            item(f"{word}_ratio", aggregate="ratio", action=action, of_action="*", prior="overall", strength=20),
        ]
    return features


def _activity(actions: Mapping[str, str]) -> list[AnyFeature]:
    def user(name: str, **rest: object) -> Feature:
        return Feature.model_validate({"name": f"user_{name}", "entity": "user", "hop": "hour"} | rest)

    features: list[AnyFeature] = [
        user("events_1d", aggregate="count", window_days=1, hop="5min"),
        user("events_30d", aggregate="count", window_days=30, hop="day"),
        user("events", aggregate="count"),
        user("days_since_last", aggregate="recency"),
        user("days_since_first", aggregate="tenure"),
        user("events_a_day", aggregate="rate"),
    ]
    return features + [
        user(f"{word}_ratio", aggregate="ratio", action=action, of_action="*", prior="overall", strength=5)
        for action, word in actions.items()
    ]


def _opinions(word: str, action: str, low: float, high: float) -> list[AnyFeature]:
    def of(entity: str, name: str, **rest: object) -> Feature:
        base = {"name": f"{entity}_{word}_{name}", "entity": entity, "action": action, "hop": "day"}
        return Feature.model_validate(base | rest)

    item: Mapping[str, object] = {"prior": "overall", "strength": 10}
    user: Mapping[str, object] = {"prior": "overall", "strength": 5}
    return [
        of("item", "mean", aggregate="mean", **item),
        of("item", "std", aggregate="std"),
        of("item", "like", aggregate="ratio", min_value=high, **item),
        of("item", "like_90d", aggregate="ratio", min_value=high, window_days=90, **item),
        of("item", "dislike", aggregate="ratio", max_value=low, **item),
        of("user", "mean", aggregate="mean", **user),
        of("user", "std", aggregate="std"),
        of("user", "like", aggregate="ratio", min_value=high, **user),
        of("user", "dislike", aggregate="ratio", max_value=low, **user),
    ]


def _of_pairs(catalog: CatalogView) -> list[AnyFeature]:
    features: list[AnyFeature] = []
    if len(catalog.category.values):
        features += [
            Affinity(name="category_share", facet="category", measure="share", last=200),
            Affinity(name="category_share_now", facet="category", measure="share", last=50, half_life=5),
            Affinity(name="category_liking", facet="category", measure="like", last=200, strength=3),
            Affinity(name="category_days_since", facet="category", measure="recency", last=200),
        ]
    if len(catalog.people.values):
        features += [
            Affinity(name="people_share", facet="people", measure="share", last=200),
            Affinity(name="people_overlap", facet="people", measure="overlap", last=200),
            Affinity(name="people_liking", facet="people", measure="like", last=200),
        ]
    if np.any(catalog.country >= 0):
        features.append(Affinity(name="country_share", facet="country", measure="share", last=200))
    for fact, values in (("year", catalog.year), ("price", catalog.price)):
        if not np.all(np.isnan(values)):
            features.append(Distance.model_validate({"name": f"{fact}_distance", "fact": fact, "half_life": 50}))
    return features


def _facts(catalog: CatalogView) -> list[AnyFeature]:
    features: list[AnyFeature] = []
    if not np.all(np.isnan(catalog.year)):
        features += [Fact(name="year", fact="year"), Fact(name="years_old", fact="years_old")]
    if not np.all(np.isnan(catalog.price)):
        features.append(Fact(name="price", fact="price"))
    if len(catalog.category.values):
        features.append(Fact(name="n_categories", fact="n_categories"))
    # A catalog loaded at one stroke was known at one moment: its age is the calendar, not the item's.
    if len(np.unique(catalog.known_at)) > 1:
        features.append(Fact(name="age_days", fact="age_days"))
    return features


def _contexts() -> list[AnyFeature]:
    return [
        Context(name="hour", fact="hour"),
        Context(name="weekday", fact="weekday"),
        Context(name="history_length", fact="history_length", last=200),
        Context(name="history_liking", fact="history_liking", last=200, half_life=50),
    ]
