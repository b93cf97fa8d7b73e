"""What people said of themselves: hide this, less like this, begin anew; and how it counts in answers and in builds.

Hides and wishes for less are events like others, under the actions that `[rights]` names. A reset is a record of its
own, kept in the Resets table: from its moment on the person is somebody new to every feature, source and segment by
behaviour. Nothing is erased by it: the earlier events stay, as those of a former self that no request names, and go on
teaching what the crowd likes. `honeyguide forget` erases. Hides outlive a reset; what was to be shown less does not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from msgspec import structs

from honeyguide.contracts import F32, F64, I32, CatalogView, Pool
from honeyguide.flows.arrivals import Arrived
from honeyguide.flows.config import RightsConfig
from honeyguide.flows.tables import microseconds
from honeyguide.schema import columns as c
from honeyguide.schema.tables import RESETS
from honeyguide.schema.wire import Filters
from honeyguide.serving.record import EventRow
from honeyguide.slate.utility import UtilityConfig

if TYPE_CHECKING:
    import ibis.expr.types as ir

    from honeyguide.contracts import TablesEngine
    from honeyguide.engines.tables.snapshot import Snapshots

__all__ = ["Wishes", "former", "likeness", "lowered", "person_of", "put_resets", "read_resets", "selves", "told_wishes"]

_SELF = "\x1f"  # no id of a request can hold it
_FROM, _UNTIL, _FORMER, _WHO = "self_from", "self_until", "self_id", "self_of"
_FILE = "wishes.json"
_EVER = np.iinfo(np.int64)


def former(user_id: str, number: int) -> str:
    """The id of a former self: `number` resets lay before it."""
    return f"{user_id}{_SELF}{number}"


def person_of(self_id: str) -> str:
    """The person whose self it is, former or present."""
    return self_id.partition(_SELF)[0]


class _Said(msgspec.Struct):
    """What the `wishes` artifact of a build holds."""

    hidden: dict[str, dict[str, str]] = {}  # person -> event id -> item
    less: dict[str, dict[str, tuple[str, int]]] = {}  # person -> event id -> item, when
    resets: dict[str, list[int]] = {}  # person -> when, ascending; those that the build has honoured


@dataclass
class Wishes:
    """What people said, by their ids; kept up to date event by event. Most people said nothing."""

    config: RightsConfig
    said: _Said

    def __bool__(self) -> bool:
        return bool(self.said.hidden or self.said.less)

    @classmethod
    def load(cls, folder: Path | None, config: RightsConfig) -> Wishes:
        """What a build has kept; a build of an older version kept nothing."""
        path = None if folder is None else folder / _FILE
        said = msgspec.json.decode(path.read_bytes(), type=_Said) if path is not None and path.exists() else _Said()
        return cls(config, said)

    def save(self, folder: Path) -> None:
        """Write what `load` reads."""
        (folder / _FILE).write_bytes(msgspec.json.encode(self.said, order="deterministic"))

    def hidden(self, user_id: str) -> list[str]:
        """Items that the person hid, each once."""
        return list(dict.fromkeys(self.said.hidden.get(user_id, {}).values()))

    def less(self, user_id: str) -> list[str]:
        """Items of whose kind the person wants less, each once."""
        return list(dict.fromkeys(item for item, _ in self.said.less.get(user_id, {}).values()))

    def apply(self, rows: Iterable[Arrived], ats: Iterable[int], ids: Iterable[str]) -> None:
        """Events as they come; what corrects an earlier one takes it back."""
        hide, less = self.config.hide, self.config.less
        names = {*hide, *less}
        for row, at, event_id in zip(rows, ats, ids, strict=True):
            if row.corrects is None and row.action not in names:
                continue
            if row.corrects is not None:
                self.said.hidden.get(row.user_id, {}).pop(row.corrects, None)
                self.said.less.get(row.user_id, {}).pop(row.corrects, None)
            name = row.corrects or event_id  # what takes another's place can be taken back under its name too
            if row.action in hide:
                self.said.hidden.setdefault(row.user_id, {})[name] = row.item_id
            elif row.action in less and at >= self.since(row.user_id):
                self.said.less.setdefault(row.user_id, {})[name] = (row.item_id, at)

    def since(self, user_id: str) -> int:
        """When the person began anew, the last time."""
        return max(self.said.resets.get(user_id, ()), default=_EVER.min)

    def begin_anew(self, user_id: str, at_us: int) -> int:
        """A reset; returns how many there were before it, -1 if it is known already."""
        had = self.said.resets.setdefault(user_id, [])
        if at_us in had:
            return -1
        had.append(at_us)
        had.sort()
        kept = {name: one for name, one in self.said.less.get(user_id, {}).items() if one[1] >= had[-1]}
        self.said.less.pop(user_id, None)
        if kept:
            self.said.less[user_id] = kept
        return len(had) - 1

    def self_at(self, user_id: str, at_us: int) -> str:
        """The id under which an event of that moment counts."""
        resets = self.said.resets.get(user_id)
        if resets is None:
            return user_id
        before = sum(at <= at_us for at in resets)
        return user_id if before == len(resets) else former(user_id, before)

    def erase(self, user_id: str) -> None:
        """Forget the person."""
        for held in (self.said.hidden, self.said.less, self.said.resets):
            held.pop(user_id, None)  # type: ignore[attr-defined]

    def barring(self, user_id: str, filters: Filters) -> Filters:
        """The filters of a request, with what the person hid denied too."""
        hidden = self.hidden(user_id)
        return structs.replace(filters, deny=[*filters.deny, *hidden]) if hidden else filters


# ----------------------------------------------------------------------------------------------- in an answer


def likeness(catalog: CatalogView, vectors: F32, items: I32, to: I32) -> F64:
    """How much each item is like the most similar of some others, 0 to 1.

    The cosine of the vectors that the build learnt; where either has none, the share of categories in common.
    """
    found = np.zeros(len(items))
    categories = [set(catalog.category.row(int(row)).tolist()) for row in to]
    for at, item in enumerate(items.tolist()):
        if item < 0:
            continue
        for other, theirs in zip(to.tolist(), categories, strict=True):
            if item == other:
                like = 1.0
            elif item < len(vectors) and other < len(vectors):
                like = float(vectors[item] @ vectors[other])
            else:
                own = set(catalog.category.row(item).tolist())
                like = len(own & theirs) / len(own | theirs) if own | theirs else 0.0
            found[at] = max(found[at], min(like, 1.0))
    return found


def lowered(
    pool: Pool,
    scores: F64 | None,
    heads: Mapping[str, bool],
    utility: UtilityConfig,
    fall: F64,
    against: frozenset[str] = frozenset(),
) -> tuple[Pool, F64 | None]:
    """The same candidates, those a person wants less of scored lower: by `fall` (n,), 0 = as it was, 1 = as the worst.

    A probability of something wanted is multiplied by 1 - fall and stays one; what only ranks, and the blend, loses
    that share of the distance between the request's best and worst. What the utility holds against an item stays, be it
    by a weight below 0 or (`against`) in its formula.
    """
    blend = pool.blend.copy()
    blend[0] -= (fall * _span(pool.blend[0])).astype(np.float32)
    changed = replace(pool, blend=blend)
    if scores is None:
        return changed, None
    out = scores.copy()
    for column, (name, calibrated) in enumerate(heads.items()):
        weight = utility.weights.get(name, 0.0) if calibrated else utility.rank_weights.get(name, 0.0)
        if weight < 0.0 or name in against:
            continue
        if calibrated:
            out[:, column] *= 1.0 - fall
        else:
            out[:, column] -= fall * _span(scores[:, column])
    return changed, out


def _span(values: Any) -> float:
    known = values[~np.isnan(values)]
    return float(known.max() - known.min()) if len(known) else 0.0


# -------------------------------------------------------------------------------------------------- in tables


def put_resets(tables: Snapshots, payloads: list[dict[str, Any]]) -> None:
    """Add resets to their table, each once, however often it is told."""
    import pyarrow as pa

    had = tables.read(RESETS.name).to_pylist() if tables.find(RESETS.name) is not None else []
    rows = {row[c.EVENT_ID]: row for row in (*had, *payloads)}
    names = [str(column) for column in RESETS.columns]
    made = pa.table({name: [row[name] for row in rows.values()] for name in names}, schema=RESETS.arrow())
    with tables.appender(RESETS.name, replace=True) as writer:
        writer.add(made.sort_by([(c.HAPPENED_AT, "ascending"), (c.EVENT_ID, "ascending")]))


def read_resets(tables: Snapshots, identity: str | None = None) -> dict[str, list[int]]:
    """Person -> when they began anew, microseconds, ascending; of a version of the table, else of the one in force."""
    if tables.find(RESETS.name) is None:
        return {}
    rows = tables.read(RESETS.name) if identity is None else tables.read(RESETS.name, identity)
    found: dict[str, list[int]] = {}
    ats = rows[c.HAPPENED_AT].cast("int64").to_pylist()
    for user_id, at in sorted({*zip(rows[c.USER_ID].to_pylist(), ats, strict=True)}):
        found.setdefault(user_id, []).append(at)
    return found


def selves(engine: TablesEngine, rows: ir.Table, resets: Mapping[str, list[int]], name: str) -> ir.Table:
    """Rows of people under the self that each belongs to by its time; the same rows, and columns, in any order."""
    import ibis
    import pyarrow as pa

    spans = [
        (user_id, former(user_id, number), start, end)
        for user_id, ats in resets.items()
        for number, (start, end) in enumerate(zip([_EVER.min, *ats], ats, strict=False))
    ]
    if not spans:
        return rows
    names = (_WHO, _FORMER, _FROM, _UNTIL)
    table = engine.table(pa.table(dict(zip(names, map(list, zip(*spans, strict=True)), strict=True))), name)
    at = microseconds(rows[c.HAPPENED_AT])
    joined = rows.left_join(table, [rows[c.USER_ID] == table[_WHO], at >= table[_FROM], at < table[_UNTIL]])
    told = joined.mutate(**{c.USER_ID: ibis.coalesce(joined[_FORMER], joined[c.USER_ID])})
    return told.select(rows.columns)


def told_wishes(
    engine: TablesEngine, events: ir.Table, config: RightsConfig, resets: Mapping[str, list[int]]
) -> Wishes:
    """What all people have said so far, of Events (under whichever self) and Resets."""
    names = [*config.hide, *config.less]
    found = Wishes(config, _Said())
    for user_id, ats in resets.items():
        for at in ats:
            found.begin_anew(user_id, at)
    if not names:
        return found
    said = events.filter(events[c.ACTION].isin(names))
    changed = events.filter(events[c.CORRECTS].notnull())
    changed = changed.semi_join(said.select(**{_WHO: said[c.EVENT_ID]}), [(c.CORRECTS, _WHO)])
    rows = engine.arrow(said.union(changed, distinct=True).order_by([c.KNOWN_AT, c.HAPPENED_AT, c.EVENT_ID]))
    told = [
        EventRow(
            person_of(row[c.USER_ID]), row[c.ITEM_ID], row[c.ACTION], 0, event_id=row[c.EVENT_ID],
            corrects=row[c.CORRECTS],
        )
        for row in rows.select([c.USER_ID, c.ITEM_ID, c.ACTION, c.EVENT_ID, c.CORRECTS]).to_pylist()
    ]  # fmt: skip
    found.apply(told, rows[c.HAPPENED_AT].cast("int64").to_pylist(), [row.event_id for row in told])
    return found
