"""The reports page: what saved queries found, as the newest build left it."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from nicegui import ui
from starlette.responses import HTMLResponse

from honeyguide.console.client import ApiError
from honeyguide.console.frame import Page, Site, fragment, open_page
from honeyguide.console.render import render
from honeyguide.errors import HoneyguideError

__all__ = ["report_alone", "reports_page"]

# A report holds styles and pictures of its own and nothing else: whatever got into it, nothing runs or is fetched.
_ONLY_ITSELF = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'self'; sandbox"


async def reports_page(site: Site, name: str) -> None:
    """Build the page; `name`: which report, "" = the first."""
    page = await open_page(site, "reports", "Reports")
    with page.main:
        await _ReportsView(page, name).build()


async def report_alone(site: Site, name: str) -> HTMLResponse:
    """A report as it was written, for a frame or a window of its own."""
    try:
        found = await site.api.report(name)
    except HoneyguideError as error:
        title = error.title if isinstance(error, ApiError) else "This did not work"
        status = error.status if isinstance(error, ApiError) and error.status else error.http_status
        return HTMLResponse(render("plain.html", site=site, status=status, heading=title, text=str(error)), status)
    return HTMLResponse(str(found.get("html", "")), headers={"content-security-policy": _ONLY_ITSELF})


class _ReportsView:
    def __init__(self, page: Page, name: str) -> None:
        self._page, self._name = page, name
        text = "What saved queries find in the data, asked anew with every build."
        fragment("title.html", title="Reports", text=text, hero=True)
        self._slot = ui.element("div").classes("stack")

    async def build(self) -> None:
        with self._slot:
            fragment("skeleton.html")
        await self._page.attempt(self._slot, self._load)

    async def _load(self) -> None:
        found: list[dict[str, Any]] = (await self._page.api.reports()).get("reports", [])
        chosen = next((one for one in found if one.get("name") == self._name), found[0] if found else None)
        self._slot.clear()
        with self._slot:
            fragment("reports.html", reports=found, chosen=chosen, address=report_address)


def report_address(name: str) -> str:
    """Where the console shows a report alone."""
    return f"/reports/page/{quote(name, safe='')}"
