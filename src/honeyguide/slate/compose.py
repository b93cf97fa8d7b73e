"""A slate: remove -> score -> diversify -> pin -> explore, always in this order.

The logged propensity is that of the list as shown, so nothing may touch a list after `Composer.compose`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from honeyguide.contracts import F32, F64, I32, I64, BoolArray, CatalogView
from honeyguide.errors import ConfigError, DataError
from honeyguide.kernels import slate as kernel
from honeyguide.kernels.hashing import hash64
from honeyguide.kernels.slate_odds import slot_odds
from honeyguide.schema import columns as c
from honeyguide.schema.tables import SLATE
from honeyguide.schema.vocabulary import Vocabulary
from honeyguide.schema.wire import Filters
from honeyguide.slate.bandit import Experience
from honeyguide.slate.diversify import Diversifier, DiversifyConfig, frozen
from honeyguide.slate.explore import ExploreConfig
from honeyguide.slate.explorer import Explorer
from honeyguide.slate.guardrails import GuardrailsConfig
from honeyguide.slate.moment import NO_MOMENT, Moment
from honeyguide.slate.rules import REASONS, CatalogRules, RulesConfig
from honeyguide.slate.utility import NOTHING, Added, Price, UtilityConfig, UtilityWeights

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["NOT_FORCED", "Composer", "Forced", "Odds", "SlateConfig", "SlateResult"]

_NOBODY: I32 = np.zeros(0, np.int32)
_EXEMPT = -(2**40)


class SlateConfig(BaseModel):
    """A surface's policy for the slate, as in `honeyguide.toml`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    utility: UtilityConfig = UtilityConfig()
    guardrails: GuardrailsConfig = GuardrailsConfig()
    rules: RulesConfig = RulesConfig()
    diversify: DiversifyConfig = DiversifyConfig()
    explore: ExploreConfig = ExploreConfig()

    @property
    def heads(self) -> tuple[str, ...]:
        """Every head that the utility or a guardrail reads."""
        guarded = (one.head for one in self.guardrails.keep if one.head)
        return tuple(dict.fromkeys((*self.utility.heads, *guarded)))


@dataclass(frozen=True, slots=True)
class Forced:
    """What rules that hold on this one list want of it, before the surface's own pins."""

    rows: I32  # pinned items
    slots: I32  # 1 = first
    rules: Mapping[int, str]  # item row -> the rule that pins it
    lift: F64 = field(default_factory=lambda: NOTHING)  # (n,) added to each candidate's utility; empty: nothing

    def over(self, lift: F64) -> Forced:
        """The same, with what lifts and lowers candidates."""
        return Forced(self.rows, self.slots, self.rules, lift)


NOT_FORCED = Forced(np.zeros(0, np.int32), np.zeros(0, np.int32), {})


@dataclass(frozen=True, slots=True)
class SlateResult:
    """The list as shown (m slots, slot i + 1 at index i), and what became of each of the n candidates."""

    rows: I32  # (m,) item rows
    index: I32  # (m,) candidate index, -1 for a pin that was no candidate
    utility: F64  # (m,) nan for a pin that was no candidate
    propensity: F64  # (m,) given the slots before; 1 for pins
    list_propensity: float
    pinned: BoolArray  # (m,)
    explored: BoolArray  # (m,) chance put here another item than the best left
    aside: F64  # (m,) the chance with which it was to be another than the best left, given the slots before
    exploration: str  # its kind, "" where there is none
    dropped: dict[str, int]  # rule -> how many candidates it removed
    refused_pins: dict[str, str]  # item id -> rule
    candidates: I32  # (n,) item rows as they came
    reasons: npt.NDArray[np.uint8]  # (n,) why each candidate is not in the list; names in `REASONS`, 0 = it is
    utilities: F64  # (n,) nan where a rule removed it before it was scored

    def __len__(self) -> int:
        return len(self.rows)

    def table(self, request_id: str, items: Vocabulary) -> pa.Table:
        """The Slate table: the slots first, then the candidates without one (`dropped_by` says why)."""
        import pyarrow as pa

        out = np.flatnonzero((self.reasons != kernel.KEPT) & (self.candidates >= 0) & (self.candidates < len(items)))
        # A repeated candidate has its row already; the key of the table is the item.
        out = out[self.reasons[out] != kernel.DUPLICATE]
        shown, hidden = len(self.rows), len(out)
        ids = [items.id(int(row)) for row in (*self.rows, *self.candidates[out])]
        none: list[None] = [None] * hidden
        utility = [*self.utility.tolist(), *self.utilities[out].tolist()]
        columns = {
            c.REQUEST_ID: [request_id] * (shown + hidden),
            c.ITEM_ID: ids,
            c.POSITION: [*range(1, shown + 1), *none],
            c.UTILITY: [None if value != value else value for value in utility],
            c.PROPENSITY: [*self.propensity.tolist(), *none],
            c.PINNED: [*self.pinned.tolist(), *[False] * hidden],
            c.EXPLORED: [*self.explored.tolist(), *[False] * hidden],
            c.DROPPED_BY: [*[None] * shown, *(REASONS[int(code)] for code in self.reasons[out])],
        }
        return pa.table({str(name): values for name, values in columns.items()}, schema=SLATE.arrow())


