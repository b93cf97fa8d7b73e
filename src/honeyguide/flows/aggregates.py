"""Features that count events, computed where the tables are: for the labels of a training set and for FeatureValues.

The same kernel as in memory, over the same whole numbers, on buckets of people and items (`features.asof_buckets`): on
Spark they run on the executors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from honeyguide.contracts import RETRACT, TablesEngine
from honeyguide.features.definition import Feature, FeatureSet
from honeyguide.flows.tables import PLACE
from honeyguide.schema import columns as c
from honeyguide.schema.tables import FEATURE_VALUES

if TYPE_CHECKING:
    import ibis.expr.types as ir
    import pyarrow as pa

    from honeyguide.flows.data import Dataset

__all__ = ["Aggregates"]


@dataclass(frozen=True)
class Aggregates:
    """The aggregates of a feature set over one dataset's events, on the engine that holds them."""

    engine: TablesEngine
    data: Dataset
    features: FeatureSet

    def names(self) -> tuple[str, ...]:
        """Those that `of_labels` gives: what asks for the context of a moment is left to who knows it."""
        return tuple(f.name for f in self._known())

    def of_labels(self, user: Any, item: Any, at_us: Any) -> dict[str, Any]:
        """By name, the value for each (person, item, moment), (n,) float32; nan where undefined.

        user, item: (n,) rows, -1 unknown; at_us: (n,). Only events strictly before the moment, and known then, count.
        """
        import pyarrow as pa

        users, items = (pa.array(ids.ids, pa.string()) for ids in (self.data.users, self.data.catalog.items))
        labels = _labels(_named(users, user), _named(items, item), at_us)
        found = self._asked(FeatureSet(self._known()), labels)
        return {name: _floats(found[name]) for name in self.names()}

    def values(self, at_us: int) -> pa.Table:
        """The FeatureValues table: every person's and item's aggregates just before `at_us`, null where undefined."""
        import pyarrow as pa

        parts = [
            self._of_side("user", self.data.users.ids, at_us),
            self._of_side("item", self.data.catalog.items.ids, at_us),
        ]
        return pa.concat_tables(parts)

    def _known(self) -> tuple[Feature, ...]:
        return tuple(f for f in self.features if isinstance(f, Feature) and f.key.context is None)

    def _of_side(self, side: Literal["user", "item"], ids: Sequence[str], at_us: int) -> pa.Table:
        import pyarrow as pa

        own, n = self.features.aggregates(side), len(ids)
        names, nobody = pa.array(ids, pa.string()), pa.nulls(n, pa.string())
        sides = (names, nobody) if side == "user" else (nobody, names)
        found = self._asked(FeatureSet(own), _labels(*sides, np.full(n, at_us)))
        columns = [found[f.name].combine_chunks() for f in own]
        schema = FEATURE_VALUES.arrow()
        told = {
            c.ENTITY: pa.repeat(side, n * len(own)),
            c.ENTITY_ID: pa.concat_arrays([names] * len(own)) if own else pa.array([], pa.string()),
            c.FEATURE: pa.array([f.name for f in own], pa.string()).take(pa.array(np.repeat(np.arange(len(own)), n))),
            c.FEATURE_VALUE: pa.concat_arrays(columns).cast(pa.float64()) if own else pa.array([], pa.float64()),
            c.KNOWN_AT: pa.repeat(pa.scalar(at_us, schema.field(c.KNOWN_AT).type), n * len(own)),
        }
        return pa.Table.from_arrays([told[name] for name in schema.names], schema=schema)

    def _asked(self, features: FeatureSet, labels: pa.Table) -> pa.Table:
        """A row per label, in their order."""
        import pyarrow as pa

        # A process that serves imports this module too, and needs no Ibis.
        from honeyguide.features.asof_buckets import as_of_buckets

        if not len(features) or not labels.num_rows:
            nothing = {f.name: pa.nulls(labels.num_rows, pa.float32()) for f in features}
            return pa.table({c.LABEL_ID: labels[c.LABEL_ID], **nothing})
        asked = self.engine.table(labels, "labels")
        actions = self.data.interactions.actions
        found = as_of_buckets(features, self.engine, self._events(), asked, actions, codes=self._codes())
        return self.engine.arrow(found.order_by(c.LABEL_ID))

    def _events(self) -> ir.Table:
        """The events with what the features look at; what no event of this log has is left away, as it costs."""
        from honeyguide.features.asof_ibis import with_versions

        events, told = self.data.events.drop(PLACE), self.data.interactions
        corrects = events.filter(events[c.CORRECTS].notnull() | (events[c.ACTION] == RETRACT))
        if self.engine.arrow(corrects.count().name(c.N).as_table())[c.N][0].as_py():
            return with_versions(events)
        return events.drop(c.KNOWN_AT) if told.known_at is None else events

    def _codes(self) -> dict[str, pa.Table]:
        """By facet, item id and code: what `distinct` counts."""
        import pyarrow as pa

        view = self.data.catalog
        items, tables = pa.array(view.items.ids, pa.string()), {}
        for facet, ragged, names in (
            ("category", view.category, view.category_names),
            ("people", view.people, view.people_names),
        ):
            owner = np.repeat(np.arange(len(ragged)), np.diff(ragged.indptr))
            code = pa.array(names, pa.string()).take(pa.array(ragged.values.astype(np.int64)))
            tables[facet] = pa.table({c.ITEM_ID: items.take(pa.array(owner)), facet: code})
        return tables


def _labels(users: pa.Array, items: pa.Array, at_us: Any) -> pa.Table:
    import pyarrow as pa

    at = pa.array(np.asarray(at_us, np.int64)).cast(pa.timestamp("us", tz="UTC"))
    places = pa.array(np.arange(len(at), dtype=np.int64))
    return pa.table({c.LABEL_ID: places, c.USER_ID: users, c.ITEM_ID: items, c.HAPPENED_AT: at})


def _named(ids: pa.Array, rows: Any) -> pa.Array:
    import pyarrow as pa

    place = np.asarray(rows, np.int64)
    return ids.take(pa.array(place, mask=place < 0))


def _floats(column: pa.ChunkedArray) -> Any:
    import pyarrow.compute as pc

    return pc.fill_null(column, np.nan).to_numpy().astype(np.float32)
