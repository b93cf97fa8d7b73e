"""Merchandising: pins, boosts, buries and hides by query or category, with dates; and where two rules fight.

A boost or a bury is counted in places of the list, not in scores: that holds for any ranker, and a page further down
stays what it was. Hides go before pins, pins before boosts and buries; of two pins that want one slot the earlier rule
has it, and the other takes the next that is free.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from honeyguide.contracts import F64, I64
from honeyguide.kernels import text

__all__ = ["Conflict", "MerchRule", "Plan", "RuleBook", "certain", "conflicts", "lifts", "moved", "words_of"]

Stems = Callable[[Sequence[str], str], tuple[str, ...]]
"""Words of a query (folded) in a language -> their stems, in any order."""
Id = Annotated[str, Field(min_length=1, max_length=512)]
MOST_PLACES = 1_000
_EVER = dt.datetime.min.replace(tzinfo=dt.UTC)
_NEVER = dt.datetime.max.replace(tzinfo=dt.UTC)


class MerchRule(BaseModel):
    """One rule: what it does, to which items, and when.

    query and category say on which lists: of this query, of the page of this category, or (both) of this query within
    this category. match: `exact`, the same words in the same order whatever case and accents; `contains`, these words
    side by side; `language`, the same stems in any order, by the `language` given. starts is when it begins, ends when
    it is over; a bare date that ends it is its last day. Moments without a zone are UTC.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.\-]{0,63}$")]
    do: Literal["pin", "boost", "bury", "hide"]
    items: Annotated[tuple[Id, ...], Field(max_length=1_000)] = ()
    categories: Annotated[tuple[Id, ...], Field(max_length=100)] = ()  # all of their items; not of a pin
    query: Annotated[str, Field(min_length=1, max_length=1_000)] | None = None
    match: Literal["exact", "contains", "language"] = "exact"
    language: Annotated[str, Field(pattern=r"^[a-z]{2,3}$")] | None = None  # of the query, for match = "language"
    category: Id | None = None
    surfaces: tuple[Id, ...] = ()  # (): every one
    position: Annotated[int, Field(ge=1, le=200)] = 1  # of a pin's first item; the others follow
    places: Annotated[int, Field(ge=1, le=MOST_PLACES)] = 10  # how far a boost lifts, and a bury lowers
    starts: dt.datetime | None = None
    ends: dt.datetime | None = None
    note: Annotated[str, Field(max_length=1_000)] = ""

    @model_validator(mode="before")
    @classmethod
    def _last_day(cls, given: Any) -> Any:
        ends = given.get("ends") if isinstance(given, dict) else None
        if isinstance(ends, str) and len(ends) == len("2026-12-24"):
            try:
                return {**given, "ends": f"{dt.date.fromisoformat(ends) + dt.timedelta(days=1)}T00:00:00+00:00"}
            except (ValueError, OverflowError):
                return given
        return given

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if not (self.items or self.categories):
            raise ValueError("a rule needs items or categories that it is about")
        if self.query is None and self.category is None:
            raise ValueError("a rule needs a query or a category that it holds on")
        if self.query is not None and not words_of(self.query):
            raise ValueError("the query holds no word")
        if self.do == "pin" and (self.categories or self.position + len(self.items) > 201):
            raise ValueError("a pin takes items, each a slot up to 200, and no categories")
        if self.match == "language" and (self.query is None or self.language is None):
            raise ValueError('match = "language" needs a query and its language')
        if len(set(self.items)) < len(self.items):
            raise ValueError("an item stands twice")
        if self.starts is not None and self.ends is not None and self.from_ >= self.until:
            raise ValueError("it ends before it starts")
        return self

    @property
    def from_(self) -> dt.datetime:
        """When it begins, UTC."""
        return _utc(self.starts) or _EVER

    @property
    def until(self) -> dt.datetime:
        """The first moment at which it is over, UTC."""
        return _utc(self.ends) or _NEVER

    def state(self, now: dt.datetime) -> str:
        """`active`, `waiting` or `over`."""
        return "waiting" if now < self.from_ else "over" if now >= self.until else "active"

    def says(self) -> str:
        """The rule in one line, for a person."""
        what = ", ".join([*self.items[:3], *(["..."] if len(self.items) > 3 else [])])
        whole = ", ".join(self.categories)
        about = " and ".join(part for part in (what, f"all of {whole}" if whole else "") if part)
        how = {
            "pin": f"pin {about} from slot {self.position} on" if len(self.items) > 1
            else f"pin {about} in slot {self.position}",
            "boost": f"lift {about} by {self.places} places",
            "bury": f"lower {about} by {self.places} places",
            "hide": f"hide {about}",
        }[self.do]  # fmt: skip
        of_query = {"exact": "for", "contains": "where the query holds", "language": f"for ({self.language})"}
        where = [f"{of_query[self.match]} “{self.query}”"] if self.query is not None else []
        where += [f"in {self.category}"] if self.category is not None else []
        return " ".join([how, *where])


