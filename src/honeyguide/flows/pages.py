"""The templates of pages that are written to disk; what they are given is escaped."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jinja2

__all__ = ["TEMPLATES", "environment", "template"]

TEMPLATES = Path(__file__).parent / "templates"


def environment(
    filters: Mapping[str, Callable[..., Any]] = MappingProxyType({}), *, gaps: bool = False
) -> jinja2.Environment:
    """For templates with filters of their own; under `gaps` what is missing prints nothing instead of failing."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.ChainableUndefined if gaps else jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(filters)
    return made


@lru_cache(maxsize=8)
def template(name: str) -> jinja2.Template:
    """One that needs no filter."""
    return environment().get_template(name)
