"""Definitions to cells and formulas: what the kernel, the SQL expression and the online state all compute from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from honeyguide.contracts import F32, F64, I32, I64, CatalogView
from honeyguide.features.definition import HOP_US, Affinity, Context, Distance, Fact, Feature, FeatureSet
from honeyguide.kernels import affinity as a
from honeyguide.kernels import windows as w

__all__ = ["Cell", "CellPlan", "Formula", "ItemFacts", "PairPlan", "Plan", "formula_of"]


class Cell(NamedTuple):
    """One integer aggregate: the kind of sum, the events it is over, and the window (0 = all time)."""

    kind: int
    action: str | None
    low: float
    high: float
    valued: bool
    step: float
    window_us: int
    hop_us: int


class Formula(NamedTuple):
    """How a feature's value comes from cells of its entity (`x`) and of everybody (`g`)."""

    op: int
    x: tuple[Cell, ...]
    g: tuple[Cell, ...] = ()
    prior: float = float("nan")
    strength: float = 0.0
    scale: float = 1.0


def formula_of(feature: Feature) -> Formula:
    """A feature's formula."""
    low = -np.inf if feature.min_value is None else feature.min_value
    high = np.inf if feature.max_value is None else feature.max_value
    step = feature.value_step

    def cell(
        kind: int, *, action: str | None = feature.action, bounds: bool = True, valued: bool = feature.bounded,
        days: float | None = feature.window_days,
    ) -> Cell:  # fmt: skip
        span = (0, 0) if days is None else (round(days * w.DAY_US), HOP_US[feature.hop])
        steps = step if kind in (w.SUM, w.SQUARE) else 1.0
        ends = (low, high) if bounds else (-np.inf, np.inf)
        return Cell(kind, action, *ends, valued, steps, *span)

    match feature.aggregate:
        case "count":
            return Formula(w.AMOUNT, (cell(w.COUNT),))
        case "sum":
            return Formula(w.AMOUNT, (cell(w.SUM, valued=True),), scale=step)
        case "std":
            kinds = (w.SQUARE, w.SUM, w.COUNT)
            return Formula(w.STD, tuple(cell(kind, valued=True) for kind in kinds), scale=step)
        case "share":
            return Formula(w.SHARE, (cell(w.COUNT),), (cell(w.COUNT),))
        case "rate":
            return Formula(w.RATE, (cell(w.COUNT), cell(w.FIRST)))
        case "recency":
            return Formula(w.SINCE_LAST, (cell(w.LAST),))
        case "tenure":
            return Formula(w.SINCE_FIRST, (cell(w.FIRST),))
        case "mean":
            x, scale = (cell(w.SUM, valued=True), cell(w.COUNT, valued=True)), step
        case "trend":
            x, scale = (cell(w.COUNT), cell(w.COUNT, days=feature.of_days)), 1.0
        case "ratio":
            same = feature.of_action is None
            of = feature.action if same else None if feature.of_action == "*" else feature.of_action
            below = cell(w.COUNT, action=of, bounds=False, valued=same and feature.bounded)
            x, scale = (cell(w.COUNT), below), 1.0
    overall = feature.prior == "overall"
    prior = float("nan") if overall or feature.prior is None else float(feature.prior)
    return Formula(w.MEAN, x, x if overall else (), prior, feature.strength, scale)


@dataclass(frozen=True, slots=True)
class CellPlan:
    """The cells of one entity as arrays (layouts: `kernels.windows`)."""

    cells: tuple[Cell, ...]
    cell_i: I64
    cell_f: F64
    span: I64

    @classmethod
    def of(cls, cells: tuple[Cell, ...], windows: list[tuple[int, int]], actions: tuple[str, ...]) -> CellPlan:
        """All-time cells first, then window by window."""
        place = {window: at for at, window in enumerate(windows)}
        code = {action: at for at, action in enumerate(actions)}
        cells = tuple(sorted(dict.fromkeys(cells), key=lambda c: place.get((c.window_us, c.hop_us), -1)))
        # There is always one cell, so that formulas without a second one have something to point at.
        cells = cells or (Cell(w.COUNT, None, -np.inf, np.inf, False, 1.0, 0, 0),)
        at = [place.get((c.window_us, c.hop_us), -1) for c in cells]
        actions_of = [-1 if c.action is None else code.get(c.action, -2) for c in cells]
        span = [[at.index(i), at.index(i) + at.count(i)] if i in at else [0, 0] for i in range(len(windows))]
        return cls(
            cells,
            np.array([[x, c.kind, k, c.valued] for x, c, k in zip(actions_of, cells, at, strict=True)], np.int64),
            np.array([[c.low, c.high, c.step] for c in cells], np.float64),
            np.array(span, np.int64).reshape(-1, 2),
        )

    def empty(self, n: int) -> I64:
        """Cells of `n` entities without events."""
        return np.tile(np.where(self.cell_i[:, w.KIND] <= w.SQUARE, 0, w.NONE), (n, 1))


