"""The point-in-time aggregates as one Ibis expression: the same on DuckDB and on Spark, equal to the kernel's.

Each label asks at several moments: `now`, and the far edge of every window. These probes join the events of their
entity in one union, one running sum per entity counts what lies strictly before each row, and a window is the
difference of two probes. No range frame and no as-of join: those are slow, or missing, or read the future on some
engine.

Events that are late or have been replaced are few, and looked at one by one: a running sum over the events as they
became known, less one over the events as they happened, is off by those that were so late that a window had passed
them; and a version that was replaced counts for the labels between. What has no running sum (different codes, the
newest few) joins each label with the events of its entity.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import ibis

from honeyguide.features.definition import Feature, FeatureSet, Key
from honeyguide.features.plan import Cell, Operand, formula_of
from honeyguide.features.sql import (
    AT,
    KNOWN,
    LABEL,
    UNTIL,
    Log,
    entity_of,
    finish,
    timed_labels,
    told_of,
    with_versions,
)
from honeyguide.kernels import aggregates as g
from honeyguide.schema import columns as c

if TYPE_CHECKING:
    import ibis.expr.types as ir

__all__ = ["as_of_table", "operand_table", "with_versions"]

# Columns that live inside the expression only.
_IS_EVENT, _EDGE, _EPOCH, _PLACE, _AMOUNT, _CODE = "is_event_", "edge_", "epoch_", "place_", "amount_", "code_"
_Probe = tuple[int, Callable[[Any], Any]]  # an edge, and its moment for a label's
_EPOCH_HALVES = 400
"""Half-lives in an epoch: masses are summed relative to its beginning, 2**800 being far from the end of a float."""


def as_of_table(
    features: FeatureSet,
    events: ir.Table,
    labels: ir.Table,
    *,
    codes: Mapping[str, ir.Table] | None = None,
    real: Literal["float32", "float64"] = "float32",
) -> ir.Table:
    """The aggregates of a feature set for every label, as a table: the label's id and a column per feature.

    events: user id, item id, action, value, happened-at (a timestamp, or int64 microseconds), and a column for each of
        `features.context_keys` (queries normalised). With known-at an event counts from then on only; through
        `with_versions` its corrections do.
    labels: label id (unique), user id, item id, happened-at, and the columns of the context; an id may be null
        (unknown). Only events strictly before a label's moment count.
    codes: for `distinct`, the items' categories or people: by facet, a table of item id and one more column.
    Null where a feature is not defined. Facts, context, affinities and embeddings are no aggregates, and not here.
    """
    formulas = {f: formula_of(f) for f in features if isinstance(f, Feature)}
    log = Log.of(events)
    labels = timed_labels(labels)
    wanted: dict[Key | None, list[Operand]] = {}
    for f, formula in formulas.items():
        live = [] if formula.live is None else [Operand(formula.live)]
        wanted.setdefault(f.key, []).extend([*formula.x, *live])
        wanted.setdefault(None, []).extend(formula.g)
    result, place = labels.select(c.LABEL_ID, LABEL, AT), dict[tuple[Key | None, Operand], str]()
    for at, (key, operands) in enumerate(wanted.items()):
        asked = list(dict.fromkeys(operands))
        names = {x: f"x{at}_{i}_" for i, x in enumerate(asked)}
        place |= {(key, x): name for x, name in names.items()}
        for found in _operands(key, names, log, labels, codes or {}):
            result = result.left_join(found, LABEL).drop(f"{LABEL}_right")
    now = result[AT]
    values = {}
    for f, formula in formulas.items():
        x = [told_of(x, result[place[f.key, x]]) for x in formula.x]
        of_all = [told_of(x, result[place[None, x]]) for x in formula.g]
        value = finish(formula, x, of_all, now)
        if formula.live is not None:
            newest = result[place[f.key, Operand(formula.live)]]
            value = ibis.ifelse((now - newest <= int(formula.expires_us)).fill_null(False), value, ibis.null("float64"))
        values[f.name] = value.cast(real)
    return result.select(c.LABEL_ID, **{name: values[name] for name in features.names if name in values})


def operand_table(key: Key | None, names: Mapping[Operand, str], log: Log, labels: ir.Table) -> ir.Table:
    """What formulas read of an entity (None: of everybody) at each label: its id and a column per operand."""
    first, *others = _operands(key, names, log, labels, {})
    for found in others:
        first = first.inner_join(found, LABEL)
    return first


def _keyed(key: Key | None, table: ir.Table, epoch: Any = None) -> dict[str, Any]:
    keys = {f"key{at}_": column for at, column in enumerate(entity_of(key, table))}
    return keys if epoch is None else keys | {_EPOCH: epoch}


def _start(now: Any, cell: Cell) -> Any:
    """First microsecond that a cell's window still sees."""
    moment = now - cell.window_us
    return moment - ((moment % cell.hop_us) + cell.hop_us) % cell.hop_us


