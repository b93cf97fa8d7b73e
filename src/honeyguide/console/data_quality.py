"""The data page: what came in, what was held back and why, load by load."""

from __future__ import annotations

from typing import Any

from nicegui import ui

from honeyguide.console.frame import Page, Site, fragment, on_act, open_page
from honeyguide.console.quality_charts import held_back, volume
from honeyguide.console.quality_figures import LIVE_REASONS, DataQuality
from honeyguide.console.render import render

__all__ = ["data_quality_page"]

FIRST_LOADS = 10


async def data_quality_page(site: Site) -> None:
    """Build the page."""
    page = await open_page(site, "data", "Data")
    with page.main:
        await _DataView(page).build()


class _DataView:
    def __init__(self, page: Page) -> None:
        self._page = page
        self._shown = FIRST_LOADS
        self._charts: list[Any] = []
        text = "What came in, what was held back and why. Rows in = accepted + held back, in every load."
        fragment("title.html", title="Data", text=text, hero=True)
        self._slot = ui.element("div").classes("stack")
        ui.on("theme", self._recolour)

    async def build(self) -> None:
        with self._slot:
            fragment("skeleton.html")
        await self._page.attempt(self._slot, self._load)

    async def _load(self) -> None:
        self._quality = DataQuality.read(await self._page.api.quality())
        self._charts = []
        self._slot.clear()
        with self._slot:
            if self._quality.loads or self._quality.reasons:
                fragment("quality_sums.html", quality=self._quality)
                self._draw_days()
                self._draw_reasons()
                self._list = on_act(fragment("quality_loads.html", **self._listed()), self._act)
            else:
                fragment("quality_none.html")
            if self._quality.live:
                fragment("quality_live.html", quality=self._quality, reasons=LIVE_REASONS)
            fragment("quality_meanings.html", quality=self._quality)

    def _draw_days(self) -> None:
        if not self._quality.days:
            return
        with ui.element("section").classes("panel"):
            odd = sum(day.odd for day in self._quality.days)
            fragment("quality_days.html", quality=self._quality, odd=odd)
            self._chart(volume(self._quality.days), 260, "Events per day, with what is usual for the weekday")

    def _draw_reasons(self) -> None:
        with ui.element("section").classes("panel"):
            fragment("quality_reasons.html", quality=self._quality)
            options, loads = held_back(self._quality.loads)
            if loads:
                label = "Share of rows held back in each load, by reason; the table holds the same figures"
                self._chart(options, 230, label)

    def _chart(self, options: dict[str, Any], height_px: int, label: str) -> None:
        chart = ui.echart(options, renderer="svg").classes("chart").style(f"height:{height_px}px")
        chart.props["role"], chart.props["aria-label"] = "img", label
        self._charts.append(chart)

    def _listed(self) -> dict[str, Any]:
        return {"loads": self._quality.loads[: self._shown], "quality": self._quality, "left": self._left}

    @property
    def _left(self) -> int:
        return max(0, len(self._quality.loads) - self._shown)

    async def _act(self, act: str, value: str) -> None:
        del value
        if act == "more":
            self._shown = len(self._quality.loads)
            self._list.content = render("quality_loads.html", **self._listed())

    def _recolour(self) -> None:
        for chart in self._charts:
            chart.update()