class Composer:
    """Composes slates under one config, for one set of heads and one view of the catalog.

    heads: name -> whether its score is a calibrated probability, in the order of the score columns.
    vectors: (items, d), rows of length 1 (see `unit_rows`) or 0; items beyond it have no vector, and None turns
    diversity off. experience: what was learnt of what was shown, for exploration. Holds no state of a request: threads
    may share one. Raises ConfigError where the utility does not fit the heads.
    """

    def __init__(
        self, config: SlateConfig, heads: Mapping[str, bool], catalog: CatalogView, vectors: F32 | None = None,
        experience: Experience | None = None, *, prices: Sequence[Price] = (),
    ) -> None:  # fmt: skip
        self.config = config
        self.weights = UtilityWeights.of(config.utility, heads)
        self.rules = CatalogRules(config.rules, catalog)
        self.explorer = Explorer(config.explore, heads, experience)
        self.catalog = catalog
        if vectors is None:
            vectors = np.zeros((0, 0), np.float32)
        if vectors.ndim != 2:
            raise ConfigError(expected="vectors as (items, d)", got=f"shape {vectors.shape}", do="Pass a matrix.")
        # The kernel is compiled once, for read-only catalog arrays (memory maps are) and fresh request arrays.
        self.diversifier = Diversifier(config.diversify, catalog, frozen(vectors, np.float32))
        self.added = Added(config.utility, prices, heads, catalog)
        self._cat_indptr = frozen(catalog.category.indptr, np.int64)
        self._cat_values = frozen(catalog.category.values, np.int32)

    def compose(
        self,
        rows: I32,
        *,
        scores: F64,
        blend: F64 | F32,
        k: int,
        request_id: str,
        seen: I32 = _NOBODY,
        filters: Filters | None = None,
        moment: Moment = NO_MOMENT,
        forced: Forced = NOT_FORCED,
    ) -> SlateResult:
        """The slate of one request.

        rows: (n,) item rows, unique, any order, -1 pads. scores: (n, heads), nan sinks. blend: (n,) the retrieval's
        score, used for rank and to break ties (then the lower row comes first). seen: rows hidden under `hide_seen`.
        moment: the person's, where the policy looks at it. forced: what else is pinned, lifted and lowered here.
        Raises DataError where shapes differ or a calibrated head gives what is no probability.
        """
        config, weights = self.config, self.weights
        rows = _fresh(rows, np.int32)
        scores = _fresh(scores, np.float64)
        blend = _fresh(blend, np.float64)
        if scores.shape != (len(rows), len(weights.heads)) or blend.shape != rows.shape:
            raise DataError(
                expected=f"scores {(len(rows), len(weights.heads))} and blend {rows.shape}",
                got=f"scores {scores.shape} and blend {blend.shape}",
                do="Score every candidate with every head.",
            )
        held = np.zeros(len(self.catalog.category_names), np.int64)
        if filters is not None and filters.categories:
            held[self.rules.category_codes(filters.categories)] = _EXEMPT
        added, faded = self.added.of(rows, scores, moment.now_us), self._faded(rows, moment)
        pin_rows, pin_slots = self.rules.pin_rows, self.rules.pin_slots
        if len(forced.lift):  # what fades is multiplied after the sum
            lift = forced.lift / np.where(faded > 0.0, faded, 1.0) if len(faded) else forced.lift
            added = added + lift if len(added) else _fresh(lift, np.float64)
        if len(forced.rows):
            pin_rows = np.concatenate([forced.rows, pin_rows])
            pin_slots = np.concatenate([forced.slots, pin_slots])
        (
            shown, index, utility, propensity, aside, pinned, explored, utilities, reasons, refused, bad_head
        ) = kernel.compose_slate(
            rows, scores, blend, self.rules.barred(filters), _fresh(seen, np.int32), config.rules.hide_seen,
            _fresh(moment.too_often, np.int32), weights.probability, weights.rank, weights.blend, weights.rank_constant,
            added, faded, pin_rows, pin_slots,
            self.diversifier.how(moment.now_us, moment.items, moment.weights),
            self._cat_indptr, self._cat_values, held, config.rules.category_cap or 0, config.rules.category_cap_first,
            *self.explorer.arrays(rows, scores), k, np.uint64(hash64(request_id, "slate")),
        )  # fmt: skip
        if bad_head >= 0:
            raise DataError(
                expected=f"probabilities from the calibrated head {weights.heads[bad_head]!r}",
                got="a score outside [0, 1]",
                do="Calibrate the head, or say that it only ranks.",
            )
        counts = np.bincount(reasons, minlength=kernel.RULE_CODES_FROM)
        counts[[kernel.KEPT, kernel.PADDING, kernel.OUTRANKED]] = 0
        return SlateResult(
            rows=shown,
            index=index,
            utility=utility,
            propensity=propensity,
            list_propensity=float(propensity.prod()),
            pinned=pinned,
            explored=explored,
            aside=aside,
            exploration=self.explorer.kind,
            dropped={REASONS[int(code)]: int(counts[code]) for code in counts.nonzero()[0]},
            refused_pins={
                pin.item_id: REASONS[int(code)]
                for pin, code in zip(config.rules.pins, refused[len(forced.rows) :], strict=True)
                if code != kernel.KEPT
            },
            candidates=rows,
            reasons=reasons,
            utilities=utilities,
        )

    def odds(
        self, rows: I32, shown: I32, *, scores: F64, blend: F64 | F32, k: int, seen: I32 = _NOBODY,
        filters: Filters | None = None, moment: Moment = NO_MOMENT,
    ) -> Odds:  # fmt: skip
        """With what chance this policy would have filled each slot of a list that was shown, by it or by another one.

        Arguments as `compose`; shown: (m,) the list's rows. A slot that this policy would not have filled is empty.
        """
        config, weights = self.config, self.weights
        held = np.zeros(len(self.catalog.category_names), np.int64)
        if filters is not None and filters.categories:
            held[self.rules.category_codes(filters.categories)] = _EXEMPT
        rows, scores = _fresh(rows, np.int32), _fresh(scores, np.float64)
        start, found, chance = slot_odds(
            rows, scores, _fresh(blend, np.float64), self.rules.barred(filters), _fresh(seen, np.int32),
            config.rules.hide_seen, _fresh(moment.too_often, np.int32), weights.probability, weights.rank,
            weights.blend, weights.rank_constant, self.added.of(rows, scores, moment.now_us),
            self._faded(rows, moment), self.rules.pin_rows, self.rules.pin_slots,
            self.diversifier.how(moment.now_us, moment.items, moment.weights), self._cat_indptr, self._cat_values, held,
            config.rules.category_cap or 0, config.rules.category_cap_first,
            *self.explorer.arrays(rows, scores), k, _fresh(shown, np.int32),
        )  # fmt: skip
        return Odds(start, found, chance)

    def _faded(self, rows: I32, moment: Moment) -> F64:
        """What is left of each candidate's utility after it was shown in vain; empty where nothing fades."""
        keep = self.config.utility.fatigue.keep
        if keep == 1.0 or not len(moment.shown):
            return NOTHING
        order = np.argsort(moment.shown, kind="stable")
        place = order[np.minimum(np.searchsorted(moment.shown[order], rows), len(order) - 1)]
        return np.where(moment.shown[place] == rows, keep ** moment.times[place].astype(np.float64), 1.0)


@dataclass(frozen=True, slots=True)
class Odds:
    """What may stand in each slot of a list, given the slots above it: slot s holds `rows[start[s]:start[s + 1]]`."""

    start: I64  # (slots + 1,)
    rows: I32
    chance: F64


def _fresh(array: npt.NDArray, dtype: npt.DTypeLike) -> npt.NDArray:
    array = np.ascontiguousarray(array, dtype)
    return array if array.flags.writeable and type(array) is np.ndarray else np.array(array)
