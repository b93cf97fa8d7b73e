"""Features as they were known at a moment, for many (entity, moment) rows at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from honeyguide.contracts import F32, I16, I32, I64, CatalogView, Interactions
from honeyguide.errors import DataError
from honeyguide.features.definition import HOUR, FeatureSet, Key
from honeyguide.features.keys import numbers
from honeyguide.features.plan import ITEM, USER, CellPlan, Codes, Plan
from honeyguide.kernels import windows as w
from honeyguide.kernels.hashtable import EMPTY, rows_of
from honeyguide.kernels.lasting import as_of_any

__all__ = ["EventStream", "as_of", "event_array"]

_NONE: I64 = np.zeros(0, np.int64)


@dataclass(frozen=True)
class EventStream:
    """Events as the kernels read them, in order of (happened, known), with the former versions of corrected ones.

    Whoever asks several times for features of the same events makes one, and passes it instead of them: they are
    grouped by person and by item when first asked for. `known` and `until` are empty if every event was known as it
    happened and stayed. Raises DataError if the events are not in order of time, or known before they happened.
    """

    interactions: Interactions
    user: I32 = field(init=False)
    item: I32 = field(init=False)
    action: I16 = field(init=False)
    value: F32 = field(init=False)
    weight: F32 = field(init=False)
    at: I64 = field(init=False)
    known: I64 = field(init=False)
    until: I64 = field(init=False)
    event: I64 = field(init=False)
    context: Mapping[str, I64] = field(init=False)

    def __post_init__(self) -> None:
        log = self.interactions
        if np.any(np.diff(log.at) < 0):
            raise DataError(
                expected="events in order of time",
                got="an event before its predecessor",
                do="Sort them by `at`, stably.",
            )
        columns: dict[str, Any] = {
            "user": _typed(log.user, np.int32), "item": _typed(log.item, np.int32),
            "action": _typed(log.action, np.int16), "value": _typed(log.value, np.float32),
            "weight": _typed(log.weight, np.float32), "at": _typed(log.at, np.int64),
            "known": _NONE, "until": _NONE, "event": _NONE if log.event is None else _typed(log.event, np.int64),
            "context": {name: _typed(codes, np.int64) for name, codes in log.context.items()},
        }  # fmt: skip
        if (log.former is not None and len(log.former)) or log.known_at is not None:
            columns = _versions(log, columns)
        for name, column in columns.items():
            object.__setattr__(self, name, column)

    @classmethod
    def of(cls, events: Interactions | EventStream) -> EventStream:
        """The events as a stream; a stream as itself."""
        return events if isinstance(events, EventStream) else cls(events)

    def __len__(self) -> int:
        return len(self.at)

    @cached_property
    def by_user(self) -> tuple[I64, I64]:
        """(indptr, order) by person; one more, empty group stands for a person nobody knows."""
        return self._grouped(self.user, self.interactions.n_users)

    @cached_property
    def by_item(self) -> tuple[I64, I64]:
        """(indptr, order) by item; one more, empty group stands for an item nobody knows."""
        return self._grouped(self.item, self.interactions.n_items)

    @cached_property
    def as_one(self) -> tuple[I64, I64]:
        """(indptr, order) of all events that belong to anybody or anything, as one group."""
        nobody = (self.user < 0) & (self.item < 0)
        return self._grouped(np.where(nobody, -1, 0).astype(np.int32), 1)

    def forget(self) -> None:
        """Give back what grouping took: 8 bytes an event; the next question groups again."""
        for name in ("by_user", "by_item", "as_one"):
            self.__dict__.pop(name, None)

    def _grouped(self, key: I32, n: int) -> tuple[I64, I64]:
        indptr, grouped = w.counting_order(key, np.arange(len(key), dtype=np.int64), n + 1)
        return indptr, grouped

    def by_number(self, key: Key, asked: I64) -> tuple[tuple[I64, I64], I32]:
        """(indptr, order) by what `key` groups by, for the numbers `asked` alone, and the group of each of them.

        Groups are as many as numbers are asked for; one more, empty one stands for what has none.
        """
        places = 1 << max(int(np.ceil(np.log2(2 * len(asked) + 2))), 1)
        keys, values = np.full(places, EMPTY, np.int64), np.zeros(places + 1, np.int64)
        group = rows_of(keys, values, asked, True)
        n = int(values[-1])
        if key.context not in (None, HOUR, *self.context):
            raise DataError(
                expected=f"events that say their {key.context}",
                got="events without it",
                do="Read them with `intake.events.interactions(..., context=features.context_keys)`.",
            )
        own = rows_of(keys, values, numbers(key, self.user, self.item, self.at, self.context), False)
        return self._grouped(own.astype(np.int32), n), np.where(group < 0, n, group).astype(np.int32)

    def everybody(self, plan: Plan, at_us: I64) -> I64:
        """Everybody's cells just before each moment, (n, slots)."""
        cells = plan.everybody.empty(len(at_us))
        if plan.asks_everybody:
            no_features = np.zeros((0, 8), np.int64), np.zeros((0, 4))
            rows, none = np.zeros(len(at_us), np.int32), np.zeros((len(at_us), 0), np.float32)
            one, codes = plan.everybody.empty(1), Codes.none()
            self._run(
                self.as_one, plan, plan.everybody, no_features, codes, rows, at_us, rows.astype(np.int64), one, cells,
                none,
            )  # fmt: skip
        return cells

    def aggregates(
        self, plan: Plan, key: Key, codes: Codes, rows: I64 | I32, at_us: I64, moment: I64, everybody: I64, out: Any
    ) -> None:
        """Write one entity's features of row r, at `at_us[r]`, into `out[r]`.

        rows: of people or items, or `keys.numbers` of what else `key` groups by; -1 and EMPTY have no events.
        Everybody's cells at that moment are `everybody[moment[r]]`. An item nobody knows leaves its row untouched.
        """
        formulas = plan.formulas(key)
        if not len(formulas[0]):
            return
        if key in (USER, ITEM):
            groups = self.by_user if key == USER else self.by_item
            nobody = len(groups[0]) - 2
            group = np.where((rows < 0) | (rows >= nobody), nobody, rows).astype(np.int32)
            if key == ITEM:
                group = np.where(rows < 0, -1, group).astype(np.int32)
        else:
            groups, group = self.by_number(key, np.array(rows, np.int64))
        no_cells = np.zeros((0, len(plan.groups[key].empty_row)), np.int64)
        self._run(groups, plan, plan.groups[key], formulas, codes, group, at_us, moment, everybody, no_cells, out)

    def _run(
        self, groups: tuple[I64, I64], plan: Plan, cells: CellPlan, formulas: Any, codes: Codes,
        group: I32, at_us: I64, moment: I64, everybody: I64, cells_out: I64, out: Any,
    ) -> None:  # fmt: skip
        indptr, order = groups
        at, moment = np.array(at_us, np.int64), np.array(moment, np.int64)
        in_time = np.argsort(at, kind="stable")
        left = group
        if cells.plain and plan.everybody.plain:
            if len(self.known):
                # Only entities whose events came out of turn, or were corrected, need the longer kernel.
                simple = np.append(w.in_turn(indptr, order, self.known, self.until), True)
                left = np.where(simple[group], -1, group).astype(np.int32)
                group = np.where(simple[group], group, -1).astype(np.int32)
            else:
                left = np.full(len(group), -1, np.int32)
            rows = w.counting_order(group, in_time, len(indptr) - 1)
            w.as_of(
                indptr, order, self.action, self.value, self.at, self.known, *rows, at, moment, everybody,
                plan.everybody.cell_i, plan.windows, cells.span, *cells.arrays, cells.empty_row, *formulas,
                cells_out, out,
            )  # fmt: skip
        if np.any(left >= 0):
            rows = w.counting_order(left, in_time, len(indptr) - 1)
            as_of_any(
                indptr, order, self.action, self.value, self.at, self.user, self.item, self.known, self.until,
                *rows, at, moment, everybody, *plan.everybody.arrays, plan.windows, cells.span, *cells.arrays,
                cells.empty_row, *codes.arrays, cells.spread(codes), *formulas, cells_out, out,
            )  # fmt: skip