def _operands(
    key: Key | None, names: Mapping[Operand, str], log: Log, labels: ir.Table, codes: Mapping[str, ir.Table]
) -> list[ir.Table]:
    """Tables of the label's id and a column per operand."""
    whole = [x for x in names if x.cell.kind in _SUMMED]
    found = [_summed(key, {x: names[x] for x in whole}, log, labels)] if whole else []
    for half in dict.fromkeys(x.cell.half_life_us for x in names if x.cell.kind in (g.DECAY, g.DECAY_SUM)):
        faded = {x: name for x, name in names.items() if x.cell.half_life_us == half}
        found.append(_faded(key, half, faded, log, labels))
    for cell in dict.fromkeys(x.cell for x in names if x.cell.kind in (g.DISTINCT, g.RING)):
        own = {x: name for x, name in names.items() if x.cell == cell}
        found.append(_joined(key, cell, own, log, labels, codes))
    return found


_SUMMED = (g.COUNT, g.SUM, g.SQUARE, g.LAST, g.FIRST)


def _summed(key: Key | None, names: Mapping[Operand, str], log: Log, labels: ir.Table) -> ir.Table:
    """Counts, sums and the times of last and first events."""
    cells = [x.cell for x in names]
    # A measure is a cell without its window; each is summed once.
    measures = {cell: cell._replace(window_us=0, hop_us=0) for cell in cells}
    packed = _Packed.of(list(dict.fromkeys(measures.values())))
    windows = {(cell.window_us, cell.hop_us): cell for cell in cells if cell.window_us}
    edges = {window: at + 1 for at, window in enumerate(sorted(windows))}
    now: list[_Probe] = [(0, lambda at: at)]
    starts: list[_Probe] = [(edge, functools.partial(_start, cell=windows[window])) for window, edge in edges.items()]

    def told(time: str, probes: Sequence[_Probe]) -> ir.Table:
        amounts, nothing, maxima = packed.amounts, packed.nothing, packed.maxima
        return packed.read(_running(key, log.standing, time, labels, probes, amounts, nothing, maxima))

    def at_edges(table: ir.Table, cell: Cell, signs: Mapping[int, int]) -> Any:
        """The measure of a cell at some edges, added up with their signs."""
        value, edge = table[packed.name[measures[cell]]], table[_EDGE]
        if cell.kind in (g.LAST, g.FIRST):
            return value.max(where=edge == 0)
        cases = [(edge == at, value if sign > 0 else -value) for at, sign in signs.items()]
        return ibis.cases(*cases, else_=0).sum().cast("int64")

    of = {cell: edges[cell.window_us, cell.hop_us] for cell in cells if cell.window_us}
    near = told(KNOWN if log.late else AT, now if log.late else [*now, *starts])
    both = {x: {0: 1} if log.late or x.cell not in of else {0: 1, of[x.cell]: -1} for x in names}
    result = near.group_by(LABEL).aggregate(**{name: at_edges(near, x.cell, both[x]) for x, name in names.items()})
    if log.late and starts:
        far = told(AT, starts)
        windowed = {x: name for x, name in names.items() if x.cell.window_us}
        passed = far.group_by(LABEL).aggregate(
            **{name: at_edges(far, x.cell, {of[x.cell]: 1}) for x, name in windowed.items()}
        )
        result = _combined(result, passed, list(windowed.values()), operator.sub)
    if log.versions:
        result = _with_exceptions(key, result, names, log, labels)
    return result


