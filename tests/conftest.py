"""Shared by all tests: quiet libraries, and the rule that nothing is skipped silently in CI."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

    from honeyguide.contracts import TablesEngine
    from honeyguide.engines.tables.spark import SparkTables

os.environ.setdefault("NUMBA_NUM_THREADS", "2")
os.environ.setdefault("RICH_NO_COLOR", "1")

settings.register_profile("house", deadline=None, max_examples=50, derandomize=True)
settings.load_profile("house")


def needs(what: str, *names: str) -> str:
    """Path of a program, by any of its names; without it the test is skipped (failed under HONEYGUIDE_NO_SKIP)."""
    for name in names:
        path = shutil.which(name)
        if path is not None:
            return path
    message = f"{what} needs `{names[0]}`, which is not installed here (Debian: apt-get install {names[0]})"
    if os.environ.get("HONEYGUIDE_NO_SKIP"):
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of a headless browser."""
    return needs("the browser test", "chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    """A headless browser that asks nobody but this machine."""
    from playwright.sync_api import sync_playwright

    quiet = ("background-networking", "component-update", "gpu", "sync")
    with sync_playwright() as playwright:
        args = ["--no-sandbox", "--no-first-run", *(f"--disable-{what}" for what in quiet)]
        browser = playwright.chromium.launch(executable_path=chromium, args=args)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page of its own visit; an error in its scripts fails the test."""
    from playwright.sync_api import expect

    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(20_000)
    expect.set_options(timeout=20_000)
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    context.close()
    assert errors == []


@pytest.fixture(scope="session")
def java() -> str:
    """Path of Java, for Spark."""
    return needs("the Spark test", "java")


@pytest.fixture(scope="session")
def cluster(java: str) -> Iterator[SparkTables]:
    """Tables on Spark, on a cluster of two executor processes."""
    from honeyguide.engines.tables.spark import SparkConfig, SparkTables

    limits = {"spark.executor.memory": "512m"}
    config = SparkConfig(master="local-cluster[2,1,1024]", driver_memory_gb=1, shuffle_partitions=4, options=limits)
    with SparkTables(config) as tables:
        yield tables


@pytest.fixture(params=["duckdb", pytest.param("spark", marks=pytest.mark.heavy)])
def engine(request: pytest.FixtureRequest) -> Iterator[TablesEngine]:
    """Each engine in turn: what a test of it says must hold of both."""
    if request.param == "spark":
        yield request.getfixturevalue("cluster")
        return
    from honeyguide.engines.tables.duckdb import DuckDBTables

    with DuckDBTables() as tables:
        yield tables