def _utc(at: dt.datetime | None) -> dt.datetime | None:
    return at if at is None or at.tzinfo is not None else at.replace(tzinfo=dt.UTC)


def words_of(query: str) -> tuple[str, ...]:
    """Words of a query as rules compare them."""
    return tuple(text.words(text.fold(query)))


def _no_stems(words: Sequence[str], language: str) -> tuple[str, ...]:
    return tuple(words)


@dataclass(frozen=True, slots=True)
class Plan:
    """What the rules that hold on one list want; item ids and category names as they stand in the rules."""

    pins: tuple[tuple[int, str, str], ...] = ()  # slot, item id, rule; slots ascend and differ
    hidden: Mapping[str, str] = field(default_factory=dict)  # item id -> rule
    hidden_categories: Mapping[str, str] = field(default_factory=dict)
    shifts: tuple[tuple[MerchRule, int], ...] = ()  # boosts and buries; places upwards are positive
    overruled: tuple[tuple[str, str, str], ...] = ()  # rule, item id, the rule that goes before it

    def __bool__(self) -> bool:
        return bool(self.pins or self.hidden or self.hidden_categories or self.shifts)

    @property
    def most(self) -> int:
        """By how many places an item may rise at most."""
        return min(sum(max(places, 0) for _, places in self.shifts), 4 * MOST_PLACES)


_NOTHING = Plan()


class RuleBook:
    """Rules, ready to be asked which of them hold on a list: 1 us where none names the query, whatever their number."""

    def __init__(self, rules: Iterable[MerchRule] = (), stems: Stems = _no_stems) -> None:
        self.rules = tuple(rules)
        self._stems = stems
        self._exact: dict[tuple[str, ...], list[int]] = {}
        self._starting: dict[str, list[tuple[tuple[str, ...], int]]] = {}  # `contains`, by the first word
        self._stemmed: dict[str, dict[tuple[str, ...], list[int]]] = {}  # by language
        self._of_category: dict[str, list[int]] = {}
        for at, rule in enumerate(self.rules):
            if rule.query is None:
                self._of_category.setdefault(rule.category or "", []).append(at)
                continue
            words = words_of(rule.query)
            if rule.match == "exact":
                self._exact.setdefault(words, []).append(at)
            elif rule.match == "contains":
                self._starting.setdefault(words[0], []).append((words, at))
            else:
                of = self._stemmed.setdefault(rule.language or "", {})
                of.setdefault(self._key(words, rule.language or ""), []).append(at)

    def __len__(self) -> int:
        return len(self.rules)

    def _key(self, words: Sequence[str], language: str) -> tuple[str, ...]:
        return tuple(sorted(self._stems(words, language)))

    def holding(
        self, now: dt.datetime, surface: str, *, query: str | None = None, categories: Sequence[str] = ()
    ) -> list[MerchRule]:
        """The rules that hold on a list, in their order."""
        found: list[int] = []
        for name in categories:
            found += self._of_category.get(name, ())
        words = words_of(query) if query is not None else ()
        if words:
            found += self._exact.get(words, ())
            for start, word in enumerate(words):
                for wanted, at in self._starting.get(word, ()):
                    if words[start : start + len(wanted)] == wanted:
                        found.append(at)
            for language, of in self._stemmed.items():
                found += of.get(self._key(words, language), ())
        if not found:
            return []
        rules = (self.rules[at] for at in sorted(set(found)))
        return [
            rule
            for rule in rules
            if rule.state(now) == "active"
            and (not rule.surfaces or surface in rule.surfaces)
            and (rule.category is None or rule.category in categories)
        ]

    def plan(self, now: dt.datetime, surface: str, *, query: str | None = None, categories: Sequence[str] = ()) -> Plan:
        """What these rules want together, each fight settled."""
        rules = self.holding(now, surface, query=query, categories=categories) if self.rules else []
        if not rules:
            return _NOTHING
        hidden: dict[str, str] = {}
        hidden_categories: dict[str, str] = {}
        overruled: list[tuple[str, str, str]] = []
        for rule in rules:
            if rule.do == "hide":
                hidden |= {item: rule.id for item in rule.items if item not in hidden}
                hidden_categories |= {name: rule.id for name in rule.categories if name not in hidden_categories}
        slots: dict[int, tuple[str, str]] = {}
        pinned: dict[str, str] = {}
        for rule in rules:
            if rule.do != "pin":
                continue
            for slot, item in enumerate(rule.items, rule.position):
                if item in hidden or item in pinned:
                    overruled.append((rule.id, item, hidden.get(item) or pinned[item]))
                    continue
                if slot in slots:
                    overruled.append((rule.id, item, slots[slot][1]))
                while slot in slots:
                    slot += 1
                slots[slot], pinned[item] = (item, rule.id), rule.id
        shifts = [(rule, rule.places if rule.do == "boost" else -rule.places) for rule in rules
                  if rule.do in ("boost", "bury")]  # fmt: skip
        for rule, _ in shifts:
            overruled += [
                (rule.id, item, hidden.get(item) or pinned[item])
                for item in rule.items
                if item in hidden or item in pinned
            ]
        return Plan(
            tuple((slot, *slots[slot]) for slot in sorted(slots)), hidden, hidden_categories, tuple(shifts),
            tuple(overruled),
        )  # fmt: skip


