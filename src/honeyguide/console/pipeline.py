"""The pipeline page: what happens between a request and its slate, and how the build was made."""

from __future__ import annotations

from typing import Any

from nicegui import ui

from honeyguide.console.frame import Page, Site, fragment, on_act, open_page
from honeyguide.console.render import render

__all__ = ["EVIDENCE", "pipeline_page"]

EVIDENCE = {
    "L0": "interactions only: what people did, not what they were shown",
    "L1": "with impressions and positions: what was shown, and where",
    "L2": "with request and experiment ids: A/B tests can be read",
    "L3": "with propensities: a new policy can be valued on old logs",
}


async def pipeline_page(site: Site) -> None:
    """Build the page."""
    page = await open_page(site, "pipeline", "Pipeline")
    with page.main:
        await _Pipeline(page).build()


class _Pipeline:
    def __init__(self, page: Page) -> None:
        self._page = page
        self._pipeline: dict[str, Any] = {}
        self._surface = ""
        fragment("title.html", title="Pipeline", text="From a request to its slate, stage by stage.", hero=True)
        fragment("subnav.html", here="pipeline")
        self._slot = ui.element("div").classes("stack")

    async def build(self) -> None:
        with self._slot:
            fragment("skeleton.html")
        await self._page.attempt(self._slot, self._load)

    async def _load(self) -> None:
        self._pipeline = await self._page.pipeline()
        surfaces = _mapping(self._pipeline.get("surfaces"))
        self._surface = next(iter(surfaces), "")
        self._slot.clear()
        with self._slot:
            fragment("build.html", pipeline=self._pipeline, evidence=EVIDENCE)
            self._flow = on_act(fragment("flow.html", **self._flow_values()), self._act)
            fragment("features.html", features=_rows(self._pipeline.get("features"), "importance"))
            fragment("steps.html", steps=_rows(self._pipeline.get("steps")))

    def _flow_values(self) -> dict[str, Any]:
        surfaces = _mapping(self._pipeline.get("surfaces"))
        surface = _mapping(surfaces.get(self._surface))
        return {
            "surfaces": list(surfaces),
            "chosen": self._surface,
            "surface": surface,
            "sources": _rows(surface.get("sources"), "weight"),
            "heads": _rows(surface.get("heads")),
            "utility": _mapping(surface.get("utility")),
            "rules": surface.get("rules") if isinstance(surface.get("rules"), list) else [],
        }

    async def _act(self, act: str, value: str) -> None:
        if act == "surface" and value in _mapping(self._pipeline.get("surfaces")):
            self._surface = value
            self._flow.content = render("flow.html", **self._flow_values())


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _rows(value: object, largest_first: str = "") -> list[dict[str, Any]]:
    rows = [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []
    if largest_first:
        rows.sort(key=lambda row: -_number(row.get(largest_first)))
    return rows


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
