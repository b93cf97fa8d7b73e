"""The default shop: a catalog in words for a world that was drawn, not fitted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from honeyguide.contracts import I32
from honeyguide.kernels.world import Goods
from honeyguide.schema import columns as c
from honeyguide.schema.tables import ITEMS
from honeyguide.schema.vocabulary import Vocabulary
from honeyguide.schema.wire import Item
from honeyguide.world.audience import Shelf

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["category_name", "items_table", "shelf"]

BRANCHES = ("Kitchen", "Garden", "Outdoor", "Home", "Sport", "Toys", "Music", "Office", "Bath", "Travel")
LEAVES = (
    "pots", "knives", "seeds", "tools", "tents", "lamps", "rugs", "balls", "games", "strings", "drums", "pens", "desks",
    "towels", "bags", "mugs", "chairs", "boots", "clocks", "baskets", "blankets", "bottles", "shelves", "puzzles",
)  # fmt: skip
STYLES = (
    ("plain", "quiet", "classic", "bright", "bold"),
    ("light", "slim", "sturdy", "heavy", "massive"),
    ("rustic", "natural", "modern", "polished", "futuristic"),
)
MATERIALS = ("oak", "steel", "linen", "ceramic", "glass", "cotton", "bamboo", "leather", "copper", "wool")


def category_name(leaf: int, branch: int) -> str:
    """The name of a category; numbered where there are more than words."""
    again = leaf // len(LEAVES)
    name = f"{BRANCHES[branch % len(BRANCHES)]} {LEAVES[leaf % len(LEAVES)]}"
    return f"{name} {again + 1}" if again else name


def _title(goods: Goods, row: int) -> str:
    # One of the styles shows in the words, with noise: text tells something, and not all.
    dimension = row % min(len(STYLES), goods.style.shape[1])
    word = STYLES[dimension][min(int(goods.style[row, dimension] * 5), 4)]
    material = MATERIALS[(row * 2_654_435_761) % len(MATERIALS)]
    leaf = int(goods.leaf[row])
    return f"{word.capitalize()} {material} {LEAVES[leaf % len(LEAVES)]} No. {row}"


def item(goods: Goods, row: int) -> Item:
    """One item as the product is told of it: title, category, price, seller; never quality, lure or style itself."""
    branch = int(goods.branch[row])
    return Item(
        item_id=f"i{row}",
        title=_title(goods, row),
        description=f"By seller {int(goods.seller[row])}.",
        categories=[category_name(int(goods.leaf[row]), branch), BRANCHES[branch % len(BRANCHES)]],
        people=[f"Seller {int(goods.seller[row])}"],
        price=round(float(np.exp(goods.log_price[row])), 2),
        available=True,
    )


def shelf(goods: Goods, people: int) -> Shelf:
    """Ids, items and words of the default shop."""
    branch_of: dict[int, int] = dict(zip(goods.leaf.tolist(), goods.branch.tolist(), strict=True))

    def words(leaf: int, number: int) -> str:
        name = category_name(leaf, branch_of.get(leaf, 0)).lower()
        return name if number % 2 else f"{MATERIALS[number % len(MATERIALS)]} {name.split()[-1]}"

    return Shelf(
        Vocabulary(f"i{row}" for row in range(len(goods.leaf))),
        [f"u{row}" for row in range(people)],
        lambda row: item(goods, row),
        words,
    )


def items_table(goods: Goods, known_at: int, rows: I32) -> pa.Table:
    """Items of the given rows as the catalog's table."""
    import pyarrow as pa

    made = [item(goods, int(row)) for row in rows]
    nothing = [None] * len(made)
    columns = {
        c.ITEM_ID: [one.item_id for one in made],
        c.TITLE: [one.title for one in made],
        c.DESCRIPTION: [one.description for one in made],
        c.CATEGORIES: [one.categories for one in made],
        c.PEOPLE: [one.people for one in made],
        c.COUNTRY: nothing,
        c.YEAR: nothing,
        c.PRICE: [one.price for one in made],
        c.LANGUAGE: ["en"] * len(made),
        c.IMAGE_URL: nothing,
        c.ATTRIBUTES: nothing,
        c.AVAILABLE: [True] * len(made),
        c.KNOWN_AT: [max(int(goods.born[row]), 0) if goods.born[row] < known_at else known_at for row in rows],
    }
    schema = ITEMS.arrow()
    return pa.table([pa.array(columns[field.name], field.type) for field in schema], schema=schema)
