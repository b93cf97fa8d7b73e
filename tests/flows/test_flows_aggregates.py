"""Features computed where the tables are, against those computed in memory: the same numbers, on every engine."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from honeyguide.contracts import RETRACT, TablesEngine
from honeyguide.engines.tables.snapshot import Snapshots, content_hash
from honeyguide.features.training_set import LabelRows, training_set
from honeyguide.features.values import feature_values
from honeyguide.flows.aggregates import Aggregates
from honeyguide.flows.build import Prepared, prepare
from honeyguide.flows.create import create
from honeyguide.flows.layout import Layout
from honeyguide.schema import columns as c
from honeyguide.schema.tables import EVENTS

FEATURES = """
[[features]]
name = "seen_together"
entity = "user_item"
aggregate = "count"

[[features]]
name = "liked"
entity = "item"
aggregate = "ratio"
action = "rating"
min_value = 4.0
prior = "overall"
strength = 5.0

[[features]]
name = "lately"
entity = "user"
aggregate = "count"
window_days = 30.0
hop = "day"

[[features]]
name = "tastes"
entity = "user"
aggregate = "distinct"
of = "category"

[[features]]
name = "on_surface"
entity = "item_context"
context = "surface"
aggregate = "count"

[[features]]
kind = "fact"
name = "year"
fact = "year"
"""


@pytest.fixture(scope="module")
def workspace(film_files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Films whose log holds late, corrected and retracted events."""
    folder = tmp_path_factory.mktemp("aggregates") / "shop"
    create(folder, events=film_files["events"], items=film_files["items"], users=film_files["users"])
    toml = folder / "honeyguide.toml"
    toml.write_text(toml.read_text() + FEATURES)
    tables = Snapshots(folder / "tables")
    rows = tables.read(EVENTS.name).cast(EVENTS.arrow()).to_pylist()
    rng = np.random.default_rng(0)
    more = []
    for row in rows:
        row[c.SURFACE] = ["home", "item", None][int(rng.integers(0, 3))]
        if rng.random() < 0.1:
            row[c.KNOWN_AT] += dt.timedelta(days=int(rng.integers(1, 60)))
        if rng.random() < 0.05:
            later = row[c.KNOWN_AT] + dt.timedelta(hours=5)
            changed = {c.EVENT_ID: row[c.EVENT_ID] + "+", c.CORRECTS: row[c.EVENT_ID], c.KNOWN_AT: later}
            what = {c.ACTION: RETRACT} if rng.random() < 0.3 else {c.VALUE: 1.0}
            more.append({**row, **changed, **what})
    tables.write(EVENTS.name, pa.Table.from_pylist(sorted(rows + more, key=lambda r: r[c.HAPPENED_AT]), EVENTS.arrow()))
    return folder


@pytest.fixture
def prepared(engine: TablesEngine, workspace: Path) -> Prepared:
    return prepare(Layout.open(workspace), lambda what, done, total: None, engine=engine)


def test_feature_values_are_those_of_the_arrays(engine: TablesEngine, prepared: Prepared) -> None:
    data, at = prepared.data, int(prepared.data.interactions.at[-1]) + 1
    assert data.interactions.former is not None
    found = Aggregates(engine, data, prepared.features).values(at)
    people, items = data.users, data.catalog.items
    expected = feature_values(prepared.features, data.interactions, people, items, at, catalog=data.catalog)
    assert found.num_rows > 0
    assert content_hash(found) == content_hash(expected)


def test_labels_get_what_they_get_in_memory_each_one_row(engine: TablesEngine, prepared: Prepared) -> None:
    data, rng = prepared.data, np.random.default_rng(1)
    n = 500
    user = rng.integers(-1, len(data.users), n).astype(np.int32)
    item = rng.integers(0, len(data.catalog), n).astype(np.int32)
    at = rng.choice(data.interactions.at, n) + rng.integers(0, 2, n)
    user[:20], item[:20], at[:20] = user[20:40], item[20:40], at[20:40]  # the same label twice is two rows
    aggregates = Aggregates(engine, data, prepared.features)
    assert aggregates.names() == ("seen_together", "liked", "lately", "tastes")
    found = aggregates.of_labels(user, item, at)
    expected = training_set(prepared.features, data.interactions, data.catalog, LabelRows(user, item, at))
    for name in aggregates.names():
        column = prepared.features.names.index(name)
        # In memory nobody's features are those of somebody without events; here they have none.
        somebody = user >= 0
        assert np.array_equal(found[name][somebody], expected[somebody, column], equal_nan=True), name
        assert len(found[name]) == n


def test_no_labels_are_no_rows(engine: TablesEngine, prepared: Prepared) -> None:
    nobody = np.zeros(0, np.int32)
    found = Aggregates(engine, prepared.data, prepared.features).of_labels(nobody, nobody, np.zeros(0, np.int64))
    assert [len(column) for column in found.values()] == [0] * 4
