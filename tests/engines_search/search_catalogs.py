"""Small catalogs for the tests of search."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from honeyguide.contracts import CatalogView, Ragged
from honeyguide.schema.vocabulary import Vocabulary
from honeyguide.schema.wire import Item


def catalog_of(items: Sequence[Item]) -> CatalogView:
    """Items as arrays."""

    def coded(lists: list[list[str]]) -> tuple[Ragged, list[str]]:
        codes: dict[str, int] = {}
        return Ragged.of([[codes.setdefault(v, len(codes)) for v in values] for values in lists]), list(codes)

    category, category_names = coded([item.categories for item in items])
    people, people_names = coded([item.people for item in items])
    countries = sorted({item.country for item in items if item.country})
    return CatalogView(
        Vocabulary(item.item_id for item in items),
        [item.title or "" for item in items],
        [item.description or "" for item in items],
        category,
        category_names,
        people,
        people_names,
        np.array([countries.index(item.country) if item.country else -1 for item in items], np.int32),
        countries,
        np.array([np.nan if item.year is None else item.year for item in items], np.float32),
        np.array([np.nan if item.price is None else item.price for item in items], np.float32),
        np.array([item.available for item in items], np.bool_),
        np.zeros(len(items), np.int64),
    )


def film(item_id: str, title: str, year: int | None, genres: str = "", people: str = "", **more: object) -> Item:
    """A film in one line; several people are separated by ';'."""
    names = [name.strip() for name in people.split(";") if name.strip()]
    return Item(item_id, title=title, year=year, categories=genres.split(), people=names, **more)  # type: ignore[arg-type]


FILMS = [
    film("m1", "Matrix, The (1999)", 1999, "Action Sci-Fi", "Keanu Reeves; Lana Wachowski", country="USA", price=9.0),
    film("m2", "Matrix Reloaded, The (2003)", 2003, "Action Sci-Fi", "Keanu Reeves; Lana Wachowski", country="USA"),
    film("a2", "Aliens (1986)", 1986, "Action Sci-Fi", "Sigourney Weaver; James Cameron", country="USA", price=5.0),
    film("a1", "Alien (1979)", 1979, "Horror Sci-Fi", "Sigourney Weaver; Ridley Scott", country="UK", price=7.5),
    film("an", "Alien Nation (1988)", 1988, "Crime Sci-Fi", "James Caan", country="USA"),
    film("h1", "Heat (1995)", 1995, "Crime Drama", "Al Pacino; Robert De Niro; Michael Mann", country="USA"),
    film("h2", "Heat (1986)", 1986, "Crime", "Burt Reynolds", country="USA"),
    film("h3", "Body Heat (1981)", 1981, "Crime Drama", "William Hurt; Kathleen Turner", country="USA"),
    film("r1", "Rocky (1976)", 1976, "Drama", "Sylvester Stallone", country="USA"),
    film("r2", "Rocky II (1979)", 1979, "Drama", "Sylvester Stallone", country="USA"),
    film(
        "am", "Amélie (Fabuleux destin d'Amélie Poulain, Le)", 2001, "Comedy Romance", "Audrey Tautou", country="France"
    ),
    film("sp", "Spider-Man (2002)", 2002, "Action", "Tobey Maguire; Kirsten Dunst", country="USA", price=3.0),
    film("sl", "Schindler's List (1993)", 1993, "Drama War", "Liam Neeson; Steven Spielberg", country="USA"),
    film("gf", "Godfather, The (1972)", 1972, "Crime Drama", "Al Pacino; Marlon Brando", country="USA"),
    film("to", "Tokyo Story (東京物語)", 1953, "Drama", "Yasujirô Ozu", country="Japan"),
    film("nd", "Untitled", None, "Documentary", "", description="A quiet essay on bees and honey."),
]