def _typed(column: Any, dtype: type[np.generic]) -> npt.NDArray[Any]:
    # Kernels are compiled for one layout: read-only or strided views would compile them again.
    return np.require(column, dtype, ["C", "W"])


def _versions(log: Interactions, columns: dict[str, Any]) -> dict[str, Any]:
    """The columns with former versions in their places, in order of (happened, known)."""
    parts = [log] if log.former is None else [log, log.former]
    known = np.concatenate([part.at if part.known_at is None else part.known_at for part in parts]).astype(np.int64)
    until = np.concatenate(
        [np.full(len(part), w.NEVER) if part.until is None else part.until for part in parts]
    ).astype(np.int64)  # fmt: skip
    if log.former is not None:
        for name in ("user", "item", "action", "value", "weight", "at"):
            columns[name] = np.concatenate([columns[name], getattr(log.former, name)]).astype(columns[name].dtype)
        columns["event"] = np.concatenate([columns["event"], _NONE if log.former.event is None else log.former.event])
        columns["context"] = {
            name: np.concatenate([codes, log.former.context[name]]) for name, codes in columns["context"].items()
        }
    if np.any(known < columns["at"]):
        raise DataError(
            expected="events known when they happened, or later",
            got="an event known before it happened",
            do="Lift known_at to happened_at.",
        )
    if len(parts) == 1 and np.array_equal(known, columns["at"]) and np.all(until == w.NEVER):
        return columns
    order = np.lexsort((known, columns["at"]))
    for name in ("user", "item", "action", "value", "weight", "at"):
        columns[name] = columns[name][order]
    columns["event"] = columns["event"][order] if len(columns["event"]) else columns["event"]
    columns["context"] = {name: codes[order] for name, codes in columns["context"].items()}
    columns["known"], columns["until"] = known[order], until[order]
    return columns


