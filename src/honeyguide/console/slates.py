"""A slate on a page: the cards, what a click does to them, and what is behind the answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from nicegui import ui

from honeyguide.console.changes import Change, compare
from honeyguide.console.frame import Page, fragment, on_act
from honeyguide.console.render import render
from honeyguide.console.signals import ranks_only, signals
from honeyguide.schema.wire import Answer, SearchAnswer, ShownItem

__all__ = ["SlateView", "places_of"]

_TO_NOTICE = """
const place = document.querySelector(".notice-place");
if (place && place.getBoundingClientRect().top < 60) place.scrollIntoView({behavior: "smooth"});
"""


class SlateView:
    """Shows what `ask` answers. With `follows`, a click is logged and the next answer is asked at once."""

    def __init__(
        self,
        page: Page,
        ask: Callable[[], Awaitable[Answer | SearchAnswer]],
        *,
        follows: bool = True,
        after: Callable[[Answer | SearchAnswer], None] | None = None,
        on_board: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._page, self._ask, self._follows = page, ask, follows
        self._after, self._on_board = after, on_board
        self._answer: Answer | SearchAnswer | None = None
        self._done: set[str] = set()
        self._ranks_only: frozenset[str] = frozenset()
        self._lock = asyncio.Lock()
        self._notice = fragment("notice.html").classes("notice-place").props("role=status aria-live=polite")
        self._slot = ui.element("div").classes("slate-place")

    async def load(self) -> None:
        """Ask and show, from nothing."""
        self._slot.clear()
        with self._slot:
            fragment("skeleton.html", cards=True)
        self.say("")
        await self._page.attempt(self._slot, self._fill)

    def say(self, sentence: str, detail: str = "") -> None:
        """Put a sentence over the list, or take it away."""
        self._notice.content = render("notice.html", sentence=sentence, detail=detail)

    def refresh(self) -> None:
        """Draw the same answer again."""
        if self._answer is not None:
            self._draw(self._answer, None)

    async def _fill(self) -> None:
        answer = await self._ask()
        self._ranks_only = ranks_only(await self._page.hints(), answer.surface)
        self._show(answer, None)

    def _show(self, answer: Answer | SearchAnswer, change: Change | None) -> None:
        self._answer = answer
        self._draw(answer, change)
        if self._after is not None:
            self._after(answer)

    def _draw(self, answer: Answer | SearchAnswer, change: Change | None) -> None:
        self._slot.clear()
        with self._slot:
            board, done = set(self._page.tab.board), self._done
            places = places_of(answer.items, self._ranks_only)
            view = fragment("slate.html", answer=answer, change=change, board=board, done=done, places=places)
            on_act(view, self._act)

    async def _act(self, act: str, value: str) -> None:
        async with self._lock:
            item = self._find(value)
            if item is None:
                return
            if act == "board":
                await self._pin(item)
            else:
                await self._click(item, act)

    def _find(self, item_id: str) -> ShownItem | None:
        shown = self._answer.items if self._answer is not None else []
        return next((item for item in shown if item.item_id == item_id), None)

    async def _pin(self, item: ShownItem) -> None:
        self._page.tab.pin(item.item_id)
        self._page.refresh_head()
        self.say(f"{item.title or item.item_id} is on your board.")
        if self._on_board is not None:
            await self._on_board()
        else:
            self.refresh()

    async def _click(self, item: ShownItem, act: str) -> None:
        before = self._answer
        if before is None:
            return
        title = item.title or item.item_id

        async def step() -> None:
            signal = signals(await self._page.pipeline()).get(act)
            if signal is None:
                return
            past = signal.past
            where: dict[str, Any] = {"surface": before.surface, "request_id": before.request_id}
            if isinstance(before, SearchAnswer):
                where["query"] = before.query
            await self._page.log(item.item_id, signal.action, signal.value, position=item.position, **where)
            self._page.tab.remember(item.item_id, title, item.categories[0] if item.categories else "", past)
            self._done.add(f"{act}:{item.item_id}")
            if not self._follows:
                self._draw(before, None)
                self.say(f"{past}: {title}.", "Logged; it counts in this person's next answer.")
                return
            answer = await self._ask()
            ids = [shown.item_id for shown in before.items], [shown.item_id for shown in answer.items]
            change = compare(*ids, taken=item.item_id)
            self._show(answer, change)
            self.say(change.sentence("Your click"), _detail(title, past, change, answer))
            ui.run_javascript(_TO_NOTICE)

        if not await self._page.attempt(self._slot, step):
            self.say("")


def places_of(items: Sequence[ShownItem], heads: Iterable[str]) -> dict[str, dict[str, int]]:
    """Head -> item -> its place by that head within the list, 1 = highest."""
    return {
        head: {
            item.item_id: place
            for place, item in enumerate(
                sorted((item for item in items if head in item.heads), key=lambda item: -item.heads[head]), start=1
            )
        }
        for head in heads
    }


def _detail(title: str, past: str, change: Change, answer: Answer | SearchAnswer) -> str:
    explored = sum(item.explored and item.item_id in change.new for item in answer.items)
    parts = [f"{past} {title}."]
    if change.new and change.moved:
        parts.append(f"{len(change.moved)} others moved.")
    if explored:
        parts.append(f"{explored} of the new ones by exploration." if change.new else "")
    return " ".join(parts)
