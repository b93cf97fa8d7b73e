"""The data page: its figures read with care, and seen in a real browser."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from playwright.sync_api import Browser, Page, expect

from honeyguide.console.quality_charts import held_back, volume
from honeyguide.console.quality_figures import DataQuality
from honeyguide.console.render import render

LOAD = {
    "load_id": "a", "table": "events", "file": "e.csv", "at": "2026-01-05T04:00:00+00:00", "rows_in": 100,
    "accepted": 90, "quarantined": 10, "reasons": {"duplicate": 8, "missing_user": 2}, "replayed": 3,
    "findings": [{"code": "stale", "severity": "refuse", "detail": "Too old."}], "unjudged": ["volume"],
}  # fmt: skip
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-5, 10**6), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=8,
)
FIELDS = ("rows_in", "accepted", "held", "tables", "reasons", "loads", "days", "live", "more_loads")


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(FIELDS, JSON)))
def test_whatever_is_sent_is_read_and_drawn(sent: dict[str, Any]) -> None:
    quality = DataQuality.read(sent)
    volume(quality.days)
    held_back(quality.loads)
    for template in ("quality_sums", "quality_days", "quality_reasons", "quality_live", "quality_meanings"):
        render(f"{template}.html", quality=quality, odd=0, reasons={})
    render("quality_loads.html", quality=quality, loads=quality.loads, left=0)


def test_a_load_as_it_is_read() -> None:
    (load,) = DataQuality.read({"loads": [LOAD, "nonsense", None]}).loads
    assert (load.rows_in, load.share, load.replayed, load.unjudged) == (100, 0.1, 3, ("volume",))
    assert [(found.code, found.word) for found in load.findings] == [("stale", "refused")]
    assert DataQuality.read({"live": {"accepted": 5, "bad_id": 2, "x": 3}}).live_refused == {"x": 3, "bad_id": 2}


def test_the_chart_of_reasons_holds_the_shares() -> None:
    more = {**LOAD, "reasons": {f"r{n}": 1 for n in range(9)}, "at": "2026-01-06T04:00:00+00:00"}
    options, shown = held_back(DataQuality.read({"loads": [more, LOAD]}).loads)
    assert shown == 2
    shares = {series["name"]: series["data"] for series in options["series"]}
    assert shares["duplicate"] == [0.08, 0.0]  # oldest first
    assert sum(column[1] for column in shares.values()) == pytest.approx(0.09)
    assert len(shares) == 6  # five, and the others as one
    assert held_back(DataQuality.read({"loads": [{**LOAD, "reasons": {}}]}).loads) == ({}, 0)


def test_the_chart_of_days_marks_the_odd_ones() -> None:
    days = [
        {"day": "2026-01-05", "events": 7, "usual": None},
        {"day": "2026-01-06", "events": 1, "odd": True, "usual": 8},
    ]
    events, usual, odd = volume(DataQuality.read({"days": days}).days)["series"]
    assert (events["data"], usual["data"], odd["data"]) == ([7, 1], [None, 8.0], [None, 1])


# ---------------------------------------------------------------------------------------------- in a browser


@pytest.fixture
def sending(api_url: str) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Let the fake API send other figures, for one test."""

    def send(figures: dict[str, Any]) -> None:
        httpx.put(f"{api_url}/test/quality", json=figures, trust_env=False).raise_for_status()

    yield send
    send({})


@pytest.mark.heavy
def test_the_page_tells_what_came_and_what_was_held_back(page: Page, console_url: str) -> None:
    page.goto(console_url)
    page.get_by_role("link", name="Data").click()
    expect(page.get_by_role("heading", level=1, name="Data")).to_be_visible()
    expect(page.locator(".tiles").first).to_contain_text("held back")
    expect(page.get_by_text("1 day is far from the same weekday")).to_be_visible()
    expect(page.locator(".chart svg")).to_have_count(2)
    loads = page.locator(".loads > li")
    expect(loads).to_have_count(10)
    odd = loads.filter(has_text="events-2026-w10.parquet")
    expect(odd.locator(".finding")).to_have_count(3)
    expect(odd.locator(".finding.quarantine")).to_contain_text("<b>crawler</b> (512, 9,120)")  # as text, not as HTML
    expect(loads.filter(has_text="events-2026-w11.parquet")).to_contain_text("The contract was kept.")
    page.get_by_role("button", name="Show 4 more").click()
    expect(loads).to_have_count(14)
    expect(page.get_by_role("button", name="more")).to_have_count(0)
    expect(page.get_by_role("row", name="duplicate")).to_contain_text("The same event id")
    live = page.locator(".panel").filter(has=page.get_by_role("heading", name="Events sent to the API"))
    expect(live.get_by_role("row", name="unknown_item")).to_contain_text("17")
    expect(page.get_by_text("honeyguide quarantine replay DIR")).to_be_visible()


@pytest.mark.heavy
def test_a_workspace_without_loads(page: Page, console_url: str, sending: Callable[[dict[str, Any]], None]) -> None:
    sending({"rows_in": 0, "loads": [], "live": {}})
    page.goto(f"{console_url}/data")
    expect(page.get_by_role("heading", name="No load is on record")).to_be_visible()
    expect(page.get_by_role("heading", name="What the figures mean")).to_be_visible()
    expect(page.get_by_role("heading", name="Events sent to the API")).to_have_count(0)


@pytest.mark.heavy
def test_a_load_without_trouble(page: Page, console_url: str, sending: Callable[[dict[str, Any]], None]) -> None:
    clean = {**LOAD, "accepted": 100, "quarantined": 0, "reasons": {}, "findings": [], "unjudged": [], "replayed": 0}
    sending({"rows_in": 100, "accepted": 100, "loads": [clean], "days": [{"day": "2026-01-05", "events": 100}]})
    page.goto(f"{console_url}/data")
    expect(page.get_by_text("Nothing was held back so far.")).to_be_visible()
    expect(page.locator(".chart svg")).to_have_count(1)


@pytest.mark.heavy
def test_it_fits_a_telephone(browser: Browser, console_url: str) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844}, color_scheme="dark")
    page = context.new_page()
    page.goto(f"{console_url}/data")
    expect(page.locator(".loads > li")).to_have_count(10)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    boxes = page.locator(".nav a").evaluate_all("links => links.map(link => link.getBoundingClientRect().right)")
    assert max(boxes) <= 390
    context.close()
