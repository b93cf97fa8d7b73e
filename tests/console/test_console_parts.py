"""The parts of the console that need no browser."""

from __future__ import annotations

import asyncio
import random
import re
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import honeyguide.console as console
from honeyguide.console.app import run_console
from honeyguide.console.changes import compare
from honeyguide.console.charts import forest
from honeyguide.console.client import Api, ApiError
from honeyguide.console.covers import cover
from honeyguide.console.figures import Difference, Evaluation, metric_meaning, verdict
from honeyguide.console.render import count, highlighted, percent, render, seconds, share
from honeyguide.console.search import Choice, years
from honeyguide.console.signals import ranks_only, signals
from honeyguide.console.slates import places_of
from honeyguide.console.tab import Tab
from honeyguide.errors import ConfigError, ResourceError
from honeyguide.schema.wire import Answer, EventIn, Item, RecommendRequest, SearchRequest, ShownItem

T = TypeVar("T")
NASTY = '<script>alert(1)</script><img src=x onerror="alert(1)">"\'&'
quick = settings(max_examples=60, deadline=None)


SHAPES = {"rect", "circle", "ellipse", "path", "polygon", "polyline"}


class Tags(HTMLParser):
    """Every element and attribute name of a document, and its text; the shapes of covers left out."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(markup)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in SHAPES:
            self.tags.append(tag)
            self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


def one_answer(text: str) -> Answer:
    item = ShownItem(
        item_id=text, position=1, score=1.0, propensity=0.5, title=text, reason=text, sources=[text],
        heads={text: 0.5}, year=1999, categories=[text], people=[text], pinned=True, explored=True, highlight=text,
    )  # fmt: skip
    return Answer(
        request_id=text, surface=text, policy_version=text, build_id=text, items=[item], fallback=text,
        dropped={text: 3}, stage_us={text: 12.0},
    )  # fmt: skip


# --- lists before and after a click


@quick
@given(st.lists(st.sampled_from("abcdefgh"), unique=True), st.lists(st.sampled_from("abcdefgh"), unique=True))
def test_a_change_says_which_items_are_new_and_how_far_the_others_moved(old: list[str], new: list[str]) -> None:
    change = compare(old, new)
    for item in new:
        if item not in old:
            assert item in change.new
            assert item not in change.moved
        else:
            assert old.index(item) - new.index(item) == change.moved.get(item, 0)


def test_closing_the_gap_of_the_clicked_item_is_no_change() -> None:
    change = compare(["a", "b", "c"], ["a", "c", "d"], taken="b")
    assert change.new == {"d"}
    assert change.moved == {}
    assert change.sentence("Your click") == "Your click changed 1 of 3."


def test_a_change_in_words() -> None:
    assert "stays as it was" in compare("abc", "abc").sentence("Your click")
    assert "moved 2 of 3" in compare("abc", "bac").sentence("Your click")
    assert "nothing left" in compare("a", "", taken="a").sentence("Your click")


# --- text from the catalog is only ever text


@quick
@given(st.text(max_size=60))
def test_a_highlight_keeps_its_marks_and_nothing_else(text: str) -> None:
    assert set(Tags(str(highlighted(text))).tags) <= {"mark"}


def test_a_highlight_marks_the_words_and_shows_escaped_text_once() -> None:
    marked = Tags(str(highlighted("&lt;b&gt; <mark>Al</mark>ien <i onclick=x>")))
    assert marked.tags == ["mark"]
    assert marked.text == "<b> Alien <i onclick=x>"


@pytest.mark.parametrize("text", [NASTY, '" autofocus onfocus="alert(1)', "{{ 7 * 7 }}", "</li></ol><script>"])
def test_no_text_of_an_answer_becomes_markup(text: str) -> None:
    harmless = Tags(render("slate.html", answer=one_answer("plain"), change=None, board=set(), done=set(), places={}))
    hostile = Tags(render("slate.html", answer=one_answer(text), change=None, board=set(), done=set(), places={}))
    assert hostile.tags == harmless.tags
    assert [name for name, _ in hostile.attributes] == [name for name, _ in harmless.attributes]
    assert text in hostile.text


def test_no_text_of_the_other_pages_becomes_markup() -> None:
    item = Item(item_id=NASTY, title=NASTY, description=NASTY, categories=[NASTY], attributes={NASTY: NASTY})
    rows = [{"protocol": NASTY, "segment": NASTY, "system": NASTY, "metric": NASTY, "estimate": 0.5}]
    evaluation = Evaluation.read({"rows": rows, "notes": [NASTY], "made_at": NASTY})
    chosen = {"evaluation": evaluation, "metric": NASTY, "segment": NASTY}
    pages = [
        render("facts.html", item=item, stars=0, on_board=False),
        render("shelf.html", items=[item]),
        render("table.html", protocol=NASTY, **chosen),
        render("choose.html", **chosen),
        render("meanings.html", evaluation=evaluation, meaning=metric_meaning),
        render("features.html", features=[{"name": NASTY, "meaning": NASTY, "entity": NASTY, "importance": 1}]),
        render("steps.html", steps=[{"name": NASTY, "seconds": 1}]),
        render("build.html", pipeline={"workspace": NASTY, "data": {"evidence": NASTY}}, evidence={}),
        render("notice.html", sentence=NASTY, detail=NASTY),
        render("problem.html", title=NASTY, error=ApiError(NASTY, expected=NASTY, got=NASTY, do=NASTY)),
    ]
    for page in pages:
        parsed = Tags(page)
        assert not {"script", "img"} & set(parsed.tags)
        assert not [name for name, _ in parsed.attributes if name.startswith("on")]


# --- covers


@quick
@given(st.text(max_size=30), st.sampled_from(["", "Drama", "Sci-Fi", "gardening"]))
def test_a_cover_is_always_the_same_and_holds_no_text(title: str, category: str) -> None:
    drawn = cover(title, category)
    cover.cache_clear()
    assert drawn == cover(title, category)
    parsed = Tags(drawn)
    assert parsed.tags == ["svg"]
    assert parsed.text == ""
    assert "nan" not in drawn


def test_covers_differ_between_titles() -> None:
    assert len({cover(f"film {number}", "Drama") for number in range(50)}) == 50


# --- numbers in words


def test_numbers_are_shown_as_a_person_reads_them() -> None:
    assert [percent(value) for value in (0.62, 0.004, 0.9987, 1.0, 0.0, None)] == [
        "62%", "0.4%", "99.9%", "100%", "0%", "–",
    ]  # fmt: skip
    assert count(1000209) == "1\u202f000\u202f209"
    assert [seconds(value) for value in (0.42, 31.84, 125)] == ["0.4 s", "31.8 s", "2 min 05 s"]
    assert [share(value, 2.0) for value in (1, 5, -1, None)] == ["50.0%", "100.0%", "0.0%", "0%"]


# --- evaluation


def test_an_evaluation_is_read_in_its_own_order_with_everybody_first() -> None:
    rows = [
        {"protocol": "p", "segment": "new", "system": "b", "metric": "nDCG@10", "estimate": 0.2, "n": 5},
        {"protocol": "p", "segment": "all", "system": "a", "metric": "nDCG@10", "estimate": 0.3, "low": 0.2},
        {"protocol": "p", "segment": "all", "system": "b", "metric": "ECE", "estimate": 0.02},
        {"protocol": "p", "segment": "all", "system": "a", "metric": "ECE", "estimate": float("nan")},
        "no row",
    ]
    found = Evaluation.read({"rows": rows})
    assert found.segments == ("all", "new")
    assert found.systems == ("b", "a")
    assert found.best("p", "all", "nDCG@10") == "a"
    assert found.best("p", "all", "ECE") == "b"
    assert found.cell("p", "all", "a", "ECE") is None
    assert found.headlines == ()
    assert Evaluation.read({}).cells == {}


def test_a_difference_counts_only_when_its_interval_leaves_out_zero() -> None:
    def said(metric: str, estimate: float, low: float | None, high: float | None) -> str:
        return verdict(Difference("p", "all", "ours", "theirs", metric, estimate, low, high))

    assert said("nDCG@10", 0.03, 0.01, 0.05) == "better"
    assert said("nDCG@10", -0.03, -0.05, -0.01) == "worse"
    assert said("nDCG@10", 0.03, -0.01, 0.05) == "open"
    assert said("nDCG@10", 0.03, None, None) == "open"
    assert said("ECE", -0.03, -0.05, -0.01) == "better"


def test_a_chart_holds_every_figure_once() -> None:
    rows = [
        {"protocol": p, "segment": s, "system": y, "metric": "MRR", "estimate": random.random(), "low": 0, "high": 1}
        for p in ("p", "q") for s in ("all", "new") for y in ("a", "b", "c")
    ]  # fmt: skip
    evaluation = Evaluation.read({"rows": rows})
    options, dots = forest(evaluation, "p", "MRR")
    assert dots == 6
    drawn = sorted(point[1] for series in options["series"] for point in series["data"])
    assert drawn == sorted(row["estimate"] for row in rows if row["protocol"] == "p")
    assert forest(evaluation, "p", "unknown")[1] == 0


# --- search


@pytest.mark.parametrize(
    ("value", "span"),
    [("1990s", (1990, 1999)), ("1994", (1994, 1994)), ("1990-1999", (1990, 1999)), ("old", (None, None))],
)
def test_years_of_a_facet(value: str, span: tuple[int | None, int | None]) -> None:
    assert years(value) == span


def test_facets_become_filters_and_untick_again() -> None:
    choice = Choice()
    for name, value in (("categories", "Drama"), ("categories", "War"), ("year", "1980s"), ("year", "1990s")):
        choice.toggle(name, value)
    filters = choice.filters()
    assert (filters.categories, filters.year_min, filters.year_max) == (["Drama", "War"], 1990, 1999)
    choice.toggle("categories", "Drama")
    choice.toggle("year", "1990s")
    assert (choice.filters().categories, choice.filters().year_min) == (["War"], None)
    assert Choice.field_of("Genres") == "categories"
    assert Choice.field_of("shoe size") is None


# --- what a button logs


@pytest.mark.parametrize(
    ("actions", "watched", "liked"),
    [
        (None, ("play", None), ("like", None)),
        ({"rating": 1.0}, ("rating", None), ("rating", 5.0)),
        ({"view": 0.3, "purchase": 1.0}, ("view", None), ("purchase", None)),
        ({"play": 0.0, "click": 1.0, "save": 2.0}, ("click", None), ("save", None)),
        ({"borrow": 1.0, "renew": 2.0}, ("renew", None), ("renew", None)),
    ],
)
def test_buttons_log_what_the_workspace_weighs(actions: Any, watched: tuple, liked: tuple) -> None:
    found = signals({"actions": actions})
    assert (found["watched"].action, found["watched"].value) == watched
    assert (found["liked"].action, found["liked"].value) == liked


def test_a_head_that_only_ranks_is_shown_by_its_place() -> None:
    pipeline = {"surfaces": {"home": {"heads": [{"name": "watch", "calibrated": False}, {"name": "like"}, "x"]}}}
    assert ranks_only(pipeline, "home") == {"watch"}
    assert ranks_only(pipeline, "search") == ranks_only({}, "home") == frozenset()
    scores = {"a": -3.5, "b": 12.0, "c": 0.5}
    items = [
        ShownItem(item_id=key, position=slot, score=0, propensity=1, heads={"watch": score, "like": 0.25})
        for slot, (key, score) in enumerate(scores.items(), start=1)
    ]
    places = places_of(items, ["watch"])
    assert places == {"watch": {"b": 1, "c": 2, "a": 3}}
    answer = Answer(request_id="r", surface="home", policy_version="p", build_id="b", items=items)
    page = render("slate.html", answer=answer, change=None, board=set(), done=set(), places=places)
    text = Tags(page).text
    assert [text.count(said) for said in ("no. 1", "no. 2", "no. 3", "25%")] == [1, 1, 1, 3]


# --- a tab


def test_a_tab_remembers_its_person_its_board_and_its_visit() -> None:
    store: dict[str, Any] = {}
    tab = Tab(store)
    first = tab.person
    assert (tab.is_new, Tab(store).person, Tab({}).person != first) == (True, first, True)
    tab.pin("1")
    tab.pin("2")
    tab.pin("1")
    tab.unpin("2")
    tab.remember("9", "Alien", "Horror", "Liked")
    assert (tab.board, [click["title"] for click in tab.visit]) == (["1"], ["Alien"])
    tab.become("42")
    assert (tab.person, tab.is_new, tab.visit, tab.board) == ("42", False, [], ["1"])


# --- the client


def asked(url: str, question: Callable[[Api], Awaitable[T]], **settings: Any) -> T:
    async def run() -> T:
        api = Api(url, **settings)
        try:
            return await question(api)
        finally:
            await api.close()

    return asyncio.run(run())


def test_the_client_reads_every_answer(api_url: str) -> None:
    slate = asked(api_url, lambda api: api.recommend(RecommendRequest(user_id="42", k=5)))
    assert len(slate.items) == 5
    assert asked(api_url, lambda api: api.search(SearchRequest(query="alien"))).total == 2
    assert asked(api_url, lambda api: api.suggest("ali")).suggestions[0].text == "Alien"
    assert asked(api_url, lambda api: api.item("1")).title == "Alien"
    assert asked(api_url, lambda api: api.record(EventIn(user_id="x", item_id="1", action="play"))).accepted == 1
    assert "surfaces" in asked(api_url, lambda api: api.pipeline())
    assert "rows" in asked(api_url, lambda api: api.evaluation())


@pytest.mark.parametrize(
    ("person", "title", "said"),
    [
        ("slow", "The API is slow", "within 0.5 seconds"),
        ("broken", "The API is in trouble", "status 500"),
        ("refused", "The API refused", "without <b>tags</b>"),
    ],
)
def test_an_api_in_trouble_is_one_clear_error(api_url: str, person: str, title: str, said: str) -> None:
    with pytest.raises(ApiError) as caught:
        asked(api_url, lambda api: api.recommend(RecommendRequest(user_id=person)), timeout_s=0.5)
    assert caught.value.title == title
    assert said in str(caught.value)
    assert "Traceback" not in str(caught.value)


def test_an_unknown_item_is_a_404(api_url: str) -> None:
    with pytest.raises(ApiError) as caught:
        asked(api_url, lambda api: api.item("no/such item"))
    assert caught.value.status == 404
    assert "no/such item" in str(caught.value)


def test_no_api_at_all() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(ApiError, match="a running API"):
            asked(f"http://127.0.0.1:{taken.getsockname()[1]}", lambda api: api.pipeline())


def test_an_answer_of_another_shape_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    api = Api("http://127.0.0.1:1", api_key="secret-key")
    sent: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return httpx.Response(200, content=b'{"items": 3}')

    monkeypatch.setattr(api, "_http", httpx.AsyncClient(transport=httpx.MockTransport(answer), base_url=api.url))
    with pytest.raises(ApiError, match="same version"):
        asyncio.run(api.recommend(RecommendRequest()))
    assert sent[0].url.path == "/v1/recommend"


def test_the_key_goes_along() -> None:
    assert Api("http://localhost:1", api_key="secret-key")._http.headers["authorization"] == "Bearer secret-key"
    assert "authorization" not in Api("http://localhost:1")._http.headers


@pytest.mark.parametrize("url", ["", "localhost:8080", "ftp://host", "http://", "http://[::bad"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="address of an API"):
        Api(url)


# --- starting it


def test_a_port_in_use_is_said() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ResourceError, match=f"free port for the console at 127.0.0.1:{port}"):
            run_console("http://127.0.0.1:9", port=port)
    with pytest.raises(ResourceError):
        run_console("http://127.0.0.1:9", port=70_000)


def test_importing_the_console_loads_no_nicegui() -> None:
    code = "import honeyguide.console.app, sys; print('nicegui' in sys.modules, 'httpx' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


# --- the look


def _colours() -> dict[str, tuple[str, str]]:
    css = Path(console.__path__[0], "assets", "console.css").read_text(encoding="utf-8")
    return {
        name: (light, dark) for name, light, dark in re.findall(r"--([\w-]+): light-dark\((#\w{6}), (#\w{6})\)", css)
    }


def _luminance(colour: str) -> float:
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", [0, 1])
@pytest.mark.parametrize("ground", ["paper", "card", "sunk", "wash"])
@pytest.mark.parametrize("ink", ["ink", "soft", "honey-ink", "good", "bad"])
def test_text_stands_out_from_its_ground(ink: str, ground: str, theme: int) -> None:
    """WCAG 2.2 asks 4.5 for text."""
    colours = _colours()
    one, two = sorted((_luminance(colours[ink][theme]), _luminance(colours[ground][theme])), reverse=True)
    assert (one + 0.05) / (two + 0.05) >= 4.5


def test_the_assets_point_to_nothing_outside() -> None:
    room = Path(console.__path__[0])
    for path in [*room.glob("assets/*"), *room.glob("templates/*")]:
        found = re.findall(r"(?:https?:)?//[\w.]+\.\w+[^\s\"']*", path.read_text(encoding="utf-8"))
        assert [url for url in found if "www.w3.org" not in url] == []
