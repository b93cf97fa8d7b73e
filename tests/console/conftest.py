"""A fake API and a console in front of it, each in a process of its own."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

FAKE = Path(__file__).with_name("console_fake_api.py")
START = """
import sys
from honeyguide.console.app import run_console
run_console(sys.argv[1], port=int(sys.argv[2]), timeout_s=1.5)
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _serve(command: list[str], url: str) -> Iterator[str]:
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    try:
        for _ in range(600):
            if process.poll() is not None:
                message = process.stderr.read().decode() if process.stderr else ""
                pytest.fail(f"{command[1]} ended before it answered: {message}")
            try:
                httpx.get(url, timeout=2, trust_env=False)
            except httpx.TransportError:
                time.sleep(0.1)
            else:
                break
        yield url.rsplit("/", 1)[0]
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def api_url() -> Iterator[str]:
    port = free_port()
    yield from _serve([sys.executable, str(FAKE), str(port)], f"http://127.0.0.1:{port}/readyz")


def _console(api: str) -> Iterator[str]:
    port = free_port()
    yield from _serve([sys.executable, "-c", START, api, str(port)], f"http://127.0.0.1:{port}/no-such-page")


@pytest.fixture(scope="module")
def console_url(api_url: str) -> Iterator[str]:
    yield from _console(api_url)


@pytest.fixture(scope="module")
def lonely_console_url() -> Iterator[str]:
    """A console whose API is not running."""
    yield from _console(f"http://127.0.0.1:{free_port()}")


@pytest.fixture
def logged(api_url: str) -> Callable[[], list[dict]]:
    return lambda: httpx.get(f"{api_url}/test/events", trust_env=False).json()
