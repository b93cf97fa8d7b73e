"""What `honeyguide merch` and `/v1/merchandising` do."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from honeyguide.contracts import CatalogView
from honeyguide.engines.tables.snapshot import Snapshots
from honeyguide.flows.config import WorkspaceConfig
from honeyguide.flows.data import all_items
from honeyguide.flows.layout import Layout
from honeyguide.flows.merchandising import store
from honeyguide.intake.catalog import catalog_view
from honeyguide.schema.tables import ITEMS

__all__ = ["add_rule", "checked", "remove_rule", "rules"]


def rules(folder: Path | str) -> list[dict[str, Any]]:
    """Every rule as a row."""
    layout = Layout.open(folder)
    return store.listing(store.read(layout), _now(layout))


def add_rule(folder: Path | str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Add a rule; the row it became, and what there is to say against it."""
    layout = Layout.open(folder)
    return added(layout, given, _catalog(layout), _now(layout))


def added(layout: Layout, given: Mapping[str, Any], catalog: CatalogView | None, now: dt.datetime) -> dict[str, Any]:
    """The same over a catalog that is at hand."""
    rule = store.add(layout, store.rule_of(given))
    against = [row for row in store.review(store.read(layout), catalog, now) if rule.id in (row["rule"], row["other"])]
    return {"rule": store.listing([rule], now)[0], "found": against}


def remove_rule(folder: Path | str, rule_id: str) -> dict[str, Any]:
    """Take a rule away; the row that it was."""
    layout = Layout.open(folder)
    return {"removed": store.listing([store.remove(layout, rule_id)], _now(layout))[0]}


def checked(folder: Path | str) -> dict[str, Any]:
    """How many rules there are, and everything there is to say against them."""
    layout = Layout.open(folder)
    found = store.read(layout)
    return {"rules": len(found), "found": store.review(found, _catalog(layout), _now(layout))}


def _now(layout: Layout) -> dt.datetime:
    """The present by the workspace's clock: the same that servers go by."""
    return dt.datetime.fromtimestamp(time.time() - WorkspaceConfig.load(layout.config).clock.offset_s, dt.UTC)


def _catalog(layout: Layout) -> CatalogView | None:
    if Snapshots(layout.tables).find(ITEMS.name) is None and not layout.log.exists():
        return None
    return catalog_view(all_items(layout))