# ------------------------------------------------------------------------------------------------- the arithmetic


def moved(shifts: I64) -> I64:
    """The order of the first hits of a list after boosts and buries, as indexes into it.

    shifts: (n,) by how many places each rises (negative: falls). Who rises goes before the one whose place it takes,
    who falls behind; the others keep their order.
    """
    n = len(shifts)
    return np.lexsort((np.arange(n), -np.sign(shifts), np.arange(n) - shifts))


def certain(shifts: I64, most: int, total: int) -> int:
    """How many places of `moved(shifts)` hold of the whole list of `total`, where an unseen hit may rise by `most`."""
    known = len(shifts)
    return known if known >= total else int((np.arange(known) - shifts < known - most).sum())


def lifts(utility: F64, shifts: I64) -> F64:
    """What to add to utilities (n,) so that each item moves by `shifts` places; nan stays out of the order."""
    out = np.zeros(len(utility))
    known = np.flatnonzero(~np.isnan(utility))
    if not shifts[known].any():
        return out
    order = known[np.argsort(-utility[known], kind="stable")]
    place = np.empty(len(utility), np.int64)
    place[order] = np.arange(len(order))
    ranked = utility[order]
    step = max(float(np.ptp(ranked)), 1.0) * 1e-9
    for at in known[shifts[known] != 0]:
        target = int(np.clip(place[at] - shifts[at], 0, len(order) - 1))
        out[at] = ranked[target] - utility[at] + np.sign(shifts[at]) * step
    return out


# --------------------------------------------------------------------------------------------------- conflicts


@dataclass(frozen=True, slots=True)
class Conflict:
    """Two rules that fight on the same list, about what, and which of them goes before."""

    first: str
    second: str
    about: str
    settled: str


def conflicts(rules: Sequence[MerchRule], stems: Stems = _no_stems) -> list[Conflict]:
    """Every pair of rules that wants different things of one item or slot on a list that both hold on.

    Two queries meet where one rule's query is a query of the other; two `contains` rules only where one holds the
    other, though somebody may type both.
    """
    found: list[Conflict] = []
    for at, one in enumerate(rules):
        for other in rules[at + 1 :]:
            if not _meet(one, other, stems):
                continue
            found += _fights(one, other)
    return found


def _meet(one: MerchRule, other: MerchRule, stems: Stems) -> bool:
    if one.from_ >= other.until or other.from_ >= one.until:
        return False
    if one.surfaces and other.surfaces and not {*one.surfaces} & {*other.surfaces}:
        return False
    if one.category is not None and other.category is not None and one.category != other.category:
        return False
    if one.query is None or other.query is None:
        # A rule of a category and one of a query meet on every page of the category where that query is asked.
        return True
    return _fits(one, other, stems) or _fits(other, one, stems)


def _fits(rule: MerchRule, typed: MerchRule, stems: Stems) -> bool:
    """Whether what one rule's query says would be met by the other rule."""
    words, query = words_of(rule.query or ""), words_of(typed.query or "")
    if rule.match == "exact":
        return words == query
    if rule.match == "contains":
        return any(query[start : start + len(words)] == words for start in range(len(query)))
    language = rule.language or ""
    return sorted(stems(words, language)) == sorted(stems(query, language))


def _fights(one: MerchRule, other: MerchRule) -> list[Conflict]:
    found: list[Conflict] = []
    shared = [item for item in one.items if item in other.items]
    whole = [name for name in one.categories if name in other.categories]
    kinds = {one.do, other.do}
    about = [*shared, *(f"all of {name}" for name in whole)]

    def told(what: str, winner: str) -> None:
        found.append(Conflict(one.id, other.id, what, winner))

    if "hide" in kinds and len(kinds) == 2:
        hider = one if one.do == "hide" else other
        for name in about:
            told(f"{name}: one hides what the other would {(other if hider is one else one).do}", f"{hider.id} hides")
    elif kinds == {"pin"}:
        slots = dict(enumerate(one.items, one.position))
        for slot, item in enumerate(other.items, other.position):
            if slots.get(slot, item) != item:
                told(f"slot {slot}: {slots[slot]} or {item}", f"{one.id} has the slot, {item} takes the next free one")
        places = {item: slot for slot, item in slots.items()}
        for slot, item in enumerate(other.items, other.position):
            if places.get(item, slot) != slot:
                told(f"{item}: slot {places[item]} or {slot}", f"{one.id} places it")
    elif "pin" in kinds and len(kinds) == 2:
        pinner = one if one.do == "pin" else other
        for name in shared:
            told(f"{name}: pinned, so it moves no more", f"{pinner.id} pins")
    elif kinds == {"boost", "bury"}:
        for name in about:
            told(f"{name}: lifted by one, lowered by the other", "both count: the places are summed")
    return found
