"""What the server and its worker processes say to each other."""

from __future__ import annotations

from typing import Any

import msgspec

__all__ = ["Spec", "Started"]


class Spec(msgspec.Struct):
    """What a worker serves."""

    factory: str  # package.module:callable that makes the answerer
    arguments: dict[str, Any]  # its keyword arguments: what JSON can hold
    settings: str  # ServeSettings as JSON
    shared_metrics: str | None


class Started(msgspec.Struct):
    """How a worker's start went: no error, or one that a person can act on."""

    error: str | None = None  # the class, of honeyguide.errors
    expected: str = ""
    got: str = ""
    do: str = ""