def event_array(
    user: I32, item: I32, action: Any, value: F32, weight: F32, at: I64, event: Any = 0
) -> npt.NDArray[Any]:
    """Columns as one array of `kernels.windows.EVENT`."""
    events = np.zeros(len(at), w.EVENT)
    for name, column in zip(
        ("user", "item", "action", "value", "weight", "at", "id"),
        (user, item, action, value, weight, at, event),
        strict=True,
    ):
        events[name] = column
    events["prev"] = -1
    return events


def as_of(
    features: FeatureSet,
    interactions: Interactions | EventStream,
    entity: Literal["user", "item"],
    rows: I32,
    at_us: I64,
    *,
    catalog: CatalogView | None = None,
) -> F32:
    """The aggregates of people or items for n (row, moment) pairs, from the events strictly before each moment.

    rows: (n,) entity rows, -1 unknown; at_us: (n,). catalog: whose categories and people `distinct` counts. Returns
    (n, features), a column per aggregate of that entity in the order of `features.aggregates(entity)`. Linear in events
    + n; 8 to 24 bytes an event beside the result.
    """
    stream = EventStream.of(interactions)
    wanted = features.aggregates(entity)
    plan = Plan.of(FeatureSet(wanted), stream.interactions.actions)
    out = np.full((len(rows), len(wanted)), np.nan, np.float32)
    everybody = stream.everybody(plan, at_us)
    codes = codes_of(features, catalog)
    rows, at_us = np.asarray(rows, np.int32), np.asarray(at_us, np.int64)
    stream.aggregates(
        plan, USER if entity == "user" else ITEM, codes, rows, at_us, np.arange(len(rows)), everybody, out
    )
    return out


def codes_of(features: FeatureSet, catalog: CatalogView | None) -> Codes:
    """The items' codes that the features count; a DataError if they need a catalog and there is none."""
    needed = [f.name for f in features if getattr(f, "of", None) in ("category", "people")]
    if catalog is None and needed:
        raise DataError(expected=f"a catalog for {needed[0]}", got="none", do="Pass `catalog`.")
    return Codes.none() if catalog is None else Codes.of(catalog, features)
