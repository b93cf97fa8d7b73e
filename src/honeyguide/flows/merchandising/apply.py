"""Merchandising rules at work: on the hits of a query, and on the list of a surface that shows a category."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from msgspec import structs

from honeyguide.contracts import F64, I32, I64, CatalogView, TextHits
from honeyguide.schema.wire import Filters, Item, RuleEffect, SearchRequest
from honeyguide.slate.compose import Forced, SlateResult
from honeyguide.slate.merchandising import Plan, RuleBook, certain, lifts, moved
from honeyguide.slate.rules import CatalogRules, RulesConfig

if TYPE_CHECKING:
    from honeyguide.flows.merchandising.store import Rules

__all__ = ["Find", "Merchandiser", "Ruled", "RuledList"]

Find = Callable[[Filters, int, bool], TextHits]
"""`find(filters, k, facets)`: the first hits of one query under other filters."""
LOOKED_AT = 100
"""So many hits without rules are looked at for what was hidden, and for where a pinned item stood."""
AT_ONCE = 1_000
BY_RELEVANCE = "relevance"


@dataclass(frozen=True, slots=True)
class Ruled:
    """Hits as the rules want them, and what each rule did."""

    hits: TextHits
    pinned: dict[int, str] = field(default_factory=dict)  # item row -> the rule that pinned it
    effects: list[RuleEffect] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class RuledList:
    """What rules want of the list of a surface."""

    plan: Plan
    filters: Filters
    forced: Forced
    shifted: I64 | None  # by item row, how many places it rises; None: none does

    def lift(self, rows: I32, utility: F64) -> F64 | None:
        """What to add to the candidates' utilities (n,) so that they move; None where none does."""
        if self.shifted is None:
            return None
        return lifts(utility, np.where(rows >= 0, self.shifted[np.maximum(rows, 0)], 0))


