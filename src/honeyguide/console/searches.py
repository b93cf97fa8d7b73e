"""Pages for whoever runs search: traffic, merchandising rules, and judging result lists by keyboard."""

from __future__ import annotations

from typing import Any

from nicegui import ui

from honeyguide.console.frame import Page, Site, fragment, on_act, open_page
from honeyguide.console.render import render
from honeyguide.schema.wire import JudgeRequest, JudgmentIn

__all__ = ["judge_page", "rules_page", "traffic_page"]

RATES = (
    ("zero_rate", "found nothing", "down"), ("click_rate", "led to a click", "up"),
    ("reformulation_rate", "were asked anew", "down"), ("abandon_rate", "were given up", "down"),
)  # fmt: skip


async def traffic_page(site: Site) -> None:
    """What people search for, what comes of it, and what has changed in a week."""
    page = await _opened(site, "traffic", "Search traffic", "What people ask for, and what comes of it.")
    slot = _slot(page)

    async def load() -> None:
        found = await page.api.traffic()
        slot.clear()
        with slot:
            fragment("traffic.html", traffic=found, rates=RATES, verdict=_verdict)

    await page.attempt(slot, load)


def _verdict(change: object, better: str) -> str:
    """`better`, `worse`, or `open` when the interval holds zero."""
    if not isinstance(change, dict) or change["low"] <= 0 <= change["high"]:
        return "open"
    return "better" if (change["estimate"] > 0) == (better == "up") else "worse"


async def rules_page(site: Site, query: str = "") -> None:
    """The rules, what there is to say against them, and what they do to the list of a query."""
    page = await _opened(
        site, "merchandising", "Merchandising", "What is pinned, lifted, lowered and hidden, and where."
    )
    slot = _slot(page)

    async def load() -> None:
        found = await page.api.merchandising()
        answer = await page.api.effects(query) if query else None
        slot.clear()
        with slot:
            fragment("rules.html", rules=found.get("rules") or [], found=found.get("found") or [],
                     wrong=found.get("wrong") or "", query=query, answer=answer)  # fmt: skip

    await page.attempt(slot, load)


async def judge_page(site: Site, rater: str = "", query: str = "") -> None:
    """One list after another: 0 to 3 grades the item and moves on, the arrows move."""
    page = await _opened(
        site, "judge", "Judge", "How well does each item answer the query? Keys 0 to 3, and the arrows."
    )
    with page.main:
        await _Judge(page, rater.strip()[:100], query[:1_000]).build()


async def _opened(site: Site, here: str, title: str, text: str) -> Page:
    page = await open_page(site, "traffic", title)
    with page.main:
        fragment("title.html", title=title, text=text, hero=True)
        fragment("searchnav.html", here=here)
    return page


def _slot(page: Page) -> Any:
    with page.main:
        slot = ui.element("div").classes("stack")
        with slot:
            fragment("skeleton.html")
    return slot


class _Judge:
    def __init__(self, page: Page, rater: str, query: str) -> None:
        self._page, self._rater, self._query = page, rater, query
        self._list: dict[str, Any] = {}
        self._at = 0
        self._view = fragment("judge.html", rater=rater, list=None, at=0, summary=None)
        self._slot = ui.element("div").classes("stack")
        on_act(self._view, self._act)
        ui.keyboard(on_key=self._key)

    async def build(self) -> None:
        if self._rater:
            await self._page.attempt(self._slot, self._next)

    async def _next(self) -> None:
        api = self._page.api
        self._list = await api.to_judge(self._rater, self._query or None)
        self._query = ""
        ungraded = (at for at, item in enumerate(self._list["items"]) if item["grade"] is None)
        self._at = next(ungraded, 0)
        self._draw(await api.judgments() if self._list["query"] is None else None)

    def _draw(self, summary: dict[str, Any] | None = None) -> None:
        self._view.content = render("judge.html", rater=self._rater, list=self._list, at=self._at, summary=summary)

    async def _key(self, event: Any) -> None:
        if not event.action.keydown or not self._list.get("items"):
            return
        name = str(event.key)
        if name in ("0", "1", "2", "3"):
            await self._page.attempt(self._slot, lambda: self._grade(int(name)))
        elif name in ("ArrowDown", "ArrowUp"):
            self._move(1 if name == "ArrowDown" else -1)
        elif name == "ArrowRight":
            await self._page.attempt(self._slot, self._next)

    def _move(self, by: int) -> None:
        self._at = min(max(self._at + by, 0), len(self._list["items"]) - 1)
        self._draw()

    async def _grade(self, grade: int) -> None:
        item = self._list["items"][self._at]
        await self._page.api.judge(JudgeRequest(self._list["query"], self._rater, [JudgmentIn(item["item_id"], grade)]))
        item["grade"] = grade
        if all(one["grade"] is not None for one in self._list["items"]):
            await self._next()
        else:
            self._move(1)

    async def _act(self, act: str, value: str) -> None:
        if act == "item" and value.isdigit() and int(value) < len(self._list.get("items", [])):
            self._at = int(value)
            self._draw()
        elif act == "grade" and value in ("0", "1", "2", "3") and self._list.get("items"):
            await self._page.attempt(self._slot, lambda: self._grade(int(value)))
        elif act == "next":
            await self._page.attempt(self._slot, self._next)
