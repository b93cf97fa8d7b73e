"""What a person's history says of completions: which categories, people and items it speaks for."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from honeyguide.understanding.suggest import Taste

if TYPE_CHECKING:
    from honeyguide.flows.live import Live

__all__ = ["taste_of"]

NEWEST = 50


def taste_of(live: Live, user_id: str) -> Taste | None:
    """The shares of a person's newest events by category and person; None where nothing is known of them."""
    row = live.users.row(user_id)
    if row < 0:
        return None
    past = live.online.history(row, NEWEST, live.now_us())
    items = [item for item, weight in zip(past.items.tolist(), past.weights.tolist(), strict=True) if weight > 0]
    if not items:
        return None
    names: Counter[str] = Counter()
    for item in items:
        facts = live.facts(item)
        names.update({*facts.categories, *facts.all_people})
    return Taste({name: count / len(items) for name, count in names.items()})
