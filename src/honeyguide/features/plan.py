"""Definitions to cells and formulas: what the kernel, the SQL expression and the online state all compute from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from honeyguide.contracts import F32, F64, I32, I64, CatalogView
from honeyguide.features.definition import (
    HOP_US,
    Affinity,
    Context,
    Distance,
    Embedding,
    Fact,
    Feature,
    FeatureSet,
    Key,
)
from honeyguide.kernels import affinity as a
from honeyguide.kernels import aggregates as g
from honeyguide.kernels.aggregates import DAY_US, NONE

__all__ = ["Cell", "CellPlan", "Codes", "Formula", "ItemFacts", "Operand", "PairPlan", "Plan", "formula_of"]

USER, ITEM = Key("user"), Key("item")
"""The entities that every plan has, in the order of `Plan.groups`."""


class Cell(NamedTuple):
    """One aggregate: its kind, the events it is over, and the window (0 = all time)."""

    kind: int
    action: str | None
    low: float
    high: float
    valued: bool
    step: float
    window_us: int
    hop_us: int
    half_life_us: float = 0.0
    size: int = 0  # of RING: so many amounts
    what: int = 0  # of DISTINCT and RING
    action_2: str | None = None  # of RING with MEETS: the second condition
    low_2: float = -np.inf
    high_2: float = np.inf
    valued_2: bool = False

    @property
    def width(self) -> int:
        """Slots of an entity's row."""
        return {g.DECAY: 2, g.DECAY_SUM: 2, g.RING: 1 + 2 * self.size}.get(self.kind, 1)


class Operand(NamedTuple):
    """What a formula reads: a cell, and how."""

    cell: Cell
    how: int = g.PLAIN


class Formula(NamedTuple):
    """How a feature's value comes from operands of its entity (`x`) and of everybody (`g`)."""

    op: int
    x: tuple[Operand, ...]
    g: tuple[Operand, ...] = ()
    prior: float = float("nan")
    strength: float = 0.0
    scale: float = 1.0
    live: Cell | None = None  # the time of the newest event: the value expires `expires_us` after it
    expires_us: float = 0.0


def formula_of(feature: Feature) -> Formula:
    """A feature's formula."""
    formula = _of_last(feature) if feature.last is not None else _of_window(feature)
    if feature.expires_days is None:
        return formula
    newest = _cell(feature, g.LAST, days=None, valued=feature.bounded or feature.aggregate in _OF_VALUES)
    return formula._replace(live=newest, expires_us=feature.expires_days * DAY_US)


_OF_VALUES = ("sum", "mean", "std", "min", "max")
_CODES = {"item": g.ITEM, "user": g.USER, "category": g.CATEGORY, "people": g.PEOPLE}


def _cell(
    feature: Feature, kind: int, *, action: str | None = "", bounds: bool = True, valued: bool | None = None,
    days: float | None = 0.0,
) -> Cell:  # fmt: skip
    # "" and 0 stand for the feature's own.
    days = feature.window_days if days == 0.0 else days
    span = (0, 0) if days is None else (round(days * DAY_US), HOP_US[feature.hop])
    low, high = _bounds(feature) if bounds else (-np.inf, np.inf)
    return Cell(
        kind,
        feature.action if action == "" else action,
        low,
        high,
        feature.bounded if valued is None else valued,
        feature.value_step if kind in (g.SUM, g.SQUARE) else 1.0,
        *span,
        what=_CODES[feature.of] if kind == g.DISTINCT and feature.of is not None else 0,
    )


def _bounds(feature: Feature) -> tuple[float, float]:
    low = -np.inf if feature.min_value is None else feature.min_value
    return low, np.inf if feature.max_value is None else feature.max_value


def _below(feature: Feature) -> str | None:
    """The action whose events a ratio divides by."""
    if feature.of_action is None:
        return feature.action
    return None if feature.of_action == "*" else feature.of_action