class Merchandiser:
    """The rules over one view of the catalog."""

    def __init__(self, rules: Rules, catalog: CatalogView, item: Callable[[int], Item]) -> None:
        self._rules, self._catalog, self._item = rules, catalog, item
        self._passes: CatalogRules | None = None  # made when a rule first asks

    @property
    def book(self) -> RuleBook:
        """The rules in force."""
        return self._rules.book

    # -------------------------------------------------------------------------------------------------- searches

    def search(self, request: SearchRequest, queries: Sequence[str], hits: TextHits, find: Find, now_us: int) -> Ruled:
        """A page of hits as the rules want it; `hits` themselves where no rule holds.

        queries: what was typed and, if that was taken for something else, what for; the first that a rule names counts.
        find: hits of the same query under other filters. Sorted by anything but relevance, only hides hold: a person
        who asks for the cheapest first gets it.
        """
        if not self.book.rules:
            return Ruled(hits)
        for query in queries:
            plan = self._plan("search", now_us, query, request.filters.categories)
            if plan:
                break
        else:
            return Ruled(hits)
        sort = request.sort
        if sort != BY_RELEVANCE:
            plan = Plan(hidden=plan.hidden, hidden_categories=plan.hidden_categories)
            if not plan:
                return Ruled(hits)
        return self._searched(request, plan, hits, find)

    def _searched(self, request: SearchRequest, plan: Plan, hits: TextHits, find: Find) -> Ruled:
        asked, k, offset = request.filters, request.k, request.offset
        items = self._catalog.items
        hidden = self._hidden(plan)
        allowed = self._barring(asked, hidden)
        pins = [(slot, items.row(item), rule) for slot, item, rule in plan.pins]
        pins = [(slot, row, rule) for slot, row, rule in pins if row >= 0 and self._may(row, allowed)]
        organic = self._barring(allowed, {items.id(row): rule for _, row, rule in pins})
        stood = {row: place for place, row in enumerate(find(asked, LOOKED_AT, False).rows.tolist(), 1)}
        need = offset + k
        rows, scores, shifts, total = self._order(plan, organic, need, find)
        # A pin whose slot lies behind the last hit stands right behind it.
        slots = {min(slot, total + at): (row, rule) for at, (slot, row, rule) in enumerate(pins, 1)}
        page_rows: list[int] = []
        page_scores: list[float] = []
        passed = sum(slot <= offset for slot in slots)
        left = iter(zip(rows[max(offset - passed, 0) :].tolist(), scores[max(offset - passed, 0) :], strict=True))
        for slot in range(offset + 1, min(need, total + len(slots)) + 1):
            if slot in slots:
                page_rows.append(slots[slot][0])
                page_scores.append(float("nan"))
            else:
                row, score = next(left)
                page_rows.append(row)
                page_scores.append(float(score))
        at = {row: offset + place for place, row in enumerate(page_rows, 1)}
        facets = find(allowed, 1, True).facets if hidden else hits.facets
        effects = [
            *(RuleEffect(rule, "pin", items.id(row), at.get(row), stood.get(row)) for _, row, rule in pins),
            *(
                RuleEffect(rule, "hide", items.id(row), None, place)
                for row, place in stood.items()
                if (rule := hidden.get(items.id(row))) is not None
            ),
            *self._moves(plan, {int(row) for row in rows[shifts != 0].tolist()}, at, stood),
            *_overruled(plan, at, stood, self._catalog),
        ]
        found = TextHits(np.array(page_rows, np.int32), np.array(page_scores, np.float32), total + len(slots), facets)
        return Ruled(found, {row: rule for _, row, rule in pins}, effects)

    def _order(self, plan: Plan, filters: Filters, need: int, find: Find) -> tuple[I32, F64, I64, int]:
        """The first hits in their new order, at least `need` of them where there are so many, with their scores and
        by how many places each was to move; and how many hits there are."""
        shifted = self._shifted(plan)
        fetch = need + plan.most
        while True:
            found = find(filters, fetch, False)
            shifts = np.zeros(len(found.rows), np.int64) if shifted is None else shifted[found.rows]
            sure = certain(shifts, plan.most, found.total) if len(found.rows) >= fetch else len(found.rows)
            if sure >= need or len(found.rows) < fetch:
                order = moved(shifts)[:sure]
                return found.rows[order], found.scores[order].astype(np.float64), shifts[order], found.total
            fetch += need - sure + AT_ONCE

    # ------------------------------------------------------------------------------------------------- surfaces

    def listed(self, surface: str, filters: Filters, now_us: int) -> RuledList | None:
        """What rules want of the page of a category; None where none holds."""
        if not filters.categories or not self.book.rules:
            return None
        plan = self._plan(surface, now_us, None, filters.categories)
        if not plan:
            return None
        hidden = self._hidden(plan)
        allowed = self._barring(filters, hidden)
        items = self._catalog.items
        pins = [(slot, items.row(item), rule) for slot, item, rule in plan.pins]
        pins = [(slot, row, rule) for slot, row, rule in pins if row >= 0 and self._may(row, allowed)]
        forced = Forced(
            np.array([row for _, row, _ in pins], np.int32), np.array([slot for slot, _, _ in pins], np.int32),
            {row: rule for _, row, rule in pins},
        )  # fmt: skip
        return RuledList(plan, allowed, forced, self._shifted(plan))

    def effects(self, ruled: RuledList, slate: SlateResult, plain: SlateResult) -> list[RuleEffect]:
        """What rules did to a slate; `plain` is the same without them."""
        items = self._catalog.items
        at = {int(row): place for place, row in enumerate(slate.rows.tolist(), 1)}
        stood = {int(row): place for place, row in enumerate(plain.rows.tolist(), 1)}
        hidden = self._hidden(ruled.plan)
        moving = set() if ruled.shifted is None else {row for row in {*at, *stood} if ruled.shifted[row]}
        pinned = ruled.forced.rules.items()
        return [
            *(RuleEffect(rule, "pin", items.id(row), at.get(row), stood.get(row)) for row, rule in pinned),
            *(
                RuleEffect(rule, "hide", items.id(row), None, place)
                for row, place in stood.items()
                if (rule := hidden.get(items.id(row))) is not None
            ),
            *self._moves(ruled.plan, moving, at, stood),
            *_overruled(ruled.plan, at, stood, self._catalog),
        ]

    # ---------------------------------------------------------------------------------------------------- parts

    def _plan(self, surface: str, now_us: int, query: str | None, categories: Sequence[str]) -> Plan:
        now = dt.datetime.fromtimestamp(now_us / 1e6, dt.UTC)
        return self.book.plan(now, surface, query=query, categories=categories)

    def _of_categories(self, names: Iterable[str]) -> I64:
        """Rows of the items in these categories."""
        catalog = self._catalog
        known = {name: code for code, name in enumerate(catalog.category_names)}
        codes = [known[name] for name in names if name in known]
        if not codes:
            return np.zeros(0, np.int64)
        owner = np.repeat(np.arange(len(catalog.category)), np.diff(catalog.category.indptr))
        return np.unique(owner[np.isin(catalog.category.values, codes)])

    def _hidden(self, plan: Plan) -> dict[str, str]:
        """Ids that a rule hides -> the rule."""
        found = dict(plan.hidden)
        for name, rule in plan.hidden_categories.items():
            for row in self._of_categories([name]).tolist():
                found.setdefault(self._catalog.items.id(row), rule)
        return found

    def _shifted(self, plan: Plan) -> I64 | None:
        if not plan.shifts:
            return None
        shifts = np.zeros(len(self._catalog), np.int64)
        for rule, places in plan.shifts:
            rows = self._catalog.items.rows(rule.items)
            shifts[np.union1d(rows[rows >= 0], self._of_categories(rule.categories)).astype(np.int64)] += places
        return shifts

    def _may(self, row: int, filters: Filters) -> bool:
        """Whether an item passes filters: a pin is shown for a query that it does not match, never against a filter."""
        if self._passes is None:
            self._passes = CatalogRules(RulesConfig(), self._catalog)
        if not bool(self._passes.mask(structs.replace(filters, attributes={}))[row]):
            return False
        if not filters.attributes:
            return True
        told = self._item(row).attributes
        return all(_values(told.get(name)) & {*wanted} for name, wanted in filters.attributes.items())

    @staticmethod
    def _barring(filters: Filters, ids: Iterable[str]) -> Filters:
        more = [item for item in ids if item not in filters.deny]
        return structs.replace(filters, deny=[*filters.deny, *more]) if more else filters

    def _moves(self, plan: Plan, moving: set[int], at: dict[int, int], stood: dict[int, int]) -> list[RuleEffect]:
        """Boosts and buries that moved something on this page or among the first hits."""
        items, effects = self._catalog.items, []
        for rule, _ in plan.shifts:
            of_rule = {*items.rows(rule.items).tolist(), *self._of_categories(rule.categories).tolist()} - {-1}
            seen = sorted(of_rule & (moving | {*stood}) & {*at, *stood}, key=lambda row: at.get(row, 1 << 30))
            effects += [
                RuleEffect(rule.id, rule.do, items.id(row), at.get(row), stood.get(row))
                for row in seen
                if at.get(row) != stood.get(row)
            ]
        return effects


def _values(given: object) -> set[str]:
    return {str(one) for one in given} if isinstance(given, list) else set() if given is None else {str(given)}


def _overruled(plan: Plan, at: dict[int, int], stood: dict[int, int], catalog: CatalogView) -> list[RuleEffect]:
    kinds = {rule.id: rule.do for rule, _ in plan.shifts}
    rows = {item: catalog.items.row(item) for _, item, _ in plan.overruled}
    return [
        RuleEffect(rule, kinds.get(rule, "pin"), item, at.get(rows[item]), stood.get(rows[item]), winner)
        for rule, item, winner in plan.overruled
    ]