@dataclass(frozen=True)
class _Packed:
    """Measures as the columns that run: two counts share an int64, as a running sum costs more than any arithmetic."""

    measures: list[Cell]
    name: dict[Cell, str]
    pairs: list[tuple[str, Cell, Cell]]  # the column of two counts, the first one in the low bits

    _BITS = 31  # a key has fewer events than that

    @classmethod
    def of(cls, measures: list[Cell]) -> _Packed:
        """Pair up the counts."""
        name = {measure: f"m{at}_" for at, measure in enumerate(measures)}
        counts = [measure for measure in measures if measure.kind == g.COUNT]
        pairs = [(f"{name[a]}{name[b]}", a, b) for a, b in zip(counts[::2], counts[1::2], strict=False)]
        return cls(measures, name, pairs)

    @property
    def _alone(self) -> list[Cell]:
        paired = {cell for _, a, b in self.pairs for cell in (a, b)}
        return [measure for measure in self.measures if measure not in paired]

    @property
    def nothing(self) -> dict[str, Any]:
        """What a probe adds to each column."""
        zero = ibis.literal(0, "int64")
        return {name: zero for name, _, _ in self.pairs} | {self.name[m]: _nothing(m) for m in self._alone}

    @property
    def maxima(self) -> frozenset[str]:
        """The columns that run as a maximum."""
        return frozenset(self.name[m] for m in self.measures if m.kind in (g.LAST, g.FIRST))

    def amounts(self, events: ir.Table) -> dict[str, Any]:
        """What an event adds to each column."""
        high = ibis.literal(1 << self._BITS, "int64")

        def both(a: Cell, b: Cell) -> Any:
            second = _meets(b.action, b.valued, b.low, b.high, events)
            return _amount(a, events) + ibis.ifelse(second, high, ibis.literal(0, "int64"))

        paired = {name: both(a, b) for name, a, b in self.pairs}
        return paired | {self.name[m]: _amount(m, events) for m in self._alone}

    def read(self, table: ir.Table) -> ir.Table:
        """The table with a column per measure."""
        found = {}
        for name, a, b in self.pairs:
            found[self.name[a]] = table[name] & ((1 << self._BITS) - 1)
            found[self.name[b]] = table[name] >> self._BITS
        return table.mutate(**found)


