"""The home page: a person, and what the system would show them."""

from __future__ import annotations

from typing import Any

from nicegui import ui

from honeyguide.console.frame import Page, Site, fragment, on_act, open_page
from honeyguide.console.render import render
from honeyguide.console.slates import SlateView
from honeyguide.schema.wire import Answer, RecommendRequest, SearchAnswer

__all__ = ["home_page"]

SLOTS = 20


async def home_page(site: Site, person: str | None = None) -> None:
    """Build the page."""
    page = await open_page(site, "home", "Home", person=person)
    with page.main:
        await _Home(page).build()


class _Home:
    def __init__(self, page: Page) -> None:
        self._page = page
        self._examples = page.site.people
        self._hero = fragment("hero.html", tab=page.tab, examples=self._examples).classes("hero-place")
        self._hero.on("submit", self._choose, js_handler=_EMIT_PERSON)
        on_act(self._hero, self._act)
        self._visit = fragment("visit.html", visit=page.tab.visit)
        self._slate = SlateView(page, self._ask, after=self._arrived)

    async def build(self) -> None:
        if not self._examples:
            self._examples = await _examples(self._page)
            self._draw_hero()
        await self._slate.load()

    async def _ask(self) -> Answer:
        return await self._page.api.recommend(RecommendRequest(surface="home", user_id=self._page.tab.person, k=SLOTS))

    def _arrived(self, answer: Answer | SearchAnswer) -> None:
        del answer
        self._visit.content = render("visit.html", visit=self._page.tab.visit)

    def _draw_hero(self) -> None:
        self._hero.content = render("hero.html", tab=self._page.tab, examples=self._examples)

    async def _choose(self, event: Any) -> None:
        await self._switch(str(event.args or "").strip()[:512])

    async def _act(self, act: str, value: str) -> None:
        if act == "person":
            await self._switch(value)
        elif act == "new-person":
            await self._switch("")

    async def _switch(self, person: str) -> None:
        tab = self._page.tab
        if person:
            tab.become(person)
        else:
            tab.become_new()
        self._page.refresh_head()
        self._draw_hero()
        ui.navigate.history.replace("/")
        await self._slate.load()


async def _examples(page: Page) -> tuple[str, ...]:
    found = (await page.hints()).get("examples")
    return tuple(str(person) for person in found[:5]) if isinstance(found, list) else ()


_EMIT_PERSON = """(event) => {
    event.preventDefault();
    emit(new FormData(event.target).get("person"));
}"""
