"""Feature definitions: closed, declarative, and the only place where a feature's meaning is written down.

One definition gives the value for training (`asof`, `asof_ibis`, `training_set`) and the value online (`online`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from honeyguide.errors import ConfigError

__all__ = [
    "Affinity",
    "AnyFeature",
    "Context",
    "Distance",
    "Embedding",
    "Explained",
    "Fact",
    "Feature",
    "FeatureSet",
    "Key",
]

Entity = Literal["user", "item", "user_item", "item_context", "query_item"]
Aggregate = Literal[
    "count", "sum", "mean", "std", "ratio", "trend", "share", "rate", "recency", "tenure", "distinct", "min", "max"
]  # fmt: skip
Hop = Literal["5min", "hour", "day"]
HOP_US: Mapping[str, int] = {"5min": 300_000_000, "hour": 3_600_000_000, "day": 86_400_000_000}
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]

_AGGREGATES: Mapping[str, str] = {
    "count": "number of {what}",
    "sum": "sum of the values of {what}",
    "mean": "mean value of {what}",
    "std": "standard deviation of the values of {what}",
    "ratio": "{what} as a share of {of}",
    "trend": "{what} as a share of those {of_span}",
    "share": "share of everybody's {what}",
    "rate": "{what} a day since the first",
    "recency": "days since the last of {what}",
    "tenure": "days since the first of {what}",
    "distinct": "number of different {distinct} of {what}",
    "min": "least value of {what}",
    "max": "greatest value of {what}",
}
_DISTINCT = {"item": "items", "user": "people", "category": "categories", "people": "people of the catalog"}
_FADING = ("count", "sum", "mean", "ratio", "share")
_OF_LAST = ("sum", "mean", "std", "ratio", "distinct", "min", "max")
QUERY, HOUR = "query", "hour"
"""Keys of a context that mean something: what was typed, and the hour of the day (which no event has to say)."""


def _events(action: str | None) -> str:
    return f"{action} events" if action else "events"


class _Definition(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name


class Key(NamedTuple):
    """What the events of a feature are grouped by: an entity, and for `item_context` which fact of the moment."""

    entity: Entity
    context: str | None = None  # a key of the context
    band_us: int = 0  # of `hour`: the length of a band, and local time minus UTC
    offset_us: int = 0


class Feature(_Definition):
    """An aggregate over the events of an entity, strictly before the moment.

    An event counts at `now` if `floor((now - window) / hop) * hop <= at < now`, times in UTC: an event at the very
    microsecond is not seen, and the far edge moves once per hop. `window_days=None` is all time. It counts from when it
    was known (`known_at < now`) until a correction takes its place (that one's `known_at`, inclusive).

    entity: a person, an item, a person's dealings with an item, an item in a context, an item under a query. context
        (of `item_context`): `surface`, a key of the request's context, or `hour`, in bands of `band_hours` at
        `utc_offset_hours`. An event without that context belongs to none.
    action: which events (None = any). min_value, max_value: inclusive bounds of the event's value; an event without a
        value meets no bound.
    mean, std, sum: over the events that have a value, read in steps of `value_step`: 2**40 steps to either side of zero
        are told apart (2**22 for std), what lies further out is read as the limit.
    ratio: the events above over those of `of_action` ("*" = any; None = the same action, and then only events with a
        value if there are bounds). trend: over the same events in the last `of_days` (None = all time).
    distinct: how many different `of`: items, people, or codes of the items (those that the build's catalog gave them).
    prior, strength: mean, ratio and trend are shrunk as (top + strength * prior) / (bottom + strength);
        `prior="overall"` is everybody's own value at that moment.
    half_life_days: an event weighs 2**(-age / half_life_days), over all time, instead of 1 within a window.
    last: over the newest so many of these events instead of a window; in one microsecond the larger value is newer.
    expires_days: not defined if the newest of these events is older.
    Not defined (no events and no prior) is nan; a count is then 0.
    """

    kind: Literal["window"] = "window"
    entity: Entity
    aggregate: Aggregate
    context: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    band_hours: Literal[1, 2, 3, 4, 6, 8, 12] = 6
    utc_offset_hours: Annotated[float, Field(ge=-14, le=14)] = 0.0
    action: str | None = None
    min_value: float | None = None
    max_value: float | None = None
    window_days: Annotated[float, Field(gt=0, le=36_500)] | None = None
    hop: Hop = "hour"
    half_life_days: Annotated[float, Field(ge=0.001, le=36_500)] | None = None
    last: Annotated[int, Field(ge=1, le=64)] | None = None
    of: Literal["item", "user", "category", "people"] | None = None
    of_action: str | None = None
    of_days: Annotated[float, Field(gt=0, le=36_500)] | None = None
    prior: float | Literal["overall"] | None = None
    strength: Annotated[float, Field(ge=0)] = 0.0
    value_step: Annotated[float, Field(gt=0)] = 1.0 / 1024.0
    expires_days: Annotated[float, Field(gt=0, le=36_500)] | None = None

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        if self.min_value is not None and self.max_value is not None and self.min_value > self.max_value:
            raise ValueError(f"min_value {self.min_value} is above max_value {self.max_value}")
        spans = [name for name in ("window_days", "half_life_days", "last") if getattr(self, name) is not None]
        if len(spans) > 1:
            raise ValueError(f"{' and '.join(spans)} are two ways to look back: give one")
        if self.aggregate in ("rate", "recency", "tenure") and spans:
            raise ValueError(f"{self.aggregate} is of all time and takes no {spans[0]}")
        if self.aggregate == "trend" and self.window_days is None:
            raise ValueError("trend needs window_days")
        if self.aggregate in ("min", "max") and self.last is None:
            raise ValueError(f"{self.aggregate} needs last: what leaves a window would have to be found again")
        if self.half_life_days is not None and self.aggregate not in _FADING:
            raise ValueError(f"half_life_days belongs to {', '.join(_FADING)}")
        if self.last is not None and self.aggregate not in _OF_LAST:
            raise ValueError(f"last belongs to {', '.join(_OF_LAST)}")
        if self.of_days is not None and self.aggregate != "trend":
            raise ValueError("of_days belongs to trend alone")
        if self.of_action is not None and self.aggregate != "ratio":
            raise ValueError("of_action belongs to ratio alone")
        if (self.of is None) != (self.aggregate != "distinct"):
            raise ValueError("distinct needs of, and nothing else takes it")
        if self.last is not None and self.of in ("category", "people"):
            raise ValueError("of the last events, distinct counts items or people")
        if (self.context is None) != (self.entity != "item_context"):
            raise ValueError("item_context needs context, and nothing else takes it")
        if self.context == QUERY:
            raise ValueError("a query is an entity: query_item")
        if (self.prior is None) != (self.strength == 0.0):
            raise ValueError("prior and strength go together")
        if self.prior is not None and self.aggregate not in ("mean", "ratio", "trend"):
            raise ValueError(f"{self.aggregate} is not shrunk: prior belongs to mean, ratio and trend")
        if self.prior == "overall" and self.last is not None:
            raise ValueError("everybody has no last events: give prior a number")
        return self

    @property
    def key(self) -> Key:
        """What its events are grouped by."""
        if self.entity != "item_context":
            return Key(self.entity, QUERY if self.entity == "query_item" else None)
        if self.context != HOUR:
            return Key(self.entity, self.context)
        return Key(self.entity, HOUR, self.band_hours * HOP_US["hour"], round(self.utc_offset_hours * HOP_US["hour"]))

    @property
    def bounded(self) -> bool:
        """Whether the event's value must lie within bounds."""
        return self.min_value is not None or self.max_value is not None

    @property
    def meaning(self) -> str:
        """In words."""
        match (self.min_value, self.max_value):
            case (None, None):
                bounds = ""
            case (low, None):
                bounds = f" of {low:g} or more"
            case (None, high):
                bounds = f" of {high:g} or less"
            case (low, high):
                bounds = f" from {low:g} to {high:g}"
        of = self.action if self.of_action is None else self.of_action
        words = _AGGREGATES[self.aggregate].format(
            what=f"{_events(self.action)}{bounds}",
            of=_events(None if of == "*" else of),
            of_span="of all time" if self.of_days is None else f"in the last {self.of_days:g} days",
            distinct=_DISTINCT.get(self.of or "", ""),
        )
        if self.entity == "user_item":
            words += ", of the person with the item"
        if self.entity == "query_item":
            words += ", of the item under the query"
        if self.context is not None:
            words += f", of the item in the same {self.context}"
        if self.prior is not None:
            centre = "everybody's" if self.prior == "overall" else f"{self.prior:g}"
            words += f", shrunk to {centre} by the weight of {self.strength:g}"
        if self.expires_days is not None:
            words += f", unless nothing came for {self.expires_days:g} days"
        return words

    @property
    def window(self) -> str:
        """How far back it looks."""
        if self.last is not None:
            return f"last {self.last} events"
        if self.half_life_days is not None:
            return f"all time, half the weight after {self.half_life_days:g} days"
        return "all time" if self.window_days is None else f"{self.window_days:g} days by {self.hop}"


class _OfHistory(_Definition):
    last: Annotated[int, Field(ge=1, le=10_000)] = 200
    half_life: Annotated[float, Field(ge=0)] = 0.0

    @property
    def decay(self) -> float:
        """Weight of an event against the next newer one."""
        return float(2.0 ** (-1.0 / self.half_life)) if self.half_life > 0 else 1.0

    @property
    def window(self) -> str:
        """How far back it looks."""
        fading = f", half the weight after {self.half_life:g}" if self.half_life > 0 else ""
        return f"last {self.last} events{fading}"


class Affinity(_OfHistory):
    """How the candidate's codes of one facet occur in the `last` events of the history.

    The newest event weighs 1, and half of it `half_life` events earlier (0 = all the same); an item's weight is spread
    evenly over its codes. share: the part of the history's weight on the candidate's codes. like: mean strength of
    interest on them, shrunk to the history's own mean by `strength`. overlap: how many of the candidate's codes occur
    at all. recency: days since the newest event with one of them. nan if the candidate has no codes or the history
    none.
    """

    kind: Literal["affinity"] = "affinity"
    facet: Literal["category", "people", "country", "item"]
    measure: Literal["share", "like", "overlap", "recency"]
    strength: Annotated[float, Field(ge=0)] = 1.0
    entity: Literal["pair"] = "pair"

    @property
    def meaning(self) -> str:
        """In words."""
        codes = {"category": "categories", "people": "people", "country": "country", "item": "very item"}[self.facet]
        return {
            "share": f"share of the history on the candidate's {codes}",
            "like": f"mean interest in the history's events on the candidate's {codes}",
            "overlap": f"how many of the candidate's {codes} occur in the history",
            "recency": f"days since the history's last event on the candidate's {codes}",
        }[self.measure]


class Distance(_OfHistory):
    """Distance of the candidate's year or price from the history's decayed mean."""

    kind: Literal["distance"] = "distance"
    fact: Literal["year", "price"]
    entity: Literal["pair"] = "pair"

    @property
    def meaning(self) -> str:
        """In words."""
        return f"distance of the candidate's {self.fact} from the history's mean"


class Embedding(_OfHistory):
    """The decayed mean of the vectors of the history's `last` items, and the candidate's likeness to it.

    Vectors are those that a source has learnt for this build. An event weighs as in `Affinity`; with `liked_only` only
    events that are a sign of interest count, with `window_days` only those of the last so many days. similarity: the
    cosine of the candidate to the mean; distance: to it, as vectors of unit length, so between 0 and 2; coherence: the
    mean's length, 1 if all its items are alike and 0 if they have nothing in common. nan if the candidate (but for
    coherence) or all of the history have no vector.
    """

    kind: Literal["embedding"] = "embedding"
    measure: Literal["similarity", "distance", "coherence"] = "similarity"
    liked_only: bool = True
    window_days: Annotated[float, Field(gt=0, le=36_500)] | None = None
    entity: Literal["pair"] = "pair"

    @property
    def meaning(self) -> str:
        """In words."""
        mean = f"the mean vector of the history's {'liked ' if self.liked_only else ''}items"
        return {
            "similarity": f"cosine of the candidate's vector to {mean}",
            "distance": f"distance of the candidate's vector to {mean}",
            "coherence": f"length of {mean}",
        }[self.measure]

    @property
    def window(self) -> str:
        """How far back it looks."""
        return super().window + ("" if self.window_days is None else f" in {self.window_days:g} days")


class Fact(_Definition):
    """What is known of the item at the moment; nan if its facts were known only later.

    years_old counts from the year, age_days from when the item was first known.
    """

    kind: Literal["fact"] = "fact"
    fact: Literal["year", "price", "n_categories", "n_people", "age_days", "years_old"]
    entity: Literal["item"] = "item"

    @property
    def meaning(self) -> str:
        """In words."""
        return {
            "year": "year of release",
            "price": "price",
            "n_categories": "number of categories",
            "n_people": "number of people",
            "age_days": "days since the item was first known",
            "years_old": "years since the year of release",
        }[self.fact]

    @property
    def window(self) -> str:
        """How far back it looks."""
        return "as known at the moment"


class Context(_OfHistory):
    """The moment and the history as such: the same for all candidates of a request.

    hour and weekday (0 = Monday) at `utc_offset_hours`; history_length and history_liking (decayed mean strength of
    interest) over the `last` events; history_recency in days.
    """

    kind: Literal["context"] = "context"
    fact: Literal["hour", "weekday", "history_length", "history_liking", "history_recency"]
    utc_offset_hours: Annotated[float, Field(ge=-14, le=14)] = 0.0
    entity: Literal["request"] = "request"

    @property
    def meaning(self) -> str:
        """In words."""
        return {
            "hour": f"hour of the day at UTC{self.utc_offset_hours:+g}",
            "weekday": f"day of the week at UTC{self.utc_offset_hours:+g}, 0 = Monday",
            "history_length": "number of events in the history",
            "history_liking": "mean interest over the history",
            "history_recency": "days since the history's newest event",
        }[self.fact]

    @property
    def window(self) -> str:
        """How far back it looks."""
        return super().window if self.fact.startswith("history") else "the moment"


AnyFeature = Annotated[Feature | Affinity | Distance | Embedding | Fact | Context, Field(discriminator="kind")]
_ADAPTER: TypeAdapter[tuple[AnyFeature, ...]] = TypeAdapter(tuple[AnyFeature, ...])


@dataclass(frozen=True, slots=True)
class Explained:
    """One feature in words."""

    name: str
    entity: str
    window: str
    meaning: str


@dataclass(frozen=True)
class FeatureSet:
    """An ordered, closed list of features: the columns of every feature matrix, in this order."""

    features: tuple[AnyFeature, ...]

    def __post_init__(self) -> None:
        twice = {name for name in self.names if self.names.count(name) > 1}
        if twice:
            raise ConfigError(
                expected="one definition per feature name",
                got=f"{', '.join(sorted(twice))} more than once",
                do="Rename or remove one in [[features]].",
            )

    def __len__(self) -> int:
        return len(self.features)

    def __iter__(self) -> Iterator[AnyFeature]:
        return iter(self.features)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Column names."""
        return tuple(feature.name for feature in self.features)

    def aggregates(self, entity: Entity) -> tuple[Feature, ...]:
        """The aggregates over one entity's events, in order."""
        return tuple(f for f in self.features if isinstance(f, Feature) and f.entity == entity)

    @property
    def keys(self) -> tuple[Key, ...]:
        """What aggregates are grouped by beyond people and items, in order of appearance."""
        found = dict.fromkeys(f.key for f in self.features if isinstance(f, Feature))
        return tuple(key for key in found if key.entity not in ("user", "item"))

    @property
    def context_keys(self) -> tuple[str, ...]:
        """The facts of a moment that events and requests must say for the features to see them."""
        return tuple(dict.fromkeys(key.context for key in self.keys if key.context not in (None, HOUR)))

    @property
    def needs_vectors(self) -> bool:
        """Whether a feature looks at the items' vectors."""
        return any(isinstance(f, Embedding) for f in self.features)

    @property
    def history_limit(self) -> int:
        """So many newest events of a history must be at hand; more change nothing."""
        return max((feature.last for feature in self.features if isinstance(feature, _OfHistory)), default=0)

    def explain(self) -> list[Explained]:
        """Every feature in words, in order."""
        return [Explained(f.name, f.entity, f.window, f.meaning) for f in self.features]

    def to_config(self) -> list[dict[str, Any]]:
        """As plain values, without defaults: what `[[features]]` of `honeyguide.toml` holds."""
        return [{"kind": f.kind} | f.model_dump(exclude_defaults=True) for f in self.features]

    @classmethod
    def from_config(cls, features: Sequence[Mapping[str, Any]]) -> FeatureSet:
        """What `to_config` gave. ConfigError on an unknown key or a value out of range."""
        try:
            return cls(_ADAPTER.validate_python([{"kind": "window", **feature} for feature in features]))
        except ValidationError as error:
            first = error.errors()[0]
            place, *keys = first["loc"]
            name = features[place].get("name", place) if isinstance(place, int) else place
            raise ConfigError(
                expected="a feature definition",
                got=f"feature {name!r}, {'.'.join(map(str, keys[1:])) or 'as a whole'}: {first['msg']}",
                do="Correct it in [[features]]; `honeyguide explain` lists the features in use.",
            ) from error

    @cached_property
    def fingerprint(self) -> str:
        """Changes if any definition, or their order, does."""
        text = json.dumps([f.model_dump() for f in self.features], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]