@dataclass(frozen=True, slots=True)
class PairPlan:
    """Facts, context and affinities as arrays (layouts: `kernels.affinity`)."""

    row_i: I64
    row_f: F64
    group_i: I64
    group_f: F64
    aff_i: I64
    aff_f: F64

    @classmethod
    def of(cls, features: FeatureSet) -> PairPlan:
        """From the definitions; columns are places in the feature set."""
        rows: list[tuple[int, int, int, int, float, float]] = []
        pairs: list[tuple[tuple[int, int, float], int, int, float]] = []
        for column, f in enumerate(features):
            if isinstance(f, Affinity):
                facet = ("category", "people", "country", "item").index(f.facet)
                measure = ("share", "like", "overlap", "recency").index(f.measure)
                pairs.append(((facet, f.last, f.decay), measure, column, f.strength))
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
        return cls(facts, np.array(catalog.known_at, np.int64), ptr, flat, scratch)

    @property
    def arrays(self) -> tuple[F32, I64, I64, I32]:
        """In the order of the kernels' arguments."""
        return self.facts, self.known_at, self.facet_ptr, self.codes


@dataclass(frozen=True, slots=True)
class Plan:
    """A feature set compiled for one list of actions."""

    features: FeatureSet
    actions: tuple[str, ...]
    windows: I64
    user: CellPlan
    item: CellPlan
    everybody: CellPlan
    pair: PairPlan

    @classmethod
    def of(cls, features: FeatureSet, actions: tuple[str, ...]) -> Plan:
        """Compile."""
        formulas = {f: formula_of(f) for f in features if isinstance(f, Feature)}
        users = tuple(c for f, formula in formulas.items() if f.entity == "user" for c in formula.x)
        items = tuple(c for f, formula in formulas.items() if f.entity == "item" for c in formula.x)
        everybody = tuple(c for formula in formulas.values() for c in formula.g)
        windows = sorted({(c.window_us, c.hop_us) for c in users + items + everybody if c.window_us > 0})
        of = [CellPlan.of(cells, windows, actions) for cells in (users, items, everybody)]
        lengths = np.array(windows, np.int64).reshape(-1, 2)
        return cls(features, actions, lengths, of[0], of[1], of[2], PairPlan.of(features))

    def formulas(self, entity: Literal["user", "item"]) -> tuple[I64, F64]:
        """`feat_i` and `feat_f` of one entity, with columns as places in the whole feature set."""
        x_at = {cell: at for at, cell in enumerate((self.user if entity == "user" else self.item).cells)}
        g_at = {cell: at for at, cell in enumerate(self.everybody.cells)}
        whole, real = [], []
        for column, f in enumerate(self.features):
            if isinstance(f, Feature) and f.entity == entity:
                formula = formula_of(f)
                x = [x_at[c] for c in formula.x] + [0] * (3 - len(formula.x))
                g = [g_at[c] for c in formula.g] + [0] * (2 - len(formula.g))
                whole.append([formula.op, *x, *g, column])
                real.append([formula.prior, formula.strength, formula.scale])
        return np.array(whole, np.int64).reshape(-1, 7), np.array(real, np.float64).reshape(-1, 3)

    def starts(self, at_us: int) -> I64:
        """First microsecond that each window still sees."""
        length, hop = self.windows[:, 0], self.windows[:, 1]
        return (at_us - length) // hop * hop

    def next_start(self, at_us: int) -> int:
        """The moment at which a window's far edge next moves."""
        if len(self.windows) == 0:
            return 2**63 - 1
        return int((self.starts(at_us) + self.windows.sum(axis=1)).min())
