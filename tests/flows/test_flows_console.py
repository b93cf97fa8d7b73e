"""The product as a person sees it: a real workspace, the real API, `honeyguide console`, a real browser."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page, expect

from honeyguide.engines.log.sqlite import SqliteLog
from honeyguide.flows.build import build
from honeyguide.flows.evaluate import evaluate
from honeyguide.flows.layout import Layout
from honeyguide.flows.operate import server
from honeyguide.serving.record import EVENT, decode_event

pytestmark = pytest.mark.heavy

TITLES = ".card h3"
KEY = "a-key-that-only-tests-know"


@dataclass(frozen=True)
class Product:
    """A running product."""

    folder: Path
    api: str
    console: str
    report: dict

    def logged(self) -> list[dict]:
        """The events on disk now, oldest first."""
        log = SqliteLog(Layout.open(self.folder).log)
        try:
            return [decode_event(record.payload) for _, record in log.read(0, 100_000) if record.kind == EVENT]
        finally:
            log.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answering(process: subprocess.Popen[bytes], url: str) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None, "the console ended before it answered"
        try:
            httpx.get(f"{url}/no-such-page", timeout=2, trust_env=False)
        except httpx.TransportError:
            time.sleep(0.1)
        else:
            return
    raise AssertionError("the console did not answer within a minute")


@pytest.fixture(scope="module")
def product(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    folder = tmp_path_factory.mktemp("console") / "shop"
    shutil.copytree(built, folder)
    text = (folder / "honeyguide.toml").read_text().replace("[serve]", f'[serve]\napi_keys = ["{KEY}"]')
    (folder / "honeyguide.toml").write_text(text)
    report = evaluate(folder)
    with server(folder, port=0) as api:
        port = free_port()
        command = [sys.executable, "-m", "honeyguide", "console", "--api", api.url, "--port", str(port)]
        process = subprocess.Popen([*command, "--api-key", KEY])
        try:
            url = f"http://127.0.0.1:{port}"
            answering(process, url)
            yield Product(folder, api.url, url, report)
        finally:
            process.terminate()
            process.wait(15)


def titles(page: Page) -> list[str]:
    return page.locator(TITLES).all_inner_texts()


def test_a_like_changes_the_list_and_is_in_the_log(page: Page, product: Product) -> None:
    page.goto(f"{product.console}/?person=p4")
    expect(page.locator(TITLES)).to_have_count(20)
    expect(page.get_by_text(re.compile("^Because")).first).to_be_visible()
    before = titles(page)
    page.get_by_role("button", name=f"Like: {before[0]}", exact=True).click()
    expect(page.get_by_role("status").filter(has_text="Your click changed")).to_be_visible()
    expect(page.locator(TITLES)).to_have_count(20)
    after = titles(page)
    assert before[0] not in after
    assert after != before
    event = product.logged()[-1]
    assert (event["user_id"], event["action"], event["position"], event["surface"]) == ("p4", "rating", 1, "home")
    assert before[0].endswith(event["item_id"].removeprefix("f"))
    assert event["value"] >= 4.0
    assert event["request_id"]


def test_someone_new_becomes_someone(page: Page, product: Product) -> None:
    page.goto(product.console)
    expect(page.get_by_role("heading", name="For someone new")).to_be_visible()
    expect(page.locator(TITLES)).to_have_count(20)
    love = next(title for title in titles(page) if title.startswith("Love"))
    share = sum(title.startswith("Love") for title in titles(page))
    page.get_by_role("button", name=f"Like: {love}", exact=True).click()
    expect(page.get_by_role("status").filter(has_text="Your click changed")).to_be_visible()
    expect(page.locator(TITLES)).to_have_count(20)
    assert sum(title.startswith("Love") for title in titles(page)) > share


def test_search_completes_and_finds(page: Page, product: Product) -> None:
    page.goto(f"{product.console}/search?person=p4")
    box = page.get_by_role("combobox")
    box.press_sequentially("love story 15", delay=20)
    expect(page.get_by_role("option").first).to_contain_text("Love Story 15")
    box.fill("love story 150")
    box.press("Enter")
    expect(page.locator(TITLES).first).to_have_text("Love Story 150")
    expect(page.locator(f"{TITLES} mark").first).to_be_visible()
    page.get_by_role("link", name=re.compile("Love Story 150")).first.click()
    expect(page.get_by_role("heading", name="Love Story 150", level=1)).to_be_visible()


def test_an_item_leads_on_to_its_like(page: Page, product: Product) -> None:
    page.goto(f"{product.console}/item/f3?person=p4")
    expect(page.get_by_role("heading", name="Space Story 3", level=1)).to_be_visible()
    expect(page.locator(".facts")).to_contain_text("1983")
    expect(page.locator(".fact-list")).to_contain_text("Director 3")
    expect(page.locator(TITLES)).to_have_count(12)
    related = titles(page)
    assert "Space Story 3" not in related
    assert sum(title.startswith("Space") for title in related) > 6
    logged = len(product.logged())
    page.get_by_role("button", name="4 of 5").click()
    expect(page.get_by_text("Rated 4 of 5: Space Story 3.")).to_be_visible()
    assert [(one["item_id"], one["value"]) for one in product.logged()[logged:]][-1] == ("f3", 4.0)


def test_a_board_is_filled_and_answered(page: Page, product: Product) -> None:
    page.goto(f"{product.console}/board")
    expect(page.get_by_text("The board is empty")).to_be_visible()
    for n, title in enumerate(("Love Story 102", "Love Story 110"), 1):
        page.get_by_role("combobox").fill(title)
        page.get_by_role("combobox").press("Enter")
        expect(page.locator(".shelf li")).to_have_count(n)
    expect(page.locator(TITLES).first).to_be_visible()
    expect(page.locator(".skeleton")).to_have_count(0)
    found = titles(page)
    assert not {"Love Story 102", "Love Story 110"} & set(found)
    assert sum(title.startswith("Love") for title in found) > len(found) / 2


def test_the_evaluation_shows_the_report(page: Page, product: Product) -> None:
    page.goto(f"{product.console}/evaluation")
    expect(page.locator(".verdict").first).to_be_visible()
    expect(page.locator(".chart svg")).to_have_count(2)
    home = next(
        row["estimate"]
        for row in product.report["rows"]
        if (row["system"], row["protocol"], row["metric"], row["segment"]) == ("home", "global", "nDCG@10", "all")
    )
    shown = page.locator("table").first.inner_text().replace("\u202f", "")
    assert re.search(rf"{home:.3f}|{home:.4f}|{home * 100:.1f}", shown), shown
    expect(page.get_by_text("Every item of the catalog is ranked").first).to_be_visible()


def test_the_pipeline_shows_the_build_and_follows_it(page: Page, product: Product) -> None:
    page.goto(f"{product.console}/pipeline")
    expect(page.locator(".station h3").first).to_have_text("Sources")
    expect(page.locator(".flow")).to_contain_text("popular")
    expect(page.locator(".flow")).to_contain_text("what was seen is hidden")
    was = httpx.get(f"{product.api}/readyz", trust_env=False).json()["build_id"]
    expect(page.locator("body")).to_contain_text(was)
    now = build(product.folder)["build_id"]
    deadline = time.monotonic() + 30
    while httpx.get(f"{product.api}/readyz", trust_env=False).json()["build_id"] != now:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    page.reload()
    expect(page.locator("body")).to_contain_text(now)


def test_a_card_leads_to_why_and_to_every_candidates_way(page: Page, product: Product) -> None:
    page.goto(f"{product.console}/?person=p5")
    expect(page.locator(TITLES)).to_have_count(20)
    first = titles(page)[0]
    page.get_by_role("link", name=f"Why {first}?", exact=True).click()
    expect(page.get_by_role("heading", name=f"Why {first}?")).to_be_visible()
    expect(page.locator(".why .notes li").first).to_be_visible()
    rows = page.locator(".candidates tbody tr")
    expect(rows.first).to_contain_text(first)
    expect(page.locator(".candidates .is-shown")).to_have_count(20)
    expect(page.locator(".fallback")).to_contain_text("20 of 20")
    page.locator(".outcomes .chip").filter(has_text="no slot left").click()
    expect(page.locator(".candidates .is-shown")).to_have_count(0)
    expect(rows.first).to_contain_text("no slot left")


def test_the_form_traces_another_surface_and_bad_ids_are_said(page: Page, product: Product) -> None:
    page.goto(f"{product.console}/trace")
    page.locator("select[name=surface]").select_option("item")
    page.locator("input[name=items]").fill("f3")
    page.get_by_role("button", name="Trace").click()
    expect(page.get_by_role("heading", name=re.compile("^item"))).to_be_visible()
    expect(page.locator(".candidates .is-shown").first).to_be_visible()
    page.locator("input[name=request_id]").fill("no-such-request")
    page.get_by_role("button", name="Trace").click()
    expect(page.get_by_role("alert")).to_contain_text("Nothing is known under this name")


def test_the_models_page_shows_builds_and_moves(page: Page, product: Product) -> None:
    page.goto(f"{product.console}/models")
    expect(page.locator(".builds .in-service")).to_have_count(1)
    expect(page.locator(".builds")).to_contain_text("error")
    expect(page.locator(".moves")).to_contain_text("in service")


def test_no_page_shows_an_error_or_leaves_home(page: Page, product: Product) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    more = ("/models", "/trace?person=p7", "/trace?surface=item&items=f17", "/trace?surface=board&items=f2|f160")
    for path in ("/?person=p7", "/search?q=space", "/item/f17", "/board", "/evaluation", "/pipeline", *more):
        page.goto(product.console + path)
        expect(page.locator(".skeleton")).to_have_count(0)
        expect(page.get_by_role("alert")).to_have_count(0)
        assert "Traceback" not in page.content()
        assert KEY not in page.content()
    home = (product.console, product.console.replace("http", "ws"), "data:", "blob:")
    assert [url for url in asked if not url.startswith(home)] == []