def _of_window(feature: Feature) -> Formula:
    step = feature.value_step
    fading = feature.half_life_days is not None

    def cell(kind: int, *, valued: bool | None = None) -> Cell:
        return _cell(feature, kind, valued=valued)

    def faded(made: Cell) -> Cell:
        if feature.half_life_days is None:
            return made
        kind = g.DECAY_SUM if made.kind == g.SUM else g.DECAY
        return made._replace(kind=kind, step=1.0, half_life_us=feature.half_life_days * DAY_US)

    def of(op: int, *cells: Cell, scale: float = 1.0) -> Formula:
        return Formula(op, tuple(Operand(one) for one in cells), scale=scale)

    match feature.aggregate:
        case "count":
            return of(g.AMOUNT, faded(cell(g.COUNT)))
        case "sum":
            return of(g.AMOUNT, faded(cell(g.SUM, valued=True)), scale=1.0 if fading else step)
        case "distinct":
            return of(g.AMOUNT, cell(g.DISTINCT))
        case "std":
            return of(g.STD, *(cell(kind, valued=True) for kind in (g.SQUARE, g.SUM, g.COUNT)), scale=step)
        case "share":
            made = of(g.SHARE, faded(cell(g.COUNT)))
            return made._replace(g=made.x)
        case "rate":
            return of(g.RATE, cell(g.COUNT), cell(g.FIRST))
        case "recency":
            return of(g.SINCE_LAST, cell(g.LAST))
        case "tenure":
            return of(g.SINCE_FIRST, cell(g.FIRST))
        case "mean":
            two, scale = (cell(g.SUM, valued=True), cell(g.COUNT, valued=True)), 1.0 if fading else step
        case "trend":
            two, scale = (cell(g.COUNT), _cell(feature, g.COUNT, days=feature.of_days)), 1.0
        case _:
            same = feature.of_action is None and feature.bounded
            two = (cell(g.COUNT), _cell(feature, g.COUNT, action=_below(feature), bounds=False, valued=same))
            scale = 1.0
    return _shrunk(feature, of(g.MEAN, *(faded(one) for one in two), scale=scale))


def _of_last(feature: Feature) -> Formula:
    ratio, distinct = feature.aggregate == "ratio", feature.aggregate == "distinct"
    if ratio:
        same = feature.of_action is None and feature.bounded
        low, high = _bounds(feature)
        ring = _cell(feature, g.RING, action=_below(feature), bounds=False, valued=same)._replace(
            what=g.MEETS, action_2=feature.action, low_2=low, high_2=high, valued_2=feature.bounded
        )
    elif distinct:
        ring = _cell(feature, g.RING)._replace(what=_CODES[str(feature.of)])
    else:
        ring = _cell(feature, g.RING, valued=True)._replace(what=g.VALUE)
    ring = ring._replace(size=feature.last or 0)
    if feature.aggregate in ("mean", "ratio"):
        return _shrunk(feature, Formula(g.MEAN, (Operand(ring, g.RING_SUM), Operand(ring, g.RING_N))))
    how = {"sum": g.RING_SUM, "std": g.RING_STD, "min": g.RING_MIN, "max": g.RING_MAX, "distinct": g.RING_DISTINCT}
    return Formula(g.AMOUNT, (Operand(ring, how[feature.aggregate]),))


def _shrunk(feature: Feature, mean: Formula) -> Formula:
    overall = feature.prior == "overall"
    prior = float("nan") if overall or feature.prior is None else float(feature.prior)
    return mean._replace(g=mean.x if overall else (), prior=prior, strength=feature.strength)


