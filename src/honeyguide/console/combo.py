"""A text box that completes what is typed. The keyboard part is in console.js."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from nicegui import ui

from honeyguide.console.frame import Page, fragment, on_act
from honeyguide.console.render import render
from honeyguide.errors import HoneyguideError
from honeyguide.schema.wire import Suggestion

__all__ = ["Combo"]

THROTTLE_S = 0.12
PREFIX_LENGTH = 200

_EMIT_TEXT = """(event) => {
    event.preventDefault();
    const box = event.currentTarget.querySelector("input");
    emit(box ? box.value : "");
}"""


class Combo:
    """`on_text(text)` runs when the person presses Enter, `on_pick(suggestion)` when they take a suggestion."""

    def __init__(
        self,
        page: Page,
        *,
        label: str,
        placeholder: str,
        text: str,
        on_text: Callable[[str], Awaitable[None]],
        on_pick: Callable[[Suggestion], Awaitable[None]],
        kinds: frozenset[str] | None = None,
        button: str = "Search",
    ) -> None:
        self._page, self._on_text, self._on_pick, self._kinds = page, on_text, on_pick, kinds
        self._suggestions: list[Suggestion] = []
        self._asked = 0
        self._root = ui.element("div").classes("combo")
        with self._root:
            box = fragment("combo.html", label=label, placeholder=placeholder, text=text, button=button)
            self._list = fragment("suggestions.html", suggestions=[], kinds={}).classes("options")
        box.on("input", self._typed, js_handler=_EMIT_TEXT, throttle=THROTTLE_S, leading_events=False)
        box.on("submit", self._submitted, js_handler=_EMIT_TEXT)
        on_act(self._list, self._picked)

    def set_text(self, text: str) -> None:
        """Put a text into the box."""
        ui.run_javascript(f"honeyguide.setText({self._root.html_id!r}, {text!a})")

    async def _typed(self, event: Any) -> None:
        prefix = str(event.args or "").strip()[:PREFIX_LENGTH]
        self._asked += 1
        turn = self._asked
        found: list[Suggestion] = []
        if prefix:
            try:
                found = (await self._page.api.suggest(prefix)).suggestions
            except HoneyguideError:
                found = []  # completions are a help, not an answer: the search itself says what is wrong
        if turn == self._asked:
            self._offer([one for one in found if self._kinds is None or one.kind in self._kinds])

    def _offer(self, suggestions: list[Suggestion]) -> None:
        self._suggestions = suggestions
        self._list.content = render("suggestions.html", suggestions=suggestions)

    async def _submitted(self, event: Any) -> None:
        self._asked += 1
        self._offer([])
        await self._on_text(str(event.args or "").strip())

    async def _picked(self, act: str, value: str) -> None:
        if act == "pick" and value.isdigit() and int(value) < len(self._suggestions):
            chosen = self._suggestions[int(value)]
            self._asked += 1
            self._offer([])
            await self._on_pick(chosen)
