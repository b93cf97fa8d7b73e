"""What may be shown at all: availability, the caller's filters, the policy's own rules; each removal has a reason."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Annotated, Self

import msgspec
import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator

from honeyguide.contracts import I32, I64, BoolArray, CatalogView, Ragged
from honeyguide.errors import RequestError
from honeyguide.kernels import slate as kernel
from honeyguide.schema.wire import Filters

__all__ = ["REASONS", "CatalogRules", "FrequencyCap", "Pin", "RulesConfig"]

U8 = npt.NDArray[np.uint8]

_UNAVAILABLE, _DENY_RULE, _DENIED, _ALLOW, _CATEGORY, _PEOPLE, _COUNTRY, _YEAR, _PRICE = range(
    kernel.RULE_CODES_FROM, kernel.RULE_CODES_FROM + 9
)
REASONS: dict[int, str] = {
    kernel.PADDING: "padding",
    kernel.UNKNOWN: "unknown",
    kernel.DUPLICATE: "duplicate",
    kernel.SEEN: "seen",
    kernel.CATEGORY_CAP: "category_cap",
    kernel.PIN_BEYOND_SLOTS: "beyond_slots",
    kernel.OUTRANKED: "outranked",
    kernel.TOO_OFTEN: "frequency_cap",
    _UNAVAILABLE: "unavailable",
    _DENY_RULE: "rule_deny",
    _DENIED: "filter_deny",
    _ALLOW: "filter_allow",
    _CATEGORY: "filter_categories",
    _PEOPLE: "filter_people",
    _COUNTRY: "filter_countries",
    _YEAR: "filter_year",
    _PRICE: "filter_price",
}
"""Code in the kernel -> the stable name of the rule. `outranked` is no rule: the item survived and found no slot."""


class Pin(BaseModel):
    """One item in one slot, for everybody who may see it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    item_id: Annotated[str, Field(min_length=1)]
    position: Annotated[int, Field(ge=1, le=200)]  # 1 = first


class FrequencyCap(BaseModel):
    """An item is shown to a person at most so many times within so many days, on all surfaces together."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    times: Annotated[int, Field(ge=1, le=1_000)]
    days: Annotated[float, Field(gt=0, le=365)]


class RulesConfig(BaseModel):
    """Hard rules of a surface.

    `category_cap` items of a category at most among the first `category_cap_first`; an item in several categories needs
    room in each; categories that the request filters for are exempt. The cap is hard: where nothing fits, the list is
    shorter. Pins are never capped, but count.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    hide_seen: bool = True
    category_cap: Annotated[int, Field(ge=1)] | None = None
    category_cap_first: Annotated[int, Field(ge=1, le=200)] = 20
    frequency_cap: FrequencyCap | None = None
    pins: tuple[Pin, ...] = ()
    deny: tuple[str, ...] = ()  # item ids
    deny_categories: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _pins_differ(self) -> Self:
        for what, values in (
            ("position", [pin.position for pin in self.pins]),
            ("item_id", [pin.item_id for pin in self.pins]),
        ):
            if len(set(values)) < len(values):
                raise ValueError(f"two pins have the same {what}")
        return self


