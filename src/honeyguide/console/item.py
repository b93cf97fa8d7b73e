"""An item's page: the facts, what a person can do with it, and what goes with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nicegui import ui

from honeyguide.console.frame import Page, Site, fragment, on_act, open_page
from honeyguide.console.render import render
from honeyguide.console.signals import RATING, Signal, signals
from honeyguide.console.slates import SlateView
from honeyguide.errors import HoneyguideError
from honeyguide.schema.wire import Answer, EventIn, Item, RecommendRequest

__all__ = ["Origin", "item_page"]

SLOTS = 12


@dataclass(frozen=True)
class Origin:
    """The slate from which the person came here."""

    surface: str | None = None
    request_id: str | None = None
    position: int | None = None


async def item_page(site: Site, item_id: str, origin: Origin) -> None:
    """Build the page."""
    page = await open_page(site, "item", "Title")
    with page.main:
        await _Item(page, item_id, origin).build()


class _Item:
    def __init__(self, page: Page, item_id: str, origin: Origin) -> None:
        self._page, self._id, self._origin = page, item_id, origin
        self._item = Item(item_id=item_id)
        self._stars = 0.0
        self._slot = ui.element("div").classes("facts-place")
        self._slot_related = ui.element("section")

    async def build(self) -> None:
        with self._slot:
            fragment("skeleton.html")
        if await self._page.attempt(self._slot, self._load):
            await self._came_from_a_slate()

    async def _load(self) -> None:
        self._item = await self._page.api.item(self._id)
        ui.page_title(f"{self._title} · {self._page.site.title}")
        self._slot.clear()
        with self._slot:
            self._facts = on_act(fragment("facts.html", **self._values()), self._act)
        self._slot_related.clear()
        with self._slot_related:
            fragment("subtitle.html", title="Goes well with it", text="Related titles, for this person.")
            self._related = SlateView(self._page, self._ask, on_board=self._pinned)
        await self._related.load()

    async def _came_from_a_slate(self) -> None:
        """Log the click that led here, once: a reload carries the same event id."""
        origin = self._origin
        if origin.request_id is None:
            return
        event = EventIn(
            user_id=self._page.tab.person,
            item_id=self._id,
            action="click",
            event_id=f"{origin.request_id}:{self._id}:click"[:512],
            surface=origin.surface,
            request_id=origin.request_id,
            position=origin.position,
        )
        try:
            await self._page.api.record(event)
        except HoneyguideError as error:
            self._related.say("This click could not be logged.", str(error))

    @property
    def _title(self) -> str:
        return self._item.title or self._item.item_id

    def _values(self) -> dict[str, Any]:
        return {"item": self._item, "stars": self._stars, "on_board": self._id in self._page.tab.board}

    async def _ask(self) -> Answer:
        return await self._page.api.recommend(
            RecommendRequest(surface="item", user_id=self._page.tab.person, item_id=self._id, k=SLOTS)
        )

    async def _pinned(self) -> None:
        self._related.refresh()

    async def _act(self, act: str, value: str) -> None:
        if act == "board":
            self._page.tab.pin(self._id)
            self._page.refresh_head()
            self._facts.content = render("facts.html", **self._values())
            self._related.say(f"{self._title} is on your board.")
        elif act == "rate" and value in {"1", "2", "3", "4", "5"}:
            await self._log(act, float(value))
        elif act in {"watched", "liked"}:
            await self._log(act)

    async def _log(self, act: str, stars: float | None = None) -> None:
        try:
            signal = signals(await self._page.pipeline()).get(act) or Signal(RATING, stars, f"Rated {stars:g} of 5")
            await self._page.log(self._id, signal.action, signal.value, surface="item")
        except HoneyguideError as error:
            self._related.say("This could not be logged.", str(error))
            return
        past = signal.past
        if signal.action == RATING and signal.value is not None:
            self._stars = signal.value
        self._page.tab.remember(self._id, self._title, next(iter(self._item.categories), ""), past)
        self._facts.content = render("facts.html", **self._values())
        self._related.say(f"{past}: {self._title}.", "Logged; it counts in the next answer.")
