"""The other datasets' files as our tables: film facts and the Open Bandit sample."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from honeyguide.engines.tables.sqlite_file import read_sqlite
from honeyguide.intake import values
from honeyguide.intake.catalog import start_of_year_us
from honeyguide.intake.quality import fitted
from honeyguide.schema import columns as c
from honeyguide.schema.tables import EVENTS, ITEMS

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["film_facts", "open_bandit"]

# Static facts alone. Votes, ratings, awards and box office were known only later: they never enter.
_FACTS = (
    'SELECT "imdbID", "Title", "Year", "Genre", "Director", "Cast", "Country", "Language", "Runtime" FROM omdb '
    'WHERE "Title" IS NOT NULL ORDER BY "ID"'
)
_MOST_PEOPLE = 100  # a person more would find nobody; the wire takes 200
_CAMPAIGNS = ("all", "men", "women")
_POLICIES = ("random", "bts")


def film_facts(members: Mapping[str, bytes]) -> dict[str, pa.Table]:
    """17,472 films as Items: directors, then cast, in `people`; known from the start of the film's year."""
    import pyarrow as pa
    import pyarrow.compute as pc

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "films.db"
        path.write_bytes(members["bokeh_sampledata/_data/movies.db"])
        films = read_sqlite(path, _FACTS)
    director, cast = (_split(films[name]) for name in ("Director", "Cast"))
    people = [list(dict.fromkeys([*d, *k]))[:_MOST_PEOPLE] or None for d, k in zip(director, cast, strict=True)]
    year = films["Year"].cast(pa.int32()).combine_chunks()
    facts = pa.table(
        {"director": pa.array([d or None for d in director], pa.list_(pa.string())), "runtime_min": films["Runtime"]}
    )
    columns: dict[str, pa.Array] = {
        c.ITEM_ID: films["imdbID"],
        c.TITLE: films["Title"],
        c.CATEGORIES: pa.array([g or None for g in _split(films["Genre"])], pa.list_(pa.string())),
        c.PEOPLE: pa.array(people, pa.list_(pa.string())),
        c.COUNTRY: _first(films["Country"]),
        c.LANGUAGE: _first(films["Language"]),
        c.YEAR: year,
        c.ATTRIBUTES: values.objects(facts),
        c.AVAILABLE: pa.array(np.ones(films.num_rows, bool)),
        c.KNOWN_AT: pa.array(start_of_year_us(year)),
    }
    return {"items": fitted(ITEMS, columns, films.num_rows).filter(pc.is_valid(films["imdbID"]))}


def _split(column: pa.ChunkedArray) -> list[list[str]]:
    return [[part.strip() for part in (cell or "").split(",") if part.strip()] for cell in column.to_pylist()]


def _first(column: pa.ChunkedArray) -> pa.Array:
    import pyarrow as pa

    return pa.array([parts[0] if parts else None for parts in _split(column)], pa.string())


def open_bandit(members: Mapping[str, bytes]) -> dict[str, pa.Table]:
    """60,000 impressions of two policies in three campaigns, and their clicks, with the true propensities.

    The log names no people: `user_id` stands for all who share the four anonymous features. The 80 affinity columns are
    left out. An item's number means another item in each campaign, so its id carries the campaign.
    """
    import pyarrow as pa
    import pyarrow.csv as pv

    shown, items = [], []
    for campaign in _CAMPAIGNS:
        for policy in _POLICIES:
            folder = f"obp/dataset/obd/{policy}/{campaign}"
            log = pv.read_csv(io.BytesIO(members[f"{folder}/{campaign}.csv"]))
            shown.append(_impressions(log, campaign, policy))
        catalog = pv.read_csv(io.BytesIO(members[f"obp/dataset/obd/random/{campaign}/item_context.csv"]))
        items.append(_bandit_items(catalog, campaign))
    impressions = pa.concat_tables(shown)
    clicked = impressions.filter(impressions["click"]).drop_columns("click")
    n = clicked.num_rows
    for column, cells in (
        (c.ACTION, pa.array(["click"] * n, pa.string())),
        (c.EVENT_ID, pa.array([f"{key}-click" for key in clicked[c.EVENT_ID].to_pylist()], pa.string())),
    ):
        clicked = clicked.set_column(clicked.column_names.index(column), clicked.schema.field(column), cells)
    return {"events": pa.concat_tables([impressions.drop_columns("click"), clicked]), "items": pa.concat_tables(items)}


def _impressions(log: pa.Table, campaign: str, policy: str) -> pa.Table:
    import pyarrow as pa
    import pyarrow.compute as pc

    n = log.num_rows
    features = [f"user_feature_{k}" for k in range(4)]
    # Eight of 32 hex digits are enough to tell the few values of each feature apart.
    person = pc.binary_join_element_wise(*(pc.utf8_slice_codeunits(log[name], 0, 8) for name in features), "-")
    key = [f"{policy}-{campaign}-{row}" for row in range(n)]
    item = pc.binary_join_element_wise(campaign, log["item_id"].cast(pa.string()), ":")
    at = log["timestamp"].cast(pa.timestamp("us", tz="UTC"))
    columns: dict[str, pa.Array] = {
        c.EVENT_ID: pa.array(key),
        c.USER_ID: person,
        c.ITEM_ID: item,
        c.ACTION: pa.array(["impression"] * n),
        c.HAPPENED_AT: at,
        c.KNOWN_AT: at,
        c.SURFACE: pa.array([campaign] * n),
        c.REQUEST_ID: pa.array(key),
        c.EXPERIMENT: pa.array([f"open-bandit={policy}"] * n),
        c.POSITION: log["position"],
        c.PROPENSITY: log["propensity_score"],
        c.CONTEXT: values.objects(log.select(features)),
    }
    table = fitted(EVENTS, columns, n)
    return table.append_column("click", pc.equal(log["click"], 1))


def _bandit_items(catalog: pa.Table, campaign: str) -> pa.Table:
    import pyarrow as pa
    import pyarrow.compute as pc

    n = catalog.num_rows
    columns: dict[str, pa.Array] = {
        c.ITEM_ID: pc.binary_join_element_wise(campaign, catalog["item_id"].cast(pa.string()), ":"),
        c.CATEGORIES: pa.array([[campaign]] * n, pa.list_(pa.string())),
        c.ATTRIBUTES: values.objects(catalog.select([f"item_feature_{k}" for k in range(4)])),
        c.AVAILABLE: pa.array(np.ones(n, bool)),
        c.KNOWN_AT: pa.array(np.zeros(n, np.int64)),
    }
    return fitted(ITEMS, columns, n)