class CatalogRules:
    """Rules and filters against one view of the catalog: one byte per item, 0 = may be shown, else why not.

    A filter set costs a few vector operations over the catalog once; the last `memory` sets are kept.
    """

    def __init__(self, rules: RulesConfig, catalog: CatalogView, *, memory: int = 64) -> None:
        self.rules = rules
        self._catalog = catalog
        self._memory = memory
        self._known: OrderedDict[bytes, U8] = OrderedDict()
        self._postings: dict[str, tuple[dict[str, int], I64, I32]] = {}
        self._base = np.zeros(len(catalog.available), np.uint8)
        self._base[~catalog.available] = _UNAVAILABLE
        banned = self._rows(rules.deny)
        if rules.deny_categories:
            banned |= self._any_of("category", rules.deny_categories)
        _bar(self._base, banned, _DENY_RULE)
        self._base.flags.writeable = False
        self._empty = msgspec.msgpack.encode(Filters())
        self.pin_rows: I32 = catalog.items.rows(pin.item_id for pin in rules.pins)
        self.pin_slots: I32 = np.array([pin.position for pin in rules.pins], np.int32)

    def barred(self, filters: Filters | None = None) -> U8:
        """Why each item may not be shown, uint8 by item row (read-only); 0 = it may. Names are in `REASONS`.

        Raises RequestError where a range is upside down.
        """
        if filters is None:
            return self._base
        key = msgspec.msgpack.encode(filters)
        if key == self._empty:
            return self._base
        found = self._known.get(key)
        if found is None:
            found = self._filtered(filters)
            self._known[key] = found
            while len(self._known) > self._memory:
                self._known.popitem(last=False)
        return found

    def mask(self, filters: Filters | None = None) -> BoolArray:
        """Whether each item may be shown, by item row; for sources that filter while they search."""
        return self.barred(filters) == kernel.KEPT

    def category_codes(self, names: Sequence[str]) -> I64:
        """Codes of the categories that the catalog has among `names`."""
        codes = self._coded("category")[0]
        return np.array([codes[name] for name in names if name in codes], np.int64)

    def _filtered(self, filters: Filters) -> U8:
        catalog = self._catalog
        _check_range("year", filters.year_min, filters.year_max)
        _check_range("price", filters.price_min, filters.price_max)
        barred = self._base.copy()
        _bar(barred, self._rows(filters.deny), _DENIED)
        if filters.allow:
            _bar(barred, ~self._rows(filters.allow), _ALLOW)
        if filters.categories:
            _bar(barred, ~self._any_of("category", filters.categories), _CATEGORY)
        if filters.people:
            _bar(barred, ~self._any_of("people", filters.people), _PEOPLE)
        if filters.countries:
            wanted = [code for code, name in enumerate(catalog.country_names) if name in set(filters.countries)]
            _bar(barred, ~np.isin(catalog.country, wanted), _COUNTRY)
        _bar(barred, _outside(catalog.year, filters.year_min, filters.year_max), _YEAR)
        _bar(barred, _outside(catalog.price, filters.price_min, filters.price_max), _PRICE)
        barred.flags.writeable = False
        return barred

    def _rows(self, item_ids: Iterable[str]) -> BoolArray:
        mask = np.zeros(len(self._base), np.bool_)
        rows = self._catalog.items.rows(item_ids)
        mask[rows[(rows >= 0) & (rows < len(mask))]] = True
        return mask

    def _coded(self, field: str) -> tuple[dict[str, int], I64, I32]:
        """Name -> code, and the items of each code as a ragged array; made when first asked for."""
        if field not in self._postings:
            catalog = self._catalog
            of_item, names = (
                (catalog.category, catalog.category_names)
                if field == "category"
                else (catalog.people, catalog.people_names)
            )
            self._postings[field] = ({name: code for code, name in enumerate(names)}, *_inverted(of_item, len(names)))
        return self._postings[field]

    def _any_of(self, field: str, names: Iterable[str]) -> BoolArray:
        codes, indptr, items = self._coded(field)
        mask = np.zeros(len(self._base), np.bool_)
        for name in names:
            if name in codes:
                mask[items[indptr[codes[name]] : indptr[codes[name] + 1]]] = True
        return mask


def _bar(barred: U8, where: BoolArray | np.bool_, code: int) -> None:
    """The first rule that removes an item is its reason."""
    barred[where & (barred == kernel.KEPT)] = code


def _outside(values: npt.NDArray[np.float32], low: float | None, high: float | None) -> BoolArray:
    """Whether a value is outside; an unknown value is outside every range."""
    outside = np.zeros(len(values), np.bool_)
    if low is not None:
        outside |= ~(values >= low)
    if high is not None:
        outside |= ~(values <= high)
    return outside


def _inverted(of_item: Ragged, n_codes: int) -> tuple[I64, I32]:
    order = np.argsort(of_item.values, kind="stable")
    items = np.repeat(np.arange(len(of_item), dtype=np.int32), np.diff(of_item.indptr))[order]
    indptr = np.zeros(n_codes + 1, np.int64)
    np.cumsum(np.bincount(of_item.values, minlength=n_codes), out=indptr[1:])
    return indptr, items


def _check_range(name: str, low: float | None, high: float | None) -> None:
    if low is not None and high is not None and low > high:
        raise RequestError(
            expected=f"{name}_min <= {name}_max",
            got=f"{name}_min={low}, {name}_max={high}",
            do="Swap them, or leave one out.",
        )