@dataclass(frozen=True, slots=True)
class CellPlan:
    """The cells of one entity as arrays (layouts: `kernels.aggregates`)."""

    cells: tuple[Cell, ...]
    cell_i: I64
    cell_f: F64
    span: I64
    empty_row: I64  # of an entity without events
    plain: bool  # whether every cell is a number in a slot, which the short kernels fold and read
    lasting: bool  # whether a cell cannot give an event back, and must be folded anew when one is taken

    @classmethod
    def of(cls, cells: tuple[Cell, ...], windows: list[tuple[int, int]], actions: tuple[str, ...]) -> CellPlan:
        """All-time cells first, then window by window."""
        place = {window: at for at, window in enumerate(windows)}
        code = {action: at for at, action in enumerate(actions)}
        cells = tuple(sorted(dict.fromkeys(cells), key=lambda c: place.get((c.window_us, c.hop_us), -1)))
        # There is always one cell, so that formulas without a second one have something to point at.
        cells = cells or (Cell(g.COUNT, None, -np.inf, np.inf, False, 1.0, 0, 0),)
        at = [place.get((c.window_us, c.hop_us), -1) for c in cells]
        offset = np.cumsum([0, *(c.width for c in cells)]).tolist()

        def action(name: str | None) -> int:
            return -1 if name is None else code.get(name, -2)

        whole = [
            [action(c.action), c.kind, k, c.valued, o, c.size, c.what, action(c.action_2), c.valued_2]
            for c, k, o in zip(cells, at, offset, strict=False)
        ]
        real = [[c.low, c.high, c.step, c.half_life_us, c.low_2, c.high_2] for c in cells]
        span = [[at.index(i), at.index(i) + at.count(i)] if i in at else [0, 0] for i in range(len(windows))]
        empty = np.zeros(offset[-1], np.int64)
        for c, o in zip(cells, offset, strict=False):
            if c.kind in (g.LAST, g.FIRST):
                empty[o] = NONE
            elif c.kind in (g.DECAY, g.DECAY_SUM):
                empty[o + 1] = NONE
        return cls(
            cells, np.array(whole, np.int64), np.array(real, np.float64), np.array(span, np.int64).reshape(-1, 2),
            empty, all(c.kind <= g.FIRST for c in cells), any(c.kind in g.LASTING for c in cells),
        )  # fmt: skip

    def empty(self, n: int) -> I64:
        """Rows of `n` entities without events."""
        return np.tile(self.empty_row, (n, 1))

    def spread(self, codes: Codes) -> int:
        """So many places of the table of codes an event may take."""
        return sum(codes.most(cell.what) for cell in self.cells if cell.kind == g.DISTINCT)

    @property
    def arrays(self) -> tuple[I64, F64]:
        """In the order of the kernels' arguments."""
        return self.cell_i, self.cell_f


@dataclass(frozen=True, slots=True)
class Codes:
    """The items' categories and people, for DISTINCT; of no item where no feature counts them."""

    code_ptr: I64  # (2, items + 1)
    codes: I32

    @classmethod
    def of(cls, catalog: CatalogView, features: FeatureSet) -> Codes:
        """From a catalog."""
        if not any(isinstance(f, Feature) and f.of in ("category", "people") for f in features):
            return cls.none()
        category, people = catalog.category, catalog.people
        ptr = np.stack([category.indptr, people.indptr + len(category.values)]).astype(np.int64)
        return cls(ptr, np.concatenate([category.values, people.values]).astype(np.int32))

    @classmethod
    def none(cls) -> Codes:
        """Of no item."""
        return cls(np.zeros((2, 1), np.int64), np.zeros(0, np.int32))

    def most(self, what: int) -> int:
        """So many codes an event has at most."""
        if what in (g.ITEM, g.USER):
            return 1
        return int(np.diff(self.code_ptr[what - g.CATEGORY]).max(initial=0))

    @property
    def arrays(self) -> tuple[I64, I32]:
        """In the order of the kernels' arguments."""
        return self.code_ptr, self.codes


