"""The addresses of the console and the page behind each."""

from __future__ import annotations

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from nicegui import app, ui
from starlette.responses import HTMLResponse, Response

from honeyguide.console.board import board_page
from honeyguide.console.client import Api
from honeyguide.console.data_quality import data_quality_page
from honeyguide.console.evaluation import evaluation_page
from honeyguide.console.frame import Site
from honeyguide.console.home import home_page
from honeyguide.console.item import Origin, item_page
from honeyguide.console.models import models_page
from honeyguide.console.pipeline import pipeline_page
from honeyguide.console.render import render
from honeyguide.console.reports import report_alone, reports_page
from honeyguide.console.search import search_page
from honeyguide.console.searches import judge_page, rules_page, traffic_page
from honeyguide.console.trace import Wanted, trace_page

__all__ = ["add_pages"]


def add_pages(api: Api, title: str, people: tuple[str, ...]) -> None:
    """Register every page with NiceGUI."""
    site = Site(api, title, people)

    @ui.page("/")
    async def home(person: str | None = None) -> None:
        await home_page(site, person)

    @ui.page("/search")
    async def search(q: str = "", person: str | None = None) -> None:
        await search_page(site, q, person)

    @ui.page("/item/{item_id:path}")
    async def item(
        item_id: str, surface: str | None = None, request_id: str | None = None, position: int | None = None
    ) -> None:
        await item_page(site, item_id, Origin(surface, request_id, position))

    @ui.page("/board")
    async def board(person: str | None = None) -> None:
        await board_page(site, person)

    @ui.page("/evaluation")
    async def evaluation() -> None:
        await evaluation_page(site)

    @ui.page("/data")
    async def data() -> None:
        await data_quality_page(site)

    @ui.page("/reports")
    async def reports(name: str = "") -> None:
        await reports_page(site, name)

    @app.get("/reports/page/{name}")
    async def report(name: str) -> Response:
        return await report_alone(site, name)

    @ui.page("/traffic")
    async def traffic() -> None:
        await traffic_page(site)

    @ui.page("/merchandising")
    async def merchandising(q: str = "") -> None:
        await rules_page(site, q[:1_000])

    @ui.page("/judge")
    async def judge(rater: str = "", query: str = "") -> None:
        await judge_page(site, rater, query)

    @ui.page("/pipeline")
    async def pipeline() -> None:
        await pipeline_page(site)

    @ui.page("/trace")
    async def trace(
        person: str = "", surface: str = "home", items: str = "", request_id: str = "", item: str = ""
    ) -> None:
        await trace_page(site, Wanted(person=person, surface=surface, items=items, request_id=request_id, item=item))

    @ui.page("/models")
    async def models() -> None:
        await models_page(site)

    def lost(request: Request, error: Exception) -> Response:
        del request, error
        return HTMLResponse(_plain(404, "There is no such page", "The address may be mistyped."), 404)

    def refused(request: Request, error: Exception) -> Response:
        del request, error
        return HTMLResponse(_plain(422, "This address cannot be read", "A part of it has the wrong form."), 422)

    def failed(request: Request, error: Exception) -> Response:
        del request, error
        return HTMLResponse(_plain(500, "This page failed", "The console's log says why."), 500)

    def _plain(status: int, heading: str, text: str) -> str:
        return render("plain.html", site=site, status=status, heading=heading, text=text)

    app.add_exception_handler(404, lost)
    app.add_exception_handler(RequestValidationError, refused)
    app.add_exception_handler(500, failed)
    app.on_shutdown(api.close)