def _running(
    key: Key | None, events: ir.Table, time: str, labels: ir.Table, probes: Sequence[_Probe],
    amounts: Callable[[ir.Table], dict[str, Any]], nothing: Mapping[str, Any], maxima: frozenset[str] = frozenset(),
    epoch: Callable[[Any], Any] | None = None,
) -> ir.Table:  # fmt: skip
    """For each label and probe (an edge and its moment) what the events of the label's entity come to before it.

    Measures run as a sum, or as a maximum; `nothing` is what a probe adds. epoch: what else the rows are grouped by.
    """
    columns = _keyed(key, events)
    rows = [
        events.select(
            **(columns if epoch is None else columns | {_EPOCH: events[_EPOCH]}),
            **{AT: events[time], _IS_EVENT: ibis.literal(1, "int8"), _EDGE: ibis.literal(0, "int16")},
            **{LABEL: ibis.null("int64")},
            **amounts(events),
        )
    ]
    by = [name for name in rows[0].columns if name.startswith("key") or name == _EPOCH]
    rows[0] = rows[0].filter([rows[0][name].notnull() for name in by])
    # A row per edge is made by the engine, so that a label's columns are computed once.
    asked = labels.select(
        **_keyed(key, labels, None if epoch is None else epoch(labels[AT])), **{AT: labels[AT], LABEL: labels[LABEL]}
    )
    if len(probes) > 1:
        asked = asked.mutate(**{_EDGE: ibis.array([edge for edge, _ in probes]).unnest()})
        cases = [(asked[_EDGE] == edge, moment(asked[AT])) for edge, moment in probes]
        asked = asked.mutate(**{AT: ibis.cases(*cases), _EDGE: asked[_EDGE].cast("int16")})
    else:
        ((edge, moment),) = probes
        asked = asked.mutate(**{_EDGE: ibis.literal(edge, "int16"), AT: moment(asked[AT])})
    asked = asked.mutate(**{_IS_EVENT: ibis.literal(0, "int8")}, **nothing)
    rows.append(asked.select(*rows[0].columns))
    union = ibis.union(*rows, distinct=False)
    # At one microsecond the probes come first, so they see what lies strictly before.
    so_far = ibis.window(group_by=by, order_by=[AT, _IS_EVENT], rows=(None, 0))
    running = {
        name: (union[name].max() if name in maxima else union[name].sum()).over(so_far).cast(value.type())
        for name, value in nothing.items()
    }
    told = union.select(_IS_EVENT, _EDGE, LABEL, **running)
    return told.filter(told[_IS_EVENT] == 0)


def _combined(
    left: ir.Table, right: ir.Table, names: Sequence[str], how: Callable[[Any, Any], Any], empty: Any = 0
) -> ir.Table:
    """`how(left, right)` of some columns, label by label; a label that `right` does not have stays as it is."""
    joined = left.left_join(right.rename({f"{name}more_": name for name in names}), LABEL)
    changed = {name: how(joined[name], joined[f"{name}more_"].fill_null(empty)) for name in names}
    return joined.select(LABEL, **{n: changed.get(n, joined[n]) for n in left.columns if n != LABEL})


def _with_exceptions(
    key: Key | None, result: ir.Table, names: Mapping[Operand, str], log: Log, labels: ir.Table
) -> ir.Table:
    """Former versions where they counted, and what was so late that a window's far edge had passed it."""
    lengths = [x.cell.window_us for x in names if x.cell.window_us]
    parts = [] if log.former is None else [log.former]
    if log.late and lengths:
        late = log.standing.filter(log.standing[KNOWN] - log.standing[AT] > min(lengths))
        parts.append(late.mutate(**{UNTIL: ibis.null("int64")}))
    if not parts:
        return result
    columns = parts[0].columns
    rows = parts[0] if len(parts) == 1 else ibis.union(*(part.select(*columns) for part in parts), distinct=False)
    met = _met(key, rows, labels)
    now, former = met[f"{LABEL}at_"], met[UNTIL].notnull()
    counted = former & (met[KNOWN] < now) & (now <= met[UNTIL])
    found, maxima = {}, []
    for x, name in names.items():
        amount = _amount(x.cell, met)
        if x.cell.kind in (g.LAST, g.FIRST):
            found[name] = amount.max(where=counted)
            maxima.append(name)
            continue
        if x.cell.window_us:
            start = _start(now, x.cell)
            inside = (counted & (met[AT] >= start)).fill_null(False)
            passed = (~former) & (met[AT] < start) & (met[KNOWN] >= now)
            amount = ibis.ifelse(inside | passed, amount, 0)
        else:
            amount = ibis.ifelse(counted.fill_null(False), amount, 0)
        found[name] = amount.sum().cast("int64")
    more = met.group_by(LABEL).aggregate(**found)
    sums = [name for name in found if name not in maxima]
    result = _combined(result, more.select(LABEL, *sums), sums, operator.add) if sums else result
    if maxima:
        least = ibis.literal(g.NONE, "int64")
        grown = _combined(
            result, more.select(LABEL, *maxima), maxima,
            lambda a, b: ibis.greatest(a.fill_null(g.NONE), b).nullif(least), g.NONE,
        )  # fmt: skip
        result = grown
    return result


