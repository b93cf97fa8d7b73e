"""The search page: words, suggestions, facets, hits and why they hit."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import urlencode

from nicegui import ui

from honeyguide.console.combo import Combo
from honeyguide.console.frame import Page, Site, fragment, on_act, open_page
from honeyguide.console.render import item_link, render
from honeyguide.console.slates import SlateView
from honeyguide.schema.wire import Answer, Filters, SearchAnswer, SearchRequest, Suggestion

__all__ = ["Choice", "search_page"]

PER_PAGE = 18
QUERY_LENGTH = 1_000

# The facet's name as an API may call it -> the field of `Filters` that narrows by it.
_FIELDS = {
    "categories": "categories", "category": "categories", "genre": "categories", "genres": "categories",
    "people": "people", "person": "people", "countries": "countries", "country": "countries",
    "year": "year", "years": "year", "decade": "year", "decades": "year",
}  # fmt: skip


_ATTRIBUTE = "attributes:"  # before the name of a facet that is none of the catalog's own
SORTS = {
    "relevance": "best match", "popularity": "most popular", "-year": "newest", "year": "oldest",
    "price": "cheapest", "-price": "dearest", "title": "A to Z",
}  # fmt: skip


@dataclass
class Choice:
    """The facet values that are ticked, by the name of their field in `Filters`."""

    ticked: dict[str, list[str]] = field(default_factory=dict)

    @staticmethod
    def field_of(facet: str) -> str | None:
        """The filter that a facet narrows, None if there is none."""
        return _FIELDS.get(facet.casefold())

    @staticmethod
    def narrows(facet: str) -> str:
        """The name under which a facet's values are ticked: that of its filter, else of the attribute that it is."""
        return Choice.field_of(facet) or f"{_ATTRIBUTE}{facet}"

    def toggle(self, name: str, value: str) -> None:
        """Tick or untick a value. Years are one span, so one at a time."""
        have = self.ticked.get(name, [])
        if value in have:
            self.ticked[name] = [one for one in have if one != value]
        else:
            self.ticked[name] = [value] if name == "year" else [*have, value]

    def filters(self) -> Filters:
        """The filters to send."""
        first, last = years(self.ticked["year"][0]) if self.ticked.get("year") else (None, None)
        return Filters(
            categories=self.ticked.get("categories", []),
            people=self.ticked.get("people", []),
            countries=self.ticked.get("countries", []),
            year_min=first,
            year_max=last,
            attributes={
                name.removeprefix(_ATTRIBUTE): values
                for name, values in self.ticked.items()
                if name.startswith(_ATTRIBUTE) and values
            },
        )


def years(value: str) -> tuple[int | None, int | None]:
    """First and last year of a facet value: `1990s`, `1994`, `1990-1999`; (None, None) for anything else."""
    span = re.fullmatch(r"(\d{4})\s*[-–]\s*(\d{4})", value)
    if span:
        return int(span[1]), int(span[2])
    single = re.fullmatch(r"(\d{4})(s?)", value)
    return (int(single[1]), int(single[1]) + (9 if single[2] else 0)) if single else (None, None)


async def search_page(site: Site, query: str = "", person: str | None = None) -> None:
    """Build the page."""
    page = await open_page(site, "search", "Search", person=person)
    with page.main:
        await _Search(page, query[:QUERY_LENGTH]).build()


class _Search:
    def __init__(self, page: Page, query: str) -> None:
        self._page, self._query, self._offset, self._choice = page, query, 0, Choice()
        self._verbatim, self._sort = False, "relevance"
        with ui.element("section").classes("hero"):
            fragment("title.html", title="Search", text="By title, person or genre; spelling may be loose.")
            self._combo = Combo(
                page,
                label="Search the catalog",
                placeholder="A title, a name, a genre",
                text=query,
                on_text=self._search,
                on_pick=self._pick,
            )
        with ui.element("div").classes("with-side"):
            self._facets = fragment("facets.html").classes("side")
            on_act(self._facets, self._facet)
            with ui.element("div").classes("beside"):
                self._count = on_act(fragment("hits.html"), self._again)
                self._slate = SlateView(page, self._ask, follows=False, after=self._arrived)
                self._paging = on_act(fragment("paging.html"), self._turn)

    async def build(self) -> None:
        await self._slate.load()

    async def _ask(self) -> SearchAnswer:
        return await self._page.api.search(
            SearchRequest(
                query=self._query,
                user_id=self._page.tab.person,
                k=PER_PAGE,
                offset=self._offset,
                filters=self._choice.filters(),
                verbatim=self._verbatim,
                sort=self._sort,
            )
        )

    def _arrived(self, answer: Answer | SearchAnswer) -> None:
        if not isinstance(answer, SearchAnswer):
            return
        ticked = self._choice.ticked
        self._facets.content = render(
            "facets.html", facets=answer.facets, ticked=ticked, field_of=Choice.narrows, sorts=SORTS, sort=self._sort
        )
        self._count.content = render("hits.html", answer=answer, verbatim=self._verbatim)
        self._paging.content = render("paging.html", offset=self._offset, per_page=PER_PAGE, total=answer.total)

    async def _search(self, text: str) -> None:
        self._query, self._offset, self._choice = text[:QUERY_LENGTH], 0, Choice()
        self._verbatim = False
        ui.navigate.history.replace(f"/search?{urlencode({'q': self._query})}")
        await self._slate.load()

    async def _pick(self, suggestion: Suggestion) -> None:
        if suggestion.item_id is not None:
            ui.navigate.to(item_link(suggestion.item_id))
            return
        self._combo.set_text(suggestion.text)
        await self._search(suggestion.text)

    async def _again(self, act: str, value: str) -> None:
        """Search for exactly what was typed, or for another spelling of it."""
        if act == "verbatim":
            self._verbatim, self._offset = True, 0
            await self._slate.load()
        elif act == "search" and value:
            self._combo.set_text(value[:QUERY_LENGTH])
            await self._search(value)

    async def _facet(self, act: str, value: str) -> None:
        name, _, chosen = value.partition("\n")
        if act == "sort" and name in SORTS:
            self._sort, self._offset = name, 0
            await self._slate.load()
        elif act == "facet" and (name in _FIELDS.values() or name.startswith(_ATTRIBUTE)):
            self._choice.toggle(name, chosen)
            self._offset = 0
            await self._slate.load()

    async def _turn(self, act: str, value: str) -> None:
        if act == "page" and value.isdigit():
            self._offset = min(int(value), 10_000)
            await self._slate.load()
            ui.run_javascript("window.scrollTo({top: 0})")