@dataclass(frozen=True, slots=True)
class PairPlan:
    """Facts, context, affinities and embeddings as arrays (layouts: `kernels.affinity`, `kernels.embedding`)."""

    row_i: I64
    row_f: F64
    group_i: I64
    group_f: F64
    aff_i: I64
    aff_f: F64
    emb_i: I64
    emb_f: F64

    @classmethod
    def of(cls, features: FeatureSet) -> PairPlan:
        """From the definitions; columns are places in the feature set."""
        rows: list[tuple[int, int, int, int, float, float]] = []
        pairs: list[tuple[tuple[int, int, float], int, int, float]] = []
        vectors: list[tuple[int, int, int, bool, float, float]] = []
        for column, f in enumerate(features):
            if isinstance(f, Affinity):
                facet = ("category", "people", "country", "item").index(f.facet)
                measure = ("share", "like", "overlap", "recency").index(f.measure)
                pairs.append(((facet, f.last, f.decay), measure, column, f.strength))
            elif isinstance(f, Embedding):
                measure = ("similarity", "distance", "coherence").index(f.measure)
                days = np.inf if f.window_days is None else f.window_days
                vectors.append((measure, f.last, column, f.liked_only, f.decay, days * DAY_US))
            elif not isinstance(f, Feature):
                rows.append(_simple_row(f, column))
        groups = list(dict.fromkeys(group for group, *_ in pairs))
        pairs.sort(key=lambda pair: groups.index(pair[0]))
        return cls(
            np.array([row[:4] for row in rows], np.int64).reshape(-1, 4),
            np.array([row[4:] for row in rows], np.float64).reshape(-1, 2),
            np.array([group[:2] for group in groups], np.int64).reshape(-1, 2),
            np.array([group[2] for group in groups], np.float64),
            np.array([[groups.index(g), m, column] for g, m, column, _ in pairs], np.int64).reshape(-1, 3),
            np.array([strength for *_, strength in pairs], np.float64),
            np.array([row[:4] for row in vectors], np.int64).reshape(-1, 4),
            np.array([row[4:] for row in vectors], np.float64).reshape(-1, 2),
        )

    @property
    def arrays(self) -> tuple[I64, F64, I64, F64, I64, F64]:
        """In the order of the kernels' arguments."""
        return self.row_i, self.row_f, self.group_i, self.group_f, self.aff_i, self.aff_f


_FACTS = {"year": a.YEAR, "price": a.PRICE, "n_categories": a.N_CATEGORIES, "n_people": a.N_PEOPLE}
_CONTEXT = {
    "hour": a.HOUR,
    "weekday": a.WEEKDAY,
    "history_length": a.LENGTH,
    "history_liking": a.LIKING,
    "history_recency": a.SINCE_NEWEST,
}


def _simple_row(f: Fact | Context | Distance, column: int) -> tuple[int, int, int, int, float, float]:
    match f:
        case Fact():
            op = {"age_days": a.AGE_DAYS, "years_old": a.YEARS_OLD}.get(f.fact, a.FACT)
            return op, _FACTS.get(f.fact, 0), 0, column, 1.0, 0.0
        case Context():
            return _CONTEXT[f.fact], 0, f.last, column, f.decay, f.utc_offset_hours * a.HOUR_US
        case Distance():
            return a.DISTANCE, _FACTS[f.fact], f.last, column, f.decay, 0.0


@dataclass(frozen=True, slots=True)
class ItemFacts:
    """The catalog as the kernels read it, with the scratch that affinities need (one thread at a time)."""

    facts: F32
    known_at: I64
    facet_ptr: I64
    codes: I32
    scratch: F64
    vectors: F32

    @classmethod
    def of(cls, catalog: CatalogView, features: FeatureSet) -> ItemFacts:
        """Only the facets that a feature asks for are laid out."""
        n = len(catalog)
        facts = np.full((n, 4), np.nan, np.float32)
        facts[:, a.YEAR], facts[:, a.PRICE] = catalog.year, catalog.price
        facts[:, a.N_CATEGORIES] = np.diff(catalog.category.indptr)
        facts[:, a.N_PEOPLE] = np.diff(catalog.people.indptr)
        wanted = {f.facet for f in features if isinstance(f, Affinity)}
        rows = np.arange(n + 1, dtype=np.int64)
        has_country = np.concatenate([[0], np.cumsum(catalog.country >= 0)]).astype(np.int64)
        facets: dict[str, tuple[I64, I32]] = {
            "category": (catalog.category.indptr, catalog.category.values),
            "people": (catalog.people.indptr, catalog.people.values),
            "country": (has_country, catalog.country[catalog.country >= 0]),
            "item": (rows, rows[:-1].astype(np.int32)),
        }
        ptr, codes, begin = np.zeros((len(facets), n + 1), np.int64), [np.zeros(0, np.int32)], 0
        for facet, (name, (indptr, values)) in enumerate(facets.items()):
            if name in wanted:
                ptr[facet] = indptr + begin
                codes.append(np.asarray(values, np.int32))
                begin += len(values)
        flat = np.ascontiguousarray(np.concatenate(codes), dtype=np.int32)
        n_codes = int(flat.max(initial=-1)) + 1
        scratch = np.tile(np.array([0.0, 0.0, -np.inf, 0.0]), (n_codes, 1))
        vectors = np.zeros((0, 1), np.float32)
        if features.needs_vectors and catalog.vectors is not None:
            # A view that may be written: a kernel compiled once takes no other.
            vectors = np.require(catalog.vectors, np.float32, ["C", "W"])
        return cls(facts, np.array(catalog.known_at, np.int64), ptr, flat, scratch, vectors)

    @property
    def arrays(self) -> tuple[F32, I64, I64, I32]:
        """In the order of the kernels' arguments."""
        return self.facts, self.known_at, self.facet_ptr, self.codes


