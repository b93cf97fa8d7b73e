"""The pages of the search room in a real browser: traffic, merchandising, judging by keyboard."""

from __future__ import annotations

import re

import httpx
import pytest
from playwright.sync_api import Page, expect

from honeyguide.console.render import render

pytestmark = pytest.mark.heavy
EVIL = "<script>window.hacked=1</script>"


def unharmed(page: Page) -> None:
    assert page.evaluate("window.hacked") is None


def test_traffic_tells_what_changed_and_links_bad_queries_to_how_they_are_read(page: Page, console_url: str) -> None:
    page.goto(f"{console_url}/traffic")
    expect(page.get_by_role("heading", name="The week until 2026-11-20")).to_be_visible()
    expect(page.locator(".verdict.worse")).to_contain_text("found nothing")
    expect(page.locator(".verdict.open")).to_have_count(3)
    bad = page.get_by_role("link", name="<b onclick=hack()>'; drop table")
    expect(bad).to_be_visible()
    bad.click()
    expect(page).to_have_url(re.compile(r"/search\?q=%3Cb"))
    expect(page.locator(".hits").first).to_contain_text("<b onclick=hack()>")
    unharmed(page)


def test_rules_are_listed_with_their_fights_and_escaped(page: Page, console_url: str) -> None:
    page.goto(f"{console_url}/merchandising")
    expect(page.get_by_text(EVIL)).to_be_visible()
    expect(page.get_by_text("evil and hide-2")).to_be_visible()
    expect(page.locator(".finding")).to_contain_text("hide-2 hides")
    page.get_by_label("Query").fill("alien")
    page.get_by_role("button", name="Show").click()
    expect(page.locator(".ranked li").first).to_contain_text("Alien")
    unharmed(page)


def test_a_list_is_judged_by_keyboard(page: Page, console_url: str, api_url: str) -> None:
    page.goto(f"{console_url}/judge")
    page.get_by_label("Your name").fill("anna")
    page.get_by_role("button", name="Begin").click()
    expect(page.get_by_role("heading", name="“space”")).to_be_visible()
    page.wait_for_function("() => window.did_handshake")
    current = page.locator(".judged li[aria-current]")
    expect(current).to_contain_text("Alien")
    page.keyboard.press("ArrowDown")
    expect(current).to_contain_text("Aliens")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("3")
    expect(current).to_contain_text("Aliens")
    expect(page.locator(".judged .grade").first).to_have_text("3")
    page.keyboard.press("0")
    expect(current).to_contain_text(EVIL[:8])
    page.get_by_role("button", name="Grade 2: means 2").click()
    expect(page.get_by_role("heading", name=f"“{EVIL}”")).to_be_visible()  # the list is done: the next one
    page.keyboard.press("1")
    expect(page.get_by_role("heading", name="Nothing waits for anna")).to_be_visible()
    unharmed(page)
    judged = httpx.get(f"{api_url}/test/judged", trust_env=False).json()
    assert [(one["query"], one["judgments"][0]["item_id"], one["judgments"][0]["grade"]) for one in judged] == [
        ("space", "1", 3), ("space", "2", 0), ("space", "62", 2), (EVIL, "3", 1)
    ]  # fmt: skip
    assert {one["rater"] for one in judged} == {"anna"}


def test_pages_say_when_the_api_is_down(page: Page, lonely_console_url: str) -> None:
    for path in ("/traffic", "/merchandising", "/judge?rater=anna"):
        page.goto(f"{lonely_console_url}{path}")
        expect(page.get_by_text("The API does not answer")).to_be_visible()


def test_a_surface_shows_its_formula_guardrails_and_diversity() -> None:
    surface = {
        "candidates": 300, "formula": "0.2 * like - 0.5 * dislike <b>", "fatigue": {"keep": 0.8, "days": 30},
        "guardrails_say": ["home: at least 8 % of exposure to new sellers costs 0.3 %"], "diversity": 0.05,
        "diversity_says": "calibrated to the history", "diversity_kind": "calibrated",
    }  # fmt: skip
    page = render(
        "flow.html", surfaces=["home"], chosen="home", surface=surface, sources=[], heads=[], utility={}, rules=[]
    )
    assert "0.2 * like - 0.5 * dislike &lt;b&gt;" in page
    assert "at least 8 % of exposure" in page
    assert "calibrated to the history" in page
    assert "keeps 80%" in page
