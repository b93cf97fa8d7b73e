"""Where log lines go: to stderr, so that what a command prints is its answer alone."""

from __future__ import annotations

import sys

import structlog

__all__ = ["log_to_stderr"]


def log_to_stderr() -> None:
    """Send log lines to stderr, unless whoever embeds this package has configured structlog already."""
    if not structlog.is_configured():
        # The stream is looked up at each line: notebooks and tests exchange it.
        structlog.configure(logger_factory=lambda *names: structlog.PrintLogger(sys.stderr))
