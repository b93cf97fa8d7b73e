"""What goes over HTTP: requests in, answers out. Unknown fields are refused; bounds are part of the type."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field

__all__ = [
    "Answer",
    "EventIn",
    "EventsAnswer",
    "EventsRequest",
    "Exploration",
    "FacetCount",
    "Filters",
    "Item",
    "JudgeRequest",
    "JudgmentIn",
    "RecommendRequest",
    "RefusedEvent",
    "RerankAnswer",
    "RerankRequest",
    "Reranked",
    "ResetAnswer",
    "ResetRequest",
    "RuleEffect",
    "SearchAnswer",
    "SearchRequest",
    "ShownItem",
    "Suggestion",
    "SuggestAnswer",
    "Understood",
    "UnderstoodAttribute",
]

Id = Annotated[str, Meta(min_length=1, max_length=512)]
Slots = Annotated[int, Meta(ge=1, le=200)]
Text = Annotated[str, Meta(max_length=10_000)]


class Filters(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Hard filters: an item must pass all that are given."""

    categories: list[str] = []  # at least one of them
    people: list[str] = []  # at least one of them
    countries: list[str] = []  # at least one of them
    year_min: int | None = None
    year_max: int | None = None
    price_min: float | None = None
    price_max: float | None = None
    allow: list[str] = []  # only these item ids
    deny: list[str] = []  # never these item ids
    attributes: dict[str, list[str]] = {}  # search: of each attribute that is a facet, at least one of the values


