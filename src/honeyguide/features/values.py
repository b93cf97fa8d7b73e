"""The room's tables: FeatureValues as of a moment, TrainingSet with a column per feature."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from honeyguide.contracts import F32, CatalogView, Interactions
from honeyguide.features.asof import as_of
from honeyguide.features.definition import FeatureSet
from honeyguide.features.training_set import LabelRows
from honeyguide.schema import columns as c
from honeyguide.schema.tables import FEATURE_VALUES, TRAINING_SET
from honeyguide.schema.vocabulary import Vocabulary

__all__ = ["feature_values", "training_table"]


def feature_values(
    features: FeatureSet, interactions: Interactions, users: Vocabulary, items: Vocabulary, at_us: int,
    *, catalog: CatalogView | None = None,
) -> pa.Table:  # fmt: skip
    """The FeatureValues table: the aggregates of every person and item just before `at_us`, null where undefined.

    catalog: needed by features that count different codes of the items.
    """
    parts = []
    sides: tuple[tuple[Literal["user", "item"], Vocabulary], ...] = (("user", users), ("item", items))
    for entity, ids in sides:
        own = features.aggregates(entity)
        rows = np.arange(len(ids), dtype=np.int32)
        values = as_of(features, interactions, entity, rows, np.full(len(ids), at_us), catalog=catalog)
        n = len(ids) * len(own)
        columns = {
            c.ENTITY: pa.repeat(entity, n),
            c.ENTITY_ID: pa.array(list(ids.ids), pa.string()).take(np.tile(rows, len(own))),
            c.FEATURE: pa.array([f.name for f in own], pa.string()).take(np.repeat(np.arange(len(own)), len(ids))),
            c.FEATURE_VALUE: pa.array(values.T.ravel().astype(np.float64), from_pandas=True),
            c.KNOWN_AT: pa.repeat(pa.scalar(at_us, pa.timestamp("us", tz="UTC")), n),
        }
        parts.append(_table(columns, FEATURE_VALUES.arrow()))
    return pa.concat_tables(parts)


def training_table(
    features: FeatureSet, labels: LabelRows, values: F32, users: Vocabulary, items: Vocabulary
) -> pa.Table:
    """The TrainingSet table of what `training_set` gave; the label's id is its place. Null where undefined."""
    schema = TRAINING_SET.arrow()
    columns: dict[str, Any] = {
        c.LABEL_ID: pa.array(np.arange(len(labels), dtype=np.int64)),
        c.USER_ID: _ids(users, labels.user),
        c.ITEM_ID: _ids(items, labels.item),
        c.HAPPENED_AT: pa.array(labels.at).cast(pa.timestamp("us", tz="UTC")),
    }
    for column, name in enumerate(features.names):
        columns[name] = pa.array(values[:, column], from_pandas=True)
        schema = schema.append(pa.field(name, pa.float32()))
    return _table(columns, schema)


def _ids(vocabulary: Vocabulary, rows: Any) -> Any:
    # "" names somebody nobody knows.
    found = pa.array(list(vocabulary.ids), pa.string()).take(pa.array(rows, mask=rows < 0))
    return pc.fill_null(found, "")


def _table(columns: dict[Any, Any], schema: Any) -> Any:
    return pa.Table.from_arrays([columns[name] for name in schema.names], schema=schema)