def _met(key: Key | None, events: ir.Table, labels: ir.Table) -> ir.Table:
    """Each label beside the events of its entity: the events' columns, the label's id and moment."""
    left = labels.select(**_keyed(key, labels), **{f"{LABEL}at_": labels[AT], LABEL: labels[LABEL]})
    right = events.mutate(**_keyed(key, events))
    by = [name for name in left.columns if name.startswith("key")]
    joined = left.inner_join(right, by)
    return joined.drop(*[name for name in joined.columns if name.endswith("_right")])


def _faded(key: Key | None, half: float, names: Mapping[Operand, str], log: Log, labels: ir.Table) -> ir.Table:
    """Decayed masses of one half-life: a running sum within epochs, at whose beginning an event would weigh one.

    An event counts in its own epoch and the next; what is older weighs less than 2**-400.
    """
    length = round(half * _EPOCH_HALVES)
    events = log.standing

    def epoch(at: Any) -> Any:
        return ((at - ((at % length) + length) % length) / length).round().cast("int64")

    def weight(at: Any, of: Any) -> Any:
        return _power((at - of * length).cast("float64") / half)

    def amounts(table: ir.Table) -> dict[str, Any]:
        fading = weight(table[AT], table[_EPOCH])
        return {name: _mass(x.cell, table) * fading for x, name in names.items()}

    own = events.mutate(**{_EPOCH: epoch(events[AT])})
    next_one = events.mutate(**{_EPOCH: epoch(events[AT]) + 1})
    both = ibis.union(own, next_one, distinct=False)
    nothing = {name: ibis.literal(0.0, "float64") for name in names.values()}
    told = _running(key, both, KNOWN, labels, [(0, lambda at: at)], amounts, nothing, epoch=epoch)
    masses = told.group_by(LABEL).aggregate(**{name: told[name].max() for name in names.values()})
    at = labels.select(LABEL, AT)
    masses = masses.inner_join(at, LABEL)
    now = weight(masses[AT], epoch(masses[AT]))
    result = masses.select(LABEL, **{name: masses[name] / now for name in names.values()})
    if log.former is None:
        return result
    met = _met(key, log.former, labels)
    now_us = met[f"{LABEL}at_"]
    counted = (met[KNOWN] < now_us) & (now_us <= met[UNTIL])
    age = _power((met[AT] - now_us).cast("float64") / half)
    more = met.group_by(LABEL).aggregate(
        **{name: (ibis.ifelse(counted, _mass(x.cell, met) * age, 0.0)).sum() for x, name in names.items()}
    )
    return _combined(result, more, list(names.values()), operator.add, 0.0)


def _power(halves: Any) -> Any:
    return (halves * _LN2).exp()


_LN2 = 0.6931471805599453


def _mass(cell: Cell, table: ir.Table) -> Any:
    amount = table[c.VALUE].fill_null(0.0) if cell.kind == g.DECAY_SUM else ibis.literal(1.0, "float64")
    return ibis.ifelse(_meets(cell.action, cell.valued, cell.low, cell.high, table), amount, 0.0)


