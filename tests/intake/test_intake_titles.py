"""Titles: two spellings of one film meet, two films do not."""

from __future__ import annotations

import pytest

from honeyguide.intake.catalog import items_table
from honeyguide.intake.titles import enrich_items, shown_title, title_keys
from honeyguide.schema import columns as c
from honeyguide.schema.wire import Item


@pytest.mark.parametrize(
    "stored, shown",
    [
        ("Usual Suspects, The", "The Usual Suspects"),
        ("Postino, Il (The Postman)", "Il Postino (The Postman)"),
        ("Star Maker, The (Uomo delle stelle, L')", "The Star Maker (L'Uomo delle stelle)"),
        ("Misérables, Les", "Les Misérables"),
        ("Good, the Bad and the Ugly, The", "The Good, the Bad and the Ugly"),
        ("Heat", "Heat"),
        ("Menace II Society, Inc", "Menace II Society, Inc"),
        ("(sub)urbia", "(sub)urbia"),
        ("", ""),
    ],
)
def test_titles_as_people_write_them(stored, shown):
    assert shown_title(stored) == shown
    assert shown_title(shown) == shown


@pytest.mark.parametrize(
    "one, other",
    [
        ("Matrix, The", "The Matrix"),
        ("Misérables, Les", "Les Miserables"),
        ("Twelve Monkeys", "12 Monkeys"),
        ("Blood & Wine", "Blood and Wine"),
        ("Ciao, Professore!", "Ciao Professore"),
        ("Smørgåsbord", "Smorgasbord"),
        ("Seven (Se7en)", "Se7en"),
        ("City of Lost Children, The (Cité des enfants perdus, La)", "La Cité des enfants perdus"),
        ("Professional, The (a.k.a. Leon: The Professional)", "Léon: The Professional"),
    ],
)
def test_spellings_meet(one, other):
    assert set(title_keys(one)) & set(title_keys(other))


def _facts(*films: tuple[str, int]) -> list[Item]:
    return [
        Item(f"f{k}", title=t, year=y, people=[f"P{k}"], country="X", categories=["F"])
        for k, (t, y) in enumerate(films)
    ]


def test_facts_join_by_title_and_year():
    facts = items_table(
        _facts(
            ("The Matrix", 1999),
            ("Heat", 1986),
            ("Heat", 1995),
            ("Star Trek II: The Wrath of Khan", 1982),
            ("Boys", 1996),
        ),
        0,
    )
    items = [
        Item("m", title="Matrix, The", year=1998, categories=["Own"], country="Y"),  # a year off
        Item("h", title="Heat", year=1995),  # the right one of two
        Item("s", title="Star Trek: The Wrath of Khan", year=1982),  # a part
        Item("b", title="Boys, The", year=1997),  # another film: too short a key for another year
        Item("n", title="Nowhere", year=1995),
        Item("y", title="Heat"),  # no year, no match
    ]
    table, share = enrich_items(items_table(items, 3), facts)
    rows = table.to_pylist()
    assert [row[c.PEOPLE] for row in rows] == [["P0"], ["P2"], ["P3"], None, None, None]
    assert share == 0.5
    assert (rows[0][c.CATEGORIES], rows[0][c.COUNTRY], rows[1][c.CATEGORIES]) == (["Own"], "Y", ["F"])
    assert [row[c.ITEM_ID] for row in rows] == [item.item_id for item in items]
    assert enrich_items(items_table(items, 3), facts, weights=[0, 8, 1, 1, 0, 0])[1] == 0.9
