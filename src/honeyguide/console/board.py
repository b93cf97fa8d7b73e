"""The board page: a collection in the making, and what would go with it."""

from __future__ import annotations

import asyncio

from nicegui import ui

from honeyguide.console.client import ApiError
from honeyguide.console.combo import Combo
from honeyguide.console.frame import Page, Site, fragment, on_act, open_page
from honeyguide.console.slates import SlateView
from honeyguide.schema.wire import Answer, Item, RecommendRequest, SearchRequest, Suggestion

__all__ = ["board_page"]

SLOTS = 18


async def board_page(site: Site, person: str | None = None) -> None:
    """Build the page."""
    page = await open_page(site, "board", "Board", person=person)
    with page.main:
        await _Board(page).build()


class _Board:
    def __init__(self, page: Page) -> None:
        self._page = page
        self._known: dict[str, Item] = {}
        with ui.element("section").classes("hero"):
            fragment("title.html", title="Board", text="Pick a few titles; the list below goes with all of them.")
            self._combo = Combo(
                page,
                label="Add a title to the board",
                placeholder="Add a title",
                text="",
                on_text=self._add_best,
                on_pick=self._add,
                kinds=frozenset({"title"}),
                button="Add",
            )
        self._shelf = ui.element("div").classes("shelf-place")
        self._slot = ui.element("section")

    async def build(self) -> None:
        await self._page.attempt(self._slot, self._draw)

    async def _draw(self) -> None:
        board = self._page.tab.board
        await asyncio.gather(*(self._learn(item_id) for item_id in board if item_id not in self._known))
        self._page.refresh_head()
        self._shelf.clear()
        with self._shelf:
            on_act(fragment("shelf.html", items=[self._known[item_id] for item_id in board]), self._act)
        self._slot.clear()
        if board:
            with self._slot:
                self._slate = SlateView(self._page, self._ask, on_board=self._draw)
            await self._slate.load()

    async def _learn(self, item_id: str) -> None:
        try:
            self._known[item_id] = await self._page.api.item(item_id)
        except ApiError as error:
            if error.status != 404:
                raise
            self._known[item_id] = Item(item_id=item_id)  # gone from the catalog, still on the board

    async def _ask(self) -> Answer:
        tab = self._page.tab
        return await self._page.api.recommend(
            RecommendRequest(surface="board", user_id=tab.person, board_items=tab.board, k=SLOTS)
        )

    async def _act(self, act: str, value: str) -> None:
        if act == "unpin":
            self._page.tab.unpin(value)
            await self.build()

    async def _add(self, suggestion: Suggestion) -> None:
        if suggestion.item_id is None:
            await self._add_best(suggestion.text)
            return
        self._page.tab.pin(suggestion.item_id)
        self._combo.set_text("")
        await self.build()

    async def _add_best(self, text: str) -> None:
        async def find() -> None:
            answer = await self._page.api.search(SearchRequest(query=text[:1_000], k=1, log=False))
            if not answer.items:
                raise ApiError(
                    "No title fits",
                    status=404,
                    expected="a title of the catalog",
                    got=repr(text),
                    do="Try other words.",
                )
            self._page.tab.pin(answer.items[0].item_id)
            self._combo.set_text("")
            await self._draw()

        if text:
            await self._page.attempt(self._slot, find)
