"""HTML from templates. Autoescape is always on: catalog text reaches a page only as text."""

from __future__ import annotations

import html
import math
import re
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeGuard
from urllib.parse import quote, urlencode

import jinja2
from markupsafe import Markup

from honeyguide.console.covers import cover
from honeyguide.schema.wire import Item, ShownItem

__all__ = ["count", "figure", "highlighted", "percent", "render"]

HERE = Path(__file__).parent


def percent(value: object) -> str:
    """A probability as a person reads it: `62%`, `0.4%`, `99.8%`."""
    if not _is_number(value):
        return "–"
    share = float(value) * 100
    digits = 0 if share in (0, 100) or 1 <= share <= 99 else 1
    return f"{share:.{digits}f}%"


def figure(value: object, digits: int = 3) -> str:
    """A metric with a fixed number of decimals, a dash when there is none."""
    return f"{float(value):.{digits}f}" if _is_number(value) else "–"


def count(value: object) -> str:
    """A whole number with thin spaces between the thousands."""
    return f"{int(value):,}".replace(",", "\u202f") if _is_number(value) else "–"


def seconds(value: object) -> str:
    """A duration: `0.4 s`, `31.8 s`, `2 min 05 s`."""
    if not _is_number(value):
        return "–"
    length = float(value)
    return f"{length:.1f} s" if length < 100 else f"{int(length // 60)} min {int(length % 60):02d} s"


def highlighted(marked: str) -> Markup:
    """The API's highlight (escaped text with `<mark>`), taken apart and escaped again: nothing else gets through."""
    parts = []
    for place, piece in enumerate(re.split(r"<mark>(.*?)</mark>", marked, flags=re.DOTALL)):
        text = html.unescape(piece)
        parts.append(Markup("<mark>{}</mark>").format(text) if place % 2 else Markup("{}").format(text))
    return Markup("").join(parts)


def art(item: ShownItem | Item) -> Markup:
    """The item's cover. Its SVG is made of numbers alone, so it needs no escaping."""
    return Markup(cover(item.title or item.item_id, item.categories[0] if item.categories else ""))


def tiny_art(title: str, category: str) -> Markup:
    """The same cover for an item of which only these two are remembered."""
    return Markup(cover(title, category))


def item_link(item_id: str, **query: object) -> str:
    """Address of an item's page, with where the click came from."""
    given = {name: value for name, value in query.items() if value is not None}
    return f"/item/{quote(item_id, safe='')}" + (f"?{urlencode(given)}" if given else "")


def share(value: object, whole: object = 1.0) -> str:
    """A bar's width as a CSS percentage, 0 to 100."""
    if not _is_number(value) or not _is_number(whole) or not float(whole):
        return "0%"
    part = float(value) / float(whole)
    return f"{100 * min(max(part, 0.0), 1.0):.1f}%"


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


@lru_cache(maxsize=1)
def _templates() -> jinja2.Environment:
    env = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=jinja2.ChainableUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters |= {"percent": percent, "figure": figure, "count": count, "seconds": seconds, "share": share}
    logo = Markup((HERE / "assets" / "logo.svg").read_text(encoding="utf-8"))
    env.globals |= {"art": art, "item_link": item_link, "highlighted": highlighted, "logo": logo, "tiny_art": tiny_art}
    return env


def render(template: str, **values: Any) -> str:
    """A template of this package, filled in."""
    return _templates().get_template(template).render(**values)
