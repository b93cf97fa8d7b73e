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


def needs(program: str, what: str) -> None:
    """Skip (or, where HONEYGUIDE_NO_SKIP is set, fail) a test whose program is not on this machine."""
    if shutil.which(program) is None:
        message = f"{what} needs `{program}`, which is not installed here"
        if os.environ.get("HONEYGUIDE_NO_SKIP"):
            pytest.fail(message)
        pytest.skip(message)


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of a headless browser."""
    needs("chromium", "the browser test")
    return shutil.which("chromium") or ""


@pytest.fixture(scope="session")
def java() -> str:
    """Path of Java, for Spark."""
    needs("java", "the Spark test")
    return shutil.which("java") or ""
