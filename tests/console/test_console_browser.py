"""The pages in a real browser, in front of the fake API."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

pytestmark = pytest.mark.heavy

PATHS = ("/", "/?person=42", "/search?q=the", "/item/1", "/board", "/evaluation", "/data", "/reports", "/pipeline")
TITLES = ".card h3"


def titles(page: Page) -> list[str]:
    return page.locator(TITLES).all_inner_texts()


def test_a_click_is_logged_and_changes_the_next_answer(page: Page, console_url: str, logged: Callable) -> None:
    page.goto(f"{console_url}/?person=42")
    expect(page.locator(TITLES)).to_have_count(20)
    expect(page.get_by_text("Because you watched").first).to_be_visible()
    before = titles(page)
    page.get_by_role("button", name=f"Like: {before[1]}", exact=True).click()
    expect(page.get_by_role("status").filter(has_text="Your click changed")).to_be_visible()
    expect(page.locator(TITLES)).to_have_count(20)
    after = titles(page)
    new = [title for title in after if title not in before]
    assert 0 < len(new) < 20
    expect(page.get_by_text(f"Your click changed {len(new)} of 20.")).to_be_visible()
    assert page.locator(".card.is-new h3").all_inner_texts() == new
    expect(page.locator(".visit")).to_contain_text(before[1])
    event = logged()[-1]
    assert (event["user_id"], event["action"], event["value"], event["position"]) == ("42", "rating", 5.0, 2)
    assert event["request_id"].startswith("r-")
    assert event["surface"] == "home"


def test_someone_new_starts_popular_and_becomes_personal(page: Page, console_url: str) -> None:
    page.goto(console_url)
    expect(page.get_by_role("heading", name="For someone new")).to_be_visible()
    expect(page.get_by_text("new person: popular in this context")).to_be_visible()
    expect(page.get_by_text("Because you watched")).to_have_count(0)
    page.locator("[data-act=watched]").first.click()
    expect(page.get_by_text("Because you watched").first).to_be_visible()
    expect(page.get_by_text("new person: popular")).to_have_count(0)


def test_a_person_is_chosen_and_stays_with_the_tab(page: Page, console_url: str) -> None:
    other = page.context.new_page()
    for tab, person in ((page, "7"), (other, "1024")):
        tab.goto(console_url)
        tab.wait_for_function("() => window.did_handshake")  # before that, a key press reaches nobody
        tab.get_by_label("Who is looking?").fill(person)
        tab.get_by_label("Who is looking?").press("Enter")
        expect(tab.get_by_role("heading", name=f"For person {person}")).to_be_visible()
    page.get_by_role("link", name="Pipeline").click()
    expect(page.locator(".who")).to_have_text("7")
    other.get_by_role("link", name="Search").click()
    expect(other.locator(".who")).to_have_text("1024")
    page.get_by_role("link", name="Home").click()
    page.get_by_role("button", name="Someone new").click()
    expect(page.get_by_role("heading", name="For someone new")).to_be_visible()


def test_the_answer_shows_what_is_behind_it(page: Page, console_url: str) -> None:
    page.goto(f"{console_url}/?person=42")
    card = page.locator(".card").nth(2)
    expect(card).to_contain_text("pinned")
    expect(card).to_contain_text("probability 100%")
    expect(page.locator(".card").nth(4)).to_contain_text("explored")
    expect(card.locator(".head-row")).to_have_text(
        [re.compile(r"watch\s+no\. 3"), re.compile(r"^like\s+\d+%"), re.compile(r"dislike\s+\d+%")]
    )
    panel = page.locator(".behind")
    expect(panel.get_by_text("category cap")).to_be_hidden()
    panel.locator("summary").click()
    expect(panel.get_by_text("category cap")).to_be_visible()
    expect(panel).to_contain_text("retrieve")
    expect(panel).to_contain_text("b-0007")


def test_search_completes_narrows_and_pages(page: Page, console_url: str) -> None:
    page.goto(f"{console_url}/search")
    expect(page.locator(".hits")).to_contain_text("62 titles")
    expect(page.locator(".paging")).to_contain_text("1–18 of 62")
    page.get_by_role("button", name="Next").click()
    expect(page.locator(".paging")).to_contain_text("19–36 of 62")
    box = page.get_by_role("combobox")
    box.press_sequentially("ridl", delay=20)
    expect(page.get_by_role("option")).to_have_text([re.compile("Ridley Scott")])
    box.press("ArrowDown")
    expect(page.get_by_role("option")).to_have_attribute("aria-selected", "true")
    box.press("Enter")
    expect(page.locator(".hits")).to_have_text("2 titles for “Ridley Scott”")
    assert page.url.endswith("/search?q=Ridley+Scott")
    expect(page.locator(TITLES)).to_have_text(["Alien", "Blade Runner"])
    page.get_by_role("button", name=re.compile("Film-Noir")).click()
    expect(page.locator(TITLES)).to_have_text(["Blade Runner"])
    page.get_by_role("button", name=re.compile("Film-Noir")).click()
    expect(page.locator(TITLES)).to_have_count(2)
    page.get_by_role("button", name=re.compile("1970s")).click()
    expect(page.locator(TITLES)).to_have_text(["Alien"])
    box.fill("alie")
    box.press("Enter")
    expect(page.locator(f"{TITLES} mark").first).to_have_text("Alie")
    page.get_by_role("button", name="Like: Aliens", exact=True).click()
    expect(page.get_by_text("Liked: Aliens.")).to_be_visible()


def test_a_suggested_title_opens_its_page(page: Page, console_url: str) -> None:
    page.goto(f"{console_url}/search")
    expect(page.locator(".hits")).to_contain_text("62 titles")
    page.get_by_role("combobox").press_sequentially("casab", delay=20)
    page.get_by_role("option").click()
    expect(page.get_by_role("heading", name="Casablanca", level=1)).to_be_visible()


def test_an_item_shows_facts_takes_a_rating_and_leads_on(page: Page, console_url: str, logged: Callable) -> None:
    page.goto(f"{console_url}/?person=42")
    link = page.locator(f"{TITLES} a").nth(3)
    name = link.inner_text()
    link.click()
    expect(page.get_by_role("heading", name=name, level=1)).to_be_visible()
    expect(page.locator(".fact-list")).to_contain_text("director")
    expect(page.locator(TITLES)).to_have_count(12)
    clicks = [event for event in logged() if event["action"] == "click"]
    assert (clicks[-1]["position"], clicks[-1]["surface"]) == (4, "home")
    page.reload()
    expect(page.locator(TITLES)).to_have_count(12)
    again = [event for event in logged() if event["action"] == "click"]
    assert again[-1]["event_id"] == clicks[-1]["event_id"]
    page.get_by_role("button", name="4 of 5").click()
    expect(page.get_by_text(f"Rated 4 of 5: {name}.")).to_be_visible()
    expect(page.locator(".stars .lit")).to_have_count(4)
    assert (logged()[-1]["action"], logged()[-1]["value"]) == ("rating", 4.0)
    page.locator(".facts [data-act=board]").click()
    expect(page.get_by_role("link", name="On your board")).to_be_visible()
    expect(page.locator(".bubble")).to_have_text("1")


def test_a_board_grows_and_its_recommendations_with_it(page: Page, console_url: str) -> None:
    page.goto(f"{console_url}/board")
    expect(page.get_by_text("The board is empty")).to_be_visible()
    page.get_by_role("combobox").press_sequentially("vert", delay=20)
    page.get_by_role("option").click()
    expect(page.locator(".shelf li")).to_have_count(1)
    expect(page.locator(TITLES)).to_have_count(18)
    page.get_by_role("combobox").fill("unforgiven")
    page.get_by_role("combobox").press("Enter")
    expect(page.locator(".shelf li")).to_have_count(2)
    expect(page.locator(TITLES)).to_have_count(18)
    first = titles(page)[0]
    page.get_by_role("button", name=f"Put on the board: {first}", exact=True).click()
    expect(page.locator(".shelf li")).to_have_count(3)
    expect(page.locator(TITLES).filter(has_text=first)).to_have_count(0)
    page.get_by_role("button", name="Take off the board: Vertigo").click()
    expect(page.locator(".shelf li")).to_have_count(2)
    page.get_by_role("combobox").fill("no such film")
    page.get_by_role("combobox").press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("No title fits")


def test_a_saved_report_is_shown_and_runs_nothing(page: Page, console_url: str) -> None:
    page.goto(f"{console_url}/reports")
    expect(page.get_by_text("25 queries, 1 of which could not be shown")).to_be_visible()
    frame = page.frame_locator("iframe")
    expect(frame.get_by_role("heading", name="Saved")).to_be_visible()
    expect(frame.get_by_text("ran")).to_have_count(0)
    page.get_by_role("link", name="Shop: <weekly>").click()
    expect(page.locator(".chip[aria-current]")).to_have_text("Shop: <weekly>")
    answer = page.request.get(f"{console_url}/reports/page/weekly")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    lost = page.request.get(f"{console_url}/reports/page/nothing")
    assert lost.status == 404
    assert "Nothing is known under this name" in lost.text()


def test_the_evaluation_is_drawn_tabled_and_explained(page: Page, console_url: str) -> None:
    page.goto(f"{console_url}/evaluation")
    expect(page.locator(".verdict")).to_have_count(6)
    expect(page.locator(".verdict").first).to_contain_text("honeyguide beats item-kNN")
    expect(page.locator(".verdict.open").first).to_contain_text("is not clearly apart from last build")
    charts = page.locator(".chart svg")
    expect(charts).to_have_count(2)
    expect(charts.first).to_contain_text("people with history")
    table = page.locator("table").first
    expect(table.locator("tbody tr")).to_have_count(4)
    figure = table.locator("tbody tr").first.locator("td").first.inner_text()
    page.get_by_role("button", name="new people").click()
    expect(table.locator("caption")).to_have_text("new people")
    assert page.locator("table").first.locator("tbody tr").first.locator("td").first.inner_text() != figure
    page.get_by_role("button", name="MRR").click()
    expect(page.locator(".chart").first).to_have_attribute("aria-label", re.compile("^MRR"))
    expect(page.get_by_text("How early the first right title comes")).to_be_visible()
    expect(page.get_by_text("Ratings are not impressions")).to_be_visible()
    page.get_by_role("button", name="Switch between light and dark").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")


def test_the_pipeline_is_drawn_per_surface(page: Page, console_url: str) -> None:
    page.goto(f"{console_url}/pipeline")
    expect(page.locator(".station h3")).to_have_text(
        ["Sources", "Blend", "Heads", "Utility", "Rules", "Diversity", "Exploration"]
    )
    expect(page.locator(".flow")).to_contain_text("rp3beta")
    expect(page.locator(".tiles")).to_contain_text("1\u202f000\u202f209")
    page.get_by_role("button", name="search", exact=True).click()
    expect(page.locator(".flow")).to_contain_text("lexical")
    expect(page.locator(".flow")).to_contain_text("nothing is left to chance")
    expect(page.get_by_text("user_genre_affinity")).to_be_visible()
    expect(page.locator(".steps li")).to_have_count(6)


@pytest.mark.parametrize("path", ["/search?q=<script", "/item/62", "/?person=<img src=x onerror=window.hacked=1>"])
def test_hostile_text_is_shown_as_text(page: Page, console_url: str, path: str) -> None:
    page.goto(console_url + path)
    expect(page.locator(TITLES).first).to_be_visible()
    if "person" not in path:
        expect(page.get_by_text("<script>window.hacked=1</script>").first).to_be_visible()
    page.locator("[data-act=board]").first.click()
    expect(page.get_by_text("is on your board").first).to_be_visible()
    page.goto(f"{console_url}/board")
    expect(page.locator(".shelf li")).to_have_count(1)
    assert page.evaluate("window.hacked") is None


@pytest.mark.parametrize(
    ("person", "title"), [("slow", "The API is slow"), ("broken", "The API is in trouble"), ("refused", "refused")]
)
def test_an_api_in_trouble_is_said_on_the_page(page: Page, console_url: str, person: str, title: str) -> None:
    page.goto(f"{console_url}/?person={person}")
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text(title)
    assert "Traceback" not in page.content()
    alert.get_by_role("button", name="Try again").click()
    expect(page.get_by_role("alert")).to_contain_text(title)
    page.get_by_role("button", name="42", exact=True).click()
    expect(page.locator(TITLES)).to_have_count(20)


@pytest.mark.parametrize("path", PATHS)
def test_without_an_api_every_page_says_so(page: Page, lonely_console_url: str, path: str) -> None:
    page.goto(lonely_console_url + path)
    if path == "/board":
        page.get_by_role("combobox").fill("alien")
        page.get_by_role("combobox").press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("The API does not answer")
    expect(page.get_by_role("alert")).to_contain_text("honeyguide serve")
    assert "Traceback" not in page.content()


def test_unknown_items_and_addresses(page: Page, console_url: str) -> None:
    page.goto(f"{console_url}/item/no such item")
    expect(page.get_by_role("alert")).to_contain_text("Nothing is known under this name")
    expect(page.get_by_role("alert")).to_contain_text("no such item")
    for address, status in (("/nowhere", 404), ("/item/1?position=first", 422)):
        response = page.goto(console_url + address)
        assert response is not None
        assert response.status == status
        expect(page.get_by_role("link", name="Go home")).to_be_visible()


def test_every_page_fits_stays_at_home_and_has_names(browser: Browser, console_url: str) -> None:
    for width, height in ((1280, 900), (390, 844)):
        context = browser.new_context(viewport={"width": width, "height": height})
        page = context.new_page()
        outside: list[str] = []
        page.on("request", lambda request, seen=outside: seen.append(request.url))
        for path in PATHS:
            page.goto(console_url + path)
            expect(page.locator(".skeleton")).to_have_count(0)
            expect(page.get_by_role("heading", level=1)).to_have_count(1)
            assert page.evaluate("document.documentElement.scrollWidth") <= width, path
            assert page.evaluate(_NAMELESS) == [], path
        home = (console_url, console_url.replace("http", "ws"), "data:", "blob:")
        assert [url for url in outside if not url.startswith(home)] == []
        context.close()


def test_the_keyboard_reaches_everything(page: Page, console_url: str) -> None:
    page.goto(f"{console_url}/?person=42")
    expect(page.locator(TITLES)).to_have_count(20)
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    focused: list[Any] = []
    for _ in range(10):
        page.keyboard.press("Tab")
        focused.append(page.evaluate("document.activeElement.dataset.act ?? document.activeElement.tagName"))
    assert focused[:2] == ["INPUT", "BUTTON"]
    assert {"person", "new-person", "A", "watched", "liked"} <= set(focused)
    page.locator("[data-act=liked]").first.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_text("Your click changed")).to_be_visible()


_NAMELESS = """() => [...document.querySelectorAll("button, input, main a, header a")]
    .filter((one) => one.closest("[aria-hidden=true]") === null && one.checkVisibility())
    .filter((one) => !(one.innerText.trim() || one.ariaLabel || one.labels?.length))
    .map((one) => one.outerHTML.slice(0, 120))"""