class RecommendRequest(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Ask for a slate on a surface.

    `home` needs nothing, `item` needs `item_id`, `board` needs `board_items`. A person nobody knows gets
    context-aware popularity.
    """

    surface: Annotated[str, Meta(min_length=1, max_length=64)] = "home"
    user_id: Id | None = None
    item_id: Id | None = None
    board_items: Annotated[list[Id], Meta(max_length=500)] = []
    k: Slots = 20
    filters: Filters = field(default_factory=Filters)
    context: Annotated[dict[str, str], Meta(max_length=32)] = {}
    request_id: Id | None = None
    log: bool = True  # false: a preview that leaves no Impressions row
    profiling: bool = True  # false: nothing of the person is read, and the Impressions row names nobody


class ShownItem(Struct, omit_defaults=True):
    """One slot of an answer, with why it is there."""

    item_id: str
    position: int
    score: float
    propensity: float
    title: str | None = None
    reason: str = ""
    sources: list[str] = []
    heads: dict[str, float] = {}
    year: int | None = None
    categories: list[str] = []
    people: list[str] = []
    pinned: bool = False
    explored: bool = False
    because: list[str] = []  # item ids of the person's history that speak for it
    highlight: str | None = None  # search: the title with <mark> around the words that matched, HTML-escaped
    rule: str | None = None  # the merchandising rule that pinned it


class RuleEffect(Struct, omit_defaults=True):
    """What a merchandising rule did to one item of a list."""

    rule: str
    do: str  # pin, boost, bury, hide
    item_id: str
    position: int | None = None  # where it stands; None: on another page, or nowhere
    was: int | None = None  # where it stood without any rule; None: further down than was looked, or nowhere
    overruled_by: str | None = None  # another rule that went before this one


class Exploration(Struct, omit_defaults=True):
    """How the policy explores, and where it did: slot -> the chance that it was to be another than the best left."""

    kind: str
    explored: dict[str, float] = {}


class Answer(Struct, omit_defaults=True):
    """A slate."""

    request_id: str
    surface: str
    policy_version: str
    build_id: str
    items: list[ShownItem]
    list_propensity: float = 1.0
    fallback: str | None = None  # why the answer is not the policy's own
    exploration: Exploration | None = None  # None where the policy leaves nothing to chance
    dropped: dict[str, int] = {}  # rule -> how many candidates it removed
    stage_us: dict[str, float] = {}
    merchandising: list[RuleEffect] = []


class SearchRequest(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Search the catalog by words, optionally for a person."""

    query: Text
    user_id: Id | None = None
    k: Slots = 20
    offset: Annotated[int, Meta(ge=0, le=10_000)] = 0
    filters: Filters = field(default_factory=Filters)
    sort: str = "relevance"  # or popularity, price, -price, year, -year, title; a minus: the highest first
    facet_text: Annotated[dict[str, Text], Meta(max_length=20)] = {}  # facet -> only its values with these words
    context: Annotated[dict[str, str], Meta(max_length=32)] = {}
    request_id: Id | None = None
    log: bool = True
    verbatim: bool = False  # true: search for exactly these words, uncorrected
    profiling: bool = True  # false: nothing of the person is read, and the Impressions row names nobody


class FacetCount(Struct):
    """How many hits carry a facet's value."""

    value: str
    count: int


class UnderstoodAttribute(Struct, omit_defaults=True):
    """A fact that a query asks for: a facet's value, or a span of prices or years."""

    name: str  # categories, people, countries, price, year, or a key of the items' attributes
    value: str
    words: str  # as typed
    applied: bool = False  # only such items are hits
    note: str = ""


class Understood(Struct, omit_defaults=True):
    """How a query was read."""

    language: str | None = None
    intent: str | None = None  # navigational, item, category, question
    categories: list[str] = []
    attributes: list[UnderstoodAttribute] = []
    synonyms: dict[str, list[str]] = {}  # words of the query -> what was searched for as well
    did_you_mean: list[str] = []  # other spellings of the query that may have been meant
    dropped: list[str] = []  # words that no hit holds, and limits that were let go since nothing met them


class SearchAnswer(Struct, omit_defaults=True):
    """Hits in order, with facets."""

    request_id: str
    surface: str
    policy_version: str
    build_id: str
    query: str
    total: int
    items: list[ShownItem]
    facets: dict[str, list[FacetCount]] = {}
    corrected: str | None = None  # what was searched for instead of the query
    understood: Understood | None = None
    fallback: str | None = None
    list_propensity: float = 1.0
    dropped: dict[str, int] = {}
    stage_us: dict[str, float] = {}
    merchandising: list[RuleEffect] = []


class Suggestion(Struct, omit_defaults=True):
    """One completion."""

    text: str
    kind: str  # title, category, person, query
    item_id: str | None = None


class SuggestAnswer(Struct):
    """Completions of a prefix, best first."""

    prefix: str
    suggestions: list[Suggestion]


class RerankRequest(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Another engine's answer, to be put in the order that this workspace would show it in."""

    query: Text
    response: Any  # as the engine gave it; see docs/rerank.md for the shapes
    engine: Literal["elasticsearch", "opensearch", "solr", "list"] | None = None  # None: told by the shape
    id_field: Annotated[str, Meta(min_length=1, max_length=200)] | None = None  # where a hit names its item, with dots
    surface: Annotated[str, Meta(min_length=1, max_length=64)] = "search"
    user_id: Id | None = None
    context: Annotated[dict[str, str], Meta(max_length=32)] = {}
    request_id: Id | None = None
    log: bool = True
    profiling: bool = True


class Reranked(Struct, omit_defaults=True):
    """One hit of another engine in its new place."""

    item_id: str
    position: int
    was: int  # in the engine's own order
    known: bool = True  # false: the catalog has no such item, and the hit kept its place
    reason: str = ""


class RerankAnswer(Struct, omit_defaults=True):
    """The engine's answer in its own shape, its hits in a new order, and what was done to each."""

    request_id: str
    surface: str
    policy_version: str
    build_id: str
    engine: str
    response: Any
    items: list[Reranked]
    personal: bool = False  # whether the person's history counted
    corrected: str | None = None
    fallback: str | None = None  # why the order is the engine's own
    stage_us: dict[str, float] = {}


class JudgmentIn(Struct, forbid_unknown_fields=True):
    """What a rater says of an item for a query."""

    item_id: Id
    grade: Annotated[int, Meta(ge=0, le=3)]


class JudgeRequest(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Judgments of one rater on one query's list."""

    query: Annotated[str, Meta(min_length=1, max_length=1_000)]
    rater: Annotated[str, Meta(min_length=1, max_length=100)]
    judgments: Annotated[list[JudgmentIn], Meta(min_length=1, max_length=200)]
    language: Annotated[str, Meta(max_length=35)] | None = None


class EventIn(Struct, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """One event as a client sends it. Without `event_id` the server makes one; then a retry is a second event."""

    user_id: Id
    item_id: Id
    action: Annotated[str, Meta(min_length=1, max_length=64)]
    event_id: Id | None = None
    value: float | None = None
    happened_at: str | float | None = None  # ISO 8601, or seconds since the epoch; default: now
    surface: Annotated[str, Meta(max_length=64)] | None = None
    request_id: Id | None = None
    session_id: Id | None = None
    position: Annotated[int, Meta(ge=1)] | None = None
    query: Text | None = None
    context: Annotated[dict[str, str], Meta(max_length=32)] = {}
    corrects: Id | None = None  # the id of the same person's event whose place it takes; action `retract` takes it away


class EventsRequest(Struct, forbid_unknown_fields=True):
    """A batch of events. All that are valid enter together; the others come back with reasons."""

    events: Annotated[list[EventIn], Meta(min_length=1, max_length=10_000)]


class RefusedEvent(Struct):
    """An event that did not enter, by its index in the batch."""

    index: int
    reason: str
    detail: str


class EventsAnswer(Struct):
    """Durable when received: `accepted` + `duplicates` + len(`refused`) = events sent."""

    accepted: int
    duplicates: int
    refused: list[RefusedEvent]


class ResetRequest(Struct, forbid_unknown_fields=True):
    """Let a person begin anew: no profile is made of what they did before."""

    user_id: Id
    request_id: Id | None = None  # makes a retry the same reset


class ResetAnswer(Struct):
    """Durable when received, and in force from the next answer on."""

    user_id: str
    at: str  # ISO 8601


class Item(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A catalog item over the API: the body of PUT (where `item_id` must match the address) and of GET."""

    item_id: Id
    title: Text | None = None
    description: Text | None = None
    categories: Annotated[list[Id], Meta(max_length=100)] = []
    people: Annotated[list[Id], Meta(max_length=200)] = []
    country: Annotated[str, Meta(max_length=100)] | None = None
    year: Annotated[int, Meta(ge=-5000, le=3000)] | None = None
    price: Annotated[float, Meta(ge=0)] | None = None
    language: Annotated[str, Meta(max_length=35)] | None = None
    image_url: Annotated[str, Meta(max_length=2_000)] | None = None
    attributes: dict[str, str | float | int | bool | None] = {}
    available: bool = True
