"""The request page: a person and a surface, or an answer by its id, and every candidate's way from source to slot."""

from __future__ import annotations

from collections import Counter
from typing import Any

from nicegui import ui

from honeyguide.console.frame import Page, Site, fragment, on_act, open_page
from honeyguide.console.render import render
from honeyguide.schema.wire import RecommendRequest

__all__ = ["Wanted", "trace_page"]

SLOTS = 20
FIRST = 40
"""Candidates that are drawn at first; a button draws the rest."""
_EMIT_FORM = """(event) => {
    event.preventDefault();
    emit(Object.fromEntries(new FormData(event.target)));
}"""
OUTCOMES = {
    "seen": "had already",
    "outranked": "no slot left",
    "category_cap": "category full",
    "hidden_by_the_person": "hidden by the person",
    "unavailable": "not available",
    "rule_deny": "denied by a rule",
    "frequency_cap": "shown too often",
}


class Wanted:
    """What the address asked for."""

    def __init__(
        self, *, person: str = "", surface: str = "home", items: str = "", request_id: str = "", item: str = ""
    ) -> None:
        self.person, self.surface, self.items = person, surface, items
        self.request_id, self.item = request_id, item


async def trace_page(site: Site, wanted: Wanted) -> None:
    """Build the page."""
    page = await open_page(site, "pipeline", "One request")
    with page.main:
        await _Trace(page, wanted).build()


class _Trace:
    def __init__(self, page: Page, wanted: Wanted) -> None:
        self._page, self._wanted = page, wanted
        if not wanted.person and not page.tab.is_new:
            wanted.person = page.tab.person
        self._trace: dict[str, Any] = {}
        self._why: dict[str, Any] | None = None
        self._filter, self._all = "", False
        fragment("title.html", title="One request", text="Every candidate's way from its sources to a slot.", hero=True)
        fragment("subnav.html", here="trace")
        self._form = fragment("trace_form.html", wanted=wanted, surfaces=[wanted.surface]).classes("trace-form")
        self._form.on("submit", self._asked, js_handler=_EMIT_FORM)
        self._slot = ui.element("div").classes("stack")

    async def build(self) -> None:
        surfaces = list((await self._page.hints()).get("surfaces") or ["home"])
        self._form.content = render("trace_form.html", wanted=self._wanted, surfaces=surfaces)
        await self._load()

    async def _load(self) -> None:
        self._slot.clear()
        with self._slot:
            fragment("skeleton.html")
        await self._page.attempt(self._slot, self._fill)

    async def _asked(self, event: Any) -> None:
        given = event.args if isinstance(event.args, dict) else {}
        text = {name: str(given.get(name) or "").strip()[:512] for name in ("person", "surface", "items", "request_id")}
        self._wanted = Wanted(**text)
        self._why, self._filter, self._all = None, "", False
        await self._load()

    async def _fill(self) -> None:
        wanted, api = self._wanted, self._page.api
        if wanted.request_id:
            self._trace = await api.trace_again(wanted.request_id)
            if wanted.item:
                self._why = await api.why(wanted.request_id, wanted.item)
        else:
            seeds = [one.strip() for one in wanted.items.split("|") if one.strip()]
            alone = wanted.surface != "board"
            self._trace = await api.trace(
                RecommendRequest(
                    surface=wanted.surface or "home",
                    user_id=wanted.person or None,
                    item_id=seeds[0] if seeds and alone else None,
                    board_items=[] if alone else seeds,
                    k=SLOTS,
                    log=False,
                )
            )
        self._slot.clear()
        with self._slot:
            if self._why is not None:
                fragment("why.html", why=self._why)
            fragment("trace_funnel.html", trace=self._trace)
            self._table = on_act(fragment("trace_candidates.html", **self._rows()), self._act)

    def _rows(self) -> dict[str, Any]:
        candidates = self._trace.get("candidates") or []
        outcomes = Counter(_outcome(one) for one in candidates)
        rows = [one for one in candidates if not self._filter or _outcome(one) == self._filter]
        heads = [one["name"] for one in self._trace.get("heads") or []]
        scored = [name for name in heads if any(_score(one, name) is not None for one in candidates)]
        return {
            "rows": rows if self._all else rows[:FIRST], "total": len(rows), "outcomes": outcomes.most_common(),
            "chosen": self._filter, "names": OUTCOMES, "heads": scored, "outcome": _outcome,
            "calibrated": {one["name"] for one in self._trace.get("heads") or [] if one.get("calibrated")},
            "request_id": self._wanted.request_id, "count_all": len(candidates),
        }  # fmt: skip

    async def _act(self, act: str, value: str) -> None:
        if act == "filter":
            self._filter, self._all = value, False
        elif act == "all":
            self._all = True
        self._table.content = render("trace_candidates.html", **self._rows())


def _score(candidate: dict[str, Any], head: str) -> Any:
    return (candidate.get("heads") or {}).get(head, {}).get("score")


def _outcome(candidate: dict[str, Any]) -> str:
    return "shown" if candidate.get("slot") else str(candidate.get("dropped_by") or "unknown")
