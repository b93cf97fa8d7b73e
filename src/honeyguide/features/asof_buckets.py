"""The kernel where the tables are: rows of an entity are brought together by the engine, a bucket of entities at once.

Memory is that of a bucket, whatever the log's size; on Spark the buckets run on the executors. The values are those of
`asof` and `asof_ibis`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from honeyguide.contracts import I64, TablesEngine
from honeyguide.features.asof_ibis import operand_table
from honeyguide.features.definition import Feature, FeatureSet, Key
from honeyguide.features.plan import CellPlan, Codes, Operand, Plan, formula_of
from honeyguide.features.sql import AT, KNOWN, LABEL, UNTIL, Log, entity_of, timed_labels
from honeyguide.kernels import aggregates as g
from honeyguide.kernels import windows as w
from honeyguide.kernels.lasting import as_of_any
from honeyguide.schema import columns as c

if TYPE_CHECKING:
    import ibis.expr.types as ir
    import pyarrow as pa

__all__ = ["as_of_buckets"]

_KEY, _USER, _ITEM = "key_", "user_", "item_"


def as_of_buckets(
    features: FeatureSet,
    engine: TablesEngine,
    events: ir.Table,
    labels: ir.Table,
    actions: tuple[str, ...],
    *,
    codes: Mapping[str, pa.Table] | None = None,
) -> ir.Table:
    """What `asof_ibis.as_of_table` gives, by the kernel: the label's id and a float32 column per aggregate.

    events, labels: as there. actions: all that the features name. codes: by facet, a table of item id and one more
    column. Costs a pass of the engine over the events for each kind of entity (and one for everybody, where a feature
    asks for them), and the kernel's own time.
    """
    import ibis

    plan = Plan.of(FeatureSet(tuple(f for f in features if isinstance(f, Feature))), actions)
    log, asked = Log.of(events), timed_labels(labels)
    everybody = list(dict.fromkeys(x for f in plan.features if isinstance(f, Feature) for x in formula_of(f).g))
    names = {x: f"g{at}_" for at, x in enumerate(everybody)}
    if everybody:
        of_all = operand_table(None, names, log, asked)
        asked = asked.left_join(of_all, LABEL).drop(f"{LABEL}_right")
    result = labels.select(c.LABEL_ID, **{LABEL: labels[c.LABEL_ID].cast("int64")})
    for key, cells in plan.groups.items():
        formulas = plan.formulas(key)
        if not len(formulas[0]):
            continue
        columns = [plan.features.names[at] for at in formulas[0][:, w.COLUMN]]
        of_key = _Bucket(plan, key, cells, names, columns, _facets(cells, codes or {}))
        rows = _rows(key, log, asked, list(names.values()), actions, named=of_key.named)
        found = engine.in_buckets(rows, _KEY, of_key, of_key.schema())
        result = result.left_join(found, LABEL).drop(f"{LABEL}_right")
    values = {name: result[name].cast("float32") for name in plan.features.names}
    absent = ibis.null("float32")
    return result.select(c.LABEL_ID, **{n: ibis.ifelse(v.isnan(), absent, v) for n, v in values.items()})


def _rows(key: Key, log: Log, labels: ir.Table, extra: list[str], actions: tuple[str, ...], *, named: bool) -> ir.Table:
    """Events and labels in one table, with the one column that they are brought together by."""
    import ibis

    def name(table: ir.Table) -> Any:
        parts = entity_of(key, table)
        if len(parts) == 1:
            return parts[0]
        # The length tells "a" + "bc" from "ab" + "c".
        texts = [part.cast("string") for part in parts]
        return texts[0].length().cast("string") + ":" + texts[0] + texts[1]

    events, absent = log.all(), ibis.null("int64")
    ids = {_USER: events[c.USER_ID].cast("string"), _ITEM: events[c.ITEM_ID].cast("string")} if named else {}
    times = (KNOWN, UNTIL) if log.versions else ()
    codes = [(events[c.ACTION] == action, code) for code, action in enumerate(actions)]
    told = events.select(
        **{_KEY: name(events), AT: events[AT], LABEL: absent, c.VALUE: events[c.VALUE].cast("float32")},
        **{c.ACTION: (ibis.cases(*codes, else_=-1) if codes else ibis.literal(-1)).cast("int16")},
        **{time: events[time] for time in times},
        **ids,
        **{column: _null_like(labels[column]) for column in extra},
    )
    asked = labels.select(
        **{_KEY: name(labels), AT: labels[AT], LABEL: labels[LABEL], c.VALUE: ibis.null("float32")},
        **{c.ACTION: ibis.null("int16")},
        **dict.fromkeys(times, absent),
        **{name: ibis.null("string") for name in ids},
        **{column: labels[column] for column in extra},
    )
    return ibis.union(told.filter(told[_KEY].notnull()), asked, distinct=False)


def _null_like(column: Any) -> Any:
    import ibis

    return ibis.null(column.type())


def _facets(cells: CellPlan, codes: Mapping[str, pa.Table]) -> dict[int, dict[str, list[str]]]:
    """By what is counted, the codes of each item."""
    wanted = {cell.what for cell in cells.cells if cell.kind == g.DISTINCT} & {g.CATEGORY, g.PEOPLE}
    found: dict[int, dict[str, list[str]]] = {}
    for what in wanted:
        table = codes["category" if what == g.CATEGORY else "people"]
        (name,) = (column for column in table.column_names if column != c.ITEM_ID)
        of_item: dict[str, list[str]] = found.setdefault(what, {})
        for item, code in zip(table[c.ITEM_ID].to_pylist(), table[name].to_pylist(), strict=True):
            of_item.setdefault(item, []).append(str(code))
    return found


@dataclass(frozen=True)
class _Bucket:
    """One kind of entity's features of the labels of a bucket: rows in, a row per label out. Runs on executors too."""

    plan: Plan
    key: Key
    cells: CellPlan
    everybody: dict[Operand, str]
    columns: list[str]
    facets: dict[int, dict[str, list[str]]]

    @property
    def named(self) -> bool:
        """Whether a cell asks who and what an event is about."""
        return any(cell.kind in (g.DISTINCT, g.RING) for cell in self.cells.cells)

    def schema(self) -> pa.Schema:
        """Of what a call returns."""
        import pyarrow as pa

        fields = [pa.field(LABEL, pa.int64())]
        return pa.schema(fields + [pa.field(name, pa.float32()) for name in self.columns])

    def __call__(self, rows: pa.Table) -> pa.Table:
        """The kernel over one bucket."""
        import pyarrow as pa

        coded = rows[_KEY].combine_chunks().dictionary_encode()
        n_keys = len(coded.dictionary)
        group = coded.indices.fill_null(n_keys).to_numpy().astype(np.int32)
        del coded
        is_label = rows[LABEL].is_valid().to_numpy()
        at, asked, events = rows[AT].to_numpy(), np.flatnonzero(is_label), np.flatnonzero(~is_label)
        known = until = np.zeros(0, np.int64)
        if KNOWN in rows.column_names:
            known = rows[KNOWN].fill_null(0).to_numpy()[events]
            until = rows[UNTIL].fill_null(w.NEVER).to_numpy()[events]
            order = np.lexsort((known, at[events]))
            events, known, until = events[order], known[order], until[order]
            if np.array_equal(known, at[events]) and np.all(until == w.NEVER):
                known = until = np.zeros(0, np.int64)
        else:
            events = events[np.argsort(at[events], kind="stable")]
        action = rows[c.ACTION].fill_null(-1).to_numpy()[events]
        value = rows[c.VALUE].fill_null(np.nan).to_numpy()[events]
        ids, codes = self._named(rows, events)
        indptr, order = w.counting_order(group[events], np.arange(len(events), dtype=np.int64), n_keys + 1)
        now = at[asked]
        row_ptr, row_order = w.counting_order(group[asked], np.argsort(now, kind="stable"), n_keys + 1)
        out = np.full((len(asked), len(self.plan.features)), np.nan, np.float32)
        of_all, moment, no_cells = self._of_all(rows, asked, now), np.arange(len(asked)), np.zeros((0, 1), np.int64)
        if self.plan.plain(self.key) and not len(known):
            w.as_of(
                indptr, order, action, value, at[events], known, row_ptr, row_order, now, moment, of_all,
                self.plan.everybody.cell_i, self.plan.windows, self.cells.span, *self.cells.arrays,
                self.cells.empty_row, *self.plan.formulas(self.key), no_cells, out,
            )  # fmt: skip
        else:
            as_of_any(
                indptr, order, action, value, at[events], *ids, known, until, row_ptr, row_order, now, moment, of_all,
                *self.plan.everybody.arrays, self.plan.windows, self.cells.span, *self.cells.arrays,
                self.cells.empty_row, *codes.arrays, self.cells.spread(codes), *self.plan.formulas(self.key),
                no_cells, out,
            )  # fmt: skip
        made = {LABEL: rows[LABEL].take(pa.array(asked))}
        names = self.plan.features.names
        return pa.table(made | {name: pa.array(out[:, names.index(name)]) for name in self.columns})

    def _named(self, rows: pa.Table, events: I64) -> tuple[tuple[Any, Any], Codes]:
        """Users and items of the events as numbers of this bucket, and the items' codes."""
        if not self.named:
            nobody = np.zeros(0, np.int32)
            return (nobody, nobody), Codes.none()
        user, item = (rows[name].combine_chunks().dictionary_encode() for name in (_USER, _ITEM))
        numbers = [one.indices.fill_null(-1).to_numpy().astype(np.int32)[events] for one in (user, item)]
        if not self.facets:
            return (numbers[0], numbers[1]), Codes.none()
        items, ptr, flat = item.dictionary.to_pylist(), [], list[int]()
        for what in (g.CATEGORY, g.PEOPLE):
            number: dict[str, int] = {}
            ptr.append([len(flat)])
            for one in items:
                own = self.facets.get(what, {}).get(one, ())
                flat += [number.setdefault(code, len(number)) for code in own]
                ptr[-1].append(len(flat))
        return (numbers[0], numbers[1]), Codes(np.array(ptr, np.int64), np.array(flat, np.int32))

    def _of_all(self, rows: pa.Table, asked: I64, now: I64) -> I64:
        """Everybody's cells at each label, from the columns that say what the features read of them."""
        import pyarrow as pa

        cells = self.plan.everybody
        table = cells.empty(len(asked))
        for x, name in self.everybody.items():
            offset = int(cells.cell_i[cells.cells.index(x.cell), g.OFFSET])
            told = rows[name].take(pa.array(asked)).fill_null(0).to_numpy()
            if x.cell.kind in (g.DECAY, g.DECAY_SUM):
                table[:, offset] = told.astype(np.float64).view(np.int64)
                table[:, offset + 1] = now
            else:
                table[:, offset] = told
        return table