def _joined(
    key: Key | None, cell: Cell, names: Mapping[Operand, str], log: Log, labels: ir.Table,
    codes: Mapping[str, ir.Table],
) -> ir.Table:  # fmt: skip
    """Different codes, or the newest amounts: each label with the events of its entity."""
    events = log.all()
    events = events.filter(_meets(cell.action, cell.valued, cell.low, cell.high, events))
    if cell.what in (g.CATEGORY, g.PEOPLE):
        facet = codes["category" if cell.what == g.CATEGORY else "people"]
        (name,) = (column for column in facet.columns if column != c.ITEM_ID)
        events = events.inner_join(facet.select(c.ITEM_ID, **{_CODE: facet[name].cast("string")}), c.ITEM_ID)
    elif cell.what in (g.ITEM, g.USER):
        of = events[c.ITEM_ID if cell.what == g.ITEM else c.USER_ID].cast("string")
        events = events.mutate(**{_CODE: of})
    if cell.kind == g.RING:
        events = events.mutate(**{_AMOUNT: _ring_amount(cell, events)})
    met = _met(key, events, labels)
    now = met[f"{LABEL}at_"]
    counted = (met[KNOWN] < now) & (met[UNTIL].isnull() | (now <= met[UNTIL]))
    if cell.window_us:
        counted = counted & (met[AT] >= _start(now, cell))
    met = met.filter(counted)
    if cell.kind == g.RING:
        newest_first = ibis.window(group_by=LABEL, order_by=[ibis.desc(AT), ibis.desc(_AMOUNT)])
        met = met.mutate(**{_PLACE: ibis.row_number().over(newest_first)})
        met = met.filter(met[_PLACE] < cell.size)
    return met.group_by(LABEL).aggregate(**{name: _figure(x, met) for x, name in names.items()})


def _ring_amount(cell: Cell, table: ir.Table) -> Any:
    if cell.what == g.VALUE:
        return table[c.VALUE]
    if cell.what == g.MEETS:
        meets = _meets(cell.action_2, cell.valued_2, cell.low_2, cell.high_2, table)
        return ibis.ifelse(meets, 1.0, 0.0)
    # Which of two at one microsecond is the newer does not matter here but at the end of the ring.
    return table[_CODE]


def _figure(x: Operand, met: ir.Table) -> Any:
    if x.cell.kind == g.DISTINCT or x.how == g.RING_DISTINCT:
        return met[_CODE].nunique()
    amount = met[_AMOUNT]
    match x.how:
        case g.RING_N:
            return amount.count()
        case g.RING_SUM:
            return amount.sum()
        case g.RING_MIN:
            return amount.min()
        case g.RING_MAX:
            return amount.max()
        case _:
            return ibis.ifelse(amount.count() >= 2, amount.std(how="pop"), ibis.null("float64"))


def _nothing(measure: Cell) -> Any:
    return ibis.null("int64") if measure.kind in (g.LAST, g.FIRST) else ibis.literal(0, "int64")


def _meets(action: str | None, valued: bool, low: float, high: float, events: ir.Table) -> Any:
    value, conditions = events[c.VALUE], [ibis.literal(True)]
    if action is not None:
        conditions.append((events[c.ACTION] == action).fill_null(False))
    if valued:
        conditions.append(value.notnull())
        if low > -float("inf"):
            conditions.append((value >= low).fill_null(False))
        if high < float("inf"):
            conditions.append((value <= high).fill_null(False))
    return functools.reduce(operator.and_, conditions)


def _amount(measure: Cell, events: ir.Table) -> Any:
    """What an event adds to a measure."""
    match measure.kind:
        case g.COUNT:
            amount = ibis.literal(1, "int64")
        case g.LAST:
            amount = events[AT]
        case g.FIRST:
            amount = -events[AT]
        case _:
            limit = g.SUM_LIMIT if measure.kind == g.SUM else g.SQUARE_LIMIT
            steps = events[c.VALUE] / measure.step + 0.5
            whole = ibis.greatest(ibis.least(steps, limit), -limit).floor().cast("int64")
            amount = (whole if measure.kind == g.SUM else whole * whole).fill_null(0)
    meets = _meets(measure.action, measure.valued, measure.low, measure.high, events)
    return ibis.ifelse(meets, amount, _nothing(measure))