@dataclass(frozen=True)
class Plan:
    """A feature set compiled for one list of actions."""

    features: FeatureSet
    actions: tuple[str, ...]
    windows: I64
    groups: dict[Key, CellPlan]  # people, items, then what else features are grouped by
    everybody: CellPlan
    pair: PairPlan

    @classmethod
    def of(cls, features: FeatureSet, actions: tuple[str, ...]) -> Plan:
        """Compile."""
        formulas = {f: formula_of(f) for f in features if isinstance(f, Feature)}
        own: dict[Key, list[Cell]] = {key: [] for key in (USER, ITEM, *features.keys)}
        everybody: list[Cell] = []
        for f, formula in formulas.items():
            own[f.key] += [x.cell for x in formula.x] + ([] if formula.live is None else [formula.live])
            everybody += [x.cell for x in formula.g]
        windows = sorted({(c.window_us, c.hop_us) for c in sum(own.values(), everybody) if c.window_us > 0})
        groups = {key: CellPlan.of(tuple(cells), windows, actions) for key, cells in own.items()}
        lengths = np.array(windows, np.int64).reshape(-1, 2)
        return cls(
            features, actions, lengths, groups, CellPlan.of(tuple(everybody), windows, actions), PairPlan.of(features)
        )

    @property
    def asks_everybody(self) -> bool:
        """Whether a feature compares with everybody."""
        return any(formula_of(f).g for f in self.features if isinstance(f, Feature))

    @property
    def keyed(self) -> tuple[Key, ...]:
        """What features are grouped by beyond people and items."""
        return tuple(self.groups)[2:]

    @cached_property
    def _formulas(self) -> dict[Key, tuple[I64, F64]]:
        def places(cells: CellPlan, operands: Sequence[Operand], n: int) -> list[int]:
            found = [cells.cells.index(x.cell) * 8 + x.how for x in operands]
            return found + [0] * (n - len(found))

        found: dict[Key, tuple[list[list[int]], list[list[float]]]] = {key: ([], []) for key in self.groups}
        for column, f in enumerate(self.features):
            if isinstance(f, Feature):
                cells, formula = self.groups[f.key], formula_of(f)
                live = -1 if formula.live is None else int(cells.cell_i[cells.cells.index(formula.live), g.OFFSET])
                whole, real = found[f.key]
                x, of_all = places(cells, formula.x, 3), places(self.everybody, formula.g, 2)
                whole.append([formula.op, *x, *of_all, column, live])
                real.append([formula.prior, formula.strength, formula.scale, formula.expires_us])
        return {
            key: (np.array(whole, np.int64).reshape(-1, 8), np.array(real, np.float64).reshape(-1, 4))
            for key, (whole, real) in found.items()
        }

    def plain(self, key: Key) -> bool:
        """Whether the short kernels read all of one entity's features."""
        return self.groups[key].plain and self.everybody.plain

    def formulas(self, key: Key) -> tuple[I64, F64]:
        """`feat_i` and `feat_f` of one entity, with columns as places in the whole feature set."""
        return self._formulas[key]

    def starts(self, at_us: int) -> I64:
        """First microsecond that each window still sees."""
        length, hop = self.windows[:, 0], self.windows[:, 1]
        return (at_us - length) // hop * hop

    def next_start(self, at_us: int) -> int:
        """The moment at which a window's far edge next moves."""
        if len(self.windows) == 0:
            return 2**63 - 1
        return int((self.starts(at_us) + self.windows.sum(axis=1)).min())
