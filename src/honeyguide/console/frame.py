"""What all pages share: the head, the tab's state, and a clear message when the API is in trouble."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from nicegui import app, ui

from honeyguide.console.client import Api, ApiError
from honeyguide.console.render import render
from honeyguide.console.tab import Tab
from honeyguide.errors import HoneyguideError
from honeyguide.schema.wire import EventIn

__all__ = ["Page", "Site", "fragment", "on_act", "open_page"]

NAVIGATION = (
    ("home", "/", "Home"),
    ("search", "/search", "Search"),
    ("board", "/board", "Board"),
    ("traffic", "/traffic", "Traffic"),
    ("evaluation", "/evaluation", "Evaluation"),
    ("data", "/data", "Data"),
    ("reports", "/reports", "Reports"),
    ("pipeline", "/pipeline", "Pipeline"),
)
CONNECT_S = 30.0

# One listener per fragment: the button under the pointer says what it does in its data attributes.
_EMIT_ACT = """(event) => {
    const button = event.target.closest("[data-act]");
    if (button) emit({act: button.dataset.act, value: button.dataset.value ?? ""});
}"""


@dataclass(frozen=True)
class Site:
    """What the console was started with."""

    api: Api
    title: str
    people: tuple[str, ...]


@dataclass
class Page:
    """An open page of one browser tab."""

    site: Site
    tab: Tab
    main: Any
    head: Any
    here: str
    _pipeline: dict[str, Any] | None = None

    @property
    def api(self) -> Api:
        """The API."""
        return self.site.api

    def refresh_head(self) -> None:
        """Show in the head who is looking and how much is on the board."""
        self.head.content = _head(self.site, self.here, self.tab)

    async def attempt(self, slot: Any, work: Callable[[], Awaitable[None]]) -> bool:
        """Run `work`; if the API is in trouble, say so inside `slot` with a way to try again."""
        try:
            await work()
        except HoneyguideError as error:
            self._say(slot, error, work)
            return False
        return True

    def _say(self, slot: Any, error: HoneyguideError, work: Callable[[], Awaitable[None]]) -> None:
        async def again(act: str, value: str) -> None:
            del act, value
            slot.clear()
            with slot:
                fragment("skeleton.html")
            await self.attempt(slot, work)

        slot.clear()
        with slot:
            title = error.title if isinstance(error, ApiError) else "This did not work"
            on_act(fragment("problem.html", title=title, error=error), again)

    async def pipeline(self) -> dict[str, Any]:
        """What the build is made of, asked once per page."""
        if self._pipeline is None:
            self._pipeline = await self.api.pipeline()
        return self._pipeline

    async def hints(self) -> dict[str, Any]:
        """The same where it is only a help: nothing when it cannot be had; the page's own question will say why."""
        try:
            return await self.pipeline()
        except HoneyguideError:
            return {}

    async def log(self, item_id: str, action: str, value: float | None = None, **where: Any) -> None:
        """Log what the person did."""
        await self.api.record(EventIn(user_id=self.tab.person, item_id=item_id, action=action, value=value, **where))


def fragment(template: str, *, tag: str = "div", **values: Any) -> Any:
    """A piece of the page from a template. Templates escape whatever they are given, so no further cleaning."""
    return ui.html(render(template, **values), sanitize=False, tag=tag)


def on_act(element: Any, handler: Callable[[str, str], Awaitable[None]]) -> Any:
    """Call `handler(act, value)` when something with `data-act` inside the element is clicked."""

    async def receive(event: Any) -> None:
        sent = event.args if isinstance(event.args, dict) else {}
        await handler(str(sent.get("act", "")), str(sent.get("value", "")))

    return element.on("click", receive, js_handler=_EMIT_ACT)


async def open_page(site: Site, here: str, title: str, *, person: str | None = None) -> Page:
    """Draw the frame, wait for the browser, and hand over an empty page."""
    ui.page_title(f"{title} · {site.title}")
    head = ui.html(_head(site, here, None), sanitize=False, tag="header").classes("head")
    main = ui.element("main").classes("main")
    with main:
        fragment("skeleton.html")
    await ui.context.client.connected(timeout=CONNECT_S)
    tab = Tab(app.storage.tab)
    if person:
        tab.become(person)
    page = Page(site, tab, main, head, here)
    page.refresh_head()
    main.clear()
    return page


def _head(site: Site, here: str, tab: Tab | None) -> str:
    return render("head.html", site=site, here=here, navigation=NAVIGATION, tab=tab)
