"""Shared by all tests: quiet libraries, and the rule that nothing is skipped silently in CI."""

from __future__ import annotations

import os
import shutil

import pytest
from hypothesis import settings

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


@pytest.fixture(scope="session")
def java() -> str:
    """Path of Java, for Spark."""
    return needs("the Spark test", "java")
