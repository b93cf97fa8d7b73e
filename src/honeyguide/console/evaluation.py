"""The evaluation page: how good the system is, with an interval on every figure."""

from __future__ import annotations

from typing import Any

from nicegui import ui

from honeyguide.console.charts import forest
from honeyguide.console.figures import Evaluation, metric_meaning, protocol_words, verdict
from honeyguide.console.frame import Page, Site, fragment, on_act, open_page
from honeyguide.console.render import render

__all__ = ["evaluation_page"]


async def evaluation_page(site: Site) -> None:
    """Build the page."""
    page = await open_page(site, "evaluation", "Evaluation")
    with page.main:
        await _EvaluationView(page).build()


class _EvaluationView:
    def __init__(self, page: Page) -> None:
        self._page = page
        self._metric, self._segment = "", ""
        self._charts: list[Any] = []
        text = "Measured on what people did after the system last looked; every figure with its 95% interval."
        fragment("title.html", title="Evaluation", text=text, hero=True)
        self._slot = ui.element("div").classes("stack")
        ui.on("theme", self._recolour)

    async def build(self) -> None:
        with self._slot:
            fragment("skeleton.html")
        await self._page.attempt(self._slot, self._load)

    async def _load(self) -> None:
        self._evaluation = Evaluation.read(await self._page.api.evaluation())
        self._metric = next(iter(self._evaluation.metrics), "")
        self._segment = next(iter(self._evaluation.segments), "")
        self._slot.clear()
        with self._slot:
            fragment("verdicts.html", evaluation=self._evaluation, verdict=verdict, words=protocol_words)
            if self._evaluation.cells:
                self._choose = on_act(fragment("choose.html", **self._chosen()), self._act)
                self._protocols = ui.element("div").classes("stack")
                self._draw()
            fragment("meanings.html", evaluation=self._evaluation, meaning=metric_meaning)

    def _chosen(self) -> dict[str, Any]:
        return {"evaluation": self._evaluation, "metric": self._metric, "segment": self._segment}

    def _draw(self) -> None:
        self._protocols.clear()
        self._charts = []
        with self._protocols:
            for protocol in self._evaluation.protocols:
                with ui.element("section").classes("panel protocol"):
                    heading, words = protocol_words(self._evaluation, protocol)
                    fragment("subtitle.html", title=heading, text=words)
                    options, rows = forest(self._evaluation, protocol, self._metric)
                    if rows:
                        label = f"{self._metric} by segment and system, {protocol}; the table holds the same figures"
                        chart = ui.echart(options, renderer="svg").classes("chart").style(f"height:{rows * 24 + 92}px")
                        chart.props["role"], chart.props["aria-label"] = "img", label
                        self._charts.append(chart)
                    fragment("table.html", protocol=protocol, **self._chosen())

    async def _act(self, act: str, value: str) -> None:
        if act == "metric" and value in self._evaluation.metrics:
            self._metric = value
        elif act == "segment" and value in self._evaluation.segments:
            self._segment = value
        else:
            return
        self._choose.content = render("choose.html", **self._chosen())
        self._draw()

    def _recolour(self) -> None:
        for chart in self._charts:
            chart.update()
