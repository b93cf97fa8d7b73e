"""The models page: every build with its state and figures, the moves, and what the shadow saw."""

from __future__ import annotations

from typing import Any

from nicegui import ui

from honeyguide.console.frame import Page, Site, fragment, open_page

__all__ = ["models_page"]


async def models_page(site: Site) -> None:
    """Build the page."""
    page = await open_page(site, "pipeline", "Models")
    with page.main:
        await _Models(page).build()


class _Models:
    def __init__(self, page: Page) -> None:
        self._page = page
        fragment("title.html", title="Models", text="What was built, what serves, and what is on trial.", hero=True)
        fragment("subnav.html", here="models")
        self._slot = ui.element("div").classes("stack")

    async def build(self) -> None:
        with self._slot:
            fragment("skeleton.html")
        await self._page.attempt(self._slot, self._load)

    async def _load(self) -> None:
        found: dict[str, Any] = await self._page.api.models()
        self._slot.clear()
        with self._slot:
            fragment("models.html", models=found.get("models") or [])
            shadow = found.get("shadow") or {}
            if shadow.get("shadow"):
                fragment("shadow.html", shadow=shadow)
            fragment("moves.html", moves=list(reversed(found.get("moves") or [])))
